"""CRC64 (Jones), the checksum at the end of RDB files and of DUMP payloads.

Role        Reflected, initial value 0, no final xor; ``b"123456789"`` gives 0xe9c6d914c4b8d9ca. Redis: crc64.c.
Cost        crcmod with its C extension: 0.13 µs for a short payload, 450 MB/s. ``anycrc`` (optional): 14 GB/s, but
            13 ms to import, so only the bulk users (whole files) ask for it, on their first use.
            Importing crcmod and building the function costs 1 ms.
Pitfall     Without a C compiler crcmod installs as pure Python and says nothing (13 MB/s): ``EXTENSION_MISSING``
            tells, and the node mentions it once at start.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Final

import crcmod

Bytes = bytes | bytearray | memoryview
CrcFunction = Callable[[Bytes, int], int]
"""``function(data, crc_so_far) -> crc``; start with 0."""

POLYNOMIAL: Final = 0x1AD93D23594C935A9

# The package replaces its attribute ``crcmod`` by nothing public: only sys.modules knows the submodule.
EXTENSION_MISSING: Final = not getattr(sys.modules.get("crcmod.crcmod"), "_usingExtension", False)
"""True when crcmod runs as pure Python, about 35 times slower."""

_crcmod_crc64: CrcFunction = crcmod.mkCrcFun(POLYNOMIAL, initCrc=0, rev=True, xorOut=0)


@functools.cache
def bulk_crc64() -> CrcFunction:
    """The fastest implementation for whole files: anycrc where it is installed, else crcmod."""
    try:
        import anycrc
    except ImportError:
        return _crcmod_crc64
    model: Any = anycrc.Model("CRC64-REDIS")
    calculate = model.calc

    def crc64_by_anycrc(data: Bytes, crc: int = 0) -> int:
        result: int = calculate(data, crc)
        return result

    return crc64_by_anycrc


def crc64(data: Bytes, crc: int = 0) -> int:
    """The checksum of ``data``, continuing from ``crc``."""
    if EXTENSION_MISSING:
        return bulk_crc64()(data, crc)
    return _crcmod_crc64(data, crc)
