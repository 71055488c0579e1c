"""Our replica, and the real one, of a master that the test plays by hand: every byte of it is the test's."""

from __future__ import annotations

import re

import pytest

from tests.support.replication import (
    EMPTY_RDB,
    HISTORY,
    HandMaster,
    Start,
    link_is,
    replication,
)
from tests.support.servers import Kind, eventually
from tests.support.wire import ReplyError, encode

pytestmark = pytest.mark.real_redis


def test_masters_that_have_no_name_are_looked_for_again_and_again(start: Start, by_hand: HandMaster) -> None:
    replica = start("ours")
    for host in (
        b".a",
        b"..",
        b"a" * 70,
        b"a" * 300,
        b"\xff\xfe",
        b"a\0b",
        b"",
        b"x y",
        b"127.0.0.1\n",
        b"fe80::1%nosuch",
    ):
        seen = len(replica.log_text())
        assert replica.call("REPLICAOF", host, 1) == b"OK"
        eventually(lambda seen=seen: re.search("Unable to connect to M|Error condition", replica.log_text()[seen:]))  # type: ignore[misc]
        assert replica.call("ROLE")[:3] == [b"slave", host, 1]
        assert b"master_host:" + host in replica.call("INFO", "replication")
    replica.call("CONFIG", "SET", "replica-announce-ip", b"\xff")
    for source in (b"\xff", b"no such host"):
        replica.call("CONFIG", "SET", "bind-source-addr", source)
        replica.call("REPLICAOF", "127.0.0.1", by_hand.port)
        eventually(lambda: "Error condition on socket for SYNC: " in replica.log_text().splitlines()[-1])
        replica.call("REPLICAOF", "NO", "ONE")
    replica.call("CONFIG", "SET", "bind-source-addr", "")
    replica.call("REPLICAOF", "127.0.0.1", by_hand.port)
    by_hand.accept()
    assert "Traceback" not in replica.log_text()


def test_a_master_that_goes_before_the_snapshot_begins(start: Start, by_hand: HandMaster) -> None:
    replica = start("ours")
    replica.call("REPLICAOF", "127.0.0.1", by_hand.port)
    by_hand.accept()
    by_hand.send(b"+FULLRESYNC %b 1\r\n" % HISTORY.encode())
    by_hand.accept()
    assert "I/O error reading bulk count from MASTER: " in replica.log_text()


@pytest.mark.parametrize("replica_kind", ["ours", "real"])
def test_the_offset_counts_what_was_applied(replica_kind: Kind, start: Start, by_hand: HandMaster) -> None:
    """GETACK's answer does not count GETACK; a transaction counts when it is complete; a part never does."""
    replica = start(replica_kind)
    replica.call("REPLICAOF", "127.0.0.1", by_hand.port)
    by_hand.accept()
    by_hand.full_sync(1000)
    link_is(replica, "up")
    offset = 1000
    getack = encode("REPLCONF", "GETACK", "*")

    def expect_ack(wanted: int) -> None:
        while (acked := by_hand.ack()) != wanted:
            assert acked < wanted

    by_hand.send(encode("SELECT", 0) + encode("SET", "a", 1) + getack)
    offset += len(encode("SELECT", 0) + encode("SET", "a", 1))
    expect_ack(offset)
    offset += len(getack)
    by_hand.send(getack)
    expect_ack(offset)
    offset += len(getack)

    by_hand.send(encode("MULTI") + encode("SET", "b", 1) + encode("SET", "c", 1) + encode("SET", "d", 1)[:-3])
    eventually(lambda: int(replication(replica)["slave_read_repl_offset"]) > offset + 60)
    assert int(replication(replica)["slave_repl_offset"]) == offset
    assert replica.call("EXISTS", "b", "c", "d") == 0
    by_hand.hang_up()

    assert by_hand.accept() == [b"PSYNC", HISTORY.encode(), b"%d" % (offset + 1)]
    by_hand.send(b"+CONTINUE\r\n" + encode("MULTI") + encode("SET", "b", 2) + encode("EXEC") + b"\r\n" + getack)
    offset += len(encode("MULTI") + encode("SET", "b", 2) + encode("EXEC"))
    expect_ack(offset)  # A bare line end counts together with the command behind it.
    expect_ack(offset + 2 + len(getack))
    assert replica.call("GET", "b") == b"2"
    assert replica.call("EXISTS", "c", "d") == 0


