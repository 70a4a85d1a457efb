"""Gunicorn's worker classes, with what being supervised by someone else than Gunicorn changes about them.

The second part of the zygote's script; all its parts are one text when it runs. It decides how a worker reports, drains and keeps to
its number of connections, and refuses to know where workers come from.
"""

# Only what gevent has no better version of may be imported up here; these names stay the real, blocking ones.
import _socket
import faulthandler
import os
import signal
import struct
import sys
from time import monotonic

EXIT_BOOT = 3  # as Gunicorn's workers
# Taken away from the application: what that tells systemd the supervisor would take for a worker's word.
NOTIFY_SOCKET = os.environ.pop("NOTIFY_SOCKET", "")
BEAT_PATIENCE = struct.pack("@ll", 0, 50_000)  # a timeval
HEAR_OUT_SECONDS, TURN_SECONDS = 2.0, 0.01
BEAT_SECONDS = 0.8  # below the second that Gunicorn's loops sleep, so that no turn of theirs is skipped


class Heartbeat:
    """Takes the place of Gunicorn's temporary file, whose age only Gunicorn's own master would read.

    Gunicorn's loops call `notify` when they really turn, and for the first time when the listeners are open: that is
    when a worker is ready, and from then on its silence means something. Readiness is worth a wait. The queue of all
    workers may hold no more than ten (net.unix.max_dgram_qlen), so a beat waits for a moment too; but a supervisor that
    does not listen at all holds a worker up once, and not again until it listens.
    """

    def __init__(self, cfg):
        self.address = "\0" + NOTIFY_SOCKET[1:] if NOTIFY_SOCKET.startswith("@") else NOTIFY_SOCKET
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        self.ready, self.due, self.heard = False, 0.0, True

    def notify(self):
        if not self.ready:
            self.ready = self.say(b"READY=1\nWATCHDOG=1", 0)
            self.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, BEAT_PATIENCE)
        elif monotonic() >= self.due:
            self.due = monotonic() + BEAT_SECONDS
            self.heard = self.say(b"WATCHDOG=1", 0 if self.heard else _socket.MSG_DONTWAIT)

    def say(self, words, flags=_socket.MSG_DONTWAIT):
        try:
            return self.socket.sendto(words, flags, self.address) > 0
        except OSError:
            return False

    def fileno(self):  # Gunicorn's workers close it on exec
        return self.socket.fileno()

    def close(self):
        self.socket.close()


def ignore(signum, frame):
    """A handler and not SIG_IGN, which exec would pass on to the programs an application starts."""


def ignore_signals(signals):
    for number in signals:
        signal.signal(number, ignore)
    for number in (signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)  # with a handler, reading the terminal would never end


def reopen_log_files(by_gunicorn):
    """Gunicorn closes each file before it opens it again. Where that cannot be done all stay as they are, and it is told: a process
    whose log is closed would end with the next line."""
    from gunicorn.glogging import loggers
    handlers = [handler for logger in loggers() for handler in logger.handlers]
    try:
        for path in {handler.baseFilename for handler in handlers if hasattr(handler, "baseFilename")}:
            open(path, "a").close()
    except OSError as error:
        os.write(2, b"log files are not opened again, the old ones are kept: %s\n" % str(error).encode(errors="replace"))
        return
    by_gunicorn()


class Supervised:
    """What all worker classes change: who they report to, and that its death means drain, not exit."""

    worn_at, counted = sys.maxsize, 0

    @property
    def max_requests(self):
        """Loops leave when they have served as many, in the middle of whatever comes. Here a worker asks, and serves until somebody
        has taken over."""
        return sys.maxsize

    @max_requests.setter
    def max_requests(self, number):
        self.worn_at = number

    def init_signals(self):
        super().init_signals()
        ignore_signals((signal.SIGHUP, signal.SIGUSR2))
        # Written by the signal itself, also when the interpreter hangs, and when it crashes. Then the handler takes effect that was
        # there before: Gunicorn's, which leaves if it still can.
        faulthandler.enable(file=2, all_threads=True)

    @property
    def nr(self):
        return self.counted

    @nr.setter
    def nr(self, number):
        """Gunicorn counts requests with it; some of its loops turn once a second, in which thousands can be answered."""
        self.counted = number
        self.ask_to_be_renewed()

    def ask_to_be_renewed(self):
        if self.nr >= self.worn_at and self.tmp.say(b"X_TUNINGFORK_RENEW=1"):
            self.worn_at = sys.maxsize

    def notify(self):
        self.tmp.notify()
        self.ask_to_be_renewed()
        if self.alive and os.getppid() != self.ppid:
            self.handle_exit(None, None)

    def handle_exit(self, sig, frame):
        self.tmp.say(b"STOPPING=1")
        super().handle_exit(sig, frame)


