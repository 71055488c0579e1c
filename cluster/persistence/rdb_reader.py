"""Reading an RDB file or stream, in slices.

Role        :class:`RdbParser` is fed bytes in chunks of any size and hands keys to an :class:`RdbSink`. It serves a
            file that the loop loads between two passes, a replica's socket, and a file followed by an AOF tail,
            alike.
Invariants  Whatever the bytes are, the outcome is keys, a wish for more bytes, or RdbError with the offset and
            Redis's words. Memory: the bytes of the entry at hand and one chunk, and what the sink keeps. Keys are
            emitted before the checksum at the end is known: whoever must not end up half-loaded throws the result
            away on RdbError.
Method      An entry is decoded straight from the buffer. When the buffer ends inside it, it is decoded again once
            there are at least twice as many of its bytes (or as many as it is known to need), so the total cost stays
            linear.
Spec        rdbLoadRioWithLoadingCtx in rdb.c.      Units  ``*_ms`` Unix milliseconds, ``idle_s`` seconds, offsets
            bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

import attrs

from cluster.errors import RdbError, UnknownRdbFormat
from cluster.persistence.crc64 import bulk_crc64
from cluster.persistence.rdb_cursor import Cursor, ShortRead
from cluster.persistence.rdb_format import (
    FIRST_VERSION_WITH_CHECKSUM,
    MAGIC,
    RDB_VERSION_MAX_READABLE,
    ModuleOpcode,
    Opcode,
    RdbType,
    module_type_name,
    rdb_error,
)
from cluster.persistence.rdb_values import EmptyValue, Packer, is_value_type, read_value

HEADER_BYTES: Final = 9
SHORT_READ: Final = "Short read or OOM loading DB. Unrecoverable error, aborting now."
CHECKSUM_BYTES: Final = 8
READ_CHUNK_BYTES: Final = 1 << 20
RDB_TYPE_STRING: Final = int(RdbType.STRING)
_EMPTY_KEYS_LOGGED: Final = 10


class Progress(enum.Enum):
    """Why :meth:`RdbParser.parse` returned."""

    NEED_DATA = "need data"
    PAUSED = "paused"
    """The agreed number of keys is reached; more can be parsed at once."""
    DONE = "done"


class RdbSink:
    """Receives what a file holds. Every method may be overridden; these ones ignore what they get."""

    pack: Packer | None = None
    """Which collections are wanted in another form."""

    def key(
        self,
        database: int,
        key: bytes,
        value: Any,
        expire_ms: int | None,
        idle_s: int | None,
        frequency: int | None,
    ) -> None:
        """A key that is to be stored."""

    def expired(self, database: int, key: bytes) -> None:
        """A key that was dropped because its time is over."""

    def function(self, source: bytes) -> None:
        """A function library's source."""
        self.log("warning", "RDB holds a function library, which is skipped: functions are not loaded here")

    def resize(self, database: int, keys: int, expires: int) -> None:
        """How many keys and expiries the file claims for a database: a hint, to be used with care."""

    def log(self, level: str, text: str) -> None:
        """A line for the log; ``level`` as in the loglevel directive."""


@attrs.define
class LoadCounts:
    """What a load did so far."""

    keys_loaded: int = 0
    keys_expired: int = 0
    empty_keys_skipped: int = 0
    functions: int = 0


@attrs.frozen
class LoadPolicy:
    """How to read."""

    verify_checksum: bool = True
    """The directive rdbchecksum."""
    drop_expired_before_ms: int | None = None
    """Keys that expire earlier are dropped: now, on a master that loads its own file. None (a replica's full sync,
    the base of an AOF): keep all, the master's DEL or the AOF decides."""
    database_count: int = 16
    total_bytes: int | None = None
    """The size of the whole input, where it is known: lengths that lead beyond it are refused at once."""


