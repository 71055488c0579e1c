"""Function libraries: what FUNCTION LOAD keeps, by library and by function.

Role        :class:`FunctionStore` holds the libraries of one server; a :class:`Collection` is a set of libraries whose
            names and functions do not collide. Loading runs a library's code, which registers its functions.
Invariants  A library that cannot be loaded leaves everything as it was. Names of libraries are exact; those of
            functions are found whatever their case, and unique within their library as they are spelled.
Source      functions.c, function_lua.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from cluster.scripting.conversion import ScriptFailure, tostring
from cluster.scripting.engine import MISSING, CompileError, LuaEngine, LuaMissing
from cluster.scripting.flags import FLAG_NAMES, HeaderError, read_library_header

ENGINE_NAME: Final = b"LUA"
LOAD_TIMEOUT_MS: Final = 500
_NAME_BYTES: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_BAD_NAME: Final = (
    b"Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
)


class LibraryError(Exception):
    """A library is refused; the text is what the client is told after ERR."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        self.message = message


@attrs.frozen(eq=False)
class Function:
    """One function of a library."""

    name: bytes
    callback: Any
    description: bytes | None
    flags: int


@attrs.define(eq=False)
class Library:
    """A library that was loaded."""

    name: bytes
    code: bytes
    functions: dict[bytes, Function] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Collection:
    """Libraries that fit together."""

    libraries: dict[bytes, Library] = attrs.field(factory=dict)
    functions: dict[bytes, Function] = attrs.field(factory=dict)
    """By lower-case name."""

    def link(self, library: Library) -> None:
        """Add a library that collides with nothing."""
        self.libraries[library.name] = library
        for function in library.functions.values():
            self.functions[function.name.lower()] = function

    def unlink(self, library: Library) -> None:
        """Take a library away."""
        del self.libraries[library.name]
        for function in library.functions.values():
            self.functions.pop(function.name.lower(), None)

    def refuse_collision(self, functions: dict[bytes, Function]) -> None:
        """Raise LibraryError when one of ``functions`` exists already."""
        for function in functions.values():
            if function.name.lower() in self.functions:
                raise LibraryError(b"Function %b already exists" % function.name)

    def join(self, other: Collection, *, replace: bool) -> None:
        """Add all of ``other``, or nothing. Raises LibraryError."""
        replaced: list[Library] = []
        try:
            for name in other.libraries:
                old = self.libraries.get(name)
                if old is not None:
                    if not replace:
                        raise LibraryError(b"Library %b already exists" % name)
                    self.unlink(old)
                    replaced.append(old)
            self.refuse_collision(other.functions)
        except LibraryError:
            for library in replaced:
                self.link(library)
            raise
        for library in other.libraries.values():
            self.link(library)


def is_valid_name(name: bytes) -> bool:
    """What libraries and functions may be called."""
    return bool(name) and _NAME_BYTES.issuperset(name)


