"""A disk that is full: what is refused, what goes on, what is still there afterwards, and how it ends.

Two kinds of full disk. ``limit``: no file of the node may grow beyond a size (RLIMIT_FSIZE), which needs no privileges.
``tmpfs``: a file system of one megabyte, filled up, which only root can mount; there redis-server takes the same test.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.servers import Kind, Server, make_server
from tests.support.waiting import eventually
from tests.support.wire import ReplyError

DISKS = [
    pytest.param("limit", "ours", id="ours-limit"),
    pytest.param("tmpfs", "ours", id="ours-tmpfs"),
    pytest.param("tmpfs", "real", id="real-tmpfs", marks=pytest.mark.real_redis),
]
on_every_disk = pytest.mark.parametrize(("disk", "server_kind"), DISKS)

LIMIT_BYTES = 60_000
"""More than the log needs, less than the data that is to be stored."""
DATA = os.urandom(150_000)
MISCONF = "^MISCONF "


class Disk:
    """Where a server keeps its files."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @property
    def directives(self) -> dict[str, str]:
        """What the server's configuration has to say about it."""
        return {} if self._folder is None else {"dir": str(self._folder)}

    def files(self, server: Server) -> Path:
        """Where the data is."""
        return server.directory if self._folder is None else self._folder

    def fill(self, server: Server, limit_bytes: int = LIMIT_BYTES) -> None:
        """From now on there is no room (``limit``: in any file for more than so many bytes)."""
        if self._folder is None:
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (limit_bytes, resource.RLIM_INFINITY))
            return
        with open(self._folder / "ballast", "ab", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError as full:
                assert full.errno == errno.ENOSPC

    def free(self, server: Server) -> None:
        """There is room again."""
        if self._folder is not None:
            (self._folder / "ballast").unlink()
        elif server.running:
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture
def new_disk(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    with ExitStack() as stack:

        def make(name: str) -> Disk:
            if name == "limit":
                return Disk(None)
            folder = tmp_path / "disk"
            folder.mkdir()
            mounted = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
            )
            if mounted.returncode:
                pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.decode().strip()}")
            stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
            return Disk(folder)

        yield make


def persistence(server: Server) -> dict[str, str]:
    return server.info("persistence")


def write_until(server: Server, refusal: type[Exception], match: str | None = None) -> list[bytes]:
    """Write keys of 200 bytes until one is refused in this way; those that were acknowledged."""
    acknowledged: list[bytes] = []
    with pytest.raises(refusal, match=match), server.raw() as client:
        for number in range(10_000):
            key = b"key:%d" % number
            assert client.call("SET", key, "x" * 200) == b"OK"
            acknowledged.append(key)
    return acknowledged


def writes_again(server: Server) -> None:
    eventually(lambda: server.call("SET", "again", "yes"), ignore=(ReplyError,))


def all_is_written(server: Server) -> None:
    """With everysec a write may wait for the fsync that is under way, acknowledged or not."""
    eventually(lambda: persistence(server)["aof_buffer_length"] == "0")


@on_every_disk
def test_what_cannot_be_logged_is_refused_until_there_is_room(
    disk: str, server_kind: Kind, new_disk: Callable[[str], Disk]
) -> None:
    place = new_disk(disk)
    with make_server(server_kind, appendonly="yes", auto_aof_rewrite_percentage=0, **place.directives) as server:
        place.fill(server)
        acknowledged = write_until(server, ReplyError, MISCONF + "Errors writing to the AOF file")
        assert acknowledged
        with pytest.raises(ReplyError, match=MISCONF):
            server.call("DEL", acknowledged[0])
        assert server.call("STRLEN", acknowledged[-1]) == 200
        assert persistence(server)["aof_last_write_status"] == "err"
        place.free(server)
        writes_again(server)
        assert persistence(server)["aof_last_write_status"] == "ok"
        assert "AOF write error looks solved, Redis can write again." in server.log_text()
        all_is_written(server)
        server.kill9()
        server.start()
        assert set(server.call("KEYS", "*")) == {*acknowledged, b"again"}


