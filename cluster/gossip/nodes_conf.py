"""nodes.conf: the cluster as this node last knew it, as text and as a file. The same lines make up CLUSTER NODES.

Role        :func:`node_line` and :func:`describe_nodes` draw lines from the state, :func:`parse` reads them back,
            :class:`NodesConfFile` locks, loads and saves the file.
Invariants  At any instant the file is either the old or the new version, whole. While a node lives it holds an flock on
            the file that has the name. The file is read by Redis 7.0, and one written by it is read here.
Source      Redis 7.0.15, cluster.c: clusterLoadConfig, clusterSaveConfig, clusterLockConfig, clusterGenNodeDescription.
Units       Ping and pong times in lines are Unix milliseconds; in the state they are monotonic.

A line: ``<id> <ip>:<port>@<bus port>[,<hostname>] <flags> <master id or -> <ping sent> <pong received> <config epoch>
<link state> <slot or range> … [<slot>->-<id>] [<slot>-<-<id>]``; and one line ``vars currentEpoch 6 lastVoteEpoch 0``.

Redis reads numbers with ``atoi`` and panics on some mistakes; here everything that is no such line is refused with the
one sentence that Redis has for it. It also writes the file in place; here that is done only within one block, which is
what spares a resharding thousands of renames, each of which costs several times an fsync; what is larger is written to
a new file, which takes the old one's place.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import weakref
from collections.abc import Iterable
from typing import Final

import attrs

from cluster.errors import ConfigError
from cluster.gossip.state import BUS_PORT_INCREMENT, NO_FLAGS, ClusterState, Node, NodeFlags
from cluster.slots.ranges import (
    Direction,
    OpenSlot,
    SlotRangeError,
    bitmap_to_ranges,
    format_ranges,
    is_node_id,
    parse_piece,
)

CORRUPTED: Final = "Unrecoverable error: corrupted cluster config file."

FLAG_NAMES: Final = (
    (NodeFlags.MYSELF, "myself"),
    (NodeFlags.MASTER, "master"),
    (NodeFlags.SLAVE, "slave"),
    (NodeFlags.PFAIL, "fail?"),
    (NodeFlags.FAIL, "fail"),
    (NodeFlags.HANDSHAKE, "handshake"),
    (NodeFlags.NOADDR, "noaddr"),
    (NodeFlags.NOFAILOVER, "nofailover"),
)
NO_FLAGS_NAME: Final = "noflags"
_SAVED_FLAGS: Final = sum(flag for flag, _ in FLAG_NAMES)
_flags_texts: Final[dict[NodeFlags, str]] = {}
"""What was drawn already: a few combinations, drawn again for every node at each save."""
_FLAG_BY_NAME: Final = {name: flag for flag, name in FLAG_NAMES} | {NO_FLAGS_NAME: NO_FLAGS}
BLOCK_BYTES: Final = 4096
"""What a disk writes whole: content within one block can be overwritten without ever being half old, half new."""
_FIELDS_BEFORE_SLOTS: Final = 8
_UINT64_MAX: Final = 2**64 - 1


# -- drawing ------------------------------------------------------------------------------------------------------


def format_flags(flags: NodeFlags) -> str:
    """``myself,master``; ``noflags`` when none of the named flags is set."""
    text = _flags_texts.get(flags)
    if text is None:
        text = ",".join([name for flag, name in FLAG_NAMES if flag & flags]) or NO_FLAGS_NAME
        _flags_texts[flags] = text
    return text


def node_line(state: ClusterState, node: Node) -> str:
    """One line of CLUSTER NODES, without its line end."""
    hostname = _printable(node.hostname)
    is_following = node.is_replica and node.master is not None
    epoch = node.master.config_epoch if is_following and node.master else node.config_epoch
    fields = [
        node.node_id,
        f"{_printable(node.ip)}:{node.port}@{node.cport}" + (f",{hostname}" if hostname else ""),
        format_flags(node.flags),
        node.master.node_id if node.master is not None else "-",
        str(state.to_unix_ms(node.ping_sent_ms)),
        str(state.to_unix_ms(node.pong_received_ms)),
        str(epoch),
        "connected" if node.link is not None or node.is_myself else "disconnected",
    ]
    if node.slot_count:
        fields.append(_slots_text(node))
    if node.is_myself:
        fields.extend(map(str, open_slots(state)))
    return " ".join(fields)


def _slots_text(node: Node) -> str:
    """``0-5460 5462``; drawn once per change, because every line of every node is drawn again for each save."""
    if node.slots_text is None:
        node.slots_text = format_ranges(bitmap_to_ranges(node.slots))
    return node.slots_text


def open_slots(state: ClusterState) -> list[OpenSlot]:
    """The slots this node migrates or imports, ascending; one that is both counts as migrating."""
    importing = {slot: OpenSlot(slot, Direction.IMPORTING, node.node_id) for slot, node in state.importing.items()}
    migrating = {slot: OpenSlot(slot, Direction.MIGRATING, node.node_id) for slot, node in state.migrating.items()}
    return sorted((importing | migrating).values())


def describe_nodes(state: ClusterState, without: NodeFlags = NO_FLAGS) -> str:
    """CLUSTER NODES: a line for each node that has none of the flags ``without``."""
    hidden = without.value
    return "".join([f"{node_line(state, node)}\n" for node in state.nodes.values() if not node.flags.value & hidden])


def format_nodes_conf(state: ClusterState) -> str:
    """The content of nodes.conf: the nodes that are more than a handshake, and the epochs."""
    epochs = f"vars currentEpoch {state.current_epoch} lastVoteEpoch {state.last_vote_epoch}\n"
    return describe_nodes(state, without=NodeFlags.HANDSHAKE) + epochs


def essence(state: ClusterState) -> tuple[object, ...]:
    """All of nodes.conf that a restart reads: without the times and link states. Two equal ones need one save."""
    nodes = tuple(
        (
            node.node_id,
            node.ip,
            node.port,
            node.cport,
            node.hostname,
            int(node.flags) & _SAVED_FLAGS,
            node.master.node_id if node.master is not None else "",
            node.config_epoch,
            _slots_text(node),
        )
        for node in state.nodes.values()
        if not node.in_handshake
    )
    open_ends = tuple(
        tuple((slot, peer.node_id) for slot, peer in table.items()) for table in (state.migrating, state.importing)
    )
    return nodes, open_ends, state.current_epoch, state.last_vote_epoch


def _printable(text: str) -> str:
    """``text`` unless it would break a line into other fields: addresses and hostnames come from peers unchecked."""
    if text.isascii() and text.isprintable() and not any(mark in text for mark in " ,@\"'\\"):
        return text
    return ""


# -- reading ------------------------------------------------------------------------------------------------------


@attrs.frozen
class LoadedConfig:
    """What a nodes.conf held, and what about it is worth a line in the log."""

    state: ClusterState
    warnings: tuple[str, ...] = ()


def parse(text: str, now_ms: int) -> LoadedConfig:
    """Read the content of a nodes.conf; raises ConfigError when it is damaged.

    ``now_ms`` (monotonic) stands in for the times of pings, pongs and failures, which meant something to another clock.
    """
    reader = _Reader(now_ms)
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            reader.read_line(line)
        except (SlotRangeError, _Damage) as damage:
            raise ConfigError(f"{CORRUPTED} (line {number}: {damage})") from damage
    return reader.finish()


class _Damage(Exception):
    """Why a line is refused."""


@attrs.define
class _Reader:
    """Collects the lines first, since a line may speak of nodes and of a myself that come later."""

    now_ms: int
    nodes: dict[str, Node] = attrs.field(factory=dict)
    myself: Node | None = None
    masters: list[tuple[Node, Node]] = attrs.field(factory=list)
    """(replica, master), in the order read."""
    slots: list[tuple[Node, list[str]]] = attrs.field(factory=list)
    current_epoch: int = 0
    last_vote_epoch: int = 0
    warnings: list[str] = attrs.field(factory=list)

    def read_line(self, line: str) -> None:
        words = line.split()
        if not words:
            return  # Hand-made, or left by a save that was cut short before it shortened the file.
        if words[0].lower() == "vars":
            self._read_variables(words[1:])
        else:
            self._read_node(words)

    def _read_variables(self, words: list[str]) -> None:
        if len(words) % 2:
            raise _Damage("a variable without a value")
        for name, value in zip(words[::2], words[1::2], strict=True):
            if name.lower() == "currentepoch":
                self.current_epoch = _number(value, _UINT64_MAX)
            elif name.lower() == "lastvoteepoch":
                self.last_vote_epoch = _number(value, _UINT64_MAX)
            else:
                self.warnings.append(f"Skipping unknown cluster config variable '{name}'")

    def _read_node(self, words: list[str]) -> None:
        if len(words) < _FIELDS_BEFORE_SLOTS:
            raise _Damage(f"{len(words)} fields instead of at least {_FIELDS_BEFORE_SLOTS}")
        node_id, address, flags, master_id, ping, pong, epoch = words[:7]
        node = self._node(node_id)
        self._read_address(node, address)
        for name in flags.split(","):
            self._read_flag(node, name.lower())
        if not master_id.startswith("-"):
            master = self._node(master_id)
            if master is node:
                raise _Damage("a node that replicates itself")
            self.masters.append((node, master))
        node.ping_sent_ms = self.now_ms if _number(ping, _UINT64_MAX) else 0
        node.pong_received_ms = self.now_ms if _number(pong, _UINT64_MAX) else 0
        node.config_epoch = _number(epoch, _UINT64_MAX)
        if node.is_replica and not master_id.startswith("-"):
            node.config_epoch = 0  # What the line shows is its master's.
        pieces = words[_FIELDS_BEFORE_SLOTS:]
        for piece in pieces:
            parse_piece(piece)  # For the number of the line in a complaint; finish() reads them again.
        self.slots.append((node, pieces))

    def _node(self, node_id: str) -> Node:
        if not is_node_id(node_id):
            raise _Damage(f"not a node id: {node_id!r}")
        node = self.nodes.get(node_id)
        if node is None:
            node = self.nodes[node_id] = Node(node_id, NO_FLAGS, created_ms=self.now_ms)
        return node

    def _read_address(self, node: Node, address: str) -> None:
        # Redis 7.2 adds more after another comma.
        endpoint, _, names = address.partition(",")
        node.hostname = names.partition(",")[0]
        node.ip, colon, ports = endpoint.rpartition(":")
        if not colon:
            raise _Damage(f"an address without a port: {address!r}")
        port, at, bus_port = ports.partition("@")
        node.port = _number(port, 65535)
        # Before 4.0 the bus port was not written.
        node.cport = _number(bus_port, 65535) if at else node.port + BUS_PORT_INCREMENT

    def _read_flag(self, node: Node, name: str) -> None:
        flag = _FLAG_BY_NAME.get(name)
        if flag is None:
            raise _Damage(f"unknown flag {name!r}")
        node.flags |= flag
        if flag is NodeFlags.FAIL:
            node.fail_since_ms = self.now_ms
        elif flag is NodeFlags.MYSELF:
            if self.myself is not None:
                raise _Damage("a second node is marked as myself")
            self.myself = node

    def finish(self) -> LoadedConfig:
        """Put everything together."""
        if self.myself is None:
            raise ConfigError(f"{CORRUPTED} (no node is marked as myself)")
        state = ClusterState(myself=self.myself, nodes=self.nodes)
        for replica, master in self.masters:
            state.set_replica_of(replica, master)
        for node, pieces in self.slots:
            self._assign(state, node, pieces)
        state.last_vote_epoch = self.last_vote_epoch
        state.current_epoch = self.current_epoch
        state.current_epoch = state.max_epoch()  # A protection against a file edited by hand.
        return LoadedConfig(state, tuple(self.warnings))

    def _assign(self, state: ClusterState, node: Node, pieces: Iterable[str]) -> None:
        for piece in map(parse_piece, pieces):
            if isinstance(piece, OpenSlot):
                peer = self._node(piece.node_id)
                if piece.direction is Direction.MIGRATING:
                    state.set_migrating(piece.slot, peer)
                else:
                    state.set_importing(piece.slot, peer)
                continue
            for slot in range(piece.start, piece.end + 1):
                if state.owners[slot] is None:  # The first line that claims a slot has it.
                    state.assign_slot(slot, node)


def _number(text: str, maximum: int) -> int:
    """A decimal number without sign."""
    if text.isascii() and text.isdecimal() and len(text) <= 20 and (value := int(text)) <= maximum:
        return value
    raise _Damage(f"not a number from 0 to {maximum}: {text!r}")


# -- the file -----------------------------------------------------------------------------------------------------


class NodesConfFile:
    """The file, locked against a second node from :meth:`lock` until :meth:`close`.

    The lock is on the file and not on its name, so every save locks the new file before it takes the old one's place.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.realpath(path)  # Saving must replace the file, not a symbolic link to it.
        self.name = os.fspath(path)
        self._lock_fd = -1
        """Of the file that now has the name, open for writing."""
        self._length = -1
        """The length of that file, where this object wrote it; -1: not known."""
        self._is_name_durable = False
        """Whether that file would have the name after a loss of power."""

    def lock(self) -> None:
        """Create the file if need be and lock it; raises ConfigError, in Redis's words, if that cannot be done."""
        while self._lock_fd < 0:
            try:
                fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                raise ConfigError(f"Can't open {self.name} in order to acquire a lock: {reason}") from error
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(fd)
                if error.errno != errno.EWOULDBLOCK:
                    raise ConfigError(f"Impossible to lock {self.name}: {os.strerror(error.errno or 0)}") from error
                raise ConfigError(
                    f"Sorry, the cluster configuration file {self.name} is already used by a different Redis Cluster "
                    "node. Please make sure that different nodes use different cluster configuration files."
                ) from error
            if self._is_current(fd):
                self._lock_fd = fd
            else:
                os.close(fd)  # Its holder replaced the file and let this one go between our open and our flock.
        # A forked child would keep the lock alive after this process was killed, and the node could not be restarted.
        os.register_at_fork(after_in_child=functools.partial(_close_after_fork, weakref.ref(self)))

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def load(self, now_ms: int) -> LoadedConfig | None:
        """What the file holds; None when there is no file or an empty one. Raises ConfigError."""
        try:
            with open(self.path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise ConfigError(f"Loading the cluster node config from {self.name}: {reason}") from error
        return parse(content.decode("latin-1"), now_ms) if content else None

    def save(self, text: str, *, fsync: bool) -> None:
        """Replace the content of the file; with ``fsync`` the new one is on disk on return. Raises OSError."""
        content = text.encode("latin-1", "replace")
        fits_in_place = 0 <= self._length <= BLOCK_BYTES and len(content) <= BLOCK_BYTES
        can_overwrite = (
            fits_in_place
            and self._lock_fd >= 0
            and (self._is_name_durable or not fsync)
            and self._is_current(self._lock_fd)  # Nobody has deleted or replaced it.
        )
        if not can_overwrite or not self._overwrite(content, fsync=fsync):
            self._replace(content, fsync=fsync)
        self._length = len(content)

    def sync(self) -> None:
        """Put what was saved without ``fsync`` on disk after all. Raises OSError."""
        if self._lock_fd < 0:
            return
        os.fsync(self._lock_fd)
        if not self._is_name_durable:
            _fsync_directory(os.path.dirname(self.path))
            self._is_name_durable = True

    def _overwrite(self, content: bytes, *, fsync: bool) -> bool:
        """Write over the old content in one step; False if that failed and the file must be replaced.

        What was longer is made blank lines in the same step, and cut off only when that is on disk.
        """
        padded = content.ljust(self._length, b"\n")
        try:
            if os.pwrite(self._lock_fd, padded, 0) != len(padded):
                return False
            if fsync:
                os.fsync(self._lock_fd)
            if len(padded) > len(content):
                os.ftruncate(self._lock_fd, len(content))
        except OSError:
            return False
        return True

    def _replace(self, content: bytes, *, fsync: bool) -> None:
        """Let a new file take the old one's place, and the lock with it."""
        # Only the holder of the lock writes here, so the name of the new file may be the same each time.
        temporary = f"{self.path}.tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            if self._lock_fd >= 0:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_all(fd, content)
            if fsync:
                os.fsync(fd)
            os.rename(temporary, self.path)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = fd
        else:
            os.close(fd)
        self._is_name_durable = False
        if fsync:
            _fsync_directory(os.path.dirname(self.path))
            self._is_name_durable = True

    def close(self) -> None:
        """Give up the lock."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        self._length = -1
        self._is_name_durable = False


def _close_after_fork(reference: weakref.ref[NodesConfFile]) -> None:
    file = reference()
    if file is not None:
        file.close()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _fsync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # Some file systems have no fsync for directories, nor need of it.
            raise
    finally:
        os.close(fd)
