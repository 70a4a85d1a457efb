#!/usr/bin/env python3
"""Whether a study survives SIGKILL, or Ctrl-C (--signal INT), at any instant: kills `tuningfork tune` at seeded moments and looks at what is left.

A simulated study (tests/simulator.py) is run once undisturbed. Then it is killed again and again, by turns as --trial-command and as --trial-server,
each time at another moment between its start and its end, and resumed to its end. A kill that came when it had ended does not count. After each that does:

  processes  none of it is left, neither tune's own nor those of its trial programs, but for the guard that ends the latter, which goes soon after
  journal    what is there is the beginning of the undisturbed study's, to the byte; at most the last line is cut off
  finished   every trial that tune said was finished is there
  end        the resumed study ends with the undisturbed one's journal and its result

A Ctrl-C ends it with 130, or by the signal itself before it has begun. With --demo N the real demo is killed N times and goes on each time: its
workers must be gone, and its journal begin with what it held before. Ends with 1 if anything was not so. A simulated kill takes about a second, one of
the demo about half a minute.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import common

MARK = "TUNINGFORK_KILLS"  # in the environment of every process of a study
GONE_SECONDS = 5  # within which the kernel has ended those of a killed study
GUARDED_SECONDS = 15  # within which its guard has ended too
GUARD = ('kill -s TERM -- "-$0"', "sleep ")  # what it is, and what it waits by
INTERRUPTED = 130  # the exit code of one that was told to end
MOST_TRIES = 4  # for each kill that meets it while it runs
THINKS = 0.02  # seconds a simulated trial takes
SPACE = "--cores 16 --max-workers 64 --max-connections 200 --slo p90<700ms,errors<0.1%"
FORMS = ("command", "server")
DEMO_SECONDS = 40  # until the demo is killed, at most: a trial or two


class Study:
    """One folder with a journal, in which a study is started, killed and resumed."""

    def __init__(self, program, folder, arguments):
        self.program, self.folder, self.arguments = program, Path(folder), arguments
        self.mark = uuid.uuid4().hex
        self.journal, self.result, self.said = (self.folder / name for name in ("journal.jsonl", "result.json", "said"))

    def start(self, more=()):
        command = [self.program, "tune", *self.arguments, "--journal", str(self.journal), "--json", str(self.result), *more]
        environment = {**os.environ, MARK: self.mark, "XDG_STATE_HOME": str(self.folder)}
        with open(self.said, "wb") as said:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL, stderr=said)

    def run(self, more=()):
        """To its end; the seconds that took."""
        began = time.monotonic()
        code = self.start(more).wait()
        if code != 0:
            sys.exit(f"tune ended with {code}:\n{self.said.read_text()}")
        return time.monotonic() - began

    def kill(self, after, signal_, more=()):
        """Starts it and kills it that many seconds later; whether it was still running."""
        process = self.start(more)
        time.sleep(after)
        process.send_signal(signal_)
        return process.wait() in (-signal_, INTERRUPTED)

    def left(self, seconds=GONE_SECONDS, guarded=True):
        """Processes that outlive it by so long, its guard apart if that is still at work."""
        ends = time.monotonic() + seconds
        while (found := [line for line in marked(self.mark) if not (guarded and is_guard(line))]) and time.monotonic() < ends:
            time.sleep(0.01)
        return found

    def lines(self):
        """The journal's whole lines, the header first; and whether there is a part of another."""
        whole, _, rest = self.journal.read_bytes().rpartition(b"\n") if self.journal.exists() else (b"", b"", b"")
        return whole.split(b"\n") if whole else [], bool(rest)

    def finished(self):
        """The trials that it said were finished."""
        return len(re.findall(rb"(?m)^trial \d+ of about .*: .*\n", self.said.read_bytes()))


