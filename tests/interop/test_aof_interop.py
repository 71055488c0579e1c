"""Append only files, exchanged with a real redis-server in both directions: the same data, judged by DEBUG DIGEST."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.support.servers import Kind, OurNode, RealRedis, Server, StartFailure
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_redis

FAR_MS = 4_102_444_800_123
BINARY = bytes(range(256))
DIRECTIONS = [("ours", "real"), ("real", "ours"), ("ours", "ours")]


def server(kind: Kind, **directives: Any) -> Server:
    make = OurNode if kind == "ours" else RealRedis
    return make(appendonly="yes", auto_aof_rewrite_percentage=0, **directives)


def fill(client: redis.Redis, round_number: int) -> None:
    """Every type in small and in big, expiries, two databases, transactions; other keys and values in each round."""
    tag = str(round_number)
    for database in (0, 9):
        client.execute_command("SELECT", database)
        client.set(f"string:{tag}", BINARY * 20)
        client.set("binary" + tag, b"\r\n*3\r\n$3\r\nSET\r\n")
        client.set(f"number:{tag}", 10 * round_number)
        client.incrby("counter", 7)
        client.incrbyfloat(f"float:{tag}", 1.5)
        client.append(f"string:{tag}", "more")
        client.set(f"expires:{tag}", "x", pxat=FAR_MS)
        client.rpush(f"list:{tag}", *[f"element {number}" for number in range(5)], BINARY)
        client.rpush(f"long list:{tag}", *range(1000))
        client.lpop(f"long list:{tag}", 17)
        client.sadd(f"integers:{tag}", *range(-5, 50))
        client.sadd(f"words:{tag}", *[f"word {number}" for number in range(700)])
        client.spop(f"words:{tag}", 3)
        client.hset(f"hash:{tag}", mapping={"a": "1", "b": BINARY, "c": ""})
        client.hset(f"big hash:{tag}", mapping={f"field {number}": number for number in range(900)})
        client.zadd(f"zset:{tag}", {"a": 1.5, "b": -2, "c": 1e100, "d": float("inf")})
        client.zadd(f"big zset:{tag}", {f"member {number}": number / 3 for number in range(500)})
        client.expire(f"zset:{tag}", 100_000)
        for number in range(130):
            client.xadd(f"stream:{tag}", {"n": number, "t": tag}, id=f"{number + 1}-1")
        client.xgroup_create(f"stream:{tag}", "group", "0")
        client.xgroup_create(f"stream:{tag}", "idle", "$")
        client.xreadgroup("group", "alice", {f"stream:{tag}": ">"}, count=9)
        client.xreadgroup("group", "bob", {f"stream:{tag}": ">"}, count=3)
        client.xack(f"stream:{tag}", "group", "2-1", "10-1")
        client.xgroup_createconsumer(f"stream:{tag}", "group", "nobody")
        client.xdel(f"stream:{tag}", "130-1")
        client.xadd(f"empty stream:{tag}", {"x": "y"}, id="7-7", maxlen=0)
        with client.pipeline(transaction=True) as transaction:
            transaction.set(f"both:{tag}", 1)
            transaction.lpush(f"of them:{tag}", 2)
            transaction.execute()
        client.delete(f"number:{tag}")


def digest(client: redis.Redis) -> bytes:
    answer: bytes = client.execute_command("DEBUG", "DIGEST")
    return answer


def rewrite(node: Server, client: redis.Redis) -> None:
    client.bgrewriteaof()
    eventually(lambda: node.info("persistence")["aof_rewrite_in_progress"] == "0")
    assert node.info("persistence")["aof_last_bgrewrite_status"] == "ok"


def all_is_written(node: Server) -> None:
    """With everysec a write may wait for the fsync that is under way, acknowledged or not."""
    eventually(lambda: node.info("persistence")["aof_buffer_length"] == "0")


def check_aof(node: Server) -> str:
    done = subprocess.run(
        ["redis-check-aof", "appendonlydir/appendonly.aof.manifest"],
        cwd=node.directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("preamble", ["yes", "no"])
@pytest.mark.parametrize(("writer", "reader"), DIRECTIONS)
def test_a_folder_is_read_by_the_other(writer: Kind, reader: Kind, preamble: str) -> None:
    directives = {"aof_use_rdb_preamble": preamble, "aof_timestamp_enabled": "yes"}
    with server(writer, **directives) as first, first.client() as client:
        fill(client, 1)
        rewrite(first, client)
        fill(client, 2)
        expected = digest(client)
        pending = first.call("XPENDING", "stream:1", "group", "-", "+", 100)
        first.stop()
        assert "All AOF files and manifest are valid" in check_aof(first)
        second = server(reader, **directives)
        shutil.copytree(first.directory / "appendonlydir", second.directory / "appendonlydir")
        with second, second.client() as other:
            assert digest(other) == expected
            other.execute_command("SELECT", 9)
            read = second.call("XPENDING", "stream:1", "group", "-", "+", 100)
            assert _without_idle_times(read) == _without_idle_times(pending)
            assert other.xinfo_stream("empty stream:1")["last-generated-id"] == b"7-7"
            # And it goes on from there.
            fill(other, 3)
            rewrite(second, other)
            other.set("after", "all")
            again = digest(other)
            all_is_written(second)
            second.kill9()
            second.start()
            with second.client() as third:
                assert digest(third) == again
            second.stop()
            check_aof(second)


def _without_idle_times(pending: list[list[Any]]) -> list[tuple[Any, ...]]:
    return [(entry_id, consumer, deliveries) for entry_id, consumer, _idle, deliveries in pending]


def test_the_commands_of_a_base_are_those_of_redis() -> None:
    """The same data set, rewritten by both: the same commands but for the order of what has no order."""
    bases = []
    for kind in ("ours", "real"):
        with server(kind, aof_use_rdb_preamble="no") as node, node.client() as client:
            client.set("string", BINARY)
            client.set("number", 12)
            client.set("expires", "x", pxat=FAR_MS)
            client.rpush("list", *range(130))
            client.zadd("zset", {"a": 1 / 3, "b": 5, "c": float("-inf")})
            client.hset("hash", mapping={str(number): number for number in range(70)})
            client.sadd("integers", *range(20))
            client.xadd("stream", {"a": "b"}, id="5-5")
            client.xgroup_create("stream", "group", "0")
            client.xreadgroup("group", "alice", {"stream": ">"})
            client.xadd("emptied", {"a": "b"}, id="5-5", maxlen=0)
            rewrite(node, client)
            text = (node.directory / "appendonlydir" / "appendonly.aof.2.base.aof").read_bytes()
            bases.append(sorted(text.split(b"\r\n")))
    ours, real = ([line for line in base if not _is_recent_time(line)] for base in bases)
    assert ours == real


def _is_recent_time(text: bytes) -> bool:
    return text.isdigit() and 1_600_000_000_000 < int(text) < FAR_MS


@pytest.mark.parametrize("server_kind", ["ours", "real"])
def test_a_file_of_an_older_version_is_taken_over(server_kind: Kind) -> None:
    commands = [["SET", "a", "1"], ["RPUSH", "l", "x", "y"], ["SELECT", "3"], ["SADD", "s", "z"]]
    text = b"".join(
        b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)
        for words in commands
    )
    node = server(server_kind)
    (node.directory / "appendonly.aof").write_bytes(text)
    with node, node.client() as client:
        assert client.get("a") == b"1"
        assert client.lrange("l", 0, -1) == [b"x", b"y"]
        assert not (node.directory / "appendonly.aof").exists()
        manifest = (node.directory / "appendonlydir" / "appendonly.aof.manifest").read_text()
        assert manifest == "file appendonly.aof seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut inside a command": lambda data: data[:100],
    "cut inside a header": lambda data: data[: data.index(b"$5") + 1],
    "cut inside a transaction": lambda data: data[: data.rindex(b"*1\r\n$4\r\nEXEC")],
    "text instead of a command": lambda data: data.replace(b"*3", b"!!!", 1),
    "a header without a number": lambda data: data.replace(b"*3\r\n", b"*x\r\n", 1),
    "an unknown command": lambda data: data + b"*2\r\n$3\r\nbla\r\n$1\r\nx\r\n",
    "zeros at the end": lambda data: data + b"\0" * 100,
    "nothing": lambda data: data,
}


@pytest.mark.parametrize("truncated", ["yes", "no"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_judged_as_redis_judges_it(damage: str, truncated: str) -> None:
    """Whether the server starts, what it then holds, and what the last line of the log says otherwise."""
    with RealRedis(appendonly="yes", aof_use_rdb_preamble="no") as source, source.client() as client:
        for number in range(5):
            client.set(f"key:{number}", number)
        with client.pipeline(transaction=True) as transaction:
            transaction.set("one", 1).set("two", 2)
            transaction.execute()
        source.stop()
        data = (source.directory / "appendonlydir" / "appendonly.aof.1.incr.aof").read_bytes()
        outcomes = []
        for kind in ("real", "ours"):
            node = server(kind, aof_use_rdb_preamble="no", aof_load_truncated=truncated)
            shutil.copytree(source.directory / "appendonlydir", node.directory / "appendonlydir")
            path = node.directory / "appendonlydir" / "appendonly.aof.1.incr.aof"
            path.write_bytes(DAMAGES[damage](data))
            outcomes.append(_start(node, path))
    assert outcomes[0] == outcomes[1]


def _start(node: Server, path: os.PathLike[str]) -> tuple[object, ...]:
    try:
        node.start()
        with node.client() as client:
            return "started", digest(client), os.path.getsize(path)
    except StartFailure:
        return "refused", node.wait_exit(), node.log_text().splitlines()[-1].partition(" # ")[2]
    finally:
        node.close()


LENIENCE = {
    "a header that goes on behind its number": lambda data: data.replace(b"$5\r\n", b"$5x\r\n", 1),
    "no line end behind a word": lambda data: data.replace(b"key:0\r\n", b"key:0xx", 1),
}


@pytest.mark.parametrize("damage", LENIENCE)
def test_what_redis_check_aof_refuses_is_not_loaded(damage: str) -> None:
    """Redis's own loader reads past such damage; its tool does not."""
    node = server("ours", aof_use_rdb_preamble="no")
    with node, node.client() as client:
        client.set("key:0", "value")
        node.stop()
        path = node.directory / "appendonlydir" / "appendonly.aof.1.incr.aof"
        path.write_bytes(LENIENCE[damage](path.read_bytes()))
        tool = subprocess.run(["redis-check-aof", str(path)], capture_output=True, text=True, check=False)
        assert "not valid" in tool.stdout
        node.start(wait=False)
        assert node.wait_exit() == 1
        assert "Bad file format" in node.log_text().splitlines()[-1]