class RdbParser:
    """An incremental parser; see the module's docstring."""

    def __init__(self, sink: RdbSink, policy: LoadPolicy | None = None, unix_s: int | None = None) -> None:
        self.sink = sink
        self.policy = policy or LoadPolicy()
        self.unix_s = unix_s
        """Now, to log the file's age; None: do not log it."""
        self.version = 0
        self.aux: dict[bytes, bytes] = {}
        """The file's remarks about itself: redis-ver, ctime, repl-id, repl-offset …"""
        self.counts = LoadCounts()
        self.done = False
        self._cursor = Cursor(b"")
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._wanted_bytes = HEADER_BYTES
        self._ended = False
        self._starved = True
        """Nothing is tried until more bytes are there: as many as ``_wanted_bytes``."""
        self._crc = 0
        self._crc_position = 0
        self._database = 0
        self._expire_ms: int | None = None
        self._idle_s: int | None = None
        self._frequency: int | None = None

    # Input ------------------------------------------------------------------------------------------------------

    @property
    def offset(self) -> int:
        """Bytes parsed so far."""
        return self._cursor.offset

    def feed(self, chunk: bytes) -> None:
        """Add bytes; call :meth:`parse` next."""
        if chunk:
            self._pending.append(chunk)
            self._pending_bytes += len(chunk)

    def feed_end(self) -> None:
        """There is no more; what is incomplete now is an error."""
        self._ended = True

    def leftover(self) -> bytes:
        """The bytes after the end of the file (an AOF tail, an end mark), once done."""
        return b"".join((self._cursor.data[self._cursor.position :], *self._pending))

    def _refill(self) -> bool:
        """Join what was fed to what is left; False while that is less than the entry at hand needs."""
        cursor = self._cursor
        left = len(cursor.data) - cursor.position
        if self._pending_bytes == 0 or (left + self._pending_bytes < self._wanted_bytes and not self._ended):
            return False
        self._update_crc()
        rest = cursor.data[cursor.position :]
        data = b"".join((rest, *self._pending)) if rest or len(self._pending) != 1 else self._pending[0]
        self._cursor = Cursor(data, 0, cursor.offset)
        self._crc_position = 0
        self._pending = []
        self._pending_bytes = 0
        return True

    def _update_crc(self) -> None:
        position = self._cursor.position
        if self.policy.verify_checksum and position > self._crc_position:
            with memoryview(self._cursor.data) as view:
                self._crc = bulk_crc64()(view[self._crc_position : position], self._crc)
        self._crc_position = position

    def _fell_short(self, start: int, short: ShortRead) -> bool:
        """Go back to ``start`` and wait for more; True when more is at hand already. RdbError when none can come."""
        cursor = self._cursor
        available = len(cursor.data) - start
        needed = available + short.missing_bytes
        cursor.position = start
        total = self.policy.total_bytes
        if total is not None and cursor.offset + needed > total:
            raise self._end_of_file()
        self._wanted_bytes = max(needed, 2 * available)
        if total is not None:
            self._wanted_bytes = min(self._wanted_bytes, total - cursor.offset)
        if self._refill():
            return True
        if self._ended:
            raise self._end_of_file()
        return False

    def _end_of_file(self) -> RdbError:
        end = self._cursor.base_offset + len(self._cursor.data)
        self.sink.log("warning", SHORT_READ)
        return rdb_error(end, "Unexpected EOF reading RDB file")

    # Parsing ----------------------------------------------------------------------------------------------------

    def parse(self, max_keys: int | None = None) -> Progress:
        """Go on until the bytes run out, ``max_keys`` keys were read, or the file ends."""
        if self._starved and not self._refill() and not self._ended:
            return Progress.NEED_DATA
        self._starved = False
        remaining = -1 if max_keys is None else max_keys
        while not self.done and remaining != 0:
            start = self._cursor.position
            try:
                if self.version == 0:
                    self._header()
                    continue
                remaining -= self._entry()
                remaining -= self._run_of_strings(remaining)
            except ShortRead as short:
                if not self._fell_short(start, short):
                    self._starved = True
                    return Progress.NEED_DATA
        return Progress.DONE if self.done else Progress.PAUSED

    def _header(self) -> None:
        cursor = self._cursor
        header = cursor.take(HEADER_BYTES)
        if not header.startswith(MAGIC):
            raise UnknownRdbFormat("Wrong signature trying to load DB from file (offset 0)")
        digits = header[len(MAGIC) :]
        version = int(digits) if digits.isdigit() else 0
        if not 1 <= version <= RDB_VERSION_MAX_READABLE:
            shown = version if digits.isdigit() else digits.decode("ascii", "backslashreplace")
            raise UnknownRdbFormat(f"Can't handle RDB format version {shown} (offset {len(MAGIC)})")
        self.version = version

    def _entry(self) -> bool:
        """Read one opcode or one key; True for a key."""
        cursor = self._cursor
        code = cursor.byte()
        if is_value_type(code):
            self._key(code)
            return True
        handler = _OPCODES.get(code)
        if handler is None:
            raise cursor.error(f"Unknown RDB encoding type {code}")
        handler(self)
        return False

    def _key(self, code: int) -> None:
        cursor = self._cursor
        key = cursor.string()
        expire_ms = self._expire_ms
        try:
            value = read_value(code, cursor, self.sink.pack)
        except EmptyValue:
            self._skip_empty(key)
        else:
            limit_ms = self.policy.drop_expired_before_ms
            if expire_ms is not None and limit_ms is not None and expire_ms < limit_ms:
                self.counts.keys_expired += 1
                self.sink.expired(self._database, key)
            else:
                self.counts.keys_loaded += 1
                self.sink.key(self._database, key, value, expire_ms, self._idle_s, self._frequency)
        self._expire_ms = self._idle_s = self._frequency = None

    def _run_of_strings(self, limit: int) -> int:
        """Emit the string keys that come next in the plainest layout, at most ``limit`` (negative: all); how many.

        Only a short cut through :meth:`_entry` for what most files consist of: four times as fast.
        """
        if self.done or not (self._expire_ms is self._idle_s is self._frequency is None):
            return 0
        cursor = self._cursor
        data = cursor.data
        size = len(data)
        position = cursor.position
        emit = self.sink.key
        database = self._database
        count = 0
        while count != limit and position + 2 < size and data[position] == RDB_TYPE_STRING:
            key_end = position + 2 + data[position + 1]
            if key_end >= size or data[position + 1] >= 64:
                break
            start = key_end + 1
            value_size = data[key_end]
            if value_size >= 64:
                if value_size >= 128 or start >= size:
                    break
                value_size = (value_size & 0x3F) << 8 | data[start]
                start += 1
            end = start + value_size
            if end > size:
                break
            emit(database, data[position + 2 : key_end], data[start:end], None, None, None)
            position = end
            count += 1
        cursor.position = position
        self.counts.keys_loaded += count
        return count

    def _skip_empty(self, key: bytes) -> None:
        self.counts.empty_keys_skipped += 1
        if self.counts.empty_keys_skipped <= _EMPTY_KEYS_LOGGED:
            self.sink.log("warning", f"rdbLoadObject skipping empty key: {_readable(key)}")

    def _on_expire_time(self) -> None:
        self._expire_ms = int.from_bytes(self._cursor.take(4), "little", signed=True) * 1000

    def _on_expire_time_ms(self) -> None:
        self._expire_ms = self._cursor.milliseconds()

    def _on_frequency(self) -> None:
        self._frequency = self._cursor.byte()

    def _on_idle(self) -> None:
        self._idle_s = self._cursor.length()

    def _on_select(self) -> None:
        database = self._cursor.length()
        if database >= self.policy.database_count:
            raise RdbError(
                "FATAL: Data file was created with a Redis server configured to handle more than "
                f"{self.policy.database_count} databases. Exiting (offset {self.offset})"
            )
        self._database = database

    def _on_resize(self) -> None:
        keys = self._cursor.length()
        expires = self._cursor.length()
        self.sink.resize(self._database, keys, expires)

    def _on_aux(self) -> None:
        name = self._cursor.string()
        text = self._cursor.string()
        self.aux[name] = text
        line = describe_aux(name, text, self.unix_s)
        if line is not None:
            self.sink.log(*line)

    def _on_module_aux(self) -> None:
        cursor = self._cursor
        module = module_type_name(cursor.length())
        when_opcode = cursor.length()
        cursor.length()
        if when_opcode != ModuleOpcode.UINT:
            raise cursor.error("bad when_opcode")
        cursor.skip_module_data()
        self.sink.log(
            "warning", f"The RDB file contains AUX module data of '{module}', which is skipped: no such module"
        )

    def _on_function2(self) -> None:
        self._function(self._cursor.string())

    def _on_function(self) -> None:
        cursor = self._cursor
        name, engine = cursor.string(), cursor.string()
        if cursor.length():
            cursor.string()  # A description, which the final format has no place for.
        self._function(b"#!%b name=%b\n%b" % (engine, name, cursor.string()))

    def _function(self, source: bytes) -> None:
        self.counts.functions += 1
        self.sink.function(source)

    def _on_end(self) -> None:
        cursor = self._cursor
        if self.version >= FIRST_VERSION_WITH_CHECKSUM:
            end = cursor.position
            stored = int.from_bytes(cursor.take(CHECKSUM_BYTES), "little")
            cursor.position = end
            self._update_crc()
            cursor.position = end + CHECKSUM_BYTES
            self._verify(stored)
        self.done = True
        counts = self.counts
        line = f"Done loading RDB, keys loaded: {counts.keys_loaded}, keys expired: {counts.keys_expired}"
        if counts.empty_keys_skipped:
            self.sink.log("warning", f"{line}, empty keys skipped: {counts.empty_keys_skipped}.")
        else:
            self.sink.log("notice", f"{line}.")

    def _verify(self, stored: int) -> None:
        if not self.policy.verify_checksum:
            return
        if stored == 0:
            self.sink.log("warning", "RDB file was saved with checksum disabled: no check performed.")
        elif stored != self._crc:
            self.sink.log(
                "warning", f"Wrong RDB checksum expected: ({self._crc:x}) but got ({stored:x}). Aborting now."
            )
            raise rdb_error(
                self.offset, f"RDB CRC error (Wrong RDB checksum expected: ({self._crc:x}) but got ({stored:x}))"
            )


