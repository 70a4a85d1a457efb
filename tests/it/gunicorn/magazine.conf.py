"""The settings of a Wagtail site under Gunicorn."""

import os

HERE = os.path.dirname(os.path.abspath(__file__))

bind = "@LISTEN@"
chdir = "@SITE@"
worker_class = "gevent"
workers = 8
worker_connections = 50
timeout = 60
graceful_timeout = 20
keepalive = 5
raw_env = ["MAGAZINE_DB=%s/magazine.sqlite3" % HERE]
proc_name = "magazine"

statsd_host = "@STATSD@"
statsd_prefix = "magazine"
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(process)d %(message)s"}, "bare": {"format": "%(message)s"}},
    "handlers": {
        "errors": {"class": "logging.FileHandler", "filename": os.path.join(HERE, "error.log"), "formatter": "plain"},
        "access": {"class": "logging.FileHandler", "filename": os.path.join(HERE, "access.log"), "formatter": "bare"},
    },
    "root": {"level": "INFO", "handlers": ["errors"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": ["errors"], "propagate": False},
        "gunicorn.access": {"level": "INFO", "handlers": ["access"], "propagate": False},
    },
}


def note(hook, *about):
    with open(os.path.join(HERE, "hooks.log"), "a") as file:
        file.write("%s %s\n" % (hook, " ".join(map(str, about))))


def on_starting(server):
    note("on_starting", server.pid, server.address)


def when_ready(server):
    server.log.info("Server is ready. Spawning workers")
    note("when_ready", server.num_workers)


def on_reload(server):
    note("on_reload")


def pre_fork(server, worker):
    note("pre_fork", worker.age)


def post_fork(server, worker):
    server.log.info("Worker spawned (pid: %s)", worker.pid)
    note("post_fork", worker.pid)


def post_worker_init(worker):
    note("post_worker_init", worker.pid)


def pre_request(worker, req):
    worker.log.debug("%s %s", req.method, req.path)
    note("pre_request", req.path)


def post_request(worker, req, environ, resp):
    note("post_request", req.path, resp.status_code)


def worker_exit(server, worker):
    note("worker_exit", worker.pid)


def child_exit(server, worker):
    note("child_exit", worker.pid)


def on_exit(server):
    note("on_exit")
