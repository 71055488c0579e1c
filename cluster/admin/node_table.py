"""CLUSTER NODES as values: one row per node, its slots, and the slots that are on their way.

Role        Reads the text that every node gives of its own view of the cluster, and writes slot sets the way
            redis-cli prints them.
Invariants  ``parse_nodes`` accepts what Redis 4 to 7 write and raises ValueError on anything else; slots are in
            0 <= slot < SLOT_COUNT.
Spec        CLUSTER NODES: ``<id> <ip:port@bus-port[,hostname]> <flags> <master id> <ping sent> <pong received>
            <config epoch> <link state> <slot> <slot-slot> [<slot>->-<id>] [<slot>-<-<id>] …``
Units       ping_sent_ms, pong_received_ms: unix milliseconds, 0 when not waiting for a pong.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import attrs

from cluster.slots.hashing import SLOT_COUNT

_FIXED_COLUMNS = 8
ALL_SLOTS = frozenset(range(SLOT_COUNT))

# Who owns what: node ids with their slot ranges.
Ownership: TypeAlias = frozenset[tuple[str, tuple[tuple[int, int], ...]]]


@attrs.frozen
class NodeRow:
    """One node as another (or itself, with the flag ``myself``) describes it."""

    node_id: str
    host: str  # Empty for a node that does not know its own address yet, and for a node without address.
    port: int
    bus_port: int  # 0 where the text has none (Redis 3).
    hostname: str
    flags: tuple[str, ...]
    master_id: str | None
    ping_sent_ms: int
    pong_received_ms: int
    config_epoch: int
    is_connected: bool
    slot_ranges: tuple[tuple[int, int], ...] = ()  # Inclusive, ascending.
    migrating: dict[int, str] = attrs.field(factory=dict)  # slot → id of the node that it moves to
    importing: dict[int, str] = attrs.field(factory=dict)  # slot → id of the node that it comes from

    @property
    def slots(self) -> set[int]:
        """The slots of ``slot_ranges``, one by one."""
        return {slot for first, last in self.slot_ranges for slot in range(first, last + 1)}

    @property
    def is_myself(self) -> bool:
        return "myself" in self.flags

    @property
    def is_replica(self) -> bool:
        return "slave" in self.flags

    @property
    def is_in_handshake(self) -> bool:
        return "handshake" in self.flags


def parse_nodes(text: str) -> list[NodeRow]:
    """Read the reply of CLUSTER NODES. ValueError when it is not one."""
    rows = [_parse_row(line) for line in text.splitlines() if line.strip()]
    if sum(row.is_myself for row in rows) != 1:
        raise ValueError("not exactly one node is 'myself'")
    return rows


def _parse_row(line: str) -> NodeRow:
    columns = line.split()
    if len(columns) < _FIXED_COLUMNS:
        raise ValueError(f"too few columns: {line!r}")
    node_id, address, flags, master_id, ping_sent, pong_received, config_epoch, link_state = columns[:_FIXED_COLUMNS]
    host, port, bus_port, hostname = _parse_node_address(address)
    owned, migrating, importing = _parse_slots(columns[_FIXED_COLUMNS:])
    return NodeRow(
        node_id=node_id,
        host=host,
        port=port,
        bus_port=bus_port,
        hostname=hostname,
        flags=tuple(flags.split(",")),
        master_id=None if master_id == "-" else master_id,
        ping_sent_ms=int(ping_sent),
        pong_received_ms=int(pong_received),
        config_epoch=int(config_epoch),
        is_connected=link_state == "connected",
        slot_ranges=owned,
        migrating=migrating,
        importing=importing,
    )


def _parse_node_address(text: str) -> tuple[str, int, int, str]:
    """``ip:port@bus-port,hostname``: the last colon before the ``@`` divides, the ip may hold colons itself."""
    address, _, hostname = text.partition(",")
    address, _, bus_port = address.partition("@")
    host, colon, port = address.rpartition(":")
    if not colon:
        raise ValueError(f"not an address: {text!r}")
    return host, int(port), int(bus_port or 0), hostname


def _parse_slots(words: list[str]) -> tuple[tuple[tuple[int, int], ...], dict[int, str], dict[int, str]]:
    owned: list[tuple[int, int]] = []
    migrating: dict[int, str] = {}
    importing: dict[int, str] = {}
    for word in words:
        if word.startswith("["):
            inside = word[1:].removesuffix("]")
            for arrow, moving in (("->-", migrating), ("-<-", importing)):
                slot_text, found, node_id = inside.partition(arrow)
                if found:
                    moving[_slot(slot_text)] = node_id
        else:
            first, _, last = word.partition("-")
            owned.append((_slot(first), _slot(last or first)))
    return tuple(owned), migrating, importing


def _slot(text: str) -> int:
    slot = int(text)
    if not 0 <= slot < SLOT_COUNT:
        raise ValueError(f"not a slot: {text!r}")
    return slot


def slot_ranges(slots: Iterable[int]) -> list[tuple[int, int]]:
    """The slots as ascending, inclusive, maximal ranges."""
    ranges: list[tuple[int, int]] = []
    for slot in sorted(slots):
        if ranges and ranges[-1][1] == slot - 1:
            ranges[-1] = (ranges[-1][0], slot)
        else:
            ranges.append((slot, slot))
    return ranges


def slots_text(slots: Iterable[int]) -> str:
    """Slots as redis-cli writes them: ``[0-5460],[7000],[8000-8010]``."""
    return ",".join(f"[{first}]" if first == last else f"[{first}-{last}]" for first, last in slot_ranges(slots))


def ownership(rows: Iterable[NodeRow]) -> Ownership:
    """Who owns what according to one node. Two nodes agree about the configuration when theirs are equal.

    Nodes without slots do not count, and neither do open slots: those are checked by themselves.
    """
    return frozenset((row.node_id, row.slot_ranges) for row in rows if row.slot_ranges)
