"""Moving one slot: every key reachable at every step, the slot never without owner, whatever dies when."""

from __future__ import annotations

import random
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.admin.connection import Credentials
from cluster.admin.errors import AdminError, NodeError, Refused
from cluster.admin.errors import ReplyError as RefusedByNode
from cluster.admin.fix import FixOptions, fix_cluster
from cluster.admin.slot_move import MoveOptions, SlotMover, migrate_command
from cluster.admin.view import ClusterView, load_view
from cluster.slots.hashing import key_slot
from tests.admin.cluster_model import ModelCluster, ModelNode
from tests.admin.people import person_at

SLOT = key_slot(b"{moving}")
KEYS = [b"{moving}:%d" % number for number in range(25)]
BUSYKEY = b"{moving}:3"


@attrs.define
class Scene:
    """Three masters; the first holds 25 keys of one slot, which is to go to the second."""

    cluster: ModelCluster
    source: ModelNode
    target: ModelNode
    other: ModelNode

    def view(self) -> ClusterView:
        return load_view(person_at(self.cluster).context, self.other.address)

    def move(self, options: MoveOptions | None = None, credentials: Credentials | None = None) -> int:
        person = person_at(self.cluster, credentials=credentials)
        view = load_view(person.context, self.other.address)
        source, target = view.by_id(self.source.node_id), view.by_id(self.target.node_id)
        assert source is not None and target is not None
        self.cluster.trace.clear()
        return SlotMover(person.context, view, options or MoveOptions()).move(SLOT, source, target)

    def everything_is_readable(self) -> bool:
        return all(self.cluster.read(key, node) == key for key in KEYS for node in self.cluster.nodes)

    def steps(self) -> list[str]:
        """The commands of the last move that change something, by who got them."""
        names = {str(self.source.address): "source", str(self.target.address): "target"}
        return [
            f"{names.get(address, 'other')}: {words[1].decode() + ' ' if words[0] == b'CLUSTER' else ''}"
            + (words[3] if words[0] == b"CLUSTER" else words[0]).decode()
            for address, words in self.cluster.trace
            if words[0] == b"MIGRATE" or words[1] == b"SETSLOT"
        ]


def given_scene(**of_nodes: object) -> Scene:
    cluster = ModelCluster()
    source, target, other = (cluster.add(f"10.0.0.{last}", 7000) for last in (1, 2, 3))
    half = range(8192)
    cluster.form(
        {
            str(source.address): [s for s in range(16384) if s not in half or s == SLOT],
            str(other.address): [s for s in half if s != SLOT],
        }
    )
    source.data = {key: key for key in KEYS}
    for node in cluster.nodes:
        for name, value in of_nodes.items():
            setattr(node, name, value)
    return Scene(cluster, source, target, other)


def test_the_order_of_the_steps() -> None:
    """Cluster spec, live reconfiguration; the target is told of its new slot before the source."""
    scene = given_scene()

    assert scene.move() == 25
    assert scene.steps() == [
        "target: SETSLOT IMPORTING",
        "source: SETSLOT MIGRATING",
        "source: MIGRATE",
        "source: MIGRATE",
        "source: MIGRATE",
        "target: SETSLOT NODE",
        "source: SETSLOT NODE",
        "other: SETSLOT NODE",
    ]
    assert scene.source.data == {}
    assert all(node.owners[SLOT] == scene.target.node_id for node in scene.cluster.nodes)
    assert not scene.source.migrating and not scene.target.importing


def test_every_key_is_readable_through_every_node_after_every_step() -> None:
    scene = given_scene()
    looks: list[bool] = []
    scene.cluster.after = lambda _node, _command: looks.append(scene.everything_is_readable())
    scene.move(MoveOptions(pipeline=3))

    assert len(looks) > 20
    assert all(looks)


@settings(max_examples=40)
@given(st.integers(1, 25), st.integers(0, 60), st.booleans())
def test_a_tool_that_dies_at_any_step_loses_nothing_and_fix_finishes_its_work(
    pipeline: int, steps_done: int, gossip_comes_first: bool
) -> None:
    scene = given_scene()
    left = steps_done

    def dies(_node: ModelNode, command: Sequence[bytes]) -> None:
        nonlocal left
        if scene.cluster.trace and left == 0:
            raise KeyboardInterrupt
        left -= 1

    scene.view()
    scene.cluster.before = dies
    try:
        scene.move(MoveOptions(pipeline=pipeline))
    except KeyboardInterrupt:
        pass
    scene.cluster.before = lambda _node, _command: None
    assert scene.everything_is_readable()

    if gossip_comes_first:
        scene.cluster.gossip()
    person = person_at(scene.cluster)
    view = load_view(person.context, scene.other.address)
    assert fix_cluster(person.context, view, FixOptions(), random.Random(1)), person.seen
    scene.cluster.gossip()
    assert scene.everything_is_readable()
    assert not any(node.migrating or node.importing for node in scene.cluster.nodes)


@pytest.mark.parametrize("victim", ["source", "target"])
@pytest.mark.parametrize("at_step", range(12))
def test_a_node_that_dies_at_any_step_is_reported_as_such(victim: str, at_step: int) -> None:
    scene = given_scene()
    count = 0

    def dies(_node: ModelNode, _command: Sequence[bytes]) -> None:
        nonlocal count
        count += 1
        if count > at_step:
            getattr(scene, victim).is_down = True

    person = person_at(scene.cluster)
    view = load_view(person.context, scene.other.address)
    source, target = view.by_id(scene.source.node_id), view.by_id(scene.target.node_id)
    assert source is not None and target is not None
    scene.cluster.after = dies
    try:
        SlotMover(person.context, view, MoveOptions()).move(SLOT, source, target)
    except NodeError as error:
        assert str(getattr(scene, victim).address) in str(error) or "IOERR" in str(error)
    else:
        # It died after it had done its part.
        assert all(node.owners[SLOT] == scene.target.node_id for node in scene.cluster.nodes)


