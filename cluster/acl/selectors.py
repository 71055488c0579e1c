"""One set of permissions: commands, keys, channels. A user has one (the root) and may have more besides.

A request is allowed when one selector alone allows all of it. Rules are applied one word at a time, as in SETUSER.
Source: ACLSetSelector in acl.c. Words are compared as C does, in any case and up to a NUL byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Self

import attrs

from cluster.acl import errors
from cluster.acl.catalog import ALL_COMMANDS, NO_COMMANDS, Catalog, CatalogCommand
from cluster.acl.errors import RuleError, UnknownCommandError
from cluster.keyspace.glob import Matcher, compile_glob

_BLANKS: Final = frozenset(b" \t\n\v\f\r\0")


READ: Final = 1
WRITE: Final = 2
READ_AND_WRITE: Final = READ | WRITE
"""What a key pattern allows to be done with the keys that match it, and what a request does with a key."""


@attrs.define(eq=False)
class Selector:
    """What is allowed, as the rules so far have it."""

    catalog: Catalog
    all_channels: bool = False
    all_keys: bool = False
    all_commands: bool = False
    """Everything was allowed, and nothing taken away since. ``commands`` need not be looked at."""
    commands: int = NO_COMMANDS
    first_arguments: dict[int, list[bytes]] = attrs.field(factory=dict)
    """By the bit of a command: it may be run with one of these as its first argument, even if it is not allowed."""
    key_patterns: dict[bytes, int] = attrs.field(factory=dict)
    channel_patterns: list[bytes] = attrs.field(factory=list)
    _key_matchers: list[tuple[Matcher, int]] | None = attrs.field(default=None, init=False)

    def copy(self) -> Self:
        return attrs.evolve(
            self,
            first_arguments={bit: list(arguments) for bit, arguments in self.first_arguments.items()},
            key_patterns=dict(self.key_patterns),
            channel_patterns=list(self.channel_patterns),
        )

    @property
    def is_unrestricted(self) -> bool:
        return self.all_commands and self.all_keys and self.all_channels

    def allows_key(self, key: bytes, needed: int) -> bool:
        """Whether one pattern alone allows what is to be done with the key."""
        if self._key_matchers is None:
            self._key_matchers = [(compile_glob(pattern), each) for pattern, each in self.key_patterns.items()]
        return any(permission & needed == needed and matches(key) for matches, permission in self._key_matchers)

    def apply(self, rule: bytes) -> None:
        """Change what ``rule`` says. Raises RuleError, and has then changed nothing."""
        self._key_matchers = None
        word = c_string(rule)
        action = _WORDS.get(word.lower())
        if action is not None:
            action(self)
            return
        prefixed = _PREFIXES.get(word[:1])
        if prefixed is None:
            raise RuleError(errors.SYNTAX)
        prefixed(self, rule)

    # Commands -----------------------------------------------------------------------------------------------

    def _allow_all_commands(self) -> None:
        self.commands = ALL_COMMANDS
        self.all_commands = True
        self.first_arguments.clear()

    def _forbid_all_commands(self) -> None:
        self.commands = NO_COMMANDS
        self.all_commands = False
        self.first_arguments.clear()

    def _change_commands(self, mask: int, *, allow: bool) -> None:
        if allow:
            self.commands |= mask
        else:
            self.commands &= ~mask
            self.all_commands = False
        if self.first_arguments:
            for bit in [bit for bit in self.first_arguments if bit & mask]:
                del self.first_arguments[bit]

    def _allow(self, rule: bytes) -> None:
        name = c_string(rule)[1:]
        if name.startswith(b"@"):
            self._change_category(name[1:], allow=True)
        elif b"|" not in name:
            self._change_commands(self._find(name).reach, allow=True)
        else:
            self._allow_part(name)

    def _allow_part(self, name: bytes) -> None:
        """``container|subcommand``, or ``command|first-argument`` for a command without subcommands."""
        container, _, part = name.rpartition(b"|")
        command = self._find(container)
        if command.is_subcommand:
            raise RuleError(errors.ARGUMENT_OF_SUBCOMMAND)
        if not part:
            raise RuleError(errors.SYNTAX)
        if command.subcommands:
            self._change_commands(self._find(name).reach, allow=True)
            return
        self.catalog.warn(
            "Deprecation warning: Allowing a first arg of an otherwise blocked command is a misuse of ACL and may get "
            f"disabled in the future (offender: +{name.decode(errors='surrogateescape')})"
        )
        arguments = self.first_arguments.setdefault(command.bit, [])
        if part.lower() not in map(bytes.lower, arguments):
            arguments.append(part)

    def _forbid(self, rule: bytes) -> None:
        name = c_string(rule)[1:]
        if name.startswith(b"@"):
            self._change_category(name[1:], allow=False)
        else:
            self._change_commands(self._find(name).reach, allow=False)

    def _change_category(self, name: bytes, *, allow: bool) -> None:
        category = self.catalog.categories.get(name.lower())
        if category is None:
            raise UnknownCommandError
        self._change_commands(category.reach, allow=allow)

    def _find(self, name: bytes) -> CatalogCommand:
        command = self.catalog.find(name)
        if command is None:
            raise UnknownCommandError
        return command

    # Keys and channels --------------------------------------------------------------------------------------

    def _allow_all_keys(self) -> None:
        self.all_keys = True
        self.key_patterns.clear()

    def _forbid_all_keys(self) -> None:
        self.all_keys = False
        self.key_patterns.clear()

    def _allow_all_channels(self) -> None:
        self.all_channels = True
        self.channel_patterns.clear()

    def _forbid_all_channels(self) -> None:
        self.all_channels = False
        self.channel_patterns.clear()

    def _add_keys(self, rule: bytes) -> None:
        if self.all_keys:
            raise RuleError(errors.KEYS_AFTER_ALL)
        permission = READ_AND_WRITE
        pattern = rule[1:]
        if rule.startswith(b"%"):
            permission, pattern = _split_key_rule(rule)
        if has_blanks(pattern):
            raise RuleError(errors.SYNTAX)
        self.key_patterns[pattern] = self.key_patterns.get(pattern, 0) | permission

    def _add_channels(self, rule: bytes) -> None:
        if self.all_channels:
            raise RuleError(errors.CHANNELS_AFTER_ALL)
        pattern = rule[1:]
        if has_blanks(pattern):
            raise RuleError(errors.SYNTAX)
        if pattern not in self.channel_patterns:
            self.channel_patterns.append(pattern)


_LETTERS: Final = {0x52: READ, 0x72: READ, 0x57: WRITE, 0x77: WRITE}


def _split_key_rule(rule: bytes) -> tuple[int, bytes]:
    """``%R~pattern`` and its like. One without a letter makes no sense; Redis 7.0 takes it, and dies of printing it."""
    permission = 0
    offset = 1
    while offset < len(rule) and rule[offset] != 0x7E:
        letter = _LETTERS.get(rule[offset])
        if letter is None or letter & permission:
            raise RuleError(errors.SYNTAX)
        permission |= letter
        offset += 1
    if not permission:
        raise RuleError(errors.SYNTAX)
    return permission, rule[offset + 1 :]


_WORDS: Final[dict[bytes, Callable[[Selector], None]]] = {
    b"allkeys": Selector._allow_all_keys,
    b"~*": Selector._allow_all_keys,
    b"resetkeys": Selector._forbid_all_keys,
    b"allchannels": Selector._allow_all_channels,
    b"&*": Selector._allow_all_channels,
    b"resetchannels": Selector._forbid_all_channels,
    b"allcommands": Selector._allow_all_commands,
    b"+@all": Selector._allow_all_commands,
    b"nocommands": Selector._forbid_all_commands,
    b"-@all": Selector._forbid_all_commands,
}
_PREFIXES: Final[dict[bytes, Callable[[Selector, bytes], None]]] = {
    b"~": Selector._add_keys,
    b"%": Selector._add_keys,
    b"&": Selector._add_channels,
    b"+": Selector._allow,
    b"-": Selector._forbid,
}


def c_string(word: bytes) -> bytes:
    """The word as C sees it: up to a NUL byte."""
    return word.split(b"\0", 1)[0] if b"\0" in word else word


def has_blanks(name: bytes) -> bool:
    """Names and patterns with blanks or NUL bytes could not be written to a file and read back."""
    return any(byte in _BLANKS for byte in name)
