"""Stream values: entries in the order of their ids, and the consumer groups that read them.

Role        Adding, deleting and trimming entries, finding them, and the counters that say what a stream once held.
            Entries are in nodes (stream_nodes); an id is found by bisection over the nodes, then within one of them.
Invariants  ``length`` is the number of live entries. A node that loses its last entry by deletion goes; one that is
            trimmed may stay empty, as in Redis. Ids of live entries are no greater than ``last_id`` unless XSETID
            was replicated from elsewhere. A stream may be empty: its key stays.
Source      t_stream.c, stream.h; rax.c for the number of nodes of the tree; debug.c (xorObjectDigest).
"""

from __future__ import annotations

import enum
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import ClassVar, Final

import attrs

from cluster.keyspace.consumer_groups import ENTRIES_READ_UNKNOWN, Group
from cluster.keyspace.digest import mix
from cluster.keyspace.reclaim import LARGE, LAZY_EFFORT, RECLAIMER
from cluster.keyspace.stream_nodes import MAX_ID, MAX_PART, StreamId, StreamNode, as_int64

NODE_BYTES_MAX: Final = 1 << 30
"""STREAM_LISTPACK_MAX_SIZE: of a node, whatever the settings say, and of the text of one entry."""

_STREAM_TYPE: Final = (6).to_bytes(4, "big")
_ID_BYTES: Final = 16
_master_id: Final = attrgetter("master_id")


class TrimBy(enum.Enum):
    """What a limit of the stream is about."""

    LENGTH = "MAXLEN"
    ID = "MINID"


@attrs.frozen
class Trim:
    """MAXLEN or MINID: what is to be left of a stream."""

    by: TrimBy
    threshold: int
    """How many entries, or the least id."""
    is_approximate: bool = False
    """Only whole nodes go."""
    most: int = 0
    """How many entries may go at once; 0: any number."""


