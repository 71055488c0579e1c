"""Who gets which slots and who replicates whom in a new cluster, planned before anything is touched.

Role        Turns the list of nodes into a ``CreationPlan``: slot ranges for the masters, a master for every replica,
            replicas spread over the hosts so that a host that dies does not take a master and its replicas with it.
Invariants  The slot ranges of the masters are disjoint and cover all slots; every other node replicates a master.
            The same input and random source give the same plan.
Source      clusterManagerCommandCreate, clusterManagerGetAntiAffinityScore and clusterManagerOptimizeAntiAffinity in
            redis-cli.c: the ranges and the first assignment come out as there, single-precision rounding included.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import attrs

from cluster.admin.address import Address
from cluster.admin.rounding import single
from cluster.slots.hashing import SLOT_COUNT

MINIMUM_MASTERS = 3
# A replica on its master's host is no protection at all; two replicas of a master on one host are merely half of one.
SAME_HOST_AS_MASTER = 10000
_SWAPS_TRIED_PER_NODE = 500


@attrs.frozen
class NewNode:
    """A node that is to become part of a cluster."""

    address: Address
    node_id: str


@attrs.frozen
class SlotShare:
    """A master and the slots that it gets: ``first`` to ``last`` inclusive."""

    master: NewNode
    first: int
    last: int

    @property
    def slots(self) -> range:
        return range(self.first, self.last + 1)


@attrs.frozen
class ReplicaChoice:
    """``replica`` is to replicate ``master``."""

    replica: NewNode
    master: NewNode


@attrs.frozen
class CreationPlan:
    """Everything ``create`` will do. ``first_choice`` is the assignment before the hosts were looked at as a whole."""

    nodes: tuple[NewNode, ...]
    shares: tuple[SlotShare, ...]
    first_choice: tuple[ReplicaChoice, ...]
    extra_choice: tuple[ReplicaChoice, ...]  # Nodes left over when every master has its replicas.
    replicas: tuple[ReplicaChoice, ...]
    was_optimised: bool
    score: int

    def share_of(self, node: NewNode) -> SlotShare | None:
        """The slots planned for ``node``; None for a replica."""
        return next((share for share in self.shares if share.master == node), None)

    def master_of(self, node: NewNode) -> NewNode | None:
        """The master planned for ``node``; None for a master."""
        return next((choice.master for choice in self.replicas if choice.replica == node), None)


def master_count(node_count: int, replicas_per_master: int) -> int:
    """How many of the nodes become masters."""
    return node_count // (replicas_per_master + 1)


def plan_creation(nodes: Sequence[NewNode], replicas_per_master: int, rng: random.Random) -> CreationPlan:
    """Plan a cluster of ``nodes``, which must suffice for one master at least."""
    masters_wanted = master_count(len(nodes), replicas_per_master)
    by_host = interleave_hosts(nodes)
    masters, others = by_host[:masters_wanted], by_host[masters_wanted:]
    # One step of rotation often brings a replica to another host than its master's before any optimising.
    waiting = others[1:] + others[:1]

    first_choice = [
        ReplicaChoice(_take_replica(waiting, master), master) for master in masters for _ in range(replicas_per_master)
    ]
    extra_choice: list[ReplicaChoice] = []
    while waiting:
        master = masters[len(extra_choice) % masters_wanted]
        extra_choice.append(ReplicaChoice(_take_replica(waiting, master), master))

    chosen = [*first_choice, *extra_choice]
    needs_optimising = affinity_score(chosen) > 0
    replicas = spread_over_hosts(chosen, len(nodes), rng) if needs_optimising else chosen
    return CreationPlan(
        nodes=tuple(nodes),
        shares=tuple(share_slots(masters)),
        first_choice=tuple(first_choice),
        extra_choice=tuple(extra_choice),
        replicas=tuple(replicas),
        was_optimised=needs_optimising,
        score=affinity_score(replicas),
    )


def interleave_hosts(nodes: Sequence[NewNode]) -> list[NewNode]:
    """The nodes in turns, one of each host per round, so that the first ones (the masters) are on many hosts."""
    by_host: dict[str, list[NewNode]] = {}
    for node in nodes:
        by_host.setdefault(node.address.host, []).append(node)
    rounds = max(len(of_host) for of_host in by_host.values())
    return [of_host[turn] for turn in range(rounds) for of_host in by_host.values() if turn < len(of_host)]


def share_slots(masters: Sequence[NewNode]) -> list[SlotShare]:
    """Divide all slots among the masters as evenly as redis-cli does, to the slot."""
    slots_per_master = single(SLOT_COUNT / len(masters))
    shares: list[SlotShare] = []
    cursor, first = 0.0, 0
    for master in masters:
        end = single(single(cursor + slots_per_master) - 1)
        last = math.floor(end + 0.5)  # Half goes up, as in lround; Python's round() would go to the even number.
        if last > SLOT_COUNT or len(shares) == len(masters) - 1:
            last = SLOT_COUNT - 1
        last = max(last, first)
        shares.append(SlotShare(master, first, last))
        first = last + 1
        cursor = single(cursor + slots_per_master)
    return shares


def _take_replica(waiting: list[NewNode], master: NewNode) -> NewNode:
    """Remove and return the next node that is not on the master's host, or the next one if there is none."""
    index = next((i for i, node in enumerate(waiting) if node.address.host != master.address.host), 0)
    return waiting.pop(index)


