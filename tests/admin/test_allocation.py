"""The plan of a new cluster: who gets which slots, who replicates whom."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.admin.address import Address
from cluster.admin.allocation import (
    SAME_HOST_AS_MASTER,
    CreationPlan,
    NewNode,
    ReplicaChoice,
    affinity_score,
    interleave_hosts,
    master_count,
    plan_creation,
    share_slots,
)
from cluster.slots.hashing import SLOT_COUNT


def nodes_on(*hosts: str) -> list[NewNode]:
    return [NewNode(Address(host, 7000 + index), f"{index:040x}") for index, host in enumerate(hosts)]


def planned(hosts: list[str], replicas: int, seed: int = 1) -> CreationPlan:
    return plan_creation(nodes_on(*hosts), replicas, random.Random(seed))


HOSTS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=3, max_size=24)


@pytest.mark.parametrize(
    ("masters", "expected"),
    [
        (3, [(0, 5460), (5461, 10922), (10923, 16383)]),
        (4, [(0, 4095), (4096, 8191), (8192, 12287), (12288, 16383)]),
        (5, [(0, 3276), (3277, 6553), (6554, 9829), (9830, 13106), (13107, 16383)]),
        (6, [(0, 2730), (2731, 5460), (5461, 8191), (8192, 10922), (10923, 13652), (13653, 16383)]),
    ],
)
def test_slot_ranges_are_redis_clis(masters: int, expected: list[tuple[int, int]]) -> None:
    """As printed by redis-cli 7.0.15; the transcripts show the case of three masters."""
    shares = share_slots(nodes_on(*["h"] * masters))

    assert expected == [(share.first, share.last) for share in shares]


@given(st.integers(1, 1000))
def test_every_slot_is_planned_exactly_once(masters: int) -> None:
    shares = share_slots(nodes_on(*["h"] * masters))

    assert [slot for share in shares for slot in share.slots] == list(range(SLOT_COUNT))
    sizes = [len(share.slots) for share in shares]
    assert max(sizes) - min(sizes) <= 2


def test_hosts_take_turns() -> None:
    nodes = nodes_on("a", "a", "a", "b", "b", "c")

    assert [node.address.host for node in interleave_hosts(nodes)] == ["a", "b", "c", "a", "b", "a"]


def test_replicas_on_three_hosts_never_share_one_with_their_master() -> None:
    plan = planned(["a", "a", "b", "b", "c", "c"], replicas=1)

    assert (plan.score, plan.was_optimised) == (0, False)
    assert all(choice.replica.address.host != choice.master.address.host for choice in plan.replicas)


def test_one_host_leaves_nothing_to_optimise_and_the_assignment_as_it_was_announced() -> None:
    plan = planned(["a"] * 6, replicas=1)

    assert plan.was_optimised
    assert plan.score == 3 * SAME_HOST_AS_MASTER
    assert plan.replicas == plan.first_choice


def test_optimising_finds_the_perfect_assignment_where_the_first_one_is_not() -> None:
    """Four of six nodes on one host: the turn-taking assignment puts a replica beside its master."""
    hosts = ["a", "a", "a", "b", "b", "c", "c", "c"]
    improved = [planned(hosts, replicas=1, seed=seed) for seed in range(5)]

    assert all(plan.score <= affinity_score(plan.first_choice) for plan in improved)
    assert all(plan.score == 0 for plan in improved)


def test_a_left_over_node_becomes_an_extra_replica() -> None:
    plan = planned(["a"] * 7, replicas=1)

    assert (len(plan.shares), len(plan.first_choice), len(plan.extra_choice)) == (3, 3, 1)


def test_more_left_over_nodes_than_masters_are_all_given_a_master() -> None:
    """redis-cli leaves the last two of these out."""
    plan = planned(["a"] * (3 * 6 + 5), replicas=5)

    assert len(plan.extra_choice) == 5
    assert Counter(Counter(choice.master for choice in plan.replicas).values()) == {7: 2, 6: 1}


def test_score_counts_replicas_beside_their_master_and_beside_each_other() -> None:
    """SAME_AS_MASTER weighs 10000 for each, SAME_AS_SLAVE 1 for each (redis-cli.c, anti-affinity score)."""
    a1, a2, b1, b2 = nodes_on("a", "a", "b", "b")

    assert affinity_score([ReplicaChoice(a2, a1)]) == SAME_HOST_AS_MASTER
    assert affinity_score([ReplicaChoice(b1, a1), ReplicaChoice(b2, a1)]) == 2
    assert affinity_score([ReplicaChoice(b1, a1), ReplicaChoice(a2, b2)]) == 0
    assert affinity_score([ReplicaChoice(a2, a1), ReplicaChoice(b1, a1), ReplicaChoice(b2, a1)]) == 10002


@given(HOSTS, st.integers(0, 3), st.integers(0, 99))
def test_any_plan_is_whole(hosts: list[str], replicas: int, seed: int) -> None:
    if master_count(len(hosts), replicas) < 1:
        return
    plan = planned(hosts, replicas, seed)
    masters = [share.master for share in plan.shares]
    replicating = [choice.replica for choice in plan.replicas]

    assert sorted(node.node_id for node in masters + replicating) == sorted(node.node_id for node in plan.nodes)
    assert len(masters) == master_count(len(hosts), replicas)
    counts = Counter(choice.master for choice in plan.replicas)
    assert all(counts[master] >= replicas for master in masters)
    assert {choice.master for choice in plan.replicas} <= set(masters)
    assert plan.score == affinity_score(plan.replicas) <= affinity_score([*plan.first_choice, *plan.extra_choice])


@given(HOSTS, st.integers(0, 2), st.integers(0, 99))
def test_the_same_input_gives_the_same_plan(hosts: list[str], replicas: int, seed: int) -> None:
    if master_count(len(hosts), replicas) < 1:
        return

    assert planned(hosts, replicas, seed) == planned(hosts, replicas, seed)
