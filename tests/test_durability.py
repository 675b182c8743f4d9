"""What was acknowledged is there: after kill -9, after a restart, from the bucket alone; and shutdown loses nothing."""

import concurrent.futures
import threading
import time

import pytest
import requests
from support import NS, Server, wait_until

WRITERS = 6


class Writers:
    """Threads that push batches without a pause and remember which ones were acknowledged."""

    def __init__(self, server, batch=20):
        self.server, self.batch = server, batch
        self.base = time.time_ns() - 600 * NS
        self.acknowledged, self.refused = set(), []
        self.lock, self.enough = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.write, args=(rank,)) for rank in range(WRITERS)]
        for thread in self.threads:
            thread.start()

    def write(self, rank):
        session, number = requests.Session(), 0
        while not self.enough.is_set():
            lines = [f"rank {rank} step {number + k} loss 1.5" for k in range(self.batch)]
            values = [[str(self.base + (number + k) * 1000), line] for k, line in enumerate(lines)]
            body = {"streams": [{"stream": {"job": "crash", "rank": str(rank)}, "values": values}]}
            number += self.batch
            try:
                answer = session.post(f"{self.server.url}/loki/api/v1/push", json=body, timeout=30)
            except requests.RequestException:
                return
            with self.lock:
                if answer.status_code == 204:
                    self.acknowledged.update(lines)
                else:
                    self.refused.append(answer.status_code)

    def wait_for(self, batches):
        wait_until(lambda: len(self.acknowledged) >= batches * self.batch, 60, f"{batches} acknowledged batches")

    def join(self):
        self.enough.set()
        for thread in self.threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "a push was never answered"


def everything(server, base, selector='{job="crash"}'):
    """All lines of a selector, page by page, so that no limit hides one."""
    found, start, end = [], base - NS, base + 3600 * NS
    for rank in range(WRITERS):
        at = start
        while True:
            page = server.entries(selector.replace("}", f', rank="{rank}"}}'), at, end, limit=5000)
            found += [line for _, line, _ in page]
            if len(page) < 5000:
                break
            at = page[-1][0] + 1
    return found


def check_all_there(server, writers):
    found = everything(server, writers.base)
    missing = writers.acknowledged - set(found)
    assert not missing, f"{len(missing)} of {len(writers.acknowledged)} acknowledged lines are gone, such as {sorted(missing)[:3]}"
    assert len(found) == len(set(found)), "lines came out twice"


def crash_and_check(server):
    writers = Writers(server)
    writers.wait_for(30)
    server.kill()
    writers.join()
    second = server.again()
    try:
        check_all_there(second, writers)
        # It goes on: pushes after the crash are taken and found too.
        assert second.push({"job": "after"}, [(time.time_ns(), "alive")]) == 204
        assert second.lines('{job="after"}', time.time_ns() - 60 * NS, time.time_ns() + NS) == ["alive"]
    finally:
        second.kill()


def test_kill_9_on_a_folder(serve):
    crash_and_check(serve())


def test_kill_9_on_s3(serve, s3):
    crash_and_check(serve(s3.store("kill"), *s3.options(), env=s3.env()))


def test_kill_9_again_and_again(serve):
    """Each life of the server adds lines; each crash leaves all of them."""
    server, seen = serve(), []
    for life in range(3):
        writers = Writers(server)
        writers.wait_for(10)
        server.kill()
        writers.join()
        seen.append(writers)
        server = server.again()
        try:
            for earlier in seen:
                found = set(everything(server, earlier.base))
                assert earlier.acknowledged <= found, f"life {life}: lines of an earlier life are gone"
        except BaseException:
            server.kill()
            raise
    server.kill()


def test_restart_from_the_bucket_alone(serve, s3, tmp_path):
    """A server on another machine would have nothing but the bucket."""
    first = serve(s3.store("restart"), *s3.options(), env=s3.env())
    now = time.time_ns()
    lines = [f"line {n}" for n in range(500)]
    assert first.push({"job": "bucket"}, [(now + n, line) for n, line in enumerate(lines)]) == 204
    assert first.stop() == 0
    second = Server(s3.store("restart"), tmp_path / "elsewhere", s3.options(), s3.env())
    try:
        assert second.lines('{job="bucket"}', now - NS, now + NS) == lines
    finally:
        second.kill()


