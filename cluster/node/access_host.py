"""What becomes of connected clients when users change; the users of the configuration and their file (acl.c).

Role        Stands between ``server.acl``, which knows neither connections nor files, and the process. A user whose
            rules change may leave or enter the hot path; one that is deleted takes its clients along; who loses a
            channel is cut off.
Invariants  Users come from ``user`` lines of redis.conf or from aclfile, never from both.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cluster import clock
from cluster.acl.checks import Reason, may_use_channel
from cluster.acl.errors import DefinitionError, RuleError
from cluster.acl.file import parse_users, user_line, users_text
from cluster.acl.log import LogEntry
from cluster.acl.selectors import c_string, has_blanks
from cluster.acl.users import User, merge_selectors
from cluster.commands.channels import Kind
from cluster.errors import CommandError, ConfigError

if TYPE_CHECKING:
    from cluster.commands.context import Session
    from cluster.node.client import Client
    from cluster.node.config_rewrite import ConfText
    from cluster.node.server import Server

_TWO_SOURCES = (
    "Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is invalid. This "
    "setup is very likely to lead to configuration errors and security holes, please define either an ACL file or "
    "declare users directly in your redis.conf, but not both."
)
_CRITICAL = "Critical error while loading ACLs. Exiting."
_NO_FILE = (
    b"ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER "
    b"command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store "
    b"users in the Redis configuration."
)
_NOT_SAVED = b"ERR There was an error trying to save the ACLs. Please check the server logs for more information"


class AccessHost:
    """Users, for one process."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._acl = server.acl
        self._acl.catalog.warn = server.log.warning
        self._set_password()
        self._acl.on_change = self._rules_changed
        self._acl.on_removal = self._removed
        server.config.on_change("requirepass", self._set_password)
        server.config.rewriters.append(self._rewrite)

    def _set_password(self) -> None:
        """The requirepass directive is the password of the default user."""
        self._acl.set_default_password(os.fsencode(self._server.settings.requirepass))

    # Clients ------------------------------------------------------------------------------------------------

    def _rules_changed(self, user: User, before: User) -> None:
        """Who is logged in stays so; without a password, who is not needs no AUTH either, for as long as it lasts."""
        server = self._server
        is_default = user is server.acl.default
        for client in list(server.sessions.values()):
            if client.user is user or is_default:
                server.set_authenticated(client, authenticated=client.authenticated)
        if _lost_channels(user, before):
            self._cut_off_subscribers(user)

    def _cut_off_subscribers(self, user: User) -> None:
        """Disconnect clients that are subscribed to what their user may not hear any more."""
        patterns = [pattern for selector in user.selectors for pattern in selector.channel_patterns]
        for client in list(self._server.sessions.values()):
            held = client.subscriptions
            if client.user is user and held is not None:
                if not all(
                    may_use_channel(patterns, name, is_pattern=kind is Kind.PATTERN)
                    for kind, names in held.names.items()
                    for name in names
                ):
                    self._disconnect(client)

    def _removed(self, user: User) -> None:
        """Its clients are disconnected; one that does it to itself, once it has its reply."""
        server = self._server
        for client in list(server.sessions.values()):
            if client.user is user:
                client.user = server.acl.default
                server.set_authenticated(client, authenticated=False)
                self._disconnect(client)

    def _disconnect(self, client: Client) -> None:
        """At once, or after its reply if it is the client that is being served."""
        is_served = client.request is not None and client.parked is None
        self._server.close_session(client, after_reply=is_served)

    def note_denial(
        self, session: Session, reason: Reason, subject: bytes, *, context: str, user_name: bytes | None
    ) -> None:
        """An entry for ACL LOG."""
        server = self._server
        if not context:
            context = "multi" if session.transaction or session.executing else "toplevel"
        entry = LogEntry(
            reason=reason,
            context=context,
            subject=subject,
            user_name=session.user.name if user_name is None else user_name,
            client_info=server.describe_client(session).encode("utf-8", "surrogateescape"),
            at_ms=clock.unix_ms(),
        )
        server.acl.log.add(entry, server.settings.acllog_max_len)

    # Configuration and file ---------------------------------------------------------------------------------

    def load_at_start(self) -> None:
        """Make the users that the configuration or the file defines. Raises ConfigError with the log's last word."""
        settings, log = self._server.settings, self._server.log
        if settings.aclfile and settings.user:
            raise ConfigError(_TWO_SOURCES)
        for words in settings.user:
            try:
                self._load_configured(words)
            except DefinitionError as refusal:
                log.warning(_text(refusal.message))
                raise ConfigError(_CRITICAL) from None
        if settings.aclfile:
            try:
                self._load_file()
            except DefinitionError as refusal:
                raise ConfigError(f"Aborting Redis startup because of ACL errors: {_text(refusal.message)}") from None

    def _load_configured(self, words: list[bytes]) -> None:
        """One ``user`` line."""
        name, *rest = words
        if has_blanks(name):
            raise DefinitionError(b"Spaces not allowed in ACL usernames")
        user = self._acl.new_user(name)
        if name == self._acl.default.name:
            self._acl.apply(user, b"reset")
        for rule in merge_selectors(rest):
            try:
                self._acl.apply(user, rule)
            except RuleError as refusal:
                raise DefinitionError(
                    b"Error loading ACL rule '%b' for the user named '%b': %b"
                    % (c_string(rule), name, str(refusal).encode())
                ) from None
        if not user.enabled:
            self._server.log.notice(
                f"The user '{_text(name)}' is disabled (there is no 'on' modifier in the user description). Make sure "
                "this is not a configuration error."
            )
        self._acl.add(user)

    def load(self) -> None:
        """ACL LOAD. Raises CommandError."""
        self._require_file()
        try:
            self._load_file()
        except DefinitionError as refusal:
            raise CommandError(b"ERR " + refusal.message) from None

    def _load_file(self) -> None:
        path = os.fsencode(self._server.settings.aclfile)
        try:
            with open(path, "rb") as file:
                text = file.read()
        except OSError as failure:
            reason = os.fsencode(failure.strerror or str(failure))
            raise DefinitionError(b"Error loading ACLs, opening file '%b': %b" % (path, reason)) from None
        self._acl.replace_all(parse_users(self._acl, text, path))

    def save(self) -> None:
        """ACL SAVE: the new file takes the old one's place as a whole. Raises CommandError; the log says why."""
        self._require_file()
        path = self._server.settings.aclfile
        text = users_text(self._acl.users())
        temporary = f"{path}.tmp-{os.getpid()}-{clock.unix_ms()}"
        doing = "Opening temp"
        try:
            with open(temporary, "xb", opener=_open_private_enough) as file:
                doing = "Writing"
                file.write(text)
            doing = "Renaming"
            os.rename(temporary, path)
        except OSError as failure:
            self._server.log.warning(f"{doing} ACL file for ACL SAVE: {failure.strerror}")
            if doing != "Opening temp":
                os.unlink(temporary)
            raise CommandError(_NOT_SAVED) from None

    def _require_file(self) -> None:
        if not self._server.settings.aclfile:
            raise CommandError(_NO_FILE)

    def _rewrite(self, conf: ConfText) -> None:
        """CONFIG REWRITE: the users as they are, unless a file has them."""
        for user in [] if self._server.settings.aclfile else self._acl.users():
            conf.put(b"user", user_line(user), force=True)


def _lost_channels(user: User, before: User) -> bool:
    """False if every pattern the user had is still one of its patterns: the cheap answer to a common question."""
    if any(selector.all_channels for selector in user.selectors):
        return False
    patterns = {pattern for selector in user.selectors for pattern in selector.channel_patterns}
    return any(
        selector.all_channels or not patterns.issuperset(selector.channel_patterns) for selector in before.selectors
    )


def _open_private_enough(path: str, flags: int) -> int:
    return os.open(path, flags, 0o644)


def _text(message: bytes) -> str:
    return message.decode("utf-8", "surrogateescape")
