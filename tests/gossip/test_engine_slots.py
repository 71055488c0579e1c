"""Whose slot it is when claims differ. Cluster spec, "Hash slots configuration propagation", "UPDATE messages"."""

from __future__ import annotations

import pytest

from cluster.gossip.effects import DeleteKeysInSlots, DropShardChannels, SaveConfig, StartReplication
from cluster.gossip.messages import Gossip, MessageType, Update
from cluster.gossip.state import Node, NodeFlags
from cluster.slots.ranges import bitmap_to_slots, slots_to_bitmap
from tests.support.engines import EngineBench, logged, node_id, of_kind, receivers, sent, stranger, third


def owners(bench: EngineBench, *slots: int) -> list[Node | None]:
    return [bench.state.owners[slot] for slot in slots]


# -- rule 1 and 2 -----------------------------------------------------------------------------------


def test_rule_1_an_unassigned_slot_goes_to_who_claims_it() -> None:
    bench = EngineBench()
    a = bench.peer("a", epoch=1)
    version = bench.state.routing_version

    effects = bench.hear(a, MessageType.PING, slots=[5, 6])

    assert owners(bench, 4, 5, 6, 7) == [None, a, a, None]
    assert SaveConfig(fsync=True) not in effects, "they will say it again"
    assert bench.state.routing_version > version


def test_slots_that_move_among_others_under_a_known_epoch_are_saved_with_the_next_tick() -> None:
    bench = EngineBench(slots=[1], epoch=7)
    a, b = bench.peer("a", slots=[5, 6, 7], epoch=1), bench.peer("b", epoch=2)
    bench.tick()

    effects = [effect for slots in ([5], [5, 6]) for effect in bench.hear(b, MessageType.PONG, slots=slots)]
    assert owners(bench, 5, 6, 7) == [b, b, a]
    assert of_kind(effects, SaveConfig) == []
    assert of_kind(bench.tick(), SaveConfig) == [SaveConfig(fsync=False)]
    assert of_kind(bench.tick(), SaveConfig) == []


def test_slots_that_were_mine_are_saved_before_anything_else_is_said() -> None:
    bench = EngineBench(slots=[1, 2], epoch=1)
    b = bench.peer("b", epoch=2)
    bench.tick()

    assert of_kind(bench.hear(b, MessageType.PONG, slots=[1]), SaveConfig) == [SaveConfig(fsync=False)]


def test_a_claim_under_a_new_epoch_is_synced_at_once() -> None:
    bench = EngineBench(slots=[1, 2], epoch=1)
    a, b = bench.peer("a", slots=[5], epoch=2), bench.peer("b", epoch=3)
    bench.tick()

    assert of_kind(bench.hear(b, MessageType.PONG, slots=[5], config_epoch=4), SaveConfig) == [SaveConfig(fsync=True)]
    assert owners(bench, 5) == [b]
    assert not a.slot_count


def test_rule_2_a_greater_config_epoch_takes_the_slot() -> None:
    bench = EngineBench()
    a, b = bench.peer("a", slots=[5, 6], epoch=1), bench.peer("b", epoch=2)

    bench.hear(b, MessageType.PING, slots=[5])

    assert owners(bench, 5, 6) == [b, a]
    assert (a.slot_count, b.slot_count) == (1, 1)


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_equal_or_smaller_epoch_takes_nothing(epoch: int) -> None:
    bench = EngineBench()
    a, b = bench.peer("a", slots=[5], epoch=2), bench.peer("b", epoch=epoch)

    bench.hear(b, MessageType.PING, slots=[5])

    assert owners(bench, 5) == [a]


def test_a_replica_claims_nothing_for_itself() -> None:
    bench = EngineBench()
    a = bench.peer("a", slots=[5], epoch=1)
    replica = bench.peer("r", of=a)

    bench.hear(replica, MessageType.PING, slots=[5, 6], config_epoch=9)

    assert owners(bench, 5, 6) == [a, None]


def test_a_slot_being_imported_is_left_to_the_operator() -> None:
    bench = EngineBench()
    a, b = bench.peer("a", slots=[5], epoch=1), bench.peer("b", epoch=2)
    bench.do(bench.engine.operations.set_slot_importing(5, a.node_id, bench.now_ms))

    bench.hear(b, MessageType.PING, slots=[5])

    assert owners(bench, 5) == [a]
    assert bench.state.importing == {5: a}


