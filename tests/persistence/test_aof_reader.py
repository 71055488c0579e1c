"""Cutting an append only file into commands: any bytes give commands, an end, or an error that names its place."""

from __future__ import annotations

import io
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.persistence.aof_reader import AofReader, BadFormat, EndOfFile
from tests.support.wire import encode

word = st.one_of(st.binary(max_size=12), st.binary(min_size=2000, max_size=3000), st.just(b"\r\n*3\r\n$1\r\n"))
command = st.lists(word, min_size=1, max_size=9)
annotation = st.integers(0, 2**40).map(lambda number: b"#TS:%d\r\n" % number)
entry = st.one_of(command, annotation)


def read(data: bytes, head_bytes: int = 0) -> tuple[list[list[bytes]], list[int], Exception | None]:
    """All commands with their ends, and what stopped the reading."""
    file = io.BytesIO(data)
    reader = AofReader(file, len(data), file.read(head_bytes), 0)
    commands: list[list[bytes]] = []
    ends: list[int] = []
    try:
        while batch := reader.batch():
            for argv, end in batch:
                commands.append(argv)
                ends.append(end)
    except (BadFormat, EndOfFile) as problem:
        return commands, ends, problem
    return commands, ends, None


@given(st.lists(entry, max_size=30), st.integers(0, 200))
def test_what_was_written_is_read_with_its_places(entries: list[list[bytes] | bytes], head_bytes: int) -> None:
    data = b""
    commands, ends = [], []
    for each in entries:
        if isinstance(each, bytes):
            data += each
        else:
            data += encode(*each)
            commands.append(each)
            ends.append(len(data))

    assert read(data, min(head_bytes, len(data))) == (commands, ends, None)


@given(st.lists(command, min_size=1, max_size=8), st.data())
def test_a_file_that_was_cut_ends_with_its_last_whole_command(commands: list[list[bytes]], data: st.DataObject) -> None:
    whole = [encode(*each) for each in commands]
    text = b"".join(whole)
    cut = data.draw(st.integers(0, len(text) - 1))
    complete = 0
    while complete < len(whole) and sum(map(len, whole[: complete + 1])) <= cut:
        complete += 1
    offset = sum(map(len, whole[:complete]))

    found, _ends, problem = read(text[:cut])

    assert found == commands[:complete]
    if offset == cut:
        assert problem is None
    else:
        assert isinstance(problem, EndOfFile)
        assert problem.offset == offset


@given(st.lists(command, min_size=1, max_size=8), st.data())
def test_a_changed_byte_is_noticed_or_is_a_byte_of_a_word(commands: list[list[bytes]], data: st.DataObject) -> None:
    """Never another exception; what is read before the damage is what was written."""
    text = bytearray(b"".join(encode(*each) for each in commands))
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] = data.draw(st.integers(0, 255))

    found, ends, problem = read(bytes(text))

    before = [each for each, end in zip(found, ends, strict=True) if end <= place]
    assert before == commands[: len(before)]
    if isinstance(problem, BadFormat):
        assert 0 <= problem.offset <= len(text)


@given(st.binary(max_size=300))
@example(b"*")
@example(b"*1")
@example(b"*1\r\n$")
@example(b"#")
@example(b"*2147483648\r\n")
@example(b"*1\r\n$-1\r\n")
@example(b"*-1\r\n")
@example(b"\0" * 50)
def test_any_bytes_give_commands_an_end_or_an_error(data: bytes) -> None:
    read(data)


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"!!!", 0, "Expected '*'"),
        (encode("a") + b"$1\r\n", 11, "Expected '*'"),
        (encode("a") + b"*1\r\n:5\r\n", 15, "Expected '$'"),
        (encode("a") + b"*0\r\n", 11, "A command of 0 words"),
        (encode("a") + b"*1x\r\n$1\r\na\r\n", 11, "holds no number"),
        (encode("a") + b"*1\r\n$-3\r\n", 15, "A word of -3 bytes"),
        (encode("a") + b"*1\r\n$1\r\naXX", 20, "Expected a line end"),
        (encode("a") + b"*" + b"1" * 2000, 11, "is too long"),
        (b"#" * 2000 + b"\r\n", 0, "An annotation that is too long"),
    ],
)
def test_an_error_names_the_place(data: bytes, offset: int, reason: str) -> None:
    problem = read(data)[2]

    assert isinstance(problem, BadFormat)
    assert problem.offset == offset
    assert reason in str(problem)


def test_a_line_may_end_without_a_carriage_return() -> None:
    assert read(b"*1\n$1\na\r\n")[0] == [[b"a"]]


def test_a_claim_costs_nothing() -> None:
    data = b"*2\r\n$3\r\nSET\r\n$999999999999\r\nx"
    tracemalloc.start()
    try:
        _commands, _ends, problem = read(data)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(problem, EndOfFile)
    assert peak < 1 << 20


def test_a_large_command_is_read_once() -> None:
    """Neither the words of a long one, nor one long word, nor many that are not in the table cost their square."""
    words = [b"SADD", b"key", *(b"%d" % number for number in range(300_000))]
    data = encode(*words) + encode("SET", "key", b"x" * 5_000_000) + encode("SET", "k", b"y" * 3000) * 2000

    commands, _ends, problem = read(data)

    assert problem is None
    assert commands[0] == words
    assert len(commands) == 2002
