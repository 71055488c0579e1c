"""When and how often keys are used: what LRU and LFU eviction, OBJECT IDLETIME and OBJECT FREQ go by.

Role        Without an eviction policy a database notes the time of the last use per *slot*, which costs nothing worth
            mentioning (a store into a list) and is right for a key that is alone in its slot, else a lower bound of its
            idle time. Under a policy that needs more, a database becomes one of the two classes here, which keep a
            table of all its keys: :class:`RecencyDatabase` the time of the last use, :class:`FrequencyDatabase` Redis's
            8-bit logarithmic counter and the minute in which it last decayed. Changing ``__class__`` costs the other
            policies not even a comparison.
Invariants  Once :class:`Learner` has been through a database, its table has exactly the keys of the database.
Sampling    The tables are ScanTables, so that a random key, each with the same chance, costs O(1) also where one slot
            holds a million keys. About 45 bytes per key; the times are integers that keys share.
Spec        evict.c (LFU*), object.c (objectSetLRUOrLFU).      Units  Unix ms; counters; minutes modulo 2**16.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Iterable
from typing import Final

from cluster.clock import monotonic_us
from cluster.keyspace.announcing import become, plain_class
from cluster.keyspace.database import SLOT_COUNT, Database, Keyspace, Value
from cluster.keyspace.scan_table import ScanTable
from cluster.slots.hashing import key_slot

LFU_INITIAL: Final = 5  # LFU_INIT_VAL
LFU_MAX: Final = 255
_MINUTES: Final = 1 << 16


class Usage(enum.Enum):
    """What a database notes of the use of its keys."""

    SLOTS = "slots"
    RECENCY = "recency"
    FREQUENCY = "frequency"


class FrequencyRules:
    """lfu-log-factor, lfu-decay-time, and the present minute."""

    def __init__(self, rng: random.Random) -> None:
        self.log_factor = 10
        self.decay_minutes = 1
        self.minute = 0
        self._random = rng.random

    def set_time(self, now_ms: int) -> None:
        """Tell what time it is (Unix ms)."""
        self.minute = now_ms // 60_000 % _MINUTES

    def pack(self, counter: int) -> int:
        """A table's entry for a counter that is up to date now."""
        return self.minute << 8 | counter

    def counter(self, entry: int) -> int:
        """The counter of an entry as of now: one less for each decay period that has passed."""
        counter = entry & 255
        if not self.decay_minutes:
            return counter
        elapsed = (self.minute - (entry >> 8)) % _MINUTES
        return max(counter - elapsed // self.decay_minutes, 0)

    def used(self, entry: int) -> int:
        """The entry after one more use: the higher the counter, the less likely it grows."""
        counter = self.counter(entry)
        if counter < LFU_MAX and self._random() * (max(counter - LFU_INITIAL, 0) * self.log_factor + 1) < 1:
            counter += 1
        return self.minute << 8 | counter


class TrackedDatabase(Database):
    """What both kinds have in common: the table follows the keys."""

    __slots__ = ()

    def remove(self, key: bytes, slot: int) -> bool:
        self.access.pop(key, None)
        return Database.remove(self, key, slot)

    def clear(self, *, lazily: bool = False) -> int:
        self.access = ScanTable()
        return Database.clear(self, lazily=lazily)

    def put_many(self, keys: list[bytes], values: list[Value], slot: int) -> None:
        for key, value in zip(keys, values, strict=True):
            self.put(key, slot, value)

    def changed(self, key: bytes, count: int = 1) -> None:
        if key not in self.access:
            self.learn(key, None, None)  # Stored without put, by a command that grows it in place.
        Database.changed(self, key, count)


class RecencyDatabase(TrackedDatabase):
    """Notes when each key was last used. ``access``: key → Unix ms."""

    __slots__ = ()

    def read(self, key: bytes, slot: int) -> Value | None:
        value = Database.read(self, key, slot)
        if value is not None:
            self.access[key] = self.keyspace.access_ms
        return value

    def peek(self, key: bytes, slot: int) -> Value | None:
        value = Database.peek(self, key, slot)
        if value is not None:
            self.access[key] = self.keyspace.access_ms
        return value

    def put(self, key: bytes, slot: int, value: Value, *, keep_ttl: bool = False) -> None:
        self.access[key] = self.keyspace.access_ms
        Database.put(self, key, slot, value, keep_ttl=keep_ttl)

    def learn(self, key: bytes, idle_s: int | None, frequency: int | None) -> None:
        if idle_s is not None:
            self.access[key] = self.keyspace.access_ms - idle_s * 1000
        elif key not in self.access:
            self.access[key] = self.keyspace.access_ms

    def last_used_ms(self, key: bytes, slot: int) -> int:
        at_ms = self.access.get(key)
        return Database.last_used_ms(self, key, slot) if at_ms is None else at_ms


class FrequencyDatabase(TrackedDatabase):
    """Counts how often each key is used. ``access``: key → the minute of the last decay << 8 | counter."""

    __slots__ = ()

    def _use(self, key: bytes) -> None:
        access, rules = self.access, self.keyspace.frequency
        entry = access.get(key)
        access[key] = rules.pack(LFU_INITIAL) if entry is None else rules.used(entry)

    def read(self, key: bytes, slot: int) -> Value | None:
        value = Database.read(self, key, slot)
        if value is not None:
            self._use(key)
        return value

    def peek(self, key: bytes, slot: int) -> Value | None:
        value = Database.peek(self, key, slot)
        if value is not None:
            self._use(key)
            self.keyspace.peeked_key = key
        return value

    def put(self, key: bytes, slot: int, value: Value, *, keep_ttl: bool = False) -> None:
        # A command that peeked the key before (INCR, APPEND) has counted its use already.
        if key is not self.keyspace.peeked_key or key not in self.access:
            self._use(key)
        self.keyspace.peeked_key = None
        Database.put(self, key, slot, value, keep_ttl=keep_ttl)

    def learn(self, key: bytes, idle_s: int | None, frequency: int | None) -> None:
        if frequency is not None:
            self.access[key] = self.keyspace.frequency.pack(frequency)
        elif key not in self.access:
            self.access[key] = self.keyspace.frequency.pack(LFU_INITIAL)

    def counter(self, key: bytes) -> int:
        """The counter of a key as of now (OBJECT FREQ)."""
        entry = self.access.get(key)
        return LFU_INITIAL if entry is None else self.keyspace.frequency.counter(entry)


_CLASSES: Final[dict[Usage, type[Database]]] = {
    Usage.SLOTS: Database,
    Usage.RECENCY: RecencyDatabase,
    Usage.FREQUENCY: FrequencyDatabase,
}


def usage_of(database: Database) -> Usage:
    """What a database notes at present."""
    plain = plain_class(database)
    return next(usage for usage, kind in _CLASSES.items() if kind is plain)


def unnoticed(database: Database, keys: Iterable[bytes]) -> Callable[[], None]:
    """Remember how these keys stand; the answer puts that back, as if they had not been used meanwhile."""
    slots = {slot: database.slot_used_ms[slot] for slot in map(key_slot, keys)}
    table = None if usage_of(database) is Usage.SLOTS else database.access
    entries = {} if table is None else {key: table[key] for key in keys if key in table}

    def put_back() -> None:
        for slot, used_ms in slots.items():
            database.slot_used_ms[slot] = used_ms
        if table is not None:
            table.update({key: entry for key, entry in entries.items() if key in table})

    return put_back


def take_over(database: Database, key: bytes, idle_s: int | None, frequency: int | None) -> None:
    """A key came out of a file, with what that tells of its use."""
    database.learn(key, idle_s, frequency)


def saved_usage(policy: str) -> Callable[[Database, bytes], tuple[int | None, int | None]] | None:
    """What a file is told of a key's use, (idle seconds, counter), under a maxmemory-policy; None: nothing."""
    if policy.endswith("lru"):
        return lambda database, key: (_idle_s(database, key), None)
    if policy.endswith("lfu"):
        return lambda database, key: (None, database.counter(key) if isinstance(database, FrequencyDatabase) else None)
    return None


def _idle_s(database: Database, key: bytes) -> int:
    return max(database.keyspace.access_ms - database.last_used_ms(key, key_slot(key)), 0) // 1000


class Learner:
    """Fills the tables with the keys that were there before: a few slots at a time."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._waiting: list[tuple[Database, int]] = []

    def switch(self, usage: Usage) -> None:
        """Have every database note ``usage`` from now on; what was noted before in another way is forgotten."""
        self._waiting = []
        for database in self._keyspace.databases:
            if usage_of(database) is usage:
                continue
            database.access = ScanTable()
            become(database, _CLASSES[usage])
            if usage is not Usage.SLOTS and len(database):
                self._waiting.append((database, 0))

    def begin_again(self) -> None:
        """The keys were replaced past the databases' methods: a replica has taken over another keyspace."""
        self._waiting = [
            (database, 0)
            for database in self._keyspace.databases
            if usage_of(database) is not Usage.SLOTS and len(database)
        ]

    def __bool__(self) -> bool:
        """True while some table is not complete."""
        return bool(self._waiting)

    def advance(self, budget_us: int) -> None:
        """Go on, for about ``budget_us`` (a slot more)."""
        deadline_us = monotonic_us() + budget_us
        while self._waiting:
            database, first = self._waiting[-1]
            for slot in range(first, SLOT_COUNT):
                for key in database.slots[slot]:
                    database.learn(key, None, None)
                if database.slots[slot] and monotonic_us() > deadline_us:
                    self._waiting[-1] = (database, slot + 1)
                    return
            self._waiting.pop()
