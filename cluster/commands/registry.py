"""The command table: one row per command and subcommand; metadata recorded from the reference, handlers from here.

A handler is declared with ``@command("client|setname")``; its arity, flags, key positions and ACL categories are those
of Redis 7.0 (command_table.json, recorded by tools/record_command_table.py). A command without a handler is not in the
table, so COMMAND and "unknown command" always tell the truth.

Handler contract: ``handler(client, argv) -> bytes | None``. The bytes are the whole encoded reply; None means that the
reply comes later (the client was parked) or never. Refusals raise CommandError. Handlers never await.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cluster.commands.context import Session

Handler = Callable[["Session", list[bytes]], bytes | None]


class Flag(enum.IntFlag):
    """What the gates in front of a handler look at (COMMAND INFO's flags, and three that it does not show)."""

    WRITE = enum.auto()
    READONLY = enum.auto()
    DENYOOM = enum.auto()
    ADMIN = enum.auto()
    PUBSUB = enum.auto()
    NOSCRIPT = enum.auto()
    BLOCKING = enum.auto()
    LOADING = enum.auto()
    STALE = enum.auto()
    SKIP_MONITOR = enum.auto()
    SKIP_SLOWLOG = enum.auto()
    ASKING = enum.auto()
    FAST = enum.auto()
    NO_AUTH = enum.auto()
    NO_MULTI = enum.auto()
    MOVABLEKEYS = enum.auto()
    ALLOW_BUSY = enum.auto()
    NO_ASYNC_LOADING = enum.auto()
    NO_MANDATORY_KEYS = enum.auto()
    PROTECTED = enum.auto()
    MAY_REPLICATE = enum.auto()


# Not part of COMMAND's answer, but of the gates (redis 7.0.15, src/commands/*.json: PROTECTED, MAY_REPLICATE).
_PROTECTED: Final = frozenset({"debug", "module|load", "module|loadex", "module|unload"})
_MAY_REPLICATE: Final = frozenset({"publish", "spublish", "eval", "evalsha", "fcall", "pfcount"})

# Redis flags as FAST only what never frees memory; these cost as little. The last row can take long, but no gate asks.
_QUICK_ALTHOUGH_NOT_FAST: Final = frozenset(
    {"set", "setex", "psetex", "mset", "del", "setrange", "getrange", "setbit", "lindex", "lset", "lmove", "rpoplpush"}
    | {"bitfield"}
    | {"lrange", "smembers", "hgetall", "zrange", "xrange", "xrevrange"}
)

# Commands of later versions that clients of 2026 send on every connection, and that Redis 7.0 would refuse.
_SUPPLEMENT: Final[dict[str, list[Any]]] = {
    "client|setinfo": [
        "client|setinfo", 4, ["noscript", "loading", "stale"], 0, 0, 0, ["@slow", "@connection"], [], [], [],
    ],
    "client|no-touch": [
        "client|no-touch", 3, ["noscript", "loading", "stale"], 0, 0, 0, ["@slow", "@connection"], [], [], [],
    ],
}  # fmt: skip

_HANDLER_MODULES: Final = (
    "cluster.commands.acl",
    "cluster.commands.connection",
    "cluster.commands.client_caching",
    "cluster.commands.pubsub",
    "cluster.commands.strings",
    "cluster.commands.bitmaps",
    "cluster.commands.bitfield",
    "cluster.commands.sort",
    "cluster.commands.hyperloglog",
    "cluster.commands.keys",
    "cluster.commands.hashes",
    "cluster.commands.lists",
    "cluster.commands.blocking_lists",
    "cluster.commands.sets",
    "cluster.commands.sorted_sets",
    "cluster.commands.sorted_set_ranges",
    "cluster.commands.sorted_set_algebra",
    "cluster.commands.blocking_sorted_sets",
    "cluster.commands.geo",
    "cluster.commands.streams",
    "cluster.commands.stream_groups",
    "cluster.commands.stream_reading",
    "cluster.commands.stream_info",
    "cluster.commands.transactions",
    "cluster.commands.scripting",
    "cluster.commands.functions",
    "cluster.commands.server",
    "cluster.commands.introspection",
    "cluster.commands.latency",
    "cluster.commands.lcs",
    "cluster.commands.lolwut",
    "cluster.commands.memory",
    "cluster.commands.modules",
    "cluster.commands.debug",
    "cluster.commands.persistence",
    "cluster.commands.replication",
    "cluster.commands.cluster",
    "cluster.commands.migrate",
)


LATENCY_BUCKETS: Final = 64
_BIT_LENGTHS: Final = bytes(number.bit_length() for number in range(2048))
"""Of numbers of 64 ns: looked up for most durations. The histogram's users know nothing below a microsecond."""


class Command:
    """One row of the table. ``name`` is the full lower-case name, ``client|setname`` for a subcommand."""

    __slots__ = (
        "acl_categories",
        "arity",
        "calls",
        "failed_calls",
        "first_key",
        "flags",
        "handler",
        "has_keys",
        "is_admin",
        "is_may_replicate",
        "is_write",
        "key_step",
        "last_key",
        "latencies",
        "name",
        "nanoseconds",
        "quick",
        "record",
        "rejected_calls",
        "single_key",
        "subcommands",
    )

    def __init__(self, record: list[Any], handler: Handler | None) -> None:
        name, arity, flags, first, last, step, categories, _tips, specs, _subcommands = record
        self.record = record
        self.name = name.encode()
        self.arity: int = arity
        self.first_key: int = first
        self.last_key: int = last
        self.key_step: int = step
        self.acl_categories: list[str] = categories
        self.flags = Flag(0)
        for flag in flags:
            self.flags |= Flag[flag.upper()]
        if name in _PROTECTED:
            self.flags |= Flag.PROTECTED
        if name in _MAY_REPLICATE:
            self.flags |= Flag.MAY_REPLICATE
        self.has_keys = bool(specs)
        self.is_write = bool(self.flags & Flag.WRITE)
        self.is_may_replicate = bool(self.flags & (Flag.WRITE | Flag.MAY_REPLICATE))
        self.is_admin = bool(self.flags & Flag.ADMIN)
        self.handler = handler
        self.subcommands: dict[bytes, Command] | None = None
        movable = bool(self.flags & Flag.MOVABLEKEYS)
        self.single_key = first == 1 and last == 1 and len(specs) == 1 and not movable
        # What the hot path may run: its name decides everything, and it cannot take long enough for the slow log.
        self.quick = (
            (bool(self.flags & Flag.FAST) or name in _QUICK_ALTHOUGH_NOT_FAST)
            and not movable
            and not self.flags & (Flag.BLOCKING | Flag.NO_MULTI | Flag.ADMIN | Flag.PROTECTED | Flag.NOSCRIPT)
            and handler is not None
        )
        self.calls = 0
        self.nanoseconds = 0
        self.rejected_calls = 0
        self.failed_calls = 0
        self.latencies = [0] * LATENCY_BUCKETS
        """Calls by duration: bucket n holds those of 2**(n-1) to 2**n - 1 ns."""

    @property
    def usec(self) -> int:
        """Microseconds spent in all calls."""
        return self.nanoseconds // 1000

    def accepts(self, argument_count: int) -> bool:
        """True when a request of ``argument_count`` words (the name included) fits the arity."""
        return argument_count == self.arity if self.arity > 0 else argument_count >= -self.arity

    def note_durations(self, total_ns: int, calls: int, in_histogram: bool) -> None:
        """Add the time of ``calls`` runs; of a pipeline's equal commands each is taken to have lasted equally long."""
        self.nanoseconds += total_ns
        if in_histogram and calls:
            each_ns = total_ns if calls == 1 else total_ns // calls
            piece = each_ns >> 6
            self.latencies[6 + _BIT_LENGTHS[piece] if piece < 2048 else each_ns.bit_length()] += calls

    def reset_statistics(self) -> None:
        """Forget calls and times (CONFIG RESETSTAT)."""
        self.calls = self.nanoseconds = self.rejected_calls = self.failed_calls = 0
        self.latencies = [0] * LATENCY_BUCKETS


_handlers: dict[str, Handler] = {}


def command(name: str) -> Callable[[Handler], Handler]:
    """Register the handler of the command ``name``, lower case, ``container|subcommand`` for a subcommand."""

    def register(handler: Handler) -> Handler:
        _handlers[name] = handler
        return handler

    return register


class CommandTable:
    """All commands that this server answers, by lower-case name."""

    def __init__(self, rows: Iterable[Command]) -> None:
        self.by_name: dict[bytes, Command] = {row.name: row for row in rows}
        # As clients write them: the hot path finds GET and get without lowering; Get takes one step more.
        self.by_spelling: dict[bytes, Command] = dict(self.by_name)
        self.by_spelling.update((name.upper(), row) for name, row in self.by_name.items())

    def find(self, name: bytes) -> Command | None:
        """The row of a top-level command, in any case."""
        return self.by_spelling.get(name) or self.by_name.get(name.lower())

    def resolve(self, argv: list[bytes]) -> Command | None:
        """The row that a request runs: the subcommand's for a container with a known subcommand."""
        row = self.find(argv[0])
        if row is None or row.subcommands is None or len(argv) < 2:
            return row
        return row.subcommands.get(argv[1].lower())

    def all_rows(self) -> Iterable[Command]:
        """Commands and their subcommands."""
        for row in self.by_name.values():
            yield row
            if row.subcommands:
                yield from row.subcommands.values()

    def rename(self, old: bytes, new: bytes) -> None:
        """The rename-command directive: an empty ``new`` removes the command. Does nothing for one without a row."""
        row = self.by_name.pop(old.lower(), None)
        if row is None:
            return
        for spelling in [key for key, value in self.by_spelling.items() if value is row]:
            del self.by_spelling[spelling]
        if new:
            self.by_name[new.lower()] = row
            self.by_spelling[new.lower()] = self.by_spelling[new.upper()] = row


def recorded_names() -> Iterator[bytes]:
    """The names that Redis knows, with or without a handler here: what rename-command may name."""
    for record in read_records():
        yield record[0].encode()


def read_records() -> list[list[Any]]:
    """The reference's commands, each with its subcommands: what rules of the ACL may name."""
    records: list[list[Any]] = json.loads((Path(__file__).parent / "command_table.json").read_bytes())
    return records


def load_command_table() -> CommandTable:
    """Import every command module and join its handlers to the recorded metadata."""
    for module in _HANDLER_MODULES:
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
    records = read_records()
    known = dict(_handlers)
    rows = [row for record in records if (row := _build_row(record, known)) is not None]
    if known:
        raise RuntimeError(f"handlers for commands that Redis does not have: {sorted(known)}")
    return CommandTable(rows)


def _build_row(record: list[Any], handlers: dict[str, Handler]) -> Command | None:
    name, subrecords = record[0], record[9]
    extra = [extra for key, extra in _SUPPLEMENT.items() if key.startswith(f"{name}|")]
    subrows = [
        Command(subrecord, handlers.pop(subrecord[0]))
        for subrecord in [*subrecords, *extra]
        if subrecord[0] in handlers
    ]
    own = handlers.pop(name, None)
    if own is None and not subrows:
        return None
    row = Command(record, own)
    if subrecords:
        row.subcommands = {subrow.name.split(b"|", 1)[1]: subrow for subrow in subrows}
    return row
