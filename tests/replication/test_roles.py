"""What becomes of histories, links and replicas when the role or the master changes."""

from __future__ import annotations

from random import Random

import pytest

from cluster.replication.psync import PartialResync, decide_psync
from cluster.replication.state import NO_OFFSET, NO_REPLICATION_ID, FailoverState, LinkState, ReplicationState
from tests.replication.fakes import World, command, sent, session_of

MASTER_ID = "d" * 40


def given_connected_replica(offset: int = 900) -> World:
    world = World()
    world.replication.set_master("10.0.0.1", 7000)
    world.replication.begin_transfer()
    world.replication.full_sync_loaded(MASTER_ID, offset, 0)
    world.host.lines.clear()
    world.host.calls.clear()
    return world


# --- histories -------------------------------------------------------------------------------------------------------


def test_ids_are_forty_hexadecimal_digits_and_differ() -> None:
    state = ReplicationState(Random(3))
    seen = {state.replid}
    for _ in range(100):
        state.change_replication_id()
        seen.add(state.replid)
    assert len(seen) == 101
    assert all(len(replid) == 40 and set(replid) <= set("0123456789abcdef") for replid in seen)


def test_a_promoted_replica_continues_the_history_under_a_new_name() -> None:
    world = given_connected_replica(900)
    state = world.replication.state
    world.replication.unset_master()
    assert not state.is_replica
    assert state.link is LinkState.NONE
    assert (state.replid2, state.second_repl_offset) == (MASTER_ID, 901)
    assert state.replid not in (MASTER_ID, NO_REPLICATION_ID)
    assert state.master_repl_offset == 900
    assert world.host.texts == [
        "Connection with master lost.",
        "Caching the disconnected master state.",
        "Discarding previously cached master state.",
        f"Setting secondary replication ID to {MASTER_ID}, valid up to offset: 901. "
        f"New replication ID is {state.replid}",
    ]


def test_the_former_master_can_continue_with_its_promoted_replica() -> None:
    """The whole round: what the old master asks for, the new one grants."""
    replica = given_connected_replica(0)
    old_master = World()
    old_master.replication.state.replid = MASTER_ID
    old_master.replication.feed.create_backlog()
    old_master.write(b"SET", b"k", b"v")
    replica.replication.applied(
        command(b"SELECT", b"0") + command(b"SET", b"k", b"v"),
    )
    assert replica.replication.state.master is not None
    replica.replication.state.master.applied_offset = replica.replication.state.master_repl_offset

    replica.replication.unset_master()
    replica.write(b"SET", b"new", b"1")
    old_master.replication.set_master("10.0.0.2", 7001)

    cached = old_master.replication.state.cached_master
    assert cached is not None
    replica.replication.feed.settle()
    decision = decide_psync(
        replica.replication.state,
        replica.replication.feed.backlog,
        cached.replid,
        cached.applied_offset + 1,
        True,
        "old master",
    )
    assert isinstance(decision, PartialResync)
    backlog = replica.replication.feed.backlog
    assert backlog is not None
    assert backlog.read(decision.offset, 1 << 20) == command(b"SELECT", b"0") + command(b"SET", b"new", b"1")

    old_master.replication.partial_sync_accepted(replica.replication.state.replid)
    assert old_master.replication.state.replid == replica.replication.state.replid
    assert old_master.replication.state.link_up


def test_a_new_name_of_the_masters_history_is_passed_on() -> None:
    world = given_connected_replica(900)
    sub_replica = world.online_replica()
    world.replication.link_lost()
    world.replication.partial_sync_accepted("e" * 40)
    state = world.replication.state
    assert (state.replid, state.replid2, state.second_repl_offset) == ("e" * 40, MASTER_ID, 901)
    assert session_of(sub_replica).closed
    assert state.master is not None and state.master.replid == "e" * 40
    assert f"Master replication ID changed to {'e' * 40}" in world.host.texts


@pytest.mark.parametrize("named", [None, MASTER_ID])
def test_the_same_history_leaves_sub_replicas_alone(named: str | None) -> None:
    world = given_connected_replica(900)
    sub_replica = world.online_replica()
    world.replication.link_lost()
    world.replication.partial_sync_accepted(named)
    assert not session_of(sub_replica).closed
    assert world.replication.state.replid == MASTER_ID
    assert world.replication.state.down_since_ms is None


