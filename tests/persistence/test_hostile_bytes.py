"""Damaged files and payloads of every type, as the values that a node keeps: RdbError or a load, in bounded memory.

Other modules try each layout by itself; here whole files go through to the values of the keyspace, and what an attempt
allocates is measured. The bound is ten times the input, next to a constant, for whatever the bytes claim: a length, a
count, a size before compression; and for sound collections of every type and layout, however many and small they or
their elements are. There are two exceptions, with a bound in bytes: keys that are an entry of less than fifteen bytes
together with their value, and members of a big sorted set whose scores are text of a byte or two. (Compressed bytes
are measured by what they unpack to, which LZF itself limits.)
Memory is that which tracemalloc sees, in bytes. That nobody hangs is a bound, too: of function calls, by which an
attempt that goes on and on is stopped.
"""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import RdbError
from cluster.keyspace.database import Keyspace
from cluster.persistence import intset, listpack, lzf, ziplist, zipmap
from cluster.persistence.dump_payload import restore
from cluster.persistence.rdb_format import RdbType, encode_length, encode_string
from cluster.persistence.rdb_reader import LoadPolicy, Progress, RdbParser
from cluster.persistence.snapshot import KeyspaceSink
from cluster.settings import Settings
from tests.persistence import compact_samples
from tests.persistence.compact_samples import stored, stream, stream_node
from tests.persistence.rdb_samples import mutations, rdb
from tests.support.costs import counted_calls
from tests.support.real_values import registered

SETTINGS = Settings()
CONSTANT_BYTES = 64 << 10
FACTOR = 10
KEY_BYTES = 150  # A key of a few bytes: an object, its place in a dict that has just grown, and a packed value.
RANKED_BYTES = 110  # A member of a few bytes: an object, its place in the order, and packed with its score.
CONSTANT_CALLS = 2000
CALLS_PER_BYTE = 10

NODE = stream_node((5, 1), [b"f"], [((5, 1), [(b"f", b"1")], False), ((6, 0), [(b"other", b"3" * 50)], False)])
TEXT = b"text of some length, " * 30
BODIES = {
    RdbType.STRING: stored(TEXT),
    RdbType.LIST: b"\x03" + stored(b"a") + stored(TEXT) + stored(b"b"),
    RdbType.LIST_QUICKLIST: b"\x02" + stored(compact_samples.ziplist([TEXT, 5])) * 2,
    RdbType.LIST_QUICKLIST_2: b"\x02\x02" + stored(listpack.encode([TEXT, b"5"])) + b"\x01" + stored(TEXT),
    RdbType.SET: b"\x02" + stored(b"a") + stored(TEXT),
    RdbType.SET_INTSET: stored(intset.encode(range(-70_000, 70_000, 999))),
    RdbType.SET_LISTPACK: stored(listpack.encode([TEXT, b"5"])),
    RdbType.HASH: b"\x01" + stored(b"a") + stored(TEXT),
    RdbType.HASH_ZIPMAP: stored(compact_samples.zipmap([(b"a", TEXT), (b"b", b"c")], 2)),
    RdbType.HASH_LISTPACK: stored(listpack.encode([b"a", TEXT, b"b", b"5"])),
    RdbType.ZSET_2: b"\x01" + stored(TEXT) + bytes(8),
    RdbType.ZSET_LISTPACK: stored(listpack.encode([TEXT, b"1.5", b"b", b"7"])),
    RdbType.STREAM_LISTPACKS_2: stream([NODE], 2, 6, 0, 5, 1, 0, 0, 2),
}
WHOLE_FILE = rdb(
    b"\xfa\x09redis-ver\x067.0.15\xf5" + stored(b"#!lua name=l\n" + TEXT) + b"\xfe\x01\xfb\x40\x10\x02",
    *(b"\xfc" + bytes(7) + b"\x7f" + bytes((code, 2, 65, code)) + body for code, body in BODIES.items()),
)


@pytest.fixture(autouse=True, scope="module")
def real_values() -> Iterator[None]:
    with registered(SETTINGS):
        yield


def attempt(read: Callable[[], object], size: int) -> bool:
    """Whether `read` gives something; RdbError is the only refusal, and `size` the measure of what it may take."""
    tracemalloc.start()
    try:
        with counted_calls(CONSTANT_CALLS + CALLS_PER_BYTE * size):
            read()
        accepted = True
    except RdbError:
        accepted = False
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= CONSTANT_BYTES + FACTOR * size, f"{peak} bytes for {size}"
    return accepted


def load(data: bytes, keyspace: Keyspace) -> Keyspace:
    """As a node loads a file whose checksum somebody has made right."""
    parser = RdbParser(KeyspaceSink(keyspace, lambda *_: None, settings=SETTINGS), LoadPolicy(verify_checksum=False))
    parser.feed(data)
    parser.feed_end()
    assert parser.parse() is Progress.DONE
    return keyspace


def payload(body: bytes) -> bytes:
    return body + (10).to_bytes(2, "little") + bytes(8)


