"""Set commands. Redis 7.0: t_set.c. SPOP is replicated as what it removed (SREM, or DEL)."""

from __future__ import annotations

from itertools import islice
from typing import Final

from cluster import errors
from cluster.commands.arguments import parse_integer
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
from cluster.keyspace.sets import SetValue, difference, intersection, union
from cluster.resp.encode import EMPTY_ARRAY, ONE, ZERO, array, bulk, bulk_array, integer
from cluster.slots.hashing import key_slot

_REBUILD_FACTOR: Final = 5
"""SPOP that leaves less than a fifth of what it takes builds a new set of the rest (SPOP_MOVE_STRATEGY_MUL)."""


def _read(client: Session, key: bytes, slot: int) -> SetValue | None:
    """The set for a command that reads. Raises CommandError (WRONGTYPE)."""
    value = client.db.read(key, slot)
    if value is None or type(value) is SetValue:
        return value
    raise CommandError(errors.WRONGTYPE)


def _checked(value: object) -> SetValue | None:
    """The value if it is a set or missing. Raises CommandError (WRONGTYPE)."""
    if value is None or type(value) is SetValue:
        return value
    raise CommandError(errors.WRONGTYPE)


def _set_reply(client: Session, members: list[bytes]) -> bytes:
    """A set in RESP3, an array in RESP2."""
    packed = bulk_array(members) if members else EMPTY_ARRAY
    return packed if client.proto.version == 2 else b"~" + packed[1:]


# Adding and removing --------------------------------------------------------------------------------------------


@command("sadd")
def sadd(client: Session, argv: list[bytes]) -> bytes:
    db, key = client.db, argv[1]
    value = _checked(db.peek(key, client.slot))
    most_integers = client.server.settings.set_max_intset_entries
    if value is None:
        value = SetValue()
        added = sum([value.add(member, most_integers) for member in argv[2:]])
        db.put(key, client.slot, value)
        db.keyspace.dirty += added - 1
    else:
        if len(argv) == 3:
            added = int(value.add(argv[2], most_integers))
        else:
            added = sum([value.add(member, most_integers) for member in argv[2:]])
        if not added:
            return ZERO
        db.changed(key, added)
    if db.keyspace.notifier is not None:
        db.notify("s", b"sadd", key)
    return integer(added)


@command("srem")
def srem(client: Session, argv: list[bytes]) -> bytes:
    db, key = client.db, argv[1]
    value = _checked(db.peek(key, client.slot))
    if value is None:
        return ZERO
    removed = sum([value.remove(member) for member in argv[2:]])
    if not removed:
        return ZERO
    db.keyspace.dirty += removed - 1
    _after_removal(client, key, client.slot, value, b"srem")
    return integer(removed)


def _after_removal(client: Session, key: bytes, slot: int, value: SetValue, event: bytes) -> None:
    """Count one change, say what happened, and delete the key if nothing is left."""
    db = client.db
    if value:
        db.changed(key)
        if db.keyspace.notifier is not None:
            db.notify("s", event, key)
    else:
        db.delete(key, slot)
        db.notify("s", event, key)
        db.notify("g", b"del", key)


@command("smove")
def smove(client: Session, argv: list[bytes]) -> bytes:
    db, source_key, target_key, member = client.db, argv[1], argv[2], argv[3]
    source_slot, target_slot = key_slot(source_key), key_slot(target_key)
    found, other = db.peek(source_key, source_slot), db.peek(target_key, target_slot)
    if found is None:
        return ZERO
    source, target = _checked(found), _checked(other)
    assert source is not None
    if source is target:
        return ONE if member in source else ZERO
    if not source.remove(member):
        return ZERO
    _after_removal(client, source_key, source_slot, source, b"srem")
    most_integers = client.server.settings.set_max_intset_entries
    if target is None:
        target = SetValue()
        target.add(member, most_integers)
        db.put(target_key, target_slot, target)
    elif target.add(member, most_integers):
        db.changed(target_key)
    else:
        return ONE
    db.notify("s", b"sadd", target_key)
    return ONE


@command("spop")
def spop(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) > 3:
        raise CommandError(errors.SYNTAX)
    if len(argv) == 3:
        return _spop_several(client, argv)
    db, key = client.db, argv[1]
    value = _checked(db.peek(key, client.slot))
    if value is None:
        return client.proto.null
    member = value.pop_random(client.server.rng)
    if db.keyspace.followed:
        client.effects = [[b"SREM", key, member]]
    _after_removal(client, key, client.slot, value, b"spop")
    return bulk(member)


def _spop_several(client: Session, argv: list[bytes]) -> bytes:
    db, key, slot = client.db, argv[1], client.slot
    count = parse_integer(argv[2], errors.OUT_OF_RANGE_POSITIVE)
    if count < 0:
        raise CommandError(errors.OUT_OF_RANGE_POSITIVE)
    value = _checked(db.peek(key, slot))
    if value is None or count == 0:
        return _set_reply(client, [])
    size = len(value)
    if count >= size:
        db.keyspace.hits += 1  # Redis answers this case with a SUNION of the one key.
        db.delete(key, slot)
        db.keyspace.dirty += size - 1
        db.notify("s", b"spop", key)
        db.notify("g", b"del", key)
        client.effects = [[b"DEL", key]]
        return _set_reply(client, list(value))
    remaining = size - count
    if remaining * _REBUILD_FACTOR > count:
        popped = value.distinct_members(count, client.server.rng)
        for member in popped:
            value.remove(member)
        db.changed(key, count)
    else:
        kept = value.distinct_members(remaining, client.server.rng)
        for member in kept:
            value.remove(member)
        popped = list(value)
        rest = SetValue.of(kept, client.server.settings.set_max_intset_entries)
        db.put(key, slot, rest, keep_ttl=True)
        db.keyspace.dirty += count - 1
    db.notify("s", b"spop", key)
    client.effects = [[b"SREM", key, member] for member in popped]
    return _set_reply(client, popped)


