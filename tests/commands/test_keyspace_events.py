"""notify-keyspace-events: which classes are published, where, and that nothing is done while none is wanted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.keyspace.database import Keyspace
from tests.support.sessions import BenchClient, ServerBench


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as server:
        yield server


def events(listener: BenchClient) -> list[str]:
    """What was heard since the last time, as ``channel payload``."""
    words = listener.read().split(b"\r\n")
    return [f"{words[at + 6].decode()} {words[at + 8].decode()}" for at in range(0, len(words) - 1, 9)]


def listen(bench: ServerBench, classes: str) -> BenchClient:
    listener = bench.connect()
    assert listener.ask("CONFIG", "SET", "notify-keyspace-events", classes) == b"+OK\r\n"
    listener.ask("PSUBSCRIBE", "__key*")
    return listener


def test_channels_name_the_database(bench: ServerBench) -> None:
    listener, client = listen(bench, "KEA"), bench.connect()

    client.pipeline(("SELECT", 9), ("SET", "k", "v"))

    assert events(listener) == ["__keyspace@9__:k set", "__keyevent@9__:set k"]


@pytest.mark.parametrize(
    ("classes", "heard"),
    [
        ("E$", ["set k"]),
        ("Eg", ["expire k", "del k"]),
        ("El", ["lpush l"]),
        ("Em", ["keymiss k"]),
        ("En", ["new k", "new l"]),
        ("EA", ["set k", "expire k", "del k", "lpush l"]),
        ("EAmn", ["new k", "set k", "expire k", "del k", "keymiss k", "new l", "lpush l"]),
        ("E", []),
        ("A", []),
        ("Ex", []),
    ],
)
def test_only_the_classes_that_were_asked_for(bench: ServerBench, classes: str, heard: list[str]) -> None:
    listener, client = listen(bench, classes), bench.connect()

    client.pipeline(*(("SET", "k", "v"), ("EXPIRE", "k", 100), ("DEL", "k"), ("GET", "k"), ("LPUSH", "l", "x")))

    assert events(listener) == [f"__keyevent@0__:{event}" for event in heard]


def test_expired_keys_are_announced_when_they_go(bench: ServerBench) -> None:
    listener, client = listen(bench, "Kx"), bench.connect()
    client.ask("SET", "k", "v", "PX", 100_000)
    bench.server.keyspace.databases[0].expires[b"k"] = 1

    client.ask("GET", "k")

    assert events(listener) == ["__keyspace@0__:k expired"]


def test_a_client_hears_of_its_own_doings_before_the_reply(bench: ServerBench) -> None:
    client = bench.connect()
    client.ask("CONFIG", "SET", "notify-keyspace-events", "E$")
    client.ask("HELLO", "3")
    client.ask("SUBSCRIBE", "__keyevent@0__:set")

    assert client.ask("SET", "k", "v") == b">3\r\n$7\r\nmessage\r\n$18\r\n__keyevent@0__:set\r\n$1\r\nk\r\n+OK\r\n"


def test_events_are_neither_replicated_nor_sent_to_the_cluster(
    bench: ServerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen(bench, "KEA")
    bench.server.keyspace.followed = True
    replicated: list[tuple[int, list[bytes]]] = []
    monkeypatch.setattr(bench.server, "replicate", replicated.extend)
    monkeypatch.setattr(bench.server, "replicate_requests", replicated.extend)

    bench.connect().ask("SET", "k", "v")

    assert replicated == [(0, [b"SET", b"k", b"v"])]


def test_nothing_is_called_unless_events_are_wanted(bench: ServerBench) -> None:
    client, keyspace = bench.connect(), bench.server.keyspace

    def is_called() -> bool:
        return keyspace.notifier is not None

    assert not is_called()

    client.ask("CONFIG", "SET", "notify-keyspace-events", "KAn")
    assert is_called()
    assert all(database.announces_new for database in keyspace.databases)

    client.ask("CONFIG", "SET", "notify-keyspace-events", "")
    assert not is_called()
    assert not any(database.announces_new or database.is_attended for database in keyspace.databases)


def test_events_and_an_eviction_policy_go_together(bench: ServerBench) -> None:
    client, keyspace = bench.connect(), bench.server.keyspace

    client.ask("CONFIG", "SET", "notify-keyspace-events", "KAn")
    client.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    bench.server.memory_limit.settings_changed()
    assert all(database.announces_new and database.usage for database in keyspace.databases)

    client.ask("CONFIG", "SET", "notify-keyspace-events", "")
    assert all(database.is_attended and not database.announces_new for database in keyspace.databases)

    client.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    bench.server.memory_limit.settings_changed()
    assert not any(database.is_attended for database in keyspace.databases)


def test_new_is_said_of_keys_that_were_not_there() -> None:
    keyspace = Keyspace(1)
    (database,) = keyspace.databases
    heard: list[tuple[bytes, bytes]] = []
    keyspace.notifier = lambda _class, event, key, _index: heard.append((event, key))
    database.attend(None, announces_new=True)

    database.put(b"a", 1, b"1")
    database.put(b"a", 1, b"2")
    database.put_many([b"b", b"a", b"b"], [b"1", b"2", b"3"], 1)
    database.set_expiry(b"b", 1)
    keyspace.now_ms = 2
    database.put(b"b", 1, b"1")

    assert heard == [(b"new", b"a"), (b"new", b"b"), (b"expired", b"b"), (b"new", b"b")]
