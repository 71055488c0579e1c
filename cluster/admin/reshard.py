"""Move a number of slots from some masters to another.

Role        Questions (when arguments are missing), the plan, the person's consent, the moves, and a clean report
            whichever way it ends.
Invariants  A plan is made only for a cluster that passes the check. When the work stops early, the report says how far
            it came, whether a slot was left open, and what to do next.
Source      clusterManagerCommandReshard and clusterManagerComputeReshardTable in redis-cli.c.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence, Set

import attrs

from cluster.admin.check import check_cluster
from cluster.admin.console import Console
from cluster.admin.context import Context
from cluster.admin.errors import Aborted, AdminError, UsageError
from cluster.admin.interrupt import StopAtNextStep
from cluster.admin.node_table import slot_ranges
from cluster.admin.rounding import single
from cluster.admin.slot_move import MoveOptions, SlotMover
from cluster.admin.view import ClusterNode, ClusterView, describe_node
from cluster.slots.hashing import SLOT_COUNT

# On a terminal a longer list of slots is shown as ranges.
_SLOTS_LISTED_ON_TERMINAL = 20


@attrs.frozen
class SlotMove:
    """``slot`` leaves the node with the id ``source_id``."""

    slot: int
    source_id: str


@attrs.frozen
class ReshardPlan:
    """The moves to one target, in the order in which they are made."""

    target_id: str
    moves: tuple[SlotMove, ...]


@attrs.frozen
class ReshardRequest:
    """What was asked for; what is None is asked of the person."""

    slot_count: int | None = None
    target: str | None = None
    sources: str | None = None  # Ids separated by commas, or "all".
    accept: bool = False


def choose_slots(slots_of: Mapping[str, Set[int]], count: int) -> tuple[SlotMove, ...]:
    """Choose ``count`` slots, from each node in proportion to what it has, lowest slots first.

    The largest node gives the rounded-up share and the others the rounded-down one, with C's single precision.
    """
    total = sum(len(slots) for slots in slots_of.values())
    moves: list[SlotMove] = []
    by_size = sorted(slots_of.items(), key=lambda item: -len(item[1]))
    for rank, (node_id, slots) in enumerate(by_size):
        share = single(single(single(count) / single(total)) * len(slots)) if total else 0.0
        wanted = math.ceil(share) if rank == 0 else math.floor(share)
        wanted = min(wanted, count - len(moves))
        moves += [SlotMove(slot, node_id) for slot in sorted(slots)[: max(wanted, 0)]]
    return tuple(moves)


def reshard(context: Context, view: ClusterView, request: ReshardRequest, options: MoveOptions) -> bool:
    """The command ``reshard``."""
    console = context.console
    if check_cluster(context, view).errors:
        raise UsageError(
            "*** Please fix your cluster problems before resharding",
            hint=f"Try: redis-cluster-cli fix {view.contact.address}",
        )
    slot_count = request.slot_count if request.slot_count is not None else ask_slot_count(context)
    if not 1 <= slot_count <= SLOT_COUNT:
        raise UsageError(f"*** The number of slots must be from 1 to {SLOT_COUNT}.")
    target = find_master(context, view, request.target if request.target is not None else ask_target(context))
    if target is None:
        return False
    sources = choose_sources(context, view, target, request.sources)
    if sources is None:
        return False
    if not sources:
        raise UsageError("*** No source nodes given, operation aborted.")
    plan = ReshardPlan(target.node_id, choose_slots({node.node_id: node.slots for node in sources}, slot_count))
    show_plan(context, plan, slot_count, sources, target)
    if not request.accept and console.ask("Do you want to proceed with the proposed reshard plan (yes/no)? ") != "yes":
        raise Aborted("*** Not accepted. Nothing was changed.")
    return carry_out(context, view, plan, options)


def ask_slot_count(context: Context) -> int:
    while True:
        answer = context.console.ask(f"How many slots do you want to move (from 1 to {SLOT_COUNT})? ")
        digits = answer.lstrip("0")
        if answer.isascii() and answer.isdecimal() and len(digits) < 6 and 1 <= int(digits or "0") <= SLOT_COUNT:
            return int(digits)


def ask_target(context: Context) -> str:
    while True:
        answer = context.console.ask("What is the receiving node ID? ")
        if answer:
            return answer


def find_master(context: Context, view: ClusterView, name: str) -> ClusterNode | None:
    """The master called ``name``; None, after saying so, when there is none."""
    node = view.find(name)
    if node is None or node.is_replica:
        context.console.error(f"*** The specified node ({name}) is not known or not a master, please retry.")
        return None
    return node


def choose_sources(
    context: Context, view: ClusterView, target: ClusterNode, named: str | None
) -> list[ClusterNode] | None:
    """The masters that give slots away: those ``named``, or those that the person enters. None: refused, and said."""
    sources: list[ClusterNode] = []
    for name in named.split(",") if named is not None else _ask_sources(context, sources):
        if name == "all":
            return [node for node in view.masters if node is not target]
        if not name:
            continue
        node = find_master(context, view, name)
        if node is None:
            return None
        if node is target:
            context.console.error("*** It is not possible to use the target node as source node.")
        elif node not in sources:
            sources.append(node)
    return sources


def _ask_sources(context: Context, chosen: Sequence[ClusterNode]) -> Iterator[str]:
    """Ask for one source after the other until the person is done; ``chosen`` are those accepted so far."""
    context.console.line(
        "Please enter all the source node IDs.\n"
        "  Type 'all' to use all the nodes as source nodes for the hash slots.\n"
        "  Type 'done' once you entered all the source nodes IDs."
    )
    while (answer := context.console.ask(f"Source node #{len(chosen) + 1}: ")) != "done":
        yield answer


def show_plan(
    context: Context, plan: ReshardPlan, slot_count: int, sources: Sequence[ClusterNode], target: ClusterNode
) -> None:
    """Print the plan in redis-cli's words."""
    console = context.console
    console.line(f"\nReady to move {slot_count} slots.")
    console.line("  Source nodes:")
    for node in sources:
        console.line(describe_node(node, indent=4))
    console.line("  Destination node:")
    console.line(describe_node(target, indent=4))
    console.line("  Resharding plan:")
    if not console.is_terminal or len(plan.moves) <= _SLOTS_LISTED_ON_TERMINAL:
        for move in plan.moves:
            console.line(f"    Moving slot {move.slot} from {move.source_id}")
        return
    for source in sources:
        for first, last in slot_ranges(move.slot for move in plan.moves if move.source_id == source.node_id):
            console.line(f"    Moving slots {first:>5} - {last:>5} ({last - first + 1} slots) from {source.node_id}")


