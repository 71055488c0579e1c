"""``rebalance``: who gives how many slots to whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.admin.errors import Refused
from cluster.admin.rebalance import RebalanceOptions, Transfer, parse_weights, plan_rebalance, rebalance
from cluster.admin.slot_move import MoveOptions
from cluster.admin.view import load_view
from cluster.slots.hashing import SLOT_COUNT
from tests.admin.cluster_model import ModelCluster
from tests.admin.people import Person, person_at

A, B, C = "10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"


def given_cluster(sizes: tuple[int, int, int]) -> ModelCluster:
    cluster = ModelCluster()
    slots: dict[str, range] = {}
    start = 0
    for last, size in enumerate(sizes, start=1):
        cluster.add(f"10.0.0.{last}", 7000)
        slots[f"10.0.0.{last}:7000"] = range(start, start + size)
        start += size
    cluster.form(slots)
    return cluster


def run(person: Person, cluster: ModelCluster, options: RebalanceOptions) -> bool:
    view = load_view(person.context, cluster.nodes[0].address)
    return rebalance(person.context, view, options, MoveOptions())


def sizes_of(cluster: ModelCluster) -> list[int]:
    return [len(node.slots) for node in cluster.nodes]


def test_within_the_threshold_nothing_is_planned() -> None:
    assert plan_rebalance({"a": 5461, "b": 5462, "c": 5461}, {"a": 1, "b": 1, "c": 1}, 2.0) is None


def test_an_empty_master_is_filled_by_the_others() -> None:
    plan = plan_rebalance({"a": 8192, "b": 8192, "c": 0}, {"a": 1, "b": 1, "c": 1}, 2.0)

    assert plan == [Transfer("b", "c", 2731), Transfer("a", "c", 2731)]


def test_a_weight_of_nothing_empties_a_node() -> None:
    plan = plan_rebalance({"a": 5461, "b": 5462, "c": 5461}, {"a": 0, "b": 1, "c": 1}, 2.0)

    assert plan is not None
    assert sum(transfer.slot_count for transfer in plan if transfer.source_id == "a") == 5461


@given(st.lists(st.integers(1, 50), min_size=2, max_size=8), st.lists(st.integers(1, 5), min_size=8, max_size=8))
def test_any_plan_levels_everybody(parts: list[int], weights: list[int]) -> None:
    """Whatever the start, every node ends within the rounding of what its weight entitles it to."""
    total = sum(parts)
    counts = {str(i): SLOT_COUNT * part // total for i, part in enumerate(parts)}
    counts["0"] += SLOT_COUNT - sum(counts.values())
    weight_of = {node_id: float(weights[i]) for i, node_id in enumerate(counts)}
    for transfer in plan_rebalance(counts, weight_of, 0.01) or []:
        assert transfer.slot_count > 0
        counts[transfer.source_id] -= transfer.slot_count
        counts[transfer.target_id] += transfer.slot_count

    assert sum(counts.values()) == SLOT_COUNT
    assert all(abs(counts[i] - SLOT_COUNT * weight_of[i] / sum(weight_of.values())) <= len(counts) for i in counts)


def test_moving_in_redis_clis_words() -> None:
    cluster = given_cluster((5561, 5362, 5461))
    person = person_at(cluster)

    assert run(person, cluster, RebalanceOptions(threshold_percent=1.0))
    assert sizes_of(cluster) == [5461, 5462, 5461]
    assert person.seen.endswith(
        f">>> Rebalancing across 3 nodes. Total weight = 3.00\nMoving 100 slots from {A} to {B}\n{'#' * 100}\n"
    )


def test_simulating_moves_nothing() -> None:
    cluster = given_cluster((5561, 5362, 5461))

    assert run(person_at(cluster), cluster, RebalanceOptions(threshold_percent=1.0, simulate=True))
    assert sizes_of(cluster) == [5561, 5362, 5461]


def test_nothing_to_do() -> None:
    cluster = given_cluster((5461, 5462, 5461))
    person = person_at(cluster)

    assert run(person, cluster, RebalanceOptions())
    assert person.seen.endswith("*** No rebalancing needed! All nodes are within the 2.00% threshold.\n")


def test_masters_without_slots_take_part_only_when_asked_to() -> None:
    cluster = given_cluster((8192, 8192, 0))

    assert run(person_at(cluster), cluster, RebalanceOptions())
    assert sizes_of(cluster) == [8192, 8192, 0]
    assert run(person_at(cluster), cluster, RebalanceOptions(use_empty_masters=True))
    assert sizes_of(cluster) == [5461, 5461, 5462]


def test_unknown_names_in_weights() -> None:
    cluster = given_cluster((5461, 5462, 5461))

    with pytest.raises(Refused, match="No such master node zzzz"):
        run(person_at(cluster), cluster, RebalanceOptions(weights={"zzzz": 2.0}))


def test_weights_that_add_up_to_nothing() -> None:
    cluster = given_cluster((5461, 5462, 5461))

    with pytest.raises(Refused, match="add up to nothing"):
        run(person_at(cluster), cluster, RebalanceOptions(weights={A: 0, B: 0, C: 0}))


def test_reading_weights() -> None:
    assert parse_weights(["abcd=2", "10.0.0.1:7000=0.5"]) == {"abcd": 2.0, "10.0.0.1:7000": 0.5}


@pytest.mark.parametrize("text", ["abcd", "abcd=", "abcd=x", "abcd=-1", "abcd=inf", "abcd=nan"])
def test_bad_weights(text: str) -> None:
    with pytest.raises(Refused, match="invalid input"):
        parse_weights([text])
