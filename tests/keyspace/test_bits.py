"""Bit arithmetic against strings of 0 and 1, across the pieces that long strings are looked at in."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cluster.keyspace import bits

contents = st.one_of(
    st.binary(min_size=1, max_size=20),
    st.builds(lambda filler, size, tail: filler * size + tail, st.sampled_from((b"\x00", b"\xff")),
              st.integers(1, 12), st.binary(max_size=3)),
)  # fmt: skip


def digits(content: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in content)


@given(content=contents, first=st.integers(0, 200), last=st.integers(0, 200))
def test_counting_and_finding(content: bytes, first: int, last: int) -> None:
    first, last = first % (len(content) * 8), last % (len(content) * 8)
    assume(first <= last)
    part = digits(content)[first : last + 1]
    assert bits.count_ones(content, first, last) == part.count("1")
    for wanted in (0, 1):
        place = part.find(str(wanted))
        assert bits.find(bytearray(content), wanted, first, last) == (None if place < 0 else first + place)


@pytest.mark.parametrize("size", [65535, 65536, 65537, 200_000])
@pytest.mark.parametrize("wanted", [0, 1])
def test_long_strings(size: int, wanted: int) -> None:
    content = bytearray((b"\xff", b"\x00")[wanted] * size)
    assert bits.find(content, wanted, 0, size * 8 - 1) is None
    for place in (size - 1, size // 2, 16383, 16384, 65535 % size):
        content[place] ^= 0x10
        assert bits.find(content, wanted, 3, size * 8 - 1) == place * 8 + 3
        assert bits.count_ones(content, 0, size * 8 - 1) == (1 if wanted else size * 8 - 1)
        content[place] ^= 0x10


@given(parts=st.lists(contents, min_size=1, max_size=4))
def test_combining(parts: list[bytes]) -> None:
    size = max(map(len, parts))
    padded = [part.ljust(size, b"\x00") for part in parts]
    columns = list(zip(*padded, strict=True))

    def fold(name: bytes) -> bytes:
        results = []
        for column in columns:
            value = column[0]
            for other in column[1:]:
                value = bits.COMBINATIONS[name](value, other)
            results.append(value)
        return bytes(results)

    for name in bits.COMBINATIONS:
        assert bits.combine(name, list(parts)) == fold(name)
    assert bits.invert(parts[0]) == bytes(255 - byte for byte in parts[0])


@given(content=contents, offset=st.integers(0, 90), width=st.integers(1, 64), value=st.integers(-(2**63), 2**64))
def test_fields(content: bytes, offset: int, width: int, value: int) -> None:
    text = digits(content).ljust(offset + width, "0")
    assert bits.read_field(content, offset, width) == int(text[offset : offset + width], 2)
    stored = bytearray(content.ljust((offset + width + 7) // 8, b"\x00"))
    bits.write_field(stored, offset, width, value)
    assert bits.read_field(stored, offset, width) == value % 2**width
    expected = digits(content).ljust(len(stored) * 8, "0")
    assert digits(stored) == expected[:offset] + f"{value % 2**width:0{width}b}" + expected[offset + width :]
