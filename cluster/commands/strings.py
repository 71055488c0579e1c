"""String commands. Redis 7.0: t_string.c. Replicated as effects: absolute expiry times, final values of float sums."""

from __future__ import annotations

import enum
from typing import Final

import attrs

from cluster import errors
from cluster.commands.arguments import expire_time_ms, parse_integer
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.keyspace import long_double
from cluster.keyspace.database import Value
from cluster.keyspace.strings import (
    INT64_MAX,
    INT64_MIN,
    PlainText,
    StringValue,
    is_string,
    parse_int64,
    string_length,
    to_bytes,
)
from cluster.resp.encode import EMPTY_BULK, OK, ONE, ZERO, array, bulk, integer
from cluster.slots.hashing import key_slot

_BIG_BYTES: Final = 64 * 1024
"""A value from this size on is not copied into its reply: however many wait to be sent, it is there once."""
_FAR_FROM_OVERFLOW: Final = 1 << 60
"""The compiled build compares with a number of this size in no time, with one of 64 bits by a call."""
_TOO_LONG: Final = b"ERR string exceeds maximum allowed size (proto-max-bulk-len)"


def string_or_none(value: Value | None) -> StringValue | None:
    """The value if it is a string or missing. Raises CommandError (WRONGTYPE)."""
    if value is None or is_string(value):
        return value
    raise CommandError(errors.WRONGTYPE)


# Reading --------------------------------------------------------------------------------------------------------


@command("get")
def get(client: Session, argv: list[bytes]) -> bytes | None:
    value = client.db.read(argv[1], client.slot)
    if type(value) is bytes:
        size = len(value)
        if size >= _BIG_BYTES and client.plain:
            client.out += (b"$%d\r\n" % size, value, b"\r\n")
            client.has_big_output = True
            return None
        return b"$%d\r\n%b\r\n" % (size, value)
    if value is None:
        return client.proto.null
    if not is_string(value):
        raise CommandError(errors.WRONGTYPE)
    return bulk(to_bytes(value))


@command("mget")
def mget(client: Session, argv: list[bytes]) -> bytes:
    read = client.db.read
    null = client.proto.null
    parts = []
    for key in argv[1:]:
        value = read(key, key_slot(key))
        parts.append(bulk(to_bytes(value)) if is_string(value) else null)
    return array(parts)


@command("strlen")
def strlen(client: Session, argv: list[bytes]) -> bytes:
    value = string_or_none(client.db.read(argv[1], client.slot))
    return ZERO if value is None else integer(string_length(value))


@command("getrange")
@command("substr")
def getrange(client: Session, argv: list[bytes]) -> bytes:
    start, end = parse_integer(argv[2]), parse_integer(argv[3])
    value = string_or_none(client.db.read(argv[1], client.slot))
    if value is None:
        return EMPTY_BULK
    content = value if isinstance(value, bytearray) else to_bytes(value)
    size = len(content)
    if start < 0 and end < 0 and start > end:
        return EMPTY_BULK
    start = max(size + start, 0) if start < 0 else start
    end = max(size + end, 0) if end < 0 else min(end, size - 1)
    if start > end or size == 0:
        return EMPTY_BULK
    return bulk(content[start : end + 1])


# Storing --------------------------------------------------------------------------------------------------------


class _Condition(enum.Enum):
    NX = b"NX"
    XX = b"XX"


@attrs.define
class _SetOptions:
    condition: _Condition | None = None
    get: bool = False
    keep_ttl: bool = False
    persist: bool = False
    expire_word: bytes = b""
    """EX, PX, EXAT or PXAT."""
    expire_text: bytes = b""

    def has_expiry_choice(self) -> bool:
        return self.keep_ttl or self.persist or bool(self.expire_word)


_EXPIRE_WORDS: Final = frozenset({b"EX", b"PX", b"EXAT", b"PXAT"})


def _parse_set_options(argv: list[bytes], first: int, *, for_getex: bool) -> _SetOptions:
    """The options of SET and GETEX from ``argv[first]`` on. Raises CommandError (syntax)."""
    options = _SetOptions()
    words = iter(argv[first:])
    for word in words:
        option = word.upper()
        if option in _EXPIRE_WORDS and (not options.has_expiry_choice() or options.expire_word == option):
            argument = next(words, None)
            if argument is None:
                raise CommandError(errors.SYNTAX)
            options.expire_word, options.expire_text = option, argument
        elif for_getex:
            if option != b"PERSIST" or options.keep_ttl or options.expire_word:
                raise CommandError(errors.SYNTAX)
            options.persist = True
        elif option in (b"NX", b"XX") and options.condition in (None, _Condition(option)):
            options.condition = _Condition(option)
        elif option == b"GET":
            options.get = True
        elif option == b"KEEPTTL" and not options.expire_word:
            options.keep_ttl = True
        else:
            raise CommandError(errors.SYNTAX)
    return options


