"""What becomes of connected clients when users change, and the users of the configuration (acl.c, server.c).

Role        Stands between ``server.acl``, which knows no connections, and the sessions. A user whose rules change may
            leave or enter the hot path; one that is deleted takes its clients along; who loses a channel is cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster import clock
from cluster.acl.checks import Reason
from cluster.acl.log import LogEntry
from cluster.acl.users import User

if TYPE_CHECKING:
    from cluster.commands.context import Session
    from cluster.node.server import Server


class AccessHost:
    """Applies changes of users to the sessions of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        acl = server.acl
        self._set_password()
        acl.on_change = self._rules_changed
        acl.on_removal = self._removed
        server.config.on_change("requirepass", self._set_password)

    def _set_password(self) -> None:
        """The requirepass directive is the password of the default user."""
        password = self._server.settings.requirepass.encode("utf-8", "surrogateescape")
        self._server.acl.set_default_password(password)

    def _rules_changed(self, user: User, before: User) -> None:
        """Who is logged in stays so; without a password, who is not needs no AUTH either, for as long as it lasts."""
        server = self._server
        is_default = user is server.acl.default
        for client in list(server.sessions.values()):
            if client.user is user or is_default:
                server.set_authenticated(client, authenticated=client.authenticated)

    def _removed(self, user: User) -> None:
        """Its clients are disconnected; one that does it to itself, once it has its reply."""
        server = self._server
        for client in list(server.sessions.values()):
            if client.user is user:
                client.user = server.acl.default
                server.set_authenticated(client, authenticated=False)
                server.close_session(client, after_reply=client.request is not None and client.parked is None)

    def note_denial(
        self, session: Session, reason: Reason, subject: bytes, *, context: str, user_name: bytes | None
    ) -> None:
        """An entry for ACL LOG."""
        server = self._server
        if not context:
            context = "toplevel" if session.transaction is None else "multi"
        entry = LogEntry(
            reason=reason,
            context=context,
            subject=subject,
            user_name=session.user.name if user_name is None else user_name,
            client_info=server.describe_client(session).encode("latin-1"),
            at_ms=clock.unix_ms(),
        )
        server.acl.log.add(entry, server.settings.acllog_max_len)
