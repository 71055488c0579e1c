"""The bus codec and a real redis-server: what it sends we read and would write alike, what we write it believes.

The test plays a cluster node by hand: it listens on a bus port, says MEET to the real server, and answers its PINGs.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Self

import attrs
import pytest

from cluster.gossip.messages import (
    EMPTY,
    Body,
    Fail,
    Gossip,
    GossipEntry,
    Header,
    Message,
    MessageType,
    Module,
    Publish,
    Update,
)
from cluster.gossip.state import NodeFlags
from cluster.gossip.wire import Discarded, FrameDecoder, decode, encode
from cluster.slots.hashing import key_slot
from cluster.slots.ranges import slots_to_bitmap
from tests.support.servers import RealRedis
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.real_redis

PEER_ID = "0123456789abcdef0123456789abcdef01234567"
DEADLINE_S = PATIENCE


class BusSocket:
    """A blocking bus connection that keeps the packets it saw, as bytes and as messages."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(DEADLINE_S)
        self.packets: list[bytes] = []
        self._decoder = FrameDecoder()
        self._pending: list[Message] = []
        self._tail = b""

    def send(self, message: Message) -> None:
        self.sock.sendall(encode(message))

    def receive(self, *types: MessageType) -> Message:
        """The next message of one of these types; others are dropped."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            while self._pending:
                message = self._pending.pop(0)
                if not types or message.type in types:
                    return message
            chunk = self.sock.recv(65536)
            assert chunk, "the server closed the bus connection"
            self._record(chunk)
            for item in self._decoder.feed(chunk):
                assert isinstance(item, Message), item
                self._pending.append(item)
        raise AssertionError(f"no {types} within {DEADLINE_S} s")

    def _record(self, chunk: bytes) -> None:
        """Cut packets independently of the decoder, to compare bytes."""
        self._tail += chunk
        while len(self._tail) >= 8:
            length = int.from_bytes(self._tail[4:8], "big")
            if len(self._tail) < length:
                break
            self.packets.append(self._tail[:length])
            self._tail = self._tail[length:]

    def close(self) -> None:
        self.sock.close()


class HandMadePeer:
    """A cluster node made of two sockets: the link we open, and the one the server opens to us."""

    def __init__(self, server: RealRedis) -> None:
        self.server = server
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(DEADLINE_S)
        self.bus_port = self.listener.getsockname()[1]
        self.outbound = BusSocket(socket.create_connection(("127.0.0.1", server.bus_port), timeout=DEADLINE_S))
        self.inbound: BusSocket | None = None
        self.header = Header(
            type=MessageType.MEET,
            sender=PEER_ID,
            current_epoch=0,
            config_epoch=0,
            repl_offset=0,
            slots=slots_to_bitmap([]),
            master_id=None,
            flags=NodeFlags.MASTER | NodeFlags.MYSELF,
            state=1,
            port=6399,
            cport=self.bus_port,
        )

    def message(self, kind: MessageType, body: Body = EMPTY) -> Message:
        return Message(attrs.evolve(self.header, type=kind), body)

    def say(self, kind: MessageType, body: Body = EMPTY) -> None:
        self.outbound.send(self.message(kind, body))

    def meet(self) -> Self:
        """Shake hands until the server holds us for a node of its cluster; returns self."""
        self.say(MessageType.MEET, Gossip())
        assert self.outbound.receive().type is MessageType.PONG
        self.inbound = BusSocket(self.listener.accept()[0])
        assert self.inbound.receive().type is MessageType.PING
        self.inbound.send(self.message(MessageType.PONG, Gossip()))
        eventually(lambda: self.line().split()[7:8] == ["connected"], DEADLINE_S)
        return self

    def line(self) -> str:
        """Our line in the server's CLUSTER NODES."""
        lines = self.server.call("CLUSTER", "NODES").decode().splitlines()
        return next((line for line in lines if line.startswith(PEER_ID)), "")

    def close(self) -> None:
        self.listener.close()
        self.outbound.close()
        if self.inbound is not None:
            self.inbound.close()


@pytest.fixture
def server() -> Iterator[RealRedis]:
    with RealRedis(cluster=True, cluster_node_timeout=60000, cluster_announce_hostname="real.example") as real:
        yield real


