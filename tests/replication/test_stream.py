"""The master's stream: commands and their bytes, however the bytes arrive."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.replication.stream import StreamError, StreamParser
from tests.replication.fakes import command

# What could be taken for protocol, in places where it is data, and sizes around the end of the header table.
TREACHEROUS = [
    b"",
    b"\r\n",
    b"\r",
    b"\n",
    b"$1",
    b"*3",
    b"x\r\n$1\r\ny",
    command(b"SET", b"k", b"v"),
    bytes(2047),
    bytes(2048),
]
WORDS = st.one_of(st.binary(max_size=40), st.sampled_from(TREACHEROUS))
COMMANDS = st.lists(st.lists(WORDS, min_size=1, max_size=5), max_size=12)


def cuts(draw: st.DataObject, data: bytes) -> list[bytes]:
    points = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=20)))
    edges = [0, *points, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(commands=COMMANDS, data=st.data())
def test_any_cut_gives_the_same_commands_and_the_same_bytes(commands: list[list[bytes]], data: st.DataObject) -> None:
    gaps = [data.draw(st.sampled_from([b"", b"", b"", b"\n", b"\r\n", b"*0\r\n", b"*-1\r\n"])) for _ in commands]
    stream = b"".join(gap + command(*words) for gap, words in zip(gaps, commands, strict=True))
    parser = StreamParser()
    taken: list[list[bytes]] = []
    released = b""
    for piece in cuts(data, stream):
        parser.feed(piece)
        while (argv := parser.take()) is not None:
            taken.append(argv)
            if data.draw(st.booleans()):
                released += parser.release_before_last()
                assert stream[len(released) :].lstrip(b"\r\n").startswith((command(*argv), b"*0", b"*-"))
        if data.draw(st.booleans()):
            released += parser.release()
    released += parser.release()

    assert taken == commands
    assert released == stream
    assert parser.pending_bytes == 0


@given(data=st.data(), noise=st.binary(max_size=200))
def test_random_bytes_are_commands_or_an_error_and_nothing_else(data: st.DataObject, noise: bytes) -> None:
    """And the verdict does not depend on the cut."""
    verdicts = []
    for pieces in ([noise], cuts(data, noise), [noise[i : i + 1] for i in range(len(noise))]):
        parser = StreamParser()
        taken: list[list[bytes]] = []
        failed = False
        try:
            for piece in pieces:
                parser.feed(piece)
                while (argv := parser.take()) is not None:
                    taken.append(argv)
        except StreamError:
            failed = True
        verdicts.append((taken, failed))
    assert verdicts[0] == verdicts[1] == verdicts[2]


@given(st.data())
def test_protocol_shaped_noise(data: st.DataObject) -> None:
    parts = st.sampled_from(
        [b"*1\r\n", b"*2\r\n", b"$3\r\n", b"abc\r\n", b"\r\n", b"$-1\r\n", b"*x\r\n", b"$0\r\n", b"\n"]
    )
    noise = b"".join(data.draw(st.lists(parts, max_size=15)))
    parser = StreamParser()
    try:
        parser.feed(noise)
        while parser.take() is not None:
            pass
    except StreamError:
        return
    assert parser.pending_bytes == len(noise)


@pytest.mark.parametrize(
    ("bytes_", "complaint"),
    [
        (b"PING\r\n", "Master using the inline protocol. Desync?"),
        (b"+OK\r\n", "Master using the inline protocol. Desync?"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$99999999999\r\n", "invalid bulk length"),
        (b"*99999999999\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*" + b"1" * 70_000, "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 70_000, "too big bulk count string"),
    ],
)
def test_what_is_no_stream_is_refused(bytes_: bytes, complaint: str) -> None:
    parser = StreamParser()
    parser.feed(bytes_)
    with pytest.raises(StreamError) as refusal:
        parser.take()
    assert str(refusal.value) == complaint


def test_a_big_value_in_small_pieces_is_joined_once() -> None:
    """Linear time: 64 MB in pieces of 4 KB would take minutes if each were appended to a growing buffer."""
    value = bytes(64 << 20)
    stream = command(b"SET", b"k", value)
    parser = StreamParser()
    taken = None
    for start in range(0, len(stream), 4096):
        parser.feed(stream[start : start + 4096])
        taken = parser.take()
    assert taken == [b"SET", b"k", value]
    assert parser.release() == stream


@given(data=st.data(), words=st.lists(WORDS, min_size=1, max_size=4))
def test_a_long_stream_in_chunks_like_a_sockets(data: st.DataObject, words: list[bytes]) -> None:
    """Windows end anywhere inside commands, and odd commands stand between usual ones."""
    usual = [[b"SET", b"key:%d" % number, b"v" * (number % 60)] for number in range(4000)]
    position = data.draw(st.integers(0, len(usual)))
    commands = [*usual[:position], words, *usual[position:]]
    stream = b"".join(command(*each) for each in commands)
    parser = StreamParser()
    size = data.draw(st.integers(5_000, 100_000))
    taken: list[list[bytes]] = []
    released = b""
    for start in range(0, len(stream), size):
        parser.feed(stream[start : start + size])
        while (argv := parser.take()) is not None:
            taken.append(argv)
            if len(taken) % 1000 == 0:
                released += parser.release_before_last()
        released += parser.release()
    assert taken == commands
    assert released == stream


def test_commands_that_were_read_ahead_survive_more_input() -> None:
    parser = StreamParser()
    parser.feed(command(b"A") + command(b"B") + command(b"C")[:5])
    assert parser.take() == [b"A"]
    assert parser.release() == command(b"A")
    parser.feed(command(b"C")[5:] + command(b"D"))
    assert [parser.take(), parser.take(), parser.take(), parser.take()] == [[b"B"], [b"C"], [b"D"], None]
    assert parser.release() == command(b"B") + command(b"C") + command(b"D")


def test_a_count_of_words_allocates_nothing() -> None:
    parser = StreamParser()
    parser.feed(b"*2000000000\r\n$3\r\nSET\r\n")
    assert parser.take() is None
    assert parser.release() == b""


def test_a_big_value_is_not_kept_once_its_bytes_are_given_out() -> None:
    value = bytes(1 << 20)
    stream = command(b"SET", b"k", value)
    parser = StreamParser()
    for start in range(0, len(stream), 65_536):
        parser.feed(stream[start : start + 65_536])
    assert parser.take() == [b"SET", b"k", value]
    assert parser.release() == stream

    assert parser._buffer == b""
    parser.feed(command(b"PING"))
    assert parser.take() == [b"PING"]
    assert parser.release() == command(b"PING")
