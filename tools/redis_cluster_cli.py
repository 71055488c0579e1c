"""``redis-cluster-cli``: make, check, reshard and repair a Redis cluster from the command line.

Role        Reads the arguments, calls ``cluster.admin.commands``, prints what goes wrong, returns the exit status.
Invariants  Exit status 0 only on success, 1 otherwise, never a traceback. ``--help`` and ``--version`` import
            none of ``cluster.admin``: they answer at once.
Runs as     ``redis-cluster-cli`` (installed), ``python -m tools.redis_cluster_cli`` and
            ``python tools/redis_cluster_cli.py`` (in a checkout).
Source      The options are redis-cli's without ``--cluster-`` in front; with it they are understood too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from cluster.admin.connection import Credentials
    from cluster.admin.console import Console
    from cluster.admin.errors import AdminError

PROGRAM = "redis-cluster-cli"
_CONTACT = "<host:port> or <host> <port>"
_WRONG_COUNT = "[ERR] Wrong number of arguments for specified --cluster sub command"
_PASSWORD_WARNING = "Warning: Using a password with '-a' option on the command line interface may not be safe."


class CommandLineError(Exception):
    """The arguments cannot be understood; the text says why."""


class Parser(argparse.ArgumentParser):
    """argparse, but an error is ours to print, and ends with 1 as every other."""

    def error(self, message: str) -> NoReturn:
        raise CommandLineError(f"[ERR] {message[:1].upper()}{message[1:]}.")


class Command:
    """One row of the table of commands: how it is spelt. What it does is in ``cluster.admin.commands``."""

    def __init__(
        self,
        synopsis: str,
        summary: str,
        *,
        at_least: int = 1,
        at_most: int | None = None,
        add_options: Callable[[argparse.ArgumentParser], None] = lambda _parser: None,
        example: str = "",
        more: str = "",
    ) -> None:
        self.synopsis = synopsis
        self.summary = summary
        self.at_least = at_least
        self.at_most = at_most
        self.add_options = add_options
        self.example = example
        self.more = more


# The options of the commands


def _create_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--replicas", type=int, default=0, metavar="N", help="replicas per master (default 0)")


def _check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--search-multiple-owners", action="store_true", help="also look for slots that several masters hold"
    )


def _key_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", type=int, default=60_000, metavar="MS", help="time-out of one MIGRATE (default 60000)"
    )
    parser.add_argument("--pipeline", type=int, default=10, metavar="N", help="keys per MIGRATE (default 10)")
    parser.add_argument("--replace", action="store_true", help="overwrite keys that the target has with another value")


def _fix_options(parser: argparse.ArgumentParser) -> None:
    _check_options(parser)
    parser.add_argument(
        "--fix-with-unreachable-masters",
        action="store_true",
        help="repair although masters do not answer; their slots are given away",
    )
    _key_options(parser)


def _reshard_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="from_", metavar="NODES", help="masters that give: ids or host:port, with commas between; or all"
    )
    parser.add_argument("--to", metavar="NODE", help="the master that takes: id or host:port")
    parser.add_argument("--slots", type=int, metavar="N", help="how many slots to move")
    _key_options(parser)


def _rebalance_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weight", nargs="+", action="extend", metavar="NODE=W", help="weight of a master (default 1; 0 empties it)"
    )
    parser.add_argument("--use-empty-masters", action="store_true", help="give slots to masters without any, too")
    parser.add_argument(
        "--threshold", type=float, default=2.0, metavar="PERCENT", help="leave smaller differences alone (default 2)"
    )
    parser.add_argument("--simulate", action="store_true", help="only show what would be moved")
    _key_options(parser)


def _add_node_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--slave", action="store_true", help="add it as a replica, of the master with the fewest")
    parser.add_argument("--master-id", metavar="NODE", help="add it as a replica of this master: id or host:port")


def _call_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only-masters", action="store_true", help="leave the replicas out")
    parser.add_argument("--only-replicas", action="store_true", help="leave the masters out")


COMMANDS: dict[str, Command] = {
    "create": Command(
        "host1:port1 ... hostN:portN",
        "make a cluster of empty nodes",
        at_least=2,
        add_options=_create_options,
        example="create --replicas 1 127.0.0.1:7000 127.0.0.1:7001 127.0.0.1:7002 127.0.0.1:7003 127.0.0.1:7004 "
        "127.0.0.1:7005",
        more="The nodes must run in cluster mode, hold no keys and know no others; at least three become masters.\n"
        "Replicas are put on other hosts than their masters where possible.",
    ),
    "check": Command(
        _CONTACT,
        "is every slot covered, do the nodes agree?",
        at_most=2,
        add_options=_check_options,
        example="check 127.0.0.1:7000",
    ),
    "info": Command(_CONTACT, "keys, slots and replicas of every master", at_most=2, example="info 127.0.0.1:7000"),
    "reshard": Command(
        _CONTACT,
        "move slots between masters while clients write",
        at_most=2,
        add_options=_reshard_options,
        example="reshard 127.0.0.1:7000 --from all --to 127.0.0.1:7001 --slots 1000 --yes",
        more="What is not given is asked for. Ctrl-C stops between two slots.",
    ),
    "rebalance": Command(
        _CONTACT,
        "give every master its share of the slots",
        at_most=2,
        add_options=_rebalance_options,
        example="rebalance 127.0.0.1:7000 --use-empty-masters",
    ),
    "fix": Command(
        _CONTACT,
        "close open slots, cover uncovered ones",
        at_most=2,
        add_options=_fix_options,
        example="fix 127.0.0.1:7000",
    ),
    "doctor": Command(
        _CONTACT,
        "look every node over and say what to do",
        at_most=2,
        example="doctor 127.0.0.1:7000",
        more="Beyond check: replicas missing, behind or beside their masters, suspected nodes, settings that differ.",
    ),
    "meet": Command(
        "host:port new_host:new_port ...",
        "make nodes known to a cluster",
        at_least=2,
        example="meet 127.0.0.1:7000 127.0.0.1:7006",
    ),
    "replicate": Command(
        "host:port master",
        "make a node the replica of a master (id or host:port)",
        at_least=2,
        at_most=2,
        example="replicate 127.0.0.1:7006 127.0.0.1:7000",
    ),
    "add-node": Command(
        "new_host:new_port host:port",
        "add an empty node to a cluster, as master or replica",
        at_least=2,
        at_most=2,
        add_options=_add_node_options,
        example="add-node 127.0.0.1:7006 127.0.0.1:7000 --slave",
    ),
    "del-node": Command(
        "host:port node",
        "remove a node without slots (id or host:port)",
        at_least=2,
        at_most=2,
        example="del-node 127.0.0.1:7000 127.0.0.1:7006",
    ),
    "set-timeout": Command(
        "host:port milliseconds",
        "set cluster-node-timeout on every node",
        at_least=2,
        at_most=2,
        example="set-timeout 127.0.0.1:7000 5000",
    ),
    "call": Command(
        "host:port command arg ...",
        "send a command to every node",
        at_least=2,
        add_options=_call_options,
        example="call --only-masters 127.0.0.1:7000 CONFIG GET maxmemory",
    ),
}


# Arguments


def _common_options() -> argparse.ArgumentParser:
    """What every command takes, before or after its name; without defaults, which would undo the first reading."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("connecting")
    group.add_argument("-a", "--pass", dest="password", metavar="PASSWORD", help="password (or set REDISCLI_AUTH)")
    group.add_argument("--user", metavar="NAME", help="ACL user to log in as; needs a password")
    group.add_argument("--askpass", action="store_true", help="ask for the password")
    group.add_argument("--no-auth-warning", action="store_true", help="no warning about -a")
    parser.add_argument("--yes", action="store_true", help="accept the plan without asking (REDISCLI_CLUSTER_YES=1)")
    return parser


