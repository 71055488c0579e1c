"""What one node knows of the cluster: its nodes, who owns which slot, the epochs, and how far an election has come.

Role        Plain records and the few operations that keep their redundant parts in step. The rules that decide *when*
            to change them live in the engines (gossip, failover); nodes.conf and CLUSTER NODES are drawn from here.
Invariants  ``owners[slot] is node`` exactly when the bit of ``slot`` is set in ``node.slots``, and ``node.slot_count``
            counts its bits: only :meth:`ClusterState.assign_slot` and :meth:`ClusterState.unassign_slot` write these.
            ``replica in master.replicas`` exactly when ``replica.master is master``. ``myself`` is in ``nodes``.
            ``routing_version`` grows with every change that may alter where a command goes.
Source      Redis 7.0.15, cluster.h (clusterNode, clusterState, clusterLink).
Units       ``*_ms`` are whole milliseconds on the monotonic clock and 0 means "never" (or "none pending");
            ``*_unix_ms`` are wall clock. ``ClusterState.to_unix_ms`` converts for files, gossip and CLUSTER NODES.
"""

from __future__ import annotations

import enum
import random
from typing import Final

import attrs

from cluster.slots.hashing import SLOT_COUNT
from cluster.slots.ranges import BITMAP_BYTES, bitmap_to_slots

BUS_PORT_INCREMENT: Final = 10000
MESSAGE_TYPE_COUNT: Final = 11
FOREVER_MS: Final = 1 << 60
"""The age of what never happened: longer than any limit it is compared with."""


class NodeFlags(enum.IntFlag):
    """What is known of a node. The values are those of the bus; MEET and MIGRATE_TO never reach CLUSTER NODES."""

    MASTER = 1
    SLAVE = 2
    PFAIL = 4  # I cannot reach it.
    FAIL = 8  # A majority of masters could not reach it.
    MYSELF = 16
    HANDSHAKE = 32  # Its node id is still a random placeholder.
    NOADDR = 64
    MEET = 128  # The first message to it shall be MEET.
    MIGRATE_TO = 256  # A master that replicas may migrate to.
    NOFAILOVER = 512  # A replica that will not ask for votes.


NO_FLAGS: Final = NodeFlags(0)


class ClusterHealth(enum.IntEnum):
    """``cluster_state`` of CLUSTER INFO; the values are those of the bus header."""

    OK = 0
    FAIL = 1


class Todo(enum.IntFlag):
    """What an input left to be done before the node sleeps again (``CLUSTER_TODO_*``)."""

    HANDLE_FAILOVER = 1
    UPDATE_STATE = 2
    SAVE_CONFIG = 4
    FSYNC_CONFIG = 8
    HANDLE_MANUAL_FAILOVER = 16


NOTHING_TO_DO: Final = Todo(0)


class CantFailover(enum.IntEnum):
    """Why a replica whose master is down does not get on with its election (``CLUSTER_CANT_FAILOVER_*``)."""

    NONE = 0
    DATA_AGE = 1
    WAITING_DELAY = 2
    EXPIRED = 3
    WAITING_VOTES = 4


@attrs.define(eq=False)
class Link:
    """One TCP connection of the bus. Made by the engine; the shell attaches its socket to it and keeps the hook fields.

    Outbound links (``inbound`` false) always have a node and carry our PINGs and the PONGs that answer them. An inbound
    link learns its node from the first message of a known sender.
    """

    link_id: int
    inbound: bool
    node: Node | None
    created_ms: int
    is_open: bool = True
    """False once the engine or the shell gave it up; messages for it are dropped."""
    peer_ip: str = ""
    """Address of the other end; the address of a node that does not announce one. Empty while unknown."""
    local_ip: str = ""
    """Our own end's address: how a node learns its own IP from MEET."""
    send_buffer_bytes: int = 0
    """Written by the shell: bytes queued and not yet taken by the kernel (``send-buffer-used``)."""
    send_buffer_allocated_bytes: int = 0
    """Written by the shell: what those bytes cost in memory: measured against cluster-link-sendbuf-limit."""
    has_write_handler: bool = False
    """Written by the shell: whether it waits for the socket to become writable (``events`` of CLUSTER LINKS)."""


