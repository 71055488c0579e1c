"""Any bytes in any pieces: the same requests and the same error, from either parser, and never an exception."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from cluster.resp.accelerator import FastParser
from cluster.resp.encode import bulk_array
from cluster.resp.parser import ParserLimits, RequestParser, split_inline
from cluster.resp.scanner import scan

LIMITS = ParserLimits()


class ScanningParser(FastParser):
    """What FastParser is in the compiled build."""

    __slots__ = ()

    def feed(self, data: bytes) -> list[list[bytes]]:
        if self.pending or not self.authenticated:
            return self._feed_behind(data)
        return self.feed_by_scanning(data)


Outcome = tuple[list[list[bytes]], bytes | None]

# Bytes that mean something to a parser, far more often than chance would have them.
tokens = st.sampled_from(
    [
        *(b"*1\r\n", b"*2\r\n", b"*3\r\n", b"*0\r\n", b"*-1\r\n", b"*11\r\n", b"*", b"$", b"\r\n", b"\r", b"\n", b"\0"),
        *(b"$0\r\n", b"$1\r\n", b"$4\r\n", b"$-1\r\n", b"$01\r\n", b" ", b"'", b'"'),
        *(b"\n\n", b"\r\n\r\n", b" \n\r\r\n", b"\n" * 256, b"PING\r\n", b"PING\n", b"p" * 65535),
        *(b"+", b"-", b":", b"_", b"#t", b"%1"),
        *(b"$4\r\nPING\r\n", b"$3\r\nGET\r\n", b"$1\r\nk\r\n", b"a", b"PING", b"1", b"\\", b"\\x41", b"\xff", b"\v"),
        *(b"$2048\r\n", b"$32768\r\n", b"$16385\r\n", b"x" * 2046, b"x" * 2048, b"x" * 32768, b"x" * 16384),
        *(b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"),
    ]
)
streams = st.lists(tokens | st.binary(max_size=8), max_size=24).map(b"".join)

values = st.binary(max_size=24) | st.sampled_from(
    [
        *(b"", b"\r\n", b"*1\r\n$1\r\na\r\n", b"\r\n" * 1100),
        *(b"x" * 2047, b"x" * 2048, b"x" * 32767, b"y" * 32768, b"z" * 70000),
    ]
)
pipelines = st.lists(st.lists(values, min_size=1, max_size=6), max_size=12)


@st.composite
def cut(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    """Bytes, and where they are cut."""
    data = draw(whole)
    marks = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    edges = [0, *marks, len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def feed_all(parser: RequestParser, chunks: list[bytes], authenticated: bool = True) -> Outcome:
    parser.authenticated = authenticated
    requests = [request for chunk in chunks for request in parser.feed(chunk)]
    return requests, parser.error.message if parser.error else None


def next_all(parser: RequestParser, chunks: list[bytes], authenticated: bool = True) -> Outcome:
    parser.authenticated = authenticated
    requests = []
    for chunk in chunks:
        request = parser.next(chunk)
        while request is not None:
            requests.append(request)
            request = parser.next()
    return requests, parser.error.message if parser.error else None


@given(cut(streams), st.booleans())
@example([b"*1\r\n$4\r\nPING"], True)
@example([b"*2\r\n$1\r\na\r\n"], True)
@example([b"*1\r\n$1\r\na\r\n*5\r\n$1\r\na\r\n$1\r\nb\r\n"], True)
@example([b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc"], True)
def test_neither_the_cut_nor_the_parser_makes_a_difference(chunks: list[bytes], authenticated: bool) -> None:
    expected = feed_all(RequestParser(LIMITS), [b"".join(chunks)], authenticated)

    for make in (RequestParser, FastParser, ScanningParser):
        assert feed_all(make(LIMITS), chunks, authenticated) == expected
        assert next_all(make(LIMITS), chunks, authenticated) == expected
    assert feed_all(FastParser(LIMITS), [b"".join(chunks)], authenticated) == expected
    assert feed_all(ScanningParser(LIMITS), [b"".join(chunks)], authenticated) == expected


@given(streams)
@example(b"*1\r\n$4\r\nPING\r\n*1\r\n$0\r\n\r\n*1\r\n$1\r\na\n\r")
@example(b"*1\r\n$00\r\n\r\n")
@example(b"*01\r\n$1\r\na\r\n")
def test_the_scanner_takes_what_the_exact_parser_takes(stream: bytes) -> None:
    requests: list[list[bytes]] = []
    taken = scan(stream, requests)
    exact = RequestParser(LIMITS)

    assert exact.feed(stream[:taken]) == requests
    assert not exact.pending and exact.error is None


@given(pipelines)
def test_the_scanner_takes_all_that_is_usual(pipeline: list[list[bytes]]) -> None:
    pipeline = [request for request in pipeline if max(map(len, request)) < 32768]
    data = b"".join(map(bulk_array, pipeline))
    requests: list[list[bytes]] = []

    assert scan(data, requests) == len(data)
    assert requests == pipeline


@given(streams, st.booleans())
def test_byte_by_byte(stream: bytes, authenticated: bool) -> None:
    stream = stream[:3000]
    expected = feed_all(RequestParser(LIMITS), [stream], authenticated)

    for make in (RequestParser, FastParser, ScanningParser):
        assert feed_all(make(LIMITS), [bytes([byte]) for byte in stream], authenticated) == expected


@given(st.data())
def test_a_pipeline_comes_out_as_it_went_in(data: st.DataObject) -> None:
    pipeline = data.draw(pipelines)
    chunks = data.draw(cut(st.just(b"".join(map(bulk_array, pipeline)))))

    for make in (RequestParser, FastParser, ScanningParser):
        parser = make(LIMITS)
        assert feed_all(parser, chunks) == (pipeline, None)
        assert not parser.pending
        assert parser.buffered_bytes == parser.argument_bytes == 0


@given(pipelines, streams)
def test_garbage_behind_a_pipeline_takes_nothing_back(pipeline: list[list[bytes]], garbage: bytes) -> None:
    data = b"".join(map(bulk_array, pipeline)) + garbage
    expected = feed_all(RequestParser(LIMITS), [data])

    assert expected[0][: len(pipeline)] == pipeline
    assert feed_all(FastParser(LIMITS), [data]) == expected
    assert feed_all(ScanningParser(LIMITS), [data]) == expected


@given(cut(streams), st.data())
def test_held_bytes_are_counted(chunks: list[bytes], data: st.DataObject) -> None:
    """However bytes are taken in, none is lost: what was fed is returned, empty, or held."""
    parser = data.draw(st.sampled_from([RequestParser, FastParser, ScanningParser]))(LIMITS)
    for chunk in chunks:
        before, failed = parser.buffered_bytes, parser.error is not None
        parser.receive(chunk)
        assert parser.buffered_bytes == before + (0 if failed else len(chunk))
        if data.draw(st.booleans()):
            parser.feed(b"")
        if not parser.pending:
            assert parser.buffered_bytes == parser.argument_bytes == 0


def naive_split_inline(line: bytes) -> list[bytes] | None:
    """An inline line read byte by byte, as the state machine in sds.c is described."""
    blanks = b" \t\n\r\v\f"
    escapes = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
    words: list[bytes] = []
    at = 0
    while True:
        while at < len(line) and line[at] in blanks:
            at += 1
        if at == len(line):
            return words
        word, quote = b"", b""
        while True:
            byte = line[at : at + 1]
            if not quote:
                if not byte or byte in b" \n\r\t":
                    break
                if byte in b"\"'":
                    quote = byte
                else:
                    word += byte
                at += 1
                continue
            if not byte:
                return None
            following = line[at + 1 : at + 2]
            if byte == b"\\" and quote == b'"' and following:
                digits = line[at + 2 : at + 4]
                if (
                    following == b"x"
                    and len(digits) == 2
                    and all(digit in b"0123456789abcdefABCDEF" for digit in digits)
                ):
                    word += bytes([int(digits, 16)])
                    at += 4
                else:
                    word += escapes.get(following, following)
                    at += 2
            elif byte == b"\\" and quote == b"'" and following == b"'":
                word += b"'"
                at += 2
            elif byte == quote:
                if following and following not in blanks:
                    return None
                at += 1
                break
            else:
                word += byte
                at += 1
        words.append(word)


@given(st.lists(st.sampled_from(b"\"'\\x4fGn \t\v\f\r\n\xff"), max_size=24).map(bytes))
def test_words_are_what_a_byte_by_byte_reading_finds(line: bytes) -> None:
    assert split_inline(line) == naive_split_inline(line)
