"""Places on the earth as 52-bit integers: encoding, decoding, distances, and which squares a search must look into.

Role        The arithmetic behind the GEO commands. A hash of ``step`` bits per coordinate interleaves the two, latitude
            in the even bits; so places that are near each other tend to have near hashes, and a square of the map is a
            range of scores in a sorted set.
Invariants  The same doubles in the same order of operations as in Redis, whose replies and scores show every bit. C
            gives inf and NaN where Python raises: see :func:`_cos` and :func:`distance_m`.
Source      geohash.c, geohash_helper.c, decodeGeohash and scoresOfGeoHashBox in geo.c.
Units       Degrees; distances in metres (``*_m``).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

STEP_MAX: Final = 26
LATITUDE_MAX: Final = 85.05112878
"""Of EPSG:900913, which cannot show the poles."""
LONGITUDE_MAX: Final = 180.0
_WEST, _WIDTH = -LONGITUDE_MAX, 2 * LONGITUDE_MAX
_SOUTH, _HEIGHT = -LATITUDE_MAX, 2 * LATITUDE_MAX
_SIZE_MAX: Final = 1 << STEP_MAX
_SCORES: Final = 1 << 2 * STEP_MAX
"""Scores below this are places; others have more bits than are used."""

_EARTH_RADIUS_M: Final = 6372797.560856
_MERCATOR_MAX_M: Final = 20037726.37
_RADIANS: Final = math.pi / 180.0
_MASK_32: Final = (1 << 32) - 1
_MASK_64: Final = (1 << 64) - 1
_EVEN_BITS: Final = 0x5555555555555555
_ODD_BITS: Final = 0xAAAAAAAAAAAAAAAA
_PAIRED_1, _PAIRED_2, _PAIRED_4, _PAIRED_8, _PAIRED_16, _PAIRED_32 = (
    mask | mask << 64
    for mask in (
        0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF,
        0x00000000FFFFFFFF,
    )
)  # fmt: skip
"""Groups of so many bits with gaps as wide, in each half of a number of 128 bits: two coordinates go at once."""
_ALPHABET: Final = b"0123456789bcdefghjkmnpqrstuvwxyz"


class Hash(NamedTuple):
    """A square: its interleaved bits, and how many of them each coordinate has."""

    bits: int
    step: int


class Area(NamedTuple):
    """A square's sides in degrees."""

    west: float
    east: float
    south: float
    north: float


class Shape(NamedTuple):
    """Where to search: around a place, a circle or a box. Lengths are in units of ``unit_m`` metres."""

    longitude: float
    latitude: float
    unit_m: float
    radius: float | None
    """None for a box."""
    width: float = 0.0
    height: float = 0.0

    def distance_m(self, longitude: float, latitude: float) -> float | None:
        """How far a place is from the centre, or None when it is outside."""
        if self.radius is not None:
            distance = distance_m(self.longitude, self.latitude, longitude, latitude)
            return None if distance > self.radius * self.unit_m else distance
        if _latitude_distance_m(latitude, self.latitude) > self.height * self.unit_m / 2:
            return None
        if distance_m(longitude, latitude, self.longitude, latitude) > self.width * self.unit_m / 2:
            return None
        return distance_m(self.longitude, self.latitude, longitude, latitude)


# Hashes ---------------------------------------------------------------------------------------------------------


def _interleave(even: int, odd: int) -> int:
    """A number with the bits of one in its even bits, and of the other in its odd bits."""
    both = even | odd << 64
    both = (both | both << 16) & _PAIRED_16
    both = (both | both << 8) & _PAIRED_8
    both = (both | both << 4) & _PAIRED_4
    both = (both | both << 2) & _PAIRED_2
    both = (both | both << 1) & _PAIRED_1
    return (both & _MASK_64) | both >> 64 << 1


def _deinterleave(bits: int) -> tuple[int, int]:
    """The even bits of a number, and its odd bits."""
    both = (bits & _EVEN_BITS) | (bits >> 1 & _EVEN_BITS) << 64
    both = (both | both >> 1) & _PAIRED_2
    both = (both | both >> 2) & _PAIRED_4
    both = (both | both >> 4) & _PAIRED_8
    both = (both | both >> 8) & _PAIRED_16
    both = (both | both >> 16) & _PAIRED_32
    return both & _MASK_32, both >> 64


