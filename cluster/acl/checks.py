"""May this user run this request? One answer for the gates, for EXEC and for scripts (ACLCheckAllUserCommandPerm).

Each selector is asked for the whole request; when all refuse, the refusal told is that of the selector that came
furthest: a channel before a key before the command.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, Protocol

import attrs

from cluster.acl.catalog import Catalog, CatalogCommand
from cluster.acl.selectors import Permission, Selector
from cluster.acl.users import User
from cluster.keyspace.glob import matches


class Reason(enum.IntEnum):
    """What was refused. The order is Redis's, and decides which of two refusals is told."""

    COMMAND = 1
    KEY = 2
    AUTH = 3
    CHANNEL = 4


@attrs.frozen
class Denial:
    """Why a request is refused."""

    reason: Reason
    command: bytes
    """Full name of the command."""
    position: int = 0
    """Which argument is the key or the channel that may not be used."""

    def subject(self, argv: list[bytes]) -> bytes:
        """What ACL LOG shows as the object: the command, the key or the channel."""
        return self.command if self.reason is Reason.COMMAND else argv[self.position]

    def gate_text(self) -> bytes:
        """The reply to a client."""
        return {
            Reason.COMMAND: b"NOPERM this user has no permissions to run the '%b' command" % self.command,
            Reason.KEY: b"NOPERM this user has no permissions to access one of the keys used as arguments",
            Reason.CHANNEL: b"NOPERM this user has no permissions to access one of the channels used as arguments",
        }[self.reason]

    def exec_text(self) -> bytes:
        """The reply within EXEC's, for a command that was allowed when it was queued."""
        return (
            b"NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. "
            b"This command is no longer allowed for the following reason: " + _EXEC_REASONS[self.reason]
        )

    def script_text(self) -> bytes:
        """The error that a script's redis.call raises."""
        return b"The user executing the script " + _SCRIPT_REASONS[self.reason]

    def dry_run_text(self, argv: list[bytes]) -> bytes:
        """The answer of ACL DRYRUN for ``argv``."""
        if self.reason is Reason.COMMAND:
            return b"This user has no permissions to run the '%b' command" % self.command
        kind = b"key" if self.reason is Reason.KEY else b"channel"
        return b"This user has no permissions to access the '%b' %b" % (argv[self.position].split(b"\0")[0], kind)


_EXEC_REASONS: Final = {
    Reason.COMMAND: b"no permission to execute the command or subcommand",
    Reason.KEY: b"no permission to touch the specified keys",
    Reason.CHANNEL: b"no permission to access one of the channels used as arguments",
}
_SCRIPT_REASONS: Final = {
    Reason.COMMAND: b"can't run this command or subcommand",
    Reason.KEY: b"can't access at least one of the keys mentioned in the command arguments",
    Reason.CHANNEL: b"can't publish to the channel mentioned in the command",
}


class CommandRow(Protocol):
    """What is asked of a row of the command table (cluster.commands.registry.Command)."""

    @property
    def name(self) -> bytes: ...


KeyFinder = Callable[[Any, list[bytes]], list[tuple[int, list[str]]]]
"""(row, argv) → positions of keys with the flags of their specs (cluster.commands.key_positions); never raises."""


class _Channels(enum.Enum):
    NAMES = enum.auto()
    PATTERNS = enum.auto()


_CHANNEL_COMMANDS: Final[dict[bytes, tuple[_Channels, int | None]]] = {
    b"subscribe": (_Channels.NAMES, None),
    b"ssubscribe": (_Channels.NAMES, None),
    b"psubscribe": (_Channels.PATTERNS, None),
    b"publish": (_Channels.NAMES, 2),
    b"spublish": (_Channels.NAMES, 2),
}
"""What the arguments are, and up to which position. Unsubscribing needs no permission."""

_STANDS_FOR: Final = {b"client|setinfo": b"client|setname"}
"""Commands of later versions, which no rule of Redis 7.0 can name, are allowed with one that is like them."""

