"""Records against a dict; shapes are shared and, beyond a bound, forgotten without harm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace import record_fields
from cluster.keyspace.record_fields import MOST_FIELDS, SHAPES, RecordFields

names = st.integers(0, 40).map(lambda n: b"%d" % n)


@given(puts=st.lists(st.tuples(names, st.binary(max_size=3)), max_size=80))
def test_behaves_like_a_dict_up_to_its_size(puts: list[tuple[bytes, bytes]]) -> None:
    record, model = RecordFields(), dict[bytes, bytes]()
    for name, text in puts:
        before = record.copy()
        fits = name in model or len(model) < MOST_FIELDS
        kept = list(before.items())
        assert record.put(name, text) == fits
        if fits:
            model[name] = text
        assert list(before.items()) == kept  # A copy is not touched.
        assert list(record.items()) == list(model.items())
        assert record.get(name) == model.get(name) and (name in record) == (name in model)
    assert list(record) == list(model) and list(record.values()) == list(model.values())
    assert len(record) == len(model) and record.get(b"stranger") is None and record == model


def test_records_of_one_kind_share_their_names() -> None:
    first, second = RecordFields(), RecordFields()
    for record in (first, second):
        for name in ("name", "mail", "age"):
            record.put(bytes(name, "ascii"), b"x")
    assert first._shape is second._shape


def test_no_more_shapes_are_extended_shapes_than_allowed() -> None:
    records = []
    for number in range(2 * SHAPES + 10):
        record = RecordFields()
        for name in (b"a", b"field:%d" % number, b"z"):
            assert record.put(name, b"%d" % number)
        records.append(record)
        assert len(record_fields._extended_shapes) <= SHAPES
    for number, record in enumerate(records):
        assert dict(record.items()) == dict.fromkeys((b"a", b"field:%d" % number, b"z"), b"%d" % number)