def carry_out(context: Context, view: ClusterView, plan: ReshardPlan, options: MoveOptions) -> bool:
    """Make the moves. The first Ctrl-C stops between two slots, where stopping leaves nothing open."""
    console = context.console
    target = _known(view, plan.target_id)
    mover = SlotMover(context, view, options)
    started_ms = context.now_ms()
    key_count = 0
    with console.progress("Moving slots", len(plan.moves)) as bar, StopAtNextStep(console) as stop:
        for done, move in enumerate(plan.moves):
            if stop.is_requested:
                raise _stopped_early(view, plan, done)
            source = _known(view, move.source_id)
            bar.show(done, f"slot {move.slot}, {key_count} keys")
            on_keys = _no_dots
            if not bar.replaces_lines:
                console.part(f"Moving slot {move.slot} from {source.address} to {target.address}: ")
                on_keys = functools.partial(_dots, console)
            try:
                key_count += mover.move(move.slot, source, target, on_keys)
            except AdminError as error:
                error.hint = "\n".join(filter(None, (error.hint, _what_next(view, plan, done, move.slot))))
                raise
            except KeyboardInterrupt:
                raise Aborted("*** Interrupted.", hint=_what_next(view, plan, done, move.slot)) from None
            finally:
                if not bar.replaces_lines:
                    console.line()
        bar.show(len(plan.moves))
    if bar.replaces_lines:
        seconds = (context.now_ms() - started_ms) / 1000
        console.ok(f"[OK] {len(plan.moves)} slots with {key_count} keys moved to {target.address} in {seconds:.1f} s.")
    return True


def _dots(console: Console, count: int) -> None:
    console.part("." * count)


def _no_dots(_count: int) -> None:
    """The progress bar shows the keys."""


def _stopped_early(view: ClusterView, plan: ReshardPlan, done: int) -> Aborted:
    """The person asked to stop, and no slot is open."""
    left = plan.moves[done:]
    sources = ",".join(dict.fromkeys(move.source_id for move in left))
    options = f"--from {sources} --to {plan.target_id} --slots {len(left)}"
    return Aborted(
        f"*** Stopped: {done} of {len(plan.moves)} slots moved, none left open.",
        hint=f"To move the rest:\n  redis-cluster-cli reshard {view.contact.address} {options}",
    )


def _what_next(view: ClusterView, plan: ReshardPlan, done: int, slot: int) -> str:
    """How far it came, and how to put the cluster in order."""
    return (
        f"{done} of {len(plan.moves)} slots were moved. Slot {slot} may be left open, with keys on both sides;\n"
        "clients still find them. As soon as all nodes answer, close it:\n"
        f"  redis-cluster-cli fix {view.contact.address}\n"
        "then move the rest with another reshard."
    )


def _known(view: ClusterView, node_id: str) -> ClusterNode:
    node = view.by_id(node_id)
    assert node is not None, "a plan names nodes of its own view"
    return node
