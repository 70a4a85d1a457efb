#!/usr/bin/env python3
"""The shop under load while it is reloaded and resized, and then while its workers are killed.

First HUP, TTIN and TTOU, evenly spread over wrk's time: no request may fail. Then SIGKILL of workers, the longest-serving first: what
they were answering is lost, and nothing else. Last SIGTERM: no process may be left. Ends with 1 if one of these was not so.
"""

import itertools
import signal
import sys
import time

import common

SIGNALS = {"HUP": signal.SIGHUP, "TTIN": signal.SIGTTIN, "TTOU": signal.SIGTTOU}
SETTLE_SECONDS = 60


def sequence(options):
    """The names of the signals: HUP, and between them TTIN and TTOU in turn."""
    pairs = itertools.zip_longest(["TTIN"] * options.ttin, ["TTOU"] * options.ttou)
    resizes = [name for pair in pairs for name in pair if name]
    reloads = [((place + 0.5) / options.hup, "HUP") for place in range(options.hup)]
    return [name for _, name in sorted(reloads + [(place / len(resizes), name) for place, name in enumerate(resizes)])]


def wanted(names, configured):
    """How many workers there are after these signals: a reload goes back to what the configuration says."""
    count = configured
    for name in names:
        count = configured if name == "HUP" else max(1, count + (1 if name == "TTIN" else -1))
    return count


def serving(server):
    """The workers that live."""
    ready = [common.field(line, "pid") for line in server.find("worker ready")]
    return [pid for pid in ready if common.parent(pid) == server.pid]


def newest_reload(server, event):
    """The generation of the last reload that `event` was said of."""
    return max([common.field(line, "generation") for line in server.find(event)], default=0)


def settled(server, workers):
    """Waits until the last reload is through and there are as many workers as there should be."""
    until = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < until:
        if len(serving(server)) == workers and newest_reload(server, "reload begins") == newest_reload(server, "reload finished"):
            return True
        time.sleep(0.05)
    return False


def under_load(port, paths, options, seconds, acts):
    """wrk's result, while `acts` are done at even spaces."""
    with common.Wrk(port, paths, options.clients, seconds) as wrk:
        began = time.monotonic()
        for place, act in enumerate(acts):
            time.sleep(max(0.0, began + seconds * (place + 0.5) / (len(acts) + 0.5) - time.monotonic()))
            act()
        return wrk.result()


def told(result):
    return f"{result['requests']} requests, {result['rate']:.1f} req/s, p99 {result['p99']:.0f} ms; " + (
        "; ".join(result["lines"]) or "no errors")


def kill_oldest(server):
    if workers := serving(server):
        common.send(workers[0], signal.SIGKILL)


def exercise(shop, worker_class, options):
    """Whether everything was as it should be."""
    port, paths, signals = common.free_port(), shop.mix(), sequence(options)
    print(f"\n{worker_class}: {options.workers} workers, wrk -t1 -c{options.clients}")
    with shop.tuningfork(worker_class, options.workers, options.connections, port) as server:
        server.await_workers(options.workers)
        acts = [lambda name=name: server.signal(SIGNALS[name]) for name in signals]
        result = under_load(port, paths, options, options.seconds, acts)
        print(f"  {options.hup} HUP, {options.ttin} TTIN, {options.ttou} TTOU in {options.seconds} s: {told(result)}")
        good = result["errors"] == 0
        count = wanted(signals, options.workers)
        finished = settled(server, count)
        print(f"  reloads: {len(server.find('reload begins'))} begun, {len(server.find('reload finished'))} finished, "
              f"{len(server.find('reload failed'))} failed; {len(serving(server))} of {count} workers serve")
        good = good and finished
        if options.kills:
            acts = [lambda: kill_oldest(server)] * options.kills
            result = under_load(port, paths, options, options.kill_seconds, acts)
            print(f"  {options.kills} kills in {options.kill_seconds} s: {told(result)}")
            good = settled(server, count) and good
            print(f"  {len(serving(server))} of {count} workers serve")
        server.stop()
        print(f"  after SIGTERM: exit code {server.code}, {len(server.left)} processes left")
        return good and server.code == 0 and not server.left


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long wrk runs while signals come")
    parser.add_argument("--hup", type=int, default=10, help="reloads")
    parser.add_argument("--ttin", type=int, default=3, help="one worker more")
    parser.add_argument("--ttou", type=int, default=3, help="one worker less")
    parser.add_argument("--kill-seconds", type=int, default=20, help="how long wrk runs while workers are killed")
    parser.add_argument("--kills", type=int, default=5, help="workers to kill")
    parser.add_argument("--clients", type=int, default=8, help="wrk's connections")
    parser.add_argument("--workers", type=int, default=4, help="worker processes")
    parser.add_argument("--connections", type=int, default=100, help="connections of a worker, where it takes several")
    parser.add_argument("--classes", nargs="+", choices=common.CLASSES, default=["gevent", "sync"], help="worker classes")
    options = parser.parse_args()
    common.need(common.binary, common.python, common.wrk_program)
    with common.shop() as shop:
        results = [exercise(shop, worker_class, options) for worker_class in options.classes]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    common.main(main)
