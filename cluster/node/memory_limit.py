"""maxmemory: asks how much is used, evicts keys until it is enough, refuses what would need more.

Role        Every command that passes the gates asks :meth:`MemoryLimit.check`; what the limit was lowered by, or what
            is left to do when time is up, a timer does in the turns that follow. ``is_out_of_memory`` is the verdict as
            of the beginning of the command that runs: what scripts ask.
Measuring   The allocators' answer is exact but not free (allocator.py): asking takes at most a twentieth of the time.
            In between the last answer is carried on: plus the size of the requests, minus what evictions gave back. An
            answer that is too high is corrected by asking before anything is evicted for it.
Hot path    Well below the limit, commands need not ask: ``is_near`` says whether they must. Housekeeping asks ten times
            a second, so what arrives within 100 ms is as far as one can get before the limit is looked at.
Not counted Buffers of replicas beyond the backlog, and of the AOF: evicting for them would only make them longer.
Spec        evict.c (performEvictions, getMaxmemoryState, evictionTimeLimitUs).      Units  bytes, µs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from cluster import clock, errors
from cluster.commands.registry import Command, Flag
from cluster.errors import CommandError
from cluster.keyspace.access import FrequencyRules, Learner, Usage, take_over
from cluster.keyspace.database import Database
from cluster.keyspace.eviction import Evictor, Policy
from cluster.keyspace.reclaim import RECLAIMER
from cluster.keyspace.values import effort, memory_bytes
from cluster.slots.hashing import key_slot

if TYPE_CHECKING:
    from cluster.node.client import Client
    from cluster.node.server import Server

_MEASURE_SHARE: Final = 20
"""Asking takes at most one part in so many of the time."""
_CLOSE_BYTES: Final = 64 << 10
_CLOSE_SHARE: Final = 6
"""That many while the estimate is so close to the limit."""
_NEAR_BYTES: Final = 16 << 20
_NEAR_SHARE: Final = 8
"""The hot path asks nobody while more than this is free: 16 MB, and an eighth of the limit."""
_ARGUMENT_BYTES: Final = 64
"""What an argument may come to cost beside its own length."""
_ENTRY_BYTES: Final = 48
"""A key's place in the table of its slot."""
_LOOK_AFTER_KEYS: Final = 16
_RECLAIM_US: Final = 1000
_LEARN_US: Final = 2000
_NEVER_REFUSED: Final = frozenset({b"exec", b"discard", b"quit", b"reset"})
_GROWS_UNSEEN: Final = frozenset(
    b"bitfield bitop copy eval evalsha exec fcall georadius georadiusbymember geosearchstore pfmerge restore setbit "
    b"setrange sdiffstore sinterstore sort sunionstore zdiffstore zinterstore zrangestore zunionstore".split()
)
"""What these add to the data is not to be seen from their arguments."""
_TIMER_MS: Final = 1


