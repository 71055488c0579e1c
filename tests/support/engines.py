"""One cluster engine on a bench: a clock to turn, peers that say what a test makes them say, effects to look at."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from cluster.failover.engine import ClusterEngine
from cluster.gossip.effects import CloseLink, Effect, Log, OpenLink, SaveConfig, Send
from cluster.gossip.messages import EMPTY, Body, Gossip, GossipEntry, Header, Message, MessageType
from cluster.gossip.nodes_conf import format_nodes_conf, parse
from cluster.gossip.state import ClusterHealth, ClusterState, Link, Node, NodeFlags, new_state
from cluster.settings import Settings
from cluster.simulation.checker import inconsistency
from cluster.simulation.node import SimulatedData
from cluster.slots.hashing import SLOT_COUNT
from cluster.slots.ranges import slots_to_bitmap

TIMEOUT_MS = 1000
START_MS = 1_000_000
UNIX_OFFSET_MS = 1_700_000_000_000
MY_ID = "m" * 40

EffectT = TypeVar("EffectT")


def node_id(letter: str) -> str:
    """An id that reads well in a failure: forty times the same letter."""
    return letter * 40


class EngineBench:
    """A ClusterEngine whose every effect is collected in ``effects``, as a shell would perform them in order."""

    def __init__(self, *, slots: Iterable[int] = (), epoch: int = 0, **settings: Any) -> None:
        self.settings = Settings()
        self.settings.cluster_node_timeout = TIMEOUT_MS
        for name, value in settings.items():
            setattr(self.settings, name, value)
        self.now_ms = START_MS
        self.data = SimulatedData()
        self.rng = random.Random(1)
        self.effects: list[Effect] = []
        self._checked_version = -1
        state = new_state(MY_ID, START_MS)
        state.myself.config_epoch = state.current_epoch = epoch
        for slot in slots:
            state.assign_slot(slot, state.myself)
        self._start(state)

    def _start(self, state: ClusterState) -> None:
        self.state = state
        self.myself = state.myself
        unix_ms = self.now_ms + UNIX_OFFSET_MS
        self.engine = ClusterEngine(state, self.settings, self.data, self.rng, self.now_ms, unix_ms)

    def restart(self) -> None:
        """End the process and start it again: what is known is what its nodes.conf said. Nodes are new objects."""
        self._start(parse(format_nodes_conf(self.state), self.now_ms).state)

    def find(self, letter: str) -> Node:
        """The node that ``peer`` made, as this node knows it now."""
        return self.state.nodes[node_id(letter)]

    # -- setting the scene ----------------------------------------------------------------------------

    def peer(
        self, letter: str, *, slots: Iterable[int] = (), epoch: int = 0, of: Node | None = None, linked: bool = True
    ) -> Node:
        """A node this one has known for a while: a master, or a replica ``of`` somebody."""
        node = Node(node_id(letter), NodeFlags.MASTER if of is None else NodeFlags.SLAVE, created_ms=self.now_ms)
        node.ip, node.port, node.cport = f"10.0.0.{ord(letter)}", 6379, 16379
        node.config_epoch = epoch
        node.pong_received_ms = node.data_received_ms = self.now_ms
        self.state.add_node(node)
        if of is not None:
            self.state.set_replica_of(node, of)
        for slot in slots:
            self.state.assign_slot(slot, node)
        self.state.current_epoch = max(self.state.current_epoch, epoch)
        self.state.size = max(1, sum(bool(node.slot_count) for node in self.state.nodes.values()))
        if linked:
            self.link_to(node)
        return node

    def replicate(self, master: Node) -> None:
        """Make this node a replica of ``master``, as it long has been."""
        self.state.turn_into_replica(self.myself)
        self.state.set_replica_of(self.myself, master)
        self.data.master_address = (master.ip, master.port)
        self.data.master_seen_ms = self.now_ms

    def be_ok(self) -> None:
        """The cluster is ok, and has been."""
        self.state.health_clock.first_evaluated_ms = self.now_ms - 60_000
        self.state.set_health(ClusterHealth.OK)

    def link_to(self, node: Node) -> Link:
        """My link to ``node``, connected, its first ping answered."""
        link = Link(900 + len(self.state.nodes), inbound=False, node=node, created_ms=self.now_ms, peer_ip=node.ip)
        node.link = link
        return link

    # -- what happens -------------------------------------------------------------------------------------

    def do(self, effects: Sequence[Effect]) -> list[Effect]:
        """An input returned these; finish the batch and say what came of it."""
        batch = [*effects, *self.engine.before_sleep(self.now_ms)]
        assert_order(batch)
        if self.state.routing_version != self._checked_version:
            self._checked_version = self.state.routing_version
            problem = inconsistency(self.state)
            assert problem is None, problem
        self.effects += batch
        return batch

    def tick(self, after_ms: int = 100) -> list[Effect]:
        """Let time pass, and tick once."""
        self.now_ms += after_ms
        return self.do(self.engine.tick(self.now_ms, self.now_ms + UNIX_OFFSET_MS))

    def ticks(self, duration_ms: int, answering: Iterable[Node] = ()) -> list[Effect]:
        """Tick every 100 ms; the nodes ``answering`` reply at once to every PING and connection."""
        batch: list[Effect] = []
        friends = set(answering)
        for _ in range(duration_ms // 100):
            news = self.tick()
            while news:
                batch += news
                news = [effect for reply in self._replies(news, friends) for effect in self.do(reply)]
        return batch

    def _replies(self, effects: Sequence[Effect], friends: set[Node]) -> Iterable[Sequence[Effect]]:
        for effect in effects:
            if isinstance(effect, OpenLink) and effect.link.node in friends:
                yield self.engine.link_connected(effect.link, effect.host, "10.0.0.9", self.now_ms)
            elif isinstance(effect, Send) and effect.message.type is MessageType.PING:
                for link in effect.links:
                    if link.node in friends and link.is_open:
                        assert link.node is not None
                        yield self.engine.on_message(link, self.message(link.node, MessageType.PONG), self.now_ms)

    def header(self, sender: Node, kind: MessageType, /, **changes: Any) -> Header:
        """What ``sender`` would say of itself, if this node is right about it; ``changes`` are where it is not."""
        claims = sender.master if sender.master is not None else sender
        fields: dict[str, Any] = {
            "type": kind,
            "sender": sender.node_id,
            "current_epoch": self.state.current_epoch,
            "config_epoch": claims.config_epoch,
            "repl_offset": sender.repl_offset,
            "slots": bytes(claims.slots),
            "master_id": sender.master.node_id if sender.master is not None else None,
            "flags": sender.flags,
            "state": 0,
            "port": sender.port,
            "cport": sender.cport,
        }
        return Header(**(fields | changes))

    def message(self, sender: Node, kind: MessageType, /, body: Body | None = None, **changes: Any) -> Message:
        if "slots" in changes and not isinstance(changes["slots"], bytes):
            changes["slots"] = slots_to_bitmap(changes["slots"])
        if body is None:
            gossips = kind in {MessageType.PING, MessageType.PONG, MessageType.MEET}
            body = Gossip() if gossips else EMPTY
        return Message(self.header(sender, kind, **changes), body)

    def hear(self, sender: Node, kind: MessageType, /, body: Body | None = None, **changes: Any) -> list[Effect]:
        """``sender`` says this over its own link to us."""
        link = sender.inbound_link
        if link is None:
            link = self.engine.link_accepted(sender.ip, "10.0.0.9", self.now_ms)
        return self.do(self.engine.on_message(link, self.message(sender, kind, body, **changes), self.now_ms))

    def answer(self, sender: Node, /, body: Body | None = None, **changes: Any) -> list[Effect]:
        """``sender`` answers a ping, over our link to it."""
        assert sender.link is not None
        message = self.message(sender, MessageType.PONG, body, **changes)
        return self.do(self.engine.on_message(sender.link, message, self.now_ms))

    def entry(self, node: Node, flags: NodeFlags | None = None, **changes: Any) -> GossipEntry:
        """A gossip entry about ``node``."""
        fields: dict[str, Any] = {
            "node_id": node.node_id,
            "ping_sent_s": 0,
            "pong_received_s": 0,
            "ip": node.ip,
            "port": node.port,
            "cport": node.cport,
            "flags": node.flags if flags is None else flags,
        }
        return GossipEntry(**(fields | changes))

    def report(self, sender: Node, about: Node, flags: NodeFlags) -> list[Effect]:
        """``sender`` pings us and gossips that ``about`` has these flags."""
        return self.hear(sender, MessageType.PING, Gossip((self.entry(about, flags),)))


def stranger(letter: str) -> Node:
    """A node that the bench does not know."""
    node = Node(node_id(letter), NodeFlags.MASTER)
    node.ip, node.port, node.cport = f"10.0.0.{ord(letter)}", 6379, 16379
    return node


def third(index: int) -> range:
    """The slots of one of three masters."""
    return range(index * SLOT_COUNT // 3, (index + 1) * SLOT_COUNT // 3)


def of_kind(effects: Iterable[Effect], kind: type[EffectT]) -> list[EffectT]:
    """The effects of one class."""
    return [effect for effect in effects if isinstance(effect, kind)]


def sent(effects: Iterable[Effect], kind: MessageType) -> list[Message]:
    """The messages of one type, once for each receiver."""
    return [send.message for send in of_kind(effects, Send) for _ in send.links if send.message.type is kind]


def receivers(effects: Iterable[Effect], kind: MessageType) -> set[Node | None]:
    """Who is sent a message of this type."""
    return {link.node for send in of_kind(effects, Send) for link in send.links if send.message.type is kind}


def logged(effects: Iterable[Effect]) -> list[str]:
    """The lines for the log."""
    return [log.text for log in of_kind(effects, Log)]


def assert_order(effects: Sequence[Effect]) -> None:
    """The contract of effects.py: local effects, at most one save, bus effects."""
    stages = [
        2 if isinstance(effect, OpenLink | CloseLink | Send) else 1 if isinstance(effect, SaveConfig) else 0
        for effect in effects
    ]
    assert stages == sorted(stages), effects
    assert stages.count(1) <= 1, effects
