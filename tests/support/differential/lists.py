"""Requests to lists: few elements, so that searches find several, and indexes around every edge of short lists."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.vocabulary import Requests, integers, keys, many, request, values, with_options, words

elements = st.one_of(st.sampled_from((b"a", b"b", b"c", b"", b"1", b"-5", b"01")), values)
indexes = st.one_of(st.integers(-6, 6).map(lambda n: b"%d" % n), integers)
_sides = words("LEFT RIGHT")
_any_sides = st.one_of(_sides, _sides, _sides, words("UP"))
_counts = st.one_of(st.sampled_from((b"0", b"1", b"2", b"3", b"100", b"-1")), integers)
_key_counts = st.sampled_from((b"1", b"2", b"2", b"3", b"0", b"-1", b"x", b"9223372036854775807"))
_count_options = st.one_of(
    st.tuples(words("COUNT"), _counts), st.tuples(words("COUNT"), _counts), st.tuples(words("COUNT OTHER"))
)
# Every way in which a time-out is refused; those that are taken only where the client does not wait (see below).
_bad_timeouts = st.sampled_from((b"-1", b"x", b"inf", b"nan", b"1e30", b"", b"-0.002"))
_timeouts = st.one_of(st.sampled_from((b"0.001", b"0.002", b"0.0001", b"1e-9")), _bad_timeouts)

requests: Requests = st.one_of(
    st.builds(
        lambda name, key, several: (name, key, *several),
        words("LPUSH RPUSH RPUSH LPUSHX RPUSHX"),
        keys,
        st.lists(elements, max_size=8),
    ),
    many("LPUSH RPUSH", elements, most=3),
    request("LPOP RPOP LLEN", keys),
    request("LPOP RPOP", keys, _counts),
    request("LPOP RPOP", keys, _counts, _counts),
    request("LRANGE LTRIM", keys, indexes, indexes),
    request("LINDEX", keys, indexes),
    request("LSET", keys, indexes, elements),
    request("LINSERT", keys, words("BEFORE AFTER BEFORE AFTER BESIDE"), elements, elements),
    request("LREM", keys, indexes, elements),
    with_options(
        "LPOS",
        keys,
        elements,
        options=st.one_of(st.tuples(words("RANK COUNT MAXLEN"), indexes), st.tuples(words("RANK OTHER"))),
    ),
    request("LMOVE", keys, keys, _any_sides, _any_sides),
    request("RPOPLPUSH", keys, keys),
    st.builds(
        lambda name, count, names, side, tail: (name, count, *names, side, *sum(tail, ())),
        words("LMPOP"),
        _key_counts,
        st.lists(keys, min_size=1, max_size=3),
        _any_sides,
        st.lists(_count_options, max_size=2),
    ),
)

waiting: Requests = st.one_of(
    st.builds(
        lambda name, names, timeout: (name, *names, timeout),
        words("BLPOP BRPOP"),
        st.lists(keys, min_size=1, max_size=3),
        _timeouts,
    ),
    request("BLMOVE", keys, keys, _any_sides, _any_sides, _timeouts),
    request("BRPOPLPUSH", keys, keys, _timeouts),
    st.builds(
        lambda name, timeout, count, names, side, tail: (name, timeout, count, *names, side, *sum(tail, ())),
        words("BLMPOP"),
        _timeouts,
        _key_counts,
        st.lists(keys, min_size=1, max_size=3),
        _any_sides,
        st.lists(_count_options, max_size=2),
    ),
)
"""Requests that may wait, no longer than a moment."""
