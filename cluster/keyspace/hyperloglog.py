"""HyperLogLog: the number of distinct elements, estimated from 16384 registers of 6 bits, in Redis's own bytes.

Role        A HyperLogLog is a string of the keyspace: 16 bytes of header (``HYLL``, the encoding, three zero bytes,
            the cached cardinality) and the registers, either all of them ("dense") or as runs ("sparse"). Everything
            here works on such a ``bytearray`` in place, and leaves the same bytes as Redis does.
Invariants  A register only ever grows. The cache's highest bit set means that the cache is stale.
Speed       No function walks over all registers in Python but in reply to a corrupted string: registers are unpacked to
            one byte each by base64, which cuts bytes into groups of six bits too; run lengths are added up by C.
Spec        hyperloglog.c. The estimator is Otmar Ertl's (arXiv:1702.01284).
"""

from __future__ import annotations

import binascii
import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from operator import sub
from struct import unpack_from
from typing import Final

REGISTER_COUNT: Final = 1 << 14
HEADER_BYTES: Final = 16
DENSE_BYTES: Final = HEADER_BYTES + REGISTER_COUNT * 6 // 8
DENSE, SPARSE = 0, 1

_INDEX_BITS: Final = 14
_RANK_BITS: Final = 64 - _INDEX_BITS
_GREATEST_SPARSE_RANK: Final = 32
_LONGEST_VALUE_RUN: Final = 4
_LONGEST_ZERO_RUN: Final = 64
_MERGE_SCAN_OPCODES: Final = 5
_MANY: Final = 12
"""From this number of changes on it pays to take the runs apart and put them together again."""
_ALPHA: Final = 0.721347520444481703680  # 0.5 / ln 2
_STALE: Final = 0x80
_NO_CARDINALITY: Final = 1 << 63
"""What C makes of an estimate that no integer can hold: only forged registers lead to one."""


class CorruptedError(Exception):
    """The runs of a sparse string do not cover exactly all registers."""


def new() -> bytearray:
    """An empty one: sparse, a single run of zeros."""
    return bytearray(b"HYLL\x01" + bytes(11) + b"\x7f\xff")


def is_valid(content: bytes | bytearray) -> bool:
    """Whether a string looks like a HyperLogLog (isHLLObjectOrReply); its runs may still be corrupted."""
    if len(content) < HEADER_BYTES or content[:4] != b"HYLL" or content[4] > SPARSE:
        return False
    return content[4] == SPARSE or len(content) == DENSE_BYTES


# Hashing --------------------------------------------------------------------------------------------------------------

_MASK64: Final = 2**64 - 1
_MULTIPLIER: Final = 0xC6A4A7935BD1E995
_SEED: Final = 0xADC83B19


def murmur_hash64a(data: bytes, seed: int) -> int:
    """MurmurHash2, 64-bit version."""
    size = len(data)
    result = seed ^ (size * _MULTIPLIER & _MASK64)
    whole = size >> 3
    if whole:
        for word in unpack_from(f"<{whole}Q", data):
            word = word * _MULTIPLIER & _MASK64
            result = (result ^ ((word ^ (word >> 47)) * _MULTIPLIER & _MASK64)) * _MULTIPLIER & _MASK64
    if size & 7:
        result = (result ^ int.from_bytes(data[whole << 3 :], "little")) * _MULTIPLIER & _MASK64
    result = (result ^ (result >> 47)) * _MULTIPLIER & _MASK64
    return result ^ (result >> 47)


def _place(element: bytes) -> tuple[int, int]:
    """The register of an element, and its rank: the position of the lowest bit set in the rest of its hash."""
    hashed = murmur_hash64a(element, _SEED)
    rest = hashed >> _INDEX_BITS | 1 << _RANK_BITS
    return hashed & (REGISTER_COUNT - 1), (rest & -rest).bit_length()


# Changing -------------------------------------------------------------------------------------------------------------


def add(content: bytearray, element: bytes, most_sparse_bytes: int) -> bool:
    """Count an element; True when a register changed. The cache is the caller's. Raises CorruptedError."""
    index, rank = _place(element)
    return _set(content, index, rank, most_sparse_bytes)


