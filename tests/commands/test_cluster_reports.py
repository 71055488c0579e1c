"""CLUSTER SLOTS, SHARDS, LINKS and INFO from a state made by hand: who is listed, and how he is named."""

from __future__ import annotations

from typing import Any

import attrs
import hiredis
import pytest

from cluster.commands.cluster_reports import Reporter, info_lines
from cluster.gossip.messages import MessageType
from cluster.gossip.state import ClusterHealth, ClusterState, Link, Node, NodeFlags, new_state
from cluster.resp.encode import RESP2, RESP3
from cluster.slots.routing import EndpointType

ME, OTHER, REPLICA = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def state() -> ClusterState:
    """Me with slots 0-9 and 20, another master with 10-19 and one replica."""
    state = new_state(ME, 1)
    state.myself.ip, state.myself.port, state.myself.cport = "10.0.0.1", 7000, 17000
    other = Node(OTHER, NodeFlags.MASTER, ip="10.0.0.2", port=7001, cport=17001, hostname="two.example", repl_offset=50)
    replica = Node(REPLICA, NodeFlags.SLAVE, ip="10.0.0.3", port=7002, cport=17002, repl_offset=50)
    state.add_node(other)
    state.add_node(replica)
    state.set_replica_of(replica, other)
    for slot in [*range(10), 20]:
        state.assign_slot(slot, state.myself)
    for slot in range(10, 20):
        state.assign_slot(slot, other)
    return state


def reporter(state: ClusterState, **changes: Any) -> Reporter:
    base = Reporter(state, RESP3, EndpointType.IP, is_tls=False, my_offset=70, my_replica_offset=0)
    return attrs.evolve(base, **changes)


def parse(reply: bytes) -> Any:
    reader = hiredis.Reader(encoding="utf-8")
    reader.feed(reply)
    return reader.gets()


class TestSlots:
    def test_runs_ascend_and_masters_come_with_their_replicas(self, state: ClusterState) -> None:
        mine = ["10.0.0.1", 7000, ME, {}]
        other = ["10.0.0.2", 7001, OTHER, {"hostname": "two.example"}]
        replica = ["10.0.0.3", 7002, REPLICA, {}]

        assert parse(reporter(state).slots()) == [[0, 9, mine], [10, 19, other, replica], [20, 20, mine]]

    def test_a_replica_that_failed_or_never_synced_is_left_out(self, state: ClusterState) -> None:
        replica = state.nodes[REPLICA]
        replica.repl_offset = 0
        assert len(parse(reporter(state).slots())[1]) == 3
        replica.repl_offset = 50
        replica.flags |= NodeFlags.PFAIL
        assert len(parse(reporter(state).slots())[1]) == 4
        replica.flags |= NodeFlags.FAIL
        assert len(parse(reporter(state).slots())[1]) == 3

    def test_of_itself_a_replica_knows_the_offset_better(self, state: ClusterState) -> None:
        state.myself.flags |= NodeFlags.MYSELF
        for slot in [*range(10), 20]:
            state.unassign_slot(slot)
        state.turn_into_replica(state.myself)
        state.set_replica_of(state.myself, state.nodes[OTHER])

        assert len(parse(reporter(state, my_replica_offset=0).slots())[0]) == 4
        assert len(parse(reporter(state, my_replica_offset=9).slots())[0]) == 5

    @pytest.mark.parametrize(
        ("endpoint_type", "mine", "other"),
        [
            (EndpointType.HOSTNAME, ["?", {"ip": "10.0.0.1"}], ["two.example", {"ip": "10.0.0.2"}]),
            (
                EndpointType.UNKNOWN,
                [None, {"ip": "10.0.0.1"}],
                [None, {"ip": "10.0.0.2", "hostname": "two.example"}],
            ),
        ],
    )
    def test_preferred_endpoints(
        self, state: ClusterState, endpoint_type: EndpointType, mine: list[Any], other: list[Any]
    ) -> None:
        first, second, _ = parse(reporter(state, endpoint_type=endpoint_type).slots())

        assert [first[2][0], first[2][3]] == mine
        assert [second[2][0], second[2][3]] == other

    def test_in_resp2_the_other_names_are_a_flat_array(self, state: ClusterState) -> None:
        second = parse(reporter(state, proto=RESP2).slots())[1]
        assert second[2] == ["10.0.0.2", 7001, OTHER, ["hostname", "two.example"]]

    def test_without_slots_it_is_empty(self) -> None:
        assert reporter(new_state(ME, 1)).slots() == b"*0\r\n"


