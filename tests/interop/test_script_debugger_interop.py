"""The Lua debugger against a real server's: everything that a client is sent in a session, byte for byte.

Only addresses of functions differ, and are masked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import pytest
from hiredis import Reader

from tests.support.servers import OurNode, RealRedis, Server
from tests.support.waiting import eventually

pytestmark = pytest.mark.real_redis

ADDRESS = re.compile(rb"@0x[0-9a-f]+")


@pytest.fixture(scope="module")
def ours() -> Iterator[Server]:
    with OurNode() as server:
        yield server


@pytest.fixture(scope="module")
def real() -> Iterator[Server]:
    with RealRedis() as server:
        yield server


def pack(words: Sequence[bytes]) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def transcript(
    server: Server,
    script: bytes,
    commands: Sequence[bytes | Sequence[bytes]],
    *,
    mode: bytes = b"sync",
    arguments: Sequence[bytes] = (b"0",),
) -> list[bytes]:
    """What the server sends after EVAL and after each command; raw bytes are sent as they are."""
    server.call("FLUSHALL")
    server.call("SCRIPT", "FLUSH")
    server.call("SET", "k", "value")
    server.call("RPUSH", "l", "a", "b", "c")
    heard: list[bytes] = []
    with server.raw() as client:
        assert client.ask(b"SCRIPT", b"DEBUG", mode) == b"OK"
        pending = [pack([b"EVAL", script, *arguments]), *(c if isinstance(c, bytes) else pack(c) for c in commands)]
        for request in pending:
            client.sendall(request)
            data, reader = b"", Reader()
            while True:
                piece = client.recv()
                data += piece
                reader.feed(piece)
                if not piece or reader.gets() is not False:
                    break
            is_over = not piece or b"<endsession>" in data
            heard.append(ADDRESS.sub(b"@0x", data + client.recv_until_closed() if is_over else data))
            if is_over:
                break
    return heard


def words(*lines: str) -> list[list[bytes]]:
    """Commands as redis-cli would split them: `e` takes the rest of its line as one word."""
    result = []
    for line in lines:
        verb, _, rest = line.partition(" ")
        result.append([b"e", rest.encode()] if verb == "e" else [word.encode() for word in line.split()])
    return result


TOUR = b"""local a = 1
local text = 'x\\0"\\\\\\n\\1'
local t = {1, 2, {x = 'y', [3] = false}, nil}
local function inner(p, ...)
  local q = p .. '!'
  redis.debug(q, p, ..., nil, {}, true)
  return q
end
for i, v in ipairs({'u', 'v'}) do
  a = a + i
