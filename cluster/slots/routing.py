"""Routing: may this node run a command on these keys, and if not, what is the client told?

Role        The decision in front of every command with keys (getNodeByQuery in cluster.c), as a pure function of the
            slot table, the request and the session's flags; and the texts of its outcomes (clusterRedirectClient).
Invariants  The decision never changes anything. Its tests come in Redis's order, which decides which error wins.
Spec        Redis Cluster specification, "Redirection and resharding".

The dispatcher does not come here for the common case: :func:`build_fast_map` says for each slot whether a request whose
keys are all in it may be served without looking any further; only a slot that is 0 there needs :func:`route`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import attrs

from cluster.errors import CROSSSLOT, TRYAGAIN
from cluster.slots.hashing import SLOT_COUNT, key_slot


class Endpoint(Protocol):
    """What routing reads of a node. Nodes are compared by identity."""

    @property
    def ip(self) -> str: ...
    @property
    def hostname(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def master(self) -> Endpoint | None:
        """Whom a replica replicates; None for a master."""

    @property
    def slots(self) -> bytes | bytearray:
        """The slots it serves as a bitmap: slot s is bit s % 8 of byte s // 8."""


_DIGIT_TO_BYTE = bytes.maketrans(b"01", b"\0\1")

NodeT = TypeVar("NodeT", bound=Endpoint)
NodeT_co = TypeVar("NodeT_co", bound=Endpoint, covariant=True)


class SlotTable(Protocol[NodeT_co]):
    """What routing reads of the cluster's state (gossip's ClusterState is one)."""

    @property
    def health(self) -> int:
        """0 while the cluster as a whole accepts requests (cluster_state:ok), as in the bus header."""

    @property
    def myself(self) -> NodeT_co: ...

    @property
    def owners(self) -> Sequence[NodeT_co | None]:
        """Who serves each slot."""

    @property
    def migrating(self) -> Mapping[int, NodeT_co]: ...
    @property
    def importing(self) -> Mapping[int, NodeT_co]: ...


class Serve(enum.Enum):
    """The request runs here."""

    HERE = enum.auto()


class Refusal(enum.Enum):
    """The request can be run nowhere as it is; the value is the error's text."""

    CROSS_SLOT = CROSSSLOT
    TRY_AGAIN = TRYAGAIN
    CLUSTER_DOWN = b"CLUSTERDOWN The cluster is down"
    CLUSTER_READ_ONLY = b"CLUSTERDOWN The cluster is down and only accepts read commands"
    SLOT_NOT_SERVED = b"CLUSTERDOWN Hash slot not served"


@attrs.frozen
class Moved(Generic[NodeT_co]):
    """The slot belongs to another node, for good as far as this one knows."""

    slot: int
    node: NodeT_co


@attrs.frozen
class Ask(Generic[NodeT_co]):
    """The slot is on its way to another node and the keys are not here (any more): ask there, this once."""

    slot: int
    node: NodeT_co


Outcome = Serve | Refusal | Moved[NodeT] | Ask[NodeT]


@attrs.frozen
class Request:
    """A command, or the whole queue of a transaction, as routing sees it."""

    keys: Sequence[bytes]
    """Every key (or shard channel) in order, those of all queued commands for EXEC."""
    is_write: bool = False
    """The command itself has the WRITE flag (EXEC has not)."""
    queues_write: bool = False
    """EXEC: one of the queued commands has the WRITE flag."""
    is_asking: bool = False
    """The session sent ASKING, or the command implies it (RESTORE-ASKING)."""
    is_readonly_session: bool = False
    is_migrate: bool = False
    is_shard_pubsub: bool = False
    """SSUBSCRIBE, SUNSUBSCRIBE, SPUBLISH: the "keys" are channels."""


@attrs.frozen
class RoutingPolicy:
    """The cluster-allow-* settings."""

    allow_reads_when_down: bool = False
    allow_pubsubshard_when_down: bool = True


