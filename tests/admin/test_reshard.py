"""``reshard``: which slots are chosen, what is asked, what is printed, how it stops."""

from __future__ import annotations

import math
import signal
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.admin.errors import Aborted, AdminError, NodeError, UsageError
from cluster.admin.reshard import ReshardRequest, SlotMove, choose_slots, reshard
from cluster.admin.slot_move import MoveOptions
from cluster.admin.view import load_view
from tests.admin.cluster_model import ModelCluster, ModelNode
from tests.admin.people import Person, person_at

A, B, C = "10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"


def three_masters() -> ModelCluster:
    cluster = ModelCluster()
    for last in (1, 2, 3):
        cluster.add(f"10.0.0.{last}", 7000)
    cluster.form({A: range(5461), B: range(5461, 10923), C: range(10923, 16384)})
    return cluster


def run(person: Person, cluster: ModelCluster, **request: object) -> bool:
    view = load_view(person.context, cluster.nodes[0].address)
    return reshard(person.context, view, ReshardRequest(**request), MoveOptions())  # type: ignore[arg-type]


def test_slots_are_taken_in_proportion_lowest_first() -> None:
    moves = choose_slots({"a": set(range(100)), "b": set(range(100, 150))}, 30)

    assert [(move.slot, move.source_id) for move in moves] == [(slot, "a") for slot in range(20)] + [
        (slot, "b") for slot in range(100, 110)
    ]


def test_the_largest_source_gives_the_rounded_up_share() -> None:
    """1000 of 5461 + 5462: redis-cli takes 501 of the larger and 499 of the other."""
    moves = choose_slots({"a": set(range(5461)), "b": set(range(5461, 10923))}, 1000)

    assert Counter(move.source_id for move in moves) == {"b": 501, "a": 499}


@given(st.lists(st.integers(0, 400), min_size=1, max_size=6), st.integers(1, 2000))
def test_never_more_slots_than_asked_and_each_once(sizes: list[int], count: int) -> None:
    slots_of: dict[str, set[int]] = {}
    start = 0
    for index, size in enumerate(sizes):
        slots_of[str(index)] = set(range(start, start + size))
        start += size
    moves = choose_slots(slots_of, count)

    assert len(moves) <= count
    assert len({move.slot for move in moves}) == len(moves)
    assert all(move.slot in slots_of[move.source_id] for move in moves)
    # Rounding down costs less than one slot for every source but the largest.
    assert len(moves) >= min(count, math.floor(sum(sizes))) - len(sizes)


def test_no_sources_with_slots_no_moves() -> None:
    assert choose_slots({"a": set()}, 10) == ()


def test_all_arguments_given_nothing_is_asked() -> None:
    cluster = three_masters()
    source, target, _ = cluster.nodes
    person = person_at(cluster)

    assert run(person, cluster, slot_count=3, target=target.node_id, sources=source.node_id, accept=True)
    assert "?" not in person.seen
    assert person.seen.endswith(
        "\nReady to move 3 slots.\n"
        "  Source nodes:\n"
        f"    M: {source.node_id} {A}\n"
        "       slots:[0-5460] (5461 slots) master\n"
        "  Destination node:\n"
        f"    M: {target.node_id} {B}\n"
        "       slots:[5461-10922] (5462 slots) master\n"
        "  Resharding plan:\n"
        f"    Moving slot 0 from {source.node_id}\n"
        f"    Moving slot 1 from {source.node_id}\n"
        f"    Moving slot 2 from {source.node_id}\n"
        f"Moving slot 0 from {A} to {B}: \n"
        f"Moving slot 1 from {A} to {B}: \n"
        f"Moving slot 2 from {A} to {B}: \n"
    )
    assert {0, 1, 2} <= target.slots


def test_missing_arguments_are_asked_for_in_redis_clis_words() -> None:
    cluster = three_masters()
    one, two, three = cluster.nodes
    person = person_at(
        cluster,
        "0",
        "20000",
        "00000120000",
        "many",
        "4",
        "",
        two.node_id,
        one.node_id,
        two.node_id,
        three.node_id,
        "done",
        "yes",
    )

    assert run(person, cluster)
    questions = "How many slots do you want to move (from 1 to 16384)? "
    assert (
        f"{questions}0\n{questions}20000\n{questions}00000120000\n{questions}many\n{questions}4\n"
        f"What is the receiving node ID? \nWhat is the receiving node ID? {two.node_id}\n"
        "Please enter all the source node IDs.\n"
        "  Type 'all' to use all the nodes as source nodes for the hash slots.\n"
        "  Type 'done' once you entered all the source nodes IDs.\n"
        f"Source node #1: {one.node_id}\n"
        f"Source node #2: {two.node_id}\n"
        "*** It is not possible to use the target node as source node.\n"
        f"Source node #2: {three.node_id}\n"
        "Source node #3: done\n"
        "\nReady to move 4 slots.\n"
    ) in person.seen
    assert "Do you want to proceed with the proposed reshard plan (yes/no)? yes\n" in person.seen
    assert len(two.slots) == 5462 + 4


