"""Listening sockets and the options of accepted ones: the same for the bus and for clients. Units: seconds."""

from __future__ import annotations

import socket


def listen_on(host: str, port: int, backlog: int) -> socket.socket:
    """A non-blocking listening socket; ``*`` is every IPv4 address, ``::*`` every IPv6 address. Raises OSError."""
    if host == "*":
        family, address = socket.AF_INET, "0.0.0.0"
    elif host == "::*":
        family, address = socket.AF_INET6, "::"
    else:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        family, address = socket.AddressFamily(info[0]), str(info[4][0])
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
        listener.listen(backlog)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def prepare_connection(sock: socket.socket, *, keepalive_seconds: int) -> None:
    """Make a TCP connection non-blocking, undelayed, and have the kernel probe a silent peer (0: never)."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if keepalive_seconds > 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive_seconds)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(keepalive_seconds // 3, 1))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
