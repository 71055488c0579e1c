"""SORT and SORT_RO: the elements of a list, set or sorted set in order, or what keys named after them hold.

Redis 7.0: sort.c. Numbers that are equal are ordered by their elements' bytes; elements whose texts or weights are
equal otherwise keep the order that the value lists them in, or get that of the partial sort where BY comes with LIMIT.
Texts are compared as the locale of the process collates them, but byte by byte when the result is stored: replicas need
not share the locale.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import attrs

from cluster import errors
from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.keyspace.hashes import HashValue
from cluster.keyspace.lists import ListValue
from cluster.keyspace.partial_sort import first_of
from cluster.keyspace.sets import SetValue
from cluster.keyspace.sorted_sets import SortedSetValue
from cluster.keyspace.strings import is_string, to_bytes
from cluster.resp.encode import bulk, integer
from cluster.slots.hashing import key_slot

_NO_NUMBER: Final = b"ERR One or more scores can't be converted into double"
_PLAIN_LOCALES: Final = frozenset({"C", "POSIX", "C.UTF-8", "C.utf8"})
_SPACES: Final = b" \t\n\v\f\r"
_HEXADECIMAL: Final = rb"[+-]?0[xX]"


# Options --------------------------------------------------------------------------------------------------------------


@attrs.define
class _Options:
    descending: bool = False
    alpha: bool = False
    limit: tuple[int, int] = (0, -1)
    by: bytes | None = None
    """The pattern of the keys to sort by."""
    is_sorted: bool = True
    """False after BY with a constant: the value's own order is asked for."""
    get: list[bytes] = attrs.field(factory=list)
    store: bytes | None = None


def _parse_options(client: Session, argv: list[bytes], *, may_store: bool) -> _Options:
    options = _Options()
    words = iter(enumerate(argv))
    next(words), next(words)
    for position, word in words:
        name, left = word.upper(), len(argv) - position - 1
        if name in (b"ASC", b"DESC"):
            options.descending = name == b"DESC"
        elif name == b"ALPHA":
            options.alpha = True
        elif name == b"LIMIT" and left >= 2:
            options.limit = parse_integer(next(words)[1]), parse_integer(next(words)[1])
        elif name == b"STORE" and left and may_store:
            options.store = next(words)[1]
        elif name == b"BY" and left:
            options.by = next(words)[1]
            if b"*" not in _c_string(options.by):
                options.is_sorted = False
            else:
                _check_may_look_up(client, argv, b"BY")
        elif name == b"GET" and left:
            _check_may_look_up(client, argv, b"GET")
            options.get.append(next(words)[1])
        else:
            raise CommandError(errors.SYNTAX)
    return options


def _check_may_look_up(client: Session, argv: list[bytes], option: bytes) -> None:
    """A pattern may name any key: not of this node's slots alone, and not only those that the user may read."""
    server = client.server
    if server.cluster is not None:
        raise CommandError(b"ERR %b option of SORT denied in Cluster mode." % option)
    row = server.commands.find(argv[0])
    if row is not None and not server.acl.may_read_all_keys(client.user, row, argv):
        raise CommandError(b"ERR %b option of SORT denied due to insufficient ACL permissions." % option)


def _c_string(text: bytes) -> bytes:
    """Where C's string functions see the end."""
    return text.split(b"\x00", 1)[0]


# Keys named after elements ------------------------------------------------------------------------------------------


def _look_up(client: Session, pattern: bytes, element: bytes) -> bytes | None:
    """What a pattern stands for: ``#`` the element, ``a*b`` a string's content, ``a*b->c`` the field c of a hash."""
    if pattern == b"#":
        return element
    seen = _c_string(pattern)
    star = seen.find(b"*")
    if star < 0:
        return None
    arrow = seen.find(b"->", star + 1)
    field: bytes | None = None
    end = len(pattern)
    if arrow >= 0 and arrow + 2 < len(seen):
        field, end = pattern[arrow + 2 :], arrow
    key = pattern[:star] + element + pattern[star + 1 : end]
    value = client.db.read(key, key_slot(key))
    if field is None:
        return to_bytes(value) if is_string(value) else None
    return value.get(field) if type(value) is HashValue else None


def _score(text: bytes) -> float | None:
    """A number as strtod reads it, nothing at all being 0; None for no number."""
    text = _c_string(text)
    if not text:
        return 0.0
    digits = text.lstrip(_SPACES)
    if digits == digits.rstrip(_SPACES) and b"_" not in digits:
        try:
            is_hexadecimal = re.match(_HEXADECIMAL, digits) is not None
            number = float.fromhex(digits.decode()) if is_hexadecimal else float(digits)
        except (ValueError, OverflowError):
            return None
        is_infinite = number in (float("inf"), float("-inf"))
        if is_infinite == (b"n" in digits.lower()) and not _is_underflow(number, digits, is_hexadecimal):
            return number
    return None


