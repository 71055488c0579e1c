"""Whole clusters in virtual time: what an operator would try. A failure names its seed; run it again with that."""

from __future__ import annotations

import pytest

from cluster.failover.operations import FailoverMode
from cluster.gossip.state import ClusterHealth
from cluster.simulation.node import SimulatedNode
from cluster.simulation.world import World
from cluster.slots.hashing import SLOT_COUNT
from cluster.slots.ranges import bitmap_to_slots

SEEDS = [1, 2]
TIMEOUT_MS = 1000


def given_cluster(seed: int, masters: int = 3, replicas_each: int = 1, **settings: int | bool) -> World:
    world = World(seed, masters * (1 + replicas_each), **settings)
    world.create_cluster(masters, replicas_each)
    world.run(3000)
    return world


def replica_of(world: World, master: SimulatedNode) -> SimulatedNode:
    (replica,) = [
        node
        for node in world.nodes
        if node.state.myself.master is not None and node.state.myself.master.node_id == master.state.myself.node_id
    ]
    return replica


def serves_all(world: World) -> bool:
    """Whether each slot has exactly one node that takes writes."""
    serving = [node for node in world.nodes if node.is_awake and node.state.health is ClusterHealth.OK]
    slots = [slot for node in serving for slot in bitmap_to_slots(node.state.myself.slots)]
    return sorted(slots) == list(range(SLOT_COUNT))


@pytest.mark.parametrize("seed", SEEDS)
def test_six_strangers_become_a_cluster(seed: int) -> None:
    world = World(seed)

    world.create_cluster(masters=3, replicas_each=1)

    world.checker.check_agreement()
    assert serves_all(world)
    assert world.now_ms - 1_000_000 < 5000


@pytest.mark.parametrize("node_timeout_ms", [1, 100])
def test_a_node_timeout_shorter_than_a_tick_still_makes_a_cluster(node_timeout_ms: int) -> None:
    """redis-server's own tests use 1 ms."""
    world = given_cluster(1, cluster_node_timeout=node_timeout_ms)
    world.run(3000)
    world.check_healed()
    epochs = [node.state.current_epoch for node in world.nodes]

    world.nodes[0].kill()
    world.run_until(lambda: serves_all(world), 10_000)

    assert [node.state.current_epoch for node in world.nodes[1:]] > epochs[1:]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_quiet_cluster_stays_quiet(seed: int) -> None:
    world = given_cluster(seed)
    lines = [len(node.log) for node in world.nodes]

    world.run(30_000)

    assert [len(node.log) for node in world.nodes] == lines


@pytest.mark.parametrize("seed", SEEDS)
def test_the_replica_of_a_killed_master_takes_over_and_the_master_returns_as_its_replica(seed: int) -> None:
    world = given_cluster(seed)
    victim = world.nodes[0]
    heir = replica_of(world, victim)

    victim.kill()
    outage_ms = world.run_until(lambda: serves_all(world), 10_000)
    victim.start()
    world.check_healed()

    assert heir.state.myself.slot_count == SLOT_COUNT // 3
    assert victim.state.myself.master is not None
    assert victim.state.myself.master.node_id == heir.state.myself.node_id
    # Detection: up to half a time-out until the ping, one until PFAIL; gossip; the election's delay of up to a second.
    assert outage_ms <= TIMEOUT_MS * 2 + 1500


@pytest.mark.parametrize("seed", SEEDS)
def test_a_master_stopped_for_longer_than_the_node_timeout_serves_nothing_when_it_wakes(seed: int) -> None:
    world = given_cluster(seed)
    victim = world.nodes[0]
    victim.stop()
    world.run_until(lambda: serves_all(world), 10_000)
    world.run(2000)

    victim.resume()

    for _ in range(500):
        assert not victim.serves(0), "what it took now would be lost"
        world.run(10)
    assert victim.state.myself.is_replica
    world.check_healed()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_master_stopped_while_nobody_could_replace_it_serves_again(seed: int) -> None:
    world = given_cluster(seed)
    victim = world.nodes[0]
    replica_of(world, victim).kill()
    victim.stop()
    world.run(5000)

    victim.resume()
    assert not victim.serves(0)

    assert world.run_until(lambda: victim.serves(0), 10_000) <= TIMEOUT_MS + 1500


@pytest.mark.parametrize("seed", SEEDS)
def test_a_stop_shorter_than_the_node_timeout_is_not_noticed(seed: int) -> None:
    world = given_cluster(seed)
    victim = world.nodes[0]
    epochs = [node.state.current_epoch for node in world.nodes]

    victim.stop()
    world.run(TIMEOUT_MS - 200)  # The gap between two ticks comes on top.
    victim.resume()
    world.run(100)

    assert victim.serves(0)
    world.run(5000)
    assert [node.state.current_epoch for node in world.nodes] == epochs


