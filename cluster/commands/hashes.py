"""Hash commands. Redis 7.0: t_hash.c. HINCRBYFLOAT is replicated as the HSET of its result."""

from __future__ import annotations

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
from cluster.keyspace import long_double
from cluster.keyspace.hashes import HashValue
from cluster.keyspace.scan_table import ScanTable
from cluster.keyspace.strings import INT64_MAX, INT64_MIN, parse_int64
from cluster.resp.encode import EMPTY_ARRAY, OK, ONE, ZERO, array, bulk, bulk_array, integer

_NOT_FINITE: Final = b"ERR increment would produce NaN or Infinity"
_INFINITE_WORDS: Final = frozenset({b"inf", b"infinity"})


def _read(client: Session, key: bytes) -> HashValue | None:
    """The hash for a command that reads. Raises CommandError (WRONGTYPE)."""
    value = client.db.read(key, client.slot)
    if value is None or type(value) is HashValue:
        return value
    raise CommandError(errors.WRONGTYPE)


def _peek(client: Session, key: bytes) -> HashValue | None:
    """The hash for a command that changes it. Raises CommandError (WRONGTYPE)."""
    value = client.db.peek(key, client.slot)
    if value is None or type(value) is HashValue:
        return value
    raise CommandError(errors.WRONGTYPE)


# Setting --------------------------------------------------------------------------------------------------------


def _store(client: Session, key: bytes, value: HashValue | None, pairs: list[bytes], event: bytes) -> int:
    """Set fields (name, text, name, text …) of the hash, a new one for None; returns how many are new."""
    db, settings = client.db, client.server.settings
    changes = len(pairs) // 2
    target = HashValue() if value is None else value
    put = target.put
    created = 0
    if changes == 1:
        created = put(pairs[0], pairs[1], settings)
    else:
        for index in range(0, len(pairs), 2):
            created += put(pairs[index], pairs[index + 1], settings)
    if value is None:
        db.put(key, client.slot, target)
        db.keyspace.dirty += changes - 1
    else:
        db.changed(key, changes)
    if db.keyspace.notifier is not None:
        db.notify("h", event, key)
    return created


@command("hset")
def hset(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) == 4:
        db, key = client.db, argv[1]
        value = db.peek(key, client.slot)
        if type(value) is HashValue:  # What most are: one field of a hash that is there.
            fields = value.fields
            if type(fields) is ScanTable:
                created = fields.set(argv[2], argv[3])
            else:
                created = value.put(argv[2], argv[3], client.server.settings)
            db.changed(key)
            if db.keyspace.notifier is not None:
                db.notify("h", b"hset", key)
            return ONE if created else ZERO
    if len(argv) % 2:
        raise errors.wrong_arity(b"hset")
    return integer(_store(client, argv[1], _peek(client, argv[1]), argv[2:], b"hset"))


@command("hmset")
def hmset(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) % 2:
        raise errors.wrong_arity(b"hmset")
    _store(client, argv[1], _peek(client, argv[1]), argv[2:], b"hset")
    return OK


@command("hsetnx")
def hsetnx(client: Session, argv: list[bytes]) -> bytes:
    value = _peek(client, argv[1])
    if value is not None and argv[2] in value.fields:
        return ZERO
    _store(client, argv[1], value, argv[2:], b"hset")
    return ONE


@command("hincrby")
def hincrby(client: Session, argv: list[bytes]) -> bytes:
    amount = parse_integer(argv[3])
    value = _peek(client, argv[1])
    text = None if value is None else value.get(argv[2])
    current = 0 if text is None else parse_int64(text)
    if current is None:
        raise CommandError(b"ERR hash value is not an integer")
    total = current + amount
    if not INT64_MIN <= total <= INT64_MAX:
        raise CommandError(errors.OVERFLOW)
    _store(client, argv[1], value, [argv[2], b"%d" % total], b"hincrby")
    return integer(total)


def _is_infinite(text: bytes) -> bool:
    return (text[1:] if text[:1] in (b"+", b"-") else text).lower() in _INFINITE_WORDS


