"""Who may go on where he stopped: the histories and the window of the backlog."""

from __future__ import annotations

from random import Random

import pytest

from cluster.replication.backlog import Backlog
from cluster.replication.psync import FullResync, PartialResync, decide_psync, full_resync_reply
from cluster.replication.state import ReplicationState

ID1, ID2, OTHER = "a" * 40, "b" * 40, "c" * 40


def given_master(first: int = 101, held: int = 100, second_offset: int = 150) -> tuple[ReplicationState, Backlog]:
    """A master at offset 200 that was somebody's replica up to 149, and holds bytes 101 … 200."""
    backlog = Backlog.starting_after(first - 1, 1 << 20)
    backlog.append(bytes(held))
    state = ReplicationState(
        Random(1), replid=ID1, replid2=ID2, master_repl_offset=first + held - 1, second_repl_offset=second_offset
    )
    return state, backlog


@pytest.mark.parametrize(("offset", "length"), [(101, 100), (150, 51), (200, 1), (201, 0)])
@pytest.mark.parametrize("replid", [ID1, ID1.upper()])
def test_within_the_backlog_a_replica_of_the_same_history_continues(offset: int, length: int, replid: str) -> None:
    decision = decide_psync(*given_master(), replid, offset, True, "10.0.0.9:7001")
    assert isinstance(decision, PartialResync)
    assert decision.reply == b"+CONTINUE %b\r\n" % ID1.encode()
    assert (decision.offset, decision.backlog_bytes) == (offset, length)
    assert decision.log[0].text == (
        "Partial resynchronization request from 10.0.0.9:7001 accepted. "
        f"Sending {length} bytes of backlog starting from offset {offset}."
    )


def test_a_replica_without_psync2_is_not_told_the_id() -> None:
    decision = decide_psync(*given_master(), ID1, 150, False, "r")
    assert isinstance(decision, PartialResync)
    assert decision.reply == b"+CONTINUE\r\n"


@pytest.mark.parametrize("offset", [100, 202, -1, 0])
def test_outside_of_the_backlog_everything_is_needed(offset: int) -> None:
    decision = decide_psync(*given_master(), ID1, offset, True, "r")
    assert isinstance(decision, FullResync)
    assert not decision.asked_on_purpose
    assert decision.log[0].text == (
        f"Unable to partial resync with replica r for lack of backlog (Replica request was: {offset})."
    )
    assert (len(decision.log) == 2) == (offset > 200)


def test_without_a_backlog_everything_is_needed() -> None:
    state, _ = given_master()
    assert isinstance(decide_psync(state, None, ID1, 150, True, "r"), FullResync)


@pytest.mark.parametrize(("offset", "accepted"), [(149, True), (150, True), (151, False)])
def test_the_former_id_is_good_up_to_its_offset(offset: int, accepted: bool) -> None:
    """One more than the last shared byte: a replica asks for the first byte that it lacks."""
    decision = decide_psync(*given_master(), ID2, offset, True, "r")
    assert isinstance(decision, PartialResync) == accepted
    if isinstance(decision, FullResync):
        assert decision.log[0].text == (
            "Partial resynchronization not accepted: Requested offset for second ID was 151, but I can reply up to 150"
        )
    else:
        assert decision.reply == b"+CONTINUE %b\r\n" % ID1.encode()


def test_another_history_is_refused() -> None:
    decision = decide_psync(*given_master(), OTHER, 150, True, "r")
    assert isinstance(decision, FullResync)
    assert decision.log[0].text == (
        f"Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{OTHER}', "
        f"my replication IDs are '{ID1}' and '{ID2}')"
    )


def test_a_question_mark_asks_for_everything_on_purpose() -> None:
    decision = decide_psync(*given_master(), "?", -1, True, "10.0.0.9:7001")
    assert decision == FullResync(True, decision.log)
    assert decision.log[0].text == "Full resync requested by replica 10.0.0.9:7001"


def test_the_id_of_nobody_matches_nobody() -> None:
    """A master that was never a replica holds forty zeros as its former id; offset -1 keeps everyone out."""
    state, backlog = given_master()
    state.clear_replication_id2()
    assert isinstance(decide_psync(state, backlog, "0" * 40, 150, True, "r"), FullResync)


def test_full_resync_reply() -> None:
    assert full_resync_reply(ID1, 7) == b"+FULLRESYNC %b 7\r\n" % ID1.encode()
