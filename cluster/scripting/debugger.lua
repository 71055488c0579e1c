-- The debugger's part in Lua: it is called for every line of a script, and looks into the script while that stands still.
--
-- What to do comes from cluster/scripting/debugger.py; what there is to see goes there as text. Frames of our own stand
-- for C functions of Redis and are passed over. In a hook no other hook is called: code of `eval` is not interrupted.
--
-- Redis 7.0.15: eval.c (ldbPrint, ldbTrace, ldbEval, luaLdbLineHook).

local sandbox, host = ...

local as_function, compile, interrupted, presentable = sandbox.as_function, sandbox.compile, sandbox.interrupted, sandbox.presentable
local globals, hidden, native = sandbox.globals, sandbox.hidden, sandbox.native
local getinfo, getlocal = sandbox.getinfo, sandbox.getlocal
local error, next, pcall, select, setmetatable, tostring, type = sandbox.error, sandbox.next, sandbox.pcall, sandbox.select, sandbox.setmetatable, sandbox.tostring, sandbox.type
local byte, find, format, gsub, match = sandbox.byte, sandbox.find, sandbox.format, sandbox.gsub, sandbox.match
local concat = sandbox.concat

local arrive, break_next, next_task = as_function(host.arrive), as_function(host.break_next), as_function(host.next_task)
local log, log_value, log_debug, log_frame = as_function(host.log), as_function(host.log_value), as_function(host.log_debug), as_function(host.log_frame)

local DEPTH_MAX = 10

-- Values -------------------------------------------------------------------------------------------------------------

local escapes = setmetatable({ ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\a"] = "\\a", ["\b"] = "\\b" }, {
    __index = function(_, character)
        return format("\\x%02x", byte(character))
    end,
})

local represent

local function represent_table(value, depth)
    local items, pairs_of, count, is_array = {}, {}, 0, true
    for key, element in next, hidden[value] or value do
        count = count + 1
        is_array = is_array and key == count
        local text = represent(element, depth)
        items[count] = text
        pairs_of[count] = "[" .. represent(key, depth) .. "]=" .. text
    end
    return "{" .. concat(is_array and items or pairs_of, "; ") .. "}"
end

function represent(value, depth)
    if depth == DEPTH_MAX then
        return "<max recursion level reached! Nested table?>"
    end
    local kind = type(value)
    if kind == "string" then
        return '"' .. gsub(value, '[%z\1-\31"\\\127-\255]', escapes) .. '"'
    elseif kind == "number" then
        return format("%g", value)
    elseif kind == "table" then
        return represent_table(value, depth + 1)
    elseif kind == "boolean" or kind == "nil" then
        return tostring(value)
    end
    -- The only data of C that a script can hold is a pointer.
    return '"' .. (kind == "userdata" and "light-userdata" or kind) .. "@" .. match(tostring(value), ": (.*)") .. '"'
end

-- The stack ----------------------------------------------------------------------------------------------------------

-- In the following, `level` is that of the stopped function as the caller sees it.

local function print_variable(name, level)
    level = level + 1
    local info = getinfo(level, "S")
    while info do
        if not native[info.source] then
            local index = 1
            local found, value = getlocal(level, index)
            while found do
                if found == name then
                    return log_value("<value> " .. represent(value, 0))
                end
                index = index + 1
                found, value = getlocal(level, index)
            end
        end
        level = level + 1
        info = getinfo(level, "S")
    end
    if name == "ARGV" or name == "KEYS" then
        return log_value("<value> " .. represent(globals[name], 0))
    end
    log("No such variable.")
end

local function print_all(level)
    level = level + 1
    local index, is_empty = 1, true
    local name, value = getlocal(level, index)
    while name do
        if not find(name, "(*temporary)", 1, true) then
            log_value("<value> " .. name .. " = " .. represent(value, 0))
            is_empty = false
        end
        index = index + 1
        name, value = getlocal(level, index)
    end
    if is_empty then
        log("No local variables in the current context.")
    end
end

local function trace(level)
    level = level + 1
    local is_innermost = true
    local info = getinfo(level, "Snl")
    while info do
        if find(info.short_src, "user_script", 1, true) then
            log_frame(is_innermost, info.name, info.currentline)
        end
        is_innermost = false
        level = level + 1
        info = getinfo(level, "Snl")
    end
end

local function evaluate(expression, code)
    local chunk, problem = compile(expression, "@ldb_eval")
    if not chunk then
        chunk, problem = compile(code, "@ldb_eval")
    end
    if not chunk then
        return log("<error> " .. problem)
    end
    local done, value = pcall(chunk)
    if done then
        return log_value("<retval> " .. represent(value, 0))
    end
    value = presentable(value)
    local text = type(value) == "table" and value.err or value
    if type(text) == "string" or type(text) == "number" then
        log("<error> " .. text)
    else
        log("<error> (null)")
    end
end

-- The hook -----------------------------------------------------------------------------------------------------------

local function hook(event, line)
    local is_by_count = event == "count"
    if is_by_count then
        interrupted()
    end
    local info = getinfo(2, "Sl")
    if native[info.source] or not arrive(line or info.currentline, is_by_count, find(info.short_src, "user_script", 1, true) ~= nil) then
        return
    end
    while true do
        local task, first, second = next_task()
        if not task then
            return
        elseif task == "fail" then
            error({ err = "ERR " .. first }, 0)
        elseif task == "eval" then
            evaluate(first, second)
        elseif task == "print" then
            print_variable(first, 2)
        elseif task == "print_all" then
            print_all(2)
        elseif task == "trace" then
            trace(2)
        end
    end
end

local function debug(...)
    local texts = {}
    for index = 1, select("#", ...) do
        texts[index] = represent((select(index, ...)), 0)
    end
    log_debug(concat(texts, ", "))
end

return { hook = hook, debug = debug, break_next = break_next }
