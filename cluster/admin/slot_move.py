"""Move one slot with its keys from one master to another while clients read and write.

Role        The step that ``reshard``, ``rebalance`` and ``fix`` repeat.
Invariants  The order of the steps keeps every key reachable through redirections at every moment, and keeps the slot
            owned by somebody if the tool or any node dies between two of them:
            1. target: IMPORTING (it accepts ASKING clients), 2. source: MIGRATING (it answers ASK for keys it has not),
            3. keys, by MIGRATE, until the source has none, 4. target: NODE (it bumps its config epoch and announces
            it), 5. source: NODE, 6. the other masters: NODE, to spare their clients a redirection.
            Target before source in step 4: were it the other way round, a target that dies in between would leave the
            slot without owner.
Spec        Redis Cluster specification, "Live reconfiguration"; clusterManagerMoveSlot and
            clusterManagerMigrateKeysInSlot in redis-cli.c.
Units       timeout_ms: milliseconds, as MIGRATE takes it (between two signs of life, not for the whole).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from cluster.admin.connection import (
    Argument,
    Credentials,
    ErrorReply,
    Reply,
    call,
    call_keys,
    raise_error,
)
from cluster.admin.context import Context
from cluster.admin.errors import AdminError, NodeError, Refused, ReplyError
from cluster.admin.view import ClusterNode, ClusterView, read_nodes

MIGRATE_TIMEOUT_MS = 60_000
MIGRATE_PIPELINE = 10
_NOT_A_MASTER = "ERR Please use SETSLOT only with masters."
_CLUSTER_IS_DOWN = "CLUSTERDOWN The cluster is down"
# Longer than a failover takes at the default node timeout of 15 seconds, most of which is detection.
_DOWN_PATIENCE_MS = 30_000
_DOWN_POLL_MS = 100
_DOWN_TOLD_AFTER_MS = 1_000
_ABSENT = b"0" * 40  # DEBUG DIGEST-VALUE of a key that does not exist.
# Expired keys are listed but not moved; MIGRATE removes them. A source that keeps listing them is not to be waited for.
_FRUITLESS_ROUNDS_MAX = 100


@attrs.frozen
class MoveOptions:
    """How keys are moved."""

    timeout_ms: int = MIGRATE_TIMEOUT_MS
    pipeline: int = MIGRATE_PIPELINE  # Keys per MIGRATE.
    replace: bool = False  # Overwrite a key that the target has with another value.
    adopt_unserved: bool = False  # fix: give a slot that nobody serves to the target.

    @property
    def reply_timeout_s(self) -> float:
        """How long to wait for a MIGRATE: connecting, sending, and the target's answer each may take the time-out."""
        return 4 * self.timeout_ms / 1000 + 30


