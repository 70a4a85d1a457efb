"""The zygote against its protocol, with real processes. ZYGOTE_PYTHON names an interpreter with tests/requirements.txt
(older Gunicorns serve too, but only 27 keeps every promise of `Drain`).

    ZYGOTE_PYTHON=…/bin/python python3 -m unittest discover -s tests/python
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from driver import HERE, Supervisor, listen  # noqa: E402

PYTHON = os.environ.get("ZYGOTE_PYTHON", sys.executable)
SHOP = os.path.abspath(os.path.join(HERE, "..", "apps", "shop"))
CLASSES = ("sync", "gthread", "gevent", "asgi")
APPS = {
    "app.py": """
        import os, socket, time
        SOCKET_AT_IMPORT = socket.socket.__module__
        seen = []
        def spin(seconds):
            until = time.perf_counter() + seconds
            while time.perf_counter() < until: pass
        def application(environ, start_response):
            path = environ["PATH_INFO"]
            body = b"hello"
            if path == "/pid": body = str(os.getpid()).encode()
            elif path == "/socket": body = SOCKET_AT_IMPORT.encode()
            elif path == "/seen": seen.append(1); body = str(len(seen)).encode()
            elif path.startswith("/sleep/"): time.sleep(float(path[7:]))
            elif path.startswith("/spin/"): spin(float(path[6:]))
            elif path == "/stream":
                start_response("200 OK", [])
                def parts():
                    yield b"hel"
                    time.sleep(0.5)
                    yield b"lo"
                return parts()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        def factory(greeting):
            def made(environ, start_response):
                start_response("200 OK", [("Content-Length", str(len(greeting)))])
                return [greeting.encode()]
            return made
        """,
    "asgi.py": """
        import asyncio
        async def application(scope, receive, send):
            if scope["type"] != "http": raise NotImplementedError
            if scope["path"] == "/stream":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"hel", "more_body": True})
                await asyncio.sleep(0.5)
                return await send({"type": "http.response.body", "body": b"lo"})
            if scope["path"].startswith("/sleep/"): await asyncio.sleep(float(scope["path"][7:]))
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
            await send({"type": "http.response.body", "body": b"hello"})
        """,
    "refuses.py": """
        async def application(scope, receive, send):
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})
        """,
    "other.py": """
        def application(environ, start_response):
            start_response("200 OK", [("Content-Length", "5")])
            return [b"other"]
        """,
    "broken.py": """
        import os
        def connect():
            return os.environ["NOT_SET_ANYWHERE"]
        application = connect()
        """,
    "exits.py": "raise SystemExit('configuration is missing')",
    "threads.py": """
        import threading
        threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
        from app import application
        """,
    "cannot_fork.py": """
        import __main__, errno
        def fork(): raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        __main__.fork = fork
        from app import application
        """,
    "rude.py": """
        import signal
        for name in ("TERM", "INT", "HUP"): signal.signal(getattr(signal, "SIG" + name), lambda *_: None)
        from app import application
        """,
    "eager.py": """
        from shop.wsgi import application
        from store.models import Product
        COUNT = Product.objects.count()
        """,
}


class ZygoteTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        holder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(holder.cleanup)
        cls.directory = holder.name
        for name, text in APPS.items():
            with open(os.path.join(cls.directory, name), "w") as file:
                file.write(textwrap.dedent(text))

    def start(self, worker_class="sync", app=None, python=PYTHON, **settings):
        app = app or ("asgi:application" if worker_class == "asgi" else "app:application")
        supervisor = Supervisor(python, app, settings.pop("directory", self.directory), worker_class, **settings)
        self.addCleanup(supervisor.__exit__)
        return supervisor

    def imported(self, *args, **settings):
        supervisor = self.start(*args, **settings)
        answer = supervisor.hear()
        self.assertIn("imported", answer)
        supervisor.imported = answer["imported"]
        return supervisor

    def get(self, supervisor, path="/", connection=None):
        """(body, headers); on a connection of its own unless one is given."""
        used = connection or self.connect(supervisor)
        used.request("GET", path)
        answer = used.getresponse()
        body = answer.read().decode()
        self.assertEqual(answer.status, 200)
        return body, dict(answer.getheaders())

    def connect(self, supervisor):
        connection = http.client.HTTPConnection("127.0.0.1", supervisor.port, timeout=10)
        self.addCleanup(connection.close)
        return connection

    def refused(self, *args, **settings):
        supervisor = self.start(*args, **settings)
        failed = supervisor.hear()["failed"]
        return failed["stage"], failed["message"], supervisor.zygote.wait(10)


class Import(ZygoteTest):
    def test_says_what_it_imported(self):
        said = self.imported().imported
        self.assertGreaterEqual(int(said["gunicorn"].split(".")[0]), 22)
        self.assertRegex(said["python"], r"^3\.\d+\.\d+")
        self.assertEqual(said["threads"], [])

    def test_names_the_threads_that_a_fork_will_lose(self):
        self.assertEqual(self.imported(app="threads:application").imported["threads"], ["poller"])

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
        for worker in (1, 2):
            supervisor.tell({"fork": {"worker": worker, "slot": 0}})
            told = {"worker": worker, "reason": "Resource temporarily unavailable"}
            self.assertEqual(supervisor.hear(), {"fork_failed": told})

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

    def test_the_zygote_is_not_for_the_terminal_but_for_sigterm(self):
        supervisor = self.imported(app="rude:application")
        for name in ("INT", "QUIT", "HUP", "WINCH", "USR1", "USR2", "TTIN", "TTOU"):
            supervisor.zygote.send_signal(getattr(signal, "SIG" + name))
        supervisor.fork_ready(1)
        supervisor.zygote.terminate()
        self.assertEqual(supervisor.zygote.wait(5), -signal.SIGTERM)

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
                self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), 0)
                os.waitpid(zygote, 0)


class Heart(ZygoteTest):
    def quiet_during(self, worker_class, path):
        """Beats heard while a request that takes three seconds is served."""
        supervisor = self.imported(worker_class)
        pid = supervisor.fork_ready(1)
        client = self.connect(supervisor)
        client.request("GET", path)
        since = time.monotonic() + 0.3
        while time.monotonic() < since + 2.5:
            supervisor.listen_to_workers(0.1)
        beats = supervisor.beats(pid, since)
        self.assertEqual(client.getresponse().read(), b"hello")
        return len(beats)

    def test_a_worker_that_cannot_serve_is_silent(self):
        self.assertEqual(self.quiet_during("sync", "/sleep/3"), 0)
        self.assertEqual(self.quiet_during("gevent", "/spin/3"), 0)

    def test_a_worker_that_waits_beats_about_once_a_second(self):
        for worker_class in ("gthread", "gevent", "asgi"):
            with self.subTest(worker_class):
                self.assertIn(self.quiet_during(worker_class, "/sleep/3"), (2, 3))

    def test_a_full_queue_blocks_nobody(self):
        supervisor = self.imported()
        pid = supervisor.fork_ready(1)
        flood = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with flood:
            flood.setblocking(False)
            try:
                while True:
                    flood.sendto(b"STATUS=", supervisor.notified.getsockname())
            except BlockingIOError:
                pass
            for _ in range(20):
                self.assertEqual(self.get(supervisor)[0], "hello")
            os.kill(pid, signal.SIGTERM)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            supervisor.exits[pid] = 0


class Drain(ZygoteTest):
    def told_to_stop_during(self, path, worker_class, **settings):
        """(supervisor, pid, client) with SIGTERM sent while the client's request is served."""
        supervisor = self.imported(worker_class, **settings)
        pid = supervisor.fork_ready(1)
        client = self.connect(supervisor)
        client.request("GET", path)
        time.sleep(0.2)  # the request is being served; nothing outside says so
        os.kill(pid, signal.SIGTERM)
        return supervisor, pid, client

    def test_a_request_in_flight_is_answered(self):
        for worker_class in CLASSES:
            with self.subTest(worker_class):
                supervisor, pid, client = self.told_to_stop_during("/sleep/0.6", worker_class)
                self.assertEqual(client.getresponse().read(), b"hello")
                self.assertEqual(supervisor.exit_code(pid), 0)

    def test_an_idle_connection_may_be_used_once_more(self):
        for worker_class in ("gthread", "gevent", "asgi"):
            with self.subTest(worker_class):
                supervisor = self.imported(worker_class)
                pid = supervisor.fork_ready(1)
                client = self.connect(supervisor)
                self.get(supervisor, connection=client)
                os.kill(pid, signal.SIGTERM)
                supervisor.wait_until_said(pid, "STOPPING=1")
                time.sleep(0.5)  # the client thinks
                _, headers = self.get(supervisor, connection=client)
                self.assertEqual({name.lower(): each.lower() for name, each in headers.items()}["connection"], "close")
                self.assertEqual(supervisor.exit_code(pid, 1), 0)

    def test_a_promise_to_keep_the_connection_is_kept(self):
        """The head of the answer was sent before SIGTERM and did not say "close"."""
        for worker_class in ("gthread", "gevent", "asgi"):
            with self.subTest(worker_class):
                supervisor = self.imported(worker_class)
                pid = supervisor.fork_ready(1)
                client = self.connect(supervisor)
                client.request("GET", "/stream")
                answer = client.getresponse()
                self.assertEqual(answer.read(3), b"hel")
                os.kill(pid, signal.SIGTERM)
                self.assertEqual(answer.read(), b"lo")
                client.auto_open = False  # a connection closed now would be a lost request, not a new connection
                self.assertEqual(self.get(supervisor, connection=client)[0], "hello")
                self.assertEqual(supervisor.exit_code(pid, 3), 0)

    def test_a_connection_that_stays_silent_is_given_up(self):
        for worker_class in ("gthread", "gevent", "asgi"):
            with self.subTest(worker_class):
                supervisor = self.imported(worker_class)
                pid = supervisor.fork_ready(1)
                client = self.connect(supervisor)
                self.get(supervisor, connection=client)
                os.kill(pid, signal.SIGTERM)
                self.assertEqual(supervisor.exit_code(pid, 4), 0)

    def test_a_worker_nobody_talks_to_leaves_at_once(self):
        for worker_class in CLASSES:
            with self.subTest(worker_class):
                supervisor = self.imported(worker_class)
                pid = supervisor.fork_ready(1)
                os.kill(pid, signal.SIGTERM)
                self.assertEqual(supervisor.exit_code(pid, 0.8), 0)

    def test_a_second_sigterm_changes_nothing(self):
        for worker_class in CLASSES:
            with self.subTest(worker_class):
                supervisor, pid, client = self.told_to_stop_during("/sleep/0.6", worker_class)
                os.kill(pid, signal.SIGTERM)
                self.assertEqual(client.getresponse().read(), b"hello")
                self.assertEqual(supervisor.exit_code(pid), 0)

    def test_the_graceful_timeout_bounds_it(self):
        for worker_class in ("gthread", "gevent", "asgi"):
            with self.subTest(worker_class):
                supervisor, pid, _ = self.told_to_stop_during("/sleep/4", worker_class, graceful_timeout=1.0)
                # Python waits for gthread's threads; the supervisor's SIGKILL does not.
                self.assertEqual(supervisor.exit_code(pid, 6 if worker_class == "gthread" else 3), 0)

    def test_connections_are_limited(self):
        for worker_class in ("gevent", "asgi"):
            with self.subTest(worker_class):
                supervisor = self.imported(worker_class, connections=2)
                supervisor.fork_ready(1)
                clients = [self.connect(supervisor) for _ in range(3)]
                for client in clients:
                    client.request("GET", "/sleep/0.5")
                took = []
                for client in clients:
                    self.assertEqual(client.getresponse().read(), b"hello")
                    client.close()
                    took.append(time.monotonic())
                self.assertGreater(took[2] - took[1], 0.4)


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


if __name__ == "__main__":
    unittest.main()
