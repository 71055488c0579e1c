"""Requests that belong to no type: LCS, scripts and functions, clients, introspection, what operators ask for.

What is never the same twice (times, ids, sizes of memory) is not asked for, or only in a form that is refused.
"""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.vocabulary import (
    Request,
    Requests,
    integers,
    keys,
    many,
    option,
    request,
    values,
    with_options,
    words,
)

_names = st.sampled_from((b"a", b"b", b"", b"no such", b"a\n", b"lib", b"f", b"g"))
_patterns = st.sampled_from((b"*", b"a*", b"[", b"", b"max*", b"nosuch"))
_counts = st.one_of(integers, st.sampled_from((b"0", b"1", b"2", b"-1")))
_stray = st.one_of(words("ON OFF YES NO HELP SYNC ASYNC"), values)


def _text(line: str) -> Request:
    return tuple(line.encode().split())


def _one_of(lines: str) -> Requests:
    """One of several requests between semicolons, with a stray word now and then."""
    requests = [_text(line) for line in lines.split(";")]
    tails = st.sampled_from(((), (), (), (b"x",), (b"1",), (b"", b"")))
    return st.builds(lambda request, tail: (*request, *tail), st.sampled_from(requests), tails)


strings: Requests = st.one_of(
    with_options(
        "LCS",
        keys,
        keys,
        options=st.one_of(option("IDX LEN WITHMATCHLEN OTHER"), st.tuples(words("MINMATCHLEN"), _counts)),
    ),
    st.builds(
        lambda key, size, tail: (b"SET", key, (b"abcab" * 9)[:size] + tail),
        keys,
        st.integers(0, 40),
        st.sampled_from((b"", b"ab", b"zz", b"ba")),
    ),
)

_bodies = st.sampled_from(
    (
        b"return 1", b"return KEYS", b"return ARGV", b"return {KEYS[1], ARGV[1]}", b"return redis.call('GET', KEYS[1])",
        b"return redis.call('SET', KEYS[1], ARGV[1])", b"return redis.pcall('INCR', KEYS[1])", b"not lua", b"",
        b"#!lua\nreturn redis.call('GET', KEYS[1])", b"#!lua flags=no-writes\nreturn redis.call('SET', KEYS[1], '1')",
        b"#!lua flags=no-writes,allow-stale,no-cluster\nreturn 1", b"#!lua flags=allow-cross-slot-keys\nreturn 2",
        b"#!lua flags=nosuch\nreturn 1", b"#!lua nosuch=1\nreturn 1", b"#!nosuch\nreturn 1", b"#!lua", b"#!",
        b"#!lua flags=allow-oom,no-writes\nreturn redis.call('PFCOUNT', KEYS[1])",
        b"redis.setresp(3) return redis.call('HGETALL', KEYS[1])",
        b"return redis.call('MGET', KEYS[1], ARGV[1])",
    )
)  # fmt: skip
_digests = st.sampled_from(
    (
        b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db", b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB", b"", b"x" * 40,
        b"4ca238f611c9d0ae4e9a75a5dbac22aedc1e44af",
    )
)  # fmt: skip
_key_counts = st.sampled_from((b"0", b"1", b"1", b"1", b"2", b"-1", b"x", b"9223372036854775807"))
_arguments = st.lists(st.one_of(keys, keys, values), max_size=3)
_libraries = st.sampled_from(
    (
        b"#!lua name=lib\nredis.register_function('f', function(keys, args) return {keys, args} end)",
        b"#!lua name=lib\nredis.register_function('g', function(keys, args) return redis.call('GET', keys[1]) end)",
        b"#!lua name=other\nredis.register_function{function_name='f', callback=function(k, a) return 7 end, "
        b"flags={'no-writes'}, description='d'}",
        b"#!lua name=third\nredis.register_function{function_name='w', callback=function(k, a) return "
        b"redis.call('SET', k[1], a[1]) end, flags={'no-writes'}}",
        b"#!lua name=lib\n", b"#!lua\nredis.register_function('f', 1)", b"#!lua name=a b\nx",
        b"#!lua name=lib nosuch=1\n",
        b"#!nosuch name=lib\n", b"redis.register_function('f', function() end)", b"", b"#!lua name=lib\nnot lua",
        b"#!lua name=x\nredis.call('PING')", b"#!lua name=y\nreturn redis.nosuch", b"#!lua name=z\nx = 1",
        b"#!lua name=q\nredis.register_function('bad name', function() end)",
        b"#!lua name=q\nredis.register_function{function_name='f', nosuch=1}",
        b"#!lua name=q\nredis.register_function{function_name='f', callback=function() end, flags={'nosuch'}}",
        b"#!lua name=q\nredis.register_function('one') ",
    )
)  # fmt: skip
_functions = st.sampled_from((b"f", b"g", b"w", b"nosuch", b""))

