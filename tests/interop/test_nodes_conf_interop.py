"""nodes.conf goes both ways: Redis starts on a file of ours, and we read what Redis saved, word for word."""

from __future__ import annotations

import pytest

from cluster.errors import ConfigError
from cluster.gossip.nodes_conf import CORRUPTED, NodesConfFile, describe_nodes, format_nodes_conf, parse
from cluster.gossip.state import Node, NodeFlags, new_state
from tests.support.clusters import nodes_seen_by
from tests.support.servers import OurNode, RealRedis, Server, StartFailure
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_redis

ME, PEER, REPLICA = "a" * 40, "0123456789" * 4, "c" * 40


def times_removed(text: str) -> list[list[str]]:
    """CLUSTER NODES lines, sorted, without ping and pong times and link state."""
    return sorted(line.split()[:4] + line.split()[6:7] + line.split()[8:] for line in text.splitlines())


def test_redis_starts_on_a_file_of_ours() -> None:
    with RealRedis(cluster=True, cluster_node_timeout=60_000) as server:  # Nobody answers it, which it shall not mind.
        server.stop()
        state = new_state(ME, 1)
        state.myself.ip, state.myself.port, state.myself.cport = "127.0.0.1", server.port, server.bus_port
        state.myself.config_epoch = 4
        peer = Node(PEER, NodeFlags.MASTER | NodeFlags.FAIL, ip="127.0.0.1", port=1, cport=2, hostname="peer.example")
        peer.config_epoch = 5
        replica = Node(REPLICA, NodeFlags.SLAVE | NodeFlags.NOFAILOVER, ip="127.0.0.1", port=3, cport=4)
        state.add_node(peer)
        state.add_node(replica)
        state.set_replica_of(replica, peer)
        for slot in [*range(100), 200, *range(16000, 16384)]:
            state.assign_slot(slot, state.myself)
        for slot in range(300, 310):
            state.assign_slot(slot, peer)
        state.set_migrating(7, peer)
        state.set_importing(305, peer)
        state.current_epoch, state.last_vote_epoch = 6, 3
        file = NodesConfFile(server.directory / "nodes.conf")
        file.lock()
        file.save(format_nodes_conf(state), fsync=True)
        file.close()

        server.start()

        assert times_removed(server.call("CLUSTER", "NODES").decode()) == times_removed(describe_nodes(state))
        assert server.cluster_info()["cluster_current_epoch"] == "6"
        saved = (server.directory / "nodes.conf").read_text()
        assert "lastVoteEpoch 3" in saved


def test_we_read_what_redis_saved() -> None:
    with (
        RealRedis(cluster=True, cluster_node_timeout=60_000) as first,
        RealRedis(cluster=True, cluster_node_timeout=60_000, cluster_announce_hostname="second.example") as second,
    ):
        first.call("CLUSTER", "MEET", "127.0.0.1", second.port)
        second_id = second.call("CLUSTER", "MYID").decode()
        eventually(lambda: f"{second_id} 127.0.0.1:" in first.call("CLUSTER", "NODES").decode())
        eventually(lambda: "second.example" in first.call("CLUSTER", "NODES").decode())
        # Both begin with epoch 0, and one of them takes another: once the first knows of it, nothing changes any more.
        eventually(lambda: len({view.config_epoch for view in nodes_seen_by(first).values()}) == 2)
        first.call("CLUSTER", "ADDSLOTSRANGE", 0, 8000, 9000, 9000)
        first.call("CLUSTER", "SETSLOT", 5, "MIGRATING", second_id)
        first.call("CLUSTER", "SETSLOT", 16000, "IMPORTING", second_id)
        first.call("CLUSTER", "SAVECONFIG")
        shown = first.call("CLUSTER", "NODES").decode()
        epoch = int(first.cluster_info()["cluster_current_epoch"])

        loaded = parse((first.directory / "nodes.conf").read_text(), now_ms=1)

        assert loaded.warnings == ()
        assert times_removed(describe_nodes(loaded.state)) == times_removed(shown)
        assert loaded.state.current_epoch == epoch


def test_redis_and_we_lock_each_other_out() -> None:
    with RealRedis(cluster=True) as server:
        path = server.directory / "nodes.conf"
        with pytest.raises(ConfigError, match="is already used by a different Redis Cluster node"):
            NodesConfFile(path).lock()
        content = path.read_text()
        server.stop()
        ours = NodesConfFile(path)
        ours.lock()
        ours.save(content, fsync=False)  # The lock moves on to the new file.
        with pytest.raises(StartFailure, match="is already used by a different Redis Cluster node"):
            server.start()
        ours.close()


def test_both_refuse_damage_in_the_same_words() -> None:
    with RealRedis(cluster=True) as server:
        server.stop()
        text = (server.directory / "nodes.conf").read_text().replace("myself,", "")
        (server.directory / "nodes.conf").write_text(text)
        with pytest.raises(StartFailure) as theirs:
            server.start()
        with pytest.raises(ConfigError) as ours:
            parse(text, now_ms=1)
        assert CORRUPTED in str(theirs.value)
        assert CORRUPTED in str(ours.value)


@pytest.mark.parametrize("server_class", [OurNode, RealRedis])
class TestRefusalsAtStart:
    """What a node that cannot be part of a cluster says before it ends with status 1."""

    def refusal(self, server: Server) -> str:
        with pytest.raises(StartFailure) as caught:
            server.start()
        assert server.returncode == 1
        assert "Traceback" not in str(caught.value)
        return str(caught.value)

    def test_a_file_in_use(self, server_class: type[Server]) -> None:
        with server_class(cluster=True) as first:
            second = server_class(cluster=True, cluster_config_file=str(first.directory / "nodes.conf"))
            assert "is already used by a different Redis Cluster node" in self.refusal(second)
            second.close()

    def test_a_damaged_file(self, server_class: type[Server]) -> None:
        server = server_class(cluster=True)
        (server.directory / "nodes.conf").write_text("once upon a time\n")
        assert CORRUPTED in self.refusal(server)
        server.close()

    def test_a_bus_port_in_use(self, server_class: type[Server]) -> None:
        with server_class(cluster=True) as first:
            second = server_class(cluster=True, cluster_port=first.bus_port)
            assert f"Failed listening on port {first.bus_port} (cluster), aborting." in self.refusal(second)
            second.close()

    def test_data_that_cannot_be_loaded(self, server_class: type[Server]) -> None:
        server = server_class(cluster=True)
        (server.directory / "dump.rdb").write_bytes(b"REDIS0010\xff damaged")
        self.refusal(server)
        server.close()
