"""Replication between our nodes and real redis-servers, in either role: what one writes, the other has, to the byte.

Every test runs for the pairs named in its parameters, master first. String keys.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.servers import Kind, Server, eventually, make_server
from tests.support.waiting import PATIENCE
from tests.support.wire import ReplyError

pytestmark = pytest.mark.real_redis

PAIRS: list[tuple[Kind, Kind]] = [("real", "ours"), ("ours", "real"), ("ours", "ours")]
Start = Callable[..., Server]
SYNC_TIMEOUT = PATIENCE
SILENT = {"repl_ping_replica_period": 3600, "repl_timeout": 3600}


@pytest.fixture
def start() -> Iterator[Start]:
    """``start(kind, **directives)``: a running server that is gone after the test."""
    with ExitStack() as stack:

        def run(kind: Kind, **directives: object) -> Server:
            # A master that pings may have said more than the replica had heard when it was promoted.
            return stack.enter_context(make_server(kind, **SILENT, **directives))  # type: ignore[arg-type]

        yield run


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]} master, {pair[1]} replica")
def pair(request: pytest.FixtureRequest, start: Start) -> tuple[Server, Server]:
    """A master and a server that is no replica yet."""
    master, replica = request.param
    return start(master), start(replica)


def follow(replica: Server, master: Server) -> None:
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    wait_link_up(replica)


def wait_link_up(replica: Server) -> None:
    eventually(lambda: replica.info("replication").get("master_link_status") == "up", SYNC_TIMEOUT)


def in_step(master: Server, *replicas: Server) -> None:
    """Wait until the replicas have applied everything that the master's stream holds."""

    def all_there() -> bool:
        offset = master.info("replication")["master_repl_offset"]
        return all(replica.info("replication")["slave_repl_offset"] == offset for replica in replicas)

    eventually(all_there, SYNC_TIMEOUT, message="replica offsets to meet the master's")


def contents(server: Server) -> dict[int, dict[bytes, tuple[bytes, bool]]]:
    """Every key of the first databases, with its value and whether it expires."""
    result: dict[int, dict[bytes, tuple[bytes, bool]]] = {}
    with server.raw() as connection:
        for database in range(3):
            connection.call("SELECT", database)
            keys = sorted(connection.call("KEYS", "*"))
            result[database] = {key: (connection.call("GET", key), connection.call("PTTL", key) > 0) for key in keys}
    return result


def same_data(master: Server, *replicas: Server) -> None:
    in_step(master, *replicas)
    expected = contents(master)
    for replica in replicas:
        assert contents(replica) == expected


def fill(server: Server, count: int = 300, seed: int = 1) -> None:
    rng = random.Random(seed)
    with server.raw() as connection:
        for number in range(count):
            connection.call("SELECT", rng.randrange(3))
            value = rng.randbytes(rng.choice([0, 3, 50, 3000]))
            connection.call("SET", f"key:{number}", value, *(["EX", 1000] if number % 5 == 0 else []))
        connection.call("SET", b"\x00binary\r\n\xff", b"\r\n$5\r\n\x00")
        connection.call("SET", "number", 12345678901)


def count_of(server: Server, field: str) -> int:
    return int(server.info("stats")[field])


# --- full synchronisation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("diskless", ["yes", "no"])
@pytest.mark.parametrize("kinds", PAIRS, ids=lambda pair: f"{pair[0]} master, {pair[1]} replica")
def test_full_synchronisation_replaces_everything(kinds: tuple[Kind, Kind], diskless: str, start: Start) -> None:
    master = start(kinds[0], repl_diskless_sync=diskless)
    replica = start(kinds[1])
    fill(master)
    replica.call("SET", "only here", "gone")
    follow(replica, master)
    same_data(master, replica)
    master.call("SET", "later", "too")
    same_data(master, replica)
    assert count_of(master, "sync_full") == 1


@pytest.mark.parametrize("mode", ["on-empty-db", "swapdb"])
@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_snapshot_straight_into_memory(mode: str, diskless: str, start: Start) -> None:
    master, replica = start("real", repl_diskless_sync=diskless), start("ours", repl_diskless_load=mode)
    fill(master, 2000)
    if mode == "swapdb":
        replica.call("SET", "only here", "gone")
    follow(replica, master)
    same_data(master, replica)
    assert not list(replica.directory.glob("*.rdb"))
    log = replica.log_text()
    assert "to parser" in log
    assert ("Swapping active DB with loaded DB" in log) == (mode == "swapdb")


