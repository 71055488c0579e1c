"""One snapshot for all who wait: when it is taken, for whom, and what follows it."""

from __future__ import annotations

import pytest

from cluster.replication.replica import Capability, RdbRequirement, Replica, ReplicaState
from tests.replication.fakes import BOTH, World, command, sent, session_of

SET = (b"SET", b"k", b"v")


def given_world(*, diskless: bool = True, delay_s: int = 0) -> World:
    world = World()
    world.settings.repl_diskless_sync = diskless
    world.settings.repl_diskless_sync_delay = delay_s
    world.settings.save = []
    return world


def ask(world: World, port: int = 7001, **announced: object) -> Replica:
    replica = world.replica(ReplicaState.WAIT_BGSAVE_START, port, **announced)  # type: ignore[arg-type]
    world.replication.full_sync.request(replica)
    return replica


def child_ends(world: World, success: bool = True) -> None:
    diskless = world.host.child == "stream"
    world.host.child = ""
    world.replication.full_sync.snapshot_done(success, diskless, world.now_ms)


def fullresync(world: World, offset: int) -> bytes:
    return b"+FULLRESYNC %b %d\r\n" % (world.replication.state.replid.encode(), offset)


def test_the_first_replica_begins_a_history() -> None:
    world = given_world()
    before = world.replication.state.replid
    replica = ask(world)
    state = world.replication.state
    assert state.replid != before
    assert world.replication.feed.active
    assert sent(replica) == fullresync(world, 0)
    assert world.host.texts == [
        f"Replication backlog created, my new replication IDs are '{state.replid}' and '{'0' * 40}'",
        "Starting BGSAVE for SYNC with target: replicas sockets",
    ]


@pytest.mark.parametrize("diskless", [True, False])
def test_writes_during_the_snapshot_follow_it_exactly_once(diskless: bool) -> None:
    world = given_world(diskless=diskless)
    world.replication.feed.create_backlog()
    world.write(b"SET", b"before", b"1")
    offset = world.replication.state.master_repl_offset

    replica = ask(world)
    world.write(b"SET", b"during", b"2")
    world.sleep()
    child_ends(world)
    world.write(b"SET", b"sending", b"3")
    world.sleep()
    assert sent(replica) == fullresync(world, offset)
    if diskless:
        assert replica.state is ReplicaState.ONLINE
        world.replication.feed.acknowledge(replica, offset, world.now_ms)
    else:
        assert replica.state is ReplicaState.SEND_BULK
        assert "send file to 1" in world.host.calls
        world.replication.full_sync.file_sent(replica, world.now_ms)
    world.write(b"SET", b"after", b"4")
    world.sleep()

    assert sent(replica) == fullresync(world, offset) + command(b"SELECT", b"0") + b"".join(
        command(b"SET", key, value) for key, value in ((b"during", b"2"), (b"sending", b"3"), (b"after", b"4"))
    )
    assert replica.state is ReplicaState.ONLINE
    assert world.host.saved[0][1].offset == offset
    assert "Synchronization with replica 10.0.0.9:7001 succeeded" in world.host.texts


def test_an_ack_that_comes_before_we_know_that_the_snapshot_is_complete_counts() -> None:
    world = given_world()
    replica = ask(world)
    world.replication.feed.acknowledge(replica, 0, world.now_ms)
    world.write(*SET)
    child_ends(world)
    world.sleep()
    assert sent(replica).endswith(command(*SET))


def test_the_delay_gathers_replicas_for_one_stream() -> None:
    world = given_world(delay_s=5)
    first = ask(world, 7001)
    assert world.host.texts[-1] == "Delay next BGSAVE for diskless SYNC"
    world.seconds(3)
    second = ask(world, 7002)
    world.seconds(1)
    assert world.host.child == ""
    world.seconds(1)
    kind, _info, replicas = world.host.saved[0]
    assert (kind, replicas) == ("stream", [first, second])
    assert sent(second) == b"\n" * 2 + fullresync(world, world.replication.state.master_repl_offset)


