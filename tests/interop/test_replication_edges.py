"""The edges of replication: passwords, stale data, limits, slow and odd replicas, loads that are broken off."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.replication import (
    HandMaster,
    Start,
    fill,
    follow,
    in_step,
    link_is,
    replication,
)
from tests.support.servers import Kind, RawConnection, Server, eventually, parse_info
from tests.support.wire import ReplyError, encode

pytestmark = pytest.mark.real_redis

# --- passwords and names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("master_kind", "replica_kind"), [("real", "ours"), ("ours", "real")])
def test_a_master_with_a_password(master_kind: Kind, replica_kind: Kind, start: Start) -> None:
    master = start(master_kind)
    master.call("CONFIG", "SET", "requirepass", "se cret")
    replica = start(replica_kind)
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    eventually(lambda: "Unable to AUTH to MASTER" in replica.log_text() or "NOAUTH" in replica.log_text())
    replica.call("CONFIG", "SET", "masterauth", "wrong")
    eventually(lambda: "Unable to AUTH to MASTER: -WRONGPASS" in replica.log_text())
    replica.call("CONFIG", "SET", "masterauth", "se cret")
    link_is(replica, "up")
    replica.call("CONFIG", "SET", "masteruser", "default")
    replica.call("CLIENT", "KILL", "TYPE", "master")
    link_is(replica, "up")


def test_announced_address_and_priority(start: Start) -> None:
    master = start("ours")
    for kind in ("ours", "real"):
        replica = start(kind, replica_announce_ip="10.9.8.7", replica_announce_port=4242, replica_priority=7)
        follow(replica, master)
        assert replication(replica)["slave_priority"] == "7"
    shown = "ip=10.9.8.7,port=4242,state=online,"
    for name in ("slave0", "slave1"):  # That it is in sync a master hears later than the replica knows it.
        eventually(lambda name=name: replication(master)[name].startswith(shown))  # type: ignore[misc]
    assert [entry[:2] for entry in master.call("ROLE")[2]] == [[b"10.9.8.7", b"4242"]] * 2


# --- what clients see ------------------------------------------------------------------------------------------------


def test_stale_data_is_served_or_not(start: Start) -> None:
    master, replica = start("real"), start("ours")
    master.call("SET", "k", "v")
    follow(replica, master)
    master.kill9()
    link_is(replica, "down")
    assert replica.call("GET", "k") == b"v"
    replica.call("CONFIG", "SET", "replica-serve-stale-data", "no")
    with pytest.raises(ReplyError, match="MASTERDOWN Link with MASTER is down"):
        replica.call("GET", "k")
    master.restart()
    link_is(replica, "up")
    assert replica.call("GET", "k") is None  # The master kept nothing on disk.


def test_writes_need_good_replicas(start: Start) -> None:
    master, replica = start("ours", min_replicas_to_write=1, min_replicas_max_lag=2), start("real")
    with pytest.raises(ReplyError, match="NOREPLICAS Not enough good replicas to write"):
        master.call("SET", "k", "v")
    follow(replica, master)
    with master.raw() as connection:

        def good() -> dict[str, str]:
            """What is told of the replicas at the very moment of a write that is let through."""
            connection.sendall(
                encode("MULTI") + encode("SET", "k", "v") + encode("INFO", "replication") + encode("EXEC")
            )
            told = [connection.reply() for _ in range(4)][-1]
            return {} if isinstance(told, ReplyError) else parse_info(told[1])

        assert eventually(good)["min_slaves_good_slaves"] == "1"
    replica.pause()

    def refused() -> bool:
        with pytest.raises(ReplyError, match="NOREPLICAS"):
            master.call("SET", "k", "v")
        return True

    eventually(refused, ignore=(AssertionError, pytest.fail.Exception))
    replica.resume()
    eventually(lambda: master.call("SET", "k", "v") == b"OK", ignore=(ReplyError,))


def test_clients_are_told_loading_while_a_snapshot_loads(start: Start) -> None:
    """The loop lives on meanwhile; and reads after the load see everything."""
    master, replica = start("real"), start("ours")
    master.call("DEBUG", "POPULATE", 100_000, "key", 20)
    replica.call("SET", "old", "data")
    replica.call("CONFIG", "SET", "key-load-delay", 1000)  # Minutes, until somebody has seen it load.
    with replica.raw() as connection:
        connection.sendall(encode("REPLICAOF", "127.0.0.1", master.port) + encode("GET", "old"))
        assert [connection.reply(), connection.reply()] == [b"OK", b"data"]

        def is_loading() -> bool:
            reply = connection.ask("GET", "old")
            assert reply == b"data" or isinstance(reply, ReplyError)
            return str(reply).startswith("LOADING ")

        eventually(is_loading, ignore=())
        connection.call("CONFIG", "SET", "key-load-delay", 0)
        eventually(lambda: connection.ask("GET", "old") is None, interval=0.005)
    link_is(replica, "up")
    assert replica.call("DBSIZE") == 100_000


def test_clients_in_wait_are_told_when_the_server_becomes_a_replica(start: Start) -> None:
    ours, other = start("ours"), start("ours")
    with ours.raw() as connection:
        connection.call("SET", "k", "v")
        connection.send("WAIT", 1, 0)
        eventually(lambda: "flags=b" in ours.call("CLIENT", "LIST").decode())
        ours.call("REPLICAOF", "127.0.0.1", other.port)
        assert str(connection.reply()).startswith("UNBLOCKED force unblock from blocking operation")
        assert connection.recv_until_closed() == b""


def test_wait_ends_when_its_replica_comes_back(start: Start) -> None:
    master, replica = start("ours"), start("real")
    follow(replica, master)
    replica.pause()
    with master.raw() as connection:
        connection.call("SET", "k", "v")
        assert connection.call("WAIT", 1, 100) == 0
        connection.send("WAIT", 1, 0)
        connection.send("GET", "k")
        replica.resume()
        assert connection.reply() == 1
        assert connection.reply() == b"v"


# --- a replica played by hand ----------------------------------------------------------------------------------------


def read_line(connection: RawConnection) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += connection.recv_exactly(1)
    return line if line != b"\n" else read_line(connection)


def synchronise(master: Server, *, eof: bool, port: int = 7777) -> tuple[RawConnection, str, int, bytes]:
    """PSYNC as a replica on ``port`` would; the connection, the history, the offset and the snapshot."""
    connection = master.raw()
    assert connection.call("REPLCONF", "listening-port", port) == b"OK"
    assert connection.call("REPLCONF", "capa", "psync2", *(["capa", "eof"] if eof else [])) == b"OK"
    connection.send("PSYNC", "?", "-1")
    match = re.fullmatch(rb"\+FULLRESYNC ([0-9a-f]{40}) (\d+)\r\n", read_line(connection))
    assert match is not None
    header = read_line(connection)
    if eof:
        mark = header[5:45]
        snapshot = b""
        while not snapshot.endswith(mark):
            snapshot += connection.recv_exactly(1)
        snapshot = snapshot[:-40]
    else:
        snapshot = connection.recv_exactly(int(header[1:]))
    return connection, match[1].decode(), int(match[2]), snapshot


@pytest.mark.parametrize("master_kind", ["ours", "real"])
@pytest.mark.parametrize("eof", [True, False])
def test_every_byte_of_a_synchronisation(master_kind: Kind, eof: bool, start: Start, tmp_path: Path) -> None:
    """Against both kinds: the test must hold for the real server before it says anything about ours."""
    master = start(master_kind, repl_ping_replica_period=1000)
    master.call("SET", "before", "1")
    connection, replid, offset, snapshot = synchronise(master, eof=eof)
    (tmp_path / "dump.rdb").write_bytes(snapshot)
    check = subprocess.run(["redis-check-rdb", str(tmp_path / "dump.rdb")], capture_output=True, text=True, check=False)
    assert "RDB looks OK" in check.stdout
    assert f"repl-id = '{replid}'" in check.stdout
    assert f"repl-offset = '{offset}'" in check.stdout

    master.call("SET", "after", "2")
    expected = encode("SELECT", 0) + encode("SET", "after", "2")
    if eof:
        # The stream begins at the first ACK after the child has been reaped; an earlier one is not heard.
        eventually(lambda: "state=online" in replication(master)["slave0"])
        connection.send("REPLCONF", "ACK", offset)
    ping = encode("PING")
    pings = 0
    while (start_of_stream := connection.recv_exactly(len(ping))) == ping:
        pings += 1
    assert start_of_stream + connection.recv_exactly(len(expected) - len(ping)) == expected
    expected = ping * pings + expected
    connection.send("REPLCONF", "ACK", offset + len(expected))
    eventually(lambda: f"offset={offset + len(expected)}" in replication(master)["slave0"])
    connection.close()
    eventually(lambda: replication(master)["connected_slaves"] == "0")

    again = master.raw()
    again.call("REPLCONF", "capa", "psync2")
    again.send("PSYNC", replid, offset + 1)
    assert read_line(again) == b"+CONTINUE %b\r\n" % replid.encode()
    assert again.recv_exactly(len(expected)) == expected
    again.close()


@pytest.mark.parametrize("master_kind", ["ours", "real"])
def test_a_replica_that_asks_something_is_dropped(master_kind: Kind, start: Start) -> None:
    master = start(master_kind)
    connection, *_ = synchronise(master, eof=False)
    connection.send("REPLCONF", "ACK", 0)
    connection.send("PING")
    assert b"PONG" not in connection.recv_until_closed()
    assert "Replica generated a reply to command 'ping', disconnecting it" in master.log_text()


@pytest.mark.parametrize("master_kind", ["ours", "real"])
def test_a_replica_may_not_touch_keys(master_kind: Kind, start: Start) -> None:
    master = start(master_kind)
    connection, *_ = synchronise(master, eof=False)
    connection.send("SET", "k", "v")
    connection.recv_until_closed()
    assert master.call("EXISTS", "k") == 0


def test_a_replica_that_does_not_read_is_dropped_at_its_limit(start: Start) -> None:
    master = start("ours", client_output_buffer_limit="replica 8mb 0 0")
    connection, *_ = synchronise(master, eof=False)
    fill(master, 3000, size=10_000)
    eventually(lambda: replication(master)["connected_slaves"] == "0")
    assert "scheduled to be closed ASAP for overcoming of output buffer limits" in master.log_text()
    connection.close()


def test_a_slow_replica_gets_every_byte_in_the_end(start: Start) -> None:
    master, replica = start("ours", client_output_buffer_limit="replica 0 0 0"), start("real")
    follow(replica, master)
    replica.pause()
    fill(master, 5000, size=10_000)
    assert int(replication(master)["repl_backlog_histlen"]) > 20_000_000
    replica.resume()
    in_step(master, replica)
    assert replica.call("DBSIZE") == 5000
    assert master.info("stats")["sync_full"] == "1"
    fill(master, 200)
    eventually(lambda: int(replication(master)["repl_backlog_histlen"]) < 3_000_000)


@pytest.mark.parametrize("master_kind", ["ours", "real"])
def test_a_shutdown_waits_also_for_who_is_being_synchronised(master_kind: Kind, start: Start) -> None:
    master = start(master_kind, repl_diskless_sync="no", rdb_key_save_delay=40_000, shutdown_timeout=60)
    master.call("DEBUG", "POPULATE", 100)
    replica = start("ours", replicaof=f"127.0.0.1 {master.port}")
    eventually(lambda: "state=wait_bgsave" in replication(master).get("slave0", ""))
    master.call("SET", "meanwhile", "written")
    with master.raw() as connection:
        connection.send("SHUTDOWN", "NOSAVE")
        assert connection.recv_until_closed() == b""
    assert master.wait_exit() == 0
    log = master.log_text()
    assert "Waiting for replicas before shutting down." in log
    assert "1 of 1 replicas are in sync when shutting down." in log
    eventually(lambda: replica.call("DBSIZE") == 101, ignore=(ReplyError,))


@pytest.mark.parametrize("master_kind", ["ours", "real"])
def test_a_file_that_is_cut_while_it_is_sent(master_kind: Kind, start: Start) -> None:
    """The replica was promised more: what follows in the stream must not be taken for that."""
    master = start(master_kind, repl_diskless_sync="no", rdbcompression="no")
    master.call("DEBUG", "POPULATE", 600, "key", 100_000)
    connection = master.raw()
    connection.call("REPLCONF", "capa", "psync2")
    connection.send("PSYNC", "?", "-1")
    eventually(lambda: "state=send_bulk" in replication(master).get("slave0", ""))
    os.truncate(master.directory / "dump.rdb", 30_000_000)
    assert len(connection.recv_until_closed()) < 60_000_000
    assert "Read error sending DB to replica: premature EOF" in master.log_text()
    assert replication(master)["connected_slaves"] == "0"


@pytest.mark.parametrize("master_kind", ["ours", "real"])
def test_signals_are_logged_as_by_a_handler(master_kind: Kind, start: Start) -> None:
    master = start(master_kind)
    master.stop()
    assert re.search(rf"^{master.pid}:signal-handler \(\d{{10}}\) Received SIGTERM scheduling shutdown\.\.\.$",
                     master.log_text(), re.MULTILINE)  # fmt: skip


def test_a_silent_replica_is_dropped_after_repl_timeout(start: Start) -> None:
    master = start("ours", repl_timeout=2)
    connection, *_ = synchronise(master, eof=False)
    eventually(lambda: replication(master)["connected_slaves"] == "0")
    assert "Disconnecting timedout replica (streaming sync): 127.0.0.1:7777" in master.log_text()
    connection.close()


def test_redis_cli_fetches_a_snapshot(start: Start, tmp_path: Path) -> None:
    """--rdb and --functions-rdb use SYNC with options of their own."""
    master = start("ours")
    fill(master, 100)
    path = tmp_path / "fetched.rdb"
    subprocess.run(
        ["redis-cli", "-p", str(master.port), "--rdb", str(path)], check=True, capture_output=True, timeout=60
    )
    output = subprocess.run(["redis-check-rdb", str(path)], capture_output=True, text=True, check=False).stdout
    assert "100 keys read" in output
    functions = tmp_path / "functions.rdb"
    subprocess.run(
        ["redis-cli", "-p", str(master.port), "--functions-rdb", str(functions)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    output = subprocess.run(["redis-check-rdb", str(functions)], capture_output=True, text=True, check=False).stdout
    assert "0 keys read" in output
    eventually(lambda: replication(master)["connected_slaves"] == "0")


# --- a master that goes wrong ----------------------------------------------------------------------------------------


def test_a_silent_master_is_given_up_after_repl_timeout(start: Start) -> None:
    master, replica = start("real", repl_ping_replica_period=1), start("ours", repl_timeout=4)
    follow(replica, master)
    master.pause()
    eventually(lambda: "MASTER timeout: no data nor PING received..." in replica.log_text())
    link_is(replica, "down")
    master.resume()
    link_is(replica, "up")
    assert master.info("stats")["sync_partial_ok"] == "1"


def test_a_master_that_dies_during_the_transfer(start: Start) -> None:
    """The old data stays until a snapshot is complete, and no temporary file is left."""
    master, replica = start("real", rdb_key_save_delay=200), start("ours")
    master.call("DEBUG", "POPULATE", 50_000, "key", 100)
    replica.call("SET", "old", "data")
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    eventually(lambda: int(replication(replica).get("master_sync_read_bytes", 0)) > 100_000)
    master.kill9()
    link_is(replica, "down")
    eventually(lambda: replication(replica)["master_sync_in_progress"] == "0")
    assert replica.call("GET", "old") == b"data"
    eventually(lambda: not list(replica.directory.glob("temp-*.rdb")))


def test_a_promotion_during_the_transfer(start: Start) -> None:
    master, replica = start("real", rdb_key_save_delay=200), start("ours")
    master.call("DEBUG", "POPULATE", 50_000, "key", 100)
    replica.call("SET", "old", "data")
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    eventually(lambda: int(replication(replica).get("master_sync_read_bytes", 0)) > 100_000)
    replica.call("REPLICAOF", "NO", "ONE")
    assert replica.call("SET", "new", "data") == b"OK"
    assert replica.call("GET", "old") == b"data"
    eventually(lambda: not list(replica.directory.glob("temp-*.rdb")))
    assert replication(replica)["role"] == "master"


# --- files, limits and a failover that waits --------------------------------------------------------------------------


@pytest.mark.parametrize("master_kind", ["ours", "real"])
def test_a_failover_waits_for_a_target_that_does_not_greet(
    master_kind: Kind, start: Start, by_hand: HandMaster
) -> None:
    """Only an answer to PSYNC decides: until there is one, the former master tries again, and can be called back."""
    master = start(master_kind, repl_ping_replica_period=1000)
    connection, _replid, offset, _snapshot = synchronise(master, eof=False, port=by_hand.port)
    eventually(lambda: "state=online" in replication(master)["slave0"])
    connection.send("REPLCONF", "ACK", offset)
    assert master.call("FAILOVER", "TO", "127.0.0.1", by_hand.port) == b"OK"
    for _attempt in range(2):
        assert by_hand.greeting() == [b"PING"]
        by_hand.send(b"-what\r\n")
    assert replication(master)["master_failover_state"] == "failover-in-progress"
    assert master.call("FAILOVER", "ABORT") == b"OK"
    assert replication(master)["role"] == "master"
    assert "aborted: Failover manually aborted" in master.log_text()
    connection.close()


@pytest.mark.parametrize("server_kind", ["ours", "real"])
def test_a_file_for_synchronisation_goes_when_it_is_not_needed(server_kind: Kind, start: Start) -> None:
    """rdb-del-sync-files, on both sides; a replica with an append only file has no use for it either."""
    options = {"repl_diskless_sync": "no", "rdb_del_sync_files": "yes"}
    master, replica = (start(server_kind, **options) for _ in range(2))
    logging = start(server_kind, appendonly="yes", **options)
    saving = start(server_kind, save="3600 1", **options)
    for server in (replica, logging, saving):
        follow(server, master)
    for server in (master, replica, logging):
        eventually(lambda server=server: not (server.directory / "dump.rdb").exists())
    assert (saving.directory / "dump.rdb").exists()
    said = "Removing the RDB file obtained from the master. This replica has persistence disabled"
    assert said in replica.log_text() and said in logging.log_text()
    assert "Removing the RDB file used to feed replicas in a persistence-less instance" in master.log_text()


@pytest.mark.parametrize("master_kind", ["ours", "real"])
def test_what_waits_for_a_replica_is_shown(master_kind: Kind, start: Start) -> None:
    """Also the part of the stream that is kept once for all replicas."""
    master = start(master_kind)
    connection, _replid, offset, _snapshot = synchronise(master, eof=False)
    eventually(lambda: "state=online" in replication(master)["slave0"])
    connection.send("REPLCONF", "ACK", offset)
    written = 0
    while written < 40 << 20:  # Far more than two kernel buffers hold.
        master.call("SET", "k", "x" * (1 << 20))
        written += 1 << 20
    shown = master.call("CLIENT", "LIST", "TYPE", "replica").decode()
    waiting = {name: int(value) for name, value in re.findall(r"(omem|tot-mem)=(\d+)", shown)}
    assert waiting["omem"] > 20 << 20
    assert waiting["tot-mem"] > waiting["omem"]
    connection.close()


def test_a_snapshot_that_nobody_wants_any_more_is_given_up(start: Start) -> None:
    """The only replica of a streamed snapshot goes: the child is ended, and the next who asks gets another one."""
    master = start("ours", rdb_key_save_delay=20_000)
    fill(master, 500)
    first = master.raw()
    first.call("REPLCONF", "capa", "eof", "capa", "psync2")
    first.send("PSYNC", "?", "-1")
    assert read_line(first).startswith(b"+FULLRESYNC ")
    first.close()
    eventually(lambda: "Diskless rdb transfer, last replica dropped, killing fork child." in master.log_text())
    master.call("CONFIG", "SET", "rdb-key-save-delay", "0")
    connection, _replid, _offset, snapshot = synchronise(master, eof=True)
    assert snapshot.startswith(b"REDIS")
    connection.close()
    lines = re.findall(r"[*#] ((?:Fork CoW|Diskless rdb|Background (?:RDB )?transfer [dt]).*)", master.log_text())
    assert [re.sub(r"(?<=RDB: ).*", "", line) for line in lines] == [
        "Diskless rdb transfer, last replica dropped, killing fork child.",
        "Background transfer terminated by signal 10",
        "Fork CoW for RDB: ",
        "Diskless rdb transfer, done reading from pipe, 1 replicas still up.",
        *["Background RDB transfer terminated with success"][: len(lines) - 4],  # It may have been said already.
    ]
