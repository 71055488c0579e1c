"""The CLI at work on real clusters: growing, shrinking, passwords, names, interruptions, dying and silent nodes."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.support.clusters import ClusterFixture, key_slot, nodes_seen_by
from tests.support.servers import KINDS, REPOSITORY, Kind, Server, hashslot_cli, parse_info
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.real_redis

PASSWORD = "an open secret"


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.fixture
def masters(kind: Kind) -> Iterator[ClusterFixture]:
    """Three masters, for tests that leave them in disorder."""
    with ClusterFixture(masters=3, kind=kind) as running:
        yield running


@pytest.fixture(scope="module")
def shared(kind: Kind) -> Iterator[ClusterFixture]:
    """Three masters, for tests that leave them as they were."""
    with ClusterFixture(masters=3, kind=kind) as running:
        yield running.calm()


def fill(cluster: ClusterFixture, count: int) -> dict[str, str]:
    """Write ``count`` keys all over the cluster."""
    written = {f"key:{number}": str(number) for number in range(count)}
    with cluster.client() as client:
        for key, value in written.items():
            client.set(key, value)
    return written


def read_back(cluster: ClusterFixture, keys: Sequence[str]) -> dict[str, str]:
    with cluster.client() as client:
        return {key: (client.get(key) or b"").decode() for key in keys}


def assert_no_open_slots(cluster: ClusterFixture) -> None:
    for node in cluster.running:
        assert not any(view.migrating or view.importing for view in nodes_seen_by(node).values())


class RunningCli:
    """The CLI as a process that can be watched and interrupted."""

    def __init__(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "tools" / "redis_cluster_cli.py"), *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.lines: list[str] = []

    def __enter__(self) -> RunningCli:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def wait_for_lines(self, beginning: str, count: int) -> None:
        """Read until ``count`` lines that begin so have come."""
        assert self.process.stdout is not None
        while sum(line.startswith(beginning) for line in self.lines) < count:
            line = self.process.stdout.readline()
            assert line, "".join(self.lines) + self.process.communicate()[1]
            self.lines.append(line)

    def finish(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=200)
        return self.process.returncode, "".join(self.lines) + out, err


def reshard_of(cluster: ClusterFixture, count: int) -> list[str]:
    """The words that move ``count`` slots from the first to the second node, starting from the third."""
    one, two, three = cluster.nodes[:3]
    return ["reshard", three.address, "--from", one.address, "--to", two.address, "--slots", str(count), "--yes"]


# Growing and shrinking


def test_a_new_node_is_met_made_a_replica_and_removed_again(shared: ClusterFixture, kind: Kind) -> None:
    written = fill(shared, 100)
    first = shared.nodes[0]
    with KINDS[kind](cluster=True) as node:
        met = hashslot_cli("meet", first.address, node.address)
        assert (met.returncode, met.stderr) == (0, ""), met.stderr
        assert met.stdout.endswith(f"[OK] {first.address} now knows 4 nodes, itself included.\n")
        for known in shared.nodes:
            assert node.port in {view.port for view in nodes_seen_by(known).values()}

        followed = hashslot_cli("replicate", node.address, first.address)
        assert (followed.returncode, followed.stderr) == (0, ""), followed.stderr
        assert followed.stdout.endswith(f"[OK] {node.address} replicates {first.address}.\n")
        assert parse_info(node.call("INFO", "replication"))["master_link_status"] == "up"
        assert node.call("DBSIZE") == first.call("DBSIZE") > 0

        deleted = hashslot_cli("del-node", first.address, node.address)
        assert (deleted.returncode, deleted.stderr) == (0, ""), deleted.stderr
        assert len(nodes_seen_by(node)) == 1
    assert read_back(shared, list(written)) == written
    assert all(len(nodes_seen_by(known)) == 3 for known in shared.nodes)


@pytest.mark.parametrize("options", [[], ["--slave"]])
def test_an_empty_node_is_added_and_removed_again(shared: ClusterFixture, kind: Kind, options: list[str]) -> None:
    first = shared.nodes[0]
    with KINDS[kind](cluster=True) as node:
        added = hashslot_cli("add-node", node.address, first.address, *options)
        assert added.returncode == 0, added.stdout + added.stderr
        assert added.stdout.endswith("[OK] New node added correctly.\n")
        assert (node.call("ROLE")[0] == b"slave") == bool(options)
        deleted = hashslot_cli("del-node", first.address, node.call("CLUSTER", "MYID").decode())
        assert deleted.returncode == 0, deleted.stdout + deleted.stderr
    assert all(len(nodes_seen_by(known)) == 3 for known in shared.nodes)


def test_replicate_refuses_a_master_with_slots(shared: ClusterFixture) -> None:
    done = hashslot_cli("replicate", shared.nodes[0].address, shared.nodes[1].address)

    assert done.returncode == 1
    assert "is not empty! Reshard data away and try again." in done.stdout


def test_rebalance_fills_a_new_master_and_empties_it_again(masters: ClusterFixture, kind: Kind) -> None:
    written = fill(masters.calm(), 300)
    first = masters.nodes[0]
    with KINDS[kind](cluster=True) as node:
        assert hashslot_cli("add-node", node.address, first.address).returncode == 0
        filled = hashslot_cli("rebalance", first.address, "--use-empty-masters", "--weight", f"{node.address}=0.1")
        assert filled.returncode == 0, filled.stdout + filled.stderr
        own = next(view for view in nodes_seen_by(node).values() if "myself" in view.flags)
        assert len(own.slots) in (528, 529)  # 0.1 of 3.1, and perhaps what rounding left over.
        assert node.call("DBSIZE") > 0
        emptied = hashslot_cli("rebalance", first.address, "--weight", f"{node.address}=0")
        assert emptied.returncode == 0, emptied.stdout + emptied.stderr
        # Without slots it makes itself a replica of the master that took the last one.
        assert not any(view.slots for view in nodes_seen_by(node).values() if view.port == node.port)
        assert hashslot_cli("del-node", first.address, node.address).returncode == 0
    masters.wait_agreement()
    assert read_back(masters, list(written)) == written
    assert hashslot_cli("check", first.address).returncode == 0


def test_the_node_timeout_is_set_everywhere_and_kept(shared: ClusterFixture) -> None:
    done = hashslot_cli("set-timeout", shared.nodes[0].address, "2500")

    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(">>> New node timeout set. 3 OK, 0 ERR.\n")
    for node in shared.nodes:
        assert node.call("CONFIG", "GET", "cluster-node-timeout") == [b"cluster-node-timeout", b"2500"]
        assert "cluster-node-timeout 2500" in (node.directory / "redis.conf").read_text()
    assert hashslot_cli("set-timeout", shared.nodes[0].address, "99").returncode == 1


# Passwords


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_cluster_with_passwords(kind: Kind, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create, look and reshard, MIGRATE included, which logs in from node to node."""
    login: list[str] = []
    if way == "environment":
        monkeypatch.setenv("REDISCLI_AUTH", PASSWORD)
    else:
        login = ["-a", PASSWORD, "--no-auth-warning"]
    servers: list[Server] = []
    try:
        for _ in range(3):
            servers.append(KINDS[kind](cluster=True, requirepass=f'"{PASSWORD}"', masterauth=f'"{PASSWORD}"').start())
        addresses = [server.address for server in servers]
        created = hashslot_cli(*login, "create", "--yes", *addresses)
        assert (created.returncode, created.stderr) == (0, ""), created.stdout + created.stderr
        with servers[0].raw() as connection:
            connection.call("AUTH", PASSWORD)
            connection.call("SET", "{06S}key", "value")  # Slot 0.
        moved = hashslot_cli(
            *login, "reshard", addresses[2], "--from", addresses[0], "--to", addresses[1], "--slots", "2", "--yes"
        )
        assert (moved.returncode, moved.stderr) == (0, ""), moved.stdout + moved.stderr
        with servers[1].raw() as connection:
            connection.call("AUTH", PASSWORD)
            assert connection.call("GET", "{06S}key") == b"value"
    finally:
        for server in servers:
            server.close()


