"""The x87 80-bit ``long double`` that INCRBYFLOAT and HINCRBYFLOAT compute with, on exact fractions.

Redis adds in 64-bit-mantissa arithmetic and prints with ``%.17Lf``, trailing zeros cut; doubles or decimals would give
other digits (0.1 + 0.2 must read 0.3). Source: Redis 7.0 util.c string2ld, ld2string (LD_STR_HUMAN); strtold of libc.

A number has up to 5,119 characters, more digits than Python turns into an integer at once: both ways go in two steps.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

MANTISSA_BITS = 64
_MAX_EXPONENT = 16384
_LEAST = Fraction(1, 2**16446)
"""What is not larger than half of the smallest denormal is rounded to zero."""
_LARGEST_TEXT_BYTES = 5 * 1024 - 1  # MAX_LONG_DOUBLE_CHARS
_DIGITS_AT_ONCE = 4000
_FRACTION_DIGITS = 17

_DECIMAL = re.compile(rb"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?)0*(\d+))?\Z")
_HEXADECIMAL = re.compile(rb"([+-]?)0[xX]([0-9a-fA-F]*)(?:\.([0-9a-fA-F]*))?(?:[pP]([+-]?)0*(\d+))?\Z")
_INFINITY = re.compile(rb"[+-]?inf(?:inity)?\Z", re.IGNORECASE)


def round_to_mantissa(value: Fraction) -> Fraction:
    """The nearest long double, ties to even. Raises OverflowError beyond its range."""
    if value == 0:
        return value
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length() - MANTISSA_BITS
    scaled = magnitude / Fraction(2) ** exponent
    if scaled >= 2**MANTISSA_BITS:
        exponent += 1
        scaled /= 2
    elif scaled < 2 ** (MANTISSA_BITS - 1):
        exponent -= 1
        scaled *= 2
    mantissa = round(scaled)  # Fraction rounds half to even.
    if mantissa.bit_length() + exponent > _MAX_EXPONENT:
        raise OverflowError
    rounded = mantissa * Fraction(2) ** exponent
    return rounded if value > 0 else -rounded


def parse_long_double(text: bytes) -> Fraction | float | None:
    """The long double that ``text`` spells, ``math.inf`` or ``-math.inf``, or None for what is no number."""
    if not 0 < len(text) <= _LARGEST_TEXT_BYTES:
        return None
    if _INFINITY.match(text):
        return -math.inf if text.startswith(b"-") else math.inf
    base = 10
    match = _DECIMAL.match(text)
    if match is None:
        base = 16
        match = _HEXADECIMAL.match(text)
    if match is None:
        return None
    sign, whole, fraction, exponent_sign, exponent_digits = match.groups(b"")
    if not whole and not fraction:
        return None
    digits = _to_integer(whole + fraction, base)
    if not digits:
        return Fraction(0)
    if len(exponent_digits) > 6:
        return None  # Out of range, whatever the digits are.
    exponent = int(exponent_sign + (exponent_digits or b"0"))
    if abs(exponent) > 50_000:
        return None
    if base == 10:
        value = digits * Fraction(10) ** (exponent - len(fraction))
    else:
        value = digits * Fraction(2) ** (exponent - 4 * len(fraction))
    if value <= _LEAST:
        return None
    try:
        return round_to_mantissa(-value if sign == b"-" else value)
    except OverflowError:
        return None


def _to_integer(digits: bytes, base: int) -> int:
    if base == 16 or len(digits) <= _DIGITS_AT_ONCE:
        return int(digits, base)
    rest = digits[_DIGITS_AT_ONCE:]
    power: int = 10 ** len(rest)
    return int(digits[:_DIGITS_AT_ONCE]) * power + int(rest)


def add(left: Fraction | float, right: Fraction | float) -> Fraction:
    """Their sum as a long double. Raises OverflowError when it is infinite, or not a number."""
    if isinstance(left, float) or isinstance(right, float):
        raise OverflowError
    return round_to_mantissa(left + right)


def format_long_double(value: Fraction) -> bytes:
    """``%.17Lf`` without trailing zeros."""
    scaled = round(abs(value) * 10**_FRACTION_DIGITS)
    whole, fraction = divmod(scaled, 10**_FRACTION_DIGITS)
    text = b"%b.%017d" % (_to_text(whole), fraction)
    text = text.rstrip(b"0").rstrip(b".")
    return b"-" + text if value < 0 and text != b"0" else text


def _to_text(number: int) -> bytes:
    head, tail = divmod(number, 10**_DIGITS_AT_ONCE)
    return b"%d%0*d" % (head, _DIGITS_AT_ONCE, tail) if head else b"%d" % tail
