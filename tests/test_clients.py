"""Clients as people use them, unchanged: Python's logging, Node's pino, OpenTelemetry, snappy-protobuf agents."""

import gzip
import json
import logging
import subprocess
import time
import zlib

import cramjam
import pytest
import requests
from support import NS


@pytest.fixture
def server(serve):
    return serve("memory://")


def window():
    return time.time_ns() - 600 * NS, time.time_ns() + 600 * NS


def test_python_logging_loki(server):
    import logging_loki

    handler = logging_loki.LokiHandler(
        url=f"{server.url}/loki/api/v1/push", tags={"application": "trainer"}, version="1"
    )
    # The handler swallows errors by default; here they are the test's.
    handler.handleError = lambda record: pytest.fail(f"the handler could not send {record}")
    logger = logging.getLogger("trainer")
    logger.addHandler(handler)
    try:
        logger.warning("gradient norm %.1f above clip value", 4.5, extra={"tags": {"rank": "3"}})
        logger.error("loss is NaN")
    finally:
        logger.removeHandler(handler)
    found = {line: labels for _, line, labels in server.entries('{application="trainer"}', *window())}
    assert set(found) == {"gradient norm 4.5 above clip value", "loss is NaN"}
    warning = found["gradient norm 4.5 above clip value"]
    assert (warning["rank"], warning["severity"], warning["logger"]) == ("3", "warning", "trainer")


