"""Requests from a client's bytes: the exact, incremental parser, which is the law about what is a request.

Role        Cuts a byte stream into requests (``list[bytes]``: name, arguments): arrays of bulk strings, inline lines.
Invariants  However the stream is cut into chunks, the requests and the error are the same. No bytes raise an exception.
            Nothing is allocated on the word of a header; a bulk string in the making costs what has arrived of it.
            After an error nothing more is parsed: the client is told, and closed.
Source      networking.c (processInlineBuffer, processMultibulkBuffer), sds.c (sdssplitargs), util.c (string2ll).
Units       ``*_bytes``: bytes. Positions are offsets into ``_buffer``.

Redis looks for line ends with strchr, so a NUL byte hides every line end behind it: such a header or inline line is
never complete, only too big at last. A header ends in a CR and any byte; the two bytes behind a bulk string are skipped
unseen. Both are kept.

One deliberate difference: a line that has not ended within 65,537 bytes is too big, however they arrive. Redis decides
after each read, so it may accept a longer line whose end came with the same read; here the cut never decides.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Final

from cluster.errors import ProtocolError

if TYPE_CHECKING:
    import re

MAX_LINE_BYTES: Final = 64 * 1024  # An unfinished header or inline line may be this long (PROTO_INLINE_MAX_SIZE).
BIG_BULK_BYTES: Final = 32 * 1024  # From here on a bulk string is gathered apart from the buffer (PROTO_MBULK_BIG_ARG).
MAX_ARGUMENTS: Final = 2**31 - 1
UNAUTHENTICATED_MAX_ARGUMENTS: Final = 10
UNAUTHENTICATED_MAX_BULK_BYTES: Final = 16 * 1024

# The usual headers in their one canonical spelling: looked up instead of parsed.
BULK_HEADERS: Final = [b"$%d" % size for size in range(2048)]
BULK_SIZES: Final = {header: size for size, header in enumerate(BULK_HEADERS)}
ARGUMENT_COUNTS: Final = {b"*%d" % count: count for count in range(1, 1025)}

_ASTERISK: Final = ord("*")
_DOLLAR: Final = ord("$")
_EMPTY_LINES_BYTES: Final = 256

# Error text for the client → what the log calls it, where the two differ.
_LOG_REASONS: Final = {
    b"unbalanced quotes in request": "unbalanced quotes in inline request",
    b"invalid multibulk length": "invalid mbulk count",
    b"unauthenticated multibulk length": "unauth mbulk count",
    b"unauthenticated bulk length": "unauth bulk length",
}


class ParserLimits:
    """What CONFIG SET may change for all parsers at once; they share one instance."""

    __slots__ = ("max_bulk_bytes",)

    def __init__(self, max_bulk_bytes: int = 512 * 1024 * 1024) -> None:
        if max_bulk_bytes < 1024 * 1024:
            raise ValueError("max_bulk_bytes is at least one MiB")
        self.max_bulk_bytes = max_bulk_bytes
        """proto-max-bulk-len; a master's stream knows no limit: 2**63 - 1 there."""


