"""SAVE, BGSAVE, LASTSAVE (rdb.c). What they start and how it ends is cluster.node.saving's."""

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
    raise CommandError(b"ERR BGREWRITEAOF is not possible: this server keeps no append only file yet")


@command("lastsave")
def lastsave(client: Session, argv: list[bytes]) -> bytes:
    return integer(client.server.saving.saver.last_save_unix_s)
