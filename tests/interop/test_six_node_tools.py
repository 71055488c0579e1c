"""Creating, checking and resharding six nodes with redis-cli --cluster and with this project's CLI, on either kind."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.clusters import SLOTS, ClusterFixture, Creation, key_slot, nodes_seen_by
from tests.support.servers import Kind, hashslot_cli, redis_cli
from tests.support.waiting import eventually
from tests.support.writers import ContinuousWriter

pytestmark = pytest.mark.real_redis

CLIS: list[Creation] = ["redis-cli", "hashslot-cli"]


@pytest.fixture(scope="module")
def cluster(kind: Kind) -> Iterator[ClusterFixture]:
    with ClusterFixture(masters=3, replicas=1, kind=kind) as running:
        yield running.calm()


@pytest.mark.parametrize("cli", CLIS)
def test_create(kind: Kind, cli: Creation) -> None:
    with ClusterFixture(masters=3, replicas=1, kind=kind, create="none") as cluster:
        printed = cluster.form_by_tool(cli)
        assert ">>> Performing hash slots allocation on 6 nodes..." in printed
        assert "Master[0] -> Slots 0 - 5460" in printed
        assert "Master[1] -> Slots 5461 - 10922" in printed
        assert "Master[2] -> Slots 10923 - 16383" in printed
        assert len(re.findall(r"^M: [0-9a-f]{40} 127\.0\.0\.1:\d+$", printed, re.M)) == 6  # The plan, then the check.
        assert printed.rstrip().endswith("[OK] All 16384 slots covered.")
        assert "[OK] All nodes agree about slots configuration." in printed
        roles = sorted(node.call("ROLE")[0] for node in cluster.nodes)
        assert roles == [b"master"] * 3 + [b"slave"] * 3
        masters = [node for node in cluster.nodes if cluster.is_master(node)]
        assert all(len(cluster.replicas_of(master)) == 1 for master in masters)


@pytest.mark.parametrize("cli", CLIS)
def test_create_refuses_nodes_that_hold_something(kind: Kind, cli: Creation) -> None:
    with ClusterFixture(masters=3, replicas=0, kind=kind, create="none") as cluster:
        cluster.nodes[1].call("CLUSTER", "MEET", "127.0.0.1", cluster.nodes[2].port)
        eventually(lambda: len(nodes_seen_by(cluster.nodes[1])) == 2)
        addresses = [node.address for node in cluster.nodes]
        if cli == "redis-cli":
            done = redis_cli(cluster.nodes[0].port, "--cluster", "create", *addresses, "--cluster-yes")
        else:
            done = hashslot_cli("create", "--yes", *addresses)
        assert done.returncode == 1
        assert f"[ERR] Node {cluster.nodes[1].address} is not empty." in done.stdout + done.stderr
        assert len(nodes_seen_by(cluster.nodes[0])) == 1


@pytest.mark.parametrize("cli", CLIS)
def test_check_says_ok_from_any_node(cluster: ClusterFixture, cli: Creation) -> None:
    for node in cluster.nodes:
        if cli == "redis-cli":
            done = redis_cli(node.port, "--cluster", "check", node.address)
        else:
            done = hashslot_cli("check", node.address)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "[OK] All nodes agree about slots configuration." in done.stdout
        assert "[OK] All 16384 slots covered." in done.stdout
        assert len(re.findall(r"^M: ", done.stdout, re.M)) == 3
        assert len(re.findall(r"^S: ", done.stdout, re.M)) == 3


@pytest.mark.parametrize("cli", CLIS)
def test_info_counts_keys_per_master(cluster: ClusterFixture, cli: Creation) -> None:
    address = cluster.nodes[0].address
    done = redis_cli(1, "--cluster", "info", address) if cli == "redis-cli" else hashslot_cli("info", address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"-> \d+ keys \| \d+ slots \| 1 slaves\.", done.stdout)) == 3
    assert re.search(r"^\[OK\] \d+ keys in 3 masters\.$", done.stdout, re.M)


@pytest.mark.parametrize("cli", CLIS)
def test_call_runs_a_command_on_every_node(cluster: ClusterFixture, cli: Creation) -> None:
    address = cluster.nodes[0].address
    if cli == "redis-cli":
        done = redis_cli(1, "--cluster", "call", address, "PING")
    else:
        done = hashslot_cli("call", address, "PING")
    assert done.returncode == 0, done.stdout + done.stderr
    for node in cluster.nodes:
        assert f"{node.address}: PONG" in done.stdout


def test_a_node_that_is_not_there(cluster: ClusterFixture) -> None:
    done = hashslot_cli("check", "127.0.0.1:1")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stdout + done.stderr


@pytest.mark.parametrize("cli", CLIS)
def test_reshard_1000_slots_under_a_writer(cluster: ClusterFixture, cli: Creation) -> None:
    """No error reaches a client that follows redirections, and no acknowledged write is lost."""
    source = cluster.master_of(0)
    target = next(node for node in cluster.nodes if cluster.is_master(node) and node is not source)
    source_id, target_id = cluster.node_id(source), cluster.node_id(target)
    owned = cluster.view_of(source, on=source).slots
    moving = set(sorted(owned)[:1000])
    # Half of the keys live in the slots that move, the others anywhere.
    everywhere = [f"key:{number}" for number in range(20_000)]
    inside = [key for key in everywhere if key_slot(key.encode()) in moving][:400]
    keys = [key for pair in zip(inside, everywhere, strict=False) for key in pair]
    assert len(inside) == 400

    with ContinuousWriter([node.port for node in cluster.nodes], keys, key_slot) as writer:
        writer.wait_for_writes(len(keys))
        arguments = ["--from", source_id, "--to", target_id, "--slots", "1000", "--yes"]
        if cli == "redis-cli":
            options = [argument.replace("--", "--cluster-", 1) for argument in arguments]
            done = redis_cli(1, "--cluster", "reshard", cluster.nodes[5].address, *options, timeout=200)
        else:
            done = hashslot_cli("reshard", cluster.nodes[5].address, *arguments, timeout=200)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        writer.wait_for_writes(2 * len(keys))
        account = writer.stop()

    assert account.failures == []
    cluster.wait_agreement()
    assert cluster.view_of(source, on=source).slots == owned - moving
    assert moving <= cluster.view_of(target, on=source).slots
    for node in cluster.nodes:
        views = nodes_seen_by(node).values()
        assert sum(len(view.slots) for view in views) == SLOTS
        assert not any(view.migrating or view.importing for view in views)
    with cluster.client() as client:
        assert {key: client.get(key).decode() for key in account.acknowledged} == account.acknowledged
    check = redis_cli(1, "--cluster", "check", cluster.nodes[0].address)
    assert check.returncode == 0, check.stdout
    # Nothing is left behind where it is no longer served.
    total = sum(node.call("DBSIZE") for node in cluster.nodes if cluster.is_master(node))
    assert total == len(account.acknowledged)
    # The replicas followed: as many keys as their masters.
    cluster.wait_in_sync()
    for node in cluster.nodes:
        if cluster.is_master(node):
            for replica in cluster.replicas_of(node):
                eventually(lambda node=node, replica=replica: replica.call("DBSIZE") == node.call("DBSIZE"))  # type: ignore[misc]
