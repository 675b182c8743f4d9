"""The live tail: what one server acknowledges, what its other replicas do, and readers that don't keep up."""

import collections
import concurrent.futures
import re
import threading
import time

import pytest
import requests
from support import NS, Server, wait_until
from tails import Tail

# What "live" means over several replicas: the store is asked three times a second, and machines have other work.
SOON_NS = 1.5 * NS


@pytest.fixture
def server(serve):
    return serve("memory://")


def numbered(server, labels, numbers, ns=None):
    """Pushes one line for each number, a nanosecond apart."""
    ns = ns or time.time_ns()
    assert server.push(labels, [(ns + k, f"line {n}") for k, n in enumerate(numbers)]) == 204


def metric(server, name):
    text = requests.get(f"{server.url}/metrics", timeout=10).text
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M))


# -- one server


def test_history_comes_first_oldest_first_and_at_most_limit(server):
    base = time.time_ns() - 60 * NS
    assert server.push({"app": "h"}, [(base + n, f"line {n}") for n in range(150)]) == 204
    with Tail(server, '{app="h"}', limit=20) as tail:
        wait_until(lambda: len(tail.entries) >= 20, 5, "the history")
        numbered(server, {"app": "h"}, [200, 201])
        wait_until(lambda: len(tail.entries) >= 22, 5, "new lines")
        assert tail.lines() == [f"line {n}" for n in [*range(130, 150), 200, 201]]


def test_start_bounds_the_history(server):
    base = time.time_ns() - 60 * NS
    assert server.push({"app": "s"}, [(base + n * NS, f"line {n}") for n in range(50)]) == 204
    with Tail(server, '{app="s"}', start=base + 45 * NS, limit=100) as tail:
        numbered(server, {"app": "s"}, [99])
        wait_until(lambda: "line 99" in tail.lines(), 5, "the new line")
        assert tail.lines() == [f"line {n}" for n in [45, 46, 47, 48, 49, 99]]


def test_the_pipeline_filters_and_changes_new_entries(server):
    query = '{app="p"} |= "loss" | logfmt | loss > 2 | line_format "{{.rank}}: {{.loss}}"'
    with Tail(server, query) as tail:
        now = time.time_ns()
        lines = ["rank=0 loss=1.5", "rank=1 loss=2.5", "no number here", "rank=2 loss=3.5"]
        assert server.push({"app": "p"}, [(now + n, line) for n, line in enumerate(lines)]) == 204
        wait_until(lambda: len(tail.entries) >= 2, 5, "the lines")
        assert tail.lines() == ["1: 2.5", "2: 3.5"]
        assert tail.entries[0][3]["rank"] == "1"


def test_labels_are_told_apart_when_asked_for(server):
    headers = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}
    with Tail(server, '{app="c"} | logfmt', headers=headers) as tail:
        now = time.time_ns()
        assert server.push({"app": "c"}, [(now, "loss=1", {"trace_id": "t1"})]) == 204
        wait_until(lambda: tail.entries, 5, "the line")
        message = tail.messages[-1]
        assert message["encodingFlags"] == ["categorize-labels"]
        (stream,) = message["streams"]
        ((ns, line, more),) = stream["values"]
        assert (ns, line) == (str(now), "loss=1") and set(stream["stream"]) == {"app", "service_name"}
        assert more["parsed"] == {"loss": "1"} and more["structuredMetadata"]["trace_id"] == "t1"


