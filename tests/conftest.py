"""Fixtures: servers on a folder, in memory and on S3, and the sample runs that came through the .wasm."""

import dataclasses
import os
import pathlib
import shutil
import time

import grafana as grafana_client
import pytest
import requests
import samples
from support import BINARY, NS, ROOT, WASM, Process, Server, free_port, run, wait_until


def pytest_sessionstart():
    """Without the product there is nothing to test, and that is an error, not a skip."""
    for path, how in ((BINARY, "make build"), (WASM, "make wasm")):
        if not path.is_file():
            raise pytest.UsageError(f"{path} is missing: run '{how}' first")


@pytest.fixture
def serve(tmp_path):
    """Starts servers; all are ended with the test, and one that panicked fails it."""
    started = []

    def start(store=None, *options, env=None):
        folder = tmp_path / f"server-{len(started)}"
        server = Server(store or str(folder / "store"), folder, options, env)
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()
        assert "panicked" not in server.log.read_text(errors="replace"), server.said()


@dataclasses.dataclass
class S3:
    """A real S3 server (SeaweedFS) with one bucket."""

    url: str
    bucket: str
    process: Process

    def options(self):
        return ["--s3-endpoint", self.url, "--s3-allow-http", "true", "--s3-region", "us-east-1"]

    def env(self):
        return {"RANKLINE_S3_ACCESS_KEY_ID": "test", "RANKLINE_S3_SECRET_ACCESS_KEY": "test-secret"}

    def store(self, prefix):
        return f"s3://{self.bucket}/{prefix}"


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """One SeaweedFS for all tests; each uses a prefix of its own."""
    weed = shutil.which("weed", path=f"{ROOT}/.venv/bin:{os.environ['PATH']}")
    assert weed, "weed is missing: it comes with tests/requirements.txt (scripts/setup.sh test)"
    folder = tmp_path_factory.mktemp("weed")
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3", "mg", "vg", "fg", "sg")}
    config = folder / "s3.json"
    config.write_text(
        '{"identities":[{"name":"test","credentials":[{"accessKey":"test","secretKey":"test-secret"}],'
        '"actions":["Admin","Read","Write","List","Tagging"]}]}'
    )
    command = [
        weed, "-logtostderr", "server", "-dir", folder, "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1",
        "-master.port", ports["master"], "-master.port.grpc", ports["mg"],
        "-volume.port", ports["volume"], "-volume.port.grpc", ports["vg"], "-volume.max", 50,
        "-master.volumeSizeLimitMB", 64,
        "-filer", "-filer.port", ports["filer"], "-filer.port.grpc", ports["fg"],
        "-s3", "-s3.port", ports["s3"], "-s3.port.grpc", ports["sg"], "-s3.config", config,
    ]  # fmt: skip
    process = Process(command, folder / "weed.log")
    url, bucket = f"http://127.0.0.1:{ports['s3']}", "rankline-test"
    try:
        wait_until(lambda: requests.get(url, timeout=2).status_code in (200, 403), 60, "SeaweedFS's answering")
        shell = f"s3.bucket.create -name {bucket}\n"
        wait_until(lambda: make_bucket(weed, ports, shell), 60, "making the bucket")
        yield S3(url, bucket, process)
    finally:
        process.kill()


def make_bucket(weed, ports, command):
    import subprocess

    made = subprocess.run(
        [weed, "shell", "-master", f"127.0.0.1:{ports['master']}.{ports['mg']}",
         "-filer", f"127.0.0.1:{ports['filer']}.{ports['fg']}"],
        input=command, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return made.returncode == 0 and "rror" not in made.stdout + made.stderr


@dataclasses.dataclass
class Fed:
    """A server that holds the sample runs, as they came through the .wasm."""

    server: Server
    start: int
    end: int
    input_lines: int
    records: list


@pytest.fixture(scope="session")
def filtered():
    """The sample runs through the .wasm: the last line is ten seconds ago."""
    end = time.time_ns() - 10 * NS
    raw = list(samples.records(end_ns=end))
    done = run("filter", "--wasm", WASM, stdin="\n".join(raw) + "\n", timeout=600)
    return raw, done.stdout, end


@pytest.fixture(scope="session")
def fed(filtered, tmp_path_factory):
    """One server on a folder with the sample runs, for tests that only ask."""
    from support import jsonl

    raw, records, end = filtered
    folder = tmp_path_factory.mktemp("fed")
    server = Server(str(folder / "store"), folder)
    try:
        run("push", "--url", server.url, "--input", "jsonl", "--label", f"app={samples.APP}", "-", stdin=records)
        yield Fed(server, end - 3600 * NS, end + NS, len(raw), jsonl(records))
    finally:
        server.kill()


@pytest.fixture
def node_client():
    """The folder of the Node clients, set up; skips where there is no Node."""
    folder = pathlib.Path(__file__).parent / "clients/node"
    if not shutil.which("node"):
        pytest.skip("node is not on PATH: the Node clients (pino, winston, OpenTelemetry) were not tested")
    if not (folder / "node_modules/.lockfile").is_file():
        pytest.fail("tests/clients/node is not set up: run scripts/setup.sh test")
    return folder


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    """Grafana before a server that holds nothing."""
    yield from grafana_client.serving(tmp_path_factory, "empty")


@pytest.fixture(scope="session")
def grafana(tmp_path_factory):
    """Grafana before a server with the entries of its contract; no test changes them."""
    for client in grafana_client.serving(tmp_path_factory, "fed"):
        grafana_client.fill(client.server)
        yield client
