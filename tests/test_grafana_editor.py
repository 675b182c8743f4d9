"""Grafana's contract: what its editor, panels and alerts ask: labels, series, context, the volume histogram, the tail, rules. See grafana.py."""

import re
import time

import pytest
import requests
from grafana import A_ROWS, BASE, CONTEXT, DAY, END, HOUR, MS, ODD, iso, ok, refused, serving
from support import NS, wait_until
from tails import Tail

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
