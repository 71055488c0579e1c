"""The keyspace against a dumb model (one dict), time and expiry included; and what observers and replicas are told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster.keyspace.database import EMPTY, Database, Keyspace
from cluster.keyspace.expiry import expire_due
from cluster.slots.hashing import key_slot

_KEYS = st.sampled_from([b"a", b"b", b"{a}1", b"{a}2", b"", b"\x00"])
_TIMES = st.integers(1, 60)


class DatabaseAgainstModel(RuleBasedStateMachine):
    """``model`` maps each key that can be seen to its value and its time (None: for ever)."""

    @initialize(is_replica=st.booleans(), slots_per_table=st.sampled_from([1, 32, 16384]))
    def begin(self, is_replica: bool, slots_per_table: int) -> None:
        self.keyspace = Keyspace(2, slots_per_table=slots_per_table)
        self.keyspace.is_replica = is_replica
        self.keyspace.is_writable = False
        self.keyspace.followed = True
        self.keyspace.now_ms = 1
        self.database = self.keyspace.databases[0]
        self.model: dict[bytes, tuple[int, int | None]] = {}
        self.changed: list[bytes] = []
        self.keyspace.observe(lambda _database, key: self.changed.append(key))

    @rule(key=_KEYS, value=st.integers(0, 9), keep_ttl=st.booleans())
    def put(self, key: bytes, value: int, keep_ttl: bool) -> None:
        slot = key_slot(key)
        self.database.peek(key, slot)
        if self.database.is_expired(key):
            return  # A replica does not write over what only its master may remove.
        before = self.model.get(key)
        self.database.put(key, slot, value, keep_ttl=keep_ttl)
        self.model[key] = (value, before[1] if before is not None and keep_ttl else None)
        assert self.changed[-1] == key

    @rule(keys=st.lists(st.sampled_from([b"{a}1", b"{a}2", b"{a}3"]), max_size=4))
    def put_many(self, keys: list[bytes]) -> None:
        slot = key_slot(b"{a}")
        if any(self.database.is_expired(key) for key in keys):
            return
        dirty = self.keyspace.dirty
        self.database.put_many(keys, list(range(len(keys))), slot)
        assert self.keyspace.dirty == dirty + len(keys)
        self.model.update((key, (index, None)) for index, key in enumerate(keys))

    @rule(key=_KEYS)
    def delete(self, key: bytes) -> None:
        slot = key_slot(key)
        found = self.database.peek(key, slot) is not None
        assert found == (key in self.model)
        if found:
            assert self.database.delete(key, slot)
            del self.model[key]

    @rule(key=_KEYS, after_ms=_TIMES)
    def set_expiry(self, key: bytes, after_ms: int) -> None:
        if key in self.model:
            at_ms = self.keyspace.now_ms + after_ms
            self.database.set_expiry(key, at_ms)
            self.model[key] = (self.model[key][0], at_ms)

    @rule(key=_KEYS)
    def persist(self, key: bytes) -> None:
        if key in self.model:
            assert self.database.persist(key) == (self.model[key][1] is not None)
            self.model[key] = (self.model[key][0], None)

    @rule(elapsed_ms=st.integers(0, 40))
    def let_time_pass(self, elapsed_ms: int) -> None:
        self.keyspace.now_ms += elapsed_ms
        now_ms = self.keyspace.now_ms
        self.model = {key: entry for key, entry in self.model.items() if entry[1] is None or entry[1] > now_ms}

    @rule(is_paused=st.booleans())
    def pause(self, is_paused: bool) -> None:
        self.keyspace.writes_paused = is_paused

    @rule()
    def sweep(self) -> None:
        if not self.keyspace.writes_paused:  # Cron sees to that.
            expire_due(self.keyspace, 1_000_000)
            if not self.keyspace.is_replica:
                assert {key for key, _value in self.database.items()} == set(self.model)

    @rule()
    def clear(self) -> None:
        assert self.database.clear() >= len(self.model)
        self.model.clear()

    @rule()
    def swap(self) -> None:
        other = self.keyspace.databases[1]
        self.database.swap_contents(other)
        assert len(self.database) == 0
        self.database.swap_contents(other)

    @rule(key=_KEYS)
    def read(self, key: bytes) -> None:
        hits, misses = self.keyspace.hits, self.keyspace.misses
        value = self.database.read(key, key_slot(key))
        assert value == (self.model[key][0] if key in self.model else None)
        assert (self.keyspace.hits - hits, self.keyspace.misses - misses) == ((1, 0) if value is not None else (0, 1))

    @rule()
    def random_key(self) -> None:
        key = self.database.random_key()
        if self.model and not self.keyspace.is_replica and not self.keyspace.writes_paused:
            assert key in self.model
        if key is None:
            assert not self.model

    @invariant()
    def what_is_visible_is_the_model(self) -> None:
        seen = {key: value for key, value in self.database.items() if not self.database.is_expired(key)}
        assert seen == {key: value for key, (value, _at_ms) in self.model.items()}
        for key, (_value, at_ms) in self.model.items():
            assert self.database.expire_at(key) == at_ms

    @invariant()
    def keys_are_in_their_slots_and_expiries_have_keys(self) -> None:
        stored = 0
        for slot in {key_slot(key) for key in (b"a", b"b", b"", b"\x00")}:
            for key in self.database.keys_in_slot(slot):
                assert key_slot(key) == slot
                stored += 1
            assert self.database.slots[slot] is EMPTY or self.database.slots[slot]
        assert stored == len(self.database)
        assert not EMPTY
        assert self.database.expires.keys() <= {key for key, _value in self.database.items()}

    @invariant()
    def replicas_originate_nothing(self) -> None:
        if self.keyspace.is_replica:
            assert not self.keyspace.effects


TestDatabaseAgainstModel = DatabaseAgainstModel.TestCase
TestDatabaseAgainstModel.settings = settings(max_examples=30, stateful_step_count=40)  # Each step looks at 16384 slots.


@pytest.fixture
def database() -> Iterator[Database]:
    keyspace = Keyspace(1)
    keyspace.now_ms = 1000
    yield keyspace.databases[0]


def _store_expired(database: Database, key: bytes) -> int:
    slot = key_slot(key)
    database.put(key, slot, b"v")
    database.set_expiry(key, 900)
    return slot


def test_an_expired_key_goes_at_the_first_look_and_replicas_hear_of_it(database: Database) -> None:
    database.keyspace.followed = True
    slot = _store_expired(database, b"k")
    assert database.read(b"k", slot) is None
    assert len(database) == 0
    assert database.keyspace.expired_keys == 1
    assert database.keyspace.effects == [(0, [b"DEL", b"k"])]


def test_overwriting_an_expired_key_is_its_end_too(database: Database) -> None:
    """Redis looks a key up before it overwrites it; the hot path does not."""
    database.keyspace.followed = True
    database.put(b"k", _store_expired(database, b"k"), b"new")
    assert database.keyspace.expired_keys == 1
    assert database.keyspace.effects == [(0, [b"DEL", b"k"])]
    assert database.expire_at(b"k") is None


def test_while_writes_are_paused_an_expired_key_is_hidden_and_stays(database: Database) -> None:
    slot = _store_expired(database, b"k")
    database.keyspace.writes_paused = True
    assert database.peek(b"k", slot) is None and database.read(b"k", slot) is None
    assert len(database) == 1


def test_a_replica_hides_it_and_shows_it_to_its_master(database: Database) -> None:
    slot = _store_expired(database, b"k")
    database.keyspace.is_replica = True
    database.keyspace.is_writable = False
    assert database.read(b"k", slot) is None and database.peek(b"k", slot) is None
    database.keyspace.obeying_master = True
    assert database.read(b"k", slot) == b"v"
    assert len(database) == 1


def test_a_writable_replica_deletes_what_a_write_meets(database: Database) -> None:
    slot = _store_expired(database, b"k")
    database.keyspace.is_replica = True
    assert database.read(b"k", slot) is None and len(database) == 1
    assert database.peek(b"k", slot) is None and len(database) == 0


def test_setting_a_time_again_and_again_does_not_grow_the_heap(database: Database) -> None:
    database.put(b"k", key_slot(b"k"), b"v")
    for at_ms in range(2000, 12000):
        database.set_expiry(b"k", at_ms)
    assert len(database._expiry_heap) < 200
    assert database.take_due(12000, 10) == [b"k"]


def test_a_random_key_is_found_behind_any_number_of_expired_ones(database: Database) -> None:
    for number in range(300):
        _store_expired(database, b"%d" % number)
    database.put(b"alive", key_slot(b"alive"), b"v")
    assert database.random_key() == b"alive"


def test_where_only_expired_keys_are_left_a_replica_returns_one_of_them(database: Database) -> None:
    """As Redis does, rather than looking for ever."""
    _store_expired(database, b"k")
    database.keyspace.is_replica = True
    assert database.random_key() == b"k"


def test_neighbouring_slots_may_share_a_dict() -> None:
    keyspace = Keyspace(1, slots_per_table=32)
    (database,) = keyspace.databases
    keys = [b"key:%d" % number for number in range(5000)]
    for key in keys:
        database.put(key, key_slot(key), key)

    assert len(database.tables()) == 512
    assert len(database) == 5000
    assert sorted(key for key, _value in database.items()) == sorted(keys)
    slot = key_slot(keys[0])
    assert sorted(database.keys_in_slot(slot)) == sorted(key for key in keys if key_slot(key) == slot)
    for key in keys:
        assert database.read(key, key_slot(key)) == key
        assert database.delete(key, key_slot(key))
    assert all(table is EMPTY for table in database.slots)
