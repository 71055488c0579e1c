"""``doctor``: what is wrong with a cluster, or soon will be, and what to do about it.

Role        Gathers facts from every node, examines them, prints a table of the nodes and the findings.
Invariants  Changes nothing. Every examination is a function from facts to findings; only ``gather`` talks to nodes.
            A finding says what is the case and what to do; an ERROR makes the command fail, a WARNING does not.
Units       *_bytes: bytes; *_s: seconds; *_ms: milliseconds.
"""

from __future__ import annotations

import enum
import importlib
from collections import Counter
from collections.abc import Iterator, Sequence

import attrs

from cluster.admin.connection import Reply, call_text, info_field
from cluster.admin.context import Context
from cluster.admin.errors import NodeError
from cluster.admin.node_table import ALL_SLOTS, NodeRow, ownership, slots_text
from cluster.admin.view import ClusterNode, ClusterView, read_nodes

_LAG_WORTH_A_WORD_BYTES = 10 * 1024 * 1024
_MEMORY_NEARLY_FULL = 0.9


class Severity(enum.Enum):
    """How bad a finding is."""

    ERROR = "ERR"
    WARNING = "WARNING"


@attrs.frozen
class Finding:
    """Something that is not as it should be."""

    severity: Severity
    text: str
    advice: str = ""


@attrs.frozen
class Facts:
    """What one node says of itself and of the others."""

    node: ClusterNode
    info: str
    cluster_info: str
    rows: tuple[NodeRow, ...]
    node_timeout_ms: int | None  # None where CONFIG is not allowed.

    def text(self, field: str) -> str:
        """A field of INFO or CLUSTER INFO; empty when the node has none of that name."""
        return info_field(self.info, field) or info_field(self.cluster_info, field) or ""

    def number(self, field: str) -> int:
        """A numeric field; 0 when there is none."""
        text = self.text(field)
        return int(text) if text.lstrip("-").isdecimal() else 0


def gather(context: Context, view: ClusterView) -> list[Facts]:
    """Ask every node; one that fails meanwhile is named and left out."""
    facts: list[Facts] = []
    with context.console.progress("Asking the nodes", len(view.nodes)) as bar:
        for index, node in enumerate(view.nodes):
            bar.show(index, str(node.address))
            try:
                facts.append(
                    Facts(
                        node,
                        info=call_text(node.link, "INFO"),
                        cluster_info=call_text(node.link, "CLUSTER", "INFO"),
                        rows=tuple(read_nodes(node.link)),
                        node_timeout_ms=_node_timeout_ms(node),
                    )
                )
            except NodeError as error:
                context.console.complain(str(error))
    return facts


def _node_timeout_ms(node: ClusterNode) -> int | None:
    node.link.send("CONFIG", "GET", "cluster-node-timeout")
    reply: Reply = node.link.receive()
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], bytes) and reply[1].isdigit():
        return int(reply[1])
    return None


# Examinations


def examine(facts: Sequence[Facts], unreachable_masters: int = 0) -> list[Finding]:
    """All findings, the errors first."""
    findings = [finding for examination in _EXAMINATIONS for finding in examination(facts)]
    if unreachable_masters:
        findings.append(
            Finding(
                Severity.ERROR, f"{unreachable_masters} masters do not answer", "start them, or wait for a failover"
            )
        )
    return sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR)


def _coverage(facts: Sequence[Facts]) -> Iterator[Finding]:
    missing = ALL_SLOTS - {slot for fact in facts for slot in fact.node.slots}
    if missing:
        yield Finding(Severity.ERROR, f"{len(missing)} slots have no owner: {slots_text(missing)}", "fix")


def _agreement(facts: Sequence[Facts]) -> Iterator[Finding]:
    if len({ownership(fact.rows) for fact in facts}) > 1:
        yield Finding(
            Severity.ERROR,
            "the nodes do not agree about who owns which slot",
            "wait some seconds; if it stays so, look for nodes that cannot reach each other's bus port",
        )


