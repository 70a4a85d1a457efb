"""What Gunicorn's own settings do in the zygote and its workers: hooks, logs, statsd, classes of the user, and what a fork must not share."""

import os
import signal
import socket
import textwrap
import time
import unittest
import urllib.request

from case import ZygoteTest

HOOKS = """
    import os
    HERE = os.path.dirname(os.path.abspath(__file__))
    def note(words):
        with open(os.path.join(HERE, "notes"), "a") as file:
            file.write("%s %s\\n" % (os.getpid(), words))
    def on_starting(server): note("on_starting %s" % server.pid)
    def when_ready(server): note("when_ready %s %d" % (server.address[0][1], len(server.LISTENERS)))
    def on_reload(server): note("on_reload")
    def nworkers_changed(server, new, old): note("nworkers_changed %s %s" % (new, old))
    def pre_fork(server, worker):
        note("pre_fork")
        worker.gift = "from before the fork"
    def post_fork(server, worker): note("post_fork %s" % worker.gift)
    def post_worker_init(worker): note("post_worker_init")
    def pre_request(worker, req): note("pre_request %s" % req.path)
    def post_request(worker, req, environ, resp): note("post_request %s" % resp.status_code)
    def worker_int(worker): note("worker_int")
    def worker_abort(worker): note("worker_abort")
    def worker_exit(server, worker): note("worker_exit %s" % worker.gift)
    def child_exit(server, worker): note("child_exit %s %s" % (worker.pid, worker.gift))
    def on_exit(server): note("on_exit %d" % len(server.WORKERS))
"""


