"""The gossip engine: what happens when a message arrives, every 100 ms, and before the node sleeps.

Role        Membership, failure detection and the spreading of slot configuration. The steps call the rules of the
            sibling modules; what failover has to add hangs on the context's handlers and hooks.
Invariants  No message raises, whatever it says. A message claiming to be from this node itself changes nothing.
            Epochs that could not be counted up to are refused, so that the 64 bits on the wire always suffice.
Source      Redis 7.0.15, clusterProcessPacket(), clusterCron(), clusterBeforeSleep().
"""

from __future__ import annotations

from typing import Final

from cluster.gossip import failure_detector, health, links, membership, outgoing, slot_config
from cluster.gossip.context import SAVE, SAVE_FSYNC, SAVE_UPDATE, Context
from cluster.gossip.effects import Effect, LogLevel, PublishLocal, SaveConfig, StartReplication
from cluster.gossip.messages import (
    PROTOCOL_VERSION,
    Fail,
    Gossip,
    Header,
    Message,
    MessageType,
    Publish,
    Update,
)
from cluster.gossip.state import NOTHING_TO_DO, ClusterHealth, Link, Node, NodeFlags, Todo
from cluster.slots.ranges import is_node_id

HANDSHAKE_TIMEOUT_MS_MIN: Final = 1000
LATE_TICK_MS_MIN: Final = 300
"""A tick that is this late after the one before says that this process was held up (they are 100 ms apart)."""
RANDOM_PING_TICKS: Final = 10
RANDOM_PING_CANDIDATES: Final = 5
YOUNG_VIEW_MS: Final = 3000
"""For so long after a node was added the random ping goes out with every tick: newcomers are then known to everybody
in tenths of a second. Redis has them wait for the ping of the second, which makes whoever forms a cluster wait."""
EPOCH_LIMIT: Final = 1 << 63

_NOT_JUDGED: Final = NodeFlags.MYSELF | NodeFlags.NOADDR | NodeFlags.HANDSHAKE


