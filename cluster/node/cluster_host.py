"""Cluster mode at start, and what the cluster engine asks of the rest of the node and makes it do.

Order of a start (clusterInit): lock nodes.conf, load it or invent a name, bind the bus port; the bus itself stays
silent until the data is loaded. Units: monotonic ms unless the name says otherwise.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from cluster import clock
from cluster.failover.engine import ClusterEngine
from cluster.gossip.bus import ClusterBus, bind_listeners
from cluster.gossip.effects import LogLevel
from cluster.gossip.nodes_conf import NodesConfFile
from cluster.gossip.state import FOREVER_MS, new_state
from cluster.slots.hashing import SLOT_COUNT

if TYPE_CHECKING:
    from cluster.node.server import Server

_LOG_METHODS = {
    LogLevel.DEBUG: "debug",
    LogLevel.VERBOSE: "verbose",
    LogLevel.NOTICE: "notice",
    LogLevel.WARNING: "warning",
}


class ClusterHost:
    """Implements NodeActions and NodeFacts for one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    # Facts --------------------------------------------------------------------------------------------------

    def replication_offset(self) -> int:
        state = self._server.replication_state
        return state.replica_offset if state.is_replica else state.master_repl_offset

    def is_replicating(self) -> bool:
        return self._server.replication_state.is_replica

    def master_link_age_ms(self, now_ms: int) -> int:
        state = self._server.replication_state
        if state.link_up and state.master is not None:
            return now_ms - state.master.last_interaction_ms
        return FOREVER_MS if state.down_since_ms is None else now_ms - state.down_since_ms

    def is_in_sync(self) -> bool:
        return self._server.replication_state.link_up

    def keys_in_slot(self, slot: int) -> int:
        return len(self._server.keyspace.databases[0].slots[slot])

    def is_database_empty(self) -> bool:
        return not any(self._server.keyspace.databases[0].slots)

    def populated_slots(self) -> list[int]:
        slots = self._server.keyspace.databases[0].slots
        return [slot for slot in range(SLOT_COUNT) if slots[slot]]

    # Actions ------------------------------------------------------------------------------------------------

    def log(self, level: LogLevel, text: str) -> None:
        getattr(self._server.log, _LOG_METHODS[level])(text)

    def start_replication(self, host: str, port: int) -> None:
        self._server.replication.set_master(host, port)
        self._server.refresh_plain()

    def stop_replication(self) -> None:
        self._server.replication.unset_master()
        self._server.refresh_plain()

    def pause_clients(self, until_ms: int) -> None:
        self._server.pauses.pause_for_failover(until_ms)

    def unpause_clients(self) -> None:
        self._server.pauses.pause_for_failover(None)

    def delete_keys_in_slots(self, slots: tuple[int, ...]) -> None:
        """Keys of slots that were lost to another master; replicas are told key by key (delKeysInSlot)."""
        server = self._server
        database = server.keyspace.databases[0]
        for slot in slots:
            for key in database.keys_in_slot(slot):
                server.keyspace.propagate(0, [b"DEL", key])
                database.delete(key, slot)
                database.notify("g", b"del", key)
        if server.keyspace.effects:
            server.dispatcher.end_unit()

    def drop_shard_channels(self, slots: tuple[int, ...]) -> None:
        self._server.channels.close_slots(slots)

    def empty_database(self) -> None:
        self._server.tracking.all_keys_gone()
        self._server.keyspace.flush_all()

    def publish_local(self, channel: bytes, payload: bytes, *, is_sharded: bool) -> None:
        channels = self._server.channels
        deliver = channels.publish_to_shard if is_sharded else channels.publish
        deliver(channel, payload)

    def config_not_saved(self, error: OSError) -> None:
        self._server.exit_code = 1
        self._server.request_exit()


async def start_cluster(server: Server, nursery: trio.Nursery) -> None:
    """Become a cluster node. Raises ConfigError, in Redis's words, when nodes.conf or the bus port cannot be had."""
    settings = server.settings
    nodes_conf = NodesConfFile(os.path.join(settings.dir, settings.cluster_config_file))
    nodes_conf.lock()
    now_ms = clock.monotonic_ms()
    loaded = nodes_conf.load(now_ms)
    if loaded is None:
        state = new_state(f"{server.rng.getrandbits(160):040x}", now_ms)
        server.log.notice(f"No cluster configuration found, I'm {state.myself.node_id}")
    else:
        state = loaded.state
        for warning in loaded.warnings:
            server.log.warning(warning)
        server.log.notice(f"Node configuration loaded, I'm {state.myself.node_id}")
    listeners = bind_listeners(settings)
    host = ClusterHost(server)
    engine = ClusterEngine(state, settings, host, server.rng, now_ms, clock.unix_ms())
    server.cluster = state
    server.engine = engine
    server.bus = ClusterBus(engine, settings, nodes_conf, host, listeners)
    if loaded is None:
        server.bus.save_config(fsync=True)
    await nursery.start(server.bus.run)
