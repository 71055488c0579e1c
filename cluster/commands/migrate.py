"""DUMP, RESTORE, RESTORE-ASKING and MIGRATE: values as payloads, and keys on their way to another server.

What is replicated: RESTORE with an absolute expiry, or the DEL of a value that came too late; MIGRATE as the DEL of
exactly those keys that the target acknowledged, also when the command as a whole fails. Source: cluster.c of Redis 7.0.
Units: milliseconds; expiry is Unix time.
"""

from __future__ import annotations

from typing import Final

import attrs

from cluster import clock, errors
from cluster.commands.arguments import parse_integer
from cluster.commands.context import MigrateConnection, Session
from cluster.commands.registry import command
from cluster.errors import CommandError, RdbError
from cluster.keyspace.database import Database
from cluster.keyspace.strings import INT64_MAX
from cluster.persistence.dump_payload import damage_inside
from cluster.persistence.dump_payload import dump as dump_value
from cluster.persistence.dump_payload import restore as restore_value
from cluster.resp.encode import OK, bulk, bulk_array, simple
from cluster.slots.hashing import key_slot

DEFAULT_TIMEOUT_MS: Final = 1000
TIMEOUT_MS_MAX: Final = 2**31 - 1
SHOWN_DAMAGE_BYTES: Final = 1024
NO_KEY: Final = simple(b"NOKEY")


# --- DUMP and RESTORE ------------------------------------------------------------------------------------------------


@command("dump")
def dump(client: Session, argv: list[bytes]) -> bytes:
    """DUMP key"""
    value = client.db.read(argv[1], client.slot)
    if value is None:
        return client.proto.null
    return bulk(dump_value(value, compress=client.server.settings.rdbcompression))


@command("restore")
def restore(client: Session, argv: list[bytes]) -> bytes:
    """RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]"""
    return _restore(client, argv)


@command("restore-asking")
def restore_asking(client: Session, argv: list[bytes]) -> bytes:
    """RESTORE into a slot that is being imported, as MIGRATE sends it."""
    return _restore(client, argv)


@attrs.frozen
class RestoreOptions:
    """IDLETIME and FREQ are checked and accepted; they would only matter to eviction."""

    replace: bool = False
    absolute_ttl: bool = False
    idle_seconds: int | None = None
    frequency: int | None = None


def _restore_options(words: list[bytes]) -> RestoreOptions:
    replace = absolute_ttl = False
    idle_seconds: int | None = None
    frequency: int | None = None
    rest = iter(words)
    for word in rest:
        match word.lower():
            case b"replace":
                replace = True
            case b"absttl":
                absolute_ttl = True
            case b"idletime" if frequency is None and (text := next(rest, None)) is not None:
                idle_seconds = parse_integer(text)
                if idle_seconds < 0:
                    raise CommandError(b"ERR Invalid IDLETIME value, must be >= 0")
            case b"freq" if idle_seconds is None and (text := next(rest, None)) is not None:
                frequency = parse_integer(text)
                if not 0 <= frequency <= 255:
                    raise CommandError(b"ERR Invalid FREQ value, must be >= 0 and <= 255")
            case _:
                raise CommandError(errors.SYNTAX)
    return RestoreOptions(replace, absolute_ttl, idle_seconds, frequency)


def _restore(client: Session, argv: list[bytes]) -> bytes:
    key, db, slot = argv[1], client.db, client.slot
    keyspace = db.keyspace
    options = _restore_options(argv[4:])
    if not options.replace and db.exists(key, slot):
        raise CommandError(errors.BUSYKEY)
    ttl_ms = parse_integer(argv[2])
    if ttl_ms < 0:
        raise CommandError(b"ERR Invalid TTL value, must be >= 0")
    try:
        value = restore_value(argv[3], check_crc=not client.server.skip_checksum_validation)
    except RdbError as damage:
        _report_damage(client, damage)
        raise CommandError(f"ERR {damage}".encode()) from damage

    replaced = options.replace and db.remove(key, slot)
    expire_at_ms = ttl_ms
    if ttl_ms and not options.absolute_ttl:
        expire_at_ms = min(ttl_ms + keyspace.now_ms, INT64_MAX)
    if expire_at_ms and expire_at_ms <= keyspace.now_ms and not keyspace.is_replica and not client.server.loading:
        client.effects = []  # What is already over is not stored; what it was to replace is gone.
        if replaced:
            db.changed(key)
            db.notify("g", b"del", key)
            client.effects = [[b"DEL", key]]
        return OK

    db.put(key, slot, value)
    db.learn(key, options.idle_seconds, options.frequency)
    if expire_at_ms:
        db.set_expiry(key, expire_at_ms)
        if not options.absolute_ttl:
            client.effects = [[argv[0], key, b"%d" % expire_at_ms, *argv[3:], b"ABSTTL"]]
    db.notify("g", b"restore", key)
    return OK


