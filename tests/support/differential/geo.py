"""Requests to sorted sets of places. Places are few and apart, so that no two are equally far from a third."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.sorted_sets import keys, mostly
from tests.support.differential.vocabulary import KEYS, Requests, request, weighted, words

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
any_places = weighted((20, places), (1, st.sampled_from(BAD_PLACES)))
members = st.sampled_from((b"p", b"q", b"r", b"s", b"t", b"u", b"p", b"q", b"r", b"", b"y" * 65, b"a", b"b"))
"""The last two are likely to have scores that are no places (sorted_sets.py)."""

_units = mostly(words("m km mi ft M KM km km"), words("cm"))
_lengths = mostly(
    st.one_of(
        st.sampled_from((b"100", b"500", b"1000", b"2500.5", b"5000", b"9000", b"20000", b"1e7", b"200")),
        st.sampled_from((b"0", b"1", b"1e300", b"inf", b"1e-300", b"-0")),
        st.floats(0, 1e8).map(lambda number: repr(number).encode()),
    ),
    st.sampled_from((b"-1", b"x", b"nan", b"")),
)
_counts = mostly(
    st.sampled_from((b"1", b"2", b"3", b"100", b"9223372036854775807")), st.sampled_from((b"0", b"-1", b"x"))
)
_circle = st.tuples(words("BYRADIUS"), _lengths, _units)
_box = st.tuples(words("BYBOX"), _lengths, _lengths, _units)
_from_place = st.builds(lambda word, place: (word, *place), words("FROMLONLAT"), any_places)
_from_member = st.tuples(words("FROMMEMBER"), members)
_sorting = st.tuples(words("ASC DESC"))
_limit = st.one_of(
    st.tuples(words("COUNT"), _counts),
    st.tuples(words("COUNT"), _counts),
    st.tuples(words("COUNT"), _counts, words("ANY")),
)
_with = st.tuples(words("WITHDIST WITHHASH WITHCOORD"))
_bad = st.tuples(words("ANY COUNT STORE STOREDIST OTHER"))
_option = weighted((10, _with), (5, _sorting), (5, _limit), (1, _bad))
_storing = weighted((12, st.tuples(words("STORE STOREDIST"), keys)), (4, _sorting), (4, _limit), (1, _bad), (1, _with))


def _search(options: Requests) -> Requests:
    """From where, which shape, what else: in this order, as any will do."""
    return st.builds(
        lambda start, shape, options: sum(options, (*start, *shape)),
        weighted((20, _from_place), (8, _from_member), (1, st.just(()))),
        weighted((10, _circle), (10, _box), (1, st.just(()))),
        st.lists(options, max_size=3),
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

_shortening = weighted((5, _sorting), (5, _limit), (1, _with))
requests: Requests = weighted(
    (3, _after("GEOADD", _key, _well_added)),
    (2, _after("GEOADD", _key, st.lists(words("NX XX CH"), max_size=2).map(tuple), _added)),
    (2, _after("GEOPOS GEOHASH", _key, st.lists(members, max_size=3).map(tuple))),
    (1, request("GEODIST", keys, members, members)),
    (1, request("GEODIST", keys, members, members, _units)),
    (10, _after("GEOSEARCH", _key, _search(_option))),
    (4, _after("GEOSEARCHSTORE", _key, _key, _search(_shortening), st.sampled_from(((), (b"STOREDIST",))))),
    (4, _after("GEORADIUS GEORADIUS_RO", _key, any_places, _distance, _one_option)),
    (2, _after("GEORADIUS GEORADIUS_RO", _key, any_places, _distance, _one_storing)),
    (4, _after("GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO", _key, st.tuples(members), _distance, _one_option)),
    (2, _after("GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO", _key, st.tuples(members), _distance, _one_storing)),
)

beginnings: Requests = st.builds(
    lambda key, places: (
        b"GEOADD",
        key,
        *sum(((*place, b"%c" % (97 + 15 + number)) for number, place in enumerate(places)), ()),
    ),
    st.sampled_from(KEYS[:2]),
    st.permutations(PLACES),
)
"""All the places, under names that are asked for, and more."""
