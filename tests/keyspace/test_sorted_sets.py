"""Sorted set values against a dict, their encodings, digest and journey through DUMP."""

from __future__ import annotations

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace.digest import EMPTY_DIGEST
from cluster.keyspace.scan_table import ScanTable
from cluster.keyspace.sorted_sets import RankedTable, SortedSetValue
from cluster.persistence.collection_types import register_collections
from cluster.persistence.dump_payload import dump, restore
from cluster.settings import Settings

SETTINGS = Settings(zset_max_listpack_entries=20, zset_max_listpack_value=16)

names = st.one_of(st.integers(0, 300).map(lambda n: b"%d" % n), st.binary(max_size=17))
scores = st.one_of(st.integers(-3, 3).map(float), st.floats(allow_nan=False))
steps = st.lists(
    st.tuples(st.sampled_from(("put", "put", "put", "put", "put", "remove", "pop", "span", "look")), names, scores),
    max_size=400,
)


def in_order(model: dict[bytes, float]) -> list[tuple[bytes, float]]:
    return sorted(model.items(), key=lambda item: (item[1], item[0]))


@given(steps=steps)
def test_behaves_like_a_dict_and_changes_its_encoding_once(steps: list[tuple[str, bytes, float]]) -> None:
    value, model, compact = SortedSetValue(), dict[bytes, float](), True
    for step, member, score in steps:
        match step:
            case "put":
                current = value.scores.get(member)
                assert current == model.get(member)
                if current is None:
                    value.insert(member, score, SETTINGS)
                    compact = compact and len(model) < 20 and len(member) <= 16
                elif current != score:
                    value.update(member, current, score)
                model[member] = score
            case "remove":
                assert value.remove(member) == (model.pop(member, None) is not None)
            case "pop" if model:
                greatest = score > 0
                popped = value.pop(greatest=greatest)
                assert popped == in_order(model)[-1 if greatest else 0]
                del model[popped[0]]
            case "span":
                start, stop = len(model) // 3, 2 * len(model) // 3
                gone = in_order(model)[start:stop]
                assert value.remove_span(start, stop) == len(gone)
                for name, _score in gone:
                    del model[name]
            case "look":
                place = next((place for place, item in enumerate(in_order(model)) if item[0] == member), None)
                assert value.rank(member) == place
        assert value.encoding() == (b"listpack" if compact else b"skiplist")
        assert len(value) == len(model) and (member in value) == (member in model)
    assert dict(value.scores.items()) == model
    assert list(value.copy().ranking.ascending()) == list(value.ranking.ascending()) == in_order(model)
    assert list(value) == [member for member, _score in in_order(model)]
    if compact:
        assert all(math.copysign(1, score) == 1 for score in value.scores.values() if score == 0)
        assert value.scan(7, 1) == (0, in_order(model))
    copied = value.copy()
    if model:
        register_collections(SETTINGS)
        restored = restore(dump(value))
        assert isinstance(restored, SortedSetValue) and list(restored.ranking.ascending()) == in_order(model)
        assert restored.is_compact == (len(model) <= 20 and max(map(len, model)) <= 16)
        rng = random.Random(1)
        assert value.random_member(rng) in model and set(value.random_members(9, rng)) <= set(model)
        drawn = value.distinct_members(len(model) - 1, rng)
        assert len(set(drawn)) == len(drawn) == len(model) - 1 and set(drawn) < set(model)
        count = (len(model) + 1) // 2
        assert value.pop_several(count, greatest=True) == in_order(model)[::-1][:count]
        value.pop_several(len(value), greatest=False)
    assert len(value) == 0 and dict(copied.scores.items()) == model


def test_a_big_sorted_set_is_walked_in_steps() -> None:
    value = SortedSetValue()
    for number in range(5000):
        value.insert(b"%d" % number, float(number % 7), SETTINGS)
    assert isinstance(value.scores, ScanTable) and value.encoding() == b"skiplist"
    cursor, found = value.scan(0, 10)
    assert cursor and 10 <= len(found) < 200
    assert value.remove_span(10, 4990) == 4980 and len(value) == len(list(value)) == 20
    assert isinstance(value.scores, ScanTable)


def test_table_and_ranking_hold_the_same_scores() -> None:
    """Whether they were loaded or added."""
    loaded = SortedSetValue.of({b"%d" % n: n + 0.5 for n in range(1000)}, SETTINGS)
    for number in range(500):
        loaded.insert(b"x%d" % number, number + 0.25, SETTINGS)
    assert dict(loaded.ranking.ascending()) == dict(loaded.scores.items())


