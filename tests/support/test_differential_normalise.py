"""What depends on the clock is hidden from the comparison, and nothing else."""

from __future__ import annotations

import time

import pytest

from tests.support.differential.normalise import hide_relative_times
from tests.support.differential.vocabulary import FAR_MS, FAR_S


def _now_ms() -> int:
    return int(time.time() * 1000)


def test_times_that_are_left_are_hidden() -> None:
    for end_ms in (int(FAR_MS), 2**63 - 1):
        left_ms = end_ms - _now_ms()
        for text in (b":%d\r\n" % left_ms, b":%d\r\n" % ((left_ms + 500) // 1000)):
            assert hide_relative_times(text) == b":<left until then>\r\n"
    assert hide_relative_times(b":99999\r\n") == b":<left>\r\n"
    assert hide_relative_times(b":%d\r\n" % (_now_ms() + 100_000_000)) == b":<then>\r\n"


@pytest.mark.parametrize("text", [FAR_S, FAR_MS, b"9223372036854775807", b"-9223372036854775808", b"12345", b"-1"])
def test_other_numbers_stay(text: bytes) -> None:
    assert hide_relative_times(b":" + text) == b":" + text