@pytest.fixture
def peer(server: RealRedis) -> Iterator[HandMadePeer]:
    made = HandMadePeer(server)
    yield made
    made.close()


def test_key_slots_are_those_of_the_real_server(server: RealRedis) -> None:
    keys = [b"", b"foo", b"{a}b", b"a{}b", b"a{b", b"}{", b"{{x}}", b"{\0}x", b"\xff" * 40, b"x{y}{z}"]
    keys += [b"key:%d" % n for n in range(200)]
    with server.raw() as connection:
        assert [connection.call("CLUSTER", "KEYSLOT", key) for key in keys] == [key_slot(key) for key in keys]


def test_the_real_server_joins_us(server: RealRedis, peer: HandMadePeer) -> None:
    """MEET, PONG, PING, PONG: after that we are a member, with the address, flags and hostname we announced."""
    peer.meet()
    peer.say(MessageType.PING, Gossip(hostname="by-hand.example"))
    peer.outbound.receive(MessageType.PONG)

    fields = peer.line().split()
    assert fields[:4] == [PEER_ID, f"127.0.0.1:6399@{peer.bus_port},by-hand.example", "master", "-"]
    assert fields[6:] == ["0", "connected"]


def test_what_the_real_server_says_of_itself(server: RealRedis, peer: HandMadePeer) -> None:
    server.call("CLUSTER", "ADDSLOTSRANGE", 0, 99, 16383, 16383)
    peer.say(MessageType.MEET, Gossip())
    pong = peer.outbound.receive()

    assert pong.type is MessageType.PONG
    assert pong.header.sender == server.call("CLUSTER", "MYID").decode()
    assert pong.header.slots == slots_to_bitmap([*range(100), 16383])
    assert pong.header.flags == NodeFlags.MYSELF | NodeFlags.MASTER
    assert pong.header.master_id is None
    assert (pong.header.port, pong.header.cport, pong.header.pport) == (server.port, server.bus_port, 0)
    assert pong.header.my_ip == ""
    assert pong.header.state == 1
    assert pong.body == Gossip(hostname="real.example")


def test_its_packets_are_what_we_would_have_sent(server: RealRedis, peer: HandMadePeer) -> None:
    """decode then encode gives back every captured byte, gossip about a third node and its extension included."""
    with RealRedis(cluster=True, cluster_node_timeout=60000) as third:
        server.call("CLUSTER", "MEET", "127.0.0.1", third.port)
        eventually(lambda: server.cluster_info()["cluster_known_nodes"] == "2", DEADLINE_S)
        third_id = third.call("CLUSTER", "MYID").decode()
        eventually(lambda: third_id in server.call("CLUSTER", "NODES").decode(), DEADLINE_S)
        peer.meet()

        def gossip() -> list[GossipEntry]:
            peer.say(MessageType.PING, Gossip())
            body = peer.outbound.receive(MessageType.PONG).body
            assert isinstance(body, Gossip)
            return [entry for entry in body.entries if entry.node_id == third_id]

        [entry] = eventually(gossip, DEADLINE_S)
        assert peer.inbound is not None
        packets = peer.outbound.packets + peer.inbound.packets

        assert (entry.ip, entry.port, entry.cport) == ("127.0.0.1", third.port, third.bus_port)
        assert entry.flags == NodeFlags.MASTER
        assert abs(entry.pong_received_s - time.time()) < 60
        assert len(packets) >= 3
        for packet in packets:
            message = decode(packet)
            assert isinstance(message, Message)
            assert encode(message) == packet


def test_it_believes_our_slots_and_epochs(server: RealRedis, peer: HandMadePeer) -> None:
    peer.meet()
    peer.header = attrs.evolve(peer.header, slots=slots_to_bitmap([0, 1, 2, 16383]), current_epoch=9, config_epoch=9)
    peer.say(MessageType.PING, Gossip())
    peer.outbound.receive(MessageType.PONG)

    assert peer.line().split()[6:] == ["9", "connected", "0-2", "16383"]
    assert server.cluster_info()["cluster_current_epoch"] == "9"


