"""The active side of expiry: a bounded sweep over keys whose time has come.

Reads hide (and on a master delete) an expired key at once; this sweep removes those nobody reads. Due keys come from a
heap, soonest first, so a call costs what there is to delete and never a search. Units: Unix ms; µs of budget.
"""

from __future__ import annotations

import heapq

from cluster.clock import monotonic_us
from cluster.keyspace.database import Keyspace
from cluster.slots.hashing import key_slot

BATCH = 64
"""Keys removed between two looks at the clock."""


def expire_due(keyspace: Keyspace, budget_us: int) -> bool:
    """Delete expired keys of all databases until none is due or the budget is spent; True if some may be left.

    On a replica only what its own clients have given a time: its master says when another key is gone.
    """
    if keyspace.is_replica:
        _expire_own(keyspace)
        return False
    deadline_us = monotonic_us() + budget_us
    for database in keyspace.databases:
        while due := database.take_due(keyspace.now_ms, BATCH):
            for key in due:
                database.expire_now(key, key_slot(key))
            if monotonic_us() > deadline_us:
                return True
    return False


def _expire_own(keyspace: Keyspace) -> None:
    """expireSlaveKeys in expire.c."""
    heap = keyspace.own_expiries
    while heap and heap[0][0] <= keyspace.now_ms:
        at_ms, index, key = heapq.heappop(heap)
        database = keyspace.databases[index]
        if database.expires.get(key) == at_ms:
            database.expire_now(key, key_slot(key))
