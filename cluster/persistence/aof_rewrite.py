"""The base of an append only file: the whole data set as the shortest list of commands, or as a snapshot.

Role        :func:`rewrite_file` writes a base file; ``REWRITERS`` maps the class of a value to the function that gives
            the commands which make it. A data type enters by one call of :func:`register_rewriter`.
Invariants  The file appears whole or not at all. A command adds at most ITEMS_PER_COMMAND elements, so that loading it
            never holds up the loader for long. A time to expire is always absolute.
Spec        rewriteAppendOnlyFile, rewriteAppendOnlyFileRio in aof.c; log texts are Redis's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Final

import hiredis

from cluster.keyspace.database import Database, Keyspace
from cluster.keyspace.hashes import HashValue
from cluster.keyspace.lists import ListValue
from cluster.keyspace.packed import PackedValue
from cluster.keyspace.sets import SetValue
from cluster.keyspace.sorted_sets import SortedSetValue
from cluster.keyspace.stream_nodes import id_text
from cluster.keyspace.streams import StreamValue
from cluster.keyspace.strings import to_bytes
from cluster.persistence.snapshot import Log, SnapshotOptions, SyncingFile, delay_save, write_snapshot

ITEMS_PER_COMMAND: Final = 64
CHUNK_BYTES: Final = 1 << 16
PROGRESS_KEYS: Final = 1024

Rewriter = Callable[[bytes, Any], Iterable[Sequence[bytes]]]
"""``rewriter(key, value)``: the commands that make ``value`` at ``key``, where nothing is yet."""

_encode: Callable[[tuple[bytes, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]


def _portions(elements: Iterable[bytes], size: int = ITEMS_PER_COMMAND) -> Iterator[list[bytes]]:
    remaining = iter(elements)
    while portion := list(islice(remaining, size)):
        yield portion


def _rewrite_list(key: bytes, value: ListValue) -> Iterator[Sequence[bytes]]:
    for portion in _portions(value):
        yield b"RPUSH", key, *portion


def _rewrite_set(key: bytes, value: SetValue) -> Iterator[Sequence[bytes]]:
    integers = value.integers
    for portion in _portions(value.members if integers is None else (b"%d" % number for number in integers)):
        yield b"SADD", key, *portion


def _rewrite_hash(key: bytes, value: HashValue) -> Iterator[Sequence[bytes]]:
    for portion in _portions(chain.from_iterable(value.fields.items()), 2 * ITEMS_PER_COMMAND):
        yield b"HMSET", key, *portion


def _rewrite_sorted_set(key: bytes, value: SortedSetValue) -> Iterator[Sequence[bytes]]:
    words = ((b"%.17g" % score, member) for member, score in value.scores.items())
    for portion in _portions(chain.from_iterable(words), 2 * ITEMS_PER_COMMAND):
        yield b"ZADD", key, *portion


def _rewrite_stream(key: bytes, value: StreamValue) -> Iterator[Sequence[bytes]]:
    if value.length:
        for entry_id, pairs in value.entries():
            yield b"XADD", key, id_text(entry_id), *pairs
    else:
        # An entry that is trimmed away at once leaves an empty stream.
        yield b"XADD", key, b"MAXLEN", b"0", b"0-1", b"x", b"y"
    yield (
        *(b"XSETID", key, id_text(value.last_id)),
        *(b"ENTRIESADDED", b"%d" % value.entries_added, b"MAXDELETEDID", id_text(value.max_deleted_id)),
    )
    for name, group in sorted(value.groups.items()):
        yield b"XGROUP", b"CREATE", key, name, id_text(group.last_id), b"ENTRIESREAD", b"%d" % group.entries_read
        for consumer in sorted(group.consumers.values(), key=lambda each: each.name):
            if not len(consumer.pending):
                yield b"XGROUP", b"CREATECONSUMER", key, name, consumer.name
            for entry_id in consumer.pending.ascending():
                pending = consumer.pending.entries[entry_id]
                yield (
                    *(b"XCLAIM", key, name, consumer.name, b"0", id_text(entry_id)),
                    *(b"TIME", b"%d" % pending.delivered_ms, b"RETRYCOUNT", b"%d" % pending.delivery_count),
                    *(b"JUSTID", b"FORCE"),
                )


REWRITERS: Final[dict[type, Rewriter]] = {
    ListValue: _rewrite_list,
    SetValue: _rewrite_set,
    HashValue: _rewrite_hash,
    SortedSetValue: _rewrite_sorted_set,
    StreamValue: _rewrite_stream,
}
"""All types but strings, which are one SET."""


def register_rewriter(value_class: type, rewriter: Rewriter) -> None:
    """Let ``rewriter`` give the commands for values of ``value_class``."""
    REWRITERS[value_class] = rewriter


def commands_of(key: bytes, value: Any, expire_ms: int | None) -> Iterator[Sequence[bytes]]:
    """The commands that make ``key`` what it is."""
    if type(value) is PackedValue:
        value = value.unpacked()
    rewriter = REWRITERS.get(type(value))
    if rewriter is None:
        yield b"SET", key, to_bytes(value)
    else:
        yield from rewriter(key, value)
    if expire_ms is not None:
        yield b"PEXPIREAT", key, b"%d" % expire_ms


def write_commands(
    keyspace: Keyspace,
    write: Callable[[bytes], object],
    options: SnapshotOptions,
    timestamp_unix_s: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write everything through ``write`` as commands, beginning with a note of the time if one is given."""
    if timestamp_unix_s is not None:
        write(b"#TS:%d\r\n" % timestamp_unix_s)
    for source in options.functions:
        write(_encode((b"FUNCTION", b"LOAD", source)))
    count = 0
    for database in keyspace.databases:
        count = _write_database(database, write, options, progress, count)


