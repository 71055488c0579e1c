"""How a stream lies in an RDB file: versions 1 to 3 are read, version 2 is written.

Layout      Nodes (a 16 byte big-endian id and a listpack of entries that are deltas to it), then the counters, then
            the consumer groups with their pending entries. Version 2 (Redis 7.0) added the first id, the greatest
            deleted id, the count of entries ever added and each group's reading position; version 3 (7.2) a
            consumer's last activity, which is not kept. Redis: rdbSaveObject and rdbLoadObject in rdb.c, the head of
            t_stream.c.
Invariants  Nodes stay as they are, deleted entries included: reading and writing again gives the same bytes. Ids of
            live entries must ascend, which Redis does not check.
Units       ``*_ms`` are Unix milliseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from cluster.errors import DeepDamage, RdbError
from cluster.keyspace.consumer_groups import ENTRIES_READ_UNKNOWN, Group, Pending
from cluster.keyspace.stream_nodes import MAX_ID, MAX_PART, StreamId, StreamNode, as_int64, make_id
from cluster.keyspace.streams import StreamValue
from cluster.persistence import listpack
from cluster.persistence.rdb_cursor import Cursor
from cluster.persistence.rdb_format import RdbType, encode_length, encode_string
from cluster.persistence.rdb_writer import string_pieces

_DELETED: Final = 1
_SAME_FIELDS: Final = 2
_DAMAGED_NODE: Final = "Stream listpack integrity check failed."
_INT64: Final = struct.Struct("<q")


# Reading --------------------------------------------------------------------------------------------------------


def read_version_1(cursor: Cursor) -> StreamValue:
    """The layout of Redis 5 and 6."""
    return _read(cursor, 1)


def read_version_2(cursor: Cursor) -> StreamValue:
    """The layout of Redis 7.0."""
    return _read(cursor, 2)


def read_version_3(cursor: Cursor) -> StreamValue:
    """The layout of Redis 7.2."""
    return _read(cursor, 3)


def _read(cursor: Cursor, version: int) -> StreamValue:
    stream = StreamValue()
    greatest_id = _read_nodes(cursor, stream)
    length = cursor.length()
    stream.last_id = _id_as_lengths(cursor)
    if version >= 2:
        stream.first_id = _id_as_lengths(cursor)
        stream.max_deleted_id = _id_as_lengths(cursor)
        stream.entries_added = cursor.length()
    else:
        stream.first_id = next((node.id_at(positions[0]) for node, positions in stream.spans()), MAX_ID)
        stream.entries_added = length
    if length != stream.length:
        raise cursor.error("Stream length inconsistent with rax entries")
    if greatest_id > stream.last_id:
        raise cursor.error(_DAMAGED_NODE)
    for _ in range(cursor.length()):
        name = cursor.string()
        if name in stream.groups:
            raise cursor.error(f"Duplicated consumer group name {name.decode('utf-8', 'backslashreplace')}")
        stream.groups[name] = _read_group(cursor, version, stream)
    return stream


def _id_as_lengths(cursor: Cursor) -> StreamId:
    milliseconds = cursor.length()
    return make_id(milliseconds, cursor.length())


def _read_nodes(cursor: Cursor, stream: StreamValue) -> StreamId:
    """Fill a new stream; returns the id of its last live entry, -1 when there is none."""
    seen: set[StreamId] = set()
    greatest_id = -1
    for _ in range(cursor.length()):
        raw_id = cursor.string()
        if len(raw_id) != 16:
            raise cursor.error("Stream node key entry is not the size of a stream ID")
        master_id = int.from_bytes(raw_id, "big")
        blob = cursor.string()
        if master_id in seen:
            raise cursor.error("Listpack re-added with existing key")
        try:
            items = listpack.decode(blob)
            if not items:
                raise cursor.error("Empty listpack inside stream")
            node, greatest_id = _node_of(master_id, items, greatest_id)
        except RdbError as damage:
            raise cursor.error(_DAMAGED_NODE) from damage
        except (ValueError, IndexError) as damage:
            raise cursor.error(_DAMAGED_NODE) from DeepDamage(f"stream node: {damage}", blob)
        seen.add(master_id)
        node.close()
        stream.add_node(node)
        stream.length += node.live_count
    return greatest_id


def _node_of(master_id: StreamId, items: list[bytes], greatest_id: StreamId) -> tuple[StreamNode, StreamId]:
    """A node, and the last live id up to its end; ValueError or IndexError when its items do not make sense.

    ``items`` is: live count, deleted count, field count, the master's fields, 0; then for each entry its flags, its
    id as two differences to the master's, its values (with its own field count and names, unless it has the master's
    fields), and how many items it took up to here.
    """
    live, deleted, field_count = int(items[0]), int(items[1]), int(items[2])
    position = 3 + _checked_count(field_count, items)
    fields = items[3:position]
    if int(items[position]) != 0:
        raise ValueError("no terminator after the master entry")
    position += 1
    node = StreamNode(master_id, fields)
    dead: list[int] = []
    while position < len(items):
        start = position
        flags = int(items[position])
        entry_id = make_id(
            ((master_id >> 64) + int(items[position + 1])) & MAX_PART,
            ((master_id & MAX_PART) + int(items[position + 2])) & MAX_PART,
        )
        position += 3
        if flags & _SAME_FIELDS:
            values_end = position + field_count
            pairs = [text for pair in zip(fields, items[position:values_end], strict=True) for text in pair]
        else:
            count = _checked_count(int(items[position]), items)
            values_end = position + 1 + 2 * count
            pairs = items[position + 1 : values_end]
        if int(items[values_end]) != values_end - start:
            raise ValueError("wrong size of an entry")
        position = values_end + 1
        if flags & _DELETED:
            dead.append(node.count)
        elif entry_id <= greatest_id:
            raise ValueError("ids do not ascend")
        else:
            greatest_id = entry_id
        node.append(entry_id, pairs)
    if (live, deleted) != (node.count - len(dead), len(dead)):
        raise ValueError("wrong counts")
    if dead:
        node.delete(dead)
    return node, greatest_id


def _checked_count(count: int, items: list[bytes]) -> int:
    if not 0 <= count <= len(items):
        raise ValueError("count out of range")
    return count


def _read_group(cursor: Cursor, version: int, stream: StreamValue) -> Group:
    group = Group(_id_as_lengths(cursor))
    if version >= 2:
        entries_read = cursor.length()
        group.entries_read = ENTRIES_READ_UNKNOWN if entries_read == MAX_PART else entries_read
    else:
        group.entries_read = stream.entries_up_to(group.last_id)
    unowned: set[StreamId] = set()
    for _ in range(cursor.length()):
        entry_id = int.from_bytes(cursor.take(16), "big")
        if entry_id in group.pending.entries:
            raise cursor.error("Duplicated global PEL entry loading stream consumer group")
        unowned.add(entry_id)
        group.pending.add(entry_id, Pending(b"", cursor.milliseconds(), cursor.length()))
    for _ in range(cursor.length()):
        _read_consumer(cursor, version, group, unowned)
    if unowned:
        raise cursor.error("Stream CG PEL entry without consumer")
    return group


def _read_consumer(cursor: Cursor, version: int, group: Group, unowned: set[StreamId]) -> None:
    name = cursor.string()
    if name in group.consumers:
        raise cursor.error("Duplicate stream consumer detected.")
    consumer = group.add_consumer(name, cursor.milliseconds())
    if version >= 3:
        cursor.milliseconds()
    for _ in range(cursor.length()):
        entry_id = int.from_bytes(cursor.take(16), "big")
        pending = group.pending.entries.get(entry_id)
        if pending is None:
            raise cursor.error("Consumer entry not found in group global PEL")
        if entry_id not in unowned:
            raise cursor.error("Duplicated consumer PEL entry  loading a stream consumer group")
        unowned.discard(entry_id)
        pending.owner = name
        consumer.pending.add(entry_id, pending)


# Writing --------------------------------------------------------------------------------------------------------


def stream_layout(stream: StreamValue, compress_up_to: int) -> tuple[int, Iterable[bytes]]:
    """A stream as (type code, pieces), see rdb_writer."""
    return RdbType.STREAM_LISTPACKS_2, _pieces(stream, compress_up_to)


def _pieces(stream: StreamValue, compress_up_to: int) -> Iterator[bytes]:
    yield encode_length(len(stream.nodes))
    for node in stream.nodes:
        yield encode_string(_id_as_bytes(node.master_id), compress=False)
        yield from string_pieces(node_listpack(node), compress_up_to)
    yield encode_length(stream.length)
    for entry_id in (stream.last_id, stream.first_id, stream.max_deleted_id):
        yield _lengths_of(entry_id)
    yield encode_length(stream.entries_added)
    yield encode_length(len(stream.groups))
    for name, group in sorted(stream.groups.items()):
        yield encode_string(name, compress=False)
        yield from _group_pieces(group)


def _id_as_bytes(entry_id: StreamId) -> bytes:
    return entry_id.to_bytes(16, "big")


def _lengths_of(entry_id: StreamId) -> bytes:
    return encode_length(entry_id >> 64) + encode_length(entry_id & MAX_PART)


def node_listpack(node: StreamNode) -> bytes:
    """The entries of a node as they are stored."""
    return listpack.encode(_items(node))


def _items(node: StreamNode) -> Iterator[bytes]:
    """What the listpack of a node holds, see :func:`_node_of`."""
    yield b"%d" % node.live_count
    yield b"%d" % node.dead_count
    yield b"%d" % len(node.fields)
    yield from node.fields
    yield b"0"
    master_sequence = node.master_id & MAX_PART
    dead = node.dead
    for position, row in enumerate(node.rows()):
        has_own_fields = len(row) > 2 and row[2] is None
        texts = row[3:] if has_own_fields else row[2:]
        yield b"%d" % ((0 if has_own_fields else _SAME_FIELDS) | (dead is not None and dead[position]))
        yield b"%d" % as_int64(row[0])
        yield b"%d" % as_int64(row[1] - master_sequence)
        if has_own_fields:
            yield b"%d" % (len(texts) // 2)
        yield from texts
        yield b"%d" % (len(texts) + 3 + has_own_fields)


def _group_pieces(group: Group) -> Iterator[bytes]:
    yield _lengths_of(group.last_id)
    yield encode_length(group.entries_read & MAX_PART)
    yield encode_length(len(group.pending))
    for entry_id in group.pending.ascending():
        pending = group.pending.entries[entry_id]
        yield (
            _id_as_bytes(entry_id)
            + _INT64.pack(pending.delivered_ms)
            + encode_length(pending.delivery_count & MAX_PART)
        )
    yield encode_length(len(group.consumers))
    for name, consumer in sorted(group.consumers.items()):
        yield encode_string(name, compress=False)
        yield _INT64.pack(consumer.seen_ms) + encode_length(len(consumer.pending))
        yield b"".join(map(_id_as_bytes, consumer.pending.ascending()))
