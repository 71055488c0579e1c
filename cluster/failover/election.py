"""Elections: how a replica replaces its failed master.

Role        Decides whether this replica may stand, when it asks for votes, and what winning means.
Invariants  Votes are asked for once per election, in a new epoch that is on disk before the request leaves. Only votes
            of masters with slots, given in exactly that epoch and for this election, count; only a majority wins.
Spec        Redis Cluster specification, "Replica election and promotion"; Redis 7.0.15, clusterHandleSlaveFailover(),
            clusterGetSlaveRank(), clusterLogCantFailover(), clusterFailoverReplaceYourMaster().
Units       All delays in milliseconds. DELAY = 500 + random 0…499 + rank * 1000.
"""

from __future__ import annotations

from typing import Final

from cluster.failover import manual
from cluster.gossip import health, outgoing
from cluster.gossip.context import SAVE_UPDATE_FSYNC, Context
from cluster.gossip.effects import LogLevel, StopReplication
from cluster.gossip.messages import EMPTY, NO_MESSAGE_FLAGS, Message, MessageFlags, MessageType
from cluster.gossip.state import CantFailover, ElectionState, Link, Node, Todo
from cluster.slots.ranges import bitmap_to_slots

FIXED_DELAY_MS: Final = 500
"""Time for FAIL to reach the voters: who asks earlier is refused, since "its master is up"."""
RANDOM_DELAY_MS: Final = 500
"""Spread over this, replicas of one master hardly ever ask at once."""
RANK_DELAY_MS: Final = 1000
"""Per sibling that has more data: the best informed one asks first."""
VOTE_TIMEOUT_FACTOR: Final = 2
VOTE_TIMEOUT_MS_MIN: Final = 2000
RETRY_FACTOR: Final = 2

LOG_QUIET_MS: Final = 5000
"""Beyond the node timeout: a failover that takes its normal course does not log why it waits."""
RELOG_MS: Final = 300_000

_REASONS: Final[dict[CantFailover, str]] = {
    CantFailover.NONE: "Unknown reason code.",
    CantFailover.DATA_AGE: "Disconnected from master for longer than allowed. "
    "Please check the 'cluster-replica-validity-factor' configuration option.",
    CantFailover.WAITING_DELAY: "Waiting the delay before I can start a new failover.",
    CantFailover.EXPIRED: "Failover attempt expired.",
    CantFailover.WAITING_VOTES: "Waiting for votes, but majority still not reached.",
}


def advance(ctx: Context) -> None:
    """Take this replica's election one step further, if there is reason for one."""
    ctx.state.todo &= ~Todo.HANDLE_FAILOVER
    election, master = ctx.state.election, ctx.state.myself.master
    is_manual = bool(ctx.state.manual.end_ms) and ctx.state.manual.can_start
    has_foreign_data = _has_foreign_data(ctx)
    if not _has_reason(ctx, master, is_manual):
        election.cant_failover = CantFailover.NONE
        return
    if not is_manual and (has_foreign_data or _is_data_too_old(ctx)):
        _log_cant_failover(ctx, CantFailover.DATA_AGE)
        return

    vote_timeout_ms = max(VOTE_TIMEOUT_FACTOR * ctx.node_timeout_ms, VOTE_TIMEOUT_MS_MIN)
    age_ms = ctx.age_ms(election.start_ms)
    if age_ms > RETRY_FACTOR * vote_timeout_ms:
        _schedule(ctx)
        return
    if not election.is_requested and not ctx.state.manual.end_ms:
        _yield_to_better_siblings(ctx)
    if ctx.now_ms < election.start_ms:
        _log_cant_failover(ctx, CantFailover.WAITING_DELAY)
    elif age_ms > vote_timeout_ms:
        _log_cant_failover(ctx, CantFailover.EXPIRED)
    elif not election.is_requested:
        _request_votes(ctx)
    elif len(election.voters) >= ctx.state.quorum:
        _win(ctx)
    else:
        _log_cant_failover(ctx, CantFailover.WAITING_VOTES)


def on_vote(ctx: Context, voter: Node | None, message: Message) -> None:
    """A master answered our request for votes.

    A vote's header says the epoch it was given in. Redis also counts a vote of an earlier election that comes late,
    between scheduling the next one and asking for votes: two candidates could then win with one master's vote.
    """
    election = ctx.state.election
    if voter is None or not voter.is_master or not voter.slot_count:
        return
    if election.is_requested and message.header.current_epoch == election.epoch:
        election.voters.add(voter)
        ctx.todo(Todo.HANDLE_FAILOVER)


def abandon(ctx: Context) -> None:
    """The votes were for replacing a master that is not mine (any more): they must not serve to replace another."""
    ctx.state.election = ElectionState(epoch=ctx.state.election.epoch)


def replace_my_master(ctx: Context) -> None:
    """Become the master of this shard. The caller has seen to the config epoch under which that is claimed."""
    state, myself, old_master = ctx.state, ctx.state.myself, ctx.state.myself.master
    if myself.is_master or old_master is None:
        return
    state.turn_into_master(myself)
    ctx.emit(StopReplication())
    for slot in bitmap_to_slots(old_master.slots):
        ctx.assign_slot(slot, myself)
    # Whoever made us master has just vouched for the present; see health.py.
    state.health_clock.evidence_since_ms = 0
    health.update_health(ctx)
    ctx.todo(SAVE_UPDATE_FSYNC)
    outgoing.broadcast_pong(ctx)
    manual.reset(ctx)
    abandon(ctx)


