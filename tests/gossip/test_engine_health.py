"""When a node serves: coverage, majority, the delays of a returning master, and what it does after it stood still."""

from __future__ import annotations

import pytest

from cluster.gossip.effects import CloseLink, OpenLink, Send
from cluster.gossip.messages import MessageType, Update
from cluster.gossip.state import ClusterHealth, Node, NodeFlags
from cluster.slots.hashing import SLOT_COUNT
from cluster.slots.ranges import slots_to_bitmap
from tests.support.engines import (
    START_MS,
    TIMEOUT_MS,
    EngineBench,
    logged,
    of_kind,
    receivers,
    third,
)

OK, FAIL = ClusterHealth.OK, ClusterHealth.FAIL
STALL_MS = 5 * TIMEOUT_MS


def three_masters(**settings: object) -> tuple[EngineBench, Node, Node]:
    bench = EngineBench(slots=third(0), epoch=1, **settings)
    return bench, bench.peer("a", slots=third(1), epoch=2), bench.peer("b", slots=third(2), epoch=3)


# -- coverage and majority ------------------------------------------------------------------------


def test_a_new_master_with_everything_in_order_is_ok_after_the_writable_delay() -> None:
    bench, a, b = three_masters()

    bench.ticks(2000, answering=[a, b])
    assert bench.state.health is FAIL
    effects = bench.ticks(200, answering=[a, b])

    assert bench.state.health is OK
    assert logged(effects) == ["Cluster state changed: ok"]
    assert bench.state.size == 3


def test_a_slot_without_owner_stops_the_cluster() -> None:
    bench, _, _ = three_masters()
    bench.be_ok()

    bench.do(bench.engine.operations.delete_slots([(0, 0)], bench.now_ms))

    assert bench.state.health is FAIL


def test_unless_full_coverage_is_not_required() -> None:
    bench, _, _ = three_masters(cluster_require_full_coverage=False)
    bench.be_ok()

    bench.do(bench.engine.operations.delete_slots([(0, 0)], bench.now_ms))

    assert bench.state.health is OK


def test_a_failed_owner_is_none() -> None:
    bench, a, b = three_masters()
    bench.be_ok()
    a.flags |= NodeFlags.PFAIL
    bench.report(b, a, NodeFlags.MASTER | NodeFlags.PFAIL)

    assert a.is_fail
    assert bench.state.health is FAIL


def test_suspicion_alone_does_not_break_coverage() -> None:
    bench = EngineBench(slots=range(4096), epoch=1)
    peers = [
        bench.peer(letter, slots=range(4096 * i, 4096 * (i + 1)), epoch=i + 1) for i, letter in enumerate("abc", 1)
    ]
    bench.be_ok()

    bench.ticks(4 * TIMEOUT_MS, answering=peers[1:])

    assert peers[0].is_pfail
    assert bench.state.health is OK


@pytest.mark.parametrize("full_coverage", [True, False])
def test_a_minority_stops_serving_within_the_node_timeout_of_silence(full_coverage: bool) -> None:
    """Cluster spec: "Write safety": a master that cannot reach the majority stops accepting writes."""
    bench, a, b = three_masters(cluster_require_full_coverage=full_coverage)
    bench.be_ok()
    bench.ticks(TIMEOUT_MS, answering=[a, b])

    since_ms = bench.now_ms
    while bench.state.health is OK:
        bench.tick()

    assert bench.now_ms - since_ms <= 2 * TIMEOUT_MS + 200


def test_a_master_returns_from_the_minority_only_after_the_rejoin_delay() -> None:
    bench, a, b = three_masters()
    bench.be_ok()
    bench.ticks(4 * TIMEOUT_MS)
    assert bench.state.health is FAIL
    while a.is_suspected and b.is_suspected:
        bench.ticks(100, answering=[a, b])

    took_ms = 0
    while bench.state.health is FAIL:
        bench.ticks(100, answering=[a, b])
        took_ms += 100

    assert TIMEOUT_MS - 300 <= took_ms <= TIMEOUT_MS + 100


