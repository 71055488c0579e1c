"""The cluster as seen through one of its nodes: every node that answers, each asked about itself.

Role        Loads what the operations work on. A node's role, slots and open slots are what the node itself says.
Invariants  The contact node is first; no node is listed twice; every node listed has answered. Masters that did not
            answer are counted in ``unreachable_masters``.
Source      clusterManagerLoadInfoFromNode and clusterManagerNodeInfo in redis-cli.c.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from cluster.admin.address import Address
from cluster.admin.connection import Link, call_text, info_field
from cluster.admin.context import Context
from cluster.admin.errors import AdminError, CannotConnect, ConnectionLost, Refused, ReplyError, UnexpectedReply
from cluster.admin.node_table import NodeRow, ownership, parse_nodes, slots_text

# A prefix of a node id is accepted for the id from this length on.
SHORTEST_ID_PREFIX = 4
# Short: a cluster with stopped or cut-off nodes is exactly what one wants to look at, without waiting for each of them.
_LOOK_TIMEOUT_S = 5.0


@attrs.define(eq=False)
class ClusterNode:
    """One node that answers: the connection to it and what it says of itself."""

    link: Link
    node_id: str
    bus_port: int
    flags: tuple[str, ...]
    master_id: str | None
    config_epoch: int
    slots: set[int]
    migrating: dict[int, str]
    importing: dict[int, str]
    replica_count: int = 0

    @classmethod
    def from_row(cls, link: Link, row: NodeRow) -> ClusterNode:
        """The node behind ``link``, from its own row in CLUSTER NODES."""
        return cls(
            link=link,
            node_id=row.node_id,
            bus_port=row.bus_port,
            flags=row.flags,
            master_id=row.master_id if row.is_replica else None,
            config_epoch=row.config_epoch,
            slots=row.slots,
            migrating=dict(row.migrating),
            importing=dict(row.importing),
        )

    @property
    def address(self) -> Address:
        return self.link.address

    @property
    def is_replica(self) -> bool:
        return "slave" in self.flags

    @property
    def is_master(self) -> bool:
        return not self.is_replica


@attrs.define
class ClusterView:
    """The nodes that answered, in the order in which the contact node lists them."""

    nodes: list[ClusterNode]
    unreachable_masters: int = 0

    @property
    def contact(self) -> ClusterNode:
        return self.nodes[0]

    @property
    def masters(self) -> list[ClusterNode]:
        return [node for node in self.nodes if node.is_master]

    def by_id(self, node_id: str) -> ClusterNode | None:
        """The node with exactly this id, in whatever case."""
        node_id = node_id.lower()
        return next((node for node in self.nodes if node.node_id == node_id), None)

    def find(self, name: str) -> ClusterNode | None:
        """The node that a person means: by id, by ``host:port``, or by the beginning of an id if only one has it."""
        found = self.by_id(name) or next((node for node in self.nodes if str(node.address) == name), None)
        if found is None and len(name) >= SHORTEST_ID_PREFIX:
            matches = [node for node in self.nodes if node.node_id.startswith(name.lower())]
            found = matches[0] if len(matches) == 1 else None
        return found

    def covered_slots(self) -> set[int]:
        """The slots that some node claims."""
        return set().union(*(node.slots for node in self.nodes))

    def master_with_fewest_replicas(self) -> ClusterNode:
        """Where one more replica is wanted most; the first of several equals."""
        return min(self.masters, key=lambda node: node.replica_count)


def read_nodes(link: Link) -> list[NodeRow]:
    """Ask a node for its view of the cluster."""
    text = call_text(link, "CLUSTER", "NODES", timeout_s=_LOOK_TIMEOUT_S)
    try:
        return parse_nodes(text)
    except ValueError:
        raise UnexpectedReply(link.address, "CLUSTER NODES") from None


def read_myself(link: Link) -> ClusterNode:
    """Ask a node about itself."""
    return ClusterNode.from_row(link, next(row for row in read_nodes(link) if row.is_myself))


def require_cluster_mode(link: Link) -> str:
    """Refuse a node that does not run in cluster mode (or does not let us ask); return its INFO."""
    try:
        info = call_text(link, "INFO", timeout_s=_LOOK_TIMEOUT_S)
    except ReplyError as error:
        raise Refused(f"[ERR] Node {link.address} {error.text}") from None
    if info_field(info, "cluster_enabled") != "1":
        raise Refused(
            f"[ERR] Node {link.address} is not configured as a cluster node.",
            hint="Start it with 'cluster-enabled yes' in its redis.conf.",
        )
    return info


def load_view(context: Context, contact: Address) -> ClusterView:
    """Load the cluster that ``contact`` belongs to. Nodes that do not answer are named, and left out."""
    link = context.connect(contact)
    require_cluster_mode(link)
    rows = read_nodes(link)
    first = ClusterNode.from_row(link, next(row for row in rows if row.is_myself))
    view = ClusterView([first])
    for row in rows:
        if row.is_myself:
            continue
        node = _load_friend(context, row)
        if node is None:
            view.unreachable_masters += not row.is_replica
        elif view.by_id(node.node_id) is None:
            view.nodes.append(node)
    _count_replicas(context, view)
    return view


def _load_friend(context: Context, row: NodeRow) -> ClusterNode | None:
    """Connect to a node that another knows of; None, after saying why, when it cannot be had."""
    if not row.host or not row.port:
        return None
    address = Address(row.host, row.port)
    try:
        node = read_myself(context.connect(address))
    except (CannotConnect, ConnectionLost) as error:
        context.console.complain(str(error))
    except AdminError as error:
        if isinstance(error, ReplyError):
            context.console.error(str(error))
        context.console.error(f"[ERR] Unable to load info for node {address}")
    else:
        if "fail" not in row.flags:
            return node
        context.console.warn(f"*** WARNING: {address} answers, but is marked as failed in the cluster.")
    return None


def _count_replicas(context: Context, view: ClusterView) -> None:
    for node in view.nodes:
        if node.master_id is None:
            continue
        master = view.by_id(node.master_id)
        if master is None:
            context.console.warn(f"*** WARNING: {node.address} claims to be slave of unknown node ID {node.master_id}.")
        else:
            master.replica_count += 1


def nodes_agree(nodes: Iterable[ClusterNode]) -> bool:
    """Whether all nodes have the same idea of who owns which slot. One node alone agrees with itself."""
    nodes = list(nodes)
    if len(nodes) <= 1:
        return True
    views = {ownership(read_nodes(node.link)) for node in nodes}
    return len(views) == 1 and views != {frozenset()}


def describe_node(node: ClusterNode, indent: int = 0) -> str:
    """The two or three lines that redis-cli prints for a node."""
    margin = " " * indent
    letter = "M" if node.is_master else "S"
    flags = ",".join(flag for flag in node.flags if flag != "myself")
    lines = [
        f"{margin}{letter}: {node.node_id} {node.address}",
        f"{margin}   slots:{slots_text(node.slots)} ({len(node.slots)} slots) {flags}",
    ]
    if node.master_id is not None:
        lines.append(f"{margin}   replicates {node.master_id}")
    elif node.replica_count:
        lines.append(f"{margin}   {node.replica_count} additional replica(s)")
    return "\n".join(lines)
