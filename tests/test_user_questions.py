"""The questions that people ask of a training run's logs, on real runs that came through rank_filter.wasm."""

import json
import time
import urllib.parse

import samples
from support import NS, wait_until
from websockets.sync.client import connect

APP = '{app="dist-training"}'


def test_every_record_of_the_filter_is_found_again(fed):
    found = fed.server.total(f"sum(count_over_time({APP}[1h]))", fed.end)
    assert found == len(fed.records)


def test_a_word_over_all_ranks(fed):
    lines = fed.server.lines(f'{APP} |= "Loss"', fed.start, fed.end)
    expected = [r["log"] for r in fed.records if "Loss" in r["log"]]
    assert len(expected) > 1000, "the sample logs have lost their Loss lines"
    assert sorted(lines) == sorted(expected)


def test_one_pod_by_its_name(fed):
    pod = "elastic-restart-2n-4r-worker-0"
    found = fed.server.streams(f'{{pod="{pod}"}}', fed.start, fed.end)
    assert {labels["pod"] for labels, _ in found} == {pod}
    expected = [r["log"] for r in fed.records if r["kubernetes"]["pod_name"] == pod]
    assert sorted(line for _, values in found for _, line in values) == sorted(expected)


def test_rank_0_alone(fed):
    found = fed.server.streams('{job="srun-label-8r", rank="0"}', fed.start, fed.end)
    assert {labels["rank"] for labels, _ in found} == {"0"}
    lines = [line for _, values in found for _, line in values]
    assert lines and all(part.startswith("0: ") for line in lines for part in line.split("\n"))


def test_all_ranks_in_one_timeline(fed):
    entries = fed.server.entries('{job="srun-label-8r"} |~ "(?i)loss"', fed.start, fed.end)
    assert {labels["rank"] for _, _, labels in entries} == {str(rank) for rank in range(8)}
    ranks = [labels["rank"] for _, _, labels in entries]
    changes = sum(a != b for a, b in zip(ranks, ranks[1:]))
    assert changes > len(set(ranks)), "the ranks' lines are not in order of time"
    backward = fed.server.entries('{job="srun-label-8r"} |~ "(?i)loss"', fed.start, fed.end, direction="backward")
    assert sorted(e[:2] for e in backward) == sorted(e[:2] for e in entries)


def test_the_newest_lines_of_all_ranks(fed):
    query = '{job="srun-label-8r"} |= "Loss"'
    everything = fed.server.entries(query, fed.start, fed.end)
    newest = fed.server.entries(query, fed.start, fed.end, limit=5, direction="backward")
    assert [e[0] for e in newest] == [e[0] for e in reversed(everything[-5:])]


def test_the_lines_right_before_and_after_an_error(fed):
    server, selector = fed.server, '{job="one-rank-uncaught-4r"}'
    errors = server.entries(f'{selector} | exception = "IndexError"', fed.start, fed.end)
    assert len(errors) == 1, "one rank failed once"
    at = errors[0][0]
    everything = [(ns, line) for ns, line, _ in server.entries(selector, fed.start, fed.end)]
    # As Grafana asks for context: backward from the line's time (exclusive), forward from it (inclusive).
    before = server.entries(selector, at - 3600 * NS, at, limit=10, direction="backward")
    after = server.entries(selector, at, at + 3600 * NS, limit=11)
    assert [ns for ns, _, _ in before] == [ns for ns, _ in everything if ns < at][-10:][::-1]
    assert [ns for ns, _, _ in after] == [ns for ns, _ in everything if ns >= at][:11]
    assert errors[0][1] in [line for _, line, _ in after]


def test_a_traceback_is_one_entry_with_its_rank(fed):
    for scenario in ("one-rank-uncaught-4r", "all-ranks-same-instant-8r"):
        for failure in samples.truth(scenario)["failures"]:
            query = f'{{job="{scenario}", rank="{failure["rank"]}"}} | exception = "{failure["exception"]}"'
            entries = fed.server.entries(query, fed.start, fed.end)
            assert len(entries) == 1, f"{query}: {len(entries)} entries"
            text = entries[0][1]
            assert "Traceback (most recent call last):" in text.split("\n")[0]
            assert failure["first_line_substring"] in text.split("\n")[-1]


