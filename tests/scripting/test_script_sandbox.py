"""What scripts may reach: nothing of Python, of the machine, or of other scripts; and what they may use up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cluster.scripting import engine as engine_module
from cluster.scripting.conversion import ScriptFailure
from cluster.scripting.engine import CompileError, Failed, FailedOddly, LuaEngine, Outcome, Reply, Value


class FakeHost:
    """A server for scripts that has three commands."""

    def __init__(self) -> None:
        self.is_running = True
        self.calls: list[list[bytes]] = []
        self.interrupts = 0
        self.ending_after: int | None = None
        self.logged: list[bytes] = []
        self.broken = False

    def call(self, argv: list[bytes]) -> bytes:
        self.calls.append(argv)
        if self.broken:
            raise RuntimeError("a bug of ours")
        if argv[0] == b"BAD":
            raise ScriptFailure(b"ERR bad", is_counted=True)
        if argv[0] == b"BIG":
            return b"$%d\r\n%b\r\n" % (int(argv[1]), b"x" * int(argv[1]))
        return b"+OK\r\n"

    def protocols(self) -> tuple[int, int]:
        return 2, 2

    def set_protocol(self, version: int) -> None:
        pass

    def set_replication(self, targets: int) -> None:
        pass

    def may_run(self, argv: list[bytes]) -> bool | None:
        return True

    def log(self, level: int, text: bytes) -> None:
        self.logged.append(text)

    def count_error(self, message: bytes) -> None:
        pass

    def note_error(self) -> None:
        pass

    def interrupt(self) -> int | None:
        self.interrupts += 1
        return 1 if self.ending_after is not None and self.interrupts > self.ending_after else None

    def report_exception(self) -> None:
        pass


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def lua(host: FakeHost) -> Iterator[LuaEngine]:
    yield LuaEngine(host)


def run(lua: LuaEngine, body: str, *arguments: bytes) -> Outcome:
    return lua.run(lua.compile(body.encode("latin-1"), "@user_script"), 0, list(arguments))


def value(lua: LuaEngine, body: str) -> Any:
    outcome = run(lua, body)
    assert isinstance(outcome, Value), outcome
    return outcome.value


def message(lua: LuaEngine, body: str) -> bytes:
    outcome = run(lua, body)
    assert isinstance(outcome, Failed), outcome
    assert outcome.message is not None
    return outcome.message


# Python ---------------------------------------------------------------------------------------------------------

SEARCH = """
local seen, found = {}, {}
local function visit(value, path, depth)
    local kind = type(value)
    if kind == 'userdata' and value ~= cjson.null then found[#found + 1] = path end
    if kind ~= 'table' or seen[value] or depth > 8 then return end
    seen[value] = true
    for key, item in pairs(value) do
        visit(key, path .. '.key', depth + 1)
        visit(item, path .. '.' .. tostring(key), depth + 1)
    end
    local metatable = getmetatable(value)
    if metatable then visit(metatable, path .. '.metatable', depth + 1) end
end
visit(_G, '_G', 0)
visit(getmetatable(''), 'strings', 0)
return table.concat(found, ' ')
"""


def test_no_value_that_can_be_reached_is_an_object_of_python(lua: LuaEngine) -> None:
    assert value(lua, SEARCH) == b""


@pytest.mark.parametrize(
    "name",
    [
        *("python", "lupa", "eval", "io", "os", "debug", "package", "require", "module", "dofile", "loadfile", "print"),
        *("getfenv", "setfenv", "newproxy"),
    ],
)
def test_what_leads_out_of_the_sandbox_is_not_there(lua: LuaEngine, name: str) -> None:
    assert b"nonexistent global variable" in message(lua, f"return {name}")
    assert value(lua, f"return rawget(_G, '{name}')") is None


@pytest.mark.parametrize(
    "catch",
    [
        "local _, e = pcall(redis.call, 'BAD') return type(e)",
        "local _, e = pcall(function() redis.call('BAD') end) return type(e)",
        "local _, e = xpcall(function() redis.call('BAD') end, function(e) return e end) return type(e)",
        "local _, e = xpcall(function() redis.call('BAD') end, 5) return type(e)",
        "local _, e = coroutine.resume(coroutine.create(function() redis.call('BAD') end)) return type(e)",
        "local _, e = pcall(coroutine.wrap(function() redis.call('BAD') end)) return type(e)",
        "local _, e = load(function() redis.call('BAD') end) return type(e)",
        "local _, e = pcall(string.gsub, 'a', 'a', function() redis.call('BAD') end) return type(e)",
        "local _, e = pcall(table.sort, {2, 1, 3}, function() redis.call('BAD') end) return type(e)",
        "local t = setmetatable({}, {__index = function() redis.call('BAD') end}) "
        "local _, e = pcall(function() return t.x end) return type(e)",
        "local _, e = pcall(redis.sha1hex) return type(e)",
        "local _, e = pcall(redis.log) return type(e)",
        "return type(redis.pcall('BAD'))",
    ],
)  # fmt: skip
def test_an_error_of_the_server_is_never_caught_as_an_object(lua: LuaEngine, catch: str) -> None:
    assert value(lua, catch) in (b"string", b"table")


def test_a_bug_of_ours_is_an_error_of_the_script(lua: LuaEngine, host: FakeHost) -> None:
    host.broken = True

    assert message(lua, "redis.call('ANY')") == b"ERR internal error, see the server's log"
    assert value(lua, "return select(2, pcall(redis.call, 'ANY'))") == b"ERR internal error, see the server's log"


def test_bytecode_is_not_loaded(lua: LuaEngine) -> None:
    code = "loadstring(string.dump(function() return 1 end))"

    assert value(lua, f"return {code}") is None
    with pytest.raises(CompileError):
        lua.compile(value(lua, "return string.dump(function() return 1 end)"), "@user_script")


# Other scripts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attempt",
    [
        "x = 1", "_G.x = 1", "rawset(_G, 'x', 1)", "redis.call = 1", "redis.x = 1", "rawset(redis, 'x', 1)",
        "string.rep = 1", "table.insert(redis, 1)", "table.insert(_G, 1)",
        "setmetatable(_G, {})",
        "setmetatable(redis, {})", "getmetatable(_G).__index = 1", "getmetatable('').__index = 1", "cjson.null = 1",
        "getmetatable('').__index.rep = 1", "math.random = 1", "coroutine.wrap = 1", "_G._G.x = 1", "KEYS = 1",
        "bit.x = 1", "for _, t in pairs(_G) do if type(t) == 'table' then t.x = 1 end end",
    ],
)  # fmt: skip
def test_nothing_shared_can_be_changed(lua: LuaEngine, attempt: str) -> None:
    before = value(
        lua, "local n = 0 for _ in pairs(_G) do n = n + 1 end for _ in pairs(redis) do n = n + 1 end return n"
    )

    assert b"Attempt to modify a readonly table" in message(lua, attempt)
    assert before == value(
        lua, "local n = 0 for _ in pairs(_G) do n = n + 1 end for _ in pairs(redis) do n = n + 1 end return n"
    )
    assert value(lua, "return ('x'):rep(3)") == b"xxx"


def test_collection_goes_on_after_a_script_that_stopped_it(lua: LuaEngine) -> None:
    run(lua, "collectgarbage('stop')")
    run(lua, "for i = 1, 20000 do local t = {i, i, i, i} end")

    assert lua.used_bytes() < 2_000_000


# Ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(error) end",
        "coroutine.wrap(function() while true do end end)()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "while true do coroutine.resume(coroutine.create(function() pcall(function() while true do end end) end)) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
        "while true do pcall(redis.call, 'ANY') end",
    ],
)
def test_every_loop_can_be_ended(lua: LuaEngine, host: FakeHost, body: str) -> None:
    host.ending_after = 2

    assert b"Script killed by user" in message(lua, body)

    host.ending_after = None
    assert value(lua, "return 1") == 1


def test_a_reply_without_end_can_be_ended(lua: LuaEngine, host: FakeHost) -> None:
    host.ending_after = 5

    assert isinstance(run(lua, "local a = {} a[1] = a a[2] = a return a"), Failed)

    host.ending_after = None
    assert value(lua, "return 1") == 1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, host: FakeHost) -> LuaEngine:
    """An interpreter that may hold 16 MB."""
    monkeypatch.setattr(engine_module, "MEMORY_MAX_BYTES", 16 << 20)
    return LuaEngine(host)


FILL = "local t = {} pcall(function() while true do t[#t + 1] = {1, 2, 3, 4, 5, 6, 7, 8} end end) "
BRIM = FILL + "pcall(function() while true do t[#t + 1] = {} end end) "


@pytest.mark.parametrize(
    "body",
    [
        "local t = {} while true do t[#t + 1] = {1, 2, 3, 4} end",
        "local s = 'x' while true do s = s .. s end",
        "return #string.rep('x', 2^30)",
        BRIM + "redis.call({}) return 1",
        BRIM + "while true do pcall(redis.call, 'BAD') end",
        BRIM + "local u = {} for i = 1, 100 do u[i] = t end while true do redis.pcall(unpack(u)) end",
        FILL + "while true do redis.call('BIG', 1000000) end",
        "local t = {} while true do t[#t + 1] = redis.call('BIG', 100000 + #t) end",
        "local t = {} for i = 1, 40000 do t[i] = 'abcdefghijklmnopqrstuvwxyz' .. i end return {t, t, t, t, t, t, t, t}",
        BRIM + "return redis.error_reply('x')",
        BRIM + "redis.log(redis.LOG_WARNING, 'x') return redis.sha1hex('x')",
    ],
)
def test_a_script_that_uses_up_its_memory_fails_and_nothing_else_does(small: LuaEngine, body: str) -> None:
    outcome = run(small, body)

    assert isinstance(outcome, Failed | FailedOddly), outcome
    assert outcome.message is not None
    assert b"not enough memory" in outcome.message
    assert value(small, "return 'alive'") == b"alive"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("local function f() return f() + 1 end return f()", b"stack overflow"),
        ("local function f() return pcall(f) end return tostring(f())", b"C stack overflow"),
        ("local function f() pcall(f) return f() end f()", b"C stack overflow"),
        (
            "local depth = 0 local t = setmetatable({}, {__index = function(t, k) depth = depth + 1 "
            "if depth > 190 then while true do end end return t[k] end}) "
            "xpcall(function() return t.x end, function() while true do end end)",
            b"",
        ),
        ("local function f() coroutine.resume(coroutine.create(f)) return f() end f()", b"C stack overflow"),
        ("return string.find(('a'):rep(300000), ('a?'):rep(100000))", b"pattern too complex"),
        ("return string.gsub(('a'):rep(300000), ('a-'):rep(100000), '')", b"pattern too complex"),
        ("return ('x'):match(('.'):rep(100000))", b"pattern too complex"),
        ("return " + "(" * 300 + "1" + ")" * 300, b"too many syntax levels"),
        ("return unpack({}, 1, 1e8)", b"too many results to unpack"),
        ("local t = {} for i = 1, 300 do t = {t} end return cjson.encode(t)", None),
        ("return string.format('%999999d', 1)", b"invalid format"),
    ],
)
def test_deep_and_large_things_do_not_overflow_the_c_stack(
    lua: LuaEngine, host: FakeHost, body: str, expected: bytes | None
) -> None:
    host.ending_after = 200
    try:
        outcome = run(lua, body)
    except CompileError as problem:
        assert expected is not None
        assert expected in problem.message
        return

    if expected is not None:
        assert isinstance(outcome, Failed)
        assert expected in (outcome.message or b"")


def test_a_reply_that_is_too_deep_says_so(lua: LuaEngine) -> None:
    outcome = run(lua, "local a = {} local b = {a} a[1] = b return a")

    assert isinstance(outcome, Reply)
    assert outcome.encoded.endswith(b"*1\r\n-ERR reached lua stack limit\r\n")


def test_as_many_arguments_as_a_script_can_pass(lua: LuaEngine, host: FakeHost) -> None:
    run(lua, "local t = {} for i = 1, 7999 do t[i] = i end redis.call('PUSH', 'l', unpack(t))")

    assert host.calls == [[b"PUSH", b"l", *[b"%d" % n for n in range(1, 8000)]]]


@pytest.mark.parametrize("bounds", ["0, 2^31-1", "-2^31, 2^31-1", "1, 1e9", "-5, '2147483647'", "0.5, 2^31-0.5"])
def test_a_range_beyond_32_bits_is_refused(lua: LuaEngine, bounds: str) -> None:
    """Lua's own check overflows, and the values are written over other memory."""
    assert b"too many results to unpack" in message(lua, f"return unpack({{}}, {bounds})")


_MANY = "function(a, b, c, d, ...) return a end"


def test_functions_that_would_overflow_the_stack_are_refused(lua: LuaEngine) -> None:
    """CVE-2014-5461: parameters before ``...`` are copied to where there may be no stack any more."""
    with pytest.raises(CompileError, match=r"user_script:2: too many parameters before '\.\.\.'"):
        lua.compile(b"local x = 1\nreturn function() return " + _MANY.encode() + b" end", "@user_script")
    for maker in (
        f"loadstring('return {_MANY}')",
        f"load(coroutine.wrap(function() coroutine.yield('return {_MANY}') end))",
    ):
        assert b"too many parameters before '...'" in value(lua, f"return select(2, {maker})")
    assert value(lua, "local function f(a, b, c, ...) return a + select('#', ...) end return f(1, 2, 3, 4, 5)") == 3
    assert value(lua, "local function f(a, b, c, d, e) return a + e end return f(1, 2, 3, 4, 5)") == 6
