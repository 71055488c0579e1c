"""Commands about the server itself: INFO, CONFIG, TIME, MONITOR, SHUTDOWN, SLOWLOG (server.c, config.c, slowlog.c)."""

from __future__ import annotations

from cluster import clock, errors
from cluster.commands.arguments import parse_bounded
from cluster.commands.context import Parked, Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.resp.encode import OK, array, bulk, bulk_array, integer


@command("info")
def info(client: Session, argv: list[bytes]) -> bytes:
    return client.proto.verbatim(client.server.info({word.lower() for word in argv[1:]}))


@command("time")
def time(client: Session, argv: list[bytes]) -> bytes:
    seconds, micros = divmod(clock.unix_us(), 1_000_000)
    return array([bulk(b"%d" % seconds), bulk(b"%d" % micros)])


@command("config|get")
def config_get(client: Session, argv: list[bytes]) -> bytes:
    pairs = client.server.config.get(argv[2:])
    return client.proto.map([bulk(word) for pair in pairs for word in pair])


@command("config|set")
def config_set(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) % 2:
        raise CommandError(errors.SYNTAX)
    server = client.server
    client.redact(argv, *(index + 1 for index in range(2, len(argv), 2) if server.config.is_sensitive(argv[index])))
    pairs = list(zip(argv[2::2], argv[3::2], strict=True))
    loading = server.saving.progress is not None  # Also one that goes on beside the data set being served.
    server.config.set(pairs, is_local_client=server.is_local(client), loading=loading)
    server.refresh_plain()
    return OK


@command("config|rewrite")
def config_rewrite(client: Session, argv: list[bytes]) -> bytes:
    client.server.config.rewrite()
    return OK


@command("config|resetstat")
def config_resetstat(client: Session, argv: list[bytes]) -> bytes:
    client.server.reset_statistics()
    return OK


@command("config|help")
def config_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"CONFIG",
        [
            b"GET <pattern>",
            b"    Return parameters matching the glob-like <pattern> and their values.",
            b"SET <directive> <value>",
            b"    Set the configuration <directive> to <value>.",
            b"RESETSTAT",
            b"    Reset statistics reported by the INFO command.",
            b"REWRITE",
            b"    Rewrite the configuration file.",
        ],
    )


@command("monitor")
def monitor(client: Session, argv: list[bytes]) -> bytes | None:
    if client.in_exec:
        raise CommandError(b"ERR MONITOR isn't allowed for DENY BLOCKING client")
    if client.is_monitor:
        return None
    client.server.monitors.add(client)
    return OK


# SHUTDOWN -------------------------------------------------------------------------------------------------------


@command("shutdown")
def shutdown(client: Session, argv: list[bytes]) -> bytes | None:
    """SHUTDOWN [NOSAVE|SAVE] [NOW] [FORCE] [ABORT]: answers only when it fails or has to wait and is aborted."""
    words = [word.lower() for word in argv[1:]]
    if not set(words) <= {b"save", b"nosave", b"now", b"force", b"abort"} or {b"save", b"nosave"} <= set(words):
        raise CommandError(errors.SYNTAX)
    stopping = client.server.stopping
    if b"abort" in words:
        if set(words) != {b"abort"}:
            raise CommandError(errors.SYNTAX)
        if not stopping.abort():
            raise CommandError(b"ERR No shutdown in progress.")
        return OK
    if client.in_exec and b"now" not in words:
        raise CommandError(b"ERR SHUTDOWN without NOW or ABORT isn't allowed for DENY BLOCKING client")
    save = True if b"save" in words else False if b"nosave" in words else None
    if save is not False and client.server.scripting.is_busy:
        raise CommandError(client.server.scripting.busy_text())
    if not stopping.begin_for(client, save=save, now=b"now" in words, force=b"force" in words):
        client.server.park(client, Parked("shutdown", None, lambda: None, lambda: stopping.forget(client)))
    return None


# SLOWLOG --------------------------------------------------------------------------------------------------------


@command("slowlog|get")
def slowlog_get(client: Session, argv: list[bytes]) -> bytes:
    count = 10
    if len(argv) > 3:
        raise CommandError(
            b"ERR unknown subcommand or wrong number of arguments for '%b'. Try SLOWLOG HELP." % argv[1][:128]
        )
    if len(argv) > 2:
        count = parse_bounded(argv[2], -1, 2**63 - 1, b"ERR count should be greater than or equal to -1")
    entries = client.server.slow_log.entries
    chosen = list(entries)[: len(entries) if count == -1 else count]
    return array(
        [
            array(
                [
                    integer(entry.entry_id),
                    integer(entry.unix_seconds),
                    integer(entry.duration_us),
                    bulk_array(entry.argv),
                    bulk(entry.address.encode()),
                    bulk(entry.client_name),
                ]
            )
            for entry in chosen
        ]
    )


@command("slowlog|len")
def slowlog_len(client: Session, argv: list[bytes]) -> bytes:
    return integer(len(client.server.slow_log.entries))


@command("slowlog|reset")
def slowlog_reset(client: Session, argv: list[bytes]) -> bytes:
    client.server.slow_log.entries.clear()
    return OK


@command("slowlog|help")
def slowlog_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"SLOWLOG",
        [
            b"GET [<count>]",
            b"    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
            b"    Entries are made of:",
            b"    id, timestamp, time in microseconds, arguments array, client IP and port,",
            b"    client name",
            b"LEN",
            b"    Return the length of the slowlog.",
            b"RESET",
            b"    Reset the slowlog.",
        ],
    )
