"""oom-score-adj: telling Linux which process to kill first when memory runs out (setOOMScoreAdj in server.c).

A master, a replica and a forked child have a value each; ``relative`` (also ``yes``) adds it to what the process had
when the directive was switched on, which is put back when it is switched off.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cluster.errors import ConfigError

if TYPE_CHECKING:
    from cluster.node.server import Server

_LOWEST, _HIGHEST = -1000, 1000
_MASTER: Final = 0
_REPLICA: Final = 1
_CHILD: Final = 2


class OomScore:
    """The score of one server and its children."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before: int | None = None
        """What it was before we changed it; None: we did not."""

    def settings_changed(self) -> None:
        """CONFIG SET. Raises ConfigError when the system does not let us."""
        if not self.apply():
            raise ConfigError("Failed to set current oom_score_adj. Check server logs.")

    def apply(self) -> bool:
        """Set our own score as settings and role want it; False (and a line in the log) when that failed."""
        settings = self._server.settings
        if settings.oom_score_adj == "no":
            before, self._before = self._before, None
            return before is None or self._write(os.getpid(), before)
        try:
            if self._before is None:
                with open("/proc/self/oom_score_adj") as file:
                    self._before = int(file.read())
        except (OSError, ValueError) as failure:
            self._server.log.warning(f"Unable to read oom_score_adj: {getattr(failure, 'strerror', failure)}")
            return False
        role = _REPLICA if self._server.replication_state.is_replica else _MASTER
        return self._write(os.getpid(), self._score(role))

    def adjust_child(self, pid: int) -> None:
        """Set the score of a child that was just forked."""
        if self._before is not None:
            self._write(pid, self._score(_CHILD))

    def _score(self, process_class: int) -> int:
        settings = self._server.settings
        score = settings.oom_score_adj_values[process_class]
        if settings.oom_score_adj != "absolute":
            score += self._before or 0
        return min(max(score, _LOWEST), _HIGHEST)

    def _write(self, pid: int, score: int) -> bool:
        try:
            with open(f"/proc/{pid}/oom_score_adj", "w") as file:
                file.write(f"{score}\n")
        except OSError as failure:
            self._server.log.warning(f"Unable to write oom_score_adj: {failure.strerror}")
            return False
        return True
