"""maxmemory and maxmemory-clients as clients see them, and what the allocators' answer is worth."""

from __future__ import annotations

import ctypes
import gc

import pytest

from cluster.clock import unix_ms
from cluster.keyspace.reclaim import RECLAIMER
from cluster.node.allocator import Allocator
from cluster.node.client import Client
from cluster.node.memory_limit import time_limit_us
from cluster.replication.replica import Announcement, Replica, ReplicaState
from tests.support.exact_memory import glibc_version, only_where_it_is_exact
from tests.support.sessions import BenchClient, ServerBench
from tests.support.still_time import StillTime
from tests.support.wire import encode

OOM = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def _nothing_of_earlier_tests_is_freed_in_this_one() -> None:
    gc.collect()
    while RECLAIMER.drain(1_000_000):
        pass


def used(bench: ServerBench) -> int:
    while RECLAIMER.drain(1_000_000):
        pass
    return bench.server.memory.used_bytes()


def limit_to(bench: ServerBench, policy: str, spare_bytes: int, **settings: object) -> None:
    """maxmemory just above what is used now."""
    bench.server.settings.maxmemory_policy = policy
    for name, value in settings.items():
        setattr(bench.server.settings, name, value)
    bench.server.settings.maxmemory = used(bench) + spare_bytes
    bench.server.memory_limit.limit_changed()
    bench.server.refresh_plain()


def fill(client: BenchClient, keys: int, size: int = 1000, *, ttl: bool = False, prefix: str = "key") -> int:
    """Store keys; returns how many were refused."""
    refused = 0
    for number in range(keys):
        words = ["SET", f"{prefix}:{number}", b"x" * size, *(["EX", 1000] if ttl else [])]
        refused += client.ask(*words) == OOM
    return refused


# The measure --------------------------------------------------------------------------------------------------------


@only_where_it_is_exact
def test_the_allocators_tell_what_is_in_use() -> None:
    allocator = Allocator()
    assert allocator.is_exact
    before = allocator.used_bytes()
    small = [b"%020d" % number for number in range(100_000)]
    with_small = allocator.used_bytes()
    assert 100_000 * 64 <= with_small - before <= 100_000 * 80
    large = [bytes(10_000) for _ in range(1000)]
    huge = bytes(64 * MEGABYTE)
    with_large = allocator.used_bytes()
    assert 74 * MEGABYTE - 600_000 <= with_large - with_small <= 76 * MEGABYTE
    del small, large, huge
    assert abs(allocator.used_bytes() - before) < MEGABYTE
    assert allocator.reserved_bytes >= allocator.used_bytes()


def test_deleting_keys_lowers_used_memory() -> None:
    with ServerBench() as bench:
        client = bench.connect()
        before = used(bench)
        fill(client, 5000)
        full = used(bench)
        assert full - before > 5_000_000
        client.ask("FLUSHALL")
        assert used(bench) - before < 500_000


@pytest.mark.skipif(
    not (2, 33) <= glibc_version() < (2, 42), reason="how another C library keeps freed blocks is not known"
)
def test_freed_blocks_that_glibc_keeps_are_not_in_use() -> None:
    allocator = Allocator()
    assert allocator.is_exact and allocator._cache is not None
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    before = allocator.used_bytes()
    blocks = [libc.malloc(size) for size in range(600, 1033, 16) for _ in range(10)]
    assert allocator.used_bytes() - before > 200_000
    for block in blocks:
        libc.free(block)
    kept = allocator._cache.bytes()
    del blocks
    assert kept > 100_000
    assert allocator.used_bytes() - before < 20_000


@only_where_it_is_exact
def test_freed_objects_that_python_keeps_are_not_in_use() -> None:
    allocator = Allocator()
    assert allocator.is_exact
    before = allocator.used_bytes()
    objects: list[object] = []
    for number in range(2000):
        objects += [[number], {}, number + 0.5, (number,), (number, 1, 2, 3, 4)]
    assert allocator.used_bytes() - before > 2000 * (64 + 64 + 32 + 48 + 80)
    objects.clear()
    # 80 of the lists and dicts, 100 of the floats and all of the tuples are kept, which is some 270,000 bytes.
    assert abs(allocator.used_bytes() - before) < 1000


