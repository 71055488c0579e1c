"""The first few in order: against sorting everything, and equal ones against Redis's own partial sort."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace.partial_sort import first_of
from tests.support.servers import RealRedis


@given(keys=st.lists(st.integers(0, 30).map(float), min_size=1, max_size=300), wanted=st.integers(1, 320))
def test_the_first_few_are_the_least_in_order(keys: list[float], wanted: int) -> None:
    positions = first_of(keys, wanted)
    assert [keys[position] for position in positions] == sorted(keys)[:wanted]
    assert len(set(positions)) == len(positions)


@given(keys=st.lists(st.floats(allow_nan=False), unique=True, min_size=1, max_size=100), wanted=st.integers(1, 100))
def test_different_keys_have_one_order(keys: list[float], wanted: int) -> None:
    assert first_of(keys, wanted) == sorted(range(len(keys)), key=keys.__getitem__)[:wanted]


@pytest.mark.real_redis
def test_equal_ones_are_where_redis_has_them() -> None:
    """GEOSEARCH sorts what it found by distance: here many members in few places, found in the order of their names."""
    rng = random.Random(3)
    with RealRedis() as server:
        for count in (3, 7, 8, 20, 41, 100, 500):
            server.call("FLUSHALL")
            names = [f"{number:04d}" for number in range(count)]
            places = {name: rng.randrange(min(count, 8)) for name in names}
            server.call("GEOADD", "g", *(word for name in names for word in (places[name] / 100, 0, name)))
            query = ("GEOSEARCH", "g", "FROMLONLAT", 0, 0, "BYRADIUS", 100, "km")
            found = [name.decode() for name in server.call(*query)]
            for wanted in {1, 2, 5, count // 2, count - 1} - {0}:
                for order, sign in (("ASC", 1.0), ("DESC", -1.0)):
                    expected = [name.decode() for name in server.call(*query, "COUNT", wanted, order)]
                    positions = first_of([sign * places[name] for name in found], wanted)
                    assert [found[position] for position in positions] == expected, (count, wanted, order)
