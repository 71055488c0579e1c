"""What the values of directives may look like: parsing, CONFIG GET's text, and the lines of CONFIG REWRITE.

Role        One class per kind of value. ``parse`` gets the arguments that follow the directive's name and returns the
            value that Settings holds, or raises ConfigError with the reason exactly as Redis words it.
Source      config.c: ``*ConfigSet``, ``*ConfigGet``, ``*ConfigRewrite``; ``memtoull`` in util.c.
Numbers     Redis keeps C integers. Where that shows (a memory value wraps at 2**64, a signed one may turn negative and
            then fail its bounds), it is computed here, because the error text shows it.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from cluster.errors import ConfigError
from cluster.node.config_file import decode, encode
from cluster.resp.parser import parse_length
from cluster.resp.quoting import quote
from cluster.settings import Settings

INT_MAX: Final = 2**31 - 1
INT_MIN: Final = -(2**31)
UINT_MAX: Final = 2**32 - 1
LONG_MAX: Final = 2**63 - 1
ULONG_MAX: Final = 2**64 - 1

_MEMORY_UNITS = {
    b"": 1,
    b"b": 1,
    b"k": 1000,
    b"kb": 1 << 10,
    b"m": 1000**2,
    b"mb": 1 << 20,
    b"g": 1000**3,
    b"gb": 1 << 30,
}
_MEMORY_DIGITS_MAX = 127
_INTEGER_LENGTH_MAX = 64

RewriteLine = tuple[bytes, bool]
"""A line for the file, and whether it must be there even if no old line can be reused for it."""


def c_text(value: bytes) -> bytes:
    """The part of an argument that C's string functions see."""
    return value.split(b"\0", 1)[0]


def lenient_integer(text: bytes, base: int = 10) -> int | None:
    """``strtoll`` that used up all of its text (which may be empty: 0), clamped to 64 bits; None if it did not."""
    body = c_text(text).lstrip(b" \t\n\v\f\r")
    if not body:
        # Nothing converted: strtoll leaves its end pointer at the start, which is the end only of an empty text.
        return 0 if not c_text(text) else None
    sign = -1 if body.startswith(b"-") else 1
    digits = body[1:] if body[:1] in (b"-", b"+") else body
    if not digits or not all(48 <= digit < 48 + base for digit in digits):
        return None
    if len(digits) > _INTEGER_LENGTH_MAX:
        digits = digits.lstrip(b"0")[:_INTEGER_LENGTH_MAX] or b"0"  # Far beyond the clamp, and int() has limits.
    return max(-LONG_MAX - 1, min(LONG_MAX, sign * int(digits, base)))


def memory_bytes(text: bytes) -> int | None:
    """``memtoull``: digits and a unit, as an unsigned 64-bit number of bytes; None if it is not that."""
    text = c_text(text)
    unit = text.lstrip(b"0123456789")
    digits = text[: len(text) - len(unit)]
    factor = _MEMORY_UNITS.get(unit.lower())
    if factor is None or len(digits) > _MEMORY_DIGITS_MAX:
        return None
    return min(int(digits or b"0"), ULONG_MAX) * factor & ULONG_MAX


def memory_text(value: int) -> bytes:
    """Bytes in the largest unit that divides them, as CONFIG REWRITE writes them."""
    for shift, unit in ((30, b"gb"), (20, b"mb"), (10, b"kb")):
        if value and value % (1 << shift) == 0:
            return b"%d%b" % (value >> shift, unit)
    return b"%d" % value


def signed(value: int, bits: int = 64) -> int:
    """An unsigned C integer reinterpreted as a signed one."""
    half = 1 << (bits - 1)
    return (value + half) % (2 * half) - half


class Kind(ABC):
    """How the values of a directive are written."""

    __slots__ = ()

    takes_many = False
    """Several arguments are allowed; a single one, and CONFIG SET's value, are split at blanks (MULTI_ARG_CONFIG)."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What a value is, in a word or two, for the documentation."""

    @abstractmethod
    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> Any:
        """The new value; ``current`` is the one in force. Raises ConfigError with the reason."""

    @abstractmethod
    def show(self, value: Any) -> bytes:
        """The value as CONFIG GET answers it."""

    def rewrite(self, name: bytes, value: Any, default: Any) -> list[RewriteLine]:
        """The lines that CONFIG REWRITE puts into the file."""
        return [(b"%b %b" % (name, self.show(value)), value != default)]


class Switch(Kind):
    """yes or no."""

    __slots__ = ("cannot_enable",)

    def __init__(self, cannot_enable: str = "") -> None:
        self.cannot_enable = cannot_enable
        """Why ``yes`` is refused, if it is."""

    @property
    def label(self) -> str:
        return "yes, no"

    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> bool:
        word = c_text(arguments[0]).lower()
        if word not in (b"yes", b"no"):
            raise ConfigError("argument must be 'yes' or 'no'")
        if word == b"yes" and self.cannot_enable:
            raise ConfigError(self.cannot_enable)
        return word == b"yes"

    def show(self, value: bool) -> bytes:
        return b"yes" if value else b"no"


