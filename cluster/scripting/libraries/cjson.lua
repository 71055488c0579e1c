-- The library `cjson`: JSON.
--
-- Redis 7.0.15: deps/lua/src/lua_cjson.c (lua-cjson 2.1.0).

local support, null = ...
local byte, char, find, format, gsub = string.byte, string.char, string.find, string.format, string.gsub
local lower, match, sub = string.lower, string.match, string.sub
local concat, floor, huge = table.concat, math.floor, math.huge
local getmetatable, next, rawget, tonumber, type = getmetatable, next, rawget, tonumber, type
local check_integer, check_string, guard = support.check_integer, support.check_string, support.guard
local fail, fail_argument, to_int32 = support.fail, support.fail_argument, support.to_int32
local MOST_SLOTS = support.MOST_SLOTS

setfenv(1, {})

local INT_MAX = 2 ^ 31 - 1

-- Encoding -------------------------------------------------------------------------------------------------------

local TO_BE_ESCAPED = '[%z\1-\31"\\/\127]'
local ESCAPES = {
    ["\b"] = "\\b", ["\t"] = "\\t", ["\n"] = "\\n", ["\f"] = "\\f", ["\r"] = "\\r",
    ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\127"] = "\\u007f",
}
for code = 0, 31 do
    ESCAPES[char(code)] = ESCAPES[char(code)] or format("\\u%04x", code)
end

local config, parts, part_count -- of the call that runs

local function add(text)
    part_count = part_count + 1
    parts[part_count] = text
end

local function refuse(value, reason)
    fail(format("Cannot serialise %s: %s", type(value), reason))
end

local function quoted(text)
    if find(text, TO_BE_ESCAPED) then
        text = gsub(text, TO_BE_ESCAPED, ESCAPES)
    end
    return '"' .. text .. '"'
end

local function number_text(number)
    if number ~= number or number == huge or number == -huge then
        if config.encode_invalid_numbers == "off" then
            refuse(number, "must not be NaN or Inf")
        elseif config.encode_invalid_numbers == "null" then
            return "null"
        elseif number ~= number then
            return "nan"
        end
    end
    return format(config.number_format, number)
end

-- The length of a table that is to be an array, nil for one that is to be an object.
local function array_length(container)
    local longest, items = 0, 0
    for key in next, container do
        if type(key) ~= "number" or key < 1 or floor(key) ~= key then
            return nil
        end
        if key > longest then
            longest = key <= INT_MAX and key or -INT_MAX - 1 -- What becomes of a double too big for a C int.
        end
        items = items + 1
    end
    local ratio = config.sparse_ratio
    if ratio > 0 and longest > config.sparse_safe and longest > to_int32(items * ratio) then
        if not config.sparse_convert then
            refuse(container, "excessively sparse array")
        end
        return nil
    end
    return longest > 0 and longest or nil
end

-- Adds the text of a value; `slots`: how many slots of the stack the model uses then.
local function append(value, depth, slots)
    local kind = type(value)
    if kind == "string" then
        add(quoted(value))
    elseif kind == "number" then
        add(number_text(value))
    elseif kind == "boolean" then
        add(value and "true" or "false")
    elseif kind == "nil" or value == null then
        add("null")
    elseif kind == "table" then
        depth = depth + 1
        if depth > config.encode_max_depth or slots + 3 > MOST_SLOTS then
            fail(format("Cannot serialise, excessive nesting (%d)", depth))
        end
        local length = array_length(value)
        if length then
            local is_plain = getmetatable(value) == nil
            for index = 1, length do
                add(index == 1 and "[" or ",")
                local element
                if is_plain then
                    element = value[index]
                else
                    element = rawget(value, index)
                end
                append(element, depth, slots + 1)
            end
            add("]")
        else
            local before = "{"
            for key, element in next, value do
                add(before)
                before = ","
                if type(key) == "string" then
                    add(quoted(key))
                elseif type(key) == "number" then
                    add('"' .. number_text(key) .. '"')
                else
                    refuse(key, "table key must be a number or string")
                end
                add(":")
                append(element, depth, slots + 2)
            end
            add(before == "{" and "{}" or "}")
        end
    else
        refuse(value, "type not supported")
    end
