"""The effects of one unit of execution as bytes: how replicas and the append only file are told.

Several effects become one transaction, because nobody may see, or keep, half of a unit. SELECT goes in front of it.
Source: server.c (propagatePendingCommands), replication.c (replicationFeedSlaves), aof.c (feedAppendOnlyFile).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import hiredis

NO_DATABASE = -1
"""No database has been selected yet: the next command is preceded by SELECT."""

_MULTI = b"*1\r\n$5\r\nMULTI\r\n"
_EXEC = b"*1\r\n$4\r\nEXEC\r\n"

encode_command: Callable[[tuple[bytes, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]


def encode_select(database: int) -> bytes:
    """SELECT."""
    text = b"%d" % database
    return b"*2\r\n$6\r\nSELECT\r\n$%d\r\n%b\r\n" % (len(text), text)


def encode_requests(requests: Sequence[tuple[int, list[bytes]]], selected_database: int) -> bytes:
    """Several units of one command each, for a reader that is in ``selected_database``; then in the last one's."""
    if requests[0][0] == selected_database and all(database == selected_database for database, _argv in requests):
        return b"".join([encode_command(tuple(argv)) for _database, argv in requests])
    parts = []
    for database, argv in requests:
        if database != selected_database:
            parts.append(encode_select(database))
            selected_database = database
        parts.append(encode_command(tuple(argv)))
    return b"".join(parts)


def encode_unit(commands: Sequence[tuple[int, list[bytes]]], selected_database: int) -> bytes:
    """One unit as (database, command) pairs, for a reader that is in ``selected_database``; then in the last one's."""
    database, argv = commands[0]
    if len(commands) == 1:
        data = encode_command(tuple(argv))
        return data if database == selected_database else encode_select(database) + data
    parts = [_MULTI] if database == selected_database else [encode_select(database), _MULTI]
    selected_database = database
    for database, argv in commands:
        if database != selected_database:
            parts.append(encode_select(database))
            selected_database = database
        parts.append(encode_command(tuple(argv)))
    parts.append(_EXEC)
    return b"".join(parts)
