"""Scripts for two servers: a corpus whose replies must be the same bytes, and values of Lua at random."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

CORPUS: tuple[str, ...] = tuple(
    line.encode("latin-1").decode("unicode_escape") if line != "(empty)" else ""
    for line in (Path(__file__).parent / "scripts.txt").read_text("latin-1").split("\n")
    if line and not line.startswith("# ")
)
"""Bodies for EVAL without keys, in an order that matters."""


def quoted(text: bytes) -> str:
    """A string literal of Lua."""
    return '"' + "".join(f"\\{byte:03d}" for byte in text) + '"'


_numbers = st.one_of(
    st.integers(-(2**53), 2**53).map(str),
    st.floats(allow_nan=False, allow_infinity=False, width=64).map(lambda number: f"({number!r})"),
    st.sampled_from(["1/0", "-1/0", "2^63", "-2^63", "1e19"]),
)
_strings = st.binary(max_size=12).map(quoted)
plain_values = st.one_of(_numbers, _strings, st.sampled_from(["true", "false", "nil"]))
"""Expressions of Lua whose value is no table."""


def _tables(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(values, max_size=5).map(lambda items: "{" + ",".join(items) + "}")
    # One key at most: the order of a table's keys is nobody's business.
    return st.one_of(
        lists,
        st.tuples(st.sampled_from(["map", "set"]), st.one_of(_strings, st.integers(1, 9).map(str)), values).map(
            lambda parts: f"{{{parts[0]}={{[{parts[1]}]={parts[2]}}}}}"
        ),
        st.tuples(st.sampled_from(["ok", "err", "big_number", "double"]), st.one_of(_strings, _numbers)).map(
            lambda parts: f"{{{parts[0]}={parts[1]}}}"
        ),
        st.tuples(_strings, _strings).map(lambda parts: f"{{verbatim_string={{format={parts[0]},string={parts[1]}}}}}"),
    )


lua_values = st.recursive(plain_values, _tables, max_leaves=12)
"""Expressions of Lua whose value a script may return."""
