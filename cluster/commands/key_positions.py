"""Which arguments of a request are keys: what routing (``keys_of``), COMMAND GETKEYS and ACLs ask.

Read from the key specs of the command table (Redis 7.0, "Command key specifications"); the few commands whose specs
are incomplete (SORT, MIGRATE, EVAL with its count, …) have a function of their own in ``_SPECIAL``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.commands.registry import Command
from cluster.keyspace.strings import atoi, parse_int64

Positions = list[tuple[int, list[str]]]
"""(index into argv, flags such as RO, access, RW, update, delete, insert)"""


class InvalidKeys(Exception):
    """The request's arguments do not fit the command's key specs."""


def key_positions(row: Command, argv: list[bytes]) -> Positions:
    """Where the keys are; empty for a request without keys. Raises InvalidKeys for arguments that make no sense."""
    try:
        return _of_specs(row, argv)
    except InvalidKeys:
        # What the specs do not understand may still be understood by the looser functions for routing.
        routed = _for_routing(row, argv)
        if routed is None:
            raise
        return [(index, []) for index in routed]


def _of_specs(row: Command, argv: list[bytes]) -> Positions:
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
    routed = _for_routing(row, argv)
    if routed is not None:
        return [argv[index] for index in routed]
    try:
        return [argv[index] for index, _flags in key_positions(row, argv)]
    except InvalidKeys:
        return []


def _for_routing(row: Command, argv: list[bytes]) -> list[int] | None:
    """What Redis's own function for the command finds; None: it has none that differs from the specs."""
    special = _ONLY_FOR_ROUTING.get(row.name)
    if special is not None:
        return special(argv)
    specs = row.record[8]
    if specs and specs[-1]["find_keys"]["type"] == "keynum":
        return _counted_keys(specs, argv)
    return None


def _counted_keys(specs: list[dict[str, Any]], argv: list[bytes]) -> list[int]:
    """[destination] numkeys key [key …]: the count is read as C's atoi reads it; none when there are not so many."""
    spec = specs[-1]
    begin = spec["begin_search"]["spec"]["index"]
    find = spec["find_keys"]["spec"]
    first = begin + find["firstkey"]
    count = atoi(argv[begin + find["keynumidx"]]) if begin + find["keynumidx"] < len(argv) else 0
    if not 1 <= count <= len(argv) - first:
        return []
    keys = list(range(first, first + count))
    # The destination comes first, as in the specs: commands take the first key's slot for its.
    return keys if len(specs) == 1 else [specs[0]["begin_search"]["spec"]["index"], *keys]


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
        place = first + spec["keynumidx"]
        count = parse_int64(argv[place]) if place < len(argv) else None
        begin = first + spec["firstkey"]
        if count is None or not 1 <= count <= len(argv) - begin:
            raise InvalidKeys
        end = begin + (count - 1) * spec["keystep"]
        return list(range(begin, end + 1, spec["keystep"]))
    return []


def _set_keys(argv: list[bytes]) -> Positions:
    """SET reads the key only with GET."""
    reads = any(word.upper() == b"GET" for word in argv[3:])
    return [(1, ["RW", "access", "update"] if reads else ["OW", "update"])]


def _bitfield_keys(argv: list[bytes]) -> Positions:
    """BITFIELD writes unless all its operations are GET, and whole; OVERFLOW alone changes nothing."""
    index = 2
    while index < len(argv):
        word, following = argv[index].upper(), len(argv) - index - 1
        if word == b"GET" and following >= 2:
            index += 3
        elif word == b"OVERFLOW" and following >= 1:
            index += 2
        else:
            return [(1, ["RW", "access", "update"])]
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
    if not any(word.upper() == b"KEYS" for word in argv[2:-1]):
        index = len(argv)  # The last word announces nothing: it is an error, but no reason to ignore the key.
    while index < len(argv):
        word = argv[index].upper()
        if word == b"KEYS":
            return [] if argv[3] else [(position, flags) for position in range(index + 1, len(argv))]
        index += 1 + skip.get(word, 0)
    return [(3, flags)] if len(argv) > 3 else []


def _georadius_keys(argv: list[bytes]) -> list[int]:
    """GEORADIUS[BYMEMBER] key … [STORE key] [STOREDIST key]."""
    store: int | None = None
    index = 5
    while index < len(argv) - 1:
        if argv[index].upper() in (b"STORE", b"STOREDIST"):
            index += 1  # Its argument is a key, even one that is named so.
            store = index
        index += 1
    return [1] if store is None else [1, store]


def _stream_keys(argv: list[bytes]) -> list[int]:
    """XREAD and XREADGROUP … STREAMS key [key …] id [id …]: an option's argument may be STREAMS, too."""
    skip = {b"BLOCK": 1, b"COUNT": 1, b"GROUP": 2, b"NOACK": 0}
    index = 1
    while index < len(argv):
        word = argv[index].upper()
        if word == b"STREAMS":
            count = len(argv) - index - 1
            return [] if count % 2 else list(range(index + 1, index + 1 + count // 2))
        if word not in skip:
            return []
        index += 1 + skip[word]
    return []


_SPECIAL: dict[bytes, Callable[[list[bytes]], Positions]] = {
    b"set": _set_keys,
    b"bitfield": _bitfield_keys,
    b"sort": _sort_keys,
    b"migrate": _migrate_keys,
}
_ONLY_FOR_ROUTING: dict[bytes, Callable[[list[bytes]], list[int]]] = {
    b"georadius": _georadius_keys,
    b"georadiusbymember": _georadius_keys,
    b"xread": _stream_keys,
    b"xreadgroup": _stream_keys,
}
"""Commands whose specs are complete, and which Redis nevertheless routes by a function that finds less."""