def test_a_full_synchronisation_replaces_the_history_and_dismisses_sub_replicas() -> None:
    world = given_connected_replica(900)
    sub_replica = world.online_replica()
    world.replication.link_lost()
    world.replication.begin_transfer()
    world.replication.attach_to_new_history()
    assert session_of(sub_replica).closed
    assert world.replication.feed.backlog is None
    world.replication.full_sync_loaded("e" * 40, 5000, 3)
    state = world.replication.state
    assert (state.replid, state.replid2, state.master_repl_offset) == ("e" * 40, NO_REPLICATION_ID, 5000)
    assert world.replication.feed.backlog is not None
    assert world.replication.feed.backlog.first_byte_offset == 5001


def test_a_master_of_the_old_protocol_gives_no_history_to_come_back_to() -> None:
    world = World()
    world.replication.set_master("10.0.0.1", 7000)
    world.replication.begin_transfer()
    world.replication.full_sync_loaded("", NO_OFFSET, 0)
    state = world.replication.state
    assert len(state.replid) == 40
    assert state.master_repl_offset >= 0
    world.seconds(3)
    assert world.host.to_master == b""
    world.replication.link_lost()
    assert state.cached_master is None


# --- restart ---------------------------------------------------------------------------------------------------------


def test_a_restarted_replica_asks_to_go_on_from_its_snapshot() -> None:
    world = World()
    world.replication.follow_at_start("10.0.0.1", 7000)
    world.replication.restore_history(MASTER_ID, 700, 2)
    cached = world.replication.state.cached_master
    assert cached is not None
    assert (cached.replid, cached.applied_offset, cached.database) == (MASTER_ID, 700, 2)
    assert "connect" not in world.host.calls
    world.seconds(1)
    assert "connect" in world.host.calls


def test_a_restarted_master_lets_replicas_go_on_that_have_no_more_than_its_snapshot() -> None:
    world = World()
    world.replication.restore_history(MASTER_ID, 700, 0)
    state, backlog = world.replication.state, world.replication.feed.backlog
    assert isinstance(decide_psync(state, backlog, MASTER_ID, 701, True, "r"), PartialResync)
    assert not isinstance(decide_psync(state, backlog, MASTER_ID, 702, True, "r"), PartialResync)
    assert not isinstance(decide_psync(state, backlog, MASTER_ID, 700, True, "r"), PartialResync)
    assert state.replid != MASTER_ID


# --- links -----------------------------------------------------------------------------------------------------------


def test_becoming_a_replica() -> None:
    world = World()
    replica = world.online_replica()
    world.write(b"SET", b"k", b"v")
    offset = world.replication.state.master_repl_offset
    world.replication.set_master("10.0.0.1", 7000)
    state = world.replication.state
    assert state.cached_master is not None
    assert (state.cached_master.replid, state.cached_master.applied_offset) == (state.replid, offset)
    assert not session_of(replica).closed
    assert world.host.calls[-5:] == ["unblock", "drop link", "feed active: False", "role changed", "connect"]
    assert world.host.texts[-2:] == ["Connecting to MASTER 10.0.0.1:7000", "MASTER <-> REPLICA sync started"]
    assert state.link is LinkState.CONNECTING
    assert world.settings.replicaof is not None and world.settings.replicaof.port == 7000


def test_what_a_master_wrote_last_still_reaches_its_replicas() -> None:
    world = World()
    replica = world.online_replica()
    world.write(b"SET", b"k", b"v")
    world.replication.set_master("10.0.0.1", 7000)
    world.sleep()
    assert sent(replica).endswith(command(b"SET", b"k", b"v"))


def test_changing_the_master_keeps_the_place_in_the_history() -> None:
    world = given_connected_replica(900)
    world.replication.set_master("10.0.0.2", 7001)
    cached = world.replication.state.cached_master
    assert cached is not None
    assert (cached.replid, cached.applied_offset) == (MASTER_ID, 900)
    assert world.replication.state.master is None


def test_a_lost_link_is_taken_up_again_at_once() -> None:
    world = given_connected_replica(900)
    assert world.replication.state.master is not None
    world.replication.state.master.read_offset = 950
    world.replication.link_lost()
    cached = world.replication.state.cached_master
    assert cached is not None
    assert cached.read_offset == cached.applied_offset == 900
    assert world.host.calls == ["drop link", "role changed", "connect"]
    assert world.host.texts == [
        "Connection with master lost.",
        "Caching the disconnected master state.",
        "Reconnecting to MASTER 10.0.0.1:7000",
        "MASTER <-> REPLICA sync started",
    ]
    assert world.replication.state.down_since_ms == world.now_ms


