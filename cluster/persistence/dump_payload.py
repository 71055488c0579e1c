"""DUMP and RESTORE payloads: one value, outside of any file.

Layout      Type byte, the value as in an RDB file, two bytes of RDB version, eight of CRC64 over all before them
            (little-endian). Redis: createDumpPayload and verifyDumpPayload in cluster.c.
Invariants  :func:`restore` raises RdbError only, whose text is what RESTORE answers after ``ERR``.
"""

from __future__ import annotations

from typing import Any, Final

from cluster.errors import DeepDamage, RdbError
from cluster.persistence.crc64 import bulk_crc64, crc64
from cluster.persistence.rdb_cursor import Cursor, ShortRead
from cluster.persistence.rdb_format import RDB_VERSION, RDB_VERSION_MAX_READABLE
from cluster.persistence.rdb_values import EmptyValue, is_value_type, read_value
from cluster.persistence.rdb_writer import encode_value

WRONG_VERSION_OR_CHECKSUM: Final = "DUMP payload version or checksum are wrong"
BAD_DATA_FORMAT: Final = "Bad data format"

FOOTER_BYTES: Final = 10
COMPRESS_MAX_BYTES: Final = 4096
"""Longer strings go out as they are: compressing them would hold up the other clients, and any Redis reads both."""
_SMALL_BYTES: Final = 65536


def dump(value: Any, *, compress: bool = True) -> bytes:
    """The payload of ``value``, as DUMP answers it and MIGRATE sends it."""
    code, pieces = encode_value(value, compress_up_to=COMPRESS_MAX_BYTES if compress else 0)
    body = b"".join((bytes((code,)), *pieces, RDB_VERSION.to_bytes(2, "little")))
    return body + checksum(body).to_bytes(8, "little")


def checksum(body: bytes | memoryview) -> int:
    """The CRC64 of a payload up to itself."""
    return crc64(body) if len(body) <= _SMALL_BYTES else bulk_crc64()(body, 0)


def verify(payload: bytes, *, check_crc: bool = True) -> None:
    """Raise RdbError unless the footer names a version that can be read and the right checksum."""
    if len(payload) < FOOTER_BYTES:
        raise RdbError(WRONG_VERSION_OR_CHECKSUM)
    if int.from_bytes(payload[-10:-8], "little") > RDB_VERSION_MAX_READABLE:
        raise RdbError(WRONG_VERSION_OR_CHECKSUM)
    if check_crc:
        with memoryview(payload) as view:
            if checksum(view[:-8]) != int.from_bytes(payload[-8:], "little"):
                raise RdbError(WRONG_VERSION_OR_CHECKSUM)


def restore(payload: bytes, *, check_crc: bool = True) -> Any:
    """The value that ``payload`` stands for."""
    verify(payload, check_crc=check_crc)
    cursor = Cursor(payload[:-FOOTER_BYTES])
    try:
        code = cursor.byte()
        if not is_value_type(code):
            raise RdbError(BAD_DATA_FORMAT)
        return read_value(code, cursor)
    except (RdbError, ShortRead, EmptyValue) as damage:
        raise RdbError(BAD_DATA_FORMAT) from damage


def damage_inside(refusal: RdbError) -> DeepDamage | None:
    """What :func:`restore` found that a look at sizes and frames would not have shown, if it was that."""
    found: BaseException | None = refusal
    while found is not None and not isinstance(found, DeepDamage):
        found = found.__cause__
    return found
