"""The server's own commands beside a real server: the same requests, the same replies, byte for byte where possible."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.commands.registry import load_command_table
from tests.support.servers import OurNode, RealRedis, Server
from tests.support.waiting import eventually
from tests.support.wire import RawConnection, ReplyError

pytestmark = pytest.mark.real_redis

TABLE = load_command_table()
LATER_THAN_7_0 = {"client|setinfo", "client|no-touch"}
NAMES = sorted(row.name.decode() for row in TABLE.all_rows() if row.name.decode() not in LATER_THAN_7_0)
CONTAINERS = sorted(row.name.decode() for row in TABLE.by_name.values() if row.subcommands)

REPLIES = """
INFO nonsense
TIME x
CONFIG
CONFIG FOO
CONFIG GET
CONFIG SET
CONFIG SET maxmemory
CONFIG SET maxmemory 1 maxmemory
CONFIG RESETSTAT x
CONFIG RESETSTAT
CONFIG REWRITE x
CONFIG HELP
CONFIG HELP x
COMMAND HELP
COMMAND FOO
COMMAND COUNT x
COMMAND INFO nosuch get|x client|nosuch
COMMAND INFO get|x|y
COMMAND DOCS nosuch
COMMAND DOCS nosuch|x client|nosuch
COMMAND LIST FILTERBY
COMMAND LIST FILTERBY PATTERN
COMMAND LIST FILTERBY PATTERN get x
COMMAND LIST FILTERBY NOSUCH x
COMMAND LIST x
COMMAND LIST FILTERBY MODULE nosuch
COMMAND LIST FILTERBY ACLCAT nosuch
COMMAND LIST FILTERBY PATTERN gE?
COMMAND LIST FILTERBY PATTERN nosuch*
COMMAND GETKEYS
COMMAND GETKEYS nosuch
COMMAND GETKEYS get
COMMAND GETKEYS get k x
COMMAND GETKEYS get k
COMMAND GETKEYS GET k
COMMAND GETKEYS ping
COMMAND GETKEYS set k v
COMMAND GETKEYS mset a 1 b 2 c 3
COMMAND GETKEYS mset a 1 b
COMMAND GETKEYS lcs a b
COMMAND GETKEYS rename a b
COMMAND GETKEYS object encoding a
COMMAND GETKEYS object freq
COMMAND GETKEYS object nosuch a
COMMAND GETKEYS memory usage k samples 1
COMMAND GETKEYS migrate h 1 k 0 10
COMMAND GETKEYS migrate h 1 "" 0 10 keys a b
COMMAND GETKEYS migrate h 1 "" 0 10 auth keys keys a
COMMAND GETKEYS copy a b replace
COMMAND GETKEYS del a b c
COMMAND GETKEYS debug object k
COMMAND GETKEYS flushall
COMMAND GETKEYSANDFLAGS set k v
COMMAND GETKEYSANDFLAGS set k get
COMMAND GETKEYSANDFLAGS set k v ex 1 get
COMMAND GETKEYSANDFLAGS mset a 1 b 2
COMMAND GETKEYSANDFLAGS copy a b
COMMAND GETKEYSANDFLAGS lcs a b
COMMAND GETKEYSANDFLAGS get
COMMAND GETKEYSANDFLAGS ping
COMMAND GETKEYSANDFLAGS restore k 0 x
COMMAND GETKEYSANDFLAGS del a b
MEMORY
MEMORY FOO
MEMORY HELP
MEMORY HELP x
MEMORY USAGE
MEMORY USAGE nosuch
MEMORY USAGE nosuch SAMPLES
MEMORY USAGE nosuch SAMPLES -1
MEMORY USAGE nosuch SAMPLES x
MEMORY USAGE nosuch FOO 1
MEMORY STATS x
MEMORY PURGE
MEMORY DOCTOR
LATENCY
LATENCY FOO
LATENCY HELP
LATENCY LATEST
LATENCY LATEST x
LATENCY HISTORY
LATENCY HISTORY nosuch
LATENCY GRAPH nosuch
LATENCY RESET
LATENCY RESET nosuch nosuch
LATENCY DOCTOR
LATENCY HISTOGRAM nosuch
LCS a
LCS a b FOO
LCS a b MINMATCHLEN
LCS a b MINMATCHLEN x
LCS a b LEN IDX
LCS a b
LCS a b LEN
LCS a b IDX
LCS text other IDX WITHMATCHLEN MINMATCHLEN 2
LCS text other
LOLWUT VERSION x
LOLWUT VERSION 5 x
MODULE
MODULE HELP
MODULE LIST
MODULE LIST x
MODULE LOAD /nosuch.so
MODULE LOADEX /nosuch.so
MODULE UNLOAD nosuch
MODULE FOO
SLOWLOG
SLOWLOG FOO
SLOWLOG HELP
SLOWLOG GET x
SLOWLOG GET -2
SLOWLOG GET 0
SLOWLOG GET 1 2
SLOWLOG RESET
SLOWLOG LEN
SLOWLOG GET
SLOWLOG GET -1
OBJECT HELP
OBJECT FOO
OBJECT FREQ text
OBJECT FREQ nosuch
OBJECT IDLETIME nosuch
OBJECT REFCOUNT text
OBJECT REFCOUNT number
OBJECT REFCOUNT nosuch
OBJECT ENCODING number
SHUTDOWN FOO
SHUTDOWN SAVE NOSAVE
SHUTDOWN ABORT
SHUTDOWN ABORT NOW
SHUTDOWN NOW ABORT
SAVE x
BGSAVE x
BGSAVE SCHEDULE x
LASTSAVE x
BGREWRITEAOF x
DEBUG
DEBUG FOO
DEBUG SLEEP
DEBUG SLEEP 0
DEBUG DIGEST
DEBUG DIGEST-VALUE text number nosuch expiring
DEBUG OBJECT nosuch
DEBUG SDSLEN nosuch
DEBUG SDSLEN number
DEBUG ERROR "LOADING I am not"
DEBUG ERROR x
DEBUG LOG line
DEBUG LEAK x
DEBUG SET-ACTIVE-EXPIRE 1
DEBUG PAUSE-CRON 0
DEBUG RELOAD FOO
DEBUG HTSTATS x
DEBUG HTSTATS 99
DEBUG HTSTATS-KEY nosuch
DEBUG HTSTATS-KEY text
DEBUG LISTPACK nosuch
DEBUG LISTPACK text
DEBUG QUICKLIST nosuch
DEBUG QUICKLIST text
DEBUG QUICKLIST text 1
DEBUG SDSLEN x y
DEBUG STRINGMATCH-LEN 10 a*a
DEBUG STRINGMATCH-LEN 3 b*
DEBUG POPULATE x
DEBUG POPULATE -1
DEBUG POPULATE 2 made 3
DEBUG DIGEST
DEBUG POPULATE 1 text
DEBUG CHANGE-REPL-ID
DEBUG PROTOCOL nosuch
DEBUG PROTOCOL string
DEBUG PROTOCOL integer
DEBUG PROTOCOL double
DEBUG PROTOCOL null
DEBUG PROTOCOL array
DEBUG PROTOCOL set
DEBUG PROTOCOL map
DEBUG PROTOCOL attrib
DEBUG PROTOCOL bignum
DEBUG PROTOCOL verbatim
DEBUG PROTOCOL true
DEBUG PROTOCOL false
DEBUG CLUSTERLINK KILL TO x
DEBUG DROP-CLUSTER-PACKET-FILTER -1
DEBUG SET-SKIP-CHECKSUM-VALIDATION 0
""".strip().splitlines()


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[OurNode, RealRedis]]:
    with (
        # What is slow is up to the machine: the log of it is on where a test is about it.
        OurNode(enable_module_command="yes", slowlog_log_slower_than=-1) as ours,
        RealRedis(enable_module_command="yes", slowlog_log_slower_than=-1) as real,
    ):
        for server in (ours, real):
            server.call("MSET", "text", "Hello, cluster", "other", "Hollow clutter", "number", 77)
            server.call("SET", "expiring", "x", "PX", 10_000_000)
        yield ours, real


def words_of(line: str) -> list[str]:
    return [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)]


def raw_reply(connection: RawConnection, *words: str) -> bytes:
    """The bytes of one reply: what comes before the reply to a PING with a mark."""
    mark = b"$12\r\nend of reply\r\n"
    connection.send(*words)
    connection.send("PING", "end of reply")
    data = b""
    while not data.endswith(mark):
        chunk = connection.recv()
        assert chunk, data
        data += chunk
    return data[: -len(mark)]


def both(pair: tuple[OurNode, RealRedis], protocol: int, *words: str) -> tuple[bytes, bytes]:
    replies = []
    for server in pair:
        with server.raw() as connection:
            connection.call("HELLO", protocol)
            replies.append(raw_reply(connection, *words))
    return replies[0], replies[1]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("line", REPLIES)
def test_the_same_reply(pair: tuple[OurNode, RealRedis], line: str, protocol: int) -> None:
    ours, real = both(pair, protocol, *words_of(line))
    assert ours == real


# COMMAND --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[2, 3])
def talking(pair: tuple[OurNode, RealRedis], request: pytest.FixtureRequest) -> Iterator[list[RawConnection]]:
    with pair[0].raw() as ours, pair[1].raw() as real:
        for connection in (ours, real):
            connection.call("HELLO", request.param)
        yield [ours, real]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CONTAINERS])
def test_what_command_info_says(talking: list[RawConnection], name: str) -> None:
    ours, real = (raw_reply(connection, "COMMAND", "INFO", name) for connection in talking)
    assert ours == real


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CONTAINERS])
def test_what_command_docs_says(talking: list[RawConnection], name: str) -> None:
    ours, real = (raw_reply(connection, "COMMAND", "DOCS", name) for connection in talking)
    assert ours == real


FIELDS = ("name", "arity", "flags", "first", "last", "step", "categories", "tips", "specs", "subcommands")


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_tell_what_there_is_of_them(talking: list[RawConnection], name: str) -> None:
    ours, real = (dict(zip(FIELDS, connection.call("COMMAND", "INFO", name)[0], strict=True)) for connection in talking)
    known = {sub[0] for sub in ours["subcommands"]}
    assert known <= {sub[0] for sub in real["subcommands"]} | {f"{word}".encode() for word in LATER_THAN_7_0}
    for row in (ours, real):
        row["subcommands"] = sorted(
            (sub for sub in row["subcommands"] if sub[0] in known and sub[0].decode() not in LATER_THAN_7_0),
            key=lambda sub: sub[0],
        )
    assert ours == real


def test_names_of_all_commands_are_names_in_redis(talking: list[RawConnection]) -> None:
    ours, real = (set(connection.call("COMMAND", "LIST")) for connection in talking)
    assert ours - {name.encode() for name in LATER_THAN_7_0} <= real
    assert len(ours) > 150
    for category in (b"fast", b"admin", b"keyspace", b"STRING"):
        ours_in, real_in = (
            set(connection.call("COMMAND", "LIST", "FILTERBY", "ACLCAT", category)) for connection in talking
        )
        assert ours_in - {name.encode() for name in LATER_THAN_7_0} == real_in & ours
        assert ours_in


# INFO -----------------------------------------------------------------------------------------------------------

OUR_OWN_FIELDS = {"hashslot_build", "hashslot_version", "python_version"}
SECTIONS = ("server", "clients", "memory", "persistence", "stats", "replication", "cpu", "modules", "cluster")


def shape(server: Server, *sections: str) -> list[str]:
    """Titles and names of fields, in order; without the fields that Redis's allocator alone has."""
    text = server.call("INFO", *sections).decode()
    names = [line.split(":")[0] for line in text.split("\r\n") if not re.match(r"db\d|slave\d|errorstat_", line)]
    return [name for name in names if name not in OUR_OWN_FIELDS]


