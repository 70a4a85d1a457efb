#!/usr/bin/env python3
"""What the supervisor alone costs, and how fast it replaces a worker that was killed.

Idle: memory of the supervisor's process, and the CPU time its threads used, with demo workers that nobody asks for anything; with and
without somebody who scrapes /metrics.

Replacement: a worker gets SIGKILL, and these moments are measured from the one before the signal was sent:
  process   a new child of the supervisor is seen in /proc, which is looked at every fraction of a millisecond
  ready     the time at the beginning of the supervisor's log line `worker ready` of that child: it has been told that the worker accepts
  answered  a request was answered by the replacement. It is sent right after the signal, while all other workers are held by SIGSTOP, so
            that nobody else can answer it. The first request of a Python worker does Django's late imports too.
  took_ms   what the supervisor says itself, counted from its order to start the worker
A worker is killed only after it has served for longer than the ten seconds that clear a slot's failures: otherwise the supervisor would
wait on purpose before the next attempt.
"""

import http.client
import os
import select
import signal
import socket
import time

import common

PROVED_SECONDS = 10.5
PATIENCE_SECONDS = 20
LOOK_SECONDS = 0.0002


def demo(directory, workers, port, metrics):
    """`run` with demo workers."""
    file = directory / "demo.toml"
    endpoint = f'[metrics]\nlisten = "127.0.0.1:{metrics}"\n' if metrics else ""
    file.write_text(f'workers = {workers}\nconnections = 10\n[app]\nkind = "command"\n'
                    f'command = ["{common.binary()}", "demo-worker", "--connections", "{{connections}}"]\n'
                    f'[listen]\naddress = "127.0.0.1:{port}"\n{endpoint}')
    return common.Server([common.binary(), "run", "-c", str(file)])


# Idle

def scrape(port):
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    client.request("GET", "/metrics")
    size = len(client.getresponse().read())
    client.close()
    return size


def idle(directory, workers, scraped, options):
    """A row of the table."""
    metrics = common.free_port() if scraped else None
    with demo(directory, workers, common.free_port(), metrics) as server:
        server.await_workers(workers)
        time.sleep(options.settle)
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
    print(f"The supervisor's process over {options.seconds} idle seconds")
    rows = [["", "scrapes", "RSS MiB", "PSS MiB", "CPU ms", "% of a core", "switches/s", "threads"]]
    for workers in options.idle_workers:
        rows += [idle(directory, workers, scraped, options) for scraped in (False, True)]
    common.table(rows)


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


def summarise(kind, kills):
    rows = [[f"{kind}, {len(kills)} kills", "p50", "p90", "p99", "max"]]
    for name, what in (("process", "process"), ("ready", "ready"), ("answered", "answered"), ("took_ms", "took")):
        spans = [getattr(kill, what) for kill in kills]
        rows.append([name, *(f"{common.quantile(spans, share):.1f}" for share in (0.5, 0.9, 0.99, 1.0))])
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
            summarise(f"kind {kind}", replacements(server, path, port, options))


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long the idle supervisor is watched")
    parser.add_argument("--settle", type=float, default=5, help="seconds between the start and that")
    parser.add_argument("--every", type=float, default=15, help="seconds between scrapes")
    parser.add_argument("--idle-workers", type=int, nargs="*", default=[4, 64], help="demo workers while idle")
    parser.add_argument("--kills", type=int, default=50, help="workers to kill, of each kind")
    parser.add_argument("--kinds", nargs="*", choices=("command", "python"), default=["command", "python"],
                        help="demo workers; the shop on gevent workers forked from the zygote")
    parser.add_argument("--workers", type=int, default=8, help="workers to kill in turn")
    options = parser.parse_args()
    common.need(common.binary, common.python)
    with common.shop() as shop:
        show_idle(shop.directory, options)
        show_replacement(shop, options)


if __name__ == "__main__":
    common.main(main)
