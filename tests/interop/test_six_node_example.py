"""examples/six-node as its README uses it, on other ports so that it disturbs nobody's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import lease_port
from tests.support.servers import REPOSITORY
from tests.support.wire import RawConnection

EXAMPLE = REPOSITORY / "examples" / "six-node"
PORTS = range(7000, 7006)


class Example:
    """A copy of the example on leased ports."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        leases = sorted((lease_port() for _ in PORTS), key=lambda lease: lease.port)
        self.leases = leases
        self.ports = [lease.port for lease in leases]
        shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("data", "__pycache__"))
        for name in os.listdir(directory):
            path = directory / name
            text = path.read_text()
            for old, new in zip(PORTS, self.ports, strict=True):
                text = text.replace(str(old), str(new))
            path.unlink()
            stem = int(path.stem) if path.stem.isdigit() else None
            renamed = directory / f"{self.ports[stem - PORTS.start]}.conf" if stem else path
            renamed.write_text(text)

    def run(self, script: str, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tools")])}
        return subprocess.run(
            [sys.executable, str(self.directory / script), *words],
            capture_output=True,
            text=True,
            env=environment,
            timeout=200,
            check=False,
        )


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Example]:
    one = Example(tmp_path / "six-node")
    try:
        yield one
    finally:
        one.run("six_node.py", "clean")
        for pid_file in one.directory.glob("data/*/node.pid"):  # Only if clean has failed.
            os.kill(int(pid_file.read_text()), 9)
        for lease in one.leases:
            lease.release()


def test_the_example_from_start_to_clean(example: Example) -> None:
    started = example.run("six_node.py", "start")
    assert started.returncode == 0, started.stdout + started.stderr
    assert "cluster_state:ok on all 6 nodes, replicas in sync" in started.stdout
    assert started.stdout.count("replica of ") == 3

    client = example.run("client.py")
    assert client.returncode == 0, client.stdout + client.stderr
    assert "visits:Bologna   = 1   slot  1579" in client.stdout
    assert "['umbrella', '12.50']" in client.stdout

    # Stopped and started again, it is the same cluster with the same data.
    stopped = example.run("six_node.py", "stop")
    assert stopped.returncode == 0 and stopped.stdout.count("stopped") == 6
    assert "no node is running" in example.run("six_node.py", "status").stdout
    again = example.run("six_node.py", "start")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Performing hash slots allocation" not in again.stdout
    with RawConnection(example.ports[0]) as connection:
        assert connection.call("GET", "visits:Bologna") == b"1"

    cleaned = example.run("six_node.py", "clean")
    assert cleaned.returncode == 0
    assert not (example.directory / "data").exists()


def test_a_port_in_use_is_named(example: Example) -> None:
    with socket.create_server(("127.0.0.1", example.ports[2])):
        started = example.run("six_node.py", "start")
    assert started.returncode == 1
    assert f"port {example.ports[2]} is in use by another program" in started.stderr


def test_the_configuration_files_differ_only_in_the_port() -> None:
    texts = {(EXAMPLE / f"{port}.conf").read_text().replace(str(port), "PORT") for port in PORTS}
    assert len(texts) == 1