def test_writes_during_the_snapshot_reach_every_replica(start: Start) -> None:
    """Two replicas, one of either kind, join while a writer writes; one of our nodes is the master."""
    master = start("ours", repl_diskless_sync_delay=1)
    replicas = [start("real"), start("ours")]
    fill(master, 3000)
    stop = threading.Event()
    number = 0

    def write() -> None:
        nonlocal number
        with master.raw() as connection:
            while not stop.is_set():
                number += 1
                connection.call("INCR", "counter")
                connection.call("APPEND", "log", f"{number},")
                connection.call("SET", f"during:{number}", number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for replica in replicas:
            replica.call("REPLICAOF", "127.0.0.1", master.port)
        for replica in replicas:
            wait_link_up(replica)
        before = number
        eventually(lambda: number > before + 100)  # Some more writes through the established links.
    finally:
        stop.set()
        writer.join()
    same_data(master, *replicas)
    assert count_of(master, "sync_full") == 2


def test_big_values(pair: tuple[Server, Server]) -> None:
    master, replica = pair
    value = random.Random(5).randbytes(20 << 20)
    with master.raw(timeout=60) as connection:
        connection.call("SET", "big:0", value)
    follow(replica, master)
    with master.raw(timeout=60) as connection:
        connection.call("SET", "big:1", value[::-1])
    in_step(master, replica)
    with replica.raw(timeout=60) as connection:
        assert connection.call("GET", "big:0") == value
        assert connection.call("GET", "big:1") == value[::-1]


# --- the stream ------------------------------------------------------------------------------------------------------


def test_effects_arrive_as_the_master_saw_them(pair: tuple[Server, Server]) -> None:
    master, replica = pair
    follow(replica, master)
    with master.raw() as connection:
        connection.call("SET", "a", "1")
        connection.call("INCRBYFLOAT", "a", "1.5")
        connection.call("SETEX", "ttl", "100", "v")
        connection.call("GETEX", "ttl", "PERSIST")
        connection.call("EXPIRE", "a", "500")
        connection.call("MSET", "b", "2", "c", "3")
        connection.call("SETRANGE", "b", "5", "x")
        connection.call("GETDEL", "c")
        connection.call("SELECT", 2)
        connection.call("MULTI")
        connection.call("SET", "d", "4")
        connection.call("INCR", "d")
        connection.call("SELECT", 1)
        connection.call("SET", "e", "5")
        connection.call("EXEC")
    same_data(master, replica)

    with master.raw() as connection:
        connection.call("SET", "short", "v", "PX", "30")
        eventually(lambda: connection.call("GET", "short") is None)
    same_data(master, replica)
    eventually(lambda: replica.call("DBSIZE") == master.call("DBSIZE") == 3)


def test_wait_and_getack(pair: tuple[Server, Server]) -> None:
    master, replica = pair
    follow(replica, master)
    with master.raw() as connection:
        for number in range(50):
            connection.call("SET", "key", number)
            assert connection.call("WAIT", 1, 30_000) == 1
            assert replica.call("GET", "key") == str(number).encode()
        began = time.monotonic()
        assert connection.call("WAIT", 2, 300) == 1
        assert 0.29 < time.monotonic() - began < 3  # Not for ever.
        connection.call("MULTI")
        connection.call("SET", "key", "last")
        connection.call("WAIT", 2, 0)
        assert connection.call("EXEC")[0] == b"OK"
    with pytest.raises(ReplyError, match="WAIT cannot be used with replica instances"):
        replica.call("WAIT", 0, 0)


def test_many_pipelined_writes(pair: tuple[Server, Server]) -> None:
    master, replica = pair
    follow(replica, master)
    client = master.client(single_connection_client=False)
    for batch in range(20):
        pipeline = client.pipeline(transaction=False)
        for number in range(1000):
            pipeline.set(f"k:{number}", f"{batch}")
        pipeline.execute()
    client.close()
    same_data(master, replica)


def test_a_replica_refuses_writes_and_never_expires_by_itself(start: Start) -> None:
    master, replica = start("real"), start("ours")
    follow(replica, master)
    with pytest.raises(ReplyError, match="READONLY You can't write against a read only replica"):
        replica.call("SET", "k", "v")
    master.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)  # It says nothing of its own accord.
    master.call("SET", "k", "v", "PX", 100)
    in_step(master, replica)
    eventually(lambda: replica.call("GET", "k") is None)
    assert replica.call("DBSIZE") == 1
    master.call("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    eventually(lambda: replica.call("DBSIZE") == 0)


# --- partial resynchronisation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut_by", ["master", "replica"])
def test_a_broken_link_is_taken_up_where_it_broke(pair: tuple[Server, Server], cut_by: str) -> None:
    master, replica = pair
    fill(master, 50)
    follow(replica, master)
    for attempt in range(5):
        if cut_by == "master":
            master.call("CLIENT", "KILL", "TYPE", "replica")
        else:
            replica.call("CLIENT", "KILL", "TYPE", "master")
        master.call("SET", f"meanwhile:{attempt}", "x" * 1000)
        eventually(lambda attempt=attempt: count_of(master, "sync_partial_ok") == attempt + 1)
        wait_link_up(replica)
    same_data(master, replica)
    assert count_of(master, "sync_full") == 1


def test_without_the_bytes_in_the_backlog_everything_is_sent(start: Start) -> None:
    master, replica = start("ours", repl_backlog_size="16kb"), start("ours")
    follow(replica, master)
    replica.pause()
    master.call("CLIENT", "KILL", "TYPE", "replica")
    with master.raw() as connection:
        for number in range(200):
            connection.call("SET", f"k{number}", "x" * 1000)
    replica.resume()
    eventually(lambda: count_of(master, "sync_full") == 2, SYNC_TIMEOUT)
    wait_link_up(replica)
    same_data(master, replica)
    assert count_of(master, "sync_partial_err") == 2  # Its own id at first, then a place that is gone.
    assert "for lack of backlog" in master.log_text()


def test_a_restarted_replica_goes_on_from_its_snapshot(pair: tuple[Server, Server]) -> None:
    master, replica = pair
    fill(master, 50)
    follow(replica, master)
    replica.call("CONFIG", "SET", "save", "900 1")
    in_step(master, replica)
    replica.stop()
    replica.directives["replicaof"] = f"127.0.0.1 {master.port}"
    master.call("SET", "meanwhile", "x")
    replica.restart()
    wait_link_up(replica)
    same_data(master, replica)
    assert count_of(master, "sync_full") == 1
    assert count_of(master, "sync_partial_ok") == 1


# --- promotion and chains --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kinds",
    [("ours", "ours", "real"), ("real", "ours", "real"), ("real", "ours", "ours"), ("ours", "real", "ours")],
    ids="-".join,
)
def test_after_a_promotion_the_others_continue_with_the_new_master(
    kinds: tuple[Kind, Kind, Kind], start: Start
) -> None:
    """Neither the other replica nor the old master needs everything again."""
    old_master, promoted, other = (start(kind) for kind in kinds)
    fill(old_master, 50)
    for replica in (promoted, other):
        follow(replica, old_master)
    old_master.call("SET", "last", "of the old one")
    in_step(old_master, promoted, other)
    replid = old_master.info("replication")["master_replid"]

    promoted.call("REPLICAOF", "NO", "ONE")
    promoted.call("SET", "first", "of the new one")
    other.call("REPLICAOF", "127.0.0.1", promoted.port)
    old_master.call("REPLICAOF", "127.0.0.1", promoted.port)
    for replica in (other, old_master):
        wait_link_up(replica)
    same_data(promoted, other, old_master)

    assert count_of(promoted, "sync_full") == 0
    assert count_of(promoted, "sync_partial_ok") == 2
    info = promoted.info("replication")
    assert info["master_replid2"] == replid
    assert int(info["second_repl_offset"]) > 0
    assert old_master.info("replication")["master_replid"] == info["master_replid"]


