"""DEBUG: what tests and developers need to look inside, and to break things on purpose (debug.c).

One function per subcommand, found in a table by its name; each takes the arguments behind the name.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from cluster import clock, errors
from cluster.commands.arguments import parse_integer, read_double
from cluster.commands.context import Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.gossip.state import Node
from cluster.keyspace import digest, values
from cluster.keyspace.glob import compile_glob
from cluster.resp.encode import OK, array, bulk, error, integer, simple
from cluster.slots.hashing import key_slot

Subcommand = Callable[[Session, list[bytes]], bytes | None]

_SUBCOMMANDS: dict[bytes, tuple[range, Subcommand]] = {}


def subcommand(name: bytes, least: int, most: int | None = None) -> Callable[[Subcommand], Subcommand]:
    """Register ``DEBUG <name>`` with between ``least`` and ``most`` arguments (``least`` only, if not told)."""

    def register(function: Subcommand) -> Subcommand:
        _SUBCOMMANDS[name] = (range(least, (least if most is None else most) + 1), function)
        return function

    return register


@command("debug")
def debug(client: Session, argv: list[bytes]) -> bytes | None:
    name, arguments = argv[1].lower(), argv[2:]
    accepted, function = _SUBCOMMANDS.get(name, (range(0), None))
    if function is None or len(arguments) not in accepted:
        raise CommandError(
            b"ERR unknown subcommand or wrong number of arguments for '%b'. Try DEBUG HELP." % argv[1][:128]
        )
    return function(client, arguments)


_ANY = 1 << 20


# Time and crashes -----------------------------------------------------------------------------------------------


@subcommand(b"sleep", 1)
def _sleep(client: Session, arguments: list[bytes]) -> bytes:
    """Stop the whole server, as a slow disk or a busy machine would."""
    clock.stand_still(max(read_double(arguments[0]) or 0.0, 0.0))
    client.db.keyspace.now_ms = clock.unix_ms()
    return OK


@subcommand(b"segfault", 0)
def _segfault(client: Session, arguments: list[bytes]) -> bytes | None:
    _crash(client, signal.SIGSEGV)
    return None


@subcommand(b"panic", 0)
def _panic(client: Session, arguments: list[bytes]) -> bytes | None:
    client.server.log.warning("------------------------------------------------")
    client.server.log.warning("!!! Software Failure. Press left mouse button to continue")
    client.server.log.warning("Guru Meditation: called by Unix user 'DEBUG PANIC'")
    client.server.log.warning("------------------------------------------------")
    _crash(client, signal.SIGABRT)
    return None


@subcommand(b"assert", 0)
def _assert(client: Session, arguments: list[bytes]) -> bytes | None:
    client.server.log.warning("=== ASSERTION FAILED ===")
    client.server.log.warning("==> debug.py: '1 == 2' is not true")
    _crash(client, signal.SIGABRT)
    return None


@subcommand(b"oom", 0)
def _oom(client: Session, arguments: list[bytes]) -> bytes | None:
    client.server.log.warning("Out Of Memory allocating a test value!")
    _crash(client, signal.SIGABRT)
    return None


def _crash(client: Session, number: signal.Signals) -> None:
    """Die by a signal, with a report that says so."""
    log = client.server.log
    log.warning("=== REDIS BUG REPORT START: Cut & paste starting from here ===")
    log.warning(f"Hashslot crashed by signal: {int(number)}, si_code: 0")
    log.warning("=== REDIS BUG REPORT END ===")
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@subcommand(b"restart", 0, 1)
@subcommand(b"crash-and-recover", 0, 1)
def _restart(client: Session, arguments: list[bytes]) -> bytes | None:
    """Start the same process anew, after a delay in milliseconds."""
    delay_ms = parse_integer(arguments[0]) if arguments else 0
    client.server.restart(max(delay_ms, 0))
    return None


@subcommand(b"log", 1)
def _log(client: Session, arguments: list[bytes]) -> bytes:
    client.server.log.warning(f"DEBUG LOG: {arguments[0].decode('utf-8', 'backslashreplace')}")
    return OK


@subcommand(b"error", 1)
def _error(client: Session, arguments: list[bytes]) -> bytes:
    return error(arguments[0])


@subcommand(b"leak", 1)
def _leak(client: Session, arguments: list[bytes]) -> bytes:
    return OK


# Switches -------------------------------------------------------------------------------------------------------


@subcommand(b"set-active-expire", 1)
def _set_active_expire(client: Session, arguments: list[bytes]) -> bytes:
    client.server.active_expire = arguments[0] != b"0"
    return OK


@subcommand(b"pause-cron", 1)
def _pause_cron(client: Session, arguments: list[bytes]) -> bytes:
    client.server.cron.paused = arguments[0] != b"0"
    return OK


@subcommand(b"quicklist-packed-threshold", 1)
@subcommand(b"set-disable-deny-scripts", 1)
@subcommand(b"aof-flush-sleep", 1)
@subcommand(b"replybuffer", 2)
@subcommand(b"client-eviction", 0)
def _accepted(client: Session, arguments: list[bytes]) -> bytes:
    """Switches for parts of Redis that have no counterpart here."""
    return OK


@subcommand(b"set-skip-checksum-validation", 1)
def _set_skip_checksum_validation(client: Session, arguments: list[bytes]) -> bytes:
    client.server.skip_checksum_validation = arguments[0] != b"0"
    return OK


@subcommand(b"config-rewrite-force-all", 0)
def _config_rewrite_force_all(client: Session, arguments: list[bytes]) -> bytes:
    client.server.config.rewrite(force_all=True)
    return OK


# Data -----------------------------------------------------------------------------------------------------------


@subcommand(b"digest", 0)
def _digest(client: Session, arguments: list[bytes]) -> bytes:
    return simple(digest.dataset_digest(client.db.keyspace).hex().encode())


@subcommand(b"digest-value", 0, _ANY)
def _digest_value(client: Session, arguments: list[bytes]) -> bytes:
    db = client.db
    parts = []
    for key in arguments:
        value = db.peek(key, key_slot(key))
        found = digest.EMPTY_DIGEST
        if value is not None:
            found = digest.mix_value(found, value, expires=key in db.expires)
        parts.append(simple(found.hex().encode()))
    return array(parts)


@subcommand(b"populate", 1, 3)
def _populate(client: Session, arguments: list[bytes]) -> bytes:
    count = parse_integer(arguments[0])
    prefix = arguments[1] if len(arguments) > 1 else b"key"
    size = parse_integer(arguments[2]) if len(arguments) > 2 else 0
    if count < 0 or size < 0:
        raise CommandError(errors.OUT_OF_RANGE_POSITIVE)
    db = client.db
    followed, db.keyspace.followed = db.keyspace.followed, False  # Not replicated, as documented.
    for number in range(count):
        key = b"%b:%d" % (prefix, number)
        slot = key_slot(key)
        if db.peek(key, slot) is None:
            value = b"value:%d" % number
            db.put(key, slot, value[:size].ljust(size, b"\0") if size else value)
    db.keyspace.followed = followed
    client.effects = []
    return OK


@subcommand(b"reload", 0, 3)
def _reload(client: Session, arguments: list[bytes]) -> bytes:
    options = {argument.upper() for argument in arguments}
    if not options <= {b"NOSAVE", b"NOFLUSH", b"MERGE"}:
        raise CommandError(b"ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
    saving = client.server.saving
    if b"NOSAVE" not in options and not saving.save():
        raise CommandError(b"ERR")
    if not saving.reload(flush=b"NOFLUSH" not in options, merge=b"MERGE" in options):
        raise CommandError(b"ERR Error trying to load the RDB dump, check server logs")
    client.server.log.warning("DB reloaded by DEBUG RELOAD")
    return OK


@subcommand(b"loadaof", 0)
def _loadaof(client: Session, arguments: list[bytes]) -> bytes:
    raise CommandError(b"ERR there is no append only file to load")


@subcommand(b"object", 1, 2)
def _object(client: Session, arguments: list[bytes]) -> bytes:
    from cluster.persistence.dump_payload import dump

    table = client.db.slots[key_slot(arguments[0])]
    value = table.get(arguments[0])
    if value is None:
        raise CommandError(errors.NO_SUCH_KEY)
    serialized = len(dump(value)) - 11
    # Numbers are replaced and not changed; what stays where it is, as Redis's object does, is the slot's table.
    return simple(
        b"Value at:%#x refcount:%d encoding:%b serializedlength:%d lru:0 lru_seconds_idle:0"
        % (id(table), values.reference_count(value), values.encoding(value), serialized)
    )


@subcommand(b"sdslen", 1)
def _sdslen(client: Session, arguments: list[bytes]) -> bytes:
    value = client.db.peek(arguments[0], key_slot(arguments[0]))
    if value is None:
        raise CommandError(errors.NO_SUCH_KEY)
    if not isinstance(value, (bytes, bytearray)):
        raise CommandError(b"ERR Not an sds encoded string.")
    key_size, size = len(arguments[0]), len(value)
    return simple(
        b"key_sds_len:%d, key_sds_avail:0, key_zmalloc: %d, val_sds_len:%d, val_sds_avail:0, val_zmalloc: %d"
        % (key_size, key_size, size, size)
    )


@subcommand(b"htstats", 1)
def _htstats(client: Session, arguments: list[bytes]) -> bytes:
    index = parse_integer(arguments[0])
    databases = client.db.keyspace.databases
    if not 0 <= index < len(databases):
        raise CommandError(b"ERR Out of range database")
    db = databases[index]
    occupied = sum(1 for keys in db.slots if keys)
    text = (
        f"[Dictionary HT]\nslots in use: {occupied} of {len(db.slots)}\nkeys: {len(db)}\n"
        f"[Expires HT]\nkeys: {len(db.expires)}\n"
    )
    return client.proto.verbatim(text.encode())


@subcommand(b"htstats-key", 1)
def _htstats_key(client: Session, arguments: list[bytes]) -> bytes:
    value = client.db.peek(arguments[0], key_slot(arguments[0]))
    if value is None:
        raise CommandError(errors.NO_SUCH_KEY)
    raise CommandError(b"ERR The value stored at the specified key is not represented using an hash table")


@subcommand(b"listpack", 1)
@subcommand(b"quicklist", 1, 2)
def _layout(client: Session, arguments: list[bytes]) -> bytes:
    value = client.db.peek(arguments[0], key_slot(arguments[0]))
    if value is None:
        raise CommandError(errors.NO_SUCH_KEY)
    raise CommandError(b"ERR Not a listpack encoded object.")


@subcommand(b"structsize", 0)
def _structsize(client: Session, arguments: list[bytes]) -> bytes:
    import sys

    sizes = f"bits:64 robj:0 dictentry:0 bytes:{sys.getsizeof(b'')} dict:{sys.getsizeof({})} int:{sys.getsizeof(1)}"
    return simple(sizes.encode())


@subcommand(b"stringmatch-len", 2)
def _stringmatch_len(client: Session, arguments: list[bytes]) -> bytes:
    text = b"a" * parse_integer(arguments[0])
    return integer(int(compile_glob(arguments[1])(text)))


@subcommand(b"stringmatch-test", 0)
def _stringmatch_test(client: Session, arguments: list[bytes]) -> bytes:
    return simple(b"Apparently Redis did not crash: test passed")


# Replication and cluster ----------------------------------------------------------------------------------------


@subcommand(b"change-repl-id", 0)
def _change_repl_id(client: Session, arguments: list[bytes]) -> bytes:
    client.server.log.warning("Changing replication IDs after receiving change-repl-id")
    client.server.replication_state.change_replication_id()
    client.server.replication_state.clear_replication_id2()
    return OK


@subcommand(b"replicate", 2, _ANY)
def _replicate(client: Session, arguments: list[bytes]) -> bytes:
    client.effects = [arguments[1:]]
    client.db.keyspace.dirty += 1
    return OK


@subcommand(b"drop-cluster-packet-filter", 1)
def _drop_cluster_packet_filter(client: Session, arguments: list[bytes]) -> bytes:
    kind = parse_integer(arguments[0])
    if client.server.cluster is not None:
        client.server.cluster.dropped_message_type = kind
    return OK


@subcommand(b"clusterlink", 3)
def _clusterlink(client: Session, arguments: list[bytes]) -> bytes:
    server = client.server
    if server.engine is None or server.cluster is None:
        raise CommandError(b"ERR Debug option only available for cluster mode enabled setup!")
    direction = arguments[1].lower()
    node: Node | None = server.cluster.nodes.get(arguments[2].decode("latin-1"))
    if node is None:
        raise CommandError(b"ERR Unknown node %b" % arguments[2])
    if arguments[0].lower() != b"kill" or direction not in (b"to", b"from", b"all"):
        raise CommandError(b"ERR Unknown direction %b" % arguments[1])
    server.engine.kill_links(node.node_id, direction in (b"to", b"all"), direction in (b"from", b"all"))
    return OK


# Protocol -------------------------------------------------------------------------------------------------------

_PROTOCOL_NAMES = b"string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false"


@subcommand(b"protocol", 1)
def _protocol(client: Session, arguments: list[bytes]) -> bytes:
    """A reply of every type, for the tests of client libraries."""
    proto = client.proto
    is_resp3 = proto.version == 3
    numbers = [integer(number) for number in range(3)]
    big = b"1234567999999999999999999999999999999"
    name = arguments[0].lower()
    if name == b"push":
        if not is_resp3:
            raise CommandError(b"ERR RESP2 is not supported by this command")
        client.push(proto.push([bulk(b"server-cpu-usage"), integer(42)]))
        return bulk(b"Some real reply following the push reply")
    attribute = b"|1\r\n" + bulk(b"key-popularity") + array([bulk(b"key:123"), integer(90)]) if is_resp3 else b""
    replies = {
        b"string": bulk(b"Hello World"),
        b"integer": integer(12345),
        b"double": proto.double(3.141),
        b"bignum": b"(%b\r\n" % big if is_resp3 else bulk(big),
        b"null": proto.null,
        b"array": array(numbers),
        b"set": proto.set(numbers),
        b"map": proto.map([part for number in range(3) for part in (integer(number), proto.boolean(number == 1))]),
        b"attrib": attribute + bulk(b"Some real reply following the attribute"),
        b"true": proto.boolean(True),
        b"false": proto.boolean(False),
        b"verbatim": proto.verbatim(b"This is a verbatim\nstring"),
    }
    if name not in replies:
        raise CommandError(b"ERR Wrong protocol type name. Please use one of the following: %b" % _PROTOCOL_NAMES)
    return replies[name]


@subcommand(b"jmap", 0)
def _jmap(client: Session, arguments: list[bytes]) -> bytes:
    return OK


@subcommand(b"help", 0)
def _help(client: Session, arguments: list[bytes]) -> bytes:
    lines = []
    for name, (accepted, function) in sorted(_SUBCOMMANDS.items()):
        lines.append(name.upper() + b" <arg>" * accepted.start)
        lines.append(
            b"    " + ((function.__doc__ or "Behaves like the same subcommand of Redis.").split("\n")[0]).encode()
        )
    return help_reply(b"DEBUG", [line for line in lines if line.strip() != b"HELP"])