class OfNoFamily(Supervised):
    """A class that may leave the counting of requests to a server of its own, as Uvicorn's does."""

    def load_wsgi(self):
        super().load_wsgi()
        if is_asgi(self.wsgi):
            self.wsgi = self.counting(self.wsgi)

    def counting(self, application):
        async def counted(scope, receive, send):
            if scope["type"] != "lifespan":
                self.nr += 1
            await application(scope, receive, send)
        return counted


def hear_out(server):
    """Makes Uvicorn's servers, where this module defines them, read what they have accepted. Told to stop, they close every connection
    on which no request has begun, and one that is on its way is reset. Who connects early and says nothing is waited for, too."""
    from asyncio import sleep
    by_uvicorn = server.Server.shutdown

    async def shutdown(self, sockets=None):
        for each in self.servers:
            each.close()
        give_up_at = monotonic() + HEAR_OUT_SECONDS
        await sleep(TURN_SECONDS)  # who has just been accepted is not among the connections yet
        while monotonic() < give_up_at and not self.force_exit and any(is_unheard(each) for each in self.server_state.connections):
            await sleep(TURN_SECONDS)
        await by_uvicorn(self, sockets)

    server.Server.shutdown = shutdown


def is_unheard(connection):
    """Nothing of it but HTTP's connections has a cycle, of which each request has one."""
    return getattr(connection, "cycle", connection) is None


def is_asgi(application):
    from inspect import iscoroutinefunction
    return iscoroutinefunction(application) or iscoroutinefunction(getattr(application, "__call__", None))


def sync_class():
    """Closes every connection after its answer, so Gunicorn's own stop loses nothing."""
    from gunicorn.workers.sync import SyncWorker
    return type("Sync", (Supervised, SyncWorker), {})


def gthread_class():
    """Since Gunicorn 27 a stopping worker keeps idle connections for two seconds; older ones drop them."""
    from gunicorn.workers.gthread import ThreadWorker
    return type("Gthread", (Supervised, ThreadWorker), {})


def gevent_class():
    """Gunicorn's loop looks at SIGTERM and at the last open connection once a second; this one wakes for both."""
    from functools import partial
    from types import SimpleNamespace
    from gevent.event import Event
    from gevent.pool import Pool
    from gevent.server import StreamServer
    from gunicorn import sock, util
    from gunicorn.workers.ggevent import GeventWorker

    def named(listener):
        """Gunicorn asks the listener's name for each connection, also for the last ones, when it is closed already."""
        name = listener.getsockname()
        return SimpleNamespace(getsockname=lambda: name)

    class Gevent(Supervised, GeventWorker):
        told_to_stop = None

        def run(self):
            if self.server_class is not None:
                return super().run()  # gevent's own server, which Gunicorn's classes for it bring along
            self.told_to_stop = Event()
            pool = Pool(self.worker_connections)  # one for all listeners: the limit is the worker's
            tls = {"ssl_context": sock.ssl_context(self.cfg)} if self.cfg.is_ssl else {}
            servers = [StreamServer(each, handle=partial(self.handle, named(each)), spawn=pool, **tls)
                       for each in self.sockets]
            for server in servers:
                server.max_accept = 1  # leave the next connection to an idle worker
                server.start()
            while self.alive:
                self.notify()
                self.told_to_stop.wait(1.0)
            for server in servers:
                server.close()
            give_up_at = monotonic() + self.cfg.graceful_timeout
            while len(pool) and monotonic() < give_up_at:
                self.notify()
                pool.join(timeout=1.0)
            if len(pool):
                self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
                pool.kill(timeout=1)

        def handle_exit(self, sig, frame):
            super().handle_exit(sig, frame)
            if self.told_to_stop is not None:
                self.told_to_stop.set()

        def handle_request(self, listener_name, req, client, addr):
            try:
                super().handle_request(listener_name, req, client, addr)
            except StopIteration:
                # close(2) with an unread body in the queue resets the connection, and the answer is lost with it.
                if not self.alive and hasattr(util, "close_graceful"):
                    util.close_graceful(client)
                raise

    return Gevent


