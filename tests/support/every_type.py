"""One value of every type, encoding and size, as commands; and what two servers that hold the same must both say.

DEBUG DIGEST leaves out when keys expire, consumer groups and functions, so that `held` asks for those as well.
Units: milliseconds since the epoch (`FAR_MS`), bytes.
"""

from __future__ import annotations

import random
from typing import Any

from tests.support.servers import Server
from tests.support.wire import Argument, encode

FAR_MS = 4_102_444_800_123
BIG_STRING_BYTES = 5_000_000
BIG_ZSET_MEMBERS = 20_000
# Around the limits of the compact encodings: entries of a collection, and bytes of one element.
COUNTS = (1, 2, 127, 128, 129, 511, 512, 513)
WIDTHS = (0, 1, 12, 63, 64, 65, 4095, 4096, 8200, 17_000)
STRINGS = {
    "empty": b"",
    "int": b"12345678901234567",
    "negative": b"-129",
    "int:shared": b"7",
    "embstr": b"x" * 44,
    "raw": b"y" * 45,
    "compressible": b"hello world " * 500,
    "binary": bytes(range(256)) * 3,
}
LIBRARIES = (
    "#!lua name=first\n"
    "redis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)\n"
    "redis.register_function{function_name='peek', flags={'no-writes', 'allow-stale'},\n"
    "  callback=function(keys) return redis.call('GET', keys[1]) end, description='what is there'}",
    "#!lua name=second\nredis.register_function('answer', function() return 42 end)\n--" + "-" * 3000,
)
Command = tuple[Argument, ...]


def _strings(rng: random.Random) -> list[Command]:
    commands: list[Command] = [("SET", f"string:{name}", text) for name, text in STRINGS.items()]
    commands.append(("SET", "string:big", rng.randbytes(BIG_STRING_BYTES)))
    commands.append(("SETRANGE", "string:grown", 100, "z"))
    commands.append(("PFADD", "hll:sparse", *range(20)))
    commands.append(("PFADD", "hll:dense", *range(4000)))
    return commands


def _collections(rng: random.Random) -> list[Command]:
    commands: list[Command] = []
    for count in COUNTS:
        numbers = range(-count, count * 3, 4)[:count]
        words = [f"word:{number}" for number in numbers]
        commands.append(("RPUSH", f"list:{count}", *numbers, *words))
        commands.append(
            ("HSET", f"hash:{count}", *(item for pair in zip(words, numbers, strict=True) for item in pair))
        )
        commands.append(("SADD", f"set:numbers:{count}", *numbers))
        commands.append(("SADD", f"set:words:{count}", *words))
        scores = [rng.choice((number, rng.uniform(-1e9, 1e9), 1e300)) for number in numbers]
        commands.append(("ZADD", f"zset:{count}", *(item for pair in zip(scores, words, strict=True) for item in pair)))
    for width in WIDTHS:
        text = rng.randbytes(width)
        commands.append(("RPUSH", f"list:wide:{width}", "1", text, "2"))
        commands.append(("HSET", f"hash:wide:{width}", "f", text, text, "1"))
        commands.append(("SADD", f"set:wide:{width}", "1", text))
        commands.append(("ZADD", f"zset:wide:{width}", "1.5", text, "-inf", "least", "inf", "most"))
    commands += [("SADD", f"set:bits:{bits}", 1, -2, 1 << bits, -(1 << bits)) for bits in (7, 15, 16, 31, 32, 62)]
    members = [f"{rng.uniform(-1e6, 1e6)!r} member:{number}".split() for number in range(BIG_ZSET_MEMBERS)]
    commands.append(("ZADD", "zset:big", *(item for pair in members for item in pair)))
    commands.append(("GEOADD", "zset:places", "13.36", "38.11", "Palermo", "15.08", "37.50", "Catania"))
    return commands


def _streams() -> list[Command]:
    commands: list[Command] = []
    for number in range(1, 250):
        fields = ("a", number, "b", "text") if number % 5 else ("other", "z" * number)
        commands.append(("XADD", "stream", f"{number}-{number % 3}", *fields))
    commands += [
        ("XDEL", "stream", "7-1", "1-1", "249-0"),
        ("XGROUP", "CREATE", "stream", "group", "0"),
        ("XREADGROUP", "GROUP", "group", "one", "COUNT", 10, "STREAMS", "stream", ">"),
        ("XREADGROUP", "GROUP", "group", "two", "COUNT", 5, "STREAMS", "stream", ">"),
        ("XACK", "stream", "group", "3-0"),
        ("XGROUP", "CREATECONSUMER", "stream", "group", "idle"),
        ("XGROUP", "CREATE", "stream", "other", "$"),
        ("XADD", "stream:emptied", "5-5", "a", "1"),
        ("XDEL", "stream:emptied", "5-5"),
        ("XGROUP", "CREATE", "stream:never", "group", "$", "MKSTREAM"),
    ]
    return commands


