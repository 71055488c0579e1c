"""Between RESP and Lua: replies as values that a script gets, arguments of redis.call as a command has them.

Values of Lua are those that lupa converts: None, bool, int, float and bytes; tables are made by the function that is
handed in. The way back, from what a script returns to a reply, is in sandbox/replies.lua.
Source: script_lua.c (redisProtocolToLuaType_*, luaArgsToRedisArgv, luaPushErrorBuff), resp_parser.c.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from hiredis import Reader

MakeTable = Callable[[Any], Any]
"""A table of Lua from a list or a dict."""

_EXACT_INTEGER_MAX: Final = 10**17


class ScriptFailure(Exception):
    """An error for the script: redis.call raises it, redis.pcall returns it."""

    def __init__(self, message: bytes, *, is_counted: bool = False, is_reply: bool = False) -> None:
        super().__init__(message)
        self.message = message
        """With its code word."""
        self.is_reply = is_reply
        """A command has replied so; else scripts may not do what was asked for."""
        self.is_counted = is_counted
        """The statistics know of it already."""

    def fields(self) -> dict[bytes, Any]:
        """The error as a table of Lua."""
        fields: dict[bytes, Any] = {b"err": self.message}
        if self.is_counted:
            fields[b"ignore_error_stats_update"] = True
        return fields


def failure_of(reply: bytes) -> ScriptFailure:
    """An encoded error, the dash at its beginning included; without a code word it gets ERR."""
    code, space, text = reply[1:].partition(b" ")
    if not space:
        code, text = b"ERR", code
    return ScriptFailure(code + b" " + text.strip(b"\r\n"), is_counted=True, is_reply=True)


def tostring(value: Any) -> bytes | None:
    """lua_tolstring: a number as Lua prints it; None for what is neither number nor string."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return b"%.14g" % value if not math.isnan(value) else _nan(value)


def argument_of(value: Any) -> bytes | None:
    """An argument of a command: a number with all its digits; None for what is neither number nor string."""
    if type(value) is bytes:
        return value
    if type(value) is int:
        return b"%d" % value if -_EXACT_INTEGER_MAX < value < _EXACT_INTEGER_MAX else b"%.17g" % value
    if type(value) is float:
        return b"%.17g" % value if not math.isnan(value) else _nan(value)
    return None


def _nan(value: float) -> bytes:
    """As C prints it: 0/0 has its sign set on the processors of most."""
    return b"-nan" if math.copysign(1.0, value) < 0 else b"nan"


def value_of_reply(reply: bytes, table: MakeTable) -> Any:
    """What a script gets for an encoded reply that is no error."""
    # Arrays of bulk strings, integers and nulls, which are most of what is not a plain value, take a shortcut. Whatever
    # looks like something else, be it inside a string, does not.
    if (
        reply[0] == 0x2A
        and b"\r\n*" not in reply
        and b"\r\n+" not in reply
        and b"\r\n-" not in reply
        and not any(mark in reply for mark in _RESP3_MARKS)
    ):
        reader = Reader()
        reader.feed(reply)
        items = reader.gets()
        if items is None:
            return False
        if None in items:
            items = [False if item is None else item for item in items]
        return table(items)
    return _Reader(reply, table).read()


_RESP3_MARKS: Final = tuple(b"\r\n" + mark for mark in (b",", b"#", b"_", b"%", b"~", b"(", b"=", b"|", b">"))


class _Reader:
    """Reads one reply of any shape."""

    def __init__(self, reply: bytes, table: MakeTable) -> None:
        self._reply = reply
        self._table = table
        self._position = 0

    def _line(self) -> bytes:
        end = self._reply.index(b"\r\n", self._position)
        line = self._reply[self._position : end]
        self._position = end + 2
        return line

    def _bulk(self, size: int) -> bytes:
        start = self._position
        self._position = start + size + 2
        return self._reply[start : start + size]

    def read(self) -> Any:
        """The next value."""
        line = self._line()
        return _READERS[line[:1]](self, line[1:])

    def _integer(self, text: bytes) -> int:
        return int(text)

    def _string(self, text: bytes) -> bytes | bool:
        return False if text == b"-1" else self._bulk(int(text))

    def _status(self, text: bytes) -> Any:
        return self._table({b"ok": text})

    def _error(self, text: bytes) -> Any:
        return self._table(failure_of(b"-" + text).fields())

    def _array(self, text: bytes) -> Any:
        size = int(text)
        return False if size < 0 else self._table([self.read() for _ in range(size)])

    def _map(self, text: bytes) -> Any:
        pairs = [(self.read(), self.read()) for _ in range(int(text))]
        return self._table({b"map": self._table({key: value for key, value in pairs if key is not None})})

    def _set(self, text: bytes) -> Any:
        members = [self.read() for _ in range(int(text))]
        return self._table({b"set": self._table({member: True for member in members if member is not None})})

    def _null(self, _text: bytes) -> None:
        return None

    def _boolean(self, text: bytes) -> bool:
        return text == b"t"

    def _double(self, text: bytes) -> Any:
        return self._table({b"double": float(text)})

    def _big_number(self, text: bytes) -> Any:
        return self._table({b"big_number": text})

    def _verbatim(self, text: bytes) -> Any:
        content = self._bulk(int(text))
        return self._table({b"verbatim_string": self._table({b"string": content[4:], b"format": content[:3]})})

    def _attribute(self, text: bytes) -> Any:
        """Scripts do not see attributes."""
        for _ in range(2 * int(text)):
            self.read()
        return self.read()


_READERS: Final[dict[bytes, Callable[[_Reader, bytes], Any]]] = {
    b":": _Reader._integer,
    b"$": _Reader._string,
    b"+": _Reader._status,
    b"-": _Reader._error,
    b"*": _Reader._array,
    b"%": _Reader._map,
    b"~": _Reader._set,
    b">": _Reader._array,
    b"_": _Reader._null,
    b"#": _Reader._boolean,
    b",": _Reader._double,
    b"(": _Reader._big_number,
    b"=": _Reader._verbatim,
    b"|": _Reader._attribute,
}
