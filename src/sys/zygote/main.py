"""The process that Python workers are forked from: one for each generation of the code.

It imports the application once and then forks a worker whenever the supervisor asks: milliseconds instead of
seconds, and the memory of the import is shared. It decides nothing: how many workers live, and when one has to go,
is the supervisor's business. It refuses to serve, to run an event loop of its own, and to outlive the supervisor.

The last part of the zygote's script: the names it does not define are those of the parts before it.

Descriptors: 3 the control channel (SOCK_SEQPACKET, one JSON object a packet), 5.. the listeners; 4 was this script.
"""

# As in workers.py: these names stay the real, blocking ones.
import ctypes
import errno
import fnmatch
import gc
import json
import os
import signal
import sys
import warnings
from functools import partial
from os import fork, waitpid
from time import monotonic, sleep

CONTROL, FIRST_LISTENER = 3, 5
PACKET_BYTES = 65536
THREAD_NAMES = 64
EXIT_APP = 4  # as Gunicorn's workers
PR_SET_PDEATHSIG = 1
ADOPTION_SECONDS = 5.0  # for the supervisor to become a worker's parent; it takes less than a millisecond
KEEPALIVED_CONNECTIONS = 1000  # Gunicorn's default: what a gthread worker may hold beyond its threads
NOT_FOR_THE_ZYGOTE = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGWINCH, signal.SIGUSR1, signal.SIGUSR2)

libc = ctypes.CDLL(None, use_errno=True)
control = _socket.socket(fileno=CONTROL)


def patch(name):
    """Before anything that gevent has a better version of is imported."""
    if name == "gevent":
        try:
            from gevent import monkey
        except ImportError:
            raise missing("gevent", "worker-class gevent needs the package gevent", "gevent") from None
        monkey.patch_all()


def load_worker_class(name, cfg, log):
    """Ours for Gunicorn's of that name, or what Gunicorn's settings name instead. Says in one sentence what the interpreter lacks."""
    import gunicorn
    from gunicorn import util
    stage = "gevent" if name == "gevent" else "gunicorn"
    try:
        from gunicorn.workers import base
        base.WorkerTmp = Heartbeat
        named = cfg.settings["worker_class"].get()
        theirs = None if named == name else util.load_class(named)
        if theirs is None or dotted(theirs) in FAMILIES:
            cfg.set("worker_class", name)
            found = WORKER_CLASSES[name]()
        else:
            found = of_the_user(theirs, name)
        if hasattr(found, "check_config"):
            found.check_config(cfg, log)
        return found
    except ModuleNotFoundError as error:
        if error.name.startswith("gunicorn"):
            too_old = "gunicorn %s has no worker class %s" % (gunicorn.__version__, name)
            raise missing(stage, too_old, "--upgrade gunicorn") from None
        raise missing(stage, "worker-class %s needs the package %s" % (name, error.name), error.name) from None
    except RuntimeError as error:  # gunicorn's word on a gevent that is too old
        raise missing(stage, str(error), "--upgrade gevent") from None


def open_log(cfg):
    try:
        log = cfg.logger_class(cfg)
        log.reopen_files = partial(reopen_log_files, log.reopen_files)
        return log
    except Exception as error:
        raise Unusable("settings", "Gunicorn's log cannot be set up:\n" + describe(error)) from None


def adjust(cfg, settings):
    """What the supervisor's configuration says wins over Gunicorn's settings, and what the supervisor does is not done again."""
    name, connections = settings["worker_class"], settings["connections"]
    limits = {"sync": 1, "gthread": max(KEEPALIVED_CONNECTIONS, 2 * connections)}
    if settings["gunicorn"] is None:
        cfg.set("worker_class", name)
    elif name == "gthread" and cfg.worker_connections > connections:
        limits["gthread"] = cfg.worker_connections
    values = {
        "workers": settings["workers"],
        "timeout": int(settings["timeout"]),
        **{key: settings[key] for key in ("max_requests", "max_requests_jitter") if key in settings},
        "graceful_timeout": max(1, int(settings["graceful_timeout"])),
        "threads": connections if name == "gthread" else 1,
        "worker_connections": limits.get(name, connections),
        "preload_app": settings["preload"],
        "reuse_port": False,
    }
    if os.geteuid() != 0:
        values["initgroups"] = False  # that needs root, and a supervisor that was told so has done it
    for key, value in values.items():
        cfg.set(key, value)


