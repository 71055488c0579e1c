"""Six nodes, and one of them dies, freezes or comes back: what clients and the other five must see.

Each story starts from a fresh or healed cluster of three masters with one replica each, at cluster-node-timeout 2000.
A failover then takes 2 to 4 seconds: the timeout, the gossip that turns PFAIL into FAIL, and the election's delay.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.clusters import SLOTS, ClusterFixture, key_slot, nodes_seen_by
from tests.support.servers import Kind, Server
from tests.support.waiting import PATIENCE, eventually
from tests.support.wire import ReplyError
from tests.support.writers import ContinuousWriter

FAILOVER = PATIENCE
LONGEST_GAP = 20.0  # Generous: the machine may be busy with other tests.


@pytest.fixture
def cluster(kind: Kind) -> Iterator[ClusterFixture]:
    with ClusterFixture(masters=3, replicas=1, kind=kind) as running:
        yield running


def wait_promoted(cluster: ClusterFixture, old: Server, replica: Server) -> None:
    """Every node that runs agrees: `old` is out, `replica` is a master with all of its slots, and all is well."""

    def promoted() -> bool:
        for node in cluster.running:
            view = cluster.view_of(replica, on=node)
            if not view.is_master or not view.slots or cluster.view_of(old, on=node).slots:
                return False
        return True

    eventually(promoted, FAILOVER, message=lambda: f"promotion of {replica}\n{cluster.describe()}")
    cluster.wait_ok(FAILOVER)


def wait_replica_of(cluster: ClusterFixture, node: Server, master: Server) -> None:
    """`node` says so itself, everybody else has heard it, and it has all of the data."""

    def joined() -> bool:
        role = node.call("ROLE")
        return bool(role[0] == b"slave" and role[2] == master.port and role[3] == b"connected")

    eventually(joined, FAILOVER, message=lambda: f"{node} to be a replica of {master}\n{cluster.describe()}")
    master_id = cluster.node_id(master)
    eventually(
        lambda: all(cluster.view_of(node, on=other).master_id == master_id for other in cluster.running), FAILOVER
    )
    cluster.wait_in_sync(FAILOVER)


def roles(cluster: ClusterFixture) -> list[tuple[bool, str | None]]:
    """(is a master, whose replica) of each node, by its own account."""
    views = [cluster.view_of(node, on=node) for node in cluster.nodes]
    return [(view.is_master, view.master_id) for view in views]


def keys_in(slots: frozenset[int], count: int) -> list[str]:
    return [key for key in (f"key:{number}" for number in range(count * 10)) if key_slot(key.encode()) in slots][:count]


def dump(node: Server, keys: list[str]) -> dict[str, bytes | None]:
    """The keys' values as a replica serves them."""
    with node.raw() as connection:
        connection.call("READONLY")
        return {key: connection.call("GET", key) for key in keys}


def test_kill_9_of_a_master(cluster: ClusterFixture) -> None:
    """Its replica serves its slots; the old master comes back as a replica with its data resynchronised."""
    master = cluster.nodes[0]
    replica = cluster.nodes[3]
    slots = cluster.view_of(master, on=master).slots
    epoch = int(master.cluster_info()["cluster_current_epoch"])
    keys = keys_in(slots, 200)
    for key in keys:
        master.call("SET", key, "before")
    cluster.wait_in_sync()

    others = [node.port for node in cluster.nodes if node is not master]
    with ContinuousWriter(others, keys[:100], key_slot, timeout=1.0, pause=0.001) as writer:
        writer.wait_for_writes(50)
        master.kill9()
        wait_promoted(cluster, master, replica)
        writer.wait_for_writes(200)
        account = writer.stop()

    # The replica won an election: a new epoch, all of the slots, and both sets of data.
    assert int(replica.cluster_info()["cluster_current_epoch"]) > epoch
    assert cluster.view_of(replica, on=replica).slots == slots
    assert account.longest_gap < LONGEST_GAP
    assert [replica.call("GET", key) for key in keys[100:]] == [b"before"] * 100
    for key, value in account.acknowledged.items():
        assert replica.call("GET", key) == value.encode()
    assert {view.node_id for view in nodes_seen_by(replica).values() if "fail" in view.flags} == {
        cluster.node_id(master)
    }

    # The old master missed some writes and some deletions.
    replica.call("UNLINK", keys[150])
    replica.call("SET", keys[151], "after")
    master.restart()
    wait_replica_of(cluster, master, replica)
    assert cluster.replicas_of(replica) == [master]
    assert dump(master, keys) == {key: replica.call("GET", key) for key in keys}
    assert dump(master, keys)[keys[151]] == b"after"
    assert master.call("DBSIZE") == replica.call("DBSIZE") == 199
    with pytest.raises(ReplyError, match=r"^MOVED "):
        master.call("SET", keys[0], "nobody asked you")
    # Its own ping tells them whom it replicates; that it is back they believe when it answers theirs.
    eventually(lambda: not any(view.failed for view in nodes_seen_by(cluster.nodes[1]).values()), FAILOVER)


