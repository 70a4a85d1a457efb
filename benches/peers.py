"""tuningfork replay beside other load generators, all against one neutral observer (observer.rs) that stamps every request itself.

Series: constant, recorded and bursty (when requests arrive, against when they should: 1,000 a second, evenly, as a recorded Poisson
process, and as one whose rate jumps between 200 and 1,800),
closed (64 connections, as fast as it goes, TCP and unix sockets), cpu (client CPU a request at 10,000 a second), latency (what is
reported of a server that takes 200 µs, against what the observer saw), memory (peak, and growth a request), drift (constant, for
long; only when asked for). Tools take turns within each round; numbers are the median (least - most) of the rounds.
"""

import json
import multiprocessing
import statistics
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import observed
import tools
from common import arguments, main, mebibytes, say, spread, table
from observed import CLIENTS, Observer, bursty, compare, constant, poisson

SEED = 3
DELAY_US = 200
MOMENTS = ("late_p50", "late_p99", "late_max", "drift", "gap_p50", "gap_p99", "ks", "disorder", "missing", "surplus", "rate")


class Bench:
    def __init__(self, options, present, directory):
        self.options, self.present, self.results, self.number = options, present, {}, 0
        self.directory = directory

    def each(self, series, measure):
        """Every tool in turn, once a round; each round begins with another one. `measure` gives a dictionary, or None."""
        found = self.results.setdefault(series, {})
        for number in range(self.options.rounds):
            first = number % len(self.present)
            for tool in self.present[first:] + self.present[:first]:
                said = measure(tool)
                if said is not None:
                    said["round"] = number + 1
                    found.setdefault(tool.name, []).append(said)
                    say(f"{series}, round {number + 1}, {tool.name}: " + ", ".join(f"{key} {short(value)}" for key, value in said.items()))
        return found

    def job(self, address, seconds, rate=0, plan=None):
        self.number += 1
        directory = self.directory / str(self.number)
        directory.mkdir()
        return tools.Job(address, directory, seconds, rate, plan)

    def observe(self, give, seconds, rate=0, plan=None, unix=False, **more):
        """Runs what `give` says of a job, observed. None if the tool cannot do it, or fails; else job, run and observer."""
        listen = f"unix:{self.directory}/observer-{self.number}.sock" if unix else "127.0.0.1:0"
        with Observer(self.directory, listen, pinned=self.options.pin, **more) as observer:
            job = self.job(observer.address, seconds, rate, plan)
            command = give(job)
            ran = command and tools.run(command, job, self.options.pin, self.options.real_time)
            if not ran:
                return None
            observer.stop()
            return job, ran, observer

    # Series

    def arrivals(self, series, rate, seconds):
        """When requests arrive, against a plan of even gaps or, in the series "recorded" and "bursty", of random ones."""
        random = {"recorded": poisson, "bursty": bursty}.get(series)
        plan = random(rate, seconds, SEED) if random else constant(rate, seconds)
        even = constant(rate, seconds)

        def measure(tool):
            remember = dict(remember=2 * len(plan.due))
            if random is None:
                done = self.observe(tool.constant, seconds, rate, plan, **remember)
                return done and compare(done[2].log(), plan, tool.indexed)
            if done := self.observe(tool.recorded, seconds, rate, plan, **remember):
                return compare(done[2].log(), plan, tool.indexed)
            if not (done := self.observe(tool.constant, seconds, rate, even, **remember)):
                return None
            # It has no word for the plan, so there is nothing to be late for; only the gaps compare.
            seen = compare(done[2].log(), plan, indexed=False)
            return seen and {key: seen[key] for key in ("ks", "gap_p50", "gap_p99", "rate")}

        found = self.each(series, measure)
        say_title(f"{series}: {rate:g} requests a second for {seconds:g} s; µs late at the observer, counted from the most punctual request")
        rows = [["", *(key.replace("_", " ") for key in MOMENTS)]]
        for name, runs in found.items():
            rows.append([name, *(middle(runs, key) for key in MOMENTS)])
        table(rows)
        if random:
            print("ks: largest difference of the distribution of gaps from the recorded one. Tools without lateness cannot replay times and "
                  "made a constant rate.")

    def closed(self, seconds):
        for unix in (False, True):
            series = f"closed, {'unix socket' if unix else 'TCP'}"
            plan = constant(1_000, 100)

            def measure(tool):
                if unix and not tool.unix:
                    return None
                done = self.observe(tool.closed, seconds, plan=plan, unix=unix)
                return done and usage(done)

            found = self.each(series, measure)
            say_title(f"{series}: {CLIENTS} connections for {seconds:g} s, counted by the observer")
            rows = [["", "req/s", "CPU µs a request", "rate / wrk's", "CPU / wrk's"]]
            wrk = {each["round"]: each for each in found.get("wrk", [])}
            for name, runs in found.items():
                paired = [(each, wrk[each["round"]]) for each in runs if each["round"] in wrk]
                ratios = [[one[key] / other[key] for one, other in paired] for key in ("rate", "cpu_us")]
                rows.append([name, middle(runs, "rate", 0), middle(runs, "cpu_us"), *(spread(ratio, 2) for ratio in ratios)])
            table(rows)

    def cpu(self, rate, seconds):
        plan = constant(rate, seconds)
        for unix in (False, True):
            series = f"cpu, {'unix socket' if unix else 'TCP'}"

            def measure(tool):
                if unix and not tool.unix:
                    return None
                done = self.observe(tool.constant, seconds, rate, plan, unix=unix)
                return done and usage(done)

            found = self.each(series, measure)
            say_title(f"{series}: client CPU of {rate:,g} requests a second for {seconds:g} s")
            table([["", "req/s reached", "CPU µs a request"],
                   *([name, middle(runs, "rate", 0), middle(runs, "cpu_us")] for name, runs in found.items())])

    def latency(self, rate, seconds):
        plan = constant(rate, seconds)

        def measure(tool):
            done = self.observe(tool.constant, seconds, rate, plan, remember=2 * len(plan.due), delay_us=DELAY_US)
            if done is None:  # it has no rate: one client, which asks about as often
                done = self.observe(lambda job: tool.closed(job, 1), seconds, rate, plan, remember=20 * len(plan.due), delay_us=DELAY_US)
            if done is None:
                return None
            job, ran, observer = done
            served = statistics.median(sent - received for _, _, received, sent in observer.log()) / 1e3
            told = tool.p50(ran, job) * 1e6
            return {"told": told, "observed": served, "error": told - served, "rate": counted_rate(observer)}

        found = self.each("latency", measure)
        say_title(f"latency: median that is reported of a server that waits {DELAY_US} µs, {rate:g} requests a second; µs")
        table([["", "reported", "at the observer", "difference", "req/s"],
               *([name, *(middle(runs, key, digits) for key, digits in (("told", 0), ("observed", 0), ("error", 0), ("rate", 0)))]
                 for name, runs in found.items())])
        print("The way there and back and two wake-ups are in the difference: no tool can reach 0.")

    def memory(self, seconds):
        plan = constant(1_000, 100)

        def measure(tool):
            runs = [self.observe(tool.closed, seconds * factor, plan=plan) for factor in (1, 5)]
            if not all(runs):
                return None
            (_, short_run, few), (_, long_run, many) = runs
            more = many.counted["requests"] - few.counted["requests"]
            return {"short": mebibytes(short_run.peak), "long": mebibytes(long_run.peak),
                    "growth": (long_run.peak - short_run.peak) / more if more > 0 else 0.0, "requests": many.counted["requests"]}

        found = self.each("memory", measure)
        say_title(f"memory: peak RSS, MiB, closed loop of {CLIENTS} connections for {seconds:g} s and {5 * seconds:g} s")
        table([["", "short", "long", "bytes a further request", "requests of the long run"],
               *([name, middle(runs, "short"), middle(runs, "long"), middle(runs, "growth", 2), middle(runs, "requests", 0)]
                 for name, runs in found.items())])


