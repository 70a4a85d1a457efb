#!/usr/bin/env python3
"""What the supervisor alone costs, how fast it replaces a worker that was killed, and how fast it finds one that hangs.

Idle: memory of the supervisor's process, and the CPU time its threads used, with demo workers that nobody asks for anything, first without and
then with somebody who scrapes /metrics.

Replacement: a worker gets SIGKILL, and these moments are measured from the one before the signal was sent:
  process   a new child of the supervisor is seen in /proc, which is looked at every fraction of a millisecond
  ready     the time at the beginning of the supervisor's log line `worker ready` of that child: it has been told that the worker accepts
  answered  a request was answered by the replacement. It is sent right after the signal, while all other workers are held by SIGSTOP, so
            that nobody else can answer it. The first request of a Python worker does Django's late imports too.
  took_ms   what the supervisor says itself, counted from its order to start the worker

Hang: demo workers are asked to hang, on a connection whose worker has told its number, and the time counts from that request to the beginning
of the log line `worker timeout`. The last sign of life is older than the request, by at most a third of `timeout`, so a number below `timeout`
is no mistake; what it exceeds `timeout` by is how late the supervisor is.

A worker is killed, or hangs, only after it has served for longer than the ten seconds that clear a slot's failures: otherwise the supervisor
would wait on purpose before the next attempt.
"""

import http.client
import os
import re
import select
import signal
import socket
import time

import common

PROVED_SECONDS = 10.5
PATIENCE_SECONDS = 20
LOOK_SECONDS = 0.0002
HANG_TIMEOUT_SECONDS = 2
HANG_WORKERS = 64  # so many at least: each has to serve for ten seconds before
HANGS_EVERY_SECONDS = 0.1
# What is asked for.
GOALS = {"rss": 12, "cpu": 0.2, "process": 20, "late": 0.25, "innocent": 0}


def demo(directory, workers, port, metrics, timeout=30):
    """`run` with demo workers."""
    file = directory / "demo.toml"
    endpoint = f'[metrics]\nlisten = "127.0.0.1:{metrics}"\n' if metrics else ""
    file.write_text(f'workers = {workers}\nconnections = 10\ntimeout = {timeout}\n[app]\nkind = "command"\n'
                    f'command = ["{common.binary()}", "demo-worker", "--connections", "{{connections}}", "--faults"]\n'
                    f'[listen]\naddress = "127.0.0.1:{port}"\n{endpoint}')
    return common.Server([common.binary(), "run", "-c", str(file)])


# Idle

def scrape(port):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    client.request("GET", "/metrics")
    size = len(client.getresponse().read())
    client.close()
    return size


def watch(server, workers, metrics, options):
    """A row of the table."""
    cpu, turns, began = common.cpu_seconds(server.pid), common.wakeups(server.pid), time.monotonic()
    scrapes = 0
    while (left := began + options.seconds - time.monotonic()) > 0:
        if metrics:
            scrape(metrics)
            scrapes += 1
        time.sleep(min(left, options.every))
    seconds = time.monotonic() - began
    cpu, turns = common.cpu_seconds(server.pid) - cpu, common.wakeups(server.pid) - turns
    rss, pss = (common.mebibytes(size) for size in common.memory(server.pid))
    return [f"{workers} workers", scrapes, f"{rss:.1f}", f"{pss:.1f}", f"{cpu * 1e3:.1f}", f"{cpu / seconds * 100:.3f}",
            f"{turns / seconds:.1f}", len(common.threads(server.pid))]


def show_idle(directory, options):
    print(f"The supervisor's process over {options.seconds:g} idle seconds")
    rows = [["", "scrapes", "RSS MiB", "PSS MiB", "CPU ms", "% of a core", "switches/s", "threads"]]
    for workers in options.idle_workers:
        metrics = common.free_port()
        with demo(directory, workers, common.free_port(), metrics) as server:
            server.await_workers(workers)
            time.sleep(options.settle)
            rows += [watch(server, workers, scraped, options) for scraped in (None, metrics)]
    common.table(rows)
    if most := rows[1:]:
        judge("idle RSS", "MiB", max(float(row[2]) for row in most), GOALS["rss"])
        judge("idle CPU", "% of a core", max(float(row[5]) for row in most), GOALS["cpu"])


