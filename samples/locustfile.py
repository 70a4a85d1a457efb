"""Users that together ask TRIAL_HOST, TRIAL_RATE times a second, for the paths in TRIAL_PATHS. Put the tasks of your own users in their place."""

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
        headers = {"Connection": "close", "Host": os.environ["TRIAL_HOST"]}
        # Not followed: a redirect may lead to the service that people use.
        with self.client.get(next(PATHS), name="all", headers=headers, allow_redirects=False, catch_response=True) as response:
            if 300 <= response.status_code < 400:
                response.failure("redirected")
