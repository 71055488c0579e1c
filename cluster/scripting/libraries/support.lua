-- What the four libraries share: errors as a C function raises them, arguments as the C API reads them, IEEE 754.
--
-- A script must not be able to tell these libraries from Redis's, which are written in C. So an error carries the
-- position of the script's call, an argument error the name under which the function was called, and a number is as
-- good as a string. Nothing here or in the libraries reads a global or calls back into a script: whatever a script
-- does to its globals, string and table included, does not reach them, and getfenv shows an empty table.
--
-- Redis 7.0.15: deps/lua/src/lauxlib.c, lapi.c.

local ceil, floor, frexp, ldexp, huge = math.ceil, math.floor, math.frexp, math.ldexp, math.huge
local byte, char, find, format = string.byte, string.char, string.find, string.format
local error, pcall, select, tonumber, tostring, type, unpack = error, pcall, select, tonumber, tostring, type, unpack
local getinfo = debug.getinfo

setfenv(1, {})

local support = {}

-- The most slots of the Lua stack that a C function may fill (LUAI_MAXCSTACK). The libraries count what their models
-- in C would have on it, because that is what bounds the nesting of their data.
support.MOST_SLOTS = 8000

-- Errors ---------------------------------------------------------------------------------------------------------

local failure = { message = "", position = nil }

-- Ends the library function that runs, as luaL_error does.
local function fail(message)
    failure.message, failure.position = message, nil
    error(failure)
end

-- The same for one of its arguments (luaL_argerror).
local function fail_argument(position, message)
    failure.message, failure.position = message, position
    error(failure)
end

-- As an error that the Lua core raises while a C function runs: it has no position.
local function fail_without_position(message)
    error(message, 0)
end

-- The library function `name`: calls body(argument count, arguments…). A body returns its one result, or a table of
-- results and their number. Its errors are given the position of the call, so there must be no tail call in here.
function support.guard(name, body)
    return function(...)
        local done, result, count = pcall(body, select("#", ...), ...)
        if done then
            if not count then
                return result
            elseif count > 4 then
                -- A C function may return a few more than unpack, whose own arguments count too.
                return result[1], result[2], result[3], result[4], unpack(result, 5, count)
            end
            return unpack(result, 1, count)
        end
        if result ~= failure then
            error(result, 0)
        end
        local message, position = failure.message, failure.position
        if position then
            local called = getinfo(1, "n")
            -- A script's tail call leaves no name, although it would if this were written in C.
            local shown = called.name or (getinfo(2, "S").what == "tail" and name) or "?"
            if called.namewhat == "method" then
                position = position - 1
            end
            if called.namewhat == "method" and position == 0 then
                message = format("calling '%s' on bad self (%s)", shown, message)
            else
                message = format("bad argument #%d to '%s' (%s)", position, shown, message)
            end
        end
        error(message, 2)
    end
end

support.fail, support.fail_argument, support.fail_without_position = fail, fail_argument, fail_without_position

-- Arguments ------------------------------------------------------------------------------------------------------

local function fail_type(wanted, value, position, count)
    fail_argument(position, format("%s expected, got %s", wanted, position > count and "no value" or type(value)))
end

support.fail_type = fail_type

-- luaL_checklstring.
function support.check_string(value, position, count)
    if type(value) == "string" then
        return value
    end
    if type(value) ~= "number" then
        fail_type("string", value, position, count)
    end
    return tostring(value)
end

-- luaL_checknumber.
local function check_number(value, position, count)
    if type(value) == "number" then
        return value
    end
    local number = type(value) == "string" and tonumber(value) or nil
    if not number then
        fail_type("number", value, position, count)
    end
    return number
end

support.check_number = check_number

-- The conversion of a double to a 64-bit integer: what does not fit becomes the smallest one, as on x86-64.
local function to_int64(number)
    if number >= -2 ^ 63 and number < 2 ^ 63 then
        return number < 0 and ceil(number) or floor(number)
    end
    return -2 ^ 63
end

support.to_int64 = to_int64

-- luaL_checkinteger.
function support.check_integer(value, position, count)
    return to_int64(check_number(value, position, count))
