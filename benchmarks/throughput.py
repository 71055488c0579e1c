"""Requests per second by redis-benchmark, one node owning all slots, ours and redis-server in turn."""

from __future__ import annotations

import csv
import io
import os
import subprocess
from collections import defaultdict
from pathlib import Path

import attrs

from benchmarks.figures import Progress, Row, Samples, Section, at_least
from tests.support.servers import BUILD_VARIABLE, KINDS, Kind, Server
from tests.support.waiting import eventually

CLIENTS = 50
KEYS = 100_000
TESTS = ("set", "get", "incr", "mset", "ping")
# redis-benchmark's own MSET uses ten keys of different slots unless told --cluster, and --cluster refuses one node: the
# same command with a hash tag, spelt out.
MSET = ["MSET", *[word for _ in range(10) for word in ("key:{tag}:__rand_int__", "xxx")]]
# Without pipelining a server is bound by system calls; with it, by its own code.
SHARES = {1: 0.9, 16: 0.4}
REQUESTS = {1: 200_000, 16: 800_000}
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

Measured = dict[tuple[str, int, Kind], list[float]]


def measure_plain(repetitions: int, scale: float, progress: Progress) -> Section:
    """The same with the build that is not compiled, which promises nothing."""
    compiled = os.environ.pop(BUILD_VARIABLE, None)
    try:
        section = measure(repetitions, scale, progress)
    finally:
        if compiled is not None:
            os.environ[BUILD_VARIABLE] = compiled
    rows = [attrs.evolve(row, target="", met=None) for row in section.rows]
    return attrs.evolve(section, title=f"{section.title}, the plain build", rows=rows)


def measure(repetitions: int, scale: float, progress: Progress) -> Section:
    """Run every test `repetitions` times, alternating between the two servers."""
    rates: Measured = defaultdict(list)
    cpu: Measured = defaultdict(list)
    with KINDS["ours"](cluster=True) as ours, KINDS["real"](cluster=True) as real:
        servers: list[Server] = [ours, real]
        for server in servers:
            own_all_slots(server)
            run(server, "set", 1, int(100_000 * scale))  # Warms up, and fills the keyspace for GET.
        for repetition in range(repetitions):
            for pipeline, requests in REQUESTS.items():
                for test in TESTS:
                    # Each goes first every other time, so that neither always finds the machine warm.
                    for server in servers if repetition % 2 == 0 else reversed(servers):
                        count = max(int(requests * scale), 1000)
                        before = cpu_seconds(server)
                        found = run(server, test, pipeline, count)
                        used_us = (cpu_seconds(server) - before) * 1e6 / (count * len(found))
                        for name, rate in found.items():
                            rates[name, pipeline, server.kind].append(rate)
                            cpu[name, pipeline, server.kind].append(used_us)
                    names = [name for name, depth, kind in rates if depth == pipeline and kind == "ours"]
                    progress(
                        f"{repetition + 1}/{repetitions}  -P {pipeline:<2}  " + brief(rates, names, test, pipeline)
                    )
    rows: list[Row] = []
    for name, pipeline in dict.fromkeys(
        (name, pipeline) for name, pipeline, _ in sorted(rates, key=lambda key: key[1])
    ):
        mine, theirs = (Samples(rates[name, pipeline, kind]) for kind in ("ours", "real"))
        per_request = [Samples(cpu[name, pipeline, kind]).median for kind in ("ours", "real")]
        note = f"{per_request[0]:.1f} / {per_request[1]:.1f}"
        rows.append(at_least(f"{name}, -P {pipeline}", mine, theirs, SHARES[pipeline], [note]))
    return Section(
        title="Throughput",
        unit="requests/s",
        form=",.0f",
        rows=rows,
        command=f"redis-benchmark -c {CLIENTS} -r {KEYS} -t {','.join(TESTS)} -P 1 (and -P 16)",
        remark=(
            f"One node in cluster mode that owns all slots; {repetitions} repetitions of {int(REQUESTS[1] * scale):,} "
            f"(-P 1) and {int(REQUESTS[16] * scale):,} (-P 16) requests. Nothing is pinned to a core. "
            "CPU is the server's own, user and system. MSET's ten keys share a hash tag."
        ),
        note_titles=["CPU µs per request"],
    )


def brief(rates: Measured, names: list[str], test: str, pipeline: int) -> str:
    wanted = [name for name in names if name.lower().startswith(test)]
    return ", ".join(
        f"{name} {rates[name, pipeline, 'ours'][-1]:,.0f} / {rates[name, pipeline, 'real'][-1]:,.0f}" for name in wanted
    )


def own_all_slots(server: Server) -> None:
    server.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    eventually(lambda: server.cluster_info()["cluster_state"] == "ok", 10)


def run(server: Server, test: str, pipeline: int, requests: int) -> dict[str, float]:
    """One redis-benchmark; names and rates (ping is two: inline and RESP)."""
    rates = redis_benchmark(server, MSET if test == "mset" else ["-t", test], pipeline, requests)
    return {"MSET (10 keys)": next(iter(rates.values()))} if test == "mset" else rates


def redis_benchmark(server: Server, what: list[str], pipeline: int, requests: int) -> dict[str, float]:
    """Requests per second by the names that redis-benchmark gives its tests."""
    return {line["test"]: float(line["rps"]) for line in benchmark_table(server, what, pipeline, requests)}


def benchmark_table(server: Server, what: list[str], pipeline: int, requests: int) -> list[dict[str, str]]:
    """The lines of redis-benchmark --csv: test, rps, and latencies in milliseconds."""
    command = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(server.port), "-c", str(CLIENTS)]
    command += ["-r", str(KEYS), "-n", str(requests), "-P", str(pipeline), "--csv", *what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    table = done.stdout[done.stdout.index('"test"') :]
    lines = [line for line in csv.DictReader(io.StringIO(table)) if line["rps"]]
    assert lines, done.stdout + done.stderr
    return lines


def cpu_seconds(server: Server) -> float:
    """User and system time the server's process has used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
