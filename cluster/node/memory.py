"""How much memory the server uses, and what for. Units: bytes.

"Used" is what Python's and C's allocators have handed out, exactly (allocator.py), without the program: interpreter,
modules and command table, some 20 MB that stand where Redis has its executable, which it does not count either. So
``maxmemory`` means what it means to Redis: data, clients, buffers. The resident set, as the kernel counts it, is
``used_memory_rss``. What data and clients need is estimated by ``sys.getsizeof``.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import attrs

from cluster.node.allocator import Allocator, resident_bytes

if TYPE_CHECKING:
    from cluster.keyspace.database import Database
    from cluster.node.server import Server

CLIENT_BYTES = 2800
"""An idle client: session, parser, socket object, and their entries in tables (measured: RSS of 3,000 of them)."""


def total_system_bytes() -> int:
    """Physical memory of the machine."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    except (ValueError, OSError):
        return 0


class MemoryMeter:
    """What one server uses; to be made when the program is loaded and before there is anything else."""

    def __init__(self) -> None:
        self.allocator = Allocator()
        self.program_bytes = self.allocator.used_bytes()
        self.startup_bytes = 0
        """What was used when the server began to serve."""
        self.peak_bytes = 0

    def used_bytes(self) -> int:
        """What is used now; notes a peak."""
        used = max(self.allocator.used_bytes() - self.program_bytes, 0)
        self.peak_bytes = max(self.peak_bytes, used)
        return used


@attrs.frozen
class AllocatorView:
    """The allocators' side, program included: in use, held, resident."""

    allocated: int
    active: int
    resident: int


@attrs.frozen
class DatabaseOverhead:
    """What the tables of one database need, beside keys and values."""

    index: int
    keys: int
    main_bytes: int
    expires_bytes: int


@attrs.frozen
class MemoryOverview:
    """The memory of one server, as INFO and MEMORY STATS break it down (getMemoryOverheadData in object.c)."""

    used: int
    peak: int
    allocator: AllocatorView
    startup: int
    backlog: int
    replicas: int
    clients: int
    client_count: int
    replica_count: int
    cluster_links: int
    databases: list[DatabaseOverhead]

    @property
    def keys(self) -> int:
        """The keys of all databases."""
        return sum(database.keys for database in self.databases)

    @property
    def overhead(self) -> int:
        """Everything that is not data; never more than there is."""
        tables = sum(database.main_bytes + database.expires_bytes for database in self.databases)
        return min(self.startup + self.backlog + self.replicas + self.clients + self.cluster_links + tables, self.used)

    @property
    def dataset(self) -> int:
        """What is left for keys and values."""
        return self.used - self.overhead

    @property
    def net_usage(self) -> int:
        """What was taken since the start; at least 1, to divide by."""
        return max(self.used - self.startup, 1)

    @property
    def dataset_percentage(self) -> float:
        """The share of the data in what was taken since the start."""
        return 100 * self.dataset / self.net_usage

    @property
    def peak_percentage(self) -> float:
        """What is used, compared with the most that ever was."""
        return 100 * self.used / self.peak


def overview(server: Server) -> MemoryOverview:
    """Look at everything that holds memory."""
    used = server.memory.used_bytes()
    from cluster.node.client_memory import usage_of

    sessions = server.sessions.values()
    replicas = [client for client in sessions if client.replica is not None]
    shared = server.feed.buffer_bytes
    # One buffer serves the backlog and all replicas: what is beyond the backlog's size is there for slow replicas.
    excess = max(shared - server.settings.repl_backlog_size, 0) if replicas else 0
    allocator = server.memory.allocator
    return MemoryOverview(
        used=used,
        peak=server.memory.peak_bytes,
        allocator=AllocatorView(used + server.memory.program_bytes, allocator.reserved_bytes, resident_bytes()),
        startup=min(server.memory.startup_bytes, used),
        backlog=shared - excess,
        replicas=excess,
        clients=sum(usage_of(client).total for client in sessions if client.replica is None),
        client_count=len(sessions) - len(replicas),
        replica_count=len(replicas),
        cluster_links=_cluster_links(server),
        databases=[_tables(database) for database in server.keyspace.databases if len(database)],
    )


def _cluster_links(server: Server) -> int:
    if server.cluster is None:
        return 0
    return sum(
        link.send_buffer_allocated_bytes
        for node in server.cluster.nodes.values()
        for link in (node.link, node.inbound_link)
        if link is not None
    )


def _tables(database: Database) -> DatabaseOverhead:
    used = list(filter(None, database.tables()))
    return DatabaseOverhead(
        index=database.index,
        keys=sum(map(len, used)),
        main_bytes=sys.getsizeof(database.slots) + sum(map(sys.getsizeof, used)),
        expires_bytes=sys.getsizeof(database.expires),
    )
