"""CONFIG GET's patterns; the interop tests compare random ones with a real server."""

from __future__ import annotations

import pytest

from cluster.node.name_pattern import is_pattern, matches
from tests.support.costs import counted_calls


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        (b"*", b"", True),
        (b"", b"", True),
        (b"", b"a", False),
        (b"a*c", b"abbbc", True),
        (b"a*c", b"abbb", False),
        (b"*of", b"slaveof", True),
        (b"?", b"", False),
        (b"h?", b"hz", True),
        (b"H[Y-Z]", b"hz", True),
        (b"h[z-a]", b"hq", True),
        (b"h[^a-c]", b"hz", True),
        (b"h[^z]", b"hz", False),
        (b"h[z", b"hz", True),
        (b"h[]z]", b"hz]", False),
        (b"a\\*", b"a*", True),
        (b"a\\*", b"ab", False),
        (b"a\\", b"a\\", True),
        (b"[\\Z]", b"z", False),  # Behind a backslash, case counts.
        (b"**a**", b"bab", True),
    ],
)
def test_patterns(pattern: bytes, name: bytes, expected: bool) -> None:
    assert matches(pattern, name) is expected


def test_what_is_a_pattern() -> None:
    assert all(is_pattern(text) for text in (b"a*", b"?", b"[a"))
    assert not is_pattern(b"a\\b]")


@pytest.mark.parametrize("pattern", [b"a*" * 50 + b"b", b"*a" * 40 + b"b", b"*?" * 50 + b"b", b"*[ab]" * 30 + b"c"])
def test_many_stars_cost_no_more_than_one(pattern: bytes) -> None:
    """A matcher that tried every split of the name would never return; this one may go over it for each star."""
    name = b"a" * 200
    with counted_calls(10 * len(pattern) * len(name)):
        assert not matches(pattern, name)
