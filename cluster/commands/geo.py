"""Geo commands: sorted sets whose scores are places. Redis 7.0: geo.c. GEOADD is replicated as the ZADD that it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import attrs

from cluster import errors
from cluster.commands.arguments import parse_double, parse_integer
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.commands.sorted_set_ranges import store_result
from cluster.commands.sorted_sets import checked_sorted_set, read_sorted_set, zadd
from cluster.errors import CommandError
from cluster.keyspace import geohash
from cluster.keyspace.geohash import LATITUDE_MAX, LONGITUDE_MAX, Shape
from cluster.keyspace.partial_sort import first_of
from cluster.keyspace.sorted_sets import SortedSetValue
from cluster.resp.encode import EMPTY_ARRAY, ZERO, array, bulk, bulk_array, integer
from cluster.slots.hashing import key_slot

_UNITS_M: Final = {b"m": 1.0, b"km": 1000.0, b"ft": 0.3048, b"mi": 1609.34}
_ADD_OPTIONS: Final = frozenset({b"NX", b"XX", b"CH"})
_NO_SUCH_MEMBER: Final = b"ERR could not decode requested zset member"
_INT64_MIN: Final = -(1 << 63)


class Point(NamedTuple):
    """A member that was found."""

    distance_m: float
    member: bytes
    score: float
    longitude: float
    latitude: float


# Arguments and replies ------------------------------------------------------------------------------------------


def _parse_place(longitude: bytes, latitude: bytes) -> tuple[float, float]:
    place = parse_double(longitude), parse_double(latitude)
    if not (-LONGITUDE_MAX <= place[0] <= LONGITUDE_MAX and -LATITUDE_MAX <= place[1] <= LATITUDE_MAX):
        raise CommandError(b"ERR invalid longitude,latitude pair %f,%f" % place)
    return place


def _parse_unit(word: bytes) -> float:
    unit_m = _UNITS_M.get(word.lower())
    if unit_m is None:
        raise CommandError(b"ERR unsupported unit provided. please use M, KM, FT, MI")
    return unit_m


def _parse_radius(radius: bytes, unit: bytes) -> tuple[float, float]:
    """The radius and its unit in metres."""
    length = parse_double(radius, b"ERR need numeric radius")
    if length < 0:
        raise CommandError(b"ERR radius cannot be negative")
    return length, _parse_unit(unit)


def _parse_box(width: bytes, height: bytes, unit: bytes) -> tuple[float, float, float]:
    """Width, height and their unit in metres."""
    lengths = parse_double(width, b"ERR need numeric width"), parse_double(height, b"ERR need numeric height")
    if min(lengths) < 0:
        raise CommandError(b"ERR height or width cannot be negative")
    return (*lengths, _parse_unit(unit))


def _place_of_member(value: SortedSetValue, member: bytes) -> tuple[float, float]:
    score = value.scores.get(member)
    if score is None:
        raise CommandError(_NO_SUCH_MEMBER)
    return geohash.place_of(score)


def _distance_text(distance: float) -> bytes:
    """Four digits after the point; what no 64-bit integer can hold becomes the least of them, as C's llrint has it."""
    scaled = distance * 10_000
    digits = round(scaled) if abs(scaled) < 1 << 63 else _INT64_MIN
    whole, fraction = divmod(abs(digits), 10_000)
    return b"%b%d.%04d" % (b"-" if digits < 0 else b"", whole, fraction)


def _place_reply(client: Session, longitude: float, latitude: float) -> bytes:
    """Two numbers as people write them."""
    texts = [(b"%.17f" % number).rstrip(b"0").rstrip(b".") for number in (longitude, latitude)]
    texts = [b"0" if text == b"-0" else text for text in texts]
    if client.proto.version == 3:
        return b"*2\r\n,%b\r\n,%b\r\n" % (texts[0], texts[1])
    return bulk_array(texts)


# Single places --------------------------------------------------------------------------------------------------


@command("geoadd")
def geoadd(client: Session, argv: list[bytes]) -> bytes | None:
    start = 2
    while start < len(argv) and argv[start].upper() in _ADD_OPTIONS:
        start += 1
    options = {word.upper() for word in argv[2:start]}
    if (len(argv) - start) % 3 or {b"NX", b"XX"} <= options:
        raise CommandError(errors.SYNTAX)
    request = [b"zadd", *argv[1:start]]
    for place in range(start, len(argv), 3):
        longitude, latitude = _parse_place(argv[place], argv[place + 1])
        request += (b"%d" % geohash.score_of(longitude, latitude), argv[place + 2])
    dirty_before = client.db.keyspace.dirty
    reply = zadd(client, request)
    if client.db.keyspace.dirty != dirty_before:
        client.effects = [request]
    return reply


def _scores(client: Session, argv: list[bytes]) -> list[float | None]:
    """The scores of the members after the key."""
    value = read_sorted_set(client, argv[1])
    if value is None:
        return [None] * (len(argv) - 2)
    return [value.scores.get(member) for member in argv[2:]]


