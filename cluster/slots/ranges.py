"""Slot ranges: the text form used in nodes.conf and CLUSTER NODES, and the 2048-byte bitmap used on the bus.

Role        Convert between sets of slots as inclusive ranges, as text pieces and as bitmaps.
Invariants  A :class:`SlotRange` holds ``0 <= start <= end < SLOT_COUNT``. Compressed ranges are ascending, disjoint and
            not adjacent. In a bitmap slot ``s`` is bit ``s % 8`` of byte ``s // 8``.
Spec        clusterGenNodeDescription and clusterLoadConfig in cluster.c.

Text pieces: ``7``, ``0-5460``; of the node itself also ``[93->-<id>]`` (migrating to) and ``[77-<-<id>]`` (importing
from). Redis reads the numbers with ``atoi``, so that ``12x`` is 12 and ``x`` is slot 0; here they are refused.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cluster.slots.hashing import SLOT_COUNT

BITMAP_BYTES = SLOT_COUNT // 8
NODE_ID_LENGTH = 40


class SlotRangeError(ValueError):
    """A piece of text is no slot, range of slots, or open slot; the message names the piece."""


class SlotRange(NamedTuple):
    """The slots from ``start`` to ``end``, both included."""

    start: int
    end: int

    def __str__(self) -> str:
        return str(self.start) if self.start == self.end else f"{self.start}-{self.end}"


class Direction(enum.Enum):
    """Which way the keys of an open slot go; the value is how the text form spells it."""

    MIGRATING = "->-"
    IMPORTING = "-<-"


class OpenSlot(NamedTuple):
    """A slot whose keys are on the way to (or from) another node."""

    slot: int
    direction: Direction
    node_id: str

    def __str__(self) -> str:
        return f"[{self.slot}{self.direction.value}{self.node_id}]"


def compress(slots: Iterable[int]) -> list[SlotRange]:
    """The ranges that cover exactly ``slots``, which may come in any order and repeat."""
    return bitmap_to_ranges(slots_to_bitmap(slots))


def expand(ranges: Iterable[tuple[int, int]]) -> Iterator[int]:
    """Every slot of the ranges, in the order given."""
    for start, end in ranges:
        yield from range(start, end + 1)


def format_ranges(ranges: Iterable[SlotRange]) -> str:
    """The ranges as text, separated by one space: ``0-5460 5462``."""
    return " ".join(map(str, ranges))


def slots_to_bitmap(slots: Iterable[int]) -> bytes:
    """The bitmap with exactly these slots set."""
    bitmap = bytearray(BITMAP_BYTES)
    for slot in slots:
        bitmap[slot >> 3] |= 1 << (slot & 7)
    return bytes(bitmap)


def ranges_to_bitmap(ranges: Iterable[tuple[int, int]]) -> bytes:
    """The bitmap with the slots of the ranges set."""
    bits = 0
    for start, end in ranges:
        bits |= ((1 << (end - start + 1)) - 1) << start
    return bits.to_bytes(BITMAP_BYTES, "little")


def bitmap_to_ranges(bitmap: bytes | bytearray) -> list[SlotRange]:
    """The ranges of slots set in a bitmap of BITMAP_BYTES bytes."""
    # As a string of "0" and "1", slot 0 first, runs are found by str.find: microseconds instead of a 16384-step loop.
    bits = bin(int.from_bytes(bitmap, "little"))[:1:-1]
    ranges = []
    start = bits.find("1")
    while start >= 0:
        end = bits.find("0", start)
        if end < 0:
            end = len(bits)
        ranges.append(SlotRange(start, end - 1))
        start = bits.find("1", end)
    return ranges


def bitmap_to_slots(bitmap: bytes | bytearray) -> list[int]:
    """The slots set in a bitmap, ascending."""
    return list(expand(bitmap_to_ranges(bitmap)))


def parse_slot(text: str) -> int:
    """Read one slot number; raises SlotRangeError."""
    # isdecimal() alone would let in the digits of other scripts, which int() reads too.
    if text.isascii() and text.isdecimal() and len(text) <= 5:
        slot = int(text)
        if slot < SLOT_COUNT:
            return slot
    raise SlotRangeError(f"Invalid or out of range slot: {text!r}")


def parse_range(text: str) -> SlotRange:
    """Read ``7`` or ``0-5460``; raises SlotRangeError."""
    first, dash, last = text.partition("-")
    start = parse_slot(first)
    end = parse_slot(last) if dash else start
    if start > end:
        raise SlotRangeError(f"Start of slot range is greater than its end: {text!r}")
    return SlotRange(start, end)


def parse_open_slot(text: str) -> OpenSlot:
    """Read ``[93->-<id>]`` or ``[77-<-<id>]``; raises SlotRangeError."""
    if text.startswith("[") and text.endswith("]"):
        for direction in Direction:
            number, arrow, node_id = text[1:-1].partition(direction.value)
            if arrow:
                if not is_node_id(node_id):
                    break
                return OpenSlot(parse_slot(number), direction, node_id)
    raise SlotRangeError(f"Invalid open slot: {text!r}")


def parse_piece(text: str) -> SlotRange | OpenSlot:
    """Read one piece of the slots part of a CLUSTER NODES line; raises SlotRangeError."""
    return parse_open_slot(text) if text.startswith("[") else parse_range(text)


def is_node_id(text: str) -> bool:
    """True for 40 lower-case letters and digits: what Redis accepts as a node id (it does not insist on hex)."""
    return len(text) == NODE_ID_LENGTH and text.isascii() and text.isalnum() and text == text.lower()
