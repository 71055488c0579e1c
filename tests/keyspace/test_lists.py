"""Lists against plain Python lists, in sizes at which elements move between the ends and the packed nodes."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.keyspace import lists
from cluster.keyspace.digest import EMPTY_DIGEST
from cluster.keyspace.lists import NODE_BYTES, NODE_ELEMENTS, ListValue
from tests.support.costs import counted_calls

_elements = st.one_of(
    st.sampled_from((b"", b"a", b"b", b"s\x01\x00\x00\x00a", b"x" * (NODE_BYTES // 2))),
    st.integers(0, 20).map(b"%d".__mod__),
)
_batches = st.one_of(
    st.lists(_elements, min_size=1, max_size=4),
    st.builds(
        lambda first, count: [b"%d" % (number % 50) for number in range(first, first + count)],
        st.integers(0, 9),
        st.sampled_from((NODE_ELEMENTS, 2 * NODE_ELEMENTS, 2 * NODE_ELEMENTS + 1, 700)),
    ),
)
_places = st.one_of(st.integers(-10, 10), st.integers(-900, 900))
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("push_left"), _batches),
        st.tuples(st.just("push_right"), _batches),
        st.tuples(st.just("pop_left")),
        st.tuples(st.just("pop_right")),
        st.tuples(st.just("pop_many_left"), st.integers(1, 400)),
        st.tuples(st.just("pop_many_right"), st.integers(1, 400)),
        st.tuples(st.just("set"), _places, _elements),
        st.tuples(st.just("get"), _places),
        st.tuples(st.just("slice"), st.integers(0, 900), st.integers(0, 900)),
        st.tuples(st.just("trim"), st.integers(0, 300), st.integers(0, 900)),
        st.tuples(st.just("insert"), _elements, _elements, st.booleans()),
        st.tuples(st.just("remove"), _elements, st.integers(-20, 20)),
        st.tuples(st.just("positions"), _elements, st.integers(0, 900), st.booleans()),
        st.tuples(st.just("copy")),
    ),
    max_size=25,
)


def act(value: ListValue, step: tuple[Any, ...]) -> Any:
    """What the value does."""
    name, *arguments = step
    if name in ("pop_left", "pop_right") and not value:
        return None
    if name == "insert":
        return value.insert(arguments[0], arguments[1], after=arguments[2])
    if name == "positions":
        return list(value.positions(arguments[0], arguments[1], backwards=arguments[2]))
    return getattr(value, name)(*arguments)


def remove(model: list[bytes], element: bytes, count: int) -> int:
    hits = [index for index, other in enumerate(model) if other == element]
    gone = hits if not count else hits[:count] if count > 0 else hits[count:]
    for index in reversed(gone):
        del model[index]
    return len(gone)


def expect(model: list[bytes], step: tuple[Any, ...]) -> Any:
    """What a plain list does in its place."""
    match step:
        case ("push_left", batch):
            model[:0] = batch[::-1]
        case ("push_right", batch):
            model.extend(batch)
        case ("pop_left",):
            return model.pop(0) if model else None
        case ("pop_right",):
            return model.pop() if model else None
        case ("pop_many_left", count):
            taken = model[:count]
            del model[:count]
            return taken
        case ("pop_many_right", count):
            taken = model[::-1][:count]
            del model[max(len(model) - count, 0) :]
            return taken
        case ("set", index, element):
            if not -len(model) <= index < len(model):
                return False
            model[index] = element
            return True
        case ("get", index):
            return model[index] if -len(model) <= index < len(model) else None
        case ("slice", start, stop):
            return model[start:stop]
        case ("trim", start, stop):
            model[:] = model[start:stop]
        case ("insert", pivot, element, after):
            if pivot not in model:
                return False
            model.insert(model.index(pivot) + after, element)
            return True
        case ("remove", element, count):
            return remove(model, element, count)
        case ("positions", element, most, backwards):
            looked_at = (model[::-1] if backwards else model)[: most or None]
            return [distance for distance, other in enumerate(looked_at) if other == element]
    return None


@settings(max_examples=150, deadline=None)
@given(st.lists(_elements, max_size=300), _steps)
def test_does_what_a_plain_list_does(initial: list[bytes], steps: list[tuple[Any, ...]]) -> None:
    value, model = ListValue.of(initial), list(initial)
    for step in steps:
        if step == ("copy",):
            original, value = value, value.copy()
            original.set(0, b"other")
            original.set(len(original) // 2, b"other")
            original.push_right([b"other"])
        else:
            assert act(value, step) == expect(model, step), step
        assert list(value) == model
        assert len(value) == len(model)


def test_removing_most_of_a_long_list_leaves_full_nodes() -> None:
    value = ListValue.of([b"keep" if number % 50 == 0 else b"drop" for number in range(100_000)])
    long_bytes = value.memory_bytes(0)
    assert value.remove(b"drop", 0) == 98_000
    assert list(value) == [b"keep"] * 2000
    assert value.memory_bytes(0) < long_bytes / 20


def test_inserting_at_one_place_over_and_over_splits_nodes() -> None:
    value, model = ListValue.of([b"%d" % number for number in range(1000)]), [b"%d" % number for number in range(1000)]
    for number in range(1000):
        value.insert(b"500", b"new%d" % number, after=True)
        model.insert(model.index(b"500") + 1, b"new%d" % number)
    assert list(value) == model


def test_a_long_list_needs_little_more_than_its_bytes() -> None:
    count = 100_000
    value = ListValue.of([b"%010d" % number for number in range(count)])
    assert value.memory_bytes(0) < count * 17
    assert ListValue.of([b"x"]).memory_bytes(0) < 500


def test_memory_is_judged_by_samples() -> None:
    value = ListValue.of([b"%010d" % number for number in range(20_000)])
    assert abs(value.memory_bytes(5) - value.memory_bytes(0)) < value.memory_bytes(0) / 10


def test_bulky_elements_are_kept_as_they_are() -> None:
    bulky = [bytes(10_000) + b"%d" % number for number in range(1000)]
    value = ListValue.of(bulky)
    assert value.get(500) is bulky[500]
    assert sys.getrefcount(bulky[500]) > 2


def test_a_range_in_the_middle_of_a_million_is_found_without_walking_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nodes that hold it are unpacked, of those before it none is looked at."""
    value = ListValue.of([b"%d" % number for number in range(1_000_000)])
    unpacked: list[lists.Node] = []
    unpack = lists._unpack
    monkeypatch.setattr(lists, "_unpack", lambda node: (unpacked.append(node), unpack(node))[1])
    for start in (1, 500_000, 999_000):
        unpacked.clear()
        with counted_calls() as calls:
            assert value.slice(start, start + 600)[0] == b"%d" % start
        assert len(unpacked) <= 600 // NODE_ELEMENTS + 2
        assert calls.count < 50


def test_digest_depends_on_the_order() -> None:
    digests = {ListValue.of(elements).mix_into_digest(EMPTY_DIGEST) for elements in ([b"a", b"b"], [b"b", b"a"])}
    assert len(digests) == 2


def test_encoding() -> None:
    assert ListValue.of([b"a"]).encoding() == b"quicklist"
