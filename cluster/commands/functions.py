"""FCALL, FCALL_RO and FUNCTION (functions.c). What keeps and runs them is cluster.scripting and cluster.node."""

from __future__ import annotations

from typing import Final

from cluster import clock
from cluster.commands.context import Session
from cluster.commands.keys import help_reply
from cluster.commands.registry import command
from cluster.commands.scripting import key_count_of
from cluster.errors import CommandError, RdbError
from cluster.keyspace.glob import matches
from cluster.persistence.dump_payload import WRONG_VERSION_OR_CHECKSUM, verify
from cluster.persistence.function_payload import dump_libraries, restore_libraries
from cluster.resp.encode import OK, array, bulk, bulk_array, integer, simple
from cluster.scripting.flags import FLAG_NAMES
from cluster.scripting.functions import ENGINE_NAME, LOAD_TIMEOUT_MS, Collection, Function, Library, LibraryError

_RESTORE_POLICIES: Final = (b"flush", b"append", b"replace")


def _syntax_error(subcommand: bytes) -> CommandError:
    return CommandError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try FUNCTION HELP." % subcommand[:128]
    )


@command("fcall")
@command("fcall_ro")
def fcall(client: Session, argv: list[bytes]) -> bytes:
    server = client.server
    if server.monitors:
        server.monitors.feed(client, argv)  # Before what the function does.
    function = server.scripting.functions.find(argv[1])
    if function is None:
        raise CommandError(b"ERR Function not found")
    key_count = key_count_of(argv, b"ERR Bad number of keys provided")
    reply: bytes = server.scripting.run_function(client, argv, key_count, function)
    return reply


@command("function|load")
def function_load(client: Session, argv: list[bytes]) -> bytes:
    replace = False
    for option in argv[2:-1]:
        if option.lower() != b"replace":
            raise CommandError(b"ERR Unknown option given: " + option.split(b"\0", 1)[0])
        replace = True
    server = client.server
    # What our master, or our own log, has loaded is loaded here, whatever time that takes.
    obeys = client.is_master_link or server.loading
    until_ms = None if obeys else clock.monotonic_ms() + LOAD_TIMEOUT_MS
    try:
        name: bytes = server.scripting.functions.load(argv[-1], replace=replace, until_ms=until_ms)
    except LibraryError as problem:
        raise CommandError(b"ERR " + problem.message) from None
    server.keyspace.dirty += 1
    return bulk(name)


@command("function|delete")
def function_delete(client: Session, argv: list[bytes]) -> bytes:
    collection: Collection = client.server.scripting.functions.current
    library = collection.libraries.get(argv[2])
    if library is None:
        raise CommandError(b"ERR Library not found")
    collection.unlink(library)
    client.server.keyspace.dirty += 1
    return OK


