"""Commands about keys, whatever their type (db.c, expire.c, OBJECT). Expiry replicates as PEXPIREAT or DEL."""

from __future__ import annotations

from cluster import clock, errors
from cluster.commands.arguments import expire_time_ms, parse_int32, parse_integer
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.commands.scanning import parse_scan_options
from cluster.errors import CommandError
from cluster.keyspace import values
from cluster.keyspace.access import frequency_of
from cluster.keyspace.database import Database, Value
from cluster.keyspace.glob import compile_glob
from cluster.keyspace.reclaim import RECLAIMER
from cluster.keyspace.slot_scan import SLOT_SCANS
from cluster.resp.encode import (
    EMPTY_ARRAY,
    MINUS_ONE,
    MINUS_TWO,
    OK,
    ONE,
    ZERO,
    array,
    bulk,
    bulk_array,
    integer,
    simple,
)
from cluster.slots.hashing import key_slot

# Existence ------------------------------------------------------------------------------------------------------


@command("del")
def del_(client: Session, argv: list[bytes]) -> bytes:
    return _delete(client, argv, lazily=client.server.settings.lazyfree_lazy_user_del)


@command("unlink")
def unlink(client: Session, argv: list[bytes]) -> bytes:
    return _delete(client, argv, lazily=True)


def _delete(client: Session, argv: list[bytes], *, lazily: bool) -> bytes:
    db = client.db
    count = 0
    for key in argv[1:]:
        slot = key_slot(key)
        if db.peek(key, slot) is not None:
            db.delete(key, slot, lazily=lazily)
            db.notify("g", b"del", key)
            count += 1
    return integer(count)


@command("exists")
def exists(client: Session, argv: list[bytes]) -> bytes:
    glance = client.db.glance
    return integer(sum(glance(key, key_slot(key)) is not None for key in argv[1:]))


@command("touch")
def touch(client: Session, argv: list[bytes]) -> bytes:
    read = client.db.read
    return integer(sum(read(key, key_slot(key)) is not None for key in argv[1:]))


@command("type")
def type_(client: Session, argv: list[bytes]) -> bytes:
    value = client.db.glance(argv[1], client.slot)
    return simple(b"none" if value is None else values.type_name(value))


@command("randomkey")
def randomkey(client: Session, argv: list[bytes]) -> bytes:
    return client.proto.bulk_or_null(client.db.random_key())


# Expiry ---------------------------------------------------------------------------------------------------------


@command("ttl")
def ttl(client: Session, argv: list[bytes]) -> bytes:
    return _time_to_live(client, argv[1], in_seconds=True, absolute=False)


@command("pttl")
def pttl(client: Session, argv: list[bytes]) -> bytes:
    return _time_to_live(client, argv[1], in_seconds=False, absolute=False)


@command("expiretime")
def expiretime(client: Session, argv: list[bytes]) -> bytes:
    return _time_to_live(client, argv[1], in_seconds=True, absolute=True)


@command("pexpiretime")
def pexpiretime(client: Session, argv: list[bytes]) -> bytes:
    return _time_to_live(client, argv[1], in_seconds=False, absolute=True)


