"""What redis.call does: the commands of a script, run as a client of its own would (scriptCall in script.c).

Role        :class:`ScriptCalls` looks the command up, asks the gates that concern scripts, runs it, and adds what it
            has changed to the unit that the script is.
Invariants  No command waits, and none runs another script. What may be wrong with writing is only told before
            anything was written.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import attrs

from cluster import errors
from cluster.commands.context import Session
from cluster.commands.key_positions import keys_of
from cluster.commands.registry import Command, Flag
from cluster.errors import CommandError
from cluster.keyspace.effects import FileOnly, ReplicasOnly
from cluster.node.script_admission import is_stale
from cluster.resp.encode import error
from cluster.scripting.conversion import ScriptFailure, failure_of
from cluster.slots.hashing import key_slot
from cluster.slots.routing import Refusal, Request, Serve, route

if TYPE_CHECKING:
    from cluster.node.server import Server

TO_FILE: Final = 1
TO_REPLICAS: Final = 2
TO_ALL: Final = 3


@attrs.define(eq=False)
class ScriptRun:
    """The script that is running."""

    caller: Session
    name: bytes
    """SHA1 of the script, or the function's name."""
    is_eval: bool
    began_ms: int
    argv: list[bytes]
    is_read_only: bool
    allows_oom: bool
    allows_cross_slot: bool
    slot: int | None
    """The slot of the keys that were declared or first used; None: of none yet."""
    targets: int = TO_ALL
    has_written: bool = False
    is_killed: bool = False


@attrs.frozen(eq=False)
class _Traits:
    """What of a command's flags matters to scripts; looking at flags one by one takes longer than many a command."""

    is_forbidden: bool
    is_for_stale_data: bool
    needs_memory: bool
    is_read: bool
    is_shown: bool