def _set(content: bytearray, index: int, rank: int, most_sparse_bytes: int) -> bool:
    if content[4] == DENSE:
        return _set_dense(content, index, rank)
    return _set_sparse(content, index, rank, most_sparse_bytes)


def _set_dense(content: bytearray, index: int, rank: int) -> bool:
    bit = index * 6
    place, shift = HEADER_BYTES + (bit >> 3), bit & 7
    low = content[place]
    if shift <= 2:
        if low >> shift & 63 >= rank:
            return False
        content[place] = low & ~(63 << shift) | rank << shift
        return True
    high = content[place + 1]
    if (low | high << 8) >> shift & 63 >= rank:
        return False
    both = (low | high << 8) & ~(63 << shift) | rank << shift
    content[place], content[place + 1] = both & 255, both >> 8
    return True


# Opcodes of the sparse encoding: 00xxxxxx a run of zeros, 01xxxxxx yyyyyyyy a long one, 1vvvvvxx the run of a value.
_LONG_ZEROS: Final = re.compile(b"[\x40-\x7f]")
_SPANS: Final = bytes((code & 3) + 1 if code & 0x80 else (code & 63) + 1 for code in range(256))
"""How many registers an opcode of one byte stands for."""
_RUNS: Final = [bytes([(code >> 2 & 31) + 1 if code & 0x80 else 0]) * _SPANS[code] for code in range(256)]
"""Their values."""
_STRIDE: Final = 64


def _zeros(length: int) -> bytes:
    if length > _LONGEST_ZERO_RUN:
        return bytes((0x40 | (length - 1) >> 8, (length - 1) & 255))
    return bytes((length - 1,))


def _value(rank: int, length: int) -> bytes:
    return bytes((0x80 | (rank - 1) << 2 | (length - 1),))


def _find_run(content: bytearray, index: int) -> tuple[int, int, int, int]:
    """The opcode that covers a register: place, first register, length of the run, place of the opcode before (or -1).

    Raises CorruptedError when there is none.
    """
    spans = content.translate(_SPANS)
    end = len(content)
    place, first, before = HEADER_BYTES, 0, -1
    while place < end:
        found = _LONG_ZEROS.search(content, place)
        stop = found.start() if found else end
        # Opcodes of one byte up to `stop`: in strides while the register is further on.
        while place < stop:
            stride_end = min(place + _STRIDE, stop)
            covered = sum(spans[place:stride_end])
            if first + covered > index:
                break
            first += covered
            before, place = stride_end - 1, stride_end
        while place < stop:
            if first + spans[place] > index:
                return place, first, spans[place], before
            first += spans[place]
            before, place = place, place + 1
        if found:
            low = content[place + 1] if place + 1 < end else 0
            length = ((content[place] & 63) << 8 | low) + 1
            if first + length > index:
                return place, first, length, before
            first += length
            before, place = place, place + 2
    raise CorruptedError


def _set_sparse(content: bytearray, index: int, rank: int, most_sparse_bytes: int) -> bool:
    """Raise a register of a sparse one; it becomes dense when the rank or the result's size asks for that."""
    if rank > _GREATEST_SPARSE_RANK:
        return _promote_and_set(content, index, rank)
    place, first, length, before = _find_run(content, index)
    code = content[place]
    after = first + length - 1 - index
    if code & 0x80:
        current = (code >> 2 & 31) + 1
        if current >= rank:
            return False
        left = _value(current, index - first) if index > first else b""
        right = _value(current, after) if after else b""
    else:
        left = _zeros(index - first) if index > first else b""
        right = _zeros(after) if after else b""
    runs = left + _value(rank, 1) + right
    replaced = 2 if 0x40 <= code < 0x80 else 1
    if len(runs) > replaced and len(content) + len(runs) - replaced > most_sparse_bytes:
        return _promote_and_set(content, index, rank)
    content[place : place + replaced] = runs
    _merge_neighbours(content, before if before >= 0 else HEADER_BYTES)
    content[15] |= _STALE
    return True