end

-- Tokens ---------------------------------------------------------------------------------------------------------

local text -- what is being decoded, and a NUL

local QUOTE, BACKSLASH, MINUS, ZERO, NINE = 34, 92, 45, 48, 57
local SINGLE = {
    [123] = "T_OBJ_BEGIN", [125] = "T_OBJ_END", [91] = "T_ARR_BEGIN", [93] = "T_ARR_END", [44] = "T_COMMA",
    [58] = "T_COLON",
}
local UNESCAPED = {
    ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", t = "\t", n = "\n", f = "\f", r = "\r",
}
local STARTS_WORD = "^[finNIt+]"

local function utf8_of(code)
    if code < 0x80 then
        return char(code)
    elseif code < 0x800 then
        return char(0xC0 + floor(code / 64), 0x80 + code % 64)
    elseif code < 0x10000 then
        return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
    end
    return char(
        0xF0 + floor(code / 0x40000), 0x80 + floor(code / 4096) % 64, 0x80 + floor(code / 64) % 64, 0x80 + code % 64
    )
end

-- The character that an escape beginning with \u means, and the position after it; nil for none.
local function unicode_escape(position)
    local digits = match(text, "^%x%x%x%x", position + 2)
    local code = digits and tonumber(digits, 16)
    if not code then
        return nil
    end
    if code < 0xD800 or code > 0xDFFF then
        return utf8_of(code), position + 6
    end
    digits = match(text, "^\\u([dD][c-fC-F]%x%x)", position + 6)
    if not digits or code >= 0xDC00 then
        return nil
    end
    return utf8_of(0x10000 + (code - 0xD800) * 1024 + tonumber(digits, 16) - 0xDC00), position + 12
end

-- A string token with escapes in it, or one that does not end; `stop` is the first place that is not plain.
local function lex_escaped(start, stop)
    local pieces, count = {}, 0
    local position = start + 1
    while true do
        local code = byte(text, stop)
        count = count + 1
        pieces[count] = sub(text, position, stop - 1)
        if code == QUOTE then
            return "T_STRING", concat(pieces), stop + 1, start
        elseif code ~= BACKSLASH then
            return "T_ERROR", "unexpected end of string", stop, stop
        end
        local escape = sub(text, stop + 1, stop + 1)
        local meant, after
        if escape == "u" then
            meant, after = unicode_escape(stop)
            if not meant then
                return "T_ERROR", "invalid unicode escape code", stop, stop
            end
        else
            meant, after = UNESCAPED[escape], stop + 2
            if not meant then
                return "T_ERROR", "invalid escape code", stop, stop
            end
        end
        count = count + 1
        pieces[count] = meant
        position = after
        stop = find(text, '["\\%z]', position)
    end
end

-- Where the number that strtod would read at `position` ends (the position after it), or nil.
local function end_of_number(position)
    local first = match(text, "^[+-]?()", position)
    local stop = match(text, "^0[xX]%x+%.?%x*()", first) or match(text, "^0[xX]%.%x+()", first)
    if stop then
        return match(text, "^[pP][+-]?%d+()", stop) or stop
    end
    stop = match(text, "^%d+%.?%d*()", first) or match(text, "^%.%d+()", first)
    if stop then
        return match(text, "^[eE][+-]?%d+()", stop) or stop
    end
    if lower(sub(text, first, first + 7)) == "infinity" then
        return first + 8
    end
    local word = lower(sub(text, first, first + 2))
    if word == "nan" then
        return match(text, "^%([%w_]*%)()", first + 3) or first + 3
    end
    return word == "inf" and first + 3 or nil
end

local function lex_number(position)
    local stop = end_of_number(position)
    if not stop then
        return "T_ERROR", "invalid number", position, position
    end
    return "T_NUMBER", tonumber(sub(text, position, stop - 1)), stop, position
end

-- True for what strtod might read and JSON does not know.
local function is_invalid_number(position)
    return match(text, "^%+", position) ~= nil
        or match(text, "^%-?0[xX%d]", position) ~= nil
        or match(text, "^%-?[iI][nN][fF]", position) ~= nil
        or match(text, "^%-?[nN][aA][nN]", position) ~= nil
