"""redis-benchmark's own list of tests, all of it, ours and redis-server in turn."""

from __future__ import annotations

from collections import defaultdict

from benchmarks.figures import Progress, Row, Samples, Section, at_least
from benchmarks.throughput import CLIENTS, KEYS, Measured, cpu_seconds, redis_benchmark
from tests.support.servers import KINDS, Server

# In redis-benchmark's order: what a test pops, the ones before have pushed.
TESTS = ["ping_inline", "ping_mbulk", "set", "get", "incr", "lpush", "rpush", "lpop", "rpop", "sadd", "hset", "spop"]
TESTS += ["zadd", "zpopmin", "lrange_100", "lrange_300", "lrange_500", "lrange_600", "mset"]
SHARES = {1: 0.8, 16: 0.35}
REQUESTS = {1: 60_000, 16: 160_000}
# Replies of many elements take a while; to empty a set sooner than the test ends would measure the empty set.
FEWER = {"spop": 2, "zpopmin": 2, "mset": 3, "lrange_100": 3, "lrange_300": 8, "lrange_500": 12, "lrange_600": 14}
PREPARATION = "needed to benchmark"


def measure(repetitions: int, scale: float, progress: Progress) -> Section:
    """Every test `repetitions` times, without and with pipelining, alternating between the two servers."""
    rates: Measured = defaultdict(list)
    cpu: Measured = defaultdict(list)
    with KINDS["ours"]() as ours, KINDS["real"]() as real:
        servers: list[Server] = [ours, real]
        for repetition in range(repetitions):
            for pipeline, requests in REQUESTS.items():
                for server in servers:
                    server.call("FLUSHALL")
                for test in TESTS:
                    count = max(int(requests * scale) // FEWER.get(test, 1), 1000)
                    for server in servers if repetition % 2 == 0 else reversed(servers):
                        before = cpu_seconds(server)
                        found = redis_benchmark(server, ["-t", test], pipeline, count)
                        used_us = (cpu_seconds(server) - before) * 1e6 / (count * len(found))
                        name, rate = next((name, rate) for name, rate in found.items() if PREPARATION not in name)
                        rates[name, pipeline, server.kind].append(rate)
                        cpu[name, pipeline, server.kind].append(used_us)
                    last = {kind: rates[name, pipeline, kind][-1] for kind in ("ours", "real")}
                    ratio = last["ours"] / last["real"]
                    progress(
                        f"{repetition + 1}/{repetitions}  -P {pipeline:<2}  {name} {last['ours']:,.0f} / "
                        f"{last['real']:,.0f} = {ratio:.2f}"
                    )
    rows: list[Row] = []
    for pipeline in REQUESTS:
        for name in dict.fromkeys(name for name, depth, _ in rates if depth == pipeline):
            mine, theirs = (Samples(rates[name, pipeline, kind]) for kind in ("ours", "real"))
            per_request = [Samples(cpu[name, pipeline, kind]).median for kind in ("ours", "real")]
            note = f"{per_request[0]:.1f} / {per_request[1]:.1f}"
            rows.append(at_least(f"{name}, -P {pipeline}", mine, theirs, SHARES[pipeline], [note]))
    return Section(
        title="redis-benchmark's default list",
        unit="requests/s",
        form=",.0f",
        rows=rows,
        command=f"redis-benchmark -c {CLIENTS} -r {KEYS} -P 1 (and -P 16)",
        remark=(
            f"One node without cluster mode; {repetitions} repetitions of {int(REQUESTS[1] * scale):,} (-P 1) and "
            f"{int(REQUESTS[16] * scale):,} (-P 16) requests, of the slower commands a part of that. CPU is the "
            "server's own, user and system, preparations included (LRANGE's LPUSH)."
        ),
        note_titles=["CPU µs per request"],
    )
