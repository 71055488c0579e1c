"""XREAD and XREADGROUP, also as commands that wait. Redis 7.0: xreadCommand in t_stream.c, blocked.c.

What a group reads is replicated as what it changed: one XCLAIM per entry, or XGROUP SETID when nothing is to be
acknowledged. Clients that wait are served when entries were added or another stream took the key's place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from cluster import clock, errors
from cluster.commands.arguments import parse_integer
from cluster.commands.blocking import KeyWaiter, may_block
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.commands.stream_arguments import (
    checked_stream,
    encode_entries,
    encode_entry,
    encode_range,
    id_reply,
    parse_id,
)
from cluster.errors import CommandError
from cluster.keyspace.consumer_groups import ENTRIES_READ_UNKNOWN, Consumer, Group, Pending
from cluster.keyspace.database import Database
from cluster.keyspace.stream_nodes import MAX_ID, StreamId, as_int64, id_text
from cluster.keyspace.streams import StreamValue
from cluster.resp.encode import array, bulk
from cluster.slots.hashing import key_slot

_BLOCKED_COUNT: Final = 1000
"""How many entries a client that waited gets if it did not say (XREAD_BLOCKED_DEFAULT_COUNT)."""
_NEW: Final = MAX_ID
"""The id that stands for ``>``."""

Tell = Callable[[list[bytes]], object]
"""Called with what replicas must run."""


@attrs.define
class ReadRequest:
    """The arguments of XREAD and XREADGROUP."""

    keys: list[bytes] = attrs.field(factory=list)
    id_texts: list[bytes] = attrs.field(factory=list)
    count: int = 0
    """0: all."""
    timeout_ms: int | None = None
    """0: for ever; None: does not wait."""
    group: bytes = b""
    consumer: bytes = b""
    has_group: bool = False
    no_ack: bool = False


def _parse(client: Session, argv: list[bytes], *, is_group_read: bool) -> ReadRequest:
    request = ReadRequest()
    last = len(argv) - 1
    place = 1
    while place <= last:
        word = argv[place].upper()
        if word == b"BLOCK" and place < last:
            if client.is_script:
                raise CommandError(b"ERR %b command is not allowed with BLOCK option from scripts" % argv[0])
            place += 1
            request.timeout_ms = _parse_timeout(argv[place])
        elif word == b"COUNT" and place < last:
            place += 1
            request.count = max(parse_integer(argv[place]), 0)
        elif word == b"STREAMS" and place < last:
            rest = argv[place + 1 :]
            if len(rest) % 2:
                raise CommandError(
                    b"ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified."
                )
            request.keys, request.id_texts = rest[: len(rest) // 2], rest[len(rest) // 2 :]
            break
        elif word == b"GROUP" and place + 1 < last:
            _check_group_read(word, is_group_read=is_group_read)
            request.has_group = True
            request.group, request.consumer = argv[place + 1 : place + 3]
            place += 2
        elif word == b"NOACK":
            _check_group_read(word, is_group_read=is_group_read)
            request.no_ack = True
        else:
            raise CommandError(errors.SYNTAX)
        place += 1
    if not request.keys:
        raise CommandError(errors.SYNTAX)
    if is_group_read and not request.has_group:
        raise CommandError(b"ERR Missing GROUP option for XREADGROUP")
    return request


def _check_group_read(word: bytes, *, is_group_read: bool) -> None:
    if not is_group_read:
        raise CommandError(b"ERR The %b option is only supported by XREADGROUP. You called XREAD instead." % word)


def _parse_timeout(text: bytes) -> int:
    timeout_ms = parse_integer(text, b"ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        raise CommandError(b"ERR timeout is negative")
    return timeout_ms


# Without waiting ------------------------------------------------------------------------------------------------


@command("xread")
def xread(client: Session, argv: list[bytes]) -> bytes | None:
    """XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]"""
    request = _parse(client, argv, is_group_read=False)
    db = client.db
    after = [_last_known_id(db, key, text) for key, text in zip(request.keys, request.id_texts, strict=True)]
    found: list[bytes] = []
    for key, last_id in zip(request.keys, after, strict=True):
        stream = db.read(key, key_slot(key))
        if stream is not None and stream.length and stream.greatest_id() > last_id:
            found += (bulk(key), array(encode_range(stream, last_id + 1, MAX_ID, request.count)))
    return _reply(client, found) if found else _wait(client, request, after)


def _last_known_id(db: Database, key: bytes, text: bytes) -> StreamId:
    """After which id a client wants to read. Raises CommandError."""
    stream = checked_stream(db.read(key, key_slot(key)))
    if text == b"$":
        return 0 if stream is None else stream.last_id
    if text == b">":
        raise CommandError(
            b"ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."
        )
    return parse_id(text)


@command("xreadgroup")
def xreadgroup(client: Session, argv: list[bytes]) -> bytes | None:
    """XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]"""
    request = _parse(client, argv, is_group_read=True)
    db = client.db
    after = [_group_read_id(db, request, key, text) for key, text in zip(request.keys, request.id_texts, strict=True)]
    effects: list[list[bytes]] = []
    client.effects = effects
    tell: Tell = effects.append if db.keyspace.followed else _tell_nobody
    found: list[bytes] = []
    for key, last_id in zip(request.keys, after, strict=True):
        stream: StreamValue | None = db.read(key, key_slot(key))
        if stream is None:
            continue
        group = stream.groups[request.group]
        if last_id == _NEW and not (stream.length and stream.greatest_id() > group.last_id):
            continue
        consumer = _consumer(db, key, request, group, tell)
        if last_id == _NEW:
            entries = _deliver(db, key, request, stream, group, consumer, request.count, tell)
        else:
            entries = _history(client, stream, consumer, last_id + 1, request.count)
        found += (bulk(key), array(entries))
        db.keyspace.dirty += 1
    return _reply(client, found) if found else _wait(client, request, after)


def _group_read_id(db: Database, request: ReadRequest, key: bytes, text: bytes) -> StreamId:
    stream = checked_stream(db.read(key, key_slot(key)))
    if stream is None or request.group not in stream.groups:
        raise CommandError(
            b"NOGROUP No such key '%b' or consumer group '%b' in XREADGROUP with GROUP option"
            % (errors.quoted(key), errors.quoted(request.group))
        )
    if text == b"$":
        raise CommandError(
            b"ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer "
            b"by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty "
            b"result set."
        )
    return _NEW if text == b">" else parse_id(text)


def _reply(client: Session, found: list[bytes]) -> bytes:
    """Streams and their entries: a map, or pairs in RESP2."""
    if client.proto.version > 2:
        return client.proto.map(found)
    pairs = [b"*2\r\n" + key + entries for key, entries in zip(found[::2], found[1::2], strict=True)]
    return array(pairs)


# Reading as a member of a group ---------------------------------------------------------------------------------


def _tell_nobody(_effect: list[bytes]) -> None:
    """Nobody follows."""


def _consumer(db: Database, key: bytes, request: ReadRequest, group: Group, tell: Tell) -> Consumer:
    """The consumer who reads, made if need be."""
    now_ms = db.keyspace.now_ms
    consumer = group.consumers.get(request.consumer)
    if consumer is not None:
        consumer.seen_ms = now_ms
        return consumer
    consumer = create_consumer(db, key, group, request.consumer)
    if request.no_ack:  # Else the claims that follow create it.
        tell([b"XGROUP", b"CREATECONSUMER", key, request.group, request.consumer])
    return consumer


def create_consumer(db: Database, key: bytes, group: Group, name: bytes) -> Consumer:
    """Add a consumer, which counts as a change."""
    consumer = group.add_consumer(name, db.keyspace.now_ms)
    db.keyspace.dirty += 1
    db.notify("t", b"xgroup-createconsumer", key)
    return consumer


def _deliver(
    db: Database,
    key: bytes,
    request: ReadRequest,
    stream: StreamValue,
    group: Group,
    consumer: Consumer,
    most: int,
    tell: Tell,
) -> list[bytes]:
    """The entries that no consumer of the group has read yet, encoded; they become this consumer's."""
    now_ms = db.keyspace.now_ms
    is_told = tell is not _tell_nobody
    deletions_end = stream.deletions_end()
    encoded: list[bytes] = []
    for node, span in stream.spans(group.last_id + 1):
        positions = span[: most - len(encoded)] if most else span
        for entry_id in node.ids_at(positions):
            if group.entries_read != ENTRIES_READ_UNKNOWN and entry_id > deletions_end:
                group.entries_read += 1
            elif stream.entries_added:
                group.entries_read = stream.entries_up_to(entry_id)
            group.last_id = entry_id
            if not request.no_ack:
                pending = group.deliver(entry_id, consumer, now_ms)
                if is_told:
                    tell(claim_effect(key, request.group, group, id_text(entry_id), pending))
        encoded += encode_entries(node, positions)
        if len(encoded) == most:
            break
    group.entries_read = as_int64(group.entries_read)
    if request.no_ack and encoded:
        tell(position_effect(key, request.group, group))
    return encoded