def test_a_stream_that_made_no_sense_is_not_continued() -> None:
    world = given_connected_replica(900)
    world.replication.link_lost(desynchronised=True)
    assert world.replication.state.cached_master is None


def test_a_link_is_lost_once() -> None:
    world = given_connected_replica(900)
    world.replication.link_lost()
    world.host.calls.clear()
    world.replication.link_lost()
    assert world.host.calls == []


def test_a_failed_handshake_is_repeated_by_the_cron() -> None:
    world = World()
    world.replication.set_master("10.0.0.1", 7000)
    world.replication.handshake_failed()
    world.host.calls.clear()
    world.seconds(1)
    assert world.host.calls == ["connect"]
    world.seconds(1)
    assert world.host.calls == ["connect"]


@pytest.mark.parametrize(
    ("link", "text"),
    [
        (LinkState.CONNECTING, "Timeout connecting to the MASTER..."),
        (LinkState.RECEIVE_PSYNC_REPLY, "Timeout connecting to the MASTER..."),
        (
            LinkState.TRANSFER,
            "Timeout receiving bulk data from MASTER... If the problem persists try to set the 'repl-timeout' "
            "parameter in redis.conf to a larger value.",
        ),
        (LinkState.CONNECTED, "MASTER timeout: no data nor PING received..."),
    ],
)
def test_silence_of_the_master(link: LinkState, text: str) -> None:
    world = given_connected_replica() if link is LinkState.CONNECTED else World()
    if link is not LinkState.CONNECTED:
        world.replication.set_master("10.0.0.1", 7000)
        if link is LinkState.TRANSFER:
            world.replication.begin_transfer()
        world.replication.state.link = link
    world.seconds(world.settings.repl_timeout)
    assert text not in world.host.texts
    world.seconds(1)
    assert text in world.host.texts
    assert world.replication.state.link is LinkState.CONNECTING


def test_who_stood_still_takes_nobody_for_silent() -> None:
    """What the master said meanwhile has not been read yet; if it said nothing, the next round finds out."""
    world = given_connected_replica()
    world.seconds(1)
    world.now_ms += 1000 * world.settings.repl_timeout
    world.seconds(1)
    assert world.replication.state.link is LinkState.CONNECTED
    world.seconds(1)
    assert "MASTER timeout: no data nor PING received..." in world.host.texts


def test_who_stood_still_says_nothing_before_it_has_read() -> None:
    """A master that has hung up meanwhile would answer with a reset, and what it sent before would be lost."""
    world = given_connected_replica(900)
    world.seconds(1)
    world.host.to_master.clear()
    world.now_ms += 5000
    world.seconds(1)
    assert not world.host.to_master
    world.seconds(1)
    assert world.host.to_master == command(b"REPLCONF", b"ACK", b"900")


def test_acks_go_out_every_second() -> None:
    world = given_connected_replica(900)
    world.seconds(2)
    assert world.host.to_master == command(b"REPLCONF", b"ACK", b"900") * 2


def test_promotion_while_the_snapshot_arrives() -> None:
    world = World()
    world.replication.set_master("10.0.0.1", 7000)
    world.replication.begin_transfer()
    world.replication.unset_master()
    assert world.replication.state.link is LinkState.NONE
    assert world.replication.state.transfer is None
    world.replication.retry_link()
    world.replication.handshake_failed()
    world.seconds(2)
    assert world.replication.state.link is LinkState.NONE


def test_the_backlogs_time_to_live_begins_with_the_promotion() -> None:
    world = given_connected_replica()
    world.settings.repl_backlog_ttl = 10
    world.now_ms += 1_000_000
    world.replication.unset_master()
    world.seconds(9)
    assert world.replication.feed.backlog is not None
    world.seconds(2)
    assert world.replication.feed.backlog is None


def test_replica_offset() -> None:
    assert World().replication.state.replica_offset == 0
    world = given_connected_replica(900)
    assert world.replication.state.replica_offset == 900
    world.replication.link_lost()
    assert world.replication.state.replica_offset == 900
    world.replication.unset_master()
    assert world.replication.state.replica_offset == 0


def test_fresh_data() -> None:
    world = World()
    state = world.replication.state
    assert state.serves_fresh_data
    world.replication.set_master("10.0.0.1", 7000)
    assert not state.serves_fresh_data
    world = given_connected_replica()
    assert world.replication.state.serves_fresh_data
    assert world.replication.state.failover is FailoverState.NONE
