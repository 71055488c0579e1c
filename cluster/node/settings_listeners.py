"""What happens when CONFIG SET changes a directive that something has taken over already (the ``update*`` of config.c).

Most directives are read from Settings whenever they matter; here are those that are not: sockets, limits that others
keep a copy of, the cluster's announced addresses, the title in ps. A listener that cannot do what is asked raises
ConfigError with Redis's reason and leaves everything as it was; Config then puts the old values back.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from cluster import clock
from cluster.errors import ConfigError
from cluster.node.listening import is_tls_refused, listen_on_tcp, raise_descriptor_limit
from cluster.node.proc_title import set_title

if TYPE_CHECKING:
    from cluster.node.server import Server

_PROGRAM = "redis-cluster-node"
"""What ps shows of ``python -m cluster.node``."""

_CLUSTER_DIRECTIVES = (
    "cluster-node-timeout",
    "cluster-replica-validity-factor",
    "cluster-migration-barrier",
    "cluster-allow-replica-migration",
    "cluster-require-full-coverage",
    "cluster-replica-no-failover",
    "cluster-allow-reads-when-down",
    "cluster-allow-pubsubshard-when-down",
    "cluster-announce-ip",
    "cluster-announce-hostname",
    "cluster-announce-port",
    "cluster-announce-tls-port",
    "cluster-announce-bus-port",
    "cluster-preferred-endpoint-type",
)
_EVICTION_DIRECTIVES = ("maxmemory-policy", "lfu-log-factor", "lfu-decay-time")
_TITLE_DIRECTIVES = ("proc-title-template", "port", "tls-port", "bind")


class SettingsListeners:
    """Takes the effects of CONFIG SET to the parts of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        settings = server.settings
        self._listening = (settings.port, settings.bind)
        """Where the sockets listen: what a failed change goes back to."""

    def register(self) -> None:
        """Have the configuration call us."""
        on_change = self._server.config.on_change
        on_change("maxclients", self._maxclients)
        on_change("port", self._port)
        on_change("bind", self._bind)
        for name in ("tls-port", "tls-replication", "tls-cluster"):
            on_change(name, self._tls)
        on_change("slowlog-max-len", self._slow_log_length)
        on_change("latency-tracking", self._server.refresh_plain)
        on_change("proto-max-bulk-len", self._bulk_length)
        self._server.aof_role.register()
        on_change("maxmemory", self._server.memory_limit.limit_changed)
        for name in ("oom-score-adj", "oom-score-adj-values"):
            on_change(name, self._server.oom_score.settings_changed)
        on_change("watchdog-period", self._server.watchdog.settings_changed)
        for name in ("maxmemory-clients", "maxmemory"):
            on_change(name, self._client_limit)
        for name in _EVICTION_DIRECTIVES:
            on_change(name, self._server.memory_limit.settings_changed)
        for name in _CLUSTER_DIRECTIVES:
            on_change(name, self._cluster)
        for name in _TITLE_DIRECTIVES:
            on_change(name, self.show_title)

    def show_title(self) -> None:
        """Let ps show what the process is."""
        server = self._server
        if server.settings.set_proc_title:
            set_title(
                server.settings,
                title=_PROGRAM if os.path.basename(sys.argv[0]) == "__main__.py" else sys.argv[0],
                config_path=server.config.path,
                sentinel_mode=server.config.sentinel_mode,
            )

    # Sockets ------------------------------------------------------------------------------------------------

    def _port(self) -> None:
        self._listen_anew("Unable to listen on this port. Check server logs.")

    def _bind(self) -> None:
        self._listen_anew("Failed to bind to specified addresses.")

    def _tls(self) -> None:
        if is_tls_refused(self._server.settings, self._server.log):
            raise ConfigError("Unable to update TLS configuration. Check server logs.")

    def _listen_anew(self, refusal: str) -> None:
        """Close the TCP listeners and open those that are wanted now; connected clients stay."""
        server = self._server
        settings = server.settings
        if (settings.port, settings.bind) == self._listening:
            return  # One CONFIG SET of both comes here twice.
        reactor = server.reactor
        reactor.stop_listening(tcp_only=True)
        sockets = listen_on_tcp(settings, server.log)
        if sockets is None:
            wanted = settings.port, settings.bind
            settings.port, settings.bind = self._listening
            for sock in listen_on_tcp(settings, server.log) or ():
                reactor.listen(sock)
            settings.port, settings.bind = wanted
            raise ConfigError(refusal)
        for sock in sockets:
            reactor.listen(sock)
        self._listening = (settings.port, settings.bind)

    def _maxclients(self) -> None:
        settings = self._server.settings
        wanted = settings.maxclients
        raise_descriptor_limit(settings, self._server.log)
        if settings.maxclients != wanted:
            raise ConfigError(
                "The operating system is not able to handle the specified number of clients, try with "
                f"{settings.maxclients}"
            )

    # Copies -------------------------------------------------------------------------------------------------

    def _slow_log_length(self) -> None:
        # Shortened with the next entry, as in Redis.
        self._server.slow_log.max_entries = self._server.settings.slowlog_max_len

    def _client_limit(self) -> None:
        server = self._server
        server.client_limit.settings_changed()
        server.refresh_plain()
        server.client_limit.enforce()

    def _bulk_length(self) -> None:
        self._server.parser_limits.max_bulk_bytes = self._server.settings.proto_max_bulk_len

    def _cluster(self) -> None:
        server = self._server
        if server.engine is not None and server.bus is not None:
            server.bus.perform(server.engine.on_settings_changed(clock.monotonic_ms()))