def test_enough_replicas_end_the_delay_early() -> None:
    world = given_world(delay_s=60)
    world.settings.repl_diskless_sync_max_replicas = 2
    ask(world, 7001)
    world.seconds(2)
    assert world.host.child == ""
    ask(world, 7002)
    world.seconds(1)
    assert len(world.host.saved[0][2]) == 2


def test_a_replica_without_eof_gets_a_file() -> None:
    world = given_world(delay_s=5)
    replica = ask(world, capabilities=Capability.PSYNC2)
    assert world.host.child == "disk"
    assert replica.state is ReplicaState.WAIT_BGSAVE_END
    assert "Starting BGSAVE for SYNC with target: disk" in world.host.texts


def test_a_second_replica_joins_a_file_that_is_being_written() -> None:
    world = given_world(diskless=False)
    first = ask(world, 7001)
    world.write(*SET)
    world.sleep()
    second = ask(world, 7002)
    assert world.host.texts[-1] == "Waiting for end of BGSAVE for SYNC"
    assert sent(second) == fullresync(world, 0)
    child_ends(world)
    for replica in (first, second):
        world.replication.full_sync.file_sent(replica, world.now_ms)
    world.sleep()
    assert sent(first) == sent(second) == fullresync(world, 0) + command(b"SELECT", b"0") + command(*SET)
    assert len(world.host.saved) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"capabilities": BOTH}, {"capabilities": Capability.PSYNC2}),
        ({"rdb_only": True}, {}),
        ({}, {"requirement": RdbRequirement.EXCLUDE_DATA}),
    ],
)
def test_a_replica_that_cannot_use_the_file_waits_for_the_next(
    first: dict[str, object], second: dict[str, object]
) -> None:
    world = given_world(diskless=False)
    ask(world, 7001, **first)
    late = ask(world, 7002, **second)
    assert world.host.texts[-1] == ("Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC")
    assert sent(late) == b""
    child_ends(world)
    assert sent(late) == fullresync(world, 0)


def test_a_bgsave_that_nobody_waits_for_cannot_be_joined() -> None:
    world = given_world()
    world.host.child = "disk"
    replica = ask(world)
    assert replica.state is ReplicaState.WAIT_BGSAVE_START
    child_ends(world)
    assert world.host.child == "stream"


def test_a_stream_that_has_begun_cannot_be_joined() -> None:
    world = given_world()
    ask(world, 7001)
    late = ask(world, 7002)
    assert world.host.texts[-1] == "Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC"
    world.write(*SET)
    child_ends(world)
    assert sent(late) == fullresync(world, world.replication.state.master_repl_offset)
    assert world.host.saved[1][2] == [late]


def test_another_child_delays_the_snapshot() -> None:
    world = given_world()
    world.host.child = "other"
    replica = ask(world)
    assert world.host.texts[-1] == (
        "No BGSAVE in progress, but another BG operation is active. BGSAVE for replication delayed"
    )
    world.seconds(5)
    assert replica.state is ReplicaState.WAIT_BGSAVE_START
    world.host.child = ""
    world.seconds(1)
    assert world.host.child == "stream"


def test_a_fork_that_fails_is_told_to_the_replica() -> None:
    world = given_world()
    world.host.fork_fails = True
    replica = ask(world)
    assert sent(replica) == b"-ERR BGSAVE failed, replication can't continue\r\n"
    assert session_of(replica).closed
    assert world.replication.feed.replicas == []
    assert "BGSAVE for replication failed" in world.host.texts


def test_a_child_that_fails_costs_the_replicas_their_connection() -> None:
    world = given_world()
    replica = ask(world)
    child_ends(world, success=False)
    assert session_of(replica).closed
    assert "SYNC failed. BGSAVE child returned an error" in world.host.texts