def test_a_dead_bystander_stops_nothing() -> None:
    scene = given_scene()
    person = person_at(scene.cluster)
    view = load_view(person.context, scene.source.address)
    source, target = view.by_id(scene.source.node_id), view.by_id(scene.target.node_id)
    assert source is not None and target is not None
    scene.other.is_down = True

    assert SlotMover(person.context, view, MoveOptions()).move(SLOT, source, target) == 25
    assert "Going on without 10.0.0.3:7000" in person.complaints


def test_a_source_that_cannot_migrate_leaves_the_target_closed() -> None:
    scene = given_scene()
    scene.source.owners[SLOT] = scene.other.node_id  # It lost the slot since we looked.

    with pytest.raises(RefusedByNode, match="I'm not the owner of hash slot"):
        scene.move()
    assert not scene.target.importing


def test_a_source_that_became_a_replica_is_no_error() -> None:
    """With its last slot gone it follows the target by itself (redis/redis#9223)."""
    scene = given_scene()

    def follows(node: ModelNode, command: Sequence[bytes]) -> None:
        if node is scene.target and command[1:4] == [b"SETSLOT", b"%d" % SLOT, b"NODE"]:
            scene.source.master_id = scene.target.node_id

    scene.cluster.after = follows

    assert scene.move() == 25


def test_a_key_that_is_on_both_sides_with_one_value_is_replaced() -> None:
    scene = given_scene()
    scene.target.data[BUSYKEY] = BUSYKEY

    assert scene.move() == 25
    assert scene.everything_is_readable()


def test_without_debug_equal_values_are_recognised_by_their_dump() -> None:
    """Redis 7 refuses DEBUG by default; redis-cli gives up there."""
    scene = given_scene(debug_allowed=False)
    scene.target.data[BUSYKEY] = BUSYKEY

    assert scene.move() == 25


@pytest.mark.parametrize("debug_allowed", [True, False])
def test_a_key_with_two_values_is_left_for_a_person_to_decide(debug_allowed: bool) -> None:
    scene = given_scene(debug_allowed=debug_allowed)
    scene.target.data[BUSYKEY] = b"another value"

    with pytest.raises(Refused) as refused:
        scene.move()
    assert f"    - {BUSYKEY.decode()}\n" in str(refused.value)
    assert "--replace" in str(refused.value)
    assert scene.source.data[BUSYKEY] == BUSYKEY
    assert scene.target.data[BUSYKEY] == b"another value"


def test_replace_takes_the_sources_value() -> None:
    scene = given_scene()
    scene.target.data[BUSYKEY] = b"another value"

    assert scene.move(MoveOptions(replace=True)) == 25
    assert scene.target.data[BUSYKEY] == BUSYKEY


def test_keys_that_are_listed_but_cannot_be_migrated_end_in_an_error_not_in_a_loop() -> None:
    scene = given_scene()

    def vanish(node: ModelNode, command: Sequence[bytes]) -> None:
        node.data.clear() if command[0] == b"MIGRATE" else node.data.update({b"{moving}:ghost": b""})

    scene.source.data.clear()
    scene.cluster.before = lambda node, command: vanish(node, command) if node is scene.source else None

    with pytest.raises(Refused, match="cannot migrate"):
        scene.move()


@pytest.mark.parametrize(
    ("credentials", "replace", "expected"),
    [
        (Credentials(), False, ["KEYS", b"k"]),
        (Credentials("pw"), False, ["AUTH", "pw", "KEYS", b"k"]),
        (Credentials("pw", "admin"), True, ["REPLACE", "AUTH2", "admin", "pw", "KEYS", b"k"]),
        (Credentials(None, "admin"), False, ["KEYS", b"k"]),
    ],
)
def test_migrate_logs_in_at_the_target_as_we_did(
    credentials: Credentials, replace: bool, expected: list[object]
) -> None:
    scene = given_scene()
    target = scene.view().by_id(scene.target.node_id)
    assert target is not None
    command = migrate_command(target, [b"k"], 60000, replace, credentials)

    assert command == ["MIGRATE", "10.0.0.2", 7000, "", 0, 60000, *expected]


def test_a_target_that_wants_a_password_gets_it() -> None:
    scene = given_scene(password="secret")

    assert scene.move(credentials=Credentials("secret")) == 25


def test_errors_of_the_migration_itself_are_not_swallowed() -> None:
    scene = given_scene()

    def locks(_node: ModelNode, command: Sequence[bytes]) -> None:
        if command[0] == b"MIGRATE":
            scene.target.password = "secret"

    scene.cluster.before = locks

    with pytest.raises(AdminError, match="NOAUTH"):
        scene.move()


def test_a_cluster_that_is_down_for_a_moment_is_waited_for() -> None:
    """A failover elsewhere makes every node refuse, for as long as it takes."""
    scene = given_scene()
    scene.target.refuses_restore_for = 50

    assert scene.move() == 25


def test_a_cluster_that_stays_down_is_not_waited_for_in_vain() -> None:
    scene = given_scene()
    scene.target.refuses_restore_for = 10_000

    with pytest.raises(RefusedByNode, match="CLUSTERDOWN The cluster is down"):
        scene.move()
    assert scene.everything_is_readable()
