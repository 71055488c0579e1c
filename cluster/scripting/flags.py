"""What scripts declare about themselves: the first line of a script (``#!lua flags=...``) and the flags of functions.

Source: script.h, eval.c (evalExtractShebangFlags), functions.c (functionExtractLibMetaData).
"""

from __future__ import annotations

from typing import Final

import attrs

from cluster.resp.parser import split_inline


class ScriptFlag:
    """A promise of a script, or a permission that it asks for. Plain integers: every EVAL looks at several of them."""

    NO_WRITES: Final = 1
    ALLOW_OOM: Final = 2
    ALLOW_STALE: Final = 4
    NO_CLUSTER: Final = 8
    COMPATIBLE: Final = 16
    """EVAL without a first line of flags: everything is judged command by command, as before Redis 7."""
    ALLOW_CROSS_SLOT: Final = 32


FLAG_NAMES: Final[dict[bytes, int]] = {
    b"no-writes": ScriptFlag.NO_WRITES,
    b"allow-oom": ScriptFlag.ALLOW_OOM,
    b"allow-stale": ScriptFlag.ALLOW_STALE,
    b"no-cluster": ScriptFlag.NO_CLUSTER,
    b"allow-cross-slot-keys": ScriptFlag.ALLOW_CROSS_SLOT,
}
"""In the order in which FUNCTION LIST shows them."""


class HeaderError(Exception):
    """The first line of a script or a library makes no sense; the text is what the client is told."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        self.message = message


def _words(line: bytes) -> list[bytes]:
    """sdssplitargs, which sees no further than a NUL byte."""
    return split_inline(line.split(b"\0", 1)[0]) or []


def read_script_header(body: bytes) -> tuple[int, int]:
    """The flags of a script, and how many bytes of it are no Lua. Raises HeaderError."""
    if not body.startswith(b"#!"):
        return ScriptFlag.COMPATIBLE, 0
    end = body.split(b"\0", 1)[0].find(b"\n")
    if end < 0:
        raise HeaderError(b"Invalid script shebang")
    words = _words(body[:end])
    if not words:
        raise HeaderError(b"Invalid engine in script shebang")
    if words[0] != b"#!lua":
        raise HeaderError(b"Unexpected engine in script shebang: " + words[0])
    flags = 0
    for word in words[1:]:
        if not word.startswith(b"flags="):
            raise HeaderError(b"Unknown lua shebang option: " + word)
        names = word[6:]
        for name in names.split(b",") if names else []:
            if name not in FLAG_NAMES:
                raise HeaderError(b"Unexpected flag in script shebang: " + name)
            flags |= FLAG_NAMES[name]
    return flags, end


@attrs.frozen
class LibraryHeader:
    """What the first line of a library says, and how many bytes it has."""

    engine: bytes
    name: bytes
    size: int


def read_library_header(code: bytes) -> LibraryHeader:
    """The first line of a library. Raises HeaderError."""
    if not code.startswith(b"#!"):
        raise HeaderError(b"Missing library metadata")
    end = code.split(b"\0", 1)[0].find(b"\n")
    if end < 0:
        raise HeaderError(b"Invalid library metadata")
    words = _words(code[:end])
    if not words:
        raise HeaderError(b"Invalid library metadata")
    name: bytes | None = None
    for word in words[1:]:
        if word[:5].lower() != b"name=":
            raise HeaderError(b"Invalid metadata value given: " + word.split(b"\0", 1)[0])
        if name is not None:
            raise HeaderError(b"Invalid metadata value, name argument was given multiple times")
        name = word[5:]
    if name is None:
        raise HeaderError(b"Library name was not given")
    return LibraryHeader(words[0][2:], name, end)