class Notation(enum.Enum):
    """How a number is written."""

    PLAIN = "integer"
    MEMORY = "memory"
    MEMORY_OR_PERCENT = "memory or percent"
    OCTAL = "octal"


@attrs.frozen(eq=False, repr=False)
class Number(Kind):
    """An integer within bounds, both inclusive. A percentage is held as a negative number."""

    lower: int
    upper: int
    notation: Notation = Notation.PLAIN
    unsigned: bool = False
    clamp: tuple[int, int] | None = None
    """Values outside this are accepted but brought into it."""

    @property
    def label(self) -> str:
        return self.notation.value

    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> int:
        value = self._number(arguments[0])
        self._check_bounds(value)
        if self.clamp:
            value = max(self.clamp[0], min(self.clamp[1], value))
        return value

    def _number(self, text: bytes) -> int:
        value: int | None
        match self.notation:
            case Notation.PLAIN:
                value, expected = parse_length(text), "argument couldn't be parsed into an integer"
            case Notation.MEMORY:
                value, expected = memory_bytes(text), "argument must be a memory value"
            case Notation.MEMORY_OR_PERCENT:
                value, expected = memory_bytes(text), "argument must be a memory or percent value"
                if value is None and text.endswith(b"%") and not text.startswith(b"-"):
                    percent = parse_length(text[:-1])
                    value = -percent if percent is not None else None
            case Notation.OCTAL:
                value, expected = lenient_integer(text, 8), "argument couldn't be parsed as an octal number"
        if value is None:
            raise ConfigError(expected)
        return value & ULONG_MAX if self.unsigned else signed(value)

    def _check_bounds(self, value: int) -> None:
        if self.notation is Notation.MEMORY_OR_PERCENT and value < 0:
            if value < self.lower:
                raise ConfigError(f"percentage argument must be less or equal to {-self.lower}")
        elif not self.lower <= value <= self.upper:
            number = "o" if self.notation is Notation.OCTAL else "d"
            raise ConfigError(f"argument must be between {self.lower:{number}} and {self.upper:{number}} inclusive")

    def show(self, value: int) -> bytes:
        if self.notation is Notation.OCTAL:
            return b"%o" % value
        if self.notation is Notation.MEMORY_OR_PERCENT and value < 0:
            return b"%d%%" % -value
        return b"%d" % value

    def rewrite(self, name: bytes, value: int, default: int) -> list[RewriteLine]:
        in_units = self.notation in (Notation.MEMORY, Notation.MEMORY_OR_PERCENT) and value >= 0
        text = memory_text(value) if in_units else self.show(value)
        return [(b"%b %b" % (name, text), value != default)]


@attrs.frozen(eq=False, repr=False)
class Choice(Kind):
    """One word of a list; ``synonyms`` are accepted and mean one of the others."""

    words: tuple[str, ...]
    synonyms: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def label(self) -> str:
        return ", ".join(self.words)

    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> str:
        word = decode(c_text(arguments[0]).lower())
        if word not in self.words:
            raise ConfigError(f"argument(s) must be one of the following: {', '.join(self.words)}")
        return self.synonyms.get(word, word)

    def show(self, value: str) -> bytes:
        return encode(value)


@attrs.frozen(eq=False, repr=False)
class Choices(Kind):
    """Any number of a list's words, kept in the list's order; its first word means none of them."""

    words: tuple[str, ...]
    check: Callable[[tuple[str, ...]], None]

    takes_many = True

    @property
    def label(self) -> str:
        return ", ".join(self.words)

    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> tuple[str, ...]:
        chosen = {decode(c_text(argument).lower()) for argument in arguments}
        if not chosen or not chosen.issubset(self.words):
            raise ConfigError(f"argument(s) must be one of the following: {', '.join(self.words)}")
        value = tuple(word for word in self.words[1:] if word in chosen)
        self.check(value)
        return value

    def show(self, value: tuple[str, ...]) -> bytes:
        return encode(" ".join(value) or self.words[0])


def _anything(value: str, settings: Settings) -> None:
    """No further check."""


@attrs.frozen(eq=False, repr=False)
class Text(Kind):
    """Any text. ``unset_when_empty``: the empty text means that the directive is not there at all."""

    unset_when_empty: bool = False
    binary: bool = False
    """NUL bytes are kept; otherwise the text ends at the first."""
    check: Callable[[str, Settings], None] = _anything

    @property
    def label(self) -> str:
        return "text"

    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> str:
        value = decode(arguments[0] if self.binary else c_text(arguments[0]))
        self.check(value, settings)
        return value

    def show(self, value: str) -> bytes:
        return encode(value)

    def rewrite(self, name: bytes, value: str, default: str) -> list[RewriteLine]:
        if self.unset_when_empty and not value:
            return []
        return [(b"%b %b" % (name, quote(encode(value))), value != default)]
