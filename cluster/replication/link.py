"""The replica's side of the conversation with its master, from the first PING to the first byte of the stream.

Role        A sans-IO machine: bytes from the master go in, actions come out. It says what to send, what to log, and
            what the master decided (full or partial); it carries the snapshot through without storing it.
Invariants  No input raises: what makes no sense ends in :class:`GiveUp`. After GiveUp nothing more comes out. Bytes
            that follow the handshake or the snapshot are stream, whatever piece of input they arrived in.
Source      Redis 7.0 replication.c (syncWithMaster, slaveTryPartialResynchronization, readSyncBulkPayload).
Units       bytes and offsets.
"""

from __future__ import annotations

import attrs

from cluster.replication.host import LogLevel
from cluster.replication.state import NO_OFFSET, REPLICATION_ID_LENGTH, LinkState

REPLY_LINE_MAX_BYTES = 64 * 1024
"""A status line longer than this is no answer of a master."""

EOF_MARK_BYTES = 40
_NO_TRANSFER = -1


@attrs.frozen
class HandshakeOptions:
    """What a replica tells about itself, and how it proves who it is."""

    listening_port: int
    announced_ip: str = ""
    user: bytes = b""
    password: bytes = b""
    replid: str | None = None
    """The history we know; None asks for everything."""
    next_offset: int = NO_OFFSET
    """The first byte of it that we lack."""
    failover: bool = False
    """We are handing our mastership over to this server."""
    load_target: str = "to disk"
    """How the log names the place the snapshot goes: ``to disk``, ``to parser``."""


# --- actions ---------------------------------------------------------------------------------------------------------


@attrs.frozen
class Send:
    data: bytes


@attrs.frozen
class Log:
    level: LogLevel
    text: str


@attrs.frozen
class GiveUp:
    """This attempt has failed. ``retry_at_once``: the transfer had begun; otherwise the cron tries again."""

    retry_at_once: bool = False


@attrs.frozen
class ContinueStream:
    """The master goes on where we stopped, under ``replid`` if it named one; the stream follows."""

    replid: str | None


@attrs.frozen
class ExpectSnapshot:
    """Everything will be sent. ``offset`` is NO_OFFSET when the master did not say (old protocol, or nonsense)."""

    replid: str
    offset: int


@attrs.frozen
class SnapshotHeader:
    """The snapshot begins; ``size_bytes`` None: its end will be recognised when it comes."""

    size_bytes: int | None


@attrs.frozen
class SnapshotData:
    data: bytes


@attrs.frozen
class SnapshotEnd:
    """The snapshot is complete. ``streamed``: the master waits for an ACK before it sends the stream."""

    streamed: bool


@attrs.frozen
class StreamData:
    data: bytes


Action = (
    Send | Log | GiveUp | ContinueStream | ExpectSnapshot | SnapshotHeader | SnapshotData | SnapshotEnd | StreamData
)


