"""Laying out collections as Redis 7.0 does: from plain data to (type code, pieces) for the RDB writer.

Role        One function per data type for the encoders of the value classes, which hand over their elements and say
            whether the value is in its compact encoding (what OBJECT ENCODING reports), as in
            ``register_encoder(HashValue, lambda value, limit: hash_layout(value.fields, value.is_compact, limit))``.
Invariants  The pieces of big collections are generated one after the other. Compact ones are a few kilobytes.
            What Redis 7.0 cannot read (types of version 11) is never produced.
Spec        rdbSaveObject in rdb.c; quicklist.c, t_zset.c (zzlInsertAt). Streams: stream_layout.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from cluster.keyspace.scan_table import AnyMembers
from cluster.keyspace.sorted_sets import compact_score_text
from cluster.persistence import intset, listpack
from cluster.persistence.rdb_format import RdbType, encode_length
from cluster.persistence.rdb_values import PACKED_NODE, PLAIN_NODE
from cluster.persistence.rdb_writer import string_pieces

Layout = tuple[int, Iterable[bytes]]

LIST_NODE_BYTES: Final = 8192
"""list-max-listpack-size -2, and Redis's safety limit for nodes that are limited by count."""
LIST_PLAIN_BYTES: Final = 1 << 30
"""Elements from this size on are nodes of their own, outside a listpack."""

_ENTRY_OVERHEAD_BYTES: Final = 8
_DOUBLE = struct.Struct("<d")


# Lists --------------------------------------------------------------------------------------------------------


def list_layout(
    elements: Iterable[bytes],
    compress_up_to: int,
    *,
    node_bytes: int = LIST_NODE_BYTES,
    node_entries: int | None = None,
) -> Layout:
    """A list, which is walked through twice, as nodes of up to ``node_bytes`` and (where given) ``node_entries``."""
    bounds = _node_bounds(elements, node_bytes, node_entries)
    return RdbType.LIST_QUICKLIST_2, _list_pieces(elements, bounds, compress_up_to)


def _node_bounds(elements: Iterable[bytes], node_bytes: int, node_entries: int | None) -> list[int]:
    """Where each node ends: its number must be written before the first of them."""
    bounds: list[int] = []
    start = size = position = 0
    alone = False
    for position, element in enumerate(elements, 1):
        added = len(element) + _ENTRY_OVERHEAD_BYTES
        count = position - 1 - start
        after_alone, alone = alone, len(element) >= LIST_PLAIN_BYTES
        full = size + added > node_bytes or count == node_entries
        if count and (full or alone or after_alone):
            start = position - 1
            bounds.append(start)
            size = 0
        size += added
    if position:
        bounds.append(position)
    return bounds


def _list_pieces(elements: Iterable[bytes], bounds: list[int], compress_up_to: int) -> Iterator[bytes]:
    yield encode_length(len(bounds))
    remaining = iter(elements)  # Not by index: a value class may keep its elements in something else than an array.
    start = 0
    for end in bounds:
        node = [next(remaining) for _ in range(start, end)]
        start = end
        if len(node) == 1 and len(node[0]) >= LIST_PLAIN_BYTES:
            yield encode_length(PLAIN_NODE)
            yield from string_pieces(node[0], compress_up_to)
        else:
            yield encode_length(PACKED_NODE)
            yield from string_pieces(listpack.encode(node), compress_up_to)


# Sets and hashes ----------------------------------------------------------------------------------------------


def _strings(texts: Iterable[bytes], compress_up_to: int) -> Iterator[bytes]:
    for text in texts:
        yield from string_pieces(text, compress_up_to)


def _counted(count: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield encode_length(count)
    yield from pieces


def set_layout(members: Collection[bytes], compress_up_to: int) -> Layout:
    """A set of any members."""
    return RdbType.SET, _counted(len(members), _strings(members, compress_up_to))


def intset_layout(members: Iterable[int], compress_up_to: int) -> Layout:
    """A set in its compact encoding: integers of 64 bits, in any order, at least one."""
    return RdbType.SET_INTSET, string_pieces(intset.encode(sorted(members)), compress_up_to)


def intset_array_layout(members: array[int], compress_up_to: int) -> Layout:
    """The same from an array in ascending order, whose items keep their width."""
    return RdbType.SET_INTSET, string_pieces(intset.encode_array(members), compress_up_to)


def hash_layout(fields: AnyMembers[bytes], compact: bool, compress_up_to: int) -> Layout:
    """A hash."""
    items = (text for pair in fields.items() for text in pair)
    if compact:
        return RdbType.HASH_LISTPACK, string_pieces(listpack.encode(items), compress_up_to)
    return RdbType.HASH, _counted(len(fields), _strings(items, compress_up_to))


# Sorted sets --------------------------------------------------------------------------------------------------


def zset_layout(
    ascending: Iterable[tuple[bytes, float]],
    descending: Iterable[tuple[bytes, float]],
    count: int,
    compact: bool,
    compress_up_to: int,
) -> Layout:
    """A sorted set of (member, score), by score and then member; only the order that is needed is walked through.

    The plain layout goes from the greatest down, which Redis inserts fastest.
    """
    if compact:
        items = (text for member, score in ascending for text in (member, compact_score_text(score)))
        return RdbType.ZSET_LISTPACK, string_pieces(listpack.encode(items), compress_up_to)
    return RdbType.ZSET_2, _counted(count, _scored(descending, compress_up_to))


def _scored(pairs: Iterable[tuple[bytes, float]], compress_up_to: int) -> Iterator[bytes]:
    for member, score in pairs:
        yield from string_pieces(member, compress_up_to)
        yield _DOUBLE.pack(score)