class StreamValue:
    """A stream."""

    __slots__ = (
        "_tree_nodes",
        "appended",
        "entries_added",
        "first_id",
        "groups",
        "last_id",
        "length",
        "max_deleted_id",
        "nodes",
    )

    type_name: ClassVar[bytes] = b"stream"

    def __init__(self) -> None:
        self.nodes: list[StreamNode] = []
        self.length = 0
        self.last_id: StreamId = 0
        """The greatest id that was ever used."""
        self.first_id: StreamId = 0
        """Of the first entry, 0 when there is none."""
        self.max_deleted_id: StreamId = 0
        """The greatest id that XDEL took away."""
        self.entries_added = 0
        self.appended = 0
        """How often :meth:`append` was called: more than before is news, whatever XSETID does to the ids."""
        self.groups: dict[bytes, Group] = {}
        self._tree_nodes = 0
        """What :meth:`tree_nodes` answered; 0: to be counted again."""

    def __del__(self) -> None:
        if len(self.nodes) > LARGE:
            RECLAIMER.bury(self.nodes)

    def __len__(self) -> int:
        return self.length

    # Adding ---------------------------------------------------------------------------------------------------

    def append(self, entry_id: StreamId, pairs: list[bytes], node_bytes: int, node_entries: int) -> None:
        """Add an entry, whose id must be greater than ``last_id``; the limits of a node are the settings'."""
        nodes = self.nodes
        node = nodes[-1] if nodes else None
        if node is None:
            node = self.add_node(StreamNode(entry_id, pairs[::2]))
        else:
            limit = node_bytes if 0 < node_bytes < NODE_BYTES_MAX else NODE_BYTES_MAX
            if not node.has_room(sum(map(len, pairs)), limit, node_entries):
                node.close()
                fields = pairs[::2]
                node = self.add_node(StreamNode(entry_id, node.fields if fields == node.fields else fields))
        node.append(entry_id, pairs)
        self.length += 1
        self.entries_added = self.entries_added + 1 & MAX_PART
        self.appended += 1
        self.last_id = entry_id
        if self.length == 1:
            self.first_id = entry_id

    def add_node(self, node: StreamNode) -> StreamNode:
        """Put a node where its id belongs: behind all others, unless XSETID has turned ids back."""
        nodes = self.nodes
        self._tree_nodes = 0
        if not nodes or nodes[-1].master_id < node.master_id:
            nodes.append(node)
            return node
        place = bisect_right(nodes, node.master_id, key=_master_id)
        if place and nodes[place - 1].master_id == node.master_id:
            nodes[place - 1] = node
        else:
            nodes.insert(place, node)
        return node

    # Finding --------------------------------------------------------------------------------------------------

    def spans(self, start: StreamId = 0, end: StreamId = MAX_ID) -> Iterator[tuple[StreamNode, Sequence[int]]]:
        """Where the live entries with ids from ``start`` to ``end`` are: nodes, and ascending positions in each."""
        nodes = self.nodes
        first = bisect_right(nodes, start, key=_master_id) - 1 if start else 0
        for place in range(max(first, 0), len(nodes)):
            node = nodes[place]
            if node.master_id > end and node.is_sorted:
                return
            positions = node.span(start, end)
            if positions:
                yield node, positions

    def spans_backwards(
        self, start: StreamId = 0, end: StreamId = MAX_ID
    ) -> Iterator[tuple[StreamNode, Sequence[int]]]:
        """The same from the last node to the first, and with descending positions."""
        nodes = self.nodes
        last = len(nodes) - 1 if end == MAX_ID else bisect_right(nodes, end, key=_master_id) - 1
        for place in range(last, -1, -1):
            node = nodes[place]
            if node.last_id < start and node.is_sorted:
                return
            positions = node.span(start, end)
            if positions:
                yield node, positions[::-1]

    def find(self, entry_id: StreamId) -> tuple[StreamNode, int] | None:
        """The node and the position of a live entry."""
        nodes = self.nodes
        place = max(bisect_right(nodes, entry_id, key=_master_id) - 1, 0)
        if all(node.is_sorted for node in nodes[place : place + 2]):
            position = nodes[place].find(entry_id) if nodes else None
            return None if position is None else (nodes[place], position)
        for node, positions in self.spans(entry_id, entry_id):
            return node, positions[0]
        return None

    def entries(self) -> Iterator[tuple[StreamId, Sequence[bytes]]]:
        """Every live entry: its id, and fields and values in turn."""
        for node, positions in self.spans():
            for position in positions:
                yield node.id_at(position), node.pairs_at(position)

    def greatest_id(self) -> StreamId:
        """The id of the last live entry, 0 when there is none."""
        for node in reversed(self.nodes):
            if node.dead is None:
                return node.last_id
            if node.live_count:
                return node.id_at(node.dead.rindex(0))
        return 0

    def edge_id(self) -> StreamId:
        """The id of the first entry, even if it was deleted; the greatest of all ids when there is none."""
        return self.nodes[0].id_at(0) if self.nodes else MAX_ID

    def _least_id(self) -> StreamId:
        """The id of the first live entry, 0 when there is none."""
        for node in self.nodes:
            if node.live_count:
                return node.id_at(node.first_live(1)[0])
        return 0

    # Deleting -------------------------------------------------------------------------------------------------

    def delete(self, ids: Iterable[StreamId]) -> int:
        """XDEL: take entries away; returns how many there were."""
        deleted = 0
        first_went = False
        for entry_id in ids:
            found = self.find(entry_id)
            if found is None:
                continue
            node, position = found
            if node.live_count == 1:
                self._drop_node(node)
            else:
                node.delete((position,))
            self.length -= 1
            first_went = first_went or entry_id == self.first_id
            self.max_deleted_id = max(self.max_deleted_id, entry_id)
            deleted += 1
        if first_went:
            self.first_id = self._least_id()
        return deleted

    def _drop_node(self, node: StreamNode) -> None:
        del self.nodes[bisect_right(self.nodes, node.master_id, key=_master_id) - 1]
        self._tree_nodes = 0

    def trim(self, trim: Trim) -> int:
        """Take away the oldest entries, as much as ``trim`` allows; returns how many went."""
        nodes = self.nodes
        deleted = dropped = 0
        for node in nodes:
            by_length = trim.by is TrimBy.LENGTH
            if by_length and self.length <= trim.threshold:
                break
            live = node.live_count
            if trim.most and deleted + live > trim.most:
                break
            if self.length - live >= trim.threshold if by_length else node.last_id < trim.threshold:
                dropped += 1
                self.length -= live
                deleted += live
                continue
            if not trim.is_approximate:
                if by_length:
                    positions = node.first_live(self.length - trim.threshold)
                else:
                    positions = node.span(0, trim.threshold - 1)
                if positions:
                    node.delete(positions)
                    self.length -= len(positions)
                    deleted += len(positions)
            break
        if dropped:
            del nodes[:dropped]
            self._tree_nodes = 0
        if deleted:
            self.first_id = self._least_id()
        return deleted

    # Counters of reading --------------------------------------------------------------------------------------

    def deletions_end(self) -> StreamId:
        """The greatest id that was deleted from between the live entries; -1 if none was.

        Up to it, what was read can no longer be counted: streamRangeHasTombstones for a range from an id on.
        """
        if not self.length or not self.max_deleted_id or self.first_id > self.max_deleted_id:
            return -1
        return self.max_deleted_id

    def entries_up_to(self, entry_id: StreamId) -> int:
        """How many of all entries ever added come up to an id, or ENTRIES_READ_UNKNOWN."""
        if not self.entries_added:
            return 0
        if entry_id == self.last_id or (not self.length and entry_id < self.last_id):
            return as_int64(self.entries_added)
        if entry_id > self.last_id:
            return ENTRIES_READ_UNKNOWN
        if not self.max_deleted_id or self.max_deleted_id < self.first_id:
            if entry_id < self.first_id:
                return as_int64(self.entries_added - self.length)
            if entry_id == self.first_id:
                return as_int64(self.entries_added - self.length + 1)
        return ENTRIES_READ_UNKNOWN

    def lag(self, group: Group) -> int | None:
        """How many entries a group has still to read; None when that cannot be told."""
        if not self.entries_added:
            return 0
        read = group.entries_read
        if read == ENTRIES_READ_UNKNOWN or group.last_id <= self.deletions_end():
            read = self.entries_up_to(group.last_id)
        return None if read == ENTRIES_READ_UNKNOWN else as_int64(self.entries_added - read)

    # As a value -----------------------------------------------------------------------------------------------

    def free_effort(self) -> int:
        # The tree is not counted where there is enough to free anyway: that would take longer than freeing it.
        nodes = self.tree_nodes() if len(self.nodes) <= LAZY_EFFORT else len(self.nodes)
        if not self.groups:
            return nodes
        return nodes + len(self.groups) * (1 + len(self.groups[min(self.groups)].pending))

    def tree_nodes(self) -> int:
        """How many nodes Redis's radix tree has for these: one per key, per fork, and per run without a fork."""
        if not self._tree_nodes:
            self._tree_nodes = _radix_nodes([node.master_id for node in self.nodes])
        return self._tree_nodes

    def encoding(self) -> bytes:
        return b"stream"

    def copy(self) -> StreamValue:
        other = StreamValue()
        for name in ("length", "last_id", "first_id", "max_deleted_id", "entries_added"):
            setattr(other, name, getattr(self, name))
        other.nodes = [node.copy() for node in self.nodes]
        other.groups = {name: group.copy() for name, group in self.groups.items()}
        return other

    def mix_into_digest(self, digest: bytes) -> bytes:
        """Add the entries to a digest of the data set; groups do not count."""
        digest = mix(digest, _STREAM_TYPE)
        for entry_id, pairs in self.entries():
            digest = mix(digest, b"%d.%d" % (entry_id >> 64, entry_id & MAX_PART))
            for text in pairs:
                digest = mix(digest, text)
        return digest

    def memory_bytes(self, samples: int) -> int:
        """What it needs, judged by ``samples`` of the nodes (0: all)."""
        nodes = self.nodes
        looked_at = nodes[:samples] if samples else nodes
        size = sys.getsizeof(self) + sys.getsizeof(nodes) + sys.getsizeof(self.groups)
        if looked_at:
            size += sum(node.memory_bytes() for node in looked_at) * len(nodes) // len(looked_at)
            size += sys.getsizeof(nodes[0].fields) + sum(map(sys.getsizeof, nodes[0].fields))
        return size + sum(group.memory_bytes() for group in self.groups.values())


def _radix_nodes(ids: list[StreamId]) -> int:
    """The nodes of a compressed radix tree over ids as keys of 16 bytes, given in ascending order.

    Between two neighbours the tree forks after their common prefix. A fork holds the first byte of each of its
    branches; what is left of a branch before the next fork or the end of the key is one node, if it is anything.
    """
    if not ids:
        return 1
    count = len(ids)  # The keys.
    open_forks = [-1]  # Where the forks above the present key are, the root's place being -1.
    for one, other in pairwise(ids):
        fork = _ID_BYTES - ((one ^ other).bit_length() + 7) // 8
        below = _ID_BYTES
        while open_forks[-1] > fork:
            count += _branch_nodes(open_forks[-1], below)
            below = open_forks.pop()
        count += _branch_nodes(fork, below)
        if open_forks[-1] != fork:
            count += 1
            open_forks.append(fork)
    below = _ID_BYTES
    while len(open_forks) > 1:
        count += _branch_nodes(open_forks[-1], below)
        below = open_forks.pop()
    return count + _branch_nodes(-1, below)


def _branch_nodes(fork: int, below: int) -> int:
    """1 if there is anything between a fork and what comes below it in one of its branches."""
    return 1 if below - fork > 1 else 0
