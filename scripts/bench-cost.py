#!/usr/bin/env python3
"""What a gigabyte of logs costs on S3: CPU, requests, bytes. Prints the tables of docs/scaling.md.

  scripts/bench-cost.py [--payload DIR] [--rate 11.6] [--lines 1000000] [--json FILE]

Starts SeaweedFS (`weed`, which scripts/setup.sh test installs) with an empty bucket and a server over it, pushes at a steady rate
(11.6 MB/s are one terabyte a day), then lets a second server compact all of it, then asks a third, which has nothing in memory, each
question cold and again. Requests to the bucket are those that the server counts at /metrics and, of questions, in `explain=true`.
Without --payload the corpus is the training logs of scripts/bench.py; a payload is a folder of push requests (NNNNNN.pb.sz, snappy protobuf) with a
meta.json that names lines, raw_bytes, start_ns and end_ns. Standard library only.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import bench
import corpora
import demo

NS = 1_000_000_000
BUCKET = "bench"

# US East (N. Virginia), June 2026, dollars: S3 Standard (first 50 TB), and an m7g.large (2 vCPU, 8 GiB) on demand.
PRICES = {"gb_month": 0.023, "put": 0.005 / 1000, "list": 0.005 / 1000, "get": 0.0004 / 1000, "machine_hour": 0.0816}
GB_A_DAY, DAYS_KEPT, HOURS_A_MONTH = 1000, 30, 730

MLPERF = '{namespace="mlperf"}'
MLPERF_QUESTIONS = [
    ("one rank of one job, newest 1000", '{job="llama31_8b", rank="7"}', {"limit": 1000}),
    ("a common word, newest 1000", f'{MLPERF} |= "loss"', {"limit": 1000}),
    ("an absent word", f'{MLPERF} |= "no such word anywhere"', {"limit": 100}),
    ("a case-insensitive expression", f'{MLPERF} |~ "(?i)segmentation fault|core dumped"', {"limit": 100}),
    ("lines by job, 5 m steps", f"sum by (job) (count_over_time({MLPERF}[5m]))", {"step": 300}),
    ("a word by rank, 5 m steps", 'sum by (rank) (count_over_time({job="llama31_8b"} |= "NCCL" [5m]))', {"step": 300}),
    ("a regexp's field, count by key", f'sum by (key) (count_over_time({MLPERF} |= ":::MLLOG" | regexp `"key": "(?P<key>[^"]+)"` [1h]))', {"step": 3600}),
]  # fmt: skip


class Corpus:
    """Push requests and questions about them."""

    def __init__(self, args):
        if args.payload:
            meta = json.loads((args.payload / "meta.json").read_text())
            self.bodies = [path.read_bytes() for path in sorted(args.payload.glob("*.pb.sz"))]
            self.headers = {"Content-Type": "application/x-protobuf"}
            self.lines, self.raw = meta["lines"], meta["raw_bytes"]
            self.start, self.end = meta["start_ns"], meta["end_ns"] + NS
            self.questions = MLPERF_QUESTIONS
        else:
            self.start = (time.time_ns() - 2 * bench.HOUR) // bench.HOUR * bench.HOUR
            self.end = self.start + bench.HOUR
            made = list(corpora.batches("training", args.lines, self.start))
            self.bodies, self.raw = [body for body, _ in made], sum(size for _, size in made)
            self.headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            self.lines, self.questions = args.lines, corpora.CORPORA["training"][1]


class Seaweed:
    """An S3 server of our own, with one bucket."""

    def __init__(self, folder):
        weed = shutil.which("weed", path=f"{bench.ROOT}/.venv/bin:{os.environ['PATH']}")
        if not weed:
            raise demo.Failed("weed is missing: run scripts/setup.sh test first")
        (folder / "weed").mkdir()
        config = folder / "s3.json"
        identity = {"name": "bench", "credentials": [{"accessKey": "bench", "secretKey": "bench-secret"}], "actions": ["Admin", "Read", "Write", "List"]}
        config.write_text(json.dumps({"identities": [identity]}))
        self.ports = {name: demo.free_port() for name in ("master", "volume", "filer", "s3", "mg", "vg", "fg", "sg")}
        ports = {name: str(port) for name, port in self.ports.items()}
        self.process = subprocess.Popen(
            [weed, "-logtostderr", "server", "-dir", folder / "weed", "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1",
             "-master.port", ports["master"], "-master.port.grpc", ports["mg"], "-volume.port", ports["volume"],
             "-volume.port.grpc", ports["vg"], "-volume.max", "50", "-master.volumeSizeLimitMB", "256", "-filer",
             "-filer.port", ports["filer"], "-filer.port.grpc", ports["fg"], "-s3", "-s3.port", ports["s3"],
             "-s3.port.grpc", ports["sg"], "-s3.config", config],
            stdout=(folder / "weed.log").open("wb"), stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        shell = [weed, "shell", "-master", f"127.0.0.1:{ports['master']}.{ports['mg']}", "-filer", f"127.0.0.1:{ports['filer']}.{ports['fg']}"]
        self.until(lambda: self.get(f"http://127.0.0.1:{ports['s3']}/") in (200, 403), "SeaweedFS's answering")
        self.until(lambda: self.made(shell), "making the bucket")

    def made(self, shell):
        done = subprocess.run(shell, input=f"s3.bucket.create -name {BUCKET}\n", capture_output=True, text=True, timeout=60, check=False)
        return done.returncode == 0 and "rror" not in done.stdout + done.stderr

    @staticmethod
    def get(url):
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    @staticmethod
    def until(check, what):
        deadline = time.monotonic() + 90
        while not check():
            if time.monotonic() > deadline:
                raise demo.Failed(f"waited 90 s for {what}")
            time.sleep(0.2)

    def options(self):
        return ["--store", f"s3://{BUCKET}/logs", "--s3-endpoint", f"http://127.0.0.1:{self.ports['s3']}", "--s3-allow-http", "true"]

    def objects(self, folder=f"/buckets/{BUCKET}/"):
        """Sizes of all objects, by path."""
        found, last = {}, ""
        while True:
            query = urllib.parse.urlencode({"limit": 1000, "lastFileName": last})
            url = f"http://127.0.0.1:{self.ports['filer']}{urllib.parse.quote(folder)}?{query}"
            asked = urllib.request.Request(url, headers={"Accept": "application/json"})
            with urllib.request.urlopen(asked, timeout=30) as answer:
                entries = json.load(answer).get("Entries") or []
            for entry in entries:
                is_folder = entry.get("Mode", 0) & (1 << 31)
                found.update(self.objects(entry["FullPath"] + "/") if is_folder else {entry["FullPath"]: entry["FileSize"]})
            if len(entries) < 1000:
                return found
            last = entries[-1]["FullPath"].rsplit("/", 1)[1]


class Server:
    """A `rankline serve` over the bucket."""

    def __init__(self, seaweed, folder, name, *options):
        self.port = demo.free_port()
        log = folder / f"{name}.log"
        env = {**os.environ, "RANKLINE_S3_ACCESS_KEY_ID": "bench", "RANKLINE_S3_SECRET_ACCESS_KEY": "bench-secret"}
        command = [demo.BINARY, "serve", "--listen", f"127.0.0.1:{self.port}", *seaweed.options(), *options]
        self.process = subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT, env=env, start_new_session=True)
        demo.wait_ready(self.process, self.port, log)

    def cpu(self):
        return bench.cpu(self.process.pid)

    def usage(self):
        """What the process took so far."""
        sums = bench.metrics(self.port)
        requests = {op: sums.get(("rankline_storage_requests_total", op), 0) for op in ("put", "get", "list", "delete")}
        sizes = {f"{op}_mb": sums.get(("rankline_storage_bytes_total", op), 0) / 1e6 for op in ("put", "get")}
        return {"cpu": self.cpu(), **requests, **sizes, "memory_mib": bench.memory_peak(self.process.pid)}

    def stop(self):
        demo.stop_server(self.process)


def push(server, corpus, rate, threads=8):
    """Sends every request at its time, so that `rate` MB of lines go out a second; answers the seconds it took."""
    share = corpus.raw / len(corpus.bodies) / 1e6
    begun = time.monotonic()

    def send(part):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        for number in part:
            if rate:
                time.sleep(max(0.0, begun + number * share / rate - time.monotonic()))
            connection.request("POST", "/loki/api/v1/push", corpus.bodies[number], corpus.headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 204:
                raise demo.Failed(f"a push was answered {answer.status}: {said[:300]!r}")

    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(send, [range(n, len(corpus.bodies), threads) for n in range(threads)]))
    return time.monotonic() - begun


def ask(server, corpus, query, more):
    """One question: what it took, as the server counts, and the process's CPU."""
    params = {"query": query, "start": corpus.start, "end": corpus.end, "explain": "true", **more}
    before = server.cpu()
    url = f"http://127.0.0.1:{server.port}/loki/api/v1/query_range?{urllib.parse.urlencode(params)}"
    with urllib.request.urlopen(url, timeout=300) as answer:
        took = json.load(answer)["data"]["stats"]["rankline"]
    return {
        "cpu": server.cpu() - before, "get": took["store"]["gets"], "list": took["store"]["lists"],
        "get_mb": took["store"]["bytes"] / 1e6, "ms": took["seconds"]["total"] * 1000,
    }  # fmt: skip


