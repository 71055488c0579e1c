"""SCAN through a slot that holds many keys, as when one hash tag names all of them: a few at a time.

A slot's dict cannot be entered in its midst. What a slot holds when a scan comes to it is therefore copied (a list of
references: 10 ms for a million keys) and handed out in pieces. The cursor says which copy and how far, so the same
cursor gives the same keys, and a key that is there throughout is in the copy.

Cursor      slot | position / _UNIT << 14 | number of the copy << 38: 53 bits, for clients that keep cursors in doubles.
            Below 16384 it is a slot not yet entered.
Invariant   A copy that was given up (too many keys in all of them, idle for long, another process) costs no key: the
            whole slot is then handed out at once.      Units  monotonic ms.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

import attrs

from cluster.slots.hashing import SLOT_COUNT

_WHOLE_MAX: Final = 128
"""So many keys of a slot are handed out at once, whatever the count."""
_UNIT: Final = 16
_POSITION_BITS: Final = 24
_COPY_BITS: Final = 15
_KEYS_MAX: Final = 4_000_000
"""References in all copies together, unless there is one copy only."""
_IDLE_MS: Final = 60_000


@attrs.define(eq=False)
class _Copy:
    of: int
    """The id() of the slot's dict: after SWAPDB and FLUSHALL it is another one."""
    keys: list[bytes]
    used_ms: int


class SlotScans:
    """The copies that are being walked, the one that was used last at the end."""

    def __init__(self) -> None:
        self._copies: OrderedDict[int, _Copy] = OrderedDict()
        self._last_number = random.SystemRandom().randrange(1 << _COPY_BITS)
        self._key_count = 0

    def walk(
        self, slots: list[dict[bytes, Any]], cursor: int, count: int, now_ms: int, width: int = 1
    ) -> tuple[int, list[bytes]]:
        """From ``cursor`` on, some ``count`` keys, expired ones included; and the next cursor, 0 at the end.

        ``width`` neighbouring slots share a dict.
        """
        slot, rest = cursor % SLOT_COUNT, cursor // SLOT_COUNT
        found: list[bytes] = []
        if rest:
            following = self._continue(slots[slot], rest, count, now_ms, found)
            if following:
                return following * SLOT_COUNT + slot, found
            slot += width - slot % width
        while slot < SLOT_COUNT and len(found) < count:
            held = slots[slot]
            if held:
                wanted = count - len(found)
                if len(held) > max(_WHOLE_MAX, 2 * wanted):
                    following = self._enter(held, wanted, now_ms, found)
                    return following * SLOT_COUNT + slot, found
                found.extend(held)
            slot += width - slot % width
        return (slot if slot < SLOT_COUNT else 0), found

    def _enter(self, held: Mapping[bytes, Any], count: int, now_ms: int, found: list[bytes]) -> int:
        keys = list(held)
        self._last_number = number = (self._last_number + 1) % (1 << _COPY_BITS)
        self._forget(number)
        self._copies[number] = _Copy(id(held), keys, now_ms)
        self._key_count += len(keys)
        while self._key_count > _KEYS_MAX and len(self._copies) > 1:
            self._forget(next(iter(self._copies)))
        return self._take(number, 0, count, found)

    def _continue(self, held: Mapping[bytes, Any], rest: int, count: int, now_ms: int, found: list[bytes]) -> int:
        number, position = rest >> _POSITION_BITS, (rest & ((1 << _POSITION_BITS) - 1)) * _UNIT
        copy = self._copies.get(number)
        if copy is None or copy.of != id(held):
            found.extend(held)
            return 0
        copy.used_ms = now_ms
        self._copies.move_to_end(number)
        return self._take(number, position, count, found)

    def _take(self, number: int, position: int, count: int, found: list[bytes]) -> int:
        """What stands above the slot in the next cursor; 0: the copy has been walked, and is given up."""
        keys = self._copies[number].keys
        end = position + (count + _UNIT - 1) // _UNIT * _UNIT
        found.extend(keys[position:end])
        if end < len(keys):
            return number << _POSITION_BITS | end // _UNIT
        self._forget(number)
        return 0

    def _forget(self, number: int) -> None:
        copy = self._copies.pop(number, None)
        if copy is not None:
            self._key_count -= len(copy.keys)

    def forget_idle(self, now_ms: int) -> None:
        """Give up copies that nobody has walked for long. To be called now and then."""
        for number, copy in list(self._copies.items()):
            if now_ms - copy.used_ms < _IDLE_MS:
                break
            self._forget(number)


SLOT_SCANS: Final = SlotScans()
