"""The Lua debugger: one session in which a client steps through the script that it has sent.

Role        :class:`DebugSession` decides where a script stops, reads the client's commands and composes what it is
            shown. debugger.lua calls it for every line, and does what only Lua can do (variables, the stack, code).
            Bytes come and go through a :class:`Console`; the script waits for as long as that does.
Invariants  Nothing here calls into Lua: it is called from there. No sockets, no clock.
Format      The client sends arrays of bulk strings, one command in a read: what stands behind it is dropped. It is sent
            arrays of simple strings, one for each command and one whenever the script stops.
Source      eval.c (ldb*), script_lua.c, redis-cli.c.      Units  bytes; ms; lines from 1 on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from cluster.keyspace.strings import atoi
from cluster.scripting.conversion import ScriptFailure

BREAKPOINTS_MAX: Final = 64
LENGTH_MAX_DEFAULT: Final = 256
_LENGTH_MAX_LEAST: Final = 60
_WORDS_MAX: Final = 1024
_WORD_BYTES_MAX: Final = 1024
_BUFFER_BYTES_MAX: Final = 1 << 20
_SHOWN_ARGUMENTS: Final = 10
_CONTEXT_LINES: Final = 5
_WHOLE: Final = 1_000_000
_INT64_MAX: Final = (1 << 63) - 1

_TRIMMED: Final = b"<hint> The above reply was trimmed. Use 'maxlen 0' to disable trimming."
_PROTOCOL_ERROR: Final = b"protocol error"
_UNKNOWN: Final = b"<error> Unknown Redis Lua debugger command or wrong number of arguments."
_ONE_LINE: Final = bytes.maketrans(b"\r\n", b"  ")

HELP: Final = (
    b"Redis Lua debugger help:",
    b"[h]elp               Show this help.",
    b"[s]tep               Run current line and stop again.",
    b"[n]ext               Alias for step.",
    b"[c]ontinue           Run till next breakpoint.",
    b"[l]ist               List source code around current line.",
    b"[l]ist [line]        List source code around [line].",
    b"                     line = 0 means: current position.",
    b"[l]ist [line] [ctx]  In this form [ctx] specifies how many lines",
    b"                     to show before/after [line].",
    b"[w]hole              List all source code. Alias for 'list 1 1000000'.",
    b"[p]rint              Show all the local variables.",
    b"[p]rint <var>        Show the value of the specified variable.",
    b"                     Can also show global vars KEYS and ARGV.",
    b"[b]reak              Show all breakpoints.",
    b"[b]reak <line>       Add a breakpoint to the specified line.",
    b"[b]reak -<line>      Remove breakpoint from the specified line.",
    b"[b]reak 0            Remove all breakpoints.",
    b"[t]race              Show a backtrace.",
    b"[e]val <code>        Execute some Lua code (in a different callframe).",
    b"[r]edis <cmd>        Execute a Redis command.",
    b"[m]axlen [len]       Trim logged Redis replies and Lua var dumps to len.",
    b"                     Specifying zero as <len> means unlimited.",
    b"[a]bort              Stop the execution of the script. In sync",
    b"                     mode dataset changes will be retained.",
    b"",
    b"Debugger functions you can call from Lua scripts:",
    b"redis.debug()        Produce logs in the debugger console.",
    b"redis.breakpoint()   Stop execution like if there was a breakpoint in the",
    b"                     next line of code.",
)


class Console(Protocol):
    """Where the client is."""

    def send(self, data: bytes) -> None:
        """Hand bytes to the client; it does not matter here whether they arrive."""

    def receive(self) -> bytes:
        """Wait for bytes from the client; none when it is gone."""
        ...

    def elapsed_ms(self) -> int:
        """For how long the script has been running since it began or last stopped."""
        ...

    def resumed(self) -> None:
        """The script goes on after a stop."""


class _Broken(Exception):
    """What the client sends is no command; the text is the script's error."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        self.message = message


Task = tuple[bytes, ...]
"""What is left for Lua to do: its name and arguments. ``fail`` ends the script with a message."""

_RESUME: Final = None


