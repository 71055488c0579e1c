"""The active side of expiry: a bounded sweep over keys whose time has come.

Reads hide (and on a master delete) an expired key at once; this sweep removes those nobody reads. Due keys come from a
heap, soonest first, so a call costs what there is to delete and never a search.

A large value that is to be gone when its key is (lazyfree-lazy-expire no) is buried first, and its key stays, with
nothing in it, until the next call: the caller frees what was buried in between, in as many steps as it likes. Nobody
sees the difference, because an expired key is shown to nobody. Units: Unix ms; µs of budget.
"""

from __future__ import annotations

import enum
import heapq

from cluster.clock import monotonic_us
from cluster.keyspace.database import Database, Keyspace
from cluster.keyspace.reclaim import LARGE
from cluster.keyspace.values import effort
from cluster.slots.hashing import key_slot

BATCH = 64
"""Keys removed between two looks at the clock."""


class Left(enum.Enum):
    """What a sweep has left to do."""

    NOTHING = enum.auto()
    KEYS = enum.auto()
    """Some may still be due."""
    BURIED = enum.auto()
    """Large values are to be freed; the next sweep deletes their keys."""


def expire_due(keyspace: Keyspace, budget_us: int) -> Left:
    """Delete expired keys of all databases until none is due, the budget is spent or large values have to go first.

    On a replica only what its own clients have given a time: its master says when another key is gone.
    """
    if keyspace.is_replica:
        _expire_own(keyspace)
        return Left.NOTHING
    deadline_us = monotonic_us() + budget_us
    is_lazy = keyspace.deletion_word == b"UNLINK"
    for database in keyspace.databases:
        while due := database.take_due(keyspace.now_ms, BATCH):
            has_buried = False
            for key in due:
                slot = key_slot(key)
                if not is_lazy and effort(database.slots[slot][key]) > LARGE:
                    _bury(database, key, slot)
                    has_buried = True
                else:
                    database.expire_now(key, slot)
            if has_buried:
                return Left.BURIED
            if monotonic_us() > deadline_us:
                return Left.KEYS
    return Left.NOTHING


def _bury(database: Database, key: bytes, slot: int) -> None:
    """Leave the key with nothing in it, and due."""
    database.slots[slot][key] = b""
    database.set_expiry(key, database.expires[key])


def _expire_own(keyspace: Keyspace) -> None:
    """expireSlaveKeys in expire.c."""
    heap = keyspace.own_expiries
    while heap and heap[0][0] <= keyspace.now_ms:
        at_ms, index, key = heapq.heappop(heap)
        database = keyspace.databases[index]
        if database.expires.get(key) == at_ms:
            database.expire_now(key, key_slot(key))
