"""Which key has to go when there is no room: the choice that a maxmemory-policy makes.

Role        :class:`Evictor` names one victim after another. LRU and LFU are approximated as in Redis: a few random keys
            of every database are compared with a pool of the best candidates seen so far, the best of all goes. Which
            key expires soonest is known exactly here (the databases keep a heap), so volatile-ttl does not sample.
Invariants  The pool is sorted, the best candidate last, and holds at most POOL_SIZE. It may name keys that are gone:
            whoever takes one out looks. Nothing is deleted here.
Scores      Higher is a better victim: for LRU minus the time of the last use, for LFU minus the counter.
Spec        evict.c (evictionPoolPopulate, performEvictions).
"""

from __future__ import annotations

import enum
from bisect import insort
from collections.abc import Iterator
from typing import Final

from cluster.keyspace.access import Usage, frequency_of
from cluster.keyspace.database import Database, Keyspace
from cluster.slots.hashing import key_slot

POOL_SIZE: Final = 16  # EVPOOL_SIZE

Victim = tuple[Database, bytes]


class Policy(enum.Enum):
    """maxmemory-policy."""

    VOLATILE_LRU = "volatile-lru"
    VOLATILE_LFU = "volatile-lfu"
    VOLATILE_RANDOM = "volatile-random"
    VOLATILE_TTL = "volatile-ttl"
    ALLKEYS_LRU = "allkeys-lru"
    ALLKEYS_LFU = "allkeys-lfu"
    ALLKEYS_RANDOM = "allkeys-random"
    NOEVICTION = "noeviction"

    @property
    def is_lru(self) -> bool:
        return self in (Policy.VOLATILE_LRU, Policy.ALLKEYS_LRU)

    @property
    def is_lfu(self) -> bool:
        return self in (Policy.VOLATILE_LFU, Policy.ALLKEYS_LFU)

    @property
    def takes_all_keys(self) -> bool:
        """Not only those that expire."""
        return self in (Policy.ALLKEYS_LRU, Policy.ALLKEYS_LFU, Policy.ALLKEYS_RANDOM)

    @property
    def usage(self) -> Usage:
        """What the databases have to note for it. For allkeys-random the table serves to draw from."""
        if self.is_lfu:
            return Usage.FREQUENCY
        if self.is_lru or self is Policy.ALLKEYS_RANDOM:
            return Usage.RECENCY
        return Usage.SLOTS


class Evictor:
    """Chooses victims in one keyspace."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._pool: list[tuple[int, int, bytes]] = []
        """(score, database index, key), ascending."""
        self._next_database = 0

    def forget(self) -> None:
        """The policy changed: scores of another kind are not comparable."""
        self._pool.clear()

    def choose(self, policy: Policy, samples: int) -> Victim | None:
        """The next victim, or None when the policy allows no key to go."""
        match policy:
            case Policy.NOEVICTION:
                return None
            case Policy.ALLKEYS_RANDOM | Policy.VOLATILE_RANDOM:
                return self._choose_random(policy)
            case Policy.VOLATILE_TTL:
                return self._choose_soonest()
            case _:
                return self._choose_from_pool(policy, samples)

    def _choose_random(self, policy: Policy) -> Victim | None:
        """A random key of the next database that has one."""
        databases = self._keyspace.databases
        for _ in databases:
            self._next_database = (self._next_database + 1) % len(databases)
            database = databases[self._next_database]
            key = self._draw(database, policy)
            if key is not None:
                return database, key
        return None

    def _draw(self, database: Database, policy: Policy) -> bytes | None:
        """A random key that the policy may take."""
        if not policy.takes_all_keys:
            return database.random_expiring_key()
        entries = database.usage.entries if database.usage is not None else None
        while entries:
            key, _entry = entries.random_item(self._keyspace.rng)
            if key in database.slots[key_slot(key)]:
                return key
            del entries[key]
        return None

    def _choose_soonest(self) -> Victim | None:
        """The key that expires first of all."""
        soonest: tuple[int, Victim] | None = None
        for database in self._keyspace.databases:
            key = database.soonest_expiring_key()
            if key is not None:
                at_ms = database.expires[key]
                if soonest is None or at_ms < soonest[0]:
                    soonest = at_ms, (database, key)
        return None if soonest is None else soonest[1]

    def _choose_from_pool(self, policy: Policy, samples: int) -> Victim | None:
        pool, databases = self._pool, self._keyspace.databases
        while True:
            found = False
            for database in databases:
                for candidate in self._sample(database, policy, samples):
                    found = True
                    self._offer(candidate)
            if not found:
                return None
            while pool:
                score, index, key = pool.pop()
                database = databases[index]
                # One that was used since it was put there is not so good a victim any more.
                if self._is_there(database, key, policy) and _score(database, key) >= score:
                    return database, key

    def _sample(self, database: Database, policy: Policy, samples: int) -> Iterator[tuple[int, int, bytes]]:
        table = database.usage
        if not (table is not None and table.entries if policy.takes_all_keys else database.expires):
            return
        for _ in range(samples):
            key = self._draw(database, policy)
            if key is None:
                return
            yield _score(database, key), database.index, key

    def _offer(self, candidate: tuple[int, int, bytes]) -> None:
        """Into the pool, if it is not full or the candidate better than its worst."""
        pool = self._pool
        if len(pool) >= POOL_SIZE:
            if candidate <= pool[0]:
                return
            del pool[0]
        if candidate not in pool:
            insort(pool, candidate)

    @staticmethod
    def _is_there(database: Database, key: bytes, policy: Policy) -> bool:
        return key in (database.slots[key_slot(key)] if policy.takes_all_keys else database.expires)


def _score(database: Database, key: bytes) -> int:
    """How good a victim the key is."""
    counter = frequency_of(database, key)
    if counter is not None:
        return -counter
    return -database.last_used_ms(key, key_slot(key))
