"""Geo commands on a server without a network: what beside the replies they do, and replies in RESP3. The replies are
compared with a real server's in tests/interop/test_differential_sorted_sets.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.commands.geo import _distance_text
from tests.support.sessions import BenchClient, ServerBench
from tests.support.wire import encode


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as bench:
        yield bench
        assert not bench.server.statistics.internal_errors


@pytest.fixture
def client(bench: ServerBench) -> BenchClient:
    client = bench.connect()
    ask(client, "GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania")
    return client


def ask(client: BenchClient, line: str) -> bytes:
    return client.ask(*line.split())


@pytest.mark.parametrize(
    ("request_", "events", "dirty"),
    [
        ("GEOADD g 1 1 a 2 2 b", "zadd:g", 2),
        ("GEOADD g 13.361389 38.115556 Palermo", "", 0),
        ("GEOADD g XX 1 1 a", "", 0),
        ("GEOADD g CH 1 1 Palermo", "zadd:g", 1),
        ("GEOSEARCHSTORE t g FROMLONLAT 15 37 BYRADIUS 200 km", "geosearchstore:t", 2),
        ("GEOSEARCHSTORE t g FROMLONLAT 15 37 BYBOX 1 1 m", "", 0),
        ("GEOSEARCHSTORE g g FROMLONLAT 15 37 BYBOX 1 1 m", "del:g", 1),
        ("GEORADIUS g 15 37 200 km STORE t", "georadiusstore:t", 2),
        ("GEORADIUSBYMEMBER g Palermo 1 m STOREDIST t", "georadiusstore:t", 1),
        ("GEORADIUSBYMEMBER none Palermo 1 m STORE g", "del:g", 1),
        ("GEORADIUS g 15 37 200 km", "", 0),
    ],
)
def test_events_and_changes(bench: ServerBench, client: BenchClient, request_: str, events: str, dirty: int) -> None:
    keyspace = bench.server.keyspace
    seen: list[bytes] = []
    keyspace.notifier = lambda _class, event, key, _database: seen.append(event + b":" + key)
    before = keyspace.dirty
    assert not ask(client, request_).startswith(b"-")
    assert b" ".join(event for event in seen if not event.startswith((b"keymiss", b"new"))) == events.encode()
    assert keyspace.dirty - before == dirty


def test_what_replicas_are_told(bench: ServerBench, client: BenchClient) -> None:
    told: list[list[bytes]] = []
    bench.server.feed.feed = lambda commands: told.extend(argv for _index, argv in commands)  # type: ignore[method-assign]
    bench.server.feed.feed_requests = bench.server.feed.feed  # type: ignore[method-assign]
    bench.server.keyspace.followed = True
    ask(client, "GEOADD g NX 13.361389 38.115556 Palermo 13.361389 38.115556 p")
    ask(client, "GEOADD g NX 13.361389 38.115556 Palermo")
    score = b"3479099956230698"
    assert told == [[b"zadd", b"g", b"NX", score, b"Palermo", score, b"p"]]


def test_replies_in_resp3(client: BenchClient) -> None:
    client.ask("HELLO", "3")
    place = b"*2\r\n,13.36138933897018433\r\n,38.11555639549629859\r\n"
    assert ask(client, "GEOPOS g Palermo none") == b"*2\r\n" + place + b"_\r\n"
    assert ask(client, "GEODIST g Palermo Catania km") == b"$8\r\n166.2742\r\n"
    assert ask(client, "GEODIST g Palermo none") == ask(client, "GEODIST none a b") == b"_\r\n"
    reply = ask(client, "GEOSEARCH g FROMMEMBER Palermo BYRADIUS 1 m WITHCOORD WITHHASH WITHDIST")
    assert reply == b"*1\r\n*4\r\n$7\r\nPalermo\r\n$6\r\n0.0000\r\n:3479099956230698\r\n" + place


def test_the_nearest_and_any(client: BenchClient) -> None:
    ask(client, "GEOADD g 15 37 centre 15.1 37.1 near")
    around = "GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 300 km"
    assert ask(client, f"{around} DESC") == encode("Palermo", "Catania", "near", "centre")
    assert ask(client, f"{around} COUNT 2") == encode("centre", "near")
    assert ask(client, f"{around} COUNT 2 DESC") == encode("Palermo", "Catania")
    assert ask(client, f"{around} COUNT 1 ANY").startswith(b"*1\r\n")


@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (0.0, b"0.0000"), (0.00005, b"0.0000"), (0.00025, b"0.0002"), (1.5, b"1.5000"), (0.0123, b"0.0123"),
        (166274.1516, b"166274.1516"), (float("nan"), b"-922337203685477.5808"), (1e300, b"-922337203685477.5808"),
    ],
)  # fmt: skip
def test_distances_as_text(distance: float, text: bytes) -> None:
    """Rounded to even at the fourth digit, and what no integer holds is the least."""
    assert _distance_text(distance) == text
