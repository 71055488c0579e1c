"""The verdict ``cluster_state``: may this node serve queries?

Role        Evaluates coverage and majority, delays a master's return, and recognises that this process stood still.
Invariants  A master leaves FAIL only when (1) it has been up for WRITABLE_DELAY_MS, (2) it has been in the majority for
            the rejoin delay, and (3) after a restart or a long stall, a majority of masters answered it over links
            made since. Only this module calls ClusterState.set_health.
Source      Redis 7.0.15, clusterUpdateState(). Point (3) is ours: Redis trusts flags that nodes.conf or a stopped
            process preserved, and can serve writes on that strength although it was failed over long ago.
"""

from __future__ import annotations

from typing import Final

from cluster.gossip.context import Context
from cluster.gossip.effects import LogLevel
from cluster.gossip.failure_detector import forgive_own_lateness
from cluster.gossip.links import close_link
from cluster.gossip.state import ClusterHealth, Node, Todo
from cluster.slots.hashing import SLOT_COUNT

REJOIN_DELAY_MS_MAX: Final = 5000
REJOIN_DELAY_MS_MIN: Final = 500
"""Bounds of the node timeout as rejoin delay: orders of magnitude above the network's latency, so that a slot table
that changed meanwhile arrives before the first write is accepted."""
WRITABLE_DELAY_MS: Final = 2000
STALL_MS_MIN: Final = 500
"""However short the node timeout: an election takes longer than this (its fixed delay), and so do some commands."""
EVIDENCE_DELAY_MS: Final = REJOIN_DELAY_MS_MIN
"""After the majority answered: time for the UPDATE that a peer sends over its own link when it sees our old claims."""


def update_health(ctx: Context) -> None:
    """Evaluate the cluster's health anew."""
    state, clock = ctx.state, ctx.state.health_clock
    state.todo &= ~Todo.UPDATE_STATE
    is_master = state.myself.is_master
    voters = [node for node in state.nodes.values() if node.is_master and node.slot_count]
    if not clock.first_evaluated_ms:
        clock.first_evaluated_ms = ctx.now_ms
        # Both delays protect slots that were this node's in a cluster which may have moved on. A node that starts
        # without knowing any owner of slots never had such a past.
        clock.is_newborn = not voters
    is_young = not clock.is_newborn and ctx.age_ms(clock.first_evaluated_ms) < WRITABLE_DELAY_MS
    if is_master and state.health is ClusterHealth.FAIL and is_young:
        return

    state.size = len(voters)
    in_majority = sum(not node.is_suspected for node in voters) >= state.quorum
    if not in_majority and (voters or not clock.is_newborn):
        clock.among_minority_ms = ctx.now_ms
    health = ClusterHealth.OK if in_majority and _is_covered(ctx) else ClusterHealth.FAIL
    if health is state.health:
        return
    if health is ClusterHealth.OK:
        if is_master and not _may_rejoin(ctx, voters):
            return
        clock.evidence_since_ms = 0
    _set_health(ctx, health)


def stall_limit_ms(ctx: Context) -> int:
    """How long this process may stand still before it must doubt what it knows."""
    return max(ctx.node_timeout_ms, STALL_MS_MIN)


def keep_alive(ctx: Context) -> None:
    """Note that the process runs; if it did not for a node timeout, stop serving until the majority was heard.

    In less time than that nobody can have been failed over: a peer is suspected after a node timeout of silence.
    """
    clock = ctx.state.health_clock
    stalled_ms = ctx.now_ms - clock.last_alive_ms
    clock.last_alive_ms = ctx.now_ms
    if stalled_ms >= stall_limit_ms(ctx):
        _doubt_everything(ctx, stalled_ms)


def demand_evidence(ctx: Context) -> None:
    """Believe in no master's health until it answers over a link that is younger than this moment."""
    clock = ctx.state.health_clock
    clock.evidence_since_ms = ctx.now_ms
    clock.evidence_complete_ms = 0
    for node in ctx.state.nodes.values():
        close_link(ctx, node.link)


def _doubt_everything(ctx: Context, stalled_ms: int) -> None:
    state = ctx.state
    forgive_own_lateness(ctx)
    if not state.myself.is_master or not state.myself.slot_count or state.size <= 1:
        return  # Nobody could have voted a successor for this node's slots.
    ctx.log(
        LogLevel.WARNING,
        f"This node stood still for {stalled_ms} milliseconds, longer than cluster-node-timeout "
        f"({ctx.node_timeout_ms}): another one may serve its slots by now. "
        "Waiting for the answers of a majority of masters.",
    )
    state.health_clock.among_minority_ms = ctx.now_ms
    demand_evidence(ctx)
    if state.health is not ClusterHealth.FAIL:
        _set_health(ctx, ClusterHealth.FAIL)


def _set_health(ctx: Context, health: ClusterHealth) -> None:
    ctx.log(LogLevel.WARNING, f"Cluster state changed: {health.name.lower()}")
    ctx.state.set_health(health)


def _is_covered(ctx: Context) -> bool:
    """Whether no slot lacks a working owner, or that does not matter."""
    if not ctx.settings.cluster_require_full_coverage:
        return True
    return sum(node.slot_count for node in ctx.state.nodes.values() if not node.is_fail) == SLOT_COUNT


def _may_rejoin(ctx: Context, voters: list[Node]) -> bool:
    """Whether a master has been back in the majority, and has known so for certain, for long enough."""
    rejoin_delay_ms = min(max(ctx.node_timeout_ms, REJOIN_DELAY_MS_MIN), REJOIN_DELAY_MS_MAX)
    has_evidence = _has_evidence(ctx, voters)
    return has_evidence and ctx.age_ms(ctx.state.health_clock.among_minority_ms) >= rejoin_delay_ms


def _has_evidence(ctx: Context, voters: list[Node]) -> bool:
    """Whether a majority of masters has answered over young links, if that is demanded, and a moment has passed."""
    clock = ctx.state.health_clock
    if not clock.evidence_since_ms:
        return True
    heard = sum(node.is_myself or node.answered_link_created_ms >= clock.evidence_since_ms for node in voters)
    if heard < ctx.state.quorum:
        clock.evidence_complete_ms = 0
        return False
    clock.evidence_complete_ms = clock.evidence_complete_ms or ctx.now_ms
    return ctx.age_ms(clock.evidence_complete_ms) >= EVIDENCE_DELAY_MS
