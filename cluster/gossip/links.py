"""The engine's side of the bus connections: which link belongs to which node, and what follows when one comes or goes.

Invariants  ``node.link`` is an open outbound link with ``link.node is node``, or None; the same holds for
            ``node.inbound_link`` and inbound links. A closed link belongs to nobody.
Source      Redis 7.0.15, createClusterLink(), freeClusterLink(), setClusterNodeToInboundClusterLink(),
            clusterLinkConnectHandler().
"""

from __future__ import annotations

from cluster.gossip.context import Context
from cluster.gossip.effects import CloseLink, LogLevel, OpenLink
from cluster.gossip.messages import MessageType
from cluster.gossip.outgoing import send_ping
from cluster.gossip.state import Link, Node, NodeFlags


def new_link(ctx: Context, node: Node | None) -> Link:
    """An outbound link to ``node``, or (None) an inbound one from somebody yet unknown."""
    link = Link(ctx.next_link_id, inbound=node is None, node=node, created_ms=ctx.now_ms)
    ctx.next_link_id += 1
    return link


def open_link(ctx: Context, node: Node) -> None:
    """Start connecting to ``node``. Messages may be queued on the link from now on."""
    node.link = new_link(ctx, node)
    ctx.bus_effects.append(OpenLink(node.link, node.ip, node.cport))


def close_link(ctx: Context, link: Link | None) -> None:
    """Give up ``link``."""
    if link is not None and link.is_open:
        detach(link)
        ctx.bus_effects.append(CloseLink(link))


def detach(link: Link) -> None:
    """Forget ``link``, whose socket is (or is going to be) closed."""
    link.is_open = False
    node = link.node
    if node is not None:
        if node.link is link:
            node.link = None
        if node.inbound_link is link:
            node.inbound_link = None
        link.node = None


def adopt_inbound(ctx: Context, node: Node, link: Link) -> None:
    """An inbound link turned out to be from ``node``. The newest wins: the older one is probably dead already."""
    close_link(ctx, node.inbound_link)
    node.inbound_link = link
    link.node = node


def connected(ctx: Context, link: Link) -> None:
    """Ping at once over a link that just came up: waiting for the next tick would look like a failure of the peer."""
    node = link.node
    if node is None:
        return
    pending_ms = node.ping_sent_ms
    send_ping(ctx, link, MessageType.MEET if NodeFlags.MEET in node.flags else MessageType.PING)
    if pending_ms:
        node.ping_sent_ms = pending_ms  # The peer has been silent since then, not since now.
    # One MEET is enough: if no PONG comes the handshake ends, if one comes PINGs follow.
    node.flags &= ~NodeFlags.MEET


def connect_failed(ctx: Context, link: Link, reason: str) -> None:
    """The peer cannot be reached. Pretend a ping was sent, or its failure would never be noticed."""
    node = link.node
    detach(link)
    if node is None:
        return
    ctx.log(LogLevel.VERBOSE, f"Connection with Node {node.node_id} at {node.ip}:{node.cport} failed: {reason}")
    if not node.ping_sent_ms:
        node.ping_sent_ms = ctx.now_ms
