"""What the end-to-end tests share: servers they start and kill, and a small client of Loki's API.

Everything listens on the loopback interface, on ports that were free a moment before, and is ended with its test.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import requests

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("RANKLINE_BIN") or ROOT / "target/release/rankline")
WASM = pathlib.Path(os.environ.get("RANK_FILTER_WASM") or ROOT / "dist/rank_filter.wasm")
SHARED = ROOT.parent / "shared"

sys.path.insert(0, str(ROOT / "scripts"))

NS = 1_000_000_000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(check, seconds=20, what="the condition"):
    """Asks `check` until it answers something true; its last answer or exception is in the failure."""
    deadline, last = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            last = check()
            if last:
                return last
        except (requests.RequestException, AssertionError, OSError) as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {seconds} s; last: {last!r}")


class Process:
    """A program with its output in a file, ended with its test."""

    def __init__(self, command, log, env=None):
        self.command, self.log = [str(c) for c in command], log
        self.process = subprocess.Popen(
            self.command, stdout=log.open("ab"), stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )

    @property
    def pid(self):
        return self.process.pid

    def said(self, last=30):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-last:])

    def running(self):
        return self.process.poll() is None

    def kill(self):
        """kill -9: no chance to flush."""
        if self.running():
            self.process.kill()
        self.process.wait()

    def stop(self, seconds=40):
        """SIGTERM; answers the exit code."""
        if self.running():
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.command[0]} did not end within {seconds} s:\n{self.said()}") from None


class Server(Process):
    """A `rankline serve`, with the questions the tests ask it."""

    def __init__(self, store, folder, options=(), env=None, port=None):
        self.port = port or free_port()
        prefix = options[options.index("--path-prefix") + 1] if "--path-prefix" in options else ""
        self.url = f"http://127.0.0.1:{self.port}{prefix}"
        self.store, self.folder, self.options, self.env = store, folder, options, env
        self.session = requests.Session()
        folder.mkdir(parents=True, exist_ok=True)
        command = [BINARY, "serve", "--listen", f"127.0.0.1:{self.port}", "--store", store, *options]
        super().__init__(command, folder / "server.log", env)
        try:
            self.wait_ready()
        except BaseException:
            # Whoever asked for it never gets hold of it to end it.
            self.kill()
            raise

    def wait_ready(self):
        def ready():
            if not self.running():
                raise RuntimeError(f"rankline serve ended with code {self.process.returncode}:\n{self.said()}")
            return requests.get(f"{self.url}/ready", timeout=2).status_code == 200

        wait_until(ready, 30, "the server's being ready")

    def again(self):
        """A new server over the same store, on the same port, with nothing else of the old one."""
        assert not self.running()
        return Server(self.store, self.folder, self.options, self.env, self.port)

    # -- pushing

    def push(self, labels, entries, timeout=30):
        """Pushes `(ns, line)` or `(ns, line, metadata)` entries as JSON; answers the status."""
        values = [[str(e[0]), *e[1:]] for e in entries]
        body = {"streams": [{"stream": labels, "values": values}]}
        return self.session.post(f"{self.url}/loki/api/v1/push", json=body, timeout=timeout).status_code

    # -- asking

    def get(self, path, **params):
        found = self.session.get(f"{self.url}{path}", params=params, timeout=60)
        assert found.status_code == 200, f"{path} {params}: {found.status_code} {found.text[:500]}"
        return found.json()

    def streams(self, query, start, end, limit=5000, direction="forward", **more):
        """The streams of a log query: (labels, [(ns, line)])."""
        data = self.get(
            "/loki/api/v1/query_range", query=query, start=start, end=end, limit=limit, direction=direction, **more
        )["data"]
        assert data["resultType"] == "streams"
        return [(s["stream"], [(int(v[0]), v[1]) for v in s["values"]]) for s in data["result"]]

    def entries(self, query, start, end, limit=5000, direction="forward", **more):
        """The entries of a log query as (ns, line, labels), in the order asked for over all streams."""
        found = [
            (ns, line, labels)
            for labels, values in self.streams(query, start, end, limit, direction, **more)
            for ns, line in values
        ]
        found.sort(key=lambda e: e[0], reverse=direction == "backward")
        return found

    def lines(self, query, start, end, **more):
        return [line for _, line, _ in self.entries(query, start, end, **more)]

    def vector(self, query, at=None):
        """An instant metric query: {label values as a frozenset of pairs: number}."""
        params = {"query": query, **({"time": at} if at else {})}
        data = self.get("/loki/api/v1/query", **params)["data"]
        assert data["resultType"] == "vector", data
        return {frozenset(s["metric"].items()): float(s["value"][1]) for s in data["result"]}

    def total(self, query, at=None):
        """The number of a metric query without labels; 0 where it has no sample."""
        return sum(self.vector(query, at).values())


def run(*arguments, stdin=None, check=True, timeout=120, env=None):
    """Runs a rankline command to its end; answers what it printed."""
    done = subprocess.run(
        [str(BINARY), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, **(env or {})},
    )
    if check:
        assert done.returncode == 0, f"rankline {arguments}: code {done.returncode}\n{done.stderr}"
    return done


def jsonl(text):
    return [json.loads(line) for line in text.splitlines()]
