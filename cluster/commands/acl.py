"""ACL: users and permissions (acl.c). AUTH and HELLO are in connection.py.

Rules, descriptions and checks are cluster.acl's; here are only arguments and replies.
"""

from __future__ import annotations

from typing import Final

from cluster import clock, errors
from cluster.acl.access import DEFAULT_NAME
from cluster.acl.catalog import CATEGORIES
from cluster.acl.checks import Reason
from cluster.acl.describe import describe_channels, describe_commands, describe_keys, user_flags
from cluster.acl.errors import DefinitionError
from cluster.acl.file import user_line
from cluster.acl.log import LogEntry
from cluster.acl.selectors import Selector, has_blanks
from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.resp.encode import OK, array, bulk, bulk_array, integer

_GENERATED_BITS: Final = 256
_GENERATED_BITS_MAX: Final = 4096
_SHOWN_ENTRIES: Final = 10
_REASONS: Final = {Reason.COMMAND: b"command", Reason.KEY: b"key", Reason.CHANNEL: b"channel", Reason.AUTH: b"auth"}


def _refuse_more_than(count: int, argv: list[bytes]) -> None:
    """Some subcommands take less than their arity in the table says."""
    if len(argv) > count:
        raise CommandError(
            b"ERR unknown subcommand or wrong number of arguments for '%b'. Try ACL HELP."
            % errors.quoted(argv[1][:128])
        )


# Users ----------------------------------------------------------------------------------------------------------


@command("acl|setuser")
def setuser(client: Session, argv: list[bytes]) -> bytes:
    client.redact(argv, *range(2, len(argv)))
    if has_blanks(argv[2]):
        raise CommandError(b"ERR Usernames can't contain spaces or null characters")
    try:
        client.server.acl.define(argv[2], argv[3:])
    except DefinitionError as refusal:
        raise CommandError(b"ERR " + refusal.message) from None
    return OK


@command("acl|deluser")
def deluser(client: Session, argv: list[bytes]) -> bytes:
    names = argv[2:]
    if any(errors.quoted(name) == DEFAULT_NAME for name in names):
        raise CommandError(b"ERR The 'default' user cannot be removed")
    return integer(sum(client.server.acl.remove(name) for name in names))


@command("acl|getuser")
def getuser(client: Session, argv: list[bytes]) -> bytes:
    user = client.server.acl.find(argv[2])
    if user is None:
        return client.proto.null
    return client.proto.map(
        [
            *(bulk(b"flags"), client.proto.set([bulk(flag) for flag in user_flags(user)])),
            *(bulk(b"passwords"), bulk_array(user.passwords)),
            *_selector_fields(user.root),
            bulk(b"selectors"),
            array([client.proto.map(_selector_fields(selector)) for selector in user.selectors[1:]]),
        ]
    )


def _selector_fields(selector: Selector) -> list[bytes]:
    return [
        *(bulk(b"commands"), bulk(describe_commands(selector))),
        *(bulk(b"keys"), bulk(describe_keys(selector))),
        *(bulk(b"channels"), bulk(describe_channels(selector))),
    ]


@command("acl|list")
def list_(client: Session, argv: list[bytes]) -> bytes:
    return bulk_array([user_line(user) for user in client.server.acl.users()])


@command("acl|users")
def users(client: Session, argv: list[bytes]) -> bytes:
    return bulk_array([user.name for user in client.server.acl.users()])


@command("acl|whoami")
def whoami(client: Session, argv: list[bytes]) -> bytes:
    return bulk(client.user.name)


@command("acl|load")
def load(client: Session, argv: list[bytes]) -> bytes:
    client.server.access.load()
    return OK


@command("acl|save")
def save(client: Session, argv: list[bytes]) -> bytes:
    client.server.access.save()
    return OK


# What there is to allow, and what is allowed ---------------------------------------------------------------------


