"""XINFO: what is to be known of a stream, its groups and their consumers. Redis 7.0: xinfoCommand in t_stream.c."""

from __future__ import annotations

from itertools import islice
from typing import Final

from cluster import errors
from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.commands.stream_arguments import checked_stream, encode_range, id_reply
from cluster.commands.stream_groups import no_such_group, syntax_error
from cluster.errors import CommandError
from cluster.keyspace.consumer_groups import ENTRIES_READ_UNKNOWN, Consumer, Group, PendingList
from cluster.keyspace.stream_nodes import MAX_ID, as_int64
from cluster.keyspace.streams import StreamValue
from cluster.resp.encode import array, bulk, integer
from cluster.slots.hashing import key_slot

_FULL_COUNT: Final = 10
"""How many entries FULL shows of everything if not told otherwise."""


def _read_stream(client: Session, key: bytes) -> StreamValue:
    stream = checked_stream(client.db.read(key, key_slot(key)))
    if stream is None:
        raise CommandError(errors.NO_SUCH_KEY)
    return stream


def _map(client: Session, fields: dict[bytes, bytes]) -> bytes:
    """A map of names to encoded values."""
    return client.proto.map([part for name, value in fields.items() for part in (bulk(name), value)])


@command("xinfo|stream")
def xinfo_stream(client: Session, argv: list[bytes]) -> bytes:
    """XINFO STREAM key [FULL [COUNT count]]"""
    stream = _read_stream(client, argv[2])
    fields = {
        b"length": integer(stream.length),
        b"radix-tree-keys": integer(len(stream.nodes)),
        b"radix-tree-nodes": integer(stream.tree_nodes()),
        b"last-generated-id": id_reply(stream.last_id),
        b"max-deleted-entry-id": id_reply(stream.max_deleted_id),
        b"entries-added": integer(as_int64(stream.entries_added)),
        b"recorded-first-entry-id": id_reply(stream.first_id),
    }
    if len(argv) == 3:
        first = encode_range(stream, 0, MAX_ID, 1)
        last = encode_range(stream, 0, MAX_ID, 1, backwards=True)
        fields |= {
            b"groups": integer(len(stream.groups)),
            b"first-entry": first[0] if first else client.proto.null,
            b"last-entry": last[0] if last else client.proto.null,
        }
        return _map(client, fields)
    count = _parse_full(argv)
    fields[b"entries"] = array(encode_range(stream, 0, MAX_ID, count))
    groups = sorted(stream.groups.items())
    fields[b"groups"] = array([_full_group(client, stream, name, group, count) for name, group in groups])
    return _map(client, fields)


def _parse_full(argv: list[bytes]) -> int:
    """The COUNT of FULL, 0 for all. Raises CommandError."""
    options = argv[3:]
    if len(options) not in (1, 3) or options[0].upper() != b"FULL":
        raise syntax_error(argv)
    if len(options) == 1:
        return _FULL_COUNT
    if options[1].upper() != b"COUNT":
        raise syntax_error(argv)
    count = parse_integer(options[2])
    return count if count >= 0 else _FULL_COUNT


def _full_group(client: Session, stream: StreamValue, name: bytes, group: Group, count: int) -> bytes:
    pending = []
    for entry_id in _first_ids(group.pending, count):
        entry = group.pending.entries[entry_id]
        owner = bulk(entry.owner)
        pending.append(
            array([id_reply(entry_id), owner, integer(entry.delivered_ms), integer(as_int64(entry.delivery_count))])
        )
    consumers = [_full_consumer(client, consumer, count) for _name, consumer in sorted(group.consumers.items())]
    return _map(
        client,
        {
            b"name": bulk(name),
            b"last-delivered-id": id_reply(group.last_id),
            b"entries-read": _entries_read(client, group),
            b"lag": _lag(client, stream, group),
            b"pel-count": integer(len(group.pending)),
            b"pending": array(pending),
            b"consumers": array(consumers),
        },
    )


def _full_consumer(client: Session, consumer: Consumer, count: int) -> bytes:
    pending = []
    for entry_id in _first_ids(consumer.pending, count):
        entry = consumer.pending.entries[entry_id]
        pending.append(
            array([id_reply(entry_id), integer(entry.delivered_ms), integer(as_int64(entry.delivery_count))])
        )
    return _map(
        client,
        {
            b"name": bulk(consumer.name),
            b"seen-time": integer(consumer.seen_ms),
            b"pel-count": integer(len(consumer.pending)),
            b"pending": array(pending),
        },
    )


def _first_ids(pending: PendingList, count: int) -> islice[int]:
    return islice(pending.ascending(), count or None)


def _entries_read(client: Session, group: Group) -> bytes:
    return client.proto.null if group.entries_read == ENTRIES_READ_UNKNOWN else integer(group.entries_read)


def _lag(client: Session, stream: StreamValue, group: Group) -> bytes:
    lag = stream.lag(group)
    return client.proto.null if lag is None else integer(lag)


@command("xinfo|groups")
def xinfo_groups(client: Session, argv: list[bytes]) -> bytes:
    """XINFO GROUPS key"""
    stream = _read_stream(client, argv[2])
    groups = [
        _map(
            client,
            {
                b"name": bulk(name),
                b"consumers": integer(len(group.consumers)),
                b"pending": integer(len(group.pending)),
                b"last-delivered-id": id_reply(group.last_id),
                b"entries-read": _entries_read(client, group),
                b"lag": _lag(client, stream, group),
            },
        )
        for name, group in sorted(stream.groups.items())
    ]
    return array(groups)


@command("xinfo|consumers")
def xinfo_consumers(client: Session, argv: list[bytes]) -> bytes:
    """XINFO CONSUMERS key group"""
    group = _read_stream(client, argv[2]).groups.get(argv[3])
    if group is None:
        raise no_such_group(argv[2], argv[3])
    now_ms = client.db.keyspace.now_ms
    consumers = [
        _map(
            client,
            {
                b"name": bulk(name),
                b"pending": integer(len(consumer.pending)),
                b"idle": integer(max(as_int64(now_ms - consumer.seen_ms), 0)),
            },
        )
        for name, consumer in sorted(group.consumers.items())
    ]
    return array(consumers)


@command("xinfo|help")
def xinfo_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"XINFO",
        [
            b"CONSUMERS <key> <groupname>",
            b"    Show consumers of <groupname>.",
            b"GROUPS <key>",
            b"    Show the stream consumer groups.",
            b"STREAM <key> [FULL [COUNT <count>]",
            b"    Show information about the stream.",
        ],
    )
