"""What must hold in every cluster at every moment, and what must hold again once the faults are over.

Always      A master votes at most once in an epoch. No epoch is won twice by election (unless somebody ordered a
            takeover). No epoch and no vote is said before it is on disk, synced. The records of a node agree.
At last     One owner for each slot, one view on every node, epochs of masters all different, no key left in a slot of
            somebody else.
Failure     AssertionError naming the seed and the virtual time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from cluster.gossip.messages import Message, MessageType
from cluster.gossip.state import ClusterState
from cluster.slots.hashing import SLOT_COUNT
from cluster.slots.ranges import bitmap_to_slots

if TYPE_CHECKING:
    from cluster.simulation.node import SimulatedNode
    from cluster.simulation.world import World

_WON = " after successful failover"


class Checker:
    """Watches one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.votes: dict[tuple[str, int], int] = {}
        """(voter, epoch): how many votes it gave."""
        self.winners: dict[int, str] = {}
        """Epoch: who won the election of that epoch."""
        self.had_takeover = False
        """An operator made a master without asking the others: both sides of a partition may have a majority now."""
        self.inputs = 0

    def fail(self, what: str) -> NoReturn:
        """Stop the run."""
        raise AssertionError(f"seed {self.world.seed}, at {self.world.now_ms} ms: {what}")

    def on_log(self, node: SimulatedNode, text: str) -> None:
        """Elections that were won show in the log."""
        self.had_takeover |= text == "Taking over the master (user request)."
        if text.startswith("configEpoch set to ") and text.endswith(_WON):
            epoch = int(text.removeprefix("configEpoch set to ").removesuffix(_WON))
            winner = node.state.myself.node_id
            if self.winners.setdefault(epoch, winner) != winner and not self.had_takeover:
                self.fail(f"epoch {epoch} was won by {self.winners[epoch]} and by {winner}")

    def on_send(self, node: SimulatedNode, message: Message) -> None:
        """A message leaves ``node``."""
        header = message.header
        saved = _saved_epochs(node.synced_disk)
        if header.current_epoch > saved["currentEpoch"]:
            self.fail(f"{node} says epoch {header.current_epoch}, {saved} is on disk")
        if header.type is MessageType.FAILOVER_AUTH_ACK:
            if saved["lastVoteEpoch"] != header.current_epoch:
                self.fail(f"{node} votes in epoch {header.current_epoch}, {saved} is on disk")
            vote = (header.sender, header.current_epoch)
            self.votes[vote] = self.votes.get(vote, 0) + 1
            if self.votes[vote] > 1:
                self.fail(f"{node} votes twice in epoch {header.current_epoch}")

    def after_input(self, node: SimulatedNode) -> None:
        """``node`` has processed something and done what followed from it."""
        self.inputs += 1
        if self.inputs % 500 == 0:
            self._check_records(node)

    def check_agreement(self) -> None:
        """All faults are over and everybody agrees: on something sound?"""
        for node in self.world.nodes:
            self._check_records(node)
        state = self.world.nodes[0].state
        masters = [peer for peer in state.nodes.values() if peer.is_master]
        if sum(peer.slot_count for peer in masters) != SLOT_COUNT:
            self.fail("some slots have no owner that is a master")
        epochs = [peer.config_epoch for peer in masters]
        if len(set(epochs)) != len(epochs):
            self.fail(f"masters share a config epoch: {epochs}")
        for node in self.world.nodes:
            # A takeover from a master that had lost its slots already makes one without any: an operator's mistake.
            if node.state.myself.is_master and node.state.myself.slot_count:
                owned = {slot for slot, owner in enumerate(node.state.owners) if owner is node.state.myself}
                stray = node.data.slots_with_keys - owned
                if stray:
                    self.fail(f"{node} holds keys of slots that are another's: {sorted(stray)}")

    def _check_records(self, node: SimulatedNode) -> None:
        problem = inconsistency(node.state)
        if problem:
            self.fail(f"{node}: {problem}")


def inconsistency(state: ClusterState) -> str | None:
    """The first invariant of ClusterState that does not hold; None if all do."""
    if state.nodes.get(state.myself.node_id) is not state.myself:
        return "myself is not in the table"
    members = set(state.nodes.values())
    if sum(node.slot_count for node in members) != sum(owner is not None for owner in state.owners):
        return "a slot is owned by a node that does not know it"
    for node_id, node in state.nodes.items():
        if node.node_id != node_id:
            return f"{node_id} is filed under a wrong id"
        slots = bitmap_to_slots(node.slots)
        if len(slots) != node.slot_count or any(state.owners[slot] is not node for slot in slots):
            return f"{node}: bitmap, count and owners differ"
        if node.is_master and node.is_replica:
            return f"{node} is both master and replica"
        if node.is_master and node.master is not None:
            return f"{node} is a master with a master"
        if node.master is not None and (node.master not in members or node not in node.master.replicas):
            return f"{node} is not among the replicas of its master"
        if any(replica.master is not node for replica in node.replicas):
            return f"{node} counts replicas of others"
        for link, inbound in ((node.link, False), (node.inbound_link, True)):
            if link is not None and (link.node is not node or not link.is_open or link.inbound is not inbound):
                return f"{node} has a link that is not its own"
        if set(node.fail_reports) - members:
            return f"{node} has reports of nodes that are gone"
    if set(state.importing.values()) - members or set(state.migrating.values()) - members:
        return "an open slot refers to a node that is gone"
    return None


def _saved_epochs(text: str) -> dict[str, int]:
    words = text.rstrip("\n").rsplit("\n", 1)[-1].split()
    return {name: int(value) for name, value in zip(words[1::2], words[2::2], strict=True)}
