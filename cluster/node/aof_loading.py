"""Loading an append only file: the files of the manifest, in order, command by command.

Role        :func:`load_slices` is a generator: whoever drives it lets others have a turn in between (clients are told
            LOADING). Its outcome is a :class:`LoadResult`, and everything worth knowing in the log.
Invariants  Commands are run as they were logged: past the gates, without effects, expired keys staying where they are.
            A file that ends inside a command or a transaction loses that, if it is the last one and
            aof-load-truncated allows it; any other damage is an end of the load, with the offset in the log.
Spec        loadAppendOnlyFiles, loadSingleAppendOnlyFile in aof.c; log texts are Redis's.      Units  bytes.
"""

from __future__ import annotations

import enum
import os
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, BinaryIO

from cluster import clock
from cluster.commands.context import Session
from cluster.commands.key_positions import keys_of
from cluster.commands.registry import Command
from cluster.errors import AofError, CommandError, RdbError
from cluster.node.logging import panic
from cluster.persistence import rdb_reader
from cluster.persistence.aof_manifest import AofFile, FileKind
from cluster.persistence.aof_reader import AofReader, BadFormat, EndOfFile
from cluster.persistence.rdb_format import MAGIC
from cluster.persistence.rdb_reader import LoadPolicy, RdbParser
from cluster.slots.hashing import key_slot

if TYPE_CHECKING:
    from cluster.node.saving import Loading
    from cluster.node.server import Server

SLICE_S = 0.004
SHOWN_ERROR_BYTES = 4096


class LoadResult(enum.Enum):
    """How a load, or that of one file, ended."""

    OK = "ok"
    TRUNCATED = "its end was cut off"
    NOT_EXIST = "there is none"
    EMPTY = "empty"
    FAILED = "failed"


def load_slices(server: Server) -> Generator[int, None, LoadResult]:
    """Load everything; yields from time to time how many commands and keys it was. Raises ConfigError."""
    folder = server.aof.folder
    folder.upgrade()
    files = folder.manifest.files
    if not files:
        return LoadResult.NOT_EXIST
    try:
        sizes = [folder.exact_size(file.name) for file in files]
    except OSError:
        return LoadResult.FAILED  # What the manifest names must be there.
    if not sum(sizes):
        return LoadResult.EMPTY
    loader = AofLoader(server, server.saving.begin_loading(sum(sizes)))
    yield from loader.slices(files)
    server.keyspace.effects.clear()
    if loader.result is not LoadResult.FAILED:
        # Else the process is about to end, and half of a data set is shown to nobody.
        server.saving.end_loading()
        server.aof.loaded(sum(sizes), sizes[0] if files[0].kind is FileKind.BASE else 0)
    return loader.result


class AofSession(Session):
    """Who runs the logged commands: obeyed like a master, never blocked, never answered."""

    __slots__ = ()

    def __init__(self, server: Server) -> None:
        super().__init__(server, -1)
        self.authenticated = True
        self.is_master_link = True
        self.user = server.acl.superuser
        self.last_active_ms = self.created_ms = clock.monotonic_ms()

    def write(self, data: bytes) -> None:
        """Nobody reads it."""

    def push(self, data: bytes) -> None:
        """Nobody reads it."""


class _Refused(AofError):
    """A command cannot be run at all."""


