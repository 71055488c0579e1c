"""CONFIG GET's patterns: Redis's glob, without regard to case.

Source      ``stringmatchlen`` in util.c with ``nocase``, and its quirks: ``[`` without ``]`` runs to the end of the
            pattern, a range may be written backwards, a backslash takes the next character as itself.
"""

from __future__ import annotations


def is_pattern(name: bytes) -> bool:
    """Whether the name is to be matched rather than looked up."""
    return any(special in name for special in (b"*", b"?", b"["))


def matches(pattern: bytes, name: bytes) -> bool:
    """Whether ``pattern`` matches the whole of ``name``."""
    position = index = 0
    retry: tuple[int, int] | None = None
    """After the last star: where the pattern goes on, and the next place in the name to try it at."""
    while True:
        if position < len(pattern) and pattern[position] == ord("*"):
            position += 1
            retry = position, index
            continue
        if index == len(name):
            return position == len(pattern)
        end = _match_one(pattern, position, name[index]) if position < len(pattern) else None
        if end is not None:
            position, index = end, index + 1
        elif retry is not None:
            # Only the last star need give way: what an earlier one could give, the last has already.
            position, index = retry[0], retry[1] + 1
            retry = position, index
        else:
            return False


def _match_one(pattern: bytes, position: int, byte: int) -> int | None:
    """Match one byte of the name; the position after what matched it, or None."""
    special = pattern[position]
    if special == ord("?"):
        return position + 1
    if special == ord("["):
        end, found = _match_class(pattern, position + 1, byte)
        return end if found else None
    if special == ord("\\") and position + 1 < len(pattern):
        position += 1
    return position + 1 if _lower(pattern[position]) == _lower(byte) else None


def _match_class(pattern: bytes, position: int, byte: int) -> tuple[int, bool]:
    """A class in brackets, from after the opening one: where it ends, and whether ``byte`` is in it."""
    negated = pattern[position : position + 1] == b"^"
    if negated:
        position += 1
    found = False
    while position < len(pattern) and pattern[position] != ord("]"):
        if pattern[position] == ord("\\") and position + 1 < len(pattern):
            position += 1
            found |= pattern[position] == byte
        elif pattern[position + 1 : position + 2] == b"-" and position + 2 < len(pattern):
            low, high = sorted((_lower(pattern[position]), _lower(pattern[position + 2])))
            found |= low <= _lower(byte) <= high
            position += 2
        else:
            found |= _lower(pattern[position]) == _lower(byte)
        position += 1
    return min(position + 1, len(pattern)), found != negated


def _lower(byte: int) -> int:
    return byte + 32 if 65 <= byte <= 90 else byte
