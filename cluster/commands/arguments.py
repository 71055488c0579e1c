"""Parsing the arguments that many commands share, with Redis's error texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cluster import errors
from cluster.errors import CommandError
from cluster.keyspace.strings import INT64_MAX, INT64_MIN, parse_int64

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def parse_integer(text: bytes, message: bytes = errors.NOT_AN_INTEGER) -> int:
    """A 64-bit integer as ``string2ll`` reads it. Raises CommandError(message)."""
    value = parse_int64(text)
    if value is None:
        raise CommandError(message)
    return value


def parse_bounded(text: bytes, low: int, high: int, message: bytes) -> int:
    """An integer within bounds (getRangeLongFromObjectOrReply). Raises CommandError(message)."""
    value = parse_integer(text, message)
    if not low <= value <= high:
        raise CommandError(message)
    return value


def parse_int32(text: bytes, message: bytes | None = None) -> int:
    """A C ``int`` (getIntFromObjectOrReply). Raises CommandError, with ``message`` for whatever is wrong."""
    value = parse_integer(text, message or errors.NOT_AN_INTEGER)
    if not INT32_MIN <= value <= INT32_MAX:
        raise CommandError(
            message or b"ERR value is out of range, value must between %d and %d" % (INT32_MIN, INT32_MAX)
        )
    return value


def parse_pop(arguments: Sequence[bytes], one_end: bytes, other_end: bytes) -> tuple[list[bytes], bool, int]:
    """``numkeys key … one_end|other_end [COUNT count]``: the keys, whether it is the one end, how many to take.

    Raises CommandError.
    """
    number = parse_bounded(arguments[0], 1, INT64_MAX, b"ERR numkeys should be greater than 0")
    if number + 1 >= len(arguments):
        raise CommandError(errors.SYNTAX)
    end = arguments[number + 1].upper()
    if end not in (one_end, other_end):
        raise CommandError(errors.SYNTAX)
    count = 1
    options = arguments[number + 2 :]
    if options:
        if options[0].upper() != b"COUNT" or len(options) < 2:
            raise CommandError(errors.SYNTAX)
        count = parse_bounded(options[1], 1, INT64_MAX, b"ERR count should be greater than 0")
        if len(options) > 2:
            raise CommandError(errors.SYNTAX)
    return list(arguments[1 : number + 1]), end == one_end, count


def parse_double(text: bytes, message: bytes = errors.NOT_A_FLOAT) -> float:
    """A double as ``strtod`` reads it, without NaN, spaces or trailing bytes. Raises CommandError(message)."""
    value = read_double(text)
    if value is None:
        raise CommandError(message)
    return value


def read_double(text: bytes) -> float | None:
    """The double that ``text`` spells for strtod, or None; NaN is no answer, nor what is too large or too small."""
    if text.isdigit() and len(text) < 300:
        return float(text)
    if not text or text[:1].isspace() or text[-1:].isspace():
        return None
    value = strtod(text)
    if value is None:
        return None
    if math.isinf(value) and b"n" not in text.lower():
        return None  # strtod says ERANGE, as for what is rounded to 0.
    if value == 0.0:
        lower = text.lower()
        mantissa = lower.partition(b"p" if b"x" in lower else b"e")[0]
        if mantissa.strip(b"+-0x."):
            return None
    return value


def strtod(text: bytes) -> float | None:
    """What C's strtod makes of a whole text, blanks before it allowed; None where it stops early, and for NaN."""
    if b"_" in text or text[-1:].isspace():
        return None
    try:
        value = float.fromhex(text.decode()) if b"x" in text or b"X" in text else float(text)
    except OverflowError:
        return -math.inf if text.lstrip().startswith(b"-") else math.inf
    except ValueError:
        return None
    return None if math.isnan(value) else value


def expire_time_ms(amount: int, *, in_seconds: bool, relative_to_ms: int, command: bytes) -> int:
    """An absolute Unix time in ms from a command's argument. Raises CommandError for what cannot be a time."""
    invalid = CommandError(b"ERR invalid expire time in '%b' command" % command)
    if in_seconds:
        if not -(-INT64_MIN // 1000) <= amount <= INT64_MAX // 1000:
            raise invalid
        amount *= 1000
    if amount > INT64_MAX - relative_to_ms:
        raise invalid
    return amount + relative_to_ms
