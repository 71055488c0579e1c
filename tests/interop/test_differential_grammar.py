"""Every command with every option, as its documentation has it: the same requests to our node and to a real server.

Asked plainly, from a script, within a transaction; and asked about (COMMAND GETKEYS, ACL DRYRUN). Replies are the same,
and so is what is left behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.commands.registry import load_command_table
from tests.support.differential import grammar, normalise, streams
from tests.support.differential.pair import CONNECTIONS, Pair
from tests.support.differential.vocabulary import Request, weighted

pytestmark = pytest.mark.real_redis

_USER = b"limited"
_RULES = b"on +@all -@dangerous -eval +sort +config|get %R~{t}s* %W~{t}l* ~{t}x* %RW~{t}z1 (+@read ~{t}h*)".split()
_CLEAN: list[Request] = [(b"SCRIPT", b"FLUSH"), (b"FUNCTION", b"FLUSH"), (b"ACL", b"SETUSER", _USER, b"reset", *_RULES)]


class GrammarPair(Pair):
    """Two servers whose clocks differ a little."""

    def begin(self) -> None:
        super().begin()
        for side in self.sides:
            for words in (
                (b"SCRIPT", b"FLUSH"),
                (b"FUNCTION", b"FLUSH"),
                (b"ACL", b"SETUSER", _USER, b"reset", *_RULES),
            ):
                side.observer.ask(*words)
            for request in grammar.BEGINNING:
                side.observer.ask(*request)
            side.observer.ask(b"CONFIG", b"RESETSTAT")
            self._end_of_stream(side)
        self.count_changes_from_here()

    def ask(self, connection: int, request: Request, *, about: tuple[Request, ...] = ()) -> bytes:
        """One request; ``about`` are those that it carries."""
        for side in self.sides:
            side.connections[connection].send(request)
        ours, theirs = (side.connections[connection].reply() for side in self.sides)
        self.history.append(f"{connection}: {b' '.join(request)!r} -> {theirs!r:.200}")
        if ours != theirs:
            self.same("replies", *(_comparable((request, *about), raw) for raw in (ours, theirs)))
        return ours

    def may_ask(self, request: Request) -> bool:
        """Not SORT of a sorted set: Redis makes a hash table of it, whose order decides between equal weights."""
        if request[0].lower() not in (b"sort", b"sort_ro") or len(request) < 2:
            return True
        types = [side.observer.ask(b"TYPE", request[1]) for side in self.sides]  # Of both: it is a hit.
        return b"+zset\r\n" not in types

    def _end_of_stream(self, side: object) -> list[bytes]:
        return [streams.hide_times(command) for command in super()._end_of_stream(side)]  # type: ignore[arg-type]

    def _compare_database(self, index: int) -> None:
        observers = [side.observer for side in self.sides]
        for key in self.same_keys(index):
            for words in (
                (b"TYPE", key), (b"PEXPIRETIME", key), (b"OBJECT", b"ENCODING", key), (b"DEBUG", b"DIGEST-VALUE", key),
            ):  # fmt: skip
                replies = [normalise.reply(words, observer.ask(*words)) for observer in observers]
                self.same(f"{words!r} in database {index}", *replies)
            asked = (b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0")
            if observers[0].ask(b"TYPE", key) == b"+stream\r\n":
                self.same(f"{key!r}", *(streams.comparable(asked, observer.ask(*asked)) for observer in observers))


def _comparable(requests: tuple[Request, ...], raw: bytes) -> bytes:
    """The reply without times: those of deliveries, and what relative times have become."""
    raw = normalise.hide_relative_times(raw)
    for request in requests:
        raw = normalise.reply(request, raw)
        raw = streams.comparable(request, raw) if request[0].upper() != b"EXEC" else raw
    return raw


def _script(request: Request, protocol: int, function: bytes) -> Request:
    body = b"redis.setresp(%d) return redis.%b(unpack(ARGV))" % (protocol, function)
    return (b"EVAL", body, b"0", *request)


def _run(pair: GrammarPair, random: Random, connection: int, how: str) -> None:
    writer = grammar.Writer(random)
    requests = tuple(filter(pair.may_ask, (writer.request() for _ in range(random.randint(1, 3)))))
    if how == "plain":
        for request in requests:
            pair.ask(connection, request)
    elif how == "script":
        request = (*requests, (b"PING",))[0]
        pair.ask(
            connection, _script(request, random.choice((2, 3)), random.choice((b"call", b"pcall"))), about=(request,)
        )
    elif how == "transaction":
        for request in ((b"MULTI",), *requests):
            pair.ask(connection, request)
        pair.ask(connection, (b"EXEC",), about=requests)
    elif how == "keys":
        pair.ask(connection, (b"COMMAND", random.choice((b"GETKEYS", b"GETKEYSANDFLAGS")), *writer.any_request()))
    else:
        request = writer.any_request()
        # Redis finds no key in a PFMERGE of one; docs/compatibility.md tells that we do.
        if request[0].lower() != b"pfmerge" or len(request) != 2:
            pair.ask(connection, (b"ACL", b"DRYRUN", random.choice((_USER, b"default")), *request))


@pytest.fixture(scope="module", params=["followed", "cluster"])
def pair(request: pytest.FixtureRequest) -> Iterator[GrammarPair]:
    """Both servers: with a replica attached, and in cluster mode."""
    with GrammarPair(cluster=request.param == "cluster") as servers:
        yield servers


_steps = st.lists(
    st.tuples(
        st.randoms(use_true_random=False),
        st.integers(0, CONNECTIONS - 1),
        weighted(
            (4, st.just("plain")),
            *((2, st.just(how)) for how in ("script", "transaction", "keys", "permission")),
        ),
    ),
    min_size=1,
    max_size=20,
)


@given(steps=_steps)
def test_what_the_documentation_allows_has_the_same_effect(
    pair: GrammarPair, steps: list[tuple[Random, int, str]]
) -> None:
    pair.begin()
    for random, connection, how in steps:
        _run(pair, random, connection, how)
    pair.compare_state()


def test_the_grammar_knows_every_command() -> None:
    names = {b"|".join(name) for name in grammar.COMMANDS}
    containers = {name.partition(b"|")[0] for name in names if b"|" in name}

    assert {row.name for row in load_command_table().all_rows()} - names - containers == {
        b"client|no-touch", b"client|setinfo",
    }  # fmt: skip