class ScriptCalls:
    """The commands of one server's scripts."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._traits: dict[Command, _Traits] = {}
        self.allows_all_commands = False
        """DEBUG SET-DISABLE-DENY-SCRIPTS."""

    def new_session(self) -> Session:
        """Whoever runs the commands."""
        session = Session(self._server, 0)
        session.is_script = True
        session.in_exec = True  # No command may wait.
        session.authenticated = True
        session.address = session.local_address = "lua"
        return session

    def call(self, run: ScriptRun, session: Session, argv: list[bytes]) -> bytes:
        """Run a command of a script; its encoded reply. Raises ScriptFailure."""
        server = self._server
        row = server.commands.resolve(argv)
        if row is None:
            raise self._refused(None, b"ERR Unknown Redis command called from script")
        if not row.accepts(len(argv)) or row.handler is None:
            raise self._refused(row, b"ERR Wrong number of args calling Redis command from script")
        traits = self._traits.get(row) or self._note_traits(row)
        if traits.is_forbidden and not self.allows_all_commands:
            raise self._refused(row, b"ERR This Redis command is not allowed from script")
        if not traits.is_for_stale_data and is_stale(server):
            raise self._refused(row, b"ERR Can not execute the command on a stale replica")
        denial = server.acl.check(run.caller.user, row, argv)
        if denial is not None:
            server.note_denial(run.caller, denial.reason, denial.subject(argv), context="lua")
            raise self._refused(row, b"ERR " + denial.script_text())
        if row.is_may_replicate:
            if run.is_read_only:
                raise self._refused(row, b"ERR Write commands are not allowed from read-only scripts.")
            if row.is_write and not run.has_written:
                self._check_first_write(run, row, needs_memory=traits.needs_memory)
        if row.has_keys:
            self._note_slot(run, session, row, argv)
        return self._perform(run, session, row, argv, traits)

    def _note_traits(self, row: Command) -> _Traits:
        flags = row.flags
        traits = self._traits[row] = _Traits(
            is_forbidden=bool(flags & Flag.NOSCRIPT),
            is_for_stale_data=bool(flags & Flag.STALE),
            needs_memory=bool(flags & Flag.DENYOOM),
            is_read=bool(flags & Flag.READONLY),
            is_shown=not flags & (Flag.SKIP_MONITOR | Flag.ADMIN),
        )
        return traits

    def _refused(self, row: Command | None, message: bytes) -> ScriptFailure:
        if row is not None:
            row.rejected_calls += 1
        self._server.statistics.count_error(message)
        return ScriptFailure(message, is_counted=True)

    def _check_first_write(self, run: ScriptRun, row: Command, *, needs_memory: bool) -> None:
        """What may be wrong with writing, which is only told before anything was written."""
        server = self._server
        obeys = run.caller.is_master_link
        if server.replication_state.is_replica and server.settings.replica_read_only and not obeys:
            raise self._refused(row, errors.READONLY)
        problem = server.disk_error()
        if problem is not None:
            raise self._refused(row, problem)
        if not server.has_enough_good_replicas():
            raise self._refused(row, errors.NOREPLICAS)
        if not run.allows_oom and server.settings.maxmemory and not obeys and server.is_out_of_memory and needs_memory:
            raise self._refused(row, errors.OOM)
        run.has_written = True

    def _note_slot(self, run: ScriptRun, session: Session, row: Command, argv: list[bytes]) -> None:
        """Set the session's slot; in a cluster, refuse keys of other nodes and, if it matters, of other slots."""
        server = self._server
        cluster = server.cluster
        if row.single_key:
            session.slot = key_slot(argv[1])
            if cluster is None:
                return
            keys = [argv[1]]
        else:
            keys = keys_of(row, argv)
            if not keys:
                return
            session.slot = key_slot(keys[0])
        caller = run.caller
        if cluster is None or caller.is_master_link:
            return
        request = Request(
            keys=keys,
            is_write=row.is_write,
            is_asking=caller.asking or bool(row.flags & Flag.ASKING),
            is_readonly_session=caller.readonly,
            is_migrate=row.name == b"migrate",
            is_shard_pubsub=row.name == b"spublish",
        )
        outcome = route(cluster, request, session.db.holds, server.routing_policy())
        if outcome is not Serve.HERE:
            raise self._refused(row, _CLUSTER_REFUSALS.get(outcome, _NOT_LOCAL))
        if not run.allows_cross_slot:
            if run.slot is None:
                run.slot = session.slot
            elif run.slot != session.slot:
                raise self._refused(row, b"ERR Script attempted to access keys that do not hash to the same slot")

    def _perform(self, run: ScriptRun, session: Session, row: Command, argv: list[bytes], traits: _Traits) -> bytes:
        server = self._server
        keyspace = server.keyspace
        session.begin_command()
        dirty_before = keyspace.dirty
        began_ns = time.perf_counter_ns()
        failure: ScriptFailure | None = None
        reply: bytes | None = None
        try:
            reply = row.handler(session, argv)  # type: ignore[misc]
        except CommandError as refusal:
            row.failed_calls += 1
            server.statistics.count_error(refusal.message)
            failure = failure_of(error(refusal.message))
        except Exception:
            server.report_exception()
            failure = ScriptFailure(b"ERR internal error, see the server's log")
        elapsed_ns = time.perf_counter_ns() - began_ns
        row.calls += 1
        row.nanoseconds += elapsed_ns
        if server.settings.latency_tracking:
            row.latencies[elapsed_ns.bit_length()] += 1
        server.statistics.commands += 1
        if elapsed_ns >= 1000 * server.slow_us:
            server.dispatcher.note_slow(session, row, session.redacted or argv, elapsed_ns // 1000)
        if server.monitors and traits.is_shown:
            server.monitors.feed(session, session.redacted or argv)
        if traits.is_read and run.caller.tracking is not None:
            self._remember_keys(run)
        if failure is not None:
            raise failure
        if keyspace.followed and not session.prevent_propagation:
            if keyspace.dirty != dirty_before or session.effects is not None:
                self._collect(run, session, row, argv)
        if reply is None:
            raise ScriptFailure(b"ERR This Redis command is not allowed from script")
        return reply

    def _collect(self, run: ScriptRun, session: Session, row: Command, argv: list[bytes]) -> None:
        """What the command has changed is a part of the script's unit."""
        effects = session.effects
        if effects is None:
            effects = [argv] if row.is_write else []
        keyspace = self._server.keyspace
        if run.targets != TO_ALL:
            if not run.targets:
                return
            kind = FileOnly if run.targets == TO_FILE else ReplicasOnly
            effects = [kind(effect) for effect in effects]
        for effect in effects:
            keyspace.propagate(session.db.index, effect)

    def _remember_keys(self, run: ScriptRun) -> None:
        """A script that has read something may have read all of its keys: whoever runs it may cache what it returns."""
        row = self._server.commands.find(run.argv[0])
        if row is not None:
            self._server.tracking.remember_keys(run.caller, row, run.argv)


_NOT_LOCAL: Final = b"ERR Script attempted to access a non local key in a cluster node"
_CLUSTER_REFUSALS: Final[dict[Any, bytes]] = {
    Refusal.CLUSTER_READ_ONLY: (
        b"ERR Script attempted to execute a write command while the cluster is down and readonly"
    ),
    Refusal.CLUSTER_DOWN: b"ERR Script attempted to execute a command while the cluster is down",
}
