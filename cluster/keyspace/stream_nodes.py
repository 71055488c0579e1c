"""What a stream is made of: ids, and nodes of some hundred entries that are packed into one bytes object each.

Role        An id is one integer of 128 bits, milliseconds above sequence, which compares and hashes as fast as any. A
            node has the id and the field names of its first entry; later entries are stored as differences to the
            id, and without names where those are the same. Where a node ends is part of what clients see (trimming
            with ``~`` drops whole nodes), so a node knows how long its listpack would be in Redis.
Format      ``body`` is one marshalled tuple (version 2) after the other, so that it grows by appending and is unpacked
            in one step: (ms difference, sequence, value, value …), or (ms difference, sequence, None, field, value,
            field …) for an entry with other fields. It never leaves the process.
Invariants  ``count`` entries are in ``body``, deleted ones included; those are marked in ``dead``. The ids of live
            entries ascend; of all entries only while ``is_sorted`` (XSETID may lower the last id below a deleted one).
Source      streamAppendItem in t_stream.c, lpEncode* in listpack.c of Redis 7.0.15.      Units  bytes of a listpack.
"""

from __future__ import annotations

import marshal
import sys
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, Final

from cluster.keyspace.strings import parse_int64

StreamId = int
Row = tuple[Any, ...]
"""An unpacked entry, see *Format*."""

MAX_PART: Final = (1 << 64) - 1
MAX_ID: Final = (1 << 128) - 1

_MARSHAL_VERSION: Final = 2  # The last one without references between equal objects: bodies are concatenations.
_LIST_MARK: Final = b"["
_LISTPACK_FRAME_BYTES: Final = 7  # Total size, count, end mark.
_COUNTERS_BYTES_MAX: Final = 24  # Live and deleted entries, each up to an integer of 64 bits.
_ROW_FRAME_BYTES_MAX: Final = 34  # Flags, both parts of the id, how many fields, how many items.
_SMALL_FRAME_BYTES_MAX: Final = 16  # The same when the parts of the id are no further from the master's than …
_SMALL_MILLISECONDS: Final = 1 << 23
_SMALL_SEQUENCE: Final = 1 << 12
_CACHE_BYTES_MAX: Final = 1 << 20


def make_id(milliseconds: int, sequence: int) -> StreamId:
    """The id of two numbers of 64 bits."""
    return milliseconds << 64 | sequence


def id_text(entry_id: StreamId) -> bytes:
    """``ms-seq``, as clients see it."""
    return b"%d-%d" % (entry_id >> 64, entry_id & MAX_PART)


# What a listpack needs for an entry -----------------------------------------------------------------------------


def _integer_bytes(number: int) -> int:
    """For an integer of 64 bits, its backward length included."""
    if 0 <= number <= 127:
        return 2
    if -4096 <= number <= 4095:
        return 3
    magnitude = (number if number >= 0 else ~number).bit_length()
    return 4 if magnitude <= 15 else 5 if magnitude <= 23 else 6 if magnitude <= 31 else 10


def _text_bytes(text: bytes) -> int:
    """For a string, which is stored as an integer if it is the text of one."""
    size = len(text)
    if size <= 20:
        number = parse_int64(text)
        return size + 2 if number is None else _integer_bytes(number)
    if size < 64:
        return size + 2
    encoded = size + (2 if size < 4096 else 5)
    return encoded + (1 if encoded < 128 else 2 if encoded < 16383 else 3 if encoded < 2097151 else 4)


def as_int64(difference: int) -> int:
    """What a signed number of 64 bits makes of a result that may be too large for it."""
    return ((difference + (1 << 63)) & MAX_PART) - (1 << 63)


class _Unpacked:
    """The rows of the nodes that were looked at last; forgotten all at once when they have become many."""

    def __init__(self) -> None:
        self.rows: dict[StreamNode, list[Row]] = {}
        self._bytes = 0

    def unpack(self, node: StreamNode) -> list[Row]:
        body = node.body
        if self._bytes + len(body) > _CACHE_BYTES_MAX:
            self.rows.clear()
            self._bytes = 0
        rows: list[Row] = marshal.loads(b"".join((_LIST_MARK, node.count.to_bytes(4, "little"), body)))
        self.rows[node] = rows
        self._bytes += len(body)
        return rows