def test_a_slot_that_its_owner_no_longer_claims_keeps_it_until_somebody_does() -> None:
    bench = EngineBench(slots=[1], epoch=9)
    a, b = bench.peer("a", slots=[5, 6], epoch=3), bench.peer("b", epoch=2)

    bench.hear(a, MessageType.PING, slots=[6])
    assert owners(bench, 5) == [a]
    assert bench.state.is_unclaimed(5)

    bench.hear(b, MessageType.PING, slots=[5])
    assert owners(bench, 5) == [b]
    assert not bench.state.is_unclaimed(5)


def test_an_old_message_that_was_overtaken_does_not_put_a_slot_up_for_grabs() -> None:
    """In 7.0.15 the slot stays unclaimed for ever, and the first master to claim it with any epoch gets it."""
    bench = EngineBench(slots=[1], epoch=9)
    a, b = bench.peer("a", slots=[5, 6], epoch=3), bench.peer("b", epoch=2)

    bench.hear(a, MessageType.PING, slots=[6], config_epoch=2)  # From before it got slot 5.
    assert not bench.state.is_unclaimed(5)
    bench.hear(a, MessageType.PING, slots=[6])
    bench.hear(a, MessageType.PING)  # The table is right, and says so again.
    bench.hear(b, MessageType.PING, slots=[5])

    assert owners(bench, 5) == [a]


# -- what it means for me ---------------------------------------------------------------------------


def test_losing_the_last_slot_makes_a_replica_of_the_winner() -> None:
    """Cluster spec, "How nodes rejoin the cluster after a failover"."""
    bench = EngineBench(slots=third(0), epoch=1)
    a = bench.peer("a", epoch=2)
    bench.data.slots_with_keys = {1, 2}

    effects = bench.hear(a, MessageType.PING, slots=third(0), config_epoch=5, current_epoch=5)

    assert bench.myself.is_replica and bench.myself.master is a
    assert of_kind(effects, StartReplication) == [StartReplication(a.ip, a.port)]
    assert of_kind(effects, DeleteKeysInSlots) == [], "the full sync replaces them"
    assert of_kind(effects, SaveConfig) == [SaveConfig(fsync=True)]
    assert f"Configuration change detected. Reconfiguring myself as a replica of {a.node_id}" in logged(effects)
    assert receivers(effects, MessageType.PONG) >= {a}, "a CLUSTER FAILOVER may follow at once"


def test_becoming_a_replica_closes_open_slots_and_drops_shard_channels() -> None:
    bench = EngineBench(slots=[1, 2], epoch=1)
    a, b = bench.peer("a", epoch=2), bench.peer("b", slots=[7], epoch=3)
    bench.do(bench.engine.operations.set_slot_migrating(1, b.node_id, bench.now_ms))
    bench.do(bench.engine.operations.set_slot_importing(7, b.node_id, bench.now_ms))

    effects = bench.hear(a, MessageType.PING, slots=[1, 2], config_epoch=5, current_epoch=5)

    assert (bench.state.importing, bench.state.migrating) == ({}, {})
    assert of_kind(effects, DropShardChannels) == [DropShardChannels((1, 2))]


def test_losing_some_slots_deletes_their_keys() -> None:
    bench = EngineBench(slots=[1, 2, 3], epoch=1)
    a = bench.peer("a", epoch=2)
    bench.data.slots_with_keys = {1, 3}

    effects = bench.hear(a, MessageType.PING, slots=[1, 2])

    assert bench.myself.is_master and bench.myself.slot_count == 1
    assert of_kind(effects, DeleteKeysInSlots) == [DeleteKeysInSlots((1,))]
    assert of_kind(effects, DropShardChannels) == [DropShardChannels((1, 2))]


@pytest.mark.parametrize(("others", "follows"), [([], True), ([9], False)])
def test_without_replica_migration_only_the_successor_of_the_whole_shard_is_followed(
    others: list[int], follows: bool
) -> None:
    bench = EngineBench(slots=[1, 2], epoch=1, cluster_allow_replica_migration=False)
    a = bench.peer("a", slots=others, epoch=2)

    bench.hear(a, MessageType.PING, slots=[1, 2, *others])

    assert bench.myself.is_replica is follows


