"""The process that Python workers are forked from: one for each generation of the code.

It imports the application once and then forks a worker whenever the supervisor asks: milliseconds instead of
seconds, and the memory of the import is shared. It decides nothing: how many workers live, and when one has to go,
is the supervisor's business. It refuses to serve, to run an event loop of its own, and to outlive the supervisor.

Descriptors: 3 the control channel (SOCK_SEQPACKET, one JSON object a packet), 4 this script, 5.. the listeners.
"""

# Only what gevent has no better version of may be imported up here; these names stay the real, blocking ones.
import _socket
import ctypes
import errno
import gc
import json
import os
import signal
import sys
import traceback
import warnings
from os import fork, waitpid
from time import monotonic, sleep

CONTROL, SCRIPT, FIRST_LISTENER = 3, 4, 5
PACKET_BYTES = 65536
MESSAGE_BYTES = 4096
THREAD_NAMES = 64
OLDEST_GUNICORN = 22
EXIT_BOOT, EXIT_APP = 3, 4  # as Gunicorn's workers
PR_SET_PDEATHSIG = 1
ADOPTION_SECONDS = 5.0  # for the supervisor to become a worker's parent; it takes less than a millisecond
BEAT_SECONDS = 0.8  # below the second that Gunicorn's loops sleep, so that no turn of theirs is skipped
KEEPALIVED_CONNECTIONS = 1000  # Gunicorn's default: what a gthread worker may hold beyond its threads
NOT_FOR_THE_ZYGOTE = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2)

libc = ctypes.CDLL(None, use_errno=True)


class Unusable(Exception):
    """The generation cannot serve: `stage` says which part, the message is for the user."""

    stage = property(lambda self: self.args[0])
    message = property(lambda self: self.args[1])


class Heartbeat:
    """Takes the place of Gunicorn's temporary file, whose age only Gunicorn's own master would read.

    Gunicorn's loops call `notify` when they really turn, and for the first time when the listeners are open: that is
    when a worker is ready, and from then on its silence means something. A full queue must never block a worker, so a beat is dropped; readiness is worth a wait.
    """

    def __init__(self, cfg):
        address = os.environ["NOTIFY_SOCKET"]
        self.address = "\0" + address[1:] if address.startswith("@") else address
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        self.ready, self.due = False, 0.0

    def notify(self):
        if not self.ready:
            self.ready = self.say(b"READY=1\nWATCHDOG=1", 0)
        elif monotonic() >= self.due:
            self.due = monotonic() + BEAT_SECONDS
            self.say(b"WATCHDOG=1")

    def say(self, words, flags=_socket.MSG_DONTWAIT):
        try:
            return self.socket.sendto(words, flags, self.address) > 0
        except OSError:
            return False

    def fileno(self):  # Gunicorn's workers close it on exec
        return self.socket.fileno()


def ignore(signum, frame):
    """A handler and not SIG_IGN, which exec would pass on to the programs an application starts."""


def ignore_signals(signals):
    for number in signals:
        signal.signal(number, ignore)
    for number in (signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)  # with a handler, reading the terminal would never end


