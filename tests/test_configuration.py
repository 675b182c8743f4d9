"""Configuration: every mistake is a start-up error that names the key; the three sources mean the same."""

import subprocess

import pytest
import requests
from support import BINARY, Server, free_port


def start_and_fail(*options, env=None, config=None, tmp_path):
    """Starts a server that must refuse to; answers what it said."""
    arguments = [str(BINARY), "serve", "--listen", f"127.0.0.1:{free_port()}", "--store", "memory://", *options]
    if config is not None:
        path = tmp_path / "rankline.toml"
        path.write_text(config)
        arguments += ["--config", str(path)]
    import os

    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=20, env={**os.environ, **(env or {})}, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"{arguments} started, though its configuration is wrong")
    assert done.returncode != 0, f"{arguments} ended with 0: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ('flush_intervall = "1s"\n', "flush_intervall"),
        ('[ingest]\nnonsense = 1\n', "nonsense"),
        ('flush_interval = "soon"\n', "flush_interval"),
        ("max_line_bytes = -1\n", "max_line_bytes"),
        ("query_timeout = [1]\n", "query_timeout"),
        ('batch_bytes = "1GiB"\ningest_memory_bytes = "1MiB"\n', "ingest_memory_bytes"),
        ("this is no TOML", "rankline.toml"),
    ],
)
def test_a_wrong_file_names_the_key(config, named, tmp_path):
    assert named in start_and_fail(config=config, tmp_path=tmp_path)


def test_a_wrong_flag_names_it(tmp_path):
    assert "flush-intervall" in start_and_fail("--flush-intervall", "1s", tmp_path=tmp_path)
    assert "store" in start_and_fail("--store", "ftp://host/x", tmp_path=tmp_path)
    assert "missing.toml" in start_and_fail("--config", str(tmp_path / "missing.toml"), tmp_path=tmp_path)


def test_a_wrong_variable_names_it(tmp_path):
    said = start_and_fail(env={"RANKLINE_FLUSH_INTERVAL": "soon"}, tmp_path=tmp_path)
    assert "flush_interval" in said.lower()
    said = start_and_fail(env={"RANKLINE_FLUSH_INTERVALL": "1s"}, tmp_path=tmp_path)
    assert "RANKLINE_FLUSH_INTERVALL" in said


def test_a_busy_port_is_said(serve, tmp_path):
    server = serve("memory://")
    done = subprocess.run(
        [str(BINARY), "serve", "--listen", f"127.0.0.1:{server.port}", "--store", "memory://"],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and str(server.port) in done.stdout + done.stderr


def refuses_long_lines(server):
    body = {"streams": [{"stream": {"job": "x"}, "values": [["1700000000000000000", "y" * 2000]]}]}
    return requests.post(f"{server.url}/loki/api/v1/push", json=body, timeout=10).status_code == 400


def test_file_variable_and_flag_mean_the_same(serve, tmp_path):
    path = tmp_path / "rankline.toml"
    path.write_text('max_line_bytes = "1KiB"\n')
    assert not refuses_long_lines(serve("memory://"))
    assert refuses_long_lines(serve("memory://", "--config", str(path)))
    assert refuses_long_lines(serve("memory://", env={"RANKLINE_MAX_LINE_BYTES": "1KiB"}))
    assert refuses_long_lines(serve("memory://", "--max-line-bytes", "1KiB"))
    # A flag counts more than the environment, which counts more than the file.
    assert not refuses_long_lines(serve("memory://", "--config", str(path), "--max-line-bytes", "1MiB"))


def test_tenants(serve):
    import time

    server: Server = serve("memory://", "--tenants-required", "true")
    body = {"streams": [{"stream": {"job": "x"}, "values": [[str(time.time_ns()), "of a"]]}]}
    push = f"{server.url}/loki/api/v1/push"
    assert requests.post(push, json=body, timeout=10).status_code == 401
    assert requests.post(push, json=body, headers={"X-Scope-OrgID": "a"}, timeout=10).status_code == 204
    query = {"query": '{job="x"}', "limit": 10}
    for tenant, expected in (("a", 1), ("b", 0)):
        found = requests.get(
            f"{server.url}/loki/api/v1/query_range", params=query, headers={"X-Scope-OrgID": tenant}, timeout=10
        ).json()["data"]["result"]
        assert len(found) == expected
    # A tenant's name is part of a path in the store.
    for name in ("../a", "a/b", "..", "."):
        answer = requests.post(push, json=body, headers={"X-Scope-OrgID": name}, timeout=10)
        assert 400 <= answer.status_code < 500, f"{name}: {answer.status_code}"
