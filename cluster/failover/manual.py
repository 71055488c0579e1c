"""Manual failover: a replica takes over from a master that is up, without losing a write.

Role        On the replica: ask the master to pause, wait until its stream is processed up to the offset where that
            was, then let the election begin. On the master: pause writes and say so.
Invariants  ``state.manual`` is written only here. A failover that does not finish within MANUAL_FAILOVER_TIMEOUT_MS is
            given up, and the master's clients go on.
Spec        Redis 7.0.15, "CLUSTER manual failover" in cluster.c: resetManualFailover(), clusterHandleManualFailover(),
            manualFailoverCheckTimeout(), and the MFSTART branch of clusterProcessPacket().
"""

from __future__ import annotations

from typing import Final

from cluster.gossip import outgoing
from cluster.gossip.context import Context
from cluster.gossip.effects import LogLevel, PauseClients, UnpauseClients
from cluster.gossip.messages import EMPTY, Header, Message, MessageFlags, MessageType
from cluster.gossip.state import Link, ManualFailoverState, Node, Todo

MANUAL_FAILOVER_TIMEOUT_MS: Final = 5000
PAUSE_FACTOR: Final = 2
"""The master pauses for this many time-outs, so that it does not resume before the replica has given up."""


def start(ctx: Context) -> None:
    """On the replica: a manual failover begins, instead of any that is under way."""
    reset(ctx)
    ctx.state.manual.end_ms = ctx.now_ms + MANUAL_FAILOVER_TIMEOUT_MS


def ask_master_to_pause(ctx: Context, master: Node) -> None:
    """On the replica: the master shall stop accepting writes and tell its offset."""
    outgoing.send(ctx, (master.link,), outgoing.build_header(ctx, MessageType.MFSTART), EMPTY)


def reset(ctx: Context) -> None:
    """No manual failover is in progress (any more), on either side."""
    if ctx.state.manual.replica is not None:
        ctx.emit(UnpauseClients())
    ctx.state.manual = ManualFailoverState()


def check_timeout(ctx: Context) -> None:
    """Give up one that takes too long."""
    if ctx.state.manual.end_ms and ctx.state.manual.end_ms < ctx.now_ms:
        ctx.log(LogLevel.WARNING, "Manual failover timed out.")
        reset(ctx)


def advance(ctx: Context) -> None:
    """On the replica: let the election begin once the stream is processed up to where the master paused."""
    manual = ctx.state.manual
    if not manual.end_ms or manual.can_start or manual.master_offset == -1:
        return
    if manual.master_offset == ctx.facts.replication_offset():
        manual.can_start = True
        ctx.log(LogLevel.WARNING, "All master replication stream processed, manual failover can start.")
        ctx.todo(Todo.HANDLE_FAILOVER)
    else:
        ctx.todo(Todo.HANDLE_MANUAL_FAILOVER)


def on_header(ctx: Context, sender: Node, header: Header) -> None:
    """On the replica: the master's first message flagged as paused carries the offset to wait for."""
    manual, myself = ctx.state.manual, ctx.state.myself
    if not manual.end_ms or manual.master_offset != -1 or not myself.is_replica or myself.master is not sender:
        return
    if MessageFlags.PAUSED in header.mflags:
        manual.master_offset = header.repl_offset
        ctx.todo(Todo.HANDLE_MANUAL_FAILOVER)
        ctx.log(
            LogLevel.WARNING,
            f"Received replication offset for paused master manual failover: {manual.master_offset}",
        )


def on_pause_request(ctx: Context, link: Link, sender: Node | None) -> None:
    """On the master: one of my replicas asks for the pause (MFSTART)."""
    if sender is None or sender.master is not ctx.state.myself:
        return
    reset(ctx)
    ctx.state.manual.end_ms = ctx.now_ms + MANUAL_FAILOVER_TIMEOUT_MS
    ctx.state.manual.replica = sender
    ctx.emit(PauseClients(ctx.now_ms + PAUSE_FACTOR * MANUAL_FAILOVER_TIMEOUT_MS))
    ctx.log(LogLevel.WARNING, f"Manual failover requested by replica {sender.node_id}.")
    # The header now says PAUSED and the offset: the replica need not wait for the next tick.
    outgoing.send_ping(ctx, link, MessageType.PING)


def register(ctx: Context) -> None:
    """Take part in gossip's steps."""

    def handle(link: Link, sender: Node | None, _message: Message) -> None:
        on_pause_request(ctx, link, sender)

    ctx.handlers[MessageType.MFSTART] = handle
    ctx.hooks.on_header.append(lambda sender, header: on_header(ctx, sender, header))
    ctx.hooks.on_new_master.append(lambda: reset(ctx))
