"""What a terminal gets and what a pipe gets."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.admin.console import Console, bar_text
from cluster.admin.errors import Aborted
from tests.support.servers import REPOSITORY

ESCAPE = re.compile(r"\x1b\[[0-9;]*[mK]")


def given_console(
    *, is_terminal: bool, has_colours: bool, answers: str = ""
) -> tuple[Console, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    console = Console(
        out=out,
        err=err,
        answers=io.StringIO(answers),
        is_terminal=is_terminal,
        has_colours=has_colours,
        progress_stream=err if is_terminal else None,
    )
    return console, out, err


def test_a_pipe_gets_no_escapes_no_hints_and_no_bar() -> None:
    console, out, err = given_console(is_terminal=False, has_colours=False)
    console.info(">>> Working")
    with console.progress("Moving", 10) as bar:
        bar.show(5)
    console.ok("[OK] Done.")
    console.hint("Try something else.")

    assert out.getvalue() == ">>> Working\n[OK] Done.\n"
    assert err.getvalue() == ""
    assert not bar.replaces_lines


def test_a_terminal_gets_redis_clis_colours_and_hints() -> None:
    console, out, _ = given_console(is_terminal=True, has_colours=True)
    for say in (console.info, console.ok, console.warn, console.error, console.line, console.hint):
        say("x")

    assert out.getvalue() == ("\x1b[29;1mx\x1b[0m\n\x1b[32;1mx\x1b[0m\n\x1b[33;1mx\x1b[0m\n\x1b[31;1mx\x1b[0m\nx\nx\n")


def test_the_bar_is_gone_before_anything_else_is_printed() -> None:
    console, out, err = given_console(is_terminal=True, has_colours=False)
    console.progress_stream = console.err = out  # One screen.
    with console.progress("Moving slots", 4) as bar:
        assert bar.replaces_lines
        bar.show(4, "slot 7")
        console.line("a line")

    assert out.getvalue().endswith("\r\x1b[Ka line\n")
    assert "Moving slots  [" in out.getvalue()
    assert err.getvalue() == ""


@given(
    st.text("abc ", max_size=30),
    st.integers(0, 50),
    st.integers(0, 50),
    st.text("xyz", max_size=40),
    st.integers(0, 120),
)
def test_the_bar_never_exceeds_the_line(label: str, done: int, total: int, note: str, columns: int) -> None:
    assert len(bar_text(label, done, total, note, columns)) <= columns


def test_the_bar_at_a_usual_width() -> None:
    assert bar_text("Moving slots", 5, 10, "slot 7", 79) == (
        "Moving slots  [###############---------------]  5/10  slot 7"
    )


def test_the_note_goes_first_where_there_is_no_room() -> None:
    assert bar_text("Moving slots", 5, 10, "slot 7 from somewhere far away", 40) == "Moving slots  [####----]  5/10"


@pytest.mark.parametrize(("typed", "expected"), [("yes\n", True), ("yes  \n", True), ("no\n", False), ("y\n", False)])
def test_confirming(typed: str, expected: bool) -> None:
    console, out, _ = given_console(is_terminal=False, has_colours=False, answers=typed)

    assert console.confirm("Can I set the above configuration?") is expected
    assert out.getvalue() == "Can I set the above configuration? (type 'yes' to accept): "


def test_the_end_of_input_is_nobody_to_ask() -> None:
    console, _, _ = given_console(is_terminal=False, has_colours=False)

    with pytest.raises(Aborted):
        console.ask("? ")


# The real process on a real pseudo-terminal


@contextmanager
def pseudo_terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        for fd in (ours, theirs):
            try:
                os.close(fd)
            except OSError:
                pass


def printed_on_terminal(**environment: str) -> str:
    """What a process prints with all three streams on a terminal."""
    program = (
        "import os\nfrom cluster.admin.console import Console\n"
        "c = Console.from_process(os.environ)\nc.info('info')\nc.hint('hint')\n"
        "with c.progress('Bar', 2) as bar:\n    bar.show(2)\n"
    )
    with pseudo_terminal() as (ours, theirs):
        environ = {**os.environ, "TERM": "xterm", **environment}
        environ.pop("NO_COLOR", None) if "NO_COLOR" not in environment else None
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environ,
            cwd=REPOSITORY,
            timeout=30,
            check=True,
        )
        assert done.returncode == 0
        os.close(theirs)
        text = b""
        try:
            while piece := os.read(ours, 4096):
                text += piece
        except OSError:
            pass  # The other end is closed: that is all there was.
        return text.decode()


def test_a_process_on_a_terminal() -> None:
    text = printed_on_terminal()

    assert "\x1b[29;1minfo\x1b[0m" in text
    assert "hint" in text
    assert "Bar  [" in text


def test_no_color_is_respected() -> None:
    text = printed_on_terminal(NO_COLOR="1")

    assert "info" in text and "hint" in text
    assert re.findall(r"\x1b\[[0-9;]*m", text) == []


def test_a_dumb_terminal_gets_neither_colours_nor_a_bar() -> None:
    text = printed_on_terminal(TERM="dumb")

    assert ESCAPE.findall(text) == []
    assert "hint" in text
