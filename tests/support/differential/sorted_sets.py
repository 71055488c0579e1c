"""Requests to sorted sets. What is drawn at random is asked for so that only one answer, or one size, is possible."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.support.differential.hashes import scan_options
from tests.support.differential.vocabulary import KEYS, Request, Requests, many, request, weighted, with_options, words
from tests.support.differential.vocabulary import keys as any_keys

keys = weighted((5, st.sampled_from(KEYS[:2])), (1, any_keys))
"""Mostly two, so that most requests find what another has left."""


def mostly(good: st.SearchStrategy[bytes], bad: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """A word that is refused now and then: a request needs several good ones to get anywhere."""
    return weighted((15, good), (1, bad))


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
any_scores = mostly(scores, st.sampled_from(BAD_SCORES))

_pairs = st.lists(st.tuples(scores, members), min_size=1, max_size=4).map(lambda pairs: sum(pairs, ()))
_any_pairs = st.lists(st.tuples(any_scores, members), max_size=3).map(lambda pairs: sum(pairs, ()))
_add_options = st.lists(words("NX XX GT LT CH INCR CH"), max_size=3)

_ranks = mostly(
    st.one_of(
        st.integers(-6, 6).map(lambda n: b"%d" % n),
        st.sampled_from((b"0", b"-1", b"1", b"0", b"-1", b"9223372036854775807", b"-9223372036854775808")),
    ),
    st.sampled_from((b"x", b"1.5", b"")),
)
_score_bounds = mostly(
    st.one_of(scores, st.sampled_from((b"-inf", b"+inf", b"(1", b"(0", b"(inf", b"(-inf", b"(2", b"-inf", b"+inf"))),
    st.sampled_from(
        (b"(", b"", b"((1", b" 1", b"1 ", b"nan", b"(nan", b"x", b"1e400", b"1e-400", b"1\x00x", b"( 1", b"[1")
    ),
)
_byte_bounds = mostly(
    st.sampled_from(
        (b"-", b"+", b"[a", b"(a", b"[b", b"(c", b"[1", b"[", b"(", b"[x", b"[\xff", b"-", b"+", b"-", b"+")
    ),
    st.sampled_from((b"", b"a", b"+x", b"-x", b"+\x00", b"-\x00x", b"]a", b"1")),
)
_small = st.sampled_from((b"0", b"0", b"1", b"2"))
_limits = weighted(
    (8, st.tuples(words("LIMIT"), _small, st.sampled_from((b"1", b"2", b"-1", b"0", b"100")))),
    (2, st.tuples(words("LIMIT"), _ranks, _ranks)),
    (1, st.tuples(words("LIMIT"), _ranks)),
)
_range_options = st.one_of(st.tuples(words("WITHSCORES REV BYSCORE BYLEX OTHER")), _limits)
_old_options = weighted((5, st.tuples(words("WITHSCORES"))), (5, _limits), (1, st.tuples(words("REV BYSCORE"))))


def _range_of(name: str, bounds: st.SearchStrategy[bytes], by: str, *first: st.SearchStrategy[bytes]) -> Requests:
    """ZRANGE or ZRANGESTORE of one kind, mostly with options that fit."""
    tail = st.lists(st.one_of(st.tuples(words("WITHSCORES")), st.tuples(words("REV")), _limits), max_size=2)
    return st.builds(
        lambda head, kind, options: (*head, *kind, *sum(options, ())),
        request(name, *first, keys, bounds, bounds),
        st.sampled_from([(by.encode(),), (by.lower().encode(),)] if by else [()]),
        tail,
    )


_key_counts = mostly(
    st.sampled_from((b"1", b"2", b"2", b"3")), st.sampled_from((b"0", b"-1", b"x", b"9223372036854775807"))
)
_named = weighted(
    (12, st.lists(keys, min_size=1, max_size=3).map(lambda names: (b"%d" % len(names), *names))),
    (1, st.tuples(_key_counts, st.lists(keys, max_size=3)).map(lambda drawn: (drawn[0], *drawn[1]))),
)
"""Keys, mostly counted correctly."""
_weights = st.one_of(st.sampled_from((b"1", b"2", b"-1", b"0", b"0.5", b"inf", b"-inf", b"1e300")), any_scores)
_aggregates = st.tuples(words("AGGREGATE"), mostly(words("SUM MIN MAX"), words("OTHER")))
_bad_tails: list[Request] = [
    (b"WEIGHTS",), (b"WEIGHTS", b"1"), (b"WEIGHTS", b"1", b"1", b"1", b"1"), (b"AGGREGATE",), (b"OTHER",),
    (b"WITHSCORES",), (b"LIMIT", b"1"), (b"LIMIT",), (b"LIMIT", b"-1"), (b"LIMIT", b"x"),
]  # fmt: skip


def _algebra(name: str, *first: st.SearchStrategy[bytes]) -> Requests:
    """Some keys, correctly counted or not, and options: mostly those that the command has."""
    good: list[Requests] = []
    if name.startswith("ZINTERCARD"):
        good.append(st.tuples(words("LIMIT"), st.sampled_from((b"0", b"1", b"2", b"100"))))
    elif not name.startswith("ZDIFF"):
        good.append(_aggregates)
    if not first and not name.startswith("ZINTERCARD"):
        good.append(st.tuples(words("WITHSCORES")))
    tails = st.lists(weighted(*((8, choice) for choice in good), (1, st.sampled_from(_bad_tails))), max_size=2).map(
        lambda tail: sum(tail, ())
    )

    def complete(named: Request) -> Requests:
        is_weighted = _aggregates in good
        weights = st.tuples(words("WEIGHTS"), *[_weights] * (len(named) - 1)) if is_weighted else st.just(())
        return st.builds(
            lambda head, weighted, tail: (*head, *named, *weighted, *tail),
            request(name, *first),
            weights | st.just(()),
            tails,
        )

    return _named.flatmap(complete)


_pop_counts = st.sampled_from((b"1", b"1", b"2", b"3", b"1", b"0", b"100", b"-1", b"x", b"9223372036854775807"))
_draw_counts = st.sampled_from(
    (b"0", b"100", b"-3", b"1", b"-9223372036854775808", b"9223372036854775807", b"x", b"1.5", b"-0")
)
_ends = mostly(words("MIN MAX"), words("MIDDLE"))
_count_options = weighted((10, st.tuples(words("COUNT"), _pop_counts)), (1, st.tuples(words("COUNT OTHER"))))
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
    _algebra("ZUNION ZINTER"),
    _algebra("ZUNIONSTORE ZINTERSTORE", keys),
    _algebra("ZDIFF"),
    _algebra("ZDIFFSTORE", keys),
    _algebra("ZINTERCARD"),
    st.builds(
        lambda name, named, end, tail: (name, *named, end, *sum(tail, ())),
        words("ZMPOP"), _named, _ends, st.lists(_count_options, max_size=2),
    ),
    with_options("ZSCAN", keys, st.sampled_from((b"0", b"x", b"-1", b"18446744073709551616")), options=scan_options),
)  # fmt: skip

beginnings: Requests = st.builds(
    lambda key, pairs: (b"ZADD", key, *pairs),
    st.sampled_from(KEYS[:2]),
    st.one_of(
        st.lists(st.tuples(scores, members), min_size=3, max_size=12).map(lambda pairs: sum(pairs, ())),
        st.lists(st.tuples(st.just(b"1"), members), min_size=3, max_size=12).map(lambda pairs: sum(pairs, ())),
    ),
)
"""A sorted set to begin with, some with one score for all, so that ranges by bytes have a meaning."""

waiting: Requests = st.one_of(
    st.builds(
        lambda name, names, timeout: (name, *names, timeout), words("BZPOPMIN BZPOPMAX"), _several_keys, _timeouts
    ),
    st.builds(
        lambda name, timeout, named, end, tail: (name, timeout, *named, end, *sum(tail, ())),
        words("BZMPOP"), _timeouts, _named, _ends, st.lists(_count_options, max_size=2),
    ),
)  # fmt: skip
"""Requests that may wait, no longer than a moment."""
