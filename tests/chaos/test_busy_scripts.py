"""Scripts that do not end: who is answered meanwhile, how they are stopped, and what their node is to its cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis

from tests.support.clusters import ClusterFixture
from tests.support.servers import OurNode
from tests.support.waiting import PATIENCE, eventually

FOREVER = "while true do end"


@pytest.fixture
def node() -> Iterator[OurNode]:
    with OurNode(busy_reply_threshold=50, save='""') as server:
        yield server


class Background:
    """One request that takes its time, on a connection of its own."""

    def __init__(self, port: int, *words: object) -> None:
        self.outcome: object = None
        self._client = redis.Redis(port=port, socket_timeout=PATIENCE)
        self._thread = threading.Thread(target=self._ask, args=words, daemon=True)
        self._thread.start()

    def _ask(self, *words: object) -> None:
        try:
            self.outcome = self._client.execute_command(*words)
        except redis.RedisError as failure:
            self.outcome = failure

    def result(self) -> object:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._client.close()
        return self.outcome


def is_busy(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.ResponseError as refusal:
        return "busy running a script" in str(refusal)
    return False


def test_a_script_that_reads_is_killed_and_the_node_goes_on(node: OurNode) -> None:
    client = redis.Redis(port=node.port)
    running = Background(node.port, "EVAL", FOREVER, 0)
    eventually(lambda: is_busy(client))

    assert client.execute_command("SCRIPT", "KILL")

    assert "Script killed by user" in str(running.result())
    assert client.ping()
    with pytest.raises(redis.ResponseError, match="No scripts in execution"):
        client.execute_command("SCRIPT", "KILL")


def test_a_script_that_has_written_is_not_killed(node: OurNode) -> None:
    client = redis.Redis(port=node.port)
    Background(node.port, "EVAL", "redis.call('SET', 'k', 1) " + FOREVER, 0)
    eventually(lambda: is_busy(client))

    with pytest.raises(redis.ResponseError, match="already executed write"):
        client.execute_command("SCRIPT", "KILL")
    with pytest.raises(redis.ResponseError, match="busy running a script"):
        client.execute_command("SHUTDOWN")
    with pytest.raises(redis.ConnectionError):
        client.execute_command("SHUTDOWN", "NOSAVE")

    assert node.wait_exit() == 0


def test_the_caller_may_leave_and_newcomers_are_answered(node: OurNode) -> None:
    caller = redis.Redis(port=node.port)
    connection = caller.connection_pool.get_connection()
    connection.send_command("EVAL", FOREVER, 0)
    client = redis.Redis(port=node.port)
    eventually(lambda: is_busy(client))

    connection.disconnect()
    assert is_busy(redis.Redis(port=node.port))
    client.execute_command("SCRIPT", "KILL")

    assert client.ping()
    assert len(client.client_list()) <= 2


def test_a_busy_master_is_not_declared_failed() -> None:
    """The bus answers pings while a script runs for longer than the node time-out."""
    with ClusterFixture(masters=3, replicas=0, cluster_node_timeout=3000) as cluster:
        busy, other = cluster.nodes[0], redis.Redis(port=cluster.nodes[1].port, decode_responses=True)
        client = redis.Redis(port=busy.port)
        client.config_set("busy-reply-threshold", 50)
        epoch = other.cluster("INFO")["cluster_current_epoch"]
        running = Background(busy.port, "EVAL", FOREVER, 0)
        eventually(lambda: is_busy(client))

        began = other.time()[0]
        while other.time()[0] - began < 7:
            assert other.cluster("INFO")["cluster_state"] == "ok"
            assert "fail" not in str(other.execute_command("CLUSTER", "NODES"))

        client.execute_command("SCRIPT", "KILL")
        assert "Script killed by user" in str(running.result())
        assert client.cluster("INFO")["cluster_state"] == "ok"
        assert other.cluster("INFO")["cluster_current_epoch"] == epoch
