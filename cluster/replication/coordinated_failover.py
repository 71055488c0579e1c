"""FAILOVER: a master hands its role to one of its replicas, without losing a write.

Role        The state machine of the command: pause writes, wait until a replica has everything, become its replica
            and tell it (PSYNC … FAILOVER) to become master.
Invariants  While a failover runs (``state.failover`` is not NONE) writes are paused, REPLICAOF is refused and no
            replica may synchronise. Every end of it, good or bad, resumes writes.
Source      Redis 7.0 replication.c (failoverCommand, updateFailoverStatus, abortFailover).
Units       ``*_ms`` monotonic milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.replication.replica import Replica, ReplicaState
from cluster.replication.state import FailoverState

if TYPE_CHECKING:
    from cluster.replication.manager import Replication


class FailoverRefused(Exception):
    """FAILOVER cannot be started; the text is the one for the client."""


class CoordinatedFailover:
    """The failover of one master, if one is under way."""

    def __init__(self, replication: Replication) -> None:
        self._replication = replication
        self._target: tuple[str, int] | None = None
        self._force = False

    def start(self, target: tuple[str, int] | None, timeout_ms: int, force: bool, now_ms: int) -> None:
        """Begin; raises FailoverRefused. ``timeout_ms`` 0: wait for ever."""
        replication = self._replication
        if replication.state.failover is not FailoverState.NONE:
            raise FailoverRefused("FAILOVER already in progress.")
        if replication.state.is_replica:
            raise FailoverRefused("FAILOVER is not valid when server is a replica.")
        if not replication.feed.replicas:
            raise FailoverRefused("FAILOVER requires connected replicas.")
        if force and (not timeout_ms or target is None):
            raise FailoverRefused("FAILOVER with force option requires both a timeout and target HOST and IP.")
        if target is None:
            replication.host.log("notice", "FAILOVER requested to any replica.")
        else:
            replica = replication.feed.find(*target)
            if replica is None:
                raise FailoverRefused("FAILOVER target HOST and PORT is not a replica.")
            if replica.state is not ReplicaState.ONLINE:
                raise FailoverRefused("FAILOVER target replica is not online.")
            replication.host.log("notice", f"FAILOVER requested to {target[0]}:{target[1]}.")
        self._target = target
        replication.state.failover_deadline_ms = now_ms + timeout_ms if timeout_ms else None
        self._force = force
        replication.state.failover = FailoverState.WAIT_FOR_SYNC
        replication.host.pause_writes()

    def abort(self, reason: str) -> None:
        """Give up and go on as master."""
        replication = self._replication
        if replication.state.failover is FailoverState.NONE:
            return
        to = f"{self._target[0]}:{self._target[1]}" if self._target else "any replica"
        replication.host.log("notice", f"FAILOVER to {to} aborted: {reason}")
        if replication.state.failover is FailoverState.IN_PROGRESS:
            replication.unset_master()
        self.finish()

    def finish(self) -> None:
        """The failover is over, well or badly."""
        self._target = None
        self._replication.state.failover_deadline_ms = None
        self._force = False
        self._replication.state.failover = FailoverState.NONE
        self._replication.host.resume_writes()

    def update(self, now_ms: int) -> None:
        """Before the loop sleeps and once a second: time out, or go on once a replica has caught up."""
        replication = self._replication
        if replication.state.failover is not FailoverState.WAIT_FOR_SYNC:
            return
        deadline_ms = replication.state.failover_deadline_ms
        if deadline_ms is not None and deadline_ms <= now_ms:
            if not self._force:
                self.abort("Replica never caught up before timeout")
                return
            assert self._target is not None
            replication.host.log(
                "notice", f"FAILOVER to {self._target[0]}:{self._target[1]} time out exceeded, failing over."
            )
            self._hand_over(self._target)
            return
        replica = self._caught_up()
        if replica is None:
            return
        if self._target is None:
            self._target = (replica.host, replica.announced.listening_port)
        replication.host.log("notice", f"Failover target {self._target[0]}:{self._target[1]} is synced, failing over.")
        self._hand_over(self._target)

    def _caught_up(self) -> Replica | None:
        feed = self._replication.feed
        offset = self._replication.state.master_repl_offset
        candidates = feed.replicas
        if self._target is not None:
            wanted = feed.find(*self._target)
            candidates = [wanted] if wanted is not None else []
        for replica in candidates:
            if replica.acknowledged_offset == offset and not replica.leaving:
                return replica
        return None

    def _hand_over(self, target: tuple[str, int]) -> None:
        self._replication.state.failover = FailoverState.IN_PROGRESS
        self._replication.set_master(*target)
