"""Votes: a master's part in electing the successor of another.

Invariants  At most one vote per epoch, and at most one in two node timeouts for replicas of the same master. The epoch
            voted in is on disk before the vote leaves.
Spec        Redis Cluster specification, "Masters reply to replica vote request"; Redis 7.0.15,
            clusterSendFailoverAuthIfNeeded().
"""

from __future__ import annotations

from typing import Final

from cluster.gossip import outgoing
from cluster.gossip.context import SAVE_FSYNC, Context
from cluster.gossip.effects import LogLevel
from cluster.gossip.messages import EMPTY, Header, Message, MessageFlags, MessageType
from cluster.gossip.slot_config import newer_owner
from cluster.gossip.state import Link, Node

VOTE_INTERVAL_FACTOR: Final = 2
"""Node timeouts between two votes about one master: a second replica that asks too early would only split the votes."""


def on_vote_request(ctx: Context, candidate: Node | None, message: Message) -> None:
    """Vote for ``candidate``, or log why not."""
    state, header = ctx.state, message.header
    if candidate is None or candidate.is_myself or not state.myself.is_master or not state.myself.slot_count:
        return
    refusal = _refusal(ctx, candidate, header)
    if refusal is not None:
        ctx.log(LogLevel.WARNING, f"Failover auth denied to {candidate.node_id}: {refusal}")
        return
    assert candidate.master is not None
    state.last_vote_epoch = state.current_epoch
    candidate.master.voted_ms = ctx.now_ms
    ctx.todo(SAVE_FSYNC)
    outgoing.send(ctx, (candidate.link,), outgoing.build_header(ctx, MessageType.FAILOVER_AUTH_ACK), EMPTY)
    ctx.log(LogLevel.WARNING, f"Failover auth granted to {candidate.node_id} for epoch {state.current_epoch}")


def _refusal(ctx: Context, candidate: Node, header: Header) -> str | None:
    """Why this request gets no vote, in the order Redis tests; None: it gets one."""
    state, master = ctx.state, candidate.master
    if header.current_epoch < state.current_epoch:
        return f"reqEpoch ({header.current_epoch}) < curEpoch({state.current_epoch})"
    if state.last_vote_epoch == state.current_epoch:
        return f"already voted for epoch {state.current_epoch}"
    if candidate.is_master:
        return "it is a master node"
    if master is None:
        return "I don't know its master"
    if not master.is_fail and MessageFlags.FORCEACK not in header.mflags:
        return "its master is up"
    interval_ms = VOTE_INTERVAL_FACTOR * ctx.node_timeout_ms
    since_vote_ms = ctx.age_ms(master.voted_ms)
    if since_vote_ms < interval_ms:
        return f"can't vote about this master before {interval_ms - since_vote_ms} milliseconds"
    newer = newer_owner(ctx, header.config_epoch, header.slots)
    if newer is not None:
        slot, owner = newer
        return f"slot {slot} epoch ({owner.config_epoch}) > reqEpoch ({header.config_epoch})"
    return None


def register(ctx: Context) -> None:
    """Answer vote requests."""

    def handle(_link: Link, sender: Node | None, message: Message) -> None:
        on_vote_request(ctx, sender, message)

    ctx.handlers[MessageType.FAILOVER_AUTH_REQUEST] = handle