@command("geohash")
def geohash_command(client: Session, argv: list[bytes]) -> bytes:
    null = client.proto.null
    return array([null if score is None else bulk(geohash.text_of(score)) for score in _scores(client, argv)])


@command("geopos")
def geopos(client: Session, argv: list[bytes]) -> bytes:
    null = client.proto.null_array
    scores = _scores(client, argv)
    return array([null if score is None else _place_reply(client, *geohash.place_of(score)) for score in scores])


@command("geodist")
def geodist(client: Session, argv: list[bytes]) -> bytes:
    unit_m = _parse_unit(argv[4]) if len(argv) == 5 else 1.0
    if len(argv) > 5:
        raise CommandError(errors.SYNTAX)
    first, second = _scores(client, argv[:4])
    if first is None or second is None:
        return client.proto.null
    distance_m = geohash.distance_m(*geohash.place_of(first), *geohash.place_of(second))
    return bulk(_distance_text(distance_m / unit_m))


# Searching ------------------------------------------------------------------------------------------------------


@attrs.define
class Search:
    """What a search is asked for, and what is known of its shape so far."""

    value: SortedSetValue | None
    is_geosearch: bool = False
    store_key: bytes | None = None
    may_store: bool = False
    """STORE and STOREDIST name a key."""
    stores_distance: bool = False
    with_distance: bool = False
    with_hash: bool = False
    with_place: bool = False
    descending: bool | None = None
    count: int = 0
    is_any: bool = False
    place: tuple[float, float] = (0.0, 0.0)
    has_member: bool = False
    has_place: bool = False
    circle: tuple[float, float] | None = None
    box: tuple[float, float, float] | None = None

    def parse_options(self, words: list[bytes]) -> None:
        """Read everything after the arguments that stand in fixed places. Raises CommandError."""
        rest = words
        while rest:
            rest = rest[self._parse_option(rest) :]

    def _parse_option(self, words: list[bytes]) -> int:
        """Read one option; returns how many words it has."""
        name = words[0].upper()
        flag = _FLAGS.get(name)
        if flag is not None:
            attribute, setting = flag
            setattr(self, attribute, setting)
            return 1
        available = len(words) - 1
        if name == b"COUNT" and available >= 1:
            self.count = parse_integer(words[1])
            if self.count <= 0:
                raise CommandError(b"ERR COUNT must be > 0")
            return 2
        if name in (b"STORE", b"STOREDIST") and available >= 1 and self.may_store:
            self.store_key = words[1]
            self.stores_distance = name == b"STOREDIST"
            return 2
        if not self.is_geosearch:
            raise CommandError(errors.SYNTAX)
        return self._parse_shape(name, words, available)

    def _parse_shape(self, name: bytes, words: list[bytes], available: int) -> int:
        """Read an option that only GEOSEARCH and GEOSEARCHSTORE have."""
        if name == b"STOREDIST" and self.store_key is not None:
            self.stores_distance = True
            return 1
        if name == b"FROMMEMBER" and available >= 1 and not self.has_place:
            if self.value is not None:
                self.place = _place_of_member(self.value, words[1])
            self.has_member = True
            return 2
        if name == b"FROMLONLAT" and available >= 2 and not self.has_member:
            self.place = _parse_place(words[1], words[2])
            self.has_place = True
            return 3
        if name == b"BYRADIUS" and available >= 2 and self.box is None:
            self.circle = _parse_radius(words[1], words[2])
            return 3
        if name == b"BYBOX" and available >= 3 and self.circle is None:
            self.box = _parse_box(words[1], words[2], words[3])
            return 4
        raise CommandError(errors.SYNTAX)

    def check(self, name: bytes) -> None:
        """Refuse what does not go together. Raises CommandError."""
        if self.store_key is not None and (self.with_distance or self.with_hash or self.with_place):
            who = b"GEOSEARCHSTORE" if self.is_geosearch else b"STORE option in GEORADIUS"
            raise CommandError(b"ERR %b is not compatible with WITHDIST, WITHHASH and WITHCOORD options" % who)
        if self.is_geosearch and not (self.has_member or self.has_place):
            raise CommandError(b"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for %b" % name)
        if self.is_geosearch and self.circle is None and self.box is None:
            raise CommandError(b"ERR exactly one of BYRADIUS and BYBOX can be specified for %b" % name)
        if self.is_any and not self.count:
            raise CommandError(b"ERR the ANY argument requires COUNT argument")

    def shape(self) -> Shape:
        """Where to search."""
        if self.box is not None:
            width, height, unit_m = self.box
            return Shape(*self.place, unit_m, None, width, height)
        assert self.circle is not None
        radius, unit_m = self.circle
        return Shape(*self.place, unit_m, radius)

    def find(self, value: SortedSetValue) -> list[Point]:
        """The members asked for, in the order asked for."""
        found = _points(value, self.shape(), self.count if self.is_any else 0)
        descending = self.descending
        if descending is None and self.count and not self.is_any:
            descending = False  # The first few are the nearest.
        if descending is None:
            return found[: self.count] if self.count else found
        distances = [-point.distance_m if descending else point.distance_m for point in found]
        return [found[position] for position in first_of(distances, self.count or len(found))]