def encode(longitude: float, latitude: float, step: int, latitude_max: float = LATITUDE_MAX) -> Hash:
    """The square that holds a place, on a map that reaches to ``latitude_max`` north and south."""
    latitude_offset = (latitude + latitude_max) / (2 * latitude_max) * (1 << step)
    longitude_offset = (longitude + LONGITUDE_MAX) / (2 * LONGITUDE_MAX) * (1 << step)
    return Hash(_interleave(int(latitude_offset), int(longitude_offset)), step)


def score_of(longitude: float, latitude: float) -> int:
    """The score of a place in a sorted set."""
    return encode(longitude, latitude, STEP_MAX).bits


def area_of(square: Hash) -> Area:
    """The sides of a square."""
    latitude, longitude = _deinterleave(square.bits)
    size = 1 << square.step
    return Area(
        west=_WEST + longitude / size * _WIDTH,
        east=_WEST + ((longitude + 1) & _MASK_32) / size * _WIDTH,
        south=_SOUTH + latitude / size * _HEIGHT,
        north=_SOUTH + ((latitude + 1) & _MASK_32) / size * _HEIGHT,
    )


def place_of(score: float) -> tuple[float, float]:
    """Longitude and latitude of the middle of the square that a score stands for, whatever the score is."""
    if not 0 <= score < _SCORES:
        return _place_of_no_place(score)
    # What area_of computes, for the search that asks this of every candidate.
    latitude, longitude = _deinterleave(int(score))
    return (
        (_WEST + longitude / _SIZE_MAX * _WIDTH + (_WEST + (longitude + 1) / _SIZE_MAX * _WIDTH)) / 2,
        (_SOUTH + latitude / _SIZE_MAX * _HEIGHT + (_SOUTH + (latitude + 1) / _SIZE_MAX * _HEIGHT)) / 2,
    )


def _place_of_no_place(score: float) -> tuple[float, float]:
    area = area_of(Hash(_to_uint64(score), STEP_MAX))
    longitude = (area.west + area.east) / 2
    latitude = (area.south + area.north) / 2
    return (
        max(min(longitude, LONGITUDE_MAX), -LONGITUDE_MAX),
        max(min(latitude, LATITUDE_MAX), -LATITUDE_MAX),
    )


def _to_uint64(score: float) -> int:
    """A double as x86-64 casts it, also where C leaves that open."""
    if 0 <= score < 1 << 63:
        return int(score)
    if score < 0:
        return int(score) & _MASK_64 if score >= -(1 << 63) else 1 << 63
    return int(score) if score < 1 << 64 else 0


def text_of(score: float) -> bytes:
    """The geohash of eleven letters that others use, whose map reaches to the poles; the last letter is always 0."""
    bits = encode(*place_of(score), STEP_MAX, latitude_max=90.0).bits
    letters = [_ALPHABET[bits >> (47 - 5 * place) & 31] for place in range(10)]
    return bytes((*letters, _ALPHABET[0]))


def score_bounds(square: Hash) -> tuple[int, int]:
    """The scores of the places in a square: from the first up to the second, exclusive."""
    shift = 2 * (STEP_MAX - square.step)
    return square.bits << shift & _MASK_64, (square.bits + 1) << shift & _MASK_64


# Distances ------------------------------------------------------------------------------------------------------


def _cos(angle: float) -> float:
    return math.nan if math.isinf(angle) else math.cos(angle)


def _latitude_distance_m(latitude: float, other: float) -> float:
    return _EARTH_RADIUS_M * abs(other * _RADIANS - latitude * _RADIANS)


def distance_m(longitude: float, latitude: float, other_longitude: float, other_latitude: float) -> float:
    """Along a great circle (haversine)."""
    v = math.sin((other_longitude * _RADIANS - longitude * _RADIANS) / 2)
    if v == 0.0:
        return _latitude_distance_m(latitude, other_latitude)
    latitude_r, other_latitude_r = latitude * _RADIANS, other_latitude * _RADIANS
    u = math.sin((other_latitude_r - latitude_r) / 2)
    a = u * u + math.cos(latitude_r) * math.cos(other_latitude_r) * v * v
    root = math.sqrt(a)
    return math.nan if root > 1.0 else 2.0 * _EARTH_RADIUS_M * math.asin(root)


# Searching ------------------------------------------------------------------------------------------------------


