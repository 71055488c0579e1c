"""What the layouts of the collections write is read back, whatever the sizes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace.sorted_sets import compact_score_text
from cluster.keyspace.stream_nodes import make_id
from cluster.keyspace.streams import StreamValue, Trim, TrimBy
from cluster.persistence import rdb_layouts
from cluster.persistence.rdb_cursor import Cursor
from cluster.persistence.rdb_format import RdbType
from cluster.persistence.rdb_layouts import Layout
from cluster.persistence.rdb_values import read_plain
from cluster.persistence.rdb_writer import NO_LIMIT
from cluster.persistence.stream_layout import node_listpack, stream_layout
from tests.persistence.rdb_samples import integer_texts, shown
from tests.support.streams import described, group_of, stream_of

limits = st.sampled_from([0, NO_LIMIT])
elements = st.one_of(
    st.binary(max_size=60), integer_texts, st.binary(min_size=1, max_size=3).map(lambda text: text * 3000)
)
scores = st.floats(allow_nan=False) | st.integers(-(2**70), 2**70).map(float)
uint64s = st.integers(0, 2**64 - 1)
ids = st.tuples(uint64s, uint64s)
int64s = st.integers(-(2**63), 2**63 - 1)
pairs = st.lists(st.binary(max_size=20), min_size=1, max_size=4).map(lambda texts: texts + texts[::-1])


def read(layout: Layout) -> tuple[int, Any]:
    code, pieces = layout
    data = b"".join(pieces)
    cursor = Cursor(data)
    _kind, plain = read_plain(code, cursor)
    assert cursor.position == len(data)
    return code, shown(plain)


@given(st.lists(elements, min_size=1, max_size=40), limits, st.sampled_from([64, 8192]), st.none() | st.integers(1, 3))
def test_lists(texts: list[bytes], limit: int, node_bytes: int, node_entries: int | None) -> None:
    layout = rdb_layouts.list_layout(texts, limit, node_bytes=node_bytes, node_entries=node_entries)
    assert read(layout) == (RdbType.LIST_QUICKLIST_2, texts)


def test_list_nodes_keep_to_their_limits() -> None:
    texts = [b"x" * 100] * 1000
    by_size = b"".join(rdb_layouts.list_layout(texts, 0)[1])
    by_count = b"".join(rdb_layouts.list_layout(texts, 0, node_entries=10)[1])
    assert by_size[0] == math.ceil(1000 / (8192 // 108))
    assert Cursor(by_count).length() == 100


def test_a_gigantic_element_is_a_plain_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rdb_layouts, "LIST_PLAIN_BYTES", 100)
    texts = [b"a", b"x" * 100, b"y" * 99, b"z" * 101, b"b"]
    code, pieces = rdb_layouts.list_layout(texts, 0)
    assert b"\x01\x40\x64" + b"x" * 100 in b"".join(pieces)
    assert read(rdb_layouts.list_layout(texts, 0)) == (code, texts)


@given(st.lists(elements, min_size=1, max_size=40, unique=True), limits)
def test_sets(members: list[bytes], limit: int) -> None:
    assert read(rdb_layouts.set_layout(members, limit)) == (RdbType.SET, members)


@given(st.sets(int64s, min_size=1, max_size=40), limits)
def test_intsets(members: set[int], limit: int) -> None:
    expected = [b"%d" % member for member in sorted(members)]
    assert read(rdb_layouts.intset_layout(members, limit)) == (RdbType.SET_INTSET, expected)


@given(st.dictionaries(elements, elements, min_size=1, max_size=30), st.booleans(), limits)
def test_hashes(fields: dict[bytes, bytes], compact: bool, limit: int) -> None:
    code = RdbType.HASH_LISTPACK if compact else RdbType.HASH
    assert read(rdb_layouts.hash_layout(fields, compact, limit)) == (code, fields)


@given(st.dictionaries(elements, scores, min_size=1, max_size=30), st.booleans(), limits)
def test_sorted_sets(members: dict[bytes, float], compact: bool, limit: int) -> None:
    ascending = sorted(members.items(), key=lambda item: (item[1], item[0]))
    layout = rdb_layouts.zset_layout(ascending, reversed(ascending), len(members), compact, limit)
    code, plain = read(layout)
    assert code == (RdbType.ZSET_LISTPACK if compact else RdbType.ZSET_2)
    assert plain == members
    assert list(plain.items()) == (ascending if compact else ascending[::-1])


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (1.0, b"1"),
        (-0.0, b"0"),
        (0.1, b"0.10000000000000001"),
        (math.inf, b"inf"),
        (-math.inf, b"-inf"),
        (1e300, b"1.0000000000000001e+300"),
        (4.5e18, b"4500000000000000000"),
        (1e19, b"1e+19"),
    ],
)
def test_score_texts(score: float, text: bytes) -> None:
    assert compact_score_text(score) == text


@st.composite
def streams(draw: st.DrawFn) -> StreamValue:
    entry_ids = sorted(draw(st.sets(ids.filter(any), max_size=30)))
    fields = draw(st.lists(pairs, min_size=1, max_size=2))
    entries = [(entry_id, draw(pairs | st.sampled_from(fields))) for entry_id in entry_ids]
    stream = stream_of(entries, node_bytes=draw(st.sampled_from([64, 4096])), node_entries=draw(st.integers(0, 20)))
    stream.delete([make_id(*entry_id) for entry_id in entry_ids if draw(st.booleans())])
    stream.trim(Trim(TrimBy.LENGTH, draw(st.integers(0, 30))))
    if draw(st.booleans()):
        stream.last_id = make_id(2**64 - 1, 2**64 - 1)
    stream.entries_added = draw(uint64s)
    for name in draw(st.lists(st.binary(max_size=10), unique=True, max_size=3)):
        pending_ids = draw(st.lists(ids, unique=True, max_size=6))
        pending = [(one, draw(int64s), draw(uint64s)) for one in pending_ids]
        cut = draw(st.integers(0, len(pending_ids)))
        shares = {b"one": pending[:cut], b"two": pending[cut:], b"idle": []}
        read = draw(st.integers(-1, 2**63))
        stream.groups[name] = group_of(draw(ids), shares, entries_read=read, seen_ms=draw(int64s))
    return stream


@given(streams(), limits)
def test_streams(stream: StreamValue, limit: int) -> None:
    code, plain = read(stream_layout(stream, limit))
    assert (code, described(plain)) == (RdbType.STREAM_LISTPACKS_2, described(stream))
    assert b"".join(stream_layout(plain, 0)[1]) == b"".join(stream_layout(stream, 0)[1])


def test_long_streams_are_split_into_nodes() -> None:
    stream = stream_of([((number, 0), [b"field", b"%d" % number]) for number in range(1, 1001)])
    _code, pieces = stream_layout(stream, 0)
    assert b"".join(pieces)[0] == 10


def test_a_nodes_size_is_that_of_its_listpack() -> None:
    texts = [b"", b"0", b"127", b"128", b"-1", b"-4096", b"-4097", b"4095", b"32767", b"32768", b"8388607", b"8388608"]
    texts += [b"2147483647", b"-2147483649", b"9223372036854775807", b"9223372036854775808", b"007", b"-0"]
    texts += [b"x" * size for size in (1, 63, 64, 125, 126, 4095, 4096, 16377, 16378, 16380, 20000)]
    for number, text in enumerate(texts, 1):
        for other_id in ((number, number + 1), (number, 1 << 63), (number + 200, 0), (1 << 33, 0), ((1 << 64) - 1, 7)):
            entries = [((number, number), [b"f", text, text, b"v"]), (other_id, [b"f", text])]
            (node,) = stream_of(entries, node_bytes=0).nodes
            assert node.size_bytes() == len(node_listpack(node)), (text, other_id)


@given(streams())
def test_so_are_those_of_any_stream(stream: StreamValue) -> None:
    for node in stream.nodes:
        assert node.size_bytes() == len(node_listpack(node))