def test_sigstop_of_a_master(cluster: ClusterFixture) -> None:
    """Frozen for longer than the node timeout, it steps down; nothing it accepted while cut off is served."""
    master, replica = cluster.nodes[1], cluster.nodes[4]
    slots = cluster.view_of(master, on=master).slots
    kept, contested, only_old = keys_in(slots, 3)
    master.call("SET", kept, "kept")
    master.call("SET", contested, "before")
    cluster.wait_in_sync()

    with master.raw() as connection:
        connection.call("PING")
        master.pause()
        # These wait in the frozen node's socket buffer: the first thing it does when it wakes is to read them.
        connection.send("SET", contested, "by the old master")
        connection.send("SET", only_old, "by the old master")
        wait_promoted(cluster, master, replica)
        replica.call("SET", contested, "by the new master")
        master.resume()
        answers = [connection.reply(), connection.reply()]
    # It may have believed itself a master for a moment and said OK, or have refused. Either way:
    assert all(answer == b"OK" or isinstance(answer, ReplyError) for answer in answers), answers
    wait_replica_of(cluster, master, replica)
    expected = {kept: b"kept", contested: b"by the new master", only_old: None}
    assert dump(master, list(expected)) == expected
    assert dump(replica, list(expected)) == expected
    with cluster.client() as client:
        assert {key: client.get(key) for key in expected} == expected
    cluster.wait_ok()


def test_a_master_in_the_minority_refuses(cluster: ClusterFixture) -> None:
    """A node that has heard from no majority for a node timeout stops serving, and serves again when they are back."""
    survivor = cluster.nodes[0]
    key = keys_in(cluster.view_of(survivor, on=survivor).slots, 1)[0]
    for node in cluster.nodes[1:]:
        node.pause()

    def refuses() -> bool:
        with survivor.raw() as connection:
            answer = connection.ask("SET", key, "value")
        return isinstance(answer, ReplyError) and str(answer).startswith("CLUSTERDOWN")

    eventually(refuses, FAILOVER, message="CLUSTERDOWN from the only one left")
    assert survivor.cluster_info()["cluster_state"] == "fail"
    for node in cluster.nodes[1:]:
        node.resume()
    cluster.wait_ok(FAILOVER)
    owner = cluster.master_of(key_slot(key.encode()))
    eventually(lambda: owner.call("SET", key, "value") == b"OK", FAILOVER, ignore=(ReplyError, OSError))


def test_a_replica_that_dies_and_returns_resynchronises(cluster: ClusterFixture) -> None:
    master, replica = cluster.nodes[2], cluster.nodes[5]
    keys = keys_in(cluster.view_of(master, on=master).slots, 50)
    replica.kill9()
    for key in keys:
        master.call("SET", key, "while away")
    eventually(lambda: cluster.view_of(replica, on=master).failed, FAILOVER, message="the dead replica marked")
    assert master.cluster_info()["cluster_state"] == "ok"
    replica.restart()
    wait_replica_of(cluster, replica, master)
    assert dump(replica, keys) == dict.fromkeys(keys, b"while away")


def test_manual_failover_loses_nothing(cluster: ClusterFixture) -> None:
    """CLUSTER FAILOVER under a writer: roles swap, no acknowledged write is lost."""
    master, replica = cluster.calm().nodes[0], cluster.nodes[3]
    keys = keys_in(cluster.view_of(master, on=master).slots, 100)
    with ContinuousWriter([node.port for node in cluster.nodes], keys, key_slot) as writer:
        writer.wait_for_writes(200)
        assert replica.call("CLUSTER", "FAILOVER") == b"OK"
        wait_promoted(cluster, master, replica)
        wait_replica_of(cluster, master, replica)
        writer.wait_for_writes(200)
        account = writer.stop()
    assert account.failures == []
    assert {key: replica.call("GET", key).decode() for key in account.acknowledged} == account.acknowledged


@pytest.mark.parametrize("how", ["SIGTERM", "kill -9"])
def test_restart_of_all_six_at_once(kind: Kind, how: str) -> None:
    """Slots, epochs and roles are as before; after a clean shutdown with save points the data is, too."""
    with ClusterFixture(masters=3, replicas=1, kind=kind, save="900 1") as cluster:
        # Roles and epochs that are not those of the creation.
        cluster.nodes[3].call("CLUSTER", "FAILOVER")
        wait_promoted(cluster, cluster.nodes[0], cluster.nodes[3])
        wait_replica_of(cluster, cluster.nodes[0], cluster.nodes[3])
        keys = [f"key:{number}" for number in range(300)]
        with cluster.client() as client:
            for key in keys:
                client.set(key, f"value of {key}")
        cluster.wait_in_sync()
        slots_before = cluster.slot_map(cluster.nodes[0])
        roles_before = roles(cluster)
        epochs_before = {node.cluster_info()["cluster_current_epoch"] for node in cluster.nodes}
        assert len(epochs_before) == 1
        cluster.calm()  # Whoever starts later than its replica is not to lose its slots for it.

        if how == "SIGTERM":
            assert cluster.each(lambda node: node.stop()) == [0] * 6
        else:
            cluster.each(lambda node: node.kill9())
        cluster.start()

        cluster.wait_ok(FAILOVER)
        cluster.wait_in_sync(FAILOVER)
        for node in cluster.nodes:
            assert cluster.slot_map(node) == slots_before
            assert sum(len(view.slots) for view in nodes_seen_by(node).values()) == SLOTS
        assert roles(cluster) == roles_before
        assert {node.cluster_info()["cluster_current_epoch"] for node in cluster.nodes} == epochs_before
        with cluster.client() as client:
            if how == "SIGTERM":
                assert [client.get(key) for key in keys] == [f"value of {key}".encode() for key in keys]
            assert client.set("and it takes writes", "yes")
