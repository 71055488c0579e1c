"""Either kind of master with either kind of replica, through every way to come in step, with every type of value.

What the replica has is compared by the servers' own DEBUG DIGEST, and by what that leaves out (see `every_type`). A
master and a replica that are both real show that a story is right; the other pairs, that ours is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.every_type import assert_same, every_type, run, touch_every_type
from tests.support.servers import Kind, Server, make_server
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.real_redis

Start = Callable[..., Server]
PAIRS: list[tuple[Kind, Kind]] = [("ours", "ours"), ("ours", "real"), ("real", "ours"), ("real", "real")]
SYNC_TIMEOUT = PATIENCE
SILENT = {"repl_ping_replica_period": 3600, "repl_timeout": 3600}
GONE = "#!lua name=gone\nredis.register_function('x', function() return 1 end)"
each_pair = pytest.mark.parametrize("kinds", PAIRS, ids=lambda pair: f"{pair[0]} to {pair[1]}")


@pytest.fixture
def start() -> Iterator[Start]:
    """``start(kind, **directives)``: a running server that is gone after the test."""
    with ExitStack() as stack:

        def launch(kind: Kind, **directives: object) -> Server:
            # A master that pings may have said more than the replica had heard when it was promoted.
            return stack.enter_context(make_server(kind, **SILENT, **directives))  # type: ignore[arg-type]

        yield launch


def offset(server: Server) -> int:
    """The master's place in its stream, or how much of it the replica has applied while its link is up; else -1."""
    facts = server.info("replication")
    if facts["role"] == "master":
        return int(facts["master_repl_offset"])
    return int(facts["slave_repl_offset"]) if facts["master_link_status"] == "up" else -1


def in_step(master: Server, *replicas: Server) -> None:
    """Wait until all have applied the whole stream."""
    for replica in replicas:
        eventually(lambda replica=replica: offset(replica) == offset(master), SYNC_TIMEOUT, message="equal offsets")


def same_data(master: Server, *replicas: Server) -> None:
    in_step(master, *replicas)
    assert_same(master, *replicas)


def follow(replica: Server, master: Server) -> None:
    replica.call("REPLICAOF", "127.0.0.1", master.port)


def syncs(server: Server) -> tuple[int, int]:
    """How many full and how many partial synchronisations this master has given."""
    facts = server.info("stats")
    return int(facts["sync_full"]), int(facts["sync_partial_ok"])


def synchronised(start: Start, master_kind: Kind, *replica_kinds: Kind, diskless: str = "yes") -> list[Server]:
    """A master with every type, and replicas that follow it."""
    master = start(master_kind, repl_diskless_sync=diskless)
    run(master, every_type())
    replicas = [start(kind) for kind in replica_kinds]
    for replica in replicas:
        run(replica, [("SET", "only here", "gone"), ("FUNCTION", "LOAD", GONE)])
        follow(replica, master)
    in_step(master, *replicas)
    return [master, *replicas]


@pytest.mark.parametrize("diskless", ["yes", "no"], ids=["diskless", "disk"])
@each_pair
def test_full(kinds: tuple[Kind, Kind], diskless: str, start: Start) -> None:
    master, replica = synchronised(start, *kinds, diskless=diskless)
    same_data(master, replica)
    run(master, touch_every_type("later"))
    same_data(master, replica)
    assert syncs(master) == (1, 0)


@each_pair
def test_partial_after_a_cut_link(kinds: tuple[Kind, Kind], start: Start) -> None:
    master, replica = synchronised(start, *kinds)
    run(master, [("CLIENT", "KILL", "TYPE", "replica"), *touch_every_type("cut by the master")])
    in_step(master, replica)
    run(replica, [("CLIENT", "KILL", "TYPE", "master")])
    run(master, touch_every_type("cut by the replica"))
    eventually(lambda: syncs(master) == (1, 2), SYNC_TIMEOUT)
    same_data(master, replica)


@each_pair
def test_partial_after_a_restart_of_either(kinds: tuple[Kind, Kind], start: Start) -> None:
    """Both keep their place in the stream in their file; a master takes it up as the history before its own."""
    master, replica = synchronised(start, *kinds)
    for server in (master, replica):
        server.directives["save"] = "900 1"
        server.call("CONFIG", "SET", "save", "900 1")
    replica.directives["replicaof"] = f"127.0.0.1 {master.port}"
    replica.stop()
    run(master, touch_every_type("while the replica was away"))
    replica.restart()
    same_data(master, replica)
    assert syncs(master) == (1, 1)

    run(master, touch_every_type("before the master went"))
    before = master.info("replication")["master_replid"]
    in_step(master, replica)
    master.restart()
    same_data(master, replica)
    assert syncs(master) == (0, 1)
    assert master.info("replication")["master_replid2"] == before


@each_pair
def test_chain(kinds: tuple[Kind, Kind], start: Start) -> None:
    """Three in a row, the kinds alternating; the link in the middle is cut, and the last one does not notice."""
    top, middle = synchronised(start, *kinds)
    bottom = start(kinds[0])
    follow(bottom, middle)
    in_step(top, middle, bottom)
    run(top, [("CLIENT", "KILL", "TYPE", "replica"), *touch_every_type("to the end of the chain")])
    same_data(top, middle, bottom)
    assert syncs(top) == (1, 1)
    assert syncs(middle) == (1, 0)
    assert len({server.info("replication")["master_replid"] for server in (top, middle, bottom)}) == 1


@each_pair
def test_promotion(kinds: tuple[Kind, Kind], start: Start) -> None:
    """The old master and the other replica, one of either kind, go on with the promoted one from where they are."""
    old, promoted, other = synchronised(start, kinds[0], kinds[1], kinds[0])
    run(old, touch_every_type("of the old one"))
    in_step(old, promoted, other)
    promoted.call("REPLICAOF", "NO", "ONE")
    run(promoted, touch_every_type("of the new one"))
    for server in (old, other):
        follow(server, promoted)
    same_data(promoted, old, other)
    assert syncs(promoted) == (0, 2)