@only_where_it_is_exact
def test_what_waits_for_a_replica_that_reads_nothing_is_all_that_grows() -> None:
    with ServerBench(repl_backlog_size=16 * 1024, slowlog_log_slower_than=-1) as bench:
        assert bench.server.memory.allocator.is_exact
        feed, limit = bench.server.feed, bench.server.memory_limit
        client, follower = bench.connect(), bench.connect()
        client.ask("SETRANGE", "key", "100", "x" * 100)
        feed.create_backlog()
        assert feed.backlog is not None
        replica = Replica(follower.session, Announcement(), ReplicaState.ONLINE, since_ms=0, ack_ms=0)
        follower.session.replica = replica
        replica.cursor = feed.backlog.next_offset
        feed.add(replica)
        client.ask("SETRANGE", "key", "0", "A" * 100)

        least = most = used(bench) - feed.buffer_bytes
        for _ in range(2500):
            client.ask("SETRANGE", "key", "0", "A" * 100)
            rest = used(bench) - feed.buffer_bytes
            least, most = min(least, rest), max(most, rest)
        assert follower.session.unsent_bytes and feed.stream_bytes_for(replica) > 100_000
        assert most - least < 1500  # A few integers and what the last command left.
        assert limit.not_counted_bytes() == feed.buffer_bytes - 16 * 1024

        bench.server.reactor.disconnect(follower.session)
        assert feed.backlog.histlen < 3 * 16 * 1024
        assert used(bench) - feed.buffer_bytes - least < 3000


# Refusing and evicting ------------------------------------------------------------------------------------------------


def test_growth_that_cannot_be_seen_from_its_arguments_is_measured_before_the_next_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ServerBench() as bench:
        client = bench.connect()
        limit_to(bench, "volatile-random", 100_000)
        monkeypatch.setattr(bench.server.memory.allocator, "cost_us", 60_000_000)  # Nobody asks again because of time.
        assert client.ask("SET", "k", "v", "EX", "1000") == b"+OK\r\n"
        assert client.ask("SETBIT", "big", "1600000", "0") == b":0\r\n"
        assert client.ask("SET", "other", "v") == OOM
        assert client.ask("EXISTS", "k") == b":0\r\n"


def test_without_eviction_what_needs_memory_is_refused() -> None:
    with ServerBench() as bench:
        client = bench.connect()
        fill(client, 100)
        limit_to(bench, "noeviction", 100_000)
        assert fill(client, 300, prefix="more") > 100
        assert bench.server.is_out_of_memory
        bench.server.settings.maxmemory -= 20_000  # So that it does not hang on a few bytes.
        bench.server.memory_limit.limit_changed()
        assert client.ask("SET", "k", "v") == OOM
        assert bench.server.memory_limit.current_exceeded_us() > 0
        assert client.ask("GET", "key:1") == b"$1000\r\n%b\r\n" % (b"x" * 1000)
        assert client.pipeline(("MULTI",), ("PING",), ("EXEC",)) == (
            b"+OK\r\n" + OOM + b"-EXECABORT Transaction discarded because of previous errors.\r\n"
        )
        assert client.ask("DEL", "key:1") == b":1\r\n"
        assert bench.server.commands.find(b"set").rejected_calls > 100  # type: ignore[union-attr]
        client.ask("FLUSHALL")
        assert client.ask("SET", "k", "v") == b"+OK\r\n"
        assert bench.server.memory_limit.current_exceeded_us() == 0
        assert bench.server.memory_limit.exceeded_us > 0


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-ttl", "volatile-lru"])
def test_evicting_makes_room(policy: str) -> None:
    with ServerBench() as bench:
        client = bench.connect()
        fill(client, 100, prefix="before")
        limit_to(bench, policy, 500_000, maxmemory_eviction_tenacity=100)
        ttl = policy.startswith("volatile")
        assert fill(client, 1500, ttl=ttl) == 0
        assert bench.server.keyspace.evicted_keys > 500
        assert used(bench) < bench.server.settings.maxmemory + 100_000
        if ttl:
            assert all(client.ask("EXISTS", f"before:{number}") == b":1\r\n" for number in range(100))


def test_what_is_read_stays_under_lru() -> None:
    with ServerBench() as bench:
        client = bench.connect()
        limit_to(bench, "allkeys-lru", 400_000, maxmemory_eviction_tenacity=100, maxmemory_samples=10)
        keyspace = bench.server.keyspace
        fill(client, 100, prefix="hot")
        for number in range(2000):
            keyspace.access_ms = unix_ms() + number  # Housekeeping would move it on.
            client.ask("SET", f"cold:{number}", b"x" * 1000)
            client.ask("GET", f"hot:{number % 100}")
        hot = sum(client.ask("EXISTS", f"hot:{number}") == b":1\r\n" for number in range(100))
        assert keyspace.evicted_keys > 1500
        assert hot > 60  # By chance it would be 15.


