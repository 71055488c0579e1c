"""The master side of a full synchronisation: one snapshot for all replicas that wait for one.

Role        Decides when a snapshot is taken, whether it goes to disk or straight to the replicas, which replicas it can
            serve, and takes each of them through wait_bgsave → (send_bulk) → online. The snapshot itself is the host's.
Invariants  A replica's stream begins with the byte after the offset that its +FULLRESYNC named, and that offset is the
            one at which the snapshot was taken: nothing is missing and nothing comes twice. After that offset the
            stream begins with SELECT. A replica can join a snapshot in the making only if another one, for which the
            stream is being kept since that moment, waits for it.
Source      Redis 7.0 replication.c (syncCommand, startBgsaveForReplication, updateSlavesWaitingBgsave,
            shouldStartChildReplication), rdb.c (rdbPopulateSaveInfo).
Units       ``*_ms`` monotonic milliseconds; offsets in bytes.
"""

from __future__ import annotations

from cluster.replication.feed import ReplicationFeed
from cluster.replication.host import ReplicationHost, SaveInfo
from cluster.replication.psync import full_resync_reply
from cluster.replication.replica import Capability, RdbRequirement, Replica, ReplicaState
from cluster.replication.state import ReplicationState
from cluster.replication.unit_encoding import NO_DATABASE
from cluster.settings import Settings


