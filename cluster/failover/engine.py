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

from cluster.gossip.effects import Effect, LocalEffect
from cluster.gossip.facts import NodeFacts
from cluster.gossip.messages import Message
from cluster.gossip.state import ClusterState, Link
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
        raise NotImplementedError

    # -- links ------------------------------------------------------------------------------------

    def link_accepted(self, peer_ip: str, local_ip: str, now_ms: int) -> Link:
        """A peer connected to the bus port: the record to give with its messages. ``local_ip`` is our socket's end."""
        raise NotImplementedError

    def link_connected(self, link: Link, peer_ip: str, local_ip: str, now_ms: int) -> list[LocalEffect]:
        """The connection asked for by OpenLink is up."""
        raise NotImplementedError

    def link_failed(self, link: Link, reason: str, now_ms: int) -> list[LocalEffect]:
        """The connection asked for by OpenLink could not be made."""
        raise NotImplementedError

    def link_closed(self, link: Link, now_ms: int) -> list[LocalEffect]:
        """The peer hung up, the socket broke, or its bytes were no bus messages. Harmless for a link already closed."""
        raise NotImplementedError

    def on_message(self, link: Link, message: Message, now_ms: int) -> list[LocalEffect]:
        """A well-formed message arrived. Nothing is done for a link that is no longer open."""
        raise NotImplementedError

    # -- time -------------------------------------------------------------------------------------

    def keep_alive(self, now_ms: int) -> list[LocalEffect]:
        """Say that the process is running; notices that it was not. Call before serving clients."""
        raise NotImplementedError

    def tick(self, now_ms: int, unix_ms: int) -> list[LocalEffect]:
        """Every 100 ms: reconnect, ping, suspect, elect, migrate, judge the cluster's health."""
        raise NotImplementedError

    def before_sleep(self, now_ms: int) -> list[Effect]:
        """Finish a batch of inputs: see the module's contract for the order of the effects."""
        raise NotImplementedError

    def on_settings_changed(self, now_ms: int) -> list[LocalEffect]:
        """Take over announced addresses, hostname and cluster-replica-no-failover after CONFIG SET."""
        raise NotImplementedError

    # -- the rest of the node -----------------------------------------------------------------------

    def on_replication_progress(self, now_ms: int) -> list[LocalEffect]:
        """A replica processed more of its master's stream. Worth calling while a manual failover waits for the last
        bytes (``state.manual.end_ms``); the tick finds out by itself otherwise."""
        raise NotImplementedError

    def publish(self, channel: bytes, payload: bytes, is_sharded: bool, now_ms: int) -> None:
        """Spread a client's PUBLISH to every node, or its SPUBLISH to this shard. Leaves with the next before_sleep."""
        raise NotImplementedError

    def kill_links(self, node_id: str, outbound: bool, inbound: bool) -> bool:
        """DEBUG CLUSTERLINK KILL: drop the links to (and from) a node; False if it is unknown."""
        raise NotImplementedError

    def verify_config_with_data(self, now_ms: int) -> list[LocalEffect]:
        """After loading: keys in slots that are nobody's make the slots mine, keys in another's slots open them as
        importing. Followed by before_sleep, which saves."""
        raise NotImplementedError