class DebugSession:
    """The debugging of one EVAL."""

    def __init__(
        self,
        source: bytes,
        console: Console,
        call: Callable[[list[bytes]], object],
        *,
        patience_ms: int,
    ) -> None:
        """``call`` runs a command as redis.call does; after ``patience_ms`` without a stop the script is stopped."""
        self._console = console
        self._call = call
        self._patience_ms = patience_ms
        source = source.rstrip(b"\r\n")
        self._lines = source.split(b"\n") if source else []
        self._logs: list[bytes] = []
        self._breakpoints: list[int] = []
        self._steps = True
        self._breaks_next = False
        self._current_line = 0
        self._timed_out = False
        self._must_answer = False
        self._buffer = b""
        self._length_max = LENGTH_MAX_DEFAULT
        self._hint_given = False

    # Stopping -----------------------------------------------------------------------------------------------------

    def arrive(self, line: int, is_by_count: bool, is_of_script: bool) -> bool:
        """The script is about to run a line, or has run many instructions; True when it stops there."""
        self._current_line = line
        if not is_of_script:
            return False
        is_breakpoint = self._breaks_next or line in self._breakpoints
        self._timed_out = False
        if not self._steps and not is_breakpoint:
            if not is_by_count or self._console.elapsed_ms() < self._patience_ms:
                return False
            self._timed_out = True
        if is_breakpoint:
            reason = b"redis.breakpoint() called" if self._breaks_next else b"break point"
        else:
            reason = b"timeout reached, infinite loop?" if self._timed_out else b"step over"
        self._steps = self._breaks_next = False
        self.log(b"* Stopped at %d, stop reason = %b" % (line, reason))
        self._log_line(line)
        self._must_answer = True
        return True

    def break_next(self) -> bool:
        """redis.breakpoint()."""
        self._breaks_next = True
        return True

    def next_task(self) -> Task | None:
        """Obey the client's commands until one needs Lua, or None: the script goes on."""
        while True:
            if self._must_answer:
                self.send_logs()
            try:
                words = self._next_command()
            except _Broken as problem:
                return b"fail", problem.message
            if words is None:
                return self._client_has_left()
            self._must_answer = True
            verb = _text(words[0]).lower()
            if verb in _RESUMING:
                self._steps = verb in _STEPPING
                self._must_answer = False
                self._console.resumed()
                return _RESUME
            task = self._obey(verb, words)
            if task is not None:
                return task

    def _client_has_left(self) -> Task | None:
        """Without a client the script runs to its end, unless it might never come there."""
        self._steps = False
        self._breakpoints.clear()
        self._must_answer = False
        if self._timed_out:
            return b"fail", b"timeout during Lua debugging with client closing connection"
        self._console.resumed()
        return _RESUME

    def end(self) -> None:
        """The script has ended; the client is told, and has its reply to come."""
        self.log(b"<endsession>")
        self.send_logs()

    # Commands -----------------------------------------------------------------------------------------------------

    def _next_command(self) -> list[bytes] | None:
        """The words of one command; None when the client is gone. Raises _Broken."""
        while True:
            words = _parse(self._buffer)
            if words is not None:
                self._buffer = b""
                return words
            data = self._console.receive()
            if not data:
                return None
            self._buffer += data
            if len(self._buffer) > _BUFFER_BYTES_MAX:
                self._buffer = b""
                raise _Broken(b"max client buffer reached")

    def _obey(self, verb: bytes, words: list[bytes]) -> Task | None:
        if verb in (b"e", b"eval"):
            code = b" ".join(words[1:])
            return b"eval", b"return " + code, code
        if verb in (b"p", b"print"):
            return (b"print", _text(words[1])) if len(words) == 2 else (b"print_all",)
        if verb in (b"t", b"trace"):
            return (b"trace",)
        if verb in (b"a", b"abort"):
            self._must_answer = False
            return b"fail", b"script aborted for user request"
        handler = _HANDLERS.get(verb)
        if handler is None or (len(words) == 1 and handler is DebugSession._run_command):
            self.log(_UNKNOWN)
        else:
            handler(self, words)
        return None

    def _help(self, _words: Sequence[bytes]) -> None:
        for line in HELP:
            self.log(line)

    def _list(self, words: Sequence[bytes]) -> None:
        line = atoi(words[1]) if len(words) > 1 else 0
        context = atoi(words[2]) if len(words) > 2 else _CONTEXT_LINES
        self._list_around(line if line > 0 else self._current_line, context)

    def _whole(self, _words: Sequence[bytes]) -> None:
        self._list_around(1, _WHOLE)

    def _list_around(self, line: int, context: int) -> None:
        if line == 0:
            context = _WHOLE
        for number in range(max(line - context, 1), min(line + context, len(self._lines)) + 1):
            self._log_line(number)

    def _break(self, words: Sequence[bytes]) -> None:
        if len(words) == 1:
            if not self._breakpoints:
                self.log(b"No breakpoints set. Use 'b <line>' to add one.")
                return
            self.log(b"%d breakpoints set:" % len(self._breakpoints))
            for line in self._breakpoints:
                self._log_line(line)
            return
        for word in words[1:]:
            number = _exact_integer(word)
            if number is None:
                self.log(b"Invalid argument:'%b'" % _text(word))
            elif number == 0:
                self._breakpoints.clear()
                self.log(b"All breakpoints removed.")
            elif number > 0:
                self._add_breakpoint(number)
            elif -number in self._breakpoints:
                self._breakpoints.remove(-number)
                self.log(b"Breakpoint removed.")
            else:
                self.log(b"No breakpoint in the specified line.")

    def _add_breakpoint(self, line: int) -> None:
        if len(self._breakpoints) == BREAKPOINTS_MAX:
            self.log(b"Too many breakpoints set.")
        elif line > len(self._lines) or line in self._breakpoints:
            self.log(b"Wrong line number.")
        else:
            self._breakpoints.append(line)
            self._list_around(line, 1)

    def _limit_length(self, words: Sequence[bytes]) -> None:
        if len(words) == 2:
            self._hint_given = True
            length = atoi(words[1])
            self._length_max = _LENGTH_MAX_LEAST if length != 0 and length <= _LENGTH_MAX_LEAST else length
        if self._length_max:
            self.log(b"<value> replies are truncated at %d bytes." % self._length_max)
        else:
            self.log(b"<value> replies are unlimited.")

    def _run_command(self, words: Sequence[bytes]) -> None:
        self._steps = True  # So that the command and its reply are logged.
        try:
            self._call(list(words[1:]))
        except ScriptFailure as failure:
            self.note_failure(failure)
        self._steps = False

    # What is shown ------------------------------------------------------------------------------------------------

    def log(self, text: bytes) -> None:
        """A line for the client."""
        self._logs.append(text)

    def log_value(self, text: bytes) -> None:
        """A line for the client that may be long."""
        if self._length_max and len(text) > self._length_max:
            self.log(text[: self._length_max] + b" ...")
            if not self._hint_given:
                self._hint_given = True
                self.log(_TRIMMED)
        else:
            self.log(text)

    def log_frame(self, is_innermost: bool, name: bytes | None, line: int) -> None:
        """A place on the stack."""
        self.log(b"%b %b:" % (b"In" if is_innermost else b"From", b"top level" if name is None else name))
        self._log_line(line)

    def log_debug(self, values: bytes) -> None:
        """redis.debug()."""
        self.log(b"<debug> line %d: %b" % (self._current_line, values))

    def _log_line(self, number: int) -> None:
        is_there = 0 < number <= len(self._lines)
        text = _text(self._lines[number - 1]) if is_there else b"<out of range source code line>"
        mark = b"->" if number == self._current_line else b"  "
        self.log(b"%b%b%-3d %b" % (mark, b"#" if number in self._breakpoints else b" ", number, text))

    def send_logs(self) -> None:
        """Send what was logged, as one array."""
        self._must_answer = False
        lines = [b"+%b\r\n" % line.translate(_ONE_LINE) for line in self._logs]
        self._logs.clear()
        self._console.send(b"*%d\r\n%b" % (len(lines), b"".join(lines)))

    # Commands of the script ---------------------------------------------------------------------------------------

    def note_call(self, argv: Sequence[bytes]) -> None:
        """The script is about to run a command."""
        if self._steps:
            more = b" ... (%d more)" % (len(argv) - _SHOWN_ARGUMENTS - 1) if len(argv) > _SHOWN_ARGUMENTS else b""
            self.log(b"<redis> " + b" ".join(argv[:_SHOWN_ARGUMENTS]) + more)

    def note_reply(self, reply: bytes) -> None:
        """The command has an encoded reply, which is no error."""
        if self._steps:
            self.log_value(b"<reply> " + describe_reply(reply))

    def note_failure(self, failure: ScriptFailure) -> None:
        """redis.call, or another function of ours, gives the script an error."""
        if not self._steps:
            return
        message = failure.message
        if failure.is_reply:
            self.log(b"<error> -" + message)
            self.log_value(b"<reply> " + quote(b"-" + message))
        elif message.startswith(b"ERR "):
            self.log(b"<error> " + message[4:])
        else:  # One of the ready-made replies, which have their line end with them.
            self.log(b"<error> -" + message + b"\r\n")

    def note_error_reply(self, text: bytes) -> None:
        """redis.error_reply()."""
        if self._steps:
            self.log(b"<error> " + text)


