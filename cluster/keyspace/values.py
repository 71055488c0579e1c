"""What commands may ask of any value, whatever its type: its type's name, its encoding, a copy.

A value is a string, in one of the plain types of keyspace.strings, or a :class:`CollectionValue`: a list, hash, set,
sorted set or stream.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Protocol

from cluster.keyspace import strings

SHARED_INTEGERS = 10_000  # OBJ_SHARED_INTEGERS
SHARED_REFERENCES = 2**31 - 1  # OBJ_SHARED_REFCOUNT


class CollectionValue(Protocol):
    """A value that is not a string. Never stored empty: whoever removes the last element removes the key.

    What the value classes have in common, without being their base: some are compiled and some are not.
    """

    type_name: ClassVar[bytes]
    """As TYPE answers: list, set, zset, hash, stream."""

    def encoding(self) -> bytes:
        """As OBJECT ENCODING answers."""
        ...

    def copy(self) -> CollectionValue:
        """A copy that shares nothing mutable with this one."""
        ...

    def __len__(self) -> int:
        """How many elements there are."""
        ...

    def free_effort(self) -> int:
        """How many pieces Redis would have to free: one for what is compact."""
        ...

    def memory_bytes(self, samples: int) -> int:
        """What it needs, judged by ``samples`` elements (0: all)."""
        ...

    def mix_into_digest(self, digest: bytes) -> bytes:
        """Add the value to a digest of the data set."""
        ...


def type_name(value: Any) -> bytes:
    """TYPE of a stored value."""
    if strings.is_string(value):
        return b"string"
    collection: CollectionValue = value
    return collection.type_name


def encoding(value: Any) -> bytes:
    """OBJECT ENCODING of a stored value."""
    if strings.is_string(value):
        return strings.encoding(value)
    collection: CollectionValue = value
    return collection.encoding()


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
    collection: CollectionValue = value
    return collection.memory_bytes(samples)


def effort(value: Any) -> int:
    """How many pieces there would be to free in Redis (lazyfreeGetFreeEffort)."""
    if strings.is_string(value):
        return 1
    collection: CollectionValue = value
    return collection.free_effort()


def copy(value: Any) -> Any:
    """A copy for COPY: immutable values are shared."""
    if strings.is_string(value):
        return bytearray(value) if isinstance(value, bytearray) else value
    collection: CollectionValue = value
    return collection.copy()
