"""CRC64 against its definition, and both implementations against each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.persistence import crc64 as module
from cluster.persistence.crc64 import bulk_crc64, crc64

JONES = 0xAD93D23594C935A9


def by_definition(data: bytes, crc: int = 0) -> int:
    """Bit by bit, least significant first."""
    reflected = int(f"{JONES:064b}"[::-1], 2)
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (reflected if crc & 1 else 0)
    return crc


def test_the_check_value() -> None:
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    assert by_definition(b"123456789") == 0xE9C6D914C4B8D9CA


@given(st.binary(max_size=300), st.integers(0, 300))
def test_it_is_the_definition_in_any_pieces(data: bytes, cut: int) -> None:
    expected = by_definition(data)
    assert crc64(data) == expected
    assert crc64(memoryview(data)[cut:], crc64(data[:cut])) == expected
    assert bulk_crc64()(memoryview(data)[cut:], bulk_crc64()(data[:cut], 0)) == expected


def test_without_the_extension_the_bulk_implementation_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []

    def bulk(data: bytes, crc: int) -> int:
        calls.append(data)
        return by_definition(data, crc)

    monkeypatch.setattr(module, "EXTENSION_MISSING", True)
    monkeypatch.setattr(module, "bulk_crc64", lambda: bulk)
    assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA
    assert calls == [b"123456789"]
