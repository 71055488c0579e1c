"""ACL LOG: what was refused lately, to whom and why; refusals that repeat within a minute are one entry.

Source: addACLLogEntry in acl.c. Units: unix ms.
"""

from __future__ import annotations

from typing import Final

import attrs

from cluster.acl.checks import Reason

GROUPING_MS: Final = 60_000
_LOOKED_AT: Final = 10
"""How many of the latest entries may be the one that a refusal repeats."""


@attrs.define
class LogEntry:
    """One refusal, or several of the same."""

    reason: Reason
    context: str
    """toplevel, multi, lua or module."""
    subject: bytes
    user_name: bytes
    client_info: bytes
    """As CLIENT LIST shows the client, the last one where there were several."""
    at_ms: int
    count: int = 1

    def repeats(self, other: LogEntry) -> bool:
        return (
            self.reason is other.reason
            and self.context == other.context
            and abs(self.at_ms - other.at_ms) <= GROUPING_MS
            and self.subject == other.subject
            and self.user_name == other.user_name
        )


class AccessLog:
    """The entries, latest first."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []

    def add(self, entry: LogEntry, max_length: int) -> None:
        """Note a refusal; only a new entry makes the log longer, and lets it be cut (acllog-max-len)."""
        for index, known in enumerate(self.entries[:_LOOKED_AT]):
            if known.repeats(entry):
                known.client_info, known.at_ms = entry.client_info, entry.at_ms
                known.count += 1
                self.entries.insert(0, self.entries.pop(index))
                return
        self.entries.insert(0, entry)
        del self.entries[max_length:]

    def clear(self) -> None:
        """ACL LOG RESET."""
        self.entries.clear()
