"""One line of CLIENT LIST (catClientInfoString in networking.c).

Fields, their order and their meaning are those of Redis 7.0; lib-name and lib-ver, of 7.2, follow where a client has
told them. Sizes are measured where there is something to measure: what waits in the parser, what was not sent. A client
here has no query buffer and no reply buffer of its own; ``qbuf-free`` and ``rbs`` are the sizes that Redis's would have
by now: they grow with what is sent and asked, and shrink while the client is idle.
Units: bytes, whole seconds.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from cluster.commands.channels import Kind
from cluster.node.client_memory import usage_of

if TYPE_CHECKING:
    from cluster.node.client import Client

_REPLY_CHUNK_BYTES = 16 * 1024
"""Output above this would, in Redis, have left the static buffer for the reply list (PROTO_REPLY_CHUNK_BYTES)."""
_REPLY_CHUNK_BYTES_MIN = 1024
_QUERY_BUFFER_BYTES = 16 * 1024
_BUFFER_KEPT_MS = 2000


def flags_of(client: Client) -> str:
    """The letters of the ``flags`` field, N for none."""
    letters = "".join(
        letter
        for letter, holds in (
            ("O", client.is_monitor),
            ("S", client.replica is not None and not client.is_monitor),
            ("M", client.is_master_link),
            ("P", client.subscriptions is not None),
            ("x", client.transaction is not None or client.executing is not None),
            ("b", client.is_blocked()),
            ("t", client.tracking is not None),
            ("R", client.tracking is not None and client.tracking.is_broken),
            ("B", client.tracking is not None and client.tracking.is_broadcast),
            ("d", client.watch_broken),
            ("c", client.close_after_reply),
            ("u", client.parked is not None and not client.is_blocked()),
            ("U", client.sock.family == socket.AF_UNIX),
            ("r", client.readonly),
            ("e", client.no_evict),
        )
        if holds
    )
    return letters or "N"


def describe(client: Client, now_ms: int) -> str:
    """The whole line, without its line end."""
    redirect_id = -1 if client.tracking is None else client.tracking.redirect_id
    transaction = client.transaction or client.executing
    usage = usage_of(client)
    idle_ms = now_ms - client.last_active_ms
    free_bytes = max(_QUERY_BUFFER_BYTES, client.large_value_bytes) if idle_ms <= _BUFFER_KEPT_MS else 0
    line = (
        f"id={client.id} addr={client.address} laddr={client.local_address} fd={client.fd}"
        f" name={client.name.decode('latin-1')} age={(now_ms - client.created_ms) // 1000}"
        f" idle={idle_ms // 1000} flags={flags_of(client)} db={client.db.index}"
        f"{_subscription_counts(client)} multi={-1 if transaction is None else len(transaction.queue)}"
        f" qbuf={usage.input} qbuf-free={free_bytes} argv-mem={usage.arguments} multi-mem={usage.transaction}"
        f" rbs={_reply_buffer_bytes(client, idle_ms)} rbp={min(usage.ready, _REPLY_CHUNK_BYTES)} obl={usage.ready}"
        f" oll={len(client.unsent) + bool(usage.stream)} omem={client.unsent_bytes + usage.stream}"
        f" tot-mem={usage.total}"
        f" events={'rw' if client.wants_write else 'r'} cmd={client.last_command.decode('latin-1')}"
        f" user={client.user.name.decode('utf-8', 'surrogateescape')} redir={redirect_id} resp={client.proto.version}"
    )
    if client.lib_name or client.lib_version:
        line += f" lib-name={client.lib_name.decode('latin-1')} lib-ver={client.lib_version.decode('latin-1')}"
    return line


def _reply_buffer_bytes(client: Client, idle_ms: int) -> int:
    kept_ms = client.server.reply_buffer_kept_ms
    return _REPLY_CHUNK_BYTES if kept_ms is None or idle_ms <= kept_ms else _REPLY_CHUNK_BYTES_MIN


def _subscription_counts(client: Client) -> str:
    held = client.subscriptions
    counts = [0 if held is None else held.count(kind) for kind in (Kind.CHANNEL, Kind.PATTERN, Kind.SHARD)]
    return " sub={} psub={} ssub={}".format(*counts)