def test_a_half_written_transaction_goes_as_a_whole() -> None:
    """Redis cuts the file behind the last complete command, and would run what comes next as a part of the rest."""
    node = server("ours")
    with node, node.client() as client:
        client.set("before", 1)
        with client.pipeline(transaction=True) as transaction:
            transaction.set("one", 1).set("two", 2)
            transaction.execute()
        node.stop()
        path = node.directory / "appendonlydir" / "appendonly.aof.1.incr.aof"
        data = path.read_bytes()
        path.write_bytes(data[:-3])
        node.start()
        assert path.read_bytes() == data[: data.index(b"*1\r\n$5\r\nMULTI")]
        with node.client() as again:
            assert again.keys() == [b"before"]


def test_the_last_word_of_a_refusal_names_the_offset() -> None:
    node = server("ours", aof_load_truncated="no")
    folder = node.directory / "appendonlydir"
    folder.mkdir()
    good = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"
    (folder / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    (folder / "appendonly.aof.1.incr.aof").write_bytes(good * 3 + b"!!!")
    node.start(wait=False)
    assert node.wait_exit() == 1
    assert f"Expected '*', got '!!' (offset {3 * len(good)})" in node.log_text()
    (folder / "appendonly.aof.1.incr.aof").write_bytes(good * 4 + good[:-4])
    node.start(wait=False)
    assert node.wait_exit() == 1
    assert f"ends at offset {4 * len(good)}" in node.log_text()
    node.close()


@pytest.mark.parametrize(("master_kind", "replica_kind"), [("ours", "real"), ("real", "ours"), ("ours", "ours")])
def test_a_replica_logs_what_its_master_sends(master_kind: Kind, replica_kind: Kind) -> None:
    """Full synchronisation, then the stream; the replica's own file gives its data back after a kill."""
    with (
        server(master_kind) as master,
        master.client() as client,
        server(replica_kind, replicaof=f"127.0.0.1 {master.port}", appendfsync="always") as replica,
    ):
        fill(client, 1)
        eventually(lambda: replica.info("replication")["master_link_status"] == "up")
        eventually(lambda: replica.info("persistence")["aof_rewrite_in_progress"] == "0")
        fill(client, 2)
        expected = digest(client)
        with replica.client() as other:
            eventually(lambda: digest(other) == expected)
        master.stop()
        replica.kill9()
        replica.directives["replicaof"] = []
        replica.start()
        with replica.client() as other:
            assert digest(other) == expected
