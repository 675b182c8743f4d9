#!/usr/bin/env python3
"""`make bench`: how fast this machine pushes and asks, over a corpus that it makes itself.

  scripts/bench.py [--lines 1000000] [--ranks 256] [--store DIR] [--rounds 5] [--json FILE]

The corpus is the sample logs of tests/data multiplied: each rank of a made-up job prints a real run's lines with numbers of its own, so
that lines repeat as training logs do. Standard library only. The same seed gives the same corpus.
"""

import argparse
import concurrent.futures
import gzip
import http.client
import json
import os
import pathlib
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

import demo
import samples

ROOT = pathlib.Path(__file__).resolve().parent.parent
NS = 1_000_000_000
HOUR = 3600 * NS
BATCH_LINES = 5_000

QUESTIONS = [
    ("all lines of a rank, newest 1000", '{job="bench", rank="7"}', {"limit": 1000}),
    ("a word over all ranks, newest 100", '{job="bench"} |= "Loss"', {"limit": 100}),
    ("a needle", '{job="bench"} |= "the one line that is different"', {"limit": 100}),
    ("a regular expression that finds nothing", '{job="bench"} |~ "step [0-9]+ diverged at .* nan"', {"limit": 100}),
    ("entries of each rank over time", 'sum by (rank) (count_over_time({job="bench"}[1m]))', {"step": 60}),
    ("a word over time", 'sum (count_over_time({job="bench"} |= "Loss" [1m]))', {"step": 60}),
    ("bytes over time", 'sum by (stream) (bytes_over_time({job="bench"}[5m]))', {"step": 300}),
]


def templates():
    """Lines of the healthy sample run, as they stand in its files."""
    return [(stream, text) for _, _, stream, _, text, _ in samples.lines("healthy-mixed-2n-8r") if len(text) < 2000]


def batches(lines, ranks, start):
    """Push requests, gzipped JSON, in order of time: as many as it takes for `lines` lines within one hour."""
    dice, source = random.Random(7), templates()
    step, number = HOUR // lines, 0
    while number < lines:
        streams = {}
        for _ in range(min(BATCH_LINES, lines - number)):
            stream, text = source[(number // ranks) % len(source)]
            if number == lines // 3:
                text = "the one line that is different"
            rank = number % ranks
            key = (rank, stream)
            value = [str(start + number * step), f"{text} {dice.random():.4f}"]
            streams.setdefault(key, []).append(value)
            number += 1
        body = {
            "streams": [
                {"stream": {"job": "bench", "rank": str(rank), "node": str(rank // 8), "stream": stream}, "values": values}
                for (rank, stream), values in streams.items()
            ]
        }
        text = json.dumps(body, ensure_ascii=False).encode()
        size = sum(len(v[1].encode()) for values in streams.values() for v in values)
        yield gzip.compress(text, 1), size


def push(port, bodies, threads):
    """Sends all bodies over a few connections; answers the seconds it took."""

    def send(part):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        for body in part:
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            connection.request("POST", "/loki/api/v1/push", body, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 204:
                raise demo.Failed(f"a push was answered {answer.status}: {said[:300]!r}")

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(send, [bodies[n::threads] for n in range(threads)]))
    return time.monotonic() - begun


def ask(port, query, start, end, more):
    """One question; answers (seconds, series or streams)."""
    params = {"query": query, "start": start, "end": end, **more}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    begun = time.monotonic()
    connection.request("GET", "/loki/api/v1/query_range?" + urllib.parse.urlencode(params))
    answer = connection.getresponse()
    body = answer.read()
    took = time.monotonic() - begun
    if answer.status != 200:
        raise demo.Failed(f"{query} was answered {answer.status}: {body[:300]!r}")
    return took, len(json.loads(body)["data"]["result"])


def memory_peak(pid):
    """Most resident memory of a process so far, in MiB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def folder_bytes(folder):
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def measure(args, folder):
    say = demo.say
    say(f"making {args.lines:,} lines of {args.ranks} ranks")
    start = (time.time_ns() - 2 * HOUR) // HOUR * HOUR
    made = list(batches(args.lines, args.ranks, start))
    bodies, raw = [body for body, _ in made], sum(size for _, size in made)
    port = demo.free_port()
    log = folder / "server.log"
    server = subprocess.Popen(
        [demo.BINARY, "serve", "--listen", f"127.0.0.1:{port}", "--store", folder / "store"],
        stdout=log.open("wb"), stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        demo.wait_ready(server, port, log)
        say(f"pushing {len(bodies)} requests, {raw / 1e6:.0f} MB of lines, over {args.threads} connections")
        took = push(port, bodies, args.threads)
        report = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
            "lines": args.lines, "ranks": args.ranks, "line_mb": round(raw / 1e6, 1),
            "push_seconds": round(took, 2), "push_lines_per_second": round(args.lines / took),
            "push_mb_per_second": round(raw / 1e6 / took, 1),
            "questions": [],
        }  # fmt: skip
        demo.note(f"{took:.1f} s: {args.lines / took:,.0f} lines/s, {raw / 1e6 / took:.1f} MB/s")
        say(f"asking, {args.rounds} rounds")
        for title, query, more in QUESTIONS:
            rounds = [ask(port, query, start, start + HOUR, more) for _ in range(args.rounds)]
            times = [seconds for seconds, _ in rounds]
            if not rounds[0][1] and "finds nothing" not in title:
                raise demo.Failed(f"no answer to: {query}")
            row = {"title": title, "query": query, "first_ms": round(times[0] * 1000, 1), "median_ms": round(statistics.median(times) * 1000, 1)}
            report["questions"].append(row)
            demo.note(f"{row['median_ms']:>9.1f} ms  (first {row['first_ms']:.1f})  {title}")
        report["memory_peak_mib"] = round(memory_peak(server.pid))
        report["stored_mb"] = round(folder_bytes(folder / "store") / 1e6, 1)
        demo.note(f"memory at most {report['memory_peak_mib']} MiB; stored {report['stored_mb']} MB, {raw / 1e6 / report['stored_mb']:.1f} times smaller")
        return report
    finally:
        demo.stop_server(server)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--lines", type=int, default=1_000_000)
    options.add_argument("--ranks", type=int, default=256)
    options.add_argument("--threads", type=int, default=4)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--store", type=pathlib.Path, help="folder to use and keep, instead of a temporary one")
    options.add_argument("--json", type=pathlib.Path, help="write the numbers to this file too")
    args = options.parse_args()
    folder = args.store or pathlib.Path(tempfile.mkdtemp(prefix="rankline-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        report = measure(args, folder)
        if args.json:
            args.json.write_text(json.dumps(report, indent=1) + "\n")
    except demo.Failed as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1
    finally:
        if not args.store:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
