"""Peak memory of servers while they do something, their forked children included.

A server's own growth is VmHWM, reset at the beginning, less VmRSS then. A child shares its pages with the server; what
it costs are those that are its own (Private_Clean and Private_Dirty of smaps_rollup): its buffers, and what either
side has written to since the fork. They are sampled, because a child's figures end with it.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.servers import Server

SAMPLE_SECONDS = 0.05
RESET_PEAK = "5"  # proc(5), clear_refs.


class MemoryWatch:
    """Watches as long as the block lasts; `growth_bytes` is the sum over the servers."""

    def __init__(self, *servers: Server) -> None:
        self._pids = [server.pid for server in servers]
        self._before = 0
        self._children_peak = 0
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample)
        self.growth_bytes = 0

    def __enter__(self) -> Self:
        for pid in self._pids:
            Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK)
        self._before = sum(status_bytes(pid, "VmRSS") for pid in self._pids)
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._sampler.join()
        if kind is None:
            peak = sum(status_bytes(pid, "VmHWM") for pid in self._pids)
            self.growth_bytes = max(peak - self._before, 0) + self._children_peak

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            private = sum(private_bytes(child) for pid in self._pids for child in children(pid))
            self._children_peak = max(self._children_peak, private)


def status_bytes(pid: int, name: str) -> int:
    """A size that /proc tells in kB."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found, f"no {name} of process {pid}"
    return int(found[1]) * 1024


def children(pid: int) -> Iterator[int]:
    """The processes that `pid` has forked."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # The thread has ended.
            yield from map(int, (thread / "children").read_text().split())


def private_bytes(pid: int) -> int:
    """What a process shares with no other; 0 when it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * sum(map(int, re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB$", text, re.MULTILINE)))
