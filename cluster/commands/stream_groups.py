"""Consumer groups: XGROUP, XACK, XPENDING, XCLAIM, XAUTOCLAIM. Redis 7.0: t_stream.c.

Claims are replicated one by one, each with everything that the claimed entry has become (claim_effect). As in Redis,
what changes in a group is no change of the key to WATCH.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from cluster import errors
from cluster.commands.arguments import parse_bounded, parse_integer
from cluster.commands.context import Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.commands.stream_arguments import (
    checked_stream,
    encode_entries,
    id_reply,
    parse_any_id,
    parse_end,
    parse_id,
    parse_start,
    read_id,
)
from cluster.commands.stream_reading import claim_effect, create_consumer, position_effect
from cluster.errors import CommandError
from cluster.keyspace.consumer_groups import ENTRIES_READ_UNKNOWN, Consumer, Group, Pending, PendingList
from cluster.keyspace.stream_nodes import StreamId, StreamNode, as_int64, id_text
from cluster.keyspace.streams import StreamValue
from cluster.resp.encode import EMPTY_ARRAY, OK, ONE, ZERO, array, bulk, integer
from cluster.slots.hashing import key_slot

_AUTOCLAIM_COUNT: Final = 100
_AUTOCLAIM_COUNT_MAX: Final = (2**63 - 1) // 16
_ADDRESSABLE_BYTES: Final = 1 << 47
_ATTEMPTS_FACTOR: Final = 10
"""XAUTOCLAIM looks at so many entries for each one that it may claim."""


# XGROUP ---------------------------------------------------------------------------------------------------------


@attrs.define
class _GroupOptions:
    makes_stream: bool = False
    entries_read: int = ENTRIES_READ_UNKNOWN


def _parse_group_options(argv: list[bytes], *, is_create: bool) -> _GroupOptions:
    options = _GroupOptions()
    rest = iter(argv[5:])
    for word in rest:
        option = word.upper()
        if is_create and option == b"MKSTREAM":
            options.makes_stream = True
            continue
        argument = next(rest, None)
        if option != b"ENTRIESREAD" or argument is None:
            raise syntax_error(argv)
        options.entries_read = parse_integer(argument)
        if options.entries_read < 0 and options.entries_read != ENTRIES_READ_UNKNOWN:
            raise CommandError(b"ERR value for ENTRIESREAD must be positive or -1")
    return options


def syntax_error(argv: list[bytes]) -> CommandError:
    """The refusal of a subcommand's arguments (addReplySubcommandSyntaxError)."""
    return CommandError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try %b HELP."
        % (errors.quoted(argv[1][:128]), argv[0].upper())
    )


def _stream_of(client: Session, key: bytes) -> StreamValue:
    """The stream that a subcommand of XGROUP is about. Raises CommandError."""
    stream = checked_stream(client.db.peek(key, key_slot(key)))
    if stream is None:
        raise CommandError(
            b"ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the "
            b"MKSTREAM option to create an empty stream automatically."
        )
    return stream


def _group_of(client: Session, argv: list[bytes]) -> Group:
    """The group that a subcommand of XGROUP is about. Raises CommandError."""
    group = _stream_of(client, argv[2]).groups.get(argv[3])
    if group is None:
        raise no_such_group(argv[2], argv[3])
    return group


def no_such_group(key: bytes, name: bytes) -> CommandError:
    """The refusal of XGROUP and XINFO where there is no such group."""
    return CommandError(
        b"NOGROUP No such consumer group '%b' for key name '%b'" % (errors.quoted(name), errors.quoted(key))
    )


@command("xgroup|create")
def xgroup_create(client: Session, argv: list[bytes]) -> bytes:
    """XGROUP CREATE key group id|$ [MKSTREAM] [ENTRIESREAD entries-read]"""
    options = _parse_group_options(argv, is_create=True)
    db, key, name = client.db, argv[2], argv[3]
    slot = key_slot(key)
    stream = checked_stream(db.peek(key, slot)) if options.makes_stream else _stream_of(client, key)
    if len(argv) > 8:
        raise syntax_error(argv)
    if argv[4] == b"$":
        last_id = 0 if stream is None else stream.last_id
    else:
        last_id = parse_id(argv[4])
    if stream is None:
        stream = StreamValue()
        db.put(key, slot, stream)
        db.keyspace.dirty -= 1
    elif name in stream.groups:
        raise CommandError(b"BUSYGROUP Consumer Group name already exists")
    stream.groups[name] = Group(last_id, options.entries_read)
    db.keyspace.dirty += 1
    db.notify("t", b"xgroup-create", key)
    return OK