def test_loading_decides_as_adding_does() -> None:
    assert SortedSetValue.of({b"%d" % n: 1.0 for n in range(20)}, SETTINGS).encoding() == b"listpack"
    assert SortedSetValue.of({b"%d" % n: 1.0 for n in range(21)}, SETTINGS).encoding() == b"skiplist"
    assert SortedSetValue.of({b"a" * 17: 1.0}, SETTINGS).encoding() == b"skiplist"
    assert str(SortedSetValue.of({b"a": -0.0}, SETTINGS).scores[b"a"]) == "0.0"
    assert str(SortedSetValue.of({b"a" * 17: -0.0}, SETTINGS).scores[b"a" * 17]) == "-0.0"


def test_a_compact_one_may_be_large() -> None:
    settings = Settings(zset_max_listpack_entries=1000)
    value = SortedSetValue()
    for number in range(1000):
        value.insert(b"%d" % number, 1.0, settings)
    assert value.encoding() == b"listpack" and value.scan(0, 10)[0] == 0
    value.insert(b"one more", 1.0, settings)
    assert value.encoding() == b"skiplist" and isinstance(value.scores, ScanTable) and value.scan(0, 10)[0] != 0


def test_the_digest_ignores_how_it_came_about() -> None:
    one = SortedSetValue.of({b"a": 1.0, b"b": math.inf}, SETTINGS)
    other = SortedSetValue()
    for member, score in ((b"b", math.inf), (b"c", 2.0), (b"a", 1.0)):
        other.insert(member, score, SETTINGS)
    assert one.mix_into_digest(EMPTY_DIGEST) != other.mix_into_digest(EMPTY_DIGEST)
    other.remove(b"c")
    assert one.mix_into_digest(EMPTY_DIGEST) == other.mix_into_digest(EMPTY_DIGEST)


def test_memory_grows_with_what_is_held() -> None:
    small = SortedSetValue.of({b"a": 1.0}, SETTINGS).memory_bytes(5)
    big = SortedSetValue.of({b"x" * 50 + b"%d" % n: float(n) for n in range(5000)}, SETTINGS)
    assert 0 < small < 500 < 5000 * 100 < big.memory_bytes(5) < 5000 * 300


loaded = st.dictionaries(
    st.integers(0, 3000).map(lambda number: b"m%d" % number),
    st.sampled_from((0.0, 1.5, -2.0, 7.0)),
    min_size=130,
    max_size=400,
)


@given(
    scores=loaded,
    changes=st.lists(st.tuples(st.integers(0, 3000), st.sampled_from((1.5, 9.0))), max_size=40),
    is_sorted=st.booleans(),
)
def test_a_loaded_table_behaves_as_a_sorted_set_of_its_members(
    scores: dict[bytes, float], changes: list[tuple[int, float]], is_sorted: bool
) -> None:
    pairs = sorted(scores.items(), key=lambda pair: pair[::-1], reverse=True) if is_sorted else list(scores.items())
    value = SortedSetValue.of(RankedTable(iter(pairs), len(pairs)), SETTINGS)
    model = SortedSetValue.of(scores, SETTINGS)
    twin = value.copy()
    before = list(model.ranking.ascending())
    for number, score in changes:
        member = b"m%d" % number
        current = value.score(member)
        assert current == model.score(member)
        for each in (value, model):
            if current is None:
                each.insert(member, score, SETTINGS)
            elif number % 3 == 0:
                assert each.remove(member)
            else:
                each.update(member, current, score)
    assert value.pop(greatest=True) == model.pop(greatest=True)
    assert value.remove_span(10, 20) == model.remove_span(10, 20)
    assert list(value.ranking.ascending()) == list(model.ranking.ascending())
    assert dict(value.scores.items()) == dict(model.scores.items())
    assert len(value) == len(model)
    assert value.encoding() == model.encoding()
    assert list(twin.ranking.ascending()) == before
    assert dict(twin.scores.items()) == dict(before)


def test_a_member_of_a_loaded_table_is_one_object() -> None:
    pairs = [(b"member:%d" % number, float(number)) for number in range(500, 0, -1)]
    value = SortedSetValue.of(RankedTable(iter(pairs), len(pairs)), SETTINGS)
    assert all(value.score(member) == score for member, score in pairs)
    ranked = {id(member) for member, _score in value.ranking.ascending()}
    assert {id(member) for member in value.scores} == ranked


def test_a_loaded_table_with_a_member_twice_is_shorter() -> None:
    pairs = [(b"m%d" % (number % 299), 0.0) for number in range(300)]
    assert len(RankedTable(iter(pairs), 300)) == 299


def test_a_loaded_table_becomes_compact_where_the_settings_allow_it() -> None:
    pairs = [(b"m%d" % number, float(number)) for number in range(300)]
    value = SortedSetValue.of(RankedTable(iter(pairs), 300), Settings(zset_max_listpack_entries=300))
    assert value.encoding() == b"listpack" and list(value.ranking.ascending()) == pairs
