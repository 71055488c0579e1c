"""COMMAND and its subcommands: the recorded metadata, told again (commandCommand … in server.c).

Of a command, only the subcommands that have a handler here are told, so that what clients learn is what they can use.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster import errors
from cluster.commands.context import Session
from cluster.commands.key_positions import InvalidKeys, key_positions
from cluster.commands.keys import help_reply
from cluster.commands.registry import Command, command
from cluster.errors import CommandError
from cluster.keyspace.glob import compile_glob
from cluster.resp.encode import Encoder, array, bulk, bulk_array, integer, simple

_docs: dict[str, Any] = {}


def _statuses(proto: Encoder, words: list[str]) -> bytes:
    return proto.set([simple(word.encode()) for word in words])


def _encode(proto: Encoder, value: Any, *, field: str = "") -> bytes:
    """A recorded value, with the shape that its field has in Redis's answer."""
    if isinstance(value, dict):
        parts = []
        for name, item in value.items():
            parts += [bulk(name.encode()), _encode(proto, item, field=name)]
        return proto.map(parts)
    if isinstance(value, list):
        if field in {"flags", "doc_flags"}:
            return _statuses(proto, value)
        encoded = [_encode(proto, item) for item in value]
        return proto.set(encoded) if field == "history" else array(encoded)
    if isinstance(value, int):
        return integer(value)
    return bulk(value.encode())


def _info(proto: Encoder, row: Command) -> bytes:
    name, arity, flags, first, last, step, categories, tips, specs, _subcommands = row.record
    subrows = row.subcommands.values() if row.subcommands else ()
    empty_or_array = array([_info(proto, subrow) for subrow in subrows]) if row.subcommands else proto.set([])
    return array(
        [
            bulk(name.encode()),
            integer(arity),
            _statuses(proto, flags),
            integer(first),
            integer(last),
            integer(step),
            _statuses(proto, categories),
            proto.set([bulk(tip.encode()) for tip in tips]),
            proto.set([_encode(proto, spec) for spec in specs]),
            empty_or_array,
        ]
    )


def _find(client: Session, name: bytes) -> Command | None:
    """A command by its full name, ``container|subcommand`` included."""
    container, bar, subname = name.lower().partition(b"|")
    row = client.server.commands.find(container)
    if row is None or not bar:
        return row
    return (row.subcommands or {}).get(subname)


@command("command")
def command_(client: Session, argv: list[bytes]) -> bytes:
    return array([_info(client.proto, row) for row in client.server.commands.by_name.values()])


@command("command|info")
def command_info(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) == 2:
        return array([_info(client.proto, row) for row in client.server.commands.by_name.values()])
    rows = [_find(client, name) for name in argv[2:]]
    return array([client.proto.null if row is None else _info(client.proto, row) for row in rows])


@command("command|count")
def command_count(client: Session, argv: list[bytes]) -> bytes:
    return integer(len(client.server.commands.by_name))


@command("command|list")
def command_list(client: Session, argv: list[bytes]) -> bytes:
    rows = list(client.server.commands.all_rows())
    if len(argv) > 2:
        if len(argv) != 5 or argv[2].lower() != b"filterby":
            raise CommandError(errors.SYNTAX)
        kind, wanted = argv[3].lower(), argv[4]
        if kind == b"module":
            rows = []
        elif kind == b"aclcat":
            category = "@" + wanted.lower().decode("latin-1")
            rows = [row for row in rows if category in row.acl_categories]
        elif kind == b"pattern":
            matches = compile_glob(wanted, ignore_case=True)
            rows = [row for row in rows if matches(row.name)]
        else:
            raise CommandError(errors.SYNTAX)
    return bulk_array([row.name for row in rows])


def _load_docs() -> dict[str, Any]:
    """The documentation, read when somebody first asks for it: redis-cli does, programs do not."""
    if not _docs:
        _docs.update(json.loads((Path(__file__).parent / "command_docs.json").read_bytes()))
    return _docs


@command("command|docs")
def command_docs(client: Session, argv: list[bytes]) -> bytes:
    docs = _load_docs()
    if len(argv) == 2:
        rows: list[Command] = list(client.server.commands.by_name.values())
    else:
        rows = [row for name in argv[2:] if (row := _find(client, name)) is not None]
    parts = []
    for row in rows:
        record = _doc_of(row, docs)
        if record is not None:
            parts += [bulk(row.name), _encode(client.proto, record)]
    return client.proto.map(parts)


def _doc_of(row: Command, docs: dict[str, Any]) -> Any | None:
    name = row.name.decode()
    container, bar, _subname = name.partition("|")
    record = docs.get(container)
    if record is None:
        return None
    if bar:
        return record.get("subcommands", {}).get(name)
    if row.subcommands is None or "subcommands" not in record:
        return record
    known = {subrow.name.decode() for subrow in row.subcommands.values()}
    subdocs = {subname: doc for subname, doc in record["subcommands"].items() if subname in known}
    return {**record, "subcommands": subdocs}


def _positions(client: Session, argv: list[bytes]) -> list[tuple[int, list[str]]]:
    """Where the keys of the request ``argv[2:]`` are. Raises CommandError in the words of COMMAND GETKEYS."""
    request = argv[2:]
    row = client.server.commands.resolve(request)
    if row is None:
        raise CommandError(b"ERR Invalid command specified")
    # A shard channel is where a key would be, but none.
    if all("not_key" in spec["flags"] for spec in row.record[8]):
        raise CommandError(b"ERR The command has no key arguments")
    if not row.accepts(len(request)):
        raise CommandError(b"ERR Invalid number of arguments specified for command")
    try:
        positions = key_positions(row, request)
    except InvalidKeys:
        raise CommandError(b"ERR Invalid arguments specified for command") from None
    # PFMERGE of one key has a second key spec that finds nothing: that is an error, though not for routing.
    is_cut = any(spec["begin_search"]["spec"].get("index", 0) >= len(request) for spec in row.record[8])
    if is_cut or (not positions and "no_mandatory_keys" not in row.record[2]):
        raise CommandError(b"ERR Invalid arguments specified for command")
    return positions


@command("command|getkeys")
def command_getkeys(client: Session, argv: list[bytes]) -> bytes:
    return bulk_array([argv[2 + position] for position, _flags in _positions(client, argv)])


@command("command|getkeysandflags")
def command_getkeysandflags(client: Session, argv: list[bytes]) -> bytes:
    return array(
        [
            array([bulk(argv[2 + position]), _statuses(client.proto, flags)])
            for position, flags in _positions(client, argv)
        ]
    )


@command("command|help")
def command_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"COMMAND",
        [
            b"(no subcommand)",
            b"    Return details about all Redis commands.",
            b"COUNT",
            b"    Return the total number of commands in this Redis server.",
            b"LIST",
            b"    Return a list of all commands in this Redis server.",
            b"INFO [<command-name> ...]",
            b"    Return details about multiple Redis commands.",
            b"    If no command names are given, documentation details for all",
            b"    commands are returned.",
            b"DOCS [<command-name> ...]",
            b"    Return documentation details about multiple Redis commands.",
            b"    If no command names are given, documentation details for all",
            b"    commands are returned.",
            b"GETKEYS <full-command>",
            b"    Return the keys from a full Redis command.",
            b"GETKEYSANDFLAGS <full-command>",
            b"    Return the keys and the access flags from a full Redis command.",
        ],
    )
