"""The messages of the cluster bus as values. Their bytes are the business of wire.py.

Invariants  A message is immutable and complete: header and body together say everything the packet says. Times in
            gossip entries are unix *seconds*, as on the wire. Text from the wire (ids, addresses) is ``str`` decoded
            as latin-1 without the padding: it may be anything and is checked where it is used.
Source      Redis 7.0.15, cluster.h (clusterMsg, clusterMsgData*, clusterMsgPingExt).
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

import attrs

from cluster.gossip.state import MESSAGE_TYPE_COUNT, NodeFlags

PROTOCOL_VERSION: Final = 1


class MessageType(enum.IntEnum):
    """``CLUSTERMSG_TYPE_*``."""

    PING = 0
    PONG = 1
    MEET = 2
    FAIL = 3
    PUBLISH = 4
    FAILOVER_AUTH_REQUEST = 5
    FAILOVER_AUTH_ACK = 6
    UPDATE = 7
    MFSTART = 8
    MODULE = 9
    PUBLISHSHARD = 10


assert len(MessageType) == MESSAGE_TYPE_COUNT

MESSAGE_NAMES: Final[dict[MessageType, str]] = {
    MessageType.PING: "ping",
    MessageType.PONG: "pong",
    MessageType.MEET: "meet",
    MessageType.FAIL: "fail",
    MessageType.PUBLISH: "publish",
    MessageType.FAILOVER_AUTH_REQUEST: "auth-req",
    MessageType.FAILOVER_AUTH_ACK: "auth-ack",
    MessageType.UPDATE: "update",
    MessageType.MFSTART: "mfstart",
    MessageType.MODULE: "module",
    MessageType.PUBLISHSHARD: "publishshard",
}
"""The names in CLUSTER INFO's ``cluster_stats_messages_<name>_sent``."""

GOSSIP_TYPES: Final = frozenset({MessageType.PING, MessageType.PONG, MessageType.MEET})


class MessageFlags(enum.IntFlag):
    """``mflags``: a property of this message, not of the node. The first of the three bytes is the lowest."""

    PAUSED = 1  # From a master that paused its clients for a manual failover.
    FORCEACK = 2  # Vote even though the master is up (manual failover).
    EXT_DATA = 4  # The body carries ping extensions.


NO_MESSAGE_FLAGS: Final = MessageFlags(0)


@attrs.frozen
class Header:
    """What every message says of its sender (clusterMsg without ``data``).

    ``totlen``, ``count`` and ``extensions`` follow from the body, so the codec writes and checks them.
    """

    type: MessageType
    sender: str
    current_epoch: int
    config_epoch: int
    """Of the sender if it is a master, of its master otherwise."""
    repl_offset: int
    slots: bytes = attrs.field(repr=False)
    """The slots the sender claims, or those of its master if it is a replica. 2048 bytes."""
    master_id: str | None
    """Whom the sender replicates; None (all zero bytes on the wire) from a master."""
    flags: NodeFlags
    state: int
    """The cluster's health as the sender sees it (a ClusterHealth, or garbage)."""
    port: int
    cport: int
    pport: int = 0
    my_ip: str = ""
    """The address the sender announces; empty: take it from the socket."""
    mflags: MessageFlags = NO_MESSAGE_FLAGS
    version: int = PROTOCOL_VERSION


@attrs.frozen
class GossipEntry:
    """What the sender knows of a third node (clusterMsgDataGossip)."""

    node_id: str
    ping_sent_s: int
    pong_received_s: int
    ip: str
    port: int
    cport: int
    flags: NodeFlags
    pport: int = 0


@attrs.frozen
class Gossip:
    """The body of PING, PONG and MEET."""

    entries: tuple[GossipEntry, ...] = ()
    hostname: str | None = None
    """The hostname extension; None: not sent, so the sender announces none."""
    unknown_extensions: tuple[int, ...] = ()
    """Types of extensions this version does not know. Read only: the codec never writes them."""


@attrs.frozen
class Fail:
    """The sender's side has agreed that this node is down."""

    node_id: str


@attrs.frozen
class Publish:
    """The body of PUBLISH and PUBLISHSHARD."""

    channel: bytes
    payload: bytes


@attrs.frozen
class Update:
    """The slots of a third node, told to somebody whose table is out of date."""

    node_id: str
    config_epoch: int
    slots: bytes = attrs.field(repr=False)


@attrs.frozen
class Module:
    """A module's own message; ``module_id`` is kept in wire order and means nothing here."""

    module_id: int
    type: int
    payload: bytes


@attrs.frozen
class Empty:
    """The body of FAILOVER_AUTH_REQUEST, FAILOVER_AUTH_ACK and MFSTART: the header says it all."""


EMPTY: Final = Empty()

Body: TypeAlias = Gossip | Fail | Publish | Update | Module | Empty

BODY_CLASSES: Final[dict[MessageType, type[Body]]] = {
    MessageType.PING: Gossip,
    MessageType.PONG: Gossip,
    MessageType.MEET: Gossip,
    MessageType.FAIL: Fail,
    MessageType.PUBLISH: Publish,
    MessageType.FAILOVER_AUTH_REQUEST: Empty,
    MessageType.FAILOVER_AUTH_ACK: Empty,
    MessageType.UPDATE: Update,
    MessageType.MFSTART: Empty,
    MessageType.MODULE: Module,
    MessageType.PUBLISHSHARD: Publish,
}


@attrs.frozen
class Message:
    """One packet of the bus. ``body`` is an instance of ``BODY_CLASSES[header.type]``."""

    header: Header
    body: Body

    @property
    def type(self) -> MessageType:
        return self.header.type
