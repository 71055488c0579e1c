"""The CLUSTER subcommands that change something: what they do, and Redis's words when they refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cluster.errors import CommandError
from cluster.gossip.effects import (
    CloseLink,
    Effect,
    EmptyDatabase,
    SaveConfig,
    StartReplication,
    StopReplication,
)
from cluster.gossip.messages import MessageType
from cluster.gossip.nodes_conf import format_nodes_conf, parse
from cluster.gossip.state import ClusterState, NodeFlags
from cluster.slots.hashing import SLOT_COUNT
from tests.support.engines import MY_ID, EngineBench, logged, node_id, of_kind, receivers


def refusal(order: Callable[[], object]) -> bytes:
    with pytest.raises(CommandError) as caught:
        order()
    return caught.value.message


def slots_of(bench: EngineBench) -> list[int]:
    return [slot for slot in range(SLOT_COUNT) if bench.state.owners[slot] is bench.myself]


# -- ADDSLOTS, DELSLOTS, FLUSHSLOTS -----------------------------------------------------------------


def test_add_and_delete_slots() -> None:
    bench = EngineBench()
    operations = bench.engine.operations

    effects = bench.do(operations.add_slots([(1, 1), (5, 7)], bench.now_ms))
    assert slots_of(bench) == [1, 5, 6, 7]
    assert of_kind(effects, SaveConfig) == [SaveConfig(fsync=True)]

    bench.do(operations.delete_slots([(5, 6)], bench.now_ms))
    assert slots_of(bench) == [1, 7]
    bench.do(operations.flush_slots(bench.now_ms))
    assert slots_of(bench) == []


def test_adding_an_importing_slot_ends_the_import() -> None:
    bench = EngineBench()
    a = bench.peer("a", slots=[5], epoch=1)
    bench.do(bench.engine.operations.set_slot_importing(5, a.node_id, bench.now_ms))
    bench.state.unassign_slot(5)

    bench.do(bench.engine.operations.add_slots([(5, 5)], bench.now_ms))

    assert bench.state.importing == {}


def test_slots_that_cannot_be_added_or_deleted_leave_all_as_it_was() -> None:
    bench = EngineBench(slots=[1])
    bench.peer("a", slots=[9], epoch=1)
    operations = bench.engine.operations

    def add(*ranges: tuple[int, int]) -> bytes:
        return refusal(lambda: operations.add_slots(ranges, bench.now_ms))

    def delete(*ranges: tuple[int, int]) -> bytes:
        return refusal(lambda: operations.delete_slots(ranges, bench.now_ms))

    assert add((3, 4), (1, 1)) == b"ERR Slot 1 is already busy"
    assert add((3, 9)) == b"ERR Slot 9 is already busy"
    assert add((3, 4), (4, 5)) == b"ERR Slot 4 specified multiple times"
    assert add((5, 3)) == b"ERR start slot number 5 is greater than end slot number 3"
    assert delete((1, 2)) == b"ERR Slot 2 is already unassigned"
    assert delete((1, 1), (1, 1)) == b"ERR Slot 1 specified multiple times"
    assert slots_of(bench) == [1]


def test_earlier_ranges_are_checked_before_a_later_argument_is_read() -> None:
    def ranges() -> Iterator[tuple[int, int]]:
        yield (1, 1)
        raise CommandError(b"ERR Invalid or out of range slot")

    bench = EngineBench(slots=[1])
    assert refusal(lambda: bench.engine.operations.add_slots(ranges(), 0)) == b"ERR Slot 1 is already busy"
    assert refusal(lambda: EngineBench().engine.operations.add_slots(ranges(), 0)).endswith(b"out of range slot")


def test_flush_slots_needs_an_empty_database() -> None:
    bench = EngineBench(slots=[1])
    bench.data.slots_with_keys = {1}

    text = refusal(lambda: bench.engine.operations.flush_slots(bench.now_ms))

    assert text == b"ERR DB must be empty to perform CLUSTER FLUSHSLOTS."


# -- SETSLOT ----------------------------------------------------------------------------------------


def test_a_slot_is_moved_as_redis_cli_moves_it() -> None:
    """Both ends, without the keys: importing, migrating, then NODE on the target first."""
    target, source = EngineBench(epoch=3), EngineBench(slots=[5, 6], epoch=2)
    to, of = target.engine.operations, source.engine.operations
    source_id, target_id = node_id("s"), node_id("t")
    target.peer("s", slots=[5, 6], epoch=2)
    target.peer("o", slots=[9], epoch=4)
    source.peer("t", epoch=3)

    target.do(to.set_slot_importing(5, source_id, target.now_ms))
    source.do(of.set_slot_migrating(5, target_id, source.now_ms))
    assert target.state.importing == {5: target.find("s")}
    assert source.state.migrating == {5: source.find("t")}

    effects = target.do(to.set_slot_node(5, MY_ID, target.now_ms))
    given_away = source.do(of.set_slot_node(5, target_id, source.now_ms))

    assert slots_of(target) == [5] and slots_of(source) == [6]
    assert (target.state.importing, source.state.migrating) == ({}, {})
    assert target.myself.config_epoch == 5, "a new epoch, without asking anybody"
    assert SaveConfig(fsync=True) in effects, "nobody else would claim the slot"
    assert SaveConfig(fsync=False) in given_away, "told by the new owner again, if need be"
    assert receivers(effects, MessageType.PONG) == {target.find("s"), target.find("o")}
    assert logged(effects)[:2] == ["New configEpoch set to 5", "configEpoch updated after importing slot 5"]


def test_a_slot_with_keys_is_not_given_away() -> None:
    bench = EngineBench(slots=[5, 6])
    a = bench.peer("a", epoch=1)
    bench.data.slots_with_keys = {5}

    text = refusal(lambda: bench.engine.operations.set_slot_node(5, a.node_id, bench.now_ms))

    expected = b"ERR Can't assign hashslot 5 to a different node while I still hold keys for this hash slot."
    assert text == expected
    assert slots_of(bench) == [5, 6]


def test_taking_a_slot_without_an_import_needs_no_new_epoch() -> None:
    bench = EngineBench(epoch=1)
    bench.peer("a", epoch=4)

    bench.do(bench.engine.operations.set_slot_node(5, MY_ID, bench.now_ms))

    assert slots_of(bench) == [5]
    assert bench.myself.config_epoch == 1


def test_a_migrating_slot_with_keys_stays_open_when_it_is_confirmed_mine() -> None:
    bench = EngineBench(slots=[5])
    a = bench.peer("a", epoch=1)
    bench.data.slots_with_keys = {5}
    bench.do(bench.engine.operations.set_slot_migrating(5, a.node_id, bench.now_ms))

    bench.do(bench.engine.operations.set_slot_node(5, MY_ID, bench.now_ms))
    assert bench.state.migrating == {5: a}
    bench.data.slots_with_keys = set()
    bench.do(bench.engine.operations.set_slot_node(5, MY_ID, bench.now_ms))
    assert bench.state.migrating == {}


@pytest.mark.parametrize("migration", [True, False])
def test_giving_the_last_slot_away_makes_a_replica_of_its_new_owner(migration: bool) -> None:
    bench = EngineBench(slots=[5], cluster_allow_replica_migration=migration)
    a = bench.peer("a", epoch=1)

    effects = bench.do(bench.engine.operations.set_slot_node(5, a.node_id, bench.now_ms))

    assert bench.myself.is_replica is migration
    expected = [StartReplication(a.ip, a.port)] if migration else []
    assert of_kind(effects, StartReplication) == expected


def test_stable_closes_a_slot() -> None:
    bench = EngineBench(slots=[5])
    a = bench.peer("a", slots=[6], epoch=1)
    bench.do(bench.engine.operations.set_slot_migrating(5, a.node_id, bench.now_ms))
    bench.do(bench.engine.operations.set_slot_importing(6, a.node_id, bench.now_ms))
    version = bench.state.routing_version

    bench.do(bench.engine.operations.set_slot_stable(5, bench.now_ms))
    bench.do(bench.engine.operations.set_slot_stable(6, bench.now_ms))

    assert (bench.state.importing, bench.state.migrating) == ({}, {})
    assert bench.state.routing_version > version


def test_setslot_refusals() -> None:
    bench = EngineBench(slots=[5])
    a = bench.peer("a", slots=[6], epoch=1)
    replica = bench.peer("r", of=a)
    operations, now_ms, unknown = bench.engine.operations, bench.now_ms, node_id("u")

    assert (
        refusal(lambda: operations.set_slot_migrating(6, a.node_id, now_ms)) == b"ERR I'm not the owner of hash slot 6"
    )
    assert (
        refusal(lambda: operations.set_slot_importing(5, a.node_id, now_ms))
        == b"ERR I'm already the owner of hash slot 5"
    )
    assert (
        refusal(lambda: operations.set_slot_migrating(5, unknown, now_ms))
        == b"ERR I don't know about node " + unknown.encode()
    )
    assert refusal(lambda: operations.set_slot_node(5, "caf\xe9", now_ms)) == b"ERR Unknown node caf\xe9"
    for order in (operations.set_slot_migrating, operations.set_slot_node):
        text = refusal(lambda order=order: order(5, replica.node_id, now_ms))  # type: ignore[misc]
        assert text == b"ERR Target node is not a master"
    assert (
        refusal(lambda: operations.set_slot_importing(6, replica.node_id, now_ms)) == b"ERR Target node is not a master"
    )


def test_setslot_is_for_masters() -> None:
    bench = EngineBench()
    bench.replicate(bench.peer("a", slots=[5], epoch=1))

    assert refusal(bench.engine.operations.check_set_slot_allowed) == b"ERR Please use SETSLOT only with masters."
    assert refusal(lambda: bench.engine.operations.set_slot_stable(5, 0)).startswith(b"ERR Please use")


# -- MEET, FORGET, REPLICATE ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ip", "port", "bus_port"),
    [
        ("localhost", 7000, None),
        ("10.0.0.256", 7000, None),
        ("fe80::1%eth0", 7000, None),
        ("10.0.0.1", 0, None),
        ("10.0.0.1", 65536, None),
        ("10.0.0.1", 60000, None),
        ("10.0.0.1", 7000, 0),
        ("", -1, 5),
    ],
)
def test_meet_refuses_what_is_no_address(ip: str, port: int, bus_port: int | None) -> None:
    bench = EngineBench()

    text = refusal(lambda: bench.engine.operations.meet(ip, port, bus_port, bench.now_ms))

    assert text == f"ERR Invalid node address specified: {ip}:{port}".encode()
    assert list(bench.state.nodes) == [MY_ID]


def test_meet_understands_ipv6_and_a_bus_port() -> None:
    bench = EngineBench()

    bench.do(bench.engine.operations.meet("FE80:0:0::1", 7000, 7777, bench.now_ms))

    (node,) = [node for node in bench.state.nodes.values() if not node.is_myself]
    assert (node.ip, node.port, node.cport) == ("fe80::1", 7000, 7777)


def test_forget_removes_every_trace() -> None:
    bench = EngineBench(slots=[1])
    a = bench.peer("a", slots=[5], epoch=1)
    replica = bench.peer("r", of=a)
    bench.hear(a, MessageType.PING)
    bench.state.set_importing(5, a)
    b = bench.peer("b", epoch=2)
    b.fail_reports[a] = bench.now_ms

    effects = bench.do(bench.engine.operations.forget(a.node_id, bench.now_ms))

    assert set(bench.state.nodes) == {MY_ID, replica.node_id, b.node_id}
    assert bench.state.owners[5] is None and bench.state.importing == {}
    assert replica.master is None and b.fail_reports == {}
    assert len(of_kind(effects, CloseLink)) == 2


def test_forget_refusals() -> None:
    bench = EngineBench()
    master = bench.peer("a", slots=[1], epoch=1)
    bench.replicate(master)
    operations = bench.engine.operations

    assert refusal(lambda: operations.forget(node_id("u"), 0)) == b"ERR Unknown node " + b"u" * 40
    assert refusal(lambda: operations.forget(MY_ID, 0)) == b"ERR I tried hard but I can't forget myself..."
    assert refusal(lambda: operations.forget(master.node_id, 0)) == b"ERR Can't forget my master!"


def test_replicate() -> None:
    bench = EngineBench()
    a, b = bench.peer("a", slots=[1], epoch=1), bench.peer("b", slots=[2], epoch=2)

    effects = bench.do(bench.engine.operations.replicate(a.node_id, bench.now_ms))
    assert bench.myself.is_replica and bench.myself.master is a
    assert of_kind(effects, StartReplication) == [StartReplication(a.ip, a.port)]

    bench.data.slots_with_keys = {1}  # A replica may change its master with data.
    bench.do(bench.engine.operations.replicate(b.node_id, bench.now_ms))
    assert bench.myself.master is b and a.replicas == []


def test_replicate_refusals() -> None:
    bench = EngineBench(slots=[1])
    a = bench.peer("a", epoch=1)
    replica = bench.peer("r", of=a)
    operations = bench.engine.operations
    not_empty = b"ERR To set a master the node must be empty and without assigned slots."

    assert refusal(lambda: operations.replicate(node_id("u"), 0)) == b"ERR Unknown node " + b"u" * 40
    assert refusal(lambda: operations.replicate(MY_ID, 0)) == b"ERR Can't replicate myself"
    assert refusal(lambda: operations.replicate(replica.node_id, 0)) == (
        b"ERR I can only replicate a master, not a replica."
    )
    assert refusal(lambda: operations.replicate(a.node_id, 0)) == not_empty
    bench.do(bench.engine.operations.delete_slots([(1, 1)], bench.now_ms))
    bench.data.slots_with_keys = {1}
    assert refusal(lambda: operations.replicate(a.node_id, 0)) == not_empty


def test_a_replica_whose_replication_is_off_turns_it_on() -> None:
    """After a restart, or once its master's address is known."""
    bench = EngineBench()
    master = bench.peer("a", slots=[1], epoch=1)
    bench.replicate(master)
    bench.data.master_address = None

    assert of_kind(bench.tick(), StartReplication) == [StartReplication(master.ip, master.port)]
    bench.data.master_address = (master.ip, master.port)
    assert of_kind(bench.tick(), StartReplication) == []