# Reading --------------------------------------------------------------------------------------------------------


@command("sismember")
def sismember(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1], client.slot)
    return ONE if value is not None and argv[2] in value else ZERO


@command("smismember")
def smismember(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1], client.slot)
    if value is None:
        return array([ZERO] * (len(argv) - 2))
    return array([ONE if member in value else ZERO for member in argv[2:]])


@command("scard")
def scard(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1], client.slot)
    return ZERO if value is None else integer(len(value))


@command("srandmember")
def srandmember(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) > 3:
        raise CommandError(errors.SYNTAX)
    if len(argv) == 2:
        value = _read(client, argv[1], client.slot)
        return client.proto.null if value is None else bulk(value.random_member(client.server.rng))
    count = parse_draw_count(argv[2])
    value = _read(client, argv[1], client.slot)
    if value is None or count == 0:
        return EMPTY_ARRAY
    check_repeated_draws(client, count)
    rng = client.server.rng
    return bulk_array(value.distinct_members(count, rng) if count > 0 else value.random_members(-count, rng))


@command("sscan")
def sscan(client: Session, argv: list[bytes]) -> bytes:
    cursor = parse_cursor(argv[2])
    value = _read(client, argv[1], client.slot)
    if value is None:
        return EMPTY_SCAN
    options = parse_scan_options(argv[3:])
    cursor, found = value.scan(cursor, options.count)
    return scan_reply(cursor, (member for member, _nothing in matching(found, options)))


# Algebra --------------------------------------------------------------------------------------------------------


def _read_all(client: Session, keys: list[bytes]) -> list[SetValue | None]:
    """The sets of several keys. Raises CommandError (WRONGTYPE)."""
    return [_read(client, key, key_slot(key)) for key in keys]


def _intersect(client: Session, keys: list[bytes], most: int | None = None) -> list[bytes]:
    sets = _read_all(client, keys)
    present = [value for value in sets if value is not None]
    return list(islice(intersection(present), most)) if len(present) == len(sets) else []


def _unite(client: Session, keys: list[bytes]) -> SetValue:
    return union(_read_all(client, keys), client.server.settings.set_max_intset_entries)


def _subtract(client: Session, keys: list[bytes]) -> SetValue:
    first, *others = _read_all(client, keys)
    if first is None:
        return SetValue()
    present = [other for other in others if other is not None]
    return difference(first, present, client.server.settings.set_max_intset_entries)


def _store(client: Session, key: bytes, result: SetValue, event: bytes) -> bytes:
    """Put the result of a ...STORE at ``key``; an empty one deletes what is there."""
    db, slot = client.db, key_slot(key)
    if result:
        db.put(key, slot, result)
        db.notify("s", event, key)
    elif db.peek(key, slot) is not None:
        db.delete(key, slot)
        db.notify("g", b"del", key)
    return integer(len(result))


@command("smembers")
@command("sinter")
def sinter(client: Session, argv: list[bytes]) -> bytes:
    return _set_reply(client, _intersect(client, argv[1:]))


@command("sinterstore")
def sinterstore(client: Session, argv: list[bytes]) -> bytes:
    members = _intersect(client, argv[2:])
    result = SetValue.of(members, client.server.settings.set_max_intset_entries)
    return _store(client, argv[1], result, b"sinterstore")


@command("sintercard")
def sintercard(client: Session, argv: list[bytes]) -> bytes:
    bad_count = b"ERR numkeys should be greater than 0"
    count = parse_integer(argv[1], bad_count)
    if count < 1:
        raise CommandError(bad_count)
    if count > len(argv) - 2:
        raise CommandError(b"ERR Number of keys can't be greater than number of args")
    limit = 0
    words = iter(argv[2 + count :])
    for word in words:
        argument = next(words, None)
        if word.upper() != b"LIMIT" or argument is None:
            raise CommandError(errors.SYNTAX)
        limit = parse_integer(argument, b"ERR LIMIT can't be negative")
        if limit < 0:
            raise CommandError(b"ERR LIMIT can't be negative")
    return integer(len(_intersect(client, argv[2 : 2 + count], limit or None)))


@command("sunion")
def sunion(client: Session, argv: list[bytes]) -> bytes:
    return _set_reply(client, list(_unite(client, argv[1:])))


@command("sunionstore")
def sunionstore(client: Session, argv: list[bytes]) -> bytes:
    return _store(client, argv[1], _unite(client, argv[2:]), b"sunionstore")


@command("sdiff")
def sdiff(client: Session, argv: list[bytes]) -> bytes:
    return _set_reply(client, list(_subtract(client, argv[1:])))


@command("sdiffstore")
def sdiffstore(client: Session, argv: list[bytes]) -> bytes:
    return _store(client, argv[1], _subtract(client, argv[2:]), b"sdiffstore")
