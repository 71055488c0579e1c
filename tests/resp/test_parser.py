"""The exact parser and the fast one, row by row; each case whole, byte by byte, with more behind it, one at a time."""

from __future__ import annotations

import functools
import tracemalloc
from collections.abc import Callable, Iterator

import attrs
import pytest

from cluster.resp.accelerator import FastParser
from cluster.resp.parser import MAX_LINE_BYTES, ParserLimits, RequestParser, parse_length, split_inline
from tests.support.costs import allocated_bytes, counted_calls

PARSERS = [RequestParser, FastParser]
PING = b"*1\r\n$4\r\nPING\r\n"
KIB = 1024
MIB = 1024 * 1024


@attrs.frozen
class Case:
    """Bytes from a client; the requests in them; the error that ends them, or whether a request is left half read."""

    data: bytes
    requests: list[list[bytes]] = attrs.field(factory=list)
    error: bytes | None = None
    unfinished: bool = False
    authenticated: bool = True


def words(*texts: bytes) -> list[list[bytes]]:
    return [list(texts)]


CASES = {
    # --- arrays of bulk strings
    "array": Case(b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n", words(b"ECHO", b"hi")),
    "array of one": Case(PING, words(b"PING")),
    "array of five": Case(b"*5\r\n" + b"$1\r\na\r\n" * 5, words(*[b"a"] * 5)),
    "array of 1025": Case(b"*1025\r\n" + b"$1\r\na\r\n" * 1025, words(*[b"a"] * 1025)),
    "pipeline": Case(PING + b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" + PING, [[b"PING"], [b"GET", b"k"], [b"PING"]]),
    "empty arguments": Case(b"*3\r\n$0\r\n\r\n$0\r\n\r\n$0\r\n\r\n", words(b"", b"", b"")),
    "binary argument": Case(b"*2\r\n$3\r\nGET\r\n$6\r\n\0\xff\r\n*1\r\n", words(b"GET", b"\0\xff\r\n*1")),
    "argument that looks like a request": Case(
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%b\r\n" % (len(PING), PING), words(b"SET", b"k", PING)
    ),
    "argument of 2047": Case(b"*2\r\n$4\r\nECHO\r\n$2047\r\n%b\r\n" % (b"x" * 2047), words(b"ECHO", b"x" * 2047)),
    "argument of 2048": Case(b"*2\r\n$4\r\nECHO\r\n$2048\r\n%b\r\n" % (b"x" * 2048), words(b"ECHO", b"x" * 2048)),
    "argument just not big": Case(
        b"*2\r\n$4\r\nECHO\r\n$32767\r\n%b\r\n" % (b"x" * 32767), words(b"ECHO", b"x" * 32767)
    ),
    "two big arguments": Case(
        b"*3\r\n$32768\r\n%b\r\n$40000\r\n%b\r\n$1\r\nz\r\n" % (b"x" * 32768, b"y" * 40000),
        words(b"x" * 32768, b"y" * 40000, b"z"),
    ),
    # --- empty requests
    "empty array": Case(b"*0\r\n"),
    "array of minus one": Case(b"*-1\r\n"),
    "array of minus ten": Case(b"*-10\r\n"),
    "array of the least integer": Case(b"*-9223372036854775808\r\n"),
    "empty lines": Case(b"\r\n\n\r\n   \r\n\t\n"),
    "empty requests between": Case(b"\r\n*0\r\n" + PING + b"*-1\r\n\n" + PING, [[b"PING"], [b"PING"]]),
    # --- inline
    "inline CRLF": Case(b"PING\r\n", words(b"PING")),
    "inline LF": Case(b"PING\n", words(b"PING")),
    "inline words": Case(b"  SET  k\tv \r\n", words(b"SET", b"k", b"v")),
    "inline behind many empty lines": Case(
        b"\n" * 300 + b"\r\n" * 300 + b"\r\r\n\rPING\n\n\r*1\n", [[b"PING"], [b"*1"]]
    ),
    "inline with CR inside": Case(b"a\rb\r\r\n", words(b"a", b"b")),
    "inline quotes": Case(b'SET k "a b\\x41"\r\n', words(b"SET", b"k", b"a bA")),
    "inline between arrays": Case(PING + b"ECHO hi\r\n" + PING, [[b"PING"], [b"ECHO", b"hi"], [b"PING"]]),
    "unbalanced quotes": Case(b'SET k "a\r\n', error=b"unbalanced quotes in request"),
    "unbalanced quotes behind a request": Case(
        PING + b"SET k 'a\r\n" + PING, words(b"PING"), error=b"unbalanced quotes in request"
    ),
    "HTTP": Case(b"POST / HTTP/1.1\r\nHost: x\r\n", [[b"POST", b"/", b"HTTP/1.1"], [b"Host:", b"x"]]),
    **{
        f"top-level {line.decode()}": Case(line + b"\r\n", words(line))
        for line in (b"+OK", b":1", b"-x", b"$4", b"_", b"#t", b"%1", b"~1", b">1", b"=8", b",1", b"(1", b"!1", b"|1")
    },
    # --- what is not a bulk string
    **{
        f"{name} as argument": Case(b"*1\r\n" + item, error=b"expected '$', got '%b'" % item[:1])
        for name, item in {
            "status": b"+PING\r\n",
            "integer": b":5\r\n",
            "boolean": b"#t\r\n",
            "null": b"_\r\n",
            "array": b"*1\r\n$4\r\nPING\r\n",
            "map": b"%1\r\n",
            "verbatim string": b"=8\r\ntxt:PING\r\n",
            "word": b"PING\r\n",
            "space": b" $4\r\n",
        }.items()
    },
    "status as second argument": Case(b"*2\r\n$4\r\nECHO\r\n+a\r\n", error=b"expected '$', got '+'"),
    "CR as argument": Case(b"*1\r\n\r\n", error=b"expected '$', got ' '"),
    "LF as argument": Case(b"*1\r\n\n\r\n", error=b"expected '$', got ' '"),
    "high byte as argument": Case(b"*1\r\n\xff\r\n", error=b"expected '$', got '\xff'"),
    "arrays nested deeply": Case(b"*1\r\n" * 1025, error=b"expected '$', got '*'"),
    # --- sizes
    **{
        f"bulk length {size.decode()!r}": Case(b"*1\r\n$%b\r\n" % size, error=b"invalid bulk length")
        for size in (
            *(b"-1", b"-5", b"abc", b"", b"+4", b"04", b"00", b"-0", b" 4", b"4 ", b"4\n", b"0x4", b"4.0"),
            b"536870913",
            *(b"9223372036854775807", b"9223372036854775808", b"18446744073709551620", b"1" * 21, b"1" * 1000),
        )
    },
    **{
        f"multibulk length {count.decode()!r}": Case(b"*%b\r\n" % count, error=b"invalid multibulk length")
        for count in (
            *(b"abc", b"", b"+1", b"01", b"00", b"-0", b"-", b"--1", b" 1", b"1 ", b"2147483648", b"1_0", b"\xd9\xa1"),
            *(b"-9223372036854775809", b"9223372036854775808", b"-01", b"1" * 21),
        )
    },
    "error behind requests": Case(PING * 3 + b"*abc\r\n" + PING, [[b"PING"]] * 3, error=b"invalid multibulk length"),
    "greatest multibulk length": Case(b"*2147483647\r\n", unfinished=True),
    "greatest bulk length": Case(b"*1\r\n$536870912\r\n", unfinished=True),
    # --- line ends
    "header ended by CR and something": Case(b"*1\rX$4\rYPING\r\n", words(b"PING")),
    "header ended by CR CR": Case(b"*1\r\r$4\r\rPING\r\n", words(b"PING")),
    "bulk not followed by CRLF": Case(b"*2\r\n$4\r\nECHOab$2\r\nhi\n\r", words(b"ECHO", b"hi")),
    "size too small": Case(b"*1\r\n$3\r\nPING\r\nPING\r\n", [[b"PIN"], [b"PING"]]),
    "header ended by LF": Case(b"*1\n$4\nPING\n", unfinished=True),
    "NUL hides the end of a count": Case(b"*1\0\r\n$4\r\nPING\r\n", unfinished=True),
    "NUL hides the end of a size": Case(b"*1\r\n$4\0\r\nPING\r\n", unfinished=True),
    "NUL hides the end of a line": Case(b"PI\0NG\r\n", unfinished=True),
    # --- lines that are too long
    "inline of 65536": Case(b"a" * 65535 + b"\r\n", words(b"a" * 65535)),
    "inline without end": Case(b"a" * 65537, error=b"too big inline request"),
    "inline too long before much else": Case(b"a" * 65536 + b"\r\n" + PING * 6000, error=b"too big inline request"),
    "inline too long": Case(b"a" * 65537 + b"\r\n", error=b"too big inline request"),
    "inline behind NUL": Case(b"\0PING\r\n" * 10000, error=b"too big inline request"),
    "count without end": Case(b"*" + b"1" * 65536, error=b"too big mbulk count string"),
    "count ended by LF": Case(b"*1\n" + b"$4\nPING\n" * 10000, error=b"too big mbulk count string"),
    "count just not too long": Case(b"*" + b"1" * 65535 + b"\r\n", error=b"invalid multibulk length"),
    "size without end": Case(b"*1\r\n$" + b"1" * 65536, error=b"too big bulk count string"),
    "size just not too long": Case(b"*1\r\n$" + b"1" * 65535 + b"\r\n", error=b"invalid bulk length"),
    "no bulk and without end": Case(b"*1\r\n+" + b"1" * 65536, error=b"too big bulk count string"),
    # --- before AUTH
    "unauthenticated, small": Case(
        b"*10\r\n" + b"$1\r\na\r\n" * 10 + b"*1\r\n$16384\r\n%b\r\n" % (b"x" * 16384),
        [[b"a"] * 10, [b"x" * 16384]],
        authenticated=False,
    ),
    "unauthenticated, many": Case(b"*11\r\n", error=b"unauthenticated multibulk length", authenticated=False),
    "unauthenticated, many and whole": Case(
        PING + b"*11\r\n" + b"$1\r\na\r\n" * 11,
        words(b"PING"),
        error=b"unauthenticated multibulk length",
        authenticated=False,
    ),
    "unauthenticated, too many": Case(b"*2147483648\r\n", error=b"invalid multibulk length", authenticated=False),
    "unauthenticated, long": Case(
        PING + b"*2\r\n$4\r\nAUTH\r\n$16385\r\n",
        words(b"PING"),
        error=b"unauthenticated bulk length",
        authenticated=False,
    ),
    "unauthenticated, too long": Case(b"*1\r\n$536870913\r\n", error=b"invalid bulk length", authenticated=False),
    "unauthenticated inline": Case(b"a " * 12 + b"\n", words(*[b"a"] * 12), authenticated=False),
}


@pytest.fixture(params=PARSERS, ids=lambda parser: parser.__name__)
def parser(request: pytest.FixtureRequest) -> RequestParser:
    made: RequestParser = request.param(ParserLimits())
    return made


def error_of(parser: RequestParser) -> bytes | None:
    return parser.error.message if parser.error else None


def outcome(parser: RequestParser, chunks: list[bytes]) -> tuple[list[list[bytes]], bytes | None]:
    requests = [request for chunk in chunks for request in parser.feed(chunk)]
    return requests, error_of(parser)


COMPLETE = {name: case for name, case in CASES.items() if not case.unfinished}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


class TestEachCase:
    @each_case
    def test_whole(self, parser: RequestParser, case: Case) -> None:
        parser.authenticated = case.authenticated

        assert outcome(parser, [case.data]) == (case.requests, case.error)
        assert parser.pending == (case.unfinished or case.error is not None)

    @each_case
    def test_byte_by_byte(self, parser: RequestParser, case: Case) -> None:
        parser.authenticated = case.authenticated
        step = 1 if len(case.data) < 4096 else 997
        chunks = [case.data[at : at + step] for at in range(0, len(case.data), step)]

        assert outcome(parser, chunks) == (case.requests, case.error)
        assert parser.pending == (case.unfinished or case.error is not None)

    @pytest.mark.parametrize("case", COMPLETE.values(), ids=COMPLETE)
    def test_with_trailing_bytes(self, parser: RequestParser, case: Case) -> None:
        parser.authenticated = case.authenticated
        more = [] if case.error else [[b"PING"]]

        assert outcome(parser, [case.data + PING]) == (case.requests + more, case.error)

    @each_case
    def test_one_at_a_time(self, parser: RequestParser, case: Case) -> None:
        parser.authenticated = case.authenticated
        requests = []
        request = parser.next(case.data)
        while request is not None:
            assert parser.error is None, "an error may come only after the requests before it"
            requests.append(request)
            request = parser.next()

        assert requests == case.requests
        assert error_of(parser) == case.error


# --- what the shortcut must not take ----------------------------------------------------------------------------------

SPELLINGS = b"\0\t\n\r $*+-:019aP\xff"


def variations(data: bytes) -> list[bytes]:
    """``data`` with one byte lost, doubled, replaced or added, and cut off, everywhere."""
    found = set()
    for at in range(len(data) + 1):
        before, after = data[:at], data[at:]
        found |= {before, before + after[1:], before + after[:1] + after}
        found |= {before + bytes([byte]) + after for byte in SPELLINGS}
        found |= {before + bytes([byte]) + after[1:] for byte in SPELLINGS}
    return sorted(found)


@pytest.mark.parametrize("before", [b"", PING, b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"], ids=["", "PING", "GET"])
@pytest.mark.parametrize("arguments", [1, 2, 3, 4])
def test_one_byte_wrong_anywhere_is_read_as_the_exact_parser_reads_it(arguments: int, before: bytes) -> None:
    request = b"*%d\r\n" % arguments + b"".join(b"$%d\r\n%b\r\n" % (size, b"x" * size) for size in range(arguments))

    for data in variations(request):
        exact, fast = RequestParser(ParserLimits()), FastParser(ParserLimits())
        assert outcome(fast, [before + data, PING]) == outcome(exact, [before + data, PING]), data
        assert (fast.pending, fast.unread(99)) == (exact.pending, exact.unread(99)), data


def test_much_behind_a_request_in_two_pieces(parser: RequestParser) -> None:
    parser.feed(b"*1\r\n$4\r\nPI")

    assert parser.feed(b"NG\r\n" + PING * 5000) == [[b"PING"]] * 5001
    assert not parser.pending


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"a" * 65536, b"too big inline request"),
        (b"*" * 65536, b"too big mbulk count string"),
        (b"*1\r\n" + b"$" * 65536, b"too big bulk count string"),
    ],
)
def test_a_line_is_too_long_at_the_byte_after_the_limit(parser: RequestParser, line: bytes, error: bytes) -> None:
    assert outcome(parser, [line]) == ([], None)
    assert parser.feed(b"+") == []
    assert error_of(parser) == error


# --- errors -----------------------------------------------------------------------------------------------------------


def test_nothing_is_parsed_or_kept_after_an_error(parser: RequestParser) -> None:
    assert parser.feed(PING + b"*x\r\nrest") == [[b"PING"]]
    error, held = parser.error, parser.buffered_bytes

    assert parser.feed(PING) == []
    assert parser.next(PING) is None
    parser.receive(PING)
    assert parser.error is error
    assert parser.buffered_bytes == held
    assert parser.unread(6) == b"*x\r\nre"


def test_authentication_after_an_error_changes_nothing(parser: RequestParser) -> None:
    parser.authenticated = False
    assert parser.feed(b"*11\r\n") == []
    parser.authenticated = True

    assert parser.feed(b"$1\r\na\r\n" * 11) == []
    assert parser.error is not None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"*x\r\n", "invalid mbulk count"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n+x\r\n", "expected $ but got something else"),
        (b"'\r\n", "unbalanced quotes in inline request"),
        (b"a" * 65537, "too big inline request"),
        (b"*" * 65537, "too big mbulk count string"),
        (b"PING\r\n", ""),
    ],
)
def test_the_log_has_its_own_words(parser: RequestParser, data: bytes, reason: str) -> None:
    parser.feed(data)

    assert parser.error_reason == reason


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_limit_changed_for_all_parsers_counts_from_the_next_header_on(parser: RequestParser) -> None:
    parser.limits.max_bulk_bytes = MIB
    assert parser.feed(b"*2\r\n$1\r\na\r\n$1048576\r\n") == []
    assert error_of(parser) is None
    parser.limits.max_bulk_bytes = 2 * MIB
    assert parser.feed(b"x" * MIB + b"\r\n*1\r\n$1048577\r\n") == [[b"a", b"x" * MIB]]
    assert error_of(parser) is None

    parser.limits.max_bulk_bytes = MIB
    assert parser.feed(b"x" * (MIB + 1) + b"\r\n*1\r\n$1048577\r\n") == [[b"x" * (MIB + 1)]]
    assert error_of(parser) == b"invalid bulk length"