@pytest.mark.parametrize(
    "kinds", [("real", "ours", "real"), ("ours", "real", "ours"), ("ours", "ours", "ours")], ids="-".join
)
def test_a_chain_shares_one_history(kinds: tuple[Kind, Kind, Kind], start: Start) -> None:
    top, middle, bottom = (start(kind) for kind in kinds)
    fill(top, 50)
    follow(middle, top)
    follow(bottom, middle)
    with top.raw() as connection:
        for number in range(100):
            connection.call("SELECT", number % 3)
            connection.call("INCR", "n")
    in_step(top, middle, bottom)
    same_data(top, middle, bottom)
    infos = [server.info("replication") for server in (top, middle, bottom)]
    assert len({info["master_replid"] for info in infos}) == 1

    # The middle one loses its master for a moment; the bottom one keeps its link and its place.
    top.call("CLIENT", "KILL", "TYPE", "replica")
    top.call("SET", "after", "the cut")
    same_data(top, middle, bottom)
    assert count_of(middle, "sync_full") == 1

    # Without the top one, the middle one carries on, and the bottom one with it.
    middle.call("REPLICAOF", "NO", "ONE")
    middle.call("SET", "promoted", "1")
    wait_link_up(bottom)
    same_data(middle, bottom)
    assert count_of(middle, "sync_full") == 1