def _report_damage(client: Session, damage: RdbError) -> None:
    """What is wrong with a payload, for the log.

    Where the settings say that payloads are to be trusted Redis would have taken one whose inside is damaged, and ended
    by a failed assertion, at once or when somebody used the key. Here it is refused like any other, and warned of.
    """
    log = client.server.log
    if damage.__cause__ is not None:
        log.verbose(f"Internal error in RDB reading offset 0 -> {damage.__cause__}")
    inside = damage_inside(damage)
    if inside is None or not _trusts_payloads(client):
        return
    log.warning("A payload that is to be trusted (sanitize-dump-payload) is damaged inside, and is refused:")
    log.warning(f"{inside} dump (hexdump of {len(inside.structure)} bytes):")
    shown = inside.structure[:SHOWN_DAMAGE_BYTES]
    for start in range(0, len(shown), 32):
        log.warning(shown[start : start + 32].hex())


def _trusts_payloads(client: Session) -> bool:
    """Whether Redis would look at frames only (sanitize-dump-payload)."""
    wanted = client.server.settings.sanitize_dump_payload
    if wanted == "clients":
        return client.is_master_link or client.user.sanitizes_payload is False
    return wanted == "no"


# --- MIGRATE ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Migration:
    """A MIGRATE request, parsed."""

    host: bytes
    port: bytes
    database: int
    timeout_ms: int
    keys: list[bytes]
    copy: bool = False
    replace: bool = False
    credentials: list[bytes] = attrs.field(factory=list, repr=False)
    """What follows AUTH: a password, or a user and a password."""


@command("migrate")
def migrate(client: Session, argv: list[bytes]) -> bytes:
    """MIGRATE host port key|"" db timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS key …]"""
    migration = _parse(client, argv)
    client.effects = []  # Each key's DEL is added when it is gone from here.
    keys = [key for key in migration.keys if client.db.read(key, key_slot(key)) is not None]
    if not keys:
        return NO_KEY
    sending = _Sending(client, migration, keys)
    try:
        sending.run()
    finally:
        if sending.moved:
            client.db.keyspace.propagate(client.db.index, [b"DEL", *sending.moved])
    return OK


def _parse(client: Session, argv: list[bytes]) -> Migration:
    copy = replace = False
    credentials: list[bytes] = []
    keys = [argv[3]]
    position = 6
    while position < len(argv):
        word = argv[position].lower()
        left = len(argv) - 1 - position
        if word == b"copy":
            copy = True
        elif word == b"replace":
            replace = True
        elif word == b"auth" and left >= 1:
            # As in Redis, AUTH after AUTH2 replaces the password alone.
            credentials = [*credentials[:-1], argv[position + 1]]
            client.redact(argv, position + 1)
            position += 1
        elif word == b"auth2" and left >= 2:
            credentials = argv[position + 1 : position + 3]
            client.redact(argv, position + 1, position + 2)
            position += 2
        elif word == b"keys":
            if argv[3]:
                raise CommandError(
                    b"ERR When using MIGRATE KEYS option, the key argument must be set to the empty string"
                )
            keys = argv[position + 1 :]
            break
        else:
            raise CommandError(errors.SYNTAX)
        position += 1
    timeout_ms = parse_integer(argv[5])
    database = parse_integer(argv[4])
    if timeout_ms <= 0:
        timeout_ms = DEFAULT_TIMEOUT_MS
    timeout_ms = min(timeout_ms, TIMEOUT_MS_MAX)
    return Migration(argv[1], argv[2], database, timeout_ms, keys, copy, replace, credentials)


