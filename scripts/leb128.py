"""Numbers as WebAssembly modules write them."""


def number(data, at):
    """An unsigned LEB128 number and the position behind it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
