"""INFO persistence, and the answers of what changes it, beside redis-server's through the life of a node."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.servers import Kind, Server, eventually, make_server

pytestmark = pytest.mark.real_redis

# Times, sizes of memory, and how slow the disk was.
VARIES = re.compile(r"(rdb_last_save_time|aof_delayed_fsync|\w*cow_\w*|\w*_time_sec|current_\w*|loading_start_time):.*")

LIFE = """
    SET a 1
    SAVE
    BGSAVE x
    BGSAVE SCHEDULE
    wait rdb_bgsave_in_progress 0
    look
    SET a 2
    DEBUG POPULATE 100
    CONFIG SET rdb-key-save-delay 200000
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
    CONFIG SET rdb-key-save-delay 10000000
    BGREWRITEAOF
    BGREWRITEAOF
    BGSAVE
    BGSAVE SCHEDULE
    CONFIG SET rdb-key-save-delay 0
    CONFIG SET appendonly no
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


def all_is_on_disk(server: Server) -> bool:
    """No fsync is under way, for which a write may have to wait."""
    told = server.info("persistence")
    return all(told.get(name, "0") == "0" for name in ("aof_pending_bio_fsync", "aof_buffer_length"))


def life_of(kind: Kind) -> list[Any]:
    told: list[Any] = []
    with make_server(kind, enable_protected_configs="yes") as server, server.raw() as client:
        (server.directory / "blocked.rdb").mkdir()
        told.append(fields(server))
        for line in LIFE.strip().splitlines():
            words = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)]
            if words[0] == "wait":
                eventually(lambda words=words: server.info("persistence")[words[1]] == words[2])  # type: ignore[misc]
            elif words[0] == "look":
                eventually(lambda: all_is_on_disk(server))
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


@pytest.mark.parametrize("server_kind", ["ours", "real"])
def test_what_a_load_took_in_is_counted_wherever_it_came_from(server_kind: Kind) -> None:
    def loaded(server: Server) -> int:
        return int(server.info("persistence")["rdb_last_load_keys_loaded"])

    def is_synchronised(server: Server) -> bool:
        return server.info("replication")["master_link_status"] == "up"

    with make_server(server_kind) as master:
        for key in ("a", "b", "c"):
            master.call("SET", key, "1")
        for mode in ("disabled", "on-empty-db", "swapdb"):
            with make_server(server_kind, repl_diskless_load=mode) as replica:
                replica.call("REPLICAOF", "127.0.0.1", master.port)
                eventually(lambda replica=replica: is_synchronised(replica))  # type: ignore[misc]
                assert loaded(replica) == 3, mode
    with make_server(server_kind, appendonly="yes") as logging:
        logging.call("SET", "a", "1")
        logging.call("BGREWRITEAOF")
        eventually(lambda: logging.info("persistence")["aof_rewrites"] == "1")
        eventually(lambda: logging.info("persistence")["aof_rewrite_in_progress"] == "0")
        logging.call("SET", "b", "1")
        logging.restart()
        assert loaded(logging) == 1
        assert logging.call("DBSIZE") == 2


def cut(snapshot: bytearray) -> None:
    del snapshot[-9:]


def spoil_checksum(snapshot: bytearray) -> None:
    snapshot[-1] ^= 1


def spoil_signature(snapshot: bytearray) -> None:
    snapshot[0:5] = b"RADIS"


def spoil_version(snapshot: bytearray) -> None:
    snapshot[5:9] = b"0099"


DAMAGE = {
    cut: (["Short read or OOM loading DB. Unrecoverable error, aborting now."], "Unexpected EOF reading RDB file"),
    spoil_checksum: (["Wrong RDB checksum expected: ("], "RDB CRC error"),
    spoil_signature: (
        ["Wrong signature trying to load DB from file", "Fatal error loading the DB: Invalid argument. Exiting."],
        None,
    ),
    spoil_version: (
        ["Can't handle RDB format version 99", "Fatal error loading the DB: Invalid argument. Exiting."],
        None,
    ),
}


@pytest.mark.parametrize("server_kind", ["ours", "real"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_snapshot_is_refused_in_redis_words(damage: Callable[[bytearray], None], server_kind: Kind) -> None:
    """Once each, and with the place: redis-server itself says 0, and has redis-check-rdb look for it."""
    said, reason = DAMAGE[damage]
    with make_server(server_kind) as server:
        server.call("SET", "a", "1")
        server.call("SAVE")
        server.stop()
        path = server.directory / "dump.rdb"
        snapshot = bytearray(path.read_bytes())
        damage(snapshot)
        path.write_bytes(snapshot)
        before = len(server.log_text())
        server.start(wait=False)
        assert server.wait_exit() == 1
        log = server.log_text()[before:]
    for text in said:
        assert text in log
    assert log.count("Internal error in RDB reading offset") == (1 if reason else 0)
    if reason:
        assert "--- RDB ERROR DETECTED ---" in log
        place = re.search(rf"\[offset (\d+)\] {reason}", log)
        assert place is not None and 0 < int(place[1]) <= len(snapshot)
