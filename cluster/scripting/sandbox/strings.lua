-- The string library: patterns are looked at before the functions of C are given them.

local sandbox = ...

local error, pairs, select, type = error, pairs, select, type
local dump, find, gmatch, gsub, match = string.dump, string.find, string.gmatch, string.gsub, string.match
local is_ours, mismatch, refuse_argument = sandbox.is_ours, sandbox.mismatch, sandbox.refuse_argument

-- lstrlib.c recurses for every item of a pattern: more of them than this would overflow the C stack.
local PATTERN_BYTES_MAX = 10000

local strings = sandbox.copy(string)

-- Refuses what is no subject or no pattern, and patterns that the C stack could not hold, in the name of its caller.
local function check_pattern(is_plain, ...)
    local subject, pattern = ...
    local subject_type, pattern_type = type(subject), type(pattern)
    if subject_type ~= "string" and subject_type ~= "number" then
        refuse_argument(1, mismatch("string", 1, ...), 1)
    elseif pattern_type ~= "string" and pattern_type ~= "number" then
        refuse_argument(2, mismatch("string", 2, ...), 1)
    elseif not is_plain and pattern_type == "string" and #pattern > PATTERN_BYTES_MAX then
        error("pattern too complex", 3)
    end
end

function strings.find(...)
    check_pattern((select(4, ...)), ...)
    return find(...)
end

for name, function_of_c in pairs({ gmatch = gmatch, gsub = gsub, match = match }) do
    strings[name] = function(...)
        check_pattern(false, ...)
        return function_of_c(...)
    end
end

strings.gfind = strings.gmatch
sandbox.string_metatable.__index = strings

function strings.dump(...)
    if is_ours((...)) then
        error("unable to dump given function", 2)
    end
    return dump(...)
end

sandbox.libraries.string = strings
