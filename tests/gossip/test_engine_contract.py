"""What the shell may rely on: the order of effects, the counters, the debugging hooks."""

from __future__ import annotations

import pytest

from cluster.gossip.effects import OpenLink, PublishLocal, SaveConfig, Send
from cluster.gossip.messages import EMPTY, Fail, MessageFlags, MessageType, Module, Publish
from cluster.gossip.state import ClusterHealth, NodeFlags
from tests.support.engines import MY_ID, EngineBench, logged, node_id, of_kind, receivers, sent, stranger, third


def test_what_must_be_durable_precedes_what_is_said() -> None:
    bench = EngineBench(slots=[1], epoch=1)
    bench.peer("z", slots=[2], epoch=1)

    effects = bench.hear(bench.state.nodes[node_id("z")], MessageType.PING)  # Same epoch, greater id: I move on.

    kinds = [type(effect) for effect in effects]
    assert kinds.index(SaveConfig) < kinds.index(Send)
    assert SaveConfig(fsync=True) in effects


def test_many_inputs_are_saved_once() -> None:
    bench = EngineBench(slots=[1], epoch=9)
    peers = [bench.peer(letter, epoch=index) for index, letter in enumerate("abc", 1)]

    for peer in peers:
        link = bench.engine.link_accepted(peer.ip, "10.0.0.9", bench.now_ms)
        bench.engine.on_message(link, bench.message(peer, MessageType.PING, config_epoch=9), bench.now_ms)
    effects = bench.do([])

    assert of_kind(effects, SaveConfig) == [SaveConfig(fsync=True)]
    assert len(sent(effects, MessageType.PONG)) == 3


def test_nothing_happened_nothing_to_do() -> None:
    bench = EngineBench()
    bench.do([])

    assert bench.engine.before_sleep(bench.now_ms) == []
    assert bench.engine.keep_alive(bench.now_ms + 10) == []


def test_a_replica_speaks_for_its_master() -> None:
    bench = EngineBench(epoch=1)
    master = bench.peer("a", slots=third(0), epoch=7)
    bench.replicate(master)
    bench.data.offset = 1234

    (pong,) = sent(bench.hear(master, MessageType.PING), MessageType.PONG)

    header = pong.header
    assert (header.sender, header.master_id) == (MY_ID, master.node_id)
    assert (header.config_epoch, header.slots) == (7, bytes(master.slots))
    assert header.repl_offset == 1234
    assert header.flags == NodeFlags.SLAVE | NodeFlags.MYSELF


def test_a_master_speaks_for_itself() -> None:
    bench = EngineBench(slots=[1, 2], epoch=3)
    bench.be_ok()

    (pong,) = sent(bench.hear(bench.peer("a", epoch=1), MessageType.PING), MessageType.PONG)

    header = pong.header
    assert (header.master_id, header.config_epoch, header.slots) == (None, 3, bytes(bench.myself.slots))
    assert (header.port, header.cport, header.pport, header.my_ip) == (6379, 16379, 0, "")
    assert header.state == ClusterHealth.OK
    assert not header.mflags & (MessageFlags.PAUSED | MessageFlags.FORCEACK)


def test_tls_clusters_announce_both_ports() -> None:
    bench = EngineBench(tls_cluster=True, tls_port=7001, port=7000)

    (pong,) = sent(bench.hear(bench.peer("a"), MessageType.PING), MessageType.PONG)

    assert (pong.header.port, pong.header.pport, pong.header.cport) == (7001, 7000, 17001)


def test_messages_are_counted_by_type() -> None:
    bench = EngineBench()
    peers = [bench.peer(letter) for letter in "abc"]

    bench.engine.publish(b"c", b"m", False, bench.now_ms)
    bench.hear(peers[0], MessageType.PUBLISH, Publish(b"c", b"m"))
    bench.hear(stranger("x"), MessageType.PING)

    assert bench.state.messages_sent[MessageType.PUBLISH] == 3
    assert bench.state.messages_sent[MessageType.PONG] == 1
    assert bench.state.messages_received[MessageType.PUBLISH] == 1
    assert bench.state.messages_received[MessageType.PING] == 1


def test_a_publish_goes_to_everybody_but_handshakes() -> None:
    bench = EngineBench()
    a, b = bench.peer("a"), bench.peer("b")
    bench.do(bench.engine.operations.meet("10.0.0.1", 7000, None, bench.now_ms))
    assert len(of_kind(bench.tick(), OpenLink)) == 1

    bench.engine.publish(b"news", b"text", False, bench.now_ms)
    effects = bench.do([])

    assert receivers(effects, MessageType.PUBLISH) == {a, b}
    (send,) = of_kind(effects, Send)
    assert send.message.body == Publish(b"news", b"text")


