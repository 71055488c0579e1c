-- The world that scripts live in: which globals there are, that nothing shared can be changed, and how a script is run.
--
-- Plain Lua 5.1 has no read-only tables, which Redis adds to its own copy. Here a table that must not change is kept
-- out of reach: scripts hold an empty table in its place, whose metatable looks things up in the hidden one and refuses
-- assignments. The few functions of the base library that would see the difference (next, rawset, getmetatable, ...)
-- are told which tables stand for which.
--
-- Nothing of Python may ever be a value that a script can hold. Functions of the server come as C functions (lupa's
-- as_function), which hide their object as an upvalue. When one of them fails, the error that travels is an object of
-- Python: every place where a script could catch it (pcall, xpcall, coroutine.resume, load) turns it into a table.
--
-- The sandbox is made of parts, a file each. They run once, in the order below, and share the table `sandbox`: a part
-- takes from it what those before it have put there. What a part uses of Lua it takes when it runs: afterwards Lua's own
-- globals are gone, and what a script sees under their names is its own business. All parts go by one name in errors.
--
-- Redis 7.0.15: script_lua.c, eval.c, function_lua.c; lapi.c and lvm.c of its Lua.

local host, sources, version, version_number, is_function_engine = ...

local loadstring, pairs = loadstring, pairs
local raw_globals = _G

local sandbox = {
    host = host, version = version, version_number = version_number, is_function_engine = is_function_engine,
    -- The source of every part: see errors.lua.
    name = "=\1redis",
    -- The base library as scripts see it, and the libraries, before they are made read-only.
    base = {}, libraries = {},
}

local function copy(library)
    local result = {}
    for name, value in pairs(library) do
        result[name] = value
    end
    return result
end

sandbox.copy = copy

for _, name in pairs({
    "read_only", "errors", "hooks", "base", "catching", "code", "strings", "tables", "coroutines", "maths", "api",
}) do
    loadstring(sources[name], sandbox.name)(sandbox)
end

local globals, hidden, shown_metatable, protect, refuse_unknown = sandbox.globals, sandbox.hidden, sandbox.shown_metatable, sandbox.protect, sandbox.refuse_unknown

for name, value in pairs(sandbox.base) do
    globals[name] = value
end
for name, library in pairs(sandbox.libraries) do
    globals[name] = protect(library)
end
for _, name in pairs({ "cjson", "cmsgpack", "struct", "bit" }) do
    if raw_globals[name] then
        globals[name] = protect(raw_globals[name])
    end
end
shown_metatable[sandbox.string_metatable] = protect({ __index = globals.string })
refuse_unknown(globals)
if not is_function_engine then
    globals.__redis__err__handler = sandbox.describe
end

loadstring(sources.replies, sandbox.name)(sandbox)
local offered = loadstring(sources.running, sandbox.name)(sandbox)

-- Nobody finds anything here any more; lupa itself looks for `debug`, and must not meet an error.
for name in pairs(copy(raw_globals)) do
    raw_globals[name] = nil
end
sandbox.host = nil

return offered
