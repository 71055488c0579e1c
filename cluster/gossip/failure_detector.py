"""Failure detection: from "I cannot reach it" (PFAIL) to "we agree it is down" (FAIL), and back.

Role        Turns unanswered pings into PFAIL and the failure reports heard in gossip into FAIL; takes both back.
Invariants  FAIL is declared here only while this node itself holds the peer as PFAIL and a quorum of masters does too
            (it may also come in a FAIL message of somebody who found so). A failure report lives two node timeouts.
            Lateness of this process is never evidence against a peer: see forgive_own_lateness.
Spec        Redis Cluster specification, "Failure detection"; Redis 7.0.15, markNodeAsFailingIfNeeded(),
            clearNodeFailureIfNeeded(), clusterNodeAddFailureReport() and the last loop of clusterCron().
"""

from __future__ import annotations

from typing import Final

from cluster.gossip.context import SAVE_UPDATE, Context
from cluster.gossip.effects import LogLevel
from cluster.gossip.outgoing import broadcast_fail
from cluster.gossip.state import Node, NodeFlags

REPORT_VALIDITY_FACTOR: Final = 2
"""A failure report counts for this many node timeouts: gossip takes several rounds to reach everybody."""
FAIL_UNDO_FACTOR: Final = 2
"""A master that is back but was not replaced stays FAIL for this many node timeouts: time for a failover to happen."""


def add_failure_report(ctx: Context, about: Node, reporter: Node) -> bool:
    """``reporter`` holds ``about`` as failing; False if it had already said so."""
    is_new = reporter not in about.fail_reports
    about.fail_reports[reporter] = ctx.now_ms
    return is_new


def remove_failure_report(about: Node, reporter: Node) -> bool:
    """``reporter`` reaches ``about``; False if it never said otherwise."""
    return about.fail_reports.pop(reporter, None) is not None


def count_failure_reports(ctx: Context, node: Node) -> int:
    """How many masters, this node not counted, recently said that ``node`` is failing."""
    if node.fail_reports:
        oldest_ms = ctx.now_ms - REPORT_VALIDITY_FACTOR * ctx.node_timeout_ms
        for reporter in [reporter for reporter, at_ms in node.fail_reports.items() if at_ms < oldest_ms]:
            del node.fail_reports[reporter]
    return len(node.fail_reports)


def mark_failing_if_quorum(ctx: Context, node: Node) -> None:
    """Turn PFAIL into FAIL, and say so, once a majority of masters (this one included) hold the node as failing."""
    if not node.is_pfail or node.is_fail:
        return
    reports = count_failure_reports(ctx, node) + ctx.state.myself.is_master
    if reports < ctx.state.quorum:
        return
    ctx.log(LogLevel.NOTICE, f"Marking node {node.node_id} as failing (quorum reached).")
    set_fail(ctx, node)
    # A replica spreads the verdict too: it rests on reports of masters, whoever counts them.
    broadcast_fail(ctx, node)


def set_fail(ctx: Context, node: Node) -> None:
    """Hold ``node`` as FAIL from now on."""
    node.flags = (node.flags & ~NodeFlags.PFAIL) | NodeFlags.FAIL
    node.fail_since_ms = ctx.now_ms
    ctx.todo(SAVE_UPDATE)


def clear_suspicion(ctx: Context, node: Node) -> None:
    """``node`` answered a ping: PFAIL is over, FAIL may be."""
    if node.is_pfail:
        node.flags &= ~NodeFlags.PFAIL
        ctx.todo(SAVE_UPDATE)
    elif node.is_fail:
        _clear_fail_if_allowed(ctx, node)


def suspect_if_silent(ctx: Context, node: Node) -> bool:
    """Turn a ping that stayed unanswered for a node timeout into PFAIL; True if that is new.

    Any message is a sign of life, since a busy bus delays PONGs.
    """
    silent_ms = min(ctx.age_ms(node.ping_sent_ms), ctx.age_ms(node.data_received_ms))
    if silent_ms <= ctx.node_timeout_ms or node.is_suspected:
        return False
    ctx.log(LogLevel.DEBUG, f"*** NODE {node.node_id} possibly failing")
    node.flags |= NodeFlags.PFAIL
    ctx.state.pfail_nodes += 1
    if node.fail_reports:
        # Redis waits for the next report to count them; they are all here already.
        mark_failing_if_quorum(ctx, node)
    return True


def forgive_own_lateness(ctx: Context) -> None:
    """This process stood still: what it did not read in that time says nothing about its peers. Wait afresh."""
    for node in ctx.state.nodes.values():
        if node.ping_sent_ms:
            node.ping_sent_ms = ctx.now_ms


def _clear_fail_if_allowed(ctx: Context, node: Node) -> None:
    if node.is_replica or not node.slot_count:
        kind = "replica" if node.is_replica else "master without slots"
        reason = f"{kind} is reachable again."
    elif ctx.age_ms(node.fail_since_ms) > FAIL_UNDO_FACTOR * ctx.node_timeout_ms:
        reason = "is reachable again and nobody is serving its slots after some time."
    else:
        return
    ctx.log(LogLevel.NOTICE, f"Clear FAIL state for node {node.node_id}: {reason}")
    node.flags &= ~NodeFlags.FAIL
    ctx.todo(SAVE_UPDATE)
