"""Gunicorn's settings and its application object, and what is wrong with either in words for their user.

The first part of the zygote's script, and of the inquiry's (inquiry.py). It decides what Gunicorn is told, and refuses to read a command line or
a gunicorn.conf.py itself: Gunicorn does that.
"""

# As in workers.py: only what gevent has no better version of may be imported up here.
import contextlib
import io
import json
import os
import sys
import traceback

MESSAGE_BYTES = 4096
LINE_CHARACTERS = 500
OLDEST_GUNICORN = 22
# Gunicorn's classes that workers.py changes, by the name that `worker-class` has for them.
FAMILIES = {
    "gunicorn.workers.sync.SyncWorker": "sync",
    "gunicorn.workers.gthread.ThreadWorker": "gthread",
    "gunicorn.workers.ggevent.GeventWorker": "gevent",
    "gunicorn.workers.gasgi.ASGIWorker": "asgi",
}


class Unusable(Exception):
    """The generation cannot serve: `stage` says which part, the message is for the user."""

    stage = property(lambda self: self.args[0])
    message = property(lambda self: self.args[1])


def missing(stage, what, package):
    return Unusable(stage, "%s; install it for this interpreter: %s -m pip install %s" % (what, sys.executable, package))


def shortened(text):
    """The end of a text, with its longest lines cut: what a packet takes. Bytes that are no UTF-8, as in the names of files, stay readable."""
    lines = text.encode(errors="backslashreplace").decode().strip().split("\n")
    lines = [line if len(line) <= LINE_CHARACTERS else line[:LINE_CHARACTERS] + " [...]" for line in lines]
    while len(lines) > 1 and len("\n".join(lines).encode()) > MESSAGE_BYTES:
        del lines[0]
    return "\n".join(lines)


def packed(message):
    """As JSON that every reader takes: half a surrogate pair is none."""
    return json.dumps(message, ensure_ascii=False).encode(errors="replace")


def first_frame(error):
    """The user's own."""
    not_theirs = (__name__, "importlib", "gunicorn")
    frame = error.__traceback__ if error else None
    while frame and frame.tb_frame.f_globals.get("__name__", "").split(".")[0] in not_theirs:
        frame = frame.tb_next
    return frame


def describe(error):
    """The end of the traceback, from the user's own first frame on."""
    frame = first_frame(error)
    if frame is None and type(error).__name__ in ("AppImportError", "ConfigError"):
        return shortened(str(error))
    if frame is None and first_frame(error.__cause__ or error.__context__) is None:
        return shortened("".join(traceback.format_exception_only(type(error), error)))
    return shortened("".join(traceback.format_exception(type(error), error.with_traceback(frame), frame)))


def open_certificates(cfg, forgiven=()):
    """Gunicorn's words for one that is not there come late, and those for one that may not be read from each worker."""
    for name in ("certfile", "keyfile"):
        path = getattr(cfg, name)
        if not path:
            continue
        try:
            open(path, "rb").close()
        except forgiven:
            pass
        except OSError as error:
            raise Unusable("settings", "%s = %r cannot be read by user %s: %s" % (name, path, own_name(), error.strerror)) from None


def own_name():
    import pwd
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def dotted(something):
    return "%s.%s" % (something.__module__, something.__qualname__)


def family_of(worker_class):
    """The one of Gunicorn's classes that it is or extends; nothing for a class of its own."""
    return next((FAMILIES[dotted(base)] for base in worker_class.__mro__ if dotted(base) in FAMILIES), None)


def find_gunicorn():
    try:
        import gunicorn
    except ImportError:
        raise missing("gunicorn", "the package gunicorn is missing", "gunicorn") from None
    if gunicorn.version_info[0] < OLDEST_GUNICORN:
        raise missing("gunicorn", "gunicorn %s is too old" % gunicorn.__version__, "--upgrade gunicorn")
    return gunicorn


