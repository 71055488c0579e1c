"""A cluster in memory for the tests of the administration: as much of Redis Cluster as an administrator can see.

Every node has its own table of owners, so that a tool that dies half-way leaves the nodes disagreeing, as it would in
life; epochs settle it when the test lets them `gossip`. Replies have the shapes that hiredis gives. The model can be
reached in memory (`ModelCluster.open_link`) and over TCP (`serve`), so that redis-cli can be run against it as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import hiredis

from cluster.admin.address import Address
from cluster.admin.connection import Argument, Credentials, ErrorReply, Link, Reply
from cluster.admin.errors import CannotConnect, ConnectionLost
from cluster.slots.hashing import SLOT_COUNT, key_slot


@attrs.define(eq=False)
class ModelNode:
    """One node: what it is, what it holds, what it believes."""

    cluster: ModelCluster
    address: Address
    node_id: str
    known: dict[str, ModelNode] = attrs.field(factory=dict)
    owners: dict[int, str] = attrs.field(factory=dict)  # slot → node id, as this node believes.
    epoch: int = 0
    master_id: str | None = None
    migrating: dict[int, str] = attrs.field(factory=dict)
    importing: dict[int, str] = attrs.field(factory=dict)
    data: dict[bytes, bytes] = attrs.field(factory=dict)
    functions: bytes = b""
    password: str | None = None
    cluster_enabled: bool = True
    debug_allowed: bool = True
    is_down: bool = False
    refuses_restore_for: int = 0  # So many MIGRATEs towards this node find the cluster down.
    queued: list[list[bytes]] | None = None  # Between MULTI and EXEC.

    def __attrs_post_init__(self) -> None:
        self.known[self.node_id] = self

    @property
    def slots(self) -> set[int]:
        return {slot for slot, owner in self.owners.items() if owner == self.node_id}

    # --- commands -----------------------------------------------------------------------------------------------------

    def execute(self, command: Sequence[bytes]) -> Reply:
        name = command[0].upper().decode()
        if name == "CLUSTER":
            name += "_" + command[1].upper().decode().replace("-", "_")
        if self.queued is not None and name != "EXEC":
            self.queued.append(list(command))
            return b"QUEUED"
        handler: Callable[[Sequence[bytes]], Reply] | None = getattr(self, f"do_{name.lower()}", None)
        if handler is None:
            return ErrorReply(f"ERR unknown command '{name}'")
        return handler(command)

    def do_ping(self, _command: Sequence[bytes]) -> Reply:
        return b"PONG"

    def do_info(self, _command: Sequence[bytes]) -> Reply:
        lines = ["# Cluster", f"cluster_enabled:{int(self.cluster_enabled)}", "# Replication", "master_link_status:up"]
        lines += ["# Keyspace"] + ([f"db0:keys={len(self.data)},expires=0,avg_ttl=0"] if self.data else [])
        return "\r\n".join(lines).encode() + b"\r\n"

    def do_dbsize(self, _command: Sequence[bytes]) -> Reply:
        return len(self.data)

    def do_multi(self, _command: Sequence[bytes]) -> Reply:
        self.queued = []
        return b"OK"

    def do_exec(self, _command: Sequence[bytes]) -> Reply:
        commands, self.queued = self.queued or [], None
        return [self.execute(command) for command in commands]

    def do_asking(self, _command: Sequence[bytes]) -> Reply:
        return b"OK"

    def do_dump(self, command: Sequence[bytes]) -> Reply:
        return self.data.get(command[1])

    def do_debug(self, command: Sequence[bytes]) -> Reply:
        if not self.debug_allowed:
            return ErrorReply("ERR DEBUG command not allowed.")
        return [
            hashlib.sha1(self.data[key]).hexdigest().encode() if key in self.data else b"0" * 40 for key in command[2:]
        ]

    def do_function(self, command: Sequence[bytes]) -> Reply:
        if command[1] == b"DUMP":
            return self.functions
        if command[1] == b"LIST":
            return [[b"library_name", b"lib"]] if self.functions else []
        self.functions = command[2]
        return b"OK"

    def do_config(self, _command: Sequence[bytes]) -> Reply:
        return b"OK"

    def do_cluster_nodes(self, _command: Sequence[bytes]) -> Reply:
        owned: dict[str, list[int]] = {}
        for slot, owner in sorted(self.owners.items()):
            owned.setdefault(owner, []).append(slot)
        rows = [self._row(node, owned.get(node.node_id, [])) for node in self.cluster.in_order_of(self)]
        return "".join(rows).encode()

    def _row(self, node: ModelNode, slots: Sequence[int]) -> str:
        flags = "slave" if node.master_id else "master"
        if node is self:
            flags = "myself," + flags
        words = [
            node.node_id,
            f"{node.address}@{node.address.port + 10000}",
            flags,
            node.master_id or "-",
            "0",
            "1683528027000",
            str(node.epoch),
            "connected",
            *_range_words(slots),
        ]
        if node is self:
            words += [f"[{slot}->-{target}]" for slot, target in sorted(self.migrating.items())]
            words += [f"[{slot}-<-{source}]" for slot, source in sorted(self.importing.items())]
        return " ".join(words) + "\n"

    def do_cluster_info(self, _command: Sequence[bytes]) -> Reply:
        state = "ok" if len(self.owners) == SLOT_COUNT else "fail"
        return f"cluster_state:{state}\r\ncluster_known_nodes:{len(self.known)}\r\n".encode()

    def do_cluster_addslots(self, command: Sequence[bytes]) -> Reply:
        slots = [int(word) for word in command[2:]]
        for slot in slots:
            if slot in self.owners:
                return ErrorReply(f"ERR Slot {slot} is already busy")
        for slot in slots:
            self.owners[slot] = self.node_id
            self.importing.pop(slot, None)
        return b"OK"

    def do_cluster_delslots(self, command: Sequence[bytes]) -> Reply:
        for word in command[2:]:
            if int(word) not in self.owners:
                return ErrorReply(f"ERR Slot {int(word)} is already unassigned")
        for word in command[2:]:
            del self.owners[int(word)]
        return b"OK"

    def do_cluster_set_config_epoch(self, command: Sequence[bytes]) -> Reply:
        if self.epoch:
            return ErrorReply("ERR Node config epoch is already non-zero")
        self.epoch = int(command[2])
        return b"OK"

    def do_cluster_bumpepoch(self, _command: Sequence[bytes]) -> Reply:
        self._bump()
        return b"BUMPED"

    def _bump(self) -> None:
        self.epoch = max(node.epoch for node in self.cluster.nodes) + 1

    def do_cluster_meet(self, command: Sequence[bytes]) -> Reply:
        wanted = Address(command[2].decode(), int(command[3]))
        other = self.cluster.at(wanted)
        if other is None:
            return ErrorReply(f"ERR Invalid node address specified: {wanted}")
        if self.cluster.is_bus_filtered:
            return b"OK"
        everybody = {**self.known, **other.known}
        for node in everybody.values():
            node.known.update(everybody)
        self.cluster.gossip()
        return b"OK"

    def do_cluster_forget(self, command: Sequence[bytes]) -> Reply:
        if command[2].decode() not in self.known:
            return ErrorReply("ERR Unknown node " + command[2].decode())
        del self.known[command[2].decode()]
        return b"OK"

    def do_cluster_reset(self, _command: Sequence[bytes]) -> Reply:
        self.known, self.owners, self.master_id = {self.node_id: self}, {}, None
        return b"OK"

    def do_cluster_replicate(self, command: Sequence[bytes]) -> Reply:
        node_id = command[2].decode()
        if node_id not in self.known:
            return ErrorReply(f"ERR Unknown node {node_id}")
        self.master_id = node_id
        return b"OK"

    def do_cluster_keyslot(self, command: Sequence[bytes]) -> Reply:
        return key_slot(command[2])

    def do_cluster_countkeysinslot(self, command: Sequence[bytes]) -> Reply:
        return len(self.keys_in(int(command[2])))

    def do_cluster_getkeysinslot(self, command: Sequence[bytes]) -> Reply:
        return self.keys_in(int(command[2]))[: int(command[3])]

    def keys_in(self, slot: int) -> list[bytes]:
        return [key for key in self.data if key_slot(key) == slot]

    def do_cluster_setslot(self, command: Sequence[bytes]) -> Reply:
        slot, state = int(command[2]), command[3].upper()
        node_id = command[4].decode() if len(command) > 4 else ""
        if self.master_id:
            return ErrorReply("ERR Please use SETSLOT only with masters.")
        mine = self.owners.get(slot) == self.node_id
        if state == b"STABLE":
            self.migrating.pop(slot, None)
            self.importing.pop(slot, None)
        elif node_id not in self.known:
            return ErrorReply(f"ERR I don't know about node {node_id}")
        elif state == b"MIGRATING":
            if not mine:
                return ErrorReply(f"ERR I'm not the owner of hash slot {slot}")
            self.migrating[slot] = node_id
        elif state == b"IMPORTING":
            if mine:
                return ErrorReply(f"ERR I'm already the owner of hash slot {slot}")
            self.importing[slot] = node_id
        else:
            return self._set_slot_node(slot, node_id, mine)
        return b"OK"

    def _set_slot_node(self, slot: int, node_id: str, mine: bool) -> Reply:
        if mine and node_id != self.node_id and self.keys_in(slot):
            return ErrorReply(
                f"ERR Can't assign hashslot {slot} to a different node while I still hold keys for this hash slot."
            )
        if not self.keys_in(slot):
            self.migrating.pop(slot, None)
        self.owners[slot] = node_id
        if node_id == self.node_id and self.importing.pop(slot, ""):
            self._bump()
        return b"OK"

    def do_migrate(self, command: Sequence[bytes]) -> Reply:
        target = self.cluster.at(Address(command[1].decode(), int(command[2])))
        split = [word.upper() for word in command].index(b"KEYS")
        options = [word.upper() for word in command[6:split]]
        keys = [key for key in command[split + 1 :] if key in self.data]
        if target is None or target.is_down:
            return ErrorReply("IOERR error or timeout writing to target instance")
        if target.password is not None and target.password.encode() not in command[6:split]:
            return ErrorReply("ERR Target instance replied with error: NOAUTH Authentication required.")
        if target.refuses_restore_for:
            target.refuses_restore_for -= 1
            return ErrorReply("ERR Target instance replied with error: CLUSTERDOWN The cluster is down")
        busy = False
        for key in keys:
            if key in target.data and b"REPLACE" not in options:
                busy = True
                continue
            target.data[key] = self.data.pop(key)
        if busy:
            return ErrorReply("ERR Target instance replied with error: BUSYKEY Target key name already exists.")
        return b"OK" if keys else b"NOKEY"

    # --- what a client gets -------------------------------------------------------------------------------------------

    def get(self, key: bytes, asking: bool = False) -> bytes | tuple[str, str] | None:
        """GET: the value, None, or a redirection as (kind, node id)."""
        slot = key_slot(key)
        owner = self.owners.get(slot)
        if owner == self.node_id:
            if key not in self.data and slot in self.migrating:
                return ("ASK", self.migrating[slot])
            return self.data.get(key)
        if slot in self.importing and asking:
            return self.data.get(key)
        if owner is None:
            return ("DOWN", "")
        return ("MOVED", owner)


def _range_words(slots: Sequence[int]) -> list[str]:
    """Ascending slots as Redis lists them, written without the code under test."""
    words: list[str] = []
    start = 0
    for index, slot in enumerate(slots):
        if index == 0 or slot != slots[index - 1] + 1:
            start = slot
        if index == len(slots) - 1 or slots[index + 1] != slot + 1:
            words.append(str(slot) if slot == start else f"{start}-{slot}")
    return words


@attrs.define(eq=False)
class ModelCluster:
    """All nodes, and what happens between them."""

    nodes: list[ModelNode] = attrs.field(factory=list)
    # How a node's CLUSTER NODES lists the others: Redis has the order of a hash table.
    listing: list[str] | None = None
    is_bus_filtered: bool = False  # MEET is accepted, and nothing comes of it.
    trace: list[tuple[str, list[bytes]]] = attrs.field(factory=list)  # (address, command), in order.
    before: Callable[[ModelNode, Sequence[bytes]], None] = lambda _node, _command: None
    after: Callable[[ModelNode, Sequence[bytes]], None] = lambda _node, _command: None

    def add(self, host: str, port: int, node_id: str = "") -> ModelNode:
        address = Address(host, port)
        node = ModelNode(self, address, node_id or hashlib.sha1(str(address).encode()).hexdigest())
        self.nodes.append(node)
        return node

    def at(self, address: Address) -> ModelNode | None:
        return next((node for node in self.nodes if node.address == address), None)

    def by_id(self, node_id: str) -> ModelNode:
        return next(node for node in self.nodes if node.node_id == node_id)

    def in_order_of(self, asked: ModelNode) -> list[ModelNode]:
        known = [node for node in self.nodes if node.node_id in asked.known]
        if self.listing is not None:
            known.sort(key=lambda node: self.listing.index(str(node.address)))  # type: ignore[union-attr]
        return known

    def form(self, slots: Mapping[str, Sequence[int]], replicas: Mapping[str, str] | None = None) -> None:
        """Make a finished cluster: address → slots, replica's address → master's address."""
        everybody = {node.node_id: node for node in self.nodes}
        by_address = {str(node.address): node for node in self.nodes}
        for epoch, node in enumerate(self.nodes, start=1):
            node.known.update(everybody)
            node.epoch = epoch
            for address, owned in slots.items():
                node.owners.update(dict.fromkeys(owned, by_address[address].node_id))
        for replica, master in (replicas or {}).items():
            by_address[replica].master_id = by_address[master].node_id

    def gossip(self) -> None:
        """Let every node hear of every claim: the claim with the greater config epoch wins."""
        if self.is_bus_filtered:
            return
        claims: dict[int, ModelNode] = {}
        for node in sorted(self.nodes, key=lambda node: node.epoch):
            claims.update(dict.fromkeys(node.slots, node))
        for node in self.nodes:
            believed = {slot: winner.node_id for slot, winner in claims.items() if winner.node_id in node.known}
            node.owners.update(believed)

    def read(self, key: bytes, start: ModelNode) -> bytes | None:
        """GET as a client that follows redirections, from any node."""
        node, asking = start, False
        for _ in range(10):
            answer = node.get(key, asking)
            if not isinstance(answer, tuple):
                return answer
            kind, node_id = answer
            if kind == "DOWN":
                return None
            node, asking = self.by_id(node_id), kind == "ASK"
        raise AssertionError(f"{key!r} is redirected for ever, starting at {start.address}")

    # --- reaching it --------------------------------------------------------------------------------------------------

    def open_link(self, address: Address, credentials: Credentials) -> Link:
        """What `Context.open_link` wants."""
        node = self.at(address)
        if node is None or node.is_down:
            raise CannotConnect(address, "Connection refused")
        return ModelLink(self, node, credentials, address)

    @contextlib.contextmanager
    def serve(self) -> Iterator[None]:
        """Answer on the nodes' real addresses for the duration of the block."""
        servers = [_Server(node) for node in self.nodes]
        threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in servers]
        try:
            for thread in threads:
                thread.start()
            yield
        finally:
            for server in servers:
                server.shutdown()
                server.server_close()


