"""The ACL, here and in a real server: the same rules must be refused for the same reasons, written down in the same
canonical form, and allow the same requests.

Where a description ends with single commands, Redis lists them in the order of a hash table whose seed is drawn anew at
each start; they are compared as a set.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cluster.acl.catalog import CATEGORIES
from cluster.acl.errors import DefinitionError
from cluster.acl.users import merge_selectors
from tests.support.differential import acl
from tests.support.differential.vocabulary import Request, weighted
from tests.support.servers import OurNode, RealRedis, Server
from tests.support.wire import RawConnection, ReplyError

pytestmark = pytest.mark.real_redis

_SINGLE_COMMANDS = re.compile(rb"(?: [+-][^@ )][^ )]*)+")


class Both:
    """One connection to each server, of either protocol."""

    def __init__(self, ports: list[int]) -> None:
        self._by_protocol = {version: [RawConnection(port) for port in ports] for version in (2, 3)}
        for connection in self._by_protocol[3]:
            connection.call("HELLO", 3)

    def ask(self, request: Request, *, protocol: int = 2) -> list[Any]:
        """The two replies in the form that is compared."""
        connections = self._by_protocol[protocol]
        for connection in connections:
            connection.send(*request)
        return [_comparable(connection.reply()) for connection in connections]

    def must_agree(self, request: Request, *, protocol: int = 2) -> Any:
        ours, theirs = self.ask(request, protocol=protocol)
        assert ours == theirs, (request, protocol)
        return ours

    def close(self) -> None:
        for connections in self._by_protocol.values():
            for connection in connections:
                connection.close()


def _comparable(reply: Any) -> Any:
    if isinstance(reply, ReplyError):
        return f"-{reply}"
    if isinstance(reply, bytes):
        return _SINGLE_COMMANDS.sub(lambda match: b" " + b" ".join(sorted(match[0].split())), reply)
    if isinstance(reply, list):
        return [_comparable(each) for each in reply]
    if isinstance(reply, dict):
        return {name: _comparable(value) for name, value in reply.items()}
    return reply


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with OurNode() as ours, RealRedis() as real:
        servers = Both([ours.port, real.port])
        yield servers
        servers.close()


@given(
    beginning=acl.beginnings,
    steps=st.lists(
        st.tuples(weighted((2, acl.definitions), (1, acl.questions)), st.sampled_from((2, 3))),
        max_size=10,
    ),
    channels=st.sampled_from((b"resetchannels", b"allchannels")),
    questions=st.lists(acl.dry_runs, max_size=20),
)
def test_any_rules_mean_the_same(
    both: Both, beginning: Request, steps: list[tuple[Request, int]], channels: bytes, questions: list[Request]
) -> None:
    both.ask((b"ACL", b"DELUSER", *acl.USERS[:2]))
    both.must_agree((b"CONFIG", b"SET", b"acl-pubsub-default", channels))
    both.must_agree(beginning)
    for request, protocol in steps:
        both.must_agree(request, protocol=protocol)
    for name in acl.USERS:
        both.must_agree((b"ACL", b"GETUSER", name))
        both.must_agree((b"ACL", b"GETUSER", name), protocol=3)
    for question in questions:
        both.must_agree(question)
    for line in both.must_agree((b"ACL", b"LIST")):
        # What is written down must lead back to itself.
        _user, name, rules = line.split(b" ", 2)
        before = both.must_agree((b"ACL", b"GETUSER", name))
        both.must_agree((b"ACL", b"SETUSER", name, b"reset", *rules.split(b" ")))
        assert _collapsed(both.must_agree((b"ACL", b"GETUSER", name))[2:]) == _collapsed(before[2:])


def _collapsed(description: Any) -> Any:
    """The same with nothing beside ``~*``: as ``%RW~*`` is written, and read again replaces the others."""
    if isinstance(description, list):
        return [_collapsed(each) for each in description]
    return b"~*" if isinstance(description, bytes) and b"~*" in description.split(b" ") else description


class Users(Both):
    """An administrator who nobody can lock out, and clients that come back when they are thrown out."""

    CLIENTS = 2

    def __init__(self, ports: list[int]) -> None:
        super().__init__(ports)
        self._ports = ports
        self._clients: list[list[RawConnection]] = []

    def begin(self) -> None:
        for name in acl.SESSION_USERS[:2]:
            self.ask((b"ACL", b"DELUSER", name))
        for request in (
            (b"ACL", b"SETUSER", b"admin", b"on", b"nopass", b"+@all", b"allkeys", b"allchannels"),
            (b"AUTH", b"admin", b""),
            (b"ACL", b"SETUSER", b"default", b"reset", b"on", b"nopass", b"+@all", b"allkeys", b"allchannels"),
            (b"CONFIG", b"SET", b"acllog-max-len", b"128"),
            (b"ACL", b"LOG", b"RESET"),
            (b"FLUSHALL",),
        ):
            self.must_agree(request)
        for connection in itertools.chain.from_iterable(self._clients):
            connection.close()
        self._clients = [self._connect() for _number in range(self.CLIENTS)]

    def _connect(self) -> list[RawConnection]:
        connections = [RawConnection(port) for port in self._ports]
        for connection in connections:
            connection.ask("PING")  # Whether it must log in is decided when it is accepted, not when it connects.
        return connections

    def client_asks(self, number: int, request: Request) -> None:
        replies = []
        for connection in self._clients[number]:
            try:
                connection.send(*request)
                replies.append(_without_id(_comparable(connection.reply())))
            except OSError:
                replies.append("closed")
        assert replies[0] == replies[1], (number, request)
        if "closed" in replies:
            self._clients[number] = self._connect()

    def compare_logs(self) -> None:
        """Everything but the age, and of the client what is the same on both sides."""
        logs = [[_comparable_entry(entry) for entry in each] for each in self.ask((b"ACL", b"LOG", b"1000"))]
        assert logs[0] == logs[1]


def _without_id(reply: Any) -> Any:
    """The reply without the client's id, should it be HELLO's, or hold one."""
    if isinstance(reply, list):
        if reply[:1] == [b"server"]:
            return reply[:7] + reply[8:]
        return [_without_id(each) for each in reply]
    return reply


def _comparable_entry(entry: list[Any]) -> dict[bytes, Any]:
    fields = dict(zip(entry[::2], entry[1::2], strict=True))
    del fields[b"age-seconds"]
    info = dict(word.split(b"=", 1) for word in fields[b"client-info"].split())
    fields[b"client-info"] = {name: info[name] for name in (b"cmd", b"user", b"name", b"multi", b"flags", b"db")}
    return fields


@pytest.fixture(scope="module")
def users() -> Iterator[Users]:
    with OurNode() as ours, RealRedis() as real:
        servers = Users([ours.port, real.port])
        yield servers
        servers.close()


_steps = weighted(
    (1, st.tuples(st.none(), acl.changes_of_users)),
    (3, st.tuples(st.integers(0, Users.CLIENTS - 1), acl.everyday_requests)),
)


@given(steps=st.lists(_steps, max_size=30))
def test_clients_are_refused_alike(users: Users, steps: list[tuple[int | None, Request]]) -> None:
    users.begin()
    for client, request in steps:
        if client is None:
            users.must_agree(request)
        else:
            users.client_asks(client, request)
    users.compare_logs()


def test_categories_hold_the_same_commands(both: Both) -> None:
    assert both.must_agree((b"ACL", b"CAT")) == [name.encode() for name in CATEGORIES]
    for name in CATEGORIES:
        ours, theirs = both.ask((b"ACL", b"CAT", name.encode()))
        assert sorted(ours) == sorted(theirs)


def _closes_its_parentheses(text: bytes) -> bool:
    """Redis 7.0.15 does not survive a file with one that stays open."""
    try:
        for line in text.split(b"\n"):
            merge_selectors(line.strip(b" \t\r").split(b" ")[2:])
    except DefinitionError:
        return False
    return True


_user_lines = st.builds(
    lambda name, rules, blanks: blanks[0] + b"user " + name + blanks[1] + b" ".join(rules) + blanks[2],
    st.sampled_from((*acl.USERS, b"carol", b"c\varol")),
    st.lists(acl.user_rules, max_size=3),
    st.sampled_from(((b"", b" ", b""), (b" \t", b"  ", b"\r"), (b"", b" \t", b" "))),
)
_other_lines = st.sampled_from(
    (b"", b"# comment", b"USER alice on", b"user", b"user ", b"  ", b"alice on", b"user  on")
)
_file_lines = weighted((6, _user_lines), (1, _other_lines))


@pytest.fixture(scope="module")
def readers() -> Iterator[tuple[Both, list[Path]]]:
    """Both servers, and the file that each of them reads."""
    servers: list[Server] = [OurNode(aclfile="users.acl"), RealRedis(aclfile="users.acl")]
    paths = [server.directory / "users.acl" for server in servers]
    for path in paths:
        path.touch()
    with servers[0], servers[1]:
        both = Both([server.port for server in servers])
        yield both, paths
        both.close()


@given(text=st.lists(_file_lines, max_size=4).map(b"\n".join))
def test_files_are_read_alike(readers: tuple[Both, list[Path]], text: bytes) -> None:
    assume(b"\0" not in text and _closes_its_parentheses(text))
    both, paths = readers
    for path in paths:
        # Whoever is connected is the default user, and has to go on.
        path.write_bytes(text + b"\nuser default on nopass +@all\n")
    both.must_agree((b"ACL", b"LOAD"))
    both.must_agree((b"ACL", b"LIST"))
