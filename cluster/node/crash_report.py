"""What the log says when a signal ends the process that ought to end no process (sigsegvHandler in debug.c).

Only a signal that was sent is reported here: after a fault of the interpreter itself no Python runs any more.
"""

from __future__ import annotations

import os
import signal
import traceback
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.node.logging import Log


def report_and_die(log: Log, number: int, frame: FrameType | None) -> None:
    """Show where the process was, then let the signal do what it does."""
    log.warning("=== REDIS BUG REPORT START: Cut & paste starting from here ===")
    log.warning(f"Hashslot crashed by signal: {number}, si_code: 0")
    log.warning("------ STACK TRACE ------")
    for entry in traceback.format_stack(frame):
        for line in entry.rstrip().splitlines():
            log.warning(line)
    log.warning("=== REDIS BUG REPORT END. Make sure to include from START to END. ===")
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
