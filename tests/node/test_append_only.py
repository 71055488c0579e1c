"""The append only file of a running node: loading, full disks, the end of the process, replicas."""

from __future__ import annotations

import random
import resource
from collections.abc import Iterator

import pytest

from tests.support.servers import OurNode
from tests.support.waiting import eventually
from tests.support.wire import ReplyError, encode

INCR = "appendonlydir/appendonly.aof.1.incr.aof"


@pytest.fixture
def node() -> Iterator[OurNode]:
    with OurNode(appendonly="yes", auto_aof_rewrite_percentage=0) as node:
        yield node


def incr(node: OurNode) -> bytes:
    return (node.directory / INCR).read_bytes()


def info(node: OurNode) -> dict[str, str]:
    return node.info("persistence")


def settle(node: OurNode) -> None:
    """Have all that was answered in the file: a write may wait for the fsync that is under way."""
    eventually(lambda: info(node)["aof_buffer_length"] == "0")


def written(node: OurNode) -> bytes:
    """The file, with all that was answered."""
    settle(node)
    return incr(node)


def limit_files(node: OurNode, size: int) -> None:
    """Let no file of the node grow beyond ``size``: to it, a full disk. (The log is one of them.)"""
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_effects_are_logged_rather_than_commands(node: OurNode) -> None:
    node.call("SET", "a", 1, "PX", 20)
    eventually(lambda: node.call("EXISTS", "a") == 0)
    node.call("SADD", "s", "x")
    node.call("SPOP", "s")
    node.call("GETEX", "a")
    node.call("PUBLISH", "channel", "text")
    node.call("SET", "a", "b", "NX")
    node.call("SET", "a", "b", "NX")

    text = written(node)
    assert b"PXAT" in text
    assert encode("DEL", "a") in text
    assert b"SPOP" not in text
    assert b"PUBLISH" not in text
    assert text.count(b"NX") <= 1
    node.kill9()
    node.start()
    assert node.call("KEYS", "*") == [b"a"]


def test_nothing_is_logged_while_it_is_off() -> None:
    with OurNode() as node:
        node.call("SET", "a", 1)
        assert info(node)["aof_enabled"] == "0"
        assert not (node.directory / "appendonlydir").exists()


def test_it_is_switched_on_and_off_while_running() -> None:
    with OurNode() as node:
        node.call("SET", "a", 1)
        node.call("CONFIG", "SET", "appendonly", "yes")
        node.call("SET", "b", 2)
        eventually(lambda: info(node)["aof_rewrite_in_progress"] == "0")
        node.call("SET", "c", 3)
        node.call("CONFIG", "SET", "appendonly", "no")  # Which writes and syncs what it has.
        node.call("SET", "d", 4)
        node.kill9()
        node.directives["appendonly"] = "yes"
        node.start()
        assert sorted(node.call("KEYS", "*")) == [b"a", b"b", b"c"]


def test_clients_are_told_loading_and_how_far_it_is(node: OurNode) -> None:
    for number in range(300):
        node.call("SET", f"key:{number}", number)
    settle(node)
    node.kill9()
    node.directives["key-load-delay"] = 100_000  # Half a minute, until the test says that it has seen enough.
    node.start(wait=False)
    eventually(lambda: info(node)["loading"] == "1")
    with pytest.raises(ReplyError, match="LOADING Redis is loading the dataset in memory"):
        node.call("GET", "key:1")
    first = eventually(lambda: int(info(node)["loading_loaded_bytes"]))
    eventually(lambda: int(info(node)["loading_loaded_bytes"]) > first)
    fields = info(node)
    assert int(fields["loading_total_bytes"]) == sum(
        path.stat().st_size for path in (node.directory / "appendonlydir").glob("*.[ra]*f")
    ) + sum(path.stat().st_size for path in (node.directory / "appendonlydir").glob("*.rdb"))
    assert 0 < float(fields["loading_loaded_perc"]) < 100
    with pytest.raises(ReplyError, match="LOADING"):
        node.call("CONFIG", "SET", "appendonly", "no")
    node.call("CONFIG", "SET", "key-load-delay", 0)
    eventually(lambda: node.call("DBSIZE") == 300, ignore=(ReplyError,))
    assert "AOF loading speed: 301 commands and keys" in node.log_text()
    assert "DB loaded from append only file" in node.log_text()


def test_expired_keys_stay_until_all_is_loaded(node: OurNode) -> None:
    """Only then is known what became of them."""
    node.kill9()
    (node.directory / INCR).write_bytes(
        encode("RPUSH", "list", "a")
        + encode("PEXPIREAT", "list", 1000)
        + encode("RPUSH", "list", "b")
        + encode("SET", "string", "x", "PXAT", 1000)
        + encode("APPEND", "string", "y")
        + encode("PERSIST", "string")
    )
    node.start()
    assert node.call("LLEN", "list") == 0
    assert node.call("GET", "string") == b"xy"


