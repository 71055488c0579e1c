"""Small collections of a file stay packed: which, how they are unpacked, and how they are written again.

Role        :func:`pack` is asked about each collection that was read from a file, :func:`unpack` and
            :func:`encode_packed` are the ways back: to the value, and to a file.
Invariants  A packed value is what Redis would write of it, as far as it is written without being unpacked: of a type
            that suits its encoding, which the settings of its loading have decided for as long as it is packed, and
            compressed as the writer is told.
            What is unpacked at once is little: MOST_BYTES of the file, MOST_ELEMENTS.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable
from typing import Any, Final

from cluster.keyspace.hashes import HashValue
from cluster.keyspace.lists import ListValue
from cluster.keyspace.packed import CODE_MASK, HAS_LONG_TEXTS, IS_COMPACT, PackedKinds, PackedValue, register_kinds
from cluster.keyspace.sets import SetValue
from cluster.keyspace.sorted_sets import SortedSetValue
from cluster.persistence.rdb_cursor import Cursor
from cluster.persistence.rdb_format import COMPRESS_MIN_BYTES, RdbType, StringEncoding
from cluster.persistence.rdb_values import DECODERS, FACTORIES, MANY, PACKED_NODE, ValueKind, read_plain
from cluster.persistence.rdb_writer import encode_value, string_pieces
from cluster.settings import Settings

MOST_BYTES: Final = 8192
MOST_ELEMENTS: Final = MANY
_COMPRESSED: Final = int(0xC0 | StringEncoding.LZF)
_ONE_NODE: Final = bytes((1, PACKED_NODE))

_ALWAYS_COMPACT: Final = Settings(
    hash_max_listpack_entries=1 << 62,
    hash_max_listpack_value=1 << 62,
    set_max_intset_entries=1 << 62,
    zset_max_listpack_entries=1 << 62,
    zset_max_listpack_value=1 << 62,
)
_NEVER_COMPACT: Final = Settings(hash_max_listpack_entries=0, set_max_intset_entries=0, zset_max_listpack_entries=0)

_ENCODINGS: Final = {
    ValueKind.LIST: (b"quicklist", b"quicklist"),
    ValueKind.HASH: (b"hashtable", b"listpack"),
    ValueKind.SET: (b"hashtable", b"intset"),
    ValueKind.ZSET: (b"skiplist", b"listpack"),
}
"""By kind: the encoding of a value that is not compact, and of one that is."""
_COMPACT_ENCODINGS: Final = frozenset(compact for _big, compact in _ENCODINGS.values())
_INTEGER: Final = re.compile(rb"-?[0-9]{1,19}\Z").match
"""May find integers that are none to Redis, such as 007."""
_TEXT_STARTS: Final[dict[int, int]] = {
    int(RdbType.LIST_QUICKLIST_2): 1 + len(_ONE_NODE),
    int(RdbType.SET_INTSET): 1,
    int(RdbType.HASH_LISTPACK): 1,
    int(RdbType.ZSET_LISTPACK): 1,
}
"""Where in a packed value of these types the one string begins that it consists of."""


# Packing ----------------------------------------------------------------------------------------------------------


def pack(settings: Settings, code: int, kind: ValueKind, plain: Any, body: bytes) -> PackedValue | None:
    """The value of type ``code`` that was read from ``body`` as ``plain``, or None when it had better not be packed."""
    if len(body) > MOST_BYTES or len(plain) > MOST_ELEMENTS:
        return None
    find_head = _HEADS.get(code)
    if find_head is not None:
        head = find_head(plain, body, settings)
        if head is not None:
            return PackedValue(head + body)
    return None if kind is ValueKind.STREAM else _pack_anew(kind, plain, settings)


def _pack_anew(kind: ValueKind, plain: Any, settings: Settings) -> PackedValue | None:
    """The same for what comes in another layout than that in which it is written today."""
    value = FACTORIES[kind](plain)
    is_compact = value.encoding() in _COMPACT_ENCODINGS
    code, pieces = encode_value(value, compress_up_to=0)
    body = b"".join(pieces)
    if len(body) > MOST_BYTES or (kind is ValueKind.LIST and not body.startswith(_ONE_NODE)):
        return None
    flags = (IS_COMPACT if is_compact else 0) | (0 if code in _TEXT_STARTS else HAS_LONG_TEXTS)
    return PackedValue(bytes((code | flags,)) + body)


def _head_of_list(plain: Any, body: bytes, settings: Settings) -> bytes | None:
    return _LIST_HEAD if body[:2] == _ONE_NODE else None


def _is_compact_hash(plain: dict[bytes, bytes], settings: Settings) -> bool:
    longest = settings.hash_max_listpack_value
    return (
        len(plain) <= settings.hash_max_listpack_entries
        and max(map(len, plain)) <= longest
        and max(map(len, plain.values())) <= longest
    )


def _head_of_listpack_hash(plain: dict[bytes, bytes], body: bytes, settings: Settings) -> bytes | None:
    if len(body) <= settings.hash_max_listpack_value and body[0] != _COMPRESSED:  # No text can be longer then.
        return _HASH_HEAD if len(plain) <= settings.hash_max_listpack_entries else None
    return _HASH_HEAD if _is_compact_hash(plain, settings) else None


def _is_compact_zset(plain: dict[bytes, float], settings: Settings) -> bool:
    few = len(plain) <= settings.zset_max_listpack_entries
    return few and max(map(len, plain)) <= settings.zset_max_listpack_value


def _head_of_listpack_zset(plain: dict[bytes, float], body: bytes, settings: Settings) -> bytes | None:
    return _ZSET_HEAD if _is_compact_zset(plain, settings) else None


def _head_of_intset(plain: array[int], body: bytes, settings: Settings) -> bytes | None:
    return _INTSET_HEAD if len(plain) <= settings.set_max_intset_entries else None


def _head_of_set(plain: list[bytes], body: bytes, settings: Settings) -> bytes | None:
    if len(plain) <= settings.set_max_intset_entries and all(map(_INTEGER, plain)):
        return None
    return _LONG_SET_HEAD if max(map(len, plain)) >= COMPRESS_MIN_BYTES else _SET_HEAD


def _head_of_big_hash(plain: dict[bytes, bytes], body: bytes, settings: Settings) -> bytes | None:
    return None if _is_compact_hash(plain, settings) else _BIG_HASH_HEAD


def _head_of_big_zset(plain: dict[bytes, float], body: bytes, settings: Settings) -> bytes | None:
    return None if _is_compact_zset(plain, settings) else _BIG_ZSET_HEAD


_LIST_HEAD: Final = bytes((RdbType.LIST_QUICKLIST_2 | IS_COMPACT,))
_HASH_HEAD: Final = bytes((RdbType.HASH_LISTPACK | IS_COMPACT,))
_ZSET_HEAD: Final = bytes((RdbType.ZSET_LISTPACK | IS_COMPACT,))
_INTSET_HEAD: Final = bytes((RdbType.SET_INTSET | IS_COMPACT,))
_SET_HEAD: Final = bytes((RdbType.SET,))
_LONG_SET_HEAD: Final = bytes((RdbType.SET | HAS_LONG_TEXTS,))
_BIG_HASH_HEAD: Final = bytes((RdbType.HASH | HAS_LONG_TEXTS,))
_BIG_ZSET_HEAD: Final = bytes((RdbType.ZSET_2 | HAS_LONG_TEXTS,))
_HEADS: Final[dict[int, Callable[[Any, bytes, Settings], bytes | None]]] = {
    int(RdbType.LIST_QUICKLIST_2): _head_of_list,
    int(RdbType.HASH_LISTPACK): _head_of_listpack_hash,
    int(RdbType.ZSET_LISTPACK): _head_of_listpack_zset,
    int(RdbType.SET_INTSET): _head_of_intset,
    int(RdbType.SET): _head_of_set,
    int(RdbType.HASH): _head_of_big_hash,
    int(RdbType.ZSET_2): _head_of_big_zset,
}
"""By the types that are written today: the first byte of a packed value; None where it is written as another type."""


# Unpacking --------------------------------------------------------------------------------------------------------


def unpack(packed: PackedValue) -> Any:
    """The value that is packed."""
    head = packed[0]
    kind, plain = read_plain(head & CODE_MASK, Cursor(packed, 1))
    return _value_of(kind, plain, bool(head & IS_COMPACT))


def _value_of(kind: ValueKind, plain: Any, is_compact: bool) -> Any:
    """The value, in the encoding that it is to have."""
    settings = _ALWAYS_COMPACT if is_compact else _NEVER_COMPACT
    if kind is ValueKind.HASH:
        return HashValue.of(plain, settings)
    if kind is ValueKind.ZSET:
        return SortedSetValue.of(plain, settings)
    if kind is ValueKind.SET:
        most = settings.set_max_intset_entries
        return SetValue.of_integers(plain, most) if isinstance(plain, array) else SetValue.of(plain, most)
    return list_of(plain)


def list_of(plain: ListValue | list[bytes]) -> ListValue:
    """The list as it is stored."""
    return plain if isinstance(plain, ListValue) else ListValue.of(plain)


def _kind_of(packed: PackedValue) -> ValueKind:
    kind = DECODERS[packed[0] & CODE_MASK][0]
    assert kind is not None
    return kind


def _type_name(packed: PackedValue) -> bytes:
    return _kind_of(packed).value.encode()


def _encoding(packed: PackedValue) -> bytes:
    return _ENCODINGS[_kind_of(packed)][packed[0] >= IS_COMPACT]


# Writing ----------------------------------------------------------------------------------------------------------


def encode_packed(packed: PackedValue, compress_up_to: int) -> tuple[int, Iterable[bytes]]:
    """As the encoders of the value classes. Bytes that were compressed, or are too few for it, go out as they are."""
    head = packed[0]
    code = head & CODE_MASK
    start = _TEXT_STARTS.get(code)
    if start is None:
        if head & HAS_LONG_TEXTS:
            return encode_value(unpack(packed), compress_up_to=compress_up_to)
        return code, (packed[1:],)
    is_compressed = packed[start] == _COMPRESSED
    if is_compressed == (compress_up_to > 0) or len(packed) - start <= COMPRESS_MIN_BYTES:
        return code, (packed[1:],)
    return code, (packed[1:start], *string_pieces(Cursor(packed, start).string(), compress_up_to))


def register_packing() -> None:
    """Let packed values be understood."""
    register_kinds(PackedKinds(unpack, _type_name, _encoding))
