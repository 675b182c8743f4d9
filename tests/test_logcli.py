"""logcli, unchanged: what it prints when it asks us is what it printed when it asked a real Loki.

Which data it asks about, which commands are run and how the answers were recorded is in `clients/logcli.py`.
"""

import json
import os
import shutil
import subprocess
import time

import pytest
from clients import logcli
from differential.data import Stream
from differential.servers import Peer
from support import NS, Process, Server, wait_until

BINARY = os.environ.get("LOGCLI") or shutil.which("logcli")
RECORDED = json.loads(logcli.RECORDED.read_text())

pytestmark = pytest.mark.skipif(not BINARY, reason="logcli is neither on PATH nor named by LOGCLI: it was not tested")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server("memory://", tmp_path_factory.mktemp("logcli"), ("--tenants-required", "true"))
    try:
        Peer(server.url).push(logcli.TENANT, [Stream(labels, entries) for labels, entries in logcli.streams()])
        yield server
    finally:
        server.kill()


def run(server, *arguments, timeout=30):
    command = [BINARY, f"--addr={server.url}", "--org-id=own", "--timezone=UTC", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def push(server, labels, entries):
    Peer(server.url).push("own", [Stream(labels, entries)])


@pytest.mark.parametrize("name", logcli.COMMANDS)
def test_prints_what_it_prints_of_a_real_loki(server, tmp_path, name):
    ours = logcli.comparable(name, logcli.ask(BINARY, server.url, name, tmp_path))
    theirs = logcli.comparable(name, RECORDED[name])
    assert ours == theirs


def test_statistics(server):
    now = time.time_ns()
    push(server, {"app": "counted"}, [(now + n, f"line {n}", {}) for n in range(50)])
    done = run(server, "--stats", "query", "--limit=5", "--output=raw", '{app="counted"} |= "line"')
    assert done.returncode == 0, done.stderr
    figures = dict(line.split("\t", 1) for line in done.stderr.splitlines() if "\t" in line)
    figures = {name.strip(): text.strip() for name, text in figures.items()}
    assert int(figures["Summary.TotalLinesProcessed"]) == 50
    assert figures["Summary.TotalBytesProcessed"] != "0 B" and figures["Summary.ExecTime"] != "0s"


def test_tail(server, tmp_path):
    """`query --tail`: what was there since an hour, then each line as it comes."""
    base = time.time_ns() - 60 * NS
    push(server, {"app": "tailed"}, [(base + n, f"line {n}", {}) for n in range(40)])
    out = tmp_path / "tail.txt"
    command = [BINARY, f"--addr={server.url}", "--org-id=own", "--quiet", "query", "--tail", "--output=raw", '{app="tailed"} |= "line"']
    tail = Process(command, out)
    try:
        wait_until(lambda: len(out.read_text().splitlines()) == 30, 10, "the last 30 lines")
        for n in range(40, 60):
            push(server, {"app": "tailed"}, [(time.time_ns(), f"line {n}", {}), (time.time_ns(), "left out", {})])
        wait_until(lambda: len(out.read_text().splitlines()) == 50, 10, "the new lines")
        assert out.read_text().splitlines() == [f"line {n}" for n in range(10, 60)]
    finally:
        tail.kill()


def test_tail_with_a_delay_and_labels(server, tmp_path):
    out = tmp_path / "tail.txt"
    command = [BINARY, f"--addr={server.url}", "--org-id=own", "--timezone=UTC", "query", "--tail", "--delay-for=1", '{app="delayed"} | logfmt']
    tail = Process(command, out)
    try:
        wait_until(lambda: "ws://" in out.read_text(), 10, "the connection")
        time.sleep(0.5)
        begun = time.monotonic()
        push(server, {"app": "delayed"}, [(time.time_ns(), "loss=1.5", {})])
        wait_until(lambda: "loss=1.5" in out.read_text(), 10, "the line")
        assert time.monotonic() - begun > 0.9, "it was not held back"
        assert 'loss="1.5"' in out.read_text() and 'app="delayed"' in out.read_text()
    finally:
        tail.kill()


def test_deletes(server):
    base = time.time_ns() - 7200 * NS
    push(server, {"app": "gone"}, [(base + n * NS, f"secret {n % 2}", {}) for n in range(20)])
    bounds = [f"--from={iso(base - NS)}", f"--to={iso(base + 100 * NS)}"]
    query = '{app="gone"} |= "secret 1"'
    assert run(server, "delete", "create", *bounds, query).returncode == 0
    listed = run(server, "delete", "list")
    assert listed.returncode == 0 and "Found 1 delete requests" in listed.stdout and query in listed.stdout, listed.stdout
    left = run(server, "query", *bounds, "--limit=0", "--output=raw", '{app="gone"}')
    assert left.stdout.splitlines() == ["secret 0"] * 10
    (request,) = Peer(server.url).session.get(
        f"{server.url}/loki/api/v1/delete", headers={"X-Scope-OrgID": "own"}, timeout=10
    ).json()  # fmt: skip
    cancelled = run(server, "delete", "cancel", f"--request-id={request['request_id']}")
    assert cancelled.returncode == 0 and "cancelled" in cancelled.stdout
    assert "Found 0 delete requests" in run(server, "delete", "list").stdout
    unknown = run(server, "delete", "cancel", "--request-id=nothing")
    assert unknown.returncode == 1 and "could not find delete request with given id" in unknown.stderr
    wrong = run(server, "delete", "create", *bounds, '{app="gone"')
    assert wrong.returncode == 1 and "invalid query expression" in wrong.stderr


def iso(ns):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ns // NS))