@pytest.mark.parametrize("i_am", ["master", "replica"])
def test_a_shard_publish_goes_to_the_shard(i_am: str) -> None:
    bench = EngineBench(slots=[1] if i_am == "master" else [], epoch=1)
    other = bench.peer("o", slots=[5], epoch=2)
    bench.peer("p", of=other)
    if i_am == "master":
        shard = {bench.peer("r", of=bench.myself), bench.peer("s", of=bench.myself)}
    else:
        master = bench.peer("a", slots=[1], epoch=1)
        bench.replicate(master)
        shard = {master, bench.peer("s", of=master)}

    bench.engine.publish(b"c", b"m", True, bench.now_ms)

    assert receivers(bench.do([]), MessageType.PUBLISHSHARD) == shard


@pytest.mark.parametrize("message_type", [MessageType.PUBLISH, MessageType.PUBLISHSHARD])
def test_a_publish_of_a_known_node_is_delivered(message_type: MessageType) -> None:
    bench = EngineBench()
    a = bench.peer("a")

    assert of_kind(bench.hear(a, message_type, Publish(b"c", b"m")), PublishLocal) == [
        PublishLocal(b"c", b"m", message_type is MessageType.PUBLISHSHARD)
    ]
    assert of_kind(bench.hear(stranger("x"), message_type, Publish(b"c", b"m")), PublishLocal) == []


def test_module_messages_are_let_pass() -> None:
    bench = EngineBench()

    assert bench.hear(bench.peer("a"), MessageType.MODULE, Module(1, 2, b"payload")) == []


def test_debug_drop_cluster_packet_filter() -> None:
    bench = EngineBench()
    a, b = bench.peer("a"), bench.peer("b")
    bench.state.dropped_message_type = MessageType.FAIL

    effects = bench.hear(a, MessageType.FAIL, Fail(b.node_id))

    assert logged(effects) == ["Dropping packet that matches debug drop filter"]
    assert not b.is_fail
    bench.state.dropped_message_type = -1
    bench.hear(a, MessageType.FAIL, Fail(b.node_id))
    assert b.is_fail


def test_other_protocol_versions_are_not_read() -> None:
    bench = EngineBench()

    assert bench.hear(stranger("x"), MessageType.MEET, version=2) == []
    assert list(bench.state.nodes) == [MY_ID]


def test_a_message_that_claims_to_be_mine_changes_nothing() -> None:
    bench = EngineBench(slots=[1], epoch=1)

    effects = bench.hear(
        bench.myself, MessageType.PING, current_epoch=9, config_epoch=9, slots=[], master_id=node_id("a")
    )
    bench.hear(bench.myself, MessageType.FAILOVER_AUTH_REQUEST, EMPTY, current_epoch=9)

    assert len(sent(effects, MessageType.PONG)) == 1
    assert (bench.state.current_epoch, bench.myself.config_epoch, bench.myself.slot_count) == (1, 1, 1)
    assert bench.myself.is_master
    assert bench.state.last_vote_epoch == 0


def test_the_nofailover_flag_follows_the_settings() -> None:
    bench = EngineBench(cluster_replica_no_failover=True)
    assert bench.myself.is_nofailover

    bench.settings.cluster_replica_no_failover = False
    effects = bench.do(bench.engine.on_settings_changed(bench.now_ms))

    assert not bench.myself.is_nofailover
    assert len(of_kind(effects, SaveConfig)) == 1


def test_keys_without_a_slot_are_accounted_for_after_loading() -> None:
    bench = EngineBench(slots=[1], epoch=1)
    a = bench.peer("a", slots=[2, 3], epoch=2)
    bench.state.set_importing(3, a)
    bench.data.slots_with_keys = {1, 2, 3, 4}

    effects = bench.do(bench.engine.verify_config_with_data(bench.now_ms))

    assert bench.state.owners[4] is bench.myself
    assert bench.state.importing == {3: a, 2: a}
    assert logged(effects) == [
        "I have keys for slot 2, but the slot is assigned to another node. Setting it to importing state.",
        "I have keys for unassigned slot 4. Taking responsibility for it.",
    ]
    assert SaveConfig(fsync=True) in effects


def test_a_replica_trusts_its_master_about_its_keys() -> None:
    bench = EngineBench()
    bench.replicate(bench.peer("a", slots=[2], epoch=2))
    bench.data.slots_with_keys = {2, 4}

    assert bench.do(bench.engine.verify_config_with_data(bench.now_ms)) == []
