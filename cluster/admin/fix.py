"""Repair what a check finds: open slots, slots without owner, slots with several owners.

Role        For every open slot the evidence is gathered, a remedy is chosen from it (a value), and applied.
Invariants  A key is never deleted; a slot that no rule covers is left alone and named. With masters out of reach
            nothing is repaired unless the person insists: their slots would look uncovered and be given away.
Source      clusterManagerFixOpenSlot, clusterManagerFixSlotsCoverage and clusterManagerFixMultipleSlotOwners in
            redis-cli.c.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import attrs

from cluster.admin.check import (
    Findings,
    announce_check,
    check_agreement,
    check_coverage,
    check_multiple_owners,
    check_open_slots,
    count_keys,
    count_keys_in_slot,
)
from cluster.admin.connection import ErrorReply, call
from cluster.admin.context import Context
from cluster.admin.errors import Refused, ReplyError
from cluster.admin.node_table import ALL_SLOTS, slots_text
from cluster.admin.overview import show_keys
from cluster.admin.slot_move import MoveOptions, SlotMover, set_slot
from cluster.admin.view import ClusterNode, ClusterView, load_view, nodes_agree

_SETTLE_TIMEOUT_MS = 5_000
_SETTLE_POLL_MS = 100


class Remedy(enum.Enum):
    """What closes an open slot. The numbers in the texts are redis-cli's cases."""

    MOVE = "finish the migration"  # Case 1
    COLLECT = "move stray keys to the owner"  # Case 2
    MOVE_AND_CLOSE_OTHERS = "finish the migration, close the slot elsewhere"  # Case 3
    CLOSE_EVERYWHERE = "close the slot on all nodes"  # Case 3
    CLOSE_SOURCE = "close the slot on the node that migrates it"  # Case 4
    UNKNOWN = "leave it to a person"


@attrs.define
class OpenSlot:
    """The evidence about one slot, by nodes. ``importing`` includes nodes that merely hold keys of the slot."""

    slot: int
    owner: ClusterNode | None
    owners: list[ClusterNode]
    migrating: list[ClusterNode]
    importing: list[ClusterNode]
    key_counts: dict[str, int]  # By node id, of the masters.

    def destination(self) -> ClusterNode | None:
        """The importing node that the migrating node names as the slot's next home."""
        wanted = self.migrating[0].migrating.get(self.slot)
        return next((node for node in self.importing if node.node_id == wanted), None)

    def holds_keys(self, nodes: Iterable[ClusterNode]) -> bool:
        return any(self.key_counts.get(node.node_id, 0) > 0 for node in nodes)


def choose_remedy(evidence: OpenSlot) -> Remedy:
    """Decide from the evidence alone; the owner must be settled before."""
    migrating, importing = len(evidence.migrating), len(evidence.importing)
    if migrating == 1 and importing == 1:
        return Remedy.MOVE
    if migrating == 0 and importing > 0:
        return Remedy.COLLECT
    if migrating == 1 and importing > 1 and not evidence.holds_keys(evidence.importing):
        return Remedy.MOVE_AND_CLOSE_OTHERS if evidence.destination() is not None else Remedy.CLOSE_EVERYWHERE
    if migrating == 1 and importing == 0:
        source = evidence.migrating[0]
        if source is evidence.owner or not evidence.holds_keys([source]):
            return Remedy.CLOSE_SOURCE
    return Remedy.UNKNOWN


@attrs.frozen
class FixOptions:
    """What the person allows."""

    search_multiple_owners: bool = False
    with_unreachable_masters: bool = False
    move: MoveOptions = attrs.field(factory=lambda: MoveOptions(adopt_unserved=True))


def fix_cluster(context: Context, view: ClusterView, options: FixOptions, rng: random.Random) -> bool:
    """The command ``fix``: check, repair as it goes, and look again at the end. True when nothing is left to repair."""
    show_keys(context, view)
    findings = Findings()
    announce_check(context, view, quiet=False)
    check_agreement(context, view, findings)
    check_open_slots(context, view, findings)
    fixer = _Fixer(context, view, options, rng, SlotMover(context, view, options.move))
    for slot in findings.open_slots:
        fixer.fix_open_slot(slot)
    check_coverage(context, view, findings)
    if findings.uncovered:
        fixer.fix_coverage(sorted(findings.uncovered))
    if options.search_multiple_owners:
        check_multiple_owners(context, view, findings)
        for slot, owners in findings.multiple_owners.items():
            fixer.fix_multiple_owners(slot, owners)
    return findings.is_healthy or _is_repaired(context, view)


