"""LZF: round trips, known compressed bytes, and hostile ones."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RdbError
from cluster.persistence.lzf import MAX_EXPANSION, compress, compress_by_dict, compress_by_table, decompress
from tests.persistence.rdb_samples import compressible, mutations

WAYS = (compress_by_dict, compress_by_table)


@given(st.binary(max_size=2000) | compressible)
def test_round_trip(data: bytes) -> None:
    for way in WAYS:
        packed = way(data, len(data) - 4)
        if packed is not None:
            assert len(packed) <= len(data) - 4
            assert decompress(packed, len(data)) == data


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8), st.integers(1, 3))
def test_the_table_remembers_nothing_of_other_data(pieces: list[bytes], times: int) -> None:
    """What was compressed before never shows up in what comes after it."""
    for piece in pieces:
        data = piece * times + piece[::-1]
        packed = compress_by_table(data, len(data))
        assert packed is None or decompress(packed, len(data)) == data


def test_both_ways_find_about_the_same() -> None:
    data = b"".join(b"user:%d is online; " % (number * 7919 % 1000) for number in range(2000))
    sizes = [len(way(data, len(data)) or data) for way in WAYS]
    assert max(sizes) < 1.2 * min(sizes)
    assert max(sizes) < len(data) / 2


@pytest.mark.parametrize("size", [21, 33, 264, 265, 528, 8191, 8192, 8193, 20_000, 300_000])
def test_runs_and_far_repetitions(size: int) -> None:
    for data in (b"x" * size, b"ab" * size, os.urandom(size) * 3, os.urandom(100) + bytes(size) + os.urandom(100)):
        for way in WAYS:
            packed = way(data, len(data) - 4)
            if packed is not None:
                assert decompress(packed, len(data)) == data


def test_a_run_of_one_byte_is_three_bytes_per_264() -> None:
    packed = compress(b"x" * 264_001, 264_000)
    assert packed is not None
    assert len(packed) <= 3 * 1001 + 4


def test_bytes_that_do_not_repeat_are_given_up() -> None:
    data = os.urandom(1 << 20)
    assert compress(data, len(data) - 4) is None


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        ("00 61", b"a"),
        ("02 61 62 63", b"abc"),
        ("00 61 20 00", b"aaaa"),  # copy 3 from 1 back: overlapping
        ("01 61 62 e0 01 01", b"ab" * 6),  # long form: 9 + 1 from 2 back
    ],
)
def test_known_bytes(packed: str, expected: bytes) -> None:
    assert decompress(bytes.fromhex(packed), len(expected)) == expected


@pytest.mark.parametrize(
    ("packed", "length"),
    [
        ("01 61", 2),  # literal run beyond the input
        ("00 61 20 01", 4),  # copy from before the beginning
        ("00 61 20", 4),  # no offset
        ("00 61 e0", 10),  # no length
        ("00 61 20 00", 3),  # more than stated
        ("00 61 20 00", 5),  # less than stated
        ("", 1),
        ("00 61", 1 << 60),  # out of reach
    ],
)
def test_damage(packed: str, length: int) -> None:
    with pytest.raises(RdbError):
        decompress(bytes.fromhex(packed), length)


@given(st.binary(max_size=300), st.integers(0, 40_000))
def test_random_bytes(data: bytes, length: int) -> None:
    try:
        assert len(decompress(data, length)) == length <= MAX_EXPANSION * len(data)
    except RdbError:
        pass


@given(st.data())
def test_mutated_bytes(data: st.DataObject) -> None:
    original = data.draw(compressible)
    packed = compress(original, max(0, len(original) - 4)) or b"\0a"
    try:
        assert len(decompress(data.draw(mutations(packed)), len(original))) == len(original)
    except RdbError:
        pass
