"""What Gunicorn's server hooks are given as `server`: the zygote's stand-in for Gunicorn's master, and when which hook is called.

The third part of the zygote's script. It has what Gunicorn documents of its master; what only the supervisor can do it asks the supervisor for by
signals, and it refuses the rest by name. The hooks of a worker's life are called where Gunicorn calls them: in the worker.
"""

import os
import signal


class Server:
    """Gunicorn's master as hooks know it. `pid` is the supervisor's, so that a hook may send it the signals of Gunicorn's master."""

    worker_age = 0
    master_pid = reexec_pid = 0
    master_name = "Master"
    systemd = False
    WORKER_BOOT_ERROR, APP_LOAD_ERROR = 3, 4

    def __init__(self, settings, application, worker_class):
        self.app, self.worker_class = application, worker_class
        self.cfg, self.log = application.cfg, application.logger
        self.timeout, self.proc_name = self.cfg.timeout, self.cfg.proc_name
        self.pid = settings["supervisor"]
        self.LISTENERS, self.WORKERS = [], {}
        self._num_workers = None

    def __getattr__(self, name):
        raise AttributeError("server.%s: tuningfork's supervisor is not Gunicorn's master and has no %s" % (name, name))

    @property
    def address(self):
        return self.cfg.address

    @property
    def num_workers(self):
        return self._num_workers

    @num_workers.setter
    def num_workers(self, value):
        raise AttributeError("server.num_workers cannot be set: send SIGTTIN or SIGTTOU to server.pid, or use tuningfork ctl scale")

    def scaled(self, number):
        """The supervisor wants another number of workers."""
        was, self._num_workers = self._num_workers, number
        self.cfg.nworkers_changed(self, number, was)
        self.log.debug("%s workers" % number, extra={"metric": "gunicorn.workers", "value": number, "mtype": "gauge"})

    def ended(self, pid):
        """A worker has ended and was reaped."""
        worker = self.WORKERS.pop(pid, None)
        if worker is not None:
            self.cfg.child_exit(self, worker)

    def kill_worker(self, pid, number):
        os.kill(pid, number)

    def kill_workers(self, number):
        for pid in list(self.WORKERS):
            os.kill(pid, number)

    def ask(self, number, command):
        try:
            os.kill(self.pid, number)
        except PermissionError:
            told = "server.%s(): this process runs as user %d and may not signal the supervisor, which is another's; use tuningfork ctl %s"
            raise PermissionError(told % (command, os.geteuid(), command)) from None

    def reload(self):
        self.ask(signal.SIGHUP, "reload")

    def stop(self, graceful=True):
        self.ask(signal.SIGTERM if graceful else signal.SIGQUIT, "stop")

    halt = stop

    def wakeup(self):
        """The supervisor needs none."""
