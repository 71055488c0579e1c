"""Requests to sorted sets of places. Places are few and apart, so that no two are equally far from a third."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.vocabulary import Requests, keys, request, words

PLACES = (
    (b"13.361389", b"38.115556"), (b"15.087269", b"37.502669"), (b"2.349014", b"48.864716"),
    (b"-0.127758", b"51.507351"),
    (b"-74.0059413", b"40.7127837"), (b"151.2093", b"-33.8688"), (b"179.9", b"-16.5"), (b"-179.75", b"-17.1"),
    (b"0", b"0"), (b"180", b"85.05112878"), (b"-180", b"-85.05112878"), (b"25", b"84.5"), (b"-50.5", b"-81.25"),
)  # fmt: skip
BAD_PLACES = (
    (b"180.1", b"0"), (b"0", b"85.1"), (b"x", b"0"), (b"1", b"nan"), (b"inf", b"1"), (b"", b"1"), (b"1e300", b"-1e300"),
)  # fmt: skip
_drawn = st.tuples(
    st.floats(-180, 180).map(lambda number: repr(number).encode()),
    st.floats(-85, 85).map(lambda number: repr(number).encode()),
)
places = st.one_of(st.sampled_from(PLACES), st.sampled_from(PLACES), _drawn)
any_places = st.one_of(places, places, places, places, st.sampled_from(BAD_PLACES))
members = st.sampled_from((b"p", b"q", b"r", b"s", b"t", b"u", b"", b"y" * 65, b"a", b"b"))
"""The last two are likely to have scores that are no places (sorted_sets.py)."""

_units = words("m km mi ft M KM m km mi ft cm")
_lengths = st.one_of(
    st.sampled_from(
        (b"0", b"1", b"100", b"200", b"1000", b"2500.5", b"5000", b"20000", b"1e7", b"1e300", b"inf", b"1e-300")
    ),
    st.floats(0, 1e8).map(lambda number: repr(number).encode()),
    st.sampled_from((b"-1", b"x", b"nan", b"", b"-0")),
)
_counts = st.sampled_from((b"1", b"2", b"3", b"100", b"0", b"-1", b"x", b"9223372036854775807"))
_circle = st.tuples(words("BYRADIUS"), _lengths, _units)
_box = st.tuples(words("BYBOX"), _lengths, _lengths, _units)
_from_place = st.builds(lambda word, place: (word, *place), words("FROMLONLAT"), any_places)
_from_member = st.tuples(words("FROMMEMBER"), members)
_option = st.one_of(
    st.tuples(words("WITHDIST WITHHASH WITHCOORD ASC DESC")),
    st.tuples(words("WITHDIST WITHHASH WITHCOORD ASC DESC")),
    st.tuples(words("ASC DESC")),
    st.tuples(words("COUNT"), _counts),
    st.tuples(words("COUNT"), _counts, words("ANY")),
    st.tuples(words("ANY COUNT STORE STOREDIST OTHER")),
)
_storing = st.one_of(
    st.tuples(words("STORE STOREDIST"), keys), st.tuples(words("ASC")), st.tuples(words("COUNT"), _counts)
)
_search = st.builds(
    lambda start, shape, options: sum(options, (*start, *shape)),
    st.one_of(_from_place, _from_place, _from_member, st.just(())),
    st.one_of(_circle, _circle, _box, _box, st.just(())),
    st.lists(_option, max_size=4),
)


def _after(name: str, *parts: st.SearchStrategy[tuple[bytes, ...]]) -> Requests:
    """A name followed by parts of several words."""
    return st.builds(lambda word, *drawn: sum(drawn, (word,)), words(name), *parts)


_key = st.tuples(keys)
_one_option = st.lists(_option, max_size=3).map(lambda options: sum(options, ()))
_one_storing = st.lists(_storing, max_size=3).map(lambda options: sum(options, ()))
_distance = st.tuples(_lengths, _units)
_added = st.lists(st.builds(lambda place, member: (*place, member), any_places, members), max_size=3).map(
    lambda several: sum(several, ())
)
_well_added = st.lists(st.builds(lambda place, member: (*place, member), places, members), min_size=1, max_size=5).map(
    lambda several: sum(several, ())
)

requests: Requests = st.one_of(
    _after("GEOADD", _key, _well_added),
    _after("GEOADD", _key, _well_added),
    _after("GEOADD", _key, st.lists(words("NX XX CH"), max_size=2).map(tuple), _added),
    _after("GEOPOS GEOHASH", _key, st.lists(members, max_size=3).map(tuple)),
    request("GEODIST", keys, members, members),
    request("GEODIST", keys, members, members, _units),
    _after("GEOSEARCH", _key, _search),
    _after("GEOSEARCH", _key, _search),
    _after("GEOSEARCH", _key, _search),
    _after("GEOSEARCHSTORE", _key, _key, _search, st.sampled_from(((), (b"STOREDIST",)))),
    _after("GEORADIUS GEORADIUS_RO", _key, any_places, _distance, _one_option),
    _after("GEORADIUS GEORADIUS_RO", _key, any_places, _distance, _one_storing),
    _after("GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO", _key, st.tuples(members), _distance, _one_option),
    _after("GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO", _key, st.tuples(members), _distance, _one_storing),
)
