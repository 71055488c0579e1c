"""Sums of long doubles, digit for digit as a real server prints them."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace.long_double import add, format_long_double, parse_long_double, round_to_mantissa


def shown(text: bytes) -> bytes:
    value = parse_long_double(text)
    assert isinstance(value, Fraction)
    return format_long_double(value)


# Each was computed by redis-server 7.0.15: SET k <left>, INCRBYFLOAT k <right>.
SUMS = [
    (b"0.1", b"0.2", b"0.3"),
    (b"3.0e3", b"200", b"3200"),
    (b"1", b"1e-17", b"1.00000000000000001"),
    (b"1", b"1e-18", b"1"),
    (b"0x10", b"0x1p-3", b"16.125"),
    (b"1e17", b"0.1", b"100000000000000000.1015625"),
    (b"123456789012345678.5", b"1", b"123456789012345679.5"),
    (b"-0.0", b"0", b"0"),
    (b"5.", b".5", b"5.5"),
    (b"-1", b"1", b"0"),
    (b"-0.3", b"0.1", b"-0.2"),
    (b"18446744073709551615", b"2", b"18446744073709551616"),
    (b"1e-4940", b"1e-4940", b"0"),
    (b"17179869184.1", b"0.2", b"17179869184.29999999888241291"),
]


@pytest.mark.parametrize(("left", "right", "total"), SUMS)
def test_sums(left: bytes, right: bytes, total: bytes) -> None:
    left_value, right_value = parse_long_double(left), parse_long_double(right)
    assert left_value is not None and right_value is not None
    assert format_long_double(add(left_value, right_value)) == total


NO_NUMBERS = (
    b"", b" 1", b"1 ", b"1_0", b"e5", b".", b"0x", b"0x.", b"1e", b"nan", b"in", b"--1", b"1\0", b"1e5000", b"-1e5000",
    b"1e-5000", b"1e9999999999", b"1" * 5120,
)  # fmt: skip


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number(text: bytes) -> None:
    assert parse_long_double(text) is None


def test_infinity_is_a_number_that_gives_no_sum() -> None:
    assert parse_long_double(b"inf") == parse_long_double(b"+InFiNiTy") == math.inf
    assert parse_long_double(b"-inf") == -math.inf
    for left, right in ((math.inf, Fraction(1)), (math.inf, -math.inf), (Fraction(1), -math.inf)):
        with pytest.raises(OverflowError):
            add(left, right)


def test_the_largest_numbers_have_more_digits_than_python_converts_at_once() -> None:
    value = parse_long_double(b"1e4932")
    assert value is not None
    text = format_long_double(add(value, Fraction(0)))
    assert len(text) == 4933 and text.startswith(b"1000000000000000000")
    assert parse_long_double(b"9" * 4932 + b".0") is not None
    with pytest.raises(OverflowError):
        add(value, add(value, value))


@given(st.integers(-(2**63), 2**63), st.integers(0, 17))
def test_what_fits_in_the_mantissa_is_exact(mantissa: int, decimals: int) -> None:
    """An integer of 64 bits is a long double; so is it divided by a power of two."""
    value = Fraction(mantissa, 2**decimals)
    assert round_to_mantissa(value) == value


@given(st.fractions())
def test_rounding_is_to_the_nearest(value: Fraction) -> None:
    rounded = round_to_mantissa(value)
    if value:
        assert abs(rounded - value) <= abs(value) / 2**64
    assert round_to_mantissa(rounded) == rounded
    assert round_to_mantissa(-value) == -rounded


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=3))
def test_what_is_printed_can_be_read_again(number: object) -> None:
    text = shown(str(number).encode())
    assert shown(text) == text
