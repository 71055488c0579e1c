"""One line of CLIENT LIST (catClientInfoString in networking.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.node.poller import READ

if TYPE_CHECKING:
    from cluster.node.client import Client

_REPLY_CHUNK_BYTES = 16 * 1024
"""Output above this would, in Redis, have left the static buffer for the reply list (PROTO_REPLY_CHUNK_BYTES)."""


def flags_of(client: Client) -> str:
    """The letters of the ``flags`` field, N for none."""
    letters = "".join(
        letter
        for letter, holds in (
            ("O", client.is_monitor),
            ("S", client.replica is not None and not client.is_monitor),
            ("M", client.is_master_link),
            ("x", client.transaction is not None),
            ("b", client.parked is not None),
            ("d", client.watch_broken),
            ("c", client.close_after_reply),
            ("r", client.readonly),
            ("e", client.no_evict),
            ("T", client.no_touch),
        )
        if holds
    )
    return letters or "N"


def client_type(client: Client) -> str:
    """The class of a client for CLIENT LIST TYPE, CLIENT KILL TYPE and the output limits."""
    if client.is_master_link:
        return "master"
    if client.replica is not None:
        return "replica"
    return "normal"


def describe(client: Client, now_ms: int) -> str:
    """The whole line, without its line end."""
    transaction = client.transaction
    output = client.output_bytes()
    static = min(output, _REPLY_CHUNK_BYTES)
    chunks = len(client.unsent)
    queue_bytes = 0 if transaction is None else sum(len(word) for _row, argv in transaction.queue for word in argv)
    buffered = client.parser.buffered_bytes
    return (
        f"id={client.id} addr={client.address} laddr={client.local_address} fd={client.fd}"
        f" name={client.name.decode('latin-1')} age={(now_ms - client.created_ms) // 1000}"
        f" idle={(now_ms - client.last_active_ms) // 1000} flags={flags_of(client)} db={client.db.index}"
        f" sub=0 psub=0 ssub=0 multi={-1 if transaction is None else len(transaction.queue)}"
        f" qbuf={buffered} qbuf-free={client.read_bytes} argv-mem={queue_bytes and 0}"
        f" multi-mem={queue_bytes} rbs={_REPLY_CHUNK_BYTES} rbp={static} obl={static if not chunks else 0}"
        f" oll={chunks} omem={client.unsent_bytes} tot-mem={client.read_bytes + buffered + output + queue_bytes}"
        f" events={'rw' if client.wants_write else 'r' if READ else ''}"
        f" cmd={client.last_command.decode('latin-1')} user={client.user} redir=-1 resp={client.proto.version}"
    )
