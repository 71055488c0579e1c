"""Requests as the documentation of the commands describes them: every command, option and order of options there is.

What COMMAND DOCS says of a command's arguments is read as a grammar. A word is drawn by what the argument is called,
and by the group of the command, so that most requests find a key of their type; now and then one is damaged.

Not asked for is what ends or stops a server, or is never the same twice: what is drawn at random, the time, ids that
are given out, the order of a hash table (members of sets are integers). COMMAND GETKEYS and ACL DRYRUN are asked about
all commands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import cluster.commands
from tests.support.differential.vocabulary import Request

Arguments = list[dict[str, Any]]

_DOCS = Path(cluster.commands.__file__).parent / "command_docs.json"


def _documented() -> Iterator[tuple[Request, str, Arguments]]:
    """Each command's name, one word or two, with its group and its arguments."""
    for name, record in json.loads(_DOCS.read_bytes()):
        if "subcommands" not in record:
            yield (name.encode(),), record["group"], record.get("arguments", [])
        for full_name, subrecord in record.get("subcommands", {}).items():
            words = tuple(full_name.encode().split(b"|"))
            yield words, record["group"], subrecord.get("arguments", [])


COMMANDS: dict[Request, tuple[str, Arguments]] = {
    name: (group, arguments) for name, group, arguments in sorted(_documented(), key=lambda each: each[0])
}

_GROUPS_OF_DATA = frozenset(
    {"string", "bitmap", "list", "set", "sorted-set", "hash", "stream", "geo", "hyperloglog", "generic", "scripting"}
)
_LEFT_OUT = frozenset(
    {
        *((b"randomkey",), (b"srandmember",), (b"spop",), (b"hrandfield",), (b"zrandmember",)),
        *((b"keys",), (b"scan",), (b"migrate",), (b"wait",), (b"dump",), (b"pfselftest",)),
        *((b"function", b"list"), (b"function", b"dump"), (b"script", b"debug"), (b"script", b"kill")),
        (b"object", b"idletime"),
    }
)
_ASKED = [name for name, (group, _arguments) in COMMANDS.items() if group in _GROUPS_OF_DATA and name not in _LEFT_OUT]
_OTHERS = (
    *(
        (b"ping",),
        (b"echo",),
        (b"dbsize",),
        (b"command", b"count"),
        (b"object", b"help"),
        (b"publish",),
        (b"spublish",),
    ),
    *((b"client", b"getname"), (b"client", b"setname"), (b"readonly",), (b"readwrite",), (b"acl", b"whoami")),
    *((b"restore-asking",), (b"cluster", b"keyslot"), (b"module", b"list")),
)
_TO_ASK = [*_ASKED, *(name for name in _OTHERS if name in COMMANDS)]

_INTEGERS = b"0 1 2 3 -1 -2 5 10 100 -100 9223372036854775807 -9223372036854775808".split()
_NO_INTEGERS = (b"", b"x", b"1.5", b"+1", b" 1", b"9223372036854775808", b"-", b"(1", b"-0")
_DOUBLES = b"0 1 -1 0.5 2.75 1e3 -1e-3 10 100 3.0e2 inf -inf +inf (1 1.".split()
_NO_DOUBLES = (b"", b"x", b"nan", b"1,5", b" 1", b"0x1p3", b"(", b"((1")
_LONGITUDES = b"0 13.361389 15.087269 -180 180 2.35 181 15".split()
_LATITUDES = b"0 38.115556 37.502669 85 -85.05 48.85 86 37".split()
_LEX_LIMITS = (b"-", b"+", b"[a", b"(a", b"[b", b"(1", b"[", b"(", b"a", b"[zz")
_TEXTS = (b"a", b"b", b"c", b"hello", b"", b"1", b"2", b"10", b"-5", b"3.0", b"\x00\xff", b"x" * 70, b"07")
_SHORT_TEXTS = tuple(text for text in _TEXTS if len(text) < 64)
"""A longer one would make a hash table, which lists its members in an order of its own."""
_IDS = (
    b"1-1",
    b"2-1",
    b"2-2",
    b"3",
    b"0",
    b"0-0",
    b"5-0",
    b"7-*",
    b"$",
    b">",
    b"-",
    b"+",
    b"(2-1",
    b"x",
    b"1-1-1",
    b"6",
)
_KEY_TYPES = {
    "string": b"s", "bitmap": b"s", "list": b"l", "set": b"i", "sorted-set": b"z", "hash": b"h", "stream": b"x",
    "geo": b"g", "hyperloglog": b"p",
}  # fmt: skip
_ALL_KEYS = tuple(b"{t}%b%d" % (kind, number) for kind in b"s l i z h x g p n".split() for number in (1, 2))
_STRAY = b"NX XX GET COUNT 1 WITHSCORES LIMIT 0 MATCH STORE {t}s1 BY ASC REPLACE IDX KEEPTTL ~ =".split()

