"""``fix``: which remedy fits which evidence, and that applying it leaves a whole cluster with all its keys."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from cluster.admin.connection import Credentials
from cluster.admin.errors import Refused
from cluster.admin.fix import FixOptions, OpenSlot, Remedy, choose_remedy, fix_cluster
from cluster.admin.view import ClusterNode, load_view
from cluster.slots.hashing import key_slot
from tests.admin.cluster_model import ModelCluster
from tests.admin.people import Person, person_at

A, B, C = "10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"
SLOT = key_slot(b"{open}")  # The first node's.
KEYS = [b"{open}:%d" % number for number in range(12)]


def three_masters() -> ModelCluster:
    cluster = ModelCluster()
    for last in (1, 2, 3):
        cluster.add(f"10.0.0.{last}", 7000)
    others = [slot for slot in range(16384) if slot != SLOT]
    cluster.form({A: [SLOT, *others[:5000]], B: others[5000:10000], C: others[10000:]})
    return cluster


def fix(cluster: ModelCluster, *answers: str, **options: bool) -> tuple[bool, Person]:
    person = person_at(cluster, *answers)
    view = load_view(person.context, cluster.nodes[0].address)
    return fix_cluster(person.context, view, FixOptions(**options), random.Random(1)), person  # type: ignore[arg-type]


def assert_whole(cluster: ModelCluster, owner: str) -> None:
    cluster.gossip()
    assert not any(node.migrating or node.importing for node in cluster.nodes)
    holder = next(node for node in cluster.nodes if str(node.address) == owner)
    assert all(node.owners[SLOT] == holder.node_id for node in cluster.nodes)
    assert all(cluster.read(key, node) == key for key in KEYS for node in cluster.nodes)
    assert set(holder.data) >= set(KEYS)


def keys(*numbers: int) -> dict[bytes, bytes]:
    return {KEYS[number]: KEYS[number] for number in numbers}


# Choosing


def evidence(
    migrating: str = "", importing: str = "", owner: str = "a", target: str = "b", holds: str = ""
) -> OpenSlot:
    cluster = ModelCluster()
    nodes: dict[str, ClusterNode] = {}
    for name in "abcd":
        model = cluster.add(name, 7000, name)
        link = cluster.open_link(model.address, Credentials())
        nodes[name] = ClusterNode(link, name, 17000, ("master",), None, 1, set(), {SLOT: target}, {})
    return OpenSlot(
        slot=SLOT,
        owner=nodes[owner],
        owners=[nodes[owner]],
        migrating=[nodes[name] for name in migrating],
        importing=[nodes[name] for name in importing],
        key_counts={name: int(name in holds) for name in nodes},
    )


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (evidence(migrating="a", importing="b", holds="ab"), Remedy.MOVE),
        (evidence(importing="b", holds="b"), Remedy.COLLECT),
        (evidence(importing="bc"), Remedy.COLLECT),
        (evidence(migrating="a", importing="bc"), Remedy.MOVE_AND_CLOSE_OTHERS),
        (evidence(migrating="a", importing="bc", target="d"), Remedy.CLOSE_EVERYWHERE),
        (evidence(migrating="a", importing="bc", holds="c"), Remedy.UNKNOWN),
        (evidence(migrating="a", holds="a"), Remedy.CLOSE_SOURCE),
        (evidence(migrating="b", owner="a"), Remedy.CLOSE_SOURCE),
        (evidence(migrating="b", owner="a", holds="b"), Remedy.UNKNOWN),
        (evidence(migrating="ab", importing="c"), Remedy.UNKNOWN),
    ],
)
def test_the_remedy_follows_from_the_evidence(found: OpenSlot, expected: Remedy) -> None:
    """The cases of clusterManagerFixOpenSlot in redis-cli.c."""
    assert choose_remedy(found) is expected


# Applying


def half_migrated(cluster: ModelCluster) -> str:
    one, two, _ = cluster.nodes
    one.migrating, two.importing = {SLOT: two.node_id}, {SLOT: one.node_id}
    one.data, two.data = keys(*range(6)), keys(*range(6, 12))
    return ">>> Case 1: Moving slot"


def only_importing(cluster: ModelCluster) -> str:
    one, two, _ = cluster.nodes
    two.importing = {SLOT: one.node_id}
    one.data, two.data = keys(*range(6)), keys(*range(6, 12))
    return ">>> Case 2: Moving all the"


def several_importing(cluster: ModelCluster) -> str:
    one, two, three = cluster.nodes
    one.migrating = {SLOT: two.node_id}
    two.importing = three.importing = {SLOT: one.node_id}
    three.importing = dict(two.importing)
    one.data = keys(*range(12))
    return ">>> Case 3: Moving slot"


def migrating_to_nobody(cluster: ModelCluster) -> str:
    one, two, _ = cluster.nodes
    one.migrating, one.data = {SLOT: two.node_id}, keys(*range(12))
    return ">>> Case 4: Closing slot"


def two_owners(cluster: ModelCluster) -> str:
    one, two, _ = cluster.nodes
    two.owners[SLOT] = two.node_id
    one.migrating = {SLOT: two.node_id}
    one.data, two.data = keys(0, 1), keys(*range(2, 12))
    return "selecting an owner by # of keys..."


@pytest.mark.parametrize(
    ("damage", "owner"),
    [(half_migrated, B), (only_importing, A), (several_importing, B), (migrating_to_nobody, A), (two_owners, B)],
)
def test_an_open_slot_is_closed_and_its_keys_are_in_one_place(
    damage: Callable[[ModelCluster], str], owner: str
) -> None:
    cluster = three_masters()
    announced = damage(cluster)
    fixed, person = fix(cluster)

    assert fixed, person.seen
    assert announced in person.seen
    assert_whole(cluster, owner)


def test_stray_keys_beside_a_migration_are_gathered_at_the_owner() -> None:
    cluster = three_masters()
    several_importing(cluster)
    del cluster.nodes[0].data[KEYS[5]]
    cluster.nodes[2].data = keys(5)
    fixed, person = fix(cluster)

    assert fixed, person.seen
    assert_whole(cluster, A)


def test_a_half_done_migration_is_finished_with_every_key_readable_at_every_step() -> None:
    """redis-cli would first close the slot on the source, and hide what has moved."""
    cluster = three_masters()
    half_migrated(cluster)
    looks: list[bool] = []
    cluster.after = lambda node, command: looks.append(all(cluster.read(key, cluster.nodes[2]) == key for key in KEYS))
    fixed, _ = fix(cluster)

    assert fixed
    assert len(looks) > 20
    assert all(looks)


def test_uncovered_slots_without_keys_go_to_any_master_when_accepted() -> None:
    cluster = three_masters()
    for node in cluster.nodes:
        del node.owners[SLOT]
    fixed, person = fix(cluster, "yes")

    assert fixed, person.seen
    assert f"The following uncovered slots have no keys across the cluster:\n[{SLOT}]\n" in person.seen
    assert sum(SLOT in node.slots for node in cluster.nodes) == 1


def test_uncovered_slots_stay_so_when_not_accepted() -> None:
    cluster = three_masters()
    for node in cluster.nodes:
        del node.owners[SLOT]
    fixed, person = fix(cluster, "no")

    assert not fixed
    assert f"[ERR] Still not covered: [{SLOT}]\n" in person.seen


def test_uncovered_slots_with_keys_go_where_the_keys_are() -> None:
    cluster = three_masters()
    for node in cluster.nodes:
        del node.owners[SLOT]
    cluster.nodes[2].data = keys(*range(12))
    fixed, person = fix(cluster, "yes")

    assert fixed, person.seen
    assert_whole(cluster, C)


def test_uncovered_slots_with_keys_in_several_nodes_are_gathered_where_most_are() -> None:
    cluster = three_masters()
    for node in cluster.nodes:
        del node.owners[SLOT]
    cluster.nodes[1].data, cluster.nodes[2].data = keys(*range(4)), keys(*range(4, 12))
    fixed, person = fix(cluster, "yes")

    assert fixed, person.seen
    assert_whole(cluster, C)


def test_stray_keys_are_brought_home_when_looked_for() -> None:
    cluster = three_masters()
    cluster.nodes[0].data, cluster.nodes[1].data = keys(*range(8)), keys(*range(8, 12))
    fixed, person = fix(cluster, search_multiple_owners=True)

    assert fixed, person.seen
    assert_whole(cluster, A)


def test_with_a_master_out_of_reach_nothing_is_touched() -> None:
    """Its slots would look uncovered, and be given away."""
    cluster = three_masters()
    half_migrated(cluster)
    cluster.nodes[2].is_down = True

    with pytest.raises(Refused, match="with 1 unreachable masters is dangerous"):
        fix(cluster)
    assert SLOT in cluster.nodes[0].migrating


def test_a_healthy_cluster_is_only_looked_at() -> None:
    cluster = three_masters()
    fixed, _ = fix(cluster)

    assert fixed
    asked = {words[0] + b" " + words[1] if words[0] == b"CLUSTER" else words[0] for _, words in cluster.trace}
    assert asked == {b"INFO", b"DBSIZE", b"CLUSTER NODES"}
