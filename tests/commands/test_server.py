"""CONFIG at once, SAVE, SHUTDOWN, SLOWLOG, MODULE, MEMORY, LATENCY: on a node of ours."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.commands.context import Session
from cluster.commands.latency import _age, _draw
from cluster.commands.lolwut import _draw_mesh
from cluster.node import dispatch
from cluster.node.monitors import quoted
from cluster.node.slow_log import SlowLog, shortened
from tests.support.ports import lease_port
from tests.support.servers import OurNode
from tests.support.sessions import ServerBench
from tests.support.still_time import StillTime
from tests.support.waiting import eventually
from tests.support.wire import RawConnection, ReplyError

# What CONFIG SET changes at once -------------------------------------------------------------------------------------


def test_a_new_port_is_served_and_the_old_one_is_not(node: OurNode) -> None:
    lease = lease_port()
    try:
        with node.raw() as old:
            assert old.call("CONFIG", "SET", "port", lease.port) == b"OK"
            with RawConnection(lease.port) as new:
                assert new.call("PING") == b"PONG"
                assert new.call("CONFIG", "GET", "port") == [b"port", str(lease.port).encode()]
            with pytest.raises(ConnectionRefusedError):
                node.raw().close()
            # Who is connected stays so.
            assert old.call("CONFIG", "SET", "port", node.port) == b"OK"
        assert node.call("PING") == b"PONG"
    finally:
        lease.release()


def test_a_port_in_use_is_refused_and_nothing_changes(node: OurNode) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with node.raw() as client:
            with pytest.raises(ReplyError, match=r"argument 'port'\) - Unable to listen on this port\. Check server"):
                client.call("CONFIG", "SET", "maxclients", 77, "port", taken.getsockname()[1])
            assert client.call("CONFIG", "GET", "port") == [b"port", str(node.port).encode()]
            assert client.call("CONFIG", "GET", "maxclients") == [b"maxclients", b"10000"]
        assert node.call("PING") == b"PONG"


def test_new_addresses_are_bound(node: OurNode) -> None:
    assert node.call("CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2") == b"OK"
    with RawConnection(node.port, "127.0.0.2") as client:
        assert client.call("PING") == b"PONG"
        with pytest.raises(ReplyError, match=r"argument 'bind'\) - Failed to bind to specified addresses\.$"):
            client.call("CONFIG", "SET", "bind", "192.0.2.1")
        with RawConnection(node.port, "127.0.0.2") as another:
            assert another.call("CONFIG", "SET", "bind", "127.0.0.1 -192.0.2.1") == b"OK"
        with pytest.raises(ConnectionRefusedError):
            RawConnection(node.port, "127.0.0.2").close()


def test_maxclients_holds_for_the_next_connection(node: OurNode) -> None:
    with node.raw() as client:
        client.call("CONFIG", "SET", "maxclients", 1)
        with node.raw() as second:
            assert second.recv_until_closed() == b"-ERR max number of clients reached\r\n"
        client.call("CONFIG", "SET", "maxclients", 2)
        assert node.call("PING") == b"PONG"
        with pytest.raises(ReplyError, match=r"not able to handle the specified number of clients, try with \d+$"):
            client.call("CONFIG", "SET", "maxclients", 4_000_000_000)
        assert client.call("CONFIG", "GET", "maxclients") == [b"maxclients", b"2"]


def test_a_password_is_asked_of_new_clients(node: OurNode) -> None:
    with node.raw() as client:
        client.call("CONFIG", "SET", "requirepass", "secret")
        assert client.call("PING") == b"PONG"
        with node.raw() as second:
            assert str(second.ask("PING")) == "NOAUTH Authentication required."
            second.call("AUTH", "secret")
            assert second.call("PING") == b"PONG"
        client.call("CONFIG", "SET", "requirepass", "")
    assert node.call("PING") == b"PONG"


def test_the_longest_bulk_string(node: OurNode) -> None:
    with node.raw() as client:
        client.call("CONFIG", "SET", "proto-max-bulk-len", 1024 * 1024)
        client.call("SET", "k", "x" * 1024 * 1024)
        client.sendall(b"*2\r\n$3\r\nGET\r\n$1048577\r\n")
        assert client.recv_until_closed() == b"-ERR Protocol error: invalid bulk length\r\n"


def test_the_slow_log_gets_shorter(node: OurNode) -> None:
    with node.raw() as client:
        client.call("CONFIG", "SET", "slowlog-log-slower-than", 0)
        for _ in range(20):
            client.call("PING")
        assert client.call("SLOWLOG", "LEN") == 21
        client.call("CONFIG", "SET", "slowlog-max-len", 5)
        assert client.call("SLOWLOG", "LEN") == 5
        client.call("CONFIG", "SET", "slowlog-max-len", 0)
        client.call("PING")
        assert client.call("SLOWLOG", "GET") == []


def test_an_announced_hostname_is_told_at_once() -> None:
    with OurNode(cluster=True) as node:
        node.call("CONFIG", "SET", "cluster-announce-hostname", "here.example.com")
        assert b",here.example.com " in node.call("CLUSTER", "NODES")
        node.call("CONFIG", "SET", "cluster-announce-hostname", "", "cluster-announce-ip", "192.0.2.7")
        assert b" 192.0.2.7:" in node.call("CLUSTER", "NODES")


def test_the_backlog_is_resized(node: OurNode) -> None:
    with OurNode(replicaof=f"127.0.0.1 {node.port}") as replica:
        eventually(lambda: replica.info("replication")["master_link_status"] == "up", 20)
        node.call("CONFIG", "SET", "repl-backlog-size", 20_000)
        assert node.info("replication")["repl_backlog_size"] == "20000"
        for number in range(30):
            node.call("SET", f"k{number}", "x" * 1000)
        assert int(node.info("replication")["repl_backlog_histlen"]) <= 20_000 + 16_384


def test_a_master_is_in_the_rewritten_file(node: OurNode) -> None:
    with OurNode() as replica:
        replica.call("REPLICAOF", "127.0.0.1", node.port)
        replica.call("CONFIG", "REWRITE")
        assert f"replicaof 127.0.0.1 {node.port}\n" in (replica.directory / "redis.conf").read_text()
        replica.call("REPLICAOF", "NO", "ONE")
        replica.call("CONFIG", "REWRITE")
        assert "replicaof" not in (replica.directory / "redis.conf").read_text()


def shown_by_ps(node: OurNode) -> str:
    """Read where ps reads it: a machine may be without ps."""
    return Path(f"/proc/{node.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def test_ps_shows_what_the_process_is(node: OurNode) -> None:
    assert shown_by_ps(node) == f"redis-cluster-node 127.0.0.1:{node.port}"
    node.call("CONFIG", "SET", "proc-title-template", "{port} is mine")
    assert shown_by_ps(node) == f"{node.port} is mine"


def test_a_title_may_be_left_alone() -> None:
    with OurNode(set_proc_title="no") as node:
        assert "-m cluster.node" in shown_by_ps(node)


# Loading, saving, ending ---------------------------------------------------------------------------------------------


def test_clients_are_told_that_data_is_being_loaded() -> None:
    with OurNode(save="3600 100000") as node:
        node.call("DEBUG", "POPULATE", 20_000)
        node.stop()
        node.directives["key-load-delay"] = 5000  # All of it would take a minute and a half.
        node.start(wait=False)

        def ping() -> object:
            with node.raw() as client:
                return client.ask("PING")

        eventually(ping)
        with node.raw() as client:
            assert str(client.ask("GET", "key:1")) == "LOADING Redis is loading the dataset in memory"
            fields = node.info("persistence")
            assert fields["loading"] == "1"
            assert int(fields["loading_loaded_bytes"]) <= int(fields["loading_total_bytes"])
            assert client.call("CONFIG", "SET", "loglevel", "debug") == b"OK"
            client.send("SHUTDOWN", "NOSAVE")
            assert client.recv_until_closed() == b""
        assert node.wait_exit() == 0


def test_background_saves_one_at_a_time(node: OurNode) -> None:
    with node.raw() as client:
        client.call("DEBUG", "POPULATE", 1000)
        client.call("CONFIG", "SET", "rdb-key-save-delay", 1_000_000)  # The child is killed in the end.
        assert client.call("BGSAVE") == b"Background saving started"
        assert str(client.ask("BGSAVE")) == "ERR Background save already in progress"
        assert str(client.ask("SAVE")) == "ERR Background save already in progress"
        assert node.info("persistence")["rdb_bgsave_in_progress"] == "1"
        client.send("SHUTDOWN", "NOSAVE")
        assert client.recv_until_closed() == b""
    assert node.wait_exit() == 0
    assert not list(node.directory.glob("temp-*"))


def test_a_shutdown_that_cannot_save_is_refused_unless_forced() -> None:
    with OurNode(save="3600 1") as node, node.raw() as client:
        (node.directory / "dump.rdb").mkdir()
        assert str(client.ask("SHUTDOWN")) == "ERR Errors trying to SHUTDOWN. Check logs."
        assert client.call("PING") == b"PONG"
        client.send("SHUTDOWN", "FORCE")
        assert client.recv_until_closed() == b""
        assert node.wait_exit() == 0


def test_a_shutdown_waits_for_replicas_and_can_be_aborted(node: OurNode) -> None:
    with OurNode(replicaof=f"127.0.0.1 {node.port}") as replica, node.raw() as client, node.raw() as other:
        eventually(lambda: replica.info("replication")["master_link_status"] == "up", 20)
        replica.pause()
        other.call("SET", "k", "v")
        other.call("CONFIG", "SET", "shutdown-timeout", 600)
        client.send("SHUTDOWN")
        eventually(lambda: "shutdown_in_milliseconds" in node.info("server"), 10)
        assert other.call("SHUTDOWN", "ABORT") == b"OK"
        assert str(client.reply()) == "ERR Errors trying to SHUTDOWN. Check logs."
        assert "shutdown_in_milliseconds" not in node.info("server")
        assert other.call("SET", "k", "v2") == b"OK"
        replica.resume()


# The slow log --------------------------------------------------------------------------------------------------------


def test_long_requests_are_shortened() -> None:
    assert shortened([b"x"] * 32) == (b"x",) * 32
    assert shortened([b"x"] * 33) == ((b"x",) * 31 + (b"... (2 more arguments)",))
    assert shortened([b"x" * 128, b"y" * 129]) == (b"x" * 128, b"y" * 128 + b"... (1 more bytes)")


def test_ids_go_on_after_entries_have_gone() -> None:
    class Somebody(Session):
        def __init__(self) -> None:
            self.address, self.name, self.is_script = "here:1", b"me", False

    log = SlowLog(2)
    for number in range(5):
        log.add(Somebody(), [b"x"], number)
    assert [(entry.entry_id, entry.duration_us) for entry in log.entries] == [(4, 4), (3, 3)]


@pytest.mark.parametrize(("threshold_us", "entries"), [(10_001, set()), (10_000, {10_000})])
def test_a_command_in_a_pipeline_is_as_slow_as_it_is_itself(
    monkeypatch: pytest.MonkeyPatch, threshold_us: int, entries: set[int]
) -> None:
    now_ns = 0
    monkeypatch.setattr(dispatch, "time", SimpleNamespace(perf_counter_ns=lambda: now_ns))
    with ServerBench(slowlog_log_slower_than=threshold_us) as bench:
        assert bench.server.plain  # What is quick is not timed one by one.
        row = bench.server.commands.find(b"set")
        assert row is not None and row.handler is not None
        handler = row.handler

        def take_ten_milliseconds(session: Session, argv: list[bytes]) -> bytes | None:
            nonlocal now_ns
            now_ns += 10_000_000
            return handler(session, argv)

        monkeypatch.setattr(row, "handler", take_ten_milliseconds)
        assert bench.connect().pipeline(*[("SET", "k", "v")] * 100) == b"+OK\r\n" * 100
        assert {entry.duration_us for entry in bench.server.slow_log.entries} == entries


# Pictures ------------------------------------------------------------------------------------------------------------


def test_a_graph_of_spikes() -> None:
    assert _draw([1, 2, 3, 12], ["9s", "8s", "7s", "6s"], 0, 80) == (
        "   #\n"  # 12 rows of height in 4 lines of 3 steps each
        "   |\n"
        "   |\n"
        "_o#|\n"
        "    \n"
        "9876\n"
        "ssss\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86399, "23h"), (86400, "1d")],
)
def test_ages(seconds: int, text: str) -> None:
    assert _age(seconds) == text


@pytest.mark.parametrize(("columns", "nodes"), [(1, 3), (2, 64), (44, 7), (1000, 3)])
def test_a_drawing_fits_its_columns(columns: int, nodes: int) -> None:
    lines = _draw_mesh(columns, nodes).splitlines()
    assert 1 <= max(map(len, lines)) <= columns
    assert set("".join(lines)) <= {chr(0x2800 + dots) for dots in range(256)}


def test_quoting_as_monitor_does() -> None:
    assert quoted(b'a"b\\\n\r\t\a\b\x00\x7f\xff') == b'"a\\"b\\\\\\n\\r\\t\\a\\b\\x00\\x7f\\xff"'


# Modules, memory -----------------------------------------------------------------------------------------------------


def test_modules_cannot_be_loaded() -> None:
    with OurNode(enable_module_command="yes") as node, node.raw() as client:
        assert client.call("MODULE", "LIST") == []
        assert str(client.ask("MODULE", "LOAD", "/lib/x.so")).startswith("ERR Error loading the extension")
        assert "Module /lib/x.so failed to load" in node.log_text()


def test_the_doctors_speak(node: OurNode) -> None:
    with node.raw() as client:
        assert client.call("MEMORY", "DOCTOR").startswith(b"Hi Sam, this instance is empty")
        client.call("SET", "big", "x" * (20 << 20))
        report = client.call("MEMORY", "DOCTOR")
        assert report.startswith((b"Hi Sam, I can't find any memory issue", b"Sam, I detected a few issues"))


def test_the_doctor_of_latencies_speaks(still_time: StillTime) -> None:
    with ServerBench(latency_monitor_threshold=10) as bench:
        client = bench.connect()
        assert b"Dave, no latency spike was observed" in client.ask("LATENCY", "DOCTOR")
        bench.server.latency.note(b"command", 20_000)
        assert b"\n1. command: 1 latency spikes (average 20ms" in client.ask("LATENCY", "DOCTOR")


# Signals -------------------------------------------------------------------------------------------------------------


def test_a_signal_can_be_taken_back_before_it_is_obeyed(node: OurNode) -> None:
    with node.raw() as client:
        client.call("DEBUG", "PAUSE-CRON", 1)
        node.signal(signal.SIGTERM)
        eventually(lambda: "Received SIGTERM scheduling shutdown..." in node.log_text())
        assert client.call("SHUTDOWN", "ABORT") == b"OK"
        client.call("DEBUG", "PAUSE-CRON", 0)
        assert "Shutdown manually aborted." in node.log_text()
        assert str(client.ask("SHUTDOWN", "ABORT")) == "ERR No shutdown in progress."


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGPIPE])
def test_the_terminal_may_go_away(node: OurNode, number: int) -> None:
    ignored = re.search(r"^SigIgn:\s+(\w+)$", Path(f"/proc/{node.pid}/status").read_text(), re.M)
    assert ignored is not None and int(ignored[1], 16) & 1 << number - 1
    node.signal(number)
    assert node.call("PING") == b"PONG"


def test_a_second_interrupt_ends_the_last_save(node: OurNode) -> None:
    with node.raw() as client:
        client.call("DEBUG", "POPULATE", 100)
        client.call("CONFIG", "SET", "save", "3600 1", "rdb-key-save-delay", 200_000)
    node.signal(signal.SIGINT)
    eventually(lambda: list(node.directory.glob("temp-*.rdb")))
    node.signal(signal.SIGINT)
    assert node.wait_exit() == 1
    assert "You insist... exiting now." in node.log_text()
    assert not list(node.directory.glob("temp-*.rdb"))


def test_flushall_with_save_points_leaves_nothing_to_save() -> None:
    with OurNode(save="3600 1000") as node:
        node.call("MSET", "a", 1, "b", 2)
        node.call("FLUSHALL")
        assert node.info("persistence")["rdb_changes_since_last_save"] == "0"
        assert (node.directory / "dump.rdb").exists()