def test_entries_held_back_come_in_order_of_time(server):
    with Tail(server, '{app="d"}', delay_for=2) as tail:
        begun = time.time_ns()
        numbered(server, {"app": "d"}, [2], begun + 2)
        numbered(server, {"app": "d"}, [1], begun + 1)
        wait_until(lambda: len(tail.entries) == 2, 6, "the lines")
        assert all(came - begun >= 1.9 * NS for came, *_ in tail.entries), "they were not held back"
        # Pushed in the other order, each by itself.
        assert tail.lines() == ["line 1", "line 2"]


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"query": "{app="}, "parse error"),
        ({"query": 'count_over_time({app="a"}[1m])'}, "only log"),
        ({"query": '{app="a"}', "delay_for": 6}, "delay_for"),
        ({"query": '{app="a"}', "start": "x"}, "x"),
        ({"query": "{}"}, "at least one"),
    ],
)
def test_a_wrong_tail_is_refused_before_the_upgrade(server, params, text):
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }  # fmt: skip
    answer = requests.get(f"{server.url}/loki/api/v1/tail", params=params, headers=upgrade, timeout=10)
    assert answer.status_code == 400 and text in answer.text, f"{answer.status_code} {answer.text}"


def test_more_tails_than_allowed_are_closed_with_the_reason(serve):
    server = serve("memory://", "--max-tails", "2")
    with Tail(server, '{app="a"}'), Tail(server, '{app="a"}'):
        wait_until(lambda: metric(server, "rankline_tail_sessions") == 2, 5, "two tails")
        with Tail(server, '{app="a"}') as third:
            wait_until(lambda: third.closed, 5, "the third one's end")
            assert third.closed.rcvd.code == 1011
            assert third.closed.rcvd.reason == "max concurrent tail requests limit exceeded, count > limit (3 > 2)"
    wait_until(lambda: metric(server, "rankline_tail_sessions") == 0, 10, "no tail")
    with Tail(server, '{app="a"}') as again:
        numbered(server, {"app": "a"}, [1])
        wait_until(lambda: again.lines() == ["line 1"], 5, "a tail after others have gone")


def test_thousands_of_lines_arrive_once_and_in_order(server):
    streams, batches, size = 4, 20, 250
    with Tail(server, '{app="many"}') as tail:
        def write(rank):
            for batch in range(batches):
                numbered(server_of[rank], {"app": "many", "rank": str(rank)}, range(batch * size, (batch + 1) * size))

        server_of = {rank: server for rank in range(streams)}
        with concurrent.futures.ThreadPoolExecutor(streams) as pool:
            list(pool.map(write, range(streams)))
        wait_until(lambda: len(tail.entries) >= streams * batches * size, 30, "all lines")
    assert not tail.dropped
    of_rank = collections.defaultdict(list)
    for _, _, line, labels in tail.entries:
        of_rank[labels["rank"]].append(line)
    assert of_rank == {str(rank): [f"line {n}" for n in range(batches * size)] for rank in range(streams)}


def test_a_retried_push_is_shown_once(server):
    with Tail(server, '{app="retry"}') as tail:
        now = time.time_ns()
        for _ in range(3):
            numbered(server, {"app": "retry"}, range(5), now)
        numbered(server, {"app": "retry"}, [9])
        wait_until(lambda: "line 9" in tail.lines(), 5, "the last line")
        assert tail.lines() == [f"line {n}" for n in [0, 1, 2, 3, 4, 9]]


def test_a_slow_reader_is_told_what_it_missed_and_disturbs_nobody(server):
    """One reader takes nothing while more is pushed than its queue holds; another one gets every line meanwhile."""
    line = "x" * 100_000
    with Tail(server, '{app="big"}', reading=False) as slow, Tail(server, '{app="big", n="9"}') as quick:
        wait_until(lambda: metric(server, "rankline_tail_sessions") == 2, 5, "two tails")
        for batch in range(10):
            entries = [(time.time_ns() + n, f"{batch} {n} {line}") for n in range(100)]
            assert server.push({"app": "big", "n": str(batch)}, entries, timeout=20) == 204
        wait_until(lambda: len(quick.entries) == 100, 10, "the other reader's lines")
        slow.thread.start()
        wait_until(lambda: slow.dropped, 30, "being told of dropped entries")
        assert all(entry["labels"]["app"] == "big" and int(entry["timestamp"]) > 0 for entry in slow.dropped)
        numbered(server, {"app": "big", "n": "end"}, [1])
        wait_until(lambda: slow.lines()[-1] == "line 1", 30, "the slow reader's going on")
        got = len(slow.entries) - 1
    assert got + len(slow.dropped) == 1000, f"{got} lines and {len(slow.dropped)} reported as dropped"
    assert metric(server, "rankline_tail_dropped_entries_total") == len(slow.dropped)


