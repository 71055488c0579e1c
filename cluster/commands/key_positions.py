"""Which arguments of a request are keys: what routing (``keys_of``), COMMAND GETKEYS and ACLs ask.

Read from the key specs of the command table (Redis 7.0, "Command key specifications"); the few commands whose specs
are incomplete (SORT, MIGRATE, EVAL with its count, …) have a function of their own in ``_SPECIAL``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.commands.registry import Command

Positions = list[tuple[int, list[str]]]
"""(index into argv, flags such as RO, access, RW, update, delete, insert)"""


class InvalidKeys(Exception):
    """The request's arguments do not fit the command's key specs."""


def key_positions(row: Command, argv: list[bytes]) -> Positions:
    """Where the keys are; empty for a request without keys. Raises InvalidKeys for arguments that make no sense."""
    special = _SPECIAL.get(row.name)
    if special is not None:
        return special(argv)
    if row.single_key:
        return [(1, row.record[8][0]["flags"])]
    positions: Positions = []
    for spec in row.record[8]:
        first = _begin(spec["begin_search"], argv)
        if first is not None:
            positions += [(index, spec["flags"]) for index in _find(spec["find_keys"], first, argv)]
    return positions


def keys_of(row: Command, argv: list[bytes]) -> list[bytes]:
    """The keys of a request, in order; none when its arguments make no sense (the handler will say so)."""
    if row.single_key:
        return [argv[1]]
    special = _ONLY_FOR_ROUTING.get(row.name)
    if special is not None:
        return [argv[index] for index, _flags in special(argv)]
    try:
        return [argv[index] for index, _flags in key_positions(row, argv)]
    except InvalidKeys:
        return []


def key_positions_or_none(row: Command, argv: list[bytes]) -> Positions:
    """:func:`key_positions`; empty when the arguments make no sense."""
    try:
        return key_positions(row, argv)
    except InvalidKeys:
        return []


def _begin(search: dict[str, Any], argv: list[bytes]) -> int | None:
    """Index of the first argument that the spec covers."""
    kind, spec = search["type"], search["spec"]
    if kind == "index":
        index: int = spec["index"]
        return index if index < len(argv) else None
    if kind == "keyword":
        keyword = spec["keyword"].encode()
        start: int = spec["startfrom"]
        indices = range(start, len(argv)) if start > 0 else range(len(argv) + start, 0, -1)
        for index in indices:
            if argv[index].upper() == keyword:
                return index + 1 if index + 1 < len(argv) else None
    return None


def _find(find: dict[str, Any], first: int, argv: list[bytes]) -> list[int]:
    """Indices of the keys, from ``first`` on."""
    kind, spec = find["type"], find["spec"]
    if kind == "range":
        last, step, limit = spec["lastkey"], spec["keystep"], spec["limit"]
        if last >= 0:
            end = first + last
        elif limit <= 1:
            end = len(argv) + last
        else:
            end = first + (len(argv) - first) // limit + last
        if end >= len(argv):
            raise InvalidKeys
        return list(range(first, end + 1, step))
    if kind == "keynum":
        try:
            count = int(argv[first + spec["keynumidx"]])
        except (ValueError, IndexError):
            raise InvalidKeys from None
        begin = first + spec["firstkey"]
        end = begin + (count - 1) * spec["keystep"]
        if count < 0 or end >= len(argv):
            raise InvalidKeys
        return list(range(begin, end + 1, spec["keystep"]))
    return []


def _set_keys(argv: list[bytes]) -> Positions:
    """SET reads the key only with GET."""
    reads = any(word.upper() == b"GET" for word in argv[3:])
    return [(1, ["RW", "access", "update"] if reads else ["OW", "update"])]


def _bitfield_keys(argv: list[bytes]) -> Positions:
    """BITFIELD writes unless all its operations are GET."""
    index = 2
    while index < len(argv):
        word = argv[index].upper()
        if word != b"GET":
            return [(1, ["RW", "access", "update"])]
        index += 3
    return [(1, ["RO", "access"])]


def _sort_keys(argv: list[bytes]) -> Positions:
    """SORT key … [STORE destination]: BY and GET patterns are not keys; the last STORE wins."""
    positions: Positions = [(1, ["RO", "access"])]
    skip = {b"LIMIT": 2, b"GET": 1, b"BY": 1}
    store: int | None = None
    index = 2
    while index < len(argv):
        word = argv[index].upper()
        if word == b"STORE" and index + 1 < len(argv):
            store = index + 1  # Its argument is looked at again: it may itself be a STORE.
        index += 1 + skip.get(word, 0)
    if store is not None:
        positions.append((store, ["OW", "update"]))
    return positions


def _migrate_keys(argv: list[bytes]) -> Positions:
    """MIGRATE host port key|"" … [KEYS key …]: KEYS beside another key is an error, which the handler tells."""
    flags = ["RW", "access", "delete"]
    skip = {b"AUTH": 1, b"AUTH2": 2}
    index = 6
    while index < len(argv):
        word = argv[index].upper()
        if word == b"KEYS":
            return [] if argv[3] else [(position, flags) for position in range(index + 1, len(argv))]
        index += 1 + skip.get(word, 0)
    return [(3, flags)] if len(argv) > 3 else []


def _georadius_keys(argv: list[bytes]) -> Positions:
    """GEORADIUS[BYMEMBER] key … [STORE key] [STOREDIST key]."""
    positions: Positions = [(1, ["RO", "access"])]
    store: int | None = None
    index = 5
    while index < len(argv) - 1:
        if argv[index].upper() in (b"STORE", b"STOREDIST"):
            index += 1  # Its argument is a key, even one that is named so.
            store = index
        index += 1
    if store is not None:
        positions.append((store, ["OW", "update"]))
    return positions


_SPECIAL: dict[bytes, Callable[[list[bytes]], Positions]] = {
    b"set": _set_keys,
    b"bitfield": _bitfield_keys,
    b"sort": _sort_keys,
    b"migrate": _migrate_keys,
}
_ONLY_FOR_ROUTING: dict[bytes, Callable[[list[bytes]], Positions]] = {
    b"georadius": _georadius_keys,
    b"georadiusbymember": _georadius_keys,
}
"""Commands whose specs are complete, and which Redis nevertheless routes by a function that finds less."""
