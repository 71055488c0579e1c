"""Commands about the connection itself: PING, HELLO, AUTH, SELECT, RESET, CLIENT … (networking.c, acl.c, db.c).

CLIENT SETINFO and NO-TOUCH are of Redis 7.2; the clients of today send the former on every connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from cluster import REDIS_VERSION, clock, errors
from cluster.acl.access import DEFAULT_NAME
from cluster.acl.checks import Reason
from cluster.acl.users import User
from cluster.commands.arguments import parse_integer
from cluster.commands.context import UNBLOCKABLE, Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.commands.transactions import unwatch_all
from cluster.errors import CommandError
from cluster.keyspace.strings import INT64_MAX
from cluster.resp.encode import (
    EMPTY_ARRAY,
    EMPTY_BULK,
    OK,
    ONE,
    PONG,
    RESP2,
    RESP3,
    ZERO,
    array,
    bulk,
    error,
    integer,
    simple,
)

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_UNBLOCKED = b"UNBLOCKED client unblocked via CLIENT UNBLOCK"
_TYPES = {
    b"normal": "normal",
    b"slave": "replica",
    b"replica": "replica",
    b"pubsub": "pubsub",
    b"master": "master",
}
"""What CLIENT LIST TYPE and CLIENT KILL TYPE call the classes of Session.client_type."""


@command("ping")
def ping(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) > 2:
        raise errors.wrong_arity(b"ping")
    # A plain client has no subscriptions: the hot path does not ask twice.
    if not client.plain and client.server.is_subscriber(client):
        return array([bulk(b"pong"), EMPTY_BULK if len(argv) == 1 else bulk(argv[1])])
    return PONG if len(argv) == 1 else bulk(argv[1])


@command("echo")
def echo(client: Session, argv: list[bytes]) -> bytes:
    return bulk(argv[1])


@command("select")
def select(client: Session, argv: list[bytes]) -> bytes:
    index = parse_integer(argv[1])
    if not _INT32_MIN <= index <= _INT32_MAX:
        raise CommandError(b"ERR value is out of range, value must between %d and %d" % (_INT32_MIN, _INT32_MAX))
    if client.server.cluster is not None and index != 0:
        raise CommandError(b"ERR SELECT is not allowed in cluster mode")
    databases = client.db.keyspace.databases
    if not 0 <= index < len(databases):
        raise CommandError(errors.DB_INDEX_OUT_OF_RANGE)
    client.db = databases[index]
    return OK


@command("quit")
def quit_(client: Session, argv: list[bytes]) -> bytes:
    """Closes also where CLIENT REPLY OFF leaves nothing to send: Redis keeps such a connection, deaf, for ever."""
    client.server.close_session(client, after_reply=True)
    return OK


@command("reset")
def reset(client: Session, argv: list[bytes]) -> bytes:
    """Everything as on a new connection, except what CLIENT NO-EVICT and CLIENT SETINFO said."""
    if client.client_type() in ("master", "replica"):
        raise CommandError(b"ERR can only reset normal client connections")
    server = client.server
    server.monitors.remove(client)
    server.tracking.disable(client)
    server.channels.remove_all(client)
    client.db = server.keyspace.databases[0]
    client.proto = RESP2
    client.transaction = None
    unwatch_all(client)
    client.name = b""
    client.asking = client.readonly = client.no_touch = False
    if client.reply_mode != b"skipping":
        client.reply_mode = b"on"
    client.user = server.acl.default
    server.set_authenticated(client, authenticated=not server.requires_authentication())
    return simple(b"RESET")


# Who is there ---------------------------------------------------------------------------------------------------


def _authenticate(client: Session, argv: list[bytes], name: bytes, password: bytes) -> None:
    """Log the client in. Raises CommandError, and leaves everything as it was, when that is refused."""
    server = client.server
    user = server.acl.authenticate(name, password)
    if user is None:
        server.note_denial(client, Reason.AUTH, argv[0], user_name=name)
        raise CommandError(errors.WRONGPASS)
    client.user = user
    server.set_authenticated(client, authenticated=True)


@command("auth")
def auth(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) > 3:
        raise CommandError(errors.SYNTAX)
    client.redact(argv, *range(1, len(argv)))
    if len(argv) == 3:
        _authenticate(client, argv, argv[1], argv[2])
    elif not client.server.acl.default.nopass:
        _authenticate(client, argv, DEFAULT_NAME, argv[1])
    else:
        raise CommandError(
            b"ERR AUTH <password> called without any password configured for the default user. Are you sure your "
            b"configuration is correct?"
        )
    return OK


@command("hello")
def hello(client: Session, argv: list[bytes]) -> bytes:
    """Options take effect one by one: what comes before a wrong one has happened."""
    proto = client.proto
    if len(argv) > 1:
        version = parse_integer(argv[1], b"ERR Protocol version is not an integer or out of range")
        if version not in (2, 3):
            raise CommandError(b"NOPROTO unsupported protocol version")
        proto = RESP3 if version == 3 else RESP2
    position = 2
    while position < len(argv):
        option, more = argv[position].upper(), len(argv) - position - 1
        if option == b"AUTH" and more >= 2:
            client.redact(argv, position + 1, position + 2)
            _authenticate(client, argv, argv[position + 1], argv[position + 2])
            position += 3
        elif option == b"SETNAME" and more >= 1:
            _set_name(client, argv[position + 1])
            position += 2
        else:
            raise CommandError(b"ERR Syntax error in HELLO option '%b'" % errors.quoted(argv[position]))
    if not client.authenticated:
        raise CommandError(
            b"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> "
            b"<pass> option can be used to authenticate the client and select the RESP protocol version at the same "
            b"time"
        )
    client.proto = proto
    client.refresh_plain()  # What it is subscribed to is in nobody's way in RESP3.
    return proto.map(
        [
            *(bulk(b"server"), bulk(b"redis")),
            *(bulk(b"version"), bulk(REDIS_VERSION.encode())),
            *(bulk(b"proto"), integer(proto.version)),
            *(bulk(b"id"), integer(client.id)),
            *(bulk(b"mode"), bulk(b"standalone" if client.server.cluster is None else b"cluster")),
            *(bulk(b"role"), bulk(b"replica" if client.server.replication_state.is_replica else b"master")),
            *(bulk(b"modules"), EMPTY_ARRAY),
        ]
    )


def _is_attribute(value: bytes) -> bool:
    """CLIENT LIST is cut at spaces: an attribute shown there may hold printable ASCII only."""
    return all(0x21 <= byte <= 0x7E for byte in value)


def _set_name(client: Session, name: bytes) -> None:
    if not _is_attribute(name):
        raise CommandError(b"ERR Client names cannot contain spaces, newlines or special characters.")
    client.name = name


@command("client|id")
def client_id(client: Session, argv: list[bytes]) -> bytes:
    return integer(client.id)


@command("client|setname")
def client_setname(client: Session, argv: list[bytes]) -> bytes:
    _set_name(client, argv[2])
    return OK


@command("client|getname")
def client_getname(client: Session, argv: list[bytes]) -> bytes:
    return client.proto.bulk_or_null(client.name or None)


@command("client|setinfo")
def client_setinfo(client: Session, argv: list[bytes]) -> bytes:
    attribute, value = argv[2], argv[3]
    wanted = attribute.lower()
    if wanted not in (b"lib-name", b"lib-ver"):
        raise CommandError(b"ERR Unrecognized option '%b'" % errors.quoted(attribute))
    if not _is_attribute(value):
        raise CommandError(b"ERR %b cannot contain spaces, newlines or special characters." % attribute)
    if wanted == b"lib-name":
        client.lib_name = value
    else:
        client.lib_version = value
    return OK


# Looking at clients ---------------------------------------------------------------------------------------------


def _client_type(name: bytes) -> str:
    try:
        return _TYPES[name.lower()]
    except KeyError:
        raise CommandError(b"ERR Unknown client type '%b'" % errors.quoted(name)) from None


def _describe_all(client: Session, sessions: Iterable[Session]) -> bytes:
    lines = "".join(client.server.describe_client(session) + "\n" for session in sessions)
    return client.proto.verbatim(lines.encode("utf-8", "surrogateescape"))


@command("client|info")
def client_info(client: Session, argv: list[bytes]) -> bytes:
    return _describe_all(client, [client])


@command("client|list")
def client_list(client: Session, argv: list[bytes]) -> bytes:
    sessions = client.server.sessions
    option = argv[2].lower() if len(argv) > 2 else b""
    if option == b"type" and len(argv) == 4:
        wanted = _client_type(argv[3])
        return _describe_all(client, [each for each in sessions.values() if each.client_type() == wanted])
    if option == b"id" and len(argv) > 3:
        ids = [parse_integer(text, b"ERR Invalid client ID") for text in argv[3:]]
        return _describe_all(client, [sessions[each] for each in ids if each in sessions])
    if len(argv) != 2:
        raise CommandError(errors.SYNTAX)
    return _describe_all(client, sessions.values())


# Ending clients -------------------------------------------------------------------------------------------------


@attrs.define
class _KillFilter:
    """Whom CLIENT KILL means: everybody who passes all that was given."""

    address: str | None = None
    local_address: str | None = None
    client_type: str | None = None
    user: User | None = None
    client_id: int | None = None
    skip_me: bool = True

    def accepts(self, session: Session) -> bool:
        return (
            self.address in (None, session.address)
            and self.local_address in (None, session.local_address)
            and self.client_type in (None, session.client_type())
            and self.client_id in (None, session.id)
            and self.user in (None, session.user)
        )


def _set_skip_me(client: Session, wanted: _KillFilter, value: bytes) -> None:
    if value.lower() not in (b"yes", b"no"):
        raise CommandError(errors.SYNTAX)
    wanted.skip_me = value.lower() == b"yes"


def _set_user(client: Session, wanted: _KillFilter, value: bytes) -> None:
    wanted.user = client.server.acl.find(value)
    if wanted.user is None:
        raise CommandError(b"ERR No such user '%b'" % errors.quoted(value))


def _set_id(client: Session, wanted: _KillFilter, value: bytes) -> None:
    message = b"ERR client-id should be greater than 0"
    wanted.client_id = parse_integer(value, message)
    if wanted.client_id < 1:
        raise CommandError(message)


def _set_type(client: Session, wanted: _KillFilter, value: bytes) -> None:
    wanted.client_type = _client_type(value)


def _set_address(client: Session, wanted: _KillFilter, value: bytes) -> None:
    wanted.address = _address(value)


def _set_local_address(client: Session, wanted: _KillFilter, value: bytes) -> None:
    wanted.local_address = _address(value)


def _address(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


_KILL_OPTIONS: dict[bytes, Callable[[Session, _KillFilter, bytes], None]] = {
    b"id": _set_id,
    b"type": _set_type,
    b"addr": _set_address,
    b"laddr": _set_local_address,
    b"user": _set_user,
    b"skipme": _set_skip_me,
}


@command("client|kill")
def client_kill(client: Session, argv: list[bytes]) -> bytes:
    old_form = len(argv) == 3
    if old_form:
        wanted = _KillFilter(address=_address(argv[2]), skip_me=False)
    else:
        wanted = _KillFilter()
        words = iter(argv[2:])
        for option in words:
            setter, value = _KILL_OPTIONS.get(option.lower()), next(words, None)
            if setter is None or value is None:
                raise CommandError(errors.SYNTAX)
            setter(client, wanted, value)
    server = client.server
    killed = [
        session
        for session in server.sessions.values()
        if wanted.accepts(session) and not (session is client and wanted.skip_me)
    ]
    for session in killed:
        # Whoever kills itself is still told how many went.
        server.close_session(session, after_reply=session is client)
    if not old_form:
        return integer(len(killed))
    if not killed:
        raise CommandError(b"ERR No such client")
    return OK


# Holding clients back -------------------------------------------------------------------------------------------


def _too_many(argv: list[bytes]) -> CommandError:
    """More arguments than a subcommand takes, whose arity in the table knows no upper bound."""
    subcommand = errors.quoted(argv[1][:128])
    return CommandError(b"ERR unknown subcommand or wrong number of arguments for '%b'. Try CLIENT HELP." % subcommand)


@command("client|pause")
def client_pause(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) > 4:
        raise _too_many(argv)
    mode = argv[3].lower() if len(argv) == 4 else b"all"
    if mode not in (b"write", b"all"):
        raise CommandError(b"ERR CLIENT PAUSE mode must be WRITE or ALL")
    timeout_ms = parse_integer(argv[2], b"ERR timeout is not an integer or out of range")
    if timeout_ms < 0:
        raise CommandError(b"ERR timeout is negative")
    # Beyond 64 bits, Redis's end of the pause lies in the past.
    lasts = 0 < timeout_ms <= INT64_MAX - clock.unix_ms()
    until_ms = clock.monotonic_ms() + timeout_ms if lasts else 0
    client.server.pauses.pause(until_ms, writes_only=mode == b"write")
    return OK


@command("client|unpause")
def client_unpause(client: Session, argv: list[bytes]) -> bytes:
    client.server.pauses.end()
    return OK


@command("client|unblock")
def client_unblock(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) > 4:
        raise _too_many(argv)
    reason = argv[3].lower() if len(argv) == 4 else b"timeout"
    if reason not in (b"timeout", b"error"):
        raise CommandError(b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    server = client.server
    target: Session | None = server.sessions.get(parse_integer(argv[2]))
    parked = target.parked if target is not None else None
    if target is None or parked is None or parked.kind not in UNBLOCKABLE:
        return ZERO
    parked.on_cancel()
    row = server.commands.resolve(target.request) if target.request else None
    if row is not None:
        row.failed_calls += 1  # Also when it ends as if by its time-out.
    if reason == b"error":
        server.statistics.count_error(_UNBLOCKED)
        server.unpark(target, error(_UNBLOCKED))
    else:
        server.unpark(target, parked.on_timeout())
    return ONE


# What a client wants for itself ---------------------------------------------------------------------------------


@command("client|reply")
def client_reply(client: Session, argv: list[bytes]) -> bytes | None:
    mode = argv[2].lower()
    if mode not in (b"on", b"off", b"skip"):
        raise CommandError(errors.SYNTAX)
    if mode != b"skip" or client.reply_mode != b"off":
        client.reply_mode = mode
        client.refresh_plain()
    return OK if mode == b"on" else None


@command("client|no-evict")
def client_no_evict(client: Session, argv: list[bytes]) -> bytes:
    mode = argv[2].lower()
    if mode not in (b"on", b"off"):
        raise CommandError(errors.SYNTAX)
    client.no_evict = mode == b"on"
    client.server.schedule_write(client)  # Before the loop sleeps, the limit is looked at again.
    return OK


@command("client|no-touch")
def client_no_touch(client: Session, argv: list[bytes]) -> bytes:
    """Of Redis 7.2: what this client does, except TOUCH, is no use of the keys."""
    mode = argv[2].lower()
    if mode not in (b"on", b"off"):
        raise CommandError(errors.SYNTAX)
    client.no_touch = mode == b"on"
    client.refresh_plain()
    return OK


@command("client|help")
def client_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"CLIENT",
        [
            b"CACHING (YES|NO)",
            b"    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
            b"GETREDIR",
            b"    Return the client ID we are redirecting to when tracking is enabled.",
            b"GETNAME",
            b"    Return the name of the current connection.",
            b"ID",
            b"    Return the ID of the current connection.",
            b"INFO",
            b"    Return information about the current client connection.",
            b"KILL <ip:port>",
            b"    Kill connection made from <ip:port>.",
            b"KILL <option> <value> [<option> <value> [...]]",
            b"    Kill connections. Options are:",
            b"    * ADDR (<ip:port>|<unixsocket>:0)",
            b"      Kill connections made from the specified address",
            b"    * LADDR (<ip:port>|<unixsocket>:0)",
            b"      Kill connections made to specified local address",
            b"    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            b"      Kill connections by type.",
            b"    * USER <username>",
            b"      Kill connections authenticated by <username>.",
            b"    * SKIPME (YES|NO)",
            b"      Skip killing current connection (default: yes).",
            b"LIST [options ...]",
            b"    Return information about client connections. Options:",
            b"    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
            b"      Return clients of specified type.",
            b"UNPAUSE",
            b"    Stop the current client pause, resuming traffic.",
            b"PAUSE <timeout> [WRITE|ALL]",
            b"    Suspend all, or just write, clients for <timeout> milliseconds.",
            b"REPLY (ON|OFF|SKIP)",
            b"    Control the replies sent to the current connection.",
            b"SETNAME <name>",
            b"    Assign the name <name> to the current connection.",
            b"UNBLOCK <clientid> [TIMEOUT|ERROR]",
            b"    Unblock the specified blocked client.",
            b"TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
            b"         [OPTIN] [OPTOUT] [NOLOOP]",
            b"    Control server assisted client side caching.",
            b"TRACKINGINFO",
            b"    Report tracking status for the current connection.",
            b"NO-EVICT (ON|OFF)",
            b"    Protect current client connection from eviction.",
        ],
    )
