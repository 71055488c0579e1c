"""A node whose role changes faster than a synchronisation can follow: it must stay up, and end with the right data."""

from __future__ import annotations

import random
import time

import pytest

from tests.support.servers import OurNode
from tests.support.waiting import eventually

CHANGES = 120
# How long a role lasts: within the handshake, within the transfer, and long enough to be in sync.
PAUSES_SECONDS = (0.0, 0.003, 0.01, 0.1)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("diskless_load", ["disabled", "swapdb"])
def test_replicaof_again_and_again(diskless_load: str, seed: int) -> None:
    choose = random.Random(seed)
    with OurNode() as first, OurNode() as second, OurNode(repl_diskless_load=diskless_load) as node:
        first.call("DEBUG", "POPULATE", 2000, "first")
        second.call("DEBUG", "POPULATE", 1000, "second")
        with node.raw() as connection:
            for _ in range(CHANGES):
                # Any of these may be answered by -LOADING; what counts is that it is answered.
                connection.ask("REPLICAOF", "127.0.0.1", choose.choice((first, second)).port)
                time.sleep(choose.random() * choose.choice(PAUSES_SECONDS))  # The change must come at any moment.
                if choose.random() < 0.7:
                    connection.ask("REPLICAOF", "NO", "ONE")
                    connection.ask("SET", "own", "write")
            eventually(lambda: connection.ask("REPLICAOF", "127.0.0.1", first.port) == b"OK")
            eventually(lambda: node.info("replication")["master_link_status"] == "up")
            eventually(lambda: node.call("DBSIZE") == 2000)
            assert connection.call("DEBUG", "DIGEST") == first.call("DEBUG", "DIGEST")
        assert "Traceback" not in node.log_text()