def asgi_class():
    """Gunicorn's asgi worker accepts without limit, closes connections it has promised to keep when SIGTERM comes,
    and waits a graceful timeout for those that never sent anything. This one accepts, and stops, by itself."""
    import asyncio
    from gunicorn.asgi.protocol import ASGIProtocol
    from gunicorn.workers.gasgi import ASGIWorker
    if not hasattr(ASGIProtocol, "_will_close"):  # before 27: as it is
        return type("Asgi", (Supervised, ASGIWorker), {})

    class Protocol(ASGIProtocol):
        decided = (None, False)  # the request whose answer has been announced, and whether it closes

        def connection_made(self, transport):
            super().connection_made(transport)
            self.worker.protocols.add(self)
            if self.worker.draining:
                self._arm_keepalive_timer()

        def connection_lost(self, exc):
            super().connection_lost(exc)
            self.worker.protocols.discard(self)
            self.worker.listen()

        def _will_close(self, request, response_requires_close):
            if self.decided[0] is not request:
                self.decided = (request, self.worker.draining)
            return self.decided[1] or super()._will_close(request, response_requires_close)

    class Asgi(Supervised, ASGIWorker):
        draining = False

        async def _serve(self):
            self.protocols, self.accepted, self.listening = set(), set(), False
            self.told_to_stop = asyncio.Event()
            self.tls = self._get_ssl_context()
            await self.start_lifespan()
            self.listen()
            while self.alive and not self.draining:
                self.notify()
                try:
                    await asyncio.wait_for(self.told_to_stop.wait(), 1.0)
                except asyncio.TimeoutError:
                    pass
            await asyncio.gather(*self.accepted, return_exceptions=True)
            await self._shutdown()

        async def start_lifespan(self):
            from gunicorn.asgi.lifespan import LifespanManager
            if self.cfg.asgi_lifespan == "off":
                return
            self.lifespan = LifespanManager(self.asgi, self.log, self.state)
            try:
                await self.lifespan.startup()
            except Exception as error:
                self.lifespan = None
                if self.cfg.asgi_lifespan == "on" or type(error).__name__ == "LifespanStartupFailed":
                    self.log.error("ASGI lifespan startup failed: %s", error)
                    raise SystemExit(EXIT_BOOT)

        def listen(self):
            """Accepts while there is room; called whenever that may have changed."""
            self.set_listening(
                not self.draining and len(self.protocols) + len(self.accepted) < self.worker_connections)

        def set_listening(self, wanted):
            if wanted != self.listening:
                self.listening = wanted
                for listener in self.sockets:
                    if wanted:
                        self.loop.add_reader(listener.sock, self.accept, listener.sock)
                    else:
                        self.loop.remove_reader(listener.sock)

        def accept(self, listener):
            try:
                client, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # out of descriptors: trying again at once would only burn CPU
                self.log.error("accept: %s", error)
                self.set_listening(False)
                self.loop.call_later(0.1, self.listen)
                return
            client.setblocking(False)
            task = self.loop.create_task(self.loop.connect_accepted_socket(lambda: Protocol(self), client, ssl=self.tls))
            self.accepted.add(task)
            task.add_done_callback(self.settle)
            self.listen()

        def settle(self, task):
            self.accepted.discard(task)  # it is, or was, among the protocols
            self.listen()

        def handle_quit_signal(self):
            super().handle_quit_signal()
            self.told_to_stop.set()

        def handle_exit_signal(self):
            if not self.draining:
                self.handle_exit(None, None)

        def handle_exit(self, sig, frame):
            """Not through `alive`, at which Gunicorn's protocol closes connections it has promised to keep."""
            self.draining = True
            self.tmp.say(b"STOPPING=1")
            self.listen()
            for protocol in self.protocols:
                if protocol.req_count == 0 or protocol._awaiting_request:
                    protocol._arm_keepalive_timer()
            self.told_to_stop.set()

    return Asgi


def of_the_user(theirs, name):
    """A class that Gunicorn's settings name. Where it extends one of Gunicorn's, what it changes comes before what we change."""
    family = family_of(theirs)
    if hasattr(theirs, "setup"):
        theirs.setup()
    if family is None:
        if "uvicorn.server" in sys.modules:
            hear_out(sys.modules["uvicorn.server"])
        return type(theirs.__name__, (OfNoFamily, theirs), {})
    if family != name:
        told = (name, dotted(theirs), family)
        raise Unusable("settings", "worker-class is %s, but Gunicorn's settings name %s, which is a %s class" % told)
    return type(theirs.__name__, (theirs, WORKER_CLASSES[name]()), {})


WORKER_CLASSES = {"sync": sync_class, "gthread": gthread_class, "gevent": gevent_class, "asgi": asgi_class}
