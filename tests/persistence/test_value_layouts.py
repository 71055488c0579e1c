"""Every layout of every data type decodes to the plain data that it stands for; damaged ones are RdbErrors."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RdbError
from cluster.keyspace.consumer_groups import ENTRIES_READ_UNKNOWN
from cluster.keyspace.stream_nodes import MAX_ID
from cluster.keyspace.streams import StreamValue
from cluster.persistence import intset, listpack
from cluster.persistence.rdb_cursor import Cursor, ShortRead
from cluster.persistence.rdb_format import RdbType, encode_length, encode_string
from cluster.persistence.rdb_values import EmptyValue, ValueKind, read_plain, read_value
from tests.persistence.compact_samples import stored, stream, stream_node, ziplist, zipmap
from tests.persistence.rdb_samples import every_kind_loadable, mutations, parse, parse_error, rdb, shown
from tests.support.streams import described, pair


def strings(*texts: bytes) -> bytes:
    return b"".join(encode_string(text, compress=True) for text in texts)


def double(number: float) -> bytes:
    return struct.pack("<d", number)


def group(version: int) -> bytes:
    """One group with one consumer that owes an acknowledgement for entry 5-1."""
    entry_id = struct.pack(">QQ", 5, 1)
    return b"".join(
        (
            strings(b"group"),
            encode_length(5),
            encode_length(1),
            encode_length(2**64 - 1) if version >= 2 else b"",
            encode_length(1),
            entry_id + (1234).to_bytes(8, "little") + encode_length(3),
            encode_length(1),
            strings(b"consumer"),
            (77).to_bytes(8, "little"),
            (88).to_bytes(8, "little") if version >= 3 else b"",
            encode_length(1),
            entry_id,
        )
    )


NODES = [
    stream_node(
        (5, 1),
        [b"f", b"g"],
        [
            ((5, 1), [(b"f", b"1"), (b"g", b"x")], False),
            ((5, 2), [(b"f", b"2"), (b"g", b"y")], True),
            ((6, 0), [(b"other", b"3")], False),
        ],
    ),
    stream_node((9, 0), [b"f"], [((9, 0), [(b"f", b"4")], False)]),
]


def expected_stream(version: int) -> dict[str, Any]:
    """What the samples of each version stand for."""
    return {
        "nodes": [
            (
                (5, 1),
                [b"f", b"g"],
                [
                    ((5, 1), [b"f", b"1", b"g", b"x"], False),
                    ((5, 2), [b"f", b"2", b"g", b"y"], True),
                    ((6, 0), [b"other", b"3"], False),
                ],
                67,
            ),
            ((9, 0), [b"f"], [((9, 0), [b"f", b"4"], False)], 28),
        ],
        "length": 3,
        "last_id": (9, 0),
        "first_id": (5, 1),
        "max_deleted_id": (5, 2) if version >= 2 else (0, 0),
        "entries_added": 4 if version >= 2 else 3,
        "groups": {
            b"group": {
                "last_id": (5, 1),
                "entries_read": ENTRIES_READ_UNKNOWN if version >= 2 else 1,
                "pending": [((5, 1), b"consumer", 1234, 3)],
                "consumers": {b"consumer": (77, [((5, 1), b"consumer", 1234, 3)])},
            }
        },
    }


def empty_stream(version: int) -> dict[str, Any]:
    return {
        "nodes": [],
        "length": 0,
        "last_id": (9, 0),
        "first_id": (5, 1) if version >= 2 else pair(MAX_ID),
        "max_deleted_id": (5, 2) if version >= 2 else (0, 0),
        "entries_added": 4 if version >= 2 else 0,
        "groups": {},
    }


NUMBERS_2 = (9, 0, 5, 1, 5, 2, 4)
SAMPLES: list[tuple[RdbType, bytes, ValueKind, Any]] = [
    (RdbType.STRING, strings(b"text"), ValueKind.STRING, b"text"),
    (RdbType.LIST, b"\x03" + strings(b"a", b"1", b"a"), ValueKind.LIST, [b"a", b"1", b"a"]),
    (RdbType.LIST_ZIPLIST, stored(ziplist([b"a", 1])), ValueKind.LIST, [b"a", b"1"]),
    (
        RdbType.LIST_QUICKLIST,
        b"\x03" + stored(ziplist([b"a", 1])) + stored(ziplist([])) + stored(ziplist([70000])),
        ValueKind.LIST,
        [b"a", b"1", b"70000"],
    ),
    (
        RdbType.LIST_QUICKLIST_2,
        b"\x03\x02"
        + stored(listpack.encode([b"a", b"1"]))
        + b"\x01"
        + strings(b"big")
        + b"\x02"
        + stored(listpack.encode([])),
        ValueKind.LIST,
        [b"a", b"1", b"big"],
    ),
    (RdbType.SET, b"\x02" + strings(b"a", b"7"), ValueKind.SET, [b"a", b"7"]),
    (RdbType.SET_INTSET, stored(intset.encode([-3, 40000])), ValueKind.SET, [b"-3", b"40000"]),
    (RdbType.SET_LISTPACK, stored(listpack.encode([b"a", b"7"])), ValueKind.SET, [b"a", b"7"]),
    (RdbType.HASH, b"\x02" + strings(b"f", b"1", b"g", b"f"), ValueKind.HASH, {b"f": b"1", b"g": b"f"}),
    (RdbType.HASH_ZIPMAP, stored(zipmap([(b"f", b"1")], 3)), ValueKind.HASH, {b"f": b"1"}),
    (RdbType.HASH_ZIPLIST, stored(ziplist([b"f", 1])), ValueKind.HASH, {b"f": b"1"}),
    (RdbType.HASH_LISTPACK, stored(listpack.encode([b"f", b"1"])), ValueKind.HASH, {b"f": b"1"}),
    (
        RdbType.ZSET,
        b"\x04"
        + strings(b"a")
        + b"\x031.5"
        + strings(b"b")
        + b"\xfe"
        + strings(b"c")
        + b"\xff"
        + strings(b"d")
        + b"\x041e22",
        ValueKind.ZSET,
        {b"a": 1.5, b"b": math.inf, b"c": -math.inf, b"d": 1e22},
    ),
    (
        RdbType.ZSET_2,
        b"\x02" + strings(b"a") + double(1.5) + strings(b"b") + double(-math.inf),
        ValueKind.ZSET,
        {b"a": 1.5, b"b": -math.inf},
    ),
    (RdbType.ZSET_ZIPLIST, stored(ziplist([b"a", 1, b"b", b"2.5"])), ValueKind.ZSET, {b"a": 1.0, b"b": 2.5}),
    (
        RdbType.ZSET_LISTPACK,
        stored(listpack.encode([b"a", b"1", b"b", b"inf"])),
        ValueKind.ZSET,
        {b"a": 1.0, b"b": math.inf},
    ),
    (RdbType.STREAM_LISTPACKS, stream(NODES, 3, 9, 0, groups=[group(1)]), ValueKind.STREAM, expected_stream(1)),
    (RdbType.STREAM_LISTPACKS_2, stream(NODES, 3, *NUMBERS_2, groups=[group(2)]), ValueKind.STREAM, expected_stream(2)),
    (RdbType.STREAM_LISTPACKS_3, stream(NODES, 3, *NUMBERS_2, groups=[group(3)]), ValueKind.STREAM, expected_stream(3)),
    (RdbType.STREAM_LISTPACKS_2, stream([], 0, *NUMBERS_2), ValueKind.STREAM, empty_stream(2)),
    (RdbType.STREAM_LISTPACKS, stream([], 0, 9, 0), ValueKind.STREAM, empty_stream(1)),
]
NAMES = [f"{code.name}-{number}" for number, (code, *_rest) in enumerate(SAMPLES)]


@pytest.fixture(autouse=True)
def loadable() -> Iterator[None]:
    with every_kind_loadable():
        yield


@pytest.mark.parametrize(("code", "data", "value_kind", "expected"), SAMPLES, ids=NAMES)
def test_layouts(code: RdbType, data: bytes, value_kind: ValueKind, expected: Any) -> None:
    cursor = Cursor(data)
    kind, plain = read_plain(code, cursor)
    assert (kind, described(plain) if isinstance(plain, StreamValue) else shown(plain)) == (value_kind, expected)
    assert cursor.position == len(data)


def test_every_type_that_holds_data_has_a_sample() -> None:
    assert {code for code, *_rest in SAMPLES} == set(RdbType) - {RdbType.MODULE, RdbType.MODULE_2}


@pytest.mark.parametrize(("code", "data", "value_kind", "expected"), SAMPLES, ids=NAMES)
def test_every_prefix_falls_short(code: RdbType, data: bytes, value_kind: ValueKind, expected: Any) -> None:
    for size in range(len(data)):
        with pytest.raises(ShortRead):
            read_plain(code, Cursor(data[:size]))


@pytest.mark.parametrize(("code", "data", "value_kind", "expected"), SAMPLES, ids=NAMES)
@given(choices=st.data())
def test_mutations_load_or_raise(
    code: RdbType, data: bytes, value_kind: ValueKind, expected: Any, choices: st.DataObject
) -> None:
    mutated = choices.draw(mutations(data))
    try:
        read_plain(code, Cursor(mutated))
    except (RdbError, ShortRead, EmptyValue):
        pass


@given(st.sampled_from(list(RdbType)), st.binary(max_size=120))
def test_random_bytes_load_or_raise(code: RdbType, data: bytes) -> None:
    try:
        read_plain(code, Cursor(data))
    except (RdbError, ShortRead, EmptyValue):
        pass


def one(code: int, data: bytes) -> bytes:
    return rdb(bytes((code,)) + b"\x01k" + data)


@pytest.mark.parametrize(
    ("code", "data", "words"),
    [
        (RdbType.SET, b"\x02" + strings(b"a", b"a"), "Duplicate set members detected"),
        (RdbType.SET_LISTPACK, stored(listpack.encode([b"a", b"a"])), "Duplicate set members detected"),
        (RdbType.HASH, b"\x02" + strings(b"a", b"1", b"a", b"2"), "Duplicate hash fields detected"),
        (
            RdbType.HASH_LISTPACK,
            stored(listpack.encode([b"a", b"1", b"a", b"2"])),
            "Hash listpack integrity check failed.",
        ),
        (RdbType.HASH_LISTPACK, stored(listpack.encode([b"a"])), "Hash listpack integrity check failed."),
        (RdbType.HASH_ZIPLIST, stored(b"junk"), "Hash ziplist integrity check failed."),
        (RdbType.HASH_ZIPMAP, stored(b"junk"), "Zipmap integrity check failed."),
        (RdbType.SET_INTSET, stored(b"junk"), "Intset integrity check failed."),
        (RdbType.LIST_ZIPLIST, stored(b"junk"), "List ziplist integrity check failed."),
        (RdbType.LIST_QUICKLIST, b"\x01" + stored(b"junk"), "Ziplist integrity check failed."),
        (RdbType.LIST_QUICKLIST_2, b"\x01\x02" + stored(b"junk"), "Listpack integrity check failed."),
        (RdbType.LIST_QUICKLIST_2, b"\x01\x03" + stored(b"junk"), "Quicklist integrity check failed."),
        (RdbType.LIST_QUICKLIST_2, b"\x01\x01\x00", "Quicklist integrity check failed."),
        (RdbType.ZSET_2, b"\x01" + strings(b"a") + double(math.nan), "Zset with NAN score detected"),
        (RdbType.ZSET, b"\x01" + strings(b"a") + b"\xfd", "Zset with NAN score detected"),
        (RdbType.ZSET, b"\x01" + strings(b"a") + b"\x031_0", "Invalid double in text form"),
        (RdbType.ZSET_2, b"\x02" + (strings(b"a") + double(1.0)) * 2, "Duplicate zset fields detected"),
        (RdbType.ZSET_LISTPACK, stored(listpack.encode([b"a", b"nan"])), "Zset with NAN score detected"),
        (RdbType.ZSET_ZIPLIST, stored(ziplist([b"a"])), "Zset ziplist integrity check failed."),
        (RdbType.STREAM_LISTPACKS, b"\x01" + strings(b"short"), "Stream node key entry is not the size of a stream ID"),
        (RdbType.STREAM_LISTPACKS, stream([NODES[1]] * 2, 2, 9, 0), "Listpack re-added with existing key"),
        (RdbType.STREAM_LISTPACKS, stream([], 1, 9, 0), "Stream length inconsistent with rax entries"),
        (
            RdbType.STREAM_LISTPACKS,
            stream([stored(bytes(16)) + stored(listpack.encode([]))], 0, 9, 0),
            "Stream listpack integrity check failed.",
        ),
        (
            RdbType.STREAM_LISTPACKS,
            stream(NODES, 3, 9, 0, groups=[group(1)] * 2),
            "Duplicated consumer group name group",
        ),
    ],
)
def test_damage_in_redis_words(code: int, data: bytes, words: str) -> None:
    assert parse_error(one(code, data)).endswith(f"-> {words}")


@pytest.mark.parametrize(
    "data",
    [
        bytes((RdbType.LIST,)) + b"\x01k\x00",
        bytes((RdbType.SET_LISTPACK,)) + b"\x01k" + stored(listpack.encode([])),
        bytes((RdbType.HASH_ZIPLIST,)) + b"\x01k" + stored(ziplist([])),
        bytes((RdbType.LIST_QUICKLIST_2,)) + b"\x01k\x01\x02" + stored(listpack.encode([])),
    ],
)
def test_empty_collections_are_skipped_while_loading(data: bytes) -> None:
    sink, parser = parse(rdb(b"\xfc" + bytes(8) + data, b"\x00\x04next\x01v"))
    assert sink.entries == [(0, b"next", b"v", None, None, None)]
    assert parser.counts.empty_keys_skipped == 1
    assert ("warning", "rdbLoadObject skipping empty key: k") in sink.lines
    assert ("warning", "Done loading RDB, keys loaded: 1, keys expired: 0, empty keys skipped: 1.") in sink.lines


def test_a_kind_without_a_value_class_is_named_with_its_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.persistence import rdb_values

    monkeypatch.delitem(rdb_values.FACTORIES, ValueKind.SET)
    with pytest.raises(RdbError, match=r"RDB type SET \(2\) at offset 100: a set cannot be stored yet"):
        read_value(RdbType.SET, Cursor(b"\x01" + strings(b"a"), 0, 100))