def _time_to_live(client: Session, key: bytes, *, in_seconds: bool, absolute: bool) -> bytes:
    db = client.db
    if db.glance(key, client.slot) is None:
        return MINUS_TWO
    at_ms = db.expire_at(key)
    if at_ms is None:
        return MINUS_ONE
    left_ms = at_ms if absolute else max(at_ms - db.keyspace.now_ms, 0)
    return integer((left_ms + 500) // 1000 if in_seconds else left_ms)


@command("expire")
def expire(client: Session, argv: list[bytes]) -> bytes:
    return _expire(client, argv, in_seconds=True, relative_to_ms=client.db.keyspace.now_ms)


@command("pexpire")
def pexpire(client: Session, argv: list[bytes]) -> bytes:
    return _expire(client, argv, in_seconds=False, relative_to_ms=client.db.keyspace.now_ms)


@command("expireat")
def expireat(client: Session, argv: list[bytes]) -> bytes:
    return _expire(client, argv, in_seconds=True, relative_to_ms=0)


@command("pexpireat")
def pexpireat(client: Session, argv: list[bytes]) -> bytes:
    return _expire(client, argv, in_seconds=False, relative_to_ms=0)


def _parse_expire_conditions(words: list[bytes]) -> set[bytes]:
    """NX, XX, GT, LT. Raises CommandError for an unknown word or a pair that excludes itself."""
    conditions = set()
    for word in words:
        condition = word.upper()
        if condition not in (b"NX", b"XX", b"GT", b"LT"):
            raise CommandError(b"ERR Unsupported option %b" % errors.quoted(word))
        conditions.add(condition)
    if b"NX" in conditions and len(conditions) > 1:
        raise CommandError(b"ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= conditions:
        raise CommandError(b"ERR GT and LT options at the same time are not compatible")
    return conditions


def _condition_holds(conditions: set[bytes], current_ms: int | None, at_ms: int) -> bool:
    """No expiry counts as an infinite one."""
    return not (
        (b"NX" in conditions and current_ms is not None)
        or (b"XX" in conditions and current_ms is None)
        or (b"GT" in conditions and (current_ms is None or at_ms <= current_ms))
        or (b"LT" in conditions and current_ms is not None and at_ms >= current_ms)
    )


def _expire(client: Session, argv: list[bytes], *, in_seconds: bool, relative_to_ms: int) -> bytes:
    conditions = _parse_expire_conditions(argv[3:])
    at_ms = expire_time_ms(
        parse_integer(argv[2]),
        in_seconds=in_seconds,
        relative_to_ms=relative_to_ms,
        command=client.server.commands.find(argv[0]).name,  # type: ignore[union-attr]
    )
    db, key = client.db, argv[1]
    if db.peek(key, client.slot) is None or not _condition_holds(conditions, db.expire_at(key), at_ms):
        return ZERO
    keyspace = db.keyspace
    if at_ms <= keyspace.now_ms and not keyspace.is_replica and not client.server.loading:
        db.delete(key, client.slot)
        client.effects = [[keyspace.deletion_word, key]]
        db.notify("g", b"del", key)
        return ONE
    db.set_expiry(key, at_ms)
    db.changed(key)
    is_absolute_ms = not in_seconds and relative_to_ms == 0
    client.effects = [[argv[0] if is_absolute_ms else b"PEXPIREAT", key, b"%d" % at_ms, *argv[3:]]]
    db.notify("g", b"expire", key)
    return ONE


@command("persist")
def persist(client: Session, argv: list[bytes]) -> bytes:
    db, key = client.db, argv[1]
    if db.peek(key, client.slot) is None or not db.persist(key):
        return ZERO
    db.changed(key)
    db.notify("g", b"persist", key)
    return ONE


# Renaming and copying -------------------------------------------------------------------------------------------


@command("rename")
def rename(client: Session, argv: list[bytes]) -> bytes:
    return OK if _rename(client, argv, only_if_absent=False) else ZERO


@command("renamenx")
def renamenx(client: Session, argv: list[bytes]) -> bytes:
    return ONE if _rename(client, argv, only_if_absent=True) else ZERO


def _rename(client: Session, argv: list[bytes], *, only_if_absent: bool) -> bool:
    db, source, target = client.db, argv[1], argv[2]
    source_slot, target_slot = key_slot(source), key_slot(target)
    value = db.peek(source, source_slot)
    if value is None:
        raise CommandError(errors.NO_SUCH_KEY)
    if source == target:
        return not only_if_absent
    if db.peek(target, target_slot) is not None and only_if_absent:
        return False
    at_ms = db.expire_at(source)
    client.server.blocking.key_changed(db, target)  # Who waits for both is served from what came before what went.
    db.remove(source, source_slot)
    db.touched(source)
    _place(db, target, target_slot, value, at_ms)
    db.notify("g", b"rename_from", source)
    db.notify("g", b"rename_to", target)
    return True


def _place(db: Database, key: bytes, slot: int, value: Value, at_ms: int | None) -> None:
    """Store a value under a name, with its expiry; what was there is gone before."""
    db.remove(key, slot)
    db.put(key, slot, value)
    if at_ms is not None:
        db.set_expiry(key, at_ms)


def database_index(client: Session, text: bytes) -> int:
    """The number of a database that an argument names; in cluster mode, too, there are ``databases`` numbers."""
    index = parse_int32(text)
    if not 0 <= index < client.server.settings.databases:
        raise CommandError(errors.DB_INDEX_OUT_OF_RANGE)
    return index


@command("copy")
def copy(client: Session, argv: list[bytes]) -> bytes:
    db = client.db
    target_index = db.index
    replace = False
    words = iter(argv[3:])
    for word in words:
        option = word.upper()
        if option == b"REPLACE":
            replace = True
        elif option == b"DB" and (index := next(words, None)) is not None:
            target_index = database_index(client, index)
        else:
            raise CommandError(errors.SYNTAX)
    if client.server.cluster is not None and target_index != 0:
        raise CommandError(b"ERR Copying to another database is not allowed in cluster mode")
    target_db = db.keyspace.databases[target_index]
    source, target = argv[1], argv[2]
    if db is target_db and source == target:
        raise CommandError(errors.SAME_OBJECT)
    value = db.read(source, key_slot(source))
    target_slot = key_slot(target)
    if value is None or (target_db.peek(target, target_slot) is not None and not replace):
        return ZERO
    _place(target_db, target, target_slot, values.copy(value), db.expire_at(source))
    target_db.notify("g", b"copy_to", target)
    return ONE


@command("move")
def move(client: Session, argv: list[bytes]) -> bytes:
    if client.server.cluster is not None:
        raise CommandError(b"ERR MOVE is not allowed in cluster mode")
    db, key, slot = client.db, argv[1], client.slot
    target_db = db.keyspace.databases[database_index(client, argv[2])]
    if target_db is db:
        raise CommandError(errors.SAME_OBJECT)
    value = db.peek(key, slot)
    if value is None or target_db.peek(key, slot) is not None:
        return ZERO
    at_ms = db.expire_at(key)
    _place(target_db, key, slot, value, at_ms)
    db.remove(key, slot)
    db.touched(key)
    db.notify("g", b"move_from", key)
    target_db.notify("g", b"move_to", key)
    return ONE


# Walking the keyspace -------------------------------------------------------------------------------------------


@command("keys")
def keys(client: Session, argv: list[bytes]) -> bytes:
    db = client.db
    matches = compile_glob(argv[1])
    return bulk_array([key for key, _value in db.items() if matches(key) and not _hidden(db, key)])


def _hidden(db: Database, key: bytes) -> bool:
    return bool(db.expires) and db.is_expired(key)


def parse_cursor(text: bytes) -> int:
    """A SCAN cursor, as ``strtoul`` reads it: a sign is allowed, and nothing is 0. Raises CommandError."""
    digits = text[1:] if text[:1] in (b"+", b"-") else text
    if (not digits.isdigit() and text) or len(digits.lstrip(b"0")) > 20 or int(digits or b"0") >= 2**64:
        raise CommandError(errors.INVALID_CURSOR)
    return int(text or b"0") % 2**64


@command("scan")
def scan(client: Session, argv: list[bytes]) -> bytes:
    """The cursor is the first slot not yet walked: a key that is there throughout is in a slot that is walked.

    Slots of many keys are walked in pieces (keyspace.slot_scan).
    """
    cursor = parse_cursor(argv[1])
    options = parse_scan_options(argv[2:], has_type=True)
    wanted_type = options.wanted_type
    db = client.db
    cursor, found = SLOT_SCANS.walk(db.slots, cursor, options.count, clock.monotonic_ms(), db.keyspace.slots_per_table)
    if options.matches is not None:
        found = list(filter(options.matches, found))
    visible = []
    for key in found:
        # A look at the type counts as reading, as in Redis.
        if wanted_type is None:
            if db.exists(key, key_slot(key)):
                visible.append(key)
            continue
        value = db.glance(key, key_slot(key))
        if value is not None and values.type_name(value) == wanted_type:
            visible.append(key)
    return array([bulk(b"%d" % cursor), bulk_array(visible) if visible else EMPTY_ARRAY])


@command("dbsize")
def dbsize(client: Session, argv: list[bytes]) -> bytes:
    return integer(len(client.db))


_FLUSH_NOW_US = 5000
"""How long FLUSHALL SYNC frees memory before it answers; what is left is freed in the turns that follow."""


def _flushes_lazily(client: Session, argv: list[bytes]) -> bool:
    """FLUSHDB and FLUSHALL take ASYNC or SYNC. Raises CommandError."""
    if len(argv) > 2 or (len(argv) == 2 and argv[1].upper() not in (b"ASYNC", b"SYNC")):
        raise CommandError(errors.SYNTAX)
    return argv[1].upper() == b"ASYNC" if len(argv) == 2 else client.server.settings.lazyfree_lazy_user_flush


@command("flushdb")
def flushdb(client: Session, argv: list[bytes]) -> bytes:
    _empty(client, [client.db], lazily=_flushes_lazily(client, argv))
    client.server.tracking.all_keys_gone()
    client.effects = [argv]
    return OK


@command("flushall")
def flushall(client: Session, argv: list[bytes]) -> bytes:
    _empty(client, client.db.keyspace.databases, lazily=_flushes_lazily(client, argv))
    client.server.tracking.all_keys_gone()
    client.effects = [argv]
    client.server.saving.all_data_flushed()
    return OK


def _empty(client: Session, databases: list[Database], *, lazily: bool) -> None:
    for db in databases:
        client.server.watches.database_emptied(db)
        db.keyspace.dirty += db.clear(lazily=lazily)
        client.server.blocking.contents_replaced(db)
    if not lazily:
        RECLAIMER.drain(_FLUSH_NOW_US)


@command("swapdb")
def swapdb(client: Session, argv: list[bytes]) -> bytes:
    if client.server.cluster is not None:
        raise CommandError(b"ERR SWAPDB is not allowed in cluster mode")
    first = parse_int32(argv[1], b"ERR invalid first DB index")
    second = parse_int32(argv[2], b"ERR invalid second DB index")
    databases = client.db.keyspace.databases
    if not (0 <= first < len(databases) and 0 <= second < len(databases)):
        raise CommandError(errors.DB_INDEX_OUT_OF_RANGE)
    watches = client.server.watches
    if first != second:
        watches.database_emptied(databases[first], databases[second])
        watches.database_emptied(databases[second], databases[first])
        databases[first].swap_contents(databases[second])
        client.server.blocking.contents_replaced(databases[first])
        client.server.blocking.contents_replaced(databases[second])
    client.db.keyspace.dirty += 1
    return OK


# OBJECT ---------------------------------------------------------------------------------------------------------


@command("object|encoding")
def object_encoding(client: Session, argv: list[bytes]) -> bytes:
    value = _object(client, argv)
    return client.proto.null if value is None else bulk(values.encoding(value))


@command("object|refcount")
def object_refcount(client: Session, argv: list[bytes]) -> bytes:
    value = _object(client, argv)
    if value is None:
        return client.proto.null
    settings = client.server.settings
    shares = not settings.maxmemory or not settings.maxmemory_policy.endswith(("lru", "lfu"))
    return integer(values.reference_count(value, shares_integers=shares))


@command("object|idletime")
def object_idletime(client: Session, argv: list[bytes]) -> bytes:
    if _object(client, argv) is None:
        return client.proto.null
    if b"lfu" in client.server.settings.maxmemory_policy.encode():
        raise CommandError(
            b"ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between "
            b"policies at runtime LRU and LFU data will take some time to adjust."
        )
    db = client.db
    return integer(max(db.keyspace.now_ms - db.last_used_ms(argv[2], key_slot(argv[2])), 0) // 1000)


@command("object|freq")
def object_freq(client: Session, argv: list[bytes]) -> bytes:
    if _object(client, argv) is None:
        return client.proto.null
    if b"lfu" not in client.server.settings.maxmemory_policy.encode():
        raise CommandError(
            b"ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when "
            b"switching between policies at runtime LRU and LFU data will take some time to adjust."
        )
    counter = frequency_of(client.db, argv[2])
    assert counter is not None  # Databases keep counters from the moment on when the policy changes.
    return integer(counter)


def _object(client: Session, argv: list[bytes]) -> Value | None:
    """The value that is asked about: neither a use of the key nor, if it is missing, worth an event."""
    db, key, slot = client.db, argv[2], key_slot(argv[2])
    if db.exists(key, slot):
        return db.glance(key, slot)
    db.keyspace.misses += 1
    return None


@command("object|help")
def object_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"OBJECT",
        [
            b"ENCODING <key>",
            b"    Return the kind of internal representation used in order to store the value",
            b"    associated with a <key>.",
            b"FREQ <key>",
            b"    Return the access frequency index of the <key>. The returned integer is",
            b"    proportional to the logarithm of the recent access frequency of the key.",
            b"IDLETIME <key>",
            b"    Return the idle time of the <key>, that is the approximated number of",
            b"    seconds elapsed since the last access to the key.",
            b"REFCOUNT <key>",
            b"    Return the number of references of the value associated with the specified",
            b"    <key>.",
        ],
    )


def help_reply(container: bytes, lines: list[bytes]) -> bytes:
    """The answer of ``<container> HELP``: a title, the lines, and HELP itself (addReplyHelp)."""
    title = b"%b <subcommand> [<arg> [value] [opt] ...]. Subcommands are:" % container
    return array([simple(line) for line in [title, *lines, b"HELP", b"    Prints this help."]])
