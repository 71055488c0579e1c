"""LZF, the compression of strings inside RDB files and DUMP payloads.

Format      A control byte ``000LLLLL`` announces L+1 literal bytes; ``LLLooooo oooooooo`` copies L+2 bytes from
            o+1 bytes back; ``111ooooo LLLLLLLL oooooooo`` copies L+9 bytes. Lengths reach 264, distances 8192.
            The uncompressed length is stored outside. Redis: lzf_c.c, lzf_d.c.
Invariants  :func:`decompress` never produces more than the stated length and never believes a length that the
            compressed bytes could not reach (a copy of 264 bytes costs 3), so memory is bounded by the input.
Cost        Interpreted: decompress 15-50 MB/s, compress 4-8 MB/s on text; compiled, compress 50 MB/s. On bytes that do
            not repeat, the search takes growing steps, as LZ4 does (100 MB/s).
Two ways    Interpreted code looks three bytes up in a dict, compiled code computes a place in a table from them, as
            liblzf does: each is several times quicker than the other in its build. What they write differs a little.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from cluster.errors import RdbError

if TYPE_CHECKING:
    from mypy_extensions import i64  # A machine integer, once compiled.

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


IS_COMPILED: Final = not __file__.endswith(".py")
_PLACES: Final = 1 << 12
_CONTROLS: Final = [bytes((number,)) for number in range(256)]


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
    return compress_by_table(data, max_size) if IS_COMPILED else compress_by_dict(data, max_size)


def compress_by_dict(data: bytes, max_size: int) -> bytes | None:
    """:func:`compress` of interpreted code."""
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


class _Table:
    """Where in the data some three bytes were seen last, by a hash of them; ``used`` is added to every position.

    Each call begins behind the positions of the one before, whose entries are thereby too far back, and need not be
    wiped out.
    """

    __slots__ = ("places", "used")

    def __init__(self) -> None:
        self.places: list[int] = [0] * _PLACES
        self.used = 1


_TABLE: Final = _Table()


def compress_by_table(data: bytes, max_size: int) -> bytes | None:
    """:func:`compress` of the compiled build."""
    length: i64 = len(data)
    allowed: i64 = max_size
    base: i64 = _TABLE.used
    _TABLE.used = base + length
    places = _TABLE.places
    out: list[bytes] = []
    size: i64 = 0
    literals_from: i64 = 0
    position: i64 = 0
    misses: i64 = 0
    last: i64 = length - 3
    while position <= last:
        place = _place(data, position)
        candidate: i64 = places[place] - base
        places[place] = base + position
        distance: i64 = position - candidate
        if (
            candidate < 0
            or distance > MAX_DISTANCE
            or data[candidate] != data[position]
            or data[candidate + 1] != data[position + 1]
            or data[candidate + 2] != data[position + 2]
        ):
            misses += 1
            position += 1 + (misses >> _STEP_SHIFT)
            continue
        misses = 0
        size += _append_literals(out, data, literals_from, position)
        limit: i64 = min(MAX_COPY, length - position)
        count: i64 = 3
        while count < limit and data[candidate + count] == data[position + count]:
            count += 1
        offset: i64 = distance - 1
        if count < 9:
            out.append(_CONTROLS[(count - 2) << 5 | offset >> 8])
            size += 2
        else:
            out.append(_CONTROLS[0xE0 | offset >> 8])
            out.append(_CONTROLS[count - 9])
            size += 3
        out.append(_CONTROLS[offset & 0xFF])
        if size > allowed:
            return None
        position += count
        literals_from = position
        if position <= last:
            places[_place(data, position - 2)] = base + position - 2
            places[_place(data, position - 1)] = base + position - 1
    size += _append_literals(out, data, literals_from, length)
    return b"".join(out) if size <= allowed else None


def _place(data: bytes, position: i64) -> i64:
    """Where the table has the three bytes at ``position``."""
    trigram: i64 = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
    return (trigram * 40543 >> 9) & (_PLACES - 1)


def _append_literals(out: list[bytes], data: bytes, start: i64, end: i64) -> i64:
    """Returns how many bytes were added."""
    size: i64 = 0
    while start < end:
        stop: i64 = min(start + MAX_LITERAL_RUN, end)
        out.append(_CONTROLS[stop - start - 1])
        out.append(data[start:stop])
        size += 1 + stop - start
        start = stop
    return size


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
