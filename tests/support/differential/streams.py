"""Requests to streams and their groups: ids close together, so that ranges, groups and deletions meet."""

from __future__ import annotations

import re
import time
from typing import Any

from hypothesis import strategies as st

from tests.support.differential.vocabulary import KEYS, Request, Requests, integers, keys, request, with_options, words

_MAX = b"18446744073709551615"
_LONG_MS = 1_000_000_000
_small_ids = st.builds(lambda ms, seq: b"%d-%d" % (ms, seq), st.integers(0, 9), st.integers(0, 3))
_short_ids = st.integers(0, 12).map(lambda ms: b"%d" % ms)
_odd_ids = st.sampled_from(
    (
        b"0", b"0-0", b"0-1", _MAX, _MAX + b"-" + _MAX, b"1-" + _MAX, b"18446744073709551616",
        b"1-18446744073709551616", b"-", b"+", b"(", b"$", b">", b"", b"-1", b"1-", b"1--1", b"1--05", b"-0-1",
        b"+3-1", b" 4-1", b"4 -1", b"03-01", b"5-+1", b"1-1-1", b"1-x", b"x-1", b"x", b"1\x00-5", b"1-5\x00x",
        b"(1-1", b"*", b"0-*", b"1-*-", b"1" * 130,
    )
)  # fmt: skip


def weighted(choices: list[tuple[int, st.SearchStrategy[Any]]]) -> st.SearchStrategy[Any]:
    """One of the strategies, each so many times as likely; one_of would give each alternative inside them its turn."""
    return st.sampled_from([one for weight, one in choices for _ in range(weight)]).flatmap(lambda one: one)


