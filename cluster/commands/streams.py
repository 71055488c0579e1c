"""Stream commands without groups: adding, reading, deleting, trimming. Redis 7.0: t_stream.c.

XADD is replicated with the id that the entry got, and ``~`` as the exact length or id that it came to.
"""

from __future__ import annotations

from typing import Final

from cluster import errors
from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.commands.stream_arguments import (
    TrimOptions,
    checked_stream,
    encode_range,
    exact_trim,
    parse_end,
    parse_id,
    parse_start,
    parse_trim_options,
)
from cluster.errors import CommandError
from cluster.keyspace.stream_nodes import MAX_ID, MAX_PART, StreamId, id_text
from cluster.keyspace.streams import NODE_BYTES_MAX, StreamValue
from cluster.resp.encode import EMPTY_ARRAY, OK, ZERO, array, bulk, integer

_BY_THE_CLOCK: Final = TrimOptions(id_place=2)
"""What ``XADD key *`` says; not to be changed."""
_ID_TOO_SMALL: Final = b"ERR The ID specified in XADD is equal or smaller than the target stream top item"


# Adding ---------------------------------------------------------------------------------------------------------


@command("xadd")
def xadd(client: Session, argv: list[bytes]) -> bytes:
    """XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT count]] *|id field value [field value ...]"""
    options = _BY_THE_CLOCK if argv[2] == b"*" else parse_trim_options(client, argv, is_xadd=True)
    id_place = options.id_place
    pairs = argv[id_place + 1 :]
    if not pairs or len(pairs) % 2:
        raise errors.wrong_arity(b"xadd")
    entry_id = options.new_id
    if entry_id == 0 and options.says_sequence:
        raise CommandError(b"ERR The ID specified in XADD must be greater than 0-0")
    db, key = client.db, argv[1]
    stream = checked_stream(db.peek(key, client.slot))
    is_new = stream is None
    if stream is None:
        if not options.creates:
            return client.proto.null
        stream = StreamValue()
    if stream.last_id == MAX_ID:
        raise CommandError(b"ERR The stream has exhausted the last possible ID, unable to add more items")
    keyspace = db.keyspace
    if entry_id is None or not options.says_sequence:
        entry_id = _next_id(stream, entry_id, keyspace.now_ms)
    if entry_id <= stream.last_id:
        raise CommandError(_ID_TOO_SMALL)
    settings = client.server.settings
    if sum(map(len, pairs)) > NODE_BYTES_MAX:
        raise CommandError(b"ERR Elements are too large to be stored")
    stream.append(entry_id, pairs, settings.stream_node_max_bytes, settings.stream_node_max_entries)
    if is_new:
        db.put(key, client.slot, stream)
    else:
        db.changed(key)
    if keyspace.notifier is not None:
        db.notify("t", b"xadd", key)
    told = argv
    if options.trim is not None:
        if stream.trim(options.trim):
            db.notify("t", b"xtrim", key)
        if options.trim.is_approximate and keyspace.followed:
            told = exact_trim(argv, options, stream)
    entry_text = id_text(entry_id)
    if not options.says_sequence and keyspace.followed:
        told = [*told[:id_place], entry_text, *pairs]
    if told is not argv:
        client.effects = [told]
    return bulk(entry_text)


def _next_id(stream: StreamValue, asked: StreamId | None, now_ms: int) -> StreamId:
    """The id that follows the last one, in the present millisecond or (of ``ms-*``) in the one asked for."""
    last_id = stream.last_id
    if asked is None:
        return now_ms << 64 if now_ms > last_id >> 64 else last_id + 1
    if last_id >> 64 != asked >> 64:
        return asked
    if last_id & MAX_PART == MAX_PART:
        raise CommandError(_ID_TOO_SMALL)
    return last_id + 1


