"""Debugged scripts: SCRIPT DEBUG, and EVAL for a client that has asked for it (ldbStartSession in eval.c).

Role        Holds the script up while its client looks around, on the client's own socket. With YES that happens in a
            forked child, whose changes end with it; with SYNC in the server itself, which serves nobody else meanwhile.
Invariants  The client's connection ends with the session. A signal that ends the server ends a synchronous session: the
            script runs on to its end as if the client had left. Children are killed when the server ends.
Units       monotonic ms.
"""

from __future__ import annotations

import enum
import os
import select
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from cluster import clock
from cluster.commands.context import Session
from cluster.errors import CommandError
from cluster.persistence.child import ChildKind, ChildProcess, ChildReporter, fork_child
from cluster.resp.encode import error
from cluster.scripting.debugger import DebugSession
from cluster.scripting.engine import MISSING, LuaMissing

if TYPE_CHECKING:
    from cluster.node.client import Client
    from cluster.node.script_host import Scripting
    from cluster.node.server import Server

_READ_BYTES: Final = 1024
_SEND_TIMEOUT_MS: Final = 5000
_LOOK_UP_MS: Final = 100
"""How often somebody who waits for the client looks whether the server is to end."""
_PATIENCE_MS: Final = 5000
"""After how long a script is stopped when busy-reply-threshold does not say."""


class DebugMode(enum.Enum):
    """How a client's scripts are debugged."""

    FORKED = b"yes"
    SYNCHRONOUS = b"sync"


class _Console:
    """The client's socket, which is read and written here and nowhere else during a session."""

    def __init__(self, server: Server, client: Client) -> None:
        self._server = server
        self._socket = client.sock
        self._is_gone = False

    def send(self, data: bytes) -> None:
        deadline_ms = clock.monotonic_ms() + _SEND_TIMEOUT_MS
        view = memoryview(data)
        while view and not self._is_gone:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                left_ms = deadline_ms - clock.monotonic_ms()
                if left_ms <= 0 or not self._is_ready(select.POLLOUT, left_ms):
                    return  # The next read will tell.
            except OSError:
                self._is_gone = True

    def receive(self) -> bytes:
        while not self._is_gone and not self._server.stopping.is_requested:
            if not self._is_ready(select.POLLIN, _LOOK_UP_MS):
                continue
            try:
                return self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                break
        self._is_gone = True
        return b""

    def _is_ready(self, events: int, timeout_ms: int) -> bool:
        poller = select.poll()
        poller.register(self._socket, events)
        return bool(poller.poll(timeout_ms))

    def elapsed_ms(self) -> int:
        run = self._server.scripting.current
        return 0 if run is None else clock.monotonic_ms() - run.began_ms

    def resumed(self) -> None:
        run = self._server.scripting.current
        if run is not None:
            run.began_ms = clock.monotonic_ms()
        self._server.keyspace.now_ms = clock.unix_ms()


class ScriptDebugging:
    """The debugging of one server's scripts."""

    def __init__(self, server: Server, scripting: Scripting) -> None:
        self._server = server
        self._scripting = scripting
        self.modes: dict[int, DebugMode] = {}
        """Of the clients, by their id, whose scripts are to be debugged."""
        self._children: list[ChildProcess] = []

    def choose(self, client: Session, mode: bytes) -> bool:
        """SCRIPT DEBUG; False when there is no such mode."""
        sessions = self._server.sessions
        self.modes = {id_: chosen for id_, chosen in self.modes.items() if id_ in sessions}
        if mode == b"no":
            self.modes.pop(client.id, None)
            return True
        try:
            self.modes[client.id] = DebugMode(mode)
        except ValueError:
            return False
        return True

    def evaluate(self, client: Client, source: bytes, run: Callable[[], bytes]) -> bytes | None:
        """EVAL: ``run`` runs the script. None when a child has taken the client over. Raises CommandError."""
        mode = self.modes.pop(client.id)
        try:
            _ = self._scripting.engine
        except LuaMissing:
            raise CommandError(MISSING) from None
        if mode is DebugMode.FORKED:
            self._fork(client, source, run)
            return None
        log = self._server.log
        log.warning("Redis synchronous debugging eval session started")
        try:
            return self._run(client, source, run)
        finally:
            log.warning("Redis synchronous debugging eval session ended")
            self._server.close_session(client, after_reply=True)

    def _run(self, client: Client, source: bytes, run: Callable[[], bytes]) -> bytes:
        engine = self._scripting.engine
        patience_ms = self._server.settings.busy_reply_threshold or _PATIENCE_MS
        console = _Console(self._server, client)
        engine.debugger = DebugSession(source, console, engine.call_for_debugger, patience_ms=patience_ms)
        try:
            return run()
        finally:
            engine.debugger.end()
            engine.debugger = None

    # A session in a child -----------------------------------------------------------------------------------------

    def _fork(self, client: Client, source: bytes, run: Callable[[], bytes]) -> None:
        def work(_reporter: ChildReporter) -> bool:
            self._live_in_child(client, source, run)

        try:
            child = fork_child(
                ChildKind.DEBUGGER, work, label="Lua debugger", title="redis-ldb", keep_descriptors=[client.fd]
            )
        except OSError as problem:
            text = f"ERR Fork() failed: can't run EVAL in debugging mode: {problem.strerror}"
            raise CommandError(text.encode()) from None
        self._children.append(child)
        self._server.close_session(client)

    def _live_in_child(self, client: Client, source: bytes, run: Callable[[], bytes]) -> NoReturn:
        log = self._server.log
        log.warning("Redis forked for debugging eval")
        try:
            reply = self._run(client, source, run)
        except CommandError as refusal:
            reply = error(refusal.message)
        _Console(self._server, client).send(b"".join([*client.unsent, *client.out, reply]))
        log.warning("Lua debugging session child exiting")
        os._exit(0)

    def reap(self) -> None:
        """Called often: forget the children that have ended."""
        if self._children:
            self._children = [child for child in self._children if child.poll() is None]

    def kill_children(self) -> None:
        """The server is about to end."""
        for child in self._children:
            self._server.log.warning(f"Killing debugging session {child.pid}")
            child.kill(signal.SIGKILL)
        self._children.clear()