end

local function lex_word(position)
    if sub(text, position, position + 3) == "true" then
        return "T_BOOLEAN", true, position + 4, position
    elseif sub(text, position, position + 4) == "false" then
        return "T_BOOLEAN", false, position + 5, position
    elseif sub(text, position, position + 3) == "null" then
        return "T_NULL", null, position + 4, position
    elseif config.decode_invalid_numbers and is_invalid_number(position) then
        return lex_number(position)
    end
    return "T_ERROR", "invalid token", position, position
end

-- The token at `position`, after spaces: kind, value (or what is wrong with it), the position after it, its position.
local function lex(position)
    local code = byte(text, position)
    while code == 32 or code == 10 or code == 9 or code == 13 do
        position = position + 1
        code = byte(text, position)
    end
    if code == QUOTE then
        local stop = find(text, '["\\%z]', position + 1)
        if byte(text, stop) == QUOTE then
            return "T_STRING", sub(text, position + 1, stop - 1), stop + 1, position
        end
        return lex_escaped(position, stop)
    end
    local single = SINGLE[code]
    if single then
        return single, nil, position + 1, position
    elseif code == 0 then
        return "T_END", nil, position, position
    elseif code == MINUS or (code >= ZERO and code <= NINE) then
        if not config.decode_invalid_numbers and is_invalid_number(position) then
            return "T_ERROR", "invalid number", position, position
        end
        return lex_number(position)
    elseif match(text, STARTS_WORD, position) then
        return lex_word(position)
    end
    return "T_ERROR", "invalid token", position, position
end

-- Decoding -------------------------------------------------------------------------------------------------------

local function expected(what, kind, value, place)
    fail(format("Expected %s but found %s at character %d", what, kind == "T_ERROR" and value or kind, place))
end

local function check_depth(depth, slots, place)
    if depth > config.decode_max_depth or slots > MOST_SLOTS then
        fail(format("Found too many nested data structures (%d) at character %d", depth, place))
    end
end

-- The value that begins with the given token, and the position after it; `slots`: as for append.
local function build(kind, value, position, place, depth, slots)
    if kind == "T_OBJ_BEGIN" then
        depth = depth + 1
        check_depth(depth, slots + 3, place)
        local object = {}
        kind, value, position, place = lex(position)
        if kind == "T_OBJ_END" then
            return object, position
        end
        while true do
            local key = value
            if kind ~= "T_STRING" then
                expected("object key string", kind, value, place)
            end
            kind, value, position, place = lex(position)
            if kind ~= "T_COLON" then
                expected("colon", kind, value, place)
            end
            kind, value, position, place = lex(position)
            if kind == "T_STRING" then
                object[key] = value
            else
                object[key], position = build(kind, value, position, place, depth, slots + 2)
            end
            kind, value, position, place = lex(position)
            if kind == "T_OBJ_END" then
                return object, position
            elseif kind ~= "T_COMMA" then
                expected("comma or object end", kind, value, place)
            end
            kind, value, position, place = lex(position)
        end
    elseif kind == "T_ARR_BEGIN" then
        depth = depth + 1
        check_depth(depth, slots + 2, place)
        local array, length = {}, 0
        kind, value, position, place = lex(position)
        if kind == "T_ARR_END" then
            return array, position
        end
        while true do
            length = length + 1
            array[length], position = build(kind, value, position, place, depth, slots + 1)
            kind, value, position, place = lex(position)
            if kind == "T_ARR_END" then
                return array, position
            elseif kind ~= "T_COMMA" then
                expected("comma or array end", kind, value, place)
            end
            kind, value, position, place = lex(position)
        end
    elseif kind == "T_STRING" or kind == "T_NUMBER" or kind == "T_BOOLEAN" or kind == "T_NULL" then
        return value, position
    end
    expected("value", kind, value, place)
end

-- The module -----------------------------------------------------------------------------------------------------

local function check_count(count, most)
    if count > most then
        fail_argument(most + 1, "found too many arguments")
    end
end

