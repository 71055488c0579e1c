"""What a node costs before it does anything: the time to its first PONG, and its memory when idle."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import defaultdict

from benchmarks.figures import Progress, Samples, Section, at_most
from tests.support.servers import KINDS, Kind, Server

FIRST_PONG_SECONDS = 0.5
IDLE_MEGABYTES = 40.0
SETTLE_SECONDS = 3.0
GIVE_UP_SECONDS = 20.0
ORDER: tuple[Kind, Kind] = ("ours", "real")


def measure_start(repetitions: int, progress: Progress) -> Section:
    """exec to first PONG, in cluster mode, in turn."""
    times: dict[Kind, list[float]] = defaultdict(list)
    for repetition in range(repetitions):
        for kind in ORDER if repetition % 2 == 0 else ORDER[::-1]:
            times[kind].append(first_pong(KINDS[kind](cluster=True)))
        last = ", ".join(f"{kind} {times[kind][-1] * 1000:.0f} ms" for kind in ORDER)
        progress(f"{repetition + 1}/{repetitions}  exec to first PONG: {last}")
    return Section(
        title="Start-up",
        unit="s",
        form=".3f",
        rows=[
            at_most("exec to first PONG", Samples(times["ours"]), Samples(times["real"]), FIRST_PONG_SECONDS, "0.5 s")
        ],
        command="a configuration with cluster-enabled yes, an empty directory",
        remark=f"{repetitions} starts of each; byte code is compiled before the first.",
    )


def first_pong(server: Server) -> float:
    """Start `server`, ask again every millisecond, and stop it."""
    with contextlib.closing(server):
        port = server.port  # Leased here, so that the look for a free one is not timed.
        began = time.perf_counter()
        server.start(wait=False)
        while time.perf_counter() - began < GIVE_UP_SECONDS:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=GIVE_UP_SECONDS) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64) == b"+PONG\r\n":
                        return time.perf_counter() - began
            except ConnectionError:
                pass
            time.sleep(0.001)
        raise TimeoutError(f"{server} did not answer:\n{server.log_text()}")


def measure_memory(repetitions: int, progress: Progress) -> Section:
    """Resident memory of a node in cluster mode that nobody talks to."""
    sizes: dict[Kind, list[float]] = defaultdict(list)
    for repetition in range(repetitions):
        with KINDS["ours"](cluster=True) as ours, KINDS["real"](cluster=True) as real:
            time.sleep(SETTLE_SECONDS)  # Nothing to wait for: this is what idle means.
            for server in (ours, real):
                sizes[server.kind].append(server.resident_bytes() / 2**20)
        last = ", ".join(f"{kind} {sizes[kind][-1]:.1f} MB" for kind in ORDER)
        progress(f"{repetition + 1}/{repetitions}  idle node: {last}")
    return Section(
        title="Memory",
        unit="MB",
        form=".1f",
        rows=[
            at_most("resident memory, idle", Samples(sizes["ours"]), Samples(sizes["real"]), IDLE_MEGABYTES, "40 MB")
        ],
        command=f"VmRSS of a node in cluster mode {SETTLE_SECONDS:.0f} seconds after its start",
    )