def test_rankline_query_follows(server):
    from support import BINARY, Process

    log = server.folder / "follow.txt"
    wait_until(lambda: metric(server, "rankline_tail_sessions") == 0, 10, "the end of the earlier tails")
    follow = Process([BINARY, "query", '{app="cli"} |= "line"', "--tail", "--output", "raw", "--url", server.url], log)
    try:
        wait_until(lambda: metric(server, "rankline_tail_sessions") == 1, 10, "the tail")
        numbered(server, {"app": "cli"}, range(300))
        wait_until(lambda: log.read_text().splitlines() == [f"line {n}" for n in range(300)], 10, "its lines")
    finally:
        follow.kill()


# -- several replicas over one store


class Replicas:
    """Servers over one store, and the tails and lines of a test."""

    def __init__(self, serve, store, count, *options, env=None):
        self.servers = [serve(store, *options, env=env) for _ in range(count)]
        self.pushed = {}
        self.lock = threading.Lock()

    def push(self, at, stream, numbers):
        """Pushes to one replica; remembers when each line was acknowledged."""
        ns = time.time_ns()
        entries = [(ns + k, f"{stream} {n}") for k, n in enumerate(numbers)]
        status = self.servers[at].push({"app": "replicas", "stream": stream}, entries)
        if status == 204:
            with self.lock:
                self.pushed.update(dict.fromkeys((line for _, line in entries), time.time_ns()))
        return status

    def check(self, tail, patience=20):
        wait_until(lambda: set(self.pushed) <= set(tail.lines()), patience, "every replica's lines")
        again = [line for line, times in collections.Counter(tail.lines()).items() if times > 1]
        assert not again, f"lines came twice: {again[:5]}"
        late = [came - self.pushed[line] for came, _, line, _ in tail.entries if line in self.pushed]
        assert max(late) < SOON_NS, f"a line came {max(late) / NS:.2f} s after it was acknowledged"
        of_stream = collections.defaultdict(list)
        for _, _, line, labels in tail.entries:
            of_stream[labels["stream"]].append(int(line.split()[-1]))
        for stream, numbers in of_stream.items():
            assert numbers == sorted(numbers), f"stream {stream} came out of order"


@pytest.fixture(params=["folder", "s3"])
def replicas(request, serve, tmp_path):
    """Makes replicas over a folder and over S3."""

    def make(count, *options):
        if request.param == "folder":
            return Replicas(serve, str(tmp_path / "shared"), count, *options)
        s3 = request.getfixturevalue("s3")
        store = s3.store(f"tail-{request.node.name.split('[')[0]}")
        return Replicas(serve, store, count, *s3.options(), *options, env=s3.env())

    return make


def test_a_tail_shows_every_replicas_pushes(replicas):
    three = replicas(3, "--flush-interval", "20ms")
    # Order over replicas is kept once they know of each other, from the first pushes on.
    for at in range(3):
        assert three.push(at, "hello", [at]) == 204
    with Tail(three.servers[0], '{app="replicas"}') as one, Tail(three.servers[1], '{app="replicas"}') as two:
        wait_until(lambda: metric(three.servers[1], "rankline_tail_sessions") == 1, 5, "the tails")
        time.sleep(0.5)
        # Every stream at one replica, and one stream that goes round as a load balancer sends it.
        for turn in range(30):
            for at in range(3):
                assert three.push(at, f"own{at}", range(turn * 5, turn * 5 + 5)) == 204
                assert three.push(at, "round", [turn * 3 + at]) == 204
            time.sleep(0.05)
        three.check(one)
        three.check(two)


