-- The library `struct`: numbers and strings as the bytes of C structures.
--
-- Redis 7.0.15: deps/lua/src/lua_struct.c.

local support = ...
local byte, find, format, lower = string.byte, string.find, string.format, string.lower
local match, rep, reverse, sub = string.match, string.rep, string.reverse, string.sub
local ceil, concat, floor = math.ceil, table.concat, math.floor
local select, tonumber = select, tonumber
local bytes_of_32, bytes_of_double, bytes_of_float = support.bytes_of_32, support.bytes_of_double, support.bytes_of_float
local double_of_bytes, float_of_bytes = support.double_of_bytes, support.float_of_bytes
local check_number, check_string, guard = support.check_number, support.check_string, support.guard
local fail, fail_argument = support.fail, support.fail_argument
local optional_integer = support.optional_integer
local MOST_SLOTS = support.MOST_SLOTS

setfenv(1, {})

local TWO32 = 2 ^ 32
local INT_MAX = 2 ^ 31 - 1
local LARGEST_INTEGER_BYTES = 32
local DEFAULT_ALIGNMENT = 8

-- Formats --------------------------------------------------------------------------------------------------------

local layout, place -- the format that is being read, and where
local is_big, alignment

local function begin(text)
    layout, place = match(text, "^%Z*"), 1
    is_big, alignment = false, 1
end

local function read_size(default)
    local digits = match(layout, "^%d+", place)
    if not digits then
        return default
    end
    local number = tonumber(digits)
    if number > INT_MAX then
        fail("integral size overflow")
    end
    place = place + #digits
    return number
end

local SIZES = { b = 1, B = 1, h = 2, H = 2, l = 8, L = 8, T = 8, f = 4, d = 8, x = 1 }
local INTEGERS = { b = true, B = true, h = true, H = true, l = true, L = true, T = true, i = true, I = true }

-- The next option and its size; nil at the end.
local function next_option()
    if place > #layout then
        return nil
    end
    local option = sub(layout, place, place)
    place = place + 1
    if option == "c" then
        return option, read_size(1)
    elseif option == "i" or option == "I" then
        local size = read_size(4)
        if size > LARGEST_INTEGER_BYTES then
            fail(format("integral size %d is larger than limit of %d", size, LARGEST_INTEGER_BYTES))
        end
        return option, size
    end
    return option, SIZES[option] or 0
end

-- The bits that two small numbers share.
local function both(a, b)
    local result, weight = 0, 1
    while a > 0 and b > 0 do
        if a % 2 == 1 and b % 2 == 1 then
            result = result + weight
        end
        a, b, weight = floor(a / 2), floor(b / 2), weight * 2
    end
    return result
end

-- How many bytes to skip before an element. Sizes that are no power of two are treated as if they were, as in Redis.
local function padding(position, option, size)
    if alignment == 1 or size == 0 or option == "c" then
        return 0
    elseif size > alignment then
        size = alignment
    end
    local mask = size - 1
    return both((size - both(position % 256, mask)) % 256, mask)
end

-- Obeys an option that changes how the following ones are read.
local function control(option)
    if option == " " then
        return
    elseif option == ">" then
        is_big = true
    elseif option == "<" then
        is_big = false
    elseif option == "!" then
        local wanted = read_size(DEFAULT_ALIGNMENT)
        local rest = wanted
        while rest > 1 and rest % 2 == 0 do
            rest = rest / 2
        end
        if rest ~= 1 then
            fail(format("alignment %d is not a power of 2", wanted))
        end
        alignment = wanted
    else
        fail_argument(1, format("invalid format option '%s'", option))
    end
end

-- Numbers --------------------------------------------------------------------------------------------------------

-- A double as C converts it to a 64-bit integer, as two halves.
local function halves(number)
    if number ~= number or number < -2 ^ 63 then
        return 2 ^ 31, 0
    elseif number >= 2 ^ 64 then
        return 0, 0
    end
    number = number < 0 and ceil(number) or floor(number)
    return floor(number / TWO32) % TWO32, number % TWO32
end

