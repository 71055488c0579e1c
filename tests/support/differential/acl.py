"""Rules of the ACL, of every kind and with every mistake, and requests that meet their limits.

Left out is what Redis 7.0.15 does not survive: a key rule without a letter (``%~x``), which it can take but not print.
"""

from __future__ import annotations

from hypothesis import strategies as st

from cluster.acl.catalog import CATEGORIES
from cluster.commands.registry import read_records
from tests.support.differential.vocabulary import Request, Requests, weighted, words

USERS = (b"alice", b"bob", b"default")
KEYS = (b"foo", b"foobar", b"bar", b"b?r", b"read", b"rw")
CHANNELS = (b"news", b"news:1", b"n*", b"*")

_records = read_records()
COMMANDS = [name for record in _records for name in (record[0], *(each[0] for each in record[9]))]
"""Full names of commands and subcommands."""

_patterns = st.sampled_from((b"*", b"foo*", b"b[ao]r", b"b?r", b"read", b"rw", b"", b"\xff\"'", b"sp ace", b"nul\0"))
_channels = st.sampled_from((b"*", b"news*", b"news", b"n*", b"", b"\xff", b"sp ace", b"nul\0"))
_passwords = st.sampled_from((b"one", b"two", b"", b"\0\xff \n"))
_hashes = st.sampled_from((b"a" * 64, b"0123456789abcdef" * 4, b"A" * 64, b"a" * 63, b""))
# By number: a strategy shows what it draws from, and that would be all names.
_names = weighted(
    (9, st.integers(0, len(COMMANDS) - 1).map(lambda number: COMMANDS[number].encode())), (1, st.just(b"nosuch"))
)
_first_arguments = st.sampled_from((b"select|0", b"select|1", b"SELECT|0", b"get|x", b"debug|segfault", b"sort|a|b"))
_parts = st.sampled_from((b"config|", b"config|nosuch", b"config|get|x", b"nosuch|x", b"|", b"|get", b"config||get"))
_categories = st.sampled_from([*CATEGORIES, "all", "nosuch", ""]).map(str.encode)


