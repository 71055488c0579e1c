"""INCRBYFLOAT's arithmetic against a real server's, on numbers nobody chose."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace.long_double import add, format_long_double, parse_long_double
from tests.support.servers import RealRedis
from tests.support.wire import ReplyError

pytestmark = pytest.mark.real_redis

_signs = st.sampled_from((b"", b"-", b"+"))
_digits = st.integers(0, 10**22).map(lambda number: b"%d" % number)
_exponents = st.integers(-30, 60).map(lambda number: b"%d" % number)
numbers = st.one_of(
    st.builds(lambda sign, whole: sign + whole, _signs, _digits),
    st.builds(lambda sign, whole, part: sign + whole + b"." + part, _signs, _digits, _digits),
    st.builds(lambda sign, whole, power: sign + whole + b"e" + power, _signs, _digits, _exponents),
    st.builds(lambda sign, whole, power: b"%b0x%xp%b" % (sign, int(whole), power), _signs, _digits, _exponents),
)
texts = st.one_of(numbers, st.text("0123456789+-.eExXpPinfaN ", max_size=8).map(str.encode))


@pytest.fixture(scope="module")
def server() -> Iterator[RealRedis]:
    with RealRedis() as real:
        yield real


@given(left=texts, right=texts)
def test_sums_agree_digit_for_digit(server: RealRedis, left: bytes, right: bytes) -> None:
    with server.raw() as connection:
        connection.call("SET", "sum", left)
        theirs = connection.ask("INCRBYFLOAT", "sum", right)
    assert _sum(left, right) == (str(theirs) if isinstance(theirs, ReplyError) else theirs)


def _sum(left: bytes, right: bytes) -> bytes | str:
    left_value, right_value = parse_long_double(left), parse_long_double(right)
    if left_value is None or right_value is None:
        return "ERR value is not a valid float"
    try:
        return format_long_double(add(left_value, right_value))
    except OverflowError:
        return "ERR increment would produce NaN or Infinity"


def test_the_examples_above_do_add_up() -> None:
    assert _sum(b"0.1", b"0.2") == b"0.3"
    assert parse_long_double(b"0.5") == Fraction(1, 2)
