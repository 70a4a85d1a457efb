#!/usr/bin/env python3
"""Trials by `tuningfork replay`, of an application on another host that a command of yours restarts:

    tuningfork tune --trial-server "samples/replay_trial.py --recording traffic.jsonl --start 'ssh web1 restart-shop {workers} {connections}'" \\
        --target-host http://web1:8000 --target-anyway --cores 16
"""

import json
import os
import subprocess
import tempfile

import trial


def play(options, rate):
    host = ["--host", options.host] if options.host else []  # else what was recorded, or that of --url
    with tempfile.TemporaryDirectory() as folder:
        command = [options.tuningfork, "replay", options.recording, "--target", options.url, "--target-anyway", "--poisson", str(rate),
                   "--duration", f"{options.probe}s", "--json", f"{folder}/told.json", *host]  # fmt: skip
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if not os.path.exists(f"{folder}/told.json"):
            raise RuntimeError(f"replay told nothing: {ran.stderr[-500:]}")
        with open(f"{folder}/told.json") as file:
            told = json.load(file)
    quantiles = {key: told["latency"][key] for key in ("p50", "p90", "p95", "p99", "max")}
    # What came is a matter of chance; what matters is the share of it that was answered.
    throughput = rate * told["completed"] / max(1, told["requests"])
    return {**quantiles, "errors": told["errors"], "throughput": throughput, "doubtful": told["valid"] is False}


if __name__ == "__main__":
    trial.serve(trial.arguments(__doc__, recording=True), play)