@pytest.mark.parametrize("nonsense", [b"GET a\r\n", b"*1\r\n:5\r\n", b"*1\r\n$-5\r\n", b"\x00\xff" * 50 + b"\r\n"])
def test_nonsense_in_the_stream_costs_a_full_synchronisation(
    nonsense: bytes, start: Start, by_hand: HandMaster
) -> None:
    replica = start("ours")
    replica.call("REPLICAOF", "127.0.0.1", by_hand.port)
    by_hand.accept()
    by_hand.full_sync(1000)
    by_hand.send(encode("SET", "a", 1) + nonsense + encode("SET", "b", 1))
    assert by_hand.accept() == [b"PSYNC", b"?", b"-1"]
    assert replica.call("GET", "a") == b"1"
    assert replica.call("EXISTS", "b") == 0
    assert "Protocol error (" in replica.log_text()
    by_hand.full_sync(2000)
    link_is(replica, "up")
    assert replica.call("DBSIZE") == 0


BAD_SNAPSHOTS = [b"no snapshot at all", EMPTY_RDB[:12], b"REDIS0099" + EMPTY_RDB[9:], b""]


@pytest.mark.parametrize("nonsense", BAD_SNAPSHOTS)
@pytest.mark.parametrize("mode", ["disabled", "swapdb"])
def test_a_snapshot_that_cannot_be_loaded_leaves_nothing_half_loaded(
    nonsense: bytes, mode: str, start: Start, by_hand: HandMaster
) -> None:
    """Through a file the old data is gone by then; a data set beside it can be thrown away."""
    replica = start("ours", repl_diskless_load=mode)
    replica.call("SET", "old", "data")
    replica.call("REPLICAOF", "127.0.0.1", by_hand.port)
    by_hand.accept()
    by_hand.full_sync(1000, nonsense)
    by_hand.accept()
    place = "disk" if mode == "disabled" else "socket"
    assert f"Failed trying to load the MASTER synchronization DB from {place}" in replica.log_text()
    assert replica.call("DBSIZE") == (0 if mode == "disabled" else 1)
    by_hand.full_sync(2000)
    link_is(replica, "up")
    assert replica.call("DBSIZE") == 0


@pytest.mark.parametrize("mode", ["disabled", "on-empty-db", "swapdb"])
def test_a_transfer_that_breaks_off(mode: str, start: Start, by_hand: HandMaster) -> None:
    replica = start("ours", repl_diskless_load=mode)
    if mode != "on-empty-db":
        replica.call("SET", "old", "data")
    replica.call("REPLICAOF", "127.0.0.1", by_hand.port)
    by_hand.accept()
    keys = b"".join(b"\x00\x05key%02d\x01v" % number for number in range(50))
    by_hand.send(b"+FULLRESYNC %b 7\r\n$EOF:%b\r\nREDIS0010%b" % (HISTORY.encode(), b"m" * 40, keys))
    eventually(lambda: int(replication(replica).get("master_sync_read_bytes", 0)) > 300)
    by_hand.accept()
    assert replica.call("DBSIZE") == (0 if mode == "on-empty-db" else 1)
    by_hand.send(
        b"+FULLRESYNC %b 7\r\n$EOF:%b\r\nREDIS0010%b\xff%b%b" % (HISTORY.encode(), b"m" * 40, keys, bytes(8), b"m" * 40)
    )
    link_is(replica, "up")
    assert by_hand.ack() == 7
    assert replica.call("DBSIZE") == 50
    assert replica.call("GET", "key49") == b"v"


