-- The library `bit`: operations on 32-bit integers.
--
-- Redis 7.0.15: deps/lua/src/lua_bit.c (Lua BitOp 1.0.2).

local support = ...
local floor, frexp = math.floor, math.frexp
local format, sub = string.format, string.sub
local select, tonumber, type, upper = select, tonumber, type, string.upper
local fail_type, guard = support.fail_type, support.guard

setfenv(1, {})

local TWO32 = 2 ^ 32
-- Adding 2^52 + 2^51 to a number leaves its integer part in the low bits of the sum, rounded to even.
local MAGIC = 6755399441055744

-- The 32 bits that an argument stands for.
local function bits_of(value, position, count)
    local number
    if type(value) == "number" then
        number = value
    else
        number = type(value) == "string" and tonumber(value) or nil
        if not number then
            fail_type("number", value, position, count)
        end
    end
    local sum = number + MAGIC
    if sum >= 2 ^ 52 and sum < 2 ^ 53 then
        return sum % TWO32
    end
    -- Far out, the low bits of the sum's mantissa are taken for what they are.
    if sum ~= sum or sum - sum ~= 0 then
        return 0
    end
    return (frexp(sum < 0 and -sum or sum) * 2 ^ 53) % TWO32
end

local function signed(bits)
    return bits < 2 ^ 31 and bits or bits - TWO32
end

-- AND of two hexadecimal digits, which the other operations follow from.
local BOTH = {}
for a = 0, 15 do
    for b = 0, 15 do
        local both = 0
        for bit = 0, 3 do
            if floor(a / 2 ^ bit) % 2 == 1 and floor(b / 2 ^ bit) % 2 == 1 then
                both = both + 2 ^ bit
            end
        end
        BOTH[a * 16 + b] = both
    end
end

local function both(a, b)
    local result, weight = 0, 1
    while a > 0 and b > 0 do
        local a_digit, b_digit = a % 16, b % 16
        result = result + BOTH[a_digit * 16 + b_digit] * weight
        a, b, weight = (a - a_digit) / 16, (b - b_digit) / 16, weight * 16
    end
    return result
end

local function fold(name, combine)
    return guard(name, function(count, first, ...)
        local bits = bits_of(first, 1, count)
        for position = count, 2, -1 do
            bits = combine(bits, bits_of((select(position - 1, ...)), position, count))
        end
        return signed(bits)
    end)
end

local function shift(name, move)
    return guard(name, function(count, value, distance)
        local bits = bits_of(value, 1, count)
        return signed(move(bits, bits_of(distance, 2, count) % 32))
    end)
end

local function rotate_left(bits, distance)
    local high = floor(bits * 2 ^ distance / TWO32)
    return bits * 2 ^ distance % TWO32 + high
end

return {
    tobit = guard("tobit", function(count, value)
        return signed(bits_of(value, 1, count))
    end),
    bnot = guard("bnot", function(count, value)
        return signed(TWO32 - 1 - bits_of(value, 1, count))
    end),
    band = fold("band", both),
    bor = fold("bor", function(a, b)
        return a + b - both(a, b)
    end),
    bxor = fold("bxor", function(a, b)
        return a + b - 2 * both(a, b)
    end),
    lshift = shift("lshift", function(bits, distance)
        return bits * 2 ^ distance % TWO32
    end),
    rshift = shift("rshift", function(bits, distance)
        return floor(bits / 2 ^ distance)
    end),
    arshift = shift("arshift", function(bits, distance)
        return floor(signed(bits) / 2 ^ distance) % TWO32
    end),
    rol = shift("rol", rotate_left),
    ror = shift("ror", function(bits, distance)
        return rotate_left(bits, (32 - distance) % 32)
    end),
    bswap = guard("bswap", function(count, value)
        local bits = bits_of(value, 1, count)
        local a, b = floor(bits / 2 ^ 24), floor(bits / 2 ^ 16) % 256
        local c, d = floor(bits / 256) % 256, bits % 256
        return signed(((d * 256 + c) * 256 + b) * 256 + a)
    end),
    tohex = guard("tohex", function(count, value, digits)
        local bits = bits_of(value, 1, count)
        local wanted = count < 2 and 8 or signed(bits_of(digits, 2, count))
        local text = format("%08x", bits)
        if wanted < 0 then
            wanted, text = -wanted, upper(text)
        end
        return wanted < 8 and sub(text, 9 - wanted) or text
    end),
}