class Settings(ZygoteTest):
    def configure(self, text, name="gunicorn.conf.py"):
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write(textwrap.dedent(text))
        self.addCleanup(os.unlink, path)
        return path

    def notes(self):
        """What the hooks wrote, by process."""
        path = os.path.join(self.directory, "notes")
        if not os.path.exists(path):
            return []
        with open(path) as file:
            return [tuple(line.rstrip("\n").split(" ", 1)) for line in file]

    def setUp(self):
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        path = os.path.join(self.directory, "notes")

    def await_note(self, words, seconds=10):
        until = time.monotonic() + seconds
        while not any(said == words for _, said in self.notes()):
            self.assertLess(time.monotonic(), until, "%r is not in %s" % (words, self.notes()))
            time.sleep(0.01)

    def test_hooks_run_where_they_belong(self):
        self.configure(HOOKS)
        for worker_class in ("sync", "gthread", "gevent"):
            with self.subTest(worker_class):
                supervisor = self.imported(worker_class, gunicorn=[])
                zygote, pid = str(supervisor.zygote.pid), supervisor.fork_ready(1)
                self.get(supervisor, "/pid")
                os.kill(pid, signal.SIGTERM)
                self.assertEqual(supervisor.exit_code(pid), 0)
                supervisor.tell({"scaled": {"workers": 5}})
                supervisor.tell({"ended": {"pid": pid}})
                supervisor.tell({"leave": {"last": True}})
                self.assertEqual(supervisor.zygote.wait(10), 0)
                gift = "from before the fork"
                notes = self.notes()
                self.assertEqual([words for who, words in notes if who == zygote], [
                    "nworkers_changed 2 None", "on_starting %d" % os.getpid(), "when_ready %d 1" % supervisor.port, "pre_fork",
                    "nworkers_changed 5 2", "child_exit %d %s" % (pid, gift), "on_exit 0"])
                self.assertEqual([words for who, words in notes if who == str(pid)], [
                    "post_fork " + gift, "post_worker_init", "pre_request /pid", "post_request 200", "worker_exit " + gift])
                os.unlink(os.path.join(self.directory, "notes"))

    def test_a_reload_calls_on_reload_and_a_replacement_neither(self):
        self.configure(HOOKS)
        for occasion, called in (("reload", ["on_reload"]), ("replacement", [])):
            self.imported(gunicorn=[], occasion=occasion)
            self.assertEqual([words for _, words in self.notes()], ["nworkers_changed 2 None", *called])
            os.unlink(os.path.join(self.directory, "notes"))

    def test_worker_int_and_worker_abort_run_in_the_worker(self):
        self.configure(HOOKS)
        for number, words in ((signal.SIGQUIT, "worker_int"), (signal.SIGABRT, "worker_abort")):
            supervisor = self.imported(gunicorn=[])
            pid = supervisor.fork_ready(1)
            os.kill(pid, number)
            supervisor.exit_code(pid)
            self.assertIn((str(pid), words), self.notes())

    def test_what_a_hook_starts_runs_in_the_zygote_alone_and_outlives_its_generation(self):
        self.configure("""
            import os, threading
            from http.server import BaseHTTPRequestHandler, HTTPServer
            class Exporter(BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(str(os.getpid()).encode())
                def log_message(self, *about): pass
            def when_ready(server):
                exporter = HTTPServer(("127.0.0.1", 0), Exporter)
                with open(os.path.join(os.path.dirname(__file__), "notes"), "w") as file:
                    file.write("0 %d" % exporter.server_port)
                threading.Thread(target=exporter.serve_forever, name="exporter", daemon=True).start()
            """)
        for worker_class in ("gthread", "gevent"):
            with self.subTest(worker_class):
                supervisor = self.imported(worker_class, gunicorn=[])
                self.assertEqual((supervisor.imported["stays"], supervisor.imported["works"]), (True, ["exporter"]))
                pids = [supervisor.fork_ready(1), supervisor.fork_ready(2)]
                for pid in pids:
                    self.assertEqual(self.get(supervisor)[0], "hello")
                port = int(self.notes()[0][1])
                answered = lambda: {int(urllib.request.urlopen("http://127.0.0.1:%d/" % port, timeout=10).read()) for _ in range(20)}
                self.assertEqual(answered(), {supervisor.zygote.pid})
                for pid in pids:
                    os.kill(pid, signal.SIGTERM)
                    self.assertEqual(supervisor.exit_code(pid), 0)
                supervisor.tell({"leave": {"last": False}})
                self.assertEqual(answered(), {supervisor.zygote.pid})
                supervisor.tell({"leave": {"last": True}})
                self.assertEqual(supervisor.zygote.wait(10), 0)

    def test_a_hook_that_fails_refuses_the_generation_or_the_fork(self):
        self.configure("def when_ready(server): server.no_such_thing\n")
        stage, message, _ = self.refused(gunicorn=[])
        self.assertEqual(stage, "hooks")
        self.assertIn("no_such_thing", message)
        self.assertIn("not Gunicorn's master", message)
        self.configure("def pre_fork(server, worker): 1 / 0\n", "fails.py")
        supervisor = self.imported(gunicorn=["-c", "fails.py"])
        supervisor.tell({"fork": {"worker": 1, "slot": 0}})
        self.assertIn("ZeroDivisionError", supervisor.hear()["fork_failed"]["reason"])

    def test_a_hook_that_fails_later_ends_nobody(self):
        self.configure("def child_exit(server, worker): 1 / 0\n")
        supervisor = self.imported(gunicorn=[])
        pid = supervisor.fork_ready(1)
        supervisor.tell({"ended": {"pid": pid}})
        supervisor.fork_ready(2)

    def test_wrong_settings_are_refused_in_gunicorns_words(self):
        self.configure("1 / 0\n", "bad.py")
        for arguments, words in ((["--no-such-option"], "--no-such-option"), (["-c", "bad.py"], "ZeroDivisionError"),
                                 (["-c", "missing.py"], "missing.py"), (["--log-config", "none.ini"], "none.ini"),
                                 (["--certfile", "none.pem"], "certfile = 'none.pem' cannot be read by user")):
            stage, message, _ = self.refused(gunicorn=arguments)
            self.assertEqual(stage, "settings")
            self.assertIn(words, message)

    def test_settings_come_from_arguments_environment_and_file_in_gunicorns_order(self):
        self.configure("""
            raw_env = ["FROM=file"]
            proc_name = "file"
            def post_fork(server, worker):
                cfg = server.cfg
                with open(os.path.join(os.path.dirname(__file__), "notes"), "w") as file:
                    file.write("0 %s %s %s %s" % (cfg.proc_name, cfg.keepalive, cfg.limit_request_line, os.environ["FROM"]))
            import os
            keepalive = 3
            limit_request_line = 100
            """)
        supervisor = self.imported(gunicorn=["-n", "arguments"], env={"GUNICORN_CMD_ARGS": "-n environment --keep-alive 4"})
        supervisor.fork_ready(1)
        self.assertEqual(self.notes()[0][1], "arguments 4 100 file")

    def test_what_the_supervisor_says_wins(self):
        self.configure("""
            workers, threads, worker_class, timeout, bind, reuse_port = 99, 9, "gthread", 7, "fd://77", True
            def when_ready(server):
                cfg = server.cfg
                assert (cfg.workers, cfg.worker_class_str, cfg.timeout, cfg.reuse_port) == (2, "sync", 30, False), cfg
                assert server.num_workers == 2
            """)
        self.imported(gunicorn=[]).fork_ready(1)

    def await_line(self, path, words):
        until = time.monotonic() + 10
        while time.monotonic() < until:
            if os.path.exists(path):
                with open(path) as file:
                    if words in file.read():
                        return
            time.sleep(0.01)
        self.fail("%s does not hold %r" % (path, words))

    def test_logs_and_statsd_are_gunicorns(self):
        for worker_class in ("sync", "gthread", "gevent"):
            with self.subTest(worker_class), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
                statsd.bind(("127.0.0.1", 0))
                statsd.settimeout(10)
                access, errors = (os.path.join(self.directory, "%s-%s.log" % (worker_class, name)) for name in ("access", "error"))
                supervisor = self.imported(worker_class, gunicorn=[
                    "--access-logfile", access, "--error-logfile", errors, "--capture-output",
                    "--statsd-host", "127.0.0.1:%d" % statsd.getsockname()[1], "--statsd-prefix", "shop"])
                os.rename(access, access + ".1")
                pid = supervisor.fork_ready(1)  # after the rotation
                self.get(supervisor, "/one")
                heard = set()
                while not any(line.startswith("shop.gunicorn.request.status.200:1|c") for line in heard):
                    heard.add(statsd.recv(1000).decode())
                self.assertIn("shop.gunicorn.workers:2|g", heard)
                self.await_line(access, '"GET /one HTTP/1.1" 200')
                os.rename(access, access + ".2")
                os.kill(pid, signal.SIGUSR1)
                self.await_line(access, "")
                self.get(supervisor, "/two")
                self.await_line(access, '"GET /two HTTP/1.1" 200')
                os.kill(pid, signal.SIGTERM)
                supervisor.exit_code(pid)
                self.await_line(errors, "Booting worker with pid: %d" % pid)

    def test_a_logger_class_of_the_user(self):
        self.configure("""
            from gunicorn.glogging import Logger
            class Loud(Logger):
                def access(self, resp, req, environ, request_time):
                    import os
                    with open(os.path.join(os.path.dirname(__file__), "notes"), "w") as file:
                        file.write("0 %s" % environ["PATH_INFO"])
            logger_class = Loud
            """)
        supervisor = self.imported(gunicorn=[])
        supervisor.fork_ready(1)
        self.get(supervisor, "/seen")
        self.await_note("/seen")

    def test_a_worker_class_that_extends_gunicorns(self):
        self.configure("""
            from gunicorn.workers.gthread import ThreadWorker
            class Mine(ThreadWorker):
                def init_process(self):
                    import os
                    os.environ["MINE"] = "1"
                    super().init_process()
            """, "mine.py")
        supervisor = self.imported("gthread", gunicorn=["-k", "mine.Mine"], connections=2)
        pid = supervisor.fork_ready(1)
        self.get(supervisor)
        supervisor.wait_until_said(pid, "WATCHDOG=1")
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(supervisor.exit_code(pid), 0)
        self.assertTrue(supervisor.has_said(pid, "STOPPING=1"))
        stage, message, _ = self.refused("sync", gunicorn=["-k", "mine.Mine"])
        self.assertEqual(stage, "settings")
        self.assertIn("gthread", message)

    def test_uvicorns_worker_class_and_gevents_own_server(self):
        for family, named, app in (("asgi", "uvicorn.workers.UvicornWorker", "asgi:application"),
                                   ("gevent", "gevent_pywsgi", "app:application")):
            with self.subTest(named):
                supervisor = self.imported(family, app=app, gunicorn=["-k", named])
                pid = supervisor.fork_ready(1)
                self.assertEqual(self.get(supervisor)[0], "hello")
                os.kill(pid, signal.SIGTERM)
                self.assertIn(supervisor.exit_code(pid), (0, -signal.SIGTERM))  # uvicorn ends by the signal it was asked by


