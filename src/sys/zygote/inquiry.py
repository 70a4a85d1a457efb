"""Asks the interpreter's own Gunicorn what a command line means: its settings, with gunicorn.conf.py and GUNICORN_CMD_ARGS.

The second half of the inquiry's script, behind application.py. The answer goes to descriptor 3, as one JSON object. Imports the application only
for --check-config, as Gunicorn does.
"""

import inspect
import re

ANSWER = 3


def plain(value):
    """A value as JSON has it; what it has nothing for, by its name."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if inspect.isclass(value) or callable(value):
        return dotted(value) if hasattr(value, "__qualname__") else repr(value)
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(each) for each in value]
    return str(value)


def addresses(cfg):
    """Gunicorn reads them only when it binds, and its words name no setting."""
    try:
        return [address(each) for each in cfg.address]
    except Exception as error:
        raise Unusable("settings", "bind = %s: %s" % (", ".join(cfg.settings["bind"].get()), error)) from None


def why_no_class(name, words):
    """Gunicorn's message holds a whole traceback; its last line is enough where no file of the user's is in it."""
    files = re.findall('File "(.*?)"', words)
    if files and all("/gunicorn/" in file or "importlib" in file for file in files):
        words = words.strip(" ]\n").split("\n")[-1]
    return shortened("worker_class %r: %s" % (name, words))


def worker_class(cfg):
    """Its name, and the family of Gunicorn's own classes it belongs to, if any."""
    try:
        found = cfg.worker_class
    except Exception as error:
        raise Unusable("settings", why_no_class(cfg.settings["worker_class"].get(), str(error))) from None
    if not inspect.isclass(found):
        raise Unusable("settings", "worker_class %r: there is no such class" % cfg.settings["worker_class"].get())
    return {"name": dotted(found), "family": family_of(found), "is_known": dotted(found) in FAMILIES}


def names(cfg):
    import grp
    import pwd
    try:
        user = pwd.getpwuid(cfg.uid).pw_name
    except KeyError:
        user = str(cfg.uid)
    try:
        group = grp.getgrgid(cfg.gid).gr_name
    except KeyError:
        group = str(cfg.gid)
    return user if cfg.uid != os.geteuid() else None, group if cfg.gid != os.getegid() else None


def setting(known, changed):
    value = plain(known.get())
    if known.name == "raw_env":
        value = [each.partition("=")[0] for each in value]
    is_default = known.name not in changed or known.name == "default_proc_name"  # which Gunicorn itself sets
    return {"name": known.name, "value": value, "default": is_default}


def make_log_files(cfg):
    """The zygote runs as the workers' user, who may not be able to. Gunicorn's log makes them, and gives them to that user."""
    if cfg.uid == os.geteuid() and cfg.gid == os.getegid():
        return []
    from gunicorn.glogging import loggers
    try:
        cfg.logger_class(cfg)
    except Exception as error:
        raise Unusable("settings", "Gunicorn's log cannot be set up:\n" + describe(error)) from None
    handlers = [handler for logger in loggers() for handler in logger.handlers]
    return sorted({handler.baseFilename for handler in handlers if hasattr(handler, "baseFilename")})


class Printed(Exception):
    """Gunicorn has printed what was asked for, its help or its version."""


def quietly_configured(settings):
    """What a gunicorn.conf.py prints is no part of a configuration that is printed."""
    printed = io.StringIO()
    stream = sys.stderr
    try:
        with contextlib.redirect_stdout(printed):
            return configured(settings)
    except SystemExit:
        stream = sys.stdout
        raise Printed from None
    finally:
        stream.write(printed.getvalue())


def resolved(purpose, app, arguments):
    application = quietly_configured({"gunicorn": arguments, "app": app})
    cfg = application.cfg
    open_certificates(cfg, PermissionError)  # the workers' user may be one who can
    log_files = make_log_files(cfg) if purpose == "serve" else []
    if cfg.check_config:
        try:
            prepare_to_import(cfg)
            application.wsgi()
        except BaseException as error:
            raise Unusable("app", "Error while loading the application:\n" + describe(error)) from None
    user, group = names(cfg)
    changed = changed_settings(cfg)
    return {
        "gunicorn": find_gunicorn().__version__,
        "app": application.app_uri,
        "worker_class": worker_class(cfg),
        "addresses": addresses(cfg),
        "user": user,
        "group": group,
        "log_files": log_files,
        "pidfile": os.path.abspath(cfg.pidfile) if cfg.pidfile else None,
        "settings": [setting(each, changed) for each in sorted(cfg.settings.values(), key=lambda each: each.order)],
    }


def main():
    os.set_inheritable(ANSWER, False)
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # where a script would lie
    try:
        answer = {"resolved": resolved(sys.argv[1], sys.argv[2], sys.argv[3:])}
    except Printed:
        answer = {"printed": {}}
    except Unusable as error:
        answer = {"failed": {"stage": error.stage, "message": error.message}}
    except Exception as error:
        answer = {"failed": {"stage": "settings", "message": describe(error)}}
    with contextlib.suppress(Exception):  # there may be none, or nobody who reads it
        sys.stdout.flush()  # before the answer: whoever has that ends us
    with os.fdopen(ANSWER, "wb") as file:
        file.write(packed(answer))
    os._exit(0)  # whatever threads the settings have started


if __name__ == "__main__":
    main()
