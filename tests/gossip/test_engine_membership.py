"""Who gets into the table, who does not, and how addresses follow. Cluster spec, "Node handshake"."""

from __future__ import annotations

import pytest

from cluster.gossip.effects import CloseLink, OpenLink, SaveConfig, Send, StartReplication
from cluster.gossip.messages import Gossip, GossipEntry, MessageType
from cluster.gossip.state import NodeFlags
from tests.support.engines import (
    MY_ID,
    TIMEOUT_MS,
    EngineBench,
    logged,
    node_id,
    of_kind,
    receivers,
    sent,
    stranger,
    third,
)


def meet(bench: EngineBench, letter: str = "s") -> OpenLink:
    """CLUSTER MEET with the address of ``letter``, up to the attempt to connect."""
    peer = stranger(letter)
    bench.do(bench.engine.operations.meet(peer.ip, peer.port, None, bench.now_ms))
    (opened,) = of_kind(bench.tick(), OpenLink)
    return opened


# -- handshakes -----------------------------------------------------------------------------------


def test_cluster_meet_connects_and_says_meet_once() -> None:
    bench = EngineBench()

    opened = meet(bench)
    greeting = bench.do(bench.engine.link_connected(opened.link, opened.host, "10.0.0.9", bench.now_ms))

    assert (opened.host, opened.port) == (stranger("s").ip, 16379)
    assert [message.type for send in of_kind(greeting, Send) for message in [send.message]] == [MessageType.MEET]
    assert not NodeFlags.MEET & opened.link.node.flags


def test_the_pong_gives_a_handshake_node_its_name_role_and_slots() -> None:
    bench = EngineBench()
    opened = meet(bench)
    bench.do(bench.engine.link_connected(opened.link, opened.host, "10.0.0.9", bench.now_ms))
    peer = stranger("s")

    pong = bench.message(peer, MessageType.PONG, slots=[1, 2, 3], config_epoch=4, current_epoch=7)
    effects = bench.do(bench.engine.on_message(opened.link, pong, bench.now_ms))

    known = bench.state.nodes[peer.node_id]
    assert set(bench.state.nodes) == {MY_ID, peer.node_id}
    assert known.flags & (NodeFlags.MASTER | NodeFlags.HANDSHAKE) == NodeFlags.MASTER
    assert (known.slot_count, known.config_epoch, bench.state.current_epoch) == (3, 4, 7)
    assert of_kind(effects, SaveConfig) == [SaveConfig(fsync=True)]


def test_a_handshake_that_leads_nowhere_is_forgotten_after_the_node_timeout() -> None:
    bench = EngineBench()
    opened = meet(bench)

    bench.ticks(TIMEOUT_MS - 100)
    assert len(bench.state.nodes) == 2
    effects = bench.ticks(200)

    assert len(bench.state.nodes) == 1
    assert of_kind(effects, CloseLink) == [CloseLink(opened.link)]


def test_meeting_an_address_twice_starts_one_handshake() -> None:
    bench = EngineBench()

    for _ in range(2):
        bench.do(bench.engine.operations.meet("10.0.0.1", 7000, None, bench.now_ms))

    assert len(bench.state.nodes) == 2


def test_meeting_a_node_that_is_known_updates_its_address() -> None:
    bench = EngineBench()
    known = bench.peer("s")
    old_link = known.link
    opened = meet(bench, "t")  # It lives at this address now.
    bench.do(bench.engine.link_connected(opened.link, opened.host, "10.0.0.9", bench.now_ms))

    pong = bench.message(known, MessageType.PONG, port=7777)
    effects = bench.do(bench.engine.on_message(opened.link, pong, bench.now_ms))

    assert set(bench.state.nodes) == {MY_ID, known.node_id}
    assert (known.ip, known.port) == (stranger("t").ip, 7777)
    assert {close.link for close in of_kind(effects, CloseLink)} == {old_link, opened.link}


def test_meeting_myself_leaves_no_trace() -> None:
    bench = EngineBench()
    opened = meet(bench)
    link = bench.engine.link_accepted("10.0.0.9", "10.0.0.9", bench.now_ms)

    greeting = bench.do(bench.engine.link_connected(opened.link, opened.host, "10.0.0.9", bench.now_ms))
    (request,) = sent(greeting, MessageType.MEET)
    (reply,) = sent(bench.do(bench.engine.on_message(link, request, bench.now_ms)), MessageType.PONG)
    bench.do(bench.engine.on_message(opened.link, reply, bench.now_ms))

    assert list(bench.state.nodes.values()) == [bench.myself]
    assert bench.myself.is_master


