#!/usr/bin/env python3
"""Lets system calls of the supervisor fail, one kind of call and one error at a time, from its start to its end.

Each run is `tuningfork run` with two demo workers under strace: it starts, is scraped, reloaded, loses a worker, and gets SIGTERM, while
the first, the fifth, or every such call of each process fails. Allowed: it goes on, or it ends with a documented exit code. Not allowed:
an end by a signal, a panic, a hang.

Counted apart is what never came to `main`: the dynamic loader and Rust's runtime end a process that cannot map memory, catch a signal or
look at its standard descriptors. Not tried is what no kernel does and what no program can live with: EINTR is for every other call at most,
as everybody tries again; epoll_wait(2) and getrandom(2) know no other error; write fails at the log only, for a wake-up by eventfd(2)
cannot fail; a supervisor of which every waitid(2) fails cannot know who has died.
"""

import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import common

CALLS = ("clone", "clone3", "execve", "openat", "accept4", "read", "write", "writev", "unlink", "epoll_wait", "epoll_ctl", "epoll_create1",
         "poll,ppoll", "pidfd_open", "pidfd_send_signal", "waitid", "sendto,sendmsg", "recvfrom,recvmsg", "pipe2", "socket", "socketpair",
         "bind", "listen", "prctl", "close", "fcntl", "mmap", "munmap", "getrandom", "eventfd2", "statx,fstat,newfstatat", "rt_sigaction")
ERRORS = ("EAGAIN", "ENOMEM", "EMFILE", "ENOSPC", "EIO", "EINTR")
WHENS = ("1", "5", "1+")
EVERY_OTHER = "1+2"
ONLY_EINTR = ("epoll_wait", "getrandom")
NOT_ALWAYS = ("waitid",)
CODES = {0, 1, 3, 4, 66, 69, 70, 71, 73, 75, 78}
LOADER = 127
START_SECONDS, END_SECONDS, LOOK_SECONDS = 6, 12, 0.02


class Run:
    """One call, one error, one when."""

    def __init__(self, call, error, when):
        self.name = f"{call} {error} {when}"
        with tempfile.TemporaryDirectory(prefix="tuningfork-inject-") as folder:
            self.outcome = self.play(Path(folder), call, error, when)

    def play(self, folder, call, error, when):
        port, metrics = common.free_port(), common.free_port()
        config, log = folder / "tuningfork.toml", folder / "log"
        config.write_text(f'workers = 2\nconnections = 4\ngraceful-timeout = 2\nboot-timeout = 3\n[app]\nkind = "command"\n'
                          f'command = ["{common.binary()}", "demo-worker", "--connections", "4"]\n[listen]\naddress = "127.0.0.1:{port}"\n'
                          f'[metrics]\nlisten = "127.0.0.1:{metrics}"\n[control]\nsocket = "{folder}/control.sock"\n')
        # -D: the program is our child, strace its grandchild.
        only = ["-P", str(log)] if call in ("write", "writev") else []
        command = ["strace", "-D", "-f", *only, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}",
                   common.binary(), "run", "-c", str(config)]
        with open(log, "w") as out:
            process = subprocess.Popen(command, env=common.environment({common.MARK: str(folder)}), stdin=subprocess.DEVNULL, stdout=out,
                                       stderr=out, start_new_session=True)
        try:
            self.course(process, log, port, metrics)
            code = process.wait(END_SECONDS)
            return self.judge(code, log.read_text(errors="replace"))
        except subprocess.TimeoutExpired:
            self.said = log.read_text(errors="replace")
            return "hang"
        finally:
            end(str(folder), process)

    def course(self, process, log, port, metrics):
        """Starts, is asked, reloads, loses a worker, is told to stop."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and process.poll() is None and "service ready" not in log.read_text(errors="replace"):
            time.sleep(LOOK_SECONDS)
        for place, path in ((port, "/ok"), (metrics, "/metrics")):
            ask(place, path)
        process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 1.0
        while time.monotonic() < until and not re.search("reload (finished|failed)", log.read_text(errors="replace")):
            time.sleep(LOOK_SECONDS)
        if worker := next((pid for pid in common.pids() if common.parent(pid) == process.pid), None):
            common.send(worker, signal.SIGKILL)
        time.sleep(0.2)  # the kill is the fault; what follows it may never be logged
        process.send_signal(signal.SIGTERM)

    def judge(self, code, said):
        self.said = said
        if "panicked at" in said:
            return "panic"
        if code == LOADER or "error while loading shared libraries" in said or (code < 0 and "tuningfork starts" not in said):
            return "never came to main"
        if code < 0:
            return f"signal {-code}"
        return f"code {code}" if code in CODES else f"undocumented code {code}"


def ask(port, path):
    import http.client
    try:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=0.5)
        client.request("GET", path)
        client.getresponse().read()
    except (OSError, http.client.HTTPException):
        pass  # whether it answers is not what is judged


def end(mark, process):
    """Nothing of a run lives on."""
    wanted = f"{common.MARK}={mark}".encode()
    while left := [pid for pid in common.pids() if wanted in common.read(pid, "environ").split(b"\0")]:
        for pid in left:
            common.send(pid, signal.SIGKILL)
        time.sleep(LOOK_SECONDS)
    process.wait()


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--calls", nargs="*", default=CALLS, help="system calls; several that are one to us are joined by a comma")
    parser.add_argument("--errors", nargs="*", default=ERRORS)
    parser.add_argument("--whens", nargs="*", default=WHENS, help="which of the calls: 1, 5, 1+ (every), 3+2 (third, fifth, ...)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--show", action="store_true", help="show what was said in runs that were not as allowed")
    options = parser.parse_args()
    common.need(common.binary)
    plans = [(call, error, EVERY_OTHER if (error, when) == ("EINTR", "1+") else when) for call in options.calls for error in options.errors
             for when in options.whens if (call not in ONLY_EINTR or error == "EINTR") and (call not in NOT_ALWAYS or when != "1+")]
    bad, outcomes = [], Counter()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for run in pool.map(lambda plan: Run(*plan), plans):
            outcomes[run.outcome] += 1
            if not (run.outcome == "never came to main" or run.outcome.startswith("code ")):
                bad.append(run)
                common.say(f"{run.name}: {run.outcome}")
                if options.show:
                    common.say("\n".join(run.said.splitlines()[-common.SHOWN_LINES:]))
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:4d}  {outcome}")
    print(f"{len(plans)} runs, {len(bad)} not as allowed")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    common.main(main)
