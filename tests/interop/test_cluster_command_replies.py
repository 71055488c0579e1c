"""CLUSTER and its kin, word for word: the same commands to a real server and to ours, and the same answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.servers import OurNode, RealRedis, Server
from tests.support.waiting import eventually
from tests.support.wire import ReplyError

pytestmark = pytest.mark.real_redis

STRANGER = "a" * 40
"""A node id that nobody has."""

ARGUMENTS = """
CLUSTER
CLUSTER FOO
CLUSTER MEET
CLUSTER MEET 127.0.0.1
CLUSTER MEET 127.0.0.1 x
CLUSTER MEET 127.0.0.1 70000
CLUSTER MEET 127.0.0.1 0
CLUSTER MEET nowhere 7000
CLUSTER MEET 127.0.0.1 7000 x
CLUSTER MEET 127.0.0.1 7000 0
CLUSTER MEET 127.0.0.1 7000 70000
CLUSTER MEET 127.0.0.1 60000
CLUSTER MEET 127.0.0.1 99999999999999999999
CLUSTER MEET 127.0.0.1 7000 1 2
CLUSTER MYID x
CLUSTER KEYSLOT
CLUSTER KEYSLOT foo
CLUSTER KEYSLOT a{foo}{b}
CLUSTER KEYSLOT a b
CLUSTER COUNTKEYSINSLOT x
CLUSTER COUNTKEYSINSLOT 16384
CLUSTER COUNTKEYSINSLOT -1
CLUSTER COUNTKEYSINSLOT 5
CLUSTER GETKEYSINSLOT 5 x
CLUSTER GETKEYSINSLOT x 5
CLUSTER GETKEYSINSLOT 5 -1
CLUSTER GETKEYSINSLOT 16384 1
CLUSTER GETKEYSINSLOT 5 1
CLUSTER REPLICAS {stranger}
CLUSTER REPLICAS {me}
CLUSTER SLAVES {me}
CLUSTER SLAVES x
CLUSTER COUNT-FAILURE-REPORTS x
CLUSTER COUNT-FAILURE-REPORTS {me}
CLUSTER FORGET {stranger}
CLUSTER FORGET abc
CLUSTER FORGET {me}
CLUSTER REPLICATE {stranger}
CLUSTER REPLICATE {me}
CLUSTER FAILOVER
CLUSTER FAILOVER x
CLUSTER FAILOVER FORCE
CLUSTER FAILOVER TAKEOVER
CLUSTER FAILOVER FORCE x
CLUSTER RESET x
CLUSTER RESET SOFT x
CLUSTER SAVECONFIG
CLUSTER SAVECONFIG x
CLUSTER HELP
CLUSTER LINKS
CLUSTER SET-CONFIG-EPOCH x
CLUSTER SET-CONFIG-EPOCH -1
ASKING
ASKING x
READONLY
READWRITE
GET foo
SET foo bar
MGET foo bar
""".strip().splitlines()

SLOTS = """
CLUSTER ADDSLOTS
CLUSTER ADDSLOTS x
CLUSTER ADDSLOTS 16384
CLUSTER ADDSLOTS 1 1
CLUSTER ADDSLOTS 1 2 x
CLUSTER ADDSLOTS 1 2 3
CLUSTER ADDSLOTS 3
CLUSTER ADDSLOTS 4 3
CLUSTER DELSLOTS 4
CLUSTER DELSLOTS 3 3
CLUSTER DELSLOTS 3
CLUSTER ADDSLOTSRANGE 5
CLUSTER ADDSLOTSRANGE 5 6 7
CLUSTER ADDSLOTSRANGE 6 5
CLUSTER ADDSLOTSRANGE 5 6 2 3
CLUSTER ADDSLOTSRANGE 5 6 6 7
CLUSTER ADDSLOTSRANGE 5 6 8 x
CLUSTER ADDSLOTSRANGE 5 6 2 3 8 x
CLUSTER ADDSLOTSRANGE 5 6 8 8
CLUSTER DELSLOTSRANGE 5 6 7 7
CLUSTER DELSLOTSRANGE 5 6 7
CLUSTER DELSLOTSRANGE 5 6
CLUSTER SLOTS
CLUSTER SHARDS
CLUSTER NODES
CLUSTER SETSLOT 1 foo
CLUSTER SETSLOT x foo
CLUSTER SETSLOT 1 MIGRATING {stranger}
CLUSTER SETSLOT 7 MIGRATING {me}
CLUSTER SETSLOT 1 IMPORTING {stranger}
CLUSTER SETSLOT 1 IMPORTING {me}
CLUSTER SETSLOT 7 IMPORTING {stranger}
CLUSTER SETSLOT 1 STABLE x
CLUSTER SETSLOT 1 STABLE
CLUSTER SETSLOT 1 NODE {stranger}
CLUSTER SETSLOT 1 NODE
CLUSTER SETSLOT 1 MIGRATING {me}
CLUSTER SETSLOT 7 IMPORTING {me}
CLUSTER NODES
CLUSTER SETSLOT 1 NODE {me}
CLUSTER SETSLOT 7 NODE {me}
CLUSTER NODES
CLUSTER BUMPEPOCH
CLUSTER BUMPEPOCH
CLUSTER SET-CONFIG-EPOCH 5
CLUSTER FLUSHSLOTS
CLUSTER FLUSHSLOTS x
CLUSTER SLOTS
CLUSTER SHARDS
CLUSTER NODES
CLUSTER RESET HARD
CLUSTER NODES
CLUSTER SET-CONFIG-EPOCH 5
CLUSTER SET-CONFIG-EPOCH 6
CLUSTER NODES
CLUSTER RESET
CLUSTER NODES
CLUSTER RESET HARD
""".strip().splitlines()

MIGRATE_AND_RESTORE = """
MIGRATE 127.0.0.1 1 missing 0
MIGRATE 127.0.0.1 1 missing 0 100
MIGRATE 127.0.0.1 1 "" 0 100 KEYS missing
MIGRATE 127.0.0.1 1 "" 0 100 KEYS
MIGRATE 127.0.0.1 1 missing x 100
MIGRATE 127.0.0.1 1 missing 0 x
MIGRATE 127.0.0.1 1 missing x x
MIGRATE 127.0.0.1 1 missing 0 100 AUTH
MIGRATE 127.0.0.1 1 missing 0 100 AUTH2 a
MIGRATE 127.0.0.1 1 missing 0 100 FOO
MIGRATE 127.0.0.1 1 missing 0 100 KEYS other
MIGRATE 127.0.0.1 1 missing x 100 KEYS other
MIGRATE 127.0.0.1 1 "" 0 100 KEYS foo bar
SET foo bar
MIGRATE 127.0.0.1 1 foo 0 100
MIGRATE 127.0.0.1 x foo 0 100
MIGRATE 127.0.0.1 99999 foo 0 100
MIGRATE 127.0.0.1 1 foo 0 100 COPY REPLACE
GET foo
DUMP foo
DUMP missing
DUMP
RESTORE foo
RESTORE foo 0
RESTORE new 0 x y
RESTORE new 0 x IDLETIME
RESTORE new 0 x IDLETIME x
RESTORE new 0 x IDLETIME -1
RESTORE new 0 x FREQ
RESTORE new 0 x FREQ x
RESTORE new 0 x FREQ 256
RESTORE new 0 x FREQ -1
RESTORE new 0 x FREQ 1 IDLETIME 1
RESTORE new 0 x IDLETIME 1 FREQ 1
RESTORE foo x x
RESTORE new x x
RESTORE new -1 x
RESTORE new 0 x
RESTORE new 0 ""
RESTORE foo 0 x
RESTORE new 0 {dump}
GET new
TTL new
RESTORE new 0 {dump}
RESTORE new 100000 {dump} REPLACE FREQ 7
TTL new
RESTORE new 0 {dump} REPLACE IDLETIME 1000
TTL new
RESTORE new 1 {dump} REPLACE ABSTTL
EXISTS new
RESTORE new 1 {dump} ABSTTL
EXISTS new
RESTORE-ASKING new 0 {dump}
GET new
RESTORE new 9999999999999 {dump} REPLACE ABSTTL
PEXPIRETIME new
RESTORE new 0 {damaged} REPLACE
RESTORE new 0 {future} REPLACE
GET new
""".strip().splitlines()


def anonymous(value: Any, server: Server, node_id: str) -> Any:
    """An answer without what must differ: the server's node id, ports and log-in name of the day."""
    if isinstance(value, ReplyError):
        return f"-{value}".replace(node_id, "<me>")
    if isinstance(value, bytes):
        text = value.replace(node_id.encode(), b"<me>").replace(str(server.bus_port).encode(), b"<bus>")
        return text.replace(str(server.port).encode(), b"<port>")
    if isinstance(value, list):
        return [anonymous(each, server, node_id) for each in value]
    if isinstance(value, dict):
        return {anonymous(key, server, node_id): anonymous(each, server, node_id) for key, each in value.items()}
    return "<port>" if value == server.port else value


