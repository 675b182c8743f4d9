"""The corpora of the benches: training logs, JSON logs of services, plain logs of servers. All are made here, the same ones from the same
seed, and every one has questions of its own. Standard library only.

A corpus is a generator of (labels, line) in order of time, and a list of (title, query, parameters); a title with "nothing" may have an
empty answer.
"""

import gzip
import json
import random
import time

import samples

NS = 1_000_000_000
HOUR = 3600 * NS
BATCH_LINES = 5_000


# -- training logs: the sample logs of tests/data multiplied


def training(lines, ns_of, ranks=256):
    """Each rank of a made-up job prints a real run's lines with numbers of its own, so that lines repeat as training logs do."""
    dice = random.Random(7)
    source = [(stream, text) for _, _, stream, _, text, _ in samples.lines("healthy-mixed-2n-8r") if len(text) < 2000]
    for number in range(lines):
        stream, text = source[(number // ranks) % len(source)]
        if number == lines // 3:
            text = "the one line that is different"
        rank = number % ranks
        yield {"job": "bench", "rank": str(rank), "node": str(rank // 8), "stream": stream}, f"{text} {dice.random():.4f}"


TRAINING_QUESTIONS = [
    ("all lines of a rank, newest 1000", '{job="bench", rank="7"}', {"limit": 1000}),
    ("a word over all ranks, newest 100", '{job="bench"} |= "Loss"', {"limit": 100}),
    ("a needle", '{job="bench"} |= "the one line that is different"', {"limit": 100}),
    ("a regular expression that finds nothing", '{job="bench"} |~ "step [0-9]+ diverged at .* nan"', {"limit": 100}),
    ("entries of each rank over time", 'sum by (rank) (count_over_time({job="bench"}[1m]))', {"step": 60}),
    ("a word over time", 'sum (count_over_time({job="bench"} |= "Loss" [1m]))', {"step": 60}),
    ("bytes over time", 'sum by (stream) (bytes_over_time({job="bench"}[5m]))', {"step": 300}),
]


# -- JSON logs of services


class Dice(random.Random):
    """What fields of logs are made of."""

    def hex(self, digits):
        return f"{self.getrandbits(digits * 4):0{digits}x}"

    def uuid(self):
        text = self.hex(32)
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def ip(self):
        return f"10.{self.randrange(8)}.{self.randrange(256)}.{self.randrange(1, 255)}"

    def skewed(self, items):
        """An item, early ones far more often."""
        return items[min(int(self.paretovariate(1.1)) - 1, len(items) - 1)]

    def took(self):
        """Milliseconds with a long tail."""
        return round(self.lognormvariate(2.5, 1.2), 3)


PATHS = ["/api/v1/orders/{n}", "/api/v1/users/{n}/cart", "/healthz", "/api/v1/search?q={w}&page={p}", "/login", "/static/app.{h}.js", "/api/v2/items/{u}"]
WORDS = ["shoes", "lamp", "coffee", "garden", "phone", "winter", "blue", "kids", "desk", "travel"]
AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Go-http-client/2.0", "kube-probe/1.31", "python-requests/2.32.3",
]  # fmt: skip
STATUSES = [200, 200, 200, 204, 304, 404, 401, 500, 502]
FAILURES = ["connection reset by peer", "context deadline exceeded", "duplicate key value violates unique constraint", "i/o timeout"]


def path(dice):
    text = dice.skewed(PATHS)
    return text.format(n=dice.randrange(100_000), w=dice.choice(WORDS), p=dice.randrange(9), h=dice.hex(8), u=dice.uuid())


def stamp(ns, digits):
    seconds, rest = divmod(ns, NS)
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(seconds)) + f"{rest:09d}"[:digits] + "Z"


def slog(dice, ns, service):
    """Go's log/slog: a flat object, a trace and a span in every line."""
    common = {"time": stamp(ns, 9), "level": "INFO", "msg": "request completed", "service": service}
    if dice.random() < 0.02:
        common |= {"level": "ERROR", "msg": "request failed", "error": f"query orders: {dice.choice(FAILURES)}"}
    return common | {
        "method": dice.skewed(["GET", "POST", "PUT", "DELETE"]), "path": path(dice), "status": dice.skewed(STATUSES),
        "duration_ms": dice.took(), "bytes": dice.randrange(20_000), "remote": f"{dice.ip()}:{dice.randrange(1024, 65536)}",
        "trace_id": dice.hex(32), "span_id": dice.hex(16), "user_id": f"u-{dice.randrange(50_000)}",
    }  # fmt: skip


def zap(dice, ns, service):
    """Uber's zap: seconds as a float, a caller, fields that differ by message."""
    level, caller, message, fields = dice.choice([
        ("info", "worker/pool.go:118", "job done", lambda: {"job_id": dice.uuid(), "queue": dice.skewed(["mail", "invoice", "thumbnail"]), "took": dice.took() / 1000}),
        ("info", "kafka/consumer.go:77", "batch consumed", lambda: {"topic": "orders", "partition": dice.randrange(24), "offset": 8_000_000 + ns // 10**7 % 10**6, "lag": dice.randrange(400)}),
        ("debug", "cache/lru.go:41", "evicted", lambda: {"key": f"session:{dice.hex(24)}", "age_s": dice.randrange(3600)}),
        ("warn", "client/retry.go:29", "retrying", lambda: {"attempt": dice.randrange(1, 5), "backoff": f"{dice.randrange(50, 3000)}ms", "error": dice.choice(FAILURES)}),
    ])  # fmt: skip
    return {"level": level, "ts": ns / NS, "caller": caller, "msg": message, "logger": service, **fields()}


def bunyan(dice, ns, service):
    """Node's bunyan: numeric levels, nested requests, stacks in a string."""
    entry = {"name": service, "hostname": f"{service}-{dice.randrange(8)}", "pid": 4000 + dice.randrange(8), "level": 30}
    request = {
        "method": dice.skewed(["GET", "POST"]), "url": path(dice),
        "headers": {"user-agent": dice.skewed(AGENTS), "x-request-id": dice.uuid(), "x-forwarded-for": dice.ip()},
    }  # fmt: skip
    if dice.random() < 0.02:
        stack = f"TypeError: Cannot read properties of undefined (reading 'price')\n    at cart (/app/src/cart.js:{dice.randrange(200)}:11)\n    at next (/app/node_modules/router/index.js:280:10)"
        return entry | {"level": 50, "req": request, "err": {"name": "TypeError", "stack": stack}, "msg": "unhandled error", "time": stamp(ns, 3), "v": 0}
    return entry | {"req": request, "res": {"statusCode": dice.skewed(STATUSES)}, "latency": dice.took(), "msg": "handled", "time": stamp(ns, 3), "v": 0}


SERVICES = [(slog, "checkout"), (slog, "catalog"), (zap, "worker"), (zap, "mailer"), (bunyan, "gateway"), (bunyan, "shop")]


def services(lines, ns_of):
    """Six services of eight pods, three ways of logging JSON; most lines have values that never come again."""
    dice = Dice(11)
    for number in range(lines):
        style, service = SERVICES[dice.randrange(len(SERVICES))]
        entry = style(dice, ns_of(number), service)
        if number == lines // 3:
            entry["msg"] = "the one line that is different"
        pod = f"{service}-{dice.randrange(8)}"
        yield {"app": service, "pod": pod, "namespace": "shop"}, json.dumps(entry, separators=(",", ":"))


SHOP = '{namespace="shop"}'
SERVICES_QUESTIONS = [
    ("all lines of a pod, newest 1000", '{pod="checkout-3"}', {"limit": 1000}),
    ("a needle", f'{SHOP} |= "the one line that is different"', {"limit": 100}),
    ("a trace id that finds nothing", f'{SHOP} |= "0123456789abcdef0123456789abcdef"', {"limit": 100}),
    ("a word, newest 100", f'{SHOP} |= "timeout"', {"limit": 100}),
    ("a case-insensitive expression, newest 100", f'{SHOP} |~ "(?i)typeerror.*cart"', {"limit": 100}),
    ("a JSON field equals, newest 100", '{app="checkout"} | json | status="500"', {"limit": 100}),
    ("a JSON number, newest 100", '{app="checkout"} | json | duration_ms > 500', {"limit": 100}),
    ("a nested JSON field", '{app="gateway"} | json s="res.statusCode" | s="502"', {"limit": 100}),
    ("lines by app, 5 m steps", f"sum by (app) (count_over_time({SHOP}[5m]))", {"step": 300}),
    ("errors by app, 5 m steps", f'sum by (app) (count_over_time({SHOP} |= "error" [5m]))', {"step": 300}),
    ("count by a JSON field, 5 m steps", 'sum by (status) (count_over_time({app="checkout"} | json status="status" [5m]))', {"step": 300}),
    ("99th percentile of a JSON number", 'quantile_over_time(0.99, {app="checkout"} | json d="duration_ms" | unwrap d [5m]) by (app)', {"step": 300}),
    ("bytes by pod, 5 m steps", f"sum by (pod) (bytes_over_time({SHOP}[5m]))", {"step": 300}),
]


# -- plain logs of servers


def access(dice, ns):
    """nginx's combined format."""
    at = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(ns // NS))
    request = f"{dice.skewed(['GET', 'POST'])} {path(dice)} HTTP/1.1"
    return f'{dice.ip()} - - [{at}] "{request}" {dice.skewed(STATUSES)} {dice.randrange(20_000)} "-" "{dice.skewed(AGENTS)}" {dice.took() / 1000:.3f}'


def syslog(dice, ns, host):
    """What a machine's /var/log/syslog holds."""
    at = time.strftime("%b %e %H:%M:%S", time.gmtime(ns // NS))
    program, text = dice.choice([
        (f"sshd[{dice.randrange(900, 65_000)}]", lambda: f"Failed password for invalid user {dice.choice(WORDS)} from 203.0.113.{dice.randrange(256)} port {dice.randrange(1024, 65536)} ssh2"),
        (f"sshd[{dice.randrange(900, 65_000)}]", lambda: f"Accepted publickey for deploy from {dice.ip()} port {dice.randrange(1024, 65536)} ssh2: ED25519 SHA256:{dice.hex(43)}"),
        ("systemd[1]", lambda: f"Started session-{dice.randrange(100_000)}.scope - Session {dice.randrange(100_000)} of User deploy."),
        ("kernel", lambda: f"[{ns / NS % 10**6:.6f}] eth0: renamed from veth{dice.hex(7)}"),
        (f"CRON[{dice.randrange(900, 65_000)}]", lambda: "(root) CMD (command -v debian-sa1 > /dev/null && debian-sa1 1 1)"),
        (f"dockerd[{dice.randrange(900, 1000)}]", lambda: f'time="{stamp(ns, 9)}" level=info msg="ignoring event" container={dice.hex(64)} module=libcontainerd'),
    ])  # fmt: skip
    return f"{at} {host} {program}: {text()}"


def plain(lines, ns_of):
    """Sixteen machines: two thirds nginx, a third syslog."""
    dice = Dice(13)
    for number in range(lines):
        host = f"web-{dice.randrange(16):02d}"
        if number == lines // 3:
            yield {"host": host, "app": "syslog"}, "the one line that is different"
        elif dice.random() < 0.67:
            yield {"host": host, "app": "nginx"}, access(dice, ns_of(number))
        else:
            yield {"host": host, "app": "syslog"}, syslog(dice, ns_of(number), host)


BOTH = '{host=~"web-.+"}'
PLAIN_QUESTIONS = [
    ("all lines of a machine, newest 1000", '{host="web-07"}', {"limit": 1000}),
    ("a needle", f'{BOTH} |= "the one line that is different"', {"limit": 100}),
    ("an address that finds nothing", f'{BOTH} |= "192.0.2.77"', {"limit": 100}),
    ("a word, newest 100", f'{BOTH} |= "Failed password"', {"limit": 100}),
    ("a case-insensitive expression, newest 100", f'{BOTH} |~ "(?i)iphone.*mobile"', {"limit": 100}),
    ("a status code, newest 100", '{app="nginx"} |= "\\" 502 "', {"limit": 100}),
    ("pattern and a number, newest 100", '{app="nginx"} | pattern `<_>" <status> <size> <_>` | size > 19900', {"limit": 100}),
    ("an address range, newest 100", '{app="nginx"} |= ip("10.3.0.0/24")', {"limit": 100}),
    ("lines by host, 5 m steps", f"sum by (host) (count_over_time({BOTH}[5m]))", {"step": 300}),
    ("a word by host, 5 m steps", 'sum by (host) (count_over_time({app="syslog"} |= "sshd" [5m]))', {"step": 300}),
    ("count by a regexp's field, 5 m steps", 'sum by (status) (count_over_time({app="nginx"} | regexp `" (?P<status>[0-9]{3}) ` [5m]))', {"step": 300}),
    ("a number at the end, max by host", 'max by (host) (max_over_time({app="nginx"} | regexp `" (?P<took>[0-9.]+)$` | unwrap took [5m]))', {"step": 300}),
    ("bytes by app, 5 m steps", f"sum by (app) (bytes_over_time({BOTH}[5m]))", {"step": 300}),
]

CORPORA = {
    "training": (training, TRAINING_QUESTIONS),
    "services": (services, SERVICES_QUESTIONS),
    "plain": (plain, PLAIN_QUESTIONS),
}


# -- requests


def batches(name, lines, start, sink=None, **more):
    """Push requests of a corpus, gzipped JSON, in order of time, over one hour from `start` (ns); with the bytes of their lines. `sink`
    gets the lines too, as bytes with a newline each."""
    make, _ = CORPORA[name]
    step = HOUR // lines
    ns_of = lambda number: start + number * step  # noqa: E731
    streams, size, held = {}, 0, 0
    for number, (labels, line) in enumerate(make(lines, ns_of, **more)):
        streams.setdefault(tuple(labels.items()), []).append([str(ns_of(number)), line])
        text = line.encode()
        size, held = size + len(text), held + 1
        if sink:
            sink(text + b"\n")
        if held == BATCH_LINES or number == lines - 1:
            body = {"streams": [{"stream": dict(labels), "values": values} for labels, values in streams.items()]}
            yield gzip.compress(json.dumps(body, ensure_ascii=False).encode(), 1), size
            streams, size, held = {}, 0, 0
