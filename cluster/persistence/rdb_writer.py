"""Writing the RDB format, version 10, to anything that takes bytes.

Role        :class:`RdbWriter` puts header, aux fields, databases and the checksum together; ``ENCODERS`` maps the
            class of a value to the function that lays it out. A data type enters the writer by one call of
            :func:`register_encoder`.
Invariants  Output leaves in chunks of about ``CHUNK_BYTES``, in order, each by one call of ``write``, which must take
            all of it or raise. Only one chunk and the value at hand are held. The result loads in redis-server 7.0.
Spec        rdbSaveRio in rdb.c.      Units  ``expire_ms`` Unix milliseconds, ``idle_s`` seconds.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from cluster.keyspace.strings import PlainText
from cluster.persistence.crc64 import bulk_crc64
from cluster.persistence.rdb_format import (
    COMPRESS_MIN_BYTES,
    MAGIC,
    RDB_VERSION,
    Opcode,
    RdbType,
    encode_integer,
    encode_length,
    encode_string,
)

CHUNK_BYTES: Final = 1 << 16
NO_LIMIT: Final = 1 << 62
"""For ``compress_up_to``: whatever the size."""

_EXPIRE: Final = struct.Struct("<Bq")

Encoder = Callable[[Any, int], tuple[int, Iterable[bytes]]]
"""``encoder(value, compress_up_to) -> (type code, pieces)``: the pieces may be a generator, so that a big value is
never held twice. Strings inside the value are compressed when they are at most ``compress_up_to`` bytes (0: never)."""


def string_pieces(text: bytes, compress_up_to: int) -> Iterable[bytes]:
    """A string in the shortest form, a long one without copying it."""
    size = len(text)
    if size < CHUNK_BYTES or size <= compress_up_to:
        return (encode_string(text, compress=COMPRESS_MIN_BYTES <= size <= compress_up_to),)
    return (encode_length(size), text)


def _encode_bytes(value: bytes, compress_up_to: int) -> tuple[int, Iterable[bytes]]:
    return RdbType.STRING, string_pieces(value, compress_up_to)


def _encode_bytearray(value: bytearray, compress_up_to: int) -> tuple[int, Iterable[bytes]]:
    return RdbType.STRING, string_pieces(bytes(value), compress_up_to)


def _encode_int(value: int, compress_up_to: int) -> tuple[int, Iterable[bytes]]:
    encoded = encode_integer(value)
    if encoded is None:
        text = b"%d" % value
        encoded = encode_length(len(text)) + text
    return RdbType.STRING, (encoded,)


ENCODERS: Final[dict[type, Encoder]] = {
    bytes: _encode_bytes,
    PlainText: _encode_bytes,
    bytearray: _encode_bytearray,
    int: _encode_int,
}


def register_encoder(value_class: type, encoder: Encoder) -> None:
    """Let ``encoder`` lay out the values of ``value_class``."""
    ENCODERS[value_class] = encoder


def encode_value(value: Any, *, compress_up_to: int = NO_LIMIT) -> tuple[int, Iterable[bytes]]:
    """The type code of ``value`` and the pieces of its layout."""
    return ENCODERS[type(value)](value, compress_up_to)


class RdbWriter:
    """Builds one RDB file: header, then :meth:`aux`, :meth:`select`, :meth:`entry` …, then :meth:`finish`."""

    def __init__(self, write: Callable[[bytes], object], *, checksum: bool = True, compress: bool = True) -> None:
        self.write = write
        self.checksum = checksum
        self.compress_up_to = NO_LIMIT if compress else 0
        self.bytes_written = 0
        """Bytes that left through ``write``."""
        self._crc = 0
        self._update_crc = bulk_crc64()
        self._parts: list[bytes] = []
        self._size = 0
        self._put(MAGIC + b"%04d" % RDB_VERSION)

    def _put(self, piece: bytes) -> None:
        self._parts.append(piece)
        self._size += len(piece)
        if self._size >= CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand over what is buffered."""
        if not self._parts:
            return
        chunk = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        self._size = 0
        if self.checksum:
            self._crc = self._update_crc(chunk, self._crc)
        self.write(chunk)
        self.bytes_written += len(chunk)

    def _put_large(self, piece: bytes) -> None:
        """Hand a large piece over by itself, which saves copying it into a chunk."""
        self.flush()
        self._put(piece)

    def _put_string(self, text: bytes) -> None:
        for piece in string_pieces(text, self.compress_up_to):
            (self._put_large if len(piece) >= CHUNK_BYTES else self._put)(piece)

    def aux(self, name: bytes, text: bytes) -> None:
        """A remark about the file."""
        self._put(bytes((Opcode.AUX,)))
        self._put_string(name)
        self._put_string(text)

    def function(self, source: bytes) -> None:
        """A function library."""
        self._put(bytes((Opcode.FUNCTION2,)))
        self._put_string(source)

    def select(self, database: int, keys: int, expires: int) -> None:
        """The entries that follow belong to ``database``, which holds this many keys, of which so many expire."""
        self._put(
            b"".join(
                (
                    bytes((Opcode.SELECTDB,)),
                    encode_length(database),
                    bytes((Opcode.RESIZEDB,)),
                    encode_length(keys),
                    encode_length(expires),
                )
            )
        )

    def entry(
        self,
        key: bytes,
        value: Any,
        expire_ms: int | None = None,
        idle_s: int | None = None,
        frequency: int | None = None,
    ) -> None:
        """One key."""
        small = type(value) is bytes and len(value) < CHUNK_BYTES and len(key) < CHUNK_BYTES
        if small and idle_s is None and frequency is None:  # The most frequent case, in one step.
            compress = self.compress_up_to > 0
            record = b"\0" + encode_string(key, compress=compress) + encode_string(value, compress=compress)
            self._put(record if expire_ms is None else _EXPIRE.pack(Opcode.EXPIRETIME_MS, expire_ms) + record)
            return
        if expire_ms is not None:
            self._put(_EXPIRE.pack(Opcode.EXPIRETIME_MS, expire_ms))
        if idle_s is not None:
            self._put(bytes((Opcode.IDLE,)) + encode_length(idle_s))
        if frequency is not None:
            self._put(bytes((Opcode.FREQ, frequency)))
        code, pieces = ENCODERS[type(value)](value, self.compress_up_to)
        self._put(bytes((code,)))
        self._put_string(key)
        for piece in pieces:
            (self._put_large if len(piece) >= CHUNK_BYTES else self._put)(piece)

    def finish(self) -> None:
        """The end mark and the checksum (zero when it is not wanted)."""
        self._put(bytes((Opcode.EOF,)))
        self.flush()
        footer = self._crc.to_bytes(8, "little")
        self.write(footer)
        self.bytes_written += len(footer)
