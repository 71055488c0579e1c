"""What the log tells of a process that a signal has ended."""

from __future__ import annotations

import signal

from tests.support.servers import OurNode


def test_an_abort_is_reported_with_its_place() -> None:
    with OurNode() as node:
        node.signal(signal.SIGABRT)
        assert node.wait_exit() == -signal.SIGABRT
        assert f"crashed by signal: {int(signal.SIGABRT)}" in node.log_text()
        assert "------ STACK TRACE ------" in node.log_text()
        assert "reactor.py" in node.log_text() or "trio" in node.log_text()


def test_no_report_if_none_is_wanted() -> None:
    with OurNode(crash_log_enabled="no") as node:
        node.signal(signal.SIGABRT)
        assert node.wait_exit() == -signal.SIGABRT
        assert "STACK TRACE" not in node.log_text()