def _mostly(good: st.SearchStrategy[bytes], odd: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.integers(0, 11).flatmap(lambda drawn: good if drawn else odd)


_keys = _mostly(st.sampled_from(KEYS[:2]), keys)
ids = _mostly(st.one_of(_small_ids, _small_ids, _short_ids), _odd_ids)
_new_ids = _mostly(
    st.one_of(_small_ids, _short_ids, st.integers(0, 12).map(lambda ms: b"%d-*" % ms)),
    _odd_ids.filter(lambda text: text != b"*"),  # It would be another one on each side.
)
_bounds = st.one_of(ids, ids.map(lambda text: b"(" + text), st.sampled_from((b"-", b"+", b"-", b"+")))
_starts = st.one_of(st.just(b"-"), st.just(b"-"), _bounds)
_ends = st.one_of(st.just(b"+"), st.just(b"+"), _bounds)
_texts = st.sampled_from((b"a", b"b", b"c", b"", b"1", b"300", b"-5", b"007", b"x" * 70, b"y" * 300))
_pairs = st.one_of(
    st.tuples(st.just(b"f"), _texts),
    st.tuples(st.just(b"f"), _texts, st.just(b"g"), _texts),
    st.lists(_texts, min_size=1, max_size=6).map(tuple),
)
_groups = _mostly(st.sampled_from((b"g1", b"g1", b"g1", b"g2")), st.just(b"no such"))
_consumers = st.sampled_from((b"alice", b"alice", b"bob", b"", b"carol"))
_counts = _mostly(st.sampled_from((b"0", b"1", b"2", b"3", b"5", b"100", b"-1")), integers)
_idle_ms = _mostly(st.sampled_from((b"0", b"0", b"100000")), st.sampled_from((b"-1", b"x")))
_thresholds = st.one_of(
    st.builds(
        lambda name, mark, number: (name, *mark, number),
        words("MAXLEN"),
        st.sampled_from(((), (b"=",), (b"~",), (b"~",))),
        st.one_of(st.integers(0, 12).map(lambda number: b"%d" % number), _counts),
    ),
    st.builds(
        lambda name, mark, number: (name, *mark, number),
        words("MINID"),
        st.sampled_from(((), (b"=",), (b"~",), (b"~",))),
        ids,
    ),
)
_limits = st.tuples(words("LIMIT"), st.one_of(st.sampled_from((b"0", b"3", b"10", b"10", b"200")), _counts))
_trim_options = st.lists(st.one_of(_thresholds, _thresholds, _limits), max_size=2).map(lambda parts: sum(parts, ()))
_nomkstream = st.sampled_from(((), (), (), (b"NOMKSTREAM",), (b"nomkstream",)))

_adding: Requests = st.one_of(
    st.builds(lambda name, key, entry_id, pairs: (name, key, entry_id, *pairs), words("XADD"), _keys, _new_ids, _pairs),
    st.builds(
        lambda name, key, options, flag, entry_id, pairs: (name, key, *options, *flag, entry_id, *pairs),
        words("XADD"),
        _keys,
        _trim_options,
        _nomkstream,
        _new_ids,
        _pairs,
    ),
)
_of_entries: Requests = st.one_of(
    request("XLEN", _keys),
    with_options("XRANGE", _keys, _starts, _ends, options=st.tuples(words("COUNT"), _counts), most=1),
    with_options("XREVRANGE", _keys, _ends, _starts, options=st.tuples(words("COUNT"), _counts), most=1),
    st.builds(lambda key, several: (b"XDEL", key, *several), _keys, st.lists(ids, max_size=4)),
    st.builds(lambda key, options: (b"XTRIM", key, *options), _keys, _trim_options),
    with_options(
        "XSETID",
        _keys,
        ids,
        options=st.one_of(st.tuples(words("ENTRIESADDED"), _counts), st.tuples(words("MAXDELETEDID"), ids)),
        most=2,
    ),
)
_of_groups: Requests = st.one_of(
    with_options(
        "XGROUP",
        words("CREATE CREATE SETID"),
        _keys,
        _groups,
        st.one_of(ids, st.sampled_from((b"0", b"$"))),
        options=st.one_of(st.tuples(words("MKSTREAM")), st.tuples(words("ENTRIESREAD"), _counts)),
        most=2,
    ),
    st.builds(
        lambda name, key, group: (b"XGROUP", b"CREATE", key, group, name), st.just(b"0"), _keys, _groups
    ),
    request("XGROUP", words("DESTROY"), _keys, _groups),
    request("XGROUP", words("CREATECONSUMER DELCONSUMER"), _keys, _groups, _consumers),
    request("XGROUP XINFO", words("HELP CREATE SETID NOTHING STREAM")),
    request("XINFO", words("STREAM GROUPS"), _keys),
    with_options("XINFO", words("STREAM"), _keys, words("FULL"), options=st.tuples(words("COUNT"), _counts), most=1),
    request("XINFO", words("CONSUMERS"), _keys, _groups),
    st.builds(
        lambda key, group, several: (b"XACK", key, group, *several), _keys, _groups, st.lists(ids, max_size=4)
    ),
    request("XPENDING", _keys, _groups),
    st.builds(
        lambda key, group, idle, start, end, count, consumer: (
            b"XPENDING", key, group, *idle, start, end, count, *consumer
        ),
        _keys,
        _groups,
        st.sampled_from(((), (), (b"IDLE", b"0"), (b"idle", b"100000"), (b"IDLE", b"x"))),
        _starts,
        _ends,
        _counts,
        st.one_of(st.just(()), st.tuples(_consumers)),
    ),
)  # fmt: skip
_claim_options = st.one_of(
    st.tuples(words("FORCE JUSTID FORCE JUSTID OTHER")),
    st.tuples(words("TIME"), st.sampled_from((b"1000", b"99999999999999", b"-5", b"x"))),
    st.tuples(words("IDLE"), st.sampled_from((b"%d" % _LONG_MS, b"-5", b"x"))),
    st.tuples(words("RETRYCOUNT"), _counts),
    st.tuples(words("LASTID"), ids),
)
_claiming: Requests = st.one_of(
    st.builds(
        lambda key, group, consumer, idle, several, options: (
            b"XCLAIM", key, group, consumer, idle, *several, *sum(options, ())
        ),
        _keys,
        _groups,
        _consumers,
        _idle_ms,
        st.lists(ids, min_size=1, max_size=4),
        st.lists(_claim_options, max_size=3),
    ),
    with_options(
        "XAUTOCLAIM",
        _keys,
        _groups,
        _consumers,
        _idle_ms,
        st.one_of(st.sampled_from((b"0", b"-")), _bounds),
        options=st.one_of(st.tuples(words("JUSTID")), st.tuples(words("COUNT"), _counts)),
        most=2,
    ),
)  # fmt: skip


def _streams_part(places: list[tuple[bytes, bytes]]) -> Request:
    return (b"STREAMS", *(key for key, _id in places), *(entry_id for _key, entry_id in places))


_read_options = st.lists(st.one_of(st.tuples(words("COUNT"), _counts), st.tuples(words("NOACK"))), max_size=2).map(
    lambda options: sum(options, ())
)
_blocks = st.sampled_from(((), (), (), (b"BLOCK", b"1"), (b"block", b"-1"), (b"BLOCK", b"1.5"), (b"BLOCK",)))
_reading: Requests = st.one_of(
    st.builds(
        lambda options, block, places: (b"XREAD", *block, *options, *_streams_part(places)),
        st.one_of(st.just(()), st.just(()), _read_options),
        _blocks,
        st.lists(st.tuples(_keys, st.one_of(ids, st.sampled_from((b"0", b"$")))), min_size=1, max_size=3),
    ),
    st.builds(
        lambda group, consumer, options, block, places: (
            b"XREADGROUP", b"GROUP", group, consumer, *options, *block, *_streams_part(places)
        ),
        _groups,
        _consumers,
        _read_options,
        _blocks,
        st.lists(
            st.tuples(_keys, st.one_of(ids, st.sampled_from((b">", b">", b">", b">", b"0")))), min_size=1, max_size=2
        ),
    ),
)  # fmt: skip

requests: Requests = weighted([(3, _adding), (4, _of_entries), (4, _of_groups), (3, _claiming), (4, _reading)])

waiting: Requests = st.one_of(
    st.builds(
        lambda options, places: (b"XREAD", b"BLOCK", b"0", *options, *_streams_part(places)),
        st.one_of(st.just(()), st.tuples(words("COUNT"), st.sampled_from((b"1", b"2")))),
        st.lists(st.tuples(_keys, st.one_of(_small_ids, st.just(b"$"))), min_size=1, max_size=2),
    ),
    st.builds(
        lambda group, consumer, options, places: (
            b"XREADGROUP", b"GROUP", group, consumer, b"BLOCK", b"0", *options, *_streams_part(places)
        ),
        st.sampled_from((b"g1", b"g1", b"g2")),
        _consumers,
        _read_options,
        st.lists(st.tuples(_keys, st.just(b">")), min_size=1, max_size=2),
    ),
)  # fmt: skip
"""Requests of clients that wait for somebody else."""

# What may differ ------------------------------------------------------------------------------------------------

_NUMBER = re.compile(rb"(?<![0-9.-])\d{10,13}(?![0-9.-])")
_IDLE_AND_DELIVERIES = re.compile(rb":(\d{1,5})(?=\r\n:\d+\r\n)")
_IDLE = re.compile(rb"(?<=\$4\r\nidle\r\n):\d{1,5}(?=\r\n)")
_TOLERANCE_MS = 60_000


def hide_times(text: bytes) -> bytes:
    """Replace the times of deliveries, which the two take each from its own clock."""
    now_ms = int(time.time() * 1000)
    expected = {b"<now>": now_ms, b"<long ago>": now_ms - _LONG_MS, b"<long>": _LONG_MS}

    def replaced(match: re.Match[bytes]) -> bytes:
        number = int(match[0])
        return next((name for name, time_ms in expected.items() if abs(number - time_ms) < _TOLERANCE_MS), match[0])

    return _NUMBER.sub(replaced, text)


def comparable(request: Request, raw: bytes) -> bytes:
    """The reply without times."""
    if request[0].upper() in (b"XPENDING", b"EXEC"):
        raw = _IDLE_AND_DELIVERIES.sub(b":<idle>", raw)
    return hide_times(_IDLE.sub(b":<idle>", raw))