class Supervised:
    """What all worker classes change: who they report to, and that its death means drain, not exit."""

    def init_signals(self):
        super().init_signals()
        ignore_signals((signal.SIGHUP, signal.SIGUSR2))

    def notify(self):
        self.tmp.notify()
        if self.alive and os.getppid() != self.ppid:
            self.handle_exit(None, None)

    def handle_exit(self, sig, frame):
        self.tmp.say(b"STOPPING=1")
        super().handle_exit(sig, frame)


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
    from gunicorn import util
    from gunicorn.workers.ggevent import GeventWorker

    def named(listener):
        """Gunicorn asks the listener's name for each connection, also for the last ones, when it is closed already."""
        name = listener.getsockname()
        return SimpleNamespace(getsockname=lambda: name)

    class Gevent(Supervised, GeventWorker):
        told_to_stop = None

        def run(self):
            self.told_to_stop = Event()
            pool = Pool(self.worker_connections)  # one for all listeners: the limit is the worker's
            servers = [StreamServer(each, handle=partial(self.handle, named(each)), spawn=pool)
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

        def handle_request(self, listener_name, req, sock, addr):
            try:
                super().handle_request(listener_name, req, sock, addr)
            except StopIteration:
                # close(2) with an unread body in the queue resets the connection, and the answer is lost with it.
                if not self.alive and hasattr(util, "close_graceful"):
                    util.close_graceful(sock)
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
            task = self.loop.create_task(self.loop.connect_accepted_socket(lambda: Protocol(self), client))
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


WORKER_CLASSES = {"sync": sync_class, "gthread": gthread_class, "gevent": gevent_class, "asgi": asgi_class}


def missing(stage, what, package):
    return Unusable(stage, "%s; install it for this interpreter: %s -m pip install %s" % (what, sys.executable, package))


def load_worker_class(name):
    """Patches for gevent before anything else is imported; says in one sentence what the interpreter lacks."""
    if name == "gevent":
        try:
            from gevent import monkey
        except ImportError:
            raise missing("gevent", "worker-class gevent needs the package gevent", "gevent") from None
        monkey.patch_all()
    try:
        import gunicorn
    except ImportError:
        raise missing("gunicorn", "the package gunicorn is missing", "gunicorn") from None
    if gunicorn.version_info[0] < OLDEST_GUNICORN:
        raise missing("gunicorn", "gunicorn %s is too old" % gunicorn.__version__, "--upgrade gunicorn")
    stage = "gevent" if name == "gevent" else "gunicorn"
    try:
        from gunicorn.workers import base
        base.WorkerTmp = Heartbeat
        return WORKER_CLASSES[name]()
    except ModuleNotFoundError as error:
        if error.name.startswith("gunicorn"):
            too_old = "gunicorn %s has no worker class %s" % (gunicorn.__version__, name)
            raise missing(stage, too_old, "--upgrade gunicorn") from None
        raise missing(stage, "worker-class %s needs the package %s" % (name, error.name), error.name) from None
    except RuntimeError as error:  # gunicorn's word on a gevent that is too old
        raise missing(stage, str(error), "--upgrade gevent") from None


def load_application(settings):
    """Gunicorn's own application object, so that `module:callable` and `module:factory()` mean what they mean there."""
    import gunicorn
    from gunicorn import util
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):
        def load_config(self):
            name, connections = settings["worker_class"], settings["connections"]
            self.cfg.set("worker_class", name)
            self.cfg.set("workers", settings["workers"])
            self.cfg.set("timeout", int(settings["timeout"]))
            self.cfg.set("graceful_timeout", max(1, int(settings["graceful_timeout"])))
            self.cfg.set("threads", connections if name == "gthread" else 1)
            limits = {"sync": 1, "gthread": max(KEEPALIVED_CONNECTIONS, 2 * connections)}
            self.cfg.set("worker_connections", limits.get(name, connections))

        def load(self):
            return util.import_app(settings["app"])

    os.environ["SERVER_SOFTWARE"] = gunicorn.SERVER_SOFTWARE
    sys.argv[:] = ["gunicorn", settings["app"]]
    del globals()["__file__"]  # multiprocessing would have its children read the script again, which is gone by then
    application = Application()
    application.logger = application.cfg.logger_class(application.cfg)
    try:
        application.wsgi()
    except BaseException as error:
        raise Unusable("app", describe(error)) from None
    return application


def describe(error):
    """The end of the traceback, from the user's own first frame on."""
    not_theirs = (__name__, "importlib", "gunicorn")
    frame = error.__traceback__
    while frame and frame.tb_frame.f_globals.get("__name__", "").split(".")[0] in not_theirs:
        frame = frame.tb_next
    if frame is None and type(error).__name__ == "AppImportError":
        return str(error)
    text = "".join(traceback.format_exception(type(error), error.with_traceback(frame), frame)).strip()
    kept = text.encode(errors="replace")[-MESSAGE_BYTES:].decode(errors="ignore")
    return kept if kept == text else kept.partition("\n")[2]


def close_database_connections():
    """A connection opened during the import would be shared by all workers, and every answer would be mixed up."""
    if "django.db" not in sys.modules:
        return
    from django.conf import settings
    from django.db import connections
    if settings.configured:
        connections.close_all()
        for connection in connections.all():
            if hasattr(connection, "close_pool"):
                connection.close_pool()