# --- what it looks like ----------------------------------------------------------------------------------------------


def fields(server: Server) -> list[str]:
    text = server.call("INFO", "replication").decode()
    return [line.split(":")[0] for line in text.splitlines()]


def test_info_and_role_look_like_the_real_thing(start: Start) -> None:
    """Both kinds, alone, as master, as replica connected and not: same fields in the same order, same shapes."""
    ours, real = start("ours"), start("real")
    followers = {ours: start("ours"), real: start("real")}
    assert fields(ours) == fields(real)
    assert ours.call("ROLE") == real.call("ROLE")
    for server in (ours, real):
        server.call("CONFIG", "SET", "min-replicas-to-write", "1")
        follow(followers[server], server)
        in_step(server, followers[server])
        eventually(lambda server=server: is_done_with(server, followers[server]))  # Until then it is no good replica.
        assert server.call("SET", "key", "value") == b"OK"
    assert fields(ours) == fields(real)
    assert fields(followers[ours]) == fields(followers[real])
    for server in (ours, real):
        role = server.call("ROLE")
        assert role[0] == b"master"
        assert role[2][0][:2] == [b"127.0.0.1", str(followers[server].port).encode()]
        assert followers[server].call("ROLE")[:4] == [b"slave", b"127.0.0.1", server.port, b"connected"]
        line = server.info("replication")["slave0"]
        assert line.startswith(f"ip=127.0.0.1,port={followers[server].port},state=online,offset=")
        server.kill9()
        follower = followers[server]
        eventually(lambda follower=follower: follower.info("replication")["master_link_status"] == "down")
    assert fields(followers[ours]) == fields(followers[real])
    assert followers[ours].info("replication")["master_link_down_since_seconds"] != "-1"


NORMAL_FORM = [
    (r"[0-9a-f]{40}", "<id>"),
    (r"id=\d+ addr=[^']*", "<client>"),
    (r"127\.0\.0\.1:\d+", "<address>"),
    (r"pid \d+", "pid N"),
    (r"\d+(\.\d+)? (Mb|bytes|seconds)", r"N \2"),
    (r"(offset:? |:)\d+", r"\1N"),
]


def replication_lines(server: Server) -> list[str]:
    """The log from the first word about replication on, without what differs from run to run."""
    lines = []
    for line in server.log_text().partition("Ready to accept connections")[2].splitlines():
        match = re.match(r"\d+:([MS]) \d+ \w+ \d+ [\d:.]+ ([.*#-]) (.*)", line)
        if match is None or "done reading from pipe" in line:
            continue  # A child's line, or the one that races with a child's.
        text = match[3]
        for pattern, placeholder in NORMAL_FORM:
            text = re.sub(pattern, placeholder, text)
        lines.append(f"{match[1]} {match[2]} {text}")
    return lines


