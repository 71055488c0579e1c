"""ACL, and what users mean to clients: logging in, being refused, losing rights while connected (acl.c)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sessions import BenchClient, ServerBench
from tests.support.wire import Argument

NOAUTH = b"-NOAUTH Authentication required.\r\n"
WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
NO_KEY = b"-NOPERM this user has no permissions to access one of the keys used as arguments\r\n"
NO_CHANNEL = b"-NOPERM this user has no permissions to access one of the channels used as arguments\r\n"
OK = b"+OK\r\n"


def refused(name: str) -> bytes:
    return b"-NOPERM this user has no permissions to run the '%b' command\r\n" % name.encode()


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as bench:
        yield bench


@pytest.fixture
def admin(bench: ServerBench) -> BenchClient:
    return bench.connect()


def logged_in(bench: ServerBench, admin: BenchClient, rules: str, name: str = "alice") -> BenchClient:
    """A client of a user with these rules."""
    assert admin.ask("ACL", "SETUSER", name, "on", "nopass", *rules.split()) == OK
    client = bench.connect()
    assert client.ask("AUTH", name, "") == OK
    return client


def entries(admin: BenchClient, *words: Argument) -> list[dict[str, str]]:
    """ACL LOG, each entry as a dict of texts."""
    raw = admin.ask("ACL", "LOG", *words).decode()
    words_ = re.findall(r"(?:\$\d+\r\n|:)([^\r]*)\r\n", raw)
    return [
        dict(zip(words_[at : at + 14 : 2], words_[at + 1 : at + 14 : 2], strict=True))
        for at in range(0, len(words_), 14)
    ]


# What a user costs -----------------------------------------------------------------------------------------------


def test_only_clients_of_restricted_users_leave_the_hot_path(bench: ServerBench, admin: BenchClient) -> None:
    assert admin.session.plain
    client = logged_in(bench, admin, "allkeys allchannels +@all")
    assert client.session.plain

    admin.ask("ACL", "SETUSER", "alice", "-debug")
    assert not client.session.plain and admin.session.plain
    admin.ask("ACL", "SETUSER", "alice", "+@all")
    assert client.session.plain

    admin.ask("ACL", "SETUSER", "default", "resetkeys")
    assert client.session.plain and not admin.session.plain


# Users -----------------------------------------------------------------------------------------------------------


def test_users_are_shown_by_name(admin: BenchClient) -> None:
    assert admin.ask("ACL", "SETUSER", "zoe") == OK
    assert admin.ask("ACL", "SETUSER", "bob", "on", "+get") == OK
    assert admin.ask("ACL", "USERS") == b"*3\r\n$3\r\nbob\r\n$7\r\ndefault\r\n$3\r\nzoe\r\n"
    assert admin.ask("ACL", "LIST") == (
        b"*3\r\n$36\r\nuser bob on resetchannels -@all +get\r\n$34\r\nuser default on nopass ~* &* +@all\r\n"
        b"$32\r\nuser zoe off resetchannels -@all\r\n"
    )
    assert admin.ask("ACL", "WHOAMI") == b"$7\r\ndefault\r\n"


def test_getuser_in_both_protocols(admin: BenchClient) -> None:
    admin.ask("ACL", "SETUSER", "bob", "on", "+get", "%R~a", "~b", "&c", "(~d)")
    text = (
        b"$5\r\nflags\r\n*1\r\n$2\r\non\r\n$9\r\npasswords\r\n*0\r\n$8\r\ncommands\r\n$10\r\n-@all +get\r\n"
        b"$4\r\nkeys\r\n$7\r\n%R~a ~b\r\n$8\r\nchannels\r\n$2\r\n&c\r\n$9\r\nselectors\r\n*1\r\n"
        b"*6\r\n$8\r\ncommands\r\n$5\r\n-@all\r\n$4\r\nkeys\r\n$2\r\n~d\r\n$8\r\nchannels\r\n$0\r\n\r\n"
    )
    assert admin.ask("ACL", "GETUSER", "bob") == b"*12\r\n" + text
    assert admin.ask("ACL", "GETUSER", "nobody") == b"$-1\r\n"

    admin.ask("HELLO", "3")
    text = text.replace(b"flags\r\n*1", b"flags\r\n~1").replace(b"*6\r\n$8\r\ncommands", b"%3\r\n$8\r\ncommands")
    assert admin.ask("ACL", "GETUSER", "bob") == b"%6\r\n" + text
    assert admin.ask("ACL", "GETUSER", "nobody") == b"_\r\n"


def test_setuser_is_all_or_nothing(admin: BenchClient) -> None:
    admin.ask("ACL", "SETUSER", "bob", "on")
    before = admin.ask("ACL", "GETUSER", "bob")

    assert admin.ask("ACL", "SETUSER", "bob", "+get", "ju\r\nnk") == (
        b"-ERR Error in ACL SETUSER modifier 'ju  nk': Syntax error\r\n"
    )
    assert admin.ask("ACL", "SETUSER", "bob", "+get", "(+set") == (
        b"-ERR Unmatched parenthesis in acl selector starting at '(+set'.\r\n"
    )
    assert admin.ask("ACL", "GETUSER", "bob") == before
    assert admin.ask("ACL", "SETUSER", "new", "junk").startswith(b"-ERR ")
    assert admin.ask("ACL", "GETUSER", "new") == b"$-1\r\n"
    assert admin.ask("ACL", "SETUSER", "a b") == b"-ERR Usernames can't contain spaces or null characters\r\n"


def test_passwords_are_not_shown(bench: ServerBench, admin: BenchClient) -> None:
    bench.server.settings.slowlog_log_slower_than = 0
    bench.server.refresh_plain()
    admin.ask("ACL", "SETUSER", "bob", ">secret")
    assert b"secret" not in admin.ask("SLOWLOG", "GET")
    assert b"(redacted)" in admin.ask("SLOWLOG", "GET")


def test_a_deleted_user_takes_its_clients_along(bench: ServerBench, admin: BenchClient) -> None:
    alice = logged_in(bench, admin, "+@all allkeys allchannels")
    other = logged_in(bench, admin, "+@all", "bob")

    assert admin.ask("ACL", "DELUSER", "default", "alice") == b"-ERR The 'default' user cannot be removed\r\n"
    assert admin.ask("ACL", "DELUSER", "alice", "nobody") == b":1\r\n"
    alice.read()
    assert alice.closed and not admin.closed
    assert other.ask("ACL", "DELUSER", "bob") == b":1\r\n"
    assert other.closed, "told first, then closed"
    assert admin.ask("ACL", "USERS") == b"*1\r\n$7\r\ndefault\r\n"


def test_a_parked_client_of_a_deleted_user_is_closed_at_once(bench: ServerBench, admin: BenchClient) -> None:
    alice = logged_in(bench, admin, "+@all allkeys")
    alice.ask("BLPOP", "list", 0)
    admin.ask("ACL", "DELUSER", "alice")
    alice.read()
    assert alice.closed
    assert admin.ask("RPUSH", "list", "x") == b":1\r\n" == admin.ask("LLEN", "list")


def test_genpass(admin: BenchClient) -> None:
    assert re.fullmatch(rb"\$64\r\n[0-9a-f]{64}\r\n", admin.ask("ACL", "GENPASS"))
    assert re.fullmatch(rb"\$2\r\n[0-9a-f]{2}\r\n", admin.ask("ACL", "GENPASS", 5))
    assert admin.ask("ACL", "GENPASS", 4096).startswith(b"$1024\r\n")
    assert admin.ask("ACL", "GENPASS") != admin.ask("ACL", "GENPASS")
    for bits in (0, -1, 4097):
        assert admin.ask("ACL", "GENPASS", bits).startswith(b"-ERR ACL GENPASS argument must be the number of bits")
    assert admin.ask("ACL", "GENPASS", 1, 2) == (
        b"-ERR unknown subcommand or wrong number of arguments for 'GENPASS'. Try ACL HELP.\r\n"
    )


def test_dryrun_asks_for_another(admin: BenchClient) -> None:
    admin.ask("ACL", "SETUSER", "bob", "+get", "+config|get", "~a")

    def dry(*words: str) -> bytes:
        return admin.ask("ACL", "DRYRUN", *words)

    assert dry("bob", "GET", "a") == OK
    assert dry("bob", "get", "b") == b"$50\r\nThis user has no permissions to access the 'b' key\r\n"
    assert dry("bob", "config", "set", "a", "b").endswith(b"permissions to run the 'config|set' command\r\n")
    assert dry("bob", "config", "get", "a") == OK
    assert dry("bob", "config") == b"-ERR wrong number of arguments for 'config' command\r\n"
    assert dry("bob", "get") == b"-ERR wrong number of arguments for 'get' command\r\n"
    assert dry("bob", "config", "nosuch") == b"-ERR Command 'config' not found\r\n"
    assert dry("nobody", "get", "a") == b"-ERR User 'nobody' not found\r\n"
    assert admin.ask("GET", "a") == b"$-1\r\n"


# Logging in ------------------------------------------------------------------------------------------------------


def test_who_may_log_in(bench: ServerBench, admin: BenchClient) -> None:
    admin.ask("ACL", "SETUSER", "bob", "on", ">one", ">two", "+@all")
    client = bench.connect()

    assert client.ask("AUTH", "bob", "three") == WRONGPASS == client.ask("AUTH", "nobody", "one")
    assert client.ask("ACL", "WHOAMI") == b"$7\r\ndefault\r\n"
    assert client.ask("AUTH", "bob", "two") == OK
    assert client.ask("ACL", "WHOAMI") == b"$3\r\nbob\r\n"
    assert b" user=bob " in client.ask("CLIENT", "INFO")
    admin.ask("ACL", "SETUSER", "bob", "off")
    assert client.ask("PING") == b"+PONG\r\n", "a disabled user's clients stay"
    assert client.ask("AUTH", "bob", "one") == WRONGPASS
    assert client.ask("ACL", "WHOAMI") == b"$3\r\nbob\r\n"
    assert client.ask("RESET") == b"+RESET\r\n"
    assert client.ask("ACL", "WHOAMI") == b"$7\r\ndefault\r\n"


def test_hello_logs_in(bench: ServerBench, admin: BenchClient) -> None:
    admin.ask("ACL", "SETUSER", "bob", "on", ">one", "-@all")
    client = bench.connect()

    assert client.ask("HELLO", 3, "AUTH", "bob", "wrong") == WRONGPASS
    assert client.ask("HELLO", 3, "AUTH", "bob", "one", "SETNAME", "n").startswith(b"%7\r\n")
    assert client.ask("PING") == refused("ping")
    assert client.ask("HELLO", 2, "AUTH", "default", "").startswith(b"*14\r\n")
    assert client.ask("PING") == b"+PONG\r\n"


@pytest.mark.parametrize("rule", ["off", "resetpass", ">password"])
def test_a_default_user_that_has_to_log_in(bench: ServerBench, admin: BenchClient, rule: str) -> None:
    admin.ask("ACL", "SETUSER", "bob", "on", ">one", "+@all")
    admin.ask("ACL", "SETUSER", "default", rule)
    client = bench.connect()

    assert client.ask("PING") == NOAUTH
    assert client.ask("HELLO", "3").startswith(b"-NOAUTH HELLO must be called")
    assert client.send(b"*11\r\n") == b"-ERR Protocol error: unauthenticated multibulk length\r\n"
    client = bench.connect()
    assert client.ask("AUTH", "bob", "one") == OK
    assert client.ask("PING") == b"+PONG\r\n" == admin.ask("PING")
    assert client.ask("RESET") == b"+RESET\r\n"
    assert client.ask("PING") == NOAUTH
    admin.ask("ACL", "SETUSER", "default", "on", "nopass")
    assert client.ask("PING") == b"+PONG\r\n"


def test_requirepass_is_the_default_users_password(bench: ServerBench, admin: BenchClient) -> None:
    assert admin.ask("CONFIG", "SET", "requirepass", "one") == OK
    assert re.search(rb"user default on #[0-9a-f]{64} ~\* &\* \+@all", admin.ask("ACL", "LIST"))
    admin.ask("ACL", "SETUSER", "default", ">two")
    client = bench.connect()
    assert client.ask("AUTH", "two") == OK == client.ask("AUTH", "default", "one")
    assert admin.ask("CONFIG", "SET", "requirepass", "") == OK
    assert b"user default on nopass ~* &* +@all\r\n" in admin.ask("ACL", "LIST")


# Being refused ---------------------------------------------------------------------------------------------------


def test_refusals_at_the_gate(bench: ServerBench, admin: BenchClient) -> None:
    client = logged_in(bench, admin, "+get +set +publish +config|get ~a* &c")

    assert client.ask("GET", "abc") == b"$-1\r\n"
    assert client.ask("GET", "b") == NO_KEY
    assert client.ask("DEL", "a") == refused("del")
    assert client.ask("CONFIG", "SET", "a", "b") == refused("config|set")
    assert client.ask("PUBLISH", "c", "m") == b":0\r\n"
    assert client.ask("PUBLISH", "d", "m") == NO_CHANNEL
    assert client.ask("GET") == b"-ERR wrong number of arguments for 'get' command\r\n"
    assert client.ask("NOSUCH").startswith(b"-ERR unknown command")
    assert b"rejected_calls=1" in admin.ask("INFO", "commandstats").split(b"cmdstat_del:")[1]
    assert b"errorstat_NOPERM:count=4" in admin.ask("INFO", "errorstats")


def test_a_transaction_with_something_refused_is_discarded(bench: ServerBench, admin: BenchClient) -> None:
    client = logged_in(bench, admin, "+multi +exec +get allkeys")
    client.ask("MULTI")
    assert client.ask("SET", "a", "b") == refused("set")
    assert client.ask("EXEC") == b"-EXECABORT Transaction discarded because of previous errors.\r\n"
    assert entries(admin)[0]["context"] == "multi"

    admin.ask("ACL", "SETUSER", "alice", "-exec")
    client.ask("MULTI")
    assert client.ask("EXEC") == b"-EXECABORT Transaction discarded because of: " + refused("exec")[1:]
    assert client.ask("GET", "a") == b"$-1\r\n"


def test_rights_are_asked_again_when_the_transaction_runs(bench: ServerBench, admin: BenchClient) -> None:
    client = logged_in(bench, admin, "+@all -debug allkeys allchannels")
    client.pipeline(("MULTI",), ("SET", "a", "1"), ("SET", "b", "2"), ("PUBLISH", "c", "m"), ("GET", "a"))
    admin.ask("ACL", "SETUSER", "alice", "-get", "resetkeys", "~a", "resetchannels")
    changed = (
        b"-NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This "
        b"command is no longer allowed for the following reason: no permission to %b\r\n"
    )

    assert client.ask("EXEC") == (
        b"*4\r\n+OK\r\n"
        + changed % b"touch the specified keys"
        + changed % b"access one of the channels used as arguments"
        + changed % b"execute the command or subcommand"
    )
    assert admin.ask("MGET", "a", "b") == b"*2\r\n$1\r\n1\r\n$-1\r\n"
    assert [(each["reason"], each["context"], each["object"]) for each in entries(admin)] == [
        ("command", "multi", "get"),
        ("channel", "multi", "c"),
        ("key", "multi", "b"),
    ]


# Losing rights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subscription", "change", "is_cut"),
    [
        (("SUBSCRIBE", "news"), "resetchannels", True),
        (("SUBSCRIBE", "news"), "resetchannels &n*", False),
        (("SUBSCRIBE", "news", "other"), "resetchannels &news", True),
        (("SSUBSCRIBE", "news"), "resetchannels &other", True),
        (("PSUBSCRIBE", "n*"), "resetchannels &n*", False),
        (("PSUBSCRIBE", "n*"), "resetchannels &*s", True),
        (("PSUBSCRIBE", "ne*"), "resetchannels &n*", True),
        (("SUBSCRIBE", "news"), "resetchannels (&news)", False),
        (("SUBSCRIBE", "news"), "-@all", False),
    ],
)
def test_who_loses_a_channel_is_cut_off(
    bench: ServerBench, admin: BenchClient, subscription: tuple[str, ...], change: str, is_cut: bool
) -> None:
    client = logged_in(bench, admin, "allchannels +@all")
    client.ask(*subscription)
    admin.ask("ACL", "SETUSER", "alice", *change.split())
    client.read()
    assert client.closed == is_cut


def test_who_takes_the_channel_from_itself_is_told_first(bench: ServerBench, admin: BenchClient) -> None:
    client = logged_in(bench, admin, "allchannels +@all")
    client.ask("HELLO", 3)
    client.ask("SUBSCRIBE", "news")
    assert client.ask("ACL", "SETUSER", "alice", "resetchannels") == OK
    assert client.closed


# The log ---------------------------------------------------------------------------------------------------------


def test_the_log_of_refusals(bench: ServerBench, admin: BenchClient) -> None:
    client = logged_in(bench, admin, "+get +publish ~a")
    client.ask("GET", "b")
    client.ask("GET", "b")
    client.ask("PUBLISH", "c", "m")
    client.ask("FLUSHALL")
    client.ask("AUTH", "bob", "wrong")
    client.ask("HELLO", 3, "AUTH", "carol", "wrong")

    found = entries(admin)
    assert [(each["count"], each["reason"], each["object"], each["username"]) for each in found] == [
        ("1", "auth", "HELLO", "carol"),
        ("1", "auth", "AUTH", "bob"),
        ("1", "command", "flushall", "alice"),
        ("1", "channel", "c", "alice"),
        ("2", "key", "b", "alice"),
    ]
    assert {each["context"] for each in found} == {"toplevel"}
    assert 0 <= float(found[0]["age-seconds"]) < 60
    assert f"id={client.session.id} " in found[0]["client-info"] and "cmd=hello user=alice" in found[0]["client-info"]

    assert len(entries(admin, 2)) == 2
    assert entries(admin, -1) == [] == entries(admin, 0)
    assert admin.ask("ACL", "LOG", "x") == b"-ERR value is not an integer or out of range\r\n"
    assert admin.ask("CONFIG", "SET", "acllog-max-len", 3) == OK
    client.ask("SET", "a", "b")
    assert len(entries(admin)) == 3
    assert admin.ask("ACL", "LOG", "reset") == OK
    assert admin.ask("ACL", "LOG") == b"*0\r\n"


def test_a_login_that_fails_in_a_transaction_is_logged_as_such(bench: ServerBench, admin: BenchClient) -> None:
    client = bench.connect()
    client.pipeline(("MULTI",), ("AUTH", "nobody", "x"))
    assert client.ask("EXEC") == b"*1\r\n" + WRONGPASS
    assert [(each["context"], each["object"]) for each in entries(admin)] == [("multi", "AUTH")]


def test_ten_entries_unless_asked_for_more(bench: ServerBench, admin: BenchClient) -> None:
    for number in range(12):
        admin.ask("AUTH", f"user{number}", "x")
    assert len(entries(admin)) == 10
    assert len(entries(admin, 100)) == 12
    admin.ask("HELLO", 3)
    assert admin.ask("ACL", "LOG", 1).startswith(b"*1\r\n%7\r\n$5\r\ncount\r\n:1\r\n")


# Other commands that know users ----------------------------------------------------------------------------------


def test_client_kill_by_user(bench: ServerBench, admin: BenchClient) -> None:
    alice = logged_in(bench, admin, "+@all")
    logged_in(bench, admin, "+@all", "bob")
    assert admin.ask("CLIENT", "KILL", "USER", "alice") == b":1\r\n"
    alice.read()
    assert alice.closed
    assert admin.ask("CLIENT", "KILL", "USER", "nobody") == b"-ERR No such user 'nobody'\r\n"


def test_names_of_any_bytes(bench: ServerBench, admin: BenchClient) -> None:
    assert admin.ask("ACL", "SETUSER", b"\xff\xc3\xa9", "on", "nopass", "+@all") == OK
    client = bench.connect()
    assert client.ask("AUTH", b"\xff\xc3\xa9", "") == OK
    assert b" user=\xff\xc3\xa9 " in client.ask("CLIENT", "LIST")
    client.ask("GET", "a")
    assert b" user=\xff\xc3\xa9 " in admin.ask("ACL", "LOG")
    assert admin.ask("CLIENT", "KILL", "USER", b"\xff\xc3\xa9") == b":1\r\n"


def test_cat(admin: BenchClient) -> None:
    assert admin.ask("ACL", "CAT").startswith(b"*21\r\n$8\r\nkeyspace\r\n$4\r\nread\r\n")
    assert b"$9\r\nsubscribe\r\n" in admin.ask("ACL", "CAT", "PubSub")
    assert admin.ask("ACL", "CAT", "nosuch") == b"-ERR Unknown category 'nosuch'\r\n"


# The users' file -------------------------------------------------------------------------------------------------


@pytest.fixture
def with_file(tmp_path: Path) -> Iterator[tuple[ServerBench, Path]]:
    path = tmp_path / "users.acl"
    with ServerBench(aclfile=str(path)) as bench:
        yield bench, path


def test_without_a_file(admin: BenchClient) -> None:
    for word in ("LOAD", "SAVE"):
        assert admin.ask("ACL", word).startswith(b"-ERR This Redis instance is not configured to use an ACL file. You")


def test_saved_and_loaded_again(with_file: tuple[ServerBench, Path]) -> None:
    bench, path = with_file
    admin = bench.connect()
    admin.ask("ACL", "SETUSER", "bob", "on", "+get", "~a")
    assert admin.ask("ACL", "SAVE") == OK
    assert path.read_bytes() == (b"user bob on ~a resetchannels -@all +get\nuser default on nopass ~* &* +@all\n")
    assert path.stat().st_mode & 0o111 == 0
    before = admin.ask("ACL", "LIST")
    bob = logged_in(bench, admin, "+@all", "carol")
    admin.ask("ACL", "DELUSER", "bob")

    assert admin.ask("ACL", "LOAD") == OK
    bob.read()
    assert admin.ask("ACL", "LIST") == before
    assert bob.closed and not admin.closed
    assert os.listdir(path.parent) == [path.name]


def test_a_file_with_mistakes_changes_nothing(with_file: tuple[ServerBench, Path]) -> None:
    bench, path = with_file
    admin = bench.connect()
    assert admin.ask("ACL", "LOAD") == (
        b"-ERR Error loading ACLs, opening file '%b': No such file or directory\r\n" % bytes(path)
    )
    path.write_bytes(b"user alice on\nuser bob junk\n")
    before = admin.ask("ACL", "LIST")
    assert admin.ask("ACL", "LOAD") == (
        b"-ERR %b:2: Syntax error. WARNING: ACL errors detected, no change to the previously active ACL rules was "
        b"performed\r\n" % bytes(path)
    )
    assert admin.ask("ACL", "LIST") == before


def test_a_file_that_cannot_be_written(with_file: tuple[ServerBench, Path]) -> None:
    bench, path = with_file
    path.mkdir()
    admin = bench.connect()
    assert admin.ask("ACL", "SAVE").startswith(b"-ERR There was an error trying to save the ACLs. Please check the")
    assert os.listdir(path.parent) == [path.name]
    path.rmdir()
    path.parent.rmdir()
    assert admin.ask("ACL", "SAVE").startswith(b"-ERR There was an error trying to save the ACLs. Please check the")
    path.parent.mkdir()
