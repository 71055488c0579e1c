"""Replica migration: a spare replica moves to a master that has lost all of its own.

Invariants  At most the replica with the smallest node id, among those of the masters with the most working replicas,
            moves; its old master keeps more than cluster-migration-barrier minus one.
Spec        Redis Cluster specification, "Replica migration"; Redis 7.0.15, clusterHandleSlaveMigration() and the part
            of clusterCron() that looks for orphaned masters.
"""

from __future__ import annotations

from typing import Final

from cluster.gossip.context import SAVE_UPDATE, Context
from cluster.gossip.effects import LogLevel
from cluster.gossip.slot_config import set_my_master
from cluster.gossip.state import ClusterHealth, Node, NodeFlags

MIGRATION_DELAY_MS: Final = 5000
"""A master must have been orphaned for this long: after a failover its replicas need a moment to say so."""

_NOT_CONSIDERED: Final = NodeFlags.MYSELF | NodeFlags.NOADDR | NodeFlags.HANDSHAKE


def migrate_if_needed(ctx: Context) -> None:
    """On a replica, every tick."""
    state, my_master = ctx.state, ctx.state.myself.master
    if not state.myself.is_replica or not ctx.settings.cluster_allow_replica_migration:
        return
    masters = [
        node
        for node in state.nodes.values()
        if node.is_master and not node.is_fail and not node.flags & _NOT_CONSIDERED
    ]
    working = {node: _count_not_failed(node) for node in masters}
    most = max(working.values(), default=0)
    has_orphan = any(not working[node] and node.slot_count and _had_replicas(node) for node in masters)
    if has_orphan and most >= 2 and my_master is not None and working.get(my_master, 0) == most:
        _migrate_if_my_turn(ctx, my_master, most)


def _migrate_if_my_turn(ctx: Context, my_master: Node, most: int) -> None:
    state, myself = ctx.state, ctx.state.myself
    if state.health is not ClusterHealth.OK:
        return
    reachable = sum(not replica.is_suspected for replica in my_master.replicas)
    if reachable <= ctx.settings.cluster_migration_barrier:
        return
    target: Node | None = None
    candidate = myself
    for node in state.nodes.values():
        working = _count_not_failed(node) if node.is_master else 0
        if node.is_master and not node.is_fail and not working and _had_replicas(node):
            node.orphaned_since_ms = node.orphaned_since_ms or ctx.now_ms
            if target is None and node.slot_count:
                target = node
        else:
            node.orphaned_since_ms = 0
        if working == most:
            candidate = min(candidate, *node.replicas, key=lambda replica: replica.node_id)
    if target is not None and candidate is myself and ctx.age_ms(target.orphaned_since_ms) > MIGRATION_DELAY_MS:
        ctx.log(LogLevel.WARNING, f"Migrating to orphaned master {target.node_id}")
        set_my_master(ctx, target)
        # Redis leaves the save to the next change; a restart before it would move back.
        ctx.todo(SAVE_UPDATE)


def _count_not_failed(master: Node) -> int:
    return sum(not replica.is_fail for replica in master.replicas)


def _had_replicas(master: Node) -> bool:
    """It had replicas, or took over from a master that had: masters meant to have none stay alone."""
    return NodeFlags.MIGRATE_TO in master.flags
