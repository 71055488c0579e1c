"""Who serves which slot, when claims differ: the greater config epoch wins, and whoever lost everything follows.

Invariants  A slot changes hands here only to a claim with a greater config epoch than its owner's, or when nobody
            stands for it. Slots being imported are left to the operator.
Spec        Redis Cluster specification, "Hash slots configuration propagation" (rules 1 and 2) and "How nodes change
            their master"; Redis 7.0.15, clusterUpdateSlotsConfigWith(), clusterSetMaster().
"""

from __future__ import annotations

from cluster.gossip.context import SAVE_UPDATE, SAVE_UPDATE_FSYNC, Context
from cluster.gossip.effects import DeleteKeysInSlots, LogLevel, StartReplication
from cluster.gossip.outgoing import broadcast_pong, send_update
from cluster.gossip.state import Node, Todo
from cluster.slots.ranges import BITMAP_BYTES, bitmap_to_slots


def apply_claims(ctx: Context, claimant: Node, config_epoch: int, claimed_slots: bytes) -> None:
    """Take in that ``claimant``, a master, claims exactly these slots under this epoch; follow it if need be."""
    state = ctx.state
    myself = state.myself
    assert claimant is not myself
    my_master = myself if myself.is_master else myself.master
    claimed = int.from_bytes(claimed_slots, "little")
    held = int.from_bytes(claimant.slots, "little")
    note_claims(ctx, claimant, config_epoch, claimed_slots)

    has_changes = False
    taken_from_my_master = 0
    slots_with_my_keys = []
    for slot in bitmap_to_slots((claimed & ~held).to_bytes(BITMAP_BYTES, "little")):
        owner = state.owners[slot]
        if slot in state.importing:
            continue
        if owner is not None and not state.not_claimed >> slot & 1 and owner.config_epoch >= config_epoch:
            continue
        if owner is myself and ctx.facts.keys_in_slot(slot):
            slots_with_my_keys.append(slot)
        if owner is not None and owner is my_master:
            taken_from_my_master += 1
        ctx.assign_slot(slot, claimant)
        has_changes = True
    if taken_from_my_master or slots_with_my_keys:
        ctx.todo(SAVE_UPDATE)
    elif has_changes:
        # An epoch that is news is saved and synced for its own sake. Slots that move under one that is known, as in a
        # resharding, are told again by every ping of their owner; Redis syncs them on every node, one by one.
        ctx.todo(Todo.UPDATE_STATE)
        state.has_unsaved_news = True

    lost_all = taken_from_my_master and my_master is not None and not my_master.slot_count
    # If all that the claimant has was ours, it is our successor; else it is another shard that our slots were moved to,
    # and following it is a matter of taste.
    is_successor = claimed.bit_count() == taken_from_my_master
    if lost_all and (is_successor or ctx.settings.cluster_allow_replica_migration):
        reconfigure_as_replica_of(ctx, claimant, is_successor=is_successor)
    elif myself.master is not None and myself.master.master not in {None, myself}:
        _leave_sub_replica_position(ctx, myself.master)
    elif slots_with_my_keys:
        ctx.emit(DeleteKeysInSlots(tuple(slots_with_my_keys)))


def note_claims(ctx: Context, owner: Node, config_epoch: int, claimed_slots: bytes) -> None:
    """Note which of its slots ``owner`` claims and of which it fell silent.

    Clients keep being sent to an owner that fell silent about a slot: better a wrong redirect than a cluster that is
    down. But nobody vouches for it any more, and the first claim takes it. 7.0.15 looks only while the claims differ
    from the table; after an old message that a newer one overtook, the slot then stays up for grabs.
    """
    state = ctx.state
    claimed = int.from_bytes(claimed_slots, "little")
    held = int.from_bytes(owner.slots, "little")
    if config_epoch >= owner.config_epoch:  # Otherwise it is an old message.
        state.not_claimed |= held & ~claimed
    state.not_claimed &= ~(claimed & held)


