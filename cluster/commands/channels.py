"""Who is subscribed to what, and how a message reaches them (pubsub.c).

Role        Three kinds of subscription: to a channel, to a pattern of channel names, and to a shard channel, which
            belongs to a hash slot and leaves this node with it. PUBLISH, keyspace events and the cluster bus deliver
            here; subscribers get their messages in the order in which they were published.
Invariants  A client is in the table exactly as its :class:`Subscriptions` say, and has none of those (None) when it is
            subscribed to nothing. A name nobody is subscribed to is not in the table.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

from cluster.commands.context import Session
from cluster.keyspace.glob import Matcher, compile_glob
from cluster.resp.encode import Encoder, bulk, integer
from cluster.slots.hashing import key_slot


class Kind(enum.Enum):
    """The kinds of subscription; the value is the command that makes one."""

    CHANNEL = b"subscribe"
    PATTERN = b"psubscribe"
    SHARD = b"ssubscribe"

    @property
    def farewell(self) -> bytes:
        """The command that ends it."""
        return _FAREWELLS[self]


_FAREWELLS: Final = {Kind.CHANNEL: b"unsubscribe", Kind.PATTERN: b"punsubscribe", Kind.SHARD: b"sunsubscribe"}

Subscribers = dict[Session, None]
"""Clients in the order in which they came."""


class Subscriptions:
    """What one client is subscribed to, in the order in which it subscribed."""

    __slots__ = ("names",)

    def __init__(self) -> None:
        self.names: dict[Kind, dict[bytes, None]] = {kind: {} for kind in Kind}

    def __bool__(self) -> bool:
        return any(self.names.values())

    def count(self, kind: Kind) -> int:
        """How many of a kind there are."""
        return len(self.names[kind])


def shown_count(client: Session, kind: Kind) -> int:
    """The number in a confirmation: channels and patterns are counted together, shard channels for themselves."""
    held = client.subscriptions
    if held is None:
        return 0
    if kind is Kind.SHARD:
        return held.count(Kind.SHARD)
    return held.count(Kind.CHANNEL) + held.count(Kind.PATTERN)


def confirmation(client: Session, word: bytes, name: bytes | None, kind: Kind) -> bytes:
    """What a client is told after (un)subscribing; no name: there was nothing to unsubscribe from."""
    proto = client.proto
    return proto.push([bulk(word), proto.bulk_or_null(name), integer(shown_count(client, kind))])


def channel_matcher(pattern: bytes) -> Matcher:
    """Whether a channel's name matches; unlike a key's, an empty one does not match ``*``."""
    return bool if pattern == b"*" else compile_glob(pattern)


class ChannelTable:
    """All subscriptions of one server."""

    def __init__(self) -> None:
        self.subscribers: dict[Kind, dict[bytes, Subscribers]] = {kind: {} for kind in Kind}
        self._channels = self.subscribers[Kind.CHANNEL]
        self._patterns = self.subscribers[Kind.PATTERN]
        self._shard_channels = self.subscribers[Kind.SHARD]
        self._matchers: dict[bytes, Matcher] = {}
        self._slots: dict[int, set[bytes]] = {}
        """The shard channels of each hash slot that has any."""

    # Subscribing ----------------------------------------------------------------------------------------------

    def add(self, client: Session, kind: Kind, name: bytes) -> None:
        """Subscribe a client; nothing changes if it is subscribed already."""
        if client.subscriptions is None:
            client.subscriptions = Subscriptions()
            client.refresh_plain()
        client.subscriptions.names[kind][name] = None
        table = self.subscribers[kind]
        if name not in table:
            table[name] = {}
            if kind is Kind.PATTERN:
                self._matchers[name] = channel_matcher(name)
            elif kind is Kind.SHARD:
                self._slots.setdefault(key_slot(name), set()).add(name)
        table[name][client] = None

    def remove(self, client: Session, kind: Kind, name: bytes) -> None:
        """Unsubscribe a client; nothing changes if it is not subscribed."""
        held = client.subscriptions
        if held is None or name not in held.names[kind]:
            return
        del held.names[kind][name]
        subscribers = self.subscribers[kind][name]
        del subscribers[client]
        if not subscribers:
            self._forget(kind, name)
        self._note_end(client)

    def remove_all(self, client: Session) -> None:
        """Unsubscribe a client from everything without telling it: it left, or was RESET."""
        held = client.subscriptions
        if held is not None:
            for kind, names in held.names.items():
                for name in tuple(names):
                    self.remove(client, kind, name)

    def _forget(self, kind: Kind, name: bytes) -> None:
        """The last subscriber of a name has gone."""
        del self.subscribers[kind][name]
        if kind is Kind.PATTERN:
            del self._matchers[name]
        elif kind is Kind.SHARD:
            slot = key_slot(name)
            self._slots[slot].discard(name)
            if not self._slots[slot]:
                del self._slots[slot]

    @staticmethod
    def _note_end(client: Session) -> None:
        if not client.subscriptions:
            client.subscriptions = None
            client.refresh_plain()

    def close_slots(self, slots: Iterable[int]) -> None:
        """These slots are no longer served by this shard: who is subscribed to their channels is told, and is not.

        (removeChannelsInSlot in cluster.c)
        """
        for slot in slots if self._slots else ():
            for name in sorted(self._slots.get(slot, ())):
                for client in tuple(self._shard_channels[name]):
                    self.remove(client, Kind.SHARD, name)
                    client.push(confirmation(client, Kind.SHARD.farewell, name, Kind.SHARD))

    # Delivering -----------------------------------------------------------------------------------------------

    def publish(self, channel: bytes, payload: bytes) -> int:
        """Deliver a message to everybody here who wants it; returns to how many subscriptions."""
        receivers = 0
        subscribers = self._channels.get(channel)
        if subscribers is not None:
            receivers += _deliver(subscribers, (b"message", channel, payload))
        for pattern, matches in self._matchers.items():
            if matches(channel):
                receivers += _deliver(self._patterns[pattern], (b"pmessage", pattern, channel, payload))
        return receivers

    def publish_to_shard(self, channel: bytes, payload: bytes) -> int:
        """Deliver a message of a shard channel; patterns have no part in those."""
        subscribers = self._shard_channels.get(channel)
        return 0 if subscribers is None else _deliver(subscribers, (b"smessage", channel, payload))


def _deliver(subscribers: Subscribers, words: tuple[bytes, ...]) -> int:
    """Encoded once for each protocol; all receivers share the bytes."""
    encoded: dict[Encoder, bytes] = {}
    for client in subscribers:
        if client.replica is not None:
            continue  # It speaks RESP3, subscribed, and then asked for the stream of changes, which must stay whole.
        data = encoded.get(client.proto)
        if data is None:
            data = encoded[client.proto] = client.proto.push([bulk(word) for word in words])
        client.push(data)
    return len(subscribers)
