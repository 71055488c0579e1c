"""A ranking against a sorted list of pairs, with chunks so small that a few members make many of them."""

from __future__ import annotations

import random
from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace import ranking
from cluster.keyspace.ranking import Ranking
from cluster.keyspace.reclaim import RECLAIMER


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "MOST_IN_CHUNK", 6)
        patch.setattr(ranking, "_NEW_CHUNK", 4)
        patch.setattr(ranking, "_MERGE_BELOW", 2)
        patch.setattr(ranking, "_TIDY_EVERY", 1)
        yield


Model = list[tuple[float, bytes]]

scores = st.sampled_from((0.0, 1.0, 2.0, -1.5, float("inf"), float("-inf")))
names = st.integers(0, 60).map(lambda n: b"%d" % n)
Step = tuple[str, float, bytes, int]

actions = st.sampled_from(("add", "add", "add", "remove", "span", "first", "last"))
steps = st.lists(st.tuples(actions, scores, names, st.integers(0, 60)), max_size=120)


def apply(value: Ranking, model: Model, step: Step) -> None:
    action, score, member, place = step
    if action == "add" and all(member != other for _score, other in model):
        value.add(score, member)
        insort(model, (score, member))
    elif action == "remove" and model:
        score, member = model.pop(place % len(model))
        value.remove(score, member)
    elif action == "first" and model:
        assert value.pop_first() == model.pop(0)[::-1]
    elif action == "last" and model:
        assert value.pop_last() == model.pop()[::-1]
    elif action == "span":
        start = min(place // 2, len(model))
        stop = min(start + place % 8, len(model))
        assert value.remove_span(start, stop) == [member for _score, member in model[start:stop]]
        del model[start:stop]


def check(value: Ranking, model: Model) -> None:
    pairs = [(member, score) for score, member in model]
    assert list(value.ascending()) == pairs
    assert list(value.descending()) == pairs[::-1]
    assert list(value.members()) == [member for member, _score in pairs]
    for place, (score, member) in enumerate(model):
        assert value.rank(score, member) == place
    for score in (0.0, 0.5, 2.0, float("inf"), float("-inf")):
        assert value.below_score(score, or_equal=False) == sum(other < score for other, _member in model)
        assert value.below_score(score, or_equal=True) == sum(other <= score for other, _member in model)
        assert value.rank(score, b"3") == bisect_left(model, (score, b"3"))
    if model:
        assert value.first() == pairs[0] and value.last() == pairs[-1]
    for start, stop in ((0, len(model)), (1, 3), (5, 5), (2, len(model) - 2), (7, 4)):
        if stop <= len(model):
            members, found = value.window(start, stop)
            assert list(zip(members, found, strict=True)) == pairs[start : max(stop, 0)]


@given(steps=steps, begin=st.dictionaries(names, scores))
def test_behaves_like_a_sorted_list(steps: list[Step], begin: dict[bytes, float]) -> None:
    value = Ranking.of(begin.values(), begin)
    model = sorted((score, member) for member, score in begin.items())
    for step in steps:
        apply(value, model, step)
        if len(steps) < 20:
            check(value, model)
    check(value, model)
    copied = value.copy()
    value.remove_span(0, len(model))
    check(value, [])
    check(copied, model)


@given(members=st.sets(st.binary(max_size=3), min_size=1, max_size=40), bound=st.binary(max_size=3))
def test_bytes_decide_where_all_scores_are_equal(members: set[bytes], bound: bytes) -> None:
    value = Ranking()
    for member in members:
        value.add(1.0, member)
    assert value.has_one_score()
    assert value.below_member(bound, or_equal=False) == sum(member < bound for member in members)
    assert value.below_member(bound, or_equal=True) == sum(member <= bound for member in members)
    value.add(2.0, b"other")
    assert not value.has_one_score() and Ranking().has_one_score()


def test_ranks_stay_right_while_it_is_large() -> None:
    """The sizes of many chunks are kept by a tree that follows each change."""
    rng = random.Random(1)
    value, model = Ranking(), Model()
    for number in range(3000):
        pair = (float(rng.randrange(50)), b"%d" % number)
        value.add(*pair)
        insort(model, pair)
        if number % 3 == 2:
            value.remove(*model.pop(rng.randrange(len(model))))
        place = rng.randrange(len(model))
        assert value.rank(*model[place]) == place
        assert value.window(place, place + 1) == ([model[place][1]], array("d", [model[place][0]]))


def test_a_large_one_is_freed_in_pieces() -> None:
    """What is left of it are lists of lists, which the reclaimer takes apart."""
    RECLAIMER.drain(10_000_000)
    value = Ranking([(0.5, b"%d" % number) for number in range(20_000)])
    assert not RECLAIMER
    del value
    assert RECLAIMER
    RECLAIMER.drain(10_000_000)
    assert not RECLAIMER


@given(pairs=st.dictionaries(names, scores, max_size=60), order=st.sampled_from(("up", "down", "any")))
def test_columns_in_any_order_make_a_ranking(pairs: dict[bytes, float], order: str) -> None:
    model = sorted((score, member) for member, score in pairs.items())
    given_pairs = {"up": model, "down": model[::-1], "any": [(score, member) for member, score in pairs.items()]}[order]
    members = [member for _score, member in given_pairs]
    value = Ranking.of_columns(array("d", [score for score, _member in given_pairs]), list(members))
    check(value, model)
    by_text = {member: member for member in members}
    for score, member in model:
        assert value.own(bytes(bytearray(member)), score) is by_text[member]
        stranger = member + b"?"
        assert value.own(stranger, score) is stranger
    check(value, model)