@command("xgroup|setid")
def xgroup_setid(client: Session, argv: list[bytes]) -> bytes:
    """XGROUP SETID key group id|$ [ENTRIESREAD entries-read]"""
    options = _parse_group_options(argv, is_create=False)
    group = _group_of(client, argv)
    if len(argv) not in (5, 7):
        raise syntax_error(argv)
    group.last_id = _stream_of(client, argv[2]).last_id if argv[4] == b"$" else parse_any_id(argv[4])
    group.entries_read = options.entries_read
    client.db.keyspace.dirty += 1
    client.db.notify("t", b"xgroup-setid", argv[2])
    return OK


@command("xgroup|destroy")
def xgroup_destroy(client: Session, argv: list[bytes]) -> bytes:
    key = argv[2]
    if _stream_of(client, key).groups.pop(argv[3], None) is None:
        return ZERO
    client.db.keyspace.dirty += 1
    client.db.notify("t", b"xgroup-destroy", key)
    client.server.blocking.key_changed(client.db, key)  # Who waits in this group is told.
    return ONE


@command("xgroup|createconsumer")
def xgroup_createconsumer(client: Session, argv: list[bytes]) -> bytes:
    group = _group_of(client, argv)
    if argv[4] in group.consumers:
        return ZERO
    create_consumer(client.db, argv[2], group, argv[4])
    return ONE


@command("xgroup|delconsumer")
def xgroup_delconsumer(client: Session, argv: list[bytes]) -> bytes:
    group = _group_of(client, argv)
    consumer = group.consumers.get(argv[4])
    if consumer is None:
        return ZERO
    pending = group.remove_consumer(consumer)
    client.db.keyspace.dirty += 1
    client.db.notify("t", b"xgroup-delconsumer", argv[2])
    return integer(pending)


@command("xgroup|help")
def xgroup_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"XGROUP",
        [
            b"CREATE <key> <groupname> <id|$> [option]",
            b"    Create a new consumer group. Options are:",
            b"    * MKSTREAM",
            b"      Create the empty stream if it does not exist.",
            b"    * ENTRIESREAD entries_read",
            b"      Set the group's entries_read counter (internal use).",
            b"CREATECONSUMER <key> <groupname> <consumer>",
            b"    Create a new consumer in the specified group.",
            b"DELCONSUMER <key> <groupname> <consumer>",
            b"    Remove the specified consumer.",
            b"DESTROY <key> <groupname>",
            b"    Remove the specified group.",
            b"SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
            b"    Set the current group ID and entries_read counter.",
        ],
    )


# XACK and XPENDING ----------------------------------------------------------------------------------------------


@command("xack")
def xack(client: Session, argv: list[bytes]) -> bytes:
    """XACK key group id [id ...]"""
    stream = checked_stream(client.db.read(argv[1], client.slot))
    group = None if stream is None else stream.groups.get(argv[2])
    if group is None:
        return ZERO
    acknowledged = sum([group.forget(entry_id) for entry_id in [parse_id(text) for text in argv[3:]]])
    client.db.keyspace.dirty += acknowledged
    return integer(acknowledged)


@attrs.frozen
class _PendingQuery:
    """The long form of XPENDING."""

    start: StreamId
    end: StreamId
    count: int
    least_idle_ms: int
    consumer: bytes | None


def _parse_pending_query(argv: list[bytes]) -> _PendingQuery | None:
    if len(argv) == 3:
        return None
    if not 6 <= len(argv) <= 9:
        raise CommandError(errors.SYNTAX)
    place, least_idle_ms = 3, 0
    if argv[3].upper() == b"IDLE":
        least_idle_ms = parse_integer(argv[4])
        if len(argv) < 8:
            raise CommandError(errors.SYNTAX)
        place = 5
    count = max(parse_integer(argv[place + 2]), 0)
    start, end = parse_start(argv[place]), parse_end(argv[place + 1])
    consumer = argv[place + 3] if place + 3 < len(argv) else None
    return _PendingQuery(start, end, count, least_idle_ms, consumer)


@command("xpending")
def xpending(client: Session, argv: list[bytes]) -> bytes:
    """XPENDING key group [[IDLE min-idle-time] start end count [consumer]]"""
    query = _parse_pending_query(argv)
    _stream, group = _claimed_from(client.db.read(argv[1], client.slot), argv)
    if query is None:
        return _pending_summary(client, group)
    pending_list: PendingList = group.pending
    if query.consumer is not None:
        consumer = group.consumers.get(query.consumer)
        if consumer is None:
            return EMPTY_ARRAY
        pending_list = consumer.pending
    return array(list(_pending_details(query, pending_list, client.db.keyspace.now_ms)))


