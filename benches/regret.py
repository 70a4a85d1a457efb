#!/usr/bin/env python3
"""How far what `tuningfork tune` recommends lies below the best there is, and how that differs from run to run.

Four steps, each of which goes on where it was interrupted, so that short calls add up (--minutes bounds a call):

  grid    measures every configuration of --grid, --rounds times by turns
  tune    runs `tuningfork tune` --runs times; one that is cut off by the bound goes on from its journal in the next call
  verify  measures what the runs recommended, the best of the grid and the baseline once more by turns, --rounds times
  table   prints what came out

The best of a grid is partly the luckiest, so regret comes from `verify` alone: 1 - the median of the ratios of each measurement of the recommended to
the one of the grid's best that was made next to it, so that a host whose speed moves hits both. A run that recommends nothing has a regret of 1.
Measurements that say themselves that something disturbed them are made again, and left out where others are.
Everything is kept below --results: grid.jsonl, verify.jsonl, PACE-N.json (what tune said), PACE-N.jsonl (its journal), runs.jsonl (what it took).
"""

import argparse
import json
import math
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import common

STEPS = ("grid", "tune", "verify", "table")
SLO = "p90<700ms,errors<0.1%"
VOIDING = {"generator-late", "generator-short", "steal", "other-programs", "worker-crashed"}
EXTRA_TRIES = 2  # of a configuration whose measurements were disturbed
STOP_SECONDS = 60
SAME = "no difference seen"
NEAR, SOON_MINUTES = 0.05, 6  # what is asked of a run: within this share of the best, in so many minutes


