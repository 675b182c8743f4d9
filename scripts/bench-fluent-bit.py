#!/usr/bin/env python3
"""bench-fluent-bit.py [--lines N] [--corpus FOLDER] [--aot MODULE.aot]: what a line costs in the real Fluent Bit.

tail → filter → null, with no filter, the identity module, rank_filter.wasm and the built-in multiline filter; user CPU seconds of the
process, the best of some runs, the start taken off. The filter's own cost is the difference to the run without a filter; the ratio is
its cost to the identity module's, which is what the calling convention alone costs. FLUENT_BIT names the program, or it is on PATH;
without it this says so and ends. Needs `make wasm` and `scripts/build-wasm.sh --identity`. Standard library only.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import filter_lines

ROOT = pathlib.Path(__file__).resolve().parent.parent
WASM = "[FILTER]\n    Name wasm\n    Match *\n    Event_Format json\n    WASM_Path {path}\n    Function_Name rank_filter\n    Accessible_Paths {folder}\n"
MULTILINE = "[FILTER]\n    Name multiline\n    Match *\n    multiline.key_content log\n    multiline.parser python\n"
PARSERS = "[PARSER]\n    Name lines\n    Format json\n"
SERVICE = "[SERVICE]\n    Flush 0.2\n    Grace 1\n    Log_Level error\n    Parsers_File {parsers}\n"
TAIL = ("[INPUT]\n    Name tail\n    Tag kube.train\n    Path {lines}\n    Read_from_Head on\n    Exit_On_Eof on\n"
        "    Buffer_Chunk_Size 1M\n    Buffer_Max_Size 8M\n{parser}")
OUTPUT = "[OUTPUT]\n    Name null\n    Match *\n"


def write_lines(kind, count, corpus, path):
    """The kind's lines as a file for the tail input; records with metadata as JSON, the rest as they are printed."""
    records = filter_lines.corpus_records(corpus, count) if kind == "mlperf" else filter_lines.records(kind, count)
    as_json = kind in ("pod", "job")
    with open(path, "w", encoding="utf-8") as file:
        for _, _, record in records:
            file.write((json.dumps(record, ensure_ascii=False) if as_json else record["log"].replace("\n", " ")) + "\n")
    return "    Parser lines\n" if as_json else ""


def user_seconds(program, config):
    """User CPU seconds of one run."""
    with tempfile.TemporaryDirectory() as folder:
        # The module may reach the folder that it is started in: what it spools there must not meet the next run.
        process = subprocess.Popen([program, "-c", str(config)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or b"error" in errors.lower():
        sys.exit(f"bench-fluent-bit: exit status {process.returncode}: {errors.decode(errors='replace')[-600:]}")
    return usage.ru_utime


def measure(program, work, filters, lines, parser, rounds):
    """Best user CPU seconds by filter; the filters take turns, so that all see the same machine."""
    best = dict.fromkeys(filters, float("inf"))
    for _ in range(rounds):
        for name, text in filters.items():
            config = work / "bench.conf"
            config.write_text(SERVICE.format(parsers=work / "parsers.conf") + TAIL.format(lines=lines, parser=parser) + text + OUTPUT)
            best[name] = min(best[name], user_seconds(program, config))
    return best


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--lines", type=int, default=200_000, help="lines of each kind (long ones: a tenth)")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--kinds", default="json,text,pod,long,rank,mix,level,job,bars,traceback")
    options.add_argument("--without-spool", action="store_true", help="give the modules no folder that they could write to")
    options.add_argument("--corpus", help="folder of unpacked MLPerf result logs: measured as a kind of its own")
    options.add_argument("--aot", help="the filter compiled by flb-wamrc: measured too")
    options = options.parse_args()
    program = os.environ.get("FLUENT_BIT") or shutil.which("fluent-bit")
    if not program:
        print("skipped: no Fluent Bit here; set FLUENT_BIT or put fluent-bit on PATH")
        return
    filters = {"none": "", "multiline": MULTILINE}
    modules = {"identity": ROOT / "dist/identity.wasm", "rank_filter": ROOT / "dist/rank_filter.wasm"}
    if options.aot:
        modules["aot"] = pathlib.Path(options.aot).resolve()
    for name, path in modules.items():
        if not path.is_file():
            sys.exit(f"bench-fluent-bit: no {path}; run `make wasm` and `scripts/build-wasm.sh --identity`")
        # The module keeps what it holds in the folder that Fluent Bit is started in, unless it gets one that takes no files.
        filters[name] = WASM.format(path=path, folder="/proc/self/fdinfo" if options.without_spool else ".")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
    print(f"{version}, user CPU microseconds a line beyond the run without a filter; in brackets: times the identity module's\n")
    shown = [name for name in filters if name not in ("none", "identity")]
    print(f"| kind | no filter, all of it | identity | {' | '.join(shown)} |\n|---|---|---|{'---|' * len(shown)}")
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        (work / "parsers.conf").write_text(PARSERS)
        empty = work / "empty"
        empty.write_text("\n")
        start = measure(program, work, filters, empty, "", options.rounds)
        for kind in options.kinds.split(",") + (["mlperf"] if options.corpus else []):
            count = options.lines // 10 if kind == "long" else options.lines
            lines = work / "lines.log"
            parser = write_lines(kind, count, options.corpus, lines)
            count = lines.read_bytes().count(b"\n")
            best = measure(program, work, filters, lines, parser, options.rounds)
            each = {name: (best[name] - start[name]) * 1e6 / count for name in filters}
            cost = {name: each[name] - each["none"] for name in filters}
            cells = [f"{cost[name]:.2f} ({cost[name] / max(cost['identity'], 0.01):.2f})" for name in shown]
            print(f"| {kind} | {each['none']:.2f} | {cost['identity']:.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
