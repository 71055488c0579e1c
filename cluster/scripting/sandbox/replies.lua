-- Replies: what a script returns, as the client gets it (luaReplyToRedisReply).

local sandbox = ...

local concat, format, gsub, match, next, rawget, setmetatable, type = table.concat, string.format, string.gsub, string.match, next, rawget, setmetatable, type
local as_function, hidden = python.as_function, sandbox.hidden
local count_error, protocols = as_function(sandbox.host.count_error), as_function(sandbox.host.protocols)

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

sandbox.encode = encode
