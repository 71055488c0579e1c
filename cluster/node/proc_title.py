"""The process title: ``proc-title-template`` filled in, and shown by ps.

Source      ``expandProcTitleTemplate`` in server.c, ``sdstemplate`` in sds.c. ``{{`` stands for one brace.
System      ps reads a process's arguments from its own memory, between two addresses that /proc/self/stat tells. The
            title is written there. One that does not fit goes on into the environment, which follows right behind and
            is copied elsewhere first; where the last byte of the arguments is no longer zero, Linux reads on until one.
"""

from __future__ import annotations

import os
import sys

from cluster.settings import Settings

# Counted from 0, see proc(5).
_STAT_ARG_START, _STAT_ARG_END, _STAT_ENV_START, _STAT_ENV_END = 47, 48, 49, 50
_PAGE_BYTES = 4096
"""More than this Linux does not read of a title that is longer than the arguments were."""


def set_title(
    settings: Settings, *, title: str | None = None, config_path: str | None = None, sentinel_mode: bool = False
) -> bool:
    """Show the title in ps; ``title`` is the program's name unless given. False where the system does not allow it."""
    text = expand_title(
        settings.proc_title_template,
        settings,
        title=sys.argv[0] if title is None else title,
        config_path=config_path,
        sentinel_mode=sentinel_mode,
    )
    if not text:
        return False
    try:
        with open("/proc/self/stat", "rb") as file:
            # The name may hold blanks and parentheses; what follows the last one are fields 3 and on.
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[_STAT_ARG_START - 2]), int(fields[_STAT_ARG_END - 2])
        room = end - start
        if room < 2:
            return False
        written = text.encode("utf-8", "surrogateescape")
        if len(written) >= room and int(fields[_STAT_ENV_START - 2]) == end and _move_environment():
            room = min(int(fields[_STAT_ENV_END - 2]) - start, max(room, _PAGE_BYTES))
        memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            return os.pwrite(memory, written[: room - 1].ljust(room, b"\0"), start) == room
        finally:
            os.close(memory)
    except (OSError, IndexError, ValueError):
        return False


def _move_environment() -> bool:
    """Have the C library hold every variable in memory of its own; False where one cannot be moved."""
    try:
        for name, value in os.environb.items():
            os.putenv(name, value)
    except (OSError, ValueError):
        return False
    return True


def expand_title(
    template: str, settings: Settings, *, title: str, config_path: str | None = None, sentinel_mode: bool = False
) -> str | None:
    """The title to show; None when the template has an unclosed brace or names an unknown variable."""
    variables = _variables(settings, title, config_path, sentinel_mode)
    pieces = []
    rest = template
    while rest:
        before, brace, rest = rest.partition("{")
        pieces.append(before)
        if not brace:
            break
        if rest.startswith("{"):
            pieces.append("{")
            rest = rest[1:]
            continue
        name, closing, rest = rest.partition("}")
        if not closing or name not in variables:
            return None
        pieces.append(variables[name])
    return "".join(pieces).strip(" ")


def _variables(settings: Settings, title: str, config_path: str | None, sentinel_mode: bool) -> dict[str, str]:
    if settings.port or settings.tls_port:
        address = settings.bind[0] if settings.bind else "*"
        listen_address = f"{address}:{settings.port or settings.tls_port}"
    else:
        listen_address = f"unixsocket:{settings.unixsocket}"
    mode = "[cluster]" if settings.cluster_enabled else "[sentinel]" if sentinel_mode else ""
    return {
        "title": title,
        "listen-addr": listen_address,
        "server-mode": mode,
        "config-file": config_path or "-",
        "port": str(settings.port),
        "tls-port": str(settings.tls_port),
        "unixsocket": settings.unixsocket,
    }
