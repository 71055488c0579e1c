"""HyperLogLogs: known hashes, both encodings against a plain model of registers, damage of any kind, the estimate."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.keyspace import hyperloglog as hll
from cluster.keyspace.hyperloglog import CorruptedError

MOST = 3000
SEED = 0xADC83B19


def model_registers(elements: list[bytes]) -> bytes:
    """What the definition asks for."""
    registers = bytearray(hll.REGISTER_COUNT)
    for element in elements:
        hashed = hll.murmur_hash64a(element, SEED)
        index, rest, rank = hashed % hll.REGISTER_COUNT, hashed >> 14, 1
        while rank < 51 and not rest & 1:
            rest, rank = rest >> 1, rank + 1
        registers[index] = max(registers[index], rank)
    return bytes(registers)


def numbered(rng: random.Random, count: int) -> list[bytes]:
    return [b"%d" % rng.randrange(10**9) for _ in range(count)]


def test_registers_are_those_of_the_reference() -> None:
    content = hll.new()
    for element in (b"a", b"b", b"c"):
        assert hll.add(content, element, MOST)
    assert hll.describe_runs(content) == b"Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603"  # As redis-server decodes it.


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), counts=st.lists(st.sampled_from((1, 3, 40, 700)), min_size=1, max_size=4))
def test_both_encodings_and_both_ways_to_add_hold_the_same_registers(seed: int, counts: list[int]) -> None:
    rng = random.Random(seed)
    single, several, dense = hll.new(), hll.new(), hll.new()
    hll.make_dense(dense)
    added: list[bytes] = []
    for count in counts:
        elements = numbered(rng, count)
        added += elements
        changes = sum([hll.add(single, element, MOST) for element in elements])
        assert hll.add_many(several, elements, MOST) == changes
        assert sum([hll.add(dense, element, MOST) for element in elements]) == changes
        assert single[hll.HEADER_BYTES :] == several[hll.HEADER_BYTES :]
    expected = model_registers(added)
    assert hll.registers(single) == hll.registers(dense) == expected
    assert hll.count(single) == hll.count(dense) == hll.estimate(expected)
    assert len(single) <= MOST or single[4] == hll.DENSE
    hll.make_dense(single)
    assert single[hll.HEADER_BYTES :] == dense[hll.HEADER_BYTES :]


def test_it_becomes_dense_at_the_limit_and_stays_so() -> None:
    content = hll.new()
    elements = numbered(random.Random(1), 3000)
    sizes = []
    for element in elements:
        hll.add(content, element, 100)
        sizes.append(len(content))
    assert max(size for size in sizes if size < hll.DENSE_BYTES) <= 100
    assert content[4] == hll.DENSE
    assert len(content) == hll.DENSE_BYTES
    assert hll.registers(content) == model_registers(elements)


@pytest.mark.parametrize("count", [10, 1000, 20_000, 100_000])
def test_the_estimate_is_as_near_as_it_should_be(count: int) -> None:
    content = hll.new()
    hll.add_many(content, [b"%d" % number for number in range(count)], MOST)
    assert abs(hll.count(content) - count) <= max(1, count * 4 * 1.04 / 128)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.sampled_from((0, 1, 30, 800)), min_size=2, max_size=3))
def test_merging_is_the_greatest_of_each_register(seed: int, sizes: list[int]) -> None:
    rng = random.Random(seed)
    groups = [numbered(rng, size) for size in sizes]
    merged = bytes(hll.REGISTER_COUNT)
    for group in groups:
        content = hll.new()
        hll.add_many(content, group, MOST)
        merged = hll.greatest(merged, hll.registers(content))
    everything = [element for group in groups for element in group]
    assert merged == model_registers(everything)
    # Storing in an empty one, in one that has some, register by register, leaves the same bytes as in one go.
    fresh, stepwise = hll.new(), hll.new()
    hll.store(fresh, merged, MOST)
    for index, rank in enumerate(merged):
        if rank:
            hll.raise_many(stepwise, [(index, rank)], MOST)
    assert fresh[hll.HEADER_BYTES :] == stepwise[hll.HEADER_BYTES :]
    partly = hll.new()
    hll.add_many(partly, groups[0], MOST)
    hll.store(partly, merged, MOST)
    assert hll.registers(partly) == merged


@given(runs=st.binary(max_size=40), element=st.binary(max_size=9))
def test_no_damage_leads_to_anything_but_corrupted(runs: bytes, element: bytes) -> None:
    content = bytearray(b"HYLL\x01" + bytes(11) + runs)
    assert hll.is_valid(content)
    for act in (
        lambda: hll.count(content),
        lambda: hll.registers(content),
        lambda: hll.add_many(bytearray(content), [element] * 20, MOST),
        lambda: hll.store(bytearray(content), model_registers([element]), MOST),
        lambda: hll.add(content, element, MOST),
    ):
        try:
            act()
        except CorruptedError:
            pass
    assert isinstance(hll.describe_runs(content), bytes)


@pytest.mark.parametrize("run", [b"\x7f\xff", b"\x3f", b"\x83"])
def test_forged_runs_are_given_up_before_they_need_memory(run: bytes) -> None:
    content = b"HYLL\x01" + bytes(11) + run * (1_000_000 // len(run))
    for act in (hll.count, hll.registers):
        tracemalloc.start()
        try:
            with pytest.raises(CorruptedError):
                act(content)
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()


@given(registers=st.binary(min_size=1, max_size=64))
def test_any_dense_registers_have_an_estimate(registers: bytes) -> None:
    body = (registers * hll.DENSE_BYTES)[: hll.DENSE_BYTES - hll.HEADER_BYTES]
    content = bytearray(b"HYLL\x00" + bytes(11) + body)
    assert hll.is_valid(content)
    cardinality = hll.count(content)
    hll.cache_cardinality(content, cardinality)
    assert hll.cached_cardinality(content) == (cardinality if cardinality < 1 << 63 else None)


def test_what_is_no_hyperloglog() -> None:
    good = hll.new()
    assert hll.is_valid(good)
    assert not hll.is_valid(good[:15])
    assert not hll.is_valid(b"hyll" + good[4:])
    assert not hll.is_valid(b"HYLL\x02" + good[5:])
    assert not hll.is_valid(b"HYLL\x00" + good[5:])