def test_a_replica_that_was_given_slots_can_still_change_its_master() -> None:
    """CLUSTER ADDSLOTS works on a replica; redis-server then dies of an assertion."""
    bench = EngineBench()
    a, b = bench.peer("a", slots=[1], epoch=1), bench.peer("b", slots=[2], epoch=2)
    bench.replicate(a)
    bench.do(bench.engine.operations.add_slots([(9, 9)], bench.now_ms))

    bench.do(bench.engine.operations.replicate(b.node_id, bench.now_ms))

    assert bench.myself.master is b and bench.myself.slot_count == 0


# -- epochs, reports, RESET -------------------------------------------------------------------------


def test_set_config_epoch_refusals() -> None:
    bench = EngineBench(epoch=3)
    operations = bench.engine.operations

    assert refusal(lambda: operations.set_config_epoch(-1, 0)) == b"ERR Invalid config epoch specified: -1"
    assert refusal(lambda: operations.set_config_epoch(5, 0)) == b"ERR Node config epoch is already non-zero"
    bench.peer("a")
    assert refusal(lambda: operations.set_config_epoch(5, 0)) == (
        b"ERR The user can assign a config epoch only when the node does not know any other node."
    )


def test_count_failure_reports() -> None:
    bench = EngineBench()
    a, b = bench.peer("a", slots=[1], epoch=1), bench.peer("b", slots=[2], epoch=2)
    bench.report(a, b, NodeFlags.MASTER | NodeFlags.PFAIL)

    assert bench.engine.operations.count_failure_reports(b.node_id, bench.now_ms) == 1
    assert bench.engine.operations.count_failure_reports(b.node_id, bench.now_ms + 2001) == 0
    text = refusal(lambda: bench.engine.operations.count_failure_reports("nobody", 0))
    assert text == b"ERR Unknown node nobody"


