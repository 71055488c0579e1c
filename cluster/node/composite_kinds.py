"""The directives whose values are more than a word: save, bind, replicaof, client-output-buffer-limit and their like.

Source      config.c: ``setConfig*Option``, ``getConfig*Option``, ``rewriteConfig*Option``; notify.c; util.c.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from cluster.errors import ConfigError
from cluster.node.config_file import decode, encode
from cluster.node.directive_kinds import (
    Kind,
    RewriteLine,
    c_text,
    lenient_integer,
    memory_bytes,
    memory_text,
    signed,
)
from cluster.resp.parser import split_inline
from cluster.resp.quoting import quote
from cluster.settings import (
    NOTIFY_ALL,
    NOTIFY_EVICTED,
    NOTIFY_EXPIRED,
    NOTIFY_GENERIC,
    NOTIFY_HASH,
    NOTIFY_KEY_MISS,
    NOTIFY_KEYEVENT,
    NOTIFY_KEYSPACE,
    NOTIFY_LIST,
    NOTIFY_MODULE,
    NOTIFY_NEW,
    NOTIFY_SET,
    NOTIFY_STREAM,
    NOTIFY_STRING,
    NOTIFY_ZSET,
    MasterAddress,
    OutputBufferLimit,
    SavePoint,
    Settings,
)

WRONG_NUMBER: Final = "wrong number of arguments"
BIND_ADDRESSES_MAX: Final = 16


def _word(text: str) -> bytes:
    """An address for the file: bare, as Redis writes it, unless a client gave one that would not stay on its line."""
    word = encode(text)
    return word if word and split_inline(word) == [word] else quote(word)


class SavePoints(Kind):
    """``save <seconds> <changes> ...``, or ``save ""`` for none. What repeated lines add up to is the loader's part."""

    __slots__ = ()
    takes_many = True

    @property
    def label(self) -> str:
        return "pairs of seconds and changes"

    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> list[SavePoint]:
        if len(arguments) == 1 and not c_text(arguments[0]):
            return []
        numbers = [lenient_integer(argument) for argument in arguments]
        points = []
        for seconds, changes in zip(numbers[::2], numbers[1::2], strict=False):
            if seconds is None or seconds < 1 or changes is None or changes < 0:
                raise ConfigError("Invalid save parameters")
            points.append(SavePoint(seconds, signed(changes, 32)))
        if len(numbers) % 2:
            raise ConfigError("Invalid save parameters")
        return points

    def show(self, value: list[SavePoint]) -> bytes:
        return b" ".join(b"%d %d" % (point.seconds, point.changes) for point in value)

    def rewrite(self, name: bytes, value: list[SavePoint], default: list[SavePoint]) -> list[RewriteLine]:
        # Always written, default or not: without a line, the next start would take the default of that version.
        if not value:
            return [(name + b' ""', True)]
        return [(b"%b %d %d" % (name, point.seconds, point.changes), True) for point in value]