def answers(server: Server, commands: list[str], words: dict[str, bytes], protocol: int) -> list[Any]:
    """What the server says to each command in turn; ``words`` stand for what cannot be written in a line."""
    found = []
    with server.raw() as connection:
        if protocol == 3:
            connection.call("HELLO", 3)
        for command in commands:
            node_id = connection.call("CLUSTER", "MYID")
            known = {"{me}": node_id, "{stranger}": STRANGER.encode(), '""': b"", **words}
            reply = connection.ask(*[known.get(word, word) for word in command.split()])
            if command.startswith("TTL ") and isinstance(reply, int) and 40 < reply <= 100:
                reply = "<100, less what has passed>"
            after = connection.call("CLUSTER", "MYID").decode()
            found.append((command, anonymous(anonymous(reply, server, node_id.decode()), server, after)))
    return found


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[RealRedis, OurNode]]:
    with RealRedis(cluster=True, appendonly="no") as theirs, OurNode(cluster=True, appendonly="no") as ours:
        yield theirs, ours


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("commands", [ARGUMENTS, SLOTS], ids=["arguments", "slots"])
def test_a_lonely_node_answers_as_redis(pair: tuple[RealRedis, OurNode], commands: list[str], protocol: int) -> None:
    theirs, ours = pair

    assert answers(ours, commands, {}, protocol) == answers(theirs, commands, {}, protocol)


