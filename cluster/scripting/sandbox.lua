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
-- Redis 7.0.15: script_lua.c, eval.c, function_lua.c; lapi.c and lvm.c of its Lua.

local host, version, version_number, is_function_engine = ...

-- getfenv, setfenv and newproxy are not offered, as in Redis's later security releases: they reach into what is shared.

-- What this file uses is taken now: scripts may not change it, but it would be looked up in their environment.
local as_function = python.as_function
local error, getmetatable, load, loadstring = error, getmetatable, load, loadstring
local next, pairs, pcall, rawget, rawset, select, setfenv = next, pairs, pcall, rawget, rawset, select, setfenv
local setmetatable, tonumber, tostring, type, unpack, xpcall = setmetatable, tonumber, tostring, type, unpack, xpcall
local collectgarbage = collectgarbage
local getinfo, getlocal, sethook = debug.getinfo, debug.getlocal, debug.sethook
local byte, find, format, gmatch, gsub, match = string.byte, string.find, string.format, string.gmatch, string.gsub, string.match
local dump = string.dump
local concat, foreach, insert, sort = table.concat, table.foreach, table.insert, table.sort
local floor = math.floor
local create, resume = coroutine.create, coroutine.resume

local raw_globals = _G

local call, try_call, unwrap, interrupt = as_function(host.call), as_function(host.try_call), as_function(host.unwrap), as_function(host.interrupt)
local call_many, try_call_many = as_function(host.call_many), as_function(host.try_call_many)
local overflowing_line = as_function(host.overflowing_line)
local count_error, protocols = as_function(host.count_error), as_function(host.protocols)

local READ_ONLY = "Attempt to modify a readonly table"
-- Beginning of the position in errors that C functions raise when one of ours called them.
local OURS = "^\1redis:%d+: "
local HOOK_INSTRUCTIONS = 100000
-- lstrlib.c recurses for every item of a pattern: more of them than this would overflow the C stack.
local PATTERN_BYTES_MAX = 10000
-- So many values may be on the stack of Lua (LUAI_MAXCSTACK).
local VALUES_MAX = 8000

-- Read-only tables -----------------------------------------------------------------------------------------------

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

-- Errors ---------------------------------------------------------------------------------------------------------

-- The sources of functions that are C functions in Redis.
local native = { ["=\1redis"] = true, ["=support"] = true, ["=cjson"] = true, ["=cmsgpack"] = true, ["=struct"] = true, ["=bit"] = true }

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

-- An error about an argument of the function that called this one, as luaL_argerror words it.
local function refuse_argument(position, problem)
    local called = getinfo(2, "n")
    if called.namewhat == "method" then
        position = position - 1
        if position == 0 then
            error(format("calling '%s' on bad self (%s)", called.name, problem), 3)
        end
    end
    error(format("bad argument #%d to '%s' (%s)", position, called.name or "?", problem), 3)
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

-- Interruptions --------------------------------------------------------------------------------------------------

local each_line, is_calming = false, false
-- What debugger.lua offers, once a script has been debugged; and whether that is being done now.
local debugger, is_debugging = nil, false
-- What an interruption may end with: nothing is allocated when memory is what has run out.
local endings = {
    function() return { err = "ERR Script killed by user with SCRIPT KILL..." } end,
    function() return { err = "ERR FUNCTION LOAD timeout" } end,
    function() return { err = "ERR not enough memory" } end,
}

-- Once a script is to end, every line ends it: pcall cannot save it.
local function hook()
    local ending = not is_calming and interrupt()
    if ending then
        each_line = true
        sethook(hook, "l")
        error(endings[ending](), 0)
    end
end

local function calm_hook()
    sethook(hook, "", HOOK_INSTRUCTIONS)
    each_line, is_calming = false, false
end

-- The base library as scripts see it ----------------------------------------------------------------------------------

local globals = {}
local environment, environment_metatable = protect(globals)
shown_metatable[environment] = protect({ __index = no_such_global })

local base = {
    _G = environment,
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
}

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

