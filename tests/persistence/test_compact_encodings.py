"""Listpack, ziplist, intset and zipmap: known bytes, round trips, and that damage is an RdbError."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RdbError
from cluster.persistence import intset, listpack, ziplist, zipmap
from tests.persistence import compact_samples
from tests.persistence.rdb_samples import integer_texts, mutations, odd_integer_texts

int64s = st.integers(-(2**63), 2**63 - 1)
# Around the limits of every width, where the encodings change.
edge_numbers = st.builds(
    lambda bits, delta, sign: max(-(2**63), min(2**63 - 1, sign * (1 << bits) + delta)),
    st.sampled_from([0, 6, 7, 12, 13, 15, 16, 23, 24, 31, 32, 63]),
    st.integers(-2, 2),
    st.sampled_from([-1, 1]),
)
long_texts = st.builds(
    lambda size, letter: letter * size,
    st.sampled_from([62, 63, 64, 125, 126, 127, 128, 253, 254, 255, 4095, 4096, 16380, 16383, 16384, 20_000]),
    st.sampled_from([b"x", b"\xff", b"\0"]),
)
entry_texts = st.one_of(
    st.binary(max_size=80), integer_texts, odd_integer_texts, edge_numbers.map(b"%d".__mod__), long_texts
)
Decoder = Callable[[bytes], object]


# Listpack -----------------------------------------------------------------------------------------------------


@given(st.lists(entry_texts, max_size=30))
def test_listpack_round_trip(entries: list[bytes]) -> None:
    assert listpack.decode(listpack.encode(entries)) == entries


@pytest.mark.parametrize(
    ("entries", "encoded"),
    [
        ([], "07000000" + "0000" + "ff"),
        ([b"1"], "09000000" + "0100" + "0101" + "ff"),
        ([b"127", b"128"], "0c000000" + "0200" + "7f01" + "c08002" + "ff"),
        ([b"-1", b"-4096"], "0d000000" + "0200" + "dfff02" + "d00002" + "ff"),
        ([b"4096"], "0b000000" + "0100" + "f1001003" + "ff"),
        ([b"a", b""], "0c000000" + "0200" + "816102" + "8001" + "ff"),
        ([b"9223372036854775807"], "11000000" + "0100" + "f4ffffffffffffff7f09" + "ff"),
    ],
)
def test_listpack_bytes(entries: list[bytes], encoded: str) -> None:
    assert listpack.encode(entries).hex() == encoded


@pytest.mark.parametrize(
    ("entry_bytes", "back_bytes"),
    [(126, 1), (127, 1), (128, 2), (16382, 2), (16383, 3), (16384, 3), (2097150, 3), (2097151, 4), (2097152, 4)],
)
def test_listpack_back_lengths_at_the_limits(entry_bytes: int, back_bytes: int) -> None:
    """Redis steps to another byte one earlier than seven bits per byte would need, and insists on it."""
    header_bytes = 2 if entry_bytes < 4096 else 5
    entries = [b"x" * (entry_bytes - header_bytes), b"y"]
    blob = listpack.encode(entries)
    assert len(blob) == 6 + entry_bytes + back_bytes + 3 + 1
    assert listpack.decode(blob) == entries


def test_a_listpack_of_more_entries_than_its_header_can_count() -> None:
    entries = [b"1"] * 70_000
    blob = listpack.encode(entries)
    assert blob[4:6] == b"\xff\xff"
    assert listpack.decode(blob) == entries


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "07000000" + "0000",  # no end
        "08000000" + "0000" + "ff",  # wrong size
        "07000000" + "0000" + "00",  # other end
        "07000000" + "0100" + "ff",  # wrong count
        "09000000" + "0100" + "0102" + "ff",  # wrong back length
        "09000000" + "0100" + "f501" + "ff",  # unknown encoding
        "09000000" + "0100" + "8501" + "ff",  # string beyond the end
        "09000000" + "0000" + "ff01" + "ff",  # end in the middle
        "0a000000" + "0100" + "f0ffff" + "ff",  # half a length
    ],
)
def test_damaged_listpacks(damaged: str) -> None:
    with pytest.raises(RdbError):
        listpack.decode(bytes.fromhex(damaged))


# Ziplist ------------------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(int64s, edge_numbers, st.binary(max_size=80), long_texts), max_size=20))
def test_ziplist_decode(entries: list[bytes | int]) -> None:
    texts = [b"%d" % entry if isinstance(entry, int) else entry for entry in entries]
    assert ziplist.decode(compact_samples.ziplist(entries)) == texts


def test_the_example_in_the_definition_of_ziplists() -> None:
    assert ziplist.decode(bytes.fromhex("0f0000000c000000020000f302f6ff")) == [b"2", b"5"]


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "0b0000000a0000000000",
        "0c0000000a0000000000ff",  # wrong size
        "0b0000000b0000000000ff",  # last entry beyond the end
        "0b0000000a0000000100ff",  # wrong count
        "0f0000000a000000020000f302f6ff",  # last entry elsewhere
        "0f0000000c000000020000f303f6ff",  # wrong previous size
        "0f0000000c000000020000f302c1ff",  # unknown encoding
        "0d0000000a00000001000005ff",  # string beyond the end
    ],
)
def test_damaged_ziplists(damaged: str) -> None:
    with pytest.raises(RdbError):
        ziplist.decode(bytes.fromhex(damaged))


# Intset -------------------------------------------------------------------------------------------------------


@given(st.sets(st.one_of(int64s, edge_numbers), min_size=1, max_size=50))
def test_intset_round_trip(members: set[int]) -> None:
    ordered = sorted(members)
    assert list(intset.decode(intset.encode(ordered))) == ordered


@pytest.mark.parametrize(
    ("members", "encoded"),
    [
        ([1, 2], "02000000" + "02000000" + "01000200"),
        ([-32768, 32767], "02000000" + "02000000" + "0080ff7f"),
        ([32768], "04000000" + "01000000" + "00800000"),
        ([-(2**31) - 1], "08000000" + "01000000" + "ffffff7fffffffff"),
    ],
)
def test_intset_bytes(members: list[int], encoded: str) -> None:
    assert intset.encode(members).hex() == encoded


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "02000000" + "00000000",  # no members
        "03000000" + "01000000" + "010000",  # unknown width
        "02000000" + "02000000" + "0100",  # too short
        "02000000" + "01000000" + "01000200",  # too long
        "02000000" + "02000000" + "02000100",  # out of order
        "02000000" + "02000000" + "01000100",  # twice the same
        "02000000" + "ffffffff" + "0100",  # a count that would overflow
    ],
)
def test_damaged_intsets(damaged: str) -> None:
    with pytest.raises(RdbError):
        intset.decode(bytes.fromhex(damaged))


# Zipmap -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=300)), min_size=1, max_size=8), st.integers(0, 4))
def test_zipmap_decode(pairs: list[tuple[bytes, bytes]], unused: int) -> None:
    assert zipmap.decode(compact_samples.zipmap(pairs, unused)) == [item for pair in pairs for item in pair]


@pytest.mark.parametrize("damaged", ["", "00", "00ff", "0101610000", "020161000162ff", "0105610001ff", "01fe61ff"])
def test_damaged_zipmaps(damaged: str) -> None:
    with pytest.raises(RdbError):
        zipmap.decode(bytes.fromhex(damaged))


# All ----------------------------------------------------------------------------------------------------------

SAMPLES = {
    "listpack": (listpack.decode, listpack.encode([b"a", b"1", b"-5000", b"x" * 100, b"2147483648", b"y" * 5000])),
    "ziplist": (ziplist.decode, compact_samples.ziplist([b"a", 1, 13, -5000, b"x" * 300, 1 << 40, b"y" * 17000])),
    "intset": (intset.decode, intset.encode(range(-5, 300, 7))),
    "zipmap": (zipmap.decode, compact_samples.zipmap([(b"a", b"b"), (b"c" * 260, b"d" * 254)], 2)),
}


@pytest.mark.parametrize("name", SAMPLES)
@given(data=st.data())
def test_mutations_decode_or_raise_rdb_error(name: str, data: st.DataObject) -> None:
    decode, sample = SAMPLES[name]
    mutated = data.draw(mutations(sample))
    try:
        decode(mutated)
    except RdbError:
        pass


@pytest.mark.parametrize("name", SAMPLES)
@given(data=st.binary(max_size=60))
def test_random_bytes_decode_or_raise_rdb_error(name: str, data: bytes) -> None:
    decode: Decoder = SAMPLES[name][0]
    for candidate in (data, len(data).to_bytes(4, "little") + data[4:-1] + b"\xff"):
        try:
            decode(candidate)
        except RdbError:
            pass
