"""Stories with several clients, told to both servers at once; after every line all clients must have heard the same.

A story is text, one step a line, in shell words with Python's escapes:

    # Who waits first is served first
    a: BLPOP k 0             client a asks; what a, or whoever else, hears by then is compared
    b: RPUSH k 1
    a?                       wait until a hears something (a time-out, say)
    a!: BLPOP k 0.01         both in one step, where the other server may be quicker than we can look
    b&: CLUSTER DELSLOTS 1   what is heard is compared after the next step
    a3: HELLO 3              a client whose name ends in 3 speaks RESP3 from the beginning
    b: CLIENT UNBLOCK $a     $a is the id of client a
    a: RAW *1\\r\\n$4\\r\\n   bytes as they are
    a: CLOSE                 hang up
    let k expire             give the key k a moment to live, and wait until it is over

Clients are connected when they are first named. Steps that make a server tell something that is never the same twice
hide it by a regular expression: ``a: CLIENT LIST ~ (id|age)=\\d+``; ``hide (id|age)=\\d+`` does it for all that follow.
"""

from __future__ import annotations

import re
import select
import shlex
import socket
import time
from collections.abc import Iterator
from typing import Any

from tests.support.differential.servers import BothServers
from tests.support.differential.vocabulary import Request
from tests.support.servers import Server
from tests.support.waiting import PATIENCE
from tests.support.wire import encode

_CLOSED = b"<closed>"
_PATIENCE_S = PATIENCE
_SHORT_LIFE_MS = 200
"""Long enough to tell both servers before it is over, also on a busy machine."""
_STEP = re.compile(r"(?P<client>\w+)(?P<kind>[!&]?:|\?)\s*(?P<rest>.*)")
_UNCOMPARED = re.compile(r"\w+&:")
_EXPIRY = re.compile(r"let (?P<key>\S+) expire")
_HIDING = " ~ "
_BULK_SIZE = re.compile(rb"[$=]\d+(?=\r\n)")
"""It depends on what is hidden."""
_FENCE = re.compile(rb'\+[\d.]+ \[0 [\d.:]+\] "TIME"\r\n')
"""What a monitor hears of this module's own requests."""


class _ToldTooLateError(Exception):
    """A key was over before both servers knew: one of them may have deleted it at once, so the story is another one."""


class _Client:
    """One connection to one server; whatever arrives is kept until it is taken."""

    def __init__(self, port: int, *, resp3: bool) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._heard = b""
        self._open = True
        if resp3:
            self.send(encode("HELLO", "3"))
            self.wait()
            self.take()
        self.send(encode("CLIENT", "ID"))
        self.wait()
        self.id = self.take().strip()[1:]

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except ConnectionError:
            self._end()

    def wait(self) -> None:
        """Until something has arrived. Who is parked for good hears nothing, whatever the rest of the story asks."""
        if not self._heard and self._open:
            readable, _, _ = select.select([self._socket], [], [], _PATIENCE_S)
            assert readable, "nobody answers: was this client left waiting by a step before?"
            self._receive()

    def _receive(self) -> None:
        while self._open and select.select([self._socket], [], [], 0)[0]:
            try:
                chunk = self._socket.recv(1 << 16)
            except ConnectionError:
                chunk = b""
            if chunk:
                self._heard += chunk
            else:
                self._end()

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._heard += _CLOSED

    def take(self) -> bytes:
        self._receive()
        heard, self._heard = self._heard, b""
        return heard

    def close(self) -> None:
        self._open = False
        self._socket.close()


class _Side:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.clients: dict[str, _Client] = {}
        self._fence = _Client(server.port, resp3=False)

    def client(self, name: str) -> _Client:
        if name not in self.clients:
            self.clients[name] = _Client(self.server.port, resp3=name.endswith("3"))
        return self.clients[name]

    def call(self, *words: str) -> bytes:
        self._fence.send(encode(*words))
        self._fence.wait()
        return self._fence.take()

    def heard(self) -> dict[str, bytes]:
        """Everything that the server has said because of what it was told up to now."""
        for _pass in range(3):  # What one pass of the server's loop finds ready is sent at its end, or by the next.
            self.call("TIME")
        taken = {name: _FENCE.sub(b"", client.take()) for name, client in self.clients.items()}
        return {name: data for name, data in taken.items() if data}

    def end_story(self) -> None:
        for client in self.clients.values():
            client.close()
        self.clients.clear()

    def close(self) -> None:
        self.end_story()
        self._fence.close()


