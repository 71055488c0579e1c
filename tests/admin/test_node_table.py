"""CLUSTER NODES: reading what Redis 3 to 7 write, and never more than a ValueError on anything else."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.admin.node_table import ownership, parse_nodes, slot_ranges, slots_text
from cluster.slots.hashing import SLOT_COUNT

ID_A, ID_B, ID_C = "a" * 40, "b" * 40, "c" * 40
SLOTS = st.sets(st.integers(0, SLOT_COUNT - 1), max_size=60)


def test_a_master_that_migrates_and_imports() -> None:
    row = parse_nodes(
        f"{ID_A} 10.0.0.1:7000@17000 myself,master - 0 1683528027000 3 connected 0-5 7 [8->-{ID_B}] [9-<-{ID_C}]\n"
    )[0]

    assert (row.node_id, row.host, row.port, row.bus_port) == (ID_A, "10.0.0.1", 7000, 17000)
    assert row.slots == {0, 1, 2, 3, 4, 5, 7}
    assert (row.migrating, row.importing) == ({8: ID_B}, {9: ID_C})
    assert (row.is_myself, row.is_replica, row.master_id, row.config_epoch) == (True, False, None, 3)


def test_a_replica_behind_a_broken_link() -> None:
    row = parse_nodes(
        f"{ID_A} :7000@17000 myself,master - 0 0 1 connected\n"
        f"{ID_B} 10.0.0.2:7001@17001 slave,fail {ID_A} 0 1683528027000 1 disconnected\n"
    )[1]

    assert (row.is_replica, row.master_id, row.is_connected) == (True, ID_A, False)
    assert "fail" in row.flags


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.1:7000@17000", ("10.0.0.1", 7000, 17000, "")),
        ("10.0.0.1:7000@17000,node.example", ("10.0.0.1", 7000, 17000, "node.example")),  # Redis 7
        ("10.0.0.1:7000", ("10.0.0.1", 7000, 0, "")),  # Redis 3
        ("2001:db8::1:7000@17000", ("2001:db8::1", 7000, 17000, "")),
        (":0@0", ("", 0, 0, "")),  # noaddr
    ],
)
def test_addresses(address: str, expected: tuple[str, int, int, str]) -> None:
    row = parse_nodes(f"{ID_A} {address} myself,master - 0 0 1 connected\n")[0]

    assert expected == (row.host, row.port, row.bus_port, row.hostname)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello\n",
        f"{ID_A} 10.0.0.1:7000@17000 master - 0 0 1 connected\n",  # Nobody is myself.
        f"{ID_A} 10.0.0.1:7000@17000 myself - 0 0 1 connected 16384\n",
        f"{ID_A} 10.0.0.1:7000@17000 myself - 0 0 x connected\n",
        f"{ID_A} nowhere myself - 0 0 1 connected\n",
        f"{ID_A} 10.0.0.1:7000@17000 myself - 0 0 1 connected [x->-{ID_B}]\n",
    ],
)
def test_what_is_not_a_node_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_nodes(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_nodes(f"{ID_A} 10.0.0.1:7000@17000 myself,master - 0 0 1 connected {text}")
    except ValueError:
        pass


@given(SLOTS)
def test_ranges_name_exactly_the_slots_given(slots: set[int]) -> None:
    ranges = slot_ranges(slots)

    assert slots == {slot for first, last in ranges for slot in range(first, last + 1)}
    assert all(next_first > last + 1 for (_, last), (next_first, _) in pairwise(ranges))


def test_slots_as_redis_cli_writes_them() -> None:
    assert slots_text({0, 1, 2, 7, 9, 10}) == "[0-2],[7],[9-10]"
    assert slots_text([]) == ""


def test_nodes_agree_when_they_name_the_same_owners_whatever_else_differs() -> None:
    """Order, flags, times and nodes without slots do not count; open slots neither."""
    one = parse_nodes(
        f"{ID_A} 10.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5 [6->-{ID_B}]\n"
        f"{ID_B} 10.0.0.2:7000@17000 master - 0 7 2 connected 6-9\n"
    )
    other = parse_nodes(
        f"{ID_C} 10.0.0.3:7000@17000 slave {ID_A} 0 9 1 connected\n"
        f"{ID_B} 10.0.0.2:7000@17000 myself,master - 0 0 2 connected 6-9\n"
        f"{ID_A} 10.0.0.1:7000@17000 master - 5 5 1 connected 0-5\n"
    )

    assert ownership(one) == ownership(other)


def test_nodes_disagree_over_a_single_slot() -> None:
    one = parse_nodes(f"{ID_A} 10.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5\n")
    other = parse_nodes(f"{ID_A} 10.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-6\n")

    assert ownership(one) != ownership(other)
