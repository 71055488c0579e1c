"""Every redis.conf directive of Redis 7.0.15 as one typed, live record.

Role        One ``Settings`` object per process. Everybody reads its plain attributes; only cluster.node.config writes
            them (and replication ``replicaof``, when the REPLICAOF command changes it).
Names       The directive's modern name with ``-`` as ``_``. Old spellings (``slave-*``, ``*-ziplist-*``) exist only in
            cluster.node.directives. The defaults here are the defaults of CONFIG GET and of CONFIG REWRITE.
Values      yes/no: bool. Enumerations: str, in the spelling CONFIG GET shows. Text: str, "" when unset; bytes that are
            not UTF-8 survive as surrogates: ``text.encode("utf-8", "surrogateescape")`` gives back what was written.
            Containers are replaced, never changed in place: a reader may keep the one it got.
Source      config.c (``static_configs``), ``initServerConfig`` in server.c.

The comment behind each field is its entry in docs/configuration.md; ``# --- title`` lines are its headings.
"""

from __future__ import annotations

from typing import Final

import attrs

# Classes of keyspace events (notify_keyspace_events), with the bits of server.h.
NOTIFY_KEYSPACE: Final = 1 << 0  # K: publish to __keyspace@<db>__:<key>
NOTIFY_KEYEVENT: Final = 1 << 1  # E: publish to __keyevent@<db>__:<event>
NOTIFY_GENERIC: Final = 1 << 2  # g
NOTIFY_STRING: Final = 1 << 3  # $
NOTIFY_LIST: Final = 1 << 4  # l
NOTIFY_SET: Final = 1 << 5  # s
NOTIFY_HASH: Final = 1 << 6  # h
NOTIFY_ZSET: Final = 1 << 7  # z
NOTIFY_EXPIRED: Final = 1 << 8  # x
NOTIFY_EVICTED: Final = 1 << 9  # e
NOTIFY_STREAM: Final = 1 << 10  # t
NOTIFY_KEY_MISS: Final = 1 << 11  # m: not part of A
NOTIFY_MODULE: Final = 1 << 13  # d
NOTIFY_NEW: Final = 1 << 14  # n: not part of A
NOTIFY_ALL: Final = 0b10_0111_1111_1100  # A: g$lshzxetd


@attrs.frozen
class SavePoint:
    """Snapshot when ``changes`` writes have happened and ``seconds`` have passed since the last one."""

    seconds: int
    changes: int


@attrs.frozen
class OutputBufferLimit:
    """Disconnect above ``hard_bytes`` at once, or above ``soft_bytes`` for ``soft_seconds``; 0: no limit."""

    hard_bytes: int
    soft_bytes: int
    soft_seconds: int


@attrs.frozen
class MasterAddress:
    """The master that ``replicaof`` names."""

    host: str
    port: int


def _default_output_buffer_limits() -> dict[str, OutputBufferLimit]:
    return {
        "normal": OutputBufferLimit(0, 0, 0),
        "replica": OutputBufferLimit(256 << 20, 64 << 20, 60),
        "pubsub": OutputBufferLimit(32 << 20, 8 << 20, 60),
    }


