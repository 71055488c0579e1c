"""BITFIELD and BITFIELD_RO: integers of any width at any bit of a string. Redis 7.0: bitops.c."""

from __future__ import annotations

from typing import Final

import attrs

from cluster import errors
from cluster.commands.arguments import parse_integer
from cluster.commands.bitmaps import BAD_OFFSET
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.commands.strings import string_or_none
from cluster.errors import CommandError
from cluster.keyspace.bits import read_field, write_field
from cluster.keyspace.strings import parse_int64, to_bytes
from cluster.resp.encode import array, integer

_BAD_TYPE: Final = b"ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
_ARGUMENTS: Final = {b"GET": 2, b"SET": 3, b"INCRBY": 3}
"""How many words follow each operation's name."""


def _wrap64(number: int) -> int:
    """What is left of a number in 64 bits with a sign."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


@attrs.frozen
class _Operation:
    name: bytes
    is_signed: bool
    width: int
    offset: int
    amount: int
    """What to add (INCRBY) or to store (SET)."""
    overflow: bytes
    """WRAP, SAT or FAIL."""

    def read(self, content: bytes | bytearray) -> int:
        """The field's value."""
        value = read_field(content, self.offset, self.width)
        return value - (1 << self.width) if self.is_signed and value >> self.width - 1 else value

    def result(self, old: int) -> int | None:
        """What is to be stored where ``old`` is; None when that would overflow and must not."""
        value, increment = (old, self.amount) if self.name == b"INCRBY" else (self.amount, 0)
        total = value + increment
        bound = self._bound_signed(value, increment) if self.is_signed else self._bound_unsigned(value, increment)
        if bound is None:
            return total
        if self.overflow == b"FAIL":
            return None
        if self.overflow == b"SAT":
            return bound
        total %= 1 << self.width
        return total - (1 << self.width) if self.is_signed and total >> self.width - 1 else total

    def _bound_unsigned(self, value: int, increment: int) -> int | None:
        """The bound that is overstepped, None for none. A negative value to store is a huge one."""
        most = (1 << self.width) - 1
        if value < 0 or value + increment > most:
            return most
        return 0 if value + increment < 0 else None

    def _bound_signed(self, value: int, increment: int) -> int | None:
        """The same with a sign. Of a value far off, the distances to the bounds wrap around as Redis's do."""
        most = (1 << self.width - 1) - 1
        least = -most - 1
        room_above, room_below = _wrap64(most - value), _wrap64(least - value)
        is_narrow = self.width != 64
        if value > most or (increment > room_above and (is_narrow or (value >= 0 and increment > 0))):
            return most
        if value < least or (increment < room_below and (is_narrow or (value < 0 and increment < 0))):
            return least
        return None


def _parse_type(text: bytes) -> tuple[bool, int]:
    """Whether there is a sign, and the width in bits. Raises CommandError."""
    width = parse_int64(text[1:].split(b"\x00", 1)[0])
    if text[:1] not in (b"i", b"u") or width is None or not 1 <= width <= (64 if text[:1] == b"i" else 63):
        raise CommandError(_BAD_TYPE)
    return text[:1] == b"i", width


def _parse_offset(client: Session, text: bytes, width: int) -> int:
    """A bit's number, or that of a field among fields of this width (#n). Raises CommandError."""
    counts_fields = text[:1] == b"#"
    number = parse_integer(text[1:] if counts_fields else text, BAD_OFFSET)
    offset = _wrap64(number * width) if counts_fields else number
    if offset < 0 or (offset >> 3 >= client.server.settings.proto_max_bulk_len and not client.is_master_link):
        raise CommandError(BAD_OFFSET)
    return offset


def _parse_operations(client: Session, argv: list[bytes]) -> list[_Operation]:
    operations = []
    overflow = b"WRAP"
    position = 2
    while position < len(argv):
        name = argv[position].upper()
        following = len(argv) - position - 1
        if name == b"OVERFLOW" and following >= 1:
            overflow = argv[position + 1].upper()
            if overflow not in (b"WRAP", b"SAT", b"FAIL"):
                raise CommandError(b"ERR Invalid OVERFLOW type specified")
            position += 2
            continue
        needed = _ARGUMENTS.get(name)
        if needed is None or following < needed:
            raise CommandError(errors.SYNTAX)
        is_signed, width = _parse_type(argv[position + 1])
        offset = _parse_offset(client, argv[position + 2], width)
        amount = parse_integer(argv[position + 3]) if needed == 3 else 0
        operations.append(_Operation(name, is_signed, width, offset, amount, overflow))
        position += 1 + needed
    return operations


@command("bitfield_ro")
def bitfield_ro(client: Session, argv: list[bytes]) -> bytes:
    operations = _parse_operations(client, argv)
    if any(operation.name != b"GET" for operation in operations):
        raise CommandError(b"ERR BITFIELD_RO only supports the GET subcommand")
    return _read_all(client, argv[1], operations)


def _read_all(client: Session, key: bytes, operations: list[_Operation]) -> bytes:
    value = string_or_none(client.db.read(key, client.slot))
    content = b"" if value is None else value if isinstance(value, bytearray) else to_bytes(value)
    return array([integer(operation.read(content)) for operation in operations])


@command("bitfield")
def bitfield(client: Session, argv: list[bytes]) -> bytes:
    operations = _parse_operations(client, argv)
    ends = [operation.offset + operation.width for operation in operations if operation.name != b"GET"]
    if not ends:
        return _read_all(client, argv[1], operations)
    db, key, slot = client.db, argv[1], client.slot
    value = string_or_none(db.peek(key, slot))
    if isinstance(value, bytearray):
        content = value
    else:
        content = bytearray(b"" if value is None else to_bytes(value))
        if value is None:
            db.put(key, slot, content)
            db.keyspace.dirty -= 1  # It counts as a change with the first operation that is carried out.
        else:
            db.slots[slot][key] = content
    missing = (max(ends) + 7 >> 3) - len(content)
    if missing > 0:
        content.extend(bytes(missing))
    replies = []
    changes = 0
    for operation in operations:
        old = operation.read(content)
        if operation.name == b"GET":
            replies.append(integer(old))
            continue
        new = operation.result(old)
        if new is None:
            replies.append(client.proto.null)
            continue
        write_field(content, operation.offset, operation.width, new)
        replies.append(integer(new if operation.name == b"INCRBY" else old))
        changes += missing > 0 or old != new
    if changes:
        db.changed(key, changes)
        db.notify("$", b"setbit", key)
    return array(replies)
