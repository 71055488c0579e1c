"""Saving, loading, synchronising and rewriting one data set of all types: seconds, and memory at the peak."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

from benchmarks.figures import Progress, Row, Samples, Section
from benchmarks.memory_watch import MemoryWatch, status_bytes
from benchmarks.mixed_keys import KEYS, fill
from tests.support.servers import KINDS, Kind, Server
from tests.support.waiting import eventually
from tests.support.wire import ReplyError

ORDER: tuple[Kind, Kind] = ("ours", "real")
GIVE_UP_SECONDS = 600.0
POLL_SECONDS = 0.02
MEGABYTE = 1 << 20


@attrs.frozen
class Cost:
    """What an operation took."""

    seconds: float
    peak_bytes: int


@attrs.frozen
class Operation:
    """Something that goes through the whole data set, and what its duration depends on."""

    name: str
    run: Callable[[Server], Cost]
    bound: str


def measure(scale: float, progress: Progress) -> Section:
    """One server of each kind is filled and goes through all operations."""
    keys = int(KEYS * scale)
    costs: dict[tuple[str, Kind], Cost] = {}
    for kind in ORDER:
        with KINDS[kind]() as server:
            fill(server, keys)
            progress(f"{kind}: {keys:,} keys are stored")
            for operation in OPERATIONS:
                cost = costs[operation.name, kind] = operation.run(server)
                progress(f"{kind}: {operation.name}: {cost.seconds:.2f} s, {cost.peak_bytes / MEGABYTE:.0f} MB")
    return Section(
        title="Persistence and full synchronisation",
        unit="s",
        form=".2f",
        rows=[row(operation, costs[operation.name, "ours"], costs[operation.name, "real"]) for operation in OPERATIONS],
        command="each operation once, on a node without cluster mode that nobody else uses",
        remark=(
            f"{keys:,} mixed keys: half strings, hashes, lists, sets, sorted sets, some streams. Memory is the growth "
            "of VmHWM over VmRSS at the beginning, and what a child shares with nobody at most; for a load all of the "
            "new process, for a full synchronisation the sum of master, child and replica. Both servers look for the "
            "end of a child from time to time (redis-server every 100 ms)."
        ),
        note_titles=["peak MB, ours / redis-server", "ratio of the peaks", "bounded by"],
    )


def row(operation: Operation, ours: Cost, real: Cost) -> Row:
    megabytes = [cost.peak_bytes / MEGABYTE for cost in (ours, real)]
    ratio = f"{megabytes[0] / megabytes[1]:.2f}" if megabytes[1] >= 1 else "–"
    notes = [f"{megabytes[0]:.0f} / {megabytes[1]:.0f}", ratio, operation.bound]
    return Row(operation.name, Samples([ours.seconds]), Samples([real.seconds]), notes=notes)


def measured(work: Callable[[], object], *servers: Server) -> Cost:
    with MemoryWatch(*servers) as watch:
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
    return Cost(seconds, watch.growth_bytes)


def poll(condition: Callable[[], bool], message: str) -> None:
    eventually(condition, GIVE_UP_SECONDS, interval=POLL_SECONDS, message=message, ignore=(ConnectionError,))


def save(server: Server) -> Cost:
    with server.raw(timeout=GIVE_UP_SECONDS) as client:
        return measured(lambda: client.call("SAVE"), server)


def background_save(server: Server) -> Cost:
    cost = measured(lambda: until_saved(server), server)
    assert server.info("persistence")["rdb_last_bgsave_status"] == "ok", server.log_text()
    return cost


def until_saved(server: Server) -> None:
    server.call("BGSAVE")
    poll(lambda: not_saving(server), "BGSAVE to end")


def not_saving(server: Server) -> bool:
    return server.info("persistence")["rdb_bgsave_in_progress"] == "0"


def load(server: Server) -> Cost:
    """From exec to the first reply that is not LOADING, on the file that BGSAVE has left."""
    keys = server.call("DBSIZE")
    server.kill9()
    began = time.perf_counter()
    server.start(wait=False)
    poll(lambda: is_ready(server), "the data set to be loaded")
    seconds = time.perf_counter() - began
    assert server.call("DBSIZE") == keys, server.log_text()
    return Cost(seconds, status_bytes(server.pid, "VmHWM"))


def is_ready(server: Server) -> bool:
    with server.raw(timeout=GIVE_UP_SECONDS) as client:
        return not isinstance(client.ask("PING"), ReplyError)


def full_sync(server: Server, *, diskless: bool) -> Cost:
    """From REPLICAOF on an empty replica of the same kind to a link that is up."""
    server.call("CONFIG", "SET", "repl-diskless-sync", "yes" if diskless else "no")
    loading = "on-empty-db" if diskless else "disabled"
    with KINDS[server.kind](repl_diskless_load=loading) as replica:

        def synchronise() -> None:
            replica.call("REPLICAOF", "127.0.0.1", server.port)
            poll(lambda: replica.info("replication")["master_link_status"] == "up", "the replica to be in sync")

        cost = measured(synchronise, server, replica)
        assert replica.call("DBSIZE") == server.call("DBSIZE"), replica.log_text()
        return cost


def rewrite(server: Server, *, preamble: bool) -> Cost:
    server.call("CONFIG", "SET", "aof-use-rdb-preamble", "yes" if preamble else "no")
    cost = measured(lambda: until_rewritten(server), server)
    assert server.info("persistence")["aof_last_bgrewrite_status"] == "ok", server.log_text()
    return cost


def until_rewritten(server: Server) -> None:
    server.call("BGREWRITEAOF")
    poll(lambda: server.info("persistence")["aof_rewrite_in_progress"] == "0", "BGREWRITEAOF to end")


OPERATIONS = (
    Operation("SAVE", save, "laying out every value; of the plain build two thirds are LZF (rdbcompression)"),
    Operation("BGSAVE", background_save, "as SAVE, and copies of the pages in which objects are counted"),
    Operation(
        "full synchronisation, diskless",
        lambda server: full_sync(server, diskless=True),
        "saving (see SAVE); loading overlaps it and is faster",
    ),
    Operation(
        "full synchronisation, by files",
        lambda server: full_sync(server, diskless=False),
        "saving, then loading: nothing overlaps",
    ),
    Operation(
        "BGREWRITEAOF, RDB preamble", lambda server: rewrite(server, preamble=True), "as BGSAVE: the same writer"
    ),
    Operation(
        "BGREWRITEAOF, commands only",
        lambda server: rewrite(server, preamble=False),
        "formatting a word per element; nothing is compressed",
    ),
    Operation("load at start", load, "checking every element, and an object for each key"),
    Operation(
        "BGSAVE of what was loaded", background_save, "small collections that nobody used are written as they came"
    ),
)
"""In this order: what a load leaves behind is packed, so the others come before it."""
