"""Streams against a plain list of entries, with nodes so small that every node boundary is met."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace import stream_nodes
from cluster.keyspace.consumer_groups import ENTRIES_READ_UNKNOWN, Group
from cluster.keyspace.digest import EMPTY_DIGEST
from cluster.keyspace.stream_nodes import MAX_ID, StreamNode, make_id
from cluster.keyspace.streams import StreamValue, Trim, TrimBy
from tests.support.streams import IdPair, described, entries_of, pair, stream_of

_ids = st.tuples(st.integers(0, 30), st.integers(0, 2))
_pairs = st.one_of(
    st.builds(lambda text: [b"f", text], st.binary(max_size=5)),
    st.just([b"other", b"x" * 50]),
    st.just([b"f", b"1", b"f", b"2"]),
)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 3), st.integers(0, 2), _pairs),
        st.tuples(st.just("add"), st.integers(1, 3), st.integers(0, 2), _pairs),
        st.tuples(st.just("fill"), st.integers(1, 20)),
        st.tuples(st.just("delete"), st.lists(_ids, min_size=1, max_size=5)),
        st.tuples(st.just("trim to"), st.integers(0, 30)),
        st.tuples(st.just("trim before"), _ids),
        st.tuples(st.just("range"), _ids, _ids),
        st.tuples(st.just("find"), _ids),
    ),
    max_size=40,
)
_node_limits = st.tuples(st.sampled_from((1, 60, 100, 4096, 0)), st.sampled_from((1, 2, 3, 5, 0)))


class _Model:
    """A stream whose entries are one list."""

    def __init__(self) -> None:
        self.entries: list[tuple[IdPair, list[bytes]]] = []
        self.last_id: IdPair = (0, 0)
        self.max_deleted_id: IdPair = (0, 0)
        self.added = 0

    def add(self, entry_id: IdPair, pairs: list[bytes]) -> None:
        self.entries.append((entry_id, pairs))
        self.last_id = entry_id
        self.added += 1

    def delete(self, ids: list[IdPair]) -> int:
        doomed = {entry_id for entry_id, _pairs in self.entries} & set(ids)
        self.entries = [entry for entry in self.entries if entry[0] not in doomed]
        self.max_deleted_id = max(self.max_deleted_id, *doomed, (0, 0))
        return len(doomed)

    def between(self, start: IdPair, end: IdPair) -> list[tuple[IdPair, list[bytes]]]:
        return [entry for entry in self.entries if start <= entry[0] <= end]


def _do(stream: StreamValue, model: _Model, step: tuple[Any, ...], node_bytes: int, node_entries: int) -> None:
    match step:
        case ("add", ahead, sequence, pairs):
            entry_id = (model.last_id[0] + ahead, sequence)
            stream.append(make_id(*entry_id), pairs, node_bytes, node_entries)
            model.add(entry_id, pairs)
        case ("fill", count):
            for number in range(count):
                _do(stream, model, ("add", 1, 0, [b"f", b"%d" % number]), node_bytes, node_entries)
        case ("delete", ids):
            assert stream.delete([make_id(*one) for one in ids]) == model.delete(ids)
        case ("trim to", length):
            surplus = max(len(model.entries) - length, 0)
            assert stream.trim(Trim(TrimBy.LENGTH, length)) == surplus
            del model.entries[:surplus]
        case ("trim before", least_id):
            kept = [entry for entry in model.entries if entry[0] >= least_id]
            assert stream.trim(Trim(TrimBy.ID, make_id(*least_id))) == len(model.entries) - len(kept)
            model.entries = kept
        case ("range", start, end):
            spans = list(stream.spans(make_id(*start), make_id(*end)))
            found = [
                (pair(node.id_at(place)), list(node.pairs_at(place))) for node, places in spans for place in places
            ]
            assert found == model.between(start, end)
            backwards = [
                pair(node.id_at(place))
                for node, places in stream.spans_backwards(make_id(*start), make_id(*end))
                for place in places
            ]
            assert backwards == [entry_id for entry_id, _pairs in reversed(found)]
        case ("find", entry_id):
            place = stream.find(make_id(*entry_id))
            expected = next((pairs for one, pairs in model.entries if one == entry_id), None)
            assert (None if place is None else list(place[0].pairs_at(place[1]))) == expected


@given(_steps, _node_limits)
def test_is_a_list_of_entries(steps: list[tuple[Any, ...]], limits: tuple[int, int]) -> None:
    stream, model = StreamValue(), _Model()
    for step in steps:
        _do(stream, model, step, *limits)
        assert stream.length == len(model.entries) == len(stream)
        assert pair(stream.first_id) == (model.entries[0][0] if model.entries else (0, 0))
        assert pair(stream.greatest_id()) == (model.entries[-1][0] if model.entries else (0, 0))
        assert all(node.count <= limits[1] for node in stream.nodes) or not limits[1]
    assert entries_of(stream) == model.entries
    assert (pair(stream.last_id), pair(stream.max_deleted_id)) == (model.last_id, model.max_deleted_id)
    assert stream.entries_added == model.added
    assert entries_of(stream) == [
        (pair(node.id_at(place)), list(node.pairs_at(place))) for node, places in stream.spans() for place in places
    ]


@given(_steps, _node_limits)
def test_a_copy_is_equal_and_goes_its_own_way(steps: list[tuple[Any, ...]], limits: tuple[int, int]) -> None:
    stream, model = StreamValue(), _Model()
    for step in steps:
        _do(stream, model, step, *limits)
    group = stream.groups[b"g"] = Group(0)
    consumer = group.add_consumer(b"c", 5)
    for entry_id, _pairs in stream.entries():
        group.deliver(entry_id, consumer, 7)
    before = described(stream)
    other = stream.copy()
    assert described(other) == before
    assert other.mix_into_digest(EMPTY_DIGEST) == stream.mix_into_digest(EMPTY_DIGEST)
    other.append(other.last_id + 1, [b"f", b"new"], *limits)
    other.trim(Trim(TrimBy.LENGTH, 1))
    other.groups[b"g"].remove_consumer(other.groups[b"g"].consumers[b"c"])
    assert described(stream) == before


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 40), st.integers(0, 40), st.booleans())
def test_approximate_trimming_drops_whole_nodes(deleted: list[int], length: int, most: int, by_id: bool) -> None:
    stream = stream_of([((number, 0), [b"f", b"v"]) for number in range(1, 41)], node_entries=4)
    stream.delete([make_id(1 + 4 * node + place, 0) for node, place in enumerate(deleted[:10])])
    nodes, before = list(stream.nodes), stream.length
    threshold = make_id(length, 0) if by_id else length
    gone = stream.trim(Trim(TrimBy.ID if by_id else TrimBy.LENGTH, threshold, is_approximate=True, most=most))
    dropped = len(nodes) - len(stream.nodes)
    assert stream.nodes == nodes[dropped:]
    assert gone == before - stream.length == sum(node.live_count for node in nodes[:dropped])
    assert not most or gone <= most
    if by_id:
        assert all(node.last_id < threshold for node in nodes[:dropped])
    else:
        assert stream.length >= min(length, before)


def test_the_radix_tree_has_redis_number_of_nodes() -> None:
    """Counted by XINFO STREAM of Redis 7.0.15 with stream-node-max-entries 1."""
    for ids, expected in (
        ([], 1),
        ([(1, 0)], 2),
        ([(1, 0), (1, 1)], 4),
        ([(1, 0), (1, 1), (1, 2)], 5),
        ([(1, 0), (2, 0)], 6),
        ([(1, 0), (256, 0)], 6),
        ([(1, 0), (1, 255), (1, 256), (2, 0)], 11),
    ):
        stream = stream_of([(entry_id, [b"f", b"v"]) for entry_id in ids], node_entries=1)
        assert (stream.tree_nodes(), ids) == (expected, ids)


def test_ids_may_go_back_behind_what_was_deleted() -> None:
    """XSETID only looks at live entries; what comes then is found all the same."""
    stream = stream_of([((number, 0), [b"f", b"v"]) for number in (5, 10)], node_entries=3)
    stream.delete([make_id(10, 0)])
    stream.last_id = make_id(6, 0)
    for number in (7, 10, 11):
        stream.append(make_id(number, 0), [b"f", b"%d" % number], 4096, 3)
    assert [entry_id for entry_id, _pairs in entries_of(stream)] == [(5, 0), (7, 0), (10, 0), (11, 0)]
    for number in (5, 7, 10, 11):
        assert stream.find(make_id(number, 0)) is not None
    assert stream.find(make_id(6, 0)) is None
    assert stream.delete([make_id(10, 0)]) == 1
    assert [entry_id for entry_id, _pairs in entries_of(stream)] == [(5, 0), (7, 0), (11, 0)]


def test_what_was_unpacked_follows_what_is_appended() -> None:
    node = StreamNode(make_id(1, 0), [b"f"])
    for number in range(1, 4):
        node.append(make_id(number, 0), [b"f", b"%d" % number])
        assert len(node.rows()) == number
    node.close()
    node.append(make_id(9, 9), [b"g", b"x"])
    assert list(node.pairs_at(3)) == [b"g", b"x"] and pair(node.id_at(3)) == (9, 9)
    assert [list(node.pairs_of(row)) for row in node.copy().rows()] == [list(node.pairs_of(row)) for row in node.rows()]


def test_lag_is_known_only_where_nothing_was_deleted_ahead() -> None:
    stream = stream_of([((number, 0), [b"f", b"v"]) for number in range(1, 6)])
    group = Group(0)
    assert stream.lag(group) == 5  # Before the first entry.
    group.last_id, group.entries_read = make_id(2, 0), ENTRIES_READ_UNKNOWN
    assert stream.lag(group) is None
    group.entries_read = 2
    assert stream.lag(group) == 3
    stream.delete([make_id(4, 0)])
    assert stream.lag(group) is None
    group.last_id, group.entries_read = make_id(4, 0), 4
    assert stream.lag(group) is None
    group.last_id = make_id(5, 0)
    assert stream.lag(group) == 1  # As it says: it was made to believe that it has read four.
    assert StreamValue().lag(Group(MAX_ID)) == 0


# Costs ----------------------------------------------------------------------------------------------------------


def test_a_long_stream_is_packed_and_quick_to_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for an entry unpacks its node, not those before it."""
    count = 100_000
    stream = StreamValue()
    for number in range(1, count + 1):
        stream.append(make_id(1_700_000_000_000 + number, 0), [b"field", b"%020d" % number], 4096, 100)
    assert len(stream.nodes) == count // 100
    assert stream.memory_bytes(0) / count < 60
    unpacked: list[StreamNode] = []
    unpack = stream_nodes._Unpacked.unpack
    monkeypatch.setattr(
        stream_nodes._Unpacked, "unpack", lambda cache, node: (unpacked.append(node), unpack(cache, node))[1]
    )
    wanted = range(1, count, 997)
    for number in wanted:
        assert stream.find(make_id(1_700_000_000_000 + number, 0)) is not None
    assert 0 < len(unpacked) <= len(wanted)
