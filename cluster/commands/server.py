"""Commands about the server itself: INFO, CONFIG, TIME (server.c, config.c)."""

from __future__ import annotations

from cluster import clock
from cluster.commands.context import Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.resp.encode import OK, array, bulk


@command("info")
def info(client: Session, argv: list[bytes]) -> bytes:
    return client.proto.verbatim(client.server.info({word.lower() for word in argv[1:]}))


@command("time")
def time(client: Session, argv: list[bytes]) -> bytes:
    seconds, micros = divmod(clock.unix_us(), 1_000_000)
    return array([bulk(b"%d" % seconds), bulk(b"%d" % micros)])


@command("config|get")
def config_get(client: Session, argv: list[bytes]) -> bytes:
    pairs = client.server.config.get(argv[2:])
    return client.proto.map([bulk(word) for pair in pairs for word in pair])


@command("config|set")
def config_set(client: Session, argv: list[bytes]) -> bytes:
    pairs = list(zip(argv[2::2], argv[3::2], strict=False))
    if len(argv) % 2:
        from cluster import errors

        raise errors.wrong_arity(b"config|set")
    client.server.config.set(pairs, is_local_client=True, loading=client.server.loading)
    client.server.refresh_plain()
    return OK


@command("config|rewrite")
def config_rewrite(client: Session, argv: list[bytes]) -> bytes:
    client.server.config.rewrite()
    return OK
