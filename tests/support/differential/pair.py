"""One of our nodes and a real server that are told the same things, and whatever they answer compared.

    with Pair() as pair:
        pair.ask(0, (b"SET", b"k", b"v"))          # AssertionError when the replies differ
        pair.compare_state()

Compared after each request: the reply's bytes. Compared at the end: what is stored, the counters of INFO, and what both
have told a replica. Connection 1 speaks RESP3, the others RESP2.
"""

from __future__ import annotations

import select
import socket
import time
from typing import Any

from hypothesis import assume

from tests.support.differential import normalise
from tests.support.differential.servers import BothServers
from tests.support.differential.vocabulary import Request
from tests.support.servers import Server, parse_info
from tests.support.waiting import PATIENCE
from tests.support.wire import encode

CONNECTIONS = 3
RESP3_CONNECTION = 1
_SETTINGS: dict[str, Any] = {
    "repl_ping_replica_period": 3600,
    "save": '""',
    "databases": 16,
    "proto_max_bulk_len": "1mb",
    "slowlog_log_slower_than": -1,  # What is slow is up to the machine.
}
_COUNTERS = ("keyspace_hits", "keyspace_misses", "expired_keys")
_SHORT_LIFE_MS = 20
_MARKER = b"{t}end of the run"


class RawReplies:
    """A connection that returns each reply's bytes, undecoded."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""

    def send(self, request: Request) -> None:
        self._socket.sendall(encode(*request))

    def ask(self, *words: bytes) -> bytes:
        self.send(words)
        return self.reply()

    def reply(self) -> bytes:
        """The bytes of the next reply."""
        while (end := _reply_end(self._held, 0)) is None:
            self._held += self.receive()
        reply, self._held = self._held[:end], self._held[end:]
        return reply

    def reply_if_any(self) -> bytes | None:
        """The next reply if it has arrived."""
        while (end := _reply_end(self._held, 0)) is None:
            if not select.select([self._socket], [], [], 0)[0]:
                return None
            self._held += self.receive()
        reply, self._held = self._held[:end], self._held[end:]
        return reply

    def receive(self) -> bytes:
        chunk = self._socket.recv(1 << 16)
        if not chunk:
            raise ConnectionError(f"closed by the server; held: {self._held!r}")
        return chunk

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and including ``mark``."""
        while mark not in self._held:
            self._held += self.receive()
        end = self._held.index(mark) + len(mark)
        data, self._held = self._held[:end], self._held[end:]
        return data

    def take(self, size: int) -> bytes:
        while len(self._held) < size:
            self._held += self.receive()
        data, self._held = self._held[:size], self._held[size:]
        return data

    def close(self) -> None:
        self._socket.close()


def _reply_end(data: bytes, start: int) -> int | None:
    """Where the reply that begins at ``start`` ends; None if it is not complete."""
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, position = data[start : start + 1], line_end + 2
    if kind in b"+-:_,#(":
        return position
    size = int(data[start + 1 : line_end])
    if kind in b"$=!":
        end = position + size + 2 if size >= 0 else position
        return end if end <= len(data) else None
    for _part in range(size * 2 if kind == b"%" else size):
        following = _reply_end(data, position)
        if following is None:
            return None
        position = following
    return position


class Side:
    """One of the two servers with its connections, and with a replica that only listens."""

    def __init__(self, server: Server, *, followed: bool) -> None:
        self.server = server
        self.connections = [RawReplies(server.port) for _ in range(CONNECTIONS)]
        self.observer = RawReplies(server.port)
        self.feed: RawReplies | None = None
        if followed:
            self.feed = RawReplies(server.port)
            self.feed.send((b"SYNC",))
            self._skip_snapshot(self.feed)

    @staticmethod
    def _skip_snapshot(feed: RawReplies) -> None:
        while (line := feed.read_until(b"\n").strip()) == b"":
            pass
        assert line.startswith(b"$"), line
        if line.startswith(b"$EOF:"):
            feed.read_until(line[5:])
        else:
            feed.take(int(line[1:]))

    def info(self) -> dict[str, str]:
        raw = self.observer.ask(b"INFO", b"everything")
        return parse_info(raw[raw.index(b"\r\n") + 2 :])

    def close(self) -> None:
        for connection in (*self.connections, self.observer, self.feed):
            if connection is not None:
                connection.close()