def _joined(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


def _any_case(rules: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return weighted((3, rules), (1, rules.map(bytes.upper)))


_signs = st.sampled_from((b"+", b"-"))
_words = words("allkeys ~* resetkeys allchannels &* resetchannels allcommands nocommands +@all -@all")
_key_rules = _joined(
    st.sampled_from((b"~", b"~", b"%R~", b"%W~", b"%RW~", b"%wr~", b"%RR~", b"%R", b"%X~", b"%")), _patterns
)
selector_rules = weighted(
    (4, _words),
    (6, _joined(_signs, _any_case(_names))),
    (6, _joined(_signs, st.just(b"@"), _any_case(_categories))),
    (3, _joined(_signs, weighted((2, _first_arguments), (1, _parts)))),
    (6, _key_rules),
    (3, _joined(st.just(b"&"), _channels)),
    (1, st.sampled_from((b"junk", b"+", b"-", b"(", b"@all", b"allkeys\0x", b"+get\0x", b"+@read\0"))),
)
_selectors = st.lists(selector_rules, max_size=5).map(lambda rules: b"(" + b" ".join(rules) + b")")
_odd_selectors = st.sampled_from((b"()", b"( )", b"(+get", b"~a)", b"('+get)", b'("+get" ~"a")', b"((+get))", b")"))
user_rules = weighted(
    (6, words("on off nopass resetpass reset clearselectors sanitize-payload skip-sanitize-payload")),
    (3, _joined(st.sampled_from((b">", b">", b"<")), _passwords)),
    (2, _joined(st.sampled_from((b"#", b"!")), _hashes)),
    (5, _selectors),
    (1, _odd_selectors),
    (1, st.sampled_from((b"", b"junk", b"ON\0x"))),
    (24, selector_rules),
)


def _spread(rules: list[bytes], at_blanks: bool) -> list[bytes]:
    """Selectors as they come when a shell has cut them at the blanks."""
    return [word for rule in rules for word in (rule.split(b" ") if at_blanks else [rule])]


definitions: Requests = st.builds(
    lambda name, rules, at_blanks: (b"ACL", b"SETUSER", name, *_spread(rules, at_blanks)),
    st.sampled_from((*USERS[:2], b"sp ace")),
    st.lists(user_rules, max_size=6),
    st.booleans(),
)

beginnings: Requests = st.builds(
    lambda name, rules: (b"ACL", b"SETUSER", name, *rules.split()),
    st.just(b"alice"),
    st.sampled_from(
        (
            b"+@all ~foo* %R~read %W~b[ao]r %RW~rw &news*",
            b"+@all %R~* %W~foo* &n* (+@all %W~read* allchannels) (+get +set ~bar)",
            b"+@all allkeys resetchannels &news",
            b"allchannels ~foo (+@read ~b*) (+@write -@dangerous %W~*) (+@pubsub resetchannels &news:*)",
            b"",
        )
    ),
)
"""Something to begin with: rules with which requests are refused for all kinds of reasons."""

_keys = st.sampled_from(KEYS)
_some_keys = st.lists(_keys, min_size=1, max_size=3).map(tuple)
_channel_names = st.sampled_from(CHANNELS)
_REQUESTS: tuple[bytes, ...] = tuple(
    b"""
    GET k|SET k v|SET k v GET|SET k v EX 10 get|SETEX k 10 v|GETSET k v|GETEX k|APPEND k v|STRLEN k|GETRANGE k 0 1|DEL k
    DEL k k|UNLINK k k|EXISTS k k|EXISTS k|MGET k k|MSET k v k v|MSETNX k v|RENAME k k|COPY k k|TYPE k|TOUCH k k
    OBJECT ENCODING k|OBJECT HELP|MEMORY USAGE k|DEBUG OBJECT k|DEBUG segfault|DEBUG sleep|DUMP k|RESTORE k 0 v
    MOVE k 1|EXPIRE k 10|TTL k|LPUSH k v|LPOP k|LLEN k|LMOVE k k LEFT LEFT|BLPOP k k 0|LMPOP 2 k k LEFT|LMPOP 5 k LEFT
    SADD k v|SCARD k|SINTERSTORE k k k|SINTERCARD 2 k k|SINTER k k|SMISMEMBER k v|SRANDMEMBER k|HGET k v|HSET k v v
    HLEN k|HSTRLEN k f|BITFIELD k GET u8 0|BITFIELD k SET u8 0 1|BITFIELD k get u8 0 GET u8 1|BITOP AND k k k|BITCOUNT k
    BITFIELD_RO k GET u8 0|PFADD k v|PFCOUNT k k|PFMERGE k k|ZADD k 1 v|ZCARD k|ZUNIONSTORE k 2 k k|ZUNION 2 k k
    ZINTERCARD 2 k k|ZRANGESTORE k k 0 1|ZMPOP 1 k MIN|BZPOPMIN k k 0|GEOADD k 1 1 v|GEORADIUS k 1 1 1 m
    GEORADIUS k 1 1 1 m STORE k|GEORADIUS k 1 1 1 m STORE k STOREDIST k|GEORADIUSBYMEMBER k v 1 m STORE k
    GEORADIUSBYMEMBER_RO k v 1 m|GEOSEARCHSTORE k k FROMMEMBER v BYRADIUS 1 m|SORT k|SORT k BY p* GET #|SORT k STORE k
    SORT_RO k|XADD k * f v|XLEN k|XREAD STREAMS k k 0 0|XREADGROUP GROUP g c STREAMS k >|XINFO STREAM k|XACK k g 1-1
    EVAL x 2 k k|EVAL x 0|EVAL x 9 k|EVAL_RO x 1 k|EVALSHA x 1 k|FCALL f 1 k|FCALL_RO f 0|MIGRATE h 1 k 0 1
    MIGRATE h 1 {} 0 1 KEYS k k|MIGRATE h 1 {} 0 1 AUTH2 KEYS k KEYS k|SUBSCRIBE c|SUBSCRIBE c c|PSUBSCRIBE c c
    SSUBSCRIBE c|UNSUBSCRIBE c|PUNSUBSCRIBE c|SUNSUBSCRIBE c|PUBLISH c v|SPUBLISH c v|PUBSUB CHANNELS|KEYS *|SCAN 0
    SELECT 0|SELECT 1|CONFIG GET x|CONFIG SET x y|CONFIG|CONFIG nosuch|CLIENT ID|CLIENT SETNAME x|CLIENT KILL x|PING
    AUTH x|HELLO|QUIT|RESET|MULTI|EXEC|WATCH k k|INFO|COMMAND|COMMAND COUNT|ACL WHOAMI|ACL SETUSER x|CLUSTER INFO
    CLUSTER KEYSLOT k|SLOWLOG GET|LATENCY DOCTOR|SCRIPT LOAD x|SCRIPT KILL|FUNCTION LIST|GET|GET k k|nosuch|nosuch k
    SWAPDB 0 1|FLUSHALL|SHUTDOWN|REPLICAOF h 1|MONITOR|LCS k k|SUBSTR k 0 1|WAIT 1 1|MODULE LIST|BLMPOP 0 2 k k LEFT
    """.replace(b"\n", b"|")
    .strip()
    .split(b"|")
)


@st.composite
def _dry_requests(draw: st.DrawFn) -> Request:
    """One of the requests above with keys for ``k`` and channels for ``c``."""
    template = draw(st.sampled_from([template.strip() for template in _REQUESTS if template.strip()]))
    found = []
    for word in template.split(b" "):
        if word == b"k":
            found.append(draw(_keys))
        elif word == b"c":
            found.append(draw(_channel_names))
        else:
            found.append(b"" if word == b"{}" else word)
    return tuple(found)


dry_runs: Requests = st.builds(
    lambda name, wanted: (b"ACL", b"DRYRUN", name, *wanted),
    st.sampled_from((*[b"alice"] * 6, *[b"bob"] * 2, b"default", b"nobody")),
    _dry_requests(),
)
_other_questions: Requests = st.sampled_from(
    [
        (b"ACL", *line.split())
        for line in (
            *(b"LIST", b"USERS", b"DELUSER bob", b"DELUSER alice nobody", b"DELUSER default", b"DELUSER alice default"),
            *(b"CAT nosuch", b"CAT READ x", b"SAVE", b"GENPASS 0", b"GENPASS 4097", b"GENPASS x", b"LOG x", b"LOG -1"),
            *(b"LOG 1 1", b"HELP", b"nosuch"),
        )
    ]
)
questions: Requests = weighted(
    (6, dry_runs),
    (2, st.builds(lambda name: (b"ACL", b"GETUSER", name), st.sampled_from((*USERS, b"nobody")))),
    (2, _other_questions),
)

SESSION_USERS = (b"alice", b"bob", b"default")
_session_passwords = st.sampled_from((b"one", b"two", b""))
_session_rules = st.lists(
    st.sampled_from(
        (
            *(b"on", b"on", b"off", b"nopass", b">one", b">two", b"resetpass", b"+@all", b"-@all", b"allkeys"),
            *(b"resetkeys", b"~foo*", b"%R~bar", b"%W~rw", b"allchannels", b"resetchannels", b"&news", b"-@dangerous"),
            *(
                b"+get",
                b"-get",
                b"-set",
                b"%R~*",
                b"+eval",
                b"-sort",
                b"+multi",
                b"-exec",
                b"+acl|whoami",
                b"-ping",
                b"+select|0",
                b"-select",
            ),
            *(b"-publish", b"+config|get", b"-config", b"reset", b"(+@read ~bar)", b"clearselectors", b"-hello"),
        )
    ),
    max_size=6,
)

_set_users = st.builds(
    lambda name, rules: (b"ACL", b"SETUSER", name, *rules), st.sampled_from(SESSION_USERS), _session_rules
)
changes_of_users: Requests = weighted(
    (8, _set_users),
    (1, st.builds(lambda name: (b"ACL", b"DELUSER", name), st.sampled_from(SESSION_USERS[:2]))),
    (1, st.sampled_from(((b"CONFIG", b"SET", b"requirepass", b"one"), (b"CONFIG", b"SET", b"requirepass", b"")))),
    (1, st.sampled_from((b"0", b"1", b"128")).map(lambda length: (b"CONFIG", b"SET", b"acllog-max-len", length))),
)
"""What an administrator does while others are connected."""

_logins: Requests = st.one_of(
    st.builds(
        lambda name, password: (b"AUTH", name, password),
        st.sampled_from((*SESSION_USERS, b"nobody")),
        _session_passwords,
    ),
    _session_passwords.map(lambda password: (b"auth", password)),
    st.builds(
        lambda name, password: (b"HELLO", b"2", b"AUTH", name, password),
        st.sampled_from(SESSION_USERS),
        _session_passwords,
    ),
    st.just((b"AUTH", b"a", b"b", b"c")),
)
_SORT_TAILS = ((b"BY", b"w*"), (b"BY", b"w"), (b"GET", b"#"), (b"GET", b"w*"), (b"STORE", b"bar"), ())
_scripts = st.builds(
    lambda script, key: (b"EVAL", script, b"1", key),
    st.sampled_from(
        (
            b"return redis.call('get', KEYS[1])",
            b"return redis.pcall('set', KEYS[1], 'v')",
            b"return {redis.pcall('get', 'foo'), redis.pcall('publish', 'news', 'm')}",
            b"return {redis.acl_check_cmd('get', KEYS[1]), redis.acl_check_cmd('publish', 'news', 'm')}",
            b"return redis.pcall('config', 'get', 'maxmemory')",
            b"return redis.acl_check_cmd('nosuch')",
        )
    ),
    _keys,
)
_plain_requests = st.sampled_from(
    [
        tuple(line.split())
        for line in (
            *(b"PING", b"RESET", b"WATCH foo", b"ACL WHOAMI", b"SELECT 0", b"SELECT 1", b"CONFIG GET maxmemory"),
            *(b"CONFIG NOSUCH", b"CLIENT SETNAME x", b"CLIENT GETNAME", b"HELLO", b"HELLO 4", b"NOSUCH", b"GET"),
            *(b"ECHO " + b"x" * 100, b"DBSIZE", b"COMMAND COUNT x", b"PUBLISH news m", b"PUBLISH other m"),
            *(b"FLUSHALL", b"SPUBLISH other m"),
        )
    ]
)
_with_keys = st.one_of(
    st.builds(lambda key, tail: (b"SORT", key, *tail), _keys, st.sampled_from(_SORT_TAILS)),
    st.builds(lambda key: (b"OBJECT", b"ENCODING", key), _keys),
    st.builds(lambda key: (b"GET", key), _keys),
    st.builds(lambda key: (b"SET", key, b"v"), _keys),
    st.builds(lambda key: (b"SET", key, b"v", b"GET"), _keys),
    st.builds(lambda names: (b"MGET", *names), _some_keys),
    st.builds(lambda names: (b"DEL", *names), _some_keys),
    st.builds(lambda source, target: (b"COPY", source, target), _keys, _keys),
)
everyday_requests: Requests = weighted(
    (4, _logins),
    (4, st.sampled_from(((b"MULTI",), (b"EXEC",), (b"EXEC",), (b"DISCARD",)))),
    (4, _plain_requests),
    (3, _scripts),
    (8, _with_keys),
)
"""What clients of restricted users ask, allowed or not."""
