"""Which arguments are keys: a real server is asked about every command it knows, with arguments nobody would send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.commands import registry
from cluster.commands.key_positions import key_positions, keys_of
from cluster.commands.registry import Command, Flag
from cluster.slots.hashing import key_slot
from tests.support.servers import RealRedis
from tests.support.waiting import eventually
from tests.support.wire import RawConnection, ReplyError

_RECORDS: list[list[Any]] = json.loads((Path(registry.__file__).parent / "command_table.json").read_bytes())
_WITH_KEYS = {record[0]: record for record in _RECORDS if record[8]}

_WORDS = st.sampled_from(
    [
        *b"k1 k2 k3 0 1 2 3 -1 99 x STORE storedist KEYS BY GET LIMIT STREAMS AUTH AUTH2 COPY WEIGHTS".split(),
        *(b"", b"2x", b" 2", b"+2", b"02", b"4294967298", b"9223372036854775808", b"1_0"),
    ]
)
_STREAM_WORDS = st.sampled_from(b"k1 k2 0 1 BLOCK count GROUP NOACK STREAMS streams".split())


def _keys(name: str, *arguments: bytes) -> list[bytes]:
    argv = [name.upper().encode(), *arguments]
    return [argv[index] for index, _flags in key_positions(Command(_WITH_KEYS[name], None), argv)]


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("get k", "k"),
        ("mset a 1 b 2", "a b"),
        ("rename a b", "a b"),
        ("bitop and to a b", "to a b"),
        ("zunionstore to 2 a b WEIGHTS 1 2", "to a b"),
        ("eval script 2 a b c", "a b"),
        ("xread COUNT 1 STREAMS a b 0 0", "a b"),
        ("sort k BY w_* STORE to", "k to"),
        ("georadius k 1 2 3 m STORE to", "k to"),
        ("migrate h 1 k 0 9", "k"),
    ],
)
def test_the_usual_forms(words: str, keys: str) -> None:
    name, *arguments = words.split()
    assert _keys(name, *(word.encode() for word in arguments)) == [key.encode() for key in keys.split()]


def test_migrate_with_an_empty_key_names_them_behind_keys() -> None:
    assert _keys("migrate", b"h", b"1", b"", b"0", b"9", b"REPLACE", b"KEYS", b"a", b"b") == [b"a", b"b"]


def test_what_makes_no_sense_has_no_keys() -> None:
    row = Command(_WITH_KEYS["eval"], None)
    argv = [b"EVAL", b"script", b"5", b"a"]
    assert key_positions(row, argv) == []
    assert keys_of(row, argv) == []


_ROUTED_OTHERWISE = ("georadius", "georadiusbymember", "xread", "xreadgroup")
"""By functions that give up, or stop, where the key specs go on: what they find is compared in cluster mode, below."""


@pytest.fixture(scope="module")
def connection() -> Iterator[RawConnection]:
    with RealRedis() as server, server.raw() as asked:
        yield asked


@pytest.mark.real_redis
@settings(max_examples=600)
@given(name=st.sampled_from(sorted(_WITH_KEYS)), arguments=st.lists(_WORDS, max_size=9))
def test_a_real_server_names_the_same_keys(connection: RawConnection, name: str, arguments: list[bytes]) -> None:
    row = Command(_WITH_KEYS[name], None)
    argv = [name.encode(), *arguments]
    theirs = connection.ask("COMMAND", "GETKEYS", *argv)
    if not row.accepts(len(argv)):
        assert isinstance(theirs, ReplyError)
    elif isinstance(theirs, ReplyError):
        # Of what is incomplete, routing (getKeysUsingLegacyRangeSpec) may see more keys than COMMAND GETKEYS tells.
        assert set(keys_of(row, argv)) <= set(arguments)
    else:
        named = [argv[index] for index, _flags in key_positions(row, argv)]
        assert sorted(named) == sorted(theirs)
        if name in _ROUTED_OTHERWISE:
            assert set(keys_of(row, argv)) <= set(theirs)
        else:
            assert sorted(keys_of(row, argv)) == sorted(theirs)
            assert named[:1] == keys_of(row, argv)[:1]


@pytest.fixture(scope="module")
def cluster_connection() -> Iterator[RawConnection]:
    with RealRedis(cluster=True) as server, server.raw() as asked:
        asked.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        eventually(lambda: server.cluster_info()["cluster_state"] == "ok")
        yield asked


_any_request = st.tuples(st.sampled_from(sorted(_WITH_KEYS)), st.lists(_WORDS, max_size=9))
_counting_request = st.tuples(
    st.sampled_from([name for name, record in sorted(_WITH_KEYS.items()) if "movablekeys" in record[2]]),
    st.lists(_WORDS, max_size=9),
)
_stream_request = st.tuples(st.sampled_from(["xread", "xreadgroup"]), st.lists(_STREAM_WORDS, max_size=9))


@pytest.mark.real_redis
@settings(max_examples=600)
@given(request=st.one_of(_any_request, _counting_request, _stream_request))
def test_a_real_server_routes_by_the_same_keys(
    cluster_connection: RawConnection, request: tuple[str, list[bytes]]
) -> None:
    name, arguments = request
    row = Command(_WITH_KEYS[name], None)
    argv = [name.encode(), *arguments]
    if not row.accepts(len(argv)) or Flag.NO_MULTI & row.flags:
        return
    cluster_connection.call("MULTI")
    theirs = cluster_connection.ask(*argv)
    cluster_connection.ask("DISCARD")

    slots = {key_slot(key) for key in keys_of(row, argv)}

    assert str(theirs).startswith("CROSSSLOT") == (len(slots) > 1), (argv, theirs, slots)


@pytest.mark.parametrize(
    "words", ["zunionstore to 2 a b", "zdiffstore to 1 a", "bitop and to a b", "zinterstore to 1 a"]
)
def test_the_destination_is_the_first_key(words: str) -> None:
    argv = [word.encode() for word in words.split()]
    assert keys_of(Command(_WITH_KEYS[words.split(maxsplit=1)[0]], None), argv)[0] == b"to"
