"""A whole cluster for a test: nodes of either kind, formed, watched and taken down together.

    with ClusterFixture(masters=3, replicas=1, kind="ours") as cluster:
        cluster.wait_ok()
        cluster.master_of(key_slot(b"foo")).kill9()

`form` builds it by plain CLUSTER commands, which is the quickest way and tells apart the cluster from the tools that
create it; `create=` picks redis-cli or this project's CLI instead, or nothing. What a node believes is read from its
CLUSTER NODES text by `NodeView`, written here independently of the package under test. Units: seconds.
"""

from __future__ import annotations

import binascii
import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Literal, Self

import attrs
import redis
from redis.cluster import ClusterNode, RedisCluster

from tests.support.servers import KINDS, Kind, Server, hashslot_cli, redis_cli
from tests.support.waiting import PATIENCE, eventually
from tests.support.wire import ReplyError

SLOTS = 16384
Creation = Literal["commands", "redis-cli", "hashslot-cli", "none"]
CALM_NODE_TIMEOUT: Final = 30_000  # milliseconds
NOT_YET: Final = (OSError, AssertionError, ReplyError)
"""What nodes may answer while one waits for them: a replica that takes over its master's data says LOADING."""


@attrs.frozen
class NodeView:
    """One line of CLUSTER NODES: what one node believes about another (or itself)."""

    node_id: str
    port: int
    bus_port: int
    flags: frozenset[str]
    master_id: str | None
    config_epoch: int
    connected: bool
    slots: frozenset[int]
    migrating: frozenset[int]
    importing: frozenset[int]

    @property
    def is_master(self) -> bool:
        return "master" in self.flags

    @property
    def failed(self) -> bool:
        return bool(self.flags & {"fail", "fail?"})

    @classmethod
    def parse(cls, line: str) -> Self:
        node_id, address, flags, master, _ping, _pong, epoch, link, *ranges = line.split(" ")
        client, _, bus = address.partition(",")[0].rpartition(":")[2].partition("@")
        slots: set[int] = set()
        migrating: set[int] = set()
        importing: set[int] = set()
        for text in ranges:
            if text.startswith("["):
                slot, _, _ = text[1:-1].partition("-")
                (migrating if "->-" in text else importing).add(int(slot))
            else:
                first, _, last = text.partition("-")
                slots.update(range(int(first), int(last or first) + 1))
        return cls(
            node_id=node_id,
            port=int(client),
            bus_port=int(bus or 0),
            flags=frozenset(flags.split(",")),
            master_id=None if master == "-" else master,
            config_epoch=int(epoch),
            connected=link == "connected",
            slots=frozenset(slots),
            migrating=frozenset(migrating),
            importing=frozenset(importing),
        )


def nodes_seen_by(server: Server) -> dict[str, NodeView]:
    """CLUSTER NODES of one server, by node id."""
    text = server.call("CLUSTER", "NODES").decode()
    views = [NodeView.parse(line) for line in text.splitlines()]
    return {view.node_id: view for view in views}


def key_slot(key: bytes) -> int:
    """The slot of a key, by a CRC16 that is not the package's own code; hash tags as in the specification."""
    opening = key.find(b"{")
    if opening >= 0:
        closing = key.find(b"}", opening + 1)
        if closing > opening + 1:
            key = key[opening + 1 : closing]
    return binascii.crc_hqx(key, 0) % SLOTS


def slot_ranges(masters: int) -> list[tuple[int, int]]:
    """The slots shared out evenly, as redis-cli --cluster create does it."""
    per_node = SLOTS / masters
    edges = [round(per_node * index) for index in range(masters + 1)]
    return [(first, after - 1) for first, after in itertools.pairwise(edges)]


