"""A master's vote. Cluster spec, "Masters reply to replica vote request"."""

from __future__ import annotations

import pytest

from cluster.gossip.effects import Effect, SaveConfig, Send
from cluster.gossip.messages import EMPTY, MessageFlags, MessageType
from cluster.gossip.nodes_conf import format_nodes_conf
from cluster.gossip.state import NodeFlags
from cluster.slots.ranges import slots_to_bitmap
from tests.support.engines import TIMEOUT_MS, EngineBench, logged, receivers, stranger, third


class Voter(EngineBench):
    """I am one of three masters; ``failed`` is down, and ``candidate`` wants to replace it."""

    def __init__(self, slots: range | list[int] | None = None) -> None:
        super().__init__(slots=third(0) if slots is None else slots, epoch=1)
        self.failed = self.peer("a", slots=third(1), epoch=2)
        self.other = self.peer("b", slots=third(2), epoch=3)
        self.candidate = self.peer("r", of=self.failed)
        self.failed.flags |= NodeFlags.FAIL
        self.now_ms += 10 * TIMEOUT_MS

    def request(self, **changes: object) -> list[Effect]:
        changes.setdefault("current_epoch", self.state.current_epoch + 1)
        sender = changes.pop("from_", self.candidate)
        return self.hear(sender, MessageType.FAILOVER_AUTH_REQUEST, EMPTY, **changes)  # type: ignore[arg-type]


def denial(effects: list[Effect]) -> str:
    assert receivers(effects, MessageType.FAILOVER_AUTH_ACK) == set()
    (line,) = logged(effects)
    return line.partition(": ")[2]


def test_a_replica_of_a_failed_master_gets_the_vote_after_it_is_on_disk() -> None:
    bench = Voter()

    effects = bench.request(current_epoch=7)

    assert receivers(effects, MessageType.FAILOVER_AUTH_ACK) == {bench.candidate}
    (send,) = [effect for effect in effects if isinstance(effect, Send)]
    assert send.message.header.current_epoch == 7
    assert effects.index(SaveConfig(fsync=True)) < effects.index(send)
    assert "vars currentEpoch 7 lastVoteEpoch 7" in format_nodes_conf(bench.state)
    assert logged(effects) == [f"Failover auth granted to {bench.candidate.node_id} for epoch 7"]


def test_one_vote_per_epoch() -> None:
    bench = Voter()
    second = bench.peer("s", of=bench.other)
    bench.other.flags |= NodeFlags.FAIL
    bench.request(current_epoch=7)

    assert denial(bench.request(from_=second, current_epoch=7)) == "already voted for epoch 7"


def test_an_old_epoch_gets_no_vote() -> None:
    bench = Voter()

    assert denial(bench.request(current_epoch=2)) == "reqEpoch (2) < curEpoch(3)"


def test_a_master_gets_no_vote() -> None:
    bench = Voter()

    assert denial(bench.request(from_=bench.other)) == "it is a master node"


def test_a_replica_of_nobody_gets_no_vote() -> None:
    bench = Voter()
    bench.state.remove_replica(bench.candidate)

    assert denial(bench.request(slots=[], config_epoch=0)) == "I don't know its master"


def test_a_replica_of_a_master_that_is_up_gets_no_vote() -> None:
    bench = Voter()
    bench.failed.flags &= ~NodeFlags.FAIL

    assert denial(bench.request()) == "its master is up"


def test_pfail_is_not_fail() -> None:
    bench = Voter()
    bench.failed.flags = NodeFlags.MASTER | NodeFlags.PFAIL

    assert denial(bench.request()) == "its master is up"


def test_a_manual_failover_gets_the_vote_while_the_master_is_up() -> None:
    bench = Voter()
    bench.failed.flags &= ~NodeFlags.FAIL

    effects = bench.request(mflags=MessageFlags.FORCEACK)

    assert receivers(effects, MessageType.FAILOVER_AUTH_ACK) == {bench.candidate}


@pytest.mark.parametrize(("after_ms", "votes"), [(2 * TIMEOUT_MS - 1, False), (2 * TIMEOUT_MS, True)])
def test_one_vote_about_a_master_in_two_node_timeouts(after_ms: int, votes: bool) -> None:
    bench = Voter()
    bench.request()
    bench.now_ms += after_ms

    effects = bench.request()

    assert (receivers(effects, MessageType.FAILOVER_AUTH_ACK) == {bench.candidate}) is votes
    if not votes:
        assert denial(effects) == "can't vote about this master before 1 milliseconds"


def test_a_candidate_with_old_slots_gets_no_vote() -> None:
    """Cluster spec: the config epoch of the claimed slots must not be smaller than the one this master knows."""
    bench = Voter()

    effects = bench.request(config_epoch=2, slots=slots_to_bitmap([*third(1), third(2)[5]]))

    assert denial(effects) == f"slot {third(2)[5]} epoch (3) > reqEpoch (2)"


def test_masters_without_slots_have_no_vote() -> None:
    bench = Voter(slots=[])

    effects = bench.request()

    assert logged(effects) == []
    assert receivers(effects, MessageType.FAILOVER_AUTH_ACK) == set()


def test_replicas_have_no_vote() -> None:
    bench = Voter(slots=[])
    bench.replicate(bench.other)

    assert receivers(bench.request(), MessageType.FAILOVER_AUTH_ACK) == set()


def test_strangers_get_no_vote() -> None:
    bench = Voter()

    assert bench.request(from_=stranger("x")) == []
    assert bench.state.last_vote_epoch == 0


def test_a_vote_survives_a_restart() -> None:
    bench = Voter()
    bench.request(current_epoch=7)

    bench.restart()

    assert denial(bench.request(from_=bench.find("r"), current_epoch=7)) == "already voted for epoch 7"
