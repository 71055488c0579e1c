-- The library `cmsgpack`: MessagePack.
--
-- Redis 7.0.15: deps/lua/src/lua_cmsgpack.c (lua-cmsgpack 0.4.0).

local support = ...
local byte, char, format, sub = string.byte, string.char, string.format, string.sub
local concat, floor = table.concat, math.floor
local next, rawget, select, type = next, rawget, select, type
local bytes_of_32, bytes_of_double, bytes_of_float = support.bytes_of_32, support.bytes_of_double, support.bytes_of_float
local double_of_bytes, float_of_bytes = support.double_of_bytes, support.float_of_bytes
local check_integer, check_string, guard = support.check_integer, support.check_string, support.guard
local fail, fail_argument, fail_without_position = support.fail, support.fail_argument, support.fail_without_position
local optional_integer, to_int32 = support.optional_integer, support.to_int32
local MOST_SLOTS = support.MOST_SLOTS

setfenv(1, {})

local INT_MAX = 2 ^ 31 - 1
local TWO32 = 2 ^ 32
local MOST_NESTING = 16

-- Packing --------------------------------------------------------------------------------------------------------

local parts, part_count -- of the call that runs

local function add(bytes)
    part_count = part_count + 1
    parts[part_count] = bytes
end

local function bytes_of_16(number)
    return char(floor(number / 256) % 256, number % 256)
end

local function packed_integer(number)
    if number >= 0 then
        if number < 0x80 then
            return char(number)
        elseif number < 0x100 then
            return char(0xcc, number)
        elseif number < 0x10000 then
            return char(0xcd) .. bytes_of_16(number)
        elseif number < TWO32 then
            return char(0xce) .. bytes_of_32(number)
        end
        return char(0xcf) .. bytes_of_32(floor(number / TWO32)) .. bytes_of_32(number % TWO32)
    elseif number >= -0x20 then
        return char(number + 0x100)
    elseif number >= -0x80 then
        return char(0xd0, number + 0x100)
    elseif number >= -0x8000 then
        return char(0xd1) .. bytes_of_16(number + 0x10000)
    elseif number >= -2 ^ 31 then
        return char(0xd2) .. bytes_of_32(number + TWO32)
    end
    return char(0xd3) .. bytes_of_32(floor(number / TWO32) + TWO32) .. bytes_of_32(number % TWO32)
end

local function packed_number(number)
    if number >= -2 ^ 63 and number < 2 ^ 63 and floor(number) == number then
        return packed_integer(number)
    end
    local short = bytes_of_float(number)
    if float_of_bytes(short, 1) == number then
        return char(0xca) .. short
    end
    return char(0xcb) .. bytes_of_double(number)
end

local function packed_string(text)
    local length = #text
    if length < 32 then
        return char(0xa0 + length) .. text
    elseif length < 0x100 then
        return char(0xd9, length) .. text
    elseif length < 0x10000 then
        return char(0xda) .. bytes_of_16(length) .. text
    end
    return char(0xdb) .. bytes_of_32(length) .. text
end

-- The head of an array or a map: `small` with the length in it, or `small_code` or `big_code` followed by it.
local function packed_head(length, small, middle_code, big_code)
    if length < 16 then
        return char(small + length)
    elseif length < 0x10000 then
        return char(middle_code) .. bytes_of_16(length)
    end
    return char(big_code) .. bytes_of_32(length)
end

-- How many pairs a table has, and whether its keys are the numbers from 1 on.
local function measure(container)
    local count, is_array, greatest = 0, true, 0
    for key in next, container do
        count = count + 1
        if is_array then
            if type(key) == "number" and key > 0 and key <= INT_MAX and floor(key) == key then
                if key > greatest then
                    greatest = key
                end
            else
                is_array = false
            end
        end
    end
    return count, is_array and greatest == count
end

local function append(value, level)
    local kind = type(value)
    if kind == "string" then
        add(packed_string(value))
    elseif kind == "number" then
        add(packed_number(value))
    elseif kind == "boolean" then
        add(value and "\195" or "\194")
    elseif kind == "table" and level < MOST_NESTING then
        local count, is_array = measure(value)
        if is_array then
            add(packed_head(count, 0x90, 0xdc, 0xdd))
            for index = 1, count do
                append(rawget(value, index), level + 1)
            end
        else
            add(packed_head(count, 0x80, 0xde, 0xdf))
            for key, element in next, value do
                append(key, level + 1)
                append(element, level + 1)
            end
        end
    else
        add("\192") -- Everything else is nil, tables nested too deeply included.
    end
end

-- Unpacking ------------------------------------------------------------------------------------------------------

local packed, packed_length -- what is being unpacked

-- Sees that `wanted` bytes are there from `position` on.
local function need(position, wanted)
    if packed_length - position + 1 < wanted then
        fail("Missing bytes in input.")
    end
end

-- An unsigned number of `size` bytes; the C code gives one of 8 bytes its sign.
local function number_at(position, size)
    local number = byte(packed, position)
    if size == 8 and number > 127 then
        number = number - 256
    end
    if size < 8 then
        for index = position + 1, position + size - 1 do
            number = number * 256 + byte(packed, index)
        end
        return number
    end
    -- Two halves, so that the sum is rounded once.
    local _, b, c, d, e, f, g, h = byte(packed, position, position + 7)
    return (((number * 256 + b) * 256 + c) * 256 + d) * TWO32 + ((e * 256 + f) * 256 + g) * 256 + h
end

local read

local function check_slots(slots, where)
    if slots >= MOST_SLOTS then
        fail(format("stack overflow (%s)", where))
    end
