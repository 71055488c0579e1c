"""The sorted set commands that wait for members. Redis 7.0: t_zset.c, blocked.c (serveClientsBlockedOnSortedSetKey).

Replicas are told what was taken: ZPOPMIN, ZPOPMAX.
"""

from __future__ import annotations

from collections.abc import Callable

from cluster.commands.blocking import KeyWaiter, may_block, parse_deadline
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.commands.sorted_sets import PopRequest, checked_sorted_set, pop_members, pop_word
from cluster.keyspace.sorted_sets import SortedSetValue
from cluster.resp.encode import array, bulk
from cluster.slots.hashing import key_slot

_Take = Callable[[bytes, SortedSetValue], tuple[bytes, list[bytes]]]
"""``take(key, value)`` takes what the client wants: the reply and the effect."""


def _run(client: Session, keys: list[bytes], deadline_ms: int | None, take: _Take) -> bytes | None:
    """Take from the first of the keys that is there, or wait for one."""
    db = client.db
    for key in keys:
        value = checked_sorted_set(db.peek(key, key_slot(key)))
        if value is not None:
            reply, effect = take(key, value)
            client.effects = [effect]
            return reply
    if not may_block(client):
        return client.proto.null_array

    def serve(key: bytes, value: SortedSetValue) -> bytes:
        reply, effect = take(key, value)
        db.keyspace.propagate(db.index, effect)
        return reply

    client.server.blocking.wait(
        KeyWaiter(client, db, "zset", tuple(dict.fromkeys(keys)), SortedSetValue, serve), deadline_ms
    )
    return None


def _pop(client: Session, argv: list[bytes], *, greatest: bool) -> bytes | None:
    def take(key: bytes, value: SortedSetValue) -> tuple[bytes, list[bytes]]:
        ((member, score),) = pop_members(client.db, key, key_slot(key), value, 1, greatest=greatest)
        return array([bulk(key), bulk(member), client.proto.double(score)]), [pop_word(greatest=greatest), key]

    return _run(client, argv[1:-1], parse_deadline(argv[-1]), take)


@command("bzpopmin")
def bzpopmin(client: Session, argv: list[bytes]) -> bytes | None:
    return _pop(client, argv, greatest=False)


@command("bzpopmax")
def bzpopmax(client: Session, argv: list[bytes]) -> bytes | None:
    return _pop(client, argv, greatest=True)


@command("bzmpop")
def bzmpop(client: Session, argv: list[bytes]) -> bytes | None:
    request = PopRequest(argv[2:])

    def take(key: bytes, value: SortedSetValue) -> tuple[bytes, list[bytes]]:
        return request.take(client, key, value)

    return _run(client, request.keys, parse_deadline(argv[1]), take)
