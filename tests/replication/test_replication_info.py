"""INFO replication in every state: Redis's fields in Redis's order."""

from __future__ import annotations

from cluster.replication.info import Field, info_replication
from cluster.replication.replica import ReplicaState
from cluster.replication.state import LinkState
from tests.replication.fakes import World

COMMON = [
    "master_failover_state",
    "master_replid",
    "master_replid2",
    "master_repl_offset",
    "second_repl_offset",
    "repl_backlog_active",
    "repl_backlog_size",
    "repl_backlog_first_byte_offset",
    "repl_backlog_histlen",
]
AS_REPLICA = [
    "role",
    "master_host",
    "master_port",
    "master_link_status",
    "master_last_io_seconds_ago",
    "master_sync_in_progress",
    "slave_read_repl_offset",
    "slave_repl_offset",
]
ABOUT_MYSELF = ["slave_priority", "slave_read_only", "replica_announced", "connected_slaves"]
SYNCING = [
    "master_sync_total_bytes",
    "master_sync_read_bytes",
    "master_sync_left_bytes",
    "master_sync_perc",
    "master_sync_last_io_seconds_ago",
]
DOWN = ["master_link_down_since_seconds"]


def info(world: World) -> list[Field]:
    replication = world.replication
    return info_replication(replication.state, replication.feed, world.settings, world.now_ms)


def names(world: World) -> list[str]:
    return [name for name, _ in info(world)]


def value(world: World, name: str) -> object:
    return dict(info(world))[name]


def test_a_master_alone() -> None:
    world = World()
    assert info(world) == [
        ("role", "master"),
        ("connected_slaves", 0),
        ("master_failover_state", "no-failover"),
        ("master_replid", world.replication.state.replid),
        ("master_replid2", "0" * 40),
        ("master_repl_offset", 0),
        ("second_repl_offset", -1),
        ("repl_backlog_active", 0),
        ("repl_backlog_size", 1048576),
        ("repl_backlog_first_byte_offset", 0),
        ("repl_backlog_histlen", 0),
    ]


def test_a_master_with_replicas_in_every_state() -> None:
    world = World()
    online = world.online_replica(7001)
    world.replication.feed.acknowledge(online, 14, world.now_ms)
    for number, state in enumerate(ReplicaState):
        replica = world.online_replica(7002 + number)
        replica.state = state
    world.write(b"PING")
    world.now_ms += 3500
    assert [field for field in info(world) if field[0].startswith("slave")] == [
        ("slave0", "ip=10.0.0.9,port=7001,state=online,offset=14,lag=3"),
        ("slave1", "ip=10.0.0.9,port=7002,state=wait_bgsave,offset=0,lag=0"),
        ("slave2", "ip=10.0.0.9,port=7003,state=wait_bgsave,offset=0,lag=0"),
        ("slave3", "ip=10.0.0.9,port=7004,state=send_bulk,offset=0,lag=0"),
        ("slave4", "ip=10.0.0.9,port=7005,state=online,offset=0,lag=3"),
    ]
    assert value(world, "connected_slaves") == 6
    assert value(world, "repl_backlog_histlen") == value(world, "master_repl_offset") == 37
    assert value(world, "repl_backlog_first_byte_offset") == 1


def test_min_slaves_good_slaves_is_shown_when_it_counts() -> None:
    world = World()
    world.settings.min_replicas_to_write = 1
    assert names(world) == ["role", "connected_slaves", "min_slaves_good_slaves", *COMMON]
    world.settings.min_replicas_max_lag = 0
    assert names(world) == ["role", "connected_slaves", *COMMON]


def test_a_replica_through_its_synchronisation() -> None:
    world = World()
    replication = world.replication
    replication.set_master("10.0.0.1", 7000)
    assert names(world) == [*AS_REPLICA, *DOWN, *ABOUT_MYSELF, *COMMON]
    assert value(world, "master_link_status") == "down"
    assert value(world, "master_last_io_seconds_ago") == -1
    assert value(world, "master_link_down_since_seconds") == -1

    replication.begin_transfer()
    assert names(world) == [*AS_REPLICA, *SYNCING, *DOWN, *ABOUT_MYSELF, *COMMON]
    assert value(world, "master_sync_total_bytes") == -1
    assert replication.state.transfer is not None
    replication.state.transfer.total_bytes = 300
    replication.state.transfer.read_bytes = 100
    world.now_ms += 2000
    assert [field for field in info(world) if "sync" in field[0]] == [
        ("master_sync_in_progress", 1),
        ("master_sync_total_bytes", 300),
        ("master_sync_read_bytes", 100),
        ("master_sync_left_bytes", 200),
        ("master_sync_perc", "33.33"),
        ("master_sync_last_io_seconds_ago", 2),
    ]
    replication.state.transfer.total_bytes = 0  # A stream of unknown length.
    assert value(world, "master_sync_perc") == "0.00"

    replication.full_sync_loaded("d" * 40, 900, 0)
    assert names(world) == [*AS_REPLICA, *ABOUT_MYSELF, *COMMON]
    world.now_ms += 1000
    assert value(world, "master_link_status") == "up"
    assert value(world, "master_last_io_seconds_ago") == 1
    assert value(world, "slave_repl_offset") == value(world, "slave_read_repl_offset") == 900
    assert value(world, "master_replid") == "d" * 40
    assert value(world, "repl_backlog_first_byte_offset") == 901

    replication.link_lost()
    replication.state.link = LinkState.CONNECT
    world.now_ms += 164_000
    assert value(world, "master_link_down_since_seconds") == 164
    assert value(world, "slave_repl_offset") == 900
    assert value(world, "master_last_io_seconds_ago") == -1
