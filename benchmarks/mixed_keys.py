"""A data set of all types, as one stream of requests that is the same for every server.

Of twenty keys ten are strings, four hashes, two lists, two sets and two sorted sets; a few are streams, and one key in
eighteen thousand is a collection of a thousand elements. Every twentieth key expires, in a day.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from benchmarks.key_memory import store
from tests.support.servers import Server
from tests.support.wire import Argument, encode

KEYS = 1_000_000
SEED = 7
ELEMENTS = 5
BIG_ELEMENTS = 1000
BIG_EVERY = 9_001
FIRST_COLLECTION = 10
STREAM_EVERY = 500
STREAM_ENTRIES = 4
DAY_SECONDS = 86_400

Words = Callable[[random.Random, bytes, int], list[Argument]]


def fill(server: Server, count: int) -> None:
    """Store `count` keys, in pipelines."""
    store(server, requests(count))
    assert server.call("DBSIZE") == count


def requests(count: int) -> Iterator[bytes]:
    """One string of bytes per request."""
    chance = random.Random(SEED)
    for number in range(count):
        key = b"key:%08d" % number
        if number % STREAM_EVERY == 0:
            for entry in range(1, STREAM_ENTRIES + 1):
                yield encode("XADD", key, b"%d-1" % entry, "sensor", number % 97, "reading", entry)
        else:
            # BIG_EVERY and the number of kinds have no common divisor: all kinds get their turn.
            size = BIG_ELEMENTS if number % BIG_EVERY == FIRST_COLLECTION else ELEMENTS
            yield encode(*KINDS[number % len(KINDS)](chance, key, size))


def random_text(chance: random.Random, size_bytes: int) -> bytes:
    """Text that does not compress."""
    return chance.randbytes(size_bytes // 2).hex().encode()


def string(chance: random.Random, key: bytes, _size: int) -> list[Argument]:
    return ["SET", key, random_text(chance, chance.randrange(8, 96))]


def expiring_string(chance: random.Random, key: bytes, size: int) -> list[Argument]:
    return [*string(chance, key, size), "EX", DAY_SECONDS]


def number(chance: random.Random, key: bytes, _size: int) -> list[Argument]:
    return ["SET", key, chance.randrange(1 << 31)]


def record(chance: random.Random, key: bytes, _size: int) -> list[Argument]:
    """A string that repeats itself as JSON does, so that rdbcompression has something to do."""
    parts = [b'{"name": "item", "value": %d}' % chance.randrange(1000) for _ in range(4)]
    return ["SET", key, b"[" + b", ".join(parts) + b"]"]


def hash_(chance: random.Random, key: bytes, size: int) -> list[Argument]:
    words: list[Argument] = ["HSET", key]
    for field in range(size):
        words += [b"field:%d" % field, random_text(chance, 16)]
    return words


def list_(chance: random.Random, key: bytes, size: int) -> list[Argument]:
    return ["RPUSH", key, *[random_text(chance, 12) for _ in range(size)]]


def set_(chance: random.Random, key: bytes, size: int) -> list[Argument]:
    return ["SADD", key, *[random_text(chance, 12) for _ in range(size)]]


def set_of_integers(chance: random.Random, key: bytes, size: int) -> list[Argument]:
    return ["SADD", key, *[chance.randrange(1 << 20) for _ in range(size)]]


def sorted_set(chance: random.Random, key: bytes, size: int) -> list[Argument]:
    words: list[Argument] = ["ZADD", key]
    for member in range(size):
        words += [chance.randrange(10_000), b"member:%d" % member]
    return words


KINDS: tuple[Words, ...] = (
    *[string] * 7,
    number,
    record,
    expiring_string,
    *[hash_] * 4,
    *[list_] * 2,
    set_,
    set_of_integers,
    *[sorted_set] * 2,
)
