"""Config epochs given without a vote. Cluster spec, "configEpoch conflicts resolution algorithm"."""

from __future__ import annotations

import pytest

from cluster.gossip.effects import SaveConfig
from cluster.gossip.messages import MessageType
from tests.support.engines import EngineBench, logged, node_id, of_kind


def test_of_two_masters_with_one_epoch_the_smaller_id_moves_on() -> None:
    bench = EngineBench(slots=[1], epoch=5)
    greater = bench.peer("z", slots=[2], epoch=5)

    effects = bench.hear(greater, MessageType.PING)

    assert (bench.myself.config_epoch, bench.state.current_epoch) == (6, 6)
    assert of_kind(effects, SaveConfig) == [SaveConfig(fsync=True)]
    expected = f"WARNING: configEpoch collision with node {greater.node_id}. configEpoch set to 6"
    assert expected in logged(effects)


def test_the_greater_id_stays() -> None:
    bench = EngineBench(slots=[1], epoch=5)
    smaller = bench.peer("a", slots=[2], epoch=5)

    bench.hear(smaller, MessageType.PING)

    assert bench.myself.config_epoch == 5


def test_replicas_do_not_collide() -> None:
    bench = EngineBench(slots=[1], epoch=5)
    replica = bench.peer("z", of=bench.peer("a", slots=[2], epoch=5))

    bench.hear(replica, MessageType.PING)
    assert bench.myself.config_epoch == 5

    bench = EngineBench(epoch=5)
    bench.replicate(bench.peer("z", slots=[2], epoch=5))
    bench.hear(bench.state.nodes[node_id("z")], MessageType.PING)
    assert bench.myself.config_epoch == 5


def test_a_new_cluster_of_equal_epochs_ends_with_different_ones() -> None:
    """Every pair that meets resolves its own collision; nothing else is needed."""
    from cluster.simulation.world import World

    world = World(seed=3, nodes=5)
    for node in world.nodes[1:]:
        world.meet(node, world.nodes[0])
    world.run(5000)

    epochs = {node.state.myself.config_epoch for node in world.nodes}
    assert len(epochs) == 5


@pytest.mark.parametrize(("mine", "greatest", "result"), [(0, 0, 1), (3, 7, 8), (7, 7, None), (0, 9, 10)])
def test_bumpepoch(mine: int, greatest: int, result: int | None) -> None:
    bench = EngineBench(slots=[1], epoch=mine)
    bench.peer("a", epoch=greatest)

    is_new, effects = bench.engine.operations.bump_epoch(bench.now_ms)
    effects = bench.do(effects)

    assert is_new is (result is not None)
    assert bench.myself.config_epoch == (result or mine)
    if result is not None:
        assert bench.state.current_epoch == result
        assert SaveConfig(fsync=True) in effects
        assert logged(effects) == [f"New configEpoch set to {result}"]


def test_set_config_epoch_gives_a_fresh_node_its_own() -> None:
    bench = EngineBench()

    effects = bench.do(bench.engine.operations.set_config_epoch(42, bench.now_ms))

    assert (bench.myself.config_epoch, bench.state.current_epoch) == (42, 42)
    assert logged(effects) == ["configEpoch set to 42 via CLUSTER SET-CONFIG-EPOCH"]
    assert of_kind(effects, SaveConfig) == [SaveConfig(fsync=True)]