scripts: Requests = st.one_of(
    st.builds(
        lambda name, body, count, arguments: (name, body, count, *arguments),
        words("EVAL EVAL EVAL_RO"), _bodies, _key_counts, _arguments,
    ),
    st.builds(
        lambda name, digest, count, arguments: (name, digest, count, *arguments),
        words("EVALSHA EVALSHA_RO"), _digests, _key_counts, _arguments,
    ),
    request("SCRIPT", words("LOAD"), _bodies),
    many("SCRIPT", _digests, most=3).map(lambda drawn: (drawn[0], b"EXISTS", *drawn[1:])),
    _one_of(
        "SCRIPT FLUSH; SCRIPT FLUSH SYNC; SCRIPT FLUSH ASYNC; SCRIPT KILL; SCRIPT DEBUG NO; SCRIPT DEBUG x"
    ),
    request("FUNCTION", words("LOAD"), _libraries),
    request("FUNCTION", words("LOAD"), words("REPLACE REPLACE OTHER"), _libraries),
    request("FUNCTION", words("DELETE"), st.sampled_from((b"lib", b"other", b"third", b"nosuch"))),
    _one_of(
        "FUNCTION FLUSH; FUNCTION FLUSH SYNC; FUNCTION FLUSH ASYNC; FUNCTION FLUSH x; FUNCTION KILL; "
        "FUNCTION STATS; FUNCTION LIST LIBRARYNAME lib; FUNCTION LIST LIBRARYNAME lib WITHCODE; "
        "FUNCTION LIST WITHCODE LIBRARYNAME oth*; FUNCTION LIST LIBRARYNAME; FUNCTION LIST WITHCODE WITHCODE; "
        "FUNCTION LIST x; FUNCTION RESTORE x; FUNCTION RESTORE x FLUSH; FUNCTION RESTORE x APPEND; "
        "FUNCTION RESTORE x y; FUNCTION HELP; FUNCTION DUMP x"
    ),
    st.builds(
        lambda name, function, count, arguments: (name, function, count, *arguments),
        words("FCALL FCALL FCALL_RO"), _functions, _key_counts, _arguments,
    ),
)  # fmt: skip

clients: Requests = st.one_of(
    request("CLIENT", words("SETNAME"), _names),
    request("CLIENT", words("GETNAME GETREDIR TRACKINGINFO UNPAUSE HELP CACHING TRACKING UNBLOCK")),
    request("CLIENT", words("CACHING"), words("YES NO MAYBE")),
    with_options(
        "CLIENT",
        words("TRACKING"),
        words("ON ON OFF x"),
        options=st.one_of(
            option("BCAST OPTIN OPTOUT NOLOOP x"),
            st.tuples(words("PREFIX"), st.sampled_from((b"", b"{t}", b"{t}a", b"q"))),
            st.tuples(words("REDIRECT"), st.sampled_from((b"0", b"-1", b"99999999", b"x"))),
        ),
    ),
    with_options(
        "CLIENT",
        words("KILL LIST"),
        options=st.one_of(
            st.tuples(words("ID"), st.sampled_from((b"99999999", b"x", b"-1", b"0"))),
            st.tuples(words("TYPE"), words("MASTER x")),
            st.tuples(words("ADDR LADDR"), st.just(b"1.2.3.4:5")),
            st.tuples(words("USER"), st.just(b"nosuch")),
            option("ID TYPE x"),
        ),
    ).filter(lambda drawn: len(drawn) > 2),
    _one_of(
        "CLIENT KILL 1.2.3.4:5; CLIENT KILL TYPE master SKIPME x; CLIENT KILL TYPE master SKIPME no; "
        "CLIENT NO-EVICT ON; CLIENT NO-EVICT OFF; CLIENT NO-EVICT x; CLIENT PAUSE x; CLIENT PAUSE -1; "
        "CLIENT PAUSE 0; CLIENT PAUSE 0 WRITE; CLIENT PAUSE 0 x; CLIENT REPLY x; CLIENT REPLY ON; "
        "CLIENT UNBLOCK 99999999; CLIENT UNBLOCK x; CLIENT UNBLOCK 99999999 ERROR; CLIENT UNBLOCK 99999999 x; "
        "AUTH x; AUTH x y; AUTH x y z; AUTH default x; HELLO 3 AUTH; HELLO 3 AUTH x y; HELLO 2 SETNAME; "
        "HELLO 2 SETNAME a\\x00b; ECHO; PING 1 2; SELECT; WAIT 0 -1; WAIT x 0; WAIT 0 x; WAIT 0; READONLY; "
        "READWRITE; ASKING; ACL WHOAMI; ACL CAT nosuch; ACL GETUSER nosuch; ACL DELUSER nosuch; "
        "ACL DELUSER default; ACL DRYRUN; ACL DRYRUN default GET k; ACL DRYRUN default GET; "
        "ACL DRYRUN nosuch GET k; ACL LOG x; ACL LOG RESET; ACL GENPASS x; ACL LOAD; ACL SAVE; "
        "ACL SETUSER x nosuch; ACL USERS; ACL LIST"
    ),
)

