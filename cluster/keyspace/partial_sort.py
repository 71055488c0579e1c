"""The first few of a list in order, with equal ones where Redis has them.

Role        Redis sorts no more than it shows, by a quicksort (Bentley and McIlroy's) that leaves out the parts beyond.
            It is not stable: which of several equal elements are among the first, and in which order, follows from its
            choice of pivots. Where there are equal ones, :func:`first_of` makes the same choices.
Source      pqsort.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_INSERTION_BELOW: Final = 7
_NINTHER_ABOVE: Final = 40

_Pairs = list[tuple[float, int]]


def first_of(keys: Sequence[float], wanted: int, *, all_is_partial: bool = False) -> list[int]:
    """The positions of the ``wanted`` least keys in ascending order; at least one is wanted.

    Where all are wanted the order of equal ones is kept, unless they are to be sorted as if some were not.
    """
    pairs = [(key, position) for position, key in enumerate(keys)]
    if (wanted >= len(keys) and not all_is_partial) or len(set(keys)) == len(keys):
        pairs.sort()
    else:
        _sort(pairs, wanted)
    return [position for _key, position in pairs[:wanted]]


def _sort(pairs: _Pairs, wanted: int) -> None:
    """Put the first ``wanted`` pairs in their places."""
    parts = [(0, len(pairs))]
    while parts:
        start, stop = parts.pop()
        if start >= wanted:
            continue
        if stop - start < _INSERTION_BELOW:
            pairs[start:stop] = sorted(pairs[start:stop], key=_key)
            continue
        less, greater = _partition(pairs, start, stop)
        parts += ((start, start + less), (stop - greater, stop))


def _key(pair: tuple[float, int]) -> float:
    return pair[0]


def _partition(pairs: _Pairs, start: int, stop: int) -> tuple[int, int]:
    """Less than a pivot first, greater last, what equals it between; returns how many are less, and greater.

    While it is searched from both ends, what equals the pivot is put aside at the ends, and then brought to the middle.
    """
    pivot_at = _pivot(pairs, start, stop)
    pairs[start], pairs[pivot_at] = pairs[pivot_at], pairs[start]
    pivot = pairs[start][0]
    equal_end = low = start + 1
    equal_begin = high = stop - 1
    while True:
        while low <= high and pairs[low][0] <= pivot:
            if pairs[low][0] == pivot:
                pairs[equal_end], pairs[low] = pairs[low], pairs[equal_end]
                equal_end += 1
            low += 1
        while low <= high and pairs[high][0] >= pivot:
            if pairs[high][0] == pivot:
                pairs[equal_begin], pairs[high] = pairs[high], pairs[equal_begin]
                equal_begin -= 1
            high -= 1
        if low > high:
            break
        pairs[low], pairs[high] = pairs[high], pairs[low]
        low += 1
        high -= 1
    less, greater = low - equal_end, equal_begin - high
    _exchange(pairs, start, low, min(equal_end - start, less))
    _exchange(pairs, low, stop, min(stop - equal_begin - 1, greater))
    return less, greater


def _exchange(pairs: _Pairs, begin: int, end: int, count: int) -> None:
    """Exchange the first and the last ``count`` of a part."""
    first, last = slice(begin, begin + count), slice(end - count, end)
    pairs[first], pairs[last] = pairs[last], pairs[first]


def _pivot(pairs: _Pairs, start: int, stop: int) -> int:
    """Where the pivot is: the middle one, the median of three, or of three such medians."""
    count = stop - start
    middle = start + count // 2
    if count == _INSERTION_BELOW:
        return middle
    left, right = start, stop - 1
    if count > _NINTHER_ABOVE:
        step = count // 8
        left = _median(pairs, left, left + step, left + 2 * step)
        middle = _median(pairs, middle - step, middle, middle + step)
        right = _median(pairs, right - 2 * step, right - step, right)
    return _median(pairs, left, middle, right)


def _median(pairs: _Pairs, a: int, b: int, c: int) -> int:
    """Which of three has the median, by the comparisons that decide among equal ones."""
    key_a, key_b, key_c = pairs[a][0], pairs[b][0], pairs[c][0]
    if key_a < key_b:
        return b if key_b < key_c else (c if key_a < key_c else a)
    return b if key_b > key_c else (a if key_a < key_c else c)