def test_the_samples_are_sound() -> None:
    assert len(load(WHOLE_FILE, Keyspace(16)).databases[1]) == len(BODIES)
    for code, body in BODIES.items():
        assert attempt(lambda code=code, body=body: restore(payload(bytes((code,)) + body), check_crc=False), 1000)


@given(data=mutations(WHOLE_FILE))
def test_a_mutated_file(data: bytes) -> None:
    keyspace = Keyspace(16)  # Its empty tables are not the file's doing.
    attempt(lambda: load(data, keyspace), len(data))


@given(data=st.data(), code=st.sampled_from(sorted(BODIES)))
def test_a_mutated_payload(data: st.DataObject, code: RdbType) -> None:
    body = data.draw(mutations(BODIES[code]))
    attempt(lambda: restore(payload(bytes((code,)) + body), check_crc=False), len(body))


claims = st.one_of(
    st.sampled_from([2**14, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1]).map(encode_length),
    st.integers(0, 2**64 - 1).map(encode_length),
    st.sampled_from([b"\xc0", b"\xc1", b"\xc2", b"\xc4", b"\xff\xff\xff\xff", b"\xff\xff"]),
    st.sampled_from([2**20, 2**40]).map(lambda length: b"\xc3\x02" + encode_length(length)),
)


@given(code=st.sampled_from(sorted(BODIES)), claim=claims, choice=st.randoms(use_true_random=False))
def test_a_length_that_claims_too_much(code: RdbType, claim: bytes, choice: random.Random) -> None:
    body = BODIES[code]
    position = choice.randrange(min(40, len(body)))
    data = bytes((code,)) + body[:position] + claim + body[position + choice.choice((0, 1, len(claim))) :]
    attempt(lambda: restore(payload(data), check_crc=False), len(data))


@given(code=st.sampled_from(list(RdbType)), data=st.binary(max_size=300))
def test_random_payloads_of_a_known_type(code: RdbType, data: bytes) -> None:
    attempt(lambda: restore(payload(bytes((code,)) + data), check_crc=False), len(data))


@given(data=st.binary(max_size=400), length=st.integers(0, 2**64))
def test_lzf_unpacks_to_no_more_than_its_bytes_can_say(data: bytes, length: int) -> None:
    attempt(lambda: lzf.decompress(data, length), min(length, lzf.MAX_EXPANSION * len(data)))