def counted(server, name, **labels):
    """The sum of a counter's series that have these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    rows = server.session.get(f"{server.url}/metrics", timeout=10).text.splitlines()
    rows = [row for row in rows if row.startswith((f"{name}{{", f"{name} "))]
    return sum(float(row.rsplit(" ", 1)[1]) for row in rows if all(w in row for w in wanted))


def test_a_disk_cache_outlives_kill_9(serve, s3, tmp_path):
    """What one process has read from the bucket, the next one finds on its disk, and answers the same."""
    bucket = [s3.store("cache"), *s3.options(), "--compaction", "false"]
    cache = ["--storage-disk-cache-folder", str(tmp_path / "cache"), "--storage-disk-cache-bytes", "128MiB"]
    writer = serve(*bucket, env=s3.env())
    now = time.time_ns()
    lines = [f"step {n} loss 0.{n % 97}" for n in range(3000)]
    for at in range(0, len(lines), 300):
        entries = [(now + n, lines[n]) for n in range(at, at + 300)]
        assert writer.push({"job": "cached"}, entries) == 204
    reader = serve(*bucket, *cache, env=s3.env())
    assert reader.lines('{job="cached"}', now - NS, now + NS) == lines
    assert counted(reader, "rankline_storage_requests_total", operation="get") > 0
    time.sleep(1)  # the cache writes behind the answer
    reader.kill()
    again = serve(*bucket, *cache, env=s3.env())
    assert again.lines('{job="cached"}', now - NS, now + NS) == lines
    assert counted(again, "rankline_storage_cache_reads_total", outcome="disk") > 0
    assert counted(again, "rankline_storage_requests_total", operation="get") == 0


def test_two_replicas_over_one_bucket(serve, s3):
    one = serve(s3.store("replicas"), *s3.options(), env=s3.env())
    two = serve(s3.store("replicas"), *s3.options(), env=s3.env())
    now = time.time_ns()
    assert one.push({"job": "shared"}, [(now, "from one")]) == 204
    assert two.push({"job": "shared"}, [(now + 1, "from two")]) == 204
    for server in (one, two):
        wait_until(
            lambda: server.lines('{job="shared"}', now - NS, now + NS) == ["from one", "from two"],
            3,
            "seeing the other replica's line",
        )


def test_shutdown_answers_what_is_in_flight(serve):
    server = serve()
    writers = Writers(server)
    writers.wait_for(20)
    assert server.stop() == 0, server.said()
    writers.join()
    assert set(writers.refused) <= {503, 429}, f"pushes were refused with {set(writers.refused)}"
    second = server.again()
    try:
        check_all_there(second, writers)
    finally:
        second.kill()


def test_a_push_under_way_is_answered_at_shutdown(serve):
    """Long flush intervals keep pushes waiting; SIGTERM flushes at once and answers them."""
    server = serve(None, "--flush-interval", "20s")
    now = time.time_ns()
    assert server.push({"job": "slow"}, [(now, "first")]) == 204
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(server_push, server, now + n) for n in range(1, 5)]
        time.sleep(1)
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 15, "shutdown waited for the flush interval"
        assert [w.result() for w in waiting] == [204] * 4
    second = server.again()
    try:
        assert len(second.lines('{job="slow"}', now - NS, now + NS)) == 5
    finally:
        second.kill()


def server_push(server, ns):
    body = {"streams": [{"stream": {"job": "slow"}, "values": [[str(ns), f"line {ns}"]]}]}
    return requests.post(f"{server.url}/loki/api/v1/push", json=body, timeout=40).status_code


def segments(server, level):
    import pathlib

    return list(pathlib.Path(server.store).glob(f"*/segments/{level}/*/*.seg"))


def test_compaction_keeps_answers_equal(serve):
    """Small segments become one, and every question keeps its answer, also after a restart and after kill -9."""
    server = serve(None, "--flush-interval", "1ms")
    # Yesterday, so that no segment is too young to be merged.
    base = (time.time_ns() // NS - 26 * 3600) * NS
    for batch in range(60):
        for rank in range(4):
            entries = [(base + (batch * 50 + n) * NS // 10, f"rank {rank} step {batch * 50 + n}") for n in range(50)]
            assert server.push({"job": "compact", "rank": str(rank)}, entries) == 204
    start, end = base - NS, base + 3600 * NS

    def answers(asked):
        return (
            sorted(asked.entries('{job="compact"} |= "7"', start, end), key=str),
            asked.vector('sum by (rank) (count_over_time({job="compact"}[1h]))', end),
            asked.entries('{job="compact"}', start, end, limit=7, direction="backward"),
        )

    # Some may have been merged by now.
    before, small = answers(server), counted(server, "rankline_ingest_segments_total")
    assert small > 50, f"{small} segments are too few to say anything"
    wait_until(lambda: segments(server, "L1") or segments(server, "L2"), 150, "compaction")
    # Now both are there, the replaced ones for a grace period: a reader must count each entry once.
    assert segments(server, "L0"), "the replaced segments went before their grace period was over"
    assert answers(server) == before
    assert server.stop() == 0
    second = server.again()
    try:
        assert answers(second) == before
        second.kill()
        third = second.again()
        try:
            assert answers(third) == before
        finally:
            third.kill()
    finally:
        second.kill()


@pytest.mark.parametrize("store", ["folder", "memory", "s3"])
def test_duplicates_of_a_retry_are_one_entry(serve, request, store):
    if store == "s3":
        s3 = request.getfixturevalue("s3")
        server = serve(s3.store("retry"), *s3.options(), env=s3.env())
    else:
        server = serve("memory://" if store == "memory" else None)
    now = time.time_ns()
    entries = [(now + n, f"line {n}", {"step": str(n)}) for n in range(10)]
    for _ in range(3):
        assert server.push({"job": "retry"}, entries) == 204
    assert server.lines('{job="retry"}', now - NS, now + NS) == [e[1] for e in entries]
    assert server.total('sum(count_over_time({job="retry"}[1h]))') == 10