def _is_underflow(number: float, digits: bytes, is_hexadecimal: bool) -> bool:
    """Whether strtod calls a number too small: it is rounded to a subnormal one, or to zero."""
    if abs(number) >= sys.float_info.min:
        return False
    if is_hexadecimal:
        return number == 0 and re.match(rb"[+-]?0x[0.]*(p|$)", digits.lower()) is None
    return number != 0 or re.match(rb"[+-]?[0.]*(e|$)", digits.lower()) is None


@cache
def _collation() -> Callable[[bytes], Any]:
    """The key to compare texts by, as strcoll does in the locale of the environment."""
    import locale

    try:
        name = locale.setlocale(locale.LC_COLLATE, "")
    except locale.Error:
        return _c_string
    if name in _PLAIN_LOCALES:
        return _c_string
    return lambda text: locale.strxfrm(_c_string(text).decode("utf-8", "replace"))


# Sorting ------------------------------------------------------------------------------------------------------------


def _sorted(client: Session, elements: list[bytes], options: _Options) -> list[bytes]:
    """The elements asked for, in order. Raises CommandError (no number)."""
    by, descending = options.by, options.descending
    start, stop = _limits(options, len(elements))
    if not options.alpha:
        weights = elements if by is None else [_look_up(client, by, element) for element in elements]
        scored = []
        for element, weight in zip(elements, weights, strict=True):
            score = 0.0 if weight is None else _score(weight)
            if score is None:
                raise CommandError(_NO_NUMBER)
            scored.append((score, element))
        scored.sort(reverse=descending)
        return [element for _weight, element in scored[start:stop]]
    key: Callable[[bytes], Any] = bytes if options.store is not None else _collation()
    if by is None:
        return sorted(elements, key=key, reverse=descending)[start:stop]
    found = [_look_up(client, by, element) for element in elements]
    # An element without a weight comes before all others.
    keys = [() if weight is None else (key(weight),) for weight in found]
    if start == stop or (start, stop) == (0, len(elements)):
        order = sorted(range(len(keys)), key=keys.__getitem__, reverse=descending)
    else:
        ranks = {each: rank for rank, each in enumerate(sorted(set(keys), reverse=descending))}
        order = first_of([ranks[each] for each in keys], stop, all_is_partial=True)
    return [elements[position] for position in order[start:stop]]


def _limits(options: _Options, size: int) -> tuple[int, int]:
    """The first element asked for, and the one behind the last."""
    start = min(max(options.limit[0], 0), size)
    count = min(options.limit[1], size)
    return start, size if count < 0 else min(start + count, size)


def _select(client: Session, value: Any, options: _Options) -> list[bytes]:
    """The elements asked for, in order. Raises CommandError."""
    if type(value) is SortedSetValue:
        value.expand()
    if options.is_sorted:
        return _sorted(client, list(value), options)
    start, stop = _limits(options, len(value))
    if type(value) is SetValue or not options.descending:
        return list(value.slice(start, stop)) if type(value) is ListValue else list(value)[start:stop]
    return list(value)[::-1][start:stop]


def _sort(client: Session, argv: list[bytes], *, may_store: bool) -> bytes:
    options = _parse_options(client, argv, may_store=may_store)
    value = client.db.read(argv[1], client.slot)
    if value is None:
        value = ListValue()
    elif type(value) not in (ListValue, SetValue, SortedSetValue):
        raise CommandError(errors.WRONGTYPE)
    if not options.is_sorted and type(value) is SetValue and (options.store is not None or client.is_script):
        # A set has no order of its own: replicas must come to the same list, and scripts to the same effects.
        options.is_sorted, options.alpha, options.by = True, True, None
    elements = _select(client, value, options)
    if options.store is not None:
        return _store(client, elements, options, options.store)
    if not options.get:
        return b"*%d\r\n%b" % (len(elements), b"".join(map(bulk, elements)))
    bulk_or_null = client.proto.bulk_or_null
    parts = [bulk_or_null(_look_up(client, pattern, element)) for element in elements for pattern in options.get]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def _store(client: Session, elements: list[bytes], options: _Options, target: bytes) -> bytes:
    db, slot = client.db, key_slot(target)
    if options.get:
        elements = [_look_up(client, pattern, element) or b"" for element in elements for pattern in options.get]
    if elements:
        db.put(target, slot, ListValue.of(elements))
        db.keyspace.dirty += len(elements) - 1
        db.notify("l", b"sortstore", target)
    elif db.peek(target, slot) is not None:
        db.delete(target, slot)
        db.notify("g", b"del", target)
    return integer(len(elements))


@command("sort")
def sort(client: Session, argv: list[bytes]) -> bytes:
    return _sort(client, argv, may_store=True)


@command("sort_ro")
def sort_ro(client: Session, argv: list[bytes]) -> bytes:
    return _sort(client, argv, may_store=False)
