"""Log lines in Redis's format, levels, files that are rotated away, and what is said at the start."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.node import logging
from cluster.node.logging import Log, log_environment, log_mode, log_start, logo
from cluster.settings import Settings
from tests.support.servers import REPOSITORY, OurNode

# 2026-11-20 15:26:39.091 UTC
MOMENT_US = 1_795_188_399_091_999


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def log_to(path: Path, level: str = "notice") -> Log:
    return Log(Settings(logfile=str(path), loglevel=level), role=lambda: "M", now_us=lambda: MOMENT_US)


def test_the_line(tmp_path: Path, utc: None) -> None:
    log_to(tmp_path / "log").notice("Ready to accept connections")

    assert (tmp_path / "log").read_text() == (
        f"{os.getpid()}:M 20 Nov 2026 15:26:39.091 * Ready to accept connections\n"
    )


def test_times_are_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-03:30")
    time.tzset()
    log_to(tmp_path / "log").notice("x")
    monkeypatch.undo()
    time.tzset()

    assert "20 Nov 2026 18:56:39.091" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("level", "marks"), [("debug", ".-*#"), ("verbose", "-*#"), ("notice", "*#"), ("warning", "#")]
)
def test_levels(tmp_path: Path, level: str, marks: str) -> None:
    log = log_to(tmp_path / "log", level)
    for write in (log.debug, log.verbose, log.notice, log.warning):
        write("x")

    assert re.findall(r" (.) x\n", (tmp_path / "log").read_text()) == list(marks)
    assert [name for name in ("debug", "verbose", "notice", "warning") if log.level_enabled(name)] == [
        "debug", "verbose", "notice", "warning"][-len(marks):]  # fmt: skip


def test_the_level_can_be_changed_while_running(tmp_path: Path) -> None:
    settings = Settings(logfile=str(tmp_path / "log"))
    log = Log(settings)
    log.debug("one")
    settings.loglevel = "debug"
    log.debug("two")

    assert "one" not in (tmp_path / "log").read_text()
    assert "two" in (tmp_path / "log").read_text()


def test_roles(tmp_path: Path) -> None:
    log = Log(Settings(logfile=str(tmp_path / "log")))
    log.notice("starting")
    log.role, log.main_pid = (lambda: "S"), os.getpid()
    log.notice("replica")
    log.main_pid = os.getpid() + 1
    log.notice("child")

    roles = re.findall(r":(.) .* \* (\w+)\n", (tmp_path / "log").read_text())
    assert roles == [("C", "starting"), ("S", "replica"), ("C", "child")]


def test_standard_output_is_not_buffered(capfd: pytest.CaptureFixture[str]) -> None:
    Log(Settings()).warning("now")

    assert capfd.readouterr().out.endswith(" # now\n")


def test_a_rotated_file_is_made_anew(tmp_path: Path) -> None:
    log = log_to(tmp_path / "log")
    log.notice("one")
    os.rename(tmp_path / "log", tmp_path / "log.1")
    log.notice("two")

    assert "one" in (tmp_path / "log.1").read_text()
    assert "two" in (tmp_path / "log").read_text()


def test_a_log_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    log = log_to(tmp_path / "sub" / "log")
    (tmp_path / "sub").mkdir()
    log.notice("x")
    shutil.rmtree(tmp_path / "sub")

    log.notice("y")
    Log(Settings(logfile="a\0b")).notice("z")


def test_long_and_odd_texts(tmp_path: Path) -> None:
    log = log_to(tmp_path / "log")
    log.notice("x" * 5000)
    log.notice("\udcff é")
    log.raw("y" * 5000)

    first, second, raw = (tmp_path / "log").read_bytes().split(b"\n")
    assert first.endswith(b" * " + b"x" * 1023)
    assert second.endswith(b" * \xff \xc3\xa9")
    assert raw == b"y" * 5000


def test_raw_text_is_of_level_notice(tmp_path: Path) -> None:
    log_to(tmp_path / "log", "warning").raw("logo")

    assert not (tmp_path / "log").exists()


def test_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import syslog

    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(syslog, "openlog", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(syslog, "syslog", lambda *arguments: calls.append(arguments))
    settings = Settings(logfile=str(tmp_path / "log"), syslog_enabled=True, syslog_ident="me", syslog_facility="local7")
    log = Log(settings)
    log.verbose("no")
    log.notice("a\0b\udcff")
    log.warning("c")

    assert calls == [
        ("me", syslog.LOG_PID | syslog.LOG_NDELAY, syslog.LOG_LOCAL7),
        (syslog.LOG_NOTICE, "a?b?"),
        (syslog.LOG_WARNING, "c"),
    ]


def test_the_first_lines(tmp_path: Path) -> None:
    log_start(log_to(tmp_path / "log", "warning"), program="x", has_arguments=True)

    texts = [line.partition(" # ")[2] for line in (tmp_path / "log").read_text().splitlines()]
    assert texts == [
        "oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo",
        f"Redis version=7.0.15, bits=64, commit=00000000, modified=0, pid={os.getpid()}, just started",
        "Configuration loaded",
    ]


def test_a_start_without_words_says_how_to_give_a_file(tmp_path: Path) -> None:
    log_start(log_to(tmp_path / "log"), program="node", has_arguments=False)

    assert (
        (tmp_path / "log")
        .read_text()
        .endswith(
            " # Warning: no config file specified, using the default config. "
            "In order to specify a config file use node /path/to/redis.conf\n"
        )
    )


@pytest.mark.parametrize(
    ("changes", "sentinel", "mode"),
    [({}, False, "standalone"), ({"cluster_enabled": True}, False, "cluster"), ({}, True, "sentinel")],
)
def test_the_mode_in_one_line_or_as_a_picture(
    tmp_path: Path, changes: dict[str, bool], sentinel: bool, mode: str
) -> None:
    settings = Settings(logfile=str(tmp_path / "log"), port=7000, **changes)  # type: ignore[arg-type]
    log = Log(settings)
    log_mode(log, settings, version="1", sentinel_mode=sentinel)
    assert (tmp_path / "log").read_text().endswith(f" * Running mode={mode}, port=7000.\n")

    settings.always_show_logo = True
    log_mode(log, settings, version="1", sentinel_mode=sentinel)
    assert f"Running in {mode} mode\n" in (tmp_path / "log").read_text()


def test_the_picture_has_the_lines_that_scripts_wait_for() -> None:
    picture = logo(mode="cluster", port=7000, pid=123, version="1.2.3")

    for text in (" Running in cluster mode\n", " Port: 7000\n", " PID: 123\n", "7.0.15", "Hashslot 1.2.3"):
        assert text in picture
    assert picture.endswith("\n\n")


@pytest.mark.parametrize(("exits", "status"), [(True, 1), (False, -signal.SIGABRT)])
def test_a_panic_ends_the_process_by_exit_or_by_abort(exits: bool, status: int) -> None:
    with OurNode(use_exit_on_panic="yes" if exits else "no") as node, node.raw() as connection:
        connection.send("DEBUG", "PANIC")
        assert node.wait_exit() == status


@pytest.mark.parametrize("wanted", [True, False])
def test_huge_pages_are_kept_away_or_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    monkeypatch.setattr(logging, "_kernel_says", lambda path: "[always] madvise never" if "huge" in path else "1")
    calls: list[bool] = []

    def disable() -> bool:
        calls.append(True)
        return True

    monkeypatch.setattr(logging, "_disable_huge_pages", disable)
    log_environment(log_to(tmp_path / "log"), without_huge_pages=wanted)

    assert ("Transparent Huge Pages" in (tmp_path / "log").read_text()) is not wanted
    assert calls == [True] * wanted


def test_a_node_does_without_huge_pages_where_they_are_forced() -> None:
    code = (
        "from cluster.node.logging import _disable_huge_pages as disable; import ctypes;"
        "print(disable(), ctypes.CDLL(None).prctl(42, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)

    assert done.stdout == "True 1\n"
