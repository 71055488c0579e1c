"""Scripts and functions as the server runs them: what they may do, what they leave behind, and how they are stopped.

Role        :class:`Scripting` keeps the cache of scripts and the function libraries, lets one script run at a time, and
            runs the commands of that script as a client of its own would (script.c).
Invariants  One script runs at a time. Its effects are one unit, like those of a transaction. "Now" stands still
            while it runs. Nothing is made (no interpreter, no session) before the first script.
Busy        A script that runs for longer than busy-reply-threshold is interrupted now and then: others are served, but
            told BUSY unless they come to end it, and the cluster bus goes on talking (``pump``).
Source      script.c, eval.c; networking.c (processEventsWhileBlocked).      Units  monotonic ms.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import attrs

from cluster import clock, errors
from cluster.commands.context import Session
from cluster.commands.key_positions import keys_of
from cluster.commands.registry import Command, Flag
from cluster.errors import CommandError
from cluster.keyspace.effects import FileOnly, ReplicasOnly
from cluster.node.script_debugging import ScriptDebugging
from cluster.resp.encode import ONE, RESP2, RESP3, bulk, error, integer
from cluster.scripting.conversion import ScriptFailure, failure_of
from cluster.scripting.engine import (
    MISSING,
    CompileError,
    Failed,
    FailedOddly,
    LuaEngine,
    LuaMissing,
    Outcome,
    Reply,
    Value,
    sha1_hex,
)
from cluster.scripting.flags import HeaderError, ScriptFlag, read_script_header
from cluster.scripting.functions import Function, FunctionStore
from cluster.slots.hashing import key_slot
from cluster.slots.routing import Refusal, Request, Serve, route

if TYPE_CHECKING:
    from cluster.node.server import Server

TO_FILE: Final = 1
TO_REPLICAS: Final = 2
TO_ALL: Final = 3

BUSY_SCRIPT: Final = b"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
BUSY_FUNCTION: Final = b"BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
NO_SCRIPT: Final = b"NOSCRIPT No matching script. Please use EVAL."
_INT64_MIN: Final = -(1 << 63)
_LOG_LEVELS: Final = ("debug", "verbose", "notice", "warning")


@attrs.frozen(eq=False)
class Gates:
    """A script as the gates see it."""

    flags: Flag
    is_write: bool
    may_replicate: bool


@attrs.frozen(eq=False)
class _Traits:
    """What of a command's flags matters to scripts; looking at flags one by one takes longer than many a command."""

    is_forbidden: bool
    is_for_stale_data: bool
    needs_memory: bool
    is_read: bool
    is_shown: bool


@attrs.frozen(eq=False)
class CachedScript:
    """A script that was compiled."""

    sha: bytes
    body: bytes
    flags: int
    function: Any


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


