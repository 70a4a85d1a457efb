"""The zygote against its protocol, with real processes: import, fork, and who outlives whom. ZYGOTE_PYTHON names an
interpreter with tests/requirements.txt (older Gunicorns serve too).

    ZYGOTE_PYTHON=…/bin/python python3 -m unittest discover -s tests/python
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

from case import CLASSES, PYTHON, SHOP, ZygoteTest
from driver import HERE, listen


class Import(ZygoteTest):
    def test_says_what_it_imported(self):
        said = self.imported().imported
        self.assertGreaterEqual(int(said["gunicorn"].split(".")[0]), 22)
        self.assertRegex(said["python"], r"^3\.\d+\.\d+")
        self.assertEqual(said["threads"], [])

    def test_refuses_threads_that_a_fork_would_lose_by_their_names(self):
        stage, message, code = self.refused(app="threads:application")
        self.assertEqual((stage, code), ("threads", 3))
        self.assertIn("poller", message)
        self.assertIn("allow-threads", message)

    def test_threads_that_are_allowed_are_told(self):
        for pattern in ("poller", "poll*"):
            told = self.imported(app="threads:application", allow_threads=["other", pattern]).imported
            self.assertEqual(told["threads"], ["poller"])
        self.assertEqual(self.refused(app="threads:application", allow_threads=["poll"])[0], "threads")

    def test_without_preloading_nothing_is_imported_and_each_worker_imports_for_itself(self):
        supervisor = self.imported(app="threads:application", preload=False)
        self.assertEqual(supervisor.imported["threads"], [])
        supervisor.fork_ready(1)
        self.assertEqual(self.get(supervisor)[0], "hello")

    def test_without_preloading_an_import_that_fails_ends_the_worker(self):
        for app, code in (("broken:application", 3), ("app:nothing", 4), ("nowhere:application", 3)):
            supervisor = self.imported(app=app, preload=False)
            self.assertEqual(supervisor.exit_code(supervisor.fork(1)), code, app)

    def test_what_the_import_tells_systemd_is_not_for_the_supervisor(self):
        supervisor = self.imported(app="notifies:application")
        pid = supervisor.fork_ready(1)
        self.assertEqual({who for _, who, _ in supervisor.said}, {pid})

    def test_a_traceback_starts_at_the_users_own_line(self):
        stage, message, code = self.refused(app="broken:application")
        self.assertEqual((stage, code), ("app", 4))
        lines = message.splitlines()
        self.assertEqual(lines[0], "Traceback (most recent call last):")
        self.assertIn("broken.py", lines[1])
        self.assertEqual(lines[-1], "KeyError: 'NOT_SET_ANYWHERE'")

    def test_a_wrong_name_is_said_in_one_line(self):
        stage, message, code = self.refused(app="app:aplication")
        self.assertEqual((stage, code), ("app", 4))
        self.assertEqual(message, "Failed to find attribute 'aplication' in 'app'.")

    def test_a_module_that_is_not_there(self):
        _, message, code = self.refused(app="nowhere:application")
        self.assertEqual((message, code), ("ModuleNotFoundError: No module named 'nowhere'", 4))

    def test_an_application_that_exits(self):
        _, message, code = self.refused(app="exits:application")
        self.assertIn("configuration is missing", message)
        self.assertEqual(code, 4)

    def test_missing_packages_are_named_with_the_command_that_installs_them(self):
        with tempfile.TemporaryDirectory() as bare:
            subprocess.run([PYTHON, "-m", "venv", "--without-pip", bare], check=True)
            python = os.path.join(bare, "bin", "python")
            for worker_class, package in (("sync", "gunicorn"), ("gevent", "gevent")):
                stage, message, code = self.refused(worker_class, python=python)
                self.assertEqual((stage, code), (package, 3))
                self.assertTrue(message.endswith("%s -m pip install %s" % (python, package)), message)

    def test_a_factory_is_called_as_gunicorn_calls_it(self):
        supervisor = self.imported(app="app:factory('good day')")
        supervisor.fork_ready(1)
        self.assertEqual(self.get(supervisor)[0], "good day")

    def test_gevent_patches_before_the_import(self):
        supervisor = self.imported("gevent")
        supervisor.fork_ready(1)
        self.assertRegex(self.get(supervisor, "/socket")[0], "^gevent")

    def test_database_connections_of_the_import_are_closed(self):
        with tempfile.TemporaryDirectory() as work:
            env = {"SHOP_DB": os.path.join(work, "shop.sqlite3"), "PYTHONPATH": self.directory}
            for command in ("migrate", "seed"):
                subprocess.run([PYTHON, "manage.py", command], cwd=SHOP, env=dict(os.environ, **env), check=True,
                               stdout=subprocess.DEVNULL)
            supervisor = self.imported("gevent", app="eager:application", directory=SHOP, env=env)
            pid = supervisor.fork_ready(1)
            for process in (supervisor.zygote.pid, pid):
                self.assertEqual([link for link in open_files(process) if "sqlite3" in link], [])
            self.assertIn("Amber", self.get(supervisor)[0])


class Fork(ZygoteTest):
    def test_every_class_serves(self):
        for worker_class in CLASSES:
            with self.subTest(worker_class):
                supervisor = self.imported(worker_class)
                pid = supervisor.fork_ready(7, slot=3)
                self.assertEqual(self.get(supervisor)[0], "hello")
                os.kill(pid, signal.SIGTERM)
                self.assertEqual(supervisor.exit_code(pid), 0)
                self.assertTrue(supervisor.has_said(pid, "STOPPING=1"))

    def test_two_listeners_tcp6_and_unix(self):
        path = os.path.join(self.directory, "socket")
        for worker_class in CLASSES:
            listeners = [listen(socket.AF_INET6, ("::1", 0)), listen(socket.AF_UNIX, path)]
            supervisor = self.imported(worker_class, listeners=listeners)
            supervisor.fork_ready(1)
            for family, address in ((socket.AF_INET6, ("::1", supervisor.port)), (socket.AF_UNIX, path)):
                with self.subTest(worker_class, family=family), socket.socket(family) as client:
                    client.settimeout(10)
                    client.connect(address)
                    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    self.assertTrue(client.makefile("rb").read().endswith(b"hello"))
            os.unlink(path)

    def test_the_worker_is_ours_in_its_own_group_and_the_zygote_keeps_no_child(self):
        supervisor = self.imported()
        pid = supervisor.fork(1)
        self.assertEqual(parent(pid), os.getpid())
        supervisor.wait_until_said(pid, "READY=1")
        self.assertEqual(os.getpgid(pid), pid)
        self.assertEqual(os.getpgid(supervisor.zygote.pid), supervisor.zygote.pid)
        with open("/proc/%d/task/%d/children" % (supervisor.zygote.pid, supervisor.zygote.pid)) as children:
            self.assertEqual(children.read(), "")

    def test_the_worker_holds_its_listener_and_nothing_else_of_ours(self):
        supervisor = self.imported()
        before = open_files(supervisor.zygote.pid)
        first, second = supervisor.fork_ready(1), supervisor.fork_ready(2)
        self.assertEqual(open_files(supervisor.zygote.pid), before)
        inode = "socket:[%d]" % os.fstat(supervisor.listeners[0].fileno()).st_ino
        for pid in (first, second):
            beyond_stdio = open_files(pid, lowest=3)
            kinds = sorted(link.split(":")[0] for link in beyond_stdio)
            # The listener, the heartbeat, and the pipe through which Gunicorn wakes itself.
            self.assertEqual(kinds, ["pipe", "pipe", "socket", "socket"])
            self.assertIn(inode, beyond_stdio)

    def test_a_fork_that_fails_is_told_and_the_zygote_lives(self):
        supervisor = self.imported(app="cannot_fork:application")
        before = open_files(supervisor.zygote.pid)
        for worker in (1, 2):
            supervisor.tell({"fork": {"worker": worker, "slot": 0}})
            told = {"worker": worker, "reason": "Resource temporarily unavailable"}
            self.assertEqual(supervisor.hear(), {"fork_failed": told})
        self.assertEqual(open_files(supervisor.zygote.pid), before)

    def test_an_application_that_ignores_its_children_gets_workers(self):
        supervisor = self.imported(app="ignores_children:application")
        for worker in range(1, 4):
            supervisor.fork_ready(worker)
        self.assertEqual(self.get(supervisor)[0], "hello")

    def test_workers_share_the_import_and_nothing_after_it(self):
        supervisor = self.imported()
        for worker in (1, 2):
            pid = supervisor.fork_ready(worker)
            self.assertEqual(self.get(supervisor, "/seen")[0], "1")
            os.kill(pid, signal.SIGKILL)
            supervisor.exit_code(pid)

    def test_two_zygotes_keep_to_their_own_code(self):
        old = self.imported()
        new = self.imported(app="other:application")
        old.fork_ready(1)
        new.fork_ready(1)
        self.assertEqual((self.get(old)[0], self.get(new)[0]), ("hello", "other"))

    def test_an_application_that_refuses_to_start_is_a_failed_boot(self):
        supervisor = self.imported("asgi", app="refuses:application")
        pid = supervisor.fork(1)
        self.assertEqual(supervisor.exit_code(pid), 3)
        self.assertEqual([words for _, who, words in supervisor.said if who == pid], [])


class Life(ZygoteTest):
    def test_the_end_of_the_channel_ends_the_zygote_and_not_the_workers(self):
        supervisor = self.imported()
        supervisor.fork_ready(1)
        supervisor.control.close()
        self.assertEqual(supervisor.zygote.wait(5), 0)
        self.assertEqual(self.get(supervisor)[0], "hello")

    def test_workers_survive_the_zygote(self):
        for worker_class in CLASSES:
            with self.subTest(worker_class):
                supervisor = self.imported(worker_class)
                pid = supervisor.fork_ready(1)
                supervisor.zygote.kill()
                supervisor.zygote.wait()
                since = time.monotonic()
                while not supervisor.beats(pid, since):  # the loop has turned and found its parent alive
                    supervisor.listen_to_workers(2.0)
                self.assertEqual(self.get(supervisor)[0], "hello")

    def test_the_zygote_takes_no_signals_and_leaves_with_the_supervisor(self):
        supervisor = self.imported(app="rude:application")
        for name in ("INT", "QUIT", "HUP", "TERM", "WINCH", "USR1", "USR2", "TTIN", "TTOU"):
            supervisor.zygote.send_signal(getattr(signal, "SIG" + name))
        pid = supervisor.fork_ready(1)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(supervisor.exit_code(pid), 0)
        supervisor.control.close()
        self.assertEqual(supervisor.zygote.wait(5), 0)

    def test_workers_ignore_what_is_not_for_them(self):
        for worker_class in CLASSES:
            with self.subTest(worker_class):
                supervisor = self.imported(worker_class)
                pid = supervisor.fork_ready(1)
                for name in ("HUP", "WINCH", "USR1", "USR2", "TTIN", "TTOU"):
                    os.kill(pid, getattr(signal, "SIG" + name))
                self.assertEqual(self.get(supervisor)[0], "hello")
                os.kill(pid, signal.SIGQUIT)
                self.assertEqual(supervisor.exit_code(pid, 3), 0)

    def test_workers_drain_when_the_supervisor_dies(self):
        for worker_class in CLASSES:
            with self.subTest(worker_class):
                app = "asgi" if worker_class == "asgi" else "app"
                lines = subprocess.Popen(
                    [sys.executable, os.path.join(HERE, "doomed.py"), PYTHON, app + ":application", self.directory,
                     worker_class], stdout=subprocess.PIPE, text=True)
                zygote, worker, port = (int(word) for word in lines.stdout.readline().split())
                client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                client.request("GET", "/sleep/0.6")
                time.sleep(0.2)  # the request is being served; nothing outside says so
                lines.kill()
                lines.wait()
                lines.stdout.close()
                self.assertEqual(client.getresponse().read(), b"hello")
                client.close()
                # Both are ours now: this process is the next subreaper up.
                # 120 is Python's own word for last words that nobody could read.
                self.assertIn(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), (0, 120))
                os.waitpid(zygote, 0)


def open_files(pid, lowest=0):
    """What the descriptors of a process point to, from the number `lowest` on."""
    links = []
    for number in os.listdir("/proc/%d/fd" % pid):
        if int(number) >= lowest:
            links.append(os.readlink("/proc/%d/fd/%s" % (pid, number)))
    return sorted(links)


def parent(pid):
    with open("/proc/%d/stat" % pid) as stat:
        return int(stat.read().rpartition(")")[2].split()[1])
