"""Numbers in texts, read as C and Redis read them."""

from __future__ import annotations

import pytest

from cluster.keyspace.strings import atoi


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"7", 7),
        (b"007", 7),
        (b" \t\v12x", 12),
        (b"1\x002", 1),
        (b"-3", -3),
        (b"+4", 4),
        (b"+-4", 0),
        (b"", 0),
        (b"x", 0),
        (b"000x", 0),
        (b"\xb2", 0),
        (b"123456789", 123456789),
        (b"1234567890", 1234567890),
        (b"2147483648", -2147483648),
        (b"4294967297", 1),
        (b"9223372036854775807", -1),
        (b"9223372036854775808", -1),
        (b"-9223372036854775809", 0),
        (b"0" * 5000 + b"5", 5),
        (b"9" * 5000, -1),
    ],
)
def test_atoi(text: bytes, number: int) -> None:
    """What glibc's says on a 64-bit machine."""
    assert atoi(text) == number
