"""SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP: strings as arrays of bits, the first bit of a byte being its highest.

Redis 7.0: bitops.c. BITFIELD has a module of its own.
"""

from __future__ import annotations

from cluster import errors
from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.commands.strings import string_or_none
from cluster.errors import CommandError
from cluster.keyspace import bits as bit_strings
from cluster.keyspace.strings import StringValue, to_bytes
from cluster.resp.encode import MINUS_ONE, ONE, ZERO, integer
from cluster.slots.hashing import key_slot

BAD_OFFSET = b"ERR bit offset is not an integer or out of range"
_BAD_BIT = b"ERR bit is not an integer or out of range"


def _parse_offset(client: Session, text: bytes) -> int:
    """A bit's number. Raises CommandError for one that no string could have."""
    offset = parse_integer(text, BAD_OFFSET)
    if offset < 0 or (offset >> 3 >= client.server.settings.proto_max_bulk_len and not client.is_master_link):
        raise CommandError(BAD_OFFSET)
    return offset


@command("setbit")
def setbit(client: Session, argv: list[bytes]) -> bytes:
    """SETBIT key offset 0|1: the bit's former value. Nothing is replicated when nothing changes."""
    offset = _parse_offset(client, argv[2])
    wanted = parse_integer(argv[3], _BAD_BIT)
    if wanted not in (0, 1):
        raise CommandError(_BAD_BIT)
    db, key, slot = client.db, argv[1], client.slot
    value = string_or_none(db.peek(key, slot))
    index, mask = offset >> 3, 0x80 >> (offset & 7)
    if value is None:
        bits = bytearray(index + 1)
        bits[index] = mask if wanted else 0
        db.put(key, slot, bits)
        db.notify("$", b"setbit", key)
        return ZERO
    if isinstance(value, bytearray):
        bits = value
    else:
        bits = db.slots[slot][key] = bytearray(to_bytes(value))
    missing = index + 1 - len(bits)
    if missing > 0:
        bits.extend(bytes(missing))
    before = bits[index] & mask
    if missing > 0 or bool(before) != bool(wanted):
        bits[index] = bits[index] | mask if wanted else bits[index] & ~mask
        db.changed(key)
        db.notify("$", b"setbit", key)
    return ONE if before else ZERO


@command("getbit")
def getbit(client: Session, argv: list[bytes]) -> bytes:
    offset = _parse_offset(client, argv[2])
    value = string_or_none(client.db.read(argv[1], client.slot))
    bits = b"" if value is None else to_bytes(value)
    return ONE if offset >> 3 < len(bits) and bits[offset >> 3] & 0x80 >> (offset & 7) else ZERO


def _content(value: StringValue) -> bytes | bytearray:
    """The value's bytes, not copied."""
    return value if isinstance(value, bytearray) else to_bytes(value)


def _unit(argv: list[bytes], position: int) -> int:
    """How many bits a step of the range has: 1 with BIT, 8 with BYTE and without either."""
    unit = argv[position].upper() if len(argv) > position else b"BYTE"
    if unit not in (b"BIT", b"BYTE"):
        raise CommandError(errors.SYNTAX)
    return 1 if unit == b"BIT" else 8


def _range_of_bits(start: int, end: int, unit: int, size_bytes: int) -> tuple[int, int]:
    """The first and the last bit of a range that may count from the end and reach too far; it may be empty."""
    total = size_bytes * 8 // unit
    start = max(start + total, 0) if start < 0 else start
    end = max(end + total, 0) if end < 0 else end
    return start * unit, min(end, total - 1) * unit + unit - 1


@command("bitcount")
def bitcount(client: Session, argv: list[bytes]) -> bytes:
    value = string_or_none(client.db.read(argv[1], client.slot))
    if value is None:
        return ZERO
    content = _content(value)
    first, last = 0, len(content) * 8 - 1
    if len(argv) in (4, 5):
        start, end = parse_integer(argv[2]), parse_integer(argv[3])
        if start < 0 and end < 0 and start > end:
            return ZERO
        first, last = _range_of_bits(start, end, _unit(argv, 4), len(content))
    elif len(argv) != 2:
        raise CommandError(errors.SYNTAX)
    return ZERO if first > last else integer(bit_strings.count_ones(content, first, last))


@command("bitpos")
def bitpos(client: Session, argv: list[bytes]) -> bytes:
    wanted = parse_integer(argv[2])
    if wanted not in (0, 1):
        raise CommandError(b"ERR The bit argument must be 1 or 0.")
    value = string_or_none(client.db.read(argv[1], client.slot))
    if value is None:
        return MINUS_ONE if wanted else ZERO
    content = _content(value)
    size = len(content)
    first, last = 0, size * 8 - 1
    if 4 <= len(argv) <= 6:
        start = parse_integer(argv[3])
        unit = _unit(argv, 5)
        end = parse_integer(argv[4]) if len(argv) > 4 else size - 1
        first, last = _range_of_bits(start, end, unit, size)
    elif len(argv) != 3:
        raise CommandError(errors.SYNTAX)
    if first > last:
        return MINUS_ONE
    place = bit_strings.find(content, wanted, first, last)
    if place is not None:
        return integer(place)
    # Without an end of the range, zeros are thought to follow the string.
    return integer(last + 1) if wanted == 0 and len(argv) < 5 else MINUS_ONE


@command("bitop")
def bitop(client: Session, argv: list[bytes]) -> bytes:
    db, operation, target = client.db, argv[1].upper(), argv[2]
    if operation != b"NOT" and operation not in bit_strings.COMBINATIONS:
        raise CommandError(errors.SYNTAX)
    if operation == b"NOT" and len(argv) != 4:
        raise CommandError(b"ERR BITOP NOT must be called with a single source key.")
    found = [string_or_none(db.read(key, key_slot(key))) for key in argv[3:]]
    sources = [b"" if value is None else _content(value) for value in found]
    result = bit_strings.invert(sources[0]) if operation == b"NOT" else bit_strings.combine(operation, sources)
    slot = key_slot(target)
    if result:
        db.put(target, slot, result)
        db.notify("$", b"set", target)
    elif db.peek(target, slot) is not None:
        db.delete(target, slot)
        db.notify("g", b"del", target)
    return integer(len(result))
