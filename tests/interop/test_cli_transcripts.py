"""The same words as redis-cli --cluster: both tools are run against the same nodes, and what they print is compared.

Where many hosts are wanted, a model cluster answers on several loopback addresses (127.0.0.1, 127.0.0.2 …), so that the
real redis-cli plans over hosts. The rest runs on a real cluster of either kind.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from tests.admin.cluster_model import ModelCluster
from tests.support.clusters import ClusterFixture
from tests.support.ports import lease_neighbours
from tests.support.servers import Kind, OurNode, RealRedis, hashslot_cli, redis_cli

pytestmark = pytest.mark.real_redis

OPTIMISING = ">>> Trying to optimize slaves allocation for anti-affinity"


def both(
    command: str, *words: str, options: Sequence[str] = (), stdin: str = ""
) -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    """Run redis-cli --cluster and our CLI with the same words; of ``options`` the 1st, 3rd … are names."""
    theirs = redis_cli(1, "--cluster", command, *words, *dashed("--cluster-", options), stdin=stdin)
    return theirs, hashslot_cli(command, *words, *dashed("--", options), stdin=stdin)


def dashed(prefix: str, options: Sequence[str]) -> list[str]:
    return [word if index % 2 else prefix + word for index, word in enumerate(options)]


def assert_same(theirs: subprocess.CompletedProcess[str], ours: subprocess.CompletedProcess[str]) -> None:
    """The same output and status. On standard error we may add what to do next."""
    assert (theirs.returncode, theirs.stdout) == (ours.returncode, ours.stdout)
    assert ours.stderr.startswith(theirs.stderr)


def given_model(hosts: Sequence[int], port: int) -> ModelCluster:
    """Nodes on 127.0.0.<host>; several nodes on one host have consecutive ports."""
    cluster = ModelCluster()
    for index, host in enumerate(hosts):
        cluster.add(f"127.0.0.{host}", port + sum(other == host for other in hosts[:index]))
    return cluster


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The first of as many ports as any host here has nodes."""
    leases = lease_neighbours(9)
    yield leases[0].port
    for lease in leases:
        lease.release()


def plans(hosts: Sequence[int], port: int, replicas: int) -> tuple[str, str]:
    """What both tools print for these hosts up to the question, which is answered by no."""
    cluster = given_model(hosts, port)
    addresses = [str(node.address) for node in cluster.nodes]
    with cluster.serve():
        theirs = redis_cli(1, "--cluster", "create", *addresses, "--cluster-replicas", str(replicas), stdin="no\n")
        ours = hashslot_cli("create", *addresses, "--replicas", str(replicas), stdin="no\n")
    assert all(not node.slots and len(node.known) == 1 for node in cluster.nodes)
    assert ours.returncode == 1
    return theirs.stdout, ours.stdout


@pytest.mark.parametrize(
    ("hosts", "replicas"),
    [
        ((1, 2, 3, 4, 5, 6), 1),
        ((1, 1, 2, 2, 3, 3), 1),
        ((1, 2, 3, 1, 2, 3), 1),
        ((1, 2, 3), 0),
        ((1, 1, 1, 1, 1), 0),
        ((1, 2, 3, 4, 5, 6, 7, 8, 9), 2),
        ((1, 1, 2, 2, 3, 3, 4, 4), 1),
        ((1, 2, 3, 4, 5, 6, 7), 1),
        ((1, 1, 1, 2, 2, 2, 3, 3, 3), 2),
        (tuple(range(1, 17)), 0),
        (tuple(range(1, 12)), 0),
        ((1,) * 6, 1),
        ((1,) * 9, 2),
        ((1, 1, 1, 2, 2, 2), 1),
        ((1, 1, 1, 1, 2, 2, 3, 3), 1),
        ((1, 1, 1, 2, 2, 3, 3, 3), 1),
        ((1, 1, 2, 2, 2, 2, 3), 1),
    ],
)
def test_plans_are_the_same_to_the_letter(hosts: Sequence[int], replicas: int, port: int) -> None:
    """Unless replicas are swapped for the sake of their hosts: that is done at random, and may end otherwise."""
    theirs, ours = plans(hosts, port, replicas)

    assert (OPTIMISING in theirs) == (OPTIMISING in ours)
    if OPTIMISING in theirs:
        theirs, ours = comparable(theirs), comparable(ours)
    assert theirs.rstrip() == ours.rstrip()
    assert ours.endswith("Can I set the above configuration? (type 'yes' to accept): ")


def comparable(printed: str) -> str:
    return re.sub(r"replicates [0-9a-f]{40}", "replicates <somebody>", printed)


def test_a_whole_creation_is_the_same_to_the_letter(port: int) -> None:
    """From the allocation to the final check, on three hosts with two nodes each."""
    printed = []
    for tool in ("redis-cli", "ours"):
        cluster = given_model((1, 1, 2, 2, 3, 3), port)
        addresses = [str(node.address) for node in cluster.nodes]
        with cluster.serve():
            if tool == "ours":
                done = hashslot_cli("create", *addresses, "--replicas", "1", stdin="yes\n")
            else:
                done = redis_cli(1, "--cluster", "create", *addresses, "--cluster-replicas", "1", stdin="yes\n")
        assert done.returncode == 0
        assert [node.epoch for node in cluster.nodes] == [1, 2, 3, 4, 5, 6]
        assert sum(node.master_id is not None for node in cluster.nodes) == 3
        printed.append(re.sub(r"(?<=join\n)\.+", "", done.stdout))  # A dot per second of waiting.

    assert printed[0] == printed[1]
    assert printed[1].endswith("[OK] All 16384 slots covered.\n")