@command("xsetid")
def xsetid(client: Session, argv: list[bytes]) -> bytes:
    """XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]"""
    last_id = parse_id(argv[2])
    entries_added: int | None = None
    max_deleted_id = 0
    rest = iter(argv[3:])
    for word in rest:
        argument = next(rest, None)
        option = word.upper()
        if argument is None or option not in (b"ENTRIESADDED", b"MAXDELETEDID"):
            raise CommandError(errors.SYNTAX)
        if option == b"ENTRIESADDED":
            entries_added = parse_integer(argument)
            if entries_added < 0:
                raise CommandError(b"ERR entries_added must be positive")
        else:
            max_deleted_id = parse_id(argument)
            if last_id < max_deleted_id:
                raise CommandError(b"ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
    db, key = client.db, argv[1]
    stream = checked_stream(db.peek(key, client.slot))
    if stream is None:
        raise CommandError(errors.NO_SUCH_KEY)
    if stream.length:
        if last_id < stream.greatest_id():
            raise CommandError(b"ERR The ID specified in XSETID is smaller than the target stream top item")
        if entries_added is not None and stream.length > entries_added:
            raise CommandError(b"ERR The entries_added specified in XSETID is smaller than the target stream length")
    stream.last_id = last_id
    if entries_added is not None:
        stream.entries_added = entries_added
    if max_deleted_id:
        stream.max_deleted_id = max_deleted_id
    db.keyspace.dirty += 1
    db.notify("t", b"xsetid", key)
    return OK


# Reading --------------------------------------------------------------------------------------------------------


@command("xlen")
def xlen(client: Session, argv: list[bytes]) -> bytes:
    stream = checked_stream(client.db.read(argv[1], client.slot))
    return ZERO if stream is None else integer(stream.length)


@command("xrange")
def xrange(client: Session, argv: list[bytes]) -> bytes:
    """XRANGE key start end [COUNT count]"""
    return _range(client, argv, argv[2], argv[3], backwards=False)


@command("xrevrange")
def xrevrange(client: Session, argv: list[bytes]) -> bytes:
    """XREVRANGE key end start [COUNT count]"""
    return _range(client, argv, argv[3], argv[2], backwards=True)


def _range(client: Session, argv: list[bytes], start_text: bytes, end_text: bytes, *, backwards: bool) -> bytes:
    start, end = parse_start(start_text), parse_end(end_text)
    most: int | None = None
    rest = iter(argv[4:])
    for word in rest:
        argument = next(rest, None)
        if word.upper() != b"COUNT" or argument is None:
            raise CommandError(errors.SYNTAX)
        # Minus one is what Redis takes for "no COUNT was given"; it makes it 0, and so none of the entries.
        most = max(parse_integer(argument), 0)
    stream = checked_stream(client.db.read(argv[1], client.slot))
    if stream is None:
        return EMPTY_ARRAY
    if most == 0:
        return client.proto.null_array
    return array(encode_range(stream, start, end, most or 0, backwards=backwards))


# Deleting -------------------------------------------------------------------------------------------------------


@command("xdel")
def xdel(client: Session, argv: list[bytes]) -> bytes:
    db, key = client.db, argv[1]
    stream = checked_stream(db.peek(key, client.slot))
    if stream is None:
        return ZERO
    deleted = stream.delete([parse_id(text) for text in argv[2:]])
    if deleted:
        db.changed(key, deleted)
        db.notify("t", b"xdel", key)
    return integer(deleted)


@command("xtrim")
def xtrim(client: Session, argv: list[bytes]) -> bytes:
    """XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT count]"""
    options = parse_trim_options(client, argv, is_xadd=False)
    assert options.trim is not None
    db, key = client.db, argv[1]
    stream = checked_stream(db.peek(key, client.slot))
    if stream is None:
        return ZERO
    deleted = stream.trim(options.trim)
    if deleted:
        db.notify("t", b"xtrim", key)
        if options.trim.is_approximate and db.keyspace.followed:
            client.effects = [exact_trim(argv, options, stream)]
        db.changed(key, deleted)
    return integer(deleted)
