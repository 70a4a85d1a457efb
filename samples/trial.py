"""What trial programs of `tuningfork tune` have in common: the protocol, a candidate that is started afresh, and the search for its capacity.

A trial program gets one JSON object a line on standard input and answers each with one on standard output (README, "Trials by another
program"). Only the answers may go to standard output: everything else belongs on standard error.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

PRECISION = 1.05  # the lowest rate that failed is at most this many times the highest one that was held
MOST_PROBES = 12
MOST_TRIES = 5  # of one probe that was disturbed
# A trial may take 30 s and 4 times the `seconds` of its question (tune --trial-timeout): the boot has the 30 s, and probing ends after 3 of the 4 times,
# so that a probe under way, and what the load generator takes to start and stop, still fit.
BOOT = 25  # seconds a candidate may take until it answers
PROBING = 3
PARTS = {"measure": 12, "challenge": 2}  # probes in a trial, the one that warms up included
# Of a configuration what belongs to the running service alone: a candidate would take its pidfile and its sockets, and run its hooks.
OF_THE_SERVICE = {"pidfile", "metrics", "control", "hooks", "log"}
ONE_ADDRESS = re.compile(r"""\s*address\s*=\s*("[^"]*"|'[^']*'|\[[^]]*\])\s*(#.*)?""")


def arguments(description, script=None, recording=False):
    """The arguments that every sample has, and `--script` (what the load generator runs) or `--recording` where they make sense."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = os.environ.get("TUNINGFORK_TARGET")
    parser.add_argument("--url", default=target, required=target is None, help="where the candidate answers (default: tune --target-host)")
    parser.add_argument("--host", metavar="NAME", help="the Host header, where the application does not accept that of --url")
    parser.add_argument("--config", help="its tuningfork.toml: a copy with other numbers, listening at --url, is started for each trial")
    parser.add_argument("--start", metavar="COMMAND", help="or how it is restarted elsewhere; {workers} and {connections} are replaced")
    parser.add_argument("--tuningfork", default="tuningfork", help="the program that runs --config")
    parser.add_argument("--first", type=float, default=20, metavar="RATE", help="the first rate that is tried")
    parser.add_argument("--probe", type=int, metavar="SECONDS", help="how long each rate is tried (default: so that the trial takes what it should)")
    if recording:
        parser.add_argument("--recording", required=True, metavar="FILE", help="the traffic, as tuningfork record makes it")
    if script:
        default = os.path.join(os.path.dirname(os.path.abspath(__file__)), script)
        parser.add_argument("--script", default=default, metavar="FILE", help="what the load generator runs")
        parser.add_argument("--paths", default="/", help="what it asks for in turn, separated by commas")
    chosen = parser.parse_args()
    if (chosen.config is None) == (chosen.start is None):
        parser.error("give --config, or --start for an application elsewhere")
    return chosen


def host(options):
    """The Host header."""
    return options.host or urllib.parse.urlsplit(options.url).netloc


class Unredirected(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: it may lead to the service that people use."""

    def redirect_request(self, *_):
        return None


class Slo:
    """`p90<700ms,errors<0.1%`."""

    def __init__(self, text):
        latency = re.search(r"(p50|p90|p95|p99|max)<([\d.]+)(us|ms|s)", text)
        self.quantile = latency[1]
        self.seconds = float(latency[2]) * {"us": 1e-6, "ms": 1e-3, "s": 1}[latency[3]]
        self.errors = float(re.search(r"errors<([\d.e-]+)%", text)[1]) / 100

    def holds(self, told, rate, seconds):
        """Whether a probe at `rate` kept it. A generator that was not served sends less than it should: one request and 5 % may be missing."""
        missing = (rate - told["throughput"]) * seconds
        return told["errors"] <= self.errors and told[self.quantile] < self.seconds and missing <= 1 + 0.05 * rate * seconds