def _merge_neighbours(content: bytearray, place: int) -> None:
    """Join runs of the same value, looking at a few opcodes from ``place`` on."""
    for _ in range(_MERGE_SCAN_OPCODES):
        if place >= len(content):
            return
        code = content[place]
        if code < 0x80:
            place += 2 if code & 0x40 else 1
            continue
        if place + 1 < len(content):
            following = content[place + 1]
            length = (code & 3) + (following & 3) + 2
            if code & 0xFC == following & 0xFC and length <= _LONGEST_VALUE_RUN:
                content[place : place + 2] = bytes((code & 0xFC | (length - 1),))
                continue
        place += 1


class _Runs:
    """The runs of a sparse one as lists, while many registers are raised: a run is found by bisection.

    What becomes of the runs is the same, step by step, as in :func:`_set_sparse`.
    """

    __slots__ = ("firsts", "ranks", "size_bytes")

    def __init__(self, content: bytearray) -> None:
        """Raises CorruptedError also for runs that are right, but not as Redis writes them."""
        self.firsts: list[int] = []
        self.ranks: list[int] = []
        first = 0
        for code, length in _opcodes(content):
            self.firsts.append(first)
            self.ranks.append((code >> 2 & 31) + 1 if code & 0x80 else 0)
            first += length
        self.firsts.append(first)
        self.size_bytes = len(content)
        if first != REGISTER_COUNT or self.encode() != content[HEADER_BYTES:]:
            raise CorruptedError

    def encode(self) -> bytes:
        """The runs as bytes."""
        firsts = self.firsts
        lengths = map(sub, islice(firsts, 1, None), firsts)
        return b"".join([_value(rank, size) if rank else _zeros(size) for rank, size in zip(self.ranks, lengths)])  # noqa: B905

    def set(self, index: int, rank: int, most_bytes: int) -> bool | None:
        """Raise a register: False when it is not lower; None when the result would be too large, and is not made."""
        firsts, ranks = self.firsts, self.ranks
        place = bisect_right(firsts, index) - 1
        current, first, end = ranks[place], firsts[place], firsts[place + 1]
        if current >= rank:
            return False
        new_firsts, new_ranks = [index], [rank]
        growth = 1 - _run_bytes(current, end - first)
        if index > first:
            new_firsts, new_ranks = [first, index], [current, rank]
            growth += _run_bytes(current, index - first)
        if index + 1 < end:
            new_firsts.append(index + 1)
            new_ranks.append(current)
            growth += _run_bytes(current, end - index - 1)
        if growth > 0 and self.size_bytes + growth > most_bytes:
            return None
        firsts[place : place + 1] = new_firsts
        ranks[place : place + 1] = new_ranks
        self.size_bytes += growth
        self._merge_neighbours(max(place - 1, 0))
        return True

    def _merge_neighbours(self, place: int) -> None:
        firsts, ranks = self.firsts, self.ranks
        for _ in range(_MERGE_SCAN_OPCODES):
            if place + 1 >= len(ranks):
                return
            is_same = ranks[place] == ranks[place + 1] != 0
            if is_same and firsts[place + 2] - firsts[place] <= _LONGEST_VALUE_RUN:
                del firsts[place + 1], ranks[place + 1]
                self.size_bytes -= 1
            else:
                place += 1


def _run_bytes(rank: int, length: int) -> int:
    return 2 if not rank and length > _LONGEST_ZERO_RUN else 1


def add_many(content: bytearray, elements: list[bytes], most_sparse_bytes: int) -> int:
    """Count elements, as :func:`add` one after another; returns how many changed a register. Raises CorruptedError."""
    return raise_many(content, list(map(_place, elements)), most_sparse_bytes)


def raise_many(content: bytearray, places: list[tuple[int, int]], most_sparse_bytes: int) -> int:
    """Raise registers to ranks, one after another; returns how many changed. Raises CorruptedError."""
    changes = done = 0
    if content[4] == SPARSE and len(places) >= _MANY:
        try:
            runs = _Runs(content)
        except CorruptedError:
            return sum(_set(content, index, rank, most_sparse_bytes) for index, rank in places)
        for index, rank in places:
            changed = runs.set(index, rank, most_sparse_bytes) if rank <= _GREATEST_SPARSE_RANK else None
            if changed is None:
                break
            changes += changed
            done += 1
        content[HEADER_BYTES:] = runs.encode()
    return changes + sum(_set(content, index, rank, most_sparse_bytes) for index, rank in places[done:])


