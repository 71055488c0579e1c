"""What replication asks of the server (cluster.replication.host): sessions, snapshots, the link to the master, role.

One thin adapter: every decision is in cluster.replication, every mechanism in the reactor, saving.py, replica_link.py.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from cluster import clock
from cluster.replication.host import LogLevel, ReplicaSession, SaveInfo
from cluster.replication.replica import RdbRequirement, Replica
from cluster.resp.encode import error

if TYPE_CHECKING:
    from cluster.node.server import Server

_FOREVER_MS = 1 << 60


class ReplicationHost:
    """Implements FeedHost, SnapshotHost and RoleHost for one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._link: Any = None
        """The running cluster.node.replica_link.ReplicaLink, or None."""

    def log(self, level: LogLevel, text: str) -> None:
        getattr(self._server.log, level)(text)

    # Replicas -----------------------------------------------------------------------------------------------

    def flush_soon(self) -> None:
        self._server.reactor.request_flush()

    def close_replica(self, replica: Replica) -> None:
        self._server.close_session(replica.session)  # type: ignore[arg-type]

    def close_when_sent(self, replica: Replica) -> None:
        self._server.close_session(replica.session, after_reply=True)  # type: ignore[arg-type]

    def refuse_replica(self, replica: Replica, message: bytes) -> None:
        replica.session.push(error(message))
        self.close_when_sent(replica)

    def describe_session(self, session: ReplicaSession) -> str:
        return self._server.describe_client(session)  # type: ignore[arg-type]

    def feed_activity_changed(self, active: bool) -> None:
        server = self._server
        server.keyspace.followed = (active or server.aof.wants_effects) and not server.loading

    # Snapshots ----------------------------------------------------------------------------------------------

    def child_is_active(self) -> bool:
        return self._server.saving.child_is_active()

    def disk_snapshot_is_running(self) -> bool:
        return self._server.saving.disk_snapshot_is_running()

    def stream_snapshot_is_running(self) -> bool:
        return self._server.saving.stream_snapshot_is_running()

    def start_disk_snapshot(self, info: SaveInfo) -> bool:
        return self._server.saving.start_disk_snapshot(info)

    def start_stream_snapshot(self, info: SaveInfo, replicas: list[Replica], requirement: RdbRequirement) -> bool:
        return self._server.saving.start_stream_snapshot(info, replicas, requirement)

    def send_snapshot_file(self, replica: Replica) -> bool:
        return self._server.saving.send_snapshot_file(replica)

    def remove_snapshot_file(self) -> None:
        settings = self._server.settings
        try:
            os.unlink(os.path.join(settings.dir, settings.dbfilename))
        except OSError:
            pass

    def delay_small_packets(self, replica: Replica) -> None:
        try:
            sock = self._server.sessions[replica.session.id].sock
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        except (KeyError, OSError):
            pass  # Gone, or a Unix socket.

    def kill_snapshot_child(self) -> None:
        self._server.saving.kill_child()

    # The master ---------------------------------------------------------------------------------------------

    def follow_configured_master(self) -> None:
        """The replicaof directive, before the data is loaded; the cron connects."""
        feed = self._server.feed
        self._server.config.on_change("repl-backlog-size", feed.resize_backlog)
        for name in ("min-replicas-to-write", "min-replicas-max-lag"):
            self._server.config.on_change(name, self._good_replicas_changed)
        address = self._server.settings.replicaof
        if address is not None and self._server.cluster is None:
            self._server.replication.follow_at_start(address.host, address.port)

    def _good_replicas_changed(self) -> None:
        self._server.feed.refresh_good_replicas(clock.monotonic_ms())
        self._server.refresh_plain()

    def connect_to_master(self) -> None:
        from cluster.node.replica_link import ReplicaLink

        self.drop_master_link()
        self._link = ReplicaLink(self._server)
        self._link.start(self._server.nursery)

    def drop_master_link(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def notice_end_of_link(self) -> None:
        if self._link is not None:
            self._link.notice_end()

    def send_to_master(self, data: bytes) -> None:
        if self._link is not None:
            self._link.send(data)

    # The role -----------------------------------------------------------------------------------------------

    def role_changed(self) -> None:
        self._server.refresh_plain()
        self._server.oom_score.apply()
        if not self._server.replication_state.is_replica:
            self._server.aof_role.data_set_is_settled()

    def unblock_clients(self) -> None:
        self._server.unblock_all()

    def pause_writes(self) -> None:
        self._server.pauses.pause_for_failover(_FOREVER_MS)

    def resume_writes(self) -> None:
        self._server.pauses.pause_for_failover(None)

    def writes_paused(self) -> bool:
        return self._server.pauses.holds_writes()

    def manual_failover_in_progress(self) -> bool:
        cluster = self._server.cluster
        return cluster is not None and cluster.manual.end_ms != 0
