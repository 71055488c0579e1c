"""The mapping of big collections against a dict; the walk's guarantee; fair draws."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace import scan_table
from cluster.keyspace.scan_table import (
    BUCKET_MEMBERS,
    HASH_BITS,
    ScanTable,
    distinct_members,
    random_member,
    random_members,
    scan,
)


def numbered(first: int, end: int) -> list[bytes]:
    return [b"member:%d" % number for number in range(first, end)]


def check_structure(table: ScanTable[int]) -> None:
    """What the module's docstring promises of the directory."""
    size = len(table._buckets)
    assert size == 1 << table._depth == len(table._depths)
    assert table._shift == HASH_BITS - table._depth
    deepest = total = index = 0
    while index < size:
        span = 1 << (table._depth - table._depths[index])
        stored = table._buckets[index]
        bucket = scan_table._unpacked(stored)
        assert index % span == 0 and (bucket or type(stored) is dict)
        for entry in range(index, index + span):
            assert table._buckets[entry] is stored and table._depths[entry] == table._depths[index]
        assert len(bucket) <= BUCKET_MEMBERS
        for member in bucket:
            assert index <= (hash(member) & 0xFFFFFFFF) >> table._shift < index + span
        assert len(bucket) <= table._fullest * span
        deepest += table._depths[index] == table._depth
        total += len(bucket)
        index += span
    assert table._deepest == deepest
    assert len(table) == total


changes = st.lists(
    st.tuples(st.booleans(), st.integers(0, 1500), st.integers(1, 700)),
    max_size=8,
)


@given(changes=changes)
def test_behaves_like_a_dict(changes: list[tuple[bool, int, int]]) -> None:
    table: ScanTable[int] = ScanTable()
    model: dict[bytes, int] = {}
    for step, (adding, first, count) in enumerate(changes):
        for member in numbered(first, first + count):
            if adding:
                table[member] = model[member] = step
            elif member in model:
                del table[member], model[member]
        check_structure(table)
        assert dict(table.items()) == model
    assert sorted(table) == sorted(model)
    assert sorted(table.values()) == sorted(model.values())
    assert all(table[member] == table.get(member) == value for member, value in model.items())
    assert b"stranger" not in table and table.get(b"stranger") is None
    with pytest.raises(KeyError):
        del table[b"stranger"]


@given(changes=changes, size=st.integers(0, 1200), expected=st.sampled_from([0, 300, 5000]))
def test_a_packed_table_behaves_like_a_dict(changes: list[tuple[bool, int, int]], size: int, expected: int) -> None:
    """However many items were expected: buckets may be packed, too full to be packed, or empty."""
    model = {member: number for number, member in enumerate(numbered(0, size))}
    table: ScanTable[int] = ScanTable.packed(model.items(), expected)
    check_structure(table)
    for step, (adding, first, count) in enumerate(changes):
        twin = table.copy()
        before = dict(model)
        for member in numbered(first, first + count):
            assert table.get(member) == table.find(member) == model.get(member)
            if adding:
                assert table.set(member, step) is (member not in model)
                model[member] = step
            else:
                assert table.discard(member) is (model.pop(member, None) is not None)
        check_structure(table)
        assert dict(table.items()) == model
        assert dict(twin.items()) == before
    assert sorted(table) == sorted(model)
    assert b"stranger" not in table


def test_a_packed_table_is_a_fraction_of_another_until_it_is_used() -> None:
    members = numbered(0, 6000)
    table: ScanTable[None] = ScanTable.packed(((member, None) for member in members), len(members))
    assert sum(type(bucket) is bytes for bucket in table._buckets) == len(table._buckets)
    assert table.memory_bytes() < 30 * len(members)
    assert table.scan(0, 1000)[1] and sorted(table) == sorted(members)
    assert all(type(bucket) is bytes for bucket in table._buckets)
    assert members[0] in table
    assert sum(type(bucket) is dict for bucket in table._buckets) == 1


def test_repeated_members_are_there_once() -> None:
    members = numbered(0, 100) * 2
    assert len(ScanTable.packed(((member, None) for member in members), len(members))) == 100


def test_draws_from_a_packed_table() -> None:
    members = numbered(0, 500)
    table: ScanTable[None] = ScanTable.packed(((member, None) for member in members), len(members))
    rng = random.Random(2)
    assert {table.random_member(rng) for _ in range(20_000)} == set(members)
    taken = [table.pop_random(rng) for _ in range(490)]
    check_structure(table)
    assert sorted([*taken, *table]) == sorted(members)


