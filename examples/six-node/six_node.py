#!/usr/bin/env python3
"""Six nodes on this machine, three masters and three replicas.

    six_node.py start     start the nodes, create the cluster on first use, wait until all is well
    six_node.py status    who is who, as the first node that answers sees it
    six_node.py stop      shut the nodes down; their data stays
    six_node.py clean     stop, and delete the data

One file per node (7000.conf … 7005.conf) beside this script; what the nodes write goes to data/<port>/.
Only the standard library is used here, so that the script can be read without knowing anything else.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
PORTS = sorted(int(conf.stem) for conf in HERE.glob("[0-9]*.conf"))
HOST = "127.0.0.1"
START_SECONDS = 30.0


class Problem(Exception):
    """Something the user has to know; ends the script with its text."""


def ask(port: int, command: str) -> str:
    """Send an inline command and return the reply's text; OSError when nobody answers."""
    with socket.create_connection((HOST, port), timeout=5) as connection:
        connection.sendall(command.encode() + b"\r\n")
        replies = connection.makefile("rb")
        head = replies.readline().decode().rstrip()
        if head.startswith("$"):
            return replies.read(int(head[1:])).decode()
        return head


def fields(text: str) -> dict[str, str]:
    """The name:value lines of INFO and CLUSTER INFO."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def is_ours(port: int) -> bool:
    """Whether the server on this port was started on this directory's configuration."""
    try:
        return fields(ask(port, "INFO server")).get("config_file") == str(HERE / f"{port}.conf")
    except OSError:
        return False


def is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError:
            pass  # Not listening yet.
        time.sleep(0.02)
    raise Problem(f"{what}: not within {START_SECONDS:.0f} seconds. The logs are {DATA}/<port>/node.log")


def start() -> None:
    began = time.monotonic()
    missing = [port for port in PORTS if not is_ours(port)]
    for wanted in [*missing, *(port + 10000 for port in missing)]:
        if is_taken(wanted):
            raise Problem(f"port {wanted} is in use by another program")
    starting = {}
    for port in missing:
        (DATA / str(port)).mkdir(parents=True, exist_ok=True)
        # Relative names in the node's file start from here.
        starting[port] = subprocess.Popen([sys.executable, "-m", "cluster.node", str(HERE / f"{port}.conf")], cwd=HERE)
    for port, process in starting.items():
        # A node becomes a daemon, so that it outlives this script: what ends here is only its first process.
        if process.wait() != 0:
            raise Problem(f"the node for port {port} did not start (status {process.returncode})")
    for port in PORTS:
        wait_until(lambda port=port: ask(port, "PING") == "+PONG", f"node {port} answers")
        print(f"node {port} is up")

    if all(fields(ask(port, "CLUSTER INFO"))["cluster_known_nodes"] == "1" for port in PORTS):
        addresses = [f"{HOST}:{port}" for port in PORTS]
        cli = [sys.executable, "-m", "redis_cluster_cli"]
        if subprocess.run([*cli, "create", "--replicas", "1", "--yes", *addresses], check=False).returncode != 0:
            raise Problem("the cluster could not be created")

    for port in PORTS:
        wait_until(lambda port=port: sees_all_well(port), f"node {port} is ok")
    for port in PORTS:
        wait_until(lambda port=port: is_in_sync(port), f"node {port} has its master's data")
    wait_until(lambda: len({roles(port) for port in PORTS}) == 1, "all nodes know who replicates whom")
    print(
        f"\ncluster_state:ok on all {len(PORTS)} nodes, replicas in sync, after {time.monotonic() - began:.1f} seconds"
    )
    status()
    first, second = PORTS[0], PORTS[1]
    print(
        f"""
What to try next:
  redis-cli -c -p {first}                          then: set hello world, get hello
  .venv/bin/redis-cluster-cli check {HOST}:{first}
  .venv/bin/python examples/six-node/client.py     redis-py's RedisCluster
  kill -9 $(cat examples/six-node/data/{second}/node.pid)      and watch: make six-node-status
  make six-node                                    starts what is not running
  make six-node-stop
examples/six-node/README.md walks through all of it."""
    )


def sees_all_well(port: int) -> bool:
    """The node serves, and holds none of the others for failed (as it does for a while after one was away)."""
    return fields(ask(port, "CLUSTER INFO"))["cluster_state"] == "ok" and "fail" not in ask(port, "CLUSTER NODES")


def roles(port: int) -> frozenset[tuple[str, str]]:
    """(node id, its master's id or -) of all nodes, as this one sees them."""
    lines = [line.split() for line in ask(port, "CLUSTER NODES").splitlines()]
    return frozenset((words[0], words[3]) for words in lines)


def is_in_sync(port: int) -> bool:
    replication = fields(ask(port, "INFO replication"))
    return replication["role"] == "master" or replication["master_link_status"] == "up"


def status() -> None:
    for port in PORTS:
        try:
            nodes = ask(port, "CLUSTER NODES")
        except OSError:
            continue
        for line in sorted(nodes.splitlines(), key=lambda line: line.split()[1]):
            node_id, address, flags, master, *_, link = line.split()[:8]
            slots = " ".join(line.split()[8:])
            role = f"replica of {master[:8]}" if master != "-" else f"master {slots}"
            state = ",".join(flag for flag in flags.split(",") if flag not in ("myself", "master", "slave"))
            print(f"  {address.split('@')[0]:16} {node_id[:8]}  {role:24} {state or link}")
        return
    print("no node is running")


def stop() -> None:
    for port in PORTS:
        if not is_ours(port):
            continue
        try:
            ask(port, "SHUTDOWN")
        except OSError:
            pass  # It closes the connection instead of answering.
        wait_until(lambda port=port: not is_taken(port), f"node {port} stops")
        print(f"node {port} stopped")


def clean() -> None:
    stop()
    shutil.rmtree(DATA, ignore_errors=True)


def main() -> int:
    actions = {"start": start, "status": status, "stop": stop, "clean": clean}
    if len(sys.argv) != 2 or sys.argv[1] not in actions:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        actions[sys.argv[1]]()
    except Problem as problem:
        print(f"six_node.py: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
