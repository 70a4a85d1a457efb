#!/usr/bin/env python3
"""Memory of `tuningfork replay` by the number of recorded requests, and the time until its plan is compiled.

For each number a recording is written (every request with headers; a share of them distinct, on connections of ten requests) and replayed against a
unix socket in this process that answers at once. Peak is the kernel's ru_maxrss of the whole run. The plan is 40 bytes a request, 4 a connection,
and the bytes of each distinct request once, as counted here. Compiled is from the start of the program to its first connection, reading included;
growth is how much resident memory rises between the first answer and the last second of the run.
"""

import argparse
import os
import socket
import subprocess
import tempfile
import threading
import time

from common import binary, mebibytes, table

HEADERS = [["Accept", "text/html,application/xhtml+xml"], ["Accept-Encoding", "gzip, br"], ["Accept-Language", "en"],
           ["User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"], ["Cookie", "session=0123456789abcdef0123456789abcdef"]]
PER_CONNECTION = 10
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def write_recording(path, requests, distinct):
    """Returns the bytes of the distinct requests as they will be sent."""
    headers = str(HEADERS).replace("'", '"')
    with open(path, "w", encoding="ascii") as output:
        output.write('{"meta":{"scrub":"default"}}\n')
        for index in range(requests):
            connection, place = divmod(index, PER_CONNECTION)
            output.write(f'{{"t":{1700000000 + index / 10000:.4f},"c":"c{connection}","n":{place + 1},"m":"GET","u":"/item/{index % distinct}?view=full",'
                         f'"h":{headers},"s":200,"d":0.01,"rb":512}}\n')
    lines = sum(len(name) + len(value) + 4 for name, value in HEADERS)
    fixed = len("GET /item/?view=full HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n") + lines
    return sum(fixed + len(str(item)) for item in range(min(distinct, requests)))


class Target:
    """Answers whatever comes on a unix socket, and remembers when the first connection and the first answer were."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(128)
        self.connected = None
        self.answered = threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            self.connected = self.connected or time.monotonic()
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        try:
            while connection.recv(65536):
                connection.sendall(ANSWER)
                self.answered.set()
        except OSError:
            pass


def resident(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as counters:
        return int(counters.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(program, folder, requests, distinct, seconds):
    recording, place = os.path.join(folder, "traffic.jsonl"), os.path.join(folder, f"{requests}.sock")
    arena = write_recording(recording, requests, distinct)
    target = Target(place)
    began = time.monotonic()
    run = subprocess.Popen([program, "replay", recording, "--target", f"unix:{place}", "--clients", "4", "--duration", f"{seconds}s"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not target.answered.wait(0.1):
        if run.poll() is None and time.monotonic() - began < 120:
            continue
        run.kill()
        raise SystemExit(f"nothing was sent: {run.stderr.read().decode()}")
    early = resident(run.pid)
    time.sleep(seconds - 1)
    late = resident(run.pid)
    _, status, usage = os.wait4(run.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"the replay failed: {run.stderr.read().decode()}")
    os.unlink(recording)
    plan = 40 * requests + 4 * (requests // PER_CONNECTION) + arena
    peak = usage.ru_maxrss * 1024
    return [f"{requests:,}", f"{min(distinct, requests):,}", *(f"{mebibytes(size):.1f} MiB" for size in (plan, early)), f"{(late - early) / 1024:.0f} KiB",
            *(f"{mebibytes(size):.1f} MiB" for size in (peak, peak - plan)), f"{target.connected - began:.2f} s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, nargs="+", default=[100_000, 1_000_000, 2_000_000])
    parser.add_argument("--distinct", type=int, default=10_000, help="how many different requests there are")
    parser.add_argument("--seconds", type=int, default=4, help="how long to send")
    parser.add_argument("--program", help="another tuningfork than target/release's")
    given = parser.parse_args()
    rows = [["requests", "distinct", "plan", "resident", "growth", "peak", "peak - plan", "compiled"]]
    with tempfile.TemporaryDirectory() as folder:
        rows += [measure(given.program or binary(), folder, requests, given.distinct, given.seconds) for requests in given.requests]
    table(rows)


if __name__ == "__main__":
    main()
