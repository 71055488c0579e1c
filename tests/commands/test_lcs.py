"""LCS: against the textbook's table, and Redis's way back through it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.commands.lcs import Match, _rows, _walk_back
from tests.support.servers import OurNode
from tests.support.wire import ReplyError

TEXTS = st.binary(max_size=40).map(lambda text: bytes(b"abc"[byte % 3] for byte in text))


def table_of(first: bytes, second: bytes) -> list[list[int]]:
    """The lengths of all longest common subsequences of beginnings, cell by cell."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first, start=1):
        for j, other in enumerate(second, start=1):
            if one == other:
                table[i][j] = table[i - 1][j - 1] + 1
            else:
                table[i][j] = max(table[i - 1][j], table[i][j - 1])
    return table


def matches_by_table(first: bytes, second: bytes) -> list[Match]:
    """Redis's walk: up only where more is above than on the left."""
    table = table_of(first, second)
    pairs: list[tuple[int, int]] = []
    i, j = len(first), len(second)
    while i and j:
        if first[i - 1] == second[j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    matches: list[Match] = []
    for i, j in pairs:
        last = matches[-1] if matches else None
        if last is not None and (i + 1, j + 1) == (last.first_start, last.second_start):
            matches[-1] = Match(i, j, last.length + 1)
        else:
            matches.append(Match(i, j, 1))
    return matches


@given(TEXTS, TEXTS)
def test_rows_count_as_the_table_does(first: bytes, second: bytes) -> None:
    table = table_of(first, second)
    for row, bits in zip(table, _rows(first, second), strict=True):
        assert row == [(bits & (1 << j) - 1).bit_count() for j in range(len(second) + 1)]


@given(TEXTS, TEXTS)
def test_the_way_back_is_the_one_through_the_table(first: bytes, second: bytes) -> None:
    assert list(_walk_back(first, second, list(_rows(first, second)))) == matches_by_table(first, second)


@pytest.mark.parametrize(
    ("options", "reply"),
    [
        ([], b"mytext"),
        (["LEN"], 6),
        (["IDX"], [b"matches", [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], b"len", 6]),
        (["IDX", "MINMATCHLEN", "4"], [b"matches", [[[4, 7], [5, 8]]], b"len", 6]),
        (["IDX", "MINMATCHLEN", "4", "WITHMATCHLEN"], [b"matches", [[[4, 7], [5, 8], 4]], b"len", 6]),
    ],
)
def test_the_example_of_the_documentation(node: OurNode, options: list[str], reply: object) -> None:
    node.call("MSET", "key1", "ohmytext", "key2", "mynewtext")
    assert node.call("LCS", "key1", "key2", *options) == reply


def test_numbers_have_digits_and_missing_keys_are_empty(node: OurNode) -> None:
    node.call("SET", "n", 10)
    node.call("INCRBY", "n", 12335)
    node.call("SET", "text", "x1x2345")
    assert node.call("LCS", "n", "text") == b"12345"
    assert node.call("LCS", "n", "missing") == b""
    assert node.call("LCS", "missing", "n", "IDX") == [b"matches", [], b"len", 0]


def test_what_would_need_too_much_memory_is_refused(node: OurNode) -> None:
    node.call("CONFIG", "SET", "proto-max-bulk-len", 1024 * 1024)
    node.call("MSET", "a", "x" * 600, "b", "y" * 600)
    with pytest.raises(ReplyError, match=r"^ERR Insufficient memory, transient memory for LCS exceeds"):
        node.call("LCS", "a", "b")


def test_long_strings_do_not_hold_up_the_server(node: OurNode) -> None:
    first, second = b"ab" * 5000, b"ba" * 5000
    node.call("MSET", "a", first, "b", second)
    assert node.call("LCS", "a", "b", "LEN") == 9999
    entry = node.info("commandstats")["cmdstat_lcs"]
    assert float(entry.split("usec_per_call=")[1].split(",")[0]) < 2_000_000
