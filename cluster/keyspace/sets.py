"""Set values.

Role        One class for both of Redis's encodings: a small set of integers ("intset") is a sorted array, any other
            set ("hashtable") a mapping whose values mean nothing; the change is one-way, at the first member that is
            no integer or beyond set-max-intset-entries.
Invariants  The array's items are 2, 4 or 8 bytes wide as the widest member so far asked for, as in Redis, which shows
            in DUMP. A hashtable of up to SMALL_MEMBERS members is a dict, a bigger one may be a ScanTable. An array
            that was loaded with more members than an intset may have stays one until the set is changed or scanned,
            and is a hashtable to all who ask.
Spec        t_set.c (setTypeAdd), intset.c, debug.c (xorObjectDigest).
"""

from __future__ import annotations

import random
import sys
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import ClassVar, Final, final

from cluster.keyspace.digest import mix, xor
from cluster.keyspace.scan_table import (
    SMALL_MEMBERS,
    Members,
    ScanTable,
    distinct_members,
    random_member,
    random_members,
    scan,
)
from cluster.keyspace.strings import parse_int64

_SET_TYPE: Final = (2).to_bytes(4, "big")
_WIDTHS: Final = (("h", 1 << 15), ("i", 1 << 31), ("q", 1 << 63))
_NOBODY: Final[dict[bytes, None]] = {}
"""Stands where an intset has no mapping. Never written to."""


@final
class SetValue:
    """A set. Whoever removes its last member removes the key."""

    __slots__ = ("has_outgrown", "integers", "members")

    type_name: ClassVar[bytes] = b"set"

    def __init__(self) -> None:
        self.integers: array[int] | None = array("h")
        """The members of an intset in ascending order; None for a hashtable."""
        self.members: Members[None] = _NOBODY
        """The members of a hashtable."""
        self.has_outgrown = False
        """The integers are more than an intset may hold."""

    @classmethod
    def of_integers(cls, integers: array[int], most_integers: int) -> SetValue:
        """A set of these integers, in ascending order, which become its own."""
        value = cls()
        value.integers = integers
        value.has_outgrown = len(integers) > most_integers
        return value

    @classmethod
    def of(cls, members: Collection[bytes] | ScanTable[None], most_integers: int) -> SetValue:
        """A set of these members, which are distinct, in the encoding that adding them one by one would give.

        It takes a table over.
        """
        value = cls()
        if len(members) <= most_integers:
            numbers = [number for member in members if (number := parse_int64(member)) is not None]
            if len(numbers) == len(members):
                numbers.sort()
                value.integers = array(_typecode(numbers[0], numbers[-1]) if numbers else "h", numbers)
                return value
        value.integers = None
        if isinstance(members, ScanTable):
            value.members = members
        elif len(members) > SMALL_MEMBERS:
            value.members = ScanTable(((member, None) for member in members), expected=len(members))
        else:
            value.members = dict.fromkeys(members)
        return value

    # Members ------------------------------------------------------------------------------------------------

    def add(self, member: bytes, most_integers: int) -> bool:
        """Add a member; False when it is there already. ``most_integers``: set-max-intset-entries."""
        integers = self.integers
        if integers is not None:
            number = parse_int64(member)
            if number is not None and not self.has_outgrown:
                return self._add_integer(integers, number, most_integers)
            self.expand()
        members = self.members
        if type(members) is ScanTable:
            return members.set(member, None)
        before = len(members)
        members[member] = None
        if len(members) == before:
            return False
        if before >= SMALL_MEMBERS and type(members) is dict:
            self.members = ScanTable(members.items(), expected=2 * before)
        return True

    def _add_integer(self, integers: array[int], number: int, most_integers: int) -> bool:
        place = bisect_left(integers, number)
        if place < len(integers) and integers[place] == number:
            return False
        try:
            integers.insert(place, number)
        except OverflowError:
            integers = self.integers = array(_typecode(number, number), integers)
            integers.insert(place, number)
        if len(integers) > min(most_integers, 1 << 30):
            self.expand()
        return True

    def expand(self) -> None:
        """Give the compact encoding up."""
        if self.integers is None:
            return
        texts = [b"%d" % number for number in self.integers]
        if len(texts) > SMALL_MEMBERS:
            self.members = ScanTable(((text, None) for text in texts), expected=2 * len(texts))
        else:
            self.members = dict.fromkeys(texts)
        self.integers = None
        self.has_outgrown = False

    def remove(self, member: bytes) -> bool:
        """Take a member out; False when it is not there."""
        if self.has_outgrown:
            self.expand()
        integers = self.integers
        if integers is None:
            members = self.members
            if type(members) is ScanTable:
                return members.discard(member)
            if member not in members:
                return False
            del members[member]
            return True
        number = parse_int64(member)
        if number is None:
            return False
        place = bisect_left(integers, number)
        if place == len(integers) or integers[place] != number:
            return False
        del integers[place]
        return True

    def __contains__(self, member: bytes) -> bool:
        integers = self.integers
        if integers is None:
            return member in self.members
        number = parse_int64(member)
        if number is None:
            return False
        place = bisect_left(integers, number)
        return place < len(integers) and integers[place] == number

    def __iter__(self) -> Iterator[bytes]:
        """The members: integers of an intset in ascending order."""
        if self.integers is None:
            return iter(self.members)
        return map(b"%d".__mod__, self.integers)

    def __len__(self) -> int:
        return len(self.members) if self.integers is None else len(self.integers)

    # Walking and drawing ------------------------------------------------------------------------------------

    def scan(self, cursor: int, count: int) -> tuple[int, list[tuple[bytes, None]]]:
        """A step of SSCAN: the next cursor, some members."""
        if self.has_outgrown:
            self.expand()
        if self.integers is None:
            return scan(self.members, cursor, count)
        return 0, [(member, None) for member in self]

    def pop_random(self, rng: random.Random) -> bytes:
        """Take out any member. There must be one."""
        integers = self.integers
        if integers is not None:
            return b"%d" % integers.pop(int(rng.random() * len(integers)))
        members = self.members
        if type(members) is ScanTable:
            return members.pop_random(rng)
        member = random_member(members, rng)
        del members[member]
        return member

    def random_member(self, rng: random.Random) -> bytes:
        """Any member."""
        if self.integers is None:
            return random_member(self.members, rng)
        return b"%d" % rng.choice(self.integers)

    def random_members(self, count: int, rng: random.Random) -> list[bytes]:
        """``count`` members, any of them repeatedly."""
        if self.integers is None:
            return random_members(self.members, count, rng)
        return [b"%d" % number for number in rng.choices(self.integers, k=count)]

    def distinct_members(self, count: int, rng: random.Random) -> list[bytes]:
        """``count`` different members, or all."""
        if self.integers is None:
            return distinct_members(self.members, count, rng)
        if count >= len(self.integers):
            return list(self)
        return [b"%d" % number for number in rng.sample(self.integers, count)]

    # As any value: see CollectionValue ----------------------------------------------------------------------

    def encoding(self) -> bytes:
        return b"hashtable" if self.integers is None or self.has_outgrown else b"intset"

    def free_effort(self) -> int:
        return len(self) if self.integers is None or self.has_outgrown else 1

    def copy(self) -> SetValue:
        other = SetValue()
        other.integers = None if self.integers is None else self.integers[:]
        other.has_outgrown = self.has_outgrown
        if self.integers is None:
            other.members = self.members.copy()
        return other

    def mix_into_digest(self, digest: bytes) -> bytes:
        """Add the set to a digest of the data set."""
        digest = mix(digest, _SET_TYPE)
        for member in self:
            digest = xor(digest, member)
        return digest

    def memory_bytes(self, samples: int) -> int:
        """What it needs, judged by ``samples`` members (0: all)."""
        if self.integers is not None:
            return sys.getsizeof(self) + sys.getsizeof(self.integers)
        members = self.members
        table = members.memory_bytes() if isinstance(members, ScanTable) else sys.getsizeof(members)
        looked_at = list(islice(members, samples or None))
        texts = sum(map(sys.getsizeof, looked_at))
        return sys.getsizeof(self) + table + texts * len(members) // max(len(looked_at), 1)


