"""Steps of a random example: what is done to a pair of servers, with a text for the example that fails."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.differential.pair import Pair
from tests.support.differential.vocabulary import Request

Step = Callable[[Pair], object]


class Described:
    """A step that a failing example shows as what it does."""

    def __init__(self, text: str, act: Step) -> None:
        self._text = text
        self._act = act

    def __call__(self, pair: Pair) -> object:
        return self._act(pair)

    def __repr__(self) -> str:
        return self._text


def ask(connection: int, request: Request) -> Step:
    """Ask both the same, and compare what they reply."""
    return Described(f"ask({connection}, {request!r})", lambda pair: pair.ask(connection, request))
