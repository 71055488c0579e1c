"""What a key takes: the growth of the resident set while many keys of one kind are stored."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from benchmarks.figures import Progress, Samples, Section, at_most_share
from tests.support.servers import KINDS, Kind, Server
from tests.support.wire import ReplyError, encode

ORDER: tuple[Kind, Kind] = ("ours", "real")
STRINGS = 500_000
HASHES = 50_000
FIELDS = 10
SETTLE_SECONDS = 1.0
PIPELINE = 1000
STRING_SHARE, HASH_SHARE = 1.5, 2.5


def measure(scale: float, progress: Progress) -> Section:
    """Fill a fresh server of each kind with strings, another one with hashes."""
    strings = f"bytes per string of 64 bytes ({int(STRINGS * scale):,})"
    hashes = f"bytes per hash of {FIELDS} fields ({int(HASHES * scale):,})"
    sizes: dict[tuple[str, Kind], list[float]] = defaultdict(list)
    fillings: dict[str, Callable[[], Iterator[bytes]]] = {
        strings: lambda: string_requests(int(STRINGS * scale)),
        hashes: lambda: hash_requests(int(HASHES * scale)),
    }
    for name, requests in fillings.items():
        for kind in ORDER:
            sizes[name, kind].append(bytes_per_key(kind, requests()))
        progress(f"{name}: " + ", ".join(f"{kind} {sizes[name, kind][-1]:.0f}" for kind in ORDER))
    return Section(
        title="Memory per key",
        unit="bytes",
        form=".0f",
        rows=[
            at_most_share(name, Samples(sizes[name, "ours"]), Samples(sizes[name, "real"]), share)
            for name, share in ((strings, STRING_SHARE), (hashes, HASH_SHARE))
        ],
        command="VmRSS after filling a fresh node without cluster mode, less VmRSS before, by the number of keys",
        remark="Keys of 16 bytes; fields of 7 bytes with values of 16.",
    )


def string_requests(count: int) -> Iterator[bytes]:
    for number in range(count):
        yield encode("SET", b"key:%012d" % number, b"%064d" % number)


def hash_requests(count: int) -> Iterator[bytes]:
    for number in range(count):
        words = [word for field in range(FIELDS) for word in (b"field:%d" % field, b"%016d" % (number + field))]
        yield encode("HSET", b"key:%012d" % number, *words)


def bytes_per_key(kind: Kind, requests: Iterator[bytes]) -> float:
    with KINDS[kind]() as server:
        time.sleep(SETTLE_SECONDS)  # Nothing to wait for: what is done after the start is to be over.
        before = server.resident_bytes()
        count = store(server, requests)
        time.sleep(SETTLE_SECONDS)
        return (server.resident_bytes() - before) / count


def store(server: Server, requests: Iterable[bytes]) -> int:
    """Send the requests in pipelines; returns how many there were."""
    count = 0
    with server.raw(timeout=60) as client:
        for batch in batches(requests):
            client.sendall(b"".join(batch))
            for _ in batch:
                reply = client.reply()
                assert not isinstance(reply, ReplyError), reply
            count += len(batch)
    return count


def batches(requests: Iterable[bytes]) -> Iterator[list[bytes]]:
    iterator = iter(requests)
    while batch := list(islice(iterator, PIPELINE)):
        yield batch
