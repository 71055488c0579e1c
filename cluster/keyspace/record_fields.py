"""The fields of a small hash, kept as what records of one kind share and what each has of its own.

Role        Hashes tend to come in great numbers with the same few fields. The names and their places are a Shape that
            all of them share; a hash has only the tuple of its values, a third of what a dict needs.
Invariants  A shape never changes: a further field leads to another shape, remembered as the next one. When
            SHAPES of them are remembered all are forgotten; those in use live on with the hashes that use them.
            A record does not lose fields and has at most MOST_FIELDS: its owner then changes over to a dict.
"""

from __future__ import annotations

import sys
from collections.abc import ItemsView, Iterator, Mapping
from typing import Final, final

MOST_FIELDS: Final = 32
SHAPES: Final = 1024


class Shape:
    """Names and their places, in the order in which they were added."""

    __slots__ = ("following", "places")

    def __init__(self, places: dict[bytes, int]) -> None:
        self.places = places
        self.following: dict[bytes, Shape] = {}
        """By the name that is added to this shape."""


_empty_shape = Shape({})
_extended_shapes: list[Shape] = []
"""The shapes that remember a following one, once for each that they remember."""


def _extended(shape: Shape, name: bytes) -> Shape:
    following = shape.following.get(name)
    if following is None:
        if len(_extended_shapes) >= SHAPES:
            for each in _extended_shapes:
                each.following.clear()
            _extended_shapes.clear()
        following = Shape({**shape.places, name: len(shape.places)})
        shape.following[name] = following
        _extended_shapes.append(shape)
    return following


@final
class RecordFields(Mapping[bytes, bytes]):
    """See the module's docstring."""

    __slots__ = ("_shape", "_texts")

    def __init__(self) -> None:
        self._shape = _empty_shape
        self._texts: tuple[bytes, ...] = ()

    def put(self, name: bytes, text: bytes) -> bool:
        """Set a field; False when there is no place for another."""
        texts = self._texts
        place = self._shape.places.get(name)
        if place is not None:
            self._texts = (*texts[:place], text, *texts[place + 1 :])
            return True
        if len(texts) >= MOST_FIELDS:
            return False
        self._shape = _extended(self._shape, name)
        self._texts = (*texts, text)
        return True

    def __getitem__(self, name: bytes) -> bytes:
        return self._texts[self._shape.places[name]]

    def get(self, name: bytes, default: bytes | None = None) -> bytes | None:  # type: ignore[override]
        """The value of a field, or ``default``."""
        place = self._shape.places.get(name)
        return default if place is None else self._texts[place]

    def __contains__(self, name: object) -> bool:
        return name in self._shape.places

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._shape.places)

    def items(self) -> ItemsView[bytes, bytes]:
        """Names and values in the order in which the names were added."""
        return dict(zip(self._shape.places, self._texts, strict=True)).items()

    def values(self) -> tuple[bytes, ...]:  # type: ignore[override]
        """The values, in the order of the names."""
        return self._texts

    def copy(self) -> RecordFields:
        """A record of its own; what cannot change is shared."""
        other = RecordFields()
        other._shape, other._texts = self._shape, self._texts
        return other

    def memory_bytes(self) -> int:
        """What it needs, without the values; names are others' as well."""
        return sys.getsizeof(self) + sys.getsizeof(self._texts)
