"""A WSGI application for which 2 x cores + 1 sync workers are right: so many have a seat, and they just keep the cores busy.

A request computes for SEATS_CPU_MS, half of it before and half after it waits for SEATS_WAIT_MS. Each process takes one of SEATS seats (a locked file in
SEATS_FOLDER) when it needs one, as it would take a connection of a database that has so many; without one it answers 503. A seat is free again when its
process ends.
"""

import fcntl
import os
import time

FOLDER, SEATS = os.environ["SEATS_FOLDER"], int(os.environ["SEATS"])
CPU, WAIT = (float(os.environ[name]) / 1000 for name in ("SEATS_CPU_MS", "SEATS_WAIT_MS"))
BODY = b"done\n"

_seat = None


def seated():
    """Whether this process has a seat. Taken after the fork, as a lock belongs to all who inherit it."""
    global _seat
    for number in range(SEATS):
        if _seat is None:
            seat = open(os.path.join(FOLDER, f"seat-{number}"), "w")
            try:
                fcntl.flock(seat, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _seat = seat
            except OSError:
                seat.close()
    return _seat is not None


def compute(seconds):
    """CPU time, whatever else runs."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def application(environ, start_response):
    if not seated():
        start_response("503 Service Unavailable", [("Content-Length", "0")])
        return []
    compute(CPU / 2)
    time.sleep(WAIT)
    compute(CPU / 2)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    return [BODY]
