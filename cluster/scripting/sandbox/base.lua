-- The base library: what looks at tables is told which stand for which. pcall and its like are in catching.lua, load and
-- its like in code.lua. getfenv, setfenv and newproxy are not offered, as in Redis's later security releases: they reach
-- into what is shared.

local sandbox = ...

local collectgarbage, error, getmetatable, next, pairs, rawget, rawset = collectgarbage, error, getmetatable, next, pairs, rawget, rawset
local select, setmetatable, type, unpack = select, setmetatable, type, unpack
local base, hidden, shown_metatable, refuse_read_only = sandbox.base, sandbox.hidden, sandbox.shown_metatable, sandbox.refuse_read_only
local refuse_argument, mismatch, to_int = sandbox.refuse_argument, sandbox.mismatch, sandbox.to_int

-- So many values may be on the stack of Lua (LUAI_MAXCSTACK).
local VALUES_MAX = 8000

for name, value in pairs({
    _G = sandbox.environment,
    _VERSION = _VERSION,
    assert = assert,
    error = error,
    gcinfo = gcinfo,
    ipairs = ipairs,
    rawequal = rawequal,
    select = select,
    tonumber = tonumber,
    tostring = tostring,
    type = type,
}) do
    base[name] = value
end

function base.next(...)
    local contents = hidden[(...)]
    if contents then
        return next(contents, (select(2, ...)))
    end
    return next(...)
end

local next_visible = base.next

function base.pairs(...)
    local view = ...
    if view ~= nil and hidden[view] then
        return next_visible, view, nil
    end
    return pairs(...)
end

function base.rawget(...)
    local view, key = ...
    local contents = view ~= nil and hidden[view]
    if contents then
        return rawget(contents, key)
    end
    return rawget(...)
end

function base.rawset(...)
    if type((...)) ~= "table" then
        refuse_argument(1, mismatch("table", 1, ...))
    end
    refuse_read_only((...))
    return rawset(...)
end

function base.setmetatable(...)
    if type((...)) ~= "table" then
        refuse_argument(1, mismatch("table", 1, ...))
    end
    local kind = type((select(2, ...)))
    if kind ~= "table" and (kind ~= "nil" or select("#", ...) < 2) then
        refuse_argument(2, "nil or table expected")
    end
    refuse_read_only((...))
    return setmetatable(...)
end

-- Lua 5.1 counts in 32 bits, finds that 2 ^ 31 values are few, and writes them beyond its stack.
function base.unpack(...)
    local list, first, last = ...
    if type(list) ~= "table" then
        refuse_argument(1, mismatch("table", 1, ...))
    end
    local size = #list
    if first ~= nil or last ~= nil then
        local problem
        first, problem = 1, nil
        if (select(2, ...)) ~= nil then
            first, problem = to_int(2, ...)
            if not first then
                refuse_argument(2, problem)
            end
        end
        if last ~= nil then
            last, problem = to_int(3, ...)
            if not last then
                refuse_argument(3, problem)
            end
        end
        size = (last or size) - first + 1
    end
    if size + select("#", ...) > VALUES_MAX then
        error("too many results to unpack", 2)
    end
    return unpack(...)
end

local string_metatable = getmetatable("")

function base.getmetatable(...)
    local value = ...
    if value ~= nil then
        if hidden[value] then
            return shown_metatable[value]
        end
        if type(value) == "string" then
            return shown_metatable[string_metatable]
        end
    end
    return getmetatable(...)
end

local collection_changed = false

function base.collectgarbage(...)
    local option = ...
    if option == "stop" or option == "setpause" or option == "setstepmul" then
        collection_changed = true
    end
    return collectgarbage(...)
end

-- What a script did to the collector ends with it.
local function restore_collection()
    if not collection_changed then
        return
    end
    collection_changed = false
    collectgarbage("restart")
    collectgarbage("setpause", 200)
    collectgarbage("setstepmul", 200)
end

sandbox.string_metatable, sandbox.restore_collection = string_metatable, restore_collection
