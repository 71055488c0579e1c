"""Whether a script may run here and now, by what it declares (scriptPrepareForRun, scriptFlagsToCmdFlags in script.c).

Role        The gates of the dispatcher ask :func:`gates_for` what a script is to them; :func:`check_declared` is asked
            before it runs. A script without ``#!`` declares nothing: it is checked when it writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from cluster import errors
from cluster.commands.context import Session
from cluster.commands.registry import Flag
from cluster.errors import CommandError
from cluster.scripting.flags import ScriptFlag

if TYPE_CHECKING:
    from cluster.node.server import Server


@attrs.frozen(eq=False)
class Gates:
    """A script as the gates see it."""

    flags: Flag
    is_write: bool
    may_replicate: bool


def gates_for(flags: Flag, declared: int) -> Gates:
    """What a script that declares so much is to the gates, when it is run by a command with these flags."""
    if not declared & ScriptFlag.COMPATIBLE:
        flags &= ~(Flag.STALE | Flag.DENYOOM | Flag.WRITE | Flag.MAY_REPLICATE)
        if not declared & (ScriptFlag.ALLOW_OOM | ScriptFlag.NO_WRITES):
            flags |= Flag.DENYOOM
        if not declared & ScriptFlag.NO_WRITES:
            flags |= Flag.WRITE
        if declared & ScriptFlag.ALLOW_STALE:
            flags |= Flag.STALE
    return Gates(flags, bool(flags & Flag.WRITE), bool(flags & (Flag.WRITE | Flag.MAY_REPLICATE)))


def is_stale(server: Server) -> bool:
    """Whether this is a replica that has no link to its master, and is told not to answer then."""
    return not server.replication_state.serves_fresh_data and not server.settings.replica_serve_stale_data


def check_declared(server: Server, client: Session, flags: int, *, is_read_only: bool) -> None:
    """Raises CommandError for what may not run."""
    obeys = client.is_master_link
    if flags & ScriptFlag.NO_CLUSTER and server.cluster is not None:
        raise CommandError(b"ERR Can not run script on cluster, 'no-cluster' flag is set.")
    if is_stale(server) and not flags & ScriptFlag.ALLOW_STALE:
        raise CommandError(
            b"MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag "
            b"is not set on the script."
        )
    if not flags & ScriptFlag.NO_WRITES:
        if server.replication_state.is_replica and server.settings.replica_read_only and not obeys:
            raise CommandError(b"READONLY Can not run script with write flag on readonly replica")
        problem = server.disk_error()
        if problem is not None and not obeys:
            raise CommandError(_disk_refusal(problem))
        if is_read_only:
            raise CommandError(b"ERR Can not execute a script with write flag using *_ro command.")
        if not server.replication_state.is_replica and not server.has_enough_good_replicas():
            raise CommandError(errors.NOREPLICAS)
    if (
        server.settings.maxmemory
        and server.is_out_of_memory
        and not flags & (ScriptFlag.ALLOW_OOM | ScriptFlag.NO_WRITES)
    ):
        raise CommandError(
            b"OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'"
        )


def _disk_refusal(problem: bytes) -> bytes:
    if problem == errors.MISCONF:
        return (
            b"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. "
            b"Writable scripts are blocked. Use 'no-writes' flag for read only scripts."
        )
    return (
        b"MISCONF Redis is configured to persist data to AOF, but it's currently unable to persist to disk. "
        b"Writable scripts are blocked. Use 'no-writes' flag for read only scripts. AOF error: "
        + problem.rpartition(b": ")[2]
    )
