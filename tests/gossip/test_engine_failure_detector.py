"""From silence to PFAIL, from PFAIL to FAIL, and back. Cluster spec, "Heartbeat and gossip", "Failure detection"."""

from __future__ import annotations

import pytest

from cluster.gossip.effects import CloseLink, OpenLink, SaveConfig
from cluster.gossip.engine import YOUNG_VIEW_MS
from cluster.gossip.messages import Fail, Gossip, MessageType
from cluster.gossip.state import Node, NodeFlags
from tests.support.engines import TIMEOUT_MS, EngineBench, logged, node_id, of_kind, receivers, sent, stranger, third

FAILING = NodeFlags.MASTER | NodeFlags.PFAIL


def test_every_node_is_pinged_within_half_the_node_timeout() -> None:
    bench = EngineBench()
    peers = {bench.peer(letter) for letter in "abcdefgh"}

    effects = bench.ticks(TIMEOUT_MS // 2 + 100)

    assert receivers(effects, MessageType.PING) == peers


def test_once_a_second_a_random_node_is_pinged_besides() -> None:
    bench = EngineBench(cluster_node_timeout=60_000)
    peers = [bench.peer(letter) for letter in "abcdef"]
    bench.ticks(YOUNG_VIEW_MS, answering=peers)

    assert len(sent(bench.ticks(5_000, answering=peers), MessageType.PING)) == 5


def test_while_a_node_is_new_one_is_pinged_with_every_tick() -> None:
    bench = EngineBench(cluster_node_timeout=60_000)
    peers = [bench.peer(letter) for letter in "abcdef"]
    bench.ticks(YOUNG_VIEW_MS, answering=peers)
    bench.peer("g")

    assert len(sent(bench.ticks(1_000, answering=peers), MessageType.PING)) >= 9


def test_a_silent_link_is_replaced_after_half_the_node_timeout() -> None:
    """A bad connection is not yet a bad peer."""
    bench = EngineBench()
    peer = bench.peer("a")
    bench.ticks(TIMEOUT_MS, answering=[peer])
    link, silent_since_ms = peer.link, bench.now_ms

    while peer.link is link:
        effects = bench.tick()

    assert TIMEOUT_MS // 2 < bench.now_ms - silent_since_ms <= TIMEOUT_MS + 200
    assert [close.link for close in of_kind(effects, CloseLink)] == [link]
    assert not peer.is_pfail
    assert [opened.link.node for opened in of_kind(bench.tick(), OpenLink)] == [peer]


def test_a_ping_unanswered_for_the_node_timeout_makes_pfail() -> None:
    bench = EngineBench()
    peer = bench.peer("a")
    bench.be_ok()
    while not peer.ping_sent_ms:
        bench.tick()
    pinged_ms = peer.ping_sent_ms

    while not peer.is_pfail:
        assert bench.now_ms - pinged_ms <= TIMEOUT_MS
        bench.tick()

    assert not peer.is_fail
    assert bench.state.pfail_nodes == 1


def test_a_new_suspicion_is_reported_to_the_voters_at_once() -> None:
    """Redis lets the report ride on the next ping that is due: up to a second more before FAIL."""
    bench, (a, b, c, bad) = five_masters()
    replica = bench.peer("r", of=a)
    bench.ticks(TIMEOUT_MS, answering=[a, b, c, replica])

    while not bad.is_pfail:
        effects = bench.ticks(100, answering=[a, b, c, replica])

    assert receivers(effects, MessageType.PONG) == {a, b, c}
    for pong in sent(effects, MessageType.PONG):
        assert isinstance(pong.body, Gossip)
        assert [entry.flags for entry in pong.body.entries if entry.node_id == bad.node_id] == [FAILING]


def test_any_message_is_a_sign_of_life() -> None:
    """Cluster spec: PONGs may be late on a busy bus, so data counts as well."""
    bench = EngineBench()
    peer = bench.peer("a")

    for _ in range(40):
        bench.tick()
        bench.hear(peer, MessageType.FAILOVER_AUTH_ACK)

    assert peer.ping_sent_ms
    assert not peer.is_pfail


def test_a_peer_that_answers_is_never_suspected() -> None:
    bench = EngineBench()
    peers = [bench.peer(letter, slots=[index], epoch=index + 1) for index, letter in enumerate("abc")]

    bench.ticks(20 * TIMEOUT_MS, answering=peers)

    assert [peer.is_suspected for peer in peers] == [False] * 3


def test_a_refused_connection_counts_as_an_unanswered_ping() -> None:
    """Nobody would ever notice the failure of a node to which no ping can be sent."""
    bench = EngineBench()
    peer = bench.peer("a", linked=False)
    (opened,) = of_kind(bench.tick(), OpenLink)
    peer.ping_sent_ms = 0

    effects = bench.do(bench.engine.link_failed(opened.link, "Connection refused", bench.now_ms))

    assert peer.ping_sent_ms == bench.now_ms
    assert logged(effects) == [f"Connection with Node {peer.node_id} at {peer.ip}:16379 failed: Connection refused"]


def test_a_node_without_any_address_is_suspected_too() -> None:
    bench = EngineBench()
    peer = bench.peer("a", linked=False)
    peer.ip = ""

    effects = bench.ticks(TIMEOUT_MS + 300)

    assert of_kind(effects, OpenLink) == []
    assert peer.is_pfail


def test_reconnecting_does_not_make_the_silence_shorter() -> None:
    bench = EngineBench()
    peer = bench.peer("a")
    peer.ping_sent_ms = silent_since_ms = bench.now_ms
    assert peer.link is not None
    bench.do(bench.engine.link_closed(peer.link, bench.now_ms))
    (opened,) = of_kind(bench.tick(), OpenLink)

    effects = bench.do(bench.engine.link_connected(opened.link, peer.ip, "10.0.0.9", bench.now_ms))

    assert len(sent(effects, MessageType.PING)) == 1
    assert peer.ping_sent_ms == silent_since_ms


def test_a_pong_ends_pfail() -> None:
    bench = EngineBench()
    peer = bench.peer("a")
    peer.flags |= NodeFlags.PFAIL
    peer.ping_sent_ms = bench.now_ms - 1

    effects = bench.answer(peer)

    assert not peer.is_suspected
    assert (peer.ping_sent_ms, peer.pong_received_ms) == (0, bench.now_ms)
    assert len(of_kind(effects, SaveConfig)) == 1


# -- failure reports ------------------------------------------------------------------------------


def five_masters() -> tuple[EngineBench, list[Node]]:
    bench = EngineBench(slots=[0], epoch=1)
    peers = [bench.peer(letter, slots=[index + 1], epoch=index + 2) for index, letter in enumerate("abcd")]
    bench.be_ok()
    return bench, peers


def test_the_report_that_completes_a_quorum_declares_fail() -> None:
    """Cluster spec: PFAIL is escalated to FAIL when the majority of masters signalled it."""
    # Given five masters, and a peer that this one holds as PFAIL
    bench, (a, b, c, bad) = five_masters()
    bad.flags |= NodeFlags.PFAIL

    # When two others report it
    first = bench.report(a, bad, FAILING)
    assert not bad.is_fail
    second = bench.report(b, bad, FAILING)

    # Then the second report does it: three of five, counting myself
    assert bad.is_fail and not bad.is_pfail
    assert bad.fail_since_ms == bench.now_ms
    assert logged(first)[-1:] == [f"Node {a.node_id} reported node {bad.node_id} as not reachable."]
    assert f"Marking node {bad.node_id} as failing (quorum reached)." in logged(second)
    assert receivers(second, MessageType.FAIL) == {a, b, c, bad}
    assert [message.body for message in sent(second, MessageType.FAIL)] == [Fail(bad.node_id)] * 4


def test_a_node_that_i_reach_is_not_failed_by_reports() -> None:
    bench, (a, b, c, bad) = five_masters()

    for reporter in (a, b, c):
        bench.report(reporter, bad, FAILING)

    assert not bad.is_suspected
    assert bench.engine.operations.count_failure_reports(bad.node_id, bench.now_ms) == 3


def test_reports_that_came_before_my_own_suspicion_count_when_it_comes() -> None:
    bench, (a, b, c, bad) = five_masters()
    bench.ticks(TIMEOUT_MS, answering=[a, b, c])
    for _ in range(20):
        bench.report(a, bad, FAILING)
        bench.report(b, bad, FAILING)
        bench.ticks(100, answering=[a, b, c])

    assert bad.is_fail


@pytest.mark.parametrize(("age_ms", "counts"), [(2 * TIMEOUT_MS, True), (2 * TIMEOUT_MS + 1, False)])
def test_a_report_counts_for_two_node_timeouts(age_ms: int, counts: bool) -> None:
    bench, (a, b, _, bad) = five_masters()
    bad.flags |= NodeFlags.PFAIL
    bench.report(a, bad, FAILING)
    bench.now_ms += age_ms

    bench.report(b, bad, FAILING)

    assert bad.is_fail is counts


def test_a_reporter_that_changes_its_mind_takes_its_report_back() -> None:
    bench, (a, b, _, bad) = five_masters()
    bad.flags |= NodeFlags.PFAIL
    bench.report(a, bad, FAILING)

    effects = bench.report(a, bad, NodeFlags.MASTER)
    bench.report(b, bad, FAILING)

    assert not bad.is_fail
    assert f"Node {a.node_id} reported node {bad.node_id} is back online." in logged(effects)


def test_one_reporter_counts_once() -> None:
    bench, (a, _, _, bad) = five_masters()
    bad.flags |= NodeFlags.PFAIL

    for _ in range(5):
        bench.report(a, bad, FAILING)

    assert not bad.is_fail


def test_reports_of_replicas_do_not_count() -> None:
    """Cluster spec: only masters are involved in declaring a node as failing."""
    bench, (a, b, _, bad) = five_masters()
    replicas = [bench.peer("r", of=a), bench.peer("s", of=b)]
    bad.flags |= NodeFlags.PFAIL

    for replica in replicas:
        bench.report(replica, bad, FAILING)

    assert bench.engine.operations.count_failure_reports(bad.node_id, bench.now_ms) == 0
    assert not bad.is_fail


def test_a_replica_counts_the_masters_but_not_itself() -> None:
    bench = EngineBench()
    a, b, bad = (bench.peer(letter, slots=[index], epoch=index + 1) for index, letter in enumerate("abc"))
    bench.replicate(a)
    bad.flags |= NodeFlags.PFAIL

    bench.report(a, bad, FAILING)
    assert not bad.is_fail
    effects = bench.report(b, bad, FAILING)

    assert bad.is_fail
    assert sent(effects, MessageType.FAIL), "a replica spreads the verdict too"


def test_reports_about_myself_are_none_of_my_business() -> None:
    bench, (a, b, c, _) = five_masters()

    for reporter in (a, b, c):
        bench.report(reporter, bench.myself, FAILING)

    assert not bench.myself.is_suspected


# -- FAIL messages --------------------------------------------------------------------------------


def test_a_fail_message_is_believed() -> None:
    bench, (a, _, _, bad) = five_masters()

    effects = bench.hear(a, MessageType.FAIL, Fail(bad.node_id))

    assert bad.is_fail
    assert logged(effects)[0] == f"FAIL message received from {a.node_id} about {bad.node_id}"
    assert bench.hear(a, MessageType.FAIL, Fail(bad.node_id)) == []


def test_a_fail_message_about_me_or_from_a_stranger_is_not() -> None:
    bench, (a, _, _, bad) = five_masters()

    bench.hear(a, MessageType.FAIL, Fail(bench.myself.node_id))
    bench.hear(a, MessageType.FAIL, Fail(node_id("u")))
    effects = bench.hear(stranger("x"), MessageType.FAIL, Fail(bad.node_id))

    assert not bench.myself.is_fail and not bad.is_fail
    assert logged(effects) == [
        f"Ignoring FAIL message from unknown node {node_id('x')} about {bad.node_id}",
    ]


# -- back again -----------------------------------------------------------------------------------


def test_a_replica_that_is_back_is_cleared_at_once() -> None:
    bench = EngineBench()
    replica = bench.peer("r", of=bench.peer("a", slots=[0], epoch=1))
    replica.flags |= NodeFlags.FAIL
    replica.fail_since_ms = bench.now_ms

    effects = bench.answer(replica)

    assert not replica.is_fail
    assert f"Clear FAIL state for node {replica.node_id}: replica is reachable again." in logged(effects)


def test_a_master_without_slots_that_is_back_is_cleared_at_once() -> None:
    bench = EngineBench()
    master = bench.peer("a")
    master.flags |= NodeFlags.FAIL
    master.fail_since_ms = bench.now_ms

    effects = bench.answer(master)

    assert f"Clear FAIL state for node {master.node_id}: master without slots is reachable again." in logged(effects)


@pytest.mark.parametrize(("age_ms", "cleared"), [(2 * TIMEOUT_MS, False), (2 * TIMEOUT_MS + 1, True)])
def test_a_master_with_slots_is_cleared_only_after_time_for_a_failover(age_ms: int, cleared: bool) -> None:
    bench = EngineBench()
    master = bench.peer("a", slots=third(0), epoch=1)
    master.flags |= NodeFlags.FAIL
    master.fail_since_ms = bench.now_ms
    bench.now_ms += age_ms

    bench.answer(master)

    assert master.is_fail is not cleared


# -- what is gossiped -----------------------------------------------------------------------------


def gossiped(bench: EngineBench, sender: Node) -> list[str]:
    (pong,) = sent(bench.hear(sender, MessageType.PING), MessageType.PONG)
    assert isinstance(pong.body, Gossip)
    return [entry.node_id for entry in pong.body.entries]


def test_a_message_tells_of_three_others_or_a_tenth() -> None:
    bench = EngineBench()
    peers = [bench.peer(letter) for letter in "abcde"]
    assert len(gossiped(bench, peers[0])) == 3

    for index in range(50):
        bench.peer(chr(0x100 + index))
    assert len(gossiped(bench, peers[0])) == 5


def test_every_message_tells_of_all_that_are_pfail() -> None:
    bench = EngineBench()
    peers = [bench.peer(letter) for letter in "abcdefgh"]
    for peer in peers[1:]:
        peer.flags |= NodeFlags.PFAIL
    bench.tick()

    assert set(gossiped(bench, peers[0])) >= {peer.node_id for peer in peers[1:]}


def test_nobody_is_told_of_handshakes_lost_addresses_or_idle_strangers() -> None:
    bench = EngineBench()
    a, noaddr, unlinked = bench.peer("a"), bench.peer("b"), bench.peer("c", linked=False)
    owner = bench.peer("d", slots=[1], epoch=1, linked=False)
    noaddr.flags |= NodeFlags.NOADDR
    bench.do(bench.engine.operations.meet("10.0.0.1", 7000, None, bench.now_ms))

    told = {node for _ in range(20) for node in gossiped(bench, a)}

    assert told == {a.node_id, owner.node_id}
    assert unlinked.node_id not in told


# -- my own lateness --------------------------------------------------------------------------------


@pytest.mark.parametrize("stall_ms", [TIMEOUT_MS // 2 + 1, TIMEOUT_MS - 1, TIMEOUT_MS, 20 * TIMEOUT_MS])
def test_a_node_that_stood_still_accuses_nobody(stall_ms: int) -> None:
    """DESIGN: a node that was late itself must not declare others failed on that evidence."""
    bench = EngineBench(slots=third(0), epoch=1)
    peers = [bench.peer("a", slots=third(1), epoch=2), bench.peer("b", slots=third(2), epoch=3)]
    bench.ticks(TIMEOUT_MS, answering=peers)
    for peer in peers:
        peer.ping_sent_ms = bench.now_ms

    bench.tick(after_ms=stall_ms)

    assert [peer.is_suspected for peer in peers] == [False, False]
    bench.ticks(2 * TIMEOUT_MS)
    assert [peer.is_suspected for peer in peers] == [True, True], "they get a chance, not a pardon"


def test_time_that_passed_while_i_ran_is_evidence() -> None:
    bench = EngineBench(slots=third(0), epoch=1)
    peer = bench.peer("a", slots=third(1), epoch=2)
    peer.ping_sent_ms = bench.now_ms - TIMEOUT_MS
    peer.data_received_ms = bench.now_ms - TIMEOUT_MS

    bench.tick()

    assert peer.is_pfail
