"""``create`` against a model: the transcripts of the reference documents, what is refused, what fails half-way."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.admin.create import create_cluster
from cluster.admin.errors import Aborted, AdminError, CannotConnect, Refused, UsageError
from cluster.admin.errors import ReplyError as RefusedByNode
from tests.admin.cluster_model import ModelCluster, ModelNode
from tests.admin.people import Person, person_at

TRANSCRIPTS = Path(__file__).parent / "transcripts"
NOT_EMPTY = (
    "is not empty. Either the node already knows other nodes (check with CLUSTER NODES) or contains some key in "
    "database 0."
)


def given_nodes(count: int) -> tuple[ModelCluster, list[str]]:
    cluster = ModelCluster()
    addresses = [f"10.0.0.{index + 1}:7000" for index in range(count)]
    for address in addresses:
        cluster.add(address.partition(":")[0], 7000)
    return cluster, addresses


def create(person: Person, addresses: Sequence[str], replicas: int = 1, accept: bool = False) -> bool:
    return create_cluster(person.context, addresses, replicas, accept, random.Random(1))


def refusal(cluster: ModelCluster, addresses: Sequence[str], replicas: int = 1) -> AdminError:
    with pytest.raises(AdminError) as refused:
        create(person_at(cluster), addresses, replicas, accept=True)
    assert [command for _, command in cluster.trace if command[0] == b"CLUSTER" and command[1] == b"ADDSLOTS"] == []
    return refused.value


def test_six_hosts_as_in_the_reference_transcript() -> None:
    golden = (TRANSCRIPTS / "create_six_hosts.txt").read_text()
    cluster = ModelCluster()
    add_planned_nodes(cluster, golden)
    cluster.listing = [f"10.10.50.{last}:6379" for last in (234, 235, 236, 239, 238, 237)]
    person = person_at(cluster, "yes")

    assert create(person, [str(node.address) for node in cluster.nodes])
    assert golden == person.seen
    assert person.complaints == ""
    assert [node.epoch for node in cluster.nodes] == [1, 2, 3, 4, 5, 6]


def test_three_hosts_as_in_the_reference_transcript() -> None:
    """Two nodes on each host: no replica lands beside its master, and no optimising is announced."""
    golden = (TRANSCRIPTS / "create_three_hosts.txt").read_text()
    cluster = ModelCluster()
    add_planned_nodes(cluster, golden)
    person = person_at(cluster, "yes")

    assert create(person, [str(node.address) for node in cluster.nodes])
    assert person.seen.startswith(golden)


def add_planned_nodes(cluster: ModelCluster, golden: str) -> None:
    """The nodes of a transcript, in the order of its plan, which is that of its command line."""
    for node_id, host, port in re.findall(r"^[MS]: (\w{40}) ([\d.]+):(\d+)$", golden.partition("Can I set")[0], re.M):
        cluster.add(host, int(port), node_id)


def test_a_created_cluster_covers_all_slots_and_has_its_replicas() -> None:
    cluster, addresses = given_nodes(9)

    assert create(person_at(cluster), addresses, replicas=2, accept=True)
    masters = [node for node in cluster.nodes if node.master_id is None]
    assert len(masters) == 3
    assert sorted(slot for node in masters for slot in node.slots) == list(range(16384))
    assert all(sum(node.master_id == master.node_id for node in cluster.nodes) == 2 for master in masters)


@pytest.mark.parametrize("answer", ["no", "y", "", "YES"])
def test_only_yes_is_a_yes(answer: str) -> None:
    cluster, addresses = given_nodes(6)

    with pytest.raises(Aborted):
        create(person_at(cluster, answer), addresses)
    assert all(len(node.known) == 1 and not node.slots for node in cluster.nodes)


def test_nobody_to_answer_is_a_no() -> None:
    cluster, addresses = given_nodes(6)

    with pytest.raises(Aborted):
        create(person_at(cluster), addresses)
    assert all(len(node.known) == 1 for node in cluster.nodes)


def test_too_few_nodes() -> None:
    cluster, addresses = given_nodes(5)

    assert str(refusal(cluster, addresses)) == (
        "*** ERROR: Invalid configuration for cluster creation.\n"
        "*** Redis Cluster requires at least 3 master nodes.\n"
        "*** This is not possible with 5 nodes and 1 replicas per node.\n"
        "*** At least 6 nodes are required."
    )


def test_a_node_with_keys() -> None:
    cluster, addresses = given_nodes(6)
    cluster.nodes[3].data[b"k"] = b"v"

    assert str(refusal(cluster, addresses)) == f"[ERR] Node {addresses[3]} {NOT_EMPTY}"


def test_a_node_that_knows_another() -> None:
    cluster, addresses = given_nodes(6)
    cluster.nodes[1].execute([b"CLUSTER", b"MEET", b"10.0.0.3", b"7000"])

    assert str(refusal(cluster, addresses)) == f"[ERR] Node {addresses[1]} {NOT_EMPTY}"


def test_a_node_that_is_not_in_cluster_mode() -> None:
    cluster, addresses = given_nodes(6)
    cluster.nodes[2].cluster_enabled = False

    assert str(refusal(cluster, addresses)) == f"[ERR] Node {addresses[2]} is not configured as a cluster node."


def test_a_node_that_wants_a_password() -> None:
    cluster, addresses = given_nodes(6)
    cluster.nodes[0].password = "secret"

    assert str(refusal(cluster, addresses)) == f"[ERR] Node {addresses[0]} NOAUTH Authentication required."


def test_a_node_that_is_not_there() -> None:
    cluster, addresses = given_nodes(6)
    cluster.nodes[5].is_down = True
    error = refusal(cluster, addresses)

    assert isinstance(error, CannotConnect)
    assert str(error) == f"Could not connect to Redis at {addresses[5]}: Connection refused"


def test_a_node_named_twice() -> None:
    cluster, addresses = given_nodes(6)
    error = refusal(cluster, [*addresses[:5], addresses[0]])

    assert isinstance(error, Refused)
    assert str(error) == f"[ERR] Node {addresses[0]} is the same node as {addresses[0]}."


def test_an_address_without_port() -> None:
    cluster, addresses = given_nodes(6)
    error = refusal(cluster, [*addresses[:5], "10.0.0.6"])

    assert isinstance(error, UsageError)
    assert str(error) == "Invalid address format: 10.0.0.6"


def test_a_node_that_dies_half_way_leaves_a_hint_how_to_start_over() -> None:
    cluster, addresses = given_nodes(6)

    def dies(node: ModelNode, command: Sequence[bytes]) -> None:
        if command[1:2] == [b"SET-CONFIG-EPOCH"]:
            cluster.nodes[4].is_down = True

    cluster.before = dies
    with pytest.raises(AdminError) as failed:
        create(person_at(cluster), addresses, accept=True)
    assert addresses[4] in str(failed.value)
    assert "CLUSTER RESET" in failed.value.hint


def test_nodes_that_never_join_are_given_up_with_the_ports_to_look_at() -> None:
    """redis-cli waits for ever."""
    cluster, addresses = given_nodes(6)
    person = person_at(cluster)
    cluster.is_bus_filtered = True

    with pytest.raises(Refused) as failed:
        create(person, addresses, accept=True)
    assert "did not join within" in str(failed.value)
    assert "bus port" in failed.value.hint
    assert person.seen.count(".") > 20
    assert person.clock.now < 120_000


def test_a_node_that_refuses_its_slots_stops_the_creation() -> None:
    cluster, addresses = given_nodes(6)
    cluster.nodes[1].owners[7000] = cluster.nodes[1].node_id  # Left over from an earlier attempt.

    with pytest.raises(RefusedByNode) as failed:
        create(person_at(cluster), addresses, accept=True)
    assert "Slot 7000 is already busy" in str(failed.value)