class Scripting:
    """The scripts of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._engine: LuaEngine | None = None
        self._session: Session | None = None
        self.debugging = ScriptDebugging(server, self)
        self.cache: dict[bytes, CachedScript] = {}
        self._gates: dict[tuple[bytes, int], Gates] = {}
        self._traits: dict[Command, _Traits] = {}
        self.functions = FunctionStore(lambda store: LuaEngine(self, store))
        self.current: ScriptRun | None = None
        self.is_busy = False
        """The script has been running for so long that others are served meanwhile."""
        self.allows_all_commands = False
        """DEBUG SET-DISABLE-DENY-SCRIPTS."""

    # The cache ----------------------------------------------------------------------------------------------------

    @property
    def engine(self) -> LuaEngine:
        """The interpreter of EVAL."""
        if self._engine is None:
            self._engine = LuaEngine(self)
        return self._engine

    def flush(self) -> None:
        """Forget every script, and everything else in the interpreter."""
        self.cache.clear()
        if self._engine is not None:
            fresh = LuaEngine(self)
            fresh.carry_over_random(self._engine)
            self._engine = fresh

    def load(self, body: bytes) -> CachedScript:
        """The script in the cache, compiled if it is new. Raises CommandError."""
        sha = sha1_hex(body)
        script = self.cache.get(sha)
        if script is not None:
            return script
        try:
            flags, header_size = read_script_header(body)
            function = self.engine.compile(body[header_size:], "@user_script")
        except HeaderError as problem:
            raise CommandError(b"ERR " + problem.message) from None
        except LuaMissing:
            raise CommandError(MISSING) from None
        except CompileError as problem:
            raise CommandError(b"ERR Error compiling script (new function): " + problem.message) from None
        script = self.cache[sha] = CachedScript(sha, body, flags, function)
        return script

    def find(self, sha: bytes) -> CachedScript | None:
        """The script with that digest, in any case."""
        return self.cache.get(sha) or self.cache.get(sha.lower())

    def eval_bytes(self) -> int:
        """What the interpreter of EVAL holds, or would hold at least."""
        return LuaEngine.IDLE_BYTES if self._engine is None else self._engine.used_bytes()

    def cached_bytes(self) -> int:
        """What the sources of the cached scripts need."""
        return sum(len(script.body) + 160 for script in self.cache.values())

    def library_bytes(self) -> int:
        """What the sources of the function libraries need."""
        libraries = self.functions.current.libraries.values()
        return 192 + sum(len(library.code) + 200 + 200 * len(library.functions) for library in libraries)

    # What the gates ask -------------------------------------------------------------------------------------------

    def gates_of(self, row: Command, argv: list[bytes]) -> Gates:
        """What EVAL and its like are to the gates, as far as the script has declared what it does."""
        name = row.name
        declared: int | None = None
        if name.startswith(b"fcall"):
            function = self.functions.find(argv[1])
            declared = None if function is None else function.flags
        elif name.startswith(b"evalsha"):
            script = self.find(argv[1]) if len(argv[1]) == 40 else None
            declared = None if script is None else script.flags
        elif argv[1].startswith(b"#!"):
            try:
                declared = read_script_header(argv[1])[0]
            except HeaderError:
                pass
        if declared is None:
            declared = ScriptFlag.COMPATIBLE
        gates = self._gates.get((name, declared))
        if gates is None:
            gates = self._gates[name, declared] = _gates_of(row.flags, declared)
        return gates

    def busy_text(self) -> bytes:
        """What clients are told while a script is busy."""
        return BUSY_SCRIPT if self.current is None or self.current.is_eval else BUSY_FUNCTION

    # Running ------------------------------------------------------------------------------------------------------

    def run_script(self, client: Session, argv: list[bytes], key_count: int, script: CachedScript) -> bytes:
        """EVAL and its like."""
        run = self._prepare(client, argv, key_count, script.sha, script.flags, is_eval=True)
        return self._run(run, self.engine, script.function, key_count)

    def run_function(self, client: Session, argv: list[bytes], key_count: int, function: Function) -> bytes:
        """FCALL and its like."""
        run = self._prepare(client, argv, key_count, function.name, function.flags, is_eval=False)
        return self._run(run, self.functions.engine, function.callback, key_count)

    def _prepare(
        self, client: Session, argv: list[bytes], key_count: int, name: bytes, flags: int, *, is_eval: bool
    ) -> ScriptRun:
        """scriptPrepareForRun: raises CommandError for what may not run here and now."""
        if self.current is not None:
            raise CommandError(b"ERR scripts cannot be run by scripts")
        row = self._server.commands.find(argv[0])
        is_read_only = row is not None and row.name.endswith(b"_ro")
        if flags & ScriptFlag.COMPATIBLE:
            if self._is_stale():
                raise CommandError(errors.MASTERDOWN)
        else:
            self._check_declared(client, flags, is_read_only=is_read_only)
        return ScriptRun(
            client,
            name,
            is_eval,
            clock.monotonic_ms(),
            argv,
            is_read_only or (not flags & ScriptFlag.COMPATIBLE and bool(flags & ScriptFlag.NO_WRITES)),
            not flags & ScriptFlag.COMPATIBLE and bool(flags & ScriptFlag.ALLOW_OOM),
            bool(flags & (ScriptFlag.COMPATIBLE | ScriptFlag.ALLOW_CROSS_SLOT)),
            key_slot(argv[3]) if key_count else None,
        )

    def _is_stale(self) -> bool:
        server = self._server
        return not server.replication_state.serves_fresh_data and not server.settings.replica_serve_stale_data

    def _check_declared(self, client: Session, flags: int, *, is_read_only: bool) -> None:
        server = self._server
        obeys = client.is_master_link
        if flags & ScriptFlag.NO_CLUSTER and server.cluster is not None:
            raise CommandError(b"ERR Can not run script on cluster, 'no-cluster' flag is set.")
        if self._is_stale() and not flags & ScriptFlag.ALLOW_STALE:
            raise CommandError(
                b"MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag "
                b"is not set on the script."
            )
        if not flags & ScriptFlag.NO_WRITES:
            if server.replication_state.is_replica and server.settings.replica_read_only and not obeys:
                raise CommandError(b"READONLY Can not run script with write flag on readonly replica")
            problem = server.disk_error()
            if problem is not None and not obeys:
                raise CommandError(_disk_refusal(problem))
            if is_read_only:
                raise CommandError(b"ERR Can not execute a script with write flag using *_ro command.")
            if not server.replication_state.is_replica and not server.has_enough_good_replicas():
                raise CommandError(errors.NOREPLICAS)
        if (
            server.settings.maxmemory
            and server.is_out_of_memory
            and not flags & (ScriptFlag.ALLOW_OOM | ScriptFlag.NO_WRITES)
        ):
            raise CommandError(
                b"OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'"
            )

    def _run(self, run: ScriptRun, engine: LuaEngine, function: Any, key_count: int) -> bytes:
        server = self._server
        client = run.caller
        session = self._session
        if session is None:
            session = self._session = self._new_session()
        session.db = client.db
        session.proto = RESP2
        session.user = client.user
        session.is_master_link = client.is_master_link
        self.current = run
        try:
            outcome = engine.run(function, key_count, run.argv[3:])
            reply = self._encode(run, outcome, session)
        finally:
            self.current = None
            if self.is_busy:
                self.is_busy = False
                server.refresh_plain()
        if server.exit_requested.is_set():
            server.keyspace.effects.clear()  # SHUTDOWN NOSAVE came between: as if the process had ended then.
        client.effects = []
        return reply

    def _remember_keys(self, run: ScriptRun) -> None:
        """A script that has read something may have read all of its keys: whoever runs it may cache what it returns."""
        row = self._server.commands.find(run.argv[0])
        if row is not None:
            self._server.tracking.remember_keys(run.caller, row, run.argv)

    def _new_session(self) -> Session:
        session = Session(self._server, 0)
        session.is_script = True
        session.in_exec = True  # No command may wait.
        session.authenticated = True
        session.address = session.local_address = "lua"
        return session

    def _encode(self, run: ScriptRun, outcome: Outcome, session: Session) -> bytes:
        proto = run.caller.proto
        match outcome:
            case Value(value):
                if isinstance(value, bytes):
                    return bulk(value)
                if value is None:
                    return proto.null
                if isinstance(value, bool):
                    if session.proto.version == 2:
                        return ONE if value else proto.null
                    return proto.boolean(value)
                return integer(value if isinstance(value, int) else _to_int64(value))
            case Reply(encoded):
                return encoded
            case FailedOddly(message):
                return self._refusal(b"ERR Error running script %b, %b" % (run.name, message[:100]))
            case Failed(message, source, line, is_counted):
                text = errors.quoted(message) if message is not None else b"ERR unknown error"
                if source is not None and line is not None:
                    text += b" script: %b, on %b:%b." % (run.name, source, line)
                if is_counted:
                    self.note_error()
                    return error(text)
                return self._refusal(text)

    def _refusal(self, message: bytes) -> bytes:
        self.count_error(message)
        return error(message)

    # What scripts do ----------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        return self.current is not None

    def call(self, argv: list[bytes]) -> bytes:
        """redis.call (scriptCall)."""
        run, session = self.current, self._session
        assert run is not None
        assert session is not None
        server = self._server
        row = server.commands.resolve(argv)
        if row is None:
            raise self._refused(None, b"ERR Unknown Redis command called from script")
        if not row.accepts(len(argv)) or row.handler is None:
            raise self._refused(row, b"ERR Wrong number of args calling Redis command from script")
        traits = self._traits.get(row) or self._note_traits(row)
        if traits.is_forbidden and not self.allows_all_commands:
            raise self._refused(row, b"ERR This Redis command is not allowed from script")
        if not traits.is_for_stale_data and self._is_stale():
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

    def protocols(self) -> tuple[int, int]:
        run, session = self.current, self._session
        return (2 if run is None else run.caller.proto.version), (2 if session is None else session.proto.version)

    def set_protocol(self, version: int) -> None:
        if self._session is not None:
            self._session.proto = RESP2 if version == 2 else RESP3

    def set_replication(self, targets: int) -> None:
        if self.current is not None:
            self.current.targets = targets

    def may_run(self, argv: list[bytes]) -> bool | None:
        row = self._server.commands.resolve(argv)
        if row is None or self.current is None:
            return None
        return self._server.acl.check(self.current.caller.user, row, argv) is None

    def log(self, level: int, text: bytes) -> None:
        getattr(self._server.log, _LOG_LEVELS[level])(text.decode("utf-8", "backslashreplace"))

    def count_error(self, message: bytes) -> None:
        """An error that nobody has counted is a part of the reply."""
        self._server.statistics.count_error(message if b" " in message[:32] else b"ERR")
        self.note_error()

    def note_error(self) -> None:
        run = self.current
        row = None if run is None else self._server.commands.find(run.argv[0])
        if row is not None:
            row.failed_calls += 1

    def report_exception(self) -> None:
        self._server.report_exception()

    # Interruptions ------------------------------------------------------------------------------------------------

    def interrupt(self) -> int | None:
        """Called every so many instructions: serve others if it has been long; 1 when the script must end."""
        now_ms = clock.monotonic_ms()
        if self.functions.is_loading:
            until_ms = self.functions.loading_until_ms
            return 2 if until_ms is not None and now_ms > until_ms else None
        run = self.current
        if run is None:
            return None
        if not self.is_busy and not run.is_killed:
            threshold_ms = self._server.settings.busy_reply_threshold
            elapsed_ms = now_ms - run.began_ms
            if threshold_ms <= 0 or elapsed_ms < threshold_ms:
                return None
            self._server.log.warning(
                f"Slow script detected: still in execution after {elapsed_ms} milliseconds. You can try killing the "
                f"script using the {'SCRIPT KILL' if run.is_eval else 'FUNCTION KILL'} command. Script name is: "
                f"{run.name.decode('latin-1')}."
            )
            self.is_busy = True
            self._server.refresh_plain()
        return 1 if run.is_killed or self._pump(run) else None

    def _pump(self, run: ScriptRun) -> bool:
        """Serve the other clients and the cluster bus for a moment; the script is in the middle of its unit.

        True when somebody has ended the script, or the server.
        """
        server = self._server
        keyspace = server.keyspace
        now_ms, effects = keyspace.now_ms, keyspace.effects
        keyspace.effects = []
        try:
            server.reactor.pump(run.caller)
            if server.bus is not None:
                server.bus.pump()
        finally:
            keyspace.effects = effects
            keyspace.now_ms = now_ms
            server.tracking.begin_command(run.caller)
        if server.exit_requested.is_set():
            run.is_killed = True
        elif run.is_killed:
            server.log.warning("Lua script killed by user with SCRIPT KILL.")
        return run.is_killed

    def kill(self, *, is_eval: bool) -> None:
        """SCRIPT KILL and FUNCTION KILL. Raises CommandError."""
        run = self.current
        if run is None:
            raise CommandError(b"NOTBUSY No scripts in execution right now.")
        if run.caller.is_master_link:
            raise CommandError(
                b"UNKILLABLE The busy script was sent by a master instance in the context of replication and cannot be "
                b"killed."
            )
        if run.has_written:
            raise CommandError(
                b"UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait "
                b"the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
            )
        if run.is_eval is not is_eval:
            raise CommandError(self.busy_text())
        run.is_killed = True


def _gates_of(flags: Flag, declared: int) -> Gates:
    """scriptFlagsToCmdFlags."""
    if not declared & ScriptFlag.COMPATIBLE:
        flags &= ~(Flag.STALE | Flag.DENYOOM | Flag.WRITE | Flag.MAY_REPLICATE)
        if not declared & (ScriptFlag.ALLOW_OOM | ScriptFlag.NO_WRITES):
            flags |= Flag.DENYOOM
        if not declared & ScriptFlag.NO_WRITES:
            flags |= Flag.WRITE
        if declared & ScriptFlag.ALLOW_STALE:
            flags |= Flag.STALE
    return Gates(flags, bool(flags & Flag.WRITE), bool(flags & (Flag.WRITE | Flag.MAY_REPLICATE)))


_NOT_LOCAL: Final = b"ERR Script attempted to access a non local key in a cluster node"
_CLUSTER_REFUSALS: Final[dict[Any, bytes]] = {
    Refusal.CLUSTER_READ_ONLY: (
        b"ERR Script attempted to execute a write command while the cluster is down and readonly"
    ),
    Refusal.CLUSTER_DOWN: b"ERR Script attempted to execute a command while the cluster is down",
}


def _to_int64(number: float) -> int:
    """A double as C converts it: without its fraction; what does not fit is the least integer."""
    return int(number) if -(2.0**63) <= number < 2.0**63 else _INT64_MIN


def _disk_refusal(problem: bytes) -> bytes:
    if problem == errors.MISCONF:
        return (
            b"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. "
            b"Writable scripts are blocked. Use 'no-writes' flag for read only scripts."
        )
    return (
        b"MISCONF Redis is configured to persist data to AOF, but it's currently unable to persist to disk. "
        b"Writable scripts are blocked. Use 'no-writes' flag for read only scripts. AOF error: "
        + problem.rpartition(b": ")[2]
    )
