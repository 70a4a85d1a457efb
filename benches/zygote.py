#!/usr/bin/env python3
"""How fast a site's gevent workers are all ready, and what memory they need: tuningfork, gunicorn and gunicorn --preload in turn.

The site is the shop of the tests, under `tuningfork run`, or with --site wagtail the Wagtail site of tests/apps/wagtail, under
`tuningfork run`, and under `tuningfork gunicorn --preload` with the very command line that gunicorn gets, which has to ask that interpreter's
Gunicorn first what the command line means. --site warm asks whether workers of the Wagtail site should be
forked from a process that has served already (as Pitchfork does) and not from one that has only imported.

Ready: from the start of the program to the last worker's own word. tuningfork's workers are ready when their loop has begun to accept,
gunicorn's say so (post_worker_init) right before their loop begins, which favours gunicorn by a trifle.
Memory: proportional set size, so that a page shared by eight counts for an eighth in each: of a worker, and of all processes together,
idle and after requests of the recorded mix. Answers other than 200 are counted: an application that was imported before gevent
patched it may not work.
"""

import collections
import http.client
import re
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import common
import wagtail

CLIENTS = 16
TIMEOUT_SECONDS = 60


def ask(port, path):
    """The status, or the name of what went wrong."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        client.request("GET", path)
        response = client.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        client.close()


def ask_all(port, count, paths):
    """How often each status was answered."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return collections.Counter(pool.map(lambda number: ask(port, paths[number % len(paths)]), range(count)))


def memory(server, workers):
    """Proportional set size of a worker and of everything, MiB."""
    each = [common.memory(pid)[1] for pid in workers]
    everything = sum(common.memory(pid)[1] for pid in server.processes())
    return common.mebibytes(statistics.mean(each)), common.mebibytes(everything)


def measure(start, paths, options):
    port = common.free_port()
    with start(port) as server:
        ready = server.await_workers(options.workers)
        spans = sorted(at - server.started for at in ready.values())
        time.sleep(options.settle)
        idle = memory(server, ready)
        answers = ask_all(port, options.requests, paths)
        used = memory(server, ready)
        lost = sum(not common.parent(pid) for pid in ready)
        return {"first": spans[0] * 1e3, "all": spans[-1] * 1e3, "idle": idle[0], "idle in all": idle[1], "used": used[0],
                "used in all": used[1], "answers": answers, "lost": lost}


def tell(number, name, measured):
    common.say(f"round {number}  {name:29}  first {measured['first']:6.0f} ms  all {measured['all']:6.0f} ms  "
               f"PSS {measured['idle']:5.1f} → {measured['used']:5.1f} MiB a worker  {dict(measured['answers'])}"
               + (f"  {measured['lost']} workers lost" if measured["lost"] else ""))


def summarise(servers, rounds):
    rows = [["", "first ready, ms", "all ready, ms", "PSS a worker, idle", "after requests", "PSS of all, idle", "after requests",
             "not 200", "lost"]]
    for name in servers:
        of = [each[name] for each in rounds]
        answers = sum((each["answers"] for each in of), collections.Counter())
        bad = {status: count for status, count in answers.items() if status != 200}
        rows.append([name, *(common.spread([each[key] for each in of], 0) for key in ("first", "all")),
                     *(common.spread([each[key] for each in of]) for key in ("idle", "used", "idle in all", "used in all")),
                     f"{sum(bad.values())} of {sum(answers.values())}" + (f" {bad}" if bad else ""),
                     sum(each["lost"] for each in of)])
    print()
    common.table(rows)


@contextmanager
def shop(options):
    """What to start by name, each on a port, and the paths to ask for."""
    size = ("gevent", options.workers, options.connections)
    with common.shop() as shop:
        yield {
            "tuningfork": lambda port: shop.tuningfork(*size, port),
            "gunicorn": lambda port: shop.gunicorn(*size, port),
            "gunicorn --preload": lambda port: shop.gunicorn(*size, port, "--preload"),
        }, shop.mix()


