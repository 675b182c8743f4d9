#!/usr/bin/env python3
"""check-wasm.py MODULE: says what Fluent Bit would miss in a filter module. Exit status 1 when something is missing."""
import sys

from leb128 import number

NEEDED = {"rank_filter": 0, "malloc": 0, "free": 0, "_initialize": 0, "memory": 2}  # 0: function, 2: memory
WASI = "wasi_snapshot_preview1"
MAX_BYTES = 300_000  # an agent loads it on every node, and reads all of it before the first line


def name(data, at):
    length, at = number(data, at)
    return data[at:at + length].decode(), at + length


def sections(data):
    at = 8
    while at < len(data):
        kind = data[at]
        length, at = number(data, at + 1)
        yield kind, data[at:at + length]
        at += length


def main(path):
    data = open(path, "rb").read()
    if data[:4] != b"\0asm":
        sys.exit(f"check-wasm: {path} is no WebAssembly module")
    if len(data) > MAX_BYTES:
        sys.exit(f"check-wasm: {path} has {len(data)} bytes; at most {MAX_BYTES} are allowed")
    exports, imports = {}, []
    for kind, body in sections(data):
        count, at = number(body, 0) if kind in (2, 7) else (0, 0)
        for _ in range(count):
            if kind == 7:
                exported, at = name(body, at)
                exports[exported] = body[at]
                _, at = number(body, at + 1)
            else:
                module, at = name(body, at)
                field, at = name(body, at)
                if body[at] != 0:
                    sys.exit(f"check-wasm: {path} imports {module}.{field}, which is no function")
                _, at = number(body, at + 1)
                imports.append((module, field))
    missing = [n for n, kind in NEEDED.items() if exports.get(n) != kind]
    foreign = [f"{m}.{f}" for m, f in imports if m != WASI]
    if missing or foreign:
        sys.exit(f"check-wasm: {path}: missing exports {missing}, imports that Fluent Bit lacks {foreign}")


if __name__ == "__main__":
    main(sys.argv[1])