def test_a_replica_follows_the_one_that_replaced_its_master() -> None:
    bench = EngineBench()
    old = bench.peer("a", slots=[1, 2], epoch=1)
    new = bench.peer("b", of=old)
    bench.replicate(old)

    effects = bench.hear(new, MessageType.PING, master_id=None, slots=[1, 2], config_epoch=5, current_epoch=5)

    assert new.is_master and bench.myself.master is new
    assert of_kind(effects, StartReplication) == [StartReplication(new.ip, new.port)]
    assert bench.data.master_address is not None


def test_a_replica_of_a_replica_moves_up() -> None:
    bench = EngineBench()
    grandmaster = bench.peer("g", slots=[1], epoch=3)
    master = bench.peer("a", slots=[2], epoch=1)
    bench.replicate(master)
    bench.hear(master, MessageType.PING, master_id=grandmaster.node_id, slots=[1], config_epoch=3)
    assert master.master is grandmaster

    effects = bench.hear(grandmaster, MessageType.PING, slots=[1, 3])

    assert bench.myself.master is grandmaster
    expected = f"I'm a sub-replica! Reconfiguring myself as a replica of grandmaster {grandmaster.node_id}"
    assert expected in logged(effects)


def test_a_replica_of_my_own_replica_is_left_alone() -> None:
    bench = EngineBench(slots=[1], epoch=1)
    a = bench.peer("a", slots=[2], epoch=2)
    bench.state.unassign_slot(1)
    bench.replicate(a)

    bench.hear(a, MessageType.PING, master_id=bench.myself.node_id, slots=[], config_epoch=2)
    bench.hear(bench.peer("b", epoch=3), MessageType.PING, slots=[5])

    assert bench.myself.master is a and a.master is bench.myself


# -- roles ------------------------------------------------------------------------------------------


def test_a_master_that_turned_replica_loses_its_slots() -> None:
    bench = EngineBench()
    a, b = bench.peer("a", slots=[1, 2], epoch=1), bench.peer("b", slots=[3], epoch=2)

    bench.hear(a, MessageType.PING, master_id=b.node_id, slots=[3], config_epoch=2)

    assert a.is_replica and a.master is b and b.replicas == [a]
    assert owners(bench, 1, 2, 3) == [None, None, b]


def test_a_replica_that_changed_its_master_changes_shards() -> None:
    bench = EngineBench()
    a, b = bench.peer("a", slots=[1], epoch=1), bench.peer("b", slots=[2], epoch=2)
    replica = bench.peer("r", of=a)

    bench.hear(replica, MessageType.PING, master_id=b.node_id, slots=[2], config_epoch=2)

    assert (a.replicas, b.replicas) == ([], [replica])
    assert not a.flags & NodeFlags.MIGRATE_TO


def test_a_replica_of_a_master_that_is_unknown_keeps_the_one_it_had() -> None:
    bench = EngineBench()
    a = bench.peer("a", slots=[1], epoch=1)
    replica = bench.peer("r", of=a)

    bench.hear(replica, MessageType.PING, master_id=node_id("u"), slots=[])

    assert replica.master is a


def test_a_node_cannot_replicate_itself() -> None:
    bench = EngineBench()
    a = bench.peer("a", epoch=1)

    bench.hear(a, MessageType.PING, master_id=a.node_id)

    assert a.master is None


def test_the_nofailover_flag_follows_what_the_node_says() -> None:
    bench = EngineBench()
    replica = bench.peer("r", of=bench.peer("a", slots=[1], epoch=1))

    bench.hear(replica, MessageType.PING, flags=replica.flags | NodeFlags.NOFAILOVER)
    assert replica.is_nofailover
    bench.hear(replica, MessageType.PING, flags=NodeFlags.SLAVE)
    assert not replica.is_nofailover


# -- UPDATE -----------------------------------------------------------------------------------------


def test_a_node_with_an_old_table_is_told_of_the_newer_owner() -> None:
    bench = EngineBench(slots=[1], epoch=9)
    a, b = bench.peer("a", slots=[7], epoch=1), bench.peer("b", slots=[5, 6], epoch=4)

    effects = bench.hear(a, MessageType.PING, slots=[5, 7])

    (update,) = [message.body for message in sent(effects, MessageType.UPDATE)]
    assert isinstance(update, Update)
    assert (update.node_id, update.config_epoch, bitmap_to_slots(update.slots)) == (b.node_id, 4, [5, 6])
    assert receivers(effects, MessageType.UPDATE) == {a}
    text = f"Node {a.node_id} has old slots configuration, sending an UPDATE message about {b.node_id}"
    assert text in logged(effects)
    assert owners(bench, 5) == [b]


