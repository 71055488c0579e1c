"""Everything this node says on the bus: the header, the gossip section, and who is sent what.

Invariants  A message is built when it is queued and leaves with the next before_sleep, after the save that it may
            depend on. A replica speaks for its master: the header carries the master's slots and config epoch.
Source      Redis 7.0.15, clusterBuildMessageHdr(), clusterSendPing(), clusterBroadcastPong(), clusterSend*().
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cluster.gossip.context import Context
from cluster.gossip.effects import Send
from cluster.gossip.messages import (
    NO_MESSAGE_FLAGS,
    Body,
    Fail,
    Gossip,
    GossipEntry,
    Header,
    Message,
    MessageFlags,
    MessageType,
    Publish,
    Update,
)
from cluster.gossip.state import BUS_PORT_INCREMENT, Link, Node, NodeFlags
from cluster.settings import Settings
from cluster.slots.ranges import BITMAP_BYTES

GOSSIP_ENTRIES_MIN: Final = 3
GOSSIP_SHARE: Final = 10
"""A tenth of the nodes ride in each message: in the two node timeouts that a failure report lives, enough of them are
exchanged for a majority to hear of one failing node (the arithmetic is above clusterSendPing())."""

_NOT_GOSSIPED: Final = NodeFlags.MYSELF | NodeFlags.PFAIL | NodeFlags.HANDSHAKE | NodeFlags.NOADDR
_NOT_BROADCAST: Final = NodeFlags.MYSELF | NodeFlags.HANDSHAKE


def announced_ports(settings: Settings) -> tuple[int, int, int]:
    """The ports others shall use: (clients', plain one of a TLS cluster or 0, bus)."""
    port = settings.tls_port if settings.tls_cluster else settings.port
    pport = settings.port if settings.tls_cluster else 0
    cport = settings.cluster_port or port + BUS_PORT_INCREMENT
    if settings.tls_cluster and settings.cluster_announce_tls_port:
        port = settings.cluster_announce_tls_port
        pport = settings.cluster_announce_port
    elif settings.cluster_announce_port:
        port = settings.cluster_announce_port
    return port, pport, settings.cluster_announce_bus_port or cport


def build_header(ctx: Context, kind: MessageType, mflags: MessageFlags = NO_MESSAGE_FLAGS) -> Header:
    """The header of a message that leaves now."""
    state, myself = ctx.state, ctx.state.myself
    speaks_for = myself.master if myself.is_replica and myself.master is not None else myself
    port, pport, cport = announced_ports(ctx.settings)
    if myself.is_master and state.manual.end_ms:
        mflags |= MessageFlags.PAUSED
    return Header(
        type=kind,
        sender=myself.node_id,
        current_epoch=state.current_epoch,
        config_epoch=speaks_for.config_epoch,
        repl_offset=ctx.facts.replication_offset(),
        slots=bytes(speaks_for.slots),
        master_id=myself.master.node_id if myself.master is not None else None,
        flags=myself.flags,
        state=state.health,
        port=port,
        cport=cport,
        pport=pport,
        my_ip=ctx.settings.cluster_announce_ip,
        mflags=mflags,
    )


def send(ctx: Context, links: Iterable[Link | None], header: Header, body: Body) -> None:
    """Queue one message on each of the links that are open."""
    open_links = tuple(link for link in links if link is not None and link.is_open)
    if open_links:
        ctx.bus_effects.append(Send(open_links, Message(header, body)))
        ctx.state.messages_sent[header.type] += len(open_links)


def broadcast(ctx: Context, header: Header, body: Body) -> None:
    """Queue one message for every node that is known and has a link."""
    send(ctx, [node.link for node in ctx.state.nodes.values() if not node.flags & _NOT_BROADCAST], header, body)


def send_ping(ctx: Context, link: Link, kind: MessageType) -> None:
    """Queue a PING, PONG or MEET with gossip about some other nodes and all that are PFAIL."""
    if kind is MessageType.PING and not link.inbound and link.node is not None:
        link.node.ping_sent_ms = ctx.now_ms
    hostname = ctx.state.myself.hostname or None
    mflags = NO_MESSAGE_FLAGS if hostname is None else MessageFlags.EXT_DATA
    send(ctx, (link,), build_header(ctx, kind, mflags), Gossip(_gossip_entries(ctx), hostname))


def broadcast_pong(ctx: Context) -> None:
    """Tell every node at once what changed here, without waiting for their pings."""
    for node in ctx.state.nodes.values():
        if node.link is not None and not node.flags & _NOT_BROADCAST:
            send_ping(ctx, node.link, MessageType.PONG)


def pong_replicas_of_my_shard(ctx: Context) -> None:
    """Tell the other replicas of my shard my offset."""
    myself = ctx.state.myself
    for node in ctx.state.nodes.values():
        if node.link is None or node.flags & _NOT_BROADCAST or not node.is_replica or node.master is None:
            continue
        if node.master is myself or node.master is myself.master:
            send_ping(ctx, node.link, MessageType.PONG)


def pong_voters(ctx: Context) -> None:
    """Tell the other masters with slots, whose reports count, whom I suspect: a quorum need not wait for pings."""
    for node in ctx.state.nodes.values():
        if node.link is not None and node.is_master and node.slot_count and not node.is_suspected:
            send_ping(ctx, node.link, MessageType.PONG)


def broadcast_fail(ctx: Context, failing: Node) -> None:
    """Make everybody in reach hold ``failing`` as FAIL."""
    broadcast(ctx, build_header(ctx, MessageType.FAIL), Fail(failing.node_id))


def send_update(ctx: Context, target: Node, owner: Node) -> None:
    """Tell ``target`` which slots ``owner`` serves, leaving out those it stopped claiming."""
    slots = int.from_bytes(owner.slots, "little") & ~ctx.state.not_claimed
    body = Update(owner.node_id, owner.config_epoch, slots.to_bytes(BITMAP_BYTES, "little"))
    send(ctx, (target.link,), build_header(ctx, MessageType.UPDATE), body)


def publish(ctx: Context, channel: bytes, payload: bytes) -> None:
    """Spread a client's message over the whole cluster."""
    broadcast(ctx, build_header(ctx, MessageType.PUBLISH), Publish(channel, payload))


def publish_to_shard(ctx: Context, channel: bytes, payload: bytes) -> None:
    """Spread a client's message over the nodes that serve this node's slots."""
    master = ctx.state.myself.shard_master
    if master is None:
        return
    members = [node for node in (master, *master.replicas) if not node.flags & _NOT_BROADCAST]
    header = build_header(ctx, MessageType.PUBLISHSHARD)
    send(ctx, [node.link for node in members], header, Publish(channel, payload))


def _gossip_entries(ctx: Context) -> tuple[GossipEntry, ...]:
    nodes = list(ctx.state.nodes.values())
    # Neither this node, whom the header is about, nor the receiver.
    wanted = min(max(len(nodes) // GOSSIP_SHARE, GOSSIP_ENTRIES_MIN), len(nodes) - 2)
    entries: list[GossipEntry] = []
    if wanted > 0:
        for node in ctx.rng.sample(nodes, min(len(nodes), wanted * 3)):
            if node.flags & _NOT_GOSSIPED or (node.link is None and node.slot_count == 0):
                continue
            entries.append(_gossip_entry(ctx, node))
            if len(entries) == wanted:
                break
    if ctx.state.pfail_nodes:
        # Every message carries all suspicions, so that a majority is found as fast as possible.
        hidden = NodeFlags.HANDSHAKE | NodeFlags.NOADDR
        entries.extend(_gossip_entry(ctx, node) for node in nodes if node.is_pfail and not node.flags & hidden)
    return tuple(entries)


def _gossip_entry(ctx: Context, node: Node) -> GossipEntry:
    return GossipEntry(
        node_id=node.node_id,
        ping_sent_s=ctx.state.to_unix_ms(node.ping_sent_ms) // 1000,
        pong_received_s=ctx.state.to_unix_ms(node.pong_received_ms) // 1000,
        ip=node.ip,
        port=node.port,
        cport=node.cport,
        flags=node.flags,
        pport=node.pport,
    )
