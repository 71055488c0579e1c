"""Child processes that cannot outlive the test run.

Three nets, one under the other: a context manager ends what it started; `kill_all` ends what is left when pytest
finishes; and the kernel kills the children (PR_SET_PDEATHSIG) if pytest itself is killed. Each child leads a process
group of its own, so that the children it forks (a background save) go with it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_running: set[subprocess.Popen[bytes]] = set()


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def spawn(
    argv: Sequence[str],
    *,
    cwd: Path,
    output: IO[bytes],
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` in `cwd` with stdout and stderr going to `output`."""
    # The kernel ties the death signal to the *thread* that forked: from a short-lived one it would come early.
    in_main_thread = threading.current_thread() is threading.main_thread()
    process = subprocess.Popen(
        list(argv),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(env) if env is not None else None,
        start_new_session=True,
        preexec_fn=_die_with_parent if in_main_thread else None,  # noqa: PLW1509 - one prctl, no locks, no imports
    )
    _running.add(process)
    return process


def end(process: subprocess.Popen[bytes], *, grace: float = 10.0) -> int:
    """SIGTERM, wait up to `grace` seconds, SIGKILL; then sweep the process group. Returns the exit status."""
    if process.poll() is None:
        for number in (signal.SIGTERM, signal.SIGCONT):  # A stopped process would not see the SIGTERM.
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return _sweep(process)


def kill(process: subprocess.Popen[bytes]) -> int:
    """SIGKILL, which also ends a stopped process; then sweep the process group."""
    if process.poll() is None:
        process.kill()
        process.wait()
    return _sweep(process)


def _sweep(process: subprocess.Popen[bytes]) -> int:
    """Kill what is left of the group, once, and wait until it is gone: it has ports and files of its leader's.

    Only once: when its last member is gone, the number may be given to another group.
    """
    if process in _running:
        _running.discard(process)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
            while _lives(process.pid):
                time.sleep(0.001)
    return process.returncode


def _lives(group: int) -> bool:
    """Whether a process of the group is more than an entry in the table."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, its_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # Gone in the meantime.
            continue
        if int(its_group) == group and state not in "ZX":
            return True
    return False


def leftovers() -> list[subprocess.Popen[bytes]]:
    """Processes started by `spawn` that nobody has ended."""
    return [process for process in _running if process.poll() is None]


def kill_all() -> None:
    for process in list(_running):
        kill(process)


atexit.register(kill_all)
