"""The RDB format: what is written is read again, in any slices; what is damaged is an RdbError and nothing else."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import RdbError
from cluster.persistence import rdb_reader
from cluster.persistence.rdb_cursor import Cursor, ShortRead
from cluster.persistence.rdb_format import encode_length, encode_string, module_type_name
from cluster.persistence.rdb_reader import LoadPolicy, Progress, RdbParser, describe_aux
from cluster.persistence.rdb_values import read_value
from cluster.persistence.rdb_writer import CHUNK_BYTES, RdbWriter
from tests.persistence.rdb_samples import (
    Collector,
    Entry,
    entries,
    every_kind_loadable,
    mutations,
    parse,
    parse_error,
    rdb,
    texts,
    written,
)


def as_loaded(entry: Entry) -> Entry:
    database, key, value, *rest = entry
    text = b"%d" % value if isinstance(value, int) else bytes(value)
    return (database, key, text, *rest)  # type: ignore[return-value]


# Primitives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, "00"),
        (63, "3f"),
        (64, "4040"),
        (16383, "7fff"),
        (16384, "8000004000"),
        (0xFFFFFFFF, "80ffffffff"),
        (0x100000000, "810000000100000000"),
        (2**64 - 1, "81ffffffffffffffff"),
    ],
)
def test_lengths(number: int, encoded: str) -> None:
    assert encode_length(number).hex() == encoded
    assert Cursor(bytes.fromhex(encoded)).length() == number


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        (b"0", "c000"),
        (b"-128", "c080"),
        (b"128", "c18000"),
        (b"-32768", "c10080"),
        (b"32768", "c200800000"),
        (b"-2147483648", "c200000080"),
        (b"2147483647", "c2ffffff7f"),
        (b"2147483648", "0a32313437343833363438"),
        (b"-0", "022d30"),
        (b"007", "03303037"),
        (b"+1", "022b31"),
        (b"1_0", "03315f30"),
        (b"", "00"),
        (b"-", "012d"),
    ],
)
def test_integers_are_recognised_as_redis_recognises_them(text: bytes, encoded: str) -> None:
    assert encode_string(text, compress=True).hex() == encoded
    assert Cursor(bytes.fromhex(encoded)).string() == text


@given(texts, st.booleans())
def test_any_string_round_trips(text: bytes, compress: bool) -> None:
    encoded = encode_string(text, compress=compress)
    cursor = Cursor(encoded)
    assert cursor.string() == text
    assert cursor.position == len(encoded)
    assert len(encoded) <= len(text) + 5


@given(st.binary(max_size=60))
def test_the_primitives_of_random_bytes_are_values_or_errors(data: bytes) -> None:
    for method in ("length", "string", "double", "text_double", "milliseconds", "skip_module_data", "byte"):
        cursor = Cursor(data)
        try:
            getattr(cursor, method)()
        except (RdbError, ShortRead):
            pass
        assert cursor.position <= len(data)


def test_the_letters_of_a_module_type() -> None:
    """The first character is the most significant one; ten bits of version follow."""
    number = 0
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for letter in "test_type":
        number = number << 6 | alphabet.index(letter)
    assert module_type_name(number << 10 | 5) == "test_type"


# Files --------------------------------------------------------------------------------------------------------


@given(st.lists(entries, max_size=20), st.booleans(), st.booleans())
def test_what_is_written_is_read(given_entries: list[Entry], compress: bool, checksum: bool) -> None:
    data = written(given_entries, compress=compress, checksum=checksum)

    sink, parser = parse(data)

    assert sink.entries == [as_loaded(entry) for entry in given_entries]
    assert parser.counts.keys_loaded == len(given_entries)
    assert parser.offset == len(data)
    assert ("warning" in dict(sink.lines)) is not checksum


@given(st.lists(entries, max_size=8), st.data())
def test_slices_make_no_difference(given_entries: list[Entry], data: st.DataObject) -> None:
    """Fed in any pieces, and paused after any number of keys, the same keys come out."""
    whole = written(given_entries) + b"tail"
    expected, _parser = parse(whole)
    sink = Collector()
    parser = RdbParser(sink, LoadPolicy(total_bytes=len(whole)))
    position = 0
    while True:
        match parser.parse(data.draw(st.none() | st.integers(1, 3))):
            case Progress.DONE:
                break
            case Progress.NEED_DATA:
                assert position < len(whole)
                size = data.draw(st.integers(1, 50))
                parser.feed(whole[position : position + size])
                position += size
                if position >= len(whole):
                    parser.feed_end()
            case Progress.PAUSED:
                pass

    assert sink.entries == expected.entries
    assert parser.leftover() + whole[position:] == b"tail"


def test_one_byte_at_a_time_stays_linear() -> None:
    """A value that arrives in tiny pieces is not decoded anew for every piece."""
    data = rdb(b"\x00\x01k" + encode_length(200_000) + b"x" * 200_000)
    sink = Collector()
    parser = RdbParser(sink)
    for position in range(len(data)):
        parser.feed(data[position : position + 1])
        parser.parse()
    assert parser.done
    assert sink.entries == [(0, b"k", b"x" * 200_000, None, None, None)]


def test_a_collection_that_arrives_in_pieces_is_decoded_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not known how long a set is before its end, so each attempt waits for twice the bytes of the last."""
    attempts = 0

    def counting(code: int, cursor: Cursor, *rest: object) -> object:
        nonlocal attempts
        attempts += 1
        return read_value(code, cursor)

    monkeypatch.setattr(rdb_reader, "read_value", counting)
    members = [b"member:%d" % number for number in range(5000)]
    data = rdb(b"\x02\x01k" + encode_length(len(members)) + b"".join(encode_string(m, compress=False) for m in members))
    sink = Collector()
    parser = RdbParser(sink)
    with every_kind_loadable():
        for position in range(0, len(data), 20):
            parser.feed(data[position : position + 20])
            parser.parse()
        parser.feed_end()
        parser.parse()

    [(database, key, value, *rest)] = sink.entries
    assert (database, key, sorted(value), *rest) == (0, b"k", sorted(members), None, None, None)
    assert attempts <= 14


