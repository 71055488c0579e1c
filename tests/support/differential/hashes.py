"""Requests to hashes. What is drawn at random is asked for so that only one answer, or one size, is possible."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.vocabulary import (
    Requests,
    floats,
    integers,
    keys,
    request,
    values,
    with_options,
    words,
)

FIELDS = (b"a", b"b", b"c", b"1", b"-7", b"", b"x" * 64, b"x" * 65, b"\x00\r\n\xff")
fields = st.one_of(st.sampled_from(FIELDS[:4]), st.sampled_from(FIELDS))
texts = st.one_of(values, st.sampled_from((b"y" * 64, b"y" * 65)))

scan_options = st.one_of(
    st.tuples(words("MATCH"), st.sampled_from((b"*", b"a*", b"[ab]", b"", b"x?", b"\\"))),
    st.tuples(words("COUNT"), st.sampled_from((b"1", b"10", b"1000", b"0", b"-1", b"x", b"9223372036854775807"))),
    st.tuples(words("TYPE NOVALUES"), st.just(b"hash")),
    st.tuples(words("MATCH COUNT")),
)

_pairs = st.lists(st.tuples(fields, texts), min_size=1, max_size=4).map(lambda pairs: sum(pairs, ()))
_draw_counts = st.sampled_from(
    (b"0", b"100", b"-3", b"1", b"-9223372036854775808", b"9223372036854775807", b"x", b"1.5", b"-0")
)

requests: Requests = st.one_of(
    st.builds(lambda name, key, pairs: (name, key, *pairs), words("HSET HMSET"), keys, _pairs),
    st.builds(lambda name, key, pairs: (name, key, *pairs), words("HSET HMSET"), keys, _pairs),
    request("HSETNX", keys, fields, texts),
    request("HGET HEXISTS HSTRLEN", keys, fields),
    st.builds(lambda name, key, names: (name, key, *names), words("HMGET HDEL"), keys, st.lists(fields, max_size=4)),
    request("HGETALL HKEYS HVALS HLEN", keys),
    request("HINCRBY", keys, fields, integers),
    request("HINCRBYFLOAT", keys, fields, floats),
    request("HRANDFIELD", keys),
    request("HRANDFIELD", keys, _draw_counts),
    request("HRANDFIELD", keys, _draw_counts, words("WITHVALUES WITHSCORES")),
    with_options("HSCAN", keys, st.sampled_from((b"0", b"x", b"-1", b"18446744073709551616")), options=scan_options),
)