def import_application(settings, application):
    """Once for all workers. Threads that it starts would be missing in every worker, and a lock that one holds would never be released there."""
    import threading
    before = set(threading.enumerate())
    try:
        prepare_to_import(application.cfg)
        if settings["preload"]:
            application.wsgi()
    except BaseException as error:
        raise Unusable("app", describe(error)) from None
    started = [thread.name for thread in threading.enumerate() if thread not in before]
    allowed = settings["allow_threads"]
    lost = [name for name in started if not any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed)]
    if lost:
        raise Unusable("threads", "the import of the application started threads, and no worker would have them: %s; start them in the "
                       "workers, or write preload = false, or name those that survive a fork in allow-threads" % ", ".join(lost[:THREAD_NAMES]))
    return started


def close_database_connections():
    """A connection that is open at a fork would be shared by all workers, and every answer would be mixed up."""
    if "django.db" not in sys.modules:
        return
    from django.conf import settings
    from django.db import connections
    if settings.configured:
        connections.close_all()
        for connection in connections.all():
            if hasattr(connection, "close_pool"):
                connection.close_pool()


def find_engines():
    """SQLAlchemy's. By their types alone: isinstance asks lazy objects for their class, which wakes them."""
    if "sqlalchemy.engine" not in sys.modules:
        return []
    from sqlalchemy.engine import Engine
    return [each for each in gc.get_objects() if issubclass(type(each), Engine)]


def dispose(engines, **how):
    """A pool keeps the connections of its process: closed before a fork, in a worker forgotten."""
    for engine in engines:
        try:
            engine.dispose(**how)
        except TypeError:  # before SQLAlchemy 1.4.33 there was no `close`
            engine.dispose()
        except Exception:  # an asynchronous engine closes nothing outside of its loop
            engine.dispose(close=False)


def open_listeners(cfg, log, settings):
    """As Gunicorn's master has them, from the supervisor's. Programs that a hook starts must not hold the port."""
    import socket
    from gunicorn import sock
    bound = []
    for descriptor in settings["sockets"]:
        with socket.socket(fileno=os.dup(descriptor)) as one:
            name = one.getsockname()
        host = "[%s]" if isinstance(name, tuple) and ":" in name[0] else "%s"
        bound.append("unix:%s" % name if isinstance(name, str) else (host + ":%d") % name[:2])
    cfg.set("bind", bound)
    try:
        listeners = sock.create_sockets(cfg, log, settings["sockets"])
    except Exception as error:
        raise Unusable("settings", "Gunicorn refuses the listening sockets: " + describe(error)) from None
    for listener in listeners:
        listener.sock.set_inheritable(False)
    return listeners


def call_hooks(server, settings):
    """What Gunicorn's master calls before it forks: at its own start, or at a reload. A zygote that takes another's place is neither."""
    try:
        server.scaled(settings["workers"])
        if settings["occasion"] == "start":
            server.cfg.on_starting(server)
            server.LISTENERS = open_listeners(server.cfg, server.log, settings)
            server.cfg.when_ready(server)
        else:
            server.LISTENERS = open_listeners(server.cfg, server.log, settings)
            if settings["occasion"] == "reload":
                server.cfg.on_reload(server)
    except Unusable:
        raise
    except Exception as error:
        raise Unusable("hooks", "a server hook failed:\n" + describe(error)) from None


def started_by(hooks):
    """Threads that server hooks start, such as an exporter of metrics, and their names. With gevent these are greenlets, by whose
    addresses threads are known."""
    import threading
    before = set(threading.enumerate())
    hooks()
    started = [thread for thread in threading.enumerate() if thread not in before]
    names = [thread.name for thread in started]
    if not started or "gevent.greenlet" not in sys.modules:
        return started, names
    from gevent import Greenlet
    idents = {thread.ident for thread in started}
    return [each for each in gc.get_objects() if issubclass(type(each), Greenlet) and id(each) in idents], names