class TestShards:
    def test_one_for_each_master(self, state: ClusterState) -> None:
        first, second = parse(reporter(state).shards())

        assert first == {
            "slots": [0, 9, 20, 20],
            "nodes": [
                {
                    "id": ME,
                    "port": 7000,
                    "ip": "10.0.0.1",
                    "endpoint": "10.0.0.1",
                    "role": "master",
                    "replication-offset": 70,
                    "health": "online",
                }
            ],
        }
        assert second["slots"] == [10, 19]
        assert [node["role"] for node in second["nodes"]] == ["master", "replica"]
        assert second["nodes"][0]["hostname"] == "two.example"

    @pytest.mark.parametrize(
        ("flags", "offset", "health"),
        [(NodeFlags.SLAVE, 50, "online"), (NodeFlags.SLAVE, 0, "loading"), (NodeFlags.FAIL, 50, "fail")],
    )
    def test_health(self, state: ClusterState, flags: NodeFlags, offset: int, health: str) -> None:
        replica = state.nodes[REPLICA]
        replica.flags |= flags
        replica.repl_offset = offset
        assert parse(reporter(state).shards())[1]["nodes"][1]["health"] == health

    def test_in_resp2_maps_are_flat(self, state: ClusterState) -> None:
        first = parse(reporter(state, proto=RESP2).shards())[0]
        assert first[:3] == ["slots", [0, 9, 20, 20], "nodes"]
        assert first[3][0][:4] == ["id", ME, "port", 7000]

    def test_in_a_tls_cluster_both_ports_are_told(self, state: ClusterState) -> None:
        state.myself.pport = 6000
        node = parse(reporter(state, is_tls=True).shards())[0]["nodes"][0]
        assert (node["port"], node["tls-port"]) == (6000, 7000)


def test_links(state: ClusterState) -> None:
    state.unix_offset_ms = 1000
    other = state.nodes[OTHER]
    other.link = Link(1, inbound=False, node=other, created_ms=5)
    other.inbound_link = Link(2, inbound=True, node=other, created_ms=6, send_buffer_bytes=7, has_write_handler=True)
    other.inbound_link.send_buffer_allocated_bytes = 8

    assert parse(reporter(state).links()) == [
        {
            "direction": "to",
            "node": OTHER,
            "create-time": 1005,
            "events": "r",
            "send-buffer-allocated": 0,
            "send-buffer-used": 0,
        },
        {
            "direction": "from",
            "node": OTHER,
            "create-time": 1006,
            "events": "rw",
            "send-buffer-allocated": 8,
            "send-buffer-used": 7,
        },
    ]


class TestInfo:
    def fields(self, state: ClusterState) -> dict[str, str]:
        return dict(line.split(":") for line in info_lines(state))

    def test_slots_by_the_state_of_their_owner(self, state: ClusterState) -> None:
        state.nodes[OTHER].flags |= NodeFlags.PFAIL
        fields = self.fields(state)
        assert fields["cluster_slots_assigned"] == "21"
        assert (fields["cluster_slots_ok"], fields["cluster_slots_pfail"], fields["cluster_slots_fail"]) == (
            "11",
            "10",
            "0",
        )
        state.nodes[OTHER].flags |= NodeFlags.FAIL  # Both flags: counted as failed.
        fields = self.fields(state)
        assert (fields["cluster_slots_pfail"], fields["cluster_slots_fail"]) == ("0", "10")

    def test_a_replica_shows_its_masters_epoch(self, state: ClusterState) -> None:
        state.nodes[OTHER].config_epoch = 9
        state.turn_into_replica(state.myself)
        state.set_replica_of(state.myself, state.nodes[OTHER])
        assert self.fields(state)["cluster_my_epoch"] == "9"

    def test_messages_are_counted_by_type_and_zeroes_left_out(self, state: ClusterState) -> None:
        state.set_health(ClusterHealth.OK)
        state.messages_sent[MessageType.PING] = 3
        state.messages_sent[MessageType.FAILOVER_AUTH_REQUEST] = 1
        state.messages_received[MessageType.PONG] = 2

        lines = list(info_lines(state))

        assert lines[0] == "cluster_state:ok"
        assert lines[9:] == [
            "cluster_stats_messages_ping_sent:3",
            "cluster_stats_messages_auth-req_sent:1",
            "cluster_stats_messages_sent:4",
            "cluster_stats_messages_pong_received:2",
            "cluster_stats_messages_received:2",
            "total_cluster_links_buffer_limit_exceeded:0",
        ]

    def test_it_is_verbatim_in_resp3(self, state: ClusterState) -> None:
        assert reporter(state).info().startswith(b"=")
        assert b"\r\ntxt:cluster_state:fail\r\ncluster_slots_assigned:21\r\n" in reporter(state).info()


def test_what_a_peer_announced_cannot_break_a_reply(state: ClusterState) -> None:
    state.nodes[OTHER].hostname = "x\r\n$5\r\n\xff\u20ac"
    for reply in (reporter(state).slots(), reporter(state).shards()):
        reader = hiredis.Reader()
        reader.feed(reply + b"+END\r\n")
        assert reader.gets() is not None
        assert reader.gets() == b"END"