def _command_parser(name: str) -> Parser:
    command = COMMANDS[name]
    parser = Parser(
        prog=f"{PROGRAM} {name}",
        usage=f"{PROGRAM} {name} [options] {command.synopsis}",
        description=f"{command.summary[:1].upper()}{command.summary[1:]}.\n{command.more}".rstrip(),
        epilog=f"example:\n  {PROGRAM} {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common_options()],
        allow_abbrev=False,
    )
    command.add_options(parser)
    # "call" passes on words that look like options; elsewhere options may stand between the words.
    parser.add_argument("words", nargs=argparse.REMAINDER if name == "call" else "*", help=argparse.SUPPRESS)
    return parser


def parse(argv: Sequence[str]) -> tuple[str, argparse.Namespace]:
    """Read the command line into the command's name and its options."""
    words = [_modern_spelling(word) for word in argv if word != "--cluster"]
    general = Parser(prog=PROGRAM, add_help=False, parents=[_common_options()], allow_abbrev=False)
    general.add_argument("words", nargs=argparse.REMAINDER)
    before = general.parse_args(words)
    if not before.words:
        raise CommandLineError(f"[ERR] No command given. Try: {PROGRAM} help")
    name, *rest = before.words
    if name not in COMMANDS:
        raise CommandLineError(_unknown_command(name))
    parser = _command_parser(name)
    # argparse cannot mix options between words that may be anything.
    arguments = parser.parse_args(_options_first(rest)) if name == "call" else parser.parse_intermixed_args(rest)
    for option, value in vars(before).items():
        if option != "words" and not hasattr(arguments, option):
            setattr(arguments, option, value)
    _check_word_count(name, len(arguments.words))
    return name, arguments


