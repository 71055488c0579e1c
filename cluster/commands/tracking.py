"""Client-side caching: which clients may hold which keys, and telling them when those change (tracking.c).

Role        In the default mode the table remembers the keys that a tracking client has read, and tells it once when one
            of them changes. In broadcasting mode clients name prefixes instead, and are told of every change below
            them, once per turn of the loop. While anybody tracks, the table observes the keyspace.
Invariants  A client with a :class:`Tracking` record is in ``clients`` and takes the way through the gates, which say
            whose command is running. What a client's own command invalidates it is told after the reply. Entries of
            clients that are gone, or that stopped tracking, stay until their key changes.
Source      Redis 7.0.15, tracking.c, ``call`` and ``processCommand`` in server.c.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

import attrs

from cluster.commands.context import ServerContext, Session
from cluster.commands.key_positions import keys_of
from cluster.commands.registry import Command, Flag
from cluster.keyspace.database import Database
from cluster.resp.encode import bulk, bulk_array, integer

_CHANNEL: Final = b"__redis__:invalidate"
"""Where RESP2 clients to which invalidations are redirected hear of them."""
_EVICTIONS_PER_ROUND: Final = 100
_CANDIDATES: Final = 1024
_READS_NOTHING_ITSELF: Final = frozenset({b"eval_ro", b"evalsha_ro", b"fcall_ro"})


@attrs.define(eq=False)
class Tracking:
    """What CLIENT TRACKING ON asked for."""

    redirect_id: int = 0
    """The client that is told in this one's place; 0: none."""
    is_broadcast: bool = False
    is_opt_in: bool = False
    is_opt_out: bool = False
    is_noloop: bool = False
    is_caching: bool = False
    """CLIENT CACHING: the next command is the exception to OPTIN or OPTOUT."""
    is_broken: bool = False
    """The client that invalidations are redirected to has gone."""
    prefixes: set[bytes] = attrs.field(factory=set)

    def remembers(self) -> bool:
        """Whether the keys of a command that is now running are remembered."""
        if self.is_broadcast:
            return False
        return self.is_caching if self.is_opt_in else not (self.is_opt_out and self.is_caching)


class _Broadcast:
    """The clients of one prefix, and what changed below it in this turn of the loop."""

    __slots__ = ("clients", "keys")

    def __init__(self) -> None:
        self.clients: dict[Session, None] = {}
        self.keys: dict[bytes, Session | None] = {}
        """Changed key → the client that changed it last, if it was one."""