_OPCODES: Final[dict[int, Callable[[RdbParser], None]]] = {
    Opcode.EXPIRETIME: RdbParser._on_expire_time,
    Opcode.EXPIRETIME_MS: RdbParser._on_expire_time_ms,
    Opcode.FREQ: RdbParser._on_frequency,
    Opcode.IDLE: RdbParser._on_idle,
    Opcode.EOF: RdbParser._on_end,
    Opcode.SELECTDB: RdbParser._on_select,
    Opcode.RESIZEDB: RdbParser._on_resize,
    Opcode.AUX: RdbParser._on_aux,
    Opcode.MODULE_AUX: RdbParser._on_module_aux,
    Opcode.FUNCTION: RdbParser._on_function,
    Opcode.FUNCTION2: RdbParser._on_function2,
}


def _readable(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def _aux_number(text: bytes) -> int:
    """The number of an aux field, 0 when it is none (as strtol gives)."""
    try:
        return int(text)
    except ValueError:
        return 0


def describe_aux(name: bytes, text: bytes, unix_s: int | None) -> tuple[str, str] | None:
    """The log line (level, text) that Redis writes about an aux field, if any."""
    match name.lower():
        case _ if name.startswith(b"%"):
            return "notice", f"RDB '{_readable(name)}': {_readable(text)}"
        case b"redis-ver":
            return "notice", f"Loading RDB produced by version {_readable(text)}"
        case b"ctime":
            return None if unix_s is None else ("notice", f"RDB age {max(0, unix_s - _aux_number(text))} seconds")
        case b"used-mem":
            return "notice", f"RDB memory usage when created {_aux_number(text) / (1024 * 1024):.2f} Mb"
        case b"aof-preamble":
            return ("notice", "RDB has an AOF tail") if _aux_number(text) else None
        case b"aof-base":
            return ("notice", "RDB is base AOF") if _aux_number(text) else None
        case b"redis-bits" | b"lua" | b"repl-stream-db" | b"repl-id" | b"repl-offset":
            return None
    return "debug", f"Unrecognized RDB AUX field: '{_readable(name)}'"


def load_slices(parser: RdbParser, file: BinaryIO, max_keys: int) -> Iterator[int]:
    """Parse ``file`` to its RDB end, yielding the offset after every ``max_keys`` keys or chunk read, and there.

    Bytes after the end (an AOF tail) that were read already are :meth:`RdbParser.leftover`.
    """
    while True:
        match parser.parse(max_keys):
            case Progress.DONE:
                yield parser.offset
                return
            case Progress.NEED_DATA:
                chunk = file.read(READ_CHUNK_BYTES)
                parser.feed(chunk)
                if not chunk:
                    parser.feed_end()
            case Progress.PAUSED:
                pass
        yield parser.offset
