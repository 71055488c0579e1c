"""Values that stay packed: what is told of them without unpacking, and when they are unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster.keyspace import values
from cluster.keyspace.database import Database, Keyspace
from cluster.keyspace.digest import dataset_digest
from cluster.keyspace.packed import PackedValue
from cluster.keyspace.strings import is_string
from cluster.persistence import listpack, rdb_values
from cluster.persistence.packing import pack
from cluster.persistence.rdb_cursor import Cursor
from cluster.persistence.rdb_format import RdbType
from cluster.settings import Settings
from cluster.slots.hashing import key_slot
from tests.persistence.compact_samples import stored
from tests.support.real_values import registered

SETTINGS = Settings()
BODY = stored(listpack.encode([b"name", b"value", b"n", b"5"]))


@pytest.fixture(autouse=True, scope="module")
def real_values() -> Iterator[None]:
    with registered(SETTINGS):
        yield


def packed_hash() -> PackedValue:
    kind, plain = rdb_values.read_plain(RdbType.HASH_LISTPACK, Cursor(BODY))
    packed = pack(SETTINGS, RdbType.HASH_LISTPACK, kind, plain, BODY)
    assert packed is not None
    return packed


def database_with(key: bytes, value: Any) -> Database:
    database = Keyspace(1).databases[0]
    database.table_to_fill(key_slot(key))[key] = value
    return database


@pytest.mark.parametrize("method", ["read", "peek", "stored"])
def test_who_asks_for_the_value_gets_the_value_and_it_stays_unpacked(method: str) -> None:
    database = database_with(b"k", packed_hash())
    slot = key_slot(b"k")
    value = getattr(database, method)(b"k", slot)
    assert dict(value.fields.items()) == {b"name": b"value", b"n": b"5"}
    assert database.slots[slot][b"k"] is value


def test_who_looks_at_the_key_leaves_the_value_as_it_is() -> None:
    packed = packed_hash()
    database = database_with(b"k", packed)
    slot = key_slot(b"k")
    assert database.glance(b"k", slot) is packed
    assert database.exists(b"k", slot)
    assert database.holds(b"k", slot)
    assert database.slots[slot][b"k"] is packed


def test_a_packed_value_is_no_string_and_tells_of_itself_what_the_value_would() -> None:
    packed = packed_hash()
    value = packed.unpacked()
    assert not is_string(packed)
    assert values.type_name(packed) == b"hash" == values.type_name(value)
    assert values.encoding(packed) == b"listpack" == values.encoding(value)
    assert values.effort(packed) == values.effort(value) == 1
    assert values.reference_count(packed) == 1
    assert 0 < values.memory_bytes(packed, 5) < values.memory_bytes(value, 5)
    assert values.copy(packed) is packed
    assert packed.unpacked() is not value


def test_the_digest_is_that_of_the_value() -> None:
    packed = packed_hash()
    assert (
        dataset_digest(database_with(b"k", packed).keyspace)
        == dataset_digest(database_with(b"k", packed.unpacked()).keyspace)
        != bytes(20)
    )


def test_an_expired_key_goes_without_being_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    database = database_with(b"k", packed_hash())
    database.set_expiry(b"k", 5)
    database.keyspace.now_ms = 10
    monkeypatch.setattr(PackedValue, "unpacked", lambda packed: pytest.fail("unpacked"))
    assert database.read(b"k", key_slot(b"k")) is None
    assert not len(database)
