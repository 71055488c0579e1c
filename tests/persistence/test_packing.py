"""Packing of small collections: the way back gives what a load without packing gives, in memory and in a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace import values
from cluster.keyspace.database import Keyspace
from cluster.keyspace.digest import EMPTY_DIGEST, mix_value
from cluster.keyspace.packed import PackedValue
from cluster.persistence import aof_rewrite, intset, listpack, rdb_values, rdb_writer
from cluster.persistence.collection_types import register_collections
from cluster.persistence.dump_payload import dump
from cluster.persistence.packing import MOST_BYTES, MOST_ELEMENTS, pack
from cluster.persistence.rdb_cursor import Cursor
from cluster.persistence.rdb_format import RdbType, encode_length, encode_string
from cluster.persistence.rdb_reader import LoadPolicy, RdbParser
from cluster.persistence.rdb_values import EmptyValue, ValueKind, read_plain, read_value
from cluster.persistence.rdb_writer import NO_LIMIT, encode_value
from cluster.persistence.snapshot import KeyspaceSink
from cluster.settings import Settings
from cluster.slots.hashing import key_slot
from tests.persistence import compact_samples
from tests.persistence.compact_samples import stored
from tests.persistence.rdb_samples import rdb
from tests.support.real_values import registered

SETTINGS = Settings()


@pytest.fixture(autouse=True, scope="module")
def real_values() -> Iterator[None]:
    with registered(SETTINGS):
        yield


def packed(code: int, body: bytes, settings: Settings = SETTINGS) -> PackedValue | None:
    kind, plain = read_plain(code, Cursor(body))
    return pack(settings, code, kind, plain, body)


texts = st.one_of(
    st.binary(max_size=6),
    st.integers(-(2**63), 2**63 - 1).map(lambda number: b"%d" % number),
    st.integers(0, 300).map(lambda number: b"%d" % number),
    st.sampled_from([b"long text " * 3, b"x" * 64, b"y" * 65, b"007", b"-0", b""]),
)
scores = st.floats(allow_nan=False)


def strings(items: list[bytes], *, compress: bool) -> bytes:
    return b"".join(encode_string(item, compress=compress) for item in items)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[int, bytes]:
    """A type and a small value of it, in most layouts that there are, also compressed."""
    compress = draw(st.booleans())
    distinct = draw(st.lists(texts, min_size=1, max_size=20, unique=True))
    several = draw(st.lists(texts, min_size=len(distinct), max_size=len(distinct)))
    numbers = sorted(draw(st.sets(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20)))
    pairs = [text for pair in zip(distinct, several, strict=True) for text in pair]
    points = [draw(scores) for _ in distinct]
    scored = [text for member, score in zip(distinct, points, strict=True) for text in (member, b"%.17g" % score)]

    def one(blob: bytes) -> bytes:
        return encode_string(blob, compress=compress)

    def count(items: list[bytes]) -> bytes:
        return encode_length(len(items))

    return draw(
        st.sampled_from(
            [
                (RdbType.LIST, count(several) + strings(several, compress=compress)),
                (RdbType.LIST_ZIPLIST, one(compact_samples.ziplist(several))),
                (RdbType.LIST_QUICKLIST, b"\x01" + one(compact_samples.ziplist(several))),
                (RdbType.LIST_QUICKLIST_2, b"\x01\x02" + one(listpack.encode(several))),
                (RdbType.LIST_QUICKLIST_2, b"\x02\x02" + one(listpack.encode(several)) + b"\x01" + one(b"plain")),
                (RdbType.SET, count(distinct) + strings(distinct, compress=compress)),
                (RdbType.SET_INTSET, one(intset.encode(numbers))),
                (RdbType.SET_LISTPACK, one(listpack.encode(distinct))),
                (RdbType.HASH, count(distinct) + strings(pairs, compress=compress)),
                (RdbType.HASH_ZIPLIST, one(compact_samples.ziplist(pairs))),
                (RdbType.HASH_LISTPACK, one(listpack.encode(pairs))),
                (
                    RdbType.ZSET_2,
                    count(distinct)
                    + b"".join(
                        encode_string(member, compress=compress) + rdb_writer.struct.pack("<d", score)
                        for member, score in zip(distinct, points, strict=True)
                    ),
                ),
                (RdbType.ZSET_LISTPACK, one(listpack.encode(scored))),
            ]
        )
    )


limits = st.builds(
    Settings,
    hash_max_listpack_entries=st.sampled_from([0, 3, 512]),
    hash_max_listpack_value=st.sampled_from([0, 5, 64]),
    set_max_intset_entries=st.sampled_from([0, 3, 512]),
    zset_max_listpack_entries=st.sampled_from([0, 3, 128]),
    zset_max_listpack_value=st.sampled_from([0, 5, 64]),
)


def facts(value: Any) -> tuple[bytes, bytes, bytes]:
    return values.type_name(value), values.encoding(value), mix_value(EMPTY_DIGEST, value, expires=False)


@given(sample=bodies(), settings=limits)
def test_a_packed_value_is_the_value(sample: tuple[int, bytes], settings: Settings) -> None:
    """Its facts with and without unpacking, its DUMP, its commands and its place in a file, compressed or not."""
    code, body = sample
    register_collections(settings)
    plainly = read_value(code, Cursor(body))
    value = packed(code, body, settings)
    assert value is not None
    assert facts(value) == facts(value.unpacked()) == facts(plainly)
    assert values.effort(value) == values.effort(plainly)
    commands = [
        [list(map(bytes, words)) for words in aof_rewrite.commands_of(b"k", each, 5)] for each in (value, plainly)
    ]
    assert [sorted(words) for words in commands[0]] == [sorted(words) for words in commands[1]]
    wanted, _pieces = encode_value(plainly)
    for compress_up_to in (0, 4096, NO_LIMIT):
        written, pieces = encode_value(value, compress_up_to=compress_up_to)
        again = b"".join(pieces)
        assert written == wanted
        assert compress_up_to or b"long text " * 3 in again or b"long text " * 3 not in value.unpacked()
        assert facts(read_value(written, Cursor(again))) == facts(plainly)
    register_collections(SETTINGS)


def test_what_is_written_is_what_came() -> None:
    body = encode_string(listpack.encode([b"field", b"value" * 9]), compress=True)
    value = packed(RdbType.HASH_LISTPACK, body)
    assert value is not None
    assert body[:1] == b"\xc3"
    assert value[1:] == body
    assert b"".join(encode_value(value)[1]) == body
    # Where nothing is to be compressed, it is not.
    assert b"".join(encode_value(value, compress_up_to=0)[1]) == stored(listpack.encode([b"field", b"value" * 9]))


def test_what_came_uncompressed_is_compressed_when_it_is_written() -> None:
    blob = listpack.encode([b"field", b"value" * 9])
    value = packed(RdbType.HASH_LISTPACK, stored(blob))
    assert value is not None
    assert b"".join(encode_value(value)[1]) == encode_string(blob, compress=True)
    assert dump(value) == dump(value.unpacked())


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (RdbType.SET, encode_length(MOST_ELEMENTS + 1) + b"".join(stored(b"%d" % n) for n in range(MOST_ELEMENTS + 1))),
        (RdbType.SET, b"\x01" + stored(b"m" * MOST_BYTES)),
        (RdbType.LIST_QUICKLIST_2, b"\x01\x02" + stored(listpack.encode([b"e"] * MOST_BYTES))),
        (RdbType.STREAM_LISTPACKS_2, compact_samples.stream([], 0, 6, 0, 5, 1, 0, 0, 2)),
    ],
)
def test_what_is_not_packed(code: int, body: bytes) -> None:
    assert packed(code, body) is None


def test_the_encoding_stays_that_of_the_load() -> None:
    """In Redis, limits that change are seen by the next write."""
    settings = Settings()
    value = packed(RdbType.HASH_LISTPACK, stored(listpack.encode([b"a", b"1", b"b", b"2"])), settings)
    assert value is not None
    settings.hash_max_listpack_entries = 1
    assert value.encoding() == value.unpacked().encoding() == b"listpack"


def test_duplicates_and_nothing_are_refused_as_ever() -> None:
    with pytest.raises(Exception, match="Duplicate set members"):
        packed(RdbType.SET, b"\x02" + stored(b"a") * 2)
    with pytest.raises(EmptyValue):
        packed(RdbType.LIST_QUICKLIST_2, b"\x01\x02" + stored(listpack.encode([])))


def test_a_load_leaves_small_collections_packed_where_it_is_told_how_to_encode() -> None:
    entry = bytes((RdbType.HASH_LISTPACK,)) + stored(b"k") + stored(listpack.encode([b"a", b"1"]))
    for settings, expected in (
        (SETTINGS, PackedValue),
        (None, type(rdb_values.FACTORIES[ValueKind.HASH]({b"a": b"1"}))),
    ):
        keyspace = Keyspace(1)
        parser = RdbParser(KeyspaceSink(keyspace, lambda *_: None, settings=settings), LoadPolicy())
        parser.feed(rdb(entry))
        parser.feed_end()
        parser.parse()
        assert type(keyspace.databases[0].slots[key_slot(b"k")][b"k"]) is expected