def test_a_missing_and_a_wrong_password(kind: Kind) -> None:
    with KINDS[kind](cluster=True, requirepass=f'"{PASSWORD}"') as node:
        missing = hashslot_cli("check", node.address)
        wrong = hashslot_cli("-a", "wrong", "--no-auth-warning", "check", node.address)

        assert missing.returncode == wrong.returncode == 1
        assert missing.stdout == f"[ERR] Node {node.address} NOAUTH Authentication required.\n"
        assert wrong.stdout.startswith(f"Node {node.address} replied with error:\nWRONGPASS ")


# Names


@pytest.mark.parametrize("host", ["localhost", "[::1]"] if has_ipv6() else ["localhost"])
def test_a_cluster_by_name_or_by_ipv6(kind: Kind, host: str) -> None:
    servers: list[Server] = []
    try:
        for _ in range(3):
            servers.append(KINDS[kind](cluster=True, bind="127.0.0.1 ::1" if has_ipv6() else "127.0.0.1").start())
        addresses = [f"{host}:{server.port}" for server in servers]
        created = hashslot_cli("create", "--yes", *addresses)
        assert created.returncode == 0, created.stdout + created.stderr
        # "localhost" may mean either address; what the nodes call each other is an address in any case.
        hosts = {row.split()[1].rpartition(":")[0] for row in servers[1].call("CLUSTER", "NODES").decode().splitlines()}
        assert hosts <= {"127.0.0.1", "::1"}
        checked = hashslot_cli("check", host.strip("[]"), str(servers[2].port))
        assert checked.returncode == 0, checked.stdout + checked.stderr
    finally:
        for server in servers:
            server.close()


