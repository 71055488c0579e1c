"""MEMORY: what keys, clients and the process need (memoryCommand in object.c).

Sizes are those of Python's objects, as ``sys.getsizeof`` tells them; Redis's would be other numbers for the same data.
Units: bytes.
"""

from __future__ import annotations

import sys

from cluster import errors
from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.keyspace.values import memory_bytes
from cluster.resp.encode import OK, bulk, integer
from cluster.slots.hashing import key_slot

_DEFAULT_SAMPLES = 5  # OBJ_COMPUTE_SIZE_DEF_SAMPLES
_ALMOST_EMPTY_BYTES = 5 << 20
_BIG_CLIENT_BYTES = 200 << 10
_BIG_REPLICA_BYTES = 10 << 20


@command("memory|usage")
def memory_usage(client: Session, argv: list[bytes]) -> bytes:
    """MEMORY USAGE key [SAMPLES count]: the key, its value, and its share of the slot's table."""
    samples = _DEFAULT_SAMPLES
    rest = iter(argv[3:])
    for word in rest:
        argument = next(rest, None)
        if word.upper() != b"SAMPLES" or argument is None:
            raise CommandError(errors.SYNTAX)
        samples = parse_integer(argument)
        if samples < 0:
            raise CommandError(errors.SYNTAX)
    key = argv[2]
    table = client.db.slots[key_slot(key)]
    value = table.get(key)
    if value is None:
        return client.proto.null
    return integer(sys.getsizeof(key) + sys.getsizeof(table) // len(table) + memory_bytes(value, samples))


@command("memory|stats")
def memory_stats(client: Session, argv: list[bytes]) -> bytes:
    memory = client.server.memory_overview()
    allocator = memory.allocator
    proto = client.proto
    fields: dict[bytes, int | float | bytes] = {
        b"peak.allocated": memory.peak,
        b"total.allocated": memory.used,
        b"startup.allocated": memory.startup,
        b"replication.backlog": memory.backlog,
        b"clients.slaves": memory.replicas,
        b"clients.normal": memory.clients,
        b"cluster.links": memory.cluster_links,
        b"aof.buffer": 0,
        b"lua.caches": client.server.scripting.cached_bytes(),
        b"functions.caches": client.server.scripting.library_bytes(),
    }
    for database in memory.databases:
        tables = {
            b"overhead.hashtable.main": database.main_bytes,
            b"overhead.hashtable.expires": database.expires_bytes,
            b"overhead.hashtable.slot-to-keys": 0,
        }
        parts = [part for name, size in tables.items() for part in (bulk(name), integer(size))]
        fields[b"db.%d" % database.index] = proto.map(parts)
    fields |= {
        b"overhead.total": memory.overhead,
        b"keys.count": memory.keys,
        b"keys.bytes-per-key": memory.net_usage // memory.keys if memory.keys else 0,
        b"dataset.bytes": memory.dataset,
        b"dataset.percentage": memory.dataset_percentage,
        b"peak.percentage": memory.peak_percentage,
        b"allocator.allocated": allocator.allocated,
        b"allocator.active": allocator.active,
        b"allocator.resident": allocator.resident,
        b"allocator-fragmentation.ratio": allocator.active / allocator.allocated,
        b"allocator-fragmentation.bytes": allocator.active - allocator.allocated,
        b"allocator-rss.ratio": allocator.resident / allocator.active,
        b"allocator-rss.bytes": allocator.resident - allocator.active,
        b"rss-overhead.ratio": 1.0,
        b"rss-overhead.bytes": 0,
        b"fragmentation": allocator.resident / max(memory.used, 1),
        b"fragmentation.bytes": allocator.resident - memory.used,
    }
    encoded = []
    for name, value in fields.items():
        encoded.append(bulk(name))
        if isinstance(value, float):
            encoded.append(proto.double(value))
        else:
            encoded.append(value if isinstance(value, bytes) else integer(value))
    return proto.map(encoded)


_EMPTY_REPORT = (
    b"Hi Sam, this instance is empty or is using very little memory, my issues detector can't be used in these "
    b"conditions. Please, leave for your mission on Earth and fill it with some data. The new Sam and I will be back "
    b"to our programming as soon as I finished rebooting.\n"
)
_SOUND_REPORT = (
    b"Hi Sam, I can't find any memory issue in your instance. I can only account for what occurs on this base.\n"
)
_BIG_PEAK = (
    b" * Peak memory: this instance has once used more than 150% of the memory that it uses now. Python seldom gives "
    b"memory back to the system in the middle of a run; it will be used again as data comes in. MEMORY PURGE may "
    b"release a part of it, a restart all.\n\n"
)
_BIG_REPLICAS = (
    b" * Big replica buffers: more than 10 MB wait to be sent to each replica, on average. One of them is too slow, or "
    b"the network between is. Look for it in INFO replication (lag) and in CLIENT LIST TYPE replica (omem).\n\n"
)
_BIG_CLIENTS = (
    b" * Big client buffers: each client holds more than 200 kB, on average. Some may not read their replies as fast "
    b"as they ask for them, or pipeline very long sequences. CLIENT LIST shows who (omem, qbuf).\n\n"
)


@command("memory|doctor")
def memory_doctor(client: Session, argv: list[bytes]) -> bytes:
    memory = client.server.memory_overview()
    proto = client.proto
    if memory.used < _ALMOST_EMPTY_BYTES:
        return proto.verbatim(_EMPTY_REPORT)
    findings = {
        _BIG_PEAK: memory.peak > 1.5 * memory.used,
        _BIG_REPLICAS: memory.replica_count and memory.replicas / memory.replica_count > _BIG_REPLICA_BYTES,
        _BIG_CLIENTS: memory.client_count and memory.clients / memory.client_count > _BIG_CLIENT_BYTES,
    }
    found = b"".join(text for text, holds in findings.items() if holds)
    if not found:
        return proto.verbatim(_SOUND_REPORT)
    return proto.verbatim(
        b"Sam, I detected a few issues in this Redis instance memory implants:\n\n"
        + found
        + b"I'm here to keep you safe, Sam. I want to help you.\n"
    )


@command("memory|malloc-stats")
def memory_malloc_stats(client: Session, argv: list[bytes]) -> bytes:
    return bulk(b"Stats not supported for the current allocator")


@command("memory|purge")
def memory_purge(client: Session, argv: list[bytes]) -> bytes:
    """Collect cycles and give back to the system what the allocators hold without need. Takes its time."""
    client.server.collector.collect_all()
    client.server.memory.allocator.trim()
    return OK


@command("memory|help")
def memory_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"MEMORY",
        [
            b"DOCTOR",
            b"    Return memory problems reports.",
            b"MALLOC-STATS",
            b"    Return internal statistics report from the memory allocator.",
            b"PURGE",
            b"    Attempt to purge dirty pages for reclamation by the allocator.",
            b"STATS",
            b"    Return information about the memory usage of the server.",
            b"USAGE <key> [SAMPLES <count>]",
            b"    Return memory in bytes used by <key> and its value. Nested values are",
            b"    sampled up to <count> times (default: 5, 0 means sample all).",
        ],
    )
