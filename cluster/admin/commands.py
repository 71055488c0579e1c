"""One function per command of ``redis-cluster-cli``: from the options as read to the operation they ask for.

Role        Checks what argparse cannot, puts the options into the operation's own records, and runs it.
Invariants  Every function returns whether the command did what it was asked to, or raises AdminError.
            An operation's module is imported when it is needed: most commands need one of a dozen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from cluster.admin.errors import UsageError

if TYPE_CHECKING:
    import argparse

    from cluster.admin.address import Address
    from cluster.admin.context import Context
    from cluster.admin.slot_move import MoveOptions
    from cluster.admin.view import ClusterView

PROGRAM: Final = "redis-cluster-cli"
_DIGITS_MAX: Final = 19
_INVALID_CONTACT: Final = (
    "[ERR] Invalid arguments: you need to pass either a valid address (ie. 120.0.0.1:7000) or space separated IP and "
    "port (ie. 120.0.0.1 7000)"
)


def run_create(context: Context, arguments: argparse.Namespace) -> bool:
    import random

    from cluster.admin.create import create_cluster

    if arguments.replicas < 0:
        raise UsageError("[ERR] The number of replicas cannot be negative.")
    created = create_cluster(context, arguments.words, arguments.replicas, arguments.yes, random.Random())
    if created:
        context.console.hint(_what_to_try(arguments.words[0]))
    return created


def _what_to_try(text: str) -> str:
    from cluster.admin.address import parse_address

    address = parse_address(text)
    assert address is not None, "the cluster was made of it"
    rows = (
        (f"redis-cli -c -h {address.host} -p {address.port}", "talk to it; -c follows redirections"),
        (f"{PROGRAM} info {address}", "keys, slots and replicas of every master"),
        (f"{PROGRAM} check {address}", "is everything covered?"),
        (f"{PROGRAM} reshard {address}", "move slots while clients write"),
    )
    width = max(len(command) for command, _ in rows)
    return "\nThe cluster is ready. What to try next:\n" + "\n".join(
        f"  {command:<{width}}   {purpose}" for command, purpose in rows
    )


def run_check(context: Context, arguments: argparse.Namespace) -> bool:
    from cluster.admin.check import run_check

    view = _load(context, arguments)
    healthy = run_check(context, view, arguments.search_multiple_owners).is_healthy
    if not healthy:
        context.console.hint(f"\nTo repair what can be repaired: {PROGRAM} fix {view.contact.address}")
    return healthy


def run_info(context: Context, arguments: argparse.Namespace) -> bool:
    from cluster.admin.overview import show_keys

    show_keys(context, _load(context, arguments))
    return True


def run_fix(context: Context, arguments: argparse.Namespace) -> bool:
    import random

    from cluster.admin.fix import FixOptions, fix_cluster

    options = FixOptions(
        search_multiple_owners=arguments.search_multiple_owners,
        with_unreachable_masters=arguments.fix_with_unreachable_masters,
        move=_move_options(arguments, adopt_unserved=True),
    )
    return fix_cluster(context, _load(context, arguments), options, random.Random())


def run_reshard(context: Context, arguments: argparse.Namespace) -> bool:
    from cluster.admin.reshard import ReshardRequest, reshard

    request = ReshardRequest(
        slot_count=arguments.slots, target=arguments.to, sources=arguments.from_, accept=arguments.yes
    )
    options = _move_options(arguments)
    return reshard(context, _load(context, arguments), request, options)


def run_rebalance(context: Context, arguments: argparse.Namespace) -> bool:
    from cluster.admin.rebalance import RebalanceOptions, parse_weights, rebalance

    options = RebalanceOptions(
        weights=parse_weights(arguments.weight or []),
        use_empty_masters=arguments.use_empty_masters,
        threshold_percent=arguments.threshold,
        simulate=arguments.simulate,
    )
    move_options = _move_options(arguments)
    return rebalance(context, _load(context, arguments), options, move_options)


def run_meet(context: Context, arguments: argparse.Namespace) -> bool:
    from cluster.admin.membership import meet

    contact, *newcomers = [_address(word) for word in arguments.words]
    return meet(context, contact, newcomers)


def run_replicate(context: Context, arguments: argparse.Namespace) -> bool:
    from cluster.admin.membership import replicate

    return replicate(context, _address(arguments.words[0]), arguments.words[1])


def run_add_node(context: Context, arguments: argparse.Namespace) -> bool:
    from cluster.admin.membership import add_node

    newcomer, contact = _address(arguments.words[0]), _address(arguments.words[1])
    return add_node(context, newcomer, contact, arguments.slave or bool(arguments.master_id), arguments.master_id)


def run_del_node(context: Context, arguments: argparse.Namespace) -> bool:
    from cluster.admin.membership import delete_node

    return delete_node(context, _address(arguments.words[0]), arguments.words[1])


def run_set_timeout(context: Context, arguments: argparse.Namespace) -> bool:
    from cluster.admin.overview import set_node_timeout
    from cluster.admin.view import load_view

    contact, timeout_text = _address(arguments.words[0]), arguments.words[1]
    # No timeout has more digits than 64 bits, and Python refuses to read thousands of them.
    if not (timeout_text.isascii() and timeout_text.isdecimal()) or len(timeout_text) > _DIGITS_MAX:
        raise UsageError(f"[ERR] Not a number of milliseconds: {timeout_text}")
    return set_node_timeout(context, load_view(context, contact), int(timeout_text))


def run_doctor(context: Context, arguments: argparse.Namespace) -> bool:
    from cluster.admin.doctor import run_doctor

    return run_doctor(context, _load(context, arguments))


def run_call(context: Context, arguments: argparse.Namespace) -> bool:
    from cluster.admin.overview import call_everywhere
    from cluster.admin.view import load_view

    view = load_view(context, _address(arguments.words[0]))
    only_masters, only_replicas = arguments.only_masters, arguments.only_replicas
    return call_everywhere(
        context,
        view,
        arguments.words[1:],
        lambda node: not (only_masters and node.is_replica) and not (only_replicas and node.is_master),
    )


def _load(context: Context, arguments: argparse.Namespace) -> ClusterView:
    from cluster.admin.address import parse_contact
    from cluster.admin.view import load_view

    contact = parse_contact(arguments.words)
    if contact is None:
        raise UsageError(_INVALID_CONTACT)
    return load_view(context, contact)


def _address(text: str) -> Address:
    from cluster.admin.address import parse_address

    address = parse_address(text)
    if address is None:
        raise UsageError(_INVALID_CONTACT)
    return address


def _move_options(arguments: argparse.Namespace, adopt_unserved: bool = False) -> MoveOptions:
    from cluster.admin.slot_move import MoveOptions

    if arguments.timeout < 1:
        raise UsageError("[ERR] The time-out must be at least 1 millisecond.")
    if arguments.pipeline < 1:
        raise UsageError("[ERR] The pipeline must be at least 1 key.")
    return MoveOptions(arguments.timeout, arguments.pipeline, arguments.replace, adopt_unserved)


RUNNERS: Final[Mapping[str, Callable[[Context, argparse.Namespace], bool]]] = {
    "create": run_create,
    "check": run_check,
    "info": run_info,
    "fix": run_fix,
    "reshard": run_reshard,
    "rebalance": run_rebalance,
    "meet": run_meet,
    "replicate": run_replicate,
    "add-node": run_add_node,
    "del-node": run_del_node,
    "set-timeout": run_set_timeout,
    "doctor": run_doctor,
    "call": run_call,
}
"""By the name of the command."""
