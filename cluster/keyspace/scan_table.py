"""A mapping for collections of any size that can be walked in bounded steps and drawn from at random.

Role        What the members of a big hash, set or sorted set are kept in. A plain dict cannot be indexed, so it offers
            neither a cursor that survives changes nor a random member without a search; this mapping offers both.
How         Extendible hashing: a directory of 2**depth entries, indexed by the first bits of a 32-bit hash of the
            member, names small dicts. A full one is split in two, two nearly empty neighbours become one, and the
            directory doubles or halves; no operation ever moves more than one bucket's members.
Invariants  A bucket of local depth ``d`` stands in 2**(depth - d) consecutive entries and holds exactly the members
            whose hash begins with their common ``d`` bits. ``_deepest`` counts the buckets of depth ``depth``.
            A cursor is the hash at which a walk goes on: whatever is split or merged meanwhile, a member is on the
            same side of it, so a walk returns every member that is there throughout (twice at times).
            ``_fullest`` is no less than any bucket's members, divided by the entries in which the bucket stands.
Packed      What comes from a file (:meth:`ScanTable.packed`) has the dict of each bucket as marshal's bytes until
            somebody asks for one of its members; walks leave it so. A packed bucket is not empty.
Units       Cursors: 32-bit hashes; 0 begins and ends a walk.
"""

from __future__ import annotations

import marshal
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, Generic, TypeVar, final

from cluster.keyspace.reclaim import LARGE, RECLAIMER

V = TypeVar("V")

HASH_BITS: Final = 32
_HASH_MASK: Final = (1 << HASH_BITS) - 1

BUCKET_MEMBERS: Final = 85
"""Members of a full bucket: what a Python dict of 128 places takes before it grows."""
_MERGE_MEMBERS: Final = 60
"""What two buckets may make together. Fuller ones would be split again soon, emptier ones make a draw miss often."""
_MERGE_BELOW: Final = _MERGE_MEMBERS // 2
_MERGE_SELDOM: Final = 3
"""Only one removal in four asks the neighbour, who may still be too full."""
_MAX_DEPTH: Final = 28
_MOST_LOOKED_AT: Final = 4096
_ALWAYS: Final = 1 << 62
_PREFERRED_LOAD: Final = 60
_MARSHAL_VERSION: Final = 2  # The last one without references between equal objects.
_DICT_BEGINS: Final = b"{"
_DICT_ENDS: Final = b"0"


