"""Is the cluster whole? Do the nodes agree, is a slot left open, is every slot covered, has a slot two owners?

Role        ``check_cluster`` prints what redis-cli's check prints and returns the findings.
Invariants  Only asks, never changes anything.
Source      clusterManagerCheckCluster in redis-cli.c. Slots are listed in ascending order, where it has a hash order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import attrs

from cluster.admin.connection import call_int, raise_error
from cluster.admin.console import ProgressBar
from cluster.admin.context import Context
from cluster.admin.errors import UnexpectedReply
from cluster.admin.node_table import ALL_SLOTS
from cluster.admin.view import ClusterNode, ClusterView, describe_node, nodes_agree
from cluster.slots.hashing import SLOT_COUNT

_COUNTS_PER_BATCH = 1024


@attrs.define
class Findings:
    """What a check has found; ``errors`` are the findings that forbid a reshard."""

    errors: list[str] = attrs.field(factory=list)
    open_slots: list[int] = attrs.field(factory=list)
    uncovered: set[int] = attrs.field(factory=set)
    multiple_owners: dict[int, list[ClusterNode]] = attrs.field(factory=dict)

    @property
    def is_healthy(self) -> bool:
        return not self.errors and not self.multiple_owners


def run_check(context: Context, view: ClusterView, search_multiple_owners: bool = False) -> Findings:
    """The command ``check``."""
    from cluster.admin.overview import show_keys

    show_keys(context, view)
    return check_cluster(context, view, search_multiple_owners=search_multiple_owners)


def check_cluster(
    context: Context, view: ClusterView, quiet: bool = False, search_multiple_owners: bool = False
) -> Findings:
    """Check everything; ``quiet`` leaves out the list of nodes."""
    findings = Findings()
    announce_check(context, view, quiet)
    check_agreement(context, view, findings)
    check_open_slots(context, view, findings)
    check_coverage(context, view, findings)
    if search_multiple_owners:
        check_multiple_owners(context, view, findings)
    return findings


def announce_check(context: Context, view: ClusterView, quiet: bool) -> None:
    context.console.info(f">>> Performing Cluster Check (using node {view.contact.address})")
    if not quiet:
        for node in view.nodes:
            context.console.line(describe_node(node))


def check_agreement(context: Context, view: ClusterView, findings: Findings) -> None:
    """Do all nodes name the same owners?"""
    if nodes_agree(view.nodes):
        context.console.ok("[OK] All nodes agree about slots configuration.")
    else:
        _find(context, findings, "[ERR] Nodes don't agree about configuration!")


def check_open_slots(context: Context, view: ClusterView, findings: Findings) -> None:
    """Is a slot in the middle of a migration?"""
    context.console.info(">>> Check for open slots...")
    open_slots: set[int] = set()
    for node in view.nodes:
        for state, slots in (("migrating", node.migrating), ("importing", node.importing)):
            if slots:
                open_slots.update(slots)
                _find(context, findings, f"[WARNING] Node {node.address} has slots in {state} state {_listed(slots)}.")
    findings.open_slots = sorted(open_slots)
    if open_slots:
        context.console.error(f"[WARNING] The following slots are open: {_listed(open_slots)}.")


def check_coverage(context: Context, view: ClusterView, findings: Findings) -> None:
    """Has every slot an owner?"""
    context.console.info(">>> Check slots coverage...")
    findings.uncovered = set(ALL_SLOTS - view.covered_slots())
    if findings.uncovered:
        _find(context, findings, f"[ERR] Not all {SLOT_COUNT} slots are covered by nodes.\n")
    else:
        context.console.ok(f"[OK] All {SLOT_COUNT} slots covered.")


def check_multiple_owners(context: Context, view: ClusterView, findings: Findings) -> None:
    """Does a slot belong to several masters, or lie with keys in one that does not own it?"""
    console = context.console
    console.info(">>> Check for multiple slot owners...")
    claims: dict[int, list[ClusterNode]] = {}
    with console.progress("Counting keys", SLOT_COUNT * len(view.masters)) as bar:
        for index, node in enumerate(view.masters):
            counts = count_keys(node, functools.partial(_show_from, bar, index * SLOT_COUNT))
            for slot in range(SLOT_COUNT):
                if slot in node.slots or counts[slot] > 0:
                    claims.setdefault(slot, []).append(node)
    findings.multiple_owners = {slot: owners for slot, owners in sorted(claims.items()) if len(owners) > 1}
    for slot, owners in findings.multiple_owners.items():
        console.error(f"[WARNING] Slot {slot} has {len(owners)} owners:")
        for node in owners:
            console.error(f"    {node.address}")
    if not findings.multiple_owners:
        console.ok("[OK] No multiple owners found.")


def count_keys(node: ClusterNode, on_progress: Callable[[int], None]) -> list[int]:
    """How many keys ``node`` holds in each slot."""
    counts: list[int] = []
    for start in range(0, SLOT_COUNT, _COUNTS_PER_BATCH):
        for slot in range(start, start + _COUNTS_PER_BATCH):
            node.link.send("CLUSTER", "COUNTKEYSINSLOT", slot)
        for _ in range(_COUNTS_PER_BATCH):
            reply = raise_error(node.link, node.link.receive())
            if not isinstance(reply, int):
                raise UnexpectedReply(node.address, "CLUSTER COUNTKEYSINSLOT")
            counts.append(reply)
        on_progress(len(counts))
    return counts


def count_keys_in_slot(node: ClusterNode, slot: int) -> int:
    """How many keys ``node`` holds in one slot."""
    return call_int(node.link, "CLUSTER", "COUNTKEYSINSLOT", slot)


def _show_from(bar: ProgressBar, base: int, done: int) -> None:
    bar.show(base + done)


def _find(context: Context, findings: Findings, text: str) -> None:
    findings.errors.append(text)
    context.console.error(text)


def _listed(slots: Iterable[int]) -> str:
    return ",".join(str(slot) for slot in sorted(slots))
