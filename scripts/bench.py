#!/usr/bin/env python3
"""`make bench`: how fast this machine pushes and asks, over corpora that it makes itself.

  scripts/bench.py [--corpus training,services,plain] [--lines 1000000] [--store DIR] [--rounds 5] [--json FILE]

`training` are the sample logs of tests/data multiplied, `services` JSON lines of services, `plain` nginx's and syslog's lines; see
corpora.py. Pushed, compacted, asked, one server for each. Standard library only.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import corpora
import demo

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOUR = corpora.HOUR
TICK = os.sysconf("SC_CLK_TCK")
# So long without a merge or a deletion, compaction is done: longer than the lease that a process which is gone may have left.
QUIET_SECONDS = 70

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


def cpu(pid):
    """CPU seconds of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def metrics(port):
    """The server's counters: sums by name and, where they have an `operation`, by (name, operation)."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    sums = {}
    for name, labels, value in re.findall(r"^(rankline_\w+)(\{[^}]*\})? (\S+)$", text, re.M):
        operation = re.search(r'operation="(\w+)"', labels)
        for key in {name, (name, operation and operation[1])}:
            sums[key] = sums.get(key, 0) + float(value)
    return sums


def settle(port, seconds=600):
    """Waits until compaction has nothing to do; there must be something to begin with."""
    last, since, deadline = None, time.monotonic(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = metrics(port)
        state = (now.get("rankline_compaction_merges_total", 0), now.get("rankline_compaction_deleted_segments_total", 0))
        if state != last:
            last, since = state, time.monotonic()
        elif state[0] and time.monotonic() - since > QUIET_SECONDS:
            return
        time.sleep(1)
    raise demo.Failed(f"compaction was not done within {seconds} s")


def packed_mb(lines):
    """How small all lines together become in one file: what everybody knows, for comparison. Of tools that are not there, nothing."""
    sizes = {}
    for tool in (["gzip", "-6"], ["zstd", "-9", "-q"]):
        if shutil.which(tool[0]):
            with lines.open("rb") as text, subprocess.Popen([*tool, "-c"], stdin=text, stdout=subprocess.PIPE) as packing:
                sizes[" ".join(tool[:2])] = round(sum(map(len, iter(lambda: packing.stdout.read(1 << 20), b""))) / 1e6, 1)
    return sizes


def folder_bytes(folder):
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def measure(args, name, folder):
    say = demo.say
    say(f"making {args.lines:,} lines of {name}")
    folder.mkdir(parents=True, exist_ok=True)
    start = (time.time_ns() - 2 * HOUR) // HOUR * HOUR
    lines = folder / "lines"
    with lines.open("wb") as text:
        made = list(corpora.batches(name, args.lines, start, text.write))
    bodies, raw = [body for body, _ in made], sum(size for _, size in made)
    packed = packed_mb(lines)
    lines.unlink()
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
            "corpus": name, "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
            "lines": args.lines, "line_mb": round(raw / 1e6, 1), "packed_mb": packed,
            "push_seconds": round(took, 2), "push_lines_per_second": round(args.lines / took),
            "push_mb_per_second": round(raw / 1e6 / took, 1), "push_cpu_seconds": round(cpu(server.pid), 2),
            "flushed_mb": round(folder_bytes(folder / "store") / 1e6, 1), "questions": [],
        }  # fmt: skip
        demo.note(f"{took:.1f} s: {args.lines / took:,.0f} lines/s, {raw / 1e6 / took:.1f} MB/s, {report['push_cpu_seconds']} CPU s")
        say("waiting until all is compacted")
        settle(port)
        report["cpu_seconds"] = round(cpu(server.pid), 2)
        report["stored_mb"] = round(folder_bytes(folder / "store") / 1e6, 1)
        demo.note(f"{report['stored_mb']} MB, {raw / 1e6 / report['stored_mb']:.1f} times smaller ({packed} MB); {report['cpu_seconds']} CPU s by now")
        say(f"asking, {args.rounds} rounds")
        for title, query, more in corpora.CORPORA[name][1]:
            first = ask(port, query, start, start + HOUR, more)
            before = cpu(server.pid)
            rounds = [first, *(ask(port, query, start, start + HOUR, more) for _ in range(args.rounds))]
            used = (cpu(server.pid) - before) / args.rounds
            times = [seconds for seconds, _ in rounds]
            if not rounds[0][1] and "nothing" not in title:
                raise demo.Failed(f"no answer to: {query}")
            row = {
                "title": title, "query": query, "answer": first[1], "first_ms": round(times[0] * 1000, 1),
                "median_ms": round(statistics.median(times[1:]) * 1000, 1), "cpu_ms": round(used * 1000, 1),
            }  # fmt: skip
            report["questions"].append(row)
            demo.note(f"{row['median_ms']:>9.1f} ms, {row['cpu_ms']:>7.1f} of CPU  (first {row['first_ms']:.1f})  {title}")
        report["memory_peak_mib"] = round(memory_peak(server.pid))
        demo.note(f"memory at most {report['memory_peak_mib']} MiB")
        return report
    finally:
        demo.stop_server(server)


def corpus_names(text):
    names = text.split(",")
    unknown = [name for name in names if name not in corpora.CORPORA]
    if unknown:
        raise argparse.ArgumentTypeError(f"no corpus {unknown[0]!r}: there are {', '.join(corpora.CORPORA)}")
    return names


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--corpus", type=corpus_names, default=list(corpora.CORPORA), help="which, separated by commas")
    options.add_argument("--lines", type=int, default=1_000_000, help="lines of each")
    options.add_argument("--threads", type=int, default=4)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--store", type=pathlib.Path, help="folder to use and keep, instead of a temporary one")
    options.add_argument("--json", type=pathlib.Path, help="write the numbers to this file too")
    args = options.parse_args()
    folder = args.store or pathlib.Path(tempfile.mkdtemp(prefix="rankline-bench-"))
    try:
        reports = [measure(args, name, folder / name) for name in args.corpus]
        if args.json:
            args.json.write_text(json.dumps(reports, indent=1) + "\n")
    except demo.Failed as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1
    finally:
        if not args.store:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
