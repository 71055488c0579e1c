"""LOLWUT: something to look at, and the version below it (lolwut.c, which wants every version to draw its own).

Drawn is a cluster: its nodes on a circle, each with a line to every other, as the bus has them. A character of Braille
holds two by four points.
"""

from __future__ import annotations

import math

from cluster.commands.arguments import parse_integer
from cluster.commands.context import Session
from cluster.commands.registry import command

_REDIS_VERSION = b"7.0.15"
_DEFAULT_COLUMNS, _COLUMNS_MAX = 44, 1000
_NODES_MIN, _NODES_MAX = 3, 64
_DRAWING_VERSIONS = (5, 6)
"""Versions whose LOLWUT takes arguments in Redis."""
_DOT_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@command("lolwut")
def lolwut(client: Session, argv: list[bytes]) -> bytes:
    """LOLWUT [VERSION version [columns [nodes]]]"""
    columns, nodes = _DEFAULT_COLUMNS, client.server.rng.randint(5, 13)
    if len(argv) > 2 and argv[1].lower() == b"version":
        if parse_integer(argv[2]) in _DRAWING_VERSIONS:
            numbers = [parse_integer(word) for word in argv[3:5]]
            if numbers:
                columns = min(max(numbers[0], 1), _COLUMNS_MAX)
            if len(numbers) > 1:
                nodes = min(max(numbers[1], _NODES_MIN), _NODES_MAX)
    text = _draw_mesh(columns, nodes)
    caption = f"\n{nodes} nodes, {nodes * (nodes - 1)} links, 16384 slots.\n\n"
    return client.proto.verbatim((text + caption).encode() + b"Redis ver. %b\n" % _REDIS_VERSION)


def _draw_mesh(columns: int, nodes: int) -> str:
    """A circle ``columns`` characters wide, every one of its points joined to every other."""
    diameter = 2 * columns
    lines = -(-diameter // 4)
    cells = [[0] * columns for _ in range(lines)]
    radius = (diameter - 1) / 2
    angles = [2 * math.pi * index / nodes - math.pi / 2 for index in range(nodes)]
    points = [(radius + radius * math.cos(angle), radius + radius * math.sin(angle)) for angle in angles]
    for index, (x1, y1) in enumerate(points):
        for x2, y2 in points[index + 1 :]:
            steps = max(1, math.ceil(max(abs(x2 - x1), abs(y2 - y1))))
            for step in range(steps + 1):
                x, y = round(x1 + (x2 - x1) * step / steps), round(y1 + (y2 - y1) * step / steps)
                cells[y // 4][x // 2] |= _DOT_BITS[y % 4][x % 2]
    return "".join("".join(chr(0x2800 + cell) for cell in line).rstrip("\u2800") + "\n" for line in cells)
