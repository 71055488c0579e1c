"""The children that make snapshots, as processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.servers import OurNode
from tests.support.waiting import eventually


def _score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.mark.parametrize(
    ("command", "announcement"),
    [
        ("BGSAVE", "Background saving started by pid "),
        ("SYNC", "Background RDB transfer started by pid "),
    ],
    ids=["to a file", "to a replica"],
)
def test_a_child_runs_where_it_shall_and_is_killed_before_its_parent(command: str, announcement: str) -> None:
    cpus = os.sched_getaffinity(0)
    with OurNode(
        arguments=["--server_cpulist", str(min(cpus)), "--bgsave_cpulist", f"0-{max(cpus)}"],
        oom_score_adj="relative",
        oom_score_adj_values="0 0 100",
        repl_diskless_sync="yes",
        repl_diskless_sync_delay=0,
        rdb_key_save_delay=60_000_000,  # The child rests at a key for longer than the test lasts.
    ) as node:
        node.call("MSET", "a", "1", "b", "2")
        with node.raw() as connection:
            connection.call("REPLCONF", "capa", "eof")
            connection.send(command)
            assert eventually(lambda: announcement in node.log_text())
            child = int(node.log_text().rpartition(announcement)[2].split()[0])
            assert eventually(lambda: _score(child) == min(_score(node.pid) + 100, 1000))
            assert eventually(lambda: os.sched_getaffinity(child) == cpus)
            assert eventually(lambda: os.sched_getaffinity(node.pid) == {min(cpus)})