def squares_to_search(shape: Shape) -> list[Hash]:
    """The squares that cover a shape: the one with its centre, and those around it that are needed."""
    bounds = _bounding_box(shape)
    step = _estimate_step(_reach_m(shape), shape.latitude)
    centre = encode(shape.longitude, shape.latitude, step)
    if step > 1 and not _is_covered(centre, bounds):
        step -= 1
        centre = encode(shape.longitude, shape.latitude, step)
    return _distinct([centre, *_neighbours(centre, bounds)])


def _distinct(squares: list[Hash]) -> list[Hash]:
    """Without repetitions of the one before, which a huge shape has. As in Redis the centre is not compared."""
    kept = squares[:1]
    for square in squares[1:]:
        if len(kept) == 1 or square != kept[-1]:
            kept.append(square)
    return kept


def _reach_m(shape: Shape) -> float:
    """From the centre to the farthest point."""
    if shape.radius is not None:
        return shape.radius * shape.unit_m
    half_width, half_height = shape.width / 2, shape.height / 2
    return math.sqrt(half_width * half_width + half_height * half_height) * shape.unit_m


def _estimate_step(reach_m: float, latitude: float) -> int:
    """How small the squares may be, so that nine of them cover what is within reach."""
    if reach_m == 0:
        return STEP_MAX
    step = 1
    while reach_m < _MERCATOR_MAX_M:
        reach_m *= 2
        step += 1
    step -= 2  # One more would miss some places in the corners.
    if latitude > 66 or latitude < -66:  # The squares become narrow towards the poles.
        step -= 1
        if latitude > 80 or latitude < -80:
            step -= 1
    return min(max(step, 1), STEP_MAX)


def _bounding_box(shape: Shape) -> Area:
    """Sides around a shape; those in the east and west as far out as its wider end, which is the one near the pole."""
    height = shape.unit_m * (shape.height / 2 if shape.radius is None else shape.radius)
    width = shape.unit_m * (shape.width / 2 if shape.radius is None else shape.radius)
    latitude_delta = height / _EARTH_RADIUS_M / _RADIANS
    edge = shape.latitude - latitude_delta if shape.latitude < 0 else shape.latitude + latitude_delta
    longitude_delta = width / _EARTH_RADIUS_M / _cos(edge * _RADIANS) / _RADIANS
    return Area(
        west=shape.longitude - longitude_delta,
        east=shape.longitude + longitude_delta,
        south=shape.latitude - latitude_delta,
        north=shape.latitude + latitude_delta,
    )


def _is_covered(centre: Hash, bounds: Area) -> bool:
    """False when a side of the nine squares around a centre is inside the bounds."""
    return not (
        area_of(_moved(centre, 0, 1)).north < bounds.north
        or area_of(_moved(centre, 0, -1)).south > bounds.south
        or area_of(_moved(centre, 1, 0)).east < bounds.east
        or area_of(_moved(centre, -1, 0)).west > bounds.west
    )


def _neighbours(centre: Hash, bounds: Area) -> list[Hash]:
    """The squares around the centre but those beyond the bounds, in Redis's order."""
    area = area_of(centre)
    is_small = centre.step >= 2
    beyond = {
        (0, -1): is_small and area.south < bounds.south,
        (0, 1): is_small and area.north > bounds.north,
        (-1, 0): is_small and area.west < bounds.west,
        (1, 0): is_small and area.east > bounds.east,
    }
    directions = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
    return [
        _moved(centre, east, north)
        for east, north in directions
        if not (beyond.get((east, 0), False) or beyond.get((0, north), False))
    ]


def _moved(square: Hash, east: int, north: int) -> Hash:
    """A neighbour: one step or none in each direction, round the edges of the map."""
    longitude, latitude = square.bits & _ODD_BITS, square.bits & _EVEN_BITS
    used = (1 << 2 * square.step) - 1
    if east:
        longitude = _next(longitude, _EVEN_BITS & used, east) & _ODD_BITS & used
    if north:
        latitude = _next(latitude, _ODD_BITS & used, north) & _EVEN_BITS & used
    return Hash(longitude | latitude, square.step)


def _next(bits: int, gaps: int, direction: int) -> int:
    """Add or take one in a number whose bits are every other one; carries run through the gaps."""
    return bits + gaps + 1 if direction > 0 else (bits | gaps) - (gaps + 1)
