"""Databases that announce each key that comes into being: the event ``new`` of class ``n`` (dbAdd in db.c).

Hardly anybody asks for that event, and to know that a key is new costs a look at what was there, for every write. So it
is a class of its own, which the databases of a keyspace take on while the event is wanted.
"""

from __future__ import annotations

from cluster.keyspace.database import Database, Keyspace, Value


class AnnouncingDatabase(Database):
    """A database that says ``new`` before whatever a command says of a key that was not there."""

    __slots__ = ()

    def put(self, key: bytes, slot: int, value: Value, *, keep_ttl: bool = False) -> None:
        is_new = self.peek(key, slot) is None
        super().put(key, slot, value, keep_ttl=keep_ttl)
        if is_new:
            self.notify("n", b"new", key)

    def put_many(self, keys: list[bytes], values: list[Value], slot: int) -> None:
        for key, value in zip(keys, values, strict=True):
            self.put(key, slot, value)


def announce_new_keys(keyspace: Keyspace, *, wanted: bool) -> None:
    """Have every database announce new keys, or not."""
    for database in keyspace.databases:
        database.__class__ = AnnouncingDatabase if wanted else Database
