"""Unions, intersections and differences of sorted sets and sets, whose members all score 1. Redis 7.0: t_zset.c.

Sums of doubles depend on their order: as in Redis, the inputs of a union or an intersection are taken by size.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from cluster import errors
from cluster.commands.arguments import parse_double, parse_integer
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.commands.sorted_set_ranges import store_result
from cluster.commands.sorted_sets import scored_reply
from cluster.errors import CommandError
from cluster.keyspace.sets import SetValue
from cluster.keyspace.sorted_sets import SortedSetValue
from cluster.resp.encode import EMPTY_ARRAY, bulk_array, integer
from cluster.slots.hashing import key_slot

Aggregate = Callable[[float, float], float]


def _sum(total: float, score: float) -> float:
    total += score
    return 0.0 if math.isnan(total) else total  # inf and -inf


def _least(total: float, score: float) -> float:
    return score if score < total else total


def _greatest(total: float, score: float) -> float:
    return score if score > total else total


_AGGREGATES: Final[dict[bytes, Aggregate]] = {b"SUM": _sum, b"MIN": _least, b"MAX": _greatest}


class Operation(enum.Enum):
    """What is made of the inputs; the value is the event of the command that stores it."""

    UNION = b"zunionstore"
    INTERSECTION = b"zinterstore"
    DIFFERENCE = b"zdiffstore"


@attrs.define(eq=False)
class Source:
    """One input: its value, None when the key is missing, and what its scores are multiplied by."""

    value: SortedSetValue | SetValue | None
    weight: float = 1.0

    def __len__(self) -> int:
        return 0 if self.value is None else len(self.value)

    def items(self) -> Iterable[tuple[bytes, float]]:
        """Members and unweighted scores."""
        if self.value is None:
            return ()
        if type(self.value) is SortedSetValue:
            return self.value.scores.items()
        return ((member, 1.0) for member in self.value)

    def finder(self) -> Callable[[bytes], float | None]:
        """A function from a member to its unweighted score, or None."""
        value = self.value
        if type(value) is SortedSetValue:
            return value.scores.get
        assert value is not None
        return lambda member: 1.0 if member in value else None


@attrs.define
class Request:
    """The arguments of one of the commands: numkeys, keys, and what may follow."""

    operation: Operation
    sources: list[Source] = attrs.field(factory=list)
    aggregate: Aggregate = _sum
    with_scores: bool = False
    limit: int = 0

    def parse(self, client: Session, name: bytes, words: list[bytes], *, storing: bool, counting: bool) -> None:
        """Read the words and the keys they name. Raises CommandError, in Redis's order."""
        count = parse_integer(words[0])
        if count < 1:
            raise CommandError(b"ERR at least 1 input key is needed for '%b' command" % name)
        if count > len(words) - 1:
            raise CommandError(errors.SYNTAX)
        for key in words[1 : count + 1]:
            value = client.db.read(key, key_slot(key))
            if value is not None and type(value) is not SortedSetValue and type(value) is not SetValue:
                raise CommandError(errors.WRONGTYPE)
            self.sources.append(Source(value))
        rest = words[count + 1 :]
        is_weighted = self.operation is not Operation.DIFFERENCE and not counting
        while rest:
            option = rest[0].upper()
            if option == b"WEIGHTS" and is_weighted and len(rest) > count:
                for source, text in zip(self.sources, rest[1:], strict=False):
                    source.weight = parse_double(text, b"ERR weight value is not a float")
                rest = rest[count + 1 :]
            elif option == b"AGGREGATE" and is_weighted and len(rest) > 1:
                if rest[1].upper() not in _AGGREGATES:
                    raise CommandError(errors.SYNTAX)
                self.aggregate = _AGGREGATES[rest[1].upper()]
                rest = rest[2:]
            elif option == b"WITHSCORES" and not storing and not counting:
                self.with_scores = True
                rest = rest[1:]
            elif option == b"LIMIT" and counting and len(rest) > 1:
                self.limit = parse_integer(rest[1], b"ERR LIMIT can't be negative")
                if self.limit < 0:
                    raise CommandError(b"ERR LIMIT can't be negative")
                rest = rest[2:]
            else:
                raise CommandError(errors.SYNTAX)

    def run(self) -> dict[bytes, float]:
        """The members of the result and their scores."""
        if self.operation is Operation.DIFFERENCE:
            return _difference(self.sources)
        by_size = sorted(self.sources, key=len)
        if self.operation is Operation.UNION:
            return _union(by_size, self.aggregate)
        return _intersection(by_size, self.aggregate)


