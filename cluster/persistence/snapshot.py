"""Snapshots: what of the server goes into an RDB file, and how it comes back.

Role        :func:`write_snapshot` turns a keyspace into RDB bytes; :func:`save_file` makes a file of them that
            appears whole or not at all; :class:`KeyspaceSink` and :func:`load_file` are the way back.
Invariants  A file is written as ``temp-<pid>.rdb``, flushed to the disk, renamed, and its folder flushed: after any
            crash ``dbfilename`` is the old snapshot or the new one. Nothing is iterated while it may change: the
            caller is a forked child, or the loop stands still (SAVE).
Spec        rdbSave, rdbSaveRio, rdbLoad in rdb.c; log texts are Redis's.
Units       ``unix_s`` seconds since 1970, ``*_ms`` milliseconds since 1970, ``*_us`` microseconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Protocol

import attrs

import cluster
from cluster.errors import RdbError
from cluster.keyspace.database import Database, Keyspace
from cluster.persistence.packing import pack
from cluster.persistence.rdb_reader import LoadPolicy, RdbParser, RdbSink, load_slices
from cluster.persistence.rdb_writer import RdbWriter
from cluster.settings import Settings
from cluster.slots.hashing import key_slot

Log = Callable[[str, str], None]
"""``log(level, text)``, level as in the loglevel directive."""
Usage = Callable[[Database, bytes], tuple[int | None, int | None]]
"""``usage(database, key) -> (idle seconds, access frequency)``: at most one of them, as maxmemory-policy says."""

REDIS_VERSION: Final = cluster.REDIS_VERSION.encode()
AUTOSYNC_BYTES: Final = 4 * 1024 * 1024
"""rdb-save-incremental-fsync: so much is flushed to the disk at a time, instead of everything at the end."""
PROGRESS_KEYS: Final = 1024
"""Progress is mentioned after so many keys."""
LOAD_SLICE_KEYS: Final = 1000


class StreamPlace(Protocol):
    """The place in the replication stream that a snapshot stands for."""

    @property
    def replid(self) -> str: ...
    @property
    def offset(self) -> int: ...
    @property
    def stream_database(self) -> int: ...


@attrs.frozen
class SnapshotOptions:
    """What a snapshot contains and how it is written."""

    compress: bool = True
    checksum: bool = True
    incremental_fsync: bool = True
    key_save_delay_us: int = 0
    """Sleep per key; a negative number: one microsecond every so many keys. A test aid (rdb-key-save-delay)."""
    used_memory_bytes: int = 0
    place: StreamPlace | None = None
    """None: the snapshot says nothing about replication."""
    is_aof_base: bool = False
    functions: Sequence[bytes] = ()
    include_keys: bool = True
    usage: Usage | None = None


def write_snapshot(
    keyspace: Keyspace,
    write: Callable[[bytes], object],
    options: SnapshotOptions,
    unix_s: int,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write everything through ``write`` (which takes all it is given, or raises); returns how many keys there were."""
    writer = RdbWriter(write, checksum=options.checksum, compress=options.compress)
    for name, text in _aux_fields(options, unix_s):
        writer.aux(name, text)
    for source in options.functions:
        writer.function(source)
    count = 0
    if options.include_keys:
        for database in keyspace.databases:
            count = _write_database(database, writer, options, progress, count)
    writer.finish()
    return count


def _aux_fields(options: SnapshotOptions, unix_s: int) -> Iterator[tuple[bytes, bytes]]:
    yield b"redis-ver", REDIS_VERSION
    yield b"redis-bits", b"64"
    yield b"ctime", b"%d" % unix_s
    yield b"used-mem", b"%d" % options.used_memory_bytes
    place = options.place
    if place is not None:
        yield b"repl-stream-db", b"%d" % place.stream_database
        yield b"repl-id", place.replid.encode()
        yield b"repl-offset", b"%d" % place.offset
    yield b"aof-base", b"%d" % options.is_aof_base


def _write_database(
    database: Database,
    writer: RdbWriter,
    options: SnapshotOptions,
    progress: Callable[[int], None] | None,
    count: int,
) -> int:
    """Write one database; returns ``count`` plus its keys."""
    keys = len(database)
    if not keys:
        return count
    expires = database.expires
    writer.select(database.index, keys, len(expires))
    expire_of = expires.get
    entry = writer.entry
    usage = options.usage
    delay_us = options.key_save_delay_us
    next_progress = count + PROGRESS_KEYS
    for values in database.tables():
        for key, value in values.items():
            if usage is None:
                entry(key, value, expire_of(key))
            else:
                entry(key, value, expire_of(key), *usage(database, key))
            if delay_us:
                writer.flush()  # What was saved so far is seen by whoever waits for it, as with Redis's small buffers.
                delay_save(delay_us, count)
            count += 1
            if count >= next_progress:
                next_progress = count + PROGRESS_KEYS
                if progress is not None:
                    progress(count)
    return count


def delay_save(delay_us: int, count: int) -> None:
    """Rest after a key, as rdb-key-save-delay says: so long, or a microsecond every so many keys (if negative)."""
    if delay_us > 0:
        time.sleep(delay_us / 1_000_000)
    elif count % -delay_us == 0:
        time.sleep(1 / 1_000_000)