def test_a_known_size_ends_the_wait_without_being_told() -> None:
    """Without it, the attempt after half of the set would wait for more bytes than the file has."""
    members = [b"%03dx" % number for number in range(100)]
    data = rdb(b"\x02\x01k\x40\x64" + b"".join(encode_string(member, compress=False) for member in members))
    parser = RdbParser(Collector(), LoadPolicy(total_bytes=len(data)))
    with every_kind_loadable():
        for position in range(len(data)):
            parser.feed(data[position : position + 1])
            parser.parse()
    assert parser.done


def test_what_follows_the_end_is_left_alone_even_if_it_looks_like_a_key() -> None:
    """An AOF tail, or an end mark, may begin with any byte."""
    sink, parser = parse(rdb(b"\x00\x01k\x01v") + b"\x00\x01x\x01y" * 3)
    assert [entry[1] for entry in sink.entries] == [b"k"]
    assert parser.leftover() == b"\x00\x01x\x01y" * 3


def test_output_comes_in_chunks_and_a_large_value_is_not_copied_into_one() -> None:
    chunks: list[bytes] = []
    writer = RdbWriter(chunks.append)
    writer.select(0, 3, 0)
    large = b"\xffabc" * 100_000
    for number in range(20_000):
        writer.entry(b"key:%d" % number, b"v" * 20)
    writer.compress_up_to = 0
    writer.entry(b"large", large)
    writer.finish()

    sink, _parser = parse(b"".join(chunks))
    assert len(sink.entries) == 20_001
    assert any(chunk is large for chunk in chunks)
    assert max(len(chunk) for chunk in chunks if chunk is not large) < CHUNK_BYTES + 100
    assert writer.bytes_written == sum(map(len, chunks))


