-- Finds the null pointer as a value of Lua ("light userdata"), which no function of Lua returns.
--
-- Measuring an empty table from Python leaves one on the stack of a C function: lupa passes the length on as a pointer.
-- Returns that table, what to call before it is measured, and what to call after: it returns the value found, or another
-- value of that type where lupa works differently.

local newproxy, type, sethook, getlocal = newproxy, type, debug.sethook, debug.getlocal
local found

local function look_at_returning_function()
    local index = 1
    while true do
        local name, value = getlocal(2, index)
        if not name then
            return
        end
        if type(value) == "userdata" then
            found = value
        end
        index = index + 1
    end
end

local function watch()
    sethook(look_at_returning_function, "r")
end

local function take()
    sethook()
    return found or newproxy()
end

return {}, watch, take
