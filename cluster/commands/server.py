"""temporary"""
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.resp.encode import OK


@command("info")
def info(client: Session, argv: list[bytes]) -> bytes:
    return client.proto.verbatim(client.server.info({w.lower() for w in argv[1:]} or {b"default"}))
