"""DEBUG: what tests and developers need to look inside, and to break things on purpose (debug.c).

One function per subcommand, found in a table by its name; each takes the arguments behind the name.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from cluster import clock, errors
from cluster.commands.arguments import parse_bounded, parse_integer, read_double
from cluster.commands.context import REPLY_BUFFER_KEPT_MS, Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.gossip.state import Node
from cluster.keyspace import digest, values
from cluster.keyspace.effects import ReplicasOnly
from cluster.keyspace.strings import INT64_MAX
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
    if function is not None and len(arguments) in accepted:
        try:
            return function(client, arguments)
        except _UnknownSubcommand:
            pass
    raise CommandError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try DEBUG HELP." % argv[1][:128]
    ) from None


class _UnknownSubcommand(Exception):
    """The first argument is not one of those that the subcommand knows."""


_ANY = 1 << 20


# Time and crashes -----------------------------------------------------------------------------------------------


@subcommand(b"sleep", 1)
def _sleep(client: Session, arguments: list[bytes]) -> bytes:
    """Stop the whole server, as a slow disk or a busy machine would."""
    clock.stand_still(max(read_double(arguments[0]) or 0.0, 0.0))
    if not client.is_script:  # For a script time stands still.
        client.db.keyspace.now_ms = clock.unix_ms()
    return OK


@subcommand(b"segfault", 0, _ANY)
def _segfault(client: Session, arguments: list[bytes]) -> bytes | None:
    _crash(client, signal.SIGSEGV)
    return None


@subcommand(b"panic", 0, _ANY)
def _panic(client: Session, arguments: list[bytes]) -> bytes | None:
    client.server.log.warning("------------------------------------------------")
    client.server.log.warning("!!! Software Failure. Press left mouse button to continue")
    client.server.log.warning("Guru Meditation: called by Unix user 'DEBUG PANIC'")
    client.server.log.warning("------------------------------------------------")
    _crash(client, signal.SIGABRT)
    return None


@subcommand(b"assert", 0, _ANY)
def _assert(client: Session, arguments: list[bytes]) -> bytes | None:
    client.server.log.warning("=== ASSERTION FAILED ===")
    client.server.log.warning("==> debug.py: '1 == 2' is not true")
    _crash(client, signal.SIGABRT)
    return None


@subcommand(b"oom", 0, _ANY)
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
    if number is signal.SIGABRT and client.server.settings.use_exit_on_panic:
        os._exit(1)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@subcommand(b"restart", 0, _ANY)
def _restart(client: Session, arguments: list[bytes]) -> bytes | None:
    """Write configuration and data, then start the same process anew, after a delay in milliseconds."""
    delay_ms = _restart_delay_ms(arguments)
    server = client.server
    try:
        if server.config.path is not None:
            server.config.rewrite()
        is_prepared = server.stopping.prepare_restart()
    except CommandError as refusal:
        server.log.warning(f"Can't restart: {refusal.message.decode(errors='replace')}")
        is_prepared = False
    if not is_prepared:
        raise CommandError(b"ERR failed to restart the server. Check server logs.")
    server.restart(delay_ms)
    return None


@subcommand(b"crash-and-recover", 0, _ANY)
def _crash_and_recover(client: Session, arguments: list[bytes]) -> bytes | None:
    """Start the same process anew, with no more on disk than there happens to be."""
    client.server.restart(_restart_delay_ms(arguments))
    return None


def _restart_delay_ms(arguments: list[bytes]) -> int:
    return max(parse_integer(arguments[0]) if arguments else 0, 0)


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
@subcommand(b"client-eviction", 0)
def _accepted(client: Session, arguments: list[bytes]) -> bytes:
    """Switches for parts of Redis that have no counterpart here."""
    return OK


@subcommand(b"set-disable-deny-scripts", 1)
def _set_disable_deny_scripts(client: Session, arguments: list[bytes]) -> bytes:
    client.server.scripting.allow_all_commands(arguments[0] != b"0")
    return OK


@subcommand(b"replybuffer", 2)
def _replybuffer(client: Session, arguments: list[bytes]) -> bytes:
    """How soon the reply buffer of an idle client counts as given back (CLIENT LIST's rbs); and no resizing at all."""
    option, value = arguments[0].lower(), arguments[1].lower()
    server = client.server
    if option == b"peak-reset-time":
        words = {b"never": None, b"reset": REPLY_BUFFER_KEPT_MS}
        server.reply_buffer_kept_ms = words[value] if value in words else parse_integer(value)
    elif option == b"resizing":
        server.reply_buffer_kept_ms = None if parse_integer(value) == 0 else REPLY_BUFFER_KEPT_MS
    else:
        raise _UnknownSubcommand
    return OK


@subcommand(b"aof-flush-sleep", 1)
def _aof_flush_sleep(client: Session, arguments: list[bytes]) -> bytes:
    """Rest before each write of the append only file, in microseconds."""
    client.server.aof.flush_sleep_us = max(parse_integer(arguments[0]), 0)
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
    count = parse_bounded(arguments[0], 0, INT64_MAX, errors.OUT_OF_RANGE_POSITIVE)
    prefix = arguments[1] if len(arguments) > 1 else b"key"
    size = parse_bounded(arguments[2], 0, INT64_MAX, errors.OUT_OF_RANGE_POSITIVE) if len(arguments) > 2 else 0
    db = client.db
    # Neither replicated, as documented, nor a change that save points count.
    followed, db.keyspace.followed = db.keyspace.followed, False
    dirty = db.keyspace.dirty
    for number in range(count):
        key = b"%b:%d" % (prefix, number)
        slot = key_slot(key)
        if db.peek(key, slot) is None:
            value = b"value:%d" % number
            db.put(key, slot, value[:size].ljust(size, b"\0") if size else value)
    db.keyspace.followed = followed
    db.keyspace.dirty = dirty
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
    if not saving.reload(client, flush=b"NOFLUSH" not in options, merge=b"MERGE" in options):
        raise CommandError(b"ERR Error trying to load the RDB dump")
    client.server.log.warning("DB reloaded by DEBUG RELOAD")
    return OK


@subcommand(b"loadaof", 0)
def _loadaof(client: Session, arguments: list[bytes]) -> bytes:
    server = client.server
    if not server.aof_role.load_now(client):
        os._exit(1)  # There is neither the old data set any more nor a complete new one.
    server.log.warning("Append Only File loaded by DEBUG LOADAOF")
    return OK


@subcommand(b"object", 1)
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
    if not isinstance(value, (bytes, bytearray)) or values.encoding(value) == b"int":
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
    tables = db.tables()
    occupied = sum(map(bool, tables))
    text = (
        f"[Dictionary HT]\ntables in use: {occupied} of {len(tables)}\nkeys: {len(db)}\n"
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
def _listpack(client: Session, arguments: list[bytes]) -> bytes:
    raise _other_layout(client, arguments[0], b"listpack")


@subcommand(b"quicklist", 1, 2)
def _quicklist(client: Session, arguments: list[bytes]) -> bytes:
    raise _other_layout(client, arguments[0], b"quicklist")


def _other_layout(client: Session, key: bytes, layout: bytes) -> CommandError:
    """Nothing here is laid out as in Redis."""
    if client.db.peek(key, key_slot(key)) is None:
        return CommandError(errors.NO_SUCH_KEY)
    return CommandError(b"ERR Not a %b encoded object." % layout)


@subcommand(b"structsize", 0)
def _structsize(client: Session, arguments: list[bytes]) -> bytes:
    import sys

    sizes = f"bits:64 robj:0 dictentry:0 bytes:{sys.getsizeof(b'')} dict:{sys.getsizeof({})} int:{sys.getsizeof(1)}"
    return simple(sizes.encode())


@subcommand(b"stringmatch-test", 0)
def _stringmatch_test(client: Session, arguments: list[bytes]) -> bytes:
    return simple(b"Apparently Redis did not crash: test passed")


# Replication and cluster ----------------------------------------------------------------------------------------


@subcommand(b"change-repl-id", 0)
def _change_repl_id(client: Session, arguments: list[bytes]) -> bytes:
    client.server.log.warning("Changing replication IDs after receiving DEBUG change-repl-id")
    client.server.replication_state.change_replication_id()
    client.server.replication_state.clear_replication_id2()
    return OK


@subcommand(b"replicate", 1, _ANY)
def _replicate(client: Session, arguments: list[bytes]) -> bytes:
    """Send replicas a command that is not run here: the data sets diverge."""
    client.db.keyspace.propagate(client.db.index, ReplicasOnly(arguments))
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


_HELP = (
    b"AOF-FLUSH-SLEEP <microsec>",
    b"    Server will sleep before flushing the AOF, this is used for testing.",
    b"ASSERT",
    b"    Crash by assertion failed.",
    b"CHANGE-REPL-ID",
    b"    Change the replication IDs of the instance.",
    b"    Dangerous: should be used only for testing the replication subsystem.",
    b"CONFIG-REWRITE-FORCE-ALL",
    b"    Like CONFIG REWRITE but writes all configuration options, including",
    b"    keywords not listed in original configuration file or default values.",
    b"CRASH-AND-RECOVER [<milliseconds>]",
    b"    Hard crash and restart after a <milliseconds> delay (default 0).",
    b"DIGEST",
    b"    Output a hex signature representing the current DB content.",
    b"DIGEST-VALUE <key> [<key> ...]",
    b"    Output a hex signature of the values of all the specified keys.",
    b"ERROR <string>",
    b"    Return a Redis protocol error with <string> as message. Useful for clients",
    b"    unit tests to simulate Redis errors.",
    b"LEAK <string>",
    b"    Create a memory leak of the input string.",
    b"LOG <message>",
    b"    Write <message> to the server log.",
    b"HTSTATS <dbid>",
    b"    Return hash table statistics of the specified Redis database.",
    b"HTSTATS-KEY <key>",
    b"    Like HTSTATS but for the hash table stored at <key>'s value.",
    b"LOADAOF",
    b"    Flush the AOF buffers on disk and reload the AOF in memory.",
    b"REPLICATE <string>",
    b"    Replicates the provided string to replicas, allowing data divergence.",
    b"OBJECT <key>",
    b"    Show low level info about `key` and associated value.",
    b"DROP-CLUSTER-PACKET-FILTER <packet-type>",
    b"    Drop all packets that match the filtered type. Set to -1 allow all packets.",
    b"OOM",
    b"    Crash the server simulating an out-of-memory error.",
    b"PANIC",
    b"    Crash the server simulating a panic.",
    b"POPULATE <count> [<prefix>] [<size>]",
    b"    Create <count> string keys named key:<num>. If <prefix> is specified then",
    b"    it is used instead of the 'key' prefix. These are not propagated to",
    b"    replicas. Cluster slots are not respected so keys not belonging to the",
    b"    current node can be created in cluster mode.",
    b"PROTOCOL <type>",
    b"    Reply with a test value of the specified type. <type> can be: string,",
    b"    integer, double, bignum, null, array, set, map, attrib, push, verbatim,",
    b"    true, false.",
    b"RELOAD [option ...]",
    b"    Save the RDB on disk and reload it back to memory. Valid <option> values:",
    b"    * MERGE: conflicting keys will be loaded from RDB.",
    b"    * NOFLUSH: the existing database will not be removed before load, but",
    b"      conflicting keys will generate an exception and kill the server.",
    b"    * NOSAVE: the database will be loaded from an existing RDB file.",
    b"    Examples:",
    b"    * DEBUG RELOAD: verify that the server is able to persist, flush and reload",
    b"      the database.",
    b"    * DEBUG RELOAD NOSAVE: replace the current database with the contents of an",
    b"      existing RDB file.",
    b"    * DEBUG RELOAD NOSAVE NOFLUSH MERGE: add the contents of an existing RDB",
    b"      file to the database.",
    b"RESTART [<milliseconds>]",
    b"    Graceful restart: save config, db, restart after a <milliseconds> delay (default 0).",
    b"SDSLEN <key>",
    b"    Show low level SDS string info representing `key` and value.",
    b"SEGFAULT",
    b"    Crash the server with sigsegv.",
    b"SET-ACTIVE-EXPIRE <0|1>",
    b"    Setting it to 0 disables expiring keys in background when they are not",
    b"    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the",
    b"    default.",
    b"QUICKLIST-PACKED-THRESHOLD <size>",
    b"    Sets the threshold for elements to be inserted as plain vs packed nodes",
    b"    Default value is 1GB, allows values up to 4GB. Setting to 0 restores to default.",
    b"SET-SKIP-CHECKSUM-VALIDATION <0|1>",
    b"    Enables or disables checksum checks for RDB files and RESTORE's payload.",
    b"SLEEP <seconds>",
    b"    Stop the server for <seconds>. Decimals allowed.",
    b"STRINGMATCH-TEST",
    b"    Run a fuzz tester against the stringmatchlen() function.",
    b"STRUCTSIZE",
    b"    Return the size of different Redis core C structures.",
    b"LISTPACK <key>",
    b"    Show low level info about the listpack encoding of <key>.",
    b"QUICKLIST <key> [<0|1>]",
    b"    Show low level info about the quicklist encoding of <key>.",
    b"    The optional argument (0 by default) sets the level of detail",
    b"CLIENT-EVICTION",
    b"    Show low level client eviction pools info (maxmemory-clients).",
    b"PAUSE-CRON <0|1>",
    b"    Stop periodic cron job processing.",
    b"REPLYBUFFER PEAK-RESET-TIME <NEVER||RESET|time>",
    b"    Sets the time (in milliseconds) to wait between client reply buffer peak resets.",
    b"    In case NEVER is provided the last observed peak will never be reset",
    b"    In case RESET is provided the peak reset time will be restored to the default value",
    b"REPLYBUFFER RESIZING <0|1>",
    b"    Enable or disable the reply buffer resize cron job",
    b"CLUSTERLINK KILL <to|from|all> <node-id>",
    b"    Kills the link based on the direction to/from (both) with the provided node.",
)


@subcommand(b"help", 0)
def _help(client: Session, arguments: list[bytes]) -> bytes:
    return help_reply(b"DEBUG", list(_HELP))