local function bytes_of_integer(number, size)
    local high, low = halves(number)
    local bytes = bytes_of_32(high) .. bytes_of_32(low)
    if size > 8 then
        bytes = rep("\0", size - 8) .. bytes
    end
    bytes = sub(bytes, #bytes - size + 1)
    return is_big and bytes or reverse(bytes)
end

local function integer_of_bytes(bytes, size, is_signed)
    if not is_big then
        bytes = reverse(bytes)
    end
    local high, low = 0, 0
    for index = #bytes > 8 and #bytes - 7 or 1, #bytes do
        if #bytes - index >= 4 then
            high = high * 256 + byte(bytes, index)
        else
            low = low * 256 + byte(bytes, index)
        end
    end
    if is_signed then
        -- Of more than 8 bytes only 8 are left, but the sign is looked for as if the others wrapped around.
        local sign_bit = (size * 8 - 1) % 64
        if sign_bit >= 32 then
            local sign = 2 ^ (sign_bit - 32)
            high = high >= sign and high % sign - sign or high
        elseif high > 0 or low >= 2 ^ sign_bit then
            high, low = 0, low % 2 ^ sign_bit - 2 ^ sign_bit
        end
    end
    return high * TWO32 + low
end

local function in_order(bytes)
    return is_big and bytes or reverse(bytes)
end

-- The library ----------------------------------------------------------------------------------------------------

local function pack(count, text, ...)
    begin(check_string(text, 1, count))
    local parts, total = {}, 0
    local position = 1 -- of the last argument used

    -- The C code ends its arguments with a nil of its own: it is what a missing one is found to be.
    local function next_argument(...)
        position = position + 1
        return (select(position - 1, ...))
    end

    local known = count + 1
    for option, size in next_option do
        local skipped = padding(total, option, size)
        local bytes
        if INTEGERS[option] then
            bytes = bytes_of_integer(check_number(next_argument(...), position, known), size)
        elseif option == "x" then
            bytes = "\0"
        elseif option == "f" then
            bytes = in_order(bytes_of_float(check_number(next_argument(...), position, known)))
        elseif option == "d" then
            bytes = in_order(bytes_of_double(check_number(next_argument(...), position, known)))
        elseif option == "c" or option == "s" then
            bytes = check_string(next_argument(...), position, known)
            if size > #bytes then
                fail_argument(position + 1, "string too short")
            elseif size > 0 then
                bytes = sub(bytes, 1, size)
            end
            if option == "s" then
                bytes = bytes .. "\0"
            end
        else
            control(option)
            bytes = ""
        end
        parts[#parts + 1] = rep("\0", skipped) .. bytes
        total = total + skipped + #bytes
    end
    return concat(parts)
end

local function unpack(count, text, data, offset)
    text = check_string(text, 1, count)
    data = check_string(data, 2, count)
    local length = #data
    local position = optional_integer(offset, 3, count, 1)
    if position == 0 then
        fail_argument(3, "offset must be 1 or greater")
    end
    position = position - 1
    begin(text)
    local results, found = {}, 0

    local function check_length(size)
        -- A negative position is a huge one in C.
        if position < 0 or size > length or position > length - size then
            fail_argument(2, "data string too short")
        end
    end

    for option, size in next_option do
        position = position + padding(position, option, size)
        check_length(size)
        if count + found + 2 > MOST_SLOTS then
            fail("stack overflow (too many results)")
        end
        local value
        local bytes = sub(data, position + 1, position + size)
        if INTEGERS[option] then
            value = integer_of_bytes(bytes, size, option == lower(option))
        elseif option == "f" then
            value = float_of_bytes(in_order(bytes), 1)
        elseif option == "d" then
            value = double_of_bytes(in_order(bytes), 1)
        elseif option == "c" then
            if size == 0 then
                local previous = found > 0 and tonumber(results[found]) or nil
                if not previous then
                    fail("format 'c0' needs a previous size")
                end
                found = found - 1
                size = previous < 0 and ceil(previous) or floor(previous)
                if size < 0 or size ~= size then
                    size = 2 ^ 63
                end
                check_length(size)
                bytes = sub(data, position + 1, position + size)
            end
            value = bytes
        elseif option == "s" then
            local stop = find(data, "%z", position + 1)
            if not stop then
                fail("unfinished string in data")
            end
            size = stop - position
            value = sub(data, position + 1, stop - 1)
        elseif option ~= "x" then
            control(option)
        end
        if value ~= nil then
            found = found + 1
            results[found] = value
        end
        position = position + size
    end
    results[found + 1] = position + 1
    return results, found + 1
end

local function size(count, text)
    begin(check_string(text, 1, count))
    local position = 0
    for option, bytes in next_option do
        position = position + padding(position, option, bytes)
        if option == "s" then
            fail_argument(1, "option 's' has no fixed size")
        elseif option == "c" and bytes == 0 then
            fail_argument(1, "option 'c0' has no fixed size")
        elseif not find(option, "^[%a%d]") then
            control(option)
        end
        position = position + bytes
    end
    return position
end

return {
    pack = guard("pack", pack),
    unpack = guard("unpack", unpack),
    size = guard("size", size),
}