def counted_rate(observer):
    return (observer.counted["requests"] - 1) / max(observer.counted["seconds"], 1e-9)


def usage(done):
    _, ran, observer = done
    requests = observer.counted["requests"]
    return {"rate": counted_rate(observer), "cpu_us": ran.cpu * 1e6 / max(1, requests), "requests": requests}


def short(value):
    return f"{value:.4g}" if isinstance(value, float) else value


def middle(runs, key, digits=None):
    values = [each[key] for each in runs if each.get(key) is not None]
    digits = digits if digits is not None else 4 if key == "ks" else 0
    return spread(values, digits) if len(values) != 1 else f"{values[0]:.{digits}f}"


def say_title(title):
    print(f"\n{title}")


def burn():
    while True:
        pass


@contextmanager
def busy(cores):
    """So many processes that compute all the time."""
    burners = [multiprocessing.Process(target=burn, daemon=True) for _ in range(cores)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()


def run():
    parser = arguments(__doc__)
    parser.add_argument("series", nargs="*", default=["constant", "recorded", "closed", "cpu", "latency", "memory"],
                        help="which to measure: constant recorded bursty closed cpu latency memory drift")
    parser.add_argument("--tools", default=",".join(tool.name for tool in tools.ALL), help="which to compare")
    parser.add_argument("--rounds", type=int, default=5, help="how often each tool is measured")
    parser.add_argument("--rate", type=float, default=1_000, help="requests a second of constant, recorded, latency and drift")
    parser.add_argument("--drift-minutes", type=float, default=10, help="how long drift takes for each tool")
    parser.add_argument("--seconds", type=float, help="how long each measurement takes, instead of the usual time of its series")
    parser.add_argument("--quick", action="store_true", help="one round of a second or two, to see whether everything works")
    parser.add_argument("--pin", action="store_true", help="the observer on core 0 with real-time priority, the tool on core 1")
    parser.add_argument("--real-time", action="store_true", help="tools may take real-time priority, which of these only tuningfork does")
    parser.add_argument("--busy", type=int, default=0, metavar="N", help="beside N processes that compute all the time")
    parser.add_argument("--install", action="store_true", help="first install the tools that registries have (needs root)")
    parser.add_argument("--json", metavar="FILE", help="also write every single measurement")
    options = parser.parse_args()
    if options.install:
        tools.install()
    wanted = [kind() for kind in tools.ALL if kind.name in options.tools.split(",")]
    present = [tool for tool in wanted if tool.program]
    missing = [tool.name for tool in wanted if not tool.program]
    if not present:
        sys.exit(f"not installed: {', '.join(missing)}; try --install")
    observed.program()
    with tempfile.TemporaryDirectory(prefix="tuningfork-bench-") as directory, busy(options.busy):
        options.rounds = 1 if options.quick else options.rounds
        bench = Bench(options, present, Path(directory))
        seconds = lambda usual: 2 if options.quick else options.seconds or usual
        todo = {"constant": lambda: bench.arrivals("constant", options.rate, seconds(20)),
                "recorded": lambda: bench.arrivals("recorded", options.rate, seconds(60)),
                "bursty": lambda: bench.arrivals("bursty", options.rate, seconds(60)),
                "closed": lambda: bench.closed(seconds(10)), "cpu": lambda: bench.cpu(10_000, seconds(10)),
                "latency": lambda: bench.latency(options.rate, seconds(10)), "memory": lambda: bench.memory(seconds(5)),
                "drift": lambda: bench.arrivals("drift", options.rate, seconds(60 * options.drift_minutes))}
        for series in options.series:
            if series not in todo:
                sys.exit(f"no series {series!r}: {', '.join(todo)}")
        for series in options.series:
            todo[series]()
    print(f"\nNot installed: {', '.join(missing) or 'none'}. Not available from Debian, PyPI or crates.io: "
          + "; ".join(f"{name} ({why})" for name, why in tools.NOT_AVAILABLE.items()) + ".")
    if options.json:
        Path(options.json).write_text(json.dumps(bench.results, indent=1) + "\n")


if __name__ == "__main__":
    main(run)
