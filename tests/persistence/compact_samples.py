"""Builders of the old and compact layouts, for tests that feed them to readers (ours and Redis's)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from cluster.persistence import listpack
from cluster.persistence.rdb_format import encode_length, encode_string


def ziplist(entries: Sequence[bytes | int]) -> bytes:
    """A ziplist; ints become integer entries of the narrowest width."""
    body = bytearray()
    previous = 0
    tail = 10
    for entry in entries:
        tail = 10 + len(body)
        start = len(body)
        body += bytes((previous,)) if previous < 254 else b"\xfe" + struct.pack("<I", previous)
        body += _ziplist_integer(entry) if isinstance(entry, int) else _ziplist_string(entry)
        previous = len(body) - start
    return struct.pack("<IIH", 11 + len(body), tail, min(len(entries), 65535)) + bytes(body) + b"\xff"


def _ziplist_integer(number: int) -> bytes:
    if 0 <= number <= 12:
        return bytes((0xF1 + number,))
    for code, width in ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8)):
        if -(1 << (8 * width - 1)) <= number < 1 << (8 * width - 1):
            return bytes((code,)) + number.to_bytes(width, "little", signed=True)
    raise OverflowError(number)


def _ziplist_string(text: bytes) -> bytes:
    if len(text) < 64:
        return bytes((len(text),)) + text
    if len(text) < 16384:
        return bytes((0x40 | len(text) >> 8, len(text) & 0xFF)) + text
    return b"\x80" + struct.pack(">I", len(text)) + text


def zipmap(pairs: Sequence[tuple[bytes, bytes]], unused: int = 0) -> bytes:
    """A zipmap, with ``unused`` bytes after every value."""
    body = bytearray((min(len(pairs), 254),))
    for field, value in pairs:
        body += _zipmap_length(field) + field + _zipmap_length(value) + bytes((unused,)) + value + bytes(unused)
    return bytes(body) + b"\xff"


def _zipmap_length(text: bytes) -> bytes:
    return bytes((len(text),)) if len(text) < 254 else b"\xfe" + struct.pack("<I", len(text))


def stored(blob: bytes) -> bytes:
    """A structure as the string that holds it in a file."""
    return encode_string(blob, compress=False)


StreamEntry = tuple[tuple[int, int], list[tuple[bytes, bytes]], bool]
"""(id, fields and values, deleted)"""


def stream_node(master: tuple[int, int], fields: list[bytes], entries: Sequence[StreamEntry]) -> bytes:
    """One node: its id and its listpack, as they stand in a file."""
    live = sum(not deleted for _id, _pairs, deleted in entries)
    items = [b"%d" % live, b"%d" % (len(entries) - live), b"%d" % len(fields), *fields, b"0"]
    for entry_id, pairs, deleted in entries:
        same = [field for field, _value in pairs] == fields
        one = [
            b"%d" % (deleted | same << 1),
            b"%d" % (entry_id[0] - master[0]),
            b"%d" % (entry_id[1] - master[1]),
        ]
        if same:
            one += [value for _field, value in pairs]
        else:
            one += [b"%d" % len(pairs), *(item for pair in pairs for item in pair)]
        items += [*one, b"%d" % len(one)]
    raw_id = struct.pack(">QQ", *master)
    return stored(raw_id) + stored(listpack.encode(items))


def stream(nodes: Sequence[bytes], length: int, *numbers: int, groups: Sequence[bytes] = ()) -> bytes:
    """A stream of nodes made by :func:`stream_node`; ``numbers`` are what follows the length in the version at hand."""
    return b"".join(
        (
            encode_length(len(nodes)),
            *nodes,
            encode_length(length),
            *map(encode_length, numbers),
            encode_length(len(groups)),
            *groups,
        )
    )