local function refuse_read_only(target)
    if hidden[target] then
        error(READ_ONLY, 0)
    end
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

-- Catching -----------------------------------------------------------------------------------------------------------

-- Where there is no room on the C stack for another call, there is none for the hook either: a script that could catch
-- this, and went on down there, could not be ended by anybody.
local function is_overflow(failure)
    return type(failure) == "string"
        and (find(failure, "C stack overflow", 1, true) or failure == "error in error handling")
end

local function pass_on_overflow(failure)
    if is_overflow(failure) then
        error(failure, 0)
    end
end

-- Before Redis 7 errors were strings; pcall still gives the text of one that is a table.
local function caught(done, ...)
    if done then
        return true, ...
    end
    local failure = presentable((...))
    pass_on_overflow(failure)
    if type(failure) == "table" then
        local text = failure.err
        if type(text) == "string" or type(text) == "number" then
            failure = text
        end
    end
    return false, failure
end

function base.pcall(...)
    if select("#", ...) == 0 then
        return false, "attempt to call a boolean value"  -- So it is in Redis, whose own pcall does not look.
    end
    return caught(pcall(...))
end

local function resumed(done, ...)
    if done then
        return true, ...
    end
    local failure = presentable((...))
    pass_on_overflow(failure)
    return false, failure
end

-- What a handler is said to have returned when it failed itself.
local handler_failed = {}

local function handled(done, ...)
    if not done and (...) == handler_failed then
        return false, "error in error handling"
    end
    return resumed(done, ...)
end

local function without_handler(done, ...)
    if done then
        return true, ...
    end
    return false, presentable((...))
end

function base.xpcall(...)
    local body, handler = ...
    if type(handler) == "function" then
        return handled(xpcall(body, function(failure)
            -- What the hook raises, or what is raised because there was no room for it, is handled without hooks.
            if each_line or is_overflow(failure) then
                return failure
            end
            local done, result = pcall(handler, presentable(failure))
            if done or each_line or is_overflow(result) then
                return result
            end
            return handler_failed
        end))
    end
    return without_handler(xpcall(...))
end

-- Code ---------------------------------------------------------------------------------------------------------------

-- What was compiled, unless one of its functions could write beyond Lua's stack.
local function admitted(chunk)
    local line = overflowing_line(dump(chunk))
    if line then
        return nil, format("%s:%d: too many parameters before '...'", getinfo(chunk, "S").short_src, line)
    end
    return setfenv(chunk, environment)
end

-- Compiles text only: what begins like bytecode is given to the parser of text, which refuses it.
local function compile(text, name)
    if byte(text) == 27 then
        text = " " .. text
    end
    local chunk, failure = loadstring(text, name)
    if chunk then
        return admitted(chunk)
    end
    return nil, failure
end

function base.loadstring(...)
    local text, name = ...
    if type(text) ~= "string" or (name ~= nil and type(name) ~= "string") then
        text = text ~= nil and type(text) == "number" and tostring(text) or text
        if type(text) ~= "string" then
            refuse_argument(1, mismatch("string", 1, ...))
        end
    end
    return compile(text, name or text)
end

function base.load(reader, name)
    if type(reader) ~= "function" then
        refuse_argument(1, format("function expected, got %s", reader == nil and "no value" or type(reader)))
    end
    local is_beginning = true
    local chunk, failure = load(function()
        local piece = reader()
        if is_beginning then
            is_beginning = false
            if type(piece) == "string" and byte(piece) == 27 then
                piece = " " .. piece
            end
        end
        return piece
    end, name or "=(load)")
    if chunk then
        return admitted(chunk)
    end
    failure = presentable(failure)
    pass_on_overflow(failure)
    return nil, failure
end

local collection_changed = false

function base.collectgarbage(...)
    local option = ...
    if option == "stop" or option == "setpause" or option == "setstepmul" then
        collection_changed = true
    end
    return collectgarbage(...)
end

local function restore_collection()
    collection_changed = false
    collectgarbage("restart")
    collectgarbage("setpause", 200)
    collectgarbage("setstepmul", 200)
