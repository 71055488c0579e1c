"""CLUSTER FAILOVER, with FORCE and TAKEOVER, on either side."""

from __future__ import annotations

import pytest

from cluster.errors import CommandError
from cluster.failover.operations import FailoverMode
from cluster.gossip.effects import PauseClients, SaveConfig, StopReplication, UnpauseClients
from cluster.gossip.messages import EMPTY, MessageFlags, MessageType
from cluster.gossip.state import NodeFlags
from tests.support.engines import TIMEOUT_MS, EngineBench, logged, of_kind, receivers, sent, third

NORMAL, FORCE, TAKEOVER = FailoverMode


def given_replica() -> EngineBench:
    """I replicate ``a``; ``b`` and ``c`` are the other masters."""
    bench = EngineBench()
    master = bench.peer("a", slots=third(0), epoch=1)
    bench.peer("b", slots=third(1), epoch=2)
    bench.peer("c", slots=third(2), epoch=3)
    bench.replicate(master)
    bench.data.offset = 100
    bench.be_ok()
    return bench


def order(bench: EngineBench, mode: FailoverMode) -> list[object]:
    return bench.do(bench.engine.operations.failover(mode, bench.now_ms))  # type: ignore[return-value]


def refusal(bench: EngineBench, mode: FailoverMode = NORMAL) -> bytes:
    with pytest.raises(CommandError) as caught:
        order(bench, mode)
    return caught.value.message


# -- the replica's side -----------------------------------------------------------------------------


def test_the_replica_asks_its_master_to_pause() -> None:
    bench = given_replica()

    effects = order(bench, NORMAL)

    assert receivers(effects, MessageType.MFSTART) == {bench.find("a")}
    assert logged(effects) == ["Manual failover user request accepted."]
    assert not bench.state.manual.can_start


def test_it_waits_until_it_has_processed_what_the_master_had_when_it_paused() -> None:
    bench = given_replica()
    order(bench, NORMAL)
    master = bench.find("a")

    effects = bench.hear(master, MessageType.PING, mflags=MessageFlags.PAUSED, repl_offset=150)
    assert "Received replication offset for paused master manual failover: 150" in logged(effects)
    bench.hear(master, MessageType.PING, mflags=MessageFlags.PAUSED, repl_offset=160)
    assert bench.do([]) == [], "not there yet"
    bench.data.offset = 150
    effects = bench.do([])

    assert "All master replication stream processed, manual failover can start." in logged(effects)
    assert "Start of election delayed for 0 milliseconds (rank #0, offset 150)." in logged(effects)
    (request, *_) = sent(effects, MessageType.FAILOVER_AUTH_REQUEST)
    assert request.header.mflags & MessageFlags.FORCEACK


def test_an_offset_of_a_master_that_has_not_paused_is_not_the_one() -> None:
    bench = given_replica()
    order(bench, NORMAL)

    bench.hear(bench.find("a"), MessageType.PING, repl_offset=100)
    bench.hear(bench.find("b"), MessageType.PING, mflags=MessageFlags.PAUSED, repl_offset=100)

    assert bench.state.manual.master_offset == -1


def test_a_majority_of_votes_completes_it() -> None:
    bench = given_replica()
    order(bench, NORMAL)
    bench.hear(bench.find("a"), MessageType.PING, mflags=MessageFlags.PAUSED, repl_offset=100)

    for letter in "bc":
        effects = bench.hear(bench.find(letter), MessageType.FAILOVER_AUTH_ACK, EMPTY)

    assert bench.myself.is_master and bench.myself.config_epoch == 4
    assert StopReplication() in effects
    assert bench.state.manual.end_ms == 0


def test_it_is_given_up_after_five_seconds() -> None:
    bench = given_replica()
    order(bench, NORMAL)

    early = bench.ticks(5000, answering=[bench.find(letter) for letter in "abc"])
    late = bench.ticks(100, answering=[bench.find(letter) for letter in "abc"])

    assert "Manual failover timed out." not in logged(early)
    assert "Manual failover timed out." in logged(late)
    assert bench.state.manual.end_ms == 0


def test_force_does_not_ask_the_master() -> None:
    bench = given_replica()
    bench.find("a").flags |= NodeFlags.FAIL

    effects = order(bench, FORCE)

    assert sent(effects, MessageType.MFSTART) == []
    assert len(sent(effects, MessageType.FAILOVER_AUTH_REQUEST)) == 3
    assert logged(effects)[0] == "Forced failover user request accepted."