@final
class ScanTable(Generic[V]):
    """A mapping in all that is used of one; see the module's docstring. Must not be changed while it is iterated."""

    __slots__ = ("_buckets", "_count", "_deepest", "_depth", "_depths", "_fullest", "_look_below", "_own", "_shift")

    def __init__(self, items: Iterable[tuple[bytes, V]] = (), expected: int = 0) -> None:
        """``expected``: about how many items there are, to lay out the directory once."""
        depth = min(max((expected // _PREFERRED_LOAD).bit_length(), 0), _MAX_DEPTH)
        self._lay_out(depth)
        for member, value in items:
            self[member] = value

    @classmethod
    def packed(cls, items: Iterable[tuple[bytes, V]], expected: int) -> ScanTable[V]:
        """A table of these items, packed; shorter than they are many where members come repeatedly.

        The values are such as marshal knows and cannot change.
        """
        table: ScanTable[V] = cls((), expected)
        shift = table._shift
        parts = [bytearray(_DICT_BEGINS) for _ in table._buckets]
        pack: Callable[[Any, int], bytes] = marshal.dumps
        for member, value in items:
            part = parts[(hash(member) & _HASH_MASK) >> shift]
            part += pack(member, _MARSHAL_VERSION)
            part += pack(value, _MARSHAL_VERSION)
        too_many: list[tuple[bytes, V]] = []
        parts.reverse()
        for index in range(len(parts)):
            part = parts.pop()
            part += _DICT_ENDS
            packed = bytes(part)
            opened: dict[bytes, V] = marshal.loads(packed)
            if len(opened) > BUCKET_MEMBERS:
                too_many.extend(opened.items())
            elif opened:
                table._buckets[index] = packed
                table._count += len(opened)
        for member, value in too_many:
            table[member] = value
        return table

    def _open(self, index: int) -> dict[bytes, V]:
        """Unpack the bucket at ``index``, for good."""
        bucket = _unpacked(self._buckets[index])
        own = self._own
        if own is not None:
            bucket = {own(member, value): value for member, value in bucket.items()}
        span = self._span(index)
        first = index - index % span
        self._buckets[first : first + span] = [bucket] * span
        return bucket

    def _lay_out(self, depth: int) -> None:
        self._depth = depth
        self._shift = HASH_BITS - depth
        self._buckets: list[dict[bytes, V] | bytes] = [{} for _ in range(1 << depth)]
        self._depths = bytearray([depth]) * (1 << depth)
        self._deepest = 1 << depth
        self._count = 0
        self._fullest = BUCKET_MEMBERS
        self._look_below = _ALWAYS
        self._own: Callable[[bytes, V], bytes] | None = None

    def share_members(self, own: Callable[[bytes, V], bytes]) -> None:
        """Have ``own`` tell the object that stands for a member elsewhere: unpacked buckets will use that."""
        self._own = own

    def __del__(self) -> None:
        if self._count > LARGE:
            RECLAIMER.bury(self._buckets)

    # The mapping --------------------------------------------------------------------------------------------

    def __getitem__(self, member: bytes) -> V:
        index = (hash(member) & _HASH_MASK) >> self._shift
        bucket = self._buckets[index]
        if type(bucket) is not dict:
            bucket = self._open(index)
        return bucket[member]

    def get(self, member: bytes, default: V | None = None) -> V | None:
        """The value of ``member``, or ``default``."""
        index = (hash(member) & _HASH_MASK) >> self._shift
        bucket = self._buckets[index]
        if type(bucket) is not dict:
            bucket = self._open(index)
        return bucket.get(member, default)

    def find(self, member: bytes) -> V | None:
        """The value of ``member``, or None."""
        index = (hash(member) & _HASH_MASK) >> self._shift
        bucket = self._buckets[index]
        if type(bucket) is not dict:
            bucket = self._open(index)
        return bucket.get(member)

    def __contains__(self, member: object) -> bool:
        index = (hash(member) & _HASH_MASK) >> self._shift
        bucket = self._buckets[index]
        if type(bucket) is not dict:
            bucket = self._open(index)
        return member in bucket

    def __setitem__(self, member: bytes, value: V) -> None:
        index = (hash(member) & _HASH_MASK) >> self._shift
        bucket = self._buckets[index]
        if type(bucket) is not dict:
            bucket = self._open(index)
        before = len(bucket)
        bucket[member] = value
        if len(bucket) != before:
            self._count += 1
            self._fullest = BUCKET_MEMBERS
            if before >= BUCKET_MEMBERS:
                self._split(index)

    def set(self, member: bytes, value: V) -> bool:
        """Store a value; True when the member is new."""
        index = (hash(member) & _HASH_MASK) >> self._shift
        bucket = self._buckets[index]
        if type(bucket) is not dict:
            bucket = self._open(index)
        before = len(bucket)
        bucket[member] = value
        if len(bucket) == before:
            return False
        self._count += 1
        self._fullest = BUCKET_MEMBERS
        if before >= BUCKET_MEMBERS:
            self._split(index)
        return True

    def discard(self, member: bytes) -> bool:
        """Remove a member; False when it is not there."""
        index = (hash(member) & _HASH_MASK) >> self._shift
        bucket = self._buckets[index]
        if type(bucket) is not dict:
            bucket = self._open(index)
        if member not in bucket:
            return False
        del bucket[member]
        self._count -= 1
        left = len(bucket)
        if left < _MERGE_BELOW and not left & _MERGE_SELDOM:
            self._merge(index)
        return True

    def pop(self, member: bytes, default: V | None = None) -> V | None:
        """Remove a member; its value, or ``default`` when it is not there."""
        index = (hash(member) & _HASH_MASK) >> self._shift
        bucket = self._buckets[index]
        if type(bucket) is not dict:
            bucket = self._open(index)
        if member not in bucket:
            return default
        value = bucket.pop(member)
        self._count -= 1
        left = len(bucket)
        if left < _MERGE_BELOW and not left & _MERGE_SELDOM:
            self._merge(index)
        return value

    def update(self, items: Mapping[bytes, V]) -> None:
        """Store several values."""
        for member, value in items.items():
            self[member] = value

    def __delitem__(self, member: bytes) -> None:
        index = (hash(member) & _HASH_MASK) >> self._shift
        bucket = self._buckets[index]
        if type(bucket) is not dict:
            bucket = self._open(index)
        del bucket[member]
        self._count -= 1
        left = len(bucket)
        if left < _MERGE_BELOW and not left & _MERGE_SELDOM:
            self._merge(index)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        for bucket in self.buckets():
            yield from bucket

    def items(self) -> Iterator[tuple[bytes, V]]:
        """Every member and its value."""
        for bucket in self.buckets():
            yield from bucket.items()

    def values(self) -> Iterator[V]:
        """Every value."""
        for bucket in self.buckets():
            yield from bucket.values()

    def clear(self) -> None:
        """Remove everything."""
        self._lay_out(0)

    def copy(self) -> ScanTable[V]:
        """A copy with dicts of its own."""
        other: ScanTable[V] = ScanTable()
        other._depth, other._shift = self._depth, self._shift
        other._deepest, other._count, other._fullest = self._deepest, self._count, self._fullest
        other._depths = bytearray(self._depths)
        other._buckets = []
        for index, bucket in self._first_entries():
            other._buckets.extend([bucket if isinstance(bucket, bytes) else dict(bucket)] * self._span(index))
        return other

    def buckets(self) -> Iterator[dict[bytes, V]]:
        """The dicts that make it up, in the order of their hashes; not to be changed."""
        for _index, bucket in self._first_entries():
            yield _unpacked(bucket)

    def memory_bytes(self) -> int:
        """What the directory and the buckets need, without the members; of packed ones with them."""
        buckets = sum(sys.getsizeof(bucket) for _index, bucket in self._first_entries())
        return sys.getsizeof(self._buckets) + len(self._depths) + buckets

    # Walking and drawing ------------------------------------------------------------------------------------

    def scan(self, cursor: int, count: int) -> tuple[int, list[tuple[bytes, V]]]:
        """At least ``count`` items from ``cursor`` on (a bucket more at most), and where to go on (0: done)."""
        index = (cursor & _HASH_MASK) >> self._shift
        found: list[tuple[bytes, V]] = []
        size = len(self._buckets)
        while index < size and len(found) < count:
            found.extend(_unpacked(self._buckets[index]).items())
            span = self._span(index)
            index = index - index % span + span  # A bucket that was merged meanwhile is entered in its middle.
        return (index << self._shift if index < size else 0), found

    def _draw(self, rng: random.Random) -> tuple[int, int]:
        """A bucket's index and a place in it, any member's place with the same chance. There must be a member."""
        if self._count < self._look_below:
            self._look_for_fullest()
        buckets, depths, depth, fullest = self._buckets, self._depths, self._depth, self._fullest
        places = len(buckets) * fullest
        while True:
            place = int(rng.random() * places)
            index = place // fullest
            place -= index * fullest
            local_depth = depths[index]
            if local_depth != depth:  # Its members are dealt out to the entries in which it stands.
                span = 1 << (depth - local_depth)
                place = place * span + index % span
            bucket = buckets[index]
            if place < len(self._open(index) if isinstance(bucket, bytes) else bucket):
                return index, place

    def _look_for_fullest(self) -> None:
        """See how few draws can do. Worth it after many removals, as long as no member is added."""
        self._look_below = self._count - self._count // 8
        if len(self._buckets) <= _MOST_LOOKED_AT:
            self._fullest = max(
                -(-(BUCKET_MEMBERS if isinstance(bucket, bytes) else len(bucket)) // self._span(index))
                for index, bucket in self._first_entries()
            )

    def random_member(self, rng: random.Random) -> bytes:
        """Any member, each with the same chance. There must be one."""
        index, place = self._draw(rng)
        return _member_at(_unpacked(self._buckets[index]), place)

    def random_item(self, rng: random.Random) -> tuple[bytes, V]:
        """A member and its value, each with the same chance. There must be one."""
        index, place = self._draw(rng)
        return next(islice(_unpacked(self._buckets[index]).items(), place, None))

    def pop_random(self, rng: random.Random) -> bytes:
        """Take out any member, each with the same chance. There must be one."""
        index, place = self._draw(rng)
        bucket = _unpacked(self._buckets[index])
        member = _member_at(bucket, place)
        del bucket[member]
        self._count -= 1
        left = len(bucket)
        if left < _MERGE_BELOW and not left & _MERGE_SELDOM:
            self._merge(index)
        return member

    # The directory ------------------------------------------------------------------------------------------

    def _span(self, index: int) -> int:
        """In how many entries the bucket at ``index`` stands."""
        return 1 << (self._depth - self._depths[index])

    def _first_entries(self) -> Iterator[tuple[int, dict[bytes, V] | bytes]]:
        index = 0
        while index < len(self._buckets):
            yield index, self._buckets[index]
            index += self._span(index)

    def _split(self, index: int) -> None:
        if self._depths[index] == self._depth:
            if self._depth == _MAX_DEPTH:
                return
            self._double()
            index *= 2
        local_depth = self._depths[index] + 1
        span = self._span(index)
        first, half = index - index % span, span // 2
        bit = 1 << (HASH_BITS - local_depth)
        lower: dict[bytes, V] = {}
        upper: dict[bytes, V] = {}
        for member, value in _unpacked(self._buckets[index]).items():
            (upper if hash(member) & bit else lower)[member] = value
        self._buckets[first : first + span] = [lower] * half + [upper] * half
        self._depths[first : first + span] = bytes([local_depth]) * span
        if local_depth == self._depth:
            self._deepest += 2

    def _merge(self, index: int) -> None:
        """Join the bucket with its neighbour if the two were one once and hold little."""
        local_depth = self._depths[index]
        span = self._span(index)
        first = index - index % span
        if local_depth == 0 or self._depths[first ^ span] != local_depth:
            return
        own, neighbour = _unpacked(self._buckets[first]), _unpacked(self._buckets[first ^ span])
        if len(own) + len(neighbour) > _MERGE_MEMBERS:
            return
        merged = {**own, **neighbour}
        first &= ~span
        self._buckets[first : first + 2 * span] = [merged] * (2 * span)
        self._depths[first : first + 2 * span] = bytes([local_depth - 1]) * (2 * span)
        if local_depth == self._depth:
            self._deepest -= 2
            while self._deepest == 0 and self._depth > 0:
                self._halve()

    def _double(self) -> None:
        self._buckets = [bucket for bucket in self._buckets for _ in (0, 1)]
        depths = bytearray(2 * len(self._depths))
        depths[::2] = depths[1::2] = self._depths
        self._depths = depths
        self._depth += 1
        self._shift -= 1
        self._deepest = 0
        self._look_below = _ALWAYS

    def _halve(self) -> None:
        self._buckets = self._buckets[::2]
        self._depths = self._depths[::2]
        self._depth -= 1
        self._shift += 1
        self._deepest = self._depths.count(self._depth)
        self._fullest = min(2 * self._fullest, BUCKET_MEMBERS)
        self._look_below = _ALWAYS


def _unpacked(bucket: dict[bytes, V] | bytes) -> dict[bytes, V]:
    """The dict of a bucket: itself, or a new one of what is packed."""
    if isinstance(bucket, bytes):
        opened: dict[bytes, V] = marshal.loads(bucket)
        return opened
    return bucket


def _member_at(members: Mapping[bytes, Any], place: int) -> bytes:
    """The member at a place, from the nearer end: each that is passed costs a look into another corner of memory."""
    last = len(members) - 1
    if place * 2 > last and isinstance(members, dict):
        place = last - place
        backwards: Iterator[bytes] = reversed(members)
        return next(islice(backwards, place, None))
    return next(islice(members, place, None))


Members = dict[bytes, V] | ScanTable[V]
"""What a collection keeps its members in: a dict while it is small, which is then walked and drawn from as a whole."""

AnyMembers = Mapping[bytes, V] | ScanTable[V]
"""The same, read only: a small hash has no dict."""

SMALL_MEMBERS: Final = 128
"""Up to here a dict will do, however the collection is encoded."""


def scan(members: AnyMembers[V], cursor: int, count: int) -> tuple[int, list[tuple[bytes, V]]]:
    """The step of a walk; a dict is walked in one."""
    if isinstance(members, ScanTable):
        return members.scan(cursor, count)
    return 0, list(members.items())


def random_member(members: AnyMembers[V], rng: random.Random) -> bytes:
    """A member of what has at least one."""
    if isinstance(members, ScanTable):
        return members.random_member(rng)
    return _member_at(members, int(rng.random() * len(members)))


def random_members(members: AnyMembers[V], count: int, rng: random.Random) -> list[bytes]:
    """``count`` members, any of them repeatedly."""
    if isinstance(members, ScanTable) and count < len(members):
        return [members.random_member(rng) for _ in range(count)]
    return rng.choices(list(members), k=count)


def distinct_members(members: AnyMembers[V], count: int, rng: random.Random) -> list[bytes]:
    """``count`` different members, or all of them if there are no more."""
    if count >= len(members):
        return list(members)
    if not isinstance(members, ScanTable) or count * 3 > len(members):
        return rng.sample(list(members), count)
    chosen: dict[bytes, None] = {}
    while len(chosen) < count:
        chosen[members.random_member(rng)] = None
    return list(chosen)
