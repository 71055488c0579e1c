"""Hash values: fields and their values.

Role        One class for both of Redis's encodings: a compact hash ("listpack") keeps its fields in the order in which
            they were added, a big one ("hashtable") in none; the change is one-way and follows hash-max-listpack-*.
Invariants  A compact hash begins as RecordFields and becomes a dict when it loses a field or has many; of the other
            kind, a small one is a dict, a big one a ScanTable.
Spec        t_hash.c (hashTypeSet, hashTypeTryConversion), debug.c (xorObjectDigest).      Units  limits in bytes.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from itertools import islice
from typing import ClassVar, Final

from cluster.keyspace.digest import EMPTY_DIGEST, mix, xor
from cluster.keyspace.record_fields import RecordFields
from cluster.keyspace.scan_table import (
    SMALL_MEMBERS,
    AnyMembers,
    Members,
    ScanTable,
    distinct_members,
    random_member,
    random_members,
    scan,
)
from cluster.settings import Settings

_HASH_TYPE: Final = (4).to_bytes(4, "big")


class HashValue:
    """A hash. Whoever deletes its last field removes the key."""

    __slots__ = ("fields", "is_compact")

    type_name: ClassVar[bytes] = b"hash"

    def __init__(self) -> None:
        self.fields: Members[bytes] | RecordFields = RecordFields()
        self.is_compact = True

    @classmethod
    def of(cls, fields: AnyMembers[bytes], settings: Settings) -> HashValue:
        """A hash of these fields, in the encoding that the settings ask for; it takes a table over."""
        value = cls()
        longest = settings.hash_max_listpack_value
        if len(fields) <= settings.hash_max_listpack_entries and all(
            len(field) <= longest and len(text) <= longest for field, text in fields.items()
        ):
            for field, text in fields.items():
                value.put(field, text, settings)
        else:
            value.is_compact = False
            if isinstance(fields, ScanTable):
                value.fields = fields
            elif len(fields) > SMALL_MEMBERS:
                value.fields = ScanTable(fields.items(), expected=len(fields))
            else:
                value.fields = dict(fields)
        return value

    def put(self, field: bytes, text: bytes, settings: Settings) -> bool:
        """Set a field; True when it is new."""
        fields = self.fields
        if type(fields) is ScanTable:
            return fields.set(field, text)
        before = len(fields)
        if self.is_compact:
            longest = settings.hash_max_listpack_value
            if len(field) > longest or len(text) > longest:
                self.is_compact = False
        if type(fields) is RecordFields and not (self.is_compact and fields.put(field, text)):
            fields = self._dict_of_record(fields)
        if type(fields) is not RecordFields:
            fields[field] = text
        count = len(fields)
        if self.is_compact and count > settings.hash_max_listpack_entries:
            self.is_compact = False
            if type(fields) is RecordFields:
                fields = self._dict_of_record(fields)
        if not self.is_compact and count > SMALL_MEMBERS and type(fields) is dict:
            self.fields = ScanTable(fields.items(), expected=2 * count)
        return count != before

    def _dict_of_record(self, record: RecordFields) -> dict[bytes, bytes]:
        fields = self.fields = dict(record.items())
        return fields

    def get(self, field: bytes) -> bytes | None:
        """The value of a field, or None."""
        return self.fields.get(field)

    def remove(self, field: bytes) -> bool:
        """Delete a field; False when it is not there."""
        fields = self.fields
        if field not in fields:
            return False
        if type(fields) is RecordFields:
            fields = self._dict_of_record(fields)
        del fields[field]
        return True

    def scan(self, cursor: int, count: int) -> tuple[int, list[tuple[bytes, bytes]]]:
        """A step of HSCAN: the next cursor, some fields and values."""
        return scan(self.fields, cursor, count)

    def random_field(self, rng: random.Random) -> bytes:
        """Any field."""
        return random_member(self.fields, rng)

    def random_fields(self, count: int, rng: random.Random) -> list[bytes]:
        """``count`` fields, any of them repeatedly."""
        return random_members(self.fields, count, rng)

    def distinct_fields(self, count: int, rng: random.Random) -> list[bytes]:
        """``count`` different fields, or all."""
        return distinct_members(self.fields, count, rng)

    # As any value: see CollectionValue ----------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.fields)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.fields)

    def encoding(self) -> bytes:
        return b"listpack" if self.is_compact else b"hashtable"

    def free_effort(self) -> int:
        return 1 if self.is_compact else len(self)

    def copy(self) -> HashValue:
        other = HashValue()
        other.fields = self.fields.copy()
        other.is_compact = self.is_compact
        return other

    def mix_into_digest(self, digest: bytes) -> bytes:
        """Add the hash to a digest of the data set."""
        digest = mix(digest, _HASH_TYPE)
        for field, text in self.fields.items():
            digest = xor(digest, mix(mix(EMPTY_DIGEST, field), text))
        return digest

    def memory_bytes(self, samples: int) -> int:
        """What it needs, judged by ``samples`` fields (0: all)."""
        fields = self.fields
        table = sys.getsizeof(fields) if isinstance(fields, dict) else fields.memory_bytes()
        looked_at = list(islice(fields.items(), samples or None))
        texts = sum(sys.getsizeof(field) + sys.getsizeof(text) for field, text in looked_at)
        return sys.getsizeof(self) + table + texts * len(fields) // max(len(looked_at), 1)
