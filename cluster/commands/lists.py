"""List commands. Redis 7.0: t_list.c. LMPOP is replicated as the LPOP or RPOP that it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cluster import errors
from cluster.commands.arguments import parse_integer, parse_pop
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.keyspace.database import Database
from cluster.keyspace.lists import ListValue
from cluster.resp.encode import EMPTY_ARRAY, MINUS_ONE, OK, ZERO, array, bulk, bulk_array, integer
from cluster.slots.hashing import key_slot

_BAD_RANK: Final = (
    b"ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start "
    b"from the end of the list"
)
_LOWEST: Final = -(2**63)


def checked_list(value: object) -> ListValue | None:
    """The value if it is a list or missing. Raises CommandError (WRONGTYPE)."""
    if value is None or type(value) is ListValue:
        return value
    raise CommandError(errors.WRONGTYPE)


def _read(client: Session, key: bytes) -> ListValue | None:
    return checked_list(client.db.read(key, client.slot))


def _peek(client: Session, key: bytes) -> ListValue | None:
    return checked_list(client.db.peek(key, client.slot))


def _range(value: ListValue, start: int, end: int) -> tuple[int, int]:
    """What LRANGE and LTRIM mean by two inclusive indexes: the first, and the one behind the last; equal if nothing."""
    size = len(value)
    first = max(start + size if start < 0 else start, 0)
    last = min(end + size if end < 0 else end, size - 1)
    return (0, 0) if first > last else (first, last + 1)


def parse_side(word: bytes) -> bool:
    """True for LEFT, False for RIGHT. Raises CommandError."""
    side = word.upper()
    if side not in (b"LEFT", b"RIGHT"):
        raise CommandError(errors.SYNTAX)
    return side == b"LEFT"


# Adding ---------------------------------------------------------------------------------------------------------


def _push(client: Session, argv: list[bytes], *, left: bool, only_existing: bool) -> bytes:
    db, key = client.db, argv[1]
    value = db.peek(key, client.slot)
    if type(value) is ListValue:
        if left:
            value.push_left(argv[2:])
        else:
            value.push_right(argv[2:])
        db.changed(key, len(argv) - 2)
    elif value is not None:
        raise CommandError(errors.WRONGTYPE)
    elif only_existing:
        return ZERO
    else:
        value = ListValue.of(argv[:1:-1] if left else argv[2:])
        db.put(key, client.slot, value)
        db.keyspace.dirty += len(argv) - 3
    if db.keyspace.notifier is not None:
        db.notify("l", b"lpush" if left else b"rpush", key)
    return integer(len(value))


@command("lpush")
def lpush(client: Session, argv: list[bytes]) -> bytes:
    return _push(client, argv, left=True, only_existing=False)


@command("rpush")
def rpush(client: Session, argv: list[bytes]) -> bytes:
    return _push(client, argv, left=False, only_existing=False)


@command("lpushx")
def lpushx(client: Session, argv: list[bytes]) -> bytes:
    return _push(client, argv, left=True, only_existing=True)


@command("rpushx")
def rpushx(client: Session, argv: list[bytes]) -> bytes:
    return _push(client, argv, left=False, only_existing=True)


@command("linsert")
def linsert(client: Session, argv: list[bytes]) -> bytes:
    db, key = client.db, argv[1]
    side = argv[2].lower()
    if side not in (b"before", b"after"):
        raise CommandError(errors.SYNTAX)
    value = _peek(client, key)
    if value is None:
        return ZERO
    if not value.insert(argv[3], argv[4], after=side == b"after"):
        return MINUS_ONE
    db.changed(key)
    db.notify("l", b"linsert", key)
    return integer(len(value))


@command("lset")
def lset(client: Session, argv: list[bytes]) -> bytes:
    db, key = client.db, argv[1]
    value = _peek(client, key)
    if value is None:
        raise CommandError(errors.NO_SUCH_KEY)
    if not value.set(parse_integer(argv[2]), argv[3]):
        raise CommandError(errors.INDEX_OUT_OF_RANGE)
    db.changed(key)
    db.notify("l", b"lset", key)
    return OK


# Taking ---------------------------------------------------------------------------------------------------------


def after_removal(db: Database, key: bytes, slot: int, value: ListValue, count: int, event: bytes) -> None:
    """Count ``count`` changes, say what happened, and delete the key if nothing is left."""
    if db.keyspace.notifier is not None:
        db.notify("l", event, key)
    if value:
        db.changed(key, count)
    else:
        db.delete(key, slot)
        db.keyspace.dirty += count - 1
        db.notify("g", b"del", key)


def _pop(client: Session, argv: list[bytes], *, left: bool) -> bytes:
    if len(argv) > 3:
        raise errors.wrong_arity(b"lpop" if left else b"rpop")
    db, key = client.db, argv[1]
    if len(argv) == 2:
        value = _peek(client, key)
        if value is None:
            return client.proto.null
        element = value.pop_left() if left else value.pop_right()
        after_removal(db, key, client.slot, value, 1, b"lpop" if left else b"rpop")
        return bulk(element)
    count = parse_integer(argv[2], errors.OUT_OF_RANGE_POSITIVE)
    if count < 0:
        raise CommandError(errors.OUT_OF_RANGE_POSITIVE)
    value = _peek(client, key)
    if value is None:
        return client.proto.null_array
    if count == 0:
        return EMPTY_ARRAY
    return bulk_array(_take(db, key, client.slot, value, count, left=left))


def _take(db: Database, key: bytes, slot: int, value: ListValue, count: int, *, left: bool) -> list[bytes]:
    """Take up to ``count`` elements from one side, with all that follows from it."""
    taken = value.pop_many_left(count) if left else value.pop_many_right(count)
    after_removal(db, key, slot, value, len(taken), b"lpop" if left else b"rpop")
    return taken


@command("lpop")
def lpop(client: Session, argv: list[bytes]) -> bytes:
    return _pop(client, argv, left=True)


@command("rpop")
def rpop(client: Session, argv: list[bytes]) -> bytes:
    return _pop(client, argv, left=False)


class PopRequest:
    """LMPOP's and BLMPOP's arguments: of which keys, from which side, how many."""

    __slots__ = ("count", "keys", "left")

    def __init__(self, arguments: Sequence[bytes]) -> None:
        """Read ``numkeys key … LEFT|RIGHT [COUNT count]``. Raises CommandError."""
        self.keys, self.left, self.count = parse_pop(arguments, b"LEFT", b"RIGHT")

    def take(self, db: Database, key: bytes, value: ListValue) -> tuple[bytes, list[bytes]]:
        """Take from one of the keys: the reply, and the command that replicas are told."""
        taken = _take(db, key, key_slot(key), value, self.count, left=self.left)
        effect = [b"LPOP" if self.left else b"RPOP", key, b"%d" % len(taken)]
        return array([bulk(key), bulk_array(taken)]), effect


@command("lmpop")
def lmpop(client: Session, argv: list[bytes]) -> bytes:
    request = PopRequest(argv[1:])
    for key in request.keys:
        value = checked_list(client.db.peek(key, key_slot(key)))
        if value is not None:
            reply, effect = request.take(client.db, key, value)
            client.effects = [effect]
            return reply
    return client.proto.null_array


@command("lrem")
def lrem(client: Session, argv: list[bytes]) -> bytes:
    db, key = client.db, argv[1]
    count = parse_integer(argv[2])
    value = _peek(client, key)
    if value is None:
        return ZERO
    removed = value.remove(argv[3], count)
    if removed:
        after_removal(db, key, client.slot, value, removed, b"lrem")
    return integer(removed)


@command("ltrim")
def ltrim(client: Session, argv: list[bytes]) -> bytes:
    start, end = parse_integer(argv[2]), parse_integer(argv[3])
    value = _peek(client, argv[1])
    if value is None:
        return OK
    before = len(value)
    first, stop = _range(value, start, end)
    value.trim(first, stop)
    after_removal(client.db, argv[1], client.slot, value, before - len(value), b"ltrim")
    return OK


# From one list to another ---------------------------------------------------------------------------------------


def move_element(
    db: Database,
    source_key: bytes,
    target_key: bytes,
    source: ListValue,
    *,
    from_left: bool,
    to_left: bool,
    changes: int = 1,
) -> bytes:
    """Take an element from a list and put it on another, or the same; returns it. Raises CommandError (WRONGTYPE)."""
    source_slot, target_slot = key_slot(source_key), key_slot(target_key)
    target = checked_list(db.peek(target_key, target_slot))
    element = source.pop_left() if from_left else source.pop_right()
    is_new = target is None
    if target is None:
        target = ListValue()
    if to_left:
        target.push_left([element])
    else:
        target.push_right([element])
    if is_new:
        db.put(target_key, target_slot, target)
        db.keyspace.dirty -= 1
    else:
        db.changed(target_key, 0)
    db.notify("l", b"lpush" if to_left else b"rpush", target_key)
    after_removal(db, source_key, source_slot, source, changes, b"lpop" if from_left else b"rpop")
    return element


def _move(client: Session, argv: list[bytes], *, from_left: bool, to_left: bool) -> bytes:
    source = checked_list(client.db.peek(argv[1], key_slot(argv[1])))
    if source is None:
        return client.proto.null
    return bulk(move_element(client.db, argv[1], argv[2], source, from_left=from_left, to_left=to_left))


@command("lmove")
def lmove(client: Session, argv: list[bytes]) -> bytes:
    return _move(client, argv, from_left=parse_side(argv[3]), to_left=parse_side(argv[4]))


@command("rpoplpush")
def rpoplpush(client: Session, argv: list[bytes]) -> bytes:
    return _move(client, argv, from_left=False, to_left=True)


# Reading --------------------------------------------------------------------------------------------------------


@command("llen")
def llen(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1])
    return ZERO if value is None else integer(len(value))


@command("lindex")
def lindex(client: Session, argv: list[bytes]) -> bytes:
    value = _read(client, argv[1])
    if value is None:
        return client.proto.null
    return client.proto.bulk_or_null(value.get(parse_integer(argv[2])))


@command("lrange")
def lrange(client: Session, argv: list[bytes]) -> bytes:
    start, end = parse_integer(argv[2]), parse_integer(argv[3])
    value = _read(client, argv[1])
    if value is None:
        return EMPTY_ARRAY
    first, stop = _range(value, start, end)
    found = value.slice(first, stop)
    return bulk_array(found) if found else EMPTY_ARRAY


@command("lpos")
def lpos(client: Session, argv: list[bytes]) -> bytes:
    rank, count, most = _parse_lpos(argv[3:])
    value = _read(client, argv[1])
    if value is None:
        return client.proto.null if count is None else EMPTY_ARRAY
    backwards = rank < 0
    # The negative of the lowest integer is itself in C, and every match is beyond it.
    wanted = abs(rank) if rank != _LOWEST else 1
    last = len(value) - 1
    found = []
    for ordinal, distance in enumerate(value.positions(argv[2], most, backwards=backwards), 1):
        if ordinal < wanted:
            continue
        found.append(integer(last - distance if backwards else distance))
        if count is None or len(found) == count:
            break
    if count is not None:
        return array(found)
    return found[0] if found else client.proto.null


def _parse_lpos(options: list[bytes]) -> tuple[int, int | None, int]:
    """RANK, COUNT (None: not given) and MAXLEN. Raises CommandError."""
    rank, count, most = 1, None, 0
    words = iter(options)
    for word in words:
        option = word.upper()
        argument = next(words, None)
        if argument is None or option not in (b"RANK", b"COUNT", b"MAXLEN"):
            raise CommandError(errors.SYNTAX)
        if option == b"RANK":
            rank = parse_integer(argument)
            if rank == 0:
                raise CommandError(_BAD_RANK)
            continue
        negative = b"ERR %b can't be negative" % option
        number = parse_integer(argument, negative)
        if number < 0:
            raise CommandError(negative)
        if option == b"COUNT":
            count = number
        else:
            most = number
    return rank, count, most