@pytest.mark.parametrize("decode", [listpack.decode, ziplist.decode, intset.decode, zipmap.decode])
@settings(max_examples=50)
@given(head=st.binary(max_size=12), filler=st.binary(min_size=1, max_size=3), size=st.integers(0, 30_000))
def test_long_nonsense_for_the_compact_layouts(
    decode: Callable[[bytes], object], head: bytes, filler: bytes, size: int
) -> None:
    data = head + filler * (size // len(filler)) + b"\xff"
    attempt(lambda: decode(data), len(data))


NUMBERS = [encode_string(b"%d" % number, compress=False) for number in range(20_000)]
SMALL = [b"%d" % (1000 + number % 3000) for number in range(20_000)]
LETTERS = [bytes((97 + number % 26, 97 + number // 26 % 26)) for number in range(20_000)]
WORDS = [bytes((97 + number // 676 % 26, 97 + number // 26 % 26, 97 + number % 26)) for number in range(17_576)]
COUPLES = [text for word in WORDS for text in (word, b"1")]
BIG = {
    "intset": (RdbType.SET_INTSET, stored(intset.encode(range(-10_000, 10_000)))),
    "list": (RdbType.LIST, encode_length(20_000) + b"".join(NUMBERS)),
    "list ziplist": (RdbType.LIST_ZIPLIST, stored(compact_samples.ziplist([int(text) for text in SMALL]))),
    **{
        f"list listpack {name}": (RdbType.LIST_QUICKLIST_2, b"\x01\x02" + stored(listpack.encode(texts)))
        for name, texts in (
            ("digits", [b"%d" % (number % 100) for number in range(20_000)]),
            ("13 bits", SMALL),
            ("16 bits", [b"%d" % (10_000 + number) for number in range(20_000)]),
            ("letters", LETTERS),
        )
    },
    "set": (RdbType.SET, encode_length(20_000) + b"".join(NUMBERS)),
    "set words": (RdbType.SET, encode_length(len(WORDS)) + b"".join(map(stored, WORDS))),
    "set listpack": (RdbType.SET_LISTPACK, stored(listpack.encode(WORDS))),
    "hash": (RdbType.HASH, encode_length(10_000) + b"".join(NUMBERS)),
    "hash of nothing": (RdbType.HASH, encode_length(20_000) + b"".join(number + b"\0" for number in NUMBERS)),
    "hash listpack": (RdbType.HASH_LISTPACK, stored(listpack.encode(COUPLES))),
    "hash ziplist": (RdbType.HASH_ZIPLIST, stored(compact_samples.ziplist(COUPLES))),
    "hash zipmap": (RdbType.HASH_ZIPMAP, stored(compact_samples.zipmap([(word, b"1") for word in WORDS]))),
    "zset": (
        RdbType.ZSET_2,
        encode_length(20_000) + b"".join(number + struct.pack("<d", place) for place, number in enumerate(NUMBERS)),
    ),
    "zset one score": (RdbType.ZSET_2, encode_length(len(WORDS)) + b"".join(stored(word) + bytes(8) for word in WORDS)),
}


@pytest.mark.parametrize("name", BIG)
def test_a_big_collection_of_tiny_elements_is_packed_as_it_comes(name: str) -> None:
    code, body = BIG[name]
    data = payload(bytes((code,)) + body)
    restore(data, check_crc=False)  # The texts of small integers, which all share, are there from now on.
    assert attempt(lambda: restore(data, check_crc=False), len(data))


RANKED = {
    "text": (
        RdbType.ZSET,
        encode_length(len(WORDS)) + b"".join(stored(word) + b"\x011" for word in WORDS),
    ),
    "listpack": (RdbType.ZSET_LISTPACK, stored(listpack.encode(COUPLES))),
}


@pytest.mark.parametrize("name", RANKED)
def test_a_place_in_an_order_costs_an_object_and_no_more(name: str) -> None:
    """Scores that take a byte or two: as no server since Redis 4 writes them for so many members."""
    code, body = RANKED[name]
    data = payload(bytes((code,)) + body)
    restore(data, check_crc=False)
    assert attempt(lambda: restore(data, check_crc=False), len(WORDS) * RANKED_BYTES // FACTOR)


def _small(code: int, body: Callable[[int], bytes], count: int = 5000) -> bytes:
    return rdb(*(bytes((code,)) + stored(WORDS[number]) + body(number) for number in range(count)))


def _packed(*texts: bytes) -> bytes:
    return stored(listpack.encode(texts))


SMALL_COLLECTIONS = {
    "list of one": _small(RdbType.LIST_QUICKLIST_2, lambda n: b"\x01\x02" + _packed(b"1")),
    "list": _small(RdbType.LIST_QUICKLIST_2, lambda n: b"\x01\x02" + _packed(*LETTERS[n : n + 5])),
    "old list": _small(RdbType.LIST_ZIPLIST, lambda n: stored(compact_samples.ziplist([1, n]))),
    "hash of one": _small(RdbType.HASH_LISTPACK, lambda n: _packed(b"f", b"1")),
    "hashes of the same fields": _small(RdbType.HASH_LISTPACK, lambda n: _packed(b"f", LETTERS[n], b"g", b"1")),
    "hashes of different fields": _small(RdbType.HASH_LISTPACK, lambda n: _packed(WORDS[n], b"1", LETTERS[n], b"2")),
    "hash of many": _small(RdbType.HASH_LISTPACK, lambda n: _packed(*COUPLES[2 * n : 2 * n + 800]), 100),
    "hash one by one": _small(RdbType.HASH, lambda n: b"\x05" + b"".join(map(stored, WORDS[n : n + 10]))),
    "zset of one": _small(RdbType.ZSET_LISTPACK, lambda n: _packed(b"m", b"1")),
    "zset": _small(RdbType.ZSET_LISTPACK, lambda n: _packed(WORDS[n], b"1", LETTERS[n], b"2")),
    "set of three": _small(RdbType.SET, lambda n: b"\x03" + b"".join(map(stored, LETTERS[n : n + 3]))),
    "set": _small(RdbType.SET, lambda n: b"\x14" + b"".join(map(stored, WORDS[n : n + 20]))),
    "intset": _small(RdbType.SET_INTSET, lambda n: stored(intset.encode([1, n + 2]))),
    "strings of twelve": _small(RdbType.STRING, lambda n: stored(b"%012d" % n)),
}


@pytest.mark.parametrize("name", SMALL_COLLECTIONS)
def test_small_collections_stay_packed(name: str) -> None:
    data = SMALL_COLLECTIONS[name]
    load(data, Keyspace(1, slots_per_table=32))
    keyspace = Keyspace(1, slots_per_table=32)
    assert attempt(lambda: load(data, keyspace), len(data))


TINY = {
    "empty string": (RdbType.STRING, b"\0"),
    "string of one": (RdbType.STRING, stored(b"x")),
    "string of two": (RdbType.STRING, stored(b"xy")),
    "set of one": (RdbType.SET, b"\x01" + stored(b"x")),
    "set of two": (RdbType.SET, b"\x02" + stored(b"xy") + stored(b"z")),
}


@pytest.mark.parametrize("name", TINY)
def test_a_key_costs_two_objects_and_a_place_and_no_more(name: str) -> None:
    """What may be too small for the rule, although it is sound: a key with a value of very few bytes."""
    code, body = TINY[name]
    data = _small(code, lambda _number: body, len(WORDS))
    keyspace = Keyspace(1, slots_per_table=32)
    assert attempt(lambda: load(data, keyspace), len(WORDS) * KEY_BYTES // FACTOR)
