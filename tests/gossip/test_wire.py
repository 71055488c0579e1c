"""The bus codec: every offset of clusterMsg pinned, round trips, and bytes that are no message."""

from __future__ import annotations

import struct

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import BusError
from cluster.gossip.messages import (
    BODY_CLASSES,
    EMPTY,
    Body,
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
from cluster.gossip.state import NodeFlags
from cluster.gossip.wire import HEADER_BYTES, MAX_PACKET_BYTES, Discarded, FrameDecoder, decode, encode
from cluster.slots.ranges import slots_to_bitmap

ME = "0123456789abcdef0123456789abcdef01234567"
MASTER = "fedcba9876543210fedcba9876543210fedcba98"
THIRD = "aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd"

HEADER = Header(
    type=MessageType.PING,
    sender=ME,
    current_epoch=0x0102030405060708,
    config_epoch=0x1112131415161718,
    repl_offset=0x2122232425262728,
    slots=slots_to_bitmap([0, 9, 16383]),
    master_id=MASTER,
    flags=NodeFlags.SLAVE | NodeFlags.MYSELF,
    state=1,
    port=7001,
    cport=17001,
    pport=7101,
    my_ip="10.1.2.3",
    mflags=MessageFlags.PAUSED,
)
ENTRY = GossipEntry(
    node_id=THIRD,
    ping_sent_s=0x01020304,
    pong_received_s=0x11121314,
    ip="10.9.8.7",
    port=7002,
    cport=17002,
    flags=NodeFlags.MASTER | NodeFlags.PFAIL,
    pport=7102,
)


def message(body: Body, kind: MessageType) -> Message:
    """A message with this body; its flags say whether it has extensions, as the codec would find out."""
    flags = HEADER.mflags
    if isinstance(body, Gossip) and body.hostname is not None:
        flags |= MessageFlags.EXT_DATA
    return Message(attrs.evolve(HEADER, type=kind, mflags=flags), body)


def bodies(kind: MessageType) -> Body:
    examples: dict[type[Body], Body] = {
        Gossip: Gossip((ENTRY, ENTRY), hostname="node-1.example"),
        Fail: Fail(THIRD),
        Publish: Publish(b"channel", b"\0payload\xff"),
        Update: Update(THIRD, 77, slots_to_bitmap([5])),
        Module: Module(0x0102030405060708, 9, b"abc"),
        type(EMPTY): EMPTY,
    }
    return examples[BODY_CLASSES[kind]]


def replace_at(packet: bytes, offset: int, data: bytes) -> bytes:
    return packet[:offset] + data + packet[offset + len(data) :]


def with_length(packet: bytes) -> bytes:
    """The packet with its length field made true."""
    return replace_at(packet, 4, struct.pack(">I", len(packet)))


class TestLayout:
    """The 21 offsets that cluster.h asserts, and those of the bodies."""

    packet = encode(message(Gossip((ENTRY,), hostname="h.example"), MessageType.PING))

    @pytest.mark.parametrize(
        ("field", "offset", "data"),
        [
            ("sig", 0, b"RCmb"),
            ("totlen", 4, struct.pack(">I", 2256 + 104 + 8 + 16)),
            ("ver", 8, b"\0\1"),
            ("port", 10, struct.pack(">H", 7001)),
            ("type", 12, b"\0\0"),
            ("count", 14, b"\0\1"),
            ("currentEpoch", 16, bytes(range(1, 9))),
            ("configEpoch", 24, bytes(range(0x11, 0x19))),
            ("offset", 32, bytes(range(0x21, 0x29))),
            ("sender", 40, ME.encode()),
            ("myslots", 80, b"\1\2" + bytes(2045) + b"\x80"),
            ("slaveof", 2128, MASTER.encode()),
            ("myip", 2168, b"10.1.2.3".ljust(46, b"\0")),
            ("extensions", 2214, b"\0\1"),
            ("notused1", 2216, bytes(30)),
            ("pport", 2246, struct.pack(">H", 7101)),
            ("cport", 2248, struct.pack(">H", 17001)),
            ("flags", 2250, struct.pack(">H", 2 | 16)),
            ("state", 2252, b"\1"),
            ("mflags", 2253, bytes([1 | 4, 0, 0])),
            ("data", 2256, THIRD.encode()),
        ],
    )
    def test_header(self, field: str, offset: int, data: bytes) -> None:
        assert self.packet[offset : offset + len(data)] == data, field

    @pytest.mark.parametrize(
        ("field", "offset", "data"),
        [
            ("nodename", 0, THIRD.encode()),
            ("ping_sent", 40, bytes([1, 2, 3, 4])),
            ("pong_received", 44, bytes([0x11, 0x12, 0x13, 0x14])),
            ("ip", 48, b"10.9.8.7".ljust(46, b"\0")),
            ("port", 94, struct.pack(">H", 7002)),
            ("cport", 96, struct.pack(">H", 17002)),
            ("flags", 98, struct.pack(">H", 1 | 4)),
            ("pport", 100, struct.pack(">H", 7102)),
            ("notused1", 102, b"\0\0"),
        ],
    )
    def test_gossip_entry(self, field: str, offset: int, data: bytes) -> None:
        start = HEADER_BYTES + offset
        assert self.packet[start : start + len(data)] == data, field

    def test_hostname_extension(self) -> None:
        extension = self.packet[HEADER_BYTES + 104 :]
        assert extension == struct.pack(">IHH", 24, 0, 0) + b"h.example".ljust(16, b"\0")

    @pytest.mark.parametrize(("hostname", "length"), [("", 8), ("seven77", 8), ("eight888", 16)])
    def test_a_hostname_ends_with_a_zero_byte_and_is_padded_to_eight(self, hostname: str, length: int) -> None:
        packet = encode(message(Gossip(hostname=hostname), MessageType.PONG))
        assert packet[HEADER_BYTES:] == struct.pack(">IHH", 8 + length, 0, 0) + hostname.encode().ljust(length, b"\0")

    def test_other_bodies(self) -> None:
        fail = encode(message(Fail(THIRD), MessageType.FAIL))
        publish = encode(message(Publish(b"ch", b"hello"), MessageType.PUBLISH))
        update = encode(message(Update(THIRD, 7, b"\1" * 2048), MessageType.UPDATE))
        module = encode(message(Module(0x0102030405060708, 9, b"abc"), MessageType.MODULE))

        assert fail[HEADER_BYTES:] == THIRD.encode()
        assert publish[HEADER_BYTES:] == b"\0\0\0\2" + b"\0\0\0\5" + b"chhello"
        assert update[HEADER_BYTES:] == b"\0\0\0\0\0\0\0\7" + THIRD.encode() + b"\1" * 2048
        assert module[HEADER_BYTES:] == bytes(range(1, 9)) + b"\0\0\0\3" + b"\x09" + b"abc"
        assert len(encode(message(EMPTY, MessageType.MFSTART))) == HEADER_BYTES == 2256

    def test_a_master_has_zero_bytes_for_slaveof(self) -> None:
        packet = encode(Message(attrs.evolve(HEADER, master_id=None), Gossip()))
        assert packet[2128:2168] == bytes(40)

    def test_an_address_that_is_too_long_is_cut_to_leave_a_zero_byte(self) -> None:
        packet = encode(Message(attrs.evolve(HEADER, my_ip="x" * 60), Gossip()))
        assert packet[2168:2214] == b"x" * 45 + b"\0"


@pytest.mark.parametrize("message_type", list(MessageType))
def test_every_type_round_trips(message_type: MessageType) -> None:
    original = message(bodies(message_type), message_type)
    assert decode(encode(original)) == original


node_ids = st.text("0123456789abcdef", min_size=40, max_size=40)
u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
addresses = st.sampled_from(["", "127.0.0.1", "::1", "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"])
bitmaps = st.sets(st.integers(0, 16383), max_size=9).map(slots_to_bitmap)
node_flags = st.integers(0, 0x3FF).map(NodeFlags)
hostnames = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
entries = st.builds(GossipEntry, node_ids, u32, u32, addresses, u16, u16, node_flags, u16)
body_strategies: dict[type[Body], st.SearchStrategy[Body]] = {
    Gossip: st.builds(Gossip, st.lists(entries, max_size=5).map(tuple), st.none() | hostnames),
    Fail: st.builds(Fail, node_ids),
    Publish: st.builds(Publish, st.binary(max_size=50), st.binary(max_size=50)),
    Update: st.builds(Update, node_ids, u64, bitmaps),
    Module: st.builds(Module, u64, st.integers(0, 255), st.binary(max_size=50)),
    type(EMPTY): st.just(EMPTY),
}
headers = st.builds(
    Header,
    type=st.sampled_from(MessageType),
    sender=node_ids,
    current_epoch=u64,
    config_epoch=u64,
    repl_offset=st.integers(-(2**63), 2**63 - 1),
    slots=bitmaps,
    master_id=st.none() | node_ids,
    flags=node_flags,
    state=st.integers(0, 255),
    port=u16,
    cport=u16,
    pport=u16,
    my_ip=addresses,
    mflags=st.integers(0, 3).map(MessageFlags),
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    header = draw(headers)
    body = draw(body_strategies[BODY_CLASSES[header.type]])
    if isinstance(body, Gossip) and body.hostname is not None:
        header = attrs.evolve(header, mflags=header.mflags | MessageFlags.EXT_DATA)
    return Message(header, body)


@given(messages())
def test_round_trip(original: Message) -> None:
    packet = encode(original)

    assert decode(packet) == original
    assert struct.unpack_from(">I", packet, 4) == (len(packet),)


@given(st.lists(messages(), max_size=4), st.data())
def test_any_split_of_the_stream_gives_the_same_messages(originals: list[Message], data: st.DataObject) -> None:
    stream = b"".join(map(encode, originals))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder = FrameDecoder()

    received = [
        item
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for item in decoder.feed(stream[start:end])
    ]

    assert received == originals
    assert decoder.buffered_bytes == 0


def test_byte_by_byte() -> None:
    stream = encode(message(Fail(THIRD), MessageType.FAIL)) + encode(message(EMPTY, MessageType.MFSTART))
    decoder = FrameDecoder()

    received = [item for byte in stream for item in decoder.feed(bytes([byte]))]

    assert [item.type for item in received if isinstance(item, Message)] == [MessageType.FAIL, MessageType.MFSTART]


@given(st.binary(max_size=64))
def test_random_bytes_raise_nothing_but_bus_error(noise: bytes) -> None:
    try:
        assert list(FrameDecoder().feed(noise)) == []
    except BusError:
        assert len(noise) >= 8


@given(messages(), st.data())
def test_a_damaged_packet_is_a_message_or_discarded_or_a_bus_error(original: Message, data: st.DataObject) -> None:
    """Bytes changed anywhere, the length included, then cut or lengthened: the decoder never fails in another way."""
    packet = bytearray(encode(original))
    interesting = st.integers(0, 15) | st.integers(2200, len(packet) - 1) | st.integers(0, len(packet) - 1)
    for _ in range(data.draw(st.integers(1, 6))):
        packet[data.draw(interesting)] = data.draw(st.integers(0, 255))
    damaged = bytes(packet) + data.draw(st.binary(max_size=20))
    if data.draw(st.booleans()):
        damaged = with_length(damaged)
    try:
        for item in FrameDecoder().feed(damaged):
            assert isinstance(item, Message | Discarded)
            if isinstance(item, Message):
                assert decode(encode(item)) in (item, _without_unknown_extensions(item))
    except BusError:
        pass


def _without_unknown_extensions(item: Message) -> Message:
    """What survives encoding: extensions of unknown type are never written."""
    if not isinstance(item.body, Gossip):
        return item
    flags = item.header.mflags & ~MessageFlags.EXT_DATA
    if item.body.hostname is not None:
        flags |= MessageFlags.EXT_DATA
    return Message(attrs.evolve(item.header, mflags=flags), attrs.evolve(item.body, unknown_extensions=()))


class TestFraming:
    good = encode(message(EMPTY, MessageType.MFSTART))

    @pytest.mark.parametrize(
        "head",
        [
            b"RCmc" + struct.pack(">I", 2256),
            b"RCmb" + struct.pack(">I", 2255),
            b"RCmb" + struct.pack(">I", 0),
            b"RCmb" + struct.pack(">I", MAX_PACKET_BYTES + 1),
            b"PING\r\n\r\n",
        ],
    )
    def test_a_bad_head_is_refused_as_soon_as_it_is_complete(self, head: bytes) -> None:
        decoder = FrameDecoder()

        assert list(decoder.feed(head[:7])) == []
        with pytest.raises(BusError, match="Bad message length or signature received from Cluster bus"):
            list(decoder.feed(head[7:]))

    def test_what_came_before_the_damage_is_still_delivered(self) -> None:
        items = FrameDecoder().feed(self.good + b"garbage!")

        assert isinstance(next(items), Message)
        with pytest.raises(BusError):
            next(items)

    def test_a_chunk_is_kept_even_if_nobody_iterates(self) -> None:
        decoder = FrameDecoder()
        decoder.feed(self.good[:100])

        assert len(list(decoder.feed(self.good[100:]))) == 1


class TestDiscarded:
    """Packets that Redis skips while it keeps the link, with its words for the log."""

    def discard(self, packet: bytes) -> Discarded:
        [item] = FrameDecoder().feed(with_length(packet))
        assert isinstance(item, Discarded)
        return item

    def test_another_protocol_version(self) -> None:
        item = self.discard(replace_at(encode(message(EMPTY, MessageType.MFSTART)), 8, b"\0\2"))
        assert item.is_countable
        assert item.type_number == MessageType.MFSTART

    def test_an_unknown_type(self) -> None:
        item = self.discard(replace_at(encode(message(EMPTY, MessageType.MFSTART)), 12, struct.pack(">H", 11)))
        assert item.text == "Received unknown packet type: 11"
        assert not item.is_countable

    @pytest.mark.parametrize("message_type", list(MessageType))
    @pytest.mark.parametrize("change", [-1, 1])
    def test_a_length_that_does_not_fit_the_type(self, message_type: MessageType, change: int) -> None:
        packet = encode(message(bodies(message_type), message_type))
        if len(packet) == HEADER_BYTES and change < 0:
            with pytest.raises(BusError):  # Shorter than any packet: not even cut from the stream.
                self.discard(packet[:-1])
            return
        packet = packet[:change] if change < 0 else packet + b"\0"

        text = self.discard(packet).text

        assert f" packet of length {len(packet)} but expected length {len(packet) - change}" in text or (
            message_type in (MessageType.PING, MessageType.PONG, MessageType.MEET)
            and "exceeds total packet length" in text
        )

    @pytest.mark.parametrize(
        ("extension", "words"),
        [
            (struct.pack(">IHH", 12, 0, 0) + b"abcd", "without proper padding (12 bytes)"),
            (struct.pack(">IHH", 800, 0, 0) + b"abcdefg\0", "extension data that exceeds total packet length"),
            (struct.pack(">IHH", 0, 0, 0), "extension data that exceeds total packet length"),
            (b"", "extension data that exceeds total packet length"),
        ],
    )
    def test_bad_extensions(self, extension: bytes, words: str) -> None:
        packet = encode(message(Gossip(hostname="host"), MessageType.PING))[:HEADER_BYTES] + extension
        assert words in self.discard(packet).text

    def test_unknown_extensions_are_reported_and_the_rest_is_used(self) -> None:
        packet = encode(message(Gossip((ENTRY,), hostname="host"), MessageType.PING))
        packet = with_length(replace_at(packet, 2214, b"\0\2") + struct.pack(">IHH", 16, 3, 0) + b"12345678")

        item = decode(packet)

        assert isinstance(item, Message)
        assert item.body == Gossip((ENTRY,), "host", (3,))

    def test_extensions_without_their_flag_do_not_count(self) -> None:
        packet = replace_at(encode(message(Gossip(), MessageType.PING)), 2214, b"\0\5")
        item = decode(packet)
        assert isinstance(item, Message)
        assert item.body == Gossip()