# Files --------------------------------------------------------------------------------------------------------


def temp_file_name(pid: int) -> str:
    """Where the process ``pid`` writes a snapshot until it is complete."""
    return f"temp-{pid}.rdb"


def remove_temp_file(folder: str, pid: int) -> None:
    """Remove what a killed process left of its snapshot."""
    try:
        os.unlink(os.path.join(folder, temp_file_name(pid)))
    except OSError:
        pass


def sync_folder(folder: str) -> None:
    """Make renames and removals in ``folder`` durable."""
    descriptor = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class SyncingFile:
    """Writes to a file and flushes to the disk every AUTOSYNC_BYTES."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.unsynced = 0

    def write(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self.unsynced += len(chunk)
        if self.unsynced >= AUTOSYNC_BYTES:
            self.unsynced = 0
            self.file.flush()
            os.fdatasync(self.file.fileno())


def save_file(
    keyspace: Keyspace,
    folder: str,
    filename: str,
    options: SnapshotOptions,
    unix_s: int,
    log: Log,
    progress: Callable[[int], None] | None = None,
) -> bool:
    """Write ``folder/filename``; False (and the reason in the log) when that failed, and then nothing is changed."""
    temp_name = temp_file_name(os.getpid())
    temp_path = os.path.join(folder, temp_name)
    final_path = os.path.join(folder, filename)
    step = "open"
    try:
        with open(temp_path, "wb") as file:
            step = "rdbSaveRio"
            write = SyncingFile(file).write if options.incremental_fsync else file.write
            write_snapshot(keyspace, write, options, unix_s, progress)
            step = "fflush"
            file.flush()
            step = "fsync"
            os.fsync(file.fileno())
            step = "fclose"
        step = "rename"
        os.rename(temp_path, final_path)
        step = "fsyncFileDir"
        sync_folder(os.path.dirname(final_path))
    except OSError as problem:
        log("warning", _describe_failure(step, temp_name, filename, os.path.abspath(folder), problem.strerror))
        remove_temp_file(folder, os.getpid())
        return False
    except BaseException:
        remove_temp_file(folder, os.getpid())
        raise
    log("notice", "DB saved on disk")
    return True


def _describe_failure(step: str, temp_name: str, filename: str, folder: str, reason: str | None) -> str:
    if step == "open":
        return f"Failed opening the temp RDB file {temp_name} (in server root dir {folder}) for saving: {reason}"
    if step == "rename":
        return (
            f"Error moving temp DB file {temp_name} on the final destination {filename} "
            f"(in server root dir {folder}): {reason}"
        )
    return f"Write error saving DB on disk({step}): {reason}"


# Loading ------------------------------------------------------------------------------------------------------


class KeyspaceSink(RdbSink):
    """Stores what a file holds in a keyspace, without counting changes or telling observers."""

    def __init__(
        self,
        keyspace: Keyspace,
        log: Log,
        *,
        allow_duplicates: bool = False,
        on_expired: Callable[[int, bytes], None] | None = None,
        on_function: Callable[[bytes], None] | None = None,
        on_usage: Callable[[Database, bytes, int | None, int | None], None] | None = None,
        settings: Settings | None = None,
    ) -> None:
        """``settings``: small collections stay packed, and this says how they are encoded."""
        if settings is not None:
            self.pack = partial(pack, settings)
        self.databases = keyspace.databases
        self.allow_duplicates = allow_duplicates
        """DEBUG RELOAD NOFLUSH: a key that is there already is replaced."""
        self._log = log
        self._on_expired = on_expired
        self._on_function = on_function
        self._on_usage = on_usage

    def key(
        self,
        database: int,
        key: bytes,
        value: Any,
        expire_ms: int | None,
        idle_s: int | None,
        frequency: int | None,
    ) -> None:
        target = self.databases[database]
        slot = key_slot(key)
        values = target.table_to_fill(slot)
        if key in values:
            if not self.allow_duplicates:
                name = key.decode("utf-8", "backslashreplace")
                raise RdbError(f"RDB has duplicated key '{name}' in DB {database}")
            target.expires.pop(key, None)
        values[key] = value
        if expire_ms is not None:
            target.set_expiry(key, expire_ms)
        if self._on_usage is not None:
            self._on_usage(target, key, idle_s, frequency)

    def expired(self, database: int, key: bytes) -> None:
        if self._on_expired is not None:
            self._on_expired(database, key)

    def function(self, source: bytes) -> None:
        if self._on_function is None:
            super().function(source)
        else:
            self._on_function(source)

    def log(self, level: str, text: str) -> None:
        self._log(level, text)


def load_file(
    path: str, sink: RdbSink, policy: LoadPolicy, unix_s: int | None, slice_keys: int = LOAD_SLICE_KEYS
) -> Iterator[RdbParser]:
    """Load ``path`` slice by slice: a generator that yields the parser (for its offset, counts and aux fields).

    The total size is taken from the file. OSError and RdbError come out of the generator; after RdbError part of the
    file is in the sink.
    """
    with open(path, "rb", buffering=0) as file:
        policy = attrs.evolve(policy, total_bytes=os.fstat(file.fileno()).st_size)
        parser = RdbParser(sink, policy, unix_s)
        yield parser
        for _offset in load_slices(parser, file, slice_keys):
            yield parser
