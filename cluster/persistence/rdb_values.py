"""From the many layouts of a value in an RDB file to plain Python data, and from there to the keyspace's classes.

Role        ``DECODERS`` maps a type code to its kind of value and the function that reads it; ``FACTORIES`` maps a
            kind to the function that makes the keyspace's value of the plain data. A data type enters the reader by
            one call of :func:`register_factory`; its layouts are all here already.
Plain data  string: bytes. list: :class:`ListValue`, as it is stored, so that a long one is packed while it is read;
            list[bytes] of one that is a short listpack.
            set: list[bytes], no duplicates, an array of integers in ascending order, or a table of many. hash:
            dict[bytes, bytes] or a table of many.
            sorted set: dict[bytes, float] or a RankedTable of many, no NaN. stream: :class:`StreamValue`, as it is
            stored.
Invariants  Every layout is checked to the depth of Redis's ``sanitize-dump-payload yes``, so nothing loaded can be
            inconsistent. Damage raises RdbError with Redis's words, an incomplete buffer ShortRead, nothing else
            anything. What is allocated follows from the bytes read, never from a count that they claim.
"""

from __future__ import annotations

import enum
import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, Final, TypeVar

from cluster.errors import DeepDamage, RdbError
from cluster.keyspace.lists import ListValue
from cluster.keyspace.scan_table import ScanTable
from cluster.keyspace.sorted_sets import RankedTable
from cluster.persistence import intset, listpack, stream_layout, ziplist, zipmap
from cluster.persistence.rdb_cursor import Cursor, ShortRead, parse_double
from cluster.persistence.rdb_format import RdbType, module_type_name, type_name

V = TypeVar("V")


class ValueKind(enum.Enum):
    """The data types, as TYPE names them."""

    STRING = "string"
    LIST = "list"
    SET = "set"
    HASH = "hash"
    ZSET = "zset"
    STREAM = "stream"


class EmptyValue(Exception):
    """A collection without elements, which Redis skips while loading (an old bug wrote some) and RESTORE refuses."""


PACKED_NODE: Final = 2
PLAIN_NODE: Final = 1

_Portions = Callable[[bytes], Iterator[list[bytes]]]
_LIST_PORTION: Final = 256
MANY: Final = 512
"""Beyond so many elements a table is made straight from the file, whatever becomes of it."""
_SHORT_BYTES: Final = 2048
_MEMBER_BYTES: Final = 3
_PAIR_BYTES: Final = 5
"""What a member, or one with a value, needs in a listpack of many different ones. They may be more: see the table."""
_PACKED: Final = bytes((PACKED_NODE,))
_STRING: Final = int(RdbType.STRING)


# Strings and lists --------------------------------------------------------------------------------------------


def _read_string(cursor: Cursor) -> bytes:
    return cursor.string()


def _count(cursor: Cursor) -> int:
    count = cursor.length()
    if count == 0:
        raise EmptyValue
    return count


def _read_list(cursor: Cursor) -> ListValue:
    elements = ListValue()
    left = _count(cursor)
    while left > 0:
        portion = min(left, _LIST_PORTION)
        elements.push_right([cursor.string() for _ in range(portion)])
        left -= portion
    return elements


def _unpacked(cursor: Cursor, blob: bytes, portions: _Portions, complaint: str) -> tuple[list[bytes], Iterator[bytes]]:
    """The entries of a structure that is stored as one string: all, or none and an iterator over many."""
    entries = _entries(cursor, portions(blob), complaint)
    few = list(islice(entries, 2 * MANY + 1))
    if len(few) <= 2 * MANY:
        return few, iter(())
    return [], chain(few, entries)


def _entries(cursor: Cursor, portions: Iterator[list[bytes]], complaint: str) -> Iterator[bytes]:
    try:
        for portion in portions:
            yield from portion
    except RdbError as damage:
        raise cursor.error(complaint) from damage


def _append(elements: ListValue, cursor: Cursor, portions: _Portions, complaint: str) -> None:
    """Put the entries of a structure that is stored as one string behind what there is."""
    _append_blob(elements, cursor.string(), cursor, portions, complaint)


def _append_blob(elements: ListValue, blob: bytes, cursor: Cursor, portions: _Portions, complaint: str) -> None:
    try:
        for portion in portions(blob):
            elements.push_right(portion)
    except RdbError as damage:
        raise cursor.error(complaint) from damage


def _not_empty(elements: ListValue) -> ListValue:
    if not len(elements):
        raise EmptyValue
    return elements