def claim_effect(key: bytes, group_name: bytes, group: Group, id_argument: bytes, pending: Pending) -> list[bytes]:
    """The XCLAIM that makes an entry pending elsewhere as it is here, and moves the group on to where it is here."""
    return [
        b"XCLAIM", key, group_name, pending.owner, b"0", id_argument, b"TIME", b"%d" % pending.delivered_ms,
        b"RETRYCOUNT", b"%d" % as_int64(pending.delivery_count), b"FORCE", b"JUSTID", b"LASTID", id_text(group.last_id),
    ]  # fmt: skip


def position_effect(key: bytes, group_name: bytes, group: Group) -> list[bytes]:
    """The XGROUP SETID that moves the group on to where it is here."""
    read = b"%d" % group.entries_read
    return [b"XGROUP", b"SETID", key, group_name, id_text(group.last_id), b"ENTRIESREAD", read]


def _history(client: Session, stream: StreamValue, consumer: Consumer, start: StreamId, most: int) -> list[bytes]:
    """What the consumer has not acknowledged, from an id on; of entries that are gone the id alone."""
    now_ms = client.db.keyspace.now_ms
    encoded: list[bytes] = []
    for entry_id in consumer.pending.ascending(start):
        entry = encode_entry(stream, entry_id)
        if entry is None:
            entry = b"*2\r\n" + id_reply(entry_id) + client.proto.null_array
        else:
            pending = consumer.pending.entries[entry_id]
            pending.delivered_ms = now_ms
            pending.delivery_count += 1
        encoded.append(entry)
        if len(encoded) == most:
            break
    return encoded


