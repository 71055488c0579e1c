"""What a master sends for each command, byte for byte: ours beside redis-server's, seen by a replica played by hand.

Every scenario runs on both masters. What both put into their streams must be the same bytes, SELECT, MULTI and EXEC
included; only what the clock decides (absolute expiries, stream ids, idle times) may differ, by as much as may lie
between the two runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import hiredis
import pytest

from tests.support.servers import KINDS, Kind, RawConnection, Server, eventually
from tests.support.wire import ReplyError

pytestmark = pytest.mark.real_redis

CLOCK_DIFFERENCE_MS = 60_000
_CLOCK = re.compile(rb"(\d{13})((?:-\d+)?)")
_MARK = b"hashslot:mark"


class Follower:
    """A replica played by hand: it takes the snapshot and then collects the stream."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.stream = server.raw()
        self.stream.call("REPLCONF", "listening-port", "7777", "capa", "psync2")
        self.stream.send("PSYNC", "?", "-1")
        header = self._line()
        assert header.startswith(b"+FULLRESYNC"), header
        size = self._line()
        self.stream.recv_exactly(int(size[1:]))
        self.clients: dict[str, RawConnection] = {}
        eventually(lambda: "state=online" in server.info("replication")["slave0"])

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n") or line == b"\n":
            line = b"" if line == b"\n" else line
            line += self.stream.recv_exactly(1)
        return line

    def client(self, name: str = "main") -> RawConnection:
        if name not in self.clients:
            self.clients[name] = self.server.raw()
        return self.clients[name]

    def has_blocked(self, count: str) -> bool:
        return self.server.info("clients")["blocked_clients"] == count

    def answers(self, command: Sequence[bytes], wanted: str) -> bool:
        return str(self.client("observer").ask(*command)) == wanted

    def collect(self) -> list[list[bytes]]:
        """Everything in the stream up to a mark that is put there now."""
        with self.server.raw() as marker:
            marker.call("PUBLISH", _MARK, "")
        commands: list[list[bytes]] = []
        while True:
            command = self.stream.reply()
            if command[:2] == [b"PUBLISH", _MARK]:
                return commands
            if command != [b"PING"]:
                commands.append(command)

    def close(self) -> None:
        for client in (self.stream, *self.clients.values()):
            client.close()


class LogReader(Follower):
    """The same for an append-only file: what was appended since the last look."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.clients = {}
        self._read = 0

    def collect(self) -> list[list[bytes]]:
        path = self.server.directory / "appendonlydir" / "appendonly.aof.1.incr.aof"
        self.server.call("SELECT", 0)  # What was written before is in the file once this is answered.
        data = path.read_bytes()
        reader = hiredis.Reader()
        reader.feed(data[self._read :])
        self._read = len(data)
        return list(iter(reader.gets, False))

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


FOLLOWERS = {"replica": Follower, "append-only file": LogReader}


def start_pair(follower: str) -> tuple[ExitStack, dict[Kind, Follower]]:
    stack = ExitStack()
    followers: dict[Kind, Follower] = {}
    for kind in ("ours", "real"):
        appendonly = "no" if follower == "replica" else "yes"
        server = stack.enter_context(
            # With everysec a write may wait for an fsync.
            KINDS[kind](repl_ping_replica_period=1000, repl_timeout=3600, appendonly=appendonly, appendfsync="no")
        )
        followers[kind] = FOLLOWERS[follower](server)
        stack.callback(followers[kind].close)
    return stack, followers


def read_scenarios() -> dict[str, str]:
    """Sections ``== name`` of commands, one a line: ``@one: …`` is said by another client, without waiting."""
    text = (Path(__file__).parent / "replicated_effects.txt").read_text()
    found = (part.split("\n", 1) for part in text.split("== ")[1:])
    return dict(found)


SCENARIOS = read_scenarios()


def run(follower: Follower, script: str) -> list[Any]:
    """Run a scenario; the replies, for messages and for WAIT-FOR."""
    replies: list[Any] = []
    for line in script.strip().splitlines():
        name, text = "main", line.strip()
        if text.startswith("@"):
            name, text = text[1:].split(": ", 1)
        client = follower.client(name)
        words = split(text)
        match words:
            case [b"reply"]:
                replies.append(client.reply())
            case [b"blocked", count]:
                eventually(partial(follower.has_blocked, count.decode()))
            case [b"wait-for", *asked, wanted]:
                eventually(partial(follower.answers, asked, wanted.decode()))
            case [b"dump-restore", key, target, *options]:
                replies.append(client.ask("RESTORE", target, options[0], client.ask("DUMP", key), *options[1:]))
            case _ if name == "main":
                replies.append(client.ask(*words))
            case _:
                client.send(*words)
    return replies


def split(text: str) -> list[bytes]:
    """Words at blanks; in double quotes a word may hold blanks and ``\\n``."""
    found = re.findall(r'"([^"]*)"|(\S+)', text)
    return [(quoted or plain).replace("\\n", "\n").encode() for quoted, plain in found]


def same(ours: bytes, real: bytes) -> bool:
    """Whether two words are equal but for the milliseconds between the two runs."""
    if ours == real:
        return True
    mine, theirs = _CLOCK.fullmatch(ours), _CLOCK.fullmatch(real)
    return (
        mine is not None
        and theirs is not None
        and mine[2] == theirs[2]
        and abs(int(mine[1]) - int(theirs[1])) < CLOCK_DIFFERENCE_MS
    )


def equal(ours: list[list[bytes]], real: list[list[bytes]]) -> bool:
    return len(ours) == len(real) and all(
        len(mine) == len(theirs) and all(map(same, mine, theirs)) for mine, theirs in zip(ours, real, strict=True)
    )


def shown(commands: list[list[bytes]]) -> str:
    return "\n".join("  " + b" ".join(command).decode("utf-8", "backslashreplace") for command in commands)


@pytest.fixture(scope="module", params=FOLLOWERS)
def pair(request: pytest.FixtureRequest) -> Iterator[dict[Kind, Follower]]:
    stack, followers = start_pair(request.param)
    with stack:
        yield followers


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_stream_is_that_of_redis(name: str, pair: dict[Kind, Follower]) -> None:
    streams: dict[Kind, list[list[bytes]]] = {}
    replies: dict[Kind, list[Any]] = {}
    for kind, follower in pair.items():
        follower.server.call("FLUSHALL")
        follower.collect()
        replies[kind] = run(follower, SCENARIOS[name])
        streams[kind] = follower.collect()
    differences = [
        f"{mine!r:.100} / {theirs!r:.100}"
        for mine, theirs in zip(replies["ours"], replies["real"], strict=True)
        if isinstance(mine, ReplyError) != isinstance(theirs, ReplyError)
    ]
    assert not differences
    assert equal(streams["ours"], streams["real"]), f"ours:\n{shown(streams['ours'])}\nreal:\n{shown(streams['real'])}"
