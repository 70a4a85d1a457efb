"""What all tests of the zygote start from: applications in a folder of their own, and real processes to serve them."""

import http.client
import os
import sys
import tempfile
import textwrap
import unittest

from driver import HERE, Supervisor

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
    "notifies.py": """
        import os, socket
        name = os.environ.get("NOTIFY_SOCKET", "")
        if name:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.sendto(b"READY=1", name.replace("@", "\\0", 1))
        from app import application
        """,
    "ignores_children.py": """
        import signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
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
