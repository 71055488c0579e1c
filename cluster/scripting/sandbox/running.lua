-- How scripts, functions and the bodies of libraries are run; ends with what cluster/scripting/engine.py calls.

local sandbox = ...

local error, next, pcall, rawget, select, setfenv, setmetatable = error, next, pcall, rawget, select, setfenv, setmetatable
local tostring, type, unpack, xpcall = tostring, type, unpack, xpcall
local byte, concat, find, format, gsub, match = string.byte, table.concat, string.find, string.format, string.gsub, string.match
local as_function, getinfo, getlocal, sethook = python.as_function, debug.getinfo, debug.getlocal, debug.sethook
local calm_hook, describe, encode, globals, hidden = sandbox.calm_hook, sandbox.describe, sandbox.encode, sandbox.globals, sandbox.hidden
local environment, environment_metatable = sandbox.environment, sandbox.environment_metatable
local presentable, restore_collection, state = sandbox.presentable, sandbox.restore_collection, sandbox.state
local HOOK_INSTRUCTIONS = sandbox.HOOK_INSTRUCTIONS

-- How a script ended: 0 and a plain value; 1 and an encoded reply; 2, text, source, line and whether the error has been
-- counted already, all but text possibly nil; 3 and an error that is no table.
local function outcome(done, value)
    state.is_running = false
    restore_collection()
    if done then
        local kind = type(value)
        if kind == "table" then
            return 1, encode(value)
        elseif kind == "string" or kind == "number" or kind == "boolean" then
            return 0, value
        end
        return 0, nil
    elseif type(value) ~= "table" then
        value = presentable(value)
        return 3, type(value) == "string" and value or "execution failure"
    end
    local text, source, line = rawget(value, "err"), rawget(value, "source"), rawget(value, "line")
    text = (type(text) == "string" or type(text) == "number") and tostring(text) or nil
    source = (type(source) == "string" or type(source) == "number") and tostring(source) or nil
    line = (type(line) == "string" or type(line) == "number") and tostring(line) or nil
    return 2, text, source, line, rawget(value, "ignore_error_stats_update") == true
end

local function split(key_count, all, size)
    if key_count == 0 then
        return {}, all
    elseif key_count == size then
        return all, {}
    end
    local keys, arguments = {}, {}
    for index = 1, key_count do
        keys[index] = all[index]
    end
    for index = key_count + 1, size do
        arguments[index - key_count] = all[index]
    end
    return keys, arguments
end

-- In the following, what comes after xpcall and pcall stands in the same line: the hook may be called for each new one.

local function evaluate(chunk, key_count, all, size)
    globals.KEYS, globals.ARGV = split(key_count, all, size)
    state.is_running = true
    local done, value = xpcall(chunk, describe) if state.each_line then state.is_calming = true calm_hook() end
    return outcome(done, value)
end

-- The same with the debugger's hook in place of ours.
local function run_debugged(chunk, key_count, all, size)
    globals.KEYS, globals.ARGV = split(key_count, all, size)
    state.is_running, state.is_debugging = true, true
    sethook(state.debugger.hook, "l", HOOK_INSTRUCTIONS)
    local done, value = xpcall(chunk, describe) state.is_calming = state.each_line calm_hook()
    state.is_debugging = false
    return outcome(done, value)
end

local function call_function(callback, key_count, all, size)
    local keys, arguments = split(key_count, all, size)
    state.is_running = true
    local done, value = xpcall(function() return callback(keys, arguments) end, describe) if state.each_line then state.is_calming = true calm_hook() end
    return outcome(done, value)
end

local run = sandbox.is_function_engine and call_function or evaluate

local function run_with(chunk, key_count, ...)
    return run(chunk, key_count, { ... }, select("#", ...))
end

-- Runs the body of a library, which registers functions: true, or false and the text of the error.
local function load_library(chunk)
    environment_metatable.__index = sandbox.library_globals
    local done, failure = pcall(chunk) if state.each_line then state.is_calming = true calm_hook() end
    environment_metatable.__index = globals
    restore_collection()
    if done then
        return true
    end
    failure = presentable(failure)
    if type(failure) == "string" then
        return false, "ERR " .. failure
    end
    local text = type(failure) == "table" and rawget(failure, "err")
    return false, type(text) == "string" and text or "(null)"
end

local function adopt(chunk)
    return setfenv(chunk, environment)
end

-- As many new tables.
local function many_tables(size)
    local made = {}
    for index = 1, size do
        made[index] = {}
    end
    return unpack(made)
end

-- What debugger.lua needs of the sandbox and, the globals being empty by then, of Lua.
local tools = {
    as_function = as_function, compile = sandbox.compile, globals = globals, hidden = hidden, interrupted = sandbox.hook, native = sandbox.native,
    presentable = presentable, byte = byte, concat = concat, error = error, find = find, format = format, getinfo = getinfo,
    getlocal = getlocal, gsub = gsub, match = match, next = next, pcall = pcall, select = select, setmetatable = setmetatable,
    tostring = tostring, type = type,
}

local function attach_debugger(offered)
    state.debugger = offered
end

calm_hook()

return {
    many_tables = many_tables, adopt = adopt, attach_debugger = attach_debugger, calm_hook = calm_hook,
    load_library = load_library, random_state = sandbox.random_state, run = run, run_debugged = run_debugged,
    run_with = run_with, set_random_state = sandbox.set_random_state, tools = tools,
}