end

-- Libraries ----------------------------------------------------------------------------------------------------------

local function copy(library)
    local result = {}
    for name, value in pairs(library) do
        result[name] = value
    end
    return result
end

local strings = copy(string)

-- Patterns that the C stack could not hold.
local function refuse_huge(_, pattern)
    if type(pattern) == "string" and #pattern > PATTERN_BYTES_MAX then
        error("pattern too complex", 3)
    end
end

function strings.find(...)
    local subject, pattern = type((...)), type((select(2, ...)))
    if subject ~= "string" and subject ~= "number" then
        refuse_argument(1, mismatch("string", 1, ...))
    elseif pattern ~= "string" and pattern ~= "number" then
        refuse_argument(2, mismatch("string", 2, ...))
    end
    if not select(4, ...) then
        refuse_huge(...)
    end
    return find(...)
end

function strings.match(...)
    local subject, pattern = type((...)), type((select(2, ...)))
    if subject ~= "string" and subject ~= "number" then
        refuse_argument(1, mismatch("string", 1, ...))
    elseif pattern ~= "string" and pattern ~= "number" then
        refuse_argument(2, mismatch("string", 2, ...))
    end
    refuse_huge(...)
    return match(...)
end

function strings.gmatch(...)
    local subject, pattern = type((...)), type((select(2, ...)))
    if subject ~= "string" and subject ~= "number" then
        refuse_argument(1, mismatch("string", 1, ...))
    elseif pattern ~= "string" and pattern ~= "number" then
        refuse_argument(2, mismatch("string", 2, ...))
    end
    refuse_huge(...)
    return gmatch(...)
end

function strings.gsub(...)
    local subject, pattern = type((...)), type((select(2, ...)))
    if subject ~= "string" and subject ~= "number" then
        refuse_argument(1, mismatch("string", 1, ...))
    elseif pattern ~= "string" and pattern ~= "number" then
        refuse_argument(2, mismatch("string", 2, ...))
    end
    refuse_huge(...)
    return gsub(...)
end

strings.gfind = strings.gmatch
string_metatable.__index = strings

local tables = copy(table)

function tables.insert(...)
    if type((...)) ~= "table" then
        refuse_argument(1, mismatch("table", 1, ...))
    end
    refuse_read_only((...))
    return insert(...)
end

-- It sees what a read-only table stands for, but is given nothing to change it with.
function tables.foreach(...)
    if type((...)) ~= "table" then
        refuse_argument(1, mismatch("table", 1, ...))
    end
    return foreach(hidden[(...)] or (...), (select(2, ...)))
end

local coroutines = copy(coroutine)

-- Functions that are C functions in Redis.
local function is_ours(value)
    return type(value) == "function" and native[getinfo(value, "S").source]
end

-- Hooks belong to one coroutine each: a new one needs its own, or it could run for ever.
function coroutines.create(...)
    if is_ours((...)) then
        refuse_argument(1, "Lua function expected")
    end
    local thread = create(...)
    if is_debugging and not each_line then
        sethook(thread, debugger.hook, "l", HOOK_INSTRUCTIONS)
    else
        sethook(thread, hook, each_line and "l" or "", each_line and 0 or HOOK_INSTRUCTIONS)
    end
    return thread
end

function strings.dump(...)
    if is_ours((...)) then
        error("unable to dump given function", 2)
    end
    return dump(...)
end

function coroutines.resume(...)
    return resumed(resume(...))
end

local function unwrapped(done, ...)
    if done then
        return ...
    end
    local failure = presentable((...))
    if type(failure) == "string" then
        error(failure, 3)
    end
    error(failure, 0)
end

function coroutines.wrap(...)
    local thread = coroutines.create(...)
    return function(...)
        return unwrapped(resume(thread, ...))
    end
end

-- math.random is drand48, the same everywhere: numbers of 48 bits in two halves.
local maths = copy(math)
local TWO24 = 2 ^ 24
local random_high, random_low = 0x1234AB, 0xCD330E

