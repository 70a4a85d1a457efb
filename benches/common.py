"""What the measuring scripts share: the parts they need, a seeded shop, processes that are never left behind, /proc, tables.

Standard library only. The scripts run with any Python 3; the shop runs with that of tests/parts/venv.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHOP = ROOT / "tests/apps/shop"
PARTS = ROOT / "tests/parts"
CLASSES = ("sync", "gthread", "gevent", "asgi")
MARK = "TUNINGFORK_BENCH"  # in the environment of every process of a server, so that none can hide
BOOT_SECONDS = 60
STOP_SECONDS = 40
SHOWN_LINES = 30
# What would change how a server behaves if it came from whoever starts a script.
UNWANTED = ("JOURNAL_STREAM", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WEB_CONCURRENCY", "VIRTUAL_ENV", "TUNINGFORK_LOG",
            "GUNICORN_CMD_ARGS", "SHOP_DB", "SHOP_ASYNC", "DJANGO_SETTINGS_MODULE")
# Has gunicorn's workers say what tuningfork's log says. They say it right before their loop begins to accept, tuningfork's when it has begun.
GUNICORN_SAYS_READY = """
import os
from datetime import datetime, timezone

def post_worker_init(worker):
    os.write(2, f"{datetime.now(timezone.utc).isoformat()} worker ready pid={worker.pid}\\n".encode())
"""


# Parts

def binary():
    """The release build of this repository."""
    program = ROOT / "target/release/tuningfork"
    if not program.exists():
        sys.exit(f"{program.relative_to(ROOT)} is missing: cargo build --release")
    return str(program)


def python():
    """The interpreter that has Django and gunicorn."""
    program = PARTS / "venv/bin/python"
    if not program.exists():
        sys.exit(f"{program.relative_to(ROOT)} is missing: `cargo test parts` makes it")
    return str(program)


def wrk_program():
    """wrk, installed or unpacked by the tests."""
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", str(PARTS / "debs/wrk")])
    program = shutil.which("wrk", path=places)
    if program is None:
        sys.exit("wrk is missing: `cargo test parts` unpacks it, or apt-get install wrk")
    return program


def need(*parts):
    """Complains about a missing part before anything is started."""
    for part in parts:
        part()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# The shop

class Shop:
    """The Django project of the tests, with a seeded database in `directory`."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.database = self.directory / "shop.sqlite3"
        self.env = {"SHOP_DB": str(self.database)}
        for command in ("migrate", "seed"):
            subprocess.run([python(), "manage.py", command, "-v0"], cwd=SHOP, env=environment(self.env), check=True,
                           stdout=subprocess.DEVNULL)

    def product(self):
        """The path of a product's page."""
        with sqlite3.connect(self.database) as database:
            return "/product/%s/" % database.execute("SELECT slug FROM store_product ORDER BY id LIMIT 1").fetchone()[0]

    @staticmethod
    def mix():
        """The paths of the recorded access log that were answered with 200, in their order."""
        with open(SHOP / "access.log") as log:
            return re.findall(r'"GET (\S+) HTTP/1\.1" 200 ', log.read())

    def config(self, worker_class, workers, connections, port):
        """A configuration file of `tuningfork run`."""
        size = f"workers = {workers}\n" + ("" if worker_class == "sync" else f"connections = {connections}\n")
        app = {"kind": "python", "app": application(worker_class), "worker-class": worker_class, "interpreter": python(),
               "directory": str(SHOP)}
        keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in app.items())
        file = self.directory / f"tuningfork-{worker_class}.toml"
        file.write_text(f'{size}[app]\n{keys}env = {{ SHOP_DB = {json.dumps(str(self.database))} }}\n'
                        f'[listen]\naddress = "127.0.0.1:{port}"\n')
        return file

    def tuningfork(self, worker_class, workers, connections, port):
        """The shop under `tuningfork run`."""
        return Server([binary(), "run", "-c", str(self.config(worker_class, workers, connections, port))])

    def gunicorn(self, worker_class, workers, connections, port, *more):
        """The shop under gunicorn with the same numbers: a gthread worker has as many threads as connections."""
        size = ["--threads", str(connections)] if worker_class == "gthread" else ["--worker-connections", str(connections)]
        hook = self.directory / "gunicorn.conf.py"
        hook.write_text(GUNICORN_SAYS_READY)
        return Server([python(), "-m", "gunicorn", "-k", worker_class, "-w", str(workers), *size, "-b", f"127.0.0.1:{port}",
                       "-c", str(hook), "--no-control-socket", "--chdir", str(SHOP), *more, application(worker_class)], self.env)


def application(worker_class):
    return f"shop.{'asgi' if worker_class == 'asgi' else 'wsgi'}:application"


