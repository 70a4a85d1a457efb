#!/usr/bin/env python3
"""Makes what `regret.py`, `capacity` and `tuningfork tune` ask for, of a real Wagtail site (tests/apps/wagtail): a virtual environment with the pinned
packages from PyPI, a seeded database, a configuration for each worker class, and a recording of its traffic.

Without --log the traffic is made up: pages by popularity (rank r is asked for in proportion to 1/r), at random times. With --log it has that log's
mix: its path of rank r, by how often it was asked for, becomes the site's path of rank r (the site has fewer: the next lap begins with the first again),
what was not found becomes what is not found, and order and times stay. Only GET is taken over. What exists already is kept.
"""

import argparse
import collections
import gzip
import json
import random
import re
import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import common

SITE = common.ROOT / "tests/apps/wagtail"
VENV = common.PARTS / "wagtail"
CLASSES = {"sync": None, "gthread": 4, "gevent": 10}  # connections of the baseline
REQUESTS, SECONDS, SEED = 3000, 120, 11
MISSING_SHARE = 0.02
LOGGED = re.compile(r'^(\S+ \S+ \S+ \[[^]]+\]) "GET (\S+) HTTP/[\d.]+" (\d{3}) ')


def interpreter():
    """The Python of a virtual environment that has exactly what requirements.txt says."""
    wanted, stamp, program = (SITE / "requirements.txt").read_text(), VENV / "stamp", VENV / "bin/python"
    if not stamp.exists() or stamp.read_text() != wanted:
        common.say(f"making {VENV.relative_to(common.ROOT)}")
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(program), "-m", "pip", "install", "-q", "-r", str(SITE / "requirements.txt")], check=True)
        stamp.write_text(wanted)
    return str(program)


def manage(python, database, *command):
    """What manage.py prints."""
    return subprocess.run([python, "manage.py", *command], cwd=SITE, env=common.environment({"MAGAZINE_DB": str(database)}), check=True,
                          stdout=subprocess.PIPE, text=True).stdout


def seeded(python, database):
    """The site's paths, the most read first. The database appears whole or not at all."""
    if not database.exists():
        common.say("seeding the site")
        draft = database.with_suffix(".part")
        for file in database.parent.glob(draft.name + "*"):
            file.unlink()
        for command in (["migrate", "-v0"], ["seed"]):
            manage(python, draft, *command)
        draft.rename(database)
    return manage(python, database, "paths").split()


def configuration(directory, python, worker_class, database, port):
    """Its `workers` are left to the folk rule, as a user's are who never thought of them."""
    connections = CLASSES[worker_class]
    size = 'workers = "auto"\n' + (f"connections = {connections}\n" if connections else "")
    app = {"kind": "python", "app": "magazine.wsgi:application", "worker-class": worker_class, "interpreter": python, "directory": str(SITE)}
    keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in app.items())
    file = directory / f"tuningfork-{worker_class}.toml"
    file.write_text(f'{size}[app]\n{keys}env = {{ MAGAZINE_DB = {json.dumps(str(database))} }}\n'
                    f'[listen]\naddress = "127.0.0.1:{port}"\n')
    return file


def made_up(paths):
    """Lines of an access log."""
    chance = random.Random(SEED)
    began = datetime(2026, 11, 22, tzinfo=timezone.utc)
    weights = [1 / rank for rank in range(1, len(paths) + 1)]
    for second in sorted(chance.uniform(0, SECONDS) for _ in range(REQUESTS)):
        missing = chance.random() < MISSING_SHARE
        path = f"/missing/{chance.randint(1, 50)}/" if missing else chance.choices(paths, weights)[0]
        moment = (began + timedelta(seconds=second)).strftime("%d/%b/%Y:%H:%M:%S %z")
        yield f'203.0.113.{chance.randint(1, 254)} - - [{moment}] "GET {path} HTTP/1.1" {404 if missing else 200} 0 "-" "-"'


def opened(file):
    return gzip.open(file, "rt", errors="replace") if file.suffix == ".gz" else open(file, errors="replace")


def mapped(log, paths):
    """The lines of a combined log, with the site's paths for its own. The same log gives the same lines."""
    with opened(log) as file:
        asked = [found.groups() for found in map(LOGGED.match, file) if found]
    if not asked:
        sys.exit(f"{log}: no line of the combined format with GET")
    missing = {(path, status) for _, path, status in asked if status in ("404", "410")}
    ranks = {}
    for kind in (True, False):
        counted = collections.Counter(path for _, path, status in asked if ((path, status) in missing) == kind)
        ranks[kind] = {path: rank for rank, (path, _) in enumerate(sorted(counted.items(), key=lambda item: (-item[1], item[0])))}
    for begin, path, status in asked:
        lost = (path, status) in missing
        rank = ranks[lost][path]
        target = f"/missing/{rank}/" if lost else paths[rank % len(paths)]
        # What the site will answer: the log's redirects and cached answers were those of other pages.
        yield f'{begin} "GET {target} HTTP/1.1" {404 if lost else 200} 0 "-" "-"'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="where to put it; it is made")
    parser.add_argument("--log", type=Path, help="an access log in combined format, perhaps gzipped, whose mix the traffic is to have")
    options = parser.parse_args()
    common.need(common.binary)
    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    python, database = interpreter(), directory / "magazine.sqlite3"
    paths = seeded(python, database)
    access, recording = directory / "access.log", directory / "traffic.jsonl"
    access.write_text("\n".join(mapped(options.log, paths) if options.log else made_up(paths)) + "\n")
    subprocess.run([common.binary(), "record", "import", str(access), "-o", str(recording)], check=True)
    for worker_class in CLASSES:
        config = configuration(directory, python, worker_class, database, common.free_port())
        print(f"--config {config} --traffic {recording}")


if __name__ == "__main__":
    common.main(main)
