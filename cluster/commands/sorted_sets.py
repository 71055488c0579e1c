"""Sorted set commands but for ranges, algebra and waiting. Redis 7.0: t_zset.c.

ZMPOP is replicated as the ZPOPMIN or ZPOPMAX that it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from cluster import errors
from cluster.commands.arguments import parse_double, parse_integer, parse_pop, read_double
from cluster.commands.context import Session
from cluster.commands.keys import parse_cursor
from cluster.commands.registry import command
from cluster.commands.scanning import (
    EMPTY_SCAN,
    check_repeated_draws,
    matching,
    parse_draw_count,
    parse_scan_options,
    scan_reply,
)
from cluster.errors import CommandError
from cluster.keyspace.database import Database
from cluster.keyspace.sorted_sets import SortedSetValue, compact_score_text
from cluster.keyspace.strings import INT64_MAX
from cluster.resp.encode import EMPTY_ARRAY, ONE, ZERO, array, bulk, bulk_array, format_double, integer
from cluster.slots.hashing import key_slot

_NX, _XX, _GT, _LT, _CH, _INCR = (1 << bit for bit in range(6))
_OPTIONS: Final = {b"NX": _NX, b"XX": _XX, b"GT": _GT, b"LT": _LT, b"CH": _CH, b"INCR": _INCR}
_NAN: Final = b"ERR resulting score is not a number (NaN)"


def checked_sorted_set(value: object) -> SortedSetValue | None:
    """The value if it is a sorted set or missing. Raises CommandError (WRONGTYPE)."""
    if value is None or type(value) is SortedSetValue:
        return value
    raise CommandError(errors.WRONGTYPE)


def read_sorted_set(client: Session, key: bytes) -> SortedSetValue | None:
    """The sorted set at the request's first key, for a command that reads. Raises CommandError (WRONGTYPE)."""
    value = client.db.read(key, client.slot)
    if value is None or type(value) is SortedSetValue:
        return value
    raise CommandError(errors.WRONGTYPE)


def _peek(client: Session, key: bytes) -> SortedSetValue | None:
    value = client.db.peek(key, client.slot)
    if value is None or type(value) is SortedSetValue:
        return value
    raise CommandError(errors.WRONGTYPE)


def after_removal(db: Database, key: bytes, slot: int, value: SortedSetValue, removed: int, event: bytes) -> None:
    """Count what was removed, say what happened, and delete the key if nothing is left."""
    if value.scores:
        db.changed(key, removed)
        if db.keyspace.notifier is not None:
            db.notify("z", event, key)
    else:
        db.delete(key, slot)
        db.keyspace.dirty += removed - 1
        db.notify("z", event, key)
        db.notify("g", b"del", key)


def scored_reply(client: Session, members: Sequence[bytes], scores: Iterable[float]) -> bytes:
    """Members with their scores: pairs in RESP3, one flat array in RESP2."""
    pairs = zip(members, map(format_double, scores), strict=True)
    if client.proto.version == 3:
        return array([b"*2\r\n$%d\r\n%b\r\n,%b\r\n" % (len(member), member, score) for member, score in pairs])
    return bulk_array([text for pair in pairs for text in pair])


# Adding and removing --------------------------------------------------------------------------------------------


def _parse_options(argv: list[bytes], flags: int) -> tuple[int, int]:
    """The options from the third word on: the flags, and where scores and members begin. Raises CommandError."""
    start = 2
    for word in argv[2:]:
        flag = _OPTIONS.get(word.upper())
        if flag is None:
            break
        flags |= flag
        start += 1
    count = len(argv) - start
    if count % 2 or not count:
        raise CommandError(errors.SYNTAX)
    if flags & _NX and flags & _XX:
        raise CommandError(b"ERR XX and NX options at the same time are not compatible")
    if bool(flags & _NX) + bool(flags & _GT) + bool(flags & _LT) > 1:
        raise CommandError(b"ERR GT, LT, and/or NX options at the same time are not compatible")
    if flags & _INCR and count > 2:
        raise CommandError(b"ERR INCR option supports a single increment-element pair")
    return flags, start


