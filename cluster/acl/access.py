"""Users and permissions of one server: ``server.acl``.

Invariants  There is always a user ``default``, and it is always the same object: connections that have not logged in
            are it. Changes to a user are all or nothing.
Source      acl.c of Redis 7.0.15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from cluster.acl.catalog import Catalog
from cluster.acl.checks import Checker, CommandRow, Denial, KeyFinder
from cluster.acl.errors import DefinitionError, RuleError
from cluster.acl.log import AccessLog
from cluster.acl.selectors import READ, c_string
from cluster.acl.users import User, merge_selectors
from cluster.settings import Settings

DEFAULT_NAME: Final = b"default"
_ALL_POWERFUL: Final = (b"+@all", b"~*", b"&*", b"on", b"nopass")

UserListener = Callable[[User, User], None]
"""Told (user, how it was before) when the rules of a user have changed."""


class AccessControl:
    """The users, and what they may do."""

    def __init__(self, settings: Settings, read_records: Callable[[], list[Any]], find_keys: KeyFinder) -> None:
        """``read_records`` gives the recorded command table, ``find_keys`` the keys of a request."""
        self._settings = settings
        self.catalog = Catalog(read_records)
        self._checker = Checker(self.catalog, find_keys)
        self.check: Callable[[User, CommandRow, list[bytes]], Denial | None] = self._checker.check
        """Why a user may not run a request (user, row of the command, arguments), or None."""
        self.log = AccessLog()
        self.default = self._all_powerful(DEFAULT_NAME)
        self.superuser = self._all_powerful(b"(superuser)")
        """Who our master and the files being loaded act as. Nobody can log in as this user."""
        self._users: dict[bytes, User] = {DEFAULT_NAME: self.default}
        self.on_change: UserListener = lambda user, before: None
        self.on_removal: Callable[[User], None] = lambda user: None

    def _all_powerful(self, name: bytes) -> User:
        user = User.create(name, self.catalog)
        for rule in _ALL_POWERFUL:
            user.apply(rule)
        return user

    # Users --------------------------------------------------------------------------------------------------

    def find(self, name: bytes) -> User | None:
        """The user of this name."""
        return self._users.get(name)

    def users(self) -> list[User]:
        """All users, by name."""
        return [user for _name, user in sorted(self._users.items())]

    def authenticate(self, name: bytes, password: bytes) -> User | None:
        """Whom a client has proved to be, or None."""
        user = self._users.get(name)
        return user if user is not None and user.accepts_password(password) else None

    def define(self, name: bytes, words: Iterable[bytes]) -> None:
        """ACL SETUSER: create or change a user. Raises DefinitionError, and has then changed nothing."""
        user = self._users.get(name)
        staged = user.copy() if user is not None else self.new_user(name)
        for rule in merge_selectors(words):
            try:
                self.apply(staged, rule)
            except RuleError as refusal:
                raise DefinitionError(
                    b"Error in ACL SETUSER modifier '%b': %b" % (c_string(rule), str(refusal).encode())
                ) from None
        self.add(staged)

    def new_user(self, name: bytes) -> User:
        """A user that is not one of ours yet."""
        return User.create(name, self.catalog, all_channels=self._all_channels_by_default())

    def add(self, user: User) -> None:
        """Make a new user one of ours, or give its rules to the one of the same name."""
        known = self._users.setdefault(user.name, user)
        if known is not user:
            self._replace_rules(known, user)

    def apply(self, user: User, rule: bytes) -> None:
        """Apply one rule with the settings in force. Raises RuleError."""
        user.apply(rule, all_channels_by_default=self._all_channels_by_default())

    def _all_channels_by_default(self) -> bool:
        return self._settings.acl_pubsub_default == "allchannels"

    def _replace_rules(self, user: User, source: User) -> None:
        before = user.copy()
        user.take_over(source)
        self.on_change(user, before)

    def remove(self, name: bytes) -> bool:
        """ACL DELUSER: False when there is no such user. Never for ``default``."""
        assert name != DEFAULT_NAME
        user = self._users.pop(name, None)
        if user is not None:
            self.on_removal(user)
        return user is not None

    def replace_all(self, users: Iterable[User]) -> None:
        """Have these users and no others. All others go, with their clients, also those that come back by name."""
        new = {user.name: user for user in users}
        old = {name: user for name, user in self._users.items() if name != DEFAULT_NAME}
        default = new.get(DEFAULT_NAME) or self._all_powerful(DEFAULT_NAME)
        self._users = {**new, DEFAULT_NAME: self.default}
        self._replace_rules(self.default, default)
        for user in old.values():
            self.on_removal(user)

    def set_default_password(self, password: bytes) -> None:
        """The requirepass directive; empty: no password is needed."""
        staged = self.default.copy()
        staged.apply(b"resetpass")
        staged.apply(b">" + password if password else b"nopass")
        self._replace_rules(self.default, staged)

    def may_read_all_keys(self, user: User, row: CommandRow, argv: list[bytes]) -> bool:
        """May ``user`` run ``argv``, and read any key besides (SORT's BY and GET)?"""
        return self._checker.may_use_all_keys(user, row, argv, READ)
