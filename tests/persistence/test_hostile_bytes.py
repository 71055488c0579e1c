"""Damaged files and payloads of every type, as the values that a node keeps: RdbError or a load, in bounded memory.

Other modules try each layout by itself; here whole files go through to the values of the keyspace, and what an attempt
allocates is measured. The bound is ten times the input, next to a constant, for whatever the bytes claim: a length, a
count, a size before compression; and for strings, streams, lists and intsets however small their elements are. Sound
hashes, sorted sets and other sets of tiny elements take more, because each element becomes an object; for those the
bound is a number of bytes per element. (Compressed bytes are measured by what they unpack to, which LZF
itself limits.)
Memory is that which tracemalloc sees, in bytes. That nobody hangs is a bound, too: of function calls, by which an
attempt that goes on and on is stopped.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import RdbError
from cluster.keyspace.database import Keyspace
from cluster.persistence import intset, listpack, lzf, rdb_values, rdb_writer, ziplist, zipmap
from cluster.persistence.collection_types import register_collections
from cluster.persistence.dump_payload import restore
from cluster.persistence.rdb_format import RdbType, encode_length
from cluster.persistence.rdb_reader import LoadPolicy, Progress, RdbParser
from cluster.persistence.snapshot import KeyspaceSink
from cluster.settings import Settings
from tests.persistence import compact_samples
from tests.persistence.compact_samples import stored, stream, stream_node
from tests.persistence.rdb_samples import mutations, rdb
from tests.support.costs import counted_calls

CONSTANT_BYTES = 64 << 10
FACTOR = 10
ELEMENT_BYTES = 200  # A set's member while it loads, in the list, the check for duplicates and the table.
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
    factories, encoders = dict(rdb_values.FACTORIES), dict(rdb_writer.ENCODERS)
    register_collections(Settings())
    yield
    for table, before in ((rdb_values.FACTORIES, factories), (rdb_writer.ENCODERS, encoders)):
        table.clear()
        table.update(before)  # type: ignore[arg-type]


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
    parser = RdbParser(KeyspaceSink(keyspace, lambda *_: None), LoadPolicy(verify_checksum=False))
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


NUMBERS = [stored(b"%d" % number) for number in range(20_000)]
SMALL = [b"%d" % (1000 + number % 3000) for number in range(20_000)]
LETTERS = [bytes((97 + number % 26, 97 + number // 26 % 26)) for number in range(20_000)]
DENSE = {
    RdbType.SET: encode_length(20_000) + b"".join(NUMBERS),
    RdbType.HASH: encode_length(10_000) + b"".join(NUMBERS),
    RdbType.ZSET_2: encode_length(10_000) + b"".join(number + bytes(8) for number in NUMBERS[:10_000]),
}


PACKED = {
    "intset": (RdbType.SET_INTSET, stored(intset.encode(range(-10_000, 10_000)))),
    "list": (RdbType.LIST, encode_length(20_000) + b"".join(NUMBERS)),
    "ziplist": (RdbType.LIST_ZIPLIST, stored(compact_samples.ziplist([int(text) for text in SMALL]))),
    **{
        f"listpack {name}": (RdbType.LIST_QUICKLIST_2, b"\x01\x02" + stored(listpack.encode(texts)))
        for name, texts in (
            ("digits", [b"%d" % (number % 100) for number in range(20_000)]),
            ("13 bits", SMALL),
            ("16 bits", [b"%d" % (10_000 + number) for number in range(20_000)]),
            ("letters", LETTERS),
        )
    },
}


@pytest.mark.parametrize("name", PACKED)
def test_lists_and_intsets_of_tiny_elements_are_packed_as_they_come(name: str) -> None:
    code, body = PACKED[name]
    data = payload(bytes((code,)) + body)
    restore(data, check_crc=False)  # The texts of small integers, which all share, are there from now on.
    assert attempt(lambda: restore(data, check_crc=False), len(data))


@pytest.mark.parametrize("code", DENSE)
def test_tiny_elements_cost_an_object_each_and_no_more(code: RdbType) -> None:
    data = payload(bytes((code,)) + DENSE[code])
    assert attempt(lambda: restore(data, check_crc=False), 20_000 * ELEMENT_BYTES // FACTOR)