# Waiting --------------------------------------------------------------------------------------------------------


def _wait(client: Session, request: ReadRequest, after: list[StreamId]) -> bytes | None:
    """Nothing was found: wait for it if the client wants to."""
    timeout_ms = request.timeout_ms
    if timeout_ms is None or not may_block(client):
        return client.proto.null_array
    db = client.db
    places = _Places(db, request, dict(zip(reversed(request.keys), reversed(after), strict=True)))

    def serve(key: bytes, stream: StreamValue) -> bytes | None:
        return places.serve(client, key, stream)

    client.server.blocking.wait(
        KeyWaiter(
            client,
            db,
            "stream",
            tuple(dict.fromkeys(request.keys)),
            StreamValue,
            serve,
            is_write=request.has_group,
            if_gone=b"UNBLOCKED the stream key no longer exists" if request.has_group else None,
        ),
        clock.monotonic_ms() + timeout_ms if timeout_ms else None,
    )
    return None


class _Places:
    """Where a waiting client stands in each of its streams."""

    def __init__(self, db: Database, request: ReadRequest, after: dict[bytes, StreamId]) -> None:
        self._db = db
        self._request = request
        self._after = after
        self._seen: dict[bytes, tuple[StreamValue | None, int]] = {}
        for key in after:
            stream = db.stored(key, key_slot(key))
            self._seen[key] = (stream, 0 if stream is None else stream.appended)

    def serve(self, client: Session, key: bytes, stream: StreamValue) -> bytes | None:
        """What there is to read now, or None. Raises CommandError when the group is gone."""
        request, db = self._request, self._db
        group: Group | None = None
        after = self._after[key]
        if request.has_group:
            group = stream.groups.get(request.group)
            if group is None:
                raise CommandError(b"NOGROUP the consumer group this client was blocked on no longer exists")
            after = group.last_id
        # Deleting, trimming or an expiry change the key, too, but only what is new is worth a reply.
        if self._seen[key] == (stream, stream.appended) or stream.last_id <= after:
            return None
        most = request.count or _BLOCKED_COUNT
        if group is None:
            entries = encode_range(stream, after + 1, MAX_ID, most)
        else:
            keyspace = db.keyspace
            tell: Tell = _tell_nobody
            if keyspace.followed:

                def tell(effect: list[bytes]) -> None:
                    keyspace.propagate(db.index, effect)

            consumer = _consumer(db, key, request, group, tell)
            entries = _deliver(db, key, request, stream, group, consumer, most, tell)
        return _reply(client, [bulk(key), array(entries)])