def my_rank(ctx: Context) -> int:
    """How many replicas of my master that may stand have processed more of its stream than I have."""
    myself = ctx.state.myself
    if myself.master is None:
        return 0
    my_offset = ctx.facts.replication_offset()
    siblings = [node for node in myself.master.replicas if node is not myself and not node.is_nofailover]
    return sum(node.repl_offset > my_offset for node in siblings)


def register(ctx: Context) -> None:
    """Take part in gossip's steps."""

    def handle(_link: Link, sender: Node | None, message: Message) -> None:
        on_vote(ctx, sender, message)

    ctx.handlers[MessageType.FAILOVER_AUTH_ACK] = handle
    ctx.hooks.on_new_master.append(lambda: abandon(ctx))


def _has_reason(ctx: Context, master: Node | None, is_manual: bool) -> bool:
    """A replica of a master with slots, which is FAIL and for which we may stand; or an operator said so."""
    if ctx.state.myself.is_master or master is None or not master.slot_count:
        return False
    return is_manual or (master.is_fail and not ctx.settings.cluster_replica_no_failover)


def _has_foreign_data(ctx: Context) -> bool:
    """Whether this replica came from another shard and has never been in sync with its new master."""
    if ctx.state.has_foreign_data and ctx.facts.is_in_sync():
        ctx.state.has_foreign_data = False
    return ctx.state.has_foreign_data


def _is_data_too_old(ctx: Context) -> bool:
    factor = ctx.settings.cluster_replica_validity_factor
    if not factor:
        return False
    data_age_ms = ctx.facts.master_link_age_ms(ctx.now_ms)
    if data_age_ms > ctx.node_timeout_ms:
        data_age_ms -= ctx.node_timeout_ms  # The link had to be down for that long before the master was FAIL.
    return data_age_ms > ctx.settings.repl_ping_replica_period * 1000 + ctx.node_timeout_ms * factor


def _schedule(ctx: Context) -> None:
    """Set the time of the next election, and tell the siblings my offset so that they know their ranks."""
    election = ctx.state.election
    election.is_requested = False
    if ctx.state.manual.end_ms:
        election.rank = 0
        election.start_ms = ctx.now_ms
        ctx.todo(Todo.HANDLE_FAILOVER)
    else:
        election.rank = my_rank(ctx)
        delay_ms = FIXED_DELAY_MS + ctx.rng.randrange(RANDOM_DELAY_MS) + election.rank * RANK_DELAY_MS
        election.start_ms = ctx.now_ms + delay_ms
    ctx.log(
        LogLevel.WARNING,
        f"Start of election delayed for {election.start_ms - ctx.now_ms} milliseconds "
        f"(rank #{election.rank}, offset {ctx.facts.replication_offset()}).",
    )
    outgoing.pong_replicas_of_my_shard(ctx)


def _yield_to_better_siblings(ctx: Context) -> None:
    election, rank = ctx.state.election, my_rank(ctx)
    if rank > election.rank:
        delay_ms = (rank - election.rank) * RANK_DELAY_MS
        election.start_ms += delay_ms
        election.rank = rank
        text = f"Replica rank updated to #{rank}, added {delay_ms} milliseconds of delay."
        ctx.log(LogLevel.WARNING, text)


def _request_votes(ctx: Context) -> None:
    state, election = ctx.state, ctx.state.election
    state.current_epoch += 1
    election.epoch = state.current_epoch
    ctx.log(LogLevel.WARNING, f"Starting a failover election for epoch {election.epoch}.")
    # Masters vote against a master that is up only if the operator wants it.
    mflags = MessageFlags.FORCEACK if state.manual.end_ms else NO_MESSAGE_FLAGS
    header = outgoing.build_header(ctx, MessageType.FAILOVER_AUTH_REQUEST, mflags)
    outgoing.broadcast(ctx, header, EMPTY)
    election.is_requested = True
    election.voters = set()
    ctx.todo(SAVE_UPDATE_FSYNC)


def _win(ctx: Context) -> None:
    myself, election = ctx.state.myself, ctx.state.election
    ctx.log(LogLevel.WARNING, "Failover election won: I'm the new master.")
    if myself.config_epoch < election.epoch:
        myself.config_epoch = election.epoch
        ctx.log(LogLevel.WARNING, f"configEpoch set to {election.epoch} after successful failover")
    replace_my_master(ctx)


def _log_cant_failover(ctx: Context, reason: CantFailover) -> None:
    """Log why the failover does not get on: when the reason changes or every few minutes, once it takes long."""
    election, master = ctx.state.election, ctx.state.myself.master
    if reason is election.cant_failover and ctx.age_ms(election.cant_failover_logged_ms) < RELOG_MS:
        return
    election.cant_failover = reason
    if master is not None and master.is_fail and ctx.age_ms(master.fail_since_ms) < ctx.node_timeout_ms + LOG_QUIET_MS:
        return
    election.cant_failover_logged_ms = ctx.now_ms
    ctx.log(LogLevel.WARNING, f"Currently unable to failover: {_REASONS[reason]}")
