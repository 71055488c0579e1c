"""MULTI, EXEC, DISCARD, WATCH, UNWATCH (multi.c).

A transaction's commands run as one unit: its effects reach replicas together, inside MULTI/EXEC when there are several.
Watching is per key: each database and key knows its watchers through one observer that lives while anybody watches.
"""

from __future__ import annotations

from cluster import errors
from cluster.commands.context import ServerContext, Session, Transaction
from cluster.commands.key_positions import keys_of
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.keyspace.database import Database
from cluster.resp.encode import OK, array, error
from cluster.slots.hashing import key_slot


class WatchTable:
    """Who watches which key; registered as an observer of the keyspace while it is not empty."""

    def __init__(self, server: ServerContext) -> None:
        self._keyspace = server.keyspace
        self._watchers: dict[tuple[int, bytes], list[Session]] = {}

    def add(self, client: Session, database: Database, key: bytes) -> None:
        """Have ``client.watch_broken`` set when the key changes."""
        if any(watched is database and name == key for watched, name, _expired in client.watching):
            return
        client.watching.append((database, key, database.is_expired(key)))
        self._watchers.setdefault((database.index, key), []).append(client)
        self._keyspace.observe(self.key_changed)

    def remove_all(self, client: Session) -> None:
        """Forget everything that ``client`` watches."""
        for database, key, _expired in client.watching:
            watchers = self._watchers[database.index, key]
            watchers.remove(client)
            if not watchers:
                del self._watchers[database.index, key]
        client.watching.clear()
        client.watch_broken = False
        if not self._watchers:
            self._keyspace.unobserve(self.key_changed)

    def key_changed(self, database: Database, key: bytes) -> None:
        """The observer (touchWatchedKey). A key that had expired when WATCH came, and goes now, has not changed."""
        for client in self._watchers.get((database.index, key), ()):
            was_expired = next(
                (expired for watched, name, expired in client.watching if watched is database and name == key), False
            )
            if was_expired and database.slots[key_slot(key)].get(key) is None:
                _note_expired(client, database, key, is_expired=False)
                continue
            client.watch_broken = True

    def database_emptied(self, database: Database, successor: Database | None = None) -> None:
        """Before all keys go (FLUSHALL) or are replaced by those of ``successor`` (SWAPDB): who watches one is told.

        A key that is expired counts as not being there (touchAllWatchedKeysInDb).
        """
        for (index, key), clients in self._watchers.items():
            if index != database.index:
                continue
            slot = key_slot(key)
            goes = key in database.slots[slot]
            comes = successor is not None and key in successor.slots[slot]
            comes_expired = comes and successor is not None and successor.is_expired(key)
            for client in clients if goes or comes else ():
                was_expired = any(
                    expired for watched, name, expired in client.watching if watched is database and name == key
                )
                if was_expired and not comes:
                    _note_expired(client, database, key, is_expired=False)
                elif not was_expired and not goes and comes_expired:
                    _note_expired(client, database, key, is_expired=True)
                elif not (was_expired and comes_expired):
                    client.watch_broken = True


def _note_expired(client: Session, database: Database, key: bytes, *, is_expired: bool) -> None:
    """What the client knows of a watched key: an expired one may go unnoticed, and its coming back is a change."""
    client.watching = [
        (watched, name, is_expired if watched is database and name == key else expired)
        for watched, name, expired in client.watching
    ]


def unwatch_all(client: Session) -> None:
    """Forget what ``client`` watches."""
    if client.watching:
        client.server.watches.remove_all(client)
    client.watch_broken = False


@command("multi")
def multi(client: Session, argv: list[bytes]) -> bytes:
    if client.transaction is not None:
        raise CommandError(b"ERR MULTI calls can not be nested")
    client.transaction = Transaction()
    client.refresh_plain()
    return OK


@command("discard")
def discard(client: Session, argv: list[bytes]) -> bytes:
    if client.transaction is None:
        raise CommandError(b"ERR DISCARD without MULTI")
    _end_transaction(client)
    return OK


@command("watch")
def watch(client: Session, argv: list[bytes]) -> bytes:
    if client.transaction is not None:
        raise CommandError(b"ERR WATCH inside MULTI is not allowed")
    if not client.watch_broken:
        for key in argv[1:]:
            client.server.watches.add(client, client.db, key)
    return OK


@command("unwatch")
def unwatch(client: Session, argv: list[bytes]) -> bytes:
    unwatch_all(client)
    return OK


@command("exec")
def exec_(client: Session, argv: list[bytes]) -> bytes:
    transaction = client.transaction
    if transaction is None:
        raise CommandError(b"ERR EXEC without MULTI")
    broken_watch = client.watch_broken or any(
        database.is_expired(key) and not expired for database, key, expired in client.watching
    )
    if transaction.broken or broken_watch:
        _end_transaction(client)
        if transaction.broken:
            raise CommandError(errors.EXECABORT)
        return client.proto.null_array
    # Watches go first, so that nothing the queue does costs a look at them.
    unwatch_all(client)
    server = client.server
    client.in_exec = True
    client.executing, client.transaction = transaction, None
    replies = []
    try:
        for row, queued in transaction.queue:
            if row.single_key:
                client.slot = key_slot(queued[1])
            elif row.has_keys and (keys := keys_of(row, queued)):
                client.slot = key_slot(keys[0])
            # Rules may have changed since the command was queued, and change while the queue runs.
            denial = server.acl.check(client.user, row, queued)
            if denial is not None:
                server.note_denial(client, denial.reason, denial.subject(queued), context="multi")
                server.statistics.count_error(denial.exec_text())
                replies.append(error(denial.exec_text()))
                continue
            reply = server.run(client, row, queued)
            replies.append(b"" if reply is None else reply)
    finally:
        client.in_exec = False
        client.executing = None
        client.refresh_plain()
    client.effects = []  # The queue's own effects have been collected.
    return array(replies)


def _end_transaction(client: Session) -> None:
    client.transaction = None
    unwatch_all(client)
    client.refresh_plain()
