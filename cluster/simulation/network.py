"""Virtual time, and TCP connections that are slow, cut, held up by partitions or broken.

Role        :class:`Scheduler` is the clock: actions in order of time. :class:`Network` carries messages between hosts.
Invariants  As TCP: within one direction of one connection, messages arrive in order, once, or never again after a gap.
            A partition delays (the kernel retransmits) until it heals or somebody closes; it loses nothing by itself.
            The same seed gives the same run: randomness has one source, ties are broken by order.
Units       Milliseconds of virtual time.
"""

from __future__ import annotations

import functools
import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

import attrs

from cluster.gossip.messages import Message
from cluster.gossip.state import Link

Action: TypeAlias = Callable[[], None]

EPOCH_MS: Final = 1_000_000
"""Where virtual time begins: not at 0, which means "never" to the engines."""
RETRANSMIT_MS: Final = 50


class Scheduler:
    """Runs actions when their time has come."""

    def __init__(self) -> None:
        self.now_ms = EPOCH_MS
        self._queue: list[tuple[int, int, Action]] = []
        self._issued = 0

    def after(self, delay_ms: int, action: Action) -> None:
        """Run ``action`` in ``delay_ms``."""
        self._issued += 1
        heapq.heappush(self._queue, (self.now_ms + delay_ms, self._issued, action))

    def run_until(self, end_ms: int) -> None:
        """Let virtual time pass."""
        while self._queue and self._queue[0][0] <= end_ms:
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()
        self.now_ms = end_ms


class Host(Protocol):
    """One end of connections: a node with its kernel."""

    ip: str
    cport: int
    is_running: bool
    incarnation: int
    """Grows with each start: a connection begun by an earlier process is none of this one's."""

    def accepted(self, peer_ip: str) -> Link | None:
        """Somebody connected. None if that end closed before it was looked at."""

    def deliver(self, action: Action) -> None:
        """Let the process do this when it runs; now, unless it is stopped."""

    def on_connected(self, link: Link, peer_ip: str) -> None: ...

    def on_connect_failed(self, link: Link) -> None: ...

    def on_closed(self, link: Link) -> None: ...

    def on_message(self, link: Link, message: Message) -> None: ...


@attrs.define(eq=False)
class _Stream:
    """One direction of a connection. ``None`` in the queue is the end of the stream."""

    source: Host
    source_link: Link | None
    """The sender's end; None until the target has accepted."""
    target: Host
    link: Link | None
    """The receiver's end; None until it has accepted."""
    queue: deque[tuple[int, Message | None]] = attrs.field(factory=deque)
    is_pumping: bool = False
    is_ended: bool = False


class Network:
    """Connects hosts. Faults: ``cut`` (directed pairs of addresses), ``delay_ms`` (bounds), ``reset_link``."""

    def __init__(self, scheduler: Scheduler, rng: random.Random) -> None:
        self.scheduler = scheduler
        self.rng = rng
        self.hosts: dict[tuple[str, int], Host] = {}
        self.cut: set[tuple[str, str]] = set()
        self.delay_ms = (0, 3)
        self._streams: dict[Link, _Stream] = {}
        """By the sender's link: where what is sent on it goes."""

    def connect(self, host: Host, link: Link, ip: str, port: int) -> None:
        """Begin to connect ``link`` of ``host``; its outcome is delivered to the host."""
        begun_by = host.incarnation

        def finish() -> None:
            if link.is_open and host.is_running and host.incarnation == begun_by:
                self._finish_connecting(host, link, ip, port, finish)

        self.scheduler.after(2 * self._delay(), finish)

    def send(self, link: Link, message: Message) -> None:
        """Put ``message`` on its way. Nothing happens if the connection is gone."""
        stream = self._streams.get(link)
        if stream is not None and not stream.is_ended:
            self._push(stream, message)

    def close(self, link: Link) -> None:
        """The owner of ``link`` closes it; the other end learns that when it has read what was sent before."""
        stream = self._streams.pop(link, None)
        if stream is not None and not stream.is_ended:
            stream.is_ended = True
            self._push(stream, None)

    def links_of(self, host: Host) -> list[Link]:
        """The open ends that belong to ``host``."""
        return [link for link, stream in self._streams.items() if stream.source is host]

    def reset_link(self, link: Link) -> None:
        """Break a connection: what is under way is lost, both ends learn of it."""
        stream = self._streams.get(link)
        if stream is None:
            return
        stream.queue.clear()
        self.close(link)
        owner = stream.source
        owner.deliver(lambda: owner.on_closed(link))

    def is_reachable(self, one: Host, other: Host) -> bool:
        """Whether packets pass both ways."""
        return (one.ip, other.ip) not in self.cut and (other.ip, one.ip) not in self.cut

    def _delay(self) -> int:
        return self.rng.randint(*self.delay_ms)

    def _finish_connecting(self, host: Host, link: Link, ip: str, port: int, again: Action) -> None:
        target = self.hosts.get((ip, port))
        if target is not None and not self.is_reachable(host, target):
            self.scheduler.after(RETRANSMIT_MS, again)
            return
        if target is None or not target.is_running:
            host.deliver(lambda: host.on_connect_failed(link))
            return
        there, back = _Stream(host, link, target, None), _Stream(target, None, host, link)
        self._streams[link] = there
        # A stopped process accepts nothing, but its kernel does.
        target.deliver(lambda: self._accept(there, back))
        host.deliver(lambda: host.on_connected(link, target.ip))

    def _accept(self, there: _Stream, back: _Stream) -> None:
        link = there.target.accepted(there.source.ip)
        if link is None:
            return
        there.link = back.source_link = link
        self._streams[link] = back

    def _push(self, stream: _Stream, item: Message | None) -> None:
        ready_ms = self.scheduler.now_ms + self._delay()
        if stream.queue:
            ready_ms = max(ready_ms, stream.queue[-1][0])
        stream.queue.append((ready_ms, item))
        if not stream.is_pumping:
            stream.is_pumping = True
            self.scheduler.after(ready_ms - self.scheduler.now_ms, lambda: self._pump(stream))

    def _pump(self, stream: _Stream) -> None:
        """Deliver what is due, in order; try again later behind a partition."""
        target = stream.target
        while stream.queue and stream.queue[0][0] <= self.scheduler.now_ms:
            if (stream.source.ip, target.ip) in self.cut:
                self.scheduler.after(RETRANSMIT_MS, lambda: self._pump(stream))
                return
            _, item = stream.queue.popleft()
            if target.is_running:
                target.deliver(functools.partial(self._receive, stream, item))
            else:
                self._refuse(stream)
        if stream.queue:
            self.scheduler.after(stream.queue[0][0] - self.scheduler.now_ms, lambda: self._pump(stream))
        else:
            stream.is_pumping = False

    def _receive(self, stream: _Stream, item: Message | None) -> None:
        link = stream.link
        if link is None or link not in self._streams:
            self._refuse(stream)
        elif item is None:
            del self._streams[link]
            stream.target.on_closed(link)
        else:
            stream.target.on_message(link, item)

    def _refuse(self, stream: _Stream) -> None:
        """Nobody is at the receiving end any more: the sender learns that, if it has not closed itself."""
        link = stream.source_link
        if link is not None and self._streams.get(link) is stream:
            del self._streams[link]
            stream.source.deliver(lambda: stream.source.on_closed(link))
