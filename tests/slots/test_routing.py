"""Who runs a command: one test per rule of getNodeByQuery, and the fast map against the full decision."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.slots.hashing import SLOT_COUNT, key_slot
from cluster.slots.ranges import slots_to_bitmap
from cluster.slots.routing import (
    Ask,
    EndpointType,
    Moved,
    Outcome,
    Refusal,
    Request,
    RoutingPolicy,
    Serve,
    build_fast_map,
    build_replica_read_map,
    preferred_endpoint,
    refusal_text,
    route,
    route_blocked,
)

FOO = 12182  # key_slot(b"foo")
BAR = 5061


@attrs.frozen(eq=False)
class Node:
    ip: str = "10.0.0.1"
    port: int = 7000
    hostname: str = ""
    master: "Node | None" = None
    slots: bytearray = attrs.field(factory=lambda: bytearray(2048))


ME = Node()
OTHER = Node(ip="10.0.0.2", port=7001, hostname="two.example")
THIRD = Node(ip="10.0.0.3", port=7002)


@attrs.define
class Table:
    """A slot table of three nodes; ``keys`` are those stored on this one."""

    health: int = 0
    myself: Node = ME
    owners: list[Node | None] = attrs.field(factory=lambda: [ME] * SLOT_COUNT)
    migrating: dict[int, Node] = attrs.field(factory=dict)
    importing: dict[int, Node] = attrs.field(factory=dict)
    keys: set[bytes] = attrs.field(factory=set)
    policy: RoutingPolicy = attrs.field(factory=RoutingPolicy)

    def write_bitmaps(self) -> None:
        """Give each node the bitmap that follows from ``owners``."""
        for node in (ME, OTHER, THIRD, self.myself):
            node.slots[:] = slots_to_bitmap(slot for slot, owner in enumerate(self.owners) if owner is node)

    def route(self, *keys: bytes, **flags: bool) -> Outcome[Node]:
        return route(self, Request(keys, **flags), lambda key, slot: key in self.keys, self.policy)


def owned_by(node: Node | None) -> Table:
    return Table(owners=[node] * SLOT_COUNT)


def migrating(*keys: bytes) -> Table:
    return Table(migrating={FOO: OTHER}, keys=set(keys))


def importing(*keys: bytes) -> Table:
    table = owned_by(OTHER)
    table.importing[FOO] = OTHER
    table.keys = set(keys)
    return table


def replica_of(node: Node) -> Table:
    return Table(myself=Node(master=node), owners=[OTHER] * SLOT_COUNT)


def test_a_command_without_keys_runs_here_whatever_happens() -> None:
    table = owned_by(None)
    table.health = 1

    assert table.route() is Serve.HERE


def test_my_slots_are_served_and_others_moved() -> None:
    assert Table().route(b"foo") is Serve.HERE
    assert owned_by(OTHER).route(b"foo") == Moved(FOO, OTHER)


def test_keys_of_several_slots_are_refused() -> None:
    assert Table().route(b"foo", b"bar") is Refusal.CROSS_SLOT
    assert owned_by(OTHER).route(b"foo", b"bar") is Refusal.CROSS_SLOT
    assert Table().route(b"{foo}1", b"{foo}2", b"foo") is Serve.HERE


def test_an_unbound_slot_is_reported_ahead_of_the_state_and_of_crossslot() -> None:
    table = owned_by(None)
    table.health = 1

    assert table.route(b"foo", b"bar") is Refusal.SLOT_NOT_SERVED


def test_crossslot_is_reported_ahead_of_the_state() -> None:
    assert Table(health=1).route(b"foo", b"bar") is Refusal.CROSS_SLOT


def test_while_down_nothing_with_keys_runs() -> None:
    assert Table(health=1).route(b"foo") is Refusal.CLUSTER_DOWN
    assert Table(health=1).route(b"foo", is_write=True) is Refusal.CLUSTER_DOWN


def test_reads_may_be_allowed_while_down() -> None:
    table = Table(health=1, policy=RoutingPolicy(allow_reads_when_down=True))

    assert table.route(b"foo") is Serve.HERE
    assert table.route(b"foo", is_write=True) is Refusal.CLUSTER_READ_ONLY
    # EXEC itself is no write command; its writes were refused when they were queued.
    assert table.route(b"foo", queues_write=True) is Serve.HERE


def test_shard_pubsub_while_down_has_its_own_setting() -> None:
    allowed = Table(health=1)
    refused = Table(health=1, policy=RoutingPolicy(allow_reads_when_down=True, allow_pubsubshard_when_down=False))

    assert allowed.route(b"foo", is_shard_pubsub=True) is Serve.HERE
    assert refused.route(b"foo", is_shard_pubsub=True) is Refusal.CLUSTER_DOWN


class TestMigratingSlot:
    def test_keys_still_here_are_served(self) -> None:
        assert migrating(b"foo").route(b"foo") is Serve.HERE
        assert migrating(b"foo", b"{foo}1").route(b"foo", b"{foo}1", is_write=True) is Serve.HERE

    def test_missing_keys_are_asked_for_at_the_target(self) -> None:
        assert migrating().route(b"foo") == Ask(FOO, OTHER)
        assert migrating().route(b"foo", b"{foo}1") == Ask(FOO, OTHER)

    def test_some_here_some_not_is_tryagain(self) -> None:
        assert migrating(b"foo").route(b"foo", b"{foo}1") is Refusal.TRY_AGAIN

    def test_one_missing_key_named_twice_is_still_asked_for(self) -> None:
        assert migrating().route(b"foo", b"foo") == Ask(FOO, OTHER)

    def test_migrate_runs_here(self) -> None:
        assert migrating().route(b"foo", is_migrate=True, is_write=True) is Serve.HERE

    def test_shard_channels_stay_here(self) -> None:
        assert migrating().route(b"foo", is_shard_pubsub=True) is Serve.HERE

    def test_other_slots_are_not_touched_by_it(self) -> None:
        assert migrating().route(b"bar") is Serve.HERE

    def test_asking_changes_nothing(self) -> None:
        assert migrating().route(b"foo", is_asking=True) == Ask(FOO, OTHER)

    def test_a_left_over_migrating_mark_on_a_slot_of_another_node_is_ignored(self) -> None:
        table = owned_by(OTHER)
        table.migrating[FOO] = THIRD

        assert table.route(b"foo") == Moved(FOO, OTHER)


class TestImportingSlot:
    def test_without_asking_it_is_moved(self) -> None:
        assert importing(b"foo").route(b"foo") == Moved(FOO, OTHER)

    def test_with_asking_it_is_served(self) -> None:
        assert importing().route(b"foo", is_asking=True) is Serve.HERE
        assert importing(b"foo", b"{foo}1").route(b"foo", b"{foo}1", is_asking=True) is Serve.HERE

    def test_asking_for_several_keys_that_are_not_all_here_is_tryagain(self) -> None:
        assert importing(b"foo").route(b"foo", b"{foo}1", is_asking=True) is Refusal.TRY_AGAIN
        assert importing().route(b"foo", b"{foo}1", is_asking=True) is Refusal.TRY_AGAIN
        assert importing().route(b"foo", b"foo", is_asking=True) is Serve.HERE

    def test_migrate_runs_here(self) -> None:
        assert importing().route(b"foo", is_migrate=True) is Serve.HERE

    def test_asking_for_a_slot_that_is_not_being_imported_is_moved(self) -> None:
        assert importing().route(b"bar", is_asking=True) == Moved(BAR, OTHER)

    def test_an_importing_mark_on_my_own_slot_still_serves(self) -> None:
        table = Table(importing={FOO: OTHER})

        assert table.route(b"foo", b"{foo}1") is Serve.HERE
        assert table.route(b"foo", b"{foo}1", is_asking=True) is Refusal.TRY_AGAIN


class TestReplica:
    def test_readonly_sessions_read_the_masters_slots(self) -> None:
        assert replica_of(OTHER).route(b"foo", is_readonly_session=True) is Serve.HERE

    def test_everybody_else_is_moved(self) -> None:
        assert replica_of(OTHER).route(b"foo") == Moved(FOO, OTHER)
        assert replica_of(THIRD).route(b"foo", is_readonly_session=True) == Moved(FOO, OTHER)

    def test_writes_are_moved(self) -> None:
        assert replica_of(OTHER).route(b"foo", is_readonly_session=True, is_write=True) == Moved(FOO, OTHER)
        assert replica_of(OTHER).route(b"foo", is_readonly_session=True, queues_write=True) == Moved(FOO, OTHER)

    def test_shard_channels_need_no_readonly(self) -> None:
        assert replica_of(OTHER).route(b"foo", is_shard_pubsub=True) is Serve.HERE


class TestBlockedClient:
    def test_while_down_it_is_told_so(self) -> None:
        table = Table(health=1, policy=RoutingPolicy(allow_reads_when_down=True))

        assert route_blocked(table, b"foo", is_readonly_session=False, is_write=True) is Refusal.CLUSTER_DOWN

    def test_it_waits_while_the_slot_is_mine_or_coming(self) -> None:
        assert route_blocked(Table(), b"foo", is_readonly_session=False, is_write=True) is None
        assert route_blocked(importing(), b"foo", is_readonly_session=False, is_write=True) is None

    def test_it_is_sent_after_a_slot_that_left(self) -> None:
        moved = route_blocked(owned_by(OTHER), b"foo", is_readonly_session=False, is_write=True)

        assert moved == Moved(FOO, OTHER)
        unbound = route_blocked(owned_by(None), b"foo", is_readonly_session=False, is_write=True)
        assert unbound is Refusal.SLOT_NOT_SERVED

    def test_a_reader_may_wait_on_a_replica(self) -> None:
        table = replica_of(OTHER)

        assert route_blocked(table, b"foo", is_readonly_session=True, is_write=False) is None
        assert route_blocked(table, b"foo", is_readonly_session=True, is_write=True) == Moved(FOO, OTHER)


@pytest.mark.parametrize(
    ("endpoint_type", "node", "name"),
    [
        (EndpointType.IP, OTHER, "10.0.0.2"),
        (EndpointType.HOSTNAME, OTHER, "two.example"),
        (EndpointType.HOSTNAME, THIRD, "?"),
        (EndpointType.UNKNOWN, OTHER, ""),
    ],
)
def test_endpoints(endpoint_type: EndpointType, node: Node, name: str) -> None:
    assert preferred_endpoint(node, endpoint_type) == name


def test_texts() -> None:
    assert refusal_text(Moved(FOO, OTHER), EndpointType.IP) == b"MOVED 12182 10.0.0.2:7001"
    assert refusal_text(Moved(FOO, OTHER), EndpointType.UNKNOWN) == b"MOVED 12182 :7001"
    assert refusal_text(Ask(FOO, OTHER), EndpointType.HOSTNAME) == b"ASK 12182 two.example:7001"
    assert refusal_text(Refusal.CROSS_SLOT, EndpointType.IP) == (
        b"CROSSSLOT Keys in request don't hash to the same slot"
    )


def test_the_fast_map_is_one_for_exactly_my_stable_slots() -> None:
    table = Table()
    table.owners[7] = OTHER
    table.owners[16383] = None
    table.migrating[FOO] = OTHER
    table.importing[BAR] = OTHER
    table.write_bitmaps()

    fast = build_fast_map(table)

    assert {slot for slot in range(SLOT_COUNT) if not fast[slot]} == {7, 16383, FOO, BAR}
    assert len(fast) == SLOT_COUNT
    assert sum(build_fast_map(Table(health=1))) == 0
    assert sum(build_replica_read_map(table)) == 0


def test_the_replica_read_map_is_one_for_my_masters_slots() -> None:
    table = replica_of(OTHER)
    table.owners[7] = THIRD
    table.write_bitmaps()

    readable = build_replica_read_map(table)

    assert sum(readable) == SLOT_COUNT - 1
    assert not readable[7]
    assert sum(build_fast_map(table)) == 0


nodes = st.sampled_from([ME, OTHER, THIRD, None])


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Tables in which the slots of foo and bar are in any state, also senseless ones."""
    table = owned_by(draw(nodes))
    for slot in (FOO, BAR):
        table.owners[slot] = draw(nodes)
        if draw(st.booleans()):
            table.migrating[slot] = OTHER
        if draw(st.booleans()):
            table.importing[slot] = THIRD
    table.health = draw(st.sampled_from([0, 1]))
    if draw(st.booleans()):
        table.myself = draw(st.sampled_from([Node(master=OTHER), Node(master=THIRD)]))
    table.keys = draw(st.sets(st.sampled_from([b"foo", b"bar", b"{foo}1", b"{bar}1"])))
    return table


@given(
    tables(),
    st.lists(st.sampled_from([b"foo", b"{foo}1", b"bar", b"{bar}1", b"x"]), min_size=1, max_size=3),
    st.fixed_dictionaries(
        {
            "is_write": st.booleans(),
            "is_asking": st.booleans(),
            "is_readonly_session": st.booleans(),
            "is_migrate": st.booleans(),
            "is_shard_pubsub": st.booleans(),
        }
    ),
)
def test_the_fast_maps_promise_nothing_that_route_would_not(
    table: Table, keys: list[bytes], flags: dict[str, bool]
) -> None:
    outcome = table.route(*keys, **flags)

    if len({key_slot(key) for key in keys}) > 1:
        assert outcome in (Refusal.CROSS_SLOT, Refusal.SLOT_NOT_SERVED)
        return
    slot = key_slot(keys[0])
    table.write_bitmaps()
    if build_fast_map(table)[slot]:
        assert outcome is Serve.HERE
    if build_replica_read_map(table)[slot] and not flags["is_write"] and flags["is_readonly_session"]:
        assert outcome is Serve.HERE
