"""The users' file: what it may hold, and how its mistakes are told (ACLLoadFromFile in acl.c)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.acl.access import AccessControl
from cluster.acl.errors import DefinitionError
from cluster.acl.file import parse_users, user_line, users_text
from cluster.acl.selectors import READ_AND_WRITE
from cluster.commands.key_positions import key_positions_or_none
from cluster.commands.registry import read_records
from cluster.settings import Settings
from tests.support.differential.acl import user_rules

REFUSED = "WARNING: ACL errors detected, no change to the previously active ACL rules was performed"


@pytest.fixture
def acl() -> AccessControl:
    return AccessControl(Settings(), read_records, key_positions_or_none)


def test_what_is_written_is_read_again(acl: AccessControl) -> None:
    acl.define(b"alice", b"on >secret +@read ~a (+set %W~b)".split())
    acl.define(b"bob", b"nopass allkeys +select|0".split())
    text = users_text(acl.users())

    assert text.splitlines()[0].startswith(b"user alice on #")
    assert users_text(parse_users(acl, text, b"users.acl")) == text


def test_blanks_and_empty_lines(acl: AccessControl) -> None:
    users = parse_users(acl, b"\n  user  on \r\n\t\nuser b (+get  ~a) on\n\nuser c \t+get\n", b"f")
    assert [user_line(user) for user in users] == [
        b"user  on resetchannels -@all",
        b"user b on resetchannels -@all (~a resetchannels -@all +get)",
        b"user c off resetchannels -@all +get",
    ]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("# comment", "f:1 should start with user keyword followed by the username. "),
        ("\nUSER a", "f:2 should start with user keyword followed by the username. "),
        ("user", "f:1 should start with user keyword followed by the username. "),
        ("user a\vb on", "'f:1: username 'a\vb' contains invalid characters. "),
        ("user a on\nuser a off", "WARNING: Duplicate user 'a' found on line 2. "),
        ("user a +nosuch -@nosuch", "f:1: Error in applying operation '+nosuch': Unknown command or category name in "
         "ACL. f:1: Error in applying operation '-@nosuch': Unknown command or category name in ACL. "),
        ("user a junk >x <y", "f:1: Syntax error. "),
        ("user a +get (~a", "f:1: Unmatched parenthesis in selector definition."),
        ("nobody\nuser a junk", "f:1 should start with user keyword followed by the username. f:2: Syntax error. "),
    ],
)  # fmt: skip
def test_problems(acl: AccessControl, text: str, problems: str) -> None:
    with pytest.raises(DefinitionError) as refusal:
        parse_users(acl, text.encode(), b"f")
    assert refusal.value.message.decode() == problems + REFUSED


_LINES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.builds(lambda name, rules: b" ".join((b"user", name, *rules)), st.binary(max_size=3), st.lists(user_rules)),
    )
)


@given(_LINES)
def test_any_bytes_are_users_or_are_refused(lines: list[bytes]) -> None:
    acl = AccessControl(Settings(), read_records, key_positions_or_none)
    try:
        users = parse_users(acl, b"\n".join(lines), b"f")
    except DefinitionError as refusal:
        assert refusal.message.endswith(REFUSED.encode())
        return
    if any(selector.key_patterns.get(b"*") == READ_AND_WRITE for user in users for selector in user.selectors):
        return  # Written as ~*, which is read as `allkeys` and bears no other pattern behind it. So it is in Redis.
    text = users_text(users)
    assert users_text(parse_users(acl, text, b"f")) == text


def test_a_new_set_of_users(acl: AccessControl) -> None:
    """The default user stays the same object, with the new rules or those of a new server; all others are new."""
    removed = []
    acl.on_removal = removed.append
    acl.define(b"alice", [b"on"])
    acl.define(b"bob", [b"on"])
    acl.define(b"default", [b"-@all"])
    alice, bob, default = acl.find(b"alice"), acl.find(b"bob"), acl.default

    acl.replace_all(parse_users(acl, b"user alice on", b"f"))

    assert [user.name for user in acl.users()] == [b"alice", b"default"]
    assert acl.find(b"default") is acl.default is default
    assert default.is_unrestricted and default.needs_no_password
    assert acl.find(b"alice") is not alice and removed == [alice, bob]

    acl.replace_all(parse_users(acl, b"user default off", b"f"))
    assert acl.users() == [default]
    assert user_line(default) == b"user default off resetchannels -@all"
