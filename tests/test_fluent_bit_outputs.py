"""Fluent Bit's `loki` and `opentelemetry` outputs, as people configure them for a Loki. Where it is installed, or FLUENT_BIT names it."""

import contextlib
import json
import os
import shutil
import subprocess
import time

import pytest
from support import NS, Process, Server, wait_until

FLUENT_BIT = os.environ.get("FLUENT_BIT") or shutil.which("fluent-bit")

pytestmark = pytest.mark.skipif(
    not FLUENT_BIT, reason="fluent-bit is not on PATH and FLUENT_BIT is not set: its outputs were not tested"
)

# A record's own time, a minute ago.
BASE = time.time_ns() // NS * NS - 60 * NS
RECORDS = [
    {"log": "step 10 loss 2.31", "rank": "0", "level": "info", "trace_id": "t0", "kubernetes": {"pod_name": "llama-0", "labels": {"app": "llama"}}},
    {"log": 'a quote " and a backslash \\ and ünïcode ✓', "rank": "1", "level": "warn", "trace_id": "t1", "kubernetes": {"pod_name": "llama-1", "labels": {"app": "llama"}}},
    {"log": "Traceback (most recent call last):\n  File \"a.py\", line 1\nValueError: x", "rank": "1", "level": "error", "trace_id": "t2", "kubernetes": {"pod_name": "llama-1", "labels": {"app": "llama"}}},
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server("memory://", tmp_path_factory.mktemp("outputs"))
    yield server
    server.kill()
    assert "panicked" not in server.log.read_text(errors="replace"), server.said()


def ns_of(number):
    """The time of a record: with a fraction, to the microsecond."""
    return BASE + number * NS + 123_456_000


@pytest.fixture
def send(tmp_path):
    """Sends the records through one output."""

    @contextlib.contextmanager
    def sending(server, **output):
        lines = tmp_path / "records.jsonl"
        with lines.open("w") as file:
            for number, record in enumerate(RECORDS):
                stamp = f"{ns_of(number) // NS}.{ns_of(number) % NS // 1000:06}"
                file.write(json.dumps({"time": stamp, **record}) + "\n")
        config = {
            "service": {"flush": 0.2, "log_level": "info"},
            "parsers": [{"name": "lines", "format": "json", "time_key": "time", "time_format": "%s.%L"}],
            "pipeline": {
                "inputs": [{"name": "tail", "path": str(lines), "parser": "lines", "read_from_head": True, "tag": "train"}],
                "outputs": [{"match": "*", "host": "127.0.0.1", "port": server.port, **output}],
            },
        }
        # YAML takes JSON.
        path = tmp_path / "fluent-bit.yaml"
        path.write_text(json.dumps(config))
        agent = Process([FLUENT_BIT, "-c", path], tmp_path / "agent.log")
        try:
            yield agent
        finally:
            agent.stop()

    return sending


@pytest.fixture
def sent(server, send):
    """Sends the records through one output; answers what the server has, (ns, line, labels) by time."""

    def ask(selector, **output):
        def found():
            return server.entries(selector, BASE - 60 * NS, BASE + 600 * NS)

        with send(server, **output) as agent:
            wait_until(lambda: len(found()) >= len(RECORDS), 20, f"the records; Fluent Bit said:\n{agent.said()}")
        return found()

    return ask


def test_loki_with_labels_and_metadata(sent):
    """Fixed labels, labels from record keys and nested keys, structured metadata, the rest of the record as JSON."""
    found = sent(
        '{job="own"}',
        name="loki",
        labels="job=own, pod=$kubernetes['pod_name']",
        label_keys="$rank",
        structured_metadata="trace_id=$trace_id, run=$kubernetes['labels']['app']",
        remove_keys="kubernetes",
        line_format="json",
    )
    assert [ns for ns, *_ in found] == [ns_of(n) for n in range(3)]
    for (_, line, labels), record in zip(found, RECORDS, strict=True):
        assert json.loads(line)["log"] == record["log"] and "kubernetes" not in json.loads(line)
        wanted = {"job": "own", "rank": record["rank"], "pod": record["kubernetes"]["pod_name"], "trace_id": record["trace_id"], "run": "llama"}
        assert wanted.items() <= labels.items()
        assert labels["detected_level"] == record["level"]


def test_loki_streams_are_told_from_metadata(server, sent):
    sent('{job="told"}', name="loki", labels="job=told", label_keys="$rank", structured_metadata="trace_id=$trace_id")
    series = server.get("/loki/api/v1/series", **{"match[]": '{job="told"}'}, start=BASE, end=BASE + 60 * NS)["data"]
    assert sorted((one["job"], one["rank"]) for one in series) == [("told", "0"), ("told", "1")]
    assert all("trace_id" not in one for one in series)
    assert len(server.lines('{job="told"} | trace_id = "t1"', BASE, BASE + 60 * NS)) == 1


@pytest.mark.parametrize("compress", ["gzip", "snappy"])
def test_loki_compressed(sent, compress):
    found = sent(f'{{job="{compress}"}} | json', name="loki", labels=f"job={compress}", compress=compress)
    assert [labels["log"] for _, _, labels in found] == [record["log"] for record in RECORDS]
    assert [labels["kubernetes_pod_name"] for _, _, labels in found] == ["llama-0", "llama-1", "llama-1"]


def test_loki_key_value_lines(sent):
    found = sent('{job="pairs"} | logfmt', name="loki", labels="job=pairs", line_format="key_value", remove_keys="kubernetes")
    assert [labels["rank"] for _, _, labels in found] == ["0", "1", "1"]
    assert all('log="' in line for _, line, _ in found)


def test_loki_lines_alone(sent):
    """A record of one key is its value, unquoted."""
    found = sent('{job="lines"}', name="loki", labels="job=lines", drop_single_key="raw", remove_keys="rank, level, trace_id, kubernetes")
    assert [line for _, line, _ in found] == [record["log"] for record in RECORDS]


def test_loki_for_tenants(serve, send):
    """The header of a tenant, the same for all records or from each record."""
    server = serve("memory://", "--tenants-required", "true")

    def lines(tenant):
        server.session.headers["X-Scope-OrgID"] = tenant
        return server.lines('{job="of_tenants"} | json | line_format "{{.log}}"', BASE, BASE + 60 * NS)

    with send(server, name="loki", labels="job=of_tenants", tenant_id="acme"):
        wait_until(lambda: lines("acme") == [record["log"] for record in RECORDS], 20, "the tenant's lines")
    assert lines("globex") == []
    with send(server, name="loki", labels="job=of_tenants", tenant_id_key="level"):
        for record in RECORDS:
            wait_until(lambda r=record: lines(r["level"]) == [r["log"]], 20, f"the line of {record['level']}")


def has_output(name):
    """Fluent Bit can be built without any of them."""
    plugins = subprocess.run([FLUENT_BIT, "--help"], capture_output=True, text=True, check=False).stdout
    return any(line.split()[:1] == [name] for line in plugins.splitlines())


@pytest.mark.parametrize("compress", ["", "gzip", "zstd"])
def test_opentelemetry(server, sent, compress):
    """Each key of a record an attribute, its text the body."""
    if not has_output("opentelemetry"):
        pytest.skip(f"{FLUENT_BIT} is built without its opentelemetry output: it was not tested")
    job = f"otel-{compress or 'plain'}"
    options = {"compress": compress} if compress else {}
    found = sent(
        f'{{service_name="unknown_service"}} | job = "{job}"',
        name="opentelemetry",
        logs_uri="/otlp/v1/logs",
        logs_body_key="$log",
        logs_body_key_attributes=True,
        logs_severity_text_message_key="level",
        processors={"logs": [{"name": "content_modifier", "action": "upsert", "key": "job", "value": job}]},
        **options,
    )
    assert [(ns, line) for ns, line, _ in found] == [(ns_of(n), record["log"]) for n, record in enumerate(RECORDS)]
    for (_, _, labels), record in zip(found, RECORDS, strict=True):
        assert labels["rank"] == record["rank"] and labels["trace_id"] == record["trace_id"]
        assert labels["kubernetes_pod_name"] == record["kubernetes"]["pod_name"]
        assert labels["detected_level"] == record["level"]
