#!/usr/bin/env python3
"""`make run`: logs of real multi-rank training runs go through rank_filter.wasm into a server and come back as answers.

Standard library only. Everything it writes is under .rankline/demo, which each run starts anew.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import samples

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".rankline/demo"
BINARY = pathlib.Path(os.environ.get("RANKLINE_BIN") or ROOT / "target/release/rankline")
WASM = ROOT / "dist/rank_filter.wasm"

COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
BOLD, DIM, CYAN, RED, OFF = ("\x1b[1m", "\x1b[2m", "\x1b[36m", "\x1b[31m", "\x1b[0m") if COLOUR else ("",) * 5

# What a person would ask on such a day: a title, the query, further options, and how many lines of the answer to show from
# its beginning and from its end.
QUESTIONS = [
    (
        "How much did each run write?",
        'sum by (job) (count_over_time({app="dist-training"}[1h]))',
        ["--instant"],
        (12, 0),
    ),
    (
        "What went wrong, in all runs?",
        'sum by (job, exception) (count_over_time({app="dist-training"} | exception != "" [1h]))',
        ["--instant"],
        (20, 0),
    ),
    (
        "Which rank failed first?",
        '{job="one-rank-uncaught-4r"} | exception != "" | line_format "{{.exception}}"',
        ["--since", "1h", "--limit", "10", "--forward"],
        (10, 0),
    ),
    (
        "What did it say? (four ranks wrote into one stream; its traceback is one entry)",
        '{job="one-rank-uncaught-4r", rank="2"} | exception != ""',
        ["--since", "1h", "--limit", "1", "--output", "raw"],
        (6, 6),
    ),
    (
        "A word over all ranks, in one timeline",
        '{job="srun-label-8r"} |~ "(?i)loss"',
        ["--since", "1h", "--limit", "8", "--forward"],
        (8, 0),
    ),
    (
        "Rank 0 alone",
        '{job="one-rank-uncaught-4r", rank="0"} |= "loss"',
        ["--since", "1h", "--limit", "3"],
        (3, 0),
    ),
]


class Failed(Exception):
    """Something a person has to look at; the text says what and where."""


def say(text):
    print(f"{BOLD}==>{OFF} {text}", flush=True)


def note(text):
    print(f"    {DIM}{text}{OFF}", flush=True)


def check_ready_to_start(port):
    """What has to be there before anything is started."""
    for path, how in ((BINARY, "make build"), (WASM, "make wasm")):
        if not path.is_file():
            raise Failed(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path} is missing: run '{how}' first")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failed(f"port {port} is taken ({error.strerror}): stop what listens there, or choose another: make run PORT=3101")


def start_server(port):
    """Starts `rankline serve` on a new folder; answers when it is ready."""
    say("starting the server")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    log = FOLDER / "server.log"
    command = [BINARY, "serve", "--listen", f"127.0.0.1:{port}", "--store", str(FOLDER / "store")]
    # A session of its own: Ctrl-C reaches this script alone, which then ends the server in order.
    server = subprocess.Popen(command, stdout=log.open("wb"), stderr=subprocess.STDOUT, start_new_session=True)
    wait_ready(server, port, log)
    note(f"http://127.0.0.1:{port}, data in {FOLDER.relative_to(ROOT)}/store, log in {log.relative_to(ROOT)}")
    return server


def wait_ready(server, port, log):
    """Waits until the server answers; when it won't, fails with what its log says."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise Failed(f"rankline serve ended with code {server.returncode}; {log} says:\n{tail(log)}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    stop_server(server)
    raise Failed(f"the server was not ready within 30 s; {log} says:\n{tail(log)}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stop_server(server):
    """Ends the server in order; answers its exit code."""
    if server.poll() is None:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(timeout=40)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    return server.returncode


def tail(path, lines=15):
    text = path.read_text(errors="replace").splitlines()[-lines:]
    return "\n".join("    " + line for line in text)


def run(arguments, **options):
    """Runs a rankline command; a failure carries what it said."""
    command = [str(BINARY), *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False, **options)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise Failed(f"rankline {' '.join(arguments)} ended with code {done.returncode}: {said}")
    return done


def feed(port):
    """Sends the sample logs through the .wasm and pushes the result."""
    say("reading the logs of real torchrun and srun runs (tests/data/torchrun)")
    raw, filtered = FOLDER / "raw.jsonl", FOLDER / "filtered.jsonl"
    total = 0
    with raw.open("w") as file:
        for record in samples.records(end_ns=time.time_ns() - 5_000_000_000):
            file.write(record + "\n")
            total += 1
    note(f"{len(samples.scenarios())} runs, {total:,} lines; their times are moved so that the last one is now")

    say("merging and labelling them in dist/rank_filter.wasm, as Fluent Bit would")
    begun = time.monotonic()
    with raw.open("rb") as source, filtered.open("wb") as target:
        run(["filter", "--wasm", str(WASM)], stdin=source, stdout=target)
    took = time.monotonic() - begun
    kept = merged = ranked = failures = 0
    with filtered.open() as file:
        for line in file:
            record = json.loads(line)
            kept += 1
            merged += "\n" in record.get("log", "")
            ranked += "rank" in record
            failures += "exception" in record
    note(
        f"{total:,} lines became {kept:,} records in {took:.1f} s: {merged:,} of several lines, "
        f"{failures:,} with an exception, {ranked:,} with their rank"
    )
    if not failures:
        raise Failed("the filter found no traceback in logs that hold dozens; is dist/rank_filter.wasm current? make wasm")

    say("pushing them")
    begun = time.monotonic()
    push = ["push", "--url", f"http://127.0.0.1:{port}", "--input", "jsonl", "--label", f"app={samples.APP}", "-"]
    with filtered.open("rb") as source:
        run(push, stdin=source, stdout=subprocess.DEVNULL)
    note(f"{kept:,} records acknowledged, which means stored, in {time.monotonic() - begun:.1f} s")


def ask(port):
    """Asks the questions and prints the answers; an empty one is a failure."""
    for title, query, options, (head, end) in QUESTIONS:
        print()
        print(f"{BOLD}{title}{OFF}")
        shown = " ".join([f"rankline query '{query}'", *(o for o in options)])
        print(f"{CYAN}$ {shown}{OFF}", flush=True)
        done = run(["query", "--url", f"http://127.0.0.1:{port}", query, *options], stdout=subprocess.PIPE)
        lines = done.stdout.decode(errors="replace").rstrip().splitlines()
        if not any(line.strip() for line in lines):
            raise Failed(f"no answer to: {query}")
        for line in shortened(lines, head, end):
            print("  " + (line if len(line) <= 160 else line[:159] + "…"))
    print(flush=True)


def shortened(lines, head, end):
    """The first and the last lines, with what was left out between them."""
    left_out = len(lines) - head - end
    if left_out <= 0:
        return lines
    return [*lines[:head], f"{DIM}… {left_out} more lines{OFF}", *lines[len(lines) - end :]]


def print_grafana(port):
    say("looking at it in Grafana")
    print(f"""    Connections → Data sources → Add → Loki
      URL    http://127.0.0.1:{port}     (from a container: http://host.docker.internal:{port})
      nothing else is needed; press "Save & test", then Explore: {{app="{samples.APP}"}}""")
    print()
    say("asking more")
    print(f"""    target/release/rankline query --url http://127.0.0.1:{port} '{{app="{samples.APP}"}} |= "Error"' --since 1h
    python train.py 2>&1 | target/release/rankline push --url http://127.0.0.1:{port} - --label job=mine""")
    print(flush=True)


def serve_until_interrupted(server):
    say("serving until Ctrl-C")
    code = server.wait()
    raise Failed(f"the server ended by itself with code {code}; see {FOLDER.relative_to(ROOT)}/server.log:\n{tail(FOLDER / 'server.log')}")


def interrupt(*_):
    raise KeyboardInterrupt


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--port", type=int, default=3100)
    options.add_argument("--once", action="store_true", help="stop after the answers")
    args = options.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    server = None
    try:
        check_ready_to_start(args.port)
        server = start_server(args.port)
        feed(args.port)
        ask(args.port)
        print_grafana(args.port)
        if not args.once:
            serve_until_interrupted(server)
        code = stop_server(server)
        if code != 0:
            raise Failed(f"the server ended with code {code}:\n{tail(FOLDER / 'server.log')}")
        say("done")
    except Failed as failed:
        print(f"{RED}error:{OFF} {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
        say("stopping the server")
        return 0 if server is None or stop_server(server) == 0 else 1
    finally:
        if server is not None:
            stop_server(server)
    return 0


if __name__ == "__main__":
    sys.exit(main())
