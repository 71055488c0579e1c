"""Replication as clients and replicas ask for it: REPLICAOF, ROLE, WAIT, FAILOVER, and REPLCONF, PSYNC, SYNC.

The decisions are in cluster.replication; here are the arguments, the refusals in Redis's words and the replies.
Source: replication.c of Redis 7.0 (replicaofCommand, roleCommand, waitCommand, replconfCommand, syncCommand,
failoverCommand). Units: milliseconds, stream offsets in bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from cluster import clock, errors
from cluster.commands.arguments import parse_integer
from cluster.commands.context import Parked, ServerContext, Session
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.replication.coordinated_failover import FailoverRefused
from cluster.replication.feed import AckWaiter
from cluster.replication.psync import FullResync, decide_psync
from cluster.replication.replica import (
    Announcement,
    Capability,
    RdbRequirement,
    Replica,
    ReplicaState,
    replica_name,
)
from cluster.replication.state import FailoverState
from cluster.resp.encode import OK, array, bulk, integer
from cluster.resp.parser import split_inline

if TYPE_CHECKING:
    from cluster.replication.host import ReplicaSession

_ANNOUNCED_IP_BYTES_MAX = 256
_PORT_MAX = 65535


# --- for administrators ----------------------------------------------------------------------------------------------


@command("replicaof")
def replicaof(client: Session, argv: list[bytes]) -> bytes:
    """REPLICAOF host port | NO ONE"""
    return _replicaof(client, argv)


@command("slaveof")
def slaveof(client: Session, argv: list[bytes]) -> bytes:
    """The former name of REPLICAOF."""
    return _replicaof(client, argv)


def _replicaof(client: Session, argv: list[bytes]) -> bytes:
    server = client.server
    replication = server.replication
    if server.settings.cluster_enabled:
        raise CommandError(b"ERR REPLICAOF not allowed in cluster mode.")
    if replication.state.failover is not FailoverState.NONE:
        raise CommandError(b"ERR REPLICAOF not allowed while failing over.")
    if argv[1].lower() == b"no" and argv[2].lower() == b"one":
        if replication.state.is_replica:
            replication.unset_master()
            server.log.notice(f"MASTER MODE enabled (user request from '{_describe(server, client)}')")
        return OK
    if client.replica is not None:
        raise CommandError(b"ERR Command is not valid when client is a replica.")
    port = parse_integer(argv[2], b"ERR Invalid master port")
    if not 0 <= port <= _PORT_MAX:
        raise CommandError(b"ERR Invalid master port")
    host = argv[1].decode("utf-8", "surrogateescape")
    current = replication.state.master_host
    if current is not None and current.lower() == host.lower() and replication.state.master_port == port:
        server.log.notice(
            "REPLICAOF would result into synchronization with the master we are already connected with. "
            "No operation performed."
        )
        return b"+OK Already connected to specified master\r\n"
    replication.set_master(host, port)
    server.log.notice(f"REPLICAOF {host}:{port} enabled (user request from '{_describe(server, client)}')")
    return OK


@command("role")
def role(client: Session, argv: list[bytes]) -> bytes:
    """The role, and what belongs to it: a master's online replicas, a replica's master and link."""
    replication = client.server.replication
    state = replication.state
    if state.master_host is None:
        online = [
            array(
                [
                    bulk(replica.host.encode()),
                    bulk(b"%d" % replica.announced.listening_port),
                    bulk(b"%d" % replica.acknowledged_offset),
                ]
            )
            for replica in replication.feed.replicas
            if replica.state is ReplicaState.ONLINE
        ]
        return array([bulk(b"master"), integer(state.master_repl_offset), array(online)])
    replication.host.notice_end_of_link()
    return array(
        [
            bulk(b"slave"),
            bulk(state.master_host.encode("utf-8", "surrogateescape")),
            integer(state.master_port),
            bulk(state.link.role_name.encode()),
            integer(state.master.applied_offset if state.master is not None else -1),
        ]
    )


@command("failover")
def failover(client: Session, argv: list[bytes]) -> bytes:
    """FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]"""
    server = client.server
    replication = server.replication
    if server.settings.cluster_enabled:
        raise CommandError(b"ERR FAILOVER not allowed in cluster mode. Use CLUSTER FAILOVER command instead.")
    if len(argv) == 2 and argv[1].lower() == b"abort":
        if replication.state.failover is FailoverState.NONE:
            raise CommandError(b"ERR No failover in progress.")
        replication.failover.abort("Failover manually aborted")
        return OK
    target: tuple[str, int] | None = None
    timeout_ms = 0
    force = False
    position = 1
    while position < len(argv):
        option = argv[position].lower()
        if option == b"timeout" and position + 1 < len(argv) and timeout_ms == 0:
            timeout_ms = parse_integer(argv[position + 1])
            if timeout_ms <= 0:
                raise CommandError(b"ERR FAILOVER timeout must be greater than 0")
            position += 2
        elif option == b"to" and position + 2 < len(argv) and target is None:
            port = parse_integer(argv[position + 2])
            target = (argv[position + 1].decode("utf-8", "surrogateescape"), port)
            position += 3
        elif option == b"force" and not force:
            force = True
            position += 1
        else:
            raise CommandError(errors.SYNTAX)
    try:
        replication.failover.start(target, timeout_ms, force, clock.monotonic_ms())
    except FailoverRefused as refusal:
        raise CommandError(b"ERR " + str(refusal).encode()) from None
    return OK


# --- for clients that care where their writes are --------------------------------------------------------------------


@command("wait")
def wait(client: Session, argv: list[bytes]) -> bytes | None:
    """WAIT numreplicas timeout: until so many replicas have this client's writes, or the time is over."""
    replication = client.server.replication
    feed = replication.feed
    if replication.state.is_replica:
        raise CommandError(
            b"ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is "
            b"configured to be writable (which is not the default) writes to replicas are just local and are not "
            b"propagated."
        )
    wanted = parse_integer(argv[1])
    timeout_ms = parse_integer(argv[2], b"ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        raise CommandError(b"ERR timeout is negative")
    now_ms = clock.monotonic_ms()
    offset = client.write_offset
    acked = feed.replicas_acked(offset)
    if acked >= wanted or client.in_exec:
        return integer(acked)
    server = client.server
    waiter = AckWaiter(offset, wanted, lambda count: server.unpark(client, integer(count)))
    server.park(
        client,
        Parked(
            kind="wait",
            deadline_ms=now_ms + timeout_ms if timeout_ms else None,
            on_timeout=lambda: integer(feed.replicas_acked(offset)),
            on_cancel=lambda: feed.stop_waiting(waiter),
        ),
    )
    feed.wait_for_acks(waiter)
    return None


# --- for replicas ----------------------------------------------------------------------------------------------------


@command("replconf")
def replconf(client: Session, argv: list[bytes]) -> bytes | None:
    """REPLCONF option value …: what a replica tells about itself, and acknowledgements."""
    if len(argv) % 2 == 0:
        raise CommandError(errors.SYNTAX)
    feed = client.server.feed
    for option, value in zip(argv[1::2], argv[2::2], strict=True):
        name = option.lower()
        if name == b"ack":
            _acknowledge(client, value)
            return None
        if name == b"getack":
            client.server.replication.send_ack()
            return None
        handler = _REPLCONF_OPTIONS.get(name)
        if handler is None:
            raise CommandError(b"ERR Unrecognized REPLCONF option: " + option.partition(b"\0")[0])
        handler(feed.announcement(client.id), value)
    return OK


def _acknowledge(client: Session, value: bytes) -> None:
    replica: Replica | None = client.replica
    if replica is None:
        return
    try:
        offset = parse_integer(value)
    except CommandError:
        return
    client.server.feed.acknowledge(replica, offset, clock.monotonic_ms())


def _listening_port(announced: Announcement, value: bytes) -> None:
    announced.listening_port = parse_integer(value)


def _ip_address(announced: Announcement, value: bytes) -> None:
    if len(value) >= _ANNOUNCED_IP_BYTES_MAX:
        raise CommandError(b"ERR REPLCONF ip-address provided by replica instance is too long: %d bytes" % len(value))
    announced.ip = value.decode("utf-8", "backslashreplace")


def _capability(announced: Announcement, value: bytes) -> None:
    """What this version does not know is ignored: it will not be used."""
    announced.capabilities |= _CAPABILITIES.get(value.lower(), Capability.NONE)


def _rdb_only(announced: Announcement, value: bytes) -> None:
    wanted = parse_integer(value)
    if wanted not in (0, 1):
        raise CommandError(b"ERR value is out of range, value must between 0 and 1")
    announced.rdb_only = wanted == 1


def _rdb_filter_only(announced: Announcement, value: bytes) -> None:
    filters = split_inline(value)
    if filters is None:
        raise CommandError(b"ERR Missing rdb-filter-only values")
    announced.requirement |= RdbRequirement.EXCLUDE_DATA | RdbRequirement.EXCLUDE_FUNCTIONS
    for part in filters:
        if part.lower() != b"functions":
            raise CommandError(b"ERR Unsupported rdb-filter-only option: " + part)
        announced.requirement &= ~RdbRequirement.EXCLUDE_FUNCTIONS


_CAPABILITIES = {b"eof": Capability.EOF, b"psync2": Capability.PSYNC2}
_REPLCONF_OPTIONS = {
    b"listening-port": _listening_port,
    b"ip-address": _ip_address,
    b"capa": _capability,
    b"rdb-only": _rdb_only,
    b"rdb-filter-only": _rdb_filter_only,
}


@command("psync")
def psync(client: Session, argv: list[bytes]) -> bytes | None:
    """PSYNC replid offset [FAILOVER]: go on from there if possible, else synchronise fully."""
    if client.replica is not None:
        return None
    server = client.server
    replication = server.replication
    replid = argv[1].decode("utf-8", "backslashreplace")
    if len(argv) > 3 and argv[3].lower() == b"failover":
        _take_over(client, replid)
    announced = server.feed.announcement(client.id)
    _check_may_synchronise(client, announced)
    name = replica_name(_connection(client), announced)
    server.log.notice(f"Replica {name} asks for synchronization")
    try:
        offset = parse_integer(argv[2])
    except CommandError:
        server.log.warning(f"Replica {name} asks for synchronization but with a wrong offset")
        raise
    feed = server.feed
    feed.settle()
    psync2 = Capability.PSYNC2 in announced.capabilities
    decision = decide_psync(replication.state, feed.backlog, replid, offset, psync2, name)
    for line in decision.log:
        getattr(server.log, line.level)(line.text)
    if isinstance(decision, FullResync):
        if not decision.asked_on_purpose:
            replication.sync_partial_err += 1
        _synchronise_fully(client, announced, pre_psync=False)
        return None
    replication.sync_partial_ok += 1
    replica = _become_replica(client, announced, ReplicaState.ONLINE)
    replica.cursor = decision.offset
    client.push(decision.reply)
    feed.add(replica)
    feed.refresh_good_replicas(clock.monotonic_ms())
    return None


@command("sync")
def sync(client: Session, argv: list[bytes]) -> bytes | None:
    """SYNC: the old way to ask for everything; no offsets, no acknowledgements (redis-cli --rdb still uses it)."""
    if client.replica is not None:
        return None
    announced = client.server.feed.announcement(client.id)
    _check_may_synchronise(client, announced)
    name = replica_name(_connection(client), announced)
    client.server.log.notice(f"Replica {name} asks for synchronization")
    _synchronise_fully(client, announced, pre_psync=True)
    return None


def _take_over(client: Session, replid: str) -> None:
    """Our master hands its role to us."""
    server = client.server
    replication = server.replication
    server.log.warning(f"Failover request received for replid {replid}.")
    if not replication.state.is_replica:
        raise CommandError(b"ERR PSYNC FAILOVER can't be sent to a master.")
    if replid.lower() != replication.state.replid.lower():
        raise CommandError(b"ERR PSYNC FAILOVER replid must match my replid.")
    replication.unset_master()
    server.log.notice(f"MASTER MODE enabled (failover request from '{_describe(server, client)}')")


def _check_may_synchronise(client: Session, announced: Announcement) -> None:
    state = client.server.replication.state
    if state.failover is not FailoverState.NONE:
        raise CommandError(b"NOMASTERLINK Can't SYNC while failing over")
    if state.is_replica and not state.link_up:
        raise CommandError(b"NOMASTERLINK Can't SYNC while not connected with my master")
    if _connection(client).output_bytes():
        raise CommandError(b"ERR SYNC and PSYNC are invalid with pending output")
    if announced.requirement is not RdbRequirement.NONE and Capability.EOF not in announced.capabilities:
        raise CommandError(b"ERR Filtered replica requires EOF capability")


def _become_replica(client: Session, announced: Announcement, state: ReplicaState) -> Replica:
    now_ms = clock.monotonic_ms()
    replica = Replica(
        session=_connection(client),
        announced=announced,
        state=state,
        since_ms=now_ms,
        ack_ms=now_ms,
    )
    client.replica = replica
    client.refresh_plain()
    return replica


def _synchronise_fully(client: Session, announced: Announcement, *, pre_psync: bool) -> None:
    replica = _become_replica(client, announced, ReplicaState.WAIT_BGSAVE_START)
    replica.pre_psync = pre_psync
    client.server.replication.full_sync.request(replica)


def _describe(server: ServerContext, client: Session) -> str:
    return server.describe_client(client)


def _connection(client: Session) -> ReplicaSession:
    """Who sends PSYNC has a connection; only there are sessions more than a Session."""
    return cast("ReplicaSession", client)
