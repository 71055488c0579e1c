"""What the tests of the configuration share: a Config that logs nowhere, and a directory to be in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.node.config import Config
from cluster.node.logging import Log
from cluster.settings import Settings


def quiet_config(**changes: object) -> Config:
    """A Config over fresh settings; keyword arguments set attributes of Settings."""
    settings = Settings()
    for name, value in changes.items():
        assert hasattr(settings, name)
        setattr(settings, name, value)
    return Config(settings, Log(Settings(logfile=os.devnull)))


def loaded(text: str | bytes, **changes: object) -> Config:
    """A Config that has read ``text``."""
    config = quiet_config(**changes)
    config.read(overrides=text.encode() if isinstance(text, str) else text)
    return config


@pytest.fixture
def in_directory(tmp_path: Path) -> Iterator[Path]:
    """A directory to be in; whoever leaves it (the directive ``dir`` does) is brought back."""
    before = os.getcwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)
