"""Requests that belong to no type: LCS, scripts and functions, clients, introspection, and commands of a server's operator.

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
    """One of several lines, with a stray word now and then."""
    requests = [_text(line) for line in lines.strip().splitlines()]
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
        b"#!lua name=lib\n", b"#!lua\nredis.register_function('f', 1)", b"#!lua name=a b\nx", b"#!lua name=lib nosuch=1\n",
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
    _one_of("SCRIPT FLUSH\nSCRIPT FLUSH SYNC\nSCRIPT FLUSH ASYNC\nSCRIPT KILL\nSCRIPT DEBUG NO\nSCRIPT DEBUG x"),
    request("FUNCTION", words("LOAD"), _libraries),
    request("FUNCTION", words("LOAD"), words("REPLACE REPLACE OTHER"), _libraries),
    request("FUNCTION", words("DELETE"), st.sampled_from((b"lib", b"other", b"third", b"nosuch"))),
    _one_of(
        "FUNCTION FLUSH\nFUNCTION FLUSH SYNC\nFUNCTION FLUSH ASYNC\nFUNCTION FLUSH x\nFUNCTION KILL\nFUNCTION STATS\n"
        "FUNCTION LIST LIBRARYNAME lib\nFUNCTION LIST LIBRARYNAME lib WITHCODE\nFUNCTION LIST WITHCODE LIBRARYNAME oth*\n"
        "FUNCTION LIST LIBRARYNAME\nFUNCTION LIST WITHCODE WITHCODE\nFUNCTION LIST x\nFUNCTION RESTORE x\n"
        "FUNCTION RESTORE x FLUSH\nFUNCTION RESTORE x APPEND\nFUNCTION RESTORE x y\nFUNCTION HELP\nFUNCTION DUMP x"
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
        "CLIENT KILL 1.2.3.4:5\nCLIENT KILL TYPE master SKIPME x\nCLIENT KILL TYPE master SKIPME no\nCLIENT NO-EVICT ON\n"
        "CLIENT NO-EVICT OFF\nCLIENT NO-EVICT x\nCLIENT PAUSE x\nCLIENT PAUSE -1\nCLIENT PAUSE 0\nCLIENT PAUSE 0 WRITE\n"
        "CLIENT PAUSE 0 x\nCLIENT REPLY x\nCLIENT REPLY ON\nCLIENT UNBLOCK 99999999\nCLIENT UNBLOCK x\n"
        "CLIENT UNBLOCK 99999999 ERROR\nCLIENT UNBLOCK 99999999 x\nAUTH x\nAUTH x y\nAUTH x y z\nAUTH default x\n"
        "HELLO 3 AUTH\nHELLO 3 AUTH x y\nHELLO 2 SETNAME\nHELLO 2 SETNAME a\\x00b\nECHO\nPING 1 2\n"
        "SELECT\nWAIT 0 -1\nWAIT x 0\nWAIT 0 x\nWAIT 0\nREADONLY\nREADWRITE\nASKING\nACL WHOAMI\nACL CAT nosuch\n"
        "ACL GETUSER nosuch\nACL DELUSER nosuch\nACL DELUSER default\nACL DRYRUN\nACL DRYRUN default GET k\n"
        "ACL DRYRUN default GET\nACL DRYRUN nosuch GET k\nACL LOG x\nACL LOG RESET\nACL GENPASS x\nACL LOAD\nACL SAVE\n"
        "ACL SETUSER x nosuch\nACL USERS\nACL LIST"
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
        "COMMAND LIST FILTERBY\nCOMMAND LIST FILTERBY x y\nCOMMAND LIST FILTERBY MODULE x\nCOMMAND LIST x\n"
        "COMMAND LIST FILTERBY PATTERN getex\nCOMMAND LIST FILTERBY ACLCAT nosuch\nCOMMAND HELP\nCONFIG GET nosuch\n"
        "CONFIG GET maxmemory\nCONFIG GET MAXMEMORY maxmemory\nCONFIG GET\nCONFIG SET x y\nCONFIG SET maxmemory x\n"
        "CONFIG SET maxmemory 0\nCONFIG SET maxmemory\nCONFIG SET maxmemory 0 maxmemory 0\nCONFIG SET maxmemory 0 x\n"
        "CONFIG SET list-max-listpack-size 4 list-compress-depth x\nCONFIG REWRITE\nCONFIG HELP\nDEBUG NOSUCH\n"
        "DEBUG SLEEP x\nDEBUG STRINGMATCH-LEN 5 x\nDEBUG OBJECT nosuch\nDEBUG DIGEST-VALUE nosuch\nDEBUG DIGEST\n"
        "INFO nosuch\nINFO nosuch other\nINFO errorstats\nLATENCY LATEST\nLATENCY HISTORY x\nLATENCY GRAPH x\n"
        "LATENCY RESET\nLATENCY RESET x\nLATENCY HISTOGRAM nosuch\nLATENCY x\nLATENCY HELP\nLOLWUT VERSION\n"
        "MEMORY USAGE nosuch\nMEMORY USAGE nosuch SAMPLES\nMEMORY USAGE nosuch SAMPLES x\nMEMORY USAGE {t}a SAMPLES -1\n"
        "MEMORY x\nMEMORY HELP\nMODULE LIST\nMODULE LOAD\nMODULE UNLOAD x\nMODULE LOADEX\nMODULE HELP\nOBJECT HELP\n"
        "SLOWLOG LEN\nSLOWLOG RESET\nSLOWLOG GET 0\nSLOWLOG GET x\nSLOWLOG GET -2\nSLOWLOG x\nPUBSUB CHANNELS\n"
        "PUBSUB CHANNELS a*\nPUBSUB NUMSUB\nPUBSUB NUMSUB a b\nPUBSUB NUMPAT\nPUBSUB SHARDCHANNELS\nPUBSUB SHARDCHANNELS a\n"
        "PUBSUB SHARDNUMSUB a\nPUBSUB x\nPUBLISH a\nPUBLISH a b\nSPUBLISH a b\nUNSUBSCRIBE\nPUNSUBSCRIBE a\nSUNSUBSCRIBE\n"
        "PFSELFTEST x\nPFDEBUG x\nTIME x\nROLE x\nLASTSAVE x\nSAVE x\nBGSAVE x\nBGREWRITEAOF x\nREPLICAOF x\nSLAVEOF NO\n"
        "REPLICAOF NO ONE\nREPLICAOF 127.0.0.1 x\nFAILOVER x\nFAILOVER ABORT\nFAILOVER TO x\nFAILOVER TIMEOUT 0\n"
        "PSYNC x\nREPLCONF x\nSHUTDOWN x\nSHUTDOWN ABORT\nSHUTDOWN SAVE NOSAVE\nMONITOR x\nRESTORE-ASKING {t}a 0 x\n"
        "RESTORE-ASKING {t}a 0 x REPLACE ABSTTL IDLETIME 5\nMIGRATE\nMIGRATE a 1 k 0 x\nMIGRATE a 1 k x 1\n"
        "MIGRATE 127.0.0.1 1 nosuch 0 1\nMIGRATE 127.0.0.1 1 k 0 1 x\nMIGRATE 127.0.0.1 1 k 0 1 KEYS a\n"
        "MIGRATE 127.0.0.1 1 k 0 1 AUTH\nMIGRATE 127.0.0.1 1 k 0 1 AUTH2 a\nMIGRATE 127.0.0.1 1 nosuch 0 1 COPY REPLACE"
    ),
)

without_cluster: Requests = _one_of(
    "CLUSTER INFO\nCLUSTER NODES\nCLUSTER SLOTS\nCLUSTER MYID\nCLUSTER KEYSLOT a\nCLUSTER x\nCLUSTER HELP\nCLUSTER SHARDS\n"
    "CLUSTER RESET x\nCLUSTER SETSLOT 1 x\nCLUSTER MEET a b\nCLUSTER REPLICATE x\nCLUSTER COUNTKEYSINSLOT 1\nCLUSTER LINKS\n"
    "CLUSTER FAILOVER x\nCLUSTER FORGET x\nCLUSTER ADDSLOTS 1\nCLUSTER SAVECONFIG\nCLUSTER BUMPEPOCH\nCLUSTER"
)
"""For servers that are not in cluster mode."""

requests: Requests = st.one_of(strings, scripts, scripts, clients, introspection)
