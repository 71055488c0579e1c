"""Bits of strings: counting, finding and combining them at the speed of C, a string of megabytes included.

Bits are numbered as Redis does: bit 0 is the highest of byte 0. Ranges include both ends. Spec: bitops.c.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import and_, or_, xor
from typing import Final

_CHUNK_BYTES: Final = 1 << 14
"""Long strings are looked at in pieces of this size: they stay in the processor's cache."""
_FILLERS: Final = (b"\xff" * _CHUNK_BYTES, b"\x00" * _CHUNK_BYTES)
"""A piece without a bit that is 0, one without a bit that is 1."""
_INVERTED: Final = bytes(range(255, -1, -1))

Bytes = bytes | bytearray


def count_ones(content: Bytes, first: int, last: int) -> int:
    """How many bits are 1 from bit ``first`` to bit ``last``, which exist."""
    start, end = first >> 3, last >> 3
    total = 0
    for place in range(start, end + 1, _CHUNK_BYTES):
        total += int.from_bytes(content[place : min(place + _CHUNK_BYTES, end + 1)], "little").bit_count()
    total -= (content[start] >> 8 - (first & 7)).bit_count()
    return total - (content[end] & 0x7F >> (last & 7)).bit_count()


def find(content: Bytes, wanted: int, first: int, last: int) -> int | None:
    """The first bit that is ``wanted`` from bit ``first`` to bit ``last``, which exist; None if there is none."""
    if wanted == 0:
        hidden_before, hidden_after = 0xFF << 8 - (first & 7) & 0xFF, 0x7F >> (last & 7)
    else:
        hidden_before, hidden_after = 0xFF >> (first & 7), 0xFF << 7 - (last & 7) & 0xFF
    start, end = first >> 3, last >> 3

    def seen(place: int) -> int:
        """A byte in which no bit outside of the range is the wanted one."""
        byte = content[place]
        if place == start:
            byte = byte | hidden_before if wanted == 0 else byte & hidden_before
        if place == end:
            byte = byte | hidden_after if wanted == 0 else byte & hidden_after
        return byte

    if start < end and first & 7:
        byte = seen(start)
        if byte != _FILLERS[wanted][0]:
            return _first_in_byte(start, byte, wanted)
        start += 1
        hidden_before = 0 if wanted == 0 else 0xFF
    place = _skip(content, wanted, start, end)
    byte = seen(place)
    return None if byte == _FILLERS[wanted][0] else _first_in_byte(place, byte, wanted)


def _skip(content: Bytes, wanted: int, start: int, end: int) -> int:
    """The first place from ``start`` on whose byte has a wanted bit, or ``end``."""
    filler = _FILLERS[wanted]
    while start + _CHUNK_BYTES <= end and content.startswith(filler, start):
        start += _CHUNK_BYTES
    piece = content[start : min(start + _CHUNK_BYTES, end)]
    return start + len(piece) - len(piece.lstrip(filler[:1]))


def _first_in_byte(place: int, byte: int, wanted: int) -> int:
    return place * 8 + 8 - (byte if wanted else ~byte & 0xFF).bit_length()


def invert(content: Bytes) -> bytearray:
    """BITOP NOT."""
    return bytearray(content).translate(_INVERTED)


COMBINATIONS: Final[dict[bytes, Callable[[int, int], int]]] = {b"AND": and_, b"OR": or_, b"XOR": xor}


def combine(operation: bytes, contents: list[Bytes]) -> bytearray:
    """BITOP AND, OR or XOR of at least one string; a shorter one counts as if zeros followed."""
    apply = COMBINATIONS[operation]
    size = max(map(len, contents))
    result = int.from_bytes(contents[0], "little")
    for content in contents[1:]:
        result = apply(result, int.from_bytes(content, "little"))
    return bytearray(result.to_bytes(size, "little"))


# Fields ---------------------------------------------------------------------------------------------------------------


def read_field(content: Bytes, offset: int, width: int) -> int:
    """The unsigned integer of ``width`` bits (at most 64) at a bit; zeros follow the string."""
    place = offset >> 3
    window = int.from_bytes(content[place : place + 9].ljust(9, b"\x00"), "big")
    return window >> 72 - (offset & 7) - width & (1 << width) - 1


def write_field(content: bytearray, offset: int, width: int, value: int) -> None:
    """Store the lowest ``width`` bits of ``value`` at a bit; the string reaches far enough."""
    place, end = offset >> 3, (offset + width - 1 >> 3) + 1
    shift = end * 8 - offset - width
    mask = (1 << width) - 1
    window = int.from_bytes(content[place:end], "big") & ~(mask << shift) | (value & mask) << shift
    content[place:end] = window.to_bytes(end - place, "big")
