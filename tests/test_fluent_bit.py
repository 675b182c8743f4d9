"""The real Fluent Bit with our .wasm: files → Fluent Bit → rankline → query. Where it is installed, or FLUENT_BIT names it."""

import os
import re
import shutil
import time

import pytest
import samples
from support import NS, ROOT, WASM, Process, wait_until

FLUENT_BIT = os.environ.get("FLUENT_BIT") or shutil.which("fluent-bit")

pytestmark = pytest.mark.skipif(
    not FLUENT_BIT, reason="fluent-bit is not on PATH and FLUENT_BIT is not set: the real agent was not tested"
)


def configured(tmp_path, server, logs, **env):
    """The shipped configuration for a folder, with its `env` section filled in."""
    text = (ROOT / "fluent-bit/folder/fluent-bit.yaml").read_text()
    state = tmp_path / "state"
    state.mkdir()
    values = {
        "LOGS": logs, "WASM": WASM, "CONFIG": ROOT / "fluent-bit/folder", "STATE": state,
        "RANKLINE_PORT": server.port, **env,
    }  # fmt: skip
    for name, value in values.items():
        text, found = re.subn(rf"^  {name}: .*$", f"  {name}: {value}", text, flags=re.MULTILINE)
        assert found == 1, f"{name} is not in the configuration's env section"
    path = tmp_path / "fluent-bit.yaml"
    path.write_text(text)
    return path


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
