"""The real Fluent Bit with our .wasm: files → Fluent Bit → rankline → query. Where it is installed, or FLUENT_BIT names it.

Each shipped configuration runs as it is, but for its places and addresses.
"""

import json
import os
import re
import shutil
import time

import pytest
import samples
from support import NS, ROOT, WASM, Process, free_port, wait_until

FLUENT_BIT = os.environ.get("FLUENT_BIT") or shutil.which("fluent-bit")

pytestmark = pytest.mark.skipif(
    not FLUENT_BIT, reason="fluent-bit is not on PATH and FLUENT_BIT is not set: the real agent was not tested"
)


def configured(tmp_path, server, logs, folder="folder", **env):
    """The shipped configuration in that folder, with its `env` section filled in."""
    text = (ROOT / "fluent-bit" / folder / "fluent-bit.yaml").read_text()
    state = tmp_path / "state"
    state.mkdir()
    values = {
        "LOGS": logs, "WASM": WASM, "CONFIG": ROOT / "fluent-bit" / folder, "STATE": state,
        "RANKLINE_PORT": server.port, **env,
    }  # fmt: skip
    for name, value in values.items():
        text, found = re.subn(rf"^  {name}: .*$", f"  {name}: {value}", text, flags=re.MULTILINE)
        assert found == 1, f"{name} is not in the configuration's env section"
    path = tmp_path / "fluent-bit.yaml"
    path.write_text(text)
    return path


def placed(tmp_path, folder, places):
    """The shipped configuration in that folder, which is made for a container, with other places."""
    text = (ROOT / "fluent-bit" / folder / "fluent-bit.yaml").read_text()
    state = tmp_path / "state"
    state.mkdir()
    own = {
        "/rankline/wasm/rank_filter.wasm": WASM, "/rankline/config": ROOT / "fluent-bit" / folder, "/var/lib/rankline": state,
        "http_port: 2020": f"http_port: {free_port()}",
    }  # fmt: skip
    for old, new in {**places, **own}.items():
        assert old in text or old.startswith("http_port"), f"{old} is not in the configuration"
        text = text.replace(old, str(new))
    path = tmp_path / "fluent-bit.yaml"
    path.write_text(text)
    return path


def recent(scenario):
    """The run's lines as (ns, tag, stream, logtag, text, kubernetes), as if it had ended a minute ago."""
    lines = samples.lines(scenario)
    shift = time.time_ns() - 60 * NS - lines[-1][0]
    return [(ns + shift, *rest) for ns, *rest in lines]


