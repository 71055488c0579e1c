"""Ports that are ours for as long as we hold them, also with several pytest workers on one machine.

A cluster node needs two ports: the client port and the bus port 10000 above it. Client ports come from 10100..20099, so
that bus ports (20100..30099) meet neither another client port nor the kernel's ephemeral range (from 32768). A port is
reserved by an flock on a file named after it, held until `release`; the kernel drops the lock when the process dies.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

import attrs

FIRST_PORT, LAST_PORT = 10_100, 20_099
BUS_PORT_OFFSET = 10_000

_random = random.Random()  # Seeded by the system: two workers must not walk the range in the same order.


@attrs.define
class PortLease:
    """The right to use `port` and `port + 10000`, until released."""

    port: int
    _lock_fd: int

    def release(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def lease_port() -> PortLease:
    """Reserve a client port whose bus port is free as well."""
    return lease_neighbours(1)[0]


def lease_neighbours(count: int) -> list[PortLease]:
    """Reserve so many client ports next to one another."""
    for _ in range(1000):
        first = _random.randint(FIRST_PORT, LAST_PORT - count + 1)
        leases: list[PortLease] = []
        while len(leases) < count and (lease := _try(first + len(leases))) is not None:
            leases.append(lease)
        if len(leases) == count:
            return leases
        for lease in leases:
            lease.release()
    raise RuntimeError(f"no free ports in {FIRST_PORT}..{LAST_PORT}")


def _try(port: int) -> PortLease | None:
    """This very port, unless somebody has it."""
    directory = Path(tempfile.gettempdir()) / f"hashslot-test-ports-{os.getuid()}"
    directory.mkdir(exist_ok=True)
    lock_fd = os.open(directory / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_free(port) and _is_free(port + BUS_PORT_OFFSET):
            return PortLease(port, lock_fd)
    except BlockingIOError:
        pass
    os.close(lock_fd)
    return None


def _is_free(port: int) -> bool:
    """Whether a server that sets SO_REUSEADDR could listen on `port` on every address."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True
