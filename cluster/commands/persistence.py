"""SAVE, BGSAVE, LASTSAVE (rdb.c), BGREWRITEAOF (aof.c). What they start is for others to end: cluster.node.saving."""

from __future__ import annotations

from cluster import errors
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.resp.encode import OK, integer, simple


@command("save")
def save(client: Session, argv: list[bytes]) -> bytes:
    saving = client.server.saving
    if saving.disk_snapshot_is_running() or saving.stream_snapshot_is_running():
        raise CommandError(b"ERR Background save already in progress")
    saving.saver.saves += 1
    if not saving.save():
        raise CommandError(b"ERR")
    return OK


@command("bgsave")
def bgsave(client: Session, argv: list[bytes]) -> bytes:
    scheduled = len(argv) == 2 and argv[1].lower() == b"schedule"
    if len(argv) > 1 and not scheduled:
        raise CommandError(errors.SYNTAX)
    saving = client.server.saving
    if saving.disk_snapshot_is_running() or saving.stream_snapshot_is_running():
        raise CommandError(b"ERR Background save already in progress")
    if saving.child_is_active() or client.in_exec:
        if not (scheduled or client.in_exec):
            raise CommandError(
                b"ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to "
                b"schedule a BGSAVE whenever possible."
            )
        saving.saver.bgsave_scheduled = True
        return simple(b"Background saving scheduled")
    if not saving.start_background_save():
        raise CommandError(b"ERR")
    return simple(b"Background saving started")


@command("bgrewriteaof")
def bgrewriteaof(client: Session, argv: list[bytes]) -> bytes:
    aof = client.server.aof
    if aof.rewrites.is_running:
        raise CommandError(b"ERR Background append only file rewriting already in progress")
    if client.server.saving.child_is_active() or client.in_exec:
        aof.rewrites.scheduled = True
        aof.rewrites.consecutive_failures = 0  # Who asks for it by hand does not want to wait.
        return simple(b"Background append only file rewriting scheduled")
    if not aof.rewrites.start():
        raise CommandError(
            b"ERR Can't execute an AOF background rewriting. Please check the server logs for more information."
        )
    return simple(b"Background append only file rewriting started")


@command("lastsave")
def lastsave(client: Session, argv: list[bytes]) -> bytes:
    return integer(client.server.saving.saver.last_save_unix_s)