def test_it_believes_update_and_fail(server: RealRedis, peer: HandMadePeer) -> None:
    with RealRedis(cluster=True, cluster_node_timeout=60000) as third:
        server.call("CLUSTER", "MEET", "127.0.0.1", third.port)
        third_id = third.call("CLUSTER", "MYID").decode()
        peer.meet()

        def third_line() -> str:
            lines = server.call("CLUSTER", "NODES").decode().splitlines()
            return next((line for line in lines if line.startswith(third_id)), "")

        eventually(lambda: third_line().endswith(" connected"), DEADLINE_S)
        peer.say(MessageType.UPDATE, Update(third_id, 5, slots_to_bitmap([7])))
        eventually(lambda: third_line().endswith(" 5 connected 7"), DEADLINE_S)
        # Once paused it cannot clear the mark again by answering.
        third.pause()
        peer.say(MessageType.FAIL, Fail(third_id))
        eventually(lambda: "master,fail " in third_line(), DEADLINE_S)
        third.resume()


def test_it_delivers_what_we_publish(server: RealRedis, peer: HandMadePeer) -> None:
    peer.meet()
    with server.client() as client:
        subscription = client.pubsub()
        subscription.subscribe("news")
        assert subscription.get_message(timeout=DEADLINE_S)["type"] == "subscribe"
        peer.say(MessageType.PUBLISH, Publish(b"news", b"\0hello\xff"))

        delivered = subscription.get_message(timeout=DEADLINE_S)
        subscription.close()

    assert (delivered["channel"], delivered["data"]) == (b"news", b"\0hello\xff")


def test_we_read_what_it_publishes(server: RealRedis, peer: HandMadePeer) -> None:
    peer.meet()
    server.call("PUBLISH", "news", b"\0hello\xff")
    assert peer.inbound is not None

    message = peer.inbound.receive(MessageType.PUBLISH)

    assert message.body == Publish(b"news", b"\0hello\xff")


@pytest.mark.parametrize(
    ("message_type", "body"),
    [
        (MessageType.FAILOVER_AUTH_REQUEST, EMPTY),
        (MessageType.FAILOVER_AUTH_ACK, EMPTY),
        (MessageType.MFSTART, EMPTY),
        (MessageType.MODULE, Module(1, 2, b"abc")),
        (MessageType.PUBLISHSHARD, Publish(b"c", b"p")),
    ],
)
def test_the_remaining_types_have_the_length_it_expects(
    server: RealRedis, peer: HandMadePeer, message_type: MessageType, body: Body
) -> None:
    """It counts them, does not call their length invalid, and keeps the link."""
    peer.meet()
    peer.say(message_type, body)
    peer.say(MessageType.PING, Gossip())
    peer.outbound.receive(MessageType.PONG)

    names = {"FAILOVER_AUTH_REQUEST": "auth-req", "FAILOVER_AUTH_ACK": "auth-ack"}
    name = names.get(message_type.name, message_type.name.lower())
    assert server.cluster_info()[f"cluster_stats_messages_{name}_received"] == "1"
    assert "Received invalid" not in server.log_text()


@pytest.mark.parametrize("damage", ["length", "version", "type"])
def test_both_keep_the_link_after_a_packet_that_does_not_add_up(
    server: RealRedis, peer: HandMadePeer, damage: str
) -> None:
    peer.meet()
    packet = bytearray(encode(peer.message(MessageType.FAIL, Fail(PEER_ID))))
    match damage:
        case "length":
            packet += b"\0"
            packet[4:8] = len(packet).to_bytes(4, "big")
        case "version":
            packet[8:10] = b"\0\2"
        case "type":
            packet[12:14] = b"\0\x63"

    ours = decode(bytes(packet))
    peer.outbound.sock.sendall(packet)
    peer.say(MessageType.PING, Gossip())

    assert isinstance(ours, Discarded)
    assert peer.outbound.receive().type is MessageType.PONG
    if damage != "version":  # Which Redis ignores without a word.
        assert ours.text in server.log_text()


@pytest.mark.parametrize("head", [b"RCmc\0\0\x08\xd0", b"RCmb\0\0\x08\xcf", b"GET / HT"])
def test_both_drop_the_link_after_a_bad_head(server: RealRedis, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.bus_port), timeout=DEADLINE_S) as sock:
        sock.sendall(head)
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
    assert "Bad message length or signature received from Cluster bus." in server.log_text()
