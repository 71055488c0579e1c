"""Files, DUMP payloads and function libraries of every type and size: each server takes the other's, losing nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.every_type import LIBRARIES, assert_same, every_type, functions, run
from tests.support.servers import Kind, Server, make_server
from tests.support.wire import encode

pytestmark = pytest.mark.real_redis

BOTH_WAYS: list[tuple[Kind, Kind]] = [("ours", "real"), ("real", "ours")]
both_ways = pytest.mark.parametrize("kinds", BOTH_WAYS, ids=lambda pair: f"{pair[0]} to {pair[1]}")
# Limits so low that hardly a value is compact, and nodes of lists and streams hold next to nothing.
PLAIN = {
    "list_max_listpack_size": 2,
    "list_compress_depth": 1,
    "hash_max_listpack_entries": 1,
    "zset_max_listpack_entries": 1,
    "set_max_intset_entries": 1,
    "stream_node_max_entries": 3,
    "hll_sparse_max_bytes": 10,
}
FORMS = {"compact": {}, "plain": PLAIN, "uncompressed": {"rdbcompression": "no"}}


@pytest.mark.parametrize("form", FORMS)
@both_ways
def test_a_file_of_every_type_is_loaded_by_the_other(kinds: tuple[Kind, Kind], form: str) -> None:
    with make_server(kinds[0], **FORMS[form]) as writer:
        run(writer, every_type())
        assert writer.call("SAVE") == b"OK"
        file = writer.directory / "dump.rdb"
        checked = subprocess.run(["redis-check-rdb", str(file)], capture_output=True, text=True, check=False)
        assert "RDB looks OK!" in checked.stdout
        reader = make_server(kinds[1])
        Path(reader.directory / "dump.rdb").write_bytes(file.read_bytes())
        with reader:
            assert_same(writer, reader)


def copy_by_dump(source: Server, target: Server) -> None:
    """RESTORE what DUMP gives, key by key, with its time to live."""
    with source.raw(timeout=60) as giver, target.raw(timeout=60) as taker:
        for database in (0, 9):
            for connection in (giver, taker):
                connection.call("SELECT", database)
            keys = giver.call("KEYS", "*")
            giver.sendall(b"".join(encode("PEXPIRETIME", key) + encode("DUMP", key) for key in keys))
            for key in keys:
                expire_ms, payload = giver.reply(), giver.reply()
                absolute = ["ABSTTL"] if expire_ms > 0 else []
                assert taker.call("RESTORE", key, max(expire_ms, 0), payload, *absolute) == b"OK", key


@pytest.mark.parametrize("form", FORMS)
@both_ways
def test_dumps_of_every_type_are_restored_by_the_other(kinds: tuple[Kind, Kind], form: str) -> None:
    """And checked in depth by the one that takes them."""
    with make_server(kinds[0], **FORMS[form]) as source, make_server(kinds[1], sanitize_dump_payload="yes") as target:
        run(source, every_type())
        copy_by_dump(source, target)
        target.call("FUNCTION", "RESTORE", source.call("FUNCTION", "DUMP"))
        assert_same(source, target)


@both_ways
def test_libraries_are_restored_by_policy(kinds: tuple[Kind, Kind]) -> None:
    with make_server(kinds[0]) as source, make_server(kinds[1]) as target:
        run(source, [("FUNCTION", "LOAD", library) for library in LIBRARIES])
        payload = source.call("FUNCTION", "DUMP")
        run(target, [("FUNCTION", "LOAD", LIBRARIES[0] + " -- other"), ("FUNCTION", "RESTORE", payload, "REPLACE")])
        assert functions(target) == functions(source)
        run(target, [("FUNCTION", "FLUSH"), ("FUNCTION", "RESTORE", payload, "FLUSH"), ("SET", "k", "v")])
        assert target.call("FCALL", "answer", 0) == 42
        assert target.call("FCALL_RO", "peek", 1, "k") == b"v"
