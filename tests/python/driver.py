"""The supervisor's side of the zygote's protocol, small enough to test with: one zygote and its workers."""

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import time
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
ZYGOTE = os.path.join(HERE, "..", "..", "src", "sys", "zygote")
PARTS = ("application.py", "workers.py", "arbiter.py", "main.py")  # in the order in which src/sys/zygote.rs joins them
START = """with open(4, encoding='utf-8') as file:
    file.seek(0)
    script = compile(file.read(), '<tuningfork>', 'exec')
exec(script)"""  # as in src/sys/zygote.rs
PR_SET_CHILD_SUBREAPER = 36
PATIENCE = 20.0


def become_subreaper():
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def script():
    """The zygote's script, joined in memory as the supervisor does it."""
    memory = os.memfd_create("zygote")
    for part in PARTS:
        with open(os.path.join(ZYGOTE, part), "rb") as file:
            os.write(memory, file.read() + b"\n\n")
    return memory


def listen(family=socket.AF_INET, address=("127.0.0.1", 0)):
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(2048)
    return listener


def notify_socket():
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    name = "tuningfork-test-%s" % uuid.uuid4()
    receiver.bind("\0" + name)
    return receiver, "@" + name


class Supervisor:
    """Starts one zygote, forks workers from it and hears what they say. A context manager that leaves nothing behind."""

    def __init__(self, python, app, directory, worker_class="sync", listeners=None, env=None, **settings):
        become_subreaper()
        self.listeners = listeners or [listen()]
        self.notified, notify_name = notify_socket()
        self.said = []  # (seconds, pid, assignment)
        self.exits = {}
        self.workers = []
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(PATIENCE)
        text = script()
        fds = [theirs.fileno(), text] + [listener.fileno() for listener in self.listeners]
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 50) for fd in fds]  # clear of the numbers they will have
        # Those numbers are taken here, so that subprocess cannot use one for its own pipe.
        taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(len(fds) + 3)]

        def place():
            for number, fd in enumerate(high, start=3):
                os.dup2(fd, number)

        environment = dict(os.environ, NOTIFY_SOCKET=notify_name, PYTHONDONTWRITEBYTECODE="1", **(env or {}))
        self.zygote = subprocess.Popen(
            [python, "-c", START], preexec_fn=place, env=environment, cwd="/", stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, pass_fds=range(3, 3 + len(fds)))
        for fd in high + taken + [text]:
            os.close(fd)
        theirs.close()
        defaults = {"connections": 10, "workers": 2, "graceful_timeout": 10.0, "timeout": 30.0, "gunicorn": None, "preload": True,
                    "allow_threads": [], "occasion": "start"}
        self.tell({"settings": dict(defaults, app=app, directory=directory, worker_class=worker_class,
                                    listeners=len(self.listeners), supervisor=os.getpid(), **settings)})

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.control.close()
        for pid in self.workers:
            if pid not in self.exits:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                self.exit_code(pid)
        self.zygote.kill()
        self.zygote.stderr.close()
        self.zygote.wait()
        self.notified.close()
        for listener in self.listeners:
            listener.close()

    def tell(self, message):
        self.control.send(json.dumps(message).encode())

    def hear(self):
        packet = self.control.recv(65536)
        return json.loads(packet) if packet else None

    def fork(self, worker, slot=0):
        self.tell({"fork": {"worker": worker, "slot": slot}})
        answer = self.hear()
        pid = answer["forked"]["pid"]
        self.workers.append(pid)
        return pid

    def fork_ready(self, worker, slot=0):
        pid = self.fork(worker, slot)
        self.wait_until_said(pid, "READY=1")
        return pid

    def listen_to_workers(self, seconds):
        """Reads at least once what workers said, for at most `seconds` if nothing comes."""
        if select.select([self.notified], [], [], seconds)[0]:
            words, ancillary, _, _ = self.notified.recvmsg(4096, socket.CMSG_SPACE(12))
            pid = struct.unpack("3i", ancillary[0][2])[0]
            self.said += [(time.monotonic(), pid, assignment) for assignment in words.decode().splitlines()]

    def has_said(self, pid, words):
        return any(said[1:] == (pid, words) for said in self.said)

    def wait_until_said(self, pid, words, seconds=PATIENCE):
        give_up_at = time.monotonic() + seconds
        while not self.has_said(pid, words):
            left = give_up_at - time.monotonic()
            if left <= 0:
                raise AssertionError("worker %d did not say %s but %s" % (pid, words, self.said))
            self.listen_to_workers(min(left, 0.1))
            if pid in self.reap():
                raise AssertionError("worker %d ended with %d before %s" % (pid, self.exits[pid], words))

    def beats(self, pid, since):
        return [at for at, who, words in self.said if who == pid and words == "WATCHDOG=1" and at >= since]

    def reap(self):
        for pid in self.workers:
            if pid not in self.exits:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    self.exits[pid] = os.waitstatus_to_exitcode(status)
        return self.exits

    def exit_code(self, pid, seconds=PATIENCE):
        give_up_at = time.monotonic() + seconds
        while pid not in self.reap():
            if time.monotonic() > give_up_at:
                raise AssertionError("worker %d is still alive" % pid)
            self.listen_to_workers(0.01)
        return self.exits[pid]

    @property
    def port(self):
        return self.listeners[0].getsockname()[1]
