"""Users of the configuration and of their file, at start and in CONFIG REWRITE (ACLLoadUsersAtStartup in acl.c)."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import ConfigError
from tests.node.config_support import in_directory
from tests.support.sessions import ServerBench

__all__ = ["in_directory"]

OK = b"+OK\r\n"


def words(*lines: str) -> list[list[bytes]]:
    """The value of the ``user`` directive for these lines."""
    return [line.encode().split() for line in lines]


def listed(bench: ServerBench) -> list[bytes]:
    reply = bench.connect().ask("ACL", "LIST")
    return [line for line in reply.split(b"\r\n") if line.startswith(b"user ")]


def test_users_of_the_configuration() -> None:
    with ServerBench(user=words("bob on nopass (+get ~a) +set", "amy off")) as bench:
        bench.server.access.load_at_start()
        assert listed(bench) == [
            b"user amy off resetchannels -@all",
            b"user bob on nopass resetchannels -@all +set (~a resetchannels -@all +get)",
            b"user default on nopass ~* &* +@all",
        ]
        assert bench.connect().ask("AUTH", "bob", "x") == OK


def test_a_default_user_of_the_configuration_knows_no_requirepass() -> None:
    with ServerBench(requirepass="secret", user=words("default on nopass +@all")) as bench:
        before = bench.server.acl.default
        bench.server.access.load_at_start()
        assert listed(bench) == [b"user default on nopass sanitize-payload resetchannels +@all"]
        assert bench.server.acl.default is before
        client = bench.connect()
        assert client.ask("PING") == b"+PONG\r\n"
        assert not client.session.plain


def test_channels_of_configured_users_are_as_the_setting_has_them() -> None:
    with ServerBench(acl_pubsub_default="allchannels", user=words("bob", "default reset")) as bench:
        bench.server.access.load_at_start()
        assert bench.server.acl.find(b"bob").root.all_channels
        assert bench.server.acl.default.root.all_channels


@pytest.mark.parametrize("line", ["bob on +nosuch", "bob +get (+set", "bob +@nosuch", "a\vb on"])
def test_a_start_that_fails(line: str) -> None:
    with ServerBench(user=[line.encode().split(b" ")]) as bench:
        with pytest.raises(ConfigError, match="Critical error while loading ACLs"):
            bench.server.access.load_at_start()
        assert len(bench.server.acl.users()) == 1


def test_users_come_from_one_place_only(tmp_path: Path) -> None:
    with (
        ServerBench(aclfile=str(tmp_path / "users.acl"), user=words("bob on")) as bench,
        pytest.raises(ConfigError, match=r"Configuring Redis with users defined in redis\.conf and at the same"),
    ):
        bench.server.access.load_at_start()


def test_the_users_file_at_start(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    with ServerBench(aclfile=str(path)) as bench:
        with pytest.raises(ConfigError, match=r"Aborting Redis startup because of ACL errors: .*No such file"):
            bench.server.access.load_at_start()
        path.write_text("user bob on\nuser default on >x +@all\n")
        bench.server.access.load_at_start()
        assert [user.name for user in bench.server.acl.users()] == [b"bob", b"default"]
        assert bench.connect().ask("PING").startswith(b"-NOAUTH ")


def test_rewrite_writes_users_as_they_are(in_directory: Path) -> None:
    conf = in_directory / "redis.conf"
    conf.write_text("user bob on\nport 1\nuser amy on\nuser zoe on\n")
    with ServerBench() as bench:
        bench.server.config.path = str(conf)
        bench.server.settings.port = 1
        client = bench.connect()
        client.ask("ACL", "SETUSER", "bob", "+get", "~a")
        assert client.ask("CONFIG", "REWRITE") == OK
        lines = [line for line in conf.read_bytes().splitlines() if line.startswith((b"user ", b"port "))]
        assert lines == [
            b"user bob off ~a resetchannels -@all +get",
            b"port 1",
            b"user default on nopass ~* &* +@all",
        ]


def test_rewrite_leaves_users_to_their_file(in_directory: Path) -> None:
    conf = in_directory / "redis.conf"
    conf.write_text("user bob on\n")
    with ServerBench(aclfile="users.acl") as bench:
        bench.server.config.path = str(conf)
        assert bench.connect().ask("CONFIG", "REWRITE") == OK
    assert b"user " not in conf.read_bytes()
    assert b"aclfile" in conf.read_bytes()
