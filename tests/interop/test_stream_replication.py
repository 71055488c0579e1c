"""Streams and groups on a replica are those of its master, whichever of the two is ours; so are those in its files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from tests.support.servers import OurNode, RealRedis, Server
from tests.support.waiting import eventually
from tests.support.wire import RawConnection

pytestmark = pytest.mark.real_redis


@pytest.fixture(params=["ours to ours", "ours to real", "real to ours"])
def master_and_replica(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server]]:
    kinds = {"ours": OurNode, "real": RealRedis}
    first, _to, second = request.param.split()
    with kinds[first]() as master, kinds[second]() as replica:
        replica.call("REPLICAOF", "127.0.0.1", master.port)
        eventually(lambda: replica.info("replication")["master_link_status"] == "up")
        yield master, replica


def use_groups(client: redis.Redis, key: str) -> None:
    """Everything that changes a stream or a group in a way of its own."""
    for number in range(300):
        client.xadd(key, {"f": number}, maxlen=100, approximate=True)
    client.xgroup_create(key, "g", "0")
    client.xreadgroup("g", "one", {key: ">"}, count=50)
    client.xreadgroup("g", "two", {key: ">"}, count=10, noack=True)
    ids = [entry["message_id"] for entry in client.xpending_range(key, "g", "-", "+", 6)]
    client.xack(key, "g", *ids[:2])
    client.xdel(key, ids[2], ids[4])
    client.xclaim(key, "g", "three", 0, ids[2:4])
    client.xautoclaim(key, "g", "four", 0, count=3)
    client.xtrim(key, minid=ids[3], approximate=True)
    client.xgroup_createconsumer(key, "g", "idle")
    client.xgroup_create(key, "other", "$")


def everything(server: Server, key: str) -> Any:
    """XINFO of the whole stream, but for when consumers were seen, which is each server's own affair."""
    info = server.call("XINFO", "STREAM", key, "FULL", "COUNT", "0")
    fields = dict(zip(info[::2], info[1::2], strict=True))
    for group in fields[b"groups"]:
        for consumer in group[group.index(b"consumers") + 1]:
            consumer[consumer.index(b"seen-time") + 1] = None
    return fields


def test_replicas_have_the_same_streams_and_groups(master_and_replica: tuple[Server, Server]) -> None:
    master, replica = master_and_replica
    with master.client() as client:
        use_groups(client, "s")
        client.set("end", "1")
    eventually(lambda: replica.call("GET", "end") == b"1")
    assert everything(replica, "s") == everything(master, "s")
    assert replica.call("DEBUG", "DIGEST") == master.call("DEBUG", "DIGEST")


def test_readers_wait_on_replicas_too(master_and_replica: tuple[Server, Server]) -> None:
    master, replica = master_and_replica
    master.call("XADD", "s", "1-0", "f", "v")
    eventually(lambda: replica.call("EXISTS", "s") == 1)
    with RawConnection(replica.port) as reader:
        reader.send("XREAD", "BLOCK", "0", "STREAMS", "s", "$")
        eventually(lambda: replica.info("clients")["blocked_clients"] == "1")
        master.call("XADD", "s", "2-0", "f", "w")
        assert reader.reply() == [[b"s", [[b"2-0", [b"f", b"w"]]]]]


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_files_bring_streams_and_groups_back(preamble: str) -> None:
    with OurNode(appendonly="yes", aof_use_rdb_preamble=preamble) as node:
        with node.client() as client:
            use_groups(client, "s")
            client.bgrewriteaof()
        eventually(lambda: node.info("persistence")["aof_rewrite_in_progress"] == "0")
        node.call("XADD", "s", "*", "f", "after")
        before = everything(node, "s")
        node.call("DEBUG", "LOADAOF")
        after = everything(node, "s")
    if preamble == "no":  # Commands make new nodes, without what was deleted in the old ones.
        for info in (before, after):
            del info[b"radix-tree-keys"], info[b"radix-tree-nodes"]
    assert after == before