def test_a_full_disk_refuses_writes_and_recovers(node: OurNode) -> None:
    node.call("SET", "a", "x" * 100_000)
    limit_files(node, len(written(node)) + 10)
    node.call("SET", "b", 2)  # This one is answered before anybody knows.
    eventually(lambda: info(node)["aof_last_write_status"] == "err")
    refusal = "MISCONF Errors writing to the AOF file"
    with pytest.raises(ReplyError, match=refusal):
        node.call("SET", "c", 3)
    with pytest.raises(ReplyError, match=refusal):
        node.call("PING")
    assert node.call("GET", "b") == b"2"
    assert "Short write while writing to the AOF file" in node.log_text()
    limit_files(node, 1 << 30)
    eventually(lambda: node.call("SET", "d", 4), ignore=(ReplyError,))
    assert info(node)["aof_last_write_status"] == "ok"
    assert "AOF write error looks solved, Redis can write again." in node.log_text()
    settle(node)
    node.kill9()
    node.start()
    assert sorted(node.call("KEYS", "*")) == [b"a", b"b", b"d"]


def test_always_keeps_its_word_on_a_full_disk() -> None:
    with OurNode(appendonly="yes", appendfsync="always") as node:
        node.call("SET", "a", "x" * 100_000)
        limit_files(node, len(incr(node)) + 10)
        with pytest.raises((ConnectionError, OSError)):
            node.call("SET", "b", 2)
        assert node.wait_exit() == 1
        last = node.log_text().splitlines()[-1]
        assert "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting..." in last
        node.start()
        assert node.call("KEYS", "*") == [b"a"]


def test_a_rewrite_on_a_full_disk_changes_nothing(node: OurNode) -> None:
    node.call("SET", "a", random.Random(1).randbytes(50_000))
    settle(node)
    limit_files(node, 40_000)
    node.call("BGREWRITEAOF")
    eventually(lambda: info(node)["aof_last_bgrewrite_status"] == "err")
    limit_files(node, 1 << 30)
    assert "Write error writing append only file on disk: File too large" in node.log_text()
    node.kill9()
    node.start()
    assert node.call("STRLEN", "a") == 50_000


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_what_is_written_during_rewrites_counts_once(preamble: str) -> None:
    """As in Redis's integration/aof-race: neither lost between the files nor in two of them."""
    with OurNode(appendonly="yes", aof_use_rdb_preamble=preamble, auto_aof_rewrite_percentage=0) as node:
        batch = encode("INCR", "count") * 100 + encode("RPUSH", "list", "x")
        rewrites = batches = 0
        with node.raw(timeout=30) as writer, node.raw() as control:
            while rewrites < 4:
                if b"aof_rewrite_in_progress:0" in control.call("INFO", "persistence"):
                    control.ask("BGREWRITEAOF")
                    rewrites += 1
                for _ in range(10):
                    writer.sendall(batch)
                    assert [writer.reply() for _ in range(101)][-1] == (batches := batches + 1)
            eventually(lambda: info(node)["aof_rewrite_in_progress"] == "0")
        node.stop()
        node.start()
        assert int(node.call("GET", "count")) == 100 * batches
        assert node.call("LLEN", "list") == batches


def test_shutdown_waits_for_a_data_set_that_is_in_no_file_yet() -> None:
    with OurNode(rdb_key_save_delay=60_000_000) as node:  # The child is killed in the end.
        for number in range(10):
            node.call("SET", f"key:{number}", 1)
        node.call("CONFIG", "SET", "appendonly", "yes")
        eventually(lambda: info(node)["aof_rewrite_in_progress"] == "1")
        with pytest.raises(ReplyError, match=r"ERR Errors trying to SHUTDOWN\. Check logs\."):
            node.call("SHUTDOWN", "NOSAVE")
        assert "Writing initial AOF, can't exit." in node.log_text()
        with pytest.raises(OSError, match="closed"):
            node.call("SHUTDOWN", "NOSAVE", "FORCE")
        assert node.wait_exit() == 0
        assert not list(node.directory.glob("temp-*"))


def test_shutdown_makes_all_durable_and_ends_a_rewrite(node: OurNode) -> None:
    node.call("CONFIG", "SET", "rdb-key-save-delay", 60_000_000)  # The child is killed in the end.
    node.call("SET", "a", 1)
    node.call("SET", "b", 1)
    node.call("BGREWRITEAOF")
    with pytest.raises(OSError, match="closed"):
        node.call("SHUTDOWN")
    assert node.wait_exit() == 0
    assert "There is a child rewriting the AOF. Killing it!" in node.log_text()
    assert "Calling fsync() on the AOF file." in node.log_text()
    node.start()
    assert node.call("DBSIZE") == 2


