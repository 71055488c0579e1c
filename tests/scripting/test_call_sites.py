"""Last calls of fields keep the caller's line; everything else about a chunk stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
from lupa import lua51

from cluster.scripting.call_sites import keep_call_sites


@pytest.fixture
def runtime() -> Any:
    made = lua51.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
    made.execute(b"library = {fail = function() error('failed', 2) end, pair = function(...) return ... end}")
    return made


def rebuilt(runtime: Any, code: str) -> Any:
    """The function as scripts run it."""
    function = runtime.compile(code.encode(), name="=user_script")
    kept = keep_call_sites(runtime.eval(b"string.dump")(function))
    return function if kept is None else runtime.compile(kept, name="=other")


def failure(runtime: Any, code: str) -> Any:
    return runtime.eval(b"function(f) return select(2, pcall(f)) end")(rebuilt(runtime, code))


def test_errors_know_the_line_of_a_last_call(runtime: Any) -> None:
    assert runtime.eval(b"select(2, pcall(loadstring('return library.fail()', '=user_script')))") == b"failed"
    assert failure(runtime, "return library.fail()") == b"user_script:1: failed"
    assert failure(runtime, "local x = 1\nif x then\nreturn library.fail(x, {x}, x and 2)\nend") == (
        b"user_script:3: failed"
    )
    assert failure(runtime, "local function f() return library.fail() end\n\nf()") == b"user_script:1: failed"
    assert failure(runtime, "return library:fail()") == b"user_script:1: failed"


def test_results_and_arguments_are_the_same(runtime: Any) -> None:
    code = "local a = ... return library.pair(a, select('#', ...), library.pair(), nil, 2.5, true, 'x' .. ('y'):rep(3))"
    assert rebuilt(runtime, code)(1, 2) == runtime.compile(code.encode())(1, 2)
    assert rebuilt(runtime, "return library.pair()")() is None
    assert rebuilt(runtime, "return (library.pair(1, 2))")() == 1
    assert rebuilt(runtime, "return coroutine.wrap(function() return coroutine.yield(7) end)()")() == 7


def test_recursion_through_variables_stays_in_constant_space(runtime: Any) -> None:
    for scope in ("local ", ""):
        body = "if n == 0 then return library.pair('end') end return loop(n - 1)"
        assert rebuilt(runtime, f"{scope}function loop(n) {body} end return loop(100000)")() == b"end"


def test_what_has_no_such_call_is_left_alone(runtime: Any) -> None:
    dump = runtime.eval(b"string.dump")
    assert keep_call_sites(dump(runtime.compile(b"local x = library.pair(1) return x"))) is None
    assert keep_call_sites(dump(runtime.compile(b"return tostring(1)"))) is None
    assert keep_call_sites(b"\x1bLua of another machine") is None
