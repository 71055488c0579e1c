"""Subscriptions and client-side caching, here and in a real server: everything that every client is sent must agree.

After each request all connections of a side are emptied, so what a request caused is compared whoever was told of it.
Transactions are not among the requests: Redis 7.0 sends a RESP3 client's own messages in the midst of EXEC's reply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.differential import normalise
from tests.support.differential.pair import RawReplies, _reply_end
from tests.support.differential.servers import BothServers
from tests.support.differential.vocabulary import Request, Requests, many, request, with_options, words
from tests.support.servers import Server
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.real_redis

CONNECTIONS = 3
_IDS_PASSED_OVER = 60
"""So that no client's id is the number of anything else."""

_names = st.sampled_from((b"{c}a", b"{c}b", b"{c}ab", b"", b"{c}\x00\r\n\xff"))
_patterns = st.sampled_from((b"*", b"{c}a*", b"{c}[ab]", b"{c}?", b"", b"\\{c}a"))
_keys = st.sampled_from((b"{k}a", b"{k}b", b"{k}ab", b""))
_prefixes = st.sampled_from((b"{k}", b"{k}a", b"{k}b", b"", b"x"))
_ids = st.sampled_from((b"<0>", b"<1>", b"<2>", b"<1>", b"0", b"x", b"99999"))
_tracking_options = st.one_of(
    st.tuples(words("REDIRECT"), _ids),
    st.tuples(words("REDIRECT"), _ids),
    words("NOLOOP OPTIN OPTOUT BCAST BCAST OTHER PREFIX").map(lambda word: (word,)),
    st.tuples(words("PREFIX"), _prefixes),
)
_modes = words("ON ON ON OFF MAYBE")

_requests: Requests = st.one_of(
    *(many("SUBSCRIBE SSUBSCRIBE UNSUBSCRIBE SUNSUBSCRIBE", _names, most=3) for _ in range(3)),
    *(many("PSUBSCRIBE PUNSUBSCRIBE", _patterns, most=3) for _ in range(2)),
    *(request("PUBLISH SPUBLISH", _names, st.sampled_from((b"hi", b"", b"\r\n"))) for _ in range(3)),
    request("PUBSUB", words("CHANNELS NUMPAT SHARDCHANNELS NUMSUB SHARDNUMSUB HELP OTHER")),
    request("PUBSUB", words("CHANNELS SHARDCHANNELS"), _patterns),
    many("PUBSUB", st.one_of(words("NUMSUB SHARDNUMSUB"), _names), most=4),
    *(with_options("CLIENT", words("TRACKING"), _modes, options=_tracking_options) for _ in range(4)),
    request("CLIENT", words("CACHING"), words("YES NO NO YES PERHAPS")),
    request("CLIENT", words("GETREDIR TRACKINGINFO INFO CACHING TRACKING")),
    *(request("GET TTL STRLEN", _keys) for _ in range(3)),
    *(request("SET APPEND", _keys, st.just(b"v")) for _ in range(2)),
    *(many("MGET DEL EXISTS", _keys, least=1, most=3) for _ in range(2)),
    request("FLUSHALL RESET PING INFO"),
    request("HELLO", st.sampled_from((b"2", b"3", b"3"))),
    request("PING", _names),
)


class _Connection(RawReplies):
    def sent(self) -> list[bytes]:
        """Everything that has arrived, message by message."""
        self._socket.setblocking(False)
        try:
            while True:
                self._held += self.receive()
        except BlockingIOError:
            pass
        finally:
            self._socket.settimeout(PATIENCE)
        messages = []
        while (end := _reply_end(self._held, 0)) is not None and self._held:
            messages.append(self._held[:end])
            self._held = self._held[end:]
        return messages