def _read_list_ziplist(cursor: Cursor) -> ListValue:
    elements = ListValue()
    _append(elements, cursor, ziplist.portions, "List ziplist integrity check failed.")
    return _not_empty(elements)


def _read_quicklist(cursor: Cursor) -> ListValue:
    elements = ListValue()
    for _ in range(_count(cursor)):
        _append(elements, cursor, ziplist.portions, "Ziplist integrity check failed.")
    return _not_empty(elements)


def _read_one_node(cursor: Cursor) -> ListValue | list[bytes]:
    """All that most lists are; a short one is packed again or stored, and need not be made twice."""
    blob = cursor.string()
    complaint = "Listpack integrity check failed."
    if len(blob) > _SHORT_BYTES:
        elements = ListValue()
        _append_blob(elements, blob, cursor, listpack.portions, complaint)
        return elements
    try:
        few = listpack.decode(blob)
    except RdbError as damage:
        raise cursor.error(complaint) from damage
    if not few:
        raise EmptyValue
    return few


def _read_quicklist_2(cursor: Cursor) -> ListValue | list[bytes]:
    count = _count(cursor)
    if count == 1 and cursor.data.startswith(_PACKED, cursor.position):
        cursor.position += len(_PACKED)
        return _read_one_node(cursor)
    elements = ListValue()
    for _ in range(count):
        container = cursor.length()
        if container == PLAIN_NODE:
            entry = cursor.string()
            if not entry:
                raise cursor.error("Quicklist integrity check failed.")
            elements.push_right([entry])
        elif container == PACKED_NODE:
            _append(elements, cursor, listpack.portions, "Listpack integrity check failed.")
        else:
            raise cursor.error("Quicklist integrity check failed.")
    return _not_empty(elements)


# Sets ---------------------------------------------------------------------------------------------------------


def _distinct(members: list[bytes], cursor: Cursor) -> list[bytes]:
    if len(set(members)) != len(members):
        raise cursor.error("Duplicate set members detected")
    return members


def _check_claim(count: int, cursor: Cursor) -> None:
    """Elements need a byte each at least: room is not made for a mere claim."""
    left = len(cursor.data) - cursor.position
    if count > left:
        raise ShortRead(count - left)


def _table(items: Iterable[tuple[bytes, V]], count: int, cursor: Cursor, complaint: str) -> ScanTable[V]:
    """The table of ``count`` items that are still to be read; nothing else is made of them meanwhile."""
    _check_claim(count, cursor)
    table = ScanTable.packed(items, count)
    if len(table) != count:
        raise cursor.error(complaint)
    return table


def _read_set(cursor: Cursor) -> list[bytes] | ScanTable[None]:
    count = _count(cursor)
    if count <= MANY:
        return _distinct([cursor.string() for _ in range(count)], cursor)
    return _table(((cursor.string(), None) for _ in range(count)), count, cursor, "Duplicate set members detected")


def _read_set_intset(cursor: Cursor) -> array[int]:
    blob = cursor.string()
    try:
        return intset.decode(blob)
    except RdbError as damage:
        raise cursor.error("Intset integrity check failed.") from damage


