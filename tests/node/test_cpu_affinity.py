"""Lists of processors, read as setcpuaffinity.c reads them, and what follows from one."""

from __future__ import annotations

import os

import pytest

from cluster.node.cpu_affinity import confine, parse_cpu_list
from tests.support.servers import OurNode
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", {0}),
        ("0,2,3", {0, 2, 3}),
        ("0,2-3", {0, 2, 3}),
        ("0-20:5", {0, 5, 10, 15, 20}),
        ("1-1", {1}),
    ],
)
def test_lists(text: str, cpus: set[int]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize("text", ["", "x", "1,", "3-1", "0-4:0", "1:2", "-1", "1-", "0-3:", "1 2", "٣"])
def test_what_cannot_be_read_names_nothing(text: str) -> None:
    assert parse_cpu_list(text) == set()


def test_huge_numbers_cost_nothing() -> None:
    assert max(parse_cpu_list("1-99999999999999999999")) < 10_000


def test_without_a_list_everything_stays_as_it_is() -> None:
    before = os.sched_getaffinity(0)
    confine("")
    confine("8000")

    assert os.sched_getaffinity(0) == before


def test_a_node_keeps_to_its_processors() -> None:
    one = min(os.sched_getaffinity(0))
    with OurNode(arguments=["--server_cpulist", str(one)]) as node:
        assert eventually(lambda: os.sched_getaffinity(node.pid) == {one})
