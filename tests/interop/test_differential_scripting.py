"""Scripts, here and in a real server: replies, errors with their positions, and conversions between Lua and RESP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.differential.pair import RESP3_CONNECTION, Pair
from tests.support.differential.scripts import CORPUS, lua_values, plain_values

pytestmark = pytest.mark.real_redis


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair() as servers:
        yield servers


@pytest.mark.parametrize("connection", [0, RESP3_CONNECTION])
def test_every_script_of_the_corpus_is_answered_alike(pair: Pair, connection: int) -> None:
    pair.ask(connection, (b"FLUSHALL",))
    pair.ask(connection, (b"SCRIPT", b"FLUSH"))

    for body in CORPUS:
        pair.ask(connection, (b"EVAL", body.encode("latin-1"), b"0"))


@given(value=lua_values, connection=st.sampled_from([0, RESP3_CONNECTION]), protocol=st.sampled_from([2, 3]))
def test_a_value_of_lua_becomes_the_same_reply(pair: Pair, value: str, connection: int, protocol: int) -> None:
    pair.ask(connection, (b"EVAL", f"redis.setresp({protocol}) return {value}".encode(), b"0"))


# A negative zero loses its sign on its way here, which docs/compatibility.md tells.
_arguments = plain_values.filter(lambda value: value != "(-0.0)")


@given(
    arguments=st.lists(_arguments, min_size=1, max_size=4),
    connection=st.sampled_from([0, RESP3_CONNECTION]),
)
def test_an_argument_of_a_call_becomes_the_same_bytes(pair: Pair, arguments: list[str], connection: int) -> None:
    push = f"redis.call('DEL', 'l') redis.call('RPUSH', 'l', {','.join(arguments)})"
    script = f"{push} return redis.call('LRANGE', 'l', 0, -1)"

    pair.ask(connection, (b"EVAL", script.encode(), b"0"))


def test_keys_and_arguments_reach_the_script(pair: Pair) -> None:
    body = b"return {#KEYS, #ARGV, KEYS[1], KEYS[2], ARGV[1], ARGV[2]}"

    for words in (
        (b"0",),
        (b"2", b"a", b"b"),
        (b"1", b"a", b"b"),
        (b"0", b"a"),
        (b"1", b"a\0", b"\xff", b""),
        (b"3", b"a"),
        (b"-1",),
        (b"x",),
    ):
        pair.ask(0, (b"EVAL", body, *words))
    pair.ask(0, (b"EVAL", body, b"150", *[b"%d" % n for n in range(400)]))


LIBRARY = b"""#!lua name=lib
local function both(keys, args) return {keys, args} end
redis.register_function('both', both)
redis.register_function{function_name='reads', callback=function() return redis.call('GET', 'k') end,
    flags={'no-writes', 'allow-stale'}, description='reads k'}
