"""INFO: every section and field of Redis 7.0, in its order (genRedisInfoString in server.c).

A section is a function that gives (field, value) pairs; the table at the end names them all. Values are measured; a
field about something that does not exist here (allocator statistics, threads) has the value Redis would show for
"none". Units are in the fields' names, as in Redis.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cluster import __version__, clock
from cluster.commands.channels import Kind
from cluster.commands.latency import percentile_us
from cluster.keyspace.reclaim import RECLAIMER
from cluster.node import dispatch
from cluster.node.config_file import REDIS_VERSION
from cluster.node.memory import overview, total_system_bytes
from cluster.persistence.child import ChildKind
from cluster.replication.info import info_replication

if TYPE_CHECKING:
    from cluster.node.server import Server

Field = tuple[str, object]
Section = Callable[["Server"], "Iterator[Field]"]


def human(size: int) -> str:
    """A size with two decimals and a unit (bytesToHuman)."""
    if size < 1024:
        return f"{size}B"
    for power, unit in enumerate("KMGTP", start=1):
        if size < 1024 ** (power + 1):
            return f"{size / 1024**power:.2f}{unit}"
    return f"{size}B"


def _server(server: Server) -> Iterator[Field]:
    uptime = (clock.monotonic_ms() - server.started_ms) // 1000
    settings = server.settings
    yield "redis_version", REDIS_VERSION
    yield "redis_git_sha1", "00000000"
    yield "redis_git_dirty", 0
    yield "redis_build_id", "0"
    yield "redis_mode", "cluster" if server.cluster is not None else "standalone"
    yield "os", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "arch_bits", 64 if sys.maxsize > 2**32 else 32
    yield "monotonic_clock", "POSIX clock_gettime"
    yield "multiplexing_api", "epoll" if sys.platform == "linux" else "kqueue"
    yield "atomicvar_api", "python-gil"
    yield "gcc_version", "0.0.0"
    yield "process_id", os.getpid()
    yield "process_supervised", server.supervisor.kind
    yield "run_id", server.run_id
    yield "tcp_port", settings.port
    yield "server_time_usec", clock.unix_us()
    yield "uptime_in_seconds", uptime
    yield "uptime_in_days", uptime // 86400
    yield "hz", settings.hz
    yield "configured_hz", settings.hz
    yield "lru_clock", (clock.unix_ms() // 1000) & 0xFFFFFF
    yield "executable", os.path.abspath(sys.argv[0])
    yield "config_file", server.config.path or ""
    yield "io_threads_active", 0
    if server.stopping.in_progress:
        yield "shutdown_in_milliseconds", server.stopping.remaining_ms()
    yield "hashslot_version", __version__
    yield "hashslot_build", "plain" if str(dispatch.__file__).endswith(".py") else "compiled"
    yield "python_version", platform.python_version()


def _clients(server: Server) -> Iterator[Field]:
    clients = [client for client in server.sessions.values() if client.replica is None]
    parked = sum(client.is_blocked() for client in clients)
    timed = sum(client.parked is not None and client.parked.deadline_ms is not None for client in clients)
    yield "connected_clients", len(clients)
    yield "cluster_connections", server.bus.connection_count() if server.bus is not None else 0
    yield "maxclients", server.settings.maxclients
    yield "client_recent_max_input_buffer", max((client.parser.buffered_bytes for client in clients), default=0)
    yield "client_recent_max_output_buffer", max((client.output_bytes() for client in clients), default=0)
    yield "blocked_clients", parked
    yield "tracking_clients", len(server.tracking.clients)
    yield "clients_in_timeout_table", timed


def _memory(server: Server) -> Iterator[Field]:
    memory = overview(server)
    used, peak, startup, allocator = memory.used, memory.peak, memory.startup, memory.allocator
    total = total_system_bytes()
    maximum = server.settings.maxmemory
    yield "used_memory", used
    yield "used_memory_human", human(used)
    yield "used_memory_rss", allocator.resident
    yield "used_memory_rss_human", human(allocator.resident)
    yield "used_memory_peak", peak
    yield "used_memory_peak_human", human(peak)
    yield "used_memory_peak_perc", f"{memory.peak_percentage:.2f}%"
    yield "used_memory_overhead", memory.overhead
    yield "used_memory_startup", startup
    yield "used_memory_dataset", memory.dataset
    yield "used_memory_dataset_perc", f"{memory.dataset_percentage:.2f}%"
    yield "allocator_allocated", allocator.allocated
    yield "allocator_active", allocator.active
    yield "allocator_resident", allocator.resident
    yield "total_system_memory", total
    yield "total_system_memory_human", human(total)
    scripting = server.scripting
    eval_vm, function_vm = scripting.eval_bytes(), scripting.functions.used_bytes()
    scripts, libraries = scripting.cached_bytes(), scripting.library_bytes()
    yield "used_memory_lua", eval_vm
    yield "used_memory_vm_eval", eval_vm
    yield "used_memory_lua_human", human(eval_vm)
    yield "used_memory_scripts_eval", scripts
    yield "number_of_cached_scripts", len(scripting.cache)
    yield "number_of_functions", len(scripting.functions.current.functions)
    yield "number_of_libraries", len(scripting.functions.current.libraries)
    yield "used_memory_vm_functions", function_vm
    yield "used_memory_vm_total", eval_vm + function_vm
    yield "used_memory_vm_total_human", human(eval_vm + function_vm)
    yield "used_memory_functions", libraries
    yield "used_memory_scripts", scripts + libraries
    yield "used_memory_scripts_human", human(scripts + libraries)
    yield "maxmemory", maximum
    yield "maxmemory_human", human(maximum)
    yield "maxmemory_policy", server.settings.maxmemory_policy
    yield "allocator_frag_ratio", f"{allocator.active / allocator.allocated:.2f}"
    yield "allocator_frag_bytes", allocator.active - allocator.allocated
    yield "allocator_rss_ratio", f"{allocator.resident / allocator.active:.2f}"
    yield "allocator_rss_bytes", allocator.resident - allocator.active
    yield "rss_overhead_ratio", "1.00"
    yield "rss_overhead_bytes", 0
    yield "mem_fragmentation_ratio", f"{allocator.resident / max(used, 1):.2f}"
    yield "mem_fragmentation_bytes", allocator.resident - used
    yield "mem_not_counted_for_evict", server.memory_limit.not_counted_bytes()
    yield "mem_replication_backlog", memory.backlog
    yield "mem_total_replication_buffers", memory.backlog + memory.replicas
    yield "mem_clients_slaves", memory.replicas
    yield "mem_clients_normal", memory.clients
    yield "mem_cluster_links", memory.cluster_links
    yield "mem_aof_buffer", server.aof.buffer_bytes
    yield "mem_allocator", "python"
    yield "active_defrag_running", 0
    yield "lazyfree_pending_objects", RECLAIMER.pending_objects
    yield "lazyfreed_objects", RECLAIMER.freed_objects


def _persistence(server: Server) -> Iterator[Field]:
    saving = server.saving
    saver = saving.saver
    child = saver.child
    disk_child = child if child is not None and child.kind is not ChildKind.AOF else None
    now_s = clock.unix_ms() // 1000
    yield "loading", int(server.loading)
    yield "async_loading", int(saving.progress is not None and saving.progress.is_async)
    yield "current_cow_peak", child.cow_peak_bytes if child else 0
    yield "current_cow_size", child.cow_bytes if child else 0
    measured_ms = child.cow_updated_ms if child else 0
    yield "current_cow_size_age", (clock.monotonic_ms() - measured_ms) // 1000 if measured_ms else 0
    done, total = (child.keys_processed, child.keys_total) if child else (0, 0)
    yield "current_fork_perc", f"{100 * done / total if total else 0:.2f}"
    yield "current_save_keys_processed", done
    yield "current_save_keys_total", total
    yield "rdb_changes_since_last_save", server.keyspace.dirty
    yield "rdb_bgsave_in_progress", int(disk_child is not None)
    yield "rdb_last_save_time", saver.last_save_unix_s
    yield "rdb_last_bgsave_status", "ok" if saver.last_bgsave_ok else "err"
    yield "rdb_last_bgsave_time_sec", saver.last_bgsave_duration_s
    yield "rdb_current_bgsave_time_sec", now_s - saver.bgsave_started_unix_s if disk_child is not None else -1
    yield "rdb_saves", saver.saves
    yield "rdb_last_cow_size", saver.last_cow_bytes
    yield "rdb_last_load_keys_expired", saving.last_load.keys_expired
    yield "rdb_last_load_keys_loaded", saving.last_load.keys_loaded
    aof = server.aof
    rewrites = aof.rewrites
    yield "aof_enabled", int(aof.wants_effects)
    yield "aof_rewrite_in_progress", int(aof.rewrites.is_running)
    yield "aof_rewrite_scheduled", int(rewrites.scheduled)
    yield "aof_last_rewrite_time_sec", rewrites.last_duration_s
    yield "aof_current_rewrite_time_sec", now_s - rewrites.started_unix_s if aof.rewrites.is_running else -1
    yield "aof_last_bgrewrite_status", "ok" if rewrites.last_ok else "err"
    yield "aof_rewrites", rewrites.count
    yield "aof_rewrites_consecutive_failures", rewrites.consecutive_failures
    yield "aof_last_write_status", "ok" if aof.last_write_ok else "err"
    yield "aof_last_cow_size", saver.last_aof_cow_bytes
    yield "module_fork_in_progress", 0
    yield "module_fork_last_cow_size", 0
    if server.settings.appendonly:
        yield "aof_current_size", aof.current_size
        yield "aof_base_size", aof.rewrite_base_size
        yield "aof_pending_rewrite", int(rewrites.scheduled)
        yield "aof_buffer_length", aof.buffer_bytes
        yield "aof_pending_bio_fsync", int(aof.sync_in_progress)
        yield "aof_delayed_fsync", aof.delayed_syncs
    if saving.progress is not None:
        progress = saving.progress
        percent = 100 * progress.loaded_bytes / progress.total_bytes if progress.total_bytes else 0.0
        yield "loading_start_time", progress.started_unix_s
        yield "loading_total_bytes", progress.total_bytes
        yield "loading_rdb_used_mem", 0
        yield "loading_loaded_bytes", progress.loaded_bytes
        yield "loading_loaded_perc", f"{percent:.2f}"
        yield "loading_eta_seconds", progress.eta_seconds()


def _stats(server: Server) -> Iterator[Field]:
    statistics, keyspace, meters = server.statistics, server.keyspace, server.meters
    replication = server.replication
    yield "total_connections_received", statistics.connections_received
    yield "total_commands_processed", statistics.commands
    yield "instantaneous_ops_per_sec", int(meters["commands"].per_second())
    yield "total_net_input_bytes", statistics.net_input_bytes
    yield "total_net_output_bytes", statistics.net_output_bytes
    yield "total_net_repl_input_bytes", statistics.net_repl_input_bytes
    yield "total_net_repl_output_bytes", statistics.net_repl_output_bytes
    yield "instantaneous_input_kbps", f"{meters['input'].per_second() / 1024:.2f}"
    yield "instantaneous_output_kbps", f"{meters['output'].per_second() / 1024:.2f}"
    yield "instantaneous_input_repl_kbps", f"{meters['input_repl'].per_second() / 1024:.2f}"
    yield "instantaneous_output_repl_kbps", f"{meters['output_repl'].per_second() / 1024:.2f}"
    yield "rejected_connections", statistics.rejected_connections
    yield "sync_full", replication.full_sync.count
    yield "sync_partial_ok", replication.sync_partial_ok
    yield "sync_partial_err", replication.sync_partial_err
    yield "expired_keys", keyspace.expired_keys
    yield "expired_stale_perc", "0.00"
    yield "expired_time_cap_reached_count", statistics.expired_time_cap_reached
    yield "expire_cycle_cpu_milliseconds", statistics.expire_cycle_us // 1000
    yield "evicted_keys", keyspace.evicted_keys
    yield "evicted_clients", statistics.evicted_clients
    current_us = server.memory_limit.current_exceeded_us()
    yield "total_eviction_exceeded_time", (server.memory_limit.exceeded_us + current_us) // 1000
    yield "current_eviction_exceeded_time", current_us // 1000
    yield "keyspace_hits", keyspace.hits
    yield "keyspace_misses", keyspace.misses
    subscribers = server.channels.subscribers
    yield "pubsub_channels", len(subscribers[Kind.CHANNEL])
    yield "pubsub_patterns", len(subscribers[Kind.PATTERN])
    yield "pubsubshard_channels", len(subscribers[Kind.SHARD])
    yield "latest_fork_usec", server.saving.saver.last_fork_us
    yield "total_forks", server.saving.saver.total_forks
    yield "migrate_cached_sockets", len(server.migrate_connections)
    yield "slave_expires_tracked_keys", len(server.keyspace.own_expiries)
    for field in ("hits", "misses", "key_hits", "key_misses"):
        yield f"active_defrag_{field}", 0
    yield "total_active_defrag_time", 0
    yield "current_active_defrag_time", 0
    yield "tracking_total_keys", len(server.tracking.keys)
    yield "tracking_total_items", server.tracking.item_count
    yield "tracking_total_prefixes", len(server.tracking.prefixes)
    yield "unexpected_error_replies", statistics.internal_errors
    yield "total_error_replies", statistics.error_replies
    yield "dump_payload_sanitizations", statistics.dump_payload_sanitizations
    yield "total_reads_processed", statistics.reads_processed
    yield "total_writes_processed", statistics.writes_processed
    yield "io_threaded_reads_processed", 0
    yield "io_threaded_writes_processed", 0
    yield "reply_buffer_shrinks", 0
    yield "reply_buffer_expands", 0


def _replication(server: Server) -> Iterator[Field]:
    server.replication_host.notice_end_of_link()
    yield from info_replication(server.replication_state, server.feed, server.settings, clock.monotonic_ms())


def _cpu(server: Server) -> Iterator[Field]:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield "used_cpu_sys", f"{own.ru_stime:.6f}"
    yield "used_cpu_user", f"{own.ru_utime:.6f}"
    yield "used_cpu_sys_children", f"{children.ru_stime:.6f}"
    yield "used_cpu_user_children", f"{children.ru_utime:.6f}"
    yield "used_cpu_sys_main_thread", f"{own.ru_stime:.6f}"
    yield "used_cpu_user_main_thread", f"{own.ru_utime:.6f}"


def _modules(server: Server) -> Iterator[Field]:
    yield from ()


def _command_stats(server: Server) -> Iterator[Field]:
    for row in server.commands.all_rows():
        if row.calls or row.rejected_calls or row.failed_calls:
            each = row.usec / row.calls if row.calls else 0.0
            yield (
                f"cmdstat_{row.name.decode()}",
                f"calls={row.calls},usec={row.usec},usec_per_call={each:.2f},rejected_calls={row.rejected_calls},"
                f"failed_calls={row.failed_calls}",
            )


def _error_stats(server: Server) -> Iterator[Field]:
    for code, count in sorted(server.statistics.errors_by_code.items()):
        yield f"errorstat_{code.decode('latin-1')}", f"count={count}"


def _latency_stats(server: Server) -> Iterator[Field]:
    percentiles = server.settings.latency_tracking_info_percentiles
    for row in server.commands.all_rows():
        if any(row.latencies):
            shares = [f"p{share:.6f}".rstrip("0").rstrip(".") for share in percentiles]
            values = [percentile_us(row.latencies, share) for share in percentiles]
            pairs = (f"{share}={value:.3f}" for share, value in zip(shares, values, strict=True))
            yield f"latency_percentiles_usec_{row.name.decode()}", ",".join(pairs)


def _cluster(server: Server) -> Iterator[Field]:
    yield "cluster_enabled", int(server.cluster is not None)


def _keyspace(server: Server) -> Iterator[Field]:
    for database in server.keyspace.databases:
        count = len(database)
        if count:
            yield f"db{database.index}", f"keys={count},expires={len(database.expires)},avg_ttl={database.avg_ttl_ms}"


SECTIONS: dict[bytes, tuple[str, Section]] = {
    b"server": ("Server", _server),
    b"clients": ("Clients", _clients),
    b"memory": ("Memory", _memory),
    b"persistence": ("Persistence", _persistence),
    b"stats": ("Stats", _stats),
    b"replication": ("Replication", _replication),
    b"cpu": ("CPU", _cpu),
    b"modules": ("Modules", _modules),
    b"commandstats": ("Commandstats", _command_stats),
    b"errorstats": ("Errorstats", _error_stats),
    b"latencystats": ("Latencystats", _latency_stats),
    b"cluster": ("Cluster", _cluster),
    b"keyspace": ("Keyspace", _keyspace),
}
_NOT_DEFAULT = frozenset({b"commandstats", b"latencystats"})


def info_text(server: Server, wanted: set[bytes]) -> bytes:
    """The text of the named sections, in the order of the table, whatever the order they were asked in."""
    sections = set(wanted)
    if sections & {b"all", b"everything"}:
        sections |= set(SECTIONS)
    if not sections or b"default" in sections:
        sections |= set(SECTIONS) - _NOT_DEFAULT
    parts = dict.fromkeys(name for name in SECTIONS if name in sections)
    # What the other sections need, text as they are, is not what is asked for.
    for name in sorted(parts, key=lambda name: name != b"memory"):
        title, fields = SECTIONS[name]
        parts[name] = f"# {title}\r\n" + "".join([f"{field}:{value}\r\n" for field, value in fields(server)])
    return "\r\n".join(filter(None, parts.values())).encode("utf-8", "surrogateescape")
