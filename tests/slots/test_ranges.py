"""Slot ranges as text and as bitmaps, against a dumb set of integers."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.slots.hashing import SLOT_COUNT
from cluster.slots.ranges import (
    BITMAP_BYTES,
    Direction,
    OpenSlot,
    SlotRange,
    SlotRangeError,
    bitmap_to_ranges,
    bitmap_to_slots,
    compress,
    expand,
    format_ranges,
    is_node_id,
    parse_open_slot,
    parse_piece,
    parse_range,
    ranges_to_bitmap,
    slots_to_bitmap,
)

NODE_ID = "292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f"

slot = st.integers(0, SLOT_COUNT - 1)
run = st.builds(lambda start, length: range(start, min(start + length, SLOT_COUNT)), slot, st.integers(1, 400))
slot_sets = st.lists(run, max_size=12).map(lambda runs: {s for r in runs for s in r}) | st.sets(slot, max_size=30)


@given(slot_sets)
def test_compress_covers_exactly_the_slots_with_the_fewest_ranges(slots: set[int]) -> None:
    ranges = compress(slots)

    assert list(expand(ranges)) == sorted(slots)
    assert all(before.end + 1 < after.start for before, after in itertools.pairwise(ranges))


@given(slot_sets)
def test_text_round_trip(slots: set[int]) -> None:
    text = format_ranges(compress(slots))

    assert {s for piece in text.split() for s in expand([parse_range(piece)])} == slots


@given(slot_sets)
def test_bitmap_round_trip_and_bit_positions(slots: set[int]) -> None:
    bitmap = slots_to_bitmap(slots)

    assert len(bitmap) == BITMAP_BYTES
    assert {s for s in range(SLOT_COUNT) if bitmap[s // 8] & (1 << (s & 7))} == slots
    assert bitmap_to_slots(bitmap) == sorted(slots)
    assert ranges_to_bitmap(bitmap_to_ranges(bitmap)) == bitmap


def test_the_edges() -> None:
    assert compress([]) == []
    assert compress(range(SLOT_COUNT)) == [SlotRange(0, 16383)]
    assert format_ranges(compress([0, 1, 2, 7, 16383])) == "0-2 7 16383"
    assert format_ranges([]) == ""


@pytest.mark.parametrize(
    "text",
    ["", "-", "-1", "1-", "x", "12x", "16384", "0-16384", "5-4", "1-2-3", "٣", "1 ", "+1", "99999999999999999999"],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(SlotRangeError):
        parse_range(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[93->-{NODE_ID}]", OpenSlot(93, Direction.MIGRATING, NODE_ID)),
        (f"[77-<-{NODE_ID}]", OpenSlot(77, Direction.IMPORTING, NODE_ID)),
    ],
)
def test_open_slots(text: str, expected: OpenSlot) -> None:
    assert parse_piece(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[]",
        "[93]",
        f"93->-{NODE_ID}",
        f"[93->-{NODE_ID}",
        f"[93->{NODE_ID}]",
        f"[93->-{NODE_ID}0]",
        f"[93->-{NODE_ID[:39]}]",
        f"[93->-{NODE_ID.upper()}]",
        f"[16384->-{NODE_ID}]",
        f"[-1-<-{NODE_ID}]",
    ],
)
def test_what_is_no_open_slot_is_refused(text: str) -> None:
    with pytest.raises(SlotRangeError):
        parse_open_slot(text)


@given(st.text(max_size=60))
def test_any_text_is_a_piece_or_a_slot_range_error(text: str) -> None:
    try:
        piece = parse_piece(text)
    except SlotRangeError:
        return
    assert parse_piece(str(piece)) == piece


def test_node_ids() -> None:
    assert is_node_id(NODE_ID)
    assert is_node_id("z" * 40)  # As verifyClusterNodeId: a letter of any kind, as long as it is lower case.
    assert not is_node_id("")
    assert not is_node_id("é" * 40)
    assert not is_node_id("-" * 40)
