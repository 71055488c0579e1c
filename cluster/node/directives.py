"""The table of directives: what redis.conf and CONFIG know, one row each.

Role        Name, old name, kind of value with its bounds, what may be done with it, and whether it does anything here.
            The default and the meaning of a directive stand in cluster.settings; a row and a field share their name.
Source      ``static_configs`` in config.c of Redis 7.0.15; bounds, flags and error texts are those of that table.
"""

from __future__ import annotations

import enum
from typing import Final

import attrs

from cluster.errors import ConfigError
from cluster.node.composite_kinds import (
    Addresses,
    Directory,
    EventClasses,
    Master,
    OomScores,
    OutputBufferLimits,
    Percentiles,
    SavePoints,
)
from cluster.node.directive_kinds import (
    INT_MAX,
    INT_MIN,
    LONG_MAX,
    UINT_MAX,
    ULONG_MAX,
    Choice,
    Choices,
    Kind,
    Notation,
    Number,
    Switch,
    Text,
)
from cluster.node.proc_title import expand_title
from cluster.settings import Settings


class Flag(enum.IntFlag):
    """What may be done with a directive; none: CONFIG SET may change it at any time."""

    NONE = 0
    IMMUTABLE = 1  # Only before the start.
    SENSITIVE = 2  # Its value is not shown in logs, MONITOR and SLOWLOG.
    HIDDEN = 4  # CONFIG GET shows it only by its full name.
    PROTECTED = 8  # CONFIG SET needs enable-protected-configs.
    DENY_LOADING = 16  # Not while a data set is being loaded.
    VOLATILE = 32  # Setting the same value again still counts as a change: it names a file, and the file may be new.


class Effect(enum.Enum):
    """Whether the server acts on a directive."""

    WORKS = "works"
    NOT_YET = "not yet"  # Accepted, checked, shown and rewritten; the feature it belongs to is not built.
    REMEMBERED = "remembered"  # Accepted, checked, shown and rewritten; it has no meaning in this server.
    REFUSED = "refused"  # Only the value that asks for nothing is accepted.


@attrs.frozen(eq=False, repr=False)
class Directive:
    """One row: everything CONFIG and the loader need to know."""

    name: str
    kind: Kind
    flags: Flag
    effect: Effect
    alias: str
    """The old name, or ""; CONFIG GET lists both."""
    attribute: str
    """The field of Settings."""


NONE, IMMUTABLE, SENSITIVE, HIDDEN = Flag.NONE, Flag.IMMUTABLE, Flag.SENSITIVE, Flag.HIDDEN
PROTECTED, DENY_LOADING, VOLATILE = Flag.PROTECTED, Flag.DENY_LOADING, Flag.VOLATILE
WORKS, NOT_YET, REMEMBERED, REFUSED = Effect.WORKS, Effect.NOT_YET, Effect.REMEMBERED, Effect.REFUSED


# --- What may not be written, beyond the kind of the value ------------------------------------------------------------


def _file_name(value: str, settings: Settings) -> None:
    if "/" in value or "\\" in value:
        raise ConfigError("dbfilename can't be a path, just a filename")


def _append_file_name(value: str, settings: Settings) -> None:
    if not value:
        raise ConfigError("appendfilename can't be empty")
    if "/" in value or "\\" in value:
        raise ConfigError("appendfilename can't be a path, just a filename")


def _append_directory_name(value: str, settings: Settings) -> None:
    if not value:
        raise ConfigError("appenddirname can't be empty")
    if "/" in value or "\\" in value:
        raise ConfigError("appenddirname can't be a path, just a dirname")


_HOSTNAME_LENGTH_MAX = 256
_HOSTNAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.")


def _hostname(value: str, settings: Settings) -> None:
    if len(value) >= _HOSTNAME_LENGTH_MAX:
        raise ConfigError(f"Hostnames must be less than {_HOSTNAME_LENGTH_MAX} characters")
    if not _HOSTNAME_CHARACTERS.issuperset(value):
        raise ConfigError("Hostnames may only contain alphanumeric characters, hyphens or dots")


def _title_template(value: str, settings: Settings) -> None:
    # Checked with an empty title: a template that shows nothing else is refused.
    if not expand_title(value, settings, title=""):
        raise ConfigError("template format is invalid or contains unknown variables")


