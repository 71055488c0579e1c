"""The command line: how arguments are read, what fails and how, and how fast help comes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import __version__
from cluster.admin.commands import RUNNERS
from tests.support.servers import REPOSITORY, hashslot_cli
from tools import redis_cluster_cli as cli

COST_OF_HELP = """
import argparse, sys, typing
sys.argv = ["redis-cluster-cli", {argument!r}]
known = set(sys.modules)
calls = 0
def count(_frame, event, _argument):
    global calls
    calls += event in ("call", "c_call")
sys.setprofile(count)
import redis_cluster_cli
redis_cluster_cli.main()
sys.setprofile(None)
print(*sorted(set(sys.modules) - known))
print(calls)
"""
"""Prints the modules that were imported, and how many functions were called."""


@pytest.mark.parametrize("argument", ["help", "--help", "-h"])
def test_help_lists_every_command(argument: str) -> None:
    done = hashslot_cli(argument)

    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in [*cli.COMMANDS, "help"])
    assert max(len(line) for line in done.stdout.splitlines()[:-1]) <= 100


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_help_of_a_command(name: str) -> None:
    done = hashslot_cli("help", name)

    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: redis-cluster-cli {name} [options] ")
    assert "example:" in done.stdout


@pytest.mark.parametrize("name", [name for name in cli.COMMANDS if name != "call"])
def test_every_example_can_be_parsed(name: str) -> None:
    words = cli.COMMANDS[name].example.split()

    assert cli.parse(words)[0] == name


def test_version() -> None:
    done = hashslot_cli("--version")

    assert (done.returncode, done.stdout) == (0, f"redis-cluster-cli {__version__}\n")


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_answer_at_once(argument: str) -> None:
    """They load nothing of the package, next to nothing of Python's library, and do not do much."""
    done = subprocess.run(
        [sys.executable, "-c", COST_OF_HELP.format(argument=argument)],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY / "tools",
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )

    modules, calls = done.stdout.splitlines()[-2:]
    assert set(modules.split()) <= {"cluster", "redis_cluster_cli"}
    assert int(calls) < 2000


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, str(REPOSITORY / "tools" / "redis_cluster_cli.py")],
        [sys.executable, "-m", "tools.redis_cluster_cli"],
    ],
)
def test_ways_to_start_it(command: list[str], tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*command, "check", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY if "-m" in command else tmp_path,
        env=environment,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Could not connect to Redis at 127.0.0.1:1: Connection refused\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["xyzzy"], "Unknown --cluster subcommand 'xyzzy'. Try: redis-cluster-cli help"),
        (["chek", "127.0.0.1:1"], "Unknown --cluster subcommand 'chek'. Did you mean 'check'?"),
        (["help", "chek"], "Unknown --cluster subcommand 'chek'. Did you mean 'check'?"),
        (["create"], "[ERR] Wrong number of arguments for specified --cluster sub command"),
        (["check"], "[ERR] Wrong number of arguments for specified --cluster sub command"),
        (["check", "a", "b", "c"], "[ERR] Wrong number of arguments for specified --cluster sub command"),
        (["replicate", "127.0.0.1:1"], "[ERR] Wrong number of arguments for specified --cluster sub command"),
        (
            ["check", "127.0.0.1"],
            "[ERR] Invalid arguments: you need to pass either a valid address (ie. 120.0.0.1:7000)",
        ),
        (["call", "nowhere", "PING"], "[ERR] Invalid arguments: you need to pass either a valid address"),
        (["create", "nowhere", "else"], "Invalid address format: nowhere"),
        (["create", "--replicas", "many", "a:1", "b:1"], "[ERR] Argument --replicas: invalid int value: 'many'."),
        (["create", "--replicas", "-1", "a:1", "b:1"], "[ERR] The number of replicas cannot be negative."),
        (["reshard", "127.0.0.1:1", "--pipeline", "0"], "[ERR] The pipeline must be at least 1 key."),
        (["reshard", "127.0.0.1:1", "--timeout", "0"], "[ERR] The time-out must be at least 1 millisecond."),
        (["rebalance", "127.0.0.1:1", "--weight", "abc"], "*** invalid input abc"),
        (["set-timeout", "127.0.0.1:1", "soon"], "[ERR] Not a number of milliseconds: soon"),
        (["set-timeout", "127.0.0.1:1", "9" * 5000], "[ERR] Not a number of milliseconds: 9999"),
        (["check", "127.0.0.1:1", "--frobnicate"], "[ERR] Unrecognized arguments: --frobnicate."),
        (["-a"], "[ERR] Argument -a/--pass: expected one argument."),
        (["--yes"], "[ERR] No command given. Try: redis-cluster-cli help"),
    ],
)
def test_what_cannot_be_understood(words: list[str], complaint: str) -> None:
    done = hashslot_cli(*words)

    assert done.returncode == 1
    assert (done.stdout + done.stderr).startswith(complaint)
    assert "Traceback" not in done.stderr