def _promote_and_set(content: bytearray, index: int, rank: int) -> bool:
    make_dense(content)
    return _set_dense(content, index, rank)


def make_dense(content: bytearray) -> None:
    """Give up the sparse encoding. Raises CorruptedError."""
    if content[4] == SPARSE:
        content[HEADER_BYTES:] = _packed(registers(content))
        content[4] = DENSE


def mark_stale(content: bytearray) -> None:
    """Say that the cached cardinality is no longer right."""
    content[15] |= _STALE


# Registers as bytes ---------------------------------------------------------------------------------------------------

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_DIGITS_TO_NUMBERS: Final = bytes.maketrans(_ALPHABET, bytes(range(64)))
_NUMBERS_TO_DIGITS: Final = bytes.maketrans(bytes(range(64)), _ALPHABET)


def _unpacked(packed: bytes | bytearray) -> bytes:
    """Registers of 6 bits, lowest bits first, to one byte each. Base64 begins with the highest: hence the turning."""
    return binascii.b2a_base64(packed[::-1], newline=False).translate(_DIGITS_TO_NUMBERS)[::-1]


def _packed(unpacked: bytes) -> bytes:
    return binascii.a2b_base64(unpacked.translate(_NUMBERS_TO_DIGITS)[::-1])[::-1]


def registers(content: bytes | bytearray) -> bytes:
    """All registers, a byte each. Raises CorruptedError."""
    if content[4] == DENSE:
        return _unpacked(content[HEADER_BYTES:])
    return _expand(content)


def _expand(content: bytes | bytearray) -> bytes:
    """The registers of all runs. Raises CorruptedError unless that makes all of them and no more.

    What goes too far is given up at once: forged runs would need thousands of times their size.
    """
    parts: list[bytes] = []
    covered = 0
    place, end = HEADER_BYTES, len(content)
    while place < end:
        found = _LONG_ZEROS.search(content, place)
        stop = found.start() if found else end
        if stop - place > REGISTER_COUNT:
            raise CorruptedError
        part = b"".join(map(_RUNS.__getitem__, content[place:stop]))
        if found:
            part += bytes(_long_zeros_length(content, stop))
        parts.append(part)
        covered += len(part)
        if covered > REGISTER_COUNT:
            raise CorruptedError
        place = stop + 2
    if covered != REGISTER_COUNT:
        raise CorruptedError
    return b"".join(parts)


def _long_zeros_length(content: bytes | bytearray, place: int) -> int:
    low = content[place + 1] if place + 1 < len(content) else 0
    return ((content[place] & 63) << 8 | low) + 1


