"""For how long a server answers nobody at worst: redis-cli --latency beside loads that tempt it to stand still."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from benchmarks.figures import Progress, Samples, Section, at_most
from benchmarks.key_memory import store
from benchmarks.throughput import redis_benchmark
from tests.support.servers import KINDS, Kind, Server
from tests.support.waiting import eventually
from tests.support.wire import encode

ORDER: tuple[Kind, Kind] = ("ours", "real")
LONGEST_PAUSE_MS = 50.0
KEYS = 1_000_000
HASHES = 100_000
MEMBERS = 1_000_000
EXPIRING = 200_000
MIXED = "set,get,incr,lpush,rpop,sadd,spop,hset,zadd,zpopmin,lrange_100"
MEMBERS_PER_REQUEST = 500


class LatencyWatch:
    """redis-cli --latency, as long as the block lasts: a PING about every 10 ms."""

    def __init__(self, server: Server) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # Closed at the end of the watch.
        # As for a terminal: what it writes for a pipe, it keeps until it ends.
        command = ["redis-cli", "-p", str(server.port), "--no-raw", "--latency"]
        self._process = subprocess.Popen(command, stdout=self._output)
        self.worst_ms = 0.0

    def __enter__(self) -> Self:
        eventually(lambda: os.fstat(self._output.fileno()).st_size > 0, 10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        with self._output as output:
            output.seek(0)
            found = [int(number) for number in re.findall(rb"max: (\d+)", output.read())]
        assert found, "redis-cli --latency has measured nothing"
        self.worst_ms = float(max(found))


def measure(scale: float, progress: Progress) -> Section:
    """One server of each kind after the other goes through all loads."""
    worst: dict[tuple[str, Kind], list[float]] = defaultdict(list)
    for kind in ORDER:
        with KINDS[kind]() as server:
            for name, load in loads(scale).items():
                with LatencyWatch(server) as watch:
                    load(server)
                worst[name, kind].append(watch.worst_ms)
                progress(f"{kind}: {name}: {watch.worst_ms:.0f} ms at most")
    names = dict.fromkeys(name for name, _kind in worst)
    return Section(
        title="Pauses",
        unit="ms",
        form=".0f",
        rows=[
            at_most(
                name,
                Samples(worst[name, "ours"]),
                Samples([max(value, 1.0) for value in worst[name, "real"]]),
                LONGEST_PAUSE_MS,
                f"{LONGEST_PAUSE_MS:.0f} ms",
            )
            for name in names
        ],
        command="the maximum of redis-cli --latency (a PING every 10 ms) while the load runs",
        remark="The loads follow one another on one node. redis-cli counts whole milliseconds.",
    )


def loads(scale: float) -> dict[str, Callable[[Server], object]]:
    """What tempts a server to stand still, by name."""
    keys, hashes = int(KEYS * scale), int(HASHES * scale)
    members, expiring = int(MEMBERS * scale), int(EXPIRING * scale)
    return {
        f"storing {keys:,} strings": lambda server: store(
            server, (encode("SET", b"key:%012d" % number, b"%032d" % number) for number in range(keys))
        ),
        f"storing {hashes:,} hashes": lambda server: store(
            server, (encode("HSET", b"hash:%d" % number, *b"a 1 b 2 c 3 d 4".split()) for number in range(hashes))
        ),
        "a mixed load by redis-benchmark": lambda server: redis_benchmark(
            server, ["-t", MIXED], 1, max(int(40_000 * scale), 1000)
        ),
        f"adding {members:,} members to a set, a hash, a sorted set and a list": lambda server: store(
            server, collections(members)
        ),
        "deleting them": lambda server: [server.call("DEL", name) for name in ("set", "hash", "zset", "list")],
        f"{expiring:,} keys that expire": lambda server: expire(server, expiring),
        "FLUSHALL": flush,
    }


def collections(members: int) -> Iterator[bytes]:
    """Requests that fill four collections."""
    for start in range(0, members, MEMBERS_PER_REQUEST):
        names = [b"member:%d" % number for number in range(start, min(start + MEMBERS_PER_REQUEST, members))]
        yield encode("SADD", "set", *names)
        yield encode("HSET", "hash", *flat((name, b"x") for name in names))
        yield encode("ZADD", "zset", *flat((b"%d" % (hash(name) % 1000), name) for name in names))
        yield encode("RPUSH", "list", *names)


def flat(pairs: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    return [word for pair in pairs for word in pair]


def expire(server: Server, count: int) -> None:
    """Many keys that are due within a second, and the wait until all are gone."""
    before = server.call("DBSIZE")
    store(server, (encode("SET", b"due:%d" % number, "x", "PX", 3000 + number % 1000) for number in range(count)))
    eventually(lambda: server.call("DBSIZE") <= before, 60)


def flush(server: Server) -> None:
    """FLUSHALL, and some requests behind it."""
    server.call("FLUSHALL")
    store(server, (encode("SET", b"key:%d" % number, "x") for number in range(100_000)))