class RequestParser:
    """The requests of one connection, in order.

    ``feed`` returns all that are complete; ``next`` one at a time, for as long as a request may change what the bytes
    behind it mean (AUTH) or whether they are run at all (the client is blocked, paused, being closed). Do not mix:
    what ``next`` left is returned by ``next()`` until it returns None, or by ``feed(b"")``.
    ``error`` is set once the requests before the offending bytes have been returned; the client is due
    ``-ERR Protocol error: <error.message>`` and a close.
    """

    __slots__ = (
        "_arguments",
        "_backlog",
        "_big_bulk",
        "_buffer",
        "_bulk_bytes",
        "_missing",
        "_position",
        "authenticated",
        "error",
        "limits",
        "pending",
    )

    def __init__(self, limits: ParserLimits, authenticated: bool = True) -> None:
        self.limits = limits
        self.authenticated = authenticated
        """False where AUTH is still required: small requests only. May change between calls."""
        self.error: ProtocolError | None = None
        self.pending = False
        """Input is held that is in no request returned so far."""
        self._buffer = b""
        self._position = 0
        """Everything before has been consumed."""
        self._backlog = bytearray()
        """What came while _buffer was not yet consumed."""
        # The array being read: arguments so far, how many are missing (0: between requests).
        self._arguments: list[bytes] = []
        self._missing = 0
        self._bulk_bytes = -1
        """Size of the argument at _position; -1: its header has not been read."""
        self._big_bulk: BytesIO | None = None
        """The start of a big argument, with its line end."""

    # --- in and out ---------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Take ``data`` and return every request that is complete now."""
        if self.error is not None:
            return []
        self.receive(data)
        requests = []
        while (request := self._read_request()) is not None or self._refill():
            if request:
                requests.append(request)
        self._settle()
        return requests

    def next(self, data: bytes = b"") -> list[bytes] | None:
        """Take ``data`` and return the first request that is complete, if one is."""
        if self.error is not None:
            return None
        self.receive(data)
        while (request := self._read_request()) is not None or self._refill():
            if request:
                break
        self._settle()
        return request

    def receive(self, data: bytes) -> None:
        """Keep ``data`` for later: the client may not run anything now."""
        if self.error is not None or not data:
            return  # Nothing behind an error is ever read.
        if self._position == len(self._buffer) and not self._backlog:
            self._buffer = data
            self._position = 0
        else:
            self._backlog += data
        self.pending = True

    @property
    def buffered_bytes(self) -> int:
        """Bytes held that are in no argument yet (client-query-buffer-limit, CLIENT LIST's qbuf)."""
        gathered = self._big_bulk.tell() if self._big_bulk is not None else 0
        return len(self._buffer) - self._position + len(self._backlog) + gathered

    @property
    def missing_bulk_bytes(self) -> int:
        """What a big bulk string in the making still lacks: worth a read of that size; 0 without one."""
        return 0 if self._big_bulk is None else self._bulk_bytes + 2 - self._big_bulk.tell()

    @property
    def argument_bytes(self) -> int:
        """Bytes in the arguments of a request that is not complete (CLIENT LIST's argv-mem)."""
        return sum(map(len, self._arguments))

    @property
    def error_reason(self) -> str:
        """What Redis's log calls the error: ``Protocol error (<reason>) from client: …``."""
        if self.error is None:
            return ""
        if self.error.message.startswith(b"expected '$'"):
            return "expected $ but got something else"
        return _LOG_REASONS.get(self.error.message) or self.error.message.decode()

    def unread(self, limit: int) -> bytes:
        """The first ``limit`` bytes not consumed; after an error they begin with the line at fault."""
        return self._buffer[self._position : self._position + limit]

    def _refill(self) -> bool:
        """Put the backlog behind what is left of the buffer; False if there is none, or no use for it."""
        if not self._backlog or self.error is not None:
            return False
        self._buffer = self._take_unread()
        return True

    def _settle(self) -> None:
        """Forget a buffer that is used up, and say whether anything is held."""
        if self._position == len(self._buffer):
            self._buffer = b""
            self._position = 0
            self.pending = bool(self._missing or self._backlog)
        else:
            self.pending = True

    def _take_unread(self) -> bytes:
        """Hand over all input that is not consumed."""
        unread = self._buffer[self._position :]
        if self._backlog:
            unread += self._backlog
            self._backlog = bytearray()
        self._buffer = b""
        self._position = 0
        return unread

    def _fail(self, message: bytes) -> None:
        self.error = ProtocolError(message)

    # --- requests -----------------------------------------------------------------------------------------------------

    def _read_request(self) -> list[bytes] | None:
        """The request at ``_position``; an empty one as ``[]``; None if more bytes are needed, or on an error."""
        if not self._missing:
            buffer = self._buffer
            start = self._position
            end = buffer.find(b"\r", start, start + 6)
            count = ARGUMENT_COUNTS.get(buffer[start:end]) if 0 < end < len(buffer) - 1 else None
            if count is None or not self.authenticated:  # An unusual start, or half of one, or lower limits.
                if start == len(buffer):
                    return None
                if buffer[start] != _ASTERISK:
                    return self._read_inline(start)
                count = self._read_argument_count(start)
                if count is None or count <= 0:
                    return None if count is None else []
            else:
                self._position = end + 2
            self._missing = count
        if not (self._read_arguments() if self._big_bulk is None else self._gather_big_bulk()):
            return None
        request, self._arguments = self._arguments, []
        return request

    def _read_inline(self, start: int) -> list[bytes] | None:
        """A line typed by a person, ended by LF or CRLF (the CR is a blank like others to ``split_inline``)."""
        end = self._line_end(b"\n", start, b"too big inline request")
        if end < 0:
            return None
        words = split_inline(self._buffer[start:end])
        if words is None:
            self._fail(b"unbalanced quotes in request")
        else:
            self._position = end + 1
            if not words:
                self._skip_empty_lines()
        return words

    def _skip_empty_lines(self) -> None:
        """Step over more of them at once: a megabyte of line ends must not cost a second."""
        ahead = self._buffer[self._position : self._position + _EMPTY_LINES_BYTES]
        blank = len(ahead) - len(ahead.lstrip())
        self._position += ahead.rfind(b"\n", 0, blank) + 1

    def _read_argument_count(self, start: int) -> int | None:
        """The number in ``*<number>`` at ``start``, and step over it; zero and less announce an empty request."""
        end = self._line_end(b"\r", start, b"too big mbulk count string")
        if end < 0 or end + 2 > len(self._buffer):
            return None
        count = parse_length(self._buffer[start + 1 : end])
        if count is None or count > MAX_ARGUMENTS:
            self._fail(b"invalid multibulk length")
            return None
        if count > UNAUTHENTICATED_MAX_ARGUMENTS and not self.authenticated:
            self._fail(b"unauthenticated multibulk length")
            return None
        self._position = end + 2
        return count

    def _read_arguments(self) -> bool:
        """Read bulk strings until none is missing; False if more bytes are needed, or on an error."""
        buffer = self._buffer
        available = len(buffer)
        position = self._position
        size = self._bulk_bytes
        arguments = self._arguments
        missing = self._missing
        while missing:
            if size < 0:
                end = buffer.find(b"\r", position, position + 6)
                header_size = BULK_SIZES.get(buffer[position:end]) if 0 < end < available - 1 else None
                if header_size is None:  # An unusual header, or half of one.
                    self._position = position
                    self._missing = missing
                    self._bulk_bytes = -1
                    size = self._read_bulk_size(position)
                    if size < 0:
                        return False
                    position = self._position
                else:
                    size = header_size
                    position = end + 2
            stop = position + size
            if stop + 2 > available:
                self._position = position
                self._missing = missing
                self._bulk_bytes = size
                if size < BIG_BULK_BYTES:
                    return False
                self._big_bulk = BytesIO()
                return self._gather_big_bulk()
            arguments.append(buffer[position:stop])
            position = stop + 2
            size = -1
            missing -= 1
        self._position = position
        self._missing = 0
        self._bulk_bytes = -1
        return True

    def _read_bulk_size(self, start: int) -> int:
        """The number in ``$<number>`` at ``start``, and step over it; -1 if it is not complete, or on an error."""
        buffer = self._buffer
        end = self._line_end(b"\r", start, b"too big bulk count string")
        if end < 0 or end + 2 > len(buffer):
            return -1
        if buffer[start] != _DOLLAR:
            got = buffer[start : start + 1].translate(_LINE_ENDS_TO_SPACES)
            self._fail(b"expected '$', got '%b'" % got)
            return -1
        size = parse_length(buffer[start + 1 : end])
        if size is None or not 0 <= size <= self.limits.max_bulk_bytes:
            self._fail(b"invalid bulk length")
            return -1
        if size > UNAUTHENTICATED_MAX_BULK_BYTES and not self.authenticated:
            self._fail(b"unauthenticated bulk length")
            return -1
        self._position = end + 2
        return size

    def _gather_big_bulk(self) -> bool:
        """Move bytes from the buffer into the big bulk string; once it is whole go on with the other arguments.

        BytesIO hands its memory over in the end instead of copying it: one copy per byte, memory once the value's size.
        """
        gathered = self._big_bulk
        assert gathered is not None
        wanted = self._bulk_bytes + 2 - gathered.tell()
        position = self._position
        if position == 0 and len(self._buffer) <= wanted:
            taken = gathered.write(self._buffer)
        else:
            taken = gathered.write(memoryview(self._buffer)[position : position + wanted])
        self._position = position + taken
        if taken < wanted:
            return False
        gathered.truncate(self._bulk_bytes)
        self._arguments.append(gathered.getvalue())
        self._big_bulk = None
        self._bulk_bytes = -1
        self._missing -= 1
        return self._read_arguments()

    def _line_end(self, mark: bytes, start: int, too_big: bytes) -> int:
        """Where ``mark`` ends the line at ``start``; -1 if it is not there, and an error if it cannot come any more."""
        buffer = self._buffer
        end = buffer.find(mark, start, start + MAX_LINE_BYTES + 1)
        if end >= 0 and b"\0" not in buffer[start:end]:
            return end
        if len(buffer) - start > MAX_LINE_BYTES:
            self._fail(too_big)
        return -1