def measure(args, folder, seaweed):
    demo.say("reading the corpus")
    corpus = Corpus(args)
    gb = corpus.raw / 1e9
    report = {"lines": corpus.lines, "gb": gb, "requests": len(corpus.bodies), "rate": args.rate, "questions": []}
    demo.say(f"pushing {corpus.raw / 1e6:.0f} MB of lines in {len(corpus.bodies)} requests at {args.rate or 'any'} MB/s")
    server = Server(seaweed, folder, "push", "--compaction", "false", *args.options.split())
    try:
        report["push_seconds"] = push(server, corpus, args.rate)
        report["push"] = server.usage()
    finally:
        server.stop()
    report["flushed"] = stored(seaweed)
    demo.say("compacting")
    server = Server(seaweed, folder, "compact")
    try:
        begun = time.monotonic()
        bench.settle(server.port)
        report["compaction_seconds"] = time.monotonic() - begun - bench.QUIET_SECONDS
        report["compaction"] = server.usage()
        time.sleep(30)
        later = server.usage()
        idle = {key: (later[key] - report["compaction"][key]) / 30 for key in ("cpu", "get", "list")}
        report["idle_a_second"] = idle
        # Waiting for its end was idle time too.
        for key, value in idle.items():
            report["compaction"][key] = max(0.0, report["compaction"][key] - value * bench.QUIET_SECONDS)
    finally:
        server.stop()
    report["compacted"] = stored(seaweed)
    demo.say("asking")
    server = Server(seaweed, folder, "ask", "--compaction", "false")
    try:
        for title, query, more in corpus.questions:
            cold = ask(server, corpus, query, more)
            warm = [ask(server, corpus, query, more) for _ in range(args.rounds)]
            mean = {key: sum(one[key] for one in warm) / len(warm) for key in cold}
            report["questions"].append({"title": title, "query": query, "cold": cold, "again": mean})
        report["ask_memory_mib"] = bench.memory_peak(server.process.pid)
    finally:
        server.stop()
    return report