def _absolute_expiry(client: Session, word: bytes, text: bytes, command_name: bytes) -> int:
    """The Unix time in ms that an EX/PX/EXAT/PXAT option means. Raises CommandError."""
    amount = parse_integer(text)
    if amount <= 0:
        raise CommandError(b"ERR invalid expire time in '%b' command" % command_name)
    return expire_time_ms(
        amount,
        in_seconds=word in (b"EX", b"EXAT"),
        relative_to_ms=client.db.keyspace.now_ms if word in (b"EX", b"PX") else 0,
        command=command_name,
    )


@command("set")
def set_(client: Session, argv: list[bytes]) -> bytes:
    db = client.db
    key = argv[1]
    if len(argv) == 3:
        db.put(key, client.slot, argv[2])
        if db.keyspace.notifier is not None:
            db.notify("$", b"set", key)
        return OK
    options = _parse_set_options(argv, 3, for_getex=False)
    at_ms = None
    if options.expire_word:
        at_ms = _absolute_expiry(client, options.expire_word, options.expire_text, b"set")
    return _set(client, argv, options, at_ms)


def _set(client: Session, argv: list[bytes], options: _SetOptions, at_ms: int | None) -> bytes:
    db, slot, key, value = client.db, client.slot, argv[1], argv[2]
    reply = OK
    if options.get:
        old_value = string_or_none(db.read(key, slot))
        reply = client.proto.null if old_value is None else bulk(to_bytes(old_value))
    found = db.peek(key, slot) is not None
    if options.condition is not None and found == (options.condition is _Condition.NX):
        return reply if options.get else client.proto.null
    db.put(key, slot, value, keep_ttl=options.keep_ttl)
    db.notify("$", b"set", key)
    if at_ms is not None:
        db.set_expiry(key, at_ms)
        client.effects = [[b"SET", key, value, b"PXAT", b"%d" % at_ms]]
        db.notify("g", b"expire", key)
    elif options.get:
        client.effects = [argv[:3] + [word for word in argv[3:] if word.upper() != b"GET"]]
    return reply


@command("setnx")
def setnx(client: Session, argv: list[bytes]) -> bytes:
    if client.db.exists(argv[1], client.slot):
        return ZERO
    client.db.put(argv[1], client.slot, argv[2])
    client.db.notify("$", b"set", argv[1])
    return ONE


@command("setex")
def setex(client: Session, argv: list[bytes]) -> bytes:
    at_ms = _absolute_expiry(client, b"EX", argv[2], b"setex")
    return _set(client, [argv[0], argv[1], argv[3]], _SetOptions(), at_ms)


@command("psetex")
def psetex(client: Session, argv: list[bytes]) -> bytes:
    at_ms = _absolute_expiry(client, b"PX", argv[2], b"psetex")
    return _set(client, [argv[0], argv[1], argv[3]], _SetOptions(), at_ms)


@command("getset")
def getset(client: Session, argv: list[bytes]) -> bytes:
    old_value = string_or_none(client.db.read(argv[1], client.slot))
    client.db.put(argv[1], client.slot, argv[2])
    client.db.notify("$", b"set", argv[1])
    client.effects = [[b"SET", argv[1], argv[2]]]
    return client.proto.null if old_value is None else bulk(to_bytes(old_value))


@command("getdel")
def getdel(client: Session, argv: list[bytes]) -> bytes:
    db, key = client.db, argv[1]
    value = string_or_none(db.read(key, client.slot))
    if value is None:
        return client.proto.null
    reply = bulk(to_bytes(value))
    db.delete(key, client.slot)
    db.notify("g", b"del", key)
    client.effects = [[b"UNLINK" if client.server.settings.lazyfree_lazy_user_del else b"DEL", key]]
    return reply


@command("getex")
def getex(client: Session, argv: list[bytes]) -> bytes:
    options = _parse_set_options(argv, 2, for_getex=True)
    db, key = client.db, argv[1]
    value = string_or_none(db.read(key, client.slot))
    if value is None:
        return client.proto.null
    at_ms = None
    if options.expire_word:
        at_ms = _absolute_expiry(client, options.expire_word, options.expire_text, b"getex")
    reply = bulk(to_bytes(value))
    client.effects = []
    if at_ms is not None:
        absolute = options.expire_word in (b"EXAT", b"PXAT")
        if absolute and at_ms <= db.keyspace.now_ms and not db.keyspace.is_replica:
            db.delete(key, client.slot)
            client.effects = [[db.keyspace.deletion_word, key]]
            db.notify("g", b"del", key)
        else:
            db.set_expiry(key, at_ms)
            db.changed(key)
            client.effects = [[b"PEXPIREAT", key, b"%d" % at_ms]]
            db.notify("g", b"expire", key)
    elif options.persist and db.persist(key):
        db.changed(key)
        client.effects = [[b"PERSIST", key]]
        db.notify("g", b"persist", key)
    return reply


@command("mset")
def mset(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) % 2 == 0:
        raise errors.wrong_arity(b"mset")
    _set_pairs(client, argv)
    return OK


