"""One Lua interpreter with the world that scripts live in: makes it, compiles for it, runs in it.

Role        :class:`LuaEngine` owns a lupa.lua51 runtime, made when it is first needed (the import alone costs
            milliseconds and megabytes). What scripts may do to the server comes as a :class:`ScriptHost`. The sandbox
            itself is written in Lua, in the folder of that name.
Invariants  No object of Python is ever a value that a script can hold, but for functions that are C functions to it.
            A function called from Lua raises nothing but ``_FAILURE``, and never calls into Lua.
            While a function called from Lua runs, and while arguments are handed over, Lua must be able to allocate:
            an allocation that fails there would jump over Python's frames. Hence the reserve, see :meth:`has_room_for`.
Source      script_lua.c, function_lua.c.      Units  bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import attrs

import cluster
from cluster.scripting.api import ScriptApi, command_of
from cluster.scripting.call_sites import TOO_MANY_PARAMETERS, keep_call_sites, overflowing_line
from cluster.scripting.conversion import ScriptFailure, failure_of, value_of_reply
from cluster.scripting.debugger import DebugSession
from cluster.scripting.host import FunctionRegistrar, ScriptHost

_FOLDER: Final = Path(__file__).parent
MEMORY_MAX_BYTES: Final = 1 << 30
"""What scripts may hold. Redis has no limit, and dies when the machine has no more."""
_RESERVE_BYTES: Final = 1 << 20
_REFERENCES: Final = (7900, 1000)
"""So many values can a function called from Lua be given: their places in lupa's table are made in advance."""
_ARGUMENTS_ON_STACK_MAX: Final = 200


class _Failure(Exception):
    """What a function called from Lua raises; what it says is in ``LuaEngine._pending``."""


_FAILURE: Final = _Failure()


@attrs.frozen
class Value:
    """A script ended well, with a plain value: None, bool, int, float or bytes."""

    value: Any


@attrs.frozen
class Reply:
    """A script ended well, with an encoded reply."""

    encoded: bytes


@attrs.frozen
class Failed:
    """A script failed."""

    message: bytes | None
    """With its code word; None: the error has no text."""
    source: bytes | None = None
    line: bytes | None = None
    is_counted: bool = False


@attrs.frozen
class FailedOddly:
    """A script failed with an error that could not be looked at."""

    message: bytes


Outcome = Value | Reply | Failed | FailedOddly


class LuaMissing(Exception):
    """The package that holds the interpreter is not installed."""


MISSING: Final = b"ERR scripts need Lua: install the Python package lupa (pip install lupa)"


