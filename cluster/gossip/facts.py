"""What the cluster engine asks about the node it runs in. The node shell implements it; the simulator fakes it.

All answers are cheap, synchronous and about this instant. None of them changes anything.
"""

from __future__ import annotations

from typing import Protocol


class NodeFacts(Protocol):
    """The rest of the node as the cluster engine sees it."""

    def replication_offset(self) -> int:
        """Bytes of the replication stream: a master's as produced, a replica's as processed (0 before any)."""
        ...

    def is_replicating(self) -> bool:
        """Whether a master's address is set (``masterhost``), be the link to it up or not."""
        ...

    def master_link_age_ms(self, now_ms: int) -> int:
        """How old a replica's data may be: the time since its master last said anything while the link is up, the time
        since the link went down otherwise, ``FOREVER_MS`` if there never was one."""
        ...

    def is_in_sync(self) -> bool:
        """Whether the link to the present master is up, its first synchronisation done. Asked of replicas only."""
        ...

    def keys_in_slot(self, slot: int) -> int:
        """How many keys database 0 holds in ``slot``."""
        ...

    def is_database_empty(self) -> bool:
        """Whether database 0 holds no key."""
        ...

    def populated_slots(self) -> list[int]:
        """The slots of database 0 that hold a key, ascending. Asked once, after loading."""
        ...
