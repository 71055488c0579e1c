"""Questions to the whole cluster: how many keys where, one command to every node, one setting on every node.

Role        The commands ``info``, ``call`` and ``set-timeout``.
Source      clusterManagerShowClusterInfo, clusterManagerCommandCall, clusterManagerCommandSetTimeout and
            cliFormatReplyRaw in redis-cli.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from cluster.admin.connection import ErrorReply, Reply, call, call_int
from cluster.admin.context import Context
from cluster.admin.errors import NodeError, ReplyError, UsageError
from cluster.admin.view import ClusterNode, ClusterView
from cluster.slots.hashing import SLOT_COUNT

SHORTEST_NODE_TIMEOUT_MS = 100
# A command of the person's own choosing may be a slow one.
_CALL_TIMEOUT_S = 600.0


@attrs.frozen
class MasterSummary:
    """One line of ``info``."""

    node: ClusterNode
    key_count: int
    slot_count: int
    replica_count: int


def summarise(view: ClusterView) -> list[MasterSummary]:
    """Ask every master for its number of keys."""
    return [
        MasterSummary(node, call_int(node.link, "DBSIZE"), len(node.slots), node.replica_count) for node in view.masters
    ]


def show_keys(context: Context, view: ClusterView) -> None:
    """Print how keys, slots and replicas are spread over the masters."""
    summaries = summarise(view)
    # Columns are for the eye; a pipe gets redis-cli's exact spacing.
    width = _column_widths(summaries) if context.console.is_terminal else (0, 0, 0)
    for summary in summaries:
        name = f"{summary.node.address} ({summary.node.node_id[:8]}...)"
        context.console.line(
            f"{name:<{width[0]}} -> {summary.key_count:>{width[1]}} keys | "
            f"{summary.slot_count:>{width[2]}} slots | {summary.replica_count} slaves."
        )
    keys = sum(summary.key_count for summary in summaries)
    context.console.ok(f"[OK] {keys} keys in {len(summaries)} masters.")
    context.console.line(f"{keys / SLOT_COUNT:.2f} keys per slot on average.")


def _column_widths(summaries: Sequence[MasterSummary]) -> tuple[int, int, int]:
    return (
        max(len(f"{summary.node.address} ({summary.node.node_id[:8]}...)") for summary in summaries),
        max(len(str(summary.key_count)) for summary in summaries),
        max(len(str(summary.slot_count)) for summary in summaries),
    )


def call_everywhere(
    context: Context, view: ClusterView, command: Sequence[str], is_wanted: Callable[[ClusterNode], bool]
) -> bool:
    """Send one command to every node that ``is_wanted`` and print the replies; False when one of them failed."""
    console = context.console
    console.info(">>> Calling " + " ".join(command))
    all_well = True
    for node in view.nodes:
        if not is_wanted(node):
            continue
        try:
            node.link.send(*command)
            reply = node.link.receive(_CALL_TIMEOUT_S)
        except NodeError as error:
            console.line(f"{node.address}: Failed!")
            console.complain(str(error))
            all_well = False
        else:
            console.line(f"{node.address}: {raw_text(reply)}")
            all_well = all_well and not isinstance(reply, ErrorReply)
    return all_well


def raw_text(reply: Reply) -> str:
    """A reply the way ``redis-cli --raw`` shows it."""
    if reply is None:
        return ""
    if isinstance(reply, ErrorReply):
        return f"{reply}\n"
    if isinstance(reply, bytes):
        return reply.decode("utf-8", "surrogateescape")
    if isinstance(reply, bool):
        return "(true)" if reply else "(false)"
    if isinstance(reply, list):
        return "\n".join(raw_text(element) for element in reply)
    if isinstance(reply, dict):
        return "\n".join(f"{raw_text(key)} {raw_text(value)}" for key, value in reply.items())
    return str(reply)


def set_node_timeout(context: Context, view: ClusterView, timeout_ms: int) -> bool:
    """Set cluster-node-timeout on every node, now and in its conf file; False when one of them refused."""
    if timeout_ms < SHORTEST_NODE_TIMEOUT_MS:
        raise UsageError(f"Setting a node timeout of less than {SHORTEST_NODE_TIMEOUT_MS} milliseconds is a bad idea.")
    console = context.console
    console.info(">>> Reconfiguring node timeout in every cluster node...")
    failures = 0
    for node in view.nodes:
        try:
            call(node.link, "CONFIG", "SET", "cluster-node-timeout", timeout_ms)
            call(node.link, "CONFIG", "REWRITE")
        except NodeError as error:
            reason = error.text if isinstance(error, ReplyError) else str(error)
            console.error(f"ERR setting node-timeout for {node.address}: {reason}")
            failures += 1
        else:
            console.warn(f"*** New timeout set for {node.address}")
    console.info(f">>> New node timeout set. {len(view.nodes) - failures} OK, {failures} ERR.")
    return failures == 0