def test_every_opcode_is_understood() -> None:
    module_id = (1 << 63) | 3
    data = rdb(
        b"\xfa\x07unknown\x01x",  # AUX nobody knows
        b"\xfa\x05%info\x04text",
        b"\xf7" + encode_length(module_id) + b"\x02\x01",  # MODULE_AUX, when=1
        b"\x01\x05\x02\x06\x03abcd\x0412345678\x05\x03str\x00",  # one field of each kind, end
        b"\xf5\x10#!lua name=l\n---",  # FUNCTION2
        b"\xf6\x01n\x03lua\x01\x04desc\x05code!",  # FUNCTION with a description
        b"\xfe\x09\xfb\x02\x01",  # SELECTDB 9, RESIZEDB 2 1
        b"\xfd\x01\x00\x00\x00" + b"\x00\x01a\x01A",  # EXPIRETIME 1 s
        b"\xfc" + (5000).to_bytes(8, "little") + b"\xf8\x40\x64" + b"\x00\x01b\x01B",  # EXPIRETIME_MS, IDLE 100
        b"\xf9\x07" + b"\x00\x01c\x01C",  # FREQ 7
        b"\x00\x01d\x01D",
    )

    sink, parser = parse(data)

    assert sink.entries == [
        (9, b"a", b"A", 1000, None, None),
        (9, b"b", b"B", 5000, 100, None),
        (9, b"c", b"C", None, None, 7),
        (9, b"d", b"D", None, None, None),
    ]
    assert sink.sources == [b"#!lua name=l\n---", b"#!lua name=n\ncode!"]
    assert sink.sizes == [(9, 2, 1)]
    assert parser.aux == {b"unknown": b"x", b"%info": b"text"}
    assert ("debug", "Unrecognized RDB AUX field: 'unknown'") in sink.lines
    assert ("notice", "RDB '%info': text") in sink.lines
    assert any("AUX module data of 'gAAAAAAAA'" in text for _level, text in sink.lines)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        (b"redis-ver", b"7.0.15", "Loading RDB produced by version 7.0.15"),
        (b"ctime", b"1000", "RDB age 234 seconds"),
        (b"ctime", b"9000", "RDB age 0 seconds"),
        (b"ctime", b"junk", "RDB age 1234 seconds"),
        (b"used-mem", b"1572864", "RDB memory usage when created 1.50 Mb"),
        (b"aof-base", b"1", "RDB is base AOF"),
        (b"aof-base", b"0", None),
        (b"aof-preamble", b"1", "RDB has an AOF tail"),
        (b"repl-id", b"x", None),
    ],
)
def test_remarks_are_logged_as_redis_logs_them(name: bytes, text: bytes, line: str | None) -> None:
    assert describe_aux(name, text, 1234) == (None if line is None else ("notice", line))


@pytest.mark.parametrize("version", [1, 4, 5, 9, 11])
def test_versions(version: int) -> None:
    """Files before version 5 have no checksum."""
    sink, _parser = parse(rdb(b"\x00\x01k\x01v", version=version))
    assert sink.entries[0][1:3] == (b"k", b"v")


def test_keys_that_expired_before_the_limit_are_dropped() -> None:
    data = written(
        [(0, b"old", b"1", 9, None, None), (1, b"new", b"2", 10, None, None), (1, b"ever", b"3", *[None] * 3)]
    )
    sink, parser = parse(data, LoadPolicy(drop_expired_before_ms=10))
    assert [entry[1] for entry in sink.entries] == [b"new", b"ever"]
    assert sink.dropped == [(0, b"old")]
    assert (parser.counts.keys_loaded, parser.counts.keys_expired) == (2, 1)


def test_attributes_belong_to_one_key_even_if_it_is_dropped() -> None:
    data = written([(0, b"old", b"1", 9, 5, 6), (0, b"next", b"2", None, None, None)])
    sink, _parser = parse(data, LoadPolicy(drop_expired_before_ms=10))
    assert sink.entries == [(0, b"next", b"2", None, None, None)]


# Damage -------------------------------------------------------------------------------------------------------

