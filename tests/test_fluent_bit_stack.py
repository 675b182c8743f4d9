"""The filter's deepest calls in the real Fluent Bit with the operand stack that it gives a module by default, 8 KiB.

Of a call that needs more, Fluent Bit logs an exception and loses the record. The shipped configurations ask for more, but who
writes one of their own may not know. No server: Fluent Bit writes what leaves the filter into a file.
"""

import itertools
import json
import os
import random
import shutil

import filter_lines
import pytest
import samples
from support import SHARED, WASM, Process, wait_until

FLUENT_BIT = os.environ.get("FLUENT_BIT") or shutil.which("fluent-bit")

pytestmark = pytest.mark.skipif(
    not FLUENT_BIT, reason="fluent-bit is not on PATH and FLUENT_BIT is not set: the real agent's stack was not tested"
)

CONFIG = """
[SERVICE]
    Flush 0.2
    Grace 1
    Log_Level error
[INPUT]
    Name tail
    Path {logs}/*.log
    Tag job.*
    Read_from_Head on
    Buffer_Max_Size 8M
[INPUT]
    Name dummy
    Tag rankline.tick
    Dummy {{}}
    Rate 50
[FILTER]
    Name wasm
    Match *
    Event_Format json
    WASM_Path {wasm}
    Function_Name rank_filter
    Accessible_Paths {state}
[OUTPUT]
    Name file
    Match *
    File {out}
    Format plain
"""


def sources():
    """Lines that ask the filter for what it can, by the name of their file."""
    found = {name: [line[4] for line in samples.lines(name)] for name in samples.scenarios()}
    found["tracebacks"] = list(itertools.islice(filter_lines.interleaved(random.Random(8)), 3000))
    found["mix"] = list(itertools.islice(filter_lines.mixed(random.Random(8)), 1000))
    # The filter's cases, where they stand beside the repository.
    for path in sorted(SHARED.glob("filter-cases/*/input.jsonl")):
        records = [json.loads(line)["record"] for line in path.read_text().splitlines()]
        found[path.parent.name] = [str(record.get("log", "")) for record in records]
    return {name: [part for line in lines for part in line.split("\n") if part.strip()] for name, lines in found.items()}


def shown(line):
    """The line as it leaves, whether its bar's redraws were left out or not: the last one that is no blank."""
    return [part for part in line.split("\r") if part.strip()][-1]


def test_no_call_needs_more_than_the_stack_that_modules_get_by_default(tmp_path):
    logs, state, out = (tmp_path / name for name in ("logs", "state", "out.txt"))
    logs.mkdir()
    state.mkdir()
    lines = sources()
    for name, of_file in lines.items():
        (logs / f"{name}.log").write_text("".join(line + "\n" for line in of_file))
    expected = sorted(shown(line) for of_file in lines.values() for line in of_file)
    config = tmp_path / "fluent-bit.conf"
    config.write_text(CONFIG.format(logs=logs, state=state, wasm=WASM, out=out))
    agent = Process([FLUENT_BIT, "-c", config], tmp_path / "agent.log")
    try:

        def lines_that_left():
            records = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
            return sorted(shown(part) for record in records for part in record["log"].split("\n") if part.strip())

        def exceptions():
            return [line for line in (tmp_path / "agent.log").read_text().splitlines() if "Got exception" in line]

        wait_until(lambda: exceptions() or len(lines_that_left()) >= len(expected), 60, "all lines' leaving the filter")
        assert exceptions() == []
        assert lines_that_left() == expected
    finally:
        agent.stop()
