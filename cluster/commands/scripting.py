"""EVAL, EVALSHA, their read-only forms, and SCRIPT (eval.c). What runs them is cluster.node.script_host."""

from __future__ import annotations

from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.keyspace.strings import parse_int64
from cluster.resp.encode import OK, array, bulk, integer

NO_SCRIPT = b"NOSCRIPT No matching script. Please use EVAL."
SHA_DIGITS = 40


def key_count_of(argv: list[bytes], message: bytes | None = None) -> int:
    """How many arguments are keys. Raises CommandError, with ``message`` for what is no number."""
    if message is None:
        count = parse_integer(argv[2])
    else:
        parsed = parse_int64(argv[2])
        if parsed is None:
            raise CommandError(message)
        count = parsed
    if count > len(argv) - 3:
        raise CommandError(b"ERR Number of keys can't be greater than number of args")
    if count < 0:
        raise CommandError(b"ERR Number of keys can't be negative")
    return count


@command("eval")
@command("eval_ro")
def eval_(client: Session, argv: list[bytes]) -> bytes | None:
    server = client.server
    if server.monitors:
        server.monitors.feed(client, argv)  # Before what the script does.
    scripting = server.scripting
    if client.id in scripting.debugging.modes:
        reply: bytes | None = scripting.debugging.evaluate(client, argv[1], lambda: _evaluate(client, argv))
        return reply
    return _evaluate(client, argv)


def _evaluate(client: Session, argv: list[bytes]) -> bytes:
    key_count = key_count_of(argv)
    scripting = client.server.scripting
    reply: bytes = scripting.run_script(client, argv, key_count, scripting.load(argv[1]))
    return reply


@command("evalsha")
@command("evalsha_ro")
def evalsha(client: Session, argv: list[bytes]) -> bytes:
    server = client.server
    if server.monitors:
        server.monitors.feed(client, argv)
    if len(argv[1]) != SHA_DIGITS:
        raise CommandError(NO_SCRIPT)
    if client.id in server.scripting.debugging.modes:
        raise CommandError(b"ERR Please use EVAL instead of EVALSHA for debugging")
    key_count = key_count_of(argv)
    script = server.scripting.find(argv[1])
    if script is None:
        raise CommandError(NO_SCRIPT)
    reply: bytes = server.scripting.run_script(client, argv, key_count, script)
    return reply


@command("script|load")
def script_load(client: Session, argv: list[bytes]) -> bytes:
    return bulk(client.server.scripting.load(argv[2]).sha)


@command("script|exists")
def script_exists(client: Session, argv: list[bytes]) -> bytes:
    find = client.server.scripting.find
    return array([integer(find(sha) is not None) for sha in argv[2:]])


@command("script|flush")
def script_flush(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) > 3 or (len(argv) == 3 and argv[2].lower() not in (b"sync", b"async")):
        raise CommandError(b"ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    client.server.scripting.flush()
    return OK


@command("script|kill")
def script_kill(client: Session, argv: list[bytes]) -> bytes:
    client.server.scripting.kill(is_eval=True)
    return OK


@command("script|debug")
def script_debug(client: Session, argv: list[bytes]) -> bytes:
    if client.out or client.in_exec:
        raise CommandError(b"ERR SCRIPT DEBUG must be called outside a pipeline")
    if not client.server.scripting.debugging.choose(client, argv[2].lower()):
        raise CommandError(b"ERR Use SCRIPT DEBUG YES/SYNC/NO")
    return OK


@command("script|help")
def script_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"SCRIPT",
        [
            b"DEBUG (YES|SYNC|NO)",
            b"    Set the debug mode for subsequent scripts executed.",
            b"EXISTS <sha1> [<sha1> ...]",
            b"    Return information about the existence of the scripts in the script cache.",
            b"FLUSH [ASYNC|SYNC]",
            b"    Flush the Lua scripts cache. Very dangerous on replicas.",
            b"    When called without the optional mode argument, the behavior is determined by the",
            b"    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
            b"    * ASYNC: Asynchronously flush the scripts cache.",
            b"    * SYNC: Synchronously flush the scripts cache.",
            b"KILL",
            b"    Kill the currently executing Lua script.",
            b"LOAD <script>",
            b"    Load a script into the scripts cache without executing it.",
        ],
    )