def route(
    table: SlotTable[NodeT], request: Request, has_key: Callable[[bytes, int], bool], policy: RoutingPolicy
) -> Outcome[NodeT]:
    """Decide who runs ``request``; ``has_key(key, slot)`` tells whether a key is stored here and not expired."""
    keys = request.keys
    if not keys:
        return Serve.HERE
    slot = key_slot(keys[0])
    owner = table.owners[slot]
    if owner is None:
        return Refusal.SLOT_NOT_SERVED
    myself = table.myself
    migrating_to = table.migrating.get(slot) if owner is myself else None
    is_importing = migrating_to is None and slot in table.importing

    several_keys = False
    for key in keys[1:]:
        if key != keys[0]:
            if key_slot(key) != slot:
                return Refusal.CROSS_SLOT
            several_keys = True

    if table.health and (refusal := _refusal_when_down(request, policy)) is not None:
        return refusal

    if migrating_to is not None or is_importing:
        if request.is_migrate:
            return Serve.HERE  # The tool that empties an open slot works on what is here, whoever owns it.
        missing = existing = 0
        if not request.is_shard_pubsub:  # Channels stay with the owner until the slot changes hands.
            existing = sum(has_key(key, slot) for key in keys)
            missing = len(keys) - existing
        if migrating_to is not None and missing:
            return Refusal.TRY_AGAIN if existing else Ask(slot, migrating_to)
        if is_importing and request.is_asking:
            return Refusal.TRY_AGAIN if several_keys and missing else Serve.HERE

    if owner is myself:
        return Serve.HERE
    if (
        owner is table.myself.master
        and (request.is_readonly_session or request.is_shard_pubsub)
        and not (request.is_write or request.queues_write)
    ):
        return Serve.HERE
    return Moved(slot, owner)


def _refusal_when_down(request: Request, policy: RoutingPolicy) -> Refusal | None:
    """What a request with keys is told while cluster_state is fail; None when it may go on."""
    if request.is_shard_pubsub:
        return None if policy.allow_pubsubshard_when_down else Refusal.CLUSTER_DOWN
    if not policy.allow_reads_when_down:
        return Refusal.CLUSTER_DOWN
    return Refusal.CLUSTER_READ_ONLY if request.is_write else None


def route_blocked(
    table: SlotTable[NodeT], key: bytes, *, is_readonly_session: bool, is_write: bool
) -> Refusal | Moved[NodeT] | None:
    """What a client parked on ``key`` (BLPOP …) is to be told now; None: it may go on waiting."""
    if table.health:
        return Refusal.CLUSTER_DOWN  # Also with allow_reads_when_down: nobody could write what it waits for.
    slot = key_slot(key)
    owner = table.owners[slot]
    if owner is table.myself or slot in table.importing:
        return None
    if owner is None:
        return Refusal.SLOT_NOT_SERVED
    if owner is table.myself.master and is_readonly_session and not is_write:
        return None
    return Moved(slot, owner)


def build_fast_map(table: SlotTable[NodeT]) -> bytes:
    """1 for each slot whose keys any client may use here whatever the command; all 0 while the cluster is down.

    To be built again whenever ``routing_version`` of the state has changed.
    """
    return _stable_slots_of(table.myself, table)


def build_replica_read_map(table: SlotTable[NodeT]) -> bytes:
    """On a replica, 1 for each slot in which a READONLY session may read here without a closer look."""
    return _stable_slots_of(table.myself.master, table)


def _stable_slots_of(node: Endpoint | None, table: SlotTable[NodeT]) -> bytes:
    if node is None or table.health:
        return bytes(SLOT_COUNT)
    # Bits to bytes by way of a string of "0" and "1": 15 µs, a twentieth of looking at 16384 owners one by one.
    digits = bin(int.from_bytes(node.slots, "little"))[:1:-1].encode().ljust(SLOT_COUNT, b"0")
    served = bytearray(digits.translate(_DIGIT_TO_BYTE))
    _clear(served, table.migrating)
    _clear(served, table.importing)
    return bytes(served)


def _clear(served: bytearray, slots: Iterable[int]) -> None:
    for slot in slots:
        served[slot] = 0


class EndpointType(enum.Enum):
    """How nodes are named to clients: the values of cluster-preferred-endpoint-type."""

    IP = "ip"
    HOSTNAME = "hostname"
    UNKNOWN = "unknown-endpoint"


def preferred_endpoint(node: Endpoint, endpoint_type: EndpointType) -> str:
    """The name of a node in redirections and CLUSTER SHARDS: empty means "where you are connected", ? "no idea"."""
    if endpoint_type is EndpointType.IP:
        return node.ip
    if endpoint_type is EndpointType.HOSTNAME:
        return node.hostname or "?"
    return ""


def refusal_text(outcome: Refusal | Moved[NodeT] | Ask[NodeT], endpoint_type: EndpointType) -> bytes:
    """The error that tells a client about the outcome, code word first, without the dash."""
    if isinstance(outcome, Refusal):
        return outcome.value
    word = "MOVED" if isinstance(outcome, Moved) else "ASK"
    node = outcome.node
    return f"{word} {outcome.slot} {preferred_endpoint(node, endpoint_type)}:{node.port}".encode()
