"""What two servers may answer differently: the order of keys, how DUMP compresses, client ids, the time.

Everything else is compared byte by byte. Relative times in the vocabulary are 100,000 s, so what comes of them is told
from everything else by its size. Units: ms.
"""

from __future__ import annotations

import re
import time

from cluster.errors import RdbError
from cluster.persistence.dump_payload import dump, restore
from tests.support.differential.vocabulary import FAR_S, Request

_RELATIVE_MS = 100_000_000
_TOLERANCE_MS = 60_000

_ENDS_MS = (int(FAR_S) * 1000, 2**63 - 1)
"""The vocabulary's absolute times that are yet to come: what is left until then each server reads from its clock."""

_NUMBER = re.compile(rb"(?<![0-9.])\d{5,19}(?![0-9.])")


_CLIENT_ID = re.compile(rb"(?<=\$2\r\nid\r\n):\d+")

_SECONDS = re.compile(rb"^:\d{1,2}(?=\r\n)")


def _near(number: int, expected: int) -> bool:
    return abs(number - expected) <= _TOLERANCE_MS


def hide_relative_times(text: bytes) -> bytes:
    """Replace what depends on the clock: the absolute time that a relative one has become, the time that is left."""
    now_ms = int(time.time() * 1000)

    def replaced(match: re.Match[bytes]) -> bytes:
        digits = match[0]
        number = int(digits)
        for scale in (1, 1000):
            if _near(number * scale, now_ms + _RELATIVE_MS) and len(digits) == (13 if scale == 1 else 10):
                return b"<then>"
            if _near(number * scale, _RELATIVE_MS):
                return b"<left>"
            if any(_near(number * scale, end_ms - now_ms) for end_ms in _ENDS_MS):
                return b"<left until then>"
        return digits

    return _NUMBER.sub(replaced, text)


def reply(request: Request, raw: bytes) -> bytes:
    """The reply in the form that is compared."""
    name = request[0].upper()
    if name == b"KEYS" and raw.startswith((b"*", b"~")):
        return b"".join(sorted(elements(raw)))
    if name == b"HELLO":
        return _CLIENT_ID.sub(b"<id>", raw)
    if name == b"DUMP":
        return same_payload(raw)
    if name == b"RANDOMKEY":
        return raw[:1]
    if name == b"OBJECT" and request[1:2] and request[1].upper() == b"IDLETIME":
        return _SECONDS.sub(b":<idle>", raw)
    if name == b"EXEC" or name in _TELLS_TIME:
        return hide_relative_times(raw)
    return raw


_TELLS_TIME = frozenset({b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"})


def stream(commands: list[bytes]) -> list[bytes]:
    """Commands to a replica: keys that SCAN has found expired go in the order in which it met them."""
    ordered: list[bytes] = []
    deletions: list[bytes] = []
    for command in commands:
        if command.startswith(_DELETION):
            deletions.append(command)
            continue
        ordered += sorted(deletions)
        deletions.clear()
        ordered.append(hide_relative_times(_with_same_payload(command)))
    return ordered + sorted(deletions)


_DELETION = b"*2\r\n$3\r\nDEL\r\n"


def _with_same_payload(command: bytes) -> bytes:
    if command.split(b"\r\n", 3)[2].upper() != b"RESTORE":
        return command
    words = elements(command)
    try:
        words[3] = dump(restore(words[3]))
    except RdbError:
        pass
    return b" ".join(words)


def same_payload(raw: bytes) -> bytes:
    """A DUMP reply in our own spelling: LZF may be compressed in more ways than one."""
    start = raw.index(b"\r\n") + 2
    return dump(restore(raw[start:-2])) if raw.startswith(b"$") and start < len(raw) else raw


def elements(raw: bytes) -> list[bytes]:
    """The bulk strings of an array reply, as they are."""
    found = []
    position = raw.index(b"\r\n") + 2
    while position < len(raw):
        assert raw[position : position + 1] == b"$", raw
        start = raw.index(b"\r\n", position) + 2
        size = int(raw[position + 1 : start - 2])
        found.append(raw[start : start + size])
        position = start + size + 2
    return found