def test_a_meet_message_makes_us_meet_the_sender() -> None:
    bench = EngineBench()

    effects = bench.hear(stranger("s"), MessageType.MEET)

    assert len(sent(effects, MessageType.PONG)) == 1
    (newcomer,) = [node for node in bench.state.nodes.values() if not node.is_myself]
    assert newcomer.in_handshake
    assert (newcomer.ip, newcomer.port, newcomer.cport) == (stranger("s").ip, 6379, 16379)
    (opened,) = of_kind(bench.tick(), OpenLink)
    greeting = bench.do(bench.engine.link_connected(opened.link, opened.host, "10.0.0.9", bench.now_ms))
    assert sent(greeting, MessageType.MEET) == []
    assert len(sent(greeting, MessageType.PING)) == 1


def test_repeated_meet_messages_start_one_handshake() -> None:
    bench = EngineBench()

    for _ in range(5):
        bench.hear(stranger("s"), MessageType.MEET)

    assert len(bench.state.nodes) == 2


def test_a_ping_of_a_stranger_is_answered_but_not_believed() -> None:
    bench = EngineBench(slots=[1])
    third_party = stranger("t")

    effects = bench.hear(
        stranger("s"), MessageType.PING, Gossip((bench.entry(third_party),)), slots=[1], config_epoch=9, current_epoch=9
    )

    assert len(sent(effects, MessageType.PONG)) == 1
    assert list(bench.state.nodes) == [MY_ID]
    assert bench.state.owners[1] is bench.myself
    assert bench.state.current_epoch == 0


def test_a_peer_whose_id_is_none_is_not_taken_in() -> None:
    """Text from the wire would end up in nodes.conf."""
    bench = EngineBench()
    opened = meet(bench)
    bench.do(bench.engine.link_connected(opened.link, opened.host, "10.0.0.9", bench.now_ms))

    pong = bench.message(stranger("s"), MessageType.PONG, sender="not a node id\n")
    bench.do(bench.engine.on_message(opened.link, pong, bench.now_ms))

    assert list(bench.state.nodes) == [MY_ID]


# -- gossip ---------------------------------------------------------------------------------------


def gossip_about(bench: EngineBench, entry: GossipEntry) -> None:
    known = bench.state.nodes.get(node_id("a")) or bench.peer("a")
    bench.hear(known, MessageType.PING, Gossip((entry,)))


def test_gossip_of_a_known_node_introduces_others() -> None:
    bench = EngineBench()

    gossip_about(bench, bench.entry(stranger("t"), NodeFlags.MASTER | NodeFlags.MYSELF))

    added = bench.state.nodes[node_id("t")]
    assert (added.ip, added.port, added.cport, added.flags) == (stranger("t").ip, 6379, 16379, NodeFlags.MASTER)
    assert {effect.link.node for effect in of_kind(bench.tick(), OpenLink)} == {added}


def test_a_node_that_gossip_gives_two_roles_has_one() -> None:
    bench = EngineBench()

    gossip_about(bench, bench.entry(stranger("t"), NodeFlags.MASTER | NodeFlags.SLAVE | NodeFlags.PFAIL))

    assert bench.state.nodes[node_id("t")].flags == NodeFlags.MASTER | NodeFlags.PFAIL


@pytest.mark.parametrize(
    "change",
    [
        {"flags": NodeFlags.MASTER | NodeFlags.NOADDR},
        {"ip": ""},
        {"ip": "10.0.0.1 evil"},
        {"ip": "10.0.0.1\nvars"},
        {"node_id": "short"},
        {"node_id": "X" * 40},
    ],
    ids=str,
)
def test_gossip_does_not_introduce_what_cannot_be_a_node(change: dict[str, object]) -> None:
    bench = EngineBench()

    gossip_about(bench, bench.entry(stranger("t"), **change))

    assert set(bench.state.nodes) == {MY_ID, node_id("a")}


def test_a_forgotten_node_stays_away_for_a_minute() -> None:
    bench = EngineBench()
    gossip_about(bench, bench.entry(stranger("t")))
    bench.do(bench.engine.operations.forget(node_id("t"), bench.now_ms))

    gossip_about(bench, bench.entry(stranger("t")))
    bench.now_ms += 60_000
    gossip_about(bench, bench.entry(stranger("t")))
    assert node_id("t") not in bench.state.nodes

    bench.now_ms += 1
    gossip_about(bench, bench.entry(stranger("t")))
    assert node_id("t") in bench.state.nodes