def _shutdown_words(words: tuple[str, ...]) -> None:
    if "save" in words and "nosave" in words:
        raise ConfigError("shutdown options SAVE and NOSAVE can't be used simultaneously")


_NO_DEFRAG = (
    "Active defragmentation cannot be enabled: it requires a Redis server compiled with a modified Jemalloc "
    "like the one shipped by default with the Redis source distribution"
)

# --- Shapes of rows ---------------------------------------------------------------------------------------------------


def _row(name: str, kind: Kind, flags: Flag = NONE, effect: Effect = WORKS, alias: str = "") -> Directive:
    return Directive(name, kind, flags, effect, alias, name.replace("-", "_"))


_SWITCH = Switch()
_TEXT = Text()
_OPTIONAL_TEXT = Text(unset_when_empty=True)
_SECRET = Text(unset_when_empty=True, binary=True)
_COUNT = Number(0, INT_MAX)
_POSITIVE = Number(1, INT_MAX)
_ANY_INT = Number(INT_MIN, INT_MAX)
_PORT = Number(0, 65535)
_PERCENTAGE = Number(0, 1000)
_CPU_SHARE = Number(1, 99)
_LONG = Number(0, LONG_MAX)
_SIZE = Number(0, LONG_MAX, unsigned=True)
_SIZE_BYTES = Number(0, LONG_MAX, Notation.MEMORY, unsigned=True)
_UNLIMITED_BYTES = Number(0, ULONG_MAX, Notation.MEMORY, unsigned=True)
_PERMISSION = Choice(("no", "yes", "local"))
_SHUTDOWN = Choices(("default", "save", "nosave", "now", "force"), _shutdown_words)
_MIB = 1 << 20

