"""How a replica replaces its failed master. Cluster spec, "Replica election and promotion", "Replica rank"."""

from __future__ import annotations

import pytest

from cluster.gossip.effects import SaveConfig, Send, StopReplication
from cluster.gossip.messages import EMPTY, MessageFlags, MessageType
from cluster.gossip.state import FOREVER_MS, CantFailover, ClusterHealth, Node, NodeFlags
from tests.support.engines import TIMEOUT_MS, EngineBench, logged, of_kind, receivers, sent, third

VOTE_TIMEOUT_MS = 2 * TIMEOUT_MS
DELAY_MS_MIN, DELAY_MS_MAX = 500, 1000


class Replica(EngineBench):
    """I replicate ``master``, one of three; the others are ``b`` and ``c``."""

    def __init__(self, **settings: object) -> None:
        super().__init__(epoch=0, **settings)
        self.master = self.peer("a", slots=third(0), epoch=1)
        self.b = self.peer("b", slots=third(1), epoch=2)
        self.c = self.peer("c", slots=third(2), epoch=3)
        self.replicate(self.master)
        self.data.offset = 100
        self.be_ok()

    def master_fails(self) -> None:
        self.master.flags |= NodeFlags.FAIL
        self.master.fail_since_ms = self.now_ms

    def wait(self, duration_ms: int) -> list[object]:
        """Time passes; the other masters are up and, so far as they are asked, silent about the election."""
        return self.ticks(duration_ms, answering=[self.b, self.c])  # type: ignore[return-value]

    def wait_for_request(self) -> list[object]:
        while not self.state.election.is_requested:
            effects = self.wait(100)
        return effects

    def vote(self, voter: Node, **changes: object) -> list[object]:
        return self.hear(voter, MessageType.FAILOVER_AUTH_ACK, EMPTY, **changes)  # type: ignore[return-value]


def test_nothing_happens_while_the_master_is_up() -> None:
    bench = Replica()

    assert sent(bench.wait(10 * TIMEOUT_MS), MessageType.FAILOVER_AUTH_REQUEST) == []


def test_nothing_happens_for_a_master_without_slots() -> None:
    bench = Replica()
    for slot in third(0):
        bench.state.unassign_slot(slot)
    bench.master_fails()

    assert sent(bench.wait(5 * TIMEOUT_MS), MessageType.FAILOVER_AUTH_REQUEST) == []


def test_votes_are_asked_for_after_a_delay_in_a_new_epoch_that_is_on_disk() -> None:
    bench = Replica()
    bench.master_fails()
    failed_ms = bench.now_ms

    effects = bench.wait_for_request()

    assert DELAY_MS_MIN <= bench.now_ms - failed_ms <= DELAY_MS_MAX + 200
    assert bench.state.current_epoch == bench.state.election.epoch == 4
    assert receivers(effects, MessageType.FAILOVER_AUTH_REQUEST) == {bench.master, bench.b, bench.c}
    request = sent(effects, MessageType.FAILOVER_AUTH_REQUEST)[0].header
    assert (request.current_epoch, request.config_epoch, request.slots) == (4, 1, bytes(bench.master.slots))
    assert not request.mflags & MessageFlags.FORCEACK
    assert effects.index(SaveConfig(fsync=True)) < next(i for i, e in enumerate(effects) if isinstance(e, Send))
    assert "Starting a failover election for epoch 4." in logged(effects)


def test_the_delay_depends_on_the_random_source_alone() -> None:
    starts = set()
    for seed in range(40):
        bench = Replica()
        bench.rng.seed(seed)
        bench.master_fails()
        bench.wait(100)
        starts.add(bench.state.election.start_ms - bench.now_ms)

    assert len(starts) > 20
    assert starts <= set(range(DELAY_MS_MIN, DELAY_MS_MAX))


def test_a_majority_of_votes_wins() -> None:
    bench = Replica()
    bench.master_fails()
    bench.wait_for_request()

    bench.vote(bench.b)
    assert bench.myself.is_replica
    effects = bench.vote(bench.c)

    assert bench.myself.is_master and bench.myself.master is None
    assert bench.myself.config_epoch == 4
    assert bench.myself.slot_count == len(third(0)) and bench.master.slot_count == 0
    assert bench.state.health is ClusterHealth.OK
    assert of_kind(effects, StopReplication) == [StopReplication()]
    assert SaveConfig(fsync=True) in effects
    assert receivers(effects, MessageType.PONG) == {bench.master, bench.b, bench.c}
    pong = sent(effects, MessageType.PONG)[0].header
    assert (pong.config_epoch, pong.master_id, pong.slots) == (4, None, bytes(bench.myself.slots))
    assert logged(effects)[:2] == [
        "Failover election won: I'm the new master.",
        "configEpoch set to 4 after successful failover",
    ]