@pytest.mark.parametrize("section", SECTIONS)
def test_fields_of_info(pair: tuple[OurNode, RealRedis], section: str) -> None:
    ours, real = (shape(server, section) for server in pair)
    assert ours == real


@pytest.mark.parametrize("words", [[], ["default"], ["all"], ["everything"], ["cpu", "server"], ["x", "CPU"]])
def test_order_of_info_sections(pair: tuple[OurNode, RealRedis], words: list[str]) -> None:
    ours, real = ([line for line in shape(server, *words) if line.startswith("# ")] for server in pair)
    assert ours == real
    assert ours


def wait_for_sync(master: Server, replica: Server) -> None:
    eventually(lambda: replica.info("replication")["master_link_status"] == "up")
    eventually(lambda: master.info("replication")["connected_slaves"] == "1")


def test_info_of_a_replica_and_its_master() -> None:
    with OurNode() as ours, RealRedis() as real:
        shapes = []
        for server, kind in ((ours, OurNode), (real, RealRedis)):
            with kind(replicaof=f"127.0.0.1 {server.port}") as replica:
                wait_for_sync(server, replica)
                shapes.append((shape(server, "replication"), shape(replica, "replication")))
        assert shapes[0] == shapes[1]


def test_info_in_cluster_mode() -> None:
    with OurNode(cluster=True) as ours, RealRedis(cluster=True) as real:
        assert shape(ours) == shape(real)
        assert ours.info("server")["redis_mode"] == real.info("server")["redis_mode"] == "cluster"


