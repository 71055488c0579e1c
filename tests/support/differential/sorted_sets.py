"""Requests to sorted sets. What is drawn at random is asked for so that only one answer, or one size, is possible."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.hashes import scan_options
from tests.support.differential.vocabulary import Requests, keys, many, request, with_options, words

MEMBERS = (b"a", b"b", b"c", b"ab", b"1", b"-7", b"", b"x" * 64, b"x" * 65, b"\x00\r\n\xff", b"01")
members = st.one_of(st.sampled_from(MEMBERS[:5]), st.sampled_from(MEMBERS), st.integers(0, 9).map(lambda n: b"%d" % n))

GOOD_SCORES = (
    b"0", b"1", b"2", b"-1", b"1.5", b"0.1", b"-0", b"0.0", b"inf", b"-inf", b"+inf", b"1e3", b"1e17", b"1e-5", b".5",
    b"123456789012345678", b"9223372036854775807", b"4611686018427387904", b"1e300", b"5e-324", b"0x10", b"3.",
    b"0.30000000000000004", b"-1.7976931348623157e308",
)  # fmt: skip
BAD_SCORES = (
    b"nan",
    b"-nan",
    b"x",
    b"",
    b" 1",
    b"1 ",
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"0e-400",
    b"1_0",
    b"1\x00",
    b"0x",
)
scores = st.one_of(
    st.sampled_from(GOOD_SCORES[:6]),
    st.sampled_from(GOOD_SCORES),
    st.integers(-3, 3).map(lambda n: b"%d" % n),
    st.floats(allow_nan=False).map(lambda number: repr(number).encode()),
)
any_scores = st.one_of(scores, scores, scores, scores, st.sampled_from(BAD_SCORES))

_pairs = st.lists(st.tuples(scores, members), min_size=1, max_size=4).map(lambda pairs: sum(pairs, ()))
_any_pairs = st.lists(st.tuples(any_scores, members), max_size=3).map(lambda pairs: sum(pairs, ()))
_add_options = st.lists(words("NX XX GT LT CH INCR CH"), max_size=3)

_ranks = st.one_of(
    st.integers(-6, 6).map(lambda n: b"%d" % n),
    st.sampled_from((b"0", b"-1", b"1", b"9223372036854775807", b"-9223372036854775808", b"x", b"1.5", b"")),
)
_score_bounds = st.one_of(
    scores,
    st.sampled_from((b"-inf", b"+inf", b"(1", b"(0", b"(inf", b"(-inf", b"(2")),
    st.sampled_from(
        (b"(", b"", b"((1", b" 1", b"1 ", b"nan", b"(nan", b"x", b"1e400", b"1e-400", b"1\x00x", b"( 1", b"[1")
    ),
)
_byte_bounds = st.one_of(
    st.sampled_from((b"-", b"+", b"[a", b"(a", b"[b", b"(c", b"[1", b"[", b"(", b"[x", b"[\xff", b"-", b"+")),
    st.sampled_from((b"", b"a", b"+x", b"-x", b"+\x00", b"-\x00x", b"]a", b"1")),
)
_limits = st.one_of(
    st.tuples(words("LIMIT"), _ranks, _ranks),
    st.tuples(words("LIMIT"), st.sampled_from((b"0", b"1", b"2")), st.sampled_from((b"1", b"2", b"-1", b"0"))),
    st.tuples(words("LIMIT"), _ranks),
)
_range_options = st.one_of(st.tuples(words("WITHSCORES REV BYSCORE BYLEX OTHER")), _limits)
_old_options = st.one_of(st.tuples(words("WITHSCORES")), _limits, _limits, st.tuples(words("REV BYSCORE")))


def _range_of(name: str, bounds: st.SearchStrategy[bytes], by: str, *first: st.SearchStrategy[bytes]) -> Requests:
    """ZRANGE or ZRANGESTORE of one kind, mostly with options that fit."""
    tail = st.lists(st.one_of(st.tuples(words("WITHSCORES")), st.tuples(words("REV")), _limits), max_size=2)
    return st.builds(
        lambda head, kind, options: (*head, *kind, *sum(options, ())),
        request(name, *first, keys, bounds, bounds),
        st.sampled_from([(by.encode(),), (by.lower().encode(),)] if by else [()]),
        tail,
    )


_key_counts = st.sampled_from((b"1", b"2", b"2", b"3", b"0", b"-1", b"x", b"9223372036854775807"))
_weights = st.one_of(st.sampled_from((b"1", b"2", b"-1", b"0", b"0.5", b"inf", b"-inf", b"1e300")), any_scores)
_algebra_options = st.one_of(
    st.tuples(words("WEIGHTS"), _weights),
    st.tuples(words("WEIGHTS"), _weights, _weights),
    st.tuples(words("WEIGHTS"), _weights, _weights, _weights),
    st.tuples(words("AGGREGATE"), words("SUM MIN MAX MIN MAX OTHER")),
    st.tuples(words("WITHSCORES")),
    st.tuples(words("WEIGHTS AGGREGATE OTHER")),
    st.tuples(words("LIMIT"), st.sampled_from((b"0", b"1", b"2", b"-1", b"x"))),
)


def _algebra(name: str, *first: st.SearchStrategy[bytes]) -> Requests:
    fitting = st.lists(keys, min_size=1, max_size=3).map(lambda names: (b"%d" % len(names), *names))
    any_count = st.tuples(_key_counts, st.lists(keys, max_size=3)).map(lambda drawn: (drawn[0], *drawn[1]))
    return st.builds(
        lambda head, named, tail: (*head, *named, *sum(tail, ())),
        request(name, *first),
        st.one_of(fitting, fitting, fitting, any_count),
        st.lists(_algebra_options, max_size=2),
    )


_pop_counts = st.sampled_from((b"0", b"1", b"2", b"3", b"100", b"-1", b"x", b"9223372036854775807"))
_draw_counts = st.sampled_from(
    (b"0", b"100", b"-3", b"1", b"-9223372036854775808", b"9223372036854775807", b"x", b"1.5", b"-0")
)
_ends = words("MIN MAX MIN MAX MIDDLE")
_count_options = st.one_of(st.tuples(words("COUNT"), _pop_counts), st.tuples(words("COUNT OTHER")))
_several_keys = st.lists(keys, min_size=1, max_size=3)
# Every way in which a time-out is refused; those that are taken are short.
_timeouts = st.sampled_from((b"0.001", b"0.002", b"1e-9", b"-1", b"x", b"inf", b""))

requests: Requests = st.one_of(
    st.builds(lambda name, key, pairs: (name, key, *pairs), words("ZADD"), keys, _pairs),
    st.builds(lambda name, key, pairs: (name, key, *pairs), words("ZADD"), keys, _pairs),
    st.builds(
        lambda name, key, options, pairs: (name, key, *options, *pairs), words("ZADD"), keys, _add_options, _any_pairs
    ),
    st.builds(
        lambda name, key, options, score, member: (name, key, b"INCR", *options, score, member),
        words("ZADD"), keys, _add_options, any_scores, members,
    ),
    request("ZINCRBY", keys, any_scores, members),
    many("ZREM ZMSCORE", members, most=1),
    st.builds(
        lambda name, key, names: (name, key, *names), words("ZREM ZMSCORE"), keys, st.lists(members, max_size=4)
    ),
    request("ZSCORE ZRANK ZREVRANK", keys, members),
    request("ZCARD ZRANDMEMBER ZPOPMIN ZPOPMAX", keys),
    request("ZPOPMIN ZPOPMAX", keys, _pop_counts),
    request("ZPOPMIN ZPOPMAX", keys, _pop_counts, _pop_counts),
    request("ZRANDMEMBER", keys, _draw_counts),
    request("ZRANDMEMBER", keys, _draw_counts, words("WITHSCORES WITHVALUES")),
    with_options("ZRANGE", keys, st.one_of(_ranks, _score_bounds, _byte_bounds), _ranks, options=_range_options),
    _range_of("ZRANGE", _ranks, ""),
    _range_of("ZRANGE", _score_bounds, "BYSCORE"),
    _range_of("ZRANGE", _byte_bounds, "BYLEX"),
    _range_of("ZRANGESTORE", _ranks, "", keys),
    _range_of("ZRANGESTORE", _score_bounds, "BYSCORE", keys),
    _range_of("ZRANGESTORE", _byte_bounds, "BYLEX", keys),
    with_options("ZREVRANGE", keys, _ranks, _ranks, options=_old_options, most=1),
    with_options("ZRANGEBYSCORE ZREVRANGEBYSCORE", keys, _score_bounds, _score_bounds, options=_old_options, most=2),
    with_options("ZRANGEBYLEX ZREVRANGEBYLEX", keys, _byte_bounds, _byte_bounds, options=_old_options, most=1),
    request("ZCOUNT ZREMRANGEBYSCORE", keys, _score_bounds, _score_bounds),
    request("ZLEXCOUNT ZREMRANGEBYLEX", keys, _byte_bounds, _byte_bounds),
    request("ZREMRANGEBYRANK", keys, _ranks, _ranks),
    _algebra("ZUNION ZINTER ZDIFF"),
    _algebra("ZUNIONSTORE ZINTERSTORE ZDIFFSTORE", keys),
    _algebra("ZINTERCARD"),
    st.builds(
        lambda name, count, names, end, tail: (name, count, *names, end, *sum(tail, ())),
        words("ZMPOP"), _key_counts, _several_keys, _ends, st.lists(_count_options, max_size=2),
    ),
    with_options("ZSCAN", keys, st.sampled_from((b"0", b"x", b"-1", b"18446744073709551616")), options=scan_options),
)  # fmt: skip

waiting: Requests = st.one_of(
    st.builds(
        lambda name, names, timeout: (name, *names, timeout), words("BZPOPMIN BZPOPMAX"), _several_keys, _timeouts
    ),
    st.builds(
        lambda name, timeout, count, names, end, tail: (name, timeout, count, *names, end, *sum(tail, ())),
        words("BZMPOP"), _timeouts, _key_counts, _several_keys, _ends, st.lists(_count_options, max_size=2),
    ),
)  # fmt: skip
"""Requests that may wait, no longer than a moment."""