def written(ns):
    """A time as container runtimes write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns // NS)) + f".{ns % NS:09}Z"


def arrive(server, selector, lines, agent):
    """The records that are there once all of these lines are, each once."""
    expected = sorted(line.split("\r")[-1] for line in lines)

    def arrived():
        found = server.lines(selector, *window())
        parts = [part.split("\r")[-1] for line in found for part in line.removesuffix("\n").split("\n")]
        return sorted(parts) == expected and found

    return wait_until(arrived, 40, f"all lines' arriving; Fluent Bit said:\n{agent.said()}")


def failures_are_whole(server, scenario, selector):
    """Each failure that the run was made to have is one record with its rank and exception."""
    failures = samples.truth(scenario)["failures"]
    assert failures
    for failure in failures:
        query = selector.replace("}", f', rank="{failure["rank"]}"}}') + f' | exception = "{failure["exception"]}"'
        merged = server.lines(query, *window())
        assert len(merged) == 1 and failure["first_line_substring"] in merged[0], merged


def window():
    return time.time_ns() - 3600 * NS, time.time_ns() + 600 * NS


def test_a_folder_of_files(serve, tmp_path):
    server, logs = serve("memory://"), tmp_path / "logs"
    logs.mkdir()
    scenario = "srun-label-8r"
    lines = [line[4] for line in samples.lines(scenario) if line[2] == "stderr"]
    (logs / "slurm-4711.out").write_text("".join(line + "\n" for line in lines))
    agent = Process([FLUENT_BIT, "-c", configured(tmp_path, server, logs, JOB="llama")], tmp_path / "agent.log")
    try:
        selector = '{app="dist-training", job="llama"}'

        def arrived():
            found = server.lines(selector, *window())
            parts = (part for line in found for part in line.split("\n"))
            # Of a progress bar's redraws the last one is left.
            return sorted(part.split("\r")[-1] for part in parts) == sorted(line.split("\r")[-1] for line in lines) and found

        found = wait_until(arrived, 30, f"all lines' arriving; Fluent Bit said:\n{agent.said()}")
        assert len(found) < len(lines), "nothing was merged"
        for failure in samples.truth(scenario)["failures"]:
            query = f'{{job="llama", rank="{failure["rank"]}"}} | exception = "{failure["exception"]}"'
            merged = server.lines(query, *window())
            assert len(merged) == 1 and failure["first_line_substring"] in merged[0], merged
        # What is written later, live, and held at the end of a traceback leaves with a tick.
        with (logs / "slurm-4711.out").open("a") as file:
            file.write("5: Traceback (most recent call last):\n5:   File \"a.py\", line 1, in <module>\n5: OSError: late\n")
        wait_until(lambda: server.lines('{rank="5"} | exception = "OSError"', *window()), 15, "the late traceback")
    finally:
        agent.stop()


def test_an_outage_of_the_server_loses_nothing(serve, tmp_path):
    server, logs = serve(), tmp_path / "logs"
    logs.mkdir()
    agent = Process([FLUENT_BIT, "-c", configured(tmp_path, server, logs)], tmp_path / "agent.log")
    second = None
    try:
        file = (logs / "train.log").open("w", buffering=1)
        file.write("line 0\n")
        wait_until(lambda: server.lines('{job="training"}', *window()) == ["line 0"], 30, "the first line")
        server.kill()
        file.writelines(f"line {n}\n" for n in range(1, 200))
        time.sleep(3)
        second = server.again()
        expected = sorted(f"line {n}" for n in range(200))
        wait_until(lambda: sorted(second.lines('{job="training"}', *window())) == expected, 90, "all lines' arriving")
    finally:
        agent.stop()
        if second:
            second.kill()


def test_an_agent_killed_in_the_middle_of_a_traceback_loses_nothing(serve, tmp_path):
    """kill -9 while the filter holds lines: after the restart the traceback goes on and is one record."""
    server, logs = serve(), tmp_path / "logs"
    logs.mkdir()
    config = configured(tmp_path, server, logs)
    spool = tmp_path / "state/rank_filter.spool"
    expected = []
    with (logs / "train.log").open("w", buffering=1) as file:
        def say(*lines):
            file.writelines(line + "\n" for line in lines)
            expected.extend(lines)

        for round in range(3):
            agent = Process([FLUENT_BIT, "-c", config], tmp_path / "agent.log")
            try:
                say(f"step {round}")
                say(*(f"[rank{rank}]: Traceback (most recent call last):" for rank in range(4)))
                say(*(f'[rank{rank}]:   File "a.py", line {round}, in f' for rank in range(4)))
                wait_until(lambda: spool.exists() and spool.stat().st_size > 0, 20, "lines' being held")
                # The tail input notes what it has read right after the filter saw it.
                time.sleep(0.3)
            finally:
                agent.kill()
            assert spool.stat().st_size > 0, "the agent was killed too late: nothing was held any more"
            say(*(f"[rank{rank}]: ValueError: {round}" for rank in range(4)))
            agent = Process([FLUENT_BIT, "-c", config], tmp_path / "agent.log")
            try:
                def arrived():
                    found = server.lines('{job="training"}', *window())
                    lines = [part for line in found for part in line.split("\n")]
                    return sorted(lines) == sorted(expected) and found

                found = wait_until(arrived, 30, f"all lines' arriving once; Fluent Bit said:\n{agent.said()}")
            finally:
                agent.kill()
            merged = [line for line in found if f"ValueError: {round}" in line]
            assert len(merged) == 4 and all(line.count("\n") == 2 for line in merged), merged


def test_slurm_output_files(serve, tmp_path):
    """Job and id from the file's name, ranks from srun's labels or from the name of a task's own file."""
    server, logs = serve("memory://"), tmp_path / "logs"
    logs.mkdir()
    scenario = "srun-label-8r"
    lines = [line[4] for line in samples.lines(scenario) if line[2] == "stderr"]
    (logs / "llama-70b-4711.err").write_text("".join(line + "\n" for line in lines))
    (logs / "eval-4712_3-rank05.out").write_text("one task, one file\n")
    agent = Process([FLUENT_BIT, "-c", configured(tmp_path, server, logs, "slurm")], tmp_path / "agent.log")
    try:
        found = arrive(server, '{app="dist-training", job="llama-70b"}', lines, agent)
        assert len(found) < len(lines), "nothing was merged"
        failures_are_whole(server, scenario, '{job="llama-70b"}')
        assert len(server.lines('{job="llama-70b"} | slurm_job_id = "4711"', *window())) == len(found)
        arrive(server, '{job="eval", rank="5"} | slurm_job_id = "4712"', ["one task, one file"], agent)
    finally:
        agent.stop()