@attrs.define(eq=False)
class Node:
    """One member of the cluster, or a peer in handshake, as this node sees it."""

    node_id: str
    flags: NodeFlags
    created_ms: int = 0
    config_epoch: int = 0
    ip: str = ""
    port: int = 0  # Clients' port: TLS in a TLS cluster, plain otherwise.
    pport: int = 0  # The plain port in a TLS cluster, else 0.
    cport: int = 0
    hostname: str = ""
    master: Node | None = None
    """Whom it replicates; None for a master, and for a replica whose master is not known here."""
    replicas: list[Node] = attrs.field(factory=list)
    slots: bytearray = attrs.field(factory=lambda: bytearray(BITMAP_BYTES), repr=False)
    """Bit ``slot & 7`` of byte ``slot >> 3``, as on the bus. Written only by ClusterState."""
    slot_count: int = 0
    slots_text: str | None = attrs.field(default=None, repr=False)
    """The ranges of its slots as text, if it was drawn since they last changed."""
    ping_sent_ms: int = 0
    """When the ping that is still unanswered was sent; 0: none is pending."""
    pong_received_ms: int = 0
    """The last PONG, or a later one that a trusted peer reports of it."""
    data_received_ms: int = 0
    """The last message of any kind."""
    answered_link_created_ms: int = 0
    """When the link was created that carried its last PONG: nothing heard over it can be older than that."""
    fail_since_ms: int = 0
    voted_ms: int = 0
    """When I last voted for a replica of this master."""
    repl_offset: int = 0
    repl_offset_ms: int = 0
    orphaned_since_ms: int = 0
    fail_reports: dict[Node, int] = attrs.field(factory=dict, repr=False)
    """Which masters hold this node as PFAIL or FAIL, and when each last said so."""
    link: Link | None = attrs.field(default=None, repr=False)
    """The connection I opened to it. Set as soon as connecting starts."""
    inbound_link: Link | None = attrs.field(default=None, repr=False)
    """The connection it opened to me."""

    def __repr__(self) -> str:
        return f"<Node {self.node_id[:8]} {self.flags!r} epoch={self.config_epoch} slots={self.slot_count}>"

    @property
    def is_master(self) -> bool:
        return NodeFlags.MASTER in self.flags

    @property
    def is_replica(self) -> bool:
        return NodeFlags.SLAVE in self.flags

    @property
    def is_pfail(self) -> bool:
        return NodeFlags.PFAIL in self.flags

    @property
    def is_fail(self) -> bool:
        return NodeFlags.FAIL in self.flags

    @property
    def is_suspected(self) -> bool:
        """PFAIL or FAIL."""
        return bool(self.flags & (NodeFlags.PFAIL | NodeFlags.FAIL))

    @property
    def in_handshake(self) -> bool:
        return NodeFlags.HANDSHAKE in self.flags

    @property
    def is_myself(self) -> bool:
        return NodeFlags.MYSELF in self.flags

    @property
    def has_address(self) -> bool:
        return NodeFlags.NOADDR not in self.flags

    @property
    def is_nofailover(self) -> bool:
        return NodeFlags.NOFAILOVER in self.flags

    @property
    def shard_master(self) -> Node | None:
        """The master of its shard: itself, or whom it replicates (None if that is unknown)."""
        return self if self.is_master else self.master

    def owns(self, slot: int) -> bool:
        """Whether the bit of ``slot`` is set."""
        return bool(self.slots[slot >> 3] & (1 << (slot & 7)))

    def set_flag(self, flag: NodeFlags, on: bool) -> None:
        """Raise or clear ``flag`` and leave the others alone."""
        self.flags = self.flags | flag if on else self.flags & ~flag


@attrs.define
class ElectionState:
    """How far this replica's election has come (``failover_auth_*``). Owned by failover/election.py."""

    start_ms: int = 0
    """When the votes are (or were) asked for; 0: no election yet."""
    is_requested: bool = False
    """Votes for ``epoch`` were asked for, and count."""
    voters: set[Node] = attrs.field(factory=set)
    rank: int = 0
    epoch: int = 0
    cant_failover: CantFailover = CantFailover.NONE
    cant_failover_logged_ms: int = 0


@attrs.define
class ManualFailoverState:
    """A CLUSTER FAILOVER in progress (``mf_*``). Owned by failover/manual.py; gossip reads it for the PAUSED flag."""

    end_ms: int = 0
    """When it is given up; 0: none in progress."""
    replica: Node | None = None
    """On the master: the replica that takes over."""
    master_offset: int = -1
    """On the replica: the offset at which the master paused; -1: not heard yet."""
    can_start: bool = False
    """On the replica: all of the master's stream is processed, votes may be asked for."""