def test_a_replica_that_speaks_for_an_old_master_is_told_too() -> None:
    bench = EngineBench(slots=[1], epoch=9)
    a, b = bench.peer("a", epoch=1), bench.peer("b", slots=[5], epoch=4)
    replica = bench.peer("r", of=a)

    effects = bench.hear(replica, MessageType.PING, slots=[5], config_epoch=1)

    assert receivers(effects, MessageType.UPDATE) == {replica}
    assert b.slot_count == 1


def test_an_update_vouches_only_for_slots_the_owner_still_claims() -> None:
    bench = EngineBench(slots=[1], epoch=9)
    a, b = bench.peer("a", slots=[7], epoch=1), bench.peer("b", slots=[5, 6], epoch=4)
    bench.hear(b, MessageType.PING, slots=[6])

    (message,) = sent(bench.hear(a, MessageType.PING, slots=[6, 7]), MessageType.UPDATE)

    assert isinstance(message.body, Update)
    assert bitmap_to_slots(message.body.slots) == [6]


def test_an_update_is_obeyed() -> None:
    bench = EngineBench(slots=[5], epoch=1)
    a = bench.peer("a", slots=[1], epoch=2)
    b = bench.peer("b", of=a)

    effects = bench.hear(a, MessageType.UPDATE, Update(b.node_id, 7, slots_to_bitmap([5])))

    assert b.is_master and b.config_epoch == 7
    assert owners(bench, 5) == [b]
    assert bench.myself.master is b
    assert of_kind(effects, SaveConfig) == [SaveConfig(fsync=True)]


@pytest.mark.parametrize("epoch", [0, 3])
def test_an_update_that_is_not_newer_is_ignored(epoch: int) -> None:
    bench = EngineBench(slots=[5], epoch=1)
    a, b = bench.peer("a", epoch=2), bench.peer("b", epoch=3)

    assert bench.hear(a, MessageType.UPDATE, Update(b.node_id, epoch, slots_to_bitmap([5]))) == []
    assert owners(bench, 5) == [bench.myself]


def test_an_update_from_or_about_a_stranger_is_ignored() -> None:
    bench = EngineBench(slots=[5], epoch=1)
    a = bench.peer("a", epoch=2)
    bitmap = slots_to_bitmap([5])

    bench.hear(stranger("s"), MessageType.UPDATE, Update(a.node_id, 9, bitmap))
    bench.hear(a, MessageType.UPDATE, Update(node_id("s"), 9, bitmap))

    assert owners(bench, 5) == [bench.myself]


def test_an_update_about_myself_is_discarded() -> None:
    bench = EngineBench(slots=[5], epoch=1)
    a = bench.peer("a", epoch=2)

    effects = bench.hear(a, MessageType.UPDATE, Update(bench.myself.node_id, 9, slots_to_bitmap([])))

    assert logged(effects) == ["Discarding UPDATE message about myself."]
    assert (bench.myself.config_epoch, owners(bench, 5)) == (1, [bench.myself])


# -- epochs -----------------------------------------------------------------------------------------


def test_epochs_heard_of_are_taken_over_and_saved() -> None:
    bench = EngineBench(epoch=1)
    a = bench.peer("a", epoch=2)

    effects = bench.hear(a, MessageType.PING, current_epoch=8, config_epoch=7)

    assert (bench.state.current_epoch, a.config_epoch) == (8, 7)
    assert of_kind(effects, SaveConfig) == [SaveConfig(fsync=True)]


def test_smaller_epochs_are_not() -> None:
    bench = EngineBench(epoch=5)
    a = bench.peer("a", epoch=4)

    bench.hear(a, MessageType.PING, current_epoch=1, config_epoch=1)

    assert (bench.state.current_epoch, a.config_epoch) == (5, 4)


@pytest.mark.parametrize("field", ["current_epoch", "config_epoch"])
def test_an_epoch_nobody_can_count_to_is_refused(field: str) -> None:
    """One forged message must not bring everybody's counter to where it no longer fits the wire."""
    bench = EngineBench(epoch=1)
    a = bench.peer("a", epoch=2)

    effects = bench.hear(a, MessageType.PING, Gossip(), **{field: (1 << 64) - 1})

    assert bench.state.max_epoch() == 2
    assert logged(effects) == [f"Ignoring a message of {a.node_id!r} with an impossible epoch"]
