"""A client that asks as Grafana's Loki data source does, and the entries that the tests of its contract ask for.

Requests are made as the data source makes them: GET, parameters sorted and form-encoded, `X-Loki-Response-Encoding-Flags`
on data queries and not on resources, gzip accepted. The tests are numbered as the items of the contract's test plan.
"""

import datetime
import json
import time
import urllib.parse

import requests
from support import NS, Server

MS = 1_000_000
HOUR = 3600 * NS
DAY = 24 * HOUR
CATEGORIZE = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}

# Midnight three days ago: the rows below lie in four days, and all of them in the past.
BASE = (time.time_ns() // DAY - 3) * DAY
END = BASE + 3 * DAY
ODD = 'C:\\new "run"\nsecond'
ODD_LINES = [
    'quote " backslash \\ tab \t',
    "two\nlines",
    "separator \u2028 and emoji \U0001f680",
    "replacement \ufffd",
    "control \u0001 and nul \u0000",
]


def row_of(n):
    """JSON, logfmt and plain lines in turn."""
    kinds = [
        json.dumps({"msg": f"x y step {n}", "n": n, "ok": True, "size": "1KB", "a": {"b": n % 2, "c d": "deep"}}),
        f'msg="x y step {n}" n={n} dur=250ms size=2KB',
        f"x y plain step {n}",
    ]
    return kinds[n % 3]


# One row of `a` every two hours.
A_ROWS = [(BASE + n * 2 * HOUR + HOUR, row_of(n)) for n in range(36)]
# A row every second for ten minutes, at whole seconds.
DENSE = BASE + DAY + 12 * HOUR
DENSE_ROWS = 600
# Rows at one timestamp, and around it.
CONTEXT = BASE + DAY + 6 * HOUR + 123_456_789


class Grafana:
    """Sends what the data source's backend sends."""

    def __init__(self, server):
        self.server, self.api = server, f"{server.url}/loki/api/v1"
        self.session = requests.Session()

    def raw(self, path, params, headers=None):
        pairs = sorted(params.items()) if isinstance(params, dict) else params
        url = f"{self.api}/{path}?{urllib.parse.urlencode(pairs)}"
        return self.session.get(url, headers=headers, timeout=60)

    def data(self, query, start=BASE, end=END, step="60000ms", limit=1000, direction="backward", tag=None, headers=None):
        """A range query, log or metric."""
        params = {"query": query, "start": start, "end": end, "step": step, "direction": direction}
        if limit:
            params["limit"] = limit
        headers = {**CATEGORIZE, **(headers or {}), **({"X-Query-Tags": f"Source={tag}"} if tag else {})}
        return ok(self.raw("query_range", params, headers))

    def instant(self, query, at=END, **more):
        params = {"query": query, "time": at, "direction": "backward", **more}
        return ok(self.raw("query", params, CATEGORIZE))

    def resource(self, path, **params):
        return ok(self.raw(path, params))

    def rows(self, query, *range_, **more):
        """Rows of a log query in the order of the query: (ns, line, labels, third item)."""
        data = self.data(query, *range_, **more)["data"]
        assert data["resultType"] == "streams"
        rows = [(int(ns), line, s["stream"], third) for s in data["result"] for ns, line, third in s["values"]]
        rows.sort(key=lambda row: row[0], reverse=more.get("direction", "backward") == "backward")
        return rows

    def points(self, query, *range_, **more):
        """Series of a metric query: {labels: {seconds: value}}."""
        data = self.data(query, *range_, limit=None, **more)["data"]
        assert data["resultType"] == "matrix"
        found = {}
        for series in data["result"]:
            key = frozenset(series["metric"].items())
            assert key not in found, f"two series with labels {series['metric']}"
            found[key] = {at: float(value) for at, value in series["values"]}
            assert len(found[key]) == len(series["values"]), "a time comes twice"
        return found


def ok(answer):
    assert answer.status_code == 200, f"{answer.url}: {answer.status_code} {answer.text[:500]}"
    return answer.json()


def refused(answer, *texts, status=400):
    """An error as the data source shows it: the whole body, so plain text."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:300]}"
    body = answer.text
    assert not body.lstrip().startswith(("{", "<")), f"not plain text: {body[:200]}"
    for text in texts:
        assert text in body, body
    return body


def iso(ns):
    at = datetime.datetime.fromtimestamp(ns / NS, datetime.UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{ns // MS % 1000:03}Z"


def serving(tmp_path_factory, name, *options):
    """A client of a server of its own, in memory."""
    server = Server("memory://", tmp_path_factory.mktemp(name), options)
    try:
        yield Grafana(server)
    finally:
        server.kill()
        assert "panicked" not in server.log.read_text(errors="replace"), server.said()


def fill(server):
    push = server.push
    rows = [(ns, line, {"trace_id": "t4"}) if n == 4 else (ns, line) for n, (ns, line) in enumerate(A_ROWS)]
    assert push({"app": "a", "level": "info"}, rows) == 204
    assert push({"app": "b"}, [(BASE + n * HOUR, f"b row {n}") for n in range(72)]) == 204
    assert push({"app": "dense", "rank": "0"}, [(DENSE + n * NS, f"step {n}") for n in range(DENSE_ROWS)]) == 204
    assert push({"app": "odd", "name": ODD}, [(CONTEXT + n, line) for n, line in enumerate(ODD_LINES)]) == 204
    # Neighbours of a line: two before in the same ms, three at one time, ones after; and a second stream between.
    around = [-3 * HOUR, -HOUR, -5 * MS, -400, -300, 0, 0, 0, 200, 7 * MS, HOUR, 3 * HOUR]
    lines = [(CONTEXT + d, f'msg="row {n}" n={n}', {"trace_id": f"t{n}"}) for n, d in enumerate(around)]
    assert push({"app": "context", "name": ODD}, lines) == 204
    assert push({"app": "context", "name": "other"}, [(CONTEXT + n, f"other {n}") for n in range(-5, 5)]) == 204
    assert push({"app": "a.b", "level": "warn"}, [(CONTEXT, "literal dot")]) == 204
    assert push({"app": "axb"}, [(CONTEXT, "no dot")]) == 204
    assert push({"app": "c"}, [(CONTEXT, "c")]) == 204
    for n in range(30):
        assert push({"app": "wide", "pod": f"pod-{n:02}"}, [(CONTEXT, "one of many")]) == 204
