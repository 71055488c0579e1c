"""C's single precision, in which redis-cli computes its plans: to give the same slots, round where it rounds.

Invariants  For the results of one addition, subtraction, multiplication or division of two single-precision numbers,
            ``single`` of Python's double is exactly what C computes: a double has more than twice the digits.
"""

from __future__ import annotations

import struct

_FLOAT = struct.Struct("f")


def single(number: float) -> float:
    """``number`` rounded to a C float."""
    rounded: float = _FLOAT.unpack(_FLOAT.pack(number))[0]
    return rounded
