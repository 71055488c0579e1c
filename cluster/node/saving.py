"""Snapshots as the running node takes, sends and loads them: the trio side of cluster.persistence.saver.

Role        Starts and watches children, relays a streamed snapshot to replicas, sends a snapshot file, loads the file
            at start while clients are told LOADING. The books are the Saver's.
Invariants  Never more than RELAY_BYTES_MAX of a snapshot wait in one replica's output: the child is read more slowly
            instead. A snapshot's end is reported to replication exactly once, after its last byte was handed out.
Units       bytes; ``*_unix_s`` seconds since 1970; monotonic ms.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING, BinaryIO

import attrs
import trio

from cluster import clock
from cluster.errors import RdbError, UnknownRdbFormat
from cluster.node.cpu_affinity import confine
from cluster.persistence.child import ChildKind, ChildProcess
from cluster.persistence.rdb_reader import LoadCounts, LoadPolicy, RdbParser
from cluster.persistence.saver import Saver
from cluster.persistence.snapshot import LOAD_SLICE_KEYS, KeyspaceSink, load_file
from cluster.replication.host import SaveInfo
from cluster.replication.replica import RdbRequirement, Replica
from cluster.scripting.functions import Collection, LibraryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.keyspace.database import Keyspace
    from cluster.node.client import Client
    from cluster.node.server import Server

RELAY_BYTES_MAX = 8 << 20
READ_BYTES = 256 << 10
FULL_OUTPUT_PAUSE_S = 0.002
KILLED_LOOK_S = 0.1
_DAMAGE = "Internal error in RDB reading offset "


@attrs.define
class Loading:
    """A data set being loaded: INFO's loading_* fields."""

    total_bytes: int
    started_unix_s: int = attrs.field(factory=lambda: clock.unix_ms() // 1000)
    started_ms: int = attrs.field(factory=clock.monotonic_ms)
    loaded_bytes: int = 0
    is_async: bool = False

    def eta_seconds(self) -> int:
        """How long it will take if it goes on as it went."""
        elapsed_ms = clock.monotonic_ms() - self.started_ms
        if not self.loaded_bytes:
            return 1
        left = max(self.total_bytes - self.loaded_bytes, 0)
        return elapsed_ms * left // self.loaded_bytes // 1000


@attrs.frozen
class _Place:
    """A place in the replication stream, under the names that snapshots use."""

    replid: str
    offset: int
    stream_database: int


class Saving:
    """The snapshots of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.saver = Saver(
            keyspace=server.keyspace,
            settings=server.settings,
            log=self._log,
            child_log=self._log_of_child,
            memory_bytes=server.memory.used_bytes,
            place=self._place,
            functions=server.scripting.functions.sources,
            last_save_unix_s=clock.unix_ms() // 1000,
        )
        self.progress: Loading | None = None
        self.last_load = LoadCounts()
        """What the latest load of a snapshot, of whatever origin, took in so far."""
        self._relaying = False

    # What others ask ----------------------------------------------------------------------------------------

    @property
    def writes_refused(self) -> bool:
        """Writes get -MISCONF because the last snapshot failed."""
        return self.saver.writes_must_be_refused

    def child_is_active(self) -> bool:
        """A child runs, or what it produced is still on its way."""
        return self.saver.child is not None or self._relaying

    def disk_snapshot_is_running(self) -> bool:
        """The child writes a file."""
        return self.saver.child is not None and self.saver.child.kind is ChildKind.RDB_DISK

    def stream_snapshot_is_running(self) -> bool:
        """The child streams to replicas."""
        return self._relaying

    def all_data_flushed(self) -> None:
        """FLUSHALL: a snapshot of the old data is worth nothing; with save points, the empty state is saved at once."""
        saver = self.saver
        if saver.rdb_child_is_running:
            saver.kill_child()
        if self._server.settings.save and not self.child_is_active():
            saver.save()

    # SAVE and BGSAVE ----------------------------------------------------------------------------------------

    def save(self) -> bool:
        """Write the snapshot now, while nobody is served."""
        saved = self.saver.save()
        self._server.refresh_plain()
        return saved

    def start_background_save(self) -> bool:
        """Fork a child that writes the snapshot; False when that failed."""
        return self._watch(self.saver.start_background_save())

    def start_disk_snapshot(self, info: SaveInfo) -> bool:
        """The same for replicas that wait for it."""
        return self._watch(self.saver.start_background_save(_Place(info.replid, info.offset, info.stream_database)))

    def _watch(self, started: bool) -> bool:
        child = self.saver.child
        if started and child is not None:
            self.watch_child()
        self._server.refresh_plain()
        return started

    def watch_child(self) -> None:
        """A child has been forked: settle it, and look after it."""
        child = self.saver.child
        if child is not None:
            self._settle(child)
            child.before_close = trio.lowlevel.notify_closing
            self._server.nursery.start_soon(self._watch_child, child)

    def _settle(self, child: ChildProcess) -> None:
        """Note what a fork cost; the child runs where and with the OOM score that the settings want."""
        self._server.latency.note(b"fork", child.fork_us)
        self._server.oom_score.adjust_child(child.pid)
        settings = self._server.settings
        is_rewrite = child.kind is ChildKind.AOF
        confine(settings.aof_rewrite_cpulist if is_rewrite else settings.bgsave_cpulist, child.pid)

    async def _watch_child(self, child: ChildProcess) -> None:
        """Notice a child's end at once rather than at the next round of housekeeping."""
        while self.saver.child is child and child.report_fd >= 0:
            # The descriptor may be closed while we wait: by check_child, or by whoever kills the child.
            with contextlib.suppress(trio.ClosedResourceError, trio.BusyResourceError, OSError):
                await trio.lowlevel.wait_readable(child.report_fd)
            try:
                self.check_child()
            except Exception:
                self._server.report_exception()
                return  # The cron goes on looking.
            await trio.sleep(0.001)

    def check_child(self) -> None:
        """Look after the child; tell replication when a snapshot file is ready or failed."""
        saver = self.saver
        if saver.child is None or self._relaying:
            return
        if saver.child.kind is ChildKind.AOF and self._server.loading:
            return  # Its end would change the files that are being loaded.
        ended = saver.poll()
        if ended is None:
            return
        child, child_exit = ended
        server = self._server
        server.refresh_plain()
        if child.kind is ChildKind.AOF:
            server.aof.rewrites.ended(child, child_exit)
        elif child.kind is ChildKind.RDB_DISK:
            server.replication.full_sync.snapshot_done(child_exit.success, False, clock.monotonic_ms())
            server.reactor.request_flush()

    def kill_child(self) -> None:
        """End the child that makes a snapshot, if any, and wait until it is gone."""
        child = self.saver.child
        if child is not None and child.kind is not ChildKind.AOF:
            if child.kind is ChildKind.RDB_DISK:
                self._server.log.warning("There is a child saving an .rdb. Killing it!")
            child.kill()
            child.wait()
            if not self._relaying:
                self.check_child()

    def check_save_points(self) -> None:
        """Ten times a second: start a snapshot that a save point or BGSAVE SCHEDULE asks for."""
        now_unix_s = clock.unix_ms() // 1000
        if self._relaying or self._server.loading:
            return
        if self.saver.save_point_due(now_unix_s):
            self.start_background_save()
        elif self.saver.scheduled_save_due(now_unix_s) and self.start_background_save():
            self.saver.bgsave_scheduled = False

    # For replicas -------------------------------------------------------------------------------------------

    def start_stream_snapshot(self, info: SaveInfo, replicas: list[Replica], requirement: RdbRequirement) -> bool:
        """Fork a child whose snapshot is relayed, framed by an EOF mark, to ``replicas``."""
        options = self.saver.options(
            _Place(info.replid, info.offset, info.stream_database),
            include_keys=RdbRequirement.EXCLUDE_DATA not in requirement,
            functions=()
            if RdbRequirement.EXCLUDE_FUNCTIONS in requirement
            else self._server.scripting.functions.sources(),
        )
        child = self.saver.start_stream(options)
        if child is None:
            return False
        self._settle(child)
        self._relaying = True
        self._server.nursery.start_soon(self._relay, child, list(replicas))
        return True

    async def _relay(self, child: ChildProcess, replicas: list[Replica]) -> None:
        """Pass the child's snapshot on to the replicas that are still there, then report its end."""
        server = self._server
        mark = os.urandom(20).hex().encode()
        header_sent = all_gone = success = False
        try:
            while True:
                await trio.lowlevel.wait_readable(child.data_fd)
                try:
                    chunk = os.read(child.data_fd, READ_BYTES)
                except BlockingIOError:
                    continue
                if not chunk:
                    break
                present = [replica for replica in replicas if replica in server.feed.replicas]
                if not present:
                    server.log.warning("Diskless rdb transfer, last replica dropped, killing fork child.")
                    child.kill()
                    await self._wait_for_end(child)
                    all_gone = True
                    break
                for replica in present:
                    replica.session.push(chunk if header_sent else b"$EOF:%b\r\n%b" % (mark, chunk))
                header_sent = True
                await self._wait_for_room(present, child)
                if child.exit is not None and not child.exit.success:
                    break  # What is left in the pipe is of no use to anybody.
            if not all_gone:
                for level, text in child.log_lines():  # Its last words come before what we have to say.
                    self._log_of_child(child.pid, level, text)
                still_up = sum(replica in server.feed.replicas for replica in replicas)
                server.log.warning(f"Diskless rdb transfer, done reading from pipe, {still_up} replicas still up.")
        except Exception:
            server.report_exception()
            child.kill()
        finally:
            trio.lowlevel.notify_closing(child.data_fd)
            os.close(child.data_fd)
            child.data_fd = -1
            child.wait()
            ended = self.saver.poll()
            success = ended is not None and ended[1].success
            self._relaying = False
        if success:
            for replica in replicas:
                if replica in server.feed.replicas:
                    replica.session.push(mark)
        server.replication.full_sync.snapshot_done(success, True, clock.monotonic_ms())
        server.refresh_plain()
        server.reactor.flush()

    @staticmethod
    async def _wait_for_end(child: ChildProcess) -> None:
        """Until a child that was killed is gone. Looked at as seldom as in Redis, ten times a second.

        A replica that was dropped for its output is back at once, and would only be dropped again from the next
        snapshot, and so on as fast as we can fork.
        """
        while True:
            await trio.sleep(KILLED_LOOK_S)
            if child.poll() is not None:
                return

    async def _wait_for_room(self, replicas: list[Replica], child: ChildProcess | None = None) -> None:
        """Let slow replicas take what they were given before more is read; not if the child has failed meanwhile."""
        server = self._server
        await trio.lowlevel.checkpoint()
        held: dict[Replica, int] = {}
        while full := [
            replica
            for replica in replicas
            if replica in server.feed.replicas and replica.session.output_bytes() > RELAY_BYTES_MAX
        ]:
            for replica in full:
                if held.get(replica) != replica.session.output_bytes():
                    held[replica] = replica.session.output_bytes()
                    replica.partial_write_since_ms = clock.monotonic_ms()
            await trio.sleep(FULL_OUTPUT_PAUSE_S)
            ended = child.poll() if child is not None else None
            if ended is not None and not ended.success:
                break
        for replica in replicas:
            replica.partial_write_since_ms = None

    def send_snapshot_file(self, replica: Replica) -> bool:
        """Begin to send the finished snapshot file; False when it cannot be opened (it is logged)."""
        path = self._path()
        try:
            file = open(path, "rb")  # noqa: SIM115  # Closed by the task that sends it.
        except OSError as failure:
            self._server.log.warning(f"SYNC failed. Can't open/stat DB after BGSAVE: {failure.strerror}")
            return False
        self._server.nursery.start_soon(self._send_file, replica, file)
        return True

    async def _send_file(self, replica: Replica, file: BinaryIO) -> None:
        server = self._server
        with file:
            left = os.fstat(file.fileno()).st_size
            replica.session.push(b"$%d\r\n" % left)
            while left:
                try:
                    chunk = file.read(min(READ_BYTES, left))
                    problem = "premature EOF"
                except OSError as failure:
                    chunk = b""
                    problem = failure.strerror or str(failure)
                if replica not in server.feed.replicas:
                    return
                if not chunk:
                    # It was promised more, and would take the stream for that.
                    server.log.warning(f"Read error sending DB to replica: {problem}")
                    server.replication_host.close_replica(replica)
                    return
                left -= len(chunk)
                replica.session.push(chunk)
                await self._wait_for_room([replica])
        if replica in server.feed.replicas:
            server.replication.full_sync.file_sent(replica, clock.monotonic_ms())
            server.reactor.request_flush()

    # Loading ------------------------------------------------------------------------------------------------

    def begin_loading(self, total_bytes: int, *, is_async: bool = False) -> Loading:
        """Tell clients LOADING from now on (unless the old data can be served meanwhile)."""
        self.progress = Loading(total_bytes, is_async=is_async)
        self._server.loading = self._server.keyspace.loading = not is_async
        self._server.refresh_plain()
        return self.progress

    def end_loading(self) -> None:
        """The data set is complete, or given up."""
        self.progress = None
        self._server.loading = self._server.keyspace.loading = False
        self._server.refresh_plain()

    def sink(
        self,
        keyspace: Keyspace,
        *,
        allow_duplicates: bool = False,
        libraries: Collection | None = None,
        on_expired: Callable[[int, bytes], None] | None = None,
    ) -> KeyspaceSink:
        """What takes in the content of a snapshot: keys, and function libraries beside those there are."""
        functions = self._server.scripting.functions

        def load_library(source: bytes) -> None:
            try:
                functions.load(source, replace=allow_duplicates, into=libraries)
            except LibraryError as problem:
                text = problem.message.decode("utf-8", "backslashreplace")
                self._server.log.warning(f"Failed loading library, {text}")
                raise RdbError(f"Failed loading library, {text}") from None

        return KeyspaceSink(
            keyspace,
            self._log,
            allow_duplicates=allow_duplicates,
            on_function=load_library,
            on_expired=on_expired,
            on_usage=self._server.memory_limit.usage_taker(),
            settings=self._server.settings,
        )

    def reload(self, client: Client, *, flush: bool, merge: bool) -> bool:
        """DEBUG RELOAD: load the snapshot file here and now, into the emptied (or the present) keyspace.

        Meanwhile others are told LOADING; what ``client``, who asked for it, says next has to wait.
        """
        server = self._server
        if flush:
            server.tracking.all_keys_gone()
            server.keyspace.flush_all()
            server.scripting.functions.replace_all(Collection())
        sink = self.sink(server.keyspace, allow_duplicates=merge)
        policy = LoadPolicy(
            verify_checksum=server.settings.rdbchecksum and not server.skip_checksum_validation,
            drop_expired_before_ms=None if self._is_replica() else clock.unix_ms(),
            database_count=len(server.keyspace.databases),
        )
        loaded_keys = 0
        try:
            progress = self.begin_loading(os.path.getsize(self._path()))
            for parser in load_file(self._path(), sink, policy, clock.unix_ms() // 1000, self.slice_keys()):
                progress.loaded_bytes = parser.offset
                self.rest_in_load(parser.counts.keys_loaded - loaded_keys, client)
                loaded_keys = parser.counts.keys_loaded
                self.last_load = parser.counts
        except (OSError, RdbError) as failure:
            server.log.warning(str(failure))
            return False
        finally:
            self.end_loading()
        return True

    def rest_in_load(self, count: int, client: Client) -> None:
        """Within a load that stands in for a command of ``client``: serve the others, after so many keys or commands.

        key-load-delay is heeded, too.
        """
        delay_s = self._delay_s(count)
        if delay_s:
            clock.stand_still(delay_s)
        self._server.reactor.pump(client)

    def _path(self) -> str:
        return os.path.join(self._server.settings.dir, self._server.settings.dbfilename)

    async def load_at_start(self) -> bool:
        """Load the snapshot file, if there is one; False when it is damaged and the server must not start."""
        server = self._server
        settings = server.settings
        path = self._path()
        if not os.path.exists(path):
            return True
        began = time.perf_counter()
        progress = self.begin_loading(os.path.getsize(path))
        policy = LoadPolicy(
            verify_checksum=settings.rdbchecksum,
            drop_expired_before_ms=None if self._is_replica() else clock.unix_ms(),
            database_count=len(server.keyspace.databases),
        )
        parser: RdbParser | None = None
        loaded_keys = 0
        expired: list[tuple[int, bytes]] = []
        sink = self.sink(server.keyspace, on_expired=lambda database, key: expired.append((database, key)))
        try:
            for parser in load_file(path, sink, policy, clock.unix_ms() // 1000, self.slice_keys()):
                progress.loaded_bytes = parser.offset
                self.last_load = parser.counts
                await self.delay_load(parser.counts.keys_loaded - loaded_keys)
                loaded_keys = parser.counts.keys_loaded
                if server.exit_requested.is_set():
                    return True  # SHUTDOWN while loading: what has been loaded is not needed any more.
        except UnknownRdbFormat as failure:
            server.log.warning(str(failure))
            server.log.warning(f"Fatal error loading the DB: {os.strerror(errno.EINVAL)}. Exiting.")
            return False
        except RdbError as failure:
            self._report_damage(str(failure), parser.offset if parser is not None else 0)
            return False
        except OSError as failure:
            server.log.warning(f"Fatal error loading the DB, check server logs. Exiting.: {failure.strerror}")
            return False
        self.end_loading()  # Only now: half of a data set is shown to nobody.
        elapsed = time.perf_counter() - began
        if parser is not None:
            keys, megabytes = parser.counts.keys_loaded, parser.offset / (1024 * 1024)
            per_second = keys / max(elapsed, 1e-6)
            server.log.notice(f"RDB loading speed: {keys} keys, {megabytes:.2f} MB, {per_second:.0f} keys per second")
        server.log.notice(f"DB loaded from disk: {elapsed:.3f} seconds")
        if parser is not None:
            self._restore_history(parser)
            # Replicas that go on from here have these keys, and must hear that they are gone.
            for database, key in expired:
                server.feed.feed([(database, [server.keyspace.deletion_word, key])])
        return True

    def _report_damage(self, text: str, offset: int) -> None:
        """In Redis's words, and in those of redis-check-rdb, which Redis runs on a file that it cannot read."""
        log = self._server.log
        if not text.startswith(_DAMAGE):
            text = f"{_DAMAGE}{offset} -> {text}"
        log.warning(text)
        place, _, reason = text.removeprefix(_DAMAGE).partition(" -> ")
        log.warning("--- RDB ERROR DETECTED ---")
        log.warning(f"[offset {place}] {reason}")
        log.warning("Terminating server after rdb file reading failure.")

    async def delay_load(self, keys: int) -> None:
        """Let others have a turn; longer by key-load-delay (µs a key; negative: µs per so many keys), a test aid."""
        await trio.sleep(self._delay_s(keys))

    def slice_keys(self) -> int:
        """How many keys to load in one go: few while key-load-delay makes each of them last."""
        delay = self._server.settings.key_load_delay
        return LOAD_SLICE_KEYS if delay == 0 else 1 if delay > 0 else min(-delay, LOAD_SLICE_KEYS)

    def _delay_s(self, keys: int) -> float:
        delay = self._server.settings.key_load_delay
        return max(keys * delay, keys / -delay) / 1e6 if delay else 0.0

    def _restore_history(self, parser: RdbParser) -> None:
        """Take up the replication history that the snapshot names."""
        aux = parser.aux
        replid = aux.get(b"repl-id", b"").decode("ascii", "replace")
        try:
            offset, database = int(aux.get(b"repl-offset", b"")), int(aux.get(b"repl-stream-db", b"0"))
        except ValueError:
            return
        if len(replid) == 40 and offset >= 0:
            self._server.replication.restore_history(replid, offset, database, self._is_replica())

    def _is_replica(self) -> bool:
        """A cluster's node follows its master only once its data is loaded, but is a replica before, by nodes.conf."""
        cluster = self._server.cluster
        return self._server.replication_state.is_replica if cluster is None else cluster.myself.is_replica

    # Details ------------------------------------------------------------------------------------------------

    def _place(self) -> _Place | None:
        info = self._server.replication.full_sync.save_info()
        return None if info is None else _Place(info.replid, info.offset, info.stream_database)

    def _log(self, level: str, text: str) -> None:
        getattr(self._server.log, level)(text)

    def _log_of_child(self, pid: int, level: str, text: str) -> None:
        self._server.log.of_child(pid, level, text)
