"""How many bytes are allocated: the sum that C's and Python's allocators keep of what is in use.

Role        ``used_memory``. The resident set cannot serve: it is coarse, and does not shrink when keys are deleted.
            What is asked instead is exact: Python's allocator of small objects (up to 512 bytes) counts its blocks by
            size class, glibc's ``mallinfo2`` the larger ones and those that are mapped by themselves. Freed blocks that
            somebody keeps at hand, which passes for use, are subtracted: Python tells how many lists, dicts, tuples and
            floats it keeps so (up to 2,000 tuples of each size), and glibc's counts are looked up where they are found.
How         ``_PyObject_DebugMallocStats`` is part of CPython's exported API; it writes the table that
            sys._debugmallocstats shows to a C stream, here an area of our own memory; ``_PyObject_DebugTypeStats`` the
            one of what is kept. No descriptor is involved.
Costs       CPU per question: 40 µs for an idle node, 115 µs with a million strings, since it goes by pools of 16 kB and
            not by objects; milliseconds where glibc has several 100,000 free chunks, which are linked lists to it.
            :class:`Allocator` tells what the last answer cost, so that the caller can ask less often.
Otherwise   Where the interpreter or the C library is another one, the resident set has to do.      Units  bytes, µs.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
from operator import mul
from struct import Struct
from typing import Final

from cluster.clock import monotonic_us

_PAGE_BYTES: Final = os.sysconf("SC_PAGESIZE")
_TABLE_BYTES: Final = 1 << 14
_CHUNK_HEADER_BYTES: Final = 16
_CACHED_SIZES: Final = tuple(range(24, 1033, 16))
_CACHED_CHUNKS: Final = tuple(size + 8 for size in _CACHED_SIZES)
_CACHED_BLOCKS: Final = 7
_CHECKED: Final = 32
_STRAYS: Final = 10
"""The sizes from this one on are tried out; Python takes and frees a few of them for itself meanwhile."""
_CACHED_COUNTS: Final = Struct(f"{len(_CACHED_SIZES)}H")
"""Of so many sizes that many freed blocks at most are kept for the thread that freed them (glibc 2.30 to 2.41)."""
_IN_USE: Final = b"# bytes in allocated blocks"
_ARENAS: Final = b"Total  "
_KEPT: Final = rb"(\d+) free (?:\d+-sized )?Py([A-Z][a-z]+)Objects \* (\d+) "
_COLLECTOR_HEADER_BYTES: Final = 16
"""Before every container; what is told of its size is without."""
_ROUNDED_TO: Final = 16


def resident_bytes() -> int:
    """Resident set size now; the peak where the platform tells no more."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


class _MallocInfo(ctypes.Structure):
    """``struct mallinfo2``; see mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


class _ThreadCache:
    """The small freed blocks that glibc keeps for the thread that freed them (tcache): to mallinfo they are in use.

    Their counts by size stand at the beginning of the heap, in its first block. Where they do not behave like counts
    when blocks are taken and freed, that is something else, and nothing is known. They are looked at when blocks are
    taken for the second time: the first may find glibc out of kept blocks, upon which it puts some more by, if other
    free ones of the size are about.
    """

    def __init__(self, libc: ctypes.CDLL) -> None:
        self._address = _heap_start() + _CHUNK_HEADER_BYTES
        allocate, free = libc.malloc, libc.free
        allocate.restype = ctypes.c_void_p
        allocate.argtypes = [ctypes.c_size_t]
        free.argtypes = [ctypes.c_void_p]
        for _attempt in range(2):
            blocks = [allocate(size) for size in _CACHED_SIZES[_CHECKED:] for _ in range(_CACHED_BLOCKS)]
            taken = self._counts()
            for block in blocks:
                free(block)
        if sum(taken[_CHECKED:]) > _STRAYS or sum(self._counts()[_CHECKED:]) < len(blocks) - _STRAYS:
            raise ValueError("the heap does not begin with the counts of cached blocks")

    def _counts(self) -> tuple[int, ...]:
        return _CACHED_COUNTS.unpack(ctypes.string_at(self._address, _CACHED_COUNTS.size))

    def bytes(self) -> int:
        """What those blocks take."""
        return sum(map(mul, self._counts(), _CACHED_CHUNKS))


def _heap_start() -> int:
    """Where glibc's main heap begins. Raises ValueError where there is none."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if line.endswith("[heap]\n"):
                return int(line.partition("-")[0], 16)
    raise ValueError("there is no heap")


