#!/usr/bin/env python3
"""Requests a second of the shop under tuningfork and under gunicorn, with the same workers and connections.

In a round both are started afresh, and are under load in turn, one idle while the other works: the order is A B, B A from one kind of
request to the next and from one round to the next. A ratio compares two runs that followed each other.
"""

import common

NAMES = ("tuningfork", "gunicorn")


def paths(shop):
    """What is asked for: each kind alone, and the recorded mix."""
    return {
        "page": [shop.product()],
        "list": ["/?page=3"],
        "json": ["/api/products/5/"],
        "wait 20 ms": ["/upstream/?ms=20"],
        "compute": ["/report/?product=5&size=32"],
        "mix": shop.mix(),
    }


def measure(shop, worker_class, kinds, number, options):
    """One round: what wrk says, by kind and server."""
    size = (worker_class, options.workers, options.connections)
    ports = {name: common.free_port() for name in NAMES}
    measured = {}
    with shop.tuningfork(*size, ports["tuningfork"]) as ours, shop.gunicorn(*size, ports["gunicorn"]) as theirs:
        for name, server in zip(NAMES, (ours, theirs)):
            server.await_workers(options.workers)
            common.load(ports[name], kinds["mix"], options.clients, options.warm_up)
        for place, (kind, asked) in enumerate(kinds.items()):
            order = NAMES if (number + place) % 2 == 0 else NAMES[::-1]
            measured[kind] = {name: common.load(ports[name], asked, options.clients, options.seconds) for name in order}
            rates = [measured[kind][name]["rate"] for name in NAMES]
            common.say(f"{worker_class} round {number + 1}  {kind:10}  tuningfork {rates[0]:8.1f}  gunicorn {rates[1]:8.1f}  "
                       f"ratio {ratio(measured[kind]):.3f}")
    return measured


def ratio(measured):
    return measured["tuningfork"]["rate"] / max(measured["gunicorn"]["rate"], 1e-9)


def summarise(worker_class, kinds, rounds):
    rows = [[worker_class, "tuningfork, req/s", "gunicorn, req/s", "ratio", "errors t/g"]]
    for kind in kinds:
        rates = [common.spread([each[kind][name]["rate"] for each in rounds]) for name in NAMES]
        errors = "/".join(str(sum(each[kind][name]["errors"] for each in rounds)) for name in NAMES)
        rows.append([kind, *rates, common.spread([ratio(each[kind]) for each in rounds], 3), errors])
    print()
    common.table(rows)


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="an even number gives each server each place equally often")
    parser.add_argument("--seconds", type=int, default=5, help="how long wrk runs for each kind of request")
    parser.add_argument("--warm-up", type=int, default=3, help="seconds of load before that")
    parser.add_argument("--clients", type=int, default=32, help="wrk's connections")
    parser.add_argument("--workers", type=int, default=3, help="worker processes of each server")
    parser.add_argument("--connections", type=int, default=32, help="connections of a worker; gthread: threads")
    parser.add_argument("--classes", nargs="+", choices=common.CLASSES, default=common.CLASSES, help="worker classes")
    options = parser.parse_args()
    common.need(common.binary, common.python, common.wrk_program)
    with common.shop() as shop:
        kinds = paths(shop)
        print(f"{options.workers} workers, {options.connections} connections each, wrk -t1 -c{options.clients} "
              f"-d{options.seconds}s, {options.rounds} rounds; median (least – most)", flush=True)
        for worker_class in options.classes:
            rounds = [measure(shop, worker_class, kinds, number, options) for number in range(options.rounds)]
            summarise(worker_class, kinds, rounds)


if __name__ == "__main__":
    common.main(main)
