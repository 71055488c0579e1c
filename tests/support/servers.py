"""Servers for tests: `RealRedis` (Debian's redis-server) and `OurNode` (this package), with one and the same face.

    with OurNode(cluster=True, cluster_node_timeout=2000) as node, RealRedis(appendonly="yes") as real:
        node.call("PING")

Keyword arguments are redis.conf directives with underscores for dashes (a list repeats the directive). A server lives
in a temporary directory of its own on a leased port, and is gone, with its directory, when the block ends; `pause`
leaves a stopped process that is killed all the same. Started only when entered (or by `start`), so that a test can
write files into `directory` first. Units: seconds.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support import processes
from tests.support.ports import BUS_PORT_OFFSET, PortLease, lease_port
from tests.support.waiting import PATIENCE, eventually
from tests.support.wire import Argument, RawConnection, ReplyError

Directive = str | int | Sequence[str]
Kind = Literal["ours", "real"]

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD_VARIABLE = "HASHSLOT_PACKAGE"
"""Names the directory of another build of the package for our nodes to run, such as build/compiled."""
REAL_TOOLS = ("redis-server", "redis-cli", "redis-benchmark")
REAL_VERSION = "7.0."
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
START_TIMEOUT = PATIENCE
PORT_ATTEMPTS = 3

COMMON: Mapping[str, Directive] = {
    "bind": "127.0.0.1",
    "save": '""',
    "enable-debug-command": "local",
    "repl-diskless-sync-delay": 0,
}


class StartFailure(AssertionError):
    """A server did not come up; the text holds its log."""


def in_ci() -> bool:
    """Whether a test that cannot run is a failure."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


@cache
def real_redis_missing() -> str | None:
    """Why tests against Debian's Redis cannot run here; None when they can."""
    for tool in REAL_TOOLS:
        if shutil.which(tool) is None:
            return f"{tool} is not installed (Debian: apt-get install redis-server redis-tools)"
    text = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=False).stdout
    if f"v={REAL_VERSION}" not in text:
        return f"redis-server is not {REAL_VERSION}x: {text.strip()}"
    return None


def require_real_redis() -> None:
    """Skip the test, saying why, where the real thing is missing; fail it under CI=true."""
    reason = real_redis_missing()
    if reason is None:
        return
    if in_ci():
        pytest.fail(f"under CI=true this may not be skipped: {reason}")
    pytest.skip(reason)


