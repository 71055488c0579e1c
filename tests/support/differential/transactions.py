"""Requests that make and end transactions, and some that belong to the connection."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.vocabulary import Requests, keys, many, request, values, words

requests: Requests = st.one_of(
    request("MULTI"),
    request("MULTI"),
    request("EXEC"),
    request("EXEC"),
    request("DISCARD UNWATCH"),
    many("WATCH", keys, most=3),
    many("WATCH", keys, least=1, most=2),
    request("EXEC MULTI DISCARD UNWATCH", values),
)

of_the_connection: Requests = st.one_of(
    request("PING RESET"),
    request("PING ECHO", values),
    request("HELLO", st.sampled_from((b"2", b"3", b"4", b"x"))).filter(lambda words: words[1] in (b"4", b"x")),
    request("NOSUCHCOMMAND", values, values),
    st.tuples(words("OBJECT CLIENT CONFIG"), values).filter(lambda request: request[1].upper() not in (b"HELP",)),
)