_NEEDED: Final = {
    "access": Permission.READ,
    "insert": Permission.WRITE,
    "delete": Permission.WRITE,
    "update": Permission.WRITE,
}


class Checker:
    """Answers for the commands of one catalog."""

    def __init__(self, catalog: Catalog, find_keys: KeyFinder) -> None:
        self._catalog = catalog
        self._find_keys = find_keys

    def check(self, user: User, row: CommandRow, argv: list[bytes]) -> Denial | None:
        """Why ``user`` may not run ``argv``, or None."""
        if user.is_unrestricted:
            return None
        command = self._catalog.by_name[_STANDS_FOR.get(row.name, row.name)]
        keys = _Keys(self._find_keys, row, argv)
        worst = Denial(Reason.COMMAND, command.name)
        for selector in user.selectors:
            denial = _check_selector(selector, command, argv, keys)
            if denial is None:
                return None
            if (denial.reason, denial.position) > (worst.reason, worst.position):
                worst = denial
        return worst

    def has_unrestricted_key_access(
        self, user: User, row: CommandRow, argv: list[bytes], permission: Permission
    ) -> bool:
        """May ``user`` run ``argv``, and do what ``permission`` says with any key (SORT's BY and GET)?"""
        if user.is_unrestricted:
            return True
        command = self._catalog.by_name[_STANDS_FOR.get(row.name, row.name)]
        keys = _Keys(self._find_keys, row, argv)
        return any(
            _check_selector(selector, command, argv, keys) is None and _may_use_all_keys(selector, permission)
            for selector in user.selectors
        )


class _Keys:
    """The keys of a request, found when the first selector asks."""

    def __init__(self, find_keys: KeyFinder, row: CommandRow, argv: list[bytes]) -> None:
        self._find_keys = find_keys
        self._row = row
        self._argv = argv
        self._found: list[tuple[int, Permission]] | None = None

    def found(self) -> list[tuple[int, Permission]]:
        """Positions, and what the request does there."""
        if self._found is None:
            self._found = [
                (position, _needed(flags))
                for position, flags in self._find_keys(self._row, self._argv)
                if "not_key" not in flags
            ]
        return self._found


def _needed(flags: list[str]) -> Permission:
    needed = Permission(0)
    for flag in flags:
        needed |= _NEEDED.get(flag, Permission(0))
    return needed


def _check_selector(selector: Selector, command: CatalogCommand, argv: list[bytes], keys: _Keys) -> Denial | None:
    if not selector.all_commands and not command.needs_no_permission and not selector.commands & command.bit:
        arguments = selector.first_arguments.get(command.bit)
        if arguments is None or len(argv) < 2 or argv[1].lower() not in map(bytes.lower, arguments):
            return Denial(Reason.COMMAND, command.name)
    if not selector.all_keys and command.has_keys:
        for position, needed in keys.found():
            if not may_use_key(selector, argv[position], needed):
                return Denial(Reason.KEY, command.name, position)
    if not selector.all_channels and command.name in _CHANNEL_COMMANDS:
        kind, end = _CHANNEL_COMMANDS[command.name]
        for position in range(1, len(argv) if end is None else end):
            if not may_use_channel(selector.channel_patterns, argv[position], is_pattern=kind is _Channels.PATTERNS):
                return Denial(Reason.CHANNEL, command.name, position)
    return None


def may_use_key(selector: Selector, key: bytes, needed: Permission) -> bool:
    """Whether one pattern alone allows what is to be done with the key."""
    return any(
        permission & needed == needed and matches(pattern, key) for pattern, permission in selector.key_patterns.items()
    )


def _may_use_all_keys(selector: Selector, needed: Permission) -> bool:
    return selector.all_keys or selector.key_patterns.get(b"*", Permission(0)) & needed == needed


def may_use_channel(patterns: list[bytes], channel: bytes, *, is_pattern: bool) -> bool:
    """A channel must match a pattern; a pattern to subscribe to must be one of them, letter by letter."""
    if is_pattern:
        return channel.split(b"\0", 1)[0] in patterns
    return any(matches(pattern, channel) for pattern in patterns)