class Zygote:
    """Everything workers have in common, made once."""

    def __init__(self, settings):
        follow_into_death(settings["supervisor"], signal.SIGTERM)
        self.settings = settings
        settings["sockets"] = range(FIRST_LISTENER, FIRST_LISTENER + settings["listeners"])
        for descriptor in (CONTROL, *settings["sockets"]):
            os.set_inheritable(descriptor, False)  # programs that the import starts must not hold the port
        if not getattr(sys.flags, "safe_path", False):
            del sys.path[0]  # where a script would lie
        os.chdir(settings["directory"])
        sys.path.insert(0, settings["directory"])
        patch(settings["worker_class"])
        application = configured(settings)
        cfg = application.cfg
        self.changed = changed_settings(cfg) if settings["gunicorn"] is not None else []
        refuse(self.changed, settings.get("refused", {}))
        self.overruled = overruled_settings(cfg, self.changed, settings.get("decided", {}))
        adjust(cfg, settings)
        open_certificates(cfg)
        application.logger = open_log(cfg)
        self.worker_class = load_worker_class(settings["worker_class"], cfg, application.logger)
        self.threads = import_application(settings, application)
        self.server = Server(settings, application, self.worker_class)
        self.works_of_hooks, self.names_of_works = started_by(lambda: call_hooks(self.server, settings))
        self.engines = find_engines()
        self.close_connections()
        # Whatever the import made of them. systemd may send SIGTERM to the whole control group: the last hooks are still to be called.
        ignore_signals((*NOT_FOR_THE_ZYGOTE, signal.SIGTERM))
        follow_into_death(settings["supervisor"], signal.SIGKILL)
        signal.signal(signal.SIGUSR1, lambda *_: self.server.log.reopen_files())
        self.title("zygote")
        gc.collect()
        gc.freeze()  # a collection in a worker would write to, and so copy, every page of the import

    def close_connections(self):
        close_database_connections()
        dispose(self.engines)

    def title(self, what):
        try:
            from setproctitle import setproctitle
        except ImportError:
            return
        setproctitle("tuningfork: %s [%s]" % (what, self.server.cfg.settings["proc_name"].get() or self.settings["app"]))

    def obey(self, order, streams):
        """One of the supervisor's orders; what it is answered with, if anything."""
        if "fork" in order:
            return self.fork(order["fork"], streams)
        if "ended" in order:
            self.call(self.server.ended, order["ended"]["pid"])
        elif "scaled" in order:
            self.call(self.server.scaled, order["scaled"]["workers"])
        elif "leave" in order:
            if order["leave"]["last"]:
                self.call(self.server.cfg.on_exit, self.server)
            elif self.works_of_hooks:
                return None  # Gunicorn's master would go on with them
            leave(0)
        return None

    def wait(self):
        """Until there is an order. gevent's loop is run only where something of the user's waits for it."""
        if self.works_of_hooks and self.settings["worker_class"] == "gevent":
            from gevent.socket import wait_read
            wait_read(CONTROL)

    def call(self, hook, *arguments):
        try:
            hook(*arguments)
        except Exception:
            self.server.log.exception("Exception in a server hook")

    def fork(self, order, streams):
        """Builds the worker here, as Gunicorn does: pre_fork sees it, and what it puts into it the worker has."""
        server, cfg = self.server, self.server.cfg
        worker, pid = None, None
        try:
            idle_seconds = min(1.0, self.settings["timeout"] / 2 or 1.0)
            server.worker_age += 1
            worker = self.worker_class(server.worker_age, server.pid, server.LISTENERS, server.app, idle_seconds, cfg, server.log)
            cfg.pre_fork(server, worker)
            self.close_connections()
            pid = fork_orphan()
        except OSError as error:
            return {"fork_failed": {"worker": order["worker"], "reason": error.strerror or str(error)}}
        except Exception as error:
            return {"fork_failed": {"worker": order["worker"], "reason": describe(error)}}
        finally:
            if worker is not None and pid != 0:
                worker.tmp.close()
        if pid == 0:
            speak_through(streams)
            self.be_worker(worker, order)
        worker.pid = pid
        if self.settings["gunicorn"] is not None:  # or nobody would tell of its end
            server.WORKERS[pid] = worker
        return {"forked": {"worker": order["worker"], "pid": pid}}

    def be_worker(self, worker, order):
        """Runs in the new process until it ends; ends with Gunicorn's exit codes."""
        wait_for_adoption(self.settings["supervisor"])
        keep_to(order.get("cores"))
        self.title("worker %d" % order["slot"])
        server, log = self.server, self.server.log
        from gunicorn.errors import AppImportError
        try:
            self.renew()
            worker.pid = os.getpid()
            if self.settings["gunicorn"] is not None:
                log.info("Booting worker with pid: %s", worker.pid)
            server.cfg.post_fork(server, worker)
            worker.init_process()
            sys.exit(0)
        except AppImportError as error:
            log.error("%s", error)
            sys.exit(EXIT_APP)
        except Exception:
            log.exception("Exception in worker process")
            sys.exit(-1 if worker.booted else EXIT_BOOT)
        finally:
            if self.settings["gunicorn"] is not None:
                log.info("Worker exiting (pid: %s)", worker.pid)
            self.call(server.cfg.worker_exit, server, worker)

    def renew(self):
        """What a fork must not share, or would lose: chance, connections, log files that were renamed meanwhile, gevent's loop."""
        if self.settings["worker_class"] == "gevent":
            from gevent import reinit
            reinit()  # the application's import may have started an event loop
            for work in self.works_of_hooks:
                work.kill(block=False)  # or a fork would go on with it too
        if "random" in sys.modules:
            sys.modules["random"].seed()
        if "numpy.random" in sys.modules:
            sys.modules["numpy.random"].seed()
        if "_ssl" in sys.modules:
            sys.modules["_ssl"].RAND_add(os.urandom(32), 0.0)
        close_database_connections()
        dispose(self.engines, close=False)
        self.server.log.reopen_files()


