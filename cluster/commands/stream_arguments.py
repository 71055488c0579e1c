"""What the stream commands have in common: ids and intervals as clients write them, entries as they are answered.

Source: streamGenericParseIDOrReply, streamParseIntervalIDOrReply, streamParseAddOrTrimArgsOrReply and
streamReplyWithRange in t_stream.c of Redis 7.0.15; string2ull in util.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from cluster import errors
from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.errors import CommandError
from cluster.keyspace.stream_nodes import MAX_ID, MAX_PART, StreamId, StreamNode, id_text, make_id
from cluster.keyspace.streams import StreamValue, Trim, TrimBy
from cluster.resp.encode import bulk, bulk_array

_INVALID_ID: Final = b"ERR Invalid stream ID specified as stream command argument"
_ID_TEXT_BYTES_MAX: Final = 127
_SPACES: Final = b" \t\n\v\f\r"
_TEMPLATE_PAYS: Final = 2
"""For more entries than that a template of them is made first."""


def checked_stream(value: object) -> StreamValue | None:
    """The value if it is a stream or missing. Raises CommandError (WRONGTYPE)."""
    if value is None or type(value) is StreamValue:
        return value
    raise CommandError(errors.WRONGTYPE)


# Ids ------------------------------------------------------------------------------------------------------------


def _parse_part(text: bytes) -> int | None:
    """An unsigned number of 64 bits, or None."""
    if text.isdigit():
        number = int(text)
        return number if number <= MAX_PART else None
    return _parse_odd_part(text)


def _parse_odd_part(text: bytes) -> int | None:
    """What string2ll refuses and strtoull takes: spaces before it, a sign; ``-05`` is counted back from 2**64."""
    digits = text.lstrip(_SPACES)
    sign = digits[:1]
    if sign in (b"+", b"-"):
        digits = digits[1:]
    if not digits.isdigit() or int(digits) > MAX_PART:
        return None
    if sign != b"-":
        return int(digits)
    is_plain = text == b"-" + digits and not digits.startswith(b"0") and int(digits) <= 1 << 63
    return None if is_plain else -int(digits) & MAX_PART


def parse_id(text: bytes, missing_sequence: int = 0) -> StreamId:
    """``ms-seq`` or ``ms``; not ``-`` and ``+``. Raises CommandError."""
    entry_id = read_id(text, missing_sequence)
    if entry_id is None:
        raise CommandError(_INVALID_ID)
    return entry_id


def read_id(text: bytes, missing_sequence: int = 0) -> StreamId | None:
    """The same; None for what is no id."""
    if len(text) > _ID_TEXT_BYTES_MAX:
        return None
    milliseconds_text, dash, sequence_text = text.partition(b"-")
    if b"\0" in text:
        milliseconds_text, dash, sequence_text = errors.quoted(text).partition(b"-")
    milliseconds = _parse_part(milliseconds_text)
    sequence = _parse_part(sequence_text) if dash else missing_sequence
    if milliseconds is None or sequence is None:
        return None
    return make_id(milliseconds, sequence)


def parse_any_id(text: bytes, missing_sequence: int = 0) -> StreamId:
    """An id, or ``-`` and ``+`` for the least and the greatest one. Raises CommandError."""
    if text == b"-":
        return 0
    return MAX_ID if text == b"+" else parse_id(text, missing_sequence)


def parse_start(text: bytes) -> StreamId:
    """Where an interval begins; ``(`` excludes the id itself. Raises CommandError."""
    if text[:1] != b"(" or len(text) == 1:
        return parse_any_id(text)
    start = parse_id(text[1:])
    if start == MAX_ID:
        raise CommandError(b"ERR invalid start ID for the interval")
    return start + 1


def parse_end(text: bytes) -> StreamId:
    """Where an interval ends. Raises CommandError."""
    if text[:1] != b"(" or len(text) == 1:
        return parse_any_id(text, MAX_PART)
    end = parse_id(text[1:], MAX_PART)
    if end == 0:
        raise CommandError(b"ERR invalid end ID for the interval")
    return end - 1


# Options of XADD and XTRIM --------------------------------------------------------------------------------------


@attrs.define
class TrimOptions:
    """What XTRIM says behind the key, and XADD between the key and the id."""

    trim: Trim | None = None
    threshold_place: int = 0
    """Where in the request the threshold stands."""
    creates: bool = True
    """Not NOMKSTREAM."""
    id_place: int = 0
    """Of XADD: where the id stands; the request's length when there is none."""
    new_id: StreamId | None = None
    """Of XADD: the id, with sequence 0 if it does not say that; None for ``*``."""
    says_sequence: bool = False


def parse_trim_options(client: Session, argv: list[bytes], *, is_xadd: bool) -> TrimOptions:
    """The options, up to the id of XADD, which is not looked at. Raises CommandError."""
    options = TrimOptions()
    limit: int | None = None
    place = 2
    last = len(argv) - 1
    while place <= last:
        word = argv[place].upper()
        if is_xadd and word == b"*":
            break
        if word in (b"MAXLEN", b"MINID") and place < last:
            if options.trim is not None:
                raise CommandError(b"ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
            place += 1
            is_approximate = argv[place] == b"~"
            if place < last and argv[place] in (b"~", b"="):
                place += 1
            else:
                is_approximate = False
            options.trim = _parse_threshold(word, argv[place], is_approximate)
            options.threshold_place = place
        elif word == b"LIMIT" and place < last:
            place += 1
            limit = parse_integer(argv[place])
            if limit < 0:
                raise CommandError(b"ERR The LIMIT argument must be >= 0.")
        elif is_xadd and word == b"NOMKSTREAM":
            options.creates = False
        elif is_xadd:
            break
        else:
            raise CommandError(errors.SYNTAX)
        place += 1
    options.id_place = place
    if is_xadd and place <= last:  # What is wrong with it is said before what is wrong with the options together.
        options.new_id, options.says_sequence = _parse_new_id(argv[place])
    _check_limit(client, options, limit, is_xadd=is_xadd)
    return options


def _parse_new_id(text: bytes) -> tuple[StreamId | None, bool]:
    """The id of a new entry, and whether it says the sequence, as ``ms-*`` does not. Raises CommandError."""
    if text == b"*":
        return None, False
    if text.endswith(b"-*") and text.count(b"-") == 1:
        return parse_id(text[:-2]), False
    return parse_id(text), True


def _parse_threshold(word: bytes, text: bytes, is_approximate: bool) -> Trim:
    if word == b"MINID":
        return Trim(TrimBy.ID, parse_id(text), is_approximate)
    length = parse_integer(text)
    if length < 0:
        raise CommandError(b"ERR The MAXLEN argument must be >= 0.")
    return Trim(TrimBy.LENGTH, length, is_approximate)


def _check_limit(client: Session, options: TrimOptions, limit: int | None, *, is_xadd: bool) -> None:
    """Put LIMIT into the options, or what holds without one. Raises CommandError."""
    trim = options.trim
    if limit and trim is None:
        raise CommandError(b"ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")
    if trim is None and not is_xadd:
        raise CommandError(b"ERR syntax error, XTRIM must be called with a trimming strategy")
    if client.is_master_link:
        return  # The master has put in the request how much went.
    if limit is not None and (trim is None or not trim.is_approximate):
        raise CommandError(b"ERR syntax error, LIMIT cannot be used without the special ~ option")
    if trim is not None and trim.is_approximate:
        if limit is None:
            limit = 100 * client.server.settings.stream_node_max_entries
            limit = min(limit, 1_000_000) if limit > 0 else 10_000
        options.trim = Trim(trim.by, trim.threshold, trim.is_approximate, limit)


def exact_trim(argv: list[bytes], options: TrimOptions, stream: StreamValue) -> list[bytes]:
    """The request that has the effect on a replica which this one had here: what ``~`` did depends on our nodes."""
    assert options.trim is not None
    told = argv.copy()
    told[options.threshold_place - 1] = b"="
    by_length = options.trim.by is TrimBy.LENGTH
    told[options.threshold_place] = b"%d" % stream.length if by_length else id_text(stream.edge_id())
    return told


# Replies --------------------------------------------------------------------------------------------------------


def id_reply(entry_id: StreamId) -> bytes:
    """An id as a bulk string."""
    return bulk(id_text(entry_id))


def encode_entries(node: StreamNode, positions: Sequence[int]) -> list[bytes]:
    """Entries of one node: each an array of its id and an array of its fields and values."""
    rows = node.rows()
    base = node.master_id >> 64
    template = _entry_template(node.fields) if len(positions) > _TEMPLATE_PAYS else None
    encoded = []
    for position in positions:
        row = rows[position]
        text = b"%d-%d" % (base + row[0], row[1])
        if template is None or row[2] is None:
            encoded.append(b"*2\r\n$%d\r\n%b\r\n%b" % (len(text), text, bulk_array(node.pairs_of(row))))
        elif len(row) == 3:
            encoded.append(template % (len(text), text, len(row[2]), row[2]))
        else:
            parts = [len(text), text]
            for value in row[2:]:
                parts += (len(value), value)
            encoded.append(template % tuple(parts))
    return encoded


def _entry_template(fields: list[bytes]) -> bytes | None:
    """An entry with these fields, where its id and its values with their lengths are to be put; None without fields."""
    if not fields:
        return None
    names = [b"$%d\r\n%b\r\n$%%d\r\n%%b\r\n" % (len(field), field.replace(b"%", b"%%")) for field in fields]
    return b"*2\r\n$%%d\r\n%%b\r\n*%d\r\n%b" % (2 * len(fields), b"".join(names))


def encode_range(
    stream: StreamValue, start: StreamId, end: StreamId = MAX_ID, most: int = 0, *, backwards: bool = False
) -> list[bytes]:
    """The entries from ``start`` to ``end``, up to ``most`` (0: all) of them."""
    encoded: list[bytes] = []
    spans = stream.spans_backwards(start, end) if backwards else stream.spans(start, end)
    for node, positions in spans:
        if most:
            positions = positions[: most - len(encoded)]
        encoded += encode_entries(node, positions)
        if len(encoded) == most:
            break
    return encoded


def encode_entry(stream: StreamValue, entry_id: StreamId) -> bytes | None:
    """One entry, or None when it is not there."""
    found = stream.find(entry_id)
    return None if found is None else encode_entries(found[0], (found[1],))[0]
