#!/usr/bin/env python3
"""What `record live` makes of the shop under Locust, and what `replay` makes of that.

Locust asks for the shop's pages, faster and slower by turns; every request carries a secret of its own, in one of six places. A part of the
connections is recorded from the running service, the recording is searched for every secret that was sent and audited, and then replayed
as recorded. Prints both rates over time beside each other. Ends with 1 if a secret is found, a request failed, or the recording is empty.
"""

import json
import re
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path
from urllib.parse import unquote

import common
import tools

LOCUSTFILE = """
import itertools
from urllib.parse import quote

from locust import FastHttpUser, LoadTestShape, constant_throughput, task

PATHS = json.loads(open({paths!r}).read())
SENT = open({sent!r}, "w", buffering=1)
NUMBERS = itertools.count()


def disguised(number):
    secret = "s3cr%06dEt" % number
    mail = "ann.%06d@mail.example.org" % number
    return [
        (secret, "", {{"Cookie": "theme=dark; sessionid=" + secret}}),
        (secret, "", {{"Authorization": "Bearer " + secret}}),
        (secret, "token=" + secret, {{}}),
        (secret, "", {{"X-Api-Key": secret}}),
        (mail, "q=" + quote(mail), {{}}),
        (secret, "", {{"X-Customer": secret}}),
    ][number % 6]


class Client(FastHttpUser):
    wait_time = constant_throughput(2)

    @task
    def get(self):
        number = next(NUMBERS)
        secret, query, headers = disguised(number)
        path = PATHS[number % len(PATHS)]
        SENT.write(secret + "\\n")
        mark = ("&" if "?" in path else "?") if query else ""
        self.client.get(path + mark + query, headers=headers, name="any")


class Waves(LoadTestShape):
    def tick(self):
        at = self.get_run_time()
        if at > {seconds}:
            return None
        return (20 if int(at / {seconds} * 6) % 2 == 0 else 60), 40
"""
# Where the secrets are in what is recorded, with as many letters as were sent there.
PLACES = re.compile(r"sessionid=([^;\n]{12})(?![^;\n])|^(?:Authorization: Bearer|X-Api-Key:|X-Customer:) (.{12})$|[?&]token=([^&\n]{12})(?![^&\n])"
                    r"|[?&]q=([^&\n]{29})(?![^&\n])", re.MULTILINE)
BLOCKS = " ▁▂▃▄▅▆▇█"


def control(config, socket):
    """Gives the service a control socket."""
    with open(config, "a") as file:
        file.write(f'[control]\nsocket = "{socket}"\n')


def locust(directory, port, paths, seconds):
    (directory / "paths.json").write_text(json.dumps(paths))
    text = "import json\n" + LOCUSTFILE.format(paths=str(directory / "paths.json"), sent=str(directory / "sent"), seconds=seconds)
    (directory / "locustfile.py").write_text(text)
    program = tools.Locust().find()
    if program is None:
        sys.exit("locust is missing: benches/peers.py --install")
    command = [program, "--headless", "-f", str(directory / "locustfile.py"), "-H", f"http://127.0.0.1:{port}", "--only-summary",
               "--csv", str(directory / "told")]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def failures(directory):
    heading, *_, total = ((directory / "told_stats.csv").read_text().splitlines())
    row = dict(zip(heading.split(","), total.split(",")))
    return int(row["Request Count"]), int(row["Failure Count"])


def rates(recording):
    """Requests of every second since the first."""
    times = sorted(json.loads(line)["t"] for line in recording.read_text().splitlines() if '"meta"' not in line[:10])
    counts = [0] * (int(times[-1] - times[0]) + 1)
    for time in times:
        counts[int(time - times[0])] += 1
    return counts


def planted(recording):
    """What stands in the recording where a secret was planted, a list for every request."""
    for line in recording.read_text().splitlines()[1:]:
        request = json.loads(line)
        lines = [request["u"], *(f"{name}: {value}" for name, value in request["h"])]
        yield [unquote("".join(groups)) for groups in PLACES.findall("\n".join(lines))]


def curve(counts, most):
    return "".join(BLOCKS[-(-count * 8 // max(1, most))] for count in counts)


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="how long Locust asks")
    parser.add_argument("--keep", type=Path, help="an existing directory where recording, report and page are left")
    options = parser.parse_args()
    common.need(common.binary, common.python)
    with common.shop() as shop:
        directory = options.keep or shop.directory
        failed = measure(shop, directory, options.seconds)
    sys.exit(1 if failed else 0)


def measure(shop, directory, seconds):
    port, recording = common.free_port(), directory / "live.jsonl"
    config = shop.config("gevent", 2, 100, port)
    control(config, shop.directory / "control.sock")
    run = lambda *arguments: subprocess.run([common.binary(), *map(str, arguments)], capture_output=True, text=True)
    with common.Server([common.binary(), "run", "-c", str(config)]) as server:
        server.await_workers(2)
        load = locust(shop.directory, port, shop.mix(), seconds)
        live = run("record", "live", "-c", config, "-o", recording, "--share", "1", "--duration", f"{seconds}s")
        load.wait()
        sent, bad = failures(shop.directory)
        print(live.stdout + live.stderr)
        secrets = (shop.directory / "sent").read_text().split()
        text = recording.read_text()
        survivors = [secret for secret in secrets if secret in text or secret.replace("@", "%40") in text]
        print(f"Locust: {sent} requests, {bad} failed, {len(secrets)} secrets sent; {len(survivors)} of them in the recording")
        places = list(planted(recording))
        unplaced = sum(len(values) != 1 for values in places)
        kept = set(secrets)
        scrubbed = sum(value not in kept for values in places for value in values)
        print(f"recorded: {len(places)} requests, {unplaced} without the place of their secret; "
              f"{scrubbed} of {sum(map(len, places))} planted secrets scrubbed")
        audit = run("record", "audit", recording)
        print(audit.stdout + audit.stderr)
        print(run("record", "info", recording).stdout)
        report = directory / "replay.json"
        replay = run("replay", recording, "--target", f"http://127.0.0.1:{port}", "--json", report, "--html", directory / "replay.html")
        print(replay.stdout + replay.stderr)
    recorded, played = rates(recording), [second["sent"] for second in json.loads(report.read_text())["series"]]
    most = max(recorded + played)
    print(f"requests a second, at most {most}\nrecorded {curve(recorded, most)}\nreplayed {curve(played, most)}")
    # A request that moves from one second to another is missing in one and too many in the other.
    moved = sum(abs(one - other) for one, other in zip_longest(recorded, played, fillvalue=0)) / 2
    print(f"the counts of seconds differ as if {moved:g} of {sum(recorded)} requests had moved to another second (more may have, and others back)")
    return bad or survivors or unplaced or audit.returncode or replay.returncode or not recorded


if __name__ == "__main__":
    common.main(main)