_LINE_ENDS_TO_SPACES: Final = bytes.maketrans(b"\r\n", b"  ")


def parse_length(text: bytes) -> int | None:
    """The number that ``text`` spells in the one way Redis takes: no sign but a minus, no leading zero, 64 bits."""
    if text == b"0":
        return 0
    digits = text[1:] if text.startswith(b"-") else text
    if len(text) > 20 or not digits.isdigit() or digits.startswith(b"0"):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


def split_inline(line: bytes) -> list[bytes] | None:
    r"""The words of a line, as a shell would split it, up to the first NUL; None where quotes are not balanced.

    ``"…"`` knows \n \r \t \b \a and \xHH and takes any other escaped byte as itself, ``'…'`` knows \' alone. A closing
    quote ends the word, and only a blank may follow.
    """
    if b"\0" in line:
        line = line[: line.index(b"\0")]
    if b'"' not in line and b"'" not in line and b"\v" not in line and b"\f" not in line:
        return line.split()
    match_word, unescape = _quoting()
    words = []
    position = 0
    while match := match_word(line, position):
        plain, double, single = match.groups()
        if double is not None:
            plain += unescape(double)
        elif single is not None:
            plain += single.replace(b"\\'", b"'")
        words.append(plain)
        position = match.end()
    return words if not line[position:].strip() else None


@functools.cache
def _quoting() -> tuple[Callable[[bytes, int], re.Match[bytes] | None], Callable[[bytes], bytes]]:
    """A matcher of one word and a resolver of escapes: compiled when the first quotes are seen, which is rare."""
    import re

    # Blanks, plain bytes, perhaps one quoted part, the end of the word. VT and FF are blanks between words only.
    # Nothing is tried twice (possessive quantifiers), so a hostile line costs no more than its length.
    word = re.compile(
        rb"""\s*+(?!\Z)([^ \t\r\n"']*+)(?:"((?:[^"\\]++|\\.)*+)"|'((?:[^'\\]++|\\'|\\(?!'))*+)')?(?=\s|\Z)""", re.DOTALL
    )
    escape = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
    meanings = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}

    def resolve(match: re.Match[bytes]) -> bytes:
        escaped = match[1]
        return bytes.fromhex(escaped[1:].decode()) if len(escaped) == 3 else meanings.get(escaped, escaped)

    return word.match, functools.partial(escape.sub, resolve)
