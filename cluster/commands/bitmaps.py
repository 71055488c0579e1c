"""SETBIT and GETBIT: strings as arrays of bits, the first bit of a byte being its highest (bitops.c)."""

from __future__ import annotations

from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.commands.strings import string_or_none
from cluster.errors import CommandError
from cluster.keyspace.strings import to_bytes
from cluster.resp.encode import ONE, ZERO

_BAD_OFFSET = b"ERR bit offset is not an integer or out of range"
_BAD_BIT = b"ERR bit is not an integer or out of range"


def _parse_offset(client: Session, text: bytes) -> int:
    """A bit's number. Raises CommandError for one that no string could have."""
    offset = parse_integer(text, _BAD_OFFSET)
    if offset < 0 or (offset >> 3 >= client.server.settings.proto_max_bulk_len and not client.is_master_link):
        raise CommandError(_BAD_OFFSET)
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
    if isinstance(value, bytearray):
        bits, is_new = value, False
    else:
        bits, is_new = bytearray(b"" if value is None else to_bytes(value)), True
    missing = index + 1 - len(bits)
    if missing > 0:
        bits.extend(bytes(missing))
    before = bits[index] & mask
    if is_new:
        db.slots[slot] = db.slots[slot] or {}
        db.slots[slot][key] = bits
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