_unpacked: Final = _Unpacked()


class StreamNode:
    """A run of entries."""

    __slots__ = (
        "_bound_bytes",
        "_fields_bytes",
        "_has_small_sequence",
        "_measured",
        "_measured_bytes",
        "body",
        "count",
        "dead",
        "dead_count",
        "fields",
        "is_sorted",
        "last_id",
        "master_id",
    )

    def __init__(self, master_id: StreamId, fields: list[bytes]) -> None:
        self.master_id = master_id
        self.fields = fields
        """The field names of the first entry; not to be changed: nodes share them."""
        self.body: bytes | bytearray = bytearray()
        self.count = 0
        self.dead: bytearray | None = None
        """1 for each entry that was deleted; None: none was."""
        self.dead_count = 0
        self.last_id = master_id
        """Of the entry that came last, deleted or not."""
        self.is_sorted = True
        self._fields_bytes = _integer_bytes(len(fields)) + sum(map(_text_bytes, fields)) + 2
        self._bound_bytes = 0
        """No less than what the entries need; they are measured only when it might matter."""
        self._has_small_sequence = master_id & MAX_PART <= _SMALL_SEQUENCE
        self._measured = 0
        """How many entries have been measured, and what they need."""
        self._measured_bytes = 0

    @property
    def live_count(self) -> int:
        """How many entries are left."""
        return self.count - self.dead_count

    # Adding ---------------------------------------------------------------------------------------------------

    def has_room(self, added_bytes: int, node_bytes: int, node_entries: int) -> bool:
        """Whether an entry of so many bytes of text still belongs here; ``node_entries`` 0: any number."""
        if node_entries and self.count >= node_entries:
            return False
        frame_bytes = _LISTPACK_FRAME_BYTES + _COUNTERS_BYTES_MAX + self._fields_bytes
        return self._bound_bytes + frame_bytes + added_bytes < node_bytes or (
            self.size_bytes() + added_bytes < node_bytes
        )

    def append(self, entry_id: StreamId, pairs: list[bytes]) -> None:
        """Add an entry: field, value, field, value …"""
        row: Row
        milliseconds = (entry_id >> 64) - (self.master_id >> 64)
        sequence = entry_id & MAX_PART
        if pairs[::2] == self.fields:
            texts = pairs[1::2]
            row = (milliseconds, sequence, *texts)
        else:
            texts = pairs
            row = (milliseconds, sequence, None, *texts)
        size = sum(map(len, texts))
        is_small = 0 <= milliseconds < _SMALL_MILLISECONDS and sequence < _SMALL_SEQUENCE and len(texts) < 4000
        frame_bytes = _SMALL_FRAME_BYTES_MAX if is_small and self._has_small_sequence else _ROW_FRAME_BYTES_MAX
        self._bound_bytes += size + size // 32 + 2 * len(texts) + frame_bytes
        if type(self.body) is bytes:
            self.body = bytearray(self.body)
        self.body += marshal.dumps(row, _MARSHAL_VERSION)
        if entry_id <= self.last_id and self.count:
            self.is_sorted = False
        self.last_id = entry_id
        self.count += 1
        if self.dead is not None:
            self.dead.append(0)
        rows = _unpacked.rows.get(self)
        if rows is not None:
            rows.append(row)

    def close(self) -> None:
        """No more is to come: give back the room for more."""
        self.body = bytes(self.body)

    # Reading --------------------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """Every entry, deleted ones included; not to be changed."""
        return _unpacked.rows.get(self) or _unpacked.unpack(self)

    def id_at(self, position: int) -> StreamId:
        """The id of an entry."""
        return self._id_of(self.rows()[position])

    def ids_at(self, positions: Iterable[int]) -> list[StreamId]:
        """The ids of several entries."""
        rows, base = self.rows(), self.master_id >> 64
        return [base + row[0] << 64 | row[1] for row in map(rows.__getitem__, positions)]

    def pairs_at(self, position: int) -> Sequence[bytes]:
        """Fields and values of an entry, in turn."""
        return self.pairs_of(self.rows()[position])

    def pairs_of(self, row: Row) -> Sequence[bytes]:
        """The same of a row of this node."""
        if len(row) > 2 and row[2] is None:
            return row[3:]
        pairs = [b""] * (2 * len(self.fields))
        pairs[::2] = self.fields
        pairs[1::2] = row[2:]
        return pairs

    def span(self, start: StreamId, end: StreamId) -> Sequence[int]:
        """The positions of the live entries with ids from ``start`` to ``end``, both included."""
        positions: Sequence[int]
        if not self.is_sorted:
            positions = [place for place, row in enumerate(self.rows()) if start <= self._id_of(row) <= end]
        elif start > self.last_id or end < self.master_id:
            return ()
        else:
            low, high = 0, self.count
            if start > self.master_id:
                low = bisect_left(self.rows(), self._sort_key(start))
            if end < self.last_id:
                high = bisect_left(self.rows(), self._sort_key(end + 1))
            positions = range(low, high)
        dead = self.dead
        return positions if dead is None else [place for place in positions if not dead[place]]

    def find(self, entry_id: StreamId) -> int | None:
        """The position of a live entry of a sorted node."""
        if not self.master_id <= entry_id <= self.last_id:
            return None
        rows = self.rows()
        key = self._sort_key(entry_id)
        position = bisect_left(rows, key)
        if rows[position][:2] != key or (self.dead is not None and self.dead[position]):
            return None
        return position

    def first_live(self, most: int) -> Sequence[int]:
        """The positions of the first live entries, up to ``most``."""
        dead = self.dead
        if dead is None:
            return range(min(most, self.count))
        positions: list[int] = []
        position = dead.find(0)
        while position >= 0 and len(positions) < most:
            positions.append(position)
            position = dead.find(0, position + 1)
        return positions

    def _id_of(self, row: Row) -> StreamId:
        entry_id: int = ((self.master_id >> 64) + row[0]) << 64 | row[1]
        return entry_id

    def _sort_key(self, entry_id: StreamId) -> Row:
        """Stands right before the row of that id."""
        return ((entry_id >> 64) - (self.master_id >> 64), entry_id & MAX_PART)

    # Deleting -------------------------------------------------------------------------------------------------

    def delete(self, positions: Iterable[int]) -> None:
        """Mark live entries as deleted."""
        if self.dead is None:
            self.dead = bytearray(self.count)
        for position in positions:
            self.dead[position] = 1
            self.dead_count += 1

    # As a listpack --------------------------------------------------------------------------------------------

    def size_bytes(self) -> int:
        """How long the node's listpack is in Redis."""
        if self._measured < self.count:
            rows = self.rows()[self._measured :] if self._measured else self.rows()
            self._measured_bytes += sum(map(self._row_bytes, rows))
            self._measured = self.count
            self._bound_bytes = self._measured_bytes
        counters_bytes = _integer_bytes(self.live_count) + _integer_bytes(self.dead_count)
        return _LISTPACK_FRAME_BYTES + counters_bytes + self._fields_bytes + self._measured_bytes

    def _row_bytes(self, row: Row) -> int:
        has_own_fields = len(row) > 2 and row[2] is None
        texts = row[3:] if has_own_fields else row[2:]
        items = len(texts) + 3
        size = 2 + _integer_bytes(as_int64(row[0])) + sum(map(_text_bytes, texts))
        if has_own_fields:
            size += _integer_bytes(len(texts) // 2)
            items += 1
        return size + _integer_bytes(as_int64(row[1] - (self.master_id & MAX_PART))) + _integer_bytes(items)

    # As part of a value ---------------------------------------------------------------------------------------

    def copy(self) -> StreamNode:
        """A node of its own with the same entries."""
        other = StreamNode.__new__(StreamNode)
        for name in StreamNode.__slots__:
            setattr(other, name, getattr(self, name))
        other.body = bytes(self.body)
        other.dead = None if self.dead is None else self.dead.copy()
        return other

    def memory_bytes(self) -> int:
        """What it needs, without its id and the names that it may share."""
        return sys.getsizeof(self) + sys.getsizeof(self.body) + (0 if self.dead is None else sys.getsizeof(self.dead))
