"""The whole cluster engine behind one façade: what the node shell drives.

Role        Puts gossip and failover together on one ClusterState and names every input there is: links, messages,
            time, and (through ``operations``) the operator's CLUSTER commands.
How to      * Every input returns local effects. Perform them at once, in order, before the next input.
drive it    * Call ``before_sleep`` after each batch of inputs, before any reply or bus message of that batch leaves the
              process: local effects, then at most one SaveConfig, then bus effects that must wait for it.
            * Call ``tick`` every 100 ms, and ``keep_alive`` before each pass over the clients: it is what notices that
              the process stood still, before a client is served on the strength of what was true then.
            * ``on_settings_changed`` after CONFIG SET of a cluster-* directive.
Units       ``now_ms`` is monotonic, ``unix_ms`` wall clock; both in whole milliseconds.
"""

from __future__ import annotations

import random

from cluster.errors import CommandError
from cluster.failover import election, epochs, manual, replica_migration, voting
from cluster.failover.operations import ClusterOperations
from cluster.gossip import health, links, outgoing
from cluster.gossip.context import SAVE_FSYNC, Context
from cluster.gossip.effects import Effect, LocalEffect, LogLevel
from cluster.gossip.engine import GossipEngine
from cluster.gossip.facts import NodeFacts
from cluster.gossip.messages import Message
from cluster.gossip.state import ClusterState, Link, Todo
from cluster.settings import Settings