# Interruptions


def test_ctrl_c_stops_a_reshard_between_two_slots(masters: ClusterFixture) -> None:
    written = fill(masters.calm(), 200)
    with RunningCli(*reshard_of(masters, 3000)) as cli:
        cli.wait_for_lines("Moving slot ", 20)
        cli.process.send_signal(signal.SIGINT)
        status, out, err = cli.finish()

    assert status == 1
    assert "slots moved, none left open." in err
    assert "Traceback" not in err
    assert 20 <= out.count("\nMoving slot ") < 3000
    masters.wait_agreement()
    assert_no_open_slots(masters)
    assert hashslot_cli("check", masters.nodes[0].address).returncode == 0
    assert read_back(masters, list(written)) == written


def test_a_tool_killed_in_the_middle_is_followed_by_fix(masters: ClusterFixture) -> None:
    """One slot with many keys, so that the kill comes while its keys move."""
    first, second = masters.calm().nodes[:2]
    keys = [f"{{06S}}{number}" for number in range(20_000)]
    with masters.client() as client:
        client.mset({key: key for key in keys})
    with RunningCli(*reshard_of(masters, 1), "--pipeline", "1") as cli:
        eventually(lambda: second.call("CLUSTER", "COUNTKEYSINSLOT", 0) > 100, interval=0.001)
        cli.process.kill()
        cli.process.wait()

    assert hashslot_cli("check", first.address).returncode == 1
    fixed = hashslot_cli("fix", first.address)
    assert fixed.returncode == 0, fixed.stdout + fixed.stderr
    assert ">>> Case 1: Moving slot 0 from" in fixed.stdout
    masters.wait_agreement()
    assert_no_open_slots(masters)
    assert second.call("CLUSTER", "COUNTKEYSINSLOT", 0) == len(keys)
    assert first.call("CLUSTER", "COUNTKEYSINSLOT", 0) == 0


@pytest.mark.parametrize("victim", [0, 1], ids=["source", "target"])
def test_a_node_that_dies_during_a_reshard(masters: ClusterFixture, victim: int) -> None:
    dying = masters.nodes[victim]
    with RunningCli(*reshard_of(masters, 5000)) as cli:
        cli.wait_for_lines("Moving slot ", 20)
        dying.kill9()
        status, out, err = cli.finish()

    assert status == 1
    assert "Traceback" not in err
    assert "redis-cluster-cli fix" in err
    assert dying.address in out + err

    dying.start()
    masters.wait_all_known()
    eventually(lambda: hashslot_cli("fix", masters.nodes[2].address).returncode == 0, interval=0.5)
    masters.wait_agreement()
    assert_no_open_slots(masters)


def test_a_failover_elsewhere_does_not_stop_a_reshard(kind: Kind) -> None:
    """Until the replica has taken over, every node answers MIGRATE by CLUSTERDOWN."""
    with ClusterFixture(masters=3, replicas=1, kind=kind) as cluster:
        written = fill(cluster, 3000)
        dying = cluster.nodes[2]
        with RunningCli(*reshard_of(cluster, 5000)) as cli:
            cli.wait_for_lines("Moving slot ", 20)
            dying.kill9()
            status, out, err = cli.finish()

        assert status == 0, out[-1000:] + err
        assert f"Going on without {dying.address}" in err
        eventually(lambda: cluster.master_of(16383) is not dying, message="its replica to take over")
        cluster.wait_ok()
        assert_no_open_slots(cluster)
        assert read_back(cluster, list(written)) == written


