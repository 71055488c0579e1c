"""How long a writer is kept waiting when its master is killed: the failover as a client sees it."""

from __future__ import annotations

from collections import defaultdict

from benchmarks.figures import Progress, Samples, Section, at_most_real
from tests.support.clusters import ClusterFixture, key_slot
from tests.support.servers import Kind
from tests.support.writers import ContinuousWriter

NODE_TIMEOUT_MS = 2000
FAILOVER_SECONDS = 30.0
KINDS: tuple[Kind, Kind] = ("ours", "real")


def measure(repetitions: int, progress: Progress) -> Section:
    """kill -9 a master of a fresh cluster, `repetitions` times for each kind, in turn."""
    outages: dict[Kind, list[float]] = defaultdict(list)
    for repetition in range(repetitions):
        for kind in KINDS if repetition % 2 == 0 else KINDS[::-1]:
            outages[kind].append(outage(kind))
        last = ", ".join(f"{kind} {outages[kind][-1]:.2f} s" for kind in KINDS)
        progress(f"{repetition + 1}/{repetitions}  outage after kill -9: {last}")
    return Section(
        title="Outage after kill -9 of a master",
        unit="s",
        form=".2f",
        rows=[
            at_most_real(
                "longest time without an acknowledged write", Samples(outages["ours"]), Samples(outages["real"])
            )
        ],
        command=f"three masters, one replica each, cluster-node-timeout {NODE_TIMEOUT_MS}; a writer on the killed "
        "master's slots that follows redirections",
        remark=f"{repetitions} clusters of each kind. The election's delay has a random part of up to 0.5 s.",
    )


def outage(kind: Kind) -> float:
    """Seconds between the last write acknowledged by the old master and the first by the new one."""
    with ClusterFixture(masters=3, replicas=1, kind=kind, cluster_node_timeout=NODE_TIMEOUT_MS) as cluster:
        victim = cluster.nodes[0]
        slots = cluster.view_of(victim, on=victim).slots
        keys = [key for key in (f"key:{number}" for number in range(1000)) if key_slot(key.encode()) in slots][:100]
        survivors = [node.port for node in cluster.nodes[1:]]
        with ContinuousWriter(survivors, keys, key_slot, timeout=1.0, pause=0.001) as writer:
            writer.wait_for_writes(200)
            victim.kill9()
            writer.wait_for_writes(200, FAILOVER_SECONDS)
            return writer.stop().longest_gap