class MemoryLimit:
    """The limit of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._keyspace = server.keyspace
        self.is_out_of_memory = False
        """Nothing more could be evicted when the command that runs began."""
        self.is_near = False
        """Commands that write have to ask."""
        self.exceeded_since_us = 0
        """Monotonic; 0: the limit holds."""
        self.exceeded_us = 0
        """For how long it did not, before (INFO total_eviction_exceeded_time)."""
        self._estimate = 0
        self._measured_us = 0
        self._measured_dirty = -1
        self._timer_runs = False
        self._evictor = Evictor(self._keyspace)
        self._keyspace.frequency = FrequencyRules(server.rng)
        self._learner = Learner(self._keyspace)
        self.policy = Policy.NOEVICTION
        self.settings_changed()

    # Settings -----------------------------------------------------------------------------------------------

    def settings_changed(self) -> None:
        """maxmemory, its policy or the LFU's parameters: take them over, and begin to evict if need be."""
        settings = self._server.settings
        rules = self._keyspace.frequency
        rules.log_factor, rules.decay_minutes = settings.lfu_log_factor, settings.lfu_decay_time
        self._keyspace.access_ms = clock.unix_ms()
        rules.set_time(self._keyspace.access_ms)
        policy = Policy(settings.maxmemory_policy)
        if policy is not self.policy:
            self.policy = policy
            self._evictor.forget()
            self._learner.switch(policy.usage)
        self._measured_us = 0
        self._note_distance()

    def limit_changed(self) -> None:
        """CONFIG SET maxmemory."""
        limit = self._server.settings.maxmemory
        self.settings_changed()
        if limit:
            used = self._measure()
            if limit < used:
                self._server.log.warning(
                    f"WARNING: the new maxmemory value set via CONFIG SET ({limit}) is smaller than the current memory "
                    f"usage ({used}). This will result in key eviction and/or the inability to accept new write "
                    "commands depending on the maxmemory-policy."
                )
            self._start_timer()

    def _note_distance(self) -> None:
        limit = self._server.settings.maxmemory
        self.is_near = bool(limit) and limit - self._measure() < max(_NEAR_BYTES, limit // _NEAR_SHARE)

    def usage_taker(self) -> Callable[[Database, bytes, int | None, int | None], None] | None:
        """What is to be told of the keys that a file brings; None under a policy that does not care."""
        return None if self.policy.usage is Usage.SLOTS else take_over

    def data_replaced(self) -> None:
        """Another keyspace's content stands in ours."""
        self._learner.begin_again()

    # Measuring ----------------------------------------------------------------------------------------------

    def not_counted_bytes(self) -> int:
        """Buffers that eviction must not be done for."""
        server = self._server
        return max(server.feed.buffer_bytes - server.settings.repl_backlog_size, 0) + server.aof.buffer_bytes

    def _measure(self) -> int:
        """Ask the allocators."""
        if RECLAIMER:
            RECLAIMER.drain(_RECLAIM_US)
        self._estimate = max(self._server.memory.used_bytes() - self.not_counted_bytes(), 0)
        self._measured_us = clock.monotonic_us()
        self._measured_dirty = self._keyspace.dirty
        return self._estimate

    def _used(self) -> int:
        """What is used, by the last answer if that was not long ago."""
        age_us = clock.monotonic_us() - self._measured_us
        cost_us = self._server.memory.allocator.cost_us
        is_close = self._estimate + _CLOSE_BYTES > self._server.settings.maxmemory
        # An estimate that may soon cost somebody a key is looked at sooner.
        if age_us > cost_us * (_CLOSE_SHARE if is_close else _MEASURE_SHARE):
            return self._measure()
        return self._estimate

    # What the gates ask -------------------------------------------------------------------------------------

    def check(self, client: Client, row: Command, queued_flags: Flag) -> None:
        """Make room, and raise CommandError (OOM) for what may not go on without."""
        self._estimate += sum(map(len, client.request or ())) + _ARGUMENT_BYTES
        self.is_out_of_memory = not self._evict()
        if row.name in _GROWS_UNSEEN:
            self._measured_us = 0  # The next one looks.
        if not self.is_out_of_memory:
            return
        refused = bool((row.flags | queued_flags) & Flag.DENYOOM)
        if client.transaction is not None and row.name not in _NEVER_REFUSED:
            refused = True  # Queueing may need any amount.
        if refused and self._keyspace.dirty != self._measured_dirty:
            # Something was changed, deleted perhaps, since the allocators were asked: nobody is refused on hearsay.
            self._measure()
            self.is_out_of_memory = not self._evict()
        if refused and self.is_out_of_memory:
            row.rejected_calls += 1
            raise CommandError(errors.OOM)

    def tick(self) -> None:
        """Ten times a second: the time, tables of a new policy, and the distance to the limit."""
        keyspace = self._keyspace
        keyspace.access_ms = clock.unix_ms()
        keyspace.frequency.set_time(keyspace.access_ms)
        if self._learner:
            self._learner.advance(_LEARN_US)
        if self._server.settings.maxmemory:
            was_near = self.is_near
            self._note_distance()
            if self.is_near is not was_near:
                self._server.refresh_plain()
            # Replies and requests under way grow without any command that asks.
            if self.is_near and self._used() > self._server.settings.maxmemory:
                self._start_timer()

    # Evicting -----------------------------------------------------------------------------------------------

    def _may_evict(self) -> bool:
        server = self._server
        if server.loading or server.pauses.holds_writes():
            return False
        return not (server.replication_state.is_replica and server.settings.replica_ignore_maxmemory)

    def _evict(self) -> bool:
        """Evict until the limit holds or the time is up; False when it does not and no key may go."""
        server = self._server
        limit = server.settings.maxmemory
        if not limit or not self._may_evict():
            return True
        too_much = self._used() - limit
        if too_much <= 0:
            self._note_exceeded(False)
            return True
        if self.policy is Policy.NOEVICTION:
            self._note_exceeded(True)
            return False
        began_us = clock.monotonic_us()
        deadline_us = began_us + time_limit_us(server.settings.maxmemory_eviction_tenacity)
        has_room = self._evict_until(too_much, deadline_us)
        if server.keyspace.effects:
            server.dispatcher.end_unit(is_atomic=False)
        server.latency.note(b"eviction-cycle", clock.monotonic_us() - began_us)
        self._note_exceeded(self._timer_runs or not has_room)
        return has_room

    def _evict_until(self, too_much: int, deadline_us: int) -> bool:
        """Let keys go, worth ``too_much``; False when there was none to go and nothing is about to be freed."""
        server = self._server
        samples = server.settings.maxmemory_samples
        freed = 0
        evicted = 0
        while freed < too_much:
            if self._learner:
                self._learner.advance(_LEARN_US)
            victim = self._evictor.choose(self.policy, samples)
            if victim is None:
                while RECLAIMER and clock.monotonic_us() < deadline_us:
                    RECLAIMER.drain(_RECLAIM_US)
                return self._measure() <= server.settings.maxmemory
            began_us = clock.monotonic_us()
            freed += self._evict_key(*victim)
            now_us = clock.monotonic_us()
            server.latency.note(b"eviction-del", now_us - began_us)
            evicted += 1
            if evicted % _LOOK_AFTER_KEYS == 0 and now_us > deadline_us:
                self._start_timer()
                break
        self._estimate -= freed
        return True

    def _evict_key(self, database: Database, key: bytes) -> int:
        """Delete one key, tell everybody; returns about how many bytes that frees."""
        keyspace, slot = self._keyspace, key_slot(key)
        lazily = self._server.settings.lazyfree_lazy_eviction
        value = database.slots[slot][key]
        size = sys.getsizeof(key) + memory_bytes(value, 5) + _ENTRY_BYTES
        if lazily and effort(value) > 1:
            database.unlink(key, slot)
        else:
            database.remove(key, slot)
        keyspace.evicted_keys += 1
        keyspace.is_housekeeping = True
        database.touched(key)
        keyspace.is_housekeeping = False
        database.notify("e", b"evicted", key)
        keyspace.propagate(database.index, [b"UNLINK" if lazily else b"DEL", key])
        return size

    def _note_exceeded(self, exceeded: bool) -> None:
        now_us = clock.monotonic_us()
        if exceeded:
            self.exceeded_since_us = self.exceeded_since_us or now_us
        elif self.exceeded_since_us:
            self.exceeded_us += now_us - self.exceeded_since_us
            self.exceeded_since_us = 0

    # The timer ----------------------------------------------------------------------------------------------

    def _start_timer(self) -> None:
        """Go on in the next turns of the loop until the limit holds or nothing can go."""
        if not self._timer_runs:
            self._timer_runs = True
            self._server.timers.call_at(clock.monotonic_ms() + _TIMER_MS, self._on_timer)

    def _on_timer(self) -> None:
        self._timer_runs = False
        self._keyspace.now_ms = clock.unix_ms()
        self._evict()  # Starts the timer anew if there is more to do.
        self._server.reactor.request_flush()

    def reset_statistics(self) -> None:
        """CONFIG RESETSTAT."""
        self.exceeded_us = 0
        self.exceeded_since_us = 0

    # INFO ---------------------------------------------------------------------------------------------------

    def current_exceeded_us(self) -> int:
        """For how long the limit has not held."""
        return clock.monotonic_us() - self.exceeded_since_us if self.exceeded_since_us else 0


def time_limit_us(tenacity: int) -> int:
    """maxmemory-eviction-tenacity (0 to 100) as the time that one round may take."""
    if tenacity <= 10:
        return 50 * tenacity
    if tenacity < 100:
        return int(500.0 * 1.15 ** (tenacity - 10.0))
    return sys.maxsize >> 1