@pytest.mark.parametrize(("node_timeout_ms", "delay_ms"), [(100, 500), (2000, 2000), (60_000, 5000)])
def test_the_rejoin_delay_is_the_node_timeout_within_bounds(node_timeout_ms: int, delay_ms: int) -> None:
    bench, _, _ = three_masters(cluster_node_timeout=node_timeout_ms)
    bench.be_ok()
    bench.state.set_health(FAIL)
    bench.state.health_clock.among_minority_ms = bench.now_ms

    bench.engine.on_settings_changed(bench.now_ms + delay_ms - 1)
    bench.engine.before_sleep(bench.now_ms + delay_ms - 1)
    assert bench.state.health is FAIL
    bench.engine.on_settings_changed(bench.now_ms + delay_ms)
    bench.engine.before_sleep(bench.now_ms + delay_ms)
    assert bench.state.health is OK


def test_a_replica_needs_no_delay() -> None:
    bench = EngineBench()
    masters = [bench.peer(letter, slots=third(index), epoch=index + 1) for index, letter in enumerate("abc")]
    bench.replicate(masters[0])

    bench.tick()

    assert bench.state.health is OK


# -- restart ----------------------------------------------------------------------------------------


def test_a_restarted_master_does_not_serve_until_the_majority_answered() -> None:
    """DESIGN: a node that restarts must not accept writes for slots that moved meanwhile."""
    bench, _, _ = three_masters()
    bench.restart()
    a = bench.find("a")

    bench.ticks(10 * TIMEOUT_MS)
    assert bench.state.health is FAIL, "Redis would trust the flags in its file until the node timeout"
    bench.ticks(3000, answering=[a])

    assert bench.state.health is OK, "me and one of two others are a majority"


def test_a_restarted_master_whose_slots_moved_learns_it_before_it_serves() -> None:
    bench, _, _ = three_masters()
    bench.restart()
    a, b = bench.find("a"), bench.find("b")
    bench.ticks(300, answering=[a])

    # a voted for b's taking over of my slots, and says so when it sees me claim them.
    update = Update(b.node_id, 9, slots_to_bitmap([*third(0), *third(2)]))
    effects = bench.hear(a, MessageType.UPDATE, update, current_epoch=9)

    assert bench.myself.is_replica
    assert bench.myself.master is b
    assert f"Configuration change detected. Reconfiguring myself as a replica of {b.node_id}" in logged(effects)


# -- standing still ---------------------------------------------------------------------------------


def test_a_master_that_stood_still_stops_serving_before_anything_else() -> None:
    """SIGSTOP for longer than the node timeout: somebody else may serve its slots by now."""
    bench, a, b = three_masters()
    bench.be_ok()
    bench.ticks(TIMEOUT_MS, answering=[a, b])
    old_links = [a.link, b.link]
    bench.now_ms += STALL_MS

    effects = bench.engine.keep_alive(bench.now_ms)

    assert bench.state.health is FAIL
    assert any("Waiting for the answers of a majority of masters" in line for line in logged(effects))
    assert [close.link for close in of_kind(bench.do([]), CloseLink)] == old_links


def test_what_arrived_while_it_stood_still_is_no_evidence() -> None:
    """Old PONGs and PINGs wait in the kernel's buffers; only answers over links made since then are from now."""
    bench, a, b = three_masters()
    bench.be_ok()
    bench.ticks(TIMEOUT_MS, answering=[a, b])
    bench.hear(a, MessageType.PING)
    old_links = [link for link in (a.link, b.link) if link is not None]
    bench.now_ms += STALL_MS
    bench.do(bench.engine.keep_alive(bench.now_ms))

    for _ in range(100):
        for peer, link in zip((a, b), old_links, strict=True):
            pong = bench.message(peer, MessageType.PONG)
            bench.do(bench.engine.on_message(link, pong, bench.now_ms))
            bench.hear(peer, MessageType.PING)
        bench.tick()

    assert bench.state.health is FAIL


