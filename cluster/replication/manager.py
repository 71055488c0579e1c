"""Replication as one thing: the record, the feed to our replicas, and what happens when the role or the master changes.

Role        What commands, the cron, the cluster engine and the link to our master call. Every change of role goes
            through :meth:`Replication.set_master` and :meth:`Replication.unset_master`.
Invariants  A master's replicas keep their connections when it becomes a replica: whether they may go on is known only
            when the new master has answered. Whenever the history changes its name, or is replaced, they are
            disconnected, so that they ask anew.
Source      Redis 7.0 replication.c (replicationSetMaster … replicationCron), server.c (loadDataFromDisk).
Units       ``*_ms`` monotonic milliseconds; offsets in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from cluster.replication.coordinated_failover import CoordinatedFailover
from cluster.replication.feed import ReplicationFeed
from cluster.replication.full_sync import FullSync
from cluster.replication.host import ReplicationHost
from cluster.replication.replica import Replica
from cluster.replication.state import LinkState, ReplicationState, Transfer
from cluster.replication.unit_encoding import NO_DATABASE
from cluster.settings import MasterAddress, Settings

STOOD_STILL_MS = 3000
"""A round of the cron that comes so long after the last one knows nothing of what has arrived meanwhile."""


class Replication:
    """The replication of one server."""

    def __init__(self, settings: Settings, host: ReplicationHost, random: Random, clock_ms: Callable[[], int]) -> None:
        self.settings = settings
        self.host = host
        self.clock_ms = clock_ms
        self.state = ReplicationState(random=random)
        self.feed = ReplicationFeed(self.state, settings, host)
        self.full_sync = FullSync(self.state, self.feed, settings, host)
        self.failover = CoordinatedFailover(self)
        self.sync_partial_ok = 0
        self.sync_partial_err = 0
        self._last_cron_ms: int | None = None

    # --- role --------------------------------------------------------------------------------------------------------

    def set_master(self, host: str, port: int) -> None:
        """Become (or stay) a replica, of the master at this address; begins to connect."""
        state = self.state
        was_master = not state.is_replica
        state.master_host = None  # Nobody's replica while the old link goes.
        self._cache_live_link()
        self.host.unblock_clients()
        self.cancel_link()
        state.master_host, state.master_port = host, port
        self.settings.replicaof = MasterAddress(host, port)
        if was_master:
            self.discard_cached_master()
            # What was produced but not yet handed out belongs to the history that we claim to have.
            self.feed.settle()
            self._cache_myself()
            self.feed.role_changed()
        state.link = LinkState.CONNECT
        self.host.role_changed()
        self.host.log("notice", f"Connecting to MASTER {host}:{port}")
        self.start_connecting()

    def unset_master(self) -> None:
        """Become a master, of a history that continues that of the former master."""
        state = self.state
        if not state.is_replica:
            return
        state.master_host, state.master_port = None, 0
        self.settings.replicaof = None
        self._cache_live_link()
        self.cancel_link()
        self.feed.settle()
        self.discard_cached_master()
        self.host.log("warning", state.shift_replication_id())
        # They can go on at once, but must learn the new id.
        self.feed.disconnect_replicas()
        state.link = LinkState.NONE
        self.feed.selected_database = NO_DATABASE
        # The backlog's time to live without replicas begins now, not when we last had one.
        self.feed.no_replicas_since_ms = self.clock_ms()
        state.down_since_ms = None
        self.feed.role_changed()
        self.host.role_changed()

    def _cache_myself(self, database: int = 0) -> None:
        self.host.log(
            "notice",
            "Before turning into a replica, using my own master parameters to synthesize a cached master: I may be "
            "able to synchronize with the new master with just a partial transfer.",
        )
        self.state.cache_master_using_myself(self.clock_ms(), database)

    def _cache_live_link(self) -> None:
        if self.state.master is not None:
            self.host.log("warning", "Connection with master lost.")
            self.host.log("notice", "Caching the disconnected master state.")
            self.state.cache_master()
            self.state.down_since_ms = self.clock_ms()

    def discard_cached_master(self) -> None:
        """A partial resynchronisation with the former master is no longer possible, or wanted."""
        if self.state.cached_master is not None:
            self.host.log("notice", "Discarding previously cached master state.")
            self.state.cached_master = None

    # --- the link to our master --------------------------------------------------------------------------------------

    def start_connecting(self) -> None:
        """Begin a new attempt; the link's shell does the rest."""
        now_ms = self.clock_ms()
        self.state.link_last_io_ms = now_ms
        self.state.link = LinkState.CONNECTING
        self.host.log("notice", "MASTER <-> REPLICA sync started")
        self.host.connect_to_master()

    def cancel_link(self) -> None:
        """Drop the connection to the master, in whatever state it is; a new one may follow."""
        self.state.transfer = None
        if self.state.link not in (LinkState.NONE, LinkState.CONNECT):
            self.state.link = LinkState.CONNECT
        self.host.drop_master_link()

    def handshake_failed(self) -> None:
        """The attempt came to nothing: the cron makes the next one."""
        self.state.transfer = None
        if self.state.is_replica:
            self.state.link = LinkState.CONNECT

    def retry_link(self) -> None:
        """A transfer failed, or a connection stalled: connect again at once."""
        if not self.state.is_replica:
            return
        self.cancel_link()
        self.host.log(
            "notice", f"Reconnecting to MASTER {self.state.master_host}:{self.state.master_port} after failure"
        )
        self.start_connecting()

    def link_lost(self, desynchronised: bool = False) -> None:
        """The established link is gone; what was applied is remembered, unless the stream made no sense."""
        state = self.state
        if state.master is None:
            return
        self.host.log("warning", "Connection with master lost.")
        if desynchronised or not state.master.acknowledges:
            state.master = None  # There is no place in the stream to come back to.
        else:
            self.host.log("notice", "Caching the disconnected master state.")
            state.cache_master()
        state.down_since_ms = self.clock_ms()
        self.host.drop_master_link()
        state.link = LinkState.CONNECT
        self.host.role_changed()
        if state.is_replica:
            # Not left to the cron: a second more might be the one in which the master's backlog moves on.
            self.host.log("notice", f"Reconnecting to MASTER {state.master_host}:{state.master_port}")
            self.start_connecting()

    def begin_transfer(self) -> None:
        """The master has announced a full synchronisation."""
        now_ms = self.clock_ms()
        self.state.link = LinkState.TRANSFER
        self.state.transfer = Transfer(started_ms=now_ms, last_io_ms=now_ms)

    def attach_to_new_history(self) -> None:
        """Another data set replaces ours: nobody can continue from what we had."""
        self.discard_cached_master()
        self.feed.disconnect_replicas()
        self.feed.free_backlog()

    def full_sync_loaded(self, replid: str, offset: int, database: int) -> None:
        """The master's snapshot is our data set now."""
        self.state.adopt_full_sync(replid, offset, database, self.clock_ms())
        # Kept also without replicas of our own: after a promotion they will want to continue with us.
        self.feed.create_backlog()
        self.host.role_changed()
        self.host.log("notice", "MASTER <-> REPLICA sync: Finished with success")

    def partial_sync_accepted(self, new_replid: str | None) -> None:
        """The master continues where we stopped, perhaps under a new name."""
        state = self.state
        self.feed.settle()
        if new_replid is not None and state.adopt_continued_history(new_replid):
            self.host.log("warning", f"Master replication ID changed to {new_replid}")
            self.feed.disconnect_replicas()
        state.resurrect_cached_master(self.clock_ms())
        # After a restart from a snapshot there is a history but no backlog.
        self.feed.create_backlog()
        self.host.role_changed()
        self.host.log("notice", "MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.")

    def applied(self, data: bytes) -> None:
        """We have executed these bytes of our master's stream: they are part of our own stream now."""
        self.feed.proxy(data)

    def send_ack(self) -> None:
        """Tell our master how far we are."""
        client = self.state.master
        if client is not None:
            text = b"%d" % client.applied_offset
            self.host.send_to_master(b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$%d\r\n%b\r\n" % (len(text), text))

    # --- start-up ----------------------------------------------------------------------------------------------------

    def follow_at_start(self, host: str, port: int) -> None:
        """The replicaof directive, before the data is loaded: a replica from the first moment; the cron connects."""
        self.state.master_host, self.state.master_port = host, port
        self.state.link = LinkState.CONNECT
        self.feed.role_changed()
        self.host.role_changed()

    def restore_history(self, replid: str, offset: int, stream_database: int, as_replica: bool | None = None) -> None:
        """A snapshot loaded at start names the place in a stream at which it was taken.

        A replica (by directive, or ``as_replica``: by what its cluster knows) tries to go on from there. A master
        cannot: writes may have followed the snapshot that only replicas have seen. But a replica that has no more than
        the snapshot may go on with it.
        """
        state = self.state
        if state.is_replica if as_replica is None else as_replica:
            state.replid = replid
            state.master_repl_offset = offset
            self._cache_myself(stream_database)
            return
        state.replid2 = replid
        state.second_repl_offset = offset + 1
        state.master_repl_offset = offset
        self.feed.create_backlog()
        self.feed.no_replicas_since_ms = self.clock_ms()

    # --- periodic ----------------------------------------------------------------------------------------------------

    def before_sleep(self, now_ms: int) -> None:
        """The step before the loop sleeps: stream to replicas, WAIT, coordinated failover."""
        self.feed.before_sleep(now_ms)
        self.failover.update(now_ms)

    def cron(self) -> None:
        """Once a second."""
        now_ms = self.clock_ms()
        # After a long command, or in a stopped process, what the others said waits in the kernel: it is read first,
        # and nobody is taken for silent before.
        stood_still = self._last_cron_ms is not None and now_ms - self._last_cron_ms >= STOOD_STILL_MS
        self._last_cron_ms = now_ms
        self.failover.update(now_ms)
        if not stood_still:
            self._check_link(now_ms)
        if self.state.link is LinkState.CONNECT:
            self.host.log("notice", f"Connecting to MASTER {self.state.master_host}:{self.state.master_port}")
            self.start_connecting()
        if self.state.master is not None and self.state.master.acknowledges and not stood_still:
            # A master that has given us up meanwhile answers with a reset, which costs what it sent before and we can
            # still read; that may be just what its backlog does not have any more.
            self.send_ack()
        self.feed.cron(now_ms, self.host.stream_snapshot_is_running(), stood_still=stood_still)
        self.full_sync.start_if_due(now_ms)
        self.full_sync.remove_file_if_unneeded()
        self.feed.before_sleep(now_ms)

    def _check_link(self, now_ms: int) -> None:
        state = self.state
        timeout_ms = self.settings.repl_timeout * 1000
        if not state.is_replica:
            return
        if state.link is LinkState.CONNECTING or state.link.is_handshake:
            if now_ms - state.link_last_io_ms > timeout_ms:
                self.host.log("warning", "Timeout connecting to the MASTER...")
                self.retry_link()
        elif state.link is LinkState.TRANSFER:
            if state.transfer is not None and now_ms - state.transfer.last_io_ms > timeout_ms:
                self.host.log(
                    "warning",
                    "Timeout receiving bulk data from MASTER... If the problem persists try to set the "
                    "'repl-timeout' parameter in redis.conf to a larger value.",
                )
                self.retry_link()
        elif state.master is not None and now_ms - state.master.last_interaction_ms > timeout_ms:
            self.host.log("warning", "MASTER timeout: no data nor PING received...")
            self.link_lost()

    # --- replicas ----------------------------------------------------------------------------------------------------

    def session_closed(self, session_id: int, replica: Replica | None) -> None:
        """A client connection is gone; ``replica`` is its record if it was one."""
        self.feed.forget(session_id)
        if replica is None or replica not in self.feed.replicas:
            return
        self.host.log("warning", f"Connection with replica {replica.name} lost.")
        was = replica.state
        self.feed.remove(replica, self.clock_ms())
        self.full_sync.replica_gone(replica, was)
