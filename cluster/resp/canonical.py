"""Commands in the one canonical spelling, read many at a time: a master's stream, an append only file.

Invariant   Takes only what the exact parser would take, and ends where that would: by the comparison of headers of
            accelerator.py, or compiled by the scanner. What it does not take is left to the caller's exact reader.
Costs       Interpreted, 0.4 µs for a SET and 0.9 for a command of another number of words. Three words, which most
            effects have, are unpacked as in accelerator.py: the general way would take them 0.9 as well.
Units       positions in bytes.
"""

from __future__ import annotations

from cluster.resp.parser import ARGUMENT_COUNTS, BULK_HEADERS
from cluster.resp.scanner import IS_COMPILED, scan

Batch = list[tuple[list[bytes], int]]
"""Commands, each with the position behind it."""


def read_canonical(window: bytes, position: int) -> Batch:
    """The commands at the front of ``window``, which begins at ``position``; none where an odd one comes first."""
    return scan_canonical(window, position) if IS_COMPILED else split_canonical(window, position)


def scan_canonical(window: bytes, position: int) -> Batch:
    """:func:`read_canonical` of the compiled build."""
    commands: list[list[bytes]] = []
    ends: list[int] = []
    scan(window, commands, ends)
    return [(command, position + end) for command, end in zip(commands, ends, strict=True)]


def split_canonical(window: bytes, position: int) -> Batch:
    """:func:`read_canonical` of interpreted code."""
    pieces = window.split(b"\r\n")
    pieces.pop()  # No line end follows: nothing, or the beginning of something.
    headers = BULK_HEADERS
    batch: Batch = []
    end = position
    index = 0
    last = len(pieces)
    try:
        while index < last:
            count = pieces[index]
            if count == b"*3":
                _, size0, arg0, size1, arg1, size2, arg2 = pieces[index : index + 7]
                if headers[len(arg0)] != size0 or headers[len(arg1)] != size1 or headers[len(arg2)] != size2:
                    break
                index += 7
                end += 16 + len(size0) + len(arg0) + len(size1) + len(arg1) + len(size2) + len(arg2)
                batch.append(([arg0, arg1, arg2], end))
                continue
            following = index + 1 + 2 * ARGUMENT_COUNTS[count]
            words = pieces[index + 2 : following : 2]
            sizes = pieces[index + 1 : following : 2]
            if following > last or [headers[len(word)] for word in words] != sizes:
                break
            index = following
            end += len(count) + 2 + sum(map(len, words)) + sum(map(len, sizes)) + 4 * len(words)
            batch.append((words, end))
    except (IndexError, KeyError, ValueError):
        pass  # A word beyond the table of headers, an annotation, a count that is none, fewer pieces than it says.
    return batch