def _read_set_listpack(cursor: Cursor) -> list[bytes] | ScanTable[None]:
    blob = cursor.string()
    members, many = _unpacked(cursor, blob, listpack.portions, "Set listpack integrity check failed.")
    if members:
        return _distinct(members, cursor)
    counted = _Counted((member, None) for member in many)
    table = ScanTable.packed(counted, len(blob) // _MEMBER_BYTES)
    if len(table) != counted.count:
        raise cursor.error("Duplicate set members detected")
    if not counted.count:
        raise EmptyValue
    return table


# Hashes -------------------------------------------------------------------------------------------------------


def _read_hash(cursor: Cursor) -> dict[bytes, bytes] | ScanTable[bytes]:
    count = _count(cursor)
    if count > max(MANY, compact_hash_limit()):
        pairs = ((cursor.string(), cursor.string()) for _ in range(count))
        return _table(pairs, count, cursor, "Duplicate hash fields detected")
    fields: dict[bytes, bytes] = {}
    for _ in range(count):
        field = cursor.string()
        if field in fields:
            raise cursor.error("Duplicate hash fields detected")
        fields[field] = cursor.string()
    return fields


def _pairs(cursor: Cursor, portions: _Portions, complaint: str) -> dict[bytes, bytes] | ScanTable[bytes]:
    """A structure that holds names and values in turn; the names are distinct."""
    blob = cursor.string()
    entries, many = _unpacked(cursor, blob, portions, complaint)
    if not entries and compact_hash_limit() > MANY:  # It may become a compact hash, which keeps their order.
        entries = list(many)
    pairs: dict[bytes, bytes] | ScanTable[bytes]
    if entries:
        pairs, count = dict(zip(entries[::2], entries[1::2], strict=False)), len(entries)
    else:
        counted = _Counted(_couples(many))
        pairs = ScanTable.packed(counted, len(blob) // _PAIR_BYTES)
        count = 2 * counted.count
    if not count:
        raise EmptyValue
    if len(pairs) * 2 != count:
        # In Redis's words; the older layouts are always looked through, because they are converted.
        reason = "listpack with dup elements" if count % 2 == 0 else "listpack with an element too few"
        deep = DeepDamage(reason, blob) if portions is listpack.portions else RdbError("names are not distinct")
        raise cursor.error(complaint) from deep
    return pairs


def _couples(entries: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Entries two by two. One that is left over comes with itself, and twice, so that it is found."""
    for name in entries:
        text = next(entries, None)
        if text is None:
            yield name, b"0"
            yield name, b"0"
        else:
            yield name, text


class _Counted:
    """An iterable that can be walked through once, and then knows how many there were."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items
        self.count = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            self.count += 1
            yield item


def _read_hash_zipmap(cursor: Cursor) -> dict[bytes, bytes] | ScanTable[bytes]:
    return _pairs(cursor, zipmap.portions, "Zipmap integrity check failed.")


def _read_hash_ziplist(cursor: Cursor) -> dict[bytes, bytes] | ScanTable[bytes]:
    return _pairs(cursor, ziplist.portions, "Hash ziplist integrity check failed.")


def _read_hash_listpack(cursor: Cursor) -> dict[bytes, bytes] | ScanTable[bytes]:
    return _pairs(cursor, listpack.portions, "Hash listpack integrity check failed.")


# Sorted sets --------------------------------------------------------------------------------------------------


def _scored(cursor: Cursor, read_score: Callable[[], float], count: int) -> Iterator[tuple[bytes, float]]:
    for _ in range(count):
        member = cursor.string()
        score = read_score()
        if math.isnan(score):
            raise cursor.error("Zset with NAN score detected")
        yield member, score


def _read_scored(cursor: Cursor, read_score: Callable[[], float]) -> dict[bytes, float] | RankedTable:
    scores: dict[bytes, float] = {}
    count = _count(cursor)
    if count > MANY:
        _check_claim(count, cursor)
        table = RankedTable(_scored(cursor, read_score, count), count)
        if len(table) != count:
            raise cursor.error("Duplicate zset fields detected")
        return table
    for _ in range(count):
        member = cursor.string()
        score = read_score()
        if math.isnan(score):
            raise cursor.error("Zset with NAN score detected")
        if member in scores:
            raise cursor.error("Duplicate zset fields detected")
        scores[member] = score
    return scores


def _read_zset(cursor: Cursor) -> dict[bytes, float] | RankedTable:
    return _read_scored(cursor, cursor.text_double)


def _read_zset_2(cursor: Cursor) -> dict[bytes, float] | RankedTable:
    return _read_scored(cursor, cursor.double)


def _scored_pairs(cursor: Cursor, portions: _Portions, complaint: str) -> dict[bytes, float] | RankedTable:
    blob = cursor.string()
    entries, many = _unpacked(cursor, blob, portions, complaint)
    counted = _Counted(_couples(iter(entries) if entries else many))
    pairs = ((member, _score(text, cursor)) for member, text in counted)
    scores = dict(pairs) if entries else RankedTable(pairs, len(blob) // _PAIR_BYTES)
    if not counted.count:
        raise EmptyValue
    if len(scores) != counted.count:
        raise cursor.error(complaint)
    return scores


def _score(text: bytes, cursor: Cursor) -> float:
    score = parse_double(text, cursor)
    if math.isnan(score):
        raise cursor.error("Zset with NAN score detected")
    return score


def _read_zset_ziplist(cursor: Cursor) -> dict[bytes, float] | RankedTable:
    return _scored_pairs(cursor, ziplist.portions, "Zset ziplist integrity check failed.")


def _read_zset_listpack(cursor: Cursor) -> dict[bytes, float] | RankedTable:
    return _scored_pairs(cursor, listpack.portions, "Zset listpack integrity check failed.")


# Modules ------------------------------------------------------------------------------------------------------


def _refuse_module(cursor: Cursor) -> Any:
    name = module_type_name(cursor.length())
    raise cursor.error(f"The RDB file contains module data I can't load: no matching module type '{name}'")


Reader = Callable[[Cursor], Any]

DECODERS: Final[dict[int, tuple[ValueKind | None, Reader]]] = {
    int(RdbType.STRING): (ValueKind.STRING, _read_string),
    int(RdbType.LIST): (ValueKind.LIST, _read_list),
    int(RdbType.SET): (ValueKind.SET, _read_set),
    int(RdbType.ZSET): (ValueKind.ZSET, _read_zset),
    int(RdbType.HASH): (ValueKind.HASH, _read_hash),
    int(RdbType.ZSET_2): (ValueKind.ZSET, _read_zset_2),
    int(RdbType.MODULE): (None, _refuse_module),
    int(RdbType.MODULE_2): (None, _refuse_module),
    int(RdbType.HASH_ZIPMAP): (ValueKind.HASH, _read_hash_zipmap),
    int(RdbType.LIST_ZIPLIST): (ValueKind.LIST, _read_list_ziplist),
    int(RdbType.SET_INTSET): (ValueKind.SET, _read_set_intset),
    int(RdbType.ZSET_ZIPLIST): (ValueKind.ZSET, _read_zset_ziplist),
    int(RdbType.HASH_ZIPLIST): (ValueKind.HASH, _read_hash_ziplist),
    int(RdbType.LIST_QUICKLIST): (ValueKind.LIST, _read_quicklist),
    int(RdbType.STREAM_LISTPACKS): (ValueKind.STREAM, stream_layout.read_version_1),
    int(RdbType.HASH_LISTPACK): (ValueKind.HASH, _read_hash_listpack),
    int(RdbType.ZSET_LISTPACK): (ValueKind.ZSET, _read_zset_listpack),
    int(RdbType.LIST_QUICKLIST_2): (ValueKind.LIST, _read_quicklist_2),
    int(RdbType.STREAM_LISTPACKS_2): (ValueKind.STREAM, stream_layout.read_version_2),
    int(RdbType.SET_LISTPACK): (ValueKind.SET, _read_set_listpack),
    int(RdbType.STREAM_LISTPACKS_3): (ValueKind.STREAM, stream_layout.read_version_3),
}

Factory = Callable[[Any], Any]
Packer = Callable[[int, "ValueKind", Any, bytes], Any]
"""``packer(code, kind, plain, body)``: what is to be stored instead of the value, None for the value itself."""
FACTORIES: Final[dict[ValueKind, Factory]] = {ValueKind.STRING: lambda text: text}


_compact_hash_limits: Final[list[Callable[[], int]]] = []


def compact_hash_limit() -> int:
    """hash-max-listpack-entries: a hash of no more fields may have to keep their order."""
    return _compact_hash_limits[-1]() if _compact_hash_limits else 0


def register_compact_hash_limit(limit: Callable[[], int]) -> None:
    """Say what :func:`compact_hash_limit` is."""
    _compact_hash_limits[:] = [limit]


def register_factory(kind: ValueKind, factory: Factory) -> None:
    """Let ``factory`` make the keyspace's value of the plain data of ``kind`` (see the module's docstring)."""
    FACTORIES[kind] = factory


def is_value_type(code: int) -> bool:
    """True when ``code`` starts a key and not an opcode."""
    return code in DECODERS


def read_plain(code: int, cursor: Cursor) -> tuple[ValueKind, Any]:
    """The value of type ``code`` at the cursor as plain data."""
    decoder = DECODERS.get(code)
    if decoder is None:
        raise cursor.error(f"Unknown RDB encoding type {code}")
    kind, read = decoder
    plain = read(cursor)
    assert kind is not None  # Only modules have no kind, and their reader always raises.
    return kind, plain


def read_value(code: int, cursor: Cursor, pack: Packer | None = None) -> Any:
    """The value of type ``code`` at the cursor as the keyspace stores it, packed where ``pack`` offers that."""
    start = cursor.offset
    position = cursor.position
    kind, plain = read_plain(code, cursor)
    if pack is not None and code != _STRING:
        packed = pack(code, kind, plain, cursor.data[position : cursor.position])
        if packed is not None:
            return packed
    factory = FACTORIES.get(kind)
    if factory is None:
        raise RdbError(f"RDB type {type_name(code)} at offset {start}: a {kind.value} cannot be stored yet")
    return factory(plain)
