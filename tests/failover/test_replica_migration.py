"""A spare replica moves to an orphaned master. Cluster spec, "Replica migration algorithm"."""

from __future__ import annotations

import pytest

from cluster.gossip.effects import StartReplication
from cluster.gossip.state import Node, NodeFlags
from tests.support.engines import MY_ID, EngineBench, logged, of_kind, third

DELAY_MS = 5000


class Scene(EngineBench):
    """``rich`` has three replicas, me among them; ``poor`` had one, which is down; ``third`` has one."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)
        self.rich = self.peer("a", slots=third(0), epoch=1)
        self.poor = self.peer("b", slots=third(1), epoch=2)
        self.other = self.peer("c", slots=third(2), epoch=3)
        self.replicate(self.rich)
        self.siblings = [self.peer("x", of=self.rich), self.peer("y", of=self.rich)]
        self.lost = self.peer("p", of=self.poor)
        self.peer("q", of=self.other)
        self.lost.flags |= NodeFlags.FAIL
        self.be_ok()

    def wait(self, duration_ms: int) -> list[object]:
        everybody = [node for node in self.state.nodes.values() if not node.is_myself and node is not self.lost]
        return self.ticks(duration_ms, answering=everybody)  # type: ignore[return-value]

    @property
    def my_master(self) -> Node | None:
        return self.myself.master


def test_the_replica_with_the_smallest_id_moves_to_the_orphan() -> None:
    bench = Scene()
    assert min([MY_ID, *(node.node_id for node in bench.siblings)]) == MY_ID

    bench.wait(DELAY_MS)
    assert bench.my_master is bench.rich
    effects = bench.wait(300)

    assert bench.my_master is bench.poor
    assert of_kind(effects, StartReplication) == [StartReplication(bench.poor.ip, bench.poor.port)]
    assert f"Migrating to orphaned master {bench.poor.node_id}" in logged(effects)


def test_replicas_with_greater_ids_stay() -> None:
    bench = Scene()
    smaller = bench.peer("d", of=bench.rich)
    assert smaller.node_id < MY_ID

    bench.wait(2 * DELAY_MS)

    assert bench.my_master is bench.rich


@pytest.mark.parametrize(("barrier", "moves"), [(1, True), (2, True), (3, False)])
def test_the_barrier_keeps_replicas_at_home(barrier: int, moves: bool) -> None:
    bench = Scene(cluster_migration_barrier=barrier)

    bench.wait(2 * DELAY_MS)

    assert (bench.my_master is bench.poor) is moves


def test_migration_can_be_turned_off() -> None:
    bench = Scene(cluster_allow_replica_migration=False)

    bench.wait(2 * DELAY_MS)

    assert bench.my_master is bench.rich


def test_a_master_that_never_had_replicas_is_no_orphan() -> None:
    bench = Scene()
    bench.poor.flags &= ~NodeFlags.MIGRATE_TO

    bench.wait(2 * DELAY_MS)

    assert bench.my_master is bench.rich


def test_nor_is_one_without_slots() -> None:
    bench = Scene()
    for slot in third(1):
        bench.state.assign_slot(slot, bench.other)

    bench.wait(2 * DELAY_MS)

    assert bench.my_master is bench.rich


def test_only_replicas_of_the_richest_master_move() -> None:
    bench = Scene()
    for letter in "stuv":
        bench.peer(letter, of=bench.other)

    bench.wait(2 * DELAY_MS)

    assert bench.my_master is bench.rich


def test_an_orphan_that_is_adopted_meanwhile_needs_no_more() -> None:
    bench = Scene()
    bench.wait(DELAY_MS - 200)

    bench.lost.flags &= ~NodeFlags.FAIL
    bench.wait(DELAY_MS)

    assert bench.my_master is bench.rich


def test_the_last_but_one_replica_stays() -> None:
    """There must be a master with at least two working replicas."""
    bench = Scene(cluster_migration_barrier=0)
    for sibling in bench.siblings:
        sibling.flags |= NodeFlags.FAIL
        sibling.link = None

    bench.tick()

    assert bench.my_master is bench.rich


def test_a_new_master_in_a_cluster_with_replicas_counts_as_one_to_migrate_to() -> None:
    bench = Scene()

    newcomer = bench.peer("n", epoch=4)
    bench.state.assign_slot(0, newcomer)

    assert newcomer.flags & NodeFlags.MIGRATE_TO