def _typecode(low: int, high: int) -> str:
    """The narrowest kind of array that holds both."""
    return next(code for code, limit in _WIDTHS if -limit <= low and high < limit)


# Algebra ----------------------------------------------------------------------------------------------------------


def intersection(sets: Iterable[SetValue]) -> Iterator[bytes]:
    """The members that all have, in the order of the smallest; there is at least one set."""
    smallest, *others = sorted(sets, key=len)
    members = iter(smallest)
    for other in others:
        if other is not smallest:
            has = other.members.__contains__ if other.integers is None else other.__contains__
            members = filter(has, members)
    return members


def union(sets: Iterable[SetValue | None], most_integers: int) -> SetValue:
    """The members that any has; None is an empty set."""
    result: dict[bytes, None] = {}
    for value in sets:
        if value is not None:
            result.update(dict.fromkeys(value))
    return SetValue.of(result, most_integers)


def difference(first: SetValue, others: list[SetValue], most_integers: int) -> SetValue:
    """The members of ``first`` that no other has."""
    if any(other is first for other in others):
        return SetValue()
    # Few large sets are asked; many small ones are walked through, and what is left keeps the encoding of the whole.
    if len(first) * (len(others) + 1) // 2 <= len(first) + sum(map(len, others)):
        by_size = sorted(others, key=len, reverse=True)
        return SetValue.of([member for member in first if not any(member in other for other in by_size)], most_integers)
    result = SetValue.of(list(first), most_integers)
    for other in others:
        for member in other:
            result.remove(member)
        if not result:
            break
    return result