def start(settings):
    """Makes the generation: everything workers have in common is done here, once."""
    follow_into_death(settings["supervisor"])
    settings["sockets"] = range(FIRST_LISTENER, FIRST_LISTENER + settings["listeners"])
    for descriptor in (CONTROL, SCRIPT, *settings["sockets"]):
        os.set_inheritable(descriptor, False)  # programs that the import starts must not hold the port
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # where this script lies
    os.chdir(settings["directory"])
    sys.path.insert(0, settings["directory"])
    worker_class = load_worker_class(settings["worker_class"])
    application = load_application(settings)
    close_database_connections()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever the import made of them
    ignore_signals(NOT_FOR_THE_ZYGOTE)
    set_title("zygote", settings)
    gc.collect()
    gc.freeze()  # a collection in a worker would write to, and so copy, every page of the import
    return settings, application, worker_class


def follow_into_death(parent):
    """Asks for SIGTERM when the parent dies, and leaves if it is dead already."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_BOOT)


def set_title(what, settings):
    try:
        from setproctitle import setproctitle
    except ImportError:
        return
    setproctitle("tuningfork: %s [%s]" % (what, settings["app"]))


def fork_orphan():
    """Forks twice, so that the supervisor adopts the worker; 0 in the worker, else its pid.

    The process in between is reaped before the pid is told: until then the supervisor could not wait for the worker.
    """
    flush()  # or each worker would write it again
    reader, writer = os.pipe()
    try:
        between = fork()
        if between == 0:
            try:
                told = fork()
            except OSError as error:
                told = -error.errno
            if told == 0:
                return 0
            os.write(writer, b"%d" % told)
            os._exit(0)
        waitpid(between, 0)
        told = int(os.read(reader, 32) or b"-%d" % errno.ECHILD)
    finally:
        os.close(reader)
        os.close(writer)
    if told < 0:
        raise OSError(-told, os.strerror(-told))
    return told


def be_worker(settings, application, worker_class, order):
    """Runs in the new process until it ends; ends with Gunicorn's exit codes."""
    give_up_at = monotonic() + ADOPTION_SECONDS
    while os.getppid() != settings["supervisor"] and monotonic() < give_up_at:
        sleep(0.0005)
    follow_into_death(settings["supervisor"])  # asked for earlier, it would come when the process in between exits
    os.setpgid(0, 0)
    os.close(CONTROL)
    os.close(SCRIPT)
    set_title("worker %d" % order["slot"], settings)
    if settings["worker_class"] == "gevent":
        from gevent import reinit
        reinit()  # the application's import may have started an event loop
    from gunicorn.sock import create_sockets
    cfg, log, worker = application.cfg, application.logger, None
    idle_seconds = min(1.0, settings["timeout"] / 2 or 1.0)
    try:
        sockets = create_sockets(cfg, log, settings["sockets"])  # held here: Gunicorn 22 takes only their numbers
        worker = worker_class(order["worker"], settings["supervisor"], sockets, application, idle_seconds, cfg, log)
        worker.pid = os.getpid()
        worker.init_process()
    except Exception:
        log.exception("Exception in worker process")
        sys.exit(-1 if worker and worker.booted else EXIT_BOOT)
    sys.exit(0)


def flush():
    sys.stdout.flush()
    sys.stderr.flush()


def leave(code):
    """At once: the application's exit functions are for its workers, who may live on, and its threads may never end."""
    flush()
    os._exit(code)


def hear():
    packet = os.read(CONTROL, PACKET_BYTES)
    return json.loads(packet) if packet else leave(0)


def tell(answer):
    os.write(CONTROL, json.dumps(answer).encode())


def main():
    warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning, module="__main__")
    ignore_signals(NOT_FOR_THE_ZYGOTE)
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # the terminal's Ctrl-C is for the supervisor
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        settings, application, worker_class = start(hear()["settings"])
    except Unusable as error:
        tell({"failed": {"stage": error.stage, "message": error.message}})
        leave(EXIT_APP if error.stage == "app" else EXIT_BOOT)
    import gunicorn
    import threading
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    tell({"imported": {"gunicorn": gunicorn.__version__, "python": sys.version.split()[0],
                       "threads": threads[:THREAD_NAMES]}})
    while True:
        order = hear()["fork"]
        try:
            pid = fork_orphan()
        except OSError as error:
            tell({"fork_failed": {"worker": order["worker"], "reason": error.strerror}})
            continue
        if pid == 0:
            be_worker(settings, application, worker_class, order)
        tell({"forked": {"worker": order["worker"], "pid": pid}})


if __name__ == "__main__":
    main()
