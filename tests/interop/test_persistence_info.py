"""INFO persistence, and the answers of what changes it, beside redis-server's through the life of a node."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.servers import Kind, Server, eventually, make_server

pytestmark = pytest.mark.real_redis

# Times, and sizes of memory.
VARIES = re.compile(r"(rdb_last_save_time|\w*cow_\w*|\w*_time_sec|current_\w*|loading_start_time):.*")

LIFE = """
    SET a 1
    SAVE
    BGSAVE x
    BGSAVE SCHEDULE
    wait rdb_bgsave_in_progress 0
    look
    SET a 2
    DEBUG POPULATE 100
    CONFIG SET rdb-key-save-delay 20000
    BGSAVE
    BGSAVE
    SAVE
    BGREWRITEAOF
    SET b 1
    CONFIG SET rdb-key-save-delay 0
    DEBUG RELOAD NOSAVE NOFLUSH MERGE
    FLUSHALL
    SET b 1
    wait rdb_bgsave_in_progress 0
    wait aof_rewrite_scheduled 0
    wait aof_rewrite_in_progress 0
    look
    CONFIG SET appendonly yes
    wait aof_rewrite_in_progress 0
    look
    SET x 1
    BGREWRITEAOF
    wait aof_rewrite_in_progress 0
    look
    CONFIG SET rdb-key-save-delay 100000
    BGREWRITEAOF
    BGREWRITEAOF
    BGSAVE
    BGSAVE SCHEDULE
    CONFIG SET appendonly no
    CONFIG SET rdb-key-save-delay 0
    wait rdb_saves 4
    wait rdb_bgsave_in_progress 0
    look
    MULTI
    CONFIG SET appendonly yes
    BGREWRITEAOF
    BGSAVE
    EXEC
    wait rdb_saves 5
    wait rdb_bgsave_in_progress 0
    wait aof_rewrite_scheduled 0
    wait aof_rewrite_in_progress 0
    look
    CONFIG SET appendonly no
    wait rdb_bgsave_in_progress 0
    look
    CONFIG SET save "3600 1"
    FLUSHALL
    CONFIG SET dbfilename blocked.rdb
    SAVE
    SET y 1
    BGSAVE
    wait rdb_bgsave_in_progress 0
    look
    SET y 1
    PING
    GET y
    EVAL "return redis.call('set','y',1)" 0
    PUBLISH a b
    CONFIG SET stop-writes-on-bgsave-error no
    SET y 1
    CONFIG SET stop-writes-on-bgsave-error yes
    SET y 1
    CONFIG SET dbfilename x/y
    CONFIG SET dbfilename fine.rdb
    BGSAVE
    wait rdb_bgsave_in_progress 0
    look
    SET y 1
    CONFIG RESETSTAT
"""


def fields(server: Server) -> list[str]:
    lines = server.call("INFO", "persistence").decode().splitlines()
    return [line for line in lines if not VARIES.fullmatch(line)]


def life_of(kind: Kind) -> list[Any]:
    told: list[Any] = []
    with make_server(kind, enable_protected_configs="yes") as server, server.raw() as client:
        (server.directory / "blocked.rdb").mkdir()
        told.append(fields(server))
        for line in LIFE.strip().splitlines():
            words = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]
            if words[0] == "wait":
                eventually(lambda words=words: server.info("persistence")[words[1]] == words[2], 15)  # type: ignore[misc]
            elif words[0] == "look":
                told.append(fields(server))
            else:
                told.append((line.strip(), str(client.ask(*words))))
        told.append(fields(server))
        told.append(sorted(path.name for path in server.directory.glob("**/*") if path.suffix in (".aof", ".rdb")))
    return told


def test_every_field_is_what_redis_says() -> None:
    for ours, real in zip(life_of("ours"), life_of("real"), strict=True):
        assert ours == real


@pytest.mark.parametrize("server_kind", ["ours", "real"])
def test_copied_memory_has_no_age_before_it_was_measured(server_kind: Kind) -> None:
    with make_server(server_kind, rdb_key_save_delay=10_000_000) as server:
        server.call("SET", "a", "1")
        server.call("BGSAVE")
        told = server.info("persistence")
        assert told["current_save_keys_total"] == "1"
        assert told["current_cow_size"] == told["current_cow_size_age"] == "0"
