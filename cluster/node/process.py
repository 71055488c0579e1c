"""The process: from the command line to a serving node, and to its end.

Order of a start (main() in server.c): configuration, daemonize, pid file, log, listening sockets, data, cluster bus,
"Ready to accept connections". A failure before that prints or logs Redis's words and exits 1.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cluster import __version__
from cluster.errors import ConfigError
from cluster.node.command_line import HELP, Action, LaunchOptions, parse_command_line, version_line
from cluster.node.config import Config
from cluster.node.cpu_affinity import confine
from cluster.node.listening import listen_everywhere, raise_descriptor_limit
from cluster.node.logging import Log, log_environment, log_mode, log_start
from cluster.node.supervision import Supervisor

if TYPE_CHECKING:
    from types import FrameType

    from cluster.node.server import Server
    from cluster.settings import Settings

_NO_SENTINEL = "There is no Sentinel mode yet, and a node that only looks like a Sentinel would watch nobody."


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
        config = Config.load(options, command_names=_command_names())
    except ConfigError as failure:
        if str(failure):
            print(failure, file=sys.stderr)
        return 1
    if options.sentinel_mode:
        print(_NO_SENTINEL, file=sys.stderr)
        return 1
    settings, log = config.settings, config.log
    supervisor = Supervisor(log)
    in_background = not supervisor.begin(settings.supervised) and settings.daemonize
    if in_background:
        _daemonize()
    try:
        return _start(options, config, log, supervisor, in_background=in_background)
    except ConfigError as failure:
        log.warning(str(failure))
        return 1


def _command_names() -> Iterator[bytes]:
    """Read only if there is a rename-command."""
    from cluster.commands.registry import recorded_names

    yield from recorded_names()


def _start(options: LaunchOptions, config: Config, log: Log, supervisor: Supervisor, *, in_background: bool) -> int:
    settings = config.settings
    log_start(log, program=options.program, has_arguments=options.has_arguments)
    raise_descriptor_limit(settings, log)
    if in_background or settings.pidfile:
        _write_pid_file(settings, log)
    # Imported only now: a wrong directive is told without waiting for the rest of the server.
    from cluster.node.migrate_connections import MigrateConnections
    from cluster.node.server import Server
    from cluster.node.settings_listeners import SettingsListeners

    server = Server(config, log)
    server.supervisor = supervisor
    for old, new in settings.rename_command:
        server.commands.rename(old, new)
    server.migrate_connections = MigrateConnections(server.rng)
    follows = settings.replicaof is not None and not settings.cluster_enabled
    log.role = lambda: "S" if server.replication_state.is_replica or (follows and not server.cron) else "M"
    log.main_pid = os.getpid()
    sockets = listen_everywhere(settings, log)
    if sockets is None:
        return 1
    for sock in sockets:
        server.reactor.listen(sock)
    server.access.load_at_start()
    # Scripts take the picture as the sign that they may connect.
    log_mode(log, settings, version=__version__, sentinel_mode=options.sentinel_mode)
    log_environment(log, without_huge_pages=settings.disable_thp)
    listeners = SettingsListeners(server)
    listeners.register()
    listeners.show_title()
    server.oom_score.apply()
    if settings.watchdog_period:
        server.watchdog.settings_changed()
    server.collector.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        # No task of the loop: a second Ctrl-C must be heard also while the loop stands still to save.
        signal.signal(number, lambda number, _frame: server.stopping.signal(signal.Signals(number).name))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # A node outlives the terminal it was started from.
    if settings.crash_log_enabled:
        signal.signal(signal.SIGABRT, lambda number, frame: _crash(log, number, frame))
    import trio

    return trio.run(_serve, server)


def _crash(log: Log, number: int, frame: FrameType | None) -> None:
    from cluster.node.crash_report import report_and_die

    report_and_die(log, number, frame)


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
    async with trio.open_nursery() as nursery:
        server.nursery = nursery
        if server.settings.cluster_enabled:
            try:
                await start_cluster(server, nursery)
            except ConfigError as failure:  # Said here: out of a nursery it would come as a group.
                server.log.warning(str(failure))
                return 1
        server.replication_host.follow_configured_master()
        server.memory.startup_bytes = server.memory.used_bytes()
        # Clients are answered while the data is loaded, if only by LOADING.
        nursery.start_soon(server.timers.run)
        nursery.start_soon(server.reactor.run)
        if not await _load(server):
            nursery.cancel_scope.cancel()  # Else the bus would go on waiting for the data.
            return 1
        if not server.exit_requested.is_set():
            if server.bus is not None:
                server.bus.data_loaded()
            nursery.start_soon(cron.run)
            server.log.notice("Ready to accept connections")
            server.supervisor.ready(as_replica=server.settings.replicaof is not None)
            confine(server.settings.server_cpulist)
        await server.exit_requested.wait()
        server.reactor.flush()
        nursery.cancel_scope.cancel()
    if server.bus is not None:
        server.bus.close()
    server.reactor.flush()
    server.feed.replicas.clear()  # It is we who go: none of them is lost.
    server.reactor.close()
    server.log.warning("Redis is now ready to exit, bye bye...")
    return server.exit_code


async def _load(server: Server) -> bool:
    """Load the data, and heed signals meanwhile; False when the node must not start."""
    import trio

    async def heed_signals() -> None:
        while True:
            await trio.sleep(0.1)
            server.stopping.check()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(heed_signals)
        loaded = await _load_data(server)
        if not loaded:
            server.saving.begin_loading(0)  # On the way out nobody is shown an empty data set, or half of one.
        nursery.cancel_scope.cancel()
    return loaded


async def _load_data(server: Server) -> bool:
    """Load from the append only file if it is on, else from the snapshot; False when the node must not start."""
    from cluster.node.append_only import load_at_start

    try:
        # Also without one: its numbers go on where they were, should it be switched on.
        server.aof.folder.load()
    except ConfigError as failure:
        server.log.warning(str(failure))
        return False
    loaded = await (load_at_start(server) if server.settings.appendonly else server.saving.load_at_start())
    if loaded:
        server.aof.rewrites.remove_history()
    return loaded


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
