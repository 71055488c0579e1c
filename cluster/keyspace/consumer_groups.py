"""Consumer groups of a stream: how far a group has read, and what was delivered and not acknowledged yet.

Role        A :class:`Group` owns one :class:`Pending` for each such entry, found by its id; the consumer to whom it was
            delivered last has it, too. Both keep theirs in a :class:`PendingList`.
Invariants  Each pending entry of a group is in the list of exactly one consumer of that group, as the same object, and
            nothing else is in a consumer's list. It knows the name of that consumer, not the consumer: a group is no
            cycle, and goes when the last reference to it does.
Source      stream.h and t_stream.c of Redis 7.0.15.      Units  ``*_ms``: Unix milliseconds.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

import attrs

from cluster.keyspace.reclaim import LARGE, RECLAIMER
from cluster.keyspace.stream_nodes import StreamId

ENTRIES_READ_UNKNOWN: Final = -1
"""SCG_INVALID_ENTRIES_READ."""

_STALE_ALWAYS_ALLOWED: Final = 64


class Pending:
    """A delivery that was not acknowledged."""

    __slots__ = ("delivered_ms", "delivery_count", "owner")

    def __init__(self, owner: bytes, delivered_ms: int, delivery_count: int = 1) -> None:
        self.owner = owner
        """The consumer's name."""
        self.delivered_ms = delivered_ms
        self.delivery_count = delivery_count


class PendingList:
    """Pending entries by id, and in the order of their ids.

    ``_order`` may hold ids that are gone: they are skipped, and swept out when they are as many as the others. What is
    taken from its beginning, as most acknowledgements are, is not even looked at again.
    """

    __slots__ = ("_first", "_order", "entries")

    def __init__(self) -> None:
        self.entries: dict[StreamId, Pending] = {}
        self._order: list[StreamId] = []
        self._first = 0
        """Everything before this place in ``_order`` is gone."""

    def __del__(self) -> None:
        if len(self.entries) > LARGE:
            RECLAIMER.bury(self.entries)
            RECLAIMER.bury(self._order)

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, entry_id: StreamId, pending: Pending) -> None:
        """Add an entry that is not there."""
        self.entries[entry_id] = pending
        order = self._order
        if not order or entry_id > order[-1]:
            order.append(entry_id)
            return
        place = bisect_left(order, entry_id)
        if order[place] != entry_id:
            order.insert(place, entry_id)
        self._first = min(self._first, place)

    def remove(self, entry_id: StreamId) -> Pending | None:
        """Take an entry away; None if it was not there."""
        pending = self.entries.pop(entry_id, None)
        if pending is not None and len(self._order) > 2 * len(self.entries) + _STALE_ALWAYS_ALLOWED:
            self._order = [each for each in self._order if each in self.entries]
            self._first = 0
        return pending

    def first(self) -> StreamId:
        """The least id. There must be one."""
        return next(self.ascending())

    def last(self) -> StreamId:
        """The greatest id. There must be one."""
        order = self._order
        while order[-1] not in self.entries:
            order.pop()
        return order[-1]

    def ascending(self, start: StreamId = 0) -> Iterator[StreamId]:
        """The ids from ``start`` on. Meanwhile entries may be removed, but not added."""
        order, entries = self._order, self.entries
        first = self._first
        while first < len(order) and order[first] not in entries:
            first += 1
        self._first = first
        for place in range(max(first, bisect_left(order, start, first)), len(order)):
            entry_id = order[place]
            if entry_id in entries:
                yield entry_id

    def memory_bytes(self) -> int:
        """What the list needs, without the entries themselves."""
        return sum(map(sys.getsizeof, (self, self.entries, self._order)))


@attrs.define(eq=False)
class Consumer:
    """One reader in a group."""

    name: bytes
    seen_ms: int
    pending: PendingList = attrs.field(factory=PendingList)


@attrs.define(eq=False)
class Group:
    """One group of consumers that share the entries of a stream."""

    last_id: StreamId
    """Greatest id that was delivered: ``>`` stands for what comes after it."""
    entries_read: int = ENTRIES_READ_UNKNOWN
    """How many entries of all that were ever added come up to ``last_id``."""
    pending: PendingList = attrs.field(factory=PendingList)
    consumers: dict[bytes, Consumer] = attrs.field(factory=dict)

    def add_consumer(self, name: bytes, now_ms: int) -> Consumer:
        """A new consumer."""
        consumer = self.consumers[name] = Consumer(name, now_ms)
        return consumer

    def remove_consumer(self, consumer: Consumer) -> int:
        """Take a consumer away with everything that it has not acknowledged; returns how much that was."""
        for entry_id in consumer.pending.entries:
            self.pending.remove(entry_id)
        del self.consumers[consumer.name]
        return len(consumer.pending)

    def deliver(self, entry_id: StreamId, consumer: Consumer, now_ms: int) -> Pending:
        """An entry goes to a consumer, as if for the first time even if another (or the same) had it already."""
        pending = self.pending.entries.get(entry_id)
        if pending is None:
            pending = Pending(consumer.name, now_ms)
            self.pending.add(entry_id, pending)
            consumer.pending.add(entry_id, pending)
        else:
            pending.delivered_ms = now_ms
            pending.delivery_count = 1
            self.hand_over(entry_id, pending, consumer)
        return pending

    def hand_over(self, entry_id: StreamId, pending: Pending, consumer: Consumer) -> None:
        """A pending entry becomes another consumer's."""
        if pending.owner != consumer.name:
            self.consumers[pending.owner].pending.remove(entry_id)
            pending.owner = consumer.name
            consumer.pending.add(entry_id, pending)

    def forget(self, entry_id: StreamId) -> bool:
        """An entry is no longer pending: acknowledged, or gone from the stream. False when it was not."""
        pending = self.pending.remove(entry_id)
        if pending is None:
            return False
        self.consumers[pending.owner].pending.remove(entry_id)
        return True

    def copy(self) -> Group:
        """A group of its own with the same contents."""
        other = Group(self.last_id, self.entries_read)
        for name, consumer in self.consumers.items():
            other.add_consumer(name, consumer.seen_ms)
        for entry_id in self.pending.ascending():
            pending = self.pending.entries[entry_id]
            consumer = other.consumers[pending.owner]
            copied = Pending(consumer.name, pending.delivered_ms, pending.delivery_count)
            other.pending.add(entry_id, copied)
            consumer.pending.add(entry_id, copied)
        return other

    def memory_bytes(self) -> int:
        """What it needs; of the times of delivery, which may be shared, nothing is counted."""
        lists = [self.pending, *(consumer.pending for consumer in self.consumers.values())]
        names = sum(sys.getsizeof(name) + sys.getsizeof(consumer) for name, consumer in self.consumers.items())
        entries = self.pending.entries
        pending = 0
        if entries:
            entry_id, entry = next(iter(entries.items()))
            pending = len(entries) * (sys.getsizeof(entry_id) + sys.getsizeof(entry))
        return sys.getsizeof(self) + names + pending + sum(each.memory_bytes() for each in lists)