def test_limits_are_at_least_a_mebibyte() -> None:
    with pytest.raises(ValueError, match="max_bulk_bytes"):
        ParserLimits(MIB - 1)


def test_auth_changes_the_limits_of_what_follows_in_the_same_chunk(parser: RequestParser) -> None:
    parser.authenticated = False
    auth = b"*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n"
    mset = b"*11\r\n" + b"$4\r\nMSET\r\n" + b"$1\r\na\r\n" * 10

    assert parser.next(auth + mset + PING) == [b"AUTH", b"p"]
    parser.authenticated = True

    assert parser.feed(b"") == [[b"MSET", *[b"a"] * 10], [b"PING"]]
    assert parser.error is None


# --- one at a time, and waiting ---------------------------------------------------------------------------------------


def test_next_leaves_the_rest_where_feed_finds_it(parser: RequestParser) -> None:
    assert parser.next(PING * 3 + b"*1\r\n$4\r\nPI") == [b"PING"]
    assert parser.pending
    assert parser.buffered_bytes == 2 * len(PING) + 10
    parser.receive(b"NG\r\n")
    assert parser.feed(b"GET k\r\n") == [[b"PING"], [b"PING"], [b"PING"], [b"GET", b"k"]]
    assert (parser.pending, parser.buffered_bytes) == (False, 0)