class FullSync:
    """Replicas that wait for a snapshot, and the snapshots made for them."""

    def __init__(
        self, state: ReplicationState, feed: ReplicationFeed, settings: Settings, host: ReplicationHost
    ) -> None:
        self.state = state
        self.feed = feed
        self.settings = settings
        self.host = host
        self.count = 0
        """sync_full: full synchronisations asked of us."""
        self.snapshot_is_for_replicas = False
        """A snapshot file exists only because a replica needed it (rdb-del-sync-files)."""

    def save_info(self) -> SaveInfo | None:
        """Our place in the stream for a snapshot taken now; None when it would mean nothing to a reader."""
        state = self.state
        if not state.is_replica:
            if self.feed.backlog is None:
                return None
            # Without a database the stream's next command brings its own SELECT, so 0 does no harm.
            return SaveInfo(state.replid, state.master_repl_offset, max(self.feed.selected_database, 0))
        client = state.master or state.cached_master
        if client is None:
            return None
        return SaveInfo(state.replid, state.master_repl_offset, client.database)

    def request(self, replica: Replica) -> None:
        """A replica needs everything. It is a replica from now on, and gets its reply when the snapshot is taken."""
        self.count += 1
        replica.state = ReplicaState.WAIT_BGSAVE_START
        if self.settings.repl_disable_tcp_nodelay:
            self.host.delay_small_packets(replica)
        self.feed.add(replica)
        if len(self.feed.replicas) == 1 and self.feed.backlog is None:
            # What was before was not counted, so nobody may claim to know a part of it.
            self.state.change_replication_id()
            self.state.clear_replication_id2()
            self.feed.create_backlog()
            self.host.log(
                "notice",
                "Replication backlog created, my new replication IDs are "
                f"'{self.state.replid}' and '{self.state.replid2}'",
            )
        if self.host.disk_snapshot_is_running():
            self._join_disk_snapshot(replica)
        elif self.host.stream_snapshot_is_running():
            self.host.log("notice", "Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC")
        elif (
            self.settings.repl_diskless_sync
            and Capability.EOF in replica.announced.capabilities
            and self.settings.repl_diskless_sync_delay
        ):
            # More replicas may come in the meantime, and one stream can serve all that are there when it begins.
            self.host.log("notice", "Delay next BGSAVE for diskless SYNC")
        elif self.host.child_is_active():
            self.host.log(
                "notice",
                "No BGSAVE in progress, but another BG operation is active. BGSAVE for replication delayed",
            )
        else:
            self.start(replica.announced.capabilities, replica.announced.requirement)

    def _join_disk_snapshot(self, replica: Replica) -> None:
        wanted = replica.announced
        for other in self.feed.replicas:
            if other.state is not ReplicaState.WAIT_BGSAVE_END:
                continue
            if other.announced.rdb_only and not wanted.rdb_only:
                continue  # The stream is not being kept for that one.
            if (
                other.announced.capabilities in wanted.capabilities
                and other.announced.requirement == wanted.requirement
            ):
                self._begin(replica, other.initial_offset)
                self.host.log("notice", "Waiting for end of BGSAVE for SYNC")
                return
            break
        self.host.log("notice", "Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC")

    def _begin(self, replica: Replica, offset: int) -> None:
        """This replica's snapshot is the one taken at ``offset``; its stream is kept from there."""
        replica.initial_offset = offset
        replica.state = ReplicaState.WAIT_BGSAVE_END
        if not replica.announced.rdb_only:
            replica.cursor = offset + 1
        # The reader of a snapshot starts with no database selected.
        self.feed.selected_database = NO_DATABASE
        if not replica.pre_psync:
            replica.session.push(full_resync_reply(self.state.replid, offset))

    def _waiting(self) -> list[Replica]:
        return [r for r in self.feed.replicas if r.state is ReplicaState.WAIT_BGSAVE_START and not r.leaving]

    def start_if_due(self, now_ms: int) -> None:
        """Once a second, and when a child has ended: take the snapshot that replicas wait for, if it is time."""
        waiting = self._waiting()
        if not waiting or self.host.child_is_active():
            return
        requirement = waiting[0].announced.requirement
        group = [replica for replica in waiting if replica.announced.requirement == requirement]
        settings = self.settings
        # Seconds as Redis counts them, by the clock's whole ones: it may begin up to one sooner.
        longest_s = max(now_ms // 1000 - replica.since_ms // 1000 for replica in group)
        enough = 0 < settings.repl_diskless_sync_max_replicas <= len(group)
        if settings.repl_diskless_sync and not enough and longest_s < settings.repl_diskless_sync_delay:
            return
        common = group[0].announced.capabilities
        for replica in group[1:]:
            common &= replica.announced.capabilities
        self.start(common, requirement)

    def start(self, capabilities: Capability, requirement: RdbRequirement) -> bool:
        """Take a snapshot for the waiting replicas that share ``requirement``; all understand ``capabilities``."""
        diskless = Capability.EOF in capabilities and (
            self.settings.repl_diskless_sync or requirement is not RdbRequirement.NONE
        )
        self.host.log("notice", f"Starting BGSAVE for SYNC with target: {'replicas sockets' if diskless else 'disk'}")
        group = [replica for replica in self._waiting() if replica.announced.requirement == requirement]
        info = self.save_info()
        started = False
        if info is None:
            self.host.log(
                "warning",
                "BGSAVE for replication: replication information not available, "
                "can't generate the RDB file right now. Try later.",
            )
        elif diskless:
            started = self.host.start_stream_snapshot(info, group, requirement)
        else:
            started = self.host.start_disk_snapshot(info)
        if not started:
            self.host.log("warning", "BGSAVE for replication failed")
            for replica in self._waiting():
                self.host.refuse_replica(replica, b"ERR BGSAVE failed, replication can't continue")
            return False
        if not diskless and self.settings.rdb_del_sync_files:
            self.snapshot_is_for_replicas = True
        for replica in group:
            self._begin(replica, self.state.master_repl_offset)
        return True

    def snapshot_done(self, success: bool, diskless: bool, now_ms: int) -> None:
        """The child has ended (and, diskless, everything it produced has been taken by the replicas)."""
        for replica in tuple(self.feed.replicas):
            if replica.state is not ReplicaState.WAIT_BGSAVE_END or replica.leaving:
                continue
            if not success:
                self._drop(replica, "SYNC failed. BGSAVE child returned an error")
            elif diskless:
                self._streamed(replica, now_ms)
            else:
                replica.state = ReplicaState.SEND_BULK
                if not self.host.send_snapshot_file(replica):
                    self._drop(replica, None)
        self.start_if_due(now_ms)

    def _streamed(self, replica: Replica, now_ms: int) -> None:
        self.host.log(
            "notice",
            f"Streamed RDB transfer with replica {replica.name} succeeded (socket). "
            "Waiting for REPLCONF ACK from slave to enable streaming",
        )
        if self.feed.put_online(replica, now_ms):
            replica.start_stream_on_ack = not replica.acknowledged_early
        else:
            self._let_go(replica)

    def file_sent(self, replica: Replica, now_ms: int) -> None:
        """The whole snapshot file has been handed to the replica's connection: now the stream follows."""
        if replica.state is ReplicaState.SEND_BULK and not self.feed.put_online(replica, now_ms):
            self._let_go(replica)

    def _let_go(self, replica: Replica) -> None:
        """It has what it wanted; what is on its way must still arrive."""
        replica.leaving = True
        self.host.close_when_sent(replica)

    def replica_gone(self, replica: Replica, was: ReplicaState) -> None:
        """A replica left in state ``was``: a snapshot that was made for it alone need not be finished."""
        others = any(r.state is ReplicaState.WAIT_BGSAVE_END for r in self.feed.replicas)
        if (
            was is ReplicaState.WAIT_BGSAVE_END
            and not others
            and not self.settings.save
            and self.host.disk_snapshot_is_running()
        ):
            self.host.kill_snapshot_child()

    def remove_file_if_unneeded(self) -> None:
        """Once a second: delete a snapshot file that exists only for replicas, when none needs it any more."""
        if not self.settings.rdb_del_sync_files:
            self.snapshot_is_for_replicas = False
        if not self.snapshot_is_for_replicas or self.settings.save or self.settings.appendonly:
            return
        if any(replica.is_synchronising for replica in self.feed.replicas):
            return
        self.snapshot_is_for_replicas = False
        self.host.log("notice", "Removing the RDB file used to feed replicas in a persistence-less instance")
        self.host.remove_snapshot_file()

    def _drop(self, replica: Replica, reason: str | None) -> None:
        if reason is not None:
            self.host.log("warning", reason)
        replica.leaving = True
        self.host.close_replica(replica)
