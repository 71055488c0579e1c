"""What CLUSTER tells: INFO, SLOTS, SHARDS and LINKS as replies drawn from the cluster's state.

Nothing here changes anything; the text of NODES is in cluster.gossip.nodes_conf, since nodes.conf has the same lines.
Shapes, field names and their order are those of Redis 7.0 (clusterReplyMultiBulkSlots, clusterReplyShards,
addReplyClusterLinksDescription and CLUSTER INFO in cluster.c).
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from cluster.commands.context import ServerContext
from cluster.gossip.messages import MESSAGE_NAMES
from cluster.gossip.state import ClusterHealth, ClusterState, Link, Node
from cluster.resp.encode import Encoder, array, bulk, integer
from cluster.slots.ranges import SlotRange, bitmap_to_ranges
from cluster.slots.routing import EndpointType, preferred_endpoint


@attrs.frozen
class Reporter:
    """The state together with what the form of a report depends on."""

    state: ClusterState
    proto: Encoder
    endpoint_type: EndpointType
    is_tls: bool
    """The cluster's nodes talk TLS: a node's plain port, where there is one, is what clients without TLS need."""
    my_offset: int
    """This node's replication offset: nobody keeps it in the state."""
    my_replica_offset: int
    """The same as a replica; 0 for a master."""

    @classmethod
    def of(cls, server: ServerContext, state: ClusterState, proto: Encoder) -> Reporter:
        """A reporter for one client of the server."""
        replication = server.replication_state
        replica_offset = replication.replica_offset
        return cls(
            state,
            proto,
            EndpointType(server.settings.cluster_preferred_endpoint_type),
            server.settings.tls_cluster,
            replica_offset if state.myself.is_replica else replication.master_repl_offset,
            replica_offset,
        )

    # -- SLOTS ----------------------------------------------------------------------------------------------------

    def slots(self) -> bytes:
        """CLUSTER SLOTS: start, end, master and available replicas of each run of slots with one owner."""
        return array([self._slot_run(run, owner) for run, owner in self._runs()])

    def _runs(self) -> Iterator[tuple[SlotRange, Node]]:
        """Runs of slots with the same owner, ascending."""
        runs = [(run, node) for node in self.state.nodes.values() for run in bitmap_to_ranges(node.slots)]
        return iter(sorted(runs, key=lambda entry: entry[0]))

    def _slot_run(self, run: SlotRange, owner: Node) -> bytes:
        nodes = [owner, *filter(self._is_available, owner.replicas)]
        return array([integer(run.start), integer(run.end), *map(self._endpoint, nodes)])

    def _is_available(self, replica: Node) -> bool:
        """False for a replica that failed or has not finished its first sync: no client should read there."""
        offset = self.my_replica_offset if replica.is_myself else replica.repl_offset
        return not replica.is_fail and offset != 0

    def _endpoint(self, node: Node) -> bytes:
        """How to reach a node: the preferred name, the port, the id, and its other names."""
        if self.endpoint_type is EndpointType.UNKNOWN:
            name = self.proto.null
        else:
            name = _text(preferred_endpoint(node, self.endpoint_type))
        others = []
        if self.endpoint_type is not EndpointType.IP:
            others += [bulk(b"ip"), _text(node.ip)]
        if self.endpoint_type is not EndpointType.HOSTNAME and node.hostname:
            others += [bulk(b"hostname"), _text(node.hostname)]
        port = node.pport if self.is_tls and node.pport else node.port
        return array([name, integer(port), _text(node.node_id), self.proto.map(others)])

    # -- SHARDS ---------------------------------------------------------------------------------------------------

    def shards(self) -> bytes:
        """CLUSTER SHARDS: for each master its slots, and details of it and its replicas."""
        return array([self._shard(node) for node in self.state.nodes.values() if node.is_master])

    def _shard(self, master: Node) -> bytes:
        bounds = [integer(bound) for run in bitmap_to_ranges(master.slots) for bound in run]
        nodes = [self._details(node) for node in (master, *master.replicas)]
        return self.proto.map([bulk(b"slots"), array(bounds), bulk(b"nodes"), array(nodes)])

    def _details(self, node: Node) -> bytes:
        plain_port = node.pport if self.is_tls else node.port
        tls_port = node.port if self.is_tls else 0
        offset = self.my_offset if node.is_myself else node.repl_offset
        if node.is_fail:
            health = b"fail"
        elif node.is_replica and offset == 0:
            health = b"loading"
        else:
            health = b"online"
        fields = [bulk(b"id"), _text(node.node_id)]
        if plain_port:
            fields += [bulk(b"port"), integer(plain_port)]
        if tls_port:
            fields += [bulk(b"tls-port"), integer(tls_port)]
        fields += [bulk(b"ip"), _text(node.ip)]
        fields += [bulk(b"endpoint"), _text(preferred_endpoint(node, self.endpoint_type))]
        if node.hostname:
            fields += [bulk(b"hostname"), _text(node.hostname)]
        fields += [bulk(b"role"), bulk(b"replica" if node.is_replica else b"master")]
        fields += [bulk(b"replication-offset"), integer(offset)]
        fields += [bulk(b"health"), bulk(health)]
        return self.proto.map(fields)

    # -- LINKS ----------------------------------------------------------------------------------------------------

    def links(self) -> bytes:
        """CLUSTER LINKS: the connections to and from each known node."""
        found = [
            self._link(link, node)
            for node in self.state.nodes.values()
            for link in (node.link, node.inbound_link)
            if link is not None
        ]
        return array(found)

    def _link(self, link: Link, node: Node) -> bytes:
        return self.proto.map(
            [
                bulk(b"direction"),
                bulk(b"from" if link.inbound else b"to"),
                bulk(b"node"),
                _text(node.node_id),
                bulk(b"create-time"),
                integer(self.state.to_unix_ms(link.created_ms)),
                bulk(b"events"),
                bulk(b"rw" if link.has_write_handler else b"r"),
                bulk(b"send-buffer-allocated"),
                integer(link.send_buffer_allocated_bytes),
                bulk(b"send-buffer-used"),
                integer(link.send_buffer_bytes),
            ]
        )

    # -- INFO -----------------------------------------------------------------------------------------------------

    def info(self) -> bytes:
        """CLUSTER INFO."""
        return self.proto.verbatim("".join(f"{line}\r\n" for line in info_lines(self.state)).encode())


