"""Reading the commands of an append only file.

Role        :class:`AofReader` cuts a file into commands and says where each ended; :class:`EndOfFile` and
            :class:`BadFormat` say where, and why, it cannot be read further.
Invariants  Whatever the bytes are, the outcome is commands, the end, or one of the two errors. Nothing is allocated on
            the word of a header: a claim beyond the file's end is an EndOfFile at once. What precedes an error is
            returned first.
Method      As for a master's stream: a window is cut at its line ends at once and each piece compared with the header
            that belongs to it; what does not fit is read step by step.
Spec        loadSingleAppendOnlyFile in aof.c. One difference: a header holds a number and nothing else, and a line end
            follows every word. redis-check-aof asks for that, Redis's loader reads past such damage.    Units  bytes.
"""

from __future__ import annotations

from typing import BinaryIO, Final

from cluster.errors import AofError
from cluster.resp.canonical import Batch, read_canonical

WINDOW_BYTES: Final = 256 * 1024
LINE_BYTES_MAX: Final = 1023
"""Of headers and annotations (AOF_ANNOTATION_LINE_MAX_LEN)."""
_PAUSE_MAX: Final = 256
"""How many commands are read step by step, at most, before the quick way is tried again."""
_STAR: Final = 0x2A
_DOLLAR: Final = 0x24
_HASH: Final = 0x23


class BadFormat(AofError):
    """The file says something that is no command."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"{reason} (offset {offset})")
        self.offset = offset
        self.reason = reason


class EndOfFile(AofError):
    """The file ends inside a command, which begins at ``offset``."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the file ends inside the command at offset {offset}")
        self.offset = offset


class _Incomplete(Exception):
    """So many bytes more are needed, at least."""

    def __init__(self, missing: int) -> None:
        super().__init__(missing)
        self.missing = missing


class AofReader:
    """The commands of ``file``, of which ``head`` (from ``offset`` on) has been read already."""

    def __init__(self, file: BinaryIO, size: int, head: bytes = b"", offset: int = 0) -> None:
        self._file = file
        self._unread = size - offset - len(head)
        self._buffer = head
        self._position = 0
        self._base = offset
        """The offset in the file of the buffer's first byte."""
        self._pause = 0
        self._pause_left = 0

    @property
    def offset(self) -> int:
        """Where the last command ended that was returned."""
        return self._base + self._position

    def batch(self) -> Batch:
        """The next commands, at least one; none at the end. Raises BadFormat, EndOfFile and OSError."""
        while True:
            if self._pause_left:
                self._pause_left -= 1
            else:
                ahead = self._read_ahead()
                if ahead:
                    self._pause = 0
                    return ahead
                self._pause = self._pause_left = min(2 * self._pause + 1, _PAUSE_MAX)
            try:
                argv = self._step()
            except _Incomplete as short:
                if not self._unread:
                    raise EndOfFile(self.offset) from None
                # Twice as much of a long command each time, or it would be looked through once per window.
                held = len(self._buffer) - self._position
                self._refill(max(short.missing, min(held, self._unread)))
                self._pause_left = 0
                continue
            if argv is not None:
                return [(argv, self.offset)]
            if not self._unread:
                return []
            self._refill(1)
            self._pause_left = 0

    def _refill(self, missing: int) -> None:
        """Read on, at least ``missing`` bytes if the file has them; it ends early only if somebody cut it meanwhile."""
        if missing > self._unread:
            raise EndOfFile(self.offset)
        self._base += self._position
        parts = [self._buffer[self._position :]]
        self._position = 0
        wanted = min(max(missing, WINDOW_BYTES), self._unread)
        while wanted > 0:
            chunk = self._file.read(wanted)
            if not chunk:
                self._unread = 0
                break
            parts.append(chunk)
            wanted -= len(chunk)
            self._unread -= len(chunk)
        self._buffer = b"".join(parts)

    # The quick way ----------------------------------------------------------------------------------------------

    def _read_ahead(self) -> Batch:
        """As many commands in the canonical spelling as stand next in the window."""
        start = self._position
        ahead = read_canonical(self._buffer[start : start + WINDOW_BYTES], start + self._base)
        if ahead:
            self._position = ahead[-1][1] - self._base
        return ahead

    # Step by step -----------------------------------------------------------------------------------------------

    def _step(self) -> list[bytes] | None:
        """The next command; None at the end of the buffer. Raises _Incomplete, and the errors."""
        position = self._position
        while position < len(self._buffer) and self._buffer[position] == _HASH:
            position = self._after_annotation(position)
            self._position = position
        if position >= len(self._buffer):
            return None
        if self._buffer[position] != _STAR:
            raise BadFormat(self._base + position, f"Expected '*', got {self._shown(position)}")
        count, position = self._number(position, "command")
        if count < 1:
            raise BadFormat(self._base + self._position, f"A command of {count} words")
        argv: list[bytes] = []
        while len(argv) < count:
            if position >= len(self._buffer):
                raise _Incomplete(1)
            if self._buffer[position] != _DOLLAR:
                raise BadFormat(self._base + position, f"Expected '$', got {self._shown(position)}")
            length, after = self._number(position, "word")
            if length < 0:
                raise BadFormat(self._base + position, f"A word of {length} bytes")
            end = after + length
            if end + 2 > len(self._buffer):
                raise _Incomplete(end + 2 - len(self._buffer))
            if self._buffer[end : end + 2] != b"\r\n":
                raise BadFormat(self._base + end, f"Expected a line end, got {self._shown(end)}")
            argv.append(self._buffer[after:end])
            position = end + 2
        self._position = position
        return argv

    def _after_annotation(self, position: int) -> int:
        end = self._buffer.find(b"\n", position, position + LINE_BYTES_MAX)
        if end >= 0:
            return end + 1
        if len(self._buffer) - position >= LINE_BYTES_MAX:
            raise BadFormat(self._base + position, "An annotation that is too long")
        if self._unread:
            raise _Incomplete(1)
        return len(self._buffer)  # Even half of one says nothing.

    def _number(self, position: int, what: str) -> tuple[int, int]:
        """The number of the header at ``position``, and where its line ends."""
        end = self._buffer.find(b"\n", position, position + LINE_BYTES_MAX)
        if end < 0:
            if len(self._buffer) - position >= LINE_BYTES_MAX:
                raise BadFormat(self._base + position, f"The header of a {what} is too long")
            digits = self._buffer[position + 1 :].rstrip(b"\r")
            if digits and not digits.isdigit():
                raise BadFormat(self._base + position, f"The header of a {what} holds no number")
            raise _Incomplete(1)
        digits = self._buffer[position + 1 : end].rstrip(b"\r")
        unsigned = digits[1:] if digits[:1] == b"-" else digits
        if not unsigned.isdigit() or len(unsigned) > 18:
            raise BadFormat(self._base + position, f"The header of a {what} holds no number")
        return int(digits), end + 1

    def _shown(self, position: int) -> str:
        return repr(self._buffer[position : position + 2])[1:]
