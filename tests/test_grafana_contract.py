"""What Grafana's Loki data source and Logs Drilldown send, and what they need back, asked of a running server.

The tests are numbered as the items of the contract's test plan. Requests are made as the data source makes them: GET,
parameters sorted and form-encoded, `X-Loki-Response-Encoding-Flags` on data queries and not on resources, gzip accepted.
"""

import collections
import datetime
import gzip
import http.client
import json
import re
import threading
import time
import urllib.parse

import pytest
import requests
from support import NS, Server, wait_until
from tails import Tail

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


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    yield from serving(tmp_path_factory, "empty")


@pytest.fixture(scope="module")
def grafana(tmp_path_factory):
    """A server with the rows above; no test of this module changes them."""
    for client in serving(tmp_path_factory, "fed"):
        fill(client.server)
        yield client


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


# -- health and transport


@pytest.mark.parametrize("at", [4000000000, 4000000000000000000, 4])
def test_01_02_health_check_on_an_empty_store(empty, at):
    data = empty.instant("vector(1)+vector(1)", at)["data"]
    assert data["resultType"] == "vector"
    ((_, value),) = [series["value"] for series in data["result"]]
    assert value == "2"


def test_03_plus_is_a_space_in_a_query_string(grafana):
    url = f"{grafana.api}/query_range?query=%7Bapp%3D%22a%22%7D+%7C%3D+%22x+y%22&start={BASE}&end={END}&limit=1000"
    rows = [line for s in ok(requests.get(url, timeout=30))["data"]["result"] for _, line in s["values"]]
    assert len(rows) == len(A_ROWS) and all("x y" in line for line in rows)


def test_04_a_query_string_of_32_kb(grafana):
    words = "|".join(f"word{n:05}" for n in range(3300))
    assert len(words) > 32_000
    rows = grafana.rows(f'{{app="a"}} |~ "{words}|plain step 5"')
    assert [line for _, line, *_ in rows] == ["x y plain step 5"]


def test_05_instant_metric_queries_carry_a_limit_and_a_direction(grafana):
    query = 'sum(count_over_time({app="a"}[3d]))'
    data = grafana.instant(query, limit=1000, unknown="parameter")["data"]
    assert [series["value"][1] for series in data["result"]] == ["36"]


def test_06_directions(grafana):
    params = {"query": '{app="a"}', "start": BASE, "end": END, "limit": 5}
    answers = [
        ok(grafana.raw("query_range", {**params, **direction}))["data"]["result"]
        for direction in ({"direction": "backward"}, {"direction": "BACKWARD"}, {})
    ]
    assert answers[0] == answers[1] == answers[2] != []
    refused(grafana.raw("query_range", {**params, "direction": "sideways"}), "sideways")


def test_07_gzip_and_identity_are_the_same(grafana):
    path = f"/loki/api/v1/query_range?query=%7Bapp%3D%22b%22%7D&start={BASE}&end={END}&limit=1000"
    bodies = {}
    for encoding in ("gzip", "identity"):
        connection = http.client.HTTPConnection("127.0.0.1", grafana.server.port, timeout=30)
        connection.request("GET", path, headers={"Accept-Encoding": encoding, **CATEGORIZE})
        answer = connection.getresponse()
        body = answer.read()
        packed = answer.getheader("Content-Encoding") == "gzip"
        assert packed == (encoding == "gzip")
        bodies[encoding] = json.loads(gzip.decompress(body) if packed else body)["data"]["result"]
        connection.close()
    assert bodies["gzip"] == bodies["identity"] != []


def test_08_everything_below_a_prefix(tmp_path_factory):
    for client in serving(tmp_path_factory, "prefix", "--path-prefix", "/x"):
        now = time.time_ns()
        body = {"streams": [{"stream": {"app": "p"}, "values": [[str(now), "below"]]}]}
        assert requests.post(f"{client.api}/push", json=body, timeout=10).status_code == 204
        ranged = {"start": now - HOUR, "end": now + HOUR}
        selector = {"query": '{app="p"}', **ranged}
        for path, params in [
            ("query", {"query": "vector(1)"}), ("query_range", selector), ("labels", ranged), ("label/app/values", ranged),
            ("series", {"match[]": '{app="p"}', **ranged}), ("index/stats", selector), ("index/volume", selector),
            ("index/volume_range", {**selector, "step": "60"}), ("detected_labels", selector), ("detected_fields", selector),
            ("detected_field/detected_level/values", selector), ("patterns", selector), ("drilldown-limits", {}),
            ("format_query", {"query": '{app="p"}'}), ("status/buildinfo", {}),
        ]:  # fmt: skip
            ok(client.raw(path, params))
            above = client.api.replace("/x/", "/")
            assert requests.get(f"{above}/{path}", params=params, timeout=10).status_code == 404
        with Tail(client.server, '{app="p"}') as tail:
            wait_until(lambda t=tail: t.lines() == ["below"], 5, "the tail's history")