def _modern_spelling(word: str) -> str:
    """``--cluster-replicas`` is ``--replicas`` here."""
    return "--" + word.removeprefix("--cluster-") if word.startswith("--cluster-") else word


def _options_first(words: list[str]) -> list[str]:
    """``call`` takes its own options also behind the command, where redis-cli wants them."""
    own = [word for word in words if word in ("--only-masters", "--only-replicas")]
    return own + [word for word in words if word not in own]


def _check_word_count(name: str, count: int) -> None:
    command = COMMANDS[name]
    if count < command.at_least or (command.at_most is not None and count > command.at_most):
        raise CommandLineError(f"{_WRONG_COUNT}\nUsage: {PROGRAM} {name} [options] {command.synopsis}")


def _unknown_command(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, [*COMMANDS, "help"], n=1)
    advice = f"Did you mean '{close[0]}'?" if close else f"Try: {PROGRAM} help"
    return f"Unknown --cluster subcommand '{name}'. {advice}"


# Help


def overview() -> str:
    """The help without a command."""
    width = max(len(name) for name in COMMANDS) + 2
    lines = [
        f"Usage: {PROGRAM} [-a <password>] [--user <name>] <command> [options] [arguments]",
        "",
        "Commands:",
        *(f"  {name:<{width}}{command.summary}" for name, command in COMMANDS.items()),
        f"  {'help':<{width}}what a command takes: {PROGRAM} help <command>",
        "",
        "All but create, meet and add-node start from any one working node of the cluster.",
        "The options of redis-cli --cluster are understood in its spelling, too.",
        "",
        "Start with:",
        f"  {PROGRAM} {COMMANDS['create'].example}",
    ]
    return "\n".join(lines)


def show_help(words: Sequence[str]) -> int:
    """``help [command]``."""
    if not words:
        print(overview())
        return 0
    if words[0] not in COMMANDS:
        print(_unknown_command(words[0]), file=sys.stderr)
        return 1
    print(_command_parser(words[0]).format_help().rstrip())
    return 0


# The process


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(words)
    except CommandLineError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("\n*** Interrupted.", file=sys.stderr)
    except BrokenPipeError:
        # The reader of our help has gone; the interpreter's last flush must not find that out again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _run(words: list[str]) -> int:
    if not words or words[0] in ("help", "--help", "-h"):
        status = show_help(words[1:])
        return status if words else 1
    if words[0] in ("--version", "-v"):
        from cluster import __version__

        print(f"{PROGRAM} {__version__}")
        return 0
    if "--help" in words and words[0] in COMMANDS and words[0] != "call":
        return show_help(words[:1])
    name, arguments = parse(words)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")  # Replies and arguments are bytes, whatever the locale.
    return run_command(name, arguments)


def run_command(name: str, arguments: argparse.Namespace) -> int:
    """Carry out a command whose arguments are read."""
    from cluster.admin.commands import RUNNERS
    from cluster.admin.console import Console
    from cluster.admin.context import Context
    from cluster.admin.errors import AdminError

    console = Console.from_process(os.environ)
    arguments.yes = getattr(arguments, "yes", False) or os.environ.get("REDISCLI_CLUSTER_YES") == "1"
    context = Context(console, credentials=_credentials(console, arguments))
    try:
        return 0 if RUNNERS[name](context, arguments) else 1
    except AdminError as error:
        _report(console, error)
        return 1
    finally:
        context.close()
        console.flush()


def _credentials(console: Console, arguments: argparse.Namespace) -> Credentials:
    """How to log in: -a before REDISCLI_AUTH, as in redis-cli."""
    from cluster.admin.connection import Credentials

    password: str | None = getattr(arguments, "password", None)
    if password is not None and not getattr(arguments, "no_auth_warning", False):
        console.complain(_PASSWORD_WARNING)
    if getattr(arguments, "askpass", False):
        import getpass

        try:
            password = getpass.getpass("Please input password: ")
        except EOFError:
            raise CommandLineError("[ERR] No password was entered.") from None
    if password is None:
        password = os.environ.get("REDISCLI_AUTH")
    return Credentials(password, getattr(arguments, "user", None))


def _report(console: Console, error: AdminError) -> None:
    """Print a failure where redis-cli prints it, and the way out of it on standard error."""
    if error.is_diagnostic:
        console.complain(str(error))
    else:
        console.error(str(error))
    if error.hint:
        console.complain(error.hint)


if __name__ == "__main__":
    if not __package__:
        # Run as a file of a checkout: only tools/ is on the path, the package beside it is not.
        sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    sys.exit(main())
