"""Requests to keys of any type, and to whole databases."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.vocabulary import (
    Requests,
    durations_ms,
    durations_s,
    integers,
    keys,
    many,
    option,
    request,
    times_ms,
    times_s,
    with_options,
    words,
)

_conditions = option("NX XX GT LT CH")
_databases = st.sampled_from((b"0", b"1", b"15", b"16", b"-1", b"x", b"99999999999999999999"))
_patterns = st.sampled_from((b"*", b"{t}*", b"*a", b"[^d]*", b"?", b"", b"{t}[a-b]", b"\\d", b"*\r\n*", b"[", b"**"))
_restore_options = st.one_of(
    option("REPLACE ABSTTL NONE"),
    st.tuples(st.just(b"IDLETIME"), integers),
    st.tuples(st.just(b"FREQ"), integers),
)

requests: Requests = st.one_of(
    many("DEL UNLINK EXISTS TOUCH", keys),
    request("TYPE PERSIST TTL PTTL EXPIRETIME PEXPIRETIME", keys),
    with_options("EXPIRE", keys, durations_s, options=_conditions, most=2),
    with_options("PEXPIRE", keys, durations_ms, options=_conditions, most=2),
    with_options("EXPIREAT", keys, times_s, options=_conditions, most=2),
    with_options("PEXPIREAT", keys, times_ms, options=_conditions, most=2),
    with_options("PEXPIREAT", keys, times_ms, options=_conditions, most=2),
    request("RENAME RENAMENX", keys, keys),
    with_options("COPY", keys, keys, options=st.one_of(option("REPLACE"), st.tuples(st.just(b"DB"), _databases))),
    request("OBJECT", words("ENCODING REFCOUNT IDLETIME FREQ NONE"), keys),
    request("DUMP", keys),
    with_options("RESTORE", keys, st.one_of(times_ms, integers), st.just(b"\x00\x01x"), options=_restore_options),
    request("DBSIZE FLUSHDB FLUSHALL RANDOMKEY"),
    request("FLUSHDB FLUSHALL", words("ASYNC SYNC OTHER")),
    request("KEYS", _patterns),
)

across_databases: Requests = st.one_of(
    request("SELECT", _databases),
    request("MOVE", keys, _databases),
    request("SWAPDB", _databases, _databases),
)
