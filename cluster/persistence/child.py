"""Child processes that write the data set as it was at the moment of the fork.

Role        :func:`fork_child` forks the server; the child runs one function and exits. :class:`ChildProcess` is the
            parent's record of it. Snapshots to disk and to replicas, and AOF rewrites, are such functions.
Invariants  The child never returns into the caller's frames, never runs a handler, an atexit function or a destructor
            of the parent's objects, and closes every descriptor that it was not given: a child that outlives the
            server holds no port, no lock and no client. It does not collect garbage. It logs through the parent.
            Nothing here knows of an event loop: the parent may wait for ``report_fd`` (readable, at the end EOF) or
            poll.
Exit        0 success, 1 failure; SIGUSR1 ends it without counting as a failure.
Memory      Reading an object in Python writes to its reference count, so a child that walks all keys ends up with
            copies of most pages that hold keys and values; the COW figures in INFO show how much.
Spec        redisFork in server.c, childinfo.c; log texts are Redis's.      Units  ``*_ms`` monotonic, ``*_us``, bytes.
"""

from __future__ import annotations

import enum
import gc
import os
import select
import signal
import struct
from collections.abc import Callable, Collection
from typing import Final, NoReturn

import attrs

from cluster import clock

REPORT_INTERVAL_MS: Final = 1000
COW_DUTY_CYCLE: Final = 100
"""Measuring copy-on-write memory may take at most one part in so many of the child's time."""

_HEADER = struct.Struct("<BI")
_FIGURES = struct.Struct("<QQ")
_READ_BYTES: Final = 1 << 16
_BLOCKED_DURING_FORK: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD})
# A terminal's Ctrl-C and a service manager's SIGTERM reach parent and child alike; the parent decides what they mean.
_IGNORED_IN_CHILD: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DEFAULT_IN_CHILD: Final = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGALRM)


class ChildKind(enum.Enum):
    """What a child is for. At most one child of the first three kinds runs at a time."""

    RDB_DISK = "rdb"
    RDB_SOCKET = "rdb to replicas"
    AOF = "aof"
    DEBUGGER = "lua debugger"
    """A debugged script; any number of them, beside the one child of the other kinds."""


class _Report(enum.IntEnum):
    PROGRESS = 1
    FINAL = 2
    LOG = 3


@attrs.frozen
class ChildExit:
    """How a child ended."""

    code: int
    signal: int = 0

    @property
    def success(self) -> bool:
        """The child did what it was for."""
        return self.code == 0 and self.signal == 0

    @property
    def was_killed_on_purpose(self) -> bool:
        """We ended it because nobody needed it any more; no error."""
        return self.signal == signal.SIGUSR1


