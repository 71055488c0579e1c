"""Users beside the real thing: starts that fail, files that are read, stock clients, replication, a cluster.

What rules mean is compared in test_differential_acl.py, conf files with wrong rules in test_config_interop.py.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.clusters import ClusterFixture
from tests.support.servers import KINDS, Kind, OurNode, RealRedis, Server, redis_cli
from tests.support.waiting import eventually
from tests.support.wire import RawConnection, ReplyError

pytestmark = pytest.mark.real_redis

_LOG_LINE = re.compile(r"^\d+:[A-Z] \d+ \w+ \d+ [\d:.]+ ([*#]) (.*)$", re.MULTILINE)
_ABOUT_USERS = re.compile("ACL|user|Critical")


def said_at_start(server: Server) -> list[str]:
    """What the log holds about users once the server has refused to start."""
    server.start(wait=False)
    assert server.wait_exit() == 1
    lines = [text for _mark, text in _LOG_LINE.findall(server.log_text()) if _ABOUT_USERS.search(text)]
    return [line.replace(str(server.directory), "<dir>") for line in lines]


@pytest.mark.parametrize(
    ("file", "users"),
    [
        (None, ["alice +nosuch"]),
        (None, ["alice on +get", 'bob "+config|nosuch"']),
        (None, ['"a b" on']),
        ("", ["alice on"]),
        (None, []),
        ("user alice on +nosuch\nuser bob junk\n# comment\n", []),
        ("user alice on\nuser alice on\n", []),
    ],
    ids=["unknown command", "unknown subcommand", "blank in name", "both sources", "no file", "mistakes", "twice"],
)
def test_starts_that_fail_say_the_same(file: str | None, users: list[str]) -> None:
    said = []
    for kind in (OurNode, RealRedis):
        directives = {"user": users} if users else {}
        if file is not None or not users:
            directives["aclfile"] = "users.acl"  # type: ignore[assignment]
        with_file = kind(**directives)
        try:
            if file is not None:
                (with_file.directory / "users.acl").write_text(file)
            said.append(said_at_start(with_file))
        finally:
            with_file.close()
    assert said[0] == said[1] != []


def test_each_reads_what_the_other_has_saved(tmp_path: Path) -> None:
    """ACL SAVE and CONFIG REWRITE of one are files of the other."""
    rules = ["on", ">secret", "~a*", "%R~b", "&c", "+@all", "-@dangerous", "+select|0", "(+@read ~x)", "(%W~y +set)"]
    lists: dict[tuple[type[Server], type[Server]], list[bytes]] = {}
    for writer, reader in itertools.permutations((OurNode, RealRedis)):
        source = writer(aclfile="users.acl")
        (source.directory / "users.acl").touch()
        with source:
            source.call("ACL", "SETUSER", "alice", *rules)
            source.call("ACL", "SAVE")
            text = (source.directory / "users.acl").read_bytes()
        target = reader(aclfile="users.acl")
        (target.directory / "users.acl").write_bytes(text)
        with target:
            lists[writer, reader] = [line + b"\n" for line in target.call("ACL", "LIST")]
        with writer() as source:
            source.call("ACL", "SETUSER", "alice", *rules)
            source.call("CONFIG", "REWRITE")
            conf = next(source.directory.glob("*.conf")).read_bytes()
        assert [line for line in conf.splitlines(keepends=True) if line.startswith(b"user ")] == lists[writer, reader]
        assert b"".join(lists[writer, reader]) == text


# Clients ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node() -> Iterator[OurNode]:
    with OurNode(
        user=["alice on >secret ~a* +@all (+get ~x)", "default on nopass allkeys allchannels +@all"]
    ) as server:
        yield server


def test_redis_cli_logs_in(node: OurNode) -> None:
    def cli(*arguments: str, user: str = "alice", password: str = "secret") -> str:
        return redis_cli(
            node.port, *arguments, options=["--user", user, "--pass", password, "--no-auth-warning"]
        ).stdout

    assert cli("ACL", "WHOAMI").strip() == "alice"
    assert cli("GET", "x").strip() == ""
    assert cli("GET", "b").startswith("NOPERM this user has no permissions to access one of the keys")
    assert "WRONGPASS" in redis_cli(node.port, "PING", options=["--user", "alice", "--pass", "x"]).stderr
    answer = redis_cli(node.port, "ACL", "WHOAMI", options=["-u", f"redis://alice:secret@127.0.0.1:{node.port}"])
    assert answer.stdout.strip() == "alice"


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_logs_in_and_manages_users(node: OurNode, protocol: int) -> None:
    alice = node.client(username="alice", password="secret", protocol=protocol)
    assert alice.acl_whoami() in ("alice", b"alice")
    assert alice.set("ab", 1)
    with pytest.raises(redis.exceptions.NoPermissionError):
        alice.get("b")
    with pytest.raises(redis.exceptions.AuthenticationError):
        node.client(username="alice", password="wrong", protocol=protocol).ping()

    admin = node.client(protocol=protocol)
    assert admin.acl_setuser("bob", enabled=True, nopass=True, categories=["+@read"], keys=["b*"], channels=["c"])
    found = admin.acl_getuser("bob")
    assert set(found["flags"]) >= {"on", "nopass"} and found["enabled"]
    assert admin.acl_dryrun("bob", "GET", "b") in ("OK", b"OK", True)
    entry = {str(name): value for name, value in admin.acl_log(1)[0].items()}
    assert entry["reason"] in ("auth", b"auth") and "user" in str(entry["client-info"])
    assert admin.acl_deluser("bob") == 1


# Replication -----------------------------------------------------------------------------------------------------

_REPLICATOR = "replicator on >secret +psync +replconf +ping"


@pytest.mark.parametrize(("master", "replica"), [("ours", "real"), ("real", "ours"), ("ours", "ours")])
def test_a_replica_logs_in_as_masteruser(master: Kind, replica: Kind) -> None:
    with (
        KINDS[master](user=[_REPLICATOR, "default on >other allkeys allchannels +@all"]) as source,
        KINDS[replica](masteruser="replicator", masterauth="wrong") as copy,
    ):
        admin = source.client(password="other")
        copy.call("REPLICAOF", "127.0.0.1", source.port)
        eventually(lambda: "Unable to AUTH to MASTER: -WRONGPASS" in copy.log_text() or None)
        copy.call("CONFIG", "SET", "masterauth", "secret")
        eventually(lambda: copy.info("replication")["master_link_status"] == "up" or None)
        admin.acl_setuser("writer", enabled=True, nopass=True, commands=["+set"], keys=["*"])
        with source.raw() as writer:
            writer.call("AUTH", "writer", "")
            writer.call("SET", "key", "value")
        eventually(lambda: copy.call("GET", "key") == b"value" or None)
        lines = copy.call("CLIENT", "LIST", "TYPE", "master").decode()
        assert " user=(superuser) " in lines
        assert admin.client_list("replica")[0]["user"] == "replicator"
        assert copy.call("ACL", "USERS") == [b"default"], "users are not replicated"


# Cluster ---------------------------------------------------------------------------------------------------------


def test_a_cluster_with_users() -> None:
    """Everybody has a password, nodes among themselves too; keys move between nodes as a user of their own."""
    secrets = {"masteruser": "node", "masterauth": "n0de", "user": "node on >n0de +psync +replconf +ping"}
    with ClusterFixture(masters=2, replicas=1, kind="ours", **secrets) as cluster:
        users = (
            ("mover", ">m0ve", "+restore-asking", "+asking", "+select", "~*"),
            ("app", ">4pp", "~app:*", "+@all", "-@admin"),
            ("default", "resetpass", ">4dmin"),
        )
        for server in cluster.nodes:
            with server.raw() as connection:
                for name, *rules in users:
                    connection.call("ACL", "SETUSER", name, "on", *rules)
        first, second = cluster.nodes[:2]

        def admin(server: Server) -> RawConnection:
            connection = server.raw()
            connection.call("AUTH", "4dmin")
            return connection

        for server in (first, second):
            with admin(server) as connection:
                connection.call("CLIENT", "KILL", "TYPE", "replica")
        client = cluster.client(username="app", password="4pp")
        for number in range(50):
            assert client.set(f"app:{number}", number)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.set("other", 1)

        def replicas_follow() -> bool | None:
            counts = []
            for server in cluster.nodes:
                with admin(server) as connection:
                    counts.append(connection.call("DBSIZE"))
            return (counts[0], counts[1]) == (counts[2], counts[3]) or None

        eventually(replicas_follow)
        with admin(first) as source, admin(second) as target:
            identities = [connection.call("CLUSTER", "MYID") for connection in (source, target)]
            key = next(key for key in source.call("KEYS", "*"))
            slot = source.call("CLUSTER", "KEYSLOT", key)
            target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", identities[0])
            source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", identities[1])
            move = ["MIGRATE", "127.0.0.1", second.port, key, 0, 30_000]
            with pytest.raises(ReplyError, match="NOAUTH"):
                source.call(*move)
            with pytest.raises(ReplyError, match="WRONGPASS"):
                source.call(*move, "AUTH2", "mover", "wrong")
            with pytest.raises(ReplyError, match="NOPERM"):
                source.call(*move, "AUTH2", "node", "n0de")
            assert source.call(*move, "AUTH2", "mover", "m0ve") == b"OK"
            for connection in (target, source):
                connection.call("CLUSTER", "SETSLOT", slot, "NODE", identities[1])
        assert client.get(key.decode()) == key.decode().removeprefix("app:").encode()
