"""Users that together send TRIAL_RATE requests a second for the paths in TRIAL_PATHS. Put the tasks of your own users in their place."""

import itertools
import os

from locust import FastHttpUser, constant_throughput, task

PATHS = itertools.cycle(os.environ["TRIAL_PATHS"].split(","))


class Visitor(FastHttpUser):
    wait_time = constant_throughput(float(os.environ["TRIAL_RATE"]) / int(os.environ["TRIAL_USERS"]))

    @task
    def visit(self):
        # As a proxy before the workers does it: idle connections would take their places.
        self.client.get(next(PATHS), name="all", headers={"Connection": "close"})
