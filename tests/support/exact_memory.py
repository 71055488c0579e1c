"""Where the allocators tell exactly what is in use (cluster/node/allocator.py), for the tests that need that."""

from __future__ import annotations

import platform

import pytest


def glibc_version() -> tuple[int, ...]:
    """(2, 36) for example; empty where the C library is another one."""
    library, version = platform.libc_ver()
    return tuple(map(int, version.split("."))) if library == "glibc" else ()


only_where_it_is_exact = pytest.mark.skipif(
    glibc_version() < (2, 33) or platform.python_implementation() != "CPython",
    reason="only CPython and glibc tell what is in use (mallinfo2): the resident set has to do",
)
