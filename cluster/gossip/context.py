"""What the rules of the cluster engine share: the state they change, the world they ask, and the effects they cause.

Role        One Context per node. The rules in this package and in failover/ are plain functions of it; an engine sets
            ``now_ms`` when an input arrives, calls rules, and hands the collected effects to the shell.
Invariants  Rules read the time only from ``now_ms`` and randomness only from ``rng``. Sends are collected apart from
            local effects, because they wait for the disk (see effects.py).
            gossip knows nothing of failover: whatever failover has to do inside gossip's steps is a hook here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeAlias

import attrs

from cluster.gossip.effects import BusEffect, DropShardChannels, LocalEffect, Log, LogLevel
from cluster.gossip.facts import NodeFacts
from cluster.gossip.messages import Header, Message, MessageType
from cluster.gossip.state import FOREVER_MS, ClusterState, Link, Node, Todo
from cluster.settings import Settings

Handler: TypeAlias = Callable[[Link, Node | None, Message], None]
"""Takes a message that passed the common checks; the node is its sender, None if that is unknown here."""


@attrs.define
class Hooks:
    """Where failover takes part in gossip's steps. Every list is called in order, for every event."""

    on_header: list[Callable[[Node, Header], None]] = attrs.field(factory=list)
    """A known sender's header was read (any message type)."""
    on_config: list[Callable[[Node, Header], None]] = attrs.field(factory=list)
    """A PING, PONG or MEET of a known sender has updated its role and slots here."""
    on_new_master: list[Callable[[], None]] = attrs.field(factory=list)
    """This node was made a replica of somebody (else)."""
    on_tick: list[Callable[[], None]] = attrs.field(factory=list)
    """The tick has seen to links, pings and suspicion; the verdict on the cluster's health comes after."""
    on_todo: list[Callable[[Todo], None]] = attrs.field(factory=list)
    """before_sleep found these flags; the health verdict and the save come after."""


@attrs.define(eq=False)
class Context:
    """Everything a rule may use."""

    state: ClusterState
    settings: Settings
    facts: NodeFacts
    rng: random.Random
    now_ms: int
    """The time of the input being processed (monotonic)."""
    hooks: Hooks = attrs.field(factory=Hooks)
    handlers: dict[MessageType, Handler] = attrs.field(factory=dict)
    local_effects: list[LocalEffect] = attrs.field(factory=list)
    bus_effects: list[BusEffect] = attrs.field(factory=list)
    freed_slots: list[int] = attrs.field(factory=list)
    """Slots that this node's shard gave up during this input: their shard channels must go."""
    next_link_id: int = 1

    @property
    def node_timeout_ms(self) -> int:
        return self.settings.cluster_node_timeout

    def age_ms(self, since_ms: int) -> int:
        """The time since ``since_ms``; FOREVER_MS if that never was."""
        return self.now_ms - since_ms if since_ms else FOREVER_MS

    def emit(self, effect: LocalEffect) -> None:
        self.local_effects.append(effect)

    def log(self, level: LogLevel, text: str) -> None:
        self.local_effects.append(Log(level, text))

    @property
    def logs_debug(self) -> bool:
        """Whether a DEBUG line would be seen; ask before making one for every packet."""
        return self.settings.loglevel == "debug"

    def todo(self, flags: Todo) -> None:
        """Leave work for before_sleep."""
        self.state.todo |= flags

    def unassign_slot(self, slot: int) -> None:
        """Take ``slot`` from its owner, minding this node's shard channels if it was served here."""
        owner = self.state.owners[slot]
        if owner is None:
            return
        myself = self.state.myself
        if owner is myself or (myself.master is not None and owner.shard_master is myself.master):
            self.freed_slots.append(slot)
        self.state.unassign_slot(slot)

    def assign_slot(self, slot: int, node: Node) -> None:
        """Give ``slot`` to ``node``, taking it from whoever had it."""
        if self.state.owners[slot] is not node:
            self.unassign_slot(slot)
            self.state.assign_slot(slot, node)

    def take_local(self) -> list[LocalEffect]:
        """Hand over the local effects collected so far."""
        if self.freed_slots:
            self.local_effects.append(DropShardChannels(tuple(self.freed_slots)))
            self.freed_slots = []
        effects = self.local_effects
        if effects:
            self.local_effects = []
        return effects

    def take_bus(self) -> list[BusEffect]:
        """Hand over the bus effects collected so far."""
        effects = self.bus_effects
        if effects:
            self.bus_effects = []
        return effects


SAVE = Todo.SAVE_CONFIG
SAVE_FSYNC = Todo.SAVE_CONFIG | Todo.FSYNC_CONFIG
SAVE_UPDATE = Todo.SAVE_CONFIG | Todo.UPDATE_STATE
SAVE_UPDATE_FSYNC = Todo.SAVE_CONFIG | Todo.UPDATE_STATE | Todo.FSYNC_CONFIG