def node(folder, script, *arguments):
    """Runs one of the Node clients to its end; it is the test's failure if it says anything is wrong."""
    done = subprocess.run(
        ["node", script, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0 and not done.stderr, f"{script} {arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"


def test_pino_loki(server, node_client):
    node(node_client, "pino.js", server.url)
    found = server.entries('{application="node-trainer"}', *window())
    text = "\n".join(line for _, line, _ in found)
    assert "step 10 loss 2.31" in text and "loss is NaN" in text, found


@pytest.mark.parametrize("batching", ["single", "batched"])
@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_winston_loki(server, node_client, encoding, batching):
    before = time.time_ns()
    node(node_client, "winston.js", server.url, encoding, batching)
    found = {line: (ns, labels) for ns, line, labels in server.entries('{application="winston-trainer"}', *window())}
    assert set(found) == {"step 10 loss 2.31", 'a quote " and a backslash \\ and ünïcode ✓', "loss is NaN"}
    assert all(before // NS <= ns // NS <= time.time_ns() // NS for ns, _ in found.values())
    levels = [found[line][1]["level"] for line in sorted(found)]
    assert levels == ["warn", "error", "info"]
    assert server.lines('{application="winston-trainer", level="error", part="loss"}', *window()) == ["loss is NaN"]


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("encoding", ["json", "protobuf"])
def test_opentelemetry_of_node(server, node_client, encoding, compression):
    node(node_client, "opentelemetry.js", server.url, encoding, compression)
    selector = f'{{service_name="otel-{encoding}"}}'
    ((_, line, labels),) = server.entries(f'{selector} | rank = "5" | loss < 2 | scope_name = "llama.train"', *window())
    assert line == "step 20 loss 1.98"
    wanted = {
        "host_name": "gpu-node-0", "scope_version": "1.2", "severity_text": "WARN", "severity_number": "13",
        "finished": "false", "hosts": '["a","b"]', "place_rack": "7", "detected_level": "warn",
    }  # fmt: skip
    assert wanted.items() <= labels.items(), labels
    # A body that is a map is stored as JSON, so that the parser finds its fields.
    ((_, line, labels),) = server.entries(f'{selector} | json | event = "checkpoint"', *window())
    assert json.loads(line) == {"event": "checkpoint", "bytes": 1024} and labels["bytes"] == "1024"


def test_opentelemetry(server):
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    provider = LoggerProvider(resource=Resource.create({"service.name": "otel-trainer", "host.name": "gpu-node-0"}))
    provider.add_log_record_processor(
        SimpleLogRecordProcessor(OTLPLogExporter(endpoint=f"{server.url}/otlp/v1/logs"))
    )
    provider.get_logger("llama.train").emit(
        timestamp=time.time_ns(),
        body="step 20 loss 1.98",
        severity_number=SeverityNumber.WARN,
        severity_text="WARN",
        attributes={"rank": 5, "step": 20},
    )
    provider.shutdown()
    found = server.entries('{service_name="otel-trainer"} | rank = "5"', *window())
    assert [line for _, line, _ in found] == ["step 20 loss 1.98"]


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def protobuf_push(labels, entries):
    """logproto.PushRequest: streams of labels as text and entries of timestamp, line and metadata pairs."""
    stream = field(1, labels.encode())
    for ns, line, metadata in entries:
        stamp = b"\x08" + varint(ns // NS) + b"\x10" + varint(ns % NS)
        pairs = b"".join(field(3, field(1, k.encode()) + field(2, v.encode())) for k, v in metadata.items())
        stream += field(2, field(1, stamp) + field(2, line.encode()) + pairs)
    return field(1, stream)


def post(server, body, **headers):
    return requests.post(f"{server.url}/loki/api/v1/push", data=body, headers=headers, timeout=10)


def test_snappy_protobuf(server):
    now = time.time_ns()
    body = protobuf_push('{job="agent", rank="7"}', [(now, "tab\there, ünïcode ✓", {"step": "3", "exception": "ValueError"})])
    answer = post(server, bytes(cramjam.snappy.compress_raw(body)), **{"Content-Type": "application/x-protobuf"})
    assert answer.status_code == 204, answer.text
    found = server.entries('{job="agent"} | exception = "ValueError" | step > 2', *window())
    assert [(ns, line) for ns, line, _ in found] == [(now, "tab\there, ünïcode ✓")]


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
def test_json_encodings(server, encoding):
    now = time.time_ns()
    line = f"as {encoding}"
    body = json.dumps({"streams": [{"stream": {"job": "json"}, "values": [[str(now), line, {"k": "v"}]]}]}).encode()
    packed = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding](body)
    if encoding == "deflate":
        # Raw deflate, as Go's flate writer makes it.
        compress = zlib.compressobj(wbits=-15)
        packed = compress.compress(body) + compress.flush()
    headers = {"Content-Type": "application/json"}
    if encoding != "identity":
        headers["Content-Encoding"] = encoding
    answer = post(server, packed, **headers)
    assert answer.status_code == 204, answer.text
    assert server.lines('{job="json"} | k = "v"', *window()) == [line]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", {"Content-Type": "application/json"}),
        (b"\xff\xff\xff\xff\x0f", {"Content-Type": "application/x-protobuf"}),
        (b"not gzip", {"Content-Type": "application/json", "Content-Encoding": "gzip"}),
        (b'{"streams":[{"stream":{"a b":"c"},"values":[["x","y"]]}]}', {"Content-Type": "application/json"}),
    ],
)
def test_broken_pushes_are_refused_and_harm_nothing(server, body, headers):
    answer = post(server, body, **headers)
    assert 400 <= answer.status_code < 500 and answer.text.strip(), f"{answer.status_code} {answer.text!r}"
    assert server.push({"job": "fine"}, [(time.time_ns(), "still here")]) == 204


def test_one_bad_entry_does_not_lose_the_others(server):
    now = time.time_ns()
    values = [[str(now), "good"], [str(now + 1), "x" * 300_000], [str(now + 2), "also good"]]
    answer = requests.post(
        f"{server.url}/loki/api/v1/push",
        json={"streams": [{"stream": {"job": "mixed"}, "values": values}]},
        timeout=10,
    )
    assert answer.status_code == 400 and "x" * 1000 not in answer.text
    assert server.lines('{job="mixed"}', *window()) == ["good", "also good"]


def test_rankline_ts_is_the_time_of_a_held_record(server):
    """A record that left the filter later carries its own time; the server takes it and removes the field."""
    now = time.time_ns()
    own = now - 90 * NS
    body = {"streams": [{"stream": {"job": "held"}, "values": [[str(now), "held", {"rankline_ts": str(own), "k": "v"}]]}]}
    assert requests.post(f"{server.url}/loki/api/v1/push", json=body, timeout=10).status_code == 204
    ((ns, line, labels),) = server.entries('{job="held"}', *window())
    assert (ns, line) == (own, "held") and "rankline_ts" not in labels
