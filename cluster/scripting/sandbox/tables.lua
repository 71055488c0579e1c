-- The table library: read-only tables stay so.

local sandbox = ...

local foreach, insert, select, type = table.foreach, table.insert, select, type
local hidden, mismatch, refuse_argument, refuse_read_only = sandbox.hidden, sandbox.mismatch, sandbox.refuse_argument, sandbox.refuse_read_only

local tables = sandbox.copy(table)

function tables.insert(...)
    if type((...)) ~= "table" then
        refuse_argument(1, mismatch("table", 1, ...))
    end
    refuse_read_only((...))
    return insert(...)
end

-- It sees what a read-only table stands for, but is given nothing to change it with.
function tables.foreach(...)
    if type((...)) ~= "table" then
        refuse_argument(1, mismatch("table", 1, ...))
    end
    return foreach(hidden[(...)] or (...), (select(2, ...)))
end

sandbox.libraries.table = tables
