"""The person at the other end: what is printed, asked and shown while waiting.

Role        Everything the operations say goes through here, so that what is said to a terminal (colours, a progress
            bar, hints) and what is said to a pipe (redis-cli's plain lines, nothing more) is decided in one place.
Invariants  Piped output holds no escape sequence and no hint. NO_COLOR (no-color.org) is respected.
Source      Colours and levels: clusterManagerLog in redis-cli.c; unlike it, a pipe is never coloured.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import TextIO

import attrs

from cluster.admin.errors import Aborted
from cluster.clock import monotonic_ms

_BOLD = "\033[29;1m"
_RED = "\033[31;1m"
_GREEN = "\033[32;1m"
_YELLOW = "\033[33;1m"
_RESET = "\033[0m"
_CLEAR_LINE = "\r\033[K"
_REDRAW_EVERY_MS = 80


@attrs.define
class Console:
    """Standard output, error and input, and what is known of them."""

    out: TextIO
    err: TextIO
    answers: TextIO
    is_terminal: bool  # Standard output goes to a person.
    has_colours: bool
    progress_stream: TextIO | None  # Where a progress bar may be drawn; None: nowhere.
    _bar: ProgressBar | None = None

    @classmethod
    def from_process(cls, environ: Mapping[str, str]) -> Console:
        """The console of this process."""
        is_terminal = _is_terminal(sys.stdout)
        is_dumb = environ.get("TERM", "dumb") == "dumb"
        if _is_terminal(sys.stderr):
            progress_stream: TextIO | None = sys.stderr
        else:
            progress_stream = sys.stdout if is_terminal else None
        return cls(
            out=sys.stdout,
            err=sys.stderr,
            answers=sys.stdin,
            is_terminal=is_terminal,
            has_colours=is_terminal and not is_dumb and not environ.get("NO_COLOR"),
            progress_stream=None if is_dumb else progress_stream,
        )

    def line(self, text: str = "") -> None:
        """A plain line on standard output."""
        self._print(text, "")

    def part(self, text: str) -> None:
        """A piece of a line on standard output, shown at once."""
        self._write(text, at_once=True)

    def flush(self) -> None:
        """Let what was printed go out."""
        self._write("", at_once=True)

    def info(self, text: str) -> None:
        self._print(text, _BOLD)

    def ok(self, text: str) -> None:
        self._print(text, _GREEN)

    def warn(self, text: str) -> None:
        self._print(text, _YELLOW)

    def error(self, text: str) -> None:
        """A finding or a failure. On standard output, where redis-cli has them too, between the lines they explain."""
        self._print(text, _RED)

    def complain(self, text: str) -> None:
        """A failure of the call itself, on standard error."""
        self._hide_bar()
        self._write("", at_once=True)  # Both may be one terminal: keep the order.
        self.err.write(text + "\n")
        self.err.flush()

    def hint(self, text: str) -> None:
        """What to do next: for a person; a pipe does not get it."""
        if self.is_terminal:
            self._print(text, "")

    def ask(self, question: str) -> str:
        """Ask, and return the answer without surrounding blanks. Raises Aborted when there is nobody to answer."""
        self._hide_bar()
        self.part(question)
        answer = self.answers.readline()
        if not answer:
            self.line()
            raise Aborted("*** No answer: standard input is at its end. Nothing was changed.")
        return answer.strip()

    def confirm(self, question: str) -> bool:
        """redis-cli's question: anything but ``yes`` is a no."""
        return self.ask(f"{question} (type 'yes' to accept): ") == "yes"

    def progress(self, label: str, total: int) -> ProgressBar:
        """A bar for long work. Where it does not ``replaces_lines``, the caller prints a plain line for each step."""
        self._hide_bar()
        replaces_lines = self.is_terminal and self.progress_stream is not None
        self._bar = ProgressBar(self.progress_stream, label, total, replaces_lines)
        return self._bar

    def _print(self, text: str, colour: str) -> None:
        self._hide_bar()
        if colour and self.has_colours:
            text = f"{colour}{text}{_RESET}"
        self._write(text + "\n", at_once=self.is_terminal)

    def _write(self, text: str, at_once: bool) -> None:
        """Write to standard output. A reader that has gone (``| head``) must not stop a reshard in the middle."""
        try:
            self.out.write(text)
            if at_once:
                self.out.flush()
        except BrokenPipeError:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self.out.fileno())

    def _hide_bar(self) -> None:
        if self._bar is not None:
            self._bar.hide()


@attrs.define
class ProgressBar:
    """``Moving slots  [#####-------------]  120/500  slot 5972``, redrawn in place; gone when the work is done."""

    stream: TextIO | None
    label: str
    total: int
    replaces_lines: bool  # The person sees the bar where the lines would go.
    _drawn_at_ms: int = -_REDRAW_EVERY_MS
    _is_visible: bool = False

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.hide()
        self.stream = None

    def show(self, done: int, note: str = "") -> None:
        """``done`` of ``total`` are finished; ``note`` says what is happening now."""
        now_ms = monotonic_ms()
        if self.stream is None or (now_ms - self._drawn_at_ms < _REDRAW_EVERY_MS and done < self.total):
            return
        self._drawn_at_ms = now_ms
        columns = shutil.get_terminal_size().columns
        self.stream.write(_CLEAR_LINE + bar_text(self.label, done, self.total, note, columns - 1))
        self.stream.flush()
        self._is_visible = True

    def hide(self) -> None:
        """Take the bar off the screen, so that something else can be printed there."""
        if self._is_visible and self.stream is not None:
            self.stream.write(_CLEAR_LINE)
            self.stream.flush()
            self._is_visible = False


def bar_text(label: str, done: int, total: int, note: str, columns: int) -> str:
    """The bar as text of at most ``columns`` characters; the note is the first to go when there is no room."""
    share = min(done / total, 1.0) if total > 0 else 1.0
    width = max(min(30, columns - len(label) - 20), 0)
    full = int(share * width)
    bar = f"  [{'#' * full}{'-' * (width - full)}]" if width >= 8 else ""
    text = f"{label}{bar}  {done}/{total}"
    if note and len(text) + 2 + len(note) <= columns:
        text += "  " + note
    return text[: max(columns, 0)]


def _is_terminal(stream: TextIO) -> bool:
    try:
        return os.isatty(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
