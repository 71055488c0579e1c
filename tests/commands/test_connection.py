"""The connection commands on a server without a network: PING … RESET, AUTH, CLIENT and its subcommands.

What the bytes must be is Redis 7.0.15's; tests/interop/test_connection_interop.py compares them with the real one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest

from cluster.gossip.state import new_state
from cluster.resp.encode import RESP2, RESP3
from tests.support.sessions import BenchClient, ServerBench

PASSWORD = "sesame"
NOAUTH = b"-NOAUTH Authentication required.\r\n"
WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
SYNTAX = b"-ERR syntax error\r\n"
LINE = re.compile(
    r"id=(\d+) addr=(\S*) laddr=(\S*) fd=\d+ name=(\S*) age=\d+ idle=\d+ flags=(\w+) db=(\d+) sub=0 psub=0 ssub=0"
    r" multi=(-?\d+) qbuf=(\d+) qbuf-free=\d+ argv-mem=(\d+) multi-mem=(\d+) rbs=\d+ rbp=\d+ obl=\d+ oll=\d+ omem=\d+"
    r" tot-mem=\d+ events=rw? cmd=(\S+) user=(\S+) redir=-1 resp=([23])( lib-name=\S* lib-ver=\S*)?"
)


@pytest.fixture
def bench() -> Iterator[ServerBench]:
    with ServerBench() as bench:
        yield bench


@pytest.fixture
def client(bench: ServerBench) -> BenchClient:
    return bench.connect()


@pytest.fixture
def locked() -> Iterator[ServerBench]:
    with ServerBench(requirepass=PASSWORD) as bench:
        yield bench


def parse(reply: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(reply)
    return reader.gets()


def listed(client: BenchClient, *options: str) -> list[str]:
    """The lines of CLIENT LIST."""
    lines: list[str] = parse(client.ask("CLIENT", "LIST", *options)).decode().splitlines()
    return lines


def own_line(client: BenchClient) -> re.Match[str]:
    match = LINE.fullmatch(parse(client.ask("CLIENT", "INFO")).decode().rstrip("\n"))
    assert match is not None
    return match


def set_password(bench: ServerBench, password: str) -> None:
    bench.server.config.set([(b"requirepass", password.encode())])


# PING, ECHO, SELECT, QUIT -----------------------------------------------------------------------------------------


def test_ping_and_echo(client: BenchClient) -> None:
    assert client.ask("PING") == b"+PONG\r\n"
    assert client.ask("PING", "") == b"$0\r\n\r\n"
    assert client.ask("ping", "hi") == b"$2\r\nhi\r\n"
    assert client.ask("PING", "a", "b") == b"-ERR wrong number of arguments for 'ping' command\r\n"
    assert client.ask("ECHO", b"\0\r\n") == b"$3\r\n\0\r\n\r\n"


def test_ping_of_a_subscribed_client_is_an_array_in_resp2(bench: ServerBench, client: BenchClient) -> None:
    client.ask("SUBSCRIBE", "c")

    assert client.ask("PING") == b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
    assert client.ask("PING", "hi") == b"*2\r\n$4\r\npong\r\n$2\r\nhi\r\n"
    assert bench.connect().ask("PING") == b"+PONG\r\n"

    client.session.proto = RESP3
    assert client.ask("PING") == b"+PONG\r\n"


@pytest.mark.parametrize(
    ("index", "reply"),
    [
        ("15", b"+OK\r\n"),
        ("0", b"+OK\r\n"),
        ("16", b"-ERR DB index is out of range\r\n"),
        ("-1", b"-ERR DB index is out of range\r\n"),
        ("one", b"-ERR value is not an integer or out of range\r\n"),
        ("01", b"-ERR value is not an integer or out of range\r\n"),
        ("2147483648", b"-ERR value is out of range, value must between -2147483648 and 2147483647\r\n"),
    ],
)
def test_select(client: BenchClient, index: str, reply: bytes) -> None:
    assert client.ask("SELECT", index) == reply
    assert client.session.db.index == (15 if index == "15" else 0)


def test_select_in_cluster_mode(bench: ServerBench, client: BenchClient) -> None:
    bench.server.cluster = new_state("a" * 40, 1)

    assert client.ask("SELECT", "0") == b"+OK\r\n"
    assert client.ask("SELECT", "1") == b"-ERR SELECT is not allowed in cluster mode\r\n"
    assert client.ask("SELECT", "-1") == b"-ERR SELECT is not allowed in cluster mode\r\n"


def test_nothing_runs_after_quit(bench: ServerBench, client: BenchClient) -> None:
    assert client.pipeline(("SET", "a", "1"), ("QUIT",), ("SET", "b", "1")) == b"+OK\r\n+OK\r\n"
    assert client.closed
    assert bench.connect().ask("EXISTS", "a", "b") == b":1\r\n"


def test_quit_without_replies_closes_too(client: BenchClient) -> None:
    """Redis 7.0.15 does not: nothing was written, so the end of writing never comes."""
    assert client.pipeline(("CLIENT", "REPLY", "OFF"), ("QUIT",)) == b""
    assert client.closed


def test_nothing_runs_after_quit_while_its_reply_is_stuck(bench: ServerBench, client: BenchClient) -> None:
    # Given more output than a socket takes, and QUIT behind it
    big = "x" * 1_000_000
    bench.connect().ask("SET", "big", big)
    client.ask("GET", "a")
    client.say(b"GET big\r\n" * 4 + b"QUIT\r\n")
    bench.run()
    assert not client.session.closed
    assert " flags=cU " in listed(bench.connect(), "ID", str(client.session.id))[0]

    # When the client says more before it has read
    client.say(b"SET late 1\r\n")
    bench.run()

    # Then that is not run, and the connection ends once everything has been read
    data = b""
    while not client.closed:
        data += client.read()
        bench.run()
    assert data == (b"$%d\r\n%b\r\n" % (len(big), big.encode())) * 4 + b"+OK\r\n"
    assert bench.connect().ask("EXISTS", "late") == b":0\r\n"


# HELLO and AUTH ---------------------------------------------------------------------------------------------------


def hello_fields(version: int, client: BenchClient) -> bytes:
    return (
        b"$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:%d\r\n$2\r\nid\r\n:%d\r\n"
        b"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
    ) % (version, client.session.id)


def test_hello_tells_and_switches(client: BenchClient) -> None:
    assert client.ask("HELLO") == b"*14\r\n" + hello_fields(2, client)
    assert client.ask("HELLO", "3") == b"%7\r\n" + hello_fields(3, client)
    assert client.ask("HELLO") == b"%7\r\n" + hello_fields(3, client)
    assert client.ask("GET", "none") == b"_\r\n"
    assert client.ask("HELLO", "2", "SETNAME", "me") == b"*14\r\n" + hello_fields(2, client)
    assert client.ask("CLIENT", "GETNAME") == b"$2\r\nme\r\n"


@pytest.mark.parametrize(
    ("options", "reply"),
    [
        (["x"], b"-ERR Protocol version is not an integer or out of range\r\n"),
        (["4"], b"-NOPROTO unsupported protocol version\r\n"),
        (["1"], b"-NOPROTO unsupported protocol version\r\n"),
        (["3", "what"], b"-ERR Syntax error in HELLO option 'what'\r\n"),
        (["3", "AUTH", "default"], b"-ERR Syntax error in HELLO option 'AUTH'\r\n"),
        (["3", "SETNAME"], b"-ERR Syntax error in HELLO option 'SETNAME'\r\n"),
        (["3", "SETNAME", "a b"], b"-ERR Client names cannot contain spaces, newlines or special characters.\r\n"),
        (["3", "AUTH", "nobody", "x"], WRONGPASS),
    ],
)
def test_hello_refuses_and_leaves_the_protocol(client: BenchClient, options: list[str], reply: bytes) -> None:
    assert client.ask("HELLO", *options) == reply
    assert client.session.proto is RESP2


def test_hello_says_whose_server_it_is(bench: ServerBench, client: BenchClient) -> None:
    bench.server.replication.state.master_host = "10.0.0.9"
    bench.server.cluster = new_state("a" * 40, 1)

    fields = parse(client.ask("HELLO", "3"))

    assert (fields[b"mode"], fields[b"role"]) == (b"cluster", b"replica")


def test_hello_before_authentication(locked: ServerBench) -> None:
    client = locked.connect()

    assert client.ask("HELLO", "3", "SETNAME", "early").startswith(b"-NOAUTH HELLO must be called with the client alr")
    assert (client.session.name, client.session.proto) == (b"early", RESP2)
    assert client.ask("HELLO", "3", "AUTH", "default", "wrong", "SETNAME", "late") == WRONGPASS
    assert client.session.name == b"early"
    assert client.ask("PING") == NOAUTH
    assert client.ask("hello", "3", "auth", "default", PASSWORD) == b"%7\r\n" + hello_fields(3, client)
    assert client.ask("PING") == b"+PONG\r\n"


def test_auth_with_a_password(locked: ServerBench) -> None:
    client = locked.connect()

    assert client.ask("AUTH", "a", "b", "c") == SYNTAX
    for words in (["wrong"], [PASSWORD + "\0"], [PASSWORD[:-1]], [""], ["nobody", PASSWORD], ["Default", PASSWORD]):
        assert client.ask("AUTH", *words) == WRONGPASS
        assert client.ask("GET", "k") == NOAUTH
    assert client.ask("AUTH", PASSWORD) == b"+OK\r\n"
    assert client.ask("GET", "k") == b"$-1\r\n"
    assert client.ask("AUTH", "wrong") == WRONGPASS  # Who is logged in stays so.
    assert client.ask("GET", "k") == b"$-1\r\n"
    assert locked.connect().ask("AUTH", "default", PASSWORD) == b"+OK\r\n"


def test_auth_without_a_password(client: BenchClient) -> None:
    assert client.ask("AUTH", "x").startswith(b"-ERR AUTH <password> called without any password configured for the")
    assert client.ask("AUTH", "default", "anything") == b"+OK\r\n"
    assert client.ask("AUTH", "nobody", "x") == WRONGPASS


def test_a_password_of_any_bytes(bench: ServerBench) -> None:
    bench.server.config.set([(b"requirepass", b"\xff\0\xfe")])
    client = bench.connect()

    assert client.ask("AUTH", b"\xff") == WRONGPASS
    assert client.ask("AUTH", b"\xff\0\xfe") == b"+OK\r\n"


def test_passwords_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, locked: ServerBench) -> None:
    """Nothing but ``compare_digest`` may decide, and it gets both sides in one length."""
    seen = []

    def compare(left: bytes, right: bytes) -> bool:
        seen.append((len(left), len(right)))
        return False

    monkeypatch.setattr("hmac.compare_digest", compare)

    assert locked.server.acl.authenticate(b"default", PASSWORD.encode()) is None
    assert locked.server.acl.authenticate(b"default", b"") is None
    assert seen == [(64, 64)] * 2


def test_requirepass_changes_what_new_clients_need(bench: ServerBench, client: BenchClient) -> None:
    set_password(bench, PASSWORD)
    late = bench.connect()

    assert client.ask("PING") == b"+PONG\r\n"
    assert late.ask("PING") == NOAUTH

    # Without a password again, nobody is refused, but HELLO still knows who never logged in.
    set_password(bench, "")
    assert late.ask("PING") == b"+PONG\r\n"
    assert late.ask("HELLO", "3").startswith(b"-NOAUTH HELLO must")
    assert len(late.ask("ECHO", "x" * 20_000)) == 20_010

    set_password(bench, "other")
    assert late.ask("PING") == NOAUTH
    assert late.ask("ECHO", "x" * 20_000) == b"-ERR Protocol error: unauthenticated bulk length\r\n"


def test_secrets_are_not_shown(bench: ServerBench, client: BenchClient) -> None:
    watcher = bench.connect()
    bench.server.monitors.add(watcher.session)
    client.ask("CONFIG", "SET", "slowlog-log-slower-than", 0)
    set_password(bench, PASSWORD)

    client.ask("AUTH", PASSWORD)
    client.ask("AUTH", "default", PASSWORD)
    client.ask("HELLO", "3", "SETNAME", "me", "AUTH", "default", PASSWORD)
    client.pipeline(("MULTI",), ("AUTH", PASSWORD), ("ECHO", "b"), ("EXEC",))

    lines = [line.split(b"] ", 1)[1] for line in watcher.read().splitlines()]
    assert lines == [
        b'"AUTH" "(redacted)"',
        b'"AUTH" "(redacted)" "(redacted)"',
        b'"HELLO" "3" "SETNAME" "me" "AUTH" "(redacted)" "(redacted)"',
        b'"MULTI"',
        b'"AUTH" "(redacted)"',
        b'"ECHO" "b"',
        b'"EXEC"',
    ]
    assert bench.server.slow_log.entries
    assert PASSWORD not in repr(bench.server.slow_log.entries)


# RESET ------------------------------------------------------------------------------------------------------------


def test_reset_makes_a_new_connection_of_an_old_one(bench: ServerBench, client: BenchClient) -> None:
    session = client.session
    client.pipeline(("HELLO", "3", "SETNAME", "me"), ("SELECT", 3), ("WATCH", "k"), ("CLIENT", "NO-EVICT", "on"))
    session.readonly = session.asking = True
    bench.server.monitors.add(session)
    client.pipeline(("MULTI",), ("SET", "k", "v"))

    assert client.ask("RESET") == b"+RESET\r\n"

    assert (session.proto, session.db.index, session.name, session.user.name) == (RESP2, 0, b"", b"default")
    assert not (session.readonly or session.asking or session.is_monitor or session.watching)
    assert session.no_evict
    assert client.ask("EXEC") == b"-ERR EXEC without MULTI\r\n"
    assert session.plain


def test_reset_logs_out(locked: ServerBench) -> None:
    client = locked.connect()
    client.ask("AUTH", PASSWORD)

    assert client.ask("RESET") == b"+RESET\r\n"
    assert client.ask("PING") == NOAUTH


def test_reset_is_for_normal_clients(bench: ServerBench, client: BenchClient) -> None:
    client.session.is_master_link = True
    client.session.proto = RESP3
    bench.server.dispatcher.process(client.session, [b"RESET"])

    assert client.session.out == [b"-ERR can only reset normal client connections\r\n"]
    assert client.session.proto is RESP3
    client.session.is_master_link = False


# Names ------------------------------------------------------------------------------------------------------------


def test_names(client: BenchClient) -> None:
    assert client.ask("CLIENT", "GETNAME") == b"$-1\r\n"
    assert client.ask("CLIENT", "SETNAME", "a!~") == b"+OK\r\n"
    for name in ("a b", "\x7f", "é", "a\n", "\0"):
        assert client.ask("CLIENT", "SETNAME", name).startswith(b"-ERR Client names cannot contain spaces, newlines")
    assert client.ask("CLIENT", "GETNAME") == b"$3\r\na!~\r\n"
    assert client.ask("CLIENT", "SETNAME", "") == b"+OK\r\n"
    client.ask("HELLO", "3")
    assert client.ask("CLIENT", "GETNAME") == b"_\r\n"


def test_library_info(client: BenchClient) -> None:
    assert own_line(client)[14] is None
    assert client.ask("CLIENT", "SETINFO", "lib-name", "redis-py(x_v1)") == b"+OK\r\n"
    assert own_line(client)[14] == " lib-name=redis-py(x_v1) lib-ver="
    assert client.ask("client", "setinfo", "LIB-VER", "5.3.1") == b"+OK\r\n"
    assert own_line(client)[14] == " lib-name=redis-py(x_v1) lib-ver=5.3.1"
    assert client.ask("CLIENT", "SETINFO", "lib-ver", "5 3") == (
        b"-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n"
    )
    assert client.ask("CLIENT", "SETINFO", "lib", "x") == b"-ERR Unrecognized option 'lib'\r\n"
    client.ask("RESET")
    assert own_line(client)[14] == " lib-name=redis-py(x_v1) lib-ver=5.3.1"


def test_what_only_later_versions_have_is_an_unknown_subcommand(client: BenchClient) -> None:
    assert client.ask("CLIENT", "MAINT_NOTIFICATIONS", "ON", "moving-endpoint-type", "internal-ip") == (
        b"-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.\r\n"
    )
    assert client.ask("PING") == b"+PONG\r\n"


# CLIENT LIST ------------------------------------------------------------------------------------------------------


def test_a_line_of_client_list(bench: ServerBench, client: BenchClient) -> None:
    client.pipeline(("CLIENT", "SETNAME", "me"), ("SELECT", 2), ("HELLO", 3))

    line = own_line(client)

    address = "10.0.0.1:50000"
    assert line.groups()[:5] == (str(client.session.id), address, "127.0.0.1:6379", "me", "U")
    # The request that is running: 26 bytes on the wire, 10 of them arguments.
    assert line.groups()[5:13] == ("2", "-1", "26", "10", "0", "client|info", "default", "3")


def test_flags_and_commands_of_others(bench: ServerBench, client: BenchClient) -> None:
    queueing, waiting, protected, lost = (bench.connect() for _ in range(4))
    queueing.pipeline(("WATCH", "k"), ("MULTI",), ("SET", "k", "abc"))
    waiting.pipeline(("WAIT", 1, 0), ("PING",))
    protected.pipeline(("CLIENT", "NO-EVICT", "ON"), ("PING",))
    lost.pipeline(("PING",), ("no", "such"))
    client.ask("SET", "k", "v")

    lines = [LINE.fullmatch(line) for line in listed(client)[1:]]

    shown = [(line[5], line[7], line[8], line[9], line[10], line[11]) for line in lines if line is not None]
    assert shown == [
        ("xdU", "1", "0", "0", "31", "set"),
        ("bU", "-1", "14", "6", "0", "wait"),
        ("Ue", "-1", "0", "0", "0", "ping"),
        ("U", "-1", "0", "0", "0", "NULL"),
    ]


def test_a_client_that_goes_on_is_no_longer_blocked(bench: ServerBench, client: BenchClient) -> None:
    waiting = bench.connect()
    waiting.ask("WAIT", 1, 0)

    reply = client.pipeline(("CLIENT", "UNBLOCK", waiting.session.id), ("CLIENT", "LIST"), ("INFO", "clients"))

    assert b"flags=uU" in reply
    assert b"blocked_clients:0" in reply


def test_client_list_by_type_and_id(bench: ServerBench, client: BenchClient) -> None:
    other, monitor, master = (bench.connect() for _ in range(3))
    bench.server.monitors.add(monitor.session)
    master.session.is_master_link = True
    master.session.user = bench.server.acl.superuser
    ids = [each.session.id for each in (client, other, monitor, master)]

    def of(*options: str) -> list[int]:
        return [int(line.split()[0].removeprefix("id=")) for line in listed(client, *options)]

    assert of() == ids
    assert of("TYPE", "normal") == ids[:3]
    assert of("type", "MASTER") == ids[3:]
    assert of("TYPE", "replica") == of("TYPE", "slave") == of("TYPE", "pubsub") == []
    assert of("ID", str(ids[1]), "99", str(ids[0]), str(ids[1])) == [ids[1], ids[0], ids[1]]
    assert " flags=OU " in listed(client, "ID", str(ids[2]))[0]
    assert " flags=MU " in (line := listed(client, "ID", str(ids[3]))[0]) and " user=(superuser) " in line
    assert client.ask("CLIENT", "LIST", "TYPE", "what") == b"-ERR Unknown client type 'what'\r\n"
    assert client.ask("CLIENT", "LIST", "ID", "x") == b"-ERR Invalid client ID\r\n"
    for words in (["TYPE"], ["ID"], ["what"], ["TYPE", "normal", "x"]):
        assert client.ask("CLIENT", "LIST", *words) == SYNTAX
    master.session.is_master_link = False


def test_client_info_is_verbatim_in_resp3(client: BenchClient) -> None:
    client.ask("HELLO", "3")

    assert re.match(rb"=\d+\r\ntxt:id=1 ", client.ask("CLIENT", "INFO"))


# CLIENT KILL ------------------------------------------------------------------------------------------------------


def test_kill_by_address(bench: ServerBench, client: BenchClient) -> None:
    other = bench.connect("10.0.0.2:1")

    assert client.ask("CLIENT", "KILL", "10.0.0.2:2") == b"-ERR No such client\r\n"
    assert client.ask("CLIENT", "KILL", "10.0.0.2:1") == b"+OK\r\n"
    other.read()
    assert other.closed and not client.closed
    assert client.ask("CLIENT", "KILL", client.session.address) == b"+OK\r\n"
    assert client.closed


def test_kill_filters(bench: ServerBench, client: BenchClient) -> None:
    def killed(*options: Any) -> tuple[bytes, list[str]]:
        """The reply, and who of five others is gone; they come back with the next call."""
        others = {name: bench.connect(f"10.0.0.{number}:1") for number, name in enumerate("abcde", start=1)}
        others["b"].session.local_address = "127.0.0.2:6379"
        others["c"].session.is_master_link = True
        others["c"].session.user = bench.server.acl.superuser
        bench.server.monitors.add(others["d"].session)
        words = [others[word[1:]].session.id if str(word).startswith("#") else word for word in options]
        reply = client.ask("CLIENT", "KILL", *words)
        gone = [name for name, other in others.items() if other.session.id not in bench.server.sessions]
        others["c"].session.is_master_link = False
        for other in others.values():
            bench.server.reactor.disconnect(other.session)
        return reply, gone

    # Killing our master ends the link, which here is not there.
    lost = []
    bench.server.replication.link_lost = lambda **_: lost.append(1)  # type: ignore[method-assign]
    assert killed("ID", "#a") == (b":1\r\n", ["a"])
    assert killed("ADDR", "10.0.0.5:1") == (b":1\r\n", ["e"])
    assert killed("LADDR", "127.0.0.2:6379") == (b":1\r\n", ["b"])
    assert killed("LADDR", "127.0.0.2:6379", "ADDR", "10.0.0.1:1") == (b":0\r\n", [])
    assert killed("TYPE", "normal") == (b":4\r\n", ["a", "b", "d", "e"])
    assert killed("USER", "default") == (b":4\r\n", ["a", "b", "d", "e"])
    assert killed("TYPE", "pubsub") == (b":0\r\n", [])
    assert not lost
    assert killed("TYPE", "master") == (b":1\r\n", [])
    assert killed("SKIPME", "yes") == (b":5\r\n", ["a", "b", "d", "e"])
    assert len(lost) == 2
    assert killed("ID", client.session.id) == (b":0\r\n", [])
    assert not client.closed
    assert killed("SKIPME", "no", "TYPE", "normal") == (b":5\r\n", ["a", "b", "d", "e"])
    assert client.closed


@pytest.mark.parametrize(
    ("options", "reply"),
    [
        (["ID", "0"], b"-ERR client-id should be greater than 0\r\n"),
        (["ID", "x"], b"-ERR client-id should be greater than 0\r\n"),
        (["TYPE", "what"], b"-ERR Unknown client type 'what'\r\n"),
        (["USER", "nobody"], b"-ERR No such user 'nobody'\r\n"),
        (["SKIPME", "maybe"], SYNTAX),
        (["ID", "1", "TYPE"], SYNTAX),
        (["what", "ever"], SYNTAX),
        (["SKIPME", "no", "TYPE", "what"], b"-ERR Unknown client type 'what'\r\n"),
        ([], b"-ERR wrong number of arguments for 'client|kill' command\r\n"),
    ],
)
def test_kill_refuses_and_kills_nobody(
    bench: ServerBench, client: BenchClient, options: list[str], reply: bytes
) -> None:
    other = bench.connect()

    assert client.ask("CLIENT", "KILL", *options) == reply
    assert not client.closed and not other.session.closed


def test_who_is_killed_while_waiting_leaves_its_queue(bench: ServerBench, client: BenchClient) -> None:
    waiting = bench.connect()
    waiting.ask("WAIT", 1, 0)
    left = []
    parked = waiting.session.parked
    assert parked is not None
    parked.on_cancel = lambda: left.append(1)

    assert client.ask("CLIENT", "KILL", "ID", waiting.session.id) == b":1\r\n"
    assert left == [1]


# CLIENT REPLY -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modes", "heard"),
    [
        (["on"], [b"+OK", b"$1", b"a", b"$1", b"b"]),
        (["off"], []),
        (["off", "on"], [b"+OK", b"$1", b"a", b"$1", b"b"]),
        (["skip"], [b"$1", b"b"]),
        (["skip", "skip"], [b"$1", b"b"]),
        (["skip", "on"], [b"+OK", b"$1", b"a", b"$1", b"b"]),
        (["skip", "off"], []),
        (["off", "skip"], []),
        (["what"], [b"-ERR syntax error", b"$1", b"a", b"$1", b"b"]),
        (["skip", "what"], [b"$1", b"a", b"$1", b"b"]),
    ],
)
def test_reply_modes(client: BenchClient, modes: list[str], heard: list[bytes]) -> None:
    replies = [client.ask("CLIENT", "REPLY", mode) for mode in modes]
    replies += [client.ask("ECHO", "a"), client.ask("ECHO", "b")]

    assert b"".join(replies).splitlines() == heard


def test_a_skipped_reply_that_comes_late_is_skipped_too(bench: ServerBench, client: BenchClient) -> None:
    waiting = bench.connect()
    waiting.pipeline(("CLIENT", "REPLY", "SKIP"), ("WAIT", 1, 0), ("PING",))

    assert client.ask("CLIENT", "UNBLOCK", waiting.session.id) == b":1\r\n"
    assert waiting.read() == b"+PONG\r\n"


def test_reset_turns_replies_on_but_can_itself_be_skipped(client: BenchClient) -> None:
    client.ask("CLIENT", "REPLY", "OFF")
    assert client.ask("RESET") == b"+RESET\r\n"
    client.ask("CLIENT", "REPLY", "SKIP")
    assert client.ask("RESET") == b""
    assert client.ask("PING") == b"+PONG\r\n"


# CLIENT PAUSE, UNPAUSE, UNBLOCK -----------------------------------------------------------------------------------


def test_a_pause_of_writes(bench: ServerBench, client: BenchClient) -> None:
    other = bench.connect()

    assert client.ask("CLIENT", "PAUSE", 60_000, "WRITE") == b"+OK\r\n"
    assert other.pipeline(("GET", "k"), ("SET", "k", "v"), ("GET", "k")) == b"$-1\r\n"
    assert client.ask("GET", "k") == b"$-1\r\n"
    assert client.ask("CLIENT", "UNBLOCK", other.session.id) == b":0\r\n"  # It is not blocked by a command.
    assert client.ask("CLIENT", "UNPAUSE") == b"+OK\r\n"
    assert other.read() == b"+OK\r\n$1\r\nv\r\n"


@pytest.mark.parametrize("reason", ["TIMEOUT", "ERROR"])
def test_a_command_that_is_unblocked_has_failed(bench: ServerBench, client: BenchClient, reason: str) -> None:
    waiting = bench.connect()
    waiting.ask("BLPOP", "list", 0)
    client.ask("CLIENT", "UNBLOCK", waiting.session.id, reason)
    assert b"failed_calls=1" in client.ask("INFO", "commandstats").split(b"cmdstat_blpop:")[1].split()[0]


def test_what_waits_for_the_end_of_a_pause_does_not_run_inside_exec(bench: ServerBench, client: BenchClient) -> None:
    writer = bench.connect()
    client.ask("CLIENT", "PAUSE", 60_000, "WRITE")
    writer.ask("SET", "k", "v")
    client.pipeline(("MULTI",), ("CLIENT", "UNPAUSE"), ("GET", "k"), ("GET", "k"))

    assert client.ask("EXEC") == b"*3\r\n+OK\r\n$-1\r\n$-1\r\n"
    assert writer.read() == b"+OK\r\n"


def test_what_a_client_says_in_the_pass_that_ends_its_wait_comes_after_what_it_said_before(
    bench: ServerBench, client: BenchClient
) -> None:
    waiting = bench.connect()
    waiting.pipeline(("WAIT", 1, 0), ("RPUSH", "list"), ("APPEND", "k", "1"))
    client.say(b"CLIENT UNBLOCK %d\r\n" % waiting.session.id)
    waiting.say(b"APPEND k 2\r\n")

    bench.run()

    assert waiting.read().splitlines()[-2:] == [b":1", b":2"]
    assert bench.connect().ask("GET", "k") == b"$2\r\n12\r\n"


def test_a_pause_of_everything(bench: ServerBench, client: BenchClient) -> None:
    other = bench.connect()

    assert client.ask("CLIENT", "PAUSE", 60_000) == b"+OK\r\n"
    assert other.ask("PING") == client.ask("CLIENT", "UNPAUSE") == b""
    bench.server.pauses.end()
    bench.run()
    assert other.read() == b"+PONG\r\n"
    assert client.read() == b"+OK\r\n"


@pytest.mark.parametrize("timeout", ["0", "9223372036854775807"])
def test_pauses_that_are_over_at_once(client: BenchClient, timeout: str) -> None:
    """The second one's end does not fit into 64 bits."""
    assert client.ask("CLIENT", "PAUSE", timeout) == b"+OK\r\n"
    assert client.ask("PING") == b"+PONG\r\n"


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (["PAUSE", "x"], b"-ERR timeout is not an integer or out of range\r\n"),
        (["PAUSE", "-1"], b"-ERR timeout is negative\r\n"),
        (["PAUSE", "x", "READ"], b"-ERR CLIENT PAUSE mode must be WRITE or ALL\r\n"),
        (["UNBLOCK", "x"], b"-ERR value is not an integer or out of range\r\n"),
        (["UNBLOCK", "x", "why"], b"-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n"),
        (["UNBLOCK", "99"], b":0\r\n"),
        (
            ["pause", "1", "WRITE", "x"],
            b"-ERR unknown subcommand or wrong number of arguments for 'pause'. Try CLIENT HELP.\r\n",
        ),
        (
            ["UNBLOCK", "1", "ERROR", "x"],
            b"-ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.\r\n",
        ),
        (["NO-EVICT", "maybe"], SYNTAX),
        (["GETREDIR"], b":-1\r\n"),
        (["TRACKING", "OFF"], b"+OK\r\n"),
        (["TRACKING", "OFF", "BCAST", "PREFIX", "a", "REDIRECT", "1", "NOLOOP"], b"+OK\r\n"),
        (["TRACKING", "OFF", "PREFIX"], SYNTAX),
        (["TRACKING", "maybe"], SYNTAX),
        (["TRACKING", "ON", "REDIRECT", "99"], b"-ERR The client ID you want redirect to does not exist\r\n"),
        (
            ["TRACKING", "ON", "REDIRECT", "1", "REDIRECT", "1"],
            b"-ERR A client can only redirect to a single other client\r\n",
        ),
        (
            ["CACHING", "YES"],
            b"-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode "
            b"enabled\r\n",
        ),
        (
            ["TRACKINGINFO"],
            b"*6\r\n$5\r\nflags\r\n*1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n",
        ),
    ],
)
def test_small_subcommands(client: BenchClient, words: list[str], reply: bytes) -> None:
    assert client.ask("CLIENT", *words) == reply


def test_tracking_info_in_resp3(client: BenchClient) -> None:
    client.ask("HELLO", "3")

    assert client.ask("CLIENT", "TRACKINGINFO") == (
        b"%3\r\n$5\r\nflags\r\n~1\r\n$3\r\noff\r\n$8\r\nredirect\r\n:-1\r\n$8\r\nprefixes\r\n*0\r\n"
    )


def test_unblock(bench: ServerBench, client: BenchClient) -> None:
    waiting = bench.connect()

    waiting.pipeline(("WAIT", 1, 0), ("ECHO", "next"))
    assert client.ask("CLIENT", "UNBLOCK", waiting.session.id) == b":1\r\n"
    assert waiting.read() == b":0\r\n$4\r\nnext\r\n"
    assert client.ask("CLIENT", "UNBLOCK", waiting.session.id) == b":0\r\n"

    waiting.ask("WAIT", 1, 0)
    parked, left = waiting.session.parked, []
    assert parked is not None
    parked.on_cancel = lambda: left.append(1)
    assert client.ask("client", "unblock", waiting.session.id, "error") == b":1\r\n"
    assert left == [1]
    assert waiting.read() == b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"
    assert bench.server.statistics.errors_by_code[b"UNBLOCKED"] == 1
