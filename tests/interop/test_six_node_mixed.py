"""Real redis-server nodes and ours in one cluster: same bus, same redirections, same votes, same data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from tests.support.clusters import SLOTS, ClusterFixture, key_slot, nodes_seen_by, slot_ranges
from tests.support.servers import Kind, Server
from tests.support.waiting import PATIENCE, eventually
from tests.support.wire import ReplyError
from tests.support.writers import ContinuousWriter

pytestmark = pytest.mark.real_redis

FAILOVER = PATIENCE


def key_in(first: int, last: int) -> str:
    return next(key for key in (f"key:{number}" for number in range(1000)) if first <= key_slot(key.encode()) <= last)


@pytest.fixture(scope="module")
def trio_of_nodes() -> Iterator[ClusterFixture]:
    """One real node and two of ours, met through the real one."""
    with ClusterFixture(masters=3, kind=["real", "ours", "ours"]) as cluster:
        yield cluster.calm()


def test_all_three_see_each_other_connected(trio_of_nodes: ClusterFixture) -> None:
    for node in trio_of_nodes.nodes:
        views = nodes_seen_by(node)
        assert {view.port for view in views.values()} == {one.port for one in trio_of_nodes.nodes}
        assert all(view.connected and view.is_master and not view.failed for view in views.values())
        assert all(view.bus_port == view.port + 10000 for view in views.values())
        assert "myself" in trio_of_nodes.view_of(node, on=node).flags


def test_all_three_agree_about_the_slots(trio_of_nodes: ClusterFixture) -> None:
    for node in trio_of_nodes.nodes:
        for (first, last), owner in zip(slot_ranges(3), trio_of_nodes.nodes, strict=True):
            assert trio_of_nodes.view_of(owner, on=node).slots == frozenset(range(first, last + 1))
        assert node.cluster_info()["cluster_slots_ok"] == str(SLOTS)
        assert node.cluster_info()["cluster_size"] == "3"


def test_each_redirects_to_each(trio_of_nodes: ClusterFixture) -> None:
    for (first, last), owner in zip(slot_ranges(3), trio_of_nodes.nodes, strict=True):
        key = key_in(first, last)
        assert owner.call("SET", key, f"on {owner.kind}") == b"OK"
        for other in trio_of_nodes.nodes:
            if other is not owner:
                with pytest.raises(ReplyError, match=f"^MOVED {key_slot(key.encode())} 127.0.0.1:{owner.port}$"):
                    other.call("GET", key)
    with trio_of_nodes.client() as client:
        assert client.get(key) == f"on {owner.kind}".encode()


@pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 0)], ids=["real to ours", "ours to real"])
def test_a_slot_migrates(trio_of_nodes: ClusterFixture, source: int, target: int) -> None:
    """SETSLOT, MIGRATE, ASK and back to MOVED, between a real node and one of ours."""
    old, new = trio_of_nodes.nodes[source], trio_of_nodes.nodes[target]
    slot = min(trio_of_nodes.view_of(old, on=old).slots)
    tag = next(f"{{{number}}}" for number in range(10**6) if key_slot(b"%d" % number) == slot)
    keys = [f"{tag}:{number}" for number in range(20)]
    for key in keys:
        old.call("SET", key, f"value of {key}")
    old.call("PEXPIRE", keys[0], 1_000_000)

    new.call("CLUSTER", "SETSLOT", slot, "IMPORTING", trio_of_nodes.node_id(old))
    old.call("CLUSTER", "SETSLOT", slot, "MIGRATING", trio_of_nodes.node_id(new))
    for key in keys[:10]:
        assert old.call("MIGRATE", "127.0.0.1", new.port, key, 0, 30_000) == b"OK"
    assert old.call("MIGRATE", "127.0.0.1", new.port, "", 0, 30_000, "KEYS", *keys[10:15]) == b"OK"
    assert old.call("GET", keys[19]) == f"value of {keys[19]}".encode()
    with pytest.raises(ReplyError, match=f"^ASK {slot} 127.0.0.1:{new.port}$"):
        old.call("GET", keys[0])
    with pytest.raises(ReplyError, match=f"^MOVED {slot} 127.0.0.1:{old.port}$"):
        new.call("GET", keys[0])
    with new.raw() as connection:
        assert connection.call("ASKING") == b"OK"
        assert connection.call("GET", keys[0]) == f"value of {keys[0]}".encode()
        assert connection.call("ASKING") == b"OK"
        assert isinstance(connection.ask("MGET", keys[0], keys[19]), ReplyError)  # TRYAGAIN
    assert old.call("MIGRATE", "127.0.0.1", new.port, "", 0, 30_000, "KEYS", *keys[15:]) == b"OK"
    for node in (new, old):
        node.call("CLUSTER", "SETSLOT", slot, "NODE", trio_of_nodes.node_id(new))
    trio_of_nodes.wait_agreement()
    assert new.call("MGET", *keys) == [f"value of {key}".encode() for key in keys]
    assert 0 < new.call("PTTL", keys[0]) <= 1_000_000
    assert new.call("TTL", keys[1]) == -1
    assert old.call("CLUSTER", "COUNTKEYSINSLOT", slot) == 0
    with pytest.raises(ReplyError, match=f"^MOVED {slot} 127.0.0.1:{new.port}$"):
        old.call("GET", keys[0])


def test_a_node_restarts_into_a_mixed_cluster(trio_of_nodes: ClusterFixture) -> None:
    """Each kind keeps what it knew of the other, and its peers take it back."""
    for node in trio_of_nodes.nodes[:2]:
        before = trio_of_nodes.slot_map(node)
        node.restart()
        trio_of_nodes.wait_ok()
        assert trio_of_nodes.slot_map(node) == before


@pytest.mark.parametrize(
    "kinds",
    [("real", "ours", "real", "ours", "real", "ours"), ("ours", "real", "ours", "real", "ours", "real")],
    ids=["replicas of the other kind", "the other way round"],
)
def test_failover_across_kinds(kinds: Sequence[str]) -> None:
    """A master of each kind dies in turn; its replica of the other kind is elected by masters of both."""
    with ClusterFixture(masters=3, replicas=1, kind=cast(Sequence[Kind], kinds)) as cluster:
        for master, replica in zip(cluster.nodes[:2], cluster.nodes[3:5], strict=True):
            assert master.kind != replica.kind
            fail_over(cluster, master, replica)


def fail_over(cluster: ClusterFixture, master: Server, replica: Server) -> None:
    first, last = min(cluster.view_of(master, on=master).slots), max(cluster.view_of(master, on=master).slots)
    keys = [key for key in (f"key:{number}" for number in range(500)) if first <= key_slot(key.encode()) <= last]
    for key in keys:
        master.call("SET", key, "before")
    cluster.wait_in_sync()
    others = [node.port for node in cluster.nodes if node is not master]
    with ContinuousWriter(others, keys[:20], key_slot, timeout=1.0, pause=0.001) as writer:
        master.kill9()
        eventually(
            lambda: all(cluster.view_of(replica, on=node).slots for node in cluster.running),
            FAILOVER,
            message=lambda: f"{replica} ({replica.kind}) for {master} ({master.kind})\n{cluster.describe()}",
        )
        cluster.wait_ok(FAILOVER)
        writer.wait_for_writes(100)
    assert [replica.call("GET", key) for key in keys[20:]] == [b"before"] * len(keys[20:])

    master.restart()
    eventually(lambda: master.call("ROLE")[0] == b"slave", FAILOVER, message="the old master steps down")
    eventually(lambda: master.info("replication")["master_link_status"] == "up", FAILOVER, message="the link")
    cluster.wait_ok(FAILOVER)
    cluster.wait_in_sync(FAILOVER)
    with master.raw() as connection:
        connection.call("READONLY")
        assert [connection.call("GET", key) for key in keys] == [replica.call("GET", key) for key in keys]
