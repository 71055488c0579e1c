"""Requests to strings."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.vocabulary import (
    Requests,
    durations_ms,
    durations_s,
    expiry_options,
    floats,
    integers,
    keys,
    many,
    offsets,
    option,
    request,
    values,
    with_options,
)

_small_offsets = st.integers(-2, 40).map(lambda n: b"%d" % n)

requests: Requests = st.one_of(
    request("SET", keys, values),
    request("SET", keys, values),
    with_options("SET", keys, values, options=st.one_of(expiry_options, option("NX XX GET KEEPTTL PERSIST OTHER"))),
    request("SETNX", keys, values),
    request("SETEX", keys, durations_s, values),
    request("PSETEX", keys, durations_ms, values),
    request("GETSET", keys, values),
    request("GETDEL", keys),
    with_options("GETEX", keys, options=st.one_of(expiry_options, option("PERSIST KEEPTTL GET NX"))),
    request("GET STRLEN", keys),
    many("MGET", keys),
    st.lists(st.tuples(keys, values), max_size=3).map(lambda pairs: sum(pairs, (b"MSET",))),
    st.lists(st.tuples(keys, values), max_size=3).map(lambda pairs: sum(pairs, (b"MSETNX",))),
    request("INCR DECR", keys),
    request("INCRBY DECRBY", keys, integers),
    request("INCRBYFLOAT", keys, floats),
    request("INCRBYFLOAT", keys, values),
    request("APPEND", keys, values),
    request("SETRANGE", keys, st.one_of(_small_offsets, integers.filter(lambda text: len(text) < 10)), values),
    request("SETRANGE", keys, st.sampled_from((b"1048576", b"9223372036854775807")), values),
    request("GETRANGE SUBSTR", keys, offsets, offsets),
)