class TrackingTable:
    """Client-side caching of one server."""

    def __init__(self, server: ServerContext) -> None:
        self._server = server
        self._keyspace = server.keyspace
        self.clients: dict[Session, None] = {}
        self.keys: dict[bytes, int | set[int]] = {}
        """Key → the ids of the clients that may hold it; most keys are held by one."""
        self.item_count = 0
        """How many ids there are in ``keys``."""
        self.prefixes: dict[bytes, _Broadcast] = {}
        self.pending: list[bytes | None] = []
        """What the running command has invalidated for its own client, in order; None: everything."""
        self._current: Session | None = None
        self._eviction_candidates: list[bytes] = []
        self._rounds_over_limit = 0

    # Who tracks -----------------------------------------------------------------------------------------------

    def enable(self, client: Session, wanted: Tracking) -> None:
        """CLIENT TRACKING ON: also for a client that tracks already, whose prefixes stay."""
        if client.tracking is not None:
            wanted.prefixes |= client.tracking.prefixes
            wanted.is_caching = client.tracking.is_caching
        client.tracking = wanted
        for prefix in wanted.prefixes:
            self.prefixes.setdefault(prefix, _Broadcast()).clients[client] = None
        self.clients[client] = None
        self._keyspace.observe(self.key_changed)
        client.refresh_plain()

    def disable(self, client: Session) -> None:
        """The client is told nothing more."""
        record, client.tracking = client.tracking, None
        if record is None:
            return
        for prefix in record.prefixes:
            broadcast = self.prefixes[prefix]
            del broadcast.clients[client]
            if not broadcast.clients:
                del self.prefixes[prefix]
        del self.clients[client]
        self._stop_if_idle()
        client.refresh_plain()

    def _stop_if_idle(self) -> None:
        if not self.clients and not self.keys:
            self._keyspace.unobserve(self.key_changed)

    # Whose command runs ---------------------------------------------------------------------------------------

    def begin_command(self, client: Session) -> None:
        """What changes from now on is this client's doing."""
        self._current = client

    def send_pending(self) -> None:
        """Tell the client whose command is running what it has invalidated for itself."""
        if self.pending:
            pending, self.pending = self.pending, []
            client = self._current
            if client is not None and client.tracking is not None:
                for key in pending:
                    self._send(client, client.proto.null if key is None else bulk_array((key,)))

    def end_command(self, client: Session) -> None:
        """The reply has been written."""
        self.send_pending()
        self._current = None
        record = client.tracking
        if (
            record is not None
            and record.is_caching
            and client.transaction is None
            and not client.last_command.startswith(b"client")
        ):
            record.is_caching = False  # Good for one command, or for one whole transaction.

    # The default mode -----------------------------------------------------------------------------------------

    def remember(self, client: Session, row: Command, argv: list[bytes]) -> None:
        """A client that tracks has run a command: note the keys if it was one that reads."""
        record = client.tracking
        if record is None or not row.flags & Flag.READONLY or row.name in _READS_NOTHING_ITSELF:
            return
        self.remember_keys(client, row, argv)

    def remember_keys(self, client: Session, row: Command, argv: list[bytes]) -> None:
        """Note the keys of a command, whatever it is: for scripts, which have read something."""
        record = client.tracking
        if record is None or not record.remembers() or row.flags & Flag.PUBSUB:
            return
        client_id = client.id
        table = self.keys
        for key in keys_of(row, argv):
            holders = table.get(key)
            if holders is None:
                table[key] = client_id
            elif isinstance(holders, set):
                if client_id in holders:
                    continue
                holders.add(client_id)
            elif holders != client_id:
                table[key] = {holders, client_id}
            else:
                continue
            self.item_count += 1

    def key_changed(self, database: Database, key: bytes) -> None:
        """The observer of the keyspace (trackingInvalidateKey)."""
        if self.prefixes:
            # Redis tells a client that broadcasts of what its scripts do, NOLOOP or not.
            by_nobody = database.keyspace.is_housekeeping or self._server.scripting.current is not None
            changer = None if by_nobody else self._current
            for prefix, broadcast in self.prefixes.items():
                if key.startswith(prefix):
                    broadcast.keys[key] = changer
        holders = self.keys.pop(key, None)
        if holders is not None:
            self._invalidate(key, holders)
            self._stop_if_idle()

    def _invalidate(self, key: bytes, holders: int | set[int], *, at_once: bool = False) -> None:
        client_ids = sorted(holders) if isinstance(holders, set) else (holders,)
        self.item_count -= len(client_ids)
        sessions = self._server.sessions
        for client_id in client_ids:
            target: Session | None = sessions.get(client_id)
            if target is None or target.tracking is None or target.tracking.is_broadcast:
                continue
            if target is self._current:
                if target.tracking.is_noloop:
                    continue
                if not at_once:
                    self.pending.append(key)
                    continue
            self._send(target, bulk_array((key,)))

    def all_keys_gone(self) -> None:
        """FLUSHALL, FLUSHDB, a new data set: whoever tracks, in either mode, must forget everything."""
        for client in sorted(self.clients, key=lambda client: client.id):
            if client is self._current:
                self.pending.append(None)
            else:
                self._send(client, client.proto.null)
        self.keys = {}
        self.item_count = 0
        self._stop_if_idle()

    def limit(self) -> None:
        """Keep to tracking-table-max-keys: forget the keys that were first remembered, and say so.

        Each round that ends above the limit lets the next one work harder (trackingLimitUsedSlots).
        """
        most_keys = self._server.settings.tracking_table_max_keys
        excess = len(self.keys) - most_keys
        if not most_keys or excess <= 0:
            self._rounds_over_limit = 0
            return
        effort = _EVICTIONS_PER_ROUND * (self._rounds_over_limit + 1)
        for _ in range(min(excess, effort)):
            key = self._next_victim()
            self._invalidate(key, self.keys.pop(key), at_once=True)
        self._rounds_over_limit = self._rounds_over_limit + 1 if excess > effort else 0

    def _next_victim(self) -> bytes:
        """One of the oldest keys. Looked up many at a time: a dict is slow to find what is left at its front."""
        candidates = self._eviction_candidates
        while True:
            if not candidates:
                candidates.extend(islice(self.keys, _CANDIDATES))
                candidates.reverse()
            key = candidates.pop()
            if key in self.keys:
                return key

    # Broadcasting mode ----------------------------------------------------------------------------------------

    def broadcast(self) -> None:
        """Before the loop sleeps: tell the clients of each prefix what changed."""
        for prefix in sorted(self.prefixes):
            broadcast = self.prefixes[prefix]
            if broadcast.keys:
                changed, broadcast.keys = broadcast.keys, {}
                self._tell_all(broadcast, changed)

    def _tell_all(self, broadcast: _Broadcast, changed: dict[bytes, Session | None]) -> None:
        everything = bulk_array(sorted(changed))
        for client in tuple(broadcast.clients):
            record = client.tracking
            assert record is not None
            if not record.is_noloop:
                self._send(client, everything)
                continue
            others = sorted(key for key, changer in changed.items() if changer is not client)
            if others:
                self._send(client, bulk_array(others))

    # Telling --------------------------------------------------------------------------------------------------

    def _send(self, client: Session, what: bytes) -> None:
        """Send an invalidation (an array of keys, or null) to a client or whom it redirects to."""
        record = client.tracking
        assert record is not None
        target: Session | None = client
        if record.redirect_id:
            target = self._server.sessions.get(record.redirect_id)
            if target is None:
                record.is_broken = True
                if client.proto.version > 2:
                    client.push(client.proto.push([bulk(b"tracking-redir-broken"), integer(record.redirect_id)]))
                return
        assert target is not None
        if target.replica is not None:
            return
        if target.proto.version > 2:
            target.push(target.proto.push([bulk(b"invalidate"), what]))
        elif record.redirect_id and target.subscriptions is not None:
            target.push(target.proto.push([bulk(b"message"), bulk(_CHANNEL), what]))
        # A RESP2 connection has no place for what it did not ask for.
