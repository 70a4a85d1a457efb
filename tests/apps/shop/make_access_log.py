"""Makes access.log: about 3,000 requests to the really running shop, as nginx in front of it writes them down.

    python tests/apps/shop/make_access_log.py [FILE]      with a Python that has tests/requirements.txt; needs nginx

Visitors come at random times over two minutes and read a few pages each, so that the log has bursts, pauses and
parallel requests like a real one. Which requests are made is the same each time; when they end is not.
"""

import concurrent.futures
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
REQUESTS, SECONDS, SEED = 3000, 120, 7
AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "shop-app/3.2 (Android 16)",
]
NGINX = """
daemon off; pid {work}/nginx.pid; error_log {work}/error.log warn; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log {work}/access.log combined;
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;
  fastcgi_temp_path {work}/f; uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;
  set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{upstream}; }} }}
}}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def next_request(chance, slugs):
    """One request: method, target, body. 70 % pages, 15 % JSON, 10 % waits, 3 % computing, 2 % not found."""
    kind = chance.choices(["page", "json", "wait", "compute", "missing"], [70, 15, 10, 3, 2])[0]
    if kind == "page":
        where = chance.random()
        if where < 0.25:
            target = "/"
        elif where < 0.45:
            target = "/?page=%d" % min(int(chance.expovariate(0.4)) + 2, 25)
        elif where < 0.60:
            target = "/?category=%s" % chance.choice(["bread", "cheese", "coffee", "tea", "wool", "garden"])
        else:
            target = "/product/%s/" % slugs[min(int(chance.expovariate(0.02)), len(slugs) - 1)]
        return "GET", target, None
    if kind == "json":
        what = chance.random()
        if what < 0.35:
            return "GET", "/api/products/?page=%d" % chance.randint(1, 12), None
        if what < 0.80:
            return "GET", "/api/products/%d/" % chance.randint(1, 600), None
        if what < 0.93:
            return "GET", "/api/orders/%d/" % chance.randint(1, 400), None
        lines = [{"product": chance.randint(1, 600), "quantity": chance.randint(1, 3)}]
        return "POST", "/api/orders/", json.dumps({"email": "visitor@example.org", "lines": lines})
    if kind == "wait":
        return "GET", "/upstream/?ms=%d" % chance.randint(50, 300), None
    if kind == "compute":
        return "GET", "/report/?product=%d&size=%d" % (chance.randint(1, 600), chance.choice([96, 128, 192, 256])), None
    return "GET", chance.choice(["/favicon.ico", "/product/sold-long-ago/", "/wp-login.php", "/robots.txt"]), None


def visits(chance, slugs):
    """(seconds, address, agent, [(pause, request), …]) for each visitor."""
    left = REQUESTS
    while left > 0:
        length = min(left, 1 + int(chance.expovariate(1 / 6)))
        left -= length
        address = "203.0.113.%d" % chance.randint(1, 254) if chance.random() < 0.5 else "198.51.100.%d" % chance.randint(1, 254)
        steps = [(chance.expovariate(1 / 1.5), next_request(chance, slugs)) for _ in range(length)]
        yield chance.uniform(0, SECONDS - 10), address, chance.choice(AGENTS), steps


def play(visit, started, port):
    """One visitor, on one kept-alive connection; returns the statuses."""
    at, address, agent, steps = visit
    time.sleep(max(0.0, started + at - time.monotonic()))
    base = "http://shop.example"
    referer, statuses, connection = None, [], http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for number, (pause, (method, target, body)) in enumerate(steps):
        if number:
            time.sleep(pause)
        headers = {"Host": "shop.example", "User-Agent": agent, "X-Forwarded-For": address}
        if referer:
            headers["Referer"] = referer
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        if target.startswith(("/?", "/product")) or target == "/":
            referer = base + target
    connection.close()
    return statuses


def wait_for(port):
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit("nothing listens on port %d" % port)


def main():
    out = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "access.log"))
    os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    with tempfile.TemporaryDirectory() as work:
        os.environ["SHOP_DB"] = os.path.join(work, "shop.sqlite3")
        for command in ("migrate", "seed"):
            subprocess.run([sys.executable, "manage.py", command, "-v0"], cwd=HERE, check=True)
        upstream, port = free_port(), free_port()
        with open(os.path.join(work, "nginx.conf"), "w") as conf:
            conf.write(NGINX.format(work=work, port=port, upstream=upstream))
        sys.path.insert(0, HERE)
        import django
        django.setup()
        from store.models import Product
        slugs = list(Product.objects.order_by("stock", "slug").values_list("slug", flat=True))
        servers = [
            subprocess.Popen([sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "3", "-b", "127.0.0.1:%d" % upstream,
                              "--no-control-socket", "--log-level", "warning", "shop.wsgi:application"], cwd=HERE),
            subprocess.Popen(["nginx", "-e", work + "/error.log", "-c", work + "/nginx.conf"]),
        ]
        try:
            wait_for(upstream)
            wait_for(port)
            crowd = list(visits(random.Random(SEED), slugs))
            started = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(len(crowd)) as pool:
                statuses = sum(pool.map(lambda visit: play(visit, started, port), crowd), [])
        finally:
            for server in reversed(servers):
                server.terminate()
                server.wait()
        with open(os.path.join(work, "access.log")) as log, open(out, "w") as kept:
            kept.write(log.read())
        print({status: statuses.count(status) for status in sorted(set(statuses))}, "->", out)


if __name__ == "__main__":
    main()
