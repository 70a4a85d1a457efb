"""What the neutral observer (observer.rs) saw of a load generator, and how far that is from a plan."""

import bisect
import json
import random
import signal
import statistics
import struct
import subprocess
from dataclasses import dataclass
from functools import cache

from common import ROOT, quantile

ENTRY = struct.Struct("=IIQQ")  # index, connection, received, sent
NO_INDEX = 0xFFFFFFFF
CLIENTS = 64
PHASE_SECONDS = 0.1


# Plans

@dataclass
class Plan:
    """Requests to `/i/NUMBER`, due so many nanoseconds after the start, each of one recorded connection."""
    due: list
    connections: list

    def recording(self, file):
        """Written as JSON Lines."""
        with open(file, "w") as out:
            out.write('{"meta":{"source":"bench","ts_resolution_ns":1,"scrub":"nothing to scrub"}}\n')
            places = {}
            for number, (due, connection) in enumerate(zip(self.due, self.connections)):
                seconds, nanos = divmod(1_700_000_000_000_000_000 + due, 1_000_000_000)
                places[connection] = places.get(connection, 0) + 1
                where = "" if connection is None else '"c":"%d","n":%d,' % (connection, places[connection])
                out.write('{"t":%d.%09d,%s"m":"GET","u":"/i/%d"}\n' % (seconds, nanos, where, number))

    def timing_script(self, file, base):
        """Written for h2load: milliseconds and the URI."""
        with open(file, "w") as out:
            out.writelines("%.3f\t%s/i/%d\n" % (due / 1e6, base, number) for number, due in enumerate(self.due))


def constant(rate, seconds):
    count = int(rate * seconds)
    return Plan([round(number * 1e9 / rate) for number in range(count)], [None] * count)


def poisson(rate, seconds, seed):
    """Independent arrivals on `CLIENTS` connections."""
    chance, due, at = random.Random(seed), [], 0.0
    while (at := at + chance.expovariate(rate)) < seconds:
        due.append(round(at * 1e9))
    return Plan(due, [chance.randrange(CLIENTS) for _ in due])


def bursty(rate, seconds, seed):
    """Poisson arrivals whose rate is nine times as high in phases of 100 ms on average as in those between, as long on average."""
    chance, due, at, until, busy = random.Random(seed), [], 0.0, 0.0, False
    while at < seconds:
        if at >= until:
            at, busy, until = until, not busy, until + chance.expovariate(1 / PHASE_SECONDS)
        at += chance.expovariate(rate * (1.8 if busy else 0.2))
        if at < min(until, seconds):
            due.append(round(at * 1e9))
    return Plan(due, [chance.randrange(CLIENTS) for _ in due])


# The observer

@cache
def program():
    """Builds it, if need be."""
    built = subprocess.run(["cargo", "bench", "--bench", "observer", "--no-run", "--message-format=json-render-diagnostics"],
                           cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = (json.loads(line) for line in built.splitlines())
    return next(each["executable"] for each in messages if each.get("target", {}).get("name") == "observer" and each["executable"])


class Observer:
    """The observer, listening from the start of the `with` block. `counted` and `log()` tell once it has stopped."""

    def __init__(self, directory, listen="127.0.0.1:0", delay_us=0, remember=0, pinned=False):
        self.file = directory / "observed"
        command = [program(), "--listen", listen, "--log", str(self.file), "--delay-us", str(delay_us), "--capacity", str(remember)]
        self.process = subprocess.Popen(command + (["--cpu", "0", "--fifo"] if pinned else []), stdout=subprocess.PIPE, text=True,
                                        start_new_session=True)
        self.address = self.process.stdout.readline().removeprefix("listening on ").strip()
        self.counted = None

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.counted = json.loads(self.process.communicate()[0])

    def log(self):
        """(index, connection, received, sent) of every request that was remembered, in order of arrival."""
        return list(ENTRY.iter_unpack(self.file.read_bytes()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


# Comparing

def compare(log, plan, indexed):
    """How far what arrived is from the plan; times in microseconds.

    Nobody knows when a tool began, so lateness counts from the most punctual request. Without an index in the target, the n-th that
    arrives is held to be the n-th of the plan.
    """
    if indexed:
        seen = [entry for entry in log if entry[0] < len(plan.due)]
        pairs = [(plan.due[entry[0]], entry[2]) for entry in seen]
        missing = len(plan.due) - len({entry[0] for entry in seen})
        surplus = len(log) - (len(plan.due) - missing)
    else:
        pairs = [(due, entry[2]) for due, entry in zip(plan.due, log)]
        missing, surplus = max(0, len(plan.due) - len(log)), max(0, len(log) - len(plan.due))
    if len(pairs) < 2:
        return None
    offset = min(received - due for due, received in pairs)
    late = [(received - due - offset) / 1e3 for due, received in pairs]
    second = max(1, len(late) * 1_000_000_000 // max(1, plan.due[-1]))
    planned, gaps = differences(plan.due), differences([received for _, received in pairs])
    return {"late_p50": quantile(late, 0.5), "late_p99": quantile(late, 0.99), "late_max": max(late),
            "drift": statistics.median(late[-second:]) - statistics.median(late[:second]),
            "ks": distance(planned, gaps), "gap_p50": quantile(gaps, 0.5) / 1e3, "gap_p99": quantile(gaps, 0.99) / 1e3,
            "disorder": disorder(log, plan) if indexed else None, "missing": missing, "surplus": surplus,
            "rate": (len(pairs) - 1) * 1e9 / max(1, pairs[-1][1] - pairs[0][1])}


def differences(values):
    return [after - before for before, after in zip(values, values[1:])]


def distance(one, other):
    """Of Kolmogorov and Smirnov: the largest difference of two empirical distributions."""
    one, other = sorted(one), sorted(other)
    share = lambda values, bound: bisect.bisect_right(values, bound) / len(values)
    return max(abs(share(one, bound) - share(other, bound)) for bound in one + other)


def disorder(log, plan):
    """Requests that arrived after a later one of their recorded connection."""
    last, count = {}, 0
    for index, *_ in log:
        connection = plan.connections[index] if index < len(plan.connections) else None
        if connection is not None:
            count += index < last.get(connection, -1)
            last[connection] = max(index, last.get(connection, -1))
    return count
