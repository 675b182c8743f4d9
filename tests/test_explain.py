"""`--explain` and `explain=true`: what an answer took, on a real bucket, cold and again."""

import re
import time

import pytest
from support import NS, run

LINES, STREAMS = 3000, 3


@pytest.fixture
def hour():
    return (time.time_ns() - 4 * 3600 * NS) // (3600 * NS) * 3600 * NS


@pytest.fixture
def server(serve, s3, hour, tmp_path):
    """Three hours of three streams on S3, one segment each, behind a restart: nothing is in memory. With one thread four blocks are on
    their way at a time, whatever the machine, so that there are some left to be skipped when the first one is done."""
    options = [*s3.options(), "--compaction", "false"]
    store = s3.store(f"explain-{tmp_path.name}")
    first = serve(store, *options, env=s3.env())
    for past in range(3):
        for rank in range(STREAMS):
            base = hour + past * 3600 * NS
            entries = [(base + n * NS, f"step {n} loss 0.{n * 7919 % 9973} ok") for n in range(LINES // 3)]
            assert first.push({"app": "x", "rank": str(rank)}, entries) == 204
    first.stop()
    return serve(store, *options, "--query-threads", "1", env=s3.env())


def explained(server, hour, query, **more):
    end = hour + 3 * 3600 * NS
    answer = server.get("/loki/api/v1/query_range", query=query, start=hour, end=end, explain="true", **more)
    return answer["data"]["stats"]["rankline"]


def test_the_second_time_nothing_is_read_from_the_bucket(server, hour):
    first = explained(server, hour, '{app="x", rank="1"} |= "loss"', limit=5000)
    assert first["segments"]["considered"] > first["segments"]["skippedByStreams"]
    assert first["lines"]["returned"] == first["lines"]["passed"] == LINES
    assert first["store"]["gets"] > 0 and first["store"]["lists"] > 0
    assert first["store"]["bytes"] >= first["store"]["columnBytes"] > 0
    again = explained(server, hour, '{app="x", rank="1"} |= "loss"', limit=5000)
    assert again["store"]["gets"] == again["store"]["bytes"] == 0
    # Small blocks are not kept decoded: their bytes are.
    assert again["blocks"]["inMemory"] or again["store"]["rangesFromMemory"]
    assert again["blocks"]["read"] == first["blocks"]["read"] and again["lines"] == first["lines"]


def test_reasons_for_skipping(server, hour):
    absent = explained(server, hour, '{app="x"} |= "not in any line"')
    assert absent["blocks"]["read"] == 0 and absent["blocks"]["skippedByTemplates"] > 0
    assert absent["lines"]["putTogether"] == 0
    newest = explained(server, hour, '{app="x"}', limit=5)
    assert newest["blocks"]["skippedByLimit"] > 0
    other = explained(server, hour, '{app="y"}')
    assert other["blocks"]["read"] == 0 and other["blocks"]["skippedByStreams"] > 0


def test_only_who_asks_is_told(server, hour):
    answer = server.get("/loki/api/v1/query_range", query='{app="x"}', start=hour, end=hour + 60 * NS)
    assert sorted(answer["data"]["stats"]) == ["cache", "index", "ingester", "querier", "summary"]


def test_the_command_says_it_to_people(server):
    done = run("query", "--url", server.url, '{app="x", rank="1"} |= "loss"', "--explain", "--since", "6h", "--output", "raw")
    assert len(done.stdout.splitlines()) == 100
    said = done.stderr
    for expected in [
        r"answered in \d+\.\d m?s by 1 request",
        r"segments: \d+ in this time, \d+ without these streams",
        r"blocks: \d+ scanned, \d+ skipped \(.*\d+ have none of the streams",
        r"lines: [\d,]+ in these blocks and streams \(.*\), .* 100 returned",
        r"store: \d+ listings?, \d+ reads? \(.*\); caches: ",
        r"time: plan [\d.]+ m?s, fetch ",
    ]:
        assert re.search(expected, said), f"no {expected!r} in:\n{said}"
