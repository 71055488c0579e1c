"""The command table: what is registered, what COMMAND tells of it, and where the keys of a request are."""

from __future__ import annotations

import pytest

from cluster.commands.key_positions import InvalidKeys, _find, key_positions
from cluster.commands.registry import CommandTable, Flag, load_command_table, recorded_names
from tests.support.servers import OurNode


@pytest.fixture
def table() -> CommandTable:
    return load_command_table()


def test_every_row_can_run(table: CommandTable) -> None:
    for row in table.all_rows():
        assert row.handler is not None or row.subcommands, row.name


def test_all_names_are_recorded(table: CommandTable) -> None:
    assert set(table.by_name) <= set(recorded_names())


def test_names_are_found_in_any_case(table: CommandTable) -> None:
    assert table.find(b"get") is table.find(b"GET") is table.find(b"gEt")
    assert table.find(b"nosuch") is None
    assert table.resolve([b"CONFIG", b"Get", b"x"]) is table.by_name[b"config"].subcommands[b"get"]  # type: ignore[index]
    assert table.resolve([b"config", b"nosuch"]) is None


def test_a_renamed_command_has_its_new_name_only(table: CommandTable) -> None:
    row = table.find(b"flushall")
    table.rename(b"FLUSHALL", b"Guarded")
    assert table.find(b"flushall") is table.find(b"FLUSHALL") is None
    assert table.find(b"guarded") is table.find(b"GUARDED") is table.find(b"gUARDED") is row
    table.rename(b"guarded", b"")
    assert row not in list(table.all_rows())
    table.rename(b"nosuch", b"other")
    assert table.find(b"other") is None


def test_arity(table: CommandTable) -> None:
    get, mget = table.by_name[b"get"], table.by_name[b"mget"]
    assert [get.accepts(words) for words in (1, 2, 3)] == [False, True, False]
    assert [mget.accepts(words) for words in (1, 2, 300)] == [False, True, True]


def test_the_hot_path_takes_nothing_that_needs_a_gate(table: CommandTable) -> None:
    excluded = Flag.BLOCKING | Flag.NO_MULTI | Flag.ADMIN | Flag.PROTECTED | Flag.NOSCRIPT | Flag.MOVABLEKEYS
    quick = [row for row in table.all_rows() if row.quick]
    assert quick
    assert [row.name for row in quick if row.flags & excluded] == []
    assert {b"get", b"set", b"incr", b"mset", b"ping"} <= {row.name for row in quick}


def test_flags_that_command_info_does_not_show(table: CommandTable) -> None:
    hidden = {row.name for row in table.all_rows() if row.flags & Flag.PROTECTED}
    assert hidden == {b"debug", b"module|load", b"module|loadex", b"module|unload"}


@pytest.mark.parametrize(
    ("request_text", "positions"),
    [
        ("GET k", [(1, ["RO", "access"])]),
        ("SET k v", [(1, ["OW", "update"])]),
        ("SET k v EX 1 get", [(1, ["RW", "access", "update"])]),
        ("MSET a 1 b 2", [(1, ["OW", "update"]), (3, ["OW", "update"])]),
        ("DEL a b", [(1, ["RM", "delete"]), (2, ["RM", "delete"])]),
        ("COPY a b", [(1, ["RO", "access"]), (2, ["OW", "update"])]),
        ("OBJECT ENCODING k", [(2, ["RO"])]),
        ("PING", []),
        ('MIGRATE h 1 "" 0 10 KEYS a b', [(7, ["RW", "access", "delete"]), (8, ["RW", "access", "delete"])]),
        ("MIGRATE h 1 k 0 10", [(3, ["RW", "access", "delete"])]),
        ('MIGRATE h 1 "" 0 10 AUTH keys KEYS a', [(9, ["RW", "access", "delete"])]),
        ("MIGRATE h 1 k 0 10 KEYS a", []),
    ],
)
def test_where_keys_are(table: CommandTable, request_text: str, positions: list[tuple[int, list[str]]]) -> None:
    argv = [b"" if word == '""' else word.encode() for word in request_text.split()]
    row = table.resolve(argv)
    assert row is not None
    assert key_positions(row, argv) == positions


@pytest.mark.parametrize("request_text", ["keys x", "keys", "keys 3 a b", "keys -1 a", "keys 99999999999999999999 a"])
def test_a_count_that_does_not_fit_the_request_is_invalid(request_text: str) -> None:
    argv = [word.encode() for word in request_text.split()]
    spec = {"type": "keynum", "spec": {"keynumidx": 0, "firstkey": 1, "keystep": 1}}
    with pytest.raises(InvalidKeys):
        _find(spec, 1, argv)
    assert _find(spec, 1, [b"keys", b"2", b"a", b"b", b"c"]) == [2, 3]


def test_command_tells_of_everything_once(node: OurNode) -> None:
    with node.raw() as client:
        rows = client.call("COMMAND")
        names = [row[0] for row in rows]
        assert len(names) == len(set(names)) == client.call("COMMAND", "COUNT")
        assert [row[0] for row in client.call("COMMAND", "INFO")] == names
        assert client.call("COMMAND", "DOCS")[0::2] == names
        listed = client.call("COMMAND", "LIST")
        assert set(names) < set(listed)
        assert b"config|get" in listed
        assert client.call("COMMAND", "INFO", "nosuch", "get|x", "CONFIG|GET")[:2] == [None, None]
        assert client.call("COMMAND", "INFO", "CONFIG|GET")[0][0] == b"config|get"


def test_renamed_commands_at_work() -> None:
    with OurNode(rename_command=["FLUSHALL guarded", "CONFIG ''", "EVAL ''"]) as node, node.raw() as client:
        assert str(client.ask("FLUSHALL")).startswith("ERR unknown command 'FLUSHALL'")
        assert str(client.ask("CONFIG", "GET", "port")).startswith("ERR unknown command 'CONFIG'")
        assert client.call("GUARDED") == b"OK"


def test_renaming_what_does_not_exist_stops_the_start() -> None:
    with OurNode(rename_command=["FLUSHALL x"]) as node:
        node.stop()
        node.directives["rename-command"] = ["nosuch x"]
        node.launch()
        assert node.wait_exit() == 1
        assert ">>> 'rename-command nosuch x'\nNo such command in rename-command" in node.log_text()
