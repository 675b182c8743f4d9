"""Grafana's contract: the form of answers and errors, and which rows and points a range has. See grafana.py."""

import collections
import json
import re
import time

import pytest
import requests
from grafana import (
    A_ROWS,
    BASE,
    CATEGORIZE,
    CONTEXT,
    DAY,
    DENSE,
    DENSE_ROWS,
    END,
    HOUR,
    ODD,
    ODD_LINES,
    ok,
    refused,
    serving,
)
from support import NS

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
