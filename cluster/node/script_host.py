"""Scripts and functions as the server runs them, and how they are stopped.

Role        :class:`Scripting` keeps the cache of scripts and the function libraries, and lets one script run at a time.
            Whether it may run is said in script_admission, what its commands do in script_calls (script.c).
Invariants  One script runs at a time. Its effects are one unit, like those of a transaction. "Now" stands still
            while it runs. Nothing is made (no interpreter, no session) before the first script.
Busy        A script that runs for longer than busy-reply-threshold is interrupted now and then: others are served, but
            told BUSY unless they come to end it, and the cluster bus goes on talking (``pump``).
Source      script.c, eval.c; networking.c (processEventsWhileBlocked).      Units  monotonic ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from cluster import clock, errors
from cluster.commands.context import Session
from cluster.commands.registry import Command
from cluster.errors import CommandError
from cluster.node.script_admission import Gates, check_declared, gates_for, is_stale
from cluster.node.script_calls import ScriptCalls, ScriptRun
from cluster.node.script_debugging import ScriptDebugging
from cluster.resp.encode import ONE, RESP2, RESP3, bulk, error, integer
from cluster.scripting.api import sha1_hex
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
)
from cluster.scripting.flags import HeaderError, ScriptFlag, read_script_header
from cluster.scripting.functions import Function, FunctionStore
from cluster.slots.hashing import key_slot

if TYPE_CHECKING:
    from cluster.node.server import Server

BUSY_SCRIPT: Final = b"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
BUSY_FUNCTION: Final = b"BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
NO_SCRIPT: Final = b"NOSCRIPT No matching script. Please use EVAL."
_INT64_MIN: Final = -(1 << 63)
_UNDECLARED: Final = int(ScriptFlag.COMPATIBLE)
_LOG_LEVELS: Final = ("debug", "verbose", "notice", "warning")


@attrs.frozen(eq=False)
class CachedScript:
    """A script that was compiled."""

    sha: bytes
    body: bytes
    flags: int
    function: Any


class Scripting:
    """The scripts of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._engine: LuaEngine | None = None
        self._session: Session | None = None
        self.debugging = ScriptDebugging(server, self)
        self.cache: dict[bytes, CachedScript] = {}
        self._scripts: dict[bytes, CachedScript] = {}
        """The same by their text, to which a digest is slow."""
        self._gates: dict[tuple[bytes, int], Gates] = {}
        self._calls = ScriptCalls(server)
        self.functions = FunctionStore(lambda store: LuaEngine(self, store))
        self.current: ScriptRun | None = None
        self.is_busy = False
        """The script has been running for so long that others are served meanwhile."""

    def allow_all_commands(self, allowed: bool) -> None:
        """DEBUG SET-DISABLE-DENY-SCRIPTS."""
        self._calls.allows_all_commands = allowed

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
        self._scripts.clear()
        if self._engine is not None:
            fresh = LuaEngine(self)
            fresh.carry_over_random(self._engine)
            self._engine = fresh

    def load(self, body: bytes) -> CachedScript:
        """The script in the cache, compiled if it is new. Raises CommandError."""
        script = self._scripts.get(body)
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
        sha = sha1_hex(body)
        script = self.cache[sha] = self._scripts[body] = CachedScript(sha, body, flags, function)
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
            gates = self._gates[name, declared] = gates_for(row.flags, declared)
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
        if flags == _UNDECLARED:
            if is_stale(self._server):
                raise CommandError(errors.MASTERDOWN)
            return ScriptRun(client, name, is_eval, clock.monotonic_ms(), argv, is_read_only, False, True, None)
        check_declared(self._server, client, flags, is_read_only=is_read_only)
        return ScriptRun(
            client,
            name,
            is_eval,
            clock.monotonic_ms(),
            argv,
            is_read_only or bool(flags & ScriptFlag.NO_WRITES),
            bool(flags & ScriptFlag.ALLOW_OOM),
            bool(flags & ScriptFlag.ALLOW_CROSS_SLOT),
            key_slot(argv[3]) if key_count else None,
        )

    def _run(self, run: ScriptRun, engine: LuaEngine, function: Any, key_count: int) -> bytes:
        server = self._server
        client = run.caller
        session = self._session
        if session is None:
            session = self._session = self._calls.new_session()
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

    def _encode(self, run: ScriptRun, outcome: Outcome, session: Session) -> bytes:
        if type(outcome) is Value and type(outcome.value) is bytes:  # Most of all.
            return bulk(outcome.value)
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
        """redis.call."""
        run, session = self.current, self._session
        assert run is not None
        assert session is not None
        return self._calls.call(run, session, argv)

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


def _to_int64(number: float) -> int:
    """A double as C converts it: without its fraction; what does not fit is the least integer."""
    return int(number) if -(2.0**63) <= number < 2.0**63 else _INT64_MIN
