"""Strategies and helpers for RDB tests."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

from cluster.errors import RdbError
from cluster.keyspace.lists import ListValue
from cluster.persistence import rdb_values
from cluster.persistence.crc64 import crc64
from cluster.persistence.rdb_reader import LoadPolicy, Progress, RdbParser, RdbSink
from cluster.persistence.rdb_writer import RdbWriter

Entry = tuple[int, bytes, Any, int | None, int | None, int | None]


class Collector(RdbSink):
    """Keeps what a file holds, in order."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.dropped: list[tuple[int, bytes]] = []
        self.sources: list[bytes] = []
        self.sizes: list[tuple[int, int, int]] = []
        self.lines: list[tuple[str, str]] = []

    def key(
        self, database: int, key: bytes, value: Any, expire_ms: int | None, idle_s: int | None, frequency: int | None
    ) -> None:
        self.entries.append((database, key, value, expire_ms, idle_s, frequency))

    def expired(self, database: int, key: bytes) -> None:
        self.dropped.append((database, key))

    def function(self, source: bytes) -> None:
        self.sources.append(source)

    def resize(self, database: int, keys: int, expires: int) -> None:
        self.sizes.append((database, keys, expires))

    def log(self, level: str, text: str) -> None:
        self.lines.append((level, text))


def shown(plain: Any) -> Any:
    """Plain data of the reader in a form that can be compared: lists and arrays as lists of texts."""
    if isinstance(plain, ListValue):
        return list(plain)
    if isinstance(plain, array):
        return [b"%d" % number for number in plain]
    return plain


def parse(data: bytes, policy: LoadPolicy | None = None) -> tuple[Collector, RdbParser]:
    """Everything in one piece; RdbError when it is not a whole file."""
    sink = Collector()
    parser = RdbParser(sink, policy)
    parser.feed(data)
    parser.feed_end()
    if parser.parse() is not Progress.DONE:
        raise AssertionError("neither an end nor an error")
    return sink, parser


def parse_error(data: bytes, policy: LoadPolicy | None = None) -> str:
    """The text of the RdbError that ``data`` must raise."""
    try:
        parse(data, policy)
    except RdbError as error:
        return str(error)
    raise AssertionError("accepted")


def rdb(*pieces: bytes, version: int = 10) -> bytes:
    """A file of these pieces with a right header, end and checksum."""
    body = b"REDIS%04d" % version + b"".join(pieces) + b"\xff"
    return body + (crc64(body).to_bytes(8, "little") if version >= 5 else b"")


def written(entries: list[Entry], *, compress: bool = True, checksum: bool = True) -> bytes:
    """The file that RdbWriter makes of these entries."""
    out = bytearray()
    writer = RdbWriter(out.extend, compress=compress, checksum=checksum)
    writer.aux(b"redis-ver", b"7.0.15")
    database = -1
    for index, key, value, expire_ms, idle_s, frequency in entries:
        if index != database:
            database = index
            writer.select(index, 1, 1)
        writer.entry(key, value, expire_ms, idle_s, frequency)
    writer.finish()
    return bytes(out)


@contextmanager
def every_kind_loadable() -> Iterator[None]:
    """Let all data types load, as the plain data that the layouts decode to."""
    before = dict(rdb_values.FACTORIES)
    for kind in rdb_values.ValueKind:
        rdb_values.register_factory(kind, lambda plain: plain)
    try:
        yield
    finally:
        rdb_values.FACTORIES.clear()
        rdb_values.FACTORIES.update(before)


integer_texts = st.integers(-(2**65), 2**65).map(lambda number: b"%d" % number)
odd_integer_texts = st.sampled_from([b"", b"-", b"-0", b"00", b"+1", b" 1", b"1 ", b"1_0", b"0x10", b"\xb2"])
compressible = st.builds(lambda unit, times: unit * times, st.binary(min_size=1, max_size=40), st.integers(1, 400))
texts = st.one_of(st.binary(max_size=100), integer_texts, odd_integer_texts, compressible)
string_values = st.one_of(texts, st.integers(-(2**63), 2**63 - 1), texts.map(bytearray))
entries = st.tuples(
    st.integers(0, 15),
    texts,
    string_values,
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.integers(0, 2**40),
    st.none() | st.integers(0, 255),
)


@st.composite
def mutations(draw: st.DrawFn, original: bytes) -> bytes:
    """``original`` with a few bytes changed, removed, doubled or inserted."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 4)):
            case 0:
                data[position : position + 1] = bytes((draw(st.integers(0, 255)),))
            case 1:
                del data[position : position + draw(st.integers(1, 8))]
            case 2:
                data[position:position] = draw(st.binary(min_size=1, max_size=9))
            case 3:
                del data[position:]
            case _:
                data[position:position] = data[position : position + 16]
    return bytes(data)
