"""What the generated requests are made of: few keys, so that requests meet, and values at every edge.

A request is a tuple of words; a strategy of requests is what each module beside this one offers as ``requests``.
Times: ``FAR`` is beyond any test, ``PAST`` long gone, relative ones are 100,000 s: the comparison knows them
(normalise.py).
"""

from __future__ import annotations

from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")
Request = tuple[bytes, ...]
Requests = st.SearchStrategy[Request]

# One hash tag for most of them: in cluster mode the others are for CROSSSLOT.
KEYS = (b"{t}a", b"{t}b", b"{t}c", b"{t}\x00\r\n\xff", b"d", b"")

keys = st.one_of(st.sampled_from(KEYS[:3]), st.sampled_from(KEYS))

INTEGERS = (b"0", b"1", b"-1", b"2", b"7", b"10", b"100", b"9223372036854775807", b"-9223372036854775808")
NO_INTEGERS = (
    b"", b" 1", b"1 ", b"+1", b"01", b"-0", b"1.0", b"0x10", b"abc", b"9223372036854775808", b"-9223372036854775809",
    b"18446744073709551616", b"1\x00", b"1e3", b"-", b"--1",
)  # fmt: skip
FLOATS = (
    b"0.1", b"-0.1", b"1.5", b"3.0e3", b".5", b"5.", b"1e-17", b"0x10", b"0x1p-3", b"1e4000", b"1e5000", b"-1e4000",
    b"123456789012345678.5", b"1e17", b"inf", b"-inf", b"+inf", b"infinity", b"nan", b"1e", b"1,5", b"1_000", b"0.30",
)  # fmt: skip
TEXTS = (b"hello", b"x" * 44, b"x" * 45, b"ab" * 40, b"\x00\xff\r\n", b"007", b"12345678901234567890123")

integers = st.one_of(
    st.sampled_from(INTEGERS), st.integers(-20, 20).map(lambda n: b"%d" % n), st.sampled_from(NO_INTEGERS)
)
good_integers = st.one_of(st.sampled_from(INTEGERS), st.integers(-20, 20).map(lambda n: b"%d" % n))
offsets = st.one_of(st.integers(-60, 60).map(lambda n: b"%d" % n), integers)
floats = st.one_of(st.sampled_from(FLOATS), good_integers)
values = st.one_of(st.sampled_from(INTEGERS + NO_INTEGERS + FLOATS + TEXTS), st.binary(max_size=60))

FAR_S, FAR_MS = b"32503680000", b"32503680000123"
times_s = st.sampled_from((FAR_S, b"32503680001", b"1", b"1600000000", b"0", b"-1", b"9223372036854775", b"x"))
times_ms = st.sampled_from(
    (FAR_MS, b"32503680000999", b"1", b"1600000000000", b"0", b"-5", b"9223372036854775807", b"")
)
durations_s = st.sampled_from((b"100000", b"100000", b"0", b"-1", b"9223372036854775807", b"9223372036854775", b"1.5"))
durations_ms = st.sampled_from(
    (b"100000000", b"100000000", b"0", b"-1", b"9223372036854775807", b"-9223372036854775808", b"no")
)

expiry_options = st.one_of(
    st.tuples(st.just(b"EX"), durations_s),
    st.tuples(st.just(b"PX"), durations_ms),
    st.tuples(st.just(b"EXAT"), times_s),
    st.tuples(st.just(b"PXAT"), times_ms),
)


def words(text: str) -> st.SearchStrategy[bytes]:
    """One of the space-separated words, in this or that case."""
    return st.sampled_from([spelling for word in text.encode().split() for spelling in (word, word.lower())])


def request(name: str, *parts: st.SearchStrategy[bytes]) -> Requests:
    """A request whose words are drawn each from its strategy."""
    return st.tuples(words(name), *parts)


def with_options(
    name: str, *parts: st.SearchStrategy[bytes], options: st.SearchStrategy[Request], most: int = 3
) -> Requests:
    """A request followed by up to ``most`` options, each of one or more words, in any order and number."""
    tail = st.lists(options, max_size=most)
    return st.tuples(request(name, *parts), tail).map(lambda drawn: sum(drawn[1], drawn[0]))


def option(text: str) -> st.SearchStrategy[Request]:
    """One option of one word."""
    return words(text).map(lambda word: (word,))


def weighted(*choices: tuple[int, st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """One of several strategies, each so many times as likely as one of weight 1 (one_of counts repetitions once)."""
    return st.sampled_from([choice for weight, choice in choices for _ in range(weight)]).flatmap(lambda choice: choice)


def many(name: str, part: st.SearchStrategy[bytes], least: int = 0, most: int = 5) -> Requests:
    """A request with any number of words drawn from one strategy."""
    return st.tuples(words(name), st.lists(part, min_size=least, max_size=most)).map(
        lambda drawn: (drawn[0], *drawn[1])
    )