class CompileError(Exception):
    """A script is not Lua; the text is the compiler's."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        self.message = message


def _filter_attribute(_object: Any, _name: Any, _is_setting: bool) -> NoReturn:
    raise AttributeError("scripts see nothing of Python")


class LuaEngine:
    """One interpreter: for EVAL, or for functions."""

    IDLE_BYTES: Final = 40 * 1024
    """About what an interpreter of Redis holds before its first script."""

    def __init__(self, host: ScriptHost, registrar: FunctionRegistrar | None = None) -> None:
        try:
            from lupa import lua51
        except ImportError:
            raise LuaMissing from None
        self._host = host
        self._errors: tuple[type[Exception], ...] = (lua51.LuaError,)
        self._syntax_error: type[Exception] = lua51.LuaSyntaxError
        self._memory_error: type[Exception] = lua51.LuaMemoryError
        self._runtime = runtime = lua51.LuaRuntime(
            encoding=None,
            attribute_filter=_filter_attribute,
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            max_memory=0,
        )
        self._pending = ScriptFailure(b"")
        self.is_exhausted = False
        """A script has used up its memory and is to end."""
        self._is_restoring = False
        self.debugger: DebugSession | None = None
        """Set while a script is debugged."""
        self._has_debugger = False
        self._table = runtime.table_from
        self._used: Callable[[], int] = runtime.get_memory_used
        self._dump: Callable[[Any], bytes] = runtime.eval(b"string.dump")
        self._install(registrar)
        self._reserve_references()
        self._base_bytes = self._used()
        self._limit_bytes = self._base_bytes + MEMORY_MAX_BYTES
        # A quarter is what the table of strings may grow by when one more is made.
        self._full_bytes = self._limit_bytes * 4 // 5 - _RESERVE_BYTES
        runtime.set_max_memory(self._limit_bytes)

    def _install(self, registrar: FunctionRegistrar | None) -> None:
        runtime = self._runtime
        try:
            from cluster.scripting.libraries import install
        except ImportError:
            pass
        else:
            install(runtime)
        api = ScriptApi(self._host, registrar, self._table, lambda: self.debugger)
        functions: dict[bytes, Callable[..., Any]] = {
            b"call": self._call,
            b"try_call": self._try_call,
            b"call_many": self._call_many,
            b"try_call_many": self._try_call_many,
            b"unwrap": self._unwrap,
            b"interrupt": self._interrupt,
            b"count_error": self._count_error,
            b"protocols": self._host.protocols,
            b"overflowing_line": self._guarded(overflowing_line),
            **{name: self._guarded(function) for name, function in api.functions().items()},
        }
        sources = {path.stem.encode(): path.read_bytes() for path in (_FOLDER / "sandbox").glob("*.lua")}
        version = cluster.REDIS_VERSION
        major, minor, patch = (int(part) for part in version.split("."))
        number = major << 16 | minor << 8 | patch
        is_for_functions = registrar is not None
        sandbox = runtime.execute(
            sources[b"main"],
            self._table(functions),
            self._table(sources),
            version.encode(),
            number,
            is_for_functions,
            name="=\1redis",
        )
        self._many_tables = sandbox[b"many_tables"]
        self._adopt = sandbox[b"adopt"]
        self._run = sandbox[b"run"]
        self._run_debugged = sandbox[b"run_debugged"]
        self._run_with = sandbox[b"run_with"]
        self._load_library = sandbox[b"load_library"]
        self._calm_hook = sandbox[b"calm_hook"]
        self._random_state = sandbox[b"random_state"]
        self._set_random_state = sandbox[b"set_random_state"]
        self._attach_debugger = sandbox[b"attach_debugger"]
        self._debugger_tools = sandbox[b"tools"]

    def _reserve_references(self) -> None:
        held = [self._many_tables(count) for count in _REFERENCES]
        del held

    # Memory -------------------------------------------------------------------------------------------------------

    def used_bytes(self) -> int:
        """What the interpreter holds."""
        used: int = max(self._used() - self._base_bytes, 0) + self.IDLE_BYTES
        return used

    def has_room_for(self, size: int) -> bool:
        """Whether strings and tables of so many bytes can be made without Lua running out of memory."""
        has_room: bool = self._used() + size < self._full_bytes
        return has_room

    def _make_room_for(self, size: int) -> bool:
        if self.has_room_for(size):
            return True
        self._runtime.gccollect()
        return self.has_room_for(size)

    # Code ---------------------------------------------------------------------------------------------------------

    def compile(self, code: bytes, name: str) -> Any:
        """A function of Lua. Raises CompileError."""
        if not self._make_room_for(32 * len(code)):
            raise CompileError(b"not enough memory")
        if code.startswith(b"\x1b"):
            code = b" " + code  # Else it would be taken for bytecode, which can do anything.
        try:
            function = self._runtime.compile(code, name=name)
            dumped = self._dump(function)
            line = overflowing_line(dumped)
            if line is not None:
                raise CompileError(b"%b:%d: %b" % (name[1:].encode(), line, TOO_MANY_PARAMETERS))
            kept = keep_call_sites(dumped)
            if kept is not None:
                function = self._runtime.compile(kept, name=name)
            return self._adopt(function)
        except self._syntax_error as problem:
            raise CompileError(_text_of(problem)) from None
        except self._memory_error:
            raise CompileError(b"not enough memory") from None

    def run(self, function: Any, key_count: int, arguments: Sequence[bytes]) -> Outcome:
        """Run a script, or a function of a library, with keys and arguments."""
        size = 64 * len(arguments)
        for argument in arguments:
            size += len(argument)
        if self._used() + size >= self._full_bytes and not self._make_room_for(size):
            return Failed(b"ERR not enough memory")
        self.is_exhausted = False
        try:
            if self.debugger is not None:
                self._make_debugger()
                result = self._run_debugged(function, key_count, self._table(arguments), len(arguments))
            elif len(arguments) <= _ARGUMENTS_ON_STACK_MAX:
                result = self._run_with(function, key_count, *arguments)
            else:
                result = self._run(function, key_count, self._table(arguments), len(arguments))
        except self._errors as problem:
            return self._recover(problem)
        if self.is_exhausted:
            return Failed(b"ERR not enough memory")
        kind = result[0]
        if kind == 0:
            return Value(result[1])
        if kind == 1:
            return Reply(result[1])
        if kind == 2:
            return Failed(*result[1:])
        return FailedOddly(result[1])

    def _recover(self, problem: Exception) -> Outcome:
        """Something failed behind the script: its reply was too large, or it was killed while that was made."""
        self._restore_hook()
        if isinstance(problem, self._memory_error) or self.is_exhausted:
            return Failed(b"ERR not enough memory")
        return Failed(b"ERR " + _text_of(problem))

    def _restore_hook(self) -> None:
        """The hook is called for every line now, and would end what puts an end to that."""
        self._is_restoring = True
        self._runtime.gccollect()
        self._calm_hook()
        self._is_restoring = False

    def load_library(self, function: Any) -> bytes | None:
        """Run the body of a library; None, or the error's text."""
        self.is_exhausted = False
        try:
            result = self._load_library(function)
        except self._errors as problem:
            self._restore_hook()
            return b"ERR " + _text_of(problem)
        return None if result is True else result[1]

    # Debugging ----------------------------------------------------------------------------------------------------

    def _make_debugger(self) -> None:
        """Load the debugger's part in Lua, unless that has been done."""
        if self._has_debugger:
            return
        self._has_debugger = True
        functions = {
            name.encode(): self._guarded(self._of_debugger(name))
            for name in ("arrive", "break_next", "log", "log_debug", "log_frame", "log_value", "next_task")
        }
        source = (_FOLDER / "debugger.lua").read_bytes()
        offered = self._runtime.execute(source, self._debugger_tools, self._table(functions), name="=\1redis")
        self._attach_debugger(offered)

    def _of_debugger(self, name: str) -> Callable[..., Any]:
        """A method of whatever session there is."""

        def method(*arguments: Any) -> Any:
            return getattr(self.debugger, name)(*arguments)

        return method

    def call_for_debugger(self, argv: list[bytes]) -> None:
        """Run a command as redis.call does, for a client who looks on. Raises ScriptFailure."""
        reply = self._perform(tuple(argv))
        if reply.startswith(b"-"):
            raise failure_of(reply)

    def carry_over_random(self, other: LuaEngine) -> None:
        """Go on with the random numbers of the engine that this one replaces."""
        self._set_random_state(*other._random_state())

    # What Lua calls -----------------------------------------------------------------------------------------------

    def _fail(self, failure: ScriptFailure) -> NoReturn:
        if self.debugger is not None:
            self.debugger.note_failure(failure)
        self._pending = failure
        raise _FAILURE.with_traceback(None)

    def _is_full(self) -> bool:
        """True when so little memory is left that nothing may be handed to Lua."""
        if self.is_exhausted:
            return True
        if self._used() <= self._full_bytes:
            return False
        # Collecting what is not used any more may be all that is needed; not if it would soon be needed again.
        self._runtime.gccollect()
        self.is_exhausted = self._used() > self._full_bytes * 9 // 10
        return self.is_exhausted

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` as Lua may call it."""

        def guarded(*arguments: Any) -> Any:
            if self._is_full():
                return False
            try:
                return function(*arguments)
            except ScriptFailure as failure:
                problem = failure
            except Exception:
                self._host.report_exception()
                problem = _BUG
            self._fail(problem)

        return guarded

    def _call(self, *arguments: Any) -> Any:
        """redis.call."""
        if self._used() > self._full_bytes and self._is_full():
            return False
        try:
            return self._converted(self._perform(arguments))
        except ScriptFailure as failure:
            problem = failure
        except Exception:
            self._host.report_exception()
            problem = _BUG
        self._fail(problem)

    def _try_call(self, *arguments: Any) -> Any:
        """redis.pcall."""
        if self._used() > self._full_bytes and self._is_full():
            return False
        try:
            try:
                return self._converted(self._perform(arguments))
            except ScriptFailure as failure:
                if not self._host.is_running:
                    raise
                if self.debugger is not None:
                    self.debugger.note_failure(failure)
                return self._table(failure.fields())
        except ScriptFailure as failure:
            problem = failure
        except Exception:
            self._host.report_exception()
            problem = _BUG
        self._fail(problem)

    def _call_many(self, count: int, arguments: Any) -> Any:
        return self._call(*[arguments[index] for index in range(1, count + 1)])

    def _try_call_many(self, count: int, arguments: Any) -> Any:
        return self._try_call(*[arguments[index] for index in range(1, count + 1)])

    def _perform(self, arguments: tuple[Any, ...]) -> bytes:
        host = self._host
        if not host.is_running:
            raise ScriptFailure(b"ERR redis.call/pcall can only be called inside a script invocation")
        argv = command_of(arguments)
        debugger = self.debugger
        if debugger is None:
            return host.call(argv)
        debugger.note_call(argv)
        reply = host.call(argv)
        if not reply.startswith(b"-"):
            debugger.note_reply(reply)
        return reply

    def _converted(self, reply: bytes) -> Any:
        first = reply[0]
        if first == 0x24 and reply[1] != 0x2D:  # "$", and no "-" behind it.
            size = len(reply)
            if size > 4096 and not self.has_room_for(2 * size):
                self.is_exhausted = True
                return False
            return reply[reply.index(b"\n") + 1 : -2]
        if first == 0x3A:  # ":"
            return int(reply[1:-2])
        if first == 0x2B:  # "+"
            return None, reply[1:-2]
        if first == 0x2D:  # "-"
            raise failure_of(reply)
        # A table needs at most 40 bytes and a string 25 for what is 4 bytes in a reply.
        if len(reply) > 4096 and not self.has_room_for(20 * len(reply)):
            self.is_exhausted = True
            return False
        return value_of_reply(reply, self._table)

    def _unwrap(self, failure: Any) -> Any:
        """A table in place of the object that was raised."""
        return self._table(self._pending.fields()) if failure is _FAILURE else failure

    def _interrupt(self) -> Any:
        if self._is_restoring:
            return None
        try:
            ending = self._host.interrupt() if self.debugger is None else None
        except Exception:
            self._host.report_exception()
            ending = None
        return _EXHAUSTED if self._is_full() else ending

    def _count_error(self, message: bytes, is_counted: bool) -> None:
        if is_counted:
            self._host.note_error()
        else:
            self._host.count_error(message)


_BUG: Final = ScriptFailure(b"ERR internal error, see the server's log", is_counted=False)
_EXHAUSTED: Final = 3


def _text_of(problem: Exception) -> bytes:
    """What Lua says, as bytes."""
    text = problem.args[0] if problem.args else b""
    return text if isinstance(text, bytes) else str(text).encode("latin-1", "replace")