class Pair(BothServers):
    """Two servers under one name."""

    def __init__(self, *, cluster: bool = False, followed: bool = True) -> None:
        super().__init__(cluster=cluster, **_SETTINGS)
        self._followed = followed
        self.sides: list[Side] = []
        self._dirty_before = [0, 0]
        self.history: list[str] = []

    def connect(self) -> None:
        self.sides = [Side(server, followed=self._followed) for server in self.servers]
        self.begin()

    def close(self) -> None:
        for side in self.sides:
            side.close()
        super().close()

    def begin(self) -> None:
        """Forget everything: the beginning of a run."""
        self.history = []
        for side in self.sides:
            for index, connection in enumerate(side.connections):
                connection.ask(b"RESET")
                if index == RESP3_CONNECTION:
                    connection.ask(b"HELLO", b"3")
            side.observer.ask(b"RESET")
            side.observer.ask(b"FLUSHALL")
            side.observer.ask(b"CONFIG", b"RESETSTAT")
            self._end_of_stream(side)
        self.count_changes_from_here()

    def count_changes_from_here(self) -> None:
        """What came before is not compared."""
        self._dirty_before = [int(side.info()["rdb_changes_since_last_save"]) for side in self.sides]

    # What a run consists of -------------------------------------------------------------------------------------------

    def ask(self, connection: int, request: Request) -> bytes:
        """One request to both; our reply, which is the other's too."""
        return self.ask_each(connection, [request, request])

    def ask_each(self, connection: int, requests: list[Request]) -> bytes:
        """A request of its own to each; the replies must agree all the same."""
        for side, request in zip(self.sides, requests, strict=True):
            side.connections[connection].send(request)
        ours, theirs = (side.connections[connection].reply() for side in self.sides)
        self.history.append(f"{connection}: {b' '.join(requests[0])!r} -> {theirs!r:.200}")
        if ours != theirs:
            self.same("replies", normalise.reply(requests[0], ours), normalise.reply(requests[0], theirs))
        if requests[0][0].upper() == b"RESET" and connection == RESP3_CONNECTION:
            self._speak_resp3(connection)
        return ours

    def _speak_resp3(self, connection: int) -> None:
        """RESET has made it RESP2."""
        for side in self.sides:
            side.connections[connection].ask(b"HELLO", b"3")

    def let_expire(self, connection: int, key: bytes) -> None:
        """Give a key a few milliseconds, and wait until they are over: it is gone, but nobody has looked yet."""
        due_ms = int(time.time() * 1000) + _SHORT_LIFE_MS
        self.ask(connection, (b"PEXPIREAT", key, b"%d" % due_ms))
        assume(time.time() * 1000 < due_ms)  # Else one side may have found it over already, and the other not.
        time.sleep(max(due_ms + 2 - time.time() * 1000, 0) / 1000)

    def exchange_payloads(self, connection: int, source: bytes, target: bytes) -> None:
        """RESTORE what the other side has dumped."""
        encodings = [side.observer.ask(b"OBJECT", b"ENCODING", source) for side in self.sides]  # Of both: it is a hit.
        if encodings[1] == b"$9\r\nhashtable\r\n":
            return  # Its fields have no order that would be the same; those of a listpack made from it have.
        payloads = [_bulk(side.observer.ask(b"DUMP", source)) for side in self.sides]
        if None in payloads:
            assert payloads == [None, None], self.story("one side has nothing to dump")
            return
        restores: list[Request] = [
            (b"RESTORE", target, b"0", payload or b"", b"REPLACE") for payload in reversed(payloads)
        ]
        self.ask_each(connection, restores)

    def scan(self, connection: int, *options: bytes) -> None:
        """A whole iteration finds the same keys on both sides."""
        found = []
        for side in self.sides:
            cursor, keys = b"0", set[bytes]()
            while True:
                raw = side.connections[connection].ask(b"SCAN", cursor, *options)
                if not raw.startswith(b"*2"):
                    found.append({raw})
                    break
                cursor_end = raw.index(b"\r\n", 4) + 2
                cursor_length = int(raw[5 : cursor_end - 2])
                cursor = raw[cursor_end : cursor_end + cursor_length]
                keys.update(normalise.elements(raw[cursor_end + cursor_length + 2 :]))
                if cursor == b"0":
                    found.append(keys)
                    break
        self.history.append(f"{connection}: SCAN {options!r} -> {found[1]!r}")
        self.same("SCAN", *found)

    # What must agree at the end ---------------------------------------------------------------------------------------

    def compare_state(self) -> None:
        """What was counted, what was replicated, and what is stored."""
        infos = [side.info() for side in self.sides]
        for name in _COUNTERS:
            self.same(name, infos[0].get(name), infos[1].get(name))
        dirty = [
            int(info["rdb_changes_since_last_save"]) - before
            for info, before in zip(infos, self._dirty_before, strict=True)
        ]
        self.same("changes counted", *dirty)
        self.same("errors counted", *(_error_counts(info) for info in infos))
        if self._followed:
            ours, theirs = (self._end_of_stream(side) for side in self.sides)
            self.same("the stream to replicas", ours, theirs)
        for index in range(1 if self.cluster else 16):
            self._compare_database(index)

    def same_keys(self, index: int) -> list[bytes]:
        """The keys of a database, which are the same on both sides; it stays selected."""
        observers = [side.observer for side in self.sides]
        self._select(index)
        names = [sorted(normalise.elements(observer.ask(b"KEYS", b"*"))) for observer in observers]
        self.same(f"keys of database {index}", *names)
        return names[0]

    def _select(self, index: int) -> None:
        if not self.cluster:
            for side in self.sides:
                side.observer.ask(b"SELECT", b"%d" % index)

    def _compare_database(self, index: int) -> None:
        observers = [side.observer for side in self.sides]
        self._select(index)
        sizes = [observer.ask(b"DBSIZE") for observer in observers]
        self.same(f"size of database {index}", *sizes)
        if sizes[0] == b":0\r\n":
            return
        names = [sorted(normalise.elements(observer.ask(b"KEYS", b"*"))) for observer in observers]
        self.same(f"keys of database {index}", *names)
        for key in names[0]:
            for words in ((b"TYPE", key), (b"PEXPIRETIME", key), (b"OBJECT", b"ENCODING", key), (b"DUMP", key)):
                ours, theirs = (normalise.reply(words, observer.ask(*words)) for observer in observers)
                self.same(f"{words!r} in database {index}", ours, theirs)

    def _end_of_stream(self, side: Side) -> list[bytes]:
        """The requests that the replica was sent since the last time."""
        if side.feed is None:
            return []
        side.observer.ask(b"SET", _MARKER, b"")
        mark = encode(b"SET", _MARKER, b"")
        stream = side.feed.read_until(mark)[: -len(mark)]
        side.observer.ask(b"DEL", _MARKER)
        side.feed.read_until(encode(b"DEL", _MARKER))
        return normalise.stream(split_stream(stream))

    def same(self, what: str, ours: object, theirs: object) -> None:
        """Fail, with everything that led here, when the two differ."""
        assert ours == theirs, self.story(f"{what} differ:\n  ours:   {ours!r:.2000}\n  theirs: {theirs!r:.2000}")

    def story(self, end: str) -> str:
        return "\n".join([*self.history, end])


def _error_counts(info: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in info.items() if name.startswith("errorstat_")}


def _bulk(raw: bytes) -> bytes | None:
    """The content of a bulk reply."""
    return None if raw in (b"$-1\r\n", b"_\r\n") else raw[raw.index(b"\r\n") + 2 : -2]


def split_stream(stream: bytes) -> list[bytes]:
    """A replication stream as a list of its requests."""
    commands = []
    position = 0
    while position < len(stream):
        end = _reply_end(stream, position)
        assert end is not None, stream[position:]
        commands.append(stream[position:end])
        position = end
    return commands
