"""Everything that may go wrong, at random: crashes, stops, partitions, slow and broken links, operators.

Use         ``Troublemaker(world).trouble(20_000)``, then ``world.heal()`` and ``world.check_healed()``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cluster.errors import CommandError
from cluster.failover.operations import FailoverMode
from cluster.simulation.node import SimulatedNode
from cluster.slots.hashing import SLOT_COUNT

if TYPE_CHECKING:
    from cluster.simulation.world import World

PAUSE_MS_MAX: Final = 3000
EFFECTS_UNTIL_CRASH_MAX: Final = 30
SPREAD_MS: Final = 1500
"""In a healthy cluster everybody has heard of a change by then."""


class Troublemaker:
    """Causes trouble in one world. At most a third of the nodes are down or stopped at a time."""

    def __init__(self, world: World, *, operator: bool = True, takeover: bool = False) -> None:
        self.world = world
        self.rng = world.rng
        self.kinds: list[Callable[[], None]] = [
            self.crash,
            self.crash,
            self.restart,
            self.restart,
            self.stop,
            self.partition,
            self.partition,
            self.mend,
            self.slow_down,
            self.reset_links,
        ]
        if operator:
            self.kinds += [self.fail_over, self.fail_over, self.move_slot, self.bump_epoch]
        self.modes = list(FailoverMode) if takeover else [FailoverMode.NORMAL, FailoverMode.FORCE]
        self.history: list[str] = []

    def trouble(self, duration_ms: int) -> None:
        """Let things go wrong for a while."""
        end_ms = self.world.now_ms + duration_ms
        while self.world.now_ms < end_ms:
            kind = self.rng.choice(self.kinds)
            kind()
            self.world.run(self.rng.choice((10, 100, 500, 1000, 2000, 4000)))

    # -- machines -------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Kill a process, at once or between two effects of what it is going to do next."""
        node = self._pick(lambda node: node.is_awake)
        if node is None or self._impaired() >= len(self.world.nodes) // 3:
            return
        self._note("crash", node)
        if self.rng.random() < 0.5:
            node.kill()
        else:
            node.effects_until_crash = self.rng.randrange(EFFECTS_UNTIL_CRASH_MAX)

    def restart(self) -> None:
        """Start one that is down, as after a crash of the process or of its machine."""
        node = self._pick(lambda node: not node.is_running)
        if node is not None:
            self._note("restart", node)
            node.start(after_power_loss=self.rng.random() < 0.5)

    def stop(self) -> None:
        """SIGSTOP, and SIGCONT some time later."""
        node = self._pick(lambda node: node.is_awake)
        if node is None or self._impaired() >= len(self.world.nodes) // 3:
            return
        self._note("stop", node)
        node.stop()
        self.world.scheduler.after(self.rng.randrange(PAUSE_MS_MAX), node.resume)

    # -- network ----------------------------------------------------------------------------------------

    def partition(self) -> None:
        """Cut some nodes off, in both directions or in one."""
        side = self.rng.sample(self.world.nodes, self.rng.randint(1, len(self.world.nodes) // 2))
        one_way = self.rng.random() < 0.3
        self._note(f"partition {'one way' if one_way else ''}", *side)
        self.world.partition(side, one_way=one_way)

    def mend(self) -> None:
        """The network works again."""
        self._note("mend")
        self.world.network.cut.clear()
        self.world.network.delay_ms = (0, 3)

    def slow_down(self) -> None:
        """Messages take their time."""
        self._note("slow down")
        self.world.network.delay_ms = (0, self.rng.choice((10, 100, 800)))

    def reset_links(self) -> None:
        """Break some connections."""
        node = self._pick(lambda node: node.is_running)
        if node is not None:
            self._note("reset links", node)
            for link in self.world.network.links_of(node):
                if self.rng.random() < 0.5:
                    self.world.network.reset_link(link)

    # -- operators ----------------------------------------------------------------------------------------

    def fail_over(self) -> None:
        """CLUSTER FAILOVER to some replica."""
        node = self._pick(lambda node: node.is_awake and node.state.myself.is_replica)
        mode = self.rng.choice(self.modes)
        if node is not None:
            self._note(f"failover {mode.value}", node)
            try:
                node.input(lambda now_ms: node.engine.operations.failover(mode, now_ms))
            except CommandError as refusal:
                self._note(f"refused: {refusal.message.decode()}", node)

    def move_slot(self) -> None:
        """Reshard one (empty) slot from one master to another as redis-cli does, and while all is well as operators do.

        A target that is failed over before its replica has heard of the slot loses it: so it is in Redis.
        """
        world = self.world
        if world.network.cut or self._impaired():
            return
        world.network.delay_ms = (0, 3)
        slot = self.rng.randrange(SLOT_COUNT)
        source = world.owner_of(slot)
        target = self._pick(lambda node: node.state.myself.is_master and node is not source)
        if source is None or target is None:
            return
        self._note(f"move slot {slot}", source, target)
        source.data.slots_with_keys.discard(slot)
        source_id, target_id = source.state.myself.node_id, target.state.myself.node_id
        to, of = target.engine.operations, source.engine.operations
        try:
            target.input(lambda now_ms: to.set_slot_importing(slot, source_id, now_ms))
            source.input(lambda now_ms: of.set_slot_migrating(slot, target_id, now_ms))
            target.input(lambda now_ms: to.set_slot_node(slot, target_id, now_ms))
            source.input(lambda now_ms: of.set_slot_node(slot, target_id, now_ms))
        except CommandError as refusal:
            self._note(f"refused: {refusal.message.decode()}", source, target)
        world.run(SPREAD_MS)

    def bump_epoch(self) -> None:
        """CLUSTER BUMPEPOCH, on a master."""
        node = self._pick(lambda node: node.is_awake and node.state.myself.is_master)
        if node is not None:
            self._note("bump epoch", node)
            node.input(lambda now_ms: node.engine.operations.bump_epoch(now_ms)[1])

    # -- helpers ----------------------------------------------------------------------------------------

    def _pick(self, suits: Callable[[SimulatedNode], bool]) -> SimulatedNode | None:
        nodes = [node for node in self.world.nodes if suits(node)]
        return self.rng.choice(nodes) if nodes else None

    def _impaired(self) -> int:
        return sum(not node.is_awake or node.effects_until_crash is not None for node in self.world.nodes)

    def _note(self, what: str, *nodes: SimulatedNode) -> None:
        self.history.append(f"{self.world.now_ms} {what} {[node.index for node in nodes]}")