def _weighted(score: float, weight: float) -> float:
    score *= weight
    return 0.0 if math.isnan(score) else score  # inf * 0


def _union(sources: list[Source], aggregate: Aggregate) -> dict[bytes, float]:
    result: dict[bytes, float] = {}
    for source in sources:
        weight = source.weight
        for member, score in source.items():
            if weight != 1.0:
                score = _weighted(score, weight)
            total = result.get(member)
            result[member] = score if total is None else aggregate(total, score)
    return result


def _intersection(sources: list[Source], aggregate: Aggregate) -> dict[bytes, float]:
    smallest, *others = sources
    if not len(smallest):
        return {}
    finders = [(other.finder(), other.weight) for other in others]
    result: dict[bytes, float] = {}
    for member, score in smallest.items():
        total = _weighted(score, smallest.weight)
        for find, weight in finders:
            found = find(member)
            if found is None:
                break
            total = aggregate(total, found * weight)
        else:
            result[member] = total
    return result


def _count_common(sources: list[Source], limit: int) -> int:
    """How many members all have, counted up to ``limit`` (0: all)."""
    smallest, *others = sorted(sources, key=len)
    if not len(smallest):
        return 0
    finders = [other.finder() for other in others]
    count = 0
    for member, _score in smallest.items():
        if all(find(member) is not None for find in finders):
            count += 1
            if count == limit:
                break
    return count


def _difference(sources: list[Source]) -> dict[bytes, float]:
    first, *others = sources
    if first.value is None or any(other.value is first.value for other in others):
        return {}
    present = [other for other in others if len(other)]
    # As for sets: asking few large ones, or walking through many small ones, whichever is less.
    if len(first) * len(sources) // 2 <= sum(map(len, sources)):
        finders = [other.finder() for other in sorted(present, key=len, reverse=True)]
        return {
            member: score for member, score in first.items() if not any(find(member) is not None for find in finders)
        }
    result = dict(first.items())
    for other in present:
        for member, _score in other.items():
            result.pop(member, None)
        if not result:
            break
    return result


def _reply(client: Session, argv: list[bytes], operation: Operation, name: bytes) -> bytes:
    request = Request(operation)
    request.parse(client, name, argv[1:], storing=False, counting=False)
    result = request.run()
    if not result:
        return EMPTY_ARRAY
    in_order = sorted(zip(result.values(), result, strict=True))
    members = [member for _score, member in in_order]
    if not request.with_scores:
        return bulk_array(members)
    return scored_reply(client, members, [score for score, _member in in_order])


def _store(client: Session, argv: list[bytes], operation: Operation) -> bytes:
    request = Request(operation)
    request.parse(client, operation.value, argv[2:], storing=True, counting=False)
    return store_result(client, argv[1], request.run(), operation.value)


@command("zunion")
def zunion(client: Session, argv: list[bytes]) -> bytes:
    return _reply(client, argv, Operation.UNION, b"zunion")


@command("zinter")
def zinter(client: Session, argv: list[bytes]) -> bytes:
    return _reply(client, argv, Operation.INTERSECTION, b"zinter")


@command("zdiff")
def zdiff(client: Session, argv: list[bytes]) -> bytes:
    return _reply(client, argv, Operation.DIFFERENCE, b"zdiff")


@command("zunionstore")
def zunionstore(client: Session, argv: list[bytes]) -> bytes:
    return _store(client, argv, Operation.UNION)


@command("zinterstore")
def zinterstore(client: Session, argv: list[bytes]) -> bytes:
    return _store(client, argv, Operation.INTERSECTION)


@command("zdiffstore")
def zdiffstore(client: Session, argv: list[bytes]) -> bytes:
    return _store(client, argv, Operation.DIFFERENCE)


@command("zintercard")
def zintercard(client: Session, argv: list[bytes]) -> bytes:
    request = Request(Operation.INTERSECTION)
    request.parse(client, b"zintercard", argv[1:], storing=False, counting=True)
    return integer(_count_common(request.sources, request.limit))