introspection: Requests = st.one_of(
    request("COMMAND", words("COUNT INFO DOCS GETKEYS")).filter(lambda drawn: drawn[1].upper() == b"COUNT"),
    request("COMMAND", words("DOCS"), st.sampled_from((b"get", b"config|get", b"nosuch", b"xadd", b"client|kill"))),
    st.builds(
        lambda name, request: (b"COMMAND", name, *request),
        words("GETKEYS GETKEYSANDFLAGS"),
        st.one_of(
            strings,
            st.builds(lambda *drawn: drawn, words("SET GET MSET ZUNION SORT EVAL XREAD PING"), keys, keys, keys),
        ),
    ),
    _one_of(
        "COMMAND LIST FILTERBY; COMMAND LIST FILTERBY x y; COMMAND LIST FILTERBY MODULE x; COMMAND LIST x; "
        "COMMAND LIST FILTERBY PATTERN getex; COMMAND LIST FILTERBY ACLCAT nosuch; COMMAND HELP; "
        "CONFIG GET nosuch; CONFIG GET maxmemory; CONFIG GET MAXMEMORY maxmemory; CONFIG GET; CONFIG SET x y; "
        "CONFIG SET maxmemory x; CONFIG SET maxmemory 0; CONFIG SET maxmemory; CONFIG SET maxmemory 0 maxmemory 0; "
        "CONFIG SET maxmemory 0 x; CONFIG SET list-max-listpack-size 4 list-compress-depth x; CONFIG REWRITE; "
        "CONFIG HELP; DEBUG NOSUCH; DEBUG SLEEP x; DEBUG STRINGMATCH-LEN 5 x; DEBUG OBJECT nosuch; "
        "DEBUG DIGEST-VALUE nosuch; DEBUG DIGEST; INFO nosuch; INFO nosuch other; INFO errorstats; LATENCY LATEST; "
        "LATENCY HISTORY x; LATENCY GRAPH x; LATENCY RESET; LATENCY RESET x; LATENCY HISTOGRAM nosuch; LATENCY x; "
        "LATENCY HELP; LOLWUT VERSION; MEMORY USAGE nosuch; MEMORY USAGE nosuch SAMPLES; "
        "MEMORY USAGE nosuch SAMPLES x; MEMORY USAGE {t}a SAMPLES -1; MEMORY x; MEMORY HELP; MODULE LIST; "
        "MODULE LOAD; MODULE UNLOAD x; MODULE LOADEX; MODULE HELP; OBJECT HELP; SLOWLOG LEN; SLOWLOG RESET; "
        "SLOWLOG GET 0; SLOWLOG GET x; SLOWLOG GET -2; SLOWLOG x; PUBSUB CHANNELS; PUBSUB CHANNELS a*; "
        "PUBSUB NUMSUB; PUBSUB NUMSUB a b; PUBSUB NUMPAT; PUBSUB SHARDCHANNELS; PUBSUB SHARDCHANNELS a; "
        "PUBSUB SHARDNUMSUB a; PUBSUB x; PUBLISH a; PUBLISH a b; SPUBLISH a b; UNSUBSCRIBE; PUNSUBSCRIBE a; "
        "SUNSUBSCRIBE; PFSELFTEST x; PFDEBUG x; TIME x; ROLE x; LASTSAVE x; SAVE x; BGSAVE x; BGREWRITEAOF x; "
        "REPLICAOF x; SLAVEOF NO; REPLICAOF NO ONE; REPLICAOF 127.0.0.1 x; FAILOVER x; FAILOVER ABORT; "
        "FAILOVER TO x; FAILOVER TIMEOUT 0; PSYNC x; REPLCONF x; SHUTDOWN x; SHUTDOWN ABORT; SHUTDOWN SAVE NOSAVE; "
        "MONITOR x; RESTORE-ASKING {t}a 0 x; RESTORE-ASKING {t}a 0 x REPLACE ABSTTL IDLETIME 5; MIGRATE; "
        "MIGRATE a 1 k 0 x; MIGRATE a 1 k x 1; MIGRATE 127.0.0.1 1 nosuch 0 1; MIGRATE 127.0.0.1 1 k 0 1 x; "
        "MIGRATE 127.0.0.1 1 k 0 1 KEYS a; MIGRATE 127.0.0.1 1 k 0 1 AUTH; MIGRATE 127.0.0.1 1 k 0 1 AUTH2 a; "
        "MIGRATE 127.0.0.1 1 nosuch 0 1 COPY REPLACE"
    ),
)

without_cluster: Requests = _one_of(
    "CLUSTER INFO; CLUSTER NODES; CLUSTER SLOTS; CLUSTER MYID; CLUSTER KEYSLOT a; CLUSTER x; CLUSTER HELP; "
    "CLUSTER SHARDS; CLUSTER RESET x; CLUSTER SETSLOT 1 x; CLUSTER MEET a b; CLUSTER REPLICATE x; "
    "CLUSTER COUNTKEYSINSLOT 1; CLUSTER LINKS; CLUSTER FAILOVER x; CLUSTER FORGET x; CLUSTER ADDSLOTS 1; "
    "CLUSTER SAVECONFIG; CLUSTER BUMPEPOCH; CLUSTER"
)
"""For servers that are not in cluster mode."""

requests: Requests = st.one_of(strings, scripts, scripts, clients, introspection)