def is_done_with(master: Server, replica: Server) -> bool:
    """The master knows that the replica is in sync, and has buried the child that wrote the snapshot."""
    in_sync = f"port={replica.port},state=online" in master.info("replication").get("slave0", "")
    return in_sync and master.info("persistence")["rdb_bgsave_in_progress"] == "0"


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_the_log_tells_the_same_story(diskless: str, start: Start) -> None:
    """Three servers of one kind through everything that can happen to a chain; then three of the other."""
    stories = []
    kinds: list[Kind] = ["real", "ours"]
    for kind in kinds:
        top, middle, bottom = servers = [start(kind, repl_diskless_sync=diskless) for _ in range(3)]
        top.call("SET", "a", "1")
        follow(middle, top)
        with top.raw() as connection:
            connection.call("SET", "b", "1")
            assert connection.call("WAIT", 1, 30_000) == 1
        follow(bottom, middle)
        eventually(
            lambda middle=middle, bottom=bottom: is_done_with(middle, bottom)
        )  # Else its last lines come later than the rest.
        middle.call("CLIENT", "KILL", "TYPE", "master")
        eventually(lambda top=top: count_of(top, "sync_partial_ok") == 1)
        wait_link_up(middle)
        middle.call("REPLICAOF", "127.0.0.1", top.port)
        middle.call("REPLICAOF", "NO", "ONE")
        eventually(lambda middle=middle: count_of(middle, "sync_partial_ok") == 1)
        wait_link_up(bottom)
        follow(top, middle)
        stories.append([replication_lines(server) for server in servers])
    for real, ours in zip(*stories, strict=True):
        assert ours == real


REFUSALS = [
    ("REPLICAOF", "127.0.0.1", "x"),
    ("REPLICAOF", "127.0.0.1", "65536"),
    ("REPLICAOF", "NO"),
    ("REPLICAOF", "no", "one"),
    ("WAIT", "x", "0"),
    ("WAIT", "0", "-1"),
    ("WAIT", "0", "x"),
    ("WAIT", "0", "9223372036854775807"),
    ("WAIT", "0", "0"),
    ("WAIT", "-1", "0"),
    ("REPLCONF",),
    ("REPLCONF", "capa"),
    ("REPLCONF", "capa", "psync3"),
    ("REPLCONF", "listening-port", "x"),
    ("REPLCONF", "listening-port", "7001"),
    ("REPLCONF", "ip-address", "x" * 300),
    ("REPLCONF", "nonsense", "1"),
    ("REPLCONF", "rdb-only", "2"),
    ("REPLCONF", "rdb-only", "0"),
    ("REPLCONF", "rdb-filter-only", "functions nonsense"),
    ("PSYNC", "?", "-1"),
    ("ROLE", "x"),
    ("FAILOVER",),
    ("FAILOVER", "ABORT"),
    ("FAILOVER", "TO", "127.0.0.1"),
    ("FAILOVER", "TIMEOUT", "0"),
    ("FAILOVER", "TIMEOUT", "x"),
    ("FAILOVER", "FORCE"),
    ("FAILOVER", "nonsense"),
    ("SLAVEOF", "NO", "ONE"),
]


def test_refusals_in_the_same_words(start: Start) -> None:
    ours, real = start("ours"), start("real")
    for request in REFUSALS:
        answers = []
        for server in (ours, real):
            with server.raw() as connection:
                if request[0] == "PSYNC":
                    connection.call("REPLCONF", "rdb-filter-only", "functions")
                answer = connection.ask(*request)
                answers.append(str(answer) if isinstance(answer, ReplyError) else answer)
        assert answers[0] == answers[1], request


def test_a_failover_command_moves_the_role(start: Start) -> None:
    """One of ours hands over to a real one, and gets it back."""
    first, second = start("ours"), start("real")
    fill(first, 30)
    follow(second, first)
    in_step(first, second)
    for master, replica in ((first, second), (second, first)):
        assert master.call("FAILOVER", "TO", "127.0.0.1", replica.port, "TIMEOUT", "60000") == b"OK"
        eventually(lambda replica=replica: replica.call("ROLE")[0] == b"master")
        wait_link_up(master)
        eventually(lambda master=master: master.info("replication")["master_failover_state"] == "no-failover")
        replica.call("SET", "from", replica.kind)
        same_data(replica, master)
    assert count_of(first, "sync_full") + count_of(second, "sync_full") == 1