redis.register_function{function_name='writes', callback=function(keys) return redis.call('SET', keys[1], 1) end}
redis.register_function('fails', function() return nope end)
redis.register_function('calls', function() redis.call('INCR', 'k') end)
"""


def test_functions_are_loaded_called_listed_and_moved_alike(pair: Pair) -> None:
    requests: list[tuple[bytes, ...]] = [
        (b"FUNCTION", b"FLUSH"),
        (b"SET", b"k", b"v"),
        (b"FUNCTION", b"LOAD", LIBRARY),
        (b"FUNCTION", b"LOAD", LIBRARY),
        (b"FUNCTION", b"LOAD", b"REPLACE", LIBRARY),
        (b"FCALL", b"both", b"1", b"a", b"b"),
        (b"FCALL", b"BOTH", b"0"),
        (b"FCALL", b"reads", b"0"),
        (b"FCALL_RO", b"reads", b"0"),
        (b"FCALL", b"writes", b"1", b"w"),
        (b"FCALL_RO", b"writes", b"1", b"w"),
        (b"FCALL", b"fails", b"0"),
        (b"FCALL", b"calls", b"0"),
        (b"FCALL", b"none", b"0"),
        (b"FCALL", b"both", b"x"),
        (b"FUNCTION", b"STATS"),
        (b"FUNCTION", b"LIST", b"LIBRARYNAME", b"no*"),
        (b"FUNCTION", b"LIST", b"LIBRARYNAME"),
        (b"FUNCTION", b"LIST", b"NONE"),
        (b"FUNCTION", b"DELETE", b"none"),
        (b"FUNCTION", b"LOAD", b"#!lua name=x\nreturn 1"),
        (b"FUNCTION", b"LOAD", b"#!lua\nx"),
        (b"FUNCTION", b"LOAD", b"x"),
        (b"FUNCTION", b"LOAD", b"#!js name=x\n1"),
        (b"FUNCTION", b"LOAD", b"#!lua name=x\nx y"),
        (b"FUNCTION", b"LOAD", b"#!lua name=x\nfoo()"),
        (b"FUNCTION", b"LOAD", b"#!lua name=x\nredis.call('PING')"),
        (b"FUNCTION", b"LOAD", b"#!lua name=x\nerror({err='X y'})"),
        (b"FUNCTION", b"LOAD", b"#!lua name=x\nerror({})"),
        (b"FUNCTION", b"LOAD", b"#!lua name=x\nredis.register_function()"),
        (b"FUNCTION", b"LOAD", b"#!lua name=x\nredis.register_function('f', 1)"),
        (b"FUNCTION", b"LOAD", b"#!lua name=x\nredis.register_function(1, redis.log)"),
        (b"FUNCTION", b"LOAD", b"#!lua name=y\nredis.register_function('both', redis.log)"),
        (b"FUNCTION", b"LOAD", b"#!lua name=x\nx = 1"),
        (b"FUNCTION", b"LOAD", b"nope", LIBRARY),
        (b"FUNCTION", b"RESTORE", b"nonsense"),
        (b"FUNCTION", b"RESTORE", b"x", b"y"),
        (b"FUNCTION", b"KILL"),
        (b"SCRIPT", b"KILL"),
        (b"FUNCTION", b"HELP"),
        (b"SCRIPT", b"HELP"),
        (b"FUNCTION", b"FLUSH", b"x"),
        (b"SCRIPT", b"FLUSH", b"x"),
        (b"SCRIPT", b"LOAD", b"return 1"),
        (b"SCRIPT", b"EXISTS", b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db", b"x"),
        (b"EVALSHA", b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB", b"0"),
        (b"EVALSHA", b"x", b"0"),
        (b"EVALSHA", b"0" * 40, b"0"),
    ]
    for connection in (0, RESP3_CONNECTION):
        for request in requests:
            pair.ask(connection, request)


def test_a_dump_of_functions_is_read_by_the_other(pair: Pair) -> None:
    code = b"#!lua name=one\nredis.register_function('one', function() return 1 end)" + b" " * 100
    pair.ask(0, (b"FUNCTION", b"FLUSH"))
    pair.ask(0, (b"FUNCTION", b"LOAD", code))
    for dumped in [side.observer.ask(b"FUNCTION", b"DUMP") for side in pair.sides]:
        payload = dumped[dumped.index(b"\r\n") + 2 : -2]
        pair.ask(0, (b"FUNCTION", b"FLUSH"))

        pair.ask(0, (b"FUNCTION", b"RESTORE", payload))
        pair.ask(0, (b"FCALL", b"one", b"0"))
        pair.ask(0, (b"FUNCTION", b"RESTORE", payload))
        pair.ask(0, (b"FUNCTION", b"RESTORE", payload, b"REPLACE"))
        pair.ask(0, (b"FUNCTION", b"RESTORE", payload, b"FLUSH"))
        pair.ask(0, (b"FUNCTION", b"LIST", b"WITHCODE"))


def test_a_scripts_effects_are_one_transaction_for_replicas() -> None:
    with Pair() as pair:
        _leave_effects(pair)

        pair.compare_state()


def _leave_effects(pair: Pair) -> None:
    several = b"redis.call('SET','{t}a',1) redis.call('INCR','{t}a') redis.call('EXPIREAT','{t}a',4102444800)"
    pair.ask(0, (b"EVAL", several, b"0"))
    pair.ask(0, (b"EVAL", b"redis.call('SADD','{t}s','x') return redis.call('SPOP','{t}s')", b"0"))
    pair.ask(0, (b"EVAL", b"redis.set_repl(redis.REPL_NONE) redis.call('SET','{t}n',1)", b"0"))
    pair.ask(0, (b"EVAL", b"return redis.call('GET','{t}a')", b"0"))
    pair.ask(0, (b"EVAL", b"redis.call('INCR','{t}a') redis.call('NOSUCH')", b"0"))
    pair.ask(0, (b"FUNCTION", b"LOAD", LIBRARY))
    pair.ask(0, (b"FCALL", b"writes", b"1", b"{t}w"))
    pair.ask(0, (b"FUNCTION", b"DELETE", b"lib"))
    pair.ask(0, (b"FUNCTION", b"FLUSH"))
    pair.ask(0, (b"SCRIPT", b"LOAD", b"return 1"))
    pair.ask(0, (b"DEL", b"{t}n", b"{t}a"))