def test_one_voter_counts_once() -> None:
    bench = Replica()
    bench.master_fails()
    bench.wait_for_request()

    for _ in range(5):
        bench.vote(bench.b)

    assert bench.myself.is_replica


@pytest.mark.parametrize("epoch", [3, 5])
def test_a_vote_of_another_epoch_does_not_count(epoch: int) -> None:
    bench = Replica()
    bench.master_fails()
    bench.wait_for_request()

    bench.vote(bench.b, current_epoch=epoch)
    bench.vote(bench.c, current_epoch=epoch)

    assert bench.myself.is_replica


def test_only_masters_with_slots_vote() -> None:
    bench = Replica()
    others = [bench.peer("d", epoch=3), bench.peer("r", of=bench.b), bench.peer("s", of=bench.c)]
    bench.master_fails()
    bench.wait_for_request()

    for other in others:
        bench.vote(other)

    assert bench.myself.is_replica


def test_a_vote_that_comes_after_its_election_does_not_count_for_the_next() -> None:
    """In 7.0.15 it does, if it comes between scheduling the next election and asking for votes."""
    bench = Replica()
    bench.master_fails()
    bench.wait_for_request()
    bench.vote(bench.b)
    while bench.state.election.is_requested:
        bench.wait(100)  # Expired, and the next one is scheduled.

    bench.vote(bench.c, current_epoch=4)
    bench.wait_for_request()
    bench.vote(bench.b)

    assert bench.state.election.epoch == 5
    assert bench.myself.is_replica
    bench.vote(bench.c)
    assert bench.myself.is_master


def test_an_election_without_a_winner_is_repeated_after_twice_the_vote_timeout() -> None:
    bench = Replica()
    bench.master_fails()
    bench.wait_for_request()
    first_ms = bench.state.election.start_ms

    while bench.state.election.epoch == 4:
        bench.wait(100)

    assert 2 * VOTE_TIMEOUT_MS < bench.now_ms - first_ms <= 2 * VOTE_TIMEOUT_MS + DELAY_MS_MAX + 300


def test_votes_that_come_too_late_do_not_win() -> None:
    bench = Replica()
    bench.master_fails()
    bench.wait_for_request()
    bench.wait(VOTE_TIMEOUT_MS + 200)

    bench.vote(bench.b)
    bench.vote(bench.c)

    assert bench.myself.is_replica


def test_votes_against_one_master_do_not_serve_against_the_next() -> None:
    """The epoch of that election is older than the new master's claims."""
    bench = Replica()
    sibling = bench.peer("s", of=bench.master)
    bench.master_fails()
    bench.wait_for_request()
    bench.vote(bench.b)
    bench.hear(sibling, MessageType.PING, master_id=None, config_epoch=9, current_epoch=9)
    assert bench.myself.master is sibling

    sibling.flags |= NodeFlags.FAIL
    sibling.fail_since_ms = bench.now_ms
    bench.vote(bench.c, current_epoch=4)

    assert bench.myself.is_replica


# -- rank -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offsets", "rank"), [([], 0), ([100], 0), ([99, 101], 1), ([101, 102, 103], 3)])
def test_the_rank_is_the_number_of_siblings_with_more_data(offsets: list[int], rank: int) -> None:
    bench = Replica()
    for letter, offset in zip("rst", offsets, strict=False):
        bench.peer(letter, of=bench.master).repl_offset = offset
    bench.master_fails()

    effects = bench.wait(100)

    delay_ms = bench.state.election.start_ms - bench.now_ms
    assert DELAY_MS_MIN + rank * 1000 <= delay_ms < DELAY_MS_MAX + rank * 1000
    expected = f"Start of election delayed for {delay_ms} milliseconds (rank #{rank}, offset 100)."
    assert expected in logged(effects)


def test_siblings_that_will_not_stand_do_not_count() -> None:
    bench = Replica()
    sibling = bench.peer("r", of=bench.master)
    sibling.repl_offset = 999
    sibling.flags |= NodeFlags.NOFAILOVER
    bench.master_fails()
    bench.wait(100)

    assert bench.state.election.rank == 0


