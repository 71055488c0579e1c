"""The replication backlog: the newest part of the replication stream, kept for whoever lost its place in it.

Role        One shared copy of the stream's tail. Partial resynchronisations are served from it, and a replica that
            reads slower than we write holds a *cursor* into it instead of a private output buffer.
Invariants  ``first_byte_offset + histlen - 1`` is the offset of the last byte appended; the first byte of a stream has
            offset 1. Chunks are immutable, so handing one to ten replicas copies nothing. Bytes at or behind the
            slowest cursor are never dropped, even when that makes the backlog larger than its configured size.
Source      Redis 7.0 replication.c, "replication buffer" functions.             Units  offsets and sizes in bytes.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right

import attrs

MIN_SIZE_BYTES = 16 * 1024
"""repl-backlog-size below this is raised to it."""

CHUNK_BYTES = 16 * 1024
"""Small appends are merged until a chunk has about this size, so that 30-byte commands do not cost 100 bytes each."""

_BYTES_HEADER = 33
_SMALL_BLOCK_BYTES = 512
_INTEGER_BYTES = 32
_MERGE_AFTER_APPENDS = 64
_COMPACT_AFTER_DROPS = 64


def object_bytes(length: int) -> int:
    """What a bytes object of that length takes of the allocators: multiples of 16, and glibc adds 8 to larger ones."""
    size = _BYTES_HEADER + length
    return (size + 15 if size <= _SMALL_BLOCK_BYTES else size + 23) & ~15


@attrs.define
class Backlog:
    """A run of stream bytes that grows at one end and is trimmed, by whole chunks, at the other."""

    size_bytes: int
    first_byte_offset: int
    """Offset of the first byte held, or, while empty, of the next byte that will be appended."""
    histlen: int = 0
    _chunks: list[bytes] = attrs.field(factory=list, init=False)
    _starts: list[int] = attrs.field(factory=list, init=False)
    # Both lists are trimmed lazily: entries before _head are dropped chunks.
    _head: int = attrs.field(default=0, init=False)
    # Entries from _merged on are recent small appends, waiting to be joined into one chunk.
    _merged: int = attrs.field(default=0, init=False)
    _small_bytes: int = attrs.field(default=0, init=False)
    # What the objects in _chunks take, but for the empty one that stands for what was dropped.
    _held_bytes: int = attrs.field(default=0, init=False)

    @classmethod
    def starting_after(cls, stream_offset: int, size_bytes: int) -> Backlog:
        """An empty backlog whose first byte will be the next one of a stream that stands at ``stream_offset``."""
        return cls(size_bytes=max(size_bytes, MIN_SIZE_BYTES), first_byte_offset=stream_offset + 1)

    @property
    def next_offset(self) -> int:
        """The offset that the next appended byte gets."""
        return self.first_byte_offset + self.histlen

    @property
    def memory_bytes(self) -> int:
        """What all of this takes in memory: the chunks, the integers before them, and the lists of both."""
        lists = sys.getsizeof(self._chunks) + sys.getsizeof(self._starts)
        return self._held_bytes + _INTEGER_BYTES * len(self._starts) + lists

    def shares(self, data: bytes, end: int) -> bool:
        """Whether these bytes of the stream, which end before offset ``end``, are an object that is held here."""
        index = bisect_left(self._starts, end - len(data), self._head)
        return index < len(self._chunks) and self._chunks[index] is data

    def resize(self, size_bytes: int, keep_from: int | None = None) -> None:
        """Take a new ``repl-backlog-size``; what no longer fits goes at once, oldest first."""
        self.size_bytes = max(size_bytes, MIN_SIZE_BYTES)
        self.trim(keep_from)

    def append(self, data: bytes) -> None:
        """Add the next bytes of the stream. Does not trim: the caller knows the cursors and calls :meth:`trim`."""
        chunk_limit = max(CHUNK_BYTES, self.size_bytes // 16)
        if len(data) > chunk_limit:
            # A huge value in one chunk would keep the backlog huge until the whole of it may go.
            for start in range(0, len(data), chunk_limit):
                self._append_chunk(data[start : start + chunk_limit])
        elif data:
            self._append_chunk(data)

    def _append_chunk(self, data: bytes) -> None:
        if self._small_bytes and self._small_bytes + len(data) > CHUNK_BYTES:
            # Joined they would be too large a chunk, and only whole chunks can go.
            self._merge_small()
            self._small_bytes = 0
            self._merged = len(self._chunks)
        self._starts.append(self.first_byte_offset + self.histlen)
        self._chunks.append(data)
        self._held_bytes += object_bytes(len(data))
        self.histlen += len(data)
        self._small_bytes += len(data)
        if self._small_bytes >= CHUNK_BYTES or len(self._chunks) - self._merged >= _MERGE_AFTER_APPENDS:
            self._merge_small()

    def _merge_small(self) -> None:
        first = max(self._merged, self._head)
        if len(self._chunks) - first > 1:
            small = self._chunks[first:]
            whole = b"".join(small)
            self._held_bytes += object_bytes(len(whole)) - sum(map(object_bytes, map(len, small)))
            self._chunks[first:] = [whole]
            del self._starts[first + 1 :]
        self._small_bytes = 0 if not self._chunks else len(self._chunks[-1])
        if self._small_bytes >= CHUNK_BYTES:
            self._small_bytes = 0
            self._merged = len(self._chunks)
        else:
            # The next merge starts with this chunk again, until it is full.
            self._merged = len(self._chunks) - 1

    def trim(self, keep_from: int | None = None) -> None:
        """Drop the oldest chunks that are beyond ``size_bytes`` and that nobody at ``keep_from`` or later needs.

        ``keep_from`` is the smallest cursor of all replicas (the next byte one of them has to be sent), or None.
        """
        last = len(self._chunks) - 1
        head = self._head
        while head < last:
            length = len(self._chunks[head])
            if self.histlen - length < self.size_bytes:
                break
            if keep_from is not None and keep_from < self.first_byte_offset + length:
                break
            self._chunks[head] = b""
            self._held_bytes -= object_bytes(length)
            head += 1
            self.histlen -= length
            self.first_byte_offset += length
        self._head = head
        if head >= _COMPACT_AFTER_DROPS and head * 8 >= len(self._chunks):
            del self._chunks[:head], self._starts[:head]
            self._merged = max(self._merged - head, 0)
            self._head = 0

    def can_continue_from(self, offset: int) -> bool:
        """Whether a reader whose next byte is ``offset`` can go on from here (it may have everything already)."""
        return self.first_byte_offset <= offset <= self.next_offset

    def read(self, offset: int, limit_bytes: int) -> bytes:
        """Up to about ``limit_bytes`` bytes of the stream from ``offset`` on; empty when the reader is up to date.

        A chunk is not cut for the limit, so that chunks can be shared: the answer may be one chunk longer.
        """
        if not self.first_byte_offset <= offset < self.next_offset:
            return b""
        index = bisect_right(self._starts, offset, self._head) - 1
        within = offset - self._starts[index]
        first = self._chunks[index]
        if within:
            first = first[within:]
        if len(first) >= limit_bytes or index == len(self._chunks) - 1:
            return first
        parts = [first]
        taken = len(first)
        while taken < limit_bytes and index + 1 < len(self._chunks):
            index += 1
            parts.append(self._chunks[index])
            taken += len(self._chunks[index])
        return b"".join(parts)
