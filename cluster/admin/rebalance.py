"""Give every master its share of the slots, by weight.

Role        Plan which node gives how many slots to which, then make the moves.
Invariants  After a finished rebalance every node has its expected number of slots, give or take the rounding.
Source      clusterManagerCommandRebalance in redis-cli.c.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from cluster.admin.check import check_cluster
from cluster.admin.context import Context
from cluster.admin.errors import Aborted, AdminError, Refused
from cluster.admin.interrupt import StopAtNextStep
from cluster.admin.reshard import choose_slots
from cluster.admin.rounding import single
from cluster.admin.slot_move import MoveOptions, SlotMover
from cluster.admin.view import ClusterNode, ClusterView
from cluster.slots.hashing import SLOT_COUNT

DEFAULT_THRESHOLD_PERCENT = 2.0


@attrs.frozen
class RebalanceOptions:
    """What was asked for."""

    weights: Mapping[str, float] = attrs.field(factory=dict)  # By id, id prefix or host:port.
    use_empty_masters: bool = False
    threshold_percent: float = DEFAULT_THRESHOLD_PERCENT
    simulate: bool = False


@attrs.frozen
class Transfer:
    """``slot_count`` slots go from one node to another, by ids."""

    source_id: str
    target_id: str
    slot_count: int


def plan_rebalance(
    slot_counts: Mapping[str, int], weights: Mapping[str, float], threshold_percent: float
) -> list[Transfer] | None:
    """Match those that have too much with those that have too little. None when all are within the threshold."""
    total_weight = sum(weights.values())
    expected = {node_id: int(single(single(SLOT_COUNT / total_weight) * weights[node_id])) for node_id in slot_counts}
    if not any(_is_off(slot_counts[node_id], expected[node_id], threshold_percent) for node_id in slot_counts):
        return None
    balance = {node_id: slot_counts[node_id] - expected[node_id] for node_id in slot_counts}
    # Rounding down leaves slots over: hand them out, so that all that is given is also taken.
    surplus = sum(balance.values())
    takers = [node_id for node_id, excess in balance.items() if excess <= 0]
    for turn in range(surplus if takers else 0):
        balance[takers[turn % len(takers)]] -= 1
    ordered = sorted(balance, key=lambda node_id: balance[node_id])
    transfers: list[Transfer] = []
    taker, giver = 0, len(ordered) - 1
    while taker < giver:
        target_id, source_id = ordered[taker], ordered[giver]
        slot_count = min(abs(balance[target_id]), abs(balance[source_id]))
        if slot_count > 0:
            transfers.append(Transfer(source_id, target_id, slot_count))
        balance[target_id] += slot_count
        balance[source_id] -= slot_count
        taker += balance[target_id] == 0
        giver -= balance[source_id] == 0
    return transfers


def _is_off(slot_count: int, expected: int, threshold_percent: float) -> bool:
    if threshold_percent <= 0:
        return False
    if slot_count == 0:
        return expected > 1
    return abs(100 - 100.0 * expected / slot_count) > threshold_percent


def rebalance(context: Context, view: ClusterView, options: RebalanceOptions, move_options: MoveOptions) -> bool:
    """The command ``rebalance``."""
    console = context.console
    weights = _weights_by_id(view, options.weights)
    involved = [node for node in view.masters if node.slots or options.use_empty_masters]
    weights = {node.node_id: weights.get(node.node_id, 1.0) for node in involved}
    if check_cluster(context, view, quiet=True).errors:
        raise Refused(
            "*** Please fix your cluster problems before rebalancing",
            hint=f"Try: redis-cluster-cli fix {view.contact.address}",
        )
    total_weight = sum(weights.values())
    if total_weight <= 0:
        raise Refused("*** The weights add up to nothing: nobody would be left to hold the slots.")
    slot_counts = {node.node_id: len(node.slots) for node in involved}
    transfers = plan_rebalance(slot_counts, weights, options.threshold_percent)
    if transfers is None:
        console.warn(f"*** No rebalancing needed! All nodes are within the {options.threshold_percent:.2f}% threshold.")
        return True
    console.info(f">>> Rebalancing across {len(involved)} nodes. Total weight = {total_weight:.2f}")
    mover = SlotMover(context, view, move_options)
    for transfer in transfers:
        _carry_out(context, view, mover, transfer, options.simulate)
    return True


def _carry_out(context: Context, view: ClusterView, mover: SlotMover, transfer: Transfer, simulate: bool) -> None:
    console = context.console
    source, target = _node(view, transfer.source_id), _node(view, transfer.target_id)
    console.line(f"Moving {transfer.slot_count} slots from {source.address} to {target.address}")
    moves = choose_slots({source.node_id: source.slots}, transfer.slot_count)
    if simulate:
        console.line("#" * len(moves))
        source.slots -= {move.slot for move in moves}
        target.slots |= {move.slot for move in moves}
        return
    with console.progress("Moving slots", len(moves)) as bar, StopAtNextStep(console) as stop:
        for done, move in enumerate(moves):
            if stop.is_requested:
                raise Aborted(f"*** Stopped: {done} of {len(moves)} slots of this step moved, none left open.")
            bar.show(done, f"slot {move.slot}")
            try:
                mover.move(move.slot, source, target)
            except AdminError as error:
                error.hint = _what_next(view, move.slot)
                raise
            except KeyboardInterrupt:
                raise Aborted("*** Interrupted.", hint=_what_next(view, move.slot)) from None
            if not bar.replaces_lines:
                console.part("#")
    if not bar.replaces_lines:
        console.line()


def _what_next(view: ClusterView, slot: int) -> str:
    return (
        f"Slot {slot} may be left open. As soon as all nodes answer, close it:\n"
        f"  redis-cluster-cli fix {view.contact.address}\nthen rebalance again."
    )


def _weights_by_id(view: ClusterView, weights: Mapping[str, float]) -> dict[str, float]:
    by_id: dict[str, float] = {}
    for name, weight in weights.items():
        node = view.find(name)
        if node is None:
            raise Refused(f"*** No such master node {name}")
        by_id[node.node_id] = weight
    return by_id


def _node(view: ClusterView, node_id: str) -> ClusterNode:
    node = view.by_id(node_id)
    assert node is not None, "a plan names nodes of its own view"
    return node


def parse_weights(texts: Sequence[str]) -> dict[str, float]:
    """Read ``node=weight`` arguments."""
    weights: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if not equals or not 0 <= weight < float("inf"):
            raise Refused(f"*** invalid input {text}")
        weights[name] = weight
    return weights