def test_a_replica_that_is_killed_leaves_its_acknowledged_lines_to_the_others_tails(replicas):
    two = replicas(2)
    with Tail(two.servers[0], '{app="replicas"}') as tail:
        time.sleep(0.5)
        stop = threading.Event()

        def write():
            turn = 0
            while not stop.is_set():
                try:
                    two.push(1, "doomed", range(turn * 3, turn * 3 + 3))
                except requests.RequestException:
                    return
                turn += 1

        writer = threading.Thread(target=write)
        writer.start()
        wait_until(lambda: len(two.pushed) > 60, 20, "some pushes")
        two.servers[1].kill()
        stop.set()
        writer.join(timeout=30)
        assert two.push(0, "after", [1]) == 204
        two.check(tail)


def test_compaction_is_no_news(serve, tmp_path):
    """Many small segments, merged while they are tailed: every line comes once, however it is stored by then."""
    two = Replicas(serve, str(tmp_path / "shared"), 2, "--flush-interval", "1ms")
    base = (time.time_ns() // NS - 26 * 3600) * NS
    old = [[(base + n * NS + k, f"old {n * 50 + k}") for k in range(50)] for n in range(60)]
    for entries in old[:30]:
        assert two.servers[1].push({"app": "replicas", "stream": "old"}, entries) == 204
    with Tail(two.servers[0], '{app="replicas"}', limit=10) as tail:
        time.sleep(0.5)
        for turn, entries in enumerate(old[30:]):
            assert two.servers[1].push({"app": "replicas", "stream": "old"}, entries) == 204
            assert two.push(1, "new", [turn]) == 204
        merged = lambda: list((tmp_path / "shared").glob("*/segments/L1/*/*.seg"))  # noqa: E731
        turn = 30
        deadline = time.monotonic() + 150
        while not merged() and time.monotonic() < deadline:
            assert two.push(turn % 2, "new", [turn]) == 204
            turn += 1
            time.sleep(0.2)
        assert merged(), "nothing was compacted"
        for _ in range(10):
            assert two.push(turn % 2, "new", [turn]) == 204
            turn += 1
            time.sleep(0.2)
        two.check(tail)
        came = collections.Counter(line for line in tail.lines() if line.startswith("old"))
        wanted = {line for entries in old[30:] for _, line in entries}
        assert set(came) == wanted and set(came.values()) == {1}


def test_tails_of_one_replica_begin_while_another_writes(replicas):
    """Whenever a tail begins, no line falls between its history and what comes after."""
    two = replicas(2, "--flush-interval", "20ms")
    stop = threading.Event()

    def write():
        turn = 0
        while not stop.is_set():
            assert two.push(1, "seam", [turn]) == 204
            turn += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(4):
            with Tail(two.servers[0], '{app="replicas"}', limit=5000) as tail:
                time.sleep(1)
                told = len(two.pushed)
                wait_until(lambda t=tail, n=told: len(t.entries) >= n, 5, "the lines")
                numbers = [int(line.split()[-1]) for line in tail.lines()]
                assert numbers == list(range(len(numbers))), "a line is missing, came twice or out of order"
    finally:
        stop.set()
        writer.join(timeout=30)


def test_a_restarted_server_takes_up_where_it_was(serve, tmp_path):
    """The client comes back at once and finds in its history what came between."""
    server = serve(str(tmp_path / "shared"))
    with Tail(server, '{app="again"}') as before:
        numbered(server, {"app": "again"}, range(3))
        wait_until(lambda: len(before.entries) == 3, 5, "the lines")
        assert server.stop() == 0
        wait_until(lambda: not before.thread.is_alive(), 5, "the end of the tail")
        # Without a close frame: Grafana ends a tail for good at a clean one and comes back otherwise.
        assert before.closed.rcvd is None
    second = server.again()
    try:
        assert isinstance(second, Server)
        with Tail(second, '{app="again"}') as after:
            numbered(second, {"app": "again"}, [3])
            wait_until(lambda: after.lines() == [f"line {n}" for n in range(4)], 5, "all lines")
    finally:
        second.kill()
