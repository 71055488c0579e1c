"""Listening sockets, and how many descriptors the process may have (listenToPort, adjustOpenFilesLimit in server.c)."""

from __future__ import annotations

import errno
import os
import resource
import socket
from typing import TYPE_CHECKING, Final

from cluster.gossip.sockets import listen_on

if TYPE_CHECKING:
    from cluster.node.logging import Log
    from cluster.settings import Settings

RESERVED_DESCRIPTORS: Final = 32  # CONFIG_MIN_RESERVED_FDS
_ABSENT_PROTOCOL: Final = frozenset(
    {errno.EAFNOSUPPORT, errno.ENOPROTOOPT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EPFNOSUPPORT}
)


def listen_on_tcp(settings: Settings, log: Log) -> list[socket.socket] | None:
    """Listen on every ``bind`` address; None when one cannot be had that must be (it has been logged).

    An address that the machine lacks may be missing if it is marked by ``-``; one of a protocol that it lacks, always.
    """
    sockets: list[socket.socket] = []
    if not settings.port:
        return sockets
    for address in settings.bind:
        host = address.removeprefix("-")
        try:
            sockets.append(listen_on(host, settings.port, settings.tcp_backlog))
        except OSError as failure:
            step = "" if isinstance(failure, socket.gaierror) else "bind: "
            log.warning(
                f"Warning: Could not create server TCP listening socket {host}:{settings.port}: {step}"
                f"{failure.strerror}"
            )
            if failure.errno in _ABSENT_PROTOCOL or (failure.errno == errno.EADDRNOTAVAIL and host != address):
                continue
            for sock in sockets:
                sock.close()
            return None
    if settings.socket_mark_id:
        _mark(sockets, settings.socket_mark_id)
    return sockets


def _mark(sockets: list[socket.socket], mark: int) -> None:
    """Let policy routing know what comes from the listeners and their connections (Linux, with CAP_NET_ADMIN)."""
    for sock in sockets:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        except (AttributeError, OSError):
            return  # Redis does not tell either.


def is_tls_refused(settings: Settings, log: Log) -> bool:
    """Whether TLS is asked for (it has been logged). There is none, and no service is better than one in the clear."""
    asked = [
        name
        for name, is_on in (
            ("tls-port", settings.tls_port),
            ("tls-replication", settings.tls_replication),
            ("tls-cluster", settings.tls_cluster),
        )
        if is_on
    ]
    if asked:
        log.warning(f"This server was built without TLS, which {asked[0]} asks for.")
    return bool(asked)


def listen_everywhere(settings: Settings, log: Log) -> list[socket.socket] | None:
    """All the sockets of a start; None when the node cannot start (it has been logged)."""
    if is_tls_refused(settings, log):
        log.warning("Failed to configure TLS. Check logs for more info.")
        return None
    sockets = listen_on_tcp(settings, log)
    if sockets is None:
        log.warning(f"Failed listening on port {settings.port} (TCP), aborting.")
        return None
    if settings.unixsocket:
        try:
            sockets.append(_listen_on_unix(settings))
        except OSError as failure:
            log.warning(f"Opening Unix socket: bind: {failure.strerror}")
            return None
    if not sockets:
        log.warning("Configured to not listen anywhere, exiting.")
        return None
    return sockets


def _listen_on_unix(settings: Settings) -> socket.socket:
    path = settings.unixsocket
    if os.path.exists(path):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(settings.tcp_backlog)
        if settings.unixsocketperm:
            os.chmod(path, settings.unixsocketperm)
    except OSError:
        sock.close()
        raise
    return sock


def raise_descriptor_limit(settings: Settings, log: Log) -> None:
    """Make room for ``maxclients``; where the system does not allow it, ``maxclients`` shrinks."""
    wanted = settings.maxclients + RESERVED_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    reason = "Operation not permitted"
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted if hard < wanted else hard))
    except (OSError, ValueError, OverflowError) as failure:
        reason = getattr(failure, "strerror", None) or reason
    else:
        log.notice(f"Increased maximum number of open files to {wanted} (it was originally set to {soft}).")
        return
    best = soft if hard == resource.RLIM_INFINITY else hard
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (best, hard))
    except (OSError, ValueError):
        best = soft
    before = settings.maxclients
    settings.maxclients = max(best - RESERVED_DESCRIPTORS, 1)
    log.warning(f"You requested maxclients of {before} requiring at least {wanted} max file descriptors.")
    log.warning(f"Server can't set maximum open files to {wanted} because of OS error: {reason}.")
    log.warning(
        f"Current maximum open files is {best}. maxclients has been reduced to {settings.maxclients} to compensate for "
        "low ulimit. If you need higher maxclients increase 'ulimit -n'."
    )