def test_a_master_that_stood_still_serves_again_once_the_majority_answered() -> None:
    bench, a, b = three_masters()
    bench.be_ok()
    bench.ticks(TIMEOUT_MS, answering=[a, b])
    bench.now_ms += STALL_MS
    bench.do(bench.engine.keep_alive(bench.now_ms))

    took_ms = 0
    while bench.state.health is FAIL:
        bench.ticks(100, answering=[a])
        took_ms += 100

    assert TIMEOUT_MS <= took_ms <= TIMEOUT_MS + 300


def test_an_answer_that_comes_late_is_given_time_for_an_update() -> None:
    bench, a, b = three_masters()
    bench.be_ok()
    bench.ticks(TIMEOUT_MS, answering=[a, b])
    bench.now_ms += STALL_MS
    bench.do(bench.engine.keep_alive(bench.now_ms))
    bench.ticks(10 * TIMEOUT_MS)

    took_ms = 0
    while bench.state.health is FAIL:
        bench.ticks(100, answering=[a, b])
        took_ms += 100

    assert took_ms >= 500


def test_a_tick_alone_notices_that_it_stood_still() -> None:
    bench, a, b = three_masters()
    bench.be_ok()
    bench.ticks(TIMEOUT_MS, answering=[a, b])

    bench.tick(after_ms=STALL_MS)

    assert bench.state.health is FAIL


def test_shorter_pauses_cost_nothing() -> None:
    """Nobody is suspected, let alone failed over, in less than the node timeout."""
    bench, a, b = three_masters()
    bench.be_ok()
    bench.ticks(TIMEOUT_MS, answering=[a, b])
    links = [a.link, b.link]

    for _ in range(5):
        bench.now_ms += TIMEOUT_MS - 1
        assert bench.engine.keep_alive(bench.now_ms) == []
        bench.ticks(500, answering=[a, b])

    assert bench.state.health is OK
    assert [a.link, b.link] == links


def test_serving_clients_is_being_alive() -> None:
    """A tick that is late because clients keep the process busy is no sign that it stood still."""
    bench, a, b = three_masters()
    bench.be_ok()
    bench.ticks(TIMEOUT_MS, answering=[a, b])

    for _ in range(20):
        bench.now_ms += 200
        bench.engine.keep_alive(bench.now_ms)
        for peer in (a, b):
            bench.hear(peer, MessageType.PING)
    bench.tick()

    assert bench.state.health is OK


def test_the_only_master_with_slots_cannot_have_been_replaced() -> None:
    bench = EngineBench(slots=range(SLOT_COUNT), epoch=1)
    replica = bench.peer("r", of=bench.myself)
    bench.ticks(3000, answering=[replica])
    assert bench.state.health is OK

    bench.now_ms += STALL_MS
    bench.do(bench.engine.keep_alive(bench.now_ms))

    assert bench.state.health is OK


def test_a_replica_that_stood_still_has_nothing_to_lose() -> None:
    bench = EngineBench()
    masters = [bench.peer(letter, slots=third(index), epoch=index + 1) for index, letter in enumerate("abc")]
    bench.replicate(masters[0])
    bench.tick()

    bench.now_ms += STALL_MS
    effects = bench.do(bench.engine.keep_alive(bench.now_ms))

    assert bench.state.health is OK
    assert effects == []


def test_after_standing_still_it_connects_anew_and_pings() -> None:
    bench, a, b = three_masters()
    bench.be_ok()
    bench.ticks(TIMEOUT_MS, answering=[a, b])
    bench.now_ms += STALL_MS
    bench.do(bench.engine.keep_alive(bench.now_ms))

    opened = of_kind(bench.tick(), OpenLink)
    effects = [
        effect
        for link in opened
        for effect in bench.do(bench.engine.link_connected(link.link, link.host, "10.0.0.9", bench.now_ms))
    ]

    assert receivers(of_kind(effects, Send), MessageType.PING) == {a, b}
    assert all(link.link.created_ms > START_MS + STALL_MS for link in opened)
