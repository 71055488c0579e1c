"""Small collections as the bytes of the file that they came from, until somebody uses them.

Role        A loaded list, hash, set or sorted set of a few elements costs an object for each of them, ten to fifty
            times its bytes in the file, and most of what is loaded waits long for its first use. A PackedValue stands
            in the keyspace in its place: checked when it was read, so that it is known to be sound, and turned into
            the value itself when a command asks for it (:meth:`Database.read`, :meth:`Database.peek`). A snapshot
            writes its bytes as they are.
Invariants  Only those two methods hand values to commands; whoever takes them from a database's tables gets packed
            ones, too, and treats them by way of :mod:`keyspace.values` or unpacks them. A packed value never changes.
Layout      A byte with the type code of the RDB format and the flags below, then the value as an RDB file has it.
            Who knows that format (persistence.packing) says how to unpack.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

CODE_MASK: Final = 0x1F
IS_COMPACT: Final = 0x80
"""The value is in its compact encoding, by the settings with which it was loaded."""
HAS_LONG_TEXTS: Final = 0x40
"""Texts that a snapshot compresses are among its elements."""


class PackedValue(bytes):
    """See the module's docstring. A kind of bytes since any other object would need twice as much; no string."""

    __slots__ = ()

    def unpacked(self) -> Any:
        """The value itself, an object of its own at each call."""
        return _kinds[0].unpack(self)

    # As any value but a string: see CollectionValue ----------------------------------------------------------

    @property
    def type_name(self) -> bytes:
        return _kinds[0].type_name(self)

    def encoding(self) -> bytes:
        return _kinds[0].encoding(self)

    def copy(self) -> PackedValue:
        return self

    def free_effort(self) -> int:
        effort: int = 1 if self[0] & IS_COMPACT else self.unpacked().free_effort()
        return effort

    def memory_bytes(self, samples: int) -> int:
        return sys.getsizeof(self)

    def mix_into_digest(self, digest: bytes) -> bytes:
        mixed: bytes = self.unpacked().mix_into_digest(digest)
        return mixed


class PackedKinds:
    """What there is to know of the bytes of packed values."""

    def __init__(
        self,
        unpack: Callable[[PackedValue], Any],
        type_name: Callable[[PackedValue], bytes],
        encoding: Callable[[PackedValue], bytes],
    ) -> None:
        self.unpack = unpack
        self.type_name = type_name
        self.encoding = encoding


_kinds: list[PackedKinds] = []


def register_kinds(kinds: PackedKinds) -> None:
    """Say how packed values are understood. Before there is any."""
    _kinds[:] = [kinds]