class Server:
    """One server process: its directory, its port, its life."""

    kind: ClassVar[Kind]

    def __init__(self, *, cluster: bool = False, arguments: Sequence[str] = (), **directives: Any) -> None:
        self.cluster = cluster
        self.arguments = list(arguments)  # Command-line words after the configuration file.
        self.directives: dict[str, Directive] = dict(COMMON)
        if cluster:
            self.directives |= {
                "cluster-enabled": "yes",
                "cluster-config-file": "nodes.conf",
                "cluster-node-timeout": 2000,
            }
        self.directives |= {name.replace("_", "-"): value for name, value in directives.items()}
        self._temporary = tempfile.TemporaryDirectory(prefix=f"hashslot-{self.kind}-")
        self.directory = Path(self._temporary.name)
        self._lease: PortLease | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    def command(self, conf: Path) -> list[str]:
        """The argument vector that starts this kind of server on `conf`."""
        raise NotImplementedError  # pragma: no cover - every kind has its own

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True, timeout: float = START_TIMEOUT) -> Self:
        """Start the process and, with `wait`, return when it answers PING (with anything but -LOADING)."""
        assert not self.running, "already running"
        for attempt in range(PORT_ATTEMPTS):
            if self._lease is None:
                self._lease = lease_port()
            self.launch()
            if not wait:
                return self
            try:
                self.wait_ready(timeout)
                return self
            except StartFailure as failure:
                first_start = self.log_text().count("Address already in use") and attempt < PORT_ATTEMPTS - 1
                if not first_start:
                    raise failure from None
                # Somebody outside these tests took the port between our look and the server's bind.
                self.release_port()
        raise AssertionError("unreachable")

    def launch(self) -> None:
        """Write the configuration and start the process on it, without waiting."""
        conf = self.write_conf()
        with open(self.directory / "log.txt", "ab") as log:
            self._process = processes.spawn(self.command(conf), cwd=self.directory, output=log, env=self.environment())
        self._paused = False

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Return when PING is answered; raise `StartFailure` if the process ends or the deadline passes."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if not self.running:
                raise StartFailure(f"{self} ended with status {self.returncode}:\n{self.log_text()}")
            with contextlib.suppress(OSError), self.raw(timeout=2.0) as connection:
                answer = connection.ask("PING")
                if not (isinstance(answer, ReplyError) and str(answer).startswith("LOADING")):
                    return
            time.sleep(0.01)
        raise StartFailure(f"{self} did not answer PING within {timeout} s:\n{self.log_text()}")

    def stop(self, grace: float = PATIENCE) -> int:
        """Shut down by SIGTERM and return the exit status; keeps directory and port."""
        status = processes.end(self._process, grace=grace) if self._process else 0
        self._paused = False
        return status

    def kill9(self) -> None:
        """SIGKILL: no shutdown, no save, no good-bye."""
        assert self._process is not None
        processes.kill(self._process)
        self._paused = False

    def pause(self) -> None:
        """SIGSTOP: alive for the kernel, dead for everybody else."""
        self.signal(signal.SIGSTOP)
        self._paused = True
        eventually(lambda: self._state_letter() == "T", message=f"{self} to be stopped")

    def resume(self) -> None:
        self.signal(signal.SIGCONT)
        self._paused = False

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def restart(self, *, wait: bool = True) -> Self:
        """Start again on the same directory and port, ending the process first if it still runs."""
        if self.running:
            self.stop()
        return self.start(wait=wait)

    def close(self) -> None:
        """End the process whatever its state, give back the port and delete the directory."""
        if self._process is not None:
            if self._paused:
                processes.kill(self._process)
            else:
                processes.end(self._process, grace=5.0)
        self.release_port()
        self._temporary.cleanup()

    def release_port(self) -> None:
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def __enter__(self) -> Self:
        try:
            return self if self.running else self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- facts --------------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        if self._lease is None:
            self._lease = lease_port()
        return self._lease.port

    @property
    def bus_port(self) -> int:
        return self.port + BUS_PORT_OFFSET

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def returncode(self) -> int | None:
        return self._process.poll() if self._process else None

    def wait_exit(self, timeout: float = PATIENCE) -> int:
        """Wait for the process to end by itself; returns its exit status."""
        assert self._process is not None
        return self._process.wait(timeout)

    def log_text(self) -> str:
        """Everything the server has printed, over all its starts."""
        path = self.directory / "log.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def resident_bytes(self) -> int:
        """Resident memory of the process."""
        fields = Path(f"/proc/{self.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def _state_letter(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} :{self._lease.port if self._lease else '?'}>"

    # --- talking to it ------------------------------------------------------------------------------------------------

    def raw(self, *, timeout: float = PATIENCE) -> RawConnection:
        """A new connection on which the test decides about every byte."""
        return RawConnection(self.port, timeout=timeout)

    def call(self, *arguments: Argument) -> Any:
        """One command on a connection of its own; raises `ReplyError` on an error reply."""
        with self.raw() as connection:
            return connection.call(*arguments)

    def client(self, **options: Any) -> redis.Redis:
        """A redis-py client: bytes in and out, RESP2, one connection, no hidden retries."""
        settings: dict[str, Any] = {
            "protocol": 2,
            "socket_timeout": PATIENCE,
            "retry": Retry(NoBackoff(), 0),
            "single_connection_client": True,
            **options,
        }
        return redis.Redis(host="127.0.0.1", port=self.port, **settings)

    def info(self, section: str = "default") -> dict[str, str]:
        """INFO as a dictionary of strings."""
        return parse_info(self.call("INFO", section))

    def cluster_info(self) -> dict[str, str]:
        return parse_info(self.call("CLUSTER", "INFO"))

    def write_conf(self) -> Path:
        """Write redis.conf into the directory and return its path."""
        lines = [f"port {self.port}", f"dir {self.directory}"]
        for name, value in self.directives.items():
            values = [value] if isinstance(value, (str, int)) else value
            lines.extend(f"{name} {one}" for one in values)
        conf = self.directory / "redis.conf"
        conf.write_text("\n".join(lines) + "\n")
        return conf


class RealRedis(Server):
    """Debian's redis-server 7.0; skips (under CI=true fails) the test where there is none."""

    kind = "real"

    def __init__(self, *, cluster: bool = False, arguments: Sequence[str] = (), **directives: Any) -> None:
        require_real_redis()
        super().__init__(cluster=cluster, arguments=arguments, **directives)

    def command(self, conf: Path) -> list[str]:
        return ["redis-server", str(conf), *self.arguments]


class OurNode(Server):
    """A node of this package, run by the interpreter that runs the tests; of another build of it by BUILD_VARIABLE."""

    kind = "ours"

    def command(self, conf: Path) -> list[str]:
        return [sys.executable, "-m", "cluster.node", str(conf), *self.arguments]

    def environment(self) -> dict[str, str]:
        # The node runs in a directory of its own; the package is found even where it is not installed.
        package = str(Path(os.environ.get(BUILD_VARIABLE, REPOSITORY)).resolve())
        path = os.environ.get("PYTHONPATH", "")
        return {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{path}" if path else package}


KINDS: Mapping[Kind, type[Server]] = {"ours": OurNode, "real": RealRedis}


def make_server(kind: Kind, *, cluster: bool = False, **directives: Any) -> Server:
    """A server of the kind named, not yet started."""
    return KINDS[kind](cluster=cluster, **directives)


def parse_info(text: bytes | str) -> dict[str, str]:
    """`field:value` lines to a dictionary; headings and blank lines are dropped."""
    decoded = text.decode() if isinstance(text, bytes) else text
    return dict(line.split(":", 1) for line in decoded.splitlines() if ":" in line and not line.startswith("#"))


def redis_cli(
    port: int, *arguments: str, options: Sequence[str] = (), stdin: str = "", timeout: float = 200.0
) -> subprocess.CompletedProcess[str]:
    """Run Debian's redis-cli against a port and return its exit status and output."""
    require_real_redis()
    done = subprocess.run(
        ["redis-cli", "-p", str(port), *options, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    done.stdout = COLOURS.sub("", done.stdout)  # redis-cli --cluster colours its messages on a pipe, too.
    return done


def hashslot_cli(*arguments: str, stdin: str = "", timeout: float = 200.0) -> subprocess.CompletedProcess[str]:
    """Run this project's CLI as its users do, as a process."""
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "tools" / "redis_cluster_cli.py"), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=REPOSITORY,
    )


__all__ = [
    "Kind",
    "OurNode",
    "RawConnection",
    "RealRedis",
    "ReplyError",
    "Server",
    "StartFailure",
    "eventually",
    "hashslot_cli",
    "in_ci",
    "make_server",
    "parse_info",
    "real_redis_missing",
    "redis_cli",
    "require_real_redis",
]
