#!/usr/bin/env python3
"""Makes what `capacity` and `tuningfork tune` ask for, of the shop: a seeded database, its configuration, and a recording of its access log."""

import subprocess
from pathlib import Path

import common


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("directory", type=Path, help="where to put it; it is made")
    parser.add_argument("--class", dest="worker_class", choices=common.CLASSES, default="gevent", help="worker class")
    parser.add_argument("--connections", type=int, default=10, help="connections of a worker of the baseline")
    options = parser.parse_args()
    common.need(common.binary, common.python)
    directory = options.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    config = common.Shop(directory).config(options.worker_class, '"auto"', options.connections, common.free_port())
    recording = directory / "traffic.jsonl"
    subprocess.run([common.binary(), "record", "import", str(common.SHOP / "access.log"), "-o", str(recording)], check=True)
    print(f"--config {config} --traffic {recording}")


if __name__ == "__main__":
    common.main(main)