@on_every_disk
def test_always_keeps_its_word(disk: str, server_kind: Kind, new_disk: Callable[[str], Disk]) -> None:
    place = new_disk(disk)
    with make_server(server_kind, appendonly="yes", appendfsync="always", **place.directives) as server:
        server.call("SET", "first", 1)
        place.fill(server)
        acknowledged = write_until(server, OSError)
        assert server.wait_exit() == 1
        assert "Can't recover from AOF write error when the AOF fsync policy is 'always'" in server.log_text()
        place.free(server)
        server.start()
        assert set(server.call("KEYS", "*")) == {b"first", *acknowledged}


@on_every_disk
def test_a_snapshot_that_fails_harms_nothing(disk: str, server_kind: Kind, new_disk: Callable[[str], Disk]) -> None:
    place = new_disk(disk)
    with make_server(server_kind, save="3600 1000000", **place.directives) as server:
        server.call("SET", "old", "data")
        assert server.call("SAVE") == b"OK"
        server.call("SET", "new", DATA)
        before = {path.name for path in place.files(server).iterdir()}
        place.fill(server)
        with pytest.raises(ReplyError, match=r"^ERR$"):
            server.call("SAVE")
        server.call("BGSAVE")
        eventually(lambda: persistence(server)["rdb_last_bgsave_status"] == "err")
        with pytest.raises(ReplyError, match=MISCONF + "Redis is configured to save RDB snapshots"):
            server.call("SET", "refused", 1)
        assert server.call("GET", "new") == DATA
        place.free(server)
        assert {path.name for path in place.files(server).iterdir()} == before
        server.call("BGSAVE")
        writes_again(server)
        # A copy of the old file is whole at any time.
        place.fill(server)
        server.call("SET", "newer", DATA)
        with contextlib.suppress(ReplyError):
            server.call("SAVE")
        server.kill9()
        place.free(server)
        server.start()
        assert server.call("GET", "old") == b"data"
        assert server.call("GET", "new") == DATA
        assert server.call("EXISTS", "newer") == 0


@on_every_disk
def test_a_rewrite_that_fails_harms_nothing(disk: str, server_kind: Kind, new_disk: Callable[[str], Disk]) -> None:
    place = new_disk(disk)
    with make_server(server_kind, appendonly="yes", auto_aof_rewrite_percentage=0, **place.directives) as server:
        server.call("SET", "big", DATA)
        place.fill(server, len(DATA) + 200)
        server.call("SET", "big:2", "")  # Still fits: a page is not full.
        if disk == "limit":
            place.fill(server)
        with contextlib.suppress(ReplyError):
            server.call("BGREWRITEAOF")
        eventually(lambda: persistence(server)["aof_last_bgrewrite_status"] == "err")
        place.free(server)
        writes_again(server)
        server.call("BGREWRITEAOF")
        eventually(lambda: persistence(server)["aof_last_bgrewrite_status"] == "ok")
        all_is_written(server)
        server.kill9()
        server.start()
        assert server.call("GET", "big") == DATA
        assert server.call("EXISTS", "big:2", "again") == 2


@on_every_disk
def test_a_replica_waits_for_room(disk: str, server_kind: Kind, new_disk: Callable[[str], Disk]) -> None:
    place = new_disk(disk)
    with make_server("ours") as master, make_server(server_kind, **place.directives) as replica:
        master.call("SET", "big", DATA)
        replica.call("SET", "old", "data")
        place.fill(replica)
        replica.call("REPLICAOF", "127.0.0.1", master.port)
        eventually(lambda: "Write error or short write writing to the DB dump file" in replica.log_text())
        assert replica.info("replication")["master_link_status"] == "down"
        assert replica.call("GET", "old") == b"data"
        place.free(replica)
        eventually(lambda: replica.info("replication")["master_link_status"] == "up")
        assert replica.call("DEBUG", "DIGEST") == master.call("DEBUG", "DIGEST")
        assert not list(place.files(replica).glob("temp-*"))
