"""A cluster in a bottle: nodes, their network, replication of a little data, and faults, all from one seed.

Role        Builds clusters as an operator would (MEET, ADDSLOTS, REPLICATE), lets time pass, breaks things, heals them.
            The :class:`Checker` judges after every input.
Use         ``world = World(seed=7)``, ``world.create_cluster(3, 1)``, ``world.run(10_000)``, ``world.check_healed()``.
            A failed check carries the seed, which replays the run exactly.
Units       Milliseconds of virtual time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Final

from cluster.gossip.state import ClusterHealth, Node
from cluster.settings import Settings
from cluster.simulation.checker import Checker
from cluster.simulation.network import Network, Scheduler
from cluster.simulation.node import SimulatedNode
from cluster.slots.hashing import SLOT_COUNT

REPLICATION_MS: Final = 50


class World:
    """Everything there is in one simulation."""

    def __init__(self, seed: int, nodes: int = 6, **settings: int | bool) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.scheduler = Scheduler()
        self.network = Network(self.scheduler, self.rng)
        self.checker = Checker(self)
        self.settings: dict[str, int | bool] = {"cluster_node_timeout": 1000} | settings
        self.nodes: list[SimulatedNode] = []
        for _ in range(nodes):
            self.add_node()
        self._replicate()

    @property
    def now_ms(self) -> int:
        return self.scheduler.now_ms

    # -- building -----------------------------------------------------------------------------------

    def add_node(self) -> SimulatedNode:
        """One more node, running and alone."""
        settings = Settings()
        for name, value in self.settings.items():
            setattr(settings, name, value)
        node = SimulatedNode(self, len(self.nodes), settings)
        self.nodes.append(node)
        self.network.hosts[node.ip, node.cport] = node
        node.start()
        return node

    def create_cluster(self, masters: int, replicas_each: int) -> None:
        """Make all nodes one cluster: the first ``masters`` share the slots, the others replicate them in turn."""
        assert masters * (1 + replicas_each) == len(self.nodes)
        for index, node in enumerate(self.nodes):
            operations = node.engine.operations
            epoch = index + 1
            node.input(lambda now_ms, op=operations, e=epoch: op.set_config_epoch(e, now_ms))  # type: ignore[misc]
            if index < masters:
                first, last = index * SLOT_COUNT // masters, (index + 1) * SLOT_COUNT // masters - 1
                node.input(lambda now_ms, op=operations, r=(first, last): op.add_slots([r], now_ms))  # type: ignore[misc]
        for node in self.nodes[1:]:
            self.meet(node, self.nodes[0])
        self.run_until(self._everybody_knows_everybody, 20_000)
        for index, node in enumerate(self.nodes[masters:]):
            self.replicate(node, self.nodes[index % masters])
        self.run_until(self.is_healed, 30_000)

    def meet(self, node: SimulatedNode, other: SimulatedNode) -> None:
        """CLUSTER MEET, sent to ``node``."""
        port = other.settings.port
        node.input(lambda now_ms: node.engine.operations.meet(other.ip, port, None, now_ms))

    def replicate(self, node: SimulatedNode, master: SimulatedNode) -> None:
        """CLUSTER REPLICATE, sent to ``node``."""
        node.input(lambda now_ms: node.engine.operations.replicate(master.state.myself.node_id, now_ms))

    # -- time -----------------------------------------------------------------------------------------

    def run(self, duration_ms: int) -> None:
        """Let time pass."""
        self.scheduler.run_until(self.now_ms + duration_ms)

    def run_until(self, condition: Callable[[], bool], limit_ms: int) -> int:
        """Let time pass until ``condition`` holds; how long that took. Fails after ``limit_ms``."""
        start_ms = self.now_ms
        while not condition():
            if self.now_ms - start_ms >= limit_ms:
                self.checker.fail(f"{getattr(condition, '__name__', condition)} still false after {limit_ms} ms")
            self.run(50)
        return self.now_ms - start_ms

    # -- faults ---------------------------------------------------------------------------------------

    def partition(self, side: Iterable[SimulatedNode], *, one_way: bool = False) -> None:
        """Cut ``side`` off from all the others; ``one_way``: it can still receive."""
        inside = set(side)
        for one in inside:
            for other in self.nodes:
                if other not in inside:
                    self.network.cut.add((one.ip, other.ip))
                    if not one_way:
                        self.network.cut.add((other.ip, one.ip))

    def heal(self) -> None:
        """End all faults: mend the network, resume and restart every node."""
        self.network.cut.clear()
        self.network.delay_ms = (0, 3)
        for node in self.nodes:
            node.effects_until_crash = None
            node.resume()
            if not node.is_running:
                node.start()

    # -- what holds -------------------------------------------------------------------------------------

    def is_healed(self) -> bool:
        """Whether every running node is ok and all agree on owners, roles and epochs."""
        views = [self._view(node) for node in self.nodes if node.is_running]
        return all(view == views[0] for view in views) and all(
            node.state.health is ClusterHealth.OK for node in self.nodes if node.is_running
        )

    def check_healed(self, limit_ms: int = 60_000) -> int:
        """Everybody must come to agree, and then what they agree on must be a sound cluster; how long it took."""
        took_ms = self.run_until(self.is_healed, limit_ms)
        self.checker.check_agreement()
        return took_ms

    def owner_of(self, slot: int) -> SimulatedNode | None:
        """The running node that serves ``slot``."""
        serving = [node for node in self.nodes if node.serves(slot)]
        return serving[0] if len(serving) == 1 else None

    def _everybody_knows_everybody(self) -> bool:
        ids = {node.state.myself.node_id for node in self.nodes}
        return all(
            set(node.state.nodes) == ids and all(peer.is_myself or peer.link for peer in node.state.nodes.values())
            for node in self.nodes
        )

    def _view(self, node: SimulatedNode) -> dict[str, object]:
        return {peer_id: self._view_of(peer) for peer_id, peer in node.state.nodes.items()}

    @staticmethod
    def _view_of(peer: Node) -> tuple[object, ...]:
        epoch = peer.config_epoch if peer.is_master else 0
        return (peer.is_master, peer.master and peer.master.node_id, epoch, bytes(peer.slots), peer.is_fail)

    # -- replication --------------------------------------------------------------------------------------

    def _replicate(self) -> None:
        """Masters take a write now and then; replicas that reach their master have all it has."""
        for node in self.nodes:
            if not node.is_awake:
                continue
            data, state = node.data, node.state
            if data.master_address is None:
                if state.myself.slot_count and self.rng.random() < 0.2 and self.now_ms >= node.paused_until_ms:
                    slot = self.rng.choice([self.rng.randrange(SLOT_COUNT) for _ in range(3)])
                    if node.serves(slot):
                        data.offset += self.rng.randint(1, 100)
                        data.slots_with_keys.add(slot)
                continue
            ip, port = data.master_address
            master = self.network.hosts.get((ip, port + 10000))
            if isinstance(master, SimulatedNode) and master.is_awake and self.network.is_reachable(node, master):
                data.offset = master.data.offset
                data.slots_with_keys = set(master.data.slots_with_keys)
                data.master_seen_ms = self.now_ms
                data.is_link_up = True
            else:
                data.is_link_up = False
        self.scheduler.after(REPLICATION_MS, self._replicate)
