"""Make a cluster of empty nodes.

Role        Survey the nodes, plan, ask, carry the plan out, check the result.
Invariants  Nothing is changed before the person (or ``--yes``) has accepted the plan. True is returned only when the
            finished cluster passes the check.
Source      clusterManagerCommandCreate in redis-cli.c. Differences: a refused plan and a failed check are no success;
            the wait for the nodes polls ten times a second instead of once; when all is done it is waited until the
            nodes themselves say cluster_state:ok.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from cluster.admin.address import Address, parse_address
from cluster.admin.allocation import (
    MINIMUM_MASTERS,
    SAME_HOST_AS_MASTER,
    CreationPlan,
    NewNode,
    master_count,
    plan_creation,
)
from cluster.admin.check import check_cluster
from cluster.admin.connection import call, call_text, info_field, raise_error
from cluster.admin.context import Context
from cluster.admin.errors import Aborted, AdminError, NodeError, Refused, ReplyError, UsageError
from cluster.admin.join import introduce, wait_for_join
from cluster.admin.node_table import slots_text
from cluster.admin.view import ClusterNode, load_view, read_myself, require_cluster_mode

_STATE_OK_TIMEOUT_MS = 15_000
_STATE_POLL_MS = 100
_START_OVER = (
    "The nodes may be configured in part. To start over, empty each one first:\n"
    "  redis-cli -h <host> -p <port> CLUSTER RESET"
)
_NOT_EMPTY = (
    "is not empty. Either the node already knows other nodes (check with CLUSTER NODES) or contains some key in "
    "database 0."
)


def create_cluster(
    context: Context, texts: Sequence[str], replicas_per_master: int, accept: bool, rng: random.Random
) -> bool:
    """The command ``create``: ``texts`` are the nodes as typed."""
    nodes = survey(context, texts)
    require_enough(nodes, replicas_per_master)
    context.console.info(f">>> Performing hash slots allocation on {len(nodes)} nodes...")
    plan = plan_creation([NewNode(node.address, node.node_id) for node in nodes], replicas_per_master, rng)
    show_plan(context, plan, nodes)
    if not accept and not context.console.confirm("Can I set the above configuration?"):
        raise Aborted("*** Not accepted. Nothing was changed.")
    try:
        carry_out(context, plan, nodes)
    except AdminError as error:
        error.hint = "\n".join(filter(None, (error.hint, _START_OVER)))
        raise
    except KeyboardInterrupt:
        raise Aborted("*** Interrupted.", hint=_START_OVER) from None
    view = load_view(context, nodes[0].address)
    is_healthy = check_cluster(context, view).is_healthy
    wait_for_state_ok(context, nodes)
    return is_healthy


def survey(context: Context, texts: Sequence[str]) -> list[ClusterNode]:
    """Connect to the nodes and refuse those that cannot be part of a new cluster."""
    nodes: list[ClusterNode] = []
    for text in texts:
        address = parse_address(text)
        if address is None:
            raise UsageError(f"Invalid address format: {text}")
        node = connect_empty_node(context, address)
        twin = next((other for other in nodes if other.node_id == node.node_id), None)
        if twin is not None:
            raise Refused(f"[ERR] Node {address} is the same node as {twin.address}.")
        nodes.append(node)
    return nodes


def connect_empty_node(context: Context, address: Address) -> ClusterNode:
    """Connect to a node in cluster mode that knows nobody and holds nothing; refuse any other."""
    link = context.connect(address)
    info = require_cluster_mode(link)
    node = read_myself(link)
    try:
        knows_others = info_field(call_text(link, "CLUSTER", "INFO"), "cluster_known_nodes") != "1"
    except ReplyError as error:
        raise Refused(f"[ERR] Node {address} {error.text}") from None
    if knows_others or info_field(info, "db0") is not None:
        raise Refused(f"[ERR] Node {address} {_NOT_EMPTY}")
    return node


def require_enough(nodes: Sequence[ClusterNode], replicas_per_master: int) -> None:
    """Refuse fewer nodes than three masters with their replicas."""
    if master_count(len(nodes), replicas_per_master) < MINIMUM_MASTERS:
        raise Refused(
            "*** ERROR: Invalid configuration for cluster creation.\n"
            f"*** Redis Cluster requires at least {MINIMUM_MASTERS} master nodes.\n"
            f"*** This is not possible with {len(nodes)} nodes and {replicas_per_master} replicas per node.\n"
            f"*** At least {MINIMUM_MASTERS * (replicas_per_master + 1)} nodes are required."
        )


def show_plan(context: Context, plan: CreationPlan, nodes: Sequence[ClusterNode]) -> None:
    """Print who gets what, in redis-cli's words."""
    console = context.console
    for index, share in enumerate(plan.shares):
        console.line(f"Master[{index}] -> Slots {share.first} - {share.last}")
    for choice in plan.first_choice:
        console.line(f"Adding replica {choice.replica.address} to {choice.master.address}")
    if plan.extra_choice:
        console.line("Adding extra replicas...")
    for choice in plan.extra_choice:
        console.line(f"Adding replica {choice.replica.address} to {choice.master.address}")
    if plan.was_optimised:
        console.info(">>> Trying to optimize slaves allocation for anti-affinity")
        if plan.score == 0:
            console.ok("[OK] Perfect anti-affinity obtained!")
        elif plan.score >= SAME_HOST_AS_MASTER:
            console.warn("[WARNING] Some slaves are in the same host as their master")
        else:
            console.warn("[WARNING] Some slaves of the same master are in the same host")
    for new_node, node in zip(plan.nodes, nodes, strict=True):
        console.line(_describe_planned(plan, new_node, node))