def test_docker_log_files(serve, tmp_path):
    server, containers = serve("memory://"), tmp_path / "containers"
    scenario, id = "one-rank-uncaught-4r", "4f" * 32
    (containers / id).mkdir(parents=True)
    lines = [(ns, stream, text) for ns, tag, stream, logtag, text, _ in recent(scenario)]
    long = "x" * 40_000
    attrs = {"tag": "trainer", "app": "dist-training", "job": "llama"}
    with (containers / id / f"{id}-json.log").open("w") as file:
        def write(ns, stream, log):
            file.write(json.dumps({"log": log, "stream": stream, "attrs": attrs, "time": written(ns)}) + "\n")

        for ns, stream, text in lines:
            write(ns, stream, text + "\n")
        # Docker cuts at 16 KiB.
        for part in (long[:16384], long[16384:32768], long[32768:] + "\n"):
            write(ns + 1000, "stdout", part)
    config = placed(tmp_path, "docker", {"/var/lib/docker/containers": containers})
    env = {"RANKLINE_HOST": "127.0.0.1", "RANKLINE_PORT": str(server.port), "NODE_NAME": "gpu-node-0"}
    agent = Process([FLUENT_BIT, "-c", config], tmp_path / "agent.log", env)
    try:
        selector = '{app="dist-training", job="llama", container="trainer", node="gpu-node-0"}'
        arrive(server, selector, [text for _, _, text in lines] + [long], agent)
        failures_are_whole(server, scenario, '{job="llama"}')
    finally:
        agent.stop()


def test_kubernetes_container_logs(serve, tmp_path):
    """The DaemonSet's configuration; what it would ask the kubelet stands in files that its filter reads first."""
    server, logs, pods = serve("memory://"), tmp_path / "containers", tmp_path / "pods"
    logs.mkdir()
    pods.mkdir()
    scenario = "one-rank-uncaught-4r"
    by_tag = {}
    for ns, tag, stream, logtag, text, kubernetes in recent(scenario):
        by_tag.setdefault(tag, []).append((ns, stream, logtag, text, kubernetes))
    whole, part = [], ""
    for tag, lines in by_tag.items():
        kubernetes = lines[0][4]
        name = tag.removeprefix("kube.var.log.containers.")
        with (logs / name).open("w") as file:
            for ns, stream, logtag, text, _ in lines:
                file.write(f"{written(ns)} {stream} {logtag} {text}\n")
                part += text
                if logtag == "F":
                    whole.append(part)
                    part = ""
        pod, namespace = kubernetes["pod_name"], kubernetes["namespace_name"]
        metadata = {"name": pod, "namespace": namespace, "uid": "7f1b", "labels": kubernetes["labels"],
                    "annotations": kubernetes.get("annotations", {})}  # fmt: skip
        # A list, as the kubelet answers.
        listed = {"kind": "PodList", "items": [{"metadata": metadata, "spec": {"nodeName": "gpu-node-0"}, "status": {}}]}
        (pods / f"{namespace}_{pod}.meta").write_text(json.dumps(listed))
    config = placed(tmp_path, "kubernetes", {
        "kube_tag_prefix: kube.var.log.containers.": f"kube_tag_prefix: kube.{str(logs).strip('/').replace('/', '.')}.\n"
                                                     f"      kube_meta_preload_cache_dir: {pods}",
        "/var/log/containers/": f"{logs}/",
    })  # fmt: skip
    env = {"RANKLINE_HOST": "127.0.0.1", "RANKLINE_PORT": str(server.port), "NODE_NAME": "127.0.0.1"}
    agent = Process([FLUENT_BIT, "-c", config], tmp_path / "agent.log", env)
    try:
        arrive(server, f'{{namespace="{namespace}", job!=""}}', whole, agent)
        failures_are_whole(server, scenario, f'{{namespace="{namespace}"}}')
    finally:
        agent.stop()