end

-- `slots`: how many slots of the stack the model uses then.
local function read_array(position, length, slots)
    check_slots(slots + 1, "in function mp_decode_to_lua_array")
    local array = {}
    for index = 1, length do
        array[index], position = read(position, slots + 2)
    end
    return array, position
end

local function read_map(position, length, slots)
    local map = {}
    for _ = 1, length do
        local key, value
        key, position = read(position, slots + 1)
        value, position = read(position, slots + 2)
        if key == nil then
            fail_without_position("table index is nil")
        elseif key ~= key then
            fail_without_position("table index is NaN")
        end
        map[key] = value
    end
    return map, position
end

-- Numbers of a code: size in bytes, and from where on they are negative.
local INTEGERS = {
    [0xcc] = { 1 }, [0xcd] = { 2 }, [0xce] = { 4 }, [0xcf] = { 8 },
    [0xd0] = { 1, 2 ^ 7 }, [0xd1] = { 2, 2 ^ 15 }, [0xd2] = { 4, 2 ^ 31 }, [0xd3] = { 8 },
}
local STRING_HEADS = { [0xd9] = 1, [0xda] = 2, [0xdb] = 4 }
local ARRAY_HEADS = { [0xdc] = 2, [0xdd] = 4 }
local MAP_HEADS = { [0xde] = 2, [0xdf] = 4 }
local CONSTANTS = { [0xc2] = false, [0xc3] = true }

local function read_string(position, length)
    need(position, length)
    return sub(packed, position, position + length - 1), position + length
end

-- The value at a position, and the position after it.
function read(position, slots)
    need(position, 1)
    check_slots(slots, "too many return values at once; use unpack_one or unpack_limit instead.")
    local code = byte(packed, position)
    local after = position + 1
    if code < 0x80 then
        return code, after
    elseif code >= 0xe0 then
        return code - 0x100, after
    elseif code >= 0xa0 and code < 0xc0 then
        return read_string(after, code - 0xa0)
    elseif code < 0x90 then
        return read_map(after, code - 0x80, slots)
    elseif code < 0xa0 then
        return read_array(after, code - 0x90, slots)
    elseif code == 0xc0 then
        return nil, after
    elseif CONSTANTS[code] ~= nil then
        return CONSTANTS[code], after
    elseif code == 0xca then
        need(after, 4)
        return float_of_bytes(packed, after), after + 4
    elseif code == 0xcb then
        need(after, 8)
        return double_of_bytes(packed, after), after + 8
    end
    local kind = INTEGERS[code]
    if kind then
        local size, negative_from = kind[1], kind[2]
        need(after, size)
        local number = number_at(after, size)
        if negative_from and number >= negative_from then
            number = number - 2 * negative_from
        end
        return number, after + size
    end
    local size = STRING_HEADS[code] or ARRAY_HEADS[code] or MAP_HEADS[code]
    if not size then
        fail("Bad data format in input.")
    end
    need(after, size)
    local length = number_at(after, size)
    after = after + size
    if STRING_HEADS[code] then
        return read_string(after, length)
    elseif ARRAY_HEADS[code] then
        return read_array(after, length, slots)
    end
    return read_map(after, length, slots)
end

-- All values from `offset` on, at most `limit` unless both are 0, which means: all, and no next offset.
local function unpack_from(text, count, slots, limit, offset)
    text = check_string(text, 1, count)
    local length = #text
    if offset < 0 or limit < 0 then
        -- The second number is the length of the input, whatever the sentence says.
        fail(format("Invalid request to unpack with offset of %d and limit of %d.", to_int32(offset), to_int32(length)))
    elseif offset > length then
        fail(format("Start offset %d greater than input length %d.", to_int32(offset), to_int32(length)))
    end
    local unpacks_all = limit == 0 and offset == 0
    if unpacks_all then
        limit = INT_MAX
    end
    packed, packed_length = text, length
    local results, result_count = {}, 0
    local position = offset + 1
    if not unpacks_all then
        result_count = 1
    end
    local first = result_count
    while position <= length and result_count - first < limit do
        result_count = result_count + 1
        results[result_count], position = read(position, slots + result_count - first - 1)
    end
    packed = nil
    if not unpacks_all then
        check_slots(slots + result_count - 1, "in function mp_unpack_full")
        results[1] = position > length and -1 or position - 1
    end
    return results, result_count
end

return {
    _NAME = "cmsgpack",
    _VERSION = "lua-cmsgpack 0.4.0",
    _COPYRIGHT = "Copyright (C) 2012, Salvatore Sanfilippo",
    _DESCRIPTION = "MessagePack C implementation for Lua",

    pack = guard("pack", function(count, ...)
        if count == 0 then
            fail_argument(0, "MessagePack pack needs input.")
        end
        parts, part_count = {}, 0
        for position = 1, count do
            append((select(position, ...)), 0)
        end
        local result = concat(parts, "", 1, part_count)
        parts = nil
        return result
    end),

    unpack = guard("unpack", function(count, text)
        return unpack_from(text, count, count, 0, 0)
    end),

    unpack_one = guard("unpack_one", function(count, text, offset)
        offset = optional_integer(offset, 2, count, 0)
        return unpack_from(text, count, 1, 1, offset)
    end),

    unpack_limit = guard("unpack_limit", function(count, text, limit, offset)
        limit = check_integer(limit, 2, count)
        offset = optional_integer(offset, 3, count, 0)
        return unpack_from(text, count, 1, limit, offset)
    end),
}