_SCRIPTS = (
    b"return 1", b"return {KEYS[1], ARGV[1]}", b"return redis.call('GET', KEYS[1])", b"not lua",
    b"return #KEYS + #ARGV", b"return redis.pcall('INCR', KEYS[1])",
    b"redis.setresp(3) return redis.call('HGETALL', KEYS[1])",
    b"#!lua flags=no-writes\nreturn redis.call('DEL', KEYS[1])", b"return redis.call('ZSCORE', KEYS[1], ARGV[1])",
)  # fmt: skip
_LIBRARY = b"#!lua name=lib\nredis.register_function('f', function(keys, args) return {keys, args} end)"
_POOLS: dict[str, tuple[bytes, ...]] = {
    "script": _SCRIPTS,
    "sha1": (b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db", b"x", b""),
    "function": (b"f", b"nosuch"),
    "function-code": (_LIBRARY, b"x", _LIBRARY.replace(b"'f'", b"'g'")),
    "library-name": (b"lib", b"nosuch"),
    "serialized-value": (
        b"\x00\x01x", b"\x00\x01x\x0b\x00\x93\x40\x1f\xa6\x8b\xd2\xa8\x1c", b"\x00\xc0\x05\x0a\x00x", b"",
    ),
    "encoding": (b"u8", b"i8", b"u1", b"i64", b"u63", b"u64", b"i5", b"u0", b"x"),
    "id": _IDS, "last-id": _IDS, "max_deleted_entry_id": _IDS, "lastid": _IDS,
    "threshold": (b"0", b"1", b"3", b"2-1", b"x", b"-1"),
    "group": (b"g", b"g", b"g", b"nosuch"), "groupname": (b"g", b"g", b"g", b"nosuch"),
    "consumer": (b"alice", b"bob"), "consumername": (b"alice", b"bob"),
    "type": (b"string", b"list", b"zset", b"x"),
    "pattern": (b"*", b"a*", b"[ab]", b"{t}s*", b"nosort", b"#", b"{t}h1->a", b"{t}*", b""),
    "operation": (b"AND", b"OR", b"XOR", b"NOT", b"x"),
    "longitude": tuple(_LONGITUDES), "latitude": tuple(_LATITUDES),
    "radius": (b"0", b"1", b"200", b"5000000", b"-1"), "width": (b"1", b"400", b"-1"), "height": (b"1", b"400", b"x"),
    "cursor": (b"0", b"0", b"x"),
    "seconds": (b"100000", b"0", b"-1", b"x"), "ttl": (b"0", b"0", b"100000000", b"-1"),
    "unix-time-seconds": (b"32503680000", b"1", b"-1", b"9223372036854775807"),
    "unix-time-milliseconds": (b"32503680000123", b"1", b"-1", b"9223372036854775807"),
    "min-idle-time": (b"0", b"0", b"1000000", b"-1", b"x"), "min_idle_time": (b"0", b"1000000", b"x"),
    "ms": (b"1000000000", b"-1"),
    "protover": (b"2", b"3", b"4"),
    "destination-db": (b"0", b"1", b"16", b"x"), "db": (b"1", b"0", b"16", b"-1"),
    "bit": (b"0", b"1", b"1", b"2"),
    "frequency": (b"0", b"255", b"256"), "limit": (b"0", b"1", b"-1", b"x"), "percent": (b"1",),
    "username": (b"default", b"nosuch"),
}  # fmt: skip
_SMALL = tuple(b"%d" % number for number in range(40))
_BY_GROUP: dict[tuple[str, str], tuple[bytes, ...]] = {
    ("set", "member"): tuple(b"%d" % number for number in range(-3, 6)),
    ("string", "offset"): (*_SMALL, b"-1", b"x"),
    ("bitmap", "offset"): (*_SMALL, b"#0", b"#3", b"-1", b"#x", b"4294967296"),
    ("stream", "milliseconds"): (b"1", b"-1", b"x"),
    ("string", "milliseconds"): (b"100000000", b"0", b"-1"),
    ("generic", "milliseconds"): (b"100000000", b"0", b"-1"),
    ("stream", "start"): _IDS, ("stream", "end"): _IDS,
    ("stream", "count"): (b"0", b"1", b"2", b"10", b"-1", b"x"),
}  # fmt: skip


class Writer:
    """Writes one request after the other."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._group = ""
        self._count: int | None = None
        """How many keys were promised, or given."""

    def request(self) -> Request:
        """One that may be sent."""
        return self._written(self._random.choice(_TO_ASK))

    def any_request(self) -> Request:
        """One to be talked about."""
        return self._written(self._random.choice(list(COMMANDS)))

    def _written(self, name: Request) -> Request:
        self._group, arguments = COMMANDS[name]
        self._count = None
        words = [*name, *self._several(arguments)]
        if self._random.random() < 0.1:
            self._damage(words, len(name))
        if self._random.random() < 0.3:
            words[0] = words[0].upper()
        return tuple(
            word for index, word in enumerate(words) if not (name == (b"xadd",) and index > 1 and word == b"*")
        )

    def _damage(self, words: list[bytes], start: int) -> None:
        place = self._random.randint(start, len(words))
        match self._random.randint(0, 3):
            case 0:
                del words[place : place + 1]
            case 1:
                words.insert(place, self._random.choice(_STRAY))
            case 2:
                words[start:] = words[start:][: place - start]
            case 3:
                words += words[place : place + 2]

    def _several(self, arguments: Arguments) -> list[bytes]:
        """The words of a row of arguments; options that follow one another come in any order."""
        words: list[bytes] = []
        options: list[list[bytes]] = []
        for argument in arguments:
            written = self._argument(argument)
            if "token" in argument and "optional" in argument.get("flags", ()):
                options.append(written)
                continue
            words += self._in_any_order(options) + written
            options = []
        return words + self._in_any_order(options)

    def _in_any_order(self, options: list[list[bytes]]) -> list[bytes]:
        if len(options) > 1:
            self._random.shuffle(options)
        return [word for option in options for word in option]

    def _argument(self, argument: dict[str, Any]) -> list[bytes]:
        flags = argument.get("flags", ())
        if "optional" in flags and self._random.random() < 0.6:
            return []
        times = self._times(argument) if "multiple" in flags else 1
        token = [argument["token"].encode()] if "token" in argument else []
        if token == [b'""']:
            token = [b""]
        if token and self._random.random() < 0.3:
            token = [token[0].lower()]
        if "multiple_token" in flags:
            return [word for _time in range(times) for word in token + self._value(argument)]
        return token + [word for _time in range(times) for word in self._value(argument)]

    def _times(self, argument: dict[str, Any]) -> int:
        if argument["name"] in ("key", "id", "weight") and self._count is not None and self._random.random() < 0.95:
            return self._count
        times = self._random.choice((1, 1, 2, 3))
        if argument["type"] == "key":
            self._count = times
        return times

    def _value(self, argument: dict[str, Any]) -> list[bytes]:
        kind = argument["type"]
        if kind == "pure-token":
            return []
        if kind == "oneof":
            return self._argument({**self._random.choice(argument["arguments"])})
        if kind == "block":
            return self._several(argument["arguments"])
        return [self._word(argument["name"], kind)]

    def _word(self, name: str, kind: str) -> bytes:
        choose = self._random.choice
        if name == "numkeys":
            self._count = choose((1, 1, 2, 2, 3))
            return b"%d" % self._count if choose(range(12)) else choose((b"0", b"-1", b"x", b"5"))
        if kind == "key":
            own = _KEY_TYPES.get(self._group)
            if own and choose(range(8)):
                return b"{t}%b%d" % (own, choose((1, 1, 2)))
            return choose(_ALL_KEYS) if choose(range(8)) else choose((b"d", b"", b"{t}none"))
        pool = _BY_GROUP.get((self._group, name)) or _POOLS.get(name)
        if pool:
            return choose(pool)
        if self._group in ("hash", "sorted-set", "geo") and name in ("field", "value", "member", "member1", "member2"):
            return choose(_SHORT_TEXTS)
        if name == "timeout":
            return choose((b"0.001", b"0.002", b"-1", b"x"))
        if name in ("min", "max", "start", "stop") and kind == "string":
            return choose((*_LEX_LIMITS, *_DOUBLES))
        if kind == "integer":
            return choose(_INTEGERS) if choose(range(10)) else choose(_NO_INTEGERS)
        if kind == "double":
            return choose(_DOUBLES) if choose(range(10)) else choose(_NO_DOUBLES)
        return choose(_TEXTS)


BEGINNING: tuple[Request, ...] = tuple(
    tuple(line.split())
    for line in b"""
    SET {t}s1 hello
    SET {t}s2 10
    RPUSH {t}l1 a b c 1 2
    RPUSH {t}l2 3 1 2
    SADD {t}i1 1 2 3
    SADD {t}i2 2 3 4
    ZADD {t}z1 1 a 2 b 3 c
    ZADD {t}z2 0 a 0 b 0 c 0 1
    HSET {t}h1 a 1 b x c 2.5
    HSET {t}h2 hello world
    XADD {t}x1 1-1 a 1
    XADD {t}x1 2-1 a 1 b 2
    XADD {t}x1 2-2 a 1
    XADD {t}x2 1-1 a 1
    XGROUP CREATE {t}x1 g 0
    XGROUP CREATE {t}x2 g $
    XREADGROUP GROUP g alice COUNT 2 STREAMS {t}x1 >
    GEOADD {t}g1 13.361389 38.115556 a 15.087269 37.502669 b
    GEOADD {t}g2 2.35 48.85 c
    PFADD {t}p1 a b c
    PFADD {t}p2 c d
    """.strip().splitlines()
)
"""Something of every type."""