end
local r = inner('hello', 2.5)
redis.call('get', 'k')
redis.call('lrange', 'l', 0, -1)
redis.pcall('incr', 'k')
redis.pcall('nothing')
redis.breakpoint()
a = a + 1
return {a, r}
"""

STEP = [[b"s"]] * 60
SESSIONS: dict[str, tuple[bytes, list[bytes | list[bytes]]]] = {
    "nothing": (b"return 'hello'", [*words("c")]),
    "empty": (b"", [*words("w", "l", "p", "t", "c")]),
    "steps": (TOUR, [*STEP]),
    "continue": (TOUR, [*words("c", "p", "c")]),
    "locals": (TOUR, [w for _ in range(30) for w in words("p", "n")]),
    "traces": (TOUR, [w for _ in range(30) for w in words("t", "p a", "s")]),
    "break": (
        TOUR,
        [
            *words(
                "b", "b 7", "b 7", "b 0 3 99 -5 x 5", "b 1 2 3", "b", "w", "c", "t", "p", "p q", "p a", "p zz", "b 0"
            ),
            *words("b -1", "b 9223372036854775808", "b +3", "b 03", "c", "c", "c"),
        ],
    ),
    "many breakpoints": (
        b"local a = 1\n" * 70,
        [[b"b", *(b"%d" % n for n in range(1, 70))], *words("b", "b -3", "b 70")],
    ),
    "list": (
        TOUR,
        [*words("l", "l 5", "l 5 2", "l 0", "l -3", "l 10 0", "l 10 -1", "list x", "l 3x 1", "whole", "l 99")],
    ),
    "help": (b"return 1", [*words("h", "HELP", "help me", "nonsense", "r", "redis", "S")]),
    "maxlen": (
        b"local s = string.rep('x', 1000)\nredis.call('set', 'k', s)\nreturn s",
        [
            *words(
                "s", "p s", "p s", "m", "m 10", "p s", "m 0", "m", "p s", "m 300", "m 1 2", "m abc", "m -1", "m 100"
            ),
            *words("r get k", "s", "s"),
        ],
    ),
    "redis": (
        b"return 1",
        [
            *words(
                "r get k", "r lrange l 0 -1", "r set x 1", "r incr x", "r incr k", "r get none", "r nothing", "r get"
            ),
            *words("r blpop none 0", "r subscribe x", "r mget k none l", "r config get port", "r flushall", "r type k"),
            [b"redis", b"set", b"b", b'\x00\n"\\'],
            *words("r get b", "r rpush many 1 2 3 4 5 6 7 8 9 10 11 12 13", "r lrange many 0 -1", "c"),
        ],
    ),
    "eval": (
        b"local here = 1\nreturn redis.call('get', KEYS[1])",
        [
            *words(
                "e 1 + 1",
                "e 'x'",
                "e nil",
                "e true",
                "e {1,2,3}",
                "e {a=1}",
                "e {}",
                "e here",
                "e x = 5",
                "e local y = 1",
            ),
            *words(
                "e (", "e return 1, 2", "e error('boom')", "e KEYS", "e ARGV", "e 1e100", "e 0/0", "e -1/0", "e 1.5"
            ),
            *words("e 100000", "e 1234567", "e string.rep", "e coroutine.create(print or type)", "e cjson.null"),
            *words(
                "e redis.call('get','k')",
                "e redis.call('set','k', 7)",
                "e redis.pcall('incr', 'l')",
                "e redis.REPL_ALL",
            ),
            *words(
                "e math.abs('x')",
                "e string.rep()",
                "e ('x'):rep(3)",
                "e for i = 1, 3 do redis.debug(i) end",
                "e",
                "p KEYS",
            ),
            *words("e redis.breakpoint()", "s", "s", "s"),
        ],
    ),
    "values": (
        b"local n = {{{{{{{{{{{{1}}}}}}}}}}}}\nlocal m = {[1]=1,[2]=2,[4]=4}\nlocal f = function() end\nlocal g = "
        b"{redis.sha1hex, [true]=false, [1.5]='x'}\nlocal j = cjson.null\nreturn 1",
        [*words("b 7", "c", "p", "m 0", "p n", "p m", "p f", "p g", "p j", "c")],
    ),
    "abort": (TOUR, [*words("s", "s", "abort")]),
    "abort in pcall": (
        b"local ok, e = pcall(function()\n  local x = 1\n  return x\nend)\nlocal y = 2\nreturn {tostring(ok), e}",
        [*words("s", "s", "a", "p", "s", "s", "s", "s", "s")],
    ),
    "failures": (b"local x = 1\nredis.call('incr', 'k')\nreturn 2", [*words("s", "s", "s", "s")]),
    "error": (b"local x = 1\nerror('boom')\nreturn 2", [*words("s", "s", "s")]),
    "error table": (b"local x = 1\nerror({err='MY error'})\nreturn 2", [*words("s", "s", "s")]),
    "no such global": (b"local x = 1\nlocal y = nope\nreturn 2", [*words("s", "s", "s")]),
    "no Lua": (b"this is no Lua", []),
    "shebang": (
        b"#!lua flags=no-writes\nlocal x = 1\nreturn redis.call('set', 'a', x)",
        [*words("w", "s", "s", "s", "s")],
    ),
    "error replies": (
        b"local a = redis.error_reply('My Error')\nlocal b = redis.error_reply('-CODE text')\n"
        b"local c = redis.status_reply('x')\n"
        b"local d = redis.pcall('set', {})\nlocal e = redis.pcall()\nlocal f = redis.error_reply({})\nreturn a",
        [*STEP[:12]],
    ),
    "protocol": (
        b"redis.setresp(3)\nlocal x = 1\nredis.call('hset', 'h', 'f', 'v')\nredis.call('hgetall', 'h')\n"
        b"redis.call('zadd', 'z', 1.5, 'm')\nredis.call('zscore', 'z', 'm')\nredis.call('sadd', 's', 'm')\n"
        b"redis.call('smembers', 's')\nredis.call('get', 'none')\nreturn 1",
        [*STEP[:16]],
    ),
    "coroutine": (
        b"local co = coroutine.wrap(function(a)\n  local b = a\n  coroutine.yield(b)\n  return 2\nend)\n"
        b"local x = co(1)\nlocal y = co()\nreturn x + y",
        [w for _ in range(12) for w in words("t", "p", "s")],
    ),
    "loadstring": (
        b"local f = loadstring('local z = 1\\n\\nredis.debug(z)\\nreturn z')\nlocal x = f()\n"
        b"local g = loadstring('return 1', '@user_script')\nlocal y = g()\nreturn x",
        [w for _ in range(12) for w in words("l", "t", "s")],
    ),
    "calls": (
        b"local function rec(n)\n  if n == 0 then\n    return 0\n  end\n  local m = rec(n - 1)\n  return m + 1\nend\n"
        b"local ok, v = pcall(rec, 2)\nlocal s = {3, 1, 2}\ntable.sort(s, function(a, b)\n  return a < b\nend)\n"
        b"return v",
        [w for _ in range(24) for w in words("t", "p n", "s")],
    ),
    "line ends": (b"local x = 1\r\nlocal y = 2\r\nreturn x + y\r\n\r\n", [*words("w", "s", "s", "p", "s")]),
    "protocol error": (b"local x = 1\nreturn x", [b"garbage\r\n"]),
    "too many words": (b"local x = 1\nreturn x", [b"*2000\r\n"]),
    "empty word": (b"local x = 1\nreturn x", [b"*1\r\n$0\r\n\r\n"]),
    "bad word": (b"local x = 1\nreturn x", [b"*1\r\n:1\r\n"]),
    "bad end": (b"local x = 1\nreturn x", [b"*1\r\n$1\r\nsxx"]),
    "garbage before": (b"local x = 1\nreturn x", [b"junk*1\r\n$1\r\ns\r\n", *words("s", "s")]),
    "dropped": (b"local x = 1\nreturn x", [b"*1\r\n$1\r\np\r\n*1\r\n$1\r\nc\r\n", *words("p", "c")]),
    "zero bytes": (
        b"local x = 1\nreturn x",
        [[b"p\0q"], [b"p", b"x\0y"], [b"nope\0x"], [b"\0s"], [b"m", b"70\0"], [b"b", b"1\0"]],
    ),
}


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_is_the_same(ours: Server, real: Server, name: str) -> None:
    script, commands = SESSIONS[name]

    assert transcript(ours, script, commands) == transcript(real, script, commands)


@pytest.mark.parametrize("name", ["steps", "redis", "abort", "no Lua", "failures"])
def test_a_forked_session_is_the_same_and_changes_nothing(ours: Server, real: Server, name: str) -> None:
    script, commands = SESSIONS[name]
    heard = [transcript(server, script, commands, mode=b"yes") for server in (ours, real)]

    assert heard[0] == heard[1]
    for server in (ours, real):
        assert server.call("GET", "k") == b"value"
        assert server.call("EXISTS", "b", "x", "many") == 0


def test_keys_and_arguments_are_shown(ours: Server, real: Server) -> None:
    commands = words("p KEYS", "p ARGV", "c")
    arguments = [b"2", b"k", b"l", b"x", b"y"]

    assert transcript(ours, b"return 1", commands, arguments=arguments) == transcript(
        real, b"return 1", commands, arguments=arguments
    )


def test_a_loop_is_stopped_after_a_while(ours: Server, real: Server) -> None:
    script = b"local x = 0 while true do x = x + 1 end"
    for server in (ours, real):
        server.call("CONFIG", "SET", "busy-reply-threshold", "50")
    commands = words("c", "c", "a")

    try:
        assert transcript(ours, script, commands) == transcript(real, script, commands)
    finally:
        for server in (ours, real):
            server.call("CONFIG", "SET", "busy-reply-threshold", "5000")


def test_the_script_goes_on_when_the_client_has_left(ours: Server) -> None:
    ours.call("DEL", "a")
    with ours.raw() as client:
        client.ask(b"SCRIPT", b"DEBUG", b"sync")
        client.sendall(pack([b"EVAL", b"local x = 1\nredis.call('set', 'a', x)", b"0"]))
        client.recv()

    eventually(lambda: ours.call("GET", "a") == b"1")


def test_sessions_of_children_go_on_beside_one_another(ours: Server) -> None:
    with ours.raw() as first, ours.raw() as second:
        for client in (first, second):
            client.ask(b"SCRIPT", b"DEBUG", b"yes")
            client.sendall(pack([b"EVAL", b"local x = 1\nreturn x", b"0"]))
            assert b"Stopped at 1" in client.recv()
        assert ours.call("PING") == b"PONG"
        for client in (first, second):
            client.sendall(pack([b"c"]))
            assert client.recv_until_closed().endswith(b"+<endsession>\r\n:1\r\n")


def test_what_is_refused(ours: Server, real: Server) -> None:
    for server in (ours, real):
        with server.raw() as client:
            client.ask(b"SCRIPT", b"DEBUG", b"yes")
            client.sendall(pack([b"EVALSHA", b"a" * 40, b"0"]))
            assert client.recv() == b"-ERR Please use EVAL instead of EVALSHA for debugging\r\n"
            client.sendall(pack([b"SCRIPT", b"DEBUG", b"maybe"]))
            assert client.recv() == b"-ERR Use SCRIPT DEBUG YES/SYNC/NO\r\n"
            client.sendall(pack([b"PING"]) + pack([b"SCRIPT", b"DEBUG", b"no"]))
            refused = b"+PONG\r\n-ERR SCRIPT DEBUG must be called outside a pipeline\r\n"
            assert client.recv_exactly(len(refused)) == refused
            assert client.ask(b"SCRIPT", b"DEBUG", b"no") == b"OK"
            assert client.ask(b"EVAL", b"return redis.breakpoint()", b"0") is None


@pytest.mark.parametrize("mode", [b"yes", b"sync"])
def test_a_server_that_ends_ends_its_sessions(mode: bytes) -> None:
    with OurNode() as server, server.raw() as client:
        client.ask(b"SCRIPT", b"DEBUG", mode)
        client.sendall(pack([b"EVAL", b"local x = 1\nreturn x", b"0"]))
        client.recv()

        assert server.stop() == 0
        client.recv_until_closed()
