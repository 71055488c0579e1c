"""What INFO and ROLE say about replication.

Role        The record and the feed as the fields that monitoring tools, Sentinel and clients read.
Invariants  Fields, order and conditions are those of Redis 7.0. Looking changes nothing.
Source      Redis 7.0 server.c (genRedisInfoString, "replication"), replication.c (roleCommand).
Units       ``now_ms`` monotonic; fields that end in ``_seconds`` whole seconds.
"""

from __future__ import annotations

from cluster.replication.feed import ReplicationFeed
from cluster.replication.replica import Replica, ReplicaState
from cluster.replication.state import LinkState, ReplicationState
from cluster.settings import Settings

Field = tuple[str, object]


def info_replication(state: ReplicationState, feed: ReplicationFeed, settings: Settings, now_ms: int) -> list[Field]:
    """The fields of INFO's section "replication", in order."""
    feed.settle()
    fields: list[Field] = [("role", "slave" if state.is_replica else "master")]
    if state.is_replica:
        fields += _as_replica(state, settings, now_ms)
    fields.append(("connected_slaves", len(feed.replicas)))
    if settings.min_replicas_to_write and settings.min_replicas_max_lag:
        fields.append(("min_slaves_good_slaves", feed.good_replicas))
    fields += _replicas(feed.replicas, now_ms)
    backlog = feed.backlog
    fields += [
        ("master_failover_state", state.failover.value),
        ("master_replid", state.replid),
        ("master_replid2", state.replid2),
        ("master_repl_offset", state.master_repl_offset),
        ("second_repl_offset", state.second_repl_offset),
        ("repl_backlog_active", int(backlog is not None)),
        ("repl_backlog_size", settings.repl_backlog_size),
        ("repl_backlog_first_byte_offset", backlog.first_byte_offset if backlog is not None else 0),
        ("repl_backlog_histlen", backlog.histlen if backlog is not None else 0),
    ]
    return fields


def _as_replica(state: ReplicationState, settings: Settings, now_ms: int) -> list[Field]:
    client = state.master or state.cached_master
    fields: list[Field] = [
        ("master_host", state.master_host),
        ("master_port", state.master_port),
        ("master_link_status", "up" if state.link_up else "down"),
        (
            "master_last_io_seconds_ago",
            (now_ms - state.master.last_interaction_ms) // 1000 if state.master is not None else -1,
        ),
        ("master_sync_in_progress", int(state.link is LinkState.TRANSFER)),
        ("slave_read_repl_offset", client.read_offset if client is not None else 1),
        ("slave_repl_offset", client.applied_offset if client is not None else 1),
    ]
    transfer = state.transfer
    if state.link is LinkState.TRANSFER and transfer is not None:
        share = 100.0 * transfer.read_bytes / transfer.total_bytes if transfer.total_bytes else 0.0
        fields += [
            ("master_sync_total_bytes", transfer.total_bytes),
            ("master_sync_read_bytes", transfer.read_bytes),
            ("master_sync_left_bytes", transfer.total_bytes - transfer.read_bytes),
            ("master_sync_perc", f"{share:.2f}"),
            ("master_sync_last_io_seconds_ago", (now_ms - transfer.last_io_ms) // 1000),
        ]
    if not state.link_up:
        down_s = (now_ms - state.down_since_ms) // 1000 if state.down_since_ms is not None else -1
        fields.append(("master_link_down_since_seconds", down_s))
    fields += [
        ("slave_priority", settings.replica_priority),
        ("slave_read_only", int(settings.replica_read_only)),
        ("replica_announced", int(settings.replica_announced)),
    ]
    return fields


def _replicas(replicas: list[Replica], now_ms: int) -> list[Field]:
    fields: list[Field] = []
    for replica in replicas:
        if not replica.state.info_name:
            continue
        lag_s = (now_ms - replica.ack_ms) // 1000 if replica.state is ReplicaState.ONLINE else 0
        fields.append(
            (
                f"slave{len(fields)}",
                f"ip={replica.host},port={replica.announced.listening_port},state={replica.state.info_name},"
                f"offset={replica.acknowledged_offset},lag={lag_s}",
            )
        )
    return fields
