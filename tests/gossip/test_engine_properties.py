"""Whatever peers, operators and the clock do to an engine, it raises nothing and its records stay sound."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.errors import CommandError
from cluster.failover.engine import ClusterEngine
from cluster.failover.operations import FailoverMode
from cluster.gossip.effects import CloseLink, Effect, OpenLink, SaveConfig, Send, StartReplication, StopReplication
from cluster.gossip.messages import (
    EMPTY,
    Body,
    Fail,
    Gossip,
    GossipEntry,
    Header,
    Message,
    MessageFlags,
    MessageType,
    Module,
    Publish,
    Update,
)
from cluster.gossip.nodes_conf import format_nodes_conf, parse
from cluster.gossip.state import ClusterState, Link, Node, NodeFlags, new_state
from cluster.gossip.wire import decode, encode
from cluster.settings import Settings
from cluster.simulation.checker import inconsistency
from cluster.simulation.node import SimulatedData
from cluster.slots.hashing import SLOT_COUNT
from cluster.slots.ranges import slots_to_bitmap
from tests.support.engines import START_MS, TIMEOUT_MS, UNIX_OFFSET_MS, assert_order, node_id

MY_ID = node_id("m")
IDS = [node_id(letter) for letter in "abcmyz"]
SLOTS = [0, 1, 2, 3, 8191, SLOT_COUNT - 1]
HOSTS = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "", "::1", "host-name", "two words", "x" * 46, "line\nbreak"]

ids = st.sampled_from([*IDS, *IDS, "", "short", "A" * 40, "not hex, forty characters long at the end"])
hosts = st.sampled_from(HOSTS)
ports = st.sampled_from([0, 1, 6379, 7000, 16379, 65535])
epochs = st.one_of(st.integers(0, 8), st.sampled_from([(1 << 63) - 1, 1 << 63, (1 << 64) - 1]))
bitmaps = st.builds(slots_to_bitmap, st.sets(st.sampled_from(SLOTS)))
flags = st.builds(NodeFlags, st.one_of(st.sampled_from([1, 2, 5, 9, 10, 33, 65]), st.integers(0, 0xFFFF)))

entries = st.builds(
    GossipEntry,
    node_id=ids,
    ping_sent_s=st.integers(0, 2**32 - 1),
    pong_received_s=st.one_of(st.integers(0, 2**32 - 1), st.just((START_MS + UNIX_OFFSET_MS) // 1000)),
    ip=hosts,
    port=ports,
    cport=ports,
    flags=flags,
    pport=ports,
)
gossip = st.builds(
    Gossip,
    entries=st.lists(entries, max_size=4).map(tuple),
    hostname=st.none() | hosts,
    unknown_extensions=st.lists(st.integers(1, 9), max_size=2).map(tuple),
)
bodies: dict[MessageType, st.SearchStrategy[Body]] = {
    MessageType.PING: gossip,
    MessageType.PONG: gossip,
    MessageType.MEET: gossip,
    MessageType.FAIL: st.builds(Fail, ids),
    MessageType.PUBLISH: st.builds(Publish, st.binary(max_size=4), st.binary(max_size=4)),
    MessageType.PUBLISHSHARD: st.builds(Publish, st.binary(max_size=4), st.binary(max_size=4)),
    MessageType.UPDATE: st.builds(Update, ids, epochs, bitmaps),
    MessageType.MODULE: st.builds(Module, st.integers(0, 9), st.integers(0, 255), st.binary(max_size=4)),
    MessageType.FAILOVER_AUTH_REQUEST: st.just(EMPTY),
    MessageType.FAILOVER_AUTH_ACK: st.just(EMPTY),
    MessageType.MFSTART: st.just(EMPTY),
}


@st.composite
def messages(draw: st.DrawFn) -> Message:
    kind = draw(st.one_of(st.sampled_from([MessageType.PING, MessageType.PONG]), st.sampled_from(MessageType)))
    header = Header(
        type=kind,
        sender=draw(ids),
        current_epoch=draw(epochs),
        config_epoch=draw(epochs),
        repl_offset=draw(st.sampled_from([0, 1, 100, (1 << 64) - 1])),
        slots=draw(bitmaps),
        master_id=draw(st.none() | st.none() | ids),
        flags=draw(flags),
        state=draw(st.integers(0, 255)),
        port=draw(ports),
        cport=draw(ports),
        pport=draw(ports),
        my_ip=draw(hosts),
        mflags=MessageFlags(draw(st.integers(0, 3))),
    )
    return Message(header, draw(bodies[kind]))


class AnyEngine(RuleBasedStateMachine):
    """One engine, given everything in any order."""

    @initialize(
        role=st.sampled_from(["alone", "master", "replica"]),
        timeout_ms=st.sampled_from([100, TIMEOUT_MS]),
        full_coverage=st.booleans(),
        migration=st.booleans(),
        slots=st.sets(st.sampled_from(SLOTS)),
    )
    def start(self, role: str, timeout_ms: int, full_coverage: bool, migration: bool, slots: set[int]) -> None:
        self.settings = Settings()
        self.settings.cluster_node_timeout = timeout_ms
        self.settings.cluster_require_full_coverage = full_coverage
        self.settings.cluster_allow_replica_migration = migration
        self.now_ms = START_MS
        self.data = SimulatedData()
        self.rng = random.Random(1)
        self.links: list[Link] = []
        state = new_state(MY_ID, self.now_ms)
        if role != "alone":
            self._introduce(state, role)
        for slot in slots if role != "replica" else ():
            state.assign_slot(slot, state.myself)
        self._run(state_text=format_nodes_conf(state))

    def _introduce(self, state: ClusterState, role: str) -> None:
        """A cluster of two other masters with slots, a replica of one of them, and a replica of mine."""
        peers = [Node(node_id(letter), NodeFlags.MASTER, ip="10.0.0.1", port=7000, cport=17000) for letter in "abcy"]
        a, b, c, y = peers
        for number, peer in enumerate(peers, 1):
            peer.config_epoch = number
            state.add_node(peer)
        for slot in range(SLOT_COUNT):
            state.assign_slot(slot, a if slot < 8000 else b)
        for replica, master in ((c, a), (y, b if role == "replica" else state.myself)):
            state.turn_into_replica(replica)
            state.set_replica_of(replica, master)
        if role == "replica":
            state.turn_into_replica(state.myself)
            state.set_replica_of(state.myself, a)
            a.flags |= NodeFlags.FAIL
        state.current_epoch = 4

    def _run(self, state_text: str) -> None:
        self.engine = ClusterEngine(
            parse(state_text, self.now_ms).state,
            self.settings,
            self.data,
            self.rng,
            self.now_ms,
            self.now_ms + UNIX_OFFSET_MS,
        )

    def _do(self, effects: Sequence[Effect]) -> None:
        batch = [*effects, *self.engine.before_sleep(self.now_ms)]
        assert_order(batch)
        for effect in batch:
            match effect:
                case OpenLink(link, host, port):
                    assert host or port >= 0
                    self.links.append(link)
                case CloseLink(link):
                    assert not link.is_open
                case Send(links, message):
                    assert links
                    assert decode(encode(message)).header == message.header  # type: ignore[union-attr]
                case SaveConfig():
                    parse(format_nodes_conf(self.engine.state), self.now_ms)
                case StartReplication(host, port):
                    self.data.master_address = (host, port)
                case StopReplication():
                    self.data.master_address = None

    def _link(self, index: int) -> Link:
        if index < 4 or not self.links:
            self.links.append(self.engine.link_accepted("10.0.0.1", "10.0.0.9", self.now_ms))
            return self.links[-1]
        return self.links[index % len(self.links)]

    # -- what may happen --------------------------------------------------------------------------

    @rule(message=messages(), link=st.integers(0, 50))
    def hear(self, message: Message, link: int) -> None:
        self._do(self.engine.on_message(self._link(link), message, self.now_ms))

    @rule(message=messages(), peer=st.integers(0, 50))
    def hear_from_who_it_should_be(self, message: Message, peer: int) -> None:
        """A message with the sender that the link's node has: it gets further."""
        link = self._link(peer)
        if link.node is not None:
            message = Message(attrs.evolve(message.header, sender=link.node.node_id), message.body)
        self._do(self.engine.on_message(link, message, self.now_ms))

    @rule(after_ms=st.sampled_from([1, 100, 100, 100, 600, 3000, 70_000]))
    def tick(self, after_ms: int) -> None:
        self.now_ms += after_ms
        self._do(self.engine.tick(self.now_ms, self.now_ms + UNIX_OFFSET_MS))

    @rule(after_ms=st.sampled_from([10, 2000]))
    def serve(self, after_ms: int) -> None:
        self.now_ms += after_ms
        self._do(self.engine.keep_alive(self.now_ms))

    @rule(link=st.integers(4, 50), event=st.sampled_from(["connected", "failed", "closed"]))
    def link_event(self, link: int, event: str) -> None:
        chosen = self._link(link)
        if event == "connected" and chosen.is_open and not chosen.inbound:
            self._do(self.engine.link_connected(chosen, "10.0.0.1", "10.0.0.9", self.now_ms))
        elif event == "failed" and chosen.is_open and not chosen.inbound:
            self._do(self.engine.link_failed(chosen, "Connection refused", self.now_ms))
        elif event == "closed":
            self._do(self.engine.link_closed(chosen, self.now_ms))

    @rule(
        name=st.sampled_from(
            ["forget", "replicate", "set_slot_node", "set_slot_importing", "set_slot_migrating", "set_slot_stable"]
        ),
        peer=ids,
        slot=st.sampled_from(SLOTS),
    )
    def order_about(self, name: str, peer: str, slot: int) -> None:
        operations, now_ms = self.engine.operations, self.now_ms
        orders: dict[str, Callable[[], Sequence[Effect]]] = {
            "forget": lambda: operations.forget(peer, now_ms),
            "replicate": lambda: operations.replicate(peer, now_ms),
            "set_slot_node": lambda: operations.set_slot_node(slot, peer, now_ms),
            "set_slot_importing": lambda: operations.set_slot_importing(slot, peer, now_ms),
            "set_slot_migrating": lambda: operations.set_slot_migrating(slot, peer, now_ms),
            "set_slot_stable": lambda: operations.set_slot_stable(slot, now_ms),
        }
        with contextlib.suppress(CommandError):
            self._do(orders[name]())

    @rule(
        name=st.sampled_from(["add", "delete", "flush", "bump", "epoch", "reset", "failover", "meet", "restart"]),
        slots=st.lists(st.sampled_from(SLOTS), max_size=3),
        number=epochs,
        choice=st.integers(0, 2),
    )
    def order(self, name: str, slots: list[int], number: int, choice: int) -> None:
        operations, now_ms = self.engine.operations, self.now_ms
        ranges = [(slot, slot) for slot in slots]
        orders: dict[str, Callable[[], Sequence[Effect]]] = {
            "add": lambda: operations.add_slots(ranges, now_ms),
            "delete": lambda: operations.delete_slots(ranges, now_ms),
            "flush": lambda: operations.flush_slots(now_ms),
            "bump": lambda: operations.bump_epoch(now_ms)[1],
            "epoch": lambda: operations.set_config_epoch(min(number, (1 << 63) - 1), now_ms),
            "reset": lambda: operations.reset(choice == 1, now_ms),
            "failover": lambda: operations.failover(list(FailoverMode)[choice], now_ms),
            "meet": lambda: operations.meet("10.0.0.1", 7000 + choice, None, now_ms),
        }
        if name == "restart":
            self.links.clear()
            self._run(format_nodes_conf(self.engine.state))
            return
        with contextlib.suppress(CommandError):
            self._do(orders[name]())

    @rule(offset=st.integers(0, 100), slots=st.sets(st.sampled_from(SLOTS)))
    def data_changes(self, offset: int, slots: set[int]) -> None:
        self.data.offset = offset
        self.data.slots_with_keys = slots
        self.data.master_seen_ms = self.now_ms
        self._do(self.engine.verify_config_with_data(self.now_ms))

    @rule(is_sharded=st.booleans())
    def publish(self, is_sharded: bool) -> None:
        self.engine.publish(b"channel", b"payload", is_sharded, self.now_ms)
        self._do([])

    # -- what must hold -----------------------------------------------------------------------------

    @precondition(lambda self: hasattr(self, "engine"))
    @invariant()
    def records_are_sound(self) -> None:
        problem = inconsistency(self.engine.state)
        assert problem is None, problem


AnyEngine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyEngine = AnyEngine.TestCase
