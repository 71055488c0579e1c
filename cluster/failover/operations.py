"""What the operator asks of the cluster engine: the CLUSTER subcommands that change something.

Role        One method per subcommand, with parsed arguments. A refusal raises CommandError with Redis's words and
            changes nothing. The reply is the command's business: OK unless the docstring says otherwise.
            Node ids are the client's bytes decoded as latin-1, so that a refusal can quote them unchanged.
Source      Redis 7.0.15, clusterCommand() and clusterReset() in cluster.c.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from cluster.errors import CommandError
from cluster.failover import election, epochs, manual
from cluster.gossip import membership, outgoing, slot_config
from cluster.gossip.context import SAVE_UPDATE, SAVE_UPDATE_FSYNC, Context
from cluster.gossip.effects import EmptyDatabase, LocalEffect, LogLevel, StopReplication
from cluster.gossip.failure_detector import count_failure_reports
from cluster.gossip.state import BUS_PORT_INCREMENT, Node, Todo, new_node_id
from cluster.slots.hashing import SLOT_COUNT

PORT_MAX: Final = 65535


class FailoverMode(enum.Enum):
    """How CLUSTER FAILOVER gets the new epoch and whether the master is waited for."""

    NORMAL = "normal"
    FORCE = "force"
    TAKEOVER = "takeover"


class ClusterOperations:
    """The operator's side of one cluster engine, as ``ClusterEngine.operations``."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    # -- membership -------------------------------------------------------------------------------

    def meet(self, ip: str, port: int, bus_port: int | None, now_ms: int) -> list[LocalEffect]:
        """CLUSTER MEET: start a handshake (``bus_port`` None: port + 10000)."""
        ctx = self._at(now_ms)
        cport = port + BUS_PORT_INCREMENT if bus_port is None else bus_port
        address = _normal_ip(ip)
        if address is None or not 0 < port <= PORT_MAX or not 0 < cport <= PORT_MAX:
            raise CommandError(f"ERR Invalid node address specified: {ip}:{port}".encode("latin-1"))
        membership.start_handshake(ctx, address, port, cport, with_meet=True)
        return ctx.take_local()

    def forget(self, node_id: str, now_ms: int) -> list[LocalEffect]:
        """CLUSTER FORGET: remove a node and refuse to hear of it for a minute."""
        ctx = self._at(now_ms)
        node, myself = self._node(node_id), ctx.state.myself
        if node is myself:
            raise CommandError(b"ERR I tried hard but I can't forget myself...")
        if myself.is_replica and myself.master is node:
            raise CommandError(b"ERR Can't forget my master!")
        membership.forget(ctx, node.node_id)
        membership.delete_node(ctx, node)
        return self._done()

    def count_failure_reports(self, node_id: str, now_ms: int) -> int:
        """CLUSTER COUNT-FAILURE-REPORTS: the number to reply."""
        return count_failure_reports(self._at(now_ms), self._node(node_id))

    # -- slots ------------------------------------------------------------------------------------

    def add_slots(self, ranges: Iterable[tuple[int, int]], now_ms: int) -> list[LocalEffect]:
        """CLUSTER ADDSLOTS and ADDSLOTSRANGE, over inclusive ranges of valid slots.

        ``ranges`` may be a generator that raises CommandError: ranges before it are checked first, as Redis does.
        """
        ctx = self._at(now_ms)
        for slot in self._checked_slots(ranges, must_be_assigned=False):
            ctx.state.set_importing(slot, None)
            ctx.assign_slot(slot, ctx.state.myself)
        return self._done()

    def delete_slots(self, ranges: Iterable[tuple[int, int]], now_ms: int) -> list[LocalEffect]:
        """CLUSTER DELSLOTS and DELSLOTSRANGE; see add_slots."""
        ctx = self._at(now_ms)
        for slot in self._checked_slots(ranges, must_be_assigned=True):
            ctx.state.set_importing(slot, None)
            ctx.unassign_slot(slot)
        return self._done()

    def flush_slots(self, now_ms: int) -> list[LocalEffect]:
        """CLUSTER FLUSHSLOTS."""
        ctx = self._at(now_ms)
        if not ctx.facts.is_database_empty():
            raise CommandError(b"ERR DB must be empty to perform CLUSTER FLUSHSLOTS.")
        slot_config.release_slots(ctx, ctx.state.myself)
        return self._done()

    def check_set_slot_allowed(self) -> None:
        """Refuse every CLUSTER SETSLOT on a replica; Redis does so before it looks at the slot."""
        if self._ctx.state.myself.is_replica:
            raise CommandError(b"ERR Please use SETSLOT only with masters.")

    def set_slot_migrating(self, slot: int, node_id: str, now_ms: int) -> list[LocalEffect]:
        """CLUSTER SETSLOT <slot> MIGRATING <node-id>."""
        ctx = self._at(now_ms)
        self.check_set_slot_allowed()
        if ctx.state.owners[slot] is not ctx.state.myself:
            raise CommandError(b"ERR I'm not the owner of hash slot %d" % slot)
        ctx.state.set_migrating(slot, self._other_end(node_id))
        return self._done_with_open_slot()

    def set_slot_importing(self, slot: int, node_id: str, now_ms: int) -> list[LocalEffect]:
        """CLUSTER SETSLOT <slot> IMPORTING <node-id>."""
        ctx = self._at(now_ms)
        self.check_set_slot_allowed()
        if ctx.state.owners[slot] is ctx.state.myself:
            raise CommandError(b"ERR I'm already the owner of hash slot %d" % slot)
        ctx.state.set_importing(slot, self._other_end(node_id))
        return self._done_with_open_slot()

    def set_slot_stable(self, slot: int, now_ms: int) -> list[LocalEffect]:
        """CLUSTER SETSLOT <slot> STABLE."""
        ctx = self._at(now_ms)
        self.check_set_slot_allowed()
        ctx.state.set_importing(slot, None)
        ctx.state.set_migrating(slot, None)
        return self._done_with_open_slot()

    def set_slot_node(self, slot: int, node_id: str, now_ms: int) -> list[LocalEffect]:
        """CLUSTER SETSLOT <slot> NODE <node-id>."""
        ctx = self._at(now_ms)
        self.check_set_slot_allowed()
        state, myself = ctx.state, ctx.state.myself
        target = _require_master(self._node(node_id))
        was_mine = state.owners[slot] is myself
        has_keys = bool(ctx.facts.keys_in_slot(slot))
        if was_mine and target is not myself and has_keys:
            raise CommandError(
                b"ERR Can't assign hashslot %d to a different node while I still hold keys for this hash slot." % slot
            )
        if not has_keys:
            state.set_migrating(slot, None)
        ctx.assign_slot(slot, target)
        if was_mine and target is not myself and not myself.slot_count:
            if ctx.settings.cluster_allow_replica_migration:
                slot_config.reconfigure_as_replica_of(ctx, target, is_successor=False)
        elif target is myself and slot in state.importing:
            # The slot was moved by hand: without a newer epoch the others would side with its former owner. Should
            # another node give itself the same epoch just now, the collision is resolved.
            if epochs.bump_without_consensus(ctx):
                ctx.log(LogLevel.WARNING, f"configEpoch updated after importing slot {slot}")
            state.set_importing(slot, None)
            outgoing.broadcast_pong(ctx)
        return self._done_with_open_slot()

    # -- epochs -----------------------------------------------------------------------------------

    def bump_epoch(self, now_ms: int) -> tuple[bool, list[LocalEffect]]:
        """CLUSTER BUMPEPOCH. True: reply ``+BUMPED <config epoch>``; False: ``+STILL <config epoch>``."""
        ctx = self._at(now_ms)
        is_new = epochs.bump_without_consensus(ctx)
        return is_new, ctx.take_local()

    def set_config_epoch(self, epoch: int, now_ms: int) -> list[LocalEffect]:
        """CLUSTER SET-CONFIG-EPOCH."""
        ctx = self._at(now_ms)
        state, myself = ctx.state, ctx.state.myself
        if epoch < 0:
            raise CommandError(b"ERR Invalid config epoch specified: %d" % epoch)
        if len(state.nodes) > 1:
            raise CommandError(
                b"ERR The user can assign a config epoch only when the node does not know any other node."
            )
        if myself.config_epoch:
            raise CommandError(b"ERR Node config epoch is already non-zero")
        myself.config_epoch = epoch
        state.current_epoch = max(state.current_epoch, epoch)
        ctx.log(LogLevel.WARNING, f"configEpoch set to {epoch} via CLUSTER SET-CONFIG-EPOCH")
        return self._done()

    # -- roles ------------------------------------------------------------------------------------

    def replicate(self, node_id: str, now_ms: int) -> list[LocalEffect]:
        """CLUSTER REPLICATE."""
        ctx = self._at(now_ms)
        master, myself = self._node(node_id), ctx.state.myself
        if master is myself:
            raise CommandError(b"ERR Can't replicate myself")
        if master.is_replica:
            raise CommandError(b"ERR I can only replicate a master, not a replica.")
        if myself.is_master and (myself.slot_count or not ctx.facts.is_database_empty()):
            raise CommandError(b"ERR To set a master the node must be empty and without assigned slots.")
        slot_config.set_my_master(ctx, master)
        outgoing.broadcast_pong(ctx)  # Redis leaves the new role to the next pings.
        return self._done()

    def failover(self, mode: FailoverMode, now_ms: int) -> list[LocalEffect]:
        """CLUSTER FAILOVER [FORCE|TAKEOVER]."""
        ctx = self._at(now_ms)
        myself = ctx.state.myself
        master = myself.master
        if myself.is_master:
            raise CommandError(b"ERR You should send CLUSTER FAILOVER to a replica")
        if master is None:
            raise CommandError(b"ERR I'm a replica but my master is unknown to me")
        if mode is FailoverMode.NORMAL and (master.is_fail or master.link is None):
            raise CommandError(b"ERR Master is down or failed, please use CLUSTER FAILOVER FORCE")
        manual.start(ctx)
        if mode is FailoverMode.TAKEOVER:
            ctx.log(LogLevel.WARNING, "Taking over the master (user request).")
            epochs.bump_without_consensus(ctx)
            election.replace_my_master(ctx)
        elif mode is FailoverMode.FORCE:
            ctx.log(LogLevel.WARNING, "Forced failover user request accepted.")
            ctx.state.manual.can_start = True
            ctx.todo(Todo.HANDLE_FAILOVER)
        else:
            ctx.log(LogLevel.WARNING, "Manual failover user request accepted.")
            manual.ask_master_to_pause(ctx, master)
        return ctx.take_local()

    def reset(self, hard: bool, now_ms: int) -> list[LocalEffect]:
        """CLUSTER RESET [HARD|SOFT]."""
        ctx = self._at(now_ms)
        state, myself = ctx.state, ctx.state.myself
        if myself.is_master and not ctx.facts.is_database_empty():
            raise CommandError(b"ERR CLUSTER RESET can't be called with master nodes containing keys")
        if state.turn_into_master(myself):
            ctx.emit(StopReplication())
            ctx.emit(EmptyDatabase())
        state.close_slots()
        manual.reset(ctx)
        election.abandon(ctx)
        for slot in range(SLOT_COUNT):
            ctx.unassign_slot(slot)
        for node in list(state.nodes.values()):
            if node is not myself:
                membership.delete_node(ctx, node)
        if hard:
            state.current_epoch = state.last_vote_epoch = myself.config_epoch = 0
            ctx.log(LogLevel.WARNING, "configEpoch set to 0 via CLUSTER RESET HARD")
            state.rename_node(myself, new_node_id(ctx.rng))
            ctx.log(LogLevel.NOTICE, f"Node hard reset, now I'm {myself.node_id}")
        ctx.todo(SAVE_UPDATE_FSYNC)
        return ctx.take_local()

    # -- helpers ----------------------------------------------------------------------------------

    def _at(self, now_ms: int) -> Context:
        self._ctx.now_ms = now_ms
        return self._ctx

    def _done(self) -> list[LocalEffect]:
        """Save what the operator ordered. Redis does not sync here: a node that loses power then forgets its order."""
        self._ctx.todo(SAVE_UPDATE_FSYNC)
        return self._ctx.take_local()

    def _done_with_open_slot(self) -> list[LocalEffect]:
        """Save that a slot was opened, closed or handed over, for the disk to have within a second: resharding does
        that often, and a new epoch is synced for its own sake."""
        self._ctx.todo(SAVE_UPDATE)
        return self._ctx.take_local()

    def _node(self, node_id: str, unknown: str = "Unknown node") -> Node:
        node = self._ctx.state.find(node_id)
        if node is None:
            raise CommandError(f"ERR {unknown} {node_id}".encode("latin-1"))
        return node

    def _other_end(self, node_id: str) -> Node:
        """The node a slot comes from or goes to."""
        return _require_master(self._node(node_id, "I don't know about node"))

    def _checked_slots(self, ranges: Iterable[tuple[int, int]], *, must_be_assigned: bool) -> list[int]:
        """All slots of the ranges, if every one of them is (or is not) assigned and none is named twice."""
        slots: dict[int, None] = {}
        for start, end in ranges:
            if start > end:
                raise CommandError(b"ERR start slot number %d is greater than end slot number %d" % (start, end))
            for slot in range(start, end + 1):
                is_assigned = self._ctx.state.owners[slot] is not None
                if is_assigned is not must_be_assigned:
                    raise CommandError(
                        b"ERR Slot %d is already %b" % (slot, b"unassigned" if must_be_assigned else b"busy")
                    )
                if slot in slots:
                    raise CommandError(b"ERR Slot %d specified multiple times" % slot)
                slots[slot] = None
        return list(slots)


def _require_master(node: Node) -> Node:
    if node.is_replica:
        raise CommandError(b"ERR Target node is not a master")
    return node


def _normal_ip(text: str) -> str | None:
    """The canonical form of an IPv4 or IPv6 address; None for anything else, names included."""
    import ipaddress

    try:
        return str(ipaddress.ip_address(text)) if "%" not in text else None
    except ValueError:
        return None
