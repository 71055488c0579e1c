"""The command line of redis-cluster-node: words become lines of configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.node.command_line import Action, LaunchOptions, absolute_path, parse_command_line, version_line
from cluster.node.process import run_process
from tests.node.config_support import in_directory

__all__ = ["in_directory"]


def parse(*words: str) -> LaunchOptions:
    return parse_command_line(["redis-cluster-node", *words])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--port", "7000"], 'port "7000" '),
        (["--port", "7000", "--hz", "5"], 'port "7000" \nhz "5" '),
        (["--bind", "a", "b"], 'bind "a" "b" '),
        (["--port 7000", "--hz 5"], "port 7000 \nhz 5 "),
        (["--port"], "port "),
        (["--port", "--hz", "5"], 'port "--hz" "5" '),
        (["--title", "--save", "--save", "", "--hz", "5"], 'title "--save" \nsave "" \nhz "5" '),
        (["--save", "--hz", "5"], 'save ""\nhz "5" '),
        (["--hz", "5", "--save"], 'hz "5" \nsave ""'),
        (["--save", ""], 'save "" '),
        (["--sentinel", "--hz", "5"], 'sentinel \nhz "5" '),
        (["--hz", "5", "--sentinel"], 'hz "5" \nsentinel '),
        (["--a", 'x"y\n'], 'a "x\\"y\\n" '),
        (["--a 'b", "--c", "d"], 'a \'b \nc "d" '),
        (["-x"], '"-x" '),
    ],
)
def test_words_become_lines(words: list[str], text: str) -> None:
    assert parse(*words).overrides.decode() == text


def test_a_first_word_without_dash_is_the_file(in_directory: Path) -> None:
    options = parse("sub/redis.conf", "port", "7", "--hz", "5")

    assert options.config_path == f"{os.getcwd()}/sub/redis.conf"
    assert options.overrides == b'"port" "7" \nhz "5" '


@pytest.mark.parametrize(
    ("words", "from_stdin", "text"),
    [
        (["-"], True, ""),
        (["x.conf", "-"], True, ""),
        (["-", "--hz", "5"], True, 'hz "5" '),
        (["--hz", "5", "-"], True, 'hz "5" '),
        (["--hz", "-", "5"], False, 'hz "-" "5" '),
        (["x.conf", "-", "--hz", "5"], False, '"-" \nhz "5" '),
    ],
)
def test_a_dash_at_either_end_is_standard_input(words: list[str], from_stdin: bool, text: str) -> None:
    options = parse(*words)

    assert (options.from_stdin, options.overrides.decode()) == (from_stdin, text)


def test_no_words_at_all() -> None:
    assert parse() == LaunchOptions()
    assert not parse().has_arguments
    assert parse("--hz", "5").has_arguments


@pytest.mark.parametrize(
    ("word", "action"),
    [("-v", Action.VERSION), ("--version", Action.VERSION), ("-h", Action.HELP), ("--help", Action.HELP)],
)
def test_version_and_help_are_asked_for_by_the_first_word(word: str, action: Action) -> None:
    assert parse(word).action is action
    assert parse("--hz", "5", word).action is Action.RUN


def test_sentinel_mode() -> None:
    assert parse("x.conf", "--sentinel").sentinel_mode
    assert parse_command_line(["/usr/bin/redis-sentinel", "x.conf"]).sentinel_mode
    assert not parse("x.conf").sentinel_mode


def test_version_line_is_what_scripts_look_for() -> None:
    assert version_line("1.2.3").startswith("Redis server v=7.0.15 sha=00000000:0 malloc=")
    assert " bits=64 build=" in version_line("1.2.3")
    assert "Hashslot 1.2.3" in version_line("1.2.3")


@pytest.mark.parametrize(
    ("path", "absolute"),
    [
        ("/x/../y", "/x/../y"),
        (" x.conf\n", "{here}/x.conf"),
        ("./x.conf", "{here}/./x.conf"),
        ("../x.conf", "{above}/x.conf"),
        ("../../../../../../../../../x.conf", "/x.conf"),
    ],
)
def test_absolute_paths(in_directory: Path, path: str, absolute: str) -> None:
    here = os.getcwd()

    assert absolute_path(path) == absolute.format(here=here, above=os.path.dirname(here))


@given(st.lists(st.binary(max_size=12).map(lambda word: os.fsdecode(word.replace(b"\0", b""))), max_size=6))
def test_any_words_can_be_read(words: list[str]) -> None:
    options = parse(*words)

    assert b"\0" not in options.overrides


@pytest.mark.parametrize("words", [["--sentinel"], ["x.conf", "--sentinel"]])
def test_a_sentinel_that_would_watch_nobody_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.conf").write_text("")

    assert run_process(["redis-cluster-node", *words]) == 1
    assert "There is no Sentinel mode yet" in capsys.readouterr().err