def _open_cache(libc: ctypes.CDLL) -> _ThreadCache | None:
    try:
        return _ThreadCache(libc)
    except (OSError, ValueError):
        return None


def _figure(tables: bytes, title: bytes) -> int:
    """The number behind ``title =``. Raises ValueError where there is none."""
    start = tables.index(b"=", tables.index(title)) + 1
    return int(tables[start : tables.index(b"\n", start)].replace(b",", b""))


class Allocator:
    """What this process has allocated."""

    def __init__(self) -> None:
        self.cost_us = 0
        """What an answer takes."""
        self.reserved_bytes = 0
        """What the allocators held at the last answer, in use or not."""
        self._is_exact = self._open()

    def _open(self) -> bool:
        """Find the functions; False where something is missing."""
        try:
            libc = ctypes.CDLL(None)
            self._mallinfo = libc.mallinfo2
            self._mallinfo.restype = _MallocInfo
            self._write_table = ctypes.pythonapi._PyObject_DebugMallocStats
            self._write_kept = ctypes.pythonapi._PyObject_DebugTypeStats
            self._write_table.argtypes = self._write_kept.argtypes = [ctypes.c_void_p]
            self._rewind, self._flush, self._trim = libc.rewind, libc.fflush, libc.malloc_trim
            self._rewind.argtypes = self._flush.argtypes = [ctypes.c_void_p]
            self._trim.argtypes = [ctypes.c_size_t]
            open_memory = libc.fmemopen
            open_memory.restype = ctypes.c_void_p
            open_memory.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
            self._find_kept = re.compile(_KEPT).findall
            self._table = ctypes.create_string_buffer(_TABLE_BYTES)
            self._stream = open_memory(self._table, _TABLE_BYTES, b"w")
            self._cache = _open_cache(libc)
            return bool(self._stream) and _figure(self._read_tables(), _IN_USE) > 0
        except (AttributeError, OSError, ValueError):
            return False

    @property
    def is_exact(self) -> bool:
        """False where the resident set stands in."""
        return self._is_exact

    def used_bytes(self) -> int:
        """What is in use now."""
        if not self._is_exact:
            self.reserved_bytes = resident_bytes()
            return self.reserved_bytes
        began_us = monotonic_us()
        tables = self._read_tables()
        small = _figure(tables, _IN_USE) - self._kept_bytes(tables)
        large = self._mallinfo()
        self.reserved_bytes = _figure(tables, _ARENAS) + large.arena + large.hblkhd
        elapsed_us = monotonic_us() - began_us
        # One that was interrupted says little about the next.
        self.cost_us = min(elapsed_us, 2 * self.cost_us) if self.cost_us else elapsed_us
        used: int = small + large.uordblks + large.hblkhd
        return used if self._cache is None else used - self._cache.bytes()

    def _read_tables(self) -> bytes:
        self._rewind(self._stream)
        self._write_table(self._stream)
        self._write_kept(self._stream)
        self._flush(self._stream)
        return self._table.value

    def _kept_bytes(self, tables: bytes) -> int:
        """The freed objects that Python keeps, by type."""
        kept = 0
        for count, kind, size in self._find_kept(tables, tables.rindex(_ARENAS)):
            if count != b"0":
                header = 0 if kind == b"Float" else _COLLECTOR_HEADER_BYTES
                kept += int(count) * (int(size) + header + _ROUNDED_TO - 1 & -_ROUNDED_TO)
        return kept

    def trim(self) -> None:
        """Give what C's allocator holds without need back to the system (MEMORY PURGE)."""
        if self._is_exact:
            self._trim(0)