@pytest.mark.parametrize("end_mark", [b"m" * 39 + b"x", b"", b"trailing" + b"m" * 40])
def test_a_streamed_snapshot_must_end_where_it_says(end_mark: bytes, start: Start, by_hand: HandMaster) -> None:
    replica = start("ours", repl_diskless_load="swapdb")
    replica.call("REPLICAOF", "127.0.0.1", by_hand.port)
    by_hand.accept()
    by_hand.send(b"+FULLRESYNC %b 7\r\n$EOF:%b\r\n" % (HISTORY.encode(), b"m" * 40) + EMPTY_RDB + end_mark)
    if b"m" * 40 not in end_mark:
        eventually(lambda: replication(replica)["master_sync_in_progress"] == "1")
    by_hand.accept()
    by_hand.full_sync(8)
    link_is(replica, "up")


def test_old_data_is_shown_while_newer_data_of_the_same_history_comes(start: Start, by_hand: HandMaster) -> None:
    replica = start("ours", repl_diskless_load="swapdb")
    replica.call("REPLICAOF", "127.0.0.1", by_hand.port)
    by_hand.accept()
    by_hand.full_sync(1000)
    link_is(replica, "up")
    by_hand.send(encode("SELECT", 0) + encode("SET", "old", "data"))
    eventually(lambda: replica.call("GET", "old") == b"data")
    by_hand.accept()
    by_hand.send(b"+FULLRESYNC %b 2000\r\n$%d\r\n%b" % (HISTORY.encode(), len(EMPTY_RDB), EMPTY_RDB[:9]))
    eventually(lambda: replica.info("persistence")["async_loading"] == "1")
    assert replica.call("GET", "old") == b"data"
    by_hand.send(EMPTY_RDB[9:])
    link_is(replica, "up")
    assert replica.call("GET", "old") is None
    assert replica.info("persistence")["async_loading"] == "0"

    # Of another history it would be something else, not something older.
    by_hand.send(encode("SET", "old", "data"))
    eventually(lambda: replica.call("GET", "old") == b"data")
    by_hand.accept()
    by_hand.send(b"+FULLRESYNC %b 5\r\n$%d\r\n%b" % (b"9" * 40, len(EMPTY_RDB), EMPTY_RDB[:9]))

    def loading() -> bool:
        with pytest.raises(ReplyError, match="LOADING"):
            replica.call("GET", "old")
        return True

    eventually(loading, ignore=(pytest.fail.Exception,))
    by_hand.send(EMPTY_RDB[9:])
    eventually(lambda: replica.call("GET", "old") is None, ignore=(ReplyError,))


def test_commands_that_fail_here_are_reported_and_counted(start: Start, by_hand: HandMaster) -> None:
    replica = start("ours")
    replica.call("REPLICAOF", "127.0.0.1", by_hand.port)
    by_hand.accept()
    by_hand.full_sync(0)
    link_is(replica, "up")
    stream = encode("NOSUCHCOMMAND", "x") + encode("SET", "a", "text") + encode("INCR", "a") + encode("SET", "b", "1")
    by_hand.send(stream)
    eventually(lambda: replica.call("GET", "b") == b"1")
    eventually(lambda: int(replication(replica)["slave_repl_offset"]) == len(stream))
    log = replica.log_text()
    assert "== CRITICAL == This replica is sending an error to its master: 'ERR unknown command 'NOSUCHCOMMAND'" in log
    assert "ERR value is not an integer or out of range' after processing the command 'incr'" in log.replace(
        "INCR", "incr"
    )


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (b"-LOADING not yet\r\n", "Master is currently unable to PSYNC but should be in the future: -LOADING not yet"),
        (b"-NOMASTERLINK no\r\n", "Master is currently unable to PSYNC but should be in the future: -NOMASTERLINK no"),
        (b"what?\r\n", "Unexpected reply to PSYNC from master: what?"),
        (b"", "Master did not reply to PSYNC, will try later"),
    ],
)
def test_a_master_that_cannot_serve_now_is_asked_again(
    reply: bytes, text: str, start: Start, by_hand: HandMaster
) -> None:
    replica = start("ours")
    replica.call("REPLICAOF", "127.0.0.1", by_hand.port)
    by_hand.accept()
    by_hand.send(reply)
    if not reply or reply.startswith(b"what"):
        by_hand.hang_up()
    by_hand.accept()
    by_hand.full_sync(5)
    link_is(replica, "up")
    assert text in replica.log_text()
