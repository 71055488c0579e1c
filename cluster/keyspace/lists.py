"""List values: elements in order, cheap to add and take at both ends, and packed in between.

Role        The two ends are plain Python lists of up to ``2 * NODE_ELEMENTS`` elements, which is all that a short list
            is. What grows beyond that moves inwards in nodes, whose elements share one bytes object: five bytes each
            over their own length, where an object of its own would take 41 or more. Bulky nodes stay plain lists.
Invariants  ``_sizes[i]`` is the number of elements of ``_nodes[i]``, never 0; ``_inner_count`` is their sum. Either end
            may be empty while the list is not; a pop then takes the next node, or the other end, in its place.
Costs       Push and pop O(1). An index: a bisection over the nodes (whose ends are added up again after they
            changed) and one node to unpack. Searches go through packed nodes as bytes, and unpack what may match.
Format      A node is packed by marshal, whose fixed old version 2 is bytes with a tag and a length; it never leaves
            the process.
Spec        t_list.c, quicklist.c; debug.c (xorObjectDigest).      Units  elements; bytes where named so.
"""

from __future__ import annotations

import marshal
import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, islice
from typing import ClassVar, Final, final

from cluster.keyspace.digest import mix
from cluster.keyspace.reclaim import LARGE, RECLAIMER

NODE_ELEMENTS: Final = 128
NODE_BYTES: Final = 8192
"""A node with more in it is not packed: objects of their own cost its elements little."""


_MOST_AT_END: Final = 2 * NODE_ELEMENTS
_MARSHAL_VERSION: Final = 2  # The last one without references between equal objects.
_LIST_TYPE: Final = (1).to_bytes(4, "big")

Node = bytes | list[bytes]
"""Packed, or a plain list."""


def _pack(elements: list[bytes]) -> Node:
    if sum(map(len, elements)) > NODE_BYTES:
        return elements
    return marshal.dumps(elements, _MARSHAL_VERSION)


def _unpack(node: Node) -> list[bytes]:
    """The elements; of a plain node the very list."""
    if type(node) is list:
        return node
    elements: list[bytes] = marshal.loads(node)  # type: ignore[arg-type]
    return elements


