"""Loading damaged append only files into a whole server: a result and a reason, never another exception."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import ConfigError
from cluster.node.aof_loading import LoadResult, load_slices
from cluster.persistence.aof_manifest import Manifest
from tests.support.sessions import ServerBench
from tests.support.wire import encode

COMMANDS: list[tuple[str | int, ...]] = [
    ("SELECT", 0),
    ("SET", "a", "1"),
    ("SET", "e", "x", "PXAT", 4102444800123),
    ("APPEND", "a", "23"),
    ("INCRBY", "a", 7),
    ("SETRANGE", "r", 5, "x"),
    ("SETBIT", "b", 9, 1),
    ("RPUSH", "l", "x", "y", "z"),
    ("LPOP", "l"),
    ("LMOVE", "l", "l2", "LEFT", "RIGHT"),
    ("SADD", "s", "1", "2", "three"),
    ("SREM", "s", "2"),
    ("HMSET", "h", "f", "v", "g", "w"),
    ("HINCRBYFLOAT", "h", "n", "1.5"),
    ("ZADD", "z", "1.5", "m", "-inf", "k"),
    ("ZINCRBY", "z", "2", "m"),
    ("GEOADD", "geo", "13.361389", "38.115556", "Palermo"),
    ("PFADD", "p", "x", "y"),
    ("XADD", "x", "5-1", "f", "v"),
    ("XGROUP", "CREATE", "x", "g", "0-0", "ENTRIESREAD", 0),
    ("XCLAIM", "x", "g", "c", 0, "5-1", "TIME", 1000, "RETRYCOUNT", 1, "JUSTID", "FORCE"),
    ("XSETID", "x", "6-0", "ENTRIESADDED", 2, "MAXDELETEDID", "0-0"),
    ("MULTI",),
    ("SET", "t", 1),
    ("RPUSH", "tl", 2),
    ("EXEC",),
    ("SELECT", 3),
    ("SET", "three", 3),
    ("EXPIREAT", "three", 4102444800),
    ("COPY", "three", "copy"),
    ("RENAME", "copy", "renamed"),
    ("MOVE", "renamed", 0),
    ("SWAPDB", 0, 1),
    ("BITFIELD", "bf", "SET", "u8", 0, 200),
    ("SORT", "l", "STORE", "sorted"),
    ("FLUSHDB",),
]
WHOLE = b"#TS:1628217470\r\n" + b"".join(encode(*words) for words in COMMANDS)
ENDS = [len(WHOLE) - sum(len(encode(*words)) for words in COMMANDS[index:]) for index in range(len(COMMANDS) + 1)]


def bugs() -> None:
    """In place of a line in the log: what a command raised, that it must not, is raised here."""
    problem = sys.exception()
    assert problem is not None
    raise problem


@pytest.fixture(scope="module")
def bench() -> Iterator[ServerBench]:
    folder = tempfile.mkdtemp(prefix="hashslot-aof-")
    with ServerBench() as bench:
        bench.server.settings.dir = folder
        bench.server.report_exception = bugs  # type: ignore[method-assign]
        (Path(folder) / "appendonlydir").mkdir()
        yield bench
    shutil.rmtree(folder)


def load(bench: ServerBench, data: bytes, *, truncated: bool) -> tuple[LoadResult, bytes]:
    """The result, and what is left in the file."""
    server = bench.server
    server.keyspace.flush_all()
    server.settings.aof_load_truncated = truncated
    server.statistics.internal_errors = 0
    path = Path(server.settings.dir) / "appendonlydir" / "appendonly.aof.1.incr.aof"
    path.write_bytes(data)
    server.aof.folder.manifest = Manifest().with_incr("appendonly.aof")
    slices = load_slices(server)
    try:
        while True:
            next(slices)
    except StopIteration as end:
        result: LoadResult = end.value
    except ConfigError as problem:
        pytest.fail(str(problem))
    finally:
        server.saving.end_loading()
    return result, path.read_bytes()


def test_the_whole_is_loaded(bench: ServerBench) -> None:
    assert load(bench, WHOLE, truncated=False) == (LoadResult.OK, WHOLE)
    assert bench.server.statistics.internal_errors == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.booleans())
def test_a_file_that_was_cut(bench: ServerBench, cut: int, truncated: bool) -> None:
    result, left = load(bench, WHOLE[:cut], truncated=truncated)

    multi = ENDS[COMMANDS.index(("MULTI",))]
    executed = ENDS[COMMANDS.index(("EXEC",)) + 1]
    boundaries = [end for end in ENDS if not multi < end < executed]
    complete = max((end for end in boundaries if end <= cut), default=0)
    if cut == 0:
        assert result is LoadResult.EMPTY
    elif cut in boundaries or cut < ENDS[0]:
        assert result is LoadResult.OK
    elif truncated:
        assert result is LoadResult.TRUNCATED
        assert len(left) == complete if complete > ENDS[0] else len(left) <= ENDS[0]
    else:
        assert result is LoadResult.FAILED
        assert left == WHOLE[:cut]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(max_size=3)), min_size=1, max_size=4))
def test_a_file_that_was_damaged(bench: ServerBench, damages: list[tuple[int, bytes]]) -> None:
    """A word may have become another word; then the command fails as it does for clients, and is reported."""
    data = bytearray(WHOLE)
    for place, noise in damages:
        data[place : place + len(noise)] = noise

    result, _left = load(bench, bytes(data), truncated=True)

    assert result in LoadResult


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([str(words[0]) for words in COMMANDS] + ["EVAL", "CONFIG", "DEBUG", "BLPOP", "SUBSCRIBE"]),
            st.lists(st.sampled_from(["a", "l", "x", "0", "-1", "1", "MAXLEN", "STREAMS", "\x00"]), max_size=6),
        ),
        max_size=6,
    )
)
def test_any_commands_in_any_order(bench: ServerBench, commands: list[tuple[str, list[str]]]) -> None:
    data = b"".join(encode(name, *words) for name, words in commands)

    result, _left = load(bench, data, truncated=True)

    assert result in LoadResult
