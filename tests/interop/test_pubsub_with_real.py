"""Messages between real nodes and ours: over the cluster bus, within a shard, along a replication link."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.clusters import ClusterFixture, key_slot
from tests.support.servers import KINDS, Kind, Server
from tests.support.waiting import eventually
from tests.support.wire import RawConnection, ReplyError

pytestmark = pytest.mark.real_redis


@pytest.fixture(scope="module")
def mixed() -> Iterator[ClusterFixture]:
    """Two shards: a real master with a replica of ours, and one of our masters with a real replica."""
    with ClusterFixture(masters=2, replicas=1, kind=["real", "ours", "ours", "real"]) as cluster:
        cluster.wait_in_sync()
        cluster.wait_replicas_listed()
        yield cluster.calm()  # A link that is given up takes what is published meanwhile with it.


def shard_of(cluster: ClusterFixture, node: Server) -> list[Server]:
    """The master of a node's shard, then its replicas."""
    masters = cluster.nodes[: cluster.masters]
    shards = [[master, *cluster.replicas_of(master)] for master in masters]
    return next(shard for shard in shards if node in shard)


def channel_of(cluster: ClusterFixture, node: Server, tag: str = "") -> bytes:
    """A shard channel of this node's or its master's slots."""
    slots = cluster.view_of(shard_of(cluster, node)[0], on=node).slots
    return next(name for name in (b"%b%d" % (tag.encode(), n) for n in range(10_000)) if key_slot(name) in slots)


def test_what_is_published_on_one_node_is_heard_once_on_each(mixed: ClusterFixture) -> None:
    with ExitStack() as stack:
        listeners = [stack.enter_context(node.raw()) for node in mixed.nodes]
        for listener in listeners:
            assert listener.call("SUBSCRIBE", "news") == [b"subscribe", b"news", 1]
            assert listener.call("PSUBSCRIBE", "ne*") == [b"psubscribe", b"ne*", 2]
        for number, node in enumerate(mixed.nodes):
            payload = b"from %d\r\n\x00" % number + b"x" * 100_000
            assert node.call("PUBLISH", "news", payload) == 2  # Only those of the node itself are counted.
            for listener in listeners:
                assert listener.reply() == [b"message", b"news", payload]
                assert listener.reply() == [b"pmessage", b"ne*", b"news", payload]
        for listener in listeners:
            assert listener.call("PING", "and nothing else") == [b"pong", b"and nothing else"]


def test_a_shard_channel_is_heard_in_its_shard(mixed: ClusterFixture) -> None:
    for node in mixed.nodes:
        channel = channel_of(mixed, node)
        shard = shard_of(mixed, node)
        with ExitStack() as stack:
            listeners = [stack.enter_context(member.raw()) for member in shard]
            for listener in listeners:
                assert listener.call("SSUBSCRIBE", channel) == [b"ssubscribe", channel, 1]
            assert node.call("SPUBLISH", channel, "hi") == 1
            for listener in listeners:
                assert listener.reply() == [b"smessage", channel, b"hi"]
                assert listener.call("PING", "") == [b"pong", b""]
        for other in mixed.nodes:
            if other not in shard:
                for request in (("SPUBLISH", channel, "hi"), ("SSUBSCRIBE", channel), ("SUNSUBSCRIBE", channel)):
                    with pytest.raises(ReplyError, match=f"^MOVED {key_slot(channel)} "):
                        other.call(*request)


@pytest.mark.parametrize("giver_index", [0, 1])
def test_who_listens_to_a_slot_that_leaves_is_told(mixed: ClusterFixture, giver_index: int) -> None:
    giver, taker = mixed.nodes[giver_index], mixed.nodes[1 - giver_index]
    channel = channel_of(mixed, giver, "leaving")
    stays = next(name for name in (b"stay%d" % n for n in range(10_000)) if _stays(mixed, giver, name, channel))
    members = shard_of(mixed, giver)
    slot = key_slot(channel)
    with ExitStack() as stack:
        listeners = [stack.enter_context(member.raw()) for member in members]
        for listener in listeners:
            listener.call("SSUBSCRIBE", channel)
            listener.call("SSUBSCRIBE", stays)
        _move_slot(mixed, slot, giver, taker)
        for listener in listeners:
            assert listener.reply() == [b"sunsubscribe", channel, 1]
            assert listener.call("PING", "") == [b"pong", b""]
        for member in members:
            eventually(lambda member=member: member.call("PUBSUB", "SHARDCHANNELS") == [stays])  # type: ignore[misc]
        with taker.raw() as listener:
            assert listener.call("SSUBSCRIBE", channel) == [b"ssubscribe", channel, 1]
            assert taker.call("SPUBLISH", channel, "here now") == 1
            assert listener.reply() == [b"smessage", channel, b"here now"]
    _move_slot(mixed, slot, taker, giver)


def _stays(cluster: ClusterFixture, node: Server, name: bytes, other: bytes) -> bool:
    return key_slot(name) != key_slot(other) and key_slot(name) in cluster.view_of(node, on=node).slots


def _move_slot(cluster: ClusterFixture, slot: int, giver: Server, taker: Server) -> None:
    taker.call("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.node_id(giver))
    giver.call("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.node_id(taker))
    for node in (taker, giver):
        node.call("CLUSTER", "SETSLOT", slot, "NODE", cluster.node_id(taker))
    cluster.wait_agreement()


@pytest.mark.parametrize(("master_kind", "replica_kind"), [("ours", "real"), ("real", "ours"), ("ours", "ours")])
def test_replicas_publish_what_their_master_did(master_kind: Kind, replica_kind: Kind) -> None:
    with KINDS[master_kind]() as master, KINDS[replica_kind](replicaof=f"127.0.0.1 {master.port}") as replica:
        eventually(lambda: replica.info("replication").get("master_link_status") == "up")
        with replica.raw() as listener, master.raw() as publisher:
            listener.call("SUBSCRIBE", "news")
            listener.call("SSUBSCRIBE", "shard news")
            assert publisher.call("PUBLISH", "news", "first") == 0
            assert publisher.call("SPUBLISH", "shard news", "second") == 0
            _transaction(publisher)
            told = [listener.reply() for _ in range(3)]
            assert told == [
                [b"message", b"news", b"first"],
                [b"smessage", b"shard news", b"second"],
                [b"message", b"news", b"third"],
            ]
            assert replica.call("PUBLISH", "news", "from the replica") == 1
            assert listener.reply() == [b"message", b"news", b"from the replica"]
        assert master.call("GET", "k") == b"v"
        eventually(lambda: replica.call("GET", "k") == b"v")


def _transaction(client: RawConnection) -> None:
    client.call("MULTI")
    client.call("SET", "k", "v")
    client.call("PUBLISH", "news", "third")
    assert client.call("EXEC") == [b"OK", 0]
