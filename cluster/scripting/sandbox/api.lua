-- The table `redis`: for scripts and functions, and the smaller one for the bodies of libraries.

local sandbox = ...

local as_function, pairs, select = python.as_function, pairs, select
local host, protect, refuse_unknown, state = sandbox.host, sandbox.protect, sandbox.refuse_unknown, sandbox.state

local log = as_function(host.log)

local function common_api()
    return {
        log = log,
        LOG_DEBUG = 0,
        LOG_VERBOSE = 1,
        LOG_NOTICE = 2,
        LOG_WARNING = 3,
        REDIS_VERSION = sandbox.version,
        REDIS_VERSION_NUM = sandbox.version_number,
    }
end

local api = common_api()

-- More arguments than these are handed over as a table: one by one each would cost more than the one before, and there
-- is no room for all that a script can pass.
local ARGUMENTS_MAX = 64

-- A status comes as a second value: its table is made faster here than from Python.
local function caller_of(call, call_many)
    return function(...)
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
end

api.call = caller_of(as_function(host.call), as_function(host.call_many))
api.pcall = caller_of(as_function(host.try_call), as_function(host.try_call_many))

for _, name in pairs({ "acl_check_cmd", "error_reply", "set_repl", "setresp", "sha1hex", "status_reply" }) do
    api[name] = as_function(host[name])
end
api.REPL_NONE, api.REPL_AOF, api.REPL_SLAVE, api.REPL_REPLICA, api.REPL_ALL = 0, 1, 2, 2, 3
if not sandbox.is_function_engine then
    function api.breakpoint()
        return state.is_debugging and state.debugger.break_next()
    end
    function api.debug(...)
        if state.is_debugging then
            state.debugger.debug(...)
        end
    end
    function api.replicate_commands()
        return true
    end
end

-- What the body of a library finds instead of everything else.
local library_api = common_api()
library_api.register_function = as_function(host.register_function)
sandbox.library_globals = refuse_unknown({ redis = protect(refuse_unknown(library_api)) })

sandbox.libraries.redis = api