@command("function|flush")
def function_flush(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) > 3:
        raise _syntax_error(argv[1])
    if len(argv) == 3 and argv[2].lower() not in (b"sync", b"async"):
        raise CommandError(b"ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
    client.server.scripting.functions.replace_all(Collection())
    client.server.keyspace.dirty += 1
    return OK


@command("function|list")
def function_list(client: Session, argv: list[bytes]) -> bytes:
    with_code = False
    pattern: bytes | None = None
    words = iter(argv[2:])
    for word in words:
        lower = word.lower()
        if lower == b"withcode" and not with_code:
            with_code = True
        elif lower == b"libraryname" and pattern is None:
            pattern = next(words, None)
            if pattern is None:
                raise CommandError(b"ERR library name argument was not given")
        else:
            raise CommandError(b"ERR Unknown argument " + word.split(b"\0", 1)[0])
    collection: Collection = client.server.scripting.functions.current
    return array(
        [
            _describe_library(client, library, with_code=with_code)
            for library in collection.libraries.values()
            if pattern is None or matches(pattern, library.name, ignore_case=True)
        ]
    )


def _describe_library(client: Session, library: Library, *, with_code: bool) -> bytes:
    parts = [
        bulk(b"library_name"),
        bulk(library.name),
        bulk(b"engine"),
        bulk(ENGINE_NAME),
        bulk(b"functions"),
        array([_describe_function(client, function) for function in library.functions.values()]),
    ]
    if with_code:
        parts += [bulk(b"library_code"), bulk(library.code)]
    return client.proto.map(parts)


def _describe_function(client: Session, function: Function) -> bytes:
    proto = client.proto
    flags = [simple(name) for name, flag in FLAG_NAMES.items() if function.flags & flag]
    return proto.map(
        [
            bulk(b"name"),
            bulk(function.name),
            bulk(b"description"),
            proto.bulk_or_null(function.description),
            bulk(b"flags"),
            proto.set(flags),
        ]
    )


@command("function|stats")
def function_stats(client: Session, argv: list[bytes]) -> bytes:
    scripting = client.server.scripting
    run = scripting.current
    proto = client.proto
    if run is None:
        running = proto.null
    elif run.is_eval:
        raise CommandError(scripting.busy_text())
    else:
        running = proto.map(
            [
                bulk(b"name"),
                bulk(run.name),
                bulk(b"command"),
                bulk_array(run.argv),
                bulk(b"duration_ms"),
                integer(clock.monotonic_ms() - run.began_ms),
            ]
        )
    collection: Collection = scripting.functions.current
    counts = proto.map(
        [
            bulk(b"libraries_count"),
            integer(len(collection.libraries)),
            bulk(b"functions_count"),
            integer(len(collection.functions)),
        ]
    )
    engines = proto.map([bulk(ENGINE_NAME), counts])
    return proto.map([bulk(b"running_script"), running, bulk(b"engines"), engines])


@command("function|kill")
def function_kill(client: Session, argv: list[bytes]) -> bytes:
    client.server.scripting.kill(is_eval=False)
    return OK


@command("function|dump")
def function_dump(client: Session, argv: list[bytes]) -> bytes:
    return bulk(dump_libraries(client.server.scripting.functions.sources()))


@command("function|restore")
def function_restore(client: Session, argv: list[bytes]) -> bytes:
    if len(argv) > 4:
        raise _syntax_error(argv[1])
    policy = argv[3].lower() if len(argv) == 4 else b"append"
    if policy not in _RESTORE_POLICIES:
        raise CommandError(b"ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.")
    try:
        verify(argv[2])
    except RdbError:
        raise CommandError(b"ERR " + WRONG_VERSION_OR_CHECKSUM.encode()) from None
    functions = client.server.scripting.functions
    restored = Collection()
    try:
        for source in restore_libraries(argv[2]):
            functions.load(source, replace=False, into=restored)
        if policy == b"flush":
            functions.replace_all(restored)
        else:
            functions.current.join(restored, replace=policy == b"replace")
    except (LibraryError, RdbError) as problem:
        text = problem.message if isinstance(problem, LibraryError) else str(problem).encode()
        raise CommandError(b"ERR " + text) from None
    client.server.keyspace.dirty += 1
    return OK


@command("function|help")
def function_help(client: Session, argv: list[bytes]) -> bytes:
    return help_reply(
        b"FUNCTION",
        [
            b"LOAD [REPLACE] <FUNCTION CODE>",
            b"    Create a new library with the given library name and code.",
            b"DELETE <LIBRARY NAME>",
            b"    Delete the given library.",
            b"LIST [LIBRARYNAME PATTERN] [WITHCODE]",
            b"    Return general information on all the libraries:",
            b"    * Library name",
            b"    * The engine used to run the Library",
            b"    * Library description",
            b"    * Functions list",
            b"    * Library code (if WITHCODE is given)",
            b"    It also possible to get only function that matches a pattern using LIBRARYNAME argument.",
            b"STATS",
            b"    Return information about the current function running:",
            b"    * Function name",
            b"    * Command used to run the function",
            b"    * Duration in MS that the function is running",
            b"    If no function is running, return nil",
            b"    In addition, returns a list of available engines.",
            b"KILL",
            b"    Kill the current running function.",
            b"FLUSH [ASYNC|SYNC]",
            b"    Delete all the libraries.",
            b"    When called without the optional mode argument, the behavior is determined by the",
            b"    lazyfree-lazy-user-flush configuration directive. Valid modes are:",
            b"    * ASYNC: Asynchronously flush the libraries.",
            b"    * SYNC: Synchronously flush the libraries.",
            b"DUMP",
            b"    Return a serialized payload representing the current libraries, can be restored using "
            b"FUNCTION RESTORE command",
            b"RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
            b"    Restore the libraries represented by the given payload, it is possible to give a restore policy to",
            b"    control how to handle existing libraries (default APPEND):",
            b"    * FLUSH: delete all existing libraries.",
            b"    * APPEND: appends the restored libraries to the existing libraries. On collision, abort.",
            b"    * REPLACE: appends the restored libraries to the existing libraries, On collision, replace the old",
            b"      libraries with the new libraries (notice that even on this option there is a chance of failure",
            b"      in case of functions name collision with another library).",
        ],
    )
