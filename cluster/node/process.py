"""The process: from the command line to a serving node, and to its end.

Order of a start (main() in server.c): configuration, daemonize, pid file, log, listening sockets, data, cluster bus,
"Ready to accept connections". A failure before that prints or logs Redis's words and exits 1.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING

from cluster import __version__
from cluster.errors import ConfigError
from cluster.node.command_line import HELP, Action, LaunchOptions, parse_command_line, version_line
from cluster.node.config import Config
from cluster.node.logging import Log, log_mode, log_start

if TYPE_CHECKING:
    from cluster.node.server import Server
    from cluster.settings import Settings

RESERVED_DESCRIPTORS = 32  # CONFIG_MIN_RESERVED_FDS
GC_THRESHOLD = 50_000


def run_process(argv: list[str]) -> int:
    """Run a node as ``argv`` says; the exit code."""
    options = parse_command_line(argv)
    if options.action is Action.VERSION:
        print(version_line(__version__))
        return 0
    if options.action is Action.HELP:
        print(HELP, file=sys.stderr)
        return 1
    try:
        config = Config.load(options)
    except ConfigError as failure:
        if str(failure):
            print(failure, file=sys.stderr)
        return 1
    settings, log = config.settings, config.log
    supervised = settings.supervised not in ("no",)
    if settings.daemonize and not supervised:
        _daemonize()
    try:
        return _start(options, config, log)
    except ConfigError as failure:
        log.warning(str(failure))
        return 1


def _start(options: LaunchOptions, config: Config, log: Log) -> int:
    settings = config.settings
    log_start(log, program=options.program, has_arguments=options.has_arguments)
    _raise_descriptor_limit(settings, log)
    if settings.daemonize or settings.pidfile:
        _write_pid_file(settings, log)
    log_mode(log, settings, version=__version__, sentinel_mode=options.sentinel_mode)
    # Imported only now: a wrong directive is told without waiting for the rest of the server.
    from cluster.node.migrate_connections import MigrateConnections
    from cluster.node.server import Server

    server = Server(config, log)
    server.migrate_connections = MigrateConnections(server.rng)
    log.role = lambda: "S" if server.replication_state.is_replica else "M"
    log.main_pid = os.getpid()
    sockets = _bind_all(settings, log)
    if sockets is None:
        return 1
    for sock in sockets:
        server.reactor.listen(sock)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 100)
    import trio

    return trio.run(_serve, server)


async def _serve(server: Server) -> int:
    """Load the data, then everything that runs while the node lives."""
    import trio

    from cluster.node.cluster_host import start_cluster
    from cluster.node.cron import Cron
    from cluster.persistence.crc64 import EXTENSION_MISSING

    if EXTENSION_MISSING:
        server.log.warning(
            "crcmod was installed without its C extension: CRC64 is about 35 times slower than it could be. "
            "Install a C compiler and reinstall crcmod, or install anycrc."
        )
    cron = Cron(server)
    server.cron = cron
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            server.nursery = nursery
            if server.settings.cluster_enabled:
                try:
                    await start_cluster(server, nursery)
                except ConfigError as failure:  # Said here: out of a nursery it would come as a group.
                    server.log.warning(str(failure))
                    return 1
            server.replication_host.follow_configured_master()
            if not await server.saving.load_at_start():
                nursery.cancel_scope.cancel()  # Else the bus would go on waiting for the data.
                return 1
            if server.bus is not None:
                server.bus.data_loaded()
            nursery.start_soon(_watch_signals, server, signals)
            nursery.start_soon(server.timers.run)
            nursery.start_soon(cron.run)
            nursery.start_soon(server.reactor.run)
            server.log.notice("Ready to accept connections")
            await server.exit_requested.wait()
            server.reactor.flush()
            nursery.cancel_scope.cancel()
    if server.bus is not None:
        server.bus.close()
    server.reactor.close()
    server.log.warning("Redis is now ready to exit, bye bye...")
    return server.exit_code


async def _watch_signals(server: Server, signals: object) -> None:
    async for number in signals:  # type: ignore[attr-defined]
        server.stopping.signal(signal.Signals(number).name)


# Sockets ------------------------------------------------------------------------------------------------------------


def _bind_all(settings: Settings, log: Log) -> list[socket.socket] | None:
    """Listen on every bind address and on the Unix socket; None when that is impossible (it has been logged)."""
    sockets: list[socket.socket] = []
    if settings.port:
        for address in settings.bind:
            optional = address.startswith("-")
            host = address.removeprefix("-")
            try:
                sockets.append(listen_on(host, settings.port, settings.tcp_backlog))
            except OSError as failure:
                if optional and failure.errno in _ABSENT_ADDRESS:
                    continue
                log.warning(f"Warning: Could not create server TCP listening socket {host}:{settings.port}: "
                            f"bind: {failure.strerror}")  # fmt: skip
                log.warning(f"Failed listening on port {settings.port} (TCP), aborting.")
                for sock in sockets:
                    sock.close()
                return None
    if settings.unixsocket:
        try:
            sockets.append(_listen_on_unix(settings))
        except OSError as failure:
            log.warning(f"Opening Unix socket: bind: {failure.strerror}")
            return None
    if not sockets:
        log.warning("Configured to not listen anywhere, exiting.")
        return None
    return sockets


def _absent_address_errors() -> frozenset[int]:
    import errno

    return frozenset(
        {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENOPROTOOPT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT}
    )


_ABSENT_ADDRESS = _absent_address_errors()


def listen_on(host: str, port: int, backlog: int) -> socket.socket:
    """A listening TCP socket; ``*`` is every IPv4 address and ``::*`` every IPv6 address. Raises OSError."""
    if host == "*":
        family, address = socket.AF_INET, "0.0.0.0"
    elif host == "::*":
        family, address = socket.AF_INET6, "::"
    else:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        family, address = info[0], str(info[4][0])
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _listen_on_unix(settings: Settings) -> socket.socket:
    path = settings.unixsocket
    if os.path.exists(path):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(settings.tcp_backlog)
        if settings.unixsocketperm:
            os.chmod(path, settings.unixsocketperm)
    except OSError:
        sock.close()
        raise
    return sock


# The process itself ---------------------------------------------------------------------------------------------------


def _daemonize() -> None:
    """Go to the background; the parent exits at once."""
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)


def _write_pid_file(settings: Settings, log: Log) -> None:
    path = settings.pidfile or "/var/run/redis.pid"
    try:
        with open(path, "w") as file:
            file.write(f"{os.getpid()}\n")
    except OSError:
        log.verbose(f"Failed to write PID file: {path}")


def _raise_descriptor_limit(settings: Settings, log: Log) -> None:
    """Make room for maxclients; where the system does not allow it, maxclients shrinks (adjustOpenFilesLimit)."""
    wanted = settings.maxclients + RESERVED_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
        log.notice(f"Increased maximum number of open files to {wanted} (it was originally set to {soft}).")
        return
    except (OSError, ValueError):
        pass
    best = hard if hard != resource.RLIM_INFINITY else wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (best, hard))
    except (OSError, ValueError):
        best = soft
    before = settings.maxclients
    settings.maxclients = max(best - RESERVED_DESCRIPTORS, 1)
    log.warning(f"You requested maxclients of {before} requiring at least {wanted} max file descriptors.")
    log.warning(
        f"Current maximum open files is {best}. maxclients has been reduced to {settings.maxclients} to compensate for "
        "low ulimit. If you need higher maxclients increase 'ulimit -n'."
    )
