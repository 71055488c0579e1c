"""A six-node cluster as stock clients see it: redis-cli, redis-cli -c, redis-py's RedisCluster, redis-benchmark."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

import pytest
import redis
from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster

from tests.support.clusters import ClusterFixture, key_slot
from tests.support.servers import Kind, Server, redis_cli
from tests.support.waiting import eventually
from tests.support.wire import ReplyError

pytestmark = pytest.mark.real_redis  # redis-cli comes with it.


@pytest.fixture(scope="module")
def cluster(kind: Kind) -> Iterator[ClusterFixture]:
    with ClusterFixture(masters=3, replicas=1, kind=kind) as running:
        running.wait_replicas_listed()
        yield running.calm()


@pytest.fixture(autouse=True)
def empty(cluster: ClusterFixture) -> None:
    for node in cluster.nodes[:3]:
        node.call("FLUSHALL")


def key_of(cluster: ClusterFixture, node: Server) -> str:
    """A key that `node` serves."""
    candidates = (f"key:{number}" for number in range(1000))
    return next(key for key in candidates if cluster.master_of(key_slot(key.encode())) is node)


def test_redis_cli_follows_redirections_from_every_node(cluster: ClusterFixture) -> None:
    for writer in cluster.nodes:
        for target in cluster.nodes[:3]:
            key, value = key_of(cluster, target), f"by {writer.port}"
            assert redis_cli(writer.port, "SET", key, value, options=["-c"]).stdout == "OK\n"
            for reader in cluster.nodes:
                assert redis_cli(reader.port, "GET", key, options=["-c"]).stdout == f"{value}\n"


def test_redis_cli_without_c_shows_the_redirection(cluster: ClusterFixture) -> None:
    owner, other = cluster.nodes[0], cluster.nodes[1]
    key = key_of(cluster, owner)
    shown = redis_cli(other.port, "SET", key, "value").stdout
    assert shown == f"MOVED {key_slot(key.encode())} 127.0.0.1:{owner.port}\n\n"


def test_an_interactive_session_says_where_it_goes(cluster: ClusterFixture) -> None:
    """On a terminal, redis-cli announces each redirection."""
    key = key_of(cluster, cluster.nodes[2])
    done = subprocess.run(
        ["script", "-qec", f"redis-cli -c -p {cluster.nodes[0].port}", "/dev/null"],
        input=f"set {key} value\nget {key}\nexit\n",
        env={**os.environ, "TERM": "dumb"},  # No line editing, which would ask the terminal where its cursor is.
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|\r", "", done.stdout)
    slot = key_slot(key.encode())
    assert f"-> Redirected to slot [{slot}] located at 127.0.0.1:{cluster.nodes[2].port}" in plain
    assert '"value"' in plain


def test_keys_of_two_slots_are_refused_by_every_node(cluster: ClusterFixture) -> None:
    first, second = (key_of(cluster, node) for node in cluster.nodes[:2])
    for node in cluster.nodes:
        with pytest.raises(ReplyError, match=r"^CROSSSLOT Keys in request don't hash to the same slot$"):
            node.call("MSET", first, "1", second, "2")


def test_a_hash_tag_keeps_keys_together(cluster: ClusterFixture) -> None:
    owner = cluster.master_of(key_slot(b"user1000"))
    owner.call("MSET", "{user1000}.following", "1", "{user1000}.followers", "2")
    assert owner.call("MGET", "{user1000}.following", "{user1000}.followers", "user1000") == [b"1", b"2", None]


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_cluster(cluster: ClusterFixture, protocol: int) -> None:
    with cluster.client(protocol=protocol) as client:
        assert len(client.get_primaries()) == 3
        assert len(client.get_replicas()) == 3
        for number in range(300):
            assert client.set(f"key:{number}", number)
        assert [client.get(f"key:{number}") for number in range(300)] == [b"%d" % number for number in range(300)]
        assert client.mset_nonatomic({f"many:{number}": number for number in range(50)})
        assert client.mget_nonatomic([f"many:{number}" for number in range(50)]) == [b"%d" % n for n in range(50)]
        assert client.dbsize(target_nodes=RedisCluster.PRIMARIES) == 350
        pipeline = client.pipeline()
        for number in range(100):
            pipeline.incr(f"key:{number}")
        assert pipeline.execute() == [number + 1 for number in range(100)]
        assert client.delete("key:1", "key:2", "key:3", "nosuch") == 3
        assert sorted(client.scan_iter(match="many:*", count=7)) == sorted(b"many:%d" % n for n in range(50))


def test_redis_py_as_it_comes(cluster: ClusterFixture) -> None:
    """Nothing configured: today's redis-py opens with HELLO 3 and what else it likes to send."""
    with RedisCluster(host="127.0.0.1", port=cluster.nodes[4].port) as client:
        assert client.set("key", "value", ex=100)
        assert client.get("key") == b"value"
        assert 0 < client.ttl("key") <= 100


