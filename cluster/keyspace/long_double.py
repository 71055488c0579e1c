"""The x87 80-bit ``long double`` that INCRBYFLOAT and HINCRBYFLOAT compute with, on exact fractions.

Redis adds in 64-bit-mantissa arithmetic and prints with ``%.17Lf``, trailing zeros cut; doubles or decimals would give
other digits (0.1 + 0.2 must read 0.3). Source: Redis 7.0 util.c string2ld, ld2string (LD_STR_HUMAN).
"""

from __future__ import annotations

import re
from fractions import Fraction

MANTISSA_BITS = 64
_MAX_EXPONENT = 16384
_NUMBER = re.compile(rb"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,6}))?\Z")
_LARGEST_TEXT_BYTES = 256


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
    if exponent + MANTISSA_BITS > _MAX_EXPONENT:
        raise OverflowError
    mantissa = round(scaled)  # Fraction rounds half to even.
    rounded = mantissa * Fraction(2) ** exponent
    return rounded if value > 0 else -rounded


def parse_long_double(text: bytes) -> Fraction | None:
    """The finite long double that ``text`` spells, or None. (Infinity is not a sum that Redis accepts either.)"""
    if not text or len(text) > _LARGEST_TEXT_BYTES:
        return None
    match = _NUMBER.match(text)
    if match is None:
        return None
    sign, whole, fraction, exponent = match.groups(b"")
    if not whole and not fraction:
        return None
    digits = int(whole + fraction)
    power = (int(exponent) if exponent else 0) - len(fraction)
    if digits and not -5000 < power + len(whole + fraction) < 5000:
        return None
    value = Fraction(digits) * Fraction(10) ** power
    try:
        return round_to_mantissa(-value if sign == b"-" else value)
    except OverflowError:
        return None


def add(left: Fraction, right: Fraction) -> Fraction:
    """Their sum as a long double. Raises OverflowError when it is infinite."""
    return round_to_mantissa(left + right)


def format_long_double(value: Fraction) -> bytes:
    """``%.17Lf`` without trailing zeros."""
    scaled = round(abs(value) * 10**17)
    whole, fraction = divmod(scaled, 10**17)
    text = b"%d.%017d" % (whole, fraction)
    text = text.rstrip(b"0").rstrip(b".")
    return b"-" + text if value < 0 and text != b"0" else text