# Slow log, latency, monitor -------------------------------------------------------------------------------------


def test_slow_log_entries_look_alike(pair: tuple[OurNode, RealRedis]) -> None:
    shown = []
    for server in pair:
        with server.raw() as client:
            client.call("CLIENT", "SETNAME", "sleeper")
            client.call("CONFIG", "SET", "slowlog-log-slower-than", 0, "slowlog-max-len", 4)
            client.call("SLOWLOG", "RESET")
            client.call("SET", "long", "x" * 200)
            client.call("MSET", *[f"k{number}" for number in range(40)])
            client.ask("AUTH", "wrong")
            client.call("CONFIG", "SET", "requirepass", "")
            client.ask("GET", "long", "too many")
            client.ask("NOSUCH")
            client.call("EXISTS", "last")
            client.call("CONFIG", "SET", "slowlog-log-slower-than", -1)
            entries = client.call("SLOWLOG", "GET", -1)
            assert [len(entry) for entry in entries] == [6] * 4
            assert all(abs(entry[1] - time.time()) < 60 for entry in entries)
            assert all(entry[4].startswith(b"127.0.0.1:") and entry[5] == b"sleeper" for entry in entries)
            assert [entry[0] - entries[-1][0] for entry in entries] == [3, 2, 1, 0]
            shown.append([entry[3] for entry in entries])
            client.call("CONFIG", "SET", "slowlog-max-len", 128)
            client.call("SLOWLOG", "RESET")
    assert shown[0] == shown[1]


