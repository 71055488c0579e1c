"""DEBUG where a real server is no measure: crashes, restarts, digests by hand."""

from __future__ import annotations

import signal
from hashlib import sha1

import pytest

from cluster.keyspace.database import Keyspace
from cluster.keyspace.digest import EMPTY_DIGEST, dataset_digest, mix_value
from cluster.slots.hashing import key_slot
from tests.support.servers import OurNode
from tests.support.waiting import eventually
from tests.support.wire import ReplyError


def keyspace_with(*pairs: tuple[bytes, object]) -> Keyspace:
    keyspace = Keyspace(2)
    for key, value in pairs:
        keyspace.databases[0].put(key, key_slot(key), value)
    return keyspace


def test_no_data_has_the_zero_digest() -> None:
    assert dataset_digest(Keyspace(16)) == bytes(20)


def test_digests_do_not_depend_on_order_or_representation() -> None:
    one = keyspace_with((b"a", b"1"), (b"b", b"two"), (b"c", b"three"))
    other = keyspace_with((b"c", bytearray(b"three")), (b"b", b"two"), (b"a", 1))
    assert dataset_digest(one) == dataset_digest(other) != bytes(20)


def test_digests_depend_on_key_value_database_and_expiry() -> None:
    base = keyspace_with((b"a", b"1"))
    digests = {dataset_digest(base)}
    digests.add(dataset_digest(keyspace_with((b"b", b"1"))))
    digests.add(dataset_digest(keyspace_with((b"a", b"2"))))
    moved = Keyspace(2)
    moved.databases[1].put(b"a", key_slot(b"a"), b"1")
    digests.add(dataset_digest(moved))
    base.databases[0].set_expiry(b"a", 2**42)
    digests.add(dataset_digest(base))
    assert len(digests) == 5


def test_the_digest_of_a_value_by_hand() -> None:
    def mixed(digest: bytes, data: bytes) -> bytes:
        return sha1(bytes(a ^ b for a, b in zip(digest, sha1(data).digest(), strict=True))).digest()

    assert mix_value(EMPTY_DIGEST, b"x", expires=False) == mixed(mixed(bytes(20), bytes(4)), b"x")


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (["SEGFAULT"], signal.SIGSEGV),
        (["PANIC"], signal.SIGABRT),
        (["ASSERT"], signal.SIGABRT),
        (["OOM"], signal.SIGABRT),
    ],
)
def test_crashes_are_real_and_in_the_log(node: OurNode, words: list[str], number: signal.Signals) -> None:
    with node.raw() as client:
        client.send("DEBUG", *words)
        assert client.recv_until_closed() == b""
    assert node.wait_exit() == -number
    assert "=== REDIS BUG REPORT START" in node.log_text()
    assert f"crashed by signal: {int(number)}" in node.log_text()


@pytest.mark.parametrize(("how", "keys"), [("RESTART", 1), ("CRASH-AND-RECOVER", 0)])
def test_a_restart_keeps_process_and_arguments(how: str, keys: int) -> None:
    with OurNode(save="3600 1000") as node:
        run_id, pid = node.info("server")["run_id"], node.info("server")["process_id"]
        with node.raw() as client:
            client.call("SET", "k", "v")
            client.call("CONFIG", "SET", "maxclients", 1234)
            client.send("DEBUG", how, 50)
            assert client.recv_until_closed() == b""
        eventually(lambda: node.info("server")["run_id"] != run_id, 20)
        assert node.info("server")["process_id"] == pid
        eventually(lambda: node.info("persistence")["loading"] == "0", 20)
        assert node.call("DBSIZE") == keys
        assert node.call("CONFIG", "GET", "maxclients")[1] == (b"1234" if keys else b"10000")


def test_a_restart_that_cannot_save_is_refused() -> None:
    with OurNode(save="3600 1000", enable_protected_configs="yes") as node:
        (node.directory / "dump.rdb").mkdir()
        with pytest.raises(ReplyError, match=r"^ERR failed to restart the server\. Check server logs\.$"):
            node.call("DEBUG", "RESTART")
        assert node.call("PING") == b"PONG"


def test_populate_is_not_replicated(node: OurNode) -> None:
    with OurNode(replicaof=f"127.0.0.1 {node.port}") as replica:
        eventually(lambda: replica.info("replication")["master_link_status"] == "up", 20)
        node.call("DEBUG", "POPULATE", 10, "made", 5)
        assert node.call("GET", "made:3") == b"value"
        assert node.call("DBSIZE") == 10
        node.call("SET", "marker", 1)
        eventually(lambda: replica.call("GET", "marker") == b"1")
        assert replica.call("DBSIZE") == 1


def test_populate_leaves_what_is_there(node: OurNode) -> None:
    node.call("SET", "key:1", "mine")
    node.call("DEBUG", "POPULATE", 3)
    assert node.call("MGET", "key:0", "key:1", "key:2") == [b"value:0", b"mine", b"value:2"]
    node.call("DEBUG", "POPULATE", 1, "padded", 12)
    assert node.call("GET", "padded:0") == b"value:0\0\0\0\0\0"


def test_active_expiry_can_be_stopped(node: OurNode) -> None:
    node.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    node.call("SET", "k", "v", "PX", 1)
    # Nobody reads the key: it stays counted until the sweep may run again.
    eventually(lambda: int(node.info("server")["server_time_usec"]) and node.call("DBSIZE") == 1)
    node.call("DEBUG", "SET-ACTIVE-EXPIRE", 1)
    eventually(lambda: node.call("DBSIZE") == 0)
    assert node.info("stats")["expired_keys"] == "1"


def test_object_tells_where_a_value_is(node: OurNode) -> None:
    node.call("SET", "n", 20000)
    before = node.call("DEBUG", "OBJECT", "n").split()
    node.call("INCR", "n")
    after = node.call("DEBUG", "OBJECT", "n").split()
    assert before[1] == after[1]
    assert after[1].startswith(b"at:0x")
    assert after[2:4] == [b"refcount:1", b"encoding:int"]


def test_replicate_reaches_replicas_alone(node: OurNode) -> None:
    with OurNode(replicaof=f"127.0.0.1 {node.port}") as replica:
        eventually(lambda: replica.info("replication")["master_link_status"] == "up", 20)
        node.call("DEBUG", "REPLICATE", "SET", "only there", "x")
        eventually(lambda: replica.call("GET", "only there") == b"x")
        assert node.call("EXISTS", "only there") == 0


def test_a_reload_of_a_file_that_is_not_there_is_refused(node: OurNode) -> None:
    with pytest.raises(ReplyError, match=r"^ERR Error trying to load the RDB dump$"):
        node.call("DEBUG", "RELOAD", "NOSAVE")
    assert node.info("persistence")["loading"] == "0"