TABLE: Final[tuple[Directive, ...]] = (
    # Network
    _row("bind", Addresses()),
    _row("bind-source-addr", _OPTIONAL_TEXT),
    _row("port", _PORT),
    _row("protected-mode", _SWITCH),
    _row("tcp-backlog", _COUNT, IMMUTABLE),
    _row("unixsocket", _OPTIONAL_TEXT, IMMUTABLE),
    _row("unixsocketperm", Number(0, 0o777, Notation.OCTAL, unsigned=True), IMMUTABLE),
    _row("timeout", _COUNT),
    _row("tcp-keepalive", _COUNT),
    _row("socket-mark-id", Number(0, UINT_MAX, unsigned=True), IMMUTABLE),
    _row("maxclients", Number(1, UINT_MAX, unsigned=True)),
    # TLS
    _row("tls-port", _PORT, NONE, REFUSED),
    _row("tls-cert-file", _OPTIONAL_TEXT, VOLATILE, NOT_YET),
    _row("tls-key-file", _OPTIONAL_TEXT, VOLATILE, NOT_YET),
    _row("tls-key-file-pass", _OPTIONAL_TEXT, NONE, NOT_YET),
    _row("tls-client-cert-file", _OPTIONAL_TEXT, VOLATILE, NOT_YET),
    _row("tls-client-key-file", _OPTIONAL_TEXT, VOLATILE, NOT_YET),
    _row("tls-client-key-file-pass", _OPTIONAL_TEXT, NONE, NOT_YET),
    _row("tls-dh-params-file", _OPTIONAL_TEXT, VOLATILE, NOT_YET),
    _row("tls-ca-cert-file", _OPTIONAL_TEXT, VOLATILE, NOT_YET),
    _row("tls-ca-cert-dir", _OPTIONAL_TEXT, VOLATILE, NOT_YET),
    _row("tls-auth-clients", Choice(("no", "yes", "optional")), NONE, NOT_YET),
    _row("tls-replication", _SWITCH, NONE, REFUSED),
    _row("tls-cluster", _SWITCH, NONE, REFUSED),
    _row("tls-protocols", _OPTIONAL_TEXT, NONE, NOT_YET),
    _row("tls-ciphers", _OPTIONAL_TEXT, NONE, NOT_YET),
    _row("tls-ciphersuites", _OPTIONAL_TEXT, NONE, NOT_YET),
    _row("tls-prefer-server-ciphers", _SWITCH, NONE, NOT_YET),
    _row("tls-session-caching", _SWITCH, NONE, NOT_YET),
    _row("tls-session-cache-size", _COUNT, NONE, NOT_YET),
    _row("tls-session-cache-timeout", _COUNT, NONE, NOT_YET),
    # General
    _row("daemonize", _SWITCH, IMMUTABLE),
    _row("supervised", Choice(("upstart", "systemd", "auto", "no")), IMMUTABLE),
    _row("pidfile", _OPTIONAL_TEXT, IMMUTABLE),
    _row("loglevel", Choice(("debug", "verbose", "notice", "warning"))),
    _row("logfile", _TEXT, IMMUTABLE),
    _row("syslog-enabled", _SWITCH, IMMUTABLE),
    _row("syslog-ident", _TEXT, IMMUTABLE),
    _row(
        "syslog-facility",
        Choice(("user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7")),
        IMMUTABLE,
    ),
    _row("crash-log-enabled", _SWITCH),
    _row("crash-memcheck-enabled", _SWITCH, NONE, REMEMBERED),
    _row("use-exit-on-panic", _SWITCH, HIDDEN),
    _row("databases", _POSITIVE, IMMUTABLE),
    _row("always-show-logo", _SWITCH, IMMUTABLE),
    _row("set-proc-title", _SWITCH, IMMUTABLE),
    _row("proc-title-template", Text(check=_title_template)),
    _row("disable-thp", _SWITCH, IMMUTABLE),
    _row("ignore-warnings", _TEXT, NONE, REMEMBERED),
    _row("enable-protected-configs", _PERMISSION, IMMUTABLE),
    _row("enable-debug-command", _PERMISSION, IMMUTABLE),
    _row("enable-module-command", _PERMISSION, IMMUTABLE),
    _row("shutdown-timeout", _COUNT),
    _row("shutdown-on-sigint", _SHUTDOWN),
    _row("shutdown-on-sigterm", _SHUTDOWN),
    # Snapshots
    _row("save", SavePoints()),
    _row("stop-writes-on-bgsave-error", _SWITCH),
    _row("rdbcompression", _SWITCH),
    _row("rdbchecksum", _SWITCH, IMMUTABLE),
    _row("sanitize-dump-payload", Choice(("no", "yes", "clients")), NONE, REMEMBERED),
    _row("dbfilename", Text(check=_file_name), PROTECTED),
    _row("rdb-del-sync-files", _SWITCH),
    _row("rdb-save-incremental-fsync", _SWITCH),
    _row("rdb-key-save-delay", _ANY_INT, HIDDEN),
    _row("dir", Directory(), PROTECTED | DENY_LOADING),
    # Replication
    _row("replicaof", Master(), IMMUTABLE, alias="slaveof"),
    _row("masterauth", _SECRET, SENSITIVE),
    _row("masteruser", _OPTIONAL_TEXT, SENSITIVE),
    _row("replica-serve-stale-data", _SWITCH, alias="slave-serve-stale-data"),
    _row("replica-read-only", _SWITCH, alias="slave-read-only"),
    _row("replica-ignore-disk-write-errors", _SWITCH),
    _row("repl-diskless-sync", _SWITCH),
    _row("repl-diskless-sync-delay", _COUNT),
    _row("repl-diskless-sync-max-replicas", _COUNT),
    _row("repl-diskless-load", Choice(("disabled", "on-empty-db", "swapdb")), DENY_LOADING),
    _row("repl-ping-replica-period", _POSITIVE, alias="repl-ping-slave-period"),
    _row("repl-timeout", _POSITIVE),
    _row("repl-disable-tcp-nodelay", _SWITCH),
    # Redis brings it up to 16 kB only in CONFIG SET; a conf file with less gets a backlog that can hold nothing.
    _row("repl-backlog-size", Number(1, LONG_MAX, Notation.MEMORY, clamp=(16 << 10, LONG_MAX))),
    _row("repl-backlog-ttl", _LONG),
    _row("replica-priority", _COUNT, alias="slave-priority"),
    _row("replica-announced", _SWITCH),
    _row("replica-announce-ip", _OPTIONAL_TEXT, alias="slave-announce-ip"),
    _row("replica-announce-port", _PORT, alias="slave-announce-port"),
    _row("replica-lazy-flush", _SWITCH, NONE, REMEMBERED, alias="slave-lazy-flush"),
    _row("min-replicas-to-write", _COUNT, alias="min-slaves-to-write"),
    _row("min-replicas-max-lag", _COUNT, alias="min-slaves-max-lag"),
    _row("propagation-error-behavior", Choice(("ignore", "panic", "panic-on-replicas"))),
    _row("key-load-delay", _ANY_INT, HIDDEN),
    _row("loading-process-events-interval-bytes", Number(1024, INT_MAX), HIDDEN, REMEMBERED),
    # Security
    _row("requirepass", _SECRET, SENSITIVE),
    _row("aclfile", _TEXT, IMMUTABLE),
    _row("acllog-max-len", _LONG),
    _row("acl-pubsub-default", Choice(("allchannels", "resetchannels"))),
    _row("tracking-table-max-keys", _SIZE),
    # Memory
    _row("maxmemory", _UNLIMITED_BYTES),
    _row(
        "maxmemory-policy",
        Choice(
            (
                "volatile-lru",
                "volatile-lfu",
                "volatile-random",
                "volatile-ttl",
                "allkeys-lru",
                "allkeys-lfu",
                "allkeys-random",
                "noeviction",
            )
        ),
    ),
    _row("maxmemory-samples", _POSITIVE),
    _row("maxmemory-eviction-tenacity", Number(0, 100)),
    _row("maxmemory-clients", Number(-100, LONG_MAX, Notation.MEMORY_OR_PERCENT)),
    _row("replica-ignore-maxmemory", _SWITCH, alias="slave-ignore-maxmemory"),
    _row("active-expire-effort", Number(1, 10)),
    _row("lfu-log-factor", _COUNT),
    _row("lfu-decay-time", _COUNT),
    _row("lazyfree-lazy-eviction", _SWITCH),
    _row("lazyfree-lazy-expire", _SWITCH),
    _row("lazyfree-lazy-server-del", _SWITCH, NONE, REMEMBERED),
    _row("lazyfree-lazy-user-del", _SWITCH),
    _row("lazyfree-lazy-user-flush", _SWITCH),
    _row("oom-score-adj", Choice(("no", "yes", "relative", "absolute"), {"relative": "yes"})),
    _row("oom-score-adj-values", OomScores()),
    _row("activedefrag", Switch(cannot_enable=_NO_DEFRAG), NONE, REFUSED),
    _row("active-defrag-ignore-bytes", Number(1, LONG_MAX, Notation.MEMORY, unsigned=True), NONE, REMEMBERED),
    _row("active-defrag-threshold-lower", _PERCENTAGE, NONE, REMEMBERED),
    _row("active-defrag-threshold-upper", _PERCENTAGE, NONE, REMEMBERED),
    _row("active-defrag-cycle-min", _CPU_SHARE, NONE, REMEMBERED),
    _row("active-defrag-cycle-max", _CPU_SHARE, NONE, REMEMBERED),
    _row("active-defrag-max-scan-fields", Number(1, LONG_MAX), NONE, REMEMBERED),
    _row("jemalloc-bg-thread", _SWITCH, NONE, REMEMBERED),
    # Append-only file
    _row("appendonly", _SWITCH, DENY_LOADING),
    _row("appendfilename", Text(check=_append_file_name), IMMUTABLE),
    _row("appenddirname", Text(check=_append_directory_name), IMMUTABLE),
    _row("appendfsync", Choice(("everysec", "always", "no"))),
    _row("no-appendfsync-on-rewrite", _SWITCH),
    _row("auto-aof-rewrite-percentage", _COUNT),
    _row("auto-aof-rewrite-min-size", Number(0, LONG_MAX, Notation.MEMORY)),
    _row("aof-load-truncated", _SWITCH),
    _row("aof-use-rdb-preamble", _SWITCH),
    _row("aof-timestamp-enabled", _SWITCH),
    _row("aof-rewrite-incremental-fsync", _SWITCH),
    _row("aof-disable-auto-gc", _SWITCH),
    # Cluster
    _row("cluster-enabled", _SWITCH, IMMUTABLE),
    _row("cluster-config-file", _TEXT, IMMUTABLE),
    _row("cluster-port", _PORT, IMMUTABLE),
    _row("cluster-node-timeout", _LONG),
    _row("cluster-replica-validity-factor", _COUNT, alias="cluster-slave-validity-factor"),
    _row("cluster-migration-barrier", _COUNT),
    _row("cluster-allow-replica-migration", _SWITCH),
    _row("cluster-require-full-coverage", _SWITCH),
    _row("cluster-replica-no-failover", _SWITCH, alias="cluster-slave-no-failover"),
    _row("cluster-allow-reads-when-down", _SWITCH),
    _row("cluster-allow-pubsubshard-when-down", _SWITCH),
    _row("cluster-link-sendbuf-limit", _UNLIMITED_BYTES),
    _row("cluster-announce-ip", _OPTIONAL_TEXT),
    _row("cluster-announce-hostname", Text(unset_when_empty=True, check=_hostname)),
    _row("cluster-announce-port", _PORT),
    _row("cluster-announce-tls-port", _PORT),
    _row("cluster-announce-bus-port", _PORT),
    _row("cluster-preferred-endpoint-type", Choice(("ip", "hostname", "unknown-endpoint"))),
    # Clients and protocol
    _row("client-output-buffer-limit", OutputBufferLimits()),
    _row("client-query-buffer-limit", Number(_MIB, LONG_MAX, Notation.MEMORY, unsigned=True)),
    _row("proto-max-bulk-len", Number(_MIB, LONG_MAX, Notation.MEMORY)),
    _row("busy-reply-threshold", _LONG, alias="lua-time-limit"),
    _row("notify-keyspace-events", EventClasses()),
    # Observability
    _row("slowlog-log-slower-than", Number(-1, LONG_MAX)),
    _row("slowlog-max-len", _LONG),
    _row("latency-monitor-threshold", _LONG),
    _row("latency-tracking", _SWITCH),
    _row("latency-tracking-info-percentiles", Percentiles()),
    _row("watchdog-period", _COUNT, HIDDEN),
    # Encodings
    _row("hash-max-listpack-entries", _SIZE, alias="hash-max-ziplist-entries"),
    _row("hash-max-listpack-value", _SIZE_BYTES, alias="hash-max-ziplist-value"),
    _row("list-max-listpack-size", _ANY_INT, alias="list-max-ziplist-size"),
    _row("list-compress-depth", _COUNT, NONE, REMEMBERED),
    _row("set-max-intset-entries", _SIZE),
    _row("zset-max-listpack-entries", _SIZE, alias="zset-max-ziplist-entries"),
    _row("zset-max-listpack-value", _SIZE_BYTES, alias="zset-max-ziplist-value"),
    _row("hll-sparse-max-bytes", _SIZE_BYTES),
    _row("stream-node-max-bytes", _SIZE_BYTES),
    _row("stream-node-max-entries", _LONG),
    # Scheduling
    _row("hz", Number(0, INT_MAX, clamp=(1, 500))),
    _row("dynamic-hz", _SWITCH, NONE, REMEMBERED),
    _row("activerehashing", _SWITCH, NONE, REMEMBERED),
    _row("io-threads", Number(1, 128), IMMUTABLE, REMEMBERED),
    _row("io-threads-do-reads", _SWITCH, IMMUTABLE, REMEMBERED),
    _row("server_cpulist", _OPTIONAL_TEXT, IMMUTABLE),
    _row("bio_cpulist", _OPTIONAL_TEXT, IMMUTABLE),
    _row("aof_rewrite_cpulist", _OPTIONAL_TEXT, IMMUTABLE),
    _row("bgsave_cpulist", _OPTIONAL_TEXT, IMMUTABLE),
)

BY_NAME: Final[dict[bytes, Directive]] = {row.name.encode(): row for row in TABLE} | {
    row.alias.encode(): row for row in TABLE if row.alias
}
"""Lower-case name, old or new, to its row."""

RETIRED: Final = frozenset((b"list-max-ziplist-entries", b"list-max-ziplist-value", b"lua-replicate-commands"))
"""Directives of old versions: accepted in a file, with one argument, and forgotten."""
