"""The Lua libraries that Redis adds for scripts: cjson, cmsgpack, struct, bit.

They are written in Lua, one file each beside this one: no call leaves the interpreter, so nothing of Python can be
reached through them, and values need not be converted one by one on the way. ``support.lua`` says how they are made
to look like the C functions that they stand for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

_LIBRARIES: Final = ("cjson", "cmsgpack", "struct", "bit")


def _run(lua_runtime: Any, name: str, *arguments: Any) -> Any:
    source = (Path(__file__).parent / f"{name}.lua").read_bytes()
    return lua_runtime.execute(source, *arguments, name=f"={name}")


def _null_pointer(lua_runtime: Any) -> Any:
    """The value of cjson.null; see null.lua."""
    empty_table, watch, take = _run(lua_runtime, "null")
    watch()
    len(empty_table)
    return take()


def install(lua_runtime: Any) -> None:
    """Add the four libraries to the globals of a lupa.lua51 runtime, which must still have its ``debug`` library."""
    support = _run(lua_runtime, "support")
    null = _null_pointer(lua_runtime)
    libraries = [_run(lua_runtime, name, support, null) for name in _LIBRARIES]
    lua_runtime.execute(f"{', '.join(_LIBRARIES)} = ...".encode(), *libraries)
