"""Who belongs to the cluster and where they are: handshakes, news of third nodes, changed addresses, removals.

Invariants  A node enters the table by an operator's MEET, by a MEET message, or by gossip of a node that is in it
            already; never by gossip of a stranger, and not while its id is forgotten. Text that came over the wire
            enters the table only if it could be an address or hostname: nodes.conf is drawn from the table.
Spec        Redis Cluster specification, "Node handshake"; Redis 7.0.15, clusterStartHandshake(),
            clusterProcessGossipSection(), nodeUpdateAddressIfNeeded(), clusterBlacklist*(), clusterDelNode().
"""

from __future__ import annotations

from typing import Final

from cluster.gossip.context import Context
from cluster.gossip.effects import LogLevel, StartReplication
from cluster.gossip.failure_detector import (
    add_failure_report,
    count_failure_reports,
    mark_failing_if_quorum,
    remove_failure_report,
)
from cluster.gossip.links import close_link
from cluster.gossip.messages import Gossip, GossipEntry, Header
from cluster.gossip.state import Link, Node, NodeFlags, new_node_id
from cluster.slots.ranges import bitmap_to_slots, is_node_id

FORGET_MS: Final = 60_000
"""Time for an operator to send CLUSTER FORGET to every node before gossip may bring the node back."""
HOST_LENGTH_MAX: Final = 45
HOSTNAME_LENGTH_MAX: Final = 255
PONG_FUTURE_TOLERANCE_MS: Final = 500

_HOST_EXTRAS: Final = frozenset(".:-_%")
_SUSPECTED: Final = NodeFlags.PFAIL | NodeFlags.FAIL
_TRUSTED_FROM_GOSSIP: Final = NodeFlags.PFAIL | NodeFlags.FAIL | NodeFlags.MIGRATE_TO | NodeFlags.NOFAILOVER
"""Besides the role, of which a hostile entry may claim two."""


def is_host(text: str) -> bool:
    """Whether ``text`` can be an announced address: an IP, or the name some put into cluster-announce-ip."""
    return (
        0 < len(text) <= HOST_LENGTH_MAX
        and text.isascii()
        and all(char.isalnum() or char in _HOST_EXTRAS for char in text)
    )


def is_hostname(text: str) -> bool:
    """Whether ``text`` can be an announced hostname: letters, digits, hyphens and dots."""
    return len(text) <= HOSTNAME_LENGTH_MAX and text.isascii() and all(char.isalnum() or char in "-." for char in text)


def role_of(flags: NodeFlags) -> NodeFlags:
    """The role that flags from the wire state: MASTER or SLAVE, never both, perhaps none."""
    return NodeFlags.MASTER if NodeFlags.MASTER in flags else flags & NodeFlags.SLAVE


# -- entering -------------------------------------------------------------------------------------


def start_handshake(ctx: Context, ip: str, port: int, cport: int, *, with_meet: bool, pport: int = 0) -> Node | None:
    """Note a peer whose id is still unknown; the tick connects to it. None if one for this address is under way.

    ``with_meet``: ask it to add us too (it did not ask us).
    """
    for node in ctx.state.nodes.values():
        if node.in_handshake and node.ip.lower() == ip.lower() and node.port == port and node.cport == cport:
            return None
    flags = NodeFlags.HANDSHAKE | NodeFlags.MEET if with_meet else NodeFlags.HANDSHAKE
    node = Node(new_node_id(ctx.rng), flags, created_ms=ctx.now_ms, ip=ip, port=port, pport=pport, cport=cport)
    ctx.state.add_node(node)
    return node


def process_gossip(ctx: Context, sender: Node | None, gossip: Gossip) -> None:
    """Learn what ``sender`` says of third nodes. From a stranger (None) no failure and no new node is believed."""
    for entry in gossip.entries:
        node = ctx.state.find(entry.node_id)
        if node is None:
            if sender is not None:
                _add_from_gossip(ctx, entry)
            continue
        if sender is not None and sender.is_master and not node.is_myself and node is not sender:
            _note_report(ctx, node, sender, is_failing=bool(entry.flags & _SUSPECTED))
        if not entry.flags & _SUSPECTED:
            _note_pong_seen_by_others(ctx, node, entry)
            _follow_address_of_unreachable(ctx, node, entry)


def process_hostname(ctx: Context, sender: Node, gossip: Gossip) -> None:
    """Take over the hostname that ``sender`` announces; saying none means having none."""
    for kind in gossip.unknown_extensions:
        ctx.log(LogLevel.WARNING, f"Received unknown extension type {kind}")
    hostname = gossip.hostname or ""
    if hostname != sender.hostname and is_hostname(hostname):
        sender.hostname = hostname
        ctx.state.routing_version += 1


