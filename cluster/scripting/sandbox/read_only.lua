-- Tables that scripts cannot change, and the environment that they run in, which is one of them.

local sandbox = ...

local error, match, setmetatable, tostring, type = error, string.match, setmetatable, tostring, type

local READ_ONLY = "Attempt to modify a readonly table"

-- Table that scripts hold -> table that it stands for.
local hidden = setmetatable({}, { __mode = "k" })
-- Table that scripts hold -> what getmetatable shows.
local shown_metatable = setmetatable({}, { __mode = "k" })

local function refuse_assignment()
    error(READ_ONLY, 2)
end

-- A read-only view of `contents`, and its metatable.
local function protect(contents)
    local view = {}
    local metatable = { __index = contents, __newindex = refuse_assignment }
    hidden[view] = contents
    return setmetatable(view, metatable), metatable
end

local function no_such_global(_, name)
    if type(name) ~= "string" and type(name) ~= "number" then
        error("Second argument to luaProtectedTableError must be a string or number", 2)
    end
    error("Script attempted to access nonexistent global variable '" .. match(tostring(name), "^%Z*") .. "'", 2)
end

-- Reading what is not in `contents` becomes an error.
local function refuse_unknown(contents)
    return setmetatable(contents, { __index = no_such_global })
end

local function refuse_read_only(target)
    if hidden[target] then
        error(READ_ONLY, 0)
    end
end

local globals = {}
local environment, environment_metatable = protect(globals)
shown_metatable[environment] = protect({ __index = no_such_global })

sandbox.hidden, sandbox.shown_metatable = hidden, shown_metatable
sandbox.protect, sandbox.refuse_unknown, sandbox.refuse_read_only = protect, refuse_unknown, refuse_read_only
sandbox.globals, sandbox.environment, sandbox.environment_metatable = globals, environment, environment_metatable