@pytest.mark.parametrize("protocol", [2, 3])
def test_migrate_dump_and_restore_answer_as_redis(pair: tuple[RealRedis, OurNode], protocol: int) -> None:
    theirs, ours = pair
    for server in pair:
        server.call("CLUSTER", "RESET", "HARD")
        server.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        eventually(lambda server=server: server.cluster_info()["cluster_state"] == "ok")
        server.call("FLUSHALL")
    theirs.call("SET", "sample", "some value or other")
    dump = theirs.call("DUMP", "sample")
    words = {
        "{dump}": dump,
        "{damaged}": dump[:-1] + bytes([dump[-1] ^ 1]),
        "{future}": dump[:-10] + b"\xff\xff" + dump[-8:],
    }
    theirs.call("FLUSHALL")
    # One key in slot terms: what is asked for must be in slots of the node, which has them all.
    ours_said = answers(ours, MIGRATE_AND_RESTORE, words, protocol)
    theirs_said = answers(theirs, MIGRATE_AND_RESTORE, words, protocol)
    for server in pair:
        server.call("FLUSHALL")

    assert ours_said == theirs_said


def test_cluster_info_has_the_same_fields(pair: tuple[RealRedis, OurNode]) -> None:
    theirs, ours = pair
    with RealRedis(cluster=True) as third:
        for server in pair:
            server.call("CLUSTER", "RESET", "HARD")
            server.call("CLUSTER", "MEET", "127.0.0.1", third.port)

        def fields(server: Server) -> list[str]:
            return re.findall(r"^[^:]+", server.call("CLUSTER", "INFO").decode(), re.M)

        eventually(lambda: "cluster_stats_messages_meet_sent" in fields(ours))
        eventually(lambda: fields(ours) == fields(theirs))
    for server in pair:
        server.call("CLUSTER", "RESET", "HARD")


@pytest.mark.parametrize("server_class", [OurNode, RealRedis])
def test_without_cluster_mode_everything_is_refused(server_class: type[Server]) -> None:
    server = server_class()
    with server, server.raw() as connection:
        for command in ("CLUSTER INFO", "CLUSTER HELP", "CLUSTER ADDSLOTS x", "READONLY", "READWRITE", "ASKING"):
            refusal = connection.ask(*command.split())
            assert str(refusal) == "ERR This instance has cluster support disabled", command
        assert str(connection.ask("CLUSTER")) == "ERR wrong number of arguments for 'cluster' command"
        assert str(connection.ask("CLUSTER", "X")) == "ERR unknown subcommand 'X'. Try CLUSTER HELP."
