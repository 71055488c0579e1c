"""Hash values against a dict, their encodings, digest and journey through DUMP."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.keyspace.digest import EMPTY_DIGEST
from cluster.keyspace.hashes import HashValue
from cluster.keyspace.scan_table import ScanTable
from cluster.persistence.collection_types import register_collections
from cluster.persistence.dump_payload import dump, restore
from cluster.settings import Settings

SETTINGS = Settings(hash_max_listpack_entries=20, hash_max_listpack_value=16)

names = st.one_of(st.integers(0, 300).map(lambda n: b"%d" % n), st.binary(max_size=18))
steps = st.lists(st.tuples(st.booleans(), names, st.binary(max_size=18)), max_size=400)


@given(steps=steps)
def test_behaves_like_a_dict_and_changes_its_encoding_once(steps: list[tuple[bool, bytes, bytes]]) -> None:
    value, model, compact = HashValue(), dict[bytes, bytes](), True
    for putting, field, text in steps:
        if putting:
            assert value.put(field, text, SETTINGS) == (field not in model)
            model[field] = text
            compact = compact and len(model) <= 20 and len(field) <= 16 and len(text) <= 16
        else:
            assert value.remove(field) == (model.pop(field, None) is not None)
        assert value.encoding() == (b"listpack" if compact else b"hashtable")
        assert len(value) == len(model) and value.get(field) == model.get(field)
    assert dict(value.fields.items()) == model
    if compact:
        assert list(value) == list(model)  # In the order of their arrival.
    assert value.mix_into_digest(EMPTY_DIGEST) == HashValue.of(model, SETTINGS).mix_into_digest(EMPTY_DIGEST)
    copied = value.copy()
    if model:
        register_collections(SETTINGS)
        restored = restore(dump(value))
        assert isinstance(restored, HashValue) and dict(restored.fields.items()) == model
        value.remove(next(iter(model)))
    assert dict(copied.fields.items()) == model and copied.is_compact == compact


def test_a_big_hash_is_walked_in_steps() -> None:
    value = HashValue.of({b"%d" % number: b"" for number in range(10_000)}, SETTINGS)
    assert isinstance(value.fields, ScanTable) and value.encoding() == b"hashtable"
    cursor, found = value.scan(0, 10)
    assert cursor and 10 <= len(found) < 200


def test_loading_decides_as_adding_does() -> None:
    assert HashValue.of({b"%d" % n: b"" for n in range(20)}, SETTINGS).encoding() == b"listpack"
    assert HashValue.of({b"%d" % n: b"" for n in range(21)}, SETTINGS).encoding() == b"hashtable"
    assert HashValue.of({b"a": b"x" * 17}, SETTINGS).encoding() == b"hashtable"
    assert HashValue.of({b"x" * 17: b""}, SETTINGS).encoding() == b"hashtable"


def test_memory_grows_with_what_is_held() -> None:
    small = HashValue.of({b"a": b"1"}, SETTINGS).memory_bytes(5)
    big = HashValue.of({b"%d" % n: b"x" * 100 for n in range(5000)}, SETTINGS)
    assert 0 < small < 1000 < 5000 * 150 < big.memory_bytes(5) < 5000 * 400
    assert abs(big.memory_bytes(0) - big.memory_bytes(50)) < 5000 * 20
