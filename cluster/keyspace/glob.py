"""Glob patterns as Redis matches them (stringmatchlen in util.c), compiled once to a regular expression.

``*`` any bytes, ``?`` one byte, ``[a-c]`` and ``[^a-c]`` classes, ``\\`` takes the next byte as it is. An unterminated
class ends with the pattern. An empty name matches only the empty pattern, and ``*`` alone, which stands for everything.
Each star is an atomic, lazy group, so that no pattern can be exponential.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

Matcher = Callable[[bytes], bool]


@lru_cache(maxsize=256)
def compile_glob(pattern: bytes, *, ignore_case: bool = False) -> Matcher:
    """A function that tells whether a name matches ``pattern`` as a whole."""
    if pattern == b"*":
        return lambda name: True
    if not ignore_case and not any(byte in pattern for byte in b"*?[\\"):
        return lambda name: name == pattern
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    match = re.compile((rb"(?!\Z)" if pattern else b"") + _translate(pattern), flags).match
    return lambda name: match(name) is not None


def _translate(pattern: bytes) -> bytes:
    """The pattern as a regular expression: literal runs between stars, each found at its first place after the last."""
    segments: list[bytes] = [b""]
    index, end = 0, len(pattern)
    while index < end:
        byte = pattern[index : index + 1]
        index += 1
        if byte == b"*":
            segments.append(b"")
            continue
        if byte == b"?":
            piece = b"."
        elif byte == b"[":
            piece, index = _translate_class(pattern, index)
        else:
            if byte == b"\\" and index < end:
                byte = pattern[index : index + 1]
                index += 1
            piece = re.escape(byte)
        segments[-1] += piece
    if len(segments) == 1:
        return segments[0] + rb"\Z"
    head, *middle, tail = segments
    # A middle segment may be taken at its first occurrence for good: later ones could only leave less for the rest.
    body = b"".join(b"(?>.*?" + segment + b")" for segment in middle if segment)
    return head + body + b".*" + tail + rb"\Z"


def _translate_class(pattern: bytes, index: int) -> tuple[bytes, int]:
    """The class that begins at ``index`` (behind the bracket), and where the pattern goes on."""
    end = len(pattern)
    negated = index < end and pattern[index] == 0x5E
    index += negated
    members: set[int] = set()
    while index < end and pattern[index] != 0x5D:
        if pattern[index] == 0x5C and index + 1 < end:
            index += 1
            members.add(pattern[index])
        elif index + 2 < end and pattern[index + 1] == 0x2D:
            low, high = sorted((pattern[index], pattern[index + 2]))
            members.update(range(low, high + 1))
            index += 2
        else:
            members.add(pattern[index])
        index += 1
    index += 1  # The closing bracket, or one past the end.
    if not members:
        return (b"." if negated else b"(?!)"), index
    body = b"".join(b"\\x%02x" % member for member in sorted(members))
    return b"[" + (b"^" if negated else b"") + body + b"]", index


def matches(pattern: bytes, name: bytes, *, ignore_case: bool = False) -> bool:
    """True when ``name`` matches ``pattern``."""
    return compile_glob(pattern, ignore_case=ignore_case)(name)
