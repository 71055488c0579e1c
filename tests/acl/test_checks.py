"""May this user run this request? (Redis 7.0.15: ACLCheckAllUserCommandPerm in acl.c)"""

from __future__ import annotations

import pytest

from cluster.acl.access import AccessControl
from cluster.acl.checks import Denial, Reason
from cluster.commands.key_positions import key_positions_or_none
from cluster.commands.registry import Command, read_records
from cluster.settings import Settings

ROWS = {name: Command(record, None) for each in read_records() for record in (each, *each[9]) for name in (record[0],)}
ROWS["client|setinfo"] = Command(
    ["client|setinfo", 4, ["noscript", "loading", "stale"], 0, 0, 0, ["@slow", "@connection"], [], [], []], None
)


def denial(rules: str, request: str, *, row: str | None = None) -> Denial | None:
    acl = AccessControl(Settings(), read_records, key_positions_or_none)
    acl.define(b"someone", rules.encode().split())
    user = acl.find(b"someone")
    assert user is not None
    argv = request.encode().split()
    return acl.check(user, ROWS[row or argv[0].decode().lower()], argv)


@pytest.mark.parametrize(
    ("rules", "request_", "reason"),
    [
        ("", "GET a", Reason.COMMAND),
        ("+get", "GET a", Reason.KEY),
        ("+get ~a*", "GET abc", None),
        ("+get ~a*", "GET b", Reason.KEY),
        ("+get %R~a", "GET a", None),
        ("+get %W~a", "GET a", Reason.KEY),
        ("+set %W~a", "SET a v", None),
        ("+set %W~a", "SET a v GET", Reason.KEY),
        ("+set %R~a %W~a", "SET a v GET", None),
        ("+set %R~a* %W~*b", "SET ab v GET", Reason.KEY),
        ("+@all %R~a %W~b", "COPY a b", None),
        ("+@all %R~a %W~b", "COPY b a", Reason.KEY),
        ("+mget ~a ~b", "MGET a b", None),
        ("+mget ~a", "MGET a b", Reason.KEY),
        ("+@all %R~a", "STRLEN a", None),
        ("+@all", "PING", None),
        ("+ping", "PING", None),
        ("-@all", "AUTH x", None),
        ("-@all", "QUIT", None),
        ("+subscribe", "SUBSCRIBE c", Reason.CHANNEL),
        ("+subscribe &c*", "SUBSCRIBE c cd", None),
        ("+subscribe &c*", "SUBSCRIBE c d", Reason.CHANNEL),
        ("+psubscribe &c*", "PSUBSCRIBE c*", None),
        ("+psubscribe &c*", "PSUBSCRIBE cd", Reason.CHANNEL),
        ("+publish &c", "PUBLISH c d", None),
        ("+publish &d", "PUBLISH c d", Reason.CHANNEL),
        ("+spublish &c", "SPUBLISH c d", None),
        ("+unsubscribe", "UNSUBSCRIBE c", None),
        ("+select|0", "SELECT 0", None),
        ("+select|0", "SELECT 1", Reason.COMMAND),
        ("+debug|SEGFAULT", "DEBUG segfault", None),
        ("+sort ~a", "SORT a BY x* STORE b", Reason.KEY),
        ("+get (~a +set)", "GET a", Reason.KEY),
        ("+get (~a +set)", "SET a b", None),
        ("~a (~b +get)", "GET a", Reason.KEY),
        ("+get ~a (+get ~b)", "GET b", None),
        ("+@all ~a &c (+@all ~b &d)", "PUBLISH e m", Reason.CHANNEL),
    ],
)
def test_requests(rules: str, request_: str, reason: Reason | None) -> None:
    found = denial(rules, request_)
    assert (found.reason if found else None) == reason


@pytest.mark.parametrize(
    ("rules", "row", "request_", "is_allowed"),
    [
        ("+config|get", "config|get", "CONFIG GET x", True),
        ("+config|get", "config|set", "CONFIG SET x y", False),
        ("+config", "config|set", "CONFIG SET x y", True),
        ("+@all -config|set", "config|set", "CONFIG SET x y", False),
        ("+@connection", "client|setinfo", "CLIENT SETINFO LIB-NAME x", True),
        ("-@all", "client|setinfo", "CLIENT SETINFO LIB-NAME x", False),
    ],
)
def test_subcommands(rules: str, row: str, request_: str, is_allowed: bool) -> None:
    assert (denial(rules, request_, row=row) is None) == is_allowed


def test_the_refusal_told_is_that_of_the_selector_that_came_furthest() -> None:
    found = denial("+mget ~a (+mget ~a ~b) (+get)", "MGET a b c")
    assert found == Denial(Reason.KEY, b"mget", 3)
    assert found.subject([b"MGET", b"a", b"b", b"c"]) == b"c"


def test_the_words_of_refusals() -> None:
    found = denial("", "GET a")
    assert found is not None
    assert found.subject([b"GET", b"a"]) == b"get"
    assert found.gate_text() == b"NOPERM this user has no permissions to run the 'get' command"
    assert found.dry_run_text([b"GET", b"a"]) == b"This user has no permissions to run the 'get' command"
    key = Denial(Reason.KEY, b"get", 1)
    assert key.gate_text() == b"NOPERM this user has no permissions to access one of the keys used as arguments"
    assert key.dry_run_text([b"GET", b"a\0b"]) == b"This user has no permissions to access the 'a' key"
    channel = Denial(Reason.CHANNEL, b"publish", 1)
    assert channel.gate_text().endswith(b"access one of the channels used as arguments")
    assert channel.dry_run_text([b"PUBLISH", b"c"]) == b"This user has no permissions to access the 'c' channel"
    assert (
        channel.script_text() == b"The user executing the script can't publish to the channel mentioned in the command"
    )
    assert channel.exec_text().endswith(b"reason: no permission to access one of the channels used as arguments")


@pytest.mark.parametrize(
    ("rules", "may"),
    [
        ("+sort ~*", True),
        ("+sort %R~*", True),
        ("+sort %W~* %R~a", False),
        ("+sort ~a", False),
        ("+sort ~a (%R~* +get)", False),
        ("+sort ~a (%R~* +sort)", True),
        ("~*", False),
    ],
)
def test_sort_may_read_everything_or_use_no_patterns(rules: str, may: bool) -> None:
    acl = AccessControl(Settings(), read_records, key_positions_or_none)
    acl.define(b"someone", rules.encode().split())
    user = acl.find(b"someone")
    assert user is not None
    assert acl.may_read_all_keys(user, ROWS["sort"], [b"SORT", b"a", b"BY", b"x*"]) == may
