"""kill -9 at random moments while clients write: what ``appendfsync always`` acknowledged is there afterwards.

One node lives and dies many times over the same files. Each life has writers (single commands, pipelines,
transactions), now and then a rewrite, a snapshot or a switch of the log off and on, and an end at a random moment:
while it serves, while it rewrites, or while it loads. The seed is in the test's name; more of them:
``HASHSLOT_KILLS=200 pytest tests/chaos/test_kill_append_only.py``.
"""

from __future__ import annotations

import os
import random
import threading
import time

import attrs
import pytest

from tests.support.servers import OurNode
from tests.support.waiting import eventually
from tests.support.wire import RawConnection, ReplyError, encode

LIVES = 6
SEEDS = max(1, int(os.environ.get("HASHSLOT_KILLS", "12")) // LIVES)
WRITERS = 3


@attrs.define
class Writer:
    """One client that writes numbered keys, and knows which were acknowledged."""

    name: str
    rng: random.Random
    acknowledged: int = 0
    """Keys 1 … so many were answered."""
    sent: int = 0
    transaction: range = range(0)
    """The keys of the last transaction."""

    def run(self, port: int) -> None:
        """Write until the connection ends."""
        try:
            with RawConnection(port) as connection:
                while True:
                    self._write(connection)
        except (OSError, ReplyError):
            pass  # The node is gone, or about to be.

    def _write(self, connection: RawConnection) -> None:
        count = self.rng.choice((1, 1, 5, 50))
        first = self.sent + 1
        self.sent += count
        if self.rng.random() < 0.3:
            self.transaction = range(first, self.sent + 1)
            batch = [encode("MULTI")]
            batch += [encode(*self._command(number)) for number in range(first, self.sent + 1)]
            batch.append(encode("EXEC"))
            connection.sendall(b"".join(batch))
            replies = [connection.reply() for _ in batch]
            assert not isinstance(replies[-1], ReplyError), replies[-1]
            assert len(replies[-1]) == count
            self.acknowledged = self.sent
            return
        connection.sendall(b"".join(encode(*self._command(number)) for number in range(first, self.sent + 1)))
        for number in range(first, self.sent + 1):
            reply = connection.reply()
            assert not isinstance(reply, ReplyError), reply
            self.acknowledged = number

    def _command(self, number: int) -> tuple[str, ...]:
        key = f"{self.name}:{number}"
        return ("SET", key, "x" * (number % 300)) if number % 7 else ("RPUSH", key, "a", "b")

    def kept(self, connection: RawConnection) -> int:
        """How many of the keys are there; they must be the first ones, without a gap."""
        for number in range(1, self.sent + 1):
            connection.send("EXISTS", f"{self.name}:{number}")
        found = [connection.reply() for _ in range(self.sent)]
        count = sum(found)
        assert found == [1] * count + [0] * (self.sent - count), "a gap: not a prefix of what was written"
        assert count not in self.transaction[:-1], "a part of a transaction"
        return count


def given_a_life(node: OurNode, writers: list[Writer], rng: random.Random) -> None:
    """Everything between a start and a kill."""
    threads = [threading.Thread(target=writer.run, args=(node.port,)) for writer in writers]
    for thread in threads:
        thread.start()
    end = time.monotonic() + rng.uniform(0.05, 0.6)
    try:
        with node.raw() as connection:
            while time.monotonic() < end:
                # The pause is when the kill may come: the moment itself is what is random here.
                time.sleep(min(rng.uniform(0.0, 0.2), max(end - time.monotonic(), 0.0)))
                command = rng.choice((["BGREWRITEAOF"], ["BGREWRITEAOF"], ["BGSAVE"], ["PING"]))
                connection.ask(*command)
    finally:
        node.kill9()
        for thread in threads:
            thread.join(timeout=60)
            assert not thread.is_alive()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_acknowledged_write_is_lost(seed: int) -> None:
    rng = random.Random(seed)
    preamble = rng.choice(("yes", "no"))
    writers = [Writer(f"w{number}", random.Random(f"{seed}:{number}")) for number in range(WRITERS)]
    with OurNode(
        appendonly="yes", appendfsync="always", aof_use_rdb_preamble=preamble, auto_aof_rewrite_percentage=0
    ) as node:
        for _life in range(LIVES):
            given_a_life(node, writers, rng)
            if rng.random() < 0.3:  # Killed while it loads, too.
                node.start(wait=False)
                time.sleep(rng.uniform(0.0, 0.5))
                node.kill9()
            node.start()
            with node.raw() as connection:
                for writer in writers:
                    kept = writer.kept(connection)
                    assert kept >= writer.acknowledged, f"{writer.acknowledged - kept} acknowledged writes are lost"
                    # What was not acknowledged may be there or not; it is now known which.
                    writer.sent = writer.acknowledged = kept


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["everysec", "no"])
def test_other_policies_keep_a_prefix(policy: str) -> None:
    """A killed process loses nothing that it has written; and what is there is what came first."""
    rng = random.Random(policy)
    writers = [Writer(f"w{number}", random.Random(f"{policy}:{number}")) for number in range(WRITERS)]
    with OurNode(appendonly="yes", appendfsync=policy, auto_aof_rewrite_percentage=0) as node:
        for _life in range(3):
            given_a_life(node, writers, rng)
            node.start()
            with node.raw() as connection:
                for writer in writers:
                    writer.sent = writer.acknowledged = writer.kept(connection)


@pytest.mark.slow
def test_a_kill_while_the_log_is_switched_on_loses_nothing_of_before() -> None:
    """The first rewrite is not complete: what counts is still what there was."""
    with OurNode(appendonly="no", save='""') as node:
        with node.raw() as connection:
            connection.call("SET", "a", "1")
            connection.call("SAVE")
            connection.call("CONFIG", "SET", "rdb-key-save-delay", 100_000_000)  # It is killed long before.
            connection.call("CONFIG", "SET", "appendonly", "yes")
            eventually(lambda: node.info("persistence")["aof_rewrite_in_progress"] == "1")
            connection.call("SET", "b", "2")
        node.kill9()
        assert not (node.directory / "appendonlydir" / "appendonly.aof.manifest").exists()
        node.start()  # Without the log, as its configuration says.
        assert node.call("GET", "a") == b"1"
        node.call("CONFIG", "SET", "appendonly", "yes")
        eventually(lambda: node.info("persistence")["aof_rewrite_in_progress"] == "0")
        node.kill9()
        node.directives["appendonly"] = "yes"
        node.start()
        assert node.call("GET", "a") == b"1"
