"""A supervisor to be killed: starts a worker, prints "zygote worker port" and waits.  Arguments: python app directory class"""

import signal
import sys

from driver import Supervisor

supervisor = Supervisor(*sys.argv[1:5])
supervisor.hear()
worker = supervisor.fork_ready(1)
print(supervisor.zygote.pid, worker, supervisor.port, flush=True)
signal.pause()