class MasterHandshake:
    """One attempt to synchronise with a master, on one connection."""

    def __init__(self, options: HandshakeOptions) -> None:
        self.options = options
        self.state = LinkState.CONNECTING
        self.in_transfer = False
        """The snapshot's header has arrived and its end has not."""
        self._buffer = b""
        self._ended = False
        self._left_bytes = _NO_TRANSFER
        self._eof_mark = b""

    def connected(self) -> list[Action]:
        """The connection stands: see whether the master answers at all."""
        self.state = LinkState.RECEIVE_PING_REPLY
        return [Log("notice", "Non blocking connect for SYNC fired the event."), Send(encode_command(b"PING"))]

    def receive(self, data: bytes) -> list[Action]:
        """Take bytes from the master, however they were cut."""
        actions: list[Action] = []
        self._buffer += data
        while self._buffer and not self._ended and self._step(actions):
            pass
        if self._ended:
            self._buffer = b""
        return actions

    def _step(self, actions: list[Action]) -> bool:
        """Take the next line, or the next piece of what is not lines; False: more bytes are needed."""
        if self.in_transfer:
            return self._take_snapshot(actions)
        if self.state is LinkState.CONNECTED:
            actions.append(StreamData(self._buffer))
            self._buffer = b""
            return True
        line, newline, rest = self._buffer.partition(b"\n")
        if not newline:
            if len(line) > REPLY_LINE_MAX_BYTES:
                self._give_up(actions, "Failed to read response from the server: line too long")
            return False
        self._buffer = rest
        self._take_line(line.removesuffix(b"\r"), actions)
        return True

    # --- lines -------------------------------------------------------------------------------------------------------

    def _take_line(self, line: bytes, actions: list[Action]) -> None:
        match self.state:
            case LinkState.RECEIVE_PING_REPLY:
                self._ping_reply(line, actions)
            case LinkState.RECEIVE_AUTH_REPLY:
                if line.startswith(b"-"):
                    self._give_up(actions, f"Unable to AUTH to MASTER: {_text(line)}")
                else:
                    self.state = LinkState.RECEIVE_PORT_REPLY
            case LinkState.RECEIVE_PORT_REPLY:
                self._tolerate(line, "listening-port", actions)
                self.state = LinkState.RECEIVE_IP_REPLY if self.options.announced_ip else LinkState.RECEIVE_CAPA_REPLY
            case LinkState.RECEIVE_IP_REPLY:
                self._tolerate(line, "ip-address", actions)
                self.state = LinkState.RECEIVE_CAPA_REPLY
            case LinkState.RECEIVE_CAPA_REPLY:
                self._tolerate(line, "capa", actions)
                self._send_psync(actions)
            case LinkState.RECEIVE_PSYNC_REPLY:
                if line:  # Empty lines only say that the master is still there.
                    self._psync_reply(line, actions)
            case LinkState.TRANSFER:
                self._snapshot_header(line, actions)
            case _:
                self._give_up(actions, f"syncWithMaster(): state machine error, state is {self.state.name}")

    def _ping_reply(self, line: bytes, actions: list[Action]) -> None:
        # A master that wants a password first is a master too; old ones say it in other words.
        if not line.startswith((b"+", b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted")):
            self._give_up(actions, f"Error reply to PING from master: '{_text(line)}'")
            return
        actions.append(Log("notice", "Master replied to PING, replication can continue..."))
        options = self.options
        commands: list[bytes] = []
        if options.password:
            words = (b"AUTH", options.user, options.password) if options.user else (b"AUTH", options.password)
            commands.append(encode_command(*words))
        commands.append(encode_command(b"REPLCONF", b"listening-port", b"%d" % options.listening_port))
        if options.announced_ip:
            address = options.announced_ip.encode("utf-8", "surrogateescape")
            commands.append(encode_command(b"REPLCONF", b"ip-address", address))
        commands.append(encode_command(b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"))
        actions.append(Send(b"".join(commands)))
        self.state = LinkState.RECEIVE_AUTH_REPLY if options.password else LinkState.RECEIVE_PORT_REPLY

    @staticmethod
    def _tolerate(line: bytes, option: str, actions: list[Action]) -> None:
        if line.startswith(b"-"):
            text = f"(Non critical) Master does not understand REPLCONF {option}: {_text(line)}"
            actions.append(Log("notice", text))

    def _send_psync(self, actions: list[Action]) -> None:
        options = self.options
        if options.replid is None:
            actions.append(Log("notice", "Partial resynchronization not possible (no cached master)"))
            words = [b"PSYNC", b"?", b"-1"]
        else:
            actions.append(
                Log(
                    "notice",
                    f"Trying a partial resynchronization (request {options.replid}:{options.next_offset}).",
                )
            )
            words = [b"PSYNC", options.replid.encode(), b"%d" % options.next_offset]
        if options.failover:
            words.append(b"FAILOVER")
        actions.append(Send(encode_command(*words)))
        self.state = LinkState.RECEIVE_PSYNC_REPLY

    def _psync_reply(self, line: bytes, actions: list[Action]) -> None:
        if line.startswith(b"+FULLRESYNC"):
            self._full_resync(line, actions)
        elif line.startswith(b"+CONTINUE"):
            if self.options.replid is None:
                # We know no place from which this could be the continuation.
                self._give_up(actions, f"Unexpected reply to PSYNC from master: {_text(line)}")
                return
            actions.append(Log("notice", "Successful partial resynchronization with master."))
            named = line[10:]
            known = len(named) == REPLICATION_ID_LENGTH and named.isalnum()
            self.state = LinkState.CONNECTED
            actions.append(ContinueStream(named.decode() if known else None))
        elif line.startswith((b"-NOMASTERLINK", b"-LOADING")):
            text = f"Master is currently unable to PSYNC but should be in the future: {_text(line)}"
            self._give_up(actions, text, "notice")
        else:
            if line.startswith(b"-ERR"):
                text = f"Master does not support PSYNC or is in error state (reply: {_text(line)})"
                actions.append(Log("notice", text))
            else:
                actions.append(Log("warning", f"Unexpected reply to PSYNC from master: {_text(line)}"))
            if self.options.failover:
                self._give_up(actions, None)
                return
            actions.append(Log("notice", "Retrying with SYNC..."))
            actions.append(Send(b"SYNC\r\n"))
            self._expect_snapshot("", NO_OFFSET, actions)

    def _full_resync(self, line: bytes, actions: list[Action]) -> None:
        words = line.split(b" ")
        offset = _decimal(words[2]) if len(words) == 3 else None
        if len(words) == 3 and len(words[1]) == REPLICATION_ID_LENGTH and words[1].isalnum() and offset is not None:
            replid = words[1].decode()
            actions.append(Log("notice", f"Full resync from master: {replid}:{offset}"))
            self._expect_snapshot(replid, offset, actions)
        else:
            actions.append(Log("warning", "Master replied with wrong +FULLRESYNC syntax."))
            self._expect_snapshot("", NO_OFFSET, actions)

    def _expect_snapshot(self, replid: str, offset: int, actions: list[Action]) -> None:
        self.state = LinkState.TRANSFER
        actions.append(ExpectSnapshot(replid, offset))

    # --- the snapshot ------------------------------------------------------------------------------------------------

    def _snapshot_header(self, line: bytes, actions: list[Action]) -> None:
        target = self.options.load_target
        if not line:
            return  # The snapshot is still being made.
        if line.startswith(b"-"):
            text = f"MASTER aborted replication with an error: {_text(line[1:])}"
            self._give_up(actions, text, retry_at_once=True)
        elif line.startswith(b"$EOF:") and len(line) >= 5 + EOF_MARK_BYTES:
            self._eof_mark = line[5 : 5 + EOF_MARK_BYTES]
            self.in_transfer = True
            actions.append(
                Log("notice", f"MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF {target}")
            )
            actions.append(SnapshotHeader(None))
        elif line.startswith(b"$") and (size := _decimal(line[1:])) is not None and size >= 0:
            self._left_bytes = size
            self.in_transfer = True
            actions.append(Log("notice", f"MASTER <-> REPLICA sync: receiving {size} bytes from master {target}"))
            actions.append(SnapshotHeader(size))
            if size == 0:
                self._end_snapshot(actions)
        else:
            self._give_up(
                actions,
                "Bad protocol from MASTER, the first byte is not '$' "
                f"(we received '{_text(line)}'), are you sure the host and port are right?",
                retry_at_once=True,
            )

    def _take_snapshot(self, actions: list[Action]) -> bool:
        buffer = self._buffer
        if not self._eof_mark:
            data, self._buffer = buffer[: self._left_bytes], buffer[self._left_bytes :]
            self._left_bytes -= len(data)
            actions.append(SnapshotData(data))
            if self._left_bytes == 0:
                self._end_snapshot(actions)
            return True
        at = buffer.find(self._eof_mark)
        if at >= 0:
            if at:
                actions.append(SnapshotData(buffer[:at]))
            self._buffer = buffer[at + EOF_MARK_BYTES :]
            self._end_snapshot(actions)
            return True
        # Any beginning of the mark may be the last bytes that we have.
        safe = len(buffer) - (EOF_MARK_BYTES - 1)
        if safe > 0:
            actions.append(SnapshotData(buffer[:safe]))
            self._buffer = buffer[safe:]
        return False

    def _end_snapshot(self, actions: list[Action]) -> None:
        self.in_transfer = False
        self.state = LinkState.CONNECTED
        actions.append(SnapshotEnd(streamed=bool(self._eof_mark)))

    # --- the end -----------------------------------------------------------------------------------------------------

    def _give_up(
        self, actions: list[Action], reason: str | None, level: LogLevel = "warning", *, retry_at_once: bool = False
    ) -> None:
        if reason is not None:
            actions.append(Log(level, reason))
        actions.append(GiveUp(retry_at_once))
        self._ended = True


def encode_command(*words: bytes) -> bytes:
    """A command as an array of bulk strings."""
    return b"*%d\r\n%b" % (len(words), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))


def _text(line: bytes) -> str:
    """Bytes of a stranger as text for the log."""
    return line[:1024].decode("utf-8", "backslashreplace")


def _decimal(text: bytes) -> int | None:
    """A decimal number as a master writes it, or None."""
    digits = text.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 18:
        return None
    return int(text)