@given(changes=changes, count=st.integers(1, 300))
def test_a_walk_meets_whatever_is_there_throughout(changes: list[tuple[bool, int, int]], count: int) -> None:
    """However the table grows and shrinks between two steps."""
    constant = set(numbered(100_000, 100_200))
    table: ScanTable[int] = ScanTable((member, 0) for member in constant)
    ever = set(constant)
    seen: set[bytes] = set()
    cursor = 0
    pending = list(changes)
    for _step in range(10_000):
        cursor, found = table.scan(cursor, count)
        assert len(found) <= count + BUCKET_MEMBERS
        seen.update(member for member, _value in found)
        if cursor == 0:
            break
        if pending:
            adding, first, size = pending.pop()
            for member in numbered(first, first + size):
                if adding:
                    table[member] = 1
                    ever.add(member)
                else:
                    table.pop(member, None)
    assert cursor == 0
    assert constant <= seen <= ever


@given(cursor=st.integers(0, 2**64 - 1))
def test_any_number_is_a_cursor(cursor: int) -> None:
    table: ScanTable[int] = ScanTable(((member, 0) for member in numbered(0, 500)), expected=500)
    following, found = table.scan(cursor, 10)
    assert 0 <= following < 2**32 and len(found) <= 500


def test_emptying_gives_the_directory_back() -> None:
    members = numbered(0, 20_000)
    table: ScanTable[int] = ScanTable((member, 0) for member in members)
    assert table._depth >= 8
    random.Random(1).shuffle(members)
    for member in members[:-5]:
        del table[member]
    check_structure(table)
    assert table._depth <= 3 and sorted(table) == sorted(members[-5:])


def test_taking_all_out_at_random() -> None:
    members = numbered(0, 5000)
    table: ScanTable[int] = ScanTable((member, 0) for member in members)
    rng = random.Random(3)
    taken = []
    while table:
        taken.append(table.pop_random(rng))
        if len(table) % 100 == 0:
            check_structure(table)
    assert taken != members and sorted(taken) == sorted(members)


def test_which_is_taken_out_is_fair() -> None:
    """Chi-square as below, over the first two of a table taken anew each time."""
    members = numbered(0, 100)
    table: ScanTable[int] = ScanTable(((member, 0) for member in members), expected=600)
    rng = random.Random(4)
    drawn: Counter[bytes] = Counter()
    for _ in range(4000):
        fresh = table.copy()
        drawn.update((fresh.pop_random(rng), fresh.pop_random(rng)))
    assert sum((drawn[member] - 80) ** 2 / 80 for member in members) < 180


def test_pop_and_update() -> None:
    table: ScanTable[int] = ScanTable((member, 0) for member in numbered(0, 1000))
    table.update(dict.fromkeys(numbered(900, 1100), 1))
    assert len(table) == 1100 and table.pop(b"stranger") is None and table.pop(b"stranger", 5) == 5
    assert {table.pop(member) for member in numbered(900, 1100)} == {1}
    assert {table.pop(member, 7) for member in numbered(0, 900)} == {0}
    check_structure(table)
    assert len(table) == 0 and table._depth == 0


def test_a_copy_is_independent() -> None:
    table: ScanTable[int] = ScanTable((member, 0) for member in numbered(0, 1000))
    other = table.copy()
    check_structure(other)
    for member in numbered(0, 400):
        del other[member]
    other[b"new"] = 1
    check_structure(table)
    check_structure(other)
    assert len(table) == 1000 and b"new" not in table and len(other) == 601


@pytest.mark.parametrize("shape", ["dict", "table", "table after deletions"])
def test_draws_are_fair(shape: str) -> None:
    """Chi-square over 100 members (df 99): 180 has a probability of about one in a million."""
    members = numbered(0, 100)
    held: scan_table.Members[int] = dict.fromkeys(members, 0)
    if shape != "dict":
        held = ScanTable(((member, 0) for member in members), expected=600)
    if shape == "table after deletions":
        for member in numbered(100, 3000):
            held[member] = 0
        for member in numbered(100, 3000):
            del held[member]
    rng = random.Random(5)
    for draw in (
        [random_member(held, rng) for _ in range(20_000)],
        random_members(held, 20_000, rng),
        [member for _ in range(2_000) for member in random_members(held, 10, rng)],
        [member for _ in range(1_000) for member in distinct_members(held, 20, rng)],
        [member for _ in range(400) for member in distinct_members(held, 50, rng)],
    ):
        counts = Counter(draw)
        assert set(counts) <= set(members)
        assert sum((counts[member] - 200) ** 2 / 200 for member in members) < 180


def test_distinct_members_are_distinct_and_no_more_than_there_are() -> None:
    table: ScanTable[int] = ScanTable((member, 0) for member in numbered(0, 400))
    rng = random.Random(2)
    for count in (1, 10, 200, 399, 400, 10**18):
        drawn = distinct_members(table, count, rng)
        assert len(drawn) == len(set(drawn)) == min(count, 400)


def test_a_dict_is_walked_in_one_step() -> None:
    assert scan({b"a": 1, b"b": 2}, 77, 1) == (0, [(b"a", 1), (b"b", 2)])