class ClusterFixture:
    """`masters` masters with `replicas` replicas each; node i of `nodes` is a master for i < masters at creation.

    `kind` is one kind for all, or one per node in that order.
    """

    def __init__(
        self,
        masters: int = 3,
        replicas: int = 0,
        kind: Kind | Sequence[Kind] = "ours",
        *,
        create: Creation = "commands",
        **directives: Any,
    ) -> None:
        self.masters = masters
        self.replicas = replicas
        count = masters * (1 + replicas)
        kinds: Sequence[Kind] = [kind] * count if isinstance(kind, str) else kind
        assert len(kinds) == count, f"{count} nodes, {len(kinds)} kinds"
        self.create: Creation = create
        self._stack = contextlib.ExitStack()
        self.nodes: list[Server] = []
        for one in kinds:
            server = KINDS[one](cluster=True, **directives)
            self._stack.callback(server.close)
            self.nodes.append(server)
        self._ids: dict[int, str] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
            if self.create == "commands":
                self.form()
            elif self.create != "none":
                self.form_by_tool(self.create)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.print_logs()
        self.close()

    def close(self) -> None:
        self._stack.close()

    # --- forming it ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start all nodes at once, then wait for each."""
        for node in self.nodes:
            node.start(wait=False)
        for node in self.nodes:
            node.wait_ready()
            self._ids[node.port] = node.call("CLUSTER", "MYID").decode()

    def form(self, timeout: float = PATIENCE) -> None:
        """Slots, epochs, MEET, REPLICATE; returns when every node says ok and every replica is in sync."""
        for index, ((first, last), node) in enumerate(
            zip(slot_ranges(self.masters), self.nodes[: self.masters], strict=True)
        ):
            node.call("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in self.nodes[1:]:
            self.nodes[0].call("CLUSTER", "MEET", "127.0.0.1", node.port)
        self.wait_all_known(timeout)
        for index, node in enumerate(self.nodes[self.masters :]):
            master_id = self.node_id(self.nodes[index % self.masters])
            # A node that has met the master only by gossip may refuse for a moment.
            eventually(
                lambda node=node, master_id=master_id: node.call("CLUSTER", "REPLICATE", master_id),  # type: ignore[misc]
                timeout,
                ignore=(ReplyError,),
            )
        self.wait_ok(timeout)
        self.wait_in_sync(timeout)

    def form_by_tool(self, tool: Creation, timeout: float = 60.0) -> str:
        """`create` by redis-cli or by this project's CLI; returns what it printed."""
        addresses = [node.address for node in self.nodes]
        if tool == "redis-cli":
            done = redis_cli(
                self.nodes[0].port,
                "--cluster", "create", *addresses, "--cluster-replicas", str(self.replicas), "--cluster-yes",
                timeout=timeout,
            )  # fmt: skip
        else:
            done = hashslot_cli("create", "--replicas", str(self.replicas), "--yes", *addresses, timeout=timeout)
        assert done.returncode == 0, f"{tool} create: status {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.wait_ok(timeout)
        self.wait_in_sync(timeout)
        return done.stdout

    def calm(self) -> Self:
        """From now on, after restarts too, nobody is taken for dead because the machine was busy; returns self.

        For tests without a failover, to be called when the cluster is formed: with a long time-out that takes longer.
        """
        for node in self.nodes:
            node.directives["cluster-node-timeout"] = CALM_NODE_TIMEOUT
            node.call("CONFIG", "SET", "cluster-node-timeout", CALM_NODE_TIMEOUT)
        return self

    # --- waiting ------------------------------------------------------------------------------------------------------

    def wait_all_known(self, timeout: float = PATIENCE) -> None:
        """Every running node is connected to every running node, past its handshake."""

        def full_mesh() -> bool:
            for node in self.running:
                views = nodes_seen_by(node)
                if len(views) < len(self.nodes):
                    return False
                for view in views.values():
                    if not view.connected or view.flags & {"handshake", "noaddr"}:
                        return False
            return True

        eventually(full_mesh, timeout, ignore=NOT_YET, message=lambda: f"full mesh\n{self.describe()}")

    def wait_ok(self, timeout: float = PATIENCE) -> None:
        """cluster_state:ok on every running node, and all agree who serves what."""
        eventually(
            lambda: all(node.cluster_info()["cluster_state"] == "ok" for node in self.running),
            timeout,
            ignore=NOT_YET,
            message=lambda: f"cluster_state:ok on all\n{self.describe()}",
        )
        self.wait_agreement(timeout)

    def wait_agreement(self, timeout: float = PATIENCE) -> None:
        """All running nodes hold the same slot map with the same config epochs, and know who replicates whom."""

        def agree() -> bool:
            return len({(self.slot_map(node), self.role_map(node)) for node in self.running}) == 1

        eventually(
            agree, timeout, ignore=NOT_YET, message=lambda: f"agreement about slots and roles\n{self.describe()}"
        )

    def wait_in_sync(self, timeout: float = PATIENCE) -> None:
        """Every running replica has its link up and has acknowledged its master's whole stream."""

        def in_sync() -> bool:
            for node in self.running:
                info = node.info("replication")
                if info["role"] != "slave":
                    continue
                if info["master_link_status"] != "up":
                    return False
                master = next((one for one in self.running if one.port == int(info["master_port"])), None)
                if master is None or int(info["slave_repl_offset"]) < int(
                    master.info("replication")["master_repl_offset"]
                ):
                    return False
            return True

        eventually(in_sync, timeout, ignore=NOT_YET, message=lambda: f"replicas in sync\n{self.describe()}")

    def wait_replicas_listed(self, timeout: float = PATIENCE) -> None:
        """Every node lists every replica in CLUSTER SLOTS, which it does once it has heard of an offset above 0."""
        for index, master in enumerate(self.nodes[: self.masters]):
            first, _ = slot_ranges(self.masters)[index]
            key = next(key for key in (b"%d" % number for number in range(10**6)) if key_slot(key) == first)
            master.call("SET", key, "")
            master.call("DEL", key)

        def listed() -> bool:
            ranges = [one for node in self.running for one in node.call("CLUSTER", "SLOTS")]
            return all(len(one) == 3 + self.replicas for one in ranges)

        eventually(listed, timeout, ignore=NOT_YET, message=lambda: f"replicas in CLUSTER SLOTS\n{self.describe()}")

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> list[Server]:
        """Nodes that can answer: started, not killed, not paused."""
        return [node for node in self.nodes if node.running and not node.paused]

    def node_id(self, node: Server) -> str:
        """The id the node had when it was last started; so a dead one can be asked about."""
        return self._ids[node.port]

    def by_id(self, node_id: str) -> Server:
        return next(node for node in self.nodes if self.node_id(node) == node_id)

    def view_of(self, node: Server, *, on: Server) -> NodeView:
        """What `on` believes about `node`."""
        return nodes_seen_by(on)[self.node_id(node)]

    def is_master(self, node: Server) -> bool:
        """Whether the node believes itself to be a master."""
        return bool(node.call("ROLE")[0] == b"master")

    def slot_map(self, node: Server) -> frozenset[tuple[str, int, frozenset[int]]]:
        """(node id, config epoch, slots) of every master with slots, as `node` sees them."""
        return frozenset(
            (view.node_id, view.config_epoch, view.slots) for view in nodes_seen_by(node).values() if view.slots
        )

    def role_map(self, node: Server) -> frozenset[tuple[str, str | None]]:
        """(node id, its master's id) of every node that is not failing, as `node` sees them."""
        return frozenset((view.node_id, view.master_id) for view in nodes_seen_by(node).values() if not view.failed)

    def master_of(self, slot: int, *, on: Server | None = None) -> Server:
        """The node that serves `slot`, as `on` (default: any running node) sees it."""
        views = nodes_seen_by(on or self.running[0])
        owner = next((view for view in views.values() if slot in view.slots), None)
        assert owner is not None, f"nobody serves slot {slot}\n{self.describe()}"
        return next(node for node in self.nodes if node.port == owner.port)

    def replicas_of(self, master: Server, *, on: Server | None = None) -> list[Server]:
        master_id = self.node_id(master)
        ports = {view.port for view in nodes_seen_by(on or self.running[0]).values() if view.master_id == master_id}
        return [node for node in self.nodes if node.port in ports]

    def each(self, action: Callable[[Server], Any]) -> list[Any]:
        """Do something with all nodes at the same time."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            return list(pool.map(action, self.nodes))

    def client(self, **options: Any) -> RedisCluster:
        """redis-py's own cluster client."""
        seeds = [ClusterNode("127.0.0.1", node.port) for node in self.running]  # type: ignore[no-untyped-call]
        return RedisCluster(startup_nodes=seeds, **{"protocol": 2, "socket_timeout": PATIENCE, **options})

    def describe(self) -> str:
        """CLUSTER NODES and CLUSTER INFO of all that answer, for a failure message."""
        parts = []
        for node in self.running:
            try:
                parts.append(f"--- {node}\n{node.call('CLUSTER', 'NODES').decode()}{node.cluster_info()}")
            except (OSError, ReplyError, redis.RedisError) as error:
                parts.append(f"--- {node}: {error!r}")
        return "\n".join(parts)

    def print_logs(self, lines: int = 20) -> None:
        """The tail of every log, for pytest to show with the failure."""
        for node in self.nodes:
            tail = "\n".join(node.log_text().splitlines()[-lines:])
            print(f"----- {node} ({node.kind}), at {time.strftime('%H:%M:%S')} -----\n{tail}")


__all__ = ["SLOTS", "ClusterFixture", "NodeView", "key_slot", "nodes_seen_by", "slot_ranges"]
