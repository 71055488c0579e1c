"""DUMP payloads: the footer, the texts of refusals, and that nothing else than those comes out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RdbError
from cluster.persistence.crc64 import crc64
from cluster.persistence.dump_payload import COMPRESS_MAX_BYTES, dump, restore
from cluster.persistence.rdb_format import type_name
from tests.persistence.rdb_samples import every_kind_loadable, mutations, string_values

WRONG = "DUMP payload version or checksum are wrong"
BAD = "Bad data format"


def sealed(body: bytes, version: int = 10) -> bytes:
    body += version.to_bytes(2, "little")
    return body + crc64(body).to_bytes(8, "little")


@given(string_values, st.booleans())
def test_round_trip(value: Any, compress: bool) -> None:
    expected = b"%d" % value if isinstance(value, int) else bytes(value)
    assert restore(dump(value, compress=compress)) == expected


def test_the_bytes_are_those_of_redis() -> None:
    """Taken from a redis-server 7.0.15: SET k 10, then DUMP k."""
    assert dump(b"10").hex() == "00c00a0a006e9f57450eae63bb"
    assert dump(10) == dump(b"10")


def test_long_strings_are_not_compressed() -> None:
    assert len(dump(b"x" * COMPRESS_MAX_BYTES)) < 100
    longer = b"x" * (COMPRESS_MAX_BYTES + 1)
    assert len(dump(longer)) > len(longer)


@pytest.mark.parametrize("version", [0, 6, 10, 11])
def test_versions_up_to_the_readable_one_are_taken(version: int) -> None:
    assert restore(sealed(b"\x00\x01a", version)) == b"a"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", WRONG),
        (b"123456789", WRONG),
        (sealed(b"\x00\x01a", 12), WRONG),
        (sealed(b"\x00\x01a")[:-1] + b"\x00", WRONG),
        (sealed(b""), BAD),
        (sealed(b"\x00"), BAD),
        (sealed(b"\x00\x05a"), BAD),
        (sealed(b"\x63\x01a"), BAD),
        (sealed(b"\xff"), BAD),
        (sealed(b"\x01\x00"), BAD),  # an empty list
        (sealed(b"\x07\x00"), BAD),  # a module's value
    ],
)
def test_refusals(payload: bytes, message: str) -> None:
    with every_kind_loadable(), pytest.raises(RdbError) as caught:
        restore(payload)
    assert str(caught.value) == message


def test_the_checksum_can_be_left_out() -> None:
    payload = sealed(b"\x00\x01a")[:-8] + bytes(8)
    assert restore(payload, check_crc=False) == b"a"


def test_a_type_that_has_no_value_class_is_named_as_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.persistence import rdb_values

    monkeypatch.delitem(rdb_values.FACTORIES, rdb_values.ValueKind.LIST, raising=False)
    with pytest.raises(RdbError) as caught:
        restore(sealed(b"\x01\x01\x01a"))
    assert str(caught.value) == BAD
    assert type_name(1) == "LIST (1)"
    assert "LIST (1) at offset 1" in str(caught.value.__cause__)


@given(st.data(), string_values)
def test_mutated_payloads_are_refused_or_mean_something(data: st.DataObject, value: Any) -> None:
    body = data.draw(mutations(dump(value)[:-10]))
    with every_kind_loadable():
        try:
            restore(sealed(body))
        except RdbError as error:
            assert str(error) == BAD


@given(st.binary(max_size=100))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RdbError, match=WRONG):
        restore(data)
