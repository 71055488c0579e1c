"""A user: whether it may log in, with which passwords, and what it may do then.

The object lives as long as the user does, also when its rules change: sessions refer to it. Passwords are kept as the
hexadecimal SHA-256 that ``#`` rules and descriptions show. Source: ACLSetUser in acl.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Self

import attrs

from cluster.acl import errors
from cluster.acl.catalog import Catalog
from cluster.acl.errors import DefinitionError, RuleError
from cluster.acl.selectors import Selector, c_string
from cluster.resp.parser import split_inline

_HASH_LENGTH: Final = 64
_HEX: Final = frozenset(b"0123456789abcdef")


@attrs.define(eq=False)
class User:
    """One user. ``selectors[0]`` is the root, which rules outside of parentheses change."""

    name: bytes
    selectors: list[Selector]
    enabled: bool = False
    nopass: bool = False
    sanitizes_payload: bool | None = None
    """What ``sanitize-payload`` and ``skip-sanitize-payload`` said last; None: neither was said."""
    passwords: list[bytes] = attrs.field(factory=list)
    _is_unrestricted: bool | None = attrs.field(default=None, init=False)
    description: bytes | None = attrs.field(default=None, init=False)
    """What cluster.acl.describe has made of the rules; None when they have changed since."""

    @classmethod
    def create(cls, name: bytes, catalog: Catalog, *, all_channels: bool = False) -> Self:
        """A new user, who may not do anything (with channels as acl-pubsub-default has it)."""
        return cls(name, [Selector(catalog, all_channels=all_channels)])

    @property
    def root(self) -> Selector:
        return self.selectors[0]

    @property
    def is_unrestricted(self) -> bool:
        """True when nothing such a user asks can be refused: no check, no cost."""
        if self._is_unrestricted is None:
            self._is_unrestricted = any(selector.is_unrestricted for selector in self.selectors)
        return self._is_unrestricted

    @property
    def needs_no_password(self) -> bool:
        """True when a connection is this user without logging in (asked of the default user)."""
        return self.nopass and self.enabled

    def copy(self) -> User:
        """A user of the same name and rules, to try changes on."""
        twin = User(self.name, [])
        twin.take_over(self)
        return twin

    def take_over(self, other: User) -> None:
        """Have exactly the rules of ``other``, under the own name."""
        self.enabled, self.nopass, self.sanitizes_payload = other.enabled, other.nopass, other.sanitizes_payload
        self.passwords = list(other.passwords)
        self.selectors = [selector.copy() for selector in other.selectors]
        self._is_unrestricted = self.description = None

    def accepts_password(self, password: bytes) -> bool:
        """Takes as long for a nearly right password as for any other."""
        from hmac import compare_digest

        if not self.enabled:
            return False
        if self.nopass:
            return True
        hashed = hash_password(password)
        return sum(compare_digest(hashed, known) for known in self.passwords) > 0  # Whichever it is, all are looked at.

    # Rules --------------------------------------------------------------------------------------------------

    def apply(self, rule: bytes, *, all_channels_by_default: bool = False) -> None:
        """Change what one rule says; a selector comes as one rule, parentheses included. Raises RuleError."""
        self._is_unrestricted = self.description = None
        if not rule:
            return
        word = c_string(rule).lower()
        action = _WORDS.get(word)
        if action is not None:
            action(self)
        elif word == b"reset":
            self._reset(all_channels_by_default)
        elif rule[:1] in _PASSWORD_RULES:
            _PASSWORD_RULES[rule[:1]](self, rule[1:])
        elif rule.startswith(b"(") and rule.endswith(b")"):
            self._add_selector(rule, all_channels_by_default)
        else:
            self.root.apply(rule)

    def _set_on(self) -> None:
        self.enabled = True

    def _set_off(self) -> None:
        self.enabled = False

    def _skip_sanitizing(self) -> None:
        self.sanitizes_payload = False

    def _sanitize(self) -> None:
        self.sanitizes_payload = True

    def _set_nopass(self) -> None:
        self.nopass = True
        self.passwords.clear()

    def _reset_passwords(self) -> None:
        self.nopass = False
        self.passwords.clear()

    def _clear_selectors(self) -> None:
        del self.selectors[1:]

    def _reset(self, all_channels: bool) -> None:
        """As a new user, except that ``sanitize-payload`` is then said."""
        self._reset_passwords()
        self.selectors = [Selector(self.root.catalog, all_channels=all_channels)]
        self.enabled = False
        self.sanitizes_payload = True

    def _add_password(self, password: bytes) -> None:
        self._add_hash(hash_password(password))

    def _add_hash(self, hashed: bytes) -> None:
        _check_hash(hashed)
        if hashed not in self.passwords:
            self.passwords.append(hashed)
        self.nopass = False

    def _remove_password(self, password: bytes) -> None:
        self._remove_hash(hash_password(password))

    def _remove_hash(self, hashed: bytes) -> None:
        _check_hash(hashed)
        if hashed not in self.passwords:
            raise RuleError(errors.NO_SUCH_PASSWORD)
        self.passwords.remove(hashed)

    def _add_selector(self, rule: bytes, all_channels: bool) -> None:
        selector = Selector(self.root.catalog, all_channels=all_channels)
        # Unbalanced quotes make Redis see no rules at all, and so make we.
        for word in split_inline(rule[1:-1]) or []:
            selector.apply(word)
        self.selectors.append(selector)


_WORDS: Final[dict[bytes, Callable[[User], None]]] = {
    b"on": User._set_on,
    b"off": User._set_off,
    b"skip-sanitize-payload": User._skip_sanitizing,
    b"sanitize-payload": User._sanitize,
    b"nopass": User._set_nopass,
    b"resetpass": User._reset_passwords,
    b"clearselectors": User._clear_selectors,
}
_PASSWORD_RULES: Final[dict[bytes, Callable[[User, bytes], None]]] = {
    b">": User._add_password,
    b"#": User._add_hash,
    b"<": User._remove_password,
    b"!": User._remove_hash,
}


def hash_password(password: bytes) -> bytes:
    """The form in which passwords are kept and shown."""
    from hashlib import sha256

    return sha256(password).hexdigest().encode()


def _check_hash(hashed: bytes) -> None:
    if len(hashed) != _HASH_LENGTH or not all(byte in _HEX for byte in hashed):
        raise RuleError(errors.BAD_HASH)


def merge_selectors(words: Iterable[bytes]) -> list[bytes]:
    """Words as rules: a selector may be spread over several. Raises DefinitionError when a parenthesis stays open."""
    rules: list[bytes] = []
    opened: bytes | None = None
    begun = b""
    for word in words:
        if word.startswith(b"(") and not word.endswith(b")"):
            opened = begun = word  # One that was open is forgotten, as in Redis.
        elif opened is not None:
            opened += b" " + c_string(word)
            if word.endswith(b")"):
                rules.append(opened)
                opened = None
        else:
            rules.append(word)
    if opened is not None:
        raise DefinitionError(b"Unmatched parenthesis in acl selector starting at '%b'." % c_string(begun))
    return rules