def test_a_pong_that_others_saw_saves_a_ping() -> None:
    bench = EngineBench()
    a, b = bench.peer("a"), bench.peer("b")
    bench.now_ms += 5_000
    seen_s = (bench.now_ms + 1_700_000_000_000) // 1000 - 1

    bench.hear(a, MessageType.PING, Gossip((bench.entry(b, pong_received_s=seen_s),)))
    assert bench.state.to_unix_ms(b.pong_received_ms) == seen_s * 1000

    bench.hear(a, MessageType.PING, Gossip((bench.entry(b, pong_received_s=seen_s + 60),)))
    assert bench.state.to_unix_ms(b.pong_received_ms) == seen_s * 1000, "a clock that runs ahead is not believed"


# -- addresses --------------------------------------------------------------------------------------


def test_another_node_at_its_address_leaves_a_node_without_one() -> None:
    bench = EngineBench()
    peer = bench.peer("a")
    link = peer.link

    effects = bench.answer(peer, sender=node_id("z"))

    assert not peer.has_address
    assert (peer.ip, peer.port, peer.link) == ("", 0, None)
    assert [close.link for close in of_kind(effects, CloseLink)] == [link]
    assert of_kind(bench.tick(), OpenLink) == []


def test_a_ping_from_elsewhere_moves_the_node_and_replication_with_it() -> None:
    bench = EngineBench()
    master = bench.peer("a", slots=third(0), epoch=1)
    bench.replicate(master)
    old_link = master.link
    inbound = bench.engine.link_accepted("10.9.9.9", "10.0.0.9", bench.now_ms)

    ping = bench.message(master, MessageType.PING, port=7000, cport=17000)
    effects = bench.do(bench.engine.on_message(inbound, ping, bench.now_ms))

    assert (master.ip, master.port, master.cport) == ("10.9.9.9", 7000, 17000)
    assert of_kind(effects, StartReplication) == [StartReplication("10.9.9.9", 7000)]
    assert [close.link for close in of_kind(effects, CloseLink)] == [old_link]
    assert f"Address updated for node {master.node_id}, now 10.9.9.9:7000" in logged(effects)


def test_an_announced_address_counts_more_than_the_socket() -> None:
    bench = EngineBench()
    peer = bench.peer("a")

    bench.hear(peer, MessageType.PING, my_ip="192.168.7.7")
    assert peer.ip == "192.168.7.7"

    bench.hear(peer, MessageType.PING, my_ip="two words")
    assert peer.ip == "10.0.0.97"


def test_an_unreachable_node_is_looked_for_where_others_reach_it() -> None:
    bench = EngineBench()
    a, b = bench.peer("a"), bench.peer("b")
    b.flags |= NodeFlags.PFAIL

    entry = bench.entry(b, NodeFlags.MASTER, ip="10.1.1.1", port=7001, cport=17001)
    effects = bench.hear(a, MessageType.PING, Gossip((entry,)))

    assert (b.ip, b.port, b.cport) == ("10.1.1.1", 7001, 17001)
    assert len(of_kind(effects, CloseLink)) == 1


def test_my_address_is_the_one_others_reach_me_at() -> None:
    bench = EngineBench()
    a = bench.peer("a")

    bench.hear(a, MessageType.PING)  # Without any address, a PING's will do.
    assert bench.myself.ip == "10.0.0.9"

    other = bench.engine.link_accepted(a.ip, "10.0.0.10", bench.now_ms)
    bench.do(bench.engine.on_message(other, bench.message(a, MessageType.PING), bench.now_ms))
    assert bench.myself.ip == "10.0.0.9"
    effects = bench.do(bench.engine.on_message(other, bench.message(a, MessageType.MEET), bench.now_ms))
    assert bench.myself.ip == "10.0.0.10"
    assert "IP address for this node updated to 10.0.0.10" in logged(effects)


def test_an_announced_address_of_my_own_is_not_overruled() -> None:
    bench = EngineBench(cluster_announce_ip="192.168.1.1", cluster_announce_port=7777, cluster_announce_bus_port=8888)
    a = bench.peer("a")

    (pong,) = sent(bench.hear(a, MessageType.MEET), MessageType.PONG)

    assert bench.myself.ip == "192.168.1.1"
    assert (pong.header.my_ip, pong.header.port, pong.header.cport) == ("192.168.1.1", 7777, 8888)


