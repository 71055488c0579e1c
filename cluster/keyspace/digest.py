"""DEBUG DIGEST: a fingerprint of the data set that two servers with equal data share, whatever the order of anything.

Source: xorDigest, mixDigest, xorObjectDigest in debug.c of Redis 7.0; equal data gives Redis's own digest.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Any

from cluster.keyspace.database import Keyspace
from cluster.keyspace.strings import is_string, to_bytes

EMPTY_DIGEST = bytes(20)
_STRING_TYPE = (0).to_bytes(4, "big")


def xor(digest: bytes, data: bytes) -> bytes:
    """Add ``data`` so that the order of additions does not matter."""
    return bytes(left ^ right for left, right in zip(digest, sha1(data).digest(), strict=True))


def mix(digest: bytes, data: bytes) -> bytes:
    """Add ``data`` so that the order of additions matters."""
    return sha1(xor(digest, data)).digest()


def mix_value(digest: bytes, value: Any, *, expires: bool) -> bytes:
    """Add a stored value; that it expires counts, when it does not."""
    if is_string(value):
        digest = mix(mix(digest, _STRING_TYPE), to_bytes(value))
    else:
        digest = value.mix_into_digest(digest)
    return xor(digest, b"!!expire!!") if expires else digest


def dataset_digest(keyspace: Keyspace) -> bytes:
    """The digest of everything, 20 bytes; all zero when there is nothing."""
    total = EMPTY_DIGEST
    for database in keyspace.databases:
        is_empty = True
        for key, value in database.items():
            if is_empty:
                total = mix(total, database.index.to_bytes(4, "big"))
                is_empty = False
            digest = mix_value(mix(EMPTY_DIGEST, key), value, expires=key in database.expires)
            total = xor(total, digest)
    return total
