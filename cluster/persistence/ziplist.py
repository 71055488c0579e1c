"""Ziplist: what listpacks replaced in Redis 7.0. Read only.

Layout      Little-endian total size and offset of the last entry (4 bytes each), count (2 bytes, 65535: count them),
            entries, 0xFF. An entry is the size of the previous one (1 byte, or 0xFE and 4 bytes), its encoding, its
            data. String lengths beyond 63 are big-endian, integers little-endian. Redis: ziplist.c.
Invariants  :func:`decode` accepts what Redis's deep check accepts, else raises RdbError; it copies nothing but the
            entries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import chain
from typing import Final

from cluster.errors import RdbError

_HEADER: Final = struct.Struct("<IIH")
_END: Final = 0xFF
_BIG_PREVIOUS: Final = 0xFE
_COUNT_UNKNOWN: Final = 0xFFFF
_INTEGER_WIDTHS: Final = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}
PORTION: Final = 1024


def decode(data: bytes) -> list[bytes]:
    """The entries, integers as their text."""
    parts = list(portions(data))
    return parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))


def portions(data: bytes) -> Iterator[list[bytes]]:
    """The same, up to PORTION entries at a time; damage may show after some of them."""
    size = len(data)
    if size < _HEADER.size + 1:
        raise RdbError("ziplist: no header")
    total, tail, count = _HEADER.unpack_from(data)
    last = size - 1
    if total != size or data[last] != _END or tail > last:
        raise RdbError("ziplist: header and size disagree")
    given_out = 0
    entries: list[bytes] = []
    position = _HEADER.size
    previous_size = 0
    previous_start = None
    try:
        while (first := data[position]) != _END:
            start = position
            if first == _BIG_PREVIOUS:
                claimed = int.from_bytes(data[position + 1 : position + 5], "little")
                position += 5
            else:
                claimed = first
                position += 1
            if claimed != previous_size:
                raise RdbError("ziplist: wrong size of the previous entry")
            entry, position = _decode_entry(data, position)
            if position > last:
                raise RdbError("ziplist: entry leaves the buffer")
            entries.append(entry)
            previous_size = position - start
            previous_start = start
            if len(entries) == PORTION:
                given_out += PORTION
                yield entries
                entries = []
    except (IndexError, KeyError):
        raise RdbError("ziplist: unknown encoding") from None
    if position != last or previous_start not in (None, tail):
        raise RdbError("ziplist: ends early, or its last entry is elsewhere")
    if count not in (_COUNT_UNKNOWN, given_out + len(entries)):
        raise RdbError("ziplist: wrong count")
    if entries:
        yield entries


def _decode_entry(data: bytes, position: int) -> tuple[bytes, int]:
    """The entry whose encoding stands at ``position``, and where it ends (perhaps beyond ``data``)."""
    encoding = data[position]
    if encoding < 0xC0:
        kind = encoding >> 6
        if kind == 0:
            start = position + 1
            end = start + (encoding & 0x3F)
        elif kind == 1:
            start = position + 2
            end = start + ((encoding & 0x3F) << 8 | data[position + 1])
        else:
            start = position + 5
            end = start + int.from_bytes(data[position + 1 : start], "big")
        return data[start:end], end
    if 0xF1 <= encoding <= 0xFD:
        return b"%d" % (encoding - 0xF1), position + 1
    end = position + 1 + _INTEGER_WIDTHS[encoding]
    return b"%d" % int.from_bytes(data[position + 1 : end], "little", signed=True), end