def test_an_announced_address_that_is_withdrawn_is_found_out_anew() -> None:
    bench = EngineBench(cluster_announce_ip="192.168.1.1")
    version = bench.state.routing_version

    bench.settings.cluster_announce_ip = ""
    bench.do(bench.engine.on_settings_changed(bench.now_ms))

    assert bench.myself.ip == ""
    assert bench.state.routing_version > version


def test_hostnames_travel_with_every_ping() -> None:
    bench = EngineBench(cluster_announce_hostname="me.example")
    a = bench.peer("a")

    (pong,) = sent(bench.hear(a, MessageType.PING, Gossip(hostname="a.example")), MessageType.PONG)
    assert isinstance(pong.body, Gossip)
    assert pong.body.hostname == "me.example"
    assert a.hostname == "a.example"

    bench.hear(a, MessageType.PING, Gossip(hostname="not a hostname"))
    assert a.hostname == "a.example"
    effects = bench.hear(a, MessageType.PING, Gossip(unknown_extensions=(7,)))
    assert a.hostname == ""
    assert "Received unknown extension type 7" in logged(effects)


# -- links ------------------------------------------------------------------------------------------


def test_the_newest_inbound_link_of_a_node_replaces_the_older() -> None:
    bench = EngineBench()
    a = bench.peer("a")
    bench.hear(a, MessageType.PING)
    older = a.inbound_link
    newer = bench.engine.link_accepted(a.ip, "10.0.0.9", bench.now_ms)

    effects = bench.do(bench.engine.on_message(newer, bench.message(a, MessageType.PING), bench.now_ms))

    assert a.inbound_link is newer
    assert [close.link for close in of_kind(effects, CloseLink)] == [older]


def test_a_closed_link_speaks_for_nobody() -> None:
    bench = EngineBench()
    a = bench.peer("a")
    bench.hear(a, MessageType.PING)
    link = a.inbound_link
    assert link is not None
    bench.do(bench.engine.link_closed(link, bench.now_ms))
    bench.do(bench.engine.link_closed(link, bench.now_ms))

    effects = bench.do(bench.engine.on_message(link, bench.message(a, MessageType.PING), bench.now_ms))

    assert effects == []
    assert a.inbound_link is None


def test_a_lost_link_is_opened_again_with_the_next_tick() -> None:
    bench = EngineBench()
    a = bench.peer("a")
    assert a.link is not None
    bench.do(bench.engine.link_closed(a.link, bench.now_ms))

    (opened,) = of_kind(bench.tick(), OpenLink)

    assert opened.link is a.link
    assert opened.link.node is a


def test_messages_queued_while_connecting_are_sent_to_the_new_link() -> None:
    bench = EngineBench()
    a = bench.peer("a", linked=False)
    bench.tick()

    bench.engine.publish(b"channel", b"payload", False, bench.now_ms)

    assert receivers(bench.do([]), MessageType.PUBLISH) == {a}


def test_links_that_do_not_drain_are_dropped() -> None:
    bench = EngineBench(cluster_link_sendbuf_limit=1000)
    a, b = bench.peer("a"), bench.peer("b")
    bench.hear(a, MessageType.PING)
    assert a.link is not None and a.inbound_link is not None and b.link is not None
    inbound = a.inbound_link
    a.link.send_buffer_allocated_bytes = 1000
    inbound.send_buffer_allocated_bytes = 1001

    effects = bench.tick()

    assert [close.link for close in of_kind(effects, CloseLink)] == [inbound]
    assert bench.state.links_over_buffer_limit == 1
    assert (
        f"Freeing cluster link(from node {a.node_id}, used memory: 1001) due to exceeding send buffer memory limit."
        in logged(effects)
    )


@pytest.mark.parametrize(("outbound", "inbound"), [(True, False), (False, True), (True, True)])
def test_debug_clusterlink_kill(outbound: bool, inbound: bool) -> None:
    bench = EngineBench()
    a = bench.peer("a")
    bench.hear(a, MessageType.PING)
    expected = {link for link, wanted in ((a.link, outbound), (a.inbound_link, inbound)) if wanted}

    bench.engine.kill_links(a.node_id, outbound, inbound)

    assert {close.link for close in of_kind(bench.do([]), CloseLink)} == expected
