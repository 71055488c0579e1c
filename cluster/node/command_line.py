"""The command line of redis-cluster-node, read as redis-server reads its own.

Role        ``[conf] [--directive value ...] [-]``: turns the words into configuration text that is appended to the
            file. Decides nothing else; the text is checked when it is loaded, so its errors look like a file's.
Source      ``main``, ``checkForSentinelMode``, ``version`` and ``usage`` in server.c; ``getAbsolutePath`` in util.c.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence

import attrs

from cluster.node.config_file import REDIS_VERSION
from cluster.resp.parser import split_inline
from cluster.resp.quoting import quote

HELP = """\
Usage: redis-cluster-node [/path/to/redis.conf] [options] [-]
       redis-cluster-node - (read config from stdin)
       redis-cluster-node -v or --version
       redis-cluster-node -h or --help

Options are the directives of redis.conf: --port 7000 stands for the line "port 7000" at the end of the file.

Examples:
       redis-cluster-node (run the node with default conf)
       echo 'cluster-enabled yes' | redis-cluster-node -
       redis-cluster-node /etc/redis/7000.conf
       redis-cluster-node --port 7000 --cluster-enabled yes
       redis-cluster-node --port 7777 --replicaof 127.0.0.1 8888
       redis-cluster-node /etc/redis/7000.conf --loglevel verbose -
       redis-cluster-node /etc/redis/7000.conf --loglevel verbose"""


class Action(enum.Enum):
    """What the process was started for."""

    RUN = "run"
    VERSION = "version"  # Print version_line() on standard output and exit with 0.
    HELP = "help"  # Print HELP on standard error and exit with 1, as redis-server does.


@attrs.frozen
class LaunchOptions:
    """What the command line says."""

    action: Action = Action.RUN
    config_path: str | None = None
    """Absolute, because ``dir`` changes the working directory and CONFIG REWRITE must still find the file."""
    from_stdin: bool = False
    overrides: bytes = b""
    """Lines of configuration to read after the file and standard input."""
    sentinel_mode: bool = False
    has_arguments: bool = False
    program: str = "redis-cluster-node"


def parse_command_line(argv: Sequence[str]) -> LaunchOptions:
    """Read the process's arguments; ``argv[0]`` is the program."""
    words = [os.fsencode(word) for word in argv[1:]]
    program = argv[0] if argv else LaunchOptions().program
    if not words:
        return LaunchOptions(sentinel_mode="redis-sentinel" in os.path.basename(program), program=program)
    if words[0] in (b"-v", b"--version"):
        return LaunchOptions(Action.VERSION, has_arguments=True, program=program)
    if words[0] in (b"-h", b"--help"):
        return LaunchOptions(Action.HELP, has_arguments=True, program=program)
    config_path = None
    options = words
    if not words[0].startswith(b"-"):
        config_path = absolute_path(os.fsdecode(words[0]))
        options = words[1:]
    overrides, from_stdin = _overrides(options, is_first_word=config_path is None)
    return LaunchOptions(
        config_path=config_path,
        from_stdin=from_stdin,
        overrides=overrides,
        sentinel_mode=b"--sentinel" in words or "redis-sentinel" in os.path.basename(program),
        has_arguments=True,
        program=program,
    )


def _overrides(words: Sequence[bytes], *, is_first_word: bool) -> tuple[bytes, bool]:
    """The words as configuration text, and whether standard input is to be read.

    A word that begins with ``--`` opens a new line, unless it is the first one after a directive without a value: then
    it is that value (``--proc-title-template --my-title``). All other words are values and are quoted.
    """
    text = bytearray()
    from_stdin = False
    value_seen = True
    last = len(words) - 1
    for index, word in enumerate(words):
        if word == b"-" and (index == last or (index == 0 and is_first_word)):
            from_stdin = True
        elif value_seen and word.startswith(b"--"):
            if text:
                text += b"\n"
            text += word[2:] + b" "
            # The word may hold a value of its own: "--port 7000" in one piece.
            value_seen = len(split_inline(word) or ()) != 1
            if not value_seen:
                next_is_option = index < last and words[index + 1].startswith(b"--")
                name = word.lower()
                if name == b"--save" and (next_is_option or index == last):
                    # What a script produces from an empty list: no save points.
                    text += b'""'
                    value_seen = next_is_option
                elif name == b"--sentinel" and next_is_option:
                    value_seen = True
        else:
            text += quote(word) + b" "
            value_seen = True
    return bytes(text), from_stdin


def absolute_path(path: str) -> str:
    """``path`` from the root, without resolving anything but leading ``../``."""
    path = path.strip(" \r\n\t")
    if path.startswith("/"):
        return path
    try:
        directory = os.getcwd()
    except OSError:  # It was removed under us; the path is as good as it can be.
        return path
    while path.startswith("../"):
        path = path[3:]
        directory = os.path.dirname(directory)
    return f"{directory.rstrip('/')}/{path}"


def version_line(hashslot_version: str) -> str:
    """What --version prints: redis-server's line, for the scripts that read it, with who we are at its end."""
    return (
        f"Redis server v={REDIS_VERSION} sha=00000000:0 malloc=python bits=64 build=0 "
        f"(Hashslot {hashslot_version}, Redis Cluster node in Python)"
    )
