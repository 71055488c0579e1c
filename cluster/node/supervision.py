"""``supervised``: telling the service manager that started the process how it stands (redisIsSupervised in server.c).

systemd is sent datagrams over the Unix socket that it names in NOTIFY_SOCKET, see sd_notify(3); upstart waits for the
process to stop itself, and lets it go on.
"""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from cluster.node.logging import Log

_UPSTART_JOB: Final = "UPSTART_JOB"
_NOTIFY_SOCKET: Final = "NOTIFY_SOCKET"


class Supervisor:
    """Who is told; nobody, until :meth:`begin` has found one."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.kind: Literal["no", "upstart", "systemd"] = "no"
        """As INFO has it (process_supervised)."""

    def begin(self, wanted: str) -> bool:
        """Look for what the directive names; False when there is nobody to tell (it has been logged)."""
        if wanted == "auto":
            if os.environ.get(_UPSTART_JOB):
                self._log.verbose("Upstart supervision detected.")
                wanted = "upstart"
            elif os.environ.get(_NOTIFY_SOCKET):
                self._log.verbose("Systemd supervision detected.")
                wanted = "systemd"
        if wanted == "upstart" and self._begin_upstart():
            self.kind = "upstart"
        elif wanted == "systemd" and self._send("STATUS=Redis is loading...\n"):
            self._log.notice(
                "Supervised by systemd. Please make sure you set appropriate values for TimeoutStartSec and "
                "TimeoutStopSec in your service unit."
            )
            self.kind = "systemd"
        return self.kind != "no"

    def ready(self, *, as_replica: bool) -> None:
        """The data is loaded, and clients are served."""
        if as_replica:
            self.tell(
                "STATUS=Ready to accept connections in read-only mode. Waiting for MASTER <-> REPLICA sync\n",
            )
        else:
            self.tell("STATUS=Ready to accept connections\n")
        self.tell("READY=1\n")

    def tell(self, message: str) -> None:
        """Send what sd_notify(3) describes; nothing without systemd."""
        if self.kind == "systemd":
            self._send(message)

    def _begin_upstart(self) -> bool:
        if not os.environ.get(_UPSTART_JOB):
            self._log.warning(f"upstart supervision requested, but {_UPSTART_JOB} not found!")
            return False
        self._log.notice("supervised by upstart, will stop to signal readiness.")
        os.kill(os.getpid(), signal.SIGSTOP)
        del os.environ[_UPSTART_JOB]
        return True

    def _send(self, message: str) -> bool:
        address = os.environ.get(_NOTIFY_SOCKET)
        if not address:
            self._log.warning(f"systemd supervision error: {_NOTIFY_SOCKET} not found!")
            return False
        if address.startswith("@"):  # A name that is in no file system.
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.sendto(message.encode(), address)
        except OSError as failure:
            self._log.warning(f"systemd supervision error: sd_notify: {-(failure.errno or 0)}")
            return False
        return True