def judge(what, unit, found, goal):
    """Whether it is as good as was asked for."""
    print(f"{what}: {found:g} {unit}, goal at most {goal:g}: {'met' if found <= goal else 'MISSED'}")


# Replacement

class Kill:
    """One worker killed; every span in milliseconds since then."""

    def __init__(self, server, path, port, victim, others):
        for pid in others:
            common.send(pid, signal.SIGSTOP)
        try:
            await_stopped(others)
            self.known = set(common.pids())
            self.at, self.began = time.time(), time.monotonic()
            os.kill(victim, signal.SIGKILL)
            self.pid, self.process, self.answered = self.watch(server, path, port)
        finally:
            for pid in others:
                common.send(pid, signal.SIGCONT)
        line = server.await_lines(f"pid={self.pid} ")[-1]
        self.ready_at = common.stamp(line)
        self.ready = (self.ready_at - self.at) * 1e3
        self.took = common.field(line, "took_ms")

    def watch(self, server, path, port):
        """The replacement's process id, when it was seen, and when it answered."""
        process = answered = None
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            while process is None or answered is None:
                if process is None and (new := self.new_child(server)):
                    process = (new, self.since())
                if select.select([client], [], [], LOOK_SECONDS)[0] and answered is None:
                    answered = self.since()
                    if not client.recv(4096).startswith(b"HTTP/1.1 200"):
                        raise SystemExit("the replacement did not answer with 200")
                if self.since() > PATIENCE_SECONDS * 1e3:
                    raise SystemExit("\n".join(server.lines[-common.SHOWN_LINES:] + ["no replacement came"]))
        return (*process, answered)

    def new_child(self, server):
        for pid in common.pids():
            if pid not in self.known:
                if common.parent(pid) == server.pid:
                    return pid
        return None

    def since(self):
        return (time.monotonic() - self.began) * 1e3


def await_stopped(pids):
    until = time.monotonic() + PATIENCE_SECONDS
    while any(common.state(pid) != "T" for pid in pids):
        if time.monotonic() > until:
            raise SystemExit("a worker cannot be stopped")
        time.sleep(LOOK_SECONDS)


MOMENTS = (("process", "process"), ("ready", "ready"), ("answered", "answered"), ("took_ms", "took"))


def replacements(server, path, port, options):
    """Kills the worker that has served for the longest time, again and again."""
    workers, kills = server.await_workers(options.workers), []
    for _ in range(options.kills):
        victim = min(workers, key=workers.get)
        time.sleep(max(0.0, workers.pop(victim) + PROVED_SECONDS - time.time()))
        kill = Kill(server, path, port, victim, list(workers))
        workers[kill.pid] = kill.ready_at
        kills.append(kill)
    return kills


def summarise(title, spans, digits=1):
    """A table of quantiles."""
    rows = [[title, "p50", "p90", "p99", "max"]]
    for name, values in spans.items():
        rows.append([name, *(f"{common.quantile(values, share):.{digits}f}" for share in (0.5, 0.9, 0.99, 1.0))])
    print()
    common.table(rows)


def show_replacement(shop, options):
    print(f"\nFrom SIGKILL of one of {options.workers} workers to its replacement, milliseconds")
    for kind in options.kinds:
        port = common.free_port()
        if kind == "command":
            server, path = demo(shop.directory, options.workers, port, None), "/ok"
        else:
            server, path = shop.tuningfork("gevent", options.workers, 100, port), "/api/products/1/"
        with server:
            kills = replacements(server, path, port, options)
            spans = {name: [getattr(kill, what) for kill in kills] for name, what in MOMENTS}
            summarise(f"kind {kind}, {len(kills)} kills", spans)
            judge("SIGKILL to the new process, p99", "ms", round(common.quantile(spans["process"], 0.99), 1), GOALS["process"])


