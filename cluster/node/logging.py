"""The server's log, in Redis's line format: ``pid:role dd Mon yyyy hh:mm:ss.mmm level message``.

Role        Writes one line at a time to ``logfile`` or standard output, and to syslog if asked. Reads ``loglevel`` and
            ``logfile`` from the live settings at every line, so CONFIG SET loglevel works at once.
Format      role: M master, S replica, C child (also: not yet started), X sentinel. level: ``.`` debug, ``-`` verbose,
            ``*`` notice, ``#`` warning. Times are local, as in Redis.
Invariants  The file is opened for each line: a log that was rotated away is simply created anew. Logging never
            raises; a line that cannot be written is lost, as in Redis.
Source      ``serverLogRaw`` and ``redisAsciiArt`` in server.c.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, NoReturn

from cluster import clock
from cluster.node.config_file import REDIS_VERSION, encode
from cluster.settings import Settings

DEBUG, VERBOSE, NOTICE, WARNING = range(4)
_LEVELS: Final = {"debug": DEBUG, "verbose": VERBOSE, "notice": NOTICE, "warning": WARNING}
_LEVEL_MARKS: Final = ".-*#"
_MESSAGE_BYTES_MAX: Final = 1023
_STANDARD_OUTPUT: Final = 1


def _starting() -> str:
    """The role of a process that has not finished starting."""
    return "C"


class Log:
    """Where everything the server has to say goes."""

    __slots__ = ("_now_us", "_second", "_second_text", "_settings", "_syslog", "main_pid", "role")

    def __init__(
        self, settings: Settings, role: Callable[[], str] = _starting, now_us: Callable[[], int] = clock.unix_us
    ) -> None:
        self._settings = settings
        self._now_us = now_us
        self._second = -1
        self._second_text = ""
        self._syslog: Callable[[int, str], None] | None = None
        self.role = role
        """Gives the role letter of this process; replaced once the server knows what it is."""
        self.main_pid: int | None = None
        """Set when the server is up: any other process that logs is one of its children, role C."""

    def debug(self, text: str) -> None:
        """Details for developing and testing."""
        self._line(DEBUG, text)

    def verbose(self, text: str) -> None:
        """Rarely useful information, but not a flood."""
        self._line(VERBOSE, text)

    def notice(self, text: str) -> None:
        """What one wants to read in production."""
        self._line(NOTICE, text)

    def warning(self, text: str) -> None:
        """What must not be missed; also the few lines that appear at every level."""
        self._line(WARNING, text)

    def of_child(self, pid: int, level: str, text: str) -> None:
        """A line that a child process asked for: under its own pid, role C."""
        number = _LEVELS[level]
        if _LEVELS[self._settings.loglevel] <= number:
            mark = _LEVEL_MARKS[number].encode()
            self._write(b"%d:C %b %b %b\n" % (pid, self._time(), mark, encode(text)[:_MESSAGE_BYTES_MAX]))
            self._to_syslog(number, text)

    def from_handler(self, text: str) -> None:
        """A warning of a signal handler, in the form that Redis has for those."""
        unix_s = self._now_us() // 1_000_000
        self._write(b"%d:signal-handler (%d) %b\n" % (os.getpid(), unix_s, encode(text)))

    def level_enabled(self, level: str) -> bool:
        """Whether a line of this level would be written: ask before composing an expensive one."""
        return _LEVELS[self._settings.loglevel] <= _LEVELS[level]

    @property
    def exits_on_panic(self) -> bool:
        """use-exit-on-panic."""
        return self._settings.use_exit_on_panic

    def raw(self, text: str) -> None:
        """Several lines as they are, without prefix, at level notice: the logo, reports."""
        if _LEVELS[self._settings.loglevel] > NOTICE:
            return
        self._write(encode(text))
        self._to_syslog(NOTICE, text)

    def _line(self, level: int, text: str) -> None:
        if _LEVELS[self._settings.loglevel] > level:
            return
        message = encode(text)[:_MESSAGE_BYTES_MAX]
        pid = os.getpid()
        role = "C" if self.main_pid is not None and pid != self.main_pid else self.role()
        self._write(b"%d:%b %b %b %b\n" % (pid, role.encode(), self._time(), _LEVEL_MARKS[level].encode(), message))
        self._to_syslog(level, text)

    def _time(self) -> bytes:
        second, micros = divmod(self._now_us(), 1_000_000)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%d %b %Y %H:%M:%S", time.localtime(second))
        return f"{self._second_text}.{micros // 1000:03d}".encode()

    def _write(self, data: bytes) -> None:
        try:
            if not self._settings.logfile:
                _write_all(_STANDARD_OUTPUT, data)
                return
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(encode(self._settings.logfile), flags, 0o666)
            try:
                _write_all(descriptor, data)
            finally:
                os.close(descriptor)
        except (OSError, ValueError):  # ValueError: a NUL byte in the path.
            pass

    def _to_syslog(self, level: int, text: str) -> None:
        if not self._settings.syslog_enabled:
            return
        if self._syslog is None:
            self._syslog = _open_syslog(self._settings.syslog_ident, self._settings.syslog_facility)
        self._syslog(level, text)


def panic(log: Log, text: str) -> NoReturn:
    """End the process with a core dump (or without, see use-exit-on-panic), saying why: going on would be worse."""
    log.warning("------------------------------------------------")
    log.warning("!!! Software Failure. Press left mouse button to continue")
    log.warning(f"Guru Meditation: {text}")
    log.warning("------------------------------------------------")
    if log.exits_on_panic:
        os._exit(1)
    os.abort()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _open_syslog(ident: str, facility: str) -> Callable[[int, str], None]:
    import syslog

    priorities = (syslog.LOG_DEBUG, syslog.LOG_INFO, syslog.LOG_NOTICE, syslog.LOG_WARNING)
    syslog.openlog(ident, syslog.LOG_PID | syslog.LOG_NDELAY, getattr(syslog, f"LOG_{facility.upper()}"))

    def write(level: int, text: str) -> None:
        # The module wants text that UTF-8 can hold, and no NUL bytes.
        syslog.syslog(priorities[level], text.encode("utf-8", "replace").decode().replace("\0", "?"))

    return write


# --- What is said at the start ----------------------------------------------------------------------------------------


def log_start(log: Log, *, program: str, has_arguments: bool) -> None:
    """The first lines of every start; tools look for them."""
    log.warning("oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo")
    log.warning(f"Redis version={REDIS_VERSION}, bits=64, commit=00000000, modified=0, pid={os.getpid()}, just started")
    if has_arguments:
        log.warning("Configuration loaded")
    else:
        log.warning(
            "Warning: no config file specified, using the default config. "
            f"In order to specify a config file use {program} /path/to/redis.conf"
        )


def log_mode(log: Log, settings: Settings, *, version: str, sentinel_mode: bool = False) -> None:
    """Mode, port and process id: as a picture on a terminal or with ``always-show-logo``, else in one line."""
    mode = "cluster" if settings.cluster_enabled else "sentinel" if sentinel_mode else "standalone"
    port = settings.port or settings.tls_port
    on_terminal = not settings.syslog_enabled and not settings.logfile and os.isatty(_STANDARD_OUTPUT)
    if on_terminal or settings.always_show_logo:
        log.raw(logo(mode=mode, port=port, pid=os.getpid(), version=version))
    else:
        log.notice(f"Running mode={mode}, port={port}.")


_OVERCOMMIT: Final = (
    "WARNING Memory overcommit must be enabled! Without it, a background save or replication may fail under low memory "
    "condition. To fix this issue add 'vm.overcommit_memory = 1' to /etc/sysctl.conf and then reboot or run the "
    "command 'sysctl vm.overcommit_memory=1' for this to take effect."
)
_HUGE_PAGES: Final = (
    "WARNING You have Transparent Huge Pages (THP) support enabled in your kernel. This will create latency and memory "
    "usage issues with Redis. To fix this issue run the command 'echo madvise > "
    "/sys/kernel/mm/transparent_hugepage/enabled' as root, and add it to your /etc/rc.local in order to retain the "
    "setting after a reboot. Redis must be restarted after THP is disabled (set to 'madvise' or 'never')."
)

_PR_SET_THP_DISABLE: Final = 41


def log_environment(log: Log, *, without_huge_pages: bool) -> None:
    """That the server is there, and what in the kernel's settings makes forked children dear or impossible.

    ``without_huge_pages``: keep them away from this process, rather than warn of them, where the kernel can.
    """
    log.warning("Server initialized")
    if _kernel_says("/proc/sys/vm/overcommit_memory") in ("0", "2"):
        log.warning(_OVERCOMMIT)
    if "[always]" in _kernel_says("/sys/kernel/mm/transparent_hugepage/enabled") and not (
        without_huge_pages and _disable_huge_pages()
    ):
        log.warning(_HUGE_PAGES)


def _disable_huge_pages() -> bool:
    """Whether this process, and its children, go without transparent huge pages from now on; see prctl(2)."""
    import ctypes

    try:
        return bool(ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _kernel_says(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


# The braces are hash tags.
_LOGO = """\

     #====#====#====#====#
     | {{}} | {{}} | {{}} | {{}} |      Hashslot {version}, Redis {redis_version} on the wire
     #====#====#====#====#
     | {{}} | {{}} | {{}} | {{}} |      Running in {mode} mode
     #====#====#====#====#      Port: {port}
     | {{}} | {{}} | {{}} | {{}} |      PID: {pid}
     #====#====#====#====#
     | {{}} | {{}} | {{}} | {{}} |      16384 slots, one keyspace
     #====#====#====#====#

"""


def logo(*, mode: str, port: int, pid: int, version: str) -> str:
    """The picture, with the three lines that scripts wait for (`` PID: <pid>`` above all)."""
    return _LOGO.format(mode=mode, port=port, pid=pid, version=version, redis_version=REDIS_VERSION)