def test_latency_events_look_alike(pair: tuple[OurNode, RealRedis]) -> None:
    for server in pair:
        with server.raw() as client:
            client.call("CONFIG", "SET", "latency-monitor-threshold", 1500)  # More than the machine may take.
            client.call("LATENCY", "RESET")
            client.call("DEBUG", "SLEEP", 1.6)
            [[event, second, ms, worst]] = client.call("LATENCY", "LATEST")
            assert event == b"command"
            assert abs(second - time.time()) < 60
            assert 1600 <= ms <= worst < 10_000
            assert client.call("LATENCY", "HISTORY", "command") == [[second, ms]]
            graph = client.call("LATENCY", "GRAPH", "command").decode()
            assert re.fullmatch(
                rf"command - high {ms} ms, low {ms} ms \(all time high {worst} ms\)\n-{{80}}\n \n \n \n_\n \n\d\ns\n",
                graph,
            ), (server, graph)
            doctor = client.call("LATENCY", "DOCTOR").decode()
            assert f"1. command: 1 latency spikes (average {ms}ms, mean deviation 0ms, period " in doctor
            assert "advices for you" in doctor
            assert client.call("LATENCY", "RESET", "COMMAND") == 1
            assert client.call("LATENCY", "LATEST") == []
            client.call("CONFIG", "SET", "latency-monitor-threshold", 0)


def test_monitor_shows_the_same_lines(pair: tuple[OurNode, RealRedis]) -> None:
    lines = []
    for server in pair:
        with server.raw() as monitor, server.raw() as client:
            assert monitor.call("MONITOR") == b"OK"
            client.call("SET", "k", b'\x00 "quoted" \\ \n\r\t\a\b \xff')
            client.call("SELECT", 2)
            client.ask("GET")
            client.ask("AUTH", "secret")
            client.call("CONFIG", "GET", "port")
            client.call("PING", "last")
            client.call("SELECT", 0)
            seen = []
            while not seen or b"last" not in seen[-1]:
                seen.append(monitor.reply())
            stamp = re.compile(rb"^\d{10}\.\d{6} \[(\d) 127\.0\.0\.1:\d+\] ")
            assert all(stamp.match(line) for line in seen)
            lines.append([stamp.sub(rb"[\1] ", line) for line in seen])
    assert lines[0] == lines[1]


