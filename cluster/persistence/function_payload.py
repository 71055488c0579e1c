"""What FUNCTION DUMP gives and FUNCTION RESTORE takes: the function libraries as they stand in an RDB file.

Layout      For each library the opcode and its source; then, as for values, the version and the CRC64.
Source      functions.c (functionDumpCommand, functionRestoreCommand), rdb.c (rdbFunctionLoad).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cluster.errors import RdbError
from cluster.persistence.dump_payload import FOOTER_BYTES, checksum
from cluster.persistence.rdb_cursor import Cursor, ShortRead
from cluster.persistence.rdb_format import COMPRESS_MIN_BYTES, RDB_VERSION, Opcode, encode_string


def dump_libraries(sources: Iterable[bytes]) -> bytes:
    """The payload for libraries with these sources."""
    mark = bytes((Opcode.FUNCTION2,))
    parts = [mark + encode_string(source, compress=len(source) >= COMPRESS_MIN_BYTES) for source in sources]
    body = b"".join([*parts, RDB_VERSION.to_bytes(2, "little")])
    return body + checksum(body).to_bytes(8, "little")


def restore_libraries(payload: bytes) -> Iterator[bytes]:
    """The sources in a payload that was verified. Raises RdbError, with the text that RESTORE answers."""
    cursor = Cursor(payload[:-FOOTER_BYTES])
    size = len(payload) - FOOTER_BYTES
    while cursor.position < size:
        try:
            opcode = cursor.byte()
            if opcode == Opcode.FUNCTION2:
                yield cursor.string()
            elif opcode == Opcode.FUNCTION:  # As release candidates of 7.0 had it: name, engine, maybe a description.
                name, engine = cursor.string(), cursor.string()
                if cursor.length():
                    cursor.string()
                yield b"#!%b name=%b\n%b" % (engine, name, cursor.string())
            else:
                raise RdbError("given type is not a function")
        except ShortRead:
            raise RdbError("Failed loading library payload") from None
