"""What supervised workers promise, with real processes: a heartbeat that means something, and a stop that loses nothing.
Only Gunicorn 27 keeps every promise of `Drain`.

    ZYGOTE_PYTHON=…/bin/python python3 -m unittest discover -s tests/python
"""

import importlib.util
import os
import signal
import socket
import struct
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

from case import CLASSES, ZygoteTest

WORKERS = Path(__file__).parents[2] / "src/sys/zygote/workers.py"


class Beat(unittest.TestCase):
    """A worker that is ready, beside others that have filled the queue."""

    def setUp(self):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.supervisor = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.supervisor.bind(folder + "/notify")
        self.supervisor.settimeout(30)
        with mock.patch.dict(os.environ, NOTIFY_SOCKET=folder + "/notify"):
            spec = importlib.util.spec_from_file_location("workers", WORKERS)
            workers = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(workers)
        self.heart = workers.Heartbeat(None)
        self.heart.notify()
        self.assertTrue(self.heart.ready)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others:
            others.setblocking(False)
            with self.assertRaises(BlockingIOError):
                while True:
                    others.sendto(b"WATCHDOG=1", folder + "/notify")
        self.heart.due = 0

    def wait_for_long(self):
        self.heart.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 60, 0))

    def test_waits_for_room(self):
        self.wait_for_long()
        beating = threading.Thread(target=self.heart.notify)
        beating.start()
        beating.join(0.3)
        self.assertTrue(beating.is_alive(), "the beat was dropped")
        self.supervisor.recv(64)
        beating.join(30)
        self.assertTrue(self.heart.heard)

    def test_is_given_up_and_not_waited_for_again_until_there_is_room(self):
        self.heart.notify()
        self.assertFalse(self.heart.heard)
        self.wait_for_long()
        self.heart.due = 0
        beating = threading.Thread(target=self.heart.notify, daemon=True)
        beating.start()
        beating.join(30)
        self.assertFalse(beating.is_alive(), "it waits again")
        self.supervisor.recv(64)
        self.heart.due = 0
        self.heart.notify()
        self.assertTrue(self.heart.heard)


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

    def first_said_when_worn(self, supervisor, worker):
        pid = supervisor.fork_ready(worker)
        self.get(supervisor)
        heard = -1
        while heard < len(supervisor.said):
            heard = len(supervisor.said)
            supervisor.listen_to_workers(0)
        self.get(supervisor)
        supervisor.wait_until_said(pid, "X_TUNINGFORK_RENEW=1")
        os.kill(pid, signal.SIGKILL)
        supervisor.exit_code(pid)
        return supervisor.said[heard][2]

    def test_who_has_answered_enough_says_so_at_once(self):
        for worker_class in ("gevent", "asgi"):
            with self.subTest(worker_class):
                supervisor = self.imported(worker_class, max_requests=2)
                # A beat may come between the look and the second request, but not each time.
                first = [self.first_said_when_worn(supervisor, worker) for worker in range(1, 6)]
                self.assertIn("X_TUNINGFORK_RENEW=1", first)

    def test_a_worker_of_uvicorns_serves_on_when_it_has_answered_enough(self):
        supervisor = self.imported("asgi", gunicorn=["-k", "uvicorn.workers.UvicornWorker"], max_requests=2)
        for worker in (1, 2):
            pid = supervisor.fork_ready(worker)
            self.get(supervisor)
            self.assertFalse(supervisor.has_said(pid, "X_TUNINGFORK_RENEW=1"))
            self.get(supervisor)
            supervisor.wait_until_said(pid, "X_TUNINGFORK_RENEW=1")
            for _ in range(2):
                time.sleep(0.3)  # Uvicorn looks at its limit each 0.1 s
                self.get(supervisor)
            self.assertNotIn(pid, supervisor.reap())
            os.kill(pid, signal.SIGKILL)
            supervisor.exit_code(pid)

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
                # Less than the two seconds for which it would wait for somebody.
                self.assertEqual(supervisor.exit_code(pid, 1.8), 0)

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
                supervisor, pid, _ = self.told_to_stop_during("/sleep/9", worker_class, graceful_timeout=1.0)
                # Python waits for gthread's threads; the supervisor's SIGKILL does not.
                self.assertEqual(supervisor.exit_code(pid, 15 if worker_class == "gthread" else 8), 0)

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
