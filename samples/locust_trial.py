#!/usr/bin/env python3
"""Trials by Locust: `tuningfork tune --trial-server "samples/locust_trial.py --config tuningfork.toml --url http://127.0.0.1:8010"`.

Locust's users wait for their answers. When there are too few of them for the rate, throughput falls behind it and the rate counts as not
held. For load from several machines add --master and --expect-workers to the command below, and start the workers where they are.
"""

import csv
import os
import subprocess
import sys
import tempfile

import trial

COLUMNS = {"p50": "50%", "p90": "90%", "p95": "95%", "p99": "99%", "max": "100%"}
LONGEST = 2.0  # seconds a request may take before the users are too few


def play(options, rate):
    users = max(1, round(rate * LONGEST))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "locust", "--headless", "-f", options.script, "-H", options.url, "-u", str(users), "-r", str(users),
                   "-t", f"{options.probe}s", "--stop-timeout", "5", "--only-summary", "--csv", f"{folder}/told"]  # fmt: skip
        environment = {**os.environ, "TRIAL_RATE": str(rate), "TRIAL_USERS": str(users), "TRIAL_PATHS": options.paths,
                       "TRIAL_HOST": trial.host(options)}  # fmt: skip
        # It exits with 1 when requests failed; that is told below.
        ran = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        try:
            with open(f"{folder}/told_stats.csv") as file:
                total = [row for row in csv.DictReader(file) if row["Name"] == "Aggregated"][-1]
        except (OSError, IndexError) as error:
            raise RuntimeError(f"locust told nothing: {ran.stderr[-500:]}") from error
    count = int(total["Request Count"])
    if count == 0:
        raise RuntimeError("locust sent nothing")
    told = {key: float(total[column]) / 1e3 for key, column in COLUMNS.items()}
    return {**told, "errors": int(total["Failure Count"]) / count, "throughput": float(total["Requests/s"])}


if __name__ == "__main__":
    trial.serve(trial.arguments(__doc__, "locustfile.py"), play)
