-- Errors as scripts see them: where they happened, in whose words, and nothing of ours in between.

local sandbox = ...

local error, getinfo, select, tonumber, tostring, type = error, debug.getinfo, select, tonumber, tostring, type
local byte, floor, format, gsub = string.byte, math.floor, string.format, string.gsub
local unwrap = python.as_function(sandbox.host.unwrap)

-- Beginning of the position in errors that C functions raise when one of ours called them.
local OURS = "^\1redis:%d+: "

-- The sources of functions that are C functions in Redis.
local native = { [sandbox.name] = true, ["=support"] = true, ["=cjson"] = true, ["=cmsgpack"] = true, ["=struct"] = true, ["=bit"] = true }

-- A table in place of an object of Python; anything else as it is, but without our positions.
local function presentable(failure)
    local kind = type(failure)
    if kind == "userdata" then
        return unwrap(failure)
    elseif kind == "string" and byte(failure) == 1 then
        return (gsub(failure, OURS, ""))
    end
    return failure
end

-- The function at or above `level` (of the caller) that a script wrote: one C function is passed over, as Redis does,
-- and with it whatever of ours stands for it.
local function culprit(level)
    level = level + 1
    local info = getinfo(level, "Sl")
    if info and info.what == "C" then
        level = level + 1
        info = getinfo(level, "Sl")
    end
    local passed_ours = false
    while info and (native[info.source] or passed_ours and info.what == "tail") do
        passed_ours = true
        level = level + 1
        info = getinfo(level, "Sl")
    end
    -- A script that ends with a call of ours has left the stack.
    if passed_ours and info and info.what == "C" then
        return nil
    end
    return info
end

-- What xpcall calls where a script failed: the error becomes a table that says where.
local function describe(failure)
    local info = culprit(2)
    if type(failure) == "userdata" then
        failure = unwrap(failure)
    end
    if type(failure) ~= "table" then
        local text = tostring(failure)
        if byte(text) == 1 then
            local position = info and info.currentline > 0 and gsub(info.source, "^@", "") .. ":" .. info.currentline .. ": "
            text = gsub(text, OURS, (gsub(position or "", "%%", "%%%%")))
        end
        failure = { err = "ERR " .. text }
    end
    if info then
        failure.source = info.source
        failure.line = info.currentline
    end
    return failure
end

-- Functions that are C functions in Redis.
local function is_ours(value)
    return type(value) == "function" and native[getinfo(value, "S").source]
end

-- An error about an argument of the function that called this one, as luaL_argerror words it; or of the function as many
-- calls `above` that one.
local function refuse_argument(position, problem, above)
    local level = 2 + (above or 0)
    local called = getinfo(level, "n")
    if called.namewhat == "method" then
        position = position - 1
        if position == 0 then
            error(format("calling '%s' on bad self (%s)", called.name, problem), level + 1)
        end
    end
    error(format("bad argument #%d to '%s' (%s)", position, called.name or "?", problem), level + 1)
end

-- What luaL_typerror says of argument `position` of ...
local function mismatch(expected, position, ...)
    local got = select("#", ...) < position and "no value" or type((select(position, ...)))
    return format("%s expected, got %s", expected, got)
end

-- luaL_checkint, or what is wrong with the argument.
local function to_int(position, ...)
    local value = (select(position, ...))
    local number = tonumber(value)
    if type(value) ~= "number" and (type(value) ~= "string" or not number) then
        return nil, mismatch("number", position, ...)
    end
    if number ~= number or number >= 2 ^ 63 or number < -2 ^ 63 then
        return 0
    end
    number = number < 0 and -floor(-number) or floor(number)
    number = number % 2 ^ 32
    return number < 2 ^ 31 and number or number - 2 ^ 32
end

sandbox.native, sandbox.is_ours, sandbox.presentable, sandbox.describe = native, is_ours, presentable, describe
sandbox.refuse_argument, sandbox.mismatch, sandbox.to_int = refuse_argument, mismatch, to_int