_FLAGS: Final[dict[bytes, tuple[str, bool]]] = {
    b"WITHDIST": ("with_distance", True),
    b"WITHHASH": ("with_hash", True),
    b"WITHCOORD": ("with_place", True),
    b"ANY": ("is_any", True),
    b"ASC": ("descending", False),
    b"DESC": ("descending", True),
}


def _points(value: SortedSetValue, shape: Shape, limit: int) -> list[Point]:
    """The members inside a shape, square by square; only the first ``limit`` unless that is 0."""
    ranking = value.ranking
    found: list[Point] = []
    for square in geohash.squares_to_search(shape):
        low, high = map(float, geohash.score_bounds(square))
        start, stop = ranking.below_score(low, or_equal=False), ranking.below_score(high, or_equal=False)
        for member, score in zip(*ranking.window(start, stop), strict=True):
            longitude, latitude = geohash.place_of(score)
            distance_m = shape.distance_m(longitude, latitude)
            if distance_m is not None:
                found.append(Point(distance_m, member, score, longitude, latitude))
                if len(found) == limit:
                    return found
    return found


def _reply(client: Session, search: Search, points: list[Point], unit_m: float) -> bytes:
    if not (search.with_distance or search.with_hash or search.with_place):
        return bulk_array([point.member for point in points]) if points else EMPTY_ARRAY
    return array([array(list(_details(client, search, point, unit_m))) for point in points])


def _details(client: Session, search: Search, point: Point, unit_m: float) -> Iterable[bytes]:
    yield bulk(point.member)
    if search.with_distance:
        yield bulk(_distance_text(point.distance_m / unit_m))
    if search.with_hash:
        yield integer(_to_int64(point.score))
    if search.with_place:
        yield _place_reply(client, point.longitude, point.latitude)


def _to_int64(score: float) -> int:
    """A double as x86-64 casts it."""
    return int(score) if -(1 << 63) <= score < 1 << 63 else _INT64_MIN


def _run(client: Session, search: Search, name: bytes) -> bytes:
    search.check(name)
    if search.value is None:
        if search.store_key is None:
            return EMPTY_ARRAY
        store_result(client, search.store_key, {}, b"")
        return ZERO
    shape = search.shape()
    points = search.find(search.value)
    if search.store_key is None:
        return _reply(client, search, points, shape.unit_m)
    if search.stores_distance:
        scores = {point.member: point.distance_m / shape.unit_m for point in points}
    else:
        scores = {point.member: point.score for point in points}
    event = b"geosearchstore" if search.is_geosearch else b"georadiusstore"
    return store_result(client, search.store_key, scores, event, changes=len(points))


def _radius(client: Session, argv: list[bytes], *, may_store: bool) -> bytes:
    search = Search(read_sorted_set(client, argv[1]), may_store=may_store)
    search.place = _parse_place(argv[2], argv[3])
    search.circle = _parse_radius(argv[4], argv[5])
    search.parse_options(argv[6:])
    return _run(client, search, argv[0])


def _radius_by_member(client: Session, argv: list[bytes], *, may_store: bool) -> bytes:
    value = read_sorted_set(client, argv[1])
    search = Search(value, may_store=may_store)
    if value is not None:
        search.place = _place_of_member(value, argv[2])
        search.circle = _parse_radius(argv[3], argv[4])
    search.parse_options(argv[5:])
    return _run(client, search, argv[0])


@command("georadius")
def georadius(client: Session, argv: list[bytes]) -> bytes:
    return _radius(client, argv, may_store=True)


@command("georadius_ro")
def georadius_ro(client: Session, argv: list[bytes]) -> bytes:
    return _radius(client, argv, may_store=False)


@command("georadiusbymember")
def georadiusbymember(client: Session, argv: list[bytes]) -> bytes:
    return _radius_by_member(client, argv, may_store=True)


@command("georadiusbymember_ro")
def georadiusbymember_ro(client: Session, argv: list[bytes]) -> bytes:
    return _radius_by_member(client, argv, may_store=False)


@command("geosearch")
def geosearch(client: Session, argv: list[bytes]) -> bytes:
    search = Search(read_sorted_set(client, argv[1]), is_geosearch=True)
    search.parse_options(argv[2:])
    return _run(client, search, argv[0])


@command("geosearchstore")
def geosearchstore(client: Session, argv: list[bytes]) -> bytes:
    source = checked_sorted_set(client.db.read(argv[2], key_slot(argv[2])))
    search = Search(source, is_geosearch=True, store_key=argv[1])
    search.parse_options(argv[3:])
    return _run(client, search, argv[0])
