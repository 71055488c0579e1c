"""Intset: the compact form of a small set of integers.

Layout      Two little-endian 32-bit numbers (bytes per member: 2, 4 or 8; how many members), then the members in
            ascending order, signed. Redis: intset.c.
Invariants  :func:`decode` accepts exactly what Redis's deep check accepts, else raises RdbError.
"""

from __future__ import annotations

import itertools
import operator
import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Final

from cluster.errors import DeepDamage, RdbError

_HEADER: Final = struct.Struct("<II")
_FORMATS: Final = {2: "h", 4: "i", 8: "q"}


def decode(data: bytes) -> array[int]:
    """The members in ascending order, as wide as they are stored; never none."""
    if len(data) < _HEADER.size:
        raise RdbError("intset: no header")
    width, count = _HEADER.unpack_from(data)
    form = _FORMATS.get(width)
    if form is None or count == 0 or _HEADER.size + width * count != len(data):
        raise RdbError("intset: header and size disagree")
    members = array(form)
    members.frombytes(memoryview(data)[_HEADER.size :])
    if sys.byteorder == "big":
        members.byteswap()
    if not all(map(operator.lt, members, itertools.islice(members, 1, None))):
        raise DeepDamage("intset: members out of order", data)
    return members


def encode(members: Sequence[int]) -> bytes:
    """An intset of ``members``, which are in ascending order and at least one."""
    low, high = members[0], members[-1]
    width = 8
    if low >= -0x8000 and high <= 0x7FFF:
        width = 2
    elif low >= -0x80000000 and high <= 0x7FFFFFFF:
        width = 4
    return _HEADER.pack(width, len(members)) + struct.pack(f"<{len(members)}{_FORMATS[width]}", *members)


def encode_array(members: array[int]) -> bytes:
    """An intset of an array in ascending order, whose items are 2, 4 or 8 bytes wide."""
    if sys.byteorder == "big":
        members = members[:]
        members.byteswap()
    return _HEADER.pack(members.itemsize, len(members)) + members.tobytes()
