"""The local effects of the cluster engine, handed to the node that is to act on them.

Role        :class:`NodeActions` is what the node implements; :func:`perform_local` is the one place that tells effects
            apart. Used by the bus for messages and ticks, and by the CLUSTER commands for what the operator asks.
Invariants  Effects are performed at once and in order: the engine already counts on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, assert_never

from cluster.gossip.effects import (
    DeleteKeysInSlots,
    DropShardChannels,
    EmptyDatabase,
    LocalEffect,
    Log,
    LogLevel,
    PauseClients,
    PublishLocal,
    StartReplication,
    StopReplication,
    UnpauseClients,
)


class NodeActions(Protocol):
    """What the engine can make the rest of the node do. Each method says more in the effect of its name."""

    def log(self, level: LogLevel, text: str) -> None: ...

    def start_replication(self, host: str, port: int) -> None: ...

    def stop_replication(self) -> None: ...

    def pause_clients(self, until_ms: int) -> None:
        """Hold back writes until this monotonic time, for a failover."""

    def unpause_clients(self) -> None: ...

    def delete_keys_in_slots(self, slots: tuple[int, ...]) -> None: ...

    def drop_shard_channels(self, slots: tuple[int, ...]) -> None: ...

    def empty_database(self) -> None: ...

    def publish_local(self, channel: bytes, payload: bytes, *, is_sharded: bool) -> None: ...

    def config_not_saved(self, error: OSError) -> None:
        """nodes.conf cannot be written although what is to be said depends on it: the node must end, exit status 1."""


def perform_local(actions: NodeActions, effects: Iterable[LocalEffect]) -> None:
    """Carry out local effects in the order given."""
    for effect in effects:
        match effect:
            case Log(level, text):
                actions.log(level, text)
            case StartReplication(host, port):
                actions.start_replication(host, port)
            case StopReplication():
                actions.stop_replication()
            case PauseClients(until_ms):
                actions.pause_clients(until_ms)
            case UnpauseClients():
                actions.unpause_clients()
            case DeleteKeysInSlots(slots):
                actions.delete_keys_in_slots(slots)
            case DropShardChannels(slots):
                actions.drop_shard_channels(slots)
            case EmptyDatabase():
                actions.empty_database()
            case PublishLocal(channel, payload, is_sharded):
                actions.publish_local(channel, payload, is_sharded=is_sharded)
            case _:
                assert_never(effect)