def _note_report(ctx: Context, node: Node, sender: Node, *, is_failing: bool) -> None:
    if is_failing:
        if add_failure_report(ctx, node, sender):
            text = f"Node {sender.node_id} reported node {node.node_id} as not reachable."
            ctx.log(LogLevel.VERBOSE, text)
        mark_failing_if_quorum(ctx, node)
    elif remove_failure_report(node, sender):
        ctx.log(LogLevel.VERBOSE, f"Node {sender.node_id} reported node {node.node_id} is back online.")


def _note_pong_seen_by_others(ctx: Context, node: Node, entry: GossipEntry) -> None:
    """While nobody doubts ``node``, a PONG that others saw later than we did counts: it saves us pings."""
    if node.ping_sent_ms or node.is_myself or count_failure_reports(ctx, node):
        return
    pong_ms = entry.pong_received_s * 1000 - ctx.state.unix_offset_ms
    if node.pong_received_ms < pong_ms <= ctx.now_ms + PONG_FUTURE_TOLERANCE_MS:
        node.pong_received_ms = pong_ms


def _follow_address_of_unreachable(ctx: Context, node: Node, entry: GossipEntry) -> None:
    """We cannot reach ``node``, the sender can, and at another address: use that."""
    if not node.is_suspected or NodeFlags.NOADDR in entry.flags or not is_host(entry.ip):
        return
    if (node.ip.lower(), node.port, node.cport) == (entry.ip.lower(), entry.port, entry.cport):
        return
    close_link(ctx, node.link)
    _set_address(ctx, node, entry.ip, entry.port, entry.pport, entry.cport)


def _add_from_gossip(ctx: Context, entry: GossipEntry) -> None:
    if NodeFlags.NOADDR in entry.flags or not is_node_id(entry.node_id) or not is_host(entry.ip):
        return
    if is_forgotten(ctx, entry.node_id):
        return
    flags = (entry.flags & _TRUSTED_FROM_GOSSIP) | role_of(entry.flags)
    node = Node(entry.node_id, flags, created_ms=ctx.now_ms)
    node.ip, node.port, node.pport, node.cport = entry.ip, entry.port, entry.pport, entry.cport
    ctx.state.add_node(node)


# -- moving ---------------------------------------------------------------------------------------


def sender_address(link: Link, header: Header) -> str:
    """The address of who sent ``header`` over ``link``: the announced one, else the socket's. Empty if unknown."""
    return header.my_ip if is_host(header.my_ip) else link.peer_ip


def update_address(ctx: Context, node: Node, link: Link, header: Header) -> bool:
    """Follow ``node`` to the address its message came from; False if that is the known one.

    Not for messages on our own link to the node: that link *is* the known address.
    """
    ip = sender_address(link, header)
    if link is node.link or not ip:
        return False
    if (node.ip, node.port, node.pport, node.cport) == (ip, header.port, header.pport, header.cport):
        return False
    _set_address(ctx, node, ip, header.port, header.pport, header.cport)
    close_link(ctx, node.link)
    ctx.log(LogLevel.WARNING, f"Address updated for node {node.node_id}, now {node.ip}:{node.port}")
    myself = ctx.state.myself
    if myself.is_replica and myself.master is node:
        ctx.emit(StartReplication(node.ip, node.port))
    return True


def lose_address(ctx: Context, node: Node) -> None:
    """Somebody else answered at the address of ``node``."""
    node.flags |= NodeFlags.NOADDR
    node.ip, node.port, node.pport, node.cport = "", 0, 0, 0
    ctx.state.routing_version += 1


def _set_address(ctx: Context, node: Node, ip: str, port: int, pport: int, cport: int) -> None:
    node.ip, node.port, node.pport, node.cport = ip, port, pport, cport
    node.flags &= ~NodeFlags.NOADDR
    ctx.state.routing_version += 1


# -- leaving --------------------------------------------------------------------------------------


def delete_node(ctx: Context, node: Node) -> None:
    """Remove ``node`` with its slots, links and reports."""
    for slot in bitmap_to_slots(node.slots):
        ctx.unassign_slot(slot)
    close_link(ctx, node.link)
    close_link(ctx, node.inbound_link)
    ctx.state.remove_node(node)


def forget(ctx: Context, node_id: str) -> None:
    """Keep gossip from bringing this node back for a while."""
    _expire_forgotten(ctx)
    ctx.state.forgotten[node_id] = ctx.now_ms + FORGET_MS


def is_forgotten(ctx: Context, node_id: str) -> bool:
    """Whether this node was removed a short while ago."""
    _expire_forgotten(ctx)
    return node_id in ctx.state.forgotten


def _expire_forgotten(ctx: Context) -> None:
    forgotten = ctx.state.forgotten
    for node_id in [node_id for node_id, until_ms in forgotten.items() if until_ms < ctx.now_ms]:
        del forgotten[node_id]
