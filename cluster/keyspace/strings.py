"""String values, and which of Redis's three encodings each one has.

A string is stored as whatever is cheapest to keep and to reply with:

* ``bytes``: as the client sent it ("int" when it is the canonical text of a 64-bit integer, else "embstr" or "raw");
* ``PlainText``: bytes that are never "int", whatever they spell (the result of INCRBYFLOAT);
* ``int``: the result of INCR and its family (always "int");
* ``bytearray``: grown in place by APPEND, SETRANGE, SETBIT (always "raw").

Everything else that stores or reads a string goes through these helpers. Units: bytes.
"""

from __future__ import annotations

from typing import Any, Final, TypeGuard

from cluster.keyspace.packed import PackedValue

EMBSTR_MAX_BYTES: Final = 44
"""OBJ_ENCODING_EMBSTR_SIZE_LIMIT of object.c."""

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1


class PlainText(bytes):
    """A string that Redis does not look at for an integer when it stores it."""

    __slots__ = ()


StringValue = bytes | int | bytearray


def is_string(value: Any) -> TypeGuard[StringValue]:
    """True for the three forms a string value may take."""
    return isinstance(value, (bytes, int, bytearray)) and type(value) is not PackedValue


def to_bytes(value: StringValue) -> bytes:
    """The content of a string value."""
    if type(value) is bytes:
        return value
    if type(value) is int:
        return b"%d" % value
    return bytes(value)


def string_length(value: StringValue) -> int:
    """STRLEN, in bytes."""
    return len(b"%d" % value) if type(value) is int else len(value)  # type: ignore[arg-type]


def parse_int64(text: bytes | bytearray) -> int | None:
    """The integer that ``text`` spells exactly as Redis prints it (``string2ll``), or None.

    No sign ``+``, no spaces, no leading zeros, no ``-0``, within 64 bits.
    """
    length = len(text)
    if not 0 < length <= 20:
        return None
    digits = text[1:] if text[0] == 0x2D else text
    if not digits.isdigit():
        return None
    if digits[0] == 0x30 and length > 1:
        return None
    number = int(text)
    return number if INT64_MIN <= number <= INT64_MAX else None


_SHORT_DIGITS: Final = 10
"""Fewer digits than these fit in 31 bits."""
_BLANKS: Final = b" \t\n\v\f\r"


def atoi(text: bytes) -> int:
    """The 32-bit number that a text begins with, as C's ``atoi`` reads it: strtol's 64 bits, of which it keeps half."""
    if len(text) < _SHORT_DIGITS and text.isdigit():
        return int(text)
    text = text.lstrip(_BLANKS)
    sign = -1 if text.startswith(b"-") else 1
    digits = text[1:] if text[:1] in (b"-", b"+") else text
    end = next((index for index, byte in enumerate(digits) if not 48 <= byte <= 57), len(digits))
    first = len(digits) - len(digits.lstrip(b"0"))
    number = sign * int(digits[first : min(end, first + 20)] or b"0")  # 20 digits are beyond 64 bits for sure.
    number = max(INT64_MIN, min(number, INT64_MAX)) & 0xFFFFFFFF
    return number - (1 << 32) if number >= 1 << 31 else number


def encoding(value: StringValue) -> bytes:
    """OBJECT ENCODING of a string value."""
    if type(value) is int:
        return b"int"
    if type(value) is bytearray:
        return b"raw"
    if type(value) is bytes and parse_int64(value) is not None:
        return b"int"
    return b"embstr" if len(value) <= EMBSTR_MAX_BYTES else b"raw"  # type: ignore[arg-type]