def test_a_file_that_cannot_be_opened() -> None:
    world = given_world(diskless=False)
    world.host.file_missing = True
    replica = ask(world)
    child_ends(world)
    assert session_of(replica).closed


@pytest.mark.parametrize("diskless", [True, False])
def test_a_replica_that_wants_the_snapshot_only(diskless: bool) -> None:
    world = given_world(diskless=diskless)
    replica = ask(world, rdb_only=True)
    world.write(*SET)
    child_ends(world)
    if not diskless:
        world.replication.full_sync.file_sent(replica, world.now_ms)
    world.sleep()
    assert sent(replica) == fullresync(world, 0)
    assert replica.state is ReplicaState.RDB_TRANSMITTED
    assert "close 1 when sent" in world.host.calls
    assert not session_of(replica).closed
    assert "RDB transfer completed, rdb only replica (10.0.0.9:7001) should be disconnected asap" in world.host.texts


def test_a_filtered_snapshot_is_streamed_whatever_the_setting() -> None:
    """A file with half the data must not take the place of the real snapshot."""
    world = given_world(diskless=False)
    ask(world, requirement=RdbRequirement.EXCLUDE_DATA)
    assert world.host.child == "stream"


def test_a_replica_of_the_old_protocol_gets_no_reply_line() -> None:
    world = given_world(diskless=False)
    replica = world.replica(ReplicaState.WAIT_BGSAVE_START, capabilities=Capability.NONE)
    replica.pre_psync = True
    world.replication.full_sync.request(replica)
    assert sent(replica) == b""
    assert world.host.child == "disk"


def test_a_file_for_one_replica_is_abandoned_with_it() -> None:
    world = given_world(diskless=False)
    first, second = ask(world, 7001), ask(world, 7002)
    world.host.close_replica(first)
    assert "kill child" not in world.host.calls
    world.host.close_replica(second)
    assert "kill child" in world.host.calls


def test_a_file_that_save_points_want_is_finished() -> None:
    world = given_world(diskless=False)
    world.settings.save = World().settings.save
    assert world.settings.save
    world.host.close_replica(ask(world))
    assert "kill child" not in world.host.calls


def test_the_place_in_the_stream_that_a_snapshot_names() -> None:
    world = given_world()
    full_sync = world.replication.full_sync
    assert full_sync.save_info() is None
    world.replication.feed.create_backlog()
    assert full_sync.save_info().stream_database == 0  # type: ignore[union-attr]
    world.write(*SET, database=4)
    info = full_sync.save_info()
    assert info is not None
    state = world.replication.state
    assert (info.replid, info.offset, info.stream_database) == (state.replid, state.master_repl_offset, 4)
    world.replication.set_master("10.0.0.1", 7000)
    assert full_sync.save_info() is not None
    world.replication.full_sync_loaded("d" * 40, 900, 6)
    info = full_sync.save_info()
    assert info is not None
    assert (info.replid, info.offset, info.stream_database) == ("d" * 40, 900, 6)


def test_a_file_made_only_for_replicas_goes_when_none_needs_it() -> None:
    world = given_world(diskless=False)
    world.settings.rdb_del_sync_files = True
    replica = ask(world)
    child_ends(world)
    world.seconds(2)
    assert "remove file" not in world.host.calls
    world.replication.full_sync.file_sent(replica, world.now_ms)
    world.settings.appendonly = True
    world.seconds(2)
    assert "remove file" not in world.host.calls
    world.settings.appendonly = False
    world.seconds(3)
    assert world.host.calls.count("remove file") == 1
    assert world.host.texts[-1] == "Removing the RDB file used to feed replicas in a persistence-less instance"


@pytest.mark.parametrize("wanted", [True, False])
def test_repl_disable_tcp_nodelay(wanted: bool) -> None:
    world = given_world()
    world.settings.repl_disable_tcp_nodelay = wanted
    ask(world)
    assert ("delay 1" in world.host.calls) == wanted