end

-- luaL_optinteger.
function support.optional_integer(value, position, count, default)
    if value == nil then
        return default
    end
    return to_int64(check_number(value, position, count))
end

-- The conversion of a 64-bit integer to a C int.
function support.to_int32(integer)
    local low = integer % 2 ^ 32
    return low < 2 ^ 31 and low or low - 2 ^ 32
end

-- Bytes of numbers, highest first --------------------------------------------------------------------------------

local function bytes_of_32(number)
    return char(floor(number / 2 ^ 24), floor(number / 2 ^ 16) % 256, floor(number / 256) % 256, number % 256)
end

support.bytes_of_32 = bytes_of_32

local function round_half_even(number)
    local whole = floor(number)
    local rest = number - whole
    if rest > 0.5 or (rest == 0.5 and whole % 2 == 1) then
        return whole + 1
    end
    return whole
end

local function is_negative(number)
    return number < 0 or (number == 0 and 1 / number < 0) or (number ~= number and byte(tostring(number)) == 45)
end

-- A double rounded to a float.
function support.bytes_of_float(number)
    local sign = is_negative(number) and 0x80000000 or 0
    if number ~= number then
        return bytes_of_32(sign + 0x7fc00000)
    end
    local size = number < 0 and -number or number
    if size == 0 then
        return bytes_of_32(sign)
    elseif size == huge then
        return bytes_of_32(sign + 0x7f800000)
    end
    local bits
    local mantissa, exponent = frexp(size)
    if exponent > 128 then
        bits = 0x7f800000
    elseif exponent < -125 then
        bits = round_half_even(ldexp(size, 149))
    else
        -- A mantissa that is rounded up to the next power of two carries into the exponent, the greatest to infinity.
        bits = (exponent + 125) * 2 ^ 23 + round_half_even(mantissa * 2 ^ 24)
    end
    return bytes_of_32(sign + bits)
end

function support.bytes_of_double(number)
    local sign = is_negative(number) and 0x80000000 or 0
    if number ~= number then
        return bytes_of_32(sign + 0x7ff80000) .. bytes_of_32(0)
    end
    local size = number < 0 and -number or number
    if size == 0 then
        return bytes_of_32(sign) .. bytes_of_32(0)
    elseif size == huge then
        return bytes_of_32(sign + 0x7ff00000) .. bytes_of_32(0)
    end
    local mantissa, exponent = frexp(size)
    local field, fraction
    if exponent < -1021 then
        field, fraction = 0, ldexp(size, 1074)
    else
        field, fraction = exponent + 1022, mantissa * 2 ^ 53 - 2 ^ 52
    end
    local high = floor(fraction / 2 ^ 32)
    return bytes_of_32(sign + field * 2 ^ 20 + high) .. bytes_of_32(fraction - high * 2 ^ 32)
end

local NAN = huge - huge
local POSITIVE_NAN = is_negative(NAN) and -NAN or NAN

local function from_fields(negative, field, fraction, most, bias, width)
    local number
    if field == most then
        number = fraction == 0 and huge or POSITIVE_NAN
    elseif field == 0 then
        number = ldexp(fraction, 1 - bias - width)
    else
        number = ldexp(fraction + ldexp(1, width), field - bias - width)
    end
    return negative and -number or number
end

function support.float_of_bytes(bytes, position)
    local a, b, c, d = byte(bytes, position, position + 3)
    local field, fraction = (a % 128) * 2 + floor(b / 128), ((b % 128) * 256 + c) * 256 + d
    return from_fields(a > 127, field, fraction, 255, 127, 23)
end

function support.double_of_bytes(bytes, position)
    local a, b, c, d, e, f, g, h = byte(bytes, position, position + 7)
    local field, low = (a % 128) * 16 + floor(b / 16), ((e * 256 + f) * 256 + g) * 256 + h
    local fraction = ((b % 16) * 0x10000 + c * 256 + d) * 2 ^ 32 + low
    return from_fields(a > 127, field, fraction, 2047, 1023, 52)
end

return support
