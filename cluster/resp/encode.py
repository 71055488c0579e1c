"""Encoding replies: Python values to RESP2 or RESP3 bytes.

What is the same in both protocols is a plain function or constant here; what differs (nulls, maps, sets, doubles,
booleans, verbatim strings, pushes) is a method of :class:`Encoder`, of which there are exactly two instances, ``RESP2``
and ``RESP3``; a session holds the one it speaks as ``session.proto``. Nested replies are built from encoded parts.
Specification: RESP3 (antirez/RESP3), Redis 7.0 networking.c addReply*.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from hiredis import pack_command

from cluster.resp.scanner import IS_COMPILED

OK: Final = b"+OK\r\n"
PONG: Final = b"+PONG\r\n"
QUEUED: Final = b"+QUEUED\r\n"
ZERO: Final = b":0\r\n"
ONE: Final = b":1\r\n"
MINUS_ONE: Final = b":-1\r\n"
MINUS_TWO: Final = b":-2\r\n"
EMPTY_BULK: Final = b"$0\r\n\r\n"
EMPTY_ARRAY: Final = b"*0\r\n"

_SMALL_INTEGERS: Final = tuple(b":%d\r\n" % n for n in range(1024))
_BULK_HEADS: Final = tuple(b"$%d\r\n" % n for n in range(1024))
_MANY: Final = 8
""":func:`bulk_array` leaves fewer elements to hiredis."""


def bulk(value: bytes | bytearray) -> bytes:
    """A bulk string."""
    size = len(value)
    if size < len(_BULK_HEADS):
        return _BULK_HEADS[size] + value + b"\r\n"  # Half of what formatting takes.
    return b"$%d\r\n%b\r\n" % (len(value), value)  # type: ignore[str-format]  # Any buffer will do.


def integer(n: int) -> bytes:
    """An integer reply."""
    return _SMALL_INTEGERS[n] if 0 <= n < 1024 else b":%d\r\n" % n


def simple(text: bytes) -> bytes:
    """A status reply; ``text`` must hold no line end."""
    return b"+%b\r\n" % text


def error(message: bytes) -> bytes:
    """An error reply; line ends inside become spaces, as addReplyErrorLength does."""
    if b"\r" in message or b"\n" in message:
        message = message.replace(b"\r", b" ").replace(b"\n", b" ")
    return b"-%b\r\n" % message


def array(parts: Sequence[bytes]) -> bytes:
    """An array of parts that are encoded already."""
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def bulk_array(values: Iterable[bytes]) -> bytes:
    """An array of bulk strings; also the encoding of a command request."""
    elements = values if type(values) is list else list(values)
    count = len(elements)
    if count < _MANY:
        packed: bytes = pack_command(tuple(elements))
        return packed
    # Joining lets C do the work per element: half of what hiredis takes, a quarter if all are of one length.
    size = len(elements[0])
    if _all_have_length(elements, size):
        return b"*%d\r\n$%d\r\n%b\r\n" % (count, size, (b"\r\n$%d\r\n" % size).join(elements))
    parts: list[bytes] = [b"\r\n"] * (3 * count)
    try:
        if IS_COMPILED:
            index = 0
            for element in elements:
                parts[index] = _BULK_HEADS[len(element)]
                parts[index + 1] = element
                index += 3
        else:
            parts[::3] = map(_BULK_HEADS.__getitem__, map(len, elements))
            parts[1::3] = elements
    except IndexError:  # One is longer than the table.
        return b"*%d\r\n%b" % (count, b"".join(map(bulk, elements)))
    return b"*%d\r\n%b" % (count, b"".join(parts))


def _all_have_length(elements: list[bytes], size: int) -> bool:
    if IS_COMPILED:  # A loop costs a tenth of what it costs interpreted, and less than calling ``len`` for each.
        return all(len(element) == size for element in elements)
    return list(map(len, elements)).count(size) == len(elements)


def format_double(value: float) -> bytes:
    """The text of a double as 7.0 prints it: ``%.17g``, ``inf``, ``-inf``, ``nan``."""
    if -1e16 < value < 1e16:
        whole = int(value)
        if whole == value and whole:  # Not -0.
            return b"%d" % whole
    if math.isinf(value):
        return b"inf" if value > 0 else b"-inf"
    if math.isnan(value):
        return b"nan"
    return b"%.17g" % value


class Encoder:
    """The replies whose form depends on the protocol version; this base is RESP2."""

    __slots__ = ("null", "null_array", "version")

    def __init__(self, version: int, null: bytes, null_array: bytes) -> None:
        self.version = version
        self.null = null
        self.null_array = null_array

    def boolean(self, value: bool) -> bytes:
        """True or false; an integer in RESP2."""
        return ONE if value else ZERO

    def double(self, value: float) -> bytes:
        """A double; a bulk string in RESP2."""
        return bulk(format_double(value))

    def map_header(self, pairs: int) -> bytes:
        """The head of a map of ``pairs`` key-value pairs; a flat array in RESP2."""
        return b"*%d\r\n" % (2 * pairs)

    def set_header(self, count: int) -> bytes:
        """The head of a set; an array in RESP2."""
        return b"*%d\r\n" % count

    def push_header(self, count: int) -> bytes:
        """The head of an out-of-band message; an array in RESP2."""
        return b"*%d\r\n" % count

    def verbatim(self, text: bytes, kind: bytes = b"txt") -> bytes:
        """Text for people; a bulk string in RESP2."""
        return bulk(text)

    def map(self, parts: Sequence[bytes]) -> bytes:
        """A map from encoded parts: key, value, key, value …"""
        return self.map_header(len(parts) // 2) + b"".join(parts)

    def set(self, parts: Sequence[bytes]) -> bytes:
        """A set from encoded parts."""
        return self.set_header(len(parts)) + b"".join(parts)

    def push(self, parts: Sequence[bytes]) -> bytes:
        """An out-of-band message from encoded parts."""
        return self.push_header(len(parts)) + b"".join(parts)

    def bulk_or_null(self, value: bytes | None) -> bytes:
        """A bulk string, or null for None."""
        return self.null if value is None else bulk(value)


class _Resp3Encoder(Encoder):
    __slots__ = ()

    def boolean(self, value: bool) -> bytes:
        return b"#t\r\n" if value else b"#f\r\n"

    def double(self, value: float) -> bytes:
        return b",%b\r\n" % format_double(value)

    def map_header(self, pairs: int) -> bytes:
        return b"%%%d\r\n" % pairs

    def set_header(self, count: int) -> bytes:
        return b"~%d\r\n" % count

    def push_header(self, count: int) -> bytes:
        return b">%d\r\n" % count

    def verbatim(self, text: bytes, kind: bytes = b"txt") -> bytes:
        return b"=%d\r\n%b:%b\r\n" % (len(text) + 4, kind, text)


RESP2: Final = Encoder(2, b"$-1\r\n", b"*-1\r\n")
RESP3: Final = _Resp3Encoder(3, b"_\r\n", b"_\r\n")
