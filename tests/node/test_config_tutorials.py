"""Conf files as they stand in tutorials for Redis 3 to 7, old spellings and all: each must be accepted as it is.

Only paths are changed (``{here}``), so that no file outside the test's directory is touched.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.node.command_line import LaunchOptions
from cluster.node.config import Config
from cluster.settings import MasterAddress
from tests.node.config_support import in_directory

__all__ = ["in_directory"]

REPLICA_OF_2020 = """\
bind 172.17.0.6
protected-mode yes
port 6379
tcp-backlog 511
timeout 0
tcp-keepalive 300
daemonize no
supervised no
pidfile /var/run/redis_6379.pid
loglevel notice
logfile {here}/redis.log
databases 16
always-show-logo yes
save 900 1
save 300 10
save 60 10000
stop-writes-on-bgsave-error yes
rdbcompression yes
rdbchecksum yes
dbfilename dump.rdb
rdb-del-sync-files no
dir {here}
replicaof 172.17.0.5 6379
masterauth redis
replica-serve-stale-data yes
replica-read-only yes
repl-diskless-sync no
repl-diskless-sync-delay 5
repl-diskless-load disabled
repl-disable-tcp-nodelay no
replica-priority 100
acllog-max-len 128
requirepass redis
lazyfree-lazy-eviction no
lazyfree-lazy-expire no
lazyfree-lazy-server-del no
replica-lazy-flush no
lazyfree-lazy-user-del no
oom-score-adj no
oom-score-adj-values 0 200 800
appendonly no
appendfilename "appendonly.aof"
appendfsync everysec
no-appendfsync-on-rewrite no
auto-aof-rewrite-percentage 100
auto-aof-rewrite-min-size 64mb
aof-load-truncated yes
aof-use-rdb-preamble yes
lua-time-limit 5000
slowlog-log-slower-than 10000
slowlog-max-len 128
latency-monitor-threshold 0
notify-keyspace-events ""
hash-max-ziplist-entries 512
hash-max-ziplist-value 64
list-max-ziplist-size -2
list-compress-depth 0
set-max-intset-entries 512
zset-max-ziplist-entries 128
zset-max-ziplist-value 64
hll-sparse-max-bytes 3000
stream-node-max-bytes 4096
stream-node-max-entries 100
activerehashing yes
client-output-buffer-limit normal 0 0 0
client-output-buffer-limit replica 256mb 64mb 60
client-output-buffer-limit pubsub 32mb 8mb 60
hz 10
dynamic-hz yes
aof-rewrite-incremental-fsync yes
rdb-save-incremental-fsync yes
jemalloc-bg-thread yes
"""

FILES = {
    "replica of 2020": REPLICA_OF_2020,
    "cluster node": """\
port 7001
daemonize yes
pidfile "/var/run/redis_7001.pid"
logfile "{here}/redis_7001.log"
dir "{here}"
requirepass 123456
appendonly yes
cluster-enabled yes
cluster-config-file nodes_7001.conf
cluster-node-timeout 15000
""",
    "with remarks": """\
bind 10.10.50.234
protected-mode no
daemonize yes
cluster-enabled yes
# 多长时间后认为节点故障
cluster-node-timeout 5000
# 提升 Redis 持久性，更好应对意外断电带来的数据丢失
appendonly yes
""",
    "replica of 2016": """\
bind 10.10.50.232
protected-mode no
daemonize yes
slaveof 10.10.50.231 6379
slave-priority 90
min-slaves-to-write 1
min-slaves-max-lag 10
min-replicas-to-write 1
min-replicas-max-lag 10
""",
    "replication user": """\
protected-mode yes
masterauth SuperS3cr3tP455
masteruser masteruser
user masteruser +@all on >SuperS3cr3tP455
requirepass "SuperS3cr3tP455"
""",
    "2015": """\
daemonize yes
bind 192.168.0.120
port 6379
pidfile /var/run/redis_6379.pid
logfile {here}/redis_6379.log
databases 16
dbfilename redis_6379.rdb
dir {here}
""",
}

SENTINEL_FILE = """\
port 26379
daemonize no
protected-mode no
pidfile /var/run/redis-sentinel.pid
logfile {here}/sentinel.log
dir {here}
sentinel monitor mymaster 172.17.0.5 6379 2
sentinel auth-pass mymaster redis
sentinel auth-user mymaster masteruser
sentinel down-after-milliseconds mymaster 30000
sentinel parallel-syncs mymaster 1
sentinel failover-timeout mymaster 180000
sentinel deny-scripts-reconfig yes
sentinel notification-script mymaster /var/redis/notify.sh
sentinel client-reconfig-script mymaster /var/redis/reconfig.sh
sentinel announce-ip 1.2.3.4
sentinel announce-port 26379
"""


def load(directory: Path, text: str, *, sentinel_mode: bool = False) -> Config:
    path = directory / "redis.conf"
    path.write_text(text.format(here=directory), encoding="utf-8")
    return Config.load(LaunchOptions(config_path=str(path), sentinel_mode=sentinel_mode))


@pytest.mark.parametrize("text", FILES.values(), ids=FILES.keys())
def test_it_is_accepted(in_directory: Path, text: str) -> None:
    config = load(in_directory, text)

    last_word = text.rsplit(maxsplit=1)[-1].strip('"').format(here=in_directory)
    assert last_word in str([value for _, value in config.get([b"*"])])


def test_the_long_one_means_what_it_says(in_directory: Path) -> None:
    shown = dict(load(in_directory, REPLICA_OF_2020).get([b"*"]))

    assert shown[b"save"] == b"900 1 300 10 60 10000"
    assert shown[b"replicaof"] == b"172.17.0.5 6379"
    assert shown[b"repl-diskless-sync"] == b"no"
    assert shown[b"auto-aof-rewrite-min-size"] == b"67108864"
    assert (
        shown[b"client-output-buffer-limit"] == b"normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
    )


def test_old_spellings(in_directory: Path) -> None:
    settings = load(in_directory, FILES["replica of 2016"]).settings

    assert settings.replicaof == MasterAddress("10.10.50.231", 6379)
    assert (settings.replica_priority, settings.min_replicas_to_write, settings.min_replicas_max_lag) == (90, 1, 10)


def test_sentinel_lines_are_kept_for_sentinel(in_directory: Path) -> None:
    config = load(in_directory, SENTINEL_FILE, sentinel_mode=True)

    assert len(config.sentinel_lines) == 11
    assert config.sentinel_lines[0].arguments[1:] == [b"monitor", b"mymaster", b"172.17.0.5", b"6379", b"2"]
