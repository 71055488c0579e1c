"""A debugging session without a script: where it stops, what it makes of a client's bytes, what it shows."""

from __future__ import annotations

from collections import deque

import pytest

from cluster.scripting.conversion import ScriptFailure
from cluster.scripting.debugger import DebugSession, describe_reply, quote

SOURCE = b"one\ntwo\nthree\nfour\n\r\n"


class FakeConsole:
    """A client whose commands are known beforehand."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.to_come: deque[bytes] = deque()
        self.elapsed = 0

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def receive(self) -> bytes:
        return self.to_come.popleft() if self.to_come else b""

    def elapsed_ms(self) -> int:
        return self.elapsed

    def resumed(self) -> None:
        self.elapsed = 0

    def say(self, *words: bytes) -> None:
        self.to_come.append(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words))


@pytest.fixture
def console() -> FakeConsole:
    return FakeConsole()


def call(argv: list[bytes]) -> None:
    raise ScriptFailure(b"ERR no %b here" % argv[0])


@pytest.fixture
def session(console: FakeConsole) -> DebugSession:
    return DebugSession(SOURCE, console, call, patience_ms=1000)


def test_the_first_line_stops_and_continue_does_not(session: DebugSession, console: FakeConsole) -> None:
    assert session.arrive(1, False, True)
    console.say(b"c")
    assert session.next_task() is None
    assert console.sent == [b"*2\r\n+* Stopped at 1, stop reason = step over\r\n+-> 1   one\r\n"]
    assert not session.arrive(2, False, True)


def test_breakpoints_stop(session: DebugSession, console: FakeConsole) -> None:
    session.arrive(1, False, True)
    console.say(b"b", b"3")
    console.say(b"continue")
    assert session.next_task() is None

    assert not session.arrive(2, False, True)
    assert not session.arrive(3, False, False), "a line of other code"
    assert session.arrive(3, False, True)
    session.send_logs()
    assert console.sent[-1] == b"*2\r\n+* Stopped at 3, stop reason = break point\r\n+->#3   three\r\n"


def test_patience_ends(session: DebugSession, console: FakeConsole) -> None:
    session.arrive(1, False, True)
    console.say(b"c")
    session.next_task()
    console.elapsed = 999
    assert not session.arrive(2, True, True)
    console.elapsed = 1000
    assert not session.arrive(2, False, True), "only instructions are counted"
    assert session.arrive(2, True, True)

    assert session.next_task() == (b"fail", b"timeout during Lua debugging with client closing connection")


def test_a_client_that_leaves_lets_the_script_run_on(session: DebugSession, console: FakeConsole) -> None:
    session.arrive(1, False, True)
    console.say(b"b", b"3")
    assert session.next_task() is None
    assert not session.arrive(3, False, True)


def test_what_needs_lua_is_handed_out(session: DebugSession, console: FakeConsole) -> None:
    for words in ([b"e", b"1 +", b"1"], [b"P"], [b"print", b"x\0y"], [b"p", b"x", b"y"], [b"trace"], [b"abort"]):
        console.say(*words)
    tasks = [session.next_task() for _ in range(6)]

    assert tasks == [
        (b"eval", b"return 1 + 1", b"1 + 1"),
        (b"print_all",),
        (b"print", b"x"),
        (b"print_all",),
        (b"trace",),
        (b"fail", b"script aborted for user request"),
    ]


def test_a_command_may_come_in_pieces_and_what_is_behind_it_is_lost(
    session: DebugSession, console: FakeConsole
) -> None:
    console.to_come.extend([b"x*1", b"\r\n$1\r", b"\nt\r\n*1\r\n$1\r\np\r\n"])
    assert session.next_task() == (b"trace",)
    console.say(b"a")
    assert session.next_task() == (b"fail", b"script aborted for user request")


@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"*0\r\n",
        b"*1025\r\n",
        b"*1\r\n+",
        b"*1\r\n$0\r\n",
        b"*1\r\n$1025\r\n",
        b"*1\r\n$1\r\nabc",
        b"\0*1\r\n",
    ],
)
def test_what_is_no_command_ends_the_script(session: DebugSession, console: FakeConsole, data: bytes) -> None:
    console.to_come.append(data)
    assert session.next_task() == (b"fail", b"protocol error")


def test_a_command_without_end_ends_the_script(session: DebugSession, console: FakeConsole) -> None:
    console.to_come.extend([b"*1\r\n" + b"$" * (1 << 19)] * 3)
    assert session.next_task() == (b"fail", b"max client buffer reached")


def test_commands_are_only_shown_to_whoever_steps(session: DebugSession, console: FakeConsole) -> None:
    session.note_call([b"get", b"k"])
    session.note_reply(b"$1\r\nv\r\n")
    session.note_failure(ScriptFailure(b"ERR not here"))
    session.note_failure(ScriptFailure(b"WRONGTYPE no", is_reply=True))
    session.note_failure(ScriptFailure(b"OOM no"))
    session.arrive(1, False, True)
    session.note_call([b"get", b"k"])
    session.send_logs()

    assert console.sent[0].split(b"\r\n")[1:7] == [
        b"+<redis> get k",
        b'+<reply> "v"',
        b"+<error> not here",
        b"+<error> -WRONGTYPE no",
        b'+<reply> "-WRONGTYPE no"',
        b"+<error> -OOM no  ",
    ]
    assert b"<redis>" not in console.sent[0].partition(b"Stopped")[2]


def test_long_values_are_cut_until_told_otherwise(session: DebugSession, console: FakeConsole) -> None:
    session.log_value(b"x" * 257)
    session.log_value(b"y" * 257)
    session.send_logs()
    assert [len(line) for line in console.sent[0].split(b"\r\n")] == [2, 261, 72, 261, 0]

    console.say(b"maxlen", b"0")
    session.next_task()
    session.log_value(b"x" * 257)
    session.send_logs()
    assert console.sent[-1] == b"*1\r\n+" + b"x" * 257 + b"\r\n"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (b":-5\r\n", b"-5"),
        (b"$-1\r\n", b"NULL"),
        (b"*-1\r\n", b"NULL"),
        (b"+OK\r\n", b'"+OK"'),
        (b"-ERR x\r\n", b'"-ERR x"'),
        (b"*3\r\n$1\r\na\r\n*0\r\n:1\r\n", b'["a",[],1]'),
        (b"%1\r\n+k\r\n#t\r\n", b'{"+k" => #true}'),
        (b"~2\r\n_\r\n,1.5\r\n", b"~((null),(double) 1.5)"),
        (b"(12\r\n", b""),
    ],
)
def test_replies_are_described(reply: bytes, text: bytes) -> None:
    assert describe_reply(reply) == text


def test_strings_are_quoted() -> None:
    assert quote(b'a"\\\n\r\t\a\b\0\x7f\xff~ ') == b'"a\\"\\\\\\n\\r\\t\\a\\b\\x00\\x7f\\xff~ "'