def test_evictions_are_replicated_each_for_itself() -> None:
    with ServerBench() as bench:
        client = bench.connect()
        fill(client, 50)
        bench.server.keyspace.followed = True
        seen: list[list[tuple[int, list[bytes]]]] = []
        bench.server.replicate = seen.append  # type: ignore[method-assign, assignment]
        limit_to(bench, "allkeys-random", -20_000, maxmemory_eviction_tenacity=100)
        bench.server.keyspace.followed = True
        client.ask("PING", "x")
        client.ask("SET", "k", "v")
        deletions = [unit for unit in seen if unit[0][1][0] == b"DEL"]
        assert len(deletions) >= 10
        assert all(len(unit) == 1 for unit in deletions)


def test_tenacity_as_time() -> None:
    assert [time_limit_us(tenacity) for tenacity in (0, 1, 10, 20)] == [0, 50, 500, 2022]
    assert 100_000_000 < time_limit_us(99) < 150_000_000
    assert time_limit_us(100) > 10**15


def test_far_below_the_limit_the_hot_path_is_open() -> None:
    with ServerBench() as bench:
        limit_to(bench, "allkeys-lru", 1 << 30)
        assert bench.server.accepts_writes
        limit_to(bench, "allkeys-lru", MEGABYTE)
        assert not bench.server.accepts_writes


def test_object_idletime_and_freq_follow_the_policy(still_time: StillTime) -> None:
    with ServerBench() as bench:
        client = bench.connect()
        client.ask("SET", "k", "v")
        assert client.ask("OBJECT", "IDLETIME", "k") == b":0\r\n"
        assert client.ask("OBJECT", "FREQ", "k").startswith(b"-ERR An LFU maxmemory policy is not selected")
        payload = client.ask("DUMP", "k").split(b"\r\n", 1)[1][:-2]
        limit_to(bench, "allkeys-lru", 1 << 30)
        assert client.ask("RESTORE", "old", 0, payload, "IDLETIME", 1000) == b"+OK\r\n"
        assert client.ask("OBJECT", "IDLETIME", "old") == b":1000\r\n"
        assert client.ask("TOUCH", "old") == b":1\r\n"
        assert client.ask("OBJECT", "IDLETIME", "old") == b":0\r\n"
        limit_to(bench, "allkeys-lfu", 1 << 30)
        assert client.ask("RESTORE", "often", 0, payload, "FREQ", 100) == b"+OK\r\n"
        assert client.ask("OBJECT", "FREQ", "often") == b":100\r\n"
        assert client.ask("OBJECT", "IDLETIME", "often").startswith(b"-ERR An LFU maxmemory policy is selected")


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_no_touch_leaves_idle_times_alone(policy: str, still_time: StillTime) -> None:
    with ServerBench() as bench:
        client, watcher = bench.connect(), bench.connect()
        limit_to(bench, policy, 1 << 30)
        client.ask("SET", "k", "v")
        payload = client.ask("DUMP", "k").split(b"\r\n", 1)[1][:-2]
        client.ask("RESTORE", "old", 0, payload, "IDLETIME", 1000)
        assert watcher.ask("CLIENT", "NO-TOUCH", "maybe") == b"-ERR syntax error\r\n"
        assert watcher.ask("CLIENT", "NO-TOUCH", "ON") == b"+OK\r\n"
        assert watcher.ask("GET", "old") == b"$1\r\nv\r\n"
        assert watcher.ask("OBJECT", "IDLETIME", "old") == b":1000\r\n"
        watcher.ask("TOUCH", "old")
        assert client.ask("OBJECT", "IDLETIME", "old") == b":0\r\n"


# Clients --------------------------------------------------------------------------------------------------------------


def limit_clients(bench: ServerBench, limit_bytes: int) -> None:
    bench.server.settings.maxmemory_clients = limit_bytes
    bench.server.client_limit.settings_changed()
    bench.server.refresh_plain()


