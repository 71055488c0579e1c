"""Reading the primitives of the RDB format from bytes in memory.

Role        A position in a buffer, and what can be read there: bytes, lengths, strings, numbers.
Invariants  Nothing is allocated for what a length merely claims: a claim beyond the buffer raises ShortRead, and the
            caller knows whether more can come. Errors are RdbError with the offset in the file; nothing else is
            raised.
"""

from __future__ import annotations

import struct
from typing import Final

from cluster.errors import RdbError
from cluster.persistence import lzf
from cluster.persistence.rdb_format import LENGTH_32BIT, LENGTH_64BIT, ModuleOpcode, StringEncoding, rdb_error

_UINT32_BE: Final = struct.Struct(">I")
_UINT64_BE: Final = struct.Struct(">Q")
_INT64: Final = struct.Struct("<q")
_DOUBLE: Final = struct.Struct("<d")


_WIDEST_INTEGER: Final = 3
"""Encodings 0, 1 and 2 are those of integers of 1, 2 and 4 bytes."""
_LZF: Final = int(StringEncoding.LZF)
_SHARED_INTEGERS: Final = 10_000
"""Redis shares the objects of these, too."""
_texts: Final[dict[int, bytes]] = {}
"""The texts of those of them that have been read."""


class ShortRead(Exception):
    """The buffer ends before what is to be read does; at least ``missing_bytes`` more are needed."""

    def __init__(self, missing_bytes: int) -> None:
        super().__init__(missing_bytes)
        self.missing_bytes = missing_bytes


class Cursor:
    """A reading position in ``data``, which lies ``base_offset`` bytes from the start of the file."""

    __slots__ = ("base_offset", "data", "position")

    def __init__(self, data: bytes, position: int = 0, base_offset: int = 0) -> None:
        self.data = data
        self.position = position
        self.base_offset = base_offset

    @property
    def offset(self) -> int:
        """The position, counted from the start of the file."""
        return self.base_offset + self.position

    def error(self, reason: str) -> RdbError:
        """Damage at the present position."""
        return rdb_error(self.offset, reason)

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        start = self.position
        end = start + count
        if end > len(self.data):
            raise ShortRead(end - len(self.data))
        self.position = end
        return self.data[start:end]

    def byte(self) -> int:
        """The next byte."""
        position = self.position
        if position >= len(self.data):
            raise ShortRead(1)
        self.position = position + 1
        return self.data[position]

    def length(self) -> int:
        """A length or another unsigned number of up to 64 bits."""
        first = self.byte()
        if first < 0x40:
            return first
        if first < 0x80:
            return (first & 0x3F) << 8 | self.byte()
        if first == LENGTH_32BIT:
            number: int = _UINT32_BE.unpack(self.take(4))[0]
            return number
        if first == LENGTH_64BIT:
            number = _UINT64_BE.unpack(self.take(8))[0]
            return number
        raise self.error(f"Unknown length encoding {first >> 6} in rdbLoadLen()")

    def string(self) -> bytes:
        """A string in any of its forms; an encoded integer comes as its text."""
        position = self.position
        data = self.data
        if position >= len(data):
            raise ShortRead(1)
        first = data[position]
        if first < 0x40:  # Nearly all of them are short, and there are many of them.
            end = position + 1 + first
            if end > len(data):
                raise ShortRead(end - len(data))
            self.position = end
            return data[position + 1 : end]
        if first < 0xC0:
            return self.take(self.length())
        self.position = position + 1
        encoding = first & 0x3F
        if encoding < _WIDEST_INTEGER:
            return _text_of(int.from_bytes(self.take(1 << encoding), "little", signed=True))
        if encoding == _LZF:
            return self._compressed_string()
        raise self.error(f"Unknown RDB string encoding type {encoding}")

    def _compressed_string(self) -> bytes:
        packed_size = self.length()
        size = self.length()
        packed = self.take(packed_size)
        try:
            return lzf.decompress(packed, size)
        except RdbError:
            raise self.error("Invalid LZF compressed string") from None

    def milliseconds(self) -> int:
        """A time as eight bytes, signed."""
        number: int = _INT64.unpack(self.take(8))[0]
        return number

    def double(self) -> float:
        """A score as eight bytes."""
        number: float = _DOUBLE.unpack(self.take(8))[0]
        return number

    def text_double(self) -> float:
        """A score as a length byte and decimal text, or one of three special lengths."""
        size = self.byte()
        if size == 253:
            return float("nan")
        if size == 254:
            return float("inf")
        if size == 255:
            return float("-inf")
        return parse_double(self.take(size), self)

    def skip_module_data(self) -> None:
        """Pass over a module's fields up to and including their end mark."""
        while True:
            opcode = self.length()
            if opcode == ModuleOpcode.EOF:
                return
            if opcode in (ModuleOpcode.SINT, ModuleOpcode.UINT):
                self.length()
            elif opcode == ModuleOpcode.FLOAT:
                self.take(4)
            elif opcode == ModuleOpcode.DOUBLE:
                self.take(8)
            elif opcode == ModuleOpcode.STRING:
                self.string()
            else:
                raise self.error(f"Unknown module field type {opcode}")


def _text_of(number: int) -> bytes:
    text = _texts.get(number)
    if text is None:
        text = b"%d" % number
        if 0 <= number < _SHARED_INTEGERS:
            _texts[number] = text
    return text


def parse_double(text: bytes, cursor: Cursor) -> float:
    """The number that ``text`` spells in C's notation (Python's also allows ``1_000``)."""
    try:
        if b"_" in text:
            raise ValueError
        return float(text)
    except ValueError:
        raise cursor.error("Invalid double in text form") from None
