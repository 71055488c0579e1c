"""Requests that sort, and what they sort: numbers of which some are none, keys named after them, hashes beside them.

Numbers beyond a double's range are left out: having met one, Redis 7.0 calls every number wrong for a while (it looks
at an errno that nobody has cleared).
"""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.vocabulary import Requests, keys, request, words

_NUMBERS = (b"1", b"2", b"3", b"10", b"-5", b"2.5", b"1e3", b"0", b"-0", b"7", b"100")
_OTHERS = (b"abc", b"B", b"b", b" 4", b"5 ", b"", b"0x10", b"inf", b"nan", b"-inf", b"+7", b"1_0", b"a\x00b", b"a\x00a")
elements = st.one_of(st.sampled_from(_NUMBERS), st.sampled_from(_NUMBERS), st.sampled_from(_NUMBERS + _OTHERS))
_integers = st.integers(-20, 20).map(lambda n: b"%d" % n)

_patterns = st.sampled_from((b"w_*", b"h_*->f", b"#", b"w_*x", b"*", b"h_*->", b"h_*->g", b"w_1", b"w\x00*"))
_limits = st.sampled_from((b"0", b"1", b"2", b"5", b"-1", b"x", b"9223372036854775807", b"-9223372036854775808"))
_options = st.one_of(
    st.tuples(words("DESC ASC ALPHA")),
    st.tuples(words("LIMIT"), _limits, _limits),
    st.tuples(words("BY"), st.one_of(_patterns, st.just(b"nosort"))),
    st.tuples(words("GET"), _patterns),
    st.tuples(words("STORE"), keys),
    st.tuples(words("LIMIT STORE BY GET OTHER")),
)


_of_sorted_sets = st.one_of(
    st.tuples(words("DESC ASC ALPHA")),
    st.tuples(words("LIMIT"), _limits, _limits),
    st.tuples(words("BY"), st.just(b"nosort")),
    st.tuples(words("GET"), _patterns),
    st.tuples(words("STORE"), keys),
)
_SORTED_SET = b"{t}z"
"""Redis keeps its members in no order that could decide between equal weights."""


def _requests(key: st.SearchStrategy[bytes], option: st.SearchStrategy[tuple[bytes, ...]]) -> Requests:
    return st.builds(
        lambda name, key, options: (name, key, *sum(options, ())),
        words("SORT SORT SORT SORT_RO"),
        key,
        st.lists(option, max_size=4),
    )


requests: Requests = st.one_of(
    _requests(keys, _options), _requests(keys, _options), _requests(st.just(_SORTED_SET), _of_sorted_sets)
)

of_what_is_sorted: Requests = st.one_of(
    st.builds(lambda name, key, some: (name, key, *some), words("RPUSH"), keys, st.lists(elements, min_size=1)),
    st.builds(lambda name, key, some: (name, key, *some), words("RPUSH"), keys, st.lists(_integers, min_size=1)),
    st.builds(
        lambda name, key, first, count: (name, key, *(b"%d" % (n * 7 % 23) for n in range(first, first + count))),
        words("RPUSH"),
        keys,
        st.integers(0, 50),
        st.sampled_from((8, 30, 60)),
    ),
    st.builds(lambda name, key, some: (name, key, *some), words("SADD"), keys, st.lists(_integers, min_size=1)),
    request("ZADD", st.just(_SORTED_SET), _integers, _integers),
    request("SET", st.one_of(elements, _integers).map(b"w_".__add__), elements),
    request("HSET", elements.map(b"h_".__add__), st.sampled_from((b"f", b"g")), elements),
    request("DEL", keys),
)
