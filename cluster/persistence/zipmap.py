"""Zipmap: the compact hash of Redis 2.4 and older. Read only.

Layout      A count byte (254: count them), then field length, field, value length, a byte that counts unused bytes
            after the value, value, unused bytes; 0xFF at the end. A length is one byte, or 0xFE and four. Redis:
            zipmap.c.
Invariants  :func:`decode` accepts what Redis's deep check accepts, else raises RdbError.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

from cluster.errors import RdbError

_END: Final = 0xFF
_BIG: Final = 0xFE


PORTION: Final = 1024


def decode(data: bytes) -> list[bytes]:
    """Fields and values in turn; never none."""
    return list(chain.from_iterable(portions(data)))


def portions(data: bytes) -> Iterator[list[bytes]]:
    """The same, up to PORTION of them at a time; damage may show after some of them."""
    size = len(data)
    last = size - 1
    if size < 2 or data[last] != _END:
        raise RdbError("zipmap: no header or no end")
    items: list[bytes] = []
    given_out = 0
    position = 1
    try:
        while data[position] != _END:
            length, position = _decode_length(data, position)
            items.append(data[position : position + length])
            position += length
            length, position = _decode_length(data, position)
            unused = data[position]
            position += 1
            items.append(data[position : position + length])
            position += length + unused
            if position > last:
                raise RdbError("zipmap: entry leaves the buffer")
            if len(items) == PORTION:
                given_out += PORTION
                yield items
                items = []
    except IndexError:
        raise RdbError("zipmap: ends inside an entry") from None
    count = (given_out + len(items)) // 2
    if position != last or count == 0 or data[0] not in (_BIG, count):
        raise RdbError("zipmap: wrong count or ends early")
    if items:
        yield items


def _decode_length(data: bytes, position: int) -> tuple[int, int]:
    first = data[position]
    if first == _END:
        raise RdbError("zipmap: end mark instead of a length")
    if first != _BIG:
        return first, position + 1
    if position + 5 > len(data):
        raise IndexError(position)
    return int.from_bytes(data[position + 1 : position + 5], "little"), position + 5
