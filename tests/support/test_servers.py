"""The harness itself: a test that lies about a server is worse than none."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ports, processes
from tests.support.ports import BUS_PORT_OFFSET, lease_neighbours, lease_port
from tests.support.servers import REPOSITORY, RealRedis, StartFailure, eventually, redis_cli
from tests.support.waiting import Timeout
from tests.support.wire import ReplyError

pytestmark = pytest.mark.real_redis


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_server_answers_and_is_gone_afterwards() -> None:
    with RealRedis() as server:
        assert server.call("PING") == b"PONG"
        assert server.client().set("key", "value") is True
        assert redis_cli(server.port, "GET", "key").stdout == "value\n"
        assert "Ready to accept connections" in server.log_text()
        pid, directory = server.pid, server.directory
    assert not is_alive(pid)
    assert not directory.exists()


def test_an_error_reply_is_raised_by_call_and_returned_by_ask() -> None:
    with RealRedis() as server, server.raw() as connection:
        assert isinstance(connection.ask("NOSUCH"), ReplyError)
        with pytest.raises(ReplyError, match="unknown command"):
            connection.call("NOSUCH")


def test_a_paused_server_is_killed_at_the_end() -> None:
    with RealRedis() as server:
        server.pause()
        with pytest.raises(TimeoutError), server.raw(timeout=0.2) as connection:
            connection.ask("PING")
        server.resume()
        assert server.call("PING") == b"PONG"
        server.pause()
        pid = server.pid
    assert not is_alive(pid)


def test_restart_keeps_port_and_files() -> None:
    with RealRedis(save="900 1") as server:
        port = server.port
        server.call("SET", "key", "kept")
        assert server.stop() == 0
        server.restart()
        assert (server.port, server.call("GET", "key")) == (port, b"kept")
        server.call("SET", "key", "lost")
        server.kill9()
        server.restart()
        assert server.call("GET", "key") == b"kept"


def test_a_server_that_does_not_start_says_why() -> None:
    with pytest.raises(StartFailure, match="FATAL CONFIG FILE ERROR"), RealRedis(no_such_directive="yes"):
        pass


def test_servers_die_with_the_test_run() -> None:
    """Also when pytest is killed and no finally clause runs."""
    script = (
        "from tests.support.servers import RealRedis; server = RealRedis().start(); "
        "print(server.pid, server.directory, flush=True); input()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    assert parent.stdout is not None
    pid, directory = parent.stdout.readline().decode().split()
    assert is_alive(int(pid))
    parent.kill()
    parent.communicate()
    eventually(lambda: not is_alive(int(pid)))
    shutil.rmtree(directory)  # Which nobody was left to do.


def test_ending_a_process_ends_its_children(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as output:
        shell = processes.spawn(["sh", "-c", "sleep 1000 & echo $!; wait"], cwd=tmp_path, output=output)
    child = int(eventually(lambda: (tmp_path / "out").read_text().strip()))
    processes.end(shell)
    assert not is_alive(child)
    assert shell not in processes.leftovers()


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    with open(tmp_path / "out", "wb") as output:
        shell = processes.spawn(["sh", "-c", "trap '' TERM; echo ready; sleep 1000"], cwd=tmp_path, output=output)
    eventually((tmp_path / "out").read_text)
    assert processes.end(shell, grace=0.3) == -signal.SIGKILL


def test_neighbours_are_leased_together() -> None:
    leases = lease_neighbours(9)
    first = leases[0].port
    assert [lease.port for lease in leases] == [*range(first, first + 9)]
    assert all(ports._try(lease.port) is None for lease in leases)
    for lease in leases:
        lease.release()


def test_a_port_is_leased_once() -> None:
    leases = [lease_port() for _ in range(50)]
    assert len({lease.port for lease in leases}) == 50
    assert all(lease.port + BUS_PORT_OFFSET < 65536 for lease in leases)
    for lease in leases:
        lease.release()


def test_eventually_returns_the_value_and_fails_with_what_it_saw() -> None:
    start = time.monotonic()
    assert eventually(lambda: time.monotonic() - start > 0.05 and "done") == "done"
    with pytest.raises(Timeout, match=r"the sky to fall .*last value: 0"):
        eventually(lambda: 0, 0.05, message="the sky to fall")
    with pytest.raises(Timeout, match="last error: OSError"):
        eventually(_raise_os_error, 0.05)


def _raise_os_error() -> bool:
    raise OSError("not yet")