def test_a_silent_node_is_named_within_seconds(masters: ClusterFixture) -> None:
    masters.calm()  # It is silent, and not yet known to be.
    masters.nodes[1].pause()
    started = time.monotonic()
    done = hashslot_cli("check", masters.nodes[0].address)
    straight = hashslot_cli("info", masters.nodes[1].address)

    assert time.monotonic() - started < 20
    assert done.returncode == straight.returncode == 1
    expected = f"Lost the connection to Redis at {masters.nodes[1].address}: no answer within 5 seconds"
    assert done.stderr == expected + "\n"
    assert straight.stderr == expected + "\n"
    assert "[ERR] Not all 16384 slots are covered by nodes.\n" in done.stdout


def test_ctrl_c_at_a_question(masters: ClusterFixture) -> None:
    with RunningCli("reshard", masters.nodes[0].address, stdin=subprocess.PIPE) as cli:
        cli.wait_for_lines("[OK] All 16384 slots covered.", 1)
        # The question may not have been asked yet, since it has no line end to wait for: the outcome is the same.
        cli.process.send_signal(signal.SIGINT)
        status, _, err = cli.finish()

    assert (status, err) == (1, "\n*** Interrupted.\n")


def test_a_reader_that_goes_away_does_not_stop_a_reshard(masters: ClusterFixture) -> None:
    masters.calm()
    with RunningCli(*reshard_of(masters, 100)) as cli:
        cli.wait_for_lines("Moving slot ", 5)
        assert cli.process.stdout is not None
        cli.process.stdout.close()
        assert cli.process.wait(PATIENCE) == 0
        assert cli.process.stderr is not None
        assert cli.process.stderr.read() == ""
        cli.process.stdout = None

    assert_no_open_slots(masters)
    assert len(masters.view_of(masters.nodes[1], on=masters.nodes[1]).slots) == 5462 + 100


# Keys in the way


def in_the_way(cluster: ClusterFixture, value: str) -> None:
    """A key of slot 0 on both sides of a migration that has begun."""
    one, two = cluster.nodes[:2]
    two.call("CLUSTER", "SETSLOT", "0", "IMPORTING", cluster.node_id(one))
    one.call("SET", "{06S}key", "the source's")
    with two.raw() as connection:
        connection.call("ASKING")
        connection.call("SET", "{06S}key", value)
    two.call("CLUSTER", "SETSLOT", "0", "STABLE")


def test_a_key_on_both_sides_with_two_values(masters: ClusterFixture) -> None:
    assert key_slot(b"{06S}key") == 0
    in_the_way(masters, "the target's")
    stopped = hashslot_cli(*reshard_of(masters, 1))
    assert stopped.returncode == 1
    assert "*** Found 1 key(s) in both source node and target node having different values." in stopped.stdout
    assert "    - {06S}key\n" in stopped.stdout

    assert hashslot_cli("fix", masters.nodes[0].address, "--replace").returncode == 0
    assert masters.nodes[1].call("GET", "{06S}key") == b"the source's"


@pytest.mark.parametrize("kind_of_debug", ["local", "no"])
def test_a_key_on_both_sides_with_one_value(kind: Kind, kind_of_debug: str) -> None:
    with ClusterFixture(masters=3, kind=kind, enable_debug_command=kind_of_debug) as cluster:
        in_the_way(cluster, "the source's")
        moved = hashslot_cli(*reshard_of(cluster, 1))

        assert moved.returncode == 0, moved.stdout + moved.stderr
        assert "*** Replacing target keys..." in moved.stdout
        assert cluster.nodes[1].call("GET", "{06S}key") == b"the source's"


# A person at a terminal


def test_creating_on_a_terminal_ends_with_what_to_try_next(kind: Kind) -> None:
    with ClusterFixture(masters=3, kind=kind, create="none") as cluster:
        addresses = [node.address for node in cluster.nodes]
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "r+b", buffering=0) as screen:
            process = subprocess.Popen(
                [sys.executable, str(REPOSITORY / "tools" / "redis_cluster_cli.py"), "create", *addresses],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env={**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "100"},
            )
            os.close(theirs)
            screen.write(b"yes\n")
            text = b""
            try:
                while piece := screen.read(4096):
                    text += piece
            except OSError:
                pass  # The other end is closed: that is all.
            assert process.wait(PATIENCE) == 0

        shown = text.decode().replace("\r\n", "\n")
        assert "Joining  [" in shown
        assert "The cluster is ready. What to try next:\n" in shown
        assert f"  redis-cli -c -h 127.0.0.1 -p {cluster.nodes[0].port} " in shown
        assert all(node.cluster_info()["cluster_state"] == "ok" for node in cluster.nodes)
