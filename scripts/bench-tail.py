#!/usr/bin/env python3
"""bench-tail.py [--lines N] [--tails 1,20] [--rate N]: how many lines a second reach live tails, and how soon.

Starts a server in memory and follows one query with so many WebSockets. First the lines are pushed as fast as the server takes them: what
each tail received, was told it missed, and the lines a second over all tails. Then at a rate: the time from before a push to when its
lines were read from the socket. Clients count lines in what they receive and parse nothing. Standard library only.
"""

import argparse
import base64
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Pushes at a time, each on a connection and with a stream of its own.
PUSHERS = 8
# Lines of a push, at full speed and at a rate.
FULL_BATCH, PACED_BATCH = 1000, 100
# What every line, and every line that is reported as dropped, has once in a frame; equally long.
ENTRY = b'"values":[["1'
DROPPED = b'"timestamp":"'
QUERY = '{app="bench"}'


class Tail(threading.Thread):
    """Reads a tail's frames as bytes."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.lines = self.dropped = 0
        self.last, self.delays = 0.0, []
        self.socket = socket.create_connection(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        path = "/loki/api/v1/tail?" + urllib.parse.urlencode({"query": QUERY, "limit": 1})
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        answer = self.socket.recv(4096)
        if b" 101 " not in answer:
            sys.exit(f"bench-tail: no upgrade: {answer.decode(errors='replace')}")

    def run(self):
        rest = b""
        while chunk := self.socket.recv(1 << 20):
            now = time.time()
            data = rest + chunk
            # Too short to be counted twice, long enough for what is cut.
            rest = data[1 - len(ENTRY) :]
            self.lines += data.count(ENTRY)
            self.dropped += data.count(DROPPED)
            if stamps := re.findall(rb'"values":\[\["(\d{19})"', data[-4096:]):
                self.delays.append(now - int(stamps[-1]) / 1e9)
                self.last = now


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def body(rank, first, count):
    """A push of lines as a training run prints them."""
    now = time.time_ns()
    values = [
        [str(now + n), f"step={first + n} loss=2.3{n:03} grad_norm=0.71{n:03} tokens_per_s=4123{n:03} lr=3.0e-4"]
        for n in range(count)
    ]
    return json.dumps({"streams": [{"stream": {"app": "bench", "rank": str(rank)}, "values": values}]}).encode()


def push(port, rank, lines, rate):
    """Pushes lines of one rank, at most so many a second; every push must be taken."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    batch = PACED_BATCH if rate else FULL_BATCH
    begun = time.monotonic()
    for first in range(0, lines, batch):
        if rate:
            time.sleep(max(0, begun + first / rate - time.monotonic()))
        request = body(rank, first, min(batch, lines - first))
        connection.request("POST", "/loki/api/v1/push", request, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 204:
            raise RuntimeError(f"push answered {answer.status}")


def measure(binary, tails, lines, rate):
    """One run with a server of its own."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        command = [binary, "serve", "--listen", f"127.0.0.1:{port}", "--store", "memory://", "--max-tails", "100"]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_ready(port)
            readers = [Tail(port) for _ in range(tails)]
            for reader in readers:
                reader.start()
            time.sleep(0.5)
            begun = time.time()
            with concurrent.futures.ThreadPoolExecutor(PUSHERS) as pool:
                each = [pool.submit(push, port, rank, lines // PUSHERS, rate / PUSHERS) for rank in range(PUSHERS)]
                for pushed in each:
                    pushed.result()
            took = time.time() - begun
            wait_for(lambda: all(r.lines + r.dropped >= lines for r in readers), 30)
        finally:
            server.kill()
            server.wait()
    ended = max(reader.last for reader in readers)
    delays = sorted(delay for reader in readers for delay in reader.delays)
    received = [reader.lines for reader in readers]
    return {
        "tails": tails,
        "rate": rate or "as fast as it is taken",
        "pushed_lines_per_s": round(lines / took),
        "received_lines_per_s": round(sum(received) / (ended - begun)),
        "received_of_each": f"{min(received)}..{max(received)} of {lines}",
        "told_dropped": sum(reader.dropped for reader in readers),
        "delay_ms_p50": round(statistics.median(delays) * 1000, 1),
        "delay_ms_p99": round(delays[int(len(delays) * 0.99)] * 1000, 1),
    }


def wait_for(done, seconds):
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)


def wait_ready(port):
    def ready():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False

    wait_for(ready, 20)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=200_000, help="lines pushed in each run")
    parser.add_argument("--tails", default="1,20", help="numbers of tails")
    parser.add_argument("--rate", type=int, default=5_000, help="lines a second of the second measurement")
    parser.add_argument("--binary", default=ROOT / "target/release/rankline")
    options = parser.parse_args()
    for tails in map(int, options.tails.split(",")):
        for rate in (0, options.rate):
            print(json.dumps(measure(options.binary, tails, options.lines, rate)), flush=True)


if __name__ == "__main__":
    main()
