"""Delete requests as users make them: over Loki's API, on several replicas, through restarts."""

import time

import pytest
import requests
from support import NS


def ask(server, method="POST", **params):
    return requests.request(method, f"{server.url}/loki/api/v1/delete", params=params, timeout=30)


@pytest.fixture
def logs():
    """A minute of two ranks that ended half an hour ago, and the range to ask for."""
    start = int(time.time()) - 1860
    entries = [(start * NS + n * NS, f"step {n} loss=0.{n}", {"trace": str(n % 2)}) for n in range(60)]
    return start, entries, {"start": (start - 10) * NS, "end": (start + 100) * NS}


def test_a_delete_is_seen_by_every_replica_and_survives_restarts(serve, tmp_path, logs):
    start, entries, span = logs
    one, two = serve(tmp_path / "store"), serve(tmp_path / "store")
    for rank in "01":
        assert one.push({"job": "a", "rank": rank}, entries) == 204
    assert len(two.lines('{job="a"}', **span)) == 120

    done = ask(one, query='{rank="1"} |= "loss" | trace="1"', start=start, end=start + 19)
    assert (done.status_code, done.text) == (204, "")
    request_id = done.headers["X-Delete-Request-ID"]
    # At once where it was asked for, within a refresh elsewhere.
    assert len(one.lines('{job="a"}', **span)) == 110
    time.sleep(1.2)
    assert len(two.lines('{job="a"}', **span)) == 110
    count = "sum(count_over_time({job=\"a\"}[10m]))"
    assert list(two.vector(count, start + 100).values()) == [110]

    two.kill()
    two = two.again()
    try:
        assert len(two.lines('{rank="1"}', **span)) == 50
        listed = ask(two, "GET").json()
        assert [(r["request_id"], r["start_time"], r["status"]) for r in listed] == [(request_id, start, "received")]
        assert ask(two, "GET", start=start + 50, end=start + 60).json() == []

        assert ask(two, "DELETE", request_id=request_id).status_code == 204
        assert len(two.lines('{job="a"}', **span)) == 120
        assert ask(two, "DELETE", request_id=request_id).status_code == 404
    finally:
        two.kill()


def test_a_bucket_keeps_requests_as_a_folder_does(serve, s3, logs):
    start, entries, span = logs
    store, options = s3.store(f"deletes-{time.time_ns()}"), s3.options()
    one, two = (serve(store, *options, "--delete-cancel-period", "1s", env=s3.env()) for _ in range(2))
    one.push({"job": "a"}, entries)
    assert ask(one, query='{job="a"} |= "step 1"', start=start - 10).status_code == 204
    left = [line for _, line, _ in entries if "step 1" not in line]
    assert one.lines('{job="a"}', **span) == left
    time.sleep(1.2)
    assert two.lines('{job="a"}', **span) == left
    # Whichever of the two removes the entries, both go on with what is left.
    deadline = time.monotonic() + 60

    def metrics():
        return "".join(requests.get(f"{server.url}/metrics", timeout=10).text for server in (one, two))

    while "rankline_deletes_removed_entries_total" not in metrics():
        assert time.monotonic() < deadline, "nothing was removed within a minute"
        time.sleep(0.5)
    for server in (one, two):
        assert server.lines('{job="a"}', **span) == left
        assert [r["status"] for r in ask(server, "GET").json()] == ["received"], "the replaced segment is still there"


def test_whole_streams_are_gone_from_labels_and_series(serve, logs):
    start, entries, span = logs
    server = serve()
    for rank in "01":
        server.push({"job": "a", "rank": rank}, entries)
    assert ask(server, "PUT", query='{rank="1"}', start=start - 10).status_code == 204
    assert server.get("/loki/api/v1/label/rank/values", **span)["data"] == ["0"]
    assert [s["rank"] for s in server.get("/loki/api/v1/series", **span)["data"]] == ["0"]
    assert server.get("/loki/api/v1/index/stats", query='{rank="1"}', **span)["entries"] == 0
    # What is pushed later and lies after the range is new.
    server.push({"job": "a", "rank": "1"}, [(time.time_ns(), "back again")])
    assert server.lines('{rank="1"}', span["start"], time.time_ns() + NS) == ["back again"]


def test_entries_are_removed_from_the_store_after_the_time_to_cancel(serve, tmp_path, logs):
    start, entries, span = logs
    store = tmp_path / "store"
    server = serve(store, "--delete-cancel-period", "1s")
    server.push({"job": "a", "rank": "0"}, entries)
    server.push({"job": "a", "rank": "1"}, entries)
    secret = b"rank"
    assert any(secret in path.read_bytes() for path in store.rglob("*.seg"))
    ask(server, query='{job="a"}', start=start - 10)
    assert server.lines('{job="a"}', **span) == []
    deadline = time.monotonic() + 60
    while ask(server, "GET").json()[0]["status"] != "processed":
        assert time.monotonic() < deadline, "the request was not carried out within a minute"
        time.sleep(0.5)
    assert list(store.rglob("*.seg")) == []
    late = ask(server, "DELETE", request_id=ask(server, "GET").json()[0]["request_id"])
    assert (late.status_code, late.text.strip()) == (
        400,
        "deletion of request which is in process or already processed is not allowed",
    )


MISTAKES = [
    ({}, "query not set"),
    ({"query": '{a="b"}'}, "start time not set"),
    ({"query": '{a="b"', "start": 1700000000}, "invalid query expression"),
    ({"query": 'rate({a="b"}[1m])', "start": 1700000000}, "invalid query expression"),
    ({"query": '{a="b"}', "start": 170}, "invalid start time: require unix seconds or RFC3339 format"),
    (
        {"query": '{a="b"}', "start": 1700000000, "end": "tomorrow"},
        "invalid end time: require unix seconds or RFC3339 format",
    ),
    ({"query": '{a="b"}', "start": 1700000000, "end": 4102444800}, "deletes in the future are not allowed"),
    (
        {"query": '{a="b"}', "start": "2024-01-01T00:00:00Z", "end": "2024-01-01T00:00:00Z"},
        "start time can't be greater than or equal to end time",
    ),
    (
        {"query": '{a="b"} |= "x"', "start": 1700000000, "end": 1700003600, "max_interval": "1d"},
        "invalid max_interval: valid time units are 's', 'm', 'h'",
    ),
    (
        {"query": '{a="b"} |= "x"', "start": 1700000000, "end": 1700003600, "max_interval": "2h"},
        "max_interval can't be greater than the interval to be deleted (1h0m0s)",
    ),
]


def test_mistakes_are_told_as_loki_tells_them(serve):
    server = serve()
    for params, text in MISTAKES:
        refused = ask(server, **params)
        assert (refused.status_code, refused.text.strip()) == (400, text), params
    assert ask(server, "GET").json() == []


def test_a_delete_names_one_tenant(serve):
    server = serve(None, "--tenants-required", "true")
    url = f"{server.url}/loki/api/v1/delete"
    assert requests.get(url, timeout=10).status_code == 401
    several = requests.get(url, headers={"X-Scope-OrgID": "a|b"}, timeout=10)
    assert (several.status_code, several.text.strip()) == (400, "multiple org IDs present")
    made = requests.post(
        url, params={"query": "{}", "start": 1700000000}, headers={"X-Scope-OrgID": "a"}, timeout=10
    )
    assert made.status_code == 204
    assert len(requests.get(url, headers={"X-Scope-OrgID": "a"}, timeout=10).json()) == 1
    assert requests.get(url, headers={"X-Scope-OrgID": "b"}, timeout=10).json() == []
