"""The software watchdog: a line in the log, and where the program is, when the loop has not come round for too long.

Role        Housekeeping puts an alarm off every time; with ``watchdog-period`` 0, the default, there is no alarm.
            It is a signal, so it goes off in the midst of whatever holds the loop up; a call into C is not interrupted:
            the report then follows at its end.
Invariants  One report for each time the loop stands still. A data set being loaded counts as standing still, however
            alive the loop is meanwhile, as in Redis.
Source      applyWatchdogPeriod, watchdogSignalHandler in debug.c.                                  Units  ms.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.node.server import Server


class Watchdog:
    """The alarm of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def settings_changed(self) -> None:
        """Begin, end, or go on with another period; one that housekeeping could not keep to is lengthened."""
        settings = self._server.settings
        if settings.watchdog_period:
            settings.watchdog_period = max(settings.watchdog_period, 2 * (1000 // max(settings.hz, 1)))
            signal.signal(signal.SIGALRM, self._expired)
            self._set_alarm(settings.watchdog_period)
        else:
            self.stop()

    def stop(self) -> None:
        """No alarm any more: it would end the process that takes this one's place."""
        self._set_alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

    def tick(self) -> None:
        """The loop has come round."""
        period_ms = self._server.settings.watchdog_period
        if period_ms and not self._server.loading:
            self._set_alarm(period_ms)

    @staticmethod
    def _set_alarm(after_ms: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, after_ms / 1000)

    def _expired(self, _number: int, frame: FrameType | None) -> None:
        import traceback

        say = self._server.log.from_handler
        say("--- WATCHDOG TIMER EXPIRED ---")
        for entry in traceback.format_stack(frame):
            for line in entry.rstrip().splitlines():
                say(line)
        say("--------")
