"""Databases that announce each key that comes into being: the event ``new`` of class ``n`` (dbAdd in db.c).

Hardly anybody asks for that event, and to know that a key is new costs a look at what was there, for every write. So it
is a class of its own, which a database takes on while the event is wanted: in front of the class that it has already.
"""

from __future__ import annotations

from cluster.keyspace.database import Database, Keyspace, Value


class AnnouncingDatabase(Database):
    """A database that says ``new`` before whatever a command says of a key that was not there."""

    __slots__ = ()

    def put(self, key: bytes, slot: int, value: Value, *, keep_ttl: bool = False) -> None:
        if self.peek(key, slot) is None:
            self.notify("n", b"new", key)
        super().put(key, slot, value, keep_ttl=keep_ttl)

    def put_many(self, keys: list[bytes], values: list[Value], slot: int) -> None:
        for key, value in zip(keys, values, strict=True):
            self.put(key, slot, value)


_variants: dict[str, type[Database]] = {Database.__name__: AnnouncingDatabase}


def _announcing(plain: type[Database]) -> type[Database]:
    """The class that announces new keys and is otherwise ``plain``."""
    name = plain.__name__
    if name not in _variants:
        _variants[name] = type(f"Announcing{name}", (AnnouncingDatabase, plain), {"__slots__": ()})
    return _variants[name]


def plain_class(database: Database) -> type[Database]:
    """The class of a database, whether or not it announces new keys."""
    present = type(database)
    if not issubclass(present, AnnouncingDatabase):
        return present
    return Database if present is AnnouncingDatabase else present.__bases__[1]


def become(database: Database, plain: type[Database]) -> None:
    """Make ``database`` one of the class ``plain``; if it announces new keys it goes on doing so."""
    database.__class__ = _announcing(plain) if isinstance(database, AnnouncingDatabase) else plain


def announce_new_keys(keyspace: Keyspace, *, wanted: bool) -> None:
    """Have every database announce new keys, or not."""
    for database in keyspace.databases:
        plain = plain_class(database)
        database.__class__ = _announcing(plain) if wanted else plain
