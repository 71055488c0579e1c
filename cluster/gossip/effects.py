"""What the engines want done, as values. The shell performs them; nothing here acts.

Order       Every input of the engine returns the *local* effects it caused: the shell performs them on the spot,
            before the next input. What concerns disk and network waits for ``before_sleep``, whose list reads

                local effects …, at most one SaveConfig, bus effects …

            and whose bus effects must not start before its SaveConfig is on disk: what must be durable precedes
            what is said. A vote, a new epoch or a changed slot table can therefore not leave unsaved.
Source      Redis 7.0.15: the calls that cluster.c makes into other files, and clusterBeforeSleep().
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs

from cluster.gossip.messages import Message
from cluster.gossip.state import Link


class LogLevel(enum.IntEnum):
    """Levels of redis.conf's ``loglevel``, in ascending order."""

    DEBUG = 0
    VERBOSE = 1
    NOTICE = 2
    WARNING = 3


# -- local effects: performed at once, in the order given ------------------------------------------


@attrs.frozen
class Log:
    """One line for the log, in Redis's words where Redis logs the event."""

    level: LogLevel
    text: str


@attrs.frozen
class StartReplication:
    """Become a replica of this address, or turn to it (replicationSetMaster). Replaces any link to a master."""

    host: str
    port: int


@attrs.frozen
class StopReplication:
    """Stop being a replica and keep the data: this node is promoted, or reset (replicationUnsetMaster)."""


@attrs.frozen
class PauseClients:
    """Hold back writes until ``until_ms`` (monotonic): a replica is about to take over (PAUSE_DURING_FAILOVER)."""

    until_ms: int


@attrs.frozen
class UnpauseClients:
    """End the pause of PauseClients; other pauses stay."""


@attrs.frozen
class DeleteKeysInSlots:
    """These slots now belong to another master and this node stays one: its leftover keys in them must go."""

    slots: tuple[int, ...]


@attrs.frozen
class DropShardChannels:
    """Unsubscribe shard channels of these slots (SUNSUBSCRIBE pushed to their clients): the slots left this shard."""

    slots: tuple[int, ...]


@attrs.frozen
class EmptyDatabase:
    """Delete every key of every database (a replica was reset)."""


@attrs.frozen
class PublishLocal:
    """Deliver a message that came over the bus to this node's own subscribers."""

    channel: bytes
    payload: bytes
    is_sharded: bool


LocalEffect: TypeAlias = (
    Log
    | StartReplication
    | StopReplication
    | PauseClients
    | UnpauseClients
    | DeleteKeysInSlots
    | DropShardChannels
    | EmptyDatabase
    | PublishLocal
)

# -- durability ------------------------------------------------------------------------------------


@attrs.frozen
class SaveConfig:
    """Write nodes.conf as the state is now; with ``fsync`` it must have reached the disk before what follows."""

    fsync: bool


# -- bus effects: performed in order, after the SaveConfig of the same list ------------------------


@attrs.frozen
class OpenLink:
    """Connect ``link`` to this address, then call ``link_connected`` or ``link_failed``."""

    link: Link
    host: str
    port: int


@attrs.frozen
class CloseLink:
    """Close the socket of ``link``. The engine has already forgotten it and wants no ``link_closed`` for it."""

    link: Link


@attrs.frozen
class Send:
    """Queue ``message`` on every one of ``links``, connected already or still connecting. Encode it once."""

    links: tuple[Link, ...]
    message: Message


BusEffect: TypeAlias = OpenLink | CloseLink | Send

Effect: TypeAlias = LocalEffect | SaveConfig | BusEffect