def correct_stale_claims(ctx: Context, sender: Node, config_epoch: int, claimed_slots: bytes) -> None:
    """Tell ``sender`` of one master that serves some of these slots under a greater epoch, if there is one.

    The new owner may be out of its reach just now, and it goes on serving until somebody says so.
    """
    found = newer_owner(ctx, config_epoch, claimed_slots, besides=sender)
    if found is not None:
        _, owner = found
        ctx.log(
            LogLevel.VERBOSE,
            f"Node {sender.node_id} has old slots configuration, sending an UPDATE message about {owner.node_id}",
        )
        send_update(ctx, sender, owner)


def newer_owner(
    ctx: Context, config_epoch: int, claimed_slots: bytes, besides: Node | None = None
) -> tuple[int, Node] | None:
    """The first of these slots that somebody (but not ``besides``) serves under a greater epoch, and who that is."""
    vouched = int.from_bytes(claimed_slots, "little") & ~ctx.state.not_claimed
    best: tuple[int, Node] | None = None
    for node in ctx.state.nodes.values():
        if node.config_epoch <= config_epoch or node is besides or not node.slot_count:
            continue
        contested = int.from_bytes(node.slots, "little") & vouched
        if contested:
            slot = (contested & -contested).bit_length() - 1
            if best is None or slot < best[0]:
                best = (slot, node)
    return best


def reconfigure_as_replica_of(ctx: Context, master: Node, *, is_successor: bool) -> None:
    """Follow the node that took this shard's last slot; as its successor it has this shard's data too."""
    ctx.log(
        LogLevel.WARNING,
        f"Configuration change detected. Reconfiguring myself as a replica of {master.node_id}",
    )
    set_my_master(ctx, master, is_successor=is_successor)
    ctx.todo(SAVE_UPDATE_FSYNC)
    # Redis leaves the new role to the next pings; until then the new master ignores a CLUSTER FAILOVER of this node.
    broadcast_pong(ctx)


def set_my_master(ctx: Context, master: Node, *, is_successor: bool = False) -> None:
    """Make this node, which serves no slot, a replica of ``master``: of its own shard (``is_successor``) or another."""
    state, myself = ctx.state, ctx.state.myself
    assert master is not myself
    # Redis lets a replica that has just moved here stand for election with the keys of the shard it came from.
    state.has_foreign_data = not is_successor and (state.has_foreign_data or myself.master is not master)
    # Only CLUSTER ADDSLOTS sent to a replica leaves slots here; Redis dies of an assertion then.
    for slot in bitmap_to_slots(myself.slots):
        ctx.unassign_slot(slot)
    if not myself.is_replica:
        state.turn_into_replica(myself)
        state.close_slots()
    state.set_replica_of(myself, master)
    ctx.emit(StartReplication(master.ip, master.port))
    for hook in ctx.hooks.on_new_master:
        hook()


def release_slots(ctx: Context, node: Node) -> None:
    """Leave every slot of ``node`` without an owner."""
    for slot in bitmap_to_slots(node.slots):
        ctx.unassign_slot(slot)


def learn_role(ctx: Context, node: Node, master_id: str | None) -> None:
    """Take in whom ``node`` says it replicates; None: it is a master."""
    state = ctx.state
    if master_id is None:
        if state.turn_into_master(node):
            ctx.todo(SAVE_UPDATE)
        return
    if not node.is_replica:
        if node.is_master:
            release_slots(ctx, node)
        state.turn_into_replica(node)
        ctx.todo(SAVE_UPDATE)
    master = state.find(master_id)
    if master is not None and master is not node and node.master is not master:
        state.set_replica_of(node, master)
        ctx.todo(SAVE_UPDATE)


def _leave_sub_replica_position(ctx: Context, my_master: Node) -> None:
    """My master became a replica itself (its last slot was removed): follow its master.

    Not if that is me, as after an unlucky CLUSTER FAILOVER TAKEOVER: then an operator has to untie the knot.
    """
    grandmaster = my_master.master
    assert grandmaster is not None
    ctx.log(
        LogLevel.WARNING,
        f"I'm a sub-replica! Reconfiguring myself as a replica of grandmaster {grandmaster.node_id}",
    )
    set_my_master(ctx, grandmaster)
    ctx.todo(SAVE_UPDATE_FSYNC)