@final
class ListValue:
    """A list. Whoever takes its last element removes the key."""

    __slots__ = ("_ends_at", "_head", "_inner_count", "_nodes", "_sizes", "_tail")

    type_name: ClassVar[bytes] = b"list"

    def __init__(self) -> None:
        self._head: list[bytes] = []
        self._tail: list[bytes] = []
        self._inner_count = 0
        self._nodes: deque[Node] | None = None
        self._sizes: deque[int] | None = None
        self._ends_at: list[int] | None = None
        """Where each node ends, counted from where the first begins; None: to be added up."""

    def __del__(self) -> None:
        if self._nodes is not None and self._inner_count > LARGE:
            RECLAIMER.bury(self._nodes)

    @classmethod
    def of(cls, elements: Iterable[bytes]) -> ListValue:
        """A list of these elements."""
        value = cls()
        value.push_right(elements if isinstance(elements, list) else list(elements))
        return value

    def __len__(self) -> int:
        return len(self._head) + self._inner_count + len(self._tail)

    def free_effort(self) -> int:
        return 1 + self._inner_count // NODE_ELEMENTS

    def __iter__(self) -> Iterator[bytes]:
        return chain(self._head, chain.from_iterable(map(_unpack, self._nodes or ())), self._tail)

    # The ends -------------------------------------------------------------------------------------------------

    def push_left(self, elements: list[bytes]) -> None:
        """Put elements before the first one, one after another: the last of them becomes the first."""
        head = self._head
        if len(elements) == 1:
            head.insert(0, elements[0])
        else:
            head[:0] = elements[::-1]
        if len(head) > _MOST_AT_END:
            self._shed_head()

    def push_right(self, elements: list[bytes]) -> None:
        """Put elements behind the last one."""
        tail = self._tail
        tail += elements
        if len(tail) > _MOST_AT_END:
            self._shed_tail()

    def pop_left(self) -> bytes:
        """Take the first element. The list must not be empty."""
        head = self._head
        if not head:
            head = self._next_head()
        return head.pop(0)

    def pop_right(self) -> bytes:
        """Take the last element. The list must not be empty."""
        tail = self._tail
        if not tail:
            tail = self._next_tail()
        return tail.pop()

    def pop_many_left(self, count: int) -> list[bytes]:
        """Take up to ``count`` elements from the left, the first one first."""
        taken = self.slice(0, min(count, len(self)))
        self.drop_left(len(taken))
        return taken

    def pop_many_right(self, count: int) -> list[bytes]:
        """Take up to ``count`` elements from the right, the last one first."""
        size = len(self)
        taken = self.slice(max(size - count, 0), size)
        taken.reverse()
        self.drop_right(len(taken))
        return taken

    def drop_left(self, count: int) -> None:
        """Remove the first ``count`` elements, or all."""
        while count > 0 and (self._head or self._inner_count):
            if not self._head and self._sizes and self._sizes[0] <= count:
                count -= self._forget_node(first=True)
                continue
            head = self._head or self._next_head()
            dropped = min(count, len(head))
            del head[:dropped]
            count -= dropped
        if count > 0:
            del self._tail[:count]

    def drop_right(self, count: int) -> None:
        """Remove the last ``count`` elements, or all."""
        while count > 0 and (self._tail or self._inner_count):
            if not self._tail and self._sizes and self._sizes[-1] <= count:
                count -= self._forget_node(first=False)
                continue
            tail = self._tail or self._next_tail()
            dropped = min(count, len(tail))
            del tail[len(tail) - dropped :]
            count -= dropped
        if count > 0:
            del self._head[max(len(self._head) - count, 0) :]

    def _next_head(self) -> list[bytes]:
        """The elements that follow an empty head become the head."""
        if self._nodes:
            self._head = _unpack(self._nodes[0])
            self._forget_node(first=True)
        else:
            self._head, self._tail = self._tail, self._head
        return self._head

    def _next_tail(self) -> list[bytes]:
        """The elements before an empty tail become the tail."""
        if self._nodes:
            self._tail = _unpack(self._nodes[-1])
            self._forget_node(first=False)
        else:
            self._head, self._tail = self._tail, self._head
        return self._tail

    def _forget_node(self, *, first: bool) -> int:
        """Drop the node at one end; returns its size."""
        nodes, sizes = self._inner()
        if first:
            nodes.popleft()
            size = sizes.popleft()
        else:
            nodes.pop()
            size = sizes.pop()
        self._inner_count -= size
        self._ends_at = None
        if not nodes:
            self._nodes = self._sizes = None
        return size

    def _shed_head(self) -> None:
        """Move the head's elements inwards until it is no longer than a node."""
        nodes, sizes = self._inner()
        head = self._head
        while len(head) > NODE_ELEMENTS:
            nodes.appendleft(_pack(head[-NODE_ELEMENTS:]))
            sizes.appendleft(NODE_ELEMENTS)
            del head[-NODE_ELEMENTS:]
            self._inner_count += NODE_ELEMENTS
        self._ends_at = None

    def _shed_tail(self) -> None:
        nodes, sizes = self._inner()
        tail = self._tail
        moved = 0
        while len(tail) - moved > NODE_ELEMENTS:
            nodes.append(_pack(tail[moved : moved + NODE_ELEMENTS]))
            sizes.append(NODE_ELEMENTS)
            moved += NODE_ELEMENTS
        # A copy: the list was as long as what was pushed, and would keep that much room.
        self._tail = tail[moved:]
        self._inner_count += moved
        self._ends_at = None

    def _inner(self) -> tuple[deque[Node], deque[int]]:
        if self._nodes is None or self._sizes is None:
            self._nodes, self._sizes = deque(), deque()
        return self._nodes, self._sizes

    # By position ----------------------------------------------------------------------------------------------

    def get(self, index: int) -> bytes | None:
        """The element at ``index`` (from the right when negative), or None."""
        found = self._locate(index)
        return None if found is None else _unpack(found[0])[found[1]]

    def set(self, index: int, element: bytes) -> bool:
        """Replace the element at ``index`` (from the right when negative); False when there is none."""
        found = self._locate(index)
        if found is None:
            return False
        node, offset, number = found
        elements = _unpack(node)
        elements[offset] = element
        if number is not None:
            self._inner()[0][number] = _pack(elements)
        return True

    def slice(self, start: int, stop: int) -> list[bytes]:
        """The elements from ``start`` up to ``stop``, neither negative."""
        head_size = len(self._head)
        tail_start = head_size + self._inner_count
        found = self._head[start:stop]
        if start < tail_start and stop > head_size:
            found += self._inner_slice(max(start - head_size, 0), min(stop, tail_start) - head_size)
        if stop > tail_start:
            found += self._tail[max(start - tail_start, 0) : stop - tail_start]
        return found

    def trim(self, start: int, stop: int) -> None:
        """Keep the elements from ``start`` up to ``stop`` alone."""
        self.drop_right(len(self) - stop)
        self.drop_left(start)

    def _node_ends(self) -> list[int]:
        if self._ends_at is None:
            self._ends_at = list(accumulate(self._sizes or ()))
        return self._ends_at

    def _locate(self, index: int) -> tuple[Node, int, int | None] | None:
        """Where an element is: its node, its place there, and the node's number (None: one of the two ends)."""
        size = len(self)
        if index < 0:
            index += size
        if not 0 <= index < size:
            return None
        head_size = len(self._head)
        if index < head_size:
            return self._head, index, None
        tail_start = head_size + self._inner_count
        if index >= tail_start:
            return self._tail, index - tail_start, None
        index -= head_size
        ends = self._node_ends()
        number = bisect_right(ends, index)
        return self._inner()[0][number], index - (ends[number - 1] if number else 0), number

    def _inner_slice(self, start: int, stop: int) -> list[bytes]:
        """Elements of the nodes, by their position among those."""
        nodes, _sizes = self._inner()
        ends = self._node_ends()
        number = bisect_right(ends, start)
        before = ends[number - 1] if number else 0
        skipped = start - before
        wanted = stop - before
        found: list[bytes] = []
        while len(found) < wanted:
            found += _unpack(nodes[number])
            number += 1
        return found[skipped:wanted]

    # By element -----------------------------------------------------------------------------------------------

    def positions(self, element: bytes, most: int, *, backwards: bool) -> Iterator[int]:
        """How far from the left (from the right, if ``backwards``) ``element`` is found, nearest first.

        No more than ``most`` elements are looked at, all for 0.
        """
        limit = most or len(self)
        packed = marshal.dumps(element, _MARSHAL_VERSION)
        seen = 0
        for node, size in self._backwards() if backwards else self._forwards():
            if seen >= limit:
                return
            if type(node) is list or packed in node:
                elements = _unpack(node)
                if element in elements:
                    for distance, other in enumerate(reversed(elements) if backwards else elements, seen):
                        if distance >= limit:
                            return
                        if other == element:
                            yield distance
            seen += size

    def insert(self, pivot: bytes, element: bytes, *, after: bool) -> bool:
        """Put ``element`` beside the first ``pivot``; False when there is none."""
        index = next(self.positions(pivot, 0, backwards=False), None)
        if index is None:
            return False
        found = self._locate(index)
        assert found is not None
        node, offset, number = found
        elements = _unpack(node)
        elements.insert(offset + after, element)
        if number is None:
            if len(elements) > _MOST_AT_END:
                if elements is self._head:
                    self._shed_head()
                else:
                    self._shed_tail()
            return True
        nodes, sizes = self._inner()
        self._inner_count += 1
        self._ends_at = None
        if len(elements) > _MOST_AT_END:
            nodes.insert(number + 1, _pack(elements[NODE_ELEMENTS:]))
            sizes.insert(number + 1, len(elements) - NODE_ELEMENTS)
            del elements[NODE_ELEMENTS:]
        nodes[number] = _pack(elements)
        sizes[number] = len(elements)
        return True

    def remove(self, element: bytes, count: int) -> int:
        """Take away up to ``count`` equals of ``element``, from the right when negative, all for 0; how many went."""
        most = abs(count) or len(self)
        backwards = count < 0
        first, last = (self._tail, self._head) if backwards else (self._head, self._tail)
        removed = _remove(first, element, most, backwards=backwards)
        if removed < most:
            removed += self._remove_inside(element, most - removed, backwards=backwards)
        if removed < most:
            removed += _remove(last, element, most - removed, backwards=backwards)
        return removed

    def _remove_inside(self, element: bytes, most: int, *, backwards: bool) -> int:
        if self._nodes is None or self._sizes is None:
            return 0
        packed = marshal.dumps(element, _MARSHAL_VERSION)
        changed: dict[int, list[bytes]] = {}
        removed = 0
        last = len(self._nodes) - 1
        for distance, node in enumerate(reversed(self._nodes) if backwards else self._nodes):
            if type(node) is not list and packed not in node:
                continue
            elements = _unpack(node)
            here = _remove(elements, element, most - removed, backwards=backwards)
            if here:
                removed += here
                changed[last - distance if backwards else distance] = elements
                if removed == most:
                    break
        if removed:
            self._replace_nodes(changed, self._inner_count - removed)
        return removed

    def _replace_nodes(self, changed: dict[int, list[bytes]], inner_count: int) -> None:
        """Put shorter nodes in the place of others; all are packed anew when they have become too short for it."""
        nodes, sizes = self._inner()
        self._ends_at = None
        self._inner_count = inner_count
        if inner_count * 4 < len(nodes) * NODE_ELEMENTS:
            left = [
                element
                for number, node in enumerate(nodes)
                for element in (changed[number] if number in changed else _unpack(node))
            ]
            starts = range(0, inner_count, NODE_ELEMENTS)
            self._nodes = deque(_pack(left[start : start + NODE_ELEMENTS]) for start in starts)
            self._sizes = deque(min(NODE_ELEMENTS, inner_count - start) for start in starts)
        else:
            for number, elements in changed.items():
                nodes[number] = _pack(elements)
                sizes[number] = len(elements)
            if not all(sizes):
                self._nodes = deque(node for node, size in zip(nodes, sizes, strict=True) if size)
                self._sizes = deque(size for size in sizes if size)
        if not inner_count:
            self._nodes = self._sizes = None

    def _forwards(self) -> Iterator[tuple[Node, int]]:
        """Every node, the two ends among them, with its size."""
        yield self._head, len(self._head)
        yield from zip(self._nodes or (), self._sizes or (), strict=True)
        yield self._tail, len(self._tail)

    def _backwards(self) -> Iterator[tuple[Node, int]]:
        yield self._tail, len(self._tail)
        if self._nodes is not None and self._sizes is not None:
            yield from zip(reversed(self._nodes), reversed(self._sizes), strict=True)
        yield self._head, len(self._head)

    # As a value -----------------------------------------------------------------------------------------------

    def encoding(self) -> bytes:
        return b"quicklist"

    def copy(self) -> ListValue:
        other = ListValue()
        other._head = self._head.copy()
        other._tail = self._tail.copy()
        if self._nodes is not None and self._sizes is not None:
            other._nodes = deque(node.copy() if type(node) is list else node for node in self._nodes)
            other._sizes = self._sizes.copy()
            other._inner_count = self._inner_count
        return other

    def mix_into_digest(self, digest: bytes) -> bytes:
        """Add the list to a digest of the data set."""
        digest = mix(digest, _LIST_TYPE)
        for element in self:
            digest = mix(digest, element)
        return digest

    def memory_bytes(self, samples: int) -> int:
        """What it needs, judged by ``samples`` nodes (0: all) beside the two ends."""
        own = sum(map(sys.getsizeof, (self, self._nodes, self._sizes, self._ends_at)))
        looked_at = list(islice(self._nodes or (), samples or None))
        inside = sum(map(_node_bytes, looked_at)) * len(self._nodes or ()) // max(len(looked_at), 1)
        return own + _node_bytes(self._head) + inside + _node_bytes(self._tail)


def _node_bytes(node: Node) -> int:
    own = sys.getsizeof(node)
    return own + sum(map(sys.getsizeof, node)) if type(node) is list else own


def _remove(elements: list[bytes], element: bytes, most: int, *, backwards: bool) -> int:
    """Take up to ``most`` equals of ``element`` out of a list of some hundred elements; returns how many went."""
    count = elements.count(element)
    if not count:
        return 0
    if count <= most:
        elements[:] = [other for other in elements if other != element]
        return count
    if backwards:
        elements.reverse()
    for _ in range(most):
        elements.remove(element)
    if backwards:
        elements.reverse()
    return most
