"""cjson, cmsgpack, struct and bit in a bare Lua runtime: what they answer, how they fail, and what they hide.

That they answer as Redis's do is shown beside a real server: tests/interop/test_lua_libraries_interop.py.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lupa import lua51

from cluster.scripting.libraries import install


def new_runtime() -> Any:
    runtime = lua51.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
    install(runtime)
    return runtime


RUNTIME = new_runtime()


def run(script: str, *arguments: object) -> Any:
    return RUNTIME.execute(script.encode(), *arguments, name="=user_script")


def failure(call: str) -> Any:
    """The text of the error that a call in a script ends with."""
    return run(f"local done, message = pcall(function() local result = {call} return result end) return message")


def test_values() -> None:
    assert run("return cjson.encode({1, 'a/b', true, cjson.null, {}})") == b'[1,"a\\/b",true,null,{}]'
    assert run("return cjson.decode('[1, {\"a\": [2.5]}]')[2].a[1]") == 2.5
    assert run("return cjson.decode('[null]')[1] == cjson.null, tostring(cjson.null), type(cjson.null)") == (
        True, b"userdata: (nil)", b"userdata",
    )  # fmt: skip
    assert run("return cmsgpack.pack({1, 'x'}, nil, -1, 1.5)") == b"\x92\x01\xa1x\xc0\xff\xca\x3f\xc0\x00\x00"
    assert run("return cmsgpack.unpack_limit('\\1\\2\\3', 2)") == (2, 1, 2)
    assert run("return struct.pack('>I2s', 258, 'ab')") == b"\x01\x02ab\x00"
    assert run("return struct.unpack('<hd', struct.pack('<hd', -2, 0.1))") == (-2, 0.1, 11)
    assert run("return bit.bxor(0xff, 0x0f), bit.tohex(-1, -4), bit.arshift(-8, 1)") == (240, b"FFFF", -4)


@given(
    st.recursive(
        st.one_of(st.booleans(), st.integers(-(10**13), 10**13), st.text(max_size=8)),
        lambda inner: st.one_of(st.lists(inner, min_size=1), st.dictionaries(st.text("abc", min_size=1), inner)),
        max_leaves=20,
    )
)
def test_json_returns_from_its_journey(value: Any) -> None:
    again = run("return cjson.encode(cjson.decode(...))", json.dumps(value).encode())
    assert json.loads(again) == value


def test_errors_say_where_the_script_called() -> None:
    assert failure("cjson.decode('[1')") == (
        b"user_script:1: Expected comma or array end but found T_END at character 3"
    )
    assert failure("cjson.encode(print)") == b"user_script:1: Cannot serialise function: type not supported"
    assert failure("cjson.decode()") == b"user_script:1: bad argument #1 to 'decode' (expected 1 argument)"
    assert failure("struct.pack('i')") == b"user_script:1: bad argument #2 to 'pack' (number expected, got nil)"
    assert failure("bit.band('x')") == b"user_script:1: bad argument #1 to 'band' (number expected, got string)"
    assert failure("cmsgpack.unpack('\\193')") == b"user_script:1: Bad data format in input."
    # Called by pcall itself there is neither a position nor a name.
    assert run("local done, message = pcall(bit.band) return message") == (
        b"bad argument #1 to '?' (number expected, got no value)"
    )
    # An error that is not the library's own goes through as it is.
    assert failure("cmsgpack.unpack('\\129\\192\\1')") == b"table index is nil"


def test_a_failure_leaves_nothing_behind() -> None:
    for _ in range(3):
        assert b"excessively sparse" in failure("cjson.encode({[1000] = 1})")
        assert run("return cjson.encode({1})") == b"[1]"
        assert b"found T_END" in failure("cjson.decode('{')")
        assert run("return cjson.decode('[7]')[1]") == 7


def test_a_script_cannot_get_behind_them() -> None:
    every_function = """
        local seen = {}
        for _, library in ipairs({cjson, cmsgpack, struct, bit}) do
            for name, value in pairs(library) do
                if type(value) == 'function' then
                    for key in pairs(getfenv(value)) do seen[#seen + 1] = tostring(key) end
                end
            end
        end
        return table.concat(seen, ' ')
    """
    assert run(every_function) == b""
    # Neither the globals that a script changes nor its metatables are asked.
    assert new_runtime().execute(b"""
        local encode, decode, pack = cjson.encode, cjson.decode, cmsgpack.pack
        local trap = function() error('called back') end
        string.format, string.find, string.byte, table.concat, math.floor, tostring = trap, trap, trap, trap, trap, trap
        getmetatable('').__index = trap
        local value = setmetatable({'a', 2.5}, {__index = trap, __len = trap, __tostring = trap, __eq = trap})
        return encode(value), pack(value), decode('["x"]')[1]
    """) == (b'["a",2.5]', b"\x92\xa1a\xca\x40\x20\x00\x00", b"x")


def test_options_belong_to_a_module() -> None:
    assert run("local own = cjson.new() own.encode_number_precision(3) return own.encode(1/3), cjson.encode(0.25)") == (
        b"0.333", b"0.25",
    )  # fmt: skip
    assert run("return cjson.new().encode_sparse_array(true, 1, 2)") == (True, 1, 2)
    assert run("return cjson.new().encode_invalid_numbers('null'), cjson.new().decode_invalid_numbers()") == (
        b"null", True,
    )  # fmt: skip
