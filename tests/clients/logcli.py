"""What logcli prints when it asks a real Loki: the data, the commands, and how the answers were recorded.

    LOKI=loki LOGCLI=logcli python -m clients.logcli     (in tests/) records logcli.json anew

The data lies at a fixed time, so that outputs can be compared to the byte. Left out is only what differs between two
runs or two indexes: the address, the order of parallel requests and of series, sizes that Loki rounds.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

RECORDED = pathlib.Path(__file__).with_name("logcli.json")

NS = 1_000_000_000
# 2026-10-05T00:00:00Z
BASE = 1_791_158_400 * NS
TENANT = "logcli"
RANGE = ["--from=2026-10-05T00:00:00Z", "--to=2026-10-05T06:00:00Z"]


def streams():
    """(labels, entries): JSON, logfmt and plain lines every two minutes for four hours, no two at one time."""
    made = []
    for rank in range(3):
        entries = []
        for n in range(120):
            at = BASE + n * 120 * NS + rank * 1_000_001
            line = [
                json.dumps({"msg": "step done", "step": n, "loss": round(3 / (n + 1), 4), "took": "250ms", "read": "2MB"}),
                f'msg="step done" step={n} loss={3 / (n + 1):.4f} dur={n}ms level={"warn" if n % 7 == 0 else "info"}',
                f"rank {rank}: tab\there, a quote \" and a backslash \\ at step {n}",
            ][(n + rank) % 3]
            entries.append((at, line, {"trace_id": f"t{n}"} if n % 5 == 0 else {}))
        made.append(({"app": "trainer", "rank": str(rank), "job": "llama"}, entries))
    made.append(({"app": "loader", "job": "llama"}, [(BASE + n * 600 * NS + 7, f"shard {n} read", {}) for n in range(20)]))
    made.append(({"app": "odd", "path": 'C:\\new "run"'}, [(BASE + 30 * NS + n, f"odd {n}", {}) for n in range(3)]))
    return made


TRAINER = '{app="trainer"}'
COMMANDS = {
    "query": ["query", *RANGE, TRAINER],
    "query_forward": ["query", *RANGE, "--forward", "--limit=50", TRAINER],
    "query_raw": ["query", *RANGE, "--output=raw", "--limit=40", TRAINER],
    "query_jsonl": ["query", *RANGE, "--output=jsonl", "--limit=40", TRAINER],
    "query_jsonl_forward": ["query", *RANGE, "--output=jsonl", "--forward", "--limit=25", '{job="llama"} | json'],
    "query_every_line_in_batches": ["query", *RANGE, "--output=raw", "--limit=0", "--batch=64", '{job="llama"}'],
    "query_batches_forward": ["query", *RANGE, "--forward", "--limit=200", "--batch=30", '{job="llama"} |= "step"'],
    "query_common_labels": ["query", *RANGE, "--include-common-labels", "--limit=5", TRAINER],
    "query_exclude_labels": ["query", *RANGE, "--exclude-label=rank", "--exclude-label=job", "--limit=5", '{job="llama"}'],
    "query_include_labels": ["query", *RANGE, "--include-label=rank", "--limit=5", TRAINER],
    "query_no_labels": ["query", *RANGE, "--no-labels", "--limit=5", TRAINER],
    "query_labels_length": ["query", *RANGE, "--labels-length=80", "--limit=5", '{job="llama"}'],
    "query_nanoseconds": ["query", *RANGE, "--output-timestamp-format=rfc3339nano", "--limit=5", TRAINER],
    "query_interval": ["query", *RANGE, "--interval=30m", '{app="trainer", rank="1"}'],
    "query_quiet": ["--quiet", "query", *RANGE, "--limit=5", TRAINER],
    "query_parsed": ["query", *RANGE, "--limit=20", f'{TRAINER} | json | loss < 0.02 | line_format "{{{{.step}}}} {{{{.loss}}}}"'],
    "query_metadata": ["query", *RANGE, "--limit=20", f'{TRAINER} | trace_id = "t35"'],
    "query_odd_label": ["query", *RANGE, '{path="C:\\\\new \\"run\\""}'],
    "query_nothing": ["query", *RANGE, '{app="none"}'],
    "query_matrix": ["query", *RANGE, "--step=1h", 'sum by (app) (count_over_time({job="llama"}[1h]))'],
    "query_matrix_unwrapped": ["query", *RANGE, "--step=30m", f'avg_over_time({TRAINER} | json | unwrap loss | __error__="" [30m]) by (rank)'],
    "query_matrix_without_step": ["query", *RANGE, 'sum(rate({job="llama"}[10m]))'],
    "query_parallel": ["query", *RANGE, "--output=raw", "--parallel-duration=1h", "--parallel-max-workers=3", "--part-path-prefix={folder}/part", "--merge-parts", TRAINER],
    "query_parallel_forward": ["query", *RANGE, "--output=jsonl", "--forward", "--parallel-duration=45m", "--parallel-max-workers=2", "--part-path-prefix={folder}/part", "--merge-parts", '{job="llama"}'],
    "query_compressed": ["--compress", "query", *RANGE, "--limit=100", TRAINER],
    "query_mistake": ["query", *RANGE, '{app="trainer"'],
    "query_mistake_in_a_stage": ["query", *RANGE, f"{TRAINER} | json | loss >"],
    "query_no_matcher": ["query", *RANGE, "{}"],
    "instant": ["instant-query", "--now=2026-10-05T04:00:00Z", 'sum by (rank) (count_over_time({app="trainer"}[4h]))'],
    "instant_scalar": ["instant-query", "--now=2026-10-05T04:00:00Z", "1 + 1"],
    "instant_vector": ["instant-query", "--now=2026-10-05T04:00:00Z", "topk(2, sum by (app) (bytes_over_time({job=\"llama\"}[4h])))"],
    "instant_nothing": ["instant-query", "--now=2026-10-05T04:00:00Z", 'count_over_time({app="none"}[1h])'],
    "instant_logs": ["instant-query", "--now=2026-10-05T04:00:00Z", TRAINER],
    "labels": ["labels", *RANGE],
    "labels_values": ["labels", *RANGE, "rank"],
    "labels_unknown": ["labels", *RANGE, "unknown"],
    "series": ["series", *RANGE, '{job="llama"}'],
    "series_analyze_labels": ["series", *RANGE, "--analyze-labels", '{job="llama"}'],
    "series_odd": ["series", *RANGE, '{app=~"odd|none"}'],
    "series_nothing": ["series", *RANGE, '{app="none"}'],
    "series_mistake": ["series", *RANGE, '{app='],
    "stats": ["stats", *RANGE, '{job="llama"}'],
    "stats_nothing": ["stats", *RANGE, '{app="none"}'],
    "volume": ["volume", *RANGE, '{job="llama"}'],
    "volume_target_labels": ["volume", *RANGE, "--targetLabels=app", '{job="llama"}'],
    "volume_by_labels": ["volume", *RANGE, "--aggregateByLabels", '{job="llama"}'],
    "volume_limit": ["volume", *RANGE, "--limit=1", "--targetLabels=app", '{job="llama"}'],
    "volume_range": ["volume_range", *RANGE, "--step=6h", '{job="llama"}'],
    "volume_range_by_labels": ["volume_range", *RANGE, "--step=6h", "--aggregateByLabels", '{job="llama"}'],
    "detected_fields": ["detected-fields", *RANGE, f"{TRAINER} | json | logfmt"],
    "detected_fields_plain": ["detected-fields", *RANGE, TRAINER],
    "detected_fields_values": ["detected-fields", *RANGE, "--limit=5", f"{TRAINER} | logfmt", "level"],
    "fmt": ["fmt"],
}
STDIN = {"fmt": 'sum by(app)(rate({app="trainer"}|json|loss>2 [5m]))'}


def ask(binary, url, name, folder):
    """Runs a command; answers {"code", "out", "err"}, with what changes from run to run taken out."""
    arguments = [argument.replace("{folder}", str(folder)) for argument in COMMANDS[name]]
    env = {key: value for key, value in os.environ.items() if not key.startswith("LOKI")}
    done = subprocess.run(
        [binary, f"--addr={url}", f"--org-id={TENANT}", "--timezone=UTC", *arguments],
        input=STDIN.get(name, ""), capture_output=True, text=True, timeout=60, check=False, env=env,
    )  # fmt: skip
    return {"code": done.returncode, "out": plain(done.stdout, url, folder), "err": plain(done.stderr, url, folder)}


def plain(text, url, folder):
    text = text.replace(url, "http://loki").replace(str(folder), "FOLDER")
    return re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", text, flags=re.MULTILINE)


def comparable(name, answer):
    """An answer without what differs between two runs or two indexes."""
    answer = dict(answer)
    # Behind Loki's words for a mistake in a query, rankline says what to do about it.
    answer["err"] = re.sub(r"\nhint: .*?(?= \(<nil>\)|\n|$)", "", answer["err"])
    if "parallel" in name:
        # Requests and common labels in whatever order the workers were, and cut wherever they were by then.
        answer["err"] = sorted(line for line in answer["err"].splitlines() if "query_range" in line)
    if name.startswith("series"):
        answer["out"] = sorted(re.sub(r" +", " ", line) for line in answer["out"].splitlines())
    if name.startswith("volume"):
        series = json.loads(answer["out"])
        samples = [series_samples(one) for one in series]
        answer["out"] = sorted((sorted(one["metric"].items()), [at for at, _ in s]) for one, s in zip(series, samples, strict=True))
        assert all(int(size) >= 0 for s in samples for _, size in s)
    if name == "stats":
        # Loki counts the bytes of a chunk in its index in KiB, cut off.
        answer["out"] = re.sub(r"bytes: \d+kB", "bytes: some", answer["out"])
    if name == "instant_scalar":
        # Loki gives a scalar some time in the year 60233.
        answer["out"] = re.sub(r"\d{9,}", "TIME", answer["out"])
    return answer


def series_samples(series):
    return series["values"] if "values" in series else [series["value"]]


def main():
    from differential.data import Stream
    from differential.servers import Loki
    from support import free_port

    with tempfile.TemporaryDirectory() as folder:
        loki = Loki(os.environ["LOKI"], pathlib.Path(folder), (free_port(), free_port()))
        try:
            loki.push(TENANT, [Stream(labels, entries) for labels, entries in streams()])
            recorded = {}
            for name in COMMANDS:
                with tempfile.TemporaryDirectory() as parts:
                    recorded[name] = ask(os.environ["LOGCLI"], loki.url, name, parts)
        finally:
            loki.stop()
    RECORDED.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