def test_no_arguments_at_all_show_the_help_and_fail() -> None:
    done = hashslot_cli()

    assert done.returncode == 1
    assert done.stdout.startswith("Usage: ")


@pytest.mark.parametrize(
    "words",
    [
        ["create", "--replicas", "1", "--yes", "a:1", "b:1"],
        ["create", "a:1", "--replicas", "1", "b:1", "--yes"],
        ["--yes", "create", "a:1", "b:1", "--replicas=1"],
        ["--cluster", "create", "a:1", "b:1", "--cluster-replicas", "1", "--cluster-yes"],
    ],
)
def test_options_stand_where_people_put_them(words: list[str]) -> None:
    name, arguments = cli.parse(words)

    assert (name, arguments.words, arguments.replicas, arguments.yes) == ("create", ["a:1", "b:1"], 1, True)


@pytest.mark.parametrize(
    "words",
    [
        ["-a", "pw", "--user", "admin", "info", "a:1"],
        ["info", "a:1", "--pass", "pw", "--user", "admin"],
        ["--user", "admin", "info", "-a", "pw", "a:1"],
    ],
)
def test_the_password_stands_before_or_after_the_command(words: list[str]) -> None:
    _, arguments = cli.parse(words)

    assert (arguments.password, arguments.user, arguments.words) == ("pw", "admin", ["a:1"])


@pytest.mark.parametrize(
    "words",
    [
        ["call", "--only-masters", "a:1", "SET", "k", "-1"],
        ["call", "a:1", "SET", "k", "-1", "--cluster-only-masters"],
    ],
)
def test_call_passes_on_what_looks_like_an_option(words: list[str]) -> None:
    _, arguments = cli.parse(words)

    assert (arguments.words, arguments.only_masters, arguments.only_replicas) == (
        ["a:1", "SET", "k", "-1"],
        True,
        False,
    )


def test_reshard_options() -> None:
    words = ["--from", "x,y", "--to", "z", "--slots", "10", "--timeout", "500", "--pipeline", "5", "--replace"]
    _, arguments = cli.parse(["reshard", "a:1", *words])

    assert (arguments.from_, arguments.to, arguments.slots) == ("x,y", "z", 10)
    assert (arguments.timeout, arguments.pipeline, arguments.replace) == (500, 5, True)


def test_a_password_on_the_command_line_is_warned_of_and_can_be_silenced() -> None:
    warning = "Warning: Using a password with '-a' option on the command line interface may not be safe.\n"

    assert hashslot_cli("-a", "pw", "check", "127.0.0.1:1").stderr.startswith(warning)
    assert warning not in hashslot_cli("-a", "pw", "--no-auth-warning", "check", "127.0.0.1:1").stderr


def test_output_that_nobody_reads_is_no_traceback() -> None:
    done = subprocess.run(
        f"{sys.executable} tools/redis_cluster_cli.py help | true",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )

    assert "Traceback" not in done.stderr


def test_every_command_is_carried_out_by_a_function() -> None:
    assert set(RUNNERS) == set(cli.COMMANDS)