def test_force_works_for_a_replica_that_must_not_stand_and_whose_data_is_old() -> None:
    bench = given_replica()
    bench.settings.cluster_replica_no_failover = True
    bench.data.master_seen_ms = 0

    assert len(sent(order(bench, FORCE), MessageType.FAILOVER_AUTH_REQUEST)) == 3


def test_takeover_asks_nobody() -> None:
    bench = given_replica()

    effects = order(bench, TAKEOVER)

    assert bench.myself.is_master and bench.myself.slot_count == len(third(0))
    assert (bench.myself.config_epoch, bench.state.current_epoch) == (4, 4)
    assert sent(effects, MessageType.FAILOVER_AUTH_REQUEST) == []
    assert SaveConfig(fsync=True) in effects
    assert len(sent(effects, MessageType.PONG)) == 3
    assert logged(effects)[:2] == ["Taking over the master (user request).", "New configEpoch set to 4"]


def test_refusals() -> None:
    assert refusal(EngineBench()) == b"ERR You should send CLUSTER FAILOVER to a replica"

    bench = given_replica()
    bench.find("a").flags |= NodeFlags.FAIL
    assert refusal(bench) == b"ERR Master is down or failed, please use CLUSTER FAILOVER FORCE"

    bench = given_replica()
    link = bench.find("a").link
    assert link is not None
    bench.do(bench.engine.link_closed(link, bench.now_ms))
    assert refusal(bench) == b"ERR Master is down or failed, please use CLUSTER FAILOVER FORCE"

    bench = given_replica()
    bench.state.remove_replica(bench.myself)
    assert refusal(bench, FORCE) == b"ERR I'm a replica but my master is unknown to me"


def test_a_new_master_ends_it() -> None:
    bench = given_replica()
    order(bench, NORMAL)

    bench.do(bench.engine.operations.replicate(bench.find("b").node_id, bench.now_ms))

    assert bench.state.manual.end_ms == 0


# -- the master's side ------------------------------------------------------------------------------


def given_master() -> EngineBench:
    bench = EngineBench(slots=third(0), epoch=1)
    bench.peer("r", of=bench.myself)
    bench.peer("b", slots=third(1), epoch=2)
    bench.data.offset = 777
    return bench


def test_the_master_pauses_and_says_at_which_offset() -> None:
    bench = given_master()
    replica = bench.find("r")

    effects = bench.hear(replica, MessageType.MFSTART)

    assert of_kind(effects, PauseClients) == [PauseClients(bench.now_ms + 10_000)]
    assert logged(effects) == [f"Manual failover requested by replica {replica.node_id}."]
    (ping,) = sent(effects, MessageType.PING)
    assert ping.header.mflags & MessageFlags.PAUSED
    assert ping.header.repl_offset == 777


def test_it_says_so_with_every_tick() -> None:
    bench = given_master()
    replica = bench.find("r")
    bench.hear(replica, MessageType.MFSTART)

    for _ in range(5):
        assert replica in receivers(bench.tick(), MessageType.PING)


def test_clients_go_on_when_it_takes_too_long() -> None:
    bench = given_master()
    bench.hear(bench.find("r"), MessageType.MFSTART)

    effects = bench.ticks(5200, answering=[bench.find("r"), bench.find("b")])

    assert of_kind(effects, UnpauseClients) == [UnpauseClients()]


def test_clients_go_on_when_the_replica_has_taken_over() -> None:
    bench = given_master()
    replica = bench.find("r")
    bench.hear(replica, MessageType.MFSTART)

    effects = bench.hear(replica, MessageType.PING, master_id=None, slots=third(0), config_epoch=5, current_epoch=5)

    assert bench.myself.master is replica
    assert of_kind(effects, UnpauseClients) == [UnpauseClients()]


@pytest.mark.parametrize("letter", ["b", "s"])
def test_only_my_own_replicas_may_ask(letter: str) -> None:
    bench = given_master()
    bench.peer("s", of=bench.find("b"))

    effects = bench.hear(bench.find(letter), MessageType.MFSTART)

    assert of_kind(effects, PauseClients) == []
    assert bench.state.manual.end_ms == 0


def test_the_node_timeout_does_not_matter() -> None:
    bench = given_master()
    bench.settings.cluster_node_timeout = 60 * TIMEOUT_MS

    bench.hear(bench.find("r"), MessageType.MFSTART)

    assert bench.state.manual.end_ms == bench.now_ms + 5000
