"""The bytes of the cluster bus: messages to packets and back, and packets cut out of a byte stream.

Role        The only place that knows Redis 7.0's ``clusterMsg``, byte for byte.
Invariants  ``decode(encode(message)) == message`` for every message. Whatever the bytes, decoding returns a Message or
            a Discarded, and a FrameDecoder raises nothing but BusError. All numbers are big-endian.
Source      Redis 7.0.15: cluster.h (clusterMsg, clusterMsgData*, clusterMsgPingExt), clusterReadHandler and the checks
            at the head of clusterProcessPacket in cluster.c.

Two kinds of bad input, told apart as Redis tells them apart. A stream that cannot be cut into packets (wrong signature,
impossible length) costs the peer its link: BusError. A packet that is cut but does not add up (length that does not fit
its type, other version, unknown type) is skipped and the link stays: Discarded, with the line for the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

import attrs

from cluster.errors import BusError
from cluster.gossip.effects import LogLevel
from cluster.gossip.messages import (
    EMPTY,
    GOSSIP_TYPES,
    MESSAGE_NAMES,
    NO_MESSAGE_FLAGS,
    PROTOCOL_VERSION,
    Body,
    Empty,
    Fail,
    Gossip,
    GossipEntry,
    Header,
    Message,
    MessageFlags,
    MessageType,
    Module,
    Publish,
    Update,
)
from cluster.gossip.state import MESSAGE_TYPE_COUNT, NodeFlags
from cluster.slots.ranges import NODE_ID_LENGTH

SIGNATURE: Final = b"RCmb"
IP_BYTES: Final = 46  # NET_IP_STR_LEN: the text of an address, padded with zero bytes.

HEADER: Final = Struct(">4sIHHHHQQq40s2048s40s46sH30xHHHBB2x")
GOSSIP_ENTRY: Final = Struct(">40sII46sHHHH2x")
EXTENSION_HEADER: Final = Struct(">IH2x")
PUBLISH_HEAD: Final = Struct(">II")
UPDATE_BODY: Final = Struct(">Q40s2048s")
MODULE_HEAD: Final = Struct(">QIB")
FRAME_HEAD: Final = Struct(">4sI")

HEADER_BYTES: Final = HEADER.size
FRAME_HEAD_BYTES: Final = FRAME_HEAD.size
HOSTNAME_EXTENSION: Final = 0
EXTENSION_ALIGNMENT: Final = 8

MAX_PACKET_BYTES: Final = HEADER_BYTES + 2 * 512 * 1024 * 1024 + 64
"""A PUBLISH of the longest channel and the longest payload that a client can send. Redis has no limit here."""

_KNOWN_NODE_FLAGS: Final = 0x3FF
_KNOWN_MESSAGE_FLAGS: Final = 0x7
_EXT_DATA: Final = int(MessageFlags.EXT_DATA)
_NO_NODE_ID: Final = bytes(NODE_ID_LENGTH)
_MESSAGE_TYPES: Final = tuple(MessageType)


@attrs.frozen
class Discarded:
    """A packet that was cut from the stream but is not to be processed; the link stays."""

    type_number: int
    level: LogLevel
    text: str

    @property
    def is_countable(self) -> bool:
        """True when its type is a known one: it then counts as received in CLUSTER INFO, as in Redis."""
        return self.type_number < MESSAGE_TYPE_COUNT


# -- encoding -----------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """The packet of ``message``."""
    header, body = message.header, message.body
    count = extensions = 0
    mflags = int(header.mflags) & ~_EXT_DATA
    match body:
        case Gossip():
            count = len(body.entries)
            payload = b"".join(map(_encode_entry, body.entries))
            if body.hostname is not None:
                extensions = 1
                mflags |= _EXT_DATA
                payload += _encode_hostname(body.hostname)
        case Fail():
            payload = _text(body.node_id).ljust(NODE_ID_LENGTH, b"\0")
        case Publish():
            payload = PUBLISH_HEAD.pack(len(body.channel), len(body.payload)) + body.channel + body.payload
        case Update():
            payload = UPDATE_BODY.pack(body.config_epoch, _text(body.node_id), body.slots)
        case Module():
            payload = MODULE_HEAD.pack(body.module_id, len(body.payload), body.type) + body.payload
        case Empty():
            payload = b""
    head = HEADER.pack(
        SIGNATURE,
        HEADER_BYTES + len(payload),
        header.version,
        header.port,
        header.type,
        count,
        header.current_epoch,
        header.config_epoch,
        header.repl_offset,
        _text(header.sender),
        header.slots,
        _NO_NODE_ID if header.master_id is None else _text(header.master_id),
        _address(header.my_ip),
        extensions,
        header.pport,
        header.cport,
        header.flags,
        header.state,
        mflags,
    )
    return head + payload


def _encode_entry(entry: GossipEntry) -> bytes:
    return GOSSIP_ENTRY.pack(
        _text(entry.node_id),
        entry.ping_sent_s & 0xFFFFFFFF,
        entry.pong_received_s & 0xFFFFFFFF,
        _address(entry.ip),
        entry.port,
        entry.cport,
        entry.flags,
        entry.pport,
    )


def _encode_hostname(hostname: str) -> bytes:
    text = _text(hostname)
    length = len(text) + 1  # At least one zero byte ends the name; more of them align what follows.
    length += -length % EXTENSION_ALIGNMENT
    return EXTENSION_HEADER.pack(EXTENSION_HEADER.size + length, HOSTNAME_EXTENSION) + text.ljust(length, b"\0")


def _text(text: str) -> bytes:
    return text.encode("latin-1", "replace")


def _address(ip: str) -> bytes:
    return _text(ip)[: IP_BYTES - 1]  # The last byte stays zero: receivers read it as a C string.


# -- decoding -----------------------------------------------------------------------------------------------------


def decode(packet: bytes) -> Message | Discarded:
    """Read one whole packet: ``len(packet)`` is what its length field says, and at least HEADER_BYTES."""
    (
        _signature,
        _length,
        version,
        port,
        type_number,
        count,
        current_epoch,
        config_epoch,
        repl_offset,
        sender,
        slots,
        master_id,
        my_ip,
        extensions,
        pport,
        cport,
        flags,
        state,
        mflags,
    ) = HEADER.unpack_from(packet)
    if version != PROTOCOL_VERSION:
        return Discarded(
            type_number,
            LogLevel.DEBUG,
            f"Ignoring a cluster bus packet of protocol version {version}, mine is {PROTOCOL_VERSION}",
        )
    if type_number >= MESSAGE_TYPE_COUNT:
        return Discarded(type_number, LogLevel.WARNING, f"Received unknown packet type: {type_number}")
    kind = _MESSAGE_TYPES[type_number]
    body = _decode_body(packet, kind, count, extensions if mflags & _EXT_DATA else 0)
    if isinstance(body, Discarded):
        return body
    header = Header(
        type=kind,
        sender=_identifier(sender),
        current_epoch=current_epoch,
        config_epoch=config_epoch,
        repl_offset=repl_offset,
        slots=slots,
        master_id=None if master_id == _NO_NODE_ID else _identifier(master_id),
        flags=NodeFlags(flags & _KNOWN_NODE_FLAGS),
        state=state,
        port=port,
        cport=cport,
        pport=pport,
        my_ip=_c_string(my_ip),
        mflags=MessageFlags(mflags & _KNOWN_MESSAGE_FLAGS) if mflags else NO_MESSAGE_FLAGS,
    )
    return Message(header, body)


def _decode_body(packet: bytes, kind: MessageType, count: int, extensions: int) -> Body | Discarded:
    """Check the length against what the type and its counts ask for, and read what follows the header."""
    length = len(packet)
    if kind in GOSSIP_TYPES:
        return _decode_gossip(packet, kind, count, extensions)
    if kind is MessageType.FAIL:
        if length == HEADER_BYTES + NODE_ID_LENGTH:
            return Fail(_identifier(packet[HEADER_BYTES:]))
        return _wrong_length(kind, length, HEADER_BYTES + NODE_ID_LENGTH)
    if kind is MessageType.UPDATE:
        if length == HEADER_BYTES + UPDATE_BODY.size:
            config_epoch, node_id, slots = UPDATE_BODY.unpack_from(packet, HEADER_BYTES)
            return Update(_identifier(node_id), config_epoch, slots)
        return _wrong_length(kind, length, HEADER_BYTES + UPDATE_BODY.size)
    if kind in (MessageType.PUBLISH, MessageType.PUBLISHSHARD):
        return _decode_publish(packet, kind)
    if kind is MessageType.MODULE:
        return _decode_module(packet)
    return EMPTY if length == HEADER_BYTES else _wrong_length(kind, length, HEADER_BYTES)


def _decode_gossip(packet: bytes, kind: MessageType, count: int, extensions: int) -> Gossip | Discarded:
    length = len(packet)
    position = HEADER_BYTES + GOSSIP_ENTRY.size * count
    end_of_entries = position
    hostname: str | None = None
    unknown: list[int] = []
    for _ in range(extensions):
        if position + EXTENSION_HEADER.size > length:
            return _extension_too_long(kind, length)
        extension_bytes, extension_type = EXTENSION_HEADER.unpack_from(packet, position)
        if extension_bytes % EXTENSION_ALIGNMENT:
            name = MESSAGE_NAMES[kind]
            text = f"Received a {name} packet without proper padding ({extension_bytes} bytes)"
            return Discarded(kind, LogLevel.WARNING, text)
        # Redis lets an extension of length 0 pass and reads it again and again; it cannot hold its own header.
        if extension_bytes < EXTENSION_HEADER.size or position + extension_bytes > length:
            return _extension_too_long(kind, length)
        if extension_type == HOSTNAME_EXTENSION:
            hostname = _c_string(packet[position + EXTENSION_HEADER.size : position + extension_bytes])
        else:
            unknown.append(extension_type)
        position += extension_bytes
    if position != length:
        return _wrong_length(kind, length, position)
    entries = tuple(
        GossipEntry(
            _identifier(node_id),
            ping_sent_s,
            pong_received_s,
            _c_string(ip),
            port,
            cport,
            NodeFlags(flags & _KNOWN_NODE_FLAGS),
            pport,
        )
        for node_id, ping_sent_s, pong_received_s, ip, port, cport, flags, pport in GOSSIP_ENTRY.iter_unpack(
            memoryview(packet)[HEADER_BYTES:end_of_entries]
        )
    )
    return Gossip(entries, hostname, tuple(unknown))


def _decode_publish(packet: bytes, kind: MessageType) -> Publish | Discarded:
    start = HEADER_BYTES + PUBLISH_HEAD.size
    if len(packet) < start:
        return _wrong_length(kind, len(packet), start)
    channel_bytes, payload_bytes = PUBLISH_HEAD.unpack_from(packet, HEADER_BYTES)
    end = start + channel_bytes + payload_bytes
    if len(packet) != end:
        return _wrong_length(kind, len(packet), end)
    middle = start + channel_bytes
    return Publish(packet[start:middle], packet[middle:])


def _decode_module(packet: bytes) -> Module | Discarded:
    start = HEADER_BYTES + MODULE_HEAD.size
    if len(packet) < start:
        return _wrong_length(MessageType.MODULE, len(packet), start)
    module_id, payload_bytes, module_type = MODULE_HEAD.unpack_from(packet, HEADER_BYTES)
    if len(packet) != start + payload_bytes:
        return _wrong_length(MessageType.MODULE, len(packet), start + payload_bytes)
    return Module(module_id, module_type, packet[start:])


def _wrong_length(kind: MessageType, length: int, expected: int) -> Discarded:
    text = f"Received invalid {MESSAGE_NAMES[kind]} packet of length {length} but expected length {expected}"
    return Discarded(kind, LogLevel.WARNING, text)


def _extension_too_long(kind: MessageType, length: int) -> Discarded:
    name = MESSAGE_NAMES[kind]
    text = f"Received invalid {name} packet with extension data that exceeds total packet length ({length})"
    return Discarded(kind, LogLevel.WARNING, text)


def _identifier(field: bytes) -> str:
    """A node id: a fixed field that is compared as a whole, so only the padding goes."""
    return field.rstrip(b"\0").decode("latin-1")


def _c_string(field: bytes) -> str:
    """Text that ends at the first zero byte."""
    return field.partition(b"\0")[0].decode("latin-1")


# -- framing ------------------------------------------------------------------------------------------------------


class FrameDecoder:
    """Cuts the bytes of one link into packets, however they arrive.

    Usage: iterate over ``feed(chunk)``. After a BusError the stream has no more packet borders: drop the link.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """How much of an unfinished packet is held."""
        return len(self._buffer)

    def feed(self, chunk: bytes | bytearray) -> Iterator[Message | Discarded]:
        """Take ``chunk`` at once; yield each packet it completes; raise BusError where the packets end for good."""
        self._buffer += chunk
        return self._packets()

    def _packets(self) -> Iterator[Message | Discarded]:
        buffer = self._buffer
        while len(buffer) >= FRAME_HEAD_BYTES:
            signature, length = FRAME_HEAD.unpack_from(buffer)
            if signature != SIGNATURE or not HEADER_BYTES <= length <= MAX_PACKET_BYTES:
                raise BusError("Bad message length or signature received from Cluster bus.")
            if len(buffer) < length:
                return
            packet = bytes(memoryview(buffer)[:length])
            del buffer[:length]
            yield decode(packet)