def given_member() -> EngineBench:
    bench = EngineBench(slots=[1], epoch=5)
    a = bench.peer("a", slots=[5], epoch=6)
    bench.hear(a, MessageType.PING)
    bench.state.set_importing(5, a)
    bench.state.last_vote_epoch = 6
    return bench


def saved(bench: EngineBench, effects: list[Effect]) -> ClusterState:
    assert SaveConfig(fsync=True) in effects
    return parse(format_nodes_conf(bench.state), bench.now_ms).state


def test_a_soft_reset_forgets_the_cluster_but_not_itself() -> None:
    bench = given_member()

    effects = bench.do(bench.engine.operations.reset(False, bench.now_ms))

    assert list(bench.state.nodes.values()) == [bench.myself]
    assert bench.myself.node_id == MY_ID
    assert slots_of(bench) == [] and bench.state.owners.count(None) == SLOT_COUNT
    assert bench.state.importing == {}
    assert (bench.state.current_epoch, bench.myself.config_epoch, bench.state.last_vote_epoch) == (6, 5, 6)
    assert len(of_kind(effects, CloseLink)) == 2
    assert saved(bench, effects).current_epoch == 6


def test_a_hard_reset_makes_a_new_node() -> None:
    bench = given_member()

    effects = bench.do(bench.engine.operations.reset(True, bench.now_ms))

    assert bench.myself.node_id != MY_ID
    assert list(bench.state.nodes) == [bench.myself.node_id]
    assert (bench.state.current_epoch, bench.myself.config_epoch, bench.state.last_vote_epoch) == (0, 0, 0)
    assert logged(effects) == [
        "configEpoch set to 0 via CLUSTER RESET HARD",
        f"Node hard reset, now I'm {bench.myself.node_id}",
    ]
    assert saved(bench, effects).myself.node_id == bench.myself.node_id


def test_a_replica_that_is_reset_becomes_an_empty_master() -> None:
    bench = EngineBench()
    bench.replicate(bench.peer("a", slots=[5], epoch=6))
    bench.data.slots_with_keys = {5}

    effects = bench.do(bench.engine.operations.reset(False, bench.now_ms))

    assert bench.myself.is_master and bench.myself.master is None
    assert [type(effect) for effect in effects[:2]] == [StopReplication, EmptyDatabase]


def test_a_master_with_keys_is_not_reset() -> None:
    bench = given_member()
    bench.data.slots_with_keys = {1}

    text = refusal(lambda: bench.engine.operations.reset(False, bench.now_ms))

    assert text == b"ERR CLUSTER RESET can't be called with master nodes containing keys"


def test_debug_clusterlink_kill_of_a_stranger() -> None:
    text = refusal(lambda: EngineBench().engine.kill_links(node_id("u"), True, True))

    assert text == b"ERR Unknown node " + b"u" * 40