@attrs.define
class SlotMover:
    """Moves slots within one cluster."""

    context: Context
    view: ClusterView
    options: MoveOptions
    _silent_masters: set[str] = attrs.field(factory=set)

    def move(
        self, slot: int, source: ClusterNode, target: ClusterNode, on_keys: Callable[[int], None] = lambda _count: None
    ) -> int:
        """Move ``slot`` and all its keys; ``on_keys`` hears of every batch. Returns the number of keys moved."""
        set_slot(target, slot, "IMPORTING", source)
        try:
            set_slot(source, slot, "MIGRATING", target)
        except NodeError:
            # No key has moved yet: the target need not keep the door open.
            self._close_quietly(target, slot)
            raise
        key_count = self.move_keys(slot, source, target, on_keys)
        self._hand_over(slot, source, target)
        source.slots.discard(slot)
        target.slots.add(slot)
        for node in (source, target):
            node.migrating.pop(slot, None)
            node.importing.pop(slot, None)
        return key_count

    def move_keys(
        self, slot: int, source: ClusterNode, target: ClusterNode, on_keys: Callable[[int], None] = lambda _count: None
    ) -> int:
        """Move the keys of ``slot`` only; who owns the slot stays as it is. Returns the number of keys moved."""
        moved = 0
        fruitless_rounds = 0
        while keys := call_keys(source.link, "CLUSTER", "GETKEYSINSLOT", slot, self.options.pipeline):
            if self._migrate_batch(slot, source, target, keys) == b"NOKEY":
                fruitless_rounds += 1
                if fruitless_rounds > _FRUITLESS_ROUNDS_MAX:
                    raise Refused(f"*** {source.address} lists keys in slot {slot} that it cannot migrate.")
                continue
            fruitless_rounds = 0
            moved += len(keys)
            on_keys(len(keys))
        return moved

    def _hand_over(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        set_slot(target, slot, "NODE", target)
        try:
            set_slot(source, slot, "NODE", target)
        except ReplyError as error:
            # The source gave away its last slot, heard of it from the target, and has become its replica already.
            if not error.text.startswith(_NOT_A_MASTER):
                raise
        self._tell_other_masters(slot, source, target)

    def _tell_other_masters(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        """A courtesy, since the target's announcement reaches them too: one that cannot be told stops nothing."""
        told: list[ClusterNode] = []
        for node in self.view.masters:
            if node in (source, target) or node.node_id in self._silent_masters:
                continue
            try:
                node.link.send("CLUSTER", "SETSLOT", slot, "NODE", target.node_id)
            except NodeError as error:
                self._give_up_on(node, error)
            else:
                told.append(node)
        for node in told:
            try:
                raise_error(node.link, node.link.receive())
            except NodeError as error:
                self._give_up_on(node, error)

    def _give_up_on(self, node: ClusterNode, error: NodeError) -> None:
        self._silent_masters.add(node.node_id)
        if isinstance(error, ReplyError) and error.text.startswith(_NOT_A_MASTER):
            return  # Failed over meanwhile.
        self.context.console.complain(f"{error}\n*** Going on without {node.address}: gossip will tell it.")

    def _close_quietly(self, node: ClusterNode, slot: int) -> None:
        try:
            call(node.link, "CLUSTER", "SETSLOT", slot, "STABLE")
        except AdminError:
            pass  # The first failure is the one to report.

    def _migrate_batch(self, slot: int, source: ClusterNode, target: ClusterNode, keys: Sequence[bytes]) -> Reply:
        """MIGRATE ``keys``, and once more if what stood in the way can be removed."""
        reply = self._migrate_patiently(source, target, keys)
        if not isinstance(reply, ErrorReply):
            return reply
        is_busy = "BUSYKEY" in str(reply)
        is_unserved = not is_busy and self._owner_according_to(source, slot) is None
        if not is_busy and not is_unserved:
            raise ReplyError(source.address, str(reply))
        console = self.context.console
        if is_unserved and self.options.adopt_unserved:
            console.warn(f"*** Slot was not served, setting owner to node {target.address}.")
            set_slot(source, slot, "NODE", target)
        if is_busy:
            console.warn("\n*** Target key exists")
            if not self.options.replace:
                console.warn("*** Checking key values on both nodes...")
                refuse_different_values(source, target, keys)
            console.warn("*** Replacing target keys...")
        return raise_error(source.link, self._migrate(source, target, keys, replace=is_busy))

    def _migrate_patiently(self, source: ClusterNode, target: ClusterNode, keys: Sequence[bytes]) -> Reply:
        """MIGRATE, again and again while a failover elsewhere (or the target's own start) makes a node say "down"."""
        reply: Reply = None
        is_told = False

        def is_answered() -> bool:
            nonlocal reply
            reply = self._migrate(source, target, keys, replace=False)
            return not (isinstance(reply, ErrorReply) and _CLUSTER_IS_DOWN in str(reply))

        def on_wait(waited_ms: int) -> None:
            nonlocal is_told
            if waited_ms >= _DOWN_TOLD_AFTER_MS and not is_told:
                is_told = True
                self.context.console.complain("*** The cluster is down for the moment: waiting for it to come back.")

        self.context.wait_until(is_answered, _DOWN_PATIENCE_MS, _DOWN_POLL_MS, on_wait)
        return reply

    def _migrate(self, source: ClusterNode, target: ClusterNode, keys: Sequence[bytes], replace: bool) -> Reply:
        source.link.send(*migrate_command(target, keys, self.options.timeout_ms, replace, self.context.credentials))
        return source.link.receive(self.options.reply_timeout_s)

    def _owner_according_to(self, node: ClusterNode, slot: int) -> str | None:
        for row in read_nodes(node.link):
            if any(first <= slot <= last for first, last in row.slot_ranges):
                return row.node_id
        return None


def migrate_command(
    target: ClusterNode, keys: Sequence[bytes], timeout_ms: int, replace: bool, credentials: Credentials
) -> list[Argument]:
    """MIGRATE in its KEYS form; the source logs in at the target with our own credentials."""
    command: list[Argument] = ["MIGRATE", target.address.host, target.address.port, "", 0, timeout_ms]
    if replace:
        command.append("REPLACE")
    if credentials.password is not None:
        if credentials.user is not None:
            command += ["AUTH2", credentials.user, credentials.password]
        else:
            command += ["AUTH", credentials.password]
    return [*command, "KEYS", *keys]


def set_slot(node: ClusterNode, slot: int, state: str, other: ClusterNode) -> None:
    """CLUSTER SETSLOT on ``node``."""
    call(node.link, "CLUSTER", "SETSLOT", slot, state, other.node_id)


def refuse_different_values(source: ClusterNode, target: ClusterNode, keys: Sequence[bytes]) -> None:
    """Raise Refused, naming the keys, unless every key that both nodes have has one and the same value."""
    differing = [
        key
        for key, one, other in zip(keys, _fingerprints(source, keys), _fingerprints(target, keys), strict=True)
        if one is not None and other is not None and one != other
    ]
    if differing:
        listed = "\n".join(f"    - {key.decode('utf-8', 'backslashreplace')}" for key in differing)
        raise Refused(
            f"*** Found {len(differing)} key(s) in both source node and target node having different values.\n"
            f"    Source node: {source.address}\n"
            f"    Target node: {target.address}\n"
            f"    Keys(s):\n{listed}\n"
            "Please fix the above key(s) manually and try again or relaunch the command \n"
            "with --replace option to force key overriding."
        )


def _fingerprints(node: ClusterNode, keys: Sequence[bytes]) -> list[bytes | None]:
    """Something per key that is equal for equal values; None for a key that the node does not have.

    DEBUG DIGEST-VALUE is what redis-cli uses, but Redis 7 refuses DEBUG unless enable-debug-command allows it. DUMP is
    always allowed; equal payloads are equal values (different ones may be too, and are then left to the person).
    """
    node.link.send("DEBUG", "DIGEST-VALUE", *keys)
    digests = node.link.receive()
    if isinstance(digests, list) and len(digests) == len(keys):
        return [None if digest == _ABSENT else bytes(digest) for digest in digests]
    for key in keys:
        node.link.send("ASKING")  # The target only imports the slot so far.
        node.link.send("DUMP", key)
    payloads: list[Reply] = []
    for _ in keys:
        node.link.receive()
        payloads.append(node.link.receive())
    for payload in payloads:
        raise_error(node.link, payload)
    return payloads
