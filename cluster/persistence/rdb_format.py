"""The RDB format itself: opcodes, type codes, the encoding of lengths, integers and strings.

Role        What writer, reader and DUMP payloads share. Redis: rdb.h, rdb.c.
Layout      ``REDIS<4 digits of version>``, then opcodes and keys, then EOF (0xFF) and, since version 5, eight bytes of
            CRC64 over everything before it (zero: not computed). Numbers are little-endian unless said otherwise.
Lengths     ``00LLLLLL``; ``01LLLLLL LLLLLLLL``; 0x80 + 4 bytes and 0x81 + 8 bytes, both big-endian; ``11EEEEEE``
            announces a specially encoded string (8, 16, 32 bit integer, or LZF).
"""

from __future__ import annotations

import enum
import struct
from typing import Final

from cluster.errors import RdbError
from cluster.persistence import lzf

MAGIC: Final = b"REDIS"
RDB_VERSION: Final = 10
"""What is written: Redis 7.0's version."""
RDB_VERSION_MAX_READABLE: Final = 11
"""What is read: Redis 7.2's version adds two types (see RdbType)."""
FIRST_VERSION_WITH_CHECKSUM: Final = 5


class Opcode(enum.IntEnum):
    """What may stand where a key's type byte is expected."""

    FUNCTION2 = 245  # a function library's source
    FUNCTION = 246  # the same in the release candidates of 7.0: name, engine, description, source
    MODULE_AUX = 247
    IDLE = 248  # seconds since the next key was used (LRU policies)
    FREQ = 249  # its access counter (LFU policies), one byte
    AUX = 250  # a name and a value about the file
    RESIZEDB = 251  # how many keys and expiries the database holds
    EXPIRETIME_MS = 252  # Unix ms, of the next key
    EXPIRETIME = 253  # Unix seconds, of the next key (before version 3)
    SELECTDB = 254
    EOF = 255


class RdbType(enum.IntEnum):
    """How a value is laid out; several per data type, one per encoding it ever had."""

    STRING = 0
    LIST = 1
    SET = 2
    ZSET = 3  # scores as text
    HASH = 4
    ZSET_2 = 5  # scores as 8 byte doubles
    MODULE = 6
    MODULE_2 = 7
    HASH_ZIPMAP = 9
    LIST_ZIPLIST = 10
    SET_INTSET = 11
    ZSET_ZIPLIST = 12
    HASH_ZIPLIST = 13
    LIST_QUICKLIST = 14
    STREAM_LISTPACKS = 15
    HASH_LISTPACK = 16
    ZSET_LISTPACK = 17
    LIST_QUICKLIST_2 = 18
    STREAM_LISTPACKS_2 = 19
    SET_LISTPACK = 20  # since version 11
    STREAM_LISTPACKS_3 = 21  # since version 11


class StringEncoding(enum.IntEnum):
    """The six low bits of a length byte that starts with 11."""

    INT8 = 0
    INT16 = 1
    INT32 = 2
    LZF = 3


class ModuleOpcode(enum.IntEnum):
    """What a module's data consists of: lets a reader skip a module it does not know."""

    EOF = 0
    SINT = 1
    UINT = 2
    FLOAT = 3
    DOUBLE = 4
    STRING = 5


LENGTH_32BIT: Final = 0x80
LENGTH_64BIT: Final = 0x81
COMPRESS_MIN_BYTES: Final = 21
"""Shorter strings are never worth compressing."""
_INTEGER_TEXT_MAX_BYTES: Final = 11

_LENGTH32 = struct.Struct(">BI")
_LENGTH64 = struct.Struct(">BQ")
_INT8 = struct.Struct("<Bb")
_INT16 = struct.Struct("<Bh")
_INT32 = struct.Struct("<Bi")
_SMALL_LENGTHS: Final = tuple(bytes((length,)) for length in range(64))

_MODULE_NAME_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def rdb_error(offset: int, reason: str) -> RdbError:
    """The error about damage at ``offset`` bytes from the start, in Redis's words."""
    return RdbError(f"Internal error in RDB reading offset {offset} -> {reason}")


def encode_length(length: int) -> bytes:
    """A length, a count or another unsigned number up to 64 bits."""
    if length < 64:
        return _SMALL_LENGTHS[length]
    if length < 16384:
        return bytes((0x40 | length >> 8, length & 0xFF))
    if length <= 0xFFFFFFFF:
        return _LENGTH32.pack(LENGTH_32BIT, length)
    return _LENGTH64.pack(LENGTH_64BIT, length)


def encode_integer(number: int) -> bytes | None:
    """``number`` as a specially encoded string of 2, 3 or 5 bytes; None when it needs more than 32 bits."""
    if -0x80 <= number <= 0x7F:
        return _INT8.pack(0xC0 | StringEncoding.INT8, number)
    if -0x8000 <= number <= 0x7FFF:
        return _INT16.pack(0xC0 | StringEncoding.INT16, number)
    if -0x80000000 <= number <= 0x7FFFFFFF:
        return _INT32.pack(0xC0 | StringEncoding.INT32, number)
    return None


def encode_text(text: bytes) -> bytes | None:
    """The integer that ``text`` spells canonically, encoded; None when it is not such a text or needs 64 bits."""
    if not 0 < len(text) <= _INTEGER_TEXT_MAX_BYTES:
        return None
    digits = text[1:] if text[0] == 0x2D else text
    if not digits.isdigit():
        return None
    number = int(text)
    # "007" and "-0" are integers to int(), but would not come back as they were.
    return encode_integer(number) if b"%d" % number == text else None


def encode_string(text: bytes, *, compress: bool) -> bytes:
    """A string in the shortest of its three forms: integer, LZF, or length and bytes."""
    size = len(text)
    if size <= _INTEGER_TEXT_MAX_BYTES:
        # Nothing above "9" can begin an integer, and most short strings begin above.
        encoded = encode_text(text) if text < b":" else None
        if encoded is not None:
            return encoded
    elif compress and size >= COMPRESS_MIN_BYTES:
        # Four bytes must be saved to pay for the header, which then holds two lengths.
        packed = lzf.compress(text, size - 4)
        if packed is not None:
            return b"".join((b"\xc3", encode_length(len(packed)), encode_length(size), packed))
    return (_SMALL_LENGTHS[size] if size < 64 else encode_length(size)) + text


def module_type_name(module_id: int) -> str:
    """The nine letters that a module type's 64-bit id holds in its high 54 bits."""
    letters = []
    number = module_id >> 10
    for _ in range(9):
        letters.append(_MODULE_NAME_ALPHABET[number & 63])
        number >>= 6
    return "".join(reversed(letters))


def type_name(code: int) -> str:
    """A type code for people: ``HASH_LISTPACK (16)``."""
    try:
        return f"{RdbType(code).name} ({code})"
    except ValueError:
        return f"unknown ({code})"