def _open_slots(facts: Sequence[Facts]) -> Iterator[Finding]:
    open_slots = {slot for fact in facts for slot in (*fact.node.migrating, *fact.node.importing)}
    if open_slots:
        yield Finding(Severity.ERROR, f"slots are left open by a migration: {slots_text(open_slots)}", "fix")


def _state(facts: Sequence[Facts]) -> Iterator[Finding]:
    for fact in facts:
        if fact.text("cluster_state") != "ok":
            yield Finding(
                Severity.ERROR,
                f"{fact.node.address} refuses queries: cluster_state is {fact.text('cluster_state') or 'unknown'}",
                "see the errors about slots and failed masters; a node that has just started needs two seconds",
            )


def _links(facts: Sequence[Facts]) -> Iterator[Finding]:
    """What the nodes hold against each other."""
    failed = Counter(_name(row) for fact in facts for row in fact.rows if "fail" in row.flags)
    suspected = Counter(_name(row) for fact in facts for row in fact.rows if "fail?" in row.flags)
    cut_off = Counter(
        _name(row)
        for fact in facts
        for row in fact.rows
        if not (row.is_connected or row.is_myself or {"fail", "fail?", "handshake", "noaddr"} & set(row.flags))
    )
    for name, count in failed.items():
        yield Finding(Severity.WARNING, f"{name} has failed in the eyes of {count} nodes", "start it, or del-node it")
    for name, count in suspected.items():
        yield Finding(Severity.WARNING, f"{name} is suspected by {count} nodes", "is it busy, stopped or cut off?")
    for name, count in cut_off.items():
        yield Finding(
            Severity.WARNING, f"{count} nodes have no bus link to {name}", "is its bus port open to all the others?"
        )


def _name(row: NodeRow) -> str:
    return f"{row.host}:{row.port}" if row.host else row.node_id


def _epochs(facts: Sequence[Facts]) -> Iterator[Finding]:
    epochs = Counter(fact.node.config_epoch for fact in facts if fact.node.is_master and fact.node.slots)
    for epoch, count in epochs.items():
        if count > 1:
            yield Finding(
                Severity.WARNING, f"{count} masters share the config epoch {epoch}", "it resolves itself; look again"
            )


def _replicas(facts: Sequence[Facts]) -> Iterator[Finding]:
    hosts = {fact.node.address.host for fact in facts}
    by_id = {fact.node.node_id: fact.node for fact in facts}
    followed = {fact.node.master_id for fact in facts}
    for fact in facts:
        node = fact.node
        if node.is_master:
            if node.slots and node.node_id not in followed:
                yield Finding(
                    Severity.WARNING,
                    f"{node.address} has no replica: if it dies, its {len(node.slots)} slots are gone",
                    f"add-node <new node> {node.address} --master-id {node.address}",
                )
            continue
        master = by_id.get(node.master_id or "")
        if master is not None and master.address.host == node.address.host and len(hosts) > 1:
            yield Finding(Severity.WARNING, f"{node.address} is on the same host as its master {master.address}")
        if fact.text("master_link_status") != "up":
            yield Finding(
                Severity.ERROR,
                f"{node.address} is not connected to its master",
                "do masterauth and requirepass match? Its log says why",
            )


def _lag(facts: Sequence[Facts]) -> Iterator[Finding]:
    by_id = {fact.node.node_id: fact for fact in facts}
    for fact in facts:
        master = by_id.get(fact.node.master_id or "")
        if master is not None:
            lag_bytes = master.number("master_repl_offset") - fact.number("slave_repl_offset")
            if lag_bytes > _LAG_WORTH_A_WORD_BYTES:
                yield Finding(Severity.WARNING, f"{fact.node.address} is {lag_bytes >> 20} MB behind its master")


def _configuration(facts: Sequence[Facts]) -> Iterator[Finding]:
    timeouts = Counter(fact.node_timeout_ms for fact in facts if fact.node_timeout_ms is not None)
    if len(timeouts) > 1:
        listed = ", ".join(f"{timeout} ms on {count}" for timeout, count in sorted(timeouts.items()))
        usual = timeouts.most_common(1)[0][0]
        yield Finding(
            Severity.WARNING,
            f"cluster-node-timeout differs: {listed} nodes",
            f"set-timeout {facts[0].node.address} {usual}",
        )
    versions = Counter(fact.text("redis_version") for fact in facts)
    if len(versions) > 1:
        listed = ", ".join(f"{version or 'unknown'} on {count}" for version, count in sorted(versions.items()))
        yield Finding(Severity.WARNING, f"the nodes run different versions: {listed} nodes")