@command("msetnx")
def msetnx(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) % 2 == 0:
        raise errors.wrong_arity(b"msetnx")
    if any(client.db.exists(key, key_slot(key)) for key in argv[1::2]):
        return ZERO
    _set_pairs(client, argv)
    return ONE


def _set_pairs(client: Session, argv: list[bytes]) -> None:
    db = client.db
    if db.keyspace.notifier is not None:
        for index in range(1, len(argv), 2):
            db.put(argv[index], key_slot(argv[index]), argv[index + 1])
            db.notify("$", b"set", argv[index])
    elif client.server.cluster is not None:
        # In cluster mode the dispatcher has seen that all keys share the slot.
        db.put_many(argv[1::2], argv[2::2], client.slot)
    else:
        for index in range(1, len(argv), 2):
            db.put(argv[index], key_slot(argv[index]), argv[index + 1])


# Changing -------------------------------------------------------------------------------------------------------


@command("incr")
def incr(client: Session, argv: list[bytes]) -> bytes:
    return _increment(client, argv[1], 1)


@command("decr")
def decr(client: Session, argv: list[bytes]) -> bytes:
    return _increment(client, argv[1], -1)


@command("incrby")
def incrby(client: Session, argv: list[bytes]) -> bytes:
    return _increment(client, argv[1], parse_integer(argv[2]))


@command("decrby")
def decrby(client: Session, argv: list[bytes]) -> bytes:
    amount = parse_integer(argv[2])
    if amount == INT64_MIN:
        raise CommandError(b"ERR decrement would overflow")
    return _increment(client, argv[1], -amount)


def _increment(client: Session, key: bytes, amount: int) -> bytes:
    db = client.db
    value = db.peek(key, client.slot)
    if type(value) is not int:
        if value is None:
            value = 0
        elif not is_string(value):
            raise CommandError(errors.WRONGTYPE)
        else:
            parsed = parse_int64(to_bytes(value))
            if parsed is None:
                raise CommandError(errors.NOT_AN_INTEGER)
            value = parsed
    total = value + amount
    if not -_FAR_FROM_OVERFLOW < total < _FAR_FROM_OVERFLOW and not INT64_MIN <= total <= INT64_MAX:
        raise CommandError(errors.OVERFLOW)
    db.put(key, client.slot, total, keep_ttl=True)
    if db.keyspace.notifier is not None:
        db.notify("$", b"incrby", key)
    return integer(total)


@command("incrbyfloat")
def incrbyfloat(client: Session, argv: list[bytes]) -> bytes:
    db, key = client.db, argv[1]
    value = string_or_none(db.peek(key, client.slot))
    current = long_double.parse_long_double(b"0" if value is None else to_bytes(value))
    amount = long_double.parse_long_double(argv[2])
    if current is None or amount is None:
        raise CommandError(errors.NOT_A_FLOAT)
    try:
        text = long_double.format_long_double(long_double.add(current, amount))
    except OverflowError:
        raise CommandError(b"ERR increment would produce NaN or Infinity") from None
    db.put(key, client.slot, PlainText(text), keep_ttl=True)
    db.notify("$", b"incrbyfloat", key)
    client.effects = [[b"SET", key, text, b"KEEPTTL"]]
    return bulk(text)


def _check_length(client: Session, size: int) -> None:
    if size > client.server.settings.proto_max_bulk_len and not client.is_master_link:
        raise CommandError(_TOO_LONG)


def _mutable(client: Session, key: bytes, value: StringValue) -> bytearray:
    """The value as a bytearray that stands in the keyspace in its place."""
    if isinstance(value, bytearray):
        return value
    grown = bytearray(to_bytes(value))
    client.db.slots[client.slot][key] = grown
    return grown


@command("append")
def append(client: Session, argv: list[bytes]) -> bytes:
    db, key = client.db, argv[1]
    value = string_or_none(db.peek(key, client.slot))
    if value is None:
        db.put(key, client.slot, argv[2])
        size = len(argv[2])
    else:
        _check_length(client, string_length(value) + len(argv[2]))
        grown = _mutable(client, key, value)
        grown += argv[2]
        db.changed(key)
        size = len(grown)
    db.notify("$", b"append", key)
    return integer(size)


@command("setrange")
def setrange(client: Session, argv: list[bytes]) -> bytes:
    db, key, patch = client.db, argv[1], argv[3]
    offset = parse_integer(argv[2])
    if offset < 0:
        raise CommandError(b"ERR offset is out of range")
    value = string_or_none(db.peek(key, client.slot))
    if not patch:
        return ZERO if value is None else integer(string_length(value))
    _check_length(client, offset + len(patch))
    if value is None:
        content = bytearray(offset) + patch
        db.put(key, client.slot, content)
    else:
        content = _mutable(client, key, value)
        if len(content) < offset:
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(patch)] = patch
        db.changed(key)
    db.notify("$", b"setrange", key)
    return integer(len(content))
