"""Publish and subscribe (pubsub.c): SUBSCRIBE and its kin, PUBLISH, SPUBLISH, PUBSUB.

A message goes to the subscribers of this node and then further: over the cluster bus to every node (PUBLISH) or to the
nodes of the shard (SPUBLISH); without a cluster, as a command to the replicas. It never goes to the append only file.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster import clock, errors
from cluster.commands.channels import Kind, Subscribers, channel_matcher, confirmation
from cluster.commands.context import Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.keyspace.effects import ReplicasOnly
from cluster.resp.encode import EMPTY_ARRAY, array, bulk, bulk_array, integer

# Subscribing ----------------------------------------------------------------------------------------------------


@command("subscribe")
def subscribe(client: Session, argv: list[bytes]) -> bytes | None:
    return _subscribe(client, Kind.CHANNEL, argv[1:])


@command("psubscribe")
def psubscribe(client: Session, argv: list[bytes]) -> bytes | None:
    return _subscribe(client, Kind.PATTERN, argv[1:])


@command("ssubscribe")
def ssubscribe(client: Session, argv: list[bytes]) -> bytes | None:
    if client.in_exec:  # The other two are allowed there for the sake of clients that are older than the rule.
        raise CommandError(b"ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")
    return _subscribe(client, Kind.SHARD, argv[1:])


@command("unsubscribe")
def unsubscribe(client: Session, argv: list[bytes]) -> bytes | None:
    return _unsubscribe(client, Kind.CHANNEL, argv[1:])


@command("punsubscribe")
def punsubscribe(client: Session, argv: list[bytes]) -> bytes | None:
    return _unsubscribe(client, Kind.PATTERN, argv[1:])


@command("sunsubscribe")
def sunsubscribe(client: Session, argv: list[bytes]) -> bytes | None:
    return _unsubscribe(client, Kind.SHARD, argv[1:])


def _subscribe(client: Session, kind: Kind, names: list[bytes]) -> bytes | None:
    if client.is_master_link:
        return None  # Our master is sent nothing, so there is nothing it could be subscribed to.
    channels = client.server.channels
    told = []
    for name in names:
        channels.add(client, kind, name)
        told.append(confirmation(client, kind.value, name, kind))
    return _tell(client, told)


def _unsubscribe(client: Session, kind: Kind, names: list[bytes]) -> bytes | None:
    """Without names: from everything of the kind. Each name is confirmed, subscribed to or not, and so is nothing."""
    channels = client.server.channels
    held = client.subscriptions
    told = []
    for name in names or ([] if held is None else tuple(held.names[kind])):
        channels.remove(client, kind, name)
        told.append(confirmation(client, kind.farewell, name, kind))
    return _tell(client, told or [confirmation(client, kind.farewell, None, kind)])


def _tell(client: Session, told: list[bytes]) -> bytes | None:
    """Confirmations are messages rather than replies: CLIENT REPLY does not silence them."""
    data = b"".join(told)
    if client.reply_mode == b"on":
        return data
    client.push(data)
    return None


# Publishing -----------------------------------------------------------------------------------------------------


@command("publish")
def publish(client: Session, argv: list[bytes]) -> bytes:
    receivers = client.server.channels.publish(argv[1], argv[2])
    _pass_on(client, argv, is_sharded=False)
    return integer(receivers)


@command("spublish")
def spublish(client: Session, argv: list[bytes]) -> bytes:
    receivers = client.server.channels.publish_to_shard(argv[1], argv[2])
    _pass_on(client, argv, is_sharded=True)
    return integer(receivers)


def _pass_on(client: Session, argv: list[bytes], *, is_sharded: bool) -> None:
    engine = client.server.engine
    if engine is None:
        client.db.keyspace.propagate(client.db.index, ReplicasOnly(argv))
    else:
        engine.publish(argv[1], argv[2], is_sharded, clock.monotonic_ms())
        client.server.has_loose_ends = True


# Who is subscribed ----------------------------------------------------------------------------------------------


@command("pubsub|channels")
def pubsub_channels(client: Session, argv: list[bytes]) -> bytes:
    return _names(client.server.channels.subscribers[Kind.CHANNEL], argv)


@command("pubsub|shardchannels")
def pubsub_shardchannels(client: Session, argv: list[bytes]) -> bytes:
    return _names(client.server.channels.subscribers[Kind.SHARD], argv)


def _names(table: Iterable[bytes], argv: list[bytes]) -> bytes:
    if len(argv) > 3:
        subcommand = errors.quoted(argv[1][:128])
        raise CommandError(
            b"ERR unknown subcommand or wrong number of arguments for '%b'. Try PUBSUB HELP." % subcommand
        )
    names = list(table) if len(argv) == 2 else list(filter(channel_matcher(argv[2]), table))
    return bulk_array(names) if names else EMPTY_ARRAY


@command("pubsub|numsub")
def pubsub_numsub(client: Session, argv: list[bytes]) -> bytes:
    return _counts(client.server.channels.subscribers[Kind.CHANNEL], argv[2:])


@command("pubsub|shardnumsub")
def pubsub_shardnumsub(client: Session, argv: list[bytes]) -> bytes:
    return _counts(client.server.channels.subscribers[Kind.SHARD], argv[2:])


def _counts(table: dict[bytes, Subscribers], names: list[bytes]) -> bytes:
    return array([part for name in names for part in (bulk(name), integer(len(table.get(name, ()))))])


@command("pubsub|numpat")
def pubsub_numpat(client: Session, argv: list[bytes]) -> bytes:
    return integer(len(client.server.channels.subscribers[Kind.PATTERN]))


@command("pubsub|help")
def pubsub_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"PUBSUB",
        [
            b"CHANNELS [<pattern>]",
            b"    Return the currently active channels matching a <pattern> (default: '*').",
            b"NUMPAT",
            b"    Return number of subscriptions to patterns.",
            b"NUMSUB [<channel> ...]",
            b"    Return the number of subscribers for the specified channels, excluding",
            b"    pattern subscriptions(default: no channels).",
            b"SHARDCHANNELS [<pattern>]",
            b"    Return the currently active shard level channels matching a <pattern> (default: '*').",
            b"SHARDNUMSUB [<shardchannel> ...]",
            b"    Return the number of subscribers for the specified shard level channel(s)",
        ],
    )
