"""MODULE: there are none, and none can be loaded (moduleCommand in module.c)."""

from __future__ import annotations

from cluster.commands.context import Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.resp.encode import EMPTY_ARRAY


@command("module|list")
def module_list(client: Session, argv: list[bytes]) -> bytes:
    return EMPTY_ARRAY


@command("module|load")
def module_load(client: Session, argv: list[bytes]) -> bytes:
    raise _not_loaded(client, argv[2])


@command("module|loadex")
def module_loadex(client: Session, argv: list[bytes]) -> bytes:
    raise _not_loaded(client, argv[2])


def _not_loaded(client: Session, path: bytes) -> CommandError:
    name = path.decode("utf-8", "backslashreplace")
    client.server.log.warning(f"Module {name} failed to load: this server cannot load modules")
    return CommandError(b"ERR Error loading the extension. Please check the server logs.")


@command("module|unload")
def module_unload(client: Session, argv: list[bytes]) -> bytes:
    raise CommandError(b"ERR Error unloading module: no such module with that name")


@command("module|help")
def module_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"MODULE",
        [
            b"LIST",
            b"    Return a list of loaded modules.",
            b"LOAD <path> [<arg> ...]",
            b"    Load a module library from <path>, passing to it any optional arguments.",
            b"LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]",
            b"    Load a module library from <path>, while passing it module configurations and optional arguments.",
            b"UNLOAD <name>",
            b"    Unload a module.",
        ],
    )
