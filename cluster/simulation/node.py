"""One simulated node: a cluster engine, a disk, a little data, and a shell that performs effects as the real one does.

Invariants  Local effects are performed before the next input; before_sleep follows every input; a crash may strike
            between any two effects of a batch, and only what was saved before it is found at the next start.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, assert_never

import attrs

from cluster.failover.engine import ClusterEngine
from cluster.gossip.effects import (
    CloseLink,
    DeleteKeysInSlots,
    DropShardChannels,
    Effect,
    EmptyDatabase,
    Log,
    LogLevel,
    OpenLink,
    PauseClients,
    PublishLocal,
    SaveConfig,
    Send,
    StartReplication,
    StopReplication,
    UnpauseClients,
)
from cluster.gossip.messages import Message
from cluster.gossip.nodes_conf import format_nodes_conf, parse
from cluster.gossip.state import FOREVER_MS, ClusterHealth, ClusterState, Link, new_node_id, new_state
from cluster.settings import Settings

if TYPE_CHECKING:
    from cluster.simulation.network import Action
    from cluster.simulation.world import World

UNIX_OFFSET_MS: Final = 1_700_000_000_000
TICK_MS: Final = 100


@attrs.define(eq=False)
class SimulatedData:
    """What the engine asks about the rest of the node (a NodeFacts): offsets and which slots hold keys."""

    offset: int = 0
    slots_with_keys: set[int] = attrs.field(factory=set)
    master_address: tuple[str, int] | None = None
    master_seen_ms: int = 0
    is_link_up: bool = False

    def replication_offset(self) -> int:
        return self.offset

    def is_replicating(self) -> bool:
        return self.master_address is not None

    def master_link_age_ms(self, now_ms: int) -> int:
        return now_ms - self.master_seen_ms if self.master_seen_ms else FOREVER_MS

    def is_in_sync(self) -> bool:
        return self.is_link_up

    def keys_in_slot(self, slot: int) -> int:
        return int(slot in self.slots_with_keys)

    def is_database_empty(self) -> bool:
        return not self.slots_with_keys

    def populated_slots(self) -> list[int]:
        return sorted(self.slots_with_keys)


class SimulatedNode:
    """A process with its host. ``stop``/``resume`` are SIGSTOP/SIGCONT, ``kill`` is SIGKILL."""

    def __init__(self, world: World, index: int, settings: Settings) -> None:
        self.world = world
        self.index = index
        self.settings = settings
        self.ip = f"10.0.0.{index + 1}"
        self.cport = settings.port + 10000
        self.rng = random.Random(world.rng.getrandbits(64))
        self.paused_until_ms = 0
        """Until when writes are held back for a manual failover."""
        self.disk = ""
        """nodes.conf as the file system has it: it survives the process."""
        self.synced_disk = ""
        """nodes.conf as it was at the last fsync: it survives the machine."""
        self.is_running = False
        self.incarnation = 0
        self.is_stopped = False
        self.effects_until_crash: int | None = None
        self.log: list[str] = []
        self._kernel_queue: list[Action] = []
        self.data = SimulatedData()
        self.engine = self._new_engine(new_state(new_node_id(self.rng), world.now_ms))

    def __repr__(self) -> str:
        return f"<node {self.index} {self.state.myself!r} {self.state.health.name}>"

    @property
    def state(self) -> ClusterState:
        return self.engine.state

    @property
    def is_awake(self) -> bool:
        return self.is_running and not self.is_stopped

    def serves(self, slot: int) -> bool:
        """Whether a client's write to ``slot`` would be accepted here, now. Asking is what a pass of the reactor is."""
        if not self.is_awake:
            return False
        self.input(self.engine.keep_alive)
        myself = self.state.myself
        return self.state.health is ClusterHealth.OK and myself.is_master and self.state.owners[slot] is myself

    # -- process ------------------------------------------------------------------------------------

    def start(self, *, after_power_loss: bool = False) -> None:
        """Start the process, from what is on disk; its data is gone."""
        assert not self.is_running
        if after_power_loss:
            self.disk = self.synced_disk
        self.data = SimulatedData()
        if self.disk:
            state = parse(self.disk, self.world.now_ms).state
        else:
            state = new_state(new_node_id(self.rng), self.world.now_ms)
            self.disk = self.synced_disk = format_nodes_conf(state)
        self.engine = self._new_engine(state)
        self.is_running = True
        self.incarnation += 1
        self.is_stopped = False
        self._tick()

    def kill(self) -> None:
        """End the process at once."""
        if self.is_running:
            self.is_running = False
            self.is_stopped = False
            self._kernel_queue.clear()
            self.effects_until_crash = None
            for link in self.world.network.links_of(self):
                self.world.network.close(link)
                link.is_open = False

    def stop(self) -> None:
        """Freeze the process; its kernel goes on receiving."""
        self.is_stopped = True

    def resume(self) -> None:
        """Let it go on, with everything the kernel kept."""
        if self.is_stopped:
            self.is_stopped = False
            waiting, self._kernel_queue = self._kernel_queue, []
            for action in waiting:
                self.deliver(action)

    def _new_engine(self, state: ClusterState) -> ClusterEngine:
        now_ms = self.world.now_ms
        return ClusterEngine(state, self.settings, self.data, self.rng, now_ms, now_ms + UNIX_OFFSET_MS)

    def _tick(self) -> None:
        engine = self.engine
        if not self.is_running:
            return

        def tick() -> None:
            if self.engine is engine:
                self.input(lambda now_ms: engine.tick(now_ms, now_ms + UNIX_OFFSET_MS))

        if not self.is_stopped:
            tick()
        jitter_ms = self.world.rng.randint(0, 10)
        self.world.scheduler.after(TICK_MS + jitter_ms, lambda: self._tick() if self.engine is engine else None)

    # -- inputs ---------------------------------------------------------------------------------------

    def deliver(self, action: Action) -> None:
        """Let the process do this when it runs (see network.Host)."""
        if self.is_stopped:
            self._kernel_queue.append(action)
        elif self.is_running:
            action()

    def input(self, feed: Callable[[int], Sequence[Effect]]) -> None:
        """Give the engine one input at the present time, and do everything that follows from it."""
        if not self.is_running:
            return
        self.perform(feed(self.world.now_ms))
        self._sleep()
        if self.is_running:
            self.world.checker.after_input(self)

    def accepted(self, peer_ip: str) -> Link | None:
        return self.engine.link_accepted(peer_ip, self.ip, self.world.now_ms) if self.is_running else None

    def on_connected(self, link: Link, peer_ip: str) -> None:
        self.input(lambda now_ms: self.engine.link_connected(link, peer_ip, self.ip, now_ms))

    def on_connect_failed(self, link: Link) -> None:
        self.input(lambda now_ms: self.engine.link_failed(link, "Connection refused", now_ms))

    def on_closed(self, link: Link) -> None:
        self.input(lambda now_ms: self.engine.link_closed(link, now_ms))

    def on_message(self, link: Link, message: Message) -> None:
        self.input(lambda now_ms: self.engine.on_message(link, message, now_ms))

    # -- effects --------------------------------------------------------------------------------------

    def _sleep(self) -> None:
        if self.is_running:
            self.perform(self.engine.before_sleep(self.world.now_ms))

    def perform(self, effects: Sequence[Effect]) -> None:
        """Carry out effects in the order given, or some of them: a crash may come between any two."""
        for effect in effects:
            if self.effects_until_crash is not None:
                self.effects_until_crash -= 1
                if self.effects_until_crash < 0:
                    self.kill()
                    return
            self._perform_one(effect)

    def _perform_one(self, effect: Effect) -> None:
        network, data = self.world.network, self.data
        match effect:
            case Log(level, text):
                if level >= LogLevel.VERBOSE:
                    self.log.append(f"{self.world.now_ms} {text}")
                self.world.checker.on_log(self, text)
            case SaveConfig(fsync):
                self.disk = format_nodes_conf(self.state)
                if fsync:
                    self.synced_disk = self.disk
            case Send(links, message):
                self.world.checker.on_send(self, message)
                for link in links:
                    network.send(link, message)
            case OpenLink(link, host, port):
                network.connect(self, link, host, port)
            case CloseLink(link):
                network.close(link)
            case StartReplication(host, port):
                data.master_address = (host, port)
                data.is_link_up = False
            case StopReplication():
                data.master_address = None
            case DeleteKeysInSlots(slots):
                data.slots_with_keys.difference_update(slots)
            case EmptyDatabase():
                data.slots_with_keys.clear()
            case PauseClients(until_ms):
                self.paused_until_ms = until_ms
            case UnpauseClients():
                self.paused_until_ms = 0
            case DropShardChannels() | PublishLocal():
                pass
            case _:
                assert_never(effect)