def info_lines(state: ClusterState) -> Iterator[str]:
    """The lines of CLUSTER INFO, in order."""
    nodes = state.nodes.values()
    slots_fail = sum(node.slot_count for node in nodes if node.is_fail)
    slots_pfail = sum(node.slot_count for node in nodes if node.is_pfail and not node.is_fail)
    assigned = sum(node.slot_count for node in nodes)
    myself = state.myself
    speaks_for = myself.master if myself.is_replica and myself.master is not None else myself
    yield f"cluster_state:{'ok' if state.health is ClusterHealth.OK else 'fail'}"
    yield f"cluster_slots_assigned:{assigned}"
    yield f"cluster_slots_ok:{assigned - slots_pfail - slots_fail}"
    yield f"cluster_slots_pfail:{slots_pfail}"
    yield f"cluster_slots_fail:{slots_fail}"
    yield f"cluster_known_nodes:{len(nodes)}"
    yield f"cluster_size:{state.size}"
    yield f"cluster_current_epoch:{state.current_epoch}"
    yield f"cluster_my_epoch:{speaks_for.config_epoch}"
    for direction, counts in (("sent", state.messages_sent), ("received", state.messages_received)):
        for kind, name in MESSAGE_NAMES.items():
            if counts[kind]:
                yield f"cluster_stats_messages_{name}_{direction}:{counts[kind]}"
        yield f"cluster_stats_messages_{direction}:{sum(counts)}"
    yield f"total_cluster_links_buffer_limit_exceeded:{state.links_over_buffer_limit}"


def _text(text: str) -> bytes:
    """Text of the cluster's state, which may be anything a peer announced, as a bulk string."""
    return bulk(text.encode("latin-1", "replace"))