class OutputBufferLimits(Kind):
    """``client-output-buffer-limit <class> <hard> <soft> <seconds> ...``; classes not named keep what they have."""

    __slots__ = ()
    takes_many = True

    @property
    def label(self) -> str:
        return "class, hard limit, soft limit, seconds"

    def parse(
        self, arguments: Sequence[bytes], settings: Settings, current: dict[str, OutputBufferLimit]
    ) -> dict[str, OutputBufferLimit]:
        if len(arguments) % 4:
            raise ConfigError("Wrong number of arguments in buffer limit configuration.")
        limits = dict(current)
        for start in range(0, len(arguments), 4):
            client_class = decode(c_text(arguments[start]).lower())
            if client_class == "slave":
                client_class = "replica"
            if client_class not in limits:
                raise ConfigError("Invalid client class specified in buffer limit configuration.")
            hard, soft = memory_bytes(arguments[start + 1]), memory_bytes(arguments[start + 2])
            seconds = lenient_integer(arguments[start + 3])
            if seconds is not None:
                seconds = signed(seconds, 32)
            if hard is None or soft is None or seconds is None or seconds < 0:
                raise ConfigError("Error in hard, soft or soft_seconds setting in buffer limit configuration.")
            limits[client_class] = OutputBufferLimit(hard, soft, seconds)
        return limits

    def show(self, value: dict[str, OutputBufferLimit]) -> bytes:
        return b" ".join(
            b"%b %d %d %d"
            % (b"slave" if name == "replica" else name.encode(), limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
            for name, limit in value.items()
        )

    def rewrite(
        self, name: bytes, value: dict[str, OutputBufferLimit], default: dict[str, OutputBufferLimit]
    ) -> list[RewriteLine]:
        return [
            (
                b"%b %b %b %b %d"
                % (
                    name,
                    client_class.encode(),
                    memory_text(limit.hard_bytes),
                    memory_text(limit.soft_bytes),
                    limit.soft_seconds,
                ),
                limit != default[client_class],
            )
            for client_class, limit in value.items()
        ]


class OomScores(Kind):
    """``oom-score-adj-values <master> <replica> <child>``."""

    __slots__ = ()
    takes_many = True

    @property
    def label(self) -> str:
        return "three integers"

    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> tuple[int, int, int]:
        if len(arguments) != 3:
            raise ConfigError(WRONG_NUMBER)
        scores = []
        for argument in arguments:
            score = lenient_integer(argument)
            if score is None or not -2000 <= score <= 2000:
                raise ConfigError("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
            scores.append(score)
        master, replica, child = scores
        return master, replica, child

    def show(self, value: tuple[int, int, int]) -> bytes:
        return b"%d %d %d" % value


_EVENT_CLASSES = {
    "g": NOTIFY_GENERIC,
    "$": NOTIFY_STRING,
    "l": NOTIFY_LIST,
    "s": NOTIFY_SET,
    "h": NOTIFY_HASH,
    "z": NOTIFY_ZSET,
    "x": NOTIFY_EXPIRED,
    "e": NOTIFY_EVICTED,
    "t": NOTIFY_STREAM,
    "d": NOTIFY_MODULE,
    "n": NOTIFY_NEW,
}
_EVENT_TARGETS = {"K": NOTIFY_KEYSPACE, "E": NOTIFY_KEYEVENT, "m": NOTIFY_KEY_MISS}
_EVENT_LETTERS = {"A": NOTIFY_ALL, **_EVENT_CLASSES, **_EVENT_TARGETS}


class EventClasses(Kind):
    """``notify-keyspace-events <letters>``."""

    __slots__ = ()

    @property
    def label(self) -> str:
        return "letters of Ag$lshzxeKEtmdn"

    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> int:
        mask = 0
        for letter in c_text(arguments[0]).decode("latin-1"):
            if letter not in _EVENT_LETTERS:
                raise ConfigError("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
            mask |= _EVENT_LETTERS[letter]
        return mask

    def show(self, value: int) -> bytes:
        if value & NOTIFY_ALL == NOTIFY_ALL:
            letters = "A"  # Redis 7.0 leaves out `n` here, though A does not include it.
        else:
            letters = "".join(letter for letter, bit in _EVENT_CLASSES.items() if value & bit)
        return (letters + "".join(letter for letter, bit in _EVENT_TARGETS.items() if value & bit)).encode()

    def rewrite(self, name: bytes, value: int, default: int) -> list[RewriteLine]:
        return [(b"%b %b" % (name, quote(self.show(value))), value != default)]


class Addresses(Kind):
    """``bind <address> ...``; one empty argument, or none at all: listen nowhere."""

    __slots__ = ()
    takes_many = True

    @property
    def label(self) -> str:
        return "addresses"

    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> list[str]:
        if len(arguments) > BIND_ADDRESSES_MAX:
            raise ConfigError("Too many bind addresses specified.")
        if len(arguments) == 1 and not arguments[0]:
            return []
        return [decode(c_text(argument)) for argument in arguments]

    def show(self, value: list[str]) -> bytes:
        return encode(" ".join(value))

    def rewrite(self, name: bytes, value: list[str], default: list[str]) -> list[RewriteLine]:
        if value == default:
            return []  # An old line goes away, too.
        return [(b"%b %b" % (name, b" ".join(map(_word, value)) or b'""'), True)]


class Master(Kind):
    """``replicaof <host> <port>`` or ``replicaof no one``."""

    __slots__ = ()
    takes_many = True

    @property
    def label(self) -> str:
        return "host and port"

    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> MasterAddress | None:
        if len(arguments) != 2:
            raise ConfigError(WRONG_NUMBER)
        host = c_text(arguments[0])
        if host.lower() == b"no" and c_text(arguments[1]).lower() == b"one":
            return None
        port = lenient_integer(arguments[1])
        if port is None or not 0 <= signed(port, 32) <= 65535:
            raise ConfigError("Invalid master port")
        return MasterAddress(decode(host), signed(port, 32))

    def show(self, value: MasterAddress | None) -> bytes:
        return encode(f"{value.host} {value.port}") if value else b""

    def rewrite(self, name: bytes, value: MasterAddress | None, default: MasterAddress | None) -> list[RewriteLine]:
        return [(b"%b %b %d" % (name, _word(value.host), value.port), True)] if value else []


class Percentiles(Kind):
    """``latency-tracking-info-percentiles <percentile> ...``; one empty argument: none."""

    __slots__ = ()
    takes_many = True

    @property
    def label(self) -> str:
        return "percentiles"

    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> tuple[float, ...]:
        if len(arguments) == 1 and not arguments[0]:
            return ()
        percentiles = []
        for argument in arguments:
            percentile = _double(argument)
            if percentile is None:
                raise ConfigError("Invalid latency-tracking-info-percentiles parameters")
            if not 0.0 <= percentile <= 100.0:
                raise ConfigError("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")
            percentiles.append(percentile)
        return tuple(percentiles)

    def show(self, value: tuple[float, ...]) -> bytes:
        return b" ".join((b"%f" % percentile).rstrip(b"0").rstrip(b".") for percentile in value)

    def rewrite(self, name: bytes, value: tuple[float, ...], default: tuple[float, ...]) -> list[RewriteLine]:
        return [(b"%b %b" % (name, self.show(value) or b'""'), True)]


def _double(text: bytes) -> float | None:
    """``string2d``: what strtod() takes, without blanks around it, not NaN, and not out of a double's range."""
    try:
        plain = text.decode("ascii").lower()
        if plain != plain.strip() or "_" in plain:
            return None
        value = float.fromhex(plain) if "x" in plain else float(plain)
    except (ValueError, OverflowError):
        return None
    if math.isinf(value) and "inf" not in plain:
        return None
    mantissa = plain.split("p" if "x" in plain else "e", maxsplit=1)[0].lstrip("+-0x.")
    if value == 0.0 and mantissa.strip("0."):
        return None
    return None if math.isnan(value) else value


class Directory(Kind):
    """``dir <path>``. Entering it is Config's part: only then is it known to exist."""

    __slots__ = ()

    @property
    def label(self) -> str:
        return "path"

    def parse(self, arguments: Sequence[bytes], settings: Settings, current: Any) -> str:
        return decode(c_text(arguments[0]))

    def show(self, value: str) -> bytes:
        return encode(value)

    def rewrite(self, name: bytes, value: str, default: str) -> list[RewriteLine]:
        # Absolute and always written: the next start may happen in another directory.
        return [(b"%b %b" % (name, quote(encode(value))), True)] if value else []
