"""Grafana's contract: what Logs Drilldown asks. See grafana.py."""

import re
import time

from grafana import BASE, CATEGORIZE, DAY, DENSE, END, HOUR, iso, refused, serving
from support import NS


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
