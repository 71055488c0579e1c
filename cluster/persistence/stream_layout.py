"""How a stream lies in an RDB file (versions 1 to 3), as plain records.

Layout      Nodes (a 16 byte big-endian id and a listpack of entries that are deltas to it), then the counters, then
            the consumer groups with their pending entries. Version 2 (Redis 7.0) added the first id, the greatest
            deleted id, the count of entries ever added and each group's reading position; version 3 (7.2) a
            consumer's last activity. Redis: rdbSaveObject and rdbLoadObject in rdb.c, the head of t_stream.c.
Units       Ids are (milliseconds, sequence); ``*_ms`` are Unix milliseconds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import attrs

from cluster.errors import RdbError
from cluster.persistence import listpack
from cluster.persistence.rdb_cursor import Cursor

StreamId = tuple[int, int]

_DELETED: Final = 1
SAME_FIELDS: Final = 2
_UINT64_MASK: Final = (1 << 64) - 1
ENTRIES_READ_UNKNOWN: Final = _UINT64_MASK
"""SCG_INVALID_ENTRIES_READ, minus one stored as an unsigned number."""


@attrs.frozen
class PendingEntry:
    """An entry that was delivered and not acknowledged."""

    id: StreamId
    delivered_ms: int
    delivery_count: int


@attrs.frozen
class ConsumerData:
    """One consumer of a group."""

    name: bytes
    seen_ms: int
    active_ms: int
    pending: list[StreamId]


@attrs.frozen
class GroupData:
    """One consumer group."""

    name: bytes
    last_id: StreamId
    entries_read: int | None
    """How many entries the group has read in total; None when unknown."""
    pending: list[PendingEntry]
    consumers: list[ConsumerData]


@attrs.frozen
class StreamData:
    """A whole stream; entries are (id, [field, value, field, value …]) in ascending order."""

    entries: list[tuple[StreamId, list[bytes]]]
    last_id: StreamId
    first_id: StreamId
    max_deleted_id: StreamId
    entries_added: int
    groups: list[GroupData]


def read_version_1(cursor: Cursor) -> StreamData:
    """The layout of Redis 5 and 6."""
    return _read(cursor, 1)


def read_version_2(cursor: Cursor) -> StreamData:
    """The layout of Redis 7.0."""
    return _read(cursor, 2)


def read_version_3(cursor: Cursor) -> StreamData:
    """The layout of Redis 7.2."""
    return _read(cursor, 3)


def _read(cursor: Cursor, version: int) -> StreamData:
    entries: list[tuple[StreamId, list[bytes]]] = []
    node_ids: set[bytes] = set()
    for _ in range(cursor.length()):
        _read_node(cursor, node_ids, entries)
    length = cursor.length()
    last_id = _id_as_lengths(cursor)
    if version >= 2:
        first_id = _id_as_lengths(cursor)
        max_deleted_id = _id_as_lengths(cursor)
        entries_added = cursor.length()
    else:
        first_id = entries[0][0] if entries else (0, 0)
        max_deleted_id = (0, 0)
        entries_added = length
    if length != len(entries):
        raise cursor.error("Stream length inconsistent with rax entries")
    if any(later[0] <= earlier[0] for earlier, later in itertools.pairwise(entries)):
        raise cursor.error("Stream listpack integrity check failed.")
    if entries and entries[-1][0] > last_id:
        raise cursor.error("Stream listpack integrity check failed.")
    groups: dict[bytes, GroupData] = {}
    for _ in range(cursor.length()):
        group = _read_group(cursor, version)
        if group.name in groups:
            raise cursor.error(f"Duplicated consumer group name {group.name.decode('utf-8', 'backslashreplace')}")
        groups[group.name] = group
    return StreamData(entries, last_id, first_id, max_deleted_id, entries_added, list(groups.values()))


def _id_as_lengths(cursor: Cursor) -> StreamId:
    milliseconds = cursor.length()
    return milliseconds, cursor.length()


def _id_as_bytes(raw: bytes) -> StreamId:
    return int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big")


def _read_node(cursor: Cursor, seen: set[bytes], entries: list[tuple[StreamId, list[bytes]]]) -> None:
    """Append the entries of one node."""
    raw_id = cursor.string()
    if len(raw_id) != 16:
        raise cursor.error("Stream node key entry is not the size of a stream ID")
    blob = cursor.string()
    try:
        items = listpack.decode(blob)
        if not items:
            raise cursor.error("Empty listpack inside stream")
        entries.extend(_entries_of_node(_id_as_bytes(raw_id), items))
    except (RdbError, ValueError, IndexError, StopIteration, RuntimeError):
        raise cursor.error("Stream listpack integrity check failed.") from None
    if raw_id in seen:
        raise cursor.error("Listpack re-added with existing key")
    seen.add(raw_id)


def _entries_of_node(master_id: StreamId, items: list[bytes]) -> list[tuple[StreamId, list[bytes]]]:
    """The live entries of a node; ValueError or IndexError when its items do not make sense.

    ``items`` is: live count, deleted count, field count, the master's fields, 0; then for each entry its flags, its
    id as two differences to the master's, its values (with its own field count and names, unless it has the master's
    fields), and how many items it took up to here.
    """
    live, deleted, field_count = int(items[0]), int(items[1]), int(items[2])
    position = 3 + _checked_count(field_count, items)
    master_fields = items[3:position]
    if int(items[position]) != 0:
        raise ValueError("no terminator after the master entry")
    position += 1
    entries: list[tuple[StreamId, list[bytes]]] = []
    dead = 0
    while position < len(items):
        start = position
        flags = int(items[position])
        entry_id = (
            (master_id[0] + int(items[position + 1])) & _UINT64_MASK,
            (master_id[1] + int(items[position + 2])) & _UINT64_MASK,
        )
        position += 3
        if flags & SAME_FIELDS:
            values_end = position + field_count
            pairs = _interleave(master_fields, items[position:values_end])
        else:
            count = _checked_count(int(items[position]), items)
            pairs = items[position + 1 : position + 1 + 2 * count]
            values_end = position + 1 + 2 * count
        if int(items[values_end]) != values_end - start:
            raise ValueError("wrong size of an entry")
        position = values_end + 1
        if flags & _DELETED:
            dead += 1
        else:
            entries.append((entry_id, pairs))
    if (live, deleted) != (len(entries), dead):
        raise ValueError("wrong counts")
    return entries


def _checked_count(count: int, items: list[bytes]) -> int:
    if not 0 <= count <= len(items):
        raise ValueError("count out of range")
    return count


def _interleave(fields: list[bytes], values: list[bytes]) -> list[bytes]:
    pairs = [b""] * (2 * len(fields))
    pairs[::2] = fields
    pairs[1::2] = values
    return pairs


def _read_group(cursor: Cursor, version: int) -> GroupData:
    name = cursor.string()
    last_id = _id_as_lengths(cursor)
    entries_read: int | None = None
    if version >= 2:
        entries_read = cursor.length()
        if entries_read == ENTRIES_READ_UNKNOWN:
            entries_read = None
    pending: dict[StreamId, PendingEntry] = {}
    for _ in range(cursor.length()):
        entry = PendingEntry(_id_as_bytes(cursor.take(16)), cursor.milliseconds(), cursor.length())
        if entry.id in pending:
            raise cursor.error("Duplicated global PEL entry loading stream consumer group")
        pending[entry.id] = entry
    consumers: dict[bytes, ConsumerData] = {}
    unowned = set(pending)
    for _ in range(cursor.length()):
        consumer = _read_consumer(cursor, version)
        if consumer.name in consumers:
            raise cursor.error("Duplicate stream consumer detected.")
        consumers[consumer.name] = consumer
        for pending_id in consumer.pending:
            if pending_id not in pending:
                raise cursor.error("Consumer entry not found in group global PEL")
            if pending_id not in unowned:
                raise cursor.error("Duplicated consumer PEL entry  loading a stream consumer group")
            unowned.discard(pending_id)
    if unowned:
        raise cursor.error("Stream CG PEL entry without consumer")
    return GroupData(name, last_id, entries_read, list(pending.values()), list(consumers.values()))


def _read_consumer(cursor: Cursor, version: int) -> ConsumerData:
    name = cursor.string()
    seen_ms = cursor.milliseconds()
    active_ms = cursor.milliseconds() if version >= 3 else seen_ms
    return ConsumerData(name, seen_ms, active_ms, [_id_as_bytes(raw) for raw in _raw_ids(cursor)])


def _raw_ids(cursor: Cursor) -> Iterator[bytes]:
    for _ in range(cursor.length()):
        yield cursor.take(16)