def _opcodes(content: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """The opcodes of a sparse one: first byte and length of the run."""
    place = HEADER_BYTES
    while place < len(content):
        code = content[place]
        if 0x40 <= code < 0x80:
            yield code, _long_zeros_length(content, place)
            place += 2
        else:
            yield code, _SPANS[code]
            place += 1


def describe_runs(content: bytes | bytearray) -> bytes:
    """PFDEBUG DECODE: ``z:length``, ``Z:length`` and ``v:value,length``."""
    words = []
    for code, length in _opcodes(content):
        if code & 0x80:
            words.append(b"v:%d,%d" % ((code >> 2 & 31) + 1, length))
        else:
            words.append((b"Z:%d" if code & 0x40 else b"z:%d") % length)
    return b" ".join(words)


# Several at once ------------------------------------------------------------------------------------------------------

_EVERY_0X80: Final = int.from_bytes(b"\x80" * REGISTER_COUNT, "little")


def greatest(first: bytes, second: bytes) -> bytes:
    """Register by register the greater of two (a byte each): one subtraction of long integers compares them all."""
    ours, theirs = int.from_bytes(first, "little"), int.from_bytes(second, "little")
    not_less = ((ours | _EVERY_0X80) - theirs) & _EVERY_0X80
    chosen = not_less - (not_less >> 7)
    return (theirs ^ ((ours ^ theirs) & chosen)).to_bytes(REGISTER_COUNT, "little")


def store(content: bytearray, values: bytes, most_sparse_bytes: int) -> None:
    """Raise the registers to ``values`` (a byte each), in ascending order as Redis does. Raises CorruptedError."""
    if content[4] == SPARSE:
        if content[HEADER_BYTES:] == b"\x7f\xff":
            runs = _encode_runs(values, most_sparse_bytes)
            if runs is None:
                make_dense(content)
            else:
                content[HEADER_BYTES:] = runs
        current = registers(content)
        raised = [(index, values[index]) for index in _differences(current, values) if values[index] > current[index]]
        raise_many(content, raised, most_sparse_bytes)
    if content[4] == DENSE:
        content[HEADER_BYTES:] = _packed(greatest(_unpacked(content[HEADER_BYTES:]), values))
    mark_stale(content)


def _differences(first: bytes, second: bytes) -> Iterator[int]:
    """The places where two differ."""
    if first == second:
        return
    both = int.from_bytes(first, "little") ^ int.from_bytes(second, "little")
    for found in re.finditer(rb"[^\x00]", both.to_bytes(REGISTER_COUNT, "little")):
        yield found.start()


def _encode_runs(values: bytes, most_sparse_bytes: int) -> bytes | None:
    """The runs that raising the registers of an empty one in order leads to; None when it would become dense."""
    parts: list[bytes] = []
    used = HEADER_BYTES  # Without the zeros that are left at the end.
    previous, previous_rank, previous_length = -1, 0, 0
    for found in re.finditer(rb"[^\x00]", values):
        index = found.start()
        rank = values[index]
        if rank > _GREATEST_SPARSE_RANK:
            return None
        rest_before = REGISTER_COUNT - 1 - previous
        gap, rest = index - previous - 1, REGISTER_COUNT - 1 - index
        zeros = _zeros(gap) if gap else b""
        tail_before = 2 if rest_before > _LONGEST_ZERO_RUN else 1
        tail = 0 if not rest else 2 if rest > _LONGEST_ZERO_RUN else 1
        growth = len(zeros) + 1 + tail - tail_before
        if growth > 0 and used + tail_before + growth > most_sparse_bytes:
            return None
        if not gap and rank == previous_rank and previous_length < _LONGEST_VALUE_RUN and parts:
            previous_length += 1
            parts[-1] = _value(rank, previous_length)
        else:
            previous_rank, previous_length = rank, 1
            if zeros:
                parts.append(zeros)
            parts.append(_value(rank, 1))
            used += len(zeros) + 1
        previous = index
    if previous < REGISTER_COUNT - 1:
        parts.append(_zeros(REGISTER_COUNT - 1 - previous))
    return b"".join(parts)


# Counting -------------------------------------------------------------------------------------------------------------


def cached_cardinality(content: bytes | bytearray) -> int | None:
    """The cardinality as counted last, None when it is stale."""
    return None if content[15] & _STALE else int.from_bytes(content[8:16], "little")


def cache_cardinality(content: bytearray, cardinality: int) -> None:
    """Keep what was counted."""
    content[8:16] = cardinality.to_bytes(8, "little")


def count(content: bytes | bytearray) -> int:
    """The estimated cardinality. Raises CorruptedError."""
    if content[4] == DENSE:
        return estimate(_unpacked(content[HEADER_BYTES:]))
    return estimate(_expand(content))


def estimate(values: bytes) -> int:
    """The cardinality that registers (a byte each) speak for."""
    histogram = [0] * 64
    left = REGISTER_COUNT
    for rank in range(64):
        histogram[rank] = found = values.count(rank)
        left -= found
        if not left:
            break
    size = float(REGISTER_COUNT)
    total = size * _tau((size - histogram[_RANK_BITS + 1]) / size)
    for rank in range(_RANK_BITS, 0, -1):
        total = (total + histogram[rank]) * 0.5
    total += size * _sigma(histogram[0] / size)
    if total == 0:
        return _NO_CARDINALITY
    result = _ALPHA * size * size / total
    whole = math.floor(result)
    if result - whole >= 0.5:
        whole += 1
    return whole if whole < _NO_CARDINALITY else _NO_CARDINALITY


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    y, z = 1.0, x
    while True:
        x *= x
        before = z
        z += x * y
        y += y
        if z == before:
            return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z = 1.0, 1 - x
    while True:
        x = math.sqrt(x)
        before = z
        y *= 0.5
        z -= (1 - x) * (1 - x) * y
        if z == before:
            return z / 3
