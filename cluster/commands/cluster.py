"""CLUSTER and its subcommands; READONLY, READWRITE and ASKING.

Here are the arguments, their refusals, and the replies. What a subcommand changes, and whether it may, is decided by
cluster.failover.operations; the effects are performed at once, and what follows for disk and bus happens before the
reply leaves. Reports are drawn in cluster_reports.py. Source: clusterCommand in cluster.c of Redis 7.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from cluster import clock, errors
from cluster.commands.arguments import parse_integer
from cluster.commands.cluster_reports import Reporter
from cluster.commands.context import Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.failover.operations import FailoverMode
from cluster.gossip.nodes_conf import describe_nodes, node_line
from cluster.resp.encode import OK, array, bulk, bulk_array, integer, simple
from cluster.slots.hashing import SLOT_COUNT, key_slot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster.failover.operations import ClusterOperations
    from cluster.gossip.effects import LocalEffect
    from cluster.gossip.state import ClusterState, Node

_INVALID_SLOT: Final = b"ERR Invalid or out of range slot"


# --- what a session asks for -----------------------------------------------------------------------------------------


@command("readonly")
def readonly(client: Session, argv: list[bytes]) -> bytes:
    """Read from this replica's copy of its master's slots."""
    _state(client)
    client.readonly = True
    client.refresh_plain()
    return OK


@command("readwrite")
def readwrite(client: Session, argv: list[bytes]) -> bytes:
    """Take READONLY back."""
    _state(client)
    client.readonly = False
    client.refresh_plain()
    return OK


@command("asking")
def asking(client: Session, argv: list[bytes]) -> bytes:
    """Let the next command use a slot that is being imported."""
    _state(client)
    client.asking = True
    client.refresh_plain()
    return OK


# --- reports ---------------------------------------------------------------------------------------------------------


@command("cluster|info")
def cluster_info(client: Session, argv: list[bytes]) -> bytes:
    return _reporter(client).info()


@command("cluster|nodes")
def cluster_nodes(client: Session, argv: list[bytes]) -> bytes:
    return client.proto.verbatim(describe_nodes(_state(client)).encode("latin-1", "replace"))


@command("cluster|slots")
def cluster_slots(client: Session, argv: list[bytes]) -> bytes:
    return _reporter(client).slots()


@command("cluster|shards")
def cluster_shards(client: Session, argv: list[bytes]) -> bytes:
    return _reporter(client).shards()


@command("cluster|links")
def cluster_links(client: Session, argv: list[bytes]) -> bytes:
    return _reporter(client).links()


@command("cluster|myid")
def cluster_myid(client: Session, argv: list[bytes]) -> bytes:
    return bulk(_state(client).myself.node_id.encode())


@command("cluster|replicas")
def cluster_replicas(client: Session, argv: list[bytes]) -> bytes:
    """CLUSTER REPLICAS <node-id>: a CLUSTER NODES line for each replica."""
    return _replicas(client, argv)


@command("cluster|slaves")
def cluster_slaves(client: Session, argv: list[bytes]) -> bytes:
    """The former name of CLUSTER REPLICAS."""
    return _replicas(client, argv)


def _replicas(client: Session, argv: list[bytes]) -> bytes:
    state = _state(client)
    node = _node(state, argv[2])
    if node.is_replica:
        raise CommandError(b"ERR The specified node is not a master")
    return array([bulk(node_line(state, replica).encode("latin-1", "replace")) for replica in node.replicas])


@command("cluster|count-failure-reports")
def cluster_count_failure_reports(client: Session, argv: list[bytes]) -> bytes:
    return integer(_operations(client).count_failure_reports(_node_id(argv[2]), clock.monotonic_ms()))


@command("cluster|help")
def cluster_help(client: Session, argv: list[bytes]) -> bytes:
    _state(client)
    return help_reply(b"CLUSTER", _HELP)


# --- keys and slots --------------------------------------------------------------------------------------------------


@command("cluster|keyslot")
def cluster_keyslot(client: Session, argv: list[bytes]) -> bytes:
    _state(client)
    return integer(key_slot(argv[2]))


@command("cluster|countkeysinslot")
def cluster_countkeysinslot(client: Session, argv: list[bytes]) -> bytes:
    _state(client)
    slot = parse_integer(argv[2])
    if not 0 <= slot < SLOT_COUNT:
        raise CommandError(b"ERR Invalid slot")
    return integer(len(client.server.keyspace.databases[0].slots[slot]))


@command("cluster|getkeysinslot")
def cluster_getkeysinslot(client: Session, argv: list[bytes]) -> bytes:
    _state(client)
    slot, limit = parse_integer(argv[2]), parse_integer(argv[3])
    if not 0 <= slot < SLOT_COUNT or limit < 0:
        raise CommandError(b"ERR Invalid slot or number of keys")
    keys = client.server.keyspace.databases[0].slots[slot]
    return bulk_array(islice(reversed(keys), min(limit, len(keys))))  # The newest first, as Redis lists them.


@command("cluster|addslots")
def cluster_addslots(client: Session, argv: list[bytes]) -> bytes:
    operations = _operations(client)
    slots = [_slot(text) for text in argv[2:]]
    return _perform(client, operations.add_slots([(slot, slot) for slot in slots], clock.monotonic_ms()))


@command("cluster|delslots")
def cluster_delslots(client: Session, argv: list[bytes]) -> bytes:
    operations = _operations(client)
    slots = [_slot(text) for text in argv[2:]]
    return _perform(client, operations.delete_slots([(slot, slot) for slot in slots], clock.monotonic_ms()))


@command("cluster|addslotsrange")
def cluster_addslotsrange(client: Session, argv: list[bytes]) -> bytes:
    return _perform(client, _operations(client).add_slots(_ranges(argv), clock.monotonic_ms()))


@command("cluster|delslotsrange")
def cluster_delslotsrange(client: Session, argv: list[bytes]) -> bytes:
    return _perform(client, _operations(client).delete_slots(_ranges(argv), clock.monotonic_ms()))


def _ranges(argv: list[bytes]) -> Iterator[tuple[int, int]]:
    """Start and end, start and end …: each read only when the one before was found to be possible, as in Redis."""
    if len(argv) % 2:
        raise errors.wrong_arity(b"cluster|" + argv[1].lower())
    for index in range(2, len(argv), 2):
        start, end = _slot(argv[index]), _slot(argv[index + 1])
        if start > end:
            raise CommandError(b"ERR start slot number %d is greater than end slot number %d" % (start, end))
        yield start, end


@command("cluster|flushslots")
def cluster_flushslots(client: Session, argv: list[bytes]) -> bytes:
    return _perform(client, _operations(client).flush_slots(clock.monotonic_ms()))


@command("cluster|setslot")
def cluster_setslot(client: Session, argv: list[bytes]) -> bytes:
    """CLUSTER SETSLOT <slot> MIGRATING|IMPORTING|NODE <node-id> | STABLE"""
    operations = _operations(client)
    operations.check_set_slot_allowed()
    slot = _slot(argv[2])
    now_ms = clock.monotonic_ms()
    match argv[3].lower(), [_node_id(text) for text in argv[4:]]:
        case b"migrating", [node_id]:
            effects = operations.set_slot_migrating(slot, node_id, now_ms)
        case b"importing", [node_id]:
            effects = operations.set_slot_importing(slot, node_id, now_ms)
        case b"node", [node_id]:
            effects = operations.set_slot_node(slot, node_id, now_ms)
        case b"stable", []:
            effects = operations.set_slot_stable(slot, now_ms)
        case _:
            raise CommandError(b"ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP")
    return _perform(client, effects)


# --- nodes -----------------------------------------------------------------------------------------------------------


@command("cluster|meet")
def cluster_meet(client: Session, argv: list[bytes]) -> bytes:
    """CLUSTER MEET <ip> <port> [<bus-port>]"""
    operations = _operations(client)
    if len(argv) > 5:
        raise _syntax_error(argv)
    port = parse_integer(argv[3], b"ERR Invalid TCP base port specified: " + argv[3])
    bus_port = parse_integer(argv[4], b"ERR Invalid TCP bus port specified: " + argv[4]) if len(argv) == 5 else None
    return _perform(client, operations.meet(argv[2].decode("latin-1"), port, bus_port, clock.monotonic_ms()))


@command("cluster|forget")
def cluster_forget(client: Session, argv: list[bytes]) -> bytes:
    return _perform(client, _operations(client).forget(_node_id(argv[2]), clock.monotonic_ms()))


@command("cluster|replicate")
def cluster_replicate(client: Session, argv: list[bytes]) -> bytes:
    return _perform(client, _operations(client).replicate(_node_id(argv[2]), clock.monotonic_ms()))


@command("cluster|failover")
def cluster_failover(client: Session, argv: list[bytes]) -> bytes:
    """CLUSTER FAILOVER [FORCE|TAKEOVER]"""
    operations = _operations(client)
    match [word.lower() for word in argv[2:]]:
        case []:
            mode = FailoverMode.NORMAL
        case [b"force"]:
            mode = FailoverMode.FORCE
        case [b"takeover"]:
            mode = FailoverMode.TAKEOVER
        case [_]:
            raise CommandError(errors.SYNTAX)
        case _:
            raise _syntax_error(argv)
    return _perform(client, operations.failover(mode, clock.monotonic_ms()))


@command("cluster|reset")
def cluster_reset(client: Session, argv: list[bytes]) -> bytes:
    """CLUSTER RESET [HARD|SOFT]"""
    operations = _operations(client)
    match [word.lower() for word in argv[2:]]:
        case [] | [b"soft"]:
            hard = False
        case [b"hard"]:
            hard = True
        case [_]:
            raise CommandError(errors.SYNTAX)
        case _:
            raise _syntax_error(argv)
    return _perform(client, operations.reset(hard, clock.monotonic_ms()))


# --- epochs and nodes.conf -------------------------------------------------------------------------------------------


@command("cluster|bumpepoch")
def cluster_bumpepoch(client: Session, argv: list[bytes]) -> bytes:
    bumped, effects = _operations(client).bump_epoch(clock.monotonic_ms())
    _perform(client, effects)
    return simple(b"%b %d" % (b"BUMPED" if bumped else b"STILL", _state(client).myself.config_epoch))


@command("cluster|set-config-epoch")
def cluster_set_config_epoch(client: Session, argv: list[bytes]) -> bytes:
    operations = _operations(client)
    return _perform(client, operations.set_config_epoch(parse_integer(argv[2]), clock.monotonic_ms()))


@command("cluster|saveconfig")
def cluster_saveconfig(client: Session, argv: list[bytes]) -> bytes:
    _state(client)
    bus = client.server.bus
    assert bus is not None
    try:
        bus.save_config(fsync=True)
    except OSError as failure:
        reason = (failure.strerror or str(failure)).encode()
        raise CommandError(b"ERR error saving the cluster node config: " + reason) from failure
    return OK


# --- what they share -------------------------------------------------------------------------------------------------


def _state(client: Session) -> ClusterState:
    """The cluster's state; refused when this node is not part of a cluster."""
    state = client.server.cluster
    if state is None:
        raise CommandError(errors.CLUSTER_DISABLED)
    return state