def _describe_planned(plan: CreationPlan, new_node: NewNode, node: ClusterNode) -> str:
    master = plan.master_of(new_node)
    if master is not None:
        return f"S: {new_node.node_id} {new_node.address}\n   replicates {master.node_id}"
    share = plan.share_of(new_node)
    slots = share.slots if share is not None else range(0)
    flags = ",".join(flag for flag in node.flags if flag != "myself")
    return f"M: {new_node.node_id} {new_node.address}\n   slots:{slots_text(slots)} ({len(slots)} slots) {flags}"


def carry_out(context: Context, plan: CreationPlan, nodes: Sequence[ClusterNode]) -> None:
    """Slots and epochs first, while every node is alone; then the meeting; then the replicas."""
    console = context.console
    node_of = {node.node_id: node for node in nodes}
    owners = [node_of[share.master.node_id] for share in plan.shares]
    for owner, share in zip(owners, plan.shares, strict=True):
        owner.link.send("CLUSTER", "ADDSLOTS", *share.slots)
    for owner in owners:
        raise_error(owner.link, owner.link.receive())
    console.info(">>> Nodes configuration updated")

    # Different from the start, the epochs need not be told apart by collision resolution later on.
    console.info(">>> Assign a different config epoch to each node")
    for epoch, node in enumerate(nodes, start=1):
        node.link.send("CLUSTER", "SET-CONFIG-EPOCH", epoch)
    for node in nodes:
        node.link.receive()  # A node that has an epoch already says so and keeps it: no harm.

    console.info(">>> Sending CLUSTER MEET messages to join the cluster")
    introduce(nodes[0], nodes[1:])
    wait_for_join(context, nodes)

    for choice in plan.replicas:
        call(node_of[choice.replica.node_id].link, "CLUSTER", "REPLICATE", choice.master.node_id)


def wait_for_state_ok(context: Context, nodes: Sequence[ClusterNode]) -> bool:
    """Wait until every node serves its slots; until then a client can be told CLUSTERDOWN."""
    with context.console.progress("Starting to serve", len(nodes)) as bar:

        def all_serve() -> bool:
            states = [info_field(call_text(node.link, "CLUSTER", "INFO"), "cluster_state") for node in nodes]
            bar.show(states.count("ok"))
            return states.count("ok") == len(nodes)

        try:
            return context.wait_until(all_serve, _STATE_OK_TIMEOUT_MS, _STATE_POLL_MS, lambda _waited_ms: None)
        except NodeError as error:
            context.console.complain(str(error))
            return False
