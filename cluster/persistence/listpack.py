"""Listpack: the compact form of small lists, hashes, sorted sets, and of the nodes of big lists and streams.

Layout      Little-endian total size (4 bytes) and count (2 bytes, 65535: count them), entries, 0xFF. An entry is its
            encoding, its data, and the length of both written backwards in groups of seven bits. Redis: listpack.c.
Invariants  :func:`decode` accepts what Redis's deep check accepts, else raises RdbError (DeepDamage where Redis's other
            check sees nothing); it copies nothing but the entries, and integers of up to 13 bits share their texts.
            :func:`encode` writes the same bytes as Redis does for the same entries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from cluster.errors import DeepDamage, RdbError

_HEADER: Final = struct.Struct("<IH")
_END: Final = 0xFF
_COUNT_UNKNOWN: Final = 0xFFFF
_INT64_TEXT_MAX_BYTES: Final = 20
# Bytes of data for the encodings 0xF1 … 0xF4: signed integers.
_INTEGER_WIDTHS: Final = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}
PORTION: Final = 1024
_TEXTS_7: Final = [b"%d" % number for number in range(0x80)]
_TEXTS_13: Final[dict[int, bytes]] = {}
"""The texts of those integers of 13 bits that have been read; 8192 at most."""


def decode(data: bytes) -> list[bytes]:
    """The entries, integers as their text."""
    parts = list(portions(data))
    return parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))


def portions(data: bytes) -> Iterator[list[bytes]]:
    """The same, up to PORTION entries at a time; damage may show after some of them."""
    size = len(data)
    if size < _HEADER.size + 1:
        raise RdbError("listpack: no header")
    total, count = _HEADER.unpack_from(data)
    if total != size or data[-1] != _END:
        raise RdbError("listpack: header and size disagree")
    last = size - 1
    given_out = 0
    entries: list[bytes] = []
    position = _HEADER.size
    try:
        while (first := data[position]) != _END:
            if first < 0x80:
                entry = _TEXTS_7[first]
                end = position + 1
            elif first < 0xC0:
                end = position + 1 + (first & 0x3F)
                entry = data[position + 1 : end]
            elif first < 0xE0:
                number = (first & 0x1F) << 8 | data[position + 1]
                shared = _TEXTS_13.get(number)
                if shared is None:
                    shared = _TEXTS_13[number] = b"%d" % (number - 0x2000 if number >= 0x1000 else number)
                entry = shared
                end = position + 2
            elif first < 0xF0:
                end = position + 2 + ((first & 0x0F) << 8 | data[position + 1])
                entry = data[position + 2 : end]
            elif first == 0xF0:
                end = position + 5 + int.from_bytes(data[position + 1 : position + 5], "little")
                entry = data[position + 5 : end]
            else:
                end = position + 1 + _INTEGER_WIDTHS[first]
                entry = b"%d" % int.from_bytes(data[position + 1 : end], "little", signed=True)
            entry_size = end - position
            if entry_size < 128:
                following = end + 1
                agree = following <= last and data[end] == entry_size
            else:
                back_length = _back_length(entry_size)
                following = end + len(back_length)
                agree = following <= last and data[end:following] == back_length
            if not agree:
                raise DeepDamage("listpack: entry leaves the buffer or its two lengths disagree", data)
            entries.append(entry)
            position = following
            if len(entries) == PORTION:
                given_out += PORTION
                yield entries
                entries = []
    except (IndexError, KeyError):
        raise DeepDamage("listpack: unknown encoding", data) from None
    if position != last:
        raise DeepDamage("listpack: ends early", data)
    if count not in (_COUNT_UNKNOWN, given_out + len(entries)):
        raise DeepDamage("listpack: wrong count", data)
    if entries:
        yield entries


def encode(entries: Iterable[bytes]) -> bytes:
    """A listpack of ``entries``."""
    parts: list[bytes] = []
    for entry in entries:
        encoded = encode_entry(entry)
        parts += (encoded, _back_length(len(encoded)))
    body = b"".join(parts)
    total = _HEADER.size + len(body) + 1
    return b"".join((_HEADER.pack(total, min(len(parts) // 2, _COUNT_UNKNOWN)), body, b"\xff"))


def encode_entry(entry: bytes) -> bytes:
    """One entry without its backward length: a canonical integer text becomes an integer."""
    size = len(entry)
    if 0 < size <= _INT64_TEXT_MAX_BYTES and (entry[1:] if entry[0] == 0x2D else entry).isdigit():
        number = int(entry)
        if -(1 << 63) <= number < 1 << 63 and b"%d" % number == entry:
            return _encode_integer(number)
    if size < 64:
        return bytes((0x80 | size,)) + entry
    if size < 4096:
        return bytes((0xE0 | size >> 8, size & 0xFF)) + entry
    return b"\xf0" + size.to_bytes(4, "little") + entry


def _encode_integer(number: int) -> bytes:
    if 0 <= number <= 0x7F:
        return bytes((number,))
    if -0x1000 <= number <= 0xFFF:
        number &= 0x1FFF
        return bytes((0xC0 | number >> 8, number & 0xFF))
    for first, width in _INTEGER_WIDTHS.items():
        if -(1 << (8 * width - 1)) <= number < 1 << (8 * width - 1):
            return bytes((first,)) + number.to_bytes(width, "little", signed=True)
    raise OverflowError(number)


def _back_length(size: int) -> bytes:
    """``size`` so that it can be read from its last byte to its first: high groups first, continued ones marked."""
    if size < 128:
        return bytes((size,))
    # Redis's limits are one lower than seven bits per byte would allow; its deep check insists on the width.
    width = 2 if size < 16383 else 3 if size < 2097151 else 4 if size < 268435455 else 5
    groups = [size >> 7 * group & 0x7F | 0x80 for group in reversed(range(width))]
    groups[0] &= 0x7F
    return bytes(groups)