def stored(seaweed):
    sizes = [size for path, size in seaweed.objects().items() if path.endswith(".seg")]
    return {"objects": len(sizes), "mb": sum(sizes) / 1e6}


def show(report):
    gb = report["gb"]
    print(f"\n{report['lines']:,} lines, {gb * 1000:.1f} MB, {report['requests']} pushes in {report['push_seconds']:.0f} s; a GB of lines costs:\n")
    print("| | CPU s | PUT | GET | LIST | DELETE | MB written | MB read | peak memory, MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for stage in ("push", "compaction"):
        used = report[stage]
        each = " | ".join(f"{used[op] / gb:,.0f}" for op in ("put", "get", "list", "delete"))
        print(f"| {stage} | {used['cpu'] / gb:.1f} | {each} | {used['put_mb'] / gb:.1f} | {used['get_mb'] / gb:.1f} | {used['memory_mib']:.0f} |")
    for name in ("flushed", "compacted"):
        found = report[name]
        print(f"\n{name}: {found['objects']} objects, {found['mb']:.1f} MB, {found['mb'] / gb:.1f} MB a GB")
    idle = report["idle_a_second"]
    print(f"\nidle, a second: {idle['cpu']:.3f} CPU s, {idle['list']:.2f} LIST, {idle['get']:.2f} GET")
    print("\n| question | cold: ms | CPU s | GET | MB read | again: ms | CPU s | GET |\n|---|---|---|---|---|---|---|---|")
    for row in report["questions"]:
        cold, again = row["cold"], row["again"]
        print(
            f"| {row['title']} | {cold['ms']:.0f} | {cold['cpu']:.2f} | {cold['get']} | {cold['get_mb']:.2f} "
            f"| {again['ms']:.1f} | {again['cpu']:.3f} | {again['get']:.0f} |"
        )
    print(f"\npeak memory at questions: {report['ask_memory_mib']:.0f} MiB")


def bill(report):
    """What one terabyte a day costs a month, by the prices above."""
    gb, prices = report["gb"], PRICES
    month = GB_A_DAY * 30 / gb
    of = lambda op: (report["push"][op] + report["compaction"][op]) * month  # noqa: E731
    cpu = (report["push"]["cpu"] + report["compaction"]["cpu"]) / gb * GB_A_DAY / 86400
    idle = report["idle_a_second"]["list"] * 3600 * HOURS_A_MONTH
    kept = report["compacted"]["mb"] / gb * GB_A_DAY * DAYS_KEPT / 1000
    rows = [
        (f"{kept:,.0f} GB kept ({DAYS_KEPT} days)", kept * prices["gb_month"]),
        (f"{of('put') / 1e6:.2f} M PUT", of("put") * prices["put"]),
        (f"{of('get') / 1e6:.2f} M GET of compaction", of("get") * prices["get"]),
        (f"{(of('list') + idle) / 1e6:.2f} M LIST, listing without work included", (of("list") + idle) * prices["list"]),
        (f"two machines of two cores ({cpu:.2f} cores busy with push and compaction)", 2 * prices["machine_hour"] * HOURS_A_MONTH),
    ]
    print("\n| one terabyte a day, a month | $ |\n|---|---|")
    for what, cost in rows:
        print(f"| {what} | {cost:,.2f} |")
    print(f"| sum | {sum(cost for _, cost in rows):,.2f} |")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--payload", type=pathlib.Path, help="folder of push requests to use instead of a corpus made here")
    options.add_argument("--lines", type=int, default=1_000_000, help="lines of the corpus made here")
    options.add_argument("--rate", type=float, default=11.6, help="MB of lines a second; 0: as fast as they are taken")
    options.add_argument("--options", default="", help="more options of the server that takes the pushes, in one argument")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--json", type=pathlib.Path, help="write the numbers to this file too")
    args = options.parse_args()
    folder, seaweed = pathlib.Path(tempfile.mkdtemp(prefix="rankline-cost-")), None
    try:
        seaweed = Seaweed(folder)
        report = measure(args, folder, seaweed)
        show(report)
        bill(report)
        if args.json:
            args.json.write_text(json.dumps(report, indent=1) + "\n")
    except demo.Failed as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1
    finally:
        if seaweed:
            demo.stop_server(seaweed.process)
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