def test_all_means_every_other_master() -> None:
    cluster = three_masters()
    one, two, three = cluster.nodes

    assert run(person_at(cluster, "all"), cluster, slot_count=10, target=one.node_id, accept=True)
    assert (len(one.slots), len(two.slots), len(three.slots)) == (5471, 5456, 5457)


def test_nodes_may_be_named_by_address_or_by_the_beginning_of_their_id() -> None:
    cluster = three_masters()

    assert run(person_at(cluster), cluster, slot_count=1, target=B, sources=cluster.nodes[0].node_id[:8], accept=True)
    assert 0 in cluster.nodes[1].slots


def test_anything_but_yes_moves_nothing() -> None:
    cluster = three_masters()

    with pytest.raises(Aborted):
        run(person_at(cluster, "no"), cluster, slot_count=1, target=B, sources=A)
    assert 0 in cluster.nodes[0].slots


@pytest.mark.parametrize(("target", "sources"), [("f" * 40, A), (B, "nobody"), (B, f"{A},nobody")])
def test_unknown_nodes(target: str, sources: str) -> None:
    cluster = three_masters()
    person = person_at(cluster)

    assert not run(person, cluster, slot_count=1, target=target, sources=sources, accept=True)
    assert "is not known or not a master, please retry.\n" in person.seen
    assert 0 in cluster.nodes[0].slots


def test_the_target_as_its_only_source() -> None:
    cluster = three_masters()

    with pytest.raises(UsageError, match="No source nodes given, operation aborted"):
        run(person_at(cluster), cluster, slot_count=1, target=B, sources=B, accept=True)


@pytest.mark.parametrize("count", [0, -1, 16385])
def test_a_number_of_slots_out_of_range(count: int) -> None:
    cluster = three_masters()

    with pytest.raises(UsageError, match="from 1 to 16384"):
        run(person_at(cluster), cluster, slot_count=count, target=B, sources=A, accept=True)


def test_a_cluster_with_problems_is_not_resharded() -> None:
    cluster = three_masters()
    cluster.nodes[0].migrating[5] = cluster.nodes[1].node_id

    with pytest.raises(UsageError) as refused:
        run(person_at(cluster), cluster, slot_count=1, target=B, sources=A, accept=True)
    assert str(refused.value) == "*** Please fix your cluster problems before resharding"
    assert "fix 10.0.0.1:7000" in refused.value.hint


def test_a_failure_half_way_says_how_far_it_came_and_what_to_do() -> None:
    cluster = three_masters()

    def dies(_node: ModelNode, command: Sequence[bytes]) -> None:
        if command[1:4] == [b"SETSLOT", b"2", b"MIGRATING"]:
            cluster.nodes[1].is_down = True

    cluster.after = dies
    with pytest.raises(NodeError) as failed:
        run(person_at(cluster), cluster, slot_count=5, target=B, sources=A, accept=True)
    assert failed.value.hint.startswith("2 of 5 slots were moved. Slot 2 may be left open")
    assert f"redis-cluster-cli fix {A}" in failed.value.hint


def test_the_first_interrupt_stops_between_two_slots() -> None:
    cluster = three_masters()

    def interrupts(_node: ModelNode, command: Sequence[bytes]) -> None:
        if command[1:4] == [b"SETSLOT", b"2", b"MIGRATING"]:
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    cluster.after = interrupts
    person = person_at(cluster)
    with pytest.raises(Aborted) as stopped:
        run(person, cluster, slot_count=5, target=B, sources=A, accept=True)

    assert str(stopped.value) == "*** Stopped: 3 of 5 slots moved, none left open."
    assert stopped.value.hint.endswith(f"--from {cluster.nodes[0].node_id} --to {cluster.nodes[1].node_id} --slots 2")
    assert "Press Ctrl-C again" in person.complaints
    assert {0, 1, 2} <= cluster.nodes[1].slots
    assert not any(node.migrating or node.importing for node in cluster.nodes)
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_second_interrupt_stops_at_once() -> None:
    cluster = three_masters()

    def interrupts(_node: ModelNode, command: Sequence[bytes]) -> None:
        if command[1:4] == [b"SETSLOT", b"2", b"MIGRATING"]:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    cluster.after = interrupts
    with pytest.raises(AdminError) as stopped:
        run(person_at(cluster), cluster, slot_count=5, target=B, sources=A, accept=True)
    assert str(stopped.value) == "*** Interrupted."
    assert "Slot 2 may be left open" in stopped.value.hint


def test_moves_are_plain_values() -> None:
    assert SlotMove(1, "a") == SlotMove(1, "a")
