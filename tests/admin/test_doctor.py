"""``doctor``: each examination finds what it is for, and nothing in a healthy cluster."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from cluster.admin.doctor import Facts, Finding, Severity, examine, examine_installation, gather, run_doctor, table
from cluster.admin.view import load_view
from tests.admin.cluster_model import ModelCluster
from tests.admin.people import person_at


def healthy() -> ModelCluster:
    """Three masters on three hosts, each with a replica on the next one."""
    cluster = ModelCluster()
    for host in (1, 2, 3):
        cluster.add(f"10.0.0.{host}", 7000)
    for host in (1, 2, 3):
        cluster.add(f"10.0.0.{host}", 7001)
    cluster.form(
        {"10.0.0.1:7000": range(5461), "10.0.0.2:7000": range(5461, 10923), "10.0.0.3:7000": range(10923, 16384)},
        {"10.0.0.1:7001": "10.0.0.2:7000", "10.0.0.2:7001": "10.0.0.3:7000", "10.0.0.3:7001": "10.0.0.1:7000"},
    )
    return cluster


def facts_of(cluster: ModelCluster) -> list[Facts]:
    context = person_at(cluster).context
    return gather(context, load_view(context, cluster.nodes[0].address))


def with_info(facts: Facts, *lines: str) -> Facts:
    return attrs.evolve(facts, info="\r\n".join([*lines, facts.info]))


def texts(findings: list[Finding]) -> list[str]:
    return [f"{finding.severity.value}: {finding.text}" for finding in findings]


def test_nothing_is_found_in_a_healthy_cluster() -> None:
    assert examine(facts_of(healthy())) == []


def uncovered(cluster: ModelCluster) -> None:
    for node in cluster.nodes:
        del node.owners[7], node.owners[8]


def disagreeing(cluster: ModelCluster) -> None:
    cluster.nodes[3].owners[7] = cluster.nodes[1].node_id


def half_migrated(cluster: ModelCluster) -> None:
    cluster.nodes[0].migrating[7] = cluster.nodes[1].node_id


def unprotected(cluster: ModelCluster) -> None:
    cluster.nodes[5].master_id = cluster.nodes[1].node_id


def side_by_side(cluster: ModelCluster) -> None:
    cluster.nodes[3].master_id, cluster.nodes[5].master_id = cluster.nodes[0].node_id, cluster.nodes[1].node_id


def colliding(cluster: ModelCluster) -> None:
    cluster.nodes[0].epoch = cluster.nodes[1].epoch


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (uncovered, "ERR: 2 slots have no owner: [7-8]"),
        (disagreeing, "ERR: the nodes do not agree about who owns which slot"),
        (half_migrated, "ERR: slots are left open by a migration: [7]"),
        (uncovered, "ERR: 10.0.0.1:7000 refuses queries: cluster_state is fail"),
        (unprotected, "WARNING: 10.0.0.1:7000 has no replica: if it dies, its 5461 slots are gone"),
        (side_by_side, "WARNING: 10.0.0.1:7001 is on the same host as its master 10.0.0.1:7000"),
        (colliding, "WARNING: 2 masters share the config epoch 2"),
    ],
)
def test_what_is_wrong_is_found(damage: Callable[[ModelCluster], None], expected: str) -> None:
    cluster = healthy()
    damage(cluster)

    assert expected in texts(examine(facts_of(cluster)))


@pytest.mark.parametrize(
    ("flags", "is_connected", "expected"),
    [
        (("master", "fail"), False, "WARNING: 10.0.0.2:7000 has failed in the eyes of 1 nodes"),
        (("master", "fail?"), True, "WARNING: 10.0.0.2:7000 is suspected by 1 nodes"),
        (("master",), False, "WARNING: 1 nodes have no bus link to 10.0.0.2:7000"),
    ],
)
def test_what_nodes_hold_against_each_other(flags: tuple[str, ...], is_connected: bool, expected: str) -> None:
    first, *others = facts_of(healthy())
    rows = tuple(
        attrs.evolve(row, flags=flags, is_connected=is_connected)
        if row.host == "10.0.0.2" and row.port == 7000
        else row
        for row in first.rows
    )

    assert texts(examine([attrs.evolve(first, rows=rows), *others])) == [expected]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["maxmemory:1000", "used_memory:950"], "WARNING: 10.0.0.1:7000 uses 95% of its maxmemory"),
        (
            ["rdb_last_bgsave_status:err"],
            "WARNING: 10.0.0.1:7000 could not save: rdb_last_bgsave_status is err",
        ),
        (["redis_version:6.2.14"], "WARNING: the nodes run different versions: unknown on 5, 6.2.14 on 1 nodes"),
        (["master_repl_offset:20971520"], "WARNING: 10.0.0.3:7001 is 20 MB behind its master"),
    ],
)
def test_what_a_node_says_of_itself(lines: list[str], expected: str) -> None:
    first, *others = facts_of(healthy())

    assert texts(examine([with_info(first, *lines), *others])) == [expected]


def test_a_replica_without_its_master_is_an_error() -> None:
    facts = facts_of(healthy())
    facts[3] = with_info(facts[3], "master_link_status:down")

    assert texts(examine(facts)) == ["ERR: 10.0.0.1:7001 is not connected to its master"]


def test_time_outs_that_differ() -> None:
    first, *others = [attrs.evolve(fact, node_timeout_ms=15000) for fact in facts_of(healthy())]
    finding = examine([attrs.evolve(first, node_timeout_ms=2000), *others])[0]

    assert finding.text == "cluster-node-timeout differs: 2000 ms on 1, 15000 ms on 5 nodes"
    assert finding.advice == "set-timeout 10.0.0.1:7000 15000"


def test_errors_come_first() -> None:
    cluster = healthy()
    unprotected(cluster)
    half_migrated(cluster)
    found = examine(facts_of(cluster), unreachable_masters=1)

    assert [finding.severity for finding in found] == [Severity.ERROR, Severity.ERROR, Severity.WARNING]


def test_the_table_has_replicas_under_their_masters() -> None:
    lines = table(facts_of(healthy()))

    assert [line.split()[0] for line in lines] == [
        "NODE",
        "10.0.0.1:7000",
        "10.0.0.3:7001",
        "10.0.0.2:7000",
        "10.0.0.1:7001",
        "10.0.0.3:7000",
        "10.0.0.2:7001",
    ]
    assert len({line.index("ok") for line in lines[1:]}) == 1


def test_the_command_prints_advice_as_commands_and_fails_on_errors() -> None:
    cluster = healthy()
    half_migrated(cluster)
    person = person_at(cluster)

    assert not run_doctor(person.context, load_view(person.context, cluster.nodes[0].address))
    assert "[ERR] slots are left open by a migration: [7]\n" in person.seen
    assert "      -> redis-cluster-cli fix 10.0.0.1:7000\n" in person.seen


def test_this_installation_is_looked_at() -> None:
    assert all(finding.severity is Severity.WARNING for finding in examine_installation())
