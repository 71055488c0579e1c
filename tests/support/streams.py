"""Streams in a form that tests can write down and compare."""

from __future__ import annotations

from typing import Any

from cluster.keyspace.consumer_groups import ENTRIES_READ_UNKNOWN, Group, Pending
from cluster.keyspace.stream_nodes import MAX_PART, StreamId, make_id
from cluster.keyspace.streams import StreamValue

IdPair = tuple[int, int]

NODE_BYTES = 4096
NODE_ENTRIES = 100


def pair(entry_id: StreamId) -> IdPair:
    return entry_id >> 64, entry_id & MAX_PART


def stream_of(
    entries: list[tuple[IdPair, list[bytes]]], *, node_bytes: int = NODE_BYTES, node_entries: int = NODE_ENTRIES
) -> StreamValue:
    """A stream to which these entries were added."""
    stream = StreamValue()
    for entry_id, pairs in entries:
        stream.append(make_id(*entry_id), pairs, node_bytes, node_entries)
    return stream


def group_of(
    last_id: IdPair,
    pending: dict[bytes, list[tuple[IdPair, int, int]]],
    *,
    entries_read: int = ENTRIES_READ_UNKNOWN,
    seen_ms: int = 0,
) -> Group:
    """A group and its consumers; what is pending is (id, time of delivery, number of deliveries)."""
    group = Group(make_id(*last_id), entries_read)
    for name, deliveries in pending.items():
        consumer = group.add_consumer(name, seen_ms)
        for entry_id, delivered_ms, delivery_count in deliveries:
            entry = Pending(name, delivered_ms, delivery_count)
            group.pending.add(make_id(*entry_id), entry)
            consumer.pending.add(make_id(*entry_id), entry)
    return group


def described(stream: StreamValue) -> dict[str, Any]:
    """Everything about a stream, its nodes and what was deleted in them included."""
    return {
        "nodes": [
            (
                pair(node.master_id),
                node.fields,
                [
                    (
                        pair(node.id_at(place)),
                        list(node.pairs_at(place)),
                        bool(node.dead is not None and node.dead[place]),
                    )
                    for place in range(node.count)
                ],
                node.size_bytes(),
            )
            for node in stream.nodes
        ],
        "length": stream.length,
        "last_id": pair(stream.last_id),
        "first_id": pair(stream.first_id),
        "max_deleted_id": pair(stream.max_deleted_id),
        "entries_added": stream.entries_added,
        "groups": {name: _described_group(group) for name, group in stream.groups.items()},
    }


def entries_of(stream: StreamValue) -> list[tuple[IdPair, list[bytes]]]:
    """The live entries."""
    return [(pair(entry_id), list(pairs)) for entry_id, pairs in stream.entries()]


def _described_group(group: Group) -> dict[str, Any]:
    def pending(ids: list[StreamId]) -> list[Any]:
        entries = [(entry_id, group.pending.entries[entry_id]) for entry_id in ids]
        return [(pair(entry_id), entry.owner, entry.delivered_ms, entry.delivery_count) for entry_id, entry in entries]

    return {
        "last_id": pair(group.last_id),
        "entries_read": group.entries_read,
        "pending": pending(list(group.pending.ascending())),
        "consumers": {
            name: (consumer.seen_ms, pending(list(consumer.pending.ascending())))
            for name, consumer in group.consumers.items()
        },
    }