def test_09_headers_that_only_inform(grafana):
    informing = {
        "X-Query-Tags": "Source=anything",
        "X-Loki-Query-Limits-Context": json.dumps({"Expr": "{}", "From": iso(BASE), "To": iso(END)}),
    }
    with_headers = grafana.data('{app="a"}', headers=informing)["data"]["result"]
    assert with_headers == grafana.data('{app="a"}')["data"]["result"] != []


# -- encoding


def test_10_key_order_of_streams(grafana):
    params = {"query": '{app="a"}', "start": BASE, "end": END, "limit": 10}
    body = grafana.raw("query_range", params, CATEGORIZE).text
    places = [body.index(f'"{key}":') for key in ("resultType", "encodingFlags", "result", "stats")]
    assert places == sorted(places)
    assert json.loads(body)["data"]["encodingFlags"] == ["categorize-labels"]


def test_11_13_14_17_shape_of_categorized_streams(grafana):
    queries = ['{app=~".+"}', '{app="a"} | json', '{app="a"} | logfmt', '{app="context"} | json | logfmt']
    for query in queries:
        data = grafana.data(query, limit=5000)["data"]
        assert data["result"]
        for stream in data["result"]:
            assert set(stream) == {"stream", "values"}
            assert all(isinstance(value, str) for value in stream["stream"].values())
            for ns, line, third in stream["values"]:
                assert re.fullmatch(r"\d{19}", ns) and isinstance(line, str)
                assert isinstance(third, dict) and set(third) <= {"structuredMetadata", "parsed"}
                assert all(isinstance(value, str) for part in third.values() for value in part.values())
    assert {ns for ns, *_ in grafana.rows('{app="a"}')} == {ns for ns, _ in A_ROWS}


def test_11_a_row_without_more_has_an_empty_object(tmp_path_factory):
    for client in serving(tmp_path_factory, "plain", "--detect-level", "false"):
        now = time.time_ns()
        assert client.server.push({"app": "p"}, [(now, "nothing more")]) == 204
        assert client.rows('{app="p"}', now - NS, now + NS)[0][3] == {}


def test_12_streams_without_the_header(grafana):
    params = {"query": '{app="a"} | logfmt', "start": BASE, "end": END, "limit": 1000}
    data = ok(grafana.raw("query_range", params))["data"]
    assert "encodingFlags" not in data
    assert all(len(value) == 2 for stream in data["result"] for value in stream["values"])
    row_4 = [s["stream"] for s in data["result"] if s["stream"].get("trace_id") == "t4"]
    assert row_4 and {"app", "level", "msg", "n", "detected_level"} <= set(row_4[0])


def test_15_what_is_parsed_stored_and_indexed_is_told_apart(grafana):
    rows = grafana.rows('{app="a"} | json | logfmt | trace_id="t4"')
    ((ns, _, labels, third),) = rows
    assert ns == A_ROWS[4][0]
    assert set(labels) == {"app", "level", "service_name"}
    assert third["structuredMetadata"]["trace_id"] == "t4" and "trace_id" not in third["parsed"]
    assert third["parsed"]["n"] == "4" and third["parsed"]["dur"] == "250ms"


def test_16_a_parser_that_fails_leaves_the_row_and_says_so(grafana):
    rows = grafana.rows('{app="a"} | json')
    assert len(rows) == len(A_ROWS)
    failed = [row for row in rows if "__error__" in row[3].get("parsed", {})]
    assert len(failed) == 24 and failed[0][3]["parsed"]["__error__"] == "JSONParserErr"


def test_18_values_of_metrics(grafana):
    for query, value in [("vector(0)/vector(0)", "NaN"), ("vector(1e308)*vector(10)", "+Inf"), ("vector(1e308)*vector(10)*-1", "-Inf")]:
        (series,) = grafana.instant(query)["data"]["result"]
        assert series["value"][1] == value and isinstance(series["value"][0], (int, float))
    for series in grafana.data('count_over_time({app="dense"}[1m])', DENSE, DENSE + HOUR)["data"]["result"]:
        assert all(isinstance(at, (int, float)) and isinstance(value, str) for at, value in series["values"])


def test_19_empty_answers_have_their_type(grafana, empty):
    for client in (grafana, empty):
        for query, kind in [('{app="none"}', "streams"), ('count_over_time({app="none"}[1m])', "matrix")]:
            data = client.data(query, DENSE, DENSE + HOUR)["data"]
            assert data["resultType"] == kind and data["result"] == []
        data = client.instant('count_over_time({app="none"}[1m])')["data"]
        assert data["resultType"] == "vector" and data["result"] == []