-- The value of an option with names; nil where it is to stay.
local function read_choice(value, position, choices)
    if value == nil then
        return nil
    elseif type(value) == "boolean" then
        return value and "on" or "off"
    end
    local name = check_string(value, position, position)
    if not choices[name] then
        fail_argument(position, format("invalid option '%s'", match(name, "^%Z*")))
    end
    return name
end

local ON_OFF = { on = true, off = true }
local ON_OFF_NULL = { on = true, off = true, null = true }

local function shown(choice)
    if choice == "null" then
        return choice
    end
    return choice == "on"
end

local function read_bounded(value, position, low, high)
    local number = to_int32(check_integer(value, position, position))
    if number < low or number > high then
        fail_argument(1, format("expected integer between %d and %d", low, high))
    end
    return number
end

-- A module with options of its own.
local function new_module()
    local own = {
        sparse_convert = false,
        sparse_ratio = 2,
        sparse_safe = 10,
        encode_max_depth = 1000,
        decode_max_depth = 1000,
        encode_keep_buffer = true,
        encode_invalid_numbers = "off",
        decode_invalid_numbers = true,
        encode_number_precision = 14,
        number_format = "%.14g",
    }

    local function bounded_option(name, low, high)
        return guard(name, function(count, value)
            check_count(count, 1)
            if value ~= nil then
                own[name] = read_bounded(value, 1, low, high)
            end
            return own[name]
        end)
    end

    local function switch(name)
        return guard(name, function(count, value)
            check_count(count, 1)
            local choice = read_choice(value, 1, ON_OFF)
            if choice then
                own[name] = choice == "on"
            end
            return own[name]
        end)
    end

    return {
        _NAME = "cjson",
        _VERSION = "2.1.0",
        null = null,
        new = new_module,
        encode_max_depth = bounded_option("encode_max_depth", 1, INT_MAX),
        decode_max_depth = bounded_option("decode_max_depth", 1, INT_MAX),
        encode_keep_buffer = switch("encode_keep_buffer"), -- Means nothing here: memory is Lua's.
        decode_invalid_numbers = switch("decode_invalid_numbers"),

        encode_number_precision = guard("encode_number_precision", function(count, value)
            check_count(count, 1)
            if value ~= nil then
                own.encode_number_precision = read_bounded(value, 1, 1, 14)
                own.number_format = format("%%.%dg", own.encode_number_precision)
            end
            return own.encode_number_precision
        end),

        encode_invalid_numbers = guard("encode_invalid_numbers", function(count, value)
            check_count(count, 1)
            own.encode_invalid_numbers = read_choice(value, 1, ON_OFF_NULL) or own.encode_invalid_numbers
            return shown(own.encode_invalid_numbers)
        end),

        encode_sparse_array = guard("encode_sparse_array", function(count, convert, ratio, safe)
            check_count(count, 3)
            local choice = read_choice(convert, 1, ON_OFF)
            if choice then
                own.sparse_convert = choice == "on"
            end
            if ratio ~= nil then
                own.sparse_ratio = read_bounded(ratio, 2, 0, INT_MAX)
            end
            if safe ~= nil then
                own.sparse_safe = read_bounded(safe, 3, 0, INT_MAX)
            end
            return { own.sparse_convert, own.sparse_ratio, own.sparse_safe }, 3
        end),

        encode = guard("encode", function(count, value)
            if count ~= 1 then
                fail_argument(1, "expected 1 argument")
            end
            config, parts, part_count = own, {}, 0
            append(value, 0, 1)
            local result = concat(parts, "", 1, part_count)
            parts = nil
            return result
        end),

        decode = guard("decode", function(count, json)
            if count ~= 1 then
                fail_argument(1, "expected 1 argument")
            end
            json = check_string(json, 1, count)
            if #json >= 2 and (byte(json, 1) == 0 or byte(json, 2) == 0) then
                fail("JSON parser does not support UTF-16 or UTF-32")
            end
            config, text = own, json .. "\0"
            local kind, value, position, place = lex(1)
            local result
            result, position = build(kind, value, position, place, 0, 1)
            kind, value, position, place = lex(position)
            if kind ~= "T_END" then
                expected("the end", kind, value, place)
            end
            text = nil
            return result
        end),
    }
end

return new_module()
