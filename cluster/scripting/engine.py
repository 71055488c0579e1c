"""One Lua interpreter with the world that scripts live in: makes it, compiles for it, runs in it.

Role        :class:`LuaEngine` owns a lupa.lua51 runtime, made when it is first needed (the import alone costs
            milliseconds and megabytes). What scripts may do to the server comes as a :class:`ScriptHost`. The sandbox
            itself is sandbox.lua.
Invariants  No object of Python is ever a value that a script can hold, but for functions that are C functions to it.
            A function called from Lua raises nothing but ``_FAILURE``, and never calls into Lua.
            While a function called from Lua runs, and while arguments are handed over, Lua must be able to allocate:
            an allocation that fails there would jump over Python's frames. Hence the reserve, see :meth:`has_room_for`.
Source      script_lua.c, function_lua.c.      Units  bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import attrs

import cluster
from cluster.scripting.call_sites import TOO_MANY_PARAMETERS, keep_call_sites, overflowing_line
from cluster.scripting.conversion import ScriptFailure, argument_of, failure_of, tostring, value_of_reply
from cluster.scripting.debugger import DebugSession

MEMORY_MAX_BYTES: Final = 1 << 30
"""What scripts may hold. Redis has no limit, and dies when the machine has no more."""
_RESERVE_BYTES: Final = 1 << 20
_REFERENCES: Final = (7900, 1000)
"""So many values can a function called from Lua be given: their places in lupa's table are made in advance."""
_ARGUMENTS_ON_STACK_MAX: Final = 200
INT64_MIN: Final = -(1 << 63)

_NO_ARGUMENT: Final = b"Please specify at least one argument for this redis lib call"
_BAD_ARGUMENT: Final = b"Lua redis lib command arguments must be strings or integers"


def sha1_hex(data: bytes) -> bytes:
    """The digest by which scripts are known."""
    from hashlib import sha1  # Here, because it is slow to import.

    return sha1(data).hexdigest().encode()


class ScriptHost(Protocol):
    """What the server does for a script that runs."""

    @property
    def is_running(self) -> bool:
        """A script has been called, and has not ended."""

    def call(self, argv: list[bytes]) -> bytes:
        """Run a command; its encoded reply. Raises ScriptFailure for what scripts may not do."""
        ...

    def protocols(self) -> tuple[int, int]:
        """The RESP versions of the client and of the script."""
        ...

    def set_protocol(self, version: int) -> None:
        """The RESP version of replies to the script."""

    def set_replication(self, targets: int) -> None:
        """Whether effects go to the AOF (1) and to replicas (2)."""

    def may_run(self, argv: list[bytes]) -> bool | None:
        """Whether the client's user may run a command; None when there is no such command."""

    def log(self, level: int, text: bytes) -> None:
        """A line for the log; ``level`` 0 (debug) to 3 (warning)."""

    def count_error(self, message: bytes) -> None:
        """An error is replied."""

    def note_error(self) -> None:
        """An error is replied that has been counted already."""

    def interrupt(self) -> int | None:
        """Called now and then while a script runs: 1 when it is to be killed, 2 when loading takes too long."""

    def report_exception(self) -> None:
        """Something went wrong in our own code; the exception is being handled."""