def test_the_client_that_holds_most_goes_first() -> None:
    with ServerBench() as bench:
        small, large = bench.connect(), bench.connect()
        small.send(b"*1\r\n$100000\r\n" + b"x" * 50_000)
        large.send(b"*1\r\n$900000\r\n" + b"x" * 200_000)
        limit_clients(bench, 500_000)
        large.send(b"x" * 300_000)
        bench.run()
        large.read()
        small.read()
        assert large.closed
        assert not small.closed
        assert bench.server.statistics.evicted_clients == 1


def test_no_evict_protects_and_counts() -> None:
    with ServerBench() as bench:
        protected, other = bench.connect(), bench.connect()
        assert protected.ask("CLIENT", "NO-EVICT", "ON") == b"+OK\r\n"
        protected.send(b"*1\r\n$900000\r\n" + b"x" * 300_000)
        limit_clients(bench, 200_000)
        bench.run()
        other.ask("PING")
        assert not protected.closed
        assert other.closed


def test_a_client_may_have_to_go_for_what_it_asks() -> None:
    with ServerBench() as bench:
        client = bench.connect()
        limit_clients(bench, 200_000)
        assert client.ask("SET", "k", b"x" * 50_000) == b"+OK\r\n"
        client.ask("SET", "k", b"x" * 300_000)
        assert client.closed
        assert len(bench.server.keyspace.databases[0].read(b"k", 7629)) == 50_000  # type: ignore[arg-type]


def test_a_reply_counts_before_the_next_client_is_served() -> None:
    with ServerBench() as bench:
        first, second = bench.connect(), bench.connect()
        first.ask("SET", "k", b"x" * 100_000)
        limit_clients(bench, 50_000)
        second.session.no_evict = True
        first.say(encode("MGET", "k"))
        second.say(encode("CLIENT", "LIST"))
        bench.run()
        assert second.read().count(b"id=") == 1


def test_a_reply_beyond_the_clients_own_limit_costs_nobody_else_the_connection() -> None:
    with ServerBench() as bench:
        first, second, large = bench.connect(), bench.connect(), bench.connect()
        first.ask("SET", "k", b"x" * 100_000)
        first.ask("CONFIG", "SET", "client-output-buffer-limit", "normal 90000 0 0")
        large.send(b"*1\r\n$500000\r\n" + b"x" * 100_000)
        limit_clients(bench, 580_000)
        first.say(encode("MGET", "k"))
        second.say(encode("PING"))
        bench.run()
        first.read()
        assert second.read() == b"+PONG\r\n"
        large.read()
        assert first.closed
        assert not large.closed


def test_who_may_not_have_its_reply_is_gone_before_the_next_client_is_served() -> None:
    with ServerBench() as bench:
        first, second = bench.connect(), bench.connect()
        first.ask("SET", "k", b"x" * 100_000)
        first.ask("CONFIG", "SET", "client-output-buffer-limit", "normal 90000 0 0")
        limit_clients(bench, 1_000_000)
        first.say(encode("GET", "k"))
        second.say(encode("CLIENT", "LIST"))  # In the same pass, as when a busy machine wakes the server late.
        bench.run()
        assert second.read().count(b"id=") == 1
        first.read()
        assert first.closed


def test_a_percentage_is_one_of_maxmemory() -> None:
    with ServerBench() as bench:
        bench.server.settings.maxmemory = 10_000_000
        limit_clients(bench, -5)
        assert bench.server.client_limit.limit_bytes == 500_000


# Cycles ---------------------------------------------------------------------------------------------------------------


def test_a_closed_connection_is_freed_without_the_collector() -> None:
    """What has been frozen is never looked at again: a cycle through a session would stay for ever."""
    gc.collect()
    gc.disable()
    try:
        with ServerBench() as bench:
            client = bench.connect()
            for request in (
                ("HELLO", 3),
                ("SUBSCRIBE", "a"),
                ("CLIENT", "TRACKING", "ON"),
                ("GET", "k"),
                ("UNSUBSCRIBE",),
                ("WATCH", "k"),
                ("MULTI",),
                ("SET", "k", "v"),
                ("NOSUCH",),
                ("EXEC",),
                ("BLPOP", "nothing", 100),
            ):
                client.ask(*request)
            assert client.session.parked is not None
            identity = id(client.session)
            client.close()
            del client.session
            bench.run()
            assert not bench.server.sessions
            alive = [each for each in gc.get_objects() if type(each) is Client and id(each) == identity]
            assert not alive, [type(referrer) for referrer in gc.get_referrers(alive[0])]
    finally:
        gc.enable()
