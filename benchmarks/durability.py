"""What durability costs those who are served: requests while a BGSAVE runs, and under each appendfsync policy."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from benchmarks.figures import Progress, Row, Samples, Section
from benchmarks.mixed_keys import KEYS, fill
from benchmarks.persistence import not_saving, poll
from benchmarks.throughput import CLIENTS, benchmark_table
from tests.support.servers import KINDS, Kind, Server

ORDER: tuple[Kind, Kind] = ("ours", "real")
SAVING_REQUESTS = 300_000
POLICY_REQUESTS = 100_000
NO_FILE = "no append only file"
POLICIES = {
    NO_FILE: "system calls, one read and one write per request",
    "no": "as without, and one write() to the file per pass",
    "everysec": "as no: the fsync happens beside the loop, but its writes may wait for the disk",
    "always": "the disk: one fsync for all requests of a pass, before their replies",
}
SAVING_BOUNDS = {
    "quiet": "system calls, one read and one write per request",
    "during BGSAVE": "the child takes a core, each first write to a page copies it, and the fork stops everything once",
}


@attrs.frozen
class Service:
    """How a load was served."""

    rate: float
    p99_ms: float
    longest_ms: float


def serve(server: Server, test: str, requests: int) -> Service:
    """One redis-benchmark without pipelining."""
    (line,) = benchmark_table(server, ["-t", test], 1, requests)
    return Service(float(line["rps"]), float(line["p99_latency_ms"]), float(line["max_latency_ms"]))


def measure_saving(scale: float, progress: Progress) -> Section:
    """SET and GET beside a data set that is being saved again and again, and beside one that is not."""
    keys, requests = int(KEYS * scale), int(SAVING_REQUESTS * scale)
    found: dict[tuple[str, str, Kind], Service] = {}
    for kind in ORDER:
        with KINDS[kind]() as server:
            fill(server, keys)
            for test in ("set", "get"):
                found[test, "quiet", kind] = serve(server, test, requests)
                with saving(server):
                    found[test, "during BGSAVE", kind] = serve(server, test, requests)
                rates = ", ".join(f"{state} {found[test, state, kind].rate:,.0f}" for state in SAVING_BOUNDS)
                progress(f"{kind}: {test.upper()}: {rates}")
    rows = [
        row(f"{test.upper()}, {state}", [found[test, state, "ours"]], [found[test, state, "real"]], bound)
        for test in ("set", "get")
        for state, bound in SAVING_BOUNDS.items()
    ]
    return section(
        "Service while a snapshot is made",
        rows,
        f"redis-benchmark -c {CLIENTS} -P 1 -n {requests} -t set,get, BGSAVE after BGSAVE meanwhile",
        f"A node without cluster mode with {keys:,} mixed keys.",
    )


@contextmanager
def saving(server: Server) -> Iterator[None]:
    """BGSAVE runs as long as the block does: the next begins when one has ended."""
    done = threading.Event()

    def again_and_again() -> None:
        with server.raw(timeout=60) as client:
            while not done.wait(0.01):
                client.ask("BGSAVE")  # Refused, as an error reply, while one runs.

    poll(lambda: not_saving(server), "the last BGSAVE of an earlier block to end")
    before = int(server.info("persistence")["rdb_saves"])
    server.call("BGSAVE")
    thread = threading.Thread(target=again_and_again)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    facts = server.info("persistence")
    assert int(facts["rdb_saves"]) > before, "nothing was saved meanwhile"
    assert facts["rdb_last_bgsave_status"] == "ok", server.log_text()


def measure_policies(repetitions: int, scale: float, progress: Progress) -> Section:
    """SET under every policy, on servers of their own."""
    found: dict[tuple[str, Kind], list[Service]] = defaultdict(list)
    requests = max(int(POLICY_REQUESTS * scale), 1000)
    for repetition in range(repetitions):
        for policy in POLICIES:
            for kind in ORDER if repetition % 2 == 0 else ORDER[::-1]:
                directives: dict[str, Any] = {} if policy == NO_FILE else {"appendonly": "yes", "appendfsync": policy}
                with KINDS[kind](**directives) as server:
                    serve(server, "set", 1000)  # Warms up.
                    found[policy, kind].append(serve(server, "set", requests))
            rates = ", ".join(f"{kind} {found[policy, kind][-1].rate:,.0f}" for kind in ORDER)
            progress(f"{repetition + 1}/{repetitions}  {policy}: {rates}")
    rows = [
        row(policy if policy == NO_FILE else f"appendfsync {policy}", found[policy, "ours"], found[policy, "real"], why)
        for policy, why in POLICIES.items()
    ]
    return section(
        "Cost of the append only file",
        rows,
        f"redis-benchmark -c {CLIENTS} -P 1 -n {requests} -t set",
        f"A node without cluster mode, a new one each time; {repetitions} repetitions.",
    )


def row(name: str, ours: list[Service], real: list[Service], bound: str) -> Row:
    notes = [
        " / ".join(f"{Samples([service.p99_ms for service in services]).median:.2f}" for services in (ours, real)),
        " / ".join(f"{max(service.longest_ms for service in services):.0f}" for services in (ours, real)),
        bound,
    ]
    mine, theirs = (Samples([service.rate for service in services]) for services in (ours, real))
    return Row(name, mine, theirs, notes=notes)


def section(title: str, rows: list[Row], command: str, remark: str) -> Section:
    return Section(
        title=title,
        unit="requests/s",
        form=",.0f",
        rows=rows,
        command=command,
        remark=remark,
        note_titles=["p99 ms, ours / redis-server", "longest ms", "bounded by"],
    )
