"""The gates: what a request has to pass before it runs, in the order of processCommand in server.c.

The order decides which error wins, and nothing else does: every gate asks whoever knows (the ACL, routing, the disk,
replication, the pauses), and words the refusal. Requests that dispatch.py takes the short way with have passed them all
beforehand, by what ``plain`` and ``accepts_writes`` stand for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cluster import errors
from cluster.commands.context import Parked
from cluster.commands.key_positions import keys_of
from cluster.commands.registry import Command, Flag
from cluster.errors import CommandError
from cluster.slots.hashing import key_slot
from cluster.slots.routing import Request, Serve, refusal_text, route

if TYPE_CHECKING:
    from cluster.node.client import Client
    from cluster.node.server import Server

_QUIET_WHEN_SUBSCRIBED: Final = frozenset(
    {b"ping", b"subscribe", b"ssubscribe", b"unsubscribe", b"sunsubscribe", b"psubscribe", b"punsubscribe"}
    | {b"quit", b"reset"}
)
_NO_FLAGS: Final = Flag(0)
_RUNS_A_SCRIPT: Final = frozenset({b"eval", b"eval_ro", b"evalsha", b"evalsha_ro", b"fcall", b"fcall_ro"})
_UNKNOWN_ARGUMENTS_BYTES: Final = 128


class Redirected(CommandError):
    """The request has to go elsewhere, or is in the wrong slots."""


class Gates:
    """The gates of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def admit(self, client: Client, argv: list[bytes]) -> Command | None:
        """The row that a request may run now; None when it has to wait, or the client was dropped.

        Raises CommandError for what is refused.
        """
        server = self._server
        row = self._look_up(client, argv)
        if row is None:
            return None
        flags = row.flags
        transaction = client.transaction
        queued_flags = _NO_FLAGS
        is_exec = row.name == b"exec"
        queue_flags_all: list[Flag] = []
        is_write, may_replicate = row.is_write, row.is_may_replicate
        if row.name in _RUNS_A_SCRIPT:
            gates = server.scripting.gates_of(row, argv)
            flags, is_write, may_replicate = gates.flags, gates.is_write, gates.may_replicate
        elif is_exec and transaction is not None:
            queue_flags_all = [self._flags_of(queued_row, queued_argv) for queued_row, queued_argv in transaction.queue]
            for each in queue_flags_all:
                queued_flags |= each
            is_write = bool(queued_flags & Flag.WRITE)
            may_replicate = bool(queued_flags & (Flag.WRITE | Flag.MAY_REPLICATE))
        obeys = client.is_master_link

        if not client.authenticated and not flags & Flag.NO_AUTH and server.requires_authentication():
            raise self._rejected(row, errors.NOAUTH)
        if transaction is not None and flags & Flag.NO_MULTI:
            raise self._rejected(row, b"ERR Command not allowed inside a transaction")
        self._check_permission(client, row, argv)
        self._redirect(client, row, argv, is_exec=is_exec, is_write=is_write)
        server.check_memory(client, row, queued_flags if is_exec else flags)
        if server.tracking.clients:
            server.tracking.send_pending()  # Of evicted keys: before the reply, which may be about their successors.
            server.tracking.limit()
        if is_write or row.name == b"ping":
            server.check_disk(client, row, is_write=is_write)
        if is_write and not obeys:
            if not server.has_enough_good_replicas():
                raise self._rejected(row, errors.NOREPLICAS)
            if server.replication_state.is_replica and server.settings.replica_read_only:
                raise self._rejected(row, errors.READONLY)
        if server.is_subscriber(client) and row.name not in _QUIET_WHEN_SUBSCRIBED:
            raise self._rejected(
                row,
                b"ERR Can't execute '%b': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in "
                b"this context" % row.name,
            )
        if not server.replication_state.serves_fresh_data and not server.settings.replica_serve_stale_data:
            if not flags & Flag.STALE or any(not each & Flag.STALE for each in queue_flags_all):
                raise self._rejected(row, errors.MASTERDOWN)
        if server.loading:
            if not flags & Flag.LOADING or any(not each & Flag.LOADING for each in queue_flags_all):
                raise self._rejected(row, errors.LOADING)
        elif server.saving.progress is not None:  # A data set beside the one that is being served.
            if flags & Flag.NO_ASYNC_LOADING or any(each & Flag.NO_ASYNC_LOADING for each in queue_flags_all):
                raise self._rejected(row, errors.LOADING)
        if server.scripting.is_busy and not flags & Flag.ALLOW_BUSY:
            raise self._rejected(row, server.scripting.busy_text())
        if client.replica is not None and flags & (Flag.WRITE | Flag.MAY_REPLICATE | Flag.READONLY):
            raise self._rejected(row, b"ERR Replica can't interact with the keyspace")
        if client.replica is None and not obeys:
            if server.pauses.holds(may_replicate=may_replicate):
                self._postpone(client, argv)
                return None
        return row

    def _flags_of(self, row: Command, argv: list[bytes]) -> Flag:
        """The flags of a command, or of the script that it runs."""
        return self._server.scripting.gates_of(row, argv).flags if row.name in _RUNS_A_SCRIPT else row.flags

    def _look_up(self, client: Client, argv: list[bytes]) -> Command | None:
        """The row that a request runs. Raises CommandError for what does not exist; None: the client was dropped."""
        server = self._server
        name = argv[0]
        client.last_command = b"NULL"
        container = server.commands.find(name)
        if container is None:
            if name.lower() in (b"host:", b"post"):
                server.security_warning(client)
                return None
            raise self._unknown(argv)
        row: Command | None = container
        if container.subcommands is not None and len(argv) > 1:
            row = container.subcommands.get(argv[1].lower())
            if row is None:
                raise CommandError(
                    b"ERR unknown subcommand '%b'. Try %b HELP."
                    % (errors.quoted(argv[1][:128]), container.name.upper())
                )
        assert row is not None
        client.last_command = row.name
        if not row.accepts(len(argv)) or row.handler is None:
            row.rejected_calls += 1
            raise errors.wrong_arity(row.name)
        if row.flags & Flag.PROTECTED and not server.allows_protected(client, row):
            raise self._rejected(row, server.protected_text(row))
        return row

    @staticmethod
    def _unknown(argv: list[bytes]) -> CommandError:
        """Redis quotes the name and the beginning of the arguments, 128 bytes of either."""
        arguments = b""
        for argument in argv[1:]:
            if len(arguments) >= _UNKNOWN_ARGUMENTS_BYTES:
                break
            arguments += b"'%b' " % errors.quoted(argument[: _UNKNOWN_ARGUMENTS_BYTES - len(arguments)])
        name = errors.quoted(argv[0][:_UNKNOWN_ARGUMENTS_BYTES])
        return CommandError(b"ERR unknown command '%b', with args beginning with: %b" % (name, arguments))

    def _rejected(self, row: Command, message: bytes) -> CommandError:
        row.rejected_calls += 1
        return CommandError(message)

    def _check_permission(self, client: Client, row: Command, argv: list[bytes]) -> None:
        """ACL: what the client's user may not run, and not run on these keys and channels, is refused and logged."""
        denial = self._server.acl.check(client.user, row, argv)
        if denial is not None:
            self._server.note_denial(client, denial.reason, denial.subject(argv))
            raise self._rejected(row, denial.gate_text())

    def _redirect(self, client: Client, row: Command, argv: list[bytes], *, is_exec: bool, is_write: bool) -> None:
        """Cluster mode: refuse what another node serves (never to our master). Sets ``client.slot`` in any mode.

        ``is_write`` is of what will run, a script's declaration or a transaction's commands included.
        """
        server = self._server
        cluster = server.cluster
        if not row.has_keys and not is_exec:
            return
        queue = client.transaction.queue if is_exec and client.transaction is not None else [(row, argv)]
        keys = [key for queued_row, queued_argv in queue for key in keys_of(queued_row, queued_argv)]
        if not keys:
            return
        client.slot = key_slot(keys[0])
        if cluster is None or client.is_master_link:
            return
        database = client.db
        request = Request(
            keys=keys,
            is_write=is_write and not is_exec,
            queues_write=is_write and is_exec,
            is_asking=client.asking or bool(row.flags & Flag.ASKING),
            is_readonly_session=client.readonly,
            is_migrate=row.name == b"migrate",
            is_shard_pubsub=row.name in (b"ssubscribe", b"sunsubscribe", b"spublish"),
        )
        outcome = route(cluster, request, database.holds, server.routing_policy())
        if outcome is Serve.HERE:
            return
        if is_exec:
            server.discard_transaction(client)
        row.rejected_calls += 1
        raise Redirected(refusal_text(outcome, server.endpoint_type()))

    def _postpone(self, client: Client, argv: list[bytes]) -> None:
        """CLIENT PAUSE: the request waits, as the first of the client's queue, until the pause ends."""
        client.queued.appendleft(argv)
        self._server.park(client, Parked("postponed", None, lambda: None))
