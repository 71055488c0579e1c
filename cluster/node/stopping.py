"""SHUTDOWN and the signals that mean it (prepareForShutdown, finishShutdown in server.c).

Order: wait for lagging replicas (shutdown-timeout) with writes paused, kill a running child, save if asked or if there
are save points, remove the pid file, send what is left to replicas, exit 0. A failed save cancels the shutdown unless
forced. Units: monotonic ms.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import attrs

from cluster import clock
from cluster.commands.context import Session
from cluster.errors import CommandError
from cluster.persistence.aof_host import AofState
from cluster.persistence.snapshot import remove_temp_file
from cluster.replication.replica import ReplicaState
from cluster.resp.encode import error

if TYPE_CHECKING:
    from cluster.node.server import Server

FAILED = b"ERR Errors trying to SHUTDOWN. Check logs."


@attrs.frozen
class ShutdownOptions:
    """What SHUTDOWN was asked to do; ``save`` None: as the save points say."""

    save: bool | None = None
    now: bool = False
    force: bool = False


class Stopping:
    """A shutdown that has been asked for, until it is done or cancelled."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._options: ShutdownOptions | None = None
        self._signal: str | None = None
        """The signal that has asked for the end and was not obeyed yet, or is being obeyed."""
        self._deadline_ms = 0
        self._waiting: list[Session] = []
        """Clients whose SHUTDOWN waits for replicas."""

    @property
    def in_progress(self) -> bool:
        """True while replicas are being waited for."""
        return self._options is not None

    @property
    def is_requested(self) -> bool:
        """A signal has asked for the end of the process."""
        return self._signal is not None

    def remaining_ms(self) -> int:
        """How long replicas will still be waited for (INFO shutdown_in_milliseconds)."""
        return max(self._deadline_ms - clock.monotonic_ms(), 0)

    def begin(self, options: ShutdownOptions, client: Session | None = None) -> bool:
        """Stop now, or begin to wait for replicas (False). Raises CommandError when the shutdown failed.

        With a client, a wait parks it until the shutdown is cancelled.
        """
        server = self._server
        if client is not None and self.in_progress:
            self._waiting.append(client)
            return False
        if server.loading:
            options = attrs.evolve(options, save=False)
        self._options = options
        server.log.warning("User requested shutdown...")
        server.supervisor.tell("STOPPING=1\n")
        seconds = server.settings.shutdown_timeout
        if not options.now and seconds and not self._replicas_are_in_step():
            self._deadline_ms = clock.monotonic_ms() + seconds * 1000
            server.feed.request_acks()
            server.pauses.pause_for_shutdown(paused=True)
            server.log.notice("Waiting for replicas before shutting down.")
            if client is not None:
                self._waiting.append(client)
            return False
        if not self._finish():
            raise CommandError(FAILED)
        return True

    def begin_for(self, client: Session, *, save: bool | None, now: bool, force: bool) -> bool:
        """SHUTDOWN: True when the process ends; False when the client has to wait. Raises CommandError."""
        return self.begin(ShutdownOptions(save, now, force), client)

    def abort(self) -> bool:
        """SHUTDOWN ABORT; False when none was in progress."""
        if not self.in_progress and self._signal is None:
            return False
        self._server.log.notice("Shutdown manually aborted.")
        self._cancel()
        return True

    def forget(self, client: Session) -> None:
        """A waiting client left; the shutdown goes on."""
        if client in self._waiting:
            self._waiting.remove(client)

    def check(self) -> None:
        """Called often: obey a signal; go on when the replicas have caught up or the time is over."""
        if self._signal is not None and not self.in_progress:
            self._obey_signal(self._signal)
        elif self.in_progress and (clock.monotonic_ms() >= self._deadline_ms or self._replicas_are_in_step()):
            self._finish()

    def signal(self, name: str) -> None:
        """SIGTERM or SIGINT has come; :meth:`check` acts on it. The handler: it may run between any two steps.

        Ctrl-C, when something has asked for the end already, means: now, whatever is lost.
        """
        server = self._server
        if name == "SIGINT" and (self._signal is not None or self.in_progress):
            server.log.from_handler("You insist... exiting now.")
            remove_temp_file(server.settings.dir, os.getpid())
            os._exit(1)
        if server.loading:
            server.log.from_handler("Received shutdown signal during loading, scheduling shutdown.")
        else:
            server.log.from_handler(f"Received {name} scheduling shutdown...")
        self._signal = name

    def _obey_signal(self, name: str) -> None:
        settings = self._server.settings
        words = settings.shutdown_on_sigterm if name == "SIGTERM" else settings.shutdown_on_sigint
        save = True if "save" in words else False if "nosave" in words else None
        try:
            self.begin(ShutdownOptions(save, "now" in words, "force" in words))
        except CommandError:
            pass  # Said in the log; the next signal is a new attempt.

    def _replicas_are_in_step(self) -> bool:
        """Whether all have everything: also those whose full synchronisation is not over yet."""
        offset = self._server.replication_state.master_repl_offset
        return all(replica.acknowledged_offset == offset for replica in self._server.feed.replicas)

    def prepare_restart(self) -> bool:
        """DEBUG RESTART: all that a shutdown does before its end, without waiting for replicas; False if it failed."""
        self._options = ShutdownOptions(now=True)
        self._server.log.warning("User requested shutdown...")
        return self._prepare()

    def _finish(self) -> bool:
        """Do what is left to be done and end the process; False when it must live on."""
        if not self._prepare():
            return False
        self._server.request_exit()
        return True

    def _prepare(self) -> bool:
        """Everything that has to be done before the process ends; False when it must live on."""
        server = self._server
        assert self._options is not None
        self._log_replicas()
        server.scripting.debugging.kill_children()
        server.saving.kill_child()
        if not self._finish_aof(self._options):
            return False
        save = self._options.save
        if save or (save is None and server.settings.save):
            server.log.notice("Saving the final RDB snapshot before exiting.")
            server.supervisor.tell("STATUS=Saving the final RDB snapshot\n")
            if not server.saving.save():
                if not self._options.force:
                    server.log.warning("Error trying to save the DB, can't exit.")
                    server.supervisor.tell("STATUS=Error trying to save the DB, can't exit.\n")
                    self._fail()
                    return False
                server.log.warning("Error trying to save the DB. Exit anyway.")
        self.remove_pid_file()
        return True

    def _finish_aof(self, options: ShutdownOptions) -> bool:
        """Make the append only file complete; False when the data set is in none yet, and would be lost."""
        server = self._server
        aof = server.aof
        if aof.rewrites.is_running:
            if aof.state is AofState.WAIT_REWRITE:
                if not options.force:
                    server.log.warning("Writing initial AOF, can't exit.")
                    self._fail()
                    return False
                server.log.warning("Writing initial AOF. Exit anyway.")
            server.log.warning("There is a child rewriting the AOF. Killing it!")
            aof.rewrites.kill()
        if aof.state is not AofState.OFF:
            server.log.notice("Calling fsync() on the AOF file.")
            aof.make_durable()
        return True

    def _fail(self) -> None:
        self._server.log.warning("Errors trying to shut down the server. Check the logs for more information.")
        self._cancel()

    def _log_replicas(self) -> None:
        server = self._server
        replicas = server.feed.replicas
        offset = server.replication_state.master_repl_offset
        lagging = [replica for replica in replicas if replica.acknowledged_offset != offset]
        now_ms = clock.monotonic_ms()
        for replica in lagging:
            lag = (now_ms - replica.ack_ms) // 1000 if replica.state is ReplicaState.ONLINE else 0
            server.log.warning(
                f"Lagging replica {replica.name} reported offset {offset - replica.acknowledged_offset} behind master,"
                f" lag={lag}, state={replica.state.info_name}."
            )
        if replicas:
            in_step = len(replicas) - len(lagging)
            server.log.notice(f"{in_step} of {len(replicas)} replicas are in sync when shutting down.")

    def _cancel(self) -> None:
        self._options = None
        self._signal = None
        self._deadline_ms = 0
        self._server.pauses.pause_for_shutdown(paused=False)
        waiting, self._waiting = self._waiting, []
        for client in waiting:
            if client.parked is not None:
                self._server.unpark(client, error(FAILED))

    def remove_pid_file(self) -> None:
        """The process is about to end."""
        settings = self._server.settings
        if settings.daemonize or settings.pidfile:
            self._server.log.notice("Removing the pid file.")
            try:
                os.unlink(settings.pidfile or "/var/run/redis.pid")
            except OSError:
                pass
