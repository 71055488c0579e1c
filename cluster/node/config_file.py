"""The text of redis.conf: lines, quoting, reading files, and the report of a fatal error.

Role        Turns bytes into directives with their arguments, and back. Knows nothing about what a directive means.
Source      ``sdscatrepr`` in sds.c; ``loadServerConfig`` and ``loadServerConfigFromString`` in
            config.c.
Bytes       Files, command line and arguments are bytes; ``decode``/``encode`` lose nothing, whatever the encoding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import attrs

import cluster
from cluster.errors import ConfigError
from cluster.resp.parser import split_inline

REDIS_VERSION: Final = cluster.REDIS_VERSION

_TRIMMED = b" \t\r\n"
_READ_SIZE = 65_536


@attrs.frozen(eq=False, repr=False)
class ConfigLine:
    """One line that holds a directive; ``arguments[0]`` is its name, in lower case."""

    number: int
    text: bytes
    arguments: list[bytes]


def decode(value: bytes) -> str:
    """Text as Settings holds it."""
    return value.decode("utf-8", "surrogateescape")


def encode(value: str) -> bytes:
    """The bytes that :func:`decode` was given."""
    return value.encode("utf-8", "surrogateescape")


def directives(text: bytes) -> Iterator[ConfigLine]:
    """The lines of ``text`` that say something, numbered from 1. Raises the fatal ConfigError for unbalanced quotes."""
    for number, raw in enumerate(text.split(b"\n"), start=1):
        line = raw.strip(_TRIMMED)
        if not line or line.startswith(b"#"):
            continue
        arguments = split_inline(line)
        if arguments is None:
            raise fatal("Unbalanced quotes in configuration line", ConfigLine(number, line, []))
        if arguments:
            arguments[0] = arguments[0].lower()
            yield ConfigLine(number, line, arguments)


def fatal(reason: str, line: ConfigLine | None = None) -> ConfigError:
    """The error that ends the start: what Redis prints, without the last line end. No line: it is about the whole."""
    where = ""
    if line is not None:
        where = f"Reading the configuration file, at line {line.number}\n>>> '{decode(line.text)}'\n"
    return ConfigError(f"\n*** FATAL CONFIG FILE ERROR (Redis {REDIS_VERSION}) ***\n{where}{reason}")


def has_wildcard(path: str) -> bool:
    """Whether ``include`` treats the name as a pattern, which may match nothing."""
    return any(character in path for character in "*?[")


def expand(path: str) -> list[str]:
    """The files an ``include`` names, in order: itself, or what the pattern matches."""
    if not has_wildcard(path):
        return [path]
    import glob

    return sorted(glob.glob(path))


def read(path: str) -> bytes:
    """A file's text. Raises OSError when it cannot be opened; what opens but cannot be read (a directory) is empty."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return without_nuls(_read_all(descriptor))
    finally:
        os.close(descriptor)


def read_standard_input() -> bytes:
    """Everything on standard input, for ``redis-cluster-node -``."""
    return without_nuls(_read_all(0))


def _read_all(descriptor: int) -> bytes:
    chunks = []
    try:
        while chunk := os.read(descriptor, _READ_SIZE):
            chunks.append(chunk)
    except OSError:
        pass  # As far as it could be read; that is also what Redis's fgets() loop does.
    return b"".join(chunks)


def without_nuls(text: bytes) -> bytes:
    """What C's line-wise reading keeps of a text with NUL bytes: each swallows the rest of its line, end included."""
    if b"\0" not in text:
        return text
    *lines, last = text.split(b"\n")
    return b"".join((line + b"\n").split(b"\0", 1)[0] for line in lines) + last.split(b"\0", 1)[0]
