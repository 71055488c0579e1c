"""New connections: which are not admitted, and the addresses of those that are.

Source      networking.c (acceptCommonHandler, clientAcceptHandler).
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cluster.node.server import Server

_PROTECTED_MODE: Final = (
    b"DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the "
    b"default user. In this mode connections are only accepted from the loopback interface. If you want to connect "
    b"from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode "
    b"sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the "
    b"same host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. "
    b"Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by "
    b"editing the Redis configuration file, and setting the protected mode option to 'no', and then restarting the "
    b"server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' "
    b"option. 4) Setup a an authentication password for the default user. NOTE: You only need to do one of the above "
    b"things in order for the server to start accepting connections from the outside."
)
_MAX_CLIENTS: Final = b"ERR max number of clients reached"
_MAX_CLIENTS_IN_CLUSTER: Final = b"ERR max number of clients + cluster connections reached"


def refusal_of(server: Server, sock: socket.socket, connected: int) -> bytes | None:
    """Why a new connection is not admitted, or None."""
    bus_links = server.bus.connection_count() if server.bus is not None else 0
    if connected + bus_links >= server.settings.maxclients:
        return _MAX_CLIENTS if server.cluster is None else _MAX_CLIENTS_IN_CLUSTER
    if server.settings.protected_mode and server.acl.default.nopass and sock.family != socket.AF_UNIX:
        try:
            peer = ipaddress.ip_address(sock.getpeername()[0].split("%")[0])
        except (OSError, ValueError):
            return None
        mapped = getattr(peer, "ipv4_mapped", None)
        if not (mapped or peer).is_loopback:
            return _PROTECTED_MODE
    return None


def address_of(sock: socket.socket, unix_path: str, *, peer: bool) -> str:
    """``ip:port`` or ``[ip6]:port``; ``path:0`` for a Unix socket."""
    if sock.family == socket.AF_UNIX:
        return f"{unix_path}:0"
    try:
        name = sock.getpeername() if peer else sock.getsockname()
    except OSError:
        return "?:0"
    host = name[0]
    return f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}"