@contextmanager
def shop():
    """A shop whose database is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="tuningfork-bench-") as directory:
        yield Shop(directory)


# Servers

def environment(more):
    ours = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    return {**ours, "NO_COLOR": "1", **more}


class Server:
    """A process and all below it. Leaving the `with` block stops it, or kills it where the block failed; nothing of it lives then."""

    def __init__(self, command, env=()):
        self.id, self.lines, self.left, self.code = uuid.uuid4().hex, [], [], None
        self.changed = threading.Condition()
        self.started = time.time()
        # In a session of its own, so that Ctrl-C reaches it through us only.
        self.process = subprocess.Popen(command, env=environment({**dict(env), MARK: self.id}), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                        start_new_session=True)
        self.pid = self.process.pid
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()

    def find(self, part):
        """The lines so far that hold `part`."""
        return [line for line in list(self.lines) if part in line]

    def await_lines(self, part, count=1, seconds=BOOT_SECONDS):
        """Waits for so many lines that hold `part`."""
        until = time.monotonic() + seconds
        with self.changed:
            while len(self.find(part)) < count:
                if self.process.poll() is not None or time.monotonic() > until:
                    sys.exit("\n".join(self.lines[-SHOWN_LINES:] + [f"no {count} lines with {part!r} came"]))
                self.changed.wait(0.1)
        return self.find(part)

    def await_workers(self, count):
        """Waits until so many workers serve. Gives their process ids and when each was ready."""
        return {field(line, "pid"): stamp(line) for line in self.await_lines("worker ready", count)}

    def signal(self, number):
        os.kill(self.pid, number)

    def processes(self):
        """All that live, itself included."""
        wanted = f"{MARK}={self.id}".encode()
        return [pid for pid in pids() if wanted in read(pid, "environ").split(b"\0")]

    def stop(self):
        """SIGTERM, and the end. What then still lives is in `left`."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        try:
            self.code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.code = "none: it did not stop"
        self.left = self.processes()
        if self.left:
            say(f"left behind by {self.process.args[0]}: {self.left}")

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        try:
            if self.code is None and failure is None:
                self.stop()
        finally:
            while pids_left := self.processes():  # a dying process may just have forked
                for pid in pids_left:
                    send(pid, signal.SIGKILL)
                time.sleep(0.01)
            self.process.wait()


def stamp(line):
    """The time at the beginning of a line, as `time.time()` tells it."""
    return datetime.fromisoformat(line.split()[0].replace("Z", "+00:00")).timestamp()


def field(line, name):
    """A whole number in a line."""
    return int(re.search(rf"\b{name}=(?:Some\()?(\d+)", line).group(1))


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


# /proc

def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def read(pid, name):
    """Nothing if the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def parent(pid):
    """0 if the process is gone or a zombie."""
    state, of = (read(pid, "stat").rpartition(b")")[2].split() + [b"Z", b"0"])[:2]
    return 0 if state == b"Z" else int(of)


def state(pid):
    return (read(pid, "stat").rpartition(b")")[2].split() or [b"X"])[0].decode()


def memory(pid):
    """Resident and proportional set size, bytes."""
    sizes = dict(re.findall(rb"^(Rss|Pss):\s+(\d+) kB", read(pid, "smaps_rollup"), re.M))
    return tuple(int(sizes.get(name, 0)) * 1024 for name in (b"Rss", b"Pss"))


def threads(pid):
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def cpu_seconds(pid):
    """CPU time of the threads that live, to the nanosecond: the scheduler's own count."""
    return sum(int((read(pid, f"task/{task}/schedstat").split() or [0])[0]) for task in threads(pid)) / 1e9


def wakeups(pid):
    """How often the threads that live gave up their core, by themselves or not."""
    counts = [re.findall(rb"ctxt_switches:\s+(\d+)", read(pid, f"task/{task}/status")) for task in threads(pid)]
    return sum(int(count) for both in counts for count in both)


# Load

class Wrk:
    """wrk with one thread, asking for `paths` in turn. Ends with the `with` block."""

    def __init__(self, port, paths, connections, seconds):
        self.list = tempfile.NamedTemporaryFile("w", prefix="tuningfork-bench-", suffix=".paths")
        self.list.write("\n".join(paths))
        self.list.flush()
        command = [wrk_program(), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s",
                   str(ROOT / "benches/paths.lua"), f"http://127.0.0.1:{port}", "--", self.list.name]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                        start_new_session=True)

    def result(self):
        """Waits for its end. `rate`, `p50`, `p90`, `p99` (ms), `errors` (all kinds), `lines` (what wrk says of errors)."""
        said = self.process.communicate()[0]
        line = said.strip().rpartition("\n")[2]
        if self.process.returncode != 0 or not line.startswith("{"):
            sys.exit(f"wrk failed:\n{said}")
        told = json.loads(line)
        told["rate"] = told["requests"] / told["seconds"]
        told["lines"] = [each.strip() for each in said.splitlines() if "errors:" in each or "Non-2xx" in each]
        return told

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.list.close()


def load(port, paths, connections, seconds):
    """What wrk measures."""
    with Wrk(port, paths, connections, seconds) as wrk:
        return wrk.result()


# Numbers and words

def spread(values, digits=1):
    """Median (least – most)."""
    if not values:
        return "–"
    return "%.*f (%.*f – %.*f)" % (digits, statistics.median(values), digits, min(values), digits, max(values))


def quantile(values, share):
    """The smallest value that at least this share does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def mebibytes(size):
    return size / (1 << 20)


def table(rows):
    """Prints rows, the first being the heading, in columns as wide as needed."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows)]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]).rstrip())
    sys.stdout.flush()


def say(words):
    """On standard error, as work goes on."""
    print(words, file=sys.stderr, flush=True)


def arguments(about):
    return argparse.ArgumentParser(description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter)


def main(run):
    """Runs a script; SIGTERM and Ctrl-C clean up too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)