class _Side:
    def __init__(self, server: Server) -> None:
        self.server = server
        for _ in range(_IDS_PASSED_OVER):
            _Connection(server.port).close()
        self._observer = _Connection(server.port)
        self._connections = [_Connection(server.port) for _ in range(CONNECTIONS)]
        self._ids = [connection.ask(b"CLIENT", b"ID").strip()[1:] for connection in self._connections]

    def begin(self) -> None:
        for connection in self._connections:
            connection.send((b"RESET",))
            while connection.reply() != b"+RESET\r\n":
                pass
        self._observer.ask(b"FLUSHALL")

    def exchange(self, index: int, words: Request) -> list[list[bytes]]:
        """What every connection is sent because of a request on one of them."""
        connection = self._connections[index]
        connection.send(tuple(self._with_id(word) for word in words))
        first = connection.reply()
        self._observer.ask(b"PING")
        told = [each.sent() for each in self._connections]
        told[index].insert(0, first)
        return [_comparable(words, [self._without_ids(message) for message in messages]) for messages in told]

    def _with_id(self, word: bytes) -> bytes:
        return self._ids[int(word[1:2])] if re.fullmatch(rb"<\d>", word) else word

    def _without_ids(self, message: bytes) -> bytes:
        for index, client_id in enumerate(self._ids):
            message = message.replace(b":%b\r\n" % client_id, b":<%d>\r\n" % index)
            message = re.sub(rb"\b(id|redir)=%b\b" % client_id, rb"\1=<%d>" % index, message)
        return message

    def close(self) -> None:
        for connection in (*self._connections, self._observer):
            connection.close()


_SHOWN = re.compile(rb"\b(?:id|flags|db|sub|psub|ssub|redir|resp)=\S*")
_COUNTED = re.compile(rb"\b(?:pubsub\w*_\w+|tracking_\w+):\d+")


def _comparable(request: Request, messages: list[bytes]) -> list[bytes]:
    """Without the order in which a hash table lists what is in it, and without what no test can know."""
    name = request[0].upper()
    second = request[1].upper() if len(request) > 1 else b""
    if (name, second) == (b"CLIENT", b"INFO"):
        return [b" ".join(_SHOWN.findall(message)) or message for message in messages]
    if name == b"INFO":
        return [b" ".join(_COUNTED.findall(message)) or message for message in messages]
    if name == b"PUBSUB" and second in (b"CHANNELS", b"SHARDCHANNELS"):
        return [b" ".join(sorted(normalise.elements(each))) if each[:1] == b"*" else each for each in messages]
    if name == b"PUBLISH":  # Those of several patterns come in any order.
        return sorted(messages)
    if name in (b"UNSUBSCRIBE", b"SUNSUBSCRIBE") and not second and messages:
        parts = [message.rpartition(b":") for message in messages]
        return [*sorted(before for before, _colon, _count in parts), *(count for _before, _colon, count in parts)]
    return messages


class _Pair(BothServers):
    def __init__(self) -> None:
        super().__init__(save='""')
        self.sides: list[_Side] = []

    def connect(self) -> None:
        self.sides = [_Side(server) for server in self.servers]

    def close(self) -> None:
        for side in self.sides:
            side.close()
        super().close()


@pytest.fixture(scope="module")
def pair() -> Iterator[_Pair]:
    with _Pair() as servers:
        yield servers


def _overlap_unnoticed(asked: Request) -> bool:
    """Redis 7.0 refuses overlapping prefixes and then obeys, if the first of them is not among the pair."""
    if len(asked) < 2 or asked[1].upper() != b"TRACKING":
        return False
    prefixes = [value for word, value in pairwise(asked) if word.upper() == b"PREFIX"]
    return len(prefixes) > 2


_steps = st.lists(st.tuples(st.integers(0, CONNECTIONS - 1), _requests), min_size=1, max_size=30)


@given(steps=_steps)
def test_everybody_is_told_the_same(pair: _Pair, steps: list[tuple[int, Request]]) -> None:
    for side in pair.sides:
        side.begin()
    history = []
    for index, asked in steps:
        if _overlap_unnoticed(asked):
            continue
        ours, theirs = (side.exchange(index, asked) for side in pair.sides)
        history.append(f"{index}: {asked!r} -> {theirs!r:.1500}")
        assert ours == theirs, "\n".join([*history, f"ours:   {ours!r:.1500}"])