def test_half_a_data_set_is_never_shown(node: OurNode) -> None:
    """From the damage to the end of the process, clients hear LOADING or nothing."""
    for number in range(50):
        node.call("SET", f"key:{number}", number)
    text = written(node)
    node.kill9()
    (node.directory / INCR).write_bytes(text + b"!!!")
    answers = set()
    node.start(wait=False)
    while node.running:
        try:
            answers.add(str(node.raw().ask("DBSIZE"))[:7])
        except OSError:
            continue
    assert answers <= {"LOADING"}
    assert node.returncode == 1


def test_a_replica_logs_only_what_it_has_of_its_master() -> None:
    """Off while the snapshot replaces the data, on again after it, rewritten at once."""
    with OurNode() as master, OurNode(appendonly="yes") as replica:
        replica.call("SET", "mine", 1)
        master.call("SET", "its", 2)
        replica.call("REPLICAOF", "127.0.0.1", master.port)
        eventually(lambda: replica.info("replication")["master_link_status"] == "up")
        eventually(lambda: info(replica)["aof_rewrite_in_progress"] == "0" and info(replica)["aof_enabled"] == "1")
        master.call("SET", "later", 3)
        with master.raw() as connection:
            for words in (("MULTI",), ("SET", "x", 1), ("SET", "y", 1), ("EXEC",)):
                connection.call(*words)
        eventually(lambda: replica.call("DBSIZE") == 4)
        settle(replica)
        replica.kill9()
        replica.start()
        assert sorted(replica.call("KEYS", "*")) == [b"its", b"later", b"x", b"y"]


def test_a_promoted_replica_logs_again_if_its_synchronisation_failed() -> None:
    with OurNode(repl_diskless_sync="yes", rdb_key_save_delay=200_000) as master:
        master.call("DEBUG", "POPULATE", 500)  # Nearly two minutes; the master does not live to see them.
        with OurNode(appendonly="yes", repl_diskless_load="on-empty-db") as replica:
            replica.call("REPLICAOF", "127.0.0.1", master.port)
            eventually(lambda: info(replica)["aof_enabled"] == "0", 20)
            master.kill9()
            # LOADING until it has noticed that its master is gone.
            eventually(lambda: replica.call("REPLICAOF", "NO", "ONE"), ignore=(ReplyError,))
            eventually(lambda: info(replica)["aof_enabled"] == "1" and info(replica)["aof_rewrite_in_progress"] == "0")
            eventually(lambda: replica.call("SET", "a", 1), ignore=(ReplyError,))
            settle(replica)
            replica.kill9()
            replica.start()
            assert replica.call("KEYS", "*") == [b"a"]


def test_a_cluster_node_comes_back_with_its_slots_and_its_data() -> None:
    with OurNode(cluster=True, appendonly="yes", appendfsync="always") as node:
        node.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        eventually(lambda: node.cluster_info()["cluster_state"] == "ok")
        for number in range(20):
            node.call("SET", f"key:{number}", number)
        node.kill9()
        node.start()
        eventually(lambda: node.cluster_info()["cluster_state"] == "ok")
        assert [node.call("GET", f"key:{number}") for number in (0, 19)] == [b"0", b"19"]
        node.call("SET", "more", 1)
        assert node.info("persistence")["aof_last_write_status"] == "ok"


def test_children_that_follow_upon_killed_ones(node: OurNode) -> None:
    """The pipe of the next one has the number of the last one's, on which somebody may still be waiting."""
    with node.raw() as client:
        client.call("DEBUG", "POPULATE", 100)
        for _ in range(5):
            client.call("CONFIG", "SET", "rdb-key-save-delay", 10_000_000)  # Until it is killed.
            assert client.call("BGREWRITEAOF") == b"Background append only file rewriting started"
            client.call("PING")  # The loop has had its turn.
            client.call("CONFIG", "SET", "appendonly", "no")
            client.call("CONFIG", "SET", "rdb-key-save-delay", 0)
            assert client.call("BGSAVE") == b"Background saving started"
            client.call("PING")
            client.call("CONFIG", "SET", "appendonly", "yes")
            eventually(lambda: node.info("persistence")["aof_rewrite_scheduled"] == "0")
            eventually(lambda: node.info("persistence")["aof_rewrite_in_progress"] == "0")
        assert client.call("PING") == b"PONG"
