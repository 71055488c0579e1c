"""Keeps the line of a script's last call: ``return cjson.decode(x)`` in a compiled chunk becomes an ordinary call.

Role        Lua makes such a call a *tail call*, in which the caller's place on the stack goes to the function called.
            A function in C, as Redis's libraries are, runs on top of it and can still tell the caller's line in its
            errors; one in Lua, as ours are, finds the caller gone.
Invariants  Only calls of a table's field are changed (``cjson.decode``, not ``loop``), also of one that was put into a
            local variable of the same function: recursion in constant space, the use that tail calls have, goes through
            a variable that holds a function of the script. The bytecode is the compiler's own, never a client's.
Format      Lua 5.1 binary chunks (ldump.c, lundump.c) and instructions (lopcodes.h) of a 64-bit little-endian machine.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

_HEADER: Final = b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00"
"""Version 5.1, little-endian; sizes of int, size_t, an instruction and a number, which is no integer."""
_INT: Final = Struct("<i")
_SIZE: Final = Struct("<Q")
_MOVE, _CALL, _TAILCALL, _GETTABLE, _SELF = 0, 28, 29, 6, 11
_SETS_NO_REGISTER: Final = frozenset({7, 8, 9, 22, 23, 24, 25, 26, 30, 34, 35})
"""SETGLOBAL, SETUPVAL, SETTABLE, JMP, EQ, LT, LE, TEST, RETURN, SETLIST, CLOSE: their A is not what they write to."""
_CONSTANT_BYTES: Final = {0: 0, 1: 1, 3: 8}
"""nil, boolean, number; strings have a size of their own."""
_STRING: Final = 4
_IS_VARARG: Final = 2
_PARAMETERS_MAX: Final = 3
"""Before ``...``: Lua 5.1 makes no room on its stack for copies of them (CVE-2014-5461), but leaves some to spare."""
TOO_MANY_PARAMETERS: Final = b"too many parameters before '...'"


class _Chunk:
    """A binary chunk that is walked through once, and changed in place."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.position = len(_HEADER)
        self.overflowing_line: int | None = None
        """Where a function begins that would be called with more values than the stack has room for."""

    def function(self) -> None:
        """One function and those inside it."""
        self._skip_string()
        parameters, is_vararg = self.data[self.position + 2 * _INT.size + 1 : self.position + 2 * _INT.size + 3]
        if is_vararg & _IS_VARARG and parameters > _PARAMETERS_MAX and self.overflowing_line is None:
            self.overflowing_line = _INT.unpack_from(self.data, self.position)[0]
        self.position += 2 * _INT.size + 4  # First and last line; upvalues, parameters, varargs, registers.
        self._code()
        for _ in range(self._int()):
            kind = self.data[self.position]
            self.position += 1
            if kind == _STRING:
                self._skip_string()
            else:
                self.position += _CONSTANT_BYTES[kind]
        for _ in range(self._int()):
            self.function()
        line_count = self._int()
        self.position += line_count * _INT.size
        for _ in range(self._int()):
            self._skip_string()
            self.position += 2 * _INT.size  # Where the local variable lives.
        for _ in range(self._int()):
            self._skip_string()

    def _int(self) -> int:
        value: int = _INT.unpack_from(self.data, self.position)[0]
        self.position += _INT.size
        return value

    def _skip_string(self) -> None:
        self.position += _SIZE.size + _SIZE.unpack_from(self.data, self.position)[0]

    def _code(self) -> None:
        count = self._int()
        view = memoryview(self.data)[self.position : self.position + 4 * count].cast("I")
        self.position += 4 * count
        for index in range(count):
            if view[index] & 63 == _TAILCALL and _calls_a_field(view, index):
                view[index] = view[index] - _TAILCALL + _CALL
        view.release()


def _calls_a_field(code: memoryview, index: int) -> bool:
    """Whether the function called at ``index`` was last fetched from a table."""
    register = code[index] >> 6 & 255
    for before in range(index - 1, -1, -1):
        operation = code[before] & 63
        if code[before] >> 6 & 255 == register and operation not in _SETS_NO_REGISTER:
            if operation != _MOVE:
                return operation in (_GETTABLE, _SELF)
            register = code[before] >> 23  # ``local call = redis.call``: what matters is where that came from.
    return False


def keep_call_sites(dumped: bytes) -> bytes | None:
    """A compiled chunk (string.dump) whose last calls of fields keep their callers; None to leave it as it is."""
    if not dumped.startswith(_HEADER):
        return None
    chunk = _Chunk(dumped)
    chunk.function()
    return bytes(chunk.data) if chunk.data != dumped else None


def overflowing_line(dumped: bytes) -> int | None:
    """The line of a function in a compiled chunk whose call may write beyond the stack; None: there is none."""
    if not dumped.startswith(_HEADER):
        return None
    chunk = _Chunk(dumped)
    chunk.function()
    return chunk.overflowing_line
