"""The edges of replication: passwords, stale data, limits, slow and odd replicas, loads that are broken off."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import hiredis
import pytest

from tests.support.servers import Kind, RawConnection, Server, eventually, make_server, parse_info
from tests.support.waiting import PATIENCE
from tests.support.wire import ReplyError, encode

pytestmark = pytest.mark.real_redis

Start = Callable[..., Server]


@pytest.fixture
def start() -> Iterator[Start]:
    """``start(kind, **directives)``: a running server that is gone after the test."""
    with ExitStack() as stack:

        def run(kind: Kind, **directives: object) -> Server:
            return stack.enter_context(make_server(kind, **directives))  # type: ignore[arg-type]

        yield run


def replication(server: Server) -> dict[str, str]:
    return server.info("replication")


def follow(replica: Server, master: Server) -> None:
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    link_is(replica, "up")


def link_is(replica: Server, status: str) -> None:
    eventually(lambda: replication(replica)["master_link_status"] == status)


def in_step(master: Server, replica: Server) -> None:
    eventually(lambda: replication(replica)["slave_repl_offset"] == replication(master)["master_repl_offset"])


def fill(server: Server, keys: int, size: int = 10) -> None:
    with server.raw() as connection:
        for first in range(0, keys, 1000):
            batch = range(first, min(first + 1000, keys))
            connection.sendall(b"".join(encode("SET", f"key:{n}", b"v" * size) for n in batch))
            for _ in batch:
                assert connection.reply() == b"OK"


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


def test_a_master_that_goes_before_the_snapshot_begins(start: Start, by_hand: HandMaster) -> None:
    replica = start("ours")
    replica.call("REPLICAOF", "127.0.0.1", by_hand.port)
    by_hand.accept()
    by_hand.send(b"+FULLRESYNC %b 1\r\n" % HISTORY.encode())
    by_hand.accept()
    assert "I/O error reading bulk count from MASTER: " in replica.log_text()


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


# --- a master played by hand -----------------------------------------------------------------------------------------

EMPTY_RDB = b"REDIS0010\xff" + bytes(8)
HISTORY = "abcdef0123" * 4


class HandMaster:
    """A listening socket on which the test answers a replica byte by byte."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self._reader = hiredis.Reader(notEnoughData=None)
        self._socket: socket.socket | None = None

    def accept(self) -> list[bytes]:
        """Take the replica's next connection up to its PSYNC, which is returned."""
        self.hang_up()
        self._socket, _ = self._listener.accept()
        self._socket.settimeout(PATIENCE)
        self._reader = hiredis.Reader(notEnoughData=None)
        while True:
            command = self.command()
            if command[0] == b"PSYNC":
                return command
            self.send(b"+PONG\r\n" if command[0] == b"PING" else b"+OK\r\n")

    def greeting(self) -> list[bytes]:
        """Take the replica's next connection; the first command on it."""
        self.hang_up()
        self._socket, _ = self._listener.accept()
        self._socket.settimeout(PATIENCE)
        self._reader = hiredis.Reader(notEnoughData=None)
        return self.command()

    def command(self) -> list[bytes]:
        """The next command from the replica."""
        assert self._socket is not None
        while (command := self._reader.gets()) is None:
            data = self._socket.recv(65536)
            assert data, "the replica hung up"
            self._reader.feed(data.lstrip(b"\n"))
        assert isinstance(command, list)
        return command

    def ack(self) -> int:
        """The offset that the replica acknowledges next."""
        command = self.command()
        assert command[:2] == [b"REPLCONF", b"ACK"]
        return int(command[2])

    def send(self, data: bytes) -> None:
        assert self._socket is not None
        self._socket.sendall(data)

    def full_sync(self, offset: int, snapshot: bytes = EMPTY_RDB) -> None:
        self.send(b"+FULLRESYNC %b %d\r\n\n$%d\r\n%b" % (HISTORY.encode(), offset, len(snapshot), snapshot))

    def hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        self.hang_up()
        self._listener.close()


@pytest.fixture
def by_hand() -> Iterator[HandMaster]:
    master = HandMaster()
    yield master
    master.close()


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
