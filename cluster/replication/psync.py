"""A master's answer to PSYNC: may this replica go on where it stopped, or does it need everything?

Role        One decision, with the bytes to send and the lines to log. Nothing is changed here.
Invariants  A replica continues only within a history that it shares with us (``replid``, or ``replid2`` up to
            ``second_repl_offset``) and only from a byte that the backlog still holds, or from its very end.
Source      Redis 7.0 replication.c, masterTryPartialResynchronization.                      Units  offsets in bytes.
"""

from __future__ import annotations

import attrs

from cluster.replication.backlog import Backlog
from cluster.replication.host import LogLine
from cluster.replication.state import ReplicationState

FULL_RESYNC_ID = "?"
"""The id of a replica that wants, or can only use, everything."""


@attrs.frozen
class PartialResync:
    """Go on: send ``reply``, then the stream from ``offset``."""

    reply: bytes
    offset: int
    backlog_bytes: int
    log: tuple[LogLine, ...]


@attrs.frozen
class FullResync:
    """A snapshot is needed. The reply has to wait for the moment the snapshot is taken: it names that offset."""

    asked_on_purpose: bool
    """True for ``?``, which is not counted as a failed partial resynchronisation."""
    log: tuple[LogLine, ...]


def decide_psync(
    state: ReplicationState, backlog: Backlog | None, replid: str, offset: int, psync2: bool, replica_name: str
) -> PartialResync | FullResync:
    """Answer ``PSYNC replid offset`` of the replica called ``replica_name``; ``offset`` is the first byte it lacks."""
    asked = replid.lower()
    same_history = asked == state.replid.lower()
    former_history = asked == state.replid2.lower()
    if not same_history and not (former_history and offset <= state.second_repl_offset):
        if replid.startswith(FULL_RESYNC_ID):
            return FullResync(True, _notice(f"Full resync requested by replica {replica_name}"))
        if not former_history:
            return FullResync(
                False,
                _notice(
                    f"Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{replid}', "
                    f"my replication IDs are '{state.replid}' and '{state.replid2}')"
                ),
            )
        return FullResync(
            False,
            _notice(
                f"Partial resynchronization not accepted: Requested offset for second ID was {offset}, "
                f"but I can reply up to {state.second_repl_offset}"
            ),
        )

    if backlog is None or not backlog.can_continue_from(offset):
        log = _notice(
            f"Unable to partial resync with replica {replica_name} for lack of backlog (Replica request was: {offset})."
        )
        if offset > state.master_repl_offset:
            warning = (
                f"Warning: replica {replica_name} tried to PSYNC with an offset that is greater than "
                "the master replication offset."
            )
            log = (*log, LogLine("warning", warning))
        return FullResync(False, log)

    length = backlog.next_offset - offset
    return PartialResync(
        reply=b"+CONTINUE %b\r\n" % state.replid.encode() if psync2 else b"+CONTINUE\r\n",
        offset=offset,
        backlog_bytes=length,
        log=_notice(
            f"Partial resynchronization request from {replica_name} accepted. "
            f"Sending {length} bytes of backlog starting from offset {offset}."
        ),
    )


def full_resync_reply(replid: str, offset: int) -> bytes:
    """What precedes a snapshot taken when the stream stood at ``offset``."""
    return b"+FULLRESYNC %b %d\r\n" % (replid.encode(), offset)


def _notice(text: str) -> tuple[LogLine, ...]:
    return (LogLine("notice", text),)