@contextmanager
def magazine(options):
    """The same for the Wagtail site. Each program but the first gets the same arguments, and all but the last the same settings."""
    python = wagtail.interpreter()
    size = ["-k", "gevent", "-w", str(options.workers), "--worker-connections", str(options.connections)]
    with tempfile.TemporaryDirectory(prefix="tuningfork-bench-") as directory:
        database, hook = Path(directory) / "magazine.sqlite3", Path(directory) / "gunicorn.conf.py"
        paths = wagtail.seeded(python, database)
        hook.write_text(common.GUNICORN_SAYS_READY)
        env = {"MAGAZINE_DB": str(database)}
        tuningfork = [common.binary(), "gunicorn", "--interpreter", python]
        gunicorn = [python, "-m", "gunicorn", "--no-control-socket", "-c", str(hook)]

        def start(port, program, *more):
            arguments = [*size, "-b", f"127.0.0.1:{port}", "--chdir", str(wagtail.SITE), *more, "magazine.wsgi:application"]
            return common.Server([*program, *arguments], env)

        def run(port):
            config = wagtail.configuration(Path(directory), python, "gevent", database, port)
            text = config.read_text().replace('workers = "auto"', f"workers = {options.workers}")
            config.write_text(re.sub(r"^connections = \d+$", f"connections = {options.connections}", text, flags=re.M))
            return common.Server([common.binary(), "run", "-c", str(config)], {})

        yield {
            "tuningfork run": run,
            "tuningfork gunicorn --preload": lambda port: start(port, tuningfork, "--preload"),
            "gunicorn": lambda port: start(port, gunicorn),
            "gunicorn --preload": lambda port: start(port, gunicorn, "--preload"),
        }, paths


# Stands for a worker that others are forked from when it has served so many requests.
WARM = """
import io
from magazine.wsgi import application as served
def ask(path):
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "", "SERVER_NAME": "localhost", "SERVER_PORT": "80",
               "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO(),
               "wsgi.multithread": False, "wsgi.multiprocess": True, "wsgi.run_once": False, "wsgi.version": (1, 0)}
    answer = served(environ, lambda status, headers: None)
    list(answer)
    answer.close()
for number in range(%d):
    ask(PATHS[number %% len(PATHS)])
application = served
"""


@contextmanager
def warm(options):
    """Two zygotes of the Wagtail site: one has served as many requests as it will be asked."""
    python = wagtail.interpreter()
    with tempfile.TemporaryDirectory(prefix="tuningfork-bench-") as directory:
        directory = Path(directory)
        database = directory / "magazine.sqlite3"
        paths = wagtail.seeded(python, database)
        (directory / "warm.py").write_text(f"PATHS = {paths!r}\n" + WARM % options.requests)

        def start(port, app):
            arguments = ["--interpreter", python, "-k", "gevent", "-w", str(options.workers), "--worker-connections", str(options.connections),
                         "-b", f"127.0.0.1:{port}", "--chdir", str(wagtail.SITE), "--pythonpath", str(directory), "--preload", app]
            return common.Server([common.binary(), "gunicorn", *arguments], {"MAGAZINE_DB": str(database)})

        yield {"imported": lambda port: start(port, "magazine.wsgi:application"), "served": lambda port: start(port, "warm:application")}, paths


SITES = {"shop": shop, "wagtail": magazine, "warm": warm}


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is started")
    parser.add_argument("--workers", type=int, default=8, help="gevent workers")
    parser.add_argument("--connections", type=int, default=100, help="connections of a worker")
    parser.add_argument("--requests", type=int, default=2000, help="requests between the two looks at memory")
    parser.add_argument("--settle", type=float, default=2, help="seconds between readiness and the first look")
    parser.add_argument("--site", choices=SITES, default="shop", help="what is served")
    options = parser.parse_args()
    common.need(common.binary, common.python)
    with SITES[options.site](options) as (servers, paths):
        names, rounds = list(servers), []
        for start in servers.values():  # compiled and cached files are nobody's merit
            with start(common.free_port()) as server:
                server.await_workers(options.workers)
        for number in range(options.rounds):
            turn = number % len(names)
            measured = {}
            for name in names[turn:] + names[:turn]:
                measured[name] = measure(servers[name], paths, options)
                tell(number + 1, name, measured[name])
            rounds.append(measured)
        print(f"{options.site}: {options.workers} gevent workers, {options.requests} requests, {options.rounds} rounds; MiB; median (least – most)")
        summarise(servers, rounds)


if __name__ == "__main__":
    common.main(main)