def test_too_few_nodes_in_the_same_words(port: int) -> None:
    cluster = given_model((1, 2, 3, 4, 5), port)
    with cluster.serve():
        theirs, ours = both("create", *(str(node.address) for node in cluster.nodes), options=("replicas", "1"))

    assert_same(theirs, ours)


@pytest.mark.parametrize("trouble", ["keys", "company", "no cluster", "password", "silence", "address"])
def test_refused_nodes_in_the_same_words(trouble: str, port: int) -> None:
    cluster = given_model((1, 2, 3), port)
    node = cluster.nodes[1]
    addresses = [str(node.address) for node in cluster.nodes]
    match trouble:
        case "keys":
            node.data[b"k"] = b"v"
        case "company":
            node.execute([b"CLUSTER", b"MEET", b"127.0.0.3", b"%d" % port])
        case "no cluster":
            node.cluster_enabled = False
        case "password":
            node.password = "secret"
        case "silence":
            addresses[1] = "127.0.0.9:1"
        case "address":
            addresses[1] = "nonsense"
    with cluster.serve():
        theirs, ours = both("create", *addresses)

    assert_same(theirs, ours)
    assert ours.returncode == 1


# On real nodes


@pytest.fixture(scope="module")
def cluster(kind: Kind) -> Iterator[ClusterFixture]:
    with ClusterFixture(masters=3, replicas=1, kind=kind) as running:
        running.calm()
        with running.client() as client:
            for number in range(50):
                client.set(f"key:{number}", number)
        running.wait_in_sync()
        yield running


@pytest.mark.parametrize("command", ["check", "info"])
def test_asking_about_a_cluster(cluster: ClusterFixture, command: str) -> None:
    for node in cluster.nodes:
        for words in ([node.address], ["127.0.0.1", str(node.port)]):
            theirs, ours = both(command, *words)
            assert_same(theirs, ours)
            assert ours.returncode == 0


def test_checking_for_multiple_owners(cluster: ClusterFixture) -> None:
    theirs, ours = both("check", cluster.nodes[0].address, options=("search-multiple-owners",))

    assert_same(theirs, ours)
    assert ours.stdout.endswith("[OK] No multiple owners found.\n")


@pytest.mark.parametrize(
    "words",
    [("PING",), ("CONFIG", "GET", "maxmemory"), ("DBSIZE",), ("CLUSTER", "MYID"), ("GET", "no:such:key"), ("NOPE",)],
)
def test_calling_a_command_everywhere(cluster: ClusterFixture, words: Sequence[str]) -> None:
    theirs, ours = both("call", cluster.nodes[2].address, *words)

    assert theirs.stdout == ours.stdout
    if "ERR" not in ours.stdout and "MOVED" not in ours.stdout:
        assert ours.returncode == 0
    else:
        assert ours.returncode == 1  # redis-cli's is 0 even then.


@pytest.mark.parametrize("option", ["only-masters", "only-replicas"])
def test_calling_a_command_on_some(cluster: ClusterFixture, option: str) -> None:
    theirs, ours = both("call", cluster.nodes[0].address, "PING", options=(option,))

    assert_same(theirs, ours)
    assert ours.stdout.count("PONG") == 3


@pytest.mark.parametrize(("count", "sources"), [("1000", "all"), ("7", "one"), ("16384", "all")])
def test_the_plan_of_a_reshard(cluster: ClusterFixture, count: str, sources: str) -> None:
    one, two = (cluster.node_id(node) for node in cluster.nodes[:2])
    options = ("from", "all" if sources == "all" else one, "to", two, "slots", count)
    theirs = redis_cli(
        1, "--cluster", "reshard", cluster.nodes[0].address, *dashed("--cluster-", options), stdin="no\n"
    )
    ours = hashslot_cli("reshard", cluster.nodes[0].address, *dashed("--", options), stdin="no\n")

    assert theirs.stdout == ours.stdout
    assert (theirs.returncode, ours.returncode) == (1, 1)


@pytest.mark.parametrize("options", [(), ("weight", "{one}=3"), ("pipeline", "5")])
def test_the_plan_of_a_rebalance(cluster: ClusterFixture, options: Sequence[str]) -> None:
    words = [option.format(one=cluster.node_id(cluster.nodes[0])) for option in options]
    theirs, ours = both("rebalance", cluster.nodes[0].address, options=["threshold", "0.5", *words, "simulate"])

    assert_same(theirs, ours)


@pytest.mark.parametrize("kind_of_node", [RealRedis, OurNode])
def test_a_node_outside_cluster_mode(kind_of_node: type[RealRedis] | type[OurNode]) -> None:
    with kind_of_node() as node:
        for command in ("check", "info"):
            theirs, ours = both(command, node.address)
            assert_same(theirs, ours)


def test_nobody_there() -> None:
    theirs, ours = both("check", "127.0.0.1:1")

    assert_same(theirs, ours)
