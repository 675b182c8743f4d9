"""Grafana's contract: how its requests travel: health check, prefixes, headers, tenants, requests side by side. See grafana.py."""

import gzip
import http.client
import json
import threading
import time

import pytest
import requests
from grafana import A_ROWS, BASE, CATEGORIZE, END, HOUR, Grafana, iso, ok, refused, serving
from support import wait_until
from tails import Tail

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
