"""FAILOVER: hand over without losing a write, or go on as if nothing had been."""

from __future__ import annotations

import pytest

from cluster.replication.coordinated_failover import FailoverRefused
from cluster.replication.replica import ReplicaState
from cluster.replication.state import FailoverState
from tests.replication.fakes import World


def given_master_with(*ports: int) -> World:
    world = World()
    for port in ports:
        world.online_replica(port)
    world.write(b"SET", b"k", b"v")
    world.sleep()
    world.host.lines.clear()
    return world


def start(world: World, target: tuple[str, int] | None = None, timeout_ms: int = 0, force: bool = False) -> None:
    world.replication.failover.start(target, timeout_ms, force, world.now_ms)


def catch_up(world: World, port: int) -> None:
    feed = world.replication.feed
    replica = feed.find("10.0.0.9", port)
    assert replica is not None
    feed.acknowledge(replica, world.replication.state.master_repl_offset, world.now_ms)


def test_the_first_replica_that_has_everything_takes_over() -> None:
    world = given_master_with(7001, 7002)
    start(world)
    assert world.host.paused
    world.sleep()
    assert world.replication.state.failover is FailoverState.WAIT_FOR_SYNC
    catch_up(world, 7002)
    world.sleep()
    state = world.replication.state
    assert state.failover is FailoverState.IN_PROGRESS
    assert (state.master_host, state.master_port) == ("10.0.0.9", 7002)
    assert world.host.paused
    assert world.host.texts[:2] == [
        "FAILOVER requested to any replica.",
        "Failover target 10.0.0.9:7002 is synced, failing over.",
    ]
    world.replication.failover.finish()
    assert not world.host.paused
    assert state.failover is FailoverState.NONE


def test_a_named_replica_is_waited_for() -> None:
    world = given_master_with(7001, 7002)
    start(world, ("10.0.0.9", 7001))
    catch_up(world, 7002)
    world.sleep()
    assert not world.replication.state.is_replica
    catch_up(world, 7001)
    world.sleep()
    assert world.replication.state.master_port == 7001


def test_a_timeout_ends_it() -> None:
    world = given_master_with(7001)
    start(world, timeout_ms=2000)
    world.seconds(1)
    assert world.host.paused
    world.seconds(1)
    assert not world.host.paused
    assert not world.replication.state.is_replica
    assert world.host.texts[-1] == "FAILOVER to any replica aborted: Replica never caught up before timeout"


def test_force_goes_on_at_the_timeout() -> None:
    world = given_master_with(7001)
    start(world, ("10.0.0.9", 7001), timeout_ms=2000, force=True)
    world.seconds(2)
    assert world.replication.state.failover is FailoverState.IN_PROGRESS
    assert "FAILOVER to 10.0.0.9:7001 time out exceeded, failing over." in world.host.texts


def test_abort_after_the_hand_over_makes_us_master_again() -> None:
    world = given_master_with(7001)
    start(world, ("10.0.0.9", 7001))
    catch_up(world, 7001)
    world.sleep()
    assert world.replication.state.is_replica
    world.replication.failover.abort("Failover manually aborted")
    assert not world.replication.state.is_replica
    assert not world.host.paused
    assert "FAILOVER to 10.0.0.9:7001 aborted: Failover manually aborted" in world.host.texts


def test_abort_without_a_failover_is_nothing() -> None:
    world = given_master_with(7001)
    world.replication.failover.abort("no")
    assert world.host.lines == []


@pytest.mark.parametrize(
    ("target", "timeout_ms", "force", "text"),
    [
        (("10.0.0.9", 7009), 0, False, "FAILOVER target HOST and PORT is not a replica."),
        (("10.0.0.9", 7002), 0, False, "FAILOVER target replica is not online."),
        (None, 5, True, "FAILOVER with force option requires both a timeout and target HOST and IP."),
        (
            ("10.0.0.9", 7001),
            0,
            True,
            "FAILOVER with force option requires both a timeout and target HOST and IP.",
        ),
    ],
)
def test_refusals(target: tuple[str, int] | None, timeout_ms: int, force: bool, text: str) -> None:
    world = given_master_with(7001, 7002)
    replica = world.replication.feed.find("10.0.0.9", 7002)
    assert replica is not None
    replica.state = ReplicaState.SEND_BULK
    with pytest.raises(FailoverRefused, match=text):
        start(world, target, timeout_ms, force)
    assert not world.host.paused
    assert world.replication.state.failover is FailoverState.NONE


def test_refusals_of_the_server_as_it_is() -> None:
    with pytest.raises(FailoverRefused, match="FAILOVER requires connected replicas"):
        start(World())
    world = given_master_with(7001)
    start(world)
    with pytest.raises(FailoverRefused, match="FAILOVER already in progress"):
        start(world)
    replica = World()
    replica.replication.set_master("10.0.0.1", 7000)
    with pytest.raises(FailoverRefused, match="FAILOVER is not valid when server is a replica"):
        start(replica)


def test_a_failover_with_a_deadline_stops_the_pings() -> None:
    world = given_master_with(7001)
    offset = world.replication.state.master_repl_offset
    start(world, ("10.0.0.9", 7001), timeout_ms=100_000)
    world.seconds(25)
    assert world.replication.state.master_repl_offset == offset