def test_interleaved_tracebacks_come_out_whole(fed):
    """Measured while the run ran: which lines of the file each rank's traceback stands on, though others stand between."""
    scenario = "tee-custom-template-4r"
    file = samples.truth(scenario)["files"][0]
    raw = [line[4] for line in samples.lines(scenario)]
    torn = [b for b in file["blocks"] if len(b["lines"]) > 1 and not b["shares_a_line_with_others"]]
    assert torn, "the sample has no traceback in pieces any more"
    for block in torn:
        expected = [raw[n - 1] for first, last in block["lines"] for n in range(first, last + 1)]
        query = f'{{job="{scenario}", rank="{block["rank"]}"}} |= "Traceback (most recent call last)"'
        found = fed.server.lines(query, fed.start, fed.end)
        assert "\n".join(expected) in found, f"rank {block['rank']}: {found}"


def test_label_browser(fed):
    window = {"start": fed.start, "end": fed.end}
    names = fed.server.get("/loki/api/v1/labels", **window)["data"]
    assert {"app", "job", "namespace", "pod", "container", "node", "rank", "stream"} <= set(names)
    values = fed.server.get("/loki/api/v1/label/job/values", **window)["data"]
    assert sorted(values) == sorted(samples.scenarios())
    ranks = fed.server.get("/loki/api/v1/label/rank/values", query='{job="srun-label-8r"}', **window)["data"]
    assert sorted(ranks) == [str(rank) for rank in range(8)]
    series = fed.server.get("/loki/api/v1/series", **{"match[]": '{job="one-rank-uncaught-4r", rank="2"}'}, **window)
    assert series["data"] and all(s["rank"] == "2" for s in series["data"])


def test_counts_per_rank(fed):
    query = 'sum by (rank) (count_over_time({job="srun-label-8r"} |= "Loss" [1h]))'
    found = {dict(labels).get("rank"): n for labels, n in fed.server.vector(query, fed.end).items()}
    expected = {}
    for record in fed.records:
        if record.get("job") == "srun-label-8r" and "Loss" in record["log"]:
            expected[record.get("rank")] = expected.get(record.get("rank"), 0) + 1
    assert found == expected


def test_command_line_query(fed):
    from support import jsonl, run

    query = '{job="srun-label-8r", rank="4"} | exception != ""'
    done = run("query", "--url", fed.server.url, query, "--since", "1h", "--output", "jsonl")
    rows = jsonl(done.stdout)
    assert len(rows) == 1 and "KeyError" in rows[0]["line"]
    raw = run("query", "--url", fed.server.url, query, "--since", "1h", "--output", "raw")
    assert raw.stdout.rstrip("\n") == rows[0]["line"]
    assert run("query", "--url", fed.server.url, "{job=", check=False).returncode != 0


def test_a_live_tail_shows_a_line_within_a_second(serve):
    server = serve("memory://")
    query = urllib.parse.quote('{job="live"} |= "step"')
    url = f"{server.url.replace('http', 'ws')}/loki/api/v1/tail?query={query}"
    with connect(url) as socket:
        for step in range(5):
            line = f"step {step}"
            begun = time.monotonic()
            assert server.push({"job": "live"}, [(time.time_ns(), line), (time.time_ns(), "other")]) == 204
            seen = []
            while line not in seen:
                left = 1.0 - (time.monotonic() - begun)
                assert left > 0, f"{line!r} was not seen within a second; seen: {seen}"
                message = json.loads(socket.recv(timeout=left))
                seen += [value[1] for stream in message["streams"] for value in stream["values"]]
            assert "other" not in seen


def test_command_line_tail_and_follow(serve, tmp_path):
    """A pipe into `rankline push` shows up in a running `rankline query --tail`."""
    import subprocess

    from support import BINARY

    server = serve("memory://")
    tail = subprocess.Popen(
        [BINARY, "query", "--url", server.url, '{job="piped"}', "--tail", "--output", "raw"],
        stdout=(tmp_path / "tail.txt").open("w"),
        stderr=subprocess.STDOUT,
    )
    try:
        time.sleep(1)
        push = subprocess.Popen(
            [BINARY, "push", "--url", server.url, "-", "--label", "job=piped"], stdin=subprocess.PIPE, text=True
        )
        for step in range(3):
            push.stdin.write(f"step {step} loss 2.{step}\n")
            push.stdin.flush()
            wait_until(lambda: f"step {step} loss" in (tmp_path / "tail.txt").read_text(), 5, f"seeing step {step}")
        push.stdin.close()
        assert push.wait(timeout=20) == 0
    finally:
        tail.kill()
        tail.wait()