def marked(mark):
    """Processes whose environment has the mark."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (place / "environ").read_bytes():
                yield f"{place.name} {(place / 'cmdline').read_bytes().replace(bytes(1), b' ').decode(errors='replace')}"
        except OSError:
            continue


def is_guard(line):
    """Whether a process, as `marked` tells it, is what ends a trial program whose tune is gone."""
    return GUARD[0] in line or line.split(" ", 1)[1].startswith(GUARD[1])


def same_header(one, other):
    """Apart from when they began."""
    one, other = json.loads(one), json.loads(other)
    one["about"].pop("started"), other["about"].pop("started")
    return one == other


def trials(journal):
    """How many it holds; other lines are its header and why it ended."""
    return sum(line.startswith(b'{"suggestion":') for line in journal)


def begins(journal, whole):
    """Whether the lines are the first of `whole`."""
    return not journal or (same_header(journal[0], whole[0]) and journal[1:] == whole[1 : len(journal)])


def simulated(options):
    """Kills the simulated study; what was wrong, a line a kill."""
    chance, wrong, counts = random.Random(options.seed), [], {"running": 0, "cut off": 0, "trials": 0}
    simulator = f"{sys.executable} {common.ROOT / 'tests/simulator.py'} --thinks {THINKS}"
    whole, result, seconds, studies = {}, {}, {}, []
    for form in FORMS:
        with tempfile.TemporaryDirectory() as folder:
            study = of_form(options.program, folder, form, simulator)
            seconds[form] = study.run()
            whole[form], result[form] = study.lines()[0], json.loads(study.result.read_text())
    number = 0
    while counts["running"] < options.kills and number < MOST_TRIES * options.kills:
        number, form = number + 1, FORMS[number % len(FORMS)]
        with tempfile.TemporaryDirectory() as folder:
            study, after = of_form(options.program, folder, form, simulator), chance.uniform(0, seconds[form])
            studies.append(study)
            if not study.kill(after, options.signal):
                continue
            counts["running"] += 1
            left, (found, torn), finished = study.left(), study.lines(), study.finished()
            counts["cut off"] += torn
            counts["trials"] += trials(found)
            faults = [f"left {left}"] * bool(left)
            faults += ["another journal"] * (not begins(found, whole[form]))
            faults += [f"{finished} trials were finished, {trials(found)} are there"] * (finished > trials(found))
            resumable = study.journal.exists()
            try:
                study.run(["--resume"] if resumable else [])
                faults += ["another end"] * (study.lines()[0][1:] != whole[form][1:])
                faults += ["another result"] * (json.loads(study.result.read_text()) != result[form])
            except SystemExit as error:
                faults.append(str(error))
            wrong += [f"kill {number} ({form}, after {after:.3f} s): {fault}" for fault in faults]
    wrong += [f"left in the end: {left}" for study in studies if (left := study.left(GUARDED_SECONDS, guarded=False))]
    if counts["running"] < options.kills:
        wrong.append(f"only {counts['running']} of {number} kills met a running study")
    print(f"{counts['running']} kills of the simulated study while it ran, of {number}, seed {options.seed}: {counts['trials']} trials in the journals, "
          f"{counts['cut off']} lines cut off; the undisturbed study: {trials(whole['command'])} trials in {seconds['command']:.2f} s (command), {seconds['server']:.2f} s (server)")
    return wrong


def of_form(program, folder, form, simulator):
    called = f"{simulator} --server" if form == "server" else simulator
    return Study(program, folder, [f"--trial-{form}", called, *SPACE.split()])


def demo(options):
    """Kills the demo and lets it go on; what was wrong."""
    chance, wrong = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as folder:
        study, before = Study(options.program, folder, ["--demo", "--quick", "--budget", "1h"]), []
        for number in range(options.demo):
            more = ["--resume"] if before else []
            study.journal.unlink(missing_ok=True) if not before else None
            after = chance.uniform(0, DEMO_SECONDS)
            running, left, (found, _) = study.kill(after, options.signal, more), study.left(), study.lines()
            faults = [f"left {left}"] * bool(left) + ["it ended by itself"] * (not running)
            faults += ["another journal"] * (found[: len(before)] != before)
            finished = study.finished()
            gained = trials(found) - trials(before)
            faults += [f"{finished} more were finished, {gained} are there"] * (finished > gained)
            wrong += [f"demo, kill {number} (after {after:.1f} s): {fault}" for fault in faults]
            before = found
        # A budget that is used up: it takes up what is there and concludes.
        concluded = Study(options.program, folder, ["--demo", "--quick", "--budget", "1s"]) if before else study
        concluded.run(["--resume"] if before else [])
        taken = re.search(r"(\d+) trials taken up", concluded.said.read_text())
        if before and (taken is None or int(taken[1]) != trials(before) or concluded.lines()[0][: len(before)] != before):
            wrong.append(f"demo, at the end: {trials(before)} trials were there\n{concluded.said.read_text()}")
    print(f"{options.demo} kills of the demo, each going on from the one before: {trials(before)} trials finished, and taken up at the end")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="of the simulated study (default: 200)")
    parser.add_argument("--demo", type=int, default=0, metavar="N", help="of the real demo (default: none)")
    parser.add_argument("--signal", choices=("KILL", "INT"), default="KILL", help="what ends it (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--program", help="tuningfork (default: target/release/tuningfork)")
    options = parser.parse_args()
    options.program = str(Path(options.program).resolve()) if options.program else common.binary()
    options.signal = signal.Signals[f"SIG{options.signal}"]
    wrong = (simulated(options) if options.kills else []) + (demo(options) if options.demo else [])
    print("\n".join(wrong) or "nothing was lost, nobody was left")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
