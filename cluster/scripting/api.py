"""The functions of ``redis`` that are not calls of commands: log, sha1hex, error_reply, setresp and the like.

A script sees them as functions of C, which the engine makes of them. Their arguments are Lua's values as lupa hands
them over, however many; what is wrong with them is a ScriptFailure in Redis's words.
Source: script_lua.c, function_lua.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cluster.scripting.conversion import ScriptFailure, argument_of, failure_of, tostring
from cluster.scripting.debugger import DebugSession
from cluster.scripting.host import FunctionRegistrar, ScriptHost

_NO_ARGUMENT: Final = b"Please specify at least one argument for this redis lib call"
_BAD_ARGUMENT: Final = b"Lua redis lib command arguments must be strings or integers"


def sha1_hex(data: bytes) -> bytes:
    """The digest by which scripts are known."""
    from hashlib import sha1  # Here, because it is slow to import.

    return sha1(data).hexdigest().encode()


def command_of(arguments: tuple[Any, ...]) -> list[bytes]:
    """The command that a script names. Raises ScriptFailure for what is none."""
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
    return argv


class ScriptApi:
    """Those functions, for one interpreter."""

    def __init__(
        self,
        host: ScriptHost,
        registrar: FunctionRegistrar | None,
        make_table: Callable[[Any], Any],
        debugger: Callable[[], DebugSession | None],
    ) -> None:
        self._host = host
        self._registrar = registrar
        self._table = make_table
        self._debugger = debugger

    def functions(self) -> dict[bytes, Callable[..., Any]]:
        """By the names that the sandbox knows them by."""
        return {
            b"log": self._log,
            b"sha1hex": self._sha1hex,
            b"error_reply": self._error_reply,
            b"status_reply": self._status_reply,
            b"setresp": self._setresp,
            b"set_repl": self._set_repl,
            b"acl_check_cmd": self._acl_check_cmd,
            b"register_function": self._register_function,
        }

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
        self._note_error_reply(text)
        return self._table({b"err": failure_of(text).message})

    def _status_reply(self, *arguments: Any) -> Any:
        if len(arguments) != 1 or type(arguments[0]) is not bytes:
            return self._table({b"err": self._wrong_arguments()})
        return self._table({b"ok": arguments[0]})

    def _wrong_arguments(self) -> bytes:
        self._note_error_reply(b"wrong number or type of arguments")
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
        allowed = self._host.may_run(command_of(arguments))
        if allowed is None:
            raise ScriptFailure(b"ERR Invalid command passed to redis.acl_check_cmd()")
        return allowed

    def _register_function(self, *arguments: Any) -> None:
        if self._registrar is not None:
            self._registrar.register(arguments)

    def _note_error_reply(self, text: bytes) -> None:
        debugger = self._debugger()
        if debugger is not None:
            debugger.note_error_reply(text)


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