local function next_random()
    local low = random_low * 0xE66D + 0xB
    -- The multiplier 0x5DEECE66D in two steps of 16 and 19 bits keeps every product exact.
    local step = random_low * 0x5DEEC
    low = low + (step % 256) * 2 ^ 16
    local high = random_high * 0xE66D + floor(step / 256) + ((random_high * 0x5DEEC) % 256) * 2 ^ 16
    random_high, random_low = (high + floor(low / TWO24)) % TWO24, low % TWO24
    return random_high * 128 + floor(random_low / 2 ^ 17)
end

local is_running = false

function maths.random(...)
    if not is_running then
        error("math.random can only be called inside a script invocation", 2)
    end
    local count = select("#", ...)
    local fraction = (next_random() % 0x7FFFFFFF) / 0x7FFFFFFF
    if count == 0 then
        return fraction
    elseif count == 1 then
        local upper, problem = to_int(1, ...)
        if not upper or upper < 1 then
            refuse_argument(1, problem or "interval is empty")
        end
        return floor(fraction * upper) + 1
    elseif count == 2 then
        local lower, upper, problem
        lower, problem = to_int(1, ...)
        if not lower then
            refuse_argument(1, problem)
        end
        upper, problem = to_int(2, ...)
        if not upper or lower > upper then
            refuse_argument(2, problem or "interval is empty")
        end
        return floor(fraction * (upper - lower + 1)) + lower
    end
    error("wrong number of arguments", 2)
end

function maths.randomseed(...)
    if not is_running then
        error("math.randomseed can only be called inside a script invocation", 2)
    end
    local seed, problem = to_int(1, ...)
    if not seed then
        refuse_argument(1, problem)
    end
    seed = seed % 2 ^ 32
    random_high, random_low = floor(seed / 256), (seed % 256) * 2 ^ 16 + 0x330E
end

local function random_state()
    return random_high, random_low
end

local function set_random_state(high, low)
    random_high, random_low = high, low
end

-- The API ------------------------------------------------------------------------------------------------------------

local log = as_function(host.log)

local function common_api()
    return {
        log = log,
        LOG_DEBUG = 0,
        LOG_VERBOSE = 1,
        LOG_NOTICE = 2,
        LOG_WARNING = 3,
        REDIS_VERSION = version,
        REDIS_VERSION_NUM = version_number,
    }
end

local api = common_api()

-- More arguments than these are handed over as a table: one by one each would cost more than the one before, and there
-- is no room for all that a script can pass.
local ARGUMENTS_MAX = 64

-- A status comes as a second value: its table is made faster here than from Python.
function api.call(...)
    local value, status
    if select("#", ...) > ARGUMENTS_MAX then
        value, status = call_many(select("#", ...), { ... })
    else
        value, status = call(...)
    end
    if status then
        return { ok = status }
    end
    return value
end

function api.pcall(...)
    local value, status
    if select("#", ...) > ARGUMENTS_MAX then
        value, status = try_call_many(select("#", ...), { ... })
    else
        value, status = try_call(...)
    end
    if status then
        return { ok = status }
    end
    return value
end

for _, name in pairs({ "acl_check_cmd", "error_reply", "set_repl", "setresp", "sha1hex", "status_reply" }) do
    api[name] = as_function(host[name])
end
api.REPL_NONE, api.REPL_AOF, api.REPL_SLAVE, api.REPL_REPLICA, api.REPL_ALL = 0, 1, 2, 2, 3
if not is_function_engine then
    function api.breakpoint()
        return is_debugging and debugger.break_next()
    end
    function api.debug(...)
        if is_debugging then
            debugger.debug(...)
        end
    end
    function api.replicate_commands()
        return true
    end
end

for name, value in pairs(base) do
    globals[name] = value
end
for name, library in pairs({ redis = api, string = strings, table = tables, math = maths, coroutine = coroutines }) do
    globals[name] = protect(library)
