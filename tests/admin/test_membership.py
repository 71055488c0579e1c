"""``meet``, ``replicate``, ``add-node``, ``del-node`` against a model."""

from __future__ import annotations

import pytest

from cluster.admin.address import Address
from cluster.admin.errors import Refused
from cluster.admin.membership import add_node, delete_node, meet, replicate
from tests.admin.cluster_model import ModelCluster
from tests.admin.people import person_at

A, B, C, NEW = (Address(f"10.0.0.{last}", 7000) for last in (1, 2, 3, 9))


def three_masters(*, with_newcomer: bool = True) -> ModelCluster:
    cluster = ModelCluster()
    for address in (A, B, C):
        cluster.add(address.host, address.port)
    cluster.form({str(A): range(5461), str(B): range(5461, 10923), str(C): range(10923, 16384)})
    if with_newcomer:
        cluster.add(NEW.host, NEW.port)
    return cluster


def test_meet_makes_everybody_known_to_everybody() -> None:
    cluster = three_masters()
    person = person_at(cluster)

    assert meet(person.context, A, [NEW])
    assert all(len(node.known) == 4 for node in cluster.nodes)
    assert person.seen == (
        ">>> Sending CLUSTER MEET messages to join the cluster\n"
        "Waiting for the cluster to join\n\n"
        f"[OK] {A} now knows 4 nodes, itself included.\n"
    )


def test_replicate_follows_the_master_named() -> None:
    cluster = three_masters()
    meet(person_at(cluster).context, A, [NEW])
    person = person_at(cluster)

    assert replicate(person.context, NEW, str(B))
    assert cluster.nodes[3].master_id == cluster.nodes[1].node_id
    assert person.seen == f">>> Configure node as replica of {B}.\n[OK] {NEW} replicates {B}.\n"


def test_replicate_refuses_a_node_with_slots() -> None:
    cluster = three_masters()

    with pytest.raises(Refused, match="is not empty! Reshard data away"):
        replicate(person_at(cluster).context, A, str(B))


def test_replicate_refuses_a_replica_as_master() -> None:
    cluster = three_masters()
    meet(person_at(cluster).context, A, [NEW])
    replicate(person_at(cluster).context, NEW, str(B))
    extra = cluster.add("10.0.0.10", 7000)
    meet(person_at(cluster).context, A, [extra.address])

    with pytest.raises(Refused, match="is not a master"):
        replicate(person_at(cluster).context, extra.address, str(NEW))


def test_replicate_of_nobody() -> None:
    cluster = three_masters()

    with pytest.raises(Refused, match="No such master ID zzzz"):
        replicate(person_at(cluster).context, A, "zzzz")


def test_a_new_master_gets_the_functions_of_the_cluster() -> None:
    cluster = three_masters()
    for node in cluster.nodes[:3]:
        node.functions = b"library"
    person = person_at(cluster)

    assert add_node(person.context, NEW, A, as_replica=False, master_name=None)
    assert cluster.nodes[3].functions == b"library"
    assert len(cluster.nodes[0].known) == 4
    assert person.seen.startswith(f">>> Adding node {NEW} to cluster {A}\n>>> Performing Cluster Check")
    assert person.seen.endswith(
        ">>> Getting functions from cluster\n"
        f">>> Send FUNCTION LIST to {NEW} to verify there is no functions in it\n"
        f">>> Send FUNCTION RESTORE to {NEW}\n"
        f">>> Send CLUSTER MEET to node {NEW} to make it join the cluster.\n"
        "Waiting for the cluster to join\n\n"
        "[OK] New node added correctly.\n"
    )


def test_a_new_master_with_functions_of_its_own_is_refused() -> None:
    cluster = three_masters()
    cluster.nodes[3].functions = b"something else"

    with pytest.raises(Refused, match="already contains functions"):
        add_node(person_at(cluster).context, NEW, A, as_replica=False, master_name=None)


def test_a_new_replica_goes_where_replicas_are_fewest() -> None:
    cluster = three_masters()
    first = cluster.add("10.0.0.4", 7000)
    meet(person_at(cluster).context, A, [first.address])
    first.master_id = cluster.nodes[0].node_id
    person = person_at(cluster)

    assert add_node(person.context, NEW, A, as_replica=True, master_name=None)
    assert f"Automatically selected master {B}\n" in person.seen
    assert cluster.nodes[3].master_id == cluster.nodes[1].node_id


def test_a_node_that_holds_something_is_not_added() -> None:
    cluster = three_masters()
    cluster.nodes[3].data[b"k"] = b"v"

    with pytest.raises(Refused, match=r"is not empty\. Either the node already knows other nodes"):
        add_node(person_at(cluster).context, NEW, A, as_replica=False, master_name=None)


def test_a_node_that_is_not_there_is_not_added() -> None:
    cluster = three_masters(with_newcomer=False)

    with pytest.raises(Refused, match=r"\[ERR\] Sorry, can't connect to node 10.0.0.9:7000"):
        add_node(person_at(cluster).context, NEW, A, as_replica=False, master_name=None)


def test_nothing_is_added_to_a_damaged_cluster() -> None:
    cluster = three_masters()
    cluster.nodes[0].migrating[1] = cluster.nodes[1].node_id

    assert not add_node(person_at(cluster).context, NEW, A, as_replica=False, master_name=None)
    assert len(cluster.nodes[0].known) == 3


def test_a_deleted_node_is_forgotten_and_forgets() -> None:
    cluster = three_masters()
    add_node(person_at(cluster).context, NEW, A, as_replica=False, master_name=None)
    new = cluster.nodes[3]
    person = person_at(cluster)

    assert delete_node(person.context, A, new.node_id)
    assert all(new.node_id not in node.known for node in cluster.nodes[:3])
    assert list(new.known) == [new.node_id]
    assert person.seen == (
        f">>> Removing node {new.node_id} from cluster {A}\n"
        ">>> Sending CLUSTER FORGET messages to the cluster...\n"
        ">>> Sending CLUSTER RESET SOFT to the deleted node.\n"
    )


def test_the_replicas_of_a_deleted_master_get_another_one() -> None:
    cluster = three_masters()
    replica = cluster.add("10.0.0.4", 7000)
    meet(person_at(cluster).context, A, [NEW, replica.address])
    replica.master_id = cluster.nodes[3].node_id

    assert delete_node(person_at(cluster).context, A, str(NEW))
    assert replica.master_id == cluster.nodes[0].node_id


def test_a_node_with_slots_is_not_deleted() -> None:
    cluster = three_masters()

    with pytest.raises(Refused, match="is not empty! Reshard data away and try again"):
        delete_node(person_at(cluster).context, A, str(B))
    assert len(cluster.nodes[0].known) == 3
