-- load and loadstring: text only, compiled into the environment of scripts.

local sandbox = ...

local byte, dump, format, getinfo = string.byte, string.dump, string.format, debug.getinfo
local load, loadstring, setfenv, tostring, type = load, loadstring, setfenv, tostring, type
local base, environment = sandbox.base, sandbox.environment
local mismatch, pass_on_overflow, presentable, refuse_argument = sandbox.mismatch, sandbox.pass_on_overflow, sandbox.presentable, sandbox.refuse_argument
local overflowing_line = python.as_function(sandbox.host.overflowing_line)

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

sandbox.compile = compile