def test_20_statistics(grafana):
    for body in (grafana.data('{app="a"}'), grafana.data('sum(count_over_time({app="a"} |= "x" [1h]))')):
        data = body["data"]
        assert list(data)[-1] == "stats"
        summary = data["stats"]["summary"]
        keys = "totalBytesProcessed execTime totalLinesProcessed bytesProcessedPerSecond linesProcessedPerSecond".split()
        assert all(isinstance(summary[key], (int, float)) for key in keys)
        assert summary["totalBytesProcessed"] > 0 and summary["totalLinesProcessed"] >= len(A_ROWS)
        assert 0 < summary["execTime"] < 60


def test_21_every_character_survives(grafana):
    assert [line for _, line, *_ in grafana.rows('{app="odd"}', direction="forward")] == ODD_LINES
    assert grafana.rows('{app="odd"}')[0][2]["name"] == ODD


def test_21_invalid_utf_8_becomes_valid_json(empty):
    now = time.time_ns()
    body = b'{"streams":[{"stream":{"app":"bytes"},"values":[["%d","bad \xff\xfe byte"]]}]}' % now
    answer = requests.post(f"{empty.api}/push", data=body, headers={"Content-Type": "application/json"}, timeout=10)
    if answer.status_code == 204:
        ((_, line, *_),) = empty.rows('{app="bytes"}', now - NS, now + NS)
        assert line == "bad \ufffd\ufffd byte"
    else:
        refused(answer, "UTF-8")


# -- errors


def test_23_a_query_that_does_not_parse(grafana):
    params = {"query": '{app="a"} |', "start": BASE, "end": END}
    body = refused(grafana.raw("query_range", params, CATEGORIZE))
    assert body.startswith("parse error")


def test_24_a_wrong_escape_is_called_one(grafana):
    refused(grafana.raw("query_range", {"query": '{app="\\d"}', "start": BASE, "end": END}), "escape")


def test_25_a_selector_without_matchers(grafana):
    refused(grafana.raw("query_range", {"query": "{}", "start": BASE, "end": END}), "at least one")


def test_26_a_timeout_says_so(tmp_path_factory):
    for client in serving(tmp_path_factory, "timeout", "--query-timeout", "1ms"):
        now = time.time_ns()
        for batch in range(5):
            entries = [(now + batch * 20_000 + n, f"line {n} of {batch} " + "ab" * 40) for n in range(20_000)]
            assert client.server.push({"app": "t"}, entries) == 204
        query = 'sum by (a) (count_over_time({app="t"} |~ "(a|b)+c?$" | regexp "(?P<a>[0-9]+) of" [1h]))'
        params = {"query": query, "start": now, "end": now + HOUR, "step": "1000ms"}
        answer = client.raw("query_range", params, CATEGORIZE)
        assert answer.status_code >= 500 and ("timeout" in answer.text or "timed out" in answer.text), answer.text


def test_27_too_many_bytes(tmp_path_factory):
    for client in serving(tmp_path_factory, "bytes", "--query-max-bytes", "50KB"):
        now = time.time_ns()
        assert client.server.push({"app": "t"}, [(now + n, "x" * 1000) for n in range(100)]) == 204
        assert client.server.push({"app": "small"}, [(now + n, "x" * 10) for n in range(100)]) == 204
        ranged = {"start": now - HOUR, "end": now + HOUR, "step": "60000ms"}
        for query in ('{app="t"} |= "y"', 'sum(count_over_time({app="t"} |= "y" [1m]))'):
            body = refused(client.raw("query_range", {"query": query, **ranged}, CATEGORIZE))
            assert "the query would read too many bytes" in body
        assert len(client.rows('{app="small"}', now - HOUR, now + HOUR)) == 100


def test_28_resources_that_are_wrong_or_not_there(grafana):
    for path, params in [("labels", {"query": "{"}), ("series", {"match[]": "{"}), ("detected_fields", {"query": "{"})]:
        refused(grafana.raw(path, {**params, "start": BASE, "end": END}), "parse error")
    assert grafana.raw("no/such/path", {}).status_code == 404
    assert grafana.raw("label/a/b/values", {}).status_code == 404
    assert requests.get(f"{grafana.server.url}/loki/api/v2alpha/tail", timeout=10).status_code == 404


# -- range semantics


def test_29_start_is_inclusive_and_end_is_not(grafana):
    ns = A_ROWS[7][0]
    assert [row[0] for row in grafana.rows('{app="a"}', ns, ns + 1)] == [ns]
    assert grafana.rows('{app="a"}', ns - 1, ns) == []
    assert [row[0] for row in grafana.rows('{app="a"}', ns, A_ROWS[9][0])] == [A_ROWS[8][0], ns]


@pytest.mark.parametrize("direction", ["backward", "forward"])
def test_30_adjacent_chunks_are_the_whole(grafana, direction):
    whole = grafana.rows('{app=~"a|b|dense"}', limit=5000, direction=direction)
    chunks = [(BASE + n * DAY, BASE + (n + 1) * DAY) for n in range(3)]
    if direction == "backward":
        chunks.reverse()
    parts = [row for chunk in chunks for row in grafana.rows('{app=~"a|b|dense"}', *chunk, limit=5000, direction=direction)]
    assert parts == whole and len(whole) == 36 + 72 + DENSE_ROWS