@attrs.define
class ChildProcess:
    """The parent's record of a running child."""

    pid: int
    kind: ChildKind
    started_ms: int
    fork_us: int
    """How long fork() held up the server."""
    report_fd: int
    """Readable when the child reports something, and at its end. Closed, and -1, from the call of :meth:`poll` or
    :meth:`wait` on that tells the end; never before, so that whoever waits for it is not left waiting for nothing."""
    keys_total: int = 0
    keys_processed: int = 0
    cow_bytes: int = 0
    cow_peak_bytes: int = 0
    cow_updated_ms: int = 0
    exit: ChildExit | None = None
    before_close: Callable[[int], object] | None = None
    """Called with ``report_fd`` before it is closed: whoever waits for it must let it go: its number may be that
    of the next child's."""
    data_fd: int = -1
    """RDB_SOCKET: the non-blocking end of the pipe that the snapshot comes through. To be read to its end before
    ``exit`` is acted upon; whoever reads it closes it."""
    _partial: bytes = b""
    _log_lines: list[tuple[str, str]] = attrs.field(factory=list)

    def poll(self) -> ChildExit | None:
        """How the child ended; None while it runs. Never waits."""
        self._read_reports()
        if self.exit is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # Somebody else took the status; we cannot know that it went well.
                self.exit = ChildExit(code=-1)
            else:
                if pid == 0:
                    return None
                self.exit = _exit_of(status)
            self._read_reports()  # What it said between our last look and its end.
            self._close()
        return self.exit

    def wait(self) -> ChildExit:
        """Wait for the end (a shutdown, a test)."""
        while self.exit is None:
            try:
                _pid, status = os.waitpid(self.pid, 0)
                self.exit = _exit_of(status)
            except ChildProcessError:
                self.exit = ChildExit(code=-1)
            self._read_reports()
            self._close()
        return self.exit

    def kill(self, number: int = signal.SIGUSR1) -> None:
        """Ask the child to end; :meth:`poll` will tell."""
        if self.exit is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def log_lines(self) -> list[tuple[str, str]]:
        """What the child wants logged since the last call: (level, text), to be shown with its pid and role C."""
        self._read_reports()
        lines, self._log_lines = self._log_lines, []
        return lines

    def _read_reports(self) -> None:
        while self.report_fd != -1:
            try:
                chunk = os.read(self.report_fd, _READ_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                return
            self._take_reports(chunk)

    def _take_reports(self, chunk: bytes) -> None:
        data = self._partial + chunk
        position = 0
        while len(data) - position >= _HEADER.size:
            code, size = _HEADER.unpack_from(data, position)
            end = position + _HEADER.size + size
            if end > len(data):
                break
            body = data[position + _HEADER.size : end]
            position = end
            if code == _Report.LOG:
                level, _, text = body.decode("utf-8", "backslashreplace").partition(" ")
                self._log_lines.append((level, text))
            else:
                keys, self.cow_bytes = _FIGURES.unpack(body)
                self.cow_peak_bytes = max(self.cow_peak_bytes, self.cow_bytes)
                if code == _Report.PROGRESS:
                    self.keys_processed = keys
                    self.cow_updated_ms = clock.monotonic_ms()
        self._partial = data[position:]

    def _close(self) -> None:
        if self.report_fd != -1:
            if self.before_close is not None:
                self.before_close(self.report_fd)
            os.close(self.report_fd)
            self.report_fd = -1


def _exit_of(status: int) -> ChildExit:
    if os.WIFSIGNALED(status):
        return ChildExit(code=-1, signal=os.WTERMSIG(status))
    return ChildExit(code=os.WEXITSTATUS(status))


def private_dirty_bytes() -> int:
    """Memory that this process alone has, because it or the other side of a fork wrote to it; 0 where unknown."""
    try:
        with open("/proc/self/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Private_Dirty:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0


class ParentGone(Exception):
    """The parent does not listen any more, so it is dead: the child's work is for nobody."""


class ChildReporter:
    """The child's line to its parent."""

    def __init__(self, descriptor: int, label: str) -> None:
        self._descriptor = descriptor
        self._label = label
        """What the CoW log line calls it: "RDB" or "AOF rewrite"."""
        self._next_report_ms = clock.monotonic_ms() + REPORT_INTERVAL_MS
        self._next_cow_us = 0
        self._cow_bytes = 0
        self._peak_bytes = 0
        self._sum_bytes = 0
        self._samples = 0

    def log(self, level: str, text: str) -> None:
        """Have the parent log a line."""
        self._send(_Report.LOG, f"{level} {text}".encode("utf-8", "backslashreplace"))

    def progress(self, keys: int) -> None:
        """Mention how many keys are done; goes out about once per second."""
        now_ms = clock.monotonic_ms()
        if now_ms < self._next_report_ms:
            return
        self._next_report_ms = now_ms + REPORT_INTERVAL_MS
        now_us = clock.monotonic_us()
        if now_us >= self._next_cow_us:
            self._measure("verbose")
            ended_us = clock.monotonic_us()
            self._next_cow_us = ended_us + (ended_us - now_us) * COW_DUTY_CYCLE
        self._send(_Report.PROGRESS, _FIGURES.pack(keys, self._cow_bytes))

    def final(self) -> None:
        """The last report of a successful child."""
        self._measure("notice")
        self._send(_Report.FINAL, _FIGURES.pack(0, self._cow_bytes))

    def _measure(self, level: str) -> None:
        self._cow_bytes = private_dirty_bytes()
        self._peak_bytes = max(self._peak_bytes, self._cow_bytes)
        self._sum_bytes += self._cow_bytes
        self._samples += 1
        average = self._sum_bytes // self._samples
        self.log(
            level,
            f"Fork CoW for {self._label}: current {self._cow_bytes >> 20} MB, "
            f"peak {self._peak_bytes >> 20} MB, average {average >> 20} MB",
        )

    def _send(self, code: _Report, body: bytes) -> None:
        body = body[: select.PIPE_BUF - _HEADER.size]  # So much the pipe takes as a whole or not at all.
        try:
            os.write(self._descriptor, _HEADER.pack(code, len(body)) + body)
        except BlockingIOError:
            pass  # The parent is far behind with reading; it loses a figure, not the snapshot.
        except BrokenPipeError:
            raise ParentGone from None


def fork_child(
    kind: ChildKind,
    work: Callable[[ChildReporter], bool],
    *,
    label: str,
    title: str,
    keep_descriptors: Collection[int] = (),
    keys_total: int = 0,
) -> ChildProcess:
    """Fork; the child runs ``work`` and exits with 0 if that returns True. OSError when it cannot be forked.

    The child keeps standard input, output and error, its line to the parent, and ``keep_descriptors``.
    """
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    started_us = clock.monotonic_us()
    # No signal may run the parent's handlers in the child, or wake the parent's loop through a shared descriptor.
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED_DURING_FORK)
    try:
        pid = os.fork()
        if pid == 0:
            _live_as_child(work, write_end, {write_end, *keep_descriptors}, label, title)
    except OSError:
        os.close(read_end)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
        os.close(write_end)
    return ChildProcess(
        pid=pid,
        kind=kind,
        started_ms=started_us // 1000,
        fork_us=clock.monotonic_us() - started_us,
        report_fd=read_end,
        keys_total=keys_total,
    )


def _live_as_child(
    work: Callable[[ChildReporter], bool], report_fd: int, keep: set[int], label: str, title: str
) -> NoReturn:
    """All of the child's life; never returns."""
    code = 1
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        for number in _IGNORED_IN_CHILD:
            signal.signal(number, signal.SIG_IGN)
        for number in _DEFAULT_IN_CHILD:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _close_others(keep)
        _set_title(title)
        reporter = ChildReporter(report_fd, label)
        try:
            if work(reporter):
                reporter.final()
                code = 0
        except ParentGone:
            pass
        except BaseException as problem:
            reporter.log("warning", f"Child failed: {type(problem).__name__}: {problem}")
    finally:
        os._exit(code)


def _close_others(keep: set[int]) -> None:
    """Close every descriptor from 3 on except those in ``keep``."""
    first = 3
    for descriptor in sorted(keep):
        if descriptor >= first:
            os.closerange(first, descriptor)
            first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def _set_title(title: str) -> None:
    try:
        with open("/proc/self/comm", "w") as file:
            file.write(title[:15])
    except OSError:
        pass  # Only a convenience for `ps`.
