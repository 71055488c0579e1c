"""cjson, cmsgpack, struct and bit against those of a real server: results, order of keys and error texts.

Each example is a script of a few calls. It runs by EVAL in a real server, and in a bare Lua runtime that has our
libraries; both show what came out. Keys are shorter than 32 bytes: longer ones hash differently in Redis's Lua.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.scripting.libraries import install
from tests.support.servers import OurNode, RealRedis
from tests.support.wire import RawConnection, ReplyError

pytestmark = pytest.mark.real_redis

Runtime = Any

_PROLOGUE = r"""
local function show(value, depth)
    if type(value) == 'table' then
        if depth > 40 then return 'deep' end
        local parts = {}
        for key, element in next, value do
            parts[#parts + 1] = show(key, depth + 1) .. '=' .. show(element, depth + 1)
        end
        return '{' .. table.concat(parts, ',') .. '}'
    elseif type(value) == 'number' then
        return string.format('%.17g', value)
    elseif type(value) == 'string' then
        return '<' .. value .. '>'
    end
    return tostring(value)
end
local function showAll(...)
    local parts = {}
    for i = 1, select('#', ...) do parts[i] = show((select(i, ...)), 1) end
    return table.concat(parts, ' ')
end
local out = {}
local function try(f)
    local done, result = pcall(f)
    out[#out + 1] = tostring(done) .. ' ' .. tostring(result)
end
local function nest(depth, wrap)
    local value = wrap and {} or {1}
    for i = 2, depth do value = wrap and {x = value} or {value} end
    return value
end
local cjson = cjson.new()
local null, huge = cjson.null, math.huge
"""


def _literal(text: bytes) -> str:
    """A string of Lua."""
    return '"' + "".join(f"\\{code:03d}" for code in text) + '"'


_numbers = st.one_of(
    st.sampled_from(
        ("0", "-0", "1", "-1", "127", "128", "-32", "-33", "255", "256", "-128", "-129", "65535", "65536", "-32768",
         "-32769", "2^31", "2^31-1", "-2^31", "-2^31-1", "2^32", "2^32-1", "2^53", "2^63", "-2^63", "2^64", "-2^64",
         "2^63-1024", "0.5", "-1.5", "2.5", "3.5", "0.1", "1e300", "-1e300", "1e-320", "1e-45", "1e-46", "3.4e38",
         "3.5e38", "1.17549435e-38", "huge", "-huge", "0/0", "-(0/0)", "1e15", "123456789012345678", "2^51", "2^52+0.5",
         "-2^51-1", "3*2^51", "-6755399441055744", "1/3", "16777217", "'12'", "'0x10'", "'x'", "''", "nil", "true")
    ),
    st.integers(-(2**65), 2**65).map(str),
    st.integers(-300, 70000).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
)  # fmt: skip
_texts = st.one_of(st.binary(max_size=20), st.sampled_from((b"", b"a", b"key", b"1", b'/\\"\x7f\x00\n', b"x" * 31)))
_strings = _texts.map(_literal)
_long_strings = st.sampled_from((31, 32, 255, 256, 65535, 65536)).map(lambda size: f"string.rep('s', {size})")
_oddities = st.sampled_from(("nil", "null", "true", "false", "tostring", "coroutine.create(show)", "{}"))
_keys = st.one_of(
    _strings, _numbers.filter(lambda text: text not in ("nil", "0/0", "-(0/0)")), st.sampled_from(("true", "1", "2"))
)
_metatables = "setmetatable({1, nil, 3}, {__index = function() return 'other' end, __len = function() return 9 end})"
_values = st.recursive(
    st.one_of(_numbers, _strings, _oddities, _long_strings, st.just(_metatables)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(lambda parts: "{" + ", ".join(parts) + "}"),
        st.lists(st.tuples(_keys, inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f"[{key}] = {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=12,
)
_arguments = st.one_of(_values, _numbers, _strings)


def _call(name: str, *arguments: str) -> str:
    return f"{name}({', '.join(arguments)})"


# cjson ---------------------------------------------------------------------------------------------------------------

_options = st.one_of(
    st.tuples(
        st.sampled_from(
            ("encode_max_depth", "decode_max_depth", "encode_number_precision", "encode_keep_buffer",
             "encode_invalid_numbers", "decode_invalid_numbers")
        ),
        st.lists(
            st.one_of(
                st.sampled_from(("nil", "true", "false", "'on'", "'off'", "'null'", "1", "2", "3", "14", "15", "-1",
                                 "1000000", "2^31", "1.9", "'7'")),
                _arguments,
            ),
            max_size=2,
        ),
    ).map(lambda drawn: _call(f"cjson.{drawn[0]}", *drawn[1])),
    st.lists(
        st.sampled_from(("nil", "true", "false", "'on'", "0", "1", "2", "10", "2^31-1", "3", "-1", "{}")), max_size=4
    ).map(lambda arguments: _call("cjson.encode_sparse_array", *arguments)),
)  # fmt: skip
_sparse = st.sampled_from(
    ("{[10] = 1}", "{[11] = 1}", "{1, 2, [12] = 3}", "{[1e10] = 1}", "{[2^31] = 1, [3] = 1}", "{[2.5] = 1}",
     "{[0] = 1}", "{[-1] = 2}", "{[huge] = 1}", "{1, nil, 3}", "{[20] = 1, [21] = 2}")
)  # fmt: skip
_deep = st.builds(
    "nest({}, {})".format,
    st.sampled_from((1, 2, 3, 15, 16, 17, 999, 1000, 1001, 3997, 3998, 3999, 4000, 4001)),
    st.sampled_from(("true", "false")),
)
_json_tokens = st.sampled_from(
    (b"{", b"}", b"[", b"]", b",", b":", b'"a"', b'"b"', b'""', b'"\\u0041"', b'"\\ud83d\\ude00"', b'"\\ud83d"',
     b'"\\udc00\\ud83d"', b'"\\uD800\\u0041"', b'"\\u12g4"', b'"\\x"', b'"\\', b'"\\u', b'"abc', b'"\\n\\t\\/\\\\\\""',
     b"1", b"-1", b"0", b"01", b"1.5", b"-1.5e+3", b"1e", b"1.", b"-.5", b".5", b"+1", b"-", b"0x1F", b"-0x1.8p3",
     b"0x", b"inf", b"-inf", b"Infinity", b"nan", b"-NaN", b"nan(12)", b"NaN(", b"true", b"false", b"null", b"nul",
     b"tru", b"truex", b"i", b"N", b"\x00", b" ", b"\n", b"\t\r", b"'", b"/", b"\xff", b'"\xc3\xa9"', b"1e400",
     b"12345678901234567890")
)  # fmt: skip
_json_leaves = st.one_of(
    st.sampled_from((b"null", b"true", b"false", b"1", b"-2.5e-3", b'"x"', b'"\\u00e9\\\\"', b"[]", b"{}", b" 7 ")),
    st.floats().map(lambda number: repr(number).encode()),
)
_json = st.one_of(
    st.lists(_json_tokens, max_size=8).map(b"".join),
    st.recursive(
        _json_leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map(lambda parts: b"[" + b",".join(parts) + b"]"),
            st.lists(st.tuples(st.sampled_from((b'"a"', b'"b"', b'"c"', b'"1"')), inner), max_size=4).map(
                lambda pairs: b"{" + b" , ".join(key + b":" + value for key, value in pairs) + b"}"
            ),
        ),
        max_leaves=10,
    ),
    st.binary(max_size=6),
)
_damaged_json = st.tuples(_json, st.integers(0, 40), st.binary(max_size=1)).map(
    lambda drawn: drawn[0][: drawn[1]] + drawn[2] + drawn[0][drawn[1] + 1 :]
)
_deep_json = st.builds(
    "string.rep('{}', {})".format,
    st.sampled_from(("[", '{"a":', '[{"a":')),
    st.sampled_from((1, 500, 1000, 1001, 3999, 4000, 7998, 7999, 8000)),
)
_cjson_calls = st.one_of(
    _options,
    st.one_of(_values, _sparse, _deep).map(lambda value: _call("cjson.encode", value)),
    st.one_of(_json, _damaged_json).map(lambda json: _call("cjson.decode", _literal(json))),
    _deep_json.map(lambda json: _call("cjson.decode", json)),
    st.lists(_arguments, max_size=2).map(lambda arguments: _call("cjson.decode", *arguments)),
    st.lists(_arguments, max_size=2).map(lambda arguments: _call("cjson.encode", *arguments)),
    st.just("tostring(cjson.null)"),
)

# cmsgpack ------------------------------------------------------------------------------------------------------------

_message_parts = st.sampled_from(
    (b"\x00", b"\x7f", b"\xff", b"\xe0", b"\xa1a", b"\xa3ab", b"\x91", b"\x93\x01\x02\x03", b"\x81\x01",
     b"\x82\xa1a\x01", b"\x81\xc0\x01", b"\x90", b"\x80", b"\xc0", b"\xc1", b"\xc2", b"\xc3", b"\xc4\x01a", b"\xc7",
     b"\xcc\xff",
     b"\xcd\xff\xff", b"\xce\xff\xff\xff\xff", b"\xcf" + b"\xff" * 8, b"\xcf\x7f" + b"\xff" * 7, b"\xd0\x80",
     b"\xd1\x80\x01", b"\xd2\x80\x00\x00\x01", b"\xd3\x80" + b"\x00" * 6 + b"\x01", b"\xca\x3f\x80\x00\x00",
     b"\xca\x7f\x80\x00\x00", b"\xca\x00\x00\x00\x01", b"\xcb\x7f\xf0" + b"\x00" * 6,
     b"\xcb\x00" + b"\x00" * 6 + b"\x01",
     b"\xd4\x01", b"\xd9\x03abc", b"\xda\x00\x02ab", b"\xdb\x00\x00\x00\x01a", b"\xdc\x00\x02\x01\x02",
     b"\xdd\x00\x00\x00\x01\x05", b"\xde\x00\x01\x01\x02", b"\xdf\x00\x00\x00\x01\x01\x02", b"\xdd\xff\xff\xff\xff\x01",
     b"\xca\x7f\xc0\x00\x00")
)  # fmt: skip
_messages = st.one_of(st.lists(_message_parts, max_size=5).map(b"".join), st.binary(max_size=12)).map(_literal)
_deep_messages = st.builds(
    "string.rep('{}', {})".format,
    st.sampled_from(("\\145", "\\129\\1", "\\1", "\\192")),
    st.sampled_from((1, 100, 3998, 3999, 4000, 7997, 7998, 7999, 8000)),
)
_positions = st.one_of(
    st.integers(-2, 14).map(str), st.sampled_from(("nil", "2^31", "'3'", "{}", "1.5", "-2^40", "2^63"))
)
_cmsgpack_calls = st.one_of(
    st.lists(_values, max_size=3).map(lambda values: _call("cmsgpack.pack", *values)),
    st.lists(_values, max_size=3).map(lambda values: _call("cmsgpack.unpack", _call("cmsgpack.pack", "1", *values))),
    _deep.map(lambda value: _call("cmsgpack.pack", value)),
    _messages.map(lambda message: _call("cmsgpack.unpack", message)),
    _deep_messages.map(lambda message: _call("#showAll", _call("cmsgpack.unpack", message))),
    st.tuples(_messages, st.lists(_positions, max_size=2)).map(
        lambda drawn: _call("cmsgpack.unpack_one", drawn[0], *drawn[1])
    ),
    st.tuples(_messages, st.lists(_positions, max_size=3)).map(
        lambda drawn: _call("cmsgpack.unpack_limit", drawn[0], *drawn[1])
    ),
    st.lists(_arguments, max_size=2).map(lambda arguments: _call("cmsgpack.unpack", *arguments)),
)

# struct --------------------------------------------------------------------------------------------------------------

_formats = st.lists(
    st.one_of(
        st.sampled_from(
            (">", "<", "!", "!1", "!2", "!4", "!8", "!16", "!3", "!0", " ", "x", "b", "B", "h", "H", "l", "L", "T", "f",
             "d", "s", "c", "c0", "c1", "c3", "c20", "i", "I", "i0", "i1", "I3", "i5", "I8", "i9", "i16", "I32", "i33",
             "i99999999999", "c2147483648", "z", "5", "\xe9", "\\000b", "bc0", "Bc0")
        ),
        st.sampled_from("bBhHlLTfdsiIx"),
    ),
    max_size=5,
).map(lambda parts: '"' + "".join(parts) + '"')  # fmt: skip
_struct_calls = st.one_of(
    st.tuples(_formats, st.lists(st.one_of(_numbers, _strings), max_size=5)).map(
        lambda drawn: _call("struct.pack", drawn[0], *drawn[1])
    ),
    st.tuples(_formats, _strings, st.lists(_positions, max_size=1)).map(
        lambda drawn: _call("struct.unpack", drawn[0], drawn[1], *drawn[2])
    ),
    st.tuples(_formats, st.binary(min_size=8, max_size=80).map(_literal)).map(
        lambda drawn: _call("struct.unpack", *drawn)
    ),
    _formats.map(lambda text: _call("struct.size", text)),
    st.tuples(st.sampled_from(("pack", "unpack", "size")), st.lists(_arguments, max_size=3)).map(
        lambda drawn: _call(f"struct.{drawn[0]}", *drawn[1])
    ),
    st.tuples(st.sampled_from("fdlLiIhb"), _numbers).map(
        lambda drawn: _call("struct.unpack", f"'>{drawn[0]}'", _call("struct.pack", f"'>{drawn[0]}'", drawn[1]))
    ),
    st.sampled_from((7995, 7996, 7997, 7998)).map(
        lambda count: f"#showAll(struct.unpack(string.rep('b', {count}), string.rep('a', {count})))"
    ),
)

# bit -----------------------------------------------------------------------------------------------------------------

_bit_calls = st.tuples(
    st.sampled_from(
        ("tobit", "bnot", "band", "bor", "bxor", "lshift", "rshift", "arshift", "rol", "ror", "bswap", "tohex")
    ),
    st.one_of(st.lists(_numbers, max_size=4), st.lists(_numbers, min_size=1, max_size=2), st.lists(_arguments)),
).map(lambda drawn: _call(f"bit.{drawn[0]}", *drawn[1]))  # fmt: skip


@pytest.fixture(scope="module")
def connection() -> Iterator[RawConnection]:
    with RealRedis() as real, real.raw() as raw:
        yield raw


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    lua51 = pytest.importorskip("lupa.lua51")
    made = lua51.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
    install(made)
    return made


def _compare(connection: RawConnection, runtime: Runtime, calls: list[str]) -> None:
    lines = [f"try(function() return showAll({call}) end)" for call in calls]
    script = (_PROLOGUE + "\n".join(lines) + "\nreturn table.concat(out, '\\n')").encode("latin-1")
    theirs = connection.ask("EVAL", script, "0")
    ours = runtime.execute(script, name="=user_script")
    assert ours == theirs, script.decode("latin-1")[len(_PROLOGUE) :]


@given(calls=st.lists(_cjson_calls, min_size=1, max_size=5))
@example(calls=["cjson.encode({})", "cjson.encode({a={}, b={1,2}})", "cjson.decode('{}')", "cjson.decode('[]')"])
@example(calls=["cjson.decode_max_depth(100000)", "cjson.decode(string.rep('[', 7998) .. string.rep(']', 7998))"])
@example(
    calls=["cjson.encode_max_depth(100000)", "#cjson.encode(nest(7997, false))", "cjson.encode(nest(7998, false))"]
)
def test_cjson(connection: RawConnection, runtime: Runtime, calls: list[str]) -> None:
    _compare(connection, runtime, calls)


@given(calls=st.lists(_cmsgpack_calls, min_size=1, max_size=5))
def test_cmsgpack(connection: RawConnection, runtime: Runtime, calls: list[str]) -> None:
    _compare(connection, runtime, calls)


@given(calls=st.lists(_struct_calls, min_size=1, max_size=5))
def test_struct(connection: RawConnection, runtime: Runtime, calls: list[str]) -> None:
    _compare(connection, runtime, calls)


@given(calls=st.lists(_bit_calls, min_size=1, max_size=8))
def test_bit(connection: RawConnection, runtime: Runtime, calls: list[str]) -> None:
    _compare(connection, runtime, calls)


# Through EVAL --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def our_connection() -> Iterator[RawConnection]:
    pytest.importorskip("lupa.lua51")
    with OurNode() as node, node.raw() as raw:
        yield raw


def _answer(connection: RawConnection, script: bytes) -> object:
    answer = connection.ask("EVAL", script, "0")
    return str(answer) if isinstance(answer, ReplyError) else answer


@given(call=st.one_of(_cjson_calls, _cmsgpack_calls, _struct_calls, _bit_calls))
def test_what_a_script_returns(connection: RawConnection, our_connection: RawConnection, call: str) -> None:
    """Both the values that become replies, and the errors of a script that ends with the call itself."""
    prologue = _PROLOGUE.replace("\n", " ")  # One line: the errors tell which.
    for script in (
        f"{prologue} return {call}",
        f"{prologue} return {{{call}}}",
        f"{prologue} local x = {call} return x",
    ):
        ours, theirs = (_answer(each, script.encode("latin-1")) for each in (our_connection, connection))
        assert ours == theirs, script[len(prologue) :]
