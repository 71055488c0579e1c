"""``server_cpulist`` and its siblings: which processors a process or thread may run on (setcpuaffinity.c).

A list is written as for taskset(1): ``0,2-4,8-15:2``. As in Redis, one that cannot be read, or names no processor of
this machine, has no effect.
"""

from __future__ import annotations

import os


def parse_cpu_list(text: str) -> frozenset[int]:
    """The processors that ``text`` names; none when it cannot be read."""
    cpus: set[int] = set()
    for part in text.split(","):
        span, colon, step = part.partition(":")
        first, dash, last = span.partition("-")
        numbers = [first, last if dash else first, step if colon else "1"]
        if (colon and not dash) or not all(number.isascii() and number.isdigit() for number in numbers):
            return frozenset()
        begin, end, stride = map(_small, numbers)
        if begin > end or stride == 0:
            return frozenset()
        cpus.update(range(begin, end + 1, stride))
    return frozenset(cpus)


def confine(text: str, pid: int = 0) -> None:
    """Let process ``pid``, or the calling thread, run on these processors only; an empty list changes nothing."""
    cpus = parse_cpu_list(text)
    if cpus and hasattr(os, "sched_setaffinity"):
        try:
            os.sched_setaffinity(pid, cpus)
        except OSError:
            pass  # None of them is there, or the process is not there any more.


def _small(digits: str) -> int:
    # The kernel's sets have at most 8192 processors; the text may have any number.
    return int(digits) if len(digits) < 5 else 9999
