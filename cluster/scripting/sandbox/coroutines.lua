-- The coroutine library: coroutines are interrupted like everything else, and catch no more than pcall does.

local sandbox = ...

local create, error, resume, type = coroutine.create, error, coroutine.resume, type
local hook_thread, is_ours, presentable = sandbox.hook_thread, sandbox.is_ours, sandbox.presentable
local refuse_argument, resumed = sandbox.refuse_argument, sandbox.resumed

local coroutines = sandbox.copy(coroutine)

function coroutines.create(...)
    if is_ours((...)) then
        refuse_argument(1, "Lua function expected")
    end
    local thread = create(...)
    hook_thread(thread)
    return thread
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

sandbox.libraries.coroutine = coroutines
