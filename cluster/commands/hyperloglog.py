"""HyperLogLog commands. Redis 7.0: hyperloglog.c. The values are strings; keyspace/hyperloglog.py says which."""

from __future__ import annotations

from typing import Final

from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.commands.strings import string_or_none
from cluster.errors import CommandError
from cluster.keyspace import hyperloglog
from cluster.keyspace.database import Value
from cluster.keyspace.hyperloglog import CorruptedError
from cluster.resp.encode import OK, ONE, ZERO, array, bulk, integer, simple
from cluster.slots.hashing import key_slot

_NOT_ONE: Final = b"WRONGTYPE Key is not a valid HyperLogLog string value."
_CORRUPTED: Final = b"INVALIDOBJ Corrupted HLL object detected"
_SELF_TEST_ELEMENTS: Final = 2000
"""Redis counts ten million, in some seconds; here the loop would stand still for minutes."""


def _checked(value: Value | None) -> bytes | bytearray | None:
    """The content of a HyperLogLog, None for no key. Raises CommandError (WRONGTYPE)."""
    content = string_or_none(value)
    if content is None:
        return None
    if isinstance(content, int) or not hyperloglog.is_valid(content):
        raise CommandError(_NOT_ONE)
    return content


def _mutable(client: Session, key: bytes, slot: int, content: bytes | bytearray) -> bytearray:
    """The same content as a bytearray that stands in the keyspace in its place (dbUnshareStringValue)."""
    if isinstance(content, bytearray):
        return content
    unshared = bytearray(content)
    client.db.slots[slot][key] = unshared
    return unshared


@command("pfadd")
def pfadd(client: Session, argv: list[bytes]) -> bytes:
    db, key, slot = client.db, argv[1], client.slot
    found = _checked(db.peek(key, slot))
    if found is None:
        content = hyperloglog.new()
        db.put(key, slot, content)
    else:
        content = _mutable(client, key, slot, found)
    try:
        updates = hyperloglog.add_many(content, argv[2:], client.server.settings.hll_sparse_max_bytes)
    except CorruptedError:
        raise CommandError(_CORRUPTED) from None
    if not updates and found is not None:
        return ZERO
    hyperloglog.mark_stale(content)
    db.changed(key, updates)
    db.notify("$", b"pfadd", key)
    return ONE


@command("pfcount")
def pfcount(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) > 2:
        values = _union(client, argv[1:])[0]
        return _cardinality_reply(hyperloglog.estimate(values))
    db, key, slot = client.db, argv[1], client.slot
    found = _checked(db.read(key, slot))
    if found is None:
        return ZERO
    content = _mutable(client, key, slot, found)
    cardinality = hyperloglog.cached_cardinality(content)
    if cardinality is None:
        try:
            cardinality = hyperloglog.count(content)
        except CorruptedError:
            raise CommandError(_CORRUPTED) from None
        hyperloglog.cache_cardinality(content, cardinality)
        # The cache is part of the string, so replicas are to have it too.
        db.changed(key)
        client.effects = [argv]
    return _cardinality_reply(cardinality)


def _cardinality_reply(cardinality: int) -> bytes:
    """A signed integer, as Redis's reply is: a forged cache may hold any 63 bits, a forged register lead to 2**63."""
    return integer(cardinality if cardinality < 1 << 63 else cardinality - (1 << 64))


def _union(client: Session, keys: list[bytes]) -> tuple[bytes, bool]:
    """The registers of several keys' union, and whether one of them is dense. Raises CommandError."""
    values = bytes(hyperloglog.REGISTER_COUNT)
    has_dense = False
    for key in keys:
        content = _checked(client.db.read(key, key_slot(key)))
        if content is None:
            continue
        has_dense = has_dense or content[4] == hyperloglog.DENSE
        try:
            values = hyperloglog.greatest(values, hyperloglog.registers(content))
        except CorruptedError:
            raise CommandError(_CORRUPTED) from None
    return values, has_dense


@command("pfmerge")
def pfmerge(client: Session, argv: list[bytes]) -> bytes:
    db, key, slot = client.db, argv[1], client.slot
    values, has_dense = _union(client, argv[1:])
    found = _checked(db.peek(key, slot))
    if found is None:
        content = hyperloglog.new()
        db.put(key, slot, content)
        db.keyspace.dirty -= 1
    else:
        content = _mutable(client, key, slot, found)
    if has_dense:
        hyperloglog.make_dense(content)
    hyperloglog.store(content, values, client.server.settings.hll_sparse_max_bytes)
    db.changed(key)
    db.notify("$", b"pfadd", key)
    return OK


# Debugging ------------------------------------------------------------------------------------------------------------


@command("pfdebug")
def pfdebug(client: Session, argv: list[bytes]) -> bytes:
    db, key, slot = client.db, argv[2], client.slot
    found = _checked(db.peek(key, slot))
    if found is None:
        raise CommandError(b"ERR The specified key does not exist")
    content = _mutable(client, key, slot, found)
    word = argv[1].lower()
    if word not in (b"getreg", b"decode", b"encoding", b"todense"):
        raise CommandError(b"ERR Unknown PFDEBUG subcommand '%b'" % argv[1].partition(b"\0")[0])
    if word == b"encoding":
        return simple(b"sparse" if content[4] else b"dense")
    if word == b"decode":
        if content[4] != hyperloglog.SPARSE:
            raise CommandError(b"ERR HLL encoding is not sparse")
        return bulk(hyperloglog.describe_runs(content))
    was_sparse = content[4] == hyperloglog.SPARSE
    if was_sparse:
        try:
            hyperloglog.make_dense(content)
        except CorruptedError:
            raise CommandError(_CORRUPTED) from None
        db.keyspace.dirty += 1
    if word == b"todense":
        return ONE if was_sparse else ZERO
    return array([integer(rank) for rank in hyperloglog.registers(content)])


@command("pfselftest")
def pfselftest(client: Session, argv: list[bytes]) -> bytes:
    """Both encodings, filled with the same, agree; and the estimates are as near as they should be."""
    sparse, dense = hyperloglog.new(), hyperloglog.new()
    hyperloglog.make_dense(dense)
    most_sparse_bytes = client.server.settings.hll_sparse_max_bytes
    salt = client.server.rng.randbytes(8)
    checkpoint = 1
    for number in range(1, _SELF_TEST_ELEMENTS + 1):
        element = salt + number.to_bytes(8, "little")
        hyperloglog.add(sparse, element, most_sparse_bytes)
        hyperloglog.add(dense, element, most_sparse_bytes)
        if number not in (checkpoint, _SELF_TEST_ELEMENTS):
            continue
        checkpoint *= 10
        if hyperloglog.registers(sparse) != hyperloglog.registers(dense):
            raise CommandError(b"ERR TESTFAILED dense/sparse disagree")
        deviation = abs(number - hyperloglog.count(dense))
        # Six times the standard error (1.04 / sqrt(registers)), and one for the smallest numbers.
        if deviation > max(1, 6 * 1.04 / 128 * number):
            raise CommandError(b"ERR TESTFAILED Too big error. card:%d abserr:%d" % (number, deviation))
    return OK
