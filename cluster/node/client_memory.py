"""What each client holds, and maxmemory-clients: the largest are disconnected while all together hold too much.

Role        :class:`ClientUsage` is the sum behind ``tot-mem`` of CLIENT LIST. While there is a limit, every request
            passes the gates, and a client's usage is noted there, whenever input is left unfinished or output unsent,
            and for all of them once a second. Who is over the limit goes before keys are evicted for it.
Invariants  ``_total`` is the sum of ``_noted``: normal and Pub/Sub clients, not those with CLIENT NO-EVICT alone, which
            count but stay. The links to our master and to replicas neither count nor go.
Costs       Without a limit, nothing. With one, the usage of the client at hand per request.
Spec        networking.c (getClientMemoryUsage, evictClients), server.c (updateClientMemUsageAndBucket).   Units  bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from cluster.commands.channels import Kind
from cluster.errors import CommandError
from cluster.node.memory import CLIENT_BYTES

if TYPE_CHECKING:
    from cluster.node.client import Client
    from cluster.node.server import Server

_POINTER_BYTES: Final = 8
_SMALL_REQUEST_BYTES: Final = 512
"""Every client has that much room for a request and its reply, used or not: a small request changes no sum."""
_BIG_ARGUMENT_BYTES: Final = 32 * 1024
"""From this size on an argument is what was Redis's query buffer, which is empty then (PROTO_MBULK_BIG_ARG)."""
_WATCH_BYTES: Final = 160
"""A watched key: the entries in the client's list and the table, the key's name."""
_SUBSCRIPTION_BYTES: Final = 160
"""A subscription: the entries in the client's and the server's tables, the name."""


@attrs.frozen
class ClientUsage:
    """What one client holds."""

    input: int
    arguments: int
    transaction: int
    ready: int
    """Replies of this pass."""
    unsent: int
    stream: int
    """What a replica has still to be given of the shared stream: no memory of its own."""
    other: int

    @property
    def total(self) -> int:
        """tot-mem."""
        small = max(self.input + self.arguments + self.ready, _SMALL_REQUEST_BYTES)
        return CLIENT_BYTES + small + self.transaction + self.unsent + self.stream + self.other


def usage_of(client: Client) -> ClientUsage:
    """Look at everything a client holds."""
    transaction = client.transaction or client.executing
    queue = [] if transaction is None else transaction.queue
    request = client.request or []
    # A request that runs is still in Redis's query buffer, one that waits is not, those behind it are.
    unread = [request] if client.parked is None else list(client.queued)
    if client.parked is not None and client.parked.kind == "postponed":
        unread = unread[1:]
    held, tracking = client.subscriptions, client.tracking
    names = 0 if held is None else sum(map(held.count, Kind))
    names += 0 if tracking is None else len(tracking.prefixes)
    return ClientUsage(
        input=client.parser.buffered_bytes + sum(map(_encoded_size, unread)),
        arguments=sum(map(len, request)) + client.parser.argument_bytes,
        transaction=sum(len(word) + _POINTER_BYTES for _row, argv in queue for word in argv),
        ready=sum(map(len, client.out)),
        unsent=client.unsent_bytes,
        stream=client.server.feed.stream_bytes_for(client.replica) if client.replica is not None else 0,
        # A big value that has begun counts as a whole: Redis makes the room for it at once.
        other=client.parser.missing_bulk_bytes + _WATCH_BYTES * len(client.watching) + _SUBSCRIPTION_BYTES * names,
    )


def _encoded_size(request: list[bytes]) -> int:
    """What a request took as an array of bulk strings."""
    if not request:
        return 0
    small = [word for word in request if len(word) < _BIG_ARGUMENT_BYTES]
    return len(b"*%d\r\n" % len(request)) + sum(len(b"$%d\r\n" % len(word)) + len(word) + 2 for word in small)


class ClientLimit:
    """maxmemory-clients of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._noted: dict[Client, int] = {}
        self._total = 0
        self._served_last: Client | None = None
        self._was_over = False
        """No client is left to disconnect, which was logged."""
        self.limit_bytes = 0
        """0: there is none."""
        self.settings_changed()

    def settings_changed(self) -> None:
        """maxmemory-clients, or maxmemory, of which it may be a percentage."""
        settings = self._server.settings
        wanted = settings.maxmemory_clients
        self.limit_bytes = wanted if wanted >= 0 else settings.maxmemory * -wanted // 100
        self._noted.clear()
        self._total = 0
        if self.limit_bytes:
            self.note_all()

    def note(self, client: Client) -> None:
        """A client's usage may have changed."""
        if self.limit_bytes and client.replica is None and not client.is_master_link and not client.closed:
            size = usage_of(client).total
            self._total += size - self._noted.get(client, 0)
            self._noted[client] = size
            if self._total > self.limit_bytes:
                self._server.reactor.request_flush()  # Before the loop sleeps, those who hold most go.

    def note_all(self) -> None:
        """Once a second, and when there is a limit at last."""
        if self.limit_bytes:
            for client in list(self._server.sessions.values()):
                self.note(client)

    def forget(self, client: Client) -> None:
        """A client has gone, or is none any more (it became a replica)."""
        self._total -= self._noted.pop(client, 0)
        if self._served_last is client:
            self._served_last = None

    def check(self, client: Client) -> None:
        """At the gates: note what a client asks; raises CommandError, to be read by nobody, if it had to go itself.

        The one before has its reply by now, for which no key should have to go. If it may not have that reply it goes
        here, rather than before the loop sleeps: who is served in the same pass is not to find it, or to go for it.
        """
        last = self._served_last
        if last is not None and last is not client:
            if self._server.exceeds_hard_limit(last, last.output_bytes()):
                self._server.reactor.drop_for_its_output(last)
            else:
                self.note(last)
        self._served_last = client
        self.note(client)
        self.enforce()
        if client.closed:
            raise CommandError(b"ERR client evicted")

    def enforce(self) -> None:
        """Disconnect clients, the largest first, until the limit holds."""
        if not self.limit_bytes or self._total <= self.limit_bytes:
            return
        server = self._server
        candidates = sorted((client for client in self._noted if not client.no_evict), key=self._noted.__getitem__)
        while self._total > self.limit_bytes and candidates:
            client = candidates.pop()
            server.log.notice(f"Evicting client: {server.describe_client(client)}")
            server.statistics.evicted_clients += 1
            self.forget(client)
            server.reactor.disconnect(client)
        is_over = self._total > self.limit_bytes
        if is_over and not self._was_over:
            server.log.warning("Over client maxmemory after evicting all evictable clients")
        self._was_over = is_over