def test_receive_keeps_bytes_without_looking_at_them(parser: RequestParser) -> None:
    for byte in PING + b"*x\r\n":
        parser.receive(bytes([byte]))
    assert parser.buffered_bytes == len(PING) + 4
    assert parser.pending
    assert error_of(parser) is None

    assert parser.next() == [b"PING"]
    assert error_of(parser) is None
    assert parser.next() is None
    assert error_of(parser) == b"invalid multibulk length"


def test_receiving_nothing_is_nothing(parser: RequestParser) -> None:
    parser.receive(b"")
    assert not parser.pending
    assert parser.feed(b"") == []
    assert parser.next() is None
    assert not parser.pending


def test_what_is_held_is_counted(parser: RequestParser) -> None:
    assert parser.feed(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n" + b"x" * 500) == []
    assert (parser.argument_bytes, parser.buffered_bytes) == (4, 500)
    assert parser.feed(b"x" * 99500 + b"\r") == []
    assert (parser.argument_bytes, parser.buffered_bytes) == (4, 100001)
    assert parser.feed(b"\n") == [[b"SET", b"k", b"x" * 100000]]
    assert (parser.argument_bytes, parser.buffered_bytes) == (0, 0)


def test_a_header_alone_is_pending(parser: RequestParser) -> None:
    assert parser.feed(b"*1\r\n") == []
    assert parser.buffered_bytes == 0
    assert parser.pending
    assert parser.feed(b"$4\r\nPING\r\n") == [[b"PING"]]
    assert not parser.pending


def test_requests_are_fresh_lists(parser: RequestParser) -> None:
    first, second = parser.feed(PING + PING)
    first.append(b"more")

    assert second == [b"PING"]
    assert parser.feed(PING) == [[b"PING"]]


# --- time and memory --------------------------------------------------------------------------------------------------


def test_a_count_allocates_nothing(parser: RequestParser) -> None:
    tracemalloc.start()
    try:
        assert parser.feed(b"*2000000000\r\n") == []
        assert parser.feed(b"$536870912\r\n") == []
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 64 * KIB
    assert parser.pending


def test_a_big_value_in_pieces_costs_its_own_size(parser: RequestParser) -> None:
    size, piece = 32 * MIB, b"x" * (64 * KIB)
    tracemalloc.start()
    try:
        parser.feed(b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % size)
        for _ in range(size // len(piece)):
            assert parser.feed(piece) == []
        requests = parser.feed(b"\r\n" + PING)
        held_bytes, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert [list(map(len, request)) for request in requests] == [[4, size], [4]]
    assert held_bytes < size + 256 * KIB
    assert peak_bytes < 2 * size


def test_a_big_value_in_small_pieces_is_copied_once(parser: RequestParser) -> None:
    """Copied with each piece, these 4 MiB would be 8 GiB."""
    size = 4 * MIB
    parser.feed(b"*1\r\n$%d\r\n" % size)

    def pieces() -> Iterator[Callable[[], object]]:
        for _ in range(size // KIB):
            yield functools.partial(parser.feed, b"x" * KIB)

    with counted_calls() as calls:
        for feed in pieces():
            feed()
    assert calls.count < 20 * (size // KIB)
    assert [list(map(len, request)) for request in parser.feed(b"\r\n")] == [[size]]

    parser.feed(b"*1\r\n$%d\r\n" % size)
    assert allocated_bytes(pieces()) < 2 * size


def test_bytes_that_wait_are_copied_once(parser: RequestParser) -> None:
    """A blocked client goes on sending; its bytes are neither copied nor looked at again and again."""
    chunks, per_chunk = 800, 64
    size = chunks * per_chunk * len(PING)
    chunk = PING * per_chunk

    assert allocated_bytes(functools.partial(parser.receive, chunk) for _ in range(chunks)) < 2 * size
    assert parser.next() == [b"PING"]  # Now it looks at what has come, all of it at once.
    left = chunks * per_chunk - 1
    assert allocated_bytes(parser.next for _ in range(left)) < 1000 * left
    assert parser.buffered_bytes == 0
    for _ in range(chunks):
        parser.receive(chunk)
    with counted_calls() as calls:
        while parser.next():
            pass
    assert parser.buffered_bytes == 0
    assert calls.count < 20 * chunks * per_chunk


@pytest.mark.parametrize(
    "line",
    [
        b'"' + b"\\" * 60000,
        b"'" + b"\\" * 60000,
        b"'" + b"\\'" * 30000,
        b'"' + b"a" * 60000,
        b"'" + b"a" * 60000,
        b'"' + b"a\\" * 30000,
        b'a"' * 30000,
        b'"" ' * 20000,
    ],
    ids=["escapes", "backslashes", "escaped quotes", "open", "open single", "open escapes", "unseparated", "empty"],
)
def test_hostile_quotes_are_looked_at_once(parser: RequestParser, line: bytes) -> None:
    """A hundred times as long as any line may be, they take no time yet; tried in two ways, days."""
    assert len(line) < MAX_LINE_BYTES
    with counted_calls() as calls:
        parser.feed(line + b"\r\n")
    assert calls.count < 2 * len(line)

    split_inline(line * 100)


# --- words and numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", []),
        (b" \t\v\f\r ", []),
        (b"a  b\tc\rd", [b"a", b"b", b"c", b"d"]),
        (b'""', [b""]),
        (b"'' \"\"", [b"", b""]),
        (b'a"b c"', [b"ab c"]),
        (b"a'b c' d", [b"ab c", b"d"]),
        (rb'"\n\r\t\b\a\\\"\q\x41\x4G\xfF"', [b'\n\r\t\b\a\\"qAx4G\xff']),
        (rb"'\n\'\x41\\ '", [rb"\n'\x41\\ "]),
        (rb"a\n\x41", [rb"a\n\x41"]),
        (b"\"a'b\" 'a\"b'", [b"a'b", b'a"b']),
        (b'"a"\v"b"\f\'c\'', [b"a", b"b", b"c"]),
        (b"a\vb\fc \vd", [b"a\vb\fc", b"d"]),
        (b"\xa0\x85\xff", [b"\xa0\x85\xff"]),
        (b"a b\0c 'd", [b"a", b"b"]),
        (b'"', None),
        (b"'", None),
        (b'a"', None),
        (b'"a"b', None),
        (b"'a'b", None),
        (b"'a''b'", None),
        (b'"a\\"', None),
        (b"'a\\'", None),
        (b'a "b" c"', None),
        (b'"a\\', None),
    ],
)
def test_words_of_a_line(line: bytes, expected: list[bytes] | None) -> None:
    assert split_inline(line) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"0", 0),
        (b"7", 7),
        (b"-7", -7),
        (b"9223372036854775807", 2**63 - 1),
        (b"-9223372036854775808", -(2**63)),
        *[(text, None) for text in (b"", b"-", b"+1", b"-0", b"01", b"-01", b" 1", b"1 ", b"1_0", b"--1", b"1\n")],
        *[(text, None) for text in (b"9223372036854775808", b"-9223372036854775809", b"0" * 20, b"1" * 21)],
    ],
)
def test_length_has_one_spelling(text: bytes, expected: int | None) -> None:
    assert parse_length(text) == expected