def test_31_limits_take_from_the_right_end(grafana):
    every = sorted(ns for ns, *_ in grafana.rows('{app="context"}', limit=5000))
    for limit in range(1, len(every) + 1):
        newest = [row[0] for row in grafana.rows('{app="context"}', limit=limit)]
        oldest = [row[0] for row in grafana.rows('{app="context"}', limit=limit, direction="forward")]
        assert newest == every[::-1][:limit] and oldest == every[:limit]
    forward = grafana.data('{app="context"}', direction="forward", limit=9)["data"]["result"]
    assert forward == grafana.data('{app="context"}', direction="forward", limit=9)["data"]["result"]


def test_31_pages_meet_at_equal_timestamps(grafana):
    """Rows at one time come in the same order forward, and in exactly the reverse one backward."""
    ranged = (CONTEXT, CONTEXT + 1)
    backward = grafana.data('{app="context", name!="other"}', *ranged)["data"]["result"]
    forward = grafana.data('{app="context", name!="other"}', *ranged, direction="forward")["data"]["result"]
    (down,), (up,) = [s["values"] for s in backward], [s["values"] for s in forward]
    assert len(down) == 3 and down == up[::-1]


def test_32_a_limit_beyond_what_there_is(grafana):
    assert len(grafana.rows('{app="a"}', limit=5000)) == len(A_ROWS)
    assert len(grafana.rows('{app="a"}', limit=len(A_ROWS))) == len(A_ROWS)


def test_33_points_of_a_metric_range(grafana):
    start, end = DENSE + 7 * NS, DENSE + 7 * NS + 301 * NS
    ((_, points),) = grafana.points('count_over_time({app="dense"}[10s])', start, end, step="15000ms").items()
    assert sorted(points) == [start / NS + k * 15 for k in range(21)]
    whole = grafana.points('count_over_time({app="dense"}[10s])', start, start + 300 * NS, step="15000ms")
    assert points == next(iter(whole.values())), "a last point at exactly the end belongs to it"


def test_34_metric_chunks_are_the_whole(grafana):
    query, step = 'sum by (app) (count_over_time({app=~"a|b"}[1h]))', 600
    whole = grafana.points(query, BASE, END, step=f"{step * 1000}ms")
    joined = collections.defaultdict(dict)
    for day in range(3):
        start = BASE + day * DAY
        end = END if day == 2 else start + DAY - step * NS
        for labels, points in grafana.points(query, start, end, step=f"{step * 1000}ms").items():
            assert not set(points) & set(joined[labels]), "a time came in two chunks: the client would add them"
            joined[labels].update(points)
    assert joined == whole and len(whole) == 2


@pytest.mark.parametrize(
    ("step", "window", "count"), [("90000ms", "1m", 60), ("1000ms", "1h", None), ("500ms", "1m", 60), ("60000ms", "500ms", 1)]
)
def test_35_steps_and_windows_need_not_agree(grafana, step, window, count):
    start, end = DENSE + 120 * NS, DENSE + 300 * NS
    ((_, points),) = grafana.points(f'count_over_time({{app="dense"}}[{window}])', start, end, step=step).items()
    if count is None:
        # The window reaches back beyond the first row: all rows up to and with the one at that time.
        assert points == {at: at - DENSE / NS + 1 for at in points}
    else:
        assert set(points.values()) == {count} or step == "500ms" and set(points.values()) <= {count, count + 1}
    assert len(points) == 180_000 // int(step[:-2]) + 1


def test_36_resolution(grafana):
    ranged = {"query": 'count_over_time({app="a"}[1m])', "start": BASE, "direction": "backward", "step": "1000ms"}
    ok(grafana.raw("query_range", {**ranged, "end": BASE + 11_000 * NS}, CATEGORIZE))
    refused(grafana.raw("query_range", {**ranged, "end": BASE + 20_000 * NS}, CATEGORIZE), "11,000 points")


@pytest.mark.parametrize("window", ["1d", "1y", "3600s", "500ms"])
def test_37_windows_parse(grafana, window):
    grafana.points(f'count_over_time({{app="a"}}[{window}])', END - HOUR, END)


def test_38_a_step_means_nothing_for_logs(grafana):
    assert grafana.rows('{app="a"}', step="7200000ms") == grafana.rows('{app="a"}', step="1ms")


def test_39_absent_labels_are_left_out(grafana):
    found = grafana.points('sum by (level, absent) (count_over_time({app=~"a|b"}[3d]))', END - 1, END - 1)
    assert {key: list(points.values()) for key, points in found.items()} == {
        frozenset({("level", "info")}): [36.0],
        frozenset(): [72.0],
    }


# -- metadata