# Hangs

def hang(port, proved, server):
    """Has one of these workers hang: its process id, when it was asked to, and the connection, on which there is never an answer."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        client = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        client.sendall(b"GET /ids HTTP/1.1\r\nHost: localhost\r\n\r\n")
        pid = int(re.search(rb"^pid (\d+)$", client.recv(4096), re.M).group(1))
        if pid in proved:
            asked = time.time()
            client.sendall(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return pid, asked, client
        client.close()
    raise SystemExit("\n".join(server.lines[-common.SHOWN_LINES:] + ["no worker that has served for long enough answers"]))


def hangs(server, port, workers, count):
    """From each request to hang to when it was found, seconds; and how many workers were ended that nobody had asked to hang."""
    server.await_workers(workers)
    asked, clients = {}, []
    while len(asked) < count:
        ready = {common.field(line, "pid"): common.stamp(line) for line in server.find("worker ready")}
        proved = {pid for pid, since in ready.items() if pid not in asked and since + PROVED_SECONDS < time.time()}
        # One that answers is left: a connection that is accepted by nobody would wait for the next timeout.
        if len(proved) > workers // 4:
            pid, at, client = hang(port, proved, server)
            asked[pid] = at
            clients.append(client)
        time.sleep(HANGS_EVERY_SECONDS)
    until, found = time.monotonic() + PATIENCE_SECONDS, {}
    while not asked.keys() <= found.keys() and time.monotonic() < until:
        time.sleep(HANGS_EVERY_SECONDS)
        found = {common.field(line, "pid"): common.stamp(line) for line in server.find("worker timeout")}
    for client in clients:
        client.close()
    return [found[pid] - at for pid, at in asked.items()], len(found.keys() - asked.keys())


def show_hangs(directory, options):
    workers, port = max(options.workers, HANG_WORKERS), common.free_port()
    print(f"\nFrom a request that makes one of {workers} workers hang until that is found, seconds, at timeout = {HANG_TIMEOUT_SECONDS}")
    with demo(directory, workers, port, None, HANG_TIMEOUT_SECONDS) as server:
        spans, innocent = hangs(server, port, workers, options.hangs)
    late = [span - HANG_TIMEOUT_SECONDS for span in spans]
    summarise(f"{len(spans)} hangs", {"found after": spans, "later than timeout": late}, 3)
    judge("found later than timeout by, worst", "s", round(max(late), 3), GOALS["late"])
    judge("ended although they did not hang", "workers", innocent, GOALS["innocent"])


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="how long the idle supervisor is watched, without scrapes and with them")
    parser.add_argument("--settle", type=float, default=5, help="seconds between the start and that")
    parser.add_argument("--every", type=float, default=15, help="seconds between scrapes")
    parser.add_argument("--idle-workers", type=int, nargs="*", default=[4, 64], help="demo workers while idle")
    parser.add_argument("--hangs", type=int, default=200, help=f"demo workers to hang, of {HANG_WORKERS} or --workers")
    parser.add_argument("--kills", type=int, default=50, help="workers to kill, of each kind")
    parser.add_argument("--kinds", nargs="*", choices=("command", "python"), default=["command", "python"],
                        help="demo workers; the shop on gevent workers forked from the zygote")
    parser.add_argument("--workers", type=int, default=8, help="workers to kill in turn")
    options = parser.parse_args()
    common.need(common.binary, common.python)
    with common.shop() as shop:
        show_idle(shop.directory, options)
        if options.kills:
            show_replacement(shop, options)
        if options.hangs:
            show_hangs(shop.directory, options)


if __name__ == "__main__":
    common.main(main)
