"""When and how often keys are used: what LRU and LFU eviction, OBJECT IDLETIME and OBJECT FREQ go by.

Role        Without an eviction policy a database notes the time of the last use per *slot*, which costs nothing worth
            mentioning (a store into a list) and is right for a key that is alone in its slot, else a lower bound of its
            idle time. Under a policy that needs more, a database is given a table of all its keys:
            :class:`RecencyTable` of the times of their last use, :class:`FrequencyTable` of Redis's 8-bit logarithmic
            counters, each with the minute in which it last decayed.
Invariants  Once :class:`Learner` has been through a database, its table has exactly the keys of the database.
Sampling    The tables are ScanTables, so that a random key, each with the same chance, costs O(1) also where one slot
            holds a million keys. About 45 bytes per key; the times are integers that keys share.
Spec        evict.c (LFU*), object.c (objectSetLRUOrLFU).      Units  Unix ms; counters; minutes modulo 2**16.
"""

from __future__ import annotations

import enum
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, Final

from cluster.clock import monotonic_us
from cluster.keyspace.database import SLOT_COUNT, Database, Keyspace
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


class UsageTable(ABC):
    """What is noted of the keys of one database; its Database tells what happens to them."""

    __slots__ = ("_keyspace", "entries")
    kind: ClassVar[Usage]

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self.entries: ScanTable[int] = ScanTable()
        """Per key, in the unit of the kind."""

    @abstractmethod
    def read(self, key: bytes) -> None:
        """A command read the key."""

    @abstractmethod
    def peeked(self, key: bytes) -> None:
        """A command looked at the key in order to change it."""

    @abstractmethod
    def stored(self, key: bytes) -> None:
        """The key gets a value, maybe its first."""

    @abstractmethod
    def learn(self, key: bytes, idle_s: int | None, frequency: int | None) -> None:
        """Take over what RESTORE or a snapshot tells of the use of a key; both None: there is a key."""

    def last_used_ms(self, key: bytes) -> int | None:
        """When the key was last used (Unix ms), or None: ask its slot."""
        return None

    def changed(self, key: bytes) -> None:
        """A value was changed in place: perhaps it was stored without put, by a command that grows it."""
        if key not in self.entries:
            self.learn(key, None, None)

    def removed(self, key: bytes) -> None:
        """The key is gone."""
        self.entries.pop(key, None)

    def clear(self) -> None:
        """All keys are gone."""
        self.entries = ScanTable()


class RecencyTable(UsageTable):
    """Notes when each key was last used (Unix ms)."""

    __slots__ = ()
    kind = Usage.RECENCY

    def read(self, key: bytes) -> None:
        self.entries[key] = self._keyspace.access_ms

    def peeked(self, key: bytes) -> None:
        self.entries[key] = self._keyspace.access_ms

    def stored(self, key: bytes) -> None:
        self.entries[key] = self._keyspace.access_ms

    def learn(self, key: bytes, idle_s: int | None, frequency: int | None) -> None:
        if idle_s is not None:
            self.entries[key] = self._keyspace.access_ms - idle_s * 1000
        elif key not in self.entries:
            self.entries[key] = self._keyspace.access_ms

    def last_used_ms(self, key: bytes) -> int | None:
        return self.entries.get(key)


class FrequencyTable(UsageTable):
    """Counts how often each key is used: the minute of the last decay << 8 | counter."""

    __slots__ = ()
    kind = Usage.FREQUENCY

    def read(self, key: bytes) -> None:
        entries, rules = self.entries, self._keyspace.frequency
        entry = entries.get(key)
        entries[key] = rules.pack(LFU_INITIAL) if entry is None else rules.used(entry)

    def peeked(self, key: bytes) -> None:
        self.read(key)
        self._keyspace.peeked_key = key

    def stored(self, key: bytes) -> None:
        # A command that peeked the key before (INCR, APPEND) has counted its use already.
        if key is not self._keyspace.peeked_key or key not in self.entries:
            self.read(key)
        self._keyspace.peeked_key = None

    def learn(self, key: bytes, idle_s: int | None, frequency: int | None) -> None:
        if frequency is not None:
            self.entries[key] = self._keyspace.frequency.pack(frequency)
        elif key not in self.entries:
            self.entries[key] = self._keyspace.frequency.pack(LFU_INITIAL)

    def counter(self, key: bytes) -> int:
        """The counter of a key as of now (OBJECT FREQ)."""
        entry = self.entries.get(key)
        return LFU_INITIAL if entry is None else self._keyspace.frequency.counter(entry)


_TABLES: Final[dict[Usage, type[UsageTable]]] = {
    Usage.RECENCY: RecencyTable,
    Usage.FREQUENCY: FrequencyTable,
}


def usage_of(database: Database) -> Usage:
    """What a database notes at present."""
    return Usage.SLOTS if database.usage is None else database.usage.kind


def frequency_of(database: Database, key: bytes) -> int | None:
    """The logarithmic counter of a key's uses; None unless such are kept."""
    table = database.usage
    return table.counter(key) if isinstance(table, FrequencyTable) else None


def unnoticed(database: Database, keys: Iterable[bytes]) -> Callable[[], None]:
    """Remember how these keys stand; the answer puts that back, as if they had not been used meanwhile."""
    slots = {slot: database.slot_used_ms[slot] for slot in map(key_slot, keys)}
    table = None if database.usage is None else database.usage.entries
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
        return lambda database, key: (None, frequency_of(database, key))
    return None


def _idle_s(database: Database, key: bytes) -> int:
    now_ms: int = database.keyspace.access_ms
    return max(now_ms - database.last_used_ms(key, key_slot(key)), 0) // 1000


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
            table = None if usage is Usage.SLOTS else _TABLES[usage](self._keyspace)
            database.attend(table, announces_new=database.announces_new)
            if usage is not Usage.SLOTS and len(database):
                self._waiting.append((database, 0))

    def begin_again(self) -> None:
        """The keys were replaced past the databases' methods: a replica has taken over another keyspace."""
        self._waiting = [
            (database, 0) for database in self._keyspace.databases if database.usage is not None and len(database)
        ]

    def __bool__(self) -> bool:
        """True while some table is not complete."""
        return bool(self._waiting)

    def advance(self, budget_us: int) -> None:
        """Go on, for about ``budget_us`` (a slot more)."""
        deadline_us = monotonic_us() + budget_us
        while self._waiting:
            database, first = self._waiting[-1]
            step = self._keyspace.slots_per_table
            for slot in range(first, SLOT_COUNT, step):
                for key in database.slots[slot]:
                    database.learn(key, None, None)
                if database.slots[slot] and monotonic_us() > deadline_us:
                    self._waiting[-1] = (database, slot + step)
                    return
            self._waiting.pop()
