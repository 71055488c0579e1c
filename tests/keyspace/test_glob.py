"""Globs against a transcription of the rules, byte by byte, and patterns made to be slow."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.keyspace.glob import matches


def obeys(pattern: bytes, name: bytes, *, ignore_case: bool = False) -> bool:
    """The rules of stringmatchlen (util.c), one branch each, by trying every length for a star."""
    if not pattern:
        return not name
    first = pattern[:1]
    if first == b"*":
        return any(obeys(pattern[1:], name[skipped:], ignore_case=ignore_case) for skipped in range(len(name) + 1))
    if not name:
        return False
    if first == b"?":
        return obeys(pattern[1:], name[1:], ignore_case=ignore_case)
    if first == b"[":
        found, rest = _class(pattern[1:], name[0], ignore_case)
        return found and obeys(rest, name[1:], ignore_case=ignore_case)
    if first == b"\\" and len(pattern) >= 2:
        pattern = pattern[1:]
    if _fold(pattern[0], ignore_case) != _fold(name[0], ignore_case):
        return False
    return obeys(pattern[1:], name[1:], ignore_case=ignore_case)


def _class(rest: bytes, byte: int, ignore_case: bool) -> tuple[bool, bytes]:
    negated = rest[:1] == b"^"
    rest = rest[1:] if negated else rest
    found = False
    while rest and rest[:1] != b"]":
        if rest[:1] == b"\\" and len(rest) >= 2:
            found |= rest[1] == byte
            rest = rest[2:]
        elif len(rest) >= 3 and rest[1:2] == b"-":
            low, high = sorted((rest[0], rest[2]))
            low, high, folded = (_fold(each, ignore_case) for each in (low, high, byte))
            found |= low <= folded <= high
            rest = rest[3:]
        else:
            found |= _fold(rest[0], ignore_case) == _fold(byte, ignore_case)
            rest = rest[1:]
    return found != negated, rest[1:]


def _fold(byte: int, ignore_case: bool) -> int:
    return bytes([byte]).lower()[0] if ignore_case else byte


_PIECES = st.sampled_from(
    [b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"a", b"b", b"c", b"A", b"\n", b"\xff", b"[^", b"a-c"]
)
patterns = st.lists(_PIECES, max_size=9).map(b"".join)
names = st.lists(
    st.sampled_from([b"a", b"b", b"c", b"d", b"A", b"-", b"]", b"^", b"\\", b"\n", b"\xff"]), max_size=7
).map(b"".join)


@given(pattern=patterns, name=names)
@example(pattern=b"[", name=b"a")
@example(pattern=b"[^", name=b"a")
@example(pattern=b"[a-", name=b"-")
@example(pattern=b"\\", name=b"\\")
@example(pattern=b"*\n", name=b"a\n")
@example(pattern=b"a*b*", name=b"ab")
@example(pattern=b"**", name=b"")
def test_a_pattern_matches_what_the_rules_say(pattern: bytes, name: bytes) -> None:
    assert matches(pattern, name) == _is_expected(pattern, name)


@given(pattern=patterns, name=names)
def test_and_so_it_does_when_case_does_not_matter(pattern: bytes, name: bytes) -> None:
    assert matches(pattern, name, ignore_case=True) == _is_expected(pattern, name, ignore_case=True)


def _is_expected(pattern: bytes, name: bytes, *, ignore_case: bool = False) -> bool:
    """An empty name is looked at no further: only the empty pattern matches it, and the one that means everything."""
    if not name:
        return pattern in (b"", b"*")
    return obeys(pattern, name, ignore_case=ignore_case)


@pytest.mark.parametrize(
    "pattern", [b"*a" * 40 + b"b", b"a*" * 500 + b"b", b"*" * 5000 + b"b", b"*?" * 200 + b"b", b"*[ab]" * 60 + b"c"]
)
def test_no_pattern_takes_long(pattern: bytes) -> None:
    """Tried in every way, each of these would outlast the universe, and the deadline of any test before."""
    assert not matches(pattern, b"a" * 3000)
