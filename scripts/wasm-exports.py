#!/usr/bin/env python3
"""wasm-exports.py MODULE OLD=NEW…: renames exported functions of a WebAssembly module, in place.

The linker exports a function under its symbol's name only, and the C library in the module has symbols `malloc` and `free` already.
"""
import sys

from leb128 import number


def encoded(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def renamed(exports, names):
    """The export section with its names replaced; each name must be there."""
    count, at = number(exports, 0)
    out, left = bytearray(encoded(count)), dict(names)
    for _ in range(count):
        length, at = number(exports, at)
        name = exports[at:at + length].decode()
        start, at = at + length, at + length + 1
        _, at = number(exports, at)
        new = left.pop(name, name).encode()
        out += encoded(len(new)) + new + exports[start:at]
    if left:
        sys.exit(f"wasm-exports: not exported: {', '.join(left)}")
    return bytes(out)


def main(path, *names):
    names = dict(name.split("=") for name in names)
    data = open(path, "rb").read()
    out, at = bytearray(data[:8]), 8
    while at < len(data):
        kind = data[at]
        length, start = number(data, at + 1)
        body, at = data[start:start + length], start + length
        if kind == 7:
            body = renamed(body, names)
        out += bytes([kind]) + encoded(len(body)) + body
    with open(path, "wb") as file:
        file.write(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
