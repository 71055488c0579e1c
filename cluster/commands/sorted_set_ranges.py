"""Ranges of sorted sets: by rank, by score, by the members' bytes; read, counted, stored, removed. Redis 7.0: t_zset.c.

Every range becomes a span of ranks first. The one that does not is a range by bytes over different scores, which has
no meaning: Redis then walks from the first member that is inside to the first that is not, and so does this, exactly
for compact sorted sets.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from itertools import islice
from typing import Final

import attrs

from cluster import errors
from cluster.commands.arguments import parse_integer, strtod
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.commands.sorted_sets import after_removal, checked_sorted_set, read_sorted_set, scored_reply
from cluster.errors import CommandError
from cluster.keyspace.ranking import Ranking
from cluster.keyspace.sorted_sets import SortedSetValue
from cluster.resp.encode import EMPTY_ARRAY, ZERO, bulk_array, integer
from cluster.slots.hashing import key_slot

Span = tuple[int, int]
"""Ranks from the first up to the second, exclusive; nothing when that is not greater."""

_NOTHING: Final[Span] = (0, 0)


class Order(enum.Enum):
    """What the bounds of a range are."""

    RANK = enum.auto()
    SCORE = enum.auto()
    BYTES = enum.auto()


@attrs.frozen
class RankRange:
    """Two inclusive indexes, negative ones from the end."""

    start: int
    end: int

    def span(self, value: SortedSetValue, *, descending: bool, offset: int = 0) -> Span:
        """The ranks meant, counted from the least also when the indexes count from the greatest. No offset applies."""
        size = len(value)
        first = max(self.start + size if self.start < 0 else self.start, 0)
        last = min(self.end + size if self.end < 0 else self.end, size - 1)
        if first > last:
            return _NOTHING
        return (size - 1 - last, size - first) if descending else (first, last + 1)


@attrs.frozen
class ScoreRange:
    """Two scores, each inside or outside."""

    low: float
    high: float
    excludes_low: bool = False
    excludes_high: bool = False

    def span(self, value: SortedSetValue, *, descending: bool, offset: int = 0) -> Span:
        """The ranks of the members with such scores, but for the first so many."""
        below = value.ranking.below_score
        start, stop = below(self.low, or_equal=self.excludes_low), below(self.high, or_equal=not self.excludes_high)
        return (start, stop - offset) if descending else (start + offset, stop)


@attrs.frozen
class ByteBound:
    """``[text``, ``(text``, or what is less or greater than every text."""

    text: bytes
    is_exclusive: bool = True
    infinite: int = 0
    """-1 and 1 for ``-`` and ``+``."""

    def is_below(self, member: bytes) -> bool:
        """True when a range may begin here and have the member."""
        if self.infinite:
            return self.infinite < 0
        return self.text < member if self.is_exclusive else self.text <= member

    def is_above(self, member: bytes) -> bool:
        """True when a range may end here and have the member."""
        if self.infinite:
            return self.infinite > 0
        return member < self.text if self.is_exclusive else member <= self.text


@attrs.frozen
class ByteRange:
    """Two bounds of the members' bytes."""

    low: ByteBound
    high: ByteBound

    def span(self, value: SortedSetValue, *, descending: bool, offset: int = 0) -> Span:
        """The ranks of the members between the bounds, but for the first so many."""
        low, high = self.low, self.high
        ranking = value.ranking
        if low.infinite > 0 or high.infinite < 0 or self._is_empty():
            return _NOTHING
        if not (low.is_below(ranking.last()[0]) and high.is_above(ranking.first()[0])):
            return _NOTHING
        if value.is_compact and not ranking.has_one_score():
            return self._walk(ranking, len(value), descending=descending, offset=offset)
        start = 0 if low.infinite else ranking.below_member(low.text, or_equal=low.is_exclusive)
        stop = len(value) if high.infinite else ranking.below_member(high.text, or_equal=not high.is_exclusive)
        return (start, stop - offset) if descending else (start + offset, stop)

    def _is_empty(self) -> bool:
        low, high = self.low, self.high
        if low.infinite or high.infinite:
            return False
        return low.text > high.text or (low.text == high.text and (low.is_exclusive or high.is_exclusive))

    def _walk(self, ranking: Ranking, size: int, *, descending: bool, offset: int) -> Span:
        """From the first member that is inside to one that is not, passing over some whatever they are."""
        members = list(ranking.members())
        enters, leaves = self.low.is_below, self.high.is_above
        if descending:
            members.reverse()
            enters, leaves = leaves, enters
        start = next((place for place, member in enumerate(members) if enters(member)), size)
        if start == size or not leaves(members[start]):
            return _NOTHING
        start = min(start + offset, size)
        stop = next((place for place in range(start, size) if not leaves(members[place])), size)
        return (size - stop, size - start) if descending else (start, stop)


Range = RankRange | ScoreRange | ByteRange


def _parse_score_bound(text: bytes) -> tuple[float, bool]:
    """A score and whether it is outside. Raises CommandError."""
    text = text.split(b"\0", 1)[0]  # Redis reads it as C does.
    is_exclusive = text.startswith(b"(")
    if is_exclusive:
        text = text[1:]
    score = strtod(text) if text else 0.0
    if score is None:
        raise CommandError(b"ERR min or max is not a float")
    return score, is_exclusive


def _parse_byte_bound(text: bytes) -> ByteBound:
    kind = text[:1]
    if kind in (b"(", b"["):
        return ByteBound(text[1:], is_exclusive=kind == b"(")
    if kind in (b"+", b"-") and text[1:2] in (b"", b"\0"):
        return ByteBound(b"", infinite=1 if kind == b"+" else -1)
    raise CommandError(b"ERR min or max not valid string range item")


def parse_range(order: Order, low: bytes, high: bytes) -> Range:
    """The range between two words. Raises CommandError."""
    if order is Order.RANK:
        return RankRange(parse_integer(low), parse_integer(high))
    if order is Order.SCORE:
        low_score, excludes_low = _parse_score_bound(low)
        high_score, excludes_high = _parse_score_bound(high)
        return ScoreRange(low_score, high_score, excludes_low, excludes_high)
    return ByteRange(_parse_byte_bound(low), _parse_byte_bound(high))


# Selecting ------------------------------------------------------------------------------------------------------


@attrs.define
class Selection:
    """What the ZRANGE family is asked for."""

    order: Order | None = None
    descending: bool | None = None
    with_scores: bool = False
    offset: int = 0
    limit: int = -1
    range: Range = RankRange(0, -1)

    def parse(self, words: list[bytes], *, storing: bool = False) -> None:
        """Read ``low high [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]``; what is set already cannot be
        chosen. Raises CommandError.
        """
        options = iter(words[2:])
        for word in options:
            option = word.upper()
            if option == b"WITHSCORES" and not storing:
                self.with_scores = True
            elif option == b"LIMIT" and len(pair := list(islice(options, 2))) == 2:
                self.offset, self.limit = parse_integer(pair[0]), parse_integer(pair[1])
            elif option == b"REV" and self.descending is None:
                self.descending = True
            elif option == b"BYLEX" and self.order is None:
                self.order = Order.BYTES
            elif option == b"BYSCORE" and self.order is None:
                self.order = Order.SCORE
            else:
                raise CommandError(errors.SYNTAX)
        self.order = self.order or Order.RANK
        if self.limit != -1 and self.order is Order.RANK:
            raise CommandError(b"ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
        if self.with_scores and self.order is Order.BYTES:
            raise CommandError(b"ERR syntax error, WITHSCORES not supported in combination with BYLEX")
        low, high = words[:2]
        if self.descending and self.order is not Order.RANK:
            low, high = high, low
        self.range = parse_range(self.order, low, high)

    def select(self, value: SortedSetValue) -> tuple[list[bytes], Sequence[float]]:
        """The members and scores asked for, in the order asked for."""
        descending = bool(self.descending)
        if self.offset < 0 and self.order is not Order.RANK:
            return [], ()  # Redis steps over members until there are none left.
        start, stop = self.range.span(value, descending=descending, offset=self.offset)
        if self.limit >= 0 and descending:
            start = max(start, stop - self.limit)
        elif self.limit >= 0:
            stop = min(stop, start + self.limit)
        members, scores = value.ranking.window(start, stop)
        if descending:
            members.reverse()
            scores.reverse()
        return members, scores


def _range(client: Session, argv: list[bytes], selection: Selection) -> bytes:
    selection.parse(argv[2:])
    value = read_sorted_set(client, argv[1])
    if value is None:
        return EMPTY_ARRAY
    members, scores = selection.select(value)
    if not members:
        return EMPTY_ARRAY
    return scored_reply(client, members, scores) if selection.with_scores else bulk_array(members)


@command("zrange")
def zrange(client: Session, argv: list[bytes]) -> bytes:
    return _range(client, argv, Selection())


@command("zrevrange")
def zrevrange(client: Session, argv: list[bytes]) -> bytes:
    return _range(client, argv, Selection(Order.RANK, descending=True))


@command("zrangebyscore")
def zrangebyscore(client: Session, argv: list[bytes]) -> bytes:
    return _range(client, argv, Selection(Order.SCORE, descending=False))


@command("zrevrangebyscore")
def zrevrangebyscore(client: Session, argv: list[bytes]) -> bytes:
    return _range(client, argv, Selection(Order.SCORE, descending=True))


@command("zrangebylex")
def zrangebylex(client: Session, argv: list[bytes]) -> bytes:
    return _range(client, argv, Selection(Order.BYTES, descending=False))


@command("zrevrangebylex")
def zrevrangebylex(client: Session, argv: list[bytes]) -> bytes:
    return _range(client, argv, Selection(Order.BYTES, descending=True))


def store_result(client: Session, key: bytes, scores: dict[bytes, float], event: bytes, changes: int = 1) -> bytes:
    """Put the result of a ...STORE at ``key``, counted as so many changes; an empty one deletes what is there."""
    db, slot = client.db, key_slot(key)
    if scores:
        db.put(key, slot, SortedSetValue.of(scores, client.server.settings))
        db.keyspace.dirty += changes - 1
        db.notify("z", event, key)
    elif db.delete(key, slot):  # Expired or not: nobody has looked.
        db.notify("g", b"del", key)
    return integer(len(scores))


@command("zrangestore")
def zrangestore(client: Session, argv: list[bytes]) -> bytes:
    selection = Selection()
    selection.parse(argv[3:], storing=True)
    value = checked_sorted_set(client.db.read(argv[2], key_slot(argv[2])))
    found = {} if value is None else dict(zip(*selection.select(value), strict=True))
    return store_result(client, argv[1], found, b"zrangestore")


# Counting and removing ------------------------------------------------------------------------------------------


def _count(client: Session, argv: list[bytes], order: Order) -> bytes:
    wanted = parse_range(order, argv[2], argv[3])
    value = read_sorted_set(client, argv[1])
    if value is None:
        return ZERO
    start, stop = wanted.span(value, descending=False)
    return integer(max(stop - start, 0))


@command("zcount")
def zcount(client: Session, argv: list[bytes]) -> bytes:
    return _count(client, argv, Order.SCORE)


@command("zlexcount")
def zlexcount(client: Session, argv: list[bytes]) -> bytes:
    return _count(client, argv, Order.BYTES)


def _remove(client: Session, argv: list[bytes], order: Order, event: bytes) -> bytes:
    wanted = parse_range(order, argv[2], argv[3])
    value = checked_sorted_set(client.db.peek(argv[1], client.slot))
    if value is None:
        return ZERO
    removed = value.remove_span(*wanted.span(value, descending=False))
    if removed:
        after_removal(client.db, argv[1], client.slot, value, removed, event)
    return integer(removed)


@command("zremrangebyrank")
def zremrangebyrank(client: Session, argv: list[bytes]) -> bytes:
    return _remove(client, argv, Order.RANK, b"zremrangebyrank")


@command("zremrangebyscore")
def zremrangebyscore(client: Session, argv: list[bytes]) -> bytes:
    return _remove(client, argv, Order.SCORE, b"zremrangebyscore")


@command("zremrangebylex")
def zremrangebylex(client: Session, argv: list[bytes]) -> bytes:
    return _remove(client, argv, Order.BYTES, b"zremrangebylex")