def test_lolwut_ends_with_the_version(pair: tuple[OurNode, RealRedis]) -> None:
    for words in ([], ["VERSION", "5"], ["VERSION", "6", "20", "3"], ["VERSION", "99"], ["VERSION", "5", "-1", "9999"]):
        for server in pair:
            assert server.call("LOLWUT", *words).endswith(b"Redis ver. 7.0.15\n")


def test_memory_stats_have_the_same_fields(pair: tuple[OurNode, RealRedis]) -> None:
    shapes = []
    for server in pair:
        with server.raw() as client:
            client.call("HELLO", 3)
            stats: dict[bytes, Any] = client.call("MEMORY", "STATS")
            shapes.append([(name, type(value)) for name, value in stats.items()])
            assert list(stats[b"db.0"]) == [
                b"overhead.hashtable.main",
                b"overhead.hashtable.expires",
                b"overhead.hashtable.slot-to-keys",
            ]
    assert shapes[0] == shapes[1]


def test_usage_grows_with_what_is_stored(pair: tuple[OurNode, RealRedis]) -> None:
    for server in pair:
        with server.raw() as client:
            client.call("MSET", "small", "x" * 10, "large", "x" * 100_000)
            small, large = client.call("MEMORY", "USAGE", "small"), client.call("MEMORY", "USAGE", "large")
            assert 10 < small < 1000
            assert 100_000 < large < 150_000


# DEBUG ----------------------------------------------------------------------------------------------------------


def test_digests_of_equal_data_are_equal(pair: tuple[OurNode, RealRedis]) -> None:
    for server in pair:
        with server.raw() as client:
            client.call("SELECT", 5)
            client.call("SET", "n", 1)
            client.call("INCRBY", "n", 41)
            client.call("APPEND", "grown", "abc")
            client.call("APPEND", "grown", "def")
            client.call("SETBIT", "bits", 77, 1)
            client.call("SET", "gone soon", "x", "EX", 1000)
            client.call("SELECT", 9)
            client.call("SET", "n", 1)
    ours, real = (server.call("DEBUG", "DIGEST") for server in pair)
    assert ours == real != b"0" * 40


@pytest.mark.parametrize(
    ("how", "keeps"), [([], True), (["NOSAVE"], False), (["NOSAVE", "NOFLUSH", "MERGE"], True), (["MERGE"], True)]
)
def test_reload_keeps_what_redis_keeps(how: list[str], keeps: bool) -> None:
    with OurNode() as ours, RealRedis() as real:
        digests = []
        for server in (ours, real):
            with server.raw() as client:
                client.call("SET", "saved", "x")
                client.call("SET", "expiring", "x", "PXAT", 2**42)
                client.call("SAVE")
                client.call("SET", "unsaved", "x")
                assert client.call("DEBUG", "RELOAD", *how) == b"OK"
                assert client.call("EXISTS", "saved") == 1
                assert client.call("EXISTS", "unsaved") == int(keeps)
                assert client.call("PEXPIRETIME", "expiring") == 2**42
                digests.append(client.call("DEBUG", "DIGEST"))
        assert digests[0] == digests[1]


def test_recorded_metadata_is_that_of_the_server_here(real: RealRedis) -> None:
    """The table was recorded once; a newer 7.0 on this machine may differ, and then it must be recorded anew."""
    records = json.loads(Path("cluster/commands/command_table.json").read_text())
    assert {record[0].encode() for record in records} == {
        name for name in real.call("COMMAND", "LIST") if b"|" not in name
    }


def test_errors_of_a_locked_server() -> None:
    with OurNode(enable_debug_command="no") as ours, RealRedis(enable_debug_command="no") as real:
        for words in (["DEBUG", "SLEEP", "0"], ["MODULE", "LOAD", "x"], ["MODULE", "LIST"], ["DEBUG"]):
            replies = []
            for server in (ours, real):
                with server.raw() as client:
                    reply = client.ask(*words)
                    replies.append(str(reply) if isinstance(reply, ReplyError) else reply)
            assert replies[0] == replies[1]