class ClusterEngine:
    """One node's cluster engine. ``state`` is read freely by the shell and the commands, and written by nobody else."""

    def __init__(
        self,
        state: ClusterState,
        settings: Settings,
        facts: NodeFacts,
        rng: random.Random,
        now_ms: int,
        unix_ms: int,
    ) -> None:
        """Take over a state that was just loaded from nodes.conf, or made by ``new_state``."""
        self.state = state
        state.unix_offset_ms = unix_ms - now_ms
        self._ctx = Context(state, settings, facts, rng, now_ms)
        self._gossip = GossipEngine(self._ctx)
        self.operations = ClusterOperations(self._ctx)
        voting.register(self._ctx)
        manual.register(self._ctx)
        election.register(self._ctx)
        hooks = self._ctx.hooks
        hooks.on_config.append(lambda sender, header: epochs.resolve_collision(self._ctx, sender, header))
        hooks.on_tick.append(self._advance_failover)
        hooks.on_todo.append(self._on_todo)

    # -- links ------------------------------------------------------------------------------------

    def link_accepted(self, peer_ip: str, local_ip: str, now_ms: int) -> Link:
        """A peer connected to the bus port: the record to give with its messages. ``local_ip`` is our socket's end."""
        self._ctx.now_ms = now_ms
        link = links.new_link(self._ctx, None)
        link.peer_ip, link.local_ip = peer_ip, local_ip
        return link

    def link_connected(self, link: Link, peer_ip: str, local_ip: str, now_ms: int) -> list[LocalEffect]:
        """The connection asked for by OpenLink is up."""
        self._ctx.now_ms = now_ms
        link.peer_ip, link.local_ip = peer_ip, local_ip
        links.connected(self._ctx, link)
        return self._ctx.take_local()

    def link_failed(self, link: Link, reason: str, now_ms: int) -> list[LocalEffect]:
        """The connection asked for by OpenLink could not be made."""
        self._ctx.now_ms = now_ms
        links.connect_failed(self._ctx, link, reason)
        return self._ctx.take_local()

    def link_closed(self, link: Link, now_ms: int) -> list[LocalEffect]:
        """The peer hung up, the socket broke, or its bytes were no bus messages. Harmless for a link already closed."""
        self._ctx.now_ms = now_ms
        links.detach(link)
        return self._ctx.take_local()

    def on_message(self, link: Link, message: Message, now_ms: int) -> list[LocalEffect]:
        """A well-formed message arrived. Nothing is done for a link that is no longer open."""
        self._ctx.now_ms = now_ms
        self._gossip.on_message(link, message)
        return self._ctx.take_local()

    # -- time -------------------------------------------------------------------------------------

    def keep_alive(self, now_ms: int) -> list[LocalEffect]:
        """Say that the process is running; notices that it was not. Call before serving clients."""
        clock = self.state.health_clock
        if now_ms - clock.last_alive_ms < health.STALL_MS_MIN:  # Nearly always: once per pass of the reactor.
            clock.last_alive_ms = now_ms
            return []
        self._ctx.now_ms = now_ms
        health.keep_alive(self._ctx)
        return self._ctx.take_local()

    def tick(self, now_ms: int, unix_ms: int) -> list[LocalEffect]:
        """Every 100 ms: reconnect, ping, suspect, elect, migrate, judge the cluster's health."""
        self._ctx.now_ms = now_ms
        offset_ms = unix_ms - now_ms
        if abs(offset_ms - self.state.unix_offset_ms) > 1:  # Not for the rounding of the two clocks.
            self.state.unix_offset_ms = offset_ms
        self._gossip.tick()
        return self._ctx.take_local()

    def before_sleep(self, now_ms: int) -> list[Effect]:
        """Finish a batch of inputs: see the module's contract for the order of the effects."""
        self._ctx.now_ms = now_ms
        return self._gossip.before_sleep()

    def on_settings_changed(self, now_ms: int) -> list[LocalEffect]:
        """Take over announced addresses, hostname and cluster-replica-no-failover after CONFIG SET."""
        self._ctx.now_ms = now_ms
        self._gossip.refresh_myself()
        self._ctx.todo(Todo.UPDATE_STATE)
        return self._ctx.take_local()

    # -- the rest of the node -----------------------------------------------------------------------

    def publish(self, channel: bytes, payload: bytes, is_sharded: bool, now_ms: int) -> None:
        """Spread a client's PUBLISH to every node, or its SPUBLISH to this shard. Leaves with the next before_sleep."""
        self._ctx.now_ms = now_ms
        spread = outgoing.publish_to_shard if is_sharded else outgoing.publish
        spread(self._ctx, channel, payload)

    def kill_links(self, node_id: str, outbound: bool, inbound: bool) -> None:
        """DEBUG CLUSTERLINK KILL TO (outbound), FROM (inbound) or ALL; raises CommandError for an unknown node."""
        node = self.state.find(node_id)
        if node is None:
            raise CommandError(b"ERR Unknown node " + node_id.encode("latin-1"))
        if outbound:
            links.close_link(self._ctx, node.link)
        if inbound:
            links.close_link(self._ctx, node.inbound_link)

    def verify_config_with_data(self, now_ms: int) -> list[LocalEffect]:
        """After loading: keys in slots that are nobody's make the slots mine, keys in another's slots open them as
        importing. Followed by before_sleep, which saves."""
        ctx, state = self._ctx, self.state
        ctx.now_ms = now_ms
        for slot in [] if state.myself.is_replica else ctx.facts.populated_slots():
            owner = state.owners[slot]
            if owner is state.myself or slot in state.importing:
                continue
            if owner is None:
                text = f"I have keys for unassigned slot {slot}. Taking responsibility for it."
                ctx.assign_slot(slot, state.myself)
            else:
                text = (
                    f"I have keys for slot {slot}, but the slot is assigned to another node. "
                    "Setting it to importing state."
                )
                state.set_importing(slot, owner)
            ctx.log(LogLevel.WARNING, text)
            ctx.todo(SAVE_FSYNC)
        return ctx.take_local()

    # -- failover's part in gossip's steps ------------------------------------------------------------

    def _advance_failover(self) -> None:
        manual.check_timeout(self._ctx)
        if self.state.myself.is_replica:
            manual.advance(self._ctx)
            election.advance(self._ctx)
            replica_migration.migrate_if_needed(self._ctx)

    def _on_todo(self, todo: Todo) -> None:
        """Do at once what would otherwise wait for the tick: act on votes, or on the offset of a paused master."""
        if not self.state.myself.is_replica:
            return
        if Todo.HANDLE_MANUAL_FAILOVER in todo:
            manual.advance(self._ctx)
        if todo & (Todo.HANDLE_MANUAL_FAILOVER | Todo.HANDLE_FAILOVER):
            election.advance(self._ctx)
            if Todo.HANDLE_FAILOVER in self.state.todo:
                election.advance(self._ctx)  # Scheduled for now (manual failover): ask for the votes.
