"""The arithmetic of places: hashes against known ones, squares against their neighbours, searches against looking
at all.
"""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace import geohash
from cluster.keyspace.geohash import LATITUDE_MAX, Hash, Shape

longitudes = st.floats(-180, 180)
latitudes = st.floats(-LATITUDE_MAX, LATITUDE_MAX)
PALERMO, CATANIA = (13.361389, 38.115556), (15.087269, 37.502669)


def test_known_places() -> None:
    """From the documentation of GEOADD, GEOHASH and GEODIST."""
    scores = [geohash.score_of(*place) for place in (PALERMO, CATANIA)]
    assert scores == [3479099956230698, 3479447370796909]
    assert [geohash.text_of(score) for score in scores] == [b"sqc8b49rny0", b"sqdtr74hyu0"]
    assert geohash.place_of(scores[0]) == (13.36138933897018433, 38.11555639549629859)
    distance_m = geohash.distance_m(*geohash.place_of(scores[0]), *geohash.place_of(scores[1]))
    assert round(distance_m, 4) == 166274.1516


@given(longitude=longitudes, latitude=latitudes)
def test_a_place_is_where_it_was_up_to_its_square(longitude: float, latitude: float) -> None:
    found = geohash.place_of(geohash.score_of(longitude, latitude))
    assert abs(found[0] - longitude) <= 360 / (1 << 26) and abs(found[1] - latitude) <= 2 * LATITUDE_MAX / (1 << 26)


@given(score=st.one_of(st.integers(0, (1 << 53) - 1), st.integers(0, 1 << 20).map(lambda low: (1 << 52) - 1 - low)))
def test_the_short_way_to_a_place_is_exact(score: int) -> None:
    assert geohash.place_of(float(score)) == geohash._place_of_no_place(float(score))


@given(even=st.integers(0, (1 << 32) - 1), odd=st.integers(0, (1 << 32) - 1))
def test_interleaving(even: int, odd: int) -> None:
    bits = geohash._interleave(even, odd)
    text = f"{bits:064b}"
    assert (int(text[1::2], 2), int(text[::2], 2)) == (even, odd) == geohash._deinterleave(bits)


@given(longitude=st.floats(-179, 179), latitude=st.floats(-84, 84), step=st.integers(1, 26))
def test_a_square_holds_its_places_and_its_scores(longitude: float, latitude: float, step: int) -> None:
    square = geohash.encode(longitude, latitude, step)
    area = geohash.area_of(square)
    slack = 1e-12  # What is nearer to a side than doubles tell may be on the other side of it.
    assert area.west - slack <= longitude <= area.east + slack
    assert area.south - slack <= latitude <= area.north + slack
    low, high = geohash.score_bounds(square)
    assert low <= geohash.score_of(longitude, latitude) < high


@given(
    longitude=longitudes, latitude=latitudes, step=st.integers(1, 26), east=st.integers(-1, 1), north=st.integers(-1, 1)
)
def test_a_step_there_and_back(longitude: float, latitude: float, step: int, east: int, north: int) -> None:
    square = geohash.encode(min(longitude, 179.99), min(latitude, 85.0), step)
    moved = geohash._moved(square, east, north)
    assert geohash._moved(moved, -east, -north) == square
    if (east, north) != (0, 0):
        assert moved != square
    here, there = geohash.area_of(square), geohash.area_of(moved)
    if east and 0 < abs(there.west - here.west) < 180:
        assert math.isclose(there.west if east > 0 else there.east, here.east if east > 0 else here.west, abs_tol=1e-9)


@pytest.mark.parametrize(
    ("score", "bits"),
    [
        (0.0, 0), (-0.0, 0), (1.9, 1), (-1.0, (1 << 64) - 1), (float(1 << 63), 1 << 63), (float(1 << 64), 0),
        (math.inf, 0), (-math.inf, 1 << 63), (-1e300, 1 << 63), (1e300, 0),
    ],
)  # fmt: skip
def test_scores_that_are_no_places(score: float, bits: int) -> None:
    """A sorted set may hold any score: it is cast as the processor does, and taken for a place on the map."""
    assert geohash._to_uint64(score) == bits
    longitude, latitude = geohash.place_of(score)
    assert abs(longitude) <= 180 and abs(latitude) <= LATITUDE_MAX
    assert len(geohash.text_of(score)) == 11


shapes = st.builds(
    lambda longitude, latitude, unit_m, radius, width, height, circular: Shape(
        longitude, latitude, unit_m, radius if circular else None, width, height
    ),
    longitudes, latitudes, st.sampled_from((1.0, 1000.0, 0.3048, 1609.34)),
    *[st.one_of(st.floats(0, 1e7), st.sampled_from((0.0, math.inf, 1e308)))] * 3, st.booleans(),
)  # fmt: skip


@given(shape=shapes)
def test_any_shape_can_be_searched(shape: Shape) -> None:
    squares = geohash.squares_to_search(shape)
    assert 1 <= len(squares) <= 9 and all(isinstance(square, Hash) for square in squares)


@pytest.mark.parametrize("seed", range(20))
def test_a_search_finds_what_looking_at_all_does(seed: int) -> None:
    rng = random.Random(seed)
    centre = rng.uniform(-150, 150), rng.uniform(-60, 60)
    reach_m = 10 ** rng.uniform(2, 5.5)
    if seed % 2:
        shape = Shape(*centre, 1.0, reach_m)
    else:
        shape = Shape(*centre, 1.0, None, reach_m, 10 ** rng.uniform(2, 5.5))
    spread = max(shape.radius or 0, shape.width, shape.height) / 80_000
    places = [(centre[0] + rng.uniform(-spread, spread), centre[1] + rng.uniform(-spread, spread)) for _ in range(1000)]
    bounds = [geohash.score_bounds(square) for square in geohash.squares_to_search(shape)]
    for place in places:
        score = geohash.score_of(*place)
        if shape.distance_m(*geohash.place_of(score)) is not None:
            assert sum(low <= score < high for low, high in bounds) == 1


def test_distances_to_the_other_side_of_the_earth() -> None:
    half_way_round_m = math.pi * 6372797.560856
    assert geohash.distance_m(0.0, 0.0, 180.0, 0.0) == pytest.approx(half_way_round_m)
    assert geohash.distance_m(10.0, 20.0, 10.0, -20.0) == pytest.approx(half_way_round_m * 40 / 180)
    for latitude in (n / 7 for n in range(-500, 500)):
        distance_m = geohash.distance_m(12.3, latitude, -167.7, -latitude)  # The rounding may go beyond the possible.
        assert math.isnan(distance_m) or distance_m == pytest.approx(half_way_round_m)
