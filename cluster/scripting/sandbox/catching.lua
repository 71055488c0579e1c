-- pcall and xpcall: where scripts catch errors, and must not catch their end.

local sandbox = ...

local error, find, pcall, select, type, xpcall = error, string.find, pcall, select, type, xpcall
local base, presentable, state = sandbox.base, sandbox.presentable, sandbox.state

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
            if state.each_line or is_overflow(failure) then
                return failure
            end
            local done, result = pcall(handler, presentable(failure))
            if done or state.each_line or is_overflow(result) then
                return result
            end
            return handler_failed
        end))
    end
    return without_handler(xpcall(...))
end

sandbox.pass_on_overflow, sandbox.resumed = pass_on_overflow, resumed