# No generated __repr__ (it would print passwords) and no __eq__: both would double what this class costs at import.
@attrs.define(eq=False, repr=False)
class Settings:
    """The configuration in force, one attribute per directive."""

    # --- Network
    bind: list[str] = attrs.field(
        factory=lambda: ["*", "-::*"]
    )  # addresses to listen on; `-` before one: may be missing
    bind_source_addr: str = ""  # address that outgoing connections are made from
    port: int = 6379  # TCP port for clients; 0: none
    protected_mode: bool = True  # refuse clients from other machines while there is no password
    tcp_backlog: int = 511  # length of the listen queue
    unixsocket: str = ""  # path of a Unix socket for clients
    unixsocketperm: int = 0  # octal permissions of that socket; 0: as the umask says
    timeout: int = 0  # seconds after which an idle client is disconnected; 0: never
    tcp_keepalive: int = 300  # seconds between TCP keepalive probes; 0: none
    socket_mark_id: int = 0  # mark of the listening sockets for policy routing (Linux)
    maxclients: int = 10_000  # most clients connected at once, the cluster bus included

    # --- TLS
    tls_port: int = 0  # TCP port for TLS clients; 0: none, and nothing else is accepted
    tls_cert_file: str = ""  # server certificate (PEM)
    tls_key_file: str = ""  # its private key (PEM)
    tls_key_file_pass: str = ""  # passphrase of that key
    tls_client_cert_file: str = ""  # certificate for outgoing connections
    tls_client_key_file: str = ""  # its private key
    tls_client_key_file_pass: str = ""  # passphrase of that key
    tls_dh_params_file: str = ""  # Diffie-Hellman parameters for old OpenSSL
    tls_ca_cert_file: str = ""  # file of accepted authorities
    tls_ca_cert_dir: str = ""  # directory of accepted authorities
    tls_auth_clients: str = "yes"  # whether clients must show a certificate
    tls_replication: bool = False  # TLS on the link to the master; `yes` is refused
    tls_cluster: bool = False  # TLS on the cluster bus; `yes` is refused
    tls_protocols: str = ""  # accepted protocol versions
    tls_ciphers: str = ""  # ciphers up to TLS 1.2
    tls_ciphersuites: str = ""  # cipher suites of TLS 1.3
    tls_prefer_server_ciphers: bool = False  # the server's order of ciphers wins
    tls_session_caching: bool = True  # let clients resume sessions
    tls_session_cache_size: int = 20_480  # sessions kept
    tls_session_cache_timeout: int = 300  # seconds a session is kept

    # --- General
    daemonize: bool = False  # run in the background
    supervised: str = "no"  # tell upstart or systemd when the server is ready
    pidfile: str = ""  # file for the process id; when daemonized and unset, /var/run/redis.pid
    loglevel: str = "notice"  # least severe level that is logged
    logfile: str = ""  # file to log to, opened for each line; empty: standard output
    syslog_enabled: bool = False  # log to the system logger as well
    syslog_ident: str = "redis"  # name shown there
    syslog_facility: str = "local0"  # facility used there
    crash_log_enabled: bool = True  # log a report when SIGABRT ends the process
    crash_memcheck_enabled: bool = True  # test the memory as part of that report (here it has no such part)
    use_exit_on_panic: bool = False  # exit instead of abort after a panic
    databases: int = 16  # number of databases
    always_show_logo: bool = False  # draw the logo also when the log is not a terminal
    set_proc_title: bool = True  # show the title below in ps
    proc_title_template: str = "{title} {listen-addr} {server-mode}"  # what ps shows; title: the program
    disable_thp: bool = True  # turn transparent huge pages off for the process
    ignore_warnings: str = ""  # names of start-up warnings that are not fatal (here none is)
    enable_protected_configs: str = "no"  # who may change dir and dbfilename: no, yes, local
    enable_debug_command: str = "no"  # who may use DEBUG: no, yes, local
    enable_module_command: str = "no"  # who may use MODULE: no, yes, local
    loadmodule: list[list[bytes]] = attrs.field(factory=list)  # modules asked for: path, then arguments
    rename_command: list[tuple[bytes, bytes]] = attrs.field(factory=list)  # old and new names; empty: disabled
    shutdown_timeout: int = 10  # seconds a shutdown waits for replicas to catch up
    shutdown_on_sigint: tuple[str, ...] = ()  # save, nosave, now, force; empty: as the save points say
    shutdown_on_sigterm: tuple[str, ...] = ()  # the same for SIGTERM

    # --- Snapshots
    save: list[SavePoint] = attrs.field(
        factory=lambda: [SavePoint(3600, 1), SavePoint(300, 100), SavePoint(60, 10_000)]
    )  # when to snapshot: pairs of seconds and changes
    stop_writes_on_bgsave_error: bool = True  # refuse writes after a failed snapshot
    rdbcompression: bool = True  # compress strings in snapshots
    rdbchecksum: bool = True  # CRC64 at the end of snapshots
    sanitize_dump_payload: str = "no"  # check the inside of loaded values: no, yes, clients (here always)
    dbfilename: str = "dump.rdb"  # file name of the snapshot, in dir
    rdb_del_sync_files: bool = False  # remove snapshots made only for replication
    rdb_save_incremental_fsync: bool = True  # fsync every 4 MB while saving
    rdb_key_save_delay: int = 0  # microseconds slept per saved key (negative: one per -n keys); a test aid
    dir: str = ""  # working directory; empty before the start: the one the process was started in

    # --- Replication
    replicaof: MasterAddress | None = None  # the master to copy
    masterauth: str = ""  # password for the master
    masteruser: str = ""  # user for the master
    replica_serve_stale_data: bool = True  # answer from old data while the link is down
    replica_read_only: bool = True  # refuse writes on a replica
    replica_ignore_disk_write_errors: bool = False  # a replica goes on when it cannot write its own files
    repl_diskless_sync: bool = True  # send snapshots to replicas straight from memory
    repl_diskless_sync_delay: int = 5  # seconds to wait for more replicas before doing so
    repl_diskless_sync_max_replicas: int = 0  # replicas that end that wait early; 0: none do
    repl_diskless_load: str = "disabled"  # load straight from the link: disabled, on-empty-db, swapdb
    repl_ping_replica_period: int = 10  # seconds between a master's pings to its replicas
    repl_timeout: int = 60  # seconds of silence after which a replication link is given up
    repl_disable_tcp_nodelay: bool = False  # save packets at the price of delay
    repl_backlog_size: int = 1 << 20  # bytes of the command stream kept for partial resynchronisation
    repl_backlog_ttl: int = 3600  # seconds a master without replicas keeps it; 0: for ever
    replica_priority: int = 100  # preference as a new master (lower is preferred); 0: never
    replica_announced: bool = True  # listed by Sentinel
    replica_announce_ip: str = ""  # address told to the master
    replica_announce_port: int = 0  # port told to the master; 0: the real one
    replica_lazy_flush: bool = False  # drop the old data set in the background (here always)
    min_replicas_to_write: int = 0  # refuse writes with fewer good replicas than this
    min_replicas_max_lag: int = 10  # seconds of silence after which a replica is not a good one
    propagation_error_behavior: str = "ignore"  # when a replicated command fails: ignore, panic, panic-on-replicas
    key_load_delay: int = 0  # microseconds slept per loaded key (negative: one per -n keys); a test aid
    loading_process_events_interval_bytes: int = 2 << 20  # bytes loaded between looks at the clients (here: every 4 ms)

    # --- Security
    requirepass: str = ""  # password of the default user
    aclfile: str = ""  # file of users; excludes `user` lines
    acllog_max_len: int = 128  # entries kept by ACL LOG
    acl_pubsub_default: str = "resetchannels"  # channels a new user may use: allchannels, resetchannels
    user: list[list[bytes]] = attrs.field(factory=list)  # users: name, then rules
    tracking_table_max_keys: int = 1_000_000  # keys remembered for client-side caching; 0: no limit

    # --- Memory
    maxmemory: int = 0  # bytes for the data set; 0: no limit
    maxmemory_policy: str = "noeviction"  # what to evict above it
    maxmemory_samples: int = 5  # keys compared per eviction
    maxmemory_eviction_tenacity: int = 10  # effort per eviction, 0 to 100
    maxmemory_clients: int = 0  # bytes for all clients together; negative: percent of maxmemory; 0: no limit
    replica_ignore_maxmemory: bool = True  # a replica leaves eviction to its master
    active_expire_effort: int = 1  # effort to find expired keys, 1 to 10
    lfu_log_factor: int = 10  # how slowly the access counter grows
    lfu_decay_time: int = 1  # minutes after which it shrinks
    lazyfree_lazy_eviction: bool = False  # free evicted values in the background
    lazyfree_lazy_expire: bool = False  # delete expired keys before their large values are freed, not after
    lazyfree_lazy_server_del: bool = False  # free overwritten values in the background (here always)
    lazyfree_lazy_user_del: bool = False  # DEL works like UNLINK
    lazyfree_lazy_user_flush: bool = False  # FLUSHALL works like FLUSHALL ASYNC
    oom_score_adj: str = "no"  # tell Linux which process to kill first: no, yes (relative), absolute
    oom_score_adj_values: tuple[int, int, int] = (0, 200, 800)  # for a master, a replica and a child
    activedefrag: bool = False  # defragment memory; `yes` is refused
    active_defrag_ignore_bytes: int = 100 << 20  # bytes of fragmentation left alone
    active_defrag_threshold_lower: int = 10  # percent of fragmentation to start at
    active_defrag_threshold_upper: int = 100  # percent of fragmentation for full effort
    active_defrag_cycle_min: int = 1  # least percent of CPU for it
    active_defrag_cycle_max: int = 25  # most percent of CPU for it
    active_defrag_max_scan_fields: int = 1000  # elements handled without a pause
    jemalloc_bg_thread: bool = True  # let jemalloc purge in the background (there is none)

    # --- Append-only file
    appendonly: bool = False  # log every write
    appendfilename: str = "appendonly.aof"  # first part of the log's file names
    appenddirname: str = "appendonlydir"  # directory of the log, in dir
    appendfsync: str = "everysec"  # when to fsync it: everysec, always, no
    no_appendfsync_on_rewrite: bool = False  # no fsync while a child writes files
    auto_aof_rewrite_percentage: int = 100  # growth that starts a rewrite; 0: never
    auto_aof_rewrite_min_size: int = 64 << 20  # bytes below which none is started
    aof_load_truncated: bool = True  # start although the end of the log is missing
    aof_use_rdb_preamble: bool = True  # rewritten logs begin with a snapshot
    aof_timestamp_enabled: bool = False  # write times into the log
    aof_rewrite_incremental_fsync: bool = True  # fsync every 4 MB while rewriting
    aof_disable_auto_gc: bool = False  # keep the files of older generations; a test aid

    # --- Cluster
    cluster_enabled: bool = False  # be a cluster node
    cluster_config_file: str = "nodes.conf"  # file of the cluster's state, kept by the node itself
    cluster_port: int = 0  # port of the bus; 0: port + 10000
    cluster_node_timeout: int = 15_000  # ms of silence after which a node is suspected to have failed
    cluster_replica_validity_factor: int = 10  # a replica whose data are older than so many time-outs does not stand
    cluster_migration_barrier: int = 1  # replicas a master keeps when one moves to an orphaned master
    cluster_allow_replica_migration: bool = True  # let replicas move at all
    cluster_require_full_coverage: bool = True  # serve nothing while a slot has no owner
    cluster_replica_no_failover: bool = False  # never stand for election
    cluster_allow_reads_when_down: bool = False  # serve reads while the cluster is down
    cluster_allow_pubsubshard_when_down: bool = True  # serve shard channels while it is down
    cluster_link_sendbuf_limit: int = 0  # bytes queued for a bus link before it is cut; 0: no limit
    cluster_announce_ip: str = ""  # address told to other nodes
    cluster_announce_hostname: str = ""  # hostname told to other nodes
    cluster_announce_port: int = 0  # client port told to other nodes; 0: the real one
    cluster_announce_tls_port: int = 0  # TLS port told to other nodes; 0: the real one
    cluster_announce_bus_port: int = 0  # bus port told to other nodes; 0: the real one
    cluster_preferred_endpoint_type: str = "ip"  # what redirections name: ip, hostname, unknown-endpoint

    # --- Clients and protocol
    client_output_buffer_limit: dict[str, OutputBufferLimit] = attrs.field(
        factory=_default_output_buffer_limits
    )  # per class (normal, replica, pubsub): hard bytes, soft bytes, soft seconds
    client_query_buffer_limit: int = 1 << 30  # bytes of an unfinished request
    proto_max_bulk_len: int = 512 << 20  # bytes of one argument
    busy_reply_threshold: int = 5000  # ms after which a running script makes others see BUSY; 0: never
    notify_keyspace_events: int = 0  # classes of keyspace events to publish (NOTIFY_* bits)

    # --- Observability
    slowlog_log_slower_than: int = 10_000  # µs from which a command is slow; negative: none is
    slowlog_max_len: int = 128  # entries kept by SLOWLOG
    latency_monitor_threshold: int = 0  # ms from which an event is recorded; 0: none is
    latency_tracking: bool = True  # histogram of each command's duration
    latency_tracking_info_percentiles: tuple[float, ...] = (50.0, 99.0, 99.9)  # percentiles shown by INFO
    watchdog_period: int = 0  # ms after which a stuck main loop is logged; 0: never

    # --- Encodings
    hash_max_listpack_entries: int = 512  # fields of a compact hash
    hash_max_listpack_value: int = 64  # bytes of a field or value in one
    list_max_listpack_size: int = -2  # elements of a list node in snapshots and DUMP; negative: size class
    list_compress_depth: int = 0  # nodes left uncompressed at either end of a list; 0: all (here always all)
    set_max_intset_entries: int = 512  # members of a compact set of integers
    zset_max_listpack_entries: int = 128  # members of a compact sorted set
    zset_max_listpack_value: int = 64  # bytes of a member in one
    hll_sparse_max_bytes: int = 3000  # bytes of a sparse HyperLogLog
    stream_node_max_bytes: int = 4096  # bytes of a stream node; 0: no limit
    stream_node_max_entries: int = 100  # entries of a stream node; 0: no limit

    # --- Scheduling
    hz: int = 10  # housekeeping rounds per second, 1 to 500
    dynamic_hz: bool = True  # more rounds with more clients (here each round sees them all)
    activerehashing: bool = True  # resize hash tables in the background (here at once, as they grow)
    io_threads: int = 1  # threads for reading and writing sockets (here always one)
    io_threads_do_reads: bool = False  # use them for reading, too
    server_cpulist: str = ""  # CPUs for the main thread, as for taskset: 0,2-4,8-15:2
    bio_cpulist: str = ""  # CPUs for threads that fsync
    aof_rewrite_cpulist: str = ""  # CPUs for AOF rewrites
    bgsave_cpulist: str = ""  # CPUs for snapshots
