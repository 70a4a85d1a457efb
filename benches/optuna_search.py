#!/usr/bin/env python3
"""Optuna's TPE and GP samplers on the simulated applications of `cargo bench --bench search`.

    python3 -m venv VENV && VENV/bin/pip install optuna scipy torch
    cargo bench --bench search --no-run       # prints where the program is
    VENV/bin/python benches/optuna_search.py PROGRAM --sampler tpe --seeds 100 --trials 30

Prints a row for the same table: regret of the best observed configuration after each number of trials.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys

import optuna

AFTER = (1, 2, 3, 5, 10, 20)


class Applications:
    """The simulated applications, run by the bench's own program."""

    def __init__(self, program):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program, "serve"], stdin=pipe, stdout=pipe, text=True, bufsize=1)

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def sampler(name, seed):
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=8)
    return optuna.samplers.GPSampler(seed=seed, deterministic_objective=False)


def search(applications, name, seed, trials):
    """Regret of the best observed after each trial, and the seconds that all took."""
    space = applications.ask(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler(name, seed))
    study.enqueue_trial({"workers": space["workers"], "connections": space["connections"]})
    best, worst, regrets, seconds = None, 1.0, [], 0.0

    def objective(trial):
        nonlocal best, worst, seconds
        workers = trial.suggest_int("workers", 1, space["max_workers"], log=True)
        connections = trial.suggest_int("connections", 1, space["max_connections"], log=True)
        if space["max_slots"]:
            # The limit is known beforehand, so nothing beyond it is tried.
            connections = max(1, min(connections, space["max_slots"] // workers))
        found = applications.ask(workers=workers, connections=connections)
        seconds += found["seconds"]
        if found["capacity"] > 0 and (best is None or found["capacity"] > best[0]):
            best = (found["capacity"], found["regret"])
        if best:
            regrets.append(best[1])
        if found["capacity"] > 0:
            worst = min(worst, found["capacity"]) if best else found["capacity"]
        # What could not be started counts as half as good as the worst that could: a cliff without a bottom misleads both samplers.
        return math.log(found["capacity"] or worst / 2)

    study.optimize(objective, n_trials=trials)
    return regrets, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="the bench's program")
    parser.add_argument("--sampler", choices=["tpe", "gp"], default="tpe")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=30)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    applications = Applications(options.program)
    runs = [search(applications, options.sampler, seed, options.trials) for seed in range(options.first_seed, options.first_seed + options.seeds)]
    cells = "".join(f"{100 * statistics.fmean(regrets[min(after, len(regrets)) - 1] for regrets, _ in runs):6.1f}" for after in AFTER if after <= options.trials)
    stops = sorted(100 * regrets[-1] for regrets, _ in runs)
    minutes = statistics.fmean(seconds for _, seconds in runs) / 60
    high = stops[round(0.9 * (len(stops) - 1))]
    print(f"{'Optuna ' + options.sampler.upper():24}{cells} | {statistics.fmean(stops):5.2f} {high:5.1f} {options.trials:6.1f} ({options.trials:2}) {minutes:6.1f}")


if __name__ == "__main__":
    sys.exit(main())