KEY = b"\x00\x01k\x01v"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"RDEIS0010" + KEY, "Wrong signature trying to load DB from file (offset 0)"),
        (b"REDIS0012\xff", "Can't handle RDB format version 12 (offset 5)"),
        (b"REDIS0000\xff", "Can't handle RDB format version 0 (offset 5)"),
        (b"REDIS00x0\xff", "Can't handle RDB format version 00x0 (offset 5)"),
        (b"REDIS", "Internal error in RDB reading offset 5 -> Unexpected EOF reading RDB file"),
        (b"", "Internal error in RDB reading offset 0 -> Unexpected EOF reading RDB file"),
        (rdb(KEY)[:-1], "Internal error in RDB reading offset 22 -> Unexpected EOF reading RDB file"),
        (rdb(b"\x63\x01k"), "Internal error in RDB reading offset 10 -> Unknown RDB encoding type 99"),
        (rdb(b"\x00\x01k\xc4"), "Internal error in RDB reading offset 13 -> Unknown RDB string encoding type 4"),
        (rdb(b"\x00\x01k\x82"), "Internal error in RDB reading offset 13 -> Unknown length encoding 2 in rdbLoadLen()"),
        (
            rdb(b"\x00\x01k\xc3\x02\x05\x00a"),
            "Internal error in RDB reading offset 17 -> Invalid LZF compressed string",
        ),
        (
            rdb(b"\xfe\x10"),
            "FATAL: Data file was created with a Redis server configured to handle more than 16 databases. "
            "Exiting (offset 11)",
        ),
        (rdb(b"\xf7\x00\x01\x01\x00"), "Internal error in RDB reading offset 13 -> bad when_opcode"),
        (
            rdb(b"\x07\x01k\x81" + ((1 << 63) | 3).to_bytes(8, "big") + b"\x00"),
            "Internal error in RDB reading offset 21 -> The RDB file contains module data I can't load: "
            "no matching module type 'gAAAAAAAA'",
        ),
    ],
)
def test_damage_is_named_with_its_offset_in_redis_words(data: bytes, message: str) -> None:
    assert parse_error(data) == message


def test_a_wrong_checksum_is_an_error_unless_it_is_not_wanted() -> None:
    good = rdb(KEY)
    bad = good[:-1] + bytes((good[-1] ^ 1,))

    assert "RDB CRC error (Wrong RDB checksum expected: (" in parse_error(bad)
    sink, _parser = parse(bad, LoadPolicy(verify_checksum=False))
    assert len(sink.entries) == 1


def test_a_changed_byte_that_makes_sense_is_found_by_the_checksum() -> None:
    data = rdb(KEY).replace(b"\x01v", b"\x01w")
    assert "RDB CRC error" in parse_error(data)


def test_a_claim_beyond_the_known_size_is_refused_before_the_bytes_are_read() -> None:
    start = b"REDIS0010\x00\x01k" + encode_length(1 << 60)
    parser = RdbParser(Collector(), LoadPolicy(total_bytes=1000))
    parser.feed(start)
    with pytest.raises(RdbError, match="Unexpected EOF"):
        parser.parse()


def test_claims_cost_no_memory() -> None:
    """Huge lengths, counts and compressed sizes in a small file: an error, and next to nothing allocated."""
    huge = encode_length(1 << 40)
    files = [
        b"REDIS0010\x00\x01k" + huge,
        b"REDIS0010\x00\x01k\xc3\x03" + huge + b"\x00a\xff",
        b"REDIS0010\xfb" + huge + huge + b"\x00\x01k" + huge,
        *(
            b"REDIS0010" + bytes((code,)) + b"\x01k" + huge + b"\x00" * 20
            for code in (*range(1, 6), 14, 15, 18, 19, 21)
        ),
    ]
    tracemalloc.start()
    try:
        for data in files:
            parse_error(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200_000


@given(st.data(), st.lists(entries, max_size=6))
def test_mutated_files_load_or_raise_rdb_error(data: st.DataObject, given_entries: list[Entry]) -> None:
    """Without the checksum, which would catch nearly everything before the parser sees it."""
    mutated = data.draw(mutations(written(given_entries)))
    try:
        parse(mutated, LoadPolicy(verify_checksum=False))
    except RdbError as error:
        assert "offset" in str(error)


@given(st.binary(max_size=200))
def test_random_bytes_after_the_header_load_or_raise_rdb_error(tail: bytes) -> None:
    try:
        parse(b"REDIS0010" + tail, LoadPolicy(verify_checksum=False))
    except RdbError as error:
        assert "offset" in str(error)