class FunctionRegistrar(Protocol):
    """What a library registers its functions with while it is loaded."""

    def register(self, arguments: tuple[Any, ...]) -> None:
        """redis.register_function. Raises ScriptFailure."""


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
        self._registrar = registrar
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
        self._install()
        self._reserve_references()
        self._base_bytes = self._used()
        self._limit_bytes = self._base_bytes + MEMORY_MAX_BYTES
        # A quarter is what the table of strings may grow by when one more is made.
        self._full_bytes = self._limit_bytes * 4 // 5 - _RESERVE_BYTES
        runtime.set_max_memory(self._limit_bytes)

    def _install(self) -> None:
        runtime = self._runtime
        try:
            from cluster.scripting.libraries import install
        except ImportError:
            pass
        else:
            install(runtime)
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
            b"log": self._guarded(self._log),
            b"sha1hex": self._guarded(self._sha1hex),
            b"error_reply": self._guarded(self._error_reply),
            b"status_reply": self._guarded(self._status_reply),
            b"setresp": self._guarded(self._setresp),
            b"set_repl": self._guarded(self._set_repl),
            b"acl_check_cmd": self._guarded(self._acl_check_cmd),
            b"register_function": self._guarded(self._register_function),
        }
        source = (Path(__file__).parent / "sandbox.lua").read_bytes()
        version = cluster.REDIS_VERSION
        major, minor, patch = (int(part) for part in version.split("."))
        number = major << 16 | minor << 8 | patch
        is_for_functions = self._registrar is not None
        sandbox = runtime.execute(
            source, self._table(functions), version.encode(), number, is_for_functions, name="=\1redis"
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
        source = (Path(__file__).parent / "debugger.lua").read_bytes()
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
        argv = []
        for argument in arguments:
            if type(argument) is bytes:
                argv.append(argument)
            else:
                converted = argument_of(argument)
                if converted is None:
                    raise ScriptFailure(b"ERR " + _BAD_ARGUMENT)
                argv.append(converted)
        if not argv:
            raise ScriptFailure(b"ERR " + _NO_ARGUMENT)
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

    def _log(self, *arguments: Any) -> None:
        if len(arguments) < 2:
            raise ScriptFailure(b"ERR redis.log() requires two arguments or more.")
        level = _number_of(arguments[0])
        if level is None:
            raise ScriptFailure(b"ERR First argument must be a number (log level).")
        if not 0 <= level < 4:
            raise ScriptFailure(b"ERR Invalid debug level.")
        parts = [text for text in map(tostring, arguments[1:]) if text is not None]
        self._host.log(int(level), b" ".join(parts))

    def _sha1hex(self, *arguments: Any) -> bytes:
        if len(arguments) != 1:
            raise ScriptFailure(b"ERR wrong number of arguments")
        return sha1_hex(tostring(arguments[0]) or b"")

    def _error_reply(self, *arguments: Any) -> Any:
        if len(arguments) != 1 or type(arguments[0]) is not bytes:
            return self._table({b"err": self._wrong_arguments()})
        text = arguments[0].split(b"\0", 1)[0]
        text = text if text.startswith(b"-") else b"-" + text
        if self.debugger is not None:
            self.debugger.note_error_reply(text)
        return self._table({b"err": failure_of(text).message})

    def _status_reply(self, *arguments: Any) -> Any:
        if len(arguments) != 1 or type(arguments[0]) is not bytes:
            return self._table({b"err": self._wrong_arguments()})
        return self._table({b"ok": arguments[0]})

    def _wrong_arguments(self) -> bytes:
        if self.debugger is not None:
            self.debugger.note_error_reply(b"wrong number or type of arguments")
        return b"ERR wrong number or type of arguments"

    def _setresp(self, *arguments: Any) -> None:
        if not self._host.is_running:
            raise ScriptFailure(b"ERR redis.setresp can only be called inside a script invocation")
        if len(arguments) != 1:
            raise ScriptFailure(b"ERR redis.setresp() requires one argument.")
        version = _number_of(arguments[0]) or 0
        if not 2 <= version < 4:
            raise ScriptFailure(b"ERR RESP version must be 2 or 3.")
        self._host.set_protocol(int(version))

    def _set_repl(self, *arguments: Any) -> None:
        if not self._host.is_running:
            raise ScriptFailure(b"ERR redis.set_repl can only be called inside a script invocation")
        if len(arguments) != 1:
            raise ScriptFailure(b"ERR redis.set_repl() requires two arguments.")
        targets = int(_number_of(arguments[0]) or 0)
        if targets & ~3:
            raise ScriptFailure(b"ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
        self._host.set_replication(targets)

    def _acl_check_cmd(self, *arguments: Any) -> bool:
        if not self._host.is_running:
            raise ScriptFailure(b"ERR redis.acl_check_cmd can only be called inside a script invocation")
        argv = [argument_of(argument) for argument in arguments]
        if not argv:
            raise ScriptFailure(b"ERR " + _NO_ARGUMENT)
        words = [word for word in argv if word is not None]
        if len(words) != len(argv):
            raise ScriptFailure(b"ERR " + _BAD_ARGUMENT)
        allowed = self._host.may_run(words)
        if allowed is None:
            raise ScriptFailure(b"ERR Invalid command passed to redis.acl_check_cmd()")
        return allowed

    def _register_function(self, *arguments: Any) -> None:
        if self._registrar is not None:
            self._registrar.register(arguments)


_BUG: Final = ScriptFailure(b"ERR internal error, see the server's log", is_counted=False)
_EXHAUSTED: Final = 3


def _number_of(value: Any) -> float | None:
    """lua_tonumber, where None means that there is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value if abs(value) < 2**31 else 0  # NaN is not.
    if isinstance(value, bytes):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _text_of(problem: Exception) -> bytes:
    """What Lua says, as bytes."""
    text = problem.args[0] if problem.args else b""
    return text if isinstance(text, bytes) else str(text).encode("latin-1", "replace")