def _is_repaired(context: Context, view: ClusterView) -> bool:
    """Load the cluster anew: the nodes' own word on whether the repair worked."""
    console = context.console
    with console.progress("Waiting for the nodes to agree", 1):
        context.wait_until(lambda: nodes_agree(view.nodes), _SETTLE_TIMEOUT_MS, _SETTLE_POLL_MS, lambda _waited: None)
    fresh = load_view(context, view.contact.address)
    open_slots = sorted({slot for node in fresh.nodes for slot in (*node.migrating, *node.importing)})
    if open_slots:
        console.error(f"[ERR] Still open: {slots_text(open_slots)}")
    missing = ALL_SLOTS - fresh.covered_slots()
    if missing:
        console.error(f"[ERR] Still not covered: {slots_text(missing)}")
    agree = nodes_agree(fresh.nodes)
    if not agree:
        console.error("[ERR] Nodes still don't agree about configuration!")
    return agree and not open_slots and not missing


@attrs.define
class _Fixer:
    context: Context
    view: ClusterView
    options: FixOptions
    rng: random.Random
    mover: SlotMover

    # Open slots

    def fix_open_slot(self, slot: int) -> None:
        """Gather, settle the owner, choose, apply."""
        self._require_masters("open slots")
        console = self.context.console
        console.info(f">>> Fixing open slot {slot}")
        evidence = self._gather(slot)
        for state, nodes in (("migrating", evidence.migrating), ("importing", evidence.importing)):
            if nodes:
                console.line(f"Set as {state} in: {_addresses(nodes)}")
        owner = self._settle_owner(evidence)
        match choose_remedy(evidence):
            case Remedy.MOVE:
                source, target = evidence.migrating[0], evidence.importing[0]
                console.info(f">>> Case 1: Moving slot {slot} from {source.address} to {target.address}")
                self._move(slot, source, target)
            case Remedy.COLLECT:
                console.info(f">>> Case 2: Moving all the {slot} slot keys to its owner {owner.address}")
                self._collect(slot, owner, evidence.importing)
            case Remedy.MOVE_AND_CLOSE_OTHERS:
                self._move_and_close_others(evidence)
            case Remedy.CLOSE_EVERYWHERE:
                console.info(f">>> Case 3: Closing slot {slot} on both migrating and importing nodes.")
                for node in (*evidence.migrating, *evidence.importing):
                    self._close(slot, node)
            case Remedy.CLOSE_SOURCE:
                console.info(f">>> Case 4: Closing slot {slot} on {evidence.migrating[0].address}")
                self._close(slot, evidence.migrating[0])
            case Remedy.UNKNOWN:
                raise Refused(
                    "[ERR] Sorry, redis-cluster-cli can't fix this slot yet. Slot is set as migrating in "
                    f"{_addresses(evidence.migrating)}, as importing in {_addresses(evidence.importing)}, owner is "
                    f"{owner.address}"
                )

    def _gather(self, slot: int) -> OpenSlot:
        console = self.context.console
        masters = self.view.masters
        key_counts = {node.node_id: count_keys_in_slot(node, slot) for node in masters}
        owners = [node for node in masters if slot in node.slots]
        for node in masters:
            if slot in node.slots or key_counts[node.node_id] == 0 or _is_taking_over(slot, owners, node):
                continue
            console.warn(f"*** Found keys about slot {slot} in non-owner node {node.address}!")
            owners.append(node)
        owner = owners[0] if len(owners) == 1 else None
        migrating = [node for node in masters if slot in node.migrating]
        importing: list[ClusterNode] = []
        for node in masters:
            if node in migrating:
                continue
            if slot in node.importing:
                importing.append(node)
            elif node is not owner and key_counts[node.node_id] > 0:
                console.warn(f"*** Found keys about slot {slot} in node {node.address}!")
                importing.append(node)
        return OpenSlot(slot, owner, owners, migrating, importing, key_counts)

    def _settle_owner(self, evidence: OpenSlot) -> ClusterNode:
        """Make one node the owner, the one with most keys if it is not clear; the others then only hold keys."""
        console, slot = self.context.console, evidence.slot
        if evidence.owner is None:
            console.info(">>> No single clear owner for the slot, selecting an owner by # of keys...")
            owner = max(self.view.masters, key=lambda node: evidence.key_counts[node.node_id])
            console.warn(f"*** Configuring {owner.address} as the slot owner")
            self._close(slot, owner)
            own_slot(owner, slot)
            evidence.owner = owner
            evidence.migrating = [node for node in evidence.migrating if node is not owner]
            evidence.importing = [node for node in evidence.importing if node is not owner]
        owner = evidence.owner
        for node in evidence.owners:
            if node is owner:
                continue
            disown_slot(node, slot)
            set_slot(node, slot, "NODE", owner)
            set_slot(node, slot, "IMPORTING", owner)
            evidence.importing = [other for other in evidence.importing if other is not node] + [node]
            evidence.migrating = [other for other in evidence.migrating if other is not node]
        return owner

    def _collect(self, slot: int, owner: ClusterNode, holders: Sequence[ClusterNode]) -> None:
        console = self.context.console
        for node in holders:
            if node is owner:
                continue
            self._move_keys(slot, node, owner)
            console.info(f">>> Setting {slot} as STABLE in {node.address}")
            self._close(slot, node)
        # Only keys were moved: make sure that every node knows the owner.
        for node in self.view.masters:
            if node is not owner:
                set_slot(node, slot, "NODE", owner)

    def _move_and_close_others(self, evidence: OpenSlot) -> None:
        source, target = evidence.migrating[0], evidence.destination()
        assert target is not None, "the remedy is chosen only when there is a destination"
        self.context.console.info(
            f">>> Case 3: Moving slot {evidence.slot} from {source.address} to {target.address} and closing it on all "
            "the other importing nodes."
        )
        self._move(evidence.slot, source, target)
        for node in evidence.importing:
            if node is not target:
                self._close(evidence.slot, node)

    # Slots without owner

    def fix_coverage(self, uncovered: Sequence[int]) -> None:
        """Give every uncovered slot an owner: where its keys are, or anywhere if it has none."""
        self._require_masters("slots coverage")
        console = self.context.console
        console.info(">>> Fixing slots coverage...")
        counts = {node.node_id: count_keys(node, lambda _done: None) for node in self.view.masters}
        holders = {slot: [node for node in self.view.masters if counts[node.node_id][slot] > 0] for slot in uncovered}
        empty = [slot for slot in uncovered if not holders[slot]]
        single = [slot for slot in uncovered if len(holders[slot]) == 1]
        several = [slot for slot in uncovered if len(holders[slot]) > 1]
        # Each of these is asked even under --yes, as in redis-cli: they decide about data.
        if empty:
            console.line(f"The following uncovered slots have no keys across the cluster:\n{slots_text(empty)}")
            if console.confirm("Fix these slots by covering with a random node?"):
                for slot in empty:
                    self._cover(slot, self.rng.choice(self.view.masters))
        if single:
            console.line(f"The following uncovered slots have keys in just one node:\n{slots_text(single)}")
            if console.confirm("Fix these slots by covering with those nodes?"):
                for slot in single:
                    self._cover(slot, holders[slot][0])
        if several:
            console.line(f"The following uncovered slots have keys in multiple nodes:\n{slots_text(several)}")
            if console.confirm("Fix these slots by moving keys into a single node?"):
                for slot in several:
                    self._cover_by_moving(slot, holders[slot])

    def _cover(self, slot: int, node: ClusterNode) -> None:
        self.context.console.info(f">>> Covering slot {slot} with {node.address}")
        own_slot(node, slot)

    def _cover_by_moving(self, slot: int, holders: Sequence[ClusterNode]) -> None:
        target = max(holders, key=lambda node: count_keys_in_slot(node, slot))
        self.context.console.info(f">>> Covering slot {slot} moving keys to {target.address}")
        own_slot(target, slot, close=True)
        for node in holders:
            if node is target:
                continue
            set_slot(node, slot, "NODE", target)
            # Importing, although the keys leave: so that MIGRATE is not answered by a redirection.
            set_slot(node, slot, "IMPORTING", target)
            self._move_keys(slot, node, target)
            self._close(slot, node)

    # Slots with several owners

    def fix_multiple_owners(self, slot: int, owners: Sequence[ClusterNode]) -> None:
        """Leave the slot to the node with most of its keys, and move the others' keys there."""
        console = self.context.console
        console.info(f">>> Fixing multiple owners for slot {slot}...")
        owner = max(owners, key=lambda node: count_keys_in_slot(node, slot))
        console.info(f">>> Setting slot {slot} owner: {owner.address}")
        own_slot(owner, slot)
        for node in self.view.masters:
            if node is owner:
                continue
            key_count = count_keys_in_slot(node, slot)
            disown_slot(node, slot)
            set_slot(node, slot, "NODE", owner)
            if key_count > 0:
                set_slot(node, slot, "IMPORTING", owner)  # As above: MIGRATE must not be redirected.
                self._move_keys(slot, node, owner)
                self._close(slot, node)

    # Steps

    def _require_masters(self, what: str) -> None:
        missing = self.view.unreachable_masters
        if missing and not self.options.with_unreachable_masters:
            raise Refused(
                f"*** Fixing {what} with {missing} unreachable masters is dangerous: redis-cluster-cli will assume "
                "that slots about masters that are not reachable are not covered, and will try to reassign them to the "
                "reachable nodes. This can cause data loss and is rarely what you want to do. If you really want to "
                "proceed use the --fix-with-unreachable-masters option."
            )

    def _move(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        with self._shown_move(slot, source, target) as on_keys:
            self.mover.move(slot, source, target, on_keys)

    def _move_keys(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        with self._shown_move(slot, source, target) as on_keys:
            self.mover.move_keys(slot, source, target, on_keys)

    @contextmanager
    def _shown_move(self, slot: int, source: ClusterNode, target: ClusterNode) -> Iterator[Callable[[int], None]]:
        """A line that says what is moved, with a dot for each key."""
        console = self.context.console
        console.part(f"Moving slot {slot} from {source.address} to {target.address}: ")
        try:
            yield lambda count: console.part("." * count)
        finally:
            console.line()

    def _close(self, slot: int, node: ClusterNode) -> None:
        call(node.link, "CLUSTER", "SETSLOT", slot, "STABLE")
        node.migrating.pop(slot, None)
        node.importing.pop(slot, None)


def own_slot(node: ClusterNode, slot: int, close: bool = False) -> None:
    """Give ``slot`` to ``node`` and raise its config epoch above all others, so that the cluster believes it."""
    commands: list[tuple[str | int, ...]] = [
        ("CLUSTER", "DELSLOTS", slot),  # Fails when nobody had it, which is just as well.
        ("CLUSTER", "ADDSLOTS", slot),
    ]
    if close:
        commands.append(("CLUSTER", "SETSLOT", slot, "STABLE"))
    commands.append(("CLUSTER", "BUMPEPOCH"))
    call(node.link, "MULTI")
    for command in commands:
        call(node.link, *command)
    replies = call(node.link, "EXEC")
    added = replies[1] if isinstance(replies, list) and len(replies) > 1 else None
    if isinstance(added, ErrorReply):
        raise ReplyError(node.address, str(added))
    node.slots.add(slot)


def disown_slot(node: ClusterNode, slot: int) -> None:
    """Make ``node`` forget who owns ``slot``; that it did not know anyway is no error."""
    try:
        call(node.link, "CLUSTER", "DELSLOTS", slot)
    except ReplyError as error:
        if "already unassigned" not in error.text:
            raise
    node.slots.discard(slot)


def _is_taking_over(slot: int, owners: Sequence[ClusterNode], node: ClusterNode) -> bool:
    """Whether ``node`` holds keys rightfully: it and the only owner agree that the slot is on its way.

    redis-cli counts such a node as a second owner, and may then roll the migration back, hiding the keys that have
    moved already until they are back; finishing it keeps every key reachable throughout.
    """
    if len(owners) != 1:
        return False
    return owners[0].migrating.get(slot) == node.node_id and node.importing.get(slot) == owners[0].node_id


def _addresses(nodes: Sequence[ClusterNode]) -> str:
    return ",".join(str(node.address) for node in nodes)
