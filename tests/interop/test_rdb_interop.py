"""RDB files and DUMP payloads, exchanged with a real redis-server in both directions."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis

from cluster.errors import RdbError
from cluster.keyspace.database import Keyspace
from cluster.keyspace.stream_nodes import make_id
from cluster.keyspace.streams import StreamValue
from cluster.persistence import intset, listpack, rdb_layouts
from cluster.persistence.crc64 import crc64
from cluster.persistence.dump_payload import dump, restore
from cluster.persistence.rdb_format import RdbType
from cluster.persistence.rdb_reader import LoadPolicy
from cluster.persistence.saver import Saver
from cluster.persistence.snapshot import KeyspaceSink, SnapshotOptions, load_file, save_file
from cluster.persistence.stream_layout import stream_layout
from cluster.settings import Settings
from cluster.slots.hashing import key_slot
from tests.persistence.compact_samples import stored, stream, stream_node, ziplist, zipmap
from tests.persistence.rdb_samples import every_kind_loadable, parse, shown
from tests.support.servers import RealRedis
from tests.support.streams import entries_of, group_of, pair, stream_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_redis

FAR_MS = 4_102_444_800_123
PERSISTED = {"save": '""', "dbfilename": "dump.rdb"}

STRINGS: dict[bytes, bytes] = {
    b"empty": b"",
    b"small": b"1",
    b"negative": b"-129",
    b"middle": b"70000",
    b"limit32": b"2147483647",
    b"over32": b"2147483648",
    b"int64": b"-9223372036854775808",
    b"not:canonical": b"007",
    b"minus zero": b"-0",
    b"20 bytes": b"x" * 20,
    b"21 bytes": b"x" * 21,
    b"compressible": b"hello world " * 500,
    b"runs": b"a" * 300 + b"b" * 9000 + b"a" * 300,
    b"far": bytes(range(256)) * 40,
    b"binary\x00\xff\r\n": bytes(range(256)),
    b"incompressible": random.Random(1).randbytes(100_000),
    b"large text": b"".join(b"line %d\n" % number for number in range(60_000)),
    b"63": b"y" * 63,
    b"64": bytes(random.Random(2).choices(range(256), k=64)),
    b"16383": random.Random(3).randbytes(16383),
    b"16384": random.Random(4).randbytes(16384),
    b"k" * 20_000: b"long key",
    b"12345": b"integer key",
}


@attrs.frozen
class Place:
    replid: str = "f" * 40
    offset: int = 815
    stream_database: int = 2


def put(keyspace: Keyspace, index: int, key: bytes, value: Any, expire_ms: int | None = None) -> None:
    database = keyspace.databases[index]
    database.put(key, key_slot(key), value)
    if expire_ms is not None:
        database.set_expiry(key, expire_ms)


def given_strings() -> Keyspace:
    keyspace = Keyspace(16)
    for key, value in STRINGS.items():
        put(keyspace, 0, key, value, FAR_MS if len(value) % 2 else None)
    put(keyspace, 2, b"int", -5)
    put(keyspace, 2, b"long int", 12345678901234)
    put(keyspace, 15, b"grown", bytearray(b"grown " * 1000), FAR_MS)
    return keyspace


def check_rdb(path: Path) -> str:
    """What redis-check-rdb says; it must be content."""
    result = subprocess.run(["redis-check-rdb", str(path)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert "RDB looks OK!" in result.stdout
    return result.stdout


def assert_holds_the_strings(real: RealRedis) -> None:
    with real.client() as client:
        assert {key: client.get(key) for key in client.scan_iter()} == STRINGS
        for key, value in STRINGS.items():
            assert client.pexpiretime(key) == (FAR_MS if len(value) % 2 else -1)
        client.select(2)
        assert (client.get("int"), client.get("long int"), client.dbsize()) == (b"-5", b"12345678901234", 2)
        client.select(15)
        assert client.get("grown") == b"grown " * 1000
        assert client.pexpiretime("grown") == FAR_MS


# Files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        SnapshotOptions(),
        SnapshotOptions(compress=False),
        SnapshotOptions(checksum=False),
        SnapshotOptions(place=Place(), used_memory_bytes=1 << 40, is_aof_base=True),
        SnapshotOptions(usage=lambda _database, _key: (1000, None)),
        SnapshotOptions(usage=lambda _database, _key: (None, 7)),
    ],
    ids=["default", "uncompressed", "no checksum", "place in the stream", "idle time", "frequency"],
)
def test_a_real_server_loads_what_we_write(options: SnapshotOptions) -> None:
    with_errors: list[str] = []
    server = RealRedis(**PERSISTED)
    path = server.directory / "dump.rdb"
    keyspace = given_strings()

    assert save_file(
        keyspace, str(server.directory), "dump.rdb", options, 1_700_000_000, lambda _l, t: with_errors.append(t)
    )

    report = check_rdb(path)
    assert f"{len(STRINGS) + 3} keys read" in report
    assert ("Checksum OK" in report) is options.checksum
    with server:
        assert_holds_the_strings(server)
        assert "DB loaded from disk" in server.log_text()


def test_a_snapshot_from_a_child_is_as_good(tmp_path: Path) -> None:
    saver = Saver(given_strings(), Settings(dir=str(tmp_path)), print, print, lambda: 0, Place)
    assert saver.start_background_save()
    _child, ended = eventually(saver.poll)  # type: ignore[misc]
    assert ended.success
    assert "repl-offset = '815'" in check_rdb(tmp_path / "dump.rdb")


@pytest.mark.parametrize("rdbcompression", ["yes", "no"])
@pytest.mark.parametrize("rdbchecksum", ["yes", "no"])
def test_we_load_what_a_real_server_writes(rdbcompression: str, rdbchecksum: str) -> None:
    with RealRedis(rdbcompression=rdbcompression, rdbchecksum=rdbchecksum, **PERSISTED) as real:
        with real.client() as client:
            for key, value in STRINGS.items():
                client.set(key, value, pxat=FAR_MS if len(value) % 2 else None)
            client.execute_command("SELECT", 2)
            client.incrby("int", -5)
            client.incrby("long int", 12345678901234)
            client.execute_command("SELECT", 15)
            client.append("grown", b"grown " * 1000)
            client.pexpireat("grown", FAR_MS)
            client.save()
        lines: list[tuple[str, str]] = []
        keyspace = Keyspace(16)
        sink = KeyspaceSink(keyspace, lambda level, text: lines.append((level, text)))
        slices = list(load_file(str(real.directory / "dump.rdb"), sink, LoadPolicy(), 2_000_000_000, slice_keys=3))

    assert len(slices) > 5
    assert ("notice", "Loading RDB produced by version 7.0.15") in lines
    assert ("notice", f"Done loading RDB, keys loaded: {len(STRINGS) + 3}, keys expired: 0.") in lines
    assert not any(level == "warning" for level, _text in lines) or rdbchecksum == "no"
    assert dict(keyspace.databases[0].items()) == STRINGS
    assert keyspace.databases[0].expires == {key: FAR_MS for key, value in STRINGS.items() if len(value) % 2}
    assert dict(keyspace.databases[2].items()) == {b"int": b"-5", b"long int": b"12345678901234"}
    assert dict(keyspace.databases[15].items()) == {b"grown": b"grown " * 1000}


def test_what_it_wrote_and_we_loaded_and_wrote_it_loads_again() -> None:
    """Around the whole circle, the data digest is the same."""
    with RealRedis(**PERSISTED) as real:
        with real.client() as client:
            for key, value in STRINGS.items():
                client.set(key, value)
            client.save()
            digest = client.execute_command("DEBUG", "DIGEST")
        keyspace = Keyspace(16)
        list(load_file(str(real.directory / "dump.rdb"), KeyspaceSink(keyspace, lambda *_: None), LoadPolicy(), None))
        real.kill9()
        assert save_file(keyspace, str(real.directory), "dump.rdb", SnapshotOptions(), 0, print)
        real.start()
        with real.client() as client:
            assert client.execute_command("DEBUG", "DIGEST") == digest


@pytest.fixture(params=["compact", "plain"])
def typed(request: pytest.FixtureRequest) -> Iterator[tuple[RealRedis, redis.Redis]]:
    """A real server with every data type, in compact encodings or (by tiny limits) in none."""
    tiny = (
        {}
        if request.param == "compact"
        else {
            "list-max-listpack-size": 2,
            "list-compress-depth": 1,
            "hash-max-listpack-entries": 1,
            "zset-max-listpack-entries": 1,
            "set-max-intset-entries": 1,
            "stream-node-max-entries": 3,
        }
    )
    directives = {name.replace("-", "_"): value for name, value in tiny.items()}
    with RealRedis(**PERSISTED, **directives) as real, real.client() as client:
        fill_with_every_type(client)
        yield real, client


def fill_with_every_type(client: redis.Redis) -> None:
    rng = random.Random(5)
    numbers = [(1 << bits) + delta for bits in (6, 7, 12, 15, 23, 31, 62) for delta in (-1, 0, 1)]
    texts = [b"%d" % (number * sign) for number in numbers for sign in (1, -1)]
    texts += [rng.randbytes(size) for size in (0, 1, 20, 62, 63, 64, 127, 128, 300, 4095, 4096, 17_000)]
    client.rpush("list", *texts)
    client.rpush("huge node", b"x" * 9000, b"y" * 70_000, b"1")
    client.sadd("numbers", *range(-40_000, 40_000, 700))
    client.sadd("wide numbers", *numbers)
    client.sadd("set", *texts)
    client.hset("hash", mapping={text + b"f": text for text in texts})
    client.hset("small hash", mapping={"f": "1", "g": "-300000", "h": "text"})
    client.zadd("zset", {text: rng.uniform(-1e9, 1e9) for text in texts})
    client.zadd("small zset", {"a": 1.5, "b": float("inf"), "c": -3, "d": 1e300, "e": 0.1})
    for number in range(1, 200):
        fields = {"a": number, "b": "text"} if number % 5 else {"other": b"z" * number}
        client.xadd("stream", fields, id=f"{number}-{number % 3}")
    client.xdel("stream", "7-1", "1-1", "199-1")
    client.xgroup_create("stream", "group", "0")
    client.xreadgroup("group", "one", {"stream": ">"}, count=10)
    client.xreadgroup("group", "two", {"stream": ">"}, count=5)
    client.xack("stream", "group", "3-0")
    client.xadd("emptied", {"a": "1"}, id="5-5")
    client.xdel("emptied", "5-5")


def expected_types(client: redis.Redis) -> dict[bytes, Any]:
    return {
        **{key: client.lrange(key, 0, -1) for key in (b"list", b"huge node")},
        **{key: client.smembers(key) for key in (b"numbers", b"wide numbers", b"set")},
        **{key: client.hgetall(key) for key in (b"hash", b"small hash")},
        **{key: dict(client.zrange(key, 0, -1, withscores=True)) for key in (b"zset", b"small zset")},
        b"stream": client.xrange("stream"),
        b"emptied": [],
    }


def comparable(key: bytes, plain: Any) -> Any:
    if isinstance(plain, StreamValue):
        return [
            (b"%d-%d" % entry_id, dict(zip(pairs[::2], pairs[1::2], strict=True)))
            for entry_id, pairs in entries_of(plain)
        ]
    return set(shown(plain)) if key in (b"numbers", b"wide numbers", b"set") else shown(plain)


def test_every_type_of_a_real_file_decodes(typed: tuple[RealRedis, redis.Redis]) -> None:
    real, client = typed
    client.save()

    with every_kind_loadable():
        sink, parser = parse((real.directory / "dump.rdb").read_bytes())

    assert {key: comparable(key, plain) for _database, key, plain, *_rest in sink.entries} == expected_types(client)
    assert parser.version == 10
    held = next(plain for _database, key, plain, *_rest in sink.entries if key == b"stream")
    assert [pair(one) for one in (held.last_id, held.first_id, held.max_deleted_id)] == [(199, 1), (2, 2), (199, 1)]
    assert held.entries_added == 199
    (group,) = held.groups.values()
    assert [(name, len(consumer.pending)) for name, consumer in group.consumers.items()] == [(b"one", 9), (b"two", 5)]
    assert len(group.pending) == 14


def test_every_type_of_a_real_dump_restores(typed: tuple[RealRedis, redis.Redis]) -> None:
    _real, client = typed
    with every_kind_loadable():
        plain = {key: comparable(key, restore(client.dump(key))) for key in client.scan_iter()}
    assert plain == expected_types(client)


# DUMP and RESTORE ---------------------------------------------------------------------------------------------


def test_dump_payloads_go_both_ways(real: RealRedis) -> None:
    with real.client() as client:
        for key, value in STRINGS.items():
            assert client.restore(key, 0, dump(value))
            assert client.get(key) == value
            theirs = client.dump(key)
            assert restore(theirs) == value
            if theirs[1:2] != b"\xc3":  # Compressed bytes may differ and mean the same.
                assert dump(value, compress=False) == theirs


def test_a_damaged_payload_is_refused_in_the_same_words(real: RealRedis) -> None:
    # A string that reaches into the footer, as in b"\x00\x05a", is refused by us alone: Redis reads the footer as data.
    bodies = [b"", b"\x00", b"\x00\x20a", b"\x63\x01a", b"\xff", b"\x01\x00", b"\x00\xc4a", b"\x00\xc3\x02\x05\x00a"]
    payloads = [b"short", dump(b"x")[:-1] + b"\0", sealed(b"\x00\x01a", 60), *map(sealed, bodies)]
    with real.client() as client:
        for payload in payloads:
            with pytest.raises(redis.ResponseError) as theirs:
                client.restore("k", 0, payload)
            with every_kind_loadable(), pytest.raises(RdbError) as ours:
                restore(payload)
            assert str(theirs.value) == str(ours.value)


def test_our_layouts_of_collections_load_in_a_real_server_with_its_encodings(real: RealRedis) -> None:
    """What we lay out, it takes as its own: same content, same encoding, and (mostly) the same bytes again."""
    numbers = [b"%d" % number for number in range(-300, 300)]
    members = {b"m%d" % number: number / 7 for number in range(500)} | {b"inf": float("inf"), b"big": 1e300}
    ascending = sorted(members.items(), key=lambda item: (item[1], item[0]))
    fields = {b"field%d" % number: b"value" * (number % 20) for number in range(400)}
    long_list = [b"element %d" % number for number in range(5000)] + [b"x" * 9000, b"", b"-1"]
    entries = [((number, 5), [b"a", b"%d" % number, b"b", b"c"][: 2 + 2 * (number % 2)]) for number in range(1, 333)]
    held = stream_of(entries)
    held.delete([make_id(7, 5), make_id(8, 5)])
    held.groups[b"g"] = group_of((9, 5), {b"c": [((3, 5), 77, 2)], b"a": []}, entries_read=9, seen_ms=88)
    samples: list[tuple[rdb_layouts.Layout, Any, bytes]] = [
        (rdb_layouts.list_layout(long_list, 0), long_list, b"quicklist"),
        (rdb_layouts.list_layout([b"1", b"two"], 0), [b"1", b"two"], b"quicklist"),
        (rdb_layouts.intset_layout([5, -70000, 1], 0), {b"5", b"-70000", b"1"}, b"intset"),
        (rdb_layouts.set_layout([*numbers, b"text"], 0), {*numbers, b"text"}, b"hashtable"),
        (rdb_layouts.hash_layout({b"f": b"1", b"g": b"text"}, True, 0), {b"f": b"1", b"g": b"text"}, b"listpack"),
        (rdb_layouts.hash_layout(fields, False, 0), fields, b"hashtable"),
        (rdb_layouts.zset_layout(ascending[-9:], [], 9, True, 0), dict(ascending[-9:]), b"listpack"),
        (rdb_layouts.zset_layout([], reversed(ascending), len(members), False, 0), members, b"skiplist"),
        (stream_layout(held, 0), comparable(b"k", held), b"stream"),
    ]
    with real.client() as client:
        client.config_set("sanitize-dump-payload", "yes")
        client.config_set("rdbcompression", "no")
        for (code, pieces), expected, encoding in samples:
            body = bytes((code,)) + b"".join(pieces)
            client.restore("k", 0, sealed(body), replace=True)
            theirs = READERS[client.type("k")](client)
            assert theirs == expected
            assert client.object("encoding", "k") == encoding
            again = client.dump("k")[:-10]
            assert sorted(again) == sorted(body), encoding  # Hash tables come in another order.
            if encoding != b"hashtable":
                assert again == body, encoding


def sealed(body: bytes, version: int = 10) -> bytes:
    body += version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


NODE = stream_node(
    (5, 1), [b"f"], [((5, 1), [(b"f", b"1")], False), ((5, 2), [(b"f", b"2")], True), ((6, 0), [(b"o", b"3")], False)]
)
BODIES = {
    "list ziplist": bytes((RdbType.LIST_ZIPLIST,)) + stored(ziplist([b"a", 1, -70000, b"x" * 300, 1 << 40])),
    "hash ziplist": bytes((RdbType.HASH_ZIPLIST,)) + stored(ziplist([b"a", 1, b"b", b"y" * 260, 13, 12])),
    "zset ziplist": bytes((RdbType.ZSET_ZIPLIST,)) + stored(ziplist([b"a", 1, b"b", b"2.5"])),
    "quicklist": bytes((RdbType.LIST_QUICKLIST, 2)) + stored(ziplist([b"a", 300])) + stored(ziplist([b"z"])),
    "zipmap": bytes((RdbType.HASH_ZIPMAP,)) + stored(zipmap([(b"a", b"1"), (b"b", b"v" * 254)], 2)),
    "intset": bytes((RdbType.SET_INTSET,)) + stored(intset.encode([-40000, 1, 5, 1 << 20])),
    "hash listpack": bytes((RdbType.HASH_LISTPACK,)) + stored(listpack.encode([b"a", b"1", b"b", b"v" * 130])),
    "quicklist 2": bytes((RdbType.LIST_QUICKLIST_2, 2, 2)) + stored(listpack.encode([b"a", b"-5"])) + b"\x01\x02zz",
    "stream 1": bytes((RdbType.STREAM_LISTPACKS,)) + stream([NODE], 2, 6, 0),
    "stream 2": bytes((RdbType.STREAM_LISTPACKS_2,)) + stream([NODE], 2, 6, 0, 5, 1, 5, 2, 3),
}
READERS: dict[bytes, Any] = {
    b"list": lambda client: client.lrange("k", 0, -1),
    b"hash": lambda client: client.hgetall("k"),
    b"zset": lambda client: dict(client.zrange("k", 0, -1, withscores=True)),
    b"set": lambda client: client.smembers("k"),
    b"stream": lambda client: client.xrange("k"),
}


def readable(plain: Any) -> Any:
    if isinstance(plain, StreamValue):
        return comparable(b"k", plain)
    return shown(plain)


@pytest.mark.parametrize("name", BODIES)
def test_old_and_compact_layouts_mean_the_same_to_both(real: RealRedis, name: str) -> None:
    """And so do their mutations: what we accept, a real server that checks deeply accepts with the same content."""
    rng = random.Random(os.environ.get("HASHSLOT_SEED", name))
    original = BODIES[name]
    agreed = 0
    with real.client() as client, every_kind_loadable():
        client.config_set("sanitize-dump-payload", "yes")
        for round_number in range(300):
            body = original if round_number == 0 else mutated(rng, original)
            try:
                ours = readable(restore(sealed(body)))
            except RdbError:
                assert round_number > 0
                continue
            client.delete("k")
            try:
                client.restore("k", 0, sealed(body))
            except redis.ResponseError as error:
                raise AssertionError(f"we accept {body.hex()} as {ours!r}") from error
            theirs = READERS[client.type("k")](client)
            assert set(ours) == theirs if isinstance(theirs, set) else ours == theirs, body.hex()
            agreed += 1
    assert agreed > 0


def mutated(rng: random.Random, original: bytes) -> bytes:
    body = bytearray(original)
    for _ in range(rng.choice((1, 1, 1, 2))):
        position = rng.randrange(1, len(body))
        body[position] = rng.choice((rng.randrange(256), body[position] ^ 1 << rng.randrange(8)))
    return bytes(body)
