"""Members in the order of their scores: where one stands, who stands at a place, who is between two bounds.

Role        What makes a sorted set sorted. Ranks count from 0 at the least; equal scores go by the members' bytes.
How         A list of chunks in place of a skip list, each an array of scores and a list of their members, up to
            ``MOST_IN_CHUNK``: a search reads the doubles where they stand, without going to an object for each, and the
            bytes are those of the set's table, so an entry costs 16 bytes. A place is found by bisection, first among
            the chunks' last entries, then in the chunk; ranks across chunks come from a Fenwick tree over the chunks'
            sizes, which is made when it is first asked and again after a split or merge.
Invariants  No chunk is empty except the only one. ``_last_scores``, ``_last_members`` repeat the chunks' last entries.
            Scores are no NaN. Nothing here looks a member up: callers say which score it has.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import lt
from typing import Final, final

from cluster.keyspace.reclaim import LARGE, RECLAIMER

MOST_IN_CHUNK: Final = 1024
_NEW_CHUNK: Final = 512
_MERGE_BELOW: Final = 128
_TIDY_EVERY: Final = 32
"""A small chunk is not offered to its neighbours, who may be too big for it, each time that it shrinks."""
_LARGE_CHUNKS: Final = LARGE // _NEW_CHUNK


@final
class Ranking:
    """See the module's docstring. Must not be changed while it is iterated."""

    __slots__ = ("_last_members", "_last_scores", "_members", "_scores", "_tree")

    def __init__(self, ascending: Sequence[tuple[float, bytes]] = ()) -> None:
        """A ranking of (score, member) that are in order already."""
        self._scores: list[array[float]] = []
        self._members: list[list[bytes]] = []
        self._last_scores: array[float] = array("d")
        self._last_members: list[bytes] = []
        self._tree: list[int] | None = None
        for start in range(0, len(ascending), _NEW_CHUNK):
            part = ascending[start : start + _NEW_CHUNK]
            self._scores.append(array("d", [score for score, _member in part]))
            self._members.append([member for _score, member in part])
            last_score, last_member = part[-1]
            self._last_scores.append(last_score)
            self._last_members.append(last_member)
        if not ascending:
            self._scores.append(array("d"))
            self._members.append([])

    def __del__(self) -> None:
        if len(self._members) > _LARGE_CHUNKS:
            RECLAIMER.bury(self._scores)
            RECLAIMER.bury(self._members)

    @classmethod
    def of(cls, scores: Iterable[float], members: Iterable[bytes]) -> Ranking:
        """A ranking of members with the scores that come in the same order."""
        return cls(sorted(zip(scores, members, strict=True)))

    @classmethod
    def of_ascending(cls, scores: Iterable[float], members: list[bytes]) -> Ranking:
        """A ranking of few members that are in order, in one chunk; it takes the list over."""
        ranking = Ranking()
        ranking._scores, ranking._members = [array("d", scores)], [members]
        ranking._last_scores, ranking._last_members = ranking._scores[0][-1:], members[-1:]
        return ranking

    @classmethod
    def of_columns(cls, scores: array[float], members: list[bytes]) -> Ranking:
        """A ranking of many members and their scores, which it uses up; made quickest where they are in order.

        Nothing but the ranking is made of them: a file has them in order, from the greatest down as a rule.
        """
        ranking = Ranking()
        if len(scores) > 1 and scores[0] >= scores[-1]:
            scores.reverse()
            members.reverse()
        if _are_ascending(scores, members):
            ranking._scores = [scores[start : start + _NEW_CHUNK] for start in range(0, len(scores), _NEW_CHUNK)]
            ranking._members = [members[start : start + _NEW_CHUNK] for start in range(0, len(members), _NEW_CHUNK)]
            ranking._last_scores = array("d", [chunk[-1] for chunk in ranking._scores])
            ranking._last_members = [chunk[-1] for chunk in ranking._members]
        else:
            for score, member in zip(scores, members, strict=True):
                ranking.add(score, member)
        return ranking

    def own(self, member: bytes, score: float) -> bytes:
        """The object that stands for a member here; ``member`` where it does not have this score."""
        index = _place(self._last_scores, self._last_members, score, member)
        if index == len(self._last_scores):
            return member
        members = self._members[index]
        found = members[_place(self._scores[index], members, score, member)]
        return found if found == member else member

    def copy(self) -> Ranking:
        """A ranking with lists of its own."""
        other = Ranking()
        other._scores = [scores[:] for scores in self._scores]
        other._members = [members[:] for members in self._members]
        other._last_scores, other._last_members = self._last_scores[:], self._last_members[:]
        return other

    # Changing -----------------------------------------------------------------------------------------------

    def add(self, score: float, member: bytes) -> None:
        """Put in a member that is not there."""
        index = _place(self._last_scores, self._last_members, score, member)
        if index == len(self._last_scores):
            index = len(self._members) - 1
            scores, members = self._scores[index], self._members[index]
            scores.append(score)
            members.append(member)
            self._last_scores[index:] = scores[-1:]
            self._last_members[index:] = [member]
        else:
            scores, members = self._scores[index], self._members[index]
            place = _place(scores, members, score, member)
            scores.insert(place, score)
            members.insert(place, member)
        if len(members) > MOST_IN_CHUNK:
            self._split(index)
        elif self._tree is not None:
            self._count(index, 1)

    def remove(self, score: float, member: bytes) -> None:
        """Take out a member that is there, with this score."""
        index = _place(self._last_scores, self._last_members, score, member)
        scores, members = self._scores[index], self._members[index]
        place = _place(scores, members, score, member)
        del scores[place]
        del members[place]
        self._after_removal(index, place)

    def pop_first(self) -> tuple[bytes, float]:
        """Take out the least; there must be one."""
        taken = self._members[0].pop(0), self._scores[0].pop(0)
        self._after_removal(0, 0)
        return taken

    def pop_last(self) -> tuple[bytes, float]:
        """Take out the greatest; there must be one."""
        index = len(self._members) - 1
        taken = self._members[index].pop(), self._scores[index].pop()
        self._after_removal(index, len(self._members[index]))
        return taken

    def _after_removal(self, index: int, place: int) -> None:
        """Put in order what depends on a chunk of which the entry at ``place`` has gone."""
        size = len(self._members[index])
        if size < _MERGE_BELOW and size % _TIDY_EVERY == 0 and not (size and len(self._members) == 1):
            self._tidy(index, index + 1)
            return
        if place == size:
            self._last_scores[index] = self._scores[index][-1]
            self._last_members[index] = self._members[index][-1]
        if self._tree is not None:
            self._count(index, -1)

    def remove_span(self, start: int, stop: int) -> list[bytes]:
        """Take out the ranks from ``start`` up to ``stop``, exclusive; returns who they were."""
        if start >= stop:
            return []
        first, place = self._locate(start)
        index, left = first, stop - start
        removed: list[bytes] = []
        while left > 0:
            members = self._members[index]
            part = members[place : place + left]
            removed += part
            left -= len(part)
            del members[place : place + len(part)]
            del self._scores[index][place : place + len(part)]
            place = 0
            index += 1
        self._tidy(first, index)
        return removed

    def _split(self, index: int) -> None:
        scores, members = self._scores[index], self._members[index]
        half = len(members) // 2
        self._scores[index : index + 1] = [scores[:half], scores[half:]]
        self._members[index : index + 1] = [members[:half], members[half:]]
        self._last_scores.insert(index, scores[half - 1])
        self._last_members.insert(index, members[half - 1])
        self._tree = None

    def _tidy(self, start: int, stop: int) -> None:
        """After removals from the chunks of a span: drop the empty ones, join a small one to its neighbour."""
        for index in range(stop - 1, start - 1, -1):
            if not self._members[index] and len(self._members) > 1:
                del self._scores[index], self._members[index], self._last_scores[index], self._last_members[index]
        start = min(start, len(self._members) - 1)
        for index in range(start, min(start + 2, len(self._members))):
            self._last_scores[index : index + 1] = self._scores[index][-1:]
            self._last_members[index : index + 1] = self._members[index][-1:]
        if len(self._members) > 1 and len(self._members[start]) < _MERGE_BELOW:
            self._merge(start - 1 if start else 0)
        self._tree = None

    def _merge(self, index: int) -> None:
        """Join a chunk and the next if they make no big one."""
        if len(self._members[index]) + len(self._members[index + 1]) > _NEW_CHUNK:
            return
        self._scores[index] += self._scores.pop(index + 1)
        self._members[index] += self._members.pop(index + 1)
        del self._last_scores[index], self._last_members[index]

    # Ranks --------------------------------------------------------------------------------------------------

    def rank(self, score: float, member: bytes) -> int:
        """How many stand before a member with this score, there or not."""
        index = _place(self._last_scores, self._last_members, score, member)
        if index == len(self._last_scores):
            return self._before(index)
        return self._before(index) + _place(self._scores[index], self._members[index], score, member)

    def below_score(self, score: float, *, or_equal: bool) -> int:
        """How many have a lesser score, or an equal one."""
        bisect = bisect_right if or_equal else bisect_left
        index = bisect(self._last_scores, score)
        return self._before(index) + (bisect(self._scores[index], score) if index < len(self._last_scores) else 0)

    def below_member(self, member: bytes, *, or_equal: bool) -> int:
        """The same by the members' bytes, where all have one score."""
        bisect = bisect_right if or_equal else bisect_left
        index = bisect(self._last_members, member)
        return self._before(index) + (bisect(self._members[index], member) if index < len(self._last_members) else 0)

    def has_one_score(self) -> bool:
        """True when all scores are equal, so that the members are in the order of their bytes."""
        return not self._last_scores or self._scores[0][0] == self._last_scores[-1]

    def _before(self, index: int) -> int:
        """How many stand in the chunks before this one."""
        if index == 0:
            return 0
        if index == 1:
            return len(self._members[0])
        tree = self._tree or self._make_tree()
        total = 0
        while index:
            total += tree[index]
            index &= index - 1
        return total

    def _locate(self, rank: int) -> tuple[int, int]:
        """The chunk and the place in it of a rank that is there."""
        if rank < len(self._members[0]):
            return 0, rank
        tree = self._tree or self._make_tree()
        index, step = 0, 1 << (len(tree).bit_length() - 1)
        while step:
            if index + step < len(tree) and tree[index + step] <= rank:
                index += step
                rank -= tree[index]
            step >>= 1
        return index, rank

    def _make_tree(self) -> list[int]:
        tree = self._tree = [0, *map(len, self._members)]
        size = len(tree)
        for index in range(1, size):
            parent = index + (index & -index)
            if parent < size:
                tree[parent] += tree[index]
        return tree

    def _count(self, index: int, change: int) -> None:
        tree = self._tree
        assert tree is not None
        size = len(tree)
        index += 1
        while index < size:
            tree[index] += change
            index += index & -index

    # Walking ------------------------------------------------------------------------------------------------

    def first(self) -> tuple[bytes, float]:
        """The least; there must be one."""
        return self._members[0][0], self._scores[0][0]

    def last(self) -> tuple[bytes, float]:
        """The greatest; there must be one."""
        return self._last_members[-1], self._last_scores[-1]

    def window(self, start: int, stop: int) -> tuple[list[bytes], array[float]]:
        """Members and scores of the ranks from ``start`` up to ``stop``, exclusive; all of them are there."""
        if start >= stop:
            return [], array("d")
        index, place = self._locate(start)
        members = self._members[index][place : place + stop - start]
        scores = self._scores[index][place : place + stop - start]
        while (left := stop - start - len(members)) > 0:
            index += 1
            members += self._members[index][:left]
            scores += self._scores[index][:left]
        return members, scores

    def members(self) -> Iterator[bytes]:
        """Every member from the least on."""
        return chain.from_iterable(self._members)

    def ascending(self) -> Iterator[tuple[bytes, float]]:
        """Every member and its score from the least on."""
        for members, scores in zip(self._members, self._scores, strict=True):
            yield from zip(members, scores, strict=True)

    def descending(self) -> Iterator[tuple[bytes, float]]:
        """Every member and its score from the greatest down."""
        for members, scores in zip(reversed(self._members), reversed(self._scores), strict=True):
            yield from zip(reversed(members), reversed(scores), strict=True)


def _are_ascending(scores: array[float], members: list[bytes]) -> bool:
    if all(map(lt, scores, islice(scores, 1, None))):
        return True
    last_score, last_member = -math.inf, b""
    for score, member in zip(scores, members, strict=True):
        if score < last_score or (score == last_score and member < last_member):
            return False
        last_score, last_member = score, member
    return True


def _place(scores: Sequence[float], members: list[bytes], score: float, member: bytes) -> int:
    """Where (score, member) is, or would be, in two parallel lists."""
    place = bisect_left(scores, score)
    size = len(scores)
    if place == size or scores[place] != score:
        return place
    following = place + 1
    if following == size or scores[following] != score:  # As a rule, scores differ.
        return following if members[place] < member else place
    return bisect_left(members, member, place, bisect_right(scores, score, following))