def test_40_label_names_are_those_of_streams(grafana):
    names = grafana.resource("labels", start=BASE, end=END)["data"]
    assert set(names) == {"app", "level", "name", "pod", "rank", "service_name"}


def test_41_a_range_of_no_width(grafana):
    ns = CONTEXT // MS * MS
    assert {"app", "name"} <= set(grafana.resource("labels", start=ns, end=ns)["data"])
    assert "odd" in grafana.resource("label/app/values", start=ns, end=ns)["data"]


def test_42_label_names_of_a_selector(grafana):
    names = grafana.resource("labels", start=BASE, end=END, query='{app="a"}')["data"]
    assert set(names) == {"app", "level", "service_name"}
    ns = CONTEXT // MS * MS
    assert set(grafana.resource("labels", start=ns, end=ns, query='{app="odd"}')["data"]) == {"app", "name", "service_name"}


def test_43_label_values(grafana):
    every = {"a", "b", "c", "a.b", "axb", "context", "dense", "odd", "wide"}
    assert set(grafana.resource("label/app/values", start=BASE, end=END)["data"]) == every
    assert grafana.resource("label/app/values", start=BASE, end=END, query='{level="info"}')["data"] == ["a"]
    assert (grafana.resource("label/nothing/values", start=BASE, end=END).get("data") or []) == []
    assert set(grafana.resource("label/%61pp/values", start=BASE, end=END)["data"]) == every
    assert grafana.resource("label/name/values", start=BASE, end=END, query='{app="odd"}')["data"] == [ODD]


def test_44_series(grafana):
    a = {"app": "a", "level": "info", "service_name": "a"}
    b = {"app": "b", "service_name": "b"}

    def series(*selectors, start=BASE, end=END):
        params = [("end", end), *(("match[]", selector) for selector in selectors), ("start", start)]
        return ok(grafana.raw("series", params))["data"]

    assert series('{app="a"}') == [a]
    assert series('{app="none"}') == []
    assert sorted(series('{app="a"}', '{app="b"}'), key=str) == [a, b]
    ns = A_ROWS[3][0]
    assert series('{app="a"}', start=ns, end=ns) == [a]


@pytest.mark.parametrize("selector", ['{app!="a"}', '{app=~".*"}', '{app!~"x"}'])
def test_45_selectors_that_match_nothing_in_particular(grafana, selector):
    for path in ("labels", "label/app/values"):
        assert grafana.raw(path, {"query": selector, "start": BASE, "end": END}).status_code in (200, 400)


def test_46_forms_of_time(grafana):
    start, end = BASE + DAY, BASE + 2 * DAY
    forms = [(start, end), (iso(start), iso(end)), (f"{start / NS:.3f}", f"{end / NS:.3f}")]
    answers = [
        (
            grafana.resource("series", **{"match[]": '{app="a"}'}, start=s, end=e)["data"],
            grafana.rows('{app="a"}', s, e),
            grafana.resource("index/stats", query='{app="a"}', start=s, end=e),
        )
        for s, e in forms
    ]
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0][1]) == 12


def test_47_48_there_are_no_stream_shards(grafana):
    values = grafana.resource("label/__stream_shard__/values", start=BASE, end=END, query='{app="a"}')
    assert not values.get("data")
    assert len(grafana.rows('{app="a", __stream_shard__=""}')) == len(A_ROWS)
    assert grafana.rows('{app="a", __stream_shard__="3"}') == []
    query = 'sum(count_over_time({app="a", __stream_shard__=~"3|2"} | drop __stream_shard__[1h]))'
    assert grafana.points(query) == {}


def test_49_index_statistics(grafana):
    stats = grafana.resource("index/stats", query='{app="a"}', start=BASE, end=END)
    assert {key: type(value) for key, value in stats.items()} == dict.fromkeys(("streams", "chunks", "bytes", "entries"), int)
    assert (stats["streams"], stats["entries"]) == (1, 36) and stats["bytes"] > 36 * 10
    none = grafana.resource("index/stats", query='{app="none"}', start=BASE, end=END)
    assert none == {"streams": 0, "chunks": 0, "bytes": 0, "entries": 0}
    refused(grafana.raw("index/stats", {"query": "{app=$app}", "start": BASE, "end": END}), "parse error")


# -- queries of the user interface


def test_50_the_volume_histogram(grafana):
    query = 'sum by (level, detected_level) (count_over_time({app="a"} |= "x" | json | drop __error__[2h]))'
    data = grafana.data(query, BASE, END, step="7200000ms", limit=None, tag="logvolhist")["data"]
    assert sum(float(value) for series in data["result"] for _, value in series["values"]) == len(A_ROWS)
    assert all(set(series["metric"]) <= {"level", "detected_level"} for series in data["result"])


