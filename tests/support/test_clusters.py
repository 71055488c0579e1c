"""The cluster fixture and the writer, tried on Debian's Redis, whose behaviour is the reference."""

from __future__ import annotations

import pytest

from tests.support.clusters import SLOTS, ClusterFixture, NodeView, key_slot, slot_ranges
from tests.support.writers import ContinuousWriter

pytestmark = pytest.mark.real_redis


def test_ranges_cover_every_slot_once() -> None:
    for masters in (1, 2, 3, 5, 7):
        slots = [slot for first, last in slot_ranges(masters) for slot in range(first, last + 1)]
        assert slots == list(range(SLOTS))
    assert slot_ranges(3) == [(0, 5460), (5461, 10922), (10923, 16383)]  # What redis-cli prints for three.


def test_a_line_of_cluster_nodes_is_read() -> None:
    view = NodeView.parse(
        "07c3 127.0.0.1:30004@31004,hostname myself,master,fail? - 0 1426238317239 4 connected"
        " 0-1 7 [93-<-292f] [77->-e7d1]"
    )
    assert (view.node_id, view.port, view.bus_port, view.config_epoch) == ("07c3", 30004, 31004, 4)
    assert view.is_master and view.failed and view.connected and view.master_id is None
    assert [sorted(slots) for slots in (view.slots, view.migrating, view.importing)] == [[0, 1, 7], [77], [93]]


def test_a_cluster_is_formed_and_written_to() -> None:
    with ClusterFixture(masters=3, replicas=1, kind="real") as cluster:
        master = cluster.master_of(0)
        assert master is cluster.nodes[0]
        assert cluster.replicas_of(master) == [cluster.nodes[3]]
        keys = [f"key:{number}" for number in range(100)]
        with ContinuousWriter([node.port for node in cluster.nodes], keys, key_slot) as writer:
            writer.wait_for_writes(200)
            account = writer.stop()
        assert account.failures == []
        assert len(account.acknowledged) == 100
        with cluster.client() as client:
            assert client.get("key:7") == account.acknowledged["key:7"].encode()


def test_a_cluster_is_formed_by_redis_cli() -> None:
    with ClusterFixture(masters=3, replicas=0, kind="real", create="redis-cli") as cluster:
        assert {len(view[2]) for view in cluster.slot_map(cluster.nodes[2])} == {5461, 5462}
