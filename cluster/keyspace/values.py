"""What commands may ask of any value, whatever its type: its type's name, its encoding, a copy.

A value class (lists, hashes …) subclasses :class:`CollectionValue`; strings are the plain types of keyspace.strings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from cluster.keyspace import strings


class CollectionValue(ABC):
    """A value that is not a string. Never stored empty: whoever removes the last element removes the key."""

    __slots__ = ()

    type_name: ClassVar[bytes]
    """As TYPE answers: list, set, zset, hash, stream."""

    @abstractmethod
    def encoding(self) -> bytes:
        """As OBJECT ENCODING answers."""

    @abstractmethod
    def copy(self) -> CollectionValue:
        """A copy that shares nothing mutable with this one."""

    @abstractmethod
    def __len__(self) -> int:
        """How many elements there are: what deleting it costs (lazyfree_free_effort)."""


def type_name(value: Any) -> bytes:
    """TYPE of a stored value."""
    return value.type_name if isinstance(value, CollectionValue) else b"string"


def encoding(value: Any) -> bytes:
    """OBJECT ENCODING of a stored value."""
    return value.encoding() if isinstance(value, CollectionValue) else strings.encoding(value)


def copy(value: Any) -> Any:
    """A copy for COPY: immutable values are shared."""
    if isinstance(value, CollectionValue):
        return value.copy()
    return bytearray(value) if isinstance(value, bytearray) else value
