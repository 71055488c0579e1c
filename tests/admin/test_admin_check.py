"""``check`` and ``info`` against a model, first of all the reference transcript."""

from __future__ import annotations

import re
from pathlib import Path

from cluster.admin.address import Address
from cluster.admin.check import Findings, run_check
from cluster.admin.view import load_view
from tests.admin.cluster_model import ModelCluster
from tests.admin.people import Person, person_at

GOLDEN = (Path(__file__).parent / "transcripts" / "check_six_hosts.txt").read_text()


def check(person: Person, contact: Address, **options: bool) -> Findings:
    return run_check(person.context, load_view(person.context, contact), **options)


def three_masters() -> ModelCluster:
    cluster = ModelCluster()
    for last in (1, 2, 3):
        cluster.add(f"10.0.0.{last}", 7000)
    cluster.form(
        {"10.0.0.1:7000": range(5461), "10.0.0.2:7000": range(5461, 10923), "10.0.0.3:7000": range(10923, 16384)}
    )
    return cluster


def test_six_hosts_as_in_the_reference_transcript() -> None:
    cluster = ModelCluster()
    nodes = re.findall(r"^[MS]: (\w{40}) ([\d.]+):6379$", GOLDEN, re.M)
    for node_id, host in nodes:
        cluster.add(host, 6379, node_id)
    masters = [str(node.address) for node in cluster.nodes[:3]]
    cluster.form(
        dict(zip(masters, (range(5461), range(5461, 10923), range(10923, 16384)), strict=True)),
        {
            "10.10.50.239:6379": masters[1],
            "10.10.50.238:6379": masters[0],
            "10.10.50.237:6379": masters[2],
        },
    )
    for node, count in zip(cluster.nodes, (13, 12, 19), strict=False):
        node.data = {b"%d" % number: b"" for number in range(count)}
    person = person_at(cluster)

    assert check(person, cluster.nodes[0].address).is_healthy
    assert person.seen == GOLDEN


def test_uncovered_slots_are_an_error() -> None:
    cluster = three_masters()
    for node in cluster.nodes:
        del node.owners[100]
    person = person_at(cluster)
    findings = check(person, cluster.nodes[0].address)

    assert findings.uncovered == {100}
    assert not findings.is_healthy
    assert "[ERR] Not all 16384 slots are covered by nodes.\n\n" in person.seen


def test_open_slots_are_named_in_order() -> None:
    cluster = three_masters()
    one, two, _ = cluster.nodes
    one.migrating = {200: two.node_id, 20: two.node_id}
    two.importing = {20: one.node_id}
    person = person_at(cluster)
    findings = check(person, one.address)

    assert findings.open_slots == [20, 200]
    assert "[WARNING] Node 10.0.0.1:7000 has slots in migrating state 20,200.\n" in person.seen
    assert "[WARNING] Node 10.0.0.2:7000 has slots in importing state 20.\n" in person.seen
    assert "[WARNING] The following slots are open: 20,200.\n" in person.seen


def test_nodes_that_disagree() -> None:
    cluster = three_masters()
    cluster.nodes[2].owners[7] = cluster.nodes[2].node_id
    person = person_at(cluster)

    assert not check(person, cluster.nodes[0].address).is_healthy
    assert "[ERR] Nodes don't agree about configuration!\n" in person.seen


def test_multiple_owners_are_found_only_when_looked_for() -> None:
    cluster = three_masters()
    cluster.nodes[1].data[b"foo"] = b"bar"  # Slot 12182, the third node's.

    assert check(person_at(cluster), cluster.nodes[0].address).is_healthy
    person = person_at(cluster)
    findings = check(person, cluster.nodes[0].address, search_multiple_owners=True)
    assert list(findings.multiple_owners) == [12182]
    assert not findings.is_healthy
    assert "[WARNING] Slot 12182 has 2 owners:\n    10.0.0.2:7000\n    10.0.0.3:7000\n" in person.seen


def test_a_node_that_does_not_answer_is_named_and_left_out() -> None:
    cluster = three_masters()
    cluster.nodes[1].is_down = True
    person = person_at(cluster)
    findings = check(person, cluster.nodes[0].address)

    assert person.complaints == "Could not connect to Redis at 10.0.0.2:7000: Connection refused\n"
    assert findings.uncovered == set(range(5461, 10923))


def test_a_replica_of_a_node_that_nobody_knows_is_warned_of() -> None:
    cluster = three_masters()
    replica = cluster.add("10.0.0.4", 7000)
    cluster.form({})
    replica.owners = dict(cluster.nodes[0].owners)
    replica.master_id = "f" * 40
    person = person_at(cluster)
    check(person, cluster.nodes[0].address)

    assert f"*** WARNING: 10.0.0.4:7000 claims to be slave of unknown node ID {'f' * 40}.\n" in person.seen
