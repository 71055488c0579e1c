-- The math library: random is drand48, the same everywhere. Its numbers of 48 bits are kept in two halves.

local sandbox = ...

local error, floor, select = error, math.floor, select
local refuse_argument, state, to_int = sandbox.refuse_argument, sandbox.state, sandbox.to_int

local maths = sandbox.copy(math)

local TWO24 = 2 ^ 24
local random_high, random_low = 0x1234AB, 0xCD330E

local function next_random()
    local low = random_low * 0xE66D + 0xB
    -- The multiplier 0x5DEECE66D in two steps of 16 and 19 bits keeps every product exact.
    local step = random_low * 0x5DEEC
    low = low + (step % 256) * 2 ^ 16
    local high = random_high * 0xE66D + floor(step / 256) + ((random_high * 0x5DEEC) % 256) * 2 ^ 16
    random_high, random_low = (high + floor(low / TWO24)) % TWO24, low % TWO24
    return random_high * 128 + floor(random_low / 2 ^ 17)
end

function maths.random(...)
    if not state.is_running then
        error("math.random can only be called inside a script invocation", 2)
    end
    local count = select("#", ...)
    local fraction = (next_random() % 0x7FFFFFFF) / 0x7FFFFFFF
    if count == 0 then
        return fraction
    elseif count == 1 then
        local upper, problem = to_int(1, ...)
        if not upper or upper < 1 then
            refuse_argument(1, problem or "interval is empty")
        end
        return floor(fraction * upper) + 1
    elseif count == 2 then
        local lower, upper, problem
        lower, problem = to_int(1, ...)
        if not lower then
            refuse_argument(1, problem)
        end
        upper, problem = to_int(2, ...)
        if not upper or lower > upper then
            refuse_argument(2, problem or "interval is empty")
        end
        return floor(fraction * (upper - lower + 1)) + lower
    end
    error("wrong number of arguments", 2)
end

function maths.randomseed(...)
    if not state.is_running then
        error("math.randomseed can only be called inside a script invocation", 2)
    end
    local seed, problem = to_int(1, ...)
    if not seed then
        refuse_argument(1, problem)
    end
    seed = seed % 2 ^ 32
    random_high, random_low = floor(seed / 256), (seed % 256) * 2 ^ 16 + 0x330E
end

local function random_state()
    return random_high, random_low
end

local function set_random_state(high, low)
    random_high, random_low = high, low
end

sandbox.random_state, sandbox.set_random_state = random_state, set_random_state
sandbox.libraries.math = maths