def test_the_siblings_are_told_my_offset() -> None:
    bench = Replica()
    siblings = {bench.peer("r", of=bench.master), bench.peer("s", of=bench.master)}
    stranger = bench.peer("t", of=bench.b)
    bench.master_fails()

    effects = bench.wait(100)

    assert receivers(effects, MessageType.PONG) == siblings
    assert stranger not in siblings


def test_a_rank_that_sinks_delays_further() -> None:
    bench = Replica()
    sibling = bench.peer("r", of=bench.master)
    bench.master_fails()
    bench.wait(100)
    start_ms = bench.state.election.start_ms

    bench.hear(sibling, MessageType.PONG, repl_offset=101)
    effects = bench.wait(100)

    assert bench.state.election.start_ms == start_ms + 1000
    assert "Replica rank updated to #1, added 1000 milliseconds of delay." in logged(effects)


# -- who may stand ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_ms", "stands"),
    [(21 * TIMEOUT_MS, True), (21 * TIMEOUT_MS + 1, False), (FOREVER_MS, False)],
)
def test_data_that_is_too_old_disqualifies(age_ms: int, stands: bool) -> None:
    """The limit: node timeout * validity factor + replication ping period; one node timeout is forgiven."""
    bench = Replica(cluster_replica_validity_factor=10, repl_ping_replica_period=10)
    bench.data.master_seen_ms = 0 if age_ms == FOREVER_MS else bench.now_ms + 100 - age_ms
    bench.master_fails()

    bench.wait(100)

    assert bool(bench.state.election.start_ms) is stands
    assert (bench.state.election.cant_failover is CantFailover.DATA_AGE) is not stands


def test_a_validity_factor_of_zero_lets_any_data_do() -> None:
    bench = Replica(cluster_replica_validity_factor=0)
    bench.data.master_seen_ms = 0
    bench.master_fails()
    bench.wait_for_request()


def test_a_replica_from_another_shard_does_not_stand_before_its_first_sync() -> None:
    """It still has the other shard's keys; redis-server would be elected with them."""
    bench = Replica()
    bench.do(bench.engine.operations.replicate(bench.b.node_id, bench.now_ms))
    bench.b.flags |= NodeFlags.FAIL
    bench.b.fail_since_ms = bench.now_ms

    bench.ticks(3000, answering=[bench.master, bench.c])
    assert not bench.state.election.start_ms
    bench.data.is_link_up = True  # For a moment, long enough to get its data.
    bench.ticks(100, answering=[bench.master, bench.c])
    bench.data.is_link_up = False
    bench.ticks(1500, answering=[bench.master, bench.c])

    assert bench.state.election.is_requested


def test_a_replica_that_followed_its_masters_successor_stands_at_once() -> None:
    bench = Replica()
    sibling = bench.peer("s", of=bench.master)
    bench.hear(sibling, MessageType.PING, master_id=None, config_epoch=9, current_epoch=9)
    assert bench.myself.master is sibling
    sibling.flags |= NodeFlags.FAIL
    sibling.fail_since_ms = bench.now_ms

    bench.wait_for_request()


def test_replica_no_failover_is_obeyed() -> None:
    bench = Replica(cluster_replica_no_failover=True)
    bench.master_fails()

    assert sent(bench.wait(5 * TIMEOUT_MS), MessageType.FAILOVER_AUTH_REQUEST) == []


# -- the log ----------------------------------------------------------------------------------------


def complaints(effects: list[object]) -> list[str]:
    return [line for line in logged(effects) if line.startswith("Currently unable to failover")]  # type: ignore[arg-type]


def test_a_failover_that_takes_its_course_does_not_complain() -> None:
    bench = Replica()
    bench.master_fails()

    assert complaints(bench.wait(TIMEOUT_MS + 5000 - 200)) == []


def test_a_replica_that_cannot_go_on_says_why_now_and_then() -> None:
    bench = Replica(cluster_replica_validity_factor=1)
    bench.data.master_seen_ms = 0
    bench.master_fails()
    bench.master.fail_since_ms = bench.now_ms - 60_000

    first = complaints(bench.wait(200_000))
    second = complaints(bench.wait(200_000))

    expected = (
        "Currently unable to failover: Disconnected from master for longer than allowed. "
        "Please check the 'cluster-replica-validity-factor' configuration option."
    )
    assert (first, second) == ([expected], [expected])
