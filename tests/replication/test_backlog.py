"""The backlog against the plainest model of it: all bytes ever appended."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.node.allocator import Allocator
from cluster.replication.backlog import CHUNK_BYTES, MIN_SIZE_BYTES, Backlog, object_bytes
from tests.support.exact_memory import only_where_it_is_exact

SIZES = st.one_of(st.integers(1, 60), st.integers(1, 4_000), st.integers(1, 3 * CHUNK_BYTES))


def pattern(start: int, length: int) -> bytes:
    """Bytes that tell where in the stream they are."""
    return bytes((start + i) * 31 % 251 for i in range(length))


@given(start=st.integers(0, 1 << 40), sizes=st.lists(SIZES, max_size=60), data=st.data())
def test_what_is_read_is_what_was_appended_there(start: int, sizes: list[int], data: st.DataObject) -> None:
    backlog = Backlog.starting_after(start, MIN_SIZE_BYTES)
    stream = b""
    for size in sizes:
        piece = pattern(len(stream), size)
        backlog.append(piece)
        stream += piece
        keep = data.draw(st.one_of(st.none(), st.integers(backlog.first_byte_offset, backlog.next_offset)))
        backlog.trim(keep)

        assert backlog.next_offset == start + 1 + len(stream)
        assert backlog.first_byte_offset + backlog.histlen == backlog.next_offset
        assert backlog.histlen >= min(len(stream), MIN_SIZE_BYTES)
        if keep is not None:
            assert backlog.first_byte_offset <= keep
        offset = data.draw(st.integers(backlog.first_byte_offset, backlog.next_offset))
        limit = data.draw(st.integers(1, 50_000))
        read = backlog.read(offset, limit)
        at = offset - start - 1
        assert read == stream[at : at + len(read)]
        assert len(read) >= min(limit, backlog.next_offset - offset)
        assert bool(read) == (offset < backlog.next_offset)


@given(sizes=st.lists(SIZES, min_size=1, max_size=40))
def test_a_reader_that_goes_on_where_it_stopped_gets_the_whole_stream(sizes: list[int]) -> None:
    backlog = Backlog.starting_after(0, MIN_SIZE_BYTES)
    stream, got, cursor = b"", b"", 1
    for size in sizes:
        piece = pattern(len(stream), size)
        stream += piece
        backlog.append(piece)
        backlog.trim(cursor)
        if size % 3:
            piece = backlog.read(cursor, size)
            got += piece
            cursor += len(piece)
    while piece := backlog.read(cursor, 1000):
        got += piece
        cursor += len(piece)
    assert got == stream


def test_it_stays_near_its_size() -> None:
    """At most one chunk more than asked for, like the reference."""
    backlog = Backlog.starting_after(0, 1 << 20)
    for number in range(100_000):
        backlog.append(b"%050d" % number)
        backlog.trim()
    assert 1 << 20 <= backlog.histlen <= (1 << 20) + 2 * CHUNK_BYTES


@given(sizes=st.lists(SIZES, max_size=200), data=st.data())
def test_its_memory_is_the_sum_of_its_parts(sizes: list[int], data: st.DataObject) -> None:
    backlog = Backlog.starting_after(1000, MIN_SIZE_BYTES)
    for size in sizes:
        backlog.append(bytes(size))
        backlog.trim(data.draw(st.one_of(st.none(), st.integers(backlog.first_byte_offset, backlog.next_offset))))
        lists = sys.getsizeof(backlog._chunks) + sys.getsizeof(backlog._starts)
        objects = sum(object_bytes(len(chunk)) for chunk in backlog._chunks if chunk)
        assert backlog.memory_bytes == lists + objects + 32 * len(backlog._starts)


@only_where_it_is_exact
@pytest.mark.parametrize("size", [60, 100, 470, 480, 5000, 30_000])
def test_the_allocators_agree_about_its_memory(size: int) -> None:
    allocator = Allocator()
    assert allocator.is_exact
    backlog = Backlog.starting_after(1000, MIN_SIZE_BYTES)
    least = most = allocator.used_bytes() - backlog.memory_bytes
    for number in range(1000):
        backlog.append(b"%0*d" % (size, number))
        backlog.trim(1 if number % 250 < 150 else None)
        rest = allocator.used_bytes() - backlog.memory_bytes
        least, most = min(least, rest), max(most, rest)
    assert backlog.first_byte_offset > 1001
    assert most - least < 1000  # The few objects that Python makes in passing, and keeps.


def test_which_bytes_are_its_own_objects() -> None:
    backlog = Backlog.starting_after(100, MIN_SIZE_BYTES)
    first, second = bytes(20_000), bytes(30)
    backlog.append(first)
    backlog.append(second)
    chunk = backlog.read(101, 1)
    assert backlog.shares(chunk, 101 + len(chunk))
    assert not backlog.shares(bytes(bytearray(chunk)), 101 + len(chunk))
    assert not backlog.shares(chunk, 102 + len(chunk))
    assert backlog.shares(second, backlog.next_offset)
    for _ in range(70):
        backlog.append(bytes(31))
    assert not backlog.shares(second, 101 + 20_030)  # It was joined with others.
    backlog.append(bytes(20_000))
    backlog.trim(None)
    assert not backlog.shares(chunk, 101 + len(chunk))


def test_a_huge_append_leaves_room_to_trim() -> None:
    backlog = Backlog.starting_after(0, 1 << 20)
    backlog.append(bytes(50 << 20))
    backlog.append(b"x")
    backlog.trim()
    assert backlog.histlen <= (1 << 20) + (1 << 16) + 1


@given(sizes=st.lists(SIZES, min_size=1, max_size=40))
def test_however_it_was_filled_it_shrinks_to_its_size_and_one_chunk(sizes: list[int]) -> None:
    backlog = Backlog.starting_after(0, MIN_SIZE_BYTES)
    for size in sizes:
        backlog.append(bytes(size))
        backlog.trim(1)
    backlog.trim()
    assert backlog.histlen < MIN_SIZE_BYTES + CHUNK_BYTES


def test_small_appends_do_not_keep_one_object_each() -> None:
    backlog = Backlog.starting_after(0, 1 << 20)
    for _ in range(20_000):
        backlog.append(b"*1\r\n$4\r\nPING\r\n")
        backlog.trim()
    assert len(backlog._chunks) < 200


def test_a_cursor_holds_the_bytes_it_still_needs() -> None:
    backlog = Backlog.starting_after(0, MIN_SIZE_BYTES)
    for _ in range(100):
        backlog.append(bytes(10_000))
        backlog.trim(keep_from=5)
    assert backlog.first_byte_offset == 1
    assert backlog.histlen == 1_000_000
    backlog.trim(None)
    assert backlog.histlen < MIN_SIZE_BYTES + 2 * CHUNK_BYTES


def test_who_may_continue() -> None:
    backlog = Backlog.starting_after(100, MIN_SIZE_BYTES)
    assert [backlog.can_continue_from(offset) for offset in (100, 101, 102)] == [False, True, False]
    backlog.append(b"12345")
    assert [backlog.can_continue_from(offset) for offset in (100, 101, 106, 107)] == [False, True, True, False]


def test_resizing_takes_effect_at_once_and_has_a_minimum() -> None:
    backlog = Backlog.starting_after(0, 1 << 20)
    for _ in range(100):
        backlog.append(bytes(16_000))
    backlog.resize(1)
    assert backlog.size_bytes == MIN_SIZE_BYTES
    assert backlog.histlen < MIN_SIZE_BYTES + 2 * CHUNK_BYTES
    backlog.resize(1 << 21)
    assert backlog.read(backlog.first_byte_offset, 1 << 30) == bytes(backlog.histlen)