class Renewal(ZygoteTest):
    def test_chance_is_each_workers_own(self):
        with open(os.path.join(self.directory, "chance.py"), "w") as file:
            file.write(textwrap.dedent("""
                import random, ssl, uuid
                random.seed(1)
                def application(environ, start_response):
                    body = ("%s %s %s" % (random.random(), ssl.RAND_bytes(8).hex(), uuid.uuid4())).encode()
                    start_response("200 OK", [("Content-Length", str(len(body)))])
                    return [body]
                """))
        seen = []
        for worker_class in ("sync", "gevent"):
            supervisor = self.imported(worker_class, app="chance:application")
            for worker in (1, 2):
                pid = supervisor.fork_ready(worker)
                seen += self.get(supervisor)[0].split()
                os.kill(pid, signal.SIGTERM)
                supervisor.exit_code(pid)
        self.assertEqual(len(set(seen)), len(seen), seen)

    def test_a_lock_of_logging_that_is_held_at_the_fork_is_free_in_the_worker(self):
        with open(os.path.join(self.directory, "holds.py"), "w") as file:
            file.write(textwrap.dedent("""
                import logging
                handler = logging.StreamHandler()
                logging.getLogger("shop").addHandler(handler)
                handler.acquire()
                import threading
                def application(environ, start_response):
                    worker = threading.Thread(target=logging.getLogger("shop").error, args=("said",), daemon=True)
                    worker.start()
                    worker.join(10)
                    body = b"stuck" if worker.is_alive() else b"free"
                    start_response("200 OK", [("Content-Length", str(len(body)))])
                    return [body]
                """))
        supervisor = self.imported(app="holds:application")
        supervisor.fork_ready(1)
        self.assertEqual(self.get(supervisor)[0], "free")

    def test_pools_of_sqlalchemy_are_each_workers_own(self):
        database = os.path.join(self.directory, "pool.sqlite3")
        with open(os.path.join(self.directory, "pooled.py"), "w") as file:
            file.write(textwrap.dedent("""
                import os
                from sqlalchemy import create_engine, event, text
                engine = create_engine("sqlite:///%s")
                opened = []
                event.listen(engine, "connect", lambda connection, record: opened.append(os.getpid()))
                with engine.connect() as connection:
                    connection.execute(text("SELECT 1"))
                POOL = id(engine.pool)
                def application(environ, start_response):
                    with engine.connect() as connection:
                        answer = connection.execute(text("SELECT 41 + 1")).scalar()
                    body = ("%%s %%s %%s" %% (answer, opened[-1] == os.getpid(), id(engine.pool) != POOL)).encode()
                    start_response("200 OK", [("Content-Length", str(len(body)))])
                    return [body]
                """ % database))
        for worker_class in ("sync", "gevent"):
            supervisor = self.imported(worker_class, app="pooled:application")
            pid = supervisor.fork_ready(1)
            for process in (supervisor.zygote.pid, pid):
                links = [os.readlink("/proc/%d/fd/%s" % (process, fd)) for fd in os.listdir("/proc/%d/fd" % process)
                         if os.path.lexists("/proc/%d/fd/%s" % (process, fd))]
                self.assertEqual([link for link in links if "pool.sqlite3" in link], [])
            self.assertEqual(self.get(supervisor)[0], "42 True True")


if __name__ == "__main__":
    unittest.main()
