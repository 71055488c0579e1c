"""The active side of expiry: a bounded sweep over keys whose time has come.

Reads hide (and on a master delete) an expired key at once; this sweep removes those nobody reads. Due keys come from a
heap, soonest first, so a call costs what there is to delete and never a search. Units: Unix ms; µs of budget.
"""

from __future__ import annotations

from cluster.clock import monotonic_us
from cluster.keyspace.database import Keyspace
from cluster.slots.hashing import key_slot

BATCH = 64
"""Keys removed between two looks at the clock."""


def expire_due(keyspace: Keyspace, budget_us: int) -> bool:
    """Delete expired keys of all databases until none is due or the budget is spent; True if some may be left.

    Does nothing on a replica: its master says when a key is gone.
    """
    if keyspace.is_replica:
        return False
    deadline_us = monotonic_us() + budget_us
    for database in keyspace.databases:
        while due := database.take_due(keyspace.now_ms, BATCH):
            for key in due:
                database.expire_now(key, key_slot(key))
            if monotonic_us() > deadline_us:
                return True
    return False
