"""The person at the console, for tests: types prepared answers, reads everything."""

from __future__ import annotations

import io
from collections.abc import Sequence

import attrs

from cluster.admin.connection import Credentials
from cluster.admin.console import Console
from cluster.admin.context import Context
from tests.admin.cluster_model import ModelCluster


class TypedAnswers(io.StringIO):
    """Standard input that echoes what is typed, as a terminal does."""

    def __init__(self, answers: Sequence[str], screen: io.StringIO) -> None:
        super().__init__("".join(answer + "\n" for answer in answers))
        self.screen = screen

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]  # As in StringIO itself.
        line = super().readline(size)
        self.screen.write(line)
        return line


@attrs.define
class Clock:
    """Time that passes only when somebody sleeps; nodes gossip meanwhile."""

    cluster: ModelCluster
    now: int = 0

    def now_ms(self) -> int:
        return self.now

    def sleep_s(self, seconds: float) -> None:
        self.now += int(seconds * 1000)
        self.cluster.gossip()


@attrs.define
class Person:
    """A console without terminal and a context that reaches a model."""

    context: Context
    screen: io.StringIO
    errors: io.StringIO
    clock: Clock

    @property
    def seen(self) -> str:
        return self.screen.getvalue()

    @property
    def complaints(self) -> str:
        return self.errors.getvalue()


def person_at(cluster: ModelCluster, *answers: str, credentials: Credentials | None = None) -> Person:
    """Somebody who will type ``answers``."""
    screen, errors, clock = io.StringIO(), io.StringIO(), Clock(cluster)
    console = Console(
        out=screen,
        err=errors,
        answers=TypedAnswers(answers, screen),
        is_terminal=False,
        has_colours=False,
        progress_stream=None,
    )
    context = Context(
        console,
        credentials=credentials or Credentials(),
        open_link=cluster.open_link,
        now_ms=clock.now_ms,
        sleep_s=clock.sleep_s,
    )
    return Person(context, screen, errors, clock)