class _LinkBroke(Exception):
    """The target could not be talked to. ``may_retry``: it is sure that nothing was processed there, and it is no
    time-out; then a new connection may do what one kept from before, and closed meanwhile, could not."""

    def __init__(self, doing: bytes, *, may_retry: bool) -> None:
        super().__init__(doing)
        self.doing = doing
        self.may_retry = may_retry


class _Sending:
    """One MIGRATE under way."""

    def __init__(self, client: Session, migration: Migration, keys: list[bytes]) -> None:
        self._client = client
        self._migration = migration
        self._keys = keys
        self._connections = client.server.migrate_connections
        self.moved: list[bytes] = []
        """The keys that are at the target now and no longer here."""

    def run(self) -> None:
        """Move (or copy) the keys. Raises CommandError in Redis's words."""
        try:
            try:
                self._attempt()
            except _LinkBroke as first:
                if not first.may_retry:
                    raise
                self._attempt()
        except _LinkBroke as failure:
            raise CommandError(b"IOERR error or timeout %b to target instance" % failure.doing) from failure

    def _attempt(self) -> None:
        migration = self._migration
        try:
            connection = self._connections.get(
                migration.host, migration.port, migration.timeout_ms, clock.monotonic_ms()
            )
        except OSError as error:
            raise CommandError(b"IOERR error or timeout connecting to the client") from error
        try:
            self._exchange(connection)
        except _LinkBroke:
            self._connections.close(migration.host, migration.port)
            raise

    def _exchange(self, connection: MigrateConnection) -> None:
        migration = self._migration
        timeout_ms = migration.timeout_ms
        preamble: list[list[bytes]] = []
        if migration.credentials:
            preamble.append([b"AUTH", *migration.credentials])
        if connection.selected_database != migration.database:
            preamble.append([b"SELECT", b"%d" % migration.database])
        keys, restores = self._restores()
        try:
            connection.send(b"".join(map(bulk_array, [*preamble, *restores])), timeout_ms)
        except OSError as error:
            raise _LinkBroke(b"writing", may_retry=not isinstance(error, TimeoutError)) from error

        refusal: bytes | None = None
        acknowledged = 0
        try:
            for _ in preamble:
                reply = connection.read_line(timeout_ms)
                if reply.startswith(b"-") and refusal is None:
                    refusal = reply[1:]
            is_preamble_refused = refusal is not None
            for key in keys:
                reply = connection.read_line(timeout_ms)
                acknowledged += 1
                if reply.startswith(b"-") or is_preamble_refused:
                    refusal = refusal or reply[1:]
                elif not migration.copy:
                    self._delete(key)
        except OSError as error:
            if refusal is None:
                may_retry = not acknowledged and not isinstance(error, TimeoutError)
                raise _LinkBroke(b"reading", may_retry=may_retry) from error
            self._connections.close(migration.host, migration.port)
        if refusal is not None:
            connection.selected_database = None
            raise CommandError(b"ERR Target instance replied with error: " + refusal)
        connection.selected_database = migration.database

    def _restores(self) -> tuple[list[bytes], list[list[bytes]]]:
        """The keys that are still alive, and the command that creates each at the target."""
        db = self._client.db
        is_cluster = self._client.server.cluster is not None
        name = b"RESTORE-ASKING" if is_cluster else b"RESTORE"
        options = [b"REPLACE"] if self._migration.replace else []
        keys: list[bytes] = []
        commands: list[list[bytes]] = []
        now_ms = clock.unix_ms()
        for key in self._keys:
            expire_at_ms = db.expire_at(key)
            ttl_ms = 0
            if expire_at_ms is not None:
                if expire_at_ms < now_ms:
                    continue
                ttl_ms = max(expire_at_ms - now_ms, 1)
            keys.append(key)
            payload = dump_value(_stored(db, key), compress=self._client.server.settings.rdbcompression)
            commands.append([name, key, b"%d" % ttl_ms, payload, *options])
        return keys, commands

    def _delete(self, key: bytes) -> None:
        """The target has the key: it is no longer here. (Once: MIGRATE KEYS may name one twice.)"""
        db = self._client.db
        if db.delete(key, key_slot(key)):
            db.notify("g", b"del", key)
            self.moved.append(key)


def _stored(db: Database, key: bytes) -> object:
    return db.slots[key_slot(key)][key]
