"""SCAN within one slot: its guarantee under any mix of inserts and deletes, and what one call costs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace import slot_scan
from cluster.keyspace.slot_scan import SlotScans
from cluster.slots.hashing import SLOT_COUNT

Slots = list[dict[bytes, Any]]


def _slots(**sizes: int) -> Slots:
    """s3=500: slot 3 holds 500 keys."""
    slots: Slots = [{} for _ in range(SLOT_COUNT)]
    for name, size in sizes.items():
        slots[int(name[1:])] = {b"%s-%d" % (name.encode(), number): None for number in range(size)}
    return slots


def _walk(scans: SlotScans, slots: Slots, count: int, *, between: Any = lambda: None) -> tuple[list[bytes], list[int]]:
    """A whole iteration: the keys, and how many came with each call."""
    cursor, keys, sizes = 0, list[bytes](), list[int]()
    while True:
        cursor, found = scans.walk(slots, cursor, count, 0)
        assert cursor < 2**53
        keys += found
        sizes.append(len(found))
        if cursor == 0:
            return keys, sizes
        between()


@pytest.mark.parametrize("count", [1, 10, 16, 17, 100, 1000, 10**6])
def test_every_key_comes_once(count: int) -> None:
    slots = _slots(s0=700, s1=3, s5=128, s77=5000, s16383=300)
    keys, sizes = _walk(SlotScans(), slots, count)
    assert sorted(keys) == sorted(key for held in slots for key in held)
    assert max(sizes) <= max(2 * count, 128) + count + 16


@pytest.mark.parametrize("count", [1, 10, 100, 10**6])
def test_a_dict_that_slots_share_comes_once(count: int) -> None:
    slots = _slots(s0=700, s32=3, s64=128, s16352=300)
    shared = [slots[number - number % 32] for number in range(SLOT_COUNT)]
    scans, cursor, keys = SlotScans(), 0, list[bytes]()
    while True:
        cursor, found = scans.walk(shared, cursor, count, 0, 32)
        keys += found
        if cursor == 0:
            break
    assert sorted(keys) == sorted(key for held in slots for key in held)


def test_a_call_in_a_huge_slot_returns_no_more_than_it_was_asked_for() -> None:
    slots = _slots(s9=100_000)
    scans = SlotScans()
    cursor, found = scans.walk(slots, 0, 10, 0)
    for _call in range(100):
        assert len(found) == 16
        cursor, found = scans.walk(slots, cursor, 10, 0)


def test_the_same_cursor_gives_the_same_keys() -> None:
    slots, scans = _slots(s9=1000), SlotScans()
    cursor, _found = scans.walk(slots, 0, 10, 0)
    assert scans.walk(slots, cursor, 10, 0) == scans.walk(slots, cursor, 10, 0)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 999)), max_size=300),
    st.sampled_from([1, 10, 100]),
    st.integers(1, 40),
)
def test_what_is_there_throughout_is_found(changes: list[tuple[bool, int]], count: int, at_once: int) -> None:
    slots = _slots(s3=600)
    constant = {b"s3-%d" % number for number in range(0, 600, 3)}
    pending = iter(changes)

    def change() -> None:
        for _, (is_added, number) in zip(range(at_once), pending, strict=False):
            key = b"s3-%d" % number
            if is_added:
                slots[3][key] = None
            elif key not in constant:
                slots[3].pop(key, None)

    keys, _sizes = _walk(SlotScans(), slots, count, between=change)
    assert constant <= set(keys)


def test_several_scans_at_a_time() -> None:
    slots, scans = _slots(s3=2000, s4=2000), SlotScans()
    everything = {key for held in slots for key in held}
    walks = [(0, set[bytes]()) for _ in range(20)]
    while walks:
        following = []
        for cursor, keys in walks:
            after, found = scans.walk(slots, cursor, 10, 0)
            keys |= set(found)
            if after:
                following.append((after, keys))
            else:
                assert keys == everything
        walks = following
    assert not scans._copies and scans._key_count == 0


def test_a_copy_that_was_given_up_costs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_scan, "_KEYS_MAX", 3000)
    slots, scans = _slots(s3=2000), SlotScans()
    cursor, first = scans.walk(slots, 0, 10, 0)
    scans.walk(slots, 0, 10, 0)  # There is room for one only.
    assert scans._key_count == 2000
    following, rest = scans.walk(slots, cursor, 10, 0)
    assert (following, set(first) | set(rest)) == (4, set(slots[3]))


def test_flushed_and_swapped_databases_have_other_keys() -> None:
    slots, scans = _slots(s3=2000), SlotScans()
    cursor, _found = scans.walk(slots, 0, 10, 0)
    others = _slots(s3=300)
    assert set(scans.walk(others, cursor, 10, 0)[1]) == set(others[3])


def test_idle_copies_are_given_up() -> None:
    slots, scans = _slots(s3=2000), SlotScans()
    scans.walk(slots, 0, 10, 0)
    scans.walk(slots, 0, 10, 50_000)
    scans.forget_idle(70_000)
    assert len(scans._copies) == 1 and scans._key_count == 2000


@pytest.mark.parametrize("cursor", [SLOT_COUNT, 2**53 - 1, 2**63, 2**64 - 1, SLOT_COUNT * 7 + 16383])
def test_cursors_that_nobody_was_given(cursor: int) -> None:
    assert SlotScans().walk(_slots(), cursor, 10, 0) == (0, [])
