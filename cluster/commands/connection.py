"""temporary"""

from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.resp.encode import PONG, bulk


@command("ping")
def ping(client: Session, argv: list[bytes]) -> bytes:
    return PONG if len(argv) == 1 else bulk(argv[1])
