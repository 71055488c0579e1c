"""Requests to strings as bits and as HyperLogLogs."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.vocabulary import Requests, integers, keys, many, request, words

_edges = st.sampled_from((b"0", b"-1", b"8", b"9223372036854775807", b"-9223372036854775808", b"x", b"1.0"))
_ends = st.one_of(
    st.integers(-70, 70).map(lambda n: b"%d" % n), st.integers(-600, 600).map(lambda n: b"%d" % n), _edges
)
_small = st.integers(0, 300).map(lambda n: b"%d" % n)
_ranges = st.one_of(
    st.lists(_ends, max_size=2).map(tuple),
    st.tuples(_ends, _ends),
    st.tuples(_ends, _ends, words("BIT BYTE OTHER")),
    st.tuples(_ends, _ends, words("BIT"), words("BIT")),
)
_contents = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda filler, size, tail: filler * size + tail, st.sampled_from((b"\x00", b"\xff")),
              st.sampled_from((0, 1, 7, 8, 40, 300)), st.binary(max_size=2)),
    st.sampled_from((b"123", b"", b"foobar")),
)  # fmt: skip

_types = st.one_of(
    st.builds(lambda sign, width: b"%b%d" % (sign, width), st.sampled_from((b"u", b"i")), st.integers(1, 63)),
    st.sampled_from((b"i64", b"u64", b"u0", b"i65", b"x8", b"i", b"", b"u8\x00x", b"U8", b"u08")),
)
_places = st.one_of(
    st.integers(0, 100).map(lambda n: b"%d" % n),
    st.integers(0, 12).map(lambda n: b"#%d" % n),
    st.sampled_from((b"-1", b"#-1", b"#", b"#9223372036854775807", b"#4611686018427387904", b"8388607", b"x")),
)
_amounts = st.one_of(
    st.integers(-300, 300).map(lambda n: b"%d" % n), st.integers(-(2**63), 2**63 - 1).map(lambda n: b"%d" % n), integers
)
_reads = st.tuples(words("GET"), _types, _places)
_operations = st.one_of(
    _reads,
    st.tuples(words("SET"), _types, _places, _amounts),
    st.tuples(words("INCRBY"), _types, _places, _amounts),
    st.tuples(words("INCRBY"), _types, _places, _amounts),
    st.tuples(words("OVERFLOW"), words("WRAP SAT FAIL FAIL OTHER")),
    st.tuples(words("GET OTHER OVERFLOW")),
)


def _fields(name: str, operation: st.SearchStrategy[tuple[bytes, ...]]) -> Requests:
    return st.builds(
        lambda word, key, parts: (word, key, *sum(parts, ())), words(name), keys, st.lists(operation, max_size=4)
    )


requests: Requests = st.one_of(
    request("SET", keys, _contents),
    request("SETBIT", keys, _small, st.sampled_from((b"0", b"1", b"1", b"2", b"x"))),
    request("GETBIT", keys, st.one_of(_small, _edges)),
    st.builds(lambda name, key, rest: (name, key, *rest), words("BITCOUNT"), keys, _ranges),
    st.builds(
        lambda name, key, bit, rest: (name, key, bit, *rest), words("BITPOS"), keys,
        st.sampled_from((b"0", b"1", b"0", b"1", b"2", b"x")), _ranges,
    ),
    st.builds(
        lambda name, operation, names: (name, operation, *names), words("BITOP"), words("AND OR XOR NOT NOT OTHER"),
        st.lists(keys, min_size=1, max_size=4),
    ),
    _fields("BITFIELD", _operations),
    _fields("BITFIELD", _operations),
    _fields("BITFIELD_RO", st.one_of(_reads, _reads, _reads, _operations)),
)  # fmt: skip

_elements = st.one_of(st.integers(0, 2000).map(lambda n: b"%d" % n), st.binary(max_size=24))
_damages = st.sampled_from((b"\x00", b"\x40", b"\x7f", b"\x80", b"\x84", b"\xff", b"HYLL", b"\x01"))
hyperloglogs: Requests = st.one_of(
    st.builds(
        lambda name, key, first, count: (name, key, *(b"%d" % n for n in range(first, first + count))),
        words("PFADD"), keys, st.integers(0, 3000), st.sampled_from((0, 1, 5, 20, 200, 1500)),
    ),
    many("PFADD", keys, most=2),
    st.builds(lambda name, key, some: (name, key, *some), words("PFADD"), keys, st.lists(_elements, max_size=40)),
    many("PFCOUNT", keys, least=1, most=3),
    many("PFMERGE", keys, least=1, most=4),
    request("PFDEBUG", words("GETREG DECODE ENCODING TODENSE TODENSE OTHER"), keys),
    request("PFDEBUG", words("GETREG DECODE ENCODING TODENSE OTHER"), keys, keys),
    request("SETRANGE", keys, st.integers(0, 60).map(lambda n: b"%d" % n), _damages),
    request("APPEND", keys, _damages),
)  # fmt: skip