def candidate(text):
    """5x10 as (5, 10)."""
    workers, _, connections = text.replace("×", "x").partition("x")
    try:
        return int(workers), int(connections or 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: write workers and connections as 5x10") from None


def of(told):
    return told and (told["workers"], told["connections"])


def name(pair):
    return "–" if pair is None else "%dx%d" % pair


def lines(file):
    """What a file of JSON Lines holds; a last line that was cut off is passed over."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            common.say(f"{file.name}: a broken line passed over")
    return found


class Campaign:
    """What was measured so far, and the means to go on."""

    def __init__(self, options):
        self.options, self.folder = options, options.results
        self.ends = time.monotonic() + options.minutes * 60
        self.folder.mkdir(parents=True, exist_ok=True)

    def left(self):
        """Seconds."""
        return self.ends - time.monotonic()

    # Measuring by turns

    def measured(self, step):
        """What was measured of each configuration, undisturbed where there is such: {(workers, connections): [line, …]}."""
        found = defaultdict(list)
        for line in lines(self.folder / f"{step}.jsonl"):
            if line["slo"] == self.options.slo and line["pace"] == self.options.trials:
                found[of(line)].append(line | {"place": sum(map(len, found.values()))})
        return {pair: [line for line in all_of_it if sound(line)] or all_of_it for pair, all_of_it in found.items()}

    def due(self, step, candidates):
        """What is left to measure, by turns; every other round backwards, so that what drifts hits all alike."""
        sound_ones, tries = Counter(), Counter()
        for line in lines(self.folder / f"{step}.jsonl"):
            if line["slo"] == self.options.slo and line["pace"] == self.options.trials:
                tries[of(line)] += 1
                sound_ones[of(line)] += sound(line)
        rounds = self.options.rounds
        missing = {pair: min(rounds - sound_ones[pair], rounds + EXTRA_TRIES - tries[pair]) for pair in candidates}
        order = []
        for number in range(rounds):
            turn = candidates if number % 2 == 0 else candidates[::-1]
            order += [pair for pair in turn if missing[pair] >= rounds - number]
        return order

    def measure(self, step, candidates, best=None):
        while (order := self.due(step, candidates)) and self.left() > 0:
            common.say(f"{step}: {len(order)} measurements to go")
            self.capacity(step, order if best is None or best in order else beside(best, order))
        order = self.due(step, candidates)
        print(f"{step}: {len(order)} measurements to go" if order else f"{step}: complete")
        return not order

    def capacity(self, step, order):
        options = self.options
        pace = ["--quick"] if options.trials == "quick" else []
        # Candidates in the order of `order`, in a single round.
        command = ["cargo", "bench", "-q", "--bench", "capacity", "--", "--config", options.config, "--traffic", options.traffic, "--slo", options.slo,
                   *pace, "--rounds", "1", "--within", f"{max(1, int(self.left()))}s", "--json", self.folder / f"{step}.jsonl", *map(name, order)]
        subprocess.run(list(map(str, command)), cwd=common.ROOT, env=common.environment({}), check=True)

    # The tuner

    def tune(self):
        for number in range(1, self.options.runs + 1):
            while not self.told(number) and self.left() > 0:
                self.run(number)
        done = sum(self.told(number) is not None for number in range(1, self.options.runs + 1))
        print(f"tune: {done} of {self.options.runs} runs made")
        return done == self.options.runs

    def file(self, number, kind):
        return self.folder / f"{self.options.pace}-{number}.{kind}"

    def told(self, number):
        """What a finished run said."""
        file = self.file(number, "json")
        told = json.loads(file.read_text()) if file.exists() else None
        return told if told and not told["partial"] else None

    def run(self, number):
        """A run, or a part of it."""
        options, journal = self.options, self.file(number, "jsonl")
        command = [common.binary(), "tune", "--config", options.config, "--traffic", options.traffic, "--slo", options.slo,
                   "--json", self.file(number, "json"), "--journal", journal]
        command += ["--resume"] if journal.exists() else []
        command += ["--quick"] if options.pace == "quick" else []
        common.say(f"tune: run {number}")
        began = time.monotonic()
        with open(self.file(number, "said"), "a") as said:
            process = subprocess.Popen(list(map(str, command + options.tune_options)), stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
                                       env=common.environment({}))
            try:
                process.wait(max(1, self.left()))
            except subprocess.TimeoutExpired:
                common.say(f"tune: run {number} is cut off and goes on in the next call")
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGINT)
                    process.wait(STOP_SECONDS)
        note = {"run": number, "pace": options.pace, "seconds": time.monotonic() - began, "code": process.returncode}
        with open(self.folder / "runs.jsonl", "a") as file:
            file.write(json.dumps(note) + "\n")
        if not self.told(number) and self.left() > 0:
            sys.exit(f"tune ended with {process.returncode}: see {said.name}")

    def runs(self):
        """(number, what it said, minutes) of each finished run."""
        seconds = Counter()
        for line in lines(self.folder / "runs.jsonl"):
            seconds[line["pace"], line["run"]] += line["seconds"]
        numbers = range(1, self.options.runs + 1)
        return [(number, told, seconds[self.options.pace, number] / 60) for number in numbers if (told := self.told(number))]

    # What came out

    def best(self):
        """Of the grid, by the median."""
        grid = self.measured("grid")
        return max(grid, key=lambda pair: middle(grid[pair]), default=None)

    def verify(self):
        recommended = [of(told["recommended"]) for _, told, _ in self.runs()]
        baselines = [of(told["baseline"]) for _, told, _ in self.runs()]
        wanted = [pair for pair in dict.fromkeys([self.best(), *baselines, *recommended]) if pair]
        return self.measure("verify", wanted, self.best())

    def table(self):
        self.grid_table()
        if self.runs():
            self.runs_table()
        return True

    def grid_table(self):
        grid, best = self.measured("grid"), self.best()
        print(f"Grid: {len(grid)} configurations, {self.options.slo}, {self.options.trials} trials; median (least – most)")
        rows = [["", "req/s", "of best", "p90 ms", "CPU %", "MiB", "trials", "flags"]]
        for pair, found in sorted(grid.items(), key=lambda item: -middle(item[1])):
            flags = Counter(flag for line in found for flag in line.get("flags", []))
            rows.append([name(pair), common.spread(capacities(found)), "%.2f" % (middle(found) / (middle(grid[best]) or 1)), figure(found, "p90", 1e3),
                         cpu(found), figure(found, "memory_bytes", 1 / (1 << 20)), len(found),
                         ", ".join(f"{count} {flag}" for flag, count in flags.items())])
        common.table(rows)

    def runs_table(self):
        """The grid's best is that of `verify`, whose measurements chose nothing."""
        verified, best = self.measured("verify"), self.best()
        top = middle(verified.get(best, []))
        print(f"\nRuns; the grid's best, {name(best)}, measured again: {common.spread(capacities(verified.get(best, [])))} req/s")
        rows = [["run", "recommended", "verdict", "ratio told", "trials", "minutes", "true req/s", "regret %", "stopped because"]]
        regrets, within, soon, farther, verdicts = [], 0, 0, 0, Counter()
        for number, told, minutes in self.runs():
            pair = of(told["recommended"])
            if pair is None:
                regret, farther = 1.0, farther + 1
            else:
                ratios = paired(verified[pair], verified[best]) if pair in verified and top else []
                regret = 1 - statistics.median(ratios) if ratios else None
                farther += is_farther(ratios)
            verdicts[verdict(told)] += 1
            if regret is not None:
                regrets.append(regret)
                within += regret <= NEAR
                soon += regret <= NEAR and minutes <= SOON_MINUTES
            rows.append([number, name(pair), verdict(told), ratio(told), len(told["trials"]), "%.1f" % minutes,
                         common.spread(capacities(verified.get(pair, []))), "–" if regret is None else "%.1f" % (regret * 100), told["stopped_because"]])
        common.table(rows)
        print("verdicts: " + ", ".join(f"{count} {words}" for words, count in verdicts.items()))
        if unknown := len(self.runs()) - len(regrets):
            print(f"verify: what {unknown} of the runs recommended was not measured again")
        if regrets:
            print(f"regret %: median {statistics.median(regrets) * 100:.1f}, p90 {common.quantile(regrets, 0.9) * 100:.1f}, most {max(regrets) * 100:.1f}; "
                  f"within {NEAR * 100:.0f} %: {within} of {len(self.runs())}, of them in {SOON_MINUTES} minutes: {soon}; "
                  f"farther than that beyond the noise (95 %): {farther}")
            print(f"true capacity of what was recommended, of the grid's best: {common.spread([1 - regret for regret in regrets], 3)}")


def beside(best, order):
    """Each next to the best, which was measured before: the host may have been faster or slower then."""
    return [pair for number, other in enumerate(order) for pair in ([other] if number % 2 else [best, other])]


def sound(line):
    """Whether a measurement counts: nothing disturbed it. A configuration that cannot be started counts as measured, at 0."""
    return not VOIDING.intersection(line.get("flags", []))


def capacities(found):
    return [line.get("capacity") or 0.0 for line in found]


def middle(found):
    return statistics.median(capacities(found)) if found else 0.0


# Student's t for 95 %, by degrees of freedom.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def is_farther(ratios):
    """Whether these ratios show, and do not only happen, to lie below what counts as near."""
    if not ratios or statistics.median(ratios) <= 0:
        return bool(ratios)
    if len(ratios) < 2 or min(ratios) <= 0:
        return False
    logs = list(map(math.log, ratios))
    half = STUDENT[min(len(logs) - 1, len(STUDENT)) - 1] * statistics.stdev(logs) / len(logs) ** 0.5
    return statistics.mean(logs) + half < math.log(1 - NEAR)


def paired(found, best):
    """The ratios of one's measurements to those of the other that were made next to them."""
    def beside(line):
        return min(best, key=lambda other: abs(other["place"] - line["place"]))
    return [(line.get("capacity") or 0.0) / beside(line)["capacity"] for line in found if beside(line).get("capacity")]


def figure(found, key, unit):
    values = [line[key] * unit for line in found if key in line]
    return "%.0f" % statistics.median(values) if values else "–"


def cpu(found):
    means = [statistics.mean(core["user"] + core["system"] for core in line["cores"]) for line in found if line.get("cores")]
    return "%.0f" % (statistics.median(means) * 100) if means else "–"


def verdict(told):
    """As the headline of the report has it."""
    said = told["verdict"]
    words = SAME if said["outcome"] in ("no-difference", "baseline-is-best") else said["outcome"] or "nothing recommended"
    is_hint = not said["confirmed"] and said["outcome"] in ("better", "no-difference", "only-best")
    return words + (", not repeated" if is_hint else "")


def ratio(told):
    return "%.2f (%.2f – %.2f)" % tuple(told["ratio"][key] for key in ("value", "low", "high")) if told["ratio"] else "–"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help="grid, tune, verify, table (default: all of them)")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--traffic", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True, help="the directory that keeps everything; a campaign each")
    parser.add_argument("--grid", type=lambda text: [candidate(word) for word in text.split()], default=[], help='such as "2x10 3x10 5x10"')
    parser.add_argument("--runs", type=int, default=10, help="how often tune runs (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each configuration is measured (default: %(default)s)")
    parser.add_argument("--pace", choices=("quick", "normal"), default="normal", help="of tune (default: %(default)s)")
    parser.add_argument("--trials", choices=("quick", "normal"), default="quick", help="of grid and verify (default: %(default)s)")
    parser.add_argument("--slo", default=SLO, help="as tune shows it (default: %(default)s)".replace("0.1%", "0.1%%"))
    parser.add_argument("--minutes", type=float, default=1e4, help="nothing new begins after so many; a trial takes up to one more")
    parser.add_argument("--tune-options", type=str.split, default=[], help='more for tune, such as "--max-workers 9"')
    options = parser.parse_args()
    if wrong := set(options.steps) - set(STEPS):
        parser.error(f"no such step: {', '.join(sorted(wrong))}")
    steps = options.steps or STEPS
    if "grid" in steps and not options.grid:
        parser.error("--grid says which configurations to measure")
    common.need(common.binary)
    campaign = Campaign(options)
    for step in STEPS:
        if step in steps:
            complete = campaign.measure("grid", options.grid) if step == "grid" else getattr(campaign, step)()
            if not complete:
                sys.exit(75)  # to be called again


if __name__ == "__main__":
    common.main(main)
