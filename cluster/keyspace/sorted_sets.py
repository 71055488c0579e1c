"""Sorted set values: members and their scores.

Role        One class for both of Redis's encodings, "listpack" and "skiplist"; the change is one-way and follows
            zset-max-listpack-*. A member's score is found in a table, its rank and its neighbours in a Ranking.
Invariants  Table and ranking hold the same members and scores. What never had more than SMALL_MEMBERS keeps no
            ranking: its dict is put in order when an order is asked for, and ``_is_ordered`` remembers it. A compact
            set's table is a dict; of the other kind a small one is a dict, a big one a ScanTable. No score is NaN; none
            in a compact set is -0.
Spec        t_zset.c (zsetAdd, zsetConvert, zzlInsertAt), debug.c (xorObjectDigest).      Units  limits in bytes.
"""

from __future__ import annotations

import math
import random
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import ClassVar, Final, final

from cluster.keyspace.digest import EMPTY_DIGEST, mix, xor
from cluster.keyspace.ranking import Ranking
from cluster.keyspace.scan_table import (
    SMALL_MEMBERS,
    Members,
    ScanTable,
    distinct_members,
    random_member,
    random_members,
    scan,
)
from cluster.settings import Settings

_ZSET_TYPE: Final = (3).to_bytes(4, "big")
_INTEGER_LIMIT: Final = float((1 << 63) // 2)
_ENTRY_BYTES: Final = 2 * 9
"""What an entry needs in a ranking: a double and a pointer, with room to grow."""


@final
class RankedTable:
    """Many members of a file on their way to become a sorted set."""

    __slots__ = ("ranking", "scores")

    def __init__(self, pairs: Iterable[tuple[bytes, float]], expected: int) -> None:
        """Fewer than they are where members come repeatedly; ``expected`` as a table wants it."""
        scores = array("d")
        members: list[bytes] = []
        self.scores: ScanTable[float] = ScanTable.packed(_noted(pairs, scores, members), expected)
        distinct = len(self.scores) == len(members)
        self.ranking = Ranking.of_columns(scores, members) if distinct else Ranking()
        self.scores.share_members(self.ranking.own)

    def __len__(self) -> int:
        return len(self.scores)


def _noted(
    pairs: Iterable[tuple[bytes, float]], scores: array[float], members: list[bytes]
) -> Iterator[tuple[bytes, float]]:
    for pair in pairs:
        members.append(pair[0])
        scores.append(pair[1])
        yield pair


@final
class SortedSetValue:
    """A sorted set. Whoever removes its last member removes the key."""

    __slots__ = ("_is_ordered", "_ranking", "is_compact", "scores")

    type_name: ClassVar[bytes] = b"zset"

    def __init__(self) -> None:
        self.scores: Members[float] = {}
        """The score of each member; to be changed by the methods only."""
        self.is_compact = True
        self._ranking: Ranking | None = None
        self._is_ordered = False
        """The table is a dict in ascending order. Without a ranking only."""

    @classmethod
    def of(cls, scores: Mapping[bytes, float] | RankedTable, settings: Settings) -> SortedSetValue:
        """A sorted set with these scores, in the encoding that the settings ask for; it takes a table over."""
        value = cls()
        count = len(scores)
        longest = settings.zset_max_listpack_value
        if isinstance(scores, RankedTable):
            if count > settings.zset_max_listpack_entries or any(len(member) > longest for member in scores.scores):
                value.is_compact = False
                value.scores = scores.scores
                value._ranking = scores.ranking
                return value
            scores = dict(scores.ranking.ascending())
        if count > settings.zset_max_listpack_entries or any(len(member) > longest for member in scores):
            value.is_compact = False
            value.scores = ScanTable(scores.items(), expected=count) if count > SMALL_MEMBERS else dict(scores)
        else:
            value.scores = {member: score + 0.0 for member, score in scores.items()}
        if count > SMALL_MEMBERS:
            # In the order in which they came: a file has them sorted already, and a table keeps them in none.
            value._ranking = Ranking.of(scores.values(), scores)
        return value

    # Members ------------------------------------------------------------------------------------------------

    def score(self, member: bytes) -> float | None:
        """The score of a member, or None when it is not there."""
        scores = self.scores
        if type(scores) is ScanTable:
            return scores.find(member)
        return scores.get(member)

    def insert(self, member: bytes, score: float, settings: Settings) -> None:
        """Add a member that is not there."""
        scores = self.scores
        if self.is_compact:
            too_long = len(member) > settings.zset_max_listpack_value
            if too_long or len(scores) >= settings.zset_max_listpack_entries:
                self.expand()
                scores = self.scores
            else:
                score += 0.0  # A listpack has no -0.
        scores[member] = score
        ranking = self._ranking
        if ranking is not None:
            ranking.add(score, member)
        self._is_ordered = False
        if len(scores) > SMALL_MEMBERS:
            if ranking is None:
                self._ranking = Ranking.of(scores.values(), scores)
            if not self.is_compact and type(scores) is dict:
                self.expand()

    def update(self, member: bytes, current: float, score: float) -> None:
        """Give a member another score than its current one."""
        if self.is_compact:
            score += 0.0
        self.scores[member] = score
        self._is_ordered = False
        ranking = self._ranking
        if ranking is not None:
            ranking.remove(current, member)
            ranking.add(score, member)

    def expand(self) -> None:
        """Give the compact encoding up."""
        self.is_compact = False
        scores = self.scores
        if len(scores) > SMALL_MEMBERS and type(scores) is dict:
            self.scores = ScanTable(scores.items(), expected=2 * len(scores))

    def remove(self, member: bytes) -> bool:
        """Take a member out; False when it is not there."""
        score = self.score(member)
        if score is None:
            return False
        del self.scores[member]
        if self._ranking is not None:
            self._ranking.remove(score, member)
        return True

    def remove_span(self, start: int, stop: int) -> int:
        """Take out the ranks from ``start`` up to ``stop``, exclusive; returns how many there were."""
        removed = self.ranking.remove_span(start, stop)
        scores = self.scores
        if len(removed) > 2 * len(scores) // 3 and type(scores) is ScanTable:
            kept = [(member, score) for member, score in self.ranking.ascending()]
            self.scores = ScanTable(kept, expected=len(kept))
        else:
            for member in removed:
                del scores[member]
        return len(removed)

    def pop(self, *, greatest: bool) -> tuple[bytes, float]:
        """Take out the member with the greatest score, or the least."""
        ranking = self._ranking
        if ranking is None:
            scores = self._in_order()
            member = next(reversed(scores)) if greatest else next(iter(scores))
            return member, scores.pop(member)
        member, score = ranking.pop_last() if greatest else ranking.pop_first()
        del self.scores[member]
        return member, score

    def pop_several(self, count: int, *, greatest: bool) -> list[tuple[bytes, float]]:
        """Take out that many, at most all, from the greatest score down or from the least up."""
        size = len(self.scores)
        start, stop = (size - count, size) if greatest else (0, count)
        taken = list(zip(*self.ranking.window(start, stop), strict=True))
        self.remove_span(start, stop)
        return taken[::-1] if greatest else taken

    @property
    def ranking(self) -> Ranking:
        """The order of the members, to be read only, and until the next change."""
        if self._ranking is not None:
            return self._ranking
        scores = self._in_order()
        return Ranking.of_ascending(scores.values(), list(scores))

    def _in_order(self) -> dict[bytes, float]:
        """The dict of a set without a ranking, put in order."""
        scores = self.scores
        assert type(scores) is dict
        if not self._is_ordered:
            in_order = sorted(zip(scores.values(), scores, strict=True))
            scores = self.scores = {member: score for score, member in in_order}
            self._is_ordered = True
        return scores

    def rank(self, member: bytes) -> int | None:
        """How many stand before a member, or None when it is not there."""
        score = self.score(member)
        if score is None:
            return None
        if self._ranking is None:
            return list(self._in_order()).index(member)
        return self._ranking.rank(score, member)

    def __len__(self) -> int:
        return len(self.scores)

    def __contains__(self, member: bytes) -> bool:
        return member in self.scores

    def __iter__(self) -> Iterator[bytes]:
        """The members from the least score on."""
        return self.ranking.members()

    # Walking and drawing ------------------------------------------------------------------------------------

    def scan(self, cursor: int, count: int) -> tuple[int, list[tuple[bytes, float]]]:
        """A step of ZSCAN: the next cursor, some members and scores."""
        if self.is_compact:
            return 0, list(self.ranking.ascending())
        return scan(self.scores, cursor, count)

    def random_member(self, rng: random.Random) -> bytes:
        """Any member."""
        return random_member(self.scores, rng)

    def random_members(self, count: int, rng: random.Random) -> list[bytes]:
        """``count`` members, any of them repeatedly."""
        return random_members(self.scores, count, rng)

    def distinct_members(self, count: int, rng: random.Random) -> list[bytes]:
        """``count`` different members, or all."""
        return distinct_members(self.scores, count, rng)

    # As any value: see CollectionValue ----------------------------------------------------------------------

    def encoding(self) -> bytes:
        return b"listpack" if self.is_compact else b"skiplist"

    def free_effort(self) -> int:
        return 1 if self.is_compact else len(self)

    def copy(self) -> SortedSetValue:
        other = SortedSetValue()
        other.scores = self.scores.copy()
        other.is_compact = self.is_compact
        other._ranking = None if self._ranking is None else self._ranking.copy()
        other._is_ordered = self._is_ordered
        return other

    def mix_into_digest(self, digest: bytes) -> bytes:
        """Add the sorted set to a digest of the data set."""
        digest = mix(digest, _ZSET_TYPE)
        for member, score in self.scores.items():
            digest = xor(digest, mix(mix(EMPTY_DIGEST, member), b"%.17g" % score))
        return digest

    def memory_bytes(self, samples: int) -> int:
        """What it needs, judged by ``samples`` members (0: all)."""
        scores = self.scores
        table = scores.memory_bytes() if isinstance(scores, ScanTable) else sys.getsizeof(scores)
        looked_at = list(islice(scores.items(), samples or None))
        objects = sum(sys.getsizeof(member) + sys.getsizeof(score) for member, score in looked_at)
        order = 0 if self._ranking is None else _ENTRY_BYTES * len(scores)
        return sys.getsizeof(self) + table + order + objects * len(scores) // max(len(looked_at), 1)


def compact_score_text(score: float) -> bytes:
    """A score as Redis writes it into a listpack: an integer where it is one, else 17 significant digits."""
    if math.isinf(score):
        return b"inf" if score > 0 else b"-inf"
    if abs(score) <= _INTEGER_LIMIT and score.is_integer():
        return b"%d" % int(score)
    return b"%.17g" % score
