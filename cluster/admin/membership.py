"""Nodes come and go: ``meet``, ``replicate``, ``add-node``, ``del-node``.

Role        Each reads the cluster, refuses what cannot work, acts, and waits until the cluster itself confirms it.
Invariants  A node with slots is never removed; a node with data or other acquaintances is never added.
Source      clusterManagerCommandAddNode and clusterManagerCommandDeleteNode in redis-cli.c, which has no meet or
            replicate of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.admin.address import Address
from cluster.admin.check import check_cluster
from cluster.admin.connection import call, call_text, info_field
from cluster.admin.context import Context
from cluster.admin.create import connect_empty_node, wait_for_state_ok
from cluster.admin.errors import CannotConnect, Refused, ReplyError
from cluster.admin.join import introduce, meet_command, wait_for_join
from cluster.admin.view import ClusterNode, ClusterView, load_view, read_myself, read_nodes, require_cluster_mode

_ROLE_TIMEOUT_MS = 10_000
_SYNC_SHOWN_MS = 30_000
_POLL_MS = 100


def meet(context: Context, contact: Address, newcomers: Sequence[Address]) -> bool:
    """Make the cluster of ``contact`` and the ``newcomers`` know each other. They bring what they have along."""
    console = context.console
    view = load_view(context, contact)
    nodes: list[ClusterNode] = []
    for address in newcomers:
        link = context.connect(address)
        require_cluster_mode(link)
        nodes.append(read_myself(link))
    console.info(">>> Sending CLUSTER MEET messages to join the cluster")
    introduce(view.contact, nodes)
    # Clusters that meet with overlapping slots settle that by config epoch, which is not for us to wait for.
    wait_for_join(context, [*view.nodes, *nodes], must_agree=False)
    known = sum(not row.is_in_handshake for row in read_nodes(view.contact.link))
    console.ok(f"[OK] {contact} now knows {known} nodes, itself included.")
    return True


def replicate(context: Context, replica: Address, master_name: str) -> bool:
    """Make the node at ``replica`` a replica of a master of its cluster, and see that it follows it."""
    view = load_view(context, replica)
    node = view.contact
    master = view.find(master_name)
    if master is None:
        raise Refused(f"[ERR] No such master ID {master_name}")
    if master.is_replica:
        raise Refused(f"[ERR] Node {master.address} is not a master: it replicates {master.master_id} itself.")
    if node.slots:
        raise Refused(f"[ERR] Node {node.address} is not empty! Reshard data away and try again.")
    configure_replica(context, node, master)
    if not _wait_for_sync(context, node):
        context.console.warn(
            f"*** {node.address} is still copying the data of {master.address}. Follow it with:\n"
            f"      redis-cli -h {node.address.host} -p {node.address.port} INFO replication"
        )
    context.console.ok(f"[OK] {node.address} replicates {master.address}.")
    return True


def configure_replica(context: Context, node: ClusterNode, master: ClusterNode) -> None:
    """CLUSTER REPLICATE, and the node's own word that it took effect."""
    context.console.info(f">>> Configure node as replica of {master.address}.")
    call(node.link, "CLUSTER", "REPLICATE", master.node_id)

    def follows() -> bool:
        return read_myself(node.link).master_id == master.node_id

    if not context.wait_until(follows, _ROLE_TIMEOUT_MS, _POLL_MS, lambda _waited_ms: None):
        raise Refused(f"[ERR] {node.address} did not become a replica of {master.address}.")


def _wait_for_sync(context: Context, node: ClusterNode) -> bool:
    def in_sync() -> bool:
        return info_field(call_text(node.link, "INFO", "replication"), "master_link_status") == "up"

    with context.console.progress("Copying the data", 1) as bar:
        return context.wait_until(in_sync, _SYNC_SHOWN_MS, _POLL_MS, lambda _waited_ms: bar.show(0))


def add_node(context: Context, newcomer: Address, contact: Address, as_replica: bool, master_name: str | None) -> bool:
    """Add an empty node to the cluster of ``contact``, as a master without slots or as a replica."""
    console = context.console
    console.info(f">>> Adding node {newcomer} to cluster {contact}")
    view = load_view(context, contact)
    if not check_cluster(context, view).is_healthy:
        return False
    master = _choose_master(context, view, master_name) if as_replica else None
    try:
        node = connect_empty_node(context, newcomer)
    except CannotConnect as error:
        console.complain(str(error))
        raise Refused(f"[ERR] Sorry, can't connect to node {newcomer}") from None
    if master is None:
        _bring_functions(context, view.contact, node)
    console.info(f">>> Send CLUSTER MEET to node {newcomer} to make it join the cluster.")
    call(node.link, *meet_command(view.contact))
    wait_for_join(context, [*view.nodes, node])
    if master is not None:
        configure_replica(context, node, master)
    # A node that has just joined refuses everything for a moment: without this, a rebalance right after would fail.
    wait_for_state_ok(context, [node])
    console.ok("[OK] New node added correctly.")
    return True


def _choose_master(context: Context, view: ClusterView, name: str | None) -> ClusterNode:
    if name is None:
        master = view.master_with_fewest_replicas()
        context.console.line(f"Automatically selected master {master.address}")
        return master
    named = view.find(name)
    if named is None or named.is_replica:
        raise Refused(f"[ERR] No such master ID {name}")
    return named


def _bring_functions(context: Context, donor: ClusterNode, node: ClusterNode) -> None:
    """A master runs functions like the others; a replica gets them from its master."""
    console = context.console
    console.info(">>> Getting functions from cluster")
    try:
        functions = call(donor.link, "FUNCTION", "DUMP")
    except ReplyError as error:
        console.info(
            ">>> Failed retrieving Functions from the cluster, skip this step as Redis version do not support function "
            f"command (error = '{error.text}')"
        )
        return
    console.info(f">>> Send FUNCTION LIST to {node.address} to verify there is no functions in it")
    if call(node.link, "FUNCTION", "LIST"):
        raise Refused(
            ">>> New node already contains functions and can not be added to the cluster. Use FUNCTION FLUSH and try "
            "again."
        )
    console.info(f">>> Send FUNCTION RESTORE to {node.address}")
    call(node.link, "FUNCTION", "RESTORE", functions)


def delete_node(context: Context, contact: Address, name: str) -> bool:
    """Make every node forget an empty one, and that one forget the cluster."""
    console = context.console
    console.info(f">>> Removing node {name} from cluster {contact}")
    view = load_view(context, contact)
    node = view.find(name)
    if node is None:
        raise Refused(f"[ERR] No such node ID {name}")
    if node.slots:
        raise Refused(f"[ERR] Node {node.address} is not empty! Reshard data away and try again.")
    console.info(">>> Sending CLUSTER FORGET messages to the cluster...")
    others = [other for other in view.nodes if other is not node]
    for other in others:
        if other.master_id == node.node_id:
            master = min((m for m in view.masters if m is not node), key=lambda m: m.replica_count)
            console.info(f">>> {other.address} as replica of {master.address}")
            call(other.link, "CLUSTER", "REPLICATE", master.node_id)
            master.replica_count += 1
        call(other.link, "CLUSTER", "FORGET", node.node_id)
    console.info(">>> Sending CLUSTER RESET SOFT to the deleted node.")
    call(node.link, "CLUSTER", "RESET", "SOFT")
    return True
