"""LZF, the compression of strings inside RDB files and DUMP payloads.

Format      A control byte ``000LLLLL`` announces L+1 literal bytes; ``LLLooooo oooooooo`` copies L+2 bytes from
            o+1 bytes back; ``111ooooo LLLLLLLL oooooooo`` copies L+9 bytes. Lengths reach 264, distances 8192.
            The uncompressed length is stored outside. Redis: lzf_c.c, lzf_d.c.
Invariants  :func:`decompress` never produces more than the stated length and never believes a length that the
            compressed bytes could not reach (a copy of 264 bytes costs 3), so memory is bounded by the input.
Cost        Pure Python: decompress 15-50 MB/s, compress 4-8 MB/s on text. On bytes that do not repeat, the search
            takes growing steps, as LZ4 does (100 MB/s).
"""

from __future__ import annotations

import struct
from typing import Final

from cluster.errors import RdbError

MAX_LITERAL_RUN: Final = 32
MAX_DISTANCE: Final = 8192
MAX_COPY: Final = 264
MAX_EXPANSION: Final = MAX_COPY // 3

_STEP_SHIFT: Final = 6
"""After 2**6 fruitless positions the search moves by two, after twice as many by three …"""
_TABLE_MAX_ENTRIES: Final = 1 << 16
"""The table is dropped at this size: older positions are out of reach anyway, and memory stays bounded."""
_QUICK_LOOK_MAX_BYTES: Final = 512
"""Strings up to this long are first searched for any repetition at all, which costs a quarter of compressing them."""


def decompress(data: bytes, length: int) -> bytes:
    """The ``length`` bytes that ``data`` stands for; RdbError when it stands for anything else."""
    size = len(data)
    if length > size * MAX_EXPANSION:
        raise RdbError("stated length is out of reach")
    out = bytearray()
    position = 0
    filled = 0
    try:
        while position < size:
            control = data[position]
            position += 1
            if control < 32:
                run = control + 1
                end = position + run
                filled += run
                if end > size or filled > length:
                    raise RdbError("literal run leaves the buffer")
                out += data[position:end]
                position = end
                continue
            count = (control >> 5) + 2
            if count == 9:
                count += data[position]
                position += 1
            start = filled - ((control & 0x1F) << 8) - data[position] - 1
            position += 1
            if start < 0:
                raise RdbError("copy from before the beginning")
            distance = filled - start
            filled += count
            if filled > length:
                raise RdbError("copy leaves the buffer")
            if distance >= count:
                out += out[start : start + count]
            else:  # The copy overlaps what it produces: the last ``distance`` bytes repeat.
                out += (out[start:] * (count // distance + 1))[:count]
    except IndexError:
        raise RdbError("compressed bytes end inside a copy") from None
    if filled != length:
        raise RdbError("shorter than stated")
    return bytes(out)


def compress(data: bytes, max_size: int) -> bytes | None:
    """``data`` compressed into at most ``max_size`` bytes, or None when it does not fit."""
    length = len(data)
    if length <= _QUICK_LOOK_MAX_BYTES and not _repeats_itself(data):
        return None
    out = bytearray()
    seen: dict[bytes, int] = {}
    literals_from = 0
    position = 0
    misses = 0
    last = length - 3
    while position <= last:
        trigram = data[position : position + 3]
        candidate = seen.get(trigram, -1)
        seen[trigram] = position
        distance = position - candidate
        if candidate < 0 or distance > MAX_DISTANCE:
            misses += 1
            position += 1 + (misses >> _STEP_SHIFT)
            continue
        misses = 0
        if literals_from < position:
            _emit_literals(out, data, literals_from, position)
        count = _match_length(data, candidate, position, min(MAX_COPY, length - position))
        offset = distance - 1
        if count < 9:
            out.append((count - 2) << 5 | offset >> 8)
        else:
            out.append(0xE0 | offset >> 8)
            out.append(count - 9)
        out.append(offset & 0xFF)
        if len(out) > max_size:
            return None
        position += count
        literals_from = position
        # Two of the skipped positions are remembered, as Redis's build of liblzf does: more costs more than it saves.
        seen[data[position - 2 : position + 1]] = position - 2
        seen[data[position - 1 : position + 2]] = position - 1
        if len(seen) > _TABLE_MAX_ENTRIES:
            seen.clear()
    _emit_literals(out, data, literals_from, length)
    return bytes(out) if len(out) <= max_size else None


def _repeats_itself(data: bytes) -> bool:
    """False when no four bytes occur twice (shorter copies save next to nothing)."""
    words = len(data) // 4 - 1
    if words <= 0:
        return False
    layout = f"<{words}I"
    seen = set(struct.unpack_from(layout, data))
    for shift in (1, 2, 3):
        seen.update(struct.unpack_from(layout, data, shift))
    return len(seen) < 4 * words


def _emit_literals(out: bytearray, data: bytes, start: int, end: int) -> None:
    while start < end:
        stop = min(start + MAX_LITERAL_RUN, end)
        out.append(stop - start - 1)
        out += data[start:stop]
        start = stop


def _match_length(data: bytes, earlier: int, later: int, limit: int) -> int:
    """How many bytes (at most ``limit``) from ``later`` on repeat those from ``earlier`` on; the first three do."""
    count = 3
    while (
        count + 16 <= limit and data[earlier + count : earlier + count + 16] == data[later + count : later + count + 16]
    ):
        count += 16
    while count < limit and data[earlier + count] == data[later + count]:
        count += 1
    return count