@command("hincrbyfloat")
def hincrbyfloat(client: Session, argv: list[bytes]) -> bytes:
    amount = long_double.parse_long_double(argv[3])
    if amount is None or isinstance(amount, float):
        raise CommandError(b"ERR value is NaN or Infinity" if _is_infinite(argv[3]) else errors.NOT_A_FLOAT)
    value = _peek(client, argv[1])
    text = None if value is None else value.get(argv[2])
    current = long_double.parse_long_double(b"0" if text is None else text)
    if current is None:
        assert text is not None
        raise CommandError(_NOT_FINITE if _is_infinite(text) else b"ERR hash value is not a float")
    try:
        total = long_double.format_long_double(long_double.add(current, amount))
    except OverflowError:
        raise CommandError(_NOT_FINITE) from None
    _store(client, argv[1], value, [argv[2], total], b"hincrbyfloat")
    client.effects = [[b"HSET", argv[1], argv[2], total]]
    return bulk(total)


@command("hdel")
def hdel(client: Session, argv: list[bytes]) -> bytes:
    db, key = client.db, argv[1]
    value = _peek(client, key)
    if value is None:
        return ZERO
    removed = 0
    for field in argv[2:]:
        removed += value.remove(field)
    if not removed:
        return ZERO
    if value:
        db.changed(key, removed)
        db.notify("h", b"hdel", key)
    else:
        db.delete(key, client.slot)
        db.keyspace.dirty += removed - 1
        db.notify("h", b"hdel", key)
        db.notify("g", b"del", key)
    return integer(removed)


# Reading --------------------------------------------------------------------------------------------------------


@command("hget")
def hget(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1])
    text = None if value is None else value.fields.get(argv[2])
    return client.proto.null if text is None else b"$%d\r\n%b\r\n" % (len(text), text)


@command("hmget")
def hmget(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1])
    null = client.proto.null
    if value is None:
        return array([null] * (len(argv) - 2))
    get = value.fields.get
    texts = [get(field) for field in argv[2:]]
    return array([null if text is None else bulk(text) for text in texts])


@command("hgetall")
def hgetall(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1])
    if value is None:
        return client.proto.map_header(0)
    # The strings of an array, under the header that the protocol has for a map.
    strings = bulk_array([text for item in value.fields.items() for text in item])
    return client.proto.map_header(len(value)) + strings[strings.index(b"\n") + 1 :]


@command("hkeys")
def hkeys(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1])
    return EMPTY_ARRAY if value is None else bulk_array(value.fields)


@command("hvals")
def hvals(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1])
    return EMPTY_ARRAY if value is None else bulk_array(value.fields.values())


@command("hlen")
def hlen(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1])
    return ZERO if value is None else integer(len(value))


@command("hexists")
def hexists(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1])
    return ONE if value is not None and argv[2] in value.fields else ZERO


@command("hstrlen")
def hstrlen(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1])
    text = None if value is None else value.get(argv[2])
    return ZERO if text is None else integer(len(text))


@command("hscan")
def hscan(client: Session, argv: list[bytes]) -> bytes:
    cursor = parse_cursor(argv[2])
    value = _read(client, argv[1])
    if value is None:
        return EMPTY_SCAN
    options = parse_scan_options(argv[3:])
    cursor, found = value.scan(cursor, options.count)
    return scan_reply(cursor, (text for item in matching(found, options) for text in item))


# Drawing --------------------------------------------------------------------------------------------------------


@command("hrandfield")
def hrandfield(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) == 2:
        value = _read(client, argv[1])
        return client.proto.null if value is None else bulk(value.random_field(client.server.rng))
    count = parse_draw_count(argv[2])
    with_values = len(argv) == 4 and argv[3].lower() == b"withvalues"
    if len(argv) > 3 and not with_values:
        raise CommandError(errors.SYNTAX)
    if with_values and not -(INT64_MAX // 2) <= count <= INT64_MAX // 2:
        raise CommandError(b"ERR value is out of range")
    value = _read(client, argv[1])
    if value is None or count == 0:
        return EMPTY_ARRAY
    check_repeated_draws(client, count)
    rng = client.server.rng
    fields = value.distinct_fields(count, rng) if count > 0 else value.random_fields(-count, rng)
    if not with_values:
        return bulk_array(fields)
    pairs = [(field, value.fields[field]) for field in fields]
    if client.proto.version == 3:
        return array([bulk_array(pair) for pair in pairs])
    return bulk_array([text for pair in pairs for text in pair])
