"""Requests to sets. What is drawn at random is asked for so that only one answer, or one size, is possible."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.hashes import scan_options
from tests.support.differential.vocabulary import Requests, keys, many, request, values, with_options, words

MEMBERS = (
    b"1", b"2", b"-3", b"40000", b"-3000000000", b"9223372036854775807", b"9223372036854775808", b"a", b"b", b"",
    b"01", b"x" * 65, b"\x00\r\n\xff",
)  # fmt: skip
members = st.one_of(st.sampled_from(MEMBERS[:4]), st.sampled_from(MEMBERS), st.integers(0, 9).map(lambda n: b"%d" % n))
_numbers = st.integers(-12, 12).map(lambda n: b"%d" % n)
_several = st.one_of(
    st.lists(members, max_size=4), st.lists(_numbers, max_size=8), st.tuples(st.one_of(values, members)).map(list)
)
_pop_counts = st.sampled_from((b"100", b"0", b"-1", b"x", b"9223372036854775807", b"9223372036854775808"))
_draw_counts = st.sampled_from((b"0", b"100", b"-3", b"1", b"-9223372036854775808", b"9223372036854775807", b"x"))
_key_counts = st.sampled_from((b"1", b"2", b"2", b"3", b"0", b"-1", b"x", b"9223372036854775807"))
_limits = st.one_of(
    st.tuples(words("LIMIT"), st.sampled_from((b"0", b"1", b"2", b"-1", b"x", b"9223372036854775807"))),
    st.tuples(words("LIMIT OTHER")),
)

requests: Requests = st.one_of(
    st.builds(lambda name, key, several: (name, key, *several), words("SADD"), keys, _several),
    st.builds(lambda name, key, several: (name, key, *several), words("SADD SREM SMISMEMBER"), keys, _several),
    request("SMOVE", keys, keys, members),
    request("SISMEMBER", keys, members),
    request("SCARD SMEMBERS SRANDMEMBER", keys),
    request("SPOP", keys, _pop_counts),
    request("SRANDMEMBER", keys, _draw_counts),
    request("SPOP SRANDMEMBER", keys, _draw_counts, words("EXTRA")),
    many("SINTER SUNION SDIFF", keys, most=4),
    many("SINTERSTORE SUNIONSTORE SDIFFSTORE", keys, most=5),
    st.builds(
        lambda name, count, names, tail: (name, count, *names, *sum(tail, ())),
        words("SINTERCARD"),
        _key_counts,
        st.lists(keys, max_size=3),
        st.lists(_limits, max_size=2),
    ),
    with_options("SSCAN", keys, st.sampled_from((b"0", b"x", b"-1", b"18446744073709551616")), options=scan_options),
)
