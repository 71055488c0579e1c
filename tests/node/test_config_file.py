"""The text of conf files: lines, quoting, reading, and the report of a fatal error."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ConfigError
from cluster.node import config_file
from cluster.resp.parser import split_inline
from cluster.resp.quoting import quote


@given(st.binary())
def test_what_is_quoted_is_read_back(value: bytes) -> None:
    quoted = quote(value)

    assert split_inline(quoted) == [value]
    assert quoted.isascii()
    assert b"\n" not in quoted


@given(st.binary())
def test_text_survives_decoding(value: bytes) -> None:
    assert config_file.encode(config_file.decode(value)) == value


def test_lines_are_numbered_and_comments_skipped() -> None:
    text = b"# comment\n\nPort 7000\r\n  \t bind a  'b c'\n#x\n\"quoted name\" v\nlast"

    lines = list(config_file.directives(text))

    assert [(line.number, line.arguments) for line in lines] == [
        (3, [b"port", b"7000"]),
        (4, [b"bind", b"a", b"b c"]),
        (6, [b"quoted name", b"v"]),
        (7, [b"last"]),
    ]
    assert lines[0].text == b"Port 7000"


def test_a_hash_is_a_comment_only_at_the_start() -> None:
    (line,) = config_file.directives(b"requirepass #1")

    assert line.arguments == [b"requirepass", b"#1"]


def test_unbalanced_quotes_are_fatal() -> None:
    with pytest.raises(ConfigError) as error:
        list(config_file.directives(b'port 1\n bind "a \n'))

    assert str(error.value) == (
        "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n"
        "Reading the configuration file, at line 2\n"
        ">>> 'bind \"a'\n"
        "Unbalanced quotes in configuration line"
    )


def test_an_error_about_the_whole_names_no_line() -> None:
    assert str(config_file.fatal("why")) == "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\nwhy"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"a\nb\n", b"a\nb\n"),
        (b"a\0x\nb\n", b"ab\n"),
        (b"a\nb\0x", b"a\nb"),
        (b"\0\n\0\nc", b"c"),
        (b"", b""),
    ],
)
def test_a_nul_swallows_the_rest_of_its_line(text: bytes, kept: bytes) -> None:
    assert config_file.without_nuls(text) == kept


def test_reading(tmp_path: Path) -> None:
    path = tmp_path / "conf"
    path.write_bytes(b"x" * 100_000)

    assert config_file.read(str(path)) == b"x" * 100_000
    assert config_file.read(str(tmp_path)) == b""
    with pytest.raises(FileNotFoundError):
        config_file.read(str(tmp_path / "missing"))


def test_patterns_are_expanded_in_order(tmp_path: Path) -> None:
    for name in ("b.conf", "a.conf", "c.txt"):
        (tmp_path / name).touch()

    assert config_file.expand(f"{tmp_path}/*.conf") == [f"{tmp_path}/a.conf", f"{tmp_path}/b.conf"]
    assert config_file.expand(f"{tmp_path}/[x].conf") == []
    assert config_file.expand("plain") == ["plain"]