class Candidate:
    """One configuration, started; stopped at the end of the `with` block."""

    def __init__(self, options, workers, connections):
        self.options, self.process, self.copy = options, None, None
        self.numbers = {"workers": workers, "connections": connections}

    def __enter__(self):
        if self.options.start:
            subprocess.run(self.options.start.format(**self.numbers), shell=True, check=True, stdout=sys.stderr)
        else:
            with open(self.options.config) as file:
                text = of_a_candidate(file.read(), self.numbers, urllib.parse.urlsplit(self.options.url).netloc)
            # For nobody else to read, as it has the secrets of the configuration; beside it, as paths may be relative.
            folder, name = os.path.split(os.path.abspath(self.options.config))
            copy, self.copy = tempfile.mkstemp(prefix=f"{name}.trial-", suffix=".toml", dir=folder, text=True)
        try:
            if self.copy:
                with open(copy, "w") as copy:
                    copy.write(text)
                self.process = subprocess.Popen([self.options.tuningfork, "run", "-c", self.copy], stdout=sys.stderr)
            self.await_answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def await_answer(self):
        deadline = time.monotonic() + BOOT
        request = urllib.request.Request(self.options.url, headers={"Host": host(self.options)})
        opener = urllib.request.build_opener(Unredirected)
        while True:
            if self.process and self.process.poll() is not None:
                raise RuntimeError(f"the candidate ended with {self.process.returncode}")
            try:
                return opener.open(request, timeout=5).read()
            except urllib.error.HTTPError as error:
                return print(f"{self.options.url} answers {host(self.options)} with {error.code}", file=sys.stderr)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def __exit__(self, *_):
        if self.process:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
        if self.copy:
            os.unlink(self.copy)


def of_a_candidate(text, numbers, address):
    """The configuration with other numbers and another address, without what is the running service's. Knows keys that stand on one line."""
    lines, table, addresses = [f"{key} = {value}" for key, value in numbers.items()], "", 0
    for line in text.splitlines():
        header = re.match(r"\s*\[\s*([\w-]+)\s*[].]", line)
        table = header[1] if header else table
        key = re.match(r"\s*([\w-]*)", line)[1]
        if (table or key) in OF_THE_SERVICE or (not table and key in numbers):
            continue
        if table == "listen" and ONE_ADDRESS.fullmatch(line):
            line, addresses = f'address = "{address}"', addresses + 1
        lines.append(line)
    if addresses != 1:
        raise ValueError("a candidate needs an address of its own: write `address = ...` below [listen] of --config, on one line")
    return "\n".join(lines) + "\n"


def capacity(probe, slo, options, until):
    """The highest rate that was held, and what was told of it. Ends after `until` with what it knows."""
    held, missed, best, rate = 0.0, None, None, options.first
    for tries in range(MOST_PROBES):
        if tries and time.monotonic() > until:
            if not held or not missed:  # no bracket yet: half of it or a hundredth, nobody knows
                raise RuntimeError(f"no time for {rate:.1f} req/s: name a --first nearer to the capacity, or less --probe")
            print(f"no time for {rate:.1f} req/s: {held:.1f} were held", file=sys.stderr)
            break
        told = probe(rate)
        if slo.holds(told, rate, options.probe):
            held, best = rate, told
        else:
            missed = rate
        if missed and held and missed / held < PRECISION:
            break
        rate = (held * missed) ** 0.5 if missed and held else rate * 2 if held else rate / 2
    return held, best or told


def tried(options, play, rate, slo, until):
    """One probe. A disturbance can only make it fail, so a failure in doubt is tried again while there is time."""
    for tries in range(MOST_TRIES):
        if tries and time.monotonic() > until:
            break
        told = play(options, rate)
        doubtful = told.pop("doubtful", False)
        print(f"{rate:.1f} req/s: {told}", file=sys.stderr)
        if slo.holds(told, rate, options.probe) or not doubtful:
            return told
    raise RuntimeError(f"{rate:.1f} requests a second cannot be judged: the host that sends them is too busy")


def probe_length(trial):
    """How long each rate is tried, whole seconds, for a trial that takes the seconds it should."""
    return max(1, int(trial["seconds"] / PARTS[trial["purpose"]]))


def answer(trial, options, play):
    """The answer to one trial. `play(options, rate)` offers a rate for `options.probe` seconds and tells what came of it."""
    started, slo = time.monotonic(), Slo(trial["slo"])
    options = argparse.Namespace(**{**vars(options), "probe": options.probe or probe_length(trial)})
    try:
        with Candidate(options, trial["workers"], trial["connections"]):
            until = time.monotonic() + PROBING * trial["seconds"]
            play(options, options.first)  # warms it up
            if trial["purpose"] == "challenge":
                result = {"holds": slo.holds(tried(options, play, trial["rate"], slo, until), trial["rate"], options.probe)}
            else:
                held, told = capacity(lambda rate: tried(options, play, rate, slo, until), slo, options, until)
                # What was answered while it was held, and not what was offered.
                result = {**told, "capacity": told["throughput"] if held else 0}
    except Exception as error:  # the study goes on without this trial
        result = {"error": f"{type(error).__name__}: {error}"}
    return {**result, "seconds": time.monotonic() - started}


def serve(options, play):
    """Answers every line until there are no more: right for --trial-server, and for --trial-command, which sends one."""
    # Told to end, it still stops the candidate.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), options, play)), flush=True)
