#!/usr/bin/env python3
"""Makes what `capacity`, `regret.py` and `tuningfork tune` ask for, of an application for which 2 x cores + 1 sync workers are right.

A request of `tests/apps/seats` takes 25 ms, of which so much is CPU time that 2 x cores + 1 workers, each with one request at a time, keep all cores busy;
a process more finds no seat and answers 503. Fewer do less, so the best is what the rule of thumb says, and nothing in the configuration tells.
"""

import argparse
import json
import os
import random
from pathlib import Path

import common

APP = common.ROOT / "tests/apps/seats"
REQUEST_MS = 25
REQUESTS, PATHS, SEED = 3000, 40, 1


def configuration(directory, python, cores, port):
    seats = 2 * cores + 1
    cpu = REQUEST_MS * cores / seats
    env = {"SEATS": str(seats), "SEATS_FOLDER": str(directory), "SEATS_CPU_MS": f"{cpu:.2f}", "SEATS_WAIT_MS": f"{REQUEST_MS - cpu:.2f}"}
    app = {"kind": "python", "app": "seats:application", "worker-class": "sync", "interpreter": str(python), "directory": str(APP)}
    keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in app.items())
    pairs = ", ".join(f"{name} = {json.dumps(value)}" for name, value in env.items())
    file = directory / "tuningfork-sync.toml"
    file.write_text(f'workers = "auto"\n[app]\n{keys}env = {{ {pairs} }}\n[listen]\naddress = "127.0.0.1:{port}"\n')
    return file


def traffic(file):
    """Requests that differ in their paths only."""
    chance, moment = random.Random(SEED), 1_700_000_000.0
    with open(file, "w") as lines:
        for _ in range(REQUESTS):
            moment += chance.expovariate(50)
            lines.write(json.dumps({"t": round(moment, 4), "m": "GET", "u": f"/book/{chance.randrange(PATHS)}", "s": 200}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="where to put it; it is made")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="those it is for (default: these)")
    options = parser.parse_args()
    common.need(common.python)
    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    recording = directory / "traffic.jsonl"
    traffic(recording)
    print(f"--config {configuration(directory, common.python(), options.cores, common.free_port())} --traffic {recording}")


if __name__ == "__main__":
    common.main(main)
