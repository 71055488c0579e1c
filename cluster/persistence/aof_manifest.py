"""The manifest: which files make up the append only file, and in which order.

Role        :class:`Manifest` is the list as a value, with the changes that a rewrite makes to it. Its text, one line a
            file (``file <name> seq <number> type <b|h|i>``), is :meth:`Manifest.format`'s and :func:`parse_manifest`'s.
Invariants  There is at most one base file; incr files are in ascending order of their numbers, of which none is used
            twice while the process lives. History files are not needed any more and wait to be removed. The numbers of
            a base and of an incr file have nothing to do with one another.
Spec        aofManifest in aof.c; the error texts are Redis's.
"""

from __future__ import annotations

import enum
import os
from typing import Final

import attrs

from cluster.errors import HashslotError
from cluster.resp.parser import split_inline
from cluster.resp.quoting import needs_quotes, quote

LINE_BYTES_MAX: Final = 1024
INT64_MAX: Final = 2**63 - 1
_TRIMMED: Final = b" \t\r\n"


class ManifestError(HashslotError):
    """The manifest makes no sense; ``line`` is the offending one, where it is one."""

    def __init__(self, reason: str, number: int = 0, line: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.number = number
        self.line = line

    def log_lines(self) -> list[str]:
        """What Redis says about it."""
        lines = ["\n*** FATAL AOF MANIFEST FILE ERROR ***\n"]
        if self.line:
            lines += [
                f"Reading the manifest file, at line {self.number}\n",
                f">>> '{self.line.decode('utf-8', 'backslashreplace')}'\n",
            ]
        return [*lines, f"{self.reason}\n"]


class FileKind(enum.Enum):
    """What a file is for; the value is its letter in the manifest."""

    BASE = "b"
    """The whole data set at the time of a rewrite, as an RDB file or as commands."""
    HISTORY = "h"
    INCR = "i"
    """The commands since then, or a part of them."""


@attrs.frozen
class AofFile:
    """One line of the manifest."""

    name: str
    number: int
    kind: FileKind

    def format(self) -> bytes:
        """The line, with its end."""
        name = os.fsencode(self.name)
        # Redis forgets the apostrophe, and then does not start on what it wrote.
        shown = quote(name) if needs_quotes(name) or b"'" in name else name
        return b"file %b seq %d type %b\n" % (shown, self.number, self.kind.value.encode())


@attrs.frozen
class Manifest:
    """All files of one append only file."""

    base: AofFile | None = None
    history: tuple[AofFile, ...] = ()
    incrs: tuple[AofFile, ...] = ()
    base_number: int = 0
    incr_number: int = 0

    def format(self) -> bytes:
        """The text of the manifest file."""
        files = ([self.base] if self.base is not None else []) + [*self.history, *self.incrs]
        return b"".join(file.format() for file in files)

    @property
    def files(self) -> list[AofFile]:
        """What has to be loaded, in order."""
        return ([self.base] if self.base is not None else []) + list(self.incrs)

    def with_base(self, filename: str, *, as_rdb: bool) -> Manifest:
        """With a new base file; the present one becomes history."""
        number = self.base_number + 1
        history = self.history
        if self.base is not None:
            history = (attrs.evolve(self.base, kind=FileKind.HISTORY), *history)
        name = f"{filename}.{number}.base.{'rdb' if as_rdb else 'aof'}"
        return attrs.evolve(self, base=AofFile(name, number, FileKind.BASE), base_number=number, history=history)

    def with_incr(self, filename: str) -> Manifest:
        """With a new incr file behind the others."""
        number = self.incr_number + 1
        file = AofFile(f"{filename}.{number}.incr.aof", number, FileKind.INCR)
        return attrs.evolve(self, incrs=(*self.incrs, file), incr_number=number)

    def with_incrs_rewritten(self, *, keep_last: bool) -> Manifest:
        """The new base says what the incr files say: they are history, all but the last if that is being written."""
        done = self.incrs[:-1] if keep_last else self.incrs
        history = tuple(attrs.evolve(file, kind=FileKind.HISTORY) for file in done)
        return attrs.evolve(self, incrs=self.incrs[len(done) :], history=(*history, *self.history))

    def without_history(self) -> Manifest:
        """The history files have been removed."""
        return attrs.evolve(self, history=())

    def adopting(self, filename: str) -> Manifest:
        """With the one file that versions before 7.0 wrote as its base."""
        return attrs.evolve(self, base=AofFile(filename, 1, FileKind.BASE), base_number=1)


def manifest_name(filename: str) -> str:
    """The manifest of the append only file ``filename``."""
    return f"{filename}.manifest"


def temporary_manifest_name(filename: str) -> str:
    """Where a manifest is written until it is complete."""
    return f"temp-{filename}.manifest"


def temporary_incr_name(filename: str) -> str:
    """What is written while the first base of an append only file is being made."""
    return f"temp-{filename}.incr"


def parse_manifest(text: bytes) -> Manifest:
    """The manifest in ``text``. Raises ManifestError."""
    if not text:
        raise ManifestError("Found an empty AOF manifest")
    base: AofFile | None = None
    history: list[AofFile] = []
    incrs: list[AofFile] = []
    for number, raw in enumerate(_lines(text), start=1):
        if raw.startswith(b"#"):
            continue
        file = _parse_line(raw, number)
        if file.kind is FileKind.HISTORY:
            history.append(file)
        elif file.kind is FileKind.INCR:
            if file.number <= (incrs[-1].number if incrs else 0):
                raise ManifestError("Found a non-monotonic sequence number", number, raw.strip(_TRIMMED))
            incrs.append(file)
        elif base is not None:
            raise ManifestError("Found duplicate base file information", number, raw.strip(_TRIMMED))
        else:
            base = file
    return Manifest(
        base=base,
        history=tuple(history),
        incrs=tuple(incrs),
        base_number=base.number if base is not None else 0,
        incr_number=incrs[-1].number if incrs else 0,
    )


def _lines(text: bytes) -> list[bytes]:
    """The lines with their ends; only LF ends one."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _parse_line(raw: bytes, number: int) -> AofFile:
    # A NUL hides the line's end from Redis, too.
    if len(raw) > LINE_BYTES_MAX or not raw.endswith(b"\n") or b"\0" in raw:
        raise ManifestError("The AOF manifest file contains too long line", number)
    line = raw.strip(_TRIMMED)
    words = split_inline(line) if line else None
    # More pairs than we know are for later versions.
    if words is None or len(words) < 6 or len(words) % 2:
        raise ManifestError("Invalid AOF manifest file format", number, line)
    name = kind = None
    sequence = 0
    for key, value in zip(words[::2], words[1::2], strict=True):
        match key.lower():
            case b"file":
                name = value.split(b"\0", 1)[0]
                if b"/" in name or b"\\" in name:
                    raise ManifestError("File can't be a path, just a filename", number, line)
            case b"seq":
                sequence = _number(value)
            case b"type":
                kind = value[:1]
    if not name or not sequence or not kind:
        raise ManifestError("Invalid AOF manifest file format", number, line)
    try:
        return AofFile(os.fsdecode(name), sequence, FileKind(kind.decode("latin-1")))
    except ValueError:
        raise ManifestError("Unknown AOF file type", number, line) from None


def _number(text: bytes) -> int:
    """The number that ``text`` begins with, 0 where there is none (C's atoll)."""
    text = text.lstrip(b" \t\n\v\f\r")
    sign = text[:1] if text[:1] in (b"-", b"+") else b""
    digits = text[len(sign) :]
    end = 0
    while end < len(digits) and 0x30 <= digits[end] <= 0x39:
        end += 1
    if not end:
        return 0
    # More digits than any 64-bit number has are not worth converting.
    number = INT64_MAX if end > 30 else min(int(digits[:end]), INT64_MAX)
    return -number if sign == b"-" else number
