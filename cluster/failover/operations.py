"""What the operator asks of the cluster engine: the CLUSTER subcommands that change something.

Role        One method per subcommand, with parsed arguments. A refusal raises CommandError with Redis's words and
            changes nothing. The reply is the command's business: OK unless the docstring says otherwise.
            Node ids are the client's bytes decoded as latin-1, so that a refusal can quote them unchanged.
Source      Redis 7.0.15, clusterCommand() and clusterReset() in cluster.c.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from cluster.gossip.effects import LocalEffect


class FailoverMode(enum.Enum):
    """How CLUSTER FAILOVER gets the new epoch and whether the master is waited for."""

    NORMAL = "normal"
    FORCE = "force"
    TAKEOVER = "takeover"


class ClusterOperations:
    """The operator's side of one cluster engine, as ``ClusterEngine.operations``."""

    def meet(self, ip: str, port: int, bus_port: int | None, now_ms: int) -> list[LocalEffect]:
        """CLUSTER MEET: start a handshake (``bus_port`` None: port + 10000)."""
        raise NotImplementedError

    def forget(self, node_id: str, now_ms: int) -> list[LocalEffect]:
        """CLUSTER FORGET: remove a node and refuse to hear of it for a minute."""
        raise NotImplementedError

    def add_slots(self, ranges: Iterable[tuple[int, int]], now_ms: int) -> list[LocalEffect]:
        """CLUSTER ADDSLOTS and ADDSLOTSRANGE, over inclusive ranges of valid slots.

        ``ranges`` may be a generator that raises CommandError: ranges before it are checked first, as Redis does.
        """
        raise NotImplementedError

    def delete_slots(self, ranges: Iterable[tuple[int, int]], now_ms: int) -> list[LocalEffect]:
        """CLUSTER DELSLOTS and DELSLOTSRANGE; see add_slots."""
        raise NotImplementedError

    def flush_slots(self, now_ms: int) -> list[LocalEffect]:
        """CLUSTER FLUSHSLOTS."""
        raise NotImplementedError

    def check_set_slot_allowed(self) -> None:
        """Refuse every CLUSTER SETSLOT on a replica; Redis does so before it looks at the slot."""
        raise NotImplementedError

    def set_slot_migrating(self, slot: int, node_id: str, now_ms: int) -> list[LocalEffect]:
        """CLUSTER SETSLOT <slot> MIGRATING <node-id>."""
        raise NotImplementedError

    def set_slot_importing(self, slot: int, node_id: str, now_ms: int) -> list[LocalEffect]:
        """CLUSTER SETSLOT <slot> IMPORTING <node-id>."""
        raise NotImplementedError

    def set_slot_stable(self, slot: int, now_ms: int) -> list[LocalEffect]:
        """CLUSTER SETSLOT <slot> STABLE."""
        raise NotImplementedError

    def set_slot_node(self, slot: int, node_id: str, now_ms: int) -> list[LocalEffect]:
        """CLUSTER SETSLOT <slot> NODE <node-id>."""
        raise NotImplementedError

    def bump_epoch(self, now_ms: int) -> tuple[bool, list[LocalEffect]]:
        """CLUSTER BUMPEPOCH. True: reply ``+BUMPED <config epoch>``; False: ``+STILL <config epoch>``."""
        raise NotImplementedError

    def set_config_epoch(self, epoch: int, now_ms: int) -> list[LocalEffect]:
        """CLUSTER SET-CONFIG-EPOCH."""
        raise NotImplementedError

    def replicate(self, node_id: str, now_ms: int) -> list[LocalEffect]:
        """CLUSTER REPLICATE."""
        raise NotImplementedError

    def failover(self, mode: FailoverMode, now_ms: int) -> list[LocalEffect]:
        """CLUSTER FAILOVER [FORCE|TAKEOVER]."""
        raise NotImplementedError

    def reset(self, hard: bool, now_ms: int) -> list[LocalEffect]:
        """CLUSTER RESET [HARD|SOFT]."""
        raise NotImplementedError

    def count_failure_reports(self, node_id: str, now_ms: int) -> int:
        """CLUSTER COUNT-FAILURE-REPORTS: the number to reply."""
        raise NotImplementedError