def _claimed_from(value: object, argv: list[bytes]) -> tuple[StreamValue, Group]:
    """The stream and the group that XPENDING, XCLAIM or XAUTOCLAIM is about. Raises CommandError."""
    stream = checked_stream(value)
    group = None if stream is None else stream.groups.get(argv[2])
    if stream is None or group is None:
        raise CommandError(
            b"NOGROUP No such key '%b' or consumer group '%b'" % (errors.quoted(argv[1]), errors.quoted(argv[2]))
        )
    return stream, group


def _pending_summary(client: Session, group: Group) -> bytes:
    pending = group.pending
    proto = client.proto
    if not len(pending):
        return array([ZERO, proto.null, proto.null, proto.null_array])
    owners = [
        b"*2\r\n" + bulk(name) + bulk(b"%d" % len(consumer.pending))
        for name, consumer in sorted(group.consumers.items())
        if len(consumer.pending)
    ]
    return array([integer(len(pending)), id_reply(pending.first()), id_reply(pending.last()), array(owners)])


def _pending_details(query: _PendingQuery, pending_list: PendingList, now_ms: int) -> Iterator[bytes]:
    found = 0
    for entry_id in pending_list.ascending(query.start) if query.count else ():
        if entry_id > query.end:
            return
        pending = pending_list.entries[entry_id]
        idle_ms = as_int64(now_ms - pending.delivered_ms)
        if query.least_idle_ms and idle_ms < query.least_idle_ms:
            continue
        yield array(
            [
                id_reply(entry_id),
                bulk(pending.owner),
                integer(max(idle_ms, 0)),
                integer(as_int64(pending.delivery_count)),
            ]
        )
        found += 1
        if found == query.count:
            return


# Claiming -------------------------------------------------------------------------------------------------------


class _Claims:
    """What XCLAIM and XAUTOCLAIM do with one entry after the other."""

    def __init__(self, client: Session, argv: list[bytes], group: Group, *, just_ids: bool) -> None:
        self._client = client
        self._key, self._group_name, self._consumer_name = argv[1:4]
        self._group = group
        self._just_ids = just_ids
        self._consumer: Consumer | None = None
        self.changes = 0
        self.effects: list[list[bytes]] = []
        self.claimed: list[bytes] = []
        """The replies."""

    def drop(self, entry_id: StreamId, id_argument: bytes) -> None:
        """A pending entry that is gone from the stream is pending no longer."""
        self._tell(id_argument, self._group.pending.entries[entry_id])
        self._group.forget(entry_id)

    def claim(
        self,
        entry_id: StreamId,
        place: tuple[StreamNode, int],
        id_argument: bytes,
        delivered_ms: int,
        delivery_count: int | None = None,
    ) -> None:
        """Make an entry the consumer's, whether it was pending or not."""
        group = self._group
        consumer = self._claimant()
        pending = group.pending.entries.get(entry_id)
        if pending is None:
            pending = group.deliver(entry_id, consumer, delivered_ms)
        else:
            group.hand_over(entry_id, pending, consumer)
        pending.delivered_ms = delivered_ms
        if delivery_count is not None:
            pending.delivery_count = delivery_count
        elif not self._just_ids:
            pending.delivery_count += 1
        node, position = place
        self.claimed.append(id_reply(entry_id) if self._just_ids else encode_entries(node, (position,))[0])
        self._tell(id_argument, pending)

    def _claimant(self) -> Consumer:
        if self._consumer is None:
            client, group = self._client, self._group
            consumer = group.consumers.get(self._consumer_name)
            if consumer is None:
                consumer = create_consumer(client.db, self._key, group, self._consumer_name)
            consumer.seen_ms = client.db.keyspace.now_ms
            self._consumer = consumer
        return self._consumer

    def _tell(self, id_argument: bytes, pending: Pending) -> None:
        keyspace = self._client.db.keyspace
        keyspace.dirty += 1
        self.changes += 1
        if keyspace.followed:
            self.effects.append(claim_effect(self._key, self._group_name, self._group, id_argument, pending))


@attrs.define
class _ClaimOptions:
    """What XCLAIM says behind the ids."""

    delivered_ms: int
    delivery_count: int | None = None
    forces: bool = False
    just_ids: bool = False
    last_id: StreamId = 0


