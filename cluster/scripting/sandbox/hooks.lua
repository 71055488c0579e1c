-- What is asked now and then while a script runs: whether it may go on. Also how far a script has got, for other parts.

local sandbox = ...

local error, sethook = error, debug.sethook
local interrupt = python.as_function(sandbox.host.interrupt)

local HOOK_INSTRUCTIONS = 100000

local state = {
    -- A script is to end: the hook is called for every line.
    each_line = false,
    -- The script has ended, the hook for every line has not.
    is_calming = false,
    -- A script or a function runs; a library that is being loaded does not count.
    is_running = false,
    -- What debugger.lua offers, once a script has been debugged; and whether that is being done now.
    debugger = nil,
    is_debugging = false,
}
-- What an interruption may end with: nothing is allocated when memory is what has run out.
local endings = {
    function() return { err = "ERR Script killed by user with SCRIPT KILL..." } end,
    function() return { err = "ERR FUNCTION LOAD timeout" } end,
    function() return { err = "ERR not enough memory" } end,
}

-- Once a script is to end, every line ends it: pcall cannot save it.
local function hook()
    local ending = not state.is_calming and interrupt()
    if ending then
        state.each_line = true
        sethook(hook, "l")
        error(endings[ending](), 0)
    end
end

local function calm_hook()
    sethook(hook, "", HOOK_INSTRUCTIONS)
    state.each_line, state.is_calming = false, false
end

-- Hooks belong to one coroutine each: a new one needs its own, or it could run for ever.
local function hook_thread(thread)
    if state.is_debugging and not state.each_line then
        sethook(thread, state.debugger.hook, "l", HOOK_INSTRUCTIONS)
    else
        sethook(thread, hook, state.each_line and "l" or "", state.each_line and 0 or HOOK_INSTRUCTIONS)
    end
end

sandbox.state, sandbox.hook, sandbox.calm_hook = state, hook, calm_hook
sandbox.hook_thread, sandbox.HOOK_INSTRUCTIONS = hook_thread, HOOK_INSTRUCTIONS
