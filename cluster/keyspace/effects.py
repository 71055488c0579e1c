"""Effects that not everybody is told: two marks beside an ordinary command (``list[bytes]``) in a unit of effects.

They are classes of their own because hardly anything ever is one: nobody else has to look for a mark.
"""

from __future__ import annotations


class ReplicasOnly(list[bytes]):
    """An effect that the append only file is not told: it changes no data (PUBLISH)."""


class FileOnly(list[bytes]):
    """An effect that replicas are not told (redis.set_repl). To be added by ``Keyspace.propagate`` only."""