class AofLoader:
    """One load of several files."""

    def __init__(self, server: Server, progress: Loading) -> None:
        self._server = server
        self._progress = progress
        self._folder = server.aof.folder
        self._session = AofSession(server)
        self._queue: list[tuple[Command, list[bytes]]] | None = None
        """The commands since MULTI."""
        self._valid_up_to = 0
        """Where the last command, or transaction, ended that was run."""
        self.commands = 0
        self.result = LoadResult.OK

    # All files --------------------------------------------------------------------------------------------------

    def slices(self, files: list[AofFile]) -> Iterator[int]:
        """Load; yields from time to time how many commands and keys were loaded since. Sets :attr:`result`."""
        server = self._server
        began = time.perf_counter()
        loaded_before = 0
        for index, file in enumerate(files):
            is_last = index == len(files) - 1
            started = time.perf_counter()
            yield from self._file(file.name)
            result = self.result
            if result is LoadResult.OK or (result is LoadResult.TRUNCATED and is_last):
                kind = "base" if file.kind is FileKind.BASE else "incr"
                elapsed = time.perf_counter() - started
                server.log.notice(f"DB loaded from {kind} file {file.name}: {elapsed:.3f} seconds")
            if result is LoadResult.EMPTY:
                result = self.result = LoadResult.OK  # Others are not, or there would be nothing to load.
            if result is LoadResult.TRUNCATED and not is_last:
                server.log.warning("Fatal error: the truncated file is not the last file")
                result = self.result = LoadResult.FAILED
            if result in (LoadResult.FAILED, LoadResult.NOT_EXIST):
                self.result = LoadResult.FAILED
                return
            loaded_before += self._size(file.name)
            self._progress.loaded_bytes = loaded_before
        elapsed = max(time.perf_counter() - began, 1e-6)
        megabytes = loaded_before / (1024 * 1024)
        server.log.notice(
            f"AOF loading speed: {self.commands} commands and keys, {megabytes:.2f} MB in {elapsed:.3f} seconds, "
            f"{self.commands / elapsed:.0f} per second, {megabytes / elapsed:.2f} MB per second"
        )

    def _size(self, name: str) -> int:
        try:
            return os.path.getsize(self._folder.path(name))
        except OSError:
            return 0

    # One file ---------------------------------------------------------------------------------------------------

    def _file(self, name: str) -> Iterator[int]:
        log = self._server.log
        path = self._folder.path(name)
        self._session.db = self._server.keyspace.databases[0]
        self._queue = None
        self._valid_up_to = 0
        self.result = LoadResult.OK
        try:
            with open(path, "rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if not size:
                    self.result = LoadResult.EMPTY
                    return
                yield from self._content(file, size, name)
            if self._is_inside_transaction():
                self._end_early(name, path)
        except FileNotFoundError as failure:
            log.warning(f"The append log file {name} doesn't exist: {failure.strerror}")
            self.result = LoadResult.NOT_EXIST
        except EndOfFile:
            self._end_early(name, path)
        except BadFormat as problem:
            log.warning(f"The append only file {name} makes no sense: {problem}")
            log.warning(
                f"Bad file format reading the append only file {name}: make a backup of your AOF file, then use "
                "./redis-check-aof --fix <filename.manifest>"
            )
            self.result = LoadResult.FAILED
        except RdbError as problem:
            log.warning(str(problem))
            what = "RDB preamble of the AOF" if name == self._server.settings.appendfilename else "RDB base"
            log.warning(f"Error reading the {what} file {name}, AOF loading aborted")
            self.result = LoadResult.FAILED
        except _Refused as problem:
            log.warning(str(problem))
            self.result = LoadResult.FAILED
        except OSError as failure:
            log.warning(f"Unrecoverable error reading the append only file {name}: {failure.strerror}")
            self.result = LoadResult.FAILED

    def _content(self, file: BinaryIO, size: int, name: str) -> Iterator[int]:
        head = file.read(len(MAGIC))
        offset = 0
        base = self._progress.loaded_bytes
        if head == MAGIC:
            file.seek(0)
            parser = self._parser(size, name)
            keys = 0
            for offset in rdb_reader.load_slices(parser, file, self._server.saving.slice_keys()):
                self._progress.loaded_bytes = base + offset
                self.commands += parser.counts.keys_loaded - keys
                yield parser.counts.keys_loaded - keys
                keys = parser.counts.keys_loaded
            offset = parser.offset
            head = parser.leftover()
            self._valid_up_to = offset
            if head:
                self._server.log.notice("Reading the remaining AOF tail...")
        reader = AofReader(file, size, head, offset)
        slice_ends = time.perf_counter() + SLICE_S
        count = 0
        delays = self._server.settings.key_load_delay
        while batch := reader.batch():
            for argv, end in batch:
                self._take(argv, end, name)
                count += 1
                if delays or (count % 64 == 0 and time.perf_counter() > slice_ends):
                    self.commands += count
                    self._progress.loaded_bytes = base + end
                    yield count
                    count = 0
                    slice_ends = time.perf_counter() + SLICE_S
                    self._server.keyspace.now_ms = clock.unix_ms()
            self._progress.loaded_bytes = base + reader.offset
        self.commands += count

    def _parser(self, size: int, name: str) -> RdbParser:
        server = self._server
        old_style = name == server.settings.appendfilename
        server.log.notice(
            "Reading RDB preamble from AOF file..." if old_style else "Reading RDB base file on AOF loading..."
        )
        policy = LoadPolicy(
            verify_checksum=server.settings.rdbchecksum and not server.skip_checksum_validation,
            database_count=len(server.keyspace.databases),
            total_bytes=size,
        )
        parser = RdbParser(server.saving.sink(server.keyspace), policy, clock.unix_ms() // 1000)
        server.saving.last_load = parser.counts
        return parser

    def _end_early(self, name: str, path: str) -> None:
        """The file ends in the middle of something: cut that off, where it is allowed."""
        log = self._server.log
        if self._is_inside_transaction():
            log.warning(f"Revert incomplete MULTI/EXEC transaction in AOF file {name}")
        if self._server.settings.aof_load_truncated:
            log.warning(f"!!! Warning: short read while loading the AOF file {name}!!!")
            log.warning(f"!!! Truncating the AOF {name} at offset {self._valid_up_to} !!!")
            try:
                os.truncate(path, self._valid_up_to)
            except OSError as failure:
                log.warning(f"Error truncating the AOF file {name}: {failure.strerror}")
            else:
                log.warning(f"AOF {name} loaded anyway because aof-load-truncated is enabled")
                self.result = LoadResult.TRUNCATED
                return
        else:
            log.warning(f"The last complete command of {name} ends at offset {self._valid_up_to}")
        log.warning(
            f"Unexpected end of file reading the append only file {name}. You can: 1) Make a backup of your AOF file, "
            "then use ./redis-check-aof --fix <filename.manifest>. 2) Alternatively you can set the "
            "'aof-load-truncated' configuration option to yes and restart the server."
        )
        self.result = LoadResult.FAILED

    # One command ------------------------------------------------------------------------------------------------

    def _take(self, argv: list[bytes], end: int, name: str) -> None:
        row = self._server.commands.by_spelling.get(argv[0])
        if row is None or row.handler is None or row.subcommands is not None:
            row = self._resolve(argv, name)
        if not row.accepts(len(argv)):
            raise BadFormat(self._valid_up_to, f"{len(argv) - 1} arguments for '{_shown(row.name)}'")
        if self._queue is not None:
            if row.name != b"exec":
                self._queue.append((row, argv))
                return
            self._run_transaction()
        elif row.name == b"multi":
            self._queue = []
            return
        else:
            self._run(row, argv)
        self._valid_up_to = end

    def _resolve(self, argv: list[bytes], name: str) -> Command:
        row = self._server.commands.resolve(argv)
        if row is None or row.handler is None:
            raise _Refused(f"Unknown command '{_shown(argv[0])}' reading the append only file {name}")
        return row

    def _is_inside_transaction(self) -> bool:
        return self._queue is not None

    def _run_transaction(self) -> None:
        queue, self._queue = self._queue, None
        assert queue is not None
        self._session.in_exec = True
        try:
            for row, argv in queue:
                self._run(row, argv)
        finally:
            self._session.in_exec = False

    def _run(self, row: Command, argv: list[bytes]) -> None:
        session = self._session
        try:
            if row.single_key:
                session.slot = key_slot(argv[1])
            elif row.has_keys:
                keys = keys_of(row, argv)
                session.slot = key_slot(keys[0]) if keys else 0
            reply = row.handler(session, argv)  # type: ignore[misc]
        except CommandError as refusal:
            self._report(row, refusal.message)
            return
        except Exception:
            self._server.report_exception()
            raise _Refused(f"Internal error while running '{_shown(row.name)}' of the append only file") from None
        if reply is not None and reply[:1] == b"-":
            self._report(row, reply[1:].split(b"\r\n", 1)[0])
        if session.parked is not None:
            session.parked.cancel()
            session.parked = None

    def _report(self, row: Command, message: bytes) -> None:
        """The data is not what it was when the command was logged; nothing can be done but say so."""
        server = self._server
        name = _shown(row.name)
        text = _shown(message[:SHOWN_ERROR_BYTES])
        server.statistics.internal_errors += 1
        server.log.warning(
            f"== CRITICAL == This server is sending an error to its AOF-loading-client: '{text}' after processing the "
            f"command '{name}'"
        )
        if server.settings.propagation_error_behavior == "panic":
            text = "This server panicked sending an error to its AOF-loading-client after processing the command"
            panic(server.log, f"{text} '{name}'")


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")
