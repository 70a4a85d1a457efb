"""The process that Python workers are forked from: one for each generation of the code.

It imports the application once and then forks a worker whenever the supervisor asks: milliseconds instead of
seconds, and the memory of the import is shared. It decides nothing: how many workers live, and when one has to go,
is the supervisor's business. It refuses to serve, to run an event loop of its own, and to outlive the supervisor.

The second half of the zygote's script: the names it does not define are those of workers.py, which stands before it.

Descriptors: 3 the control channel (SOCK_SEQPACKET, one JSON object a packet), 4 this script, 5.. the listeners.
"""

# As in workers.py: these names stay the real, blocking ones.
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
LINE_CHARACTERS = 500
THREAD_NAMES = 64
OLDEST_GUNICORN = 22
EXIT_APP = 4  # as Gunicorn's workers
PR_SET_PDEATHSIG = 1
ADOPTION_SECONDS = 5.0  # for the supervisor to become a worker's parent; it takes less than a millisecond
KEEPALIVED_CONNECTIONS = 1000  # Gunicorn's default: what a gthread worker may hold beyond its threads
NOT_FOR_THE_ZYGOTE = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2)

libc = ctypes.CDLL(None, use_errno=True)


class Unusable(Exception):
    """The generation cannot serve: `stage` says which part, the message is for the user."""

    stage = property(lambda self: self.args[0])
    message = property(lambda self: self.args[1])


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
            self.cfg.set("max_requests", settings.get("max_requests", 0))
            self.cfg.set("max_requests_jitter", settings.get("max_requests_jitter", 0))
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
        load_urls()
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
    lines = "".join(traceback.format_exception(type(error), error.with_traceback(frame), frame)).strip().split("\n")
    lines = [line if len(line) <= LINE_CHARACTERS else line[:LINE_CHARACTERS] + " [...]" for line in lines]
    while len(lines) > 1 and len("\n".join(lines).encode(errors="replace")) > MESSAGE_BYTES:
        del lines[0]
    return "\n".join(lines)


def load_urls():
    """Django imports its URLs, and with them most of a project, at the first request: too late to refuse a broken deploy."""
    if "django.urls" not in sys.modules:
        return
    from django.conf import settings
    from django.urls import get_resolver
    if settings.configured and getattr(settings, "ROOT_URLCONF", None):
        get_resolver().url_patterns


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
    signal.signal(signal.SIGUSR1, lambda *_: application.logger.reopen_files())  # workers inherit its open files
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
                os.close(writer)
                return 0
            os.write(writer, b"%d" % told)
            os._exit(0)
        os.close(writer)  # or reading would never end if the process in between died without a word
        waitpid(between, 0)
        told = int(os.read(reader, 32) or b"-%d" % errno.ECHILD)
    finally:
        os.close(reader)
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
    keep_to(order.get("cores"))
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


def keep_to(cores):
    if cores:
        try:
            os.sched_setaffinity(0, cores)
        except OSError:
            pass  # cores that went away since they were counted are no reason not to serve


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # the application has closed or replaced it


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
