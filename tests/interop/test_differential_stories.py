"""Stories of several clients, told to one of our nodes and to a real server: everybody hears the same of both.

The stories are in tests/support/differential/stories*.txt; how they are written, in scenario.py beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.differential import scenario
from tests.support.differential.scenario import Stage, stories

pytestmark = pytest.mark.real_redis

_FOLDER = Path(scenario.__file__).parent


def _stories(name: str) -> list[pytest.param]:  # type: ignore[valid-type]
    text = (_FOLDER / name).read_text()
    return [pytest.param(story, id=title) for title, story in stories(text).items()]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as both:
        yield both


@pytest.mark.parametrize("story", _stories("stories_blocking.txt"))
def test_waiting(stage: Stage, story: str) -> None:
    stage.check(story)


@pytest.mark.parametrize("story", _stories("stories_clients.txt"))
def test_clients(stage: Stage, story: str) -> None:
    stage.check(story)


@pytest.mark.parametrize("story", _stories("stories_answers.txt"))
def test_answers(stage: Stage, story: str) -> None:
    stage.check(story)


@pytest.mark.parametrize("story", _stories("stories_calls.txt"))
def test_rare_calls(stage: Stage, story: str) -> None:
    stage.check(story)


@pytest.fixture(scope="module")
def cluster_stage() -> Iterator[Stage]:
    with Stage(cluster=True) as both:
        yield both


@pytest.mark.parametrize("story", _stories("stories_cluster.txt"))
def test_cluster_mode(cluster_stage: Stage, story: str) -> None:
    cluster_stage.check(story)