@pytest.mark.parametrize("seed", SEEDS)
def test_a_master_cut_off_with_clients_stops_serving_before_it_is_replaced(seed: int) -> None:
    """Cluster spec, "Write safety": the window for lost writes is the node timeout."""
    world = given_cluster(seed)
    victim = world.nodes[0]
    heir = replica_of(world, victim)
    world.partition([victim])
    cut_ms = world.now_ms

    while not heir.serves(0):
        world.run(20)
        assert world.now_ms - cut_ms < 20_000
    assert world.now_ms - cut_ms > TIMEOUT_MS
    world.run(TIMEOUT_MS)
    assert not victim.serves(0)

    world.heal()
    for _ in range(100):
        assert not victim.serves(0)
        world.run(20)
    world.check_healed()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_majority_goes_on_without_the_minority(seed: int) -> None:
    world = given_cluster(seed, masters=5)
    minority = [world.nodes[0], world.nodes[1]]
    world.partition(minority)

    world.run_until(lambda: all(any(n.serves(slot) for n in world.nodes[2:]) for slot in (0, 16383)), 20_000)
    world.run(2 * TIMEOUT_MS)
    assert not any(node.serves(0) for node in minority)
    world.heal()

    world.check_healed()
    assert all(node.state.myself.is_replica for node in minority)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_majority_nobody_is_elected(seed: int) -> None:
    world = given_cluster(seed)
    masters, replicas = world.nodes[:3], world.nodes[3:]
    world.partition([masters[0], *replicas])

    world.run(20_000)

    assert all(node.state.myself.is_replica for node in replicas)
    assert world.checker.winners == {}
    world.heal()
    world.check_healed()


@pytest.mark.parametrize("after_power_loss", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_all_six_restarted_at_once_keep_slots_epochs_and_roles(seed: int, after_power_loss: bool) -> None:
    world = given_cluster(seed)
    before = [world._view(node) for node in world.nodes]
    for node in world.nodes:
        node.kill()
    world.run(1000)

    for node in world.nodes:
        node.start(after_power_loss=after_power_loss)

    world.check_healed()
    assert [world._view(node) for node in world.nodes] == before


@pytest.mark.parametrize("mode", list(FailoverMode))
@pytest.mark.parametrize("seed", SEEDS)
def test_manual_failover_swaps_the_roles_without_an_outage(seed: int, mode: FailoverMode) -> None:
    world = given_cluster(seed)
    master = world.nodes[0]
    heir = replica_of(world, master)
    offset = master.data.offset

    heir.input(lambda now_ms: heir.engine.operations.failover(mode, now_ms))
    took_ms = world.run_until(lambda: heir.serves(0), 5000)

    world.check_healed()
    assert replica_of(world, heir) is master
    assert heir.data.offset >= offset
    assert took_ms <= (1000 if mode is FailoverMode.NORMAL else 500)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_orphaned_master_is_given_a_replica(seed: int) -> None:
    world = given_cluster(seed, masters=2, replicas_each=2)
    rich, poor = world.nodes[0], world.nodes[1]
    for node in world.nodes[2:]:
        master = node.state.myself.master
        if master is not None and master.node_id == poor.state.myself.node_id:
            node.kill()

    def poor_has_a_working_replica() -> bool:
        return any(not replica.is_fail for replica in rich.state.nodes[poor.state.myself.node_id].replicas)

    world.run_until(lambda: not poor_has_a_working_replica(), 10_000)
    took_ms = world.run_until(poor_has_a_working_replica, 30_000)

    assert took_ms >= 4500


@pytest.mark.parametrize("seed", SEEDS)
def test_a_replica_that_was_away_learns_the_new_master_from_others(seed: int) -> None:
    """The scenario behind UPDATE messages: the new owner is out of reach when the old one returns."""
    world = given_cluster(seed, masters=3, replicas_each=1)
    old = world.nodes[0]
    new = replica_of(world, old)
    old.kill()
    world.run_until(lambda: new.serves(0), 10_000)
    world.run(1000)
    for node in world.nodes:
        if node is not new:
            world.network.cut |= {(old.ip, new.ip), (new.ip, old.ip)}

    old.start()
    world.run_until(lambda: old.state.myself.is_replica, 10_000)

    assert not old.serves(0)
    world.heal()
    world.check_healed()


@pytest.mark.parametrize("seed", SEEDS)
def test_slots_move_while_the_cluster_runs(seed: int) -> None:
    world = given_cluster(seed)
    source, target = world.nodes[0], world.nodes[1]
    source.data.slots_with_keys.difference_update(range(100))
    source_id, target_id = source.state.myself.node_id, target.state.myself.node_id

    for slot in range(100):
        to, of = target.engine.operations, source.engine.operations
        target.input(lambda now_ms, slot=slot, op=to: op.set_slot_importing(slot, source_id, now_ms))  # type: ignore[misc]
        source.input(lambda now_ms, slot=slot, op=of: op.set_slot_migrating(slot, target_id, now_ms))  # type: ignore[misc]
        world.run(20)
        source.data.slots_with_keys.discard(slot)
        target.input(lambda now_ms, slot=slot, op=to: op.set_slot_node(slot, target_id, now_ms))  # type: ignore[misc]
        source.input(lambda now_ms, slot=slot, op=of: op.set_slot_node(slot, target_id, now_ms))  # type: ignore[misc]

    world.check_healed()
    assert all(node.state.owners[slot] is node.state.nodes[target_id] for node in world.nodes for slot in range(100))


def test_the_same_seed_gives_the_same_run() -> None:
    def run() -> list[list[str]]:
        world = given_cluster(11)
        world.nodes[0].kill()
        world.run(5000)
        return [node.log for node in world.nodes]

    assert run() == run()


def test_a_crowd() -> None:
    """Gossip alone spreads the news: everybody knows everybody, though each was introduced to one."""
    world = World(seed=5, nodes=24)
    for node in world.nodes[1:]:
        world.meet(node, world.nodes[0])

    took_ms = world.run_until(lambda: all(len(node.state.nodes) == 24 for node in world.nodes), 30_000)

    assert took_ms < 15_000