def _add(client: Session, argv: list[bytes], flags: int) -> bytes:
    flags, start = _parse_options(argv, flags)
    scores = [parse_double(text) for text in argv[start::2]]
    db, key = client.db, argv[1]
    value = _peek(client, key)
    is_new = value is None
    if value is None:
        if flags & _XX:
            return client.proto.null if flags & _INCR else ZERO
        value = SortedSetValue()
    settings = client.server.settings
    added = updated = 0
    result: float | None = None
    for score, member in zip(scores, argv[start + 1 :: 2], strict=True):
        current = value.score(member)
        if current is None:
            if not flags & _XX:
                value.insert(member, score, settings)
                added += 1
                result = score
            continue
        if flags & _NX:
            continue
        if flags & _INCR:
            score += current
            if math.isnan(score):
                raise CommandError(_NAN)
        if (flags & _LT and score >= current) or (flags & _GT and score <= current):
            continue
        if score != current:
            value.update(member, current, score)
            updated += 1
        result = score
    if added or updated:
        if is_new:
            db.put(key, client.slot, value)
            db.keyspace.dirty += added + updated - 1
        else:
            db.changed(key, added + updated)
        if db.keyspace.notifier is not None:
            db.notify("z", b"zincr" if flags & _INCR else b"zadd", key)
    if flags & _INCR:
        return client.proto.null if result is None else client.proto.double(result)
    return integer(added + updated if flags & _CH else added)


@command("zadd")
def zadd(client: Session, argv: list[bytes]) -> bytes:
    score = read_double(argv[2]) if len(argv) == 4 else None
    return _add(client, argv, 0) if score is None else _add_one(client, argv, score)


def _add_one(client: Session, argv: list[bytes], score: float) -> bytes:
    """Add one member, or give it another score: what most requests are."""
    db, key, member = client.db, argv[1], argv[3]
    value = _peek(client, key)
    current = None
    if value is None:
        value = SortedSetValue()
        value.insert(member, score, client.server.settings)
        db.put(key, client.slot, value)
    else:
        current = value.score(member)
        if current == score:
            return ZERO
        if current is None:
            value.insert(member, score, client.server.settings)
        else:
            value.update(member, current, score)
        db.changed(key)
    if db.keyspace.notifier is not None:
        db.notify("z", b"zadd", key)
    return ONE if current is None else ZERO


@command("zincrby")
def zincrby(client: Session, argv: list[bytes]) -> bytes:
    return _add(client, argv, _INCR)


@command("zrem")
def zrem(client: Session, argv: list[bytes]) -> bytes:
    value = _peek(client, argv[1])
    if value is None:
        return ZERO
    removed = sum([value.remove(member) for member in argv[2:]])
    if removed:
        after_removal(client.db, argv[1], client.slot, value, removed, b"zrem")
    return integer(removed)


# Reading --------------------------------------------------------------------------------------------------------


@command("zcard")
def zcard(client: Session, argv: list[bytes]) -> bytes:
    value = read_sorted_set(client, argv[1])
    return ZERO if value is None else integer(len(value))


@command("zscore")
def zscore(client: Session, argv: list[bytes]) -> bytes:
    value = read_sorted_set(client, argv[1])
    score = None if value is None else value.score(argv[2])
    return client.proto.null if score is None else client.proto.double(score)


@command("zmscore")
def zmscore(client: Session, argv: list[bytes]) -> bytes:
    value = read_sorted_set(client, argv[1])
    proto = client.proto
    if value is None:
        return array([proto.null] * (len(argv) - 2))
    scores = map(value.scores.get, argv[2:])
    return array([proto.null if score is None else proto.double(score) for score in scores])


@command("zrank")
def zrank(client: Session, argv: list[bytes]) -> bytes:
    value = read_sorted_set(client, argv[1])
    rank = None if value is None else value.rank(argv[2])
    return client.proto.null if rank is None else integer(rank)


@command("zrevrank")
def zrevrank(client: Session, argv: list[bytes]) -> bytes:
    value = read_sorted_set(client, argv[1])
    rank = None if value is None else value.rank(argv[2])
    if value is None or rank is None:
        return client.proto.null
    return integer(len(value) - 1 - rank)


@command("zscan")
def zscan(client: Session, argv: list[bytes]) -> bytes:
    cursor = parse_cursor(argv[2])
    value = read_sorted_set(client, argv[1])
    if value is None:
        return EMPTY_SCAN
    options = parse_scan_options(argv[3:])
    cursor, found = value.scan(cursor, options.count)
    # Redis shows what it stores: a listpack's text, or a double.
    to_text = compact_score_text if value.is_compact else format_double
    return scan_reply(cursor, (text for member, score in matching(found, options) for text in (member, to_text(score))))