_STEPPING: Final = frozenset({b"s", b"step", b"n", b"next"})
_RESUMING: Final = _STEPPING | {b"c", b"continue"}
_HANDLERS: Final[dict[bytes, Callable[[DebugSession, Sequence[bytes]], None]]] = {
    name: handler
    for names, handler in (
        ((b"h", b"help"), DebugSession._help),
        ((b"l", b"list"), DebugSession._list),
        ((b"w", b"whole"), DebugSession._whole),
        ((b"b", b"break"), DebugSession._break),
        ((b"m", b"maxlen"), DebugSession._limit_length),
        ((b"r", b"redis"), DebugSession._run_command),
    )
    for name in names
}


# Reading ----------------------------------------------------------------------------------------------------------


def _text(word: bytes) -> bytes:
    """What C sees of a string."""
    return word.split(b"\0", 1)[0]


def _exact_integer(word: bytes) -> int | None:
    """A word that is a number of 64 bits and nothing else (string2l)."""
    try:
        number = int(word)
    except ValueError:
        return None
    return number if b"%d" % number == word and -_INT64_MAX - 1 <= number <= _INT64_MAX else None


def _parse(data: bytes) -> list[bytes] | None:
    """The words of the first command; None when it is not there as a whole. Raises _Broken.

    Not the parser of requests: the debugger passes over what stands before the array, takes a size that is no number
    for 0, and has one text for everything that is wrong.
    """
    if not data:
        return None
    start = data.find(b"*", 0, _end_of_text(data, 0))
    if start < 0:
        raise _Broken(_PROTOCOL_ERROR)
    header = _header(data, start)
    if header is None:
        return None
    count, position = header
    if not 0 < count <= _WORDS_MAX:
        raise _Broken(_PROTOCOL_ERROR)
    words: list[bytes] = []
    while len(words) < count:
        if data[position : position + 1] in (b"", b"\0"):
            return None
        if data[position : position + 1] != b"$":
            raise _Broken(_PROTOCOL_ERROR)
        header = _header(data, position)
        if header is None:
            return None
        size, position = header
        if not 0 < size <= _WORD_BYTES_MAX:
            raise _Broken(_PROTOCOL_ERROR)
        if position + size + 2 > len(data):
            return None
        words.append(data[position : position + size])
        position += size + 2
        if data[position - 2 : position] != b"\r\n":
            raise _Broken(_PROTOCOL_ERROR)
    return words