def quoted(value):
    """A label value as the data source writes it into a selector."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def context(grafana, query, ns, limit=100, hours=2):
    """Both requests that Grafana sends for the context of a row: its time is cut to milliseconds."""
    at = ns // MS * MS
    before = grafana.rows(query, at - hours * HOUR, at, limit=limit, direction="backward")
    after = grafana.rows(query, at, at + hours * HOUR, limit=limit, direction="forward")
    return before, after


def number(rows):
    return [int(re.search(r"\d+", line)[0]) for _, line, *_ in rows]


def test_51_context_of_a_row(grafana):
    query = f'{{app="context",name={quoted(ODD)}}}'
    before, after = context(grafana, query, CONTEXT)
    # The row itself and those of its millisecond come with the rows after it: the client knows them by their ids.
    assert number(before) == [2, 1] and number(after) == [3, 4, 5, 6, 7, 8, 9, 10]
    before, after = context(grafana, query, CONTEXT, limit=3)
    assert number(before) == [2, 1] and number(after) == [3, 4, 5]
    before, after = context(grafana, query, CONTEXT + HOUR, limit=3)
    assert number(before) == [9, 8, 7] and number(after) == [10]
    assert {row[2]["name"] for row in before} == {ODD}


def test_52_context_with_parsers_and_filters_on_fields(grafana):
    selector = f'{{app="context",name={quoted(ODD)}}}'
    for query in (f'{selector} | json | logfmt | n="5"', f'{selector} | json | logfmt | trace_id="t5"'):
        before, after = context(grafana, query, CONTEXT)
        assert (number(before), number(after)) == ([], [5])


def test_53_a_sample_for_the_editor(grafana):
    rows = grafana.rows('{app="a"}', limit=10, tag="datasample")
    assert [row[0] for row in rows] == [ns for ns, _ in A_ROWS[::-1][:10]]


def test_54_an_escaped_dot_is_a_dot(grafana):
    assert {row[2]["app"] for row in grafana.rows('{app=~"a\\\\.b|c"}')} == {"a.b", "c"}


def test_55_comments(grafana):
    query = '{app="a"} # of the trainer\n|= "plain" # and plain\n# nothing else'
    assert len(grafana.rows(query)) == 12


# -- live tail


def test_56_history_then_new_rows(tmp_path_factory):
    for client in serving(tmp_path_factory, "tail"):
        base = time.time_ns() - 30 * 60 * NS
        assert client.server.push({"app": "a"}, [(base - HOUR, "too old")]) == 204
        assert client.server.push({"app": "a"}, [(base + n, f"line {n}") for n in range(150)]) == 204
        with Tail(client.server, '{app="a"}') as tail:
            wait_until(lambda t=tail: len(t.entries) >= 100, 5, "the history")
            begun = time.monotonic()
            assert client.server.push({"app": "a"}, [(time.time_ns(), "new")]) == 204
            wait_until(lambda t=tail: t.lines()[-1] == "new", 5, "the new row")
            assert time.monotonic() - begun < 2
            assert tail.lines() == [f"line {n}" for n in range(50, 150)] + ["new"]


def test_57_messages_are_what_the_browser_reads(tmp_path_factory):
    for client in serving(tmp_path_factory, "frames"):
        with Tail(client.server, '{app="a"} | logfmt') as tail:
            for n in range(3):
                assert client.server.push({"app": "a"}, [(time.time_ns(), f"n={n}", {"k": "v"})]) == 204
            wait_until(lambda t=tail: len(t.entries) == 3, 5, "the rows")
            # Pings are control frames: the client answers them by itself, and nothing that is not JSON arrives.
            time.sleep(16)
            assert client.server.push({"app": "a"}, [(time.time_ns(), "n=3")]) == 204
            wait_until(lambda t=tail: len(t.entries) == 4, 5, "a row after a ping")
            for message in tail.messages:
                assert message.get("dropped_entries") in (None, [])
                for stream in message["streams"]:
                    assert all(isinstance(value, str) for value in stream["stream"].values())
                    assert all(len(value) == 2 and re.fullmatch(r"\d{19}", value[0]) for value in stream["values"])


def test_58_foreign_origins_and_coming_back(serve):
    server = serve()
    with Tail(server, '{app="a"}', headers={"Origin": "https://grafana.example.com"}) as tail:
        assert server.push({"app": "a"}, [(time.time_ns(), "one")]) == 204
        wait_until(lambda: tail.lines() == ["one"], 5, "the row")
        server.kill()
        wait_until(lambda: tail.closed, 5, "the end")
    second = server.again()
    try:
        assert second.push({"app": "a"}, [(time.time_ns(), "two")]) == 204
        with Tail(second, '{app="a"}') as again:
            wait_until(lambda: again.lines() == ["one", "two"], 5, "both rows")
    finally:
        second.kill()


@pytest.mark.parametrize("query", ["{app=", 'count_over_time({app="a"}[1m])'])
def test_59_wrong_tails_are_refused_before_the_upgrade(grafana, query):
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    assert refused(grafana.raw("tail", {"query": query}, upgrade))


# Item 60 (slow readers) and the rest of item 58 (too many tails) are in test_tail.py.


# -- Logs Drilldown


def test_61_drilldown_limits(grafana):
    found = grafana.resource("drilldown-limits")
    limits = found["limits"]
    assert limits["max_entries_limit_per_query"] >= 5000
    assert re.fullmatch(r"(\d+(ms|[smhdwy]))+", limits["retention_period"])
    assert isinstance(found["pattern_ingester_enabled"], bool) and found["version"]


def test_62_volumes_by_service(grafana):
    ranged = {"start": iso(BASE), "end": iso(END), "limit": 5000}
    data = grafana.resource("index/volume", query='{service_name=~".+"}', **ranged)["data"]
    assert data["resultType"] == "vector"
    volumes = {series["metric"]["service_name"]: float(series["value"][1]) for series in data["result"]}
    assert set(volumes) == {"a", "b", "c", "a.b", "axb", "context", "dense", "odd", "wide"} and volumes["dense"] > 1000
    assert all(isinstance(series["value"][1], str) for series in data["result"])
    searched = grafana.resource("index/volume", query='{service_name=~"(?i).*DEN.*"}', **ranged)["data"]["result"]
    assert [series["metric"] for series in searched] == [{"service_name": "dense"}]
    assert grafana.resource("index/volume", query='{service_name="none"}', **ranged)["data"]["result"] == []


def test_63_detected_labels(grafana):
    ranged = {"start": iso(BASE), "end": iso(END)}
    found = grafana.resource("detected_labels", query="", **ranged)["detectedLabels"]
    cardinality = {label["label"]: label["cardinality"] for label in found}
    assert cardinality["app"] == 9 and cardinality["pod"] == 30 and cardinality["level"] == 2
    assert not {"trace_id", "detected_level"} & set(cardinality)
    assert found == grafana.resource("detected_labels", query="", **ranged)["detectedLabels"]
    of_a = grafana.resource("detected_labels", query='{app="a"}', **ranged)["detectedLabels"]
    assert {label["label"]: label["cardinality"] for label in of_a} == {"app": 1, "level": 1, "service_name": 1}


def test_64_detected_fields(grafana):
    query = '{app="a"} | json | logfmt | drop __error__, __error_details__'
    found = grafana.resource("detected_fields", query=query, start=iso(BASE), end=iso(END))["fields"]
    fields = {field["label"]: field for field in found}
    types = {name: fields[name]["type"] for name in ("n", "ok", "dur", "size", "msg")}
    assert types == {"n": "int", "ok": "boolean", "dur": "duration", "size": "bytes", "msg": "string"}
    assert fields["trace_id"]["parsers"] is None and fields["detected_level"]["parsers"] is None
    assert set(fields["n"]["parsers"]) == {"json", "logfmt"} and fields["dur"]["parsers"] == ["logfmt"]
    assert fields["a_b"]["jsonPath"] == ["a", "b"] and fields["a_c_d"]["jsonPath"] == ["a", "c d"]
    assert fields["n"]["cardinality"] == 24


def test_65_values_of_a_detected_field(grafana):
    ranged = {"query": '{app="a"}', "start": BASE, "end": END, "limit": 1000}
    assert grafana.resource("detected_field/detected_level/values", **ranged)["values"] == ["info"]
    assert not grafana.resource("detected_field/nothing/values", **ranged).get("values")


def test_66_patterns(grafana, empty):
    """The shape alone: an empty list is allowed, and what is mined is tested beside the miner."""
    params = {"query": '{app="dense"}', "start": DENSE, "end": DENSE + HOUR, "step": "10s"}
    for client in (grafana, empty):
        data = client.resource("patterns", **params)["data"]
        assert isinstance(data, list)
        for pattern in data:
            assert isinstance(pattern["pattern"], str)
            assert all(isinstance(at, int) and isinstance(count, int) for at, count in pattern["samples"])


def test_67_unwrapped_fields_by_nothing(grafana):
    query = 'avg_over_time({app="a"} | json | unwrap bytes(size) | __error__="" [1d]) by ()'
    found = grafana.points(query, BASE + DAY, BASE + DAY, step="60000ms")
    assert found == {frozenset(): {(BASE + DAY) / NS: 1000.0}}
    query = 'avg_over_time({app="a"} | logfmt | unwrap duration(dur) | __error__="" [1d]) by ()'
    assert list(grafana.points(query, BASE + DAY, BASE + DAY)[frozenset()].values()) == [0.25]


def test_68_fields_of_a_pattern(grafana):
    query = '{app=`dense` } |> `step <_>` | pattern `step <field_1>` | keep field_1 | line_format ""'
    rows = grafana.rows(query, DENSE, DENSE + 10 * NS, direction="forward")
    assert [(line, labels, third) for _, line, labels, third in rows] == [
        ("", {}, {"parsed": {"field_1": str(n)}}) for n in range(10)
    ]


def test_69_json_paths_before_all_of_json(grafana):
    parsers = '| json x="[\\"a\\"][\\"b\\"]" | json | logfmt | drop __error__, __error_details__'
    rows = grafana.rows(f'{{app="a"}} {parsers} | x="1"')
    assert len(rows) == 6 and all(third["parsed"]["x"] == "1" for *_, third in rows)


def test_22_70_too_many_series_are_cut_for_drilldown_with_a_warning(tmp_path_factory):
    for client in serving(tmp_path_factory, "series", "--query-max-series", "5"):
        now = time.time_ns()
        for n in range(8):
            assert client.server.push({"app": "w", "pod": str(n)}, [(now, "x")]) == 204
        query = 'sum by (pod) (count_over_time({app="w"}[1m]))'
        body = client.data(query, now, now + 30 * NS, step="10000ms", limit=None, tag="grafana-lokiexplore-app")
        assert len(body["data"]["result"]) == 5
        assert body["warnings"] == ["maximum number of series (5) reached for a single query; returning partial results"]
        params = {"query": query, "start": now, "end": now + 30 * NS, "step": "10000ms"}
        refused(client.raw("query_range", params, CATEGORIZE), "maximum number of series (5) reached for a single query")


def test_71_an_instant_count(grafana):
    query = 'sum(count_over_time({app="a"} | json | logfmt | drop __error__, __error_details__ [259200s]))'
    (series,) = grafana.instant(query, END, limit=1000)["data"]["result"]
    assert series["value"][1] == "36"


# -- alerting


def test_72_rules_of_a_service_without_a_ruler(grafana):
    url = grafana.server.url
    rules = requests.get(f"{url}/prometheus/api/v1/rules", timeout=10).json()
    assert rules["status"] == "success" and rules["data"] == {"groups": []}
    probe = requests.get(f"{url}/api/prom/rules/test/test", timeout=10)
    assert probe.status_code == 404 and ("group does not exist" in probe.text or "page not found" in probe.text)


def test_72_a_managed_rule_asks_without_a_limit(grafana):
    query = 'sum by (app) (count_over_time({app=~"a|b"}[1d]))'
    found = {s["metric"]["app"]: s["value"][1] for s in grafana.instant(query, BASE + DAY)["data"]["result"]}
    assert found == {"a": "12", "b": "24"}
    assert grafana.instant('count_over_time({app="none"}[5m]) > 5')["data"]["result"] == []


# -- several tenants behind one proxy


def test_tenants_are_named_by_the_header(tmp_path_factory):
    for client in serving(tmp_path_factory, "tenants", "--tenants-required", "true"):
        now = time.time_ns()
        for tenant in ("acme", "globex"):
            body = {"streams": [{"stream": {"app": "t"}, "values": [[str(now), f"of {tenant}"]]}]}
            header = {"X-Scope-OrgID": tenant}
            assert requests.post(f"{client.api}/push", json=body, headers=header, timeout=10).status_code == 204
        ranged = (now - HOUR, now + HOUR)

        def lines(tenants, query='{app="t"}'):
            rows = client.rows(query, *ranged, headers={"X-Scope-OrgID": tenants})
            return sorted((line, labels.get("__tenant_id__")) for _, line, labels, _ in rows)

        assert lines("acme") == [("of acme", None)]
        assert lines("acme|globex") == [("of acme", "acme"), ("of globex", "globex")]
        assert lines("acme|globex", '{app="t", __tenant_id__="globex"}') == [("of globex", "globex")]
        names = client.raw("labels", {"start": ranged[0], "end": ranged[1]}, {"X-Scope-OrgID": "acme|globex"})
        assert "app" in ok(names)["data"]
        missing = client.raw("query_range", {"query": '{app="t"}', "start": ranged[0], "end": ranged[1]}, CATEGORIZE)
        assert missing.status_code == 401 and "no org id" in missing.text


def test_a_form_asks_as_a_url_does(grafana):
    form = {"query": '{app="a"}', "start": BASE, "end": END, "limit": 10, "direction": "backward"}
    posted = requests.post(f"{grafana.api}/query_range", data=form, headers=CATEGORIZE, timeout=30)
    asked = grafana.raw("query_range", form, CATEGORIZE)
    assert ok(posted)["data"]["result"] == ok(asked)["data"]["result"] != []


def test_queries_side_by_side_answer_as_one_by_one(grafana):
    """The flag lokiRunQueriesInParallel sends up to ten at once."""
    queries = [f'{{app="{app}"}}' for app in ("a", "b", "dense", "context", "wide")] * 2
    alone = [grafana.rows(query) for query in queries]
    found = [None] * len(queries)

    def ask(place):
        found[place] = Grafana(grafana.server).rows(queries[place])

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(queries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == alone
