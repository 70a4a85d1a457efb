"""A pre-fork server that is only arithmetic: answers the trials of `tune --trial-command` and, with --server, of `tune --trial-server`.

Capacity is the least of what the cores, the workers and the connections allow, each with the D and R below, and a noise that depends on the
trial's number only: the same study is the same study again. --fault KIND --at N makes trial N go wrong.
"""

import argparse
import json
import os
import random
import sys
import time

DEMAND = 0.010  # seconds of CPU a request
INSIDE = 0.410  # seconds a request spends in a worker
MEMORY = 60_000_000  # bytes a worker


def true_capacity(workers, connections, cores):
    limits = (0.97 * cores / (DEMAND * (1 + 0.02 * max(0, workers / cores - 1))), 0.96 * workers / DEMAND, 0.98 * workers * connections / INSIDE)
    return sum(limit ** -8 for limit in limits) ** (-1 / 8)


def answer(trial, options):
    workers, connections, cores = trial["workers"], trial["connections"], trial["cores"]
    capacity = true_capacity(workers, connections, cores) * random.Random(f"{options.seed}/{trial['trial']}").gauss(1, options.noise)
    if trial["purpose"] == "challenge":
        return {"holds": capacity >= trial["rate"], "seconds": trial["seconds"]}
    told = {"capacity": capacity, "seconds": trial["seconds"]}
    if not options.terse:
        told |= {
            "throughput": capacity, "p50": 0.3, "p90": 0.6, "p99": 0.9, "errors": 0.0, "cpu_seconds_per_request": DEMAND,
            "utilisation": min(1, capacity * DEMAND / cores), "worker_busy": min(1, capacity * DEMAND / workers),
            "slots_busy": min(1, capacity * INSIDE / (workers * connections)), "time_in_worker": INSIDE,
            "memory_bytes": MEMORY * workers,
        }  # fmt: skip
    return told


def go_wrong(kind):
    """Does what a broken trial program may do; returns whether it answers nevertheless."""
    match kind:
        case "exit":
            sys.exit(3)
        case "close":
            sys.exit(0)
        case "hang":
            time.sleep(3600)
        case "garbage":
            print("Listening on 127.0.0.1:8000", flush=True)
        case "nothing":
            print("{}", flush=True)
        case "twice":
            # As one that logs a result, and answers with it too.
            sys.stdout.write('{"capacity": 100, "seconds": 2}\n{"capacity": 100, "seconds": 2}\n')
            sys.stdout.flush()
        case "blank":
            print("\n   \n", flush=True)
            return True
        case "error":
            print(json.dumps({"error": "the rig is being repaired", "seconds": 2}), flush=True)
        case "flood":
            while True:
                sys.stdout.write("no end " * 1000)
        case "child":
            # Somebody who keeps our output open, and is in nobody's way.
            if os.fork() == 0:
                time.sleep(3600)
            return True
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", action="store_true")
    parser.add_argument("--terse", action="store_true", help="answer only what must be answered")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--noise", type=float, default=0.01)
    parser.add_argument("--thinks", type=float, default=0, metavar="SECONDS", help="how long a trial really takes")
    parser.add_argument("--fault")
    parser.add_argument("--at", type=int, default=3)
    options = parser.parse_args()
    for line in sys.stdin:
        trial = json.loads(line)
        time.sleep(options.thinks)
        if not options.server:
            print("a log line before the answer")
        if options.fault is None or trial["trial"] != options.at or go_wrong(options.fault):
            print(json.dumps(answer(trial, options)), flush=True)


main()
