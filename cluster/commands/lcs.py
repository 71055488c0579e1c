"""LCS: the longest common subsequence of two strings (lcsCommand in t_string.c).

Of several subsequences of the greatest length the answer must be Redis's, so ties are broken as there: walking back
from the ends, the second string is shortened first. The table is kept as one integer per row, a bit for each column,
and a row is made from the one above by a few operations on whole rows (Crochemore et al., "A fast and practical
bit-vector algorithm for the longest common subsequence problem"); filled cell by cell it would hold up the server for
seconds. Units: bytes; ranges are inclusive, from 0.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from cluster import errors
from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.commands.registry import command
from cluster.errors import CommandError
from cluster.keyspace.strings import is_string, to_bytes
from cluster.resp.encode import array, bulk, integer
from cluster.slots.hashing import key_slot

_CELL_BYTES = 4
"""Redis's table has 32-bit cells; its size decides what is refused."""
_UINT32_MAX = 2**32 - 1


@attrs.frozen
class Match:
    """Equal stretches of both strings."""

    first_start: int
    second_start: int
    length: int


@attrs.define
class _Options:
    index: bool = False
    only_length: bool = False
    with_length: bool = False
    least_length: int = 0


@command("lcs")
def lcs(client: Session, argv: list[bytes]) -> bytes:
    """LCS key1 key2 [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]"""
    first, second = _string(client, argv[1]), _string(client, argv[2])
    if first is None or second is None:
        raise CommandError(b"ERR The specified keys must contain string values")
    options = _parse_options(argv[3:])
    if max(len(first), len(second)) >= _UINT32_MAX - 1:
        raise CommandError(b"ERR String too long for LCS")
    if (len(first) + 1) * (len(second) + 1) * _CELL_BYTES > client.server.settings.proto_max_bulk_len:
        raise CommandError(b"ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    if options.only_length:
        *_, last_row = _rows(first, second)
        return integer(last_row.bit_count())
    rows = list(_rows(first, second))
    matches = list(_walk_back(first, second, rows))
    if not options.index:
        return bulk(b"".join(first[m.first_start : m.first_start + m.length] for m in reversed(matches)))
    shown = [_encode_match(match, options) for match in matches if match.length >= options.least_length]
    return client.proto.map([bulk(b"matches"), array(shown), bulk(b"len"), integer(rows[-1].bit_count())])


def _string(client: Session, key: bytes) -> bytes | None:
    """The content of a string, empty for a key that is not there; None for another type."""
    value = client.db.read(key, key_slot(key))
    if value is None:
        return b""
    return to_bytes(value) if is_string(value) else None


def _parse_options(words: list[bytes]) -> _Options:
    """Raises CommandError."""
    options = _Options()
    rest = iter(words)
    for word in rest:
        option = word.upper()
        if option == b"IDX":
            options.index = True
        elif option == b"LEN":
            options.only_length = True
        elif option == b"WITHMATCHLEN":
            options.with_length = True
        elif option == b"MINMATCHLEN" and (argument := next(rest, None)) is not None:
            options.least_length = max(parse_integer(argument), 0)
        else:
            raise CommandError(errors.SYNTAX)
    if options.only_length and options.index:
        raise CommandError(b"ERR If you want both the length and indexes, please just use IDX.")
    return options


def _rows(first: bytes, second: bytes) -> Iterator[int]:
    """For each beginning of ``first``, the empty one included: bit j is set where the table grows in column j + 1.

    Growing means that the longest common subsequence with the first j + 1 bytes of ``second`` is longer by one than
    that with the first j; the set bits are therefore as many as the whole subsequence has bytes.
    """
    every = (1 << len(second)) - 1
    places = {byte: _places(byte, second) for byte in set(first) & set(second)}
    flat = every  # Where the table does not grow.
    yield 0
    for byte in first:
        here = flat & places.get(byte, 0)
        flat = ((flat + here) | (flat - here)) & every
        yield every ^ flat


def _places(byte: int, text: bytes) -> int:
    """A bit for each place where ``byte`` stands."""
    marks = bytearray(b"0" * 256)
    marks[byte] = 0x31
    return int(text[::-1].translate(marks), 2)


def _walk_back(first: bytes, second: bytes, rows: list[int]) -> Iterator[Match]:
    """The stretches of the answer, last one first."""
    i, j = len(first), len(second)
    length = 0
    while i > 0 and j > 0:
        if first[i - 1] == second[j - 1]:
            i -= 1
            j -= 1
            length += 1
            continue
        if length:
            yield Match(i, j, length)
            length = 0
        # Where the row grows in this column, only the row above has as much without it.
        if rows[i] >> (j - 1) & 1:
            i -= 1
        else:
            j -= 1
    if length:
        yield Match(i, j, length)


def _encode_match(match: Match, options: _Options) -> bytes:
    last = match.length - 1
    parts = [
        array([integer(match.first_start), integer(match.first_start + last)]),
        array([integer(match.second_start), integer(match.second_start + last)]),
    ]
    if options.with_length:
        parts.append(integer(match.length))
    return array(parts)