@attrs.define
class HealthClock:
    """What the ok/fail verdict remembers between evaluations. Owned by gossip/health.py."""

    first_evaluated_ms: int = 0
    is_newborn: bool = False
    """At the first evaluation no owner of any slot was known: there is no past that could have been overtaken."""
    among_minority_ms: int = 0
    """The last time fewer than a majority of masters were in reach."""
    evidence_since_ms: int = 0
    """While not 0: a master counts as reachable only once it answered over a link younger than this.
    Set at start and after a stall of this process: until then the flags describe a past this node slept through."""
    evidence_complete_ms: int = 0
    """Since when a majority has answered so."""
    last_tick_ms: int = 0
    last_alive_ms: int = 0
    """The last time this process is known to have been running."""


@attrs.define(eq=False)
class ClusterState:
    """Everything one node knows of the cluster."""

    myself: Node
    nodes: dict[str, Node] = attrs.field(factory=dict)
    owners: list[Node | None] = attrs.field(factory=lambda: [None] * SLOT_COUNT, repr=False)
    importing: dict[int, Node] = attrs.field(factory=dict)
    """Slots I am importing, and from whom. Written only by set_importing/close_slots."""
    migrating: dict[int, Node] = attrs.field(factory=dict)
    """Slots I am migrating, and to whom. Written only by set_migrating/close_slots."""
    not_claimed: int = attrs.field(default=0, repr=False)
    """Bit set of slots whose owner stopped claiming them; no UPDATE message vouches for those."""
    current_epoch: int = 0
    last_vote_epoch: int = 0
    size: int = 1
    """How many masters serve at least one slot; a quorum is more than half of them."""
    health: ClusterHealth = ClusterHealth.FAIL
    routing_version: int = 0
    todo: Todo = NOTHING_TO_DO
    has_unsaved_news: bool = False
    """Something changed that is saved with the next tick, since peers would tell it again."""
    election: ElectionState = attrs.field(factory=ElectionState)
    manual: ManualFailoverState = attrs.field(factory=ManualFailoverState)
    has_foreign_data: bool = False
    """This replica came from another shard and still has that one's data: it cannot replace its new master yet."""
    health_clock: HealthClock = attrs.field(factory=HealthClock)
    forgotten: dict[str, int] = attrs.field(factory=dict)
    """Node ids that gossip may not bring back, and until when (monotonic ms)."""
    unix_offset_ms: int = 0
    """Wall clock minus monotonic clock, as of the last tick."""
    messages_sent: list[int] = attrs.field(factory=lambda: [0] * MESSAGE_TYPE_COUNT)
    messages_received: list[int] = attrs.field(factory=lambda: [0] * MESSAGE_TYPE_COUNT)
    pfail_nodes: int = 0
    links_over_buffer_limit: int = 0
    """``total_cluster_links_buffer_limit_exceeded`` of CLUSTER INFO."""
    dropped_message_type: int = -1
    """DEBUG DROP-CLUSTER-PACKET-FILTER: messages of this type are ignored; -1: none."""

    def __attrs_post_init__(self) -> None:
        self.nodes.setdefault(self.myself.node_id, self.myself)

    # -- clocks ---------------------------------------------------------------------------------------------------

    def to_unix_ms(self, mono_ms: int) -> int:
        """The wall-clock time of a monotonic one; "never" stays 0."""
        return mono_ms + self.unix_offset_ms if mono_ms else 0

    # -- nodes ----------------------------------------------------------------------------------------------------

    def find(self, node_id: str) -> Node | None:
        """The node with this id; None also for what is no node id at all."""
        return self.nodes.get(node_id)

    def add_node(self, node: Node) -> None:
        assert node.node_id not in self.nodes
        self.nodes[node.node_id] = node

    def remove_node(self, node: Node) -> None:
        """Forget ``node``: its slots, its open slots, its reports about others, its place in its shard.

        Its links stay with the caller, who must close them.
        """
        assert node is not self.myself
        for slot in bitmap_to_slots(node.slots):
            self.unassign_slot(slot)
        for table in (self.importing, self.migrating):
            for slot in [slot for slot, peer in table.items() if peer is node]:
                del table[slot]
        for other in self.nodes.values():
            other.fail_reports.pop(node, None)
        for replica in node.replicas:
            replica.master = None
        node.replicas.clear()
        if node.master is not None:
            self.remove_replica(node)
        del self.nodes[node.node_id]
        self.routing_version += 1

    def rename_node(self, node: Node, node_id: str) -> None:
        """Give a node its real id once the handshake revealed it (or after a hard reset)."""
        assert node_id not in self.nodes
        del self.nodes[node.node_id]
        node.node_id = node_id
        self.nodes[node_id] = node

    # -- shards ---------------------------------------------------------------------------------------------------

    def set_replica_of(self, replica: Node, master: Node) -> None:
        """Put ``replica`` into the shard of ``master``, taking it out of the one it was in. Flags are not touched."""
        if replica.master is master:
            return
        if replica.master is not None:
            self.remove_replica(replica)
        replica.master = master
        master.replicas.append(replica)
        master.flags |= NodeFlags.MIGRATE_TO
        self.routing_version += 1

    def remove_replica(self, replica: Node) -> None:
        """Take ``replica`` out of its shard. A master left without replicas is no longer one to migrate to."""
        master = replica.master
        if master is None:
            return
        replica.master = None
        master.replicas.remove(replica)
        if not master.replicas:
            master.flags &= ~NodeFlags.MIGRATE_TO
        self.routing_version += 1

    def turn_into_master(self, node: Node) -> bool:
        """Make a replica a master; False if it already was one."""
        if node.is_master:
            return False
        if node.master is not None:
            self.remove_replica(node)
            if node is not self.myself:
                node.flags |= NodeFlags.MIGRATE_TO  # It failed over a master that had replicas.
        node.flags = (node.flags & ~NodeFlags.SLAVE) | NodeFlags.MASTER
        self.routing_version += 1
        return True

    def turn_into_replica(self, node: Node) -> None:
        """Make a master a replica (of whom is said by set_replica_of). Its slots are the caller's business."""
        node.flags = (node.flags & ~(NodeFlags.MASTER | NodeFlags.MIGRATE_TO)) | NodeFlags.SLAVE
        self.routing_version += 1

    # -- slots ----------------------------------------------------------------------------------------------------

    def assign_slot(self, slot: int, node: Node) -> None:
        """Make ``node`` the owner of ``slot``, whoever owned it before."""
        if self.owners[slot] is node:
            return
        self.unassign_slot(slot)
        self.owners[slot] = node
        node.slots[slot >> 3] |= 1 << (slot & 7)
        node.slot_count += 1
        node.slots_text = None
        if node.slot_count == 1 and self._masters_have_replicas():
            # A master that gets its first slot in a cluster with replicas deserves one too.
            node.flags |= NodeFlags.MIGRATE_TO
        self.routing_version += 1

    def unassign_slot(self, slot: int) -> bool:
        """Leave ``slot`` without an owner; False if it had none."""
        owner = self.owners[slot]
        if owner is None:
            return False
        self.owners[slot] = None
        owner.slots[slot >> 3] &= ~(1 << (slot & 7)) & 0xFF
        owner.slot_count -= 1
        owner.slots_text = None
        self.routing_version += 1
        if self.not_claimed:
            self.not_claimed &= ~(1 << slot)  # Said of this owner, not of the next (7.0.15 forgets to do this).
        return True

    def set_importing(self, slot: int, source: Node | None) -> None:
        """Open ``slot`` as being imported from ``source``, or close it."""
        if source is None:
            self.importing.pop(slot, None)
        else:
            self.importing[slot] = source
        self.routing_version += 1

    def set_migrating(self, slot: int, target: Node | None) -> None:
        """Open ``slot`` as being migrated to ``target``, or close it."""
        if target is None:
            self.migrating.pop(slot, None)
        else:
            self.migrating[slot] = target
        self.routing_version += 1

    def close_slots(self) -> None:
        """End every import and migration."""
        self.importing.clear()
        self.migrating.clear()
        self.routing_version += 1

    def is_unclaimed(self, slot: int) -> bool:
        """Whether nobody stands for ``slot``: it has no owner, or its owner no longer claims it."""
        return self.owners[slot] is None or bool(self.not_claimed >> slot & 1)

    # -- verdicts -------------------------------------------------------------------------------------------------

    def set_health(self, health: ClusterHealth) -> None:
        self.health = health
        self.routing_version += 1

    @property
    def quorum(self) -> int:
        """How many masters with slots are a majority."""
        return self.size // 2 + 1

    def max_epoch(self) -> int:
        """The greatest epoch this node has heard of."""
        return max(self.current_epoch, *(node.config_epoch for node in self.nodes.values()))

    def _masters_have_replicas(self) -> bool:
        return any(node.replicas for node in self.nodes.values() if not node.is_replica)


def new_node_id(rng: random.Random) -> str:
    """A random node id: 40 lower-case hex digits."""
    return f"{rng.getrandbits(160):040x}"


def new_state(node_id: str, now_ms: int) -> ClusterState:
    """The state of a node that never met another: a master without slots."""
    return ClusterState(myself=Node(node_id, NodeFlags.MYSELF | NodeFlags.MASTER, created_ms=now_ms))