end
for _, name in pairs({ "cjson", "cmsgpack", "struct", "bit" }) do
    if raw_globals[name] then
        globals[name] = protect(raw_globals[name])
    end
end
shown_metatable[string_metatable] = protect({ __index = globals.string })
refuse_unknown(globals)

local library_globals
if is_function_engine then
    local library_api = common_api()
    library_api.register_function = as_function(host.register_function)
    library_globals = refuse_unknown({ redis = protect(refuse_unknown(library_api)) })
else
    globals.__redis__err__handler = describe
end

-- Nobody finds anything here any more; lupa itself looks for `debug`, and must not meet an error.
for name in pairs(copy(raw_globals)) do
    raw_globals[name] = nil
end

-- Replies ------------------------------------------------------------------------------------------------------------

local bulk_headers = setmetatable({}, {
    __index = function(headers, size)
        local header = format("$%d\r\n", size)
        if size < 1024 then
            headers[size] = header
        end
        return header
    end,
})

-- luaReplyToRedisReply checks that its C stack has room for four more.
local SLOTS_MAX = 8000 - 4
local parts, count, client_protocol, script_protocol

local function add(part)
    count = count + 1
    parts[count] = part
end

local function add_bulk(text)
    parts[count + 1], parts[count + 2], parts[count + 3] = bulk_headers[#text], text, "\r\n"
    count = count + 3
end

local function add_null()
    add(client_protocol == 2 and "$-1\r\n" or "_\r\n")
end

local function one_line(text)
    return (gsub(text, "[\r\n]", " "))
end

-- What C sees of a string.
local function until_nul(text)
    return match(text, "^%Z*")
end

local add_value

local function add_error(failure)
    local text = until_nul(failure.err)
    text = one_line((gsub(text, "[\r\n]+$", "")))
    count_error(text, rawget(failure, "ignore_error_stats_update") == true)
    add("-" .. text .. "\r\n")
end

local function add_double(number)
    local text = format("%.17g", number)
    if client_protocol == 2 then
        add_bulk(text)
    else
        add("," .. text .. "\r\n")
    end
end

local function add_verbatim(text, kind)
    if client_protocol == 2 then
        add_bulk(text)
    else
        add(format("=%d\r\n", #text + 4) .. format("%-3s", (until_nul(kind) .. ""):sub(1, 3)) .. ":")
        add(text)
        add("\r\n")
    end
end

local function add_pairs(map, slots)
    add("")
    local header, size = count, 0
    for key, value in next, map do
        add_value(key, slots + 4)
        add_value(value, slots + 3)
        size = size + 1
    end
    parts[header] = format(client_protocol == 2 and "*%d\r\n" or "%%%d\r\n", client_protocol == 2 and size * 2 or size)
end

local function add_members(set, slots)
    add("")
    local header, size = count, 0
    for member in next, set do
        add_value(member, slots + 3)
        size = size + 1
    end
    parts[header] = format(client_protocol == 2 and "*%d\r\n" or "~%d\r\n", size)
end

local function add_array(array, slots)
    add("")
    local header, size = count, 0
    while true do
        local value = rawget(array, size + 1)
        if value == nil then
            break
        end
        if type(value) == "string" then
            add_bulk(value)
        else
            add_value(value, slots + 1)
        end
        size = size + 1
    end
    parts[header] = format("*%d\r\n", size)
end

local function add_table(value, slots)
    value = hidden[value] or value
    -- Most tables are arrays.
    if next(value) == nil then
        return add("*0\r\n")
    end
    if type(rawget(value, "err")) == "string" then
        return add_error(value)
    end
    local status = rawget(value, "ok")
    if type(status) == "string" then
        return add("+" .. one_line(until_nul(status)) .. "\r\n")
    end
    local number = rawget(value, "double")
    if type(number) == "number" then
        return add_double(number)
    end
    local digits = rawget(value, "big_number")
    if type(digits) == "string" then
        digits = one_line(digits)
        if client_protocol == 2 then
            return add_bulk(digits)
        end
        return add("(" .. digits .. "\r\n")
    end
    local verbatim = rawget(value, "verbatim_string")
    if type(verbatim) == "table" then
        local kind, text = rawget(verbatim, "format"), rawget(verbatim, "string")
        if type(kind) == "string" and type(text) == "string" then
            return add_verbatim(text, kind)
        end
    end
    local map = rawget(value, "map")
    if type(map) == "table" then
        return add_pairs(hidden[map] or map, slots)
    end
    local set = rawget(value, "set")
    if type(set) == "table" then
        return add_members(hidden[set] or set, slots)
    end
    return add_array(value, slots)
end

function add_value(value, slots)
    if slots > SLOTS_MAX then
        count_error("ERR reached lua stack limit", false)
        return add("-ERR reached lua stack limit\r\n")
    end
    local kind = type(value)
    if kind == "string" then
        add_bulk(value)
    elseif kind == "number" then
        add(format(":%d\r\n", value))
    elseif kind == "table" then
        add_table(value, slots)
    elseif kind == "boolean" then
        if script_protocol == 2 then
            if value then
                add(":1\r\n")
            else
                add_null()
            end
        elseif client_protocol == 2 then
            add(value and ":1\r\n" or ":0\r\n")
        else
            add(value and "#t\r\n" or "#f\r\n")
        end
    else
        add_null()
    end
end

local function encode(value)
    parts, count = {}, 0
    client_protocol, script_protocol = protocols()
    add_table(value, 2)
    local pieces = parts
    parts = nil
    return concat(pieces)
end

-- Running ------------------------------------------------------------------------------------------------------------

-- How a script ended: 0 and a plain value; 1 and an encoded reply; 2, text, source, line and whether the error has been
-- counted already, all but text possibly nil; 3 and an error that is no table.
local function outcome(done, value)
    is_running = false
    if collection_changed then
        restore_collection()
    end
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
    is_running = true
    local done, value = xpcall(chunk, describe) if each_line then is_calming = true calm_hook() end
    return outcome(done, value)
end

-- The same with the debugger's hook in place of ours.
local function run_debugged(chunk, key_count, all, size)
    globals.KEYS, globals.ARGV = split(key_count, all, size)
    is_running, is_debugging = true, true
    sethook(debugger.hook, "l", HOOK_INSTRUCTIONS)
    local done, value = xpcall(chunk, describe) is_calming = each_line calm_hook()
    is_debugging = false
    return outcome(done, value)
end

local function call_function(callback, key_count, all, size)
    local keys, arguments = split(key_count, all, size)
    is_running = true
    local done, value = xpcall(function() return callback(keys, arguments) end, describe) if each_line then is_calming = true calm_hook() end
    return outcome(done, value)
end

local run = is_function_engine and call_function or evaluate

local function run_with(chunk, key_count, ...)
    return run(chunk, key_count, { ... }, select("#", ...))
end

-- Runs the body of a library, which registers functions: true, or false and the text of the error.
local function load_library(chunk)
    environment_metatable.__index = library_globals
    local done, failure = pcall(chunk) if each_line then is_calming = true calm_hook() end
    environment_metatable.__index = globals
    if collection_changed then
        restore_collection()
    end
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

-- What debugger.lua needs of this file and, the globals being empty by then, of Lua.
local tools = {
    as_function = as_function, compile = compile, globals = globals, hidden = hidden, interrupted = hook, native = native,
    presentable = presentable, byte = byte, concat = concat, error = error, find = find, format = format, getinfo = getinfo,
    getlocal = getlocal, gsub = gsub, match = match, next = next, pcall = pcall, select = select, setmetatable = setmetatable,
    tostring = tostring, type = type,
}

local function attach_debugger(offered)
    debugger = offered
end

calm_hook()

return { many_tables = many_tables, adopt = adopt, attach_debugger = attach_debugger, calm_hook = calm_hook, load_library = load_library, random_state = random_state,
    run = run, run_debugged = run_debugged, run_with = run_with, set_random_state = set_random_state, tools = tools }