class FunctionStore:
    """The function libraries of one server."""

    def __init__(self, make_engine: Callable[[FunctionStore], LuaEngine]) -> None:
        self._make_engine = make_engine
        self._engine: LuaEngine | None = None
        self.current = Collection()
        self._loading: Library | None = None
        self.loading_until_ms: int | None = None
        """When the library that is being loaded must be done (monotonic); None: there is no hurry."""

    @property
    def engine(self) -> LuaEngine:
        """The interpreter of all libraries, made when it is first needed."""
        if self._engine is None:
            self._engine = self._make_engine(self)
        return self._engine

    @property
    def is_loading(self) -> bool:
        """A library's code runs."""
        return self._loading is not None

    def used_bytes(self) -> int:
        """What the interpreter holds, or would hold at least."""
        return LuaEngine.IDLE_BYTES if self._engine is None else self._engine.used_bytes()

    def sources(self) -> list[bytes]:
        """The code of every library: what snapshots hold."""
        return [library.code for library in self.current.libraries.values()]

    def find(self, name: bytes) -> Function | None:
        """The function of that name, in any case."""
        return self.current.functions.get(name.lower())

    def replace_all(self, collection: Collection) -> None:
        """Have these libraries, and no others."""
        self.current = collection

    def load(self, code: bytes, *, replace: bool, into: Collection | None = None, until_ms: int | None = None) -> bytes:
        """Load a library and return its name. Raises LibraryError."""
        collection = self.current if into is None else into
        try:
            header = read_library_header(code)
        except HeaderError as problem:
            raise LibraryError(problem.message) from None
        if not is_valid_name(header.name):
            raise LibraryError(_BAD_NAME)
        if header.engine.upper() != ENGINE_NAME:
            raise LibraryError(b"Engine '%b' not found" % header.engine)
        old = collection.libraries.get(header.name)
        if old is not None and not replace:
            raise LibraryError(b"Library '%b' already exists" % header.name)
        if old is not None:
            collection.unlink(old)
        try:
            library = self._run(header.name, code, header.size, until_ms)
            collection.refuse_collision(library.functions)
        except LibraryError:
            if old is not None:
                collection.link(old)
            raise
        collection.link(library)
        return header.name

    def _run(self, name: bytes, code: bytes, header_size: int, until_ms: int | None) -> Library:
        try:
            engine = self.engine
        except LuaMissing:
            raise LibraryError(MISSING.removeprefix(b"ERR ")) from None
        try:
            chunk = engine.compile(code[header_size:], "@user_function")
        except CompileError as problem:
            raise LibraryError(b"Error compiling function: " + problem.message) from None
        library = self._loading = Library(name, code)
        self.loading_until_ms = until_ms
        try:
            failure = engine.load_library(chunk)
        finally:
            self._loading = self.loading_until_ms = None
        if failure is not None:
            raise LibraryError(b"Error registering functions: " + failure)
        if not library.functions:
            raise LibraryError(b"No functions registered")
        return library

    # redis.register_function ------------------------------------------------------------------------------------------

    def register(self, arguments: tuple[Any, ...]) -> None:
        """Called by a library that is being loaded. Raises ScriptFailure."""
        library = self._loading
        if library is None:
            raise ScriptFailure(b"ERR redis.register_function can only be called on FUNCTION LOAD command")
        if not 1 <= len(arguments) <= 2:
            raise ScriptFailure(b"ERR wrong number of arguments to redis.register_function")
        function = _named(arguments[0]) if len(arguments) == 1 else _positional(*arguments)
        if not is_valid_name(function.name):
            raise ScriptFailure(b"ERR " + _BAD_NAME)
        if function.name in library.functions:
            raise ScriptFailure(b"ERR Function already exists in the library")
        library.functions[function.name] = function


def _lua_type(value: Any) -> str | None:
    from lupa import lua51

    kind: str | None = lua51.lua_type(value)
    return kind


def _is_function(value: Any) -> bool:
    return _lua_type(value) == "function" or (callable(value) and _lua_type(value) is None)


def _positional(name: Any, callback: Any) -> Function:
    text = tostring(name)
    if text is None:
        raise ScriptFailure(b"ERR first argument to redis.register_function must be a string")
    if not _is_function(callback):
        raise ScriptFailure(b"ERR second argument to redis.register_function must be a function")
    return Function(text, callback, None, 0)


def _named(table: Any) -> Function:
    if _lua_type(table) != "table":
        raise ScriptFailure(
            b"ERR calling redis.register_function with a single argument is only applicable to Lua table "
            b"(representing named arguments)."
        )
    name: bytes | None = None
    description: bytes | None = None
    callback: Any = None
    flags = 0
    for key, value in table.items():
        word = tostring(key)
        if word is None:
            raise ScriptFailure(b"ERR named argument key given to redis.register_function is not a string")
        match word.lower():
            case b"function_name":
                name = tostring(value)
                if name is None:
                    raise ScriptFailure(b"ERR function_name argument given to redis.register_function must be a string")
            case b"description":
                description = tostring(value)
                if description is None:
                    raise ScriptFailure(b"ERR description argument given to redis.register_function must be a string")
            case b"callback":
                if not _is_function(value):
                    raise ScriptFailure(b"ERR callback argument given to redis.register_function must be a function")
                callback = value
            case b"flags":
                flags = _flags(value)
            case _:
                raise ScriptFailure(b"ERR unknown argument given to redis.register_function")
    if name is None:
        raise ScriptFailure(b"ERR redis.register_function must get a function name argument")
    if callback is None:
        raise ScriptFailure(b"ERR redis.register_function must get a callback argument")
    return Function(name, callback, description, flags)


def _flags(table: Any) -> int:
    if _lua_type(table) != "table":
        raise ScriptFailure(
            b"ERR flags argument to redis.register_function must be a table representing function flags"
        )
    flags = 0
    position = 1
    while (name := table[position]) is not None:
        flag = FLAG_NAMES.get((tostring(name) or b"").lower())
        if flag is None:
            raise ScriptFailure(b"ERR unknown flag given")
        flags |= flag
        position += 1
    return flags
