"""How the keyspace's collections enter and leave the RDB format: their encoders and factories, in one place.

Which encoding a loaded value gets depends on the settings of the server that loads it, as in Redis; so a server
registers its types with its own settings when it is made.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Final

from cluster.keyspace.hashes import HashValue
from cluster.keyspace.lists import ListValue
from cluster.keyspace.packed import PackedValue
from cluster.keyspace.scan_table import ScanTable
from cluster.keyspace.sets import SetValue
from cluster.keyspace.sorted_sets import SortedSetValue
from cluster.keyspace.streams import StreamValue
from cluster.persistence.packing import encode_packed, list_of, register_packing
from cluster.persistence.rdb_layouts import hash_layout, intset_array_layout, list_layout, set_layout, zset_layout
from cluster.persistence.rdb_values import ValueKind, register_compact_hash_limit, register_factory
from cluster.persistence.rdb_writer import register_encoder
from cluster.persistence.stream_layout import stream_layout
from cluster.settings import Settings

_LIST_NODE_BYTES: Final = (4096, 8192, 16384, 32768, 65536)
"""What list-max-listpack-size -1 … -5 stand for."""


def _encode_hash(value: HashValue, compress_up_to: int) -> tuple[int, Iterable[bytes]]:
    return hash_layout(value.fields, value.is_compact, compress_up_to)


def _encode_set(value: SetValue, compress_up_to: int) -> tuple[int, Iterable[bytes]]:
    if value.integers is None:
        return set_layout(value.members, compress_up_to)
    if value.has_outgrown:
        return set_layout(list(value), compress_up_to)
    return intset_array_layout(value.integers, compress_up_to)


def _set_of(members: list[bytes] | array[int] | ScanTable[None], settings: Settings) -> SetValue:
    if isinstance(members, array):
        return SetValue.of_integers(members, settings.set_max_intset_entries)
    return SetValue.of(members, settings.set_max_intset_entries)


def _encode_sorted_set(value: SortedSetValue, compress_up_to: int) -> tuple[int, Iterable[bytes]]:
    ranking = value.ranking
    return zset_layout(ranking.ascending(), ranking.descending(), len(value), value.is_compact, compress_up_to)


def _encode_list(value: ListValue, compress_up_to: int, settings: Settings) -> tuple[int, Iterable[bytes]]:
    limit = settings.list_max_listpack_size
    if limit >= 0:
        return list_layout(value, compress_up_to, node_entries=max(limit, 1))
    return list_layout(value, compress_up_to, node_bytes=_LIST_NODE_BYTES[min(-limit, len(_LIST_NODE_BYTES)) - 1])


def register_collections(settings: Settings) -> None:
    """Let collections be saved and loaded, in the encodings that the live ``settings`` ask for."""
    register_encoder(HashValue, _encode_hash)
    register_compact_hash_limit(lambda: settings.hash_max_listpack_entries)
    register_factory(ValueKind.HASH, lambda fields: HashValue.of(fields, settings))
    register_encoder(SetValue, _encode_set)
    register_factory(ValueKind.SET, lambda members: _set_of(members, settings))
    register_encoder(SortedSetValue, _encode_sorted_set)
    register_factory(ValueKind.ZSET, lambda scores: SortedSetValue.of(scores, settings))
    register_encoder(ListValue, lambda value, compress_up_to: _encode_list(value, compress_up_to, settings))
    register_factory(ValueKind.LIST, list_of)
    register_encoder(PackedValue, encode_packed)
    register_packing()
    register_encoder(StreamValue, stream_layout)
    register_factory(ValueKind.STREAM, lambda stream: stream)
