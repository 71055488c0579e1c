"""Make nodes know each other, and wait until they do.

Role        CLUSTER MEET and the wait behind it, shared by ``create``, ``meet`` and ``add-node``.
Invariants  The wait is over when every node lists every other one by its real id and all of them name the same owners;
            it never lasts for ever, as redis-cli's does.
Source      clusterManagerWaitForClusterJoin and clusterManagerGetLinkStatus in redis-cli.c.
Units       *_ms: milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.admin.address import BUS_PORT_OFFSET, resolve_ip
from cluster.admin.connection import Argument, raise_error
from cluster.admin.context import Context
from cluster.admin.errors import Refused, UsageError
from cluster.admin.node_table import NodeRow, Ownership, ownership
from cluster.admin.view import ClusterNode, read_nodes

_POLL_MS = 100
# redis-cli names the links that are down after 20 seconds and 0.15 more per node, over and over; so do we, but once.
_WARN_AFTER_MS = 20_000
_WARN_AFTER_MS_PER_NODE = 150
_GIVE_UP_FACTOR = 3


def meet_command(node: ClusterNode) -> tuple[Argument, ...]:
    """The command that makes its receiver meet ``node``. MEET wants an IP address, not a name."""
    ip = resolve_ip(node.address.host)
    if ip is None:
        raise UsageError(f"Invalid IP address or hostname specified: {node.address.host}")
    if node.bus_port in (0, node.address.port + BUS_PORT_OFFSET):
        return ("CLUSTER", "MEET", ip, node.address.port)
    return ("CLUSTER", "MEET", ip, node.address.port, node.bus_port)


def introduce(first: ClusterNode, others: Sequence[ClusterNode]) -> None:
    """Have every one of ``others`` meet ``first``; gossip does the rest."""
    command = meet_command(first)
    for node in others:
        node.link.send(*command)
    for node in others:
        raise_error(node.link, node.link.receive())


def wait_for_join(context: Context, nodes: Sequence[ClusterNode], must_agree: bool = True) -> None:
    """Wait until all ``nodes`` know each other and, if they ``must_agree``, have one idea of who owns what."""
    console = context.console
    console.line("Waiting for the cluster to join")
    warn_after_ms = _WARN_AFTER_MS + _WARN_AFTER_MS_PER_NODE * len(nodes)
    give_up_after_ms = warn_after_ms * _GIVE_UP_FACTOR
    dots = 0
    has_warned = False
    ids = {node.node_id for node in nodes}

    with console.progress("Joining", len(nodes)) as bar:

        def has_joined() -> bool:
            tables = [read_nodes(node.link) for node in nodes]
            owners: set[Ownership] = {ownership(rows) for rows in tables}
            knowing = sum(ids <= _known_ids(rows) for rows in tables)
            bar.show(knowing)
            return knowing == len(nodes) and (len(owners) == 1 or not must_agree)

        def on_wait(waited_ms: int) -> None:
            nonlocal dots, has_warned
            if not bar.replaces_lines and waited_ms // 1000 > dots:
                dots += 1
                console.part(".")
            if waited_ms > warn_after_ms and not has_warned:
                has_warned = True
                _warn_of_missing_links(context, nodes)

        joined = context.wait_until(has_joined, give_up_after_ms, _POLL_MS, on_wait)
    console.line()
    if not joined:
        raise Refused(
            f"[ERR] The nodes did not join within {give_up_after_ms // 1000} seconds.",
            hint="Check that every node reaches the others' bus ports (client port + 10000 unless configured).",
        )


def _known_ids(rows: Sequence[NodeRow]) -> set[str]:
    """The nodes that this table knows for sure: while a handshake lasts, the id is a made-up one."""
    return {row.node_id for row in rows if not row.is_in_handshake}


def _warn_of_missing_links(context: Context, nodes: Sequence[ClusterNode]) -> None:
    console = context.console
    missing: dict[tuple[str, int, int], list[ClusterNode]] = {}
    for node in nodes:
        for row in read_nodes(node.link):
            if not row.is_myself and (not row.is_connected or row.is_in_handshake):
                missing.setdefault((row.host, row.port, row.bus_port), []).append(node)
    if not missing:
        return
    console.line()
    console.error(f"Warning: {len(missing)} node(s) may be unreachable")
    for (host, port, bus_port), seen_from in missing.items():
        if bus_port:
            console.error(f" - The port {bus_port} of node {host} may be unreachable from:")
        else:
            console.error(f" - Node {host}:{port} may be unreachable from:")
        for node in seen_from:
            console.error(f"   {node.address}")
        console.error(
            "Cluster bus ports must be reachable by every node.\n"
            "Remember that cluster bus ports are different from standard instance ports."
        )
