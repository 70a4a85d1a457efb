#!/usr/bin/env python3
"""The fault suite against tuningfork and against gunicorn, as one table in Markdown.

Tests are found by the fault's number in their names, and in tests/it/faults/catalogue.toml, which also says which of them can be run
against gunicorn with the same application. Both runs are `cargo test --release` of these tests; each cell is what the test found, or why it failed.
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict

import common

CATALOGUE = common.ROOT / "tests/it/faults/catalogue.toml"
SHOWN = 260  # characters of a reason


def program(options):
    """What runs tests."""
    if options.program:
        return [options.program]
    return ["cargo", "test", *([] if options.debug else ["--release"]), "--test", "it", "--"]


def run(tests, subject, options):
    """Which tests passed, what they found (fault → sentences), and the first line of why each of the others failed."""
    with tempfile.TemporaryDirectory(prefix="tuningfork-bench-") as folder:
        file = os.path.join(folder, "findings")
        env = {**common.environment({}), "FAULT_FINDINGS": file, **({"SUPERVISOR_UNDER_TEST": subject} if subject else {})}
        command = [*program(options), "--exact", f"--test-threads={options.threads}", *sorted(tests)]
        said = subprocess.run(command, cwd=common.ROOT, env=env, text=True, errors="replace", stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT).stdout
        results = dict(re.findall(r"^test (\S+) \.\.\. (ok|FAILED)$", said, re.M))
        if len(results) != len(tests):
            sys.exit(said[-4000:] + f"\n{len(results)} of {len(tests)} tests were run")
        reasons = {name: reason.strip().splitlines()[0] for name, reason in
                   re.findall(r"^---- (\S+) stdout ----\n+thread .*? panicked at [^\n]*:\n(.*?)(?=\nstack backtrace|\nnote: )", said, re.M | re.S)}
        found = defaultdict(list)
        if os.path.exists(file):
            for line in open(file):
                faults, good, words = line.rstrip("\n").split("\t")
                for fault in faults.split(", "):
                    found[fault].append((good == "ok", words))
        return results, reasons, found


def tests_of(fault, options, known={}):
    """The tests of the integration crate that cause it. They are listed once."""
    if not known:
        said = subprocess.run([*program(options), "--list", "--format", "terse"], cwd=common.ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout
        known["names"] = re.findall(r"^(\S+): test$", said, re.M)
    named = [name for name in known["names"] if fault["id"].lower() in re.match(r"(f\d\d[zg]?_)*", name.rpartition("::")[2]).group()]
    return sorted({*named, *fault.get("also", [])})


def unit_tests(fault):
    """How many tests beside the code are named after it."""
    sources = (path.read_text() for path in (common.ROOT / "src").rglob("*.rs"))
    return sum(len(re.findall(rf"fn (?:f\d\dz?_)*{fault['id'].lower()}z?_", source)) for source in sources)


def cell(fault, tests, results, reasons, found):
    """✓ or ✗, and what was seen."""
    good = all(results[test] == "ok" for test in tests)
    sentences = [words for variant in (fault["id"], fault["id"] + "z") for _, words in found[variant]]
    told = {re.sub(r"^F\d\dz?(, F\d\dz?)*: ", "", reasons.get(test, "")) for test in tests if results[test] != "ok"}
    sentences += [reason for reason in sorted(told) if reason and reason not in sentences]
    shown = " · ".join(dict.fromkeys(sentence.replace("|", "/")[:SHOWN] for sentence in sentences))
    return f"{'✓' if good else '✗'} {shown}".rstrip()


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--debug", action="store_true", help="test the debug build: quicker to build")
    parser.add_argument("--program", help="a test program that `cargo test --test it --no-run` named, instead of cargo")
    parser.add_argument("--threads", type=int, default=4, help="tests at a time")
    parser.add_argument("--only", nargs="*", help="only these faults, such as F07")
    options = parser.parse_args()
    common.need(common.python)
    faults = [{**fault, "tests": tests_of(fault, options)} for fault in tomllib.loads(CATALOGUE.read_text())["fault"] if not options.only or fault["id"] in options.only]
    version = subprocess.run([common.python(), "-m", "gunicorn", "--version"], capture_output=True, text=True).stdout
    version = re.search(r"[\d.]+", version).group()
    ours = run({test for fault in faults for test in fault["tests"]}, None, options)
    theirs = run({fault["gunicorn"] for fault in faults if "gunicorn" in fault}, "gunicorn", options)
    print(f"| F | fault | tuningfork | gunicorn {version} |\n|---|---|---|---|")
    for fault in faults:
        own = cell(fault, fault["tests"], *ours)
        if units := unit_tests(fault):
            own += f" · {units} unit tests"
        other = cell(fault, [fault["gunicorn"]], *theirs) if "gunicorn" in fault else ""
        print(f"| {fault['id']} | {fault['what']} | {own} | {other} |")
    for name, (results, _, _) in (("tuningfork", ours), ("gunicorn", theirs)):
        common.say(f"{name}: {sum(result == 'ok' for result in results.values())} of {len(results)} tests passed")


if __name__ == "__main__":
    common.main(main)
