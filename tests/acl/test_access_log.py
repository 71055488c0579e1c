"""ACL LOG: what is one entry, and how many are kept (addACLLogEntry in acl.c)."""

from __future__ import annotations

from cluster.acl.checks import Reason
from cluster.acl.log import GROUPING_MS, AccessLog, LogEntry


def entry(subject: bytes = b"get", *, at_ms: int = 0, reason: Reason = Reason.COMMAND, user: bytes = b"a") -> LogEntry:
    return LogEntry(reason, "toplevel", subject, user, b"id=%d" % at_ms, at_ms)


def shown(log: AccessLog) -> list[tuple[bytes, int]]:
    return [(each.subject, each.count) for each in log.entries]


def test_repetitions_within_a_minute_are_one_entry_and_come_first() -> None:
    log = AccessLog()
    for number, name in enumerate((b"get", b"set", b"get", b"get")):
        log.add(entry(name, at_ms=number), 10)

    assert shown(log) == [(b"get", 3), (b"set", 1)]
    assert (log.entries[0].at_ms, log.entries[0].client_info) == (3, b"id=3")

    log.add(entry(b"set", at_ms=1 + GROUPING_MS), 10)
    log.add(entry(b"get", at_ms=4 + GROUPING_MS), 10)
    assert shown(log) == [(b"get", 1), (b"set", 2), (b"get", 3)]


def test_what_makes_a_difference() -> None:
    log = AccessLog()
    other_context = entry()
    other_context.context = "multi"
    for each in (entry(), entry(reason=Reason.KEY), entry(user=b"b"), entry(b"set"), other_context):
        log.add(each, 10)
    assert [each.count for each in log.entries] == [1] * 5


def test_only_the_last_ten_may_be_repeated() -> None:
    log = AccessLog()
    for number in range(11):
        log.add(entry(b"%d" % number), 100)
    log.add(entry(b"1"), 100)
    assert log.entries[0].count == 2
    log.add(entry(b"0"), 100)
    assert shown(log)[0] == (b"0", 1) and len(log.entries) == 12


def test_the_oldest_make_room() -> None:
    log = AccessLog()
    for number in range(5):
        log.add(entry(b"%d" % number), 3)
    assert shown(log) == [(b"4", 1), (b"3", 1), (b"2", 1)]
    # As in Redis, a shorter limit is heeded when the next entry comes, and not when an old one is repeated.
    log.add(entry(b"4"), 1)
    assert len(log.entries) == 3
    log.add(entry(b"5"), 0)
    assert not log.entries
    log.add(entry(), 1)
    log.clear()
    assert not log.entries
