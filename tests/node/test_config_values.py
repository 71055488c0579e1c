"""Kinds of values: what is accepted, what it becomes, what CONFIG GET and REWRITE make of it, and the refusals."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ConfigError
from cluster.node.config_file import encode
from cluster.node.directive_kinds import c_text, lenient_integer, memory_bytes, memory_text, signed
from cluster.node.directives import BY_NAME, TABLE, Directive
from cluster.resp.parser import split_inline
from cluster.settings import MasterAddress, OutputBufferLimit, SavePoint, Settings
from tests.node.config_support import quiet_config

GB = 1 << 30


def parse(name: str, *arguments: str, settings: Settings | None = None) -> object:
    row = BY_NAME[name.encode()]
    settings = settings or Settings()
    return row.kind.parse([encode(word) for word in arguments], settings, getattr(settings, row.attribute))


def refusal(name: str, *arguments: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse(name, *arguments)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("appendonly", ["YES"], True),
        ("port", ["0"], 0),
        ("maxmemory", ["1gb"], GB),
        ("maxmemory", ["1g"], 10**9),
        ("maxmemory", ["5KB"], 5120),
        ("maxmemory", ["5k"], 5000),
        ("maxmemory", ["7b"], 7),
        ("maxmemory", ["18446744073709551615"], 2**64 - 1),
        ("maxmemory", ["17179869184gb"], 0),  # 2**64 bytes: Redis's arithmetic wraps.
        ("maxmemory", [""], 0),
        ("maxmemory-clients", ["50%"], -50),
        ("maxmemory-clients", ["0%"], 0),
        ("maxmemory-clients", ["1mb"], 1 << 20),
        ("unixsocketperm", ["0700"], 0o700),
        ("hz", ["0"], 1),
        ("hz", ["10000"], 500),
        ("repl-backlog-size", ["1"], 16384),
        ("list-max-listpack-size", ["-5"], -5),
        ("loglevel", ["Debug"], "debug"),
        ("oom-score-adj", ["relative"], "yes"),
        ("shutdown-on-sigterm", ["force", "NOW", "nosave"], ("nosave", "now", "force")),
        ("shutdown-on-sigterm", ["default"], ()),
        ("requirepass", ["a\0b"], "a\0b"),
        ("masteruser", ["a\0b"], "a"),
        ("save", ["900", "1", "+300", " 10"], [SavePoint(900, 1), SavePoint(300, 10)]),
        ("save", [""], []),
        ("save", [], []),
        ("replicaof", ["host", "6379"], MasterAddress("host", 6379)),
        ("replicaof", ["No", "ONE"], None),
        ("bind", ["*", "-::*"], ["*", "-::*"]),
        ("bind", [""], []),
        ("oom-score-adj-values", ["-1", "0", "2000"], (-1, 0, 2000)),
        ("notify-keyspace-events", ["KEA"], 0b10_0111_1111_1111),
        ("notify-keyspace-events", [""], 0),
        ("latency-tracking-info-percentiles", ["50", "99.9"], (50.0, 99.9)),
        ("latency-tracking-info-percentiles", ["0x1p3"], (8.0,)),
        ("latency-tracking-info-percentiles", [""], ()),
        ("proc-title-template", ["x {port}"], "x {port}"),
    ],
)
def test_accepted(name: str, arguments: list[str], value: object) -> None:
    assert parse(name, *arguments) == value


def test_buffer_limits_keep_the_classes_not_named() -> None:
    value = parse("client-output-buffer-limit", "slave", "1mb", "512kb", "60", "normal", "1", "2", "3")

    assert value == {
        "normal": OutputBufferLimit(1, 2, 3),
        "replica": OutputBufferLimit(1 << 20, 512 << 10, 60),
        "pubsub": OutputBufferLimit(32 << 20, 8 << 20, 60),
    }


INTEGER = "argument couldn't be parsed into an integer"


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("appendonly", ["1"], "argument must be 'yes' or 'no'"),
        ("port", ["65536"], "argument must be between 0 and 65535 inclusive"),
        ("port", ["+1"], INTEGER),
        ("port", ["01"], INTEGER),
        ("port", ["9223372036854775808"], INTEGER),
        ("port", ["1" * 5000], INTEGER),
        ("maxclients", ["0"], "argument must be between 1 and 4294967295 inclusive"),
        ("maxclients", ["-1"], "argument must be between 1 and 4294967295 inclusive"),
        ("maxmemory", ["-1"], "argument must be a memory value"),
        ("maxmemory", ["1tb"], "argument must be a memory value"),
        ("maxmemory", ["1" * 128], "argument must be a memory value"),
        ("proto-max-bulk-len", ["1kb"], "argument must be between 1048576 and 9223372036854775807 inclusive"),
        ("repl-backlog-size", ["9223372036854775808"], "argument must be between 1 and 9223372036854775807 inclusive"),
        ("maxmemory-clients", ["101%"], "percentage argument must be less or equal to 100"),
        ("maxmemory-clients", ["-5%"], "argument must be a memory or percent value"),
        ("unixsocketperm", ["8"], "argument couldn't be parsed as an octal number"),
        ("unixsocketperm", ["1000"], "argument must be between 0 and 777 inclusive"),
        ("loglevel", ["nothing"], "argument(s) must be one of the following: debug, verbose, notice, warning"),
        (
            "shutdown-on-sigint",
            [],
            "argument(s) must be one of the following: default, save, nosave, now, force",
        ),
        ("shutdown-on-sigint", ["save", "nosave"], "shutdown options SAVE and NOSAVE can't be used simultaneously"),
        ("save", ["900"], "Invalid save parameters"),
        ("save", ["0", "1"], "Invalid save parameters"),
        ("save", ["1", "-1"], "Invalid save parameters"),
        ("save", ["x", "1"], "Invalid save parameters"),
        ("replicaof", ["host"], "wrong number of arguments"),
        ("replicaof", ["host", "65536"], "Invalid master port"),
        ("replicaof", ["host", "1x"], "Invalid master port"),
        ("bind", ["a"] * 17, "Too many bind addresses specified."),
        ("client-output-buffer-limit", ["normal"], "Wrong number of arguments in buffer limit configuration."),
        (
            "client-output-buffer-limit",
            ["master", "0", "0", "0"],
            "Invalid client class specified in buffer limit configuration.",
        ),
        (
            "client-output-buffer-limit",
            ["normal", "0", "0", "-1"],
            "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
        ),
        ("oom-score-adj-values", ["1", "2"], "wrong number of arguments"),
        (
            "oom-score-adj-values",
            ["1", "2", "2001"],
            "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
        ),
        ("notify-keyspace-events", ["q"], "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
        ("latency-tracking-info-percentiles", ["1_0"], "Invalid latency-tracking-info-percentiles parameters"),
        ("latency-tracking-info-percentiles", ["nan"], "Invalid latency-tracking-info-percentiles parameters"),
        ("latency-tracking-info-percentiles", ["1e999"], "Invalid latency-tracking-info-percentiles parameters"),
        (
            "latency-tracking-info-percentiles",
            ["100.1"],
            "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
        ),
        ("dbfilename", ["a/b"], "dbfilename can't be a path, just a filename"),
        ("appendfilename", [""], "appendfilename can't be empty"),
        ("appenddirname", ["a\\b"], "appenddirname can't be a path, just a dirname"),
        ("cluster-announce-hostname", ["a_b"], "Hostnames may only contain alphanumeric characters, hyphens or dots"),
        ("cluster-announce-hostname", ["a" * 256], "Hostnames must be less than 256 characters"),
        ("proc-title-template", ["{nope}"], "template format is invalid or contains unknown variables"),
        ("proc-title-template", ["{title}"], "template format is invalid or contains unknown variables"),
    ],
)
def test_refused(name: str, arguments: list[str], reason: str) -> None:
    assert refusal(name, *arguments) == reason


def test_defragmentation_cannot_be_enabled() -> None:
    assert parse("activedefrag", "no") is False
    assert refusal("activedefrag", "yes").startswith("Active defragmentation cannot be enabled: ")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("maxmemory-clients", -50, b"50%"),
        ("unixsocketperm", 0o700, b"700"),
        ("shutdown-on-sigterm", (), b"default"),
        ("notify-keyspace-events", 0b10_0111_1111_1111, b"AKE"),
        ("notify-keyspace-events", 0b1000_0000_1101, b"g$Km"),
        ("latency-tracking-info-percentiles", (0.0, 50.5, 99.99), b"0 50.5 99.99"),
        ("client-output-buffer-limit", {"replica": OutputBufferLimit(1, 2, 3)}, b"slave 1 2 3"),
        ("replicaof", None, b""),
        ("save", [], b""),
    ],
)
def test_shown(name: str, value: object, shown: bytes) -> None:
    assert BY_NAME[name.encode()].kind.show(value) == shown


@pytest.mark.parametrize(
    ("name", "value", "lines"),
    [
        ("maxmemory", 0, [(b"maxmemory 0", False)]),
        ("maxmemory", 3 << 20, [(b"maxmemory 3mb", True)]),
        ("maxmemory-clients", -20, [(b"maxmemory-clients 20%", True)]),
        ("unixsocketperm", 0o700, [(b"unixsocketperm 700", True)]),
        ("pidfile", "", []),
        ("logfile", "", [(b'logfile ""', False)]),
        ("requirepass", 'a"\x01é', [(b'requirepass "a\\"\\x01\\xc3\\xa9"', True)]),
        ("save", [], [(b'save ""', True)]),
        ("save", [SavePoint(1, 2), SavePoint(3, 4)], [(b"save 1 2", True), (b"save 3 4", True)]),
        ("bind", ["*", "-::*"], []),
        ("bind", [], [(b'bind ""', True)]),
        ("replicaof", MasterAddress("h", 1), [(b"replicaof h 1", True)]),
        ("replicaof", MasterAddress("h\nport 1", 1), [(b'replicaof "h\\nport 1" 1', True)]),
        ("bind", ["a\nport", "b"], [(b'bind "a\\nport" b', True)]),
        ("notify-keyspace-events", 0, [(b'notify-keyspace-events ""', False)]),
        ("latency-tracking-info-percentiles", (), [(b'latency-tracking-info-percentiles ""', True)]),
    ],
)
def test_rewritten(name: str, value: object, lines: list[tuple[bytes, bool]]) -> None:
    row = BY_NAME[name.encode()]

    assert row.kind.rewrite(name.encode(), value, getattr(Settings(), row.attribute)) == lines


def test_only_changed_buffer_limits_are_forced_into_the_file() -> None:
    row = BY_NAME[b"client-output-buffer-limit"]
    default = Settings().client_output_buffer_limit

    lines = row.kind.rewrite(b"x", {**default, "pubsub": OutputBufferLimit(GB, 0, 1)}, default)

    assert lines == [
        (b"x normal 0 0 0", False),
        (b"x replica 256mb 64mb 60", False),
        (b"x pubsub 1gb 0 1", True),
    ]


# --- The table and Settings -------------------------------------------------------------------------------------------


def test_every_row_is_a_field_and_every_field_a_row() -> None:
    fields = {field.name for field in attrs.fields(Settings)}

    assert len(BY_NAME) == len(TABLE) + sum(bool(row.alias) for row in TABLE)
    assert {row.attribute for row in TABLE} == fields - {"user", "rename_command", "loadmodule"}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_defaults_are_read_back_from_what_is_shown_and_written(row: Directive) -> None:
    default = getattr(Settings(dir="/"), row.attribute)
    shown = row.kind.show(default)
    if default is not None:
        assert row.kind.parse(shown.split(b" ") if row.kind.takes_many else [shown], Settings(), default) == default
    for line, _ in row.kind.rewrite(row.name.encode(), default, default):
        words = split_inline(line)
        assert words is not None
        assert words[0] == row.name.encode()
        if row.name != "save":  # Its lines add up.
            assert row.kind.parse(words[1:], Settings(), default) == default


# --- Numbers ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1))
def test_memory_is_read_back_from_the_file(value: int) -> None:
    assert memory_bytes(memory_text(value)) == value


@given(st.binary(max_size=300))
def test_no_number_is_too_odd(text: bytes) -> None:
    """Whatever the text: a number in range or None, never an exception."""
    memory = memory_bytes(text)
    integer = lenient_integer(text)

    assert memory is None or 0 <= memory < 2**64
    assert integer is None or -(2**63) <= integer < 2**63


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"", 0), (b" \t7", 7), (b"+7", 7), (b"-7", -7), (b"7 ", None), (b" ", None), (b"-", None),
     (b"9" * 9999, 2**63 - 1), (b"-" + b"9" * 9999, -(2**63)), (b"0" * 9999 + b"5", 5), (b"7\0x", 7), (b"0x7", None)],
)  # fmt: skip
def test_lenient_integers(text: bytes, value: int | None) -> None:
    assert lenient_integer(text) == value


def test_c_integers() -> None:
    assert signed(2**64 - 1) == -1
    assert signed(2**31, 32) == -(2**31)
    assert c_text(b"a\0b") == b"a"


@given(st.sampled_from(TABLE), st.lists(st.binary(max_size=40), min_size=1, max_size=5))
def test_values_are_accepted_or_refused_with_a_reason(row: Directive, arguments: list[bytes]) -> None:
    """No bytes whatever make a directive raise anything but ConfigError; what is accepted can be shown and written."""
    settings = Settings()
    current = getattr(settings, row.attribute)
    try:
        value = row.kind.parse(arguments if row.kind.takes_many else arguments[:1], settings, current)
    except ConfigError as error:
        assert str(error)
    else:
        assert isinstance(row.kind.show(value), bytes)
        assert all(b"\n" not in line for line, _ in row.kind.rewrite(row.name.encode(), value, current))


def test_every_default_is_what_a_fresh_server_shows() -> None:
    """A few that anybody knows by heart; the whole list is compared with a real server among the interop tests."""
    shown = dict(quiet_config().get([b"*"]))

    assert shown[b"save"] == b"3600 1 300 100 60 10000"
    assert shown[b"bind"] == b"* -::*"
    assert shown[b"repl-backlog-size"] == b"1048576"
    assert shown[b"lua-time-limit"] == shown[b"busy-reply-threshold"] == b"5000"
