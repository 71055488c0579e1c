"""Set values against Python's set, their encodings, digest and journey through DUMP, and set algebra."""

from __future__ import annotations

import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace.digest import EMPTY_DIGEST
from cluster.keyspace.scan_table import ScanTable
from cluster.keyspace.sets import SetValue, difference, intersection, union
from cluster.keyspace.strings import parse_int64
from cluster.persistence.collection_types import register_collections
from cluster.persistence.dump_payload import dump, restore
from cluster.settings import Settings

MOST = 20
EDGES = [b"%d" % (sign * (1 << bits) + offset) for bits in (15, 31) for sign in (1, -1) for offset in (-1, 0, 1)]
EDGES += [b"9223372036854775807", b"-9223372036854775808"]
NO_INTEGERS = [b"9223372036854775808", b"01", b"", b"-0", b"a", b"1 "]

integers = st.one_of(st.integers(-30, 30).map(lambda n: b"%d" % n), st.sampled_from(EDGES))
members = st.one_of(integers, integers, integers, st.sampled_from(NO_INTEGERS), st.binary(max_size=3))


def members_of(value: SetValue) -> set[bytes]:
    found = list(value)
    assert len(found) == len(set(found)) == len(value)
    return set(found)


@given(steps=st.lists(st.tuples(st.booleans(), members), max_size=60), only_integers=st.booleans())
def test_behaves_like_a_set_and_changes_its_encoding_once(steps: list[tuple[bool, bytes]], only_integers: bool) -> None:
    value, model, compact = SetValue(), set[bytes](), True
    for adding, member in steps:
        if only_integers and parse_int64(member) is None:
            continue
        if adding:
            assert value.add(member, MOST) == (member not in model)
            model.add(member)
            compact = compact and len(model) <= MOST and parse_int64(member) is not None
        else:
            assert value.remove(member) == (member in model)
            model.discard(member)
        assert (member in value) == (member in model)
        assert value.encoding() == (b"intset" if compact else b"hashtable")
    assert members_of(value) == model
    if compact:
        assert list(value) == sorted(model, key=int)
    assert value.mix_into_digest(EMPTY_DIGEST) == SetValue.of(model, MOST).mix_into_digest(EMPTY_DIGEST)
    copied = value.copy()
    if model:
        register_collections(Settings(set_max_intset_entries=MOST))
        assert members_of(restore(dump(value))) == model
        rng = random.Random(1)
        assert value.random_member(rng) in model
        emptied = value.copy()
        assert {emptied.pop_random(rng) for _ in range(len(model))} == model and not emptied
        assert set(value.random_members(10, rng)) <= model
        drawn = value.distinct_members(len(model) - 1, rng)
        assert set(drawn) < model and len(set(drawn)) == len(drawn) == len(model) - 1
        value.remove(next(iter(model)))
    assert members_of(copied) == model


def test_an_intset_never_becomes_narrower() -> None:
    value = SetValue()
    widths = []
    for member in (b"1", b"32768", b"2147483648"):
        value.add(member, 512)
        assert value.integers is not None
        widths.append(value.integers.itemsize)
    value.remove(b"2147483648")
    assert widths == [2, 4, 8] and value.integers is not None and value.integers.itemsize == 8


def test_growing_past_small_makes_a_table() -> None:
    value = SetValue()
    for number in range(1000):
        value.add(b"m%d" % number, 512)
    assert isinstance(value.members, ScanTable) and len(value) == 1000
    integers_only = SetValue.of([b"%d" % number for number in range(1000)], 512)
    assert isinstance(integers_only.members, ScanTable) and integers_only.encoding() == b"hashtable"


several = st.lists(st.frozensets(members, max_size=12), min_size=1, max_size=4)


@given(several=several)
def test_algebra(several: list[frozenset[bytes]]) -> None:
    values = [SetValue.of(list(each), MOST) for each in several]
    assert set(intersection(values)) == frozenset.intersection(*several)
    assert members_of(union([*values, None], MOST)) == frozenset.union(*several)
    assert members_of(difference(values[0], values[1:], MOST)) == several[0].difference(*several[1:])
    assert len(difference(values[0], [values[0]], MOST)) == 0
    assert set(intersection([values[0], values[0]])) == several[0]


def test_memory_grows_with_what_is_held() -> None:
    small = SetValue.of([b"1", b"2"], MOST).memory_bytes(5)
    big = SetValue.of([b"x" * 50 + b"%d" % n for n in range(5000)], MOST)
    assert 0 < small < 500 < 5000 * 80 < big.memory_bytes(5) < 5000 * 300


FEW = 4


@pytest.mark.parametrize("count", [3, 4, 5, 2000])
def test_integers_that_were_loaded_as_an_array(count: int) -> None:
    """More of them than an intset may hold are a hashtable to all who ask, and become one when they are changed."""

    def loaded() -> SetValue:
        return SetValue.of_integers(array("h", range(count)), FEW)

    expected = {b"%d" % number for number in range(count)}
    encoding = b"intset" if count <= FEW else b"hashtable"
    value = loaded()
    assert (set(value), len(value), value.encoding()) == (expected, count, encoding)
    assert b"2" in value
    assert b"x" not in value
    assert b"%d" % count not in value
    assert value.copy().encoding() == encoding

    assert not value.add(b"1", FEW)
    assert value.add(b"x", FEW)
    assert set(value) == expected | {b"x"}
    assert value.encoding() == b"hashtable"

    value = loaded()
    assert value.remove(b"1")
    assert not value.remove(b"1")
    assert set(value) == expected - {b"1"}
    assert value.encoding() == encoding

    value = loaded()
    cursor, seen = value.scan(0, 10)
    while cursor:
        cursor, more = value.scan(cursor, 10)
        assert len(more) < 200 or count < 200
        seen += more
    assert {member for member, _nothing in seen} == expected