def every_type(seed: int = 1) -> list[Command]:
    """Commands that make one of each in database 0, and some more in database 9."""
    rng = random.Random(seed)
    commands = _strings(rng) + _collections(rng) + _streams()
    for number, key in enumerate(
        ["string:int", "list:128", "hash:513", "set:numbers:2", "zset:big", "stream", "hll:dense"]
    ):
        commands.append(("PEXPIREAT", key, FAR_MS + number))
    commands += [("FUNCTION", "LOAD", library) for library in LIBRARIES]
    commands += [("SELECT", 9), ("SET", b"\x00binary\r\n\xff", "1"), ("RPUSH", "list", "a", "1"), ("SELECT", 0)]
    return commands


def touch_every_type(word: str) -> list[Command]:
    """Changes to a value of each type, distinct for each `word`."""
    return [
        ("APPEND", "string:raw", word),
        ("SETRANGE", "string:big", 1000, word),
        ("LPUSH", "list:512", word),
        ("HSET", "hash:512", word, word),
        ("SADD", "set:numbers:512", word),
        ("ZADD", "zset:128", 3, word),
        ("ZREMRANGEBYRANK", "zset:big", 0, 9),
        ("XADD", "stream", "*", word, word),
        ("XREADGROUP", "GROUP", "group", word, "COUNT", 3, "STREAMS", "stream", ">"),
        ("PFADD", "hll:sparse", word),
        ("PEXPIREAT", "string:embstr", FAR_MS + len(word)),
        ("DEL", "set:words:2"),
        ("FUNCTION", "LOAD", "REPLACE", LIBRARIES[1] + word),
        ("EVAL", "return redis.call('INCR', KEYS[1])", 1, "string:int"),
        ("FCALL", "put", 1, f"from a function {word}", word),
    ]


def run(server: Server, commands: list[Command]) -> None:
    """Send all, then look at every reply; none may be an error."""
    with server.raw(timeout=60) as connection:
        connection.sendall(b"".join(encode(*command) for command in commands))
        for command in commands:
            reply = connection.reply()
            if isinstance(reply, Exception):
                raise AssertionError(f"{command[:2]}: {reply}")


def functions(server: Server) -> list[Any]:
    """The libraries with their code and functions, in an order that does not depend on a dictionary's."""
    libraries = []
    for library in server.call("FUNCTION", "LIST", "WITHCODE"):
        fields = dict(zip(library[::2], library[1::2], strict=True))
        described = []
        for function in fields[b"functions"]:
            words = dict(zip(function[::2], function[1::2], strict=True))
            described.append((words[b"name"], words[b"description"], sorted(words[b"flags"])))
        libraries.append((fields[b"library_name"], sorted(described), fields[b"library_code"]))
    return sorted(libraries)


def stream_facts(info: list[Any]) -> dict[bytes, Any]:
    """XINFO STREAM FULL, but for when consumers were seen, which is each server's own affair."""
    fields = dict(zip(info[::2], info[1::2], strict=True))
    for group in fields[b"groups"]:
        for consumer in group[group.index(b"consumers") + 1]:
            consumer[consumer.index(b"seen-time") + 1] = None
    return fields


def held(server: Server, *, each: bool = False) -> dict[str, Any]:
    """What two servers with the same data must agree on; with `each`, a digest of every key, to see where."""
    facts: dict[str, Any] = {"functions": functions(server)}
    with server.raw(timeout=60) as connection:
        facts["digest"] = connection.call("DEBUG", "DIGEST")
        for database in (0, 9):
            connection.call("SELECT", database)
            for key in sorted(connection.call("KEYS", "*")):
                name, kind = f"{database} {key!r}", connection.call("TYPE", key)
                facts[name] = (kind, connection.call("PEXPIRETIME", key))
                if kind == b"stream":
                    facts[f"{name} in full"] = stream_facts(connection.call("XINFO", "STREAM", key, "FULL"))
                if each:
                    facts[f"{name} digest"] = connection.call("DEBUG", "DIGEST-VALUE", key)
    return facts


def assert_same(first: Server, *others: Server) -> None:
    """All hold what the first one holds."""
    expected = held(first)
    for other in others:
        if held(other) != expected:
            assert held(other, each=True) == held(first, each=True)
            raise AssertionError("they differed a moment ago")