def _end_of_text(data: bytes, start: int) -> int:
    end = data.find(b"\0", start)
    return end if end >= 0 else len(data)


def _header(data: bytes, start: int) -> tuple[int, int] | None:
    """The number behind the mark at ``start`` and where its line ends."""
    end = data.find(b"\r\n", start, _end_of_text(data, start))
    return None if end < 0 else (atoi(data[start + 1 : end]), end + 2)


# Showing ------------------------------------------------------------------------------------------------------------

_ESCAPES: Final = {
    **{code: b"\\x%02x" % code for code in (*range(32), *range(127, 256))},
    0x22: b'\\"',
    0x5C: b"\\\\",
    0x0A: b"\\n",
    0x0D: b"\\r",
    0x09: b"\\t",
    0x07: b"\\a",
    0x08: b"\\b",
}


def quote(text: bytes) -> bytes:
    """A string with quotes around it, and whatever is not printable escaped (sdscatrepr)."""
    return b'"' + b"".join([_ESCAPES.get(code) or bytes((code,)) for code in text]) + b'"'


def describe_reply(reply: bytes) -> bytes:
    """An encoded reply in a form for people (ldbRedisProtocolToHuman)."""
    return _describe(reply, 0)[0]


def _describe(reply: bytes, start: int) -> tuple[bytes, int]:
    """The description of the value at ``start``, and where it ends."""
    kind = reply[start : start + 1]
    if kind not in _KNOWN_KINDS:
        return b"", start
    end = reply.index(b"\r", start)
    line = reply[start + 1 : end]
    end += 2
    if kind == b"$":
        if line == b"-1":
            return b"NULL", end
        size = int(line)
        return quote(reply[end : end + size]), end + size + 2
    if kind in b"*~%":
        return _describe_many(reply, kind, int(line), end)
    if kind in b"+-":
        return quote(kind + line), end
    if kind == b"#":
        return (b"#true" if line[:1] == b"t" else b"#false"), end
    return {b":": line, b"_": b"(null)", b",": b"(double) " + line}[kind], end


_KNOWN_KINDS: Final = frozenset({b":", b"$", b"+", b"-", b"*", b"~", b"%", b"_", b"#", b","})
_BRACKETS: Final = {b"*": (b"[", b"]"), b"~": (b"~(", b")"), b"%": (b"{", b"}")}


def _describe_many(reply: bytes, kind: bytes, count: int, position: int) -> tuple[bytes, int]:
    if count < 0:
        return b"NULL", position
    items = []
    for _ in range(count):
        text, position = _describe(reply, position)
        if kind == b"%":
            value, position = _describe(reply, position)
            text += b" => " + value
        items.append(text)
    opening, closing = _BRACKETS[kind]
    return opening + b",".join(items) + closing, position
