"""Users that together send TRIAL_RATE requests a second for the paths in TRIAL_PATHS. Put the tasks of your own users in their place."""

import itertools
import os

import gevent
from locust import FastHttpUser, constant_throughput, task

PATHS = itertools.cycle(os.environ["TRIAL_PATHS"].split(","))
USERS, RATE = int(os.environ["TRIAL_USERS"]), float(os.environ["TRIAL_RATE"])
NUMBERS = itertools.count()


class Visitor(FastHttpUser):
    wait_time = constant_throughput(RATE / USERS)

    def on_start(self):
        # One after the other: all at once would be a burst.
        gevent.sleep(next(NUMBERS) % USERS / RATE)

    @task
    def visit(self):
        # As a proxy before the workers does it: idle connections would take their places.
        self.client.get(next(PATHS), name="all", headers={"Connection": "close"})
