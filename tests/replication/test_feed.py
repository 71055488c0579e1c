"""The stream that a master produces, and how it reaches its replicas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.replication.backlog import object_bytes
from cluster.replication.feed import PUSH_BYTES_MAX, AckWaiter
from cluster.replication.replica import Replica, ReplicaState
from cluster.replication.stream import StreamParser
from cluster.settings import OutputBufferLimit
from tests.replication.fakes import World, command, sent, session_of

SET = (b"SET", b"k", b"v")


def stream_of(world: World) -> bytes:
    """What the backlog holds."""
    backlog = world.replication.feed.backlog
    assert backlog is not None
    world.replication.feed.settle()
    return backlog.read(backlog.first_byte_offset, 1 << 30)


# --- encoding --------------------------------------------------------------------------------------------------------


def test_nothing_is_encoded_while_nobody_wants_it() -> None:
    world = World()
    assert not world.replication.feed.active
    world.write(*SET)
    assert world.replication.state.master_repl_offset == 0


def test_select_precedes_the_first_command_and_every_change_of_database() -> None:
    world = World()
    world.replication.feed.create_backlog()
    assert world.replication.feed.active
    world.write(*SET)
    world.write(*SET)
    world.write(*SET, database=12)
    assert stream_of(world) == (
        command(b"SELECT", b"0") + command(*SET) * 2 + command(b"SELECT", b"12") + command(*SET)
    )
    assert world.replication.state.master_repl_offset == len(stream_of(world))


def test_a_unit_of_several_effects_is_a_transaction() -> None:
    world = World()
    feed = world.replication.feed
    feed.create_backlog()
    feed.feed([(0, [b"DEL", b"a"]), (0, list(SET)), (3, list(SET))])
    feed.feed([(3, [b"A"]), (3, [b"B"])])
    assert stream_of(world) == b"".join(
        [
            command(b"SELECT", b"0"),
            command(b"MULTI"),
            command(b"DEL", b"a"),
            command(*SET),
            command(b"SELECT", b"3"),
            command(*SET),
            command(b"EXEC"),
            command(b"MULTI"),
            command(b"A"),
            command(b"B"),
            command(b"EXEC"),
        ]
    )


def test_an_empty_unit_is_nothing() -> None:
    world = World()
    world.replication.feed.create_backlog()
    world.replication.feed.feed([])
    assert stream_of(world) == b""


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 15), st.lists(st.binary(max_size=20), min_size=1, max_size=4)), max_size=3)
    )
)
def test_the_stream_says_what_was_fed(units: list[list[tuple[int, list[bytes]]]]) -> None:
    """Read back with SELECT, MULTI and EXEC taken away, it is the units in order."""
    world = World()
    feed = world.replication.feed
    feed.create_backlog()
    for unit in units:
        feed.feed(unit)
    parser = StreamParser()
    parser.feed(stream_of(world))
    database = -1
    read: list[tuple[int, list[bytes]]] = []
    while (argv := parser.take()) is not None:
        if argv[0] == b"SELECT" and len(argv) == 2:
            database = int(argv[1])
        elif argv not in ([b"MULTI"], [b"EXEC"]):
            read.append((database, argv))
    assert read == [effect for unit in units for effect in unit]
    assert parser.pending_bytes == 0 or parser.release() == stream_of(world)


def test_a_replica_passes_on_its_masters_bytes_and_adds_none() -> None:
    world = World()
    feed = world.replication.feed
    sub_replica = world.online_replica()
    world.replication.set_master("10.0.0.1", 7000)
    assert not feed.active
    world.write(*SET)
    feed.proxy(b"whatever the master said")
    world.sleep()
    assert sent(sub_replica) == b"whatever the master said"
    assert world.replication.state.master_repl_offset == 24


# --- reaching replicas -----------------------------------------------------------------------------------------------


def test_online_replicas_get_the_stream_before_the_loop_sleeps() -> None:
    world = World()
    first, second = world.online_replica(7001), world.online_replica(7002)
    world.write(*SET)
    assert sent(first) == b""
    world.sleep()
    world.write(b"DEL", b"k")
    world.sleep()
    expected = command(b"SELECT", b"0") + command(*SET) + command(b"DEL", b"k")
    assert sent(first) == sent(second) == expected


@pytest.mark.parametrize(
    "state", [ReplicaState.WAIT_BGSAVE_START, ReplicaState.WAIT_BGSAVE_END, ReplicaState.SEND_BULK]
)
def test_a_replica_that_synchronises_gets_nothing_yet(state: ReplicaState) -> None:
    world = World()
    replica = world.online_replica()
    replica.state = state
    world.write(*SET)
    world.sleep()
    assert sent(replica) == b""


def test_after_a_streamed_snapshot_the_stream_waits_for_an_ack() -> None:
    world = World()
    replica = world.online_replica()
    replica.start_stream_on_ack = True
    world.write(*SET)
    world.sleep()
    assert sent(replica) == b""
    world.replication.feed.acknowledge(replica, 0, world.now_ms)
    world.sleep()
    assert sent(replica) == command(b"SELECT", b"0") + command(*SET)


def test_a_slow_replica_holds_a_place_in_the_shared_stream_and_no_copy_of_it() -> None:
    world = World()
    world.settings.client_output_buffer_limit = {"replica": OutputBufferLimit(0, 0, 0)}
    slow = world.online_replica()
    session_of(slow).stuck = True
    value = bytes(1 << 20)
    for _ in range(50):
        world.write(b"SET", b"k", value)
        world.sleep()
    assert PUSH_BYTES_MAX <= slow.session.output_bytes() < 2 * PUSH_BYTES_MAX
    world.host.flush_wanted = False
    world.sleep()
    assert not world.host.flush_wanted  # Its own writability will tell.
    backlog = world.replication.feed.backlog
    assert backlog is not None
    assert backlog.histlen > 48 << 20  # Kept for it, beyond repl-backlog-size.

    while slow.cursor != backlog.next_offset:
        session_of(slow).drain()
        world.sleep()
    assert sent(slow) == command(b"SELECT", b"0") + command(b"SET", b"k", value) * 50
    world.write(*SET)
    world.sleep()
    assert backlog.histlen < 3 << 20


def test_who_has_not_sent_what_it_was_given_is_given_no_more() -> None:
    world = World()
    slow = world.online_replica()
    session_of(slow).stuck = True
    for _ in range(1000):
        world.write(*SET)
        world.sleep()
    assert sent(slow) == command(b"SELECT", b"0") + command(*SET)
    session_of(slow).drain()
    world.sleep()
    assert sent(slow) == command(b"SELECT", b"0") + command(*SET) * 1000


def test_what_replicas_have_in_common_with_the_backlog_is_counted_once() -> None:
    world = World()
    world.settings.client_output_buffer_limit = {"replica": OutputBufferLimit(0, 0, 0)}
    feed = world.replication.feed
    slow, slower = world.online_replica(7001), world.online_replica(7002)
    for replica in (slow, slower):
        session_of(replica).stuck = True
    pieces, others = session_of(slow).unsent, session_of(slower).unsent
    world.write(b"SET", b"k", bytes(20_000))
    world.sleep()
    backlog = feed.backlog
    assert backlog is not None
    assert len(pieces) == len(others) == 1 and pieces[0] is others[0]
    assert feed.buffer_bytes == backlog.memory_bytes  # They wait for nothing but what it holds.

    size = len(pieces[0])
    pieces[0] = memoryview(pieces[0])[7:]
    assert feed.buffer_bytes == backlog.memory_bytes + 320
    pieces.insert(0, b"something else")
    assert feed.buffer_bytes == backlog.memory_bytes + 320 + 48
    world.settings.repl_backlog_size = 1
    feed.resize_backlog()
    for _ in range(1000):
        world.write(*SET)
        world.sleep()
    slow.cursor = slower.cursor = backlog.next_offset
    backlog.trim()
    assert backlog.first_byte_offset > size
    # No part of the backlog any more, but one object for both.
    assert feed.buffer_bytes == backlog.memory_bytes + 320 + 48 + object_bytes(size)


def test_a_replica_that_takes_everything_at_once_is_given_more_at_once() -> None:
    world = World()
    eager = world.online_replica()
    world.write(b"SET", b"k", bytes(5 << 20))
    world.sleep()
    passes = 1
    while world.host.flush_wanted:
        world.host.flush_wanted = False
        world.sleep()
        passes += 1
    assert sent(eager) == command(b"SELECT", b"0") + command(b"SET", b"k", bytes(5 << 20))
    assert 4 <= passes <= 6


def test_the_hard_limit_drops_a_replica() -> None:
    world = World()
    world.settings.client_output_buffer_limit = {"replica": OutputBufferLimit(4 << 20, 0, 0)}
    replica = world.online_replica()
    session_of(replica).stuck = True
    for _ in range(3):
        world.write(b"SET", b"k", bytes(1 << 20))
        world.sleep()
    assert not session_of(replica).closed
    world.write(b"SET", b"k", bytes(1 << 20))
    world.sleep()
    assert session_of(replica).closed
    assert world.replication.feed.replicas == []
    assert world.replication.feed.buffer_bytes < 3 << 20  # Or it would come back for all of it, and be dropped again.
    assert "Client id=1 scheduled to be closed ASAP for overcoming of output buffer limits." in world.host.texts


def test_a_hard_limit_below_the_backlog_size_means_the_backlog_size() -> None:
    world = World()
    world.settings.repl_backlog_size = 8 << 20
    world.settings.client_output_buffer_limit = {"replica": OutputBufferLimit(1 << 20, 0, 0)}
    replica = world.online_replica()
    session_of(replica).stuck = True
    for _ in range(7):
        world.write(b"SET", b"k", bytes(1 << 20))
        world.sleep()
    assert not session_of(replica).closed
    for _ in range(2):
        world.write(b"SET", b"k", bytes(1 << 20))
        world.sleep()
    assert session_of(replica).closed


def test_the_soft_limit_needs_its_seconds_without_a_pause() -> None:
    world = World()
    world.settings.client_output_buffer_limit = {"replica": OutputBufferLimit(0, 1 << 20, 10)}
    replica = world.online_replica()
    session_of(replica).stuck = True

    def pass_seconds(count: int) -> None:
        for _ in range(count):
            world.now_ms += 1000
            world.write(b"PING")
            world.sleep()

    world.write(b"SET", b"k", bytes(2 << 20))
    world.sleep()
    pass_seconds(9)
    for _ in range(4):
        session_of(replica).drain()
        world.sleep()
    pass_seconds(5)
    assert not session_of(replica).closed
    world.write(b"SET", b"k", bytes(2 << 20))
    world.sleep()
    pass_seconds(10)
    assert not session_of(replica).closed
    world.sleep()
    assert not session_of(replica).closed
    world.seconds(1)  # The cron looks too: it need not take another write.
    assert session_of(replica).closed
    assert world.host.texts[-1] == "Client id=1 closed for overcoming of output buffer limits."


def test_what_a_replica_has_still_to_be_given_is_known() -> None:
    world = World()
    feed = world.replication.feed
    replica = world.online_replica()
    session_of(replica).stuck = True
    before = world.replication.state.master_repl_offset
    world.write(b"SET", b"k", bytes(3 << 20))
    world.sleep()
    written = world.replication.state.master_repl_offset - before
    assert feed.stream_bytes_for(replica) + replica.session.output_bytes() == written
    assert feed.stream_bytes_for(replica) > 0
    feed.remove(replica, world.now_ms)
    assert feed.stream_bytes_for(replica) == 0


# --- acknowledgements ------------------------------------------------------------------------------------------------


def test_wait_resumes_when_enough_replicas_have_it() -> None:
    world = World()
    feed = world.replication.feed
    replicas = [world.online_replica(7001 + n) for n in range(3)]
    world.write(*SET)
    offset = world.replication.state.master_repl_offset
    counts: list[int] = []
    feed.wait_for_acks(AckWaiter(offset, 2, counts.append))
    world.sleep()
    assert sent(replicas[0]).endswith(command(b"REPLCONF", b"GETACK", b"*"))

    feed.acknowledge(replicas[0], offset, world.now_ms)
    feed.acknowledge(replicas[1], offset - 1, world.now_ms)
    world.sleep()
    assert counts == []
    feed.acknowledge(replicas[1], offset, world.now_ms)
    world.sleep()
    world.sleep()
    assert counts == [2]


def test_one_getack_serves_everybody_who_waits() -> None:
    world = World()
    replica = world.online_replica()
    for _ in range(5):
        world.replication.feed.wait_for_acks(AckWaiter(10, 1, lambda _count: None))
    world.sleep()
    world.sleep()
    assert sent(replica) == command(b"REPLCONF", b"GETACK", b"*")


def test_no_getack_while_clients_are_paused() -> None:
    """It would move the offset that a failover compares."""
    world = World()
    replica = world.online_replica()
    world.host.paused = True
    world.replication.feed.request_acks()
    world.sleep()
    assert sent(replica) == b""
    world.host.paused = False
    world.sleep()
    assert sent(replica) == command(b"REPLCONF", b"GETACK", b"*")


def test_an_old_ack_does_not_count_backwards() -> None:
    world = World()
    replica = world.online_replica()
    world.replication.feed.acknowledge(replica, 100, world.now_ms)
    world.replication.feed.acknowledge(replica, 50, world.now_ms)
    assert replica.acknowledged_offset == 100


def test_a_waiter_that_left_is_not_resumed() -> None:
    world = World()
    feed = world.replication.feed
    waiter = AckWaiter(0, 1, lambda _count: pytest.fail("it had left"))
    feed.wait_for_acks(waiter)
    feed.stop_waiting(waiter)
    feed.stop_waiting(waiter)
    world.online_replica()
    world.sleep()


def test_min_replicas_to_write() -> None:
    world = World()
    world.settings.min_replicas_to_write = 1
    world.settings.min_replicas_max_lag = 10
    feed = world.replication.feed
    feed.refresh_good_replicas(world.now_ms)
    assert not feed.enough_good_replicas()
    replica = world.online_replica()
    world.seconds(10)
    assert feed.enough_good_replicas()
    world.seconds(1)
    assert not feed.enough_good_replicas()
    feed.acknowledge(replica, 0, world.now_ms)
    feed.refresh_good_replicas(world.now_ms)
    assert feed.enough_good_replicas()
    replica.state = ReplicaState.SEND_BULK
    feed.refresh_good_replicas(world.now_ms)
    assert not feed.enough_good_replicas()


# --- once a second ---------------------------------------------------------------------------------------------------


def test_pings_come_every_repl_ping_replica_period() -> None:
    world = World()
    replica = world.online_replica()
    for _ in range(30):
        world.replication.feed.acknowledge(replica, 0, world.now_ms)
        world.seconds(1)
    assert sent(replica) == command(b"PING") * 3


def test_pings_stop_while_a_failover_compares_offsets() -> None:
    world = World()
    replica = world.online_replica()
    world.host.paused = world.host.holding_still = True
    world.seconds(11)
    assert sent(replica) == b""
    world.host.paused = False
    world.seconds(10)
    assert sent(replica) == command(b"PING")


def test_a_waiting_replica_is_kept_alive_by_line_ends_outside_of_the_stream() -> None:
    world = World()
    replica = world.online_replica()
    replica.state = ReplicaState.WAIT_BGSAVE_START
    replica.cursor = None
    offset = world.replication.state.master_repl_offset
    world.host.child = "other"
    world.seconds(3)
    assert sent(replica) == b"\n\n\n"
    assert world.replication.state.master_repl_offset == offset


def silent_replica(world: World, **changes: object) -> Replica:
    replica = world.online_replica()
    for name, value in changes.items():
        setattr(replica, name, value)
    world.seconds(world.settings.repl_timeout)
    assert not session_of(replica).closed
    world.seconds(1)
    return replica


def test_a_silent_replica_is_dropped_after_repl_timeout() -> None:
    world = World()
    replica = silent_replica(world)
    assert session_of(replica).closed
    assert "Disconnecting timedout replica (streaming sync): 10.0.0.9:7001" in world.host.texts
    assert "Connection with replica 10.0.0.9:7001 lost." in world.host.texts


def test_who_stood_still_drops_nobody_before_it_has_listened() -> None:
    world = World()
    world.settings.min_replicas_to_write = world.settings.min_replicas_max_lag = 1
    replica = world.online_replica()
    world.seconds(1)
    world.now_ms += 1000 * world.settings.repl_timeout
    world.seconds(1)
    assert not session_of(replica).closed
    assert world.replication.feed.enough_good_replicas()
    world.seconds(1)
    assert session_of(replica).closed


def test_a_replica_that_never_acknowledges_is_not_expected_to() -> None:
    assert not session_of(silent_replica(World(), pre_psync=True)).closed


def test_a_replica_that_loads_keeps_itself_alive_with_line_ends() -> None:
    world = World()
    replica = world.online_replica()
    replica.start_stream_on_ack = True
    for _ in range(world.settings.repl_timeout + 5):
        session_of(replica).last_active_ms = world.now_ms
        world.seconds(1)
    assert not session_of(replica).closed


def test_a_replica_that_holds_up_a_streamed_snapshot_is_dropped() -> None:
    world = World()
    world.host.child = "stream"
    replica = silent_replica(world, state=ReplicaState.WAIT_BGSAVE_END, partial_write_since_ms=world.now_ms)
    assert session_of(replica).closed
    assert "Disconnecting timedout replica (full sync): 10.0.0.9:7001" in world.host.texts


def test_a_backlog_without_replicas_is_freed_and_its_history_given_up() -> None:
    world = World()
    world.settings.repl_backlog_ttl = 5
    replica = world.online_replica()
    world.write(*SET)
    world.host.close_replica(replica)
    replid = world.replication.state.replid
    world.seconds(5)
    assert world.replication.feed.active
    world.seconds(1)
    assert not world.replication.feed.active
    assert world.replication.feed.backlog is None
    assert world.replication.state.replid != replid
    assert world.host.texts[-1] == "Replication backlog freed after 5 seconds without connected replicas."


@pytest.mark.parametrize("reason", ["replica connected", "ttl 0", "is a replica"])
def test_a_backlog_that_is_needed_stays(reason: str) -> None:
    world = World()
    world.settings.repl_backlog_ttl = 0 if reason == "ttl 0" else 5
    replica = world.online_replica()
    replica.pre_psync = True
    if reason != "replica connected":
        world.host.close_replica(replica)
    if reason == "is a replica":
        world.replication.set_master("10.0.0.1", 7000)
    world.seconds(20)
    assert world.replication.feed.backlog is not None


def test_find_by_announced_address() -> None:
    world = World()
    replica = world.online_replica(7005)
    feed = world.replication.feed
    assert feed.find("10.0.0.9", 7005) is replica
    assert feed.find("10.0.0.9", 7001) is None
    replica.announced.ip = "Host.Example"
    assert feed.find("host.example", 7005) is replica
    assert feed.find("10.0.0.9", 7005) is None


def test_an_announcement_lives_as_long_as_its_connection() -> None:
    feed = World().replication.feed
    feed.announcement(5).listening_port = 7001
    assert feed.announcement(5).listening_port == 7001
    feed.forget(5)
    assert feed.announcement(5).listening_port == 0
