"""Reading ahead: either way takes what the exact parser takes, and knows where each command ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.resp.canonical import scan_canonical, split_canonical
from cluster.resp.encode import bulk_array
from cluster.resp.parser import ParserLimits, RequestParser

words = st.binary(max_size=12) | st.sampled_from([b"\r\n", b"*1\r\n$1\r\na\r\n", b"x" * 3000])
commands = st.lists(st.lists(words, min_size=1, max_size=5), max_size=8)
rests = st.sampled_from([b"", b"*", b"*2\r\n$1\r\na\r\n", b"#TS:1\r\n", b"*1\r\n$01\r\na\r\n", b"PING\r\n", b"\r\n"])
WAYS = (scan_canonical, split_canonical)


@given(commands, rests, st.integers(0, 2**40))
def test_what_is_taken_is_what_the_exact_parser_takes(
    given_commands: list[list[bytes]], rest: bytes, position: int
) -> None:
    window = b"".join(map(bulk_array, given_commands)) + rest
    for read in WAYS:
        for count, (command, end) in enumerate(read(window, position), 1):
            exact = RequestParser(ParserLimits())
            assert exact.feed(window[: end - position])[count - 1 :] == [command]
            assert not exact.pending


@given(commands)
def test_short_commands_are_all_taken(given_commands: list[list[bytes]]) -> None:
    usual = [[word for word in command if b"\r" not in word and len(word) < 2000] for command in given_commands]
    usual = [command for command in usual if command]
    for read in WAYS:
        assert [command for command, _end in read(b"".join(map(bulk_array, usual)), 0)] == usual
