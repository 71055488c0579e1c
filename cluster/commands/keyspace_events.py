"""Keyspace events: what happens to keys, published to channels of this node (notify.c).

``__keyspace@<db>__:<key>`` carries the event's name, ``__keyevent@<db>__:<event>`` the key's. The directive
notify-keyspace-events says which classes of events are published; while it names none, nothing is ever called.
Events are local: each node of a cluster, and each replica, publishes its own.
"""

from __future__ import annotations

from typing import Final

from cluster.commands.channels import ChannelTable
from cluster.keyspace.database import Keyspace
from cluster.settings import (
    NOTIFY_EVICTED,
    NOTIFY_EXPIRED,
    NOTIFY_GENERIC,
    NOTIFY_HASH,
    NOTIFY_KEY_MISS,
    NOTIFY_KEYEVENT,
    NOTIFY_KEYSPACE,
    NOTIFY_LIST,
    NOTIFY_MODULE,
    NOTIFY_NEW,
    NOTIFY_SET,
    NOTIFY_STREAM,
    NOTIFY_STRING,
    NOTIFY_ZSET,
    Settings,
)

_CLASSES: Final = {
    "g": NOTIFY_GENERIC,
    "$": NOTIFY_STRING,
    "l": NOTIFY_LIST,
    "s": NOTIFY_SET,
    "h": NOTIFY_HASH,
    "z": NOTIFY_ZSET,
    "x": NOTIFY_EXPIRED,
    "e": NOTIFY_EVICTED,
    "t": NOTIFY_STREAM,
    "m": NOTIFY_KEY_MISS,
    "d": NOTIFY_MODULE,
    "n": NOTIFY_NEW,
}


class KeyspaceEvents:
    """The publisher of one server's events."""

    def __init__(self, keyspace: Keyspace, channels: ChannelTable, settings: Settings) -> None:
        self._keyspace = keyspace
        self._publish = channels.publish
        self._settings = settings
        self.settings_changed()

    def settings_changed(self) -> None:
        """Take over notify-keyspace-events."""
        wanted = self._settings.notify_keyspace_events
        has_target = bool(wanted & (NOTIFY_KEYSPACE | NOTIFY_KEYEVENT))
        self._keyspace.notifier = self._notify if has_target else None
        for database in self._keyspace.databases:
            database.attend(database.usage, announces_new=has_target and bool(wanted & NOTIFY_NEW))

    def _notify(self, event_class: str, event: bytes, key: bytes, database_index: int) -> None:
        wanted = self._settings.notify_keyspace_events
        if not wanted & _CLASSES[event_class]:
            return
        if wanted & NOTIFY_KEYSPACE:
            self._publish(b"__keyspace@%d__:%b" % (database_index, key), event)
        if wanted & NOTIFY_KEYEVENT:
            self._publish(b"__keyevent@%d__:%b" % (database_index, event), key)
