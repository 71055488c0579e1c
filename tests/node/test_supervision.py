"""What the service manager is told: the datagrams that a node sends to systemd's socket, and the log's lines."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import OurNode
from tests.support.waiting import eventually


class SupervisedNode(OurNode):
    """A node with further environment variables."""

    variables: dict[str, str]

    def environment(self) -> dict[str, str]:
        return super().environment() | self.variables


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        yield sock


def supervised_node(variables: dict[str, str], **directives: Any) -> SupervisedNode:
    node = SupervisedNode(**directives)
    node.variables = variables
    return node


@pytest.mark.parametrize("directive", ["systemd", "auto"])
def test_systemd_hears_of_start_and_end(systemd: socket.socket, directive: str) -> None:
    node = supervised_node({"NOTIFY_SOCKET": systemd.getsockname()}, supervised=directive, save="900 1")
    with node:
        assert systemd.recv(1000) == b"STATUS=Redis is loading...\n"
        assert systemd.recv(1000) == b"STATUS=Ready to accept connections\n"
        assert systemd.recv(1000) == b"READY=1\n"
        assert node.info("server")["process_supervised"] == "systemd"
        assert "Supervised by systemd. Please make sure" in node.log_text()

        node.stop()
        assert systemd.recv(1000) == b"STOPPING=1\n"
        assert systemd.recv(1000) == b"STATUS=Saving the final RDB snapshot\n"


def test_a_replica_is_ready_for_reading(systemd: socket.socket) -> None:
    with supervised_node({"NOTIFY_SOCKET": systemd.getsockname()}, supervised="systemd", replicaof="127.0.0.1 1"):
        systemd.recv(1000)
        status = b"Ready to accept connections in read-only mode. Waiting for MASTER <-> REPLICA sync"
        assert systemd.recv(1000) == b"STATUS=%b\n" % status


def test_a_socket_without_a_file() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        name = f"hashslot-test-{os.getpid()}"
        sock.bind(f"\0{name}")
        sock.settimeout(10)
        with supervised_node({"NOTIFY_SOCKET": f"@{name}"}, supervised="systemd"):
            assert sock.recv(1000) == b"STATUS=Redis is loading...\n"


@pytest.mark.parametrize(
    ("directive", "variables", "line"),
    [
        ("systemd", {}, "systemd supervision error: NOTIFY_SOCKET not found!"),
        ("systemd", {"NOTIFY_SOCKET": "/nowhere/notify"}, "systemd supervision error: sd_notify: -2"),
        ("upstart", {}, "upstart supervision requested, but UPSTART_JOB not found!"),
    ],
)
def test_where_nobody_listens_the_node_serves_all_the_same(
    directive: str, variables: dict[str, str], line: str
) -> None:
    with supervised_node(variables, supervised=directive) as node:
        assert node.info("server")["process_supervised"] == "no"
        assert line in node.log_text()


def test_upstart_sees_the_process_stop() -> None:
    node = supervised_node({"UPSTART_JOB": "redis"}, supervised="auto")
    try:
        node.start(wait=False)
        assert eventually(lambda: ") T " in Path(f"/proc/{node.pid}/stat").read_text())
        os.kill(node.pid, signal.SIGCONT)
        node.wait_ready()
        assert node.info("server")["process_supervised"] == "upstart"
    finally:
        node.close()