def test_redis_py_reads_from_replicas(cluster: ClusterFixture) -> None:
    replica = cluster.nodes[3]
    key = key_of(cluster, cluster.nodes[0])
    with cluster.client(load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN) as client:
        client.set(key, "value")
        cluster.wait_in_sync()
        assert {client.get(key) for _ in range(6)} == {b"value"}
    # On a plain connection the replica redirects, and after READONLY it serves.
    with replica.raw() as connection:
        with pytest.raises(ReplyError, match=rf"^MOVED {key_slot(key.encode())} 127.0.0.1:{cluster.nodes[0].port}$"):
            connection.call("GET", key)
        assert connection.call("READONLY") == b"OK"
        assert connection.call("GET", key) == b"value"
        with pytest.raises(ReplyError, match=r"^MOVED "):
            connection.call("SET", key, "other")


def test_every_node_tells_the_same_slots(cluster: ClusterFixture) -> None:
    def map_of(node: Server) -> set[tuple[int, int, int, frozenset[int]]]:
        return {
            (first, last, master[1], frozenset(replica[1] for replica in replicas))
            for first, last, master, *replicas in node.call("CLUSTER", "SLOTS")
        }

    expected = {
        (first, last, cluster.nodes[index].port, frozenset({cluster.nodes[index + 3].port}))
        for index, (first, last) in enumerate([(0, 5460), (5461, 10922), (10923, 16383)])
    }
    for node in cluster.nodes:
        eventually(lambda node=node: map_of(node) == expected, message=f"CLUSTER SLOTS of {node}")  # type: ignore[misc]


def test_a_dead_seed_does_not_matter(cluster: ClusterFixture) -> None:
    seeds = [ClusterNode("127.0.0.1", 1), ClusterNode("127.0.0.1", cluster.nodes[5].port)]  # type: ignore[no-untyped-call]
    with RedisCluster(startup_nodes=seeds, protocol=2) as client:
        assert client.set("key", "value")


def test_expiry_through_a_cluster_client(cluster: ClusterFixture) -> None:
    with cluster.client() as client:
        client.set("short", "value", px=80)
        eventually(lambda: client.get("short") is None)
        assert client.ttl("short") == -2


def test_a_wrong_type_of_request_is_an_error_not_a_close(cluster: ClusterFixture) -> None:
    with cluster.client() as client, pytest.raises(redis.ResponseError, match="not an integer"):
        client.set("key", "text")
        client.incr("key")
    assert cluster.nodes[0].call("PING") == b"PONG"


def test_redis_benchmark_in_cluster_mode(cluster: ClusterFixture) -> None:
    done = subprocess.run(
        ["redis-benchmark", "--cluster", "-p", str(cluster.nodes[0].port), "-t", "set,get,mset", "-n", "3000", "-q"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"requests per second", done.stdout)) == 3
    assert "error" not in (done.stdout + done.stderr).lower()
