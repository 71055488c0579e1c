"""The commands and categories that rules can name.

Each command and subcommand of the reference has one bit; a set of commands is an integer. Rules speak of the commands
of Redis under their original names, whether this server has them, and whatever rename-command calls them.

Read on first use: as long as no user is restricted, nobody asks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

import attrs

CATEGORIES: Final = (
    *("keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo"),
    *("stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction", "scripting"),
)
"""In the order in which Redis lists and tries them."""

FUTURE: Final = 1 << 1023
"""The bit of the commands that do not exist yet: only +@all sets it."""
ALL_COMMANDS: Final = (1 << 1024) - 1
NO_COMMANDS: Final = 0


@attrs.frozen
class CatalogCommand:
    """One command or subcommand."""

    name: bytes
    """``config|get`` for a subcommand."""
    bit: int
    reach: int
    """Its bit and those of its subcommands: what allowing or forbidding it changes."""
    subcommands: tuple[CatalogCommand, ...]
    is_subcommand: bool
    has_keys: bool
    needs_no_permission: bool
    """NO_AUTH: everybody may run it (AUTH, HELLO, QUIT, RESET)."""


@attrs.frozen
class Category:
    """One category: ``members`` belong to it; ``reach`` adds the subcommands of containers that do."""

    name: bytes
    members: int
    reach: int
    names: tuple[bytes, ...]


class Catalog:
    """All commands by name and by category."""

    def __init__(self, read_records: Callable[[], list[Any]]) -> None:
        """``read_records`` gives the rows of the recorded command table (see cluster.commands.registry)."""
        self._read_records = read_records
        self.warn: Callable[[str], None] = lambda text: None
        """Told of rules that are allowed but ill-advised."""

    @cached_property
    def commands(self) -> tuple[CatalogCommand, ...]:
        """The top-level commands."""
        return self._tables[0]

    @cached_property
    def categories(self) -> dict[bytes, Category]:
        """By lower-case name, in the order of CATEGORIES."""
        return self._tables[1]

    @cached_property
    def by_name(self) -> dict[bytes, CatalogCommand]:
        """Commands and subcommands by full lower-case name."""
        return {row.name: row for command in self.commands for row in (command, *command.subcommands)}

    def find(self, name: bytes) -> CatalogCommand | None:
        """The command or ``container|subcommand`` of this name, in any case."""
        return self.by_name.get(name.lower())

    @cached_property
    def _tables(self) -> tuple[tuple[CatalogCommand, ...], dict[bytes, Category]]:
        commands: list[CatalogCommand] = []
        found: dict[str, list[CatalogCommand]] = {name: [] for name in CATEGORIES}
        next_bit = 1

        def build(record: list[Any], subcommands: tuple[CatalogCommand, ...], is_subcommand: bool) -> CatalogCommand:
            nonlocal next_bit
            row = CatalogCommand(
                name=record[0].encode(),
                bit=next_bit,
                reach=next_bit | sum(each.bit for each in subcommands),
                subcommands=subcommands,
                is_subcommand=is_subcommand,
                has_keys=any("not_key" not in spec["flags"] for spec in record[8]),
                needs_no_permission="no_auth" in record[2],
            )
            next_bit <<= 1
            for category in record[6]:
                found[category.removeprefix("@")].append(row)
            return row

        for record in self._read_records():
            subcommands = tuple(build(each, (), True) for each in record[9])
            commands.append(build(record, subcommands, False))
        categories = {
            name.encode(): Category(
                name=name.encode(),
                members=sum(row.bit for row in rows),
                reach=_union(row.reach for row in rows),
                names=tuple(row.name for row in rows),
            )
            for name, rows in found.items()
        }
        return tuple(commands), categories


def _union(masks: Any) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