def affinity_score(choices: Sequence[ReplicaChoice]) -> int:
    """How badly replicas are placed, 0 being perfect. See ``SAME_HOST_AS_MASTER`` for the weights."""
    replicas_of: dict[NewNode, list[NewNode]] = {}
    for choice in choices:
        replicas_of.setdefault(choice.master, []).append(choice.replica)
    return sum(_score_of_master(master, replicas) for master, replicas in replicas_of.items())


def _score_of_master(master: NewNode, replicas: Sequence[NewNode]) -> int:
    per_host = Counter(replica.address.host for replica in replicas)
    beside_master = per_host.pop(master.address.host, 0)
    return SAME_HOST_AS_MASTER * beside_master + sum(count for count in per_host.values() if count > 1)


def spread_over_hosts(choices: Sequence[ReplicaChoice], node_count: int, rng: random.Random) -> list[ReplicaChoice]:
    """Swap the masters of replicas at random, keeping what does no harm, and return the best assignment met.

    redis-cli keeps the last assignment instead of the best, so that with one host it shuffles the replicas for nothing.
    """
    hosts = {node.address.host for choice in choices for node in (choice.replica, choice.master)}
    if len(hosts) == 1 or len(choices) < 2:
        return list(choices)
    state = _Assignment.of(choices)
    best_score, best = state.score, list(state.master_of)
    for _ in range(_SWAPS_TRIED_PER_NODE * node_count):
        offenders = state.offenders()
        if not offenders:
            break
        first = rng.choice(offenders)
        second = rng.randrange(len(choices) - 1)
        second += second >= first  # Any other replica but the first.
        state.swap_if_harmless(first, second)
        if state.score < best_score:
            best_score, best = state.score, list(state.master_of)
    return [ReplicaChoice(choice.replica, state.masters[master]) for choice, master in zip(choices, best, strict=True)]


@attrs.define
class _Assignment:
    """Which replica has which master, by index, with the score kept up to date per master."""

    replicas: list[NewNode]
    masters: list[NewNode]
    master_of: list[int]
    replicas_of: list[set[int]]
    scores: list[int]
    score: int

    @classmethod
    def of(cls, choices: Sequence[ReplicaChoice]) -> _Assignment:
        masters = list(dict.fromkeys(choice.master for choice in choices))
        master_of = [masters.index(choice.master) for choice in choices]
        replicas_of = [{i for i, m in enumerate(master_of) if m == index} for index in range(len(masters))]
        state = cls([choice.replica for choice in choices], masters, master_of, replicas_of, [0] * len(masters), 0)
        for index in range(len(masters)):
            state._rescore(index)
        return state

    def offenders(self) -> list[int]:
        """The replicas of the masters that have something to improve."""
        return [replica for replica, master in enumerate(self.master_of) if self.scores[master] > 0]

    def swap_if_harmless(self, first: int, second: int) -> None:
        """Exchange the masters of two replicas, unless that makes things worse."""
        before = self.score
        self._swap(first, second)
        if self.score > before:
            self._swap(first, second)

    def _swap(self, first: int, second: int) -> None:
        one, other = self.master_of[first], self.master_of[second]
        if one == other:
            return
        self.replicas_of[one] ^= {first, second}
        self.replicas_of[other] ^= {first, second}
        self.master_of[first], self.master_of[second] = other, one
        self._rescore(one)
        self._rescore(other)

    def _rescore(self, master: int) -> None:
        new = _score_of_master(self.masters[master], [self.replicas[i] for i in sorted(self.replicas_of[master])])
        self.score += new - self.scores[master]
        self.scores[master] = new
