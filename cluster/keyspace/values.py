"""What commands may ask of any value, whatever its type: its type's name, its encoding, a copy.

A value class (lists, hashes …) subclasses :class:`CollectionValue`; strings are the plain types of keyspace.strings.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from cluster.keyspace import strings

SHARED_INTEGERS = 10_000  # OBJ_SHARED_INTEGERS
SHARED_REFERENCES = 2**31 - 1  # OBJ_SHARED_REFCOUNT


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
        """How many elements there are."""

    def free_effort(self) -> int:
        """How many pieces Redis would have to free: one for what is compact."""
        return 1 if self.encoding() in (b"listpack", b"intset") else len(self)


def type_name(value: Any) -> bytes:
    """TYPE of a stored value."""
    return value.type_name if isinstance(value, CollectionValue) else b"string"


def encoding(value: Any) -> bytes:
    """OBJECT ENCODING of a stored value."""
    return value.encoding() if isinstance(value, CollectionValue) else strings.encoding(value)


def reference_count(value: Any, *, shares_integers: bool = True) -> int:
    """OBJECT REFCOUNT of a stored value: that of Redis, whose small integers are shared by all and never counted.

    ``shares_integers``: unless maxmemory goes by access times, which a shared object could not have.
    """
    if shares_integers and strings.is_string(value) and encoding(value) == b"int" and 0 <= int(value) < SHARED_INTEGERS:
        return SHARED_REFERENCES
    return 1


def memory_bytes(value: Any, samples: int) -> int:
    """What a stored value needs; of a collection, ``samples`` elements are looked at (0: all)."""
    if strings.is_string(value):
        return sys.getsizeof(value)
    size: int = value.memory_bytes(samples)
    return size


def effort(value: Any) -> int:
    """How many pieces there would be to free in Redis (lazyfreeGetFreeEffort)."""
    return value.free_effort() if isinstance(value, CollectionValue) else 1


def copy(value: Any) -> Any:
    """A copy for COPY: immutable values are shared."""
    if isinstance(value, CollectionValue):
        return value.copy()
    return bytearray(value) if isinstance(value, bytearray) else value
