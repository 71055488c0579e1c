"""The list commands that wait for elements. Redis 7.0: t_list.c (serveClientBlockedOnList).

Replicas are told what was taken: LPOP, RPOP, LMOVE, RPOPLPUSH. Serving a client counts as no change of its own, as in
Redis: the push that it answers has been counted.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.commands.blocking import KeyWaiter, may_block, parse_deadline
from cluster.commands.context import Session
from cluster.commands.lists import PopRequest, after_removal, checked_list, move_element, parse_side
from cluster.commands.registry import command
from cluster.keyspace.lists import ListValue
from cluster.resp.encode import bulk, bulk_array
from cluster.slots.hashing import key_slot

_Take = Callable[[bytes, ListValue, int], tuple[bytes, list[bytes]]]
"""``take(key, value, changes)`` takes what the client wants, counted as so many changes: the reply and the effect."""


def _run(client: Session, keys: list[bytes], deadline_ms: int | None, take: _Take, if_nothing: bytes) -> bytes | None:
    """Take from the first of the keys that is there, or wait for one."""
    db = client.db
    for key in keys:
        value = checked_list(db.peek(key, key_slot(key)))
        if value is not None:
            reply, effect = take(key, value, 1)
            client.effects = [effect]
            return reply
    if not may_block(client):
        return if_nothing

    def serve(key: bytes, value: ListValue) -> bytes:
        reply, effect = take(key, value, 0)
        db.keyspace.propagate(db.index, effect)
        return reply

    client.server.blocking.wait(
        KeyWaiter(client, db, "list", tuple(dict.fromkeys(keys)), ListValue, serve), deadline_ms
    )
    return None


def _pop(client: Session, argv: list[bytes], *, left: bool) -> bytes | None:
    db = client.db

    def take(key: bytes, value: ListValue, changes: int) -> tuple[bytes, list[bytes]]:
        element = value.pop_left() if left else value.pop_right()
        after_removal(db, key, key_slot(key), value, changes, b"lpop" if left else b"rpop")
        return bulk_array((key, element)), [b"LPOP" if left else b"RPOP", key]

    return _run(client, argv[1:-1], parse_deadline(argv[-1]), take, client.proto.null_array)


@command("blpop")
def blpop(client: Session, argv: list[bytes]) -> bytes | None:
    return _pop(client, argv, left=True)


@command("brpop")
def brpop(client: Session, argv: list[bytes]) -> bytes | None:
    return _pop(client, argv, left=False)


@command("blmpop")
def blmpop(client: Session, argv: list[bytes]) -> bytes | None:
    request = PopRequest(argv[2:])
    db = client.db

    def take(key: bytes, value: ListValue, _changes: int) -> tuple[bytes, list[bytes]]:
        return request.take(db, key, value)

    return _run(client, request.keys, parse_deadline(argv[1]), take, client.proto.null_array)


def _move(
    client: Session, argv: list[bytes], words: list[bytes], *, from_left: bool, to_left: bool, timeout: bytes
) -> bytes | None:
    """Run the blocking form of the command ``words``, which name the keys as ``argv`` does."""
    db, target_key = client.db, argv[2]

    def take(key: bytes, value: ListValue, changes: int) -> tuple[bytes, list[bytes]]:
        element = move_element(db, key, target_key, value, from_left=from_left, to_left=to_left, changes=changes)
        # Redis replicates its own words only for a client that had to wait.
        effect = words if changes or len(words) == 3 else [*words[:3], _side(from_left), _side(to_left)]
        return bulk(element), effect

    return _run(client, [argv[1]], parse_deadline(timeout), take, client.proto.null)


@command("blmove")
def blmove(client: Session, argv: list[bytes]) -> bytes | None:
    from_left, to_left = parse_side(argv[3]), parse_side(argv[4])
    return _move(client, argv, [b"LMOVE", *argv[1:5]], from_left=from_left, to_left=to_left, timeout=argv[5])


@command("brpoplpush")
def brpoplpush(client: Session, argv: list[bytes]) -> bytes | None:
    return _move(client, argv, [b"RPOPLPUSH", *argv[1:3]], from_left=False, to_left=True, timeout=argv[3])


def _side(left: bool) -> bytes:
    return b"left" if left else b"right"
