"""The replica's handshake: every outcome, any cut of the master's bytes, and nonsense."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.replication.link import (
    Action,
    ContinueStream,
    ExpectSnapshot,
    GiveUp,
    HandshakeOptions,
    Log,
    MasterHandshake,
    Send,
    SnapshotData,
    SnapshotEnd,
    SnapshotHeader,
    StreamData,
)
from cluster.replication.state import NO_OFFSET, LinkState
from tests.replication.fakes import command

REPLID = "0123456789" * 4
MARK = b"f" * 40
UP_TO_PSYNC = b"+PONG\r\n+OK\r\n+OK\r\n"
PLAIN = HandshakeOptions(listening_port=7001)
CACHED = HandshakeOptions(listening_port=7001, replid=REPLID, next_offset=101)


def run(options: HandshakeOptions, *pieces: bytes) -> list[Action]:
    """Everything that comes of a conversation."""
    handshake = MasterHandshake(options)
    actions = handshake.connected()
    for piece in pieces:
        actions += handshake.receive(piece)
    return actions


def merged(actions: list[Action]) -> list[Action]:
    """Actions with neighbouring pieces of data joined: how they are cut means nothing."""
    result: list[Action] = []
    for action in actions:
        last = result[-1] if result else None
        if isinstance(action, SnapshotData) and isinstance(last, SnapshotData):
            result[-1] = SnapshotData(last.data + action.data)
        elif isinstance(action, StreamData) and isinstance(last, StreamData):
            result[-1] = StreamData(last.data + action.data)
        else:
            result.append(action)
    return result


def sent(actions: list[Action]) -> bytes:
    return b"".join(action.data for action in actions if isinstance(action, Send))


def logged(actions: list[Action]) -> list[str]:
    return [action.text for action in actions if isinstance(action, Log)]


def others(actions: list[Action]) -> list[Action]:
    return [action for action in merged(actions) if not isinstance(action, Send | Log)]


def test_full_synchronisation_from_a_file() -> None:
    actions = run(PLAIN, UP_TO_PSYNC, b"+FULLRESYNC %b 42\r\n" % REPLID.encode(), b"\n\n$5\r\nREDIS", b"stream")

    assert sent(actions) == (
        command(b"PING")
        + command(b"REPLCONF", b"listening-port", b"7001")
        + command(b"REPLCONF", b"capa", b"eof", b"capa", b"psync2")
        + command(b"PSYNC", b"?", b"-1")
    )
    assert others(actions) == [
        ExpectSnapshot(REPLID, 42),
        SnapshotHeader(5),
        SnapshotData(b"REDIS"),
        SnapshotEnd(streamed=False),
        StreamData(b"stream"),
    ]
    assert logged(actions) == [
        "Non blocking connect for SYNC fired the event.",
        "Master replied to PING, replication can continue...",
        "Partial resynchronization not possible (no cached master)",
        f"Full resync from master: {REPLID}:42",
        "MASTER <-> REPLICA sync: receiving 5 bytes from master to disk",
    ]


def test_full_synchronisation_as_a_stream_of_unknown_length() -> None:
    actions = run(
        PLAIN, UP_TO_PSYNC, b"+FULLRESYNC %b 42\r\n" % REPLID.encode(), b"$EOF:%b\r\nREDIS%bmore" % (MARK, MARK)
    )
    assert others(actions) == [
        ExpectSnapshot(REPLID, 42),
        SnapshotHeader(None),
        SnapshotData(b"REDIS"),
        SnapshotEnd(streamed=True),
        StreamData(b"more"),
    ]
    assert logged(actions)[-1] == "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to disk"


@pytest.mark.parametrize(
    ("reply", "replid"),
    [
        (b"+CONTINUE\r\n", None),
        (b"+CONTINUE %b\r\n" % (b"a" * 40), "a" * 40),
        (b"+CONTINUE short\r\n", None),
    ],
)
def test_partial_resynchronisation(reply: bytes, replid: str | None) -> None:
    actions = run(CACHED, UP_TO_PSYNC, b"\n\r\n" + reply + b"stream")
    assert sent(actions).endswith(command(b"PSYNC", REPLID.encode(), b"101"))
    assert others(actions) == [ContinueStream(replid), StreamData(b"stream")]
    assert f"Trying a partial resynchronization (request {REPLID}:101)." in logged(actions)
    assert "Successful partial resynchronization with master." in logged(actions)


def test_continue_without_a_place_to_continue_from_is_nonsense() -> None:
    actions = run(PLAIN, UP_TO_PSYNC, b"+CONTINUE\r\nstream")
    assert others(actions) == [GiveUp()]


def test_everything_that_a_replica_may_tell() -> None:
    options = HandshakeOptions(7001, announced_ip="10.1.2.3", user=b"us er", password=b"se\r\ncret", failover=True)
    actions = run(options, b"-NOAUTH Authentication required.\r\n", b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n")
    assert sent(actions) == (
        command(b"PING")
        + command(b"AUTH", b"us er", b"se\r\ncret")
        + command(b"REPLCONF", b"listening-port", b"7001")
        + command(b"REPLCONF", b"ip-address", b"10.1.2.3")
        + command(b"REPLCONF", b"capa", b"eof", b"capa", b"psync2")
        + command(b"PSYNC", b"?", b"-1", b"FAILOVER")
    )


def test_a_master_that_does_not_know_replconf_is_tolerated() -> None:
    actions = run(PLAIN, b"+PONG\r\n", b"-ERR unknown\r\n-ERR unknown\r\n")
    assert sent(actions).endswith(command(b"PSYNC", b"?", b"-1"))
    assert "(Non critical) Master does not understand REPLCONF capa: -ERR unknown" in logged(actions)


def test_a_master_without_psync_is_asked_with_sync() -> None:
    actions = run(PLAIN, UP_TO_PSYNC, b"-ERR unknown command 'PSYNC'\r\n$0\r\nx")
    assert sent(actions).endswith(b"SYNC\r\n")
    assert others(actions) == [
        ExpectSnapshot("", NO_OFFSET),
        SnapshotHeader(0),
        SnapshotEnd(streamed=False),
        StreamData(b"x"),
    ]
    assert "Master does not support PSYNC or is in error state (reply: -ERR unknown command 'PSYNC')" in logged(actions)
    assert "Retrying with SYNC..." in logged(actions)


@pytest.mark.parametrize(
    ("replies", "text", "retry_at_once"),
    [
        (b"-ERR bad\r\n", "Error reply to PING from master: '-ERR bad'", False),
        (
            UP_TO_PSYNC + b"-NOMASTERLINK Can't SYNC\r\n",
            "Master is currently unable to PSYNC but should be in the future: -NOMASTERLINK Can't SYNC",
            False,
        ),
        (
            UP_TO_PSYNC + b"-LOADING wait\r\n",
            "Master is currently unable to PSYNC but should be in the future: -LOADING wait",
            False,
        ),
        (
            UP_TO_PSYNC + b"+FULLRESYNC " + REPLID.encode() + b" 1\r\n-ERR BGSAVE failed\r\n",
            "MASTER aborted replication with an error: ERR BGSAVE failed",
            True,
        ),
        (
            UP_TO_PSYNC + b"+FULLRESYNC " + REPLID.encode() + b" 1\r\nhello\r\n",
            "Bad protocol from MASTER, the first byte is not '$' (we received 'hello'), "
            "are you sure the host and port are right?",
            True,
        ),
    ],
)
def test_refusals(replies: bytes, text: str, retry_at_once: bool) -> None:
    actions = run(PLAIN, replies + b"$5\r\nREDIS")
    assert others(actions)[-1] == GiveUp(retry_at_once)
    assert logged(actions)[-1] == text


def test_a_wrong_password_ends_the_attempt() -> None:
    actions = run(HandshakeOptions(1, password=b"x"), b"-NOAUTH\r\n-WRONGPASS no\r\n+OK\r\n+OK\r\n")
    assert others(actions) == [GiveUp()]
    assert logged(actions)[-1] == "Unable to AUTH to MASTER: -WRONGPASS no"


@pytest.mark.parametrize(
    "line",
    [b"+FULLRESYNC", b"+FULLRESYNC x 1", b"+FULLRESYNC " + REPLID.encode(), b"+FULLRESYNC  %b x" % REPLID.encode()],
)
def test_a_wrong_fullresync_line_costs_later_partial_resyncs_but_not_this_one(line: bytes) -> None:
    actions = run(PLAIN, UP_TO_PSYNC, line + b"\r\n")
    assert others(actions) == [ExpectSnapshot("", NO_OFFSET)]
    assert logged(actions)[-1] == "Master replied with wrong +FULLRESYNC syntax."


CONVERSATIONS = {
    "file": (
        PLAIN,
        UP_TO_PSYNC + b"\n+FULLRESYNC %b 42\r\n\n\n$300\r\n" % REPLID.encode() + bytes(300) + b"stream\r\n",
    ),
    "mark": (
        PLAIN,
        UP_TO_PSYNC
        + b"+FULLRESYNC %b 42\r\n\n$EOF:%b\r\n" % (REPLID.encode(), MARK)
        + b"f" * 39
        + b"x"
        + b"f" * 20
        + b"y" * 100
        + MARK
        + b"ff*1\r\n",
    ),
    "partial": (CACHED, UP_TO_PSYNC + b"\n+CONTINUE %b\r\n*1\r\n$4\r\nPING\r\n" % REPLID.encode()),
    "sync": (PLAIN, UP_TO_PSYNC + b"-ERR what\r\n$3\r\nabcdef"),
    "later": (PLAIN, UP_TO_PSYNC + b"-LOADING\r\n$3\r\nabcdef"),
}


@given(name=st.sampled_from(sorted(CONVERSATIONS)), data=st.data())
def test_any_cut_comes_to_the_same(name: str, data: st.DataObject) -> None:
    options, conversation = CONVERSATIONS[name]
    points = sorted(data.draw(st.lists(st.integers(0, len(conversation)), max_size=30)))
    edges = [0, *points, len(conversation)]
    pieces = [conversation[a:b] for a, b in itertools.pairwise(edges)]

    whole = merged(run(options, conversation))

    assert merged(run(options, *pieces)) == whole
    assert merged(run(options, *(conversation[i : i + 1] for i in range(len(conversation))))) == whole


@given(st.integers(0, 40), st.binary(max_size=300))
def test_a_mark_is_found_wherever_it_is_cut(cut: int, snapshot: bytes) -> None:
    start = UP_TO_PSYNC + b"+FULLRESYNC %b 1\r\n$EOF:%b\r\n" % (REPLID.encode(), MARK)
    actions = run(PLAIN, start + snapshot + MARK[:cut], MARK[cut:])
    stored = b"".join(action.data for action in actions if isinstance(action, SnapshotData))
    expected = (snapshot + MARK)[: (snapshot + MARK).find(MARK)]
    assert stored == expected
    assert any(isinstance(action, SnapshotEnd) for action in actions)


@given(
    known=st.sampled_from([b"", b"+PONG\r\n", UP_TO_PSYNC, UP_TO_PSYNC + b"+FULLRESYNC %b 1\r\n" % REPLID.encode()]),
    noise=st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from(
                [
                    b"+OK\r\n",
                    b"-ERR\r\n",
                    b"\r\n",
                    b"$",
                    b"EOF:",
                    MARK,
                    b"+CONTINUE",
                    b"+FULLRESYNC ",
                    b"99",
                    b" ",
                    b"$-1\r\n",
                ]
            ),
            max_size=12,
        ).map(b"".join),
    ),
    options=st.sampled_from([PLAIN, CACHED, HandshakeOptions(1, password=b"p", announced_ip="::1", failover=True)]),
)
def test_nonsense_never_raises_and_ends_for_good(known: bytes, noise: bytes, options: HandshakeOptions) -> None:
    handshake = MasterHandshake(options)
    actions = handshake.connected() + handshake.receive(known) + handshake.receive(noise)
    if any(isinstance(action, GiveUp) for action in actions):
        assert isinstance(actions[-1], GiveUp)
        assert handshake.receive(b"+OK\r\n$5\r\nREDIS") == []


def test_an_endless_line_is_given_up() -> None:
    handshake = MasterHandshake(PLAIN)
    handshake.connected()
    actions = handshake.receive(b"+" + bytes(100_000))
    assert actions[-1] == GiveUp()


def test_the_states_are_the_ones_that_role_and_info_show() -> None:
    handshake = MasterHandshake(CACHED)
    seen = [handshake.state]
    handshake.connected()
    for piece in (b"", b"+PONG\r\n", b"+OK\r\n", b"+OK\r\n", b"+CONTINUE\r\n"):
        handshake.receive(piece)
        seen.append(handshake.state)
    assert seen == [
        LinkState.CONNECTING,
        LinkState.RECEIVE_PING_REPLY,
        LinkState.RECEIVE_PORT_REPLY,
        LinkState.RECEIVE_CAPA_REPLY,
        LinkState.RECEIVE_PSYNC_REPLY,
        LinkState.CONNECTED,
    ]
    assert [state.role_name for state in seen] == ["connecting", *["handshake"] * 4, "connected"]
