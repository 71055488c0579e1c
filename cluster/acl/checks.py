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
from cluster.acl.selectors import READ, WRITE, Selector, c_string
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
        return b"This user has no permissions to access the '%b' %b" % (c_string(argv[self.position]), kind)


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

_STANDS_FOR: Final = {b"client|setinfo": b"client|setname", b"client|no-touch": b"client|setname"}
"""Commands of later versions, which no rule of Redis 7.0 can name, are allowed with one that is like them."""

_NEEDED: Final = {"access": READ, "insert": WRITE, "delete": WRITE, "update": WRITE}


class Checker:
    """Answers for the commands of one catalog."""

    def __init__(self, catalog: Catalog, find_keys: KeyFinder) -> None:
        self._catalog = catalog
        self._find_keys = find_keys

    def check(self, user: User, row: CommandRow, argv: list[bytes]) -> Denial | None:
        """Why ``user`` may not run ``argv``, or None."""
        if user.is_unrestricted:
            return None
        command = self._command_of(row)
        keys = self._keys(row, argv)
        worst: Denial | None = None
        for selector in user.selectors:
            denial = _check_selector(selector, command, argv, keys)
            if denial is None:
                return None
            if worst is None or (denial.reason, denial.position) > (worst.reason, worst.position):
                worst = denial
        return worst

    def may_use_all_keys(self, user: User, row: CommandRow, argv: list[bytes], needed: int) -> bool:
        """May ``user`` run ``argv``, and do what is ``needed`` with any key?"""
        if user.is_unrestricted:
            return True
        command = self._command_of(row)
        keys = self._keys(row, argv)
        return any(
            (selector.all_keys or selector.key_patterns.get(b"*", 0) & needed == needed)
            and _check_selector(selector, command, argv, keys) is None
            for selector in user.selectors
        )

    def _command_of(self, row: CommandRow) -> CatalogCommand:
        return self._catalog.by_name[_STANDS_FOR.get(row.name, row.name)]

    def _keys(self, row: CommandRow, argv: list[bytes]) -> Callable[[], list[tuple[int, int]]]:
        """Positions of keys and what the request does there, found when the first selector asks."""
        found: list[tuple[int, int]] | None = None

        def keys() -> list[tuple[int, int]]:
            nonlocal found
            if found is None:
                found = [
                    (position, _needed(flags))
                    for position, flags in self._find_keys(row, argv)
                    if "not_key" not in flags
                ]
            return found

        return keys


def _needed(flags: list[str]) -> int:
    needed = 0
    for flag in flags:
        needed |= _NEEDED.get(flag, 0)
    return needed


def _check_selector(
    selector: Selector, command: CatalogCommand, argv: list[bytes], keys: Callable[[], list[tuple[int, int]]]
) -> Denial | None:
    if not selector.all_commands and not selector.commands & command.bit and not command.needs_no_permission:
        arguments = selector.first_arguments.get(command.bit)
        if arguments is None or len(argv) < 2 or argv[1].lower() not in map(bytes.lower, arguments):
            return Denial(Reason.COMMAND, command.name)
    if not selector.all_keys and command.has_keys:
        for position, needed in keys():
            if not selector.allows_key(argv[position], needed):
                return Denial(Reason.KEY, command.name, position)
    if not selector.all_channels and command.name in _CHANNEL_COMMANDS:
        kind, end = _CHANNEL_COMMANDS[command.name]
        for position in range(1, len(argv) if end is None else end):
            if not may_use_channel(selector.channel_patterns, argv[position], is_pattern=kind is _Channels.PATTERNS):
                return Denial(Reason.CHANNEL, command.name, position)
    return None


def may_use_channel(patterns: list[bytes], channel: bytes, *, is_pattern: bool) -> bool:
    """A channel must match a pattern; a pattern to subscribe to must be one of them, letter by letter."""
    if is_pattern:
        return c_string(channel) in patterns
    return any(matches(pattern, channel) for pattern in patterns)