class Stage(BothServers):
    """Both servers."""

    def __init__(self, *, cluster: bool = False, **directives: Any) -> None:
        super().__init__(cluster=cluster, **directives)
        self._sides: list[_Side] = []
        self._hidden: list[re.Pattern[bytes]] = []

    def connect(self) -> None:
        self._sides = [_Side(server) for server in self.servers]

    def close(self) -> None:
        for side in self._sides:
            side.close()
        super().close()

    def play(self, story: str) -> Iterator[tuple[str, str | None]]:
        """Each step with the difference it makes, if any."""
        for side in self._sides:
            side.end_story()
            side.call("CLIENT", "UNPAUSE")
            side.call("FLUSHALL")
            side.call("FUNCTION", "FLUSH")
            side.call("SCRIPT", "FLUSH")
            side.call("CONFIG", "RESETSTAT")
        hidden: list[re.Pattern[bytes]] = []
        for line in story.strip().splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith("hide "):
                hidden.append(_pattern(line[5:]))
                continue
            self._hidden = [*hidden, *self._step(line)]
            if _UNCOMPARED.match(line):
                continue
            ours, theirs = (self._comparable(side) for side in self._sides)
            yield line, None if ours == theirs else f"ours:   {ours}\n  theirs: {theirs}"
        for side in self._sides:
            side.end_story()

    def check(self, story: str) -> None:
        """Play the story; the first difference is an AssertionError that tells everything before it."""
        while True:
            try:
                self._check_once(story)
            except _ToldTooLateError:
                continue  # From the beginning, which is what play() sees to.
            return

    def _check_once(self, story: str) -> None:
        told = []
        for line, difference in self.play(story):
            told.append(line)
            assert difference is None, "\n".join(["what was heard differs:", *told, f"  {difference}"])

    def _comparable(self, side: _Side) -> dict[str, bytes]:
        heard = side.heard()
        for name, data in heard.items():
            for pattern in self._hidden:
                data = pattern.sub(b"~", data)
            heard[name] = _BULK_SIZE.sub(b"$", data) if self._hidden else data
        return heard

    def _step(self, line: str) -> list[re.Pattern[bytes]]:
        """Do it; what must be hidden of what is heard."""
        expiry = _EXPIRY.fullmatch(line)
        if expiry is not None:
            due_ms = int(time.time() * 1000) + _SHORT_LIFE_MS
            for side in self._sides:
                side.call("PEXPIREAT", expiry["key"], str(due_ms))
            if time.time() * 1000 >= due_ms:
                raise _ToldTooLateError
            time.sleep(max(due_ms + 2 - time.time() * 1000, 0) / 1000)
            return []
        step = _STEP.fullmatch(line)
        assert step is not None, f"not a step: {line}"
        if step["kind"] == "?":
            for side in self._sides:
                side.client(step["client"]).wait()
            return []
        rest, _, hidden = step["rest"].partition(_HIDING)
        for side in self._sides:
            client = side.client(step["client"])
            if rest == "CLOSE":
                client.close()
                del side.clients[step["client"]]
            elif rest.startswith("RAW "):
                client.send(_unescaped(rest[4:]))
            else:
                client.send(encode(*self._request(side, rest)))
        if step["kind"] == "!:":
            for side in self._sides:
                side.client(step["client"]).wait()
        return [_pattern(hidden)] if hidden else []

    @staticmethod
    def _request(side: _Side, text: str) -> Request:
        return tuple(
            side.client(word[1:]).id if word.startswith("$") and word[1:].isalnum() else _unescaped(word)
            for word in shlex.split(text)
        )


def _pattern(text: str) -> re.Pattern[bytes]:
    return re.compile(text.encode("latin-1"))


def _unescaped(word: str) -> bytes:
    return word.encode("latin-1").decode("unicode-escape").encode("latin-1")


def stories(text: str) -> dict[str, str]:
    """A file of stories by their titles, which are lines that begin with ``# ``."""
    parts = re.split(r"^# (.+)$", text, flags=re.MULTILINE)
    return {title: body for title, body in zip(parts[1::2], parts[2::2], strict=True) if body.strip()}