@command("zrandmember")
def zrandmember(client: Session, argv: list[bytes]) -> bytes:
    rng = client.server.rng
    if len(argv) == 2:
        value = read_sorted_set(client, argv[1])
        return client.proto.null if value is None else bulk(value.random_member(rng))
    count = parse_draw_count(argv[2])
    with_scores = len(argv) == 4 and argv[3].lower() == b"withscores"
    if len(argv) > 3 and not with_scores:
        raise CommandError(errors.SYNTAX)
    if with_scores and not -(INT64_MAX // 2) <= count <= INT64_MAX // 2:
        raise CommandError(b"ERR value is out of range")
    value = read_sorted_set(client, argv[1])
    if value is None or count == 0:
        return EMPTY_ARRAY
    check_repeated_draws(client, count)
    if count < 0:
        members = value.random_members(-count, rng)
    elif 1 < count >= len(value):
        members = list(value)[::-1]  # As Redis walks through them.
    else:
        members = value.distinct_members(count, rng)
    if not with_scores:
        return bulk_array(members)
    return scored_reply(client, members, [value.scores[member] for member in members])


# Popping --------------------------------------------------------------------------------------------------------


def pop_members(
    db: Database, key: bytes, slot: int, value: SortedSetValue, count: int, *, greatest: bool
) -> list[tuple[bytes, float]]:
    """Take up to ``count`` members, at least one, from an end of the sorted set."""
    count = min(count, len(value))
    taken = [value.pop(greatest=greatest)] if count == 1 else value.pop_several(count, greatest=greatest)
    after_removal(db, key, slot, value, count, b"zpopmax" if greatest else b"zpopmin")
    return taken


def _pop(client: Session, argv: list[bytes], *, greatest: bool) -> bytes:
    if len(argv) > 3:
        raise CommandError(errors.SYNTAX)
    count = 1
    if len(argv) == 3:
        count = parse_integer(argv[2], errors.OUT_OF_RANGE_POSITIVE)
        if count < 0:
            raise CommandError(errors.OUT_OF_RANGE_POSITIVE)
    value = _peek(client, argv[1])
    if value is None or count == 0:
        return EMPTY_ARRAY
    if len(argv) == 2:
        member, score = value.pop(greatest=greatest)
        after_removal(client.db, argv[1], client.slot, value, 1, b"zpopmax" if greatest else b"zpopmin")
        return b"*2\r\n" + bulk(member) + client.proto.double(score)
    taken = pop_members(client.db, argv[1], client.slot, value, count, greatest=greatest)
    return scored_reply(client, [member for member, _score in taken], [score for _member, score in taken])


@command("zpopmin")
def zpopmin(client: Session, argv: list[bytes]) -> bytes:
    return _pop(client, argv, greatest=False)


@command("zpopmax")
def zpopmax(client: Session, argv: list[bytes]) -> bytes:
    return _pop(client, argv, greatest=True)


class PopRequest:
    """ZMPOP's and BZMPOP's arguments: of which keys, from which end, how many."""

    __slots__ = ("count", "greatest", "keys")

    def __init__(self, arguments: Sequence[bytes]) -> None:
        """Read ``numkeys key … MIN|MAX [COUNT count]``. Raises CommandError."""
        self.keys, self.greatest, self.count = parse_pop(arguments, b"MAX", b"MIN")

    def take(self, client: Session, key: bytes, value: SortedSetValue) -> tuple[bytes, list[bytes]]:
        """Take from one of the keys: the reply, and the command that replicas are told."""
        taken = pop_members(client.db, key, key_slot(key), value, self.count, greatest=self.greatest)
        double = client.proto.double
        pairs = array([array([bulk(member), double(score)]) for member, score in taken])
        return array([bulk(key), pairs]), [pop_word(greatest=self.greatest), key, b"%d" % len(taken)]


def pop_word(*, greatest: bool) -> bytes:
    """The command that takes from this end."""
    return b"ZPOPMAX" if greatest else b"ZPOPMIN"


@command("zmpop")
def zmpop(client: Session, argv: list[bytes]) -> bytes:
    request = PopRequest(argv[1:])
    for key in request.keys:
        value = checked_sorted_set(client.db.peek(key, key_slot(key)))
        if value is not None:
            reply, effect = request.take(client, key, value)
            client.effects = [effect]
            return reply
    return client.proto.null_array