def _resources(facts: Sequence[Facts]) -> Iterator[Finding]:
    for fact in facts:
        limit_bytes = fact.number("maxmemory")
        if limit_bytes and fact.number("used_memory") > _MEMORY_NEARLY_FULL * limit_bytes:
            share = 100 * fact.number("used_memory") // limit_bytes
            yield Finding(Severity.WARNING, f"{fact.node.address} uses {share}% of its maxmemory")
        for field in ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status"):
            if fact.text(field) not in ("", "ok"):
                yield Finding(
                    Severity.WARNING, f"{fact.node.address} could not save: {field} is {fact.text(field)}", "disk full?"
                )


_EXAMINATIONS = (
    _coverage,
    _agreement,
    _open_slots,
    _state,
    _replicas,
    _links,
    _epochs,
    _lag,
    _configuration,
    _resources,
)


def examine_installation() -> list[Finding]:
    """What is wrong with this installation of the package, for those who run nodes with it."""
    try:
        importlib.import_module("crcmod")
        compiled = bool(getattr(importlib.import_module("crcmod.crcmod"), "_usingExtension", False))
    except ImportError:
        return [Finding(Severity.WARNING, "crcmod is not installed here", "pip install crcmod")]
    if compiled:
        return []
    return [
        Finding(
            Severity.WARNING,
            "crcmod was installed here without its C extension: RDB checksums are some 30 times slower",
            "install a C compiler, then: pip install --force-reinstall --no-binary :all: crcmod",
        )
    ]


# Printing


def table(facts: Sequence[Facts]) -> list[str]:
    """One line for each node, in columns; replicas under their masters."""
    masters = [fact for fact in facts if fact.node.is_master]
    ordered = [
        fact
        for master in masters
        for fact in (master, *(other for other in facts if other.node.master_id == master.node.node_id))
    ]
    ordered += [fact for fact in facts if fact not in ordered]
    rows = [("NODE", "ID", "ROLE", "STATE", "SLOTS", "KEYS", "MEMORY", "VERSION")]
    for fact in ordered:
        node = fact.node
        rows.append(
            (
                str(node.address) if node.is_master else f"  {node.address}",
                node.node_id[:8],
                "master" if node.is_master else f"replica ({fact.text('master_link_status') or 'unknown'})",
                fact.text("cluster_state"),
                str(len(node.slots)) if node.is_master else "-",
                _key_count(fact),
                fact.text("used_memory_human"),
                fact.text("redis_version") + (f" (Hashslot {own})" if (own := fact.text("hashslot_version")) else ""),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _key_count(fact: Facts) -> str:
    keys = fact.text("db0").partition("keys=")[2].partition(",")[0]
    return keys or "0"


def run_doctor(context: Context, view: ClusterView) -> bool:
    """The command ``doctor``; False when there is an error."""
    console = context.console
    facts = gather(context, view)
    console.info(f">>> {len(facts)} nodes, seen from {view.contact.address}")
    for line in table(facts):
        console.line(line)
    findings = examine(facts, view.unreachable_masters) + examine_installation()
    console.info(">>> Findings")
    for finding in findings:
        say = console.error if finding.severity is Severity.ERROR else console.warn
        say(f"[{finding.severity.value}] {finding.text}")
        if finding.advice:
            console.line(f"      -> {_as_command(finding.advice, view)}")
    if not findings:
        console.ok("[OK] Nothing to complain about.")
    return not any(finding.severity is Severity.ERROR for finding in findings)


def _as_command(advice: str, view: ClusterView) -> str:
    """Advice that names one of our commands is written the way it is typed."""
    if advice == "fix":
        return f"redis-cluster-cli fix {view.contact.address}"
    if advice.startswith(("set-timeout ", "add-node ")):
        return f"redis-cluster-cli {advice}"
    return advice
