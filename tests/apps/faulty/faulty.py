"""The application of the fault tests: what `tuningfork demo-worker --faults` does, as WSGI for Gunicorn's worker classes.

Files in the directory FAULTY_DIR steer the boot: boot_fail, crash_on_boot, boot_sleep (milliseconds), die_after_ready (milliseconds).
Every boot of a worker is written into `boots`, and every request with a number (?id=7) into `ledger`, if these files exist.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import parse_qs

DIRECTORY = os.environ["FAULTY_DIR"]
# tuningfork imports this file in a zygote, which forks twice for a worker; Gunicorn's workers import it themselves.
FORKS_TO_A_WORKER = 2 if "TUNINGFORK_WORKERS" in os.environ else 0
ORPHAN_SECONDS = "300"
kept, forks = [], 0


def steered(name):
    return os.path.exists(os.path.join(DIRECTORY, name))


def millis(name):
    with open(os.path.join(DIRECTORY, name)) as file:
        return int(file.read()) / 1000


def write(name, line):
    try:
        file = os.open(os.path.join(DIRECTORY, name), os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return
    os.write(file, line.encode())
    os.close(file)


def boot():
    """In each new worker."""
    write("boots", f"{os.getpid()}\n")
    if steered("crash_on_boot"):
        os.abort()
    if steered("die_after_ready"):
        timer = threading.Timer(millis("die_after_ready"), os._exit, [1])
        timer.daemon = True
        timer.start()


def forked():
    global forks
    forks += 1
    if forks == FORKS_TO_A_WORKER:
        boot()


if steered("boot_fail"):
    raise ImportError("told to fail at boot")
if steered("boot_sleep"):
    time.sleep(millis("boot_sleep"))
if FORKS_TO_A_WORKER:
    os.register_at_fork(after_in_child=forked)
else:
    boot()


def orphan():
    """A process whose parent leaves at once."""
    script = f"sleep {ORPHAN_SECONDS} >/dev/null 2>&1 & echo $!"
    return subprocess.run(["sh", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout


def leak(count):
    kept.extend(open("/dev/null") for _ in range(count))
    return "ok\n"


def allocate(megabytes):
    kept.extend(bytearray(os.urandom(4096) * 256) for _ in range(megabytes))
    return "ok\n"


def spew(size):
    sys.stderr.write("spew " * (size // 5) + "\n")
    sys.stderr.flush()
    return "ok\n"


def ignore_term(_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return "ok\n"


def hang(_):
    while True:
        time.sleep(3600)


def sleep(milliseconds):
    time.sleep(milliseconds / 1000)


def descriptors(_):
    found = []
    for name in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            found.append(f"{name} {os.readlink('/proc/self/fd/' + name)}\n")
        except FileNotFoundError:
            pass
    return "".join(found)


def ids(_):
    groups = " ".join(map(str, os.getgroups()))
    return f"pid {os.getpid()}\nparent {os.getppid()}\nuser {os.getuid()}\ngroup {os.getgid()}\ngroups {groups}\n"


PATHS = {
    "ok": lambda _: None, "sleep": sleep, "segv": lambda _: ctypes.string_at(0), "abort": lambda _: os.abort(), "exit": os._exit,
    "hang": hang, "spew": spew, "orphan": lambda _: orphan(), "leakfd": leak, "ignore-term": ignore_term, "alloc": allocate,
    "env": lambda _: "".join(f"{name}={value}\n" for name, value in sorted(os.environ.items())), "fds": descriptors, "ids": ids,
}


class Answer(list):
    """Gunicorn closes it when it has been sent."""

    def __init__(self, body, number):
        super().__init__([body])
        self.number = number

    def close(self):
        write("ledger", f"answered {self.number} {os.getpid()}\n")


def application(environ, start_response):
    name, _, argument = environ["PATH_INFO"].strip("/").partition("/")
    number = parse_qs(environ["QUERY_STRING"]).get("id", [None])[0]
    if name not in PATHS:
        start_response("404 Not Found", [("Content-Length", "0")])
        return []
    if number:
        write("ledger", f"read {number} {os.getpid()}\n")
    while environ["wsgi.input"].read(1 << 16):
        pass
    body = PATHS[name](int(argument or 0)) or (f"ok {number}\n" if number else "ok\n")
    start_response("200 OK", [("Content-Length", str(len(body.encode()))), ("Content-Type", "text/plain")])
    return Answer(body.encode(), number) if number else [body.encode()]