def _parse_claim_options(words: list[bytes], now_ms: int) -> _ClaimOptions:
    options = _ClaimOptions(now_ms)
    rest = iter(words)
    for word in rest:
        option = word.upper()
        if option == b"FORCE":
            options.forces = True
            continue
        if option == b"JUSTID":
            options.just_ids = True
            continue
        argument = next(rest, None)
        if argument is None or option not in (b"IDLE", b"TIME", b"RETRYCOUNT", b"LASTID"):
            raise CommandError(b"ERR Unrecognized XCLAIM option '%b'" % errors.quoted(word))
        if option == b"LASTID":
            options.last_id = parse_id(argument)
            continue
        number = parse_integer(argument, b"ERR Invalid %b option argument for XCLAIM" % option)
        if option == b"RETRYCOUNT":
            options.delivery_count = number if number >= 0 else None
        else:
            options.delivered_ms = now_ms - number if option == b"IDLE" else number
    # Clocks differ: what lies ahead of ours, or makes no sense, is taken to be now.
    if not 0 <= options.delivered_ms <= now_ms:
        options.delivered_ms = now_ms
    return options


def _parse_least_idle(text: bytes, name: bytes) -> int:
    return max(parse_integer(text, b"ERR Invalid min-idle-time argument for " + name), 0)


@command("xclaim")
def xclaim(client: Session, argv: list[bytes]) -> bytes:
    """XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME ms] [RETRYCOUNT n] [FORCE] [JUSTID]"""
    stream, group = _claimed_from(client.db.read(argv[1], client.slot), argv)
    least_idle_ms = _parse_least_idle(argv[4], b"XCLAIM")
    keyspace = client.db.keyspace
    now_ms = keyspace.now_ms
    ids: list[StreamId] = []
    for text in argv[5:]:
        entry_id = read_id(text)
        if entry_id is None:
            break
        ids.append(entry_id)
    options = _parse_claim_options(argv[5 + len(ids) :], now_ms)
    moves_on = options.last_id > group.last_id
    if moves_on:
        group.last_id = options.last_id
    claims = _Claims(client, argv, group, just_ids=options.just_ids)
    client.effects = claims.effects
    for entry_id, text in zip(ids, argv[5:], strict=False):
        pending = group.pending.entries.get(entry_id)
        place = stream.find(entry_id)
        if place is None:
            if pending is not None:
                claims.drop(entry_id, text)
        elif options.forces if pending is None else now_ms - pending.delivered_ms >= least_idle_ms or not least_idle_ms:
            claims.claim(entry_id, place, text, options.delivered_ms, options.delivery_count)
    if moves_on and not claims.changes:
        claims.effects.append(position_effect(argv[1], argv[2], group))
        keyspace.dirty += 1
    return array(claims.claimed)


@command("xautoclaim")
def xautoclaim(client: Session, argv: list[bytes]) -> bytes:
    """XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]"""
    value = client.db.read(argv[1], client.slot)
    least_idle_ms = _parse_least_idle(argv[4], b"XAUTOCLAIM")
    start = parse_start(argv[5])
    count, just_ids = _parse_autoclaim_options(argv[6:])
    stream, group = _claimed_from(value, argv)
    if count * 16 >= _ADDRESSABLE_BYTES:
        raise CommandError(b"ERR Insufficient memory, failed allocating transient memory, COUNT too high.")
    now_ms = client.db.keyspace.now_ms
    claims = _Claims(client, argv, group, just_ids=just_ids)
    client.effects = claims.effects
    deleted: list[bytes] = []
    attempts = count * _ATTEMPTS_FACTOR
    next_id = 0
    for entry_id in group.pending.ascending(start):
        if not attempts or not count:
            next_id = entry_id
            break
        attempts -= 1
        place = stream.find(entry_id)
        if place is None:
            claims.drop(entry_id, id_text(entry_id))
            deleted.append(id_reply(entry_id))
            count -= 1
        elif not least_idle_ms or now_ms - group.pending.entries[entry_id].delivered_ms >= least_idle_ms:
            claims.claim(entry_id, place, id_text(entry_id), now_ms)
            count -= 1
    return array([id_reply(next_id), array(claims.claimed), array(deleted)])


def _parse_autoclaim_options(words: list[bytes]) -> tuple[int, bool]:
    """COUNT, and whether JUSTID was said. Raises CommandError."""
    count, just_ids = _AUTOCLAIM_COUNT, False
    rest = iter(words)
    for word in rest:
        option = word.upper()
        if option == b"JUSTID":
            just_ids = True
            continue
        argument = next(rest, None)
        if option != b"COUNT" or argument is None:
            raise CommandError(errors.SYNTAX)
        count = parse_bounded(argument, 1, _AUTOCLAIM_COUNT_MAX, b"ERR COUNT must be > 0")
    return count, just_ids