def follow_into_death(parent, number):
    """Asks for this signal when the parent dies, and leaves if it is dead already."""
    libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_BOOT)


def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # a worker of another user asks
    return True


def wait_for_adoption(supervisor):
    """The new process becomes the supervisor's child, of its own group, without what is the zygote's."""
    give_up_at = monotonic() + ADOPTION_SECONDS
    while os.getppid() != supervisor and monotonic() < give_up_at and lives(supervisor):
        sleep(0.0005)
    follow_into_death(supervisor, signal.SIGTERM)  # asked for earlier, it would come when the process in between exits
    os.setpgid(0, 0)
    os.close(control.detach())


def fork_orphan():
    """Forks twice, so that the supervisor adopts the worker; 0 in the worker, else its pid.

    The process in between is reaped before the pid is told: until then the supervisor could not wait for the worker.
    """
    flush()  # or each worker would write it again
    reader, writer = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the zygote's way with it is not a worker's
    try:
        try:
            between = fork()
            if between == 0:
                try:
                    told = fork()
                except OSError as error:
                    told = -error.errno
                if told == 0:
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    return 0
                os.write(writer, b"%d" % told)
                os._exit(0)
        finally:
            os.close(writer)  # or reading would never end if the process in between died without a word
        reap(between)
        told = int(os.read(reader, 32) or b"-%d" % errno.ECHILD)
    finally:
        os.close(reader)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    if told < 0:
        raise OSError(-told, os.strerror(-told))
    return told


def reap(pid):
    try:
        waitpid(pid, 0)
    except ChildProcessError:
        pass  # the application ignores SIGCHLD, or something of it was faster


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
    """The next order, and the descriptors that came with it."""
    packet, ancillary, _, _ = control.recvmsg(PACKET_BYTES, _socket.CMSG_SPACE(2 * 4), _socket.MSG_CMSG_CLOEXEC)
    passed = [data for level, kind, data in ancillary if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS)]
    descriptors = [fd for data in passed for fd in memoryview(data).cast("i")]
    return (json.loads(packet), descriptors) if packet else leave(0)


def speak_through(descriptors):
    """Makes pipes of the supervisor's the standard output and error."""
    for ours, theirs in zip((1, 2), descriptors):
        os.dup2(theirs, ours)
    close_all(descriptors)


def close_all(descriptors):
    for descriptor in descriptors:
        os.close(descriptor)


def tell(answer):
    os.write(CONTROL, packed(answer))


def main():
    warnings.filterwarnings("ignore", message=".*fork", category=DeprecationWarning, module="__main__")
    ignore_signals(NOT_FOR_THE_ZYGOTE)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True)  # a pipe is no terminal, but somebody may read along
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # the terminal's Ctrl-C is for the supervisor
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        zygote = Zygote(hear()[0]["settings"])
    except Unusable as error:
        tell({"failed": {"stage": error.stage, "message": error.message}})
        leave(EXIT_APP if error.stage == "app" else EXIT_BOOT)
    import gunicorn
    tell({"imported": {"gunicorn": gunicorn.__version__, "python": sys.version.split()[0], "threads": zygote.threads[:THREAD_NAMES],
                       "changed": zygote.changed, "overruled": zygote.overruled, "stays": bool(zygote.works_of_hooks),
                       "works": zygote.names_of_works[:THREAD_NAMES], "family": family_of(zygote.worker_class)}})
    while True:
        zygote.wait()
        order, streams = hear()
        answer = zygote.obey(order, streams)
        close_all(streams)
        if answer is not None:
            tell(answer)


if __name__ == "__main__":
    main()