@command("acl|cat")
def cat(client: Session, argv: list[bytes]) -> bytes:
    _refuse_more_than(3, argv)
    if len(argv) == 2:
        return bulk_array([name.encode() for name in CATEGORIES])
    category = client.server.acl.catalog.categories.get(errors.quoted(argv[2]).lower())
    if category is None:
        raise CommandError(b"ERR Unknown category '%b'" % errors.quoted(argv[2])[:128])
    return bulk_array(category.names)


@command("acl|dryrun")
def dryrun(client: Session, argv: list[bytes]) -> bytes:
    server = client.server
    user = server.acl.find(argv[2])
    if user is None:
        raise CommandError(b"ERR User '%b' not found" % errors.quoted(argv[2]))
    request = argv[3:]
    row = server.commands.resolve(request)
    if row is None:
        raise CommandError(b"ERR Command '%b' not found" % errors.quoted(request[0]))
    if not row.accepts(len(request)):
        raise errors.wrong_arity(row.name)
    denial = server.acl.check(user, row, request)
    return OK if denial is None else bulk(denial.dry_run_text(request))


@command("acl|genpass")
def genpass(client: Session, argv: list[bytes]) -> bytes:
    from secrets import token_hex

    _refuse_more_than(3, argv)
    bits = parse_integer(argv[2]) if len(argv) == 3 else _GENERATED_BITS
    if not 0 < bits <= _GENERATED_BITS_MAX:
        raise CommandError(
            b"ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to %d"
            % _GENERATED_BITS_MAX
        )
    return bulk(token_hex(_GENERATED_BITS_MAX // 8)[: (bits + 3) // 4].encode())


# The log of refusals --------------------------------------------------------------------------------------------


@command("acl|log")
def log(client: Session, argv: list[bytes]) -> bytes:
    _refuse_more_than(3, argv)
    entries = client.server.acl.log
    if len(argv) == 3 and argv[2].lower() == b"reset":
        entries.clear()
        return OK
    count = max(0, parse_integer(argv[2])) if len(argv) == 3 else _SHOWN_ENTRIES
    now_ms = clock.unix_ms()
    return array([_describe_entry(client, entry, now_ms) for entry in entries.entries[:count]])


def _describe_entry(client: Session, entry: LogEntry, now_ms: int) -> bytes:
    return client.proto.map(
        [
            *(bulk(b"count"), integer(entry.count)),
            *(bulk(b"reason"), bulk(_REASONS[entry.reason])),
            *(bulk(b"context"), bulk(entry.context.encode())),
            *(bulk(b"object"), bulk(entry.subject)),
            *(bulk(b"username"), bulk(entry.user_name)),
            *(bulk(b"age-seconds"), client.proto.double((now_ms - entry.at_ms) / 1000)),
            *(bulk(b"client-info"), bulk(entry.client_info)),
        ]
    )


@command("acl|help")
def help_(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"ACL",
        [
            b"CAT [<category>]",
            b"    List all commands that belong to <category>, or all command categories",
            b"    when no category is specified.",
            b"DELUSER <username> [<username> ...]",
            b"    Delete a list of users.",
            b"DRYRUN <username> <command> [<arg> ...]",
            b"    Returns whether the user can execute the given command without executing the command.",
            b"GETUSER <username>",
            b"    Get the user's details.",
            b"GENPASS [<bits>]",
            b"    Generate a secure 256-bit user password. The optional `bits` argument can",
            b"    be used to specify a different size.",
            b"LIST",
            b"    Show users details in config file format.",
            b"LOAD",
            b"    Reload users from the ACL file.",
            b"LOG [<count> | RESET]",
            b"    Show the ACL log entries.",
            b"SAVE",
            b"    Save the current config to the ACL file.",
            b"SETUSER <username> <attribute> [<attribute> ...]",
            b"    Create or modify a user with the specified attributes.",
            b"USERS",
            b"    List all the registered usernames.",
            b"WHOAMI",
            b"    Return the current connection username.",
        ],
    )