class GossipEngine:
    """The steps of gossip on one Context. Effects are collected there; before_sleep hands over those of the batch."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.ticks = 0
        self._newest_node_ms = 0
        self.announced_ip = ""
        ctx.handlers.update(
            {
                MessageType.PING: self._on_ping,
                MessageType.MEET: self._on_ping,
                MessageType.PONG: self._on_gossip,
                MessageType.FAIL: self._on_fail,
                MessageType.PUBLISH: self._on_publish,
                MessageType.PUBLISHSHARD: self._on_publish,
                MessageType.UPDATE: self._on_update,
                # No module is ever loaded here.
                MessageType.MODULE: lambda _link, _sender, _message: None,
            }
        )
        clock = ctx.state.health_clock
        clock.last_tick_ms = clock.last_alive_ms = ctx.now_ms
        if len(ctx.state.nodes) > 1:
            health.demand_evidence(ctx)
        self.refresh_myself()

    # -- messages -----------------------------------------------------------------------------------

    def on_message(self, link: Link, message: Message) -> None:
        """Process one message. Links that were closed meanwhile no longer speak for anybody."""
        ctx, header = self.ctx, message.header
        if not link.is_open:
            return
        ctx.state.messages_received[header.type] += 1
        if header.version != PROTOCOL_VERSION:
            return
        if header.type == ctx.state.dropped_message_type:
            ctx.log(LogLevel.WARNING, "Dropping packet that matches debug drop filter")
            return
        if max(header.current_epoch, header.config_epoch) >= EPOCH_LIMIT:
            ctx.log(LogLevel.WARNING, f"Ignoring a message of {header.sender!r} with an impossible epoch")
            return
        sender = self._identify(link, header)
        if sender is not None:
            sender.data_received_ms = ctx.now_ms
            if not sender.in_handshake and not sender.is_myself:
                self._note_header(sender, header)
        handler = ctx.handlers.get(header.type)
        if handler is not None:
            handler(link, sender, message)

    def _identify(self, link: Link, header: Header) -> Node | None:
        """The sender as a node known here. An inbound link is tied to the first known sender that uses it."""
        if link.node is not None and link.node.node_id == header.sender:
            return link.node
        sender = self.ctx.state.find(header.sender)
        if sender is not None and link.node is None and link.inbound:
            links.adopt_inbound(self.ctx, sender, link)
        return sender

    def _note_header(self, sender: Node, header: Header) -> None:
        """What a known sender says of itself in every message: epochs and offset."""
        ctx, state = self.ctx, self.ctx.state
        if header.current_epoch > state.current_epoch:
            state.current_epoch = header.current_epoch
            ctx.todo(SAVE_FSYNC)  # Redis saves it with the next change; we say no epoch that is not on disk.
        if header.config_epoch > sender.config_epoch:
            sender.config_epoch = header.config_epoch
            ctx.todo(SAVE_FSYNC)
        sender.repl_offset = header.repl_offset
        sender.repl_offset_ms = ctx.now_ms
        for hook in ctx.hooks.on_header:
            hook(sender, header)

    def _on_ping(self, link: Link, sender: Node | None, message: Message) -> None:
        """PING and MEET: answer, whoever asks; MEET also makes us get to know the stranger."""
        ctx, header = self.ctx, message.header
        assert isinstance(message.body, Gossip)
        is_meet = header.type is MessageType.MEET
        self._learn_my_address(link, is_meet=is_meet)
        if sender is None and is_meet:
            ip = membership.sender_address(link, header)
            if ip:
                membership.start_handshake(ctx, ip, header.port, header.cport, with_meet=False, pport=header.pport)
                ctx.todo(SAVE)
            membership.process_gossip(ctx, None, message.body)
        outgoing.send_ping(ctx, link, MessageType.PONG)
        self._on_gossip(link, sender, message)

    def _learn_my_address(self, link: Link, *, is_meet: bool) -> None:
        """Others know our address best: it is the one a MEET reached us at (a PING's will do while we have none)."""
        ctx, myself = self.ctx, self.ctx.state.myself
        if ctx.settings.cluster_announce_ip or not link.local_ip or link.local_ip == myself.ip:
            return
        if is_meet or not myself.ip:
            myself.ip = link.local_ip
            ctx.state.routing_version += 1
            ctx.log(LogLevel.WARNING, f"IP address for this node updated to {myself.ip}")
            ctx.todo(SAVE)

    def _on_gossip(self, link: Link, sender: Node | None, message: Message) -> None:
        """PING, PONG and MEET: take in what the sender says of itself and of others."""
        ctx, header, body = self.ctx, message.header, message.body
        assert isinstance(body, Gossip)
        if not link.inbound:
            sender = self._check_peer(link, sender, header)
            if sender is None:
                return
            if header.type is MessageType.PONG:
                sender.pong_received_ms = ctx.now_ms
                sender.ping_sent_ms = 0
                sender.answered_link_created_ms = link.created_ms
                failure_detector.clear_suspicion(ctx, sender)
        if sender is None or sender.is_myself:
            return
        sender.set_flag(NodeFlags.NOFAILOVER, NodeFlags.NOFAILOVER in header.flags)
        if header.type is MessageType.PING and membership.update_address(ctx, sender, link, header):
            ctx.todo(SAVE_UPDATE)
        self._take_config(sender, header)
        membership.process_gossip(ctx, sender, body)
        membership.process_hostname(ctx, sender, body)

    def _check_peer(self, link: Link, sender: Node | None, header: Header) -> Node | None:
        """The node that answered on our own link, if it is the one we meant; completes the handshake if it was one."""
        ctx, peer = self.ctx, link.node
        if peer is None or peer is sender:
            return peer
        if not peer.in_handshake:
            if ctx.logs_debug:
                ctx.log(
                    LogLevel.DEBUG,
                    f"PONG contains mismatching sender ID. About node {peer.node_id} "
                    f"added {ctx.now_ms - peer.created_ms} ms ago, having flags {int(peer.flags)}",
                )
            membership.lose_address(ctx, peer)
            links.close_link(ctx, link)
            ctx.todo(SAVE)
            return None
        if sender is not None:
            ctx.log(
                LogLevel.VERBOSE,
                f"Handshake: we already know node {sender.node_id}, updating the address if needed.",
            )
            if not sender.is_myself and membership.update_address(ctx, sender, link, header):
                ctx.todo(SAVE_UPDATE)
        if sender is not None or not is_node_id(header.sender):
            membership.delete_node(ctx, peer)
            return None
        if ctx.logs_debug:
            ctx.log(LogLevel.DEBUG, f"Handshake with node {header.sender} completed.")
        ctx.state.rename_node(peer, header.sender)
        peer.flags = (peer.flags & ~NodeFlags.HANDSHAKE) | membership.role_of(header.flags)
        ctx.todo(SAVE)
        # Redis waits for the next message to look at the rest of this one; the peer is no stranger any more.
        self._note_header(peer, header)
        return peer

    def _take_config(self, sender: Node, header: Header) -> None:
        """Role, then slots (a claim is a master's), then whatever failover makes of the epochs."""
        ctx = self.ctx
        slot_config.learn_role(ctx, sender, header.master_id)
        master = sender.shard_master
        if master is sender and ctx.state.not_claimed:
            slot_config.note_claims(ctx, sender, header.config_epoch, header.slots)
        if master is not None and master.slots != header.slots:
            if sender.is_master:
                slot_config.apply_claims(ctx, sender, header.config_epoch, header.slots)
            slot_config.correct_stale_claims(ctx, sender, header.config_epoch, header.slots)
        for hook in ctx.hooks.on_config:
            hook(sender, header)

    def _on_fail(self, _link: Link, sender: Node | None, message: Message) -> None:
        ctx = self.ctx
        assert isinstance(message.body, Fail)
        about = message.body.node_id
        if sender is None:
            text = f"Ignoring FAIL message from unknown node {message.header.sender} about {about}"
            ctx.log(LogLevel.NOTICE, text)
            return
        failing = ctx.state.find(about)
        if failing is not None and not failing.is_fail and not failing.is_myself:
            ctx.log(LogLevel.NOTICE, f"FAIL message received from {sender.node_id} about {about}")
            failure_detector.set_fail(ctx, failing)

    def _on_publish(self, _link: Link, sender: Node | None, message: Message) -> None:
        assert isinstance(message.body, Publish)
        if sender is not None:
            is_sharded = message.header.type is MessageType.PUBLISHSHARD
            self.ctx.emit(PublishLocal(message.body.channel, message.body.payload, is_sharded))

    def _on_update(self, _link: Link, sender: Node | None, message: Message) -> None:
        """Somebody saw us act on an old slot table, and tells of one node that serves slots under a newer epoch."""
        ctx, update = self.ctx, message.body
        assert isinstance(update, Update)
        owner = ctx.state.find(update.node_id)
        if sender is None or owner is None or not owner.config_epoch < update.config_epoch < EPOCH_LIMIT:
            return
        if owner.is_myself:
            # Redis would take the epoch, and even the role of a master. Peers know better than we only after our
            # nodes.conf was replaced by an older one: claim a new epoch then, if an operator says so.
            ctx.log(LogLevel.WARNING, "Discarding UPDATE message about myself.")
            return
        if ctx.state.turn_into_master(owner):
            ctx.todo(SAVE_UPDATE)
        owner.config_epoch = update.config_epoch
        ctx.todo(SAVE_FSYNC)
        slot_config.apply_claims(ctx, owner, update.config_epoch, update.slots)

    # -- time ---------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Every 100 ms."""
        ctx, state = self.ctx, self.ctx.state
        self.ticks += 1
        self.refresh_myself()
        if state.has_unsaved_news:
            ctx.todo(SAVE)
        health.keep_alive(ctx)
        late_ms = ctx.now_ms - state.health_clock.last_tick_ms
        state.health_clock.last_tick_ms = ctx.now_ms
        if late_ms > max(ctx.node_timeout_ms // 2, LATE_TICK_MS_MIN):
            failure_detector.forgive_own_lateness(ctx)
        self._tend_links()
        if self.ticks % RANDOM_PING_TICKS == 0 or ctx.age_ms(self._newest_node_ms) < YOUNG_VIEW_MS:
            self._ping_random_node()
        has_new_suspect = self._ping_and_suspect()
        if has_new_suspect and state.myself.is_master and state.myself.slot_count:
            outgoing.pong_voters(ctx)  # Redis leaves the report to the next ping that is due.
        self._start_replication()
        for hook in ctx.hooks.on_tick:
            hook()
        if has_new_suspect or state.health is ClusterHealth.FAIL:
            health.update_health(ctx)

    def _tend_links(self) -> None:
        """Drop links that do not drain and handshakes that lead nowhere; connect to whoever is not connected."""
        ctx, state = self.ctx, self.ctx.state
        handshake_timeout_ms = max(ctx.node_timeout_ms, HANDSHAKE_TIMEOUT_MS_MIN)
        state.pfail_nodes = 0
        for node in list(state.nodes.values()):
            self._newest_node_ms = max(self._newest_node_ms, node.created_ms)
            self._close_if_over_limit(node.link)
            self._close_if_over_limit(node.inbound_link)
            if node.flags & (NodeFlags.MYSELF | NodeFlags.NOADDR):
                continue
            state.pfail_nodes += node.is_pfail
            if node.in_handshake and ctx.now_ms - node.created_ms > handshake_timeout_ms:
                membership.delete_node(ctx, node)
            elif node.link is None and node.ip:
                links.open_link(ctx, node)
            elif not node.ip and not node.ping_sent_ms:
                node.ping_sent_ms = ctx.now_ms  # Only named in nodes.conf, never described: it cannot be reached.

    def _close_if_over_limit(self, link: Link | None) -> None:
        limit_bytes = self.ctx.settings.cluster_link_sendbuf_limit
        if link is None or not limit_bytes or link.send_buffer_allocated_bytes <= limit_bytes:
            return
        direction = "from" if link.inbound else "to"
        node_id = link.node.node_id if link.node is not None else ""
        self.ctx.log(
            LogLevel.WARNING,
            f"Freeing cluster link({direction} node {node_id}, used memory: {link.send_buffer_allocated_bytes}) "
            "due to exceeding send buffer memory limit.",
        )
        links.close_link(self.ctx, link)
        self.ctx.state.links_over_buffer_limit += 1

    def _ping_random_node(self) -> None:
        """Once a second or more often, of a few nodes, ping the one that has been quiet for longest."""
        ctx = self.ctx
        nodes = list(ctx.state.nodes.values())
        quietest: Node | None = None
        for node in ctx.rng.sample(nodes, min(len(nodes), RANDOM_PING_CANDIDATES)):
            if node.link is None or node.ping_sent_ms or node.flags & (NodeFlags.MYSELF | NodeFlags.HANDSHAKE):
                continue
            if quietest is None or node.pong_received_ms < quietest.pong_received_ms:
                quietest = node
        if quietest is not None and quietest.link is not None:
            outgoing.send_ping(ctx, quietest.link, MessageType.PING)

    def _ping_and_suspect(self) -> bool:
        """Ping every node at least twice per node timeout, and judge those that do not answer."""
        ctx, state = self.ctx, self.ctx.state
        timeout_ms = ctx.node_timeout_ms
        has_new_suspect = False
        for node in list(state.nodes.values()):
            if node.flags & _NOT_JUDGED:
                continue
            link = node.link
            silent_ms = min(ctx.age_ms(node.ping_sent_ms), ctx.age_ms(node.data_received_ms))
            if (
                link is not None
                and node.ping_sent_ms
                and ctx.now_ms - link.created_ms > timeout_ms
                and silent_ms > timeout_ms // 2
            ):
                # Perhaps only the connection is bad; there is time for one more before the peer is suspected.
                links.close_link(ctx, link)
                link = None
            if link is not None and not node.ping_sent_ms and ctx.age_ms(node.pong_received_ms) > timeout_ms // 2:
                outgoing.send_ping(ctx, link, MessageType.PING)
            elif link is not None and state.manual.replica is node and state.manual.end_ms and state.myself.is_master:
                # The replica waits for the offset at which we paused: tell it with every tick.
                outgoing.send_ping(ctx, link, MessageType.PING)
            elif node.ping_sent_ms and failure_detector.suspect_if_silent(ctx, node):
                has_new_suspect = True
        return has_new_suspect

    def _start_replication(self) -> None:
        """A replica whose replication is off (it just started, or met its master only now) turns it on."""
        ctx, myself = self.ctx, self.ctx.state.myself
        master = myself.master
        if myself.is_replica and master is not None and master.has_address and not ctx.facts.is_replicating():
            ctx.emit(StartReplication(master.ip, master.port))

    def before_sleep(self) -> list[Effect]:
        """Do what the inputs left to be done, then hand over their effects: local ones, the save, what goes out."""
        ctx, state = self.ctx, self.ctx.state
        if not state.todo and not ctx.bus_effects and not ctx.local_effects:
            return []
        todo, state.todo = state.todo, NOTHING_TO_DO
        for hook in ctx.hooks.on_todo:
            hook(todo)
        todo |= state.todo
        if Todo.UPDATE_STATE in todo:
            health.update_health(ctx)
        # What the hooks left over is for the next time; their saves are for now, since their messages leave now.
        state.todo &= ~(SAVE_UPDATE | SAVE_FSYNC)
        effects: list[Effect] = [*ctx.take_local()]
        if Todo.SAVE_CONFIG in todo:
            state.has_unsaved_news = False
            effects.append(SaveConfig(fsync=Todo.FSYNC_CONFIG in todo))
        effects.extend(ctx.take_bus())
        return effects

    # -- myself -------------------------------------------------------------------------------------

    def refresh_myself(self) -> None:
        """Take over what the settings say of this node; they may change at run time."""
        ctx, settings = self.ctx, self.ctx.settings
        myself = ctx.state.myself
        if myself.is_nofailover != settings.cluster_replica_no_failover:
            myself.set_flag(NodeFlags.NOFAILOVER, settings.cluster_replica_no_failover)
            ctx.todo(SAVE_UPDATE)
        ports = outgoing.announced_ports(settings)
        ip = myself.ip
        if settings.cluster_announce_ip != self.announced_ip:
            ip = self.announced_ip = settings.cluster_announce_ip  # Empty: to be found out anew.
        address = (ip, *ports, settings.cluster_announce_hostname)
        if address != (myself.ip, myself.port, myself.pport, myself.cport, myself.hostname):
            myself.ip, myself.port, myself.pport, myself.cport, myself.hostname = address
            ctx.state.routing_version += 1
