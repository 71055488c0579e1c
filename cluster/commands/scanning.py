"""What collections have in common: the options and the reply of HSCAN, SSCAN and ZSCAN (scanGenericCommand in db.c),
and the count of HRANDFIELD, SRANDMEMBER and ZRANDMEMBER.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs

from cluster import errors
from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.errors import CommandError
from cluster.keyspace.glob import Matcher, compile_glob
from cluster.keyspace.strings import INT64_MIN
from cluster.resp.encode import EMPTY_ARRAY, EMPTY_BULK, array, bulk, bulk_array

EMPTY_SCAN: Final = array([bulk(b"0"), EMPTY_ARRAY])
"""The answer for a key that is not there, in both protocols."""

MOST_REPEATED_DRAWS: Final = 10_000_000
"""Redis would draw 2**63 members if it were asked to, until it ran out of memory; here such a request is refused."""
_RANGE: Final = b"ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"


@attrs.frozen
class ScanOptions:
    """COUNT and MATCH; ``matches`` is None where everything does. Of SCAN alone: TYPE."""

    count: int
    matches: Matcher | None
    wanted_type: bytes | None = None


def parse_scan_options(words: list[bytes], *, has_type: bool = False) -> ScanOptions:
    """The words after the cursor. Raises CommandError."""
    count, pattern, wanted_type = 10, b"*", None
    rest = iter(words)
    for word in rest:
        option, argument = word.upper(), next(rest, None)
        if argument is None:
            raise CommandError(errors.SYNTAX)
        if option == b"COUNT":
            count = parse_integer(argument)
            if count < 1:
                raise CommandError(errors.SYNTAX)
        elif option == b"MATCH":
            pattern = argument
        elif option == b"TYPE" and has_type:
            wanted_type = argument.lower()
        else:
            raise CommandError(errors.SYNTAX)
    return ScanOptions(count, None if pattern == b"*" else compile_glob(pattern), wanted_type)


def matching(found: list[tuple[bytes, Any]], options: ScanOptions) -> list[tuple[bytes, Any]]:
    """The items whose member MATCH lets through."""
    matches = options.matches
    return found if matches is None else [item for item in found if matches(item[0])]


def scan_reply(cursor: int, texts: Iterable[bytes]) -> bytes:
    """The next cursor and a flat array, in both protocols."""
    found = list(texts)
    return array([bulk(b"%d" % cursor), bulk_array(found) if found else EMPTY_ARRAY])


def parse_draw_count(text: bytes) -> int:
    """How many members to draw; negative for draws that may repeat. Raises CommandError."""
    count = parse_integer(text)
    if count == INT64_MIN:
        raise CommandError(_RANGE)
    return count


def check_repeated_draws(client: Session, count: int) -> None:
    """Raise CommandError if that many draws would take the server down.

    Where a reply of that size would cost the client its connection, it does so without being made.
    """
    if count < -MOST_REPEATED_DRAWS:
        if client.server.exceeds_hard_limit(client, -count * len(EMPTY_BULK)):
            client.server.close_session(client)
        raise CommandError(b"ERR value is out of range")
