"""Config epochs that a master gives itself, without asking anybody.

Role        The two cases where the cluster accepts an epoch nobody voted for: an operator's doing (a resharded slot, a
            takeover, BUMPEPOCH) and a collision.
Invariants  A new epoch is greater than every epoch known here, and is on disk before it is said.
Spec        Redis Cluster specification, "Configuration epoch"; Redis 7.0.15,
            clusterBumpConfigEpochWithoutConsensus(), clusterHandleConfigEpochCollision().
"""

from __future__ import annotations

from cluster.gossip.context import SAVE_FSYNC, Context
from cluster.gossip.effects import LogLevel
from cluster.gossip.messages import Header
from cluster.gossip.state import Node


def bump_without_consensus(ctx: Context) -> bool:
    """Make my config epoch the greatest of all; False if it already is."""
    state, myself = ctx.state, ctx.state.myself
    if myself.config_epoch and myself.config_epoch == state.max_epoch():
        return False
    _take_next_epoch(ctx)
    ctx.log(LogLevel.WARNING, f"New configEpoch set to {myself.config_epoch}")
    return True


def resolve_collision(ctx: Context, sender: Node, header: Header) -> None:
    """Two masters with one config epoch: the one with the smaller node id moves on.

    Masters start out with equal epochs, and two operators may reshard at once. Both masters act on the same comparison,
    so exactly one of them moves, and the greatest id never does: the epochs end up different.
    """
    myself = ctx.state.myself
    if not (myself.is_master and sender.is_master) or header.config_epoch != myself.config_epoch:
        return
    if sender.config_epoch != myself.config_epoch or sender.node_id <= myself.node_id:
        return
    _take_next_epoch(ctx)
    ctx.log(
        LogLevel.VERBOSE,
        f"WARNING: configEpoch collision with node {sender.node_id}. configEpoch set to {myself.config_epoch}",
    )


def _take_next_epoch(ctx: Context) -> None:
    ctx.state.current_epoch = ctx.state.max_epoch() + 1
    ctx.state.myself.config_epoch = ctx.state.current_epoch
    ctx.todo(SAVE_FSYNC)
