"""`rankline filter`: the .wasm and the built-in filter give the same bytes, and lose nothing."""

import json
import re
import subprocess
import sys

import pytest
import samples
from support import BINARY, ROOT, SHARED, WASM, jsonl, run


def test_wasm_and_native_are_byte_identical(filtered):
    raw, from_wasm, _ = filtered
    native = run("filter", stdin="\n".join(raw) + "\n", timeout=300).stdout
    assert native == from_wasm


def test_nothing_is_lost_doubled_or_reordered(filtered):
    """Lines of each key (tag, stream) come out in order; bars may be reduced to their last redraw, parts be joined."""
    raw, from_wasm, _ = filtered

    def keyed(records):
        lines = {}
        for tag, record in records:
            key = (tag, record.get("stream"))
            lines.setdefault(key, []).append(record)
        return lines

    before = keyed((r["tag"], r["record"]) for r in map(json.loads, raw))
    after = keyed((r["tag"], r) for r in jsonl(from_wasm))
    assert before.keys() == after.keys()
    for key, records in before.items():
        whole, part = [], ""
        for record in records:
            part += record["log"]
            if record["logtag"] == "F":
                whole.append(part)
                part = ""
        came = [line for record in after[key] for line in record["log"].split("\n")]
        reduced = [last_redraw(line) for line in whole]
        assert sorted(map(last_redraw, came)) == sorted(reduced), key


def last_redraw(line):
    parts = [part for part in line.split("\r") if part]
    return parts[-1] if parts else ""


def test_what_the_filter_does_not_understand_passes_unchanged():
    given = [
        {"tag": "x", "sec": 1, "nsec": 2, "record": {"n": 1, "deep": {"a": [1, 2.5, None, True]}, "text": "ü\u0000\n"}},
        {"tag": "x", "sec": 1, "nsec": 3, "record": {"log": 5}},
        {"tag": "x", "sec": 1, "nsec": 4, "record": {}},
    ]
    for engine in ((), ("--wasm", WASM)):
        done = run("filter", *engine, stdin="".join(json.dumps(r) + "\n" for r in given))
        came = jsonl(done.stdout)
        assert [{k: v for k, v in r.items() if k not in ("tag", "sec", "nsec")} for r in came] == [
            r["record"] for r in given
        ]


def floor(name):
    """The number of passed cases that is already reached; a change may only raise it."""
    text = (ROOT / "tests" / f"{name}-floor.txt").read_text()
    return int(re.search(r"^(\d+)", text, re.MULTILINE).group(1))


def test_filter_cases(tmp_path):
    folder = SHARED / "filter-cases"
    if not (folder / "score.py").is_file():
        pytest.skip(f"{folder} is not here: the filter's cases were not scored")
    command = f"{BINARY} filter --wasm {WASM}"
    done = subprocess.run(
        [sys.executable, folder / "score.py", folder, "--cmd", command, "--jobs", "2", "-q"],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    passed, failed = map(int, re.findall(r"(\d+) passed, (\d+) failed", done.stdout)[-1])
    print(done.stdout)
    assert passed >= floor("filter-cases"), f"{passed} cases pass, {floor('filter-cases')} did before\n{done.stdout}"


def test_samples_are_in_order():
    names = samples.scenarios()
    assert len(names) >= 6 and all(samples.truth(name)["files"] for name in names)