def _write_database(
    database: Database,
    write: Callable[[bytes], object],
    options: SnapshotOptions,
    progress: Callable[[int], None] | None,
    count: int,
) -> int:
    """Write one database; returns ``count`` plus its keys."""
    if not len(database):
        return count
    expire_of = database.expires.get
    delay_us = options.key_save_delay_us
    pieces = [_encode((b"SELECT", b"%d" % database.index))]
    size = 0
    for key, value in database.items():
        for words in commands_of(key, value, expire_of(key)):
            piece = _encode(tuple(words))
            pieces.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES:
                write(b"".join(pieces))
                pieces.clear()
                size = 0
        if delay_us:
            delay_save(delay_us, count)
        if progress is not None and count % PROGRESS_KEYS == 0:
            progress(count)
        count += 1
    write(b"".join(pieces))
    return count


# Files --------------------------------------------------------------------------------------------------------


def temporary_names(pid: int) -> tuple[str, str]:
    """Where the process ``pid`` writes a base, and where a child leaves a complete one for its parent."""
    return f"temp-rewriteaof-{pid}.aof", f"temp-rewriteaof-bg-{pid}.aof"


def rewrite_file(
    keyspace: Keyspace,
    folder: str,
    path: str,
    options: SnapshotOptions,
    *,
    as_rdb: bool,
    unix_s: int,
    timestamp: bool,
    log: Log,
    progress: Callable[[int], None] | None = None,
) -> bool:
    """Write a base to ``path``, by way of a temporary file in ``folder``; False (and the reason in the log) if not."""
    temporary = os.path.join(folder, temporary_names(os.getpid())[0])
    try:
        file = open(temporary, "wb")  # noqa: SIM115  # An error here has a text of its own.
    except OSError as problem:
        log("warning", f"Opening the temp file for AOF rewrite in rewriteAppendOnlyFile(): {problem.strerror}")
        return False
    try:
        with file:
            write = SyncingFile(file).write if options.incremental_fsync else file.write
            if as_rdb:
                write_snapshot(keyspace, write, options, unix_s, progress)
            else:
                write_commands(keyspace, write, options, unix_s if timestamp else None, progress)
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        log("warning", f"Write error writing append only file on disk: {problem.strerror}")
        _remove(temporary)
        return False
    except BaseException:
        _remove(temporary)
        raise
    try:
        os.rename(temporary, path)
    except OSError as problem:
        log("warning", f"Error moving temp append only file on the final destination: {problem.strerror}")
        _remove(temporary)
        return False
    return True


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
