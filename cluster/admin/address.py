"""Where a node is reached: ``host:port``, with the bus port where it is known.

Role        Reads the addresses that people type and those that CLUSTER NODES prints.
Invariants  An ``Address`` has a host and a port of 1 to 65535.
Source      parseClusterNodeAddress and getClusterHostFromCmdArgs in redis-cli.c.
"""

from __future__ import annotations

import attrs

# A node's bus listens this far above its client port unless cluster-port or cluster-announce-bus-port say otherwise.
BUS_PORT_OFFSET = 10000


@attrs.frozen
class Address:
    """A node's client port. ``str()`` gives it the way Redis writes it: an IPv6 host stands without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_address(text: str) -> Address | None:
    """Read ``host:port`` or ``host:port@busport``; the host may be a name, an IPv4 or an IPv6 address (``[::1]:7000``).

    None when it is not an address. The last colon divides, so that a bare IPv6 address needs no brackets.
    """
    text, _, _bus_port = text.partition("@")
    host, colon, port_text = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    port = parse_port(port_text)
    if not colon or not host or port is None:
        return None
    return Address(host, port)


def parse_port(text: str) -> int | None:
    """A TCP port number in plain decimal digits, or None."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 5:
        return None
    port = int(text)
    return port if 1 <= port <= 65535 else None


def parse_contact(arguments: list[str]) -> Address | None:
    """Read the one node that a command starts from: ``host:port`` or ``host port``."""
    if len(arguments) == 1:
        return parse_address(arguments[0])
    if len(arguments) == 2:
        port = parse_port(arguments[1])
        host = arguments[0].removeprefix("[").removesuffix("]")
        return Address(host, port) if host and port is not None else None
    return None


def resolve_ip(host: str) -> str | None:
    """The first IP address of ``host``, which CLUSTER MEET wants instead of a name; None when it has none."""
    import socket

    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    return str(found[0][4][0]) if found else None