@attrs.define
class ModelLink:
    """A connection to a model node, without a socket."""

    cluster: ModelCluster
    node: ModelNode
    credentials: Credentials
    address: Address
    _replies: list[Reply] = attrs.field(factory=list)

    def send(self, *command: Argument) -> None:
        words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
        if self.node.is_down:
            raise ConnectionLost(self.address, "Connection reset by peer")
        self.cluster.before(self.node, words)
        self.cluster.trace.append((str(self.address), words))
        needs_login = self.node.password is not None and self.credentials.password != self.node.password
        reply = ErrorReply("NOAUTH Authentication required.") if needs_login else self.node.execute(words)
        self._replies.append(reply)
        self.cluster.after(self.node, words)

    def receive(self, timeout_s: float = 1.0) -> Reply:
        return self._replies.pop(0)

    def close(self) -> None:
        self._replies.clear()


class _Server(socketserver.ThreadingTCPServer):
    """A model node on its own address."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, node: ModelNode) -> None:
        self.node = node
        super().__init__((node.address.host, node.address.port), _Handler)


class _Handler(socketserver.BaseRequestHandler):
    server: _Server
    request: socket.socket

    def handle(self) -> None:
        node = self.server.node
        reader = hiredis.Reader(notEnoughData=StopIteration)
        logged_in = node.password is None
        with contextlib.suppress(OSError):
            while received := self.request.recv(65536):
                reader.feed(received)
                while (command := reader.gets()) is not StopIteration:
                    if command[0].upper() == b"AUTH":
                        logged_in = command[-1].decode() == node.password
                        reply: Reply = b"OK" if logged_in else ErrorReply("WRONGPASS invalid username-password pair")
                    else:
                        reply = node.execute(command) if logged_in else ErrorReply("NOAUTH Authentication required.")
                    self.request.sendall(encode(reply))


def encode(reply: Any) -> bytes:
    """A model's reply as RESP2."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, ErrorReply):
        return f"-{reply}\r\n".encode()
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n" % len(reply) + b"".join(encode(element) for element in reply)
