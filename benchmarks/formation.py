"""Six nodes from nothing to a cluster that serves, with every replica in sync."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator

from benchmarks.figures import Progress, Row, Samples, Section, at_most_real
from tests.support.clusters import ClusterFixture, Creation
from tests.support.servers import Kind

ORDER: tuple[Kind, Kind] = ("ours", "real")
TOOLS: tuple[Creation, ...] = ("redis-cli", "hashslot-cli", "commands")
# redis-server waits this long before a full resynchronisation, in case another replica wants the same one.
DEFAULT_SYNC_DELAY_SECONDS = 5


def measure(repetitions: int, progress: Progress) -> Section:
    """Each way of creating a cluster, for both kinds in turn."""
    rows = [row for tool, delay in ways() for row in rows_for(tool, delay, repetitions, progress)]
    return Section(
        title="Six nodes from nothing",
        unit="s",
        form=".2f",
        rows=rows,
        command="six processes, three masters, one replica each: from the first exec to cluster_state:ok on all and "
        "every replica in sync",
        remark=(
            "The same tool creates both clusters. redis-cli itself sleeps in whole seconds; plain CLUSTER commands "
            "show the nodes alone."
        ),
    )


def ways() -> Iterator[tuple[Creation, int]]:
    for tool in TOOLS:
        yield tool, 0
    yield "commands", DEFAULT_SYNC_DELAY_SECONDS


def rows_for(tool: Creation, delay: int, repetitions: int, progress: Progress) -> Iterator[Row]:
    times: dict[Kind, list[float]] = defaultdict(list)
    for repetition in range(repetitions):
        for kind in ORDER if repetition % 2 == 0 else ORDER[::-1]:
            times[kind].append(form(kind, tool, delay))
        last = ", ".join(f"{kind} {times[kind][-1]:.2f} s" for kind in ORDER)
        progress(f"{repetition + 1}/{repetitions}  six nodes by {tool}, sync delay {delay} s: {last}")
    name = f"created by {tool}, repl-diskless-sync-delay {delay}"
    yield at_most_real(name, Samples(times["ours"]), Samples(times["real"]))


def form(kind: Kind, tool: Creation, delay: int) -> float:
    began = time.perf_counter()
    with ClusterFixture(masters=3, replicas=1, kind=kind, create=tool, repl_diskless_sync_delay=delay):
        return time.perf_counter() - began