def _operations(client: Session) -> ClusterOperations:
    engine = client.server.engine
    if engine is None:
        raise CommandError(errors.CLUSTER_DISABLED)
    return engine.operations


def _perform(client: Session, effects: Iterable[LocalEffect]) -> bytes:
    """Act on what the engine decided."""
    bus = client.server.bus
    assert bus is not None
    bus.perform(effects)
    return OK


def _reporter(client: Session) -> Reporter:
    return Reporter.of(client.server, _state(client), client.proto)


def _slot(text: bytes) -> int:
    slot = parse_integer(text, _INVALID_SLOT)
    if not 0 <= slot < SLOT_COUNT:
        raise CommandError(_INVALID_SLOT)
    return slot


def _node_id(text: bytes) -> str:
    return text.decode("latin-1")


def _node(state: ClusterState, node_id: bytes) -> Node:
    node = state.find(_node_id(node_id))
    if node is None:
        raise CommandError(b"ERR Unknown node " + node_id)
    return node


def _syntax_error(argv: list[bytes]) -> CommandError:
    """More words than the subcommand has a use for, although its arity allows them."""
    return CommandError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try %b HELP." % (argv[1][:128], argv[0].upper())
    )


_HELP: Final = [
    b"ADDSLOTS <slot> [<slot> ...]",
    b"    Assign slots to current node.",
    b"ADDSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
    b"    Assign slots which are between <start-slot> and <end-slot> to current node.",
    b"BUMPEPOCH",
    b"    Advance the cluster config epoch.",
    b"COUNT-FAILURE-REPORTS <node-id>",
    b"    Return number of failure reports for <node-id>.",
    b"COUNTKEYSINSLOT <slot>",
    b"    Return the number of keys in <slot>.",
    b"DELSLOTS <slot> [<slot> ...]",
    b"    Delete slots information from current node.",
    b"DELSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]",
    b"    Delete slots information which are between <start-slot> and <end-slot> from current node.",
    b"FAILOVER [FORCE|TAKEOVER]",
    b"    Promote current replica node to being a master.",
    b"FORGET <node-id>",
    b"    Remove a node from the cluster.",
    b"GETKEYSINSLOT <slot> <count>",
    b"    Return key names stored by current node in a slot.",
    b"FLUSHSLOTS",
    b"    Delete current node own slots information.",
    b"INFO",
    b"    Return information about the cluster.",
    b"KEYSLOT <key>",
    b"    Return the hash slot for <key>.",
    b"MEET <ip> <port> [<bus-port>]",
    b"    Connect nodes into a working cluster.",
    b"MYID",
    b"    Return the node id.",
    b"NODES",
    b"    Return cluster configuration seen by node. Output format:",
    b"    <id> <ip:port> <flags> <master> <pings> <pongs> <epoch> <link> <slot> ...",
    b"REPLICATE <node-id>",
    b"    Configure current node as replica to <node-id>.",
    b"RESET [HARD|SOFT]",
    b"    Reset current node (default: soft).",
    b"SET-CONFIG-EPOCH <epoch>",
    b"    Set config epoch of current node.",
    b"SETSLOT <slot> (IMPORTING <node-id>|MIGRATING <node-id>|STABLE|NODE <node-id>)",
    b"    Set slot state.",
    b"REPLICAS <node-id>",
    b"    Return <node-id> replicas.",
    b"SAVECONFIG",
    b"    Force saving cluster configuration on disk.",
    b"SLOTS",
    b"    Return information about slots range mappings. Each range is made of:",
    b"    start, end, master and replicas IP addresses, ports and ids",
    b"SHARDS",
    b"    Return information about slot range mappings and the nodes associated with them.",
    b"LINKS",
    b"    Return information about all network links between this node and its peers.",
    b"    Output format is an array where each array element is a map containing attributes of a link",
]