def application_class(settings):
    """Gunicorn's own application object, so that `module:callable` and `module:factory()` mean what they mean there."""
    from gunicorn.app.wsgiapp import WSGIApplication

    class Application(WSGIApplication):
        def load_config(self):
            named = settings.get("app")
            if named:
                self.cfg.set("wsgi_app", named)
            if settings["gunicorn"] is None:
                self.app_uri = named
            else:
                super().load_config()
            if named:
                self.app_uri = named
            for name, value in settings.get("overrides", {}).items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)

        def load(self):
            callable_ = super().load()
            load_urls()
            return callable_

    return Application


def configured(settings):
    """The application with its settings. Gunicorn ends the process over a wrong one; here its words become the error."""
    gunicorn = find_gunicorn()
    os.environ["SERVER_SOFTWARE"] = gunicorn.SERVER_SOFTWARE
    sys.argv[:] = ["gunicorn", *(settings["gunicorn"] if settings["gunicorn"] is not None else [settings["app"]])]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            application = application_class(settings)("%(prog)s [OPTIONS] [APP_MODULE]", prog="gunicorn")
            application.cfg.env  # complains about a raw_env without =
    except SystemExit as end:
        if not end.code:
            raise
        raise Unusable("settings", shortened(said.getvalue()) or "Gunicorn refuses its settings") from None
    except Exception as error:
        raise Unusable("settings", describe(error)) from None
    sys.stderr.write(said.getvalue())
    return application


def changed_settings(cfg):
    """The names of those that are not at their defaults."""
    return [name for name, setting in cfg.settings.items() if setting.get() != type(setting)().get()]


def address(bound):
    if isinstance(bound, int):
        return "fd:%d" % bound
    if isinstance(bound, tuple):
        return "%s:%d" % ("[%s]" % bound[0] if ":" in bound[0] else bound[0] or "0.0.0.0", bound[1])
    return "unix:" + (bound if bound.startswith("\0") else os.path.abspath(bound))


def asked_for(cfg, name):
    """A setting's value as the supervisor's configuration would have it."""
    if name == "bind":
        try:
            return [address(each) for each in cfg.address]
        except Exception:
            return None  # no address, and none is needed
    if name == "worker_class":
        named = cfg.worker_class_str  # gthread, for sync with threads
        return FAMILIES.get(named, named)
    if name == "umask":
        return cfg.umask & 0o666  # of sockets
    if name == "pidfile":
        return os.path.abspath(cfg.pidfile) if cfg.pidfile else None
    return cfg.settings[name].get()


def overruled_settings(cfg, changed, decided):
    """The names of those whose values are not what the supervisor's configuration decides. A worker class of the user's own is taken."""
    names = [name for name in changed if name in decided and asked_for(cfg, name) != decided[name]]
    if "worker_class" in names and asked_for(cfg, "worker_class") not in FAMILIES.values():
        names.remove("worker_class")
    for name, asked, have in (("user", cfg.uid, os.geteuid()), ("group", cfg.gid, os.getegid())):
        if name in changed and asked != have:
            names.append(name)
    return names


def refuse(changed, refused):
    words = ["gunicorn: %s cannot be honoured: %s" % (name, refused[name]) for name in changed if name in refused]
    if words:
        raise Unusable("settings", "\n".join(words))


def prepare_to_import(cfg):
    """What Gunicorn's master does before it imports an application."""
    os.environ.update(cfg.env)
    for path in reversed((cfg.pythonpath or "").split(",")):
        if path and os.path.abspath(path) not in sys.path:
            sys.path.insert(0, os.path.abspath(path))
    if cfg.spew:
        from gunicorn import debug
        debug.spew()


def load_urls():
    """Django imports its URLs, and with them most of a project, at the first request: too late to refuse a broken deploy."""
    if "django.urls" not in sys.modules:
        return
    from django.conf import settings
    from django.urls import get_resolver
    if settings.configured and getattr(settings, "ROOT_URLCONF", None):
        get_resolver().url_patterns
